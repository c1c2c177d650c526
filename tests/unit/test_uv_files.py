"""Which file uv's settings come from: compared with uv 0.13.9 in integration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.declarations.documents import complete_document, read_document
from nox_buildstages.declarations.workspace import find_workspace
from nox_buildstages.errors import DeclarationError

if TYPE_CHECKING:
    from pathlib import Path

OWN = {"prerelease": "allow", "sources": {"x": {"index": "a"}}}


def test_without_a_uv_toml_the_settings_are_those_of_the_pyproject(
    tmp_path: Path,
) -> None:
    """Nothing is read beside the file."""
    document = {"tool": {"uv": OWN}}
    assert complete_document(document, tmp_path / "pyproject.toml") == document


def test_a_uv_toml_takes_the_place_of_the_settings_except_of_those_of_a_project(
    tmp_path: Path,
) -> None:
    """As in uv: ``[tool.uv]`` keeps sources, overrides, the workspace and conflicts."""
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[tool.uv]\nprerelease = "allow"\noverride-dependencies = ["a"]\n'
        '[tool.uv.sources]\nx = { path = "x" }\n[tool.other]\nz = 1\n'
    )
    path.with_name("uv.toml").write_text(
        'resolution = "lowest"\noverride-dependencies = ["b"]\n'
    )
    assert read_document(path)["tool"] == {
        "other": {"z": 1},
        "uv": {
            "resolution": "lowest",
            "override-dependencies": ["a"],
            "sources": {"x": {"path": "x"}},
        },
    }


def test_a_uv_toml_that_is_no_toml_is_named(tmp_path: Path) -> None:
    """Not the pyproject.toml."""
    path = tmp_path / "pyproject.toml"
    path.write_text("")
    path.with_name("uv.toml").write_text("]")
    with pytest.raises(DeclarationError, match=r"uv\.toml") as caught:
        read_document(path)
    assert caught.value.path == path.with_name("uv.toml")


def test_a_workspace_with_impossible_names_is_none(tmp_path: Path) -> None:
    """Uv says what is wrong with them; reading the table must not fail before."""
    long = "x" * 5000
    patterns = [f"{long}/*", "/etc", "**x", "a\0b"]
    settings = {"tool": {"uv": {"workspace": {"members": patterns}}}}
    (tmp_path / "pyproject.toml").touch()
    found = find_workspace(tmp_path, lambda _: settings)
    assert found is not None
    assert found.folders == (tmp_path,)
    assert find_workspace(tmp_path / long, lambda _: {}) is None


@pytest.mark.parametrize("name", ["x" * 400, "a\0b", "x/" * 5000])
def test_a_source_folder_with_an_impossible_name_adds_nothing(
    tmp_path: Path, name: str
) -> None:
    """The lock session says what is wrong with it; reading must not fail before."""
    document = {"tool": {"uv": {"sources": {"x": {"path": name}}}}}
    assert complete_document(document, tmp_path / "pyproject.toml") == document
