"""Merging wheelhouses: names, equal wheels, clashes and documents."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from nox_buildstages.commands.merge.parts import (
    Part,
    describe_platforms,
    find_clashes,
    merge_entries,
    merge_statements,
    name_documents,
    unique_names,
)

WHEEL = "a-1.0-py3-none-any.whl"
OTHER_PART = (
    "source and versions are equal: another part of the key differs, such as a"
    " variable or a tool"
)
NOT_REPRODUCIBLE = "the keys are equal, so its build isn't reproducible"
NO_LIBC = (
    "this tag names no C library: the wheels run on machines like those that built"
    " them, and public indexes such as PyPI reject them"
)


def part(name: str, sha256: str = "aa", **entry: Any) -> Part:  # noqa: ANN401 - JSON
    """Return a wheelhouse with one wheel."""
    known = {"name": "a", "file": WHEEL, "sha256": sha256, "log": "logs/a.log"}
    more = {"key": f"key-{sha256}", "source": "x", "environment": {}}
    wheels = ({**known, **more, **entry},)
    return Part(folder=Path(name or "."), name=name, wheels=wheels)


@pytest.mark.parametrize(
    ("found", "taken", "expected"),
    [
        ([], [], []),
        (["/jobs:8.0", "/jobs:9.0/2.13"], [], ["8.0", "9.0/2.13"]),
        (["/jobs:"], [], ["jobs"]),
        (["/x/9.0:", "/y/9.0:", "/z:"], [], ["x/9.0", "y/9.0", "z"]),
        (["/p/x/9.0:", "/q/x/9.0:"], [], ["p/x/9.0", "q/x/9.0"]),
        (["/x:9.0", "/y:9.0", "/z:x/9.0"], [], ["x/9.0", "y/9.0", "z/x/9.0"]),
        (["/x:9.0"], ["9.0"], ["x/9.0"]),
        (["/x:9.0"], ["9.0", "x/9.0"], ["x/9.0"]),
    ],
)
def test_each_wheelhouse_has_a_unique_name(
    found: list[str], taken: list[str], expected: list[str]
) -> None:
    """The name has as little of the path as possible."""
    pairs = []
    for text in found:
        folder, _, rest = text.partition(":")
        pairs.append((PurePosixPath(folder), PurePosixPath(folder, rest)))
    assert unique_names(pairs, taken) == expected


def test_equal_wheels_share_an_entry() -> None:
    """The entry is that of the first wheelhouse, with the names of all."""
    first, second = part("one", stage="s"), part("two", stage="t")
    (entry,) = merge_entries([first, second])
    assert (entry["stage"], entry["from"]) == ("s", ["one", "two"])
    assert entry["log"] == "logs/a-1.0-py3-none-any.log"
    assert "from" not in first.wheels[0]


def test_own_wheels_keep_their_entries() -> None:
    """Other wheelhouses with the same wheel change nothing."""
    own = part("")
    assert merge_entries([own, part("one")]) == own.wheels
    assert [*find_clashes([own, part("one")])] == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (
            {"environment": {"torch": "2.8.0", "numpy": "1"}},
            {"environment": {"torch": "2.13.0", "einops": "2"}},
            [
                "einops is missing in the first, 2 in the second",
                "numpy is 1 in the first, missing in the second",
                "torch is 2.8.0 in the first, 2.13.0 in the second",
            ],
        ),
        (
            {"source": "git+x@1"},
            {"source": "git+x@2"},
            ["the source is git+x@1 in the first, git+x@2 in the second"],
        ),
        ({}, {}, [OTHER_PART]),
        ({"key": "k"}, {"key": "k"}, [NOT_REPRODUCIBLE]),
        (
            {"environment": {f"p{number}": "1" for number in range(9)}},
            {},
            [
                *(f"p{it} is 1 in the first, missing in the second" for it in range(8)),
                "and 1 more",
            ],
        ),
    ],
)
def test_differences_of_a_clash_are_listed(
    first: dict[str, Any], second: dict[str, Any], expected: list[str]
) -> None:
    """The manifests of both wheelhouses are compared."""
    parts = [part("one", "aa", **first), part("two", "bb", **second)]
    (clash,) = find_clashes(parts)
    assert [*clash.differences] == expected
    assert clash.folders == (Path("one"), Path("two"))


def test_each_file_name_clashes_once() -> None:
    """Several different wheels with one name are one clash."""
    parts = [part(name, sha256) for name, sha256 in zip("xyz", "abc", strict=True)]
    (clash,) = find_clashes(parts)
    assert clash.keys == ("key-a", "key-b")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, {}),
        ({"9.0": "x"}, {"pylock.toml": "x"}),
        ({"8.0": "x", "9.0": "x"}, {"pylock.toml": "x"}),
        ({"": "x", "9.0": "x"}, {"pylock.toml": "x"}),
        ({"": "x", "9.0": "y"}, {"pylock.toml": "x", "pylock.9_0.toml": "y"}),
        (
            {"9.0/2.13": "x", "a b": "y"},
            {"pylock.9_0-2_13.toml": "x", "pylock.a_b.toml": "y"},
        ),
        (
            {"9.0": "x", "9_0": "y", "9 0": "z"},
            {
                "pylock.9_0.toml": "x",
                "pylock.9_0-2.toml": "y",
                "pylock.9_0-3.toml": "z",
            },
        ),
    ],
)
def test_different_documents_are_named_by_label(
    texts: dict[str, str], expected: dict[str, str]
) -> None:
    """Labels have no dots (PEP 751)."""
    assert name_documents("pylock.toml", texts) == expected


def test_an_sbom_keeps_its_two_suffixes() -> None:
    """Scanners search for these names."""
    found = name_documents("sbom.cdx.json", {"8.0": "x", "9.0": "y"})
    assert [*found] == ["sbom.8_0.cdx.json", "sbom.9_0.cdx.json"]


def test_each_statement_is_kept_once() -> None:
    """Statements are sorted by wheel; two builds of a wheel have two statements."""
    parts = [
        Part(folder=Path("x"), name="x", statements=(("b", "2"), ("a", "3"))),
        Part(folder=Path("y"), name="y", statements=(("b", "2"), ("a", "1"))),
    ]
    assert merge_statements(parts) == "1\n3\n2\n"


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        ({}, []),
        ({"any": ["a"]}, []),
        ({"any": ["a"], "manylinux_2_28_x86_64": ["b"]}, []),
        ({"manylinux2014_x86_64": ["a"], "manylinux_2_17_x86_64": ["a"]}, []),
        ({"macosx_11_0_arm64": ["a"], "macosx_12_0_arm64": ["b"]}, []),
        (
            {"linux_x86_64": ["a"], "manylinux_2_28_x86_64": ["b"]},
            [f"linux_x86_64: a; {NO_LIBC}"],
        ),
        (
            {"manylinux_2_28_x86_64": ["a"], "musllinux_1_2_x86_64": ["a"]},
            [
                "for different platforms: manylinux_2_28_x86_64, musllinux_1_2_x86_64",
            ],
        ),
        (
            {"linux_aarch64": ["b", "a", "a"], "macosx_11_0_arm64": ["a"]},
            [
                "for different platforms: linux_aarch64, macosx_11_0_arm64",
                f"linux_aarch64: a, b; {NO_LIBC}",
            ],
        ),
    ],
)
def test_platforms_are_described(found: dict[str, list[str]], lines: list[str]) -> None:
    """Different platforms and tags without a C library are listed."""
    assert [*describe_platforms(found)] == lines
