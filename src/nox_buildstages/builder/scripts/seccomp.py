"""Cut the network off without namespaces, imported by ``isolate.py``.

A filter in the kernel (seccomp) refuses calls that could lead to a network: sockets of
other families than Unix sockets, io_uring, which makes sockets without the call
``socket``, and all calls of other architectures than the machine's: i386 and x32 on
x86_64, 32-bit ARM on aarch64.
"""

from __future__ import annotations

import ctypes
import os
import struct

_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""The architecture of a call in the kernel's words, and the number of ``socket``."""

_X32 = 0x40000000  # a bit in the numbers of the x32 calls of x86_64
_IO_URING_SETUP = 425
_UNIX = 1
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in the kernel's data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # as EACCES
_SET_SECCOMP, _FILTER, _NO_NEW_PRIVILEGES = 22, 2, 38


def make_filter(machine: str) -> bytes:
    """Return the filter for a machine, as instructions of BPF.

    Raises:
        LookupError: The calls of the machine aren't known.
    """
    architecture, socket = _MACHINES[machine]
    steps = (  # code, steps to skip if true and if false, value
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 0, 6, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 4, 0, _X32),
        (_IF_EQUAL, 3, 0, _IO_URING_SETUP),
        (_IF_EQUAL, 0, 3, socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_IF_EQUAL, 1, 0, _UNIX),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def block_network(libc: ctypes.CDLL) -> None:
    """Refuse this process, and all below, calls that could lead to a network.

    Raises:
        OSError: The kernel has no filters, or none is known for the machine.
    """
    machine = os.uname().machine
    if machine not in _MACHINES or ctypes.sizeof(ctypes.c_void_p) != 8:  # noqa: PLR2004
        raise OSError(0, f"there is no filter of calls for {machine}")
    program = make_filter(machine)
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.prctl(_SET_SECCOMP, _FILTER, pointer, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"no filter of calls: {os.strerror(number)}")
