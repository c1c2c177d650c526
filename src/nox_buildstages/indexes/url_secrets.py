"""Logins in URLs: parse them, strip them, hide them, hand them to git."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import unquote, urlsplit

from nox_buildstages.model import Login
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_PORTS = {"http": 80, "https": 443}

LOGIN_HINT = (
    "set a user name and a password: UV_INDEX_NAME_USERNAME and"
    " UV_INDEX_NAME_PASSWORD for an index named NAME, or ~/.netrc for any server"
)
"""The hint if a server refuses us."""

_USERINFO = r"(?<=http://|ttps://)[^/\s?#]+@"
_ANY_USERINFO = r"(?<=://)(?!git@)[^/\s]+@"
_QUERY = r"(?<=://)([^\s?'\"]*)\?[^\s'\"]+"
_REQUIREMENT = r"\s*[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*@"
_URL = r"(git\+)?(https?://\S+)"
_AUTH_FAILURE = (
    "lack of valid authentication|40[13] (Unauthorized|Forbidden)"
    "|could not read (Username|Password)|Authentication failed"
)
_VARIABLE = r"(?:\$\{|%24%7B)([A-Z0-9_]+)(?:\}|%7D)"  # escaped, too
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY)S?$", re.IGNORECASE)


def parse_login(url: str) -> Login | None:
    """Return the login in a URL, or None."""
    found = re.search(_USERINFO, url)
    if found is None:
        return None
    name, colon, password = found[0][:-1].partition(":")
    return Login(
        url=strip_logins(url),
        name=unquote(name),
        password=unquote(password) if colon else None,
    )


def redact(text: str) -> str:
    """Return a text for people to read: logins and queries of URLs become ``****``."""
    return re.sub(_QUERY, r"\1?****", redact_logins(text))


def redact_logins(text: str) -> str:
    """Return a text in which only logins of URLs become ``****``; queries stay."""
    return re.sub(_ANY_USERINFO, "****@", text)


@overload
def strip_logins(value: str) -> str: ...
@overload
def strip_logins(value: Mapping[str, Any]) -> dict[str, Any]: ...
@overload
def strip_logins(value: Any) -> Any: ...  # noqa: ANN401 - any value of TOML or JSON
def strip_logins(value: Any) -> Any:
    """Return a value for files, without the logins in http(s) URLs.

    The URLs keep working without the login. The user name of an ssh URL stays: ssh
    needs the name, and the name is no secret.
    """
    if isinstance(value, str):
        return re.sub(_USERINFO, "", value)
    if isinstance(value, Mapping):
        return {key: strip_logins(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [strip_logins(item) for item in value]
    return value


def strip_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for records, without secrets.

    A variable with the name of a secret gets a digest as the value: a change of the
    secret remains visible.
    """
    return {
        name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}"
        if _SECRET_NAME.search(name)
        else strip_logins(value)
        for name, value in variables.items()
    }


def hide_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for people to read, without secrets."""
    return {
        name: "****"
        if _SECRET_NAME.search(name) or name.endswith("_USERNAME")
        else redact(value)
        for name, value in variables.items()
    }


def is_auth_failure(output: str) -> bool:
    """Whether a server refuses us, according to the output of uv or git."""
    return re.search(_AUTH_FAILURE, output) is not None


def extract_logins(
    document: Mapping[str, Any],
) -> tuple[Mapping[str, Any], tuple[Login, ...]]:
    """Take the logins out of a pyproject.toml; return the document and the logins.

    Requirements and sources lose their logins; indexes keep them for uv.
    """
    logins: list[Login] = []

    def clean(value: Any, *, is_source: bool) -> Any:  # noqa: ANN401 - any TOML
        if isinstance(value, Mapping):
            return {key: clean(value[key], is_source=is_source) for key in value}
        if isinstance(value, list):
            return [clean(item, is_source=is_source) for item in value]
        if not isinstance(value, str):
            return value
        if not is_source and not re.match(_REQUIREMENT, value):
            return value
        for git, url in re.findall(_URL, value):
            login = parse_login(url.partition("#")[0])
            if login is not None:
                # A revision may follow the path of a repository: ``…/repo@v1``.
                bare = re.sub("@[^/]*$", "", login.url) if git else login.url
                logins.append(replace(login, url=bare))
        return strip_logins(value)

    cleaned = clean(document, is_source=False)
    tool = cleaned.get("tool")
    uv = tool.get("uv") if isinstance(tool, dict) else None
    if isinstance(uv, dict) and "sources" in uv:
        uv["sources"] = clean(uv["sources"], is_source=True)
    return cleaned, tuple(dict.fromkeys(logins))


def expand_variables(
    logins: Iterable[Login], outer: Mapping[str, str]
) -> tuple[Login, ...]:
    """Replace ``${NAME}`` in logins with the values of environment variables.

    As in uv, a value is a part of the URL, so a value may be a name and a password
    at once, and an unset variable stays as written.
    """

    def value(match: re.Match[str]) -> str:
        return outer.get(match[1], match[0])

    urls = (re.sub(_VARIABLE, value, login.full_url) for login in logins)
    return tuple(login for login in map(parse_login, urls) if login is not None)


def git_variables(logins: Iterable[Login], outer: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables with logins for git, submodules included.

    The first login of a host serves all repositories on the host. Settings of git in
    ``outer`` stay valid.
    """
    hosts: dict[object, Login] = {}
    own = [login for login in logins if origin_of(login.url)[0] in DEFAULT_PORTS]
    for login in own:
        parts = urlsplit(login.url)
        host = replace(login, url=f"{parts.scheme}://{parts.netloc}/")
        hosts.setdefault(origin_of(login.url), host)
    if not own:
        return {}
    usable = [*hosts.values(), *own]
    start = git_config_count(outer)
    variables = {"GIT_CONFIG_COUNT": str(start + len(usable))}
    for number, login in enumerate(usable, start):
        variables[f"GIT_CONFIG_KEY_{number}"] = f"url.{login.full_url}.insteadOf"
        variables[f"GIT_CONFIG_VALUE_{number}"] = login.url
    return variables


def git_config_count(variables: Mapping[str, str]) -> int:
    """Return the number of git's settings in variables; git refuses other texts."""
    text = variables.get("GIT_CONFIG_COUNT", "")
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL; a login is for a single origin.

    They are empty if the text is no URL: uv refuses it with its own words.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", None, None
    return parts.scheme, parts.hostname, port
