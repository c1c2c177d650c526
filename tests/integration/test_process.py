"""Real programs run, return output, and end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import pytest

from nox_buildstages.errors import CommandError
from nox_buildstages.indexes.mask import Mask
from nox_buildstages.system import process as commands
from nox_buildstages.system.locks import hold_lock
from nox_buildstages.system.process import (
    Command,
    Completed,
    check_interrupt,
    run,
    run_checked,
    run_in_parallel,
)
from nox_buildstages.value import replace
from support.project import is_alive

DEADLINE = 20.0


def python(code: str, **env: str) -> Command:
    return Command(argv=(sys.executable, "-I", "-c", code), env=env)


def with_log(code: str, log: Path) -> Command:
    return Command(argv=(sys.executable, "-I", "-c", code), log=log)


BOTH = "import sys; print('out'); print('err', file=sys.stderr)"


def test_output_is_captured() -> None:
    """Stdout and stderr are separate."""
    assert run(python(BOTH)) == Completed(returncode=0, stdout="out\n", stderr="err\n")


def test_output_goes_to_the_end_of_a_log(tmp_path: Path) -> None:
    """Both streams are appended in the order written; none is returned."""
    log = tmp_path / "log"
    log.write_text("before\n")
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    command = with_log(code, log)
    assert run(command) == Completed(returncode=0, stdout="", stderr="")
    assert run(command).returncode == 0
    assert log.read_text() == "before\nout\nerr\nout\nerr\n"


def test_output_need_not_be_utf_8() -> None:
    """Invalid bytes are replaced; all other output stays."""
    code = r"import sys; sys.stdout.buffer.write(b'a\xffb')"
    assert run(python(code)).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_program_runs_in_a_folder(tmp_path: Path) -> None:
    """The working folder of the command."""
    command = Command(
        argv=(sys.executable, "-c", "import os; print(os.getcwd())"), cwd=tmp_path
    )
    assert run(command).stdout.strip() == str(tmp_path)


def test_a_program_gets_environment_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exactly the given variables; none of ours, which may be secrets."""
    monkeypatch.setenv("OUTER", "1")
    code = "import os; print(os.environ.get('OUTER'), os.environ.get('INNER'))"
    assert run(python(code, INNER="2")).stdout == "None 2\n"
    assert run(python(code)).stdout == "None None\n"


def test_a_program_has_no_input() -> None:
    """A program that asks a question gets an end of file instead of hanging."""
    assert run(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_the_exit_status_is_returned() -> None:
    """Neither an exit status nor a signal is an error by itself."""
    assert run(python("raise SystemExit(7)")).returncode == 7
    killed = run(python("import os; os.kill(os.getpid(), 9)"))
    assert killed.returncode == -signal.SIGKILL


MASK = Mask.of({"TOKEN": "hunter2-long"})


def test_a_value_that_a_program_prints_is_not_in_its_log(tmp_path: Path) -> None:
    """Neither in pieces, nor on both streams, nor without an end of the line."""
    code = """
        import os, time
        for part in (b"hunter2", b"-long\\n", b"x" * 200_000, b"hunter2-long"):
            os.write(1, part)
            time.sleep(0.02)
        os.write(2, b"hunter2-long")
    """
    log = tmp_path / "log"
    command = replace(with_log(dedent(code), log), mask=MASK)
    assert run(command).returncode == 0
    assert log.read_text() == "$TOKEN\n" + "x" * 200_000 + "$TOKEN$TOKEN"


def test_a_process_that_stays_does_not_hold_a_masked_log(tmp_path: Path) -> None:
    """What its program printed is in the log when that ends."""
    code = """
        import subprocess, sys
        print("hunter2-long", flush=True)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    """
    log = tmp_path / "log"
    command = replace(with_log(dedent(code), log), mask=MASK)
    begun = time.monotonic()
    assert run(command).returncode == 0
    assert time.monotonic() - begun < DEADLINE
    assert log.read_text() == "$TOKEN\n"


def test_a_masked_log_on_a_full_disk_is_an_error() -> None:
    """The program ends all the same, although nobody takes what it prints."""
    command = replace(with_log("print('x' * 200_000)", Path("/dev/full")), mask=MASK)
    with pytest.raises(OSError, match="No space left"):
        run(command)


@pytest.mark.parametrize("log", [False, True])
def test_a_missing_program_is_an_error(tmp_path: Path, log: bool) -> None:  # noqa: FBT001
    """The error has the command line and the reason."""
    command = Command(
        argv=("no-such-program", "an argument"), log=tmp_path / "log" if log else None
    )
    with pytest.raises(CommandError) as caught:
        run(command)
    assert caught.value.command == 'no-such-program "an argument"'
    assert caught.value.reason == "No such file or directory: no-such-program"


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """The error names the folder, not the program."""
    gone = tmp_path / "gone"
    with pytest.raises(CommandError, match=r"No such file or directory: .*gone\)"):
        run(Command(argv=(sys.executable,), cwd=gone))


def test_a_checked_command_returns_its_output() -> None:
    """The standard output is unchanged."""
    assert run_checked(run, python(BOTH)) == "out\n"


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("import sys; print('out'); sys.exit('err')", "err\n"),
        ("import sys; print('out'); sys.exit(1)", "out\n"),
    ],
)
def test_a_checked_command_must_succeed(code: str, output: str) -> None:
    """The error has the error output, else the standard output."""
    with pytest.raises(CommandError) as caught:
        run_checked(run, python(code))
    assert caught.value.reason == "exit status 1"
    assert caught.value.output == output
    assert caught.value.command.startswith(sys.executable)


