"""Indexes and repositories that want a name and a password."""

from __future__ import annotations

import base64
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import uv

from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.environments.targets import Target
from nox_buildstages.errors import BuildStagesError, ResolutionError, SourceError
from nox_buildstages.indexes.url_secrets import git_variables, strip_logins
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
from nox_buildstages.model import ArchiveSource, GitSource, Interpreter, Login
from nox_buildstages.sources.sources import Sources
from nox_buildstages.store.key import Ingredient
from nox_buildstages.system.files import sha256_of
from nox_buildstages.system.process import run
from support.index import Index
from support.packages import make_sdist, make_tree, make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.pylock import Pylock

NAME = "me@home"
PASSWORD = "s3cr:t/@"  # noqa: S105 - it is one, of a test
UV = Path(uv.find_uv_bin())


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Index]:
    """Return an index that wants a login, with a wheel and an sdist."""
    with Index(tmp_path / "private", login=(NAME, PASSWORD)) as index:
        make_wheel(index.folder, "dep", "1.0")
        make_sdist(index.folder, "kernel", "1.0")
        yield index


@pytest.fixture
def outer(env: dict[str, str]) -> dict[str, str]:
    """Return variables that name no index at all."""
    return {k: v for k, v in env.items() if k != "UV_DEFAULT_INDEX"}


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    return probe_interpreter(
        Path(sys.executable), runner=run, cache=tmp_path_factory.mktemp("it")
    )


