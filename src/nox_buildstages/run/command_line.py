"""How nox was called: nox shows a noxfile nothing of its command line.

The words after ``--`` are read in `workspace/options.py`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredSession:
    """A session of ours.

    Attributes:
        name: The name without a Python.
        pythons: The Pythons that the session runs with, one after the other; none if
            nox has one session of this name.
        requires: The sessions that run before, with ``{python}`` for the same Python.
        tags: The tags that select the session.
        is_default: Whether it runs if nothing is selected.
        has_environment: Whether nox makes an environment for it.
    """

    name: str
    pythons: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    is_default: bool = False
    has_environment: bool = True

    @property
    def full_names(self) -> dict[str, tuple[str, ...]]:
        """The names that nox knows, and the full names of the required sessions."""
        if not self.pythons:
            return {self.name: self.requires}
        return {
            f"{self.name}-{python}": tuple(
                name.replace("{python}", python) for name in self.requires
            )
            for python in self.pythons
        }


SessionT = TypeVar("SessionT", bound=RegisteredSession)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoxInvocation:
    """How nox was called.

    Attributes:
        makes_environments: Whether nox makes any; ``--list`` and ``--no-venv`` don't.
        sessions: The sessions to run; None for the default.
        tags: The tags of the sessions to run; None if tags select nothing.
        keywords: An expression that selects sessions, or an empty string.
        skips_required: Whether required sessions don't run (``--no-dependencies``).
        is_parallel: Whether other processes of nox run the sessions.
        envdir: The folder of the environments.
        backend: The backend that makes environments; empty for nox's own choice.
        remakes: Whether nox makes environments again that are there.
    """

    makes_environments: bool = True
    sessions: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    keywords: str = ""
    skips_required: bool = False
    is_parallel: bool = False
    envdir: str = ".nox"
    backend: str = ""
    remakes: bool = False

    @classmethod
    def of_noxfile(cls, options: Any) -> NoxInvocation:  # noqa: ANN401 - nox.options
        """Return what a noxfile sets in ``nox.options``."""
        return cls(
            sessions=None if options.sessions is None else tuple(options.sessions),
            tags=None if options.tags is None else tuple(options.tags),
            keywords=options.keywords or "",
            is_parallel=(options.parallel or 1) > 1,
            envdir=str(options.envdir),
        )

    def select(self, sessions: Iterable[SessionT]) -> dict[str, SessionT]:
        """Return the sessions that may run, by full name.

        Required sessions are included; sessions without an environment are not. An
        expression of keywords selects all: too many do no harm.
        """
        named = {name: session for session in sessions for name in session.full_names}
        wanted = {name.replace(" ", "") for name in self.sessions or ()}
        queue = []
        for name, session in named.items():
            if self.tags is not None:
                is_selected = not set(session.tags).isdisjoint(self.tags)
            elif self.keywords:
                is_selected = True
            elif self.sessions is not None:
                names = {name.replace(" ", ""), session.name.replace(" ", "")}
                is_selected = not names.isdisjoint(wanted)
            else:
                is_selected = session.is_default
            if is_selected:
                queue.append(name)
        found = set()
        while queue:
            name = queue.pop()
            if name not in found and not self.skips_required:
                queue += named[name].full_names[name]
            found.add(name)
        return {name: named[name] for name in found if named[name].has_environment}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def read_command_line(
    words: Sequence[str], environ: Mapping[str, str], noxfile: NoxInvocation
) -> NoxInvocation:
    """Return how nox was called.

    Args:
        words: The words of the command line, without the program.
        environ: The environment variables.
        noxfile: The noxfile's settings, which count least.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    option = parser.add_argument
    option("-s", "-e", "--sessions", "--session", dest="sessions", nargs="*")
    option("-t", "--tags", nargs="*")
    option("-k", "--keywords")
    option("--no-dependencies", action="store_true")
    option("-j", "--parallel")
    option("--envdir")
    option("-db", "--default-venv-backend", dest="backend")
    option("-fb", "--force-venv-backend", dest="forced_backend")
    option("--no-venv", action="store_true")
    option("--reuse-venv")
    option("-l", "--list", "--list-sessions", dest="list", action="store_true")
    option("--usage")
    own = words[: words.index("--")] if "--" in words else words
    try:
        args = parser.parse_known_args(own)[0]
    except ValueError:  # nox would have refused them: this program isn't nox
        return NoxInvocation(makes_environments=False)
    default = args.backend or environ.get("NOX_DEFAULT_VENV_BACKEND")
    backend = args.forced_backend or default or noxfile.backend
    only_shows = args.list or args.usage or "_ARGCOMPLETE" in environ
    parallel = args.parallel or environ.get("NOX_PARALLEL")
    invocation = replace(
        noxfile,
        makes_environments=not (only_shows or args.no_venv or backend == "none"),
        skips_required=args.no_dependencies,
        is_parallel=parallel != "1" if parallel else noxfile.is_parallel,
        envdir=args.envdir or noxfile.envdir,
        backend=backend,
        remakes=args.reuse_venv == "never",
    )
    sessions = args.sessions
    if sessions is None and environ.get("NOXSESSION"):
        sessions = environ["NOXSESSION"].split(",")
    if sessions is None and args.tags is None and not args.keywords:
        return invocation
    return replace(
        invocation,
        sessions=None if sessions is None else tuple(sessions),
        tags=None if args.tags is None else tuple(args.tags),
        keywords=args.keywords or "",
    )
