"""Sources are fetched, verified and unpacked safely: archives, HTTP and git."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.errors import CommandError, HashMismatchError, SourceError
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource
from nox_buildstages.sources import trees
from nox_buildstages.sources.sources import Sources
from nox_buildstages.sources.trees import METADATA_FILES, find_caches
from nox_buildstages.system.process import Command, run
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nox_buildstages.model import Source
    from nox_buildstages.system.process import Completed

PYPROJECT = b"[build-system]\n"
MTIME = 1_000_000_000


@pytest.fixture(autouse=True)
def git_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.invalid")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def sources(root: Path, tmp_path: Path) -> Sources:
    return Sources(root, tmp_path / "cache", run)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "build" / "tree"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def in_project(root: Path, name: str, content: bytes) -> ArchiveSource:
    (root / name).write_bytes(content)
    return ArchiveSource(location=name, sha256=sha256(content))


# Archives ------------------------------------------------------------------------


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime, info.mode = kind, link, MTIME, 0o644
    return info


def tar_of(
    *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], mode: str = "w:gz"
) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(*members: tuple[str, int, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, mode, content in members:
            info = zipfile.ZipInfo(name, (2001, 9, 9, 1, 46, 40))
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return stream.getvalue()


SDIST = (
    entry("a-1/", tarfile.DIRTYPE),
    (entry("a-1/pyproject.toml"), PYPROJECT),
    (entry("a-1/sub/setup.py"), b""),
)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a-1.tar.gz", "w:gz"),
        ("a-1.tgz", "w:gz"),
        ("a-1.tar.bz2", "w:bz2"),
        ("a-1.tar.xz", "w:xz"),
        ("a-1.tar", "w"),
        ("no-suffix", "w:gz"),
    ],
)
def test_every_kind_of_tar_is_unpacked(
    sources: Sources, root: Path, target: Path, name: str, mode: str
) -> None:
    """The project's folder is returned; the content determines the kind."""
    project = sources.unpack(in_project(root, name, tar_of(*SDIST, mode=mode)), target)
    assert project == target / "a-1"
    assert (project / "pyproject.toml").read_bytes() == PYPROJECT
    assert (project / "pyproject.toml").stat().st_mtime == MTIME


def test_a_zip_keeps_executables_links_and_times(
    sources: Sources, root: Path, target: Path
) -> None:
    """Zipfile itself would drop them; all other mode bits are dropped."""
    content = zip_of(
        ("a-1/", 0o40755, b""),
        ("a-1/pyproject.toml", 0, PYPROJECT),
        ("a-1/configure", 0o104777, b"#!/bin/sh\n"),
        ("a-1/link", 0o120777, b"configure"),
    )
    project = sources.unpack(in_project(root, "a-1.zip", content), target)
    assert stat.S_IMODE((project / "configure").stat().st_mode) == 0o755
    assert stat.S_IMODE((project / "pyproject.toml").stat().st_mode) == 0o644
    assert (project / "link").readlink() == Path("configure")
    assert (project / "configure").stat().st_mtime == MTIME


def test_a_zip_without_a_date_is_unpacked(
    sources: Sources, root: Path, target: Path
) -> None:
    """Some tools write a month and a day of 0."""
    content = bytearray(zip_of(("a-1/pyproject.toml", 0, PYPROJECT)))
    for signature, offset in ((b"PK\x03\x04", 12), (b"PK\x01\x02", 14)):
        place = content.index(signature) + offset
        content[place : place + 2] = b"\0\0"
    project = sources.unpack(in_project(root, "a-1.zip", bytes(content)), target)
    assert (project / "pyproject.toml").is_file()


