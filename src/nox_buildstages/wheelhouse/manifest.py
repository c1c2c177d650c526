"""The manifest of a wheelhouse lists each wheel with origin, hash and log."""

from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.utils import is_normalized_name

from nox_buildstages import reader
from nox_buildstages.errors import refuse_newer_format
from nox_buildstages.model import LOGS, log_name
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = "build-stages.json"
FORMAT = 1

SOURCES = "from"
"""The field of a merged wheel that names the wheelhouses with that wheel."""

_MERGED = "merged"
_RUN = "run"
_TEXTS = frozenset(
    ("name", "version", "file", "stage", "key", "sha256", "status", "source", "log")
)

Entry: TypeAlias = "Mapping[str, Any]"
"""The JSON object of one wheel."""


class Manifest(Value):
    """The contents of a manifest.

    ``merged`` has the sha256 of each other file that a merge added, by name; it is None
    if nothing was merged. Invalid entries name no wheel and log in the same folder.
    ``run`` describes the last run of nox that did something for the wheelhouse.
    """

    wheels: tuple[Entry, ...] = ()
    merged: Mapping[str, str] | None = None
    run: Mapping[str, Any] | None = None
    invalid: tuple[Any, ...] = ()

    @property
    def own(self) -> tuple[Entry, ...]:
        """The wheels of builds, without wheels of a merge."""
        return tuple(entry for entry in self.wheels if SOURCES not in entry)

    def files(self) -> Iterator[str]:
        """Yield the names of the wheels and logs."""
        for entry in self.wheels:
            yield from (entry["file"], entry["log"])


def parse_manifest(text: str | bytes, *, path: str = MANIFEST) -> Manifest:
    """Parse a manifest.

    Raises:
        BuildStagesError: A newer version wrote the manifest.
        UnreadableError: The text isn't a manifest, or has an older format.
    """

    def read(document: reader.Table) -> Manifest:
        found = document.get("format", reader.integer, FORMAT)
        refuse_newer_format(path, found, FORMAT)
        if found != FORMAT:
            raise reader.UnreadableError(f"its format is {found}, not {FORMAT}")
        valid: list[Any] = []
        invalid: list[Any] = []
        for entry in document.get("wheels", reader.list_of(reader.plain)):
            (valid if _is_valid(entry) else invalid).append(entry)
        merged = document.get(_MERGED, reader.mapping_of(reader.text), None)
        if merged is not None:
            merged = {it: merged[it] for it in merged if _is_file_name(it)}
        return Manifest(
            wheels=tuple(valid),
            merged=merged,
            run=document.get(_RUN, reader.mapping_of(reader.plain), None),
            invalid=tuple(invalid),
        )

    return reader.parse_json(text, reader.table(read))


def format_manifest(manifest: Manifest) -> str:
    """Return the text of a manifest's file, with sorted wheels."""
    wheels = sorted(manifest.wheels, key=lambda entry: (entry["name"], entry["file"]))
    document: dict[str, Any] = {"format": FORMAT, "wheels": wheels}
    if manifest.merged is not None:
        document[_MERGED] = dict(sorted(manifest.merged.items()))
    if manifest.run is not None:
        document[_RUN] = manifest.run
    return json.dumps(document, indent=2) + "\n"


def log_of_project(name: str) -> str:
    """Return the path of an output's log, relative to the wheelhouse."""
    return f"{LOGS}/{log_name(name)}"


def log_of_wheel(file: str) -> str:
    """Return the path of a merged wheel's log: a project may have several wheels."""
    return f"{LOGS}/{file.removesuffix('.whl')}.log"


def _is_valid(entry: Any) -> bool:  # noqa: ANN401 - any JSON value
    try:
        table = reader.Table(entry)
        for field in _TEXTS:
            table.get(field, reader.text)
        table.get("size", reader.count)
        table.get("seconds", reader.seconds)
        table.get("environment", reader.mapping_of(reader.text))
    except reader.UnreadableError:
        return False
    name, file = entry["name"], entry["file"]
    is_wheel = file.endswith(".whl") and _is_file_name(file)
    logs = (log_of_project(name), log_of_wheel(file))
    return is_wheel and is_normalized_name(name) and entry["log"] in logs


def _is_file_name(text: str) -> bool:
    """Return whether a text is a file name, without folders, on any system."""
    is_name = PurePosixPath(text).name == PureWindowsPath(text).name == text
    return is_name and text not in {"", ".."}
