"""The folder of lock files, and when what is in it is no longer current."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from packaging.markers import default_environment
from packaging.pylock import Package, PackageWheel
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.config.project import read as read_table, read_cells
from nox_buildstages.errors import (
    InvalidLockError,
    LockError,
    SourceError,
    StaleLockError,
)
from nox_buildstages.lock.files import folder, pylock
from nox_buildstages.lock.files.document import dump_lock, load_lock, with_series
from nox_buildstages.lock.files.inputs import (
    describe_differences,
    digest_declarations,
    digest_inputs,
)
from nox_buildstages.lock.files.lockfile import IndexPin, Lock, LockedOutput
from nox_buildstages.lock.files.names import lock_names
from nox_buildstages.lock.files.selection import Selection, digest_interpreter
from nox_buildstages.lock.resolve.source_choice import earlier_sources
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    Interpreter,
    Metadata,
    Source,
)
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.system.files import file_stamp, remove_tree, write_text
from nox_buildstages.system.process import run_in_parallel
from nox_buildstages.value import replace
from support.packages import make_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from nox_buildstages.model import Project

INPUTS = "sha256:1"
Table = dict[str, Any]


def declared(root: Path, table: Table | None = None, **tools: Table) -> Project:
    """Return a project of two stages, or another one."""
    stages = [
        {"name": "kernels", "outputs": ["kernel"]},
        {"name": "models", "outputs": ["model"]},
    ]
    document = {"tool": {"nox-buildstages": table or {"stage": stages}, **tools}}
    return read_table(document, pyproject=root / "pyproject.toml")


def locks(project: Project, inputs: str = INPUTS) -> tuple[Lock, ...]:
    return with_series(
        Lock(name=name, inputs=inputs, pylock=pylock.make_pylock(()))
        for name in lock_names(project)
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return declared(tmp_path)


def make_run() -> Run:
    return Run(id="1-a", journal=Journal(Path("journal")))


@pytest.fixture
def run() -> Run:
    return make_run()


def file(project: Project, name: str) -> Path:
    return project.lock_dir / f"pylock.{name}.toml"


# Reading and writing ---------------------------------------------------------------


def test_locks_are_read_as_they_were_written(project: Project, run: Run) -> None:
    """There is one for each stage and one for the runtime."""
    written = locks(project)
    files = folder.write_locks(project, written)
    assert [path.name for path in files] == [
        "pylock.kernels.toml",
        "pylock.models.toml",
        "pylock.final.toml",
    ]
    assert tuple(folder.read_locks(project, run, inputs=INPUTS).values()) == written


@pytest.mark.parametrize("in_place", [True, False])
def test_what_another_process_writes_is_seen(
    project: Project, run: Run, *, in_place: bool
) -> None:
    """A process reads a file once, but no longer than the file stays as it is."""
    folder.write_locks(project, locks(project))
    first = folder.read_locks(project, run, inputs=INPUTS)
    assert folder.read_locks(project, run, inputs=INPUTS)["final"] is first["final"]
    if in_place:
        for lock in locks(project, "sha256:2"):
            file(project, lock.name).write_text(dump_lock(lock), "utf-8")
    else:
        folder.write_locks(project, locks(project, "sha256:2"))
    with pytest.raises(StaleLockError):
        folder.read_locks(project, run, inputs=INPUTS)
    assert folder.read_locks(project, run, inputs="sha256:2").keys() == first.keys()


@pytest.mark.parametrize(
    ("in_place", "name", "is_seen"),
    [(True, "kernels", True), (False, "models", True), (True, "models", False)],
)
def test_a_session_looks_at_the_locks_that_it_needs(
    project: Project, run: Run, name: str, *, in_place: bool, is_seen: bool
) -> None:
    """Those that it has read it reads anew where the folder isn't as it was, too."""
    folder.write_locks(project, locks(project))
    kept = project.root / "kept"
    selection = Selection(interpreter=interpreter(), digest="a", store=kept)
    session = partial(
        folder.select_locks,
        project,
        run,
        selection,
        inputs=INPUTS,
        needed=("kernels",),
    )
    first = session()
    assert first.keys() == {"kernels", "models", "final"}
    assert session() is first
    text = file(project, name).read_text("utf-8")
    changed = text.replace(load_lock(text, name=name).series, "0")
    if in_place:
        file(project, name).write_text(changed, "utf-8")
    else:
        write_text(file(project, name), changed)
    with pytest.raises(StaleLockError) if is_seen else nullcontext():
        assert session() is first
    with pytest.raises(StaleLockError, match="not all come from the same run"):
        folder.select_locks(project, run, selection, inputs=INPUTS)


