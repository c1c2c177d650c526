"""The TOML reader: the standard library's, or tomli on Python 3.10."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
    from tomllib import TOMLDecodeError
else:
    import tomli as tomllib
    from tomli import TOMLDecodeError

__all__ = ["TOMLDecodeError", "loads"]


def loads(text: str) -> dict[str, Any]:
    """Return a TOML document; a byte order mark at its start is ignored.

    Raises:
        TOMLDecodeError: The text isn't TOML.
    """
    return tomllib.loads(text.removeprefix("\N{BYTE ORDER MARK}"))
