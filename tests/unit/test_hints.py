"""A build's log, and the hint that it earns."""

from __future__ import annotations

import pytest

from nox_buildstages.builder.hints import (
    find_hint,
    is_out_of_memory,
    memory_hint,
    missing_module,
)

CASES = [
    ("ModuleNotFoundError: No module named 'torch'", '"torch"'),
    ("ModuleNotFoundError: No module named 'numpy.core'", '"numpy"'),
    ("OSError: [Errno 28] No space left on device", "a disk is full"),
    ("g++: fatal error: Killed signal terminated program cc1plus", "memory-per-job"),
    ("nvcc error   : 'cicc' died due to signal 9 (Kill signal)", "memory"),
    (
        "The detected CUDA version (12.4) mismatches the version of PyTorch (13.0)",
        "nvcc is of CUDA 12.4",
    ),
    ("OSError: CUDA_HOME environment variable is not set.", 'pass-env = ["CUDA_HOME"]'),
    ("/usr/local/cuda/bin/nvcc: No such file or directory", "CUDA_HOME"),
    (
        "FileNotFoundError: No such file or directory: '/usr/local/cuda/bin/nvcc'",
        "nvcc",
    ),
    ("flash_attn was requested, but nvcc was not found.  Are you …", "CUDA_HOME"),
    ("  No CMAKE_CUDA_COMPILER could be found.", "CUDA_HOME"),
    ("  Failed to find nvcc.", "CUDA_HOME"),
    ("RuntimeError: Ninja is required to load C++ extensions", '"ninja"'),
    ("meson-python: error: Could not find ninja version 1.8.2 or newer.", '"ninja"'),
    ("ERROR: Could not detect Ninja v1.8.2 or newer", '"ninja"'),
    (
        'CMake was unable to find a build program corresponding to "Ninja".',
        '"ninja"',
    ),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'ninja'", '"ninja"'),
    ("/bin/sh: 1: ninja: not found", '"ninja"'),
    ("error: command 'g++' failed: No such file or directory", "compiler is missing"),
    ("error: [Errno 2] No such file or directory: 'gcc'", "compiler is missing"),
    (
        "error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
        "compiler is missing",
    ),
    ("/bin/sh: 1: g++: not found", "compiler is missing"),
    ("./configure: line 7: gcc-12: command not found", "compiler is missing"),
    ("make[1]: c++: No such file or directory", "compiler is missing"),
    ("error: linker `cc` not found", "compiler is missing"),
    ("  No CMAKE_CXX_COMPILER could be found.", "compiler is missing"),
    (
        "../meson.build:1:0: ERROR: Unknown compiler(s): [['icx'], ['cc'], ['gcc']]",
        "compiler is missing",
    ),
    ("a.c:1:10: fatal error: Python.h: No such file or directory", "headers of Python"),
    ("a.c:1:10: fatal error: 'Python.h' file not found", "headers of Python"),
    ("/env/bin/python: No module named cython", '"cython"'),
    (
        "error: … top-level packages discovered in a flat-layout: ['a', 'wheelhouse'].",
        'packages = ["…"] in [tool.setuptools]',
    ),
]


@pytest.mark.parametrize(("line", "words"), CASES)
def test_a_known_cause_earns_a_hint(line: str, words: str) -> None:
    """It is found wherever in the log it stands, and names what mends it."""
    found = find_hint(
        ["running build_ext", line, "error: exit status 1"], stage="kernels"
    )
    assert words in found


def test_the_hint_names_the_stage() -> None:
    """So that the user knows which table to change."""
    found = find_hint(["No module named 'torch'"], stage="kernels")
    assert "dependencies of stage kernels" in found


def test_the_project_itself_is_mended_where_it_is_declared() -> None:
    """No table of a stage is its own, and where only that would do nothing is said."""
    found = find_hint(["No module named 'torch'"], stage="project")
    assert 'add "torch" to requires in [build-system]' in found
    assert (
        find_hint(["CUDA_HOME environment variable is not set"], stage="project") == ""
    )