def test_no_lock_at_all_is_missing(project: Project, run: Run) -> None:
    """The first run of a project has nothing to read."""
    with pytest.raises(
        StaleLockError, match=r"there are no lock files in .*build-stages"
    ):
        folder.read_locks(project, run, inputs=INPUTS)


@pytest.mark.parametrize("whole", [True, False])
def test_locks_that_are_removed_are_missing(
    project: Project, run: Run, *, whole: bool
) -> None:
    """Though they have been read: the folder is gone, or empty."""
    folder.write_locks(project, locks(project))
    folder.read_locks(project, run, inputs=INPUTS)
    remove_tree(project.lock_dir)
    if not whole:
        project.lock_dir.mkdir()
    with pytest.raises(StaleLockError):
        folder.read_locks(project, run, inputs=INPUTS)


def without_models(project: Project) -> None:
    file(project, "models").unlink()


def from_two_runs(project: Project) -> None:
    lock = load_lock(file(project, "models").read_text("utf-8"), name="models")
    file(project, "models").write_text(dump_lock(replace(lock, series="0")), "utf-8")


def from_other_inputs(project: Project) -> None:
    folder.write_locks(project, locks(project, "sha256:2"))


def in_conflict(project: Project) -> None:
    file(project, "models").write_text("<<<<<<< ours\n", "utf-8")


def in_latin_1(project: Project) -> None:
    file(project, "models").write_bytes(b"# \xe9\n")


def in_another_format(project: Project) -> None:
    text = file(project, "models").read_text("utf-8")
    file(project, "models").write_text(text.replace("format = 1", "format = 0"))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            without_models,
            StaleLockError,
            r"out of date: pylock\.models\.toml is missing",
        ),
        (from_two_runs, StaleLockError, "not all come from the same run"),
        (
            from_other_inputs,
            StaleLockError,
            r"pylock\.kernels\.toml was made from other settings",
        ),
        (in_conflict, InvalidLockError, r"pylock\.models\.toml: can't be read"),
        (in_latin_1, InvalidLockError, r"pylock\.models\.toml: can't be read"),
        (in_another_format, InvalidLockError, r"pylock\.models\.toml: has format 0"),
    ],
)
def test_locks_that_are_not_current_are_told(
    project: Project,
    change: Callable[[Project], None],
    error: type[LockError],
    said: str,
) -> None:
    """The file, what is wrong with it, and the command that mends it."""
    folder.write_locks(project, locks(project))
    change(project)
    with pytest.raises(error, match=said) as caught:
        folder.read_locks(project, make_run(), inputs=INPUTS)
    assert "nox -s build-stages-lock" in str(caught.value)


@pytest.mark.parametrize("change", [in_conflict, in_latin_1, without_models])
def test_what_can_be_read_counts_for_the_next_locks(
    project: Project, change: Callable[[Project], None]
) -> None:
    """One damaged file doesn't cost the versions that the others keep."""
    folder.write_locks(project, locks(project))
    change(project)
    assert folder.read_all_locks(project).keys() == {"kernels", "final"}


@pytest.mark.parametrize(
    "change", [in_conflict, in_latin_1, in_another_format, without_models]
)
def test_what_can_be_read_is_compared_with_the_next_locks(
    project: Project, change: Callable[[Project], None]
) -> None:
    """Those of stages that are gone too; what no one wrote as a lock isn't one."""
    written = {lock.name: lock for lock in locks(project)}
    folder.write_locks(project, written.values())
    gone = replace(written["models"], name="gone")
    file(project, "gone").write_text(dump_lock(gone), "utf-8")
    change(project)
    expected = {"kernels": written["kernels"], "final": written["final"], "gone": gone}
    assert folder.read_all_locks(project) == expected


def test_before_the_first_locking_nothing_exists(project: Project) -> None:
    """Not even the folder."""
    assert folder.read_all_locks(project) == {}


