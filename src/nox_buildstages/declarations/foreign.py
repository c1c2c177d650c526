"""Read what is declared for other tools: Poetry, PDM, Hatch, pixi, pip, setuptools.

The standard tables of PEP 621 and PEP 735 are read elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.declarations.declared import (
    REQUIREMENTS_KEY,
    Declared,
    as_list,
    as_table,
    as_texts,
)
from nox_buildstages.declarations.hatch import read_hatch
from nox_buildstages.declarations.pdm import read_pdm
from nox_buildstages.declarations.pixi import read_pixi
from nox_buildstages.declarations.poetry import read_poetry
from nox_buildstages.declarations.requirements_txt import read_requirements_txt
from nox_buildstages.declarations.setuptools import merge, read_dynamic, read_setup_cfg
from nox_buildstages.declarations.workspace import get_table
from nox_buildstages.system.documents import read_toml
from nox_buildstages.system.files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_OF_CONDA = "packages of conda and pip aren't read"
_UNREAD = {
    "setup.py": "install_requires isn't read",
    "Pipfile": "packages aren't read",
    "environment.yml": _OF_CONDA,
    "environment.yaml": _OF_CONDA,
    "conda.yaml": _OF_CONDA,
}
"""Files that nobody reads here, and what of them isn't read."""


def read_foreign(
    document: Mapping[str, Any], root: Path, variables: Mapping[str, str]
) -> Declared:
    """Read the tables and files of other tools beside a pyproject.toml.

    Requirements files that aren't the project's own become groups, by their names.

    Raises:
        OSError: A file can't be read.
    """
    parts = [*_read_tables(document, root, variables)]
    own = as_table(document.get("project"))
    has_own = bool(own.get("dependencies")) or any(it.requirements for it in parts)
    groups = {name: it for part in parts for name, it in part.groups.items()}
    extras = {name: it for part in parts for name, it in part.extras.items()}
    for path in sorted(root.glob("requirements*.txt")):
        found = read_requirements_txt(
            path.name, lambda name: _read(root / name), variables
        )
        if path.name == "requirements.txt" and not has_own:
            parts.append(found)
            has_own = True
        elif not any(path.name in part.origin for part in parts):
            groups[path.name] = found.requirements
    final = get_table(document, "tool", "nox-buildstages", "final")
    if not has_own and not final.get("requirements"):
        parts += (
            Declared(origin=name, notes=(f"{name}: {what}; write {REQUIREMENTS_KEY}",))
            for name, what in _UNREAD.items()
            if (root / name).is_file()
        )
    together = merge(", ".join(it.origin for it in parts if it.requirements), *parts)
    return Declared(
        origin=together.origin,
        requirements=together.requirements,
        extras=extras,
        groups=groups,
        constraints=together.constraints,
        notes=together.notes,
    )


def _read_tables(
    document: Mapping[str, Any], root: Path, variables: Mapping[str, str]
) -> Iterator[Declared]:
    own = as_table(document.get("project"))
    tools = as_table(document.get("tool"))
    dependencies = own.get("dependencies", ())
    if "poetry" in tools:
        is_pep621 = "dependencies" in own
        yield read_poetry(as_table(tools["poetry"]), is_pep621=is_pep621)
    if "pdm" in tools:
        yield read_pdm(as_table(tools["pdm"]), dependencies=as_texts(dependencies))
    if "hatch" in tools:
        yield read_hatch(as_table(tools["hatch"]))
    if "pixi" in tools:
        yield read_pixi(as_table(tools["pixi"]), origin="[tool.pixi]")
    elif (root / "pixi.toml").is_file():
        yield read_pixi(read_toml(root / "pixi.toml"), origin="pixi.toml")
    dynamic = as_table(as_table(tools.get("setuptools")).get("dynamic"))
    if "dependencies" in as_list(own.get("dynamic")) and dynamic:
        yield read_dynamic(dynamic, lambda name: _read(root / name), variables)
    if "dependencies" not in own and (root / "setup.cfg").is_file():
        yield read_setup_cfg(_read(root / "setup.cfg"))


def _read(path: Path) -> str:
    return read_text(path, errors="replace")
