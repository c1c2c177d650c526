"""The lines after locking: each change once, with its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from packaging.markers import Marker
from packaging.pylock import Package, PackageArchive, PackageWheel
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.diff import (
    MAX_LINES,
    describe_changes,
    find_changes,
)
from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource, Metadata
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from nox_buildstages.model import Source

ONE, TWO, THREE = "11" * 32, "22" * 32, "33" * 32
SDIST = ArchiveSource(location="https://host/k-1.0.tar.gz", sha256=ONE)
COMMIT = GitSource(url="https://host/k", commit="abc1234567890" * 3 + "a")
FOLDER = DirectorySource(path="vendor/k")
LINUX, MAC = Marker('sys_platform == "linux"'), Marker('sys_platform == "darwin"')


def wheel(file: str, sha256: str = ONE, host: str = "host") -> PackageWheel:
    return PackageWheel(
        name=file, url=f"https://{host}/{file}", hashes={"sha256": sha256}
    )


def held(
    name: str,
    version: str = "1.0",
    *wheels: PackageWheel,
    **fields: Any,  # noqa: ANN401 - of packaging
) -> Package:
    """Return a package with some wheels, by default one of its own."""
    own = list(wheels) or [wheel(f"{name}-{version}-py3-none-any.whl")]
    fields = {"wheels": own, **fields}
    return Package(name=canonicalize_name(name), version=Version(version), **fields)


def provided(source: Source = SDIST, version: str = "1.0") -> Package:
    return pylock.stage_package(
        canonicalize_name("k"), Version(version), source, stage="first"
    )


def output(source: Source = SDIST, version: str = "1.0", **said: Any) -> LockedOutput:  # noqa: ANN401
    build_requires = said.pop("build_requires", ("setuptools",))
    return LockedOutput(
        name=canonicalize_name("k"),
        source=source,
        build_requires=build_requires,
        metadata=Metadata(version=Version(version), **{"learned": "static", **said}),
    )


def lock(
    name: str,
    *packages: Package,
    outputs: tuple[LockedOutput, ...] = (),
    **made_for: Any,  # noqa: ANN401 - of packaging
) -> Lock:
    held = pylock.make_pylock(packages, **made_for)
    return Lock(name=name, inputs="i", series="s", pylock=held, outputs=outputs)


def said(old: list[Lock], new: list[Lock]) -> list[str]:
    return list(describe_changes({lock.name: lock for lock in old}, new))


def in_all(*packages: Package) -> list[Lock]:
    """Return locks of two stages and of final, all with the same packages."""
    return [lock(name, *packages) for name in ("zeta", "alpha", "final")]


def built_by(first: LockedOutput) -> list[Lock]:
    """Return locks of a stage that builds an output, and of final."""
    found = provided(first.source, str(first.metadata.version))
    return [lock("first", outputs=(first,)), lock("final", found)]


def both(one: str, other: str) -> list[Package]:
    """Return a project with two versions, each for a platform."""
    return [held("x", one, marker=LINUX), held("x", other, marker=MAC)]


NATIVE = "x-1.0-cp311-cp311-linux_x86_64.whl"
PURE = "x-1.0-py3-none-any.whl"
ARCHIVE = PackageArchive(url=f"https://host/{PURE}#frag", hashes={"sha256": ONE})

CASES: dict[str, tuple[list[Lock], list[Lock], list[str]]] = {
    "a version": (
        in_all(held("torch", "2.12.0"), held("x")),
        in_all(held("torch", "2.13.0"), held("x")),
        ["torch 2.12.0 → 2.13.0 in zeta, alpha, final"],
    ),
    "a version, from several": (
        [lock("a", held("x", "1.0")), lock("b", held("x", "2.0")), lock("final")],
        [lock("a", held("x", "3.0")), lock("b", held("x", "3.0")), lock("final")],
        ["x 1.0 → 3.0 in a", "x 2.0 → 3.0 in b"],
    ),
    "one version of several": (
        [lock("final", *both("1.0", "2.0"))],
        [lock("final", *both("1.0", "10.0"))],
        ["x 1.0, 2.0 → 1.0, 10.0 in final"],
    ),
    "several projects, by name": (
        in_all(held("b"), held("a")),
        in_all(held("b", "2.0"), held("a", "2.0")),
        ["a 1.0 → 2.0 in zeta, alpha, final", "b 1.0 → 2.0 in zeta, alpha, final"],
    ),
    "what came": (
        in_all(),
        in_all(held("x")),
        ["x 1.0 came into zeta, alpha, final"],
    ),
    "what left": (
        [lock("a", held("x")), lock("final", held("x"))],
        [lock("a", held("x")), lock("final")],
        ["x 1.0 left final"],
    ),
    "what came here and left there": (
        [lock("a", held("x")), lock("final")],
        [lock("a"), lock("final", held("x"))],
        ["x 1.0 left a", "x 1.0 came into final"],
    ),
    "another file": (
        in_all(held("x", "1.0", wheel(PURE, ONE))),
        in_all(held("x", "1.0", wheel(PURE, TWO))),
        ["x 1.0 is another file in zeta, alpha, final"],
    ),
    "another file of another name": (
        [lock("final", held("x", "1.0", wheel(NATIVE)))],
        [lock("final", held("x", "1.0", wheel(PURE, TWO)))],
        ["x 1.0 is another file in final"],
    ),
    "one file of several": (
        [lock("final", held("x", "1.0", wheel(NATIVE), wheel(PURE)))],
        [lock("final", held("x", "1.0", wheel(NATIVE), wheel(PURE, TWO)))],
        ["x 1.0 is another file in final"],
    ),
    "one more file": (
        [lock("final", held("x", "1.0", wheel(PURE)))],
        [lock("final", held("x", "1.0", wheel(PURE), wheel(NATIVE, TWO)))],
        ["x 1.0 has other files to choose from in final"],
    ),
    "the same file, as an archive": (
        [lock("final", held("x", wheels=None, archive=ARCHIVE))],
        [lock("final", held("x"))],
        ["taken from another place: x"],
    ),
    "another place": (
        in_all(*(held(name, "1.0", wheel(PURE)) for name in "ab")),
        in_all(*(held(name, "1.0", wheel(PURE, host="mirror")) for name in "ab")),
        ["taken from another place: a, b"],
    ),
    "another place for many": (
        in_all(held("x"), *(held(name, "1.0", wheel(PURE)) for name in "abcdefg")),
        in_all(
            held("x", "2.0"),
            *(held(name, "1.0", wheel(PURE, host="mirror")) for name in "abcdefg"),
        ),
        [
            "x 1.0 → 2.0 in zeta, alpha, final",
            "taken from another place: a, b, c, d, e and 2 more",
        ],
    ),
    "an output's version": (
        built_by(output(SDIST)),
        built_by(output(replace(SDIST, location="k-2.tar.gz", sha256=TWO), "2.0")),
        ["k 1.0 → 2.0 in first, final"],
    ),
    "an output's sdist": (
        built_by(output(SDIST)),
        built_by(output(replace(SDIST, sha256=TWO))),
        ["k 1.0 is another file in first, final"],
    ),
    "an output's commit": (
        built_by(output(COMMIT)),
        built_by(output(replace(COMMIT, commit="def45" * 8))),
        ["k commit abc123456789 → def45def45de in first, final"],
    ),
    "an output's commit and version": (
        built_by(output(COMMIT)),
        built_by(output(replace(COMMIT, commit="def45" * 8), "1.1")),
        [
            "k 1.0 → 1.1 in first, final",
            "k commit abc123456789 → def45def45de in first, final",
        ],
    ),
    "an output's repository": (
        built_by(output(COMMIT)),
        built_by(output(replace(COMMIT, url="https://fork/k"))),
        ["taken from another place: k"],
    ),
    "an output's folder": (
        built_by(output(FOLDER)),
        built_by(output(DirectorySource(path="k"))),
        ["taken from another place: k"],
    ),
    "an output's origin": (
        built_by(output(SDIST)),
        built_by(output(FOLDER)),
        ["k comes from a folder, no longer from an archive, in first, final"],
    ),
    "an output's origin and version": (
        built_by(output(SDIST)),
        built_by(output(COMMIT, "2.0")),
        [
            "k 1.0 → 2.0 in first, final",
            "k comes from a commit, no longer from an archive, in first, final",
        ],
    ),
    "what is an output now": (
        [lock("first"), lock("final", held("k"))],
        built_by(output()),
        [
            "k 1.0 is now built in first",
            "k comes from an archive, no longer from a wheel, in final",
        ],
    ),
    "what is no output any more": (
        built_by(output()),
        [lock("first"), lock("final")],
        ["k 1.0 is no longer built in first", "k 1.0 left final"],
    ),
    "an output of another stage": (
        [lock("a", outputs=(output(),)), lock("b")],
        [lock("a"), lock("b", outputs=(output(),))],
        ["k 1.0 is no longer built in a", "k 1.0 is now built in b"],
    ),
    "what an output requires": (
        built_by(output(requires_dist=("numpy", "torch"))),
        built_by(output(requires_dist=("einops", "numpy"))),
        ["requires-dist of k changed: + einops, - torch"],
    ),
    "what its build requires": (
        built_by(output()),
        built_by(output(build_requires=("setuptools", "wheel"))),
        ["build-requires of k changed: + wheel"],
    ),
    "its Python and extras, and from where they are known": (
        built_by(output(provides_extra=("np",))),
        built_by(output(requires_python=">=3.10", learned="hook")),
        [
            "metadata of k changed: static → hook",
            "provides-extra of k changed: - np",
            "requires-python of k changed: none → >=3.10",
        ],
    ),
    "its branch and subdirectory": (
        built_by(output(replace(COMMIT, revision="main", subdirectory="a"))),
        built_by(output(replace(COMMIT, revision="v1"))),
        ["revision of k changed: main → v1", "subdirectory of k changed: a → none"],
    ),
    "a lock more": (
        [lock("a", held("x")), lock("final", held("x"))],
        [lock("a", held("x")), lock("b", held("x")), lock("final", held("x"))],
        ["the lock of b is new: 1 project"],
    ),
    "a lock less": (
        [lock("final"), lock("b", held("x"), outputs=(output(),)), lock("a")],
        [lock("final", held("y"))],
        [
            "the lock of a is gone",
            "the lock of b is gone",
            "y 1.0 came into final",
        ],
    ),
    "another interpreter": (
        [lock("a"), lock("final")],
        [
            lock(name, requires_python=SpecifierSet("==3.12.*"), environments=[MAC])
            for name in ("a", "final")
        ],
        [
            "made for Python ==3.12.*, no longer for Python *: a, final",
            'made for sys_platform == "darwin", no longer for any system: a, final',
        ],
    ),
    "another Python too": (
        [lock("final", environments=[Marker("sys_platform == 'linux'")])],
        [
            lock(
                "final",
                requires_python=SpecifierSet("<3.13,>=3.11"),
                environments=[
                    Marker(f"python_version == '{it}' and sys_platform == 'linux'")
                    for it in ("3.11", "3.12")
                ],
            )
        ],
        ["made for Python <3.13,>=3.11, no longer for Python *: final"],
    ),
    "nothing": (
        in_all(held("x")),
        [replace(it, inputs="j", series="t") for it in in_all(held("x"))],
        ["no version, file or source changed"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_change_has_a_line(case: str) -> None:
    """The old value, the new value, and the locks in the order of the stages."""
    old, new, lines = CASES[case]
    assert said(old, new) == lines


def test_the_first_locking_is_one_line() -> None:
    """Without earlier locks, a list of everything is useless."""
    new = [
        lock("first", held("a"), held("b"), outputs=(output(),)),
        lock("final", held("a"), provided()),
    ]
    assert said([], new) == ["locked 2 environments, 3 projects (1 built in stages)"]
    assert said([], [lock("final", held("a"))]) == [
        "locked 1 environment, 1 project (0 built in stages)"
    ]


@pytest.mark.parametrize(("more", "last"), [(0, ""), (3, "and 3 more changes")])
def test_a_long_list_is_shortened(more: int, last: str) -> None:
    """The last line counts the other changes."""
    names = [f"p{number:03}" for number in range(MAX_LINES + more)]
    old = [lock("final", *(held(name) for name in names))]
    new = [lock("final", *(held(name, "2.0") for name in names))]
    lines = said(old, new)
    assert lines[:MAX_LINES] == [
        f"{name} 1.0 → 2.0 in final" for name in names[:MAX_LINES]
    ]
    expected = [f"{last}; the lock files show them all"] if last else []
    assert lines[MAX_LINES:] == expected


def test_a_change_names_the_project_and_the_locks() -> None:
    """A change is text, ready to print."""
    old = {"final": lock("final", held("x"))}
    new = [lock("final", held("x", "2.0"))]
    assert find_changes(old, new) == ["x 1.0 → 2.0 in final"]
