"""An output in a git repository: its commit is locked, its submodules are built in."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from support.git import commit, git
from support.packages import make_tree, make_wheel
from support.pair import built, declare, lock_texts

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

HEADER = "kernels/third_party/header.txt"


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """A repository of kernels, with one of headers as its submodule."""
    headers = tmp_path / "headers"
    headers.mkdir()
    git(headers, "init", "--quiet")
    headers.joinpath("header.txt").write_text("h", "utf-8")
    commit(headers)
    tree = make_tree(tmp_path / "upstream", "kernels", "1.0")
    git(tree, "init", "--quiet", "--initial-branch", "work")
    commit(tree)
    place = "kernels/third_party"
    git(tree, "submodule", "--quiet", "add", headers.as_uri(), place)
    return tree


def locked_commit(project: Project) -> str:
    """Return the commit of kernels in the lock of its stage."""
    (output,) = project.lock("only")["tool"]["nox-buildstages"]["outputs"]
    return str(output["source"]["commit"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "ref",
    ["branch", *(pytest.param(it, marks=pytest.mark.slow) for it in ("tag", "commit"))],
)
def test_a_new_commit_changes_nothing_until_it_is_asked_for(
    project: Project, index: Index, kernels: Path, ref: str
) -> None:
    """With --upgrade-package a branch moves, and nothing else; a tag and a commit stay.

    The submodule's files are in the wheel.
    """
    make_wheel(index.folder, "dep", "1.0")
    first = commit(kernels)
    git(kernels, "tag", "v1")
    names = {"branch": "work", "tag": "v1", "commit": first}
    stage = {
        "name": "only",
        "outputs": [f"kernels @ git+{kernels.as_uri()}@{names[ref]}"],
    }
    table = {"final": {"requirements": ["kernels", "dep"]}, "stage": [stage]}
    declare(project, table)
    moved = ref == "branch"
    if moved:
        assert built(project.nox("-s", "build-stage-only")) == ["kernels"]
        (wheel,) = project.wheels()
        with zipfile.ZipFile(project.wheelhouse / wheel) as archive:
            assert archive.read(HEADER) == b"h"
    else:
        project.nox("-s", "build-stages-lock")
    before = lock_texts(project)

    kernels.joinpath("README").write_text("more", "utf-8")
    second = commit(kernels)
    make_wheel(index.folder, "dep", "2.0")
    if moved:
        assert built(project.nox("-s", "build-stage-only")) == []
    project.nox("-s", "build-stages-lock")
    assert lock_texts(project) == before
    assert locked_commit(project) == first

    done = project.nox("-s", "build-stages-lock", "--", "--upgrade-package", "kernels")
    assert locked_commit(project) == (second if moved else first)
    changed = f"kernels commit {first[:12]} → {second[:12]} in only, final"
    assert (changed in done.output) == moved
    assert "dep " not in done.output
    if moved:
        assert built(project.nox("-s", "build-stage-only")) == ["kernels"]
