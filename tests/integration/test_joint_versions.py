"""Versions of outputs without exact pins: the newest that suit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.lock.resolve.choose_sources import MAX_VERSIONS
from support.packages import make_sdist, make_wheel
from support.pair import declare, versions
from support.sessions import run_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.index import Index
    from support.project import Project

NOTHING: Sequence[str] = ()


def sdists(index: Index, name: str, versions: Mapping[str, Sequence[str]]) -> None:
    """Put versions of a project on the index, with their build requirements."""
    for version, requires in versions.items():
        wanted = ["tinybackend", *requires]
        make_sdist(index.folder, name, version, build_requires=wanted)


def write(
    project: Project,
    runtime: Sequence[str],
    *outputs: str,
    **keys: Any,  # noqa: ANN401
) -> None:
    """Declare a stage for each output, with all earlier ones in its environment."""
    names = [it.partition("=")[0].partition("<")[0].partition(" ")[0] for it in outputs]
    stages = [
        {"name": f"s{n}", "dependencies": names[:n], "outputs": [output]}
        for n, output in enumerate(outputs)
    ]
    declare(project, {"final": {"requirements": [*runtime]}, "stage": stages, **keys})


def lock(project: Project) -> Mapping[str, str]:
    """Lock the project; return the versions in the runtime environment."""
    run_session(project, "build-stages-lock")
    return versions(project, "final")


def failure(project: Project) -> list[str]:
    """Return our lines of the error, in a run that asked no build backend."""
    lines = run_session(project, "build-stages-lock", check=False).stderr.splitlines()
    (start,) = (n for n, line in enumerate(lines) if line.startswith("error: "))
    assert start == 0, "something was done before the error"
    (hint,) = (n for n, line in enumerate(lines) if line.startswith("help: "))
    return [lines[0], *lines[hint:]]


def test_an_earlier_output_suits_what_a_later_one_declares(
    project: Project, index: Index
) -> None:
    """As blis and thinc do: the newest thinc, and the newest blis that suits it."""
    sdists(index, "blis", dict.fromkeys(("0.9", "1.0.1", "1.0.2", "1.3.4"), NOTHING))
    sdists(index, "thinc", {"9.1.0": ["blis"], "9.1.1": ["blis<1.1,>=1.0"]})
    write(project, ["thinc"], "blis", "thinc")
    assert lock(project)["thinc"] == "9.1.1"
    assert versions(project, "s1")["blis"] == "1.0.2"


def test_an_older_version_is_tried_if_the_newest_suits_no_other_output(
    project: Project, index: Index
) -> None:
    """The pin of blis rules out two versions of thinc."""
    sdists(index, "blis", dict.fromkeys(("1.0.2", "1.3.4"), NOTHING))
    thinc = {"8.3": ["blis>=1.3"], "9.0": ["blis<1.2"], "9.1": ["blis<1.1"]}
    sdists(index, "thinc", {"8.2": NOTHING, **thinc})
    write(project, ["thinc"], "blis==1.3.4", "thinc")
    assert lock(project)["thinc"] == "8.3"


def test_two_outputs_without_versions_that_fit_are_refused_at_once(
    project: Project, index: Index
) -> None:
    """Both sides; no pin would help, so the message offers to drop a declaration."""
    sdists(index, "base", dict.fromkeys(("1.0", "2.0"), NOTHING))
    sdists(index, "old", {"1.0": ["base<2"], "1.1": ["base<1.5"]})
    sdists(index, "new", {"3.0": ["base>=2"]})
    write(project, ["old", "new"], "base", "old", "new")
    sides = "new 3.0 declares base>=2, and old 1.1 declares base<1.5"
    assert failure(project) == [
        f"error: outputs: can't be locked: {sides}",
        "help: if the declaration is wrong, correct it in pyproject.toml:",
        "  [tool.nox-buildstages.package.old]",
        '  build-requires = { remove = ["base"] }',
    ]


@pytest.mark.parametrize(
    ("outputs", "keys", "other", "pin"),
    [
        (
            ["blis==1.3.4", "thinc==9.1.1"],
            {},
            "stage s0 builds blis==1.3.4",
            "blis==1.0.2",
        ),
        (
            ["blis", "thinc==9.1.1"],
            {"constraints": ["blis>1.1"]},
            "constraints say blis>1.1",
            "thinc==9.0",
        ),
        (
            ["blis", "thinc==9.1.1"],
            {"final": {"requirements": ["thinc", "blis>1.3"]}},
            "final.requirements say blis>1.3",
            "thinc==9.0",
        ),
    ],
)
def test_pins_that_exclude_each_other_are_refused_with_one_that_fits(  # noqa: PLR0913, PLR0917 - a table
    project: Project,
    index: Index,
    outputs: Sequence[str],
    keys: Mapping[str, Any],
    other: str,
    pin: str,
) -> None:
    """The message has both sides, and the other version was tried."""
    sdists(index, "blis", dict.fromkeys(("1.0.1", "1.0.2", "1.3.4"), NOTHING))
    sdists(index, "thinc", {"9.0": NOTHING, "9.1.1": ["blis<1.1,>=1.0"]})
    write(project, ["thinc"], *outputs, **keys)
    stage = "s0" if pin.startswith("blis") else "s1"
    sides = f"thinc 9.1.1 declares blis<1.1,>=1.0, and {other}"
    assert failure(project) == [
        f"error: outputs: can't be locked: {sides}",
        f"help: {pin} fits; pin it in stage {stage}, in pyproject.toml:",
        f'  outputs = ["{pin}"]',
    ]


def test_the_runtime_chooses_the_version_of_an_output(
    project: Project, index: Index
) -> None:
    """As spacy does with thinc: another package's requirements are heeded, too."""
    sdists(index, "thinc", dict.fromkeys(("8.3", "9.1"), NOTHING))
    make_wheel(index.folder, "spacy", "3.7")
    make_wheel(index.folder, "spacy", "3.8", requires=["thinc<9"])
    write(project, ["spacy"], "thinc")
    assert lock(project) == {"spacy": "3.8", "thinc": "8.3"}


