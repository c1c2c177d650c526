"""A project whose wheels exist needs no network."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from nox_buildstages.value import replace
from support.namespaces import has_namespaces, offline
from support.pair import Pair, built, planned, world

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project


def run_all(project: Project, **env: str) -> None:
    """Run each session that builds nothing; environments are made again."""
    done = project.nox("-s", "build-stages", env=env)
    assert built(done) == []
    plan = project.nox("-s", "build-stages-plan", env=env)
    assert planned(plan) == {"kernels": ("cached", ""), "models": ("cached", "")}
    shutil.rmtree(project.folder / ".nox")
    assert built(project.nox("-s", "build-stages", env=env)) == []


def test_a_finished_project_needs_no_network(tmp_path: Path, caches: Path) -> None:
    """Neither with UV_OFFLINE, nor after the network is gone.

    The environments come from uv's cache, and the wheels from the store.
    """
    with world(tmp_path, caches) as (index, project):
        Pair().write(project)
        project.nox("-s", "build-stages-plan")
        assert index.requests == []
        project.nox("-s", "build-stages")
        index.requests.clear()
        run_all(project, UV_OFFLINE="1")
        assert index.requests == []
    run_all(replace(project, prefix=tuple(offline()) if has_namespaces else ()))
