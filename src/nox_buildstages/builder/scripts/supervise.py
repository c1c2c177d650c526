"""Run a program, end the program with the caller, and watch the program meanwhile.

``python -I -S supervise.py LOCK CHECKPOINT USE COMPILED SECONDS PROGRAM ARGUMENT…``

Standard input is the read end of a pipe. When the last writer of the pipe is gone, for
any reason, or on SIGTERM, the supervisor asks the program and all processes below to
end, and kills them after ``GRACE`` seconds. Processes left running by the program are
ended, too, also daemons with a session of their own: the supervisor adopts processes
that lose their parent. Until then the file ``LOCK`` is locked as filelock does. The
program inherits the lock, so it stays locked if the supervisor is killed.

Every ``SECONDS``, and before ending the program, the supervisor writes a checkpoint to
the file ``CHECKPOINT``: the time by the clock of the file system in nanoseconds, and
the files open for writing, separated by NUL. A file is complete if the last change is
older and the file wasn't open.

About once a second and at the end, the supervisor looks at all processes, and writes to
the file ``USE``

- how many bytes the largest process had at most, and all processes together; how many
  compilers ran at once at most; how many seconds compilers ran, together. If the file
  exists, its numbers count as well;
- how many bytes all processes have now, and how many files were compiled;
- in a line for each, the compilers that run now.

It adds a line to the file ``COMPILED`` for each compiler that has ended. A line has the
times of the begin and the end, the most bytes, the options that name architectures of
GPUs, and the source file, separated by tabs. A compiler that ended between two looks is
in no line. ``-`` in place of a path means no file; without ``USE`` there are no looks.

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
"""Seconds between two looks at all processes."""

REST = 200
"""The next look comes after this many times the CPU time of the last one, or later."""

_COMPILES = frozenset((b"-c", b"--compile", b"-dc", b"--device-c"))
"""The options with which compilers compile, and don't link."""

_SOURCES = frozenset(
    b".c .cc .cpp .cxx .c++ .C .cu .hip .m .mm .f .F .for .f90 .F90 .f95 .s .S".split()
)
_VALUED = frozenset((b"-o", b"-MF", b"-MT", b"-MQ", b"-include"))
"""Options with a value that is another file."""

_ARCHITECTURES = frozenset(
    b"-arch --gpu-architecture -code --gpu-code -gencode --generate-code"
    b" --offload-arch --cuda-gpu-arch".split()
)
"""Options with architectures of GPUs as their value."""

_PROBES = (b"conftest.", b"_configtest.", b"testfile.c", b"CMakeC")
_PROBE_FOLDERS = (b"/CMakeScratch/", b"/CMakeTmp/")
"""Names of files and folders by which build tools try what a compiler can."""

_ADOPT_ORPHANS = 36
"""An operation of prctl: orphans below become children of the process."""

_PAUSE = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def main(argv: list[str]) -> None:
    """Run a program to the end, and end in the same way."""
    lock, checkpoint, use, compiled, seconds, *program = argv
    # In a session of our own, Ctrl-C in a terminal and the end of our caller's group
    # don't reach the program.
    os.setsid()
    requests: list[int] = []
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: requests.append(number))
    if lock != "-":
        os.set_inheritable(hold_lock(lock), True)  # noqa: FBT003 - no other name
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
    adopt_orphans()  # while the program starts, because this takes a moment
    due = time.monotonic() + float(seconds)
    look = float("inf") if use == "-" else time.monotonic() + LOOK
    watch = Watch(use, compiled)
    while (status := reap(child)) is None and not must_end(requests):
        left = max(0.0, min(due, look) - time.monotonic())
        if wake in select.select([0, wake], [], [], left)[0]:
            os.read(wake, 1024)
        if time.monotonic() >= look:
            look = time.monotonic() + max(LOOK, REST * watch.look())
        if time.monotonic() >= due:
            note_checkpoint(checkpoint)
            due = time.monotonic() + float(seconds)
    if status != 0:
        note_checkpoint(checkpoint)
    end_processes(child)
    status = os.waitpid(child, 0)[1] if status is None else status
    reap(child)  # their use of memory counts
    watch.end()
    end_as(status)


