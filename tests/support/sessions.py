"""Sessions in this process, without nox: their workspaces and their bodies."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uv

from nox_buildstages.commands.final import run_final
from nox_buildstages.commands.init.init import run_init
from nox_buildstages.commands.lock import run_lock
from nox_buildstages.commands.plan.project import run_plan
from nox_buildstages.commands.shell.shell import run_shell
from nox_buildstages.commands.stage import run_stage
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.declarations.documents import read_document
from nox_buildstages.environments.environment import Environment
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.workspace.session_options import parse_options
from nox_buildstages.workspace.workspace import open_workspace
from support.project import NO_ENV, Completed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.workspace.session_options import Options
    from nox_buildstages.workspace.workspace import Workspace
    from support.project import Project


LATER = ("build-stages-init", "build-stages-lock", "build-stages-plan")
"""The sessions that make an environment only when they need it."""


@dataclass(kw_only=True)
class Sessions:
    """The sessions of one process of nox, without nox.

    Attributes:
        project: The project of the test.
        id: The id of the run.
        may_run: Whether programs may run in environments.
        variables: Environment variables over those of the project.
        programs: The programs that sessions ran in their environments.
    """

    project: Project
    id: str = "1-first"
    may_run: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    programs: list[Sequence[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin a run."""
        self.run = Run(
            id=self.id,
            journal=Journal.of(self.project.wheelhouse, self.id),
            outer={**self.project.env, **self.variables},
            keeps_events=True,
        )

    @property
    def cells(self) -> Cells:
        """The cells of the project."""
        return self._read_cells(may_lack_stages=True)

    def options(self, name: str, *words: str) -> Options:
        """Return the options of a session for the words after ``--``."""
        return parse_options(words, outputs=self.cells.names, session=name)

    def open(self, name: str, *words: str) -> Workspace:
        """Return the workspace of a session of the first cell.

        Args:
            name: The session, such as ``build-stages``.
            *words: The words after ``--``.
        """
        location = self.project.folder / ".nox" / name
        is_made = name not in LATER
        if is_made and not location.exists():
            command = (uv.find_uv_bin(), "venv", "--quiet", "--no-project")
            argv = (*command, "--python", sys.executable, str(location))
            subprocess.run(argv, env={**self.project.env}, check=True)
        environment = Environment(
            location=location,
            bin=location / "bin",
            python=location / "bin/python" if is_made else Path(sys.executable),
            session=name,
            is_made=is_made,
            may_run=lambda: self.may_run,
            run=self._run,
        )
        cells = self.cells
        options = self.options(name, *words)
        return open_workspace(cells, cells.first, environment, options, self.run)

    def run_body(self, name: str, *words: str) -> None:
        """Run the body of a session of the first cell, after those it requires."""
        cells = self._read_cells(may_lack_stages=name == "build-stages-init")
        graph = cells.first.graph
        if name == "build-stages":
            for stage in graph.order:
                self.run_body(f"build-stage-{stage.name}", *words)
        workspace = self.open(name, *words)
        match name:
            case "build-stages":
                run_final(workspace)
            case "build-stages-init":
                run_init(workspace, document=read_document(self.project.pyproject))
            case "build-stages-lock":
                run_lock(workspace)
            case "build-stages-plan":
                run_plan(workspace)
            case "build-stages-shell":
                run_shell(workspace)
            case _:
                run_stage(workspace, graph.stages[name.removeprefix("build-stage-")])

    def _read_cells(self, *, may_lack_stages: bool) -> Cells:
        path = self.project.pyproject
        document = read_document(path)
        return arrange_cells(
            read_cells(
                document,
                pyproject=path,
                may_lack_stages=may_lack_stages,
                may_lack_outputs=may_lack_stages,
            )
        )

    def _run(self, argv: Sequence[str], cwd: Path, *, env: Mapping[str, str]) -> None:
        self.programs.append(argv)
        assert cwd == self.project.folder
        # The project's variables are some of uv, nox-buildstages and others.
        assert not [it for it in env if re.match("UV|PIP|NOX|VIRTUALENV_", it)]


def run_session(
    project: Project,
    name: str,
    *words: str,
    env: Mapping[str, str] = NO_ENV,
    check: bool = True,
) -> Completed:
    """Run the body of a session in this process, as nox would in a run of its own.

    Args:
        project: The project.
        name: The session, such as ``build-stages``.
        *words: The words after ``--``.
        env: Variables over those of the project.
        check: Whether it must succeed; otherwise it must fail.

    Returns:
        The output, and as stderr the lines for the user and the error.
    """
    number = next(_NUMBERS)
    output, lines = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(lines)
    logger = logging.getLogger("nox")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    error = None
    try:
        with contextlib.redirect_stdout(output):
            sessions = Sessions(project=project, id=f"{number}-run", variables=env)
            sessions.run_body(name, *words)
    except BuildStagesError as caught:
        error = caught
        lines.write("\n".join(error.lines()))
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
    assert check == (error is None), lines.getvalue()
    code = 0 if error is None else 1
    return Completed(returncode=code, output=output.getvalue(), stderr=lines.getvalue())


_NUMBERS = itertools.count(1)
