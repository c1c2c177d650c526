"""A build's log, and the hint that it earns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.builder.diagnosis.causes import is_suspicious
from nox_buildstages.builder.diagnosis.hints import (
    find_hint,
    find_import_hint,
    find_missing_library,
    find_unseen_variable,
    is_out_of_memory,
    memory_hint,
)
from nox_buildstages.builder.diagnosis.situation import Situation
from nox_buildstages.builder.home import HomeSettings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def situation(**known: Any) -> Situation:  # noqa: ANN401 - as the fields
    return Situation(**{"output": "mine", "stage": "kernels", **known})


def hint(lines: Iterable[str], **known: Any) -> str:  # noqa: ANN401 - as the fields
    return find_hint(["\n".join(lines)], situation(**known)).text


CASES = [
    ("ModuleNotFoundError: No module named 'torch'", '"torch"'),
    ("ModuleNotFoundError: No module named 'numpy.core'", '"numpy"'),
    ("OSError: [Errno 28] No space left on device", "a disk is full"),
    (
        "The detected CUDA version (12.4) mismatches the version of PyTorch (13.0)",
        "nvcc is of CUDA 12.4",
    ),
    ("OSError: CUDA_HOME environment variable is not set.", 'add "cuda-toolkit[nvcc,'),
    ("/usr/local/cuda/bin/nvcc: No such file or directory", "cuda-toolkit"),
    (
        "FileNotFoundError: No such file or directory: '/usr/local/cuda/bin/nvcc'",
        "nvcc",
    ),
    ("flash_attn was requested, but nvcc was not found.  Are you …", "cuda-toolkit"),
    ("  No CMAKE_CUDA_COMPILER could be found.", "cuda-toolkit"),
    ("  Failed to find nvcc.", "cuda-toolkit"),
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
    assert is_suspicious(line)
    found = hint(["running build_ext", line, "error: exit status 1"])
    assert words in found


def test_the_hint_names_the_stage() -> None:
    """So that the user knows which table to change."""
    found = hint(["No module named 'torch'"], stage="kernels")
    assert "dependencies of stage kernels" in found


def test_the_project_itself_is_mended_where_it_is_declared() -> None:
    """No table of a stage is its own, and where only that would do nothing is said."""
    found = hint(["No module named 'torch'"], stage="project")
    assert 'add "torch" to requires in [build-system]' in found
    assert hint(["CUDA_HOME environment variable is not set"], stage="project") == ""


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
        "dial tcp: lookup proxy.golang.org: no such host",
        "npm ERR! request to https://registry.example/ failed, reason: EAI_AGAIN",
        "java.net.UnknownHostException: repo.example",
    ],
)
def test_a_network_that_is_off_earns_a_hint(line: str) -> None:
    """If it was on, this machine doesn't reach a server; the table can't help."""
    found = hint(["downloading …", line, "exit status 1"], stage="a", is_offline=True)
    assert "network = true for stage a" in found
    found = hint([line], stage="a")
    named = next((it for it in ("example.org", "registry.example") if it in line), "")
    assert found.endswith(
        f"can't reach {named or 'a server'}: see that this machine can"
    )


def test_a_proxy_that_a_build_does_not_see_is_named() -> None:
    """With the key that passes it on."""
    found = hint(
        ["Could not resolve host: example.org"], outer={"HTTPS_PROXY": "http://p"}
    )
    assert "HTTPS_PROXY is set here, but builds don't see it: pass-env" in found


REFUSED = [
    "x.c:1:10: fatal error: {}: Permission denied",
    "PermissionError: [Errno 13] Permission denied: '{}'",
    "  failed to read root: {}\nCaused by:\n  Permission denied (os error 13)",
]


@pytest.mark.parametrize("line", REFUSED)
def test_a_file_that_the_sandbox_hides_is_let_in(line: str, tmp_path: Path) -> None:
    """By a variable with its folder; if that didn't help, without the sandbox."""
    path = tmp_path / "x.h"
    path.touch()
    seen = {"VIRTUAL_ENV": "/env"}
    first, *table = hint(
        [line.format(path)], is_restricted=True, seen=seen
    ).splitlines()
    assert first == (
        f"the sandbox keeps its build from {path}: if it reads that, name the folder in"
        " a variable of any name, in pyproject.toml:"
    )
    assert table == [
        "[tool.nox-buildstages.package.mine]",
        f'env = {{ MINE_FILES = "{tmp_path}" }}',
    ]
    seen["MINE_FILES"] = str(tmp_path)
    found = hint([line.format(path)], is_restricted=True, seen=seen)
    assert "or set sandbox = false for stage kernels" in found
    assert not hint([line.format(path)], seen=seen)


