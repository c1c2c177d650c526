"""The words after ``--``: those that are known, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from nox_buildstages.errors import UsageError
from nox_buildstages.model import Shard
from nox_buildstages.run.nox_command_line import DOCS
from nox_buildstages.workspace.session_help import HELP, describe_session, update_page
from nox_buildstages.workspace.session_options import (
    WORDS,
    Options,
    check_effects,
    parse_options,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sessions.md"

OUTPUTS = ("flash-attn", "some-package")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Options()),
        ("--locked", Options(locked=True)),
        ("--check a.json --locked", Options(statement="a.json", locked=True)),
        ("--locked --locked", Options(locked=True)),
        ("--upgrade-package Some.Thing", Options(upgrade_packages=("some-thing",))),
        ("--upgrade-package=numpy", Options(upgrade_packages=("numpy",))),
        (
            "--upgrade-package b --upgrade-package=a --rebuild",
            Options(upgrade_packages=("b", "a"), rebuild_all=True),
        ),
        ("--rebuild", Options(rebuild_all=True)),
        ("--rebuild --locked", Options(rebuild_all=True, locked=True)),
        ("--rebuild Flash_Attn", Options(rebuild=("flash-attn",))),
        ("--rebuild=flash-attn", Options(rebuild=("flash-attn",))),
        (
            "--rebuild flash-attn --rebuild some.package",
            Options(rebuild=("flash-attn", "some-package")),
        ),
    ],
)
def test_known_words_are_followed(words: str, expected: Options) -> None:
    """Names come normalized, a value may follow a space or an equals sign."""
    assert parse_options(words.split(), outputs=OUTPUTS) == expected


@pytest.mark.parametrize(
    ("word", "only", "expected"),
    [
        ("--write", "build-stages-init", Options(write=True)),
        ("--json", "build-stages-plan", Options(json=True)),
        ("--github", "build-stages-plan", Options(github=True)),
        ("--check-again", "build-stages", Options(check_again=True)),
        ("--check-reproducible", "build-stages", Options(check_reproducible=True)),
        (
            "--check-reproducible",
            "build-stages-release",
            Options(check_reproducible=True),
        ),
        ("--vendor", "build-stages-release", Options(vendor=True)),
        ("--vendor", "build-stages", Options(vendor=True)),
        ("--vendor", "build-stage-kernels", Options(vendor=True)),
        (
            "--check-reproducible",
            "build-stage-lock",
            Options(check_reproducible=True),
        ),
    ],
)
def test_a_word_for_one_session_is_followed_there(
    word: str, only: str, expected: Options
) -> None:
    """Nox hands the words to all sessions, so a stage follows what is for them all."""
    assert parse_options([word], outputs=OUTPUTS, session=only) == expected


@pytest.mark.parametrize(
    ("word", "session", "message", "hint"),
    [
        (
            "--write",
            "build-stages",
            "--write is for build-stages-init, and this is another session",
            (
                "to write the proposed stages to the pyproject.toml, run:\n"
                "  nox -s build-stages-init -- --write"
            ),
        ),
        (
            "--json",
            "build-stage-kernels",
            "--json is for build-stages-plan, and this is another session",
            "to print the plan as JSON, run:\n  nox -s build-stages-plan -- --json",
        ),
        (
            "--vendor",
            "build-stages-lock",
            "--vendor is for build-stages-release, and this is another session",
            (
                "to add the runtime's wheels from indexes, run:\n"
                "  nox -s build-stages-release -- --vendor"
            ),
        ),
        (
            "--older-than 30d",
            "build-stages",
            "--older-than is for build-stages-prune, and this is another session",
            (
                "to remove what wasn't used for this long, run:\n"
                "  nox -s build-stages-prune -- --older-than 30d"
            ),
        ),
        (
            "--by-cell x",
            "build-stages",
            "--by-cell is for build-stages-merge, and this is another session",
            (
                "to keep a folder for each wheelhouse, run:\n"
                "  nox -s build-stages-merge -- --by-cell FOLDER"
            ),
        ),
        (
            "--check-reproducible",
            "build-stages-plan",
            "--check-reproducible is for build-stages, and this is another session",
            (
                "to build twice, and fail if the wheels differ, run:\n"
                "  nox -s build-stages -- --check-reproducible"
            ),
        ),
    ],
)
def test_a_word_for_one_session_is_refused_by_others(
    word: str, session: str, message: str, hint: str
) -> None:
    """With the command that follows it."""
    with pytest.raises(UsageError) as caught:
        parse_options(word.split(), outputs=OUTPUTS, session=session)
    assert (caught.value.problem, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--older-than 30d", Options(older_than=30 * 86_400)),
        ("--older-than=1h30min", Options(older_than=5400)),
        ("--larger-than 20GB --dry-run", Options(larger_than=20 * 10**9, dry_run=True)),
        ("--larger-than=0KB --older-than=0s", Options(larger_than=0, older_than=0)),
    ],
)
def test_limits_are_read(words: str, expected: Options) -> None:
    """In seconds and bytes; nothing at all is a limit too."""
    found = parse_options(words.split(), outputs=OUTPUTS, session="build-stages-prune")
    assert found == expected


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            "--older-than 30",
            "expected --older-than 30d, or the like, found '30'",
            "write a number and w, d, h, min or s: 30d, 2w, 12h, 1h30min",
        ),
        (
            "--larger-than=5parsecs",
            "expected --larger-than 20GB, or the like, found '5parsecs'",
            "write a number and KB, MB, GB, TB, or KiB, MiB, GiB, TiB: 20GB, 1.5TiB",
        ),
        (
            "--older-than=6m",
            "expected --older-than 30d, or the like, found '6m'",
            "write a number and w, d, h, min or s: 30d, 2w, 12h, 1h30min",
        ),
        ("--older-than", "--older-than lacks its value", "write --older-than 30d"),
        ("--larger-than", "--larger-than lacks its value", "write --larger-than 20GB"),
        (
            "--larger-than=",
            "--larger-than= lacks its value",
            "write --larger-than=20GB",
        ),
        ("--dry-run=yes", "--dry-run takes no value", "write --dry-run alone"),
    ],
)
def test_what_is_no_limit_is_refused(words: str, message: str, hint: str) -> None:
    """With how one is written."""
    with pytest.raises(UsageError) as caught:
        parse_options(words.split(), outputs=OUTPUTS, session="build-stages-prune")
    assert (caught.value.problem, caught.value.hint) == (message, hint)


def test_a_matrix_may_leave_out_what_is_built() -> None:
    """Both words are for the plan, and the second one for the first alone."""
    session = "build-stages-plan"
    words = ["--only-missing", "--github"]
    found = parse_options(words, outputs=OUTPUTS, session=session)
    assert found == Options(github=True, only_missing=True)
    with pytest.raises(UsageError, match="--only-missing needs --github"):
        parse_options(["--only-missing"], outputs=OUTPUTS, session=session)
    with pytest.raises(UsageError, match="ask for two forms of the plan"):
        parse_options(["--github", "--json"], outputs=OUTPUTS, session=session)


def refusal(words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_options(words.split(), outputs=OUTPUTS)
    return caught.value


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("x", Options(folders=("x",))),
        ("x=1 upgrade", Options(folders=("x=1", "upgrade"))),
        ("--by-cell x", Options(folders=("x",), by_cell=True)),
        ("x --by-cell y", Options(folders=("x", "y"), by_cell=True)),
    ],
)
def test_folders_are_read(words: str, expected: Options) -> None:
    """Whatever they are called, by the session that merges."""
    found = parse_options(words.split(), outputs=OUTPUTS, session="build-stages-merge")
    assert found == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("upgrade", "did you mean --upgrade?"),
        ("--upgade", "did you mean --upgrade?"),
        ("--locked kernels", "choose one of these words"),
        ("-x", "choose one of these words"),
        ("--by-sell x", "did you mean --by-cell?"),
        ("--older-then 30d", "did you mean --older-than?"),
    ],
)
def test_unknown_words_are_refused_with_the_list_of_known_ones(
    words: str, message: str
) -> None:
    """The words of this session are listed, and the near miss comes last."""
    error = refusal(words)
    unknown = words.removeprefix("--locked ").partition(" ")[0]
    assert error.problem.startswith(f"unknown word after --: {unknown!r}")
    *lines, last = error.lines()
    assert last == f"help: {message}"
    known = "\n".join(lines)
    for word in ("--locked", "--upgrade-package NAME", "--rebuild [NAME]"):
        assert f"  {word} " in known
    assert "--older-than" not in known.splitlines()[1:]
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("words", ["--upgrade-package", "--upgrade-package --check"])
def test_a_value_that_is_missing_is_asked_for(words: str) -> None:
    """The next word isn't taken for the value where it is one of ours."""
    error = refusal(words)
    assert error.problem == "--upgrade-package lacks its value"
    assert error.hint == "write --upgrade-package NAME"


