"""What locking and environments cost, against uv with the same project."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from benchmarks.measuring import Command, Group, Row, Workload, run
from benchmarks.projects import (
    BARE_NOX,
    BUILD_STAGES,
    LOCK,
    bare_project,
    command,
    make_cold,
    remove_environments,
)
from benchmarks.real import PYTHON, SDISTS, UV, make_downloads, make_eight
from nox_buildstages.value import replace
from support.project import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from support.project import Project

ANSWERS = "sdists-v*/**/metadata.msgpack"
"""Where uv's cache keeps what build backends answered."""

TORCH = "2.13.0"
EXTENSIONS = {"flash-attn": "2.8.3.post2", "causal-conv1d": "1.7.0"}
BUILD_REQUIRES = ["setuptools", "wheel", "ninja", "packaging", "psutil"]
NO_CUDA = {
    f"{name}_{what}": "TRUE"
    for name in ("FLASH_ATTENTION", "CAUSAL_CONV1D")
    for what in ("SKIP_CUDA_BUILD", "FORCE_BUILD")
}
TORCH_TABLE = f"""
[tool.nox-buildstages]
match-runtime = ["torch"]
constraints = ["torch=={TORCH}"]

[tool.nox-buildstages.final]
requirements = {[*EXTENSIONS, "torch"]}

[[tool.nox-buildstages.stage]]
name = "kernels"
dependencies = {[*BUILD_REQUIRES, "torch"]}
outputs = {[f"{name}=={version}" for name, version in EXTENSIONS.items()]}
env = {{ {", ".join(f'{name} = "{it}"' for name, it in NO_CUDA.items())} }}
"""


def _eight(folder: Path) -> Iterator[Group]:
    """Eight sdists whose build backends are asked for metadata."""
    downloads = make_downloads(folder, fetch=False)
    project = make_eight(downloads)
    run(BUILD_STAGES, project.folder, project.env)
    comparison = Comparison(
        project=project,
        peer=_uv_project(
            folder / "peer", _pins(SDISTS), {"no-binary-package": [*SDISTS]}
        ),
        bare=bare_project(folder / "bare", downloads.env),
        bare_environments=bare_project(folder / "many", downloads.env, 3),
    )
    yield from comparison.groups(prefix="eight-", what="8 sdists")


