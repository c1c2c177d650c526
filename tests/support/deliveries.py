"""Results of builds to deliver to a wheelhouse, without a store and a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.builder.stage import OutputResult
from nox_buildstages.lock.files.lockfile import LockedOutput
from nox_buildstages.model import DirectorySource, Metadata
from nox_buildstages.store.key import Ingredient, Recipe
from nox_buildstages.store.store import StoredWheel
from nox_buildstages.system.files import sha256_of
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
        environment={"torch": Ingredient(version="2.13.0", sha256="ef" * 32)},
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
) -> OutputResult:
    """Make a wheel as the store would hold it, and return the result of its output."""
    store = folder / "store" / f"{name}-{version}"
    path = make_wheel(store, name, version, **fields)
    (store / "build.log").write_text(f"built {name} {version}\n")
    wheel = stored_wheel(path, name, version)
    return OutputResult(
        wheel=wheel,
        output=LockedOutput(
            name=wheel.name,
            source=DirectorySource(path="vendor/a"),
            build_requires=(),
            metadata=Metadata(version=wheel.version, learned="static"),
        ),
        patches=(),
        stage="kernels",
        is_built=True,
    )
