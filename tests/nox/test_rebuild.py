"""One byte that matters rebuilds exactly what depends on it; nothing else does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    built,
    entry,
    kernels_tree,
    lock_texts,
    planned,
    publish,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def run(project: Project, *words: str) -> list[str]:
    """Run everything, and return what was built."""
    return built(project.nox("-s", "build-stages", *words))


def plan(project: Project) -> dict[str, tuple[str, str]]:
    return planned(project.nox("-s", "build-stages-plan"))


def test_plan_without_a_lock_says_so(project: Project) -> None:
    """Before the first run everything would be built, for there is no lock."""
    Pair().write(project)
    told = project.nox("-s", "build-stages-plan")
    assert "locks: there are none yet; to make them: nox -s build-stages-lock" in (
        told.output
    )
    assert planned(told) == {
        "kernels": ("build", "not locked yet"),
        "models": ("build", "not locked yet"),
    }
    assert not (project.folder / "build-stages").exists()
    assert stored(project) == []


def test_plan_says_what_is_cached_and_what_is_not_built_yet(project: Project) -> None:
    """After locking, an output is `build` until it has been built."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    assert plan(project)["models"] == ("build", "not built yet")
    project.nox("-s", "build-stage-second")
    assert plan(project) == {"kernels": ("cached", ""), "models": ("cached", "")}


@pytest.mark.slow
def test_variable_of_the_second_stage_rebuilds_it_alone(project: Project) -> None:
    """The plan says which variable changed, whether the locks are current or not.

    With the earlier value the earlier wheel is used again.
    """
    Pair(second={"env": {"ARCH": "8.0"}}).write(project)
    project.prepare()
    Pair(second={"env": {"ARCH": "9.0"}}).write(project)
    expected = {
        "kernels": ("cached", ""),
        "models": ("build", "env ARCH '8.0' → '9.0'"),
    }
    assert plan(project) == expected
    project.nox("-s", "build-stages-lock")
    assert plan(project) == expected
    assert run(project) == ["models"]
    assert entry(project, "kernels")["status"] == "cached"
    Pair(second={"env": {"ARCH": "8.0"}}).write(project)
    assert run(project) == []


def test_equal_bytes_end_a_rebuild(project: Project) -> None:
    """Where a rebuilt wheel has the bytes that it had, nothing after it is built."""
    Pair().write(project)
    project.prepare()
    Pair(first={"env": {"NOBODY_READS_IT": "1"}}).write(project)
    assert run(project) == ["kernels"]


@pytest.mark.slow
def test_passed_variable_counts_with_its_value(project: Project) -> None:
    """What pass-env lets through is part of the key; the lock stays as it is."""
    Pair(second={"pass-env": ["ARCH"]}).write(project)
    project.prepare()
    for value, reason in (("8.0", "unset → set"), ("9.0", "changed")):
        changed = {"ARCH": value}
        reasons = planned(project.nox("-s", "build-stages-plan", env=changed))
        assert reasons["models"] == ("build", f"env ARCH {reason}")
        done = project.nox("-s", "build-stage-second", env=changed)
        assert built(done) == ["models"]
        assert "locking" not in done.output


@pytest.mark.slow
def test_version_of_a_dependency_rebuilds_what_holds_it(project: Project) -> None:
    """Another tensorlib rebuilds both stages, and the plan names it."""
    Pair().write(project)
    project.prepare()
    Pair(top={"constraints": ["tensorlib==1.0"]}).write(project)
    done = project.nox("-s", "build-stages-lock")
    state, reason = plan(project)["models"]
    assert state == "build"
    assert reason.startswith(("tensorlib 2.0 → 1.0", "the wheel kernels of stage"))
    assert [*built(done), *run(project)] == ["kernels", "models"]
    assert entry(project, "models")["environment"]["tensorlib"] == "1.0"


