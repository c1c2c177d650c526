"""Patches apply exactly, wherever the tree lies and however git is configured."""

from __future__ import annotations

import codecs
import os
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.errors import CommandError, SourceError
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource, Patch
from nox_buildstages.sources import patches
from nox_buildstages.sources.sources import Sources
from nox_buildstages.system.files import sha256_of
from nox_buildstages.system.process import run
from support.patches import make_patch

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Source
    from nox_buildstages.sources.patches import PatchFile
    from nox_buildstages.system.process import Command, Completed, Runner

PLACE = "tool.nox-buildstages.package.kernel.patches[0]"
KINDS = ("archive", "folder", "commit")


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.invalid")


def git(folder: Path, *argv: str) -> str:
    settings = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main")
    command = ["git", *settings, *argv]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return done.stdout.decode().strip()


def committed(folder: Path) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Ümlaut")
    return git(folder, "rev-parse", "HEAD")


@dataclass(kw_only=True)
class Bed:
    """A project with the source of an output, in each of its kinds.

    Attributes:
        place: A folder for everything.
    """

    place: Path
    runner: Runner = run
    made: list[Path] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The project."""
        return self.place / "project"

    @property
    def tree(self) -> Path:
        """The source, as a folder."""
        return self.root / "kernel"

    @property
    def sources(self) -> Sources:
        """What unpacks it."""
        return Sources(self.root, self.place / "cache", self.runner)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file of the source."""
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def patch(self, edit: Callable[[Path], object], *, binary: bool = True) -> bytes:
        """Make a patch of an edit of the source."""
        return make_patch(self.place / "edited", self.tree, edit, binary=binary)

    def file(self, content: bytes, name: str = "x.patch") -> PatchFile:
        """Put a patch into the project, and read it."""
        path = self.root / name
        path.write_bytes(content)
        return patches.read_patch(Patch(name=name, path=path, location=PLACE))

    def source(self, kind: str, subdirectory: str | None = None) -> Source:
        """Return the source as one of a kind."""
        if kind == "folder":
            return DirectorySource(path="kernel")
        if kind == "commit":
            commit = committed(self.tree)
            return GitSource(
                url=self.tree.as_uri(), commit=commit, subdirectory=subdirectory
            )
        archive = self.root / "kernel-1.0.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            file.add(self.tree, "kernel-1.0")
        return ArchiveSource(
            location=archive.name,
            sha256=sha256_of(archive),
            subdirectory=subdirectory,
        )

    def unpacked(self, kind: str, *contents: bytes) -> Path:
        """Unpack the source as one of a kind, with patches."""
        files = [self.file(content) for content in contents]
        target = self.place / "builds" / f"tree-{len(self.made)}"
        self.made.append(target)
        return self.sources.unpack(self.source(kind), target, files)

    def refused(self, kind: str, *contents: bytes) -> SourceError:
        """See that a patch is refused and that nothing is left; return the error."""
        with pytest.raises(SourceError) as caught:
            self.unpacked(kind, *contents)
        assert not self.made[-1].exists()
        assert str(caught.value).startswith(f"error: x.patch ({PLACE}): ")
        return caught.value


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    bed = Bed(place=tmp_path)
    bed.write("pyproject.toml", b"[build-system]\nrequires = []\n")
    bed.write("code.py", b"one = 1\ntwo = 2\nthree = 3\n")
    return bed


def contents(tree: Path) -> dict[str, bytes]:
    """Return a tree's files by name."""
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(tree).parts
    }


def replaced(name: str, old: bytes, new: bytes) -> Callable[[Path], object]:
    """Return an edit that replaces something in a file."""

    def edit(tree: Path) -> None:
        path = tree / name
        text = path.read_bytes()
        assert old in text
        path.write_bytes(text.replace(old, new))

    return edit


three = replaced("code.py", b"3", b"three")


# What a patch may do -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_is_patched(bed: Bed, kind: str) -> None:
    """In a fresh tree: a folder of the user stays unchanged."""
    before = contents(bed.tree)
    tree = bed.unpacked(kind, bed.patch(three))
    expected = b"one = 1\ntwo = 2\nthree = three\n"
    assert contents(tree) == {**before, "code.py": expected}
    assert contents(bed.tree) == before


