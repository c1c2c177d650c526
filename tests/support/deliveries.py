"""Wheels on their way into a wheelhouse, with no store and no build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.store.key import Recipe
from nox_buildstages.store.store import StoredWheel
from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheelhouse.directory import Delivery
from support.packages import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from support.packages import WheelFields


def stored_wheel(path: Path, name: str, version: str = "1.0") -> StoredWheel:
    """Describe a wheel as the store would, whether or not its file exists."""
    recipe = Recipe(
        name=name,
        version=version,
        source="sha256:aa",
        environment={},
        env={},
        config_settings={},
        interpreter={},
        tools={},
    )
    return StoredWheel(
        name=canonicalize_name(name),
        version=Version(version),
        path=path,
        sha256=sha256_of(path) if path.is_file() else "cd" * 32,
        size=path.stat().st_size if path.is_file() else 7,
        seconds=1.5,
        log=path.with_name("build.log"),
        recipe=recipe,
        run="run-1",
    )


def deliver_from(
    folder: Path,
    name: str,
    version: str = "1.0",
    **fields: Unpack[WheelFields],
) -> Delivery:
    """Make a wheel as it would lie in the store, and return it on its way."""
    store = folder / "store" / f"{name}-{version}"
    path = make_wheel(store, name, version, **fields)
    (store / "build.log").write_text(f"built {name} {version}\n")
    return Delivery(
        wheel=stored_wheel(path, name, version),
        stage="kernels",
        built=True,
        source="vendor/a",
        environment={"torch": "2.13.0"},
    )
