"""Explain a dependency without a wheel: which stage could build the dependency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.config import writing
from nox_buildstages.errors import NoWheelError, ResolutionError
from nox_buildstages.lock.resolve.source_choice import is_direct
from nox_buildstages.lock.resolve.uv_compile import Question, StandIn
from nox_buildstages.model import FINAL, PROJECT, Metadata, Output
from nox_buildstages.text import free_name
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from nox_buildstages.errors import LockError
    from nox_buildstages.lock.resolve.environment import EnvironmentResolver


def suggest_output(
    error: NoWheelError, question: Question, resolver: EnvironmentResolver
) -> LockError:
    """Return the error with a hint: the stage to build the dependency."""
    project, graph = canonicalize_name(error.project), resolver.graph
    if project in graph.providers:
        return resolver.order_error(error.name, project)
    output = _output_for_table(project, question, resolver)
    if error.name == FINAL:
        stages = [it for it in graph.order if it.name != PROJECT]
        if not stages:
            table = writing.stage_table(free_name(project, (PROJECT, FINAL)), [output])
            init = "`nox -s build-stages-init` proposes the stages that are missing"
            lines = [f"{init}, in pyproject.toml:", *writing.indent(table)]
            return replace(error, hint="\n".join(lines))
        builder = stages[-1]
    else:
        ancestors = graph.ancestors(error.name)
        if not ancestors:
            table = writing.stage_table(
                free_name(project, (*graph.stages, PROJECT, FINAL)), [output]
            )
            first = f"make it an output of a stage before stage {error.name}"
            lines = [f"{first}, in pyproject.toml:", *writing.indent(table)]
            dependencies = graph.stages[error.name].dependencies
            if project not in {canonicalize_name(it.name) for it in dependencies}:
                lines.append(
                    f'and add "{project}" to the dependencies of stage {error.name},'
                    " so that it comes first"
                )
            return replace(error, hint="\n".join(lines))
        builder = graph.stages[ancestors[-1]]
    root = resolver.project.root
    own = [writing.format_requirement(it.requirement, root) for it in builder.outputs]
    lines = [
        f"add it to the outputs of stage {builder.name}, in pyproject.toml:",
        *writing.indent(writing.assignment("outputs", [*own, output])),
    ]
    return replace(error, hint="\n".join(lines))


def _output_for_table(
    project: NormalizedName, question: Question, resolver: EnvironmentResolver
) -> str:
    """Return the dependency as an output for the table, with a version if known."""
    requirements = [
        requirement
        for requirement in map(Requirement, question.requirements)
        if canonicalize_name(requirement.name) == project
    ]
    for requirement in requirements or [Requirement(project)]:
        output = Output(requirement=requirement, location="")
        if is_direct(resolver.project, output):
            requirement.extras = set()
            requirement.marker = None
            return writing.format_requirement(requirement, resolver.project.root)

    # Find a version with an sdist with which uv can resolve the environment.
    source = Question(
        name=question.name,
        requirements=tuple(map(str, requirements)) or (project,),
        constraints=question.constraints,
        sources=(project,),
    )
    try:
        (package,) = resolver.resolver.resolve(source).packages
    except (ResolutionError, ValueError):
        return project
    version = package.version
    if version is None:
        return project
    metadata = Metadata(version=version, learned="static")
    stand_ins = (*question.stand_ins, StandIn(name=project, metadata=metadata))
    try:
        resolver.resolver.resolve(replace(question, stand_ins=stand_ins))
    except NoWheelError as error:
        if error.project == project:
            return project
    except ResolutionError:
        return project
    return f"{project}=={version.public}"
