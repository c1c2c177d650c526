"""Sessions in this process: a workspace for their bodies, without nox."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uv

from nox_buildstages import toml
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.environments.environment import Environment
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.workspace.session_options import parse_options
from nox_buildstages.workspace.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.workspace.session_options import Options
    from nox_buildstages.workspace.workspace import Workspace
    from support.project import Project


@dataclass(kw_only=True)
class Sessions:
    """The sessions of one process of nox, without nox.

    Attributes:
        project: The project of the test.
        id: The id of the run.
        may_run: Whether programs may run in environments.
        programs: The programs that sessions ran in their environments.
    """

    project: Project
    id: str = "1-first"
    may_run: bool = True
    programs: list[Sequence[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin a run."""
        self.run = Run(
            id=self.id,
            journal=Journal.of(self.project.wheelhouse, self.id),
            outer=dict(self.project.env),
        )

    @property
    def cells(self) -> Cells:
        """The cells of the project."""
        document = toml.loads(self.project.pyproject.read_text("utf-8"))
        return arrange_cells(read_cells(document, pyproject=self.project.pyproject))

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
        if not location.exists():
            argv = (uv.find_uv_bin(), "venv", "--quiet", "--no-project", str(location))
            subprocess.run(argv, env={**self.project.env}, check=True)
        environment = Environment(
            location=location,
            bin=location / "bin",
            python=location / "bin/python",
            session=name,
            may_run=lambda: self.may_run,
            run=self._run,
        )
        cells = self.cells
        options = self.options(name, *words)
        return open_workspace(cells, cells.first, environment, options, self.run)

    def _run(self, argv: Sequence[str], cwd: Path, *, log: bool = True) -> None:
        self.programs.append(argv)
        assert (cwd, log) == (self.project.folder, argv[0] != "python")
