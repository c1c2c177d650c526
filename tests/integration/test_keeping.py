"""A kept program, and all that it starts, ends with who asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock, Timeout

from nox_buildstages.builder.scripts import supervise as supervisor
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.store.build_dir import ROOM
from nox_buildstages.system import process as commands
from nox_buildstages.system.process import Command, Completed, run

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEPER = Supervisor()
PATIENCE = 20.0
"""Seconds for something to happen."""

CALLER = """
import sys
from pathlib import Path
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.system.process import Command, run

lock, *argv = sys.argv[1:]
run(Supervisor(lock=Path(lock)).around(Command(argv=tuple(argv))))
"""
"""Whoever asks for a kept program; run as a process, so that it can be killed."""

BUILD = """
import os, subprocess, sys
compiler = 'import os, sys, time; open(sys.argv[1], "w").write(str(os.getpid())); '
compiler += 'os.rename(sys.argv[1], sys.argv[2]); time.sleep(600)'
start = lambda name: subprocess.Popen(
    [sys.executable, "-c", compiler, name + ".new", name], process_group=0
)
start("ours")
# One that its parent leaves behind, in another process group, as ninja's are.
if not os.fork():
    start("orphan")
    os._exit(0)
subprocess.run([sys.executable, "-c", compiler, "last.new", "last"])
"""
"""A program that starts others, and waits."""

needs_groups = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="process_group= came with Python 3.11"
)


def until(what: str, condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what} took too long"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def is_locked(lock: Path) -> bool:
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True


def python(code: str) -> Command:
    return Command(argv=(sys.executable, "-I", "-c", code))


@contextmanager
def building(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Let a caller run BUILD, and yield it with the processes that run for it."""
    lock = str(folder / "lock")
    argv = [sys.executable, "-c", CALLER, lock, sys.executable, "-c", BUILD]
    with subprocess.Popen(argv, cwd=folder, start_new_session=True) as caller:
        names = ("ours", "orphan", "last")
        for name in names:
            until(name, (folder / name).exists)
        yield caller, [int((folder / name).read_text()) for name in names]
        caller.kill()


def test_a_keeper_and_a_workplace_agree_on_a_full_disk() -> None:
    """The one is a script that imports nothing of ours."""
    assert supervisor.ROOM == ROOM


@pytest.mark.parametrize(
    ("code", "returncode"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
    ],
)
def test_a_kept_program_ends_as_it_would_alone(code: str, returncode: int) -> None:
    """Its status, or the signal that killed it, is what comes back."""
    assert run(KEEPER.around(python(code))).returncode == returncode


def test_a_kept_program_sees_nothing_of_its_keeper() -> None:
    """Its output comes through, and it has no input."""
    code = "import sys; print(repr(sys.stdin.read())); print('err', file=sys.stderr)"
    expected = Completed(returncode=0, stdout="''\n", stderr="err\n")
    assert run(KEEPER.around(python(code))) == expected


def test_a_program_that_is_not_there_is_told() -> None:
    """By the status that a shell gives it."""
    completed = run(KEEPER.around(Command(argv=("/no/such/program",))))
    assert completed.returncode == supervisor.CANNOT_RUN
    assert completed.stderr == "No such file or directory: /no/such/program\n"