@pytest.mark.slow
def test_the_search_for_a_version_that_fits_is_limited(
    project: Project, index: Index
) -> None:
    """Every version declares what can't be had; the message says how many were read."""
    sdists(index, "base", {"1.0": NOTHING})
    count = MAX_VERSIONS + 2
    sdists(index, "model", {f"1.{n}": ["base>=2"] for n in range(count)})
    write(project, ["model"], "base", "model")
    assert failure(project)[0] == (
        "error: outputs: can't be locked: model 1.21 declares base>=2, and no such"
        " version of base has a source"
    )


def test_an_output_that_contradicts_itself_is_shown_with_both_sides(
    project: Project, index: Index
) -> None:
    """No version of the other suits its build and its use, though each has some."""
    sdists(index, "base", dict.fromkeys(("1.0", "2.0"), NOTHING))
    make_sdist(
        index.folder,
        "model",
        "1.0",
        requires=["base>=2"],
        build_requires=["tinybackend", "base<2"],
    )
    write(project, ["model"], "base", "model")
    assert failure(project)[0] == (
        "error: outputs: can't be locked: model 1.0 declares base<2 and, once built,"
        " requires base>=2, and no such version of base has a source"
    )


@pytest.mark.slow
def test_an_output_that_suits_still_keeps_its_version(
    project: Project, index: Index
) -> None:
    """A new version of the other output moves what has to move, and no more."""
    sdists(index, "blis", {"1.0": NOTHING, "1.1": NOTHING})
    sdists(index, "thinc", {"9.0": ["blis<1.1"]})
    write(project, ["thinc"], "blis", "thinc")
    lock(project)
    sdists(index, "thinc", {"9.1": ["blis"]})
    sdists(index, "blis", {"1.0.5": NOTHING})
    lock(project)
    assert versions(project, "s1")["blis"] == "1.0"
    run_session(project, "build-stages-lock", "--upgrade-package", "thinc")
    assert (versions(project, "s1")["blis"], versions(project, "final")["thinc"]) == (
        "1.0",
        "9.1",
    )
