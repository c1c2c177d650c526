"""What the keys of uv's settings mean here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nox_buildstages.config.reference import update_uv_page
from nox_buildstages.declarations.settings import (
    DOWNLOAD_KEYS,
    PIP_KEYS,
    UV_KEYS,
)
from nox_buildstages.declarations.uv_keys import KEYS, find_idle_keys

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "uv-settings.md"


def taken(table: str) -> set[str]:
    return {key for key, (effect, _) in KEYS[table].items() if effect == "taken"}


def test_the_page_has_every_key() -> None:
    """A changed entry needs `python docs/update_reference.py`."""
    page = PAGE.read_text("utf-8")
    assert update_uv_page(page) == page


def test_what_is_taken_is_what_is_used() -> None:
    """The keys that uv gets are among those, and all of those of ``uv pip``."""
    assert {*UV_KEYS, *DOWNLOAD_KEYS} <= taken("")
    assert {*PIP_KEYS} == taken("pip")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"build-magic": True}, "build-magic of [tool.uv]"),
        ({"no-wheels-package": ["a"]}, "no-wheels-package of [tool.uv]"),
        ({"pip": {"isolation-level": 3}}, "isolation-level of [tool.uv.pip]"),
        ({"sources": {"a": {"backend": "b"}}}, "backend of [tool.uv.sources]"),
        ({"sources": {"a": [{"lfs": True}]}}, "lfs of [tool.uv.sources]"),
        ({"index": [{"binary-only": True}]}, "binary-only of [tool.uv.index]"),
        ({"no-build-isolation": True}, "no-build-isolation of [tool.uv]"),
        (
            {"pip": {"extra-build-variables": {"a": {}}}},
            "extra-build-variables of [tool.uv.pip]",
        ),
    ],
)
def test_a_key_about_builds_without_effect_is_named(
    settings: dict[str, Any], name: str
) -> None:
    """Also one of a newer uv, which this table doesn't know yet."""
    assert [key for key, _ in find_idle_keys(settings)] == [name]


def test_other_keys_are_silent() -> None:
    """What is taken, what has nothing to do with builds, and what is switched off."""
    settings = {
        **dict.fromkeys(taken(""), ()),
        "pip": {},
        "sources": {},
        "newer-key": 1,
        "no-build-isolation": False,
    }
    assert [*find_idle_keys(settings)] == []
