"""`build-stages-merge` merges the wheelhouses of several jobs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.system.files import file_stamp, sha256_of
from nox_buildstages.value import replace
from support.elsewhere import Elsewhere, make_elsewhere, run
from support.packages import make_sdist
from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    built,
    entry,
    installed,
    planned,
    refused,
    world,
)
from support.project import Project, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MERGE = ("-s", "build-stages-merge", "--")
TENSORLIB = "tensorlib-1.0-py3-none-any.whl"
NEWER = "models-2.0-py3-none-any.whl"

PAIR = Pair(
    top={"constraints": ["tensorlib<2"]},
    final={"requirements": ["models"], "imports": ["models"]},
    second={"outputs": ["models==1.0"]},
)
OTHER = replace(PAIR, second={"outputs": ["models==2.0"]})
"""Has the same kernels, and other models."""

NAMESAKES = replace(PAIR, first={"env": {"ARCH": "9.0"}})
"""Has wheels of the same names, for another machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The wheelhouses of several jobs.

    Attributes:
        released: A folder with the released wheelhouses of two jobs.
        plain: A folder with unreleased wheelhouses, with the same names in both.
        env: The environment variables of nox.
    """

    released: Path
    plain: Path
    env: dict[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, caches: Path) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("jobs")
    with world(folder, caches) as (index, project):
        settings = {"stamp": ["kernels", "tensorlib"]}
        requires = ["kernels"]
        make_sdist(index.folder, "models", "2.0", requires=requires, settings=settings)
        release = ("build-stages-release", "--", "--vendor")
        made = Made(
            released=folder / "released", plain=folder / "plain", env={**project.env}
        )
        for path in (made.released, made.plain):
            path.mkdir()
        for pair, words, house in (
            (PAIR, release, made.released / "one"),
            (PAIR, ("build-stages",), made.plain / "8.0"),
            (NAMESAKES, ("build-stages",), made.plain / "9.0"),
            (OTHER, release, made.released / "two"),
        ):
            pair.write(project)
            project.nox("-s", *words)
            project.wheelhouse.rename(house)
        yield made


@pytest.fixture
def publisher(made: Made, tmp_path: Path) -> Project:
    """A project without a stage, a lock or a store, that publishes what others made."""
    return make_publisher(tmp_path, made)


def make_publisher(folder: Path, made: Made) -> Project:
    project = make_project(folder / "publisher", made.env)
    project.write("[project]\nname = 'x'\n")
    return project


@pytest.fixture(scope="module")
def merged(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A publisher that merged the released wheelhouses, and what nox printed."""
    publisher = make_publisher(tmp_path_factory.mktemp("merged"), made)
    return publisher, publisher.nox(*MERGE, str(made.released)).output


def files(house: Path) -> list[str]:
    """Return what is in a wheelhouse."""
    found = (path for path in house.rglob("*") if path.is_file())
    names = (path.relative_to(house).as_posix() for path in found)
    return sorted(name for name in names if not name.startswith("."))


@pytest.mark.slow
def test_wheelhouses_of_jobs_are_merged(merged: tuple[Project, str]) -> None:
    """Equal wheels are kept once, and the result has all files of a release."""
    publisher, output = merged
    house = publisher.wheelhouse
    wheels = (KERNELS, MODELS, NEWER, TENSORLIB)
    pages = ("index.html", "index.json")
    assert files(house) == sorted(
        [
            *wheels,
            *(f"{name}.metadata" for name in wheels),
            *(f"logs/{name.removesuffix('.whl')}.log" for name in wheels[:3]),
            *("SHA256SUMS", "build-stages.json", "provenance.jsonl"),
            *("pylock.one.toml", "pylock.two.toml"),
            *("sbom.one.cdx.json", "sbom.two.cdx.json"),
            *(f"simple/{page}" for page in pages),
            *(
                f"simple/{name}/{page}"
                for name in ("kernels", "models", "tensorlib")
                for page in pages
            ),
        ]
    )
    assert f"{KERNELS}    one, two" in output
    assert f"{NEWER}     two" in output
    assert "the locks differ: pylock.one.toml, pylock.two.toml" in output
    assert f"merged: {house} (2 wheelhouses, 4 wheels)" in output
    assert entry(publisher, "kernels")["from"] == ["one", "two"]
    assert not publisher.store.exists()
    assert not (publisher.folder / ".nox" / "build-stages-merge").exists()


def test_a_merged_wheelhouse_can_be_verified(merged: tuple[Project, str]) -> None:
    """The sums are right, and each built wheel has a statement."""
    publisher, _ = merged
    house = publisher.wheelhouse
    argv = ("sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS")
    assert not run(*argv, env=publisher.env, cwd=house)
    summed = house.joinpath("SHA256SUMS").read_text("utf-8").split()[1::2]
    beside = [it for it in files(house) if "/" not in it]
    assert {*beside} - {*summed} == {"SHA256SUMS", "build-stages.json"}
    lines = house.joinpath("provenance.jsonl").read_text("utf-8").splitlines()
    subjects = [json.loads(line)["subject"][0] for line in lines]
    assert {it["name"] for it in subjects} == {KERNELS, MODELS, NEWER}
    for subject in subjects:
        assert subject["digest"]["sha256"] == sha256_of(house / subject["name"])


def test_merging_again_writes_nothing(made: Made, merged: tuple[Project, str]) -> None:
    """Files with the same contents are not written again."""
    publisher, _ = merged
    paths = [publisher.wheelhouse / name for name in files(publisher.wheelhouse)]
    before = [file_stamp(path) for path in paths]
    publisher.nox(*MERGE, str(made.released))
    assert [
        publisher.wheelhouse / name for name in files(publisher.wheelhouse)
    ] == paths
    assert [file_stamp(path) for path in paths] == before


