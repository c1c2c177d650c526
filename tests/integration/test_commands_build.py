"""The sessions that build: the bodies of a stage and of the final stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.commands.final import run_final
from nox_buildstages.commands.lock import run_lock
from nox_buildstages.commands.plan.project import run_plan
from nox_buildstages.commands.release.release import run_release
from nox_buildstages.commands.stage import run_stage
from nox_buildstages.errors import (
    BuildError,
    BuildStagesError,
    ChangedEnvironmentError,
    LockError,
    ResolutionError,
    StaleLockError,
    WheelError,
)
from nox_buildstages.system.machine import Machine
from nox_buildstages.value import replace
from support.packages import make_sdist, make_tree, make_wheel
from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    declare,
    declare_solo,
    installed,
    kernels_tree,
    publish,
)
from support.sessions import Sessions

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project


@pytest.fixture(autouse=True)
def _published(index: Index, caplog: pytest.LogCaptureFixture) -> None:
    publish(index)
    caplog.set_level("INFO", logger="nox")


@pytest.fixture
def sessions(project: Project) -> Sessions:
    """A project with locks and no wheels."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    return Sessions(project=project)


OWN_BACKEND = """
[build-system]
requires = ["tinybackend"]
build-backend = "backend"
backend-path = ["."]
"""


def build(sessions: Sessions, stage: str, *words: str) -> None:
    workspace = sessions.open(f"build-stage-{stage}", *words)
    run_stage(workspace, workspace.cell.graph.stages[stage])


