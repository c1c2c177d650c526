"""One lock for several targets, and the part of one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.pylock import Package, PackageArchive, PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.environments.targets import list_targets
from nox_buildstages.errors import InvalidLockError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.document import dump_lock, list_pins, load_lock
from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
from nox_buildstages.lock.files.merge_targets import merge_targets, select_target
from nox_buildstages.model import DirectorySource, Metadata
from nox_buildstages.value import replace
from support.targets import LINUX, MAC, interpreter, project

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nox_buildstages.environments.targets import Target

NAME = canonicalize_name("kernel")


def all_targets(*pythons: str, environments: tuple[str, ...] = ()) -> list[Target]:
    wanted = project(*pythons, environments=environments)
    return [*list_targets(wanted, interpreter(pythons[0]), {})]


def package(version: str, *tags: str, name: str = "a", sha: str = "0") -> Package:
    """Return a package of an index, with a wheel for each tag."""
    wheels = [
        PackageWheel(
            url=f"https://host/{name}-{version}-{tag}.whl", hashes={"sha256": sha * 64}
        )
        for tag in tags or ("py3-none-any",)
    ]
    return Package(
        name=canonicalize_name(name), version=Version(version), wheels=wheels
    )


def output(*requires: str, asked: tuple[str, ...] = ()) -> LockedOutput:
    return LockedOutput(
        name=NAME,
        source=DirectorySource(path="kernel"),
        build_requires=(),
        metadata=Metadata(version=Version("1"), requires_dist=requires, learned="hook"),
        asked=asked,
    )


def lock(
    target: Target, packages: Iterable[Package], outputs: tuple[LockedOutput, ...] = ()
) -> tuple[Target, Lock]:
    """Return the lock of one target."""
    own = pylock.restrict_to(pylock.make_pylock(packages), target.interpreter)
    return target, Lock(name="kernels", inputs="", pylock=own, outputs=outputs)


def checked(found: Lock) -> Lock:
    """Return a lock as its file is read."""
    again = load_lock(dump_lock(found), name=found.name)
    assert again == found
    Pylock.validate(again.pylock)
    return again


def listed(found: Lock) -> list[tuple[str, str]]:
    """Return the versions in a lock, each with its marker."""
    return [
        (str(it.version), "" if it.marker is None else str(it.marker))
        for it in found.pylock.packages
    ]


def held(found: Lock, target: Target) -> dict[str, str]:
    """Return the versions in a lock for a target."""
    own = select_target(found, target.interpreter)
    return {pin.name: str(pin.version) for pin in list_pins(own, target.interpreter)}


def test_a_lock_for_one_target_is_unchanged() -> None:
    """It needs no markers."""
    (only,) = all_targets("3.11")
    pair = lock(only, [package("1")], (output(),))
    assert merge_targets([pair]) == pair[1]


def test_common_packages_have_no_marker() -> None:
    """They have the wheels of all targets; each target selects its own."""
    both = all_targets("3.11", "3.12")
    tags = [f"cp3{minor}-abi3-musllinux_1_2_x86_64" for minor in (11, 12)]
    whole = package("1", *tags, "py3-none-any")
    found = checked(merge_targets(lock(target, [whole]) for target in reversed(both)))
    (entry,) = found.pylock.packages
    assert entry.marker is None
    assert [it.filename for it in entry.wheels or ()] == [
        *(f"a-1-{tag}.whl" for tag in tags),
        "a-1-py3-none-any.whl",
    ]
    assert str(found.pylock.requires_python) == "<3.13,>=3.11"
    assert [str(it) for it in found.pylock.environments or ()] == [
        f'python_version == "{version}" and {LINUX}' for version in ("3.11", "3.12")
    ]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("1 2 2 1 2 2", [("1", 'python_version == "3.9"'), ("2", "NOT3.9")]),
        ("1 1 1 2 2 2", [("1", "LINUX"), ("2", "MAC")]),
        ("1 1 1 2 1 1", [("1", "REST"), ("2", 'python_version == "3.9" and MAC')]),
        ("1 - - - - -", [("1", 'python_version == "3.9" and LINUX')]),
    ],
)
def test_different_packages_have_a_marker(
    chosen: str, expected: list[tuple[str, str]]
) -> None:
    """For Pythons, platforms or both; each target gets its own versions."""
    found_targets = all_targets("3.9", "3.10", "3.12", environments=(MAC,))
    wanted = dict(zip(map(str, found_targets), chosen.split(), strict=True))
    found = checked(
        merge_targets(
            lock(it, [] if wanted[str(it)] == "-" else [package(wanted[str(it)])])
            for it in found_targets
        )
    )
    newer = 'python_version == "3.10" or python_version == "3.12"'
    short = {
        newer: "NOT3.9",
        LINUX: "LINUX",
        MAC: "MAC",
        f'python_version == "3.9" and {LINUX}': 'python_version == "3.9" and LINUX',
        f'python_version == "3.9" and {MAC}': 'python_version == "3.9" and MAC',
        f"{LINUX} or ({newer}) and {MAC}": "REST",
        f"({newer}) and {MAC} or {LINUX}": "REST",
    }
    told = sorted((version, short.get(mark, mark)) for version, mark in listed(found))
    assert told == expected
    for target in found_targets:
        version = wanted[str(target)]
        assert held(found, target) == ({} if version == "-" else {"a": version})


@pytest.mark.parametrize(
    "other",
    [
        package("1", sha="1"),
        Package(
            name=canonicalize_name("a"),
            version=Version("1"),
            archive=PackageArchive(path="a.whl", hashes={"sha256": "0" * 64}),
        ),
    ],
    ids=["another file of the name", "a file of the project"],
)
def test_one_version_may_have_two_entries(other: Package) -> None:
    """If it comes from two indexes."""
    first, second = all_targets("3.11", "3.12")
    found = checked(merge_targets([lock(first, [package("1")]), lock(second, [other])]))
    assert [mark for _, mark in listed(found)] == [
        'python_version == "3.11"',
        'python_version == "3.12"',
    ]


def test_different_outputs_have_a_marker() -> None:
    """The answer of a backend may depend on the Python."""
    both = all_targets("3.11", "3.12")
    said = [(output("numpy"),), (output("numpy", "typing-extensions"),)]
    found = checked(
        merge_targets(
            lock(it, [], outputs) for it, outputs in zip(both, said, strict=True)
        )
    )
    assert [str(it.marker) for it in found.outputs] == [
        'python_version == "3.11"',
        'python_version == "3.12"',
    ]
    for target, outputs in zip(both, said, strict=True):
        assert select_target(found, target.interpreter).outputs == outputs


def test_the_asked_targets_are_recorded() -> None:
    """If the answer stands for targets that could not be asked."""
    both = all_targets("3.11", "3.12")
    asked = ((output(asked=(both[0].marker,)),), (output(),))
    found = checked(
        merge_targets(
            lock(it, [], outputs) for it, outputs in zip(both, asked, strict=True)
        )
    )
    (only,) = found.outputs
    assert (only.marker, only.asked) == (None, (both[0].marker,))


def test_other_interpreters_are_refused() -> None:
    """Even if the packages would suit them."""
    both = all_targets("3.11", "3.12")
    found = merge_targets(lock(target, [package("1")]) for target in both)
    with pytest.raises(InvalidLockError, match="kernels"):
        select_target(found, interpreter("3.13"))


def test_the_order_of_targets_does_not_count() -> None:
    """The lock must not depend on the machine."""
    found = all_targets("3.9", "3.10", environments=(MAC,))
    locks = [lock(it, [package("1" if it.version == "3.9" else "2")]) for it in found]
    assert dump_lock(merge_targets(locks)) == dump_lock(merge_targets(reversed(locks)))


def test_the_part_of_a_target_names_the_target() -> None:
    """It equals a lock that was made for the target alone."""
    both = all_targets("3.11", "3.12")
    alone = [lock(target, [package("1")]) for target in both]
    found = select_target(merge_targets(alone), both[1].interpreter)
    assert found == replace(alone[1][1], pylock=found.pylock)
    assert pylock.dump_pylock(found.pylock) == pylock.dump_pylock(alone[1][1].pylock)
