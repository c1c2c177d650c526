"""If nothing has changed, nothing is resolved; and whatever counts is a change."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from nox_buildstages.errors import EditedLockError
from nox_buildstages.lock.files.document import dump_lock, load_lock, with_series
from support.packages import make_sdist, make_tree, make_wheel
from support.pair import declare, lock_texts, world
from support.sessions import Sessions, run_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.index import Index
    from support.project import Project

LOCK = "build-stages-lock"
CURRENT = "the lock files are up to date"
DECLARED: dict[str, Any] = {
    "tool": {
        "uv": {"find-links": ["links"]},
        "nox-buildstages": {
            "final": {"requirements": ["mine", "local"]},
            "stage": [
                {
                    "name": "only",
                    "outputs": ["mine @ ./mine"],
                    "pass-env": ["MARK"],
                    "tools": ["git"],
                }
            ],
        },
    }
}


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[tuple[Index, Project]]:
    """A project whose locks depend on everything that they can depend on."""
    with world(tmp_path_factory.mktemp("locked"), caches) as (index, project):
        project.folder.joinpath("links").mkdir()
        make_wheel(project.folder / "links", "local", "1.0")
        make_tree(project.folder / "mine", "mine", "1.0", static=False)
        project.write(tomli_w.dumps(DECLARED))
        run_session(project, LOCK)
        yield index, project


@pytest.fixture
def locked(scene: tuple[Index, Project]) -> Iterator[Project]:
    """The project, with all of its files as they were afterwards."""
    project = scene[1]
    home = Path(project.env["HOME"])
    kept = {path: path.read_bytes() for path in own_files(project)}
    yield project
    for path in own_files(project) - kept.keys():
        path.unlink()
    for path, content in kept.items():
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
    shutil.rmtree(home / ".config", ignore_errors=True)


def own_files(project: Project) -> set[Path]:
    """Return the files of a project, without those of environments."""
    nox = project.folder / ".nox"
    paths = project.folder.rglob("*")
    return {it for it in paths if it.is_file() and not it.is_relative_to(nox)}


def is_as_noted(project: Project, **variables: str) -> bool:
    """Whether a session that locks would find nothing to do."""
    sessions = Sessions(project=project, variables=variables)
    return sessions.open(LOCK).has_final_locks()


def append(project: Project, path: str, text: str = "\n") -> None:
    """Add a text to a file of a project."""
    with project.folder.joinpath(path).open("a", encoding="utf-8") as file:
        file.write(text)


def test_nothing_is_resolved_if_nothing_has_changed(
    scene: tuple[Index, Project],
) -> None:
    """No index is asked, and only git runs, if the folder is in a repository."""
    index, project = scene
    before = lock_texts(project)
    index.requests.clear()
    programs: list[str] = []
    is_watched = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_watched and event == "subprocess.Popen":
            programs.append(str(arguments[0]))

    sys.addaudithook(watch)
    done = run_session(project, LOCK)
    is_watched = False
    assert done.stderr.splitlines() == [CURRENT]
    assert {Path(it).name for it in programs} <= {"git"}
    assert index.requests == []
    assert lock_texts(project) == before


@pytest.mark.parametrize(
    "path",
    [
        "mine/mine/__init__.py",  # a version may come from there
        "mine/VERSION",
        "mine/pyproject.toml",
        "build-stages/pylock.only.toml",
        "build-stages/pylock.final.toml",
    ],
)
def test_a_file_that_counts_is_a_change(locked: Project, path: str) -> None:
    """Also a lock file itself. If the file is as before, so is the result."""
    assert is_as_noted(locked)
    append(locked, path)
    assert not is_as_noted(locked)


@pytest.mark.parametrize(
    ("name", "value"),
    [("UV_INDEX_STRATEGY", "unsafe-best-match"), ("UV_INDEX", "x"), ("MARK", "1")],
)
def test_a_variable_that_counts_is_a_change(
    locked: Project, name: str, value: str
) -> None:
    """Those of uv count, and those that builds see; others don't."""
    assert is_as_noted(locked, OTHER=value)
    assert not is_as_noted(locked, **{name: value})


def test_another_program_of_a_tool_is_a_change(locked: Project, tmp_path: Path) -> None:
    """A backend may ask it for a version."""
    program = tmp_path / "git"
    program.symlink_to(shutil.which("git") or "")
    assert not is_as_noted(locked, PATH=f"{tmp_path}:{locked.env['PATH']}")


