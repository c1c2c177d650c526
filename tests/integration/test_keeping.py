"""A supervised program, and all that it starts, ends with its caller."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock, Timeout

from nox_buildstages.builder import supervisor
from nox_buildstages.builder.sandbox.sandbox import Sandbox
from nox_buildstages.builder.scripts import supervise
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.system import process as commands
from nox_buildstages.system.orphans import end_orphans, find_orphans
from nox_buildstages.system.process import Command, Completed, run
from nox_buildstages.value import replace
from support.namespaces import needs_namespaces
from support.project import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPERVISOR = Supervisor()
PATIENCE = 20.0
"""Seconds for something to happen."""

CALLER = """
import sys
from pathlib import Path
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.system.orphans import end_orphans, find_orphans
from nox_buildstages.system.process import Command, run

lock, *argv = sys.argv[1:]
run(Supervisor(lock=Path(lock)).around(Command(argv=tuple(argv))))
"""
"""The caller of a supervised program, as a process that can be killed."""

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


@pytest.mark.parametrize(
    ("code", "returncode"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
    ],
)
def test_a_supervised_program_ends_as_if_alone(code: str, returncode: int) -> None:
    """With the same exit status, or killed by the same signal."""
    assert run(SUPERVISOR.around(python(code))).returncode == returncode


def test_a_supervised_program_has_its_own_output_and_no_input() -> None:
    """The supervisor writes nothing and reads nothing of the program's."""
    code = "import sys; print(repr(sys.stdin.read())); print('err', file=sys.stderr)"
    expected = Completed(returncode=0, stdout="''\n", stderr="err\n")
    assert run(SUPERVISOR.around(python(code))) == expected


def test_a_missing_program_is_reported() -> None:
    """With the exit status that shells use."""
    completed = run(SUPERVISOR.around(Command(argv=("/no/such/program",))))
    assert completed.returncode == supervise.CANNOT_RUN
    assert completed.stderr == "No such file or directory: /no/such/program\n"


@needs_groups
@pytest.mark.parametrize(
    ("number", "whom"),
    [
        (signal.SIGKILL, "process"),
        (signal.SIGINT, "group"),
        pytest.param(signal.SIGKILL, "group", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "process", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "process", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "group", marks=pytest.mark.slow),
    ],
)
def test_all_ends_when_the_caller_is_ended(
    tmp_path: Path, number: int, whom: str
) -> None:
    """For whatever reason; children and orphans in other groups end, too."""
    with building(tmp_path) as (caller, pids):
        assert is_locked(tmp_path / "lock")
        (os.killpg if whom == "group" else os.kill)(caller.pid, number)
        caller.wait(PATIENCE)
        until("the lock", lambda: not is_locked(tmp_path / "lock"))
        assert not any(map(is_alive, pids))


@needs_groups
def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """No compiler runs on after its build."""
    code = BUILD.replace("subprocess.run", "subprocess.Popen")
    code += "\nwhile not (os.path.exists('ours') and os.path.exists('last')): pass"
    command = Command(argv=(sys.executable, "-c", code), cwd=tmp_path)
    assert run(SUPERVISOR.around(command)).returncode == 0
    for name in ("ours", "last"):
        assert not is_alive(int((tmp_path / name).read_text()))


DAEMON = """
import os, time
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    open("daemon.new", "w").write(str(os.getpid())); os.rename("daemon.new", "daemon")
    time.sleep(600)
while not os.path.exists("daemon"):
    time.sleep(0.01)
"""
"""A program that leaves a daemon with a session of its own, forked twice."""


def test_a_daemon_ends_with_its_program(tmp_path: Path) -> None:
    """The supervisor adopts it when its parent ends."""
    argv = (sys.executable, "-I", "-S", "-c", DAEMON)
    assert run(SUPERVISOR.around(Command(argv=argv, cwd=tmp_path))).returncode == 0
    assert not is_alive(int((tmp_path / "daemon").read_text()))


