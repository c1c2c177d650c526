"""The reference of the table: Markdown generated from the declared keys."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from nox_buildstages.config.final import FINAL
from nox_buildstages.config.matrix import MATRIX
from nox_buildstages.config.table import PACKAGE, STAGE, TOP
from nox_buildstages.config.writing import format_value
from nox_buildstages.declarations.uv_keys import KEYS as UV_KEYS
from nox_buildstages.declarations.uv_variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.config.getters import Key

TABLES: Mapping[str, Mapping[str, Key]] = {
    "": TOP,
    "final": FINAL,
    "stage": STAGE,
    "package.NAME": PACKAGE,
    "matrix": MATRIX,
}
"""All declared keys by table, relative to ``[tool.nox-buildstages]``."""

_GENERATED = re.compile(
    r"(<!-- keys of \[(?P<table>.*?)\] -->\n).*?(?=<!-- end of keys -->)", re.DOTALL
)


def update_page(page: str) -> str:
    """Return the page, with the keys of each table between two comments.

    The comments are ``<!-- keys of [final] -->`` and ``<!-- end of keys -->``.
    """
    return _GENERATED.sub(
        lambda match: f"{match[1]}\n{render_table(match['table'])}", page
    )


def update_uv_page(page: str) -> str:
    """Return the page about uv's settings, with its keys between two comments."""
    return _GENERATED.sub(
        lambda match: f"{match[1]}\n{_render_uv_keys(match['table'])}\n", page
    )


def _render_uv_keys(table: str) -> str:
    """Return what the keys of a table, or uv's variables, mean, in Markdown."""
    keys, lines = {**UV_KEYS, "variables": VARIABLES}[table], []
    for effect, heading in (
        ("taken", "Taken:"),
        ("warned", "Without effect, and reported if a lock file is made:"),
        ("irrelevant", "Without effect:"),
    ):
        found = {k: text for k, (it, text) in keys.items() if it == effect}
        if found:
            lines += [heading, ""]
            lines += [
                textwrap.fill(
                    f"- `{key}`: {text}",
                    width=88,
                    subsequent_indent="  ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                for key, text in found.items()
            ]
            lines.append("")
    return "\n".join(lines).rstrip("\n")


def render_table(name: str) -> str:
    """Return the reference of a table's keys in Markdown."""
    prefix, lines = f"{name}." if name else "", []
    for key_name, key in TABLES[name].items():
        default = key.default_text
        if key.is_required:
            default = "none; the key is required"
        elif not default:
            default = f"`{format_value(key.default)}`"
        in_locks = "only through the versions in the locks" if key.in_locks else "no"
        lines += [
            f"### `{prefix}{key_name}`\n",
            textwrap.fill(
                key.text, width=88, break_long_words=False, break_on_hyphens=False
            ),
            "",
            f"- Type: {key.type}",
            f"- Default: {default}",
            *([f"- Example: `{key.example}`"] if key.example else []),
            f"- Part of the locks: {'yes' if key.in_locks else 'no'}",
            f"- Part of the key: {'yes' if key.in_key else in_locks}",
            "",
        ]
    return "\n".join(lines)