def test_a_build_writes_to_a_folder_for_temporary_files() -> None:
    """A file that isn't there is one that the build would make."""
    lines = ["PermissionError: [Errno 13] Permission denied: '/tmp/not-there/x'"]
    found = hint(lines, is_restricted=True, seen={"VIRTUAL_ENV": "/env"})
    assert "patch it to write to the folder that TMPDIR names" in found


def test_crates_come_from_the_network() -> None:
    """Their source is rarely in an sdist, and a folder for them is no short advice."""
    lines = [
        "error: failed to get `bstr` as a dependency of package `mine v0.14.0`",
        "  download of config.json failed: Could not resolve host: index.example",
        "error: `cargo metadata --manifest-path Cargo.toml` failed with code 101",
    ]
    assert hint(lines, stage="a", is_offline=True) == (
        "its crates aren't in its source, and builds have no network: set network ="
        " true for stage a"
    )
    home = HomeSettings(other_mirrors=("/etc/pip.conf",))
    found = hint(lines, stage="a", is_offline=True, home=home)
    assert "have no network: add them, with cargo vendor\n" in found


@pytest.mark.parametrize(
    ("log", "package"),
    [
        (
            "Package 'libzmq', required by 'world', not found\n<urlopen error …>",
            "libzmq3-dev",
        ),
        (
            "Dependency png found: NO\nDependency x found: NO\n<urlopen error …>\n",
            "libpng-dev",
        ),
        ("<urlopen error …>\nDependency zlib found: NO", ""),
        ("Package 'nobodys' not found\nCould not resolve host: a.example", ""),
        ("-- Found PkgConfig: 1.8.1\nCould not resolve host: a.example", ""),
    ],
)
def test_a_library_that_a_build_would_download_is_named(log: str, package: str) -> None:
    """Many builds look for a library first, and the last one counts."""
    found = find_missing_library(log.splitlines())
    assert found.endswith(f"`apt install {package}`" if package else "")
    assert bool(found) == bool(package)


def test_what_is_missing_counts_before_the_network() -> None:
    """Who doesn't find a module may try to fetch it."""
    lines = ["No module named 'cmake'", "<urlopen error [Errno 101] …>"]
    found = hint(lines, stage="a", is_offline=True)
    assert '"cmake"' in found


def test_of_several_modules_the_last_one_counts() -> None:
    """The others were tried, and something else done."""
    lines = [
        "No module named 'tomllib'",
        "During handling …",
        "No module named 'numpy'",
    ]
    found = hint(lines, stage="a")
    assert '"numpy"' in found


