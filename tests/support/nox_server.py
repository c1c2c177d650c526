"""Nox for tests, forked from a process that has already imported it.

A run of nox with nothing to do spends half of its time on imports. Here a server does
them once, and forks for each run, which has a session, a folder, variables and an
output of its own, and ends as any process does. Tests send it requests through a
socket pair, together with the pipe for the output.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GRACE = 10.0
"""Seconds that nox has to end its sessions if it is interrupted."""

LARGEST = 1 << 20
"""Bytes of a request."""


class NoxServer:
    """The process that forks for each run."""

    def __init__(self) -> None:
        """Start the process; it ends with this one."""
        self._requests, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={"LANG": "C.UTF-8"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self._close)

    def run(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        *,
        timeout: float,
        stderr: int | None = None,
    ) -> tuple[int, str]:
        """Run nox to its end, and return its exit status and what it printed.

        Args:
            argv: The arguments.
            cwd: Where it is run.
            env: All that it sees of the environment.
            timeout: Seconds after which nox is interrupted; if that doesn't end it,
                its process group is killed.
            stderr: A file descriptor for it, if it isn't to be mixed with stdout.

        Raises:
            TimeoutExpired: It took longer.
        """
        cores = [*os.sched_getaffinity(0)]
        request = json.dumps([[*argv], str(cwd), {**env}, cores]).encode()
        replies, their_replies = socket.socketpair()
        reading, writing = os.pipe()
        with their_replies, open(writing, "wb"):  # noqa: PTH123 - a descriptor
            errors = writing if stderr is None else stderr
            fds = [writing, errors, their_replies.fileno()]
            socket.send_fds(self._requests, [request], fds)
        with replies, open(reading, "rb") as output:  # noqa: PTH123
            pid = int(replies.recv(32))
            interrupt = threading.Timer(timeout, os.kill, (pid, signal.SIGINT))
            kill = threading.Timer(timeout + GRACE, os.killpg, (pid, signal.SIGKILL))
            for timer in (interrupt, kill):
                timer.daemon = True
                timer.start()
            printed = output.read().decode("utf-8", "replace")
            returncode = int(replies.recv(32))
        is_late = interrupt.finished.is_set()
        for timer in (interrupt, kill):
            timer.cancel()
        if is_late:
            raise subprocess.TimeoutExpired(["nox", *argv], timeout, printed)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what nox left behind
        return returncode, printed

    def _close(self) -> None:
        self._requests.close()
        self._process.wait()


@cache
def nox_server() -> NoxServer:
    """Return the server of this process, started at the first call."""
    return NoxServer()


def serve(requests: socket.socket) -> None:
    """Fork for each request until no one can send more; return in the children."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children
    while True:
        message, fds, _, _ = socket.recv_fds(requests, LARGEST, 3)
        if not message:
            sys.exit()
        if os.fork() == 0:
            break
        for fd in fds:
            os.close(fd)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stdout, stderr, replies = fds
    if pid := os.fork():
        os.close(stdout)
        os.close(stderr)
        os.write(replies, str(pid).encode())
        status = os.waitpid(pid, 0)[1]
        os.write(replies, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    os.close(replies)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate((stdout, stderr), start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv[1:], cwd, env, cores = json.loads(message)
    os.sched_setaffinity(0, cores)
    os.chdir(cwd)
    sys.path[0] = cwd
    os.environ.clear()
    os.environ.update(env)


def import_all() -> None:
    """Import nox and each session's code."""
    for name in ("nox.__main__", "nox_buildstages.sessions"):
        import_module(name)
    commands = import_module("nox_buildstages.commands")
    for module in pkgutil.walk_packages(commands.__path__, f"{commands.__name__}."):
        import_module(module.name)
    del sys.modules["nox.__main__"]  # each run executes it
    gc.freeze()


if __name__ == "__main__":
    import_all()
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("nox", run_name="__main__", alter_sys=True)
