"""One version of each match-runtime project in all environments."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from nox_buildstages.config.graph import arrange
from nox_buildstages.errors import MatchRuntimeError, ResolutionError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.lockfile import IndexPin, Lock
from nox_buildstages.lock.resolve.environment import Bound, ResolvedEnvironment
from nox_buildstages.lock.resolve.known_metadata import KnownMetadata, StaticMetadata
from nox_buildstages.lock.resolve.match_runtime import VersionMatcher, match_error
from nox_buildstages.lock.resolve.source_choice import SourceChoice
from nox_buildstages.model import (
    DirectorySource,
    Final,
    Metadata,
    Output,
    Project,
    Stage,
)

TORCH, NUMPY = canonicalize_name("torch"), canonicalize_name("numpy")
HERE, THERE = "here", "there"
SAID = "Because you require torch>=2.13 and torch<=2.8, your requirements are …"


def draft(stage: str, sha256: str = "", **versions: str) -> ResolvedEnvironment:
    return ResolvedEnvironment(
        lock=Lock(name=stage, inputs="", pylock=pylock.make_pylock(())),
        pins=tuple(
            IndexPin(
                name=canonicalize_name(name), version=Version(version), sha256=sha256
            )
            for name, version in versions.items()
        ),
    )


def drafts(**stages: dict[str, str]) -> dict[str, ResolvedEnvironment]:
    return {stage: draft(stage, **versions) for stage, versions in stages.items()}


def project(*match_runtime: NormalizedName) -> Project:
    def stage(name: str, dependency: str, output: str) -> Stage:
        return Stage(
            name=name,
            dependencies=(Requirement(dependency), Requirement("ninja>=1")),
            outputs=(Output(requirement=Requirement(output), location=""),),
        )

    return Project(
        pyproject=Path("/project/pyproject.toml"),
        lock_dir=Path("/project/build-stages"),
        wheelhouse=Path("/project/wheelhouse"),
        match_runtime=match_runtime,
        final=Final(requirements=(Requirement("Torch>=2.13"), Requirement("a"))),
        stages=(stage("kernels", "torch", "a"), stage("models", "torch<2.9", "b")),
    )


def facts(*match_runtime: NormalizedName) -> KnownMetadata:
    def promise(*requires: str, metadata: Metadata | None) -> StaticMetadata:
        choice = SourceChoice(version=None, source=DirectorySource(path="a"))
        return StaticMetadata(choice=choice, requires=requires, metadata=metadata)

    said = Metadata(
        version=Version("1"), requires_dist=("torch==2.8.*",), learned="static"
    )
    return KnownMetadata(
        project=project(*match_runtime),
        static={
            canonicalize_name("a"): promise("torch<2.10", metadata=said),
            canonicalize_name("b"): promise(metadata=None),
        },
    )


def bound(
    version: str, name: NormalizedName = TORCH, holder: str = "final", target: str = ""
) -> Bound:
    return Bound(
        name=name,
        operator="==" if target else "<=",
        version=Version(version),
        holder=holder,
        target=target,
    )


def texts(matcher: VersionMatcher, target: str = HERE) -> tuple[str, ...]:
    return tuple(map(str, matcher.bounds_for(target)))


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
def test_equal_versions_need_no_bound(stages: dict[str, ResolvedEnvironment]) -> None:
    """A project that is absent or not in match-runtime may have any version."""
    matcher = VersionMatcher(names=[TORCH])
    assert not matcher.tighten({HERE: stages})
    assert texts(matcher) == ()


@pytest.mark.parametrize(
    ("kernels", "final", "holder"),
    [("2.8", "2.13", "kernels"), ("2.13", "2.8", "final"), ("2.10", "2.8", "final")],
)
def test_the_lowest_version_is_the_bound(kernels: str, final: str, holder: str) -> None:
    """No environment can have a higher version, whichever has the lowest."""
    matcher = VersionMatcher(names=[TORCH])
    stages = drafts(kernels={"torch": kernels}, final={"torch": final})
    assert matcher.tighten({HERE: stages})
    assert matcher.bounds_for(HERE) == (bound("2.8", holder=holder),)
    assert texts(matcher) == ("torch<=2.8",)


def test_a_lower_bound_replaces_a_bound() -> None:
    """Later answers of backends may require an even lower version."""
    matcher = VersionMatcher(names=[TORCH])
    for kernels, final in (("2.10", "2.13"), ("2.8", "2.10")):
        stages = drafts(kernels={"torch": kernels}, final={"torch": final})
        assert matcher.tighten({HERE: stages})
    assert texts(matcher) == ("torch<=2.8",)


def test_projects_are_bound_one_by_one() -> None:
    """The bound of the first project may settle the second one."""
    matcher = VersionMatcher(names=[NUMPY, TORCH])
    stages = drafts(
        kernels={"torch": "2.8", "numpy": "2"}, final={"torch": "2.13", "numpy": "1"}
    )
    assert matcher.tighten({HERE: stages})
    assert texts(matcher) == ("numpy<=1",)
    stages = drafts(
        kernels={"torch": "2.8", "numpy": "1"}, final={"torch": "2.13", "numpy": "1"}
    )
    assert matcher.tighten({HERE: stages})
    assert texts(matcher) == ("numpy<=1", "torch<=2.8")
    assert [*matcher.without_each(HERE)] == [
        (bound("1", NUMPY), (bound("2.8", holder="kernels"),)),
        (bound("2.8", holder="kernels"), (bound("1", NUMPY),)),
        (bound("1", NUMPY), ()),
    ]


def test_targets_have_the_same_version() -> None:
    """A version that one target lacks is no version for any target."""
    matcher = VersionMatcher(names=[TORCH])
    here, there = drafts(final={"torch": "2.8"}), drafts(final={"torch": "2.13"})
    assert matcher.tighten({HERE: here, THERE: there})
    assert texts(matcher, THERE) == ("torch<=2.8",)


def test_a_bound_names_the_target_of_its_holder() -> None:
    """If there are several targets."""
    matcher = VersionMatcher(names=[TORCH], labels={HERE: "Linux", THERE: "a Mac"})
    here, there = drafts(final={"torch": "2.8"}), drafts(final={"torch": "2.13"})
    matcher.tighten({HERE: here, THERE: there})
    assert matcher.bounds_for(HERE)[0].holder == "final for Linux"


def test_other_versions_are_tried_if_a_bound_fails() -> None:
    """The highest version comes first, until one suits all environments."""
    matcher = VersionMatcher(names=[TORCH])
    stages = drafts(kernels={"torch": "2.8"}, final={"torch": "2.13"})
    matcher.tighten({HERE: stages})
    error = MatchRuntimeError(name="torch", details=["kernels: at most 2.8"])
    freed = draft("models", torch="2.10+cpu")
    for tried in ("torch==2.13", "torch==2.10", "torch==2.8"):
        matcher.reject(matcher.bounds_for(HERE)[0], freed, error)
        assert texts(matcher) == (tried,)
    with pytest.raises(MatchRuntimeError, match=r"at most 2\.8"):
        matcher.reject(matcher.bounds_for(HERE)[0], freed, error)


def test_builds_match_for_each_target() -> None:
    """A Mac has no build for CUDA; only builds of the same target have to match."""
    matcher = VersionMatcher(names=[TORCH])
    here = drafts(kernels={"torch": "2.13+cpu"}, final={"torch": "2.13+cu130"})
    there = drafts(kernels={"torch": "2.13"}, final={"torch": "2.13"})
    assert matcher.tighten({HERE: here, THERE: there})
    assert texts(matcher) == ("torch==2.13+cu130",)
    assert texts(matcher, THERE) == ()


def test_a_version_without_local_part_excludes_other_builds() -> None:
    """``==2.13`` would allow 2.13+cpu."""
    assert str(bound("2.13", target=HERE)) == "torch===2.13"


def test_the_error_lists_builds_that_do_not_match() -> None:
    """After all builds were tried, it lists the build of each environment."""
    matcher = VersionMatcher(names=[TORCH])
    stages = drafts(
        kernels={"torch": "2.13.0+cpu"},
        models={"torch": "2.13.0+cu130"},
        final={"torch": "2.13.0+cu130"},
    )
    for build in ("cu130", "cpu"):
        assert matcher.tighten({HERE: stages})
        assert texts(matcher) == (f"torch==2.13.0+{build}",)
    with pytest.raises(MatchRuntimeError) as caught:
        matcher.tighten({HERE: stages})
    assert str(caught.value).splitlines() == [
        "error: torch: no version suits every environment (match-runtime)",
        "  kernels: 2.13.0+cpu",
        "  models: 2.13.0+cu130",
        "  final: 2.13.0+cu130",
        "help: change one of these, or remove torch from match-runtime",
    ]


def test_builds_are_matched_again_if_the_version_changes() -> None:
    """Builds of another version say nothing about this version."""
    matcher = VersionMatcher(names=[TORCH])
    stages = drafts(kernels={"torch": "2.13+cpu"}, final={"torch": "2.13+cu130"})
    assert matcher.tighten({HERE: stages})
    stages = drafts(kernels={"torch": "2.8+cpu"}, final={"torch": "2.13+cu130"})
    assert matcher.tighten({HERE: stages})
    assert texts(matcher) == ("torch<=2.8",)


def test_one_version_must_be_one_file() -> None:
    """Two indexes may have different files of one version."""
    stages = {
        "kernels": draft("kernels", sha256="0" * 64, torch="2.13"),
        "final": draft("final", sha256="1" * 64, torch="2.13"),
    }
    with pytest.raises(MatchRuntimeError) as caught:
        VersionMatcher(names=[TORCH]).tighten({HERE: stages})
    assert "  kernels: 2.13 (sha256 000000000000…)" in str(caught.value)
    assert "  final: 2.13 (sha256 111111111111…)" in str(caught.value)


def test_the_error_for_a_bound_names_both_sides() -> None:
    """The bound, all requirements on the project, and uv's message."""
    known = facts(TORCH)
    error = ResolutionError(name="final", details=SAID.splitlines())
    graph = arrange(known.project)
    found = match_error(error, bound("2.8", holder="kernels"), known, graph)
    assert str(found).splitlines() == [
        "error: torch: no version suits every environment (match-runtime)",
        "  kernels: at most 2.8",
        "  final: Torch>=2.13",
        "  a, to be built: torch<2.10",
        "  stage models: torch<2.9",
        "  a, once built: torch==2.8.*",
        "  with these, runtime environment can't be locked:",
        f"  {SAID}",
        "help: change one of these, or remove torch from match-runtime",
        "  if what a declares is wrong, correct it in pyproject.toml:",
        "    [tool.nox-buildstages.package.a]",
        '    build-requires = { remove = ["torch"] }',
    ]
