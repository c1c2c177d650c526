"""What locking knows of outputs without building the outputs before them."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from support.packages import in_tree_backend, make_sdist, make_wheel
from support.pair import declare, versions
from support.sessions import run_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.index import Index
    from support.project import Project


def sdist(
    index: Index,
    name: str,
    version: str = "1.0",
    build_requires: Sequence[str] = (),
    **fields: Any,  # noqa: ANN401
) -> None:
    """Put an sdist on the index whose metadata only the build backend knows."""
    wanted = ["tinybackend", *build_requires]
    make_sdist(
        index.folder, name, version, build_requires=wanted, static=False, **fields
    )


def write(project: Project, **keys: Any) -> None:  # noqa: ANN401
    """Declare two stages: base, and model built against base."""
    first = {"name": "first", "outputs": ["base"]}
    second = {"name": "second", "dependencies": ["base"], "outputs": ["model"]}
    stages = {"final": {"requirements": ["model"]}, "stage": [first, second]}
    declare(project, {**stages, **keys})


def lock(project: Project) -> str:
    """Lock the project; return the lines for the user."""
    return run_session(project, "build-stages-lock").stderr


def read_lock(project: Project) -> str:
    """Return the text of the lock of the second stage."""
    return project.folder.joinpath("build-stages/pylock.second.toml").read_text("utf-8")


def test_a_wheel_of_the_version_promises_its_metadata(
    project: Project, index: Index
) -> None:
    """It may be for another platform. Nothing is built while locking."""
    sdist(index, "base", requires=["extra>=1"])
    sdist(index, "model", requires=["base", "other"])
    make_wheel(index.folder, "other", "1.0")
    make_wheel(index.folder, "extra", "1.0")
    tag = "cp38-cp38-win_amd64"
    make_wheel(index.folder, "model", "1.0", requires=["base", "other"], tag=tag)
    write(project)
    lines = lock(project)
    assert "building" not in lines
    assert {"base", "extra", "model", "other"} == versions(project, "final").keys()
    assert 'metadata = "wheel"' in read_lock(project)


def test_a_promise_that_the_build_breaks_is_refused_before_it_compiles(
    project: Project, index: Index
) -> None:
    """The message has the lines to declare what the wheel really requires."""
    sdist(index, "base")
    sdist(index, "model", requires=["base"])
    make_wheel(index.folder, "other", "1.0")
    make_wheel(index.folder, "model", "1.0", requires=["base", "other"])
    write(project)
    lock(project)
    run_session(project, "build-stage-first")
    lines = run_session(project, "build-stage-second", check=False).stderr
    assert (
        "error: model (stage second): its METADATA and the lock, which trusts the wheel"
        " on the index, disagree: only the lock has other" in lines
    )
    assert lines.endswith('  metadata = { requires-dist = ["base"] }')
    write(project, package={"model": {"metadata": {"requires-dist": ["base"]}}})
    lock(project)
    assert 'metadata = "hook"' in read_lock(project)


def test_locking_says_what_it_builds_and_why(project: Project, index: Index) -> None:
    """Without a wheel on the index, only the build backend knows the metadata."""
    sdist(index, "base")
    sdist(index, "model", requires=["base"])
    write(project)
    first = (
        "locking has to build base first: the build backend of model is asked in an"
        " environment with these wheels"
    )
    lines = lock(project)
    assert lines.index("asking the build backend of model") < lines.index(first)
    assert lines.index(first) < lines.index("building base")
    assert "locking has to build" not in lock(project)


@pytest.mark.parametrize("promised", [True, False])
def test_a_backend_may_import_an_earlier_output(
    project: Project, index: Index, *, promised: bool
) -> None:
    """That it fails without that is no error, and with a promise the lock is made."""
    sdist(index, "base")
    system = """
    [build-system]
    requires = ["tinybackend", "base"]
    build-backend = "importing"
    backend-path = ["."]
    """
    importing = """
    import base, tinybackend

    def __getattr__(name):
        return getattr(tinybackend, name)
    """
    files = {"pyproject.toml": dedent(system), "importing.py": dedent(importing)}
    sdist(index, "model", requires=["base"], files=files)
    if promised:
        make_wheel(index.folder, "model", "1.0", requires=["base"])
    write(project)
    assert ("building base" in lock(project)) != promised
    assert "base" in versions(project, "final")


def test_a_backend_that_asks_for_another_version_is_heeded_before_that_is_built(
    project: Project, index: Index
) -> None:
    """As h5py's does, which asks for an exact mpi4py: base 1.1 isn't compiled."""
    sdist(index, "base", "1.0")
    sdist(index, "base", "1.1")
    settings = {"requires-for-build": ["base==1.0"]}
    sdist(index, "model", requires=["base"], settings=settings)
    write(project)
    assert "building base 1.1" not in lock(project)
    assert versions(project, "second")["base"] == "1.0"


@pytest.mark.slow
def test_a_backend_that_asks_for_more_with_an_earlier_output_is_caught(
    project: Project, index: Index
) -> None:
    """It was asked without that output, so the build asks it again."""
    sdist(index, "base")
    make_wheel(index.folder, "other", "1.0")
    settings = {"requires-once": {"base": ["other"]}}
    sdist(index, "model", requires=["base"], settings=settings)
    make_wheel(index.folder, "model", "1.0", requires=["base"])
    write(project)
    assert "building" not in lock(project)
    run_session(project, "build-stage-first")
    lines = run_session(project, "build-stage-second", check=False).stderr
    assert "model (stage second): its build backend requires other as soon as" in lines
    rules = {"build-requires": {"add": ["other"]}}
    assert lines.endswith('  build-requires = { add = ["other"] }')
    write(project, package={"model": rules})
    lock(project)
    run_session(project, "build-stage-second")


BACKEND = """
import pathlib, sys
from tinybackend import build_wheel, get_requires_for_build_wheel, _prepare_metadata

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    pathlib.Path(sys.prefix, "lib/added").write_text("")
    return _prepare_metadata(folder, config_settings)
"""
PYPROJECT = in_tree_backend("meddling")


def declare_two(project: Project, index: Index, **stage: Any) -> None:  # noqa: ANN401
    """Declare a stage of two outputs; the second writes into the environment."""
    sdist(index, "innocent", settings={"thinks": 0.5})
    files = {"meddling.py": BACKEND, "pyproject.toml": PYPROJECT}
    make_sdist(index.folder, "guilty", "1.0", static=False, files=files)
    both = ["innocent", "guilty"]
    only = {"name": "only", "outputs": both, **stage}
    declare(project, {"final": {"requirements": both}, "stage": [only]})


def test_backends_side_by_side_are_told_apart(project: Project, index: Index) -> None:
    """The one that changes their environment is named, whichever ends first."""
    declare_two(project, index)
    said = run_session(project, "build-stages-lock", check=False).stderr
    assert "guilty (stage only): its build writes into the environment" in said
    assert "innocent (stage only)" not in said


@pytest.mark.slow
def test_backends_with_private_environments_are_asked(
    project: Project, index: Index
) -> None:
    """One after the other, each in a copy that it may change."""
    declare_two(project, index, **{"private-environment": True})
    assert "locked 2 environments" in run_session(project, "build-stages-lock").stderr
