"""Run in the final environment: import each module, or say which can't be."""

from __future__ import annotations

import importlib
import sys
import traceback


def main(names: list[str]) -> str | None:
    """Import modules; return what to exit with."""
    failed = next((name for name in names if not _imports(name)), None)
    if failed is None:
        return None
    return f"{failed} can't be imported in the final environment"


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except Exception:  # noqa: BLE001 - whatever it is, it is shown
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
