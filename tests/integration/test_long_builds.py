"""Long builds are checked before they compile, and the plan checks what it can."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.errors import BuildStagesError, PreflightError
from nox_buildstages.preflight.facts import LONG
from support.packages import make_tree, make_wheel
from support.pair import declare, declare_solo
from support.project import NO_ENV
from support.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.index import Index
    from support.project import Project

pytestmark = pytest.mark.slow

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n".format(
    "0" * 64
)


class Kernels:
    """A project with an output in a folder, whose last build took ten minutes."""

    def __init__(
        self,
        project: Project,
        files: Mapping[str, str] = NO_ENV,
        **stage: Any,  # noqa: ANN401 - TOML
    ) -> None:
        self.project, self.number = project, 1
        self.tree = project.folder / "kernels"
        make_tree(
            self.tree,
            "kernels",
            "1.0",
            files={"kern.c": "int kern(void) { return 0; }\n", **files},
            settings={"compile": ["kern.c"]},
        )
        self.declare(**stage)
        self.run("build-stage-only")
        for path in project.store.glob("wheels/*/record.json"):
            record = json.loads(path.read_text())
            assert record["tree-size"] > 0
            record["seconds"] = 10 * LONG
            path.write_text(json.dumps(record))

    def declare(self, **stage: Any) -> None:  # noqa: ANN401 - TOML
        """Declare the stage, with something that makes a new build necessary."""
        self.number += 1
        env = {"NUMBER": str(self.number), **stage.pop("env", {})}
        stage = {"outputs": ["kernels @ ./kernels"], **stage, "env": env}
        declare_solo(self.project, **stage)

    def run(self, session: str, *words: str, **variables: str) -> None:
        """Run a session in this process, in a new run."""
        Sessions(
            project=self.project, id=f"{self.number}-run", variables=variables
        ).run_body(session, *words)

    def refused(self, **variables: str) -> PreflightError:
        """Return the error of a build that doesn't begin, because of its checks."""
        with pytest.raises(PreflightError) as caught:
            self.run("build-stage-only", **variables)
        assert not [*self.project.store.glob("builds/**/kern*.o")]
        return caught.value


@pytest.fixture
def kernels(project: Project, caplog: pytest.LogCaptureFixture) -> Kernels:
    caplog.set_level("INFO", logger="nox")
    return Kernels(project)


def test_a_build_that_would_fail_does_not_begin(
    kernels: Kernels, caplog: pytest.LogCaptureFixture
) -> None:
    """A pointer of git-lfs is found before the compile; the checks can be left out."""
    (kernels.tree / "weights.bin").write_text(LFS)
    kernels.declare()
    error = kernels.refused()
    assert error.summary == (
        "kernels (stage only): weights.bin is in git-lfs, and the source has only a"
        " pointer"
    )
    assert error.hint.startswith("install git-lfs")
    assert error.details == ["nothing was compiled; to build anyway: -- --no-preflight"]
    kernels.run("build-stage-only", "--no-preflight")
    assert "kernels: checked" not in caplog.text


