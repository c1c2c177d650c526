"""Machines that share what they build, each with a store of its own."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from support.pair import KERNELS, MODELS, Pair, built, entry, planned, refused, world
from support.project import make_project
from support.serving import Files, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.project import Completed, Project

WRITE = {"NOX_BUILDSTAGES_REMOTE_STORE_WRITE": "1"}
REMOTE = "NOX_BUILDSTAGES_REMOTE_STORE"


SHARED = Pair(top={"remote-store": "../../shared"})


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[tuple[Project, Completed]]:
    """The machine that built and shared its wheels, and what nox printed."""
    folder = tmp_path_factory.mktemp("first")
    with world(folder / "a", caches) as (_, project):
        SHARED.write(project)
        yield project, project.nox("-s", "build-stages", env=WRITE)


@pytest.fixture
def shared(first: tuple[Project, Completed], tmp_path: Path) -> Path:
    """A copy of what the first machine shared."""
    project, _ = first
    return shutil.copytree(project.folder / "../../shared", tmp_path / "shared")


@pytest.fixture
def machine(
    first: tuple[Project, Completed], tmp_path: Path
) -> Callable[[str], Project]:
    """Return a function that makes the same project, locked, on another machine."""

    def make(name: str) -> Project:
        project = make_project(tmp_path / name / "project", first[0].env)
        SHARED.write(project)
        locks = project.folder / "build-stages"
        shutil.copytree(first[0].folder / "build-stages", locks)
        return project

    return make


def without_fsspec(folder: Path) -> dict[str, str]:
    """Return variables that make an import of fsspec fail."""
    folder.mkdir()
    folder.joinpath("fsspec.py").write_text("raise ImportError('no fsspec')\n")
    return {"PYTHONPATH": str(folder)}


def test_what_one_machine_built_another_fetches(
    first: tuple[Project, Completed],
    machine: Callable[[str], Project],
    shared: Path,
    tmp_path: Path,
) -> None:
    """It builds nothing, says from where it has it, and does not need to ask again."""
    builder, done = first
    assert built(done) == ["kernels", "models"]
    assert (
        f"put {KERNELS} into {builder.folder.parents[1] / 'shared'} in " in done.output
    )

    second = machine("b")
    plan = second.nox("-s", "build-stages-plan")
    assert planned(plan) == {"kernels": ("cached", ""), "models": ("cached", "")}
    assert "fsspec" not in plan.output  # it logs what it opens
    assert plan.output.count(f"cached ({shared})") == 2
    assert list(second.store.glob("wheels/*")) == []

    done = second.nox("-s", "build-stages")
    assert built(done) == []
    for wheel in (KERNELS, MODELS):
        assert f"fetched {wheel} from {shared} in " in done.output
        assert f"cached {wheel}" in done.output
        same = [it.wheelhouse.joinpath(wheel).read_bytes() for it in (builder, second)]
        assert same[0] == same[1]
    assert entry(second, "models")["status"] == "cached"
    logs = [it.wheelhouse / "logs/models.log" for it in (builder, second)]
    assert logs[0].read_bytes() == logs[1].read_bytes()

    shutil.rmtree(shared)
    done = second.nox("-s", "build-stages", env=without_fsspec(tmp_path / "none"))
    assert built(done) == []
    assert "remote store" not in done.output
    assert str(shared) not in second.nox("-s", "build-stages-plan").output


@pytest.mark.slow
@pytest.mark.usefixtures("shared")
def test_sessions_side_by_side_fetch_what_they_need(
    machine: Callable[[str], Project],
) -> None:
    """Each wheel once, and the JSON of a plan says where it is before and after."""
    project = machine("b")
    assert where(project) == ["remote", "remote"]
    done = project.nox("-s", "build-stages", "-j", "2")
    assert built(done) == []
    assert done.output.count("fetched ") == 2
    assert where(project) == ["local", "local"]


def where(project: Project) -> list[str | None]:
    said = project.nox("-s", "build-stages-plan", "--", "--json").output
    document = json.JSONDecoder().raw_decode(said[said.index("{\n") :])[0]
    return [it["store"] for stage in document["stages"] for it in stage["outputs"]]


@pytest.mark.slow
def test_any_web_server_will_do_for_reading(
    machine: Callable[[str], Project], shared: Path
) -> None:
    """One that serves the files, lists nothing, and takes nothing."""
    second = machine("b")
    with served(shared, Files) as url:
        done = second.nox("-s", "build-stages", env={REMOTE: url})
        assert built(done) == []
        assert f"fetched {MODELS} from {url} in " in done.output
        rebuild = ("-s", "build-stage-first", "--", "--rebuild")
        done = second.nox(*rebuild, env={**WRITE, REMOTE: url})
    assert built(done) == ["kernels"]
    assert f"the remote store {url} can't be written to (" in done.output


@pytest.mark.usefixtures("shared")
def test_a_tampered_wheel_is_fetched_again(
    machine: Callable[[str], Project],
) -> None:
    """One in the store here, which isn't built as long as a sound one is shared."""
    project = machine("b")
    project.nox("-s", "build-stages")
    (wheel,) = project.store.glob(f"wheels/*/*/{KERNELS}")
    before = wheel.read_bytes()
    wheel.write_bytes(before[:-1])
    assert planned(project.nox("-s", "build-stages-plan"))["kernels"][0] == "cached"
    done = project.nox("-s", "build-stages")
    assert built(done) == []
    assert f"fetched {KERNELS} from" in done.output
    assert wheel.read_bytes() == before


