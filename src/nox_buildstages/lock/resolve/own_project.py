"""The project itself, where it is installed too: what building it takes is locked.

That is asked for and resolved as for the outputs of a stage, one that comes after all
others. No other stage sees it, and no wheel of it is ever in a wheelhouse.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages.lock.resolve.metadata import StaticMetadata
from nox_buildstages.lock.resolve.source_choice import Chosen
from nox_buildstages.model import PROJECT, DirectorySource, Metadata, Output, Stage
from nox_buildstages.sources import metadata as source_tree

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from nox_buildstages.config.graph import Graph
    from nox_buildstages.model import Project

HERE = DirectorySource(path=".")
"""What the project is built from: its own folder, not a copy of it."""

ANY = Metadata(version=Version("0"), learned="static")
"""What is locked of it. Its version changes from commit to commit."""


def stage_of(name: NormalizedName) -> Stage:
    """Return the stage of a project itself, which no table declares."""
    location = "tool.nox-buildstages.final.project"
    own = Output(requirement=Requirement(name), location=location)
    return Stage(name=PROJECT, outputs=(own,), location=location)


def joined(project: Project, graph: Graph) -> Graph:
    """Return the stages in order, that of the project itself last where it has one."""
    name = project.final.project
    if name is None:
        return graph
    own = stage_of(name)
    return replace(
        graph,
        order=(*graph.order, own),
        stages={**graph.stages, PROJECT: own},
        needed={**graph.needed, PROJECT: tuple(it.name for it in graph.order)},
    )


def promised(project: Project) -> StaticMetadata:
    """Return what the project says of its own build.

    Raises:
        SourceError: Its pyproject.toml can't be read.
    """
    system = source_tree.read_build_system(project.root)
    return StaticMetadata(
        chosen=Chosen(version=None, source=HERE),
        requires=system.requires,
        metadata=ANY,
    )