@pytest.mark.parametrize(
    "line",
    [
        "x.cpp:1:2: error: expected ';'",
        "CMake Error at CMakeLists.txt:3 (message):",
    ],
)
def test_an_unknown_cause_earns_none(line: str) -> None:
    """A guess would lead astray."""
    assert hint([line], stage="kernels") == ""
    optional = "-- Could NOT find CUDA (missing: CUDA_TOOLKIT_ROOT_DIR)"
    assert hint([optional], stage="kernels") == ""


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("ModuleNotFoundError: No module named 'torch'", "torch"),
        (
            "ModuleNotFoundError: No module named 'torch.utils.cpp_extension'",
            "torch.utils.cpp_extension",
        ),
        ("/usr/bin/python: No module named pip", "pip"),
        ("No module named 'a'\nDuring handling …\nNo module named 'b'", "b"),
        ("RuntimeError: out of words", ""),
    ],
)
def test_a_missing_module_is_named(text: str, module: str) -> None:
    """It is the module that was looked for last."""
    assert find_hint([text], situation()).module == module


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
    assert is_out_of_memory(f"{line}\n")


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
    assert not is_out_of_memory(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.c:1:10: fatal error: openssl/ssl.h: No such file", "libssl-dev"),
        ("a.c:1:10: fatal error: 'mpi.h' file not found", "libopenmpi-dev"),
        ("a.c:1:1: fatal error: nobodys.h: No such file", 'env = { CPATH = "…" }'),
        ("a.cu:1:1: fatal error: cusparse.h: No such file", "CUDA"),
        ("a.c:1:1: fatal error: numpy/arrayobject.h: No such file", 'add "numpy"'),
        ("a.c:1:1: fatal error: pybind11/pybind11.h: No such file", 'add "pybind11"'),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'dot'", "graphviz"),
        ("[Errno 2] No such file or directory: 'curl-config'", "libcurl4-openssl-dev"),
        ("Error: pg_config executable not found.", "libpq-dev"),
        ("/bin/sh: 1: mysql_config: not found", "default-libmysqlclient-dev"),
        ("/bin/bash: line 1: mpicc: command not found", "libopenmpi-dev"),
        ("Could not find `dot`", "graphviz"),
        ("/bin/sh: 1: nobodys-tool: not found", "the program nobodys-tool is missing"),
        ("make: flex: No such file or directory", "apt install flex"),
        ("error: command 'swig' failed: No such file or directory", 'add "swig"'),
        ("is `cmake` not installed?", 'add "cmake"'),
        ('meson.build:3:0: ERROR: Dependency "cairo" not found', "libcairo2-dev"),
        ("No package 'libxml-2.0' found", "libxml2-dev"),
        (
            "Package dbus-1 was not found in the pkg-config search path.",
            "libdbus-1-dev",
        ),
        ("Package 'gobject-introspection-1.0' not found", "libgirepository1.0-dev"),
        ("ERROR: Program 'bison' not found or not executable", "apt install bison"),
        ("  Could NOT find OpenSSL, try to set the path", "libssl-dev"),
        ('  Could not find a package configuration file provided by "GDAL"', "libgdal"),
        ("The system library `openssl` required by crate `x` was not", "libssl-dev"),
        ("a.c:1:10: fatal error: sqlfront.h: No such file or directory", "freetds-dev"),
        ("a.c:1:10: fatal error: sqltypes.h: No such file", "unixodbc-dev"),
        ("a.c:1:10: fatal error: lapacke.h: No such file", "liblapacke-dev"),
        ("a.c:1:10: fatal error: panel.h: No such file", "libncurses-dev"),
        ("/usr/bin/ld: cannot find -lpq: No such file or directory", "libpq-dev"),
        ("ld.lld: error: unable to find library -lz", "zlib1g-dev"),
        ("ld: cannot find -lnobodys", 'env = { LIBRARY_PATH = "…" }'),
        ("  No CMAKE_Fortran_COMPILER could be found.", "apt install gfortran"),
        (
            "  Compatibility with CMake < 3.5 has been removed from CMake.",
            'env = { CMAKE_POLICY_VERSION_MINIMUM = "3.5" }',
        ),
        ("error: invalid command 'bdist_wheel'", 'add "wheel"'),
    ],
)
def test_what_the_system_lacks_is_named(line: str, words: str) -> None:
    """With the package of Debian or PyPI that has it, if it is known."""
    assert is_suspicious(line)
    assert words in hint(["compiling", line])


def test_an_unknown_program_is_named_if_it_is_one() -> None:
    """Python's error is the same for a file that isn't there."""
    error = "FileNotFoundError: [Errno 2] No such file or directory: 'nobodys-tool'"
    frame = '  File "/usr/lib/subprocess.py", line 1955, in _execute_child'
    assert hint([error]) == ""
    assert "the program nobodys-tool" in hint([frame, "    raise x", error])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "ModuleNotFoundError: No module named 'pkg_resources'",
            'it imports the module pkg_resources: add "setuptools<82" to the',
        ),
        ("ModuleNotFoundError: No module named 'yaml'", 'add "pyyaml" to the requirem'),
        (
            "ModuleNotFoundError: No module named 'numpy.nothing'",
            "numpy 2.5.0 has no numpy.nothing: use another version of numpy",
        ),
        ("ModuleNotFoundError: No module named 'imp'", "use an older Python"),
        ("ModuleNotFoundError: No module named 'urllib2'", "it is for Python 2"),
        ("ModuleNotFoundError: No module named 'mine'", "name modules of the runtime"),
        ("ModuleNotFoundError: No module named 'mine.a'", "name modules of the runti"),
        ("ModuleNotFoundError: No module named 'mine.abc'", '"mine" to the requireme'),
        (
            "ImportError: cannot import name 'Mapping' from 'collections' (/x.py)",
            "Python 3.12 has no collections.Mapping: use an older Python, or patch",
        ),
        (
            "AttributeError: module 'numpy' has no attribute 'float'.",
            "numpy 2.5.0 has no numpy.float: use another version of numpy",
        ),
        ("ImportError: libx.so.1: cannot open shared object file", ""),
    ],
)
def test_a_failed_import_of_the_runtime_earns_a_hint(error: str, words: str) -> None:
    """A module may be missing there that the build had."""
    known = situation(output="", python="3.12", packages={"numpy": "2.5.0"})
    found = find_import_hint(error, "mine.a", known)
    assert words in found
    assert bool(words) == bool(found)


