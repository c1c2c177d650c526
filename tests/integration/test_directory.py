"""The wheelhouse: deliveries, removals, files of the user, and the bound lock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.pylock import Package, PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import WheelError
from nox_buildstages.lock.files import pylock
from nox_buildstages.model import DirectorySource
from nox_buildstages.reader import parse_toml
from nox_buildstages.system.files import file_stamp, sha256_of
from nox_buildstages.value import replace
from nox_buildstages.wheelhouse.directory import Wheelhouse
from support.deliveries import deliver_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.builder.stage import OutputResult


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(tmp_path / "house")


@pytest.fixture
def delivery(tmp_path: Path) -> OutputResult:
    return deliver_from(tmp_path, "some-package")


@pytest.fixture
def other(tmp_path: Path) -> OutputResult:
    return deliver_from(tmp_path, "other")


def wheels(house: Wheelhouse) -> list[str]:
    return sorted(path.name for path in house.folder.glob("*.whl"))


def names(house: Wheelhouse) -> list[str]:
    return [entry["name"] for entry in house.read_manifest().wheels]


SOME = "some_package-1.0-py3-none-any.whl"
OTHER = "other-1.0-py3-none-any.whl"


def test_a_delivered_wheel_has_a_log_and_an_entry(
    house: Wheelhouse, delivery: OutputResult
) -> None:
    """The folder gets the wheel, the log and a manifest entry."""
    house.deliver([delivery])
    wheel = delivery.wheel
    assert (house.folder / SOME).read_bytes() == wheel.path.read_bytes()
    assert (house.logs / "some-package.log").read_text() == "built some-package 1.0\n"
    entry = {
        "name": "some-package",
        "version": "1.0",
        "file": SOME,
        "stage": "kernels",
        "key": wheel.key,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "seconds": 1.5,
        "status": "built",
        "source": "vendor/a",
        "environment": {"torch": "2.13.0"},
        "log": "logs/some-package.log",
    }
    assert house.read_manifest().wheels == (entry,)
    text = (house.folder / "build-stages.json").read_text()
    assert json.loads(text) == {"format": 1, "wheels": [entry]}
    assert text.endswith("}\n")


def test_the_status_is_that_of_the_last_run(
    house: Wheelhouse, delivery: OutputResult
) -> None:
    """The status is built or cached."""
    house.deliver([delivery])
    house.deliver([replace(delivery, is_built=False)])
    assert [entry["status"] for entry in house.read_manifest().wheels] == ["cached"]


def test_a_second_delivery_writes_nothing(
    house: Wheelhouse, delivery: OutputResult
) -> None:
    """The wheel, the log and the manifest are not written again."""
    house.deliver([delivery])
    paths = [path for path in sorted(house.folder.rglob("*")) if path.name != ".lock"]
    before = [file_stamp(path) for path in paths]
    house.deliver([delivery])
    assert [file_stamp(path) for path in paths] == before
    assert {path.name for path in paths} >= {
        SOME,
        "build-stages.json",
        "some-package.log",
    }


def test_the_log_belongs_to_the_wheel(
    house: Wheelhouse, delivery: OutputResult
) -> None:
    """The log of a failed build is replaced."""
    house.deliver([delivery])
    log = house.logs / "some-package.log"
    log.write_text("it failed", "utf-8")
    house.deliver([delivery])
    assert log.read_bytes() == delivery.wheel.log.read_bytes()


def test_deliveries_accumulate(
    house: Wheelhouse, delivery: OutputResult, other: OutputResult
) -> None:
    """Each stage delivers its wheels, and the manifest is sorted."""
    house.deliver([delivery])
    house.deliver([other])
    assert wheels(house) == [OTHER, SOME]
    assert names(house) == ["other", "some-package"]


def test_a_new_version_replaces_the_old_wheel(
    house: Wheelhouse, delivery: OutputResult, tmp_path: Path
) -> None:
    """An output has only one wheel."""
    house.deliver([delivery])
    house.deliver([deliver_from(tmp_path, "some-package", "1.1")])
    assert wheels(house) == ["some_package-1.1-py3-none-any.whl"]
    assert [entry["version"] for entry in house.read_manifest().wheels] == ["1.1"]
    log = (house.logs / "some-package.log").read_text()
    assert log == "built some-package 1.1\n"


def test_a_tampered_wheel_is_replaced(
    house: Wheelhouse, delivery: OutputResult
) -> None:
    """The wheel is copied from the store again."""
    house.deliver([delivery])
    (house.folder / SOME).write_bytes(b"tampered")
    house.deliver([delivery])
    assert sha256_of(house.folder / SOME) == delivery.wheel.sha256


def test_a_damaged_wheel_is_not_delivered(
    house: Wheelhouse, delivery: OutputResult
) -> None:
    """The wheel in the folder stays, and no partial file is left."""
    house.deliver([delivery])
    (house.folder / SOME).write_bytes(b"tampered")
    delivery.wheel.path.write_bytes(b"damaged")
    with pytest.raises(WheelError) as caught:
        house.deliver([delivery])
    assert caught.value.subject == SOME
    assert caught.value.problem == "the copy in the store was damaged after the build"
    assert (house.folder / SOME).read_bytes() == b"tampered"
    assert list(house.folder.glob(f".{SOME}*")) == []


def test_files_of_the_user_are_left_alone(
    house: Wheelhouse, delivery: OutputResult, other: OutputResult
) -> None:
    """Other wheels, logs and files are never removed."""
    house.logs.mkdir(parents=True)
    own = [
        house.folder / "mine-1-py3-none-any.whl",
        house.folder / "notes.txt",
        house.logs / "mine.log",
    ]
    for path in own:
        path.write_text("mine")
    house.deliver([delivery, other])
    house.keep_only({"other"})
    assert [path.read_text() for path in own] == ["mine"] * 3


def test_wheels_of_removed_outputs_are_removed(
    house: Wheelhouse, delivery: OutputResult, other: OutputResult
) -> None:
    """The wheel, the log and the entry are removed; missing files are ignored."""
    house.deliver([delivery, other])
    house.keep_only({"some-package", "other"})
    assert wheels(house) == [OTHER, SOME]
    house.keep_only({"other"})
    assert wheels(house) == [OTHER]
    assert names(house) == ["other"]
    assert [path.name for path in house.logs.iterdir()] == ["other.log"]
    (house.folder / OTHER).unlink()
    house.keep_only(())
    assert names(house) == []


DAMAGED = ["", "{", "[]", "null", "{}", '{"wheels": 1}', '{"wheels": [1]}', "\0"]


@pytest.mark.parametrize("text", [*DAMAGED, '{"wheels": [{"name": "a"}]}'])
def test_a_damaged_manifest_is_ignored(
    house: Wheelhouse, delivery: OutputResult, text: str
) -> None:
    """The manifest is written again with the next wheel."""
    house.folder.mkdir()
    (house.folder / "build-stages.json").write_text(text)
    assert house.read_manifest().wheels == ()
    house.keep_only(())
    house.deliver([delivery])
    assert names(house) == ["some-package"]


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../precious.whl"},
        {"file": ""},
        {"file": "build-stages.json"},
        {"log": "../precious.whl"},
    ],
)
def test_files_outside_the_folder_are_never_removed(
    house: Wheelhouse, delivery: OutputResult, change: dict[str, Any]
) -> None:
    """The manifest may name any path; only wheels and logs of the folder count."""
    precious = house.folder.parent / "precious.whl"
    precious.write_text("precious")
    house.deliver([delivery])
    (entry,) = house.read_manifest().wheels
    manifest = house.folder / "build-stages.json"
    manifest.write_text(json.dumps({"format": 1, "wheels": [{**entry, **change}]}))
    house.keep_only(())
    assert precious.read_text() == "precious"
    assert manifest.exists()


def test_a_missing_folder_has_an_empty_manifest(house: Wheelhouse) -> None:
    """Reading the manifest creates nothing."""
    assert house.read_manifest().wheels == ()
    assert not house.folder.exists()


DELIVER = """
import pickle, sys
from pathlib import Path
from nox_buildstages.wheelhouse.directory import Wheelhouse

