"""Settings and variables of uv against wheels of a package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

NO_BINARY_KEYS = ("no-binary", "no-binary-package")
"""The keys of ``[tool.uv]`` that forbid wheels; ``[tool.uv.pip]`` has no-binary too."""

_ALL = ":all:"
_TRUE = frozenset(("1", "on", "t", "true", "y", "yes"))


def find_no_binary(
    name: NormalizedName, settings: Mapping[str, Any], variables: Mapping[str, str]
) -> str | None:
    """Return the setting or variable against wheels of a package, if any."""
    pip = settings.get("pip", {})
    all_of_uv = [_ALL] if settings.get("no-binary") is True else []
    variable = variables.get("UV_NO_BINARY", "").lower()
    origins = {
        "no-binary of [tool.uv]": all_of_uv,
        "no-binary-package of [tool.uv]": settings.get("no-binary-package"),
        "no-binary of [tool.uv.pip]": pip.get("no-binary"),
        "UV_NO_BINARY": [_ALL] if variable in _TRUE else [],
        "UV_NO_BINARY_PACKAGE": variables.get("UV_NO_BINARY_PACKAGE", "").split(),
    }
    for origin, value in origins.items():
        entries = value if isinstance(value, list) else []
        names = [entry for entry in entries if isinstance(entry, str)]
        if _ALL in names or name in map(canonicalize_name, names):
            return origin
    return None


def without_no_binary(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``[tool.uv]`` without the keys against wheels."""
    kept = {key: settings[key] for key in settings if key not in NO_BINARY_KEYS}
    pip = settings.get("pip", {})
    if "no-binary" in pip:
        kept["pip"] = {key: pip[key] for key in pip if key != "no-binary"}
    return kept
