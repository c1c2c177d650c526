"""Logins are stripped from URLs, and used again for the servers they belong to."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.indexes.credentials import Credentials
from nox_buildstages.indexes.url_secrets import (
    expand_variables,
    extract_logins,
    git_variables,
    is_auth_failure,
    parse_login,
    redact,
    redact_logins,
    strip_logins,
    strip_secrets,
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
def test_a_url_can_hold_a_login(url: str, login: Login | None) -> None:
    """The login of an http(s) URL ends at the last @ before the host."""
    assert parse_login(url) == login


def test_a_login_is_not_shown() -> None:
    """The repr shows neither password nor name, because a name can be a token."""
    assert "secret" not in repr(
        Login(url="https://h", name="secret", password="secret")
    )


def test_a_login_makes_a_full_url() -> None:
    """Special characters are escaped."""
    login = Login(url="https://h/r", name="a b", password="p@/:")
    assert login.full_url == "https://a%20b:p%40%2F%3A@h/r"
    assert parse_login(login.full_url) == login
    assert Login(url="https://h/", name="me").full_url == "https://me@h/"


def test_logins_are_stripped_from_texts_and_hidden() -> None:
    """In every URL of a text; the user name of an ssh URL isn't a login."""
    text = "a https://u:p@h/x git+http://t@h/ ssh://git@h/"
    assert strip_logins(text) == "a https://h/x git+http://h/ ssh://git@h/"
    assert redact(text) == "a https://****@h/x git+http://****@h/ ssh://git@h/"


def test_queries_are_hidden() -> None:
    """The query of an object store's URL can be a signature that gives access."""
    assert redact("see abfs://u:p@h/x?sv=1&sig=2 'https://h/?a'.") == (
        "see abfs://****@h/x?**** 'https://h/?****'."
    )
    assert redact("s3://bucket/x, what?") == "s3://bucket/x, what?"


def test_the_source_in_plan_and_manifest_keeps_its_query() -> None:
    """Without the query, the URL would be another file's."""
    url = "https://u:p@h/a.tar.gz?raw=1#sha256=00"
    assert redact_logins(url) == "https://****@h/a.tar.gz?raw=1#sha256=00"
    assert redact_logins("https://h/a?raw=1") == "https://h/a?raw=1"


def test_logins_are_stripped_from_values() -> None:
    """In all tables and lists."""
    value = {"a": [{"url": "https://u:p@h/"}, 1], "b": ("https://t@h/",), "c": None}
    clean = {"a": [{"url": "https://h/"}, 1], "b": ["https://h/"], "c": None}
    assert strip_logins(value) == clean


def test_variables_lose_their_secrets() -> None:
    """The digest still shows that a secret has changed."""
    kept = strip_secrets(
        {"HF_TOKEN": "abc", "URL": "https://u:p@h/", "CUDA_HOME": "/c"}
    )
    assert kept.pop("HF_TOKEN").startswith("sha256:")
    assert kept == {"URL": "https://h/", "CUDA_HOME": "/c"}
    assert strip_secrets({"A_TOKEN": "1"}) != strip_secrets({"A_TOKEN": "2"})


def test_logins_are_extracted_from_requirements_and_sources() -> None:
    """Indexes and other strings keep their logins."""
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
def test_a_faulty_document_has_no_logins(document: dict[str, object]) -> None:
    """The getters of the table report the faults."""
    assert extract_logins(document) == (document, ())


def test_variables_in_logins_are_expanded() -> None:
    """A value is a part of the URL; an unset variable stays as written."""
    login = Login(url="https://${HOST}/r", name="${USER}", password="${PASS}")
    outer = {"HOST": "h", "PASS": "a%40b"}
    known = Login(url="https://h/r", name="${USER}", password="a@b")
    assert expand_variables([login], outer) == (known,)
    token = Login(url="https://h/r", name="100%25")
    assert expand_variables([token], outer) == (token,)
    both = Login(url="https://h/r", name="${BOTH}")
    pair = Login(url="https://h/r", name="a", password="b")
    assert expand_variables([both], {"BOTH": "a:b"}) == (pair,)


def test_git_gets_logins_by_variables(tmp_path: Path) -> None:
    """The nearest login wins; the first of a host serves the host; settings stay."""
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
def test_an_auth_failure_is_recognized(text: str, *, refused: bool) -> None:
    """In the output of uv and of git."""
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
def test_a_login_is_sent_to_its_own_server_only(url: str, login: Login | None) -> None:
    """Among several logins the nearest path wins, then the first login."""
    known = Credentials(logins=(ONE, TWO, NAME), blocked=("https://h/barred/",))
    assert known.login_for(url) == login


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
def test_netrc_comes_last(
    tmp_path: Path, text: str, url: str, words: tuple[str, str | None] | None
) -> None:
    """Netrc adds a missing password; an unreadable netrc is ignored."""
    file = tmp_path / "netrc"
    file.write_text(text, "utf-8")
    found = Credentials(logins=(ONE, NAME), netrc=file).login_for(url)
    assert (found and (found.name, found.password)) == words
    assert Credentials(netrc=tmp_path / "none").login_for(url) is None
