"""Lock files as TOML: PEP 751 with a table ``[tool.nox-buildstages]``.

If nothing has changed, a run needs none of this; see `selection`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import tomli_w
from packaging.pylock import (
    PackageArchive,
    PackageWheel,
    PylockSelectError,
)

from nox_buildstages import reader
from nox_buildstages.declarations.upload_times import ALL, SOME
from nox_buildstages.errors import InvalidLockError, refuse_newer_format
from nox_buildstages.lock.files.lockfile import (
    FORMAT,
    IndexPin,
    Lock,
    Pin,
    StagePin,
    read_outputs,
    write_output,
)
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.lock.files.pylock import (
    TOOL,
    providing_stage,
    read_pylock,
    select_packages,
    to_document,
)
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nox_buildstages.model import Interpreter

_SERIES = re.compile(r'^series = "(.*)"$', re.MULTILINE)
"""The line of a lock file with the series."""

_DATES: Mapping[str, reader.Shape[Any]] = {
    ALL: reader.text,
    SOME: reader.mapping_of(reader.text),
}

_HEADER = "# Made by nox-buildstages; `nox -s build-stages-lock` updates it.\n\n"


def dump_lock(lock: Lock) -> str:
    """Return the text of a lock file; equal locks have equal texts."""
    table: dict[str, Any] = {
        "format": FORMAT,
        "inputs": lock.inputs,
        "series": lock.series,
        **lock.dates,
    }
    if lock.declared:
        table["declared"] = {**lock.declared}
    if lock.outputs:
        table["outputs"] = [*map(write_output, lock.outputs)]
    return _HEADER + tomli_w.dumps({**to_document(lock.pylock), "tool": {TOOL: table}})


def load_lock(text: str, *, name: str) -> Lock:
    """Read a lock file.

    Raises:
        InvalidLockError: The text is not TOML, not PEP 751, or lacks our table.
        BuildStagesError: A newer version wrote the file.
    """

    def read(table: reader.Table) -> Lock:
        found = table.get("format", reader.integer)
        refuse_newer_format(file_name(name), found, FORMAT)
        if found != FORMAT:
            problem = f"has format {found}, and this version reads {FORMAT}"
            raise InvalidLockError(subject=file_name(name), problem=problem)
        return Lock(
            name=name,
            inputs=table.get("inputs", reader.text),
            series=table.get("series", reader.text),
            dates={
                it: table.get(it, shape)
                for it, shape in _DATES.items()
                if it in table.content
            },
            declared=table.get("declared", reader.mapping_of(reader.text), {}),
            pylock=read_pylock(document),
            outputs=read_outputs(table),
        )

    try:
        document = reader.parse_toml(text)
        tools = reader.table(lambda it: it.get(TOOL, reader.table(read)))
        return reader.Table(document).get("tool", tools)
    except reader.UnreadableError as error:
        problem = f"can't be read: {error}"
        raise InvalidLockError(subject=file_name(name), problem=problem) from error


def with_series(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """Return locks with a common series, to be written together.

    The series is a digest of all locks: files with different series are from different
    runs.
    """
    without = [replace(lock, series="") for lock in locks]
    series = _series_of(map(dump_lock, without))
    return tuple(replace(lock, series=series) for lock in without)


def is_series_of(texts: Sequence[str]) -> bool:
    """Whether lock files have the series that ``with_series`` gave them, in order."""
    found = {match[1]: None for text in texts if (match := _SERIES.search(text))}
    without = (_SERIES.sub('series = ""', text, count=1) for text in texts)
    return [*found] == [_series_of(without)]


def _series_of(texts: Iterable[str]) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def list_pins(lock: Lock, interpreter: Interpreter) -> tuple[Pin, ...]:
    """Return the wheels of a lock for an interpreter, sorted by name.

    Raises:
        InvalidLockError: The lock is not for the interpreter.
    """
    subject = file_name(lock.name)
    try:
        selected = [*select_packages(lock.pylock, interpreter)]
    except PylockSelectError as error:
        raise InvalidLockError(subject=subject, problem=str(error)) from error
    pins: list[Pin] = []
    for package, file in selected:
        name, version = package.name, package.version
        stage = providing_stage(package)
        if version is not None and stage is not None:
            pins.append(StagePin(name=name, version=version, stage=stage))
            continue
        if version is None or not isinstance(file, (PackageWheel, PackageArchive)):
            problem = f"{name} is neither a wheel nor provided by a stage"
            raise InvalidLockError(subject=subject, problem=problem)
        if "sha256" not in file.hashes:
            raise InvalidLockError(subject=subject, problem=f"{name} has no sha256")
        sha256 = file.hashes["sha256"]
        pins.append(IndexPin(name=name, version=version, sha256=sha256))
    return tuple(sorted(pins, key=lambda pin: pin.name))