def test_a_tar_keeps_executables_and_links_inside(
    sources: Sources, root: Path, target: Path
) -> None:
    """No set-uid bits; hard links become files; the last duplicate counts."""
    script = entry("./a-1/configure")
    script.mode = 0o6755
    undated = entry("./a-1/undated")
    undated.mtime = -1
    content = tar_of(
        entry("./", tarfile.DIRTYPE),
        (script, b"#!/bin/sh\n"),
        entry("./a-1/sub/link", tarfile.SYMTYPE, "../configure"),
        entry("./a-1/hard", tarfile.LNKTYPE, "./a-1/configure"),
        (undated, b""),
        (entry("./a-1/twice"), b"first"),
        (entry("./a-1/twice"), b"second"),
    )
    project = sources.unpack(in_project(root, "a-1.tar.gz", content), target)
    assert stat.S_IMODE((project / "configure").stat().st_mode) == 0o755
    assert (project / "sub/link").read_bytes() == b"#!/bin/sh\n"
    assert (project / "hard").read_bytes() == b"#!/bin/sh\n"
    assert (project / "undated").stat().st_mtime == 0
    assert (project / "twice").read_bytes() == b"second"


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
PROJECT = (entry("a-1/pyproject.toml"), PYPROJECT)
EVIL = {
    "absolute path": (tar_of(entry("/tmp/evil")), "'/tmp/evil' has an absolute path"),  # noqa: S108
    "parent": (tar_of(entry("a-1/../../evil")), "evil' leads out of the archive"),
    "symlink out": (
        tar_of(entry("a-1/l", SYM, "../../x")),
        "'a-1/l' links to '../../x'",
    ),
    "absolute symlink": (
        tar_of(entry("a-1/l", SYM, "/etc")),
        "'a-1/l' links to '/etc'",
    ),
    "chain of symlinks": (
        tar_of(
            entry("a-1/b/c", tarfile.DIRTYPE),
            entry("a-1/b/c/top", SYM, "../../.."),
            entry("a-1/out", SYM, "b/c/top/../.."),
        ),
        "a-1/out",
    ),
    "behind a symlink": (
        tar_of(entry("a-1/l", SYM, "."), entry("a-1/l/evil")),
        "'a-1/l/evil' lies behind a link",
    ),
    "over a symlink": (
        tar_of(entry("a-1/l", SYM, "b"), (entry("a-1/l"), b"evil")),
        "'a-1/l' is there twice, once as a link",
    ),
    "hard link out": (tar_of(entry("a-1/h", HARD, "../x")), "'a-1/h' links to '../x'"),
    "absolute hard link": (tar_of(entry("a-1/h", HARD, "/x")), "'a-1/h' links to '/x'"),
    "hard link by symlink": (
        tar_of(entry("a-1/l", SYM, "b"), entry("a-1/h", HARD, "a-1/l")),
        "'a-1/h' links to 'a-1/l'",
    ),
    "hard link to nothing": (tar_of(entry("a-1/h", HARD, "a-1/x")), "No such file"),
    "device": (
        tar_of(entry("a-1/d", tarfile.CHRTYPE)),
        "'a-1/d' is a device or a pipe",
    ),
    "pipe": (tar_of(entry("a-1/f", tarfile.FIFOTYPE)), "'a-1/f' is a device or a pipe"),
    "no name": (tar_of(entry(".", SYM, "a")), "'.' has no name"),
    "zip: absolute path": (zip_of(("/tmp/evil", 0, b"")), "has an absolute path"),  # noqa: S108
    "zip: parent": (zip_of(("a-1/../../evil", 0, b"")), "leads out of the archive"),
    "zip: symlink out": (zip_of(("l", 0o120777, b"../x")), "'l' links to '../x'"),
    "zip: device": (zip_of(("d", 0o20666, b"")), "'d' is a device or a pipe"),
    "two folders": (
        tar_of(PROJECT, entry("b-1/setup.py")),
        "an sdist holds one folder at its top, this one a-1, b-1",
    ),
    "nothing": (tar_of(), "an sdist holds one folder at its top, this one nothing"),
    "not an archive": (b"<html>", "file could not be opened successfully"),
    "cut short": (tar_of(*SDIST)[:-30], "end-of-stream"),
    "zip cut short": (zip_of(("a-1/setup.py", 0, b"x"))[:-30], "not a zip file"),
}


def test_an_archive_can_be_unpacked_in_part(
    sources: Sources, root: Path, target: Path
) -> None:
    """All folders are created, so that the project is found."""
    content = tar_of(
        *SDIST, (entry("a-1/src/a.c"), b"int a;"), (entry("a-1/src/setup.py"), b"1")
    )
    source = in_project(root, "a-1.tar.gz", content)
    project = sources.unpack(source, target, only=METADATA_FILES)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*")}
    files = {"a-1/pyproject.toml", "a-1/sub/setup.py", "a-1/src/setup.py"}
    assert found == {"a-1", "a-1/sub", "a-1/src", *files}
    assert project == target / "a-1"
    within, aside = replace(source, subdirectory="src"), target.with_name("within")
    assert sources.unpack(within, aside, only=METADATA_FILES).name == "src"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_archive_with_links_is_unpacked_completely(
    sources: Sources, root: Path, target: Path, kind: bytes
) -> None:
    """A link can lead to metadata in a file of any name."""
    leads = "shared" if kind == tarfile.SYMTYPE else "a-1/shared"
    content = tar_of(
        (entry("a-1/shared"), PYPROJECT), entry("a-1/pyproject.toml", kind, leads)
    )
    project = sources.unpack(
        in_project(root, "a-1.tar.gz", content), target, only=METADATA_FILES
    )
    assert (project / "pyproject.toml").read_bytes() == PYPROJECT


@pytest.mark.parametrize("case", EVIL)
def test_an_evil_archive_is_refused_in_part_too(
    sources: Sources, root: Path, target: Path, case: str
) -> None:
    """All members are checked, even if few are wanted."""
    content, problem = EVIL[case]
    with pytest.raises(SourceError) as caught:
        sources.unpack(
            in_project(root, "a-1.tar.gz", content), target, only=METADATA_FILES
        )
    assert problem in caught.value.problem
    assert not target.exists()


@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "no filter"])
@pytest.mark.parametrize("case", EVIL)
def test_an_evil_or_broken_archive_is_refused(
    sources: Sources,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    *,
    filtered: bool,
) -> None:
    """No file remains anywhere; also without tarfile's filters."""
    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    content, problem = EVIL[case]
    source = in_project(sources.root, "a-1.tar.gz", content)
    before = sorted(target.parent.parent.rglob("*evil*"))
    with pytest.raises(SourceError) as caught:
        sources.unpack(source, target)
    assert problem in caught.value.problem
    assert str(caught.value).startswith("error: a-1.tar.gz (sha256:")
    assert not target.exists()
    assert sorted(target.parent.parent.rglob("*evil*")) == before


def test_a_project_at_the_top_is_accepted(
    sources: Sources, root: Path, target: Path
) -> None:
    """An archive from a URL may have no folder around the project."""
    content = tar_of((entry("setup.py"), b""), entry("src", tarfile.DIRTYPE))
    assert sources.unpack(in_project(root, "a.tar.gz", content), target) == target


def test_a_subdirectory_is_the_project(
    sources: Sources, root: Path, target: Path
) -> None:
    """It is relative to the folder in the archive, and part of the identity."""
    plain = in_project(root, "a-1.tar.gz", tar_of(*SDIST))
    source = ArchiveSource(
        location=plain.location, sha256=plain.sha256, subdirectory="sub"
    )
    assert sources.unpack(source, target) == target / "a-1/sub"
    assert sources.identity(source) == f"sha256:{plain.sha256}#sub"
    assert sources.identity(plain) == f"sha256:{plain.sha256}"


