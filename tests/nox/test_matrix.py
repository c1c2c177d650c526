"""A matrix: what each axis multiplies, and what its cells share."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import ExitStack
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
import uv
from filelock import FileLock

from nox_buildstages.system.files import path_id
from support.index import Index
from support.packages import (
    make_sdist,
    make_tree,
    make_wheel,
    read_from_wheel,
)
from support.pair import (
    built,
    declare,
    installed,
    lock_texts,
    refused,
    site_packages,
    stored,
    versions,
)
from support.patches import make_patch
from support.pythons import HERE

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

AXES: dict[str, Any] = {
    "arch": ["8.0", "9.0"],
    "tensor": {
        "1": {"constraints": ["tensorlib==1.*"]},
        "2": {"constraints": ["tensorlib==2.*"]},
    },
}


@pytest.fixture
def index(index: Index) -> Index:
    """What the stages of ``table`` are made of."""
    make_wheel(index.folder, "tensorlib", "1.0")
    make_wheel(index.folder, "tensorlib", "2.0")
    settings: dict[str, Any] = {"stamp": [], "env": ["ARCH"]}
    make_sdist(index.folder, "base", "1.0", settings=settings)
    make_sdist(index.folder, "kernels", "1.0", settings=settings)
    settings = {"stamp": ["kernels", "tensorlib"], "env": ["ARCH"]}
    requires = ["kernels", "base", "tensorlib"]
    make_sdist(index.folder, "models", "1.0", requires=requires, settings=settings)
    return index


def table(matrix: dict[str, Any]) -> dict[str, Any]:
    """Return stages that name no axis, ``arch``, and what ``tensor`` constrains."""
    return {
        "matrix": matrix,
        "match-runtime": ["tensorlib"],
        "final": {"requirements": ["models"], "imports": ["models"]},
        "stage": [
            {"name": "base", "outputs": ["base"]},
            {"name": "kernels", "outputs": ["kernels"], "env": {"ARCH": "sm{arch}"}},
            {
                "name": "models",
                "outputs": ["models"],
                "dependencies": ["base", "kernels", "tensorlib"],
            },
        ],
    }


def listed(project: Project) -> list[str]:
    """Return the names of the sessions that nox lists."""
    output = project.nox("--list", "--json").output
    sessions = json.loads(next(it for it in output.splitlines() if it.startswith("[")))
    return [session["session"] for session in sessions]


def plan(project: Project, *words: str) -> dict[str, Any]:
    """Return the plan as JSON."""
    output = project.nox("-s", "build-stages-plan", "--", "--json", *words).output
    text = output[output.index("\n{") :]
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text.strip())[0]
    return found


def member(project: Project, cell: str, name: str, file: str) -> dict[str, Any]:
    """Return what a wheel of a cell says of how it was built."""
    wheel = project.wheelhouse / cell / f"{name}-1.0-py3-none-any.whl"
    found: dict[str, Any] = json.loads(read_from_wheel(wheel, f"{name}/{file}.json"))
    return found


@pytest.mark.slow
def test_two_axes(project: Project) -> None:
    """A stage is built for each value that it names, or that those before it name."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    done = project.nox("-s", "build-stages", "-j", "4", timeout=300)
    assert sorted(built(done)) == ["base", *["kernels"] * 2, *["models"] * 4]
    names = [name.split("-")[0] for name in stored(project)]
    assert names == ["base", *["kernels"] * 2, *["models"] * 4]
    for arch, tensor in product(("8.0", "9.0"), ("1", "2")):
        cell = f"{arch}/{tensor}"
        models = member(project, cell, "models", "built_against")
        assert models["tensorlib"]["version"] == f"{tensor}.0"
        assert member(project, cell, "kernels", "env") == {"ARCH": f"sm{arch}"}
    assert sorted(lock_texts(project)) == [
        "pylock.base.toml",
        "pylock.final-1.toml",
        "pylock.final-2.toml",
        "pylock.kernels.toml",
        "pylock.models-1.toml",
        "pylock.models-2.toml",
    ]
    again = project.nox("-s", "build-stages", env={"CI": "1"})
    assert built(again) == []