@pytest.mark.parametrize(
    "change", [in_conflict, in_latin_1, in_another_format, from_two_runs]
)
def test_what_is_not_current_is_written_anew(
    project: Project, run: Run, change: Callable[[Project], None]
) -> None:
    """Whatever is in its place, the lock is what it should be afterwards."""
    folder.write_locks(project, locks(project))
    change(project)
    assert folder.write_locks(project, locks(project)) == (file(project, "models"),)
    folder.read_locks(project, run, inputs=INPUTS)


def test_only_what_changed_is_written(project: Project) -> None:
    """A file that is right is not touched, so that nothing sees a change."""
    folder.write_locks(project, locks(project))
    before = {path: file_stamp(path) for path in project.lock_dir.iterdir()}
    assert folder.write_locks(project, locks(project)) == ()
    assert {path: file_stamp(path) for path in project.lock_dir.iterdir()} == before


def test_the_lock_of_a_stage_that_is_gone_is_removed(
    project: Project, tmp_path: Path
) -> None:
    """What a user put beside it stays, though its name is like a lock's."""
    folder.write_locks(project, locks(project))
    own = [project.lock_dir / name for name in ("pylock.own.toml", "pylock.x.toml")]
    own[0].write_text('lock-version = "1.0"\ncreated-by = "me"\npackages = []\n')
    own[1].write_bytes(b"\xff")
    (project.lock_dir / "README.md").touch()
    smaller = declared(tmp_path, {"stage": [{"name": "kernels", "outputs": ["k"]}]})
    folder.write_locks(smaller, locks(smaller))
    assert sorted(path.name for path in project.lock_dir.iterdir()) == [
        "README.md",
        "pylock.final.toml",
        "pylock.kernels.toml",
        "pylock.own.toml",
        "pylock.x.toml",
    ]


# Sources that were chosen before ---------------------------------------------------


def provided_by(stage: str, name: str, source: Source, version: str = "1.0") -> Lock:
    output = LockedOutput(
        name=canonicalize_name(name),
        source=source,
        build_requires=(),
        metadata=Metadata(version=Version(version), learned="static"),
    )
    return Lock(name=stage, inputs="", pylock=pylock.make_pylock(()), outputs=(output,))


def test_sources_that_were_chosen_are_kept() -> None:
    """All but folders, of which there is nothing to choose."""
    archive = ArchiveSource(location="https://host/a-1.0.tar.gz", sha256="0" * 64)
    earlier = {
        "kernels": provided_by("kernels", "a", archive),
        "models": provided_by("models", "b", DirectorySource(path="b")),
    }
    text = earlier_sources(earlier)
    assert text is not None
    assert archive.location in text
    assert '"b"' not in text


def test_a_source_is_kept_by_its_own_version() -> None:
    """The index has no 1.0+torch2.13.0, which is what its wheel will be."""
    archive = ArchiveSource(location="https://host/a-1.0.tar.gz", sha256="0" * 64)
    text = earlier_sources({"kernels": provided_by("kernels", "a", archive, "1.0+t2")})
    assert text is not None
    assert 'version = "1.0"' in text
    assert "[packages.sdist]" in text


def test_nothing_was_chosen_before() -> None:
    """Then there is no text, and uv is told nothing."""
    assert earlier_sources({}) is None


# What locks are made from ----------------------------------------------------------

STAGE = {
    "name": "kernels",
    "outputs": ["kernel", "folder @ ./vendor/folder"],
    "dependencies": ["torch"],
    "env": {"FORCE": "1"},
}
TABLE: Table = {
    "constraints": ["numpy<2"],
    "final": {"requirements": ["kernel", "own @ ./wheels/own-1.0-py3-none-any.whl"]},
    "package": {"kernel": {"build-requires": {"add": ["wheel"]}}},
}
UV: Table = {
    "index": [{"name": "cpu", "url": "https://host/simple", "explicit": True}],
    "sources": {
        "torch": {"index": "cpu"},
        "listed": [
            {"path": "vendor/listed", "marker": "python_version > '3'"},
            {"index": "cpu", "marker": "python_version < '3'"},
        ],
    },
    "managed": True,
}


def tables(root: Path) -> tuple[Table, Table, Table, Path]:
    """Return the parts of a project, whose folders are there."""
    for name in ("folder", "listed"):
        make_tree(root / "vendor" / name, name, "1.0")
    stage = {**STAGE, "outputs": [*STAGE["outputs"], "listed"]}
    return {**TABLE}, stage, {**UV}, root


