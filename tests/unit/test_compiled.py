"""The files that a build compiled: by compilers that ran, and by the logs of ninja."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.compilers.ninja_log import (
    NinjaStep,
    read_log,
    read_sources,
)
from nox_buildstages.builder.compilers.slowest import collect_compiled, merge_sources
from nox_buildstages.builder.scripts import supervise
from nox_buildstages.store.build_dir import HERE, BuildDirectory
from nox_buildstages.store.compiled import (
    MOST,
    Activity,
    CompiledFile,
    CompiledFiles,
    find_architectures,
    parse_compiled,
    read_activity,
)

if TYPE_CHECKING:
    from pathlib import Path

GENCODE = "-gencode=arch=compute_90,code=sm_90"


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("gcc -O2 -c a.c -o a.o", ("a.c", "")),
        ("/usr/bin/x86_64-linux-gnu-g++-12 -o a.o -c /s/a.cpp", ("/s/a.cpp", "")),
        ("c++ -MD -MT a.c -MF a.d -include b.c -c d/a.cc", ("d/a.cc", "")),
        ("/x/ccache /usr/bin/cc -c a.c", ("a.c", "")),
        ("/bin/sh /wrappers/cc -c a.c", ("a.c", "")),
        ("/bin/bash ../libtool --mode=compile gcc -c a.c", ("a.c", "")),
        (f"nvcc {GENCODE} -c a.cu", ("a.cu", "arch=compute_90,code=sm_90")),
        ("nvcc -arch sm_80 -dc a.cu", ("a.cu", "sm_80")),
        ("nvcc --compile --gpu-architecture=sm_80 a.cu", ("a.cu", "sm_80")),
        ("hipcc --offload-arch=gfx90a -c a.hip", ("a.hip", "gfx90a")),
        ("rustc --crate-name libc --edition=2021 /r/lib.rs", ("crate libc", "")),
        ("rustc - --crate-name ___ --print=cfg", None),
        ("gcc -shared a.o -o a.so", None),
        ("gcc -E a.c", None),
        ("gcc -c conftest.c", None),
        ("python -c a.c", None),
        ("/bin/sh -c a.c", None),
        ("ninja -v -j 2", None),
        ("", None),
    ],
)
def test_a_command_line_names_a_source_and_architectures(
    command: str, found: tuple[str, str] | None
) -> None:
    """If it is a compiler's, and compiles."""
    words = [*command.encode().split(), b""]
    expected = found and tuple(it.encode() for it in found)
    assert supervise.parse_compiler(words) == expected


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ("", ()),
        ("sm_80", ("sm_80",)),
        ("arch=compute_80,code=sm_80 arch=compute_80,code=sm_80", ("sm_80",)),
        ("arch=compute_90,code=[sm_90,compute_90]", ("sm_90", "compute_90")),
        ('arch=compute_90a,code="sm_90a"', ("sm_90a",)),
        ("all-major", ("all-major",)),
        ("gfx90a gfx942", ("gfx90a", "gfx942")),
    ],
)
def test_architectures_are_found(values: str, found: tuple[str, ...]) -> None:
    """As code of a GPU, or as PTX; each once."""
    assert find_architectures(values.split()) == found


def test_lines_of_the_supervisor_are_read() -> None:
    """A line that was cut off, as on a full disk, is left out."""
    lines = ["1.5\t4.0\t9\tsm_80\t/s/a.cu\n", "1.5\t2.5\t0\t\t/s/b c.c", "1.5\t2", "7"]
    found = [*parse_compiled(lines, lambda it: it.removeprefix("/s/"))]
    assert found == [
        CompiledFile(file="a.cu", seconds=2.5, memory=9, architectures=("sm_80",)),
        CompiledFile(file="b c.c", seconds=1.0),
    ]


LOG = """\
# ninja log v{version}
0\t1500\t1\ta.o\t11
0\t1500\t1\ta.gcda\t11
1500\t1600\t1\tb.o\t22
1600\t1600\t1\tbroken
0\t9000\t1\tb.o\t22
"""


@pytest.mark.parametrize("version", [5, 6, 7])
def test_a_log_of_ninja_is_read(version: int) -> None:
    """Each step once; the last one counts, and what isn't a step is left out."""
    assert read_log(LOG.format(version=version).splitlines(keepends=True)) == [
        NinjaStep(result="a.o", seconds=1.5),
        NinjaStep(result="b.o", seconds=9.0),
    ]


@pytest.mark.parametrize("text", ["", "# ninja log v4\n0 1 a.o", LOG.format(version=8)])
def test_other_logs_of_ninja_are_left_out(text: str) -> None:
    """Nobody knows what they mean."""
    assert read_log(text.splitlines(keepends=True)) == []


