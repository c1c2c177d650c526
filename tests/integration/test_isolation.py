"""Build backends without network: what they reach, and what stays as it was."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.sandbox.policy import SandboxPolicy
from nox_buildstages.builder.sandbox.sandbox import Sandbox
from nox_buildstages.builder.scripts.isolate import CANNOT_CUT, CANNOT_RUN
from nox_buildstages.errors import (
    BuildStagesError,
)
from nox_buildstages.model import Stage
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.system.process import Command, Completed, run
from nox_buildstages.value import replace
from support.namespaces import OFFLINE, can_forbid, forbidding, needs_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OFF = Sandbox()
ON = Sandbox(why="network = true")
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
    # From the standard input, as that user may not be able to read our files.
    completed = subprocess.run(
        [str(PYTHON), "-I", "-S", "-", str(PYTHON), "-c", code],
        input=OFFLINE.read_text("utf-8"),
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


@needs_namespaces
def test_without_a_program_it_is_only_tried() -> None:
    """Nothing runs, and the status tells."""
    assert run(Command(argv=TRY)) == Completed(returncode=0, stdout="", stderr="")
    assert run(Command(argv=(*TRY, "/gone"))).returncode == CANNOT_RUN


@needs_namespaces
@lesser_root
@pytest.mark.parametrize("how", [(), ("--online",)])
@pytest.mark.parametrize("right", RIGHTS)
def test_a_lesser_root_may_try_it(right: str, how: tuple[str, ...]) -> None:
    """It takes another way, to the same end."""
    assert run(without(right, Command(argv=(*TRY, *how)))).returncode == 0


@needs_namespaces
@pytest.mark.parametrize("how", [(), ("--online",)])
def test_moving_is_measured_too(tmp_path: Path, how: tuple[str, ...]) -> None:
    """Tried with what measures coverage, in the folder and beside it."""
    places = (str(tmp_path), str(HERE))
    for cwd in (tmp_path, tmp_path.parent):
        command = Command(argv=(*TRY, *how, "--at", *places), cwd=cwd)
        assert run(command).returncode == 0


@can_forbid
def test_where_it_is_forbidden_the_reason_is_told() -> None:
    """In one line."""
    completed = run(Command(argv=tuple(forbidding(*TRY))))
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
    sandbox = OFF.show(folder, frozen=[link])
    for path in (toolchain, link):
        write = python("open(__import__('sys').argv[1], 'w')", path / "new")
        assert "Read-only file system" in run(sandbox.wrap(write)).stderr
    write = python("open(__import__('sys').argv[1], 'w')", tmp_path / "new")
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
    for command in (sandbox.wrap(look), sandbox.wrap_with_network(look)):
        assert run(without(right, command)).stdout.endswith("\nsource\n")


@needs_namespaces
def test_who_is_beside_it_has_the_network(folder: Path, port: int) -> None:
    """And finds the folder at the same path."""
    sandbox = OFF.show(folder)
    assert run(sandbox.wrap_with_network(python(CONNECT, port))).returncode == 0
    look = replace(python(LOOK, folder), cwd=folder)
    said = run(sandbox.wrap_with_network(look)).stdout
    assert said.startswith(str(HERE))
    assert OFF.wrap_with_network(look) is look


def test_without_mounts_a_folder_is_where_it_is(folder: Path) -> None:
    """Nothing is made for it."""
    sandbox = replace(OFF, may_move=False)
    assert sandbox.show(folder) is sandbox


@needs_namespaces
def test_where_no_folder_can_be_moved_the_network_is_still_off(tmp_path: Path) -> None:
    """The system forbids mounts alone."""

    def forbidding_mounts(command: Command) -> Completed:
        return run(replace(command, argv=(*TRY, "--at", *[str(tmp_path / "gone")] * 2)))

    sandbox_policy = SandboxPolicy(runner=forbidding_mounts, report=lambda _: None)
    sandbox = sandbox_policy.sandbox(FALSE)
    assert (sandbox.is_off, sandbox.may_move) == (True, False)


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


def test_with_network_nothing_is_around_a_program() -> None:
    """It is the very command."""
    command = python("pass")
    assert ON.wrap(command) is command


# What the system allows ----------------------------------------------------------


@dataclass
class Told:
    """An isolator on a system that forbids, or allows, and what it said."""

    forbids: bool = True
    commands: list[Command] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def sandbox_policy(self) -> SandboxPolicy:
        """Return it."""
        return SandboxPolicy(runner=self.run, report=self.reports.append)

    def run(self, command: Command) -> Completed:
        """Run a command there."""
        self.commands.append(command)
        if self.forbids:
            command = replace(command, argv=tuple(forbidding(*command.argv)))
        return run(command)


FALSE = Stage(name="a", outputs=())
TRUE = replace(FALSE, network="on")
REQUIRED = replace(FALSE, network="require-off")
LIMIT = "this system allows no network namespace (a limit in /proc/sys/user)"


@needs_namespaces
def test_where_it_can_be_the_network_is_off() -> None:
    """It is found out once, however many stages ask, and nothing is said of it."""
    told = Told(forbids=False)
    sandbox_policy = told.sandbox_policy()
    assert {sandbox_policy.sandbox(stage) for stage in (FALSE, REQUIRED, FALSE)} == {
        OFF
    }
    assert len(told.commands) == 1
    assert told.reports == []
    assert str(OFF) == "off"


@can_forbid
def test_where_it_cannot_be_that_is_said_once() -> None:
    """With the reason; each build's log has it too."""
    told = Told()
    sandbox_policy = told.sandbox_policy()
    isolations = [sandbox_policy.sandbox(FALSE) for _ in range(2)]
    assert [str(sandbox) for sandbox in isolations] == [f"on ({LIMIT})"] * 2
    assert not isolations[0].is_off
    assert told.reports == [f"build backends have network access: {LIMIT}"]


@can_forbid
def test_where_it_must_be_and_cannot_that_is_an_error() -> None:
    """And nothing else is said."""
    told = Told()
    with pytest.raises(BuildStagesError) as caught:
        told.sandbox_policy().sandbox(REQUIRED)
    assert caught.value.subject == "stage a"
    assert caught.value.details == [LIMIT]
    assert told.reports == []


@can_forbid
def test_where_it_became_impossible_nothing_runs() -> None:
    """The program isn't run with the network instead."""
    command = Told().run(OFF.wrap(python("print('here')")))
    assert command.returncode == CANNOT_CUT
    assert command.stdout == ""


def test_a_stage_that_wants_the_network_has_it() -> None:
    """Whatever the system allows, nothing is said of it."""
    for forbids in (True, False):
        told = Told(forbids=forbids)
        sandbox = told.sandbox_policy().sandbox(TRUE)
        assert str(sandbox) == "on (network = true)"
        assert told.reports == []
        if not forbids:
            assert sandbox.may_move == told.sandbox_policy().sandbox(FALSE).may_move


def test_an_interpreter_that_is_gone_cannot_do_that(tmp_path: Path) -> None:
    """As when nox's own environment was removed meanwhile."""

    def gone(command: Command) -> Completed:
        return run(replace(command, argv=(str(tmp_path / "gone"),)))

    sandbox_policy = SandboxPolicy(runner=gone, report=lambda _: None)
    assert sandbox_policy.sandbox(FALSE).why.startswith("No such file or directory")
