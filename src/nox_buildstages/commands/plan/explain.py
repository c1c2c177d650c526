"""Everything about an output: the inputs of the wheel, the dependents, the builds."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.model import FINAL, PROJECT
from nox_buildstages.safe_text import Shown, show
from nox_buildstages.store.key import describe_failed_version
from nox_buildstages.text import align, format_size, format_time
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.plan.reasons import PlannedOutput
    from nox_buildstages.commands.plan.tree import Style
    from nox_buildstages.store.history import History
    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.store import StoredWheel

_SHOWN_BUILDS = 8
"""The number of earlier builds to list."""

_KEY_LENGTH = 8

_ENVIRONMENTS = {FINAL: "the runtime environment", PROJECT: "the project's own build"}
"""The names of environments that aren't those of stages."""


class Explanation(Value):
    """An output of a stage, for a Python."""

    planned: PlannedOutput
    recipe: Recipe | None = None  # without the wheels that are built first
    built_first: tuple[str, ...] = ()  # the outputs without which there is no key
    problem: str = ""  # why there is no recipe
    requires: tuple[str, ...] = ()  # the build requirements (PEP 508)
    passed: tuple[str, ...] = ()  # the names of pass-env, whose values aren't shown
    needed_by: tuple[str, ...] = ()  # in words
    builds: tuple[tuple[float, StoredWheel], ...] = ()
    """Earlier builds with seconds since the epoch, the newest first."""


def explain_output(
    name: NormalizedName,
    contexts: Sequence[BuildContext],
    planned: Mapping[tuple[str, str, str], PlannedOutput],
    history: History,
) -> list[Explanation]:
    """Return the explanation of an output, for each stage and Python that builds it.

    The plan of each output is found by Python, stage with values, and name.
    """
    found: dict[tuple[str, str], Explanation] = {}
    for context in contexts:
        python, label = context.interpreter.version, context.project.stage_label
        cached = {
            output.name
            for stage in context.graph.order
            for output in stage.outputs
            if not planned[python, label(stage.name), output.name].reasons
        }
        for stage in context.graph.order:
            identity = python, label(stage.name)
            if identity in found or all(it.name != name for it in stage.outputs):
                continue
            lock = context.locks.get(stage.name)
            outputs = lock.outputs if lock else ()
            locked = next((it for it in outputs if it.name == name), None)
            recipe, problem = None, "it isn't locked yet"
            built_first: tuple[str, ...] = ()
            if locked is not None:
                built_first = tuple(
                    pin.name
                    for pin in context.pins(stage.name)
                    if isinstance(pin, StagePin) and pin.name not in cached
                )
                try:
                    recipe = context.make_recipe(stage, locked, without=built_first)
                except BuildStagesError as error:  # such as a missing tool
                    problem = error.summary
            found[identity] = Explanation(
                planned=planned[(*identity, name)],
                recipe=recipe,
                built_first=built_first,
                problem=problem,
                requires=locked.build_requires if locked else (),
                passed=stage.pass_env,
                needed_by=tuple(_find_users(name, context)),
                builds=tuple(history.builds_of(name)),
            )
    return [*found.values()]


def _find_users(name: NormalizedName, context: BuildContext) -> Iterator[str]:
    """Yield which environments contain a project, and which outputs require it."""
    for lock in context.locks:
        if any(pin.name == name for pin in context.pins(lock)):
            yield _ENVIRONMENTS.get(lock, f"stage {lock}")
    outputs = [output for lock in context.locks.values() for output in lock.outputs]
    for output in outputs:
        if name in _names(output.metadata.requires_dist):
            yield f"output {output.name}, at run time"


def _names(requirements: Iterable[str]) -> set[NormalizedName]:
    return {canonicalize_name(Requirement(it).name) for it in requirements}


def explain_package(
    name: NormalizedName, contexts: Sequence[BuildContext]
) -> Iterator[str]:
    """Yield the lines about a project that no stage builds.

    Raises:
        UsageError: No environment contains the project.
    """
    versions: dict[str, dict[str, None]] = {}
    known = {output.name for it in contexts for output in it.project.outputs}
    users: dict[str, None] = {}
    for context in contexts:
        for lock in context.locks:
            for pin in context.pins(lock):
                known.add(pin.name)
                if pin.name == name:
                    versions.setdefault(str(pin.version), {})[lock] = None
        for output in (it for lock in context.locks.values() for it in lock.outputs):
            if name in _names((*output.build_requires, *output.metadata.requires_dist)):
                users[output.name] = None
    if not versions:
        raise UsageError(
            problem=f"--explain {name}: no stage builds it, and no environment"
            " contains it",
            hint=did_you_mean(name, known).removeprefix("; ")
            or "choose an output, or a package of a lock file",
        )
    yield f"{name}: no stage builds it; its wheel comes from an index"
    for version, locks in versions.items():
        names = (_ENVIRONMENTS.get(it, f"stage {it}") for it in locks)
        yield f"  {version} in {', '.join(names)}"
    if users:
        yield f"  required by {', '.join(users)}"


