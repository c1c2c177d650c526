"""Getters for the values of our table: requirements, paths, versions, sizes, times."""

from __future__ import annotations

import datetime as dt
import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from nox_buildstages.config import getters
from nox_buildstages.config.getters import quote
from nox_buildstages.declarations.upload_times import parse_span
from nox_buildstages.model import FINAL, PROJECT, Output, Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nox_buildstages.config.getters import Document, Getter, Item
    from nox_buildstages.model import CompilerCache, FileRules, Network

_RESERVED = {
    FINAL: "the runtime's lock file",
    PROJECT: "the lock file for the project itself",
    **{
        name: f"a session, build-stages-{name}"
        for name in ("init", "lock", "merge", "plan", "prune", "release", "shell")
    },
}
_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_MAX_NAME = 100
_OLDEST_PYTHON = (3, 10)
_OLDEST_FREE_THREADED = (3, 13)
_WITH_VERSION = r"[a-z]*-?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?t?"
_MAX_MINOR = 40  # more than there will be for years
_MAX_PATCH = 100  # more releases than any minor version of Python has had
_PYTHON = re.compile(r"([0-9]+\.[0-9]+)(\.[0-9]+)?t?")
_TIME = (
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(T[0-9]{2}:[0-9]{2}:[0-9]{2})?(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
# At least two letters: a single letter is a drive of Windows.
_SHA256 = "[0-9A-Fa-f]{64}"
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]+):"
_LIKE_VERSION = (
    r"""([A-Za-z0-9][A-Za-z0-9._-]*?(?:\[[^]]*\])?)\s*([=:^~<>]{0,3})\s*"""
    r"""["']?([0-9][^\s"';,]*)["']?"""
)
_OPERATORS = {
    **dict.fromkeys(("", "=", ":"), "=="),
    **dict.fromkeys(("=>", "^"), ">="),
    "=<": "<=",
    "~": "~=",
}
_SCP = re.compile(r"(\w+@[\w.-]+):(?!/)")
_VERSION = r"[0-9]+(\.[0-9]+)+[a-z0-9.+]*"
_FILE = r"\.(whl|zip|git|tar|t[abglx]\w*|tar\.\w+)(?=$|[#?])"
_ARCHIVE = r"(-[0-9][^-/]*)?\.(zip|tgz|tar(\.\w+)?)(?=$|[#?])"

env = getters.mapping_of(getters.variable_value, "strings", key=getters.variable_name)


def requirement(item: Item) -> Requirement | None:
    """Read a requirement."""
    if not isinstance(item.value, str):
        item.expect("a requirement such as 'torch>=2.8'")
        return None
    found, reason = None, ""
    try:
        found = Requirement(item.value)
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
    if found is None or _SCP.match(item.value):  # a repository, read as NAME @ URL
        advice = correct_requirement(item.value) or reason
        item.fault(f"{item.value!r} is not a requirement: {advice}")
        return None
    if url := _find_repository(found):
        item.fault(
            f"{item.value!r} names no archive; for a repository, write"
            f" {quote(f'{found.name} @ {url}')}"
        )
    elif re.search(_ARCHIVE, found.name):
        advice = correct_requirement(f"./{found.name}")
        item.fault(f"{item.value!r} is a file: {advice}")
    if re.fullmatch(_VERSION, found.url or ""):
        item.fault(f"write {quote(f'{found.name}=={found.url}')}; after @ stands a URL")
    return make_absolute(found, item)


def _find_repository(found: Requirement) -> str:
    """Return the URL that is meant, if a URL is likely that of a repository."""
    url = found.url or ""
    if _SCP.match(url):
        return "git+" + _SCP.sub(r"ssh://\1/", url)
    is_file = re.search(_FILE, url) or not url.startswith(("http://", "https://"))
    return f"git+{url}" if url.startswith("ssh://") or not is_file else ""


