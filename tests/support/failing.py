"""Projects of the documentation that can't be locked, built, released or used."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import virtualenv

from support.binaries import MACHINE, compile_library, gpu_code, with_gpu_code
from support.caches import cache_program
from support.namespaces import without_filters
from support.packages import (
    in_tree_backend,
    make_sdist,
    make_setuptools,
    make_tree,
    make_wheel,
)
from support.pair import Pair, declare, declare_solo, kernels_tree, publish

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

OFFLINE = "<urlopen error [Errno -3] Temporary failure in name resolution>"
LOGS: dict[str, dict[str, Any]] = {
    "editdistpy": {"says": ["ModuleNotFoundError: No module named 'pkg_resources'"]},
    "cymem": {"says": ["error: [Errno 2] No such file or directory: 'gcc'"]},
    "scmpkg": {"says": ["LookupError: setuptools-scm was unable to detect version"]},
    "pyzmq": {"says": ["Run-time dependency libzmq found: NO", OFFLINE]},
    "fetcher": {"says": ["curl: (6) Could not resolve host: example.org"]},
    "sparse": {"says": ["sparse.cu:1:10: fatal error: cusparse.h: No such file"]},
    "kernels": {
        "says": ["c++: fatal error: Killed signal terminated program cc1plus"],
        "faults": ["kill"],
    },
}
"""How the backends of some packages fail: with these lines in the log."""


def hints(project: Project, index: Index) -> None:
    """Stages that fail in as many ways, each in the words of a build tool."""
    make_setuptools(index.folder, "84.2.1")
    nvcc = {"nvidia/cu13/bin/nvcc": ""}
    make_wheel(index.folder, "nvidia-cuda-nvcc", "13.0.88", files=nvcc)
    for name, settings in LOGS.items():
        make_sdist(index.folder, name, "1.0", settings={"faults": ["exit"], **settings})
    stages: dict[str, dict[str, Any]] = {
        "editdistpy": {"outputs": ["editdistpy"], "dependencies": ["setuptools"]},
        "c": {"outputs": ["cymem"]},
        "s": {"outputs": ["scmpkg"]},
        "zmq": {"outputs": ["pyzmq"]},
        "native": {"outputs": ["fetcher"], "network": True},
        "cuda": {"outputs": ["sparse"], "dependencies": ["nvidia-cuda-nvcc"]},
        "kernels": {"outputs": ["kernels"], "jobs": 1},
    }
    declare(
        project,
        {
            "final": {"requirements": [*LOGS]},
            "stage": [{"name": name, **stage} for name, stage in stages.items()],
        },
    )


def offline(project: Project, index: Index) -> None:
    """An output whose build backend downloads something."""
    make_sdist(
        *(index.folder, "fetcher", "1.0"),
        static=False,
        files={
            "pyproject.toml": in_tree_backend("fetching"),
            "fetching.py": "from urllib.request import urlopen\n"
            "from tinybackend import *\n\n\n"
            "def get_requires_for_build_wheel(config_settings=None):\n"
            "    urlopen('https://example.org/data.zip')\n",
        },
    )
    final = {"requirements": ["fetcher"]}
    stage = {"name": "native", "outputs": ["fetcher"]}
    declare(project, {"final": final, "stage": [stage]})


def mirror(project: Project, index: Index) -> None:
    """The same on a machine with a mirror for cargo."""
    offline(project, index)
    config = Path(project.env["HOME"], ".cargo/config.toml")
    config.parent.mkdir()
    config.write_text(
        '[source.crates-io]\nreplace-with = "ours"\n\n'
        '[source.ours]\nregistry = "sparse+https://crates.example/"\n\n'
        '[registries.ours]\ntoken = "secret"\n'
    )


def no_python(project: Project, index: Index) -> None:
    """A project that requires a Python that isn't out yet."""
    del index
    project.write("""
        [project]
        name = "app"
        version = "1.0"
        requires-python = ">=3.16"

        [tool.nox-buildstages.final]
    """)


def flat_layout(project: Project, index: Index) -> None:
    """A package beside its pyproject.toml, in which setuptools finds two packages."""
    for wheel in Path(virtualenv.__file__).parent.rglob("setuptools-*.whl"):
        index.add(wheel)
    project.folder.joinpath("mine").mkdir()
    project.folder.joinpath("mine/__init__.py").touch()
    project.write("""
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"

        [project]
        name = "mine"
        version = "1.0"

        [tool.nox-buildstages.final]
        project = true
    """)


