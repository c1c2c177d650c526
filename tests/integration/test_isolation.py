"""Build backends without network: what they reach, and what stays as it was."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.sandbox.policy import SandboxPolicy
from nox_buildstages.builder.sandbox.sandbox import Sandbox
from nox_buildstages.builder.scripts.isolate import CANNOT_CUT, CANNOT_RUN
from nox_buildstages.errors import (
    BuildStagesError,
)
from nox_buildstages.model import Stage
from nox_buildstages.store.build_dir import ENVIRONMENT_HERE, HERE
from nox_buildstages.system.process import Command, Completed, run
from nox_buildstages.value import replace
from support.namespaces import (
    OFFLINE,
    can_forbid,
    forbidding,
    forbidding_all,
    needs_namespaces,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OFF = Sandbox()
ON = Sandbox(network="on", why="network = true")
PYTHON = shutil.which("python3", path="/usr/bin:/bin")
"""One that every user of this machine can run."""

NOBODY = 65534


def python(code: str, *args: object) -> Command:
    return Command(argv=(sys.executable, "-I", "-c", code, *map(str, args)))


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# What a program reaches ----------------------------------------------------------

CONNECT = """
import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5).close()
"""


@needs_namespaces
def test_without_network_a_server_is_not_reached(port: int) -> None:
    """Not even one on the same machine; with the network it is."""
    assert run(ON.wrap(python(CONNECT, port))).returncode == 0
    completed = run(OFF.wrap(python(CONNECT, port)))
    assert completed.returncode == 1
    assert "ConnectionRefusedError" in completed.stderr


@needs_namespaces
def test_without_network_another_machine_is_not_reached() -> None:
    """The kernel says so at once, with nothing sent and no waiting."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 30)"
    completed = run(OFF.wrap(python(code)))
    assert "Network is unreachable" in completed.stderr


@needs_namespaces
def test_without_network_a_program_reaches_itself() -> None:
    """A compiler cache's server, a test's: localhost is up, and its own."""
    code = """
import socket
with socket.create_server(("localhost", 0)) as server:
    socket.create_connection(server.getsockname(), 5).close()
"""
    assert run(OFF.wrap(python(code))).stderr == ""


@needs_namespaces
@pytest.mark.parametrize("path", ["/proc/{}/environ", "/proc/{}/ns/net"])
def test_without_network_our_process_is_closed(path: str) -> None:
    """It shows neither the variables that we were started with nor a way out."""
    look = python("open(__import__('sys').argv[1])", path.format(os.getpid()))
    assert "PermissionError" in run(OFF.wrap(look)).stderr


@needs_namespaces
@pytest.mark.skipif(
    os.geteuid() != 0 or PYTHON is None, reason="only root can become someone else"
)
def test_an_ordinary_user_needs_no_rights() -> None:
    """The user stays who it is, files of its own are its own."""
    code = """
import os, socket, pathlib
print(os.getuid(), os.getgid(), pathlib.Path("/proc/net/dev").read_text().count(":"))
with socket.create_server(("localhost", 0)):
    pass
"""
    # From another folder, as that user may not be able to read our files.
    with tempfile.TemporaryDirectory() as folder:
        scripts = shutil.copytree(OFFLINE.parent, Path(folder, "scripts"))
        Path(folder).chmod(0o755)
        words = (CUT, "--", str(PYTHON), "-c", code)
        completed = subprocess.run(
            [str(PYTHON), "-I", "-S", scripts / OFFLINE.name, *words],
            capture_output=True,
            text=True,
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
    assert completed.stderr == ""
    assert completed.stdout.split() == [str(NOBODY), str(NOBODY), "1"]


lesser_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="wants a lesser root"
)
RIGHTS = ["net_admin", "setpcap", "sys_admin"]


def without(right: str, command: Command) -> Command:
    return replace(
        command, argv=("setpriv", "--bounding-set", f"-{right}", *command.argv)
    )


@needs_namespaces
@lesser_root
@pytest.mark.parametrize("right", RIGHTS)
def test_a_root_without_all_rights_is_cut_off_too(port: int, right: str) -> None:
    """As the root of a container is, which has some of them."""
    completed = run(without(right, OFF.wrap(python(CONNECT, port))))
    assert "ConnectionRefusedError" in completed.stderr


# As it is run, but with what measures coverage.
TRY = (
    *(sys.executable, "-c"),
    (
        "import sys; from nox_buildstages.builder.scripts import isolate as it;"
        " sys.exit(it.main(sys.argv[1:]))"
    ),
)
CUT = "namespace"