@pytest.mark.parametrize("words", ["--locked=yes", "--vendor=1", "--upgrade=numpy"])
def test_a_value_that_is_too_much_is_refused(words: str) -> None:
    """A flag takes no value, and none is dropped in silence."""
    assert words.partition("=")[0] in refusal(words).problem


@pytest.mark.parametrize("words", ["--upgrade-package=", "--rebuild="])
def test_an_empty_value_is_refused(words: str) -> None:
    """An equals sign with nothing behind it, as of an unset variable, is no value."""
    assert words.partition("=")[0] in refusal(words).problem


def test_only_outputs_can_be_rebuilt() -> None:
    """Where no stage builds what is named, the outputs are listed."""
    error = refusal("--rebuild torch")
    assert error.problem == "--rebuild torch: no stage has such an output"
    assert error.hint == "the outputs are: flash-attn, some-package"


@pytest.mark.parametrize(
    "words",
    ["--locked --upgrade", "--upgrade-package a --locked"],
)
def test_words_that_contradict_each_other_are_refused(words: str) -> None:
    """Lock files can't be left alone and made anew."""
    with pytest.raises(UsageError, match="choose one of them"):
        parse_options(words.split(), outputs=OUTPUTS)


def test_a_store_is_emptied_or_limited() -> None:
    """``--all`` would remove what a limit leaves."""
    words = ["--older-than", "30d", "--all"]
    with pytest.raises(UsageError, match="--all removes everything, whatever --older"):
        parse_options(words, outputs=OUTPUTS, session="build-stages-prune")
    parse_options(["--all"], outputs=OUTPUTS, session="build-stages-prune")