def test_the_plan_and_the_list_agree(project: Project) -> None:
    """On the sessions, which are there once for all cells that share them."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    found = plan(project)
    stages = [stage["session"] for stage in found["stages"]]
    sessions = listed(project)
    assert stages == [it for it in sessions if it.startswith("build-stage-")]
    finals = [final["session"] for final in found["final"]]
    assert finals == [it for it in sessions if it.startswith("build-stages(")]
    assert finals[0] == "build-stages(arch=8.0, tensor=1)"
    assert found["final"][0]["matrix"] == {"arch": "8.0", "tensor": "1"}
    required = {name for it in found["final"] for name in it["requires"]}
    assert required == {*stages}
    assert "build-stages" in sessions


def test_one_stage_or_cell_alone(project: Project) -> None:
    """Only its stages are built, and a wheel goes where its runtime is made."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    shutil.rmtree(project.store)
    done = project.nox("-s", "build-stage-models(arch=9.0, tensor=2)")
    assert built(done) == ["base", "kernels", "models"]
    house = project.wheelhouse / "9.0/2"
    assert house.joinpath("logs/models.log").is_file()
    wheels = [*project.wheelhouse.rglob("*.whl")]
    assert wheels == [house / "models-1.0-py3-none-any.whl"]
    assert built(project.nox("-s", "build-stages(arch=9.0, tensor=2)")) == []
    assert {path.parent for path in project.wheelhouse.rglob("*.whl")} == {house}
    stages = plan(project)["stages"]
    cached = [it for it in stages if it["outputs"][0]["state"] == "cached"]
    assert [it["session"] for it in cached] == [
        "build-stage-base",
        "build-stage-kernels(arch=9.0)",
        "build-stage-models(arch=9.0, tensor=2)",
    ]


@pytest.mark.slow
def test_locking_compiles_nothing_for_each_value(project: Project) -> None:
    """What a backend says on a stage's wheel, it says on that of another value, too."""
    mac = "sys_platform == 'darwin' and platform_machine == 'arm64'"
    stages = table({"arch": ["8.0", "9.0", "10.0"]})
    declare(project, {**stages, "environments": [mac]})
    done = project.nox("-s", "build-stages-lock")
    assert built(done) == []
    assert done.output.count("using the answers of build backends here for") == 1


@pytest.mark.slow
def test_a_patch_for_each_value_is_asked_of_each(
    project: Project, index: Index, tmp_path: Path
) -> None:
    """Another source may require something else."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    make_wheel(index.folder, "helper", "1.0")
    tree = make_tree(project.folder / "models", "models", "1.0", requires=["kernels"])
    for arch, name in (("8.0", "kernels"), ("9.0", "helper")):

        def edit(copy: Path, name: str = name) -> None:
            path = copy / "tinybackend.json"
            text = path.read_text("utf-8").replace("kernels", name)
            path.write_text(f"{text}\n", "utf-8")

        patch = make_patch(tmp_path / "copy", tree, edit)
        project.folder.joinpath(f"{arch}.patch").write_bytes(patch)
    stages = table({"arch": ["8.0", "9.0"]})
    stages["stage"][2]["outputs"] = ["models @ ./models"]
    stages["package"] = {"models": {"patches": ["{arch}.patch"]}}
    declare(project, stages)
    project.nox("-s", "build-stages-lock")
    assert "helper" not in versions(project, "final-8_0")
    assert "helper" in versions(project, "final-9_0")


@pytest.mark.slow
def test_a_wheelhouse_of_a_cell_installs(project: Project, tmp_path: Path) -> None:
    """As any other does, by its lock."""
    declare(project, table({"arch": ["8.0", "9.0"]}))
    project.prepare()
    environment = tmp_path / "environment"
    command = [uv.find_uv_bin(), "pip", "sync", "-q", "--preview-features", "pylock"]
    command += ["--prefix", str(environment), "9.0/pylock.toml"]
    subprocess.run(command, check=True, cwd=project.wheelhouse, env=project.env)
    assert installed(environment).keys() == {"base", "kernels", "models", "tensorlib"}


@pytest.mark.slow
def test_what_is_stale_is_locked_for_all_cells(project: Project) -> None:
    """A value more is a lock more, and what is shared stays as it is."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    arch = {"arch": ["8.0"]}
    declare(project, table({**arch, "tensor": {"1": AXES["tensor"]["1"]}}))
    project.nox("-s", "build-stages-lock")
    assert "pylock.models.toml" in lock_texts(project)
    declare(project, table({**arch, "tensor": AXES["tensor"]}))
    output = refused(project, "-s", "build-stages", env={"CI": "1"})
    assert "the lock files are out of date" in output
    done = project.nox("-s", "build-stages-lock")
    assert "pylock.models-1.toml, pylock.models-2.toml" in done.output
    assert "pylock.models.toml" not in lock_texts(project)
    project.nox("-s", "build-stages-lock", "--", "--check")
    texts = lock_texts(project)
    project.nox("-s", "build-stages-lock")
    assert lock_texts(project) == texts


