"""Run a program, end the program with the caller, and note checkpoints meanwhile.

``python -I -S supervise.py LOCK CHECKPOINT SECONDS PROGRAM ARGUMENT…``

Standard input is the read end of a pipe. When the last writer of the pipe is gone, for
any reason, or on SIGTERM, the supervisor asks the program and all processes below to
end, and kills them after ``GRACE`` seconds. Processes left running by the program are
ended, too. Until then the file ``LOCK`` is locked as filelock does.

Every ``SECONDS``, and before ending the program, the supervisor writes a checkpoint to
the file ``CHECKPOINT``: the time by the clock of the file system in nanoseconds, and
the files open for writing, separated by NUL. A file is complete if the last change is
older and the file wasn't open. ``-`` in place of a path means no file.

This script for Linux imports little, because each hook starts the script. The exit
status, or signal, is the program's.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found] # without slow enumerations
import fcntl
import os
import select
import stat
import sys
import time

CANNOT_RUN = 127
"""The exit status if the program can't be started."""

ROOM = 16_000_000
"""Bytes; if the disk has less room, files that were written may be truncated."""

GRACE = 2.0
"""Seconds between asking a program to end and killing it."""

_PAUSE = 0.02


def main(argv: list[str]) -> None:
    """Run a program to the end, and end in the same way."""
    lock, checkpoint, seconds, *program = argv
    # In a session of our own, Ctrl-C in a terminal and the end of our caller's group
    # don't reach the program, and every process below the program is known by it.
    os.setsid()
    requests: list[int] = []
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: requests.append(number))
    if lock != "-":
        hold_lock(lock)
    if must_end(requests):
        return
    try:
        child = os.posix_spawn(
            program[0],
            program,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setpgroup=0,
            setsigdef=[signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE],
        )
    except OSError as error:
        print(f"{error.strerror}: {program[0]}", file=sys.stderr)  # noqa: T201
        sys.exit(CANNOT_RUN)
    due = time.monotonic() + float(seconds)
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and not must_end(requests):
        left = max(0.0, due - time.monotonic())
        if wake in select.select([0, wake], [], [], left)[0]:
            os.read(wake, 1024)
        if time.monotonic() >= due:
            note_checkpoint(checkpoint)
            due = time.monotonic() + float(seconds)
        ended, status = os.waitpid(child, os.WNOHANG)
    if status or not ended:
        note_checkpoint(checkpoint)
    end_processes(child)
    end_as(status if ended else os.waitpid(child, 0)[1])


def hold_lock(path: str) -> None:
    """Lock a file until this process ends, even if the file is removed meanwhile."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return
        os.close(lock)


def must_end(requests: list[int]) -> bool:
    """Whether a signal asks us to end, or the caller is gone."""
    return bool(requests or select.select([0], [], [], 0)[0])


def note_checkpoint(path: str) -> None:
    """Write the time and the files open for writing, unless the disk is full."""
    if path == "-":
        return
    new = f"{path}.new"
    try:
        disk = os.statvfs(os.path.dirname(path))  # noqa: PTH120 - quick to start
        if disk.f_bavail * disk.f_frsize < ROOM:
            return
        with open(new, "w", encoding="utf-8") as file:  # noqa: PTH123 - quick to start
            file.write("now")
            file.flush()
            now = os.fstat(file.fileno()).st_mtime_ns
            file.seek(0)
            file.write("\0".join((str(now), *sorted(open_files()))))
            file.truncate()
        os.replace(new, path)  # noqa: PTH105 - quick to start
    except OSError:  # the earlier checkpoint stays valid
        return


def open_files() -> set[str]:
    """Return the files open for writing in processes of our session."""
    folders = (f"/proc/{process}/fd" for process in processes())
    handles = (f"{it}/{name}" for it in folders for name in list_folder(it))
    return set(map(file_behind, handles)) - {""}


def list_folder(folder: str) -> list[str]:
    """Return the names in a folder of a process; none if the process is gone."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - quick to start
    except OSError:
        return []


def file_behind(handle: str) -> str:
    """Return the file written through a handle, or an empty string."""
    try:
        if os.lstat(handle).st_mode & stat.S_IWUSR:
            return os.readlink(handle)  # noqa: PTH115 - quick to start
    except OSError:
        pass
    return ""


def end_processes(child: int) -> None:
    """End the processes of our session, the program first."""
    deadline = time.monotonic() + GRACE
    asked: set[int] = set()
    while members := processes():
        is_over = time.monotonic() > deadline
        number = signal.SIGKILL if is_over else signal.SIGTERM
        due = members if is_over else members - asked
        for process in sorted(due, key=child.__ne__):
            try:
                os.kill(process, number)
                os.kill(process, signal.SIGCONT)  # a stopped process can't end
            except ProcessLookupError:  # noqa: PERF203 - contextlib imports slowly
                continue
        asked |= members
        time.sleep(_PAUSE)


def processes() -> set[int]:
    """Return the running processes of our session, without ourselves."""
    found, ours = set(), os.getpid()
    for name in list_folder("/proc"):
        if not name.isdecimal() or int(name) == ours:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - quick to start
                state, _, _, session = file.read().rpartition(b")")[2].split()[:4]
        except OSError:  # the process is gone
            continue
        if int(session) == ours and state not in (b"Z", b"X"):
            found.add(int(name))
    return found


def end_as(status: int) -> None:
    """End with the exit status, or by the signal, of another process."""
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main(sys.argv[1:])
