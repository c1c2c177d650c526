"""A project's indexes: as uv is told of them wherever it runs, and as we ask them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tomli_w

from nox_buildstages.indexes.credentials import Credentials
from nox_buildstages.indexes.logins import git_variables, parse_login
from nox_buildstages.model import Login

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

UV_KEYS = (
    "allow-insecure-host",
    "constraint-dependencies",
    "dependency-metadata",
    "exclude-newer",
    "exclude-newer-package",
    "extra-index-url",
    "find-links",
    "index",
    "index-strategy",
    "index-url",
    "keyring-provider",
    "no-index",
    "override-dependencies",
    "pip",
    "prerelease",
    "resolution",
    "sources",
    "system-certs",
)
"""What of ``[tool.uv]`` has a say in which versions are taken, and from where."""

_REACHING = (
    "allow-insecure-host",
    "extra-index-url",
    "index",
    "index-url",
    "keyring-provider",
    "system-certs",
)
"""Those of them that have a say in how a file is reached whose URL is known."""

_LOCATIONS = {
    "NETRC": None,
    "UV_BUILD_CONSTRAINT": " ",
    "UV_CACHE_DIR": None,
    "UV_CONFIG_FILE": None,
    "UV_CONSTRAINT": " ",
    "UV_DEFAULT_INDEX": None,
    "UV_EXTRA_INDEX_URL": " ",
    "UV_FIND_LINKS": ",",
    "UV_INDEX": " ",
    "UV_INDEX_URL": None,
    "UV_OVERRIDE": " ",
}
"""Variables that hold paths or URLs, and what is between two of them."""

_INDEX_VARIABLES = (
    *("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "UV_FIND_LINKS",
)
_ELSEWHERE = frozenset(("UV_PROJECT", "UV_WORKING_DIR"))
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Index:
    url: str
    name: str = ""
    authenticate: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexes:
    """Where a project's packages come from.

    Attributes:
        root: The project's folder, to which paths are relative.
        settings: The project's ``[tool.uv]``.
        outer: The environment variables that nox was started with; None for ours.
        logins: Taken out of the project's requirements.
    """

    root: Path = field(default_factory=Path.cwd)
    settings: Mapping[str, Any] = field(default_factory=dict)
    outer: Mapping[str, str] | None = field(default=None, repr=False)
    logins: tuple[Login, ...] = ()

    def resolution_settings(self) -> dict[str, Any]:
        """Return ``[tool.uv]`` for a resolution in any folder."""
        return self._with_logins(self._chosen(UV_KEYS), self.logins)

    def write_download_settings(self, folder: Path) -> Path:
        """Make uv, run in a folder, know what it takes to reach files of locks.

        Returns:
            The folder.
        """
        settings = self._chosen(_REACHING)
        if "pip" in self.settings:
            pip = self.settings["pip"]
            settings["pip"] = _absolute(_picked(pip, _REACHING), self.root)
        # Told of find-links, uv would read its pages each time.
        links = (parse_login(index.url) for index in self._links())
        logins = (*self.logins, *(login for login in links if login is not None))
        settings = self._with_logins(settings, logins)
        text = tomli_w.dumps({"tool": {"uv": settings}})
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        return folder

    def uv_variables(self, *, without: Iterable[str] = ()) -> dict[str, str] | None:
        """Return uv's environment variables, with paths that hold in any folder.

        Args:
            without: Some that it is not to see.

        Returns:
            None where ours are as good.
        """
        if self.outer is None and not self.logins:
            return None
        left_out = {*_ELSEWHERE, *without}
        variables = {
            name: _moved(name, value, self.root)
            for name, value in self._outer.items()
            if name not in left_out
        }
        return {**variables, **git_variables(self.logins, variables)}

    def credentials(self) -> Credentials:
        """Return what we ourselves say to servers, in uv's order of precedence."""
        indexes = [*self._declared()]
        logins = (_login(index, self._outer) for index in indexes)
        home = Path(self._outer.get("HOME") or Path.home())
        return Credentials(
            logins=(*(login for login in logins if login is not None), *self.logins),
            blocked=tuple(
                re.sub(r"\+?simple/?$", "", index.url)
                for index in indexes
                if index.authenticate == "never"
            ),
            netrc=self.root / (self._outer.get("NETRC") or home / ".netrc"),
        )

    @property
    def _outer(self) -> Mapping[str, str]:
        return os.environ if self.outer is None else self.outer

    def _chosen(self, keys: Iterable[str]) -> dict[str, Any]:
        return _absolute(_picked(self.settings, keys), self.root)

    def _with_logins(
        self, settings: dict[str, Any], logins: Iterable[Login]
    ) -> dict[str, Any]:
        """Add indexes that nothing is taken from: uv keeps their logins in mind."""
        ours = [
            {
                "name": f"nox-buildstages-{number}",
                "url": login.full_url,
                "explicit": True,
            }
            for number, login in enumerate(logins)
        ]
        if ours:
            settings["index"] = [*settings.get("index", ()), *ours]
        return settings

    def _declared(self) -> Iterator[_Index]:
        """Yield every index, those of the variables first."""
        for variable in _INDEX_VARIABLES:
            for entry in _split(variable, self._outer.get(variable, "")):
                name, url = _named(variable, entry)
                yield _Index(name=name, url=url)
        for index in self.settings.get("index", ()):
            yield _Index(
                url=index["url"],
                name=index.get("name", ""),
                authenticate=index.get("authenticate", "auto"),
            )
        for settings in (self.settings, self.settings.get("pip", {})):
            urls = [*settings.get("extra-index-url", ())]
            urls += [settings["index-url"]] if "index-url" in settings else []
            yield from (_Index(url=url) for url in urls)
        yield from self._links()

    def _links(self) -> Iterator[_Index]:
        for settings in (self.settings, self.settings.get("pip", {})):
            yield from (_Index(url=url) for url in settings.get("find-links", ()))


