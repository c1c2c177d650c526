"""Where the user tells uv not to use wheels: uv's own settings and variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.utils import NormalizedName

NO_BINARY_KEYS = ("no-binary", "no-binary-package")
"""What of ``[tool.uv]`` says it; that of ``[tool.uv.pip]`` is called no-binary too."""

_ALL = ":all:"
_TRUE = frozenset(("1", "on", "t", "true", "y", "yes"))


def find_no_binary(
    name: NormalizedName, settings: Mapping[str, Any], variables: Mapping[str, str]
) -> str | None:
    """Return where it is said not to use a project's wheels; None for nowhere.

    Args:
        name: Of the project.
        settings: The table ``[tool.uv]``.
        variables: Of the environment.
    """
    for place, names in (*_settings(settings), *_variables(variables)):
        if _ALL in names or name in map(canonicalize_name, names):
            return place
    return None


def without_no_binary(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``[tool.uv]`` with none of that."""
    kept = {key: settings[key] for key in settings if key not in NO_BINARY_KEYS}
    pip = settings.get("pip", {})
    if "no-binary" in pip:
        kept["pip"] = {key: pip[key] for key in pip if key != "no-binary"}
    return kept


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    everything = settings.get("no-binary") is True
    yield "no-binary of [tool.uv]", [_ALL] if everything else []
    yield "no-binary-package of [tool.uv]", _names(settings, "no-binary-package")
    pip = settings.get("pip", {})
    yield "no-binary of [tool.uv.pip]", _names(pip, "no-binary")


def _names(settings: Mapping[str, Any], key: str) -> list[str]:
    value = settings.get(key)
    names = value if isinstance(value, list) else []
    return [name for name in names if isinstance(name, str)]


def _variables(variables: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    everything = variables.get("UV_NO_BINARY", "").lower() in _TRUE
    yield "UV_NO_BINARY", [_ALL] if everything else []
    yield "UV_NO_BINARY_PACKAGE", variables.get("UV_NO_BINARY_PACKAGE", "").split()
