"""What nox was called with, and whose environments it makes then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.run.command_line import NoxInvocation, RegisteredSession, read

if TYPE_CHECKING:
    from collections.abc import Sequence

SESSIONS = (
    RegisteredSession(
        name="build-stage-a",
        base="build-stage-a",
        tags=("build-stage",),
        default=False,
    ),
    RegisteredSession(
        name="build-stage-b",
        base="build-stage-b",
        requires=("build-stage-a",),
        tags=("build-stage",),
        default=False,
    ),
    RegisteredSession(
        name="build-stages",
        base="build-stages",
        requires=("build-stage-a", "build-stage-b"),
    ),
    RegisteredSession(
        name="build-stages-plan", base="build-stages-plan", default=False
    ),
)
ALL = {"build-stage-a", "build-stage-b", "build-stages", "build-stages-plan"}
STAGES = {"build-stage-a", "build-stage-b"}
FINAL = {*STAGES, "build-stages"}


NOTHING: dict[str, str] = {}


def called(*words: str, environ: dict[str, str] = NOTHING) -> NoxInvocation:
    return read(words, environ, NoxInvocation())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), FINAL),
        (("-s", "build-stages"), FINAL),
        (("-s", "lint", "build-stages", "-r"), FINAL),
        (("-sbuild-stages",), FINAL),
        (("--session=build-stages",), FINAL),
        (("-e", "build-stage-b"), STAGES),
        (("--sessions", "build-stage-a", "lint"), {"build-stage-a"}),
        (("-s", "build-stages-plan"), {"build-stages-plan"}),
        (("-s", "build-stage-b", "--no-dependencies"), {"build-stage-b"}),
        (("-s", "lint"), set()),
        (("-s", "lint", "--", "-s", "build-stages"), set()),
        (("-t", "build-stage"), STAGES),
        (("-t", "style"), set()),
        (("-k", "not lint"), ALL),
        (("--unheard-of", "3"), FINAL),
    ],
)  # fmt: skip
def test_the_words_select_sessions_and_those_that_they_require(
    words: Sequence[str], wanted: set[str]
) -> None:
    """As nox does it; where an expression does, it may be any of them."""
    call = called(*words)
    assert call.makes
    assert call.selected(SESSIONS) == wanted


def test_a_base_name_selects_its_sessions_of_every_python() -> None:
    """As in nox: `-s build-stages` is all of them, `-s build-stages-3.12` is one."""
    sessions = [
        RegisteredSession(name=f"build-stages-{python}", base="build-stages")
        for python in ("3.11", "3.12")
    ]
    names = {session.name for session in sessions}
    assert called("-s", "build-stages").selected(sessions) == names
    one = called("-s", "build-stages-3.12").selected(sessions)
    assert one == {"build-stages-3.12"}


def test_spaces_in_a_name_do_not_count() -> None:
    """As in nox."""
    name = "build-stages(x=1, y=2)"
    cell = RegisteredSession(name=name, base=name, default=False)
    for said in (name, "build-stages(x=1,y=2)"):
        assert called("-s", said).selected([cell]) == {name}


def test_a_session_without_an_environment_makes_none() -> None:
    """Those that it requires do."""
    every = RegisteredSession(
        name="build-stages",
        base="build-stages",
        requires=("build-stages(x=1)",),
        environment=False,
    )
    cell = RegisteredSession(
        name="build-stages(x=1)", base="build-stages(x=1)", default=False
    )
    assert called().selected([every, cell]) == {"build-stages(x=1)"}


def test_a_variable_selects_where_the_words_do_not() -> None:
    """NOXSESSION, with commas; any selection among the words counts more."""
    variables = {"NOXSESSION": "lint,build-stage-a"}
    assert called(environ=variables).selected(SESSIONS) == {"build-stage-a"}
    assert called("-s", "build-stages", environ=variables).selected(SESSIONS) == FINAL


def test_the_noxfile_selects_where_nothing_else_does() -> None:
    """Its `nox.options` count least."""
    noxfile = NoxInvocation(sessions=("lint",), envdir="elsewhere", parallel=True)
    call = read((), {}, noxfile)
    assert call.selected(SESSIONS) == set()
    assert (call.envdir, call.parallel) == ("elsewhere", True)
    words = ("-t", "build-stage", "--envdir", "here", "-j", "1")
    call = read(words, {}, noxfile)
    assert call.selected(SESSIONS) == STAGES
    assert (call.envdir, call.parallel) == ("here", False)


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("--list",), {}),
        (("-l", "-s", "build-stages"), {}),
        (("--usage", "build-stages"), {}),
        (("--no-venv",), {}),
        (("-db", "none"), {}),
        (("-db", "uv", "-fb", "none"), {}),
        ((), {"NOX_DEFAULT_VENV_BACKEND": "none"}),
        ((), {"_ARGCOMPLETE": "1"}),
        (("--envdir",), {}),
    ],
)
def test_some_calls_make_no_environment(
    words: Sequence[str], variables: dict[str, str]
) -> None:
    """Those that list, complete, or were told to do without; and what isn't nox's."""
    assert not called(*words, environ=variables).makes


@pytest.mark.parametrize(
    ("words", "variables", "backend", "parallel", "afresh"),
    [
        ((), {}, "", False, False),
        (("-db", "uv"), {"NOX_DEFAULT_VENV_BACKEND": "venv"}, "uv", False, False),
        ((), {"NOX_DEFAULT_VENV_BACKEND": "venv"}, "venv", False, False),
        (("-db", "uv", "-fb", "venv"), {}, "venv", False, False),
        (("-j2",), {}, "", True, False),
        (("--parallel=auto",), {}, "", True, False),
        (("-j", "1"), {"NOX_PARALLEL": "2"}, "", False, False),
        ((), {"NOX_PARALLEL": "2"}, "", True, False),
        (("--reuse-venv", "never"), {}, "", False, True),
        (("--reuse-venv=yes",), {}, "", False, False),
    ],
)
def test_the_words_say_how_environments_are_made(
    words: Sequence[str],
    variables: dict[str, str],
    backend: str,
    parallel: bool,  # noqa: FBT001 - a case
    afresh: bool,  # noqa: FBT001 - a case
) -> None:
    """By which backend, in other processes or not, anew or not."""
    call = called(*words, environ=variables)
    assert (call.backend, call.parallel, call.afresh) == (backend, parallel, afresh)