def test_the_users_settings_of_uv_are_a_change(locked: Project) -> None:
    """They may name an index."""
    folder = Path(locked.env["HOME"], ".config/uv")
    folder.mkdir(parents=True)
    folder.joinpath("uv.toml").write_text("offline = false\n", "utf-8")
    assert not is_as_noted(locked)


def test_a_missing_lock_file_is_a_change(locked: Project) -> None:
    """Also if the others are as they were."""
    locked.folder.joinpath("build-stages/pylock.only.toml").unlink()
    assert not is_as_noted(locked)


def test_a_change_of_the_table_is_a_change(locked: Project) -> None:
    """As for every session."""
    append(locked, "pyproject.toml", "[tool.uv.sources]\nlocal = { path = 'x' }\n")
    assert not is_as_noted(locked)


@pytest.mark.parametrize(
    "words", [(LOCK, "--check"), (LOCK, "--locked"), ("build-stages",)]
)
def test_an_edited_lock_file_is_refused(
    locked: Project, words: tuple[str, ...]
) -> None:
    """Such as one that git has merged; the digest of the inputs doesn't show it.

    Locking again accepts what the table allows.
    """
    assert CURRENT in run_session(locked, LOCK, "--check").stderr
    path = locked.folder / "build-stages/pylock.final.toml"
    text = path.read_text("utf-8")
    path.write_text(text.replace('version = "1.0"', 'version = "1.1"', 1), "utf-8")
    with pytest.raises(EditedLockError, match="edited or merged"):
        Sessions(project=locked).run_body(*words)
    run_session(locked, LOCK)
    assert CURRENT in run_session(locked, LOCK, "--check").stderr


def test_an_output_has_the_source_that_the_table_names(locked: Project) -> None:
    """Even if all lock files have the digest of what was edited."""
    lock_dir = locked.folder / "build-stages"
    texts = [lock_dir / f"pylock.{name}.toml" for name in ("only", "final")]
    locks = [load_lock(path.read_text("utf-8"), name=path.stem[7:]) for path in texts]
    text = dump_lock(locks[0]).replace('directory = "mine"', 'directory = "evil"')
    edited = load_lock(text, name="only")
    for path, lock in zip(texts, with_series([edited, locks[1]]), strict=True):
        path.write_text(dump_lock(lock), "utf-8")
    with pytest.raises(EditedLockError, match=r"pylock.only.toml: the source of mine"):
        Sessions(project=locked).run_body("build-stages")


def test_a_wheel_that_was_replaced_is_locked_again(
    scene: tuple[Index, Project],
) -> None:
    """It has the same name, and another hash."""
    _, project = scene
    before = lock_texts(project)["pylock.final.toml"]
    make_wheel(project.folder / "links", "local", "1.0", files={"new.py": ""})
    assert "local 1.0 is another file in final" in run_session(project, LOCK).stderr
    assert lock_texts(project)["pylock.final.toml"] != before
    assert run_session(project, LOCK).stderr == f"{CURRENT}\n"


def test_a_folder_with_a_new_version_is_asked_again(
    scene: tuple[Index, Project],
) -> None:
    """A relock finds what only its backend knows."""
    _, project = scene
    make_tree(project.folder / "mine", "mine", "2.0", static=False)
    assert "mine 1.0 → 2.0" in run_session(project, LOCK).stderr


def test_an_answer_without_earlier_outputs_is_completed(
    project: Project, index: Index
) -> None:
    """After these are built, the backend is asked in the whole environment, once."""
    make_sdist(index.folder, "base", "1.0")
    make_sdist(index.folder, "model", "1.0", requires=["base"])
    second = {"name": "second", "dependencies": ["base"], "outputs": ["model"]}
    stages = [{"name": "first", "outputs": ["base"]}, second]
    declare(project, {"final": {"requirements": ["model"]}, "stage": stages})
    asked = "asking the build backend of model"
    assert asked in run_session(project, LOCK).stderr
    assert run_session(project, LOCK).stderr == f"{CURRENT}\n"
    run_session(project, "build-stage-first")
    assert asked in run_session(project, LOCK).stderr
    assert run_session(project, LOCK).stderr == f"{CURRENT}\n"