@needs_namespaces
def test_without_a_program_it_is_only_tried() -> None:
    """Nothing runs, and the status tells."""
    assert run(Command(argv=(*TRY, CUT, "--"))).returncode == 0
    assert run(Command(argv=(*TRY, CUT, "--", "/gone"))).returncode == CANNOT_RUN


@needs_namespaces
@lesser_root
@pytest.mark.parametrize("how", [CUT, "on"])
@pytest.mark.parametrize("right", RIGHTS)
def test_a_lesser_root_may_try_it(right: str, how: str) -> None:
    """It takes another way, to the same end."""
    assert run(without(right, Command(argv=(*TRY, how, "--")))).returncode == 0


@needs_namespaces
@pytest.mark.parametrize("how", [CUT, "on"])
def test_moving_is_measured_too(tmp_path: Path, how: str) -> None:
    """Tried with what measures coverage, in the folder and beside it."""
    places = (str(tmp_path), str(HERE))
    for cwd in (tmp_path, tmp_path.parent):
        command = Command(argv=(*TRY, how, "--at", *places, "--"), cwd=cwd)
        assert run(command).returncode == 0


@can_forbid
def test_where_it_is_forbidden_the_reason_is_told() -> None:
    """In one line."""
    completed = run(Command(argv=tuple(forbidding(*TRY, CUT, "--"))))
    assert completed.returncode == CANNOT_CUT
    assert completed.stderr == "a limit in /proc/sys/user\n"


# Where a program finds itself -----------------------------------------------------

LOOK = """
import os, pathlib, sys
print(os.getcwd(), os.environ.get("THERE"), *sys.argv[1:])
print(*sorted(it.name for it in pathlib.Path(sys.argv[1]).iterdir()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "builds/a"
    folder.joinpath("source").mkdir(parents=True)
    folder.joinpath("source/file").touch()
    return folder


def looked(sandbox: Sandbox, cwd: Path, folder: Path) -> list[str]:
    """Return what a program says that runs in one folder and is told of another."""
    env = {**os.environ, "THERE": f"{folder}/x"}
    command = replace(python(LOOK, folder), cwd=cwd, env=env)
    completed = run(sandbox.wrap(command))
    assert completed.stderr == ""
    return completed.stdout.splitlines()


@needs_namespaces
@pytest.mark.parametrize("sandbox", [OFF, ON])
def test_a_folder_is_found_at_another_path(
    folder: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    """By who runs in it, and in arguments and variables, with and without network."""
    sandbox = sandbox.show(folder)
    assert looked(sandbox, folder / "source", folder / "source") == [
        f"{HERE}/source {HERE}/source/x {HERE}/source",
        "file",
    ]
    assert looked(sandbox, tmp_path, folder)[0] == f"{tmp_path} {HERE}/x {HERE}"
    assert not HERE.exists()


@needs_namespaces
@pytest.mark.parametrize("rules", [None, ("r/",)])
def test_an_environment_is_found_at_another_path(
    folder: Path, tmp_path: Path, rules: tuple[str, ...] | None
) -> None:
    """Also in arguments and variables, and what a build may write there it can."""
    environment, longer = tmp_path / "stage-a", tmp_path / "stage-ab"
    for it in (environment / "bytecode", longer):
        it.mkdir(parents=True)
    sandbox = OFF.show(folder, environment)
    if rules:
        writable = (f"w{folder}", f"w{environment}/bytecode")
        sandbox = sandbox.restrict((*rules, *writable))
    assert looked(sandbox, folder, environment) == [
        f"{HERE} {ENVIRONMENT_HERE}/x {ENVIRONMENT_HERE}",
        "bytecode",
    ]
    assert (
        sandbox.translate(f"{environment}:{longer}") == f"{ENVIRONMENT_HERE}:{longer}"
    )
    touch = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    assert run(sandbox.wrap(python(touch, environment / "bytecode/x"))).returncode == 0
    assert (environment / "bytecode/x").exists()
    refused = run(sandbox.wrap(python(touch, environment / "x"))).stderr
    assert ("Read-only file system" in refused) == bool(rules)


UPWARDS = """
import os, pathlib
for folder in pathlib.Path.cwd().parents:
    names = {it.name for it in folder.iterdir()} - {it.name for it in os.scandir("/")}
    print(*sorted(names), *(it.name for it in folder.iterdir() if it.is_file()))
"""


@needs_namespaces
@pytest.mark.parametrize("sandbox", [OFF, ON])
def test_nothing_lies_around_a_folder(
    folder: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    """Who looks upwards meets the system's folders: no repository, no settings."""
    for name in ("Cargo.toml", ".git", "builds/setup.cfg"):
        (tmp_path / name).touch()
    look = replace(python(UPWARDS), cwd=folder / "source")
    assert run(sandbox.show(folder).wrap(look)).stdout.split() == ["source"]


