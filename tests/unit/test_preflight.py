"""The checks before a compile: what they find in which facts, and how it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.lock.files.lockfile import IndexPin
from nox_buildstages.preflight.facts import (
    Compiler,
    Disk,
    Facts,
    Known,
    Memory,
    Nvcc,
    SourceTree,
    Torch,
    TrialResult,
)
from nox_buildstages.preflight.finding import (
    Finding,
    format_findings,
    merge_findings,
)
from nox_buildstages.preflight.recipe_facts import known_of
from nox_buildstages.preflight.run_checks import run_checks
from nox_buildstages.preflight.source_facts import torch_of
from nox_buildstages.preflight.trial_build import Trial
from nox_buildstages.recipes.catalogue import all_documents
from nox_buildstages.value import replace

GB = 10**9
TORCH = Torch(version="2.13.0", cuda=(13, 0))
CPU = Torch(version="2.13.0", cuda=None)
CUDA = SourceTree(languages=frozenset({"C++", "CUDA"}), files=2, extends_torch=True)
NVCC_13 = Nvcc(version=(13, 0), place="its lock", newest_gcc=15)
ARCHS = {"TORCH_CUDA_ARCH_LIST": "9.0"}


def found(check: str, **facts: Any) -> Finding | None:  # noqa: ANN401 - of any kind
    """Return the finding of a check about a build."""
    everything = run_checks(Facts(output="kern", stage="kernels", **facts))
    return next((it for it in everything if it.check == check), None)


def memory(
    limit: float, free: float, *, is_known: bool = True, exceeded: str = ""
) -> Memory:
    return Memory(
        per_job=4 * GB,
        is_known=is_known,
        reason="it says so",
        exceeded=exceeded,
        limit=int(limit * GB),
        free=int(free * GB),
        cores=4,
    )


def gcc(version: str, *older: str) -> Compiler:
    return Compiler(name="g++", version=version, is_gcc=True, older=older)


def tree(**changes: Any) -> SourceTree:  # noqa: ANN401 - of any kind
    return SourceTree(languages=frozenset({"C++"}), **changes)


@pytest.mark.parametrize(
    ("check", "facts", "state", "text"),
    [
        (
            "CUDA of nvcc and torch",
            {"torch": TORCH, "nvcc": NVCC_13, "source": CUDA},
            "ok",
            "nvcc 13.0 (its lock), and torch 2.13.0 was built with CUDA 13.0",
        ),
        (
            "CUDA of nvcc and torch",
            {
                "torch": TORCH,
                "nvcc": Nvcc(version=(12, 4), place="/usr/bin/nvcc"),
                "source": CUDA,
                "variables": ARCHS,
            },
            "error",
            "nvcc is 12.4 (/usr/bin/nvcc), and torch 2.13.0 was built with CUDA 13.0",
        ),
        (
            "CUDA of nvcc and torch",
            {
                "torch": TORCH,
                "nvcc": Nvcc(version=(13, 2), place="x"),
                "variables": ARCHS,
            },
            "warning",
            "nvcc is 13.2 (x), and torch 2.13.0 was built with CUDA 13.0",
        ),
        (
            "CUDA of nvcc and torch",
            {"torch": TORCH, "source": CUDA, "may_have_nvcc": False},
            "warning",
            "there is no nvcc, and torch 2.13.0 was built with CUDA 13.0",
        ),
        (
            "CUDA of nvcc and torch",
            {
                "torch": TORCH,
                "source": CUDA,
                "may_have_nvcc": False,
                "known": Known(compiles_cuda=True),
            },
            "error",
            "there is no nvcc, and torch 2.13.0 was built with CUDA 13.0",
        ),
        (
            "compiler of nvcc",
            {"nvcc": NVCC_13, "compiler": gcc("12.2.0"), "source": CUDA},
            "ok",
            "g++ 12.2.0, and this nvcc accepts gcc up to 15",
        ),
        (
            "compiler of nvcc",
            {"nvcc": NVCC_13, "compiler": gcc("16.1"), "source": CUDA},
            "error",
            "g++ 16.1 is too new: this nvcc accepts gcc up to 15",
        ),
        (
            "GPU architectures",
            {"source": CUDA, "variables": ARCHS},
            "ok",
            "TORCH_CUDA_ARCH_LIST is 9.0",
        ),
        (
            "GPU architectures",
            {"source": CUDA},
            "error",
            "TORCH_CUDA_ARCH_LIST isn't set, and there is no GPU to take it from",
        ),
        (
            "GPU architectures",
            {
                "known": Known(
                    architectures="FA_ARCHS",
                    default_architectures="80;90",
                    compiles_cuda=True,
                )
            },
            "warning",
            "FA_ARCHS isn't set: it compiles for 80;90",
        ),
        (
            "ninja",
            {"torch": CPU, "source": CUDA, "has_ninja": True},
            "ok",
            "ninja for the torch extension",
        ),
        (
            "ninja",
            {"torch": CPU, "source": CUDA, "has_ninja": False},
            "error",
            "torch extensions without ninja compile one file at a time",
        ),
        (
            "ninja",
            {"torch": CPU, "source": CUDA, "has_ninja": False, "has_built": True},
            "warning",
            "torch extensions without ninja compile one file at a time",
        ),
        ("ninja", {"torch": CPU}, "later", ""),
        (
            "ccache",
            {"torch": TORCH, "source": CUDA, "ccache": (4, 7)},
            "warning",
            "ccache 4.7 keeps nothing that nvcc compiles for torch",
        ),
        (
            "ccache",
            {"torch": TORCH, "source": CUDA, "ccache": (4, 14)},
            "ok",
            "ccache 4.14 for what nvcc compiles",
        ),
        (
            "ccache",
            {
                "torch": TORCH,
                "source": CUDA,
                "ccache": (4, 7),
                "variables": {"TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES": "1"},
            },
            "ok",
            "ccache 4.7 for what nvcc compiles",
        ),
        (
            "Python headers",
            {"source": tree(uses_python=True), "missing_header": "", "python": "3.11"},
            "ok",
            "headers of Python 3.11",
        ),
        (
            "Python headers",
            {
                "source": tree(uses_python=True),
                "missing_header": "/i/Python.h",
                "python": "3.11",
            },
            "error",
            "the headers of Python 3.11 are missing: there is no /i/Python.h",
        ),
        (
            "git-lfs",
            {"source": tree(pointers=("tests/a.bin", "data/b.bin"))},
            "error",
            "data/b.bin and 1 more are in git-lfs, and the source has only a pointer",
        ),
        (
            "git-lfs",
            {"source": tree(pointers=("docs/a.png",))},
            "warning",
            "docs/a.png is in git-lfs, and the source has only a pointer",
        ),
        (
            "submodules",
            {"source": tree(empty_submodules=("csrc/cutlass",))},
            "error",
            "the submodule csrc/cutlass is empty",
        ),
        (
            "submodules",
            {
                "source": tree(empty_submodules=("tests/data",)),
                "known": Known(submodules=("tests/data",)),
            },
            "error",
            "the submodule tests/data is empty",
        ),
        (
            "submodules",
            {"source": tree(empty_submodules=("csrc/cutlass",), is_sdist=True)},
            "warning",
            "the submodule csrc/cutlass is empty",
        ),
        (
            "submodules",
            {"source": tree(empty_submodules=("third_party/googletest",))},
            "warning",
            "the submodule third_party/googletest is empty",
        ),
        (
            "memory",
            {"memory": memory(64, 32)},
            "ok",
            "32.0 GB of memory free for jobs of 4.0 GB",
        ),
        (
            "memory",
            {"memory": memory(64, 9)},
            "warning",
            "9.0 GB of memory free: 2 jobs of 4.0 GB at once, and not 4 (it says so)",
        ),
        (
            "memory",
            {"memory": memory(8, 3)},
            "warning",
            "3.0 GB of memory free, and a job needs 4.0 GB: it may be killed",
        ),
        (
            "memory",
            {"memory": memory(3, 3)},
            "error",
            "a job needs 4.0 GB of memory, and builds here have 3.0 GB",
        ),
        (
            "memory",
            {"memory": memory(3, 3, is_known=False)},
            "warning",
            "a job needs 4.0 GB of memory, and builds here have 3.0 GB",
        ),
        (
            "memory",
            {"memory": memory(64, 32, exceeded="a process took 9.0 GB")},
            "warning",
            "memory-per-job is 4.0 GB, although a process took 9.0 GB",
        ),
        (
            "disk space",
            {"disk": Disk(place="/b", free=20 * GB, needed=14 * GB)},
            "ok",
            "20.0 GB free in /b",
        ),
        (
            "disk space",
            {"disk": Disk(place="/b", free=11 * GB, needed=14 * GB)},
            "error",
            "11.0 GB free in /b, and the last build took 14.0 GB",
        ),
        (
            "disk space",
            {"disk": Disk(place="/b", free=11 * GB, needed=14 * GB, used=4 * GB)},
            "ok",
            "11.0 GB free in /b",
        ),
        (
            "prebuilt wheel",
            {"known": Known(force_build={"FORCE": "1"}), "variables": {"FORCE": "1"}},
            "ok",
            "FORCE: nothing is fetched in place of a build",
        ),
        (
            "prebuilt wheel",
            {"known": Known(force_build={"FORCE": "1"})},
            "warning",
            "its setup.py looks for a prebuilt wheel on the network first",
        ),
        (
            "prebuilt wheel",
            {"known": Known(force_build={"FORCE": "1"}), "network": "on"},
            "error",
            "its setup.py looks for a prebuilt wheel on the network first",
        ),
        (
            "store and wheelhouse",
            {"unwritable": ()},
            "ok",
            "store and wheelhouse can be written to",
        ),
        (
            "store and wheelhouse",
            {"unwritable": ("/store",)},
            "error",
            "/store can't be written to",
        ),
        ("sandbox", {"no_network": ""}, "ok", "the network can be cut off"),
        (
            "sandbox",
            {"no_network": "no namespaces"},
            "warning",
            "the network can't be cut off: no namespaces",
        ),
        (
            "sandbox",
            {"no_network": "no namespaces", "network": "require-off"},
            "error",
            "the network can't be cut off: no namespaces",
        ),
        (
            "trial compile",
            {"trial": TrialResult(language="C++", compiler="c++")},
            "ok",
            "C++ compiles and links (c++)",
        ),
        ("trial compile", {}, "later", ""),
    ],
)
def test_a_check_finds(
    check: str, facts: dict[str, Any], state: str, text: str
) -> None:
    """A finding for facts that are enough for one."""
    finding = found(check, **facts)
    assert finding is not None
    assert (finding.state, finding.text) == (state, text)
    assert finding.hint or state != "error"


@pytest.mark.parametrize(
    ("check", "facts"),
    [
        ("CUDA of nvcc and torch", {"torch": CPU, "nvcc": NVCC_13, "source": CUDA}),
        (
            "CUDA of nvcc and torch",
            {
                "torch": TORCH,
                "source": CUDA,
                "may_have_nvcc": False,
                "variables": {"FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE"},
            },
        ),
        (
            "compiler of nvcc",
            {
                "nvcc": NVCC_13,
                "compiler": gcc("16.1"),
                "variables": {"NVCC_APPEND_FLAGS": "-allow-unsupported-compiler"},
            },
        ),
        ("GPU architectures", {"source": CUDA, "has_gpu": True}),
        ("GPU architectures", {"source": replace(CUDA, asks_for_gpu=True)}),
        ("GPU architectures", {"source": tree()}),
        ("GPU architectures", {"source": CUDA, "known": Known(architectures="")}),
        ("ninja", {"torch": CPU, "source": tree(), "has_ninja": False}),
        ("ccache", {"torch": TORCH, "source": CUDA}),
        ("ccache", {"torch": CPU, "source": CUDA, "ccache": (4, 7)}),
        ("ccache", {"source": CUDA, "ccache": (4, 7)}),
        ("Python headers", {"source": tree(), "missing_header": "/i/Python.h"}),
        ("memory", {"memory": Memory(per_job=0, is_known=True, limit=1, free=1)}),
        ("disk space", {"disk": Disk(place="/b", free=1, needed=None)}),
        ("prebuilt wheel", {}),
        ("sandbox", {"no_network": "no namespaces", "network": "on"}),
    ],
)
def test_a_check_that_does_not_apply(check: str, facts: dict[str, Any]) -> None:
    """What the build doesn't use needs no line."""
    assert found(check, **facts) is None


