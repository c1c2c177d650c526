"""End all processes of a program with the program, imported by ``isolate.py``.

The program runs in a namespace of processes, whose first process is ours. When the
first ends, for any reason, the kernel kills all others, daemons too. The first ends
with the program, and with our caller. The program sees no other processes in ``/proc``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct

_CLONE, _NEW_PROCESSES = 435, 0x20000000
_CLONE_ARGUMENTS = "=8Q"
_DIE_WITH_PARENT, _BE_PRIVATE = 1, 4
_NO_SET_USER, _NO_DEVICES, _NO_PROGRAMS = 0x2, 0x4, 0x8
_STARTED = b"+"


def die_with_parent(libc: ctypes.CDLL) -> None:
    """Let the kernel kill this process, and what it becomes, when its parent ends."""
    libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def contain_processes(libc: ctypes.CDLL) -> bool:
    """Continue as the second process of a new namespace, and wait in the calling one.

    Mounts are private already. Return whether the system allows it; otherwise the
    caller continues as it is.
    """
    reader, writer = os.pipe()
    numbers = _NEW_PROCESSES, *(0, 0, 0), signal.SIGCHLD, *(0, 0, 0)
    arguments = struct.pack(_CLONE_ARGUMENTS, *numbers)
    outside = os.getpid()
    # As fork, but the namespace is for the new process alone.
    first = libc.syscall(_CLONE, arguments, ctypes.c_size_t(len(arguments)))
    if not first:
        _be_first(libc, writer, outside)
    os.close(writer)
    is_started = first > 0 and os.read(reader, 1)
    if is_started:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the program gets it, too
    if first > 0:
        os.waitpid(first, 0)
    if is_started:
        _end_as(os.read(reader, 16))
    os.close(reader)
    return not first


def _be_first(libc: ctypes.CDLL, writer: int, outside: int) -> None:
    """Be the first process of a namespace; return in the second one.

    Processes get numbers as outside, because programs name files in shared folders by
    them.
    """
    try:
        die_with_parent(libc)
        flags = _NO_SET_USER | _NO_DEVICES | _NO_PROGRAMS
        if libc.mount(b"proc", b"/proc", b"proc", flags, None):
            os._exit(1)
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(str(outside))
        except OSError:
            pass
        os.write(writer, _STARTED)  # fails if our parent is gone
        program = os.fork()
        if not program:
            return
        libc.prctl(_BE_PRIVATE, 0, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            process, status = os.wait()
            if process == program:
                os.write(writer, str(status).encode())
                os._exit(0)
    except BaseException:  # noqa: BLE001 - no other code may run here
        os._exit(1)


def _end_as(answer: bytes) -> None:
    """End as the program did, by its status; without one it was killed."""
    status = int(answer or signal.SIGKILL)
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    import resource  # noqa: PLC0415 - quick to start

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program's is enough
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
