"""A dependency without a wheel: which stage could make it an output."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.config import writing
from nox_buildstages.errors import NoWheelError, ResolutionError, UnorderedOutputError
from nox_buildstages.lock.resolve.source_choice import is_direct
from nox_buildstages.lock.resolve.uv_compile import Question, StandIn
from nox_buildstages.model import FINAL, PROJECT, Metadata, Output
from nox_buildstages.text import free_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.errors import LockError
    from nox_buildstages.lock.resolve.environment import EnvironmentResolver
    from nox_buildstages.model import Stage


def placed(
    error: NoWheelError, question: Question, drafter: EnvironmentResolver
) -> LockError:
    """Return the same failure with the stage that could build what has no wheel.

    Args:
        error: Of the question.
        question: What was to be resolved.
        drafter: Knows the stages, and can ask again.
    """
    project = canonicalize_name(error.project)
    provider = drafter.graph.providers.get(project)
    if provider is not None:
        return UnorderedOutputError(
            stage=error.name, output=project, provider=provider.name
        )
    output = _as_output(project, question, drafter)
    builder = _builder(error.name, drafter.graph)
    if builder is None:
        lines = _stage_of_its_own(error.name, project, output, drafter.graph)
    else:
        root = drafter.project.root
        own = [writing.as_declared(it.requirement, root) for it in builder.outputs]
        lines = _output_of(builder, [*own, output])
    return replace(error, hint=writing.hint_text(lines))


def _builder(name: str, graph: Graph) -> Stage | None:
    """Return the last stage that comes before an environment; None where none does."""
    if name == FINAL:
        return next(it for it in reversed(graph.order) if it.name != PROJECT)
    ancestors = graph.ancestors(name)
    return graph.stage(ancestors[-1]) if ancestors else None


def _output_of(builder: Stage, outputs: list[str]) -> Iterator[str]:
    yield f"add it to the outputs of stage {builder.name}, in pyproject.toml:"
    yield from writing.indent(writing.assignment("outputs", outputs))


def _stage_of_its_own(
    name: str, project: NormalizedName, output: str, graph: Graph
) -> Iterator[str]:
    yield f"make it an output of a stage before stage {name}, in pyproject.toml:"
    taken = (*graph.stages, PROJECT, FINAL)
    table = writing.stage_table(free_name(project, taken), [output])
    yield from writing.indent(table)
    if project not in _named(graph.stage(name)):
        yield (
            f'and add "{project}" to the dependencies of stage {name},'
            " so that it comes first"
        )


def _named(stage: Stage) -> set[NormalizedName]:
    return {canonicalize_name(it.name) for it in stage.dependencies}


def _as_output(
    project: NormalizedName, question: Question, drafter: EnvironmentResolver
) -> str:
    """Return what to write among outputs: with the version, where it is known."""
    wanted = [
        requirement
        for requirement in map(Requirement, question.requirements)
        if canonicalize_name(requirement.name) == project
    ]
    for requirement in wanted or [Requirement(project)]:
        output = Output(requirement=requirement, location="")
        if is_direct(drafter.project, output):
            requirement.extras = set()
            requirement.marker = None
            return writing.as_declared(requirement, drafter.project.root)
    version = _suitable(project, question, drafter)
    return str(project) if version is None else f"{project}=={version.public}"


def _suitable(
    project: NormalizedName, question: Question, drafter: EnvironmentResolver
) -> Version | None:
    """Return a version with an sdist that suits all who want it; None where unsure."""
    limits = [
        str(requirement)
        for requirement in map(Requirement, question.requirements)
        if canonicalize_name(requirement.name) == project
    ]
    source = Question(
        name=question.name,
        requirements=tuple(limits) or (project,),
        constraints=question.constraints,
        sources=(project,),
    )
    try:
        (package,) = drafter.resolver.resolve(source).packages
    except (ResolutionError, ValueError):
        return None
    version = package.version
    if version is None:
        return None
    metadata = Metadata(version=version, learned="static")
    stand_ins = (*question.stand_ins, StandIn(name=project, metadata=metadata))
    try:
        drafter.resolver.resolve(replace(question, stand_ins=stand_ins))
    except NoWheelError as error:
        return None if error.project == project else version
    except ResolutionError:
        return None
    return version
