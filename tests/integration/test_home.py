"""What a build gets of the user's home: toolchains and mirrors, but no login."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.builder.diagnosis.hints import find_hint
from nox_buildstages.builder.diagnosis.situation import Situation
from nox_buildstages.builder.home import HomeSettings, read_home
from nox_buildstages.reader import parse_toml
from nox_buildstages.system.process import Command, run

if TYPE_CHECKING:
    from pathlib import Path


def read(home: Path, **outer: str) -> HomeSettings:
    own = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(home)}
    return read_home({**own, **outer}, run)


def write(home: Path, name: str, text: str) -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_empty_home_gives_nothing(tmp_path: Path) -> None:
    """No variable, no file, and nothing to talk about."""
    assert read(tmp_path) == HomeSettings()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (".rustup", "RUSTUP_HOME"),
        (".pyenv", "PYENV_ROOT"),
        (".asdf", "ASDF_DATA_DIR"),
        (".local/share/mise", "MISE_DATA_DIR"),
        (".volta", "VOLTA_HOME"),
    ],
)
def test_toolchains_are_found_in_the_home(
    tmp_path: Path, folder: str, name: str
) -> None:
    """Where their programs look for them by default, or where a variable says."""
    (tmp_path / folder).mkdir(parents=True)
    found = read(tmp_path)
    assert found.variables == {name: str(tmp_path / folder)}
    assert found.toolchains == (tmp_path / folder,)
    (tmp_path / "there").mkdir()
    found = read(tmp_path, **{name: str(tmp_path / "there")})
    assert found.toolchains == (tmp_path / "there",)


CARGO = """\
[source.crates-io]
replace-with = "ours"

[source.ours]
directory = "crates"

[registries.firm]
index = "sparse+https://me:secret@example.org/index/"
token = "secret"
credential-provider = ["cargo:token"]

[registry]
default = "firm"

[http]
cainfo = "/etc/ca.pem"

[build]
rustflags = ["-C", "target-cpu=native"]
"""


@pytest.mark.parametrize("name", ["config.toml", "config"])
def test_the_mirrors_of_cargo_hold_for_builds(tmp_path: Path, name: str) -> None:
    """Without logins, and without what would change the result."""
    write(tmp_path, f".cargo/{name}", CARGO)
    found = read(tmp_path)
    assert parse_toml(found.files[".cargo/config.toml"]) == {
        "source": {
            "crates-io": {"replace-with": "ours"},
            "ours": {"directory": str(tmp_path / "crates")},
        },
        "registries": {"firm": {"index": "sparse+https://example.org/index/"}},
        "registry": {"default": "firm"},
        "http": {"cainfo": "/etc/ca.pem"},
    }
    path = tmp_path / ".cargo" / name
    assert found.mirrors == (f"crates-io → ours ({path})",)
    assert sorted(found.left_out) == [
        f"[build] in {path}",
        f"registries.firm.credential-provider in {path}",
        f"registries.firm.token in {path}",
        f"the login of registries.firm.index in {path}",
    ]
    assert {str(tmp_path / "crates"), "/etc/ca.pem"} <= {*found.places}
    assert "secret" not in repr(found)


def test_the_programs_of_cargo_are_only_read(tmp_path: Path) -> None:
    """They may be links to rustup, which finds its toolchains elsewhere."""
    (tmp_path / ".cargo/bin").mkdir(parents=True)
    assert read(tmp_path).toolchains == (tmp_path / ".cargo/bin",)


def test_cargo_s_home_may_be_elsewhere(tmp_path: Path) -> None:
    """As in the images of Rust."""
    write(tmp_path, "cargo/config.toml", '[source.a]\nreplace-with = "b"\n')
    found = read(tmp_path, CARGO_HOME=str(tmp_path / "cargo"))
    assert found.mirrors == (f"a → b ({tmp_path / 'cargo/config.toml'})",)


@pytest.mark.parametrize("text", ["[", "source = 1", "source = { a = 1 }"])
def test_faulty_settings_of_cargo_stop_nothing(tmp_path: Path, text: str) -> None:
    """Cargo will say what it makes of them, if it runs at all."""
    write(tmp_path, ".cargo/config.toml", text)
    assert read(tmp_path).mirrors == ()


GIT = """\
[include]
    path = more
[user]
    name = me
[credential]
    helper = store
[url "https://me:secret@example.org/"]
    insteadOf = https://c.example/
[http "https://a.example/"]
    proxy = http://proxy.example:3128
    extraHeader = "Authorization: secret"
