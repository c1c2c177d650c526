"""One byte that matters rebuilds exactly what depends on it; nothing else does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.pair import (
    KERNELS,
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
    assert "no lock files in" in told.output
    assert planned(told) == {
        "kernels": ("build", "not locked yet"),
        "models": ("build", "not locked yet"),
    }
    assert not (project.folder / "build-stages").exists()
    assert stored(project) == []


def test_plan_says_what_is_cached_and_what_is_not_built_yet(project: Project) -> None:
    """After locking, an output is `build` until it has been built."""
    Pair().write(project)
    project.nox("-s", "build-stages-lock")
    assert plan(project)["models"] == ("build", "not built yet")
    run(project)
    assert plan(project) == {"kernels": ("cached", ""), "models": ("cached", "")}


def test_plan_names_a_changed_variable_before_anything_is_locked(
    project: Project,
) -> None:
    """The plan says which variable changed, though the lock has to be made anew."""
    Pair(second={"env": {"ARCH": "8.0"}}).write(project)
    run(project)
    Pair(second={"env": {"ARCH": "9.0"}}).write(project)
    reasons = plan(project)
    assert reasons["models"] == ("build", "env ARCH '8.0' → '9.0'")
    assert reasons["kernels"] == ("cached", "")


def test_variable_of_the_second_stage_rebuilds_it_alone(project: Project) -> None:
    """What comes before a changed stage isn't touched; the plan says why it is."""
    Pair(second={"env": {"ARCH": "8.0"}}).write(project)
    run(project)
    Pair(second={"env": {"ARCH": "9.0"}}).write(project)
    project.nox("-s", "build-stages-lock")
    assert plan(project) == {
        "kernels": ("cached", ""),
        "models": ("build", "env ARCH '8.0' → '9.0'"),
    }
    assert run(project) == ["models"]
    assert entry(project, "kernels")["status"] == "cached"


def test_equal_bytes_end_a_rebuild(project: Project) -> None:
    """Where a rebuilt wheel has the bytes that it had, nothing after it is built."""
    Pair(first={"env": {"NOBODY_READS_IT": "1"}}).write(project)
    run(project)
    Pair(first={"env": {"NOBODY_READS_IT": "2"}}).write(project)
    assert run(project) == ["kernels"]


def test_passed_variable_counts_with_its_value(project: Project) -> None:
    """What pass-env lets through is part of the key; the lock stays as it is."""
    Pair(second={"pass-env": ["ARCH"]}).write(project)
    project.nox("-s", "build-stages", env={"ARCH": "8.0"})
    changed = {"ARCH": "9.0"}
    reasons = planned(project.nox("-s", "build-stages-plan", env=changed))
    assert reasons["models"] == ("build", "env ARCH '8.0' → '9.0'")
    done = project.nox("-s", "build-stages", env=changed)
    assert built(done) == ["models"]
    assert "locking" not in done.output


def test_going_back_builds_nothing(project: Project) -> None:
    """What was built once is in the store, whatever was built since."""
    for arch, expected in (("8", ["kernels", "models"]), ("9", ["models"]), ("8", [])):
        Pair(second={"env": {"ARCH": arch}}).write(project)
        assert run(project) == expected


def test_version_of_a_dependency_rebuilds_what_holds_it(project: Project) -> None:
    """Another tensorlib rebuilds both stages, and the plan names it."""
    Pair().write(project)
    run(project)
    Pair(top={"constraints": ["tensorlib==1.0"]}).write(project)
    done = project.nox("-s", "build-stages-lock")
    state, reason = plan(project)["models"]
    assert state == "build"
    assert reason.startswith(("tensorlib 2.0 → 1.0", "the wheel kernels of stage"))
    assert [*built(done), *run(project)] == ["kernels", "models"]
    assert entry(project, "models")["environment"]["tensorlib"] == "1.0"


def test_source_file_of_a_directory_counts(project: Project) -> None:
    """A byte in a directory output rebuilds it and what holds it; no lock is made."""
    Pair(first={"outputs": [kernels_tree(project, stamp=["tensorlib"])]}).write(project)
    run(project)
    locks = lock_texts(project)
    project.folder.joinpath("kernels/kernels/__init__.py").write_text("NEW = 1\n")
    reasons = plan(project)
    source = reasons["kernels"][1]
    assert source.startswith("source tree:sha256:")
    first = "the wheel kernels of stage first is built first"
    assert reasons["models"] == ("build", f"{first} because {source}")
    assert run(project) == ["kernels", "models"]
    assert lock_texts(project) == locks


