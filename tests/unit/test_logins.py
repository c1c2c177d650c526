"""Names and passwords are taken out of URLs, and known again where they are for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.indexes.credentials import Credentials
from nox_buildstages.indexes.logins import (
    expand_variables,
    extract_logins,
    git_variables,
    is_auth_failure,
    parse_login,
    redact,
    redact_variables,
    strip_logins,
    without_any,
)
from nox_buildstages.model import Login

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("https://h/simple", None),
        ("file:///a@b", None),
        ("git+ssh://git@h/r", None),
        ("https://h/a@b", None),
        ("https://h?q=a@b", None),
        ("https://me@h/", Login(url="https://h/", name="me")),
        ("https://me:@h/", Login(url="https://h/", name="me", password="")),
        ("http://a%20b:p%40%2F@h/", Login(url="http://h/", name="a b", password="p@/")),
        ("https://u:p@x@h/", Login(url="https://h/", name="u", password="p@x")),
    ],
)
def test_the_login_in_a_url_is_known(url: str, login: Login | None) -> None:
    """What is before the last @ of an http(s) URL's host is one."""
    assert parse_login(url) == login


def test_a_login_is_not_shown() -> None:
    """Neither name nor password is in what a debugger prints; a token is a name."""
    assert "secret" not in repr(
        Login(url="https://h", name="secret", password="secret")
    )


def test_a_login_goes_back_into_its_url() -> None:
    """What a URL doesn't take is escaped."""
    login = Login(url="https://h/r", name="a b", password="p@/:")
    assert login.full_url == "https://a%20b:p%40%2F%3A@h/r"
    assert parse_login(login.full_url) == login
    assert Login(url="https://h/", name="me").full_url == "https://me@h/"


def test_texts_lose_their_logins() -> None:
    """Each URL in them; ssh's name of a user is none."""
    text = "a https://u:p@h/x git+http://t@h/ ssh://git@h/"
    assert strip_logins(text) == "a https://h/x git+http://h/ ssh://git@h/"
    assert redact(text) == "a https://****@h/x git+http://****@h/ ssh://git@h/"


def test_values_lose_their_logins() -> None:
    """Whatever tables and lists they are in."""
    value = {"a": [{"url": "https://u:p@h/"}, 1], "b": ("https://t@h/",), "c": None}
    clean = {"a": [{"url": "https://h/"}, 1], "b": ["https://h/"], "c": None}
    assert without_any(value) == clean


def test_variables_are_recorded_without_secrets() -> None:
    """A changed one is still seen to have changed."""
    kept = redact_variables(
        {"HF_TOKEN": "abc", "URL": "https://u:p@h/", "CUDA_HOME": "/c"}
    )
    assert kept.pop("HF_TOKEN").startswith("sha256:")
    assert kept == {"URL": "https://h/", "CUDA_HOME": "/c"}
    assert redact_variables({"A_TOKEN": "1"}) != redact_variables({"A_TOKEN": "2"})


def test_requirements_and_sources_lose_their_logins() -> None:
    """Indexes keep theirs, and so does what is no requirement."""
    document: dict[str, Any] = {
        "project": {"dependencies": ["a[b] @ git+https://t@h/r.git@v1#egg=a", "b"]},
        "tool": {
            "uv": {
                "index": [{"url": "https://u:p@h/simple"}],
                "sources": {"c": [{"url": "https://u:p@h/c.whl"}], "d": {"path": "d"}},
            },
            "nox-buildstages": {"stage": [{"env": {"URL": "https://u:p@h/"}}]},
        },
    }
    clean, logins = extract_logins(document)
    requirements = ["a[b] @ git+https://h/r.git@v1#egg=a", "b"]
    assert clean["project"] == {"dependencies": requirements}
    assert clean["tool"]["uv"]["index"] == document["tool"]["uv"]["index"]
    sources = {"c": [{"url": "https://h/c.whl"}], "d": {"path": "d"}}
    assert clean["tool"]["uv"]["sources"] == sources
    assert clean["tool"]["nox-buildstages"] == document["tool"]["nox-buildstages"]
    assert logins == (
        Login(url="https://h/r.git", name="t"),
        Login(url="https://h/c.whl", name="u", password="p"),
    )


