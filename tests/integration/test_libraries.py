"""A library of another wheel stays outside if the wheel's own way leads there."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from typing import TYPE_CHECKING, NamedTuple

import pytest

from nox_buildstages.commands.release.libraries import Loader, find_external
from nox_buildstages.environments.environment import Environment
from nox_buildstages.system.process import run
from support.namespaces import has_namespaces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux alone")

LIBRARY = "libshape.so.1"
EXTENSION = """
#include <Python.h>
extern int shape(void);
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext", 0, -1, 0};
PyMODINIT_FUNC PyInit_ext(void) { return shape() ? PyModule_Create(&module) : 0; }
"""
LOADS = f"import ctypes, other\nctypes.CDLL(other.__path__[0] + '/libs/{LIBRARY}')\n"
BESIDE = "$ORIGIN/../other/libs"

needs_hiding = pytest.mark.skipif(
    not has_namespaces, reason="this system allows no mounts, so nothing can be hidden"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library, and an extension module for each RPATH."""
    folder = tmp_path_factory.mktemp("compiled")
    folder.joinpath("shape.c").write_text("int shape(void) { return 1; }\n")
    folder.joinpath("ext.c").write_text(EXTENSION)
    include = f"-I{sysconfig.get_path('include')}"
    for words in (
        ("shape.c", "-o", LIBRARY, f"-Wl,-soname,{LIBRARY}"),
        ("ext.c", LIBRARY, "-o", "nowhere.so", include),
        ("ext.c", LIBRARY, "-o", "beside.so", include, f"-Wl,-rpath,{BESIDE}"),
    ):
        command = ["cc", "-shared", "-fPIC", *words]
        subprocess.run(command, check=True, cwd=folder)
    return folder


def install(packages: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Write files of a wheel into an environment, and list them in RECORD."""
    info = packages / f"{name}-1.0.dist-info"
    info.mkdir()
    info.joinpath("RECORD").write_text("".join(f"{it},,\n" for it in files))
    for path, content in files.items():
        file = packages / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class Case(NamedTuple):
    """A wheel with an extension module, beside a wheel with the library."""

    extension: str
    stays: bool  # outside, as the wheel leads to the other one's file
    rpath: str = ""
    package: str = ""  # the __init__ of a package of the wheel
    imports: tuple[str, ...] = ()
    is_here: bool = True  # whether this machine has the library, too


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case("mine/ext.so", stays=True, rpath=BESIDE), id="RPATH"),
        pytest.param(Case("mine/ext.so", stays=False), id="only the name"),
        pytest.param(Case("mine/ext.so", stays=True, package=LOADS), id="its package"),
        pytest.param(
            Case("ext.so", stays=True, package=LOADS),
            id="a package beside it",
            marks=needs_hiding,
        ),
        pytest.param(
            Case("ext.so", stays=True, imports=("load",), is_here=False), id="imports"
        ),
        pytest.param(Case("ext.so", stays=False, imports=("load",)), id="taken in"),
        pytest.param(Case("ext.so", stays=False, is_here=False), id="nowhere"),
    ],
)
def test_a_library_stays_outside_if_the_wheel_leads_there(
    compiled: Path, tmp_path: Path, case: Case
) -> None:
    """A file of that name in another wheel is no reason, nor is this machine's file.

    If this machine has none, what users import before counts, too.
    """
    location = tmp_path / "env"
    venv.create(location, symlinks=True)
    (packages,) = location.glob("lib/python*/site-packages")
    extension = (compiled / ("beside.so" if case.rpath else "nowhere.so")).read_bytes()
    package = case.package.encode()
    install(packages, "mine", {case.extension: extension, "mine/__init__.py": package})
    files = {
        f"other/libs/{LIBRARY}": (compiled / LIBRARY).read_bytes(),
        "other/__init__.py": b"",
        "load.py": LOADS.encode(),
    }
    install(packages, "other", files)
    python = location / "bin/python"
    loader = Loader(
        environment=Environment(location=location, bin=python.parent, python=python),
        runner=run,
        variables={"LD_LIBRARY_PATH": str(compiled)} if case.is_here else {},
        result=tmp_path / "loaded.txt",
        can_hide=has_namespaces,
    )
    found = find_external(loader, "mine", case.imports)
    assert found == (frozenset([LIBRARY]) if case.stays else frozenset())
