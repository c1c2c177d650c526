"""Sources: what identifies them, and fresh trees of them to build in."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidSdistFilename, parse_sdist_filename

from nox_buildstages.errors import CommandError, HashMismatchError, SourceError
from nox_buildstages.indexes.credentials import Credentials
from nox_buildstages.indexes.logins import LOGIN_HINT, is_auth_failure, redact
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource
from nox_buildstages.sources import archives, trees
from nox_buildstages.sources.git import Repository, is_local_url
from nox_buildstages.sources.metadata import METADATA_FILES
from nox_buildstages.sources.patching import Patching
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import FULL_DISK, sha256_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from nox_buildstages.model import Login, Source
    from nox_buildstages.sources.patches import PatchFile
    from nox_buildstages.system.process import Runner

_UPGRADE = "nox -s build-stages-lock -- --upgrade"
_LEAVE_OUT = "fix that file, or exclude it in .gitignore"
_DAMAGED = (
    ValueError,  # a member that is refused, too
    OSError,
    EOFError,
    RuntimeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where sources come from and where fetched ones are kept.

    Attributes:
        root: The project's folder, to which paths are relative.
        cache: A folder of ours; what is in it is never trusted unseen.
        runner: Runs git.
        left_out: Folders that are no part of a source, wherever they lie: what we
            write into the project ourselves.
        credentials: For the servers that archives come from.
        git: Variables for git over ours.
    """

    root: Path
    cache: Path
    runner: Runner
    left_out: tuple[Path, ...] = ()
    credentials: Credentials = field(default_factory=Credentials)
    git: Mapping[str, str] = field(default_factory=dict, repr=False)

    def identity(self, source: Source) -> str:
        """Return what a source contributes to a content key.

        Equal identities mean equal bytes to build from. Nothing is fetched.

        Raises:
            SourceError: A directory isn't there or can't be read.
        """
        if isinstance(source, ArchiveSource):
            return f"sha256:{source.sha256}{_fragment(source.subdirectory)}"
        if isinstance(source, GitSource):
            return f"git:{source.commit}{_fragment(source.subdirectory)}"
        tree = self._directory(source)
        with _blaming(source, _LEAVE_OUT):
            files = self._files(tree)
            return f"tree:sha256:{trees.hash_files(tree, files)}"

    def unpack(
        self, source: Source, target: Path, patches: Sequence[PatchFile] = ()
    ) -> Path:
        """Make a fresh tree of a source, and return the project's folder in it.

        Args:
            source: To fetch, where it isn't here already, and to verify.
            target: A folder to make; its parents are made too. It is gone again
                after any failure.
            patches: Applied in their order; their paths are relative to the top of
                the source, which a subdirectory is below.

        Raises:
            FileExistsError: The target is there.
            HashMismatchError: A file isn't the one that was locked.
            SourceError: A patch doesn't apply.
            SourceError: The source can't be had, or can't be trusted.
        """
        return self._make(source, target, patches)

    def skim(self, source: ArchiveSource, target: Path) -> Path:
        """Make a tree as ``unpack`` does, to read in what an archive declares.

        All of its members are looked at, but other files than those that decide what
        it requires may be left out.
        """
        return self._make(source, target, only=METADATA_FILES)

    def _make(
        self,
        source: Source,
        target: Path,
        patches: Sequence[PatchFile] = (),
        only: Collection[str] = (),
    ) -> Path:
        target.mkdir(parents=True)
        try:
            top = self._unpack(source, target, only)
            if patches:
                self._patching(source, top).apply(patches)
            if isinstance(source, DirectorySource):
                return top
            return _project(source, top, source.subdirectory)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def _unpack(self, source: Source, target: Path, only: Collection[str]) -> Path:
        """Fill a folder with a source, and return the source's top in it."""
        if isinstance(source, ArchiveSource):
            return self._unpack_archive(source, target, only)
        if isinstance(source, GitSource):
            self._check_out(source, target)
        else:
            self._copy(source, target)
        return target

    def _patching(self, source: Source, top: Path) -> Patching:
        return Patching(
            tree=top,
            source=redact(str(source)),
            clone=isinstance(source, GitSource),
            runner=self.runner,
        )

    def _unpack_archive(
        self, source: ArchiveSource, target: Path, only: Collection[str]
    ) -> Path:
        archive = self._archive(source)
        with _blaming(source, "name another release, a git commit or a folder of it"):
            archives.unpack_archive(archive, target, only=only)
            return _top(target)

    def _archive(self, source: ArchiveSource) -> Path:
        with _blaming(source, f"see that {self.cache} can be written"):
            url = self.url(source.location)
            name = PurePosixPath(unquote(urlsplit(url).path)).name.strip(".")
            file = self.cache / "sources" / source.sha256 / (name or "source")
            note_use(file.parent)
            if file.is_file() and sha256_of(file) == source.sha256:
                return file
            file.parent.mkdir(parents=True, exist_ok=True)
        fetch_archive(source, url, file, self.credentials.login_for(url))
        return file

    def url(self, location: str) -> str:
        """Return where a file is, which a lock may name by a path."""
        if "://" in location or location.startswith("file:"):
            return location
        return Path(self.root, location).absolute().as_uri()

    def _check_out(self, source: GitSource, target: Path) -> None:
        url = source.url
        if is_local_url(url) and not url.startswith("file://"):
            url = str(Path(self.root, url).absolute())
        name = hashlib.sha256(url.encode()).hexdigest()
        mirror = self.cache / "git" / name
        note_use(mirror)
        with _failing_git(source), _blaming(source, f"lock it again: {_UPGRADE}"):
            repository = Repository(
                url=url, mirror=mirror, runner=self.runner, variables=self.git
            )
            repository.check_out(source.commit, target)

    def _copy(self, source: DirectorySource, target: Path) -> None:
        tree = self._directory(source)
        with _blaming(source, _LEAVE_OUT):
            files = self._files(tree)
            trees.copy_files(tree, files, target)

    def _files(self, tree: Path) -> tuple[str, ...]:
        """Return the files of a folder that are its source."""
        place = tree.resolve()
        ours = tuple(
            f"{folder.relative_to(place).as_posix()}/"
            for folder in (folder.resolve() for folder in self.left_out)
            if folder != place and folder.is_relative_to(place)
        )
        files = trees.list_source_files(tree, self.runner)
        return tuple(name for name in files if not name.startswith(ours))

    def _directory(self, source: DirectorySource) -> Path:
        tree = self.root / source.path
        if not tree.is_dir():
            raise SourceError(
                subject=str(source),
                problem=f"there is no folder {tree}",
                hint="correct the path in the output's requirement",
            )
        return tree


