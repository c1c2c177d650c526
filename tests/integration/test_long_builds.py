"""Long builds are checked before they compile, and the plan checks what it can."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.errors import BuildStagesError, PreflightError
from nox_buildstages.preflight.facts import LONG
from support.packages import make_tree
from support.pair import declare_solo
from support.sessions import Sessions

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

pytestmark = pytest.mark.slow

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n".format(
    "0" * 64
)


class Kernels:
    """A project with an output in a folder, whose last build took ten minutes."""

    def __init__(self, project: Project, **settings: Any) -> None:  # noqa: ANN401
        self.project, self.number = project, 1
        self.tree = project.folder / "kernels"
        files: dict[str, str | bytes] = {"kern.c": "int kern(void) { return 0; }\n"}
        make_tree(
            self.tree,
            "kernels",
            "1.0",
            files=files,
            settings={"compile": ["kern.c"], **settings},
        )
        self.declare()
        self.run("build-stage-only")
        for path in project.store.glob("wheels/*/record.json"):
            record = json.loads(path.read_text())
            assert record["tree-size"] > 0
            record["seconds"] = 10 * LONG
            path.write_text(json.dumps(record))

    def declare(self, **stage: Any) -> None:  # noqa: ANN401 - TOML
        """Declare the stage, with something that makes a new build necessary."""
        self.number += 1
        env = {"NUMBER": str(self.number), **stage.pop("env", {})}
        outputs = ["kernels @ ./kernels"]
        declare_solo(self.project, outputs=outputs, env=env, **stage)

    def run(self, session: str, *words: str, **variables: str) -> None:
        """Run a session in this process, in a new run."""
        Sessions(
            project=self.project, id=f"{self.number}-run", variables=variables
        ).run_body(session, *words)

    def refused(self, **variables: str) -> PreflightError:
        """Return the error of a build that doesn't begin, because of its checks."""
        self.remove_objects()
        with pytest.raises(PreflightError) as caught:
            self.run("build-stage-only", **variables)
        assert not self.objects()
        return caught.value

    def objects(self) -> list[Path]:
        """Return what was compiled in unfinished builds."""
        return [*self.project.store.glob("builds/**/kern*.o")]

    def remove_objects(self) -> None:
        """Forget what earlier builds compiled."""
        assert not self.objects()


@pytest.fixture
def kernels(project: Project, caplog: pytest.LogCaptureFixture) -> Kernels:
    caplog.set_level("INFO", logger="nox")
    return Kernels(project)


def test_a_build_that_would_fail_does_not_begin(
    kernels: Kernels, caplog: pytest.LogCaptureFixture
) -> None:
    """A pointer of git-lfs is found before the compile; the checks can be left out."""
    (kernels.tree / "weights.bin").write_text(LFS)
    error = kernels.refused()
    assert error.summary == (
        "kernels (stage only): weights.bin is in git-lfs, and the source has only a"
        " pointer"
    )
    assert error.hint.startswith("install git-lfs")
    assert error.details == ["nothing was compiled; to build anyway: -- --no-preflight"]
    kernels.run("build-stage-only", "--no-preflight")
    assert "kernels: checked" not in caplog.text


def test_a_build_that_passes(
    kernels: Kernels, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a line for each check, and what the trial did."""
    kernels.declare()
    kernels.run("build-stage-only")
    log = (kernels.project.wheelhouse / "logs/kernels.log").read_text()
    assert " ✓ kernels: C compiles and links (cc)\n" in log
    assert " ✓ kernels: headers of Python" in log
    assert "checks before it compiles took" in caplog.text


def test_a_trial_with_the_variables_of_the_build(kernels: Kernels) -> None:
    """A compiler or a flag that doesn't work is found within a second."""
    kernels.declare(env={"CFLAGS": "-not-an-option"})
    error = kernels.refused()
    problem = "three lines of C don't compile: cc: error: unrecognized command-line"
    assert error.problem.startswith(problem)
    kernels.declare(env={"CC": "no-such-compiler"})
    problem = "three lines of C don't compile: no-such-compiler isn't on PATH"
    assert kernels.refused().problem == problem
    kernels.declare(env={"LDFLAGS": "-lnothing"})
    assert "don't link" in kernels.refused().problem


def test_a_plan_checks_what_needs_no_environment(
    kernels: Kernels, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lines are below the outputs, and in the JSON; no build, no lines."""
    kernels.declare()
    capsys.readouterr()
    kernels.run("build-stages-plan")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["build  kernels  1.0  only  env NUMBER '2' → '3'", ""]
    assert " ✓ store and wheelhouse can be written to" in lines
    assert lines[-1] == (
        " · checked when the stage starts: Python headers, git-lfs, submodules, trial"
        " compile"
    )
    kernels.run("build-stages-plan", "--json")
    found = json.loads(capsys.readouterr().out)["preflight"]
    assert {it["state"] for it in found} >= {"ok", "later"}
    assert found[-1]["check"] == "store and wheelhouse"
    kernels.run("build-stage-only")
    kernels.run("build-stages-plan")
    kernels.run("build-stages-plan", "--json")
    text, _, document = capsys.readouterr().out.partition("\n")
    assert text.startswith("cached")
    assert json.loads(document)["preflight"] == []


def test_too_little_disk_or_memory(
    kernels: Kernels, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan says so, and the stage doesn't begin."""
    for path in kernels.project.store.glob("wheels/*/record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "tree-size": 10**18}))
    kernels.declare(**{"memory-per-job": "900TB"})
    capsys.readouterr()
    kernels.run("build-stages-plan")
    printed = capsys.readouterr().out
    assert " ✗ kernels: a job needs 900.0 TB of memory, and builds here have" in printed
    assert "and the last build took 1.0 EB\n     free some space" in printed
    error = kernels.refused()
    assert error.problem.startswith("a job needs 900.0 TB of memory")
    assert any("the last build took" in it for it in error.details)


def test_the_word_is_for_builds(kernels: Kernels) -> None:
    """Elsewhere it is refused, and near misses are named."""
    with pytest.raises(BuildStagesError, match="--no-preflight is for build-stages"):
        kernels.run("build-stages-plan", "--no-preflight")
    with pytest.raises(BuildStagesError, match="did you mean --no-preflight"):
        kernels.run("build-stage-only", "--no-prefligt")
