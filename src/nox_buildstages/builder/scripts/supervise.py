"""Run a program, end the program with the caller, and note checkpoints meanwhile.

``python -I -S supervise.py LOCK CHECKPOINT MEMORY SECONDS PROGRAM ARGUMENT…``

Standard input is the read end of a pipe. When the last writer of the pipe is gone, for
any reason, or on SIGTERM, the supervisor asks the program and all processes below to
end, and kills them after ``GRACE`` seconds. Processes left running by the program are
ended, too. Until then the file ``LOCK`` is locked as filelock does.

Every ``SECONDS``, and before ending the program, the supervisor writes a checkpoint to
the file ``CHECKPOINT``: the time by the clock of the file system in nanoseconds, and
the files open for writing, separated by NUL. A file is complete if the last change is
older and the file wasn't open.

With the checkpoints and at the end, the supervisor writes to the file ``MEMORY`` how
many bytes the largest process had at most, then all processes together. If the file
exists, its numbers count as well. ``-`` in place of a path means no file.

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

LOOK = 1.0
"""Seconds between two looks at the memory of all processes."""

REST = 200
"""The next look comes after this many times the CPU time of the last one, or later."""

_PAUSE = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main(argv: list[str]) -> None:
    """Run a program to the end, and end in the same way."""
    lock, checkpoint, memory, seconds, *program = argv
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
    look = float("inf") if memory == "-" else time.monotonic() + LOOK
    peaks = Peaks(memory)
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and not must_end(requests):
        left = max(0.0, min(due, look) - time.monotonic())
        if wake in select.select([0, wake], [], [], left)[0]:
            os.read(wake, 1024)
        if time.monotonic() >= look:
            look = time.monotonic() + max(LOOK, REST * peaks.look())
        if time.monotonic() >= due:
            note_checkpoint(checkpoint)
            peaks.write()
            due = time.monotonic() + float(seconds)
        ended, status = os.waitpid(child, os.WNOHANG)
    if status or not ended:
        note_checkpoint(checkpoint)
    end_processes(child)
    status = status if ended else os.waitpid(child, 0)[1]
    peaks.write()
    end_as(status)


class Peaks:
    """The most memory that processes of our session had, in a file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.process = self.total = 0
        self.foreign: set[str] = set()  # processes of other sessions
        try:
            with open(path, encoding="ascii") as file:  # noqa: PTH123 - quick to start
                self.add(*map(int, file.read().split()))
        except (OSError, ValueError, TypeError):
            return

    def add(self, process: int, total: int) -> None:
        """Add the bytes of the largest process, and of all processes together."""
        self.process = max(self.process, process)
        self.total = max(self.total, total, process)

    def look(self) -> float:
        """Add what the processes have now; return the CPU seconds that this took."""
        begun = time.process_time()
        sizes: dict[int, int] = {}
        members = {it[0]: it for it in statuses(self.foreign)}
        for process, (_, _, _, pages) in members.items():
            # A compiler of CUDA is a job together with the programs that it starts.
            top = at = process
            for _ in members:  # numbers that are used again could make a circle
                if at not in members:
                    break
                _, name, parent, _ = members[at]
                top = at if name == b"nvcc" else top
                at = parent
            sizes[top] = sizes.get(top, 0) + pages * _PAGE
        self.add(max(sizes.values(), default=0), sum(sizes.values()))
        return time.process_time() - begun

    def write(self) -> None:
        """Write the file, if we have one; on a full disk, the earlier numbers stay."""
        if self.path == "-":
            return
        import resource  # noqa: PLC0415 - quick to start

        # All processes below the program count, as soon as the program has ended.
        self.add(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, 0)
        new = f"{self.path}.new"
        try:
            with open(new, "w", encoding="ascii") as file:  # noqa: PTH123 - quick to start
                file.write(f"{self.process} {self.total}\n")
            os.replace(new, self.path)  # noqa: PTH105 - quick to start
        except OSError:
            return


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
    return {process for process, *_ in statuses(set())}


def statuses(foreign: set[str]) -> list[tuple[int, bytes, int, int]]:
    """Return the running processes of our session, without ourselves.

    Each is its number, name, parent and memory in pages. Processes in
    ``foreign`` are skipped; other ones of other sessions are added, ended ones removed.
    """
    found, ours = [], os.getpid()
    running = set(list_folder("/proc"))
    foreign &= running
    for name in running - foreign:
        if not name.isdecimal() or int(name) == ours:
            foreign.add(name)
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - quick to start
                begin, _, end = file.read().rpartition(b")")
        except OSError:  # the process is gone
            continue
        fields = end.split()
        if int(fields[3]) != ours:
            foreign.add(name)
        elif fields[0] not in (b"Z", b"X"):
            program = begin.partition(b"(")[2]
            parent, pages = int(fields[1]), int(fields[21])
            found.append((int(name), program, parent, pages))
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
