"""What is read from METADATA and PKG-INFO, and what is refused."""

from __future__ import annotations

import pytest
from packaging.version import Version

from nox_buildstages.wheels.core_metadata import CoreMetadata, parse_metadata

HEAD = b"Metadata-Version: 2.4\nName: Some.Package\nVersion: 1.0\n"


def test_every_field_is_normalized() -> None:
    """Names are normalized, requirements and extras sorted, dynamic in lower case."""
    text = HEAD + (
        b"Requires-Python: >=3.9, <4\n"
        b"Requires-Dist: torch>=2.0\n"
        b'Requires-Dist: einops ; extra == "fast"\n'
        b"Requires-Dist: torch >= 2.0\n"
        b"Provides-Extra: Very_Fast\n"
        b"Provides-Extra: fast\n"
        b"Dynamic: Requires-Python\n"
        b"Dynamic: License\n"
    )
    assert parse_metadata(text) == CoreMetadata(
        metadata_version="2.4",
        name="some-package",  # type: ignore[arg-type]
        version=Version("1.0"),
        requires_dist=('einops; extra == "fast"', "torch>=2.0"),
        requires_python="<4,>=3.9",
        provides_extra=("fast", "very-fast"),
        dynamic=("license", "requires-python"),
    )


def test_what_is_not_said_is_empty() -> None:
    """A text with a name and a version is enough; its format is then the oldest."""
    metadata = parse_metadata(b"Name: a\nVersion: 1\n")
    assert metadata == CoreMetadata(
        metadata_version="1.0",
        name="a",  # type: ignore[arg-type]
        version=Version("1"),
    )


@pytest.mark.parametrize(
    "sloppy",
    [
        pytest.param(b"Requires-Python: >=3.6.*\n", id="an invalid Requires-Python"),
        pytest.param(b"Home-page: a\nHome-page: b\n", id="an irrelevant field twice"),
        pytest.param(b"Author: \xe9\n", id="an irrelevant field in Latin-1"),
        pytest.param(b"X-Unknown: 1\n\nA text.\n", id="an unknown field and a body"),
        pytest.param(b"Requires: old\n", id="a field of Metadata 1.1"),
    ],
)
def test_sloppiness_that_does_not_matter_is_ignored(sloppy: bytes) -> None:
    """Old sdists hold much that is invalid and nobody needs."""
    assert parse_metadata(HEAD + sloppy) == parse_metadata(HEAD)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"Version: 1\n", "Name is missing"),
        (b"Name: a\n", "Version is missing"),
        (b"Name: a\nName: b\nVersion: 1\n", "Name is duplicated or isn't UTF-8"),
        (b"Name: -a-\nVersion: 1\n", "name is invalid"),
        (b"Name: a\nVersion: one\n", "Invalid version: 'one'"),
        (HEAD + b"Requires-Dist: torch (2.0\n", "torch"),
        (
            HEAD + b"Requires-Dist: \xff\n",
            "Requires-Dist is duplicated or isn't UTF-8",
        ),
        (b"Metadata-Version: new\nName: a\nVersion: 1\n", "Invalid version: 'new'"),
    ],
)
def test_what_is_needed_must_be_sound(text: bytes, reason: str) -> None:
    """A field that locking depends on is understood, or refused with the reason."""
    with pytest.raises(ValueError, match=reason):
        parse_metadata(text)
