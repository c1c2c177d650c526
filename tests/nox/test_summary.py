"""What one sees at the end: the table of all outputs, whatever happened."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.value import replace
from support.packages import make_tree
from support.pair import declare
from support.pythons import HERE, another

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

HEAD = re.compile(r"^ output +version +stage +state +time +size( +why)?$")
STATES = "built|cached|failed|stopped|not built"
ROW = re.compile(rf"^ (\S+) +(?:1\.0 +)?(?:first|second|third) +({STATES})\b")
BOTH = pytest.mark.parametrize("flags", [(), ("-j", "2")], ids=["one", "parallel"])
PATIENCE = 30.0


def output(project: Project, name: str, *faults: str) -> str:
    """Make the source of an output in the project, and return it as a requirement."""
    settings = {"faults": faults}
    make_tree(project.folder / name, name, "1.0", settings=settings)
    return f"{name} @ ./{name}"


def declare_three(project: Project, *faults: str, **table: Any) -> None:  # noqa: ANN401
    """Write three stages, of which the first has an output with faults in its middle.

    The second one needs the first, and the third needs none.
    """
    outputs = [output(project, name) for name in ("early", "late", "after", "apart")]
    outputs[1:1] = [output(project, "faulty", *faults)]
    stages: list[dict[str, Any]] = [
        {"name": "first", "outputs": outputs[:3]},
        {"name": "second", "outputs": outputs[3:4], "needs": ["first"]},
        {"name": "third", "outputs": outputs[4:]},
    ]
    final = {"requirements": ["after"], **table.pop("final", {})}
    declare(project, {**table, "final": final, "stage": stages})


def fail(project: Project, name: str) -> None:
    """Put a fault into the output in the middle; its locks stay up to date."""
    output(project, "faulty", name)


def tables(said: str) -> list[dict[str, str]]:
    """Return the state of each output, for each table that was printed."""
    found: list[dict[str, str]] = []
    for line in said.splitlines():
        row = ROW.match(line)
        if HEAD.match(line):
            found.append({})
        elif found and row is not None:
            found[-1][row[1]] = row[2]
    return found


def journals(project: Project) -> list[Path]:
    """Return what is left of the notes of a run."""
    return [*project.wheelhouse.glob(".run-*")]


def notes_built(project: Project, name: str) -> bool:
    """Whether the run has noted by now that it has built an output."""
    texts = [path.read_text("utf-8") for path in journals(project)]
    notes = [json.loads(line) for text in texts for line in text.splitlines()]
    return any((it["state"], it.get("output")) == ("built", name) for it in notes)


@pytest.mark.slow
@BOTH
def test_a_session_of_the_user_that_requires_ours_ends_with_the_table(
    project: Project, flags: tuple[str, ...]
) -> None:
    """Also if a build fails; the report is written, and no journal is left."""
    declare_three(project)
    mine = (
        "import nox\n\n\n"
        '@nox.session(python=False, requires=["build-stages"])\n'
        "def mine(session):\n    pass\n\n\n"
    )
    project.noxfile.write_text(mine + project.noxfile.read_text("utf-8"), "utf-8")
    said = project.nox(*flags, "-s", "mine").output
    names = ("early", "faulty", "late", "after", "apart")
    assert tables(said) == [dict.fromkeys(names, "built")]
    assert re.search(
        r"^ 5 wheels, 5 built .* (?!0\.0 s)\d+(\.\d)? s ", said, re.MULTILINE
    )
    assert "runtime: 1 package" in said
    assert project.wheelhouse.joinpath("report.html").is_file()
    assert not journals(project)
    fail(project, "raise")
    said = project.nox(*flags, "-s", "mine", check=False).output
    assert tables(said)[-1]["faulty"] == "failed"
    assert not journals(project)


@BOTH
def test_what_does_not_depend_on_a_failure_is_built(
    project: Project, flags: tuple[str, ...]
) -> None:
    """And told of at the very end, with what failed, and what was not built for it."""
    declare_three(project)
    project.prepare("build-stages-lock")
    fail(project, "raise")
    done = project.nox(*flags, "-s", "build-stages", check=False)
    assert tables(done.output) == [
        {
            "early": "built",
            "faulty": "failed",
            "late": "built",
            "after": "not built",
            "apart": "built",
        }
    ]
    assert HEAD.match(done.output.splitlines()[-6])
    for session in ("build-stage-second", "build-stages"):
        assert f"{session}: success" not in done.output
    assert project.wheels() == [
        "apart-1.0-py3-none-any.whl",
        "early-1.0-py3-none-any.whl",
        "late-1.0-py3-none-any.whl",
    ]
    names = [it["name"] for it in project.manifest()["wheels"]]
    assert names == ["apart", "early", "late"]
    assert not journals(project)


@pytest.mark.slow
def test_what_was_there_is_told_of_too(project: Project) -> None:
    """A failure doesn't make it unknown, nor does an older wheel hide the failure."""
    declare_three(project)
    project.prepare()
    fail(project, "raise")
    done = project.nox("-s", "build-stages", check=False)
    (table,) = tables(done.output)
    assert table.pop("faulty") == "failed"
    assert table.pop("after") == "not built"
    assert {*table.values()} == {"cached"}


