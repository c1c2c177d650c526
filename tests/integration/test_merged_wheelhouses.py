"""Wheelhouses are merged: sources, clashes, targets and releases."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from packaging.pylock import Package, PackageWheel
from packaging.utils import canonicalize_name

from nox_buildstages.commands.merge.merge import merge_wheelhouses
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.lock.files import pylock
from nox_buildstages.model import DirectorySource
from nox_buildstages.reader import parse_toml
from nox_buildstages.store.key import Ingredient
from nox_buildstages.system.files import file_stamp, sha256_of
from nox_buildstages.value import replace
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheelhouse.directory import Wheelhouse
from support.deliveries import deliver_from
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nox_buildstages.builder.stage import OutputResult

A, B = "a-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"
NEWER = "a-2.0-py3-none-any.whl"
VENDORED = "vendored-1.0-py3-none-any.whl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Yard:
    """A folder with wheelhouses of jobs, and a target for merges.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def jobs(self) -> Path:
        """The folder of the wheelhouses of jobs."""
        return self.folder / "jobs"

    @property
    def target(self) -> Path:
        """The project's wheelhouse."""
        return self.folder / "wheelhouse"

    def house(
        self, place: str, *wheels: str, torch: str = "2.13.0", extra: str | None = None
    ) -> Path:
        """Make a wheelhouse with a bound lock.

        Args:
            place: Below the folder.
            *wheels: As ``NAME VERSION`` and maybe more words, which are in the wheel.
            torch: In the environment of its stage.
            extra: The path of another wheel that its lock names.
        """
        house = Wheelhouse(self.folder / place)
        deliveries = [self.delivery(wheel, torch) for wheel in wheels]
        house.deliver(deliveries)
        packages = [
            pylock.stage_package(
                it.wheel.name, it.wheel.version, DirectorySource(path="x"), stage="s"
            )
            for it in deliveries
        ]
        if extra is not None:
            other = PackageWheel(path=extra, hashes={"sha256": "ab" * 32})
            name = canonicalize_name(extra.rpartition("/")[2].partition("-")[0])
            packages.append(Package(name=name, wheels=[other]))
        held = {it.wheel.name: it.wheel for it in deliveries}
        house.write_bound_lock(pylock.make_pylock(packages), held)
        return house.folder

    def delivery(self, wheel: str, torch: str) -> OutputResult:
        """Return the result of an output."""
        name, version, *words = wheel.split()
        found = deliver_from(
            self.folder / "stores" / f"{'-'.join(words)}.{torch}",
            name,
            version,
            files={f"{name}.txt": " ".join(words)},
        )
        key = "-".join((name, version, torch, *words))
        recipe = replace(
            found.wheel.recipe,
            source=key,
            environment={"torch": Ingredient(version=torch, sha256="ef" * 32)},
        )
        return replace(found, wheel=replace(found.wheel, recipe=recipe))

    def released(self, place: str, *wheels: str, **more: str) -> Path:
        """Make a released wheelhouse, with a vendored wheel."""
        house = self.house(place, *wheels, **more)
        make_wheel(house, "vendored", "1.0", files={"vendored.txt": ""})
        files = {path.name: sha256_of(path) for path in house.glob("*.whl")}
        index = [
            checksums.read_index_entry(house / name, files[name]) for name in files
        ]
        lines = "".join(f"{statement(house / name)}\n" for name in sorted(files)[:-1])
        made = {
            **checksums.index_files(index),
            "provenance.jsonl": lines.encode(),
            "sbom.cdx.json": f"{place}\n".encode(),
        }
        others = {**files, "pylock.toml": sha256_of(house / "pylock.toml")}
        checksums.write_release(house, made, others)
        return house

    def merge(self, *folders: Path, by_cell: bool = False) -> str:
        """Merge wheelhouses, by default those of all jobs, and return the output."""
        return "\n".join(
            merge_wheelhouses(folders or (self.jobs,), self.target, by_cell=by_cell)
        )

    def files(self) -> list[str]:
        """Return the files of the target."""
        found = (path for path in self.target.rglob("*") if path.is_file())
        names = (path.relative_to(self.target).as_posix() for path in found)
        return sorted(
            name for name in names if not name.endswith((".lock", ".gitignore"))
        )

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the target."""
        text = self.target.joinpath("build-stages.json").read_text("utf-8")
        manifest: dict[str, Any] = json.loads(text)
        return manifest


def statement(wheel: Path) -> str:
    """Return a minimal statement about a wheel."""
    digest = {"sha256": sha256_of(wheel)}
    return json.dumps({"subject": [{"name": wheel.name, "digest": digest}]})


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(folder=tmp_path)


def logs(*wheels: str) -> list[str]:
    return [f"logs/{wheel.removesuffix('.whl')}.log" for wheel in wheels]


# What is taken --------------------------------------------------------------------


def test_equal_wheels_are_merged(yard: Yard) -> None:
    """The entry and the output name all origins."""
    yard.house("jobs/one", "a 1.0", "b 1.0")
    yard.house("jobs/two", "a 1.0")
    said = yard.merge()
    assert yard.files() == sorted(
        [A, B, "build-stages.json", *logs(A, B), "pylock.one.toml", "pylock.two.toml"]
    )
    a, b = yard.manifest()["wheels"]
    assert (a["from"], b["from"]) == (["one", "two"], ["one"])
    assert a["log"] == "logs/a-1.0-py3-none-any.log"
    assert a["environment"] == {"torch": "2.13.0"}
    assert said.splitlines() == [
        "wheel                   from",
        "a-1.0-py3-none-any.whl  one, two",
        "b-1.0-py3-none-any.whl  one",
        "the locks differ: pylock.one.toml, pylock.two.toml",
        f"merged: {yard.target} (2 wheelhouses, 2 wheels)",
    ]


def test_different_wheels_of_a_project_are_kept(yard: Yard) -> None:
    """Each wheel has an entry and a log."""
    yard.house("jobs/one", "a 1.0+torch2.8")
    yard.house("jobs/two", "a 1.0+torch2.13")
    yard.merge()
    entries = yard.manifest()["wheels"]
    assert [it["version"] for it in entries] == ["1.0+torch2.13", "1.0+torch2.8"]
    said = [(yard.target / it["log"]).read_text("utf-8") for it in entries]
    assert said == ["built a 1.0+torch2.13\n", "built a 1.0+torch2.8\n"]


def test_a_missing_log_is_ignored(yard: Yard) -> None:
    """Nothing depends on logs."""
    shutil.rmtree(yard.house("jobs/one", "a 1.0") / "logs")
    yard.merge()
    assert yard.files() == [A, "build-stages.json", "pylock.toml"]


@pytest.mark.parametrize(
    ("places", "named", "names"),
    [
        (["jobs"], ["jobs"], ["jobs"]),
        (["jobs/x/9.0/2.13"], ["jobs"], ["x/9.0/2.13"]),
        (["jobs/8.0", "jobs/9.0"], ["jobs", "jobs/8.0"], ["8.0", "9.0"]),
        (["jobs/8.0", "jobs/9.0"], ["jobs/9.0", "jobs/8.0"], ["9.0", "8.0"]),
        (["one/x", "two/x"], ["one", "two"], ["one/x", "two/x"]),
        (["jobs", "jobs/x"], ["jobs"], ["jobs", "x"]),
    ],
)
def test_wheelhouses_are_found_at_any_depth(
    yard: Yard, places: list[str], named: list[str], names: list[str]
) -> None:
    """Each wheelhouse is found once, even if folders overlap."""
    for place in places:
        yard.house(place, "a 1.0")
    said = yard.merge(*(yard.folder / it for it in named))
    assert yard.manifest()["wheels"][0]["from"] == names
    count = f"{len(names)} wheelhouse{'s' * (len(names) > 1)}"
    assert f"merged: {yard.target} ({count}, 1 wheel)" in said


def test_the_builder_of_a_wheel_describes_it(yard: Yard) -> None:
    """Another wheelhouse may have vendored the wheel."""
    yard.released("jobs/one", "a 1.0")
    yard.house("jobs/two", "vendored 1.0")
    yard.merge()
    entry = yard.manifest()["wheels"][1]
    assert (entry["file"], entry["from"]) == (VENDORED, ["two"])
    assert (yard.target / entry["log"]).read_text("utf-8") == "built vendored 1.0\n"
    assert VENDORED not in yard.manifest()["merged"]


def test_a_merged_wheelhouse_can_be_merged(yard: Yard) -> None:
    """In another target, all wheels of a merge count, and locks keep their labels."""
    yard.released("jobs/8.0", "a 1.0")
    yard.released("jobs/9.0", "a 2.0")
    yard.merge()
    yard.target.rename(yard.folder / "merged")
    yard.house("third", "b 1.0")
    yard.merge(yard.folder / "merged", yard.folder / "third")
    locks = [it for it in yard.files() if it.startswith(("pylock", "sbom"))]
    assert locks == [
        *("pylock.merged-8_0.toml", "pylock.merged-9_0.toml", "pylock.third.toml"),
        *("sbom.merged-8_0.cdx.json", "sbom.merged-9_0.cdx.json"),
    ]
    entries = yard.manifest()["wheels"]
    assert [it["from"] for it in entries] == [["merged"], ["merged"], ["third"]]
    assert (yard.target / VENDORED).is_file()


# The bound locks ------------------------------------------------------------------


def paths(lock: Path) -> list[str]:
    packages = parse_toml(lock.read_text("utf-8"))["packages"]
    return [wheel["path"] for it in packages for wheel in it["wheels"]]


def test_equal_locks_are_merged(yard: Yard) -> None:
    """The bytes and the usual file name stay."""
    one = yard.house("jobs/one", "a 1.0")
    yard.house("jobs/two", "a 1.0")
    said = yard.merge()
    lock = yard.target / "pylock.toml"
    assert lock.read_bytes() == (one / "pylock.toml").read_bytes()
    assert "the locks differ" not in said


def test_paths_in_locks_are_rebased(yard: Yard) -> None:
    """Wheels are copied; files outside the wheelhouse keep their location."""
    yard.house("jobs/deep/one", "a 1.0", extra="../links/c-1.0-py3-none-any.whl")
    yard.house("jobs/two", "a 1.0", extra="/srv/c-1.0-py3-none-any.whl")
    yard.merge()
    one = paths(yard.target / "pylock.deep-one.toml")
    assert one == [A, "../jobs/deep/links/c-1.0-py3-none-any.whl"]
    assert paths(yard.target / "pylock.two.toml") == [A, "/srv/c-1.0-py3-none-any.whl"]


def test_a_wheelhouse_may_lack_a_lock(yard: Yard) -> None:
    """Stages without a final session write no lock."""
    (yard.house("jobs/one", "a 1.0") / "pylock.toml").unlink()
    yard.house("jobs/two", "b 1.0")
    yard.merge()
    assert [it for it in yard.files() if it.startswith("pylock")] == ["pylock.toml"]
    (yard.folder / "jobs/two/pylock.toml").unlink()
    yard.merge()
    assert [it for it in yard.files() if it.startswith("pylock")] == []


# What is refused ------------------------------------------------------------------


def test_different_wheels_with_one_name_clash(yard: Yard) -> None:
    """The error has folders, keys and differences."""
    first = yard.house("jobs/one", "a 1.0 x", "b 1.0", torch="2.8.0")
    second = yard.house("jobs/two", "a 1.0 y", "b 1.0")
    with pytest.raises(BuildStagesError) as caught:
        yard.merge()
    keys = [Wheelhouse(it).read_manifest().wheels[0]["key"] for it in (first, second)]
    assert str(caught.value).splitlines() == [
        "error: wheels of the same name differ, so nothing was merged",
        f"  {A}",
        f"    {first}: key {keys[0]}",
        f"    {second}: key {keys[1]}",
        "    torch is 2.8.0 in the first, 2.13.0 in the second",
        "help: give them different names, with local-version in:",
        "  [tool.nox-buildstages.package.a]",
    ]
    assert not yard.target.exists()


def test_different_vendored_wheels_clash(yard: Yard) -> None:
    """The wheels come from different indexes."""
    yard.released("jobs/one", "a 1.0")
    house = yard.released("jobs/two", "a 1.0")
    before = sha256_of(house / VENDORED)
    other = make_wheel(house, "vendored", "1.0", files={"more.py": ""})
    sums = house / "SHA256SUMS"
    text = sums.read_text("utf-8").replace(before, sha256_of(other))
    sums.write_text(text, "utf-8")
    with pytest.raises(BuildStagesError) as caught:
        yard.merge()
    assert str(caught.value).splitlines() == [
        "error: wheels of the same name differ, so nothing was merged",
        f"  {VENDORED}",
        f"    {yard.jobs / 'one'}: no stage built it",
        f"    {yard.jobs / 'two'}: no stage built it",
        "help: keep them apart:",
        "  nox -s build-stages-merge -- --by-cell FOLDER",
    ]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


FAULTS: list[tuple[str, str, Callable[[Path], object]]] = [
    ("build-stages.json", "can't be read: ", lambda path: path.write_text("{")),
    ("build-stages.json", "expected a table", lambda path: path.write_text("[]")),
    ("build-stages.json", "its format is 0", lambda path: edit(path, ": 1,", ": 0,")),
    (
        "build-stages.json",
        "has an entry that names no wheel and no log",
        lambda path: edit(path, f'"{A}"', f'"../{A}"'),
    ),
    (A, "is missing; build-stages.json names it", lambda path: path.unlink()),
    (
        A,
        "doesn't match its sha256 in build-stages.json",
        lambda path: path.write_bytes(b"tampered"),
    ),
    (
        VENDORED,
        "doesn't match its sha256 in SHA256SUMS",
        lambda path: path.write_bytes(b"tampered"),
    ),
    ("sbom.cdx.json", "is missing; SHA256SUMS names it", lambda path: path.unlink()),
    (
        A,
        "doesn't match its sha256 in SHA256SUMS",
        lambda path: again(path.parent, path.name, sha256="ab" * 32),
    ),
    (
        "provenance.jsonl",
        "has a line that isn't a statement about one wheel",
        lambda path: path.write_text('{"subject": []}\n'),
    ),
    ("pylock.toml", "can't be read: ", lambda path: path.write_text("{")),
    ("pylock.toml", "can't be read: ", lambda path: path.write_text("a = 1")),
    ("pylock.toml", "can't be read: ", lambda path: path.write_bytes(b"\xff")),
]


@pytest.mark.parametrize(("file", "problem", "damage"), FAULTS)
def test_a_damaged_wheelhouse_is_rejected(
    yard: Yard, file: str, problem: str, damage: Callable[[Path], object]
) -> None:
    """The error has the file and the folder, and nothing is written."""
    yard.house("jobs/one", "b 1.0")
    house = yard.released("jobs/two", "a 1.0")
    damage(house / file)
    if file in {"pylock.toml", "provenance.jsonl"}:
        again(house, file)
    with pytest.raises(BuildStagesError) as caught:
        yard.merge()
    assert caught.value.subject == str(house / file)
    assert problem in caught.value.problem
    assert not yard.target.exists()


def again(house: Path, file: str, *, sha256: str = "") -> None:
    """Update the hash of a file in the sums, or set another hash."""
    sums = {**checksums.read_sums(house), file: sha256 or sha256_of(house / file)}
    checksums.write_sums(house, sums)


def test_an_invalid_wheel_name_is_rejected(yard: Yard) -> None:
    """An index could not list the file."""
    house = yard.house("jobs/one", "a 1.0")
    (house / A).rename(house / "a.whl")
    edit(house / "build-stages.json", f'"{A}"', '"a.whl"')
    with pytest.raises(BuildStagesError, match="isn't the name of a wheel"):
        yard.merge()


def test_a_folder_without_wheelhouses_is_an_error(yard: Yard) -> None:
    """No empty wheelhouse is created."""
    yard.jobs.mkdir()
    with pytest.raises(UsageError) as caught:
        yard.merge()
    assert caught.value.problem == (
        f"there is no wheelhouse in {yard.jobs}: no build-stages.json"
    )
    with pytest.raises(UsageError, match="is not a folder"):
        yard.merge(yard.folder / "nowhere")
    with pytest.raises(UsageError, match="no folder to merge is given"):
        merge_wheelhouses([], yard.target)


# Where it goes --------------------------------------------------------------------


def test_cells_in_the_target_are_merged(yard: Yard) -> None:
    """The folders of the cells stay, and a second merge writes nothing."""
    yard.house("wheelhouse/8.0", "a 1.0")
    yard.house("wheelhouse/9.0", "a 2.0")
    cells = yard.files()
    yard.merge(yard.target)
    merged = [A, NEWER, "build-stages.json", *logs(A, NEWER)]
    locks = ["pylock.8_0.toml", "pylock.9_0.toml"]
    assert yard.files() == sorted([*cells, *merged, *locks])
    before = {name: file_stamp(yard.target / name) for name in yard.files()}
    yard.merge(yard.target)
    assert {name: file_stamp(yard.target / name) for name in yard.files()} == before


def test_outdated_files_of_a_merge_are_removed(yard: Yard) -> None:
    """Files of the user and changed files stay."""
    yard.house("wheelhouse/8.0", "a 1.0")
    yard.house("wheelhouse/9.0", "a 2.0")
    yard.merge(yard.target)
    own = make_wheel(yard.target, "mine", "1.0")
    (yard.target / "pylock.8_0.toml").write_text("mine")
    shutil.rmtree(yard.target / "8.0")
    said = yard.merge(yard.target)
    left = [name for name in yard.files() if not name.startswith("9.0/")]
    assert left == sorted(
        [
            *(NEWER, own.name, "build-stages.json", *logs(NEWER)),
            *("pylock.8_0.toml", "pylock.toml"),
        ]
    )
    assert f"left alone: {own}, which is in none of the wheelhouses" in said


def test_wheels_built_in_the_target_are_merged_if_named(yard: Yard) -> None:
    """Their entries and logs stay unchanged; without the name, merging is an error."""
    yard.house("wheelhouse", "a 1.0", "b 1.0")
    yard.house("jobs/two", "a 2.0", "b 1.0")
    lock = (yard.target / "pylock.toml").read_bytes()
    with pytest.raises(UsageError, match="holds wheels that were built there: a, b"):
        yard.merge()
    said = yard.merge(yard.target, yard.jobs)
    assert "b-1.0-py3-none-any.whl  wheelhouse, two" in said
    assert yard.files() == sorted(
        [
            *(A, NEWER, B, "build-stages.json", "pylock.toml", "pylock.two.toml"),
            *("logs/a.log", "logs/b.log", *logs(NEWER)),
        ]
    )
    assert (yard.target / "pylock.toml").read_bytes() == lock
    before = {name: file_stamp(yard.target / name) for name in yard.files()}
    yard.merge(yard.target, yard.jobs)
    assert {name: file_stamp(yard.target / name) for name in yard.files()} == before
    yard.merge(yard.target)
    assert yard.files() == sorted(
        [A, B, "build-stages.json", "logs/a.log", "logs/b.log", "pylock.toml"]
    )


def test_merging_only_the_target_changes_nothing(yard: Yard) -> None:
    """The target is a wheelhouse already."""
    yard.house("wheelhouse", "a 1.0")
    before = {name: file_stamp(yard.target / name) for name in yard.files()}
    yard.merge(yard.target)
    assert {name: file_stamp(yard.target / name) for name in yard.files()} == before


def test_an_earlier_merge_is_no_source(yard: Yard) -> None:
    """Otherwise, its wheels would never be removed."""
    yard.house("jobs/one", "a 1.0")
    yard.merge()
    with pytest.raises(UsageError, match="json except from an earlier merge"):
        yard.merge(yard.target)
    assert (yard.target / A).is_file()


def test_separate_folders_can_be_merged(yard: Yard) -> None:
    """The folders stay, and wheels that were built beside them are merged too."""
    yard.released("jobs/8.0", "a 1.0")
    yard.merge(by_cell=True)
    yard.house("wheelhouse/9.0", "a 2.0")
    yard.merge(yard.target)
    assert [it["from"] for it in yard.manifest()["wheels"]] == [["8.0"], ["9.0"]]
    assert {"8.0/build-stages.json", "9.0/build-stages.json"} <= {*yard.files()}
    before = {name: file_stamp(yard.target / name) for name in yard.files()}
    yard.merge(yard.target)
    assert {name: file_stamp(yard.target / name) for name in yard.files()} == before


# A folder for each ----------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, except for hidden ones and manifests."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "build-stages.json"
        if not path.name.startswith(".")
        if path.parent.name != "logs"
    }


def test_each_wheelhouse_can_keep_its_folder(yard: Yard) -> None:
    """Wheels may clash, and all files of a release are unchanged."""
    first = yard.released("jobs/8.0", "a 1.0 x")
    second = yard.released("jobs/9.0", "a 1.0 y")
    said = yard.merge(by_cell=True)
    assert tree(yard.target / "8.0") == tree(first)
    assert tree(yard.target / "9.0") == tree(second)
    assert said.splitlines()[:3] == ["folder  wheels", "8.0     2", "9.0     2"]
    assert said.endswith(f"kept apart: {yard.target} (2 wheelhouses, 4 wheels)")
    assert (yard.target / ".gitignore").read_text() == "*\n"
    before = {name: file_stamp(yard.target / name) for name in yard.files()}
    yard.merge(by_cell=True)
    assert {name: file_stamp(yard.target / name) for name in yard.files()} == before


def test_cells_in_place_are_only_verified(yard: Yard) -> None:
    """A local matrix needs no copies."""
    house = yard.house("wheelhouse/8.0", "a 1.0")
    before = {name: file_stamp(yard.target / name) for name in yard.files()}
    yard.merge(yard.target, by_cell=True)
    assert {name: file_stamp(yard.target / name) for name in yard.files()} == before
    (house / A).write_bytes(b"tampered")
    with pytest.raises(BuildStagesError):
        yard.merge(yard.target, by_cell=True)


def test_outdated_folders_are_removed(yard: Yard) -> None:
    """Folders with files of the user stay, and a merge into one removes the others."""
    yard.released("jobs/8.0/x", "a 1.0 x")
    yard.released("jobs/9.0", "a 1.0 y")
    yard.merge(by_cell=True)
    shutil.rmtree(yard.jobs / "8.0")
    (yard.target / "9.0/notes.txt").write_text("mine")
    (yard.target / "9.0/logs/mine.log").write_text("mine")
    yard.merge(by_cell=True)
    assert not (yard.target / "8.0").exists()
    yard.merge()
    assert [name for name in yard.files() if "9.0" in name] == [
        *("9.0/logs/mine.log", "9.0/notes.txt")
    ]
    yard.merge(by_cell=True)
    left = [".gitignore", ".lock", "9.0"]
    assert sorted(path.name for path in yard.target.iterdir()) == left


def test_a_built_cell_is_not_overwritten(yard: Yard) -> None:
    """The cell must be named, or merging is an error."""
    yard.house("wheelhouse/9.0", "a 1.0 x")
    yard.house("jobs/9.0", "a 1.0 y")
    with pytest.raises(
        UsageError, match=r"wheelhouse/9.0 holds wheels that were built"
    ):
        yard.merge(by_cell=True)
    yard.merge(yard.jobs)
    assert (yard.target / "9.0" / A).is_file()


def test_wheels_of_a_later_build_stay(yard: Yard) -> None:
    """A later merge removes only the remaining files of an earlier merge."""
    yard.house("jobs/9.0", "a 1.0", "b 1.0")
    yard.merge(by_cell=True)
    Wheelhouse(yard.target / "9.0").deliver([yard.delivery("a 2.0", "2.13.0")])
    yard.house("jobs/8.0", "a 1.0")
    yard.merge(yard.jobs / "8.0", by_cell=True)
    left = [name for name in yard.files() if name.startswith("9.0/")]
    assert left == [f"9.0/{NEWER}", "9.0/build-stages.json", "9.0/logs/a.log"]


def test_by_cell_rejects_wheels_in_the_target(yard: Yard) -> None:
    """Wheels in the target belong to no cell."""
    yard.house("wheelhouse", "a 1.0")
    with pytest.raises(UsageError, match="can't be a folder below itself"):
        yard.merge(yard.target, by_cell=True)


# What is published ----------------------------------------------------------------


def sums_hold(house: Path) -> bool:
    sums = checksums.read_sums(house)
    return all(sha256_of(house / name) == sums[name] for name in sums)


def test_released_wheelhouses_are_released_together(yard: Yard) -> None:
    """The result has an index, the sums, each statement once, and every SBOM."""
    yard.released("jobs/one", "a 1.0")
    yard.released("jobs/two", "a 1.0", "b 1.0")
    yard.merge()
    files = yard.files()
    assert [it for it in files if it.startswith("sbom")] == [
        *("sbom.one.cdx.json", "sbom.two.cdx.json")
    ]
    assert sums_hold(yard.target)
    summed = checksums.read_sums(yard.target).keys()
    assert {it for it in files if "/" not in it} - summed == {
        *("SHA256SUMS", "build-stages.json")
    }
    lines = (yard.target / "provenance.jsonl").read_text("utf-8").splitlines()
    assert lines == [statement(yard.target / name) for name in (A, B)]
    projects = json.loads((yard.target / "simple/index.json").read_bytes())["projects"]
    assert [it["name"] for it in projects] == ["a", "b", "vendored"]


def test_unreleased_wheels_have_no_provenance(yard: Yard) -> None:
    """The output lists them, and the index has all wheels."""
    yard.released("jobs/one", "a 1.0")
    yard.house("jobs/two", "b 1.0")
    said = yard.merge()
    assert f"no provenance for {B}, because the wheelhouse wasn't released" in said
    assert (yard.target / "simple/b/index.html").is_file()
    assert sums_hold(yard.target)


@pytest.mark.parametrize("is_old", [True, False])
def test_a_statement_of_an_earlier_version_loses_values(
    yard: Yard, *, is_old: bool
) -> None:
    """It doesn't say which variables were passed, so any value may be a secret."""
    house = yard.released("jobs/one", "a 1.0")
    variables: dict[str, Any] = {"env": {"TOKEN": "hunter2"}}
    if not is_old:
        variables["pass-env"] = {}
    definition = {"externalParameters": {"stage": "s", **variables}}
    plain = json.loads(statement(house / A))
    full = {**plain, "predicate": {"buildDefinition": definition}}
    edit(house / "provenance.jsonl", json.dumps(plain), json.dumps(full))
    again(house, "provenance.jsonl")
    said = yard.merge()
    (line,) = (yard.target / "provenance.jsonl").read_text("utf-8").splitlines()
    found = json.loads(line)["predicate"]["buildDefinition"]["externalParameters"]
    left_out = {"env": {}, "pass-env": {"TOKEN": ""}}
    assert found == {"stage": "s", **(left_out if is_old else variables)}
    assert ("values of variables, which may be secrets, are left out" in said) == is_old


