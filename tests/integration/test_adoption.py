"""Examples for projects that use other tools: the table is what init writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uv
from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

from nox_buildstages.config.table import TOOL
from nox_buildstages.reader import parse_toml
from support.index import Index
from support.packages import make_sdist, make_setuptools, make_wheel
from support.pair import lock_texts
from support.sessions import run_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.project import Project

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/adoption"
PAGE = ROOT / "docs/how-to/you-have.md"
PROPOSED = "# Proposed by `nox -s build-stages-init`"
SLOW = pytest.mark.slow
ELSEWHERE = "https://example.com/whl/"
"""Indexes of torch's builds, which stand-ins replace."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """What is special about an example.

    Attributes:
        wheels: The outputs.
        line: The beginning of the line that makes its kind hard.
        file: The file with that line.
        removed: A package that isn't in the runtime, because of that line.
        runtimes: By runtime of ours: the words for uv that must lock the same.
    """

    wheels: tuple[str, ...]
    line: str
    file: str = "pyproject.toml"
    removed: str = ""
    runtimes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


RUNTIME: Mapping[str, tuple[str, ...]] = {"final": ()}
KINDS = {
    "uv-extra-build-dependencies": Example(
        wheels=("flash-attn",), line="flash-attn = [", runtimes=RUNTIME
    ),
    "uv-no-build-isolation": Example(
        wheels=("causal-conv1d", "mamba-ssm"),
        line="override-dependencies = ",
        removed="triton",
        runtimes=RUNTIME,
    ),
    "uv-workspace": Example(
        wheels=("engine", "ops"),
        line="ops = {",
        file="packages/engine/pyproject.toml",
        runtimes=RUNTIME,
    ),
    "uv-conflicting-extras": Example(
        wheels=("torch-scatter",),
        line="conflicts = ",
        runtimes={"final-cpu": ("--extra=cpu",), "final-cu130": ("--extra=cu130",)},
    ),
    "poetry": Example(wheels=("chumpy",), line="numpy = "),
    "pdm": Example(wheels=("geometry",), line='    "geometry', runtimes=RUNTIME),
    "pixi": Example(
        wheels=("fastdtw", "webrtcvad"), line="webrtcvad = ", file="pixi.toml"
    ),
    "requirements-txt": Example(
        wheels=("cython-bbox", "tracker"),
        line="-c constraints.txt",
        file="requirements.txt",
    ),
}
"""The examples whose tables init writes."""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two indexes with builds of torch: the URL by the URL in the example."""
    with (
        Index(tmp_path_factory.mktemp("cpu")) as cpu,
        Index(tmp_path_factory.mktemp("cu130")) as cu130,
    ):
        make_wheel(cpu.folder, "torch", "2.13.0+cpu")
        make_wheel(cu130.folder, "torch", "2.13.0+cu130")
        yield {f"{ELSEWHERE}cpu": cpu.url, f"{ELSEWHERE}cu130": cu130.url}


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    """Publish stand-ins for the packages that the examples name."""
    for name, available in {
        "ninja": ("1.13.0",),
        "numpy": ("1.23.5", "2.2.6", "2.3.5", "2.4.1"),
        "packaging": ("25.0",),
        "pip": ("26.0",),
        "psutil": ("7.2.1",),
        "pytest": ("9.0.1",),
        "triton": ("3.5.1",),
        "wheel": ("0.46.1",),
    }.items():
        for version in available:
            make_wheel(index.folder, name, version)
    for version in ("2.12.1", "2.13.0"):  # builds with CUDA, as on PyPI
        make_wheel(index.folder, "torch", version, requires=["nvidia-cuda-runtime"])
    make_wheel(index.folder, "nvidia-cuda-runtime", "13.0.96")
    make_toolkit(index.folder)
    make_wheel(index.folder, "cython", "3.2.4", files={"Cython/__init__.py": ""})
    make_setuptools(index.folder)
    for name, version, requires, imports in (
        ("causal-conv1d", "1.5.3", "torch", "packaging torch"),
        ("chumpy", "0.70", "numpy", "pip"),
        ("cython-bbox", "0.1.5", "numpy", "Cython numpy"),
        ("fastdtw", "0.3.4", "numpy", ""),
        ("flash-attn", "2.8.3", "torch", "ninja torch"),
        ("mamba-ssm", "2.2.6", "causal-conv1d torch triton", "packaging torch"),
        ("torch-scatter", "2.1.2", "", "torch"),
        ("webrtcvad", "2.0.10", "", ""),
    ):
        settings: dict[str, Any] = {"import-first": imports.split()}
        if name == "flash-attn":
            settings["require-env"] = ["FLASH_ATTENTION_FORCE_BUILD"]
        elif name == "cython-bbox":
            settings["requires-for-build"] = ["cython", "numpy"]
        make_sdist(
            index.folder,
            name,
            version,
            requires=requires.split(),
            build_requires=("setuptools",),
            backend="setuptools.build_meta",
            settings=settings,
            static=name != "mamba-ssm",
        )


