"""What a source and its backend say they are, and what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import MetadataError
from nox_buildstages.lock.files.lockfile import IndexPin
from nox_buildstages.lock.resolve.check_identity import (
    check_name,
    check_source,
    check_version,
)
from nox_buildstages.lock.resolve.known_metadata import (
    BackendAnswer,
    KnownMetadata,
    StaticMetadata,
)
from nox_buildstages.lock.resolve.source_choice import SourceChoice
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    Final,
    GitSource,
    Metadata,
    Output,
    PackageRules,
    Project,
    Source,
)
from nox_buildstages.sources.metadata import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

A = canonicalize_name("a")
SDIST = ArchiveSource(location="https://example.com/a-1.4.tar.gz", sha256="0" * 64)
TARBALL = ArchiveSource(location="https://example.com/v1.4.tar.gz", sha256="0" * 64)
FOLDER = DirectorySource(path="a")
COMMIT = GitSource(url="https://example.com/a", commit="0" * 40)
SCM = ("setuptools-scm", "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{}")
GIT_VERSIONING = ("setuptools-git-versioning", "")
VARIABLE = "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_A"
PIN = IndexPin(
    name=canonicalize_name("setuptools-scm"), version=Version("8"), sha256="0"
)
NOTHING: Mapping[str, str] = {}


def make_static(
    source: Source,
    identity: Identity,
    *,
    version: str | None = None,
    is_patched: bool = False,
) -> StaticMetadata:
    choice = SourceChoice(version=Version(version) if version else None, source=source)
    return StaticMetadata(
        choice=choice,
        requires=(),
        metadata=None,
        identity=identity,
        is_patched=is_patched,
    )


def problem(
    static: StaticMetadata,
    found: str,
    wanted: str = "a",
    *,
    pins: tuple[IndexPin, ...] = (),
    env: Mapping[str, str] = NOTHING,
) -> str | None:
    output = Output(requirement=Requirement(wanted), location="outputs[0]")
    project = Project(
        pyproject=Path("/project/pyproject.toml"),
        lock_dir=Path("/project/build-stages"),
        wheelhouse=Path("/project/wheelhouse"),
        final=Final(requirements=()),
        stages=(),
        packages={A: PackageRules(env=env)},
    )
    known = KnownMetadata(project=project, static={A: static})
    metadata = Metadata(version=Version(found), learned="hook")
    known.record_answer(A, BackendAnswer(requires=(), metadata=metadata), pins)
    try:
        check_source(output, "s", static)
        check_version(output, "s", known, metadata)
    except MetadataError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("static", "found", "wanted"),
    [
        (make_static(SDIST, Identity(version=Version("1.4"))), "1.4", "a"),
        (make_static(SDIST, Identity(version=Version("1.4"))), "1.4.0", "a"),
        (make_static(SDIST, Identity(version=Version("1.4"))), "1.4+cu130", "a==1.4"),
        (make_static(SDIST, Identity(version=Version("1.4"))), "1.4+cu130", "a===1.4"),
        (make_static(SDIST, Identity(), version="1.4"), "1.4", "a"),
        (make_static(TARBALL, Identity()), "1.5", "a"),
        (
            make_static(SDIST, Identity(version=Version("1.4")), is_patched=True),
            "1.5",
            "a",
        ),
        (make_static(FOLDER, Identity(version=Version("1.4"))), "1.5", "a"),
        (make_static(FOLDER, Identity()), "0.0.0", "a"),
        (make_static(FOLDER, Identity(version_plugin=SCM)), "0.1", "a"),
        (make_static(FOLDER, Identity(version_plugin=SCM)), "0.0.1", "a"),
        (make_static(COMMIT, Identity(version_plugin=GIT_VERSIONING)), "0.0.1", "a"),
        (make_static(FOLDER, Identity(version_plugin=GIT_VERSIONING)), "0.0.2", "a"),
    ],
)
def test_a_backend_may_say_what_was_asked_for(
    static: StaticMetadata, found: str, wanted: str
) -> None:
    """A local version is its own affair, and folders may be newer than they say."""
    assert problem(static, found, wanted) is None


@pytest.mark.parametrize(
    ("static", "found", "wanted", "words"),
    [
        (
            make_static(SDIST, Identity(version=Version("1.4")), version="1.4"),
            "0.0.0",
            "a==1.4",
            "a (stage s): its sdist is 1.4, and its build backend says 0.0.0",
        ),
        (
            make_static(SDIST, Identity()),
            "1.3",
            "a",
            "its sdist is 1.4, and its build backend says 1.3",
        ),
        (
            make_static(SDIST, Identity(version=Version("1.3"))),
            "1.3",
            "a",
            "its sdist is 1.4 by its name, and 1.3 by its metadata",
        ),
        (
            make_static(SDIST, Identity(name=canonicalize_name("b"))),
            "1.4",
            "a",
            "its source is the source of b",
        ),
        (
            make_static(
                SDIST, Identity(version=Version("1.4")), version="1.4", is_patched=True
            ),
            "1.4.post1",
            "a==1.4",
            "its version is 1.4.post1, and ==1.4 is wanted",
        ),
        (
            make_static(FOLDER, Identity()),
            "2.0",
            "a<2",
            "its version is 2.0, and <2 is wanted",
        ),
        (
            make_static(FOLDER, Identity(version=Version("1.4"))),
            "0.0.0",
            "a",
            "its source is 1.4, and its build backend says 0.0.0",
        ),
        (
            make_static(FOLDER, Identity(version_plugin=SCM)),
            "0.0.0",
            "a",
            "its build backend finds no version and says 0.0.0",
        ),
        (
            make_static(FOLDER, Identity(version_plugin=GIT_VERSIONING)),
            "0.0.1",
            "a",
            'builds see no git repository of a folder: use "a @ git+https://…"',
        ),
        (
            make_static(FOLDER, Identity(version_plugin=("versioneer", ""))),
            "0+unknown",
            "a",
            "its build backend finds no version and says 0+unknown",
        ),
    ],
)
def test_a_backend_may_not_say_anything_else(
    static: StaticMetadata, found: str, wanted: str, words: str
) -> None:
    """File name, PKG-INFO, table and backend agree, or the project isn't locked."""
    assert words in str(problem(static, found, wanted))


@pytest.mark.parametrize(
    ("pins", "env", "line"),
    [
        ((), {}, '\n  build-requires = { add = ["setuptools-scm"] }'),
        ((PIN,), {}, f'\n  env = {{ {VARIABLE} = "1.4" }}'),
        ((PIN,), {VARIABLE: "0"}, "correct outputs[0], or the version in the source"),
    ],
)
def test_the_hint_is_the_next_thing_to_try(
    pins: tuple[IndexPin, ...], env: dict[str, str], line: str
) -> None:
    """First the project that finds the version, then the variable it reads."""
    identity = Identity(version=Version("1.4"), version_plugin=SCM)
    static = make_static(SDIST, identity)
    assert line in str(problem(static, "0.0.0", pins=pins, env=env))


def test_a_source_without_a_name_is_of_another_time() -> None:
    """An old setuptools doesn't read [project]."""
    with pytest.raises(MetadataError, match="setuptools>=61"):
        check_name("a", "s", canonicalize_name("UNKNOWN"))