@pytest.mark.parametrize(
    ("error", "added"),
    [
        (
            "trial.cu:1:10: fatal error: cusparse.h: No such file or directory",
            "cusparse",
        ),
        ("/usr/bin/ld: cannot find -lcudart: No such file or directory", ""),
        ('nvcc error: cannot open source file "curand_kernel.h"', "curand"),
    ],
)
def test_what_brings_a_missing_part_of_cuda(error: str, added: str) -> None:
    """The requirement to add has the parts that the trial and the recipe name."""
    finding = found(
        "trial compile",
        torch=TORCH,
        known=Known(cuda_libraries=("cublas",)),
        trial=TrialResult(language="CUDA", compiler="nvcc", error=error),
        source=CUDA,
        variables={"CUDA_HOME": "/of/pass-env"},
    )
    assert finding is not None
    assert "CUDA_HOME" not in finding.hint
    extras = ",".join(filter(None, ("nvcc,cudart,cccl", added, "cublas")))
    assert finding.hint.splitlines()[1:] == [
        "[[tool.nox-buildstages.stage]]        # kernels",
        f'dependencies = ["cuda-toolkit[{extras}]==13.0.*"]',
    ]


@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("cusparse.h", "cuda-toolkit[cusparse]==13.0.*"),
        ("cusparseLt.h", "nvidia-cusparselt-cu13"),
        ("nccl.h", "nvidia-nccl-cu13"),
    ],
)
def test_what_a_stage_with_its_own_nvcc_lacks(missing: str, package: str) -> None:
    """Only the package with the missing file."""
    error = f"trial.cu:1:10: fatal error: {missing}: No such file or directory"
    finding = found(
        "trial compile",
        torch=TORCH,
        has_own_cuda=True,
        trial=TrialResult(language="CUDA", compiler="nvcc", error=error),
        source=CUDA,
    )
    assert finding is not None
    assert finding.hint.splitlines()[2:] == [f'dependencies = ["{package}"]']


