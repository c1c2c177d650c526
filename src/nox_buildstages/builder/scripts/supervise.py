"""Run a program that doesn't outlive who asked for it.

``python -I -S keeper.py LOCK STOP PROGRAM ARGUMENT…``, with the reading end of a pipe
as its standard input. When the last writer of that pipe is gone, however it went, or on
SIGTERM, the program and all that it started are asked to end, and killed where they
don't. Nothing that it leaves running outlives it either. Meanwhile the file ``LOCK`` is
locked as filelock does it. In the file ``STOP`` is noted, before anything is asked to
end, when that was, and what was being written. Each of the two may be ``-`` for none.

A script for POSIX that needs the standard library and nothing else, and little of
that, as it runs before each hook. Its exit status, or signal, is the program's.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import sys
import time

CANNOT_RUN = 127
"""The exit status where the program can't be started."""

ROOM = 16_000_000
"""Bytes; where the disk has fewer left, what was written may not be whole."""

GRACE = 2.0
"""Seconds that a program has between being asked to end and being killed."""

_PAUSE = 0.02


def main(argv: list[str]) -> None:
    """Run a program to its end, and end as it did."""
    lock, stop, *program = argv
    # A session of our own: what a terminal's Ctrl-C or the end of our caller's group
    # does to the program is for us to do, and all that it starts is known by it.
    os.setsid()
    ending, wake = _wakeful()
    if lock != "-":
        _hold(lock)
    if _is_abandoned(ending):
        return
    try:
        child = _start(program)
    except OSError as error:
        print(f"{error.strerror}: {program[0]}", file=sys.stderr)  # noqa: T201
        sys.exit(CANNOT_RUN)
    status = _watched(child, ending, wake)
    if status is None and stop != "-":
        _note(stop, _members(child))
    _end_all(child)
    _end_as(os.waitpid(child, 0)[1] if status is None else status)


def _wakeful() -> tuple[list[int], int]:
    """Let signals be seen: a list of those that asked us to end, and what wakes us."""
    ending: list[int] = []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    return ending, reader


def _hold(path: str) -> None:
    """Lock a file until we end; one that was removed meanwhile is made anew."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return
        os.close(lock)


def _is_abandoned(ending: list[int]) -> bool:
    return bool(ending or select.select([0], [], [], 0)[0])


def _start(program: list[str]) -> int:
    default = [signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE]
    return os.posix_spawn(
        program[0],
        program,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setpgroup=0,
        setsigdef=default,
    )


def _watched(child: int, ending: list[int], wake: int) -> int | None:
    """Wait for the program; return its status, or None where it is to end before."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if _is_abandoned(ending):
            return None
        if wake in select.select([0, wake], [], [])[0]:
            os.read(wake, 1024)


def _note(stop: str, members: set[int]) -> None:
    """Note the time, by the clock of the file system, and what is being written."""
    new = f"{stop}.new"
    try:
        disk = os.statvfs(os.path.dirname(stop))  # noqa: PTH120 - quick to start
        if disk.f_bavail * disk.f_frsize < ROOM:
            return
        with open(new, "w", encoding="utf-8") as file:  # noqa: PTH123 - quick to start
            file.write("now")
            file.flush()
            lines = [str(os.fstat(file.fileno()).st_mtime_ns), *_written(members)]
            file.seek(0)
            file.write("\0".join(lines))
            file.truncate()
        os.replace(new, stop)  # noqa: PTH105 - quick to start
    except OSError:  # a full disk: what was noted before counts on
        return


def _written(members: set[int]) -> set[str]:
    """Return the paths of the files that processes have open for writing."""
    found = set()
    for member in members:
        folder = f"/proc/{member}/fd"
        for handle in _listed(folder):
            found.add(_written_to(f"{folder}/{handle}"))
    return found - {""}


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - quick to start
    except OSError:  # it has ended
        return []


def _written_to(handle: str) -> str:
    """Return the file behind a handle; nothing where it is only read."""
    try:
        if os.lstat(handle).st_mode & stat.S_IWUSR:
            return os.readlink(handle)  # noqa: PTH115 - quick to start
    except OSError:  # it was closed
        pass
    return ""


def _end_all(child: int) -> None:
    """End what is left of a program, first of all, and of what it started."""
    deadline = time.monotonic() + GRACE
    asked: set[int] = set()
    while members := _members(child):
        is_over = time.monotonic() > deadline
        due = members if is_over else members - asked
        for member in sorted(due, key=child.__ne__):
            _signal(member, signal.SIGKILL if is_over else signal.SIGTERM)
        asked |= members
        time.sleep(_PAUSE)


def _signal(member: int, number: int) -> None:
    try:
        os.kill(member, number)
        os.kill(member, signal.SIGCONT)  # who is stopped can't end
    except ProcessLookupError:
        return


def _members(child: int) -> set[int]:
    """Return the processes of our session that run, other than ourselves.

    Where the system doesn't list processes it is the program's group.
    """
    ours = os.getpid()
    try:
        listed = os.listdir("/proc")  # noqa: PTH208 - quick to start
    except OSError:  # pragma: no cover - not on Linux
        return {-child} if _is_group(child) else set()
    processes = {int(name) for name in listed if name.isdecimal()} - {ours}
    return {it for it in processes if _runs_in(it, ours)}


def _is_group(child: int) -> bool:  # pragma: no cover - not on Linux
    os.waitpid(child, os.WNOHANG)
    try:
        os.killpg(child, 0)
    except OSError:
        return False
    return True


def _runs_in(process: int, session: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123 - quick to start
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    state, _, _, its_session = fields[:4]
    return int(its_session) == session and state not in (b"Z", b"X")


def _end_as(status: int) -> None:
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main(sys.argv[1:])