@pytest.mark.parametrize("subdirectory", ["gone", "../..", "pyproject.toml"])
def test_a_subdirectory_must_be_a_folder_inside(
    sources: Sources, root: Path, target: Path, subdirectory: str
) -> None:
    """A missing or outside folder is refused, and no file remains."""
    plain = in_project(root, "a-1.tar.gz", tar_of(*SDIST))
    source = ArchiveSource(
        location=plain.location, sha256=plain.sha256, subdirectory=subdirectory
    )
    with pytest.raises(SourceError, match=f"it has no folder {subdirectory}"):
        sources.unpack(source, target)
    assert not target.exists()


def test_an_existing_target_is_unchanged(
    sources: Sources, root: Path, target: Path
) -> None:
    """A tree is always fresh; the caller removes old trees."""
    target.mkdir(parents=True)
    (target / "kept").touch()
    with pytest.raises(FileExistsError):
        sources.unpack(in_project(root, "a-1.tar.gz", tar_of(*SDIST)), target)
    assert (target / "kept").exists()


# Downloads -----------------------------------------------------------------------


@dataclass
class Server:
    """Serves one file, and answers what it is told first."""

    content: bytes
    answers: list[int | str] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)
    port: int = 0

    def source(self, credentials: str = "") -> ArchiveSource:
        """Return what it serves, as a source."""
        at = f"{credentials}@" if credentials else ""
        url = f"http://{at}127.0.0.1:{self.port}/files/a-1.tar.gz#sha256=x"
        return ArchiveSource(location=url, sha256=sha256(self.content))

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers in its name."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.authorization.append(self.headers["Authorization"])
                answer = server.answers.pop(0) if server.answers else 200
                if answer == "hang up":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(200 if isinstance(answer, str) else answer)
                self.send_header("Content-Length", str(len(server.content)))
                self.end_headers()
                cut = 10 if answer == "cut" else len(server.content)
                self.wfile.write(server.content[:cut])

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(tar_of(*SDIST))
    with ThreadingHTTPServer(("127.0.0.1", 0), server.handler()) as http:
        server.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield server
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def cached(sources: Sources) -> list[str]:
    files = (path for path in sources.cache.rglob("*") if path.is_file())
    return [path.relative_to(sources.cache).as_posix() for path in files]


def test_an_archive_is_fetched_in_advance(sources: Sources, root: Path) -> None:
    """A failure is left to the one who unpacks it."""
    good = in_project(root, "a.tar.gz", b"content")
    bad = in_project(root, "b.tar.gz", b"content")
    root.joinpath("b.tar.gz").write_bytes(b"another content")
    for source in (good, bad):
        sources.prefetch(source)
    kept = [it for it in (sources.cache / "sources").glob("*/*") if it.is_file()]
    assert [it.read_bytes() for it in kept] == [b"content"]


def test_a_download_is_kept_under_its_hash(
    sources: Sources, server: Server, target: Path
) -> None:
    """The second tree comes from the cache."""
    sources.unpack(server.source(), target)
    sources.unpack(server.source(), target.with_name("again"))
    assert cached(sources) == [f"sources/{sha256(server.content)}/a-1.tar.gz"]
    assert len(server.authorization) == 1


def test_a_cached_file_is_not_trusted(
    sources: Sources, server: Server, target: Path
) -> None:
    """A changed file is fetched again."""
    sources.unpack(server.source(), target)
    file = sources.cache / cached(sources)[0]
    file.write_bytes(b"tampered")
    sources.unpack(server.source(), target.with_name("again"))
    assert file.read_bytes() == server.content


@pytest.mark.parametrize("location", ["a-1.tar.gz", "{root}/a-1.tar.gz", "{url}"])
def test_a_file_may_be_named_in_three_ways(
    sources: Sources, root: Path, target: Path, location: str
) -> None:
    """By a path relative to the project, an absolute path, or a file URL."""
    source = in_project(root, "a-1.tar.gz", tar_of(*SDIST))
    url = (root / "a-1.tar.gz").as_uri()
    source = ArchiveSource(
        location=location.format(root=root, url=url), sha256=source.sha256
    )
    assert sources.unpack(source, target).name == "a-1"


@pytest.mark.parametrize(
    ("name", "package"),
    [("Some_a-1.0.tar.gz", "-package some-a"), ("archive/main.zip", "")],
)
def test_a_file_with_another_hash_is_refused(
    sources: Sources, server: Server, target: Path, name: str, package: str
) -> None:
    """The error has both hashes and the command; the cache stays empty."""
    source = server.source("user:secret")
    location = source.location.replace("a-1.tar.gz", name)
    source = replace(source, location=location)
    server.content = b"something else"
    with pytest.raises(HashMismatchError) as caught:
        sources.unpack(source, target)
    assert caught.value.expected == source.sha256
    assert caught.value.found == sha256(b"something else")
    assert caught.value.hint.endswith(f"lock -- --upgrade{package}")
    assert "secret" not in str(caught.value)
    assert cached(sources) == []
    assert not target.exists()


@pytest.mark.parametrize(
    "answers", [[503], ["hang up", "cut", 429]], ids=["one 5xx", "three at once"]
)
def test_temporary_failures_are_retried(
    sources: Sources, server: Server, target: Path, answers: list[int | str]
) -> None:
    """Three failures in a row, of any kind."""
    server.answers = answers
    assert sources.unpack(server.source(), target).name == "a-1"


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([404], "can't be fetched: HTTP 404 Not Found"),
        ([500] * 4, "can't be fetched: HTTP 500 Internal Server Error"),
        (["cut"] * 4, "bytes early"),
    ],
)
def test_other_failures_are_errors(
    sources: Sources,
    server: Server,
    target: Path,
    answers: list[int | str],
    problem: str,
) -> None:
    """The error has the reason; pointless retries are avoided."""
    server.answers = [*answers]
    with pytest.raises(SourceError, match=problem):
        sources.unpack(server.source(), target)
    assert len(server.authorization) == len(answers)
    assert cached(sources) == []