def test_a_statement_about_another_wheel_is_left_out(yard: Yard) -> None:
    """Statements of former releases are ignored."""
    house = yard.released("jobs/one", "a 1.0")
    other = statement(make_wheel(yard.folder, "other", "1.0"))
    edit(house / "provenance.jsonl", "\n", f"\n{other}\n")
    again(house, "provenance.jsonl")
    yard.merge()
    lines = (yard.target / "provenance.jsonl").read_text("utf-8").splitlines()
    assert lines == [statement(yard.target / A)]


def test_the_index_is_removed_without_released_wheelhouses(yard: Yard) -> None:
    """The index would be outdated."""
    yard.released("jobs/one", "a 1.0")
    yard.merge()
    page = yard.target / "simple/mine.html"
    page.write_text("mine")
    shutil.rmtree(yard.jobs)
    yard.house("jobs/one", "a 1.0")
    yard.merge()
    assert yard.files() == sorted(
        [A, "build-stages.json", *logs(A), "pylock.toml", "simple/mine.html"]
    )


def test_a_released_target_stays_released(yard: Yard) -> None:
    """Vendored wheels of the target are merged, unless they were removed."""
    yard.released("wheelhouse", "a 1.0")
    yard.house("jobs/two", "b 1.0")
    yard.merge(yard.target, yard.jobs)
    before = {name: file_stamp(yard.target / name) for name in yard.files()}
    assert VENDORED in before
    assert sums_hold(yard.target)
    yard.merge(yard.target, yard.jobs)
    assert {name: file_stamp(yard.target / name) for name in yard.files()} == before
    (yard.target / VENDORED).unlink()
    yard.merge(yard.target, yard.jobs)
    assert VENDORED not in checksums.read_sums(yard.target)


