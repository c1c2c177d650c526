"""Find what a build wanted from beside its source, in the log of the build."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.sources.trees import widen
from nox_buildstages.system.files import open_file
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection

_PATHS = re.compile(
    r"""(?:(?<=-I)|(?<=-L)|(?<![\w./-]))"""  # not in the middle of a path
    r"""((?:/|\.\./)[^\s'"`:;,()<>\[\]]{1,200})"""
)
_MAX_LEVELS = 3
_LOG_SIZE = 1 << 20


class Origin(Value):
    """The folder that an output's source was copied from."""

    output: str
    root: Path  # of the project with the table
    top: Path  # the copied folder
    subdirectory: str | None  # of the output in the copied folder

    def find_hint(self, log: Path, trees: Collection[Path]) -> str:
        """Return a hint if a log names something beside the source; else nothing.

        ``trees`` are the paths of the output's folder, as the build may see them.
        """
        if not log.is_file():
            return ""
        folder = self.top / (self.subdirectory or "")
        with open_file(log) as stream:
            stream.seek(max(0, log.stat().st_size - _LOG_SIZE))
            text = stream.read().decode(errors="replace")
        for path in dict.fromkeys(map(Path, _PATHS.findall(text))):
            for base in trees if path.is_absolute() else (folder,):
                relative = Path(os.path.relpath(base / path, base))
                levels = relative.parts.count("..")
                inside = Path(*relative.parts[levels:])
                if (
                    0 < levels <= _MAX_LEVELS
                    and inside.parts
                    and (folder / relative).exists()
                    and not (folder / inside).exists()
                    and not (path.is_absolute() and path.exists())
                ):
                    whole = widen(self.root, self.top, folder, folder / relative)
                    if whole is not None:
                        return (
                            f"its build looks for {relative.as_posix()}, which isn't in"
                            " its source; name the folder that holds both:\n"
                            f'  outputs = ["{self.output} @ {whole}"]'
                        )
        return ""