@pytest.mark.parametrize("document", [{}, {"tool": 1}, {"tool": {"uv": []}}])
def test_other_documents_stay(document: dict[str, object]) -> None:
    """What is wrong in them is told elsewhere."""
    assert extract_logins(document) == (document, ())


def test_variables_in_logins_count() -> None:
    """They are parts of a URL; one that isn't set stays as it is written."""
    login = Login(url="https://${HOST}/r", name="${USER}", password="${PASS}")
    outer = {"HOST": "h", "PASS": "a%40b"}
    known = Login(url="https://h/r", name="${USER}", password="a@b")
    assert expand_variables([login], outer) == (known,)
    token = Login(url="https://h/r", name="100%25")
    assert expand_variables([token], outer) == (token,)
    both = Login(url="https://h/r", name="${BOTH}")
    pair = Login(url="https://h/r", name="a", password="b")
    assert expand_variables([both], {"BOTH": "a:b"}) == (pair,)


def test_git_learns_logins_by_its_own_variables(tmp_path: Path) -> None:
    """The nearest one counts, the first of a host for all of it, and others' stay."""
    outer = {"GIT_CONFIG_COUNT": "1"}
    outer |= {"GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "me"}
    logins = (
        Login(url="https://h/one", name="a", password="p@"),
        Login(url="https://h/two", name="b"),
    )
    env = {**outer, **git_variables(logins, outer)}

    def git(*argv: str) -> str:
        command = ["git", *argv]
        run = subprocess.run
        done = run(command, env=env, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout.strip()

    assert git("ls-remote", "--get-url", "https://h/one") == "https://a:p%40@h/one"
    assert git("ls-remote", "--get-url", "https://h/two") == "https://b@h/two"
    assert git("ls-remote", "--get-url", "https://h/three") == "https://a:p%40@h/three"
    assert git("ls-remote", "--get-url", "https://h.x/one") == "https://h.x/one"
    assert git("config", "user.name") == "me"
    assert git_variables((), outer) == {}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("HTTP status client error (401 Unauthorized) for url (…)", True),
        ("lack of valid authentication credentials (403 Forbidden)", True),
        ("fatal: could not read Username for 'https://h'", True),
        ("fatal: Authentication failed for 'https://h/'", True),
        ("404 Not Found", False),
    ],
)
def test_a_refusal_is_known(text: str, *, refused: bool) -> None:
    """In the words of uv and of git."""
    assert is_auth_failure(text) is refused


ONE = Login(url="https://h/one/simple/", name="one", password="1")
TWO = Login(url="https://h/two/simple/", name="two", password="2")
NAME = Login(url="https://named/simple/", name="me")


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("https://h/two/files/a.whl", TWO),
        ("https://h/one/simple/a.whl", ONE),
        ("https://h/files/a.whl", ONE),
        ("https://h:443/two/a.whl", TWO),
        ("https://u:p@h/two/a.whl", TWO),
        ("https://named/a.whl", NAME),
        ("http://h/two/a.whl", None),
        ("https://h:8443/two/a.whl", None),
        ("https://h.x/two/a.whl", None),
        ("https://h/barred/a.whl", None),
        ("file:///two/a.whl", None),
    ],
)
def test_a_login_is_for_its_server_alone(url: str, login: Login | None) -> None:
    """Of several on a server it is that of the nearest path, else the first."""
    known = Credentials(logins=(ONE, TWO, NAME), barred=("https://h/barred/",))
    assert known.for_url(url) == login


@pytest.mark.parametrize(
    ("text", "url", "words"),
    [
        ("machine other login a password b", "https://other/x", ("a", "b")),
        ("machine named login me password b", "https://named/x", ("me", "b")),
        ("machine named login you password b", "https://named/x", ("me", None)),
        ("machine h login a password b", "https://h/one/x", ("one", "1")),
        ("default login a password b", "http://any:1/x", ("a", "b")),
        ("machine other login a", "https://x/", None),
        ("nonsense", "https://other/x", None),
    ],
)
def test_netrc_counts_last(
    tmp_path: Path, text: str, url: str, words: tuple[str, str | None] | None
) -> None:
    """It says what nobody else does; one that can't be read says nothing."""
    file = tmp_path / "netrc"
    file.write_text(text, "utf-8")
    found = Credentials(logins=(ONE, NAME), netrc=file).for_url(url)
    assert (found and (found.name, found.password)) == words
    assert Credentials(netrc=tmp_path / "none").for_url(url) is None
