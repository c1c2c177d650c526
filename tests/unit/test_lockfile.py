"""The contents of a lock file, and invalid files."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tomli_w
from packaging.markers import Marker, default_environment
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageWheel,
    Pylock,
)
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import BuildStagesError, InvalidLockError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.document import (
    dump_lock,
    list_pins,
    load_lock,
    with_series,
)
from nox_buildstages.lock.files.lockfile import (
    FORMAT,
    IndexPin,
    Lock,
    LockedOutput,
    StagePin,
    digest,
)
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    GitSource,
    Interpreter,
    Metadata,
    Source,
)
from nox_buildstages.reader import parse_toml
from nox_buildstages.value import replace

SHA = "ab" * 32
COMMIT = "c0ffee" * 6 + "abcd"
NATIVE = Tag("cp311", "cp311", "linux_x86_64")
PURE = Tag("py3", "none", "any")
SOURCES: list[Source] = [
    ArchiveSource(location="https://host/files/a-1.tar.gz", sha256=SHA),
    ArchiveSource(location="sdists/a-1.zip", sha256=SHA, subdirectory="python"),
    GitSource(url="ssh://git@host/a.git", commit=COMMIT),
    GitSource(url="https://host/a", commit=COMMIT, subdirectory="python/a"),
    DirectorySource(path="vendor/a"),
    DirectorySource(path="../elsewhere"),
    DirectorySource(path="vendor", subdirectory="a"),
]


def interpreter() -> Interpreter:
    markers = default_environment()
    markers["implementation_name"] = "cpython"
    markers["python_version"] = "3.11"
    markers["python_full_version"] = "3.11.7"
    markers["sys_platform"] = "linux"
    markers["platform_machine"] = "x86_64"
    return Interpreter(
        markers=markers, tags=(NATIVE, PURE), abi="cpython-311", platform="linux-x86_64"
    )


def wheel(name: str, sha256: str, *, version: str = "1.0") -> PackageWheel:
    return PackageWheel(
        name=name.format(version),
        url=f"https://host/{name.format(version)}",
        hashes={"sha256": sha256},
    )


def indexed(name: str, version: str = "1.0", **fields: Any) -> Package:  # noqa: ANN401
    fields.setdefault("wheels", [wheel(f"{name}-{version}-py3-none-any.whl", SHA)])
    return Package(name=canonicalize_name(name), version=Version(version), **fields)


def built(name: str, stage: str = "kernels") -> Package:
    source = DirectorySource(path=f"../vendor/{name}")
    return pylock.stage_package(
        canonicalize_name(name), Version("1.0"), source, stage=stage
    )


def output(source: Source, metadata: Metadata | None = None) -> LockedOutput:
    return LockedOutput(
        name=canonicalize_name("a"),
        source=source,
        build_requires=("setuptools", "torch>=2"),
        metadata=metadata or Metadata(version=Version("1.0"), learned="static"),
    )


def lock(*packages: Package, outputs: tuple[LockedOutput, ...] = ()) -> Lock:
    return Lock(
        name="kernels",
        inputs="sha256:1",
        series="2",
        pylock=pylock.make_pylock(packages),
        outputs=outputs,
    )


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_lock_is_read_as_written(source: Source) -> None:
    """With every kind of source."""
    written = lock(indexed("b"), built("c"), outputs=(output(source),))
    assert load_lock(dump_lock(written), name="kernels") == written


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(version=Version("1!1.0rc1+cpu"), learned="hook"),
        Metadata(
            version=Version("1.0"),
            requires_dist=("torch>=2", 'numpy ; extra == "np"'),
            requires_python=">=3.9",
            provides_extra=("np",),
            learned="config",
        ),
    ],
)
def test_metadata_is_read_with_its_origin(metadata: Metadata) -> None:
    """The file records the requirements and who stated them."""
    written = lock(outputs=(output(SOURCES[0], metadata),))
    assert load_lock(dump_lock(written), name="kernels").outputs[0].metadata == metadata


def test_a_final_lock_has_no_outputs() -> None:
    """Nothing is built in the runtime environment."""
    text = dump_lock(lock(indexed("b")))
    assert "outputs" not in text
    assert load_lock(text, name="final").outputs == ()


def test_equal_locks_have_equal_texts() -> None:
    """The order in which packages were found does not count."""
    one = lock(indexed("b"), indexed("c"), built("d"))
    other = lock(built("d"), indexed("c"), indexed("b"))
    assert dump_lock(one) == dump_lock(other)
    assert dump_lock(one) != dump_lock(lock(indexed("b")))


def test_a_file_names_the_command_that_updates_it() -> None:
    """In its first line."""
    assert "nox -s build-stages-lock" in dump_lock(lock()).splitlines()[0]


def test_a_lock_is_a_valid_pep_751_file() -> None:
    """Other tools ignore our table."""
    written = lock(indexed("b"), built("c"), outputs=tuple(map(output, SOURCES)))
    read = Pylock.from_dict(parse_toml(dump_lock(written)))
    read.validate()
    assert [package.name for package in read.packages] == ["b", "c"]


def test_a_file_is_named_after_its_stage() -> None:
    """As PEP 751 allows."""
    assert file_name("kernels") == "pylock.kernels.toml"


def without(*path: str) -> str:
    """Return a lock file that lacks a key."""
    document = parse_toml(dump_lock(lock(indexed("b"), outputs=(output(SOURCES[0]),))))
    table: Any = document
    for step in path[:-1]:
        table = table[0][step] if isinstance(table, list) else table[step]
    del (table[0] if isinstance(table, list) else table)[path[-1]]
    return tomli_w.dumps(document)


def replaced(old: str, new: str) -> str:
    text = dump_lock(lock(indexed("b"), outputs=(output(SOURCES[0]),)))
    assert old in text
    return text.replace(old, new)


def retyped(key: str, value: object) -> str:
    """Return a lock file with a value of a wrong type."""
    document = parse_toml(dump_lock(lock(outputs=(output(SOURCES[0]),))))
    table = document["tool"]["nox-buildstages"]
    (table if key == "outputs" else table["outputs"][0])[key] = value
    return tomli_w.dumps(document)


OURS = ("tool", "nox-buildstages")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<<<<<<< ours\n", "is not TOML: "),
        ("", "tool: is missing"),
        ("tool = 1\n", "tool: expected a table, found 1"),
        (without(*OURS), "tool.nox-buildstages: is missing"),
        (without(*OURS, "format"), "format: is missing"),
        (without(*OURS, "inputs"), "inputs: is missing"),
        (without(*OURS, "series"), "series: is missing"),
        (without("lock-version"), "lock-version"),
        (without("packages"), "packages"),
        (without("packages", "wheels"), "wheels"),
        (without(*OURS, "outputs", "name"), "outputs[0].name: is missing"),
        (without(*OURS, "outputs", "version"), "outputs[0].version: is missing"),
        (without(*OURS, "outputs", "source"), "outputs[0].source: is missing"),
        (without(*OURS, "outputs", "source", "url"), "source.path: is missing"),
        (without(*OURS, "outputs", "source", "sha256"), "sha256: is missing"),
        (
            without(*OURS, "outputs", "build-requires"),
            "build-requires: is missing",
        ),
        (without(*OURS, "outputs", "metadata"), "outputs[0].metadata: is missing"),
        (
            without(*OURS, "outputs", "requires-dist"),
            "requires-dist: is missing",
        ),
        (retyped("outputs", "a"), "outputs: expected a list, found the string 'a'"),
        (retyped("outputs", ["a"]), "outputs[0]: expected a table, found the string"),
        (retyped("outputs", {}), "outputs: expected a list, found a table"),
        (retyped("build-requires", "a"), "build-requires: expected a list"),
        (retyped("build-requires", [1]), "build-requires[0]: expected a string"),
        (retyped("requires-dist", "a"), "requires-dist: expected a list"),
        (retyped("requires-dist", [["a"]]), "requires-dist[0]: expected a string"),
        (retyped("requires-dist", ["!!"]), "requires-dist[0]: Expected package name"),
        (retyped("requires-python", "!!"), "requires-python: Invalid specifier"),
        (retyped("provides-extra", "a"), "provides-extra: expected a list"),
        (retyped("provides-extra", {"a": 1}), "provides-extra: expected a list"),
        (retyped("metadata", 5), "metadata: expected one of static, wheel"),
        (retyped("source", {"directory": "a\0b"}), "directory: has a NUL"),
        (replaced('name = "b"', f'name = "b"\nx = {"[" * 999}{"]" * 999}'), "nested"),
        (replaced('version = "1.0"', 'version = "one"'), "one"),
        (replaced('name = "b"', "name = 1"), "name"),
        (replaced(f'[packages.wheels.hashes]\nsha256 = "{SHA}"\n', ""), "hashes"),
    ],
)
def test_an_invalid_file_is_refused(text: str, problem: str) -> None:
    """The error names the file, the problem and the command that fixes it."""
    with pytest.raises(InvalidLockError, match=re.escape(problem)) as caught:
        load_lock(text, name="kernels")
    first, *_, last = str(caught.value).splitlines()
    assert first.startswith("error: pylock.kernels.toml: can't be read: ")
    assert last == "  nox -s build-stages-lock"


def test_a_file_of_another_format_is_refused() -> None:
    """An older format and a newer format have different messages."""
    text = replaced(f"format = {FORMAT}", f"format = {FORMAT - 1}")
    with pytest.raises(InvalidLockError) as caught:
        load_lock(text, name="kernels")
    assert caught.value.summary == (
        f"pylock.kernels.toml: has format {FORMAT - 1}, and this version reads {FORMAT}"
    )
    text = replaced(f"format = {FORMAT}", f"format = {FORMAT + 1}")
    with pytest.raises(BuildStagesError) as newer:
        load_lock(text, name="kernels")
    assert newer.value.summary == (
        "pylock.kernels.toml: written by a newer version of nox-buildstages"
        f" (format {FORMAT + 1}; this version reads {FORMAT})"
    )


def test_locks_of_one_run_have_the_same_series() -> None:
    """It depends on all locks, but not on their earlier series."""
    one, other = lock(indexed("b")), replace(lock(indexed("c")), name="final")
    first = with_series([one, other])
    assert len({it.series for it in first}) == 1
    assert first == with_series(replace(it, series="old") for it in (one, other))
    assert first[0].series != with_series([one])[0].series
    assert [replace(it, series="2") for it in first] == [one, other]


def test_pins_are_the_wheels_of_an_environment() -> None:
    """Wheels by hash, outputs by stage, all sorted."""
    held = lock(indexed("z"), built("m", stage="models"), indexed("a", "2.0"))
    assert list_pins(held, interpreter()) == (
        IndexPin(name=canonicalize_name("a"), version=Version("2.0"), sha256=SHA),
        StagePin(name=canonicalize_name("m"), version=Version("1.0"), stage="models"),
        IndexPin(name=canonicalize_name("z"), version=Version("1.0"), sha256=SHA),
    )


def test_the_best_wheel_is_pinned() -> None:
    """The interpreter prefers one of several wheels."""
    native = wheel("b-1.0-cp311-cp311-linux_x86_64.whl", "cd" * 32)
    other = wheel("b-1.0-cp312-cp312-linux_x86_64.whl", "ef" * 32)
    pure = wheel("b-1.0-py3-none-any.whl", SHA)
    (pin,) = list_pins(lock(indexed("b", wheels=[pure, other, native])), interpreter())
    assert pin == IndexPin(
        name=canonicalize_name("b"), version=Version("1.0"), sha256="cd" * 32
    )


def test_a_wheel_at_a_url_is_pinned() -> None:
    """PEP 751 calls it an archive."""
    url = "https://host/b-1.0-py3-none-any.whl"
    archive = PackageArchive(url=url, hashes={"sha256": SHA})
    (pin,) = list_pins(lock(indexed("b", wheels=None, archive=archive)), interpreter())
    assert isinstance(pin, IndexPin)
    assert pin.sha256 == SHA


def test_a_package_with_a_false_marker_is_not_pinned() -> None:
    """The file may contain packages for other platforms."""
    elsewhere = indexed("b", marker=Marker("sys_platform == 'win32'"))
    assert list_pins(lock(elsewhere), interpreter()) == ()


SDIST = PackageSdist(
    name="b-1.0.tar.gz", url="https://host/b-1.0.tar.gz", hashes={"sha256": SHA}
)


@pytest.mark.parametrize(
    ("package", "problem"),
    [
        (
            indexed("b", wheels=None, sdist=SDIST),
            "b is neither a wheel nor provided by a stage",
        ),
        (
            indexed("b", wheels=None, directory=PackageDirectory(path="b")),
            "b is neither a wheel nor provided by a stage",
        ),
        (
            Package(
                name=canonicalize_name("b"),
                wheels=[wheel("b-1.0-py3-none-any.whl", SHA)],
            ),
            "b is neither a wheel nor provided by a stage",
        ),
        (
            indexed("b", wheels=[wheel("b-1.0-cp27-none-any.whl", SHA)]),
            "No wheel",
        ),
        (
            indexed(
                "b",
                wheels=[
                    PackageWheel(
                        name="b-1.0-py3-none-any.whl",
                        url="https://host/b-1.0-py3-none-any.whl",
                        hashes={"md5": "0" * 32},
                    )
                ],
            ),
            "b has no sha256",
        ),
    ],
)
def test_a_package_without_a_wheel_is_refused(package: Package, problem: str) -> None:
    """An environment consists of wheels with hashes."""
    with pytest.raises(InvalidLockError, match=problem) as caught:
        list_pins(lock(package), interpreter())
    assert caught.value.subject == "pylock.kernels.toml"


def test_a_lock_for_another_interpreter_is_refused() -> None:
    """3.11 cannot use a lock for 3.12."""
    held = lock()
    other = pylock.make_pylock((), requires_python=SpecifierSet("==3.12.*"))
    with pytest.raises(InvalidLockError, match=r"3\.12"):
        list_pins(replace(held, pylock=other), interpreter())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, True),
        (["a", "b"], ["b", "a"], False),
        (["a"], ("a",), True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {}, False),
        ({"a": "b"}, {"a": "c"}, False),
    ],
)
def test_different_values_have_different_digests(
    one: object, other: object, *, same: bool
) -> None:
    """Only the order of keys does not count."""
    assert (digest(one) == digest(other)) is same
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest(one))
