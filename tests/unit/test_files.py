"""Files are read if they are regular, replaced atomically, and folders removed."""

from __future__ import annotations

import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.sources.trees import find_empty_submodules
from nox_buildstages.system.files import (
    atomic_write,
    file_stamp,
    make_ignored_folder,
    open_file,
    path_from_url,
    read_file,
    remove_orphans,
    remove_tree,
    temporary_folder,
    walk,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    """Until the block ends there is no file; missing folders are created."""
    path = tmp_path / "new" / "file"
    with atomic_write(path) as new:
        new.write_text("whole")
        assert not path.exists()
        assert new.parent == path.parent
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    """A reader that has opened the old file reads all of it."""
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as stream, atomic_write(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert stream.closed


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    """The old file stays, the new file is removed, and the error is raised."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as new:
            new.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("umask")
def test_the_umask_determines_the_mode(tmp_path: Path) -> None:
    """The private mode of a temporary file doesn't remain."""
    write_text(tmp_path / "file", "")
    assert mode(tmp_path / "file") == 0o640


def test_text_is_utf_8_with_plain_line_ends(tmp_path: Path) -> None:
    """The same bytes on every system."""
    write_text(tmp_path / "file", "ä\n")
    assert (tmp_path / "file").read_bytes() == b"\xc3\xa4\n"


def test_removing_a_missing_folder_does_nothing(tmp_path: Path) -> None:
    """A missing folder is no error."""
    remove_tree(tmp_path / "none")


def test_read_only_folders_are_removed(tmp_path: Path) -> None:
    """A build can make folders read-only, even the top folder."""
    inner = tmp_path / "top" / "inner" / "innermost"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    for folder in (inner, inner.parent, tmp_path / "top"):
        folder.chmod(0o500)
    remove_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["d", "d" * 200], ids=["path", "beyond-a-path"])
def test_folders_of_any_depth_are_removed(tmp_path: Path, name: str) -> None:
    """Also deeper than Python calls itself, and than a path can be long."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    for _ in range(1100 if name == "d" else 30):
        os.mkdir(name)  # noqa: PTH102 - relative to the folder that is open
        os.chdir(name)
    os.fchdir(here)
    os.close(here)
    assert len([*walk(tmp_path)]) > 20
    remove_tree(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # a socket's path has at most 107 bytes


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (make_pipe, "it is a pipe, not a file"),
        (make_socket, "it is a socket, not a file"),
        (lambda path: path.mkdir(), "it is a folder, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    ],
)
def test_only_regular_files_are_opened(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    """Nobody waits for the writer of a pipe, or reads a device without an end."""
    make(tmp_path / "file")
    with pytest.raises(OSError, match=problem) as raised:
        read_file(tmp_path / "file")
    assert raised.value.filename == str(tmp_path / "file")


def test_a_link_can_be_refused_and_a_large_file_too(tmp_path: Path) -> None:
    """A backend's link may lead to a file that only we can read."""
    (tmp_path / "file").write_text("secret")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link") == b"secret"
    with pytest.raises(OSError, match="it is a link, not a file"):
        open_file(tmp_path / "link", follow=False)
    with pytest.raises(OSError, match="it has more than 5 bytes"):
        read_file(tmp_path / "file", limit=5)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """By the next that writes the same file, or makes a folder for the same reason.

    What a living process uses stays, and so do files with other names.
    """
    (tmp_path / ".file.0123abcd").write_text("half")
    (tmp_path / ".other.0123abcd").write_text("half")
    kept = {".file.kept", ".gitignore", ".nojekyll", ".my.settings"}
    for name in kept:
        (tmp_path / name).write_text("")
    (tmp_path / "scratch-0123abcd/deep").mkdir(parents=True)
    with atomic_write(tmp_path / "file"), temporary_folder("scratch-", tmp_path) as own:
        write_text(tmp_path / "file", "whole")
        with temporary_folder("scratch-", tmp_path) as second:
            assert own.is_dir()
        remove_orphans(tmp_path)
        names = {it.name for it in tmp_path.iterdir()}
        (new,) = names - kept - {own.name, "file"}
        assert new.startswith(".file.")
    assert not second.exists()
    assert {it.name for it in tmp_path.iterdir()} == {"file", *kept}


def test_many_make_temporary_files_and_folders_at_once(tmp_path: Path) -> None:
    """Nobody takes the new one of another thread for that of a killed process."""

    def work(number: int) -> None:
        for _ in range(20):
            with temporary_folder("scratch-", tmp_path) as folder:
                (folder / "file").write_text(str(number))
            write_text(tmp_path / "file", str(number))

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(work, range(8))]
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    """The target of a link keeps its content and mode, or may be missing."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("precious")
    kept.chmod(0o550)
    top = tmp_path / "top"
    top.mkdir()
    (top / "folder").symlink_to(kept)
    (top / "file").symlink_to(kept / "file")
    (top / "dangling").symlink_to(tmp_path / "nowhere")
    remove_tree(top)
    assert not top.exists()
    assert (kept / "file").read_text() == "precious"
    assert mode(kept) == 0o550


def test_a_replaced_file_can_keep_its_mode(tmp_path: Path) -> None:
    """The file gets the given mode instead of the mode of a new file."""
    path = tmp_path / "file"
    with atomic_write(path, mode=0o600) as new:
        new.write_text("whole")
    assert mode(path) == 0o600
    assert path.read_text() == "whole"


def test_a_replaced_file_has_another_stamp(tmp_path: Path) -> None:
    """Even if the size stays the same."""
    path = tmp_path / "file"
    path.write_text("1")
    before = file_stamp(path)
    write_text(path, "2")
    assert file_stamp(path) != before


def test_a_url_names_a_path(tmp_path: Path) -> None:
    """Escaped characters are decoded."""
    path = tmp_path / "with space"
    assert path_from_url(path.as_uri().removeprefix("file://")) == path


def test_a_folder_that_git_ignores(tmp_path: Path) -> None:
    """A new folder says so itself, at its top; one that was there stays as it is."""
    make_ignored_folder(tmp_path / "a/b")
    assert (tmp_path / "a/.gitignore").read_text("utf-8") == "*\n"
    (tmp_path / "a/.gitignore").unlink()
    make_ignored_folder(tmp_path / "a/b")
    assert [*tmp_path.rglob("*")] == [tmp_path / "a", tmp_path / "a/b"]


def test_empty_submodules(tmp_path: Path) -> None:
    """Git lists a submodule as a folder; a copy without git has .gitmodules."""
    modules = '[submodule "a"]\n\tpath = libs/a\n\turl = x\n[submodule "b"]\npath=b\n'
    (tmp_path / ".gitmodules").write_text(modules, "utf-8")
    for folder in ("b", "c", "d"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b/full").touch()
    (tmp_path / "d/full").touch()
    (tmp_path / "file").touch()
    assert find_empty_submodules(tmp_path) == ("libs/a",)
    listed = ["c", "d", "file", "gone"]
    assert find_empty_submodules(tmp_path, listed) == ("c", "libs/a")
