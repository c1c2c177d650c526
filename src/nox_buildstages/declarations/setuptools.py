"""Read what setuptools adds to ``[project]``: files of requirements, and setup.cfg."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING, Any

from nox_buildstages.declarations.declared import Declared, as_table, as_texts
from nox_buildstages.declarations.requirements_txt import read_requirements_txt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def read_dynamic(
    table: Mapping[str, Any], read: Callable[[str], str], variables: Mapping[str, str]
) -> Declared:
    """Read ``[tool.setuptools.dynamic]``, which names files of requirements.

    Raises:
        OSError: A file can't be read.
    """

    def read_files(entry: object) -> Declared:
        files = as_table(entry).get("file")
        names = [files] if isinstance(files, str) else as_texts(files)
        return merge(
            "[tool.setuptools.dynamic]",
            *(read_requirements_txt(it, read, variables) for it in names),
        )

    main = read_files(table.get("dependencies"))
    extras = {
        name: read_files(entry)
        for name, entry in as_table(table.get("optional-dependencies")).items()
    }
    found = merge(main.origin, main, *extras.values())
    return Declared(
        origin=main.origin,
        requirements=main.requirements,
        extras={name: it.requirements for name, it in extras.items()},
        constraints=found.constraints,
        notes=found.notes,
    )


def read_setup_cfg(text: str) -> Declared:
    """Read the requirements in a setup.cfg."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        reason = str(error).partition("\n")[0]
        return Declared(origin="setup.cfg", notes=(f"setup.cfg isn't read: {reason}",))
    extras = {}
    if parser.has_section("options.extras_require"):
        extras = {
            name: _lines(value)
            for name, value in parser.items("options.extras_require")
        }
    return Declared(
        origin="setup.cfg",
        requirements=_lines(parser.get("options", "install_requires", fallback="")),
        extras=extras,
    )


def merge(origin: str, *parts: Declared) -> Declared:
    """Return the requirements, constraints and notes of several files."""
    return Declared(
        origin=origin,
        requirements=tuple(dict.fromkeys(it for p in parts for it in p.requirements)),
        constraints=tuple(dict.fromkeys(it for p in parts for it in p.constraints)),
        notes=tuple(dict.fromkeys(it for p in parts for it in p.notes)),
    )


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.replace(";\n", "\n").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
