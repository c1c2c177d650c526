"""Wheels on their way into a wheelhouse, with no store and no build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.model import BuiltWheel
from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheelhouse.directory import Delivery
from support.packages import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from support.packages import WheelFields


def deliver_from(
    folder: Path,
    name: str,
    version: str = "1.0",
    **fields: Unpack[WheelFields],
) -> Delivery:
    """Make a wheel as it would lie in the store, and return it on its way."""
    store = folder / "store" / f"{name}-{version}"
    path = make_wheel(store, name, version, **fields)
    log = store / "build.log"
    log.write_text(f"built {name} {version}\n")
    wheel = BuiltWheel(
        name=canonicalize_name(name),
        version=Version(version),
        path=path,
        sha256=sha256_of(path),
        size=path.stat().st_size,
        seconds=1.5,
        log=log,
        key=f"key-of-{name}-{version}",
    )
    return Delivery(
        wheel=wheel,
        stage="kernels",
        built=True,
        source="vendor/a",
        environment={"torch": "2.13.0"},
    )
