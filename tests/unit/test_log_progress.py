"""A build's log, and how far it says that the build is."""

from __future__ import annotations

import pytest

from nox_buildstages.run.log_progress import (
    LogSteps,
    Progress,
    Rate,
    count_steps,
    measure_progress,
)
from nox_buildstages.store.compiled import Activity

CMAKE_NINJA = """\
-- Configuring done (0.9s)
-- Build files have been written to: /project/n
[1/5] Building C object CMakeFiles/a.dir/a.c.o
[2/5] Building CXX object CMakeFiles/a.dir/b.cpp.o
[3/5] Building C object CMakeFiles/d.dir/d.c.o
[4/5] Linking CXX shared library liba.so
[5/5] Linking C shared library libd.so
"""

MESON = """\
Found ninja-1.13.0 at /environment/bin/ninja
INFO: autodetecting backend as ninja
INFO: calculating backend command to run: /environment/bin/ninja -C /project/mb
ninja: Entering directory `/project/mb'
[1/3] Compiling C object demo.cpython-311-x86_64-linux-gnu.so.p/a.c.o
[2/3] Compiling C++ object demo.cpython-311-x86_64-linux-gnu.so.p/b.cpp.o
[3/3] Linking target demo.cpython-311-x86_64-linux-gnu.so
"""

CMAKE_MAKE = """\
-- Build files have been written to: /project/m
[ 20%] Building C object CMakeFiles/a.dir/a.c.o
[ 40%] Building C object CMakeFiles/d.dir/d.c.o
[ 60%] Building CXX object CMakeFiles/a.dir/b.cpp.o
[ 80%] Linking C shared library libd.so
[ 80%] Built target d
[100%] Linking CXX shared library liba.so
[100%] Built target a
"""

MAKE = """\
cc -O2 -fPIC -c -o a.o a.c
cc -O2 -fPIC -c -o d.o d.c
cc -shared -o liball.so a.o d.o
"""

SETUPTOOLS = """\
Compiling x.pyx because it changed.
Compiling y.pyx because it changed.
[1/2] Cythonizing x.pyx
[2/2] Cythonizing y.pyx
running build_ext
building 'pk.x' extension
creating build/temp.linux-x86_64-cpython-311
gcc -Wsign-compare -DNDEBUG -O3 -fPIC -I/include/python3.11 -c x.c -o build/x.o
gcc -shared -L/lib build/x.o -o build/lib/pk/x.cpython-311-x86_64-linux-gnu.so
building 'pk.y' extension
gcc -Wsign-compare -DNDEBUG -O3 -fPIC -I/include/python3.11 -c y.c -o build/y.o
gcc -Wsign-compare -DNDEBUG -O3 -fPIC -I/include/python3.11 -c z.c -o build/z.o
gcc -shared -L/lib build/y.o build/z.o -o build/lib/pk/y.so
adding 'pk/x.cpython-311-x86_64-linux-gnu.so'
"""

TORCH = """\
building 'flash_attn_2_cuda' extension
Emitting ninja build file /project/build/build.ninja...
Allowing ninja to set a default number of workers...
[1/2] c++ -MMD -MF /project/build/api.o.d -O3 -c -c api.cpp -o api.o
[2/2] /usr/local/cuda/bin/nvcc -O3 -c -c fwd.cu -o fwd.o
x86_64-linux-gnu-g++ -shared api.o fwd.o -o flash_attn_2_cuda.so
building 'layer_norm' extension
[1/3] c++ -MMD -MF /project/build/ln.o.d -O3 -c -c ln.cpp -o ln.o
"""

CARGO = """\
   Compiling libc v0.2.153
   Compiling pyo3-build-config v0.21.2
   Compiling demo v0.1.0 (/project)
    Finished `release` profile [optimized] target(s) in 0.77s
"""


@pytest.mark.parametrize(
    ("log", "steps"),
    [
        (CMAKE_NINJA, "1/5 steps, 2/5 steps, 3/5 steps, 4/5 steps, 5 steps"),
        (MESON, "1/3 steps, 2/3 steps, 3 steps"),
        (CMAKE_MAKE, "20 %, 40 %, 60 %, 80 %, 99 %"),
        (MAKE, "1 file"),
        (SETUPTOOLS, "1 file, 2 files"),
        (TORCH, "1/2 steps, 2 steps, 1/3 steps"),
        (CARGO, "1 file, 2 files"),
        ("[37 / 84] Compiling x.cc; 3s linux-sandbox\n", "37/84 steps"),
        ("running build\ncopying a.py -> build/lib\n", ""),
    ],
    ids=[
        "ninja",
        "meson",
        "cmake",
        "make",
        "setuptools",
        "torch",
        "cargo",
        "bazel",
        "-",
    ],
)
def test_the_log_of_a_tool_is_the_progress(log: str, steps: str) -> None:
    """Steps that a tool states count as done. Of compilers, the last one still runs."""
    found = LogSteps()
    seen: list[str] = []
    for text in log.splitlines():
        found = found.after(text)
        progress = str(measure_progress(found, None))
        if progress and progress not in seen[-1:]:
            seen.append(progress)
    assert ", ".join(seen) == steps
    assert count_steps(log.splitlines()) == found


