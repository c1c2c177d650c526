"""What goes wrong: the message says what, where and what to do; nothing is left."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support.index import Index
from support.packages import (
    TINYBACKEND,
    make_sdist,
    make_tinybackend,
    make_tree,
    make_wheel,
)
from support.pair import (
    KERNELS,
    Pair,
    built,
    declare,
    declare_solo,
    kernels_tree,
    lock_texts,
    refused,
    stored,
)
from support.project import hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.project import Project


def fails(
    project: Project,
    *said: str,
    session: str = "build-stages",
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a session that must fail, say all that, and leave no wheel."""
    output = refused(project, "-s", session, env=env)
    missing = [text for text in said if text not in output]
    assert not missing, f"{missing} not in:\n{output}"
    assert stored(project) == project.wheels() == []
    return output


def succeeds(project: Project) -> None:
    """See that the next run ends well."""
    assert built(project.nox("-s", "build-stage-only")) == ["kernels"]
    assert KERNELS in project.wheels()


# Backends


LAST = "cc1plus: out of words"
FAULTS = {
    "raise": ["RuntimeError: tinybackend was told to raise"],
    "exit": ["exit status 3", LAST],
    "kill": ["killed by signal 9", LAST],
    "two-wheels": ["several", KERNELS, "kernels_too-1.0-py3-none-any.whl"],
    "bad-metadata": ["METADATA and the lock", "only the wheel has undeclared>=1"],
}


@pytest.mark.slow
def test_a_faulty_backend(project: Project) -> None:
    """The message has its exit status, its last lines, its log, and what it built.

    Only the one wheel that was asked for is used.
    """
    tree = kernels_tree(project, says=[LAST])
    declare_solo(project, outputs=[tree], jobs=1)
    project.prepare("build-stages-lock")
    log = project.wheelhouse / "logs/kernels.log"
    for fault, said in FAULTS.items():
        kernels_tree(project, says=[LAST], faults=[fault])
        output = fails(project, " (stage only)", "log: wheelhouse/logs/", *said)
        is_failure = "kernels 1.0 (stage only) failed to build" in output
        assert is_failure == (fault in {"raise", "exit", "kill"})
        assert is_failure or "Traceback" not in output
        assert "tinybackend: building" in log.read_text("utf-8")
    kernels_tree(project)
    succeeds(project)


@pytest.mark.slow
def test_backend_that_is_not_there(project: Project, index: Index) -> None:
    """A backend that no build requirement brings is named."""
    sdist: dict[str, Any] = {"build_requires": [], "static": False}
    make_sdist(index.folder, "kernels", "1.0", **sdist)
    declare_solo(project)
    fails(project, "kernels (stage only)", "tinybackend")
    declare_solo(project, dependencies=["tinybackend"])
    succeeds(project)


@pytest.mark.slow
def test_undeclared_dependency_is_named(project: Project) -> None:
    """What a backend can't import is in the message, from its log."""
    tree = kernels_tree(project, **{"import-first": ["tensorlib"]})
    declare_solo(project, outputs=[tree])
    fails(project, "kernels (stage only)", "No module named 'tensorlib'")
    declare_solo(project, outputs=[tree], dependencies=["tensorlib"])
    make_wheel(index_of(project), "tensorlib", "1.0")
    succeeds(project)


def index_of(project: Project) -> Path:
    """Return the folder of the index beside a project."""
    return project.folder.parent / "index"


# Sources


@pytest.mark.slow
def test_output_without_sdist(project: Project, index: Index) -> None:
    """An unknown package is named, and so is one of which an index has only wheels."""
    declare_solo(project)
    output = fails(project, "outputs: no index has kernels", "correct its name")
    assert "Traceback" not in output
    make_wheel(index.folder, "kernels", "1.0")
    output = fails(project, "kernels has no source distribution, so it can't be built")
    assert "Traceback" not in output
    assert lock_texts(project) == {}
    make_sdist(index.folder, "kernels", "1.0")
    succeeds(project)