def wrong_gpu(project: Project, index: Index) -> None:
    """An output with code for another GPU than its build was asked for."""
    code = "#include <stdlib.h>\nint add(void) { return abs(rand()); }"
    code = with_gpu_code(code, gpu_code(2, 90), gpu_code(1, 90))
    library = compile_library(project.folder.with_name("ext.so"), code)
    make_wheel(index.folder, "torch", "2.13.0")
    make_tree(
        *(project.folder / "kernels", "kernels", "1.0"),
        files={"kernels/__init__.py": "", "kernels/ext.so": library},
        requires=["torch"],
        settings={"tag": f"py3-none-linux_{MACHINE}"},
    )
    env = {"TORCH_CUDA_ARCH_LIST": "8.0"}
    declare_solo(project, outputs=["kernels @ ./kernels"], env=env)


def other_torch(project: Project, index: Index) -> None:
    """An extension that an older torch lacks a symbol for."""
    folder = project.folder.with_name("lib")
    symbol = "_ZN3c1019NotImplementedErrorC1ENS_14SourceLocationE"
    for version, name in {"2.12.1+cpu": "older", "2.13.0+cpu": symbol}.items():
        code = f"int {name}(void) {{ return 0; }}"
        files: dict[str, str | bytes] = {
            "torch/__init__.py": "",
            "torch/version.py": f"__version__ = '{version}'\ncuda = None\n",
            "torch/lib/libc10.so": compile_library(folder / "libc10.so", code),
        }
        tag = f"py3-none-manylinux_2_17_{MACHINE}"
        make_wheel(index.folder, "torch", version, files=files, tag=tag)
    code = f"int {symbol}(void); int scatter(void) {{ return {symbol}(); }}"
    words = ("-L", str(folder), "-lc10")
    library = compile_library(folder / "_scatter_cpu.so", code, *words)
    make_sdist(
        *(index.folder, "torch-scatter", "2.1.2"),
        files={"torch_scatter/_scatter_cpu.so": library},
        requires=["torch"],
        settings={"tag": f"py3-none-linux_{MACHINE}"},
    )
    declare(
        project,
        {
            "final": {"requirements": ["torch-scatter"]},
            "stage": [
                {
                    "name": "kernels",
                    "dependencies": ["torch"],
                    "outputs": ["torch-scatter"],
                }
            ],
        },
    )


def locked_out(project: Project, index: Index) -> None:
    """An index that wants a name and a password, which nobody gave."""
    index.login = ("ci", "password")
    declare_solo(project)


def lossy(project: Project, index: Index) -> None:
    """A build that succeeds although it lacks a variable, a compiler, a submodule."""
    del index
    make_tree(
        *(project.folder / "vendor/ops", "ops", "1.0"),
        files={
            "csrc/ops.cpp": "",
            "csrc/ops.cu": "",
            ".gitmodules": '[submodule "cutlass"]\n\tpath = third_party/cutlass\n',
        },
    )
    final = {"requirements": ["ops"]}
    stage = {"name": "ops", "outputs": ["ops @ ./vendor/ops"]}
    declare(project, {"final": final, "stage": [stage]})


def no_version(project: Project, index: Index) -> None:
    """An sdist whose build backend finds no version."""
    make_sdist(
        *(index.folder, "scmless", "1.4"),
        static=False,
        settings={"version": "0.0.0"},
        files={"setup.py": "setup(use_scm_version=True)\n"},
    )
    final = {"requirements": ["scmless"]}
    declare(project, {"final": final, "stage": [{"name": "s", "outputs": ["scmless"]}]})


def local_version(project: Project, index: Index) -> None:
    """An sdist that promises another version than its code computes."""
    make_sdist(
        *(index.folder, "slowlv", "1.0"),
        settings={"version": "1.0+cu130"},
        files={"setup.py": ""},
    )
    final = {"requirements": ["slowlv"]}
    declare(project, {"final": final, "stage": [{"name": "s", "outputs": ["slowlv"]}]})


