"""Turn the facts of recipes into rules for a stage and into lines of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.commands.init.pyproject import Change
from nox_buildstages.config.table import TOOL
from nox_buildstages.environments.cuda import (
    FIRST_ON_PYPI,
    TOOLKIT_PARTS,
    torch_cuda,
)
from nox_buildstages.errors import UsageError
from nox_buildstages.recipes.catalogue import find_project, recipe_for
from nox_buildstages.recipes.recipe import (
    Architectures,
    BuildRequires,
    ConfigSettings,
    CudaLibraries,
    Env,
    Fact,
    Overrides,
    RequiresDist,
)
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from nox_buildstages.model import PackageRules

CUDA_TOOLKIT = canonicalize_name("cuda-toolkit")
"""The project on PyPI whose extras are the parts of a CUDA toolkit."""


class Torch(Value):
    """The torch that the project resolves to."""

    version: str
    cuda: str | None  # its version of CUDA; None for a build without CUDA

    @property
    def has_compiler(self) -> bool:
        """Whether PyPI has the compiler of its CUDA."""
        return self.cuda is not None and (
            int(self.cuda.partition(".")[0]) >= FIRST_ON_PYPI
        )

    @property
    def advice(self) -> str:
        """The way out if PyPI lacks the compiler of its CUDA."""
        return (
            f"To do: PyPI has no nvcc of CUDA {self.cuda}, only of CUDA"
            f" {FIRST_ON_PYPI} and newer. Build where CUDA {self.cuda} is"
            " installed, or choose a newer torch."
        )

    def __str__(self) -> str:
        cuda = "without CUDA" if self.cuda is None else f"with CUDA {self.cuda}"
        return f"torch {self.version}, a build {cuda}"


def find_torch(versions: Mapping[str, str]) -> Torch | None:
    """Return the torch among resolved packages, given by name."""
    version = versions.get("torch")
    return Torch(version=version, cuda=torch_cuda(versions)) if version else None


def locate(text: str, uv: Mapping[str, Any], *, has_wheel: bool = True) -> str:
    """Return a requirement with the URL of its recipe's repository.

    Nothing changes if the index has the package, or may have a wheel, if ``[tool.uv]``
    says where the package comes from, or if the text is no requirement.

    Raises:
        UsageError: The recipe doesn't know the version.
    """
    try:
        requirement = Requirement(text)
    except ValueError:
        return text
    project = requirement.name
    if recipe_for(project) is None:
        project = find_project(project)
    recipe = recipe_for(project)
    git = None if recipe is None else recipe.git
    if git is None or requirement.url or (git.wheels and has_wheel):
        return text
    if canonicalize_name(requirement.name) in map(
        canonicalize_name, uv.get("sources", ())
    ):
        return text
    exact = (it.version for it in requirement.specifier if it.operator == "==")
    pins = [it for it in exact if not it.endswith("*")]
    is_known = not pins or requirement.specifier.contains(git.version)
    extras = ",".join(sorted(requirement.extras))
    name = f"{project}[{extras}]" if extras else project
    located = git.requirement(name, None if is_known else Version(pins[0]))
    if located is None:
        raise UsageError(
            problem=f"{text}: {git.why}, and its recipe knows {git.version} only",
            hint=f"name a commit:\n  {name} @ git+{git.url}@COMMIT",
        )
    return f"{located} ; {requirement.marker}" if requirement.marker else located


def apply_facts(rules: PackageRules, facts: Iterable[Fact]) -> PackageRules:
    """Return the rules of an output with facts; declared values win."""
    for fact in facts:
        if isinstance(fact, BuildRequires):
            known = {it.name for it in rules.build_requires_add}
            added = (it for it in fact.add if it.name not in known)
            rules = replace(
                rules,
                build_requires_add=(*rules.build_requires_add, *added),
                build_requires_remove=(*rules.build_requires_remove, *fact.remove),
            )
        elif isinstance(fact, Env):
            rules = replace(rules, env={**fact.env, **rules.env})
        elif isinstance(fact, ConfigSettings):
            settings = {**fact.settings, **rules.config_settings}
            rules = replace(rules, config_settings=settings)
        elif isinstance(fact, RequiresDist) and rules.requires_dist is None:
            rules = replace(rules, requires_dist=fact.requirements)
    return rules


def cuda_dependency(facts: Iterable[Fact]) -> str | None:
    """Return the requirement for the compiler and libraries of CUDA, if any."""
    facts = tuple(facts)
    if not any(isinstance(it, (CudaLibraries, Architectures)) for it in facts):
        return None
    libraries = (it.names for it in facts if isinstance(it, CudaLibraries))
    names = sorted({*TOOLKIT_PARTS, *(name for names in libraries for name in names)})
    return f"{CUDA_TOOLKIT}[{','.join(names)}]"


def list_changes(
    name: str, declared: PackageRules, facts: Sequence[Fact]
) -> Iterator[Change]:
    """Yield the lines for an output that the table lacks, with a comment each."""
    table = ("tool", TOOL, "package", name)
    rules = apply_facts(declared, facts)
    requires = {"add": list(map(str, rules.build_requires_add))}
    requires["remove"] = list(rules.build_requires_remove)
    metadata = {"requires-dist": list(map(str, rules.requires_dist or ()))}
    keys: tuple[tuple[type[Fact], str, Any], ...] = (
        (BuildRequires, "build-requires", {k: it for k, it in requires.items() if it}),
        (ConfigSettings, "config-settings", rules.config_settings),
        (RequiresDist, "metadata", metadata),
    )
    for kind, key, value in keys:
        ours = [it for it in facts if isinstance(it, kind)]
        whys = dict.fromkeys(it.why for it in ours)
        if apply_facts(declared, ours) != declared:
            yield Change(table=table, key=key, value=value, comment=tuple(whys))
    for fact in facts:
        variables: Mapping[str, str] = {}
        comment: tuple[str, ...] = (fact.why,)
        if isinstance(fact, Env):
            variables = fact.env
        elif isinstance(fact, Architectures) and fact.variable:
            variables = {fact.variable: fact.default or ""}
            form = f'name your GPUs in this form: "{fact.spell("8.0", "9.0+PTX")}"'
            advice = f"this is its default; {form}"
            if fact.default is None:
                advice = (
                    f'To do: {form}; "" is the GPU of the machine that builds, which'
                    " must have one"
                )
            comment = (fact.why, advice)
        for variable in sorted(variables.keys() - declared.env.keys()):
            yield Change(
                table=(*table, "env"),
                key=variable,
                value=variables[variable],
                comment=comment,
            )
            comment = ()


def list_overrides(facts: Iterable[Fact]) -> Iterator[tuple[str, str]]:
    """Yield uv's overrides of wrong runtime requirements, and the reason for each."""
    for fact in facts:
        if isinstance(fact, Overrides):
            yield from ((str(it), fact.why) for it in fact.requirements)