def correct_requirement(text: str) -> str:
    """Return advice for a text that isn't a requirement, if its meaning is likely."""
    text = text.strip()
    if re.match(r"-(r|-requirement)\b", text):
        return "list the requirements themselves; a file of requirements isn't read"
    candidates = [re.sub(r"(?<=[0-9*])\s+(?=[<>=!~])", ",", text)]
    advice = "write"
    likely = re.fullmatch(_LIKE_VERSION, text)
    if likely is not None:
        name, operator, version = likely.groups()
        candidates = [f"{name}{_OPERATORS.get(operator, operator)}{version}"]
    elif "/" in text or text in {".", ".."}:  # a URL or a path, which needs a name
        advice = "give it a name:"
        url = _SCP.sub(r"ssh://\1/", re.sub(r"^~\w*(?=/)", "/…", text))
        if not re.match(_SCHEME, url):
            url = url if url.startswith((".", "/")) else f"./{url}"
        elif not (url.startswith(("git+", "file:")) or re.search(_ARCHIVE, url)):
            url = f"git+{url}"
        path = re.split("[#?]", url.partition("://")[2].partition("/")[2] or url)[0]
        end = path.partition("@")[0].rstrip("/").rpartition("/")[2]
        name = re.sub(_ARCHIVE, "", end).removesuffix(".git")
        candidates = [f"{name} @ {url}", f"NAME @ {url}"]
    for candidate in candidates:
        with suppress(InvalidRequirement):
            Requirement(candidate)
            return f"{advice} {quote(candidate)}"
    return ""


requirements = getters.list_of(requirement)


def output(item: Item) -> Output | None:
    """Read an output: a requirement for a stage to build."""
    found = requirement(item)
    if found is None:
        return None
    if found.marker is not None:
        item.fault("an output is one wheel, always: it can't have a marker")
    if found.extras:
        item.fault("an output is one wheel, with all its extras: it can't name some")
    if re.split("[?#]", found.url or "", maxsplit=1)[0].endswith(".whl"):
        item.fault("a wheel is built already: an output is the source of one")
    else:
        _check_fragment(found, item)
    return Output(requirement=found, location=item.location)


def _check_fragment(found: Requirement, item: Item) -> None:
    """Add a fault for each part of a URL's fragment that has no effect."""
    fragment = (found.url or "").partition("#")[2]
    seen: set[str] = set()
    for part in filter(None, fragment.split("&")):
        key, _, value = part.partition("=")
        folder = PurePosixPath(unquote(value))
        if key in seen:
            item.fault(f"#{key}= is there twice")
        elif key == "subdirectory":
            if not folder.parts or folder.is_absolute() or ".." in folder.parts:
                item.fault("#subdirectory= names a folder inside the source")
        elif key == "sha256":
            if not re.fullmatch(_SHA256, value):
                item.fault("#sha256= has 64 hexadecimal digits")
        elif key != "egg":
            hint = "known are #subdirectory= and #sha256="
            if "=" not in part:
                hint = f"did you mean '#subdirectory={part}'?"
            item.fault(f"#{part} is not understood; {hint}")
        elif canonicalize_name(value) != canonicalize_name(found.name):
            item.fault(f"#{part} is another name than {found.name}")
        seen.add(key)


def make_absolute(found: Requirement, item: Item) -> Requirement:
    """Make a URL of a file or a folder absolute."""
    location, mark, fragment = (found.url or "").partition("#")
    scheme = re.match(_SCHEME, location)
    if found.url is None or (scheme and scheme[1].lower() != "file"):
        return found
    path = location
    _check_home(path, item)
    if scheme is not None:
        path = location[scheme.end() :]
        if path.startswith("//"):
            host, slash, path = path[2:].partition("/")
            if host not in {"", "localhost"}:
                item.fault(f"{location!r} names a host; a folder is written './folder'")
                return found
            path = slash + path
        path = unquote(path)
    absolute = Path(os.path.normpath(item.document.path.parent / path))
    found.url = absolute.as_uri() + mark + fragment
    return found


def _check_home(path: str, item: Item) -> None:
    """Add a fault for a path that a shell would replace."""
    if re.match(r"~\w*(/|$)", path):
        item.fault("~ is not replaced; write the whole path")


def path(item: Item) -> Path | None:
    """Read a path, relative to the pyproject.toml; return an absolute path."""
    value = getters.text(item)
    if value is None:
        return None
    _check_home(value, item)
    return Path(os.path.normpath(item.document.path.parent / value))


def patch(item: Item) -> Patch | None:
    """Read the path of a patch."""
    absolute = path(item)
    if absolute is None:
        return None
    return Patch(name=str(item.value), path=absolute, location=item.location)


def python_versions(item: Item) -> tuple[str, ...] | None:
    """Read Python versions: one in any form, several as X.Y or X.Y.Z."""
    versions = getters.non_empty(
        getters.list_of(_python_version), 'version such as "3.11"'
    )(item)
    if versions is None or len(versions) == 1:
        return versions
    first: dict[str, str] = {}
    for index, version in enumerate(versions):
        child = item.child(index, version)
        minor = _PYTHON.fullmatch(version)
        if minor is None:
            child.expect('a version such as "3.11", as there are several')
        elif minor[1] in first:
            other = first[minor[1]]
            message = f"{other!r} is the same minor version"
            if version.endswith("t") != other.endswith("t"):
                message += "; no marker tells them apart in a lock file"
            child.fault(message)
        else:
            first[minor[1]] = version
    return versions


