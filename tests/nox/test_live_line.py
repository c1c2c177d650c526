"""What one sees while a stage runs: with a terminal, without, side by side, with -v."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support import terminal
from support.pair import declare_solo, kernels_tree, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.project import Project

SAYS = ("[1/3] cc a.c", "[2/3] cc b.c", "[3/3] cc c.c")
LINE = re.compile(r"kernels  compile (?:[12]/)?3? ?\w*  \d s(, about 10 s left)?")
REBUILD = ("--", "--rebuild")


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[Project]:
    """A project whose one output is built, takes seconds and says how far it is."""
    with world(tmp_path_factory.mktemp("live"), caches) as (_, project):
        tree = kernels_tree(project, thinks=1.5, says=SAYS, pause=0.8)
        declare_solo(project, outputs=[tree])
        first = project.nox("-s", "build-stages", env=beating(0.5))
        assert beats(first.output)
        assert "nox > kernels  metadata  1 s" in first.output
        assert not re.search("left|\r", first.output)
        yield project


def beating(seconds: float) -> dict[str, str]:
    """Return the variable that lets a heartbeat come so often."""
    return {"NOX_BUILDSTAGES_HEARTBEAT": str(seconds)}


def beats(output: str) -> list[str]:
    """Return the lines of progress that nox printed."""
    return re.findall(rf"^nox > {LINE.pattern}$", output, re.MULTILINE)


def redrawn(output: str) -> list[str]:
    """Return what was shown of the line that lives, one after the other."""
    return [part.rstrip() for part in re.split(r"[\r\n]", output) if LINE.match(part)]


def left(output: str) -> str:
    """Return what is to be seen of an output when all is written over."""
    return re.sub(r"[^\n]*\r(?!\n)", "", output)


@pytest.mark.slow
def test_a_running_stage_shows_one_line_that_lives(project: Project) -> None:
    """It is written over and removed; everything is in the log.

    The last build says how long this one takes, for its own steps are few.
    """
    done = terminal.run(project, "-s", "build-stage-only", *REBUILD)
    assert done.returncode == 0
    assert len(redrawn(done.output)) > 1
    assert "about 10 s left" in redrawn(done.output)[0]
    assert not LINE.search(left(done.output))
    assert "built kernels" in left(done.output)
    assert SAYS[1] not in done.output
    assert SAYS[1] in (project.wheelhouse / "logs/kernels.log").read_text("utf-8")


@pytest.mark.slow
def test_the_line_that_lives_is_no_wider_than_the_terminal(project: Project) -> None:
    """Else each time would leave a line behind."""
    done = terminal.run(project, "-s", "build-stage-only", *REBUILD, columns=16)
    assert "kernels  compil\r" in done.output
    assert not redrawn(done.output)


@pytest.mark.slow
def test_side_by_side_it_is_the_last_line_of_the_session(project: Project) -> None:
    """Nox's board shows it; it is written over where all of the session is printed."""
    done = terminal.run(project, "-j", "2", "-s", "build-stages", *REBUILD)
    assert done.returncode == 0
    board, block = done.output.split("build-stage-only: success", 1)
    assert re.search(rf"build-stage-only \(\d+s\)  {LINE.pattern}\r?\n", board)
    assert redrawn(block)
    assert not LINE.search(left(block))


@pytest.mark.slow
def test_without_a_terminal_there_is_a_heartbeat(project: Project) -> None:
    """A line now and then, in time, so that no CI system takes it for dead."""
    done = project.nox("-j", "2", "-s", "build-stages", *REBUILD, env=beating(0.5))
    assert beats(done.output)
    assert "\r" not in done.output
    first = done.output.index("kernels  compile")
    assert first < done.output.index("build-stage-only: success")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "value"),
    [((), ""), pytest.param(("-j", "2"), "often", marks=pytest.mark.slow)],
)
def test_verbose_streams_what_backends_print(
    project: Project, flags: tuple[str, ...], value: str
) -> None:
    """As it comes, and to the log as well.

    A line of progress comes every half minute, unless a number of seconds is set.
    """
    env = {"NOX_BUILDSTAGES_HEARTBEAT": value}
    done = project.nox("-v", *flags, "-s", "build-stages", *REBUILD, env=env)
    assert re.findall(r"^\[\d/3\].*$", done.output, re.MULTILINE) == [*SAYS]
    assert SAYS[1] in (project.wheelhouse / "logs/kernels.log").read_text("utf-8")
    assert not LINE.search(done.output)
