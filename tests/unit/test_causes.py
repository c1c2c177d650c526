"""The lines of a build's log that show why the build failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.diagnosis.causes import (
    MAX_ERRORS,
    MAX_LINES,
    find_causes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NOISE = "\n".join(f"copying file_{number}.py -> build/lib" for number in range(100))
"""What hides a cause from those who read the end of a log only."""

ENDING = """\
Traceback (most recent call last):
  File "/env/pyproject_hooks/_in_process.py", line 389, in <module>
    main()
    ~~~~^^
  File "/usr/lib/python3.11/subprocess.py", line 413, in check_call
    raise CalledProcessError(retcode, cmd)
subprocess.CalledProcessError: Command '['ninja']' returned non-zero exit status 1.

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/env/torch/utils/cpp_extension.py", line 2622, in _run_ninja_build
    raise RuntimeError(message) from e
RuntimeError: Error compiling objects for extension
"""

GCC = """\
In file included from src/a.cpp:1:
src/a.h:1:10: fatal error: cudnn.h: No such file or directory
    1 | #include <cudnn.h>
      |          ^~~~~~~~~
compilation terminated.
"""
CLANG = """\
src/a.cpp:1:10: fatal error: 'cudnn.h' file not found
#include <cudnn.h>
         ^~~~~~~~~
1 error generated.
"""
NVCC = """\
a.cu(12): error: identifier "undefined_x" is undefined
    undefined_x = 1;
    ^

1 error detected in the compilation of "a.cu".
"""
GFORTRAN = """\
a.f90:2:5:

    2 |  x =
      |     1
Error: Invalid character in name at (1)
"""
RUSTC = """\
   Compiling mine v0.1.0 (/src)
error[E0425]: cannot find value `y` in this scope
 --> src/lib.rs:1:26
  |
1 | fn main() { let x: i32 = y; }
  |                          ^ not found in this scope

error: could not compile `mine` (lib) due to 1 previous error
\N{COLLISION SYMBOL} maturin failed
  Caused by: Failed to build a native library through cargo
  Caused by: Cargo build finished with "exit status: 101"
"""
BUILD_SCRIPT = """\
error: failed to run custom build command for `openssl-sys v0.9.99`

Caused by:
  process didn't exit successfully: `/b/build-script-main` (exit status: 101)
  --- stdout
  cargo:rerun-if-env-changed=OPENSSL_DIR
  cargo:rerun-if-env-changed=OPENSSL_LIB_DIR

  --- stderr
  thread 'main' panicked at src/main.rs:3:5:
  Could not find directory of OpenSSL installation
warning: build failed, waiting for other jobs to finish...
"""
CARGO = """\
error: failed to get `leafy` as a dependency of package `rs v0.1.0 (/src)`

Caused by:
  download of config.json failed

Caused by:
  [6] Couldn't resolve host name (Could not resolve host: index.crates.example)
"""
CARGO_FOLDER = """\
error: failed to get `leafy` as a dependency of package `rs v0.1.0 (/src)`

Caused by:
  failed to load source for dependency `leafy`

Caused by:
  unable to update registry `crates-io`

Caused by:
  failed to update replaced source registry `crates-io`

Caused by:
  failed to read root of directory source: /crates

Caused by:
  Permission denied (os error 13)
"""
CMAKE = """\
-- The C compiler identification is GNU 12.2.0
CMake Error at CMakeLists.txt:1 (cmake_minimum_required):
  Compatibility with CMake < 3.5 has been removed from CMake.

  Update the VERSION argument <min> value.


-- Configuring incomplete, errors occurred!
See also "/b/CMakeFiles/CMakeOutput.log".
-- Something else
"""
MESON = '../meson.build:3:0: ERROR: Dependency "cairo" not found, tried pkgconfig\n'
CYTHON = """\
Error compiling Cython file:
------------------------------------------------------------
...
cdef int f():
    return undeclared
           ^
------------------------------------------------------------