def interpreter(**markers: str) -> Interpreter:
    environment = default_environment()
    environment["python_version"] = "3.11"
    environment["python_full_version"] = "3.11.7"
    environment["sys_platform"] = "linux"
    environment.update(markers)  # type: ignore[typeddict-item]
    tags = (Tag("py3", "none", "any"),)
    return Interpreter(markers=environment, tags=tags, abi="abi", platform="linux")


def digest_of(table: Table, stage: Table, uv: Table, root: Path) -> str:
    project = declared(root, {**table, "stage": [stage]}, uv=uv)
    return digest_inputs([project], interpreter(), make_run())


def declarations(table: Table, stage: Table, uv: Table, root: Path) -> dict[str, str]:
    project = declared(root, {**table, "stage": [stage]}, uv=uv)
    return digest_declarations([project], interpreter(), make_run())


Change = tuple[str, Table]
OTHER_OUTPUTS = ["kernel>1", "folder @ ./vendor/folder", "listed"]
COUNTS: list[Change] = [
    ("stage", {"name": "other"}),
    ("stage", {"outputs": OTHER_OUTPUTS}),
    ("stage", {"dependencies": ["torch", "ninja"]}),
    ("stage", {"dependencies": []}),
    ("stage", {"env": {"FORCE": "0"}}),
    ("stage", {"pass-env": ["CUDA_HOME"]}),
    ("table", {"match-runtime": ["torch"]}),
    ("table", {"constraints": ["numpy<3"]}),
    ("table", {"build-constraints": ["numpy<2"]}),
    ("table", {"exclude-newer": "2026-11-01"}),
    ("table", {"lock-dir": "deeper/build-stages"}),
    ("table", {"final": {"requirements": ["kernel"]}}),
    ("table", {"package": {}}),
    ("table", {"package": {"kernel": {"build-requires": {"add": ["wheel>1"]}}}}),
    ("table", {"package": {"kernel": {"build-requires": {"remove": ["wheel"]}}}}),
    ("table", {"package": {"kernel": {"config-settings": {"--a": "b"}}}}),
    ("table", {"package": {"kernel": {"env": {"A": "b"}}}}),
    ("table", {"package": {"kernel": {"metadata": {"requires-dist": []}}}}),
    ("table", {"package": {"kernel": {"metadata": {"requires-dist": ["torch"]}}}}),
    ("table", {"package": {"kernel": {"local-version": "torch{torch}"}}}),
    ("uv", {"index": [{"name": "cpu", "url": "https://host/other"}]}),
    ("uv", {"sources": {"listed": {"path": "vendor/listed"}}}),
    ("uv", {"find-links": ["wheels"]}),
    ("uv", {"prerelease": "allow"}),
    ("uv", {"override-dependencies": ["numpy==1.26"]}),
    ("uv", {"pip": {"index-strategy": "unsafe-best-match"}}),
]
NAMED = {"final": "final: requirements", "package": "package kernel: "}
"""How the changes of keys begin whose names are others."""

COUNTS_NOT: list[Change] = [
    ("stage", {"tools": ["c++"]}),
    ("table", {"wheelhouse": "wheels"}),
    ("table", {"final": {**TABLE["final"], "imports": ["kernel"]}}),
    ("table", {"final": {**TABLE["final"], "checks": [["python", "-V"]]}}),
    ("uv", {"managed": False}),
    ("uv", {"workspace": {"members": ["a"]}}),
]


def change_parts(change: Change, root: Path) -> dict[str, Any]:
    """Return the parts of the project with one of them changed."""
    table, stage, uv, root = tables(root)
    parts = {"table": table, "stage": stage, "uv": uv}
    kind, changed = change
    return {**parts, kind: {**parts[kind], **changed}, "root": root}


def after(change: Change, root: Path) -> str:
    """Return the digest of the project with one part of it changed."""
    return digest_of(**change_parts(change, root))


@pytest.mark.parametrize("change", COUNTS, ids=str)
def test_a_change_that_counts_makes_locks_stale(tmp_path: Path, change: Change) -> None:
    """Whatever may make them come out differently; and it is named."""
    before = tables(tmp_path)
    parts = change_parts(change, tmp_path)
    assert digest_of(**parts) != digest_of(*before)
    said = describe_differences(declarations(*before), declarations(**parts))
    assert said
    kind, (key,) = change[0], change[1]
    groups = {"uv": "tool.uv", "stage": "stage "}
    named = NAMED.get(key, groups.get(kind, key))
    assert said.startswith(named)