@pytest.mark.parametrize(
    "text",
    [
        "gcc -pthread -c a.c -o a.o",
        "/usr/bin/c++ -O3 -c a.cpp",
        "x86_64-linux-gnu-g++-12 -O3 -c a.cpp",
        "clang++-14 -O3 -c a.cpp",
        "/usr/local/cuda/bin/nvcc -O3 -c a.cu",
        "ccache cc -c a.c",
        "/usr/bin/sccache /usr/bin/cc -c a.c",
        "libtool: compile:  gcc -c a.c",
        "[COMMAND] gcc -c a.c -o a.o",
        "gfortran -O2 -c a.f90",
    ],
)
def test_a_compiler_is_counted(text: str) -> None:
    """By whatever name it is run."""
    assert count_steps([text]) == LogSteps(begun=1)


@pytest.mark.parametrize(
    "text",
    [
        "python -c 'import x'",
        "gcc -shared a.o -o a.so",
        "cc1plus: warning: -c is odd",
        "  gcc: error: no -c here",
        "Compiling x.pyx because it changed.",
        "[2/2] Cythonizing blis/py.pyx",
        "[section/name] of a file",
        "[7%]",
    ],
)
def test_other_lines_are_not_counted(text: str) -> None:
    """So that the number means something."""
    assert count_steps([text]) == LogSteps()


def test_commands_that_a_tool_echoes_are_not_counted() -> None:
    """It has said how far it is, and says so again."""
    verbose = ["[ 20%] Building C object a.c.o", "/usr/bin/cc -c a.c", "[ 40%] …"]
    assert [count_steps(verbose[:it]).done for it in (2, 3)] == [20, 40]


def activity(done: int, *files: str) -> Activity:
    """Return what a supervisor sees of a build."""
    return Activity(memory=7, files=files, done=done, most=2, seconds=9)


@pytest.mark.parametrize(
    ("steps", "seen", "previous", "shown"),
    [
        (LogSteps(), None, None, ""),
        (LogSteps(), None, 9, "0/9 files"),
        (LogSteps(begun=1), None, 1, "0/1 files"),
        (LogSteps(begun=1), activity(0, "a.c"), 1, "0/1 files"),
        (LogSteps(begun=9), activity(4, "a.c", "b.c"), None, "7 files"),
        (LogSteps(begun=9), activity(4, "a.c", "b.c"), 12, "7/12 files"),
        (LogSteps(begun=9), activity(9), 9, "9 files"),
        (LogSteps(begun=9), activity(9), 8, "9 files"),
        (LogSteps(), activity(4, "a.c", "b.c"), None, "4 files"),
        (LogSteps(), activity(0, "a.c"), None, ""),
        (LogSteps(done=1, total=2), activity(4, "a.c"), 12, "1/2 steps"),
        (LogSteps(done=2, total=2), activity(4, "a.c"), 12, "2 steps"),
        (LogSteps(done=100, total=100, unit="%"), activity(4), None, "99 %"),
    ],
)
def test_files_that_are_compiled_now_are_not_done(
    steps: LogSteps, seen: Activity | None, previous: int | None, shown: str
) -> None:
    """Nor is a total shown that is unknown, or an end that isn't there."""
    progress = measure_progress(steps, seen, previous)
    assert str(progress) == shown
    assert (progress.files, progress.memory) == (
        (seen.files, 7) if seen is not None else ((), 0)
    )


def paced(*seen: tuple[float, int]) -> Rate:
    """Return the pace of what was done at each moment."""
    pace = Rate()
    for now, done in seen:
        pace = pace.after(done, now=now)
    return pace


@pytest.mark.parametrize(
    ("seen", "now", "left"),
    [
        ((), 10.0, None),
        ([(5.0, 1)], 10.0, None),
        ([(5.0, 1), (6.0, 3)], 6.0, None),
        ([(10.0, 0), (10.0, 1), (40.0, 4)], 40.0, 60.0),
        ([(10.0, 1), (40.0, 4)], 45.0, 55.0),
        ([(10.0, 1), (40.0, 4), (50.0, 4)], 45.0, 55.0),
        ([(10.0, 1), (40.0, 4)], 400.0, None),
        ([(1.0, 1), (2.0, 9), (10.0, 1), (40.0, 4)], 40.0, 60.0),
    ],
    ids=["none", "one", "few", "pace", "since", "same", "late", "anew"],
)
def test_the_pace_of_steps_says_what_is_left(
    seen: list[tuple[float, int]], now: float, left: float | None
) -> None:
    """From the first step that was seen on, once three more are done."""
    assert paced(*seen).seconds_left(Progress(done=4, total=10), now=now) == left


def test_without_a_total_nothing_is_left() -> None:
    """Nobody knows."""
    pace = paced((1.0, 1), (9.0, 9))
    assert pace.seconds_left(Progress(done=9), now=9.0) is None