@pytest.mark.parametrize(
    ("words", "sessions", "instead"),
    [
        ("--verify", ["build-stages"], "build-stages-release -- --verify"),
        (
            "--vendor",
            ["build-stages(a=1)", "build-stages(a=2)"],
            "build-stages-release",
        ),
        ("--upgrade", ["build-stages-plan"], "build-stages-lock -- --upgrade"),
        ("--rebuild", ["build-stages-prune"], "build-stages -- --rebuild NAME"),
        ("--check-again=1", ["build-stages-lock"], "build-stages -- --check-again"),
    ],
)
def test_a_word_without_effect_is_refused(
    words: str, sessions: list[str], instead: str
) -> None:
    """The sessions know it, because it may be for another one in the run."""
    with pytest.raises(UsageError, match="has no effect on build-stages") as caught:
        check_effects(words.split(), sessions)
    assert f"leave it out, or run:\n  nox -s {instead}" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "sessions"),
    [
        ("--upgrade --json", ["build-stages-plan", "build-stages-lock"]),
        ("--vendor --locked", ["build-stages-release(a=1)"]),
        ("--check x.jsonl --rebuild kernels", ["build-stage-first"]),
        ("--locked kernels", ["build-stages-shell"]),
        ("folder --by-cell", ["build-stages-merge"]),
    ],
)
def test_a_word_needs_one_session_that_follows_it(
    words: str, sessions: list[str]
) -> None:
    """Text that isn't a word is a value, or a name."""
    check_effects(words.split(), sessions)


