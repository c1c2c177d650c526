"""`build-stages-init` in nox: without a table, and with the file that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.reader import parse_toml
from support.packages import make_sdist, make_setuptools
from support.pair import refused

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

INIT = ("-s", "build-stages-init")
MINE = '[project]\nname = "mine"\nversion = "1.0"\n'


def test_without_a_table_nox_works_and_says_what_is_missing(project: Project) -> None:
    """The sessions are listed; those that need stages name the session that helps."""
    project.write(MINE)
    listed = project.nox("--list").output
    names = ("build-stages", "build-stages-init", "build-stages-lock")
    for name in (*names, "build-stages-plan"):
        assert f" {name} -> " in listed
    for name in ("build-stages", "build-stages-lock", "build-stages-plan"):
        said = refused(project, "-s", name)
        assert "tool.nox-buildstages: there is no such table; add" in said
        assert "`nox -s build-stages-init` proposes what this project needs" in said


def test_dynamic_dependencies_are_a_problem_of_others(project: Project) -> None:
    """What they are may be found in files; sessions that need them list the problem."""
    project.write('[project]\nname = "mine"\ndynamic = ["dependencies"]\n')
    project.nox("--list")
    said = refused(project, "-s", "build-stages-lock")
    assert "there is no such table" in said
    assert "the dependencies of this project are dynamic" in said


def test_the_proposal_is_printed_and_written(project: Project, index: Index) -> None:
    """To the end; the rest stays byte for byte, with line ends and mode."""
    make_setuptools(index.folder)
    make_sdist(index.folder, "final", "1.0", pyproject=False)
    text = '# mine\r\n[project]\r\nname="mine"  # it\r\ndependencies = [ "final" ]'
    project.pyproject.write_bytes(text.encode())
    project.pyproject.chmod(0o640)
    done = project.nox(*INIT, apart=True)
    assert "to write it: nox -s build-stages-init -- --write" in done.stderr
    assert project.pyproject.read_bytes() == text.encode()
    done = project.nox(*INIT, "--", "--write", apart=True)
    assert "wrote it to pyproject.toml" in done.stderr
    written = project.pyproject.read_bytes().decode()
    assert written == f"{text}\r\n\r\n" + done.output.replace("\n", "\r\n")
    assert project.pyproject.stat().st_mode & 0o777 == 0o640
    (stage,) = parse_toml(done.output)["tool"]["nox-buildstages"]["stage"]
    assert stage["name"] == "final-2"


def test_write_is_for_this_session_alone(project: Project) -> None:
    """Others refuse the word, as they would any word that they can't follow."""
    stage = '[[tool.nox-buildstages.stage]]\nname = "a"\noutputs = ["kernels"]\n'
    project.write(f"{MINE}{stage}")
    said = refused(project, "-s", "build-stages", "--", "--write")
    assert "--write is for build-stages-init" in said


def test_a_name_that_no_index_has(project: Project) -> None:
    """The message is that of a lock."""
    project.write(MINE)
    said = refused(project, *INIT, "--", "nosuch")
    assert "error: runtime environment: no index has nosuch" in said
    assert "help: correct its name" in said
