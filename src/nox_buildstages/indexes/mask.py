"""Hide values of variables in texts: the name of the variable takes their place."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORTEST = 6
"""Shorter values, such as 1 or true, say nothing, and stand in many texts."""

LONGEST_LINE = 65_536
"""Bytes of a line that is kept whole."""


class Mask(Value):
    """Secret parts of values, the longest first, each with the text in its place."""

    parts: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Mask:
        """Return the mask for the values of variables.

        Each line of a value counts, and the password of a URL.
        """
        found = {}
        for name, value in variables.items():
            parts = [line.strip() for line in value.splitlines()]
            with suppress(ValueError):  # no URL
                password = urlsplit(value).password or ""
                parts += (password, unquote(password))
            for part in parts:
                if len(part) >= SHORTEST:
                    found[os.fsencode(part)] = os.fsencode(f"${name}")
        return cls(parts=tuple(sorted(found.items(), key=lambda it: -len(it[0]))))

    def hide(self, text: str) -> str:
        """Return a text without the values."""
        if not self.parts:
            return text
        hidden = self.hide_bytes(text.encode("utf-8", "surrogateescape"))
        return hidden.decode("utf-8", "surrogateescape")

    def hide_bytes(self, content: bytes) -> bytes:
        """Return the bytes of a text without the values."""
        for part, name in self.parts:
            content = content.replace(part, name)
        return content

    def hide_lines(self, content: bytes) -> tuple[bytes, bytes]:
        """Return the complete lines without the values, and the rest as it is.

        Of a very long line, the beginning counts as complete.
        """
        end = content.rfind(b"\n") + 1
        if len(content) - end > LONGEST_LINE:
            content = self.hide_bytes(content)
            end = len(content) - max(len(part) for part, _ in self.parts)
        return self.hide_bytes(content[:end]), content[end:]
