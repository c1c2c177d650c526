"""The store: wheels by key, shared by every process of a user.

A wheel, the log and the record are in the folder ``wheels/KEY/SHA256``, and never
change. A copy of the newest record is in ``wheels/KEY``. So a wheel from another build
has a place beside the earlier wheel, which others may be using. Earlier versions put
the three files into ``wheels/KEY``, and replaced them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import NormalizedName
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.errors import BuildStagesError, refuse_newer_format
from nox_buildstages.store.build_dir import BuildDirectory
from nox_buildstages.store.key import Recipe
from nox_buildstages.store.memory import BuildMemory, memory_field
from nox_buildstages.store.surroundings import (
    is_neutral,
    make_private,
    neutral_folder,
    temporary_folders,
)
from nox_buildstages.system import files
from nox_buildstages.system.documents import read_json
from nox_buildstages.system.files import list_stamps, path_id
from nox_buildstages.system.locks import (
    PAUSE,
    hold_lock,
    hold_shared_lock,
    try_lock,
)
from nox_buildstages.system.process import check_interrupt
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from nox_buildstages.store.compiled import CompiledFiles
    from nox_buildstages.system.files import FileStamp

_LOG = logging.getLogger(__name__)

CACHE_VARIABLE = "NOX_BUILDSTAGES_CACHE_DIR"
BUILD_VARIABLE = "NOX_BUILDSTAGES_BUILD_DIR"
FORMAT = 1
FAILURES = "failures"
FOLDERS = (
    *("wheels", "builds", "sources", "git", "compilers", "here", "locks", "jobs"),
    *("answers", "interpreters", "logs", "lists", "folders", FAILURES, "selections"),
)
"""The names of the folders of a store."""
SALT = "salt"
RECORD = "record.json"
LOG = "build.log"
_KEY_LENGTH = 64
_NEW = ".new-"
REMOVED_PREFIX = ".gone-"
"""The prefix that a folder's name gets before the folder is removed."""

_SHA256 = re.compile("[0-9a-f]{64}")
_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# nox-buildstages keeps wheels here, and can build them again.
"""
DAY = 86_400.0
"""Seconds for which a noted use isn't noted again."""


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the user's store."""
    folder = environ.get(CACHE_VARIABLE)
    if folder:
        return Path(folder).absolute()
    from platformdirs import user_cache_path  # noqa: PLC0415 - many name a folder

    return user_cache_path("nox-buildstages")


class StoredWheel(Value):
    """A wheel in the store, with the recipe and the log of the build."""

    name: NormalizedName
    version: Version
    path: Path
    sha256: str
    size: int  # bytes
    seconds: float  # the duration of the build
    log: Path
    recipe: Recipe
    run: str  # the run of nox that built the wheel
    tree_size: int | None = None  # bytes that its build directory had; None if unknown
    memory: BuildMemory | None = None  # None if it wasn't measured
    compiled_field: Any = None  # of the record; see ``compiled``
    compilers: tuple[str, ...] | None = None
    """The compilers that the build started; None if unknown."""

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of the wheel in events."""
        return {
            "key": self.key,
            "source": self.recipe.source,
            "sha256": self.sha256,
            "seconds": self.seconds,
            "size": self.size,
            **memory_field(self.memory),
        }

    @property
    def compiled(self) -> CompiledFiles | None:
        """The files compiled by the build; None if no compiler was seen."""
        from nox_buildstages.store.compiled import CompiledFiles  # noqa: PLC0415 - a no-op needs none

        return CompiledFiles.from_dict(self.compiled_field)

    @property
    def key(self) -> str:
        """The wheel's key in the store."""
        return self.recipe.key

    def to_build(self) -> dict[str, Any]:
        """Return the facts for comparisons with later builds."""
        build = {"key": self.key, "seconds": self.seconds, "size": self.size}
        with suppress(OSError):  # removed by another process
            build["built"] = self.path.with_name(RECORD).stat().st_mtime
        return build

    @classmethod
    def from_dict(cls, record: object, folder: Path) -> StoredWheel:
        """Return the wheel described by a record in a folder.

        Raises:
            UnreadableError: The record is malformed, or has another format.
        """
        table = reader.Table(record)
        found = table.get("format", reader.integer)
        refuse_newer_format(str(folder / RECORD), found, FORMAT)
        if found != FORMAT:
            raise reader.mismatch(f"format {FORMAT}", found)
        recipe = table.get("recipe", Recipe.from_dict)
        if recipe.passed:
            recipe = replace(recipe, recorded_key=table.get("key", reader.text))
        file = table.get("wheel", reader.text)
        sha256 = table.get("sha256", reader.text)
        if not _SHA256.fullmatch(sha256):
            raise reader.mismatch("a sha256", sha256)
        return cls(
            name=NormalizedName(recipe.name),
            version=reader.parse_with(Version)(recipe.version),
            path=folder / os.path.basename(file),  # noqa: PTH119
            sha256=sha256,
            size=table.get("size", reader.count),
            seconds=table.get("seconds", reader.seconds),
            log=folder / LOG,
            recipe=recipe,
            run=table.get("run", reader.text),
            tree_size=table.get("tree-size", reader.nullable(reader.count), None),
            memory=BuildMemory.from_dict(table.content.get("memory")),
            compiled_field=table.get("compiled", reader.plain, None),
            compilers=table.get("compilers", reader.list_of(reader.text), None),
        )