def test_a_tampered_wheel_that_is_shared_is_built(
    machine: Callable[[str], Project], shared: Path
) -> None:
    """It is refused; who may write puts a sound one in its place."""
    (wheel,) = shared.glob(f"wheels/*/*/*/{KERNELS}")
    before = wheel.read_bytes()
    wheel.write_bytes(before[:-1])
    done = machine("b").nox("-s", "build-stages", env=WRITE)
    told = "the wheel of kernels in the remote store is damaged; building it"
    assert done.output.count(told) == 1
    assert built(done) == ["kernels"]
    assert wheel.read_bytes() == before
    assert built(machine("c").nox("-s", "build-stages")) == []


def test_without_the_shared_store_everything_is_built(
    machine: Callable[[str], Project], tmp_path: Path
) -> None:
    """That it is away is told once, however many sessions find it out."""
    shared = tmp_path / "shared"
    project = machine("a")
    done = project.nox("-s", "build-stages")
    assert built(done) == ["kernels", "models"]
    told = f"the remote store {shared} can't be read (nothing is there)"
    assert done.output.count("remote store") == 1
    assert f"{told}; this run continues without it" in done.output


def test_what_can_not_be_put_is_no_error(
    machine: Callable[[str], Project],
) -> None:
    """It is told once, too."""
    shared = "/proc/nox-buildstages"
    done = machine("a").nox("-s", "build-stages", env={**WRITE, REMOTE: shared})
    assert built(done) == ["kernels", "models"]
    assert done.output.count("remote store") == 1
    assert f"the remote store {shared} can't be written to (No such file" in done.output


def test_rebuild_fetches_nothing(
    machine: Callable[[str], Project], shared: Path
) -> None:
    """What is built takes the place of what was shared."""
    records = {path: path.read_text() for path in shared.glob("wheels/*/*/record.json")}
    assert len(records) == 2
    done = machine("b").nox("-s", "build-stages", "--", "--rebuild", env=WRITE)
    assert built(done) == ["kernels", "models"]
    assert "fetched" not in done.output
    after = {path.read_text() for path in shared.glob("wheels/*/*/record.json")}
    assert len(after.difference(records.values())) == 2


def test_a_missing_library_is_an_error_where_it_is_needed(
    machine: Callable[[str], Project], tmp_path: Path
) -> None:
    """It says what to install, and how to do without."""
    project = machine("a")
    env = without_fsspec(tmp_path / "none")
    for session in ("build-stages", "build-stages-plan"):
        said = refused(project, "-s", session, env=env)
        assert "fsspec isn't installed" in said
        assert "pip install 'nox-buildstages[remote]'" in said
    first = ("-s", "build-stage-first")
    said = refused(project, *first, "--", "--rebuild", env=env)
    assert "fsspec isn't installed" in said
    done = project.nox(*first, env={**env, REMOTE: ""})
    assert built(done) == ["kernels"]


def test_a_driver_that_is_missing_is_an_error(
    machine: Callable[[str], Project],
) -> None:
    """Its name is said, and no secret."""
    project = machine("a")
    env = {REMOTE: "nowhere://j.doe:s3cr3t@host/x"}
    said = refused(project, "-s", "build-stages", env=env)
    assert "error: remote store nowhere://****@host/x: fsspec has no driver" in said
    assert "s3cr3t" not in said


def test_a_word_that_means_nothing_is_an_error(
    machine: Callable[[str], Project],
) -> None:
    """Else a typing error would leave the shared store empty."""
    env = {"NOX_BUILDSTAGES_REMOTE_STORE_WRITE": "yes"}
    said = refused(machine("a"), "-s", "build-stages-plan", env=env)
    assert "NOX_BUILDSTAGES_REMOTE_STORE_WRITE is 'yes'" in said