def test_credentials_are_sent_and_never_shown(
    sources: Sources, server: Server, target: Path
) -> None:
    """The login of a URL goes to the server, not into a message."""
    server.answers = [401]
    source = server.source("user:p%40ss")
    with pytest.raises(SourceError, match="HTTP 401") as caught:
        sources.unpack(source, target)
    assert "p%40ss" not in str(caught.value)
    assert "://****@127.0.0.1" in str(caught.value)
    assert server.authorization == ["Basic dXNlcjpwQHNz"]


def test_offline_an_archive_comes_from_the_store_alone(
    sources: Sources, server: Server, root: Path, target: Path
) -> None:
    """The server isn't asked; the message has the setting, and the way out."""
    offline = replace(sources, offline="UV_OFFLINE=1")
    with pytest.raises(SourceError) as caught:
        offline.unpack(server.source(), target)
    problem = "can't be fetched: the network is off (UV_OFFLINE=1)"
    assert caught.value.problem == problem
    assert caught.value.hint.startswith("unset UV_OFFLINE")
    assert server.authorization == []
    sources.unpack(server.source(), target)
    offline.unpack(server.source(), target.with_name("again"))
    offline.unpack(in_project(root, "a.tar", server.content), target.with_name("file"))
    assert len(server.authorization) == 1


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("gone.tar.gz", "No such file"),
        ("ftp://127.0.0.1/a.tar.gz", "the scheme 'ftp' is none of"),
        ("http://127.0.0.1:1/a.tar.gz", "Connection refused"),
        ("http://[::1/a.tar.gz", "Invalid IPv6 URL"),
        ("file:///", "Is a directory"),
    ],
)
def test_an_unreachable_source_is_an_error(
    sources: Sources, target: Path, location: str, problem: str
) -> None:
    """Every kind of bad location has a message, and no file remains."""
    source = ArchiveSource(location=location, sha256="0" * 64)
    with pytest.raises(SourceError, match=problem):
        sources.unpack(source, target)
    assert not target.exists()


# Git -----------------------------------------------------------------------------

LARGE = hashlib.sha256(b"large").hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{LARGE}\nsize 5\n"
"""What git has in place of a file that git-lfs has."""


def git(cwd: Path, *argv: str) -> str:
    settings = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main")
    command = ["git", *settings, *argv]
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(repository: Path, **files: str) -> str:
    for name, content in files.items():
        (repository / name).write_text(content)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "x")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    folder = tmp_path / "upstream"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "sub").mkdir()
    (folder / "sub/setup.py").touch()
    commit(folder, version="1")
    git(folder, "tag", "v1")
    return folder


def head(repository: Path) -> str:
    return git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "../upstream"])
def test_a_commit_is_checked_out_with_its_history(
    sources: Sources, upstream: Path, target: Path, form: str
) -> None:
    """Even if the branch has moved; with tags for setuptools-scm."""
    old = head(upstream)
    commit(upstream, version="2")
    source = GitSource(url=form.format(path=upstream), commit=old)
    assert sources.unpack(source, target) == target
    assert (target / "version").read_text() == "1"
    assert git(target, "describe", "--tags") == "v1"
    assert head(target) == old
    assert sources.identity(source) == f"git:{old}"


def test_a_mirrored_commit_is_not_fetched(
    sources: Sources, upstream: Path, target: Path
) -> None:
    """A build continues without the server."""
    source = GitSource(url=str(upstream), commit=head(upstream), subdirectory="sub")
    assert sources.unpack(source, target) == target / "sub"
    assert sources.identity(source) == f"git:{source.commit}#sub"
    upstream.rename(upstream.with_name("away"))
    assert sources.unpack(source, target.with_name("again")).name == "sub"


def test_the_use_of_a_source_is_recorded(
    sources: Sources, upstream: Path, server: Server, target: Path
) -> None:
    """By the folder's time, for the pruning of unused sources."""
    of_git = GitSource(url=str(upstream), commit=head(upstream))
    kept: dict[str, Source] = {"git": of_git, "sources": server.source()}
    for name, source in kept.items():
        sources.unpack(source, target.with_name(f"first-{name}"))
        (folder,) = (it for it in (sources.cache / name).iterdir() if it.is_dir())
        os.utime(folder, (1, 1))
        sources.unpack(source, target.with_name(f"again-{name}"))
        assert time.time() - folder.stat().st_mtime < 60


def leave_locks(mirror: Path) -> None:
    for name in ("refs/heads/main.lock", "config.lock", "objects/pack/tmp_pack_x"):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).touch()


def empty_objects(mirror: Path) -> None:
    for path in (*mirror.glob("objects/??/*"), *mirror.glob("objects/pack/*.pack")):
        path.chmod(0o644)
        path.write_bytes(b"")


@pytest.mark.parametrize("damage", [leave_locks, empty_objects])
def test_what_a_killed_git_left_is_removed_or_fetched_again(
    sources: Sources, upstream: Path, target: Path, damage: Callable[[Path], None]
) -> None:
    """A mirror has nothing that can't be fetched; without the server it stays."""
    url = str(upstream)
    sources.unpack(GitSource(url=url, commit=head(upstream)), target)
    (mirror,) = (it for it in (sources.cache / "git").iterdir() if it.is_dir())
    damage(mirror)
    new = GitSource(url=url, commit=commit(upstream, version="2"))
    upstream.rename(upstream.with_name("away"))
    with pytest.raises(SourceError):
        sources.unpack(new, target.with_name("without"))
    upstream.with_name("away").rename(upstream)
    sources.unpack(new, target.with_name("again"))
    assert (target.with_name("again") / "version").read_text() == "2"
    assert {it.suffix for it in mirror.parent.iterdir()} == {"", ".lock"}
    assert not [*mirror.rglob("*.lock"), *mirror.rglob("tmp_*")]


