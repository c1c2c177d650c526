"""Find out which libraries of other wheels the loader finds for the files of a wheel.

Another wheel may have a file of the name, and the loader find the system's file, which
is on no other machine. So the wheel's own way counts: the RPATH, or a module by which
the library was loaded before. Modules are imported while the system's files are hidden,
if the system allows hiding.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nox_buildstages.builder.sandbox.sandbox import hide_files
from nox_buildstages.environments.loaded_files import load_command
from nox_buildstages.environments.packages import list_files, site_packages
from nox_buildstages.system.files import read_text
from nox_buildstages.system.process import Command
from nox_buildstages.value import Value
from nox_buildstages.wheels.links import read_linking

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.system.process import Runner

LIBRARY = re.compile(r"lib.+\.so(\.\d.*)?")
"""The file name of a library."""

_OF_PYTHON = (
    *("bz2", "ctypes", "curses", "dbm.gnu", "hashlib", "lzma", "readline", "sqlite3"),
    *("ssl", "tkinter", "uuid", "zlib"),
)
"""Modules of Python that load libraries of the system."""


class Loader(Value):
    """Loads files of an environment in processes of their own."""

    environment: Environment
    runner: Runner
    variables: Mapping[str, str]
    result: Path  # a file to write to
    can_hide: bool  # whether the system allows to hide files

    def load(
        self, modules: Iterable[str], *, file: str = "", hidden: Iterable[Path] = ()
    ) -> frozenset[Path]:
        """Return the files that are loaded when modules are imported, or a file is.

        There are none if the process crashes.
        """
        argv = load_command(
            str(self.environment.python), self.result, file, tuple(modules)
        )
        self.result.unlink(missing_ok=True)
        command = Command(argv=argv, cwd=self.result.parent, env=self.variables)
        self.runner(hide_files(command, hidden))
        if not self.result.exists():
            return frozenset()
        return frozenset(map(Path, read_text(self.result).splitlines()))

    @cached_property
    def of_python(self) -> frozenset[Path]:
        """The files that Python itself needs, which can't be hidden."""
        return self.load(_OF_PYTHON)

    def find_copies(
        self, loaded: Iterable[Path], names: Collection[str]
    ) -> dict[Path, str]:
        """Return the loaded files outside of the environment that have a name."""
        location = self.environment.location.resolve()
        found = {}
        for path in loaded:
            if location not in path.parents:
                linking = read_linking(path)
                own = {path.name, linking.soname if linking else ""}
                for name in own.intersection(names):
                    found[path] = name
        return found


class _File(Value):
    """A file of a wheel that needs libraries."""

    path: Path  # without links
    needed: frozenset[str]
    folders: tuple[str, ...]  # in which the loader looks first
    module: str  # its name as a module, if it is one


def find_external(loader: Loader, name: str, imports: Iterable[str]) -> frozenset[str]:
    """Return the libraries of other wheels to which a wheel's own way leads.

    If this machine has no library of a name, the runtime's ``imports`` are a way, too:
    who uses the wheel has to import the same before.
    """
    location = loader.environment.location
    listed = list_files(loader.environment)
    others: dict[str, list[Path]] = {}
    for owner in listed.keys() - {name}:
        for path in listed[owner]:
            others.setdefault(PurePosixPath(path).name, []).append(location / path)
    tops, files = _read_files(loader.environment, listed[name])
    verdicts: dict[str, bool] = {}
    for file in files:
        wanted = {}
        for library in file.needed & others.keys():
            places = frozenset(Path(os.path.realpath(it)) for it in others[library])
            found = (Path(folder, library) for folder in file.folders)
            first = next(filter(Path.exists, found), None)
            if first is None:
                wanted[library] = places
            else:
                is_other = Path(os.path.realpath(first)) in places
                verdicts[library] = verdicts.get(library, True) and is_other
        own_way, copied = _follow(loader, file, (file.module, *tops), wanted)
        left = {it: wanted[it] for it in wanted.keys() - own_way - copied}
        other_way, _ = _follow(loader, file, imports, left)
        for library in wanted:
            is_other = library in own_way | other_way
            verdicts[library] = verdicts.get(library, True) and is_other
    return frozenset(it for it in verdicts if verdicts[it])


def _follow(
    loader: Loader,
    file: _File,
    modules: Iterable[str],
    wanted: Mapping[str, Collection[Path]],
) -> tuple[set[str], set[str]]:
    """Return the libraries that are loaded from some places when modules are imported.

    Also return those of which this machine has copies. The copies are hidden, and the
    modules imported again, until the loader finds no other ones.
    """
    if not wanted:
        return set(), set()
    names = [*modules]
    hidden: dict[Path, str] = {}
    while True:
        loaded = loader.load(names, file=str(file.path), hidden=hidden)
        copies = loader.find_copies(loaded, wanted)
        new = {it: copies[it] for it in copies if it not in hidden}
        hidden |= new
        if not new or not loader.can_hide or not loader.of_python.isdisjoint(new):
            break
    found = {it for it in wanted if not loaded.isdisjoint(wanted[it])}
    return found - {*copies.values()}, {*hidden.values()}


def _read_files(
    environment: Environment, paths: Iterable[str]
) -> tuple[list[str], list[_File]]:
    """Return the modules at the top of a wheel, and the files that need libraries."""
    folders = [*site_packages(environment)]
    tops: dict[str, bool] = {}
    files = []
    for text in sorted(paths):
        path = environment.location / text
        folder = next((it for it in folders if it in path.parents), None)
        module = ""
        if folder is not None and "-" not in path.relative_to(folder).parts[0]:
            *parents, last = path.relative_to(folder).parts
            module = ".".join((*parents, last.partition(".")[0]))
            top = module.partition(".")[0]
            tops[top] = tops.get(top, False) or bool(parents)
        linking = read_linking(path) if path.is_file() else None
        if linking is not None and linking.needed:
            files.append(
                _File(
                    path=Path(os.path.realpath(path)),
                    needed=frozenset(linking.needed),
                    folders=linking.folders,
                    module=module,
                )
            )
    # A package may import what a module beside it needs.
    return sorted(tops, key=lambda it: (not tops[it], it)), files
