"""Run a program in a sandbox.

``isolate.py NETWORK [--together] [--at FOLDER HERE]… [--files RULE…] -- [PROGRAM …]``
``isolate.py NETWORK --hide FILE… -- PROGRAM …``

``NETWORK`` is ``namespace`` or ``seccomp``, by which the network is cut off, or ``on``.
The script restricts itself and then becomes the program, so process, signals and exit
status are the program's. Without a program, the script only tries, and prints the
version of Landlock.

With ``--at``, the program and all processes below see a folder at another path, too,
and a program started in the first such folder starts at the other path. Nothing lies
around these paths except the folders of the system: a program that searches upwards
finds no project of the user.

With ``--together`` and ``--at``, all processes below the program end with it, if the
system allows that. Then the script waits for the program, and ends as the program does.

With ``--files``, the program reaches only files with a rule: a letter and a path. If
the kernel has no Landlock, rules only keep the program from writing, and only with
``--at``.

With ``--hide``, the program finds an empty file in the place of each file.

This script for Linux imports little, because each hook starts the script.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

# With -I, Python doesn't look beside the script.
sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - quick to start

import capabilities  # type: ignore[import-not-found]
import landlock  # type: ignore[import-not-found]
import namespaces  # type: ignore[import-not-found]
import processes  # type: ignore[import-not-found]
import seccomp  # type: ignore[import-not-found]

CANNOT_CUT = 125
"""The exit status if the program can't be isolated."""

CANNOT_MOVE = 126
"""The exit status if the network can be cut off, but a folder can't be mounted."""

CANNOT_RUN = 127
"""The exit status if the program can't be started."""

ON, NAMESPACE, SECCOMP = "on", "namespace", "seccomp"
"""The states of the network: on, or by what it is cut off."""

TOGETHER, AT, FILES, HIDE, END = "--together", "--at", "--files", "--hide", "--"


def main(argv: list[str]) -> int:
    """Enter the sandbox and become a program; return a status after a failure."""
    end = argv.index(END)
    (network, *options), program = argv[:end], argv[end + 1 :]
    is_together = options[:1] == [TOGETHER]
    options = options[is_together:]
    places = []
    while options[:1] == [AT]:
        places.append((options[1], options[2]))
        options = options[3:]
    rules = options[1:] if options[:1] == [FILES] else None
    hidden = options[1:] if options[:1] == [HIDE] else []
    libc = ctypes.CDLL(None, use_errno=True)
    processes.die_with_parent(libc)
    try:
        if hidden:
            namespaces.hide_files(libc, hidden)
        enter_sandbox(libc, network, places, rules, is_together=is_together)
    except OSError as error:
        # The system's word for this limit is about disks.
        is_limit = error.errno == errno.ENOSPC
        reason = "a limit in /proc/sys/user" if is_limit else error.strerror
        print(reason, file=sys.stderr)  # noqa: T201 - for the caller
        is_move = isinstance(error, namespaces.MoveError)
        return CANNOT_MOVE if is_move else CANNOT_CUT
    if not program:
        print(landlock.find_version(libc))  # noqa: T201 - for the caller
        return 0
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{error.strerror}: {program[0]}", file=sys.stderr)  # noqa: T201
        return CANNOT_RUN


def enter_sandbox(
    libc: ctypes.CDLL,
    network: str,
    places: list[tuple[str, str]],
    rules: list[str] | None,
    *,
    is_together: bool,
) -> None:
    """Restrict this process.

    Mounts come first, because Landlock forbids them. The filter of calls comes last.

    Raises:
        OSError: The system doesn't allow it.
    """
    if places or network == NAMESPACE:
        writable = rules and [it[1:] for it in rules if it[0] == landlock.WRITE]
        namespaces.enter_namespaces(
            libc, places, writable, offline=network == NAMESPACE
        )
        if places and is_together:
            processes.contain_processes(libc)
    capabilities.drop_capabilities(libc)
    version = landlock.find_version(libc)
    if rules is not None and version >= landlock.FIRST_USABLE:
        landlock.restrict_files(libc, rules, version)
    if network == SECCOMP:
        seccomp.block_network(libc)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
