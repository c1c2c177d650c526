"""Text from elsewhere: what is shown can't steer what shows it."""

from __future__ import annotations

import pytest

from nox_buildstages.safe_text import (
    Shown,
    escape_html,
    escape_markdown,
    show,
    show_json,
    show_output,
    without_codes,
)
from nox_buildstages.text import paint


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("flash-attn 2.8.3", "flash-attn 2.8.3"),
        ("x\x1b[2J", r"x\x1b[2J"),
        ("a\r\n::error::b", r"a\x0d\x0a::error::b"),
        ("  ::error file=x::forged", r"  \::error file=x::forged"),
        ("a ##[error]b ##vso[x]c", r"a #\#[error]b #\#vso[x]c"),
        ("a::b ## c #[d]", "a::b ## c #[d]"),
        ("\x7f\x9b31m", r"\x7f\u009b31m"),
        ("a\u202eb\u2066c\u200bd\ufeff", r"a\u202eb\u2066c\u200bd\ufeff"),
        ("\udc80\U000e0041", r"\udc80\U000e0041"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_a_terminal_and_ci_see_no_commands(text: str, shown: str) -> None:
    """Neither codes nor invisible characters, nor the start of a command."""
    assert show(text) == shown
    assert show(show(text)) == shown


def test_only_our_own_colours_are_kept() -> None:
    """Foreign text within them is made harmless."""
    line = show(paint("a\x1b[31m", "bold", colour=True), " b\x1b[0m")
    assert line == "\x1b[1ma\\x1b[31m\x1b[0m b\\x1b[0m"
    assert isinstance(line, Shown)


def test_the_output_of_a_program_keeps_colours_and_line_ends() -> None:
    """But moves no cursor, sets no title, and gives no command."""
    assert show_output("\x1b[31mred\x1b[0m\r\n\x1b]0;title\x07\n::error::x") == (
        "\x1b[31mred\x1b[0m\r\n\\x1b]0;title\\x07\n\\::error::x"
    )
    assert without_codes("\x1b[1;31mred\x1b[K\x1b]0;title\x07\r") == "red"


def test_json_stays_json() -> None:
    """It has escapes of its own."""
    assert show_json('["##[error]a",\n "::b"]') == [r'["\u0023#[error]a",', ' "::b"]']


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<img src=x>\n# a | b", r"\<img src=x\> \# a \| b"),
        ("[l](javascript:x) `x`", r"\[l\](javascript:x) \`x\`"),
        ("https://x www.x WWW.y", r"https\://x www\.x WWW\.y"),
        ("a\x1b&\u202e", r"a\x1b&amp;\u202e"),
    ],
)
def test_markdown_has_no_markup_of_strangers(text: str, escaped: str) -> None:
    """Not even links, which GitHub makes of URLs."""
    assert escape_markdown(text) == escaped


def test_html_has_no_markup_of_strangers() -> None:
    """Between tags and in quotes."""
    assert escape_html('<b a="\'">\x1b&') == "&lt;b a=&quot;&#x27;&quot;&gt;\\x1b&amp;"
