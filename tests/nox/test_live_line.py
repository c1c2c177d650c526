"""What one sees while a stage runs: with a terminal, without, side by side, with -v."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import terminal
from support.pair import declare_solo, kernels_tree, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.project import Project

SAYS = ("[1/3] cc a.c", "[2/3] cc b.c", "[3/3] cc c.c")
LINE = re.compile(
    r"kernels 1\.0 · (?:[\d/]+ (?:step|file)s?|compiling) · \d s(, ~10 s left)?"
)
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
        assert "nox > only: asking the build backend of kernels · 1 s" in first.output
        assert not re.search("left|\r", first.output)
        yield project


def beating(seconds: float) -> dict[str, str]:
    """Return the variable that lets a heartbeat come so often."""
    return {"NOX_BUILDSTAGES_HEARTBEAT": str(seconds)}


def beats(output: str) -> list[str]:
    """Return the lines of progress that nox printed."""
    return re.findall(rf"^nox > {LINE.pattern}$", output, re.MULTILINE)


def erased(output: str) -> str:
    """Return what is left of an output when boards and lines are written over."""
    shown = terminal.Terminal()
    shown.write(output)
    return str(shown)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [100, 30])
def test_a_running_stage_has_a_board(project: Project, columns: int) -> None:
    """It is drawn over and removed; everything is in the log. Nothing wraps."""
    done = terminal.run(project, "-s", "build-stage-only", *REBUILD, columns=columns)
    assert done.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.output)
    rows = [it for it in plain.splitlines() if "only  kernels 1.0" in it]
    assert len(rows) > 1
    assert max(map(len, rows)) < columns
    assert any("/3 steps" in it for it in rows) is (columns > 30)
    assert "only  kernels" not in erased(done.output)
    assert "built kernels" in " ".join(erased(done.output).split())  # nox wraps lines
    assert SAYS[1] not in done.output
    assert SAYS[1] in (project.wheelhouse / "logs/kernels.log").read_text("utf-8")


@pytest.mark.slow
def test_side_by_side_it_is_the_last_line_of_the_session(project: Project) -> None:
    """Nox's board shows it; it is written over where all of the session is printed."""
    done = terminal.run(project, "-j", "2", "-s", "build-stages", *REBUILD)
    assert done.returncode == 0
    board, block = done.output.split("build-stage-only: success", 1)
    assert re.search(rf"build-stage-only \(\d+s\)  {LINE.pattern}\r?\n", board)
    assert LINE.search(block)
    assert not LINE.search(erased(block))


@pytest.mark.slow
def test_without_a_terminal_there_is_a_heartbeat(project: Project) -> None:
    """A line now and then, in time, so that no CI system takes it for dead."""
    done = project.nox("-j", "2", "-s", "build-stages", *REBUILD, env=beating(0.5))
    assert beats(done.output)
    assert "\r" not in done.output
    first = done.output.index("kernels 1.0 · ")
    assert first < done.output.index("build-stage-only: success")


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-j", "2")])
def test_verbose_streams_what_backends_print(
    project: Project, flags: tuple[str, ...]
) -> None:
    """As it comes, and to the log as well.

    A line of progress comes every half minute, unless a number of seconds is set.
    """
    env = {"NOX_BUILDSTAGES_HEARTBEAT": ""}
    done = project.nox("-v", *flags, "-s", "build-stages", *REBUILD, env=env)
    assert re.findall(r"^\[\d/3\].*$", done.output, re.MULTILINE) == [*SAYS]
    assert SAYS[1] in (project.wheelhouse / "logs/kernels.log").read_text("utf-8")
    assert not LINE.search(done.output)


@pytest.mark.slow
def test_ci_folds_the_log_of_a_build(project: Project) -> None:
    """The table is in the summary of the job."""
    summary = project.folder / "summary.md"
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    done = project.nox("-s", "build-stages", *REBUILD, env=github)
    folded = done.output.partition("::group::kernels.log: kernels 1.0, compile ended")[
        2
    ]
    log, _, rest = folded.partition("::endgroup::")
    assert "::stop-commands::" in log
    assert SAYS[1] in log
    assert SAYS[1] not in rest
    text = summary.read_text("utf-8")
    assert text.startswith("\n#### build-stages\n\n| output | version |")
    assert "| kernels | 1.0 | only | built |" in text


@pytest.mark.slow
def test_children_add_to_a_file_that_takes_the_output(project: Project) -> None:
    """Nobody writes over the lines of others."""
    path = project.folder / "output.txt"
    env = {**project.env, **beating(0.5)}
    command = [sys.executable, "-m", "nox", "-db", "uv", "-j", "2"]
    with path.open("wb") as stream:
        subprocess.run(
            [*command, "-s", "build-stages", *REBUILD],
            cwd=project.folder,
            env=env,
            stdout=stream,
            stderr=stream,
            check=True,
        )
    output = path.read_text("utf-8")
    assert beats(output)
    assert output.startswith("Starting session build-stage-only")
