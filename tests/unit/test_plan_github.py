"""A plan as GitHub Actions takes it: a matrix, a count, a summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from nox_buildstages.commands.plan.github import (
    CellPlan,
    GitHubPlan,
    find_levels,
    format_outputs,
    relative_path,
)
from nox_buildstages.commands.plan.reasons import PlannedOutput
from nox_buildstages.config.graph import arrange
from nox_buildstages.model import Final, Output, Project, Runner, Stage
from nox_buildstages.value import replace

ROOT = Path("/project")


def planned(name: str, *reasons: str, remote: bool = False) -> PlannedOutput:
    return PlannedOutput(
        stage="kernels",
        title="kernels",
        name=name,
        version="1.0",
        reasons=reasons,
        remote=remote,
    )


ANY = Runner(
    machine=None, runs_on=(), container=None, setup=None, variables={"CELL_PYTHON": "3"}
)


def cell(name: str, *outputs: PlannedOutput, label: str = "") -> CellPlan:
    return CellPlan(
        name=name,
        label=label,
        session=f"build-stages({name})",
        release=f"build-stages-release({name})",
        python="3.11",
        wheelhouse=f"wheelhouse/{name}",
        key=f"key of {name}",
        tools=("c++", "nvcc"),
        pass_env=("CUDA_HOME",),
        runner=ANY,
        outputs=outputs,
    )


BUILT = cell("b", planned("kernels"), label="arch=b")
MISSING = cell("m", planned("kernels", "not built yet"), label="arch=m")
"""One cell has nothing to build, the other one has."""


def included(plan: GitHubPlan) -> list[str]:
    return [it["cell"] for it in json.loads(plan.outputs()["matrix"])["include"]]


def test_each_cell_is_a_job() -> None:
    """The matrix tells it all that it needs, as text."""
    outputs = GitHubPlan(cells=(MISSING, BUILT)).outputs()
    assert outputs["count"] == "2"
    first, second = json.loads(outputs["matrix"])["include"]
    assert first == {
        "cell": "m",
        "label": "arch=m",
        "session": "build-stages(m)",
        "release": "build-stages-release(m)",
        "python": "3.11",
        "wheelhouse": "wheelhouse/m",
        "key": "key of m",
        "tools": "c++ nvcc",
        "pass-env": "CUDA_HOME",
        "runs-on": "",
        "container": "",
        "setup": "",
        "variables": "CELL_PYTHON=3",
    }
    assert second["cell"] == "b"
    assert "\n" not in outputs["matrix"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"runs_on": ("big",)}, {"runs-on": "big"}),
        ({"runs_on": ("a", "b")}, {"runs-on": '["a", "b"]'}),
        ({"machine": "aarch64"}, {"runs-on": "ubuntu-24.04-arm"}),
        ({"machine": "aarch64", "runs_on": ("own",)}, {"runs-on": "own"}),
        ({"machine": "x86_64"}, {"runs-on": ""}),
        ({"container": "i", "setup": "a\nb"}, {"container": "i", "setup": "a\nb"}),
        ({"variables": {"A": "1", "B": "2"}}, {"variables": "A=1\nB=2"}),
    ],
)
def test_a_job_says_where_it_runs(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    """As the values of its cell do."""
    job = replace(MISSING, runner=replace(ANY, **changes))
    assert job.to_dict().items() >= expected.items()


def test_a_matrix_that_github_refuses_is_reported() -> None:
    """It has at most 256 jobs; shards are jobs, too."""
    stage = replace(MISSING, session="stage", shards=257)
    plan = GitHubPlan(cells=(replace(MISSING, levels=((stage,),)),))
    (line,) = plan.warnings()
    assert line.startswith("shards has 257 jobs, and GitHub accepts at most 256")
    stage = replace(stage, shards=256)
    plan = GitHubPlan(cells=(replace(MISSING, levels=((stage,),)),))
    assert not [*plan.warnings()]


def test_cells_with_nothing_to_build_can_be_left_out() -> None:
    """Where that is all of them, the matrix is empty and sound."""
    plan = GitHubPlan(cells=(BUILT, MISSING), only_missing=True)
    assert (included(plan), plan.outputs()["count"]) == (["m"], "1")
    plan = GitHubPlan(cells=(BUILT,), only_missing=True)
    assert plan.outputs() == {
        "matrix": '{"include":[]}',
        "count": "0",
        "level-1": "",
        "level-2": "",
        "level-3": "",
        "shards": "",
        "wheelhouse": "wheelhouse",
        "locks": "build-stages",
    }
    plan = GitHubPlan(cells=(BUILT,))
    assert (included(plan), plan.outputs()["count"]) == (["b"], "1")


def test_stages_may_have_jobs_level_by_level() -> None:
    """One that several cells have is built once; what lies deeper is left to cells."""
    low, high = cell("low", planned("a", "new")), cell("high", planned("b", "new"))
    other = cell("other", planned("c"))
    levels = ((low,), (high,), (), (other,))
    one = replace(MISSING, levels=levels)
    two = replace(MISSING, levels=((low, other),))
    outputs = GitHubPlan(cells=(one, two)).outputs()
    found = {
        number: [it["cell"] for it in json.loads(outputs[f"level-{number}"])["include"]]
        for number in (1, 2)
    }
    assert found == {1: ["low", "other"], 2: ["high"]}
    assert outputs["level-3"] == ""
    assert "level-4" not in outputs
    outputs = GitHubPlan(cells=(two,), only_missing=True).outputs()
    assert "other" not in outputs["level-1"]


def test_each_shard_of_a_stage_is_a_job() -> None:
    """Of every level, each stage once, and none that has nothing to build."""
    deep = replace(cell("deep", planned("a", "new")), shards=2)
    done = replace(cell("done", planned("b")), shards=2)
    levels = ((), (), (), (deep, done, cell("whole", planned("c", "new"))))
    cells = replace(MISSING, levels=levels), replace(BUILT, levels=levels)
    outputs = GitHubPlan(cells=cells).outputs()
    first, second = json.loads(outputs["shards"])["include"]
    assert first == {**deep.to_dict(), "cell": "deep_shard-1-of-2", "shard": "1/2"}
    assert (second["cell"], second["shard"]) == ("deep_shard-2-of-2", "2/2")


def test_the_summary_is_a_table_for_each_cell() -> None:
    """With every reason, and why a cell has no job."""
    both = planned("kernels", "env A '1' → '2'", "torch 1 → 2")
    changed = replace(MISSING, outputs=(both, planned("models", remote=True)))
    plan = GitHubPlan(cells=(changed, BUILT), only_missing=True)
    assert list(plan.summary()) == [
        "### Build stages: a job for 1 of 2 cells",
        "",
        "#### arch=m",
        "",
        "| state | output | version | stage | why |",
        "| --- | --- | --- | --- | --- |",
        "| build | kernels | 1.0 | kernels | env A '1' → '2'<br>torch 1 → 2 |",
        "| cached | models | 1.0 | kernels | in the remote store |",
        "",
        "#### arch=b",
        "",
        "Left out: all its wheels are in the store.",
        "",
        "| state | output | version | stage | why |",
        "| --- | --- | --- | --- | --- |",
        "| cached | kernels | 1.0 | kernels |  |",
    ]


def test_the_one_cell_of_a_project_is_named_by_its_session() -> None:
    """It has no label, for there is nothing to tell it from."""
    lines = list(GitHubPlan(cells=(replace(BUILT, label=""),)).summary())
    assert lines[0] == "### Build stages: a job for 1 of 1 cell"
    assert lines[2] == "#### build-stages(b)"


@pytest.mark.parametrize(
    ("outputs", "where"),
    [
        ((planned("a"),), "in the store."),
        ((planned("a", remote=True),), "in the remote store."),
        ((planned("a"), planned("b", remote=True)), "in the store or in the remote"),
    ],
)
def test_a_cell_that_is_left_out_says_where_its_wheels_are(
    outputs: tuple[PlannedOutput, ...], where: str
) -> None:
    """Here, there, or both."""
    left_out = replace(BUILT, outputs=outputs)
    text = "\n".join(GitHubPlan(cells=(left_out,), only_missing=True).summary())
    assert f"Left out: all its wheels are {where}" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", r"a \| b"),
        ("<script> & `x`", r"\<script\> &amp; \`x\`"),
        ("nvcc 1\nbuilt on\n\nMonday", "nvcc 1 built on Monday"),
        ("_a_ *b* [c](d) #1 ~~e~~ \\", r"\_a\_ \*b\* \[c\](d) \#1 \~\~e\~\~ \\"),
    ],
)
def test_a_reason_is_shown_as_it_is(text: str, shown: str) -> None:
    """Whatever is in it, it is one line of one cell of the table."""
    changed = replace(BUILT, outputs=(planned("kernels", text),))
    *_, row = GitHubPlan(cells=(changed,)).summary()
    assert row == f"| build | kernels | 1.0 | kernels | {shown} |"


def read(text: str) -> dict[str, str]:
    """Return outputs as GitHub's runner reads them."""
    found, lines = {}, text.splitlines(keepends=True)
    while lines:
        line = lines.pop(0).rstrip("\n")
        name, mark, value = line.partition("=")
        if mark and "<<" not in name:
            found[name] = value
            continue
        name, end = line.split("<<", 1)
        at = lines.index(f"{end}\n")
        found[name] = "".join(lines[:at]).removesuffix("\n")
        del lines[: at + 1]
    return found