@pytest.mark.parametrize(
    ("pins", "cuda"),
    [
        ({"torch": "2.13.0+cu128"}, (12, 8)),
        ({"torch": "2.13.0+cpu"}, None),
        ({"torch": "2.13.0", "nvidia-cuda-runtime": "13.0.96"}, (13, 0)),
        ({"torch": "2.13.0", "nvidia-cuda-runtime-cu12": "12.8.90"}, (12, 8)),
        ({"torch": "2.13.0"}, None),
    ],
)
def test_the_cuda_of_a_locked_torch(
    pins: dict[str, str], cuda: tuple[int, int] | None
) -> None:
    """Its label says it, or else the runtime that it requires."""
    torch = torch_of(
        IndexPin(name=canonicalize_name(it), version=Version(pins[it]), sha256="")
        for it in pins
    )
    assert torch == Torch(version="2.13.0", cuda=cuda)


def test_what_a_recipe_knows() -> None:
    """Variables, architectures and libraries; without CUDA, less of it."""
    version = Version("2.8.3")
    known = known_of("flash-attn", version, torch=TORCH, variables={})
    assert known.force_build == {"FLASH_ATTENTION_FORCE_BUILD": "TRUE"}
    assert known.architectures == "FLASH_ATTN_CUDA_ARCHS"
    assert known.compiles_cuda
    skip = {"FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE"}
    known = known_of("flash-attn", version, torch=TORCH, variables=skip)
    assert not known.compiles_cuda
    assert known_of("unheard-of", version, torch=None, variables={}) == Known()