@pytest.mark.parametrize(
    "line",
    [
        "urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>",
        "urllib.error.URLError: <urlopen error [Errno 101] Network is unreachable>",
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "ConnectionError: Failed to establish a new connection: [Errno 101] …",
        "curl: (6) Could not resolve host: example.org",
        "fatal: unable to access 'https://example.org/': Could not resolve host: …",
        "wget: unable to resolve host address 'example.org'",
        "warning: spurious network error: [6] Couldn't resolve host name",
        "go: dial tcp: lookup proxy: Temporary failure in name resolution",
    ],
)
def test_a_network_that_is_off_earns_a_hint(line: str) -> None:
    """Where it was on, it is another's fault, and nothing is said."""
    found = find_hint(["downloading …", line, "exit status 1"], stage="a", offline=True)
    assert "network = true for stage a" in found
    assert find_hint([line], stage="a") == ""


def test_what_is_missing_counts_before_the_network() -> None:
    """Who doesn't find a module may try to fetch it."""
    lines = ["No module named 'cmake'", "<urlopen error [Errno 101] …>"]
    found = find_hint(lines, stage="a", offline=True)
    assert '"cmake"' in found


def test_of_several_modules_the_last_one_counts() -> None:
    """The others were tried, and something else done."""
    lines = [
        "No module named 'tomllib'",
        "During handling …",
        "No module named 'numpy'",
    ]
    found = find_hint(lines, stage="a")
    assert '"numpy"' in found


@pytest.mark.parametrize(
    "line",
    [
        "x.cpp:1:2: error: expected ';'",
        "a.c:1:10: fatal error: cc.h: No such file or directory",
        "ERROR: Unknown compiler(s): [['gfortran'], ['flang']]",
    ],
)
def test_an_unknown_cause_earns_none(line: str) -> None:
    """A guess would lead astray."""
    assert find_hint([line], stage="kernels") == ""
    optional = "-- Could NOT find CUDA (missing: CUDA_TOOLKIT_ROOT_DIR)"
    assert find_hint([optional], stage="kernels") == ""


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("ModuleNotFoundError: No module named 'torch'", "torch"),
        ("ModuleNotFoundError: No module named 'torch.utils.cpp_extension'", "torch"),
        ("/usr/bin/python: No module named pip", "pip"),
        ("No module named 'a'\nDuring handling …\nNo module named 'b'", "b"),
        ("RuntimeError: out of words", None),
    ],
)
def test_a_missing_module_is_named(text: str, module: str | None) -> None:
    """It is the top-level module that was looked for last."""
    assert missing_module(text.splitlines()) == module


@pytest.mark.parametrize(
    "line",
    [
        "g++: fatal error: Killed signal terminated program cc1plus",
        "c++: fatal error: Killed",
        "clang++: error: unable to execute command: Killed",
        "nvcc error   : 'cicc' died due to signal 9 (Kill signal)",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
        "error: could not compile `x` (signal: 9, SIGKILL: kill)",
        "subprocess.CalledProcessError: … died with <Signals.SIGKILL: 9>.",
        "make[1]: *** [Makefile:2: a.o] Error 137",
        "make: *** [Makefile:2: all] Killed",
        "FAILED: [code=137] a.o ",
        "Killed",
        "killed by signal 9",
        "exit status 137",
        "MemoryError",
        "cc1plus: out of memory allocating 65536 bytes after a total of 3 bytes",
        "virtual memory exhausted: Cannot allocate memory",
        "LLVM ERROR: out of memory",
    ],
)
def test_a_compiler_killed_for_memory_is_recognised(line: str) -> None:
    """In the words of compilers, linkers, make and ninja; so is a killed backend."""
    assert is_out_of_memory(["[1/9] c++ a.cpp\n", f"{line}\n", "[2/9] c++ b.cpp\n"])
    assert find_hint([line], stage="kernels") == memory_hint("kernels", jobs=2)


def test_where_it_had_one_job_fewer_are_no_help() -> None:
    """Then nothing but memory is."""
    assert "run fewer at once" in memory_hint("kernels", jobs=2)
    assert "a machine with more memory" in memory_hint("kernels", jobs=1)


@pytest.mark.parametrize(
    "line",
    [
        "compiling memory_error.cpp",
        "except MemoryError:",
        "killed by signal 15",
        "make: *** [Makefile:2: a.o] Error 1",
        "cc1plus: out of words",
        "error: Killedness was not declared in this scope",
    ],
)
def test_other_words_tell_of_no_memory(line: str) -> None:
    """So that nothing is built twice in vain."""
    assert not is_out_of_memory([line])