@pytest.mark.slow
@BOTH
def test_what_was_stopped_is_told(project: Project, flags: tuple[str, ...]) -> None:
    """Ctrl-C is no reason to say nothing. The next output may run beside it."""
    declare_three(project)
    project.prepare("build-stages-lock")
    fail(project, "sleep")
    log = project.wheelhouse / "logs/faulty.log"
    with project.start(*flags, "-s", "build-stages") as nox:
        deadline = time.monotonic() + PATIENCE
        while not (
            log.exists()
            and "tinybackend: building" in log.read_text()
            and notes_built(project, "early")
        ):
            assert time.monotonic() < deadline, "the backend never slept"
            time.sleep(0.02)
        nox.send_signal(signal.SIGINT)
        said = nox.communicate(timeout=PATIENCE)[0]
    (table,) = tables(said)
    assert (table["early"], table["faulty"]) == ("built", "stopped")
    assert table["late"] in {"built", "stopped", "not built"}
    assert table["after"] == "not built"
    (kept,) = re.findall(r"stopped\. Kept: (.*)\.", said)
    assert "early" in kept
    assert "faulty (" in kept
    words = "".join(f"{it} " for it in flags)
    assert f"Run `nox -db uv {words}-s build-stages` again to resume." in said
    assert not journals(project)


@pytest.mark.slow
def test_a_stage_that_fails_before_it_builds(project: Project) -> None:
    """All of its outputs have failed."""
    tool = project.folder / "bin/tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 1.0\n", "utf-8")
    tool.chmod(0o755)
    declare_three(project)
    project.prepare()
    table = project.pyproject.read_text("utf-8")
    stage = 'name = "second"\n'
    project.write(table.replace(stage, f'{stage}tools = ["tool"]\n'))
    path = f"{tool.parent}:{project.env['PATH']}"
    project.nox("-s", "build-stages-lock", env={"PATH": path})
    done = project.nox("-s", "build-stages", check=False)
    (states,) = tables(done.output)
    assert states.pop("after") == "failed"
    assert {*states.values()} == {"cached"}


@pytest.mark.slow
def test_a_stage_that_fails_after_it_has_built(project: Project) -> None:
    """Its outputs are there; those of the next stage are not."""
    declare_three(project)
    make_tree(project.folder / "late", "late", "1.0", settings={"stamp-time": True})
    words = ("--", "--check-reproducible")
    done = project.nox("-s", "build-stage-second", *words, check=False)
    (states,) = tables(done.output)
    assert [states[name] for name in ("early", "faulty", "late")] == ["built"] * 3
    assert states["after"] == "not built"


@pytest.mark.slow
def test_a_check_that_fails_hides_nothing(project: Project) -> None:
    """The table is printed once, where it is when all is well."""
    declare_three(project)
    project.prepare()
    checks = [["python", "-c", "raise SystemExit(3)"]]
    declare_three(project, final={"checks": checks})
    done = project.nox("-s", "build-stages", check=False)
    (table,) = tables(done.output)
    assert {*table.values()} == {"cached"}
    assert not journals(project)


@pytest.mark.slow
def test_a_run_that_ends_well_has_one_table(project: Project) -> None:
    """Nothing is left of the notes that it made."""
    declare_three(project)
    project.prepare()
    done = project.nox("-j", "2", "-s", "build-stages")
    assert len(tables(done.output)) == 1
    assert not journals(project)
    assert not tables(project.nox("-s", "build-stage-first").output)
    assert not journals(project)


def test_where_nothing_was_locked_there_is_nothing_to_sum_up(project: Project) -> None:
    """The error says it all."""
    declare_three(project)
    done = project.nox("-s", "build-stages", "--", "--locked", check=False)
    assert not tables(done.output)


@pytest.mark.slow
@pytest.mark.skipif(another() is None, reason="there is one Python here")
def test_a_table_says_for_which_python_it_is(project: Project) -> None:
    """Where there are several."""
    other = another()
    assert other is not None
    path = other.on_path(project.env["PATH"])
    project = replace(project, env={**project.env, "PATH": path})
    declare_three(project, "raise", python=[HERE, other.version])
    done = project.nox("-s", f"build-stages-{HERE}", check=False)
    lines = done.output.splitlines()
    assert lines[-7] == f"nox > Python {HERE}"
    assert HEAD.match(lines[-6])
