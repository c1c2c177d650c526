"""The script of the guide to Slurm, against a Slurm of one node on this machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.pair import Pair, publish
from support.workflow import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.index import Index
    from support.project import Project

SCRIPT = ROOT / "examples" / "slurm" / "submit.py"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
HOST = platform.node().partition(".")[0]
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=6000
PartitionName=main Nodes={host} Default=YES State=UP
"""
STATES = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}
LIMIT = 120  # seconds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)),
        reason="needs root, munge and Slurm: slurmctld, slurmd and their programs",
    ),
]


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables with which programs find the Slurm."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        folder.joinpath(name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=HOST, folder=folder), "utf-8")
    variables = {"SLURM_CONF": str(config)}
    places = (f"--{name}={folder}/munge.{name}" for name in ("pid-file", "log-file"))
    munge = ("--foreground", "--force", f"--key-file={key}", *places)
    socket, seed = f"--socket={folder}/munge.sock", f"--seed-file={folder}/seed"
    with ExitStack() as stack:
        for program in (
            ("munged", *munge, socket, seed),
            ("slurmctld", "-D"),
            ("slurmd", "-D"),
        ):
            process = subprocess.Popen(
                program,
                env={**os.environ, **variables},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield variables


def wait_for_jobs(numbers: list[str], env: dict[str, str]) -> list[str]:
    """Return the states of jobs when all have ended."""
    end, states = time.monotonic() + LIMIT, ["PENDING"]
    while time.monotonic() < end and not STATES.issuperset(states):
        time.sleep(0.5)
        states = []
        for number in numbers:
            shown = subprocess.run(
                ["scontrol", "show", "job", number],  # noqa: S607
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            states += re.findall(r"JobState=(\w+)", shown)
    return states


def submit(project: Project, slurm: dict[str, str]) -> list[str]:
    """Submit the plan of a project; return what the script prints."""
    plan = project.nox("-s", "build-stages-plan", "--", "--json", apart=True).output
    programs = os.pathsep.join((str(Path(sys.executable).parent), project.env["PATH"]))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), f"--chdir={project.folder}"],
        input=plan[plan.index("{\n") : plan.rindex("}\n") + 1],
        cwd=project.folder,
        env={**project.env, **slurm, "PATH": programs},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_stages_are_jobs_that_wait_for_each_other(
    project: Project, slurm: dict[str, str], index: Index
) -> None:
    """All end well, and another plan submits the runtime alone."""
    publish(index)
    Pair().write(project)
    project.prepare("build-stages-lock")
    first, second, final = submit(project, slurm)
    number = first.split()[0]
    assert first == f"{number} build-stage-first"
    assert second.endswith(f"build-stage-second after {number}")
    assert final.split()[1:3] == ["build-stages", "after"]
    states = wait_for_jobs([it.split()[0] for it in (first, second, final)], slurm)
    logs = "\n".join(it.read_text() for it in project.folder.glob("*.log"))
    assert set(states) == {"COMPLETED"}, logs
    assert len(project.wheels()) == 2
    (again,) = submit(project, slurm)
    assert again.split()[1:] == ["build-stages"]