@dataclass(frozen=True, kw_only=True)
class CellProject:
    """A project, as far as its indexes go, and an environment."""

    folder: Path
    interpreter: Interpreter
    indexes: Indexes

    def lock(self, *requirements: str, **fields: Any) -> Pylock:  # noqa: ANN401
        """Resolve what is wanted."""
        resolver = Resolver(
            uv=UV,
            python=Path(sys.executable),
            target=Target(interpreter=self.interpreter, python=Path(sys.executable)),
            runner=run,
            indexes=self.indexes,
        )
        question = Question(name="kernels", requirements=requirements, **fields)
        return resolver.resolve(question)

    def sync(self, lock: Pylock, wheel: Path) -> None:
        """Install what a lock holds, which is that wheel."""
        location = self.folder / "venv"
        argv = [str(UV), "venv", "-q", "-p", sys.executable, str(location)]
        subprocess.run(argv, check=True)
        environment = Environment(
            location=location, bin=location / "bin", python=location / "bin/python"
        )
        path = self.folder / "pylock.test.toml"
        path.write_text(pylock.dump_pylock(lock), "utf-8")
        wanted = {"dep": Ingredient(version="1.0", sha256=sha256_of(wheel))}
        Syncer(uv=UV, runner=run, indexes=self.indexes).sync(environment, wanted, path)

    def fetch(self, source: ArchiveSource | GitSource) -> Path:
        """Unpack a source."""
        sources = Sources(
            self.indexes.root,
            self.folder / "cache",
            run,
            credentials=self.indexes.credentials(),
            git_variables=git_variables(self.indexes.logins, self.indexes.outer or {}),
        )
        return sources.unpack(source, self.folder / "tree")


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a login is said."""

    settings: dict[str, Any] = field(default_factory=dict)
    outer: dict[str, str] = field(default_factory=dict)
    netrc: str = ""

    def place(
        self,
        index: Index,
        tmp_path: Path,
        interpreter: Interpreter,
        outer: dict[str, str],
    ) -> CellProject:
        """Make a project that says it in this way."""
        words = {
            "URL": index.url,
            "FULL": index.url_with_login,
            "ROOT": str(tmp_path),
            "PASSWORD": PASSWORD,
            "NAME": NAME,
        }
        if self.netrc:
            line = f'machine 127.0.0.1 login "{NAME}" password "{PASSWORD}"\n'
            file = Path(filled(self.netrc, {**words, "HOME": outer["HOME"]}))
            file.write_text(line, "utf-8")
        indexes = Indexes(
            root=tmp_path,
            settings=filled(self.settings, words),
            outer={**outer, **filled(self.outer, words)},
        )
        return CellProject(folder=tmp_path, interpreter=interpreter, indexes=indexes)


def filled(value: Any, words: dict[str, str]) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, words) for item in value]
    for word, meaning in words.items():
        if isinstance(value, str):
            value = value.replace(f"<{word}>", meaning)
    return value


PLAIN = {"name": "my-own", "url": "<URL>", "default": True}
BY_NAME = {
    "UV_INDEX_MY_OWN_USERNAME": "<NAME>",
    "UV_INDEX_MY_OWN_PASSWORD": "<PASSWORD>",
}
WAYS = {
    "URL of an index": Way(settings={"index": [{**PLAIN, "url": "<FULL>"}]}),
    "URL of an explicit index": Way(
        settings={
            "index": [{"name": "own", "url": "<FULL>", "explicit": True}],
            "sources": {"dep": {"index": "own"}, "kernel": {"index": "own"}},
            "index-url": "http://127.0.0.1:1/",
        }
    ),
    "index-url": Way(settings={"index-url": "<FULL>"}),
    "extra-index-url": Way(
        settings={"extra-index-url": ["<FULL>"], "index-url": "<FULL>"}
    ),
    "pip.index-url": Way(settings={"pip": {"index-url": "<FULL>"}}),
    "variables of an index": Way(settings={"index": [PLAIN]}, outer=BY_NAME),
    "authenticate": Way(
        settings={"index": [{**PLAIN, "authenticate": "always"}]}, outer=BY_NAME
    ),
    "an index named outside": Way(
        outer={**BY_NAME, "UV_DEFAULT_INDEX": "my-own=<URL>"}
    ),
    "UV_DEFAULT_INDEX": Way(outer={"UV_DEFAULT_INDEX": "<FULL>"}),
    "UV_INDEX_URL": Way(outer={"UV_INDEX_URL": "<FULL>"}),
    "UV_INDEX": Way(outer={"UV_INDEX": "<FULL> other=<FULL>"}),
    "UV_EXTRA_INDEX_URL": Way(outer={"UV_EXTRA_INDEX_URL": "<FULL> <FULL>"}),
    "NETRC": Way(
        settings={"index": [PLAIN]},
        outer={"NETRC": "<ROOT>/netrc"},
        netrc="<ROOT>/netrc",
    ),
    "NETRC, relative": Way(
        settings={"index": [PLAIN]},
        outer={"NETRC": "my.netrc"},
        netrc="<ROOT>/my.netrc",
    ),
    "~/.netrc": Way(settings={"index": [PLAIN]}, netrc="<HOME>/.netrc"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_private_index_is_read_whichever_way_its_login_is_said(
    way: Way,
    private: Index,
    tmp_path: Path,
    interpreter: Interpreter,
    outer: dict[str, str],
) -> None:
    """For locking, for installing and for sources; the lock doesn't tell it."""
    place = way.place(private, tmp_path, interpreter, outer)
    answer = place.lock("dep")
    assert_secret_free(pylock.dump_pylock(answer))
    place.sync(answer, private.folder / "dep-1.0-py3-none-any.whl")
    assert "/files/dep-1.0-py3-none-any.whl" in private.requests
    (package,) = place.lock("kernel", sources=("kernel",)).packages
    source = pylock.source_of(package)
    assert isinstance(source, ArchiveSource)
    assert_secret_free(source.location)
    assert (place.fetch(source) / "pyproject.toml").is_file()


def assert_secret_free(text: str) -> None:
    for word in (PASSWORD, "s3cr", "me@home", "me%40home"):
        assert word not in text


WRONG = {
    "a wrong password": Way(
        settings={"index": [PLAIN]},
        outer={**BY_NAME, "UV_INDEX_MY_OWN_PASSWORD": "<PASSWORD>wrong"},
    ),
    "a password that may not be sent": Way(
        settings={"index": [{**PLAIN, "authenticate": "never"}]},
        netrc="<HOME>/.netrc",
    ),
    "no password": Way(settings={"index": [PLAIN]}),
}


@pytest.mark.parametrize("way", WRONG.values(), ids=WRONG)
def test_a_refused_login_is_told(
    way: Way,
    private: Index,
    tmp_path: Path,
    interpreter: Interpreter,
    outer: dict[str, str],
) -> None:
    """Each error names the index or the file, and what to do; never the password."""
    place = way.place(private, tmp_path, interpreter, outer)
    with pytest.raises(ResolutionError) as locking:
        place.lock("dep")
    assert private.url in str(locking.value)
    right = WAYS["UV_DEFAULT_INDEX"].place(private, tmp_path, interpreter, outer)
    wheel = private.folder / "dep-1.0-py3-none-any.whl"
    with pytest.raises(BuildStagesError) as syncing:
        place.sync(right.lock("dep"), wheel)
    assert private.file_url(wheel.name) in str(syncing.value)
    sdist = private.folder / "kernel-1.0.tar.gz"
    location = private.file_url(sdist.name)
    with pytest.raises(SourceError) as fetching:
        place.fetch(ArchiveSource(location=location, sha256=sha256_of(sdist)))
    assert f"{location} (sha256:" in str(fetching.value)
    for caught in (locking, syncing, fetching):
        message = str(caught.value)
        assert "UV_INDEX_NAME_USERNAME" in message.splitlines()[-1]
        assert_secret_free(message)


