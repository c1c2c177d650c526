"""Names and passwords: taken out of URLs, found again for them, shown to nobody."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from nox_buildstages.model import Login

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_USERINFO = re.compile(r"(?<=http://|ttps://)[^/\s?#]+@")
_REQUIREMENT = re.compile(r"\s*[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*@")
_LOCATION = re.compile(r"(git\+)?(https?://\S+)")
_REFUSAL = re.compile(
    "lack of valid authentication|40[13] (Unauthorized|Forbidden)"
    "|could not read (Username|Password)|Authentication failed"
)
_VARIABLE = re.compile(r"(?:\$\{|%24%7B)([A-Z0-9_]+)(?:\}|%7D)")  # escaped, too
DEFAULT_PORTS = {"http": 80, "https": 443}
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY)S?$", re.IGNORECASE)


LOGIN_HINT = (
    "give the server a name and a password: for an index named NAME by"
    " UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD, for any host by ~/.netrc"
)
"""What to do where a server doesn't know us."""


def parse_login(url: str) -> Login | None:
    """Return the login that a URL holds; None where it holds none."""
    found = _USERINFO.search(url)
    if found is None:
        return None
    name, colon, password = found[0][:-1].partition(":")
    return Login(
        url=strip_logins(url),
        name=unquote(name),
        password=unquote(password) if colon else None,
    )


def strip_logins(text: str) -> str:
    """Return a text with names and passwords taken out of its http(s) URLs.

    The name in a URL of ssh stays: it is no secret, and needed.
    """
    return _USERINFO.sub("", text)


def redact(text: str) -> str:
    """Return a text with the credentials in its URLs made unreadable."""
    return re.sub(r"(?<=://)(?!git@)[^/\s]+@", "****@", text)


def is_auth_failure(text: str) -> bool:
    """Whether uv or git say that a server doesn't know us."""
    return _REFUSAL.search(text) is not None


def without_any(value: Any) -> Any:  # noqa: ANN401 - whatever TOML and JSON hold
    """Return a value with names and passwords taken out of all URLs in it."""
    if isinstance(value, str):
        return strip_logins(value)
    if isinstance(value, Mapping):
        return {key: without_any(value[key]) for key in value}
    return list(map(without_any, value)) if isinstance(value, (list, tuple)) else value


def redact_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables as they may be kept and shown.

    One that is a secret by its name has a digest in place of its value.
    """
    return {
        name: _digest(value) if _SECRET_NAME.search(name) else strip_logins(value)
        for name, value in variables.items()
    }


def extract_logins(
    document: Mapping[str, Any],
) -> tuple[Mapping[str, Any], tuple[Login, ...]]:
    """Take the logins out of the requirements and the sources of a pyproject.toml.

    Its indexes keep theirs.

    Returns:
        The document without them, and they, each with its URL.
    """
    found: list[Login] = []
    clean = _cleaned(document, found, anywhere=False)
    tool = clean.get("tool")
    settings = tool.get("uv") if isinstance(tool, dict) else None
    if isinstance(settings, dict) and "sources" in settings:
        settings["sources"] = _cleaned(settings["sources"], found, anywhere=True)
    return clean, tuple(dict.fromkeys(found))


def expand_variables(
    logins: Iterable[Login], outer: Mapping[str, str]
) -> tuple[Login, ...]:
    """Return logins with the values of variables in place of ``${NAME}``.

    As uv does in the URL of a requirement, where a value is a part of the URL, and
    a variable that isn't set stays as it is written.
    """

    def value(match: re.Match[str]) -> str:
        return outer.get(match[1], match[0])

    urls = (_VARIABLE.sub(value, login.full_url) for login in logins)
    return tuple(login for login in map(parse_login, urls) if login is not None)


def git_variables(logins: Iterable[Login], outer: Mapping[str, str]) -> dict[str, str]:
    """Return variables that let git know logins, itself and its submodules.

    The first login of a host is for all that is on it.

    Args:
        logins: Of repositories and, with no harm, of other URLs.
        outer: The variables that git sees else; its settings there stay.
    """
    realms: dict[object, Login] = {}
    own = [login for login in logins if urlsplit(login.url).scheme in DEFAULT_PORTS]
    for login in own:
        parts = urlsplit(login.url)
        host = replace(login, url=f"{parts.scheme}://{parts.netloc}/")
        realms.setdefault(origin_of(login.url), host)
    known = [*realms.values(), *own]
    if not known:
        return {}
    start = int(outer.get("GIT_CONFIG_COUNT") or 0)
    variables = {"GIT_CONFIG_COUNT": str(start + len(known))}
    for number, login in enumerate(known, start):
        variables[f"GIT_CONFIG_KEY_{number}"] = f"url.{login.full_url}.insteadOf"
        variables[f"GIT_CONFIG_VALUE_{number}"] = login.url
    return variables


def _cleaned(value: Any, found: list[Login], *, anywhere: bool) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {
            key: _cleaned(item, found, anywhere=anywhere) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_cleaned(item, found, anywhere=anywhere) for item in value]
    if not isinstance(value, str) or not (anywhere or _REQUIREMENT.match(value)):
        return value
    found.extend(_logins_in(value))
    return strip_logins(value)


def _logins_in(text: str) -> Iterator[Login]:
    """Yield the logins in a requirement or the URL of a source."""
    for git, url in _LOCATION.findall(text):
        login = parse_login(url.partition("#")[0])
        if login is not None:
            # A revision follows the path of a repository; its own login is gone.
            bare = re.sub("@[^/]*$", "", login.url) if git else login.url
            yield replace(login, url=bare)


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL: what one login may be for."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


def _digest(value: str) -> str:
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}"
