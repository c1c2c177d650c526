"""The words after ``--``; nox hands them to every session of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import parse_duration, parse_size
from nox_buildstages.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_KNOWN = {
    "--locked": "never write lock files; missing or stale ones are an error",
    "--check": "build-stages-lock: say whether the lock files are current",
    "--upgrade": "lock the newest versions, not those that are locked",
    "--upgrade-package NAME": "lock the newest version of one project",
    "--rebuild [NAME]": "build although the store has it: everything, or one output",
    "--check-reproducible": "build twice, and fail where the wheels differ",
    "--vendor": "build-stages-release: add the runtime's wheels from indexes",
    "--repair": "build-stages-release: make manylinux wheels, with auditwheel",
    "--json": "build-stages-plan: print the plan as JSON",
    "--github": "build-stages-plan: write a matrix of jobs for GitHub Actions",
    "--only-missing": "with --github: leave out cells that have nothing to build",
    "--write": "build-stages-init: write what it proposes to the pyproject.toml",
    "--older-than TIME": "build-stages-prune: remove what wasn't used for so long",
    "--larger-than SIZE": "build-stages-prune: leave no more than that",
    "--dry-run": "build-stages-prune: only say what would be removed",
    "FOLDER": "build-stages-merge: where the wheelhouses are; any number of them",
    "--by-cell": "build-stages-merge: keep a folder for each wheelhouse",
}
_FLAGS = {
    "--locked": "locked",
    "--check": "check",
    "--upgrade": "upgrade",
    "--write": "write",
    "--json": "json",
    "--github": "github",
    "--only-missing": "only_missing",
    "--check-reproducible": "check_reproducible",
    "--dry-run": "dry_run",
    "--vendor": "vendor",
    "--by-cell": "by_cell",
    "--repair": "repair",
}
_BUILDING = "build-stages"
_RELEASING = "build-stages-release"
_ROW = (_BUILDING, _RELEASING)
"""The second requires the first, and that one the stages."""

_PLANNING = "build-stages-plan"
_PRUNING = "build-stages-prune"
_MERGING = "build-stages-merge"
_ONLY_FOR = {
    "--write": ("build-stages-init", "writes the stages it proposes"),
    "--json": (_PLANNING, "prints the plan as JSON"),
    "--github": (_PLANNING, "writes a matrix of jobs for GitHub Actions"),
    "--only-missing": (_PLANNING, "leaves out cells that have nothing to build"),
    "--check-reproducible": (_BUILDING, "builds everything twice"),
    "--vendor": (_RELEASING, "adds the runtime's wheels from indexes"),
    "--repair": (_RELEASING, "makes manylinux wheels"),
    "--dry-run": (_PRUNING, "removes nothing"),
    "--older-than": (_PRUNING, "removes what wasn't used for so long"),
    "--larger-than": (_PRUNING, "removes what was used longest ago"),
    "--by-cell": (_MERGING, "keeps a folder for each wheelhouse"),
}
"""Words that one session alone can follow, and what they do there. Nox hands those of
``build-stages`` and ``build-stages-release`` to all sessions that build, too."""


_EXAMPLES = {
    "--upgrade-package": "NAME",
    "--rebuild": "NAME",
    "--older-than": "30d",
    "--larger-than": "20GB",
    "--by-cell": "FOLDER",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Amount:
    """A word with an amount.

    Attributes:
        read: Returns the amount, or None where that is none.
        hint: How one is written.
    """

    read: Callable[[str], int | None]
    hint: str


_AMOUNTS = {
    "--older-than": _Amount(
        read=parse_duration,
        hint="write a number and w, d, h, min or s: 30d, 2w, 12h, 1h30min",
    ),
    "--larger-than": _Amount(
        read=parse_size,
        hint="write a number and KB, MB, GB, TB, or KiB, MiB, GiB, TiB: 20GB, 1.5TiB",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What was asked for after ``--``.

    Attributes:
        locked: Lock files must be current and are never written.
        check: Only say whether they are.
        upgrade: Locked versions don't count.
        upgrade_packages: Projects whose locked version doesn't count.
        rebuild_all: Everything is built although the store has it.
        rebuild: Outputs that are.
        write: What is proposed is written.
        json: The plan is for programs.
        github: The plan is for GitHub Actions.
        only_missing: It leaves out cells that have nothing to build.
        check_reproducible: Everything is built twice and compared.
        vendor: The wheels from indexes are released, too.
        repair: The wheels that are released are fit for other machines.
        older_than: Seconds; what wasn't used for so long is removed.
        larger_than: Bytes that are left at most.
        dry_run: Nothing is removed.
        by_cell: Wheelhouses stay apart.
        folders: In which they are.
    """

    locked: bool = False
    check: bool = False
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()
    rebuild_all: bool = False
    rebuild: tuple[str, ...] = ()
    write: bool = False
    json: bool = False
    github: bool = False
    only_missing: bool = False
    check_reproducible: bool = False
    vendor: bool = False
    repair: bool = False
    older_than: int | None = None
    larger_than: int | None = None
    dry_run: bool = False
    by_cell: bool = False
    folders: tuple[str, ...] = ()

    @property
    def upgrades(self) -> bool:
        """Whether locks are made anew though they are current."""
        return self.upgrade or bool(self.upgrade_packages)


