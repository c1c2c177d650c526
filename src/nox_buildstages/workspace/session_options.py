"""The words after ``--``, which nox hands to every session of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nox_buildstages.config.getters import did_you_mean, parse_duration, parse_size
from nox_buildstages.errors import UsageError
from nox_buildstages.model import Shard
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_BUILD, _RELEASE = "build-stages", "build-stages-release"
_INIT, _LOCK, _PLAN = "build-stages-init", "build-stages-lock", "build-stages-plan"
_PRUNE, _MERGE = "build-stages-prune", "build-stages-merge"
_SHELL = "build-stages-shell"


class Options(Value):
    """The words after ``--``, read; `WORDS` has the effect of each."""

    help: bool = False
    locked: bool = False
    check: bool = False
    statement: str = ""  # the path of a file, from --check of a release
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()
    rebuild_all: bool = False  # --rebuild without a name
    rebuild: tuple[str, ...] = ()
    write: bool = False
    names: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    all: bool = False
    json: bool = False
    explain: str = ""
    graph: str = ""
    github: bool = False
    only_missing: bool = False
    select: tuple[tuple[str, str], ...] = ()  # axes and values
    check_again: bool = False
    check_reproducible: bool = False
    no_preflight: bool = False
    shard: Shard | None = None
    require_hit_rate: float | None = None  # from 0 to 1
    vendor: bool = False
    repair: bool = False
    embed_sbom: bool = False
    verify: bool = False
    torch: tuple[tuple[str, ...], ...] = ()
    glibc: str = ""
    variants: bool = False
    older_than: int | None = None  # seconds
    larger_than: int | None = None  # bytes
    dry_run: bool = False
    by_cell: bool = False
    folders: tuple[str, ...] = ()

    @property
    def scope_words(self) -> tuple[str, ...]:
        """The words for the scope of `build-stages-init`."""
        extras = (it for name in self.extras for it in ("--extra", name))
        groups = (it for name in self.groups for it in ("--group", name))
        return (*self.names, *extras, *groups, *(("--all",) if self.all else ()))

    @property
    def torches(self) -> tuple[str, ...]:
        """The versions of torch to verify wheels with, each once."""
        return tuple(dict.fromkeys(it for versions in self.torch for it in versions))

    @property
    def words_of_verify(self) -> list[str]:
        """The words that only ``--verify`` heeds."""
        words = {
            "--json": self.json,
            f"--torch {','.join(self.torches)}": self.torch,
            f"--glibc {self.glibc}": self.glibc,
        }
        return [word for word, value in words.items() if value]

    @property
    def upgrades(self) -> bool:
        """Whether up-to-date locks are made again."""
        return self.upgrade or bool(self.upgrade_packages)


class Word(Value, kw_only=False):
    """The declaration of a word."""

    name: str
    session: str  # the only session that follows it; empty for all
    doc: str  # the effect, as an order
    read: Callable[[str], Any] | None = None
    """None if the text is no value; itself None for a flag."""
    metavar: str = ""  # in brackets if the value may be missing
    example: str = ""  # of a value; the metavar by default
    hint: str = ""  # how to write a value
    kinds: tuple[str, ...] = ()
    """The kinds of sessions whose help lists a word for all; empty for every kind."""
    into: str = ""  # the field of the options, if it isn't named after the word

    @property
    def field(self) -> str:
        """The field of the options."""
        name = self.name.removeprefix("--").replace("-", "_")
        return self.into or name

    def spell(self, between: str = " ") -> str:
        """Return the word with an example of its value."""
        example = self.example or self.metavar.strip("[]")
        return f"{self.name}{between}{example}" if example else self.name


_WHERE = "open it for the cell with this value; may come several times"
_SELECT = "plan only cells with this value; may come several times"
_CELL, _SELECT_HINT = "cuda=12.8", "name an axis and a value, or python and a version"


def _axis_and_value(text: str) -> tuple[str, str] | None:
    axis, _, value = text.partition("=")
    return (axis, value) if axis and value else None


def _versions(text: str) -> tuple[str, ...] | None:
    found = tuple(it.strip() for it in text.split(","))
    try:
        for version in found:
            Version(version)
    except InvalidVersion:
        return None
    return found


def _shard(text: str) -> Shard | None:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        return None
    shard = Shard(number=int(number), count=int(count))
    return shard if 0 < shard.number <= shard.count else None


def _glibc(text: str) -> str | None:
    name, _, minor = text.partition(".")
    is_known = name == "2" and minor.isdecimal() and int(minor) >= _OLDEST_GLIBC
    return text if is_known else None


def _rate(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if 0 <= rate <= 1 else None


_HIT_RATE = "fail if the compiler cache finds less of the compilations"
_RATES = "0.9 is nine of ten compilations, 1 is all of them"
_SHARD = "compile a share of the files, for the compiler cache alone"
_SHARDS = "the first of three shards is 1/3, the last one 3/3"
_EXPLAIN = "show what goes into an output, who needs it, and its builds"
_GRAPH = "draw stages, outputs and what is installed as a graph"
_FORMS = "the only form is mermaid, which GitHub shows in Markdown"
_TIME = "write a number and w, d, h, min or s: 30d, 2w, 12h, 1h30min"
_SIZE = "write a number and KB, MB, GB, TB, or KiB, MiB, GiB, TiB: 20GB, 1.5TiB"
_TORCH = "with --verify: whether other versions of torch load them"
_GLIBC = "with --verify: the newest glibc that wheels may need"
_OLDEST_GLIBC = 5
"""That of manylinux1, after the dot."""
_TORCHES = "write versions with commas: 2.12 is the newest 2.12.x, 2.12.1 that one"
_GLIBCS = "write a version of glibc, 2.5 or newer: 2.28 is that of manylinux_2_28"
_UPGRADE = "lock the newest version of one project"
_REBUILD = "build although the store has the wheel: all, or one output"
_OLDER = "remove what wasn't used for this long"
_LARGER = "remove what wasn't used for longest, until the store has this size"
_FOLDER = "a wheelhouse, or a folder that contains some; may come several times"
_EXTRA = "look at an extra of the project, too"
_GROUP = "look at a dependency group, too"
_CHECK = "rebuild the wheels of a statement, and compare"

BUILDS = ("build-stage", _BUILD, _RELEASE)
"""The kinds of sessions that build."""

_LOCKING = (*BUILDS, _LOCK)
_LOCKED = "fail if lock files are missing or out of date; write none"
_NEWEST = "lock the newest versions instead of the locked ones"

WORDS = (
    Word("--locked", "", _LOCKED, kinds=(*_LOCKING, _SHELL)),
    Word("--check", _LOCK, "check if the lock files are up to date"),
    Word("--upgrade", "", _NEWEST, kinds=_LOCKING),
    Word(
        *("--upgrade-package", "", _UPGRADE, canonicalize_name, "NAME"),
        kinds=_LOCKING,
        into="upgrade_packages",
    ),
    Word(
        "--rebuild",
        "",
        _REBUILD,
        canonicalize_name,
        "[NAME]",
        kinds=(*BUILDS, _PLAN),
    ),
    Word("--check-again", _BUILD, "run the imports again though nothing has changed"),
    Word("--check-reproducible", _BUILD, "build twice, and fail if the wheels differ"),
    Word("--no-preflight", _BUILD, "build even if a check before it fails"),
    Word(
        *("--shard", "", _SHARD, _shard, "I/N", "1/3", _SHARDS), kinds=("build-stage",)
    ),
    Word(
        *("--require-hit-rate", "", _HIT_RATE, _rate, "RATE", "0.9", _RATES),
        kinds=BUILDS,
    ),
    Word("--vendor", _RELEASE, "add the runtime's wheels from indexes"),
    Word("--repair", _RELEASE, "make manylinux wheels with auditwheel"),
    Word("--embed-sbom", _RELEASE, "put an SBOM of its build into each wheel"),
    Word("--check", _RELEASE, _CHECK, str, "STATEMENT", into="statement"),
    Word("--verify", _RELEASE, "prove what each wheel is, without a GPU"),
    Word("--torch", _RELEASE, _TORCH, _versions, "VERSIONS", "2.12,2.13", _TORCHES),
    Word("--glibc", _RELEASE, _GLIBC, _glibc, "VERSION", "2.28", _GLIBCS),
    Word("--variants", _RELEASE, "make variant wheels of all cells; experimental"),
    Word("--json", _RELEASE, "with --verify: print the verdicts as JSON"),
    Word("--explain", _PLAN, _EXPLAIN, canonicalize_name, "NAME"),
    Word(
        "--graph",
        _PLAN,
        _GRAPH,
        lambda it: it if it == "mermaid" else None,
        "FORM",
        "mermaid",
        _FORMS,
    ),
    Word("--json", _PLAN, "print the plan as JSON"),
    Word("--github", _PLAN, "write a matrix of jobs for GitHub Actions"),
    Word(
        "--select", _PLAN, _SELECT, _axis_and_value, "AXIS=VALUE", _CELL, _SELECT_HINT
    ),
    Word("--only-missing", _PLAN, "with --github: leave out cells without builds"),
    Word("NAME", _INIT, "look at a package that isn't a dependency yet, too"),
    Word("--extra", _INIT, _EXTRA, str, "NAME", into="extras"),
    Word("--group", _INIT, _GROUP, str, "NAME", into="groups"),
    Word("--all", _INIT, "look at all extras and groups"),
    Word("--write", _INIT, "write the proposed stages to the pyproject.toml"),
    Word("--older-than", _PRUNE, _OLDER, parse_duration, "TIME", "30d", _TIME),
    Word("--larger-than", _PRUNE, _LARGER, parse_size, "SIZE", "20GB", _SIZE),
    Word("--all", _PRUNE, "remove everything that no session uses"),
    Word("--dry-run", _PRUNE, "only print what would be removed"),
    Word("FOLDER", _MERGE, _FOLDER),
    Word("--by-cell", _MERGE, "keep a folder for each wheelhouse", example="FOLDER"),
    Word("OUTPUT", _SHELL, "open the shell in the source of this output"),
    Word(
        "--select", _SHELL, _WHERE, _axis_and_value, "AXIS=VALUE", _CELL, _SELECT_HINT
    ),
    Word("--help", "", "print this help, and do nothing else"),
)
"""Every word, in the order of the list that users see."""

_OTHERS = {
    "--check": "; to check the lock files, run:\n  nox -s build-stages-lock -- --check"
}
"""For hints: what a word does without a value, in another session."""

_POSITIONAL = {_MERGE: "folders", _INIT: "names", _SHELL: "names"}
"""The fields of words without a name."""

_BY_NAME = {word.name: word for word in WORDS if word.name.startswith("-")}


def parse_options(
    words: Sequence[str], *, outputs: Collection[str], session: str = _BUILD
) -> Options:
    """Read the words after ``--``, for a session named without a Python.

    Raises:
        UsageError: A word isn't known or isn't for the session, a value is missing or
            wrong, or words contradict each other.
    """
    found: dict[str, Any] = {}
    builds = kind_of_session(session) in BUILDS
    sessions = {session, _RELEASE} if builds else {session}
    queue = list(words)
    while queue:
        text = queue.pop(0)
        text = "--help" if text == "-h" else text
        positional = _POSITIONAL.get(session)
        if positional is not None and not text.startswith("-"):
            found[positional] = (*found.get(positional, ()), text)
            continue
        name, equals, value = text.partition("=")
        own = (it for it in WORDS if it.name == name and it.session in sessions)
        word = next(own, _BY_NAME.get(name))
        if word is None:
            raise _unknown_word(name, session)
        if equals and word.read is None:
            problem = f"{name} takes no value"
            raise UsageError(problem=problem, hint=f"write {name} alone")
        if equals and not value:
            problem = f"{text} lacks its value"
            raise UsageError(problem=problem, hint=f"write {word.spell('=')}")
        _check_session(word, session)
        if word.read is None:
            found[word.field] = True
            continue
        if not value and queue and not queue[0].startswith("-"):
            value = queue.pop(0)
        if value:
            content = _read_value(word, value, outputs)
            is_list = isinstance(getattr(Options(), word.field), tuple)
            earlier = found.get(word.field, ())
            found[word.field] = (*earlier, content) if is_list else content
        elif word.metavar.startswith("["):
            found["rebuild_all"] = True
        else:
            problem = f"{name} lacks its value"
            hint = f"write {word.spell()}{_OTHERS.get(name, '')}"
            raise UsageError(problem=problem, hint=hint)
    return _make_options(found, session, outputs)


def _make_options(
    found: dict[str, Any], session: str, outputs: Collection[str]
) -> Options:
    """Return the options, whose words are right together."""
    if session == _SHELL and not found.get("help"):
        texts = found.get("names", ())
        names = [it for it in map(canonicalize_name, texts) if it in outputs]
        if len(texts) != 1 or not names:
            problem = "name one output"
            if len(texts) == 1:
                near = did_you_mean(canonicalize_name(texts[0]), outputs)
                problem = f"no stage has the output {texts[0]!r}{near}"
            hint = _list_outputs(outputs)
            raise UsageError(subject=_SHELL, problem=problem, hint=hint)
        found["names"] = tuple(names)
    options, hint = Options(**found), "choose one of them"
    builds = kind_of_session(session) in BUILDS
    chosen = {
        "--explain": options.explain,
        "--github": options.github,
        "--graph": options.graph,
        "--json": options.json,
    }
    forms = [name for name, value in chosen.items() if value]
    ignored = {
        "--check-again": options.check_again,
        "--check-reproducible": options.check_reproducible,
        "--rebuild": options.rebuild or options.rebuild_all,
        "--repair": options.repair,
        "--upgrade": options.upgrades,
        "--variants": options.variants,
        "--vendor": options.vendor,
        "--verify": options.verify,
    }
    left_out = [name for name, value in ignored.items() if value]
    _check_shard(options, session)
    _check_limits(options, session)
    if options.upgrades and (options.locked or options.check):
        problem = "--upgrade writes lock files, and --locked and --check never do"
    elif options.only_missing and not options.github:
        problem, hint = "--only-missing needs --github", "write --github --only-missing"
    elif options.statement and left_out:
        problem = f"--check only compares, without {' and '.join(left_out)}"
        hint = f"leave out {' and '.join(left_out)}"
    elif builds and not options.verify and (of_verify := options.words_of_verify):
        if options.json and session != _RELEASE:  # the plan was meant
            _check_session(_BY_NAME["--json"], session)
        word = of_verify[0]
        problem, hint = f"{word} needs --verify", f"write --verify {word}"
    elif len(forms) > 1:
        problem = f"{' and '.join(forms)} ask for two forms of the plan"
    else:
        return options
    raise UsageError(problem=problem, hint=hint)


def _check_limits(options: Options, session: str) -> None:
    """Raise an error if the store is to be limited, and to be emptied."""
    limits = {
        "--older-than": options.older_than,
        "--larger-than": options.larger_than,
    }
    given = [name for name, value in limits.items() if value is not None]
    if session == _PRUNE and options.all and given:
        problem = f"--all removes everything, whatever {given[0]} says"
        raise UsageError(problem=problem, hint="choose one of them")


def _check_shard(options: Options, session: str) -> None:
    """Raise an error if a shard isn't of a single stage, or is to make a wheel."""
    if options.shard is None:
        return
    word = f"--shard {options.shard}"
    if kind_of_session(session) != "build-stage":
        raise UsageError(
            problem=f"{word} is for the session of a stage, and this is {session}",
            hint=f"name the stage:\n  nox -s build-stage-NAME -- {word}",
        )
    others = {
        "--check-reproducible": options.check_reproducible,
        "--require-hit-rate": options.require_hit_rate is not None,
    }
    for other in (it for it in others if others[it]):
        raise UsageError(
            problem=f"{word} makes no wheel, so {other} has nothing to look at",
            hint=f"leave out {other}",
        )