def _python_version(item: Item) -> str | None:
    """Read a Python, in any form known to nox."""
    value = getters.text(item)
    found = None if value is None else re.fullmatch(_WITH_VERSION, value)
    if found is not None:
        version = int(found[1]), int(found[2] or _OLDEST_PYTHON[1])
        if version < _OLDEST_PYTHON:
            item.fault(f"Python {value} isn't supported; the oldest is Python 3.10")
        elif found[0].endswith("t") and found[2] and version < _OLDEST_FREE_THREADED:
            item.fault(f"there is no Python {value}; the first is Python 3.13t")
    return value


def requires_python(item: Item, pythons: Sequence[str]) -> SpecifierSet:
    """Read ``requires-python`` of ``[project]``, and check the table's Pythons."""
    found = item.document.find("project", "requires-python")
    text = None if found is None else getters.string(found)
    if found is None or text is None:
        return SpecifierSet()
    try:
        required = SpecifierSet(text)
    except InvalidSpecifier:
        found.expect("version specifiers such as '>=3.11'")
        return SpecifierSet()
    minors = range(_OLDEST_PYTHON[1], _MAX_MINOR)
    versions = (f"3.{it}.{patch}" for patch in range(_MAX_PATCH) for it in minors)
    if not any(map(required.contains, versions)):
        found.fault(f"{text} excludes every supported Python; the oldest is 3.10")
        return required
    for index, python in enumerate(pythons):
        version = re.fullmatch(_WITH_VERSION, python)
        if version is None or version[2] is None:
            continue
        patches = range(_MAX_PATCH) if version[3] is None else [version[3]]
        if not any(
            required.contains(f"{version[1]}.{version[2]}.{it}") for it in patches
        ):
            named = item.child("python", pythons).child(index, python)
            named.fault(f"requires-python of [project] is {text}, without {python}")
    return required


def marker(item: Item) -> Marker | None:
    """Read an environment marker."""
    value = getters.string(item)
    if value is None:
        return None
    try:
        return Marker(value)
    except InvalidMarker as error:
        reason = str(error).partition("\n")[0]
        item.fault(f"{value!r} is not a marker: {reason}")
        return None


def upload_time(item: Item) -> str | None:
    """Read a date, a time with a zone, or a span; return what uv understands."""
    value = item.value
    if isinstance(value, str) and parse_span(value) is not None:
        return value
    written = value.isoformat() if isinstance(value, dt.date) else value
    match = re.fullmatch(_TIME, written) if isinstance(written, str) else None
    if match is not None:
        day, clock, fraction, zone = match.groups(default="")
        try:
            # Python 3.10 reads neither Z nor any number of digits of a second.
            dt.datetime.fromisoformat(day + clock + zone.replace("Z", "+00:00"))
            is_time = bool(clock) == bool(zone) and bool(clock or not fraction)
        except ValueError:
            is_time = False
        if is_time:
            return match[0]
    item.expect(
        "a date or a time with its zone, such as 2026-11-01 or 2026-11-01T00:00:00Z,"
        ' or a span, such as "7 days"'
    )
    return None


def stage_name(item: Item) -> str | None:
    """Read the name of a stage."""
    value = getters.string(item)
    if value is None:
        return None
    if not _STAGE_NAME.fullmatch(value):
        item.expect("a name of lower-case letters, digits, '-' and '_'")
    elif value in _RESERVED:
        item.fault(f"{value!r} is the name of {_RESERVED[value]}; choose another")
    elif len(value) > _MAX_NAME:
        item.fault(f"longer than {_MAX_NAME} letters, and files are named by it")
    return value


def config_setting(item: Item) -> str | tuple[str, ...] | None:
    """Read the value of a PEP 517 config setting."""
    if isinstance(item.value, list):
        return getters.list_of(getters.string)(item)
    if isinstance(item.value, str):
        return item.value
    item.expect("a string or a list of strings")
    return None


def jobs(item: Item) -> int | None:
    """Read a number of jobs; ``auto`` is None."""
    value = item.value
    if type(value) is int and value > 0:
        return value
    if value != "auto":
        item.expect('"auto" or a number above 0')
    return None


def shards(item: Item) -> int | None:
    """Read into how many shards a build is divided."""
    if type(item.value) is int and item.value > 0:
        return item.value
    item.expect("a number above 0")
    return None


