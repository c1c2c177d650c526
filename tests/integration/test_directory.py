"""The wheelhouse: what comes in, what goes, and what is nobody's business but yours."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.pylock import Package, PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages import toml
from nox_buildstages.errors import WheelError
from nox_buildstages.lock.files import pylock
from nox_buildstages.model import DirectorySource
from nox_buildstages.system.files import file_stamp, sha256_of
from nox_buildstages.wheelhouse.directory import Delivery, Wheelhouse
from support.deliveries import deliver_from

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(tmp_path / "house")


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    return deliver_from(tmp_path, "some-package")


@pytest.fixture
def other(tmp_path: Path) -> Delivery:
    return deliver_from(tmp_path, "other")


def wheels(house: Wheelhouse) -> list[str]:
    return sorted(path.name for path in house.folder.glob("*.whl"))


def names(house: Wheelhouse) -> list[str]:
    return [entry["name"] for entry in house.manifest()]


SOME = "some_package-1.0-py3-none-any.whl"
OTHER = "other-1.0-py3-none-any.whl"


def test_a_wheel_is_delivered_with_all_that_is_known(
    house: Wheelhouse, delivery: Delivery
) -> None:
    """The file, its log, and an entry in the manifest."""
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
    assert house.manifest() == [entry]
    text = (house.folder / "build-stages.json").read_text()
    assert json.loads(text) == {"format": 1, "wheels": [entry]}
    assert text.endswith("}\n")


def test_a_wheel_that_was_found_says_so(house: Wheelhouse, delivery: Delivery) -> None:
    """Built or cached: what the last run did."""
    house.deliver([delivery])
    house.deliver([replace(delivery, built=False)])
    assert [entry["status"] for entry in house.manifest()] == ["cached"]


def test_what_is_there_is_left_alone(house: Wheelhouse, delivery: Delivery) -> None:
    """The wheel, its log and the manifest aren't even written again."""
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


def test_the_log_is_that_of_the_wheel(house: Wheelhouse, delivery: Delivery) -> None:
    """Whatever a build wrote there that came to nothing."""
    house.deliver([delivery])
    log = house.logs / "some-package.log"
    log.write_text("it failed", "utf-8")
    house.deliver([delivery])
    assert log.read_bytes() == delivery.wheel.log.read_bytes()


def test_deliveries_add_up(
    house: Wheelhouse, delivery: Delivery, other: Delivery
) -> None:
    """Each stage delivers its own, and the manifest is sorted."""
    house.deliver([delivery])
    house.deliver([other])
    assert wheels(house) == [OTHER, SOME]
    assert names(house) == ["other", "some-package"]


def test_another_version_takes_the_place_of_one(
    house: Wheelhouse, delivery: Delivery, tmp_path: Path
) -> None:
    """An output is one wheel."""
    house.deliver([delivery])
    house.deliver([deliver_from(tmp_path, "some-package", "1.1")])
    assert wheels(house) == ["some_package-1.1-py3-none-any.whl"]
    assert [entry["version"] for entry in house.manifest()] == ["1.1"]
    log = (house.logs / "some-package.log").read_text()
    assert log == "built some-package 1.1\n"


def test_a_tampered_wheel_is_replaced(house: Wheelhouse, delivery: Delivery) -> None:
    """By that of the store."""
    house.deliver([delivery])
    (house.folder / SOME).write_bytes(b"tampered")
    house.deliver([delivery])
    assert sha256_of(house.folder / SOME) == delivery.wheel.sha256


def test_a_wheel_that_is_damaged_in_the_store_is_not_delivered(
    house: Wheelhouse, delivery: Delivery
) -> None:
    """What is here stays as it is, and nothing half is left."""
    house.deliver([delivery])
    (house.folder / SOME).write_bytes(b"tampered")
    delivery.wheel.path.write_bytes(b"damaged")
    with pytest.raises(WheelError) as caught:
        house.deliver([delivery])
    assert caught.value.subject == SOME
    assert caught.value.problem == "the copy of the store isn't what was built"
    assert (house.folder / SOME).read_bytes() == b"tampered"
    assert list(house.folder.glob(f".{SOME}*")) == []


def test_files_of_the_user_are_left_alone(
    house: Wheelhouse, delivery: Delivery, other: Delivery
) -> None:
    """Wheels that we never delivered, logs, whatever lies there."""
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


def test_what_is_no_output_any_more_goes(
    house: Wheelhouse, delivery: Delivery, other: Delivery
) -> None:
    """The wheel, its log, its entry; and gone files are no obstacle."""
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
def test_a_damaged_manifest_counts_as_none(
    house: Wheelhouse, delivery: Delivery, text: str
) -> None:
    """It is written anew with the next wheel."""
    house.folder.mkdir()
    (house.folder / "build-stages.json").write_text(text)
    assert house.manifest() == []
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
def test_a_manifest_never_names_files_elsewhere(
    house: Wheelhouse, delivery: Delivery, change: dict[str, Any]
) -> None:
    """Whoever wrote it: nothing is removed on its word but wheels and logs of here."""
    precious = house.folder.parent / "precious.whl"
    precious.write_text("precious")
    house.deliver([delivery])
    (entry,) = house.manifest()
    manifest = house.folder / "build-stages.json"
    manifest.write_text(json.dumps({"format": 1, "wheels": [{**entry, **change}]}))
    house.keep_only(())
    assert precious.read_text() == "precious"
    assert manifest.exists()


def test_a_house_that_is_not_there_has_no_manifest(house: Wheelhouse) -> None:
    """Looking makes nothing."""
    assert house.manifest() == []
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


def test_many_may_deliver_at_once(house: Wheelhouse, tmp_path: Path) -> None:
    """Nothing that either brings is lost."""
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
    """A final lock: one wheel of an index, one that a stage provides."""
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


def test_the_final_lock_is_bound_to_the_wheels_here(
    house: Wheelhouse, delivery: Delivery, final: Pylock
) -> None:
    """By a relative path and the hash; what an index has stays as it is."""
    house.deliver([delivery])
    path = house.bind(final, {delivery.wheel.name: delivery.wheel})
    assert path == house.folder / "pylock.toml"
    some, indexed = toml.loads(path.read_text())["packages"]
    (wheel,) = some["wheels"]
    assert wheel["path"] == SOME
    assert wheel["hashes"] == {"sha256": delivery.wheel.sha256}
    assert "directory" not in some
    assert indexed["wheels"][0]["url"].endswith("/x-1-py3-none-any.whl")


def touch(path: Path) -> None:
    path.write_text("tampered")


@pytest.mark.parametrize("damage", [touch, Path.unlink])
def test_the_bound_lock_is_written_where_it_is_another(
    house: Wheelhouse,
    delivery: Delivery,
    final: Pylock,
    damage: Callable[[Path], None],
) -> None:
    """And left alone where it isn't."""
    house.deliver([delivery])
    held = {delivery.wheel.name: delivery.wheel}
    path = house.bind(final, held)
    text, before = path.read_text(), path.stat()
    house.bind(final, held)
    assert path.stat().st_ino == before.st_ino
    damage(path)
    house.bind(final, held)
    assert path.read_text() == text