house = Wheelhouse(Path(sys.argv[1]))
deliveries = pickle.loads(Path(sys.argv[2]).read_bytes())
sys.stdin.readline()
for delivery in deliveries:
    house.deliver([delivery])
"""


def test_processes_may_deliver_at_the_same_time(
    house: Wheelhouse, tmp_path: Path
) -> None:
    """No delivery is lost."""
    deliver = [
        write_arguments(tmp_path, [f"p{process}-{n}" for n in range(8)])
        for process in range(2)
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", DELIVER, house.folder, arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in deliver
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert len(names(house)) == len(wheels(house)) == 16


def write_arguments(folder: Path, projects: list[str]) -> Path:
    import pickle  # noqa: PLC0415 - our own values, to our own process

    path = folder / f"{projects[0]}.pickle"
    deliveries = [deliver_from(folder, name) for name in projects]
    path.write_bytes(pickle.dumps(deliveries))
    return path


# The bound lock ------------------------------------------------------------------


@pytest.fixture
def final() -> Pylock:
    """A final lock with a wheel from an index and a wheel from a stage."""
    indexed = PackageWheel(
        url="https://index.invalid/x-1-py3-none-any.whl", hashes={"sha256": "aa" * 32}
    )
    provided = pylock.stage_package(
        canonicalize_name("some-package"),
        Version("1.0"),
        DirectorySource(path="../vendor/a"),
        stage="kernels",
    )
    index = Package(name=canonicalize_name("x"), version=Version("1"), wheels=[indexed])
    return pylock.make_pylock([index, provided])


def test_the_bound_lock_refers_to_the_wheels_in_the_folder(
    house: Wheelhouse, delivery: OutputResult, final: Pylock
) -> None:
    """Wheels of stages get a relative path and a hash; others stay as they are."""
    house.deliver([delivery])
    path = house.write_bound_lock(final, {delivery.wheel.name: delivery.wheel})
    assert path == house.folder / "pylock.toml"
    some, indexed = parse_toml(path.read_text())["packages"]
    (wheel,) = some["wheels"]
    assert wheel["path"] == SOME
    assert wheel["hashes"] == {"sha256": delivery.wheel.sha256}
    assert "directory" not in some
    assert indexed["wheels"][0]["url"].endswith("/x-1-py3-none-any.whl")


def touch(path: Path) -> None:
    path.write_text("tampered")


@pytest.mark.parametrize("damage", [touch, Path.unlink])
def test_the_bound_lock_is_written_only_if_it_changes(
    house: Wheelhouse,
    delivery: OutputResult,
    final: Pylock,
    damage: Callable[[Path], None],
) -> None:
    """A missing or changed lock is written again."""
    house.deliver([delivery])
    held = {delivery.wheel.name: delivery.wheel}
    path = house.write_bound_lock(final, held)
    text, before = path.read_text(), path.stat()
    house.write_bound_lock(final, held)
    assert path.stat().st_ino == before.st_ino
    damage(path)
    house.write_bound_lock(final, held)
    assert path.read_text() == text