mine.pyx:2:11: undeclared name not builtin: undeclared
"""
NINJA_UNKNOWN = """\
[3/9] generating table.c
FAILED: [code=2] table.c
cd /b && /usr/bin/mktable -o table.c
mktable: the table is empty
[4/9] cc -c b.c -o b.o
ninja: build stopped: subcommand failed.
"""
SHOWN = [
    (GCC, "src/a.h:1:10: fatal error: cudnn.h: No such file or directory"),
    ("<command-line>: fatal error: x.h: No such file", "<command-line>: fatal"),
    (CLANG, "src/a.cpp:1:10: fatal error: 'cudnn.h' file not found"),
    (NVCC, 'a.cu(12): error: identifier "undefined_x" is undefined'),
    (GFORTRAN, "Error: Invalid character in name at (1)"),
    (RUSTC, "error[E0425]: cannot find value `y` in this scope"),
    (BUILD_SCRIPT, "  Could not find directory of OpenSSL installation"),
    (CARGO_FOLDER, "  Permission denied (os error 13)"),
    (CARGO, "  [6] Couldn't resolve host name (Could not resolve host: index.cra"),
    (CMAKE, "  Compatibility with CMake < 3.5 has been removed from CMake."),
    (MESON, '../meson.build:3:0: ERROR: Dependency "cairo" not found'),
    (CYTHON, "mine.pyx:2:11: undeclared name not builtin: undeclared"),
    (NINJA_UNKNOWN, "mktable: the table is empty"),
    ("nvcc fatal   : Unsupported gpu architecture 'sm_20'", "nvcc fatal"),
    ("ptxas error   : Entry function uses too much shared data", "ptxas error"),
    ("nvlink error   : Undefined reference to 'f' in 'a.o'", "nvlink error"),
    ("/usr/bin/ld: cannot find -lcudart: No such file or directory", "/usr/bin/ld"),
    ("a.c:(.text+0xa): undefined reference to `foo'", "a.c:(.text+0xa)"),
    ("ld: error: undefined symbol: foo", "ld: error: undefined symbol"),
    ("ld.lld: error: unable to find library -lfoo", "ld.lld: error"),
    ("ld: library 'foo' not found", "ld: library"),
    ("make: *** No rule to make target 'b.x', needed by 'a.o'.  Stop.", "make: ***"),
    ("configure: error: no acceptable C compiler found in $PATH", "configure: error"),
    ("ninja: error: 'x.c', needed by 'x.o', missing and no known rule", "ninja: error"),
    ("a.i:3: Error: Syntax error in input(1).", "a.i:3: Error"),
    ("./main.go:3:5: undefined: x", "./main.go:3:5"),
    ("a.proto:3:1: Expected top-level statement.", "a.proto:3:1"),
    ("nvc++-Error-Unknown switch: -foo", "nvc++-Error"),
    ("NVC++-S-0155-Cannot open source file b.h (a.cpp: 3)", "NVC++-S-0155"),
    ("a.asm:3: error: parser: instruction expected", "a.asm:3: error"),
    ("clang: error: unsupported option '-fopenmp'", "clang: error"),
    ("a.f90(3): error #5082: Syntax error, found END-OF-STATEMENT", "a.f90(3)"),
    ("error: invalid command 'bdist_wheel'", "error: invalid command"),
    ("\x1b[1ma.c:1:1: \x1b[31merror: \x1b[0mno\x1b[K", "a.c:1:1: error: no"),
]


@pytest.mark.parametrize(("error", "line"), SHOWN)
def test_an_error_is_shown_wherever_it_is(error: str, line: str) -> None:
    """Of any compiler or tool, above a long ending of tracebacks."""
    log = f"{NOISE}\n{error}\nninja: build stopped: subcommand failed.\n{ENDING}"
    causes = find_causes(log.splitlines())
    assert causes.is_certain
    assert any(it.startswith(line) for it in causes.lines)
    assert not any("copying" in it or "Traceback" in it for it in causes.lines)
    assert "RuntimeError: Error compiling objects for extension" not in causes.lines


def test_an_error_is_shown_with_its_source() -> None:
    """And nothing else."""
    assert find_causes(f"{NOISE}\n{GCC}{ENDING}".splitlines()).lines == (
        "src/a.h:1:10: fatal error: cudnn.h: No such file or directory",
        "    1 | #include <cudnn.h>",
        "      |          ^~~~~~~~~",
    )


def test_of_a_build_script_only_its_errors_are_shown() -> None:
    """Its standard output says how it was run."""
    assert find_causes(BUILD_SCRIPT.splitlines()).lines == (
        "error: failed to run custom build command for `openssl-sys v0.9.99`",
        "Caused by:",
        "  process didn't exit successfully: `/b/build-script-main` (exit status: 101)",
        "  --- stdout",
        "  --- stderr",
        "  thread 'main' panicked at src/main.rs:3:5:",
        "  Could not find directory of OpenSSL installation",
    )


def test_what_setuptools_rust_prints_after_an_error_is_no_step() -> None:
    """It shows the output of cargo, which is empty."""
    ending = (
        "error: `cargo metadata --manifest-path Cargo.toml` failed with code 101",
        "-- Output captured from stdout:",
        "",
    )
    causes = find_causes([*NOISE.splitlines(), *CARGO.splitlines(), *ending])
    assert causes.is_certain
    assert causes.lines == tuple(filter(None, CARGO.splitlines()))


def test_the_first_errors_count() -> None:
    """Compilers report many that follow from the first."""
    errors = [f"a.c:{number}:1: error: no {number}" for number in range(1, 41)]
    lines = find_causes(errors).lines
    assert lines[:MAX_ERRORS] == tuple(errors[:MAX_ERRORS])
    assert lines[MAX_ERRORS:] == (f"… and {40 - MAX_ERRORS} more errors in the log",)


def test_errors_of_the_failed_step_count() -> None:
    """Other steps of ninja may print errors and succeed, before and after."""
    log = """\
    [1/3] python try_features.py
    x.c:1:10: fatal error: nice_to_have.h: No such file or directory
    [2/3] c++ -c a.cpp -o a.o
    FAILED: a.o
    c++ -c a.cpp -o a.o
    a.cpp:1:1: error: the cause
    [3/3] c++ -c b.cpp -o b.o
    y.c:1:10: fatal error: another.h: No such file or directory
    ninja: build stopped: subcommand failed.
    """
    lines = (line.removeprefix("    ") for line in log.splitlines())
    assert find_causes(lines).lines == ("a.cpp:1:1: error: the cause",)


TRIED = """\
gcc -c _configtest.c -o _configtest.o
_configtest.c:2:10: fatal error: nice_to_have.h: No such file or directory
failure.
building 'mine' extension
gcc -c a.c -o a.o
"""


def test_what_was_tried_in_vain_is_no_cause() -> None:
    """A build tries headers and compilers, and continues without them."""
    error = "a.c:1:1: error: the cause"
    failed = "error: command '/usr/bin/gcc' failed with exit code 1"
    assert find_causes([*TRIED.splitlines(), error, failed]).lines == (error,)


def test_an_exception_of_python_code_is_the_cause() -> None:
    """No error of a compiler before it is."""
    ending = """\