def _login(index: _Index, outer: Mapping[str, str]) -> Login | None:
    """Return the login for an index's files: that of its variables, or of its URL."""
    own = parse_login(index.url)
    if index.name:
        variable = re.sub("[^A-Z0-9]", "_", index.name.upper())
        name = outer.get(f"UV_INDEX_{variable}_USERNAME")
        password = outer.get(f"UV_INDEX_{variable}_PASSWORD")
        if name is not None or password is not None:
            url = index.url if own is None else own.url
            return Login(url=url, name=name or "", password=password)
    return own


def _split(variable: str, value: str) -> list[str]:
    """Return the entries in what a variable holds."""
    separator = _LOCATIONS[variable]
    if separator is None:
        return [value] if value else []
    parts = value.split() if separator == " " else value.split(separator)
    return [part for part in parts if part]


def _named(variable: str, entry: str) -> tuple[str, str]:
    """Return the name and the location of an entry, ``NAME=LOCATION`` for an index."""
    match = _NAMED.match(entry) if "INDEX" in variable else None
    return ("", entry) if match is None else (match[1], entry[match.end() :])


def _moved(variable: str, value: str, root: Path) -> str:
    """Return what a variable holds, its paths absolute."""
    if variable not in _LOCATIONS:
        return value
    moved = []
    for entry in _split(variable, value):
        name, location = _named(variable, entry)
        moved.append(f"{name}{'=' if name else ''}{_location(location, root)}")
    return (_LOCATIONS[variable] or "").join(moved)


def _picked(settings: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: settings[key] for key in keys if key in settings}


def _absolute(settings: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Make the paths in uv's settings independent of where they are read."""
    absolute = dict(settings)
    for key in ("find-links", "extra-index-url"):
        if key in absolute:
            absolute[key] = [_location(entry, root) for entry in absolute[key]]
    if "index-url" in absolute:
        absolute["index-url"] = _location(absolute["index-url"], root)
    if "pip" in absolute:
        absolute["pip"] = _absolute(absolute["pip"], root)
    if "index" in absolute:
        absolute["index"] = [
            {**index, "url": _location(index["url"], root)}
            for index in absolute["index"]
        ]
    if "sources" in absolute:
        absolute["sources"] = {
            name: _absolute_source(source, root)
            for name, source in absolute["sources"].items()
        }
    return absolute


def _absolute_source(source: Any, root: Path) -> Any:  # noqa: ANN401 - uv's own schema
    if isinstance(source, list):
        return [_absolute_source(entry, root) for entry in source]
    if "path" in source:
        return {**source, "path": str(root / source["path"])}
    return source


def _location(text: str, root: Path) -> str:
    return text if urlsplit(text).scheme else str(root / text)