def test_two_stages_and_the_runtime(
    sessions: Sessions,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A stage delivers its wheel; the final stage installs and checks the runtime."""
    checks = [["pytest", "-q"], ["python-config"]]
    Pair(final={"imports": ["models"], "checks": checks}).write(sessions.project)
    build(sessions, "first")
    assert sessions.project.wheels() == [KERNELS]
    build(sessions, "second")
    build(sessions, "second")
    assert sessions.project.wheels() == [KERNELS, MODELS]
    assert f"cached {MODELS}" not in caplog.messages  # this run built it
    assert run_final(sessions.open("build-stages")) is None
    wanted = {"kernels": "1.0", "models": "1.0", "tensorlib": "2.0"}
    assert installed(sessions.project.folder / ".nox/build-stages") == wanted
    assert (sessions.project.wheelhouse / ".gitignore").read_text("utf-8") == "*\n"
    names = [(argv[0], argv[-1]) for argv in sessions.programs]
    assert names == [("pytest", "-q"), ("python-config",) * 2]
    assert "importing models" in caplog.messages
    summary = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in summary[:3]] == ["output", "kernels", "models"]
    assert " 2 wheels, 2 built" in summary[4]
    assert "runtime: 3 packages · imports: 1 · checks: 2" in summary[5]


def test_a_second_run_finds_every_wheel(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """A stage says which wheels it has from the store."""
    build(sessions, "first")
    build(Sessions(project=sessions.project, id="2-second"), "first")
    assert caplog.messages[-1] == f"cached {KERNELS}"


def test_the_checks_are_skipped_if_nothing_may_run(sessions: Sessions) -> None:
    """With `--install-only` the session ends with the reason."""
    Pair(final={"imports": ["models"]}).write(sessions.project)
    build(sessions, "first")
    build(sessions, "second")
    sessions.may_run = False
    reason = run_final(sessions.open("build-stages"))
    assert reason == "--install-only: the environment is ready, nothing was checked"
    assert sessions.programs == []


@pytest.mark.parametrize("stops", [False, True])
def test_a_failed_build_leaves_out_no_other_output(
    project: Project, index: Index, caplog: pytest.LogCaptureFixture, *, stops: bool
) -> None:
    """The session fails at the end with all errors.

    With -x no other build begins; those that have begun come to their end.
    """
    names = ["ash", "birch", "cedar"]
    for name in names:
        slow = {"says": ["begun"], "pause": 1.5 if stops else 0}
        settings = slow if name == "birch" else {"faults": ["raise"]}
        make_sdist(index.folder, name, "1.0", settings=settings)
    stage = {"name": "only", "outputs": names}
    declare(project, {"final": {"requirements": names}, "stage": [stage]})
    sessions = Sessions(project=project)
    sessions.run.stops_on_error = stops
    with pytest.raises(BuildError) as caught:
        sessions.run_body("build-stage-only")
    lines = "\n".join(caught.value.lines())
    is_serial = Machine().cores() == 1
    left_out = stops and is_serial
    assert project.wheels() == ([] if left_out else ["birch-1.0-py3-none-any.whl"])
    assert ("; building the other outputs" in caplog.text) is not stops
    if stops:
        assert caught.value.summary.startswith("ash 1.0 (stage only) failed to build")
        assert ("waiting for the build of birch" in caplog.text) is not is_serial
        assert "building cedar" not in caplog.text
        return
    assert caught.value.summary.endswith("outputs failed: ash 1.0, cedar 1.0")
    for name in ("ash", "cedar"):
        assert f"error: {name} 1.0 (stage only) failed to build" in lines
        assert f"logs/{name}.log" in lines


def test_a_failed_build_is_in_the_journal(project: Project) -> None:
    """The process that outlives the session can say so."""
    declare_solo(project, outputs=[kernels_tree(project, faults=["raise"])])
    sessions = Sessions(project=project)
    with pytest.raises(BuildError):
        build(sessions, "only")
    events = sessions.run.journal.events()
    ends = [(it.step, it.state) for it in events if it.state == "failed"]
    assert ends == [("compile", "failed"), ("output", "failed"), ("stage", "failed")]
    (compiled, *_) = (it for it in events if it.state == "failed")
    assert (compiled.output, compiled.stage) == ("kernels", "only")
    problem = compiled.facts["problem"].partition(" after ")[0]  # on a slow machine
    assert problem == "kernels 1.0 (stage only) failed to build"


def test_locks_are_made_once_in_a_run(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """Every session with `--upgrade` asks for it; the first one makes the locks."""
    build(sessions, "first", "--upgrade")
    build(sessions, "second", "--upgrade")
    run_lock(sessions.open("build-stages-lock", "--check"))
    wrote = [line for line in caplog.messages if line.startswith("wrote to ")]
    assert len(wrote) == 1
    assert caplog.messages[-1] == "the lock files are up to date"


def test_locks_that_fail_are_made_once_in_a_run(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """Other sessions name the one that failed, and the next run tries again."""
    Pair(top={"constraints": ["tensorlib<1"]}).write(sessions.project)
    with pytest.raises(ResolutionError):
        build(sessions, "first")
    for word in ((), ("--upgrade",)):
        with pytest.raises(LockError) as caught:
            build(sessions, "second", *word)
        assert str(caught.value) == (
            "error: the lock files can't be made: session build-stage-first of this run"
            " failed to make them"
        )
    assert sum(line.endswith("; locking") for line in caplog.messages) == 1
    with pytest.raises(ResolutionError):
        build(Sessions(project=sessions.project, id="2-second"), "second")


def test_what_has_no_effect_is_said(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that no environment contains is an error; an unused wheel has a line."""
    stage = {"name": "only", "outputs": ["kernels"], "dependencies": ["tensorlib"]}
    table = {"final": {"requirements": ["tensorlib"]}, "stage": [stage]}
    declare(project, {**table, "match-runtime": ["tensorlibs"]})
    with pytest.raises(LockError, match="contains tensorlibs; did you mean 'tensorl"):
        run_lock(Sessions(project=project).open("build-stages-lock"))
    assert not (project.folder / "build-stages").exists()
    declare(project, table)
    sessions = Sessions(project=project, id="2-second")
    build(sessions, "only")
    run_final(sessions.open("build-stages"))
    unused = [line for line in caplog.messages if line.startswith("nothing installs k")]
    assert len(unused) == 2  # while locking, and at the end
    declare(project, {**table, "package": {"kernels": {"unused": True}}})
    caplog.clear()
    run_final(sessions.open("build-stages"))
    assert "nothing installs" not in caplog.text


def test_what_a_build_may_lack_is_said(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Variables that it doesn't see, an empty submodule, and a tag that isn't true.

    The wheel of that tag isn't released.
    """
    files: dict[str, str | bytes] = {
        "setup.py": "os.environ['KERNELS_OPS']",
        ".gitmodules": '[submodule "x"]\n\tpath = third_party/x\n',
        "kernels/ops.so": b"\x7fELF",
    }
    make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    variables = {"env": {"BOTH": "1"}, "pass-env": ["BOTH"]}
    declare_solo(project, outputs=["kernels @ ./kernels"], **variables)
    sessions = Sessions(project=project)
    outer = {"KERNELS_OPS": "1", "MAX_JOBS": "4", "BOTH": "2"}
    sessions.run.outer = {**sessions.run.outer, **outer}
    build(sessions, "only")
    run_final(sessions.open("build-stages"))
    said = caplog.text
    assert said.count('to pass them: pass-env = ["KERNELS_OPS"]') == 1
    assert said.count("stage only: builds ignore MAX_JOBS; to limit") == 1
    both = "stage only: pass-env has no effect on BOTH, because env sets it"
    assert said.count(both) == 1
    assert said.count("the submodule third_party/x is empty; run git -C ") == 1
    assert f"{KERNELS} is for any platform by its tag, but contains" in said
    with pytest.raises(WheelError, match="so nothing is released"):
        run_release(sessions.open("build-stages-release"))
    assert not (project.wheelhouse / "SHA256SUMS").exists()


NO_CUDA = "raise OSError('CUDA_HOME environment variable is not set')"


@pytest.mark.parametrize(
    ("code", "cuda", "advice", "has_metadata"),
    [
        ("raise OSError(28, 'No space left on device')", "", "a disk is full", False),
        ("raise OSError('[Errno -2] Name or service not known')", "", "", False),
        ("import torch", "", 'add "torch" to the dependencies of stage only', False),
        (NO_CUDA, "", "nvcc isn't found: add", False),
        (NO_CUDA, "/n", "nvcc isn't found in /n: to lock without it, declare", True),
    ],
)
def test_metadata_is_advice_if_nothing_else_is(
    project: Project, code: str, cuda: str, advice: str, *, has_metadata: bool
) -> None:
    """Or if another machine may have what is missing; byte order marks are ignored."""
    mark = "\N{BYTE ORDER MARK}"
    own = '[project]\nname = "kernels"\nversion = "1.0"\ndynamic = ["dependencies"]\n'
    files = {"backend.py": mark + code, "pyproject.toml": f"{mark}{OWN_BACKEND}{own}"}
    make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    env = {"CUDA_HOME": cuda} if cuda else {}
    declare_solo(project, outputs=["kernels @ ./kernels"], env=env)
    with pytest.raises(BuildError) as caught:
        build(Sessions(project=project), "only")
    assert advice in caught.value.hint
    assert ("requires-dist = " in caught.value.hint) == has_metadata


def test_locks_that_are_out_of_date_are_an_error(sessions: Sessions) -> None:
    """`--check` never writes them, and neither does a build with `--locked`."""
    run_lock(sessions.open("build-stages-lock"))
    Pair(top={"constraints": ["tensorlib<2"]}).write(sessions.project)
    later = Sessions(project=sessions.project, id="2-second")
    with pytest.raises(StaleLockError):
        run_lock(later.open("build-stages-lock", "--check"))
    with pytest.raises(StaleLockError):
        build(later, "first", "--locked")


TABLER = """
from pathlib import Path

_KEPT = Path(__file__).with_name("table.txt")
_KEPT.write_text(str(_KEPT.exists()))
"""
"""A module that writes beside itself when it is imported."""


def test_a_dependency_that_writes_beside_itself_needs_a_copy(
    project: Project, index: Index
) -> None:
    """The message names it and the key; each build and question begins afresh."""
    make_wheel(index.folder, "tabler", "1.0", files={"tabler/__init__.py": TABLER})
    make_sdist(
        *(index.folder, "kernels", "1.0"),
        static=False,
        settings={"import-first": ["tabler"]},
    )
    declare_solo(project, dependencies=["tabler"])
    with pytest.raises(ChangedEnvironmentError, match="folder of tabler") as caught:
        build(Sessions(project=project), "only")
    assert caught.value.hint.endswith("# only\n  private-environment = true")
    declare_solo(project, dependencies=["tabler"], **{"private-environment": True})
    sessions = Sessions(project=project, id="2-second")
    build(sessions, "only")
    assert project.wheels() == [KERNELS]
    location = sessions.open("build-stage-only").environment.location
    assert not [*location.rglob("table.txt")]
    assert not (location / "private").exists()


@pytest.mark.parametrize(
    "mode", ["hardlink", pytest.param("symlink", marks=pytest.mark.slow)]
)
def test_a_build_that_changes_a_file_in_place_changes_it_nowhere_else(
    project: Project, index: Index, tmp_path: Path, mode: str
) -> None:
    """Neither in uv's cache nor in the runtime, which may share the file."""
    files = {"tabler/__init__.py": "clean = True\n"}
    make_wheel(index.folder, "tabler", "1.0", files=files)
    make_sdist(index.folder, "kernels", "1.0")
    cache = tmp_path / "cache"  # on one disk with the environments
    env = {**project.env, "UV_LINK_MODE": mode, "UV_CACHE_DIR": str(cache)}
    project = replace(project, env=env)
    stage: dict[str, Any] = {"name": "only", "dependencies": ["tabler"]}
    stage["outputs"] = ["kernels"]
    final = {"requirements": ["kernels", "tabler"]}
    declare(project, {"final": final, "stage": [stage]})
    sessions = Sessions(project=project)
    build(sessions, "only")
    run_final(sessions.open("build-stages"))
    code = """
import tabler
from pathlib import Path
from tinybackend import *
with Path(tabler.__file__).open("a") as file:
    file.write("clean = False")
"""
    pyproject = OWN_BACKEND.replace('["', '["tabler", "', 1)
    files = {"backend.py": code, "pyproject.toml": pyproject}
    make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    stage["outputs"] = ["kernels @ ./kernels"]
    declare(project, {"final": final, "stage": [stage]})
    with pytest.raises(ChangedEnvironmentError) as caught:
        build(Sessions(project=project, id="2-second"), "only")
    (refused,) = caught.value.details
    assert refused.startswith("refused to write lib/")
    stage["outputs"] = ["kernels"]
    declare(project, {"final": final, "stage": [stage]})
    sessions = Sessions(project=project, id="3-third")
    build(sessions, "only", "--rebuild")
    run_final(sessions.open("build-stages"))
    installed = [*project.folder.glob(".nox/*/lib/*/site-packages/tabler/__init__.py")]
    assert [it.read_text() for it in installed] == ["clean = True\n"] * 2


def test_init_proposes_a_copy_for_a_build_that_needs_it(
    project: Project, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the package whose folder changes, as a comment."""
    make_wheel(index.folder, "tabler", "1.0", files={"tabler/__init__.py": TABLER})
    requires = ("tinybackend", "tabler")
    make_sdist(
        *(index.folder, "kernels", "1.0"),
        build_requires=requires,
        static=False,
        settings={"import-first": ["tabler"]},
    )
    declare(project, {"final": {"requirements": ["kernels"]}})
    Sessions(project=project).run_body("build-stages-init")
    proposal = capsys.readouterr().out
    assert "# its build changes the folder of tabler\n" in proposal
    assert proposal.endswith("\nprivate-environment = true\n")


def test_packages_that_disagree_about_a_file_are_reported(
    project: Project, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    """In one line; a release of both is refused, with the rest as it was."""
    names = ["kernels", "models"]
    for name in names:
        files = {"shared.py": f"whose = {name!r}", "same.py": ""}
        settings = {"also": [*files]}
        make_sdist(index.folder, name, "1.0", files=files, settings=settings)
    stage = {"name": "only", "outputs": names}
    declare(project, {"final": {"requirements": names}, "stage": [stage]})
    sessions = Sessions(project=project)
    build(sessions, "only")
    run_final(sessions.open("build-stages"))
    overlap = "kernels 1.0 and models 1.0 both install shared.py, with different"
    reports = [line for line in caplog.messages if overlap in line]
    assert reports == [f"runtime environment: {overlap} contents; kernels 1.0 wins"]
    before = sorted(project.wheelhouse.iterdir())
    with pytest.raises(BuildStagesError) as caught:
        run_release(sessions.open("build-stages-release"))
    assert caught.value.summary == f"the release: {overlap} contents"
    assert 'patches = ["patches/models.patch"]' in caught.value.hint
    assert sorted(project.wheelhouse.iterdir()) == before


def test_an_index_may_have_a_file_of_an_output(
    project: Project, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported in each run, and released."""
    files = {"shared.py": ""}
    make_wheel(index.folder, "another", "1.0", files=files)
    files = {"shared.py": "x = 1"}
    settings = {"also": [*files]}
    make_sdist(index.folder, "kernels", "1.0", files=files, settings=settings)
    only = {"name": "only", "outputs": ["kernels"]}
    final = {"requirements": ["kernels", "another"]}
    declare(project, {"final": final, "stage": [only]})
    overlap = "kernels 1.0 and another 1.0 both install shared.py, with different"
    for number in ("1", "2"):
        sessions = Sessions(project=project, id=f"{number}-run")
        build(sessions, "only")
        caplog.clear()
        run_final(sessions.open("build-stages"))
        assert (
            f"runtime environment: {overlap} contents; kernels 1.0 wins" in caplog.text
        )
    run_release(sessions.open("build-stages-release", "--vendor"))
    line = f"{overlap} contents; the installer decides which of the two wins"
    assert line in caplog.messages


def test_the_plan_is_printed(
    sessions: Sessions, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stdout, as a tree for people or as JSON for programs."""
    build(sessions, "first")
    run_plan(sessions.open("build-stages-plan"))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "kernels 1.0" in line and "cached" in line]
    assert [line for line in lines if "models 1.0" in line and "build" in line]
    run_plan(sessions.open("build-stages-plan", "--json"))
    assert capsys.readouterr().out.startswith("{")