def test_every_recipe_can_be_asked() -> None:
    """Whatever its facts are, and for whatever version."""
    for document in all_documents():
        known = known_of(document["name"], Version("999"), torch=TORCH, variables={})
        facts = Facts(output="x", stage="x", known=known, torch=TORCH)
        assert all(it.text or it.state == "later" for it in run_checks(facts))


def test_the_lines_of_findings() -> None:
    """Outputs share a line, later checks too; fixes are below, marks may be ASCII."""
    findings = merge_findings(
        [
            Finding(
                check="a", state="error", text="bad", hint="do:\n  x", outputs=("k",)
            ),
            Finding(
                check="a", state="error", text="bad", hint="do:\n  x", outputs=("m",)
            ),
            Finding(check="b", state="ok", text="good"),
            Finding(check="ninja", state="later", text="", outputs=("k",)),
            Finding(check="trial", state="later", text="", outputs=("m",)),
        ]
    )
    assert list(format_findings(findings, encoding="utf-8")) == [
        " ✗ k, m: bad",
        "     do:",
        "       x",
        " ✓ good",
        " · checked when the stage starts: ninja, trial",
    ]
    marks = [it.split()[0] for it in format_findings(findings, encoding="ascii")]
    assert marks == ["x", "do:", "x", "ok", "-"]


def test_the_trial_of_a_torch_extension() -> None:
    """It compiles with nvcc for each architecture, and links as torch does."""
    trial = Trial(
        language="CUDA",
        variables={"TORCH_CUDA_ARCH_LIST": "9.0;12.0+PTX", "CC": "gcc-12"},
        nvcc=Path("/cuda/bin/nvcc"),
        python_headers=Path("/include"),
        torch=Path("/torch"),
        headers=("cusparse.h",),
    )
    commands = trial.commands()
    assert commands["compile"] == [
        *("/cuda/bin/nvcc", "-I/cuda/include", "-I/include"),
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_120,code=sm_120",
        *("-Xcompiler", "-fPIC", "-ccbin", "gcc-12"),
        *("-c", "trial.cu", "-o", "trial.o"),
    ]
    assert commands["link"] == [
        *("c++", "-shared", "trial.o", "-L/torch/lib", "-L/cuda/lib64"),
        *("-lcudart", "-lc10", "-o", "trial.so"),
    ]
    assert trial.source[1].startswith("#include <Python.h>\n#include <cusparse.h>\n")
