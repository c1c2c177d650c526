"""Measure what a run costs, each row as a ratio to a peer in the same run.

Run it with ``nox -s bench``; ``-- --runs N`` sets how often each pair is run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.index import Index
from support.packages import make_sdist, make_tinybackend
from support.project import Project, hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator

BARE = """
import nox


@nox.session(reuse_venv=True)
def empty(session):
    pass
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A command, and what it is measured against.

    Attributes:
        what: The command's name in the table.
        argv: The command.
        cwd: Where it runs.
        peer: The peer's name in the table.
        peer_argv: The peer.
        peer_cwd: Where the peer runs.
        goal: The ratio that it should stay below.
    """

    what: str
    argv: tuple[str, ...]
    cwd: Path
    peer: str
    peer_argv: tuple[str, ...]
    peer_cwd: Path
    goal: float


def main() -> None:
    """Make a project whose wheels are all there, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Index(folder / "index") as index:
            env = hermetic_env(folder / "scratch", folder / "caches", index)
            env["PATH"] = os.environ["PATH"]
            project = _built_project(folder / "project", index, env)
            bare = _bare_project(folder / "bare", env)
            sys.stdout.writelines(
                f"{line}\n" for line in _table(_rows(project.folder, bare), env, runs)
            )


def _table(rows: list[Row], env: dict[str, str], runs: int) -> Iterator[str]:
    yield f"{_machine()}, median of {runs} runs"
    yield ""
    yield "| what | median | against | median | ratio | goal |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        yield _measured(row, env, runs)


def _built_project(folder: Path, index: Index, env: dict[str, str]) -> Project:
    """Return a project of three stages, built."""
    make_tinybackend(index.folder)
    for name in ("one", "two", "three"):
        make_sdist(index.folder, name, "1.0")
    project = make_project(folder, env)
    project.write(
        """
        [tool.nox-buildstages.final]
        requirements = ["one", "two", "three"]

        [[tool.nox-buildstages.stage]]
        name = "first"
        outputs = ["one"]

        [[tool.nox-buildstages.stage]]
        name = "second"
        dependencies = ["one"]
        outputs = ["two"]

        [[tool.nox-buildstages.stage]]
        name = "third"
        dependencies = ["two"]
        outputs = ["three"]
        """
    )
    project.nox("-s", "build-stages")
    return project


def _bare_project(folder: Path, env: dict[str, str]) -> Path:
    folder.mkdir()
    (folder / "noxfile.py").write_text(BARE, encoding="utf-8")
    _seconds(_nox("-s", "empty"), folder, env)
    return folder


def _rows(project: Path, bare: Path) -> list[Row]:
    empty = _nox("-s", "empty")
    python = (sys.executable, "-c")
    return [
        Row(
            what="no-op `nox -s build-stages`, 3 stages",
            argv=_nox("-s", "build-stages"),
            cwd=project,
            peer="bare nox, one empty session",
            peer_argv=empty,
            peer_cwd=bare,
            goal=3.0,
        ),
        Row(
            what="no-op `nox -s build-stages-plan`",
            argv=_nox("-s", "build-stages-plan"),
            cwd=project,
            peer="bare nox, one empty session",
            peer_argv=empty,
            peer_cwd=bare,
            goal=3.0,
        ),
        Row(
            what="`nox --list`",
            argv=_nox("--list"),
            cwd=project,
            peer="bare `nox --list`",
            peer_argv=_nox("--list"),
            peer_cwd=bare,
            goal=2.0,
        ),
        Row(
            what="`import nox_buildstages`",
            argv=(*python, "import nox_buildstages"),
            cwd=bare,
            peer="`import nox`",
            peer_argv=(*python, "import nox"),
            peer_cwd=bare,
            goal=1.0,
        ),
    ]


def _nox(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "nox", "-db", "uv", *words)


def _measured(row: Row, env: dict[str, str], runs: int) -> str:
    """Run the pair in turn, A B A B …, and return its line of the table."""
    pairs = []
    for _ in range(runs + 1):
        ours = _seconds(row.argv, row.cwd, env)
        pairs.append((ours, _seconds(row.peer_argv, row.peer_cwd, env)))
    del pairs[0]  # a warm-up
    ours, peers = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return (
        f"| {row.what} | {ours * 1000:.0f} ms | {row.peer} | {peers * 1000:.0f} ms"
        f" | {ratio:.2f} | ≤ {row.goal:g} |"
    )


def _seconds(argv: tuple[str, ...], cwd: Path, env: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, cwd=cwd, env=env, check=True, capture_output=True)
    return time.perf_counter() - started


def _machine() -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{machine}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