MODULES = [
    (
        "pkg_resources",
        {"setuptools": "84.2.1"},
        'has no pkg_resources: add "setuptools<82"',
    ),
    ("pkg_resources", {}, 'add "setuptools<82"'),
    ("pkg_resources.extern", {"setuptools": "80"}, 'add "setuptools<71"'),
    ("distutils.msvccompiler", {"setuptools": "80"}, 'add "setuptools<74"'),
    ("torch._six", {"torch": "2.13.0+cpu"}, 'add "torch<2"'),
    ("numpy.distutils", {"numpy": "2.5.0"}, "use Python 3.11"),
    ("numpy.nothing", {"numpy": "2.5.0"}, "numpy 2.5.0 has no numpy.nothing: use ano"),
    ("torch", {"torch": "2.13.0"}, "its build can't import torch, which the env"),
    ("imp", {}, "Python 3.12 has no module imp: use an older Python"),
    (
        "ConfigParser",
        {},
        "its build is for Python 2, which had a module ConfigParser: patch",
    ),
    ("cgi", {}, "use an older Python"),
    ("_ctypes", {}, "use another Python"),
    ("distutils", {}, 'add "setuptools"'),
    ("mine.version", {}, "its build imports mine.version, which it only builds"),
    ("versioneer", {}, 'env = { PYTHONPATH = "." }'),
    ("PIL", {}, 'add "pillow"'),
    ("google.protobuf", {}, 'add "protobuf"'),
    ("ruamel.yaml", {}, 'add "ruamel-yaml"'),
    ("skbuild", {}, 'add "scikit-build"'),
]


@pytest.mark.parametrize(("module", "packages", "words"), MODULES)
def test_a_missing_module_gets_what_can_help(
    module: str, packages: dict[str, str], words: str
) -> None:
    """Never what is there already, and never what can't have the module."""
    line = f"ModuleNotFoundError: No module named '{module}'"
    found = hint([line], packages=packages, python="3.12", source={"versioneer"})
    assert words in found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("module 'pkgutil' has no attribute 'ImpImporter'", 'add "setuptools>=66.1"'),
        (
            "module 'configparser' has no attribute 'SafeConfigParser'",
            "Python 3.12 has no configparser.SafeConfigParser: use an older Python",
        ),
        ("module 'numpy' has no attribute 'int'", "numpy 2.5.0 has no numpy.int: use"),
        ("module 'mine' has no attribute 'x'", ""),
    ],
)
def test_a_name_that_a_module_lost_is_explained(line: str, words: str) -> None:
    """By the version that is locked."""
    found = hint(
        [f"AttributeError: {line}"], packages={"numpy": "2.5.0"}, python="3.12"
    )
    assert words in found
    assert bool(words) == bool(found)


CUDA = "OSError: CUDA_HOME environment variable is not set."


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"packages": {"torch": "2.13.0+cpu"}}, "torch 2.13.0+cpu has no CUDA"),
        ({"packages": {"torch": "2.13.0+rocm7"}}, "torch 2.13.0+rocm7 has no CUDA"),
        ({"packages": {"torch": "2.13.0"}}, "set CUDA_HOME, and pass-env"),
        ({"outer": {"CUDA_HOME": "/c"}}, "CUDA_HOME is set here, but builds don't see"),
        ({"pass_env": ["CUDA_HOME"]}, "set CUDA_HOME, which stage kernels passes on"),
        ({"seen": {"CUDA_HOME": "/c"}}, "nvcc isn't found in /c"),
        ({}, 'add "cuda-toolkit[nvcc,cudart,cccl]" to the dependencies of stage'),
        ({"packages": {"torch": "2.13.0+cu130"}}, 'add "cuda-toolkit[nvcc,'),
        ({"packages": {"torch": "2.8.0+cu128"}}, "set CUDA_HOME, and pass-env"),
        (
            {"packages": {"nvidia-cuda-nvcc-cu12": "12.9.86"}},
            "which PyPI has from CUDA 13 on: set CUDA_HOME, and pass-env",
        ),
        ({"seen": {"CUDA_HOME": "/e/cuda-toolkit"}}, 'to "{env}/cuda-toolkit"'),
    ],
)
def test_a_missing_nvcc_is_judged_by_torch_and_the_table(
    known: dict[str, Any], words: str
) -> None:
    """No version of nvcc helps a torch without CUDA, and no advice is repeated."""
    found = hint([CUDA], **known)
    assert words in found
    assert ("pass-env" in found) == ("pass-env" in words or "don't see" in words)


