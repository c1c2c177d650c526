"""A package whose files several machines compile, each with a cache of its own."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.caches import folder_of
from support.native import Native
from support.pair import declare_solo

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

_COMPILER = """\
#!/bin/sh
case " $* " in
*" -c "*) if [ -e "${0%/*}/refuse" ]; then echo "refused: $*" >&2; exit 1; fi ;;
esac
exec COMPILER "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Machines that compile one package, with the same programs.

    Attributes:
        folder: Of all of them.
    """

    folder: Path

    def write(self, project: Project, *, files: int = 6, **stage: object) -> Path:
        """Write a project of one stage, and return its sources: small C++ files."""
        native = Native(name="kernels", files=files, count=self.folder / "count")
        output = native.write(project)
        env = {it: native.env[it] for it in native.env if it != "CCACHE_DISABLE"}
        declare_solo(project, outputs=[output], env=env, **stage)
        tree = project.folder / "kernels"
        for number in range(files):
            text = f"int value_{number}() {{ return {number}; }}\n"
            tree.joinpath(f"part{number:02}.cc").write_text(text)
        return tree

    def variables(self, machine: str) -> dict[str, str]:
        """Return the variables of a machine: its programs, and its compiler cache."""
        programs = self.folder / "bin"
        with suppress(FileExistsError):
            folder_of(programs, "ccache")
            for name in ("cc", "gcc", "c++", "g++"):
                compiler = programs / name
                real = compiler.resolve()
                compiler.unlink()
                compiler.write_text(_COMPILER.replace("COMPILER", str(real)))
                compiler.chmod(0o755)
                os.utime(compiler, (1e9, 1e9))
        return {"PATH": str(programs), "CCACHE_DIR": str(self.folder / machine)}

    def refuse(self) -> None:
        """Let no compiler compile from now on."""
        self.folder.joinpath("bin/refuse").touch()

    def merge(self, *machines: str, into: str) -> None:
        """Copy what machines have compiled to another one."""
        for machine in machines:
            there = self.folder / machine
            shutil.copytree(there, self.folder / into, dirs_exist_ok=True)
