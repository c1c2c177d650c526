"""Several wheelhouses as one: names, equal wheels, and what can't be one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from nox_buildstages.commands.merge import union
from nox_buildstages.commands.merge.union import Part

WHEEL = "a-1.0-py3-none-any.whl"
UNTOLD = (
    "source and versions are equal: what differs is something else of the key, such as"
    " a variable or a tool"
)
AT_RANDOM = "the keys are equal: it comes out differently each time that it is built"
NO_LIBC = (
    "that tag names no C library: for machines like those that built them, and public"
    " indexes such as PyPI don't take it"
)


def part(name: str, sha256: str = "aa", **entry: Any) -> Part:  # noqa: ANN401 - JSON
    """Return a part with one wheel."""
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
def test_each_has_a_name_of_its_own(
    found: list[str], taken: list[str], expected: list[str]
) -> None:
    """No more of its path than it takes."""
    pairs = []
    for text in found:
        folder, _, rest = text.partition(":")
        pairs.append((PurePosixPath(folder), PurePosixPath(folder, rest)))
    assert union.names(pairs, taken) == expected


def test_equal_wheels_are_one_entry() -> None:
    """Of the first that has it, with all that have it; the wheel names its log."""
    first, second = part("one", stage="s"), part("two", stage="t")
    (entry,) = union.entries([first, second])
    assert (entry["stage"], entry["from"]) == ("s", ["one", "two"])
    assert entry["log"] == "logs/a-1.0-py3-none-any.log"
    assert "from" not in first.wheels[0]


def test_what_the_house_has_itself_stays_as_it_is() -> None:
    """Whoever else has it."""
    own = part("")
    assert union.entries([own, part("one")]) == own.wheels
    assert [*union.clashes([own, part("one")])] == []


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (
            {"environment": {"torch": "2.8.0", "numpy": "1"}},
            {"environment": {"torch": "2.13.0", "einops": "2"}},
            [
                "einops is none in the first, 2 in the second",
                "numpy is 1 in the first, none in the second",
                "torch is 2.8.0 in the first, 2.13.0 in the second",
            ],
        ),
        (
            {"source": "git+x@1"},
            {"source": "git+x@2"},
            ["the source is git+x@1 in the first, git+x@2 in the second"],
        ),
        ({}, {}, [UNTOLD]),
        ({"key": "k"}, {"key": "k"}, [AT_RANDOM]),
        (
            {"environment": {f"p{number}": "1" for number in range(9)}},
            {},
            [
                *(f"p{it} is 1 in the first, none in the second" for it in range(8)),
                "and 1 more",
            ],
        ),
    ],
)
def test_what_differs_is_told(
    first: dict[str, Any], second: dict[str, Any], told: list[str]
) -> None:
    """As far as both manifests tell it."""
    parts = [part("one", "aa", **first), part("two", "bb", **second)]
    (clash,) = union.clashes(parts)
    assert [*clash.differences] == told
    assert clash.folders == (Path("one"), Path("two"))


def test_each_name_clashes_once() -> None:
    """However many wheels have it."""
    parts = [part(name, sha256) for name, sha256 in zip("xyz", "abc", strict=True)]
    (clash,) = union.clashes(parts)
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
def test_documents_are_named_by_what_they_are_of(
    texts: dict[str, str], expected: dict[str, str]
) -> None:
    """Where they differ; with no dot in the label (PEP 751)."""
    assert union.documents("pylock.toml", texts) == expected


def test_a_bill_has_its_two_endings() -> None:
    """As scanners look for it."""
    found = union.documents("sbom.cdx.json", {"8.0": "x", "9.0": "y"})
    assert [*found] == ["sbom.8_0.cdx.json", "sbom.9_0.cdx.json"]


def test_each_statement_is_there_once() -> None:
    """Sorted by wheel; two builds of equal wheels have two."""
    parts = [
        Part(folder=Path("x"), name="x", statements=(("b", "2"), ("a", "3"))),
        Part(folder=Path("y"), name="y", statements=(("b", "2"), ("a", "1"))),
    ]
    assert union.statements(parts) == "1\n3\n2\n"


@pytest.mark.parametrize(
    ("found", "said"),
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
def test_platforms_are_told_and_no_more(
    found: dict[str, list[str]], said: list[str]
) -> None:
    """A tag says for what a wheel is, not where it runs."""
    assert [*union.platforms(found)] == said