def test_a_file_of_ninja_names_the_source_of_each_result() -> None:
    """Also of names with spaces, and on several lines."""
    text = r"""
rule cc
  command = gcc -c $in
build a.o: cc ../src/a.c | a.h || order
build b$ c.o $
  b.d | b.x: cc $
  /s/b$:.cpp
build all: phony
build order: phony | a.h
build wrong
build x.o: cc $srcdir/x.c
"""
    assert read_sources(text) == {
        "a.o": "../src/a.c",
        "b c.o": "/s/b:.cpp",
        "b.d": "/s/b:.cpp",
        "b.x": "/s/b:.cpp",
        "x.o": "$srcdir/x.c",
    }


def test_measurements_of_a_file_are_merged() -> None:
    """Ninja measures exactly, and the supervisor sees interrupted attempts as well."""
    seen = [
        CompiledFile(file="a.cu", seconds=3.0, memory=5, architectures=("sm_80",)),
        CompiledFile(file="a.cu", seconds=4.0, memory=9, architectures=("sm_90",)),
        CompiledFile(file="b.c", seconds=1.0, memory=7),
    ]
    steps = [
        CompiledFile(file="b.c", seconds=1.5),
        CompiledFile(file="b.c", seconds=6.0),
        CompiledFile(file="a.cu", seconds=4.0),
        CompiledFile(file="x.so", seconds=0.5),
    ]
    assert merge_sources(seen, steps) == [
        CompiledFile(file="b.c", seconds=7.5, memory=7),
        CompiledFile(
            file="a.cu", seconds=7.0, memory=9, architectures=("sm_80", "sm_90")
        ),
        CompiledFile(file="x.so", seconds=0.5),
    ]


def test_a_record_keeps_the_slowest_files() -> None:
    """What another program wrote there is no reason to refuse the wheel."""
    file = CompiledFile(file="a.cu", seconds=7.5, memory=9, architectures=("sm_80",))
    files = CompiledFiles(count=3, seconds=12.5, jobs=2, slowest=(file,))
    record = files.to_dict()
    assert CompiledFiles.from_dict(record) == files
    many = CompiledFiles.from_dict({**record, "slowest": record["slowest"] * 99})
    assert many is not None
    assert len(many.slowest) == MOST
    for wrong in ({"slowest": [1]}, {"count": "x"}, {"seconds": float("nan")}):
        assert CompiledFiles.from_dict({**record, **wrong}) is None
    assert CompiledFiles.from_dict(None) is None


def write(path: Path, text: str, *, at: int) -> None:
    """Write a file with a time in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    os.utime(path, (at, at))


def test_a_build_has_compiled_its_own_files(tmp_path: Path) -> None:
    """Logs of ninja in the source may have steps of builds elsewhere.

    The number of compilers in the build's log counts, if it is higher.
    """
    build_dir = BuildDirectory(tmp_path / "key")
    project = build_dir.source / "x-1.0"
    build_dir.begin(tmp_path / "venv", lambda _: project)
    top = project / "out"
    write(build_dir.folder / "begun", "", at=1000)
    log = "# ninja log v7\n0\t9000\t1\told.o\t1\n0\t2000\t1\tnew.o\t2\n"
    write(top / ".ninja_log", f"{log}0\t500\t1\tx.so\t3\n", at=2000)
    write(top / "build.ninja", "build new.o: cxx ../new.cc\n", at=2000)
    write(top / "old.o", "", at=900)
    write(top / "new.o", "", at=2000)
    write(build_dir.source / "elsewhere/.ninja_log", log, at=900)
    seen = f"5.0\t6.5\t7\t\t{project}/a.c\n1.0\t2.0\t8\tsm_80\t{HERE}/build/b.cu\n"
    build_dir.compiled.write_text(seen)
    running = f"6.0\t9.0\t7\t\t{HERE}/source/x-1.0/late.c\n"
    build_dir.memory.write_text(f"9 30 2 11 20 2\n{running}")
    text = tmp_path / "x.log"
    text.write_text("gcc -c a.c\n" * 9)

    assert collect_compiled(build_dir, text) == CompiledFiles(
        count=9,
        seconds=11,
        jobs=2,
        slowest=(
            CompiledFile(file="late.c", seconds=3.0, memory=7),
            CompiledFile(file="new.cc", seconds=2.0),
            CompiledFile(file="a.c", seconds=1.5, memory=7),
            CompiledFile(
                file="build/b.cu",
                seconds=1.0,
                memory=8,
                architectures=("sm_80",),
            ),
            CompiledFile(file="out/x.so", seconds=0.5),
        ),
    )
    assert read_activity(build_dir) == Activity(
        memory=20, files=("late.c",), done=2, most=2, seconds=11
    )
    build_dir.memory.write_text("9 30\n")  # by an older version
    assert read_activity(build_dir) is None
    assert build_dir.read_memory(1) is not None
