"""Fetch other torches, and keep what their libraries offer in the store."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.commands.release.verify.symbols import OtherTorch
from nox_buildstages.environments.targets import Target
from nox_buildstages.lock.files.pylock import select_index_packages
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
from nox_buildstages.model import FINAL, ArchiveSource
from nox_buildstages.store.store import note_use
from nox_buildstages.system.documents import find_json
from nox_buildstages.system.files import temporary_folder, write_text
from nox_buildstages.value import replace
from nox_buildstages.wheels.binary import Library, read_binaries

if TYPE_CHECKING:
    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment

_FOLDER = "torch/lib/"
_NOTE = "libraries.json"
_FULL = 3
"""The number of parts of a whole version, such as 2.12.1."""


def specifier_of(version: str) -> SpecifierSet:
    """Return what a version on the command line means: 2.12 is any 2.12.x."""
    parsed = Version(version)
    is_whole = len(parsed.release) >= _FULL or parsed.is_prerelease or parsed.local
    return SpecifierSet(f"=={version}" if is_whole else f"=={version}.*")


def fetch_torch(
    context: BuildContext, environment: Environment, version: str
) -> OtherTorch:
    """Return the libraries of another torch, from the store or from the index.

    The wheel is fetched without dependencies, and the store keeps only the names of
    symbols, which are small.

    Raises:
        BuildStagesError: The index lacks the torch, or the wheel can't be fetched or
            read.
    """
    tools, interpreter = context.tools, context.interpreter
    resolver = Resolver(
        uv=tools.syncer.uv,
        python=environment.python,
        target=Target(interpreter=interpreter, python=environment.python),
        runner=tools.runner,
        indexes=replace(tools.syncer.indexes, settings=context.project.uv),
        exclude_newer=context.project.exclude_newer,
    )
    answer = resolver.resolve(
        Question(
            name=FINAL,
            requirements=(f"torch{specifier_of(version)}",),
            is_alone=True,
        )
    )
    ((package, file),) = select_index_packages(answer, interpreter)
    location = file.url or file.path or ""
    source = ArchiveSource(location=location, sha256=file.hashes["sha256"])
    folder = tools.sources.cache / "sources" / source.sha256
    names = reader.list_of(reader.text)
    note, shape = folder / _NOTE, reader.mapping_of(reader.mapping_of(names))
    listed = find_json(note, shape)
    if listed is None:
        name = PurePosixPath(unquote(urlsplit(location).path)).name
        tools.run.report(f"fetching {name}")
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder("fetching-", folder) as scratch:
            tools.sources.fetch_archive(source, scratch / name)
            listed = {
                PurePosixPath(it.name).name: {
                    "needed": it.needed,
                    "defined": tuple(sorted(it.defined)),
                }
                for it in read_binaries(scratch / name, _FOLDER)
            }
        write_text(note, json.dumps(listed))
    note_use(folder)
    return OtherTorch(
        version=str(package.version),
        libraries={
            name: Library(
                needed=it.get("needed", ()), defined=frozenset(it.get("defined", ()))
            )
            for name, it in listed.items()
        },
    )
