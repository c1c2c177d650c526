"""Identify sources, fetch them, and unpack them into fresh trees."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.utils import InvalidSdistFilename, parse_sdist_filename

from nox_buildstages.declarations.settings import OFFLINE_HINT
from nox_buildstages.errors import (
    CommandError,
    HashMismatchError,
    SourceError,
    WheelError,
)
from nox_buildstages.indexes.credentials import Credentials
from nox_buildstages.indexes.url_secrets import LOGIN_HINT, is_auth_failure, redact
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource
from nox_buildstages.sources import git, trees
from nox_buildstages.store.store import note_use
from nox_buildstages.system.files import (
    FULL_DISK,
    clear_place,
    path_from_url,
    path_id,
    read_file,
    remove_tree,
    sha256_of,
    temporary_folder,
)
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from nox_buildstages.model import Source
    from nox_buildstages.sources.patches import PatchFile
    from nox_buildstages.system.process import Runner
    from nox_buildstages.wheels.core_metadata import CoreMetadata

MAX_WHEEL_SIZE = 20_000_000
"""The size in bytes up to which a wheel is fetched to read its METADATA."""

_UPGRADE = "nox -s build-stages-lock -- --upgrade"
_EXCLUDE_HINT = "fix that file, or exclude it in .gitignore"


class Sources(Value, kw_only=False):
    """Fetches sources, and keeps fetched sources in the store."""

    root: Path  # the folder of the project
    cache: Path  # the folder of the store; files are verified before use
    runner: Runner
    excluded: tuple[Path, ...] = ()  # our own folders, never part of a source
    credentials: Credentials = field(default_factory=Credentials)
    git_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    offline: str = ""  # see ``Indexes.offline``
    report: Callable[[str], object] = str  # prints a line; by default nothing

    def identity(self, source: Source) -> str:
        """Return the part of a content key about a source.

        Sources with equal identities have equal bytes. Nothing is fetched.

        Raises:
            SourceError: A folder is missing or unreadable.
        """
        fragment = f"#{source.subdirectory}" if source.subdirectory else ""
        if isinstance(source, DirectorySource):
            files = self._list_files(source)
            with _raise_source_error(source, _EXCLUDE_HINT):
                tree = self._find_folder(source)
                digest = trees.hash_files(tree, files, self._note(tree))
            return f"tree:sha256:{digest}{fragment}"
        if isinstance(source, ArchiveSource):
            return f"sha256:{source.sha256}{fragment}"
        return f"git:{source.commit}{fragment}"

    def unpack(
        self,
        source: Source,
        target: Path,
        patches: Sequence[PatchFile] = (),
        *,
        only: Collection[str] = (),
        identity: str = "",
    ) -> Path:
        """Create a fresh tree of a source, and return the project's folder in the tree.

        The paths in the patches are relative to the top of the source, not to a
        subdirectory. From an archive only files with the names ``only`` are unpacked,
        if there are any. With an ``identity``, a copied folder must have it. After a
        failure the tree is removed.

        Raises:
            FileExistsError: The target exists.
            HashMismatchError: A file isn't the locked file.
            SourceError: The source can't be fetched, is unsafe or damaged, or a patch
                doesn't apply; or somebody has changed the folder.
        """
        target.mkdir(parents=True)
        with ExitStack() as on_failure:
            on_failure.callback(remove_tree, target)
            top = target
            if isinstance(source, ArchiveSource):
                archive = self._find_archive(source)
                hint = "name another release, a git commit or a folder of it"
                with _raise_source_error(source, hint):
                    from nox_buildstages.sources import archives  # noqa: PLC0415 - to unpack

                    archives.unpack_archive(archive, target, only=only)
                    top = _find_top(target)
            elif isinstance(source, GitSource):
                self._check_out(source, target)
            else:
                self._copy_folder(source, target, identity)
            if not only:
                self._report_empty_submodules(source, top)
            if patches:
                from nox_buildstages.sources.patches import apply_patches  # noqa: PLC0415

                apply_patches(
                    patches,
                    top,
                    source=redact(str(source)),
                    is_clone=isinstance(source, GitSource),
                    runner=self.runner,
                )
            project = top
            if source.subdirectory:
                project = top / source.subdirectory
                is_inside = project.resolve().is_relative_to(top.resolve())
                if not (is_inside and project.is_dir()):
                    raise SourceError(
                        subject=redact(str(source)),
                        problem=f"it has no folder {source.subdirectory}",
                        hint="correct #subdirectory= in the output's requirement",
                    )
            on_failure.pop_all()
        return project

    def _copy_folder(
        self, source: DirectorySource, target: Path, identity: str
    ) -> None:
        """Copy the files of a folder; compare the copy with an identity, if given."""
        files, tree = self._list_files(source), self._find_folder(source)
        try:
            with _raise_source_error(source, _EXCLUDE_HINT):
                trees.copy_files(tree, files, target)
                digest = trees.hash_contents(target, files) if identity else ""
        except SourceError as error:
            raise replace(error, hint=self._link_hint(source)) from error
        if digest not in identity:
            self._note(tree).unlink(missing_ok=True)
            raise SourceError(
                subject=str(source),
                problem="its files changed after its key was computed",
                hint="run the same command again; if a program keeps writing into the"
                " folder, exclude its files in .gitignore",
            )

    def _note(self, tree: Path) -> Path:
        """Return the file that remembers the hash of a folder."""
        return self.cache / "folders" / f"{path_id(tree)}.txt"

    def _report_empty_submodules(self, source: Source, top: Path) -> None:
        """Report submodules without files, which a build may need."""
        if isinstance(source, DirectorySource):
            tree = self._find_folder(source)
            listed = git.list_files(tree, self.runner) or ()
            empty = trees.find_empty_submodules(tree, listed)
            advice = f"run git -C {tree} submodule update --init --recursive"
        else:
            empty = trees.find_empty_submodules(top)
            advice = (
                "if the build needs it, build from a git commit: NAME @ git+https://…"
            )
        if empty:
            self.report(
                f"{redact(str(source))}: the submodule {', '.join(empty)} is empty;"
                f" {advice}"
            )

    def absolute_url(self, location: str) -> str:
        """Return the URL of a file, which a lock may name by a path."""
        if "://" in location or location.startswith("file:"):
            return location
        return Path(self.root, location).absolute().as_uri()

    def prefetch(self, source: Source) -> None:
        """Fetch an archive that the store lacks; unpacking it reports a failure."""
        if isinstance(source, ArchiveSource):
            with suppress(SourceError, OSError):
                if not self._archive_path(source).is_file():
                    self._find_archive(source)

    def _archive_path(self, source: ArchiveSource) -> Path:
        url = self.absolute_url(source.location)
        name = PurePosixPath(unquote(urlsplit(url).path)).name.strip(".")
        return self.cache / "sources" / source.sha256 / (name or "source")

    def _find_archive(self, source: ArchiveSource) -> Path:
        """Return the path of a verified archive, fetched if necessary."""
        with _raise_source_error(source, f"make {self.cache} writable"):
            file = self._archive_path(source)
            note_use(file.parent)
            if file.is_file() and sha256_of(file) == source.sha256:
                return file
            clear_place(file.parent, is_folder=True)
            file.parent.mkdir(parents=True, exist_ok=True)
            clear_place(file, is_folder=False)
        self.fetch_archive(source, file)
        return file

    def fetch_archive(self, source: ArchiveSource, file: Path) -> None:
        """Download a locked file atomically, and verify the hash.

        Raises:
            HashMismatchError: The downloaded file isn't the locked file.
            SourceError: The download fails, or the network is off.
        """
        from nox_buildstages.sources import downloads  # noqa: PLC0415 - few runs fetch

        url = self.absolute_url(source.location)
        if self.offline and not url.startswith("file:"):
            raise self._offline_error(source)
        with temporary_folder("fetching-", file.parent) as folder:
            partial = folder / file.name
            login = self.credentials.login_for(url)
            try:
                found = downloads.download(url, partial, login)
            except downloads.FAILURES as error:
                if _is_full_disk(error):
                    raise
                hint = "check the network; if the file is gone, lock again:"
                hint += f"\n  {_UPGRADE}"
                reason = downloads.describe_failure(error)
                raise SourceError(
                    subject=redact(str(source)),
                    problem=redact(f"can't be fetched: {reason}"),
                    hint=LOGIN_HINT if downloads.lacks_login(error) else hint,
                ) from error
            if found != source.sha256:
                upgrade = _UPGRADE
                with suppress(InvalidSdistFilename):
                    sdist = PurePosixPath(unquote(urlsplit(source.location).path)).name
                    upgrade = f"{_UPGRADE}-package {parse_sdist_filename(sdist)[0]}"
                raise HashMismatchError(
                    subject=redact(source.location),
                    problem="it isn't the file that was locked",
                    hint=f"if you trust the new file, lock again:\n  {upgrade}",
                    expected=source.sha256,
                    found=found,
                )
            os.replace(partial, file)  # noqa: PTH105 - the name that says it is atomic

    def wheel_metadata(
        self, wheel: ArchiveSource, size: int | None
    ) -> CoreMetadata | None:
        """Return the METADATA of a wheel on an index, or None.

        Most indexes serve it beside the wheel (PEP 658). Otherwise the wheel itself is
        fetched, if it is small.
        """
        from nox_buildstages.sources import downloads  # noqa: PLC0415 - few runs fetch
        from nox_buildstages.wheels.core_metadata import parse_metadata  # noqa: PLC0415
        from nox_buildstages.wheels.wheel import read_metadata  # noqa: PLC0415

        url = urlsplit(self.absolute_url(wheel.location))
        file = self.cache / "sources" / wheel.sha256 / "METADATA"
        with suppress(*downloads.FAILURES, SourceError, WheelError):
            if url.scheme == "file":
                return parse_metadata(read_metadata(path_from_url(url.path)))
            if not file.is_file() and not self.offline:
                address = urlunsplit((*url[:2], f"{url.path}.metadata", url.query, ""))
                file.parent.mkdir(parents=True, exist_ok=True)
                with temporary_folder("fetching-", file.parent) as folder:
                    partial = folder / file.name
                    try:
                        login = self.credentials.login_for(address)
                        downloads.download(address, partial, login)
                    except downloads.FAILURES:
                        if size is None or size > MAX_WHEEL_SIZE:
                            return None
                        path = folder / PurePosixPath(unquote(url.path)).name
                        self.fetch_archive(wheel, path)
                        partial.write_bytes(read_metadata(path))
                    os.replace(partial, file)  # noqa: PTH105 - the name that says it is atomic
            note_use(file.parent)
            return parse_metadata(read_file(file))
        return None

    def _check_out(self, source: GitSource, target: Path) -> None:
        url = source.url
        if git.is_local_url(url) and not url.startswith("file://"):
            url = str(Path(self.root, url).absolute())
        repository = git.Repository(
            url=url,
            mirrors=self.cache / "git",
            runner=self.runner,
            variables=self.git_variables,
            is_offline=bool(self.offline),
        )
        try:
            with _raise_source_error(source, f"lock it again:\n  {_UPGRADE}"):
                repository.check_out(source.commit, target)
        except CommandError as error:
            if self.offline and git.needs_network(error.output):
                raise self._offline_error(source) from error
            hint = "check that the repository is reachable and has the commit"
            if is_auth_failure(error.output):
                hint = LOGIN_HINT
            elif not error.output:
                hint = "install git"
            # ssh prints its reason on the line before git's.
            lines = [it for it in error.output.splitlines() if it] or [error.reason]
            fatal = (i for i, line in enumerate(lines) if line.startswith("fatal:"))
            last = next(fatal, len(lines) - 1)
            reason = "; ".join(lines[max(last - 1, 0) : last + 1])
            raise SourceError(
                subject=redact(str(source)),
                problem=redact(f"git failed: {reason}"),
                hint=hint,
            ) from error

    def _offline_error(self, source: Source) -> SourceError:
        return SourceError(
            subject=redact(str(source)),
            problem=f"can't be fetched: the network is off ({self.offline})",
            hint=OFFLINE_HINT,
        )

    def _list_files(self, source: DirectorySource) -> dict[str, os.stat_result]:
        """Return the source files of a folder, with their status.

        Raises:
            SourceError: The folder is missing, or git can't read its repository.
        """
        tree, excluded = self._find_folder(source), (*self.excluded, self.cache)
        try:
            with _raise_source_error(source, _EXCLUDE_HINT):
                return trees.list_source_files(tree, self.runner, excluded)
        except CommandError as error:
            reason = error.output.strip().partition("\n")[0] or error.reason
            raise SourceError(
                subject=str(source),
                problem=f"git can't list its files: {reason}",
                hint="fix the repository around it; without git, nobody knows which"
                " files .gitignore leaves out"
                if error.output
                else "install git, which knows the files that .gitignore leaves out",
            ) from error

    def _link_hint(self, source: DirectorySource) -> str:
        """Return the hint for a folder whose links may lead to other folders."""
        tree = self.root / source.path
        folder = tree / (source.subdirectory or "")
        for name in self._list_files(source):
            path = tree / name
            if path.is_symlink() and path.exists():
                whole = trees.widen(self.root, tree, folder, path)
                if whole is not None:
                    return (
                        "name the folder that holds both in the output's requirement,"
                        f" or exclude the link in .gitignore:\n  … @ {whole}"
                    )
        return _EXCLUDE_HINT

    def _find_folder(self, source: DirectorySource) -> Path:
        tree = self.root / source.path
        if not tree.is_dir():
            raise SourceError(
                subject=str(source),
                problem=f"there is no folder {tree}",
                hint="correct the path in the output's requirement",
            )
        return tree


def _find_top(tree: Path) -> Path:
    """Return the only folder in an unpacked sdist, or the tree of a project."""
    entries = list(tree.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        return entries[0]
    if any((tree / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return tree
    names = ", ".join(sorted(entry.name for entry in entries)) or "nothing"
    raise ValueError(f"an sdist holds one folder at its top, this one {names}")


def _is_full_disk(error: Exception) -> bool:
    """Whether our disk is to blame, and not the source."""
    return isinstance(error, OSError) and error.errno in FULL_DISK


@contextmanager
def _raise_source_error(source: Source, hint: str) -> Iterator[None]:
    """Turn every error about a damaged source into a SourceError."""
    try:
        yield
    except Exception as error:
        from nox_buildstages.sources.archives import FAILURES  # noqa: PLC0415 - rare

        if not isinstance(error, FAILURES) or _is_full_disk(error):
            raise
        raise SourceError(
            subject=redact(str(source)),
            problem=redact(str(error) or type(error).__name__),
            hint=hint,
        ) from error