def kind_of_session(session: str) -> str:
    """Return the kind of a session: ``build-stage`` for a stage, else its own name."""
    name = session.partition("(")[0]
    return "build-stage" if name.startswith("build-stage-") else name


def list_words(session: str) -> list[Word]:
    """Return the words that have an effect in a session, in the order for users."""
    kind = kind_of_session(session)
    builds = (_BUILD, _RELEASE) if kind == _RELEASE else (_BUILD,)
    own = (*builds, "") if kind in BUILDS else (kind, "")
    return [it for it in WORDS if it.session in own and kind in (it.kinds or (kind,))]


def check_effects(words: Sequence[str], sessions: Collection[str]) -> None:
    """Check that each word has an effect in at least one session of a run.

    Nox hands the words to all of them, so each accepts some that it doesn't need.

    Raises:
        UsageError: A word has no effect.
    """
    heeded = {word.name for session in sessions for word in list_words(session)}
    if any(kind_of_session(it) in BUILDS for it in sessions):
        heeded.add("--check")  # of a statement
    for text in words:
        word = _BY_NAME.get(text.partition("=")[0])
        if word is not None and word.name not in heeded:
            session = word.session or (_LOCK if _LOCK in word.kinds else _BUILD)
            names = dict.fromkeys(it.partition("(")[0] for it in sessions)
            raise UsageError(
                problem=f"{word.name} has no effect on {' and '.join(names)}",
                hint=f"leave it out, or run:\n  nox -s {session} -- {word.spell()}",
            )


