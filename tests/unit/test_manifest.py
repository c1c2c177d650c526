"""The manifest of a wheelhouse: read, and written, as a text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nox_buildstages.wheelhouse.manifest import Manifest, dumps, loads

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


def test_what_is_written_is_read() -> None:
    """Sorted by name and file; what builds delivered is told from what was merged."""
    manifest = Manifest(wheels=(OTHER, ENTRY), merged={"pylock.x.toml": "ab"})
    found = loads(dumps(manifest))
    assert found == Manifest(wheels=(ENTRY, OTHER), merged=manifest.merged)
    assert found.own == (ENTRY,)
    assert [*found.files()] == [
        *("a-1.0-py3-none-any.whl", "logs/a.log"),
        *("a-2.0-py3-none-any.whl", "logs/a-2.0-py3-none-any.log"),
    ]


@pytest.mark.parametrize("merged", [None, {}, {"pylock.x.toml": "ab"}])
def test_a_merge_is_told_by_a_key_alone(merged: dict[str, str] | None) -> None:
    """A build's manifest hasn't it."""
    written = dumps(Manifest(merged=merged))
    assert ("merged" in written) == (merged is not None)
    assert loads(written).merged == merged


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
def test_an_entry_never_names_files_elsewhere(change: dict[str, Any]) -> None:
    """It is told apart, and nothing is done on its word."""
    strange = {**ENTRY, **change}
    found = loads(text(ENTRY, strange))
    assert (found.wheels, found.strange) == ((ENTRY,), (strange,))


@pytest.mark.parametrize("entry", [1, None, [], {}, {"name": "a"}])
def test_what_is_no_entry_is_told_apart_too(entry: object) -> None:
    """Whatever JSON holds."""
    assert loads(text(entry)).strange == (entry,)


def test_a_merge_names_no_files_elsewhere() -> None:
    """What isn't the name of a file in the folder is dropped."""
    merged = {"../x": "ab", "x/y": "ab", "..": "ab", "x": "ab"}
    assert loads(text(merged=merged)).merged == {"x": "ab"}
    assert loads(text(merged=[])).merged is None


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "Expecting value"),
        ("[]", "it lists no wheels"),
        ("{}", "it lists no wheels"),
        ('{"wheels": 1}', "it lists no wheels"),
        ('{"format": 2, "wheels": []}', "it is of format 2, this reads 1"),
    ],
)
def test_what_is_no_manifest_is_refused(written: str, problem: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=problem):
        loads(written)