def test_sdist_that_changed_after_locking(project: Project, index: Index) -> None:
    """Other bytes under a locked name are refused, with both hashes.

    The command that the message names takes them, if that is what is wanted.
    """
    make_sdist(index.folder, "kernels", "1.0")
    declare_solo(project)
    project.prepare("build-stages-lock")
    forget(project)
    make_sdist(index.folder, "kernels", "1.0", files={"new.py": ""})
    output = fails(project, "kernels-1.0.tar.gz", "expected sha256", "found    sha256")
    assert "Traceback" not in output
    locked = project.lock("only")["tool"]["nox-buildstages"]["outputs"][0]["source"]
    assert locked["sha256"] in output
    words = ("-s", "build-stages-lock", "--", "--upgrade-package", "kernels")
    assert f"lock again:\n  nox {' '.join(words)}" in output
    assert "kernels 1.0 is another file in only, final" in project.nox(*words).output
    succeeds(project)


@pytest.mark.slow
def test_build_dependency_that_changed_after_locking(
    project: Project, index: Index, tmp_path: Path
) -> None:
    """Another wheel under a locked name is refused, with both hashes."""
    make_sdist(index.folder, "kernels", "1.0")
    declare_solo(project)
    project.prepare("build-stages-lock")
    forget(project)
    wheel = index.folder / "tinybackend-1.0-py3-none-any.whl"
    before = wheel.read_bytes()
    other = TINYBACKEND.read_text("utf-8") + '\nVERSION = "9.9"\n'
    make_wheel(index.folder, "tinybackend", "1.0", files={"tinybackend.py": other})
    said = replaced("tinybackend", before, wheel.read_bytes())
    output = fails(project, *said, env={"UV_CACHE_DIR": str(tmp_path / "fresh")})
    assert "Traceback" not in output
    wheel.write_bytes(before)
    succeeds(project)


def replaced(name: str, before: bytes, after: bytes) -> tuple[str, ...]:
    """Return what is said of a wheel in whose place there is another one."""
    return (
        f"{name}==1.0: its wheel isn't the file that was locked",
        f"expected sha256 {hashlib.sha256(before).hexdigest()}",
        f"found    sha256 {hashlib.sha256(after).hexdigest()}",
        f"nox -s build-stages-lock -- --upgrade-package {name}",
    )


@pytest.fixture
def runtime(project: Project, index: Index) -> Path:
    """A wheel of the final environment that another one replaced after locking.

    What was locked lies in the project, and in uv's cache.
    """
    make_sdist(index.folder, "kernels", "1.0", requires=["needed"])
    wheel = make_wheel(index.folder, "needed", "1.0")
    declare_solo(project)
    project.prepare()
    wheel.rename(project.folder / wheel.name)
    make_wheel(index.folder, "needed", "1.0", files={"needed/new.py": "x = 1\n"})
    return wheel


@pytest.mark.slow
def test_runtime_dependency_that_changed_after_locking(
    project: Project, runtime: Path, tmp_path: Path
) -> None:
    """It is refused, though its size differs as well; the command takes it."""
    before = project.folder.joinpath(runtime.name).read_bytes()
    fresh = {"UV_CACHE_DIR": str(tmp_path / "fresh")}
    output = refused(project, "-s", "build-stages", env=fresh)
    for text in replaced("needed", before, runtime.read_bytes()):
        assert text in output
    assert list(project.wheelhouse.glob("pylock.*")) == [
        project.wheelhouse / "pylock.toml"
    ]
    words = ("--", "--upgrade-package", "needed")
    done = project.nox("-s", "build-stages-lock", *words, env=fresh)
    assert "needed 1.0 is another file in final" in done.output
    project.nox("-s", "build-stages", env=fresh)
    (new,) = project.folder.glob(".nox/build-stages/lib/python*/site-packages/needed")
    assert new.joinpath("new.py").is_file()


