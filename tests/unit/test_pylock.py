"""Additions to PEP 751 locks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.markers import Marker, default_environment
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
)
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.lock.files import pylock
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    GitSource,
    Interpreter,
    Source,
)
from nox_buildstages.reader import parse_toml
from support.deliveries import stored_wheel

if TYPE_CHECKING:
    from nox_buildstages.store.store import StoredWheel

SHA = "ab" * 32
COMMIT = "c0ffee" * 6 + "abcd"
NAME = canonicalize_name("some-package")
VERSION = Version("1.0")
SDIST = "https://host/some_package-1.0.tar.gz"
ODD = "https://host/archive/refs/v1.0.zip"

SOURCES: list[tuple[Source, str]] = [
    (ArchiveSource(location=SDIST, sha256=SHA), "sdist"),
    (ArchiveSource(location="../some-package-1.0.zip", sha256=SHA), "sdist"),
    (ArchiveSource(location=SDIST, sha256=SHA, subdirectory="python"), "archive"),
    (ArchiveSource(location=ODD, sha256=SHA), "archive"),
    (ArchiveSource(location="https://host/a_b-1.0.tar.gz", sha256=SHA), "archive"),
    (ArchiveSource(location="../some_package-2.0.tar.gz", sha256=SHA), "archive"),
    (GitSource(url="https://host/repo", commit=COMMIT), "vcs"),
    (GitSource(url="https://host/repo", commit=COMMIT, subdirectory="py"), "vcs"),
    (DirectorySource(path="../vendor/some-package"), "directory"),
    (DirectorySource(path="../vendor", subdirectory="some-package"), "directory"),
]


def checked(lock: Pylock) -> Pylock:
    """Return a lock as its file is read."""
    lock.validate()
    assert pylock.to_document(lock) == lock.to_dict()
    assert Pylock.from_dict(parse_toml(pylock.dump_pylock(lock))) == lock
    return lock


def interpreter(*tags: Tag) -> Interpreter:
    markers = default_environment()
    markers["implementation_name"] = "cpython"
    markers["python_version"] = "3.11"
    markers["sys_platform"] = "linux"
    markers["platform_machine"] = "x86_64"
    return Interpreter(markers=markers, tags=tags, abi="abi", platform="linux-x86_64")


def indexed(name: str, *tags: str) -> Package:
    return Package(
        name=canonicalize_name(name),
        version=VERSION,
        marker=Marker("python_version > '3'"),
        requires_python=SpecifierSet(">=3.9"),
        index="https://host/simple",
        sdist=PackageSdist(
            url=f"https://host/{name}-1.0.tar.gz", hashes={"sha256": SHA}
        ),
        wheels=[
            PackageWheel(
                url=f"https://host/{name}-1.0-{tag}.whl", hashes={"sha256": SHA}
            )
            for tag in tags
        ],
    )


@pytest.mark.parametrize(("source", "kind"), SOURCES, ids=str)
def test_the_package_of_a_stage_names_its_source(source: Source, kind: str) -> None:
    """Other installers find the source in the standard fields."""
    package = pylock.stage_package(NAME, VERSION, source, stage="kernels")
    lock = checked(pylock.make_pylock([package]))
    fields = {"sdist", "archive", "vcs", "directory", "wheels"}
    assert {it for it in fields if getattr(package, it) is not None} == {kind}
    assert pylock.providing_stage(package) == "kernels"
    assert pylock.source_of(lock.packages[0]) == source


def test_a_package_of_an_index_has_no_stage() -> None:
    """Only our own table names a stage."""
    assert pylock.providing_stage(indexed("a", "py3-none-any")) is None
    other = Package(name=NAME, version=VERSION, tool={"other": {"stage": "x"}})
    assert pylock.providing_stage(other) is None


def test_a_package_with_wheels_has_no_source() -> None:
    """Nothing can be built from a wheel."""
    wheels = [PackageWheel(name="a-1.0-py3-none-any.whl", hashes={"sha256": SHA})]
    assert pylock.source_of(Package(name=NAME, version=VERSION, wheels=wheels)) is None


def test_a_source_may_be_a_path() -> None:
    """If the entry has no URL."""
    archive = PackageArchive(path="sdists/a.zip", hashes={"sha256": SHA})
    package = Package(name=NAME, archive=archive)
    expected = ArchiveSource(location="sdists/a.zip", sha256=SHA)
    assert pylock.source_of(package) == expected
    vcs = PackageVcs(type="git", path="../repo", commit_id=COMMIT)
    expected_git = GitSource(url="../repo", commit=COMMIT)
    assert pylock.source_of(Package(name=NAME, vcs=vcs)) == expected_git


def test_packages_are_sorted() -> None:
    """The order in which they were found does not count."""
    lock = pylock.make_pylock(indexed(name, "py3-none-any") for name in "cab")
    assert [package.name for package in checked(lock).packages] == ["a", "b", "c"]
    assert lock.created_by == "nox-buildstages"


def test_a_lock_is_restricted_to_its_interpreter() -> None:
    """It loses sdists and other wheels, and names its target."""
    native, pure = Tag("cp311", "cp311", "linux_x86_64"), Tag("py3", "none", "any")
    package = indexed(
        "a",
        "cp311-cp311-linux_x86_64",
        "cp312-cp312-linux_x86_64",
        "cp311-cp311-win_amd64",
        "py2.py3-none-any",
    )
    provided = pylock.stage_package(NAME, VERSION, SOURCES[0][0], stage="kernels")
    whole = pylock.make_pylock([package, provided])
    lock = checked(pylock.restrict_to(whole, interpreter(native, pure)))
    kept, same = lock.packages
    assert kept.wheels is not None
    assert [wheel.filename for wheel in kept.wheels] == [
        "a-1.0-cp311-cp311-linux_x86_64.whl",
        "a-1.0-py2.py3-none-any.whl",
    ]
    assert kept.sdist is None
    assert (kept.version, kept.marker) == (VERSION, None)
    assert (kept.index, kept.requires_python) == (package.index, SpecifierSet(">=3.9"))
    assert same == provided
    assert lock.requires_python == SpecifierSet("==3.11.*")
    (environment,) = lock.environments or ()
    assert str(environment) == (
        'implementation_name == "cpython" and platform_machine == "x86_64" '
        'and sys_platform == "linux"'
    )


def test_a_package_keeps_unsuitable_wheels() -> None:
    """If none is suitable, so that the error can name them."""
    package = indexed("a", "cp27-none-any")
    restricted = pylock.restrict_to(
        pylock.make_pylock([package]), interpreter(Tag("py3", "none", "any"))
    )
    assert checked(restricted).packages[0].wheels == package.wheels


def built(folder: Path) -> StoredWheel:
    path = folder / "some_package-1.0+cpu-py3-none-any.whl"
    return stored_wheel(path, NAME, "1.0+cpu")


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        (Path("/wheelhouse"), "some_package-1.0+cpu-py3-none-any.whl"),
        (Path("/wheelhouse/a/b"), "a/b/some_package-1.0+cpu-py3-none-any.whl"),
        (Path("/store"), "/store/some_package-1.0+cpu-py3-none-any.whl"),
    ],
)
def test_the_package_of_a_stage_is_bound_to_its_wheel(folder: Path, path: str) -> None:
    """By a relative path if it is beside the lock, else by an absolute path."""
    markers = [Marker('sys_platform == "linux"')]
    python = SpecifierSet("==3.11.*")
    other = indexed("z", "py3-none-any")
    provided = pylock.stage_package(NAME, VERSION, SOURCES[-1][0], stage="kernels")
    lock = pylock.make_pylock(
        [other, provided], environments=markers, requires_python=python
    )
    bound = checked(
        pylock.bind_wheels(lock, {NAME: built(folder)}, folder=Path("/wheelhouse"))
    )
    assert (bound.environments, bound.requires_python) == (markers, python)
    first, second = bound.packages
    assert second == other
    assert first.wheels == [
        PackageWheel(
            name="some_package-1.0+cpu-py3-none-any.whl",
            path=path,
            size=7,
            hashes={"sha256": "cd" * 32},
        )
    ]
    assert (first.version, first.directory) == (Version("1.0+cpu"), None)
    assert pylock.providing_stage(first) == "kernels"
