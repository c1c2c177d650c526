"""Real packages in two homes, stores and checkouts: the wheels have the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.system.files import sha256_of
from nox_buildstages.value import replace
from support.namespaces import can_forbid, needs_namespaces, without_namespaces
from support.pair import declare
from support.real import make_real_project

if TYPE_CHECKING:
    from collections.abc import Collection

pytestmark = pytest.mark.network

PACKAGES = (
    *("bitarray==3.12.3", "markupsafe==3.0.4", "psutil==7.2.2", "wrapt==2.5.2"),  # C
    *("cymem==2.0.16", "msgpack==1.2.4"),  # Cython
    "kiwisolver==1.5.1",  # C++, with headers of the environment in debug information
    *("ninja==1.13.2", "spglib==2.8.0"),  # CMake
    "idna==3.20",
)

RUSTUP = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
"""The toolchains of rustup, which looks for them in the home."""

ORJSON = "orjson==3.13.0"
"""A package in Rust, built by maturin; its sdist has all crates."""

NO_BILL = """\
--- a/pyproject.toml
+++ b/pyproject.toml
@@ -37,5 +37,8 @@
 build-backend = "maturin"
 requires = ["maturin>=1,<2"]
\x20
+[tool.maturin.sbom]
+rust = false
+
 [tool.maturin]
 python-source = "pysrc"
"""

UNLIKE = {
    # Without mounts, the folder of the source, in maturin's bill of materials.
    "orjson": (
        *("orjson-3.13.0.dist-info/sboms/orjson.cyclonedx.json",),
        "orjson-3.13.0.dist-info/RECORD",
    ),
    # The temporary folder into which scikit-build-core installs.
    "spglib": ("spglib/lib/pkgconfig/spglib.pc", "spglib-2.8.0.dist-info/RECORD"),
}
"""Files that differ, as `docs/how-to/reproducible.md` says."""


needs_cargo = pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")


def digest(wheel: Path, unlike: Collection[str]) -> str:
    """Return the sha256 of a wheel, or of all files in it but those that differ."""
    if not unlike:
        return sha256_of(wheel)
    with zipfile.ZipFile(wheel) as archive:
        files = {it: archive.read(it) for it in archive.namelist() if it not in unlike}
    return hashlib.sha256(repr(files).encode()).hexdigest()


def build(folder: Path, name: str, package: str, *prefix: str, patch: str = "") -> str:
    """Build a package in a place of its own; return a digest of the wheel."""
    home = folder / f"home-{name}"
    home.mkdir(parents=True)
    variables = {"HOME": str(home), "RUSTUP_HOME": RUSTUP}
    project = make_real_project(folder / name / "project", **variables)
    output = package.partition("==")[0]
    stage = {"name": "all", "outputs": [package], "compiler-cache": False}
    table: dict[str, Any] = {"final": {"requirements": [output]}, "stage": [stage]}
    if patch:
        (project.folder / "fix.patch").write_text(patch)
        table["package"] = {output: {"patches": ["fix.patch"]}}
    declare(project, table)
    project = replace(project, prefix=prefix)
    project.nox("-s", "build-stage-all", timeout=1800)
    (wheel,) = project.wheelhouse.glob("*.whl")
    return digest(wheel, () if patch else UNLIKE.get(output, ()))


@needs_namespaces
@can_forbid
@pytest.mark.parametrize(
    "package", [*PACKAGES, pytest.param(ORJSON, marks=needs_cargo)]
)
def test_wheels_have_the_same_bytes_anywhere(tmp_path: Path, package: str) -> None:
    """With mounts and without, which is another path for the compilers."""
    first = build(tmp_path, "one", package)
    assert build(tmp_path, "another/place/of/somebody", package) == first
    without = without_namespaces()
    assert build(tmp_path, "third", package, *without) == first
    assert build(tmp_path / "a/longer/path", "fourth", package, *without) == first


@needs_namespaces
@can_forbid
@needs_cargo
def test_a_patch_keeps_the_place_out_of_a_wheel_of_maturin(tmp_path: Path) -> None:
    """Without maturin's bill of materials, all bytes are the same without mounts."""
    first = build(tmp_path, "one", ORJSON, patch=NO_BILL)
    without = without_namespaces()
    assert build(tmp_path / "longer", "two", ORJSON, *without, patch=NO_BILL) == first
