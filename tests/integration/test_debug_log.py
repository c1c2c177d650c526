"""The debug log of sessions, which shows why something happened elsewhere."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from nox_buildstages.commands.final import run_final
from nox_buildstages.commands.stage import run_stage
from nox_buildstages.errors import UsageError
from nox_buildstages.run.debug_log import VARIABLES
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.processes import open_debug_log
from nox_buildstages.run.run import Run
from nox_buildstages.store.build_dir import BuildDirectory
from nox_buildstages.system.locks import hold_lock
from nox_buildstages.value import replace
from support.index import Index
from support.packages import make_tinybackend
from support.pair import KERNELS, Pair, publish
from support.project import hermetic_env, make_project
from support.sessions import Sessions

if TYPE_CHECKING:
    from support.project import Project

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \d+ (?P<session>build-\S+): (?P<text>.+)"
)
PAGE = Path(__file__).parents[2] / "docs/reference/environment-variables.md"


SECRETS = {
    "UV_INDEX_OWN_USERNAME": "s3cr3t",
    "UV_INDEX_OWN_PASSWORD": "s3cr3t",
    "ARCH": "s3cr3t",
    "HUB_TOKEN": "s3cr3t",
}


@dataclass(frozen=True, kw_only=True)
class Logs:
    """The lines of a cold run of a pair, and of a run with nothing to do."""

    index: str
    cold: list[str]
    warm: list[str]


def debug(project: Project, value: str = "debug") -> Project:
    """Return the project with the variable set."""
    return replace(project, env={**project.env, "NOX_BUILDSTAGES_LOG": value})


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, caches: Path) -> Logs:
    """The logs of runs that know secrets: a login, tokens, and values for a build."""
    folder = tmp_path_factory.mktemp("debug")
    with Index(folder / "private", login=("j.doe", "s3cr3t")) as index:
        make_tinybackend(index.folder)
        publish(index)
        env = hermetic_env(folder / "scratch", caches, index)
        url = index.url.replace("://", "://j.doe:s3cr3t@")
        urls = {"UV_DEFAULT_INDEX": url, "UV_FIND_LINKS": f"{url}?token=s3cr3t"}
        project = make_project(folder / "project", {**env, **SECRETS, **urls})
        Pair(first={"pass-env": ["ARCH", "HUB_TOKEN"]}).write(project)
        log = project.wheelhouse / "logs/debug.log"
        build(Sessions(project=debug(project)), "first", "second")
        cold = log.read_text("utf-8")
        build(Sessions(project=debug(project), id="2-second"), "first")
        warm = log.read_text("utf-8").removeprefix(cold)
    return Logs(index=index.url, cold=cold.splitlines(), warm=warm.splitlines())


def build(sessions: Sessions, *stages: str) -> None:
    """Run the sessions of stages, and the final stage."""
    project = sessions.project
    logs, root = project.wheelhouse / "logs", project.folder
    for stage in stages:
        name = f"build-stage-{stage}"
        with open_debug_log(sessions.run, name, logs=lambda: logs, root=root):
            workspace = sessions.open(name)
            run_stage(workspace, workspace.cell.graph.stages[stage])
    with open_debug_log(sessions.run, "build-stages", logs=lambda: logs, root=root):
        run_final(sessions.open("build-stages"))


def find(lines: list[str], session: str, pattern: str) -> str:
    """Return the first text of a session that fits; empty if there is none."""
    matches = (LINE.fullmatch(line) for line in lines)
    texts = (
        it["text"] for it in matches if it is not None and it["session"] == session
    )
    return next((it for it in texts if re.search(pattern, it)), "")


def test_every_line_has_its_time_process_and_session(logs: Logs) -> None:
    """Nothing else is in the log, and the user hears once of it in each run."""
    for lines in (logs.cold, logs.warm):
        assert [line for line in lines if not LINE.fullmatch(line)] == []
        printed = "printed: debug log: wheelhouse/logs/debug.log"
        assert len([line for line in lines if line.endswith(printed)]) == 1


def test_a_cold_build_is_explained(logs: Logs) -> None:
    """Versions, programs, locks, rounds, keys, the store, and what differs."""
    patterns = (
        r"^nox-buildstages \S+, nox \S+, uv \S+, Python \S+ \(/.+\), \S+",
        r"^command line, in /.+: \S+",
        r"^variable NOX_BUILDSTAGES_LOG=debug$",
        r"^process \d+ in /\S+: \S*uv pip compile .+",
        r"^process \d+: status 0, \d+\.\d\d s$",
        r"^holding lock /.+/locks/locking-\w+\.lock$",
        r"^the lock files can't be used: there are no lock files in build-stages$",
        r"^inputs of the lock files: .*stages [0-9a-f]{8}, ",
        r"^choose sources: kernels from http://\S+/kernels-1\.0\.tar\.gz",
        r"^read declarations: of kernels, models$",
        r"^resolve provisionally: first \(.+\), second \(.+\), final \(",
        r"^round 1: match versions$",
        r"^round 1: resolve finally: first \(",
        r"^ask backends: first \(",
        r"^key of kernels: [0-9a-f]{64} from name \w+, .*environment \w+, ",
        r"^the local store lacks [0-9a-f]{64}$",
        r"^syncing /.+/build-stage-first: .*tensorlib 2\.0 is missing",
        r"^build directory /\S+ doesn't resume: it is new$",
        r"^printed: building kernels 1\.0 with \d+ jobs?$",
        r"^the session is done$",
    )
    session = "build-stage-first"
    missing = [it for it in patterns if not find(logs.cold, session, it)]
    assert not missing, "\n".join(logs.cold)


def test_later_sessions_find_what_earlier_ones_built(logs: Logs) -> None:
    """The second stage uses the first one's wheel, and the runtime both."""
    assert find(logs.cold, "build-stage-second", "^syncing .*kernels 1.0 is missing")
    assert find(logs.cold, "build-stages", "^syncing .*models 1.0 is missing")


