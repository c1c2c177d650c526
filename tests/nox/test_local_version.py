"""Outputs with a local version from the table, and the uses of that version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.wheels.wheel import verify_record
from support.packages import make_sdist
from support.pair import (
    Pair,
    built,
    declare,
    entry,
    installed,
    lock_texts,
    planned,
    publish,
    recipe,
    refused,
    versions,
)

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

KERNELS = "kernels-1.0+tensor2.0-py3-none-any.whl"
CI = {"CI": "1"}


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def label(
    project: Project,
    text: str = "tensor{tensorlib}",
    constraint: str = "tensorlib",
    **fields: Any,  # noqa: ANN401 - TOML
) -> None:
    """Write a project whose first output has a local version."""
    top = {"package": {"kernels": {"local-version": text}}, "constraints": [constraint]}
    Pair(top=top, **fields).write(project)


def outputs(project: Project, lock: str) -> dict[str, str]:
    """Return the versions that a stage's lock says of its outputs."""
    found = project.lock(lock)["tool"]["nox-buildstages"]["outputs"]
    return {output["name"]: output["version"] for output in found}


def test_the_local_version_is_used_everywhere(project: Project, index: Index) -> None:
    """Locks, wheels, environments and releases have it; ``kernels==1.0`` matches.

    The locks stay up to date, and the wheel is found by key.
    """
    make_sdist(index.folder, "models", "1.1", requires=["kernels==1.0"])
    label(project, final={"requirements": ["models", "kernels==1.0"]})
    assert built(project.nox("-s", "build-stages")) == ["kernels", "models"]
    assert outputs(project, "first") == {"kernels": "1.0+tensor2.0"}
    assert versions(project, "second")["kernels"] == "1.0+tensor2.0"
    assert versions(project, "final")["kernels"] == "1.0+tensor2.0"
    assert project.wheels() == [KERNELS, "models-1.1-py3-none-any.whl"]
    assert entry(project, "kernels")["version"] == "1.0+tensor2.0"
    assert recipe(project, "kernels")["version"] == "1.0+tensor2.0"
    assert recipe(project, "models")["environment"]["kernels"]["version"] == (
        "1.0+tensor2.0"
    )
    verify_record(project.wheelhouse / KERNELS)
    final = installed(project.folder / ".nox/build-stages")
    assert final["kernels"] == "1.0+tensor2.0"
    house = project.wheelhouse
    bound = house.joinpath("pylock.toml").read_text("utf-8")
    assert f'path = "{KERNELS}"' in bound

    again = project.nox("-s", "build-stages-release", env=CI)
    assert built(again) == []
    assert "locking" not in again.output
    page = house.joinpath("simple/kernels/index.html").read_text("utf-8")
    assert "kernels-1.0%2Btensor2.0-py3-none-any.whl#sha256=" in page
    lines = house.joinpath("provenance.jsonl").read_text("utf-8").splitlines()
    subjects = [json.loads(line)["subject"][0]["name"] for line in lines]
    assert subjects == [KERNELS, "models-1.1-py3-none-any.whl"]
    bill = json.loads(house.joinpath("sbom.cdx.json").read_bytes())
    found = {it["name"]: it["version"] for it in bill["components"]}
    assert found["kernels"] == "1.0+tensor2.0"

    locks = lock_texts(project)
    project.nox("-s", "build-stages-lock")
    assert lock_texts(project) == locks


@pytest.mark.slow
def test_the_local_version_follows_the_environment(project: Project) -> None:
    """The plan shows the change."""
    table = {
        "final": {"requirements": ["kernels"]},
        "stage": [{"name": "only", "outputs": ["kernels"]}],
        "package": {
            "kernels": {
                "build-requires": {"add": ["tensorlib"]},
                "local-version": "tensor{tensorlib}",
            }
        },
    }
    declare(project, {**table, "constraints": ["tensorlib<2"]})
    project.nox("-s", "build-stage-only")
    declare(project, {**table, "constraints": ["tensorlib>=2"]})
    said = project.nox("-s", "build-stages-lock").output
    plan = project.nox("-s", "build-stages-plan")
    project.nox("-s", "build-stage-only")
    assert "kernels 1.0+tensor1.0 → 1.0+tensor2.0 in only, final" in said
    assert planned(plan)["kernels"][0] == "build"
    assert "version 1.0+tensor1.0 → 1.0+tensor2.0" in plan.output
    assert "tensorlib 1.0 → 2.0" in plan.output
    assert project.wheels() == [KERNELS]


@pytest.mark.slow
def test_local_versions_can_be_added_and_removed(project: Project) -> None:
    """The locks are out of date then, and keep their sources."""
    Pair().write(project)
    project.prepare()
    label(project)
    assert "out of date" in refused(project, "-s", "build-stages", env=CI)
    assert built(project.nox("-s", "build-stage-second")) == ["kernels", "models"]
    Pair().write(project)
    assert built(project.nox("-s", "build-stage-second")) == []
    assert versions(project, "final")["kernels"] == "1.0"


