"""What is printed for GitHub Actions and GitLab."""

from __future__ import annotations

from pathlib import Path

import pytest

from nox_buildstages.run.ci import add_to_summary, annotate, fold, is_folding

GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": "/project"}
LOG = ["cc a.c", "::error::no", "\x1b[31mred\x1b[0m \x1b[0Ksection_end:1:x\r\x1b[0K"]


def test_github_gets_a_group_in_which_commands_are_only_text() -> None:
    """A log can't end it, for nobody can guess the word."""
    first, stop, *lines, go_on, last = fold("a.log: a 1.0", LOG, GITHUB)
    assert (first, last) == ("::group::a.log: a 1.0", "::endgroup::")
    word = stop.removeprefix("::stop-commands::")
    assert len(word) == 32
    assert go_on == f"::{word}::"
    assert lines == ["cc a.c", r"\::error::no", "red section_end:1:x"]


def test_gitlab_gets_a_section_that_a_log_can_not_end() -> None:
    """It is collapsed; only lines with codes for the terminal end it."""
    first, *lines, last = fold("a.log", LOG, {"GITLAB_CI": "true"})
    assert first.startswith("\x1b[0Ksection_start:")
    assert first.endswith("[collapsed=true]\r\x1b[0Ka.log")
    assert last.startswith("\x1b[0Ksection_end:")
    assert all(line.isprintable() for line in lines)


def test_a_long_log_is_cut() -> None:
    """The end says more than the start."""
    *_, last, _, _ = fold("a", [str(it) for it in range(9000)], GITHUB)
    lines = [*fold("a", [str(it) for it in range(9000)], GITHUB)]
    assert last == "8999"
    assert lines[2] == "… 4000 lines above are in the log only"
    assert len(lines) == 5005


@pytest.mark.parametrize(
    ("env", "path", "line", "said"),
    [
        ({}, "/project/pyproject.toml", 3, []),
        (
            GITHUB,
            "/project/sub/pyproject.toml",
            3,
            ["::error file=sub/pyproject.toml,line=3,title=nox-buildstages::a%0Ab 9"],
        ),
        (
            GITHUB,
            "/other/a,b 9%",
            None,
            ["::error file=/other/a%2Cb 9%25,title=nox-buildstages::a%0Ab 9"],
        ),
    ],
)
def test_an_error_is_shown_beside_the_file(
    env: dict[str, str], path: str, line: int | None, said: list[str]
) -> None:
    """In GitHub; its commands end with the line."""
    assert [*annotate("a\nb 9", Path(path), line, env)] == said


def test_a_summary_is_added(tmp_path: Path) -> None:
    """Behind what other steps wrote; elsewhere nothing happens."""
    path = tmp_path / "summary.md"
    path.write_text("# Before\n", "utf-8")
    env = {"GITHUB_STEP_SUMMARY": str(path)}
    add_to_summary(["a", "b"], env)
    add_to_summary(["a", "b"], {})
    add_to_summary([], env, title="nothing")
    add_to_summary(["c"], env, title="s(cpu=x86-64)")
    shown = "# Before\n\na\nb\n\n#### s(cpu=x86-64)\n\nc\n"
    assert path.read_text("utf-8") == shown


def test_two_systems_fold() -> None:
    """Elsewhere, groups would be noise."""
    assert [is_folding(it) for it in (GITHUB, {"GITLAB_CI": "1"}, {"CI": "1"})] == [
        True,
        True,
        False,
    ]
