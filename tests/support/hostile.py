"""What a hostile build tries, and servers that it tries to reach; runs by itself.

``python hostile.py attack LAYOUT`` makes all attempts, and prints as JSON which of
them succeeded: an empty string, or why not. ``LAYOUT`` is JSON with the paths and
addresses. ``python hostile.py drive`` reads a layout and commands from its standard
input, runs servers, and each command with its layout as last argument.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Layout = dict[str, Any]
LIBC = ctypes.CDLL(None, use_errno=True)
OTHER_ADDRESS = "192.0.2.10"
"""An address for documentation; it exists only in a namespace made for the test."""


def check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# Attempts ------------------------------------------------------------------------


def tcp(address: list[Any]) -> None:
    socket.create_connection(tuple(address), 2).close()


def udp(address: list[Any]) -> None:
    """Send a datagram, and wait for its echo."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0.5)
        sender.sendto(b"leak", tuple(address))
        sender.recv(4)


def io_uring(address: list[Any]) -> None:
    """Connect with neither of the calls ``socket`` and ``connect``."""
    parameters = ctypes.create_string_buffer(120)
    ring = check(LIBC.syscall(425, 4, parameters))
    offsets = struct.unpack("=30I", parameters.raw)
    sq, cq = offsets[10:20], offsets[20:30]
    size = max(sq[6] + 4 * offsets[0], cq[5] + 16 * offsets[1])
    rings = mmap.mmap(ring, size, offset=0)
    entries = mmap.mmap(ring, 64 * offsets[0], offset=0x10000000)

    def submit(*fields: int) -> int:
        """Submit an operation (code, handle, offset, address, length); wait for it."""
        operation, handle, offset, pointer, length = fields
        tail = struct.unpack_from("=I", rings, sq[1])[0]
        index = tail & struct.unpack_from("=I", rings, sq[2])[0]
        entry = struct.pack(
            "=BBHiQQI", operation, 0, 0, handle, offset, pointer, length
        )
        entries[64 * index : 64 * index + 64] = entry.ljust(64, b"\0")
        struct.pack_into("=I", rings, sq[6] + 4 * index, index)
        struct.pack_into("=I", rings, sq[1], tail + 1)
        check(LIBC.syscall(426, ring, 1, 1, 1, None, 0))
        head = struct.unpack_from("=I", rings, cq[0])[0]
        mask = struct.unpack_from("=I", rings, cq[2])[0]
        result: int = struct.unpack_from("=i", rings, cq[5] + 16 * (head & mask) + 8)[0]
        struct.pack_into("=I", rings, cq[0], head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    handle = submit(45, socket.AF_INET, socket.SOCK_STREAM, 0, 0)
    host = socket.inet_aton(address[0])
    peer = ctypes.create_string_buffer(
        struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1]) + host, 16
    )
    submit(16, handle, 16, ctypes.addressof(peer), 0)
    os.close(handle)