def test_what_a_killed_supervisor_leaves_is_found_and_killed(tmp_path: Path) -> None:
    """By a variable of the build; processes with a supervisor stay."""
    argv = (sys.executable, "-I", "-S", "-c", f"{DAEMON}\ntime.sleep(600)")
    kept = replace(SUPERVISOR.around(Command(argv=argv, cwd=tmp_path)), lifeline=False)
    with subprocess.Popen(
        kept.argv, cwd=tmp_path, env=kept.env, stdin=subprocess.PIPE
    ) as supervisor:
        until("the daemon", (tmp_path / "daemon").exists)
        assert find_orphans(SUPERVISOR.build) == []
        end_orphans(SUPERVISOR.build)
        supervisor.kill()
    assert len(find_orphans(SUPERVISOR.build)) == 2
    end_orphans(SUPERVISOR.build)
    assert find_orphans(SUPERVISOR.build) == []
    assert not is_alive(int((tmp_path / "daemon").read_text()))


@needs_namespaces
def test_where_namespaces_are_allowed_daemons_die_with_their_supervisor(
    tmp_path: Path,
) -> None:
    """At once, and though nothing in their environment names the build."""
    argv = (sys.executable, "-I", "-S", "-c", f"{DAEMON}\ntime.sleep(600)")
    command = Command(argv=argv, cwd=tmp_path, env={})
    sandboxed = Sandbox(network="on", moved=((tmp_path, HERE),)).wrap(
        command, is_together=True
    )
    kept = SUPERVISOR.around(sandboxed)
    with subprocess.Popen(kept.argv, cwd=tmp_path, stdin=subprocess.PIPE) as supervisor:
        until("the daemon", (tmp_path / "daemon").exists)
        number = (tmp_path / "daemon").read_text()
        within = [it for it in inside() if it[1] == number]
        supervisor.kill()
    if not within:
        pytest.skip("this system allows no namespace of processes")
    until("the end", lambda: not is_alive(within[0][0]))


def inside() -> list[tuple[int, str]]:
    """Return the processes in namespaces, each with the number that it has there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text("utf-8", "replace")
        except OSError:
            continue
        numbers = next(it for it in status.splitlines() if it.startswith("NSpid:"))
        if len(numbers.split()) > 2:
            found.append((int(folder.name), numbers.split()[-1]))
    return found


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
def test_a_program_that_does_not_end_is_killed(tmp_path: Path, code: str) -> None:
    """One that ignores SIGTERM, and one that is stopped."""

    def give_up() -> None:
        if (tmp_path / "pid").exists():
            raise TimeoutError

    argv = (sys.executable, "-c", code)
    command = Command(argv=argv, cwd=tmp_path, attend=give_up)
    with pytest.raises(TimeoutError):
        run(SUPERVISOR.around(command))
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_program_waits_until_an_earlier_one_has_ended(tmp_path: Path) -> None:
    """The supervisor holds the lock, not the caller, until all processes have ended."""
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
    """A caller that ended while the supervisor waited for the lock."""
    lock = tmp_path / "lock"
    with FileLock(lock):
        argv = ["touch", str(tmp_path / "ran")]
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(lock), f"/usr/bin/{argv[0]}", argv[1]]
        )
        until("the supervisor", lambda: supervisors_of(lock))
        caller.kill()
        caller.wait()
    until("the supervisor's end", lambda: not supervisors_of(lock))
    assert not (tmp_path / "ran").exists()


def supervisors_of(lock: Path) -> list[str]:
    """Return the supervisors that were started with a lock."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if supervise.__file__.encode() in argv and str(lock).encode() in argv:
            found.append(folder.name)
    return found


SCRIPT = (
    "import sys; from nox_buildstages.builder.scripts import supervise;"
    " supervise.main(sys.argv[1:])"
)