@pytest.mark.slow
def test_a_lock_that_is_gone_or_broken_is_named(project: Project) -> None:
    """By its own file, if that is known; what others have is planned as ever."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    path = project.folder / "build-stages/pylock.models-2.toml"
    text = path.read_text("utf-8")
    path.write_text(f"<<<<<<< HEAD\n{text}", "utf-8")
    session = ("-s", "build-stages(arch=8.0, tensor=2)", "--", "--locked")
    assert "pylock.models-2.toml: can't be read" in refused(project, *session)
    path.unlink()
    for words in (session, ("-s", "build-stages-lock", "--", "--check")):
        output = refused(project, *words)
        assert "date: the lock of models(arch=8.0, tensor=2) is missing" in output
    stages = plan(project)["stages"]
    cached = [it for it in stages if it["outputs"][0]["state"] == "cached"]
    assert [it["session"] for it in cached] == [
        "build-stage-base",
        "build-stage-kernels(arch=8.0)",
    ]


def need_tensorlib(project: Project, index: Index, stages: dict[str, Any]) -> None:
    """Let the build of base need tensorlib, with locks of the time before."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    settings: dict[str, Any] = {"requires-for-build": ["tensorlib"]}
    make_sdist(index.folder, "base", "1.1", settings=settings)
    stages["stage"][0]["outputs"] = ["base==1.1"]


@pytest.mark.slow
def test_what_one_cell_needs_may_suit_all(project: Project, index: Index) -> None:
    """A stage that they share is locked so that it does for each of them."""
    stages = table({"arch": ["8.0"], "tensor": ["free", "bound"]})
    need_tensorlib(project, index, stages)
    make_wheel(index.folder, "helper-free", "1.0")
    make_wheel(index.folder, "helper-bound", "1.0", requires=["tensorlib<2"])
    stages["stage"][2]["dependencies"].append("helper-{tensor}")
    declare(project, stages)
    project.nox("-s", "build-stages-lock")
    assert versions(project, "base")["tensorlib"] == "1.0"


@pytest.mark.slow
def test_what_suits_no_two_cells_is_told(project: Project, index: Index) -> None:
    """With what differs, and how to have the stage for each value."""
    stages = table(AXES)
    need_tensorlib(project, index, stages)
    before = lock_texts(project)
    declare(project, stages)
    output = refused(project, "-s", "build-stages-lock")
    assert "stage base: its environment differs between cells that share it" in output
    assert "in (arch=8.0, tensor=1) and (arch=8.0, tensor=2)" in output
    assert "tensorlib: 1.0, 2.0" in output
    assert 'env = { TENSOR = "{tensor}" }' in output
    assert lock_texts(project) == before


