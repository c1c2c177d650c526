"""The program ``rebuild`` in a shell: run the build hook, and discard the wheel.

``python -I -m nox_buildstages.commands.shell.rebuild SETTINGS``
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pyproject_hooks import BackendUnavailable, BuildBackendHookCaller

from nox_buildstages.commands.shell.changes import list_stamps, note_made
from nox_buildstages.text import format_size, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main(settings: Path) -> int:
    """Run the hook as the settings say, print the result, and return a status."""
    given = json.loads(settings.read_text(encoding="utf-8"))
    env = {name: it for name, it in os.environ.items() if name not in given["without"]}
    env["PATH"] = given["path"]

    def run(
        cmd: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        subprocess.run(cmd, cwd=cwd, env={**env, **(extra_environ or {})}, check=True)

    hooks = BuildBackendHookCaller(
        given["tree"],
        given["backend"],
        given["backend-path"],
        runner=run,
        python_executable=given["python"],
    )
    top, started = Path(given["top"]), time.monotonic()
    before = list_stamps(top)
    with tempfile.TemporaryDirectory() as folder:
        try:
            name = hooks.build_wheel(folder, given["settings"])
            size = format_size(Path(folder, name).stat().st_size)
            result = f"built {name} ({size}), and discarded it,"
        except BackendUnavailable as error:
            name, result = "", f"failed: {given['backend']} can't be imported"
            print(error.traceback, file=sys.stderr)  # noqa: T201 - the output
        except subprocess.CalledProcessError as error:
            name, result = "", f"failed (exit status {error.returncode})"
    note_made(Path(given["made"]), before, list_stamps(top))
    seconds = format_time(time.monotonic() - started)
    print(f"rebuild: {result} after {seconds}", flush=True)  # noqa: T201 - the output
    return 0 if name else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
