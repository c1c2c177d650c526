"""Nox killed at any moment: nothing is damaged, and no work is lost that was done."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.wheels import wheel as wheels
from support.native import Native
from support.packages import make_sdist
from support.pair import declare

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

OBJECTS = 16
BOTH = {"kernels-1.0-py3-none-linux_x86_64.whl", "models-1.0-py3-none-any.whl"}


def declare_two(project: Project, native: Native) -> None:
    """Write two stages; the second has the first one's wheel in its environment."""
    stages = [
        {"name": "first", "outputs": [native.write(project)], "env": native.env},
        {"name": "second", "dependencies": ["kernels"], "outputs": ["models"]},
    ]
    declare(project, {"final": {"requirements": ["models"]}, "stage": stages})


def sound(*folders: Path) -> set[str]:
    """Return the names of all wheels there, after seeing that each is sound."""
    found = [path for folder in folders for path in folder.rglob("*.whl")]
    for path in found:
        wheels.verify_record(path)
    return {path.name for path in found}


def kill_after(project: Project, seconds: float) -> None:
    """Start nox, and kill it and its group at that moment."""
    with project.start("-s", "build-stages") as nox:
        time.sleep(seconds)
        os.killpg(nox.pid, signal.SIGKILL)
        nox.wait()


def forget_builds(project: Project) -> None:
    """Leave the locks and the environments, and no wheel."""
    for folder in (project.store / "wheels", project.store / "builds"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(project.wheelhouse)


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_ends_well(
    project: Project, index: Index, tmp_path: Path, moments: int
) -> None:
    """Never is there a damaged wheel, and what was compiled isn't compiled again."""
    native = Native(name="kernels", files=OBJECTS, count=tmp_path / "counts/count")
    make_sdist(index.folder, "models", "1.0", requires=["kernels"])
    declare_two(project, native)
    project.nox("-s", "build-stages")
    assert native.compiled() == OBJECTS
    forget_builds(project)
    begun = time.monotonic()
    project.nox("-s", "build-stages")
    whole = time.monotonic() - begun
    assert native.compiled() == OBJECTS
    spared = 0
    for moment in random.sample(range(1000), moments):
        forget_builds(project)
        kill_after(project, whole * moment / 1000)
        first = native.compiled()
        assert sound(project.store, project.wheelhouse) <= BOTH
        project.nox("-s", "build-stages")
        rest = native.compiled()
        assert sound(project.store) == sound(project.wheelhouse) == BOTH
        assert not [*project.store.glob("builds/*")]
        assert first + rest >= OBJECTS
        assert rest <= OBJECTS
        spared += OBJECTS - rest
        print(f"killed after {moment / 10} %: {first} objects, then {rest}")  # noqa: T201 - for a failure
    assert spared