def test_a_run_with_nothing_to_do_is_explained(logs: Logs) -> None:
    """The key is the same, so the wheel is in the store, and nothing is started."""
    session = "build-stage-first"
    key = find(logs.cold, session, "^key of kernels: ")
    assert find(logs.warm, session, "^key of kernels: ") == key
    assert find(logs.warm, session, f"^the local store has \\w{{64}}: {KERNELS}$")
    unneeded = "^(process|syncing|build directory|round)|can't be used|lacks"
    assert not find(logs.warm, session, unneeded)


def test_the_log_has_no_secrets(logs: Logs) -> None:
    """Logins, tokens in URLs, and variables that are secret or only for a build."""
    masked = logs.index.replace("://", "://****@")
    for variable in (
        f"UV_DEFAULT_INDEX={masked}",
        f"UV_FIND_LINKS={masked}?****",
        "UV_INDEX_OWN_PASSWORD=****",
    ):
        assert find(
            logs.cold, "build-stage-first", rf"^variable {re.escape(variable)}$"
        )
    lines = (*logs.cold, *logs.warm)
    assert not [line for line in lines if "s3cr3t" in line or "j.doe" in line]


def test_a_failure_is_one_line(project: Project) -> None:
    """The error that ends the session is the log's last line."""
    run, logs = Sessions(project=debug(project)).run, project.wheelhouse / "logs"

    def fail() -> None:
        with open_debug_log(
            run, "build-stages", logs=lambda: logs, root=project.folder
        ):
            run.report("two\nlines")
            raise UsageError(problem="it is wrong", details=["a secret"])

    with pytest.raises(UsageError):
        fail()
    lines = logs.joinpath("debug.log").read_text("utf-8").splitlines()
    texts = [find([line], "build-stages", ".") for line in lines[-2:]]
    assert texts == [r"printed: two\nlines", "the session failed: it is wrong"]


def test_waiting_and_resuming_are_explained(tmp_path: Path) -> None:
    """Which lock another process holds, and why a build directory isn't used."""
    outer = {"NOX_BUILDSTAGES_LOG": "debug"}
    run = Run(id="1", journal=Journal.of(tmp_path, "1"), outer=outer)
    path, build_dir = tmp_path / "a.lock", BuildDirectory(tmp_path / "builds")
    other = FileLock(path)
    other.acquire()
    with open_debug_log(run, "build-stages", logs=lambda: tmp_path, root=tmp_path):
        with hold_lock(path, on_wait=other.release):
            pass
        for environment in ("one", "one", "two"):
            build_dir.begin(Path(environment), lambda folder: folder)
    lines = (tmp_path / "debug.log").read_text("utf-8").splitlines()
    texts = [find([line], "build-stages", ".") for line in lines[-6:-1]]
    assert texts[:2] == [f"waiting for lock {path}", f"holding lock {path}"]
    subject = f"build directory {build_dir.folder} "
    assert [text.removeprefix(subject) for text in texts[2:]] == [
        "doesn't resume: it is new",
        "resumes",
        "doesn't resume: it is of another environment",
    ]


def test_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Not even if lines are longer than the buffer of a file."""
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(write_long_lines, [tmp_path] * 4, "abcd"))
    lines = (tmp_path / "debug.log").read_text("utf-8").splitlines()
    assert len([it for it in lines if LINE.fullmatch(it)]) == len(lines)
    long = [it for it in lines if re.search(r": printed: (a+|b+|c+|d+)$", it)]
    assert len(long) == 4 * 25


def write_long_lines(folder: Path, letter: str) -> None:
    """Write some lines into a log, each of one letter."""
    outer = {"NOX_BUILDSTAGES_LOG": "debug"}
    run = Run(id=letter, journal=Journal.of(folder, letter), outer=outer)
    with open_debug_log(run, "build-stages", logs=lambda: folder, root=folder):
        for _ in range(25):
            run.report(letter * 30_000)


def test_no_log_is_written_unless_the_user_asks_for_it(project: Project) -> None:
    """An empty variable is like none, and a wrong value is an error."""
    logs = project.wheelhouse / "logs"
    for it in (project, debug(project, "")):
        run = Sessions(project=it).run
        with open_debug_log(
            run, "build-stages", logs=lambda: logs, root=project.folder
        ):
            run.report("a line")
        assert not project.wheelhouse.exists()
    run = Sessions(project=debug(project, "trace")).run
    with pytest.raises(UsageError) as caught:
        open_debug_log(run, "build-stages", logs=lambda: logs, root=project.folder)
    assert str(caught.value) == (
        "error: NOX_BUILDSTAGES_LOG is 'trace'\n"
        "help: for a debug log, set it to debug:\n"
        "  export NOX_BUILDSTAGES_LOG=debug"
    )


def test_the_log_has_every_variable_that_is_documented() -> None:
    """Those that nox-buildstages reads, and no variable of somebody else."""
    read = PAGE.read_text("utf-8").split("\n## ")[1]
    names = re.findall("`([A-Z_]+)`", " ".join(re.findall("### .*", read)))
    assert len(names) > 10
    assert [name for name in names if not VARIABLES.fullmatch(name)] == []
    assert not VARIABLES.fullmatch("AWS_PROFILE")
