"""HTML that is safe to show: every text from elsewhere is escaped here."""

from __future__ import annotations

from urllib.parse import quote

from nox_buildstages.safe_text import Markup, escape_html


def element(name: str, *content: str, **attributes: str | bool) -> Markup:
    """Return an element; content other than markup is escaped.

    An underscore in the name of an attribute stands for a hyphen, and is left out at
    the end. A True attribute has no value; a False or empty attribute is left out.
    """
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape_html(value)}"')
        for key, value in attributes.items()
        if value
    )
    return Markup(f"<{name}{shown}>{join(*content)}</{name}>")


def join(*content: str) -> Markup:
    """Return pieces of content as markup, one after another."""
    return Markup(
        "".join(it if isinstance(it, Markup) else escape_html(it) for it in content)
    )


def link(text: str, path: str) -> Markup:
    """Return a link to a file beside the page, or to a place on it."""
    return element("a", text, href=quote(path, safe="/#"))
