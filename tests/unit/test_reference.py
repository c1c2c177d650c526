"""The reference of the table says what the declared keys say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages import toml
from nox_buildstages.config.getters import Document, Item
from nox_buildstages.config.reference import TABLES, update_page

if TYPE_CHECKING:
    from nox_buildstages.config.getters import Key

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "table.md"
KEYS = [(table, name) for table, keys in TABLES.items() for name in keys]
DOCUMENT = """
[project]
name = "models"
dependencies = []
optional-dependencies = { gpu = [] }
[dependency-groups]
test = []
[[tool.uv.index]]
name = "cu130"
url = "https://example.org/simple"
"""


def test_the_page_has_every_key() -> None:
    """A changed declaration needs `python docs/update_reference.py`."""
    page = PAGE.read_text("utf-8")
    assert update_page(page) == page
    for table, name in KEYS:
        prefix = f"{table}." if table else ""
        assert f"### `{prefix}{name}`\n" in page


@pytest.mark.parametrize(("table", "name"), KEYS)
def test_a_key_is_documented(table: str, name: str) -> None:
    """It has a type, a meaning in sentences, a default and an example without fault."""
    key: Key = TABLES[table][name]
    assert key.type
    assert key.text.endswith(".")
    assert key.is_required or key.default_text or key.default is not None
    if key.example:
        content = toml.loads(key.example)
        document = Document(
            content=toml.loads(DOCUMENT), path=Path("/project/pyproject.toml")
        )
        for step, value in content.items():
            key.getter(Item(value=value, steps=(step,), document=document))
        assert not document.faults


def test_keys_that_are_part_of_the_locks_or_of_the_key() -> None:
    """How fast a stage is built matters to neither."""
    stage = TABLES["stage"]
    assert {name for name, key in stage.items() if not key.in_locks} == {
        *("tools", "jobs", "memory-per-job", "compiler-cache", "timeout")
    }
    assert {name for name, key in stage.items() if key.in_key} == {
        *("outputs", "env", "pass-env", "tools", "network")
    }