def _torch(folder: Path) -> Iterator[Group]:
    """A project with torch and two of its extensions."""
    env = make_downloads(folder, fetch=False).env
    env = {**env, **NO_CUDA, "UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]}
    project = make_project(folder / "project", env)
    project.write(TORCH_TABLE)
    run(BUILD_STAGES, project.folder, project.env)
    torch = f"torch=={TORCH}"
    build = [*BUILD_REQUIRES, torch]
    uv = {
        "no-binary-package": [*EXTENSIONS],
        "extra-build-dependencies": dict.fromkeys(EXTENSIONS, build),
    }
    comparison = Comparison(
        project=project,
        peer=_uv_project(folder / "peer", [*_pins(EXTENSIONS), torch], uv),
        bare=bare_project(folder / "bare", env),
        bare_environments=bare_project(folder / "many", env, 2),
    )
    yield from comparison.groups(prefix="torch-", what="torch and 2 extensions")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The same project for nox-buildstages and for uv.

    Attributes:
        project: Ours.
        peer: The folder of uv's.
        bare: One for nox alone.
        bare_environments: One for nox alone, with as many environments as ours.
    """

    project: Project
    peer: Path
    bare: Project
    bare_environments: Project

    def groups(self, *, prefix: str, what: str) -> Iterator[Group]:
        """Yield the rows to measure."""
        run((UV, "sync", *PYTHON), self.peer, self.project.env)
        bare = command("bare nox", self.bare, *BARE_NOX)
        build = command(f"no-op, {what}", self.project, *BUILD_STAGES)
        lock = command(f"lock again, {what}", self.project, *LOCK)
        uv_lock = self._uv("`uv lock`", "lock")
        linked = replace(
            build,
            what=f"environments of {what}",
            prepare=partial(remove_environments, self.project),
        )
        rows = (
            Row(name=f"{prefix}noop", ours=build, peer=bare),
            Row(name=f"{prefix}relock", ours=lock, beyond=bare, peer=uv_lock, goal=2),
            Row(
                name=f"{prefix}environments",
                ours=linked,
                beyond=replace(
                    command("bare nox", self.bare_environments, *BARE_NOX),
                    prepare=partial(remove_environments, self.bare_environments),
                ),
                peer=replace(
                    self._uv("`uv sync`, warm", "sync"), prepare=self._remove_venv
                ),
                goal=3,
                is_cpu=True,
            ),
            Row(
                name=f"{prefix}copies",
                ours=replace(
                    linked,
                    what=f"copied {linked.what}",
                    env={**linked.env, "UV_LINK_MODE": "copy"},
                ),
                peer=linked,
            ),
            Row(
                name=f"{prefix}lock-asked",
                ours=replace(
                    lock,
                    what=f"first lock, {what}, backends asked before",
                    prepare=self._remove_locks,
                ),
                beyond=bare,
                peer=replace(uv_lock, prepare=self._remove_locks),
                goal=1.5,
                is_cpu=True,
            ),
            Row(
                name=f"{prefix}lock",
                ours=replace(
                    lock, what=f"first lock, {what}", prepare=self._remove_answers
                ),
                beyond=bare,
                peer=replace(uv_lock, prepare=self._remove_answers),
                goal=3,
                is_cpu=True,
            ),
        )
        yield from (Group(rows=(row,), runs=3) for row in rows)

    def _uv(self, what: str, word: str) -> Command:
        return Command(
            what=what,
            commands=((UV, word, *PYTHON),),
            cwd=self.peer,
            env=self.project.env,
        )

    def _remove_venv(self) -> None:
        shutil.rmtree(self.peer / ".venv")

    def _remove_locks(self) -> None:
        """Leave of both projects what is declared, and the caches."""
        remove_environments(self.project)
        shutil.rmtree(self.project.folder / "build-stages", ignore_errors=True)
        self.peer.joinpath("uv.lock").unlink(missing_ok=True)

    def _remove_answers(self) -> None:
        """Leave of both projects what is declared, and the downloads."""
        self._remove_locks()
        make_cold(self.project)
        for path in Path(self.project.env["UV_CACHE_DIR"]).glob(ANSWERS):
            path.unlink()


def _uv_project(folder: Path, requires: list[str], uv: Mapping[str, Any]) -> Path:
    """Make a project for uv, and return its folder."""
    python = f"=={sys.version_info.major}.{sys.version_info.minor}.*"
    project = {
        "name": "peer",
        "version": "0",
        "requires-python": python,
        "dependencies": requires,
    }
    machine = f"platform_machine == '{platform.machine()}'"
    here = f"sys_platform == '{sys.platform}' and {machine}"
    settings = {"package": False, "environments": [here], **uv}
    folder.mkdir()
    folder.joinpath("pyproject.toml").write_text(
        tomli_w.dumps({"project": project, "tool": {"uv": settings}}), encoding="utf-8"
    )
    return folder


def _pins(versions: Mapping[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in versions.items()]


def _names(prefix: str) -> tuple[str, ...]:
    rows = ("noop", "relock", "environments", "copies", "lock-asked", "lock")
    return tuple(f"{prefix}{row}" for row in rows)


def _no_torch() -> str:
    """Return why there are no rows with torch; empty if there is one to take."""
    folders = os.environ.get("PIP_FIND_LINKS", "").split()
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if any([*Path(it).glob(f"torch-{TORCH}*-{python}-*.whl")] for it in folders):
        return ""
    return f"no torch {TORCH} for this Python in PIP_FIND_LINKS"


WORKLOADS = (
    Workload(
        names=_names("eight-"),
        seconds=180,
        groups=_eight,
    ),
    Workload(names=_names("torch-"), seconds=400, groups=_torch, missing=_no_torch()),
)
