"""Read ``[tool.pdm]``: PDM has dependencies in ``[project]`` and more groups here.

https://pdm-project.org/latest/reference/pep621/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nox_buildstages.declarations.declared import Declared, as_list, as_table, as_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ORIGIN = "[tool.pdm]"

_ROOT = re.compile(r"file:///\$\{PROJECT_ROOT\}/?")
_EDITABLE = re.compile(r"-e\s+(?P<url>[^#]+)#egg=(?P<name>[^&\s]+)")


def read_pdm(table: Mapping[str, Any], *, dependencies: Iterable[str]) -> Declared:
    """Read the table, and ``[project] dependencies`` that only PDM understands."""
    groups = {
        name: tuple(map(_requirement, as_texts(entries)))
        for name, entries in as_table(table.get("dev-dependencies")).items()
        if isinstance(entries, list)
    }
    own = tuple(dependencies)
    notes = []
    names = [str(as_table(it).get("name")) for it in as_list(table.get("source"))]
    if names:
        notes.append(
            f"[[tool.pdm.source]] {', '.join(names)} isn't read; write"
            " [[tool.uv.index]] with name and url"
        )
    resolution = as_table(table.get("resolution"))
    for key, ours in {
        "overrides": "override-dependencies",
        "excludes": "exclude-dependencies",
    }.items():
        if resolution.get(key):
            notes.append(
                f"[tool.pdm.resolution] {key} isn't read; write {ours} in [tool.uv]"
            )
    only_pdm = any(_ROOT.search(text) for text in own)
    return Declared(
        origin=ORIGIN,
        requirements=tuple(map(_requirement, own)) if only_pdm else (),
        groups=groups,
        notes=tuple(notes),
    )


def _requirement(text: str) -> str:
    editable = _EDITABLE.fullmatch(text.strip())
    if editable is not None:
        text = f"{editable['name']} @ {editable['url']}"
    return _ROOT.sub("./", text)
