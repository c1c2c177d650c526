"""``--check STATEMENT``: rebuild what statements are about, and compare the wheels."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from nox_buildstages.builder.build import Build, call_function
from nox_buildstages.builder.reproducible import build_again, list_differences
from nox_buildstages.builder.stage import BuildOrder, available_results, provide_stage
from nox_buildstages.commands.release.statements import read_statements
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.lock.files.lockfile import StagePin
from nox_buildstages.value import Value, replace
from nox_buildstages.wheelhouse.directory import has_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.commands.release.statements import Statement
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.model import Stage
    from nox_buildstages.workspace.workspace import Workspace


class Check(Value):
    """A statement, and what it is about in this project."""

    statement: Statement
    stage: Stage
    output: NormalizedName

    def find_changes(self, context: BuildContext) -> tuple[str, ...]:
        """Describe the inputs that differ, as far as they are known before a build."""
        earlier = [pin.name for pin in _stage_pins(context, self.stage.name)]
        outputs = context.locks[self.stage.name].outputs
        output = next(it for it in outputs if it.name == self.output)
        recipe = context.make_recipe(self.stage, output, without=earlier)
        return self.statement.find_differences(recipe, without=earlier)


def check_stage(
    workspace: Workspace,
    stage: Stage,
    function: Callable[[Build], object] | None = None,
) -> str | None:
    """Rebuild the outputs of a stage that statements are about, and compare the wheels.

    Neither lock files nor the wheelhouse change, and the store only gets wheels needed
    by other rebuilds. Return the reason if the stage has nothing to do.

    Raises:
        UsageError: A statement, an output or a variable is missing.
        BuildStagesError: The inputs differ, or the wheels.
        BuildError: A build failed.
    """
    environment, path = workspace.environment, Path(workspace.options.statement)
    # Lock files are inputs: new ones would hide what has changed.
    workspace = replace(workspace, options=replace(workspace.options, locked=True))
    context = workspace.context(workspace.ensure_locks()[0])
    context = replace(context, logs=context.tools.store.folder / "logs")
    checks = [*_find_checks(context, path)]
    _require_variables(context, path, checks)
    _require_equal_inputs(
        {it.statement.wheel: it.find_changes(context) for it in checks}
    )
    own = {it.output: it.statement for it in checks if it.stage.name == stage.name}
    names = {it.stage.name for it in checks}
    names |= {it for name in names for it in context.graph.ancestors(name)}
    pins = (pin for name in names for pin in _stage_pins(context, name))
    needed = {pin.name for pin in pins if pin.stage == stage.name}
    if not (own or needed):
        return f"{path.name} is about none of its outputs"
    with context.tools.run.step("stage", context.place(stage.name)):
        order = BuildOrder(only=needed)
        if function is not None:
            build = Build(
                context=context, stage=stage, environment=environment, order=order
            )
            call_function(function, build)
        elif needed:
            provide_stage(context, stage, environment, order)
        _require_equal_inputs(
            {
                own[name].wheel: own[name].find_differences(
                    context.recipe(stage.name, name)
                )
                for name in own
            }
        )
        others = []
        for name, second in _rebuild(context, stage, environment, own):
            wheel, sha256 = own[name].built
            if second is None:
                context.tools.run.report(f"equal: {wheel} (sha256:{sha256})")
            else:
                others.append((own[name], second))
        if others:
            raise _difference(context, path, others)
    changed = [it.wheel for it in own.values() if it.is_changed]
    if changed:
        raise BuildStagesError(
            subject=path.name,
            problem="equal as built, but what was changed afterwards isn't repeated:"
            f" {', '.join(changed)}",
            hint="make the release again in the same way, and compare the sums",
        )
    return None


def _rebuild(
    context: BuildContext,
    stage: Stage,
    environment: Environment,
    own: Mapping[NormalizedName, Statement],
) -> Iterator[tuple[NormalizedName, Path | None]]:
    """Build outputs, unless this run has; yield each, with its wheel if it differs."""
    wanted = {name: own[name].built for name in own}
    for result in available_results(context, stage):
        name, wheel = result.output.name, result.wheel
        if result.is_built and name in wanted:
            is_equal = wanted.pop(name) == (wheel.path.name, wheel.sha256)
            yield name, None if is_equal else wheel.path
    if wanted:
        yield from build_again(context, stage, environment, wanted)


def _find_checks(context: BuildContext, path: Path) -> Iterator[Check]:
    """Yield each statement in a file, with the stage of its output."""
    for statement in read_statements(path):
        output = canonicalize_name(statement.recipe.name)
        stage = context.graph.provider(output)
        if stage is None:
            near = did_you_mean(output, context.graph.providers)
            raise UsageError(
                subject=str(path),
                problem=f"no stage has its output {output!r}{near}",
                hint="run it in the project that released the wheel",
            )
        yield Check(statement=statement, stage=stage, output=output)


def _stage_pins(context: BuildContext, name: str) -> Iterator[StagePin]:
    """Yield the wheels of earlier stages in the environment of a stage."""
    yield from (it for it in context.pins(name) if isinstance(it, StagePin))


def _require_variables(
    context: BuildContext, path: Path, checks: Sequence[Check]
) -> None:
    """Raise an error if variables that were passed aren't set."""
    outer = context.tools.run.outer
    missing = {
        name: None
        for check in checks
        for name in check.statement.recipe.passed
        if name in check.stage.pass_env and name not in outer
    }
    if missing:
        commands = "".join(f"\n  export {name}=…" for name in missing)
        raise UsageError(
            subject=str(path),
            problem="variables of pass-env that the build had aren't set:"
            f" {', '.join(missing)}",
            hint="set them to the values of that build, which no statement has:"
            f"{commands}",
        )


def _require_equal_inputs(changes: Mapping[str, Sequence[str]]) -> None:
    """Raise an error if wheels, by file name, have other inputs here."""
    names = [name for name, found in changes.items() if found]
    if names:
        details = []
        for name in names:
            details += [f"{name}:", *(f"  {it}" for it in changes[name])]
        raise BuildStagesError(
            subject=", ".join(names) if len(names) == 1 else f"{len(names)} wheels",
            problem="not equal: the inputs differ, so nothing is rebuilt",
            details=details[1:] if len(names) == 1 else details,
            hint="check out what was released, on such a machine, and run the same"
            " command again",
        )


def _difference(
    context: BuildContext, path: Path, found: Sequence[tuple[Statement, Path]]
) -> BuildStagesError:
    """Return the error about rebuilt wheels that differ, each after its statement."""
    details, hint = [], f"put the released wheels beside {path.name} to compare them"
    for statement, second in found:
        name, sha256 = statement.built
        first: Path | None = path.parent / name
        if not has_sha256(path.parent / name, sha256):
            stored = context.tools.store.find(statement.key, sha256)
            first = None
            if stored is not None and stored.sha256 == sha256:  # not another build
                first = stored.path
        details.append(f"{statement.wheel}:")
        if first is None:
            details += ["  the released wheel isn't here", f"  rebuilt: {second}"]
        else:
            details += list_differences(first, second)
            hint = f"compare the files:\n  diffoscope {quote(str(first))}"
            hint += f" {quote(str(second))}"
    return BuildStagesError(
        subject=path.name,
        problem="not equal: " + ", ".join(it.wheel for it, _ in found),
        details=details,
        hint=hint,
    )