def fetch_archive(
    source: ArchiveSource, url: str, file: Path, login: Login | None
) -> None:
    """Write a file that is locked, whole or not at all.

    Args:
        source: What is locked, for messages and by its hash.
        url: Where it is.
        file: To write; its folder has to be there.
        login: For the server.

    Raises:
        HashMismatchError: The URL gives another file.
        SourceError: It gives none.
    """
    from nox_buildstages.sources import downloads  # noqa: PLC0415 - few runs fetch

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        partial = Path(folder, file.name)
        try:
            found = downloads.download(url, partial, login)
        except downloads.FAILURES as error:
            if _is_full_disk(error):
                raise
            reach = f"check the network; if the file is gone, lock again:\n  {_UPGRADE}"
            raise SourceError(
                subject=redact(str(source)),
                problem=redact(
                    f"can't be fetched: {downloads.describe_failure(error)}"
                ),
                hint=LOGIN_HINT if downloads.lacks_login(error) else reach,
            ) from error
        if found != source.sha256:
            raise HashMismatchError(
                subject=redact(source.location),
                problem="it isn't the file that was locked",
                hint=f"if you trust the new file, lock again:\n  {_upgrade(source)}",
                expected=source.sha256,
                found=found,
            )
        os.replace(partial, file)  # noqa: PTH105 - the name that says it is atomic


def _top(tree: Path) -> Path:
    """Return the one folder of an sdist, or the tree where it is the project."""
    entries = list(tree.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        return entries[0]
    if any((tree / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return tree
    names = ", ".join(sorted(entry.name for entry in entries)) or "nothing"
    raise ValueError(f"an sdist holds one folder at its top, this one {names}")


def _upgrade(source: ArchiveSource) -> str:
    """Return the command that takes another file in place of this one."""
    file = unquote(urlsplit(source.location).path).rpartition("/")[2]
    try:
        name, _ = parse_sdist_filename(file)
    except InvalidSdistFilename:
        return _UPGRADE
    return f"{_UPGRADE}-package {name}"


def _project(source: Source, tree: Path, subdirectory: str | None) -> Path:
    project = tree / (subdirectory or "")
    inside = project.resolve().is_relative_to(tree.resolve())
    if not (inside and project.is_dir()):
        raise SourceError(
            subject=redact(str(source)),
            problem=f"it has no folder {subdirectory}",
            hint="correct #subdirectory= in the output's requirement",
        )
    return project


def _fragment(subdirectory: str | None) -> str:
    return f"#{subdirectory}" if subdirectory else ""


def _is_full_disk(error: Exception) -> bool:
    """Whether it is our disk that is at fault, and not the source."""
    return isinstance(error, OSError) and error.errno in FULL_DISK


@contextmanager
def _blaming(source: Source, hint: str) -> Iterator[None]:
    """Word whatever is found wrong with a source as a SourceError about it."""
    try:
        yield
    except _DAMAGED as error:
        if _is_full_disk(error):
            raise
        raise SourceError(
            subject=redact(str(source)),
            problem=redact(str(error) or type(error).__name__),
            hint=hint,
        ) from error


@contextmanager
def _failing_git(source: GitSource) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        reach = "check that the repository is reachable and has the commit"
        if is_auth_failure(error.output):
            reach = LOGIN_HINT
        raise SourceError(
            subject=redact(str(source)),
            problem=redact(f"git failed: {_last_words(error)}"),
            hint=reach if error.output else "install git",
        ) from error


def _last_words(error: CommandError) -> str:
    """Return why git gave up, with the line before: there ssh says its own reason."""
    said = [line for line in error.output.splitlines() if line] or [error.reason]
    fatal = (number for number, line in enumerate(said) if line.startswith("fatal:"))
    last = next(fatal, len(said) - 1)
    return "; ".join(said[max(last - 1, 0) : last + 1])