def test_files_that_changed_are_told_when_locks_are_refreshed(
    project: Project, index: Index, runtime: Path
) -> None:
    """A run says if the index has other files for the versions that it keeps.

    With current locks, files of uv's cache are installed as they were locked.
    """
    sdist = make_sdist(
        index.folder, "kernels", "1.0", requires=["needed"], files={"new.py": ""}
    )
    before = lock_texts(project)
    assert built(project.nox("-s", "build-stages")) == []
    assert lock_texts(project) == before
    (old,) = project.folder.glob(".nox/build-stages/lib/python*/site-packages/needed")
    assert not old.joinpath("new.py").exists()
    declare_solo(project, env={"X": "1"})
    done = project.nox("-s", "build-stages")
    assert "; locking" in done.output
    assert "kernels 1.0 is another file in only, final" in done.output
    assert "needed 1.0 is another file in final" in done.output
    assert built(done) == ["kernels"]
    after = b"".join(lock_texts(project).values()).decode()
    for file in (sdist, runtime):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in after


def forget(project: Project) -> None:
    """Drop the store, so that everything is fetched again."""
    project.store.rename(project.store.with_name("forgotten"))


# Indexes and resolutions


def test_index_that_cannot_be_reached(tmp_path: Path, caches: Path) -> None:
    """With no index the first lock fails, says which URL, and leaves nothing."""
    with Index(tmp_path / "index") as index:
        env = hermetic_env(tmp_path / "scratch", caches, index)
    project = make_project(tmp_path / "project", {**env, "UV_HTTP_RETRIES": "0"})
    declare_solo(project)
    output = fails(project, "can't be locked", index.url.partition("/simple/")[0])
    assert "Traceback" not in output
    assert lock_texts(project) == {}
    with Index(tmp_path / "index") as index:
        make_tinybackend(index.folder)
        make_sdist(index.folder, "kernels", "1.0")
        project.nox("-s", "build-stages-lock", env={"UV_DEFAULT_INDEX": index.url})


def test_dependency_without_a_wheel(project: Project, index: Index) -> None:
    """What has only an sdist must be an output of a stage, and the error says so."""
    make_sdist(index.folder, "kernels", "1.0")
    make_sdist(index.folder, "onlysource", "1.0")
    declare_solo(project, dependencies=["onlysource"])
    output = fails(
        project, "stage only: onlysource would have to be built", "output of a stage"
    )
    assert "Traceback" not in output
    assert lock_texts(project) == {}
    stages = [
        {"name": "before", "outputs": ["onlysource"]},
        {"name": "only", "dependencies": ["onlysource"], "outputs": ["kernels"]},
    ]
    declare(project, {"final": {"requirements": ["kernels"]}, "stage": stages})
    project.nox("-s", "build-stages-lock")


def test_runtime_dependency_without_a_wheel(project: Project, index: Index) -> None:
    """The same holds for what the runtime wants."""
    make_sdist(index.folder, "kernels", "1.0", requires=["onlysource"])
    make_sdist(index.folder, "onlysource", "1.0")
    declare_solo(project)
    output = fails(
        project,
        "runtime environment: onlysource would have to be built",
        "add it to the outputs of stage",
    )
    assert "Traceback" not in output


@pytest.mark.slow
def test_build_requirement_that_a_later_stage_provides(
    project: Project, index: Index
) -> None:
    """The error names both stages, and the dependency that orders them."""
    wanted = ["tinybackend", "models"]
    make_sdist(index.folder, "kernels", "1.0", build_requires=wanted)
    make_sdist(index.folder, "models", "1.0")
    stages: list[dict[str, Any]] = [
        {"name": "one", "outputs": ["kernels"]},
        {"name": "two", "outputs": ["models"]},
    ]
    table = {"final": {"requirements": ["kernels"]}, "stage": stages}
    declare(project, table)
    output = fails(project, "stage one: its environment needs models", "of stage two")
    assert 'add "models" to the dependencies of stage one' in output
    assert "Traceback" not in output
    stages[0]["dependencies"] = ["models"]
    declare(project, table)
    project.nox("-s", "build-stages-lock")