class Compiler:
    """A compiler at work on a source file, with the programs that it starts."""

    def __init__(self, file: bytes, options: bytes, began: float) -> None:
        self.file, self.options, self.began = file, options, began
        self.peak = 0  # bytes

    def line(self, ended: float) -> bytes:
        """Return the line about the compiler in a file."""
        numbers = f"{self.began:.2f}\t{ended:.2f}\t{self.peak}".encode()
        return b"%s\t%s\t%s\n" % (numbers, self.options, self.file)


class Watch:
    """The use of memory and the compilers below us, written to two files."""

    def __init__(self, use: str, compiled: str) -> None:
        self.use, self.compiled = use, compiled
        self.process = self.total = self.most = self.now = 0  # bytes and compilers
        self.seconds = 0.0  # of all compilers
        self.foreign: set[int] = set()  # processes that aren't below us
        self.known: dict[tuple[int, bytes, int], Compiler | None] = {}
        self.running: list[Compiler] = []
        self.done: set[bytes] = set()  # files
        self.looked = time.time()
        try:
            with open(use, "rb") as file:  # noqa: PTH123 - quick to start
                numbers = [*map(int, file.readline().split()), 0, 0]
            self.process, self.total, self.most, self.seconds = numbers[:4]
        except (OSError, ValueError):
            return

    def look(self) -> float:
        """Note what the processes do now; return the CPU seconds that this took."""
        begun, now = time.process_time(), time.time()
        members = {it[0]: it for it in statuses(self.foreign)}
        known, self.known = self.known, {}
        compilers: dict[int, Compiler | None] = {}
        for process, name, _, _, ticks in members.values():
            key = process, name, ticks
            if key not in known:
                known[key] = find_compiler(process, self.time_of(ticks, now))
            self.known[key] = compilers[process] = known[key]
        sizes: dict[int, int] = {}
        for process, (*_, pages, _) in members.items():
            # A compiler is a job together with the programs that it starts.
            top = at = process
            for _ in members:  # numbers that are used again could make a circle
                if at not in members:
                    break
                _, name, parent, _, _ = members[at]
                top = at if compilers[at] or name == b"nvcc" else top
                at = parent
            sizes[top] = sizes.get(top, 0) + pages * _PAGE
        running = []
        for process, size in sizes.items():
            compiler = compilers[process]
            if compiler is not None:
                compiler.peak = max(compiler.peak, size)
                running.append(compiler)
        self.now = sum(sizes.values())
        self.process = max(self.process, *sizes.values(), 0)
        self.total = max(self.total, self.now)
        self.note(running, now)
        return time.process_time() - begun

    def time_of(self, ticks: int, now: float) -> float:
        """Return when a process began that is new in a look, by its start in ticks."""
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS
        return min(max(self.looked, now - age), now)

    def note(self, running: list[Compiler], now: float) -> None:
        """Write the files; on a full disk, what was written stays."""
        ended = [it for it in self.running if it not in running]
        seen, half = self.looked, (now - self.looked) / 2
        self.done.update(it.file for it in ended)
        self.seconds += len(self.running) * (now - self.looked)
        self.most = max(self.most, len(running))
        self.running, self.looked = running, now
        if self.use == "-":
            return
        done = len(self.done.difference(it.file for it in running))
        peaks = self.process, self.total, self.most, round(self.seconds)
        numbers = " ".join(map(str, (*peaks, self.now, done)))
        new = f"{self.use}.new"
        try:
            with open(new, "wb") as file:  # noqa: PTH123 - quick to start
                file.write(f"{numbers}\n".encode())
                file.writelines(it.line(now) for it in running)
            os.replace(new, self.use)  # noqa: PTH105 - quick to start
            if ended and self.compiled != "-":
                with open(self.compiled, "ab") as file:  # noqa: PTH123
                    # On average, a compiler runs as long after a look as before.
                    file.writelines(
                        it.line(seen + min(half, seen - it.began)) for it in ended
                    )
        except OSError:
            return

    def end(self) -> None:
        """Note the end of all processes."""
        if self.use == "-":
            return
        import resource  # noqa: PLC0415 - quick to start

        # All processes below the program count, as soon as the program has ended.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        self.process, self.now = max(self.process, peak), 0
        self.total = max(self.total, self.process)
        self.note([], time.time())


