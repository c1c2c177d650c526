"""What every test may ask for: an index, and a project to run nox in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from support.index import Index
from support.packages import make_tinybackend
from support.prepared import EarlierRuns
from support.project import Project, hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Half of all drawn graphs have a cycle, and a property wants either kind.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
# The quick tests try the same examples each time; new ones are for the thorough ones.
settings.register_profile("quick", patient, max_examples=10, derandomize=True)
settings.register_profile("thorough", patient, max_examples=300)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one ask for more than a run of all tests does."""
    words = "how many moments nox is killed at (%(default)s)"
    parser.addoption("--moments", type=int, default=8, help=words)
    words = "how many runs are killed in one of their steps (%(default)s)"
    parser.addoption("--kills", type=int, default=6, help=words)
    words = "write the outputs of commands into the documentation"
    parser.addoption("--rewrite-docs", action="store_true", help=words)


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> int:
    """How many moments of a build to try."""
    count: int = request.config.getoption("--moments")
    return count


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How many runs to kill in one of their steps."""
    count: int = request.config.getoption("--kills")
    return count


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The caches of uv and virtualenv, for the whole run."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="session")
def shared_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The index of all tests, for one after the other."""
    with Index(tmp_path_factory.mktemp("index")) as index:
        yield index


@pytest.fixture
def index(tmp_path: Path, shared_index: Index) -> Index:
    """An index that holds tinybackend 1.0."""
    shared_index.serve(tmp_path / "index")
    make_tinybackend(shared_index.folder)
    return shared_index


@pytest.fixture
def env(tmp_path: Path, caches: Path, index: Index) -> dict[str, str]:
    """An environment for subprocesses that knows the index and nothing else."""
    return hermetic_env(tmp_path / "scratch", caches, index)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What runs of nox left, for tests that begin after the same run."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def project(
    tmp_path: Path, env: dict[str, str], index: Index, results: Path
) -> Project:
    """A project whose noxfile registers the sessions, with no pyproject.toml yet."""
    runs = EarlierRuns(results=results, index=index.folder)
    return make_project(tmp_path / "project", env, runs)