CONFIGURED = """
[tool.nox-buildstages.package.kernels]
metadata = { requires-dist = ["dep"] }
"""


@pytest.mark.slow
def test_metadata_that_only_a_build_could_tell(project: Project, index: Index) -> None:
    """The error shows the line to add, and with that line it works."""
    settings: dict[str, Any] = {"faults": ["no-metadata-hook"], "requires": ["dep"]}
    make_sdist(index.folder, "kernels", "1.0", static=False, settings=settings)
    make_wheel(index.folder, "dep", "1.0")
    declare_solo(project)
    output = fails(
        project, "kernels (stage only)", "[tool.nox-buildstages.package.kernels]"
    )
    assert "metadata = { requires-dist = [" in output
    assert "Traceback" not in output
    project.write(project.pyproject.read_text("utf-8") + CONFIGURED)
    project.nox("-s", "build-stages-lock")
    assert "dep" in {package["name"] for package in project.lock("final")["packages"]}


@pytest.mark.slow
def test_a_backend_that_can_only_be_asked_elsewhere(
    project: Project, index: Index
) -> None:
    """Where the table says what the wheel requires, it needn't say a word to lock."""
    settings: dict[str, Any] = {"require-env": ["TOOLKIT"], "requires": ["dep"]}
    make_sdist(index.folder, "kernels", "1.0", static=False, settings=settings)
    make_wheel(index.folder, "dep", "1.0")
    declare_solo(project, **{"pass-env": ["TOOLKIT"]})
    said = ("get_requires_for_build_wheel failed", "KeyError: 'TOOLKIT'")
    hint = ("[tool.nox-buildstages.package.kernels]", "metadata = { requires-dist = [")
    why = "help: its build needs the variable TOOLKIT: to lock without it,"
    fails(project, *said, why, *hint, session="build-stages-lock")
    project.write(project.pyproject.read_text("utf-8") + CONFIGURED)
    done = project.nox("-s", "build-stages-lock")
    assert "get_requires_for_build_wheel of kernels failed (log: " in done.output
    (output,) = project.lock("only")["tool"]["nox-buildstages"]["outputs"]
    assert output["metadata"] == "config"
    assert output["requires-dist"] == ["dep"]
    locked = lock_texts(project)
    project.nox("-s", "build-stage-only", env={"TOOLKIT": "1"})
    assert project.wheels() == [KERNELS]
    assert lock_texts(project) == locked


def test_version_that_only_a_build_could_tell(project: Project) -> None:
    """Where a folder's version can't be known, the error doesn't ask for metadata."""
    settings: dict[str, Any] = {"faults": ["no-metadata-hook"], "requires": ["dep"]}
    declare_solo(project, outputs=[kernels_tree(project, **settings)])
    project.write(project.pyproject.read_text("utf-8") + CONFIGURED)
    output = fails(project, "kernels (stage only)", "version")
    assert "metadata = { requires-dist = [" not in output


# The end


@pytest.mark.slow
def test_runtime_that_does_not_work(project: Project) -> None:
    """If an import or a check fails, the final session fails and keeps the wheels."""
    tree = kernels_tree(project)
    declare_solo(project, outputs=[tree])
    project.prepare()
    table = {"stage": [{"name": "only", "outputs": [tree]}]}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"imports": ["kernels", "nowhere"]}, "nowhere can't be imported", "aborted"),
        (
            {"checks": [["python", "-c", "raise SystemExit(7)"]]},
            "exit code 7",
            "failed",
        ),
        (
            {"checks": [["no-such-program"]]},
            "final.checks: no program no-such-program is in the runtime or on PATH",
            "aborted",
        ),
        (
            {"checks": [["./no-such-program"]]},
            "final.checks: no program ./no-such-program can be run",
            "aborted",
        ),
    ]
    for final, said, state in cases:
        declare(project, {**table, "final": {"requirements": ["kernels"], **final}})
        output = project.nox("-s", "build-stages", check=False).output
        assert said in output
        assert f"* build-stages: {state}" in output
        assert "the wheels are kept, in wheelhouse: none is built again" in output
        assert project.wheels() == stored(project) == [KERNELS]
    declare_solo(project, outputs=[tree])
    assert built(project.nox("-s", "build-stages")) == []


