"""A disk that fills up is told, and does no harm."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from support.packages import in_tree_backend, make_sdist, make_tree
from support.pair import declare_solo

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

PRIVATE = ("unshare", "--map-root-user", "--mount")
TABLE = """
    [tool.nox-buildstages.final]
    requirements = ["big"]

    [[tool.nox-buildstages.stage]]
    name = "only"
    outputs = ["big"]
"""


def _can_mount() -> bool:
    mounting = [*PRIVATE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return (
            subprocess.run(mounting, check=False, capture_output=True).returncode == 0
        )
    except OSError:
        return False


@pytest.mark.skipif(not _can_mount(), reason="no mount namespaces here")
def test_a_full_disk_is_told_and_the_next_run_on_a_bigger_one_ends_well(
    project: Project, index: Index
) -> None:
    """The message says what is full and what to do; nothing damaged is left."""
    noise = random.Random(1).randbytes(3_000_000).hex()  # noqa: S311 - not a secret
    make_sdist(index.folder, "big", "1.0", files={"big/noise.txt": noise})
    project.write(TABLE)
    project.nox("-s", "build-stages-lock")
    failed = _nox_on_small_disk(project, size="8m")
    assert failed.returncode != 0
    assert "No space left on device" in failed.stdout
    assert "free some space" in failed.stdout, failed.stdout
    assert "Traceback" not in failed.stdout
    assert project.wheels() == []
    project.nox("-s", "build-stage-only")
    assert len(project.wheels()) == 1


CHUNKS = """
import pathlib, time, zipfile
import tinybackend
from tinybackend import build_wheel, get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

def compiled(settings):
    pathlib.Path("build").mkdir(exist_ok=True)
    members = {}
    for number in range(24):
        path = pathlib.Path(f"build/{number}")
        if not path.exists():
            print("making", number, flush=True)
            path.write_bytes(bytes([number]) * 1_000_000)
        if number == 3:
            time.sleep(1)
        members[f"kernels/{number}"] = path.read_bytes()
    return members

tinybackend._compiled = compiled
"""
"""A build that makes large files, unless they are there."""

PYPROJECT = in_tree_backend("setup")


@pytest.mark.slow
@pytest.mark.skipif(not _can_mount(), reason="no mount namespaces here")
def test_a_build_that_filled_the_disk_goes_on_when_there_is_room(
    project: Project,
) -> None:
    """What was whole is kept, and what could be written in part only is made anew."""
    files = {"setup.py": CHUNKS, "pyproject.toml": PYPROJECT}
    make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    declare_solo(project, outputs=["kernels @ ./kernels"])
    project.nox("-s", "build-stages-lock")
    grow = '"$@"; mount -o remount,size=300m "$0"'
    done = _nox_on_small_disk(project, size="22m", before=grow)
    assert done.returncode == 0, done.stdout
    assert "No space left on device" in done.stdout
    assert done.stdout.count(", resuming an interrupted build") == 1
    (wheel,) = project.wheelhouse.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for number in range(24):
            content = archive.read(f"kernels/{number}")
            assert content == bytes([number]) * 1_000_000
    log = (project.wheelhouse / "logs/kernels.log").read_text("utf-8")
    assert log.count("making 0\n") == 1
    assert log.count("making 23\n") == 1


@pytest.mark.skipif(not _can_mount(), reason="no mount namespaces here")
@pytest.mark.parametrize("size", ["4m", "4m,nr_inodes=5"])
def test_a_full_disk_is_pruned(project: Project, size: str) -> None:
    """Where not even an empty file can be made, for a lock, there is no other way."""
    project.write(TABLE)
    done = _nox_on_small_disk(
        project,
        size=size,
        before='mkdir -p "$0/wheels/.new-x"; cat /dev/zero > "$0/wheels/.new-x/big"',
        session="build-stages-prune",
    )
    assert done.returncode == 0, done.stdout
    assert "removed 4.2 MB; the store now takes 0 B" in done.stdout


def _nox_on_small_disk(
    project: Project,
    *,
    size: str,
    before: str = "true",
    session: str = "build-stage-only",
) -> subprocess.CompletedProcess[str]:
    """Run nox with a store that holds so much and no more.

    Args:
        project: Its store is hidden by an empty one.
        size: Options of the mount.
        before: A line of shell that is run first, whatever comes of it.
        session: To run.
    """
    mount = (
        'mkdir -p "$0" && mount -t tmpfs -o size=$1 tmpfs "$0" && shift'
        f' && {{ {before}; exec "$@"; }}'
    )
    nox = [sys.executable, "-m", "nox", "-db", "uv", "-s", session]
    return subprocess.run(
        [*PRIVATE, "sh", "-c", mount, str(project.store), size, *nox],
        cwd=project.folder,
        env={**project.env, "PATH": os.environ["PATH"]},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
