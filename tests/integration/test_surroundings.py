"""What lies around the store, or the project, and must not be seen by a build."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.commands.stage import run_stage
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.store import surroundings
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.store.store import Store
from nox_buildstages.value import replace
from support.namespaces import can_forbid, forbidding_all, needs_namespaces
from support.packages import in_tree_backend, make_tree
from support.pair import declare_solo
from support.sessions import Sessions, run_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.project import Project

BACKEND = """
import json, os, pathlib, subprocess
from tinybackend import build_wheel, get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

cwd = pathlib.Path.cwd()
seen = [name for top in cwd.parents for name in MARKS if (top / name).exists()]
asked = subprocess.run(
    ["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True
)
print("looked", json.dumps([str(cwd), seen, asked.stdout]))

toolchain = pathlib.Path(os.environ["RUSTUP_HOME"])
settings = pathlib.Path.home() / ".cargo/config.toml"
try:
    (toolchain / "new").touch()
except OSError as error:
    print("found", (toolchain / "name").read_text(), settings.read_text(), error)
"""
PYPROJECT = in_tree_backend("backend")
MIRROR = '[source.a]\nreplace-with = "b"\n'
MARKS = ("Cargo.toml", ".cargo", "rust-toolchain.toml", "setup.cfg", ".git")


@pytest.fixture
def surrounded(project: Project) -> Project:
    """A checkout with a store in it, and a build that looks upwards in each hook."""
    code = BACKEND.replace("MARKS", repr(MARKS))
    files = {"backend.py": code, "pyproject.toml": PYPROJECT}
    make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    declare_solo(project, outputs=["kernels @ ./kernels"])
    for folder in (".git/objects", ".git/refs", ".cargo"):
        (project.folder / folder).mkdir(parents=True)
    (project.folder / ".git/HEAD").write_text("ref: refs/heads/main\n")
    for mark in MARKS:
        (project.folder / mark).touch()
    home = Path(project.env["HOME"])
    for file, text in ((".rustup/name", "stable"), (".cargo/config.toml", MIRROR)):
        (home / file).parent.mkdir(parents=True)
        (home / file).write_text(text)
    store = project.folder / ".store"
    env = {**project.env, "NOX_BUILDSTAGES_CACHE_DIR": str(store)}
    return replace(project, store=store, env=env)


def logs(project: Project) -> list[str]:
    """Return the logs of locking's hooks and of the build."""
    folders = (project.store / "logs", project.wheelhouse / "logs")
    return [(folder / "kernels.log").read_text("utf-8") for folder in folders]


def looks(project: Project) -> list[list[str]]:
    """Return what the hooks saw, in the order of the logs: cwd, marks, repository."""
    lines = (line for log in logs(project) for line in log.splitlines())
    return [json.loads(it[7:]) for it in lines if it.startswith("looked ")]


@needs_namespaces
def test_no_hook_sees_the_checkout(surrounded: Project) -> None:
    """Each runs at one path, and finds the toolchains of the home."""
    workspace = Sessions(project=surrounded).open("build-stage-only")
    run_stage(workspace, workspace.cell.graph.stages["only"])
    found = looks(surrounded)
    assert len(found) == 3
    for cwd, *seen in found:
        assert Path(cwd).is_relative_to(HERE)
        assert seen == [[], ""]
    for log in logs(surrounded):
        assert f"found stable {MIRROR} [Errno 30] Read-only file system" in log


@needs_namespaces
def test_a_user_s_locale_time_zone_and_umask_change_nothing(project: Project) -> None:
    """Neither what a build sees, nor the modes of files, nor a tool's words."""
    code = """
import os, pathlib, subprocess, tinybackend
from tinybackend import get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

def build_wheel(*arguments):
    modes = [oct(pathlib.Path(it).stat().st_mode) for it in ("data", "program")]
    pathlib.Path("new").touch()
    modes.append(oct(os.stat("new").st_mode))
    date = subprocess.run(["date", "-d@0"], capture_output=True, text=True).stdout
    print("sees", modes, date, os.environ.get("LC_ALL"))
    return tinybackend.build_wheel(*arguments)
"""
    files = {"backend.py": code, "pyproject.toml": PYPROJECT, "data": "", "program": ""}
    tree = make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    tool = project.folder / "bin/words"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho 1.0 "$LC_ALL" "$LANGUAGE"\n')
    tool.chmod(0o755)
    declare_solo(project, outputs=["kernels @ ./kernels"], tools=["words"])
    path = f"{tool.parent}:{project.env['PATH']}"
    found = []
    for mask, locale, zone in (
        (0o077, "de_DE.UTF-8", "CET"),
        (0o002, "C", "Asia/Aden"),
    ):
        (tree / "data").chmod(0o666 & ~mask)
        (tree / "program").chmod(0o777 & ~mask)
        shutil.rmtree(project.store, ignore_errors=True)
        names = {"LC_ALL": locale, "LANGUAGE": locale, "TZ": zone, "PATH": path}
        ours = os.umask(mask)
        try:
            run_session(project, "build-stage-only", env=names)
        finally:
            os.umask(ours)
        log = (project.wheelhouse / "logs/kernels.log").read_text("utf-8")
        seen = next(it for it in log.splitlines() if it.startswith("sees"))
        found.append((seen, Store(project.store).keys()))
    assert found[0] == found[1]
    assert "100644', '0o100755', '0o100644" in found[0][0]
    assert "UTC 1970" in found[0][0]


@can_forbid
def test_without_mounts_no_hook_sees_the_checkout(surrounded: Project) -> None:
    """It is asked and built in a folder for temporary files, which prune knows."""
    project = replace(surrounded, prefix=tuple(forbidding_all()))
    project.nox("-s", "build-stage-only")
    found = looks(project)
    (folder, *_) = surroundings.temporary_folders(project.store)
    assert len(found) == 3
    for cwd, *seen in found:
        assert Path(cwd).is_relative_to(folder)
        assert seen == [[], ""]
    assert folder in Store(project.store).all_builds
    assert list(folder.iterdir()) == []
    shutil.rmtree(folder)


# Where a build runs without mounts -------------------------------------------------


@pytest.fixture
def apart() -> Iterator[Path]:
    """A folder with no project around it; that of pytest may be in a checkout."""
    with tempfile.TemporaryDirectory(dir=surroundings.TEMPORARY[0]) as folder:
        yield Path(folder)


def test_a_store_apart_from_everything_is_built_in(apart: Path) -> None:
    """It may have been put on a disk with room."""
    store = Store(apart / "store", home=apart / "home")
    builds = store.folder / "builds"
    assert store.builds(may_move=False) == store.builds(may_move=True) == builds


@pytest.mark.parametrize("mark", [".git", "pyproject.toml", ".cargo", "node_modules"])
def test_a_store_in_a_project_is_not_built_in(tmp_path: Path, mark: str) -> None:
    """But in a folder of its own, always the same, not below a home or a project."""
    (tmp_path / mark).touch()
    store = Store(tmp_path / "a/store")
    assert store.builds(may_move=True) == tmp_path / "a/store/builds"
    found = store.builds(may_move=False)
    assert found == next(surroundings.temporary_folders(store.folder))
    assert found != Store(tmp_path / "b/store").builds(may_move=False)


def test_a_store_in_a_home_is_not_built_in(tmp_path: Path) -> None:
    """A home may be a repository, and has settings for tools."""
    store = Store(tmp_path / ".cache/nox-buildstages", home=tmp_path)
    assert not store.builds(may_move=False).is_relative_to(tmp_path)


def test_a_folder_that_the_user_names_is_built_in(tmp_path: Path) -> None:
    """Whatever lies around it, and each store in a folder of its own."""
    environ = {
        "NOX_BUILDSTAGES_CACHE_DIR": str(tmp_path / "store"),
        "NOX_BUILDSTAGES_BUILD_DIR": str(tmp_path / "x"),
    }
    store = Store.of_user(environ)
    found = store.builds(may_move=False)
    assert found == store.builds(may_move=True) == tmp_path / "x" / found.name
    assert found in store.all_builds


def test_another_user_cannot_make_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the folder could change what is built."""
    monkeypatch.setattr(surroundings, "TEMPORARY", (tmp_path,))
    (folder,) = surroundings.temporary_folders(tmp_path / "store")
    folder.parent.symlink_to(tmp_path)
    with pytest.raises(BuildStagesError) as caught:
        surroundings.make_private(folder)
    assert "NOX_BUILDSTAGES_BUILD_DIR" in str(caught.value.hint)
    folder.parent.unlink()
    surroundings.make_private(folder)
    assert folder.is_dir()


def test_folders_for_temporary_files_may_have_surroundings(
    apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the next one is taken; if there is none, the user has to name one."""
    first, second = apart / "first", apart / "second"
    first.mkdir()
    second.mkdir()
    (first / "Cargo.toml").touch()
    monkeypatch.setattr(surroundings, "TEMPORARY", (first, second))
    assert surroundings.neutral_folder(apart).is_relative_to(second)
    (apart / ".hg").touch()
    with pytest.raises(BuildStagesError, match="would see your files"):
        surroundings.neutral_folder(apart)
