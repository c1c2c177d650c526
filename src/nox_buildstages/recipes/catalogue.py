"""The recipes in this package: read one at a time, and only by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from nox_buildstages import reader
from nox_buildstages.recipes.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = resources.files(__package__) / "packages"


def recipe_for(name: str) -> Recipe | None:
    """Return the recipe of a package, or None."""
    file = FOLDER / f"{canonicalize_name(name)}.toml"
    if not file.is_file():
        return None
    return read_recipe(file.read_text("utf-8"), Path(file.name))


def find_project(name: str) -> str:
    """Return the project whose recipe lists a name as another one, or the name.

    People know some projects by the name of their repository.
    """
    normalized = canonicalize_name(name)
    for file in FOLDER.iterdir():
        text = file.read_text("utf-8")
        if f'"{normalized}"' in text:  # few: most files needn't be parsed
            document = reader.parse_toml(text)
            if normalized in document.get("other-names", ()):
                return str(document["name"])
    return name


def all_documents() -> Iterator[dict[str, Any]]:
    """Yield the documents of all recipes as they are, by name."""
    for file in sorted(FOLDER.iterdir(), key=lambda it: Path(it.name).stem):
        yield reader.parse_toml(file.read_text("utf-8"))