PARENT = """
import sys
from nox_buildstages.system import process

process.GRACE = 0.5
try:
    process.run(process.Command(argv=(sys.executable, "-c", sys.argv[1])))
except KeyboardInterrupt:
    print("interrupted")
"""
POLITE = """
import os, signal, sys, time
def end(*_):
    open(sys.argv[1] if sys.argv[1:] else "ended", "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, end)
open("child", "w").write(str(os.getpid())); os.rename("child", "pid")
time.sleep(60)
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("child", "w").write(str(os.getpid())); os.rename("child", "pid")
time.sleep(60)
"""


def wait_for(path: Path) -> None:
    until = time.monotonic() + DEADLINE
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "ended"), [(POLITE, True), (STUBBORN, False)], ids=["polite", "stubborn"]
)
def test_an_interrupt_ends_the_program(tmp_path: Path, code: str, ended: bool) -> None:  # noqa: FBT001
    """The program is asked to end, then killed; the interrupt continues."""
    command = [sys.executable, "-c", PARENT, code]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as parent:
        wait_for(tmp_path / "pid")
        child = int((tmp_path / "pid").read_text())
        parent.send_signal(signal.SIGINT)
        output = parent.communicate(timeout=DEADLINE)[0]
    assert output == "interrupted\n"
    assert not is_alive(child)
    assert (tmp_path / "ended").exists() == ended


def interrupt_when_there(path: Path) -> None:
    wait_for(path)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("code", [POLITE, STUBBORN], ids=["polite", "stubborn"])
def test_an_interrupt_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """The caller gets the interrupt after the program has ended."""
    monkeypatch.setattr(commands, "GRACE", 0.3)
    thread = threading.Thread(target=interrupt_when_there, args=(tmp_path / "pid",))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(Command(argv=(sys.executable, "-c", code), cwd=tmp_path))
    thread.join()
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_an_interrupt_ends_the_programs_of_all_threads(tmp_path: Path) -> None:
    """Only the main thread gets the signal; those below it learn of it, nested too."""
    argv = (sys.executable, "-c", POLITE)

    def run_in_thread() -> None:
        run(Command(argv=(*argv, str(tmp_path / "ended")), cwd=tmp_path))

    def wait_in_thread() -> None:
        with hold_lock(tmp_path / "lock"):
            pytest.fail("nobody has released the lock")

    thread = threading.Thread(target=interrupt_when_there, args=(tmp_path / "pid",))
    thread.start()
    with hold_lock(tmp_path / "lock"), pytest.raises(KeyboardInterrupt):
        run_in_parallel([wait_in_thread, lambda: run_in_parallel([run_in_thread])])
    thread.join()
    assert (tmp_path / "ended").exists()
    check_interrupt()


def test_a_program_is_attended_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the program ends; all output is complete."""
    monkeypatch.setattr(commands, "BEAT", 0.05)
    looks: list[float] = []
    code = "import time; print('begun', flush=True); time.sleep(0.5); print('done')"
    command = Command(
        argv=(sys.executable, "-I", "-c", code),
        attend=lambda: looks.append(time.monotonic()),
    )
    assert run(command).stdout == "begun\ndone\n"
    assert len(looks) > 2
    assert looks[-1] - looks[0] >= 0.05


def test_an_error_of_attend_ends_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised after the program has ended."""
    monkeypatch.setattr(commands, "BEAT", 0.05)

    def give_up() -> None:
        if (tmp_path / "pid").exists():
            raise TimeoutError

    argv = (sys.executable, "-c", POLITE)
    with pytest.raises(TimeoutError):
        run(Command(argv=argv, cwd=tmp_path, attend=give_up))
    assert (tmp_path / "ended").exists()
    assert not is_alive(int((tmp_path / "pid").read_text()))
