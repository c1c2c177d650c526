"""Runs killed in each of their steps: nothing is damaged or left behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.system.orphans import SUPERVISOR
from nox_buildstages.wheels import wheel as wheels
from support.pair import KERNELS, MODELS, Pair, kernels_tree, publish

if TYPE_CHECKING:
    import subprocess

    from support.index import Index
    from support.project import Project

PATIENCE = 60.0
SLEEP = 0.4
"""Seconds that the build of kernels sleeps."""

STEPS = {
    "lock": ("lock", "build-stages"),
    "build": ("compile", "build-stages"),
    "install": ("install", "build-stages"),
    "release": ("build-stages-release", "build-stages-release"),
    "merge": ("", "build-stages-merge"),
    "prune": ("", "build-stages-prune"),
}
"""For each step, the event or session that begins it, and the session that is called.

Merging and pruning keep no events: nox's line about the session is their beginning.
"""

WORDS = {"build": ["--rebuild"], "prune": ["--larger-than", "1KB"]}


@dataclass
class Kills:
    """A project whose runs are killed."""

    project: Project
    artifacts: Path
    chance: random.Random
    longest: dict[str, float] = field(default_factory=dict)
    hits: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def top(self) -> str:
        """What all command lines of the project's runs contain."""
        return str(self.project.folder.parent)

    def arrange(self, step: str) -> None:
        """Let the step have something to do."""
        folder = self.project.folder
        if step == "lock":
            shutil.rmtree(folder / "build-stages")
        if step in ("install", "merge"):
            shutil.rmtree(folder / "wheelhouse")
        if step == "install":
            shutil.rmtree(folder / ".nox/build-stages", ignore_errors=True)

    def words(self, step: str, *, is_parallel: bool) -> list[str]:
        """Return the command of a step."""
        words = WORDS.get(step, [])
        words = [str(self.artifacts)] if step == "merge" else words
        jobs = ["-j", "2"] if is_parallel else []
        return [*jobs, "-s", STEPS[step][1], "--", *words]

    def events(self) -> list[dict[str, str]]:
        """Return the events in the journal of the run."""
        found = []
        for path in self.project.wheelhouse.glob(".run-*.jsonl"):
            with suppress(OSError):
                for line in path.read_bytes().split(b"\n"):
                    with suppress(ValueError):
                        found.append(json.loads(line))
        return found

    def is_in(self, step: str) -> bool:
        """Whether a step has begun and not ended."""
        name, _ = STEPS[step]
        states = [
            it["state"]
            for it in self.events()
            if it["step"] == name
            or (it["step"] == "session" and it.get("session") == name)
        ]
        return states.count("begun") > len(states) - states.count("begun")

    def wait(self, step: str, nox: subprocess.Popen[str]) -> bool:
        """Wait until a step begins; whether it did."""
        deadline = time.monotonic() + PATIENCE
        if not STEPS[step][0]:
            assert nox.stdout is not None
            return any(f"Running session {STEPS[step][1]}" in it for it in nox.stdout)
        while nox.poll() is None and not self.is_in(step):
            assert time.monotonic() < deadline, f"{step} took too long to begin"
            time.sleep(0.01)
        return nox.poll() is None

    def processes(self) -> dict[int, str]:
        """Return the processes of the project's runs."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if self.top in line and int(folder.name) != os.getpid():
                    found[int(folder.name)] = line
        return found

    def kill(self, step: str, target: str, *, is_parallel: bool) -> bool:
        """Kill a run in a step; whether it was in the step."""
        words = self.words(step, is_parallel=is_parallel)
        with self.project.start(*words) as nox:
            begun = self.wait(step, nox)
            started = time.monotonic()
            most = self.longest.get(step)
            if most is None:  # the first run tells how long the step takes
                nox.communicate()
                self.longest[step] = time.monotonic() - started
                return False
            time.sleep(self.chance.uniform(0, most))
            is_hit = begun and nox.poll() is None
            is_hit = is_hit and (not STEPS[step][0] or self.is_in(step))
            supervisors = [
                it for it, line in self.processes().items() if SUPERVISOR in line
            ]
            if target == "supervisor" and supervisors:
                with suppress(ProcessLookupError):
                    os.kill(supervisors[0], signal.SIGKILL)
            else:
                end = os.killpg if target == "group" else os.kill
                with suppress(ProcessLookupError):
                    end(nox.pid, signal.SIGKILL)
                target = target if target == "group" else "nox"
            nox.communicate()
        if is_hit:
            self.hits[step, target, "-j 2" if is_parallel else "serial"] += 1
        return is_hit

    def check(self) -> None:
        """Check that nothing is damaged, and that the next run leaves nothing."""
        for folder in (self.project.store, self.project.wheelhouse, self.artifacts):
            for path in folder.rglob("*.whl"):
                if not any(it.startswith(".new-") for it in path.parts):
                    wheels.verify_record(path)
        deadline = time.monotonic() + PATIENCE
        while left := self.processes():
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.05)
        self.project.nox("-s", "build-stages")
        assert self.project.wheels() == [KERNELS, MODELS]
        assert not self.leftovers()

    def leftovers(self) -> list[str]:
        """Return files and folders that nobody needs any more."""
        store, folder = self.project.store, self.project.folder
        temporary = Path(self.project.env["TMPDIR"])
        found = [
            *(it for it in folder.glob("build-stages/.*") if it.name != ".lock"),
            *(it for it in folder.glob("wheelhouse/.*")),
            *(it for it in folder.glob("wheelhouse/logs/.*")),
            *(it for it in folder.glob(".nox/.*")),
            *store.glob("builds/*"),
            *store.glob("sources/*/*/"),
            *temporary.glob("nox-buildstages-tmp-*"),
            *(it for it in store.glob("wheels/**/.*")),
        ]
        usual = (".lock", ".gitignore")
        return [str(it) for it in found if it.name not in usual]


@pytest.mark.slow
def test_killed_in_any_step_the_next_run_ends_well(
    project: Project, index: Index, tmp_path: Path, kills: int
) -> None:
    """Nox alone, the supervisor of a build, or the whole group; serial or parallel."""
    publish(index)
    tree = kernels_tree(project, faults=["sleep"], sleep=SLEEP)
    Pair(first={"outputs": [tree]}).write(project)
    for session in ("build-stages", "build-stages-release"):
        project.nox("-s", session)
    artifacts = tmp_path / "artifacts"
    shutil.copytree(project.wheelhouse, artifacts / "one")
    state = Kills(project, artifacts, random.Random(kills))  # noqa: S311 - no secret
    while state.hits.total() < kills:
        step = min(
            STEPS,
            key=lambda it: (
                sum(number for (name, _, _), number in state.hits.items() if name == it)
                + (it in state.longest)
            ),
        )
        target = state.chance.choice(["nox", "supervisor", "group"])
        is_parallel = state.chance.random() < 0.5
        state.arrange(step)
        is_hit = state.kill(step, target, is_parallel=is_parallel)
        print(f"{'killed in' if is_hit else 'not in'} {step}")  # noqa: T201 - progress
        state.check()
    for (step, target, how), number in sorted(state.hits.items()):
        print(f"{step:8} {target:10} {how:6} {number:3}")  # noqa: T201 - the result
