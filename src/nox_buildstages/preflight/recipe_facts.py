"""Facts about a build from the catalogue of recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.facts import Known
from nox_buildstages.recipes.catalogue import recipe_for
from nox_buildstages.recipes.recipe import (
    Architectures,
    CudaLibraries,
    Disk,
    ForceBuild,
    MemoryPerJob,
    SkipCuda,
    Submodules,
    Takes,
)
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.version import Version

    from nox_buildstages.preflight.facts import Torch
    from nox_buildstages.recipes.recipe import Recipe


def builds_cuda(
    recipe: Recipe,
    version: Version,
    *,
    torch: Torch | None,
    variables: Mapping[str, str],
) -> bool:
    """Whether a build with some variables compiles CUDA, if the package has any."""
    skip = recipe.find(SkipCuda, version, cuda=False)
    if skip and skip.env and skip.env.items() <= variables.items():
        return False
    return torch is None or torch.cuda is not None


def memory_of(
    name: str, version: Version, *, torch: Torch | None, variables: Mapping[str, str]
) -> int | None:
    """Return the bytes that a job of a build with some variables needs, if known."""
    recipe = recipe_for(name)
    if recipe is None:
        return None
    cuda = builds_cuda(recipe, version, torch=torch, variables=variables)
    memory = recipe.find(MemoryPerJob, version, cuda=cuda)
    return None if memory is None else memory.size_of_job(variables)


def known_of(
    name: str, version: Version, *, torch: Torch | None, variables: Mapping[str, str]
) -> Known:
    """Return what is known about a version of an output, built with some variables."""
    recipe = recipe_for(name)
    if recipe is None:
        return Known()
    skip = recipe.find(SkipCuda, version, cuda=False)
    skipped = skip.env if skip else {}
    cuda = builds_cuda(recipe, version, torch=torch, variables=variables)
    force = recipe.find(ForceBuild, version, cuda=cuda)
    submodules = recipe.find(Submodules, version, cuda=cuda)
    disk = recipe.find(Disk, version, cuda=cuda)
    known = Known(
        force_build=force.env if force else {},
        skip_cuda=skipped,
        submodules=submodules.folders if submodules else (),
        disk=disk.size if disk else None,
        is_long=recipe.find(Takes, version, cuda=cuda) is not None,
    )
    architectures = recipe.find(Architectures, version, cuda=cuda)
    libraries = recipe.find(CudaLibraries, version, cuda=cuda)
    if architectures is not None:
        known = replace(
            known,
            architectures=architectures.variable,
            architectures_example=architectures.spell("9.0"),
            default_architectures=architectures.default or "",
        )
    return replace(
        known,
        compiles_cuda=bool(architectures or libraries),
        cuda_libraries=libraries.names if libraries else (),
    )
