"""`build-stages-prune` limits the store, and builds still succeed."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    built,
    declare_solo,
    kernels_tree,
    publish,
    refused,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

DAY = 86_400
PRUNE = ("-s", "build-stages-prune", "--")


def age(store: Path, days: float) -> None:
    """Let all of a store have been used last some days ago."""
    then = time.time() - days * DAY
    for path in (*store.rglob("*"), store):
        os.utime(path, (then, then), follow_symlinks=False)


def test_what_is_not_used_goes_and_is_built_again(
    project: Project, index: Index
) -> None:
    """The wheelhouse keeps its wheels; the next run builds what isn't there."""
    publish(index)
    Pair().write(project)
    project.prepare()
    age(project.store, 31)
    assert built(project.nox("-s", "build-stage-first")) == []
    done = project.nox(*PRUNE, "--older-than", "30d")
    assert re.search(r"wheels +1 +\S+ \w+ +1 ", done.output), done.output
    assert re.search(r"removed \S+ kB; the store now takes \S+ kB", done.output)
    assert stored(project) == [KERNELS]
    assert project.wheels() == [KERNELS, MODELS]
    assert built(project.nox("-s", "build-stages")) == ["models"]
    project.nox(*PRUNE, "--larger-than=0KB")
    assert stored(project) == []
    assert project.wheels() == [KERNELS, MODELS]
    assert built(project.nox("-s", "build-stages")) == ["kernels", "models"]


def test_what_a_run_uses_stays(project: Project, index: Index) -> None:
    """Sources that are built from again, and what backends said before."""
    publish(index)
    Pair().write(project)
    project.prepare()
    kept = {it.parent.name: it for it in project.store.glob("*/*") if it.exists()}
    assert {"sources", "answers"} <= kept.keys()
    age(project.store, 31)
    project.nox("-s", "build-stages-lock")
    project.nox("-s", "build-stage-first", "--", "--rebuild", "kernels")
    project.nox(*PRUNE, "--older-than", "30d")
    left = [it.name for it in project.store.glob("sources/*/*")]
    assert "kernels-1.0.tar.gz" in left
    assert list(project.store.glob("answers/*"))


@pytest.mark.slow
def test_an_answer_that_is_damaged_is_asked_for_again(
    project: Project, index: Index
) -> None:
    """Whatever stands there in place of what a backend said."""
    publish(index)
    declare_solo(project, dependencies=["tensorlib"])
    project.prepare("build-stages-lock")
    found = project.store.glob("answers/*.json")
    answers = [it for it in found if "metadata" in it.read_text("utf-8")]
    before = [it.read_text("utf-8") for it in answers]
    assert answers
    for text in ("{", "[]", "{}", '{"metadata": 1}'):
        for answer in answers:
            answer.write_text(text, "utf-8")
        project.nox("-s", "build-stages-lock", "--", "--upgrade")
        assert [it.read_text("utf-8") for it in answers] == before


def test_only_garbage_goes_without_words(project: Project, index: Index) -> None:
    """Nothing that was built, and nothing that a later run needs."""
    publish(index)
    Pair().write(project)
    project.prepare()
    leftover = project.store / "wheels" / ".new-x"
    leftover.mkdir()
    age(project.store, 999)
    done = project.nox("-s", "build-stages-prune")
    assert "to limit the store: -- --older-than 30d" in done.output
    assert not leftover.exists()
    assert built(project.nox("-s", "build-stages")) == []


def test_no_stage_and_no_environment_is_needed(project: Project) -> None:
    """It works wherever the sessions are registered, and leaves nothing behind."""
    project.write("[tool.nox-buildstages]\n")
    log = project.store / "logs" / "a.log"
    log.parent.mkdir(parents=True)
    log.write_text("x")
    done = project.nox(*PRUNE, "--older-than", "0s", "--dry-run")
    assert "would remove" in done.output
    assert log.exists()
    project.nox(*PRUNE, "--older-than", "0s")
    assert not log.exists()
    assert not (project.folder / ".nox" / "build-stages-prune").exists()


def test_words_that_mean_nothing_remove_nothing(project: Project) -> None:
    """The error names the word."""
    project.write("[project]\nname = 'x'\n")
    leftover = project.store / "wheels" / ".new-x"
    leftover.mkdir(parents=True)
    said = refused(project, *PRUNE, "--older-then", "30d")
    assert "did you mean --older-than?" in said
    assert leftover.exists()


@pytest.mark.slow
def test_pruning_waits_for_a_build(
    project: Project, index: Index, tmp_path: Path
) -> None:
    """It names the build, whose later sessions find its wheel; then all of it goes."""
    publish(index)
    pidfile = tmp_path / "pids/pid"
    pidfile.parent.mkdir()
    tree = kernels_tree(project, faults=["sleep"], sleep=4)
    declare_solo(
        project, outputs=[tree], env={"TINYBACKEND_CACHE": str(pidfile.parent)}
    )
    with project.start("-s", "build-stages") as nox:
        deadline = time.monotonic() + 60
        while not pidfile.exists():
            assert time.monotonic() < deadline, "the backend never slept"
            time.sleep(0.02)
        done = project.nox(*PRUNE, "--older-than", "0s", "--larger-than", "0KB")
        output = nox.communicate(timeout=60)[0]
    assert re.search(r"waiting until these have ended: .*nox .*build-st", done.output)
    assert nox.returncode == 0, output
    assert project.wheels() == [KERNELS]
    assert stored(project) == []


def test_pruning_after_a_build_in_one_run(project: Project, index: Index) -> None:
    """A session that has ended is not waited for."""
    publish(index)
    Pair().write(project)
    project.prepare()
    done = project.nox("-s", "build-stages", "build-stages-prune")
    assert "waiting until" not in done.output
    assert stored(project) == [KERNELS, MODELS]


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser makes files stay")
def test_what_can_not_be_removed_is_an_error(project: Project) -> None:
    """It is named; the rest is removed all the same."""
    project.write("[project]\nname = 'x'\n")
    stuck = project.store / "logs" / "a.log"
    free = project.store / "logs" / "b.log"
    stuck.parent.mkdir(parents=True)
    stuck.write_text("x")
    free.write_text("x")
    mark = ["chattr", "+i", str(stuck)]
    if subprocess.run(mark, check=False).returncode:
        pytest.skip("nothing refuses the superuser here")
    try:
        output = refused(project, *PRUNE, "--older-than", "0s")
    finally:
        mark[1] = "-i"
        subprocess.run(mark, check=True)
    assert "the store: 1 item can't be removed" in output
    assert f"{stuck}: Operation not permitted" in output
    assert stuck.exists()
    assert not free.exists()
