"""Which compilers a build starts, and for which compilers its wheel is found again."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.builder.compilers.started import (
    StartedCompilers,
    find_native_options,
    read_started,
    wrap_compilers,
)
from support.packages import in_tree_backend, make_tree
from support.pair import declare
from support.sessions import run_session

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_wrappers_note_the_compilers_that_are_started(tmp_path: Path) -> None:
    """And pass on words, output and status; to look at them is not to start them."""
    cc = make_program(tmp_path / "bin/cc", 'printf "%s|" "$@"; exit 3')
    for name in ("g++-12", "x86_64-linux-gnu-gcc", "nvcc", "cc-wrapper"):
        make_program(tmp_path / "bin" / name, "exit 0")
    own, notes = tmp_path / "wrappers", tmp_path / "it's notes"
    wrap_compilers(own, str(cc.parent), str(notes))
    names = {it.name for it in own.iterdir()}
    assert names == {"cc", "g++-12", "x86_64-linux-gnu-gcc"}
    assert own.joinpath("cc").stat().st_mtime_ns == cc.stat().st_mtime_ns
    assert read_started(notes) == StartedCompilers(names=None)
    notes.touch()
    assert read_started(notes) == StartedCompilers(names=())
    words = ["a b", "-march=native", "", "*", "-mtune=native-like"]
    done = subprocess.run([own / "cc", *words], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.decode() == "".join(f"{it}|" for it in words)
    subprocess.run([own / "g++-12"], check=True)
    found = StartedCompilers(names=("cc", "g++-12"), options=("-march=native",))
    assert read_started(notes) == found


def test_notes_that_cannot_be_written_stop_no_compiler(tmp_path: Path) -> None:
    """Nor do they say anything."""
    make_program(tmp_path / "bin/cc", "echo compiled")
    own = tmp_path / "wrappers"
    wrap_compilers(own, str(tmp_path / "bin"), str(tmp_path / "gone/notes"))
    done = subprocess.run([own / "cc"], check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"compiled\n", b"")


@pytest.mark.parametrize("notes", [b"cc\nanything\n", b"\xff", b"cc\n" * 4_000_000])
def test_notes_of_anybody_else_are_not_known(tmp_path: Path, notes: bytes) -> None:
    """Then a wheel counts as compiled."""
    file = tmp_path / "notes"
    file.write_bytes(notes)
    assert read_started(file).names is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-O2 -march=native", ("-march=native",)),
        ("-Xcompiler=-mtune=native", ("-mtune=native",)),
        ("-C target-cpu=native", ("target-cpu=native",)),
        ("-xHost -mcpu=native", ("-mcpu=native", "-xHost")),
        ("-march=nativeish -march=x86-64-v3", ()),
    ],
)
def test_options_for_this_processor_are_found(
    text: str, expected: tuple[str, ...]
) -> None:
    """In the variables and the settings of a build."""
    assert find_native_options(["", text]) == expected


BACKEND = """
import subprocess, tinybackend
from tinybackend import get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

def build_wheel(*arguments):
    if COMPILES:
        subprocess.run(["cc", "--version"], check=True)
    return tinybackend.build_wheel(*arguments)
"""


@pytest.mark.slow
def test_another_compiler_rebuilds_what_compiles(project: Project) -> None:
    """What started no compiler is found again, and nothing else is.

    So it is in every store. A plan without compilers compares everything else.
    """
    stages: list[dict[str, Any]] = []
    for name in ("compiled", "plain"):
        code = f"COMPILES = {name == 'compiled'}\n{BACKEND}"
        files = {"backend.py": code, "pyproject.toml": in_tree_backend("backend")}
        make_tree(project.folder / name, name, "1.0", files=files)
        stages.append({"name": name, "outputs": [f"{name} @ ./{name}"]})
    names = ["compiled", "plain"]
    declare(project, {"final": {"requirements": names}, "stage": stages})
    cc = project.folder / "bin/cc"
    keys: list[set[str]] = []
    for store in (project.store, project.folder / "second-store"):
        outer = {"PATH": str(cc.parent), "NOX_BUILDSTAGES_CACHE_DIR": str(store)}
        built, planned = [], []
        for version in ("1", "2", "2"):
            make_program(cc, f"echo cc {version}")
            plan = run_session(project, "build-stages-plan", env=outer).output
            planned.append(plan.count("machine's cc 'cc 1' → 'cc 2'"))
            for name in names:
                said = run_session(project, f"build-stage-{name}", env=outer).stderr
                built += [f"{name} for cc {version}"] * (f"building {name}" in said)
        assert built == ["compiled for cc 1", "plain for cc 1", "compiled for cc 2"]
        assert planned == [0, 1, 0]
        records = [
            json.loads(it.read_text()) for it in store.glob("wheels/*/record.json")
        ]
        started = {it["recipe"]["name"]: it["compilers"] for it in records}
        assert started == {"compiled": ["cc"], "plain": []}
        keys.append({it.parent.name for it in store.glob("wheels/*/record.json")})
    assert keys[0] == keys[1]
    cc.unlink()
    done = run_session(project, "build-stages-plan", env=outer)
    assert "nothing to build: 2 outputs cached" in done.output
    assert done.stderr.count("no C or C++ compiler is here") == 1