@pytest.mark.parametrize(
    "value", ["", "1", "a=b<<c", " a", "a\nb", "x\nend-1\nname=y<<end", "\n", "é"]
)
def test_an_output_of_a_step_may_hold_anything(value: str) -> None:
    """It can't end the text that it stands in, nor begin another output."""
    outputs = {"first": value, "second": "2"}
    assert read(format_outputs(outputs)) == outputs


def test_an_output_of_one_line_is_written_in_one() -> None:
    """As a script would."""
    assert format_outputs({"a": "1", "b": "x\ny"}).startswith("a=1\nb<<end-")


def project(*stages: Stage) -> Project:
    return Project(
        pyproject=ROOT / "pyproject.toml",
        lock_dir=ROOT / "build-stages",
        wheelhouse=ROOT / "wheelhouse",
        final=Final(requirements=()),
        stages=stages,
    )


def stage(name: str, *needs: str) -> Stage:
    output = Output(requirement=Requirement(f"{name}-lib"), location="")
    return Stage(name=name, outputs=(output,), needs=needs)


@pytest.mark.parametrize(
    ("stages", "levels"),
    [
        ((), ()),
        ((stage("a"), stage("b")), (("a", "b"),)),
        ((stage("b", "a"), stage("a")), (("a",), ("b",))),
        (
            (stage("a"), stage("b", "a"), stage("c", "a", "b"), stage("d")),
            (("a", "d"), ("b",), ("c",)),
        ),
    ],
)
def test_a_stage_is_a_level_above_all_that_it_requires(
    stages: tuple[Stage, ...], levels: tuple[tuple[str, ...], ...]
) -> None:
    """So all of a level can be built at once, on different machines."""
    found = find_levels(arrange(project(*stages)))
    assert tuple(tuple(it.name for it in level) for level in found) == levels


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (ROOT / "wheelhouse" / "3.11", "wheelhouse/3.11"),
        (ROOT, "."),
        (ROOT.parent / "wheels", "../wheels"),
    ],
)
def test_a_folder_is_named_from_the_project(folder: Path, name: str) -> None:
    """As a workflow puts it behind its working directory."""
    assert relative_path(project(), folder) == name
