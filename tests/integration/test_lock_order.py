"""The order of the locks between processes, observed in real runs."""

from __future__ import annotations

import fcntl
import re
import subprocess
import traceback
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli_w

from nox_buildstages.commands.final import run_final
from nox_buildstages.commands.prune import run_prune
from nox_buildstages.commands.release.release import run_release
from nox_buildstages.commands.stage import run_stage
from nox_buildstages.reader import parse_toml
from nox_buildstages.run.environment_lock import EnvironmentLock
from nox_buildstages.run.nox_command_line import NoxInvocation
from nox_buildstages.system import locks
from nox_buildstages.value import replace
from support.packages import make_tree
from support.sessions import Sessions

if TYPE_CHECKING:
    from support.project import Project


GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.invalid")


def documented() -> list[tuple[int, str]]:
    """Return the number and the name of each lock in the list of the docstring."""
    found = []
    for number, names in re.findall(r"(?m)^(\d+)\. (.*?):", locks.__doc__ or ""):
        found += [(int(number), name) for name in re.findall("``(.*?)``", names)]
    return found


def pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of a documented name, whose words in capitals may be any."""
    text = re.escape(name).replace("KEY", "[0-9a-f]{64}")
    return re.compile(re.sub("[A-Z]{2,}", r"[\\w.-]+", text))


@dataclass
class Observer:
    """Notes each lock that this process takes while it holds others."""

    store: Path
    held: dict[int, Path] = field(default_factory=dict)  # by descriptor
    seen: set[str] = field(default_factory=set)
    faults: set[str] = field(default_factory=set)
    waits: bool = True  # whether the lock in question is waited for

    def note(self, descriptor: int, operation: int) -> None:
        """Note a lock that was taken or released."""
        self.held = {it: path for it, path in self.held.items() if path == _path(it)}
        self.held.pop(descriptor, None)
        if operation & fcntl.LOCK_UN:
            return
        path = _path(descriptor)
        if path is None or not path.exists():
            return
        number, name = self.identify(path)
        self.seen.add(name)
        # Only a prune, which waits for nothing else, makes others wait to share.
        if self.waits and not operation & fcntl.LOCK_SH:
            sorts = name == "making-PATH"  # a process may hold several, in order
            wheels = {"KEY"} if name == "KEY" else set[str]()  # with compilers first
            self.faults |= {
                f"{other}, then {name}"
                for held in self.held.values()
                for before, other in [self.identify(held)]
                if before >= number
                and other not in wheels
                and not (sorts and held.name < path.name)
            }
        self.held[descriptor] = path

    def identify(self, path: Path) -> tuple[int, str]:
        """Return the number and the name of a lock in the list; the last that fits."""
        name = path.name
        if path.is_relative_to(self.store):
            relative = path.relative_to(self.store).as_posix()
            name = relative.removeprefix("locks/").removesuffix(".lock")
        fits = [it for it in documented() if pattern(it[1]).fullmatch(name)]
        assert fits, f"{path}: no lock of the list in {locks.__file__}"
        return fits[-1]


def _path(descriptor: int) -> Path | None:
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None


@pytest.fixture
def observer(project: Project, monkeypatch: pytest.MonkeyPatch) -> Observer:
    """Observe the kernel's function."""
    observer, flock = Observer(project.store), fcntl.flock

    def observed_flock(descriptor: int, operation: int) -> None:
        # Every lock is only tried; `_hold` tries until it has the lock.
        callers = [frame.name for frame in traceback.extract_stack(limit=3)]
        observer.waits = "_hold" in callers
        flock(descriptor, operation)
        if "_lock_alone" in callers:  # a temporary file
            return
        observer.note(descriptor, operation)

    monkeypatch.setenv("NOX_BUILDSTAGES_CACHE_DIR", str(project.store))
    monkeypatch.setattr(fcntl, "flock", observed_flock)
    return observer


def declare(project: Project, tmp_path: Path) -> None:
    """Declare a project whose runs take every lock of the list."""
    tree = make_tree(tmp_path / "kernels", "kernels", "1.0")
    for argv in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*GIT, "-C", str(tree), *argv], check=True)
    make_tree(project.folder, "own", "1.0", settings={"requires": ["kernels"]})
    document = parse_toml(project.pyproject.read_text("utf-8"))
    document["project"] = {"name": "own", "version": "1.0", "dependencies": ["kernels"]}
    output = f"kernels @ git+{tree.as_uri()}"
    document["tool"] = {
        "nox-buildstages": {
            "final": {"project": True},
            "remote-store": str(tmp_path / "remote"),
            "stage": [{"name": "only", "outputs": [output]}],
        }
    }
    project.write(tomli_w.dumps(document))


def run_all(sessions: Sessions) -> None:
    """Run the sessions that take locks, as nox does."""
    lock = EnvironmentLock(invocation=NoxInvocation())
    stage = sessions.cells.first.graph.stages["only"]
    lock.acquire_for([f"build-stage-{stage.name}", "build-stages"])
    for name, words, body in (
        ("build-stage-only", [], partial(run_stage, stage=stage)),
        ("build-stage-only", ["--check-reproducible"], partial(run_stage, stage=stage)),
        ("build-stages", [], run_final),
        ("build-stages-release", [], run_release),
    ):
        location = sessions.project.folder / ".nox" / name
        with lock.release_during(location):
            workspace = sessions.open(name, *words)
            workspace.use_store()
            body(workspace)
    with lock.release_during(None):
        run_prune(sessions.options("build-stages-prune"), sessions.run)


def test_locks_are_taken_in_the_documented_order(
    project: Project, tmp_path: Path, observer: Observer
) -> None:
    """A lock that isn't in the list fails, too; every lock of the list is taken.

    A stage is built and checked, the project itself is installed and released, and the
    store is pruned.
    """
    ccache = tmp_path / "bin" / "ccache"
    ccache.parent.mkdir()
    ccache.write_text("#!/bin/sh\n", "utf-8")
    ccache.chmod(0o755)
    path = f"{ccache.parent}:{project.env['PATH']}"
    declare(project, tmp_path)
    run_all(Sessions(project=replace(project, env={**project.env, "PATH": path})))
    assert observer.faults == set()
    assert observer.seen == {name for _, name in documented()}
