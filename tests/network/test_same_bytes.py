"""Real packages in two homes, stores and checkouts: the wheels have the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.system.files import sha256_of
from nox_buildstages.value import replace
from support.namespaces import can_forbid, needs_namespaces, without_namespaces
from support.pair import declare
from support.real import make_real_project

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.network

PACKAGES = (
    *("bitarray==3.12.3", "markupsafe==3.0.4", "psutil==7.2.2", "wrapt==2.5.2"),  # C
    *("cymem==2.0.16", "msgpack==1.2.4"),  # Cython
    "kiwisolver==1.5.1",  # C++, with headers of the environment in debug information
    *("ninja==1.13.2", "spglib==2.8.0"),  # CMake
    "idna==3.20",
)

UNLIKE = {
    # The temporary folder into which scikit-build-core installs.
    "spglib": ("spglib/lib/pkgconfig/spglib.pc", "spglib-2.8.0.dist-info/RECORD"),
}
"""Files that differ each time, as `docs/how-to/reproducible.md` says."""


def digest(wheel: Path) -> str:
    """Return the sha256 of a wheel, or of all files in it but those that differ."""
    unlike = UNLIKE.get(wheel.name.partition("-")[0])
    if unlike is None:
        return sha256_of(wheel)
    with zipfile.ZipFile(wheel) as archive:
        files = {it: archive.read(it) for it in archive.namelist() if it not in unlike}
    return hashlib.sha256(repr(files).encode()).hexdigest()


def build(folder: Path, name: str, locks: Path, *prefix: str) -> dict[str, str]:
    """Build the packages in a place of its own; return a digest of each wheel."""
    home = folder / f"home-{name}"
    home.mkdir(parents=True)
    project = make_real_project(folder / name / "project", HOME=str(home))
    names = [it.partition("==")[0] for it in PACKAGES]
    stage = {"name": "all", "outputs": [*PACKAGES], "compiler-cache": False}
    declare(project, {"final": {"requirements": names}, "stage": [stage]})
    if locks.exists():
        shutil.copytree(locks, project.folder / "build-stages")
    project = replace(project, prefix=prefix)
    project.nox("-s", "build-stage-all", timeout=1800)
    if not locks.exists():
        shutil.copytree(project.folder / "build-stages", locks)
    return {it.name: digest(it) for it in project.wheelhouse.glob("*.whl")}


@needs_namespaces
@can_forbid
def test_wheels_have_the_same_bytes_anywhere(tmp_path: Path) -> None:
    """With mounts and without, which is another path for the compilers."""
    locks = tmp_path / "locks"
    first = build(tmp_path, "one", locks)
    assert len(first) == len(PACKAGES)
    assert build(tmp_path, "another/place/of/somebody", locks) == first
    without = without_namespaces()
    assert build(tmp_path, "third", locks, *without) == first
    assert build(tmp_path / "a/longer/path", "fourth", locks, *without) == first
