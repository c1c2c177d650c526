"""The manifest of a wheelhouse lists each wheel with origin, hash and log."""

from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.utils import is_normalized_name

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
_FIELDS = _TEXTS | {"size", "seconds", "environment"}

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
        ValueError: The text isn't a manifest, or has an older format.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("wheels"), list):
        raise ValueError("it lists no wheels")  # noqa: TRY004 - the type of a file
    refuse_newer_format(path, document.get("format"), FORMAT)
    if document.get("format", FORMAT) != FORMAT:
        raise ValueError(f"its format is {document['format']}, not {FORMAT}")
    merged, run = document.get(_MERGED), document.get(_RUN)
    valid: list[Any] = []
    invalid: list[Any] = []
    for entry in document["wheels"]:
        (valid if _is_valid(entry) else invalid).append(entry)
    return Manifest(
        wheels=tuple(valid),
        merged={name: str(merged[name]) for name in merged if _is_file_name(name)}
        if isinstance(merged, dict)
        else None,
        run=run if isinstance(run, dict) else None,
        invalid=tuple(invalid),
    )


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
    if not isinstance(entry, dict) or not entry.keys() >= _FIELDS:
        return False
    texts = all(isinstance(entry[field], str) for field in _TEXTS)
    if not (texts and isinstance(entry["environment"], dict)):
        return False
    name, file = entry["name"], entry["file"]
    is_wheel = file.endswith(".whl") and _is_file_name(file)
    logs = (log_of_project(name), log_of_wheel(file))
    return is_wheel and is_normalized_name(name) and entry["log"] in logs


def _is_file_name(text: str) -> bool:
    """Return whether a text is a file name, without folders, on any system."""
    is_name = PurePosixPath(text).name == PureWindowsPath(text).name == text
    return is_name and text not in {"", ".."}
