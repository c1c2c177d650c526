"""The toolchains and mirrors of the user's home, for builds; no logins.

``HOME`` is an empty folder, so no user's configuration changes a wheel. But some
programs find themselves by ``HOME``, and what is configured for every build on a
machine, such as the mirror of a registry, must hold for ours, too.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from nox_buildstages.errors import CommandError
from nox_buildstages.indexes.url_secrets import parse_login, strip_logins
from nox_buildstages.sources.git import user_variables
from nox_buildstages.system.documents import read_toml
from nox_buildstages.system.files import read_text, write_text
from nox_buildstages.system.process import (
    TOOLCHAINS,
    Command,
    run_checked,
)
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.system.process import Runner

_CARGO_TABLES = ("http", "net", "registries", "registry", "source")
_CARGO_PATHS = ("directory", "local-registry")  # of a source
_LINES = (
    (
        *(".npmrc", "NPM_CONFIG_USERCONFIG", "registry"),
        re.compile(
            r"(@[^:=]+:)?registry|(https-|no)?proxy|cafile|ca(\[\])?|strict-ssl"
        ),
    ),
    (
        *(".config/go/env", "GOENV", "GOPROXY"),
        re.compile(r"GO(NO|INSECURE|PRIVATE|PROXY|SUMDB|TOOLCHAIN|VCS)(PROXY|SUMDB)?"),
    ),
)
"""Settings of npm and Go: the file below the home, the variable that names another one,
the setting that names a mirror, and all settings for builds."""

_GIT = re.compile(
    r"url\..+\.insteadof|http\.(.+\.)?(proxy|sslcainfo|sslcapath)"
    r"|safe\.directory|protocol\.(.+\.)?allow"
)
_OTHERS = {
    ".bazelrc": "distdir|downloader_config|proxy|registry",
    ".bundle/config": "MIRROR",
    ".conan/remotes.json": r'"url": "(?!https://center\d?\.conan\.io)',
    ".conan2/remotes.json": r'"url": "(?!https://center\d?\.conan\.io)',
    ".condarc": "channel|proxy",
    ".config/pip/pip.conf": "index-url|find-links|no-index|proxy",
    ".curlrc": "proxy",
    ".gemrc": "sources|proxy",
    ".gradle/gradle.properties": "proxyHost|distributionUrl",
    ".gradle/init.gradle": "repositories",
    ".m2/settings.xml": "<(mirror|proxy|repository)>",
    ".pip/pip.conf": "index-url|find-links|no-index|proxy",
    ".wgetrc": "proxy",
    ".yarnrc.yml": "npmRegistryServer|[pP]roxy",
}
"""Files of other programs, below the home, with a pattern of mirrors or proxies."""

_SECRET = re.compile(r"token|password|credential|secret|_auth|username|helper")
"""In the names of settings with logins, or with programs for logins."""


class HomeSettings(Value):
    """The settings of the user's home for builds.

    All of it is about where programs and downloads come from, so it isn't part of the
    key.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    """Where the toolchains are."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The text of settings, by the path below the home."""
    mirrors: tuple[str, ...] = ()
    """Descriptions of servers or folders that builds use in place of public ones."""
    left_out: tuple[str, ...] = ()
    """Settings that builds don't get although they are about downloads."""
    other_mirrors: tuple[str, ...] = ()
    """Mirrors and proxies that builds don't get: with a login, or of other programs."""
    cmake_packages: Mapping[str, Path] = field(default_factory=dict)
    """The folders of CMake's user package registry, which builds don't get, by name."""
    toolchains: tuple[Path, ...] = ()
    """The folders of the toolchains and their programs, which builds only read."""
    places: tuple[str, ...] = ()
    """The paths and URLs of the settings; builds may read those that are local."""

    def write(self, folder: Path) -> None:
        """Write the settings into the home of a build."""
        for name, text in self.files.items():
            write_text(folder / name, text)


def read_home(outer: Mapping[str, str], runner: Runner) -> HomeSettings:
    """Return the settings of the user's home for builds."""
    home = Path(outer.get("HOME") or Path.home())
    variables = {
        name: outer.get(name) or str(home / default)
        for name, default in TOOLCHAINS.items()
        if outer.get(name) or (home / default).is_dir()
    }
    cargo = Path(outer.get("CARGO_HOME") or home / ".cargo")
    toolchains = (*map(Path, variables.values()), cargo / "bin")
    parts = (
        _read_cargo(cargo),
        _read_git(outer, runner),
        *(
            _read_lines(Path(outer.get(variable) or home / name), name, mirror, names)
            for name, variable, mirror, names in _LINES
        ),
        _read_asdf(home),
    )
    return HomeSettings(
        variables=variables,
        toolchains=tuple(filter(os.path.isdir, toolchains)),  # perhaps of another user
        files={name: text for part in parts for name, text in part.files.items()},
        mirrors=tuple(it for part in parts for it in part.mirrors),
        left_out=tuple(it for part in parts for it in part.left_out),
        places=tuple(it for part in parts for it in part.places),
        other_mirrors=(
            *(it for part in parts for it in part.other_mirrors),
            *(
                str(home / name)
                for name, pattern in _OTHERS.items()
                if re.search(pattern, _read_text(home / name))
            ),
        ),
        cmake_packages={it.name: it for it in home.glob(".cmake/packages/*")},
    )


