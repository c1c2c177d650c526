"""Files that a newer version wrote are an error, and nothing is written over them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.commands.lock import run_lock
from nox_buildstages.commands.stage import run_stage
from nox_buildstages.errors import BuildStagesError
from support.pair import KERNELS, Pair, publish
from support.sessions import Sessions

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

ROOTS = {
    "build-stages/pylock.first.toml": "folder",
    "wheelhouse/build-stages.json": "folder",
    "wheels/*/record.json": "store",
}


@pytest.fixture
def built(project: Project, index: Index) -> Project:
    """A project whose stage ``first`` is built."""
    publish(index)
    Pair().write(project)
    workspace = Sessions(project=project).open("build-stage-first")
    run_stage(workspace, workspace.cell.graph.stages["first"])
    return project


def sign_locks(project: Project) -> None:
    """Give the lock files the series of their texts, as the newer version did."""
    paths = [
        project.folder / f"build-stages/pylock.{name}.toml"
        for name in ("first", "second", "final")
    ]
    texts = [
        re.sub('series = "[^"]*"', 'series = ""', it.read_text("utf-8"), count=1)
        for it in paths
    ]
    series = hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text.replace('series = ""', f'series = "{series}"', 1), "utf-8")


def test_an_added_field_is_ignored(
    built: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer version may add fields within a format: nothing is locked or built."""
    for pattern, root in ROOTS.items():
        (path,) = (built.store if root == "store" else built.folder).glob(pattern)
        added = re.sub(
            r'("?)(format"?)( ?[=:] ?)1(,?)',
            r'\1\2\g<3>1\4\n\1added\1\g<3>"x"\4',
            path.read_text("utf-8"),
            count=1,
        )
        path.write_text(added, "utf-8")
    sign_locks(built)
    caplog.set_level("INFO", logger="nox")
    workspace = Sessions(project=built, id="2-second").open("build-stage-first")
    run_stage(workspace, workspace.cell.graph.stages["first"])
    assert caplog.messages == [f"cached {KERNELS}"]


@pytest.mark.parametrize("pattern", ROOTS)
def test_a_newer_file_is_an_error_and_stays(built: Project, pattern: str) -> None:
    """Both sessions that would write it say to update, and leave the file alone."""
    root = built.store if ROOTS[pattern] == "store" else built.folder
    (path,) = root.glob(pattern)
    newer = re.sub(
        r'(format"?) ?([=:]) ?1', r"\1 \2 99", path.read_text("utf-8"), count=1
    )
    path.write_text(newer, "utf-8")
    sessions = Sessions(project=built, id="2-second")
    workspace = sessions.open("build-stage-first", "--rebuild")
    with pytest.raises(BuildStagesError, match="format 99") as caught:
        run_stage(workspace, workspace.cell.graph.stages["first"])
    assert caught.value.hint.endswith("pip install --upgrade nox-buildstages")
    if path.suffix == ".toml":
        with pytest.raises(BuildStagesError, match="format 99"):
            run_lock(sessions.open("build-stages-lock"))
    assert path.read_text("utf-8") == newer
