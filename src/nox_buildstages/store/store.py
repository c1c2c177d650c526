"""Wheels by key, whole or not at all, shared by every process of a user."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import NormalizedName
from packaging.version import Version
from platformdirs import user_cache_path

from nox_buildstages.model import BuiltWheel
from nox_buildstages.store.build_dir import BuildDirectory
from nox_buildstages.store.in_use import note_use
from nox_buildstages.store.key import Recipe
from nox_buildstages.system import files
from nox_buildstages.system.files import sha256_of
from nox_buildstages.system.locks import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

CACHE_VARIABLE = "NOX_BUILDSTAGES_CACHE_DIR"
FORMAT = 1
RECORD = "record.json"
LOG = "build.log"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return where this user's store is."""
    chosen = environ.get(CACHE_VARIABLE)
    return Path(chosen).absolute() if chosen else user_cache_path("nox-buildstages")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A wheel in the store, and all that went into it.

    Attributes:
        wheel: The file and what is known of it.
        recipe: What its key is the digest of.
        run: That built it.
    """

    wheel: BuiltWheel
    recipe: Recipe
    run: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """What a build leaves behind.

    Attributes:
        wheel: The file.
        log: What the backend said.
        seconds: That it took.
        run: In which run of nox.
    """

    wheel: Path
    log: Path
    seconds: float
    run: str


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of wheels, each in a folder named by its key.

    Attributes:
        folder: Of the store; made when something is put into it.
    """

    folder: Path

    def find(self, key: str) -> Entry | None:
        """Return the entry of a key; None where there is none that is sound.

        The wheel is hashed: what was tampered with, or damaged, isn't found.
        """
        note_use(self.folder, self.folder / "wheels" / key)
        entry = self.peek(key)
        return entry if entry is not None and _is_sound(entry.wheel) else None

    def peek(self, key: str) -> Entry | None:
        """Return the entry of a key without looking at the wheel.

        A record of another key isn't believed.
        """
        folder = self.entry_folder(key)
        try:
            record = (folder / RECORD).read_bytes()
        except OSError:
            return None
        entry = entry_of(record, folder)
        return entry if entry is not None and entry.recipe.key == key else None

    def entry_folder(self, key: str) -> Path:
        """Return the folder of a key's wheel."""
        return self.folder / "wheels" / key

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, the newest first, without looking at the wheels."""
        dated: list[tuple[float, str]] = []
        for record in self.folder.glob(f"wheels/[!.]*/{RECORD}"):
            with suppress(FileNotFoundError):  # another process may remove it
                dated.append((record.stat().st_mtime, record.parent.name))
        for _, key in sorted(dated, reverse=True):
            entry = self.peek(key)
            if entry is not None:
                yield entry

    def put(self, recipe: Recipe, product: Product) -> Entry:
        """Put a wheel under its recipe's key, in place of what may be there.

        Returns:
            The wheel as it lies in the store.
        """
        wheel = product.wheel
        key = recipe.key
        target = self.entry_folder(key)
        record = {
            "format": FORMAT,
            "wheel": wheel.name,
            "sha256": sha256_of(wheel),
            "size": wheel.stat().st_size,
            "seconds": round(product.seconds, 3),
            "run": product.run,
            "recipe": recipe.to_dict(),
        }
        with self._staging() as staging:
            shutil.copyfile(wheel, staging / wheel.name)
            shutil.copyfile(product.log, staging / LOG)
            text = json.dumps(record, indent=1, sort_keys=True)
            (staging / RECORD).write_text(text, encoding="utf-8")
            if sha256_of(staging / wheel.name) != record["sha256"]:
                raise OSError("the copy in the store isn't what was copied")
            with self.locked("put"):
                files.remove_tree(target)
                staging.replace(target)
        return _read(record, target)

    def locked(
        self, name: str, *, wait: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Hold a lock that only one process at a time can hold.

        Args:
            name: Of the lock.
            wait: Called once, where another process holds it.
        """
        return held(self.folder / "locks" / f"{name}.lock", wait=wait)

    @contextmanager
    def workplace(self, key: str) -> Iterator[BuildDirectory]:
        """Yield a folder to build in, whose path depends on the key alone.

        It is gone at the end, unless the block was stopped: then it stays as it is, and
        the next one of that key may go on in it. Hold the key's lock meanwhile.
        """
        with self.locked(self.keeping(key).stem):
            pass  # who was killed while it built may have something to end yet
        place = self.place(key)
        place.folder.mkdir(parents=True, exist_ok=True)
        yield place
        place.clear()

    def place(self, key: str) -> BuildDirectory:
        """Return where a key is built, whoever does it."""
        return BuildDirectory(self.folder / "builds" / key, here=self.here)

    @property
    def here(self) -> Path:
        """Where every build finds itself, where that can be; empty for all others."""
        return self.folder / "here"

    def keeping(self, key: str) -> Path:
        """Return the file that is locked for as long as something runs in there."""
        return self.folder / "locks" / f"{key}-runs.lock"

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        folder = self.folder / "wheels"
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            yield staging
        finally:
            files.remove_tree(staging)


def entry_of(record: bytes, folder: Path) -> Entry | None:
    """Return the entry that a record tells of; None where it can't be read.

    Args:
        record: The content of its file.
        folder: Of the entry.
    """
    try:
        return _read(json.loads(record), folder)
    except (ValueError, LookupError, TypeError):
        return None


def _read(record: Mapping[str, Any], folder: Path) -> Entry:
    if record["format"] != FORMAT:
        raise LookupError("format")
    recipe = Recipe.from_dict(record["recipe"])
    wheel = BuiltWheel(
        name=NormalizedName(recipe.name),
        version=Version(recipe.version),
        path=folder / os.path.basename(record["wheel"]),  # noqa: PTH119
        sha256=record["sha256"],
        size=record["size"],
        seconds=record["seconds"],
        log=folder / LOG,
        key=folder.name,
    )
    return Entry(wheel=wheel, recipe=recipe, run=record["run"])


def _is_sound(wheel: BuiltWheel) -> bool:
    try:
        return (
            wheel.path.stat().st_size == wheel.size
            and sha256_of(wheel.path) == wheel.sha256
            and wheel.log.is_file()
        )
    except OSError:
        return False