def test_what_has_changed_is_named_by_stage_and_key() -> None:
    """A new stage is one change, and more than a few are counted."""
    old = {"stage a: env X": "1", "stage a: dependencies": "2", "constraints": "3"}
    new = {**old, "stage a: env X": "9", "stage a: env Y": "9", "stage b: outputs": "1"}
    expected = "stage a: env X, env Y; stage b: new"
    assert describe_differences(old, new) == expected
    assert describe_differences(new, old).endswith("stage b: removed")
    assert describe_differences(old, {}) == "constraints; stage a: removed"
    many = {f"package p{number}: env A": "1" for number in range(6)}
    assert describe_differences({}, many).endswith("; package p3: env A; and 2 more")
    assert describe_differences(old, old) == ""


@pytest.mark.parametrize("change", COUNTS_NOT, ids=str)
def test_a_change_that_does_not_count_leaves_locks_current(
    tmp_path: Path, change: Change
) -> None:
    """Whatever has no say in a resolution."""
    assert after(change, tmp_path) == digest_of(*tables(tmp_path))


def test_where_a_project_lies_does_not_count(tmp_path: Path) -> None:
    """Locks that one checkout made are current in another one."""
    one, other = tables(tmp_path / "one"), tables(tmp_path / "deep/other")
    assert digest_of(*one) == digest_of(*other)


def test_a_folder_beside_a_project_may_move_with_it(tmp_path: Path) -> None:
    """A project in a larger repository names its neighbours."""

    def digest(root: Path) -> str:
        make_tree(root / "kernel", "kernel", "1.0")
        stage = {"name": "kernels", "outputs": ["kernel @ ../kernel"]}
        return digest_of({}, stage, {}, root / "project")

    assert digest(tmp_path / "one") == digest(tmp_path / "two")


@pytest.mark.parametrize("name", ["folder", "listed"])
@pytest.mark.parametrize("file", ["pyproject.toml", "setup.py", "setup.cfg"])
def test_what_a_folder_requires_counts(tmp_path: Path, name: str, file: str) -> None:
    """The files that say so are looked at, in every folder that is an output."""
    parts = tables(tmp_path)
    before = digest_of(*parts)
    with (tmp_path / "vendor" / name / file).open("a") as stream:
        stream.write("# changed\n")
    assert digest_of(*parts) != before


def test_the_code_of_a_folder_does_not_count(tmp_path: Path) -> None:
    """Who works on it builds it again, and has nothing to lock."""
    parts = tables(tmp_path)
    before = digest_of(*parts)
    (tmp_path / "vendor/folder/folder/__init__.py").write_text("x = 1\n")
    (tmp_path / "vendor/folder/new.cpp").touch()
    assert digest_of(*parts) == before


def test_sessions_of_a_run_see_changed_files(tmp_path: Path, run: Run) -> None:
    """A process keeps the digest only as long as patches and folders stay the same."""
    table, stage, uv, root = tables(tmp_path)
    patch = root / "a.patch"
    patch.write_text("1")
    table["package"] = {"kernel": {"patches": [patch.name]}}
    project = declared(root, {**table, "stage": [stage]}, uv=uv)
    digests = [digest_inputs([project], interpreter(), run) for _ in range(2)]
    patch.write_text("2")
    digests.append(digest_inputs([project], interpreter(), run))
    (root / "vendor/folder/setup.py").write_text("3")
    digests.append(digest_inputs([project], interpreter(), run))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_folder_that_is_gone_counts(tmp_path: Path) -> None:
    """Whether locks are current can be told though it isn't there."""
    parts = tables(tmp_path)
    before = digest_of(*parts)
    (tmp_path / "vendor/folder/pyproject.toml").unlink()
    assert digest_of(*parts) != before


def with_patches(root: Path, **files: str) -> str:
    """Return the digest with patches of one output, in that order."""
    for name, content in files.items():
        (root / name).write_text(content)
    table, stage, uv, root = tables(root)
    package = {"kernel": {"patches": [*files]}}
    return digest_of({**table, "package": package}, stage, uv, root)


