"""Where a backend builds that would otherwise do it in a folder that goes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.builder.backend import Backend

_CMAKE = "SKBUILD_BUILD_DIR"
_CMAKE_SETTINGS = {"build-dir", "skbuild.build-dir"}
_MESON_SETTINGS = {"build-dir", "builddir"}


def staying(backend: Backend, folder: Path) -> Backend:
    """Return a backend that builds in a folder, where it can be told to.

    By itself scikit-build-core and meson-python make a temporary one, with another name
    each time, and lose it when they are stopped. What the table says comes first.

    Args:
        backend: Of any kind.
        folder: That outlives it.
    """
    settings = backend.settings
    kind = backend.system.backend
    if kind == "scikit_build_core.build" and _CMAKE_SETTINGS.isdisjoint(settings):
        return replace(backend, env={_CMAKE: str(folder), **backend.env})
    if kind == "mesonpy" and _MESON_SETTINGS.isdisjoint(settings):
        return replace(backend, settings={**settings, "build-dir": str(folder)})
    return backend