def broken_promise(project: Project, index: Index) -> None:
    """A wheel on the index that requires more than a build of the same version."""
    make_sdist(index.folder, "base", "1.0")
    make_sdist(index.folder, "model", "1.0", requires=["base"], static=False)
    make_wheel(index.folder, "model", "1.0", requires=["base", "other"])
    make_wheel(index.folder, "other", "1.0")
    stages = [
        {"name": "first", "outputs": ["base"]},
        {"name": "second", "dependencies": ["base"], "outputs": ["model"]},
    ]
    declare(project, {"final": {"requirements": ["model"]}, "stage": stages})


def replaced(project: Project, index: Index) -> None:
    """A wheel that was replaced on the index after it was locked."""
    publish(index)
    Pair(final={"requirements": ["models", "tensorlib"]}).write(project)
    project.nox("-s", "build-stages-lock")
    make_wheel(index.folder, "tensorlib", "2.0", files={"tensorlib/new.py": ""})


def no_tool(project: Project, index: Index) -> None:
    """A stage with a tool that isn't installed."""
    if shutil.which("swig"):
        pytest.skip("swig is installed")
    make_sdist(index.folder, "cymem", "2.0.16")
    stage = {"name": "a", "outputs": ["cymem"], "tools": ["swig"]}
    declare(project, {"final": {"requirements": ["cymem"]}, "stage": [stage]})


def no_wheel_at_run_time(project: Project, index: Index) -> None:
    """A dependency of the runtime environment that has no wheel."""
    for name, version in (("fastdtw", "0.3.4"), ("cymem", "2.0.16")):
        make_sdist(index.folder, name, version)
    final = {"requirements": ["cymem", "fastdtw"]}
    stage = {"name": "native", "outputs": ["cymem"]}
    declare(project, {"final": final, "stage": [stage]})


def overlapping(project: Project, index: Index) -> None:
    """Two outputs that install one path, with different contents."""
    for name in ("pkg-one", "pkg-two"):
        path = "tests/__init__.py"
        files = {path: f"# of {name}\n"}
        make_sdist(index.folder, name, "1.0", settings={"also": [path]}, files=files)
    make_sdist(index.folder, "user", "1.0")
    both = ["pkg-one", "pkg-two"]
    stages = [
        {"name": "both", "outputs": both},
        {"name": "u", "dependencies": both, "outputs": ["user"]},
    ]
    final = {"requirements": [*both, "user"]}
    declare(project, {"final": final, "stage": stages})


def timeout(project: Project, index: Index) -> None:
    """A build that takes longer than its stage may."""
    del index
    tree = kernels_tree(project, faults=["sleep"])
    declare_solo(project, outputs=[tree], jobs=2, timeout="8s")


def unmet(project: Project, index: Index) -> None:
    """A project that requires more than its runtime environment has."""
    for name in ("cymem", "preshed"):
        make_sdist(index.folder, name, "1.0")
    make_setuptools(index.folder)
    make_tree(
        *(project.folder, "mine", "1.0"),
        backend="setuptools.build_meta",
        build_requires=["setuptools"],
        settings={"requires": ["preshed"]},
    )
    with project.pyproject.open("a") as file:
        file.write(
            '\n[project]\nname = "mine"\nversion = "1.0"\n\n'
            "[tool.nox-buildstages.final]\nproject = true\n"
            'requirements = ["cymem"]\n\n[[tool.nox-buildstages.stage]]\n'
            'name = "native"\noutputs = ["cymem"]\n'
        )


def unlockable(project: Project, index: Index) -> None:
    """A matrix with two cells that can't be locked, and one that is left out."""
    publish(index)
    tensor = {
        "1": {"constraints": ["tensorlib==1.0"]},
        "7": {},
        "8": {"constraints": ["tensorlib==8.0"]},
        "9": {"requirements": ["nothing-of-this-name"]},
    }
    only = {"name": "only", "dependencies": ["tensorlib"], "outputs": ["kernels"]}
    declare(
        project,
        {
            "matrix": {"tensor": tensor, "exclude": [{"tensor": "7"}]},
            "final": {"requirements": ["kernels", "tensorlib"]},
            "stage": [only],
        },
    )


