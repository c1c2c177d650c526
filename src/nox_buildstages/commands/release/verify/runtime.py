"""The libraries that a wheel finds when it is loaded in the runtime environment."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nox_buildstages.commands.release.verify.libraries import (
    DRIVER,
    NOWHERE,
    SYSTEM,
    is_of_driver,
)
from nox_buildstages.commands.release.verify.symbols import OtherTorch
from nox_buildstages.environments.packages import list_files
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.system.files import open_file
from nox_buildstages.system.process import Command, helper_variables, run_checked
from nox_buildstages.value import Record, field
from nox_buildstages.wheels.binary import read_binary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.builder.context import Tools
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.wheels.binary import Binary, Library

_LISTED = re.compile(r"\s*(\S+) \([^)]*64[^)]*\) => (/.+)")
"""A library of 64 bits in ldconfig's list."""

_VERSIONED = re.compile(
    r"(ld-linux.*|lib(c|dl|gcc_s|m|pthread|rt|stdc\+\+|util))\.so\.\d"
)
"""The system's libraries in which every symbol has a version."""


class Runtime(Record):
    """The libraries of an environment, of its interpreter and of the machine."""

    owners: Mapping[str, str]  # the project of each library in the environment
    paths: Mapping[str, Path]  # of all libraries, by name
    python: Path
    binaries: dict[Path, Binary] = field(default_factory=dict)  # that were read

    @classmethod
    def of(cls, environment: Environment, tools: Tools) -> Runtime:
        """Return the libraries of an environment.

        Raises:
            CommandError: ldconfig doesn't list the machine's libraries.
        """
        outer = tools.run.outer
        path = f"{outer.get('PATH', '')}:/sbin:/usr/sbin"
        command = Command(
            argv=("ldconfig", "-p"),
            env={**helper_variables(outer), "PATH": path, "LC_ALL": "C"},
        )
        paths: dict[str, Path] = {}
        owners: dict[str, str] = {}
        for line in run_checked(tools.runner, command).splitlines():
            if match := _LISTED.fullmatch(line):
                paths.setdefault(match[1], Path(match[2]))
        python = environment.python.resolve()
        libraries = python.parent.parent.joinpath("lib").glob("libpython*.so*")
        paths |= {it.name: it for it in libraries}
        for project, files in list_files(environment).items():
            for file in files:
                name = PurePosixPath(file).name
                if ".so" in name:
                    owners[name], paths[name] = project, environment.location / file
        return cls(owners=owners, paths=paths, python=python)

    def find_place(self, library: str) -> str:
        """Return the place of a library: a project, or another place."""
        if library in self.owners:
            return self.owners[library]
        if is_of_driver(library):
            return DRIVER
        is_there = library in self.paths or _VERSIONED.match(library)
        return SYSTEM if is_there else NOWHERE

    def find(self, library: str) -> Library | None:
        """Return a library; None if there is none, or if all its symbols have versions.

        Raises:
            BuildStagesError: It can't be read.
        """
        path = self.paths.get(library)
        is_versioned = library not in self.owners and _VERSIONED.match(library)
        return None if path is None or is_versioned else self.read(path)

    def find_beside(
        self, libraries: Mapping[str, Library], name: str
    ) -> Library | None:
        """Return a library if some libraries take the place of the runtime's torch.

        Raises:
            BuildStagesError: It can't be read.
        """
        if name in libraries or self.owners.get(name) == "torch":
            return libraries.get(name)
        return self.find(name)

    def own_torch(self, version: str) -> OtherTorch:
        """Return the torch of the environment.

        Raises:
            BuildStagesError: It can't be read.
        """
        names = [it for it, owner in self.owners.items() if owner == "torch"]
        return OtherTorch(
            version=version, libraries={it: self.read(self.paths[it]) for it in names}
        )

    def read(self, path: Path) -> Binary:
        """Return the facts of a file, which is read once.

        Raises:
            BuildStagesError: It can't be read.
        """
        if path not in self.binaries:
            try:
                with open_file(path) as stream:
                    self.binaries[path] = read_binary(path.name, stream)
            except (OSError, ValueError) as error:
                problem = str(error)
                raise BuildStagesError(subject=str(path), problem=problem) from error
        return self.binaries[path]

    def interpreter_symbols(self) -> frozenset[str]:
        """Return what the interpreter defines, perhaps in a library of its own.

        Raises:
            BuildStagesError: It can't be read.
        """
        binary = self.read(self.python)
        own = (it for it in binary.needed if it.startswith("libpython"))
        libraries = filter(None, map(self.find, own))
        return binary.defined.union(*(it.defined for it in libraries))
