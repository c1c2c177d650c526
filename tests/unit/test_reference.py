"""The reference of the table says what the declared keys say."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.config.getters import Document, Item
from nox_buildstages.config.project import read
from nox_buildstages.config.reference import TABLES, update_page
from nox_buildstages.lock.files.inputs import digest_inputs
from nox_buildstages.reader import parse_toml
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from support.targets import interpreter

if TYPE_CHECKING:
    from nox_buildstages.config.getters import Key

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "table.md"
KEYS = [(table, name) for table, keys in TABLES.items() for name in keys]
TABLE: dict[str, Any] = {
    "final": {},
    "stage": [
        {"name": "base", "outputs": ["base-lib"]},
        {"name": "ops", "outputs": ["ops"]},
    ],
    "package": {"base-lib": {}},
}
DOCUMENT = """
[project]
name = "models"
dependencies = []
optional-dependencies = { gpu = ["triton"] }
[dependency-groups]
test = ["pytest"]
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
        content = parse_toml(key.example)
        document = Document(
            content=parse_toml(DOCUMENT), path=Path("/project/pyproject.toml")
        )
        for step, value in content.items():
            key.getter(Item(value=value, steps=(step,), document=document))
        assert not document.faults


@pytest.mark.parametrize(
    ("table", "name"),
    [it for it in KEYS if it[0] != "matrix" and TABLES[it[0]][it[1]].example],
)
def test_a_key_is_part_of_the_locks_if_it_says_so(
    table: str, name: str, tmp_path: Path
) -> None:
    """The example changes the digest of the locks' inputs, or it doesn't."""
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "grouped-gemm.patch").write_text("--- a/x\n+++ b/x\n")
    key = TABLES[table][name]
    digests = set()
    for example in ({}, parse_toml(key.example)):
        document = parse_toml(DOCUMENT)
        content = deepcopy(TABLE)
        inner = {
            "": content,
            "final": content["final"],
            "stage": content["stage"][1],
            "package.NAME": content["package"]["base-lib"],
        }[table]
        inner |= example
        document.setdefault("tool", {})["nox-buildstages"] = content
        project = read(document, pyproject=tmp_path / "pyproject.toml")
        run = Run(id="1", journal=Journal(tmp_path))
        digests.add(digest_inputs([project], interpreter(), run))
    assert (len(digests) == 2) == key.in_locks


def test_keys_that_are_part_of_the_key() -> None:
    """Not how fast a stage is built."""
    stage = TABLES["stage"]
    assert {name for name, key in stage.items() if key.in_key} == {
        *("outputs", "env", "pass-env", "tools", "network", "sandbox")
    }
