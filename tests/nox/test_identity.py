"""A stage that takes an earlier stage's output gets that wheel, never a namesake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.packages import make_sdist, make_wheel, read_from_wheel
from support.pair import (
    KERNELS,
    Pair,
    built,
    entry,
    installed,
    publish,
    recipe,
    site_packages,
    stamp,
)

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

PLANTED = {"kernels/__init__.py": "PLANTED = True\n"}


def plant(index: Index) -> None:
    """Put kernels on the index: of higher versions, and of the very same one."""
    make_wheel(index.folder, "kernels", "9.0", files=PLANTED)
    make_sdist(index.folder, "kernels", "8.0", files=PLANTED)
    make_wheel(index.folder, "kernels", "1.0", files=PLANTED)


def check_identity(project: Project) -> None:
    """See that stage second and the runtime hold the wheel of stage first."""
    kernels = entry(project, "kernels")
    content = read_from_wheel(project.wheelhouse / KERNELS, "kernels/__init__.py")
    assert "PLANTED" not in content
    assert stamp(project, "models")["kernels"] == {"version": "1.0", "content": content}
    held = recipe(project, "models")["environment"]["kernels"]
    wanted = {"version": "1.0", "sha256": kernels["sha256"], "stage": "first"}
    assert held == wanted
    final = project.folder / ".nox/build-stages"
    assert installed(final)["kernels"] == "1.0"
    assert (site_packages(final) / "kernels/__init__.py").read_text("utf-8") == content


def bound_hash(project: Project) -> str:
    """Return the sha256 that the wheelhouse's lock has for kernels."""
    text = (project.wheelhouse / "pylock.toml").read_text("utf-8")
    return text.partition(f'path = "{KERNELS}"')[2].split('sha256 = "')[1][:64]


def check_nothing_planted_is_fetched(index: Index) -> None:
    """See that of all files of kernels only the sdist was fetched."""
    asked = {path for path in index.requests if path.startswith("/files/kernels")}
    assert asked <= {"/files/kernels-1.0.tar.gz"}


@pytest.mark.slow
def test_namesakes_that_are_planted_before_locking_are_never_taken(
    project: Project, index: Index
) -> None:
    """No namesake comes into any environment."""
    publish(index)
    plant(index)
    first = {"outputs": ["kernels==1.0"]}
    Pair(first=first, final={"imports": ["models"]}).write(project)
    project.nox("-s", "build-stages")
    check_identity(project)
    assert bound_hash(project) == entry(project, "kernels")["sha256"]
    check_nothing_planted_is_fetched(index)


def test_namesakes_that_are_planted_after_locking_are_never_taken(
    project: Project, index: Index
) -> None:
    """If stage first makes another wheel, stage second is built against that one."""
    publish(index)
    Pair().write(project)
    project.prepare("build-stages-lock")
    plant(index)
    done = project.nox("-s", "build-stages")
    assert "locking" not in done.output
    check_identity(project)
    before = entry(project, "kernels")["sha256"]
    assert bound_hash(project) == before
    Pair(first={"env": {"ARCH": "9.0"}}).write(project)
    assert built(project.nox("-s", "build-stages")) == ["kernels", "models"]
    assert entry(project, "kernels")["sha256"] != before
    check_identity(project)
    check_nothing_planted_is_fetched(index)
