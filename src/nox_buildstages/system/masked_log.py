"""A log that never contains some values, whatever a program prints."""

from __future__ import annotations

import os
import select
from contextlib import contextmanager
from threading import Event, Thread
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.indexes.mask import Mask

_CHUNK = 65_536
_PAUSE = 0.1
"""Seconds to wait for output that a process beside the program still prints."""


@contextmanager
def mask_output(log: IO[bytes], mask: Mask) -> Iterator[int]:
    """Yield a descriptor for the output of a program, which goes to a log line by line.

    At the end of the block, all that was printed is in the log.

    Raises:
        OSError: The log can't be written, as on a full disk.
    """
    reading, writing = os.pipe()
    ended, errors = Event(), list[OSError]()

    def copy() -> None:
        rest = b""
        while chunk := _read(reading, ended):
            lines, rest = mask.hide_lines(rest + chunk)
            write(lines)
        write(mask.hide_bytes(rest))

    def write(content: bytes) -> None:
        try:
            log.write(content)
            log.flush()
        except OSError as error:  # the program must not wait for a reader
            errors.append(error)

    thread = Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield writing
    finally:
        os.close(writing)
        ended.set()
        thread.join()
        os.close(reading)
    if errors:
        raise errors[0]


def _read(pipe: int, ended: Event) -> bytes:
    """Return the next output; nothing at its end, or if the program has ended."""
    while not select.select([pipe], [], [], _PAUSE)[0]:
        if ended.is_set():
            return b""
    return os.read(pipe, _CHUNK)
