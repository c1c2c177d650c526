"""A project whose only index wants a name and a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tomli_w

from support.index import Index
from support.packages import make_sdist, make_tinybackend, make_wheel
from support.pair import built, refused
from support.project import hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.project import Project

NAME = "j.doe"
PASSWORD = "s3cr3t-of-the-index"  # noqa: S105 - it opens nothing
TOKEN = "s3cr3t-of-the-stage"  # noqa: S105 - nor does this
LOGIN = {"UV_INDEX_OWN_USERNAME": NAME, "UV_INDEX_OWN_PASSWORD": PASSWORD}


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Index]:
    """Return an index that wants a login, with all that the project needs."""
    with Index(tmp_path / "private", login=(NAME, PASSWORD)) as index:
        make_tinybackend(index.folder)
        make_wheel(index.folder, "tensorlib", "1.0")
        make_wheel(index.folder, "extra", "1.0")
        for name in ("kernels", "asked"):
            static = name == "kernels"
            make_sdist(index.folder, name, "1.0", requires=["tensorlib"], static=static)
        yield index


@pytest.fixture
def guarded(tmp_path: Path, caches: Path, private: Index) -> Project:
    """Return a project of two stages that knows this index and no other."""
    env = hermetic_env(tmp_path / "scratch", caches, private)
    del env["UV_DEFAULT_INDEX"]
    project = make_project(tmp_path / "project", env)
    extra = private.file_url("extra-1.0-py3-none-any.whl")
    first = {"name": "first", "dependencies": ["tensorlib"], "outputs": ["kernels"]}
    second = {"name": "second", "dependencies": ["kernels"], "outputs": ["asked"]}
    table = {
        "final": {
            "requirements": [
                "kernels",
                "asked",
                f"extra @ {extra.replace('://', '://${LOGIN}@')}",
            ],
            "imports": ["kernels", "asked", "extra"],
        },
        "stage": [
            {**first, "env": {"PAGE": f"http://{NAME}:{PASSWORD}@h/"}},
            {**second, "pass-env": ["HUB_TOKEN"]},
        ],
    }
    index = {"name": "own", "url": private.url, "default": True}
    tool = {"uv": {"index": [index]}, "nox-buildstages": table}
    project.write(tomli_w.dumps({"tool": tool}))
    return project


def test_no_secret_is_left_anywhere(guarded: Project) -> None:
    """Not of a lock, a build, an installation, and a release with vendored wheels."""
    login = {**LOGIN, "LOGIN": f"{NAME}:{PASSWORD}", "HUB_TOKEN": TOKEN}
    login["NOX_BUILDSTAGES_LOG"] = "debug"
    first = guarded.nox("-s", "build-stages", env=login)
    assert built(first) == ["kernels", "asked"]
    check = guarded.nox("-s", "build-stages-lock", "--", "--check", env=login)
    other = {**login, "HUB_TOKEN": f"{TOKEN}2"}
    plan = guarded.nox("-s", "build-stages-plan", env=other)
    assert "env HUB_TOKEN changed" in plan.output
    words = ("-s", "build-stages-release", "--", "--vendor")
    release = guarded.nox(*words, env=login)
    for done in (first, check, plan, release):
        assert "s3cr3t" not in done.output
    wheels = ("asked", "extra", "kernels", "tensorlib")
    assert guarded.wheels() == [f"{name}-1.0-py3-none-any.whl" for name in wheels]
    files = [
        path
        for folder in (guarded.folder, guarded.store)
        for path in folder.rglob("*")
        if path.is_file() and path != guarded.pyproject
    ]
    assert guarded.wheelhouse / "logs/debug.log" in files
    assert len(files) > 50
    assert guarded.wheelhouse / "provenance.jsonl" in files
    assert not [path for path in files if b"s3cr3t" in path.read_bytes()]


def test_a_wrong_password_is_told_by_its_index(
    guarded: Project, private: Index
) -> None:
    """With what to do, and not with the password."""
    wrong = {**LOGIN, "UV_INDEX_OWN_PASSWORD": f"{PASSWORD}-wrong"}
    output = refused(guarded, "-s", "build-stages-lock", env=wrong)
    assert private.url in output
    assert "UV_INDEX_NAME_USERNAME" in output
    assert "s3cr3t" not in output


@pytest.mark.slow
def test_a_new_password_leaves_locks_current(guarded: Project, private: Index) -> None:
    """A URL with another password in it is the same index."""
    text = guarded.pyproject.read_text("utf-8")
    env = {"LOGIN": f"{NAME}:{PASSWORD}"}
    guarded.write(text.replace(private.url, private.url_with_login))
    guarded.nox("-s", "build-stages-lock", env=env)
    guarded.write(text.replace(private.url, private.url.replace("://", "://me:new@")))
    guarded.nox("-s", "build-stages-lock", "--", "--check", env=env)
