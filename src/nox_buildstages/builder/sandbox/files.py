"""The files that a build may read and write, as rules for the sandbox."""

from __future__ import annotations

import os
import pwd
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_SYSTEM = (
    *("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/usr/local"),
    *("/etc", "/opt", "/nix", "/gnu", "/snap", "/proc", "/sys"),
    *("/var/cache/fontconfig", "/var/lib/dpkg", "/var/lib/rpm", "/var/lib/texmf"),
    "/run/systemd/resolve",  # to which /etc/resolv.conf may lead
)
"""Folders for all users of a system."""

_PACKAGED = {Path("/usr/bin"), Path("/usr/sbin")}
"""Folders of a distribution's programs, whose links lead to its others."""

_DEVICES = (
    *("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"),
    *("/dev/ptmx", "/dev/pts", "/dev/tty"),
    *("/dev/dri", "/dev/kfd"),  # GPUs, and those of NVIDIA
)
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - for semaphores of multiprocessing

_PERSONAL = (
    *("/boot", "/dev", "/home", "/lost+found", "/media", "/mnt", "/root", "/run"),
    *("/srv", "/tmp", "/var", "/var/tmp"),  # noqa: S108 - not opened
)
"""Folders in which nothing may be read, unless something in them is named."""

_SOFTWARE = re.compile(
    r"bin|sbin|include|lib(32|64|exec)?|share|pyvenv\.cfg|nvvm|targets|\w+-linux-\w+"
)
"""Names of files of installed programs, beside their ``bin``."""

_MARKS = {"Cellar", "conda-meta", "nvvm", "pyvenv.cfg"}
"""Names of subfolders only in folders for installed programs."""

_SPACK = ("opt", "spack")
"""The end of the path of a folder whose programs need each other's libraries."""

_PATH = re.compile(r"(?:^|[\s:;,=\"']|-[A-Za-z]+)(/[^\s:;,=\"']+)")
"""An absolute path in the value of a variable, such as ``-I/opt/x/include``."""

_CACHE = re.compile(r"\w*CACHE\w*|CARGO_HOME|CARGO_TARGET_DIR")
"""The name of a variable with a folder for files that a build leaves to others."""


class BuildFiles(Value):
    """The files of one build."""

    home: Path
    writable: tuple[Path, ...]
    readable: tuple[Path, ...] = ()  # in addition to what every build may read
    wrappers: Path | None = None  # the folder for wrappers of compilers
    started: Path | None = None  # the file in which they note which were started


class FileAccess(Value):
    """The files that every build may read on a machine."""

    system: frozenset[Path]  # none with a hidden path below
    hidden: frozenset[Path]
    holders: frozenset[Path]  # all folders that a hidden path is below

    def rules(
        self,
        variables: Mapping[str, str],
        *,
        read: Iterable[Path],
        write: Iterable[Path],
    ) -> tuple[str, ...]:
        """Return the rules for a build: a letter and a path for each.

        The build may also read what its variables name, such as compilers on ``PATH``,
        and write to caches, but not to folders with hidden ones.
        """
        named: set[Path] = set()
        caches: set[Path] = set()
        for name, value in variables.items():
            if _CACHE.fullmatch(name) and value.startswith("/"):
                caches.add(_resolve(value))
            texts = {*value.split(os.pathsep), *_PATH.findall(value)}
            paths = {_resolve(it) for it in texts if it.startswith("/")}
            named |= paths
            if name == "PATH":
                named |= {it for path in paths for it in self._find_software(path)}
        reads = {*self.system, *filter(self._is_free, named), *map(_resolve, read)}
        devices = (*_DEVICES, *Path("/dev").glob("nvidia*"))
        writes = {_SHARED_MEMORY, *filter(self._is_free, caches)}
        writes |= {*map(_resolve, write)}
        return (
            *(f"r{it}" for it in sorted(reads)),
            *(f"d{it}" for it in devices),
            *(f"w{it}" for it in sorted(writes)),
        )

    def _find_software(self, folder: Path) -> Iterator[Path]:
        """Yield the needs of the programs in a folder on ``PATH``.

        Programs that are links lead to others.
        """
        folders = {folder}
        if folder not in _PACKAGED:
            with suppress(OSError):
                links = filter(Path.is_symlink, folder.iterdir())
                folders |= {_resolve(it).parent for it in links}
        for each in folders:
            yield each
            yield from (it for it in each.parents if it.parts[-2:] == _SPACK)
            if each.name not in ("bin", "sbin"):
                continue
            if not self._is_hidden(each):
                around = filter(self._is_free, (Path(*each.parts[:2]), each.parent))
                if whole := next(around, None):
                    yield whole
                    continue
            with suppress(OSError):
                inside = {it.name: it for it in each.parent.iterdir()}
                if inside.keys() & _MARKS:
                    yield each.parent
                if each.parent.name == ".local":  # with logins
                    inside.pop("share", None)
                yield from (inside[it] for it in inside if _SOFTWARE.fullmatch(it))

    def _is_hidden(self, path: Path) -> bool:
        return not self.hidden.isdisjoint((path, *path.parents))

    def _is_free(self, path: Path) -> bool:
        """Whether a path may be named: neither hidden, nor above a hidden path."""
        return path not in self.hidden and path not in self.holders


def _split(
    allowed: Iterable[Path], hidden: Collection[Path], holders: Collection[Path]
) -> Iterator[Path]:
    """Yield allowed paths, or what is in them but for hidden paths."""
    for path in allowed:
        if path not in holders:
            yield path
            continue
        with suppress(OSError):
            inside = (it for it in path.iterdir() if not it.is_symlink())
            yield from _split(
                (it for it in inside if it not in hidden), hidden, holders
            )


def find_access(outer: Mapping[str, str], private: Iterable[Path]) -> FileAccess:
    """Return the readable files of builds on this machine.

    ``private`` has the folders of the project and the store. Homes, folders for
    temporary files and everything beside the project and the store are hidden, too.
    """
    user, own = os.getuid(), {*map(_resolve, private)}
    own |= {_resolve(it) for it in map(outer.get, ("HOME", "TMPDIR")) if it}
    with suppress(KeyError):  # a user without an entry, as in some containers
        own.add(_resolve(pwd.getpwuid(user).pw_dir))
    system = {*map(_resolve, _SYSTEM)}
    own |= {it.parent for it in own} - system
    secrets = _find_secrets(Path("/etc")) if user == 0 else ()
    hidden = frozenset({*map(Path, _PERSONAL), *own, *secrets} - {Path("/")})
    holders = frozenset(parent for it in hidden for parent in it.parents)
    return FileAccess(
        system=frozenset(_split(filter(Path.exists, system), hidden, holders)),
        hidden=hidden,
        holders=holders,
    )


def find_package_links(environment: Path) -> Iterator[Path]:
    """Yield the folders of packages in uv's cache to which an environment has links."""
    for path in environment.glob("lib/python*/site-packages/*.dist-info/METADATA"):
        if path.is_symlink():
            yield path.resolve().parents[1]


def _find_secrets(folder: Path) -> Iterator[Path]:
    """Yield files for root alone: without the rights of root, they belong to root."""
    with suppress(OSError):
        for path in folder.iterdir():
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) and mode & stat.S_IXOTH:
                yield from _find_secrets(path)
            elif not (stat.S_ISLNK(mode) or mode & stat.S_IROTH):
                yield path


def _resolve(path: str | Path) -> Path:
    return Path(os.path.realpath(path))