def test_a_commit_on_no_branch_is_found(
    sources: Sources, upstream: Path, target: Path
) -> None:
    """A commit lost by a force-push is fetched by its hash, and kept."""
    lost = commit(upstream, version="lost")
    git(upstream, "reset", "--quiet", "--hard", "v1")
    source = GitSource(url=str(upstream), commit=lost)
    sources.unpack(source, target)
    assert (target / "version").read_text() == "lost"


def test_one_mirror_serves_many_at_once(
    sources: Sources, upstream: Path, target: Path
) -> None:
    """Stages that use the same repository in parallel don't collide."""
    source = GitSource(url=str(upstream), commit=head(upstream))
    targets = [target.with_name(str(number)) for number in range(4)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(sources.unpack, source), targets))
    assert {head(tree) for tree in targets} == {source.commit}


def test_submodules_are_checked_out(
    sources: Sources, upstream: Path, tmp_path: Path, target: Path
) -> None:
    """Their relative URLs are relative to the URL of the repository."""
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    commit(inner, header="h")
    git(upstream, "submodule", "--quiet", "add", "../inner", "third_party")
    source = GitSource(url=upstream.as_uri(), commit=commit(upstream))
    sources.unpack(source, target)
    assert (target / "third_party/header").read_text() == "h"


def test_offline_a_commit_comes_from_the_mirror_alone(
    sources: Sources, upstream: Path, tmp_path: Path, target: Path
) -> None:
    """No server is asked, neither for the commit, nor for submodules, nor for LFS."""
    url = "https://127.0.0.1:1/upstream"
    mirror = sources.cache / "git" / hashlib.sha256(url.encode()).hexdigest()
    offline = replace(sources, offline="UV_OFFLINE=1")
    submodule = '[submodule "a"]\n\tpath = a\n\turl = {}\n'
    old = head(upstream)
    large = commit(upstream, **{".gitattributes": "a filter=lfs\n", "a": POINTER})
    git(upstream, "rm", "--quiet", "a", ".gitattributes")
    modules = []
    for place in ("../inner", upstream.as_uri()):
        upstream.joinpath(".gitmodules").write_text(submodule.format(place))
        git(upstream, "add", ".gitmodules")
        git(upstream, "update-index", "--add", "--cacheinfo", f"160000,{old},a")
        git(upstream, "commit", "--quiet", "--message", "x")
        modules.append(head(upstream))

    def check_failure(wanted: str, name: str) -> None:
        with pytest.raises(SourceError) as caught:
            offline.unpack(GitSource(url=url, commit=wanted), tmp_path / name)
        problem = "can't be fetched: the network is off (UV_OFFLINE=1)"
        assert caught.value.problem == problem

    check_failure(old, "unknown")
    shutil.rmtree(mirror)
    git(tmp_path, "clone", "--quiet", "--mirror", str(upstream), str(mirror))
    offline.unpack(GitSource(url=url, commit=old), target)
    assert (target / "version").read_text() == "1"
    if shutil.which("git-lfs"):
        modules.append(large)
    for number, wanted in enumerate(modules):
        check_failure(wanted, f"needs-more-{number}")
    local = GitSource(url=str(upstream), commit=old)
    assert offline.unpack(local, tmp_path / "local")


