"""Shards as a user sees them: of which session, and with which options of nox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.packages import make_tree
from support.pair import Pair, declare, publish, refused, stored
from support.sharded import Machines

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

SHARD = ("--", "--shard", "1/2")


def machine(project: Project, folder: Path) -> dict[str, str]:
    """Return the variables of a machine with a compiler cache of its own."""
    machines = folder / "machines"
    machines.mkdir()
    env = Machines(folder=machines).variables("one")
    return {**env, "PATH": f"{env['PATH']}:{project.env['PATH']}"}


@pytest.mark.parametrize("option", [("-j", "2", "-s"), ("-k",)])
def test_a_shard_is_of_one_stage_that_is_named(
    project: Project, option: tuple[str, ...]
) -> None:
    """Otherwise nobody would know which of the stages are only compiled."""
    declare(project, {"stage": [{"name": "only", "outputs": ["kernels"]}]})
    said = refused(project, *option, "build-stage-only", *SHARD)
    assert "--shard compiles one stage that is named with -s" in said
    assert f"leave out {option[0]}" in said


@pytest.mark.slow
def test_stages_before_it_are_built_whole(
    project: Project, index: Index, tmp_path: Path
) -> None:
    """Their wheels are installed where the shard compiles."""
    publish(index)
    Pair().write(project)
    env = machine(project, tmp_path)
    said = project.nox("-s", "build-stage-second", *SHARD, env=env).output
    assert "built kernels-1.0-py3-none-any.whl" in said
    assert "compiled shard 1/2 of models" in said
    assert "so shards save no time" in said
    assert stored(project) == project.wheels() == ["kernels-1.0-py3-none-any.whl"]
    said = refused(project, "-s", "build-stages", *SHARD, env=env)
    assert "--shard 1/2 is for the session of a stage" in said


NOXFILE = """\
import nox_buildstages

@nox_buildstages.stage(outputs=["early @ ./early"])
def generate(session, build):
    print("before")
    (wheel,) = build()
    print("after", wheel.name)

nox_buildstages.register()
"""


@pytest.mark.slow
def test_the_function_of_a_stage_ends_where_a_shard_would_need_its_wheel(
    project: Project, tmp_path: Path
) -> None:
    """The part before its first build prepares sources, so it runs."""
    make_tree(project.folder / "early", "early", "1.0")
    project.noxfile.write_text(NOXFILE)
    declare(project, {"final": {"requirements": ["early"]}})
    env = machine(project, tmp_path)
    said = project.nox("-s", "build-stage-generate", *SHARD, env=env).output
    assert "before\n" in said
    assert "after" not in said
    assert "compiled shard 1/2 of early" in said
