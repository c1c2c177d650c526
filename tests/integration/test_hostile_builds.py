"""A hostile build: what it tries succeeds without the sandbox, and not in it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.sandbox.sandbox import Sandbox
from nox_buildstages.builder.scripts.landlock import FIRST_USABLE
from nox_buildstages.system.process import Command, run
from support.hostile_world import World, successes, usual
from support.namespaces import (
    OFFLINE,
    landlock_version,
    needs_namespaces,
    without_landlock,
    without_namespaces,
)

if TYPE_CHECKING:
    from pathlib import Path

WITH_SCOPES = 6
"""The version of Landlock with rules for signals and abstract sockets."""


NAMESPACES = Sandbox()
NONE = Sandbox(network="seccomp", may_move=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@needs_namespaces
@pytest.mark.skipif(landlock_version() < FIRST_USABLE, reason="there is no Landlock")
def test_a_hostile_program_gets_nothing(world: World) -> None:
    """Not with namespaces, and not without; some of it on a kernel without Landlock."""
    found = world.drive(
        {
            "free": world.attack(None),
            "namespaces": world.attack(NAMESPACES),
            "no namespaces": world.attack(NONE, *without_namespaces()),
            "no Landlock": world.attack(NONE, *without_landlock()),
        }
    )
    free, names = successes(found["free"]), found["free"]
    assert usual(names) <= free
    rest = set() if landlock_version() >= WITH_SCOPES else {"signal nox"}
    # A call of i386 makes a socket in the empty network.
    harmless = {"make a socket by a call of i386"}
    assert successes(found["namespaces"]) <= rest | harmless
    rest |= {"reach an abstract socket"} if rest else set()
    assert successes(found["no namespaces"]) <= rest | {"change a mode in the home"}
    left = successes(found["no Landlock"])
    assert not [it for it in left if "connect" in it or "i386" in it]
    assert "write to the home" in left
    if os.geteuid() == 0:  # without its capabilities
        assert {"read the variables of nox", "trace nox"}.isdisjoint(left)


VERSIONS = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
import landlock
version, own, others = int(sys.argv[2]), *sys.argv[3:]
libc = ctypes.CDLL(None, use_errno=True)
landlock.restrict_files(libc, ["r/", f"w{own}"], version)

def attempt(name, call):
    try:
        call()
    except OSError:
        return
    print(name)

os.makedirs(f"{own}/a")
open(f"{own}/file", "w").close()
attempt("move", lambda: os.rename(f"{own}/file", f"{own}/a/file"))
attempt("truncate", lambda: os.truncate(f"{others}/file", 0))
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("write", lambda: open(f"{others}/file", "a"))
attempt("read", lambda: open(f"{others}/file"))
"""


@pytest.mark.parametrize(
    ("version", "gets"),
    [
        (2, {"move", "truncate", "signal", "read"}),
        (3, {"move", "signal", "read"}),
        (4, {"move", "signal", "read"}),
        (5, {"move", "signal", "read"}),
        (6, {"move", "read"}),
        (7, {"move", "read"}),
    ],
)
def test_each_version_of_landlock_restricts_what_it_knows(
    tmp_path: Path, version: int, gets: set[str]
) -> None:
    """A build can always move its own files."""
    if landlock_version() < version:
        pytest.skip(f"this kernel's Landlock is older than {version}")
    own, others = tmp_path / "own", tmp_path / "others"
    own.mkdir()
    others.mkdir()
    others.joinpath("file").write_text("text")
    words = (str(OFFLINE.parent), str(version), str(own), str(others))
    argv = [sys.executable, "-I", "-S", "-c", VERSIONS, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert {*done.stdout.split()} == gets


@needs_namespaces
def test_a_folder_in_a_build_may_be_named_as_one_of_the_system(tmp_path: Path) -> None:
    """``home`` in the build's folder is writable, and ``/home`` isn't."""
    for name in ("home", "usr"):
        (tmp_path / name).mkdir()
    rules = ("r/", f"w{tmp_path}/home", f"w{tmp_path}/usr")
    code = "open('home/x', 'w'); open('usr/x', 'w'); open('/home/nox-x', 'w')"
    argv = (sys.executable, "-I", "-S", "-c", code)
    command = Command(argv=argv, cwd=tmp_path, env={})
    done = run(NAMESPACES.show(tmp_path).restrict(rules).wrap(command))
    assert "'/home/nox-x'" in done.stderr
    assert (tmp_path / "usr/x").exists()
