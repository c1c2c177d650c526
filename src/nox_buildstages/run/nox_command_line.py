"""How nox was called: nox shows a noxfile nothing of its command line.

The words after ``--`` are read in `workspace/session_options.py`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from nox_buildstages.config.cells import CellProject


DOCS = {
    "build-stage": "Build the outputs of a stage.",
    "build-stages": "Build every stage, install the runtime from the wheelhouse, check"
    " it.",
    "build-stages-init": "Propose stages for the dependencies that have no wheel.",
    "build-stages-lock": "Write the lock files.",
    "build-stages-plan": "Show what would be built, and why.",
    "build-stages-prune": "Limit the size and the age of the store.",
    "build-stages-shell": "Open a shell in the source and environment of an output.",
    "build-stages-merge": "Make one wheelhouse of several.",
    "build-stages-release": "Make the wheelhouse fit to publish: sums, an index,"
    " provenance, an SBOM.",
}
"""A sentence for each kind of sessions, for `nox --list`."""


class RegisteredSession(Value):
    """A session of ours, as listed by nox, and the function for the body."""

    name: str  # without a Python
    doc: str = ""
    body: str = ""
    """A module and its function, which gets a workspace and ``arguments``.

    Without a workspace the function gets the options and the run instead.
    """
    arguments: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., object] | None = None
    """A function in a noxfile for the body, with nox's session as its argument."""
    cell: CellProject | None = None  # None for the first
    pythons: tuple[str, ...] = ()
    """Nox has a session for each; if there are none, one session without a Python."""
    requires: tuple[str, ...] = ()  # sessions of the same Python
    tags: tuple[str, ...] = ()
    is_default: bool = False
    builds: bool = False  # whether build backends run
    has_environment: bool = True  # whether nox makes one
    has_workspace: bool = True  # if it has no environment, one is made when needed

    @property
    def finds_python(self) -> bool:
        """Whether it has a Python without an environment of nox."""
        return self.has_workspace and not self.has_environment

    @property
    def full_names(self) -> dict[str, tuple[str, ...]]:
        """The names that nox knows, and the full names of the required sessions."""
        if not self.pythons:
            return {self.name: self.requires}
        return {
            f"{self.name}-{python}": tuple(f"{it}-{python}" for it in self.requires)
            for python in self.pythons
        }


