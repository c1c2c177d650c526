"""How it is known what of a build may run at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.jobs.parallelism import (
    is_serial,
    knows_server,
    needs_number,
)
from nox_buildstages.sources.metadata import BuildSystem
from nox_buildstages.system.process import Command, Completed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("file", "text", "is_number"),
    [
        ("setup.py", 'os.environ.get("MAX_JOBS")', True),
        ("setup.py", "cores = multiprocessing.cpu_count()", True),
        ("setup.py", 'run(["make", "-j4"])', True),
        ("setup.py", 'f"-j{cores}"', True),
        ("setup.py", "from numpy.distutils.core import setup", True),
        ("setup.cfg", "[build_ext]\nparallel = 4", True),
        ("pyproject.toml", 'build.tool-args = ["--parallel", "4"]', True),
        ("build.sh", "make -j$(nproc)", True),
        ("setup.py", 'run(["make"])  # pre-job', False),
        ("README.md", "set MAX_JOBS", False),
        ("setup.py", "setup()", False),
    ],
)
def test_a_source_tells_that_it_counts_jobs_itself(
    tmp_path: Path, file: str, text: str, *, is_number: bool
) -> None:
    """Such a build would ignore a jobserver."""
    tmp_path.joinpath(file).write_text(text, "utf-8")
    assert needs_number(tmp_path, {"NVCC_THREADS", "CC"}, ["-Dx=1"]) == is_number


@pytest.mark.parametrize(
    ("declared", "arguments"),
    [({"MAX_JOBS"}, []), ({"MAKEFLAGS"}, []), (set(), ["-O", "-j4"])],
)
def test_the_table_may_count_jobs(
    tmp_path: Path, declared: set[str], arguments: list[str]
) -> None:
    """By a variable, or by an argument for a tool."""
    assert needs_number(tmp_path, declared, arguments)


@pytest.mark.parametrize(
    ("backend", "requires", "script", "serial"),
    [
        ("setuptools.build_meta", "setuptools", "setup()", True),
        ("setuptools.build_meta", "setuptools", "# makes a wheel", True),
        ("hatchling.build", "hatchling", "", True),
        ("setuptools.build_meta", "torch", "setup()", False),
        ("setuptools.build_meta", "setuptools-rust", "setup()", False),
        ("setuptools.build_meta", "setuptools", 'run(["cmake"])', False),
        ("setuptools.build_meta", "setuptools", 'run("./build.sh")', False),
        ("hatchling.build", "scikit-build-core", "", False),
        ("mesonpy", "meson-python", "", False),
        ("own", "", "", False),
    ],
)
def test_setuptools_compiles_one_file_at_a_time(
    tmp_path: Path, backend: str, requires: str, script: str, *, serial: bool
) -> None:
    """Unless something else compiles; a backend that nobody knows may do anything."""
    tmp_path.joinpath("setup.py").write_text(script, "utf-8")
    system = BuildSystem(requires=(requires,), backend=backend)
    assert is_serial(tmp_path, system) == serial
    own = BuildSystem(requires=(requires,), backend=backend, backend_path=(".",))
    assert not is_serial(tmp_path, own)


@pytest.mark.parametrize(
    ("says", "knows"),
    [
        ({}, True),
        ({"make": "GNU Make 4.4.1", "ninja": "1.13.2.git.kitware"}, True),
        ({"cargo": "cargo 1.95.0 (f2d3ce0bd 2026-03-21)"}, True),
        ({"make": "GNU Make 4.3"}, False),
        ({"make": "bmake"}, False),
        ({"gmake": "GNU Make 4.3", "make": "GNU Make 4.4"}, False),
        ({"ninja": "1.12.1"}, False),
        ({"ninja": "2.0"}, True),
        ({"ninja-build": "1.11.1"}, False),
        ({"samu": "1.9.0"}, False),
        ({"cargo": "cargo 1.69.0"}, False),
        ({"cargo": ""}, False),
    ],
)
def test_all_tools_must_know_named_pipes(
    tmp_path: Path, says: dict[str, str], *, knows: bool
) -> None:
    """One that doesn't would stop, or run as many compilers as it likes."""
    asked: list[str] = []

    def run(command: Command) -> Completed:
        name = command.argv[0].rpartition("/")[2]
        asked.append(name)
        return Completed(returncode=not says[name], stdout=says[name], stderr="")

    folder = tmp_path / "bin"
    folder.mkdir()
    for name in says:
        folder.joinpath(name).touch(0o755)
    for _ in range(2):
        found = knows_server(str(folder), {}, runner=run, cache=tmp_path / "cache")
        assert found == knows
    # A program is asked again if it failed, or if it was replaced.
    assert len(asked) == len(set(asked)) + (says == {"cargo": ""})
