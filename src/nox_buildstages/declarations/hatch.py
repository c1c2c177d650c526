"""Read ``[tool.hatch]``: the dependencies of environments.

https://hatch.pypa.io/latest/config/environment/overview/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nox_buildstages.declarations.declared import Declared, as_table, as_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

ORIGIN = "[tool.hatch.envs]"


def read_hatch(table: Mapping[str, Any]) -> Declared:
    """Return the dependencies of each environment as a group."""
    groups = {}
    for name, env in as_table(table.get("envs")).items():
        keys = ("dependencies", "extra-dependencies")
        texts = [text for key in keys for text in as_texts(as_table(env).get(key))]
        if texts:
            groups[name] = tuple(it.replace("{root:uri}", ".") for it in texts)
    return Declared(origin=ORIGIN, groups=groups)