def test_hooks_of_the_user_do_not_run(
    sources: Sources,
    upstream: Path,
    tmp_path: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables that git sets for its own hooks have no effect either."""
    hook = tmp_path / "hooks/post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\nhooksPath = {hook.parent}\nautocrlf = true\n")
    source = GitSource(url=str(upstream), commit=commit(upstream, text="a\n"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    sources.unpack(source, target)
    assert (target / "text").read_bytes() == b"a\n"
    assert not (tmp_path / "ran").exists()


ANY_FILTER = '[filter "lfs"]\nsmudge = echo other\n[filter "any"]\nsmudge = echo x\n'


def test_a_commit_has_the_same_bytes_for_every_user(
    sources: Sources,
    upstream: Path,
    tmp_path: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No configuration of git, no attributes and no filter of the machine count."""
    files = {
        ".gitattributes": "*.txt text=auto\n*.bin filter=lfs\n*.any filter=any\n",
        "a.txt": "a\n",
        "a.bin": "no pointer",
        "a.any": "any",
        "a.none": "a\n",
    }
    (upstream / "link").symlink_to("a.txt")
    source = GitSource(url=str(upstream), commit=commit(upstream, **files))
    template = tmp_path / "template/info"
    template.mkdir(parents=True)
    for folder in (template, tmp_path):
        (folder / "attributes").write_text("* eol=crlf filter=any\n")
    core = f"eol = crlf\nattributesFile = {tmp_path}/attributes\nsymlinks = false\n"
    core += "autocrlf = true\nfileMode = false\nsparseCheckout = true\n"
    init = f"[init]\ntemplateDir = {template.parent}\n[clone]\ndefaultRemoteName = x\n"
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n{core}{init}{ANY_FILTER}")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_ATTR_SOURCE", "HEAD")
    sources.unpack(source, target)
    assert {it: (target / it).read_text() for it in files} == files
    assert (target / "link").readlink() == Path("a.txt")


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="git-lfs isn't installed")
def test_files_of_git_lfs_are_fetched(
    sources: Sources, upstream: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of pointers, kept for offline builds, and never left out silently."""
    attributes = {".gitattributes": "*.bin filter=lfs -text\n"}
    large = upstream / ".git/lfs/objects" / LARGE[:2] / LARGE[2:4] / LARGE
    source = GitSource(
        url=upstream.as_uri(),
        commit=commit(upstream, **attributes, **{"a.bin": POINTER}),
    )
    with pytest.raises(SourceError, match="missing object"):
        sources.unpack(source, target)
    large.parent.mkdir(parents=True)
    large.write_bytes(b"large")
    sources.unpack(source, target)
    assert (target / "a.bin").read_bytes() == b"large"
    upstream.rename(upstream.with_name("away"))
    offline = replace(sources, offline="UV_OFFLINE=1")
    offline.unpack(source, target.with_name("again"))
    programs = target.with_name("programs")
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(SourceError, match="git-lfs isn't installed"):
        sources.unpack(source, target.with_name("without"))


@pytest.mark.parametrize(
    ("url", "locked", "problem"),
    [
        ("{}", "0" * 40, "git failed: .*not our ref 0000"),
        ("{}", "v1", "'v1' isn't the full hash of a commit"),
        ("{}/gone", "0" * 40, "git failed: fatal: .*does not (appear|exist)"),
        ("http://u:secret@127.0.0.1:1/r", "0" * 40, r"git failed: fatal: .*:1/r"),
    ],
)
@pytest.mark.usefixtures("upstream")
def test_errors_contain_git_s_reason(
    sources: Sources, target: Path, url: str, locked: str, problem: str
) -> None:
    """Without credentials; no file remains."""
    source = GitSource(url=url.format("../upstream"), commit=locked)
    with pytest.raises(SourceError, match=problem) as caught:
        sources.unpack(source, target)
    assert "secret" not in str(caught.value)
    assert not target.exists()


@dataclass(frozen=True)
class Elsewhere:
    """Runs git as if a URL that can't be reached here were a folder."""

    url: str
    folder: Path

    def __call__(self, command: Command) -> Completed:
        """Run it with one more setting."""
        config = ("-c", f"url.{self.folder}.insteadOf={self.url}")
        allow = ("-c", "protocol.file.allow=always")
        argv = (command.argv[0], *config, *allow, *command.argv[1:])
        return run(Command(argv=argv, cwd=command.cwd, env=command.env))


def test_credentials_do_not_reach_the_backend(
    root: Path, tmp_path: Path, upstream: Path, target: Path
) -> None:
    """A clone in which a build backend runs has no password."""
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    commit(inner, header="h")
    git(upstream, "submodule", "--quiet", "add", "../inner", "third_party")
    url = "https://user:secret@host.invalid/upstream"
    elsewhere = Elsewhere("https://user:secret@host.invalid", tmp_path)
    sources = Sources(root, tmp_path / "cache", elsewhere)
    sources.unpack(GitSource(url=url, commit=commit(upstream)), target)
    assert (target / "third_party/header").read_text() == "h"
    configs = [*target.rglob("config"), *sources.cache.rglob("config")]
    assert len(configs) == 4
    assert not any("secret" in config.read_text() for config in configs)


def missing(command: Command) -> Completed:
    reason = "No such file or directory: git"
    raise CommandError(command=str(command), reason=reason)


def test_without_git_a_commit_is_an_error(
    root: Path, tmp_path: Path, upstream: Path, target: Path
) -> None:
    """The hint is to install git."""
    sources = Sources(root, tmp_path / "cache", missing)
    source = GitSource(url=str(upstream), commit=head(upstream))
    with pytest.raises(SourceError, match="install git") as caught:
        sources.unpack(source, target)
    assert "No such file or directory: git" in caught.value.problem


# Directories ---------------------------------------------------------------------

HERE = DirectorySource(path="vendor/a")


@pytest.fixture
def vendored(root: Path) -> Path:
    folder = root / "vendor/a"
    (folder / "src").mkdir(parents=True)
    (folder / "pyproject.toml").write_bytes(PYPROJECT)
    (folder / "src/a.c").write_text("int a;")
    (folder / "link").symlink_to("src/a.c")
    return folder


def make_executable(folder: Path) -> None:
    (folder / "src/a.c").chmod(0o755)


def relink(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("pyproject.toml")


@pytest.mark.parametrize(
    "change",
    [
        make_executable,
        relink,
        lambda folder: (folder / "src/a.c").write_text("int b;"),
        lambda folder: (folder / "src/a.c").rename(folder / "src/b.c"),
        lambda folder: (folder / "new").touch(),
    ],
)
@pytest.mark.parametrize("versioned", [True, False], ids=["git", "no git"])
def test_every_change_of_a_directory_changes_its_identity(
    sources: Sources,
    root: Path,
    vendored: Path,
    change: Callable[[Path], object],
    *,
    versioned: bool,
) -> None:
    """Paths, contents, executable bits and links, in a work tree or not."""
    if versioned:
        git(root, "init", "--quiet")
        commit(root)
    before = sources.identity(HERE)
    assert before.startswith("tree:sha256:")
    assert sources.identity(HERE) == before
    change(vendored)
    assert sources.identity(HERE) != before


@pytest.mark.parametrize(
    "change",
    [
        make_executable,
        lambda folder: (folder / "src/a.c").write_text("int b;"),
        lambda folder: (folder / "pyproject.toml").rename(folder / "src/a.c"),
        lambda folder: (folder / "new").touch(),
    ],
)
def test_unchanged_files_are_not_read_again(
    sources: Sources,
    vendored: Path,
    change: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless one changed a moment before, because it may change in the same moment."""
    before = sources.identity(HERE)
    assert not (sources.cache / "folders").exists()
    monkeypatch.setattr(trees, "_MOMENT", -1_000_000_000)  # as if time had passed
    assert sources.identity(HERE) == before
    (note,) = (sources.cache / "folders").iterdir()
    note.write_text(f"{note.read_text('utf-8').split()[0]} noted", encoding="utf-8")
    assert sources.identity(HERE) == "tree:sha256:noted"
    change(vendored)
    assert sources.identity(HERE) not in (before, "tree:sha256:noted")
    note.write_bytes(b"\xff")
    note.chmod(0)
    assert sources.identity(HERE).startswith("tree:sha256:")


def test_ignored_files_do_not_count(
    sources: Sources, root: Path, vendored: Path, target: Path
) -> None:
    """They neither change the identity nor reach the tree; new files do."""
    git(root, "init", "--quiet")
    (vendored / ".gitignore").write_text("build/\n")
    commit(root)
    before = sources.identity(HERE)
    (vendored / "build").mkdir()
    (vendored / "build/a.o").touch()
    assert sources.identity(HERE) == before
    (vendored / "src/a.c").unlink()
    (vendored / "link").unlink()
    (vendored / "untracked").touch()
    assert sources.unpack(HERE, target) == target
    assert tree(target) == [".gitignore", "pyproject.toml", "untracked"]


def tree(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_without_git_almost_all_files_count(
    sources: Sources, vendored: Path, target: Path
) -> None:
    """Without .gitignore only the obvious files are excluded."""
    for name in (".hg/store", "src/__pycache__/a.pyc"):
        (vendored / name).parent.mkdir()
        (vendored / name).touch()
    os.utime(vendored / "pyproject.toml", (MTIME, MTIME))
    make_executable(vendored)
    sources.unpack(HERE, target)
    assert tree(target) == ["link", "pyproject.toml", "src/a.c"]
    assert (target / "pyproject.toml").stat().st_mtime == MTIME
    assert (target / "src/a.c").stat().st_mode & 0o100
    assert (target / "link").readlink() == Path("src/a.c")


def test_an_identity_does_not_depend_on_git(
    sources: Sources, root: Path, tmp_path: Path, vendored: Path
) -> None:
    """The same files are the same source without git."""
    if any((it / ".git").exists() for it in root.parents):
        pytest.skip("the folders of tests are in a repository")
    git(root, "init", "--quiet")
    assert vendored.is_dir()
    before = sources.identity(HERE)
    shutil.rmtree(root / ".git")
    without = Sources(root, tmp_path / "cache", missing)
    assert without.identity(HERE) == before


def damage_index(repository: Path) -> None:
    (repository / "index").write_text("garbage")


def add_extension(repository: Path) -> None:
    with (repository / "config").open("a") as file:
        file.write("[core]\nrepositoryformatversion = 1\n[extensions]\nnew = true\n")


def lose_submodule(repository: Path) -> None:
    shutil.rmtree(repository)
    repository.write_text("gitdir: ../.git/modules/a\n")


@pytest.mark.parametrize("fault", [damage_index, add_extension, lose_submodule])
def test_a_repository_that_git_cannot_read_is_an_error(
    sources: Sources, root: Path, vendored: Path, fault: Callable[[Path], object]
) -> None:
    """Ignored files, such as passwords, never become part of a source."""
    git(root, "init", "--quiet")
    (root / ".gitignore").write_text(".env\n")
    (vendored / ".env").write_text("PASSWORD=1")
    commit(root)
    fault(root / ".git")
    with pytest.raises(SourceError, match="git can't list its files: ") as caught:
        sources.identity(HERE)
    assert "repository" in caught.value.hint


def test_a_repository_needs_git(root: Path, vendored: Path, tmp_path: Path) -> None:
    """Without git, nobody knows what it ignores."""
    git(root, "init", "--quiet")
    with pytest.raises(SourceError, match="install git"):
        Sources(root, tmp_path / "cache", missing).identity(HERE)
    assert vendored.is_dir()


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_source_that_contains_a_repository_runs_nothing(
    sources: Sources, vendored: Path, *, is_bare: bool
) -> None:
    """Neither a program that the configuration names, nor files that look like one."""
    hook = vendored / "hook.sh"
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    git(vendored, "init", "--quiet")
    commit(vendored)
    for name in ("core.fsmonitor", "core.pager", "pager.ls-files"):
        git(vendored, "config", name, "./hook.sh")
    if is_bare:
        git(vendored, "config", "core.worktree", str(vendored))
        for path in (vendored / ".git").iterdir():
            path.rename(vendored / path.name)
        (vendored / ".git").rmdir()
    (vendored / "ran").unlink(missing_ok=True)
    assert sources.identity(HERE).startswith("tree:")
    assert not (vendored / "ran").exists()


def test_what_is_built_is_what_was_hashed(
    sources: Sources, vendored: Path, target: Path
) -> None:
    """A folder that changed in between is an error, and a copy is no longer watched."""
    identity = sources.identity(HERE)
    (vendored / "src/a.c").write_text("int b;")
    with pytest.raises(SourceError, match="changed after its key was computed"):
        sources.unpack(HERE, target, identity=identity)
    assert not target.exists()
    sources.unpack(HERE, target, identity=sources.identity(HERE))


@pytest.mark.parametrize("versioned", [True, False], ids=["git", "no git"])
@pytest.mark.parametrize("is_link", [True, False], ids=["link", "folder"])
def test_what_programs_write_is_no_source(
    root: Path, tmp_path: Path, target: Path, *, versioned: bool, is_link: bool
) -> None:
    """The store, caches, temporary files and environments, even as links elsewhere."""
    if versioned:
        git(root, "init", "--quiet")
    (root / "setup.py").touch()
    names = ("store", "wheelhouse", ".nox", "uv-cache", "tmp")
    folders = {name: root / name for name in names}
    for name, folder in folders.items():
        if is_link:
            (tmp_path / name).mkdir()
            folder.symlink_to(tmp_path / name)
        (folder / "sub").mkdir(parents=True, exist_ok=True)
        (folder / "sub/file").touch()
    caches = find_caches(
        {"UV_CACHE_DIR": str(folders["uv-cache"]), "TMPDIR": f"{root}/sub/../tmp"}
    )
    own = (folders["wheelhouse"], folders[".nox"], root.parent)
    sources = Sources(root, folders["store"], run, excluded=(*own, *caches))
    sources.unpack(DirectorySource(path="."), target)
    assert tree(target) == ["setup.py"]


def test_an_ignored_folder_counts_completely(
    sources: Sources, root: Path, vendored: Path
) -> None:
    """Projects often ignore their vendored sources."""
    before = sources.identity(HERE)
    git(root, "init", "--quiet")
    (root / ".gitignore").write_text("vendor/\n")
    assert vendored.is_dir()
    assert sources.identity(HERE) == before


def test_repositories_inside_count_by_their_files(
    sources: Sources, vendored: Path, upstream: Path, target: Path
) -> None:
    """A submodule is more than its commit; a missing submodule is empty."""
    git(vendored, "init", "--quiet")
    git(vendored, "submodule", "--quiet", "add", str(upstream), "here")
    git(vendored, "submodule", "--quiet", "add", str(upstream), "away")
    commit(vendored)
    git(vendored, "submodule", "--quiet", "deinit", "--force", "away")
    before = sources.identity(HERE)
    sources.unpack(HERE, target)
    assert "here/version" in tree(target)
    assert not [name for name in tree(target) if name.startswith("away")]
    (vendored / "here/version").write_text("changed")
    assert sources.identity(HERE) != before


def test_a_folder_replaced_by_a_link_is_a_link(
    sources: Sources, vendored: Path, target: Path
) -> None:
    """Files in git's index aren't read through a link."""
    git(vendored, "init", "--quiet")
    commit(vendored)
    (vendored / "link").unlink()
    (vendored / "src").rename(vendored / "source")
    (vendored / "src").symlink_to("source")
    sources.unpack(HERE, target)
    assert tree(target) == ["pyproject.toml", "source/a.c", "src"]


@pytest.mark.parametrize("link", ["../../secret", "/etc/passwd"])
def test_a_link_out_of_the_directory_is_refused(
    sources: Sources, root: Path, vendored: Path, target: Path, link: str
) -> None:
    """The identity doesn't cover files outside."""
    (root / "secret").touch()
    (vendored / "out").symlink_to(link)
    problem = f"'out' links to '{link}', outside the source tree"
    with pytest.raises(SourceError, match=problem):
        sources.unpack(HERE, target)
    assert not target.exists()


def test_a_folder_is_refused_with_the_folder_that_holds_its_links(
    sources: Sources, root: Path, target: Path
) -> None:
    """That folder can be the source, with ``#subdirectory=``."""
    for name in ("core", "python"):
        (root / "ws" / name).mkdir(parents=True)
    (root / "ws/python/core").symlink_to("../core")
    with pytest.raises(SourceError) as caught:
        sources.unpack(DirectorySource(path="ws/python"), target)
    assert caught.value.hint.endswith("\n  … @ ./ws#subdirectory=python")


def test_a_subdirectory_of_a_folder_is_the_project(
    sources: Sources, root: Path, target: Path
) -> None:
    """The whole folder is copied, and links stay inside, however they are written."""
    for name in ("ws/core", "ws/python"):
        (root / name).mkdir(parents=True)
    (root / "ws/core/core.h").write_text("1")
    links = {
        "near": "../core/core.h",
        "absolute": str(root / "ws/core/core.h"),
        "around": "../../ws/core/core.h",
    }
    for name, to in links.items():
        (root / "ws/python" / name).symlink_to(to)
    source = DirectorySource(path="ws", subdirectory="python")
    project = sources.unpack(source, target)
    assert project == target / "python"
    assert {(project / name).readlink() for name in links} == {Path("../core/core.h")}
    first, whole = sources.identity(source), DirectorySource(path="ws")
    assert first == f"{sources.identity(whole)}#python"
    (root / "ws").rename(root / "moved")
    (root / "moved/python/absolute").unlink()
    (root / "moved/python/absolute").symlink_to(root / "moved/core/core.h")
    (root / "moved/python/around").unlink()
    (root / "moved/python/around").symlink_to("../../moved/core/core.h")
    assert sources.identity(replace(source, path="moved")) == first


def test_pipes_are_ignored(sources: Sources, vendored: Path) -> None:
    """Git wouldn't track a pipe, and reading a pipe would never end."""
    before = sources.identity(HERE)
    os.mkfifo(vendored / "pipe")
    assert sources.identity(HERE) == before


def test_a_name_that_is_not_text_is_refused(sources: Sources, vendored: Path) -> None:
    """A file must not be missing from the identity because of its name."""
    git(vendored, "init", "--quiet")
    Path(os.fsdecode(os.fsencode(vendored) + b"/\xff")).touch()
    with pytest.raises(SourceError, match="isn't UTF-8"):
        sources.identity(HERE)


def test_a_directory_must_exist(sources: Sources, root: Path, target: Path) -> None:
    """The error names the missing folder."""
    with pytest.raises(SourceError, match=f"there is no folder {root}/vendor/a"):
        sources.identity(HERE)
    with pytest.raises(SourceError, match="there is no folder"):
        sources.unpack(HERE, target)
    assert not target.exists()