def remake(tree: Path) -> None:
    """Change a tree in every way that git diff can tell."""
    (tree / "new folder").mkdir()
    (tree / "new folder/added.py").write_bytes(b"new = True \n")
    (tree / "gone.py").unlink()
    (tree / "old.py").rename(tree / "renamed.py")
    (tree / "run.sh").chmod(0o755)
    (tree / "data.bin").write_bytes(bytes(range(200, 100, -1)))
    (tree / "link").symlink_to("code.py")
    (tree / "no-newline").write_bytes(b"b")


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_may_contain_all_changes_of_git_diff(bed: Bed, kind: str) -> None:
    """New, deleted, renamed and binary files, modes, links, missing newlines."""
    bed.write("gone.py", b"gone = True\n")
    bed.write("old.py", b"".join(b"line %d\n" % number for number in range(20)))
    bed.write("run.sh", b"#!/bin/sh\n").chmod(0o644)
    bed.write("data.bin", bytes(range(256)))
    bed.write("no-newline", b"a")
    expected = bed.place / "expected"
    patch = bed.patch(remake)
    tree = bed.unpacked(kind, patch)
    for name, content in contents(bed.tree).items():
        (expected / name).parent.mkdir(exist_ok=True)
        (expected / name).write_bytes(content)
    remake(expected)
    assert contents(tree) == contents(expected)
    assert os.access(tree / "run.sh", os.X_OK)
    assert (tree / "link").readlink() == Path("code.py")
    assert not (tree / "old.py").exists()


def test_patches_are_applied_in_their_order(bed: Bed) -> None:
    """The second patch needs the result of the first."""
    first = bed.patch(replaced("code.py", b"2", b"two"))
    bed.write("code.py", b"one = 1\ntwo = two\nthree = 3\n")
    second = bed.patch(replaced("code.py", b"two = two", b"two = zwei"))
    bed.write("code.py", b"one = 1\ntwo = 2\nthree = 3\n")
    tree = bed.unpacked("folder", first, second)
    assert (tree / "code.py").read_bytes() == b"one = 1\ntwo = zwei\nthree = 3\n"
    bed.refused("folder", second, first)


@pytest.mark.parametrize("kind", ["archive", "commit"])
def test_paths_are_relative_to_the_top_of_the_source(bed: Bed, kind: str) -> None:
    """As in git diff, even if the project is in a subdirectory."""
    bed.write("python/setup.py", b"version = 1\n")
    edits = three, replaced("python/setup.py", b"1", b"2")
    patch = bed.patch(lambda tree: [edit(tree) for edit in edits])
    source = bed.source(kind, "python")
    project = bed.sources.unpack(source, bed.place / "it", [bed.file(patch)])
    assert project.name == "python"
    assert (project / "setup.py").read_bytes() == b"version = 2\n"
    assert b"three = three" in (project.parent / "code.py").read_bytes()


def test_a_submodule_s_files_are_patched(bed: Bed) -> None:
    """Files of a submodule are files of the source."""
    library = bed.place / "library"
    library.mkdir()
    (library / "lib.c").write_bytes(b"int x;\n")
    committed(library)
    git(bed.root, "init", "--quiet", "kernel")
    git(bed.tree, "submodule", "--quiet", "add", library.as_uri(), "third_party")
    patch = bed.patch(replaced("third_party/lib.c", b"x", b"y"))
    tree = bed.unpacked("commit", patch)
    assert (tree / "third_party/lib.c").read_bytes() == b"int y;\n"
    assert git(tree, "status", "--porcelain") == ""


# Nothing but the tree and the patch has a say --------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_repository_around_the_tree_is_ignored(bed: Bed, kind: str) -> None:
    """Git would ignore files there silently; the patch is applied."""
    (bed.place / "builds").mkdir()
    patch = bed.patch(three)
    (bed.place / ".gitattributes").write_text("* text eol=crlf\n")
    (bed.place / ".gitignore").write_text("*\n")
    git(bed.place, "init", "--quiet")
    tree = bed.unpacked(kind, patch)
    assert b"three = three\n" in (tree / "code.py").read_bytes()


