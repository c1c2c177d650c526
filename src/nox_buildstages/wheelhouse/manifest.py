"""The manifest of a wheelhouse: what is known of each wheel in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.utils import is_normalized_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = "build-stages.json"
LOGS = "logs"
FORMAT = 1

SOURCES = "from"
"""The field of a wheel that a merge brought: the wheelhouses that have it."""

_MERGED = "merged"
_TEXTS = frozenset(
    ("name", "version", "file", "stage", "key", "sha256", "status", "source", "log")
)
_FIELDS = _TEXTS | {"size", "seconds", "environment"}

Entry: TypeAlias = "Mapping[str, Any]"
"""Of a wheel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a wheelhouse says of itself.

    Attributes:
        wheels: What is known of each wheel.
        merged: The sha256 of each other file that a merge brought, by name; None where
            nothing was merged.
        strange: Entries that don't name a wheel and a log of here.
    """

    wheels: tuple[Entry, ...] = ()
    merged: Mapping[str, str] | None = None
    strange: tuple[Any, ...] = ()

    @property
    def own(self) -> tuple[Entry, ...]:
        """The wheels that were delivered by a build, not by a merge."""
        return tuple(entry for entry in self.wheels if SOURCES not in entry)

    def files(self) -> Iterator[str]:
        """Yield the wheels and logs."""
        for entry in self.wheels:
            yield from (entry["file"], entry["log"])


def loads(text: str | bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: It isn't one, or of another format.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("wheels"), list):
        raise ValueError("it lists no wheels")  # noqa: TRY004 - of a file
    if document.get("format", FORMAT) != FORMAT:
        raise ValueError(f"it is of format {document['format']}, this reads {FORMAT}")
    merged = document.get(_MERGED)
    wheels = document["wheels"]
    return Manifest(
        wheels=tuple(entry for entry in wheels if _is_ours(entry)),
        merged=_files(merged) if isinstance(merged, dict) else None,
        strange=tuple(entry for entry in wheels if not _is_ours(entry)),
    )


def dumps(manifest: Manifest) -> str:
    """Return a manifest as the text of its file, its wheels sorted."""
    wheels = sorted(manifest.wheels, key=lambda entry: (entry["name"], entry["file"]))
    document: dict[str, Any] = {"format": FORMAT, "wheels": wheels}
    if manifest.merged is not None:
        document[_MERGED] = dict(sorted(manifest.merged.items()))
    return json.dumps(document, indent=2) + "\n"


def log_of_project(name: str) -> str:
    """Return where the log of an output is."""
    return f"{LOGS}/{name}.log"


def log_of_wheel(file: str) -> str:
    """Return where the log of a wheel is that a merge brought.

    Others may be of the same project.
    """
    return f"{LOGS}/{file.removesuffix('.whl')}.log"


def _is_ours(entry: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    """Whether an entry of a manifest names files that can be those of a delivery."""
    if not isinstance(entry, dict) or not entry.keys() >= _FIELDS:
        return False
    texts = all(isinstance(entry[field], str) for field in _TEXTS)
    if not (texts and isinstance(entry["environment"], dict)):
        return False
    name, file = entry["name"], entry["file"]
    is_wheel = file.endswith(".whl") and _is_name(file) and is_normalized_name(name)
    return is_wheel and entry["log"] in (log_of_project(name), log_of_wheel(file))


def _files(merged: dict[str, Any]) -> dict[str, str]:
    return {name: str(merged[name]) for name in merged if _is_name(name)}


def _is_name(text: str) -> bool:
    """Whether something is the name of a file in a folder, on any system."""
    is_one = PurePosixPath(text).name == PureWindowsPath(text).name == text
    return is_one and text not in {"", ".."}
