"""Facts of recipes in a proposal: where a source is, which torch, which lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from nox_buildstages.commands.init.known import (
    apply_facts,
    cuda_dependency,
    find_torch,
    list_changes,
    list_overrides,
    locate,
)
from nox_buildstages.errors import UsageError
from nox_buildstages.model import PackageRules
from nox_buildstages.recipes.catalogue import recipe_for
from nox_buildstages.recipes.recipe import Recipe, read_recipe

COMMON = """
versions = ">=1"
date = 2026-11-28
source = "owner/ops: setup.py"
why = "this is the reason"
"""
FACTS = (
    'build-requires = { add = ["torch", "ninja"], remove = ["cmake"] }',
    'force-build = { OPS_FORCE_BUILD = "TRUE" }',
    'skip-cuda = { OPS_SKIP_CUDA = "1" }',
    'force-cuda = { FORCE_CUDA = "1" }',
    (
        "architectures = { variable = 'OPS_ARCHS', dots = false, separator = ';',"
        " ptx = true }"
    ),
    'memory-per-job = { size = "2GB", threads-variable = "NVCC_THREADS", threads = 3 }',
    'cuda-libraries = ["cublas"]',
    'config-settings = { "--fast" = "1" }',
    'requires-dist = ["numpy"]',
    "overrides = [\"black ; python_version < '0'\"]",
)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    text = "".join(f"[[fact]]\n{it}{COMMON}" for it in FACTS)
    return read_recipe(f'name = "ops"\n{text}', Path("ops.toml"))


def lines(recipe: Recipe, declared: PackageRules, *, cuda: bool) -> dict[str, object]:
    """Return the values that a table gets, by key."""
    facts = recipe.facts_for(Version("1.5"), cuda=cuda)
    changes = [*list_changes("ops", declared, facts)]
    assert all(it.comment[0] == "this is the reason" for it in changes)
    return {it.key: it.value for it in changes}


def test_each_fact_becomes_a_line_with_its_reason(recipe: Recipe) -> None:
    """With CUDA, the variable of a build without CUDA is left out."""
    found = lines(recipe, PackageRules(), cuda=True)
    assert found == {
        "build-requires": {"add": ["torch", "ninja"], "remove": ["cmake"]},
        "config-settings": {"--fast": "1"},
        "metadata": {"requires-dist": ["numpy"]},
        "OPS_FORCE_BUILD": "TRUE",
        "FORCE_CUDA": "1",
        "OPS_ARCHS": "",
    }
    without = lines(recipe, PackageRules(), cuda=False)
    assert without["OPS_SKIP_CUDA"] == "1"
    assert without.keys().isdisjoint({"FORCE_CUDA", "OPS_ARCHS"})


def test_declared_lines_stay(recipe: Recipe) -> None:
    """A key with several values keeps those that are there."""
    declared = PackageRules(
        build_requires_add=(Requirement("torch<3"),),
        config_settings={"--fast": "0"},
        env={"OPS_FORCE_BUILD": "FALSE", "OPS_ARCHS": "90", "FORCE_CUDA": "1"},
        requires_dist=(),
    )
    found = lines(recipe, declared, cuda=True)
    requires = {"add": ["torch<3", "ninja"], "remove": ["cmake"]}
    assert found == {"build-requires": requires}
    facts = recipe.facts_for(Version("1.5"), cuda=True)
    assert apply_facts(declared, facts).env == declared.env


def test_a_stage_gets_the_parts_of_cuda(recipe: Recipe) -> None:
    """Only builds with CUDA need the compiler."""
    facts = recipe.facts_for(Version("1.5"), cuda=True)
    assert cuda_dependency(facts) == "cuda-toolkit[cccl,cublas,cudart,nvcc]"
    without = recipe.facts_for(Version("1.5"), cuda=False)
    assert cuda_dependency(without) is None
    overrides = [text for text, _ in list_overrides(without)]
    assert overrides == ['black; python_version < "0"']


@pytest.mark.parametrize(
    ("packages", "text"),
    [
        ({"torch": "2.13.0+cpu"}, "torch 2.13.0+cpu, a build without CUDA"),
        ({"torch": "2.8.0+cu128"}, "torch 2.8.0+cu128, a build with CUDA 12.8"),
        ({"torch": "2.8.0", "nvidia-cuda-runtime-cu12": "12.8.90"}, "with CUDA 12.8"),
        ({"torch": "2.13.0", "nvidia-cuda-runtime": "13.0.96"}, "with CUDA 13.0"),
        ({"torch": "2.13.0"}, "without CUDA"),
        ({"torch": "2.13.0+cpu", "nvidia-cuda-runtime": "13.0"}, "without CUDA"),
        ({"torch": "2.13.0+rocm7.0"}, "without CUDA"),
    ],
)
def test_the_cuda_of_torch(packages: dict[str, str], text: str) -> None:
    """A local version says it; PyPI's wheels require the libraries."""
    torch = find_torch(packages)
    assert str(torch).endswith(text)
    assert torch
    assert torch.has_compiler == text.endswith("13.0")


def test_no_torch_is_no_cuda() -> None:
    """Then no line is about one."""
    assert find_torch({"nvidia-cuda-runtime": "13.0"}) is None


def test_a_recipe_says_where_the_source_is() -> None:
    """A bare name would be no package of PyPI, or another project's."""
    recipe = recipe_for("detectron2")
    assert recipe
    assert recipe.git
    start = f"detectron2 @ git+{recipe.git.url}@"
    assert locate("detectron2", {}) == f"{start}{recipe.git.commit}"
    assert locate("detectron2[all]>=0.1; python_version > '3'", {}) == (
        f"detectron2[all] @ git+{recipe.git.url}@{recipe.git.commit}"
        ' ; python_version > "3"'
    )
    assert locate("detectron2==0.*", {}) == locate("detectron2", {})
    assert locate("detectron2==0.99", {}) == f"{start}v0.99"
    for text in ("torch-scatter==2.1", "apex @ file:///apex", "no requirement"):
        assert locate(text, {}) == text
    assert locate("tiny_cuda_nn", {}).startswith("tinycudann @ git+https")
    assert locate("bitsandbytes", {}) == "bitsandbytes"  # its wheels may do
    assert "git+https" in locate("bitsandbytes", {}, has_wheel=False)
    assert locate("apex", {"sources": {"Apex": {"index": "own"}}}) == "apex"


def test_a_version_that_a_recipe_cannot_find_is_an_error() -> None:
    """Its repository has no tags; the way out is a commit."""
    with pytest.raises(UsageError, match="PyPI has another project") as error:
        locate("apex==0.99", {})
    assert "apex @ git+https://github.com/NVIDIA/apex@COMMIT" in error.value.hint