@pytest.mark.slow
def test_a_failure_leaves_the_other_cells_alone(project: Project) -> None:
    """They are built; a table tells of those that aren't, each stage once."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    for arch, faults in (("8.0", []), ("9.0", ["raise"])):
        tree = project.folder / f"kernels-{arch}"
        make_tree(tree, "kernels", "1.0", settings={"faults": faults})
    stages = table({"arch": ["8.0", "9.0"]})
    stages["stage"][1] = {"name": "kernels", "outputs": ["kernels @ ./kernels-{arch}"]}
    declare(project, stages)
    project.nox("-s", "build-stage-kernels(arch=8.0)")
    alone = project.nox("-s", "build-stages(arch=9.0)", check=False)
    assert "kernels(arch=9.0)" in alone.output
    assert "(arch=8.0)" not in alone.output
    done = project.nox("-s", "build-stages", check=False)
    assert "* build-stages(arch=8.0): success" in done.output
    assert "Session build-stage-kernels(arch=9.0) aborted" in done.output
    assert (project.wheelhouse / "8.0/pylock.toml").is_file()
    lines = [line.removeprefix("nox > ") for line in done.output.splitlines()]
    at = max(i for i, line in enumerate(lines) if line.startswith(" output "))
    assert [line.split()[:4] for line in lines[at + 1 : at + 4]] == [
        ["base", "1.0", "base", "cached"],
        ["kernels", "1.0", "kernels(arch=9.0)", "failed"],
        ["models", "models(arch=9.0)", "not", "built"],
    ]


@pytest.mark.slow
def test_pythons_multiply_cells(project: Project) -> None:
    """By nox, behind what the matrix has done."""
    cells = table({"arch": ["8.0", "9.0"]})
    declare(project, cells)
    project.prepare()
    declare(project, {**cells, "python": [HERE]})
    assert listed(project) == [
        f"build-stage-base-{HERE}",
        f"build-stage-kernels(arch=8.0)-{HERE}",
        f"build-stage-models(arch=8.0)-{HERE}",
        f"build-stage-kernels(arch=9.0)-{HERE}",
        f"build-stage-models(arch=9.0)-{HERE}",
        f"build-stages(arch=8.0)-{HERE}",
        f"build-stages(arch=9.0)-{HERE}",
        "build-stages",
    ]
    assert built(project.nox("-s", "build-stages")) == []
    found = plan(project)
    assert [it["session"] for it in found["final"]] == listed(project)[5:7]
    assert (project.wheelhouse / "9.0/pylock.toml").is_file()


@pytest.mark.slow
def test_a_value_has_its_index(project: Project, tmp_path: Path) -> None:
    """Of two builds of one version, each cell has its own, in every environment."""
    declare(project, table(AXES))
    project.prepare("build-stages-lock")
    with Index(tmp_path / "one") as one, Index(tmp_path / "two") as two:
        indexes = {"one": one, "two": two}
        for name, index in indexes.items():
            files = {"tensorlib.py": f"BUILD = {name!r}"}
            make_wheel(index.folder, "tensorlib", "3.0", files=files)
        constraints = ["tensorlib==3.*"]
        stages = table(
            {
                "arch": ["8.0"],
                "tensor": {
                    name: {"constraints": constraints, "index": name}
                    for name in indexes
                },
            }
        )
        stages["final"]["requirements"].append("tensorlib")
        for explicit in (False, True):
            declared = [
                {"name": name, "url": index.url, "explicit": explicit}
                for name, index in indexes.items()
            ]
            tools = {"nox-buildstages": stages, "uv": {"index": declared}}
            project.write(tomli_w.dumps({"tool": tools}))
            project.nox("-s", "build-stages-lock")
            for name, index in indexes.items():
                url = index.file_url("tensorlib-3.0-py3-none-any.whl")
                for lock in (f"models-{name}", f"final-{name}"):
                    packages = {it["name"]: it for it in project.lock(lock)["packages"]}
                    assert packages["tensorlib"]["wheels"][0]["url"] == url
            if not explicit:
                shutil.rmtree(project.folder / "build-stages")
        project.nox("-s", "build-stages")
    for name in indexes:
        models = member(project, f"8.0/{name}", "models", "built_against")
        assert models["tensorlib"]["content"] == f"BUILD = {name!r}"
        environment = project.folder / f".nox/build-stages-arch-8-0-tensor-{name}"
        held = site_packages(environment) / "tensorlib.py"
        assert held.read_text("utf-8") == f"BUILD = {name!r}"


def test_words_after_a_session_of_all_cells_are_checked(project: Project) -> None:
    """Though it does nothing itself."""
    declare(project, table(AXES))
    output = refused(project, "-s", "build-stages", "--", "--frobnicate")
    assert "unknown word after --: '--frobnicate'" in output


@pytest.mark.slow
def test_who_has_the_environments_of_all_cells_waits_for_nobody(
    project: Project,
) -> None:
    """The session that requires them all has none that could be missing.

    Words for it are for the sessions of each cell.
    """
    declare(project, table({"arch": ["8.0", "9.0"]}))
    project.prepare()
    done = project.nox("-s", "build-stages", "--", "--rebuild", "kernels")
    assert built(done) == ["kernels", "kernels"]
    with ExitStack() as locks:
        for folder in project.folder.glob(".nox/build-stage*"):
            lock = project.store / "locks" / f"making-{path_id(folder)}.lock"
            locks.enter_context(FileLock(lock))
        done = project.nox("-s", "build-stages", timeout=60)
    assert "waiting for" not in done.output


@pytest.mark.slow
def test_cells_make_one_release(project: Project) -> None:
    """Where local versions tell their wheels apart; the cells' own folders stay."""
    matrix = {"arch": ["8.0", "9.0"]}
    declare(project, table(matrix))
    project.prepare()
    versions = {name: {"local-version": "sm{arch}"} for name in ("kernels", "models")}
    declare(project, {**table(matrix), "package": versions})
    project.nox("-s", "build-stages-release", "--", "--vendor")
    project.nox("-s", "build-stages-merge", "--", "wheelhouse")
    names = {path.name for path in project.wheelhouse.glob("*/*.whl")}
    assert {*project.wheels()} == names
    assert len(names) == 1 + 2 * 2 + len(["tensorlib"])
    sums = project.wheelhouse.joinpath("SHA256SUMS").read_text("utf-8")
    assert names < {*sums.split()}
    assert project.wheelhouse.joinpath("simple/kernels/index.html").is_file()