def make_toolkit(folder: Path) -> None:
    """Make stand-ins for CUDA's compiler, and for the package that requires it."""
    nvcc = {f"nvidia/cu13/{it}": "" for it in ("bin/nvcc", "include/cuda.h", "lib/a.a")}
    make_wheel(folder, "nvidia-cuda-nvcc", "13.0.88", files=nvcc)
    parts = ("nvcc", "cudart", "cccl", "cublas", "cusparse", "cusolver")
    requires = ["nvidia-cuda-nvcc ; extra == 'nvcc'"]
    make_wheel(folder, "cuda-toolkit", "13.0.2", requires=requires, extras=parts)


def copy_example(name: str, project: Project, elsewhere: Mapping[str, str]) -> None:
    """Copy an example, with what stand-ins for its indexes and build backends need."""
    shutil.copytree(EXAMPLES / name, project.folder, dirs_exist_ok=True)
    text = project.pyproject.read_text("utf-8")
    for url, ours in elsewhere.items():
        text = text.replace(url, ours)
    project.pyproject.write_text(text, "utf-8")
    for path in project.folder.glob("*/*/pyproject.toml"):
        own = parse_toml(path.read_text("utf-8"))["project"]
        requires = own["dependencies"]
        settings = {
            "name": own["name"],
            "version": own["version"],
            "requires": requires,
        }
        path.with_name("tinybackend.json").write_text(json.dumps(settings), "utf-8")


def remove_line(project: Project, example: Example) -> None:
    """Remove the line that makes an example hard."""
    path = project.folder / example.file
    lines = path.read_text("utf-8").splitlines(keepends=True)
    (at,) = (it for it, line in enumerate(lines) if line.startswith(example.line))
    path.write_text("".join((*lines[:at], *lines[at + 1 :])), "utf-8")


def on_any_machine(table: str) -> str:
    """Return what init wrote in one line, without the machine that it is for."""
    line = re.sub(r"[\s#]+", " ", table)
    return re.sub(r"CPython \S+ on [\w-]+", "CPython", line)


def build(project: Project) -> set[str]:
    """Build all of an example; return the projects with a wheel in a wheelhouse."""
    if "[tool.nox-buildstages.matrix]" in project.pyproject.read_text("utf-8"):
        project.nox("-s", "build-stages")
    else:
        run_session(project, "build-stages")
    wheels = project.wheelhouse.rglob("*.whl")
    return {parse_wheel_filename(path.name)[0] for path in wheels}


def places(project: Project, lock: str) -> dict[str, tuple[str, str]]:
    """Return version and place of each package in a runtime of ours."""
    sources = {
        output["name"]: output["source"]
        for text in lock_texts(project).values()
        for output in parse_toml(text.decode())["tool"][TOOL].get("outputs", ())
    }
    found = {}
    for package in project.lock(lock)["packages"]:
        source = sources.get(package["name"]) or package["wheels"][0]
        place = source.get("url") or source["directory"]
        found[package["name"]] = package["version"], place
    return found


