"""A matrix: what each axis multiplies, and what its cells share."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from support.index import Index
from support.packages import make_sdist, make_tinybackend, make_wheel, read_from_wheel
from support.pair import built, declare, lock_texts
from support.project import Project, hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AXES = {
    "arch": ["8.0", "9.0"],
    "tensor": {
        "1": {"constraints": ["tensorlib==1.*"]},
        "2": {"constraints": ["tensorlib==2.*"]},
    },
}


@pytest.fixture
def project(tmp_path: Path, caches: Path) -> Iterator[Project]:
    """A project whose index has what the stages of ``table`` are made of."""
    with Index(tmp_path / "index") as index:
        make_tinybackend(index.folder)
        make_wheel(index.folder, "tensorlib", "1.0")
        make_wheel(index.folder, "tensorlib", "2.0")
        settings: dict[str, Any] = {"stamp": [], "env": ["ARCH"]}
        make_sdist(index.folder, "base", "1.0", settings=settings)
        make_sdist(index.folder, "kernels", "1.0", settings=settings)
        settings = {"stamp": ["kernels", "tensorlib"], "env": ["ARCH"]}
        make_sdist(
            index.folder,
            "models",
            "1.0",
            requires=["kernels", "base", "tensorlib"],
            settings=settings,
        )
        env = hermetic_env(tmp_path / "scratch", caches, index)
        yield make_project(tmp_path / "project", env)


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


def test_two_axes(project: Project) -> None:
    """A stage is built for each value that it names, or that those before it name."""
    declare(project, table(AXES))
    done = project.nox("-s", "build-stages", "-j", "4", timeout=300)
    assert sorted(built(done)) == ["base", *["kernels"] * 2, *["models"] * 4]
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
    project.nox("-s", "build-stages-lock")
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