def test_patches_count_by_contents_and_order(tmp_path: Path) -> None:
    """One byte makes locks stale; what the files are called doesn't."""
    before = with_patches(tmp_path, one="1", two="2")
    assert with_patches(tmp_path, first="1", second="2") == before
    assert with_patches(tmp_path, one="1", two="3") != before
    assert with_patches(tmp_path, one="2", two="1") != before
    assert with_patches(tmp_path, one="1") != before
    assert with_patches(tmp_path) != before


def test_a_patch_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Whether locks are current can't be told then, nor could anything be built."""
    table, stage, uv, root = tables(tmp_path)
    table["package"] = {"kernel": {"patches": ["no.patch"]}}
    with pytest.raises(SourceError, match=r"package\.kernel\.patches\[0\]"):
        digest_of(table, stage, uv, root)


@pytest.mark.parametrize(
    ("marker", "value", "same"),
    [
        ("python_version", "3.12", False),
        ("implementation_name", "pypy", False),
        ("sys_platform", "darwin", False),
        ("platform_machine", "other", False),
        ("python_full_version", "3.11.99", True),
        ("platform_release", "6.66", True),
    ],
)
def test_another_interpreter_has_its_own_locks(
    project: Project, marker: str, value: str, *, same: bool
) -> None:
    """Another minor version, implementation or platform; not another patch."""
    one, other = interpreter(), interpreter(**{marker: value})
    digests = {digest_inputs([project], it, make_run()) for it in (one, other)}
    assert (len(digests) == 1) is same


def test_a_project_is_read_as_toml_has_it(tmp_path: Path) -> None:
    """The order of the keys in a table doesn't count."""
    table, stage, uv, root = tables(tmp_path)
    turned = {key: stage[key] for key in reversed(stage)}
    assert digest_of(table, turned, uv, root) == digest_of(table, stage, uv, root)


def test_values_that_change_places_have_their_own_locks(tmp_path: Path) -> None:
    """Though each constraint comes up where it was: files are named by values."""
    table, stage, _, root = tables(tmp_path)
    one, two = ({"constraints": [f"x=={version}"]} for version in "12")
    digests = set()
    for values in ({"1": one, "2": two}, {"2": one, "1": two}):
        content = {**table, "matrix": {"x": values}, "stage": [stage]}
        document = {"tool": {"nox-buildstages": content}}
        cells = read_cells(document, pyproject=root / "pyproject.toml")
        digests.add(digest_inputs(cells, interpreter(), make_run()))
    assert len(digests) == 2


def own_digest(root: Path, **document: Table) -> str:
    """Return the digest of a project that is installed itself."""
    table = {
        "final": {"project": True},
        "stage": [{"name": "kernels", "outputs": ["kernel"]}],
    }
    whole = {
        "project": {"name": "mine", "version": "1.0"},
        "build-system": {"requires": ["hatchling"]},
        "tool": {"nox-buildstages": table},
        **document,
    }
    root.joinpath("pyproject.toml").write_text(tomli_w.dumps(whole))
    project = read_table(whole, pyproject=root / "pyproject.toml")
    return digest_inputs([project], interpreter(), make_run())


def test_what_building_the_project_itself_takes_counts(tmp_path: Path) -> None:
    """Its build system and what setuptools reads; the rest changes all the time."""
    before = own_digest(tmp_path)
    version = {"name": "mine", "version": "1.1"}
    assert own_digest(tmp_path, project=version) == before
    system = {"requires": ["hatchling", "hatch-vcs"]}
    changed = own_digest(tmp_path, **{"build-system": system})
    assert changed != before
    tmp_path.joinpath("setup.py").touch()
    assert own_digest(tmp_path) not in {before, changed}


# What is kept for the next run -----------------------------------------------------


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    return Selection(interpreter=interpreter(), digest="a", store=tmp_path / "kept")


def keep_wrong_locks(project: Project, selection: Selection) -> None:
    """Read the locks, and replace what is kept by locks that nobody wrote."""
    found = folder.select_locks(project, make_run(), selection)
    contents = {it: file(project, it).read_bytes() for it in lock_names(project)}
    wrong = {name: replace(found[name], inputs="wrong") for name in found}
    selection.save(contents, wrong)


def inputs_of(project: Project, selection: Selection) -> set[str]:
    found = folder.select_locks(project, make_run(), selection)
    return {lock.inputs for lock in found.values()}