@needs_namespaces
def test_a_folder_stays_as_it_is_where_that_is_wanted(
    folder: Path, tmp_path: Path
) -> None:
    """Who runs there can read it; a link to it leads to the same."""
    toolchain, link = tmp_path / "toolchain", tmp_path / "link"
    toolchain.mkdir()
    link.symlink_to(toolchain)
    sandbox = OFF.show(folder).restrict(("r/", f"w{folder}"))
    for path in (toolchain, link):
        write = python("open(__import__('sys').argv[1], 'w')", path / "new")
        assert "Read-only file system" in run(sandbox.wrap(write)).stderr
    write = python("open(__import__('sys').argv[1], 'w')", folder / "new")
    assert run(sandbox.wrap(write)).returncode == 0


@needs_namespaces
def test_what_is_written_there_is_in_the_folder(folder: Path) -> None:
    """It is the same one."""
    sandbox = OFF.show(folder)
    write = python("import pathlib, sys; pathlib.Path(sys.argv[1]).touch()")
    write = replace(write, argv=(*write.argv, str(folder / "made")))
    assert run(sandbox.wrap(write)).returncode == 0
    assert (folder / "made").exists()


@needs_namespaces
@lesser_root
@pytest.mark.parametrize("right", RIGHTS)
def test_a_lesser_root_finds_it_there_too(folder: Path, right: str) -> None:
    """Cut off, and beside who is cut off."""
    sandbox = OFF.show(folder)
    look = replace(python(LOOK, folder), cwd=folder, env=os.environ)
    for command in (sandbox.wrap(look), sandbox.with_network().wrap(look)):
        assert run(without(right, command)).stdout.endswith("\nsource\n")


@needs_namespaces
def test_who_is_beside_it_has_the_network(folder: Path, port: int) -> None:
    """And finds the folder at the same path."""
    sandbox = OFF.show(folder)
    assert run(sandbox.with_network().wrap(python(CONNECT, port))).returncode == 0
    look = replace(python(LOOK, folder), cwd=folder)
    said = run(sandbox.with_network().wrap(look)).stdout
    assert said.startswith(str(HERE))


def test_without_mounts_a_folder_is_where_it_is(folder: Path) -> None:
    """Nothing is made for it."""
    sandbox = replace(OFF, may_move=False)
    assert sandbox.show(folder) is sandbox


def test_where_no_folder_can_be_moved_the_network_is_still_off() -> None:
    """The system forbids mounts alone."""
    sandbox = System(allowed=("namespace",)).policy().sandbox(STAGE)
    assert (sandbox.network, sandbox.may_move) == ("namespace", False)


# How a program ends --------------------------------------------------------------


@needs_namespaces
@pytest.mark.parametrize("status", [0, 3])
def test_the_exit_status_is_the_program_s(status: int) -> None:
    """Whatever is around it."""
    completed = run(OFF.wrap(python(f"raise SystemExit({status})")))
    assert completed.returncode == status