# What a build makes of it ---------------------------------------------------------


def test_a_delivery_replaces_all_wheels_of_a_project(yard: Yard) -> None:
    """An output has only one wheel."""
    yard.house("jobs/one", "a 1.0+x", "b 1.0")
    yard.house("jobs/two", "a 1.0+y")
    yard.merge()
    house = Wheelhouse(yard.target)
    delivery = yard.delivery("a 1.0+y", "2.13.0")
    house.deliver([delivery])
    assert [it["file"] for it in house.read_manifest().wheels] == [
        "a-1.0+y-py3-none-any.whl",
        B,
    ]
    assert sorted(path.name for path in house.logs.iterdir()) == [
        *("a.log", "b-1.0-py3-none-any.log")
    ]
    house.keep_only({"a"})
    assert yard.files() == [
        *("a-1.0+y-py3-none-any.whl", "build-stages.json", "logs/a.log")
    ]


def test_platforms_are_shown(yard: Yard) -> None:
    """The platforms come from the file names."""
    house = Wheelhouse(yard.jobs)
    tags = ("cp311-cp311-linux_x86_64", "cp311-cp311-musllinux_1_2_x86_64")
    house.deliver(
        [
            deliver_from(yard.folder, name, tag=tag)
            for name, tag in zip(("a", "b"), tags, strict=True)
        ]
    )
    said = yard.merge()
    assert "for different platforms: linux_x86_64, musllinux_1_2_x86_64" in said
    assert "\nlinux_x86_64: a; this tag names no C library" in said
