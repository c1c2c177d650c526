"""uv's environment variables that would take away declarations of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IGNORED = {
    "UV_BUILD_CONSTRAINT": "write build-constraints into [tool.nox-buildstages]",
    "UV_CONSTRAINT": "write constraints into [tool.nox-buildstages]",
    "UV_EXCLUDE": "write exclude-dependencies into [tool.uv]",
    "UV_NO_BUILD_ISOLATION": "a build gets the environment of its stage",
    "UV_NO_SOURCES": "write no-sources = true into [tool.uv]",
    "UV_NO_SOURCES_PACKAGE": "write no-sources-package into [tool.uv]",
    "UV_NO_VERIFY_HASHES": "each file must be the locked one",
    "UV_REQUIRE_HASHES": "each locked file has a hash",
    "UV_TORCH_BACKEND": "as in uv lock; name an index in sources of [tool.uv]",
}
"""Variables that have no effect here, with the reason or what to write instead."""

IF_UNSET = {
    "UV_EXCLUDE_NEWER": "exclude-newer",
    "UV_EXCLUDE_NEWER_PACKAGE": "exclude-newer-package",
    "UV_INDEX_STRATEGY": "index-strategy",
    "UV_KEYRING_PROVIDER": "keyring-provider",
    "UV_PRERELEASE": "prerelease",
    "UV_PRERELEASE_PACKAGE": "prerelease-package",
    "UV_RESOLUTION": "resolution",
}
"""Variables that have an effect unless ``[tool.uv]`` has the key."""

ANSWERED_HERE = frozenset(
    (
        *("UV_NO_BINARY", "UV_NO_BINARY_PACKAGE"),
        *("UV_NO_BUILD", "UV_NO_BUILD_PACKAGE"),
        *("UV_FROZEN", "UV_LOCKED", "UV_PROJECT", "UV_WORKING_DIR"),
    )
)
"""Variables that uv doesn't get: they are for projects, or heeded after its answer."""


def find_idle_variables(
    settings: Mapping[str, Any], variables: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield each variable that is set and has no effect, with a reason."""
    for name, reason in IGNORED.items():
        if variables.get(name):
            yield name, reason
    for name, key in IF_UNSET.items():
        if variables.get(name) and key in settings:
            yield name, f"[tool.uv] has {key}"
