"""The indexes of a project: uv's settings and variables, valid in any folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from nox_buildstages.declarations.locations import locate, with_paths_from
from nox_buildstages.declarations.uv_files import combine_below
from nox_buildstages.declarations.uv_variables import ANSWERED_HERE, find_idle_variables
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.indexes.credentials import Credentials
from nox_buildstages.indexes.url_secrets import git_variables, parse_login
from nox_buildstages.model import Login
from nox_buildstages.system.documents import read_toml
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

UV_KEYS = (
    *("allow-insecure-host", "constraint-dependencies", "dependency-metadata"),
    *("exclude-dependencies", "exclude-newer", "exclude-newer-package"),
    *("extra-index-url", "find-links", "index", "index-strategy", "index-url"),
    *("keyring-provider", "native-tls", "no-index", "override-dependencies", "pip"),
    *("prerelease", "prerelease-package", "resolution", "sources", "system-certs"),
)
"""The keys of ``[tool.uv]`` that influence versions or where files come from."""

PIP_KEYS = (
    *("dependency-metadata", "exclude-newer", "exclude-newer-package"),
    *("extra-index-url", "find-links", "index-strategy", "index-url"),
    *("keyring-provider", "no-binary", "no-index", "prerelease", "resolution"),
)
"""The keys of ``[tool.uv.pip]`` of this kind; others change what uv is asked."""

_TRANSFER_KEYS = (
    *("allow-insecure-host", "cache-dir", "concurrent-downloads", "http-proxy"),
    *("https-proxy", "keyring-provider", "native-tls", "no-cache", "no-proxy"),
    *("offline", "system-certs"),
)
DOWNLOAD_KEYS = (*_TRANSFER_KEYS, "extra-index-url", "index", "index-url")
"""The keys that influence how uv downloads a file from its URL."""

NETWORK_OFF = "[Nn]etwork (was|connectivity is) disabled"
"""uv's message if something isn't cached and the network is off, as a pattern."""

OFFLINE_HINT = (
    "unset UV_OFFLINE (or offline in [tool.uv]), and run the same command once; after"
    " that, it needs no network"
)
"""The hint if something is missing because uv's settings turn the network off."""

_ONLINE = ("0", "f", "false", "n", "no", "off")
"""The values of ``UV_OFFLINE`` that leave the network on, in lower case."""

