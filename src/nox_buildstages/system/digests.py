"""Hashing files without holding them in memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

CHUNK = 1 << 20
"""Bytes held at once."""


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a stream, piece by piece."""
    while chunk := stream.read(CHUNK):
        yield chunk


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


def place_of(path: Path) -> str:
    """Return a name for a place on this machine, for files that are about it."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]