def parse(
    words: Sequence[str], *, outputs: Collection[str], session: str = _BUILDING
) -> Options:
    """Read the words after ``--``.

    Args:
        words: In their order.
        outputs: All outputs of the project, which ``--rebuild`` may name.
        session: That is to follow them, by its name without a Python.

    Raises:
        UsageError: A word isn't known, isn't for that session, lacks its value, or
            names no output.
    """
    options = Options()
    queue = list(words)
    while queue:
        if session == _MERGING and not queue[0].startswith("-"):
            options = replace(options, folders=(*options.folders, queue.pop(0)))
            continue
        word, value = _divided(queue.pop(0))
        if value:
            queue.insert(0, value)
        _check_session(word, session)
        options = _after(options, word, queue, outputs)
    _check_together(options)
    return options


def _check_together(options: Options) -> None:
    """See that what was asked for can be had at once."""
    if options.upgrades and (options.locked or options.check):
        raise UsageError(
            problem="--upgrade writes lock files, and --locked and --check never do",
            hint="leave one of them out",
        )
    if options.only_missing and not options.github:
        raise UsageError(
            problem="--only-missing is about the matrix that --github writes",
            hint="write --github --only-missing",
        )
    if options.github and options.json:
        raise UsageError(
            problem="--github and --json are two forms of the plan",
            hint="leave one of them out",
        )


def _after(
    options: Options, word: str, queue: list[str], outputs: Collection[str]
) -> Options:
    """Return the options with what a word says; its value is taken from the queue."""
    change: dict[str, Any]
    if word in _FLAGS:
        change = {_FLAGS[word]: True}
    elif word in _AMOUNTS:
        change = {_field(word): _amount(word, _value(word, queue))}
    elif word == "--upgrade-package":
        name = canonicalize_name(_value(word, queue))
        change = {"upgrade_packages": (*options.upgrade_packages, name)}
    elif word != "--rebuild":
        raise _unknown(word)
    elif queue and not queue[0].startswith("-"):
        change = {"rebuild": (*options.rebuild, _output(queue.pop(0), outputs))}
    else:
        change = {"rebuild_all": True}
    return replace(options, **change)


def _field(word: str) -> str:
    return word.lstrip("-").replace("-", "_")


def _check_session(word: str, session: str) -> None:
    only, does = _ONLY_FOR.get(word, (session, ""))
    builds = session in _ROW or session.startswith("build-stage-")
    if session != only and not (only in _ROW and builds):
        raise UsageError(
            problem=f"{word} is for {only}, and this is another session",
            hint=f"`nox -s {only} -- {_spelled(word)}` {does}",
        )


def _divided(text: str) -> tuple[str, str]:
    word, equals, value = text.partition("=")
    if equals and word in _FLAGS:
        raise UsageError(problem=f"{word} takes no value", hint=f"write {word} alone")
    if equals and not value:
        example = _spelled(word, "=")
        raise UsageError(problem=f"{text} lacks its value", hint=f"write {example}")
    return word, value


def _value(word: str, queue: list[str]) -> str:
    if not queue or queue[0].startswith("-"):
        example = _spelled(word)
        raise UsageError(problem=f"{word} lacks its value", hint=f"write {example}")
    return queue.pop(0)


def _amount(word: str, written: str) -> int:
    amount = _AMOUNTS[word].read(written)
    if amount is None:
        raise UsageError(
            problem=f"expected {_spelled(word)}, or the like, found {written!r}",
            hint=_AMOUNTS[word].hint,
        )
    return amount


def _spelled(word: str, between: str = " ") -> str:
    """Return a word with an example of its value, if it has any."""
    return f"{word}{between}{_EXAMPLES[word]}" if word in _EXAMPLES else word


def _output(text: str, outputs: Collection[str]) -> str:
    name = canonicalize_name(text)
    if name not in outputs:
        listed = ", ".join(sorted(outputs))
        raise UsageError(
            problem=f"--rebuild {text}: no stage has such an output",
            hint=f"the outputs are: {listed}",
        )
    return name


def _unknown(word: str) -> UsageError:
    known = "\n".join(f"  {name:<24} {meaning}" for name, meaning in _KNOWN.items())
    from difflib import get_close_matches  # noqa: PLC0415 - mostly all are known

    known_words = [name.split()[0].lstrip("-") for name in _KNOWN]
    near = get_close_matches(word.lstrip("-"), known_words, n=1)
    hint = f", did you mean --{near[0]}?" if near else ""
    return UsageError(
        problem=f"unknown word after --: {word!r}{hint}", hint=f"known words:\n{known}"
    )
