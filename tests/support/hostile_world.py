"""Files of a user among which a hostile build runs, and its attempts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nox_buildstages.builder.sandbox.files import find_access
from nox_buildstages.system.process import Command
from support import hostile
from support.namespaces import has_namespaces

if TYPE_CHECKING:
    from nox_buildstages.builder.sandbox.sandbox import Sandbox

PROGRAM = Path(hostile.__file__)

OPTIONAL = ("io_uring", "i386", "trace")
"""In the names of attempts that some kernels refuse everybody."""

ATTACK = (sys.executable, "-I", "-S", str(PROGRAM), "attack")


class World:
    """Files of a user, and a build among them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.home, self.project, self.store = top / "home", top / "p/own", top / "store"
        self.build = self.store / "builds/own"
        self.layout = {
            "home": str(self.home),
            "project": str(self.project),
            "store": str(self.store),
            "wheelhouse": str(self.project / "wheelhouse"),
            "temporary": str(top / "tmp"),
            "other": str(top / "p/other"),
            "build": str(self.store / "builds/other"),
        }
        for name in (
            *("home/.ssh/id_x", "home/.netrc", "home/.config/cloud", "p/other/file"),
            *("store/builds/other/source/file", "store/builds/own/source/file"),
            *("store/builds/own/home/file", "p/own/wheelhouse/file", "tmp/file"),
        ):
            file = top / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("secret")

    def attack(self, sandbox: Sandbox | None, *prefix: str) -> dict[str, Any]:
        """Return how the program is attacked in a sandbox, behind a prefix."""
        layout: dict[str, str] = {}
        if sandbox is None:
            return {"argv": ATTACK, "cwd": str(self.build), "layout": layout}
        hidden = (self.project, self.store)
        access = find_access({"HOME": str(self.home)}, hidden)
        path = str(Path(sys.executable).parent)
        rules = access.rules(
            {"PATH": path},
            read=[self.build, PROGRAM],
            write=[self.build / "source", self.build / "home"],
        )
        sandbox = sandbox.show(self.build).restrict(rules)
        command = sandbox.wrap(Command(argv=ATTACK, env={}))
        return {"argv": (*prefix, *command.argv), "cwd": str(self.build), "layout": {}}

    def drive(self, commands: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
        """Run commands beside servers; return what each attempt gave."""
        apart = ("unshare", "--net") if os.geteuid() == 0 and has_namespaces else ()
        given = {"layout": self.layout, "commands": commands, "is_apart": bool(apart)}
        done = subprocess.run(
            [*apart, sys.executable, "-I", "-S", PROGRAM, "drive"],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "SECRET": "HUNTER2"},
        )
        assert done.stdout, done.stderr
        found: dict[str, dict[str, str]] = json.loads(done.stdout)
        assert all(isinstance(it, dict) for it in found.values()), found
        return found


def successes(results: dict[str, str]) -> set[str]:
    return {name for name, error in results.items() if not error}


def usual(results: dict[str, str]) -> set[str]:
    """Return the attempts that every kernel allows without a sandbox."""
    return {it for it in results if not any(map(it.count, OPTIONAL))}