@pytest.mark.parametrize("name", ["", "below"])
def test_a_store_that_is_no_folder(project: Project, name: str) -> None:
    """The session names it, with the variable that moves it."""
    declare_solo(project, outputs=[kernels_tree(project)])
    project.store.write_text("a file", "utf-8")
    store = {"NOX_BUILDSTAGES_CACHE_DIR": str(project.store / name)}
    output = refused(project, "-s", "build-stages", env=store)
    assert "Session build-stage-only aborted" in output
    assert str(project.store) in output
    assert "NOX_BUILDSTAGES_CACHE_DIR" in output
    assert "Traceback" not in output


def test_tool_that_is_not_there(project: Project) -> None:
    """A program that a stage names and that isn't on PATH is an error."""
    tree = kernels_tree(project)
    declare_solo(project, outputs=[tree], tools=["no-such-compiler"])
    fails(
        project,
        "stage only: its tool 'no-such-compiler' isn't on PATH",
        "install no-such-compiler",
    )


def test_two_outputs_of_one_project_are_refused_at_once(project: Project) -> None:
    """One output made by two stages is an error before anything runs."""
    make_tree(project.folder / "kernels", "kernels", "1.0")
    Pair(second={"outputs": ["kernels @ ./kernels"]}).write(project)
    output = refused(project, "--list")
    assert "kernels" in output
    assert "Traceback" not in output


def test_a_folder_that_is_no_project(project: Project) -> None:
    """The message names the output, as it does if a file of the folder is faulty."""
    folder = project.folder / "kernels"
    folder.mkdir()
    declare_solo(project, outputs=["kernels @ ./kernels"])
    said = refused(project, "-s", "build-stages-lock")
    problem = "its source has neither a pyproject.toml nor a setup.py"
    assert f"error: kernels (stage only): {problem}\nhelp: name the folder" in said
    folder.joinpath("pyproject.toml").write_text("[build-system", "utf-8")
    said = refused(project, "-s", "build-stages-lock")
    assert "error: kernels (stage only): its metadata can't be read" in said


# Bugs


def test_a_path_that_is_not_utf_8_is_named(project: Project, tmp_path: Path) -> None:
    """Of the project, or of anything else."""
    declare_solo(project)
    odd = os.fsdecode(b"odd\xff")
    store = {"NOX_BUILDSTAGES_CACHE_DIR": str(tmp_path / odd)}
    said = refused(project, "-s", "build-stages-lock", env=store)
    assert r"odd\udcff: a path or a variable isn't UTF-8" in said
    folder = tmp_path / odd
    shutil.copytree(project.folder, folder)
    listed = refused(replace(project, folder=folder), "--list")
    assert r"odd\udcff/pyproject.toml: a path or a variable isn't UTF-8" in listed


def test_a_bug_ends_with_a_message_and_a_file(project: Project, tmp_path: Path) -> None:
    """Nobody sees a traceback, which is in a file that only the user can read."""
    declare_solo(project)
    noxfile = project.noxfile
    broken = "from nox_buildstages.commands import prune\nprune.run_prune = len\n"
    noxfile.write_text(broken + noxfile.read_text("utf-8"), "utf-8")
    said = refused(project, "-s", "build-stages-prune", env={"TMPDIR": str(tmp_path)})
    assert "error: this is a bug in nox-buildstages: TypeError: len() takes" in said
    assert "Traceback" not in said
    (log,) = tmp_path.glob("nox-buildstages-bug-*.txt")
    assert f"log: {log}" in said
    assert log.stat().st_mode & 0o077 == 0
    assert "Traceback (most recent call last):" in log.read_text("utf-8")