@pytest.mark.slow
def test_locking_again_keeps_the_source(project: Project, index: Index) -> None:
    """A newer source is used only with an upgrade flag."""
    label(project)
    project.prepare("build-stages-lock")
    make_sdist(index.folder, "kernels", "1.1", requires=["tensorlib"])
    label(project, text="t{tensorlib}")
    project.nox("-s", "build-stages-lock")
    assert outputs(project, "first") == {"kernels": "1.0+t2.0"}
    project.nox("-s", "build-stages-lock", "--", "--upgrade")
    assert outputs(project, "first") == {"kernels": "1.1+t2.0"}


@pytest.mark.slow
def test_the_local_version_of_a_backend_is_replaced(
    project: Project, index: Index
) -> None:
    """The public version must still match."""
    index.remove("kernels")
    settings = {"version": "1.0+cu12"}
    make_sdist(index.folder, "kernels", "1.0", static=False, settings=settings)
    label(project, text="{tensorlib}.own")
    project.nox("-s", "build-stage-first")
    assert outputs(project, "first") == {"kernels": "1.0+2.0.own"}
    assert "kernels-1.0+2.0.own-py3-none-any.whl" in project.wheels()


def test_a_wrong_public_version_is_an_error(project: Project, index: Index) -> None:
    """The local version does not hide a wrong public version."""
    index.remove("kernels")
    settings = {"faults": ["wrong-version"]}
    make_sdist(index.folder, "kernels", "1.0", settings=settings)
    label(project)
    said = refused(project, "-s", "build-stage-first")
    assert "is version 0.0.0; the lock says 1.0" in said


@pytest.mark.slow
def test_hooks_see_the_local_version(project: Project, index: Index) -> None:
    """A wheel that is built while locking is the locked wheel."""
    index.remove("models")
    settings = {"stamp": ["kernels"]}
    make_sdist(index.folder, "models", "1.0", static=False, settings=settings)
    label(project)
    assert built(project.nox("-s", "build-stages-lock")) == ["kernels"]
    assert built(project.nox("-s", "build-stage-second")) == ["models"]
    assert outputs(project, "first") == {"kernels": "1.0+tensor2.0"}


def test_an_output_may_be_in_match_runtime(project: Project) -> None:
    """Its only wheel is in every environment."""
    top = {
        "package": {"kernels": {"local-version": "t{tensorlib}"}},
        "match-runtime": ["kernels", "tensorlib"],
    }
    Pair(top=top, final={"requirements": ["models", "tensorlib<2"]}).write(project)
    project.nox("-s", "build-stages-lock")
    assert versions(project, "final") == {
        "kernels": "1.0+t1.0",
        "models": "1.0",
        "tensorlib": "1.0",
    }


def test_a_hook_may_require_the_named_package(project: Project, index: Index) -> None:
    """A package that only a hook requires is in the environment."""
    index.remove("kernels")
    settings = {"requires-for-build": ["tensorlib"]}
    make_sdist(index.folder, "kernels", "1.0", static=False, settings=settings)
    declare(
        project,
        {
            "final": {"requirements": ["kernels"]},
            "stage": [{"name": "only", "outputs": ["kernels"]}],
            "package": {"kernels": {"local-version": "tensor{tensorlib}"}},
        },
    )
    project.nox("-s", "build-stage-only")
    assert project.wheels() == [KERNELS]


def test_an_unknown_package_is_an_error(project: Project) -> None:
    """The error suggests the nearest name and the key; no lock is written."""
    label(project, text="tensor{tensorlip}")
    said = refused(project, "-s", "build-stages-lock")
    problem = "which is neither a package in the environment of stage first nor an axis"
    assert f"local-version uses {{tensorlip}}, {problem}" in said
    assert "did you mean 'tensorlib'?" in said
    assert "correct tool.nox-buildstages.package.kernels.local-version" in said
    assert not project.folder.joinpath("build-stages").exists()


def test_each_platform_has_its_own_local_version(project: Project) -> None:
    """The named package may have another version on each platform."""
    top = {
        "package": {"kernels": {"local-version": "t{tensorlib}"}},
        "constraints": ["tensorlib<2 ; sys_platform == 'darwin'"],
        "environments": ["sys_platform == 'darwin' and platform_machine == 'arm64'"],
    }
    Pair(top=top).write(project)
    project.nox("-s", "build-stage-first")
    table = project.lock("first")["tool"]["nox-buildstages"]["outputs"]
    found = {it["version"]: it["marker"] for it in table}
    assert found.keys() == {"1.0+t1.0", "1.0+t2.0"}
    assert 'sys_platform == "darwin"' in found["1.0+t1.0"]
    assert "kernels-1.0+t2.0-py3-none-any.whl" in project.wheels()
