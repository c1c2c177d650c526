"""Read ``[tool.pixi]`` or a ``pixi.toml``: the packages from PyPI, not those of conda.

https://pixi.sh/latest/reference/pixi_manifest/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.declarations.declared import (
    Declared,
    as_table,
    direct_requirement,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OPTIONS = {
    "index-url": "[[tool.uv.index]] with default = true",
    "extra-index-urls": "[[tool.uv.index]]",
    "find-links": "find-links in [tool.uv]",
    "no-build-isolation": "no-build-isolation-package in [tool.uv]",
    "dependency-overrides": "override-dependencies in [tool.uv]",
}
"""The keys of ``pypi-options`` and what to write in their place."""


def read_pixi(table: Mapping[str, Any], *, origin: str) -> Declared:
    """Read the packages from PyPI; conda's are named in a note."""
    notes = []
    conda = [*as_table(table.get("dependencies"))]
    groups = {}
    for name, feature in as_table(table.get("feature")).items():
        conda += as_table(as_table(feature).get("dependencies"))
        found = tuple(_read_all(as_table(feature)))
        if found:
            groups[name] = found
    conda = [it for it in dict.fromkeys(conda) if it not in {"python", "pip"}]
    if conda:
        notes.append(
            f"{origin} dependencies: conda's {', '.join(conda)} aren't read; write"
            " those that have wheels in requirements of [tool.nox-buildstages.final]"
        )
    notes += (
        f"{origin} pypi-options: {key} isn't read; write {ours}"
        for key, ours in _OPTIONS.items()
        if key in as_table(table.get("pypi-options"))
    )
    return Declared(
        origin=origin,
        requirements=tuple(_read_all(table)),
        groups=groups,
        notes=tuple(notes),
    )


def _read_all(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the requirements from PyPI, on Linux's own too; without the project."""
    for platform, marker in (("", ""), ("linux", "linux"), ("linux-64", "linux")):
        place = table
        if platform:
            place = as_table(as_table(table.get("target")).get(platform))
        for name, value in as_table(place.get("pypi-dependencies")).items():
            entry = {"version": value} if isinstance(value, str) else as_table(value)
            if entry.get("path") in (".", "./"):
                continue
            given = entry.get("extras")
            extras = f"[{','.join(map(str, given))}]" if isinstance(given, list) else ""
            condition = f"sys_platform == '{marker}'" if marker else ""
            if "env-markers" in entry:
                condition = str(entry["env-markers"])
            direct = direct_requirement(name, entry, extras=extras, marker=condition)
            version = str(entry.get("version", "*")).strip()
            version = "" if version == "*" else version
            if version[:1].isdigit():
                version = f"=={version}"
            end = f" ; {condition}" if condition else ""
            yield direct or f"{name}{extras}{version}{end}"
