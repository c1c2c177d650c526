"""A project of its own for a test, and nox run in it as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from support.nox_server import GRACE, nox_server

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from support.index import Index
    from support.prepared import EarlierRuns

NOXFILE = """\
import nox_buildstages

nox_buildstages.register()
"""

NO_ENV: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """How nox ended.

    Attributes:
        returncode: Its exit status; negative for the signal that killed it.
        output: What it printed, on stdout and stderr alike.
        stderr: What it printed there, if that was asked for and isn't in the output.
    """

    returncode: int
    output: str
    stderr: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A folder with a noxfile, which registers the sessions, and a pyproject.toml.

    Attributes:
        folder: Its root.
        env: All that nox sees of the environment.
        store: Of the wheels built, its own.
        prefix: Of nox's command: what runs it in some other surroundings.
        earlier_runs: What they left.
    """

    folder: Path
    env: Mapping[str, str]
    store: Path
    prefix: tuple[str, ...] = ()
    earlier_runs: EarlierRuns | None = None

    @property
    def pyproject(self) -> Path:
        """The file with the table."""
        return self.folder / "pyproject.toml"

    @property
    def noxfile(self) -> Path:
        """The noxfile."""
        return self.folder / "noxfile.py"

    @property
    def wheelhouse(self) -> Path:
        """Where the wheels go by default."""
        return self.folder / "wheelhouse"

    def write(self, text: str) -> None:
        """Write the pyproject.toml; common indentation is taken off."""
        self.pyproject.write_text(dedent(text), "utf-8")

    def nox(
        self,
        *args: str,
        env: Mapping[str, str] = NO_ENV,
        check: bool | None = True,
        timeout: float = 120,
        apart: bool = False,
    ) -> Completed:
        """Run nox to its end, in a fork of a process that has imported it.

        Args:
            *args: As on the command line; ``-db uv`` where no backend is given.
            env: Variables over those of the project.
            check: True where it must succeed, False where it must fail, or None.
            timeout: Seconds after which nox and all it started are killed.
            apart: Whether to keep stderr apart from stdout.

        Raises:
            AssertionError: It ended the other way; with what it printed.
        """
        if self.prefix or any(name.startswith("PYTHON") for name in env):
            assert not apart
            with self.start(*args, env=env) as process:
                output = process.communicate(timeout=timeout)[0]
            done = Completed(returncode=process.returncode, output=output)
        else:
            argv, variables = _with_backend(args), {**self.env, **env}
            with tempfile.TemporaryFile() as errors:
                returncode, output = nox_server().run(
                    *(argv, self.folder, variables),
                    timeout=timeout,
                    stderr=errors.fileno() if apart else None,
                )
                errors.seek(0)
                stderr = errors.read().decode("utf-8", "replace")
            done = Completed(returncode=returncode, output=output, stderr=stderr)
        if check is not None and check != (done.returncode == 0):
            printed = f"{done.output}{done.stderr}"
            message = f"nox {' '.join(args)} ended with {done.returncode}:\n{printed}"
            raise AssertionError(message)
        return done

    def prepare(self, session: str = "build-stages") -> None:
        """Run a session of the new project, unless an earlier test did just that.

        The environments are removed.
        """
        assert self.earlier_runs is not None
        self.earlier_runs.prepare(self, session)

    @contextlib.contextmanager
    def start(
        self, *args: str, env: Mapping[str, str] = NO_ENV
    ) -> Iterator[subprocess.Popen[str]]:
        """Run nox beside the test, in a process group of its own.

        At the end of the block nox is interrupted, for it alone knows the groups of
        its parallel sessions, and whatever is then left of its own group is killed.
        """
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "nox", *_with_backend(args)],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                _end(process)

    def manifest(self) -> Any:  # noqa: ANN401 - JSON
        """Return what the wheelhouse's manifest holds."""
        return json.loads(self.wheelhouse.joinpath("build-stages.json").read_bytes())

    def wheels(self) -> list[str]:
        """Return the names of the files of the wheels in the wheelhouse, sorted."""
        return sorted(path.name for path in self.wheelhouse.glob("*.whl"))

    def lock(self, name: str) -> dict[str, Any]:
        """Return the lock of a stage, or of ``final``."""
        path = self.folder / f"build-stages/pylock.{name}.toml"
        return tomllib.loads(path.read_text("utf-8"))


def make_project(
    folder: Path, env: Mapping[str, str], earlier_runs: EarlierRuns | None = None
) -> Project:
    """Make a project with a store of its own beside it."""
    store = folder.with_name(f"{folder.name}-store")
    folder.mkdir(parents=True)
    folder.joinpath("noxfile.py").write_text(NOXFILE, "utf-8")
    env = {**env, "NOX_BUILDSTAGES_CACHE_DIR": str(store)}
    return Project(folder=folder, env=env, store=store, earlier_runs=earlier_runs)


def outer_env() -> dict[str, str]:
    """Return this process's variables but those that would change what nox does.

    Nox sets two of uv's, which would make ``uv sync`` change the tests' environment.
    """
    changing = {"CI", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in changing and not name.startswith("NOX")
    }


def hermetic_env(scratch: Path, caches: Path, index: Index) -> dict[str, str]:
    """Return an environment that knows this index and nothing of this machine.

    Args:
        scratch: For the home and the temporary folder.
        caches: Of uv and virtualenv; may be shared by tests.
        index: For uv and pip.
    """
    for name in ("home", "tmp"):
        scratch.joinpath(name).mkdir(parents=True, exist_ok=True)
    return {
        "PATH": path_without_jobserver(scratch),
        "NOX_BUILDSTAGES_CHECKPOINT_SECONDS": "0.2",
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_INDEX_URL": index.url,
        "UV_CACHE_DIR": str(caches / "uv"),
        "UV_DEFAULT_INDEX": index.url,
        "UV_PYTHON_DOWNLOADS": "never",
        "VIRTUALENV_NO_PERIODIC_UPDATE": "1",
        "VIRTUALENV_OVERRIDE_APP_DATA": str(caches / "virtualenv"),
    }


@contextlib.contextmanager
def cores(number: int) -> Iterator[None]:
    """Let what is started in the block run on so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def path_without_jobserver(folder: Path) -> str:
    """Return the ``PATH``, with a make before it that knows no named pipes.

    So builds have a fixed number of jobs on every machine.
    """
    make = folder / "old" / "gmake"
    make.parent.mkdir(parents=True, exist_ok=True)
    make.write_text("#!/bin/sh\necho GNU Make 4.3\n", "utf-8")
    make.chmod(0o755)
    return os.pathsep.join((str(make.parent), os.environ["PATH"]))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may still have a number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        # Nox alone, which ends what it waits for. A signal to the whole group was
        # once seen to end the session's program, and nox to go on to the next one.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _with_backend(args: Sequence[str]) -> list[str]:
    own = args[: args.index("--")] if "--" in args else args
    if any(arg.startswith(("-db", "--default-venv-backend")) for arg in own):
        return list(args)
    return ["-db", "uv", *args]