@needs_groups
@pytest.mark.parametrize("returncode", [0, -signal.SIGTERM], ids=["ends", "is-ended"])
def test_the_pipe_is_what_a_program_lives_by(tmp_path: Path, returncode: int) -> None:
    """The program runs as long as the pipe's other end is open."""
    code = "pass" if returncode == 0 else BUILD
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path / "lock")]
    argv += [str(tmp_path / "checkpoint"), str(tmp_path / "memory"), "-", "10"]
    argv += [sys.executable, "-c", code]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin
        if returncode:
            until("the last", (tmp_path / "last").exists)
            process.stdin.close()
        assert process.wait(PATIENCE) == returncode
    assert (tmp_path / "checkpoint").exists() == bool(returncode)


@pytest.mark.parametrize(
    ("processes", "peaks"),
    [
        ([], (0, 0)),
        ([(2, b"ninja", 1, 1), (3, b"cc1plus", 2, 5), (4, b"cc1plus", 2, 4)], (5, 10)),
        # nvcc and all below count as one compiler.
        (
            [
                *[(2, b"ninja", 1, 1), (3, b"nvcc", 2, 1), (4, b"sh", 3, 1)],
                *[(5, b"cicc", 4, 6), (6, b"nvcc", 3, 1), (7, b"cicc", 6, 7)],
                *[(8, b"cc1plus", 2, 9)],
            ],
            (16, 26),
        ),
        # Numbers that are used again could make a circle.
        ([(2, b"nvcc", 3, 1), (3, b"sh", 2, 1)], (2, 2)),
    ],
)
def test_a_look_at_memory(
    monkeypatch: pytest.MonkeyPatch,
    processes: list[tuple[int, bytes, int, int]],
    peaks: tuple[int, int],
) -> None:
    """The largest compiler, and all processes, in pages."""
    ticking = [(*it, 0) for it in processes]
    monkeypatch.setattr(supervise, "statuses", lambda _: ticking)
    monkeypatch.setattr(supervise, "find_compiler", lambda *_: None)
    watch = supervise.Watch("-", "-")
    watch.look()
    page = os.sysconf("SC_PAGE_SIZE")
    assert (watch.process // page, watch.total // page) == peaks


COMPILERS = """
import subprocess, sys, time
code = "x = b'x' * 40_000_000; print(flush=True); input()"
pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
found = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(3)]
for it in found:
    it.stdout.readline()
time.sleep(0.5)
for it in found:
    it.kill()
    it.wait()
"""
"""Three processes of 40 MB at once."""


def test_memory_is_measured_until_the_end(tmp_path: Path) -> None:
    """Also of processes that were killed; what an earlier attempt needed counts."""
    memory = tmp_path / "memory"
    quick = "supervise.LOOK, supervise.REST = 0.1, 0; supervise.main"
    script = SCRIPT.replace("supervise.main", quick)
    for code in (COMPILERS, "pass"):
        argv = [sys.executable, "-c", script, "-", "-", str(memory), "-", "10"]
        argv += [sys.executable, "-c", code]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as running:
            assert running.wait(PATIENCE) == 0
        process, build, *_ = map(int, memory.read_text().split())
        assert 40_000_000 < process < 80_000_000
        assert 120_000_000 < build < 240_000_000


def test_memory_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """As on a full disk; the program isn't disturbed."""
    command = Supervisor(memory=tmp_path / "gone/memory").around(python(""))
    assert run(command).returncode == 0


WRITER = """
import os, time
written, read = open("written", "w"), open("read")
open("begun", "w").close()
time.sleep(600)
"""


def test_ending_a_program_notes_a_checkpoint(tmp_path: Path) -> None:
    """The file system's time, and the files open for writing; no files being read."""
    (tmp_path / "read").write_text("")

    def give_up() -> None:
        if (tmp_path / "begun").exists():
            raise TimeoutError

    argv = (sys.executable, "-c", WRITER)
    command = Command(argv=argv, cwd=tmp_path, attend=give_up)
    with pytest.raises(TimeoutError):
        run(Supervisor(checkpoint=tmp_path / "checkpoint").around(command))
    moment, *written = (tmp_path / "checkpoint").read_text().split("\0")
    assert int(moment) >= (tmp_path / "begun").stat().st_mtime_ns
    assert str(tmp_path / "written") in written
    assert str(tmp_path / "read") not in written


def test_a_checkpoint_that_cannot_be_written_is_skipped(tmp_path: Path) -> None:
    """The program is ended all the same."""

    def give_up() -> None:
        raise TimeoutError

    command = Command(argv=("/bin/sleep", "600"), attend=give_up)
    with pytest.raises(TimeoutError):
        run(Supervisor(checkpoint=tmp_path / "gone/checkpoint").around(command))


@pytest.mark.parametrize(
    ("mode", "is_written"), [("r", False), ("w", True), ("a", True), ("r+", True)]
)
def test_a_running_program_gets_checkpoints(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    is_written: bool,  # noqa: FBT001
) -> None:
    """Every few seconds, with the files that the program has open for writing."""
    checkpoint, file, last = (
        tmp_path / name for name in ("checkpoint", "file", "last")
    )
    file.write_text("")
    seen: list[list[str]] = []

    def look() -> None:
        if checkpoint.exists():
            seen.append(checkpoint.read_text().split("\0"))
        moments = {moment for moment, *_ in seen}
        if len(moments) > 1 and str(last) in seen[-1]:
            raise TimeoutError

    monkeypatch.setenv(supervisor.SECONDS_VARIABLE, "0.2")
    monkeypatch.setattr(commands, "BEAT", 0.1)
    code = (
        "import sys, time; file = open(*sys.argv[2:]); last = open(sys.argv[1], 'w');"
        " time.sleep(600)"
    )
    argv = (sys.executable, "-I", "-c", code, str(last), str(file), mode)
    with pytest.raises(TimeoutError):
        run(Supervisor(checkpoint=checkpoint).around(Command(argv=argv, attend=look)))
    assert (str(file) in seen[-1]) == is_written


def test_a_program_that_fails_gets_a_last_checkpoint(tmp_path: Path) -> None:
    """After a compiler was killed for memory, the retry resumes from there."""
    command = Supervisor(checkpoint=tmp_path / "one").around(python("exit(1)"))
    assert run(command).returncode == 1
    assert int((tmp_path / "one").read_text())
    command = Supervisor(checkpoint=tmp_path / "two").around(python(""))
    assert run(command).returncode == 0
    assert not (tmp_path / "two").exists()


def test_no_checkpoint_is_noted_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that were closed on a full disk may be truncated."""
    checkpoint = tmp_path / "checkpoint"
    monkeypatch.setattr(supervise, "ROOM", shutil.disk_usage(tmp_path).free * 2)
    supervise.note_checkpoint(str(checkpoint))
    assert not checkpoint.exists()
    monkeypatch.setattr(supervise, "ROOM", 0)
    supervise.note_checkpoint(str(checkpoint))
    assert checkpoint.exists()


@needs_namespaces
def test_a_sandboxed_program_gets_checkpoints(tmp_path: Path) -> None:
    """Its files are named as the program sees them."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def give_up() -> None:
        if (folder / "begun").exists():
            raise TimeoutError

    command = Command(argv=(sys.executable, "-c", WRITER), cwd=folder, attend=give_up)
    (folder / "read").write_text("")
    sandboxed = Sandbox().show(folder).wrap(command)
    with pytest.raises(TimeoutError):
        run(Supervisor(checkpoint=tmp_path / "checkpoint").around(sandboxed))
    _, *written = (tmp_path / "checkpoint").read_text().split("\0")
    assert str(HERE / "written") in written
    assert not any(name.endswith("/read") for name in written)
