"""What every test may ask for: an index, and a project to run nox in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from support.index import Index
from support.packages import make_tinybackend
from support.project import Project, hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one ask for more patience than a run of all tests has."""
    words = "how many moments nox is killed at (%(default)s)"
    parser.addoption("--moments", type=int, default=8, help=words)


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> int:
    """How many moments of a build to try."""
    count: int = request.config.getoption("--moments")
    return count


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The caches of uv and virtualenv, for the whole run."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index that holds tinybackend 1.0."""
    with Index(tmp_path / "index") as index:
        make_tinybackend(index.folder)
        yield index


@pytest.fixture
def env(tmp_path: Path, caches: Path, index: Index) -> dict[str, str]:
    """An environment for subprocesses that knows the index and nothing else."""
    return hermetic_env(tmp_path / "scratch", caches, index)


@pytest.fixture
def project(tmp_path: Path, env: dict[str, str]) -> Project:
    """A project whose noxfile registers the sessions, with no pyproject.toml yet."""
    return make_project(tmp_path / "project", env)