def places_of_uv(project: Project, *words: str) -> dict[str, tuple[str, str]]:
    """Return version and place of each package that uv locks for this machine."""
    argv = (uv.find_uv_bin(), "export", "--quiet", "--format=pylock.toml")
    more = ("--no-emit-project", f"--python={sys.executable}", *words)
    done = subprocess.run(
        (*argv, *more),
        cwd=project.folder,
        env={**project.env},
        check=True,
        capture_output=True,
    )
    locked = parse_toml((project.folder / "uv.lock").read_text("utf-8"))["package"]
    versions = {package["name"]: package["version"] for package in locked}
    found = {}
    for package in parse_toml(done.stdout.decode())["packages"]:
        name = package["name"]
        if "marker" in package and not Marker(package["marker"]).evaluate():
            continue
        file = (package.get("wheels") or [package.get("sdist")])[0]
        place = file["url"] if file else package["directory"]["path"]
        found[name] = package.get("version", versions[name]), place
    return found


def adopt(
    name: str,
    project: Project,
    elsewhere: Mapping[str, str],
    *,
    is_without_line: bool = False,
) -> None:
    """Let init write the table of an example, build it, and compare it with uv's.

    Raises:
        AssertionError: The table isn't that of the example, or something fails.
    """
    example = KINDS[name]
    copy_example(name, project, elsewhere)
    own, _, table = project.pyproject.read_text("utf-8").partition(PROPOSED)
    project.pyproject.write_text(f"{own.rstrip()}\n" if own else "", "utf-8")
    if is_without_line:
        remove_line(project, example)
    run_session(project, "build-stages-init", "--write")
    written = project.pyproject.read_text("utf-8").partition(PROPOSED)[2]
    assert on_any_machine(written) == on_any_machine(table)
    assert build(project) == {*example.wheels}
    for lock, words in example.runtimes.items():
        ours = places(project, lock)
        assert ours == places_of_uv(project, *words)
        assert example.removed not in ours


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_project_is_adopted(
    name: str, project: Project, elsewhere: dict[str, str]
) -> None:
    """Init writes its table, all of it builds, and its runtime is uv's."""
    adopt(name, project, elsewhere)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_project_without_what_makes_it_hard(
    name: str, project: Project, elsewhere: dict[str, str]
) -> None:
    """It is another project: the example tests that line."""
    with pytest.raises(AssertionError):
        adopt(name, project, elsewhere, is_without_line=True)


@pytest.mark.parametrize(
    ("name", "wheels"),
    [
        ("uv-extra-build-dependencies", {"flash-attn"}),
        ("uv-workspace", {"engine", "ops"}),
        pytest.param("dockerfile", {"causal-conv1d", "mamba-ssm"}, marks=SLOW),
        pytest.param("ci-matrix", {"flash-attn"}, marks=SLOW),
    ],
)
def test_the_table_of_an_example_builds(
    name: str, wheels: set[str], project: Project, elsewhere: dict[str, str]
) -> None:
    """As it stands in the example."""
    copy_example(name, project, elsewhere)
    assert build(project) == wheels


def test_the_page_shows_every_example() -> None:
    """And no other; what init wrote has ten lines for each output at most."""
    names = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    shown = re.findall(r"examples/adoption/([\w-]+)", PAGE.read_text("utf-8"))
    assert {*shown} == names
    assert names - KINDS.keys() == {"ci-matrix", "dockerfile"}
    for name, example in KINDS.items():
        text = EXAMPLES.joinpath(name, "pyproject.toml").read_text("utf-8")
        lines = text.partition(PROPOSED)[2].splitlines()[1:]
        written = [it for it in lines if it and not it.startswith("#")]
        assert len(written) <= 10 * len(example.wheels)