@needs_groups
@pytest.mark.parametrize("whom", ["process", "group"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_all_ends_when_the_caller_is_ended(
    tmp_path: Path, number: int, whom: str
) -> None:
    """However it is ended: neither children nor orphans in other groups go on."""
    with building(tmp_path) as (caller, pids):
        assert is_locked(tmp_path / "lock")
        (os.killpg if whom == "group" else os.kill)(caller.pid, number)
        caller.wait(PATIENCE)
        until("the lock", lambda: not is_locked(tmp_path / "lock"))
        assert not any(map(is_alive, pids))


@needs_groups
def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """A build that has ended starts no compilers any more."""
    code = BUILD.replace("subprocess.run", "subprocess.Popen")
    code += "\nwhile not os.path.exists('last'): pass"
    command = Command(argv=(sys.executable, "-c", code), cwd=tmp_path)
    assert run(KEEPER.around(command)).returncode == 0
    for name in ("ours", "last"):
        assert not is_alive(int((tmp_path / name).read_text()))


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("child", "w").write(str(os.getpid())); os.rename("child", "pid")
time.sleep(600)
"""
STOPPED = STUBBORN.replace("signal.SIG_IGN", "lambda *_: exit(3)").replace(
    "time.sleep(600)", "os.kill(os.getpid(), signal.SIGSTOP)"
)


@pytest.mark.parametrize("code", [STUBBORN, STOPPED], ids=["stubborn", "stopped"])
def test_who_does_not_end_is_killed(tmp_path: Path, code: str) -> None:
    """One that ignores being asked, and one that can't hear it until it goes on."""

    def give_up() -> None:
        if (tmp_path / "pid").exists():
            raise TimeoutError

    argv = (sys.executable, "-c", code)
    command = Command(argv=argv, cwd=tmp_path, attend=give_up)
    with pytest.raises(TimeoutError):
        run(KEEPER.around(command))
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_program_waits_until_an_earlier_one_has_ended(tmp_path: Path) -> None:
    """The lock is its keeper's, not its caller's, and holds until all is over."""
    lock = tmp_path / "lock"
    asked: list[float] = []

    def let_go() -> None:
        asked.append(time.monotonic())
        if len(asked) == 2:
            held.release()

    held = FileLock(lock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "BEAT", 0.1)
        held.acquire()
        code = "import time; print(time.monotonic())"
        command = Command(argv=(sys.executable, "-I", "-c", code), attend=let_go)
        begun = float(run(Supervisor(lock=lock).around(command)).stdout)
    assert begun >= asked[1]
    assert not is_locked(lock)


def test_a_program_does_not_begin_for_a_caller_that_is_gone(tmp_path: Path) -> None:
    """Where its caller ended while it waited, nothing is run."""
    lock = tmp_path / "lock"
    with FileLock(lock):
        argv = ["touch", str(tmp_path / "ran")]
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(lock), f"/usr/bin/{argv[0]}", argv[1]]
        )
        until("its keeper", lambda: keepers(lock))
        caller.kill()
        caller.wait()
    until("its keeper's end", lambda: not keepers(lock))
    assert not (tmp_path / "ran").exists()


def keepers(lock: Path) -> list[str]:
    """Return the processes that were started as keepers of a lock."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if supervisor.__file__.encode() in argv and str(lock).encode() in argv:
            found.append(folder.name)
    return found


SCRIPT = (
    "import sys; from nox_buildstages.builder.scripts import supervise as keeper;"
    " keeper.main(sys.argv[1:])"
)


@needs_groups
@pytest.mark.parametrize("returncode", [0, -signal.SIGTERM], ids=["ends", "is-ended"])
def test_the_pipe_is_what_a_program_lives_by(tmp_path: Path, returncode: int) -> None:
    """As long as its other end is open; nobody else need be asked."""
    code = "pass" if returncode == 0 else BUILD
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path / "lock")]
    argv += [str(tmp_path / "stop")]
    argv += [sys.executable, "-c", code]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin
        if returncode:
            until("the last", (tmp_path / "last").exists)
            process.stdin.close()
        assert process.wait(PATIENCE) == returncode
    assert (tmp_path / "stop").exists() == bool(returncode)


WRITER = """
import os, time
written, read = open("written", "w"), open("read")
open("begun", "w").close()
time.sleep(600)
"""


def test_a_stop_notes_when_it_was_and_what_was_being_written(tmp_path: Path) -> None:
    """By the clock of the file system; files that are only read don't count."""
    (tmp_path / "read").write_text("")

    def give_up() -> None:
        if (tmp_path / "begun").exists():
            raise TimeoutError

    argv = (sys.executable, "-c", WRITER)
    command = Command(argv=argv, cwd=tmp_path, attend=give_up)
    with pytest.raises(TimeoutError):
        run(Supervisor(stop=tmp_path / "stop").around(command))
    moment, *written = (tmp_path / "stop").read_text().split("\0")
    assert int(moment) >= (tmp_path / "begun").stat().st_mtime_ns
    assert str(tmp_path / "written") in written
    assert str(tmp_path / "read") not in written


def test_a_stop_is_not_noted_where_it_can_not_be(tmp_path: Path) -> None:
    """The program is ended all the same."""

    def give_up() -> None:
        raise TimeoutError

    command = Command(argv=("/bin/sleep", "600"), attend=give_up)
    with pytest.raises(TimeoutError):
        run(Supervisor(stop=tmp_path / "gone/stop").around(command))