def test_config_settings_count_for_their_output(project: Project) -> None:
    """A config setting rebuilds the one output that it is for."""
    Pair().write(project)
    run(project)
    settings = {"config-settings": {"--opt": "fast"}}
    Pair(top={"package": {"models": settings}}).write(project)
    project.nox("-s", "build-stages-lock")
    assert plan(project)["models"] == ("build", "config setting --opt unset → 'fast'")
    assert run(project) == ["models"]


def test_imports_and_checks_rebuild_and_relock_nothing(
    project: Project, index: Index
) -> None:
    """What is only looked at in the end has no say in locks or wheels."""
    Pair().write(project)
    run(project)
    locks, asked = lock_texts(project), len(index.requests)
    final = {"imports": ["kernels"], "checks": [["python", "-c", "import models"]]}
    Pair(final=final).write(project)
    done = project.nox("-s", "build-stages")
    assert built(done) == []
    assert "locking" not in done.output
    assert lock_texts(project) == locks
    assert index.requests[asked:] == []


def test_rebuild_builds_again_what_the_store_has(project: Project) -> None:
    """`-- --rebuild` builds everything, `-- --rebuild NAME` that output, once."""
    Pair().write(project)
    run(project)
    assert run(project, "--", "--rebuild") == ["kernels", "models"]
    assert run(project, "--", "--rebuild", "models") == ["models"]
    assert run(project, "--", "--rebuild", "Kernels") == ["kernels"]
    assert run(project) == []


def test_wheelhouse_wheel_that_was_changed_is_restored(project: Project) -> None:
    """A tampered wheel in the wheelhouse is replaced, and not installed."""
    Pair().write(project)
    run(project)
    wheel = project.wheelhouse / KERNELS
    before = wheel.read_bytes()
    tamper(wheel)
    assert run(project) == []
    assert wheel.read_bytes() == before


def test_store_wheel_that_was_changed_is_built_again(project: Project) -> None:
    """A tampered wheel in the store is noticed by the plan, and rebuilt."""
    Pair().write(project)
    run(project)
    (wheel,) = project.store.glob(f"wheels/*/{KERNELS}")
    before = wheel.read_bytes()
    tamper(wheel)
    reasons = plan(project)
    assert reasons["kernels"] == ("build", "its wheel in the store is damaged")
    assert run(project) == ["kernels"]
    assert wheel.read_bytes() == before


def test_record_that_was_changed_is_no_record(project: Project) -> None:
    """A store entry whose record can't be read counts as none."""
    Pair().write(project)
    run(project)
    record = project.store / "wheels" / entry(project, "models")["key"] / "record.json"
    whole = json.loads(record.read_bytes())
    record.write_text("{}", "utf-8")
    assert run(project) == ["models"]
    assert json.loads(record.read_bytes())["sha256"] == whole["sha256"]


def test_wheel_of_an_output_that_is_gone_leaves_the_wheelhouse(
    project: Project,
) -> None:
    """What isn't an output any more doesn't stay beside what is."""
    first = {"outputs": ["kernels"]}
    Pair(first=first).write(project)
    run(project)
    Pair(first={"outputs": [kernels_tree(project, version="2.0")]}).write(project)
    run(project)
    assert [name for name in project.wheels() if "kernels" in name] == [
        "kernels-2.0-py3-none-any.whl"
    ]


def tamper(path: Path) -> None:
    """Change one byte, and keep the size."""
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)


def test_plan_tells_what_the_locks_do_not_have(project: Project) -> None:
    """With stale locks it says what they lack, and that locking may change more."""
    Pair().write(project)
    run(project)
    Pair(second={"outputs": ["models>=1.5", "later"]}).write(project)
    told = project.nox("-s", "build-stages-plan")
    assert "the lock files are out of date" in told.output
    assert "locking may change more" in told.output
    assert planned(told) == {
        "kernels": ("cached", ""),
        "models": ("build", "version 1.0 is locked and >=1.5 is wanted"),
        "later": ("build", "not locked yet"),
    }