class NoxInvocation(Value):
    """How nox was called."""

    makes_environments: bool = True
    sessions: Collection[str] | None = None  # None for the default sessions
    tags: Collection[str] | None = None  # None if tags select nothing
    keywords: str = ""
    skips_required: bool = False
    is_parallel: bool = False  # whether other processes of nox run the sessions
    stops_on_error: bool = False
    is_list: bool = False  # whether nox only lists the sessions
    usage: str = ""  # the session of nox's --usage
    words: tuple[str, ...] = ()  # after --
    envdir: str = ".nox"
    backend: str = ""  # empty for nox's own choice
    remakes: bool = False  # whether nox makes existing environments again
    may_skip_installs: bool = False  # only nox knows which environments it reuses
    skips_programs: bool = False  # nox's --install-only

    @classmethod
    def of_noxfile(cls, options: Any) -> NoxInvocation:  # noqa: ANN401 - nox.options
        """Return what a noxfile sets in ``nox.options``."""
        return cls(
            sessions=options.sessions,
            tags=options.tags,
            keywords=options.keywords or "",
            is_parallel=(options.parallel or 1) > 1,
            stops_on_error=bool(options.stop_on_first_error),
            envdir=str(options.envdir),
        )

    def select(
        self, sessions: Iterable[RegisteredSession]
    ) -> dict[str, RegisteredSession]:
        """Return the sessions that may run, by full name.

        Required sessions are included; sessions without an environment are not. An
        expression of keywords selects all: too many do no harm.
        """
        named = {name: session for session in sessions for name in session.full_names}
        queue = [*named] if self.keywords else self._choose(named)
        found = set()
        while queue:
            name = queue.pop()
            if name not in found and not self.skips_required:
                queue += named[name].full_names[name]
            found.add(name)
        return {name: named[name] for name in found if named[name].has_environment}

    def find_called(
        self, sessions: Iterable[RegisteredSession]
    ) -> dict[str, RegisteredSession]:
        """Return the sessions that nox was asked for and will run, by name.

        None is known if keywords choose them. Required sessions are left out.
        """
        if self.keywords or self.is_list or self.usage:
            return {}
        named = {name: session for session in sessions for name in session.full_names}
        return {named[name].name: named[name] for name in self._choose(named)}

    def _choose(self, named: Mapping[str, RegisteredSession]) -> list[str]:
        """Return the full names of the sessions that names or tags choose."""
        wanted = {name.replace(" ", "") for name in self.sessions or ()}
        chosen = []
        for name, session in named.items():
            names = {name.replace(" ", ""), session.name.replace(" ", "")}
            is_named = not names.isdisjoint(wanted)
            if self.tags is not None:
                has_tag = not set(session.tags).isdisjoint(self.tags)
                is_chosen = has_tag and (is_named or self.sessions is None)
            elif self.sessions is not None:
                is_chosen = is_named
            else:
                is_chosen = session.is_default
            if is_chosen:
                chosen.append(name)
        return chosen


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def read_command_line(
    words: Sequence[str], environ: Mapping[str, str], noxfile: NoxInvocation
) -> NoxInvocation:
    """Return how nox was called; the noxfile's settings count least."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    option = parser.add_argument
    option("-s", "-e", "--sessions", "--session", dest="sessions", nargs="*")
    option("-t", "--tags", nargs="*")
    option("-k", "--keywords")
    option("--no-dependencies", action="store_true")
    option("-j", "--parallel")
    stop = argparse.BooleanOptionalAction
    option("-x", "--stop-on-first-error", dest="stops", action=stop)
    option("-f", "--noxfile")  # not short for -fb
    option("--envdir")
    option("-db", "--default-venv-backend", dest="backend")
    option("-fb", "--force-venv-backend", dest="forced_backend")
    option("--no-venv", action="store_true")
    option("--reuse-venv")
    option("-R", "--no-install", dest="skips_installs", action="store_true")
    option("--install-only", dest="skips_programs", action="store_true")
    option("-h", "-N", "-r", "-v", action="store_true")  # nox takes -vR for -v -R
    option("-l", "--list", "--list-sessions", dest="list", action="store_true")
    option("--usage")
    end = words.index("--") if "--" in words else len(words)
    own = words[:end]
    try:
        args = parser.parse_known_args(own)[0]
    except ValueError:  # nox would have refused them: this program isn't nox
        return NoxInvocation(makes_environments=False, may_skip_installs=True)
    default = args.backend or environ.get("NOX_DEFAULT_VENV_BACKEND")
    backend = args.forced_backend or default or ""
    only_shows = args.list or args.usage or "_ARGCOMPLETE" in environ
    parallel = args.parallel or environ.get("NOX_PARALLEL")
    sessions, tags, keywords = args.sessions, args.tags, args.keywords or ""
    if sessions is None and environ.get("NOXSESSION"):
        sessions = environ["NOXSESSION"].split(",")
    if sessions is None and tags is None and not keywords:
        sessions, tags, keywords = noxfile.sessions, noxfile.tags, noxfile.keywords
    return NoxInvocation(
        makes_environments=not (only_shows or args.no_venv or backend == "none"),
        sessions=sessions,
        tags=tags,
        keywords=keywords,
        skips_required=args.no_dependencies,
        is_parallel=parallel != "1" if parallel else noxfile.is_parallel,
        stops_on_error=noxfile.stops_on_error if args.stops is None else args.stops,
        is_list=args.list or "_ARGCOMPLETE" in environ,
        usage=args.usage or "",
        words=tuple(words[end + 1 :]),
        envdir=args.envdir or noxfile.envdir,
        backend=backend,
        remakes=args.reuse_venv == "never",
        may_skip_installs=args.skips_installs,
        skips_programs=args.skips_programs,
    )