Traceback (most recent call last):
  File "/x.py", line 1, in <module>
    main()
  File "/y.py", line 2, in main
    import torch
ModuleNotFoundError: No module named 'torch'
"""
    causes = find_causes(f"{TRIED}{ending}".splitlines())
    assert causes.is_certain
    assert causes.lines == (
        '  File "/y.py", line 2, in main',
        "    import torch",
        "ModuleNotFoundError: No module named 'torch'",
    )


def test_errors_are_shown_with_what_the_build_says_about_them() -> None:
    """If it says more than that a program failed."""
    last = "error: Cannot compile MPI programs. Check your configuration!!!"
    error = "_configtest.c:2:10: fatal error: mpi.h: No such file or directory"
    assert find_causes([error, "failure.", last]).lines == (error, last)


def test_parallel_steps_may_follow_an_error_of_a_compiler() -> None:
    """The build ends when all of them have ended."""
    error = "a.c:1:1: error: the cause"
    failed = "error: command '/usr/bin/gcc' failed with exit code 1"
    log = [error, "gcc -c b.c -o b.o", "gcc -c c.c -o c.o", failed]
    assert find_causes(log).lines == (error,)


def test_tracebacks_are_reduced_to_their_last_frame() -> None:
    """In a chain all exceptions are shown, with a message of several lines."""
    log = """\
preparing
Traceback (most recent call last):
  File "/a.py", line 1, in f
    g()
  File "/a.py", line 2, in g
    raise KeyError("x")
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/a.py", line 9, in h
    raise RuntimeError(text)
RuntimeError:
The version of the driver is too old.
"""
    causes = find_causes(log.splitlines())
    assert [line for line in causes.lines if line][-8:] == [
        '  File "/a.py", line 2, in g',
        '    raise KeyError("x")',
        "KeyError: 'x'",
        "During handling of the above exception, another exception occurred:",
        '  File "/a.py", line 9, in h',
        "    raise RuntimeError(text)",
        "RuntimeError:",
        "The version of the driver is too old.",
    ]


def test_without_a_known_error_the_end_of_the_log_is_shown() -> None:
    """And lines above the end that look like errors."""
    log = [
        "/env/bin/python: No module named pip",
        *(f"line {number}" for number in range(100)),
        "-- Could NOT find CUDA",
    ]
    causes = find_causes(log)
    assert not causes.is_certain
    assert causes.lines[:2] == (log[0], "…")
    assert causes.lines[2:] == tuple(log[-(MAX_LINES - 2) :])
    assert find_causes(["a", "b"]).lines == ("a", "b")
    assert find_causes([]).lines == ()


@pytest.mark.parametrize(
    "line",
    [
        "gcc -Werror=format-security -c error.c -o error.o",
        "copying errors/error.py -> build/lib/errors",
        "test_error.c:12:3: warning: unused variable 'error' [-Wunused]",
        "0 errors, 3 warnings",
        "checking for error: no",
        "-- Could NOT find CUDA (missing: CUDA_TOOLKIT_ROOT_DIR)",
    ],
)
def test_other_lines_are_no_errors(line: str) -> None:
    """Though they contain the word."""
    assert not find_causes([line, "exit"]).is_certain


def test_a_long_log_is_read_in_bounded_memory() -> None:
    """Lines come one by one, none is asked for twice, and long ones are cut."""

    def log() -> Iterator[str]:
        yield "a.c:1:1: error: " + "x" * 5000
        for number in range(20_000):
            yield f"a.c:{number}:1: error: {number}"

    lines = find_causes(log()).lines
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 300