@pytest.fixture(scope="module")
def elsewhere(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    return make_elsewhere(tmp_path_factory.mktemp("elsewhere"), made.env)


def versions(elsewhere: Elsewhere) -> dict[str, str]:
    found = installed(elsewhere.folder / "venv")
    return {name: found[name] for name in ("kernels", "models", "tensorlib")}


@pytest.mark.parametrize("tool", [pytest.param("pip", marks=pytest.mark.slow), "uv"])
def test_one_index_serves_the_wheels_of_all_jobs(
    merged: tuple[Project, str], elsewhere: Elsewhere, tool: str
) -> None:
    """Both versions can be installed without another index."""
    url = f"{merged[0].wheelhouse.as_uri()}/simple/"
    install = getattr(elsewhere, tool)
    install("--index-url", url, "models==1.0")
    wanted = {"kernels": "1.0", "models": "1.0", "tensorlib": "1.0"}
    assert versions(elsewhere) == wanted
    install("--index-url", url, "--upgrade", "models")
    assert versions(elsewhere) == {**wanted, "models": "2.0"}
    elsewhere.uninstall(*wanted)


@pytest.mark.parametrize("tool", [pytest.param("pip", marks=pytest.mark.slow), "uv"])
def test_each_lock_installs_its_environment(
    merged: tuple[Project, str], elsewhere: Elsewhere, tool: str
) -> None:
    """The lock refers to the wheels beside the lock."""
    for name, version in (("one", "1.0"), ("two", "2.0")):
        lock = merged[0].wheelhouse / f"pylock.{name}.toml"
        if tool == "pip":
            elsewhere.pip("--no-index", "-r", lock)
        else:
            elsewhere.uv_sync("--offline", "--preview-features", "pylock", lock)
        assert versions(elsewhere)["models"] == version
    elsewhere.uninstall("kernels", "models", "tensorlib")


def test_different_wheels_with_one_name_are_an_error(
    made: Made, publisher: Project
) -> None:
    """The error shows folders, keys, differences and a solution."""
    said = refused(publisher, *MERGE, str(made.plain))
    keys = []
    for cell in ("8.0", "9.0"):
        text = (made.plain / cell / "build-stages.json").read_text("utf-8")
        keys += [
            it["key"] for it in json.loads(text)["wheels"] if it["name"] == "kernels"
        ]
    assert len({*keys}) == 2
    assert "error: wheels of the same name differ, so nothing was merged\n" in said
    assert f"  {KERNELS}\n" in said
    for cell, key in zip(("8.0", "9.0"), keys, strict=True):
        assert f"  {made.plain / cell}: key {key}" in said
    assert "source and versions are equal: another part of the key differs" in said
    assert "with local-version in:\n  [tool.nox-buildstages.package.kernels]" in said
    assert not publisher.wheelhouse.exists()


def test_clashing_wheelhouses_can_keep_their_folders(
    made: Made, publisher: Project, elsewhere: Elsewhere
) -> None:
    """Each copy is unchanged, and can be installed from."""
    output = publisher.nox(*MERGE, "--by-cell", str(made.plain)).output
    house = publisher.wheelhouse
    names = (MODELS, KERNELS, "pylock.toml")
    for cell in ("8.0", "9.0"):
        for name in names:
            assert sha256_of(house / cell / name) == sha256_of(made.plain / cell / name)
    assert files(house / "9.0") == sorted(
        [
            *(*names, "build-stages.json"),
            *(f"logs/{it.removesuffix('.whl')}.log" for it in (KERNELS, MODELS)),
        ]
    )
    assert f"kept apart: {house} (2 wheelhouses, 4 wheels)" in output
    elsewhere.uv("--no-index", "--no-deps", house / "9.0" / KERNELS)
    assert "kernels" in installed(elsewhere.folder / "venv")


@pytest.mark.slow
def test_a_build_replaces_a_merged_wheelhouse(made: Made, publisher: Project) -> None:
    """Wheels without an output are removed, and missing outputs are built."""
    publisher.nox(*MERGE, str(made.released))
    PAIR.write(publisher)
    plan = planned(publisher.nox("-s", "build-stages-plan"))
    assert plan == dict.fromkeys(("kernels", "models"), ("build", "not locked yet"))
    assert built(publisher.nox("-s", "build-stages")) == ["kernels", "models"]
    house = publisher.wheelhouse
    assert publisher.wheels() == [KERNELS, MODELS]
    assert {it["log"] for it in publisher.manifest()["wheels"]} == {
        *("logs/kernels.log", "logs/models.log")
    }
    assert [name for name in files(house) if name.startswith(("logs", "pylock"))] == [
        *("logs/kernels.log", "logs/models.log", "pylock.toml")
    ]
    assert "merged" not in publisher.manifest()
    assert not (house / "SHA256SUMS").exists()
    assert not (house / "simple").exists()
    said = refused(publisher, *MERGE, str(made.released))
    assert f"{house} holds wheels that were built there: kernels, models" in said
    publisher.nox(*MERGE, "wheelhouse", str(made.released))
    assert publisher.wheels() == [KERNELS, MODELS, NEWER, TENSORLIB]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            (),
            (
                "no folder to merge is given\nhelp: name folders with wheelhouses:\n"
                "  nox -s build-stages-merge -- FOLDER …"
            ),
        ),
        (("--by-sell", "x"), "\nhelp: did you mean --by-cell?\n"),
        (("nowhere",), "publisher/nowhere is not a folder\n"),
        ((".",), "publisher: no build-stages.json\n"),
    ],
)
def test_usage_errors_are_explained(
    publisher: Project, words: tuple[str, ...], said: str
) -> None:
    """Folders are relative to the current directory of nox."""
    assert said in refused(publisher, *MERGE, *words)
