"""What holds for any lock, and for any file that claims to be one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import tomli_w
from hypothesis import given, strategies as st
from packaging.pylock import Package, PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import BuildStagesError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.document import dump_lock, load_lock, with_series
from nox_buildstages.lock.files.lockfile import Lock, LockedOutput, digest
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource, Metadata
from nox_buildstages.reader import parse_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

words = st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True)
names = words.map(canonicalize_name)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
numbers = st.integers(0, 99)
versions = st.one_of(
    st.builds("{}.{}".format, numbers, numbers),
    st.builds("{}!{}rc{}".format, numbers, numbers, numbers),
    st.builds("{}.{}+{}".format, numbers, numbers, words),
).map(Version)
requirements = st.one_of(
    words,
    st.builds("{}>={}".format, words, versions.map(lambda it: it.public)),
    st.builds("{}[{}] ; python_version > '3'".format, words, words),
)
folders = st.none() | words
paths = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(
    lambda path: "://" not in path
)
sources = st.one_of(
    st.builds(
        ArchiveSource,
        location=paths | st.builds("https://host/{}-{}.tar.gz".format, words, versions),
        sha256=hashes,
        subdirectory=folders,
    ),
    st.builds(
        GitSource,
        url=st.builds("https://host/{}".format, words),
        commit=hashes.map(lambda text: text[:40]),
        subdirectory=folders,
    ),
    st.builds(DirectorySource, path=paths),
)
metadata = st.builds(
    Metadata,
    version=versions,
    requires_dist=st.lists(requirements, max_size=3).map(tuple),
    requires_python=st.none() | st.just(">=3.9"),
    provides_extra=st.lists(words, max_size=2).map(tuple),
    learned=st.sampled_from(["static", "hook", "config"]),
)
outputs = st.builds(
    LockedOutput,
    name=names,
    source=sources,
    build_requires=st.lists(requirements, max_size=3).map(tuple),
    metadata=metadata,
)


def wheel(name: str, version: Version, sha256: str) -> Package:
    file_name = f"{name}-{version}-py3-none-any.whl"
    return Package(
        name=canonicalize_name(name),
        version=version,
        wheels=[
            PackageWheel(url=f"https://host/{file_name}", hashes={"sha256": sha256})
        ],
    )


wheels = st.builds(wheel, words, versions, hashes)
provided = st.builds(pylock.stage_package, names, versions, sources, stage=words)
locks = st.builds(
    Lock,
    name=words,
    inputs=hashes,
    series=words,
    pylock=st.lists(wheels | provided, max_size=4).map(pylock.make_pylock),
    outputs=st.lists(outputs, max_size=3).map(tuple),
)
deeper = st.sampled_from([True, True, True, False])
faulty = st.one_of(
    st.integers(), st.booleans(), st.text(), st.just([]), st.just({}), st.just([{}])
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=8,
)


@given(locks)
def test_any_lock_comes_back_as_it_was(lock: Lock) -> None:
    """Nothing is lost or changed on the way through a file."""
    assert load_lock(dump_lock(lock), name=lock.name) == lock
    Pylock.from_dict(parse_toml(dump_lock(lock))).validate()


@given(locks)
def test_reading_and_writing_changes_no_byte(lock: Lock) -> None:
    """Two runs on the same inputs write the same."""
    text = dump_lock(lock)
    assert dump_lock(load_lock(text, name=lock.name)) == text


@given(st.lists(locks, max_size=3))
def test_numbering_depends_on_the_contents_alone(given_locks: list[Lock]) -> None:
    """Numbered once or twice, the number is the same, and all have it."""
    once = with_series(given_locks)
    assert with_series(once) == once
    assert len({lock.series for lock in once}) <= 1


@given(locks, st.data())
def test_no_file_breaks_the_reader(lock: Lock, data: st.DataObject) -> None:
    """Whatever stands in place of a value, it is a lock or the file is named."""
    document: Any = parse_toml(dump_lock(lock))
    holder, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(deeper):
        holder = holder[key]
        keys = sorted(holder) if isinstance(holder, dict) else range(len(holder))
        key = data.draw(st.sampled_from(keys))
    holder[key] = data.draw(faulty)
    with contextlib.suppress(BuildStagesError):
        assert dump_lock(load_lock(tomli_w.dumps(document), name=lock.name))


def shuffled(value: object, data: st.DataObject) -> object:
    """Return an equal value whose keys come in another order."""
    if isinstance(value, dict):
        keys = data.draw(st.permutations(sorted(value)))
        return {key: shuffled(value[key], data) for key in keys}
    return [shuffled(it, data) for it in value] if isinstance(value, list) else value


@given(values, st.data())
def test_a_digest_is_blind_for_the_order_of_keys(
    value: object, data: st.DataObject
) -> None:
    """TOML tables are unordered, and so are the inputs read from them."""
    assert digest(shuffled(value, data)) == digest(value)


@given(st.dictionaries(words, values, min_size=1), st.data())
def test_a_digest_sees_every_change(
    value: Mapping[str, object], data: st.DataObject
) -> None:
    """What was added, or taken away, or is another one, makes another digest."""
    key = data.draw(st.sampled_from(sorted(value)))
    less = {name: it for name, it in value.items() if name != key}
    assert len({digest(it) for it in (value, less, {**less, key: [value[key]]})}) == 3