def test_a_login_in_the_url_of_a_wheel_is_used_and_not_locked(
    private: Index, tmp_path: Path, interpreter: Interpreter, outer: dict[str, str]
) -> None:
    """It is the declaration that knows it; the lock has the URL without."""
    url = private.file_url("dep-1.0-py3-none-any.whl")
    login = Login(url=url, name=NAME, password=PASSWORD)
    indexes = Indexes(root=tmp_path, outer=outer, logins=(login,))
    place = CellProject(folder=tmp_path, interpreter=interpreter, indexes=indexes)
    for written in (url, login.full_url):
        answer = place.lock(f"dep @ {written}")
        assert_secret_free(pylock.dump_pylock(answer))
        assert url in pylock.dump_pylock(answer)
    place.sync(answer, private.folder / "dep-1.0-py3-none-any.whl")


def test_the_login_of_find_links_is_known_when_its_files_are_installed(
    private: Index, tmp_path: Path, interpreter: Interpreter, outer: dict[str, str]
) -> None:
    """Its page isn't read again for that."""
    wheel = private.folder / "dep-1.0-py3-none-any.whl"
    right = WAYS["UV_DEFAULT_INDEX"].place(private, tmp_path, interpreter, outer)
    answer = right.lock("dep")
    private.requests.clear()
    settings = {"find-links": [private.url_with_login]}
    indexes = Indexes(root=tmp_path, outer=outer, settings=settings)
    place = CellProject(folder=tmp_path, interpreter=interpreter, indexes=indexes)
    place.sync(answer, wheel)
    assert set(private.requests) == {f"/files/{wheel.name}"}


