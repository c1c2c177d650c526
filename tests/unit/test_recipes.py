"""The recipes: every file is valid, and a faulty one says what is wrong where."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import DeclarationError
from nox_buildstages.recipes.catalogue import FOLDER, all_documents, recipe_for
from nox_buildstages.recipes.recipe import (
    Architectures,
    ForceBuild,
    MemoryPerJob,
    SkipCuda,
    read_recipe,
)
from nox_buildstages.recipes.reference import update_page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recipes.md"
FACT = """
[[fact]]
force-build = { OPS_FORCE_BUILD = "TRUE" }
versions = ">=2"
date = 2026-11-28
source = "owner/ops: setup.py"
why = "setup.py looks for a prebuilt wheel on the network; this stops it"
"""


def problems(text: str) -> str:
    """Return the message about a faulty recipe."""
    with pytest.raises(DeclarationError) as error:
        read_recipe(text, Path("ops.toml"))
    return str(error.value)


@pytest.mark.parametrize("file", sorted(it.name for it in FOLDER.iterdir()))
def test_every_file_is_a_recipe(file: str) -> None:
    """It can be read without a fault, and is found by its project's name."""
    recipe = recipe_for(file.removesuffix(".toml"))
    assert recipe
    assert recipe_for(recipe.name.replace("-", "_").upper()) == recipe
    assert file == f"{canonicalize_name(recipe.name)}.toml"


def test_a_package_without_a_recipe_has_none() -> None:
    """There is no fault then."""
    assert recipe_for("tinyops") is None
    assert recipe_for("no/name") is None


def test_a_fact_counts_for_its_versions_and_builds() -> None:
    """Some facts are about builds with CUDA, some about builds without."""
    recipe = recipe_for("flash-attn")
    assert recipe
    version = Version("2.8.3")
    assert recipe.find(SkipCuda, version, cuda=False)
    assert not recipe.find(SkipCuda, version, cuda=True)
    assert recipe.find(ForceBuild, version, cuda=False)
    assert not recipe.find(ForceBuild, Version("1.0"), cuda=False)
    assert not recipe.find(MemoryPerJob, version, cuda=False)


def test_architectures_are_spelled_as_the_package_wants() -> None:
    """Dots, separator and +PTX differ; a memory per thread counts each thread."""
    recipe = recipe_for("flash-attn")
    assert recipe
    architectures = recipe.find(Architectures, Version("2.8.3"))
    assert architectures
    assert architectures.spell("9.0", "12.0+PTX") == "90;120"
    memory = recipe.find(MemoryPerJob, Version("2.8.3"))
    assert memory
    assert memory.size_of_job({}) == 2 * memory.size_of_job({"NVCC_THREADS": "2"})


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("versions", "version", "fact[0].version: unknown key; did you mean"),
        ('">=2"', '"2"', "fact[0].versions: expected a range of versions"),
        ("date = 2026-11-28", "", "fact[0]: date is missing"),
        ("2026-11-28", '"today"', "fact[0].date: expected a date such as"),
        ("owner/ops: setup.py", "setup.py", "fact[0].source: expected 'OWNER/REPO"),
        ('source = "owner/ops: setup.py"', "", "fact[0]: source is missing"),
        ("force-build", "force-bild", "fact[0]: expected one of build-requires, "),
        ("versions", 'disk = "9GB"\nversions', "found force-build, disk"),
        ('"TRUE"', "true", "fact[0].force-build.OPS_FORCE_BUILD: expected a string"),
        ("[[fact]]", "old = 1\n[[fact]]", "old: unknown key"),
        ("[[fact]]", '[git]\nurl = "ssh://x"\n[[fact]]', "git.url: expected a URL"),
        ("2026-11-28", "today", "the document: is not TOML"),
    ],
)
def test_a_faulty_file_says_what_is_wrong(
    before: str, after: str, problem: str
) -> None:
    """The message names the file and the fact."""
    message = problems('name = "ops"\n' + FACT.replace(before, after, 1))
    assert message.startswith("error: ops.toml: ")
    assert problem in message


def test_the_file_has_the_name_of_the_project() -> None:
    """Otherwise nobody would find it."""
    assert "name: then this file is other.toml" in problems(f'name = "other"\n{FACT}')


def test_the_page_has_every_recipe() -> None:
    """A changed recipe needs `python docs/update_reference.py`."""
    page = PAGE.read_text("utf-8")
    assert update_page(page, all_documents()) == page
    assert page.count("\n### ") == len([*FOLDER.iterdir()])