@pytest.mark.slow
def test_source_file_of_a_directory_counts(project: Project) -> None:
    """A changed byte rebuilds the output and what is built with it, without locking.

    The wheel of the former source isn't in the wheelhouse any more.
    """
    Pair().write(project)
    project.prepare()
    tree = kernels_tree(project, stamp=["tensorlib"], version="2.0")
    Pair(first={"outputs": [tree]}).write(project)
    run(project)
    assert project.wheels() == ["kernels-2.0-py3-none-any.whl", MODELS]
    locks = lock_texts(project)
    project.folder.joinpath("kernels/kernels/__init__.py").write_text("NEW = 1\n")
    reasons = plan(project)
    source = reasons["kernels"][1]
    assert source == "files of its folder changed"
    first = "the wheel kernels of stage first is built first"
    assert reasons["models"] == ("build", f"{first} because {source}")
    assert run(project) == ["kernels", "models"]
    assert lock_texts(project) == locks


@pytest.mark.slow
def test_config_settings_count_for_their_output(project: Project) -> None:
    """A config setting rebuilds the one output that it is for."""
    Pair().write(project)
    project.prepare()
    settings = {"config-settings": {"--opt": "fast"}}
    Pair(top={"package": {"models": settings}}).write(project)
    assert plan(project)["models"] == ("build", "config setting --opt unset → 'fast'")
    assert run(project) == ["models"]


def test_imports_and_checks_rebuild_and_relock_nothing(
    project: Project, index: Index
) -> None:
    """What is only looked at in the end has no say in locks or wheels."""
    Pair().write(project)
    project.prepare()
    locks, asked = lock_texts(project), len(index.requests)
    final = {"imports": ["kernels"], "checks": [["python", "-c", "import models"]]}
    Pair(final=final).write(project)
    done = project.nox("-s", "build-stages")
    assert built(done) == []
    assert "locking" not in done.output
    assert lock_texts(project) == locks
    assert index.requests[asked:] == []


@pytest.mark.slow
def test_rebuild_builds_again_what_the_store_has(project: Project) -> None:
    """`-- --rebuild` builds everything, `-- --rebuild NAME` that output, once."""
    Pair().write(project)
    project.prepare()
    assert run(project, "--", "--rebuild") == ["kernels", "models"]
    assert run(project, "--", "--rebuild", "Kernels") == ["kernels"]
    assert run(project) == []


def test_damaged_wheels_are_replaced(project: Project) -> None:
    """A wheel of the wheelhouse by that of the store, and one of the store by a build.

    An entry of the store whose record can't be read counts as none.
    """
    Pair().write(project)
    project.prepare()
    wheel = project.wheelhouse / KERNELS
    before = wheel.read_bytes()
    tamper(wheel)
    assert run(project) == []
    assert wheel.read_bytes() == before
    (wheel,) = project.store.glob(f"wheels/*/*/{KERNELS}")
    tamper(wheel)
    reasons = plan(project)
    assert reasons["kernels"] == ("build", "its wheel in the store is damaged")
    record = project.store / "wheels" / entry(project, "models")["key"] / "record.json"
    whole = json.loads(record.read_bytes())
    record.write_text("{}", "utf-8")
    assert run(project) == ["kernels", "models"]
    # Another key, if a compiler was started meanwhile, by anybody on this machine.
    kept = project.store.glob(f"wheels/*/*/{KERNELS}")
    assert before in [it.read_bytes() for it in kept]
    assert entry(project, "models")["sha256"] == whole["sha256"]


def tamper(path: Path) -> None:
    """Change one byte, and keep the size."""
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)


def test_plan_tells_what_the_locks_do_not_have(project: Project) -> None:
    """With stale locks it says what they lack, and that locking may change more."""
    Pair().write(project)
    project.prepare()
    Pair(second={"outputs": ["models>=1.5", "later"]}).write(project)
    told = project.nox("-s", "build-stages-plan")
    assert "locks: out of date, " in told.output
    assert "locking may change more" in told.output
    assert planned(told) == {
        "kernels": ("cached", ""),
        "models": ("build", "version 1.0 is locked and >=1.5 is wanted"),
        "later": ("build", "not locked yet"),
    }
