"""The reference of the recipes: Markdown generated from kinds and files."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from nox_buildstages.config.writing import format_value
from nox_buildstages.recipes.recipe import COMMON, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_GENERATED = re.compile(r"(<!-- (\w+) -->\n).*?(?=<!-- end of \2 -->)", re.DOTALL)


def update_page(page: str, documents: Iterable[Mapping[str, Any]]) -> str:
    """Return the page with its generated parts, from the documents of all recipes.

    The parts are between ``<!-- kinds -->`` and ``<!-- end of kinds -->``, and the same
    for ``recipes``.
    """
    entries = (line for document in documents for line in _entry(document))
    kinds: list[str] = []
    for kind in KINDS:
        meaning = (kind.__doc__ or "").partition("\n")[0].replace("``", "`")
        builds = {"cuda": " With CUDA only.", "cpu": " Without CUDA only."}
        kinds += _item(f"`{kind.kind}`: {meaning}{builds.get(kind.only, '')}")
    parts = {"kinds": "\n".join(kinds), "recipes": "\n".join(entries)}
    return _GENERATED.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n", page)


def _entry(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the section of a package."""
    yield f"### {document['name']}\n"
    for name in document.get("other-names", ()):
        yield f"Also found as `{name}`.\n"
    git = document.get("git")
    if git is not None:
        folder = f", folder `{git['subdirectory']}`" if "subdirectory" in git else ""
        yield from _wrap(
            f"Built from <{git['url']}>{folder}"
            f"{', if there is no usable wheel' if git.get('wheels') else ''}:"
            f" {git['why']}. The recipe names version {git['version']}, commit"
            f" `{git['commit'][:12]}`."
        )
        yield ""
    for fact in document["fact"]:
        (kind,) = fact.keys() - COMMON.keys()
        about = f" for `{fact['versions']}`" if fact["versions"] else ""
        builds = {"cuda": " with CUDA", "cpu": " without CUDA"}
        about += builds.get(fact.get("builds", ""), "")
        yield from _item(
            f"`{kind} = {format_value(fact[kind])}`{about}: {fact['why']}."
            f" ({fact['source']}, {fact['date']})"
        )
    yield ""


def _item(text: str) -> Iterator[str]:
    """Yield an item of a list."""
    first, *rest = _wrap(f"- {text}")
    yield first
    yield from (f"  {line}" for line in rest)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 94, break_long_words=False, break_on_hyphens=False)