def render_words(session: str) -> list[str]:
    """Return a line for each word of a session, with its effect."""
    words = list_words(session)
    spelled = [f"{it.name} {it.metavar}".rstrip() for it in words]
    width = max(map(len, spelled))
    return [
        f"{text:<{width}}  {word.doc}"
        for text, word in zip(spelled, words, strict=True)
    ]


def _check_session(word: Word, session: str) -> None:
    """Raise an error if a word is for another session.

    Nox hands the words of build-stages and build-stages-release to the sessions that
    these require, so every session that builds accepts them.
    """
    builds = kind_of_session(session) in BUILDS
    is_for_builds = word.session in {_BUILD, _RELEASE}
    if word.session in {"", session} or (builds and is_for_builds):
        return
    raise UsageError(
        problem=f"{word.name} is for {word.session}, and this is another session",
        hint=f"to {word.doc}, run:\n  nox -s {word.session} -- {word.spell()}",
    )


def _read_value(word: Word, value: str, outputs: Collection[str]) -> object:
    content = None if word.read is None else word.read(value)
    if content is None:
        raise UsageError(
            problem=f"expected {word.spell()}, or the like, found {value!r}",
            hint=word.hint,
        )
    if word.field == "rebuild" and content not in outputs:
        raise UsageError(
            problem=f"--rebuild {value}: no stage has such an output",
            hint=_list_outputs(outputs),
        )
    return content


def _list_outputs(outputs: Collection[str]) -> str:
    return f"the outputs are: {', '.join(sorted(outputs))}"


def _unknown_word(name: str, session: str) -> UsageError:
    from difflib import get_close_matches  # noqa: PLC0415 - mostly all are known

    known = [it.name.lstrip("-") for it in list_words(session)]
    everywhere = [it.lstrip("-") for it in _BY_NAME]
    for names in (known, everywhere):
        near = get_close_matches(name.lstrip("-"), names, n=1)
        if near:
            break
    return UsageError(
        subject=session,
        problem=f"unknown word after --: {name!r}; the known ones are:",
        details=render_words(session),
        hint=f"did you mean --{near[0]}?" if near else "choose one of these words",
    )
