"""How nox was called, as far as it tells whose environments it comes to make.

Nox shows a noxfile nothing of its command line, so it is read once more here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VALUES = {
    "backend": ("-db", "--default-venv-backend"),
    "forced": ("-fb", "--force-venv-backend"),
    "envdir": ("--envdir",),
    "keywords": ("-k", "--keywords"),
    "parallel": ("-j", "--parallel"),
    "reuse": ("--reuse-venv",),
    "usage": ("--usage",),
}
_LISTS = {
    "sessions": ("-s", "-e", "--sessions", "--session"),
    "tags": ("-t", "--tags"),
}
_FLAGS = {
    "listing": ("-l", "--list", "--list-sessions"),
    "alone": ("--no-dependencies",),
    "without": ("--no-venv",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredSession:
    """A session of ours.

    Attributes:
        name: As nox calls it, with its Python where it has one.
        base: Its name without that.
        requires: The names of those that come before it.
        tags: That it can be selected by.
        default: Whether it runs where nothing is selected.
        environment: Whether it has one.
    """

    name: str
    base: str
    requires: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    default: bool = True
    environment: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class NoxInvocation:
    """What nox was told of sessions and their environments.

    Attributes:
        makes: Whether it makes any; not so where it only lists sessions.
        sessions: To run; None for those that run by default.
        tags: Of those to run; None where none was named.
        keywords: An expression that selects them; empty where there is none.
        alone: Whether those that they require are left out.
        parallel: Whether other processes of nox make the environments.
        envdir: Where the environments are.
        backend: That makes them; empty for nox's own choice.
        afresh: Whether they are made anew though they are there.
    """

    makes: bool = True
    sessions: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    keywords: str = ""
    alone: bool = False
    parallel: bool = False
    envdir: str = ".nox"
    backend: str = ""
    afresh: bool = False

    def selected(self, registered: Sequence[RegisteredSession]) -> frozenset[str]:
        """Return the names of those sessions that may run, required ones too.

        Those that have no environment aren't among them.
        """
        named = {session.name: session for session in registered}
        found: set[str] = set()
        left = [session.name for session in registered if self._selects(session)]
        while left:
            name = left.pop()
            if name not in found and not self.alone:
                left += named[name].requires
            found.add(name)
        return frozenset(name for name in found if named[name].environment)

    def _selects(self, session: RegisteredSession) -> bool:
        if self.tags is not None:
            return not set(session.tags).isdisjoint(self.tags)
        if self.keywords:
            return True  # too many are better than too few
        if self.sessions is not None:
            said = {name.replace(" ", "") for name in self.sessions}
            names = (session.name, session.base)
            return any(name.replace(" ", "") in said for name in names)
        return session.default


def read(
    words: Sequence[str], environ: Mapping[str, str], noxfile: NoxInvocation
) -> NoxInvocation:
    """Return what nox was told.

    Args:
        words: Of its command line, without its own name.
        environ: The environment variables.
        noxfile: What the noxfile says, where nothing else does.
    """
    own = words[: words.index("--")] if "--" in words else words
    try:
        said = _parser().parse_known_args(own)[0]
    except ValueError:  # nox wouldn't have come this far: it isn't nox that calls
        return NoxInvocation(makes=False)
    default = said.backend or environ.get("NOX_DEFAULT_VENV_BACKEND")
    backend = said.forced or default or noxfile.backend
    parallel = said.parallel or environ.get("NOX_PARALLEL")
    looks = said.listing or said.usage or "_ARGCOMPLETE" in environ
    return replace(
        _selecting(said, environ, noxfile),
        makes=not (looks or said.without or backend == "none"),
        alone=said.alone,
        parallel=parallel != "1" if parallel else noxfile.parallel,
        envdir=said.envdir or noxfile.envdir,
        backend=backend,
        afresh=said.reuse == "never",
    )


def _selecting(
    said: argparse.Namespace, environ: Mapping[str, str], noxfile: NoxInvocation
) -> NoxInvocation:
    sessions = said.sessions
    if sessions is None and environ.get("NOXSESSION"):
        sessions = environ["NOXSESSION"].split(",")
    if sessions is None and said.tags is None and not said.keywords:
        return noxfile
    return NoxInvocation(
        sessions=None if sessions is None else tuple(sessions),
        tags=None if said.tags is None else tuple(said.tags),
        keywords=said.keywords or "",
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name, options in _VALUES.items():
        parser.add_argument(*options, dest=name)
    for name, options in _LISTS.items():
        parser.add_argument(*options, dest=name, nargs="*")
    for name, options in _FLAGS.items():
        parser.add_argument(*options, dest=name, action="store_true")
    return parser