def find_compiler(process: int, began: float) -> Compiler | None:
    """Return the compiler that a process runs; None if it runs none, or is gone."""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:  # noqa: PTH123
            found = parse_compiler(file.read().split(b"\0"))
        if found is None:
            return None
        name, options = found
        if not name.startswith(b"crate "):
            folder = os.readlink(b"/proc/%d/cwd" % process)  # noqa: PTH115
            name = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
    except OSError:
        return None
    is_probe = any(it in name for it in _PROBE_FOLDERS)
    return None if is_probe else Compiler(name, options, began)


def parse_compiler(words: list[bytes]) -> tuple[bytes, bytes] | None:
    """Return the source file in a compiler's command line, and its architectures.

    The file is ``crate NAME`` for Rust. None if the command line is no compiler's.
    """
    program = os.path.basename(words[0])  # noqa: PTH119 - quick to start
    if program.endswith(b"sh") or program.startswith((b"python", b"perl")):
        words = words[1:]  # it may be a script that wraps a compiler
        if words[:1] and words[0].startswith(b"-"):
            return None
    if b"--crate-name" in words[:-1]:
        name = words[words.index(b"--crate-name") + 1]
        return None if name == b"___" else (b"crate " + name, b"")
    if _COMPILES.isdisjoint(words):
        return None
    file, options, before = b"", [], b""
    for word in words:
        option, is_joined, value = word.partition(b"=")
        if before in _ARCHITECTURES:
            options.append(word)
        elif is_joined and option in _ARCHITECTURES:
            options.append(value)
        elif not (file or before in _VALUED or word.startswith(b"-")):
            name = word.rpartition(b"/")[2]
            is_source = os.path.splitext(name)[1] in _SOURCES  # noqa: PTH122
            if is_source and not name.startswith(_PROBES):
                file = word
        before = word
    return (file, b" ".join(options)) if file else None


def adopt_orphans() -> None:
    """Make processes below us that lose their parent our children."""
    import ctypes  # noqa: PLC0415 - quick to start

    ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)


def reap(child: int) -> int | None:
    """Reap processes that have ended; return the status of the program, if it has."""
    found = None
    try:
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                break
            if process == child:
                found = status
    except ChildProcessError:  # none is left
        pass
    return found


def hold_lock(path: str) -> int:
    """Lock a file until this process ends, even if the file is removed meanwhile."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return lock
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
    """Return the files open for writing in processes below us."""
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
    """End the processes below us, the program first."""
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
    """Return the running processes below us."""
    return {process for process, *_ in statuses(set())}


def statuses(foreign: set[int]) -> list[tuple[int, bytes, int, int, int]]:
    """Return the running processes below us.

    Each is its number, name, parent, memory in pages and start in ticks. Processes in
    ``foreign`` are skipped; others that aren't below us are added, ended ones removed.
    """
    running = {int(it) for it in list_folder("/proc") if it.isdecimal()}
    foreign &= running
    ours, found = {os.getpid()}, {}
    for process in running - foreign - ours:
        try:
            with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123 - quick to start
                begin, _, end = file.read().rpartition(b")")
        except OSError:  # the process is gone
            continue
        fields = end.split()
        parent, ticks, pages = (int(fields[it]) for it in (1, 19, 21))
        program, is_running = begin.partition(b"(")[2], fields[0] not in (b"Z", b"X")
        found[process] = is_running, (process, program, parent, pages, ticks)
    for process in found:
        way: list[int] = []
        at = process
        while at in found and at not in ours and at not in way:
            way.append(at)
            at = found[at][1][2]
        if at in ours:
            ours.update(way)
        elif not at or at in foreign:  # else its parent has just ended
            foreign.update(way)
    return [
        it
        for process, (is_running, it) in found.items()
        if process in ours and is_running
    ]


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
