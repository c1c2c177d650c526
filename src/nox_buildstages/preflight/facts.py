"""The facts about a build before it compiles, as far as checks ask for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.model import FileRules, Network

Version: TypeAlias = tuple[int, int]
"""Major and minor version."""

Language: TypeAlias = Literal["C", "C++", "CUDA"]

LONG = 60.0
"""Seconds from which on a build is worth the checks that compile something."""

_WITHOUT_CUDA = re.compile(
    ".*(SKIP_CUDA(?!_CHECK)|NO_CUDA|WITHOUT_CUDA|DISABLE_CUDA|(ONLY|FORCE)_CPU|CPU_ONLY)"
)
"""In the names of variables for a build without CUDA."""

_OFF = {"", "0", "FALSE", "OFF", "NO"}
_CUDA_VARIABLES = {
    "CUDACXX",
    "CUDA_HOME",
    "CUDA_PATH",
    "FORCE_CUDA",
    "TORCH_CUDA_ARCH_LIST",
}


def is_on(value: str | None) -> bool:
    """Whether a variable that switches something on is set."""
    return (value or "").upper() not in _OFF


class Nvcc(Value):
    """The CUDA compiler of a build."""

    version: Version | None  # None if it doesn't say its version
    place: str  # its path, or the lock of its stage
    newest_gcc: int | None = None  # the newest major version; None if not known


class Torch(Value):
    """The torch in the environment of a build."""

    version: str
    cuda: Version | None  # None for a build without CUDA


class Compiler(Value):
    """The C++ compiler that nvcc calls."""

    name: str
    version: str  # such as 12.2.0
    is_gcc: bool
    older: tuple[str, ...] = ()  # other versions of gcc on PATH, such as g++-11


class SourceTree(Value):
    """The unpacked source of an output."""

    languages: frozenset[Language]  # of the files to compile
    files: int = 0  # to compile
    extends_torch: bool = False  # by torch.utils.cpp_extension
    is_serial: bool = False  # whether its torch extension refuses ninja
    asks_for_gpu: bool = False
    """Whether it leaves CUDA out on a machine without GPU, unless FORCE_CUDA is set."""
    names_architectures: bool = False  # of GPUs, in its build files
    uses_python: bool = False  # whether it includes headers of Python
    has_torch_on_gpu: bool = False  # whether it includes CUDA headers of torch
    is_sdist: bool = False  # made by its maintainers, with what a build needs
    pointers: tuple[str, ...] = ()  # files in place of which git-lfs left pointers
    empty_submodules: tuple[str, ...] = ()


class Memory(Value):
    """The memory of the machine and of a job, in bytes."""

    per_job: int = 0  # 0 to ignore memory
    is_known: bool = False  # whether the table has the number, so that nobody guessed
    reason: str = ""  # how the number is known
    exceeded: str = ""  # why the table's number is too small
    limit: int | None  # of the machine, the cgroup or ulimit
    free: int | None
    cores: int = 1  # for jobs, limited by the stage


class Disk(Value):
    """The disk of the build directory, in bytes."""

    place: str
    free: int
    needed: int | None  # None if not known
    used: int = 0  # of the needed bytes
    is_measured: bool = True  # by the last build, not from a recipe


class TrialResult(Value):
    """The result of compiling and linking three lines."""

    language: Language
    compiler: str
    seconds: float = 0.0
    error: str = ""  # the first line that shows why it failed
    step: str = "compile"  # that failed
    headers: tuple[str, ...] = ()  # of CUDA, that it includes


class Known(Value):
    """The facts in the catalogue of recipes about an output."""

    force_build: Mapping[str, str] = field(default_factory=dict)
    """Variables that keep setup.py from fetching a prebuilt wheel."""
    skip_cuda: Mapping[str, str] = field(default_factory=dict)
    """Variables for a build without CUDA."""
    compiles_cuda: bool = False  # unless variables say otherwise
    architectures: str | None = None
    """The variable for GPU architectures; empty if none has an effect."""
    architectures_example: str = ""  # its value for an architecture
    default_architectures: str = ""  # if the variable isn't set
    submodules: tuple[str, ...] = ()
    cuda_libraries: tuple[str, ...] = ()  # extras of PyPI's cuda-toolkit
    disk: int | None = None  # bytes
    is_long: bool = False
    """Whether a build takes minutes or hours."""


class Facts(Value):
    """What is known about the build of an output; None if something isn't known."""

    output: str
    stage: str  # as the table names it
    python: str = ""  # the minor version
    variables: Mapping[str, str] = field(default_factory=dict)  # that the build gets
    network: Network = "off"
    sandbox: FileRules = "on"
    open_files: str = ""  # why files can't be restricted; empty if they can
    no_network: str | None = None  # why the network can't be cut off; empty if it can
    is_elsewhere: bool = False  # whether a build runs at the path of all builds
    known: Known = field(default_factory=Known)
    has_built: bool = False  # whether the store has a wheel of the same source
    nvcc: Nvcc | None = None
    has_own_cuda: bool = False  # whether nvcc is from the stage's environment
    names_cuda: bool = False  # whether the table's env has a CUDA_HOME
    may_have_nvcc: bool = True  # false if there is none, for sure
    torch: Torch | None = None
    compiler: Compiler | None = None
    has_ninja: bool | None = None
    ccache: Version | None = None  # None without it
    has_gpu: bool = False
    jobs: int | None = None  # declared
    missing_header: str | None = None  # the path of Python.h; empty if it is there
    source: SourceTree | None = None
    memory: Memory | None = None
    disk: Disk | None = None
    unwritable: tuple[str, ...] | None = None
    trial: TrialResult | None = None

    @property
    def compiles_cuda(self) -> bool | None:
        """Whether the build compiles CUDA; None if not known."""
        skips = self.known.skip_cuda
        if skips and all(self.variables.get(it) == skips[it] for it in skips):
            return False
        named = filter(_WITHOUT_CUDA.match, self.variables)
        if any(is_on(self.variables[it]) for it in named):
            return False
        if self.torch is not None and self.torch.cuda is None:
            return False
        if self.source is not None:
            is_forced = self.has_gpu or is_on(self.variables.get("FORCE_CUDA"))
            may_compile = is_forced or not self.source.asks_for_gpu
            return may_compile and "CUDA" in self.source.languages
        return True if self.wants_cuda else None

    @property
    def wants_cuda(self) -> bool:
        """Whether somebody says that the build compiles CUDA."""
        is_declared = not _CUDA_VARIABLES.isdisjoint(self.variables)
        return self.known.compiles_cuda or is_declared
