"""Which file each setting of uv comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT_KEYS = frozenset(
    (
        *("build-backend", "build-constraint-dependencies", "conflicts"),
        *("constraint-dependencies", "default-groups", "dependency-groups"),
        *("dev-dependencies", "environments", "exclude-dependencies", "managed"),
        *("override-dependencies", "package", "required-environments", "sources"),
        "workspace",
    )
)
"""The keys that ``uv lock`` reads from ``[tool.uv]`` only, never from a uv.toml."""


def combine_files(
    pyproject: Mapping[str, Any], uv_toml: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings in effect for a project with a uv.toml.

    uv ignores ``[tool.uv]`` then, except the keys that describe the project.
    """
    settings = {key: uv_toml[key] for key in uv_toml if key not in PROJECT_KEYS}
    own = {key: pyproject[key] for key in pyproject if key in PROJECT_KEYS}
    return {**settings, **own}
