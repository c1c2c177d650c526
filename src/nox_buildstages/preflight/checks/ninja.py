"""Is there a ninja for torch's extensions?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import set_in_stage

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "ninja"


def check(facts: Facts) -> Finding | None:
    """Look for ninja, without which torch compiles one file at a time."""
    source = facts.source
    if facts.torch is None:
        return None
    if source is None:
        return Finding(check=NAME, state="later", text="")
    if not source.extends_torch or source.is_serial or facts.has_ninja is None:
        return None
    if facts.has_ninja:
        return Finding(check=NAME, state="ok", text="ninja for the torch extension")
    has_several = source.files > 1 and facts.jobs != 1
    return Finding(
        check=NAME,
        state="error" if has_several and not facts.has_built else "warning",
        text="torch extensions without ninja compile one file at a time",
        hint="add ninja to the dependencies of the stage:\n"
        + set_in_stage(facts, "dependencies", ["ninja"]),
    )