def test_a_shard_is_a_number_of_so_many_of_one_stage() -> None:
    """It makes no wheel, so nothing else can be asked of one."""
    stage = "build-stage-kernels"

    def read(*words: str, session: str = stage) -> Options:
        return parse_options(["--shard", *words], outputs=OUTPUTS, session=session)

    assert read("3/20") == Options(shard=Shard(number=3, count=20))
    for wrong in ("0/3", "4/3", "3", "a/b", "1/-3"):
        with pytest.raises(UsageError, match="the first of three shards is 1/3"):
            read(wrong)
    for session in ("build-stages", "build-stages-release", "build-stages-lock"):
        with pytest.raises(UsageError, match=f"--shard 1/2 .*, and this is {session}"):
            read("1/2", session=session)
    for other in ("--check-reproducible", "--require-hit-rate=1"):
        with pytest.raises(UsageError, match="makes no wheel"):
            read("1/2", other)


def test_a_hit_rate_is_a_number_from_0_to_1() -> None:
    """Every session that builds takes it."""
    found = parse_options(["--require-hit-rate", "0.9"], outputs=OUTPUTS)
    assert found == Options(require_hit_rate=0.9)
    for wrong in ("90", "-1", "nan", "most"):
        with pytest.raises(UsageError, match=r"0\.9 is nine of ten"):
            parse_options([f"--require-hit-rate={wrong}"], outputs=OUTPUTS)


def test_a_word_that_a_check_of_a_statement_ignores_is_refused() -> None:
    """A check writes no release; and the lock session has a word of that name."""
    error = refusal("--check a.json --upgrade --vendor")
    assert error.problem.endswith("only compares, without --upgrade and --vendor")
    lock = "build-stages-lock"
    assert parse_options(["--check"], outputs=(), session=lock).check
    hint = "write --check STATEMENT; to check the lock files, run:\n"
    assert refusal("--check").hint == f"{hint}  nox -s {lock} -- --check"


def test_a_word_that_is_only_as_long_as_a_known_one_is_no_near_miss() -> None:
    """Dashes are alike everywhere."""
    assert refusal("--hxlx").hint == "choose one of these words"


@pytest.mark.parametrize("kind", HELP)
def test_the_help_of_a_session_has_its_words_and_an_example(kind: str) -> None:
    """Each line fits a terminal of 88 columns, and the example is accepted."""
    session = "build-stage-kernels" if kind == "build-stage" else kind
    text = describe_session(session)
    head, *lines = text.splitlines()
    assert head == f"{session}: {DOCS[kind]}"
    assert max(map(len, lines)) <= 88
    words = {it.name for it in WORDS if it.session == kind}
    assert words <= {line.split()[0] for line in lines if line.strip()}
    command = lines[-1].split()
    assert command[:3] == ["nox", "-s", session]
    example = ["flash-attn" if it == "NAME" else it for it in command[4:]]
    parse_options(example, outputs=OUTPUTS, session=session)
    assert parse_options(["-h"], outputs=OUTPUTS, session=session).help


def test_the_documentation_has_the_help_of_each_session() -> None:
    """After a change, run `python docs/update_reference.py`."""
    page = PAGE.read_text("utf-8")
    assert update_page(page) == page
    assert "build-stages-plan -- --help" in page


def test_locks_are_made_anew_where_newer_versions_are_asked_for() -> None:
    """All of them, or one."""
    assert Options(upgrade=True).upgrades
    assert Options(upgrade_packages=("a",)).upgrades
    assert not Options(rebuild_all=True).upgrades


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("", "name one output"),
        ("flash-attn flash-attn", "name one output"),
        (
            "flash-atn",
            "no stage has the output 'flash-atn'; did you mean 'flash-attn'?",
        ),
    ],
)
def test_a_shell_is_for_one_output(words: str, problem: str) -> None:
    """A misspelled one has its near miss; `--all` is a word of two other sessions."""
    outputs, shell = ["flash-attn", "models"], "build-stages-shell"
    found = parse_options(["Flash_Attn"], outputs=outputs, session=shell)
    assert found == Options(names=("flash-attn",))
    with pytest.raises(UsageError) as caught:
        parse_options(words.split(), outputs=outputs, session=shell)
    assert caught.value.problem == problem
    assert caught.value.hint == "the outputs are: flash-attn, models"
    for session in ("build-stages-prune", "build-stages-init"):
        assert parse_options(["--all"], outputs=(), session=session) == Options(
            all=True
        )
