"""Running real programs: what they get, what comes back, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.errors import CommandError
from nox_buildstages.system import process as commands
from nox_buildstages.system.process import Command, Completed, run, run_checked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEADLINE = 20.0


def python(code: str, *, env: Mapping[str, str] | None = None) -> Command:
    return Command(argv=(sys.executable, "-I", "-c", code), env=env)


def with_log(code: str, log: Path) -> Command:
    return Command(argv=(sys.executable, "-I", "-c", code), log=log)


BOTH = "import sys; print('out'); print('err', file=sys.stderr)"


def test_output_is_captured_apart() -> None:
    """What a program prints comes back, each stream for itself."""
    assert run(python(BOTH)) == Completed(returncode=0, stdout="out\n", stderr="err\n")


def test_output_goes_to_the_end_of_a_log(tmp_path: Path) -> None:
    """Both streams in the order written; what was there stays; nothing comes back."""
    log = tmp_path / "log"
    log.write_text("before\n")
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    command = with_log(code, log)
    assert run(command) == Completed(returncode=0, stdout="", stderr="")
    assert run(command).returncode == 0
    assert log.read_text() == "before\nout\nerr\nout\nerr\n"


def test_output_need_not_be_utf_8() -> None:
    """A byte that isn't text is replaced, and hides nothing else."""
    code = r"import sys; sys.stdout.buffer.write(b'a\xffb')"
    assert run(python(code)).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_program_runs_where_it_is_told(tmp_path: Path) -> None:
    """The working folder is the command's."""
    command = Command(
        argv=(sys.executable, "-c", "import os; print(os.getcwd())"), cwd=tmp_path
    )
    assert run(command).stdout.strip() == str(tmp_path)


def test_a_program_sees_the_environment_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it, and nothing of ours; ours where none is given."""
    monkeypatch.setenv("OUTER", "1")
    code = "import os; print(os.environ.get('OUTER'), os.environ.get('INNER'))"
    assert run(python(code, env={"INNER": "2"})).stdout == "None 2\n"
    assert run(python(code)).stdout == "1 None\n"


def test_a_program_has_no_input() -> None:
    """What asks a question gets the end of the file instead of hanging."""
    assert run(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_how_a_program_ends_comes_back() -> None:
    """Neither a status nor a signal is an error by itself."""
    assert run(python("raise SystemExit(7)")).returncode == 7
    killed = run(python("import os; os.kill(os.getpid(), 9)"))
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.parametrize("log", [False, True])
def test_a_program_that_is_not_there_is_an_error(tmp_path: Path, log: bool) -> None:  # noqa: FBT001
    """The error has the command as one would type it, and why it didn't start."""
    command = Command(
        argv=("no-such-program", "an argument"), log=tmp_path / "log" if log else None
    )
    with pytest.raises(CommandError) as caught:
        run(command)
    assert caught.value.command == 'no-such-program "an argument"'
    assert caught.value.reason == "No such file or directory: no-such-program"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It is the folder that the error names, not the program."""
    gone = tmp_path / "gone"
    with pytest.raises(CommandError, match=r"No such file or directory: .*gone\)"):
        run(Command(argv=(sys.executable,), cwd=gone))


def test_a_checked_command_returns_what_it_printed() -> None:
    """Its standard output, as it is."""
    assert run_checked(run, python(BOTH)) == "out\n"


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("import sys; print('out'); sys.exit('err')", "err\n"),
        ("import sys; print('out'); sys.exit(1)", "out\n"),
    ],
)
def test_a_checked_command_must_succeed(code: str, output: str) -> None:
    """The error has what it said on stderr, or else on stdout."""
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


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("code", "ended"), [(POLITE, True), (STUBBORN, False)], ids=["polite", "stubborn"]
)
def test_an_interrupt_ends_the_program(tmp_path: Path, code: str, ended: bool) -> None:  # noqa: FBT001
    """It is asked to end, and killed where it doesn't; then the interrupt goes on."""
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
def test_an_interrupt_comes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Whoever called us learns of it, when nothing of the program is left."""
    monkeypatch.setattr(commands, "GRACE", 0.3)
    thread = threading.Thread(target=interrupt_when_there, args=(tmp_path / "pid",))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(Command(argv=(sys.executable, "-c", code), cwd=tmp_path))
    thread.join()
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_program_is_attended_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again until it ends, and what it says then is all there."""
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


def test_what_attending_raises_ends_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is asked to end, and the error comes through once it has."""
    monkeypatch.setattr(commands, "BEAT", 0.05)

    def give_up() -> None:
        if (tmp_path / "pid").exists():
            raise TimeoutError

    argv = (sys.executable, "-c", POLITE)
    with pytest.raises(TimeoutError):
        run(Command(argv=argv, cwd=tmp_path, attend=give_up))
    assert (tmp_path / "ended").exists()
    assert not is_alive(int((tmp_path / "pid").read_text()))