_LOCATION_VARIABLES = {
    "NETRC": None,
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
"""Variables with paths or URLs, and the separator of their entries, if any."""

_INDEX_VARIABLES = (
    *("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "UV_FIND_LINKS",
)
_CONFIG_VARIABLES = ("UV_CONFIG_FILE", "UV_NO_CONFIG")
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*)=")


class _Index(Value):
    url: str
    name: str = ""
    authenticate: str = "auto"


class Indexes(Value):
    """The indexes of a project; paths are relative to ``root``."""

    root: Path = field(default_factory=Path.cwd)
    settings: Mapping[str, Any] = field(default_factory=dict)  # ``[tool.uv]``
    outer: Mapping[str, str] | None = field(default=None, repr=False)
    """The environment variables of the nox command; None for ours."""
    logins: tuple[Login, ...] = ()  # from the project's requirements and sources

    @property
    def offline(self) -> str:
        """The setting that turns the network off: ``UV_OFFLINE=1``, or empty without.

        As in uv, the variable takes precedence.
        """
        value = self._variables.get("UV_OFFLINE")
        if value is not None:
            return "" if value.lower() in _ONLINE else f"UV_OFFLINE={value}"
        return "offline in [tool.uv]" if self.settings.get("offline") else ""

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of all declared indexes, with the folders of wheels."""
        return tuple(index.url for index in self._list_indexes())

    def resolution_settings(self) -> dict[str, Any]:
        """Return ``[tool.uv]`` for a resolution in any folder."""
        settings = self._pick(self._all_settings, (*UV_KEYS, *_TRANSFER_KEYS))
        if "pip" in settings:
            settings["pip"] = self._pick(settings["pip"], PIP_KEYS)
        return _add_logins(settings, self.logins)

    def download_settings(self) -> dict[str, Any]:
        """Return ``[tool.uv]`` for downloads of locked files in any folder."""
        settings = self._pick(self._all_settings, DOWNLOAD_KEYS)
        if "pip" in self.settings:
            settings["pip"] = self._pick(self.settings["pip"], DOWNLOAD_KEYS)
        # Only the logins of find-links: uv would read their pages each time.
        links = (parse_login(index.url) for index in self._find_links())
        logins = (*self.logins, *(login for login in links if login is not None))
        return _add_logins(settings, logins)

    def write_project(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        project: Mapping[str, Any] | None = None,
        *,
        without: Iterable[str] = (),
    ) -> dict[str, str] | None:
        """Write a pyproject.toml for uv with ``[tool.uv]``, and perhaps a project.

        Return the environment variables for uv there; None for ours.
        """
        own = {} if project is None else {"project": project}
        text = tomli_w.dumps({**own, "tool": {"uv": settings}})
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        variables = self.uv_variables(without=without)
        if not any(map(self._variables.get, _CONFIG_VARIABLES)):
            return variables
        # With either variable, uv wouldn't read these settings, but in a uv.toml.
        config = {key: settings[key] for key in settings if key != "sources"}
        path = folder / "uv.toml"
        path.write_text(tomli_w.dumps(config), encoding="utf-8")
        variables = {**(self._variables if variables is None else variables)}
        for name in _CONFIG_VARIABLES:
            variables.pop(name, None)
        return {**variables, "UV_CONFIG_FILE": str(path)}

    def uv_variables(self, *, without: Iterable[str] = ()) -> dict[str, str] | None:
        """Return the environment variables for uv in any folder; None for ours."""
        ignored = {
            name for name, _ in find_idle_variables(self.settings, self._variables)
        }
        hidden = {*ANSWERED_HERE, *ignored, *without}
        is_hiding = not hidden.isdisjoint(self._variables)
        if self.outer is None and not self.logins and not is_hiding:
            return None
        variables = {
            name: _make_absolute(name, value, self.root)
            for name, value in self._variables.items()
            if name not in hidden
        }
        return {**variables, **git_variables(self.logins, variables)}

    def credentials(self) -> Credentials:
        """Return the credentials for our own downloads, in uv's order of precedence."""
        indexes = [*self._list_indexes()]
        logins = (_login_of(index, self._variables) for index in indexes)
        home = Path(self._variables.get("HOME") or Path.home())
        return Credentials(
            logins=(*(login for login in logins if login is not None), *self.logins),
            blocked=tuple(
                re.sub(r"\+?simple/?$", "", index.url)
                for index in indexes
                if index.authenticate == "never"
            ),
            netrc=self.root / (self._variables.get("NETRC") or home / ".netrc"),
        )

    @property
    def _all_settings(self) -> Mapping[str, Any]:
        """The settings, completed by those in the file of ``UV_CONFIG_FILE``."""
        location = self._variables.get("UV_CONFIG_FILE")
        if not location:
            return self.settings
        path = self.root / location
        try:
            lower = read_toml(path)
        except (OSError, ValueError) as error:
            raise BuildStagesError(
                subject="UV_CONFIG_FILE",
                problem=f"{location} can't be read: {error}",
                hint="name a uv.toml, or unset the variable",
            ) from error
        return combine_below(self.settings, with_paths_from(lower, path.parent))

    @property
    def _variables(self) -> Mapping[str, str]:
        return os.environ if self.outer is None else self.outer

    def _pick(self, settings: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
        """Return some of uv's settings, with absolute paths."""
        picked = {key: settings[key] for key in keys if key in settings}
        return with_paths_from(picked, self.root)

    def _list_indexes(self) -> Iterator[_Index]:
        """Yield every index; the indexes from variables come first."""
        for variable in _INDEX_VARIABLES:
            for entry in _split_entries(variable, self._variables.get(variable, "")):
                name, url = _split_name(variable, entry)
                yield _Index(name=name, url=url)
        for index in self._all_settings.get("index", ()):
            yield _Index(
                url=index["url"],
                name=index.get("name", ""),
                authenticate=index.get("authenticate", "auto"),
            )
        for settings in (self._all_settings, self._all_settings.get("pip", {})):
            urls = [*settings.get("extra-index-url", ())]
            urls += [settings["index-url"]] if "index-url" in settings else []
            yield from (_Index(url=url) for url in urls)
        yield from self._find_links()

    def _find_links(self) -> Iterator[_Index]:
        for settings in (self._all_settings, self._all_settings.get("pip", {})):
            yield from (_Index(url=url) for url in settings.get("find-links", ()))


def _add_logins(settings: dict[str, Any], logins: Iterable[Login]) -> dict[str, Any]:
    """Add an unused index for each login: uv remembers the logins of indexes."""
    indexes = [
        {"name": f"nox-buildstages-{number}", "url": it.full_url, "explicit": True}
        for number, it in enumerate(logins)
    ]
    if indexes:
        settings["index"] = [*settings.get("index", ()), *indexes]
    return settings


def _login_of(index: _Index, variables: Mapping[str, str]) -> Login | None:
    """Return the login of an index, from variables before the URL."""
    login = parse_login(index.url)
    if index.name:
        prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', index.name.upper())}"
        name = variables.get(f"{prefix}_USERNAME")
        password = variables.get(f"{prefix}_PASSWORD")
        if name is not None or password is not None:
            url = index.url if login is None else login.url
            return Login(url=url, name=name or "", password=password)
    return login


def _split_entries(variable: str, value: str) -> list[str]:
    separator = _LOCATION_VARIABLES[variable]
    if separator is None:
        return [value] if value else []
    parts = value.split() if separator == " " else value.split(separator)
    return [part for part in parts if part]


def _split_name(variable: str, entry: str) -> tuple[str, str]:
    """Return name and location of an entry; an index may be ``NAME=LOCATION``."""
    match = _NAME.match(entry) if "INDEX" in variable else None
    return ("", entry) if match is None else (match[1], entry[match.end() :])


def _make_absolute(variable: str, value: str, root: Path) -> str:
    """Return the value of a variable with absolute paths."""
    if variable not in _LOCATION_VARIABLES:
        return value
    entries = []
    for entry in _split_entries(variable, value):
        name, location = _split_name(variable, entry)
        entries.append(f"{name}{'=' if name else ''}{locate(location, root)}")
    return (_LOCATION_VARIABLES[variable] or "").join(entries)
