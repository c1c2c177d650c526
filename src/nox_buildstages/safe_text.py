r"""The border for text from elsewhere: what is shown can't steer what shows it.

Names, metadata, requirements, log lines, and answers of servers may contain anything:
codes for a terminal, commands to a CI system, HTML, Markdown. Each way out takes
another type, and only functions of this module make values of these types. So a type
checker finds text which nobody made harmless:

* `Shown` for terminals and logs of CI systems,
* `Markup` for HTML,
* `Markdown` for a text within Markdown.
"""

from __future__ import annotations

import re

HARMFUL = (
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters, invisible ones, and those that change the direction of a text."""

_COMMAND = r"^\s*(?=::)|#(?=#(?:vso|teamcity)?\[)"
"""The start of a command to GitHub, Azure Pipelines or TeamCity."""

# Most runs need none of these patterns: to compile them would take a millisecond.

_STYLE = "\x1b\\[[0-9;]*m"

_CODE = r"\r|\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))"

_MARKDOWN = r"(?i)[\\`*_~#|<>\[\]]|:(?=//)|(?<=\bwww)\."
"""Characters with a meaning in Markdown, and those that make links of URLs."""


class Shown(str):
    """A text for a terminal and a CI system, shown unchanged."""

    __slots__ = ()


class Markup(str):
    """A piece of HTML."""

    __slots__ = ()


class Markdown(str):
    """A text on one line that has no meaning of its own in Markdown."""

    __slots__ = ()


def show(*parts: str) -> Shown:
    r"""Return parts of a line for a terminal; all but `Shown` parts are made harmless.

    Control characters become escapes, such as ``\x1b`` and ``\u202e``.
    """
    return Shown("".join(it if isinstance(it, Shown) else _escape(it) for it in parts))


def show_lines(text: str) -> list[Shown]:
    """Return the lines of a text for a terminal."""
    return [show(line) for line in text.split("\n")]


def show_json(text: str) -> list[Shown]:
    """Return the lines of a JSON document: its strings escape all but commands."""
    return [Shown(re.sub(_COMMAND, "\\\\u0023", line)) for line in text.splitlines()]


def show_output(text: str) -> Shown:
    """Return the output of a program, with its colours and line ends only."""
    found, at = [], 0
    for kept in re.finditer(f"{_STYLE}|\r|\n", text):
        found += [_escape(text[at : kept.start()]), kept[0]]
        at = kept.end()
    return Shown("".join((*found, _escape(text[at:]))))


def without_codes(text: str) -> str:
    """Return a line of a log without the codes for colours, titles and cursors."""
    return re.sub(_CODE, "", text)


def escape_html(text: object) -> Markup:
    """Return a text as HTML, between tags or in quotes."""
    from html import escape  # noqa: PLC0415 - most runs write no page

    return Markup(escape(re.sub(HARMFUL, _name_character, str(text))))


def escape_markdown(text: str) -> Markdown:
    """Return a text for Markdown, without line breaks."""
    line = " ".join(text.replace("&", "&amp;").split())
    return Markdown(
        re.sub(HARMFUL, _name_character, re.sub(_MARKDOWN, r"\\\g<0>", line))
    )


def _escape(text: str) -> str:
    if text.isprintable() and ":" not in text and "#" not in text:
        return text
    return re.sub(HARMFUL, _name_character, re.sub(_COMMAND, _hide_command, text))


def _hide_command(match: re.Match[str]) -> str:
    r"""Return the start of a command with a backslash, so that it is none."""
    return f"{match[0]}\\"


def _name_character(match: re.Match[str]) -> str:
    code = ord(match[0])
    width, letter = (2, "x") if code < 0x80 else (4, "u")  # noqa: PLR2004 - ASCII
    return f"\\{letter}{code:0{width}x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