def test_the_next_run_reads_selected_locks_from_one_file(
    project: Project, selection: Selection
) -> None:
    """They are the same as those from the lock files, with packages and files."""
    wheel = PackageWheel(
        name="x-1.0-py3-none-any.whl",
        path="../own/x-1.0-py3-none-any.whl",
        upload_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        hashes={"sha256": "ab"},
    )
    name, version = canonicalize_name("x"), Version("1.0")
    package = Package(name=name, version=version, wheels=[wheel])
    held = pylock.make_pylock([package])
    source = ArchiveSource(location="own/k-1.0.tar.gz", sha256="cd")
    with_output = provided_by("kernels", "k", source)
    written = with_series(
        replace(it, pylock=held, outputs=with_output.outputs) for it in locks(project)
    )
    folder.write_locks(project, written)
    first = folder.select_locks(project, make_run(), selection)
    assert folder.select_locks(project, make_run(), selection) == first
    final = first["final"]
    assert final.pylock.packages == [package]
    assert final.pins == (IndexPin(name=name, version=version, sha256="ab"),)
    assert final.outputs == with_output.outputs
    assert final.local_wheels == ("../own/x-1.0-py3-none-any.whl",)
    assert final.local_archives == ("own/k-1.0.tar.gz",)
    keep_wrong_locks(project, selection)
    assert inputs_of(project, selection) == {"wrong"}


def with_another_file(project: Project, selection: Selection) -> Selection:
    folder.write_locks(project, locks(project, "sha256:2"))
    return selection


def with_damage(project: Project, selection: Selection) -> Selection:
    for path in (project.root / "kept/selections").iterdir():
        path.write_text(path.read_text("utf-8").replace("wrong", "wrung"), "utf-8")
    return selection


def with_half_a_file(project: Project, selection: Selection) -> Selection:
    for path in (project.root / "kept/selections").iterdir():
        path.write_bytes(path.read_bytes()[:80])
    return selection


def with_bytes_of_somebody_else(project: Project, selection: Selection) -> Selection:
    for path in (project.root / "kept/selections").iterdir():
        path.write_bytes(b"\xff\n\xff")
    return selection


def with_another_interpreter(_project: Project, selection: Selection) -> Selection:
    return replace(selection, digest="b")


def with_another_version(project: Project, selection: Selection) -> Selection:
    for path in (project.root / "kept/selections").iterdir():
        text = '[{"a table": "of another shape"}]'
        digest = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(f"{digest}\n{text}", "utf-8")
    return selection


@pytest.mark.parametrize(
    "change",
    [
        with_another_file,
        with_another_interpreter,
        with_another_version,
        with_bytes_of_somebody_else,
        with_damage,
        with_half_a_file,
    ],
)
def test_selected_locks_are_never_out_of_date(
    project: Project,
    selection: Selection,
    change: Callable[[Project, Selection], Selection],
) -> None:
    """If anything has changed, or the file is damaged, the lock files are read."""
    folder.write_locks(project, locks(project))
    keep_wrong_locks(project, selection)
    changed = change(project, selection)
    expected = load_lock(file(project, "final").read_text("utf-8"), name="final").inputs
    assert inputs_of(project, changed) == {expected}
    assert inputs_of(project, changed) == {expected}


def test_locks_are_read_if_nothing_can_be_kept(
    project: Project, selection: Selection, tmp_path: Path
) -> None:
    """A store may be read-only, or full."""
    tmp_path.joinpath("kept").write_text("in the way", "utf-8")
    folder.write_locks(project, locks(project))
    assert inputs_of(project, selection) == {INPUTS}


def test_two_runs_may_keep_the_same_locks_at_once(
    project: Project, selection: Selection
) -> None:
    """Each reads a whole file, or none."""
    folder.write_locks(project, locks(project))
    calls = [partial(inputs_of, project, selection)] * 4
    assert run_in_parallel(calls) == [{INPUTS}] * 4


def test_interpreters_with_other_properties_have_other_digests() -> None:
    """Each property counts."""
    one = interpreter()
    others = (
        replace(one, abi="other"),
        replace(one, platform="other"),
        replace(one, tags=()),
        replace(one, markers={**one.markers, "python_full_version": "3.99.9"}),
    )
    digests = {digest_interpreter(it) for it in (one, replace(one), *others)}
    assert len(digests) == 5