def test_another_server_that_one_is_sent_to_learns_nothing(
    private: Index,
    index: Index,
    tmp_path: Path,
    interpreter: Interpreter,
    outer: dict[str, str],
) -> None:
    """A login is for the server that it was said for."""
    sdist = make_sdist(index.folder, "moved", "1.0")

    class Redirecting(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(302)
            self.send_header("Location", index.file_url(sdist.name))
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    seen: list[str | None] = []
    with served(Redirecting) as url:
        settings = {"index": [{"name": "own", "url": url.replace("://", "://u:p@")}]}
        indexes = Indexes(root=tmp_path, settings=settings, outer=outer)
        place = CellProject(folder=tmp_path, interpreter=interpreter, indexes=indexes)
        source = ArchiveSource(location=f"{url}x.tar.gz", sha256=sha256_of(sdist))
        place.fetch(source)
    assert seen == ["Basic dTpw"]
    assert index.authorizations == []
    assert private.authorizations == []


@contextmanager
def served(handler: Any) -> Iterator[str]:  # noqa: ANN401 - what the server takes
    """Serve in a thread, and yield the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class Guarded(SimpleHTTPRequestHandler):
    """Serves a folder to who has the token."""

    def do_GET(self) -> None:
        """Let in or turn away."""
        secret = base64.b64encode(b"s3cr3t:").decode()
        if self.headers["Authorization"] == f"Basic {secret}":
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """Serve a repository with a submodule on the same server, and yield its URL."""

    def git(*argv: str | Path) -> None:
        user = ("-c", "user.name=a", "-c", "user.email=a@example.invalid")
        allow = ("-c", "protocol.file.allow=always")
        command = ["git", *user, *allow, *map(str, argv)]
        subprocess.run(command, check=True, capture_output=True)

    www = tmp_path / "www"
    for name in ("inner", "kernel"):
        tree = make_tree(tmp_path / "trees" / name, name, "1.0")
        git("init", "-q", "-b", "main", tree)
        git("-C", tree, "add", ".")
        git("-C", tree, "commit", "-q", "-m", "first")
        if name == "kernel":
            git("-C", tree, "submodule", "add", "../inner", "third_party")
            git("-C", tree, "commit", "-q", "-m", "second")
        git("clone", "-q", "--bare", tree, www / name)
        git("-C", www / name, "update-server-info")
    with served(partial(Guarded, directory=str(www))) as url:
        yield f"{url}kernel"


def test_the_token_of_a_repository_is_used_and_not_locked(
    repository: str, tmp_path: Path, interpreter: Interpreter, outer: dict[str, str]
) -> None:
    """To choose a commit and to fetch it, its submodules too; no file keeps it."""
    logins = (Login(url=repository, name="s3cr3t"),)
    indexes = Indexes(root=tmp_path, outer=outer, logins=logins)
    place = CellProject(folder=tmp_path, interpreter=interpreter, indexes=indexes)
    answer = place.lock(f"kernel @ git+{repository}@main", sources=("kernel",))
    source = pylock.source_of(answer.packages[0])
    assert isinstance(source, GitSource)
    assert source.url == repository == strip_logins(repository)
    tree = place.fetch(source)
    assert (tree / "third_party/pyproject.toml").is_file()
    kept = [*tree.rglob("*"), *place.folder.joinpath("cache").rglob("*")]
    files = [path for path in kept if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if b"s3cr3t" in path.read_bytes()]


def test_a_repository_that_refuses_is_told(
    repository: str, tmp_path: Path, interpreter: Interpreter, outer: dict[str, str]
) -> None:
    """By uv's git and by ours; the message names it and not the token."""
    logins = (Login(url=repository, name="s3cr3t-wrong"),)
    indexes = Indexes(root=tmp_path, outer=outer, logins=logins)
    place = CellProject(folder=tmp_path, interpreter=interpreter, indexes=indexes)
    names = ("kernel",)
    with pytest.raises(ResolutionError) as locking:
        place.lock(f"kernel @ git+{repository}", sources=names)
    with pytest.raises(SourceError) as fetching:
        place.fetch(GitSource(url=repository, commit="0" * 40))
    for caught in (locking, fetching):
        message = str(caught.value)
        assert repository in message
        assert "~/.netrc" in message
        assert "s3cr3t" not in message


@pytest.mark.parametrize(
    ("name", "value", "moved"),
    [
        ("UV_FIND_LINKS", "a,https://h/x,,/b", "/project/a,https://h/x,/b"),
        ("UV_DEFAULT_INDEX", "a b", "/project/a b"),
        ("UV_INDEX_URL", "", ""),
        ("UV_CACHE_DIR", "a=b", "/project/a=b"),
        ("NETRC", "netrc", "/project/netrc"),
        ("UV_INDEX_OWN_USERNAME", "a", "a"),
    ],
)
def test_paths_in_variables_are_those_of_the_project(
    name: str, value: str, moved: str
) -> None:
    """Where uv is run makes no difference; URLs and the rest stay."""
    indexes = Indexes(root=Path("/project"), outer={name: value, "UV_PROJECT": "x"})
    assert indexes.uv_variables() == {name: moved}


def test_indexes_from_outside_come_after_those_of_the_project(tmp_path: Path) -> None:
    """So none has a package that the project takes from its own, nor takes a name."""
    user = tmp_path / "config/uv/uv.toml"
    user.parent.mkdir(parents=True)
    text = 'index = [{ url = "c", default = true }, { name = "own", url = "x" }]'
    user.write_text(f'{text}\nindex-url = "x"\n')
    outer = {
        "UV_INDEX": "more=a  own=evil https://h/?a=b",
        "UV_EXTRA_INDEX_URL": "b",
        "UV_DEFAULT_INDEX": "evil",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    own = {"name": "own", "url": "/own", "default": True}
    root = Path("/project")
    indexes = Indexes(root=root, outer=outer, settings={"index": [own]})
    settings = indexes.resolution_settings()
    assert settings["index"] == [
        {**own, "default": False},
        {"name": "more", "url": "/project/a", "default": False},
        {"url": "https://h/?a=b", "default": False},
        {"url": "/project/b", "default": False},
        {"url": f"{user.parent}/c", "default": True},
    ]
    assert "index-url" not in settings
    variables = indexes.uv_variables()
    assert variables.keys() & outer.keys() == {"XDG_CONFIG_HOME"}
    assert [name for name, _ in indexes.find_idle_variables()] == [
        "UV_DEFAULT_INDEX",
        "own of UV_INDEX",
    ]