def unlike(project: Project, index: Index) -> None:
    """A stage whose environment would have to differ between cells."""
    publish(index)
    settings = {"requires-for-build": ["tensorlib"]}
    make_sdist(index.folder, "base", "1.0", settings=settings)
    tensor = {it: {"constraints": [f"tensorlib=={it}.*"]} for it in "12"}
    stages: list[dict[str, Any]] = [
        {"name": "base", "outputs": ["base"]},
        {"name": "kernels", "outputs": ["kernels"], "env": {"ARCH": "sm{arch}"}},
    ]
    declare(
        project,
        {
            "matrix": {"arch": ["8.0", "9.0"], "tensor": tensor},
            "match-runtime": ["tensorlib"],
            "final": {"requirements": ["base", "kernels", "tensorlib"]},
            "stage": stages,
        },
    )


def wrong_name(project: Project, index: Index) -> None:
    """A local version that names the torch of its environment, and one that doesn't."""
    make_wheel(index.folder, "torch", "2.13.0")
    requires = ["tinybackend", "torch"]
    make_sdist(index.folder, "flash-attn", "2.8.3.post2", build_requires=requires)
    stage = {"name": "kernels", "outputs": ["flash-attn"], "jobs": 2}
    package: dict[str, Any] = {"flash-attn": {"local-version": "torch{torch}"}}
    final = {"requirements": ["flash-attn", "torch"]}
    declare(project, {"final": final, "stage": [stage], "package": package})


def no_gpu(project: Project, index: Index) -> None:
    """A build backend that needs a GPU to answer, and declared metadata."""
    make_wheel(index.folder, "torch", "2.13.0")
    make_sdist(
        *(index.folder, "grouped-gemm", "0.3.0"),
        static=False,
        files={
            "pyproject.toml": in_tree_backend("gpu"),
            "gpu.py": "from tinybackend import *\n\n\n"
            "def get_requires_for_build_wheel(config_settings=None):\n"
            "    raise RuntimeError('No CUDA GPUs are available')\n",
        },
    )
    stage = {"name": "kernels", "dependencies": ["torch"], "outputs": ["grouped-gemm"]}
    package: dict[str, Any] = {"grouped-gemm": {"metadata": {"requires-dist": []}}}
    final = {"requirements": ["grouped-gemm"]}
    declare(project, {"final": final, "stage": [stage], "package": package})


def no_platform(project: Project, index: Index) -> None:
    """A dependency without wheels for one of the declared platforms."""
    tag = "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64"
    make_wheel(index.folder, "triton", "3.1.0", tag=tag)
    make_sdist(index.folder, "kernels", "1.0")
    linux = "sys_platform == 'linux' and platform_machine == 'x86_64'"
    darwin = "sys_platform == 'darwin' and platform_machine == 'arm64'"
    only = {"name": "only", "dependencies": ["triton==3.1.0"], "outputs": ["kernels"]}
    final = {"requirements": ["kernels"]}
    declare(project, {"environments": [linux, darwin], "final": final, "stage": [only]})


def no_storage(project: Project, index: Index) -> None:
    """A package that goes through sccache; the page names a storage out of reach."""
    del index
    cache_program("sccache")
    tree = kernels_tree(project, compile=["a.c"])
    project.folder.joinpath("kernels/a.c").touch()
    declare_solo(project, outputs=[tree], **{"compiler-cache": "sccache"})


def no_filter(project: Project, index: Index) -> None:
    """A stage that requires the network off, and a kernel that can't turn it off."""
    del index
    command = without_filters()
    if subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("no calls can be taken from a kernel here")
    kernel = project.folder / "old-kernel"
    kernel.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    kernel.chmod(0o755)
    tree = kernels_tree(project)
    declare_solo(project, name="native", outputs=[tree], network="require-off")


def half_made(project: Project, index: Index) -> None:
    """A session of the user that requires ours, whose environment isn't complete."""
    del index
    declare_solo(project, name="kernels", outputs=[kernels_tree(project)])
    mine = (
        "import nox\n\n\n"
        '@nox.session(python=False, requires=["build-stage-kernels"])\n'
        "def mine(session):\n    pass\n\n\n"
    )
    project.noxfile.write_text(mine + project.noxfile.read_text("utf-8"), "utf-8")
    project.folder.joinpath(".nox/build-stage-kernels").mkdir(parents=True)
