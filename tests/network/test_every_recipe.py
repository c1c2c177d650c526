"""The recipes against PyPI, without a GPU: they are true, and what they give builds.

A few run with all tests, and every one in the session `recipes`.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version
from uv import find_uv_bin

from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.targets import Target
from nox_buildstages.errors import ResolutionError, SourceError
from nox_buildstages.lock.files.pylock import source_of
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
from nox_buildstages.model import GitSource
from nox_buildstages.reader import parse_toml
from nox_buildstages.recipes.catalogue import FOLDER, recipe_for
from nox_buildstages.recipes.recipe import SkipCuda
from nox_buildstages.sources.sources import Sources
from nox_buildstages.system.process import run
from support.real import folder_with_torch, make_real_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.model import Source
    from nox_buildstages.recipes.recipe import Recipe

pytestmark = pytest.mark.network

FEW = ("causal-conv1d", "flash-attn", "natten")
"""The recipes that all tests include."""

NEEDS_CUDA = ("transformer-engine-torch",)
"""Packages whose setup.py fails with a CPU build of torch."""

PROJECT = """
    [project]
    name = "mine"
    version = "1.0"

    [tool.nox-buildstages]
    constraints = ["torch==2.13.0"]
"""


def recipes(*, git: bool | None = None) -> list[object]:
    """Return the names of all recipes, those from an index, or those from git."""
    found: list[object] = []
    for name in sorted(file.name.removesuffix(".toml") for file in FOLDER.iterdir()):
        recipe = recipe_for(name)
        if recipe is not None and git in {None, recipe.git is not None}:
            marks = () if recipe.name in FEW else (pytest.mark.recipes,)
            found.append(pytest.param(recipe, id=recipe.name, marks=marks))
    return found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@cache
def resolver(folder: Path) -> Resolver:
    """Return a resolver that knows this machine's indexes."""
    python = Path(sys.executable)
    interpreter = probe_interpreter(python, runner=run, cache=folder)
    return Resolver(
        uv=Path(find_uv_bin()),
        python=python,
        target=Target(interpreter=interpreter, python=python),
        runner=run,
        indexes=Indexes(root=folder),
    )


@cache
def tree(source: Source, folder: Path) -> Path:
    """Return the unpacked source."""
    name = str(source).rpartition("/")[2].replace(" ", "_")
    sources = Sources(folder, folder / "cache", run)
    return sources.unpack(source, folder / canonicalize_name(name))


def files(folder: Path) -> Iterator[Path]:
    """Yield the files in which a build may read a variable."""
    for pattern in ("*.py", "*.txt", "*.cmake", "*.toml"):
        yield from folder.rglob(pattern)


def newest(recipe: Recipe, versions: str, folder: Path) -> tuple[Source, Version]:
    """Return the newest source in a range: an sdist, or the commit of the recipe."""
    git, name = recipe.git, canonicalize_name(recipe.name)
    if git is not None:
        found = GitSource(url=git.url, commit=git.commit)  # with the whole repository
        return found, git.version
    question = Question(name=name, requirements=(f"{name}{versions}",), sources=(name,))
    (package,) = resolver(folder).resolve(question).packages
    source = source_of(package)
    assert source
    assert package.version
    return source, package.version


@pytest.mark.parametrize("recipe", recipes())
def test_the_newest_sources_read_the_variables(recipe: Recipe, scratch: Path) -> None:
    """In each range, a build finds the variables that the facts name."""
    missing = {}
    for fact in recipe.facts:
        if not fact.variables:
            continue
        try:
            source, version = newest(recipe, str(fact.versions), scratch)
            folder = tree(source, scratch)
        except ResolutionError as error:
            assert "no version" in str(error)  # noqa: PT017
            missing[str(fact.versions)] = "no sdist"
            continue
        except SourceError as error:
            pytest.skip(f"{recipe.name} can't be fetched: {error.summary}")
        assert fact.versions.contains(version, prereleases=True)
        text = "".join(it.read_text("utf-8", "replace") for it in files(folder))
        absent = [it for it in fact.variables if it not in text]
        if absent:
            missing[f"{version} ({fact.versions})"] = ", ".join(absent)
    assert missing == {}


@pytest.mark.parametrize("recipe", recipes(git=False))
def test_what_init_writes_locks(recipe: Recipe, tmp_path: Path) -> None:
    """With torch's CPU build; with a variable for that, it builds too."""
    if recipe.name in NEEDS_CUDA:
        pytest.skip(f"{recipe.name} can't be locked without CUDA")
    project = make_real_project(tmp_path / "it", UV_FIND_LINKS=folder_with_torch())
    project.write(PROJECT)
    name = canonicalize_name(recipe.name)
    init = ("-s", "build-stages-init", "--", recipe.name, "--write")
    said = project.nox(*init, timeout=600).output
    if "nothing needs a stage" in said:
        pytest.skip(f"{name} has a wheel")
    if "its build requirements are unknown" in said:
        pytest.skip(f"the build backend of {name} fails without CUDA")
    project.nox("-s", "build-stages-lock", timeout=600)
    stages = parse_toml(project.pyproject.read_text("utf-8"))["tool"]["nox-buildstages"]
    (stage,) = (
        it["name"]
        for it in stages["stage"]
        if any(canonicalize_name(text).startswith(name) for text in it["outputs"])
    )
    (output,) = (
        it
        for it in project.lock(stage)["tool"]["nox-buildstages"]["outputs"]
        if it["name"] == name
    )
    if recipe.find(SkipCuda, Version(output["version"]), cuda=False):
        project.nox("-s", f"build-stage-{stage}", timeout=1800)
        assert any(
            canonicalize_name(it.partition("-")[0]) == name for it in project.wheels()
        )
