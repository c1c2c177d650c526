"""What nox was called with, and whose environments it makes then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.run.nox_command_line import (
    NoxInvocation,
    RegisteredSession,
    read_command_line,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SESSIONS = (
    RegisteredSession(
        name="build-stage-a",
        tags=("build-stage",),
    ),
    RegisteredSession(
        name="build-stage-b",
        requires=("build-stage-a",),
        tags=("build-stage",),
    ),
    RegisteredSession(
        name="build-stages",
        requires=("build-stage-a", "build-stage-b"),
        is_default=True,
    ),
    RegisteredSession(name="build-stages-plan"),
)
ALL = {"build-stage-a", "build-stage-b", "build-stages", "build-stages-plan"}
STAGES = {"build-stage-a", "build-stage-b"}
FINAL = {*STAGES, "build-stages"}


NOTHING: dict[str, str] = {}


def called(*words: str, environ: dict[str, str] = NOTHING) -> NoxInvocation:
    return read_command_line(words, environ, NoxInvocation())


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
    assert call.makes_environments
    assert call.select(SESSIONS).keys() == wanted


def test_a_base_name_selects_its_sessions_of_every_python() -> None:
    """As in nox: `-s build-stages` is all of them, `-s build-stages-3.12` is one."""
    sessions = [RegisteredSession(name="build-stages", pythons=("3.11", "3.12"))]
    names = {"build-stages-3.11", "build-stages-3.12"}
    assert called("-s", "build-stages").select(sessions).keys() == names
    one = called("-s", "build-stages-3.12").select(sessions).keys()
    assert one == {"build-stages-3.12"}


def test_spaces_in_a_name_do_not_count() -> None:
    """As in nox."""
    name = "build-stages(x=1, y=2)"
    cell = RegisteredSession(name=name)
    for said in (name, "build-stages(x=1,y=2)"):
        assert called("-s", said).select([cell]).keys() == {name}


def test_a_session_without_an_environment_makes_none() -> None:
    """Those that it requires do."""
    every = RegisteredSession(
        name="build-stages",
        requires=("build-stages(x=1)",),
        is_default=True,
        has_environment=False,
    )
    cell = RegisteredSession(name="build-stages(x=1)")
    assert called().select([every, cell]).keys() == {"build-stages(x=1)"}


def test_a_variable_selects_where_the_words_do_not() -> None:
    """NOXSESSION, with commas; any selection among the words counts more."""
    variables = {"NOXSESSION": "lint,build-stage-a"}
    assert called(environ=variables).select(SESSIONS).keys() == {"build-stage-a"}
    assert (
        called("-s", "build-stages", environ=variables).select(SESSIONS).keys() == FINAL
    )


def test_the_noxfile_selects_where_nothing_else_does() -> None:
    """Its `nox.options` count least."""
    noxfile = NoxInvocation(sessions=("lint",), envdir="elsewhere", is_parallel=True)
    call = read_command_line((), {}, noxfile)
    assert call.select(SESSIONS).keys() == set()
    assert (call.envdir, call.is_parallel) == ("elsewhere", True)
    words = ("-t", "build-stage", "--envdir", "here", "-j", "1")
    call = read_command_line(words, {}, noxfile)
    assert call.select(SESSIONS).keys() == STAGES
    assert (call.envdir, call.is_parallel) == ("here", False)


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
    assert not called(*words, environ=variables).makes_environments


@pytest.mark.parametrize(
    ("words", "variables", "backend", "parallel", "afresh"),
    [
        ((), {}, "", False, False),
        (("-f", "noxfile.py"), {}, "", False, False),
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
    assert (call.backend, call.is_parallel, call.remakes) == (backend, parallel, afresh)


@pytest.mark.parametrize(
    ("words", "may_skip_installs", "skips_programs"),
    [
        ((), False, False),
        (("-R",), True, False),
        (("-vR", "-s", "build-stages"), True, False),
        (("--no-install",), True, False),
        (("--install-only", "-r"), False, True),
        (("--", "-R", "--install-only"), False, False),
        (("--envdir",), True, False),
    ],
)
def test_the_words_say_what_nox_skips(
    words: Sequence[str],
    may_skip_installs: bool,  # noqa: FBT001 - a case
    skips_programs: bool,  # noqa: FBT001 - a case
) -> None:
    """Without these words nox doesn't have to be asked."""
    call = called(*words)
    assert call.may_skip_installs == may_skip_installs
    assert call.skips_programs == skips_programs
