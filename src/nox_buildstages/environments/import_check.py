"""Import modules in the runtime environment; its interpreter runs this file."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def import_command(python: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the command for importing modules with an interpreter."""
    return (python, "-I", __file__, *names)


def main(names: list[str]) -> str | None:
    """Import modules; return the message about the first failure, if any."""
    name = ""
    try:
        for name in names:
            importlib.import_module(name)
    except Exception:  # noqa: BLE001 - the traceback shows any failure
        traceback.print_exc()
        return f"{name} can't be imported in the runtime environment"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
