"""HTML that is safe to show: every text from elsewhere is escaped here."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Control characters, and those that change the direction of a text."""


class Markup(str):
    """A piece of HTML."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: str | bool) -> Markup:
    """Return an element; content that isn't markup is escaped.

    An underscore in the name of an attribute stands for a hyphen, and is left out at
    the end. An attribute that is True has no value; one that is False or empty is left
    out.
    """
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{_escape(value)}"')
        for key, value in attributes.items()
        if value
    )
    return Markup(f"<{name}{shown}>{join(*content)}</{name}>")


def join(*content: str) -> Markup:
    """Return pieces of content as markup, one after another."""
    return Markup(
        "".join(it if isinstance(it, Markup) else _escape(it) for it in content)
    )


def link(text: str, path: str) -> Markup:
    """Return a link to a file beside the page, or to a place on it."""
    return element("a", text, href=quote(path, safe="/#"))


def _escape(text: object) -> str:
    return escape(_HARMFUL.sub("\N{REPLACEMENT CHARACTER}", str(text)))