def i386_socket() -> None:
    """Make a socket by a call of another architecture, ``socketcall``."""
    words = mmap.mmap(-1, 4096, flags=0x22 | 0x40, prot=7)  # below 4 GB
    start = ctypes.addressof(ctypes.c_char.from_buffer(words))
    words[0:12] = struct.pack("=3I", socket.AF_INET, socket.SOCK_STREAM, 0)
    words[64:82] = (
        b"\x53\xb8" + struct.pack("=I", 102) + b"\xbb" + struct.pack("=I", 1)
        + b"\xb9" + struct.pack("=I", start) + b"\xcd\x80"
    )  # fmt: skip
    words[82:84] = b"\x5b\xc3"
    result = ctypes.CFUNCTYPE(ctypes.c_int)(start + 64)()
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def abstract(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(f"\0{name}")


def read_variables(process: int) -> None:
    content = Path(f"/proc/{process}/environ").read_bytes()
    assert b"HUNTER2" in content


def trace(process: int) -> None:
    check(LIBC.ptrace(0x4206, process, 0, 0))  # until we end, and without a stop


def write(folder: str) -> None:
    Path(folder, "written").write_text("hostile")


def leave_daemon(file: str) -> None:
    """Leave a process in a session of its own."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            written = Path(f"{file}-new")
            written.write_text(str(os.getpid()))
            written.rename(file)
            for number in (0, 1, 2):
                os.close(number)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(300)
        os._exit(0)
    os.wait()
    while not Path(file).exists():
        time.sleep(0.01)


def attempts(layout: Layout) -> dict[str, Callable[[], object]]:
    """Return all attempts by name."""
    home, server = Path(layout["home"]), layout["server"]
    found: dict[str, Callable[[], object]] = {
        "read ~/.ssh/id_x": (home / ".ssh/id_x").read_text,
        "read ~/.netrc": (home / ".netrc").read_text,
        "read ~/.config/cloud": (home / ".config/cloud").read_text,
        "read another project": Path(layout["other"], "file").read_text,
        "read another build": Path(layout["build"], "source/file").read_text,
        "read the variables of nox": lambda: read_variables(server),
        "trace nox": lambda: trace(server),
        "signal nox": lambda: os.kill(server, 0),
        "list the home": lambda: [*home.iterdir()],
        **{
            f"write to the {name}": lambda name=name: write(layout[name])  # type: ignore[misc]
            for name in ("home", "store", "project", "wheelhouse", "temporary")
        },
        "change a file of the home": lambda: (home / ".netrc").open("a").write("x"),
        "change a mode in the home": lambda: (home / ".netrc").chmod(0o644),
        "reach an abstract socket": lambda: abstract(layout["abstract"]),
    }
    for place, address in layout["addresses"].items():
        for kind in (tcp, udp, io_uring):
            how = {"io_uring": "io_uring"}.get(kind.__name__, kind.__name__.upper())
            found[f"connect to {place} by {how}"] = (
                lambda kind=kind, address=address: kind(address)  # type: ignore[misc]
            )
    if platform.machine() == "x86_64":
        found["make a socket by a call of i386"] = i386_socket
    if os.geteuid() == 0:
        found["read /etc/shadow"] = Path("/etc/shadow").read_text
    return found


def attack(layout: Layout) -> None:
    """Make all attempts, and print the results."""
    results = {}
    for name, attempt in attempts(layout).items():
        try:
            attempt()
            results[name] = ""
        except Exception as error:  # noqa: BLE001, PERF203 - it is the result
            results[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(results), flush=True)  # noqa: T201 - the output
    if "daemon" in layout:
        leave_daemon(layout["daemon"])
        print("daemon:", Path(layout["daemon"]).read_text(), flush=True)  # noqa: T201


# Servers -------------------------------------------------------------------------


def add_address(address: str) -> None:
    """Switch on the interface of a new network namespace, with one more address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.pack("16sh22x", b"lo", 0x1 | 0x40)
        fcntl.ioctl(control, 0x8914, flags)
        peer = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(control, 0x8916, b"lo:1".ljust(16, b"\0") + peer.ljust(24, b"\0"))


def echo(server: socket.socket) -> None:
    """Answer each datagram, in a process of its own."""
    if not os.fork():
        while True:
            server.sendto(*server.recvfrom(16))


def drive() -> None:
    """Run commands beside servers, and print their results as JSON."""
    given = json.loads(sys.stdin.read())
    layout, hosts = given["layout"], {"loopback": "127.0.0.1"}
    if given["is_apart"]:
        add_address(OTHER_ADDRESS)
        hosts["another address"] = OTHER_ADDRESS
    layout["addresses"], servers = {}, []
    layout["server"], layout["abstract"] = os.getpid(), f"hostile-{os.getpid()}"
    LIBC.prctl(0x59616D61, -1, 0, 0, 0)  # whatever Yama says, who may trace us may
    for name, host in hosts.items():
        listener = socket.create_server((host, 0))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(listener.getsockname())
        echo(datagrams)
        servers += [listener, datagrams]
        layout["addresses"][name] = listener.getsockname()
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(f"\0{layout['abstract']}")
    unix.listen(8)
    results = {}
    for name, command in given["commands"].items():
        told = {**layout, **command["layout"]}
        done = subprocess.run(
            [*command["argv"], json.dumps(told)],
            capture_output=True,
            text=True,
            check=False,
            cwd=command["cwd"],
            env={"PATH": os.defpath},
        )
        results[name] = json.loads(done.stdout) if done.stdout else done.stderr
    print(json.dumps(results), flush=True)  # noqa: T201 - the output
    os.kill(0, signal.SIGTERM)  # the answering processes, and ourselves


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        os.setsid()
        drive()
    else:
        attack(json.loads(sys.argv[-1]))