"""
MORE = '[url "file:///srv/git \\"x\\"/"]\n    insteadOf = https://a.example/\n'


def test_git_uses_the_same_urls_in_builds(tmp_path: Path) -> None:
    """As git itself reads them from what was written; logins are left out."""
    write(tmp_path, ".gitconfig", GIT)
    write(tmp_path, "more", MORE)
    found = read(tmp_path)
    assert found.mirrors == ('https://a.example/ → file:///srv/git "x"/ (git)',)
    assert "secret" not in repr(found)
    assert (len(found.left_out), len(found.other_mirrors)) == (2, 1)
    assert {*found.places} == {"http://proxy.example:3128", 'file:///srv/git "x"/'}
    build = tmp_path / "build"
    found.write(build)
    env = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(build)}
    env.pop("GIT_CONFIG_GLOBAL", None)
    listed = run(Command(argv=("git", "config", "--global", "--list"), env=env))
    assert listed.stdout.splitlines() == [
        'url.file:///srv/git "x"/.insteadof=https://a.example/',
        "http.https://a.example/.proxy=http://proxy.example:3128",
    ]


def test_npm_uses_the_same_registry_in_builds(tmp_path: Path) -> None:
    """Without logins."""
    text = "\ufeffregistry = https://npm.example/\n//npm.example/:_authToken=secret\n"
    text += "# x=y\nfund=false\n"
    write(tmp_path, ".npmrc", text)
    found = read(tmp_path)
    assert found.files == {".npmrc": "registry=https://npm.example/\n"}
    assert found.mirrors == (f"registry https://npm.example/ ({tmp_path / '.npmrc'})",)
    assert found.left_out == (f"//npm.example/:_authToken in {tmp_path / '.npmrc'}",)


def test_go_uses_the_same_proxy_in_builds(tmp_path: Path) -> None:
    """Wherever its settings are."""
    write(tmp_path, "env", "GOPROXY=https://go.example\nGOFLAGS=-x\nGONOSUMDB=*\n")
    found = read(tmp_path, GOENV=str(tmp_path / "env"))
    text = "GOPROXY=https://go.example\nGONOSUMDB=*\n"
    assert found.files == {".config/go/env": text}
    assert found.mirrors == (f"GOPROXY https://go.example ({tmp_path / 'env'})",)
    assert found.left_out == ()


def test_the_versions_of_asdf_hold_for_builds(tmp_path: Path) -> None:
    """Its shims find no program without them."""
    write(tmp_path, ".tool-versions", "rust 1.95.0\n")
    assert read(tmp_path).files == {".tool-versions": "rust 1.95.0\n"}


LINE = "warning: spurious network error: Could not resolve host: index.crates.example"


def hint(line: str, **known: Any) -> str:  # noqa: ANN401 - as the fields
    return find_hint([line], Situation(output="mine", stage="r", **known)).text


def test_the_public_registry_is_no_advice_if_there_is_a_mirror() -> None:
    """A firm's crates may have the names of public ones."""
    settings = HomeSettings(mirrors=("crates-io → {ours}",), left_out=("x.token in y",))
    found = hint(LINE, is_offline=True, home=settings)
    assert "crates-io → {ours}" in found
    assert "network = true" not in found
    assert found.endswith("\nsettings that builds don't get: x.token in y")
    assert "network = true" in hint(LINE, is_offline=True)


@pytest.mark.parametrize(
    ("name", "text", "is_mirror"),
    [
        (".conan2/remotes.json", '{"url": "https://conan.example/"}', True),
        (".conan2/remotes.json", '{"url": "https://center2.conan.io"}', False),
        (".m2/settings.xml", "<mirrors><mirror>x</mirror></mirrors>", True),
        (".m2/settings.xml", "<settings/>", False),
        (".config/pip/pip.conf", "[global]\nindex-url = https://a.example", True),
        (".config/pip/pip.conf", "[global]\ntimeout = 60", False),
        (".curlrc", "proxy = a.example:80", True),
        (".gradle/init.gradle", "allprojects { repositories { } }", True),
        (".config/go/env", "GOPROXY=https://me:secret@a.example", True),
        (".npmrc", "registry=https://me:secret@a.example", True),
    ],
)
def test_mirrors_of_other_programs_are_named(
    tmp_path: Path, name: str, text: str, *, is_mirror: bool
) -> None:
    """Builds don't get them, so the network of the public servers is no advice."""
    write(tmp_path, name, text)
    settings = read(tmp_path)
    assert len(settings.other_mirrors) == int(is_mirror)
    offline = hint(LINE, is_offline=True, home=settings)
    online = hint(LINE, home=settings)
    assert ("network = true" in offline) != is_mirror
    assert (str(tmp_path / name) in offline) == is_mirror
    assert (str(tmp_path / name) in online) == is_mirror


def test_a_mirror_that_is_not_reached_is_named() -> None:
    """A stage that has the network needs no other setting."""
    found = hint(LINE, home=HomeSettings(mirrors=("crates-io → {ours}",)))
    assert found.endswith("check that its mirrors can be reached: crates-io → {ours}")
    assert hint(LINE).endswith("reach index.crates.example: see that this machine can")


def test_packages_that_cmake_finds_by_the_home_are_named(tmp_path: Path) -> None:
    """A build doesn't see CMake's user package registry."""
    write(tmp_path, ".cmake/packages/Fancy/1f", "fancy")
    line = '  configuration file provided by "Fancy" with any of the following names:'
    found = hint(line, home=read(tmp_path))
    assert f"builds don't see Fancy, which {tmp_path}/.cmake/packages/Fancy" in found
    assert 'CMAKE_PREFIX_PATH = "…"' in found


def test_a_login_that_is_left_out_is_named() -> None:
    """With a way to hand it over; nothing is said if there is none."""
    line = "error: failed to get successful HTTP response: 401"
    settings = HomeSettings(left_out=("registries.firm.token in y",))
    found = hint(line, home=settings)
    assert "pass-env of stage r" in found
    assert "registries.firm.token in y" in found
    assert hint(line) == ""