@pytest.mark.slow
def test_what_is_left_of_values_is_told(project: Project) -> None:
    """Those that were renamed, and of the time before there were any."""
    declare(project, table({"arch": ["8.0", "9.0"]}))
    project.prepare()
    shutil.copytree(project.wheelhouse / "8.0", project.wheelhouse, dirs_exist_ok=True)
    line = "belongs to no cell any more, and stays: wheelhouse"
    assert f"{line}\n" in project.nox("-s", "build-stages").output
    declare(project, table({"arch": ["9.0"]}))
    done = project.nox("-s", "build-stages")
    assert f"{line}, wheelhouse/8.0\n" in done.output
    merged = project.nox("-s", "build-stages-merge", "--", "wheelhouse", check=False)
    assert f"{line}, wheelhouse/8.0\n" in merged.output
    shutil.rmtree(project.wheelhouse)
    assert line not in project.nox("-s", "build-stages").output


def test_cells_that_have_one_name_for_two_wheels_do_not_merge(project: Project) -> None:
    """It is told how to tell them apart."""
    declare(project, table({"arch": ["8.0", "9.0"]}))
    project.prepare()
    output = refused(project, "-s", "build-stages-merge", "--", "wheelhouse")
    assert "kernels-1.0-py3-none-any.whl" in output
    assert "local-version" in output
    assert project.wheels() == []