def _quantity(parse: Callable[[str], int | None], kind: str) -> Getter[int]:
    """Return a getter for a string with a number above 0 and a unit."""

    def read(item: Item) -> int | None:
        number = parse(item.value) if isinstance(item.value, str) else None
        if not number:
            item.expect(kind)
        return number or None

    return read


memory = _quantity(getters.parse_size, 'a size such as "4GB"')
timeout = _quantity(getters.parse_duration, 'a time such as "5h" or "90min"')


def network(item: Item) -> Network | None:
    """Read whether a stage's build backends may use the network."""
    value = item.value
    if isinstance(value, bool):
        return "on" if value else "off"
    if value == "require-off":
        return "require-off"
    item.expect('true, false or "require-off"')
    return None


def sandbox(item: Item) -> FileRules | None:
    """Read whether a stage's build backends reach only some files."""
    value = item.value
    if isinstance(value, bool):
        return "on" if value else "off"
    if value == "require":
        return "require"
    item.expect('true, false or "require"')
    return None


def tool(item: Item) -> str | None:
    """Read the name of a program, or a command of several words."""
    value = getters.text(item)
    if value is None:
        return None
    try:
        words = shlex.split(value)
    except ValueError:  # a quote that isn't closed
        words = []
    has_blanks = bool(words) and len(words[0].split()) != 1
    if not words or has_blanks or value != " ".join(value.split()):
        item.expect("a program, or a command such as 'pkg-config --modversion cairo'")
        return None
    return value


def compiler_cache(item: Item) -> CompilerCache | None:
    """Read which compiler cache builds use."""
    if item.value is False:
        return "off"
    known: tuple[CompilerCache, ...] = ("auto", "ccache", "sccache")
    for name in known:
        if item.value == name:
            return name
    item.expect('"auto", "ccache", "sccache" or false')
    return None


def uv_settings(document: Document) -> Mapping[str, Any]:
    """Read ``[tool.uv]``; check the form of the settings in use here."""
    item = document.find("tool", "uv")
    settings = None if item is None else getters.raw_table(item)
    if item is None or settings is None:
        return {}
    for name, getter in _UV.items():
        if name in settings:
            getter(item.child(name, settings[name]))
    return settings if document.is_sound("tool", "uv") else {}


def uv_index(item: Item) -> None:
    """Check an index of ``[tool.uv]``."""
    index = getters.raw_table(item)
    if index is None:
        return
    if "url" not in index:
        item.fault("url is missing")
    for key in ("name", "url"):
        if key in index:
            getters.string(item.child(key, index[key]))


def uv_sources(item: Item) -> None:
    """Check the sources of ``[tool.uv]``."""
    for name, source in (getters.raw_table(item) or {}).items():
        child = item.child(name, source)
        if isinstance(source, list):
            getters.list_of(uv_source, "tables")(child)
        else:
            uv_source(child)


def uv_source(item: Item) -> None:
    """Check an entry of the sources of ``[tool.uv]``."""
    source = getters.raw_table(item)
    for key in ("extra", "git", "group", "index", "marker", "path", "url"):
        if source is not None and key in source:
            getters.string(item.child(key, source[key]))


def uv_requirement(item: Item) -> None:
    """Check a requirement of ``[tool.uv]``, alone or in a table with more."""
    if isinstance(item.value, Mapping):
        text = item.value.get("requirement")
        requirement(item.child("requirement", text))
    else:
        requirement(item)


def uv_metadata(item: Item) -> None:
    """Check an entry of ``dependency-metadata``."""
    entry = getters.raw_table(item)
    if entry is not None:
        getters.string(item.child("name", entry.get("name")))
        if "requires-dist" in entry:
            requirements(item.child("requires-dist", entry["requires-dist"]))


# The settings of uv that we use ourselves; uv checks the rest.
_UV: Mapping[str, Getter[Any]] = {
    "build-constraint-dependencies": getters.list_of(uv_requirement),
    "config-settings": getters.mapping_of(config_setting, "strings"),
    "config-settings-package": getters.mapping_of(
        getters.mapping_of(config_setting, "strings"), "tables"
    ),
    "conflicts": getters.list_of(getters.list_of(getters.raw_table, "tables"), "lists"),
    "dependency-metadata": getters.list_of(uv_metadata, "tables"),
    "extra-build-dependencies": getters.mapping_of(
        getters.list_of(uv_requirement), "lists"
    ),
    "extra-build-variables": getters.mapping_of(env, "tables"),
    "extra-index-url": getters.list_of(getters.string),
    "find-links": getters.list_of(getters.string),
    "index": getters.list_of(uv_index, "tables"),
    "index-url": getters.string,
    "offline": getters.boolean,
    "pip": getters.raw_table,
    "sources": uv_sources,
}
