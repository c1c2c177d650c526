"""The manifest of a wheelhouse is parsed and formatted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nox_buildstages.wheelhouse.manifest import (
    Manifest,
    format_manifest,
    log_of_project,
    parse_manifest,
)

ENTRY: dict[str, Any] = {
    "name": "a",
    "version": "1.0",
    "file": "a-1.0-py3-none-any.whl",
    "stage": "s",
    "key": "k",
    "sha256": "ab" * 32,
    "size": 7,
    "seconds": 1.5,
    "status": "built",
    "source": "x",
    "environment": {"torch": "2.13.0"},
    "log": "logs/a.log",
}
OTHER = {
    **ENTRY,
    "file": "a-2.0-py3-none-any.whl",
    "log": "logs/a-2.0-py3-none-any.log",
    "from": ["one"],
}


def text(*entries: object, **more: object) -> str:
    return json.dumps({"format": 1, "wheels": entries, **more})


def test_a_formatted_manifest_is_parsed() -> None:
    """Wheels are sorted by name and file; wheels of builds and of merges differ."""
    manifest = Manifest(wheels=(OTHER, ENTRY), merged={"pylock.x.toml": "ab"})
    found = parse_manifest(format_manifest(manifest))
    assert found == Manifest(wheels=(ENTRY, OTHER), merged=manifest.merged)
    assert found.own == (ENTRY,)
    assert [*found.files()] == [
        *("a-1.0-py3-none-any.whl", "logs/a.log"),
        *("a-2.0-py3-none-any.whl", "logs/a-2.0-py3-none-any.log"),
    ]


def test_no_output_has_the_debug_log() -> None:
    """Whatever its name is; names of projects have no underscore."""
    assert log_of_project("debugger") == "logs/debugger.log"
    assert log_of_project("debug") == "logs/debug_.log"
    wheel = {"name": "debug", "file": "debug-1.0-py3-none-any.whl"}
    manifest = Manifest(wheels=({**ENTRY, **wheel, "log": "logs/debug_.log"},))
    assert parse_manifest(format_manifest(manifest)) == manifest


@pytest.mark.parametrize("merged", [None, {}, {"pylock.x.toml": "ab"}])
def test_only_merges_have_the_merged_key(
    merged: dict[str, str] | None,
) -> None:
    """The manifest of a build lacks the key."""
    written = format_manifest(Manifest(merged=merged))
    assert ("merged" in written) == (merged is not None)
    assert parse_manifest(written).merged == merged


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../a-1.0-py3-none-any.whl"},
        {"file": "x\\a-1.0-py3-none-any.whl"},
        {"file": "a.zip"},
        {"file": ""},
        {"file": 1},
        {"log": "logs/../a.log"},
        {"log": "logs/b.log"},
        {"name": "../a", "log": "logs/../a.log"},
        {"name": "A", "log": "logs/A.log"},
        {"environment": []},
    ],
)
def test_entries_with_files_elsewhere_are_invalid(change: dict[str, Any]) -> None:
    """An invalid entry is kept apart, and no file is touched because of the entry."""
    strange = {**ENTRY, **change}
    found = parse_manifest(text(ENTRY, strange))
    assert (found.wheels, found.invalid) == ((ENTRY,), (strange,))


@pytest.mark.parametrize("entry", [1, None, [], {}, {"name": "a"}])
def test_other_values_are_invalid_entries(entry: object) -> None:
    """Any JSON value is accepted and kept apart."""
    assert parse_manifest(text(entry)).invalid == (entry,)


def test_merged_files_elsewhere_are_dropped() -> None:
    """Only names of files in the same folder are kept."""
    merged = {"../x": "ab", "x/y": "ab", "..": "ab", "x": "ab"}
    assert parse_manifest(text(merged=merged)).merged == {"x": "ab"}


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "Expecting value"),
        ("[]", "expected a table, found a list"),
        ("{}", "wheels: is missing"),
        ('{"wheels": 1}', "wheels: expected a list, found 1"),
        ('{"wheels": [], "merged": []}', "merged: expected a table, found a list"),
        ('{"wheels": [], "wheels": []}', "the key 'wheels' twice"),
        ('{"format": 0, "wheels": []}', "its format is 0, not 1"),
    ],
)
def test_a_faulty_manifest_is_rejected(written: str, problem: str) -> None:
    """The error names the problem."""
    with pytest.raises(ValueError, match=problem):
        parse_manifest(written)
