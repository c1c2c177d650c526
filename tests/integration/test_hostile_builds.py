"""A hostile build: what it tries succeeds without the sandbox, and not in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.sandbox.sandbox import Sandbox
from nox_buildstages.builder.scripts.landlock import FIRST_USABLE
from support.hostile_world import World, successes, usual
from support.namespaces import (
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
