"""What earlier tests' runs of nox left, for tests that begin after the same run.

Locks, store and wheelhouse are copied, but not the environments, which know where they
are.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

ENVIRONMENTS = ".nox"


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierRuns:
    """Results of runs by what the runs began with: the files of project and index.

    Attributes:
        results: The folder for them.
        index: The folder of the index.
    """

    results: Path
    index: Path

    def prepare(self, project: Project, session: str) -> None:
        """Run a session in a new project, or copy what an earlier run left."""
        assert not project.store.exists(), "the project isn't new"
        result = self.results / f"{session}-{self._digest(project.folder)}"
        if result.exists():
            shutil.copytree(result / "project", project.folder, dirs_exist_ok=True)
            shutil.copytree(result / "store", project.store)
        else:
            project.nox("-s", session)
            ignore = shutil.ignore_patterns(ENVIRONMENTS)
            shutil.copytree(project.folder, result / "project", ignore=ignore)
            shutil.rmtree(project.folder / ENVIRONMENTS)
            shutil.copytree(project.store, result / "store")

    def _digest(self, folder: Path) -> str:
        digest = hashlib.sha256()
        for root in (folder, self.index):
            for path in sorted(root.rglob("*")):
                digest.update(f"{path.relative_to(root)}\n".encode())
                if path.is_file():
                    digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
