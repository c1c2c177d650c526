"""The project itself as a last stage, for ``final.project``.

The project's build requirements are locked like the build requirements of outputs. No
other stage sees the project, and no wheelhouse contains a wheel of the project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages.lock.resolve.known_metadata import StaticMetadata
from nox_buildstages.lock.resolve.source_choice import SourceChoice
from nox_buildstages.model import PROJECT, DirectorySource, Metadata, Output, Stage
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.model import Project

OWN_SOURCE = DirectorySource(path=".")
"""The source of the project itself: its own folder, not a copy."""

OWN_METADATA = Metadata(version=Version("0"), learned="static")
"""The locked metadata of the project itself. Its version changes with each commit."""


def own_stage(name: NormalizedName) -> Stage:
    """Return the stage of the project itself, which no table declares."""
    location = "tool.nox-buildstages.final.project"
    output = Output(requirement=Requirement(name), location=location)
    return Stage(name=PROJECT, outputs=(output,), location=location)


def with_own_stage(project: Project, graph: Graph) -> Graph:
    """Return the stages in order, with the project's own stage last, if any."""
    name = project.final.project
    if name is None:
        return graph
    stage = own_stage(name)
    return replace(
        graph,
        order=(*graph.order, stage),
        stages={**graph.stages, PROJECT: stage},
        requires={**graph.requires, PROJECT: tuple(it.name for it in graph.order)},
    )


def own_static_metadata(project: Project) -> StaticMetadata:
    """Return the static metadata of the project itself.

    Raises:
        SourceError: The project's pyproject.toml can't be read.
    """
    return StaticMetadata(
        choice=SourceChoice(version=None, source=OWN_SOURCE),
        requires=source_tree.read_build_system(project.root).requires,
        metadata=OWN_METADATA,
    )
