"""One version of what matches the runtime, in every environment that holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from nox_buildstages.declare.graph import arrange
from nox_buildstages.errors import MatchRuntimeError, ResolutionError
from nox_buildstages.lock import pylock
from nox_buildstages.lock.choose import Chosen
from nox_buildstages.lock.drafts import Draft
from nox_buildstages.lock.facts import Facts, Promise
from nox_buildstages.lock.lockfile import IndexPin, Lock
from nox_buildstages.lock.matching import Bound, held_back, unmatched
from nox_buildstages.model import (
    DirectorySource,
    Final,
    Metadata,
    Output,
    Project,
    Stage,
)

TORCH, NUMPY = canonicalize_name("torch"), canonicalize_name("numpy")
SAID = "Because you require torch>=2.13 and torch<=2.8, your requirements are …"


def draft(stage: str, **versions: str) -> Draft:
    return Draft(
        lock=Lock(name=stage, inputs="", pylock=pylock.make(())),
        pins=tuple(
            IndexPin(name=canonicalize_name(name), version=Version(version), sha256="")
            for name, version in versions.items()
        ),
        complete=True,
    )


def drafts(**stages: dict[str, str]) -> dict[str, Draft]:
    return {stage: draft(stage, **versions) for stage, versions in stages.items()}


def project(*match_runtime: NormalizedName) -> Project:
    def stage(name: str, dependency: str, output: str) -> Stage:
        return Stage(
            name=name,
            dependencies=(Requirement(dependency), Requirement("ninja>=1")),
            outputs=(Output(requirement=Requirement(output), place=""),),
        )

    return Project(
        pyproject=Path("/project/pyproject.toml"),
        lock_dir=Path("/project/build-stages"),
        wheelhouse=Path("/project/wheelhouse"),
        match_runtime=match_runtime,
        final=Final(requirements=(Requirement("Torch>=2.13"), Requirement("a"))),
        stages=(stage("kernels", "torch", "a"), stage("models", "torch<2.9", "b")),
    )


def facts(*match_runtime: NormalizedName) -> Facts:
    def promise(*requires: str, metadata: Metadata | None) -> Promise:
        chosen = Chosen(version=None, source=DirectorySource(path="a"))
        return Promise(chosen=chosen, requires=requires, metadata=metadata)

    said = Metadata(
        version=Version("1"), requires_dist=("torch==2.8.*",), learned="static"
    )
    return Facts(
        project=project(*match_runtime),
        promises={
            canonicalize_name("a"): promise("torch<2.10", metadata=said),
            canonicalize_name("b"): promise(metadata=None),
        },
    )


def bound(version: str, name: NormalizedName = TORCH, holder: str = "final") -> Bound:
    return Bound(name=name, version=Version(version), holder=holder)


@pytest.mark.parametrize(
    "stages",
    [
        {},
        drafts(kernels={"torch": "2.8"}, final={}),
        drafts(kernels={"torch": "2.8"}, final={"torch": "2.8"}),
        drafts(kernels={"numpy": "1"}, final={"numpy": "2"}),
        drafts(kernels={"torch": "2.8"}, final={"torch": "2.8.0"}),
    ],
)
def test_nothing_is_held_back_that_agrees(stages: dict[str, Draft]) -> None:
    """Where a project isn't there, or isn't to match, it may be what it likes."""
    assert held_back(stages, {}, facts(TORCH)) is None


@pytest.mark.parametrize(
    ("kernels", "final", "holder"),
    [("2.8", "2.13", "kernels"), ("2.13", "2.8", "final"), ("2.10", "2.8", "final")],
)
def test_the_lower_version_wins(kernels: str, final: str, holder: str) -> None:
    """Neither side can have a higher one, whichever side it is."""
    stages = drafts(kernels={"torch": kernels}, final={"torch": final})
    found = held_back(stages, {}, facts(TORCH))
    assert found == bound("2.8", holder=holder)
    assert str(found) == "torch<=2.8"


def test_a_bound_gives_way_to_a_lower_one() -> None:
    """What is learned later may hold everything further back."""
    stages = drafts(kernels={"torch": "2.8"}, final={"torch": "2.10"})
    found = held_back(stages, {TORCH: bound("2.10")}, facts(TORCH))
    assert found == bound("2.8", holder="kernels")


def test_projects_are_held_back_one_after_the_other() -> None:
    """The first may settle the second; else its turn comes."""
    stages = drafts(
        kernels={"torch": "2.8", "numpy": "2"}, final={"torch": "2.13", "numpy": "1"}
    )
    both = facts(NUMPY, TORCH)
    assert held_back(stages, {}, both) == bound("1", NUMPY)
    stages = drafts(
        kernels={"torch": "2.8", "numpy": "1"}, final={"torch": "2.13", "numpy": "1"}
    )
    found = held_back(stages, {NUMPY: bound("1", NUMPY)}, both)
    assert found == bound("2.8", holder="kernels")


def test_a_bound_has_no_local_version() -> None:
    """Its version is a public one, which every build of it satisfies."""
    assert str(bound("2.13.0+cpu")) == "torch<=2.13.0"


def test_builds_of_one_version_do_not_match() -> None:
    """Two indexes with a torch each are told apart, and all environments named."""
    stages = drafts(
        kernels={"torch": "2.13.0+cpu"},
        models={"torch": "2.13.0+cu130"},
        final={"torch": "2.13.0+cu130"},
    )
    known = facts(TORCH)
    first = held_back(stages, {}, known)
    assert first == bound("2.13.0+cpu", holder="kernels")
    assert first is not None
    with pytest.raises(MatchRuntimeError) as caught:
        held_back(stages, {TORCH: first}, known)
    assert str(caught.value).splitlines() == [
        "no version of torch suits every environment (match-runtime)",
        "  kernels: 2.13.0+cpu",
        "  models: 2.13.0+cu130",
        "  final: 2.13.0+cu130",
        "change one of these, or take torch out of match-runtime",
    ]


def test_an_unmet_bound_names_both_sides() -> None:
    """Who can't have more, who asks for what, and what uv said of it."""
    known = facts(TORCH)
    error = ResolutionError(name="final", output=SAID)
    bounds = {NUMPY: bound("1", NUMPY), TORCH: bound("2.8", holder="kernels")}
    found = unmatched(error, bounds, known, arrange(known.project))
    assert str(found).splitlines() == [
        "no version of torch suits every environment (match-runtime)",
        "  kernels: at most 2.8",
        "  final: Torch>=2.13",
        "  stage kernels: torch<2.10",
        "  stage models: torch<2.9",
        "  a, once built: torch==2.8.*",
        "with that, final can't be locked:",
        f"  {SAID}",
        "change one of these, or take torch out of match-runtime",
    ]


@pytest.mark.parametrize(
    ("output", "bounds"),
    [
        (SAID, {}),
        (SAID, {NUMPY: bound("1", NUMPY)}),
        (SAID, {TORCH: bound("2")}),
        ("Because pytorch<=2.8 is not available", {TORCH: bound("2.8")}),
        ("Because py-torch<=2.8 is not available", {TORCH: bound("2.8")}),
        ("Because torch<=2.8.1 is not available", {TORCH: bound("2.8")}),
        ("Because torch<=2.80 is not available", {TORCH: bound("2.8")}),
    ],
)
def test_another_failure_is_no_bounds_fault(
    output: str, bounds: dict[NormalizedName, Bound]
) -> None:
    """A resolution that would fail anyhow is told as it is."""
    known = facts(TORCH)
    error = ResolutionError(name="final", output=output)
    assert unmatched(error, bounds, known, arrange(known.project)) is None