@needs_namespaces
def test_a_signal_ends_the_program_itself() -> None:
    """There is no process in between that could be ended in its place."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(OFF.wrap(python(code))).returncode == -signal.SIGKILL
    command = OFF.wrap(python("import os; print(os.getpid(), os.getpgrp())"))
    with subprocess.Popen(command.argv, stdout=subprocess.PIPE, text=True) as process:
        said = process.communicate()[0]
    assert said.split() == [str(process.pid), str(os.getpgrp())]


@needs_namespaces
def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """As a shell has it."""
    completed = run(OFF.wrap(Command(argv=(str(tmp_path / "gone"),))))
    assert completed.returncode == CANNOT_RUN
    assert completed.stderr == f"No such file or directory: {tmp_path / 'gone'}\n"


# What the system allows ----------------------------------------------------------


LIMIT = "a limit in /proc/sys/user"
OLD = "this kernel has no Landlock 2, which came with Linux 5.19"


@dataclass
class System:
    """A system that allows only some sandboxes, and what was reported there."""

    allowed: tuple[str, ...] = ("namespace", "--at", "seccomp", "on")
    landlock: int = 7
    commands: int = 0
    reports: list[str] = field(default_factory=list)

    def policy(self) -> SandboxPolicy:
        """Return the policy on the system."""
        return SandboxPolicy(runner=self.run, report=self.reports.append)

    def run(self, command: Command) -> Completed:
        """Answer as the script would."""
        self.commands += 1
        asked = {"namespace", "--at", "seccomp", "on"}.intersection(command.argv)
        if asked.issubset(self.allowed):
            return Completed(returncode=0, stdout=f"{self.landlock}\n", stderr="")
        reason = LIMIT if "seccomp" in asked else "Operation not permitted"
        return Completed(returncode=CANNOT_CUT, stdout="", stderr=f"{reason}\n")


STAGE = Stage(name="a", outputs=())


@needs_namespaces
def test_this_system_is_tried_once() -> None:
    """However many stages ask; nothing is reported if all is possible."""
    commands: list[Command] = []
    reports: list[str] = []

    def count(command: Command) -> Completed:
        commands.append(command)
        return run(command)

    policy = SandboxPolicy(runner=count, report=reports.append)
    strict = replace(STAGE, network="require-off")
    found = {policy.sandbox(stage) for stage in (STAGE, strict, STAGE)}
    assert {(it.network, it.may_move, it.is_off) for it in found} == {
        ("namespace", True, True)
    }
    assert (len(commands), reports) == (1, [])


@can_forbid
def test_without_namespaces_a_filter_of_calls_cuts_the_network_off() -> None:
    """This needs no rights, so it works in containers."""
    policy = SandboxPolicy(
        runner=lambda it: run(replace(it, argv=tuple(forbidding_all(*it.argv)))),
        report=lambda _: None,
    )
    sandbox = policy.sandbox(STAGE)
    assert (sandbox.network, sandbox.may_move) == ("seccomp", False)
    assert str(sandbox) == "off, even to localhost"


@pytest.mark.parametrize(
    ("system", "network", "files", "reports"),
    [
        (System(), "off", "its own, and the system's to read", []),
        (
            System(allowed=("seccomp", "on"), landlock=4),
            "off, even to localhost",
            (
                "its own, and the system's to read; it reaches abstract sockets and"
                " signals processes (Landlock 4)"
            ),
            [],
        ),
        (
            System(landlock=1),
            "off",
            f"it can read yours ({OLD})",
            [f"build backends can read your files: {OLD}"],
        ),
        (
            System(allowed=("on",), landlock=0),
            f"on ({LIMIT})",
            f"it can read and write yours ({OLD})",
            [
                f"build backends have network access: {LIMIT}",
                f"build backends can read and write your files: {OLD}",
            ],
        ),
    ],
)
def test_what_a_system_cannot_do_is_reported_once(
    system: System, network: str, files: str, reports: list[str]
) -> None:
    """The log of each build has it too."""
    policy = system.policy()
    sandbox, _ = (policy.sandbox(STAGE) for _ in range(2))
    assert (str(sandbox), sandbox.files) == (network, files)
    assert system.reports == reports


@pytest.mark.parametrize(
    ("stage", "problem", "detail"),
    [
        (
            replace(STAGE, network="require-off"),
            'network = "require-off", and the network can\'t be turned off',
            LIMIT,
        ),
        (
            replace(STAGE, sandbox="require"),
            'sandbox = "require", and files can\'t be restricted',
            OLD,
        ),
    ],
)
def test_what_is_required_and_impossible_is_an_error(
    stage: Stage, problem: str, detail: str
) -> None:
    """With the reason, before anything is built."""
    system = System(allowed=("on",), landlock=0)
    with pytest.raises(BuildStagesError, match=re.escape(problem)) as caught:
        system.policy().sandbox(stage)
    assert (caught.value.subject, caught.value.details) == ("stage a", [detail])


def test_a_stage_may_do_without() -> None:
    """Then nothing is reported, and a build reaches all files."""
    system = System(allowed=("on",), landlock=0)
    stage = replace(STAGE, network="on", sandbox="off")
    sandbox = system.policy().sandbox(stage)
    assert str(sandbox) == "on (network = true)"
    assert sandbox.files == "it can read and write yours (sandbox = false)"
    assert sandbox.restrict(("r/",)) is sandbox
    assert system.reports == []


@can_forbid
def test_where_it_became_impossible_nothing_runs() -> None:
    """The program isn't run with the network instead."""
    command = OFF.wrap(python("print('here')"))
    completed = run(replace(command, argv=tuple(forbidding(*command.argv))))
    assert completed.returncode == CANNOT_CUT
    assert completed.stdout == ""


def test_an_interpreter_that_is_gone_cannot_do_that(tmp_path: Path) -> None:
    """As when nox's own environment was removed meanwhile."""

    def gone(command: Command) -> Completed:
        return run(replace(command, argv=(str(tmp_path / "gone"),)))

    sandbox_policy = SandboxPolicy(runner=gone, report=lambda _: None)
    assert sandbox_policy.sandbox(STAGE).why.startswith("No such file or directory")
