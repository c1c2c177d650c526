"""A shell in the source of an output: look into its build, and take a patch."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.commands.shell.changes import (
    find_changes,
    find_roots,
    is_source,
    list_stamps,
    load_made,
    note_made,
)
from nox_buildstages.errors import BuildError
from support.packages import make_sdist
from support.pair import declare
from support.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.index import Index
    from support.project import Project

NAMES = ["ash", "birch", "cedar"]


@contextmanager
def commands(text: str) -> Iterator[None]:
    """Give standard input some commands, as a pipe does."""
    before = os.dup(0)
    ours, theirs = os.pipe()
    os.write(theirs, text.encode())
    os.close(theirs)
    os.dup2(ours, 0)
    os.close(ours)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def kept(project: Project) -> list[Path]:
    """Return the trees of failed builds in the store."""
    return [it.parent for it in project.store.glob("builds/*/failed.json")]


def test_a_patch_from_the_shell_repairs_a_build(
    project: Project,
    index: Index,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The tree of the failed build is kept until the output is built.

    If the user's shell doesn't start there, another one does.
    """
    caplog.set_level("INFO", logger="nox")
    for name in NAMES:
        settings = {"faults": ["raise"]} if name == "birch" else {}
        make_sdist(index.folder, name, "1.0", settings=settings)
    only = {"name": "only", "outputs": NAMES}
    table = {"final": {"requirements": NAMES}, "stage": [only]}
    declare(project, table)
    with pytest.raises(BuildError) as caught:
        Sessions(project=project).run_body("build-stage-only")
    command = "nox -s build-stages-shell -- birch"
    assert [*caught.value.lines()][-1] == f"  to look around: {command}"
    (tree,) = kept(project)
    tree.joinpath("left-by-the-build").touch()

    script = [
        "printf '\\0' > made-by-hand.so && mkdir out && touch out/x",
        "rebuild && exit 3",  # it must fail again
        "pwd; ls $HOME/..; sed -i 's/\"raise\"//' tinybackend.json",
        "rebuild || exit 4",
    ]
    shell = project.folder / "shell"
    shell.write_text("#!/bin/sh\nexit 1\n")
    shell.chmod(0o755)
    sessions = Sessions(project=project, id="2-shell", variables={"SHELL": str(shell)})
    with commands("\n".join(script)):
        sessions.run_body("build-stages-shell", "birch")
    assert f"{shell} doesn't start in the sandbox" in caplog.text
    said = capfd.readouterr().out
    assert "left-by-the-build" in said
    assert "rebuild: failed (exit status 1) after" in said
    assert "rebuild: built birch-1.0-py3-none-any.whl (" in said
    assert kept(project) == [tree]

    copy = next(it for it in said.splitlines() if it.startswith("  mkdir -p patches"))
    subprocess.run(["/bin/sh", "-c", copy], cwd=project.folder, check=True)
    patch = project.folder / "patches/birch.patch"
    assert "+++ b/tinybackend.json\n" in patch.read_text("utf-8")
    assert patch.read_text("utf-8").count("diff --git") == 1
    assert '  patches = ["patches/birch.patch"]' in said
    declare(project, {**table, "package": {"birch": {"patches": [str(patch)]}}})
    sessions = Sessions(project=project, id="3-run")
    sessions.run_body("build-stage-only")
    assert project.wheels() == [f"{it}-1.0-py3-none-any.whl" for it in NAMES]
    assert kept(project) == []


def test_what_is_a_change_by_a_person(tmp_path: Path) -> None:
    """Files that a build has written last aren't, nor what editors leave."""
    original, tree = tmp_path / "original", tmp_path / "tree"
    original.mkdir()
    for name in ("edited", "removed", "generated", "same", "program"):
        original.joinpath(name).write_text(name, "utf-8")
    shutil.copytree(original, tree)
    before = list_stamps(tree)
    tree.joinpath("generated").write_text("by the build", "utf-8")
    tree.joinpath("build/deep").mkdir(parents=True)
    tree.joinpath("build/deep/x.o").write_bytes(b"\0")
    note = tmp_path / "made.json"
    assert load_made(note) is None
    note_made(note, before, list_stamps(tree))
    tree.joinpath("edited").write_text("by a person", "utf-8")
    tree.joinpath("removed").unlink()
    tree.joinpath("program").chmod(0o755)
    tree.joinpath("same").touch()
    tree.joinpath("new").write_text("new", "utf-8")
    tree.joinpath("new.so").write_bytes(b"\0")
    tree.joinpath("out").mkdir()
    tree.joinpath("out/x").touch()
    tree.joinpath("edited~").touch()
    changes = find_changes(original, tree, load_made(note) or {})
    sources = [it for it in changes if is_source(original, tree, it)]
    assert sources == ["edited", "new", "program", "removed"]
    others = [it for it in changes if it not in sources]
    assert [*find_roots(original, others)] == ["new.so", "out/"]