def render_explanation(explanation: Explanation, style: Style) -> Iterator[Shown]:
    """Yield the lines of an explanation."""
    planned = explanation.planned
    title = f"{planned.name} {planned.version}".rstrip()
    where = f"stage {planned.title}, Python {planned.python}"
    yield show(style.paint(title, "bold"), "  ", where)
    rows = [*_facts(explanation)]
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        for number, line in enumerate(style.wrap(text, width + 4)):
            head = "" if number else label
            yield show("  ", style.paint(head.ljust(width), "dim"), "  ", line)
    yield from _render_builds(explanation, style)


def _facts(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Yield the label and the text of each fact."""
    planned, recipe = explanation.planned, explanation.recipe
    place = f" ({planned.place})" if planned.place else ""
    yield "state", f"{planned.state}{place}"
    for number, reason in enumerate(planned.reasons):
        yield ("" if number else "why"), reason
    if planned.source:
        yield "source", planned.source
    needed_by = ", ".join(explanation.needed_by) or "nothing"
    if recipe is None:
        yield "key", f"unknown: {explanation.problem}"
        yield "needed by", needed_by
        return

    # Everything that goes into the key, and the key.
    if recipe.source not in planned.source:
        yield "identity", recipe.source
    yield "patches", ", ".join(map(str, recipe.patches)) or "none"
    yield "build requires", ", ".join(explanation.requires) or "nothing"
    environment = [
        f"{name} {it.version}{f' (stage {it.stage})' if it.stage else ''}"
        for name, it in recipe.environment.items()
    ]
    environment += (f"{name} (built first)" for name in explanation.built_first)
    yield "environment", ", ".join(environment) or "empty"
    variables = [f"{it}={value!r}" for it, value in recipe.env.items()]
    outer = (it for it in explanation.passed if it not in recipe.env)
    variables += (
        f"{it} (from outside{'' if it in recipe.passed else ', not set'})"
        for it in outer
    )
    yield "variables", ", ".join(variables) or "none"
    settings = (f"{name}={value!r}" for name, value in recipe.config_settings.items())
    yield "config settings", ", ".join(settings) or "none"
    shown = (it for it in recipe.interpreter if it != "compilation")
    yield "interpreter", ", ".join(recipe.interpreter[it] for it in shown)
    for program, version in {**recipe.machine, **recipe.tools}.items():
        line = version.partition("\n")[0]
        yield f"tool {program}", describe_failed_version(line) or line
    yield "network", "on" if recipe.network else "off"
    if recipe.open_files:
        yield "sandbox", "off"
    if recipe.code:
        yield "code before the build", recipe.code
    if recipe.own_cuda:
        yield "CUDA", "of the environment"
    first = ", ".join(explanation.built_first)
    yield "key", f"not known before {first} is built" if first else recipe.key
    yield "needed by", needed_by


def _render_builds(explanation: Explanation, style: Style) -> Iterator[Shown]:
    """Yield the lines about earlier builds."""
    builds = explanation.builds[:_SHOWN_BUILDS]
    if not builds:
        yield show("  no earlier build is in the store")
        return
    key = explanation.planned.key
    rows = [("built", "version", "time", "size", "peak", "jobs", "key")]
    for time, wheel in builds:
        memory = wheel.memory
        rows.append(
            (
                f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M}",
                str(wheel.version),
                format_time(wheel.seconds),
                format_size(wheel.size),
                format_size(memory.build) if memory else "?",
                str(memory.jobs) if memory else "?",
                f"{wheel.key[:_KEY_LENGTH]}{' *' if wheel.key == key else ''}",
            )
        )
    head, *lines = align(rows)
    yield show()
    yield style.paint(f"  {head}", "dim")
    yield from (show("  ", line) for line in lines)
    left_out = len(explanation.builds) - len(builds)
    if left_out:
        yield show(f"  and {left_out} earlier")