def _read_text(path: Path) -> str:
    """Return the text of a file; nothing if it can't be read."""
    try:
        return read_text(path, errors="replace")
    except OSError:
        return ""


def _read_cargo(folder: Path) -> HomeSettings:
    """Return cargo's mirrors and registries, and how it downloads."""
    path = next(filter(Path.is_file, (folder / "config", folder / "config.toml")), None)
    if path is None:
        return HomeSettings()
    try:
        document = read_toml(path)
    except (OSError, ValueError):
        return HomeSettings(left_out=(f"{path}, which can't be read",))
    left_out: list[str] = []
    places: list[str] = []

    def clean(value: Any, *names: str) -> Any:  # noqa: ANN401 - any value of TOML
        if isinstance(value, dict):
            kept = {}
            for name, it in value.items():
                if _SECRET.search(name):
                    left_out.append(f"{'.'.join((*names, name))} in {path}")
                else:
                    kept[name] = clean(it, *names, name)
            return kept
        if isinstance(value, str):
            if names[-1] in _CARGO_PATHS:  # relative to the folder of ``.cargo``
                value = str(folder.parent / value)
            bare = strip_logins(value)
            places.append(bare)
            if bare != value:
                left_out.append(f"the login of {'.'.join(names)} in {path}")
            return bare
        return value

    kept = {it: clean(document[it], it) for it in _CARGO_TABLES if it in document}
    others = (f"[{it}] in {path}" for it in document if it not in _CARGO_TABLES)
    sources = kept.get("source")
    mirrors = (
        f"{name} → {source['replace-with']} ({path})"
        for name, source in (sources if isinstance(sources, dict) else {}).items()
        if isinstance(source, dict) and "replace-with" in source
    )
    return HomeSettings(
        files={".cargo/config.toml": tomli_w.dumps(kept)} if kept else {},
        mirrors=tuple(mirrors),
        left_out=(*left_out, *others),
        places=tuple(places),
    )


def _read_git(outer: Mapping[str, str], runner: Runner) -> HomeSettings:
    """Return for which URLs git uses others, and its proxies."""
    # Without the system's settings, which builds see anyway.
    argv = ("git", "config", "--list", "--includes", "--null")
    own = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_DIR": os.devnull}
    env = {**user_variables(outer, connects=True), **own}
    try:
        listed = run_checked(runner, Command(argv=argv, cwd=Path("/"), env=env))
    except CommandError:
        return HomeSettings()
    lines, mirrors, left_out, places = [], [], [], []
    others: list[str] = []
    for entry in filter(None, listed.split("\0")):
        name, _, value = entry.partition("\n")
        section, _, rest = name.partition(".")
        subsection, _, key = rest.rpartition(".")
        if _GIT.fullmatch(name) is None:
            if _SECRET.search(key) or key == "extraheader":
                left_out.append(f"{strip_logins(name)} of git")
        elif parse_login(subsection) or parse_login(value):
            kind = others if section == "url" else left_out
            kind.append(f"{strip_logins(name)} of git, which has a login")
        else:
            title = f"{section} {_quote(subsection)}" if subsection else section
            lines += [f"[{title}]", f"\t{key} = {_quote(value)}"]
            if section == "url":
                mirrors.append(f"{value} → {subsection} (git)")
                places.append(subsection)
            elif section == "http":
                places.append(value)
    return HomeSettings(
        files={".gitconfig": "\n".join((*lines, ""))} if lines else {},
        mirrors=tuple(mirrors),
        left_out=tuple(dict.fromkeys(left_out)),
        other_mirrors=tuple(others),
        places=tuple(places),
    )


def _quote(value: str) -> str:
    """Return a value for git's configuration."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _read_lines(
    path: Path, file: str, mirror: str, names: re.Pattern[str]
) -> HomeSettings:
    """Return the settings of some names in a file of lines ``name=value``."""
    kept, mirrors, places = [], [], []
    left_out: list[str] = []
    others: list[str] = []
    with suppress(OSError, ValueError):
        for line in read_text(path).removeprefix("\N{BYTE ORDER MARK}").splitlines():
            name, equals, value = (it.strip() for it in line.partition("="))
            if not equals or name.startswith(("#", ";")):
                continue
            if names.fullmatch(name) and strip_logins(value) == value:
                kept.append(f"{name}={value}\n")
                places.append(value.strip("'\""))
                mirrors += [f"{name} {value} ({path})"] if name == mirror else []
            elif names.fullmatch(name) or _SECRET.search(name):
                kind = others if name == mirror else left_out
                kind.append(f"{strip_logins(name)} in {path}")
    return HomeSettings(
        files={file: "".join(kept)} if kept else {},
        mirrors=tuple(mirrors),
        left_out=tuple(left_out),
        other_mirrors=tuple(others),
        places=tuple(places),
    )


def _read_asdf(home: Path) -> HomeSettings:
    """Return the versions that asdf and mise use by default."""
    name = ".tool-versions"
    text = _read_text(home / name)
    return HomeSettings(files={name: text} if text else {})