def test_a_repository_in_an_archive_is_ignored(bed: Bed) -> None:
    """Its configuration came with the archive."""
    committed(bed.tree)
    elsewhere = bed.place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "code.py").write_bytes((bed.tree / "code.py").read_bytes())
    patch = bed.patch(three)
    git(bed.tree, "config", "core.worktree", str(elsewhere))
    tree = bed.unpacked("archive", patch)
    assert b"three = three\n" in (tree / "code.py").read_bytes()
    assert b"three = 3\n" in (elsewhere / "code.py").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_variables_and_configuration_of_git_are_ignored(
    bed: Bed, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trailing blanks and line endings stay; no other repository changes."""
    patch = bed.patch(replaced("code.py", b"three = 3", b"three = 3  "))
    home = bed.place / "home"
    home.mkdir()
    (home / "attributes").write_text("* text eol=crlf\n")
    (home / ".gitconfig").write_text(
        "[apply]\nwhitespace = fix\nignoreWhitespace = change\n"
        "[core]\nautocrlf = true\nsafecrlf = true\n"
        f"attributesFile = {home / 'attributes'}\n"
    )
    source = bed.source(kind)
    with monkeypatch.context() as patched:
        patched.setenv("HOME", str(home))
        patched.setenv("GIT_INDEX_FILE", str(home / "index"))
        patched.setenv("GIT_WORK_TREE", str(home))
        patched.setenv("GIT_CONFIG_COUNT", "1")
        patched.setenv("GIT_CONFIG_KEY_0", "apply.whitespace")
        patched.setenv("GIT_CONFIG_VALUE_0", "error")
        # A checkout follows the user's attributes; that isn't for a patch to change.
        if kind == "commit":
            (home / "attributes").write_text("")
        tree = bed.sources.unpack(source, bed.place / "it", [bed.file(patch)])
    assert (tree / "code.py").read_bytes() == b"one = 1\ntwo = 2\nthree = 3  \n"
    assert not (home / "index").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_line_endings_are_kept(bed: Bed, kind: str) -> None:
    """A file with CRLF keeps CRLF, and the patch needs CRLF too."""
    bed.write("crlf.py", b"one\r\ntwo\r\nthree\r\n")
    patch = bed.patch(replaced("crlf.py", b"two", b"zwei"))
    assert b"+zwei\r\n" in patch
    tree = bed.unpacked(kind, patch)
    assert (tree / "crlf.py").read_bytes() == b"one\r\nzwei\r\nthree\r\n"
    bed.refused(kind, patch.replace(b"\r\n", b"\n"))


def test_the_attributes_of_a_clone_count(bed: Bed) -> None:
    """Git diff prints a file that is checked out with CRLF without CRLF."""
    bed.write(".gitattributes", b"*.bat text eol=crlf\n")
    bed.write("make.bat", b"one\r\ntwo\r\n")
    patch = bed.patch(replaced("make.bat", b"two", b"zwei"))
    assert b"\r" not in patch
    tree = bed.unpacked("commit", patch)
    assert (tree / "make.bat").read_bytes() == b"one\r\nzwei\r\n"


def test_a_patched_clone_counts_as_unchanged(bed: Bed) -> None:
    """A version from tags contains neither a distance nor a date."""
    bed.write(".gitignore", b"*.c\n")
    committed(bed.tree)
    git(bed.tree, "tag", "v1.0")

    def edit(tree: Path) -> None:
        three(tree)
        (tree / "new.c").write_bytes(b"int x;\n")

    patch = bed.patch(edit)
    source = GitSource(url=bed.tree.as_uri(), commit=git(bed.tree, "rev-parse", "HEAD"))
    tree = bed.sources.unpack(source, bed.place / "it", [bed.file(patch)])
    assert git(tree, "describe", "--tags", "--dirty") == "v1.0"
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "rev-parse", "HEAD") == source.commit
    assert "new.c" in git(tree, "ls-tree", "--name-only", "HEAD").splitlines()
    assert git(tree, "log", "-1", "--format=%an %s") == "A Ümlaut"
    again = bed.sources.unpack(source, bed.place / "again", [])
    assert contents(again) == contents(bed.tree)


# What is refused -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_that_does_not_apply_is_refused(bed: Bed, kind: str) -> None:
    """The error has the patch, the source, git's reason and a hint."""
    patch = bed.patch(three)
    bed.write("code.py", b"one = 1\ntwo = 2\nthree = 33\n")
    error = bed.refused(kind, patch)
    lines = str(error).splitlines()
    assert "): it doesn't apply to " in lines[0]
    assert "kernel" in lines[0].partition("apply to")[2]
    assert "  error: patch failed: code.py:1" in lines
    assert lines[-1].startswith("help: write it again with git diff")


def test_all_files_must_apply(bed: Bed) -> None:
    """There is no fuzz, and no file is skipped."""
    edits = three, replaced("pyproject.toml", b"requires", b"requirements")
    patch = bed.patch(lambda tree: [edit(tree) for edit in edits])
    bed.write("pyproject.toml", b"[build-system]\n")
    assert "pyproject.toml" in str(bed.refused("folder", patch))


def of(name: str, *, mode: str = "100644", content: str = "evil") -> bytes:
    """Return a patch that makes a file."""
    return (
        f"diff --git a/{name} b/{name}\nnew file mode {mode}\nindex 0000000..1111111\n"
        f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{content}\n"
        "\\ No newline at end of file\n"
    ).encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["../evil", "sub/../../evil", "{place}/evil", ".git/hooks/evil"]
)
def test_nothing_is_written_outside_the_tree(bed: Bed, kind: str, name: str) -> None:
    """Neither above the tree, nor by an absolute path, nor into git's files."""
    error = bed.refused(kind, of(name.format(place=bed.place)))
    assert "invalid path" in str(error)
    assert not [*bed.place.rglob("evil")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", ["../..", "/"])
def test_a_link_out_of_the_tree_is_refused(bed: Bed, kind: str, to: str) -> None:
    """Even if no file is written through the link."""
    link = of("link", mode="120000", content=to)
    error = bed.refused(kind, link)
    assert error.problem == f"'link' links to '{to}', outside the source tree"
    through = link + of("link/evil")
    assert "beyond a symbolic link" in str(bed.refused(kind, through))
    assert not [*bed.place.rglob("evil")]


def test_a_link_of_the_commit_is_left_alone(bed: Bed) -> None:
    """A clone may have links out of the tree; none is followed."""
    (bed.tree / "out").symlink_to("/nowhere")
    patch = bed.patch(three)
    tree = bed.unpacked("commit", patch)
    assert (tree / "out").is_symlink()
    assert "beyond a symbolic link" in str(bed.refused("commit", of("out/evil")))


@pytest.mark.parametrize(
    "line", ["index 1111111..2222222 160000\n", "new file mode 160000\n"]
)
def test_another_commit_of_a_submodule_is_refused(bed: Bed, line: str) -> None:
    """Git would ignore the change silently."""
    error = bed.refused("folder", f"diff --git a/lib b/lib\n{line}".encode())
    assert error.problem == "it changes which commit a submodule is at"


@pytest.mark.parametrize("text", [b"This is no patch.\n", b"\x00\x01"])
def test_a_file_without_a_patch_is_refused(bed: Bed, text: bytes) -> None:
    """A truncated patch too."""
    assert "x.patch" in str(bed.refused("folder", text))
    torn = bed.patch(three)[:-20]
    assert "corrupt patch" in str(bed.refused("folder", torn))


def test_a_binary_change_without_its_bytes_is_refused(bed: Bed) -> None:
    """Git diff without --binary writes such a patch."""
    bed.write("data.bin", bytes(range(256)))
    patch = bed.patch(lambda tree: (tree / "data.bin").write_bytes(b"\0"), binary=False)
    assert b"Binary files" in patch
    assert "binary patch" in str(bed.refused("folder", patch))


def test_byte_order_marks_of_other_systems_are_known(bed: Bed) -> None:
    """That of UTF-8 is ignored, and UTF-16 is named."""
    lines = bed.patch(three).partition(b"--- ")
    patch = b"".join((codecs.BOM_UTF8, *lines[1:]))
    assert b"".join(lines[1:]) in bed.file(patch).content
    target = bed.place / "target"
    bed.sources.unpack(bed.source("folder"), target, [bed.file(patch)])
    with pytest.raises(SourceError, match="it is UTF-16") as caught:
        bed.file(patch.decode("utf-8-sig").encode("utf-16"))
    assert caught.value.hint == "write it with git diff --output=x.patch"


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_an_empty_patch_is_refused(bed: Bed, content: bytes) -> None:
    """An empty patch is a mistake."""
    with pytest.raises(SourceError) as caught:
        bed.file(content)
    assert str(caught.value) == (
        f"error: x.patch ({PLACE}): it is empty\nhelp: write it with git diff"
    )


def test_a_patch_must_exist(bed: Bed) -> None:
    """The error names the patch, its place in the table and the base folder."""
    patch = Patch(name="no.patch", path=bed.place / "no.patch", location=PLACE)
    with pytest.raises(SourceError) as caught:
        patches.read_patch(patch)
    assert str(caught.value) == (
        f"error: no.patch ({PLACE}): No such file or directory: {bed.place}/no.patch\n"
        "help: correct the path; it is relative to the pyproject.toml"
    )


def test_without_git_patches_are_an_error(bed: Bed) -> None:
    """A folder can be unpacked without git, but not patched."""

    def missing(command: Command) -> Completed:
        if "apply" in command.argv:
            raise CommandError(command="git", reason="No such file or directory: git")
        return run(command)

    patch = bed.patch(three)
    bed.runner = missing
    error = bed.refused("folder", patch)
    assert error.problem.endswith(": No such file or directory: git")
    assert error.hint == "install git"
