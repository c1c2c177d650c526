"""The words after `--`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.packages import make_wheel
from support.pair import Pair, publish, refused, versions, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.index import Index
    from support.project import Project

KNOWN = ("--locked", "--upgrade", "--upgrade-package NAME", "--rebuild [NAME]")

OWN_SESSION = """
import nox

@nox.session(python=False)
def mine(session):
    print("mine got", *session.posargs)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, caches: Path) -> Iterator[Project]:
    with world(tmp_path_factory.mktemp("words"), caches) as (_, project):
        Pair().write(project)
        yield project


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--frobnicate",), "unknown word after --: '--frobnicate'"),
        (("--rebuidl",), "did you mean --rebuild?"),
        (("kernels",), "unknown word after --: 'kernels'"),
    ],
)
def test_unknown_words_are_refused_with_the_known_ones(
    pair: Project, words: tuple[str, ...], said: str
) -> None:
    """Nothing after `--` is ever ignored."""
    output = refused(pair, "-s", "build-stages", "--", *words)
    assert said in output
    assert all(word in output for word in KNOWN)
    assert "Traceback" not in output
    assert not (pair.folder / ".nox").exists()


def test_the_help_of_a_session_needs_no_environment(pair: Project) -> None:
    """`-- --help` and `--usage` print the same, and the run succeeds."""
    helped = pair.nox("-s", "build-stages-lock", "--", "--help").output
    assert "build-stages-lock: Write the lock files." in helped
    assert "  --upgrade-package NAME  lock the newest version" in helped
    assert pair.nox("--usage", "build-stages-lock").output == helped
    assert not (pair.folder / ".nox").exists()


def test_words_of_other_sessions_are_not_checked(pair: Project) -> None:
    """A session of the user's own gets its words, and ours isn't asked."""
    noxfile = pair.folder / "noxfile.py"
    before = noxfile.read_text("utf-8")
    noxfile.write_text(f"{before}\n{OWN_SESSION}", "utf-8")
    done = pair.nox("-s", "mine", "--", "--help", "--rebuidl")
    assert "mine got --help --rebuidl" in done.output
    assert "did you mean" in refused(pair, "-s", "mine", "build-stages", "--", "--lokd")
    noxfile.write_text(before, "utf-8")


def test_a_word_of_another_session_is_refused(pair: Project) -> None:
    """With the command that follows it, before anything is built."""
    output = refused(pair, "-s", "build-stages", "--", "--json")
    assert "--json is for build-stages-plan, and this is another session" in output
    command = "nox -s build-stages-plan -- --json"
    assert f"to print the plan as JSON, run:\n  {command}" in output
    assert not (pair.folder / "build-stages").exists()


def test_rebuild_of_no_output_is_refused(pair: Project) -> None:
    """`--rebuild` of something that no stage makes lists what there is."""
    output = refused(pair, "-s", "build-stages", "--", "--rebuild", "kernel")
    assert "--rebuild kernel: no stage has such an output" in output
    assert "the outputs are: kernels, models" in output


def test_upgrade_package_without_a_name_is_refused(pair: Project) -> None:
    """A word that lacks its value says how to write it."""
    output = refused(pair, "-s", "build-stages-lock", "--", "--upgrade-package")
    assert "write --upgrade-package NAME" in output


def test_upgrade_of_what_no_lock_has_is_refused(project: Project, index: Index) -> None:
    """The message has the near miss, and nothing is written."""
    publish(index)
    Pair().write(project)
    words = ("-s", "build-stages-lock", "--", "--upgrade-package", "tensorlb")
    problem = "--upgrade-package tensorlb: it is in no lock; did you mean 'tensorlib'?"
    assert problem in refused(project, *words)
    assert not (project.folder / "build-stages").exists()


def test_words_for_the_locks(project: Project, index: Index) -> None:
    """A build with `--check` is an error; with `--upgrade` it locks once in a run."""
    publish(index)
    Pair().write(project)
    project.prepare("build-stages-lock")
    make_wheel(index.folder, "tensorlib", "3.0")
    said = refused(project, "-s", "build-stages", "--", "--check")
    assert "nox -s build-stages-lock -- --check" in said
    done = project.nox("-s", "build-stage-second", "--", "--upgrade")
    assert done.output.count("wrote to") == 1
    assert versions(project, "final")["tensorlib"] == "3.0"


def test_a_word_may_be_for_a_session_that_one_of_the_users_requires(
    pair: Project,
) -> None:
    """It is refused only if each session that was named is known not to need it."""
    noxfile = pair.noxfile.read_text("utf-8")
    decorator = '@nox.session(requires=["build-stages-lock"], python=False)'
    own = f"{decorator}\ndef ship(_): ...\n"
    other = pair.folder / "other.py"
    other.write_text(f"import nox\n{noxfile}\n\n{own}", "utf-8")
    sessions, words = ("-f", other.name, "-s"), ("build-stages-plan", "--", "--upgrade")
    assert "--upgrade has no effect on build-" in refused(pair, *sessions, *words)
    pair.nox(*sessions, "ship", *words)