def test_a_build_that_passes(
    kernels: Kernels, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a line for each check, and what the trial did."""
    kernels.declare()
    kernels.run("build-stage-only")
    log = (kernels.project.wheelhouse / "logs/kernels.log").read_text()
    assert " ✓ C compiles and links (cc)\n" in log
    assert " of memory free for jobs of " in log
    assert "checks before it compiles took" in caplog.text


def test_a_trial_with_the_variables_of_the_build(kernels: Kernels) -> None:
    """A compiler or a flag that doesn't work is found within a second."""
    kernels.declare(env={"CFLAGS": "-not-an-option"})
    error = kernels.refused()
    problem = "three lines of C don't compile: cc: error: unrecognized command-line"
    assert error.problem.startswith(problem)
    kernels.declare(env={"CC": "no-such-compiler"})
    problem = "three lines of C don't compile: no-such-compiler isn't on PATH"
    assert kernels.refused().problem == problem
    kernels.declare(env={"LDFLAGS": "-lnothing"})
    assert "don't link" in kernels.refused().problem


def test_a_plan_checks_what_needs_no_environment(
    kernels: Kernels, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lines are below the outputs, and in the JSON; no build, no lines."""
    kernels.declare()
    capsys.readouterr()
    kernels.run("build-stages-plan")
    lines = capsys.readouterr().out.splitlines()
    assert "└─ only  kernels 1.0  ● build   env NUMBER '2' → '3'" in lines
    assert " ✓ store and wheelhouse can be written to" in lines
    assert lines[-1] == (
        " · checked when the stage starts: Python headers, git-lfs, submodules, trial"
        " compile"
    )
    kernels.run("build-stages-plan", "--json")
    found = json.loads(capsys.readouterr().out)["preflight"]
    assert {it["state"] for it in found} >= {"ok", "later"}
    assert found[-1]["check"] == "store and wheelhouse"
    kernels.run("build-stages-plan", "--explain", "Kernels")
    kernels.run("build-stages-plan", "--graph=mermaid")
    with pytest.raises(BuildStagesError, match="did you mean 'kernels'"):
        kernels.run("build-stages-plan", "--explain", "kernel")
    explained, _, graph = capsys.readouterr().out.partition("flowchart LR\n")
    assert "  why              env NUMBER '2' → '3'\n" in explained
    assert "  variables        NUMBER='3'\n" in explained
    assert "  needed by        the runtime environment\n" in explained
    assert re.search(r"  1\.0 +10 min +.+B +.+B +\d +[0-9a-f]{8}\n", explained)
    assert "  stage1 --> final1\n" in graph
    kernels.run("build-stage-only")
    kernels.run("build-stages-plan")
    kernels.run("build-stages-plan", "--json")
    text, brace, document = capsys.readouterr().out.partition("{")
    assert "✓ cached" in text
    assert json.loads(brace + document)["preflight"] == []


def test_too_little_disk_or_memory(
    kernels: Kernels, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan says so, and the stage doesn't begin."""
    for path in kernels.project.store.glob("wheels/*/record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "tree-size": 10**18}))
    kernels.declare(**{"memory-per-job": "900TB"})
    capsys.readouterr()
    kernels.run("build-stages-plan")
    printed = capsys.readouterr().out
    assert " ✗ kernels: a job needs 900.0 TB of memory, and builds here have" in printed
    assert "and the last build took 1.0 EB\n     free some space" in printed
    error = kernels.refused()
    assert error.problem.startswith("a job needs 900.0 TB of memory")
    assert any("the last build took" in it for it in error.details)


def test_the_word_is_for_builds(kernels: Kernels) -> None:
    """Elsewhere it is refused, and near misses are named."""
    with pytest.raises(BuildStagesError, match="--no-preflight is for build-stages"):
        kernels.run("build-stages-plan", "--no-preflight")
    with pytest.raises(BuildStagesError, match="did you mean --no-preflight"):
        kernels.run("build-stage-only", "--no-prefligt")


NVCC = """\
#!/bin/sh
# A stand-in for nvcc: g++, and the versions of this text.
case $1 in
--version) echo "Cuda compilation tools, release {version}, V{version}.88"; exit ;;
--dryrun) exit ;;
esac
for word; do
    shift
    case $word in -Xcompiler | -gencode=*) ;; *) set -- "$@" "$word" ;; esac
done
exec g++ -x c++ -D__global__= "$@"
"""
CONTEXT = (
    "#include <cuda_runtime_api.h>\n#include <cusparse.h>\n#include <cublas_v2.h>\n"
)


class Cuda:
    """A CUDA toolkit without the headers and libraries that a torch extension needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "lib64", "include/crt"):
            folder.joinpath(name).mkdir(parents=True)
        self.write(version="13.0", newest_gcc=99)

    def write(self, *, version: str, newest_gcc: int) -> None:
        """Write nvcc, and the header that says which gcc it accepts."""
        nvcc = self.folder / "bin/nvcc"
        nvcc.write_text(NVCC.format(version=version))
        nvcc.chmod(0o755)
        header = self.folder / "include/crt/host_config.h"
        header.write_text(f"#if __GNUC__ > {newest_gcc}\n")


def make_library(path: Path) -> bytes:
    """Make a shared library without content, and return its bytes."""
    argv = ("cc", "-shared", "-x", "c", os.devnull, "-o", str(path))
    subprocess.run(argv, check=True)
    return path.read_bytes()


def test_the_cuda_example_as_it_was(
    tmp_path: Path, project: Project, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it failed of after minutes is found before it compiles, with the fix."""
    torch: dict[str, str | bytes] = {
        "torch/version.py": "__version__ = '2.13.0+cu130'\ncuda: str = '13.0'\n",
        "torch/include/ATen/cuda/CUDAContextLight.h": CONTEXT,
        "torch/lib/libc10.so": make_library(tmp_path / "libc10.so"),
    }
    make_wheel(index.folder, "torch", "2.13.0+cu130", files=torch)
    cuda = Cuda(tmp_path / "cuda")
    stage = {"dependencies": ["torch"], "jobs": 1}
    env = {"CUDA_HOME": str(cuda.folder), "TORCH_CUDA_ARCH_LIST": "9.0"}
    source = "#include <ATen/cuda/CUDAContext.h>\n"
    files = {"kern.cu": source, "setup.py": "torch.utils.cpp_extension\n"}
    kernels = Kernels(project, files, **stage)

    kernels.declare(**stage, env=env)
    error = kernels.refused()
    assert error.problem.startswith("three lines of CUDA don't compile: trial.cu:2:10:")
    assert "fatal error: cusparse.h: No such file or directory" in error.problem
    added = "cuda-toolkit[nvcc,cudart,cccl,cusparse,cublas]==13.0.*"
    assert error.hint.endswith(f'dependencies = ["{added}"]')

    for name in ("cusparse.h", "cublas_v2.h"):
        cuda.folder.joinpath("include", name).touch()
    error = kernels.refused()
    assert error.problem.startswith("three lines of CUDA don't link:")
    assert "cannot find -lcudart" in error.problem
    assert "cuda-toolkit[nvcc,cudart,cccl," in error.hint
    make_library(cuda.folder / "lib64/libcudart.so")

    cuda.write(version="12.4", newest_gcc=5)
    capsys.readouterr()
    kernels.run("build-stages-plan")
    printed = capsys.readouterr().out
    nvcc = (
        f"nvcc is 12.4 ({cuda.folder}/bin/nvcc), and torch 2.13.0 was built with CUDA"
    )
    assert f" \N{BALLOT X} kernels: {nvcc} 13.0\n" in printed
    assert "is too new: this nvcc accepts gcc up to 5" in printed
    assert ", and remove CUDA_HOME from its env:" in printed
    error = kernels.refused()
    assert error.problem == f"{nvcc} 13.0"
    assert ", and remove CUDA_HOME from its env:" in error.hint
    assert any(
        "is too new: this nvcc accepts gcc up to 5" in it for it in error.details
    )

    cuda.write(version="13.0", newest_gcc=99)
    del env["TORCH_CUDA_ARCH_LIST"]
    kernels.declare(**stage, env=env)
    problem = "TORCH_CUDA_ARCH_LIST isn't set, and there is no GPU to take it from"
    assert kernels.refused().problem == problem

    env["TORCH_CUDA_ARCH_LIST"] = "9.0"
    kernels.tree.joinpath("kern.cu").write_text(source * 2)  # another source
    programs = tmp_path / "programs"
    programs.mkdir()
    for path in Path("/usr/bin").iterdir():
        if path.name != "ninja":
            programs.joinpath(path.name).symlink_to(path)
    kernels.declare(**{**stage, "jobs": "auto"}, env={**env, "PATH": str(programs)})
    assert kernels.refused().problem.startswith("torch extensions without ninja")
    kernels.declare(**stage, env=env)
    kernels.run("build-stage-only")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
    if subprocess.run(argv, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    unmount = ("umount", "--lazy", str(folder))
    subprocess.run(unmount, check=True)


def test_a_file_system_that_is_too_small(kernels: Kernels, small_disk: Path) -> None:
    """The last build directory wouldn't fit on it."""
    for path in kernels.project.store.glob("wheels/*/record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "tree-size": 20_000_000}))
    kernels.declare()
    error = kernels.refused(NOX_BUILDSTAGES_BUILD_DIR=str(small_disk))
    assert re.fullmatch(
        rf"8.\d MB free in {small_disk}/\w+, and the last build took 20.0 MB",
        error.problem,
    )
    kernels.run("build-stage-only")


def test_a_source_of_git_with_a_pointer(
    kernels: Kernels, index: Index, tmp_path: Path
) -> None:
    """As it is without git-lfs, or if its server lacks the file."""
    del index
    (kernels.tree / "weights.bin").write_text(LFS)
    (kernels.tree / ".gitmodules").write_text('[submodule "x"]\npath = csrc/cutlass\n')
    repository = tmp_path / "repository"
    kernels.tree.rename(repository)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-C")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "one")):
        subprocess.run((*git, str(repository), *words), check=True)
    kernels.declare(outputs=[f"kernels @ git+{repository.as_uri()}"])
    error = kernels.refused()
    assert error.problem.startswith("weights.bin is in git-lfs")


def test_a_first_build_that_the_catalogue_knows(project: Project) -> None:
    """Nobody has built it here, and the catalogue says that it takes long."""
    files: dict[str, str | bytes] = {"csrc_a.cpp": "", "weights.bin": LFS}
    tree = project.folder / "torch-scatter"
    make_tree(tree, "torch-scatter", "2.1.2", files=files)
    only = {"name": "only", "outputs": ["torch-scatter @ ./torch-scatter"]}
    final = {"requirements": ["torch-scatter"]}
    declare(project, {"final": final, "stage": [only]})
    with pytest.raises(PreflightError, match=r"weights\.bin is in git-lfs"):
        Sessions(project=project).run_body("build-stage-only")
    Sessions(project=project, id="2-run").run_body("build-stage-only", "--no-preflight")