@pytest.mark.parametrize(
    ("line", "requirement"),
    [
        ("fatal error: cusparse.h: No such file", "cuda-toolkit[cusparse]"),
        ("fatal error: cub/cub.cuh: No such file", "cuda-toolkit[cccl]"),
        ("fatal error: cuda_profiler_api.h: No such file", "cuda-toolkit[profiler]"),
        ("fatal error: nccl.h: No such file", "nvidia-nccl-cu13"),
        ("/usr/bin/ld: cannot find -lcublasLt: No such file", "cuda-toolkit[cublas]"),
        ("/usr/bin/ld: cannot find -lcusparseLt", "nvidia-cusparselt-cu13"),
    ],
)
def test_what_a_build_lacks_of_cuda_comes_from_a_wheel(
    line: str, requirement: str
) -> None:
    """If its nvcc does."""
    known = {"nvidia-cuda-nvcc": "13.0.88"}
    assert f'add "{requirement}" to' in hint([line], packages=known)
    assert requirement not in hint([line])


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("ninja: command not found", {"packages": {"ninja": "1"}}),
        ("error: invalid command 'bdist_wheel'", {"packages": {"wheel": "0.45"}}),
        (
            "Compatibility with CMake < 3.5 has been removed from CMake",
            {"seen": {"CMAKE_POLICY_VERSION_MINIMUM": "3.5"}},
        ),
        ("fatal error: cublas_v2.h: No such file", {"seen": {"CPATH": "/c"}}),
        ("fatal error: torch/all.h: No such file", {"packages": {"torch": "2.13"}}),
        (
            "setuptools-scm was unable to detect version for /x",
            {"seen": {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MINE": "1"}},
        ),
        ("No module named 'versioneer'", {"seen": {"PYTHONPATH": "."}}),
    ],
)
def test_no_advice_is_given_that_is_followed_already(
    line: str, known: dict[str, Any]
) -> None:
    """It didn't help."""
    assert hint([line], source={"versioneer"})
    assert hint([line], **{"source": {"versioneer"}, **known}) == ""


NO_SCM_VERSION = "setuptools-scm was unable to detect version for /x"
NO_VCS = "RuntimeError: Unable to detect version control system."


@pytest.mark.parametrize(
    ("line", "tool", "variable"),
    [
        (NO_SCM_VERSION, "setuptools", "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MINE"),
        (NO_SCM_VERSION, "hatch-vcs", "SETUPTOOLS_SCM_PRETEND_VERSION"),
        (NO_SCM_VERSION, "flit-scm", "SETUPTOOLS_SCM_PRETEND_VERSION"),
        (
            "Exception: Versioning for this project requires either an sdist tarball",
            "pbr",
            "PBR_VERSION",
        ),
        (
            "ValueError: Cannot find the version from SCM or SCM",
            "pdm-backend",
            "PDM_BUILD_SCM_VERSION",
        ),
        (NO_VCS, "uv-dynamic-versioning", "UV_DYNAMIC_VERSIONING_BYPASS"),
        (NO_VCS, "poetry-dynamic-versioning", "POETRY_DYNAMIC_VERSIONING_BYPASS"),
    ],
)
def test_a_build_without_a_repository_can_be_given_its_version(
    line: str, tool: str, variable: str
) -> None:
    """With a git source, or by the variable of its tool, in env or from outside."""
    assert is_suspicious(line)
    packages = {tool: "1"}
    found = hint([line], packages=packages)
    assert f'env = {{ {variable} = "…" }}' in found
    assert '"mine @ git+https://…"' in found
    found = hint([line], packages=packages, outer={variable: "1"})
    assert f'pass-env = ["{variable}"]' in found


@pytest.mark.parametrize(
    "line", [NO_VCS, "versioningit could not find a version for the project in /x"]
)
def test_a_tool_that_no_variable_gives_a_version(line: str) -> None:
    """A git source is the only way out; in place, a repository is."""
    problem = "its build can't find its version in a git repository: "
    assert hint([line]) == f'{problem}use a source as "mine @ git+https://…"'
    assert hint([line], stage="project") == f"{problem}make one, with a tag"


def test_a_variable_that_the_build_does_not_see_is_named() -> None:
    """If the lines that show the cause name it; those of a shell don't count."""
    outer = {"AMB_ROOT": "/a", "HOME": "/h", "OTHER": "x"}
    lines = ["set AMB_ROOT, or HOME"]
    found = find_unseen_variable(lines, situation(outer=outer))
    assert found == (
        'AMB_ROOT is set here, but builds don\'t see it: pass-env = ["AMB_ROOT"] for'
        " stage kernels"
    )
    seen = situation(outer=outer, seen={"AMB_ROOT": "/a"})
    assert find_unseen_variable(lines, seen) == ""
    assert find_unseen_variable(lines, situation(outer={})) == ""