class Store(Value, kw_only=False):
    """A folder of wheels, in a folder for each key and hash."""

    folder: Path
    home: Path | None = None  # of the user
    build_folder: Path | None = None
    """The folder in which the user wants builds to run."""

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> Store:
        """Return the user's store."""
        folder = environ.get(BUILD_VARIABLE)
        return cls(
            cache_folder(environ),
            home=Path(environ.get("HOME") or Path.home()),
            build_folder=Path(folder).absolute() if folder else None,
        )

    @property
    def salt(self) -> str:
        """The salt of digests of secret values in this store, made at the first use.

        In a store that can't be written to, it is another one each time.
        """
        if salt := self._read_salt():
            return salt
        salt = make_salt()
        with suppress(OSError), self.hold_lock(SALT):
            salt = self._read_salt() or salt
            files.write_text(self.folder / SALT, salt)
        return salt

    def _read_salt(self) -> str:
        """Return the salt; empty without one."""
        with suppress(OSError, UnicodeError):
            salt = files.read_file(self.folder / SALT).decode()
            return salt if is_salt(salt) else ""
        return ""

    def find(self, key: str, sha256: str | None = None) -> StoredWheel | None:
        """Return the wheel of a key, after hashing; None if missing or damaged.

        Of several wheels, it is the one with a hash, or else the newest.
        """
        note_use(self.wheel_folder(key))
        wheel = self.peek(key, sha256)
        with suppress(OSError):
            if (
                wheel is not None
                and wheel.path.stat().st_size == wheel.size
                and files.sha256_of(wheel.path) == wheel.sha256
                and wheel.log.is_file()
            ):
                _LOG.debug("the local store has %s: %s", key, wheel.path.name)
                return wheel
        if wheel is not None:
            _LOG.debug("the local store has a damaged wheel for %s", key)
        return None

    def peek(self, key: str, sha256: str | None = None) -> StoredWheel | None:
        """Return the wheel of a key, without hashing; None if missing.

        Raises:
            BuildStagesError: A newer version wrote the record.
        """
        top = self.wheel_folder(key)
        for folder in (top / sha256, top) if sha256 else (top,):
            with suppress(OSError):
                wheel = load_record(files.read_file(folder / RECORD), top)
                if wheel is not None and wheel.key == key:
                    own = top / wheel.sha256
                    if own.is_dir():
                        path = own / wheel.path.name
                        return replace(wheel, path=path, log=own / LOG)
                    return wheel  # of an earlier version
        return None

    def wheel_folder(self, key: str) -> Path:
        """Return the folder of a key's wheel."""
        return self.folder / "wheels" / key

    def stamps(self, key: str) -> dict[str, tuple[tuple[str, FileStamp], ...]]:
        """Return the stamps of all files of a key, by folder: ``""`` and hashes."""
        top, found = self.wheel_folder(key), {}
        with suppress(OSError):
            found[""] = tuple(sorted(list_stamps(top)))
            for name, _ in found[""]:
                if _SHA256.fullmatch(name):
                    found[name] = tuple(sorted(list_stamps(top / name)))
        return found

    def keys(self) -> set[str]:
        """Return the keys of all folders; some may lack a wheel."""
        try:
            names = os.listdir(self.folder / "wheels")  # noqa: PTH208 - there are many
        except OSError:
            return set()
        return {name for name in names if len(name) == _KEY_LENGTH}

    def wheels(self, keys: Iterable[str]) -> Iterator[StoredWheel]:
        """Yield the wheels of some keys, the newest first, without hashing."""
        dated: list[tuple[float, str]] = []
        for key in keys:
            with suppress(OSError):  # no wheel, or removed by another process
                record = self.wheel_folder(key) / RECORD
                dated.append((record.stat().st_mtime, key))
        for _, key in sorted(dated, reverse=True):
            with suppress(BuildStagesError):  # a newer version's; not asked for
                wheel = self.peek(key)
                if wheel is not None:
                    yield wheel

    def put(  # noqa: PLR0913 - all that a record has
        self,
        recipe: Recipe,
        wheel: Path,
        *,
        log: Path,
        seconds: float,
        run: str,
        tree_size: int | None = None,
        memory: BuildMemory | None = None,
        compiled: CompiledFiles | None = None,
        compilers: tuple[str, ...] | None = None,
    ) -> StoredWheel:
        """Copy a wheel into the store, beside earlier wheels of the same key.

        The caller holds the key's lock.
        """
        top = self.wheel_folder(recipe.key)
        record = {
            "format": FORMAT,
            "wheel": wheel.name,
            "sha256": files.sha256_of(wheel),
            "size": wheel.stat().st_size,
            "seconds": round(seconds, 3),
            "run": run,
            **({"key": recipe.key} if recipe.passed else {}),
            "recipe": recipe.to_dict(),
            **({} if tree_size is None else {"tree-size": tree_size}),
            **memory_field(memory),
            **({} if compiled is None else {"compiled": compiled.to_dict()}),
            **({} if compilers is None else {"compilers": compilers}),
        }
        target = top / record["sha256"]
        for path in (top, target):
            if not path.is_dir():  # something else may be there
                path.unlink(missing_ok=True)
            elif not os.access(path, os.W_OK):
                path.chmod(0o700)
        top.mkdir(parents=True, exist_ok=True)
        self._keep_earlier(recipe.key)
        text = json.dumps(record, indent=1, sort_keys=True)
        with files.temporary_folder(_NEW, top) as staging:
            shutil.copyfile(wheel, staging / wheel.name)
            shutil.copyfile(log, staging / LOG)
            (staging / RECORD).write_text(text, encoding="utf-8")
            if files.sha256_of(staging / wheel.name) != record["sha256"]:
                raise OSError("the wheel changed while it was copied into the store")
            _move_folder(staging, target)
        files.write_text(top / RECORD, text)
        self._failure(recipe).unlink(missing_ok=True)
        return StoredWheel.from_dict(record, target)

    def _keep_earlier(self, key: str) -> None:
        """Copy a wheel of an earlier version to a place that nothing replaces."""
        wheel = self.peek(key)
        top = self.wheel_folder(key)
        if wheel is not None and wheel.path.parent == top:
            with suppress(OSError), files.temporary_folder(_NEW, top) as staging:
                for path in (wheel.path, wheel.log, top / RECORD):
                    shutil.copy2(path, staging / path.name)
                _move_folder(staging, top / wheel.sha256)

    def note_failure(self, recipe: Recipe, memory: BuildMemory) -> None:
        """Keep the memory of a failed build until the key has a wheel.

        The caller holds the key's lock.
        """
        record = {"format": FORMAT, "recipe": recipe.to_dict()}
        text = json.dumps({**record, "memory": memory.to_dict()}, sort_keys=True)
        with suppress(OSError):  # a full disk: the build's own error matters more
            files.write_text(self._failure(recipe), text)

    def failures(self, name: str) -> Iterator[tuple[float, Recipe, BuildMemory]]:
        """Yield time, recipe and memory of failed builds of a project."""
        for file in self.folder.joinpath(FAILURES).glob(f"{name}-*.json"):
            with suppress(OSError, reader.UnreadableError):
                record = read_json(file, reader.Table)
                recipe = record.get("recipe", Recipe.from_dict)
                memory = BuildMemory.from_dict(record.get("memory", reader.plain))
                found = record.get("format", reader.integer)
                if found == FORMAT and recipe.name == name and memory:
                    yield file.stat().st_mtime, recipe, memory

    def _failure(self, recipe: Recipe) -> Path:
        """Return the file for failures, under whichever recipe the wheel is kept."""
        key = recipe.without_compilers.key
        return self.folder / FAILURES / f"{recipe.name}-{key}.json"

    def key_lock(self, key: str) -> Path:
        """Return the lock held while the wheel of a key is built or fetched."""
        return self.folder / "locks" / f"{key}.lock"

    def hold_lock(
        self, name: str, *, on_wait: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[object]:
        """Hold a lock of the store exclusively; call ``on_wait`` before waiting."""
        return hold_lock(self.folder / "locks" / f"{name}.lock", on_wait=on_wait)

    @property
    def users_lock(self) -> Path:
        """The lock shared by sessions, and held exclusively by pruning."""
        return self.folder / "users.lock"

    @property
    def tag(self) -> Path:
        """The file by which backup programs know a cache (cachedir.org)."""
        return self.folder / "CACHEDIR.TAG"

    def move_strangers(self) -> list[Path]:
        """Move away what stands in the place of a folder of the store; return it.

        Everything in the store can be made again, but nobody knows whose that is.
        """
        moved = []
        for path in map(self.folder.joinpath, FOLDERS):
            if not os.path.isdir(path) and os.path.lexists(path):  # noqa: PTH112 - no error
                path.rename(path.with_name(f"{path.name}.moved-{os.urandom(4).hex()}"))
                moved.append(path)
        return moved

    @property
    def prune_mark(self) -> Path:
        """The file that exists while a prune removes something, or if it was killed."""
        return self.folder / "pruning"

    def _finish_prune(self) -> None:
        """Remove what a killed prune was removing; the caller keeps others waiting."""
        own = (self.folder / "wheels", self.folder / "sources")
        for folder in (*own, *self.all_builds):
            with suppress(OSError):
                for name in os.listdir(folder):  # noqa: PTH208 - there are many
                    if name.startswith(REMOVED_PREFIX):
                        files.remove_tree(folder / name)
        self.prune_mark.unlink(missing_ok=True)

    @contextmanager
    def use(self, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep ``build-stages-prune`` from removing anything while the block runs.

        If the lock can't be created, as in a read-only store, pruning can't remove
        anything either.
        """
        with ExitStack() as stack:
            with suppress(OSError, ImportError):  # Windows lacks the kernel's lock
                stack.enter_context(hold_shared_lock(self.users_lock, on_wait=on_wait))
                if self.prune_mark.exists():
                    self._finish_prune()
                if not self.tag.exists():
                    self.tag.write_text(_TAG, encoding="ascii")
            yield

    def builds(self, *, may_move: bool) -> Path:
        """Return the folder of all build directories.

        Build tools search upwards for a project, a repository or settings. If no
        sandbox shows a build directory elsewhere, it must not lie in a user's files.
        """
        named, own = self._named_builds, self.folder / "builds"
        if may_move:
            return named or own
        if named is None:
            is_own = is_neutral(own, self.home)
            named = own if is_own else neutral_folder(self.folder)
        return named.resolve()  # compilers see paths without links

    @property
    def all_builds(self) -> tuple[Path, ...]:
        """All folders that may contain build directories of this store."""
        own = self.folder / "builds"
        found = (own, self._named_builds, *temporary_folders(self.folder))
        return tuple(it for it in found if it is not None)

    @property
    def _named_builds(self) -> Path | None:
        """The folder of the store's builds in the folder named by the user."""
        folder = self.build_folder
        return None if folder is None else folder / path_id(self.folder)

    def build_dir(self, key: str, *, may_move: bool = True) -> BuildDirectory:
        """Return the folder in which a key's wheel is built."""
        return BuildDirectory(self.builds(may_move=may_move) / key)

    @contextmanager
    def open_build_dir(self, build_dir: BuildDirectory) -> Iterator[BuildDirectory]:
        """Yield the folder in which a key's wheel is built, and remove the folder.

        If the block fails, the folder stays, and the next build can resume. The caller
        holds the key's lock.

        Raises:
            BuildStagesError: The folder belongs to another user.
        """
        self._await_processes(build_dir)
        make_private(build_dir.folder.parent)
        files.clear_place(build_dir.folder, is_folder=True)
        build_dir.folder.mkdir(exist_ok=True)
        # A wheel that nobody can put into the store would be built in vain.
        wheels = self.folder / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        with files.temporary_folder(_NEW, wheels):
            pass
        yield build_dir
        build_dir.clear()

    def remove_partial_build(self, key: str, kept: str) -> None:
        """Remove the rest of an interrupted rebuild of a stored wheel.

        The wheel's key, `kept`, may lack the compilers that the build's key has. The
        tree of a failed build is kept, and that of a running one is in use.
        """
        for prefix in (_NEW, ""):  # it may have been killed while storing the wheel
            files.remove_orphans(self.wheel_folder(kept), prefix)
        for builds in filter(None, (self.folder / "builds", self._named_builds)):
            build_dir = BuildDirectory(builds / key)
            if build_dir.folder.exists() and not build_dir.failure.exists():
                lock = try_lock(self.key_lock(key))
                if lock is not None:
                    self._await_processes(build_dir)
                    build_dir.clear()
                    lock.release()

    def _await_processes(self, build_dir: BuildDirectory) -> None:
        """Wait until no process of an earlier build runs in a folder.

        A supervisor may still be ending them; if it was killed, nobody does.
        """
        key = build_dir.folder.name
        path = self.processes_lock(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            if build_dir.folder.exists():
                from nox_buildstages.system.orphans import end_orphans  # noqa: PLC0415 - few resume

                end_orphans(key)
            lock = try_lock(path)
            if lock is not None:
                lock.release()
                return
            check_interrupt()
            time.sleep(PAUSE)

    def processes_lock(self, key: str) -> Path:
        """Return the lock held while processes of a key's build run."""
        return self.folder / "locks" / f"{key}-runs.lock"


def _move_folder(folder: Path, target: Path) -> None:
    """Move a folder to a place; if the place has the same wheel, replace its files."""
    if target.is_dir():
        for path in folder.iterdir():
            place = target / path.name
            if place.is_dir():  # something else is there
                files.remove_tree(place)
            path.replace(place)
    else:
        folder.replace(target)


def make_salt() -> str:
    """Return a new salt for digests of secret values."""
    return os.urandom(32).hex()


def is_salt(text: str) -> bool:
    """Whether a text is a salt."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def note_use(path: Path) -> None:
    """Note the use of a path in the store as the modification time, once a day."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY:
            os.utime(path)


def load_record(record: bytes, folder: Path) -> StoredWheel | None:
    """Return the wheel described by a record file; None if malformed."""
    try:
        return reader.parse_json(record, lambda it: StoredWheel.from_dict(it, folder))
    except reader.UnreadableError:
        return None
