"""The indexes of a project: uv's settings and variables, valid in any folder."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from nox_buildstages.declarations.locations import locate, with_paths_from
from nox_buildstages.declarations.uv_files import (
    combine_below,
    is_on,
    list_outer_files,
)
from nox_buildstages.declarations.uv_variables import (
    DEFAULT_INDEX_VARIABLES,
    find_default,
    find_idle_variables,
    is_for_uv,
)
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.indexes.credentials import Credentials
from nox_buildstages.indexes.url_secrets import git_variables, parse_login
from nox_buildstages.model import Login
from nox_buildstages.system.documents import read_toml
from nox_buildstages.system.process import helper_variables
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

_LOCATION_VARIABLES = {
    "NETRC": None,
    "UV_CACHE_DIR": None,
    "UV_CREDENTIALS_DIR": None,
    "UV_DEFAULT_INDEX": None,
    "UV_EXTRA_INDEX_URL": " ",
    "UV_FIND_LINKS": ",",
    "UV_INDEX": " ",
    "UV_INDEX_URL": None,
}
"""Variables with paths or URLs, and the separator of their entries, if any."""

_INDEX_VARIABLES = (
    *("UV_INDEX", "UV_EXTRA_INDEX_URL", *DEFAULT_INDEX_VARIABLES),
    "UV_FIND_LINKS",
)
_OUTER_KEYS = (*_TRANSFER_KEYS, "extra-index-url", "find-links", "index", "index-url")
"""The keys that count in files outside a project: where files come from."""

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
            return f"UV_OFFLINE={value}" if is_on(value) else ""
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
    ) -> dict[str, str]:
        """Write a pyproject.toml for uv with ``[tool.uv]``, and perhaps a project.

        Return the environment variables for uv there. No other file of settings counts.
        """
        own = {} if project is None else {"project": project}
        text = tomli_w.dumps({**own, "tool": {"uv": settings}})
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        config = {key: settings[key] for key in settings if key != "sources"}
        path = folder / "uv.toml"
        path.write_text(tomli_w.dumps(config), encoding="utf-8")
        return {**self.uv_variables(), "UV_CONFIG_FILE": str(path)}

    def uv_variables(self) -> dict[str, str]:
        """Return the environment variables for uv in any folder."""
        ignored = {name for name, _ in self.find_idle_variables()}
        variables = {
            name: _make_absolute(name, value, self.root)
            for name, value in uv_variables(self._variables).items()
            if name not in ignored
        }
        return {**variables, **git_variables(self.logins, variables)}

    def find_idle_variables(self) -> Iterator[tuple[str, str]]:
        """Yield what is set outside and has no effect here, with a reason.

        These are variables of uv, and settings in files of the user and the system.
        """
        from nox_buildstages.declarations.uv_keys import KEYS  # noqa: PLC0415 - to lock

        yield from find_idle_variables(self.settings, self._variables)
        named = {it.get("name") for it in self.settings.get("index", ())}
        for variable in _INDEX_VARIABLES:
            for name, _ in self._split(variable):
                if name in named:
                    yield f"{name} of {variable}", "[tool.uv] has an index of that name"
        for path in self._outer_files():
            for key in _read_settings(path):
                effect, _ = KEYS[""].get(key, ("", ""))
                if effect == "taken" and key not in _OUTER_KEYS:
                    yield f"{key} of {path}", "write it into [tool.uv]"

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
        """The settings, completed by those outside the project.

        Indexes from outside come after those of the project, so nothing takes the
        place of a package that the project's indexes have.
        """
        lower: dict[str, Any] = {}
        named = {it.get("name") for it in self.settings.get("index", ())} - {None}
        indexes: list[dict[str, Any]] = [
            {"url": location, **({"name": name} if name else {})}
            for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL")
            for name, location in self._split(variable)
        ]
        for path in self._outer_files():
            found = _read_settings(path)
            found = {key: found[key] for key in _OUTER_KEYS if key in found}
            lower = combine_below(lower, with_paths_from(found, path.parent))
        indexes += lower.pop("index", [])
        indexes = [it for it in indexes if it.get("name") not in named]
        settings = self.settings
        if find_default(settings):
            lower.pop("index-url", None)
            indexes = [{**it, "default": False} for it in indexes]
        if indexes:
            settings = _put_before(settings, indexes)
        return combine_below(settings, lower)

    def _outer_files(self) -> Iterator[Path]:
        """Yield the files of settings outside the project that count."""
        user, system = list_outer_files(self._variables, self.root)
        is_named = bool(self._variables.get("UV_CONFIG_FILE"))
        yield from (it for it in user if is_named or it.is_file())
        yield from islice(filter(Path.is_file, system), 1)

    def _split(self, variable: str) -> Iterator[tuple[str, str]]:
        """Yield the name, perhaps empty, and the location of each entry."""
        for entry in _split_entries(variable, self._variables.get(variable, "")):
            yield _split_name(variable, entry)

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
            for name, url in self._split(variable):
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


def _put_before(
    settings: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return settings with other indexes after all of their own.

    uv asks the default index last, so the last of the other indexes takes its place.
    """
    own = settings.get("index", ())
    tables = [settings, settings.get("pip", {})]
    indexes = [it for it in own if not it.get("default")]
    indexes += ({"url": url} for it in tables for url in it.get("extra-index-url", ()))
    indexes += ({**it, "default": False} for it in own if it.get("default"))
    indexes += ({"url": it["index-url"]} for it in tables if "index-url" in it)
    indexes += others
    if find_default(settings):
        indexes[-1] = {**indexes[-1], "default": True}
    moved = ("index", "index-url", "extra-index-url")
    left, pip = ({it: table[it] for it in table if it not in moved} for table in tables)
    return {**left, **({"pip": pip} if pip else {}), "index": indexes}


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a uv.toml.

    Raises:
        BuildStagesError: The file can't be read.
    """
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        raise BuildStagesError(
            subject="settings of uv",
            problem=f"{path} can't be read: {error}",
            hint="correct the file, or name another one in UV_CONFIG_FILE",
        ) from error


def uv_variables(outer: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that uv gets, of those of the nox command."""
    own = {name: outer[name] for name in outer if is_for_uv(name)}
    return {**helper_variables(outer), **own}


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
