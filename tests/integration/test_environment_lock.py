"""Locks around the environments that nox makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.run.environment_lock import EnvironmentLock
from nox_buildstages.run.nox_command_line import NoxInvocation
from nox_buildstages.system.files import path_id
from nox_buildstages.system.locks import try_lock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def envdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOX_BUILDSTAGES_CACHE_DIR", str(tmp_path / "store"))
    tmp_path.joinpath("store/locks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)  # a long path would be shortened
    return tmp_path / "nox"


def is_locked(tmp_path: Path, location: Path) -> bool:
    """Whether some process holds the lock of an environment."""
    name = f"making-{path_id(location)}.lock"
    lock = try_lock(tmp_path / "store/locks" / name)
    if lock is not None:
        lock.release()
    return lock is None


def make(location: Path) -> None:
    location.joinpath("bin").mkdir(parents=True)
    location.joinpath("pyvenv.cfg").write_text("home = /\n", "utf-8")
    location.joinpath("bin/python").write_text("", "utf-8")


def test_each_environment_has_a_lock_of_its_own(tmp_path: Path, envdir: Path) -> None:
    """It is held until a session starts, and again until the next one does."""
    lock = EnvironmentLock(invocation=NoxInvocation(envdir="nox"))
    first, second, other = (envdir / name for name in ("first", "second", "other"))
    lock.acquire_for(["first", "second"])
    assert [is_locked(tmp_path, it) for it in (first, second, other)] == [
        True,
        True,
        False,
    ]
    make(first)
    with lock.release_during(first):
        assert [is_locked(tmp_path, it) for it in (first, second)] == [False, False]
    assert [is_locked(tmp_path, it) for it in (first, second)] == [False, True]
    make(second)
    with lock.release_during(second):
        pass
    assert not is_locked(tmp_path, second)


def test_environments_that_are_there_are_not_locked(
    tmp_path: Path, envdir: Path
) -> None:
    """Unless nox makes them again, as it does for another backend."""
    location = envdir / "a"
    make(location)
    uv = EnvironmentLock(invocation=NoxInvocation(envdir="nox", backend="uv"))
    with uv.release_during(location):
        pass
    uv.acquire_for(["a"])
    assert not is_locked(tmp_path, location)
    for invocation in (
        NoxInvocation(envdir="nox", backend="venv"),
        NoxInvocation(envdir="nox", backend="uv", remakes=True),
    ):
        lock = EnvironmentLock(invocation=invocation)
        lock.acquire_for(["a"])
        assert is_locked(tmp_path, location)
        with lock.release_during(location):
            assert is_locked(tmp_path, location) == invocation.remakes
        assert not is_locked(tmp_path, location)
    assert location.exists()


def test_an_environment_is_removed_if_nox_was_killed_meanwhile(envdir: Path) -> None:
    """Although a Python is in it; one that somebody else has made stays."""
    make(envdir / "a")
    make(envdir / "b")
    (envdir / ".a.making").touch()
    lock = EnvironmentLock(invocation=NoxInvocation(envdir="nox"))
    lock.acquire_for(["a", "b"])
    assert not (envdir / "a").exists()
    assert (envdir / "b").exists()


@pytest.mark.usefixtures("envdir")
def test_a_long_path_is_shortened_as_nox_does(tmp_path: Path) -> None:
    """So the lock is for the folder that nox makes."""
    from nox.sessions import _normalize_path  # noqa: PLC0415 - its rule

    name = "build-stage-" + "x" * 90
    lock = EnvironmentLock(invocation=NoxInvocation(envdir="nox"))
    lock.acquire_for([name])
    assert is_locked(tmp_path, tmp_path / _normalize_path("nox", name))
