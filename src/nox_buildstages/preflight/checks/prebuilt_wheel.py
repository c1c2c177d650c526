"""Would setup.py fetch a prebuilt wheel in place of a build?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import set_in_stage

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "prebuilt wheel"


def check(facts: Facts) -> Finding | None:
    """Look for the variables that keep setup.py from looking for a wheel."""
    wanted = facts.known.force_build
    if not wanted:
        return None
    missing = {it: wanted[it] for it in wanted if it not in facts.variables}
    if not missing:
        text = f"{', '.join(wanted)}: nothing is fetched in place of a build"
        return Finding(check=NAME, state="ok", text=text)
    has_network = facts.network == "on" or bool(facts.no_network)
    return Finding(
        check=NAME,
        state="error" if has_network else "warning",
        text="its setup.py looks for a prebuilt wheel on the network first",
        hint=f"build from source:\n{set_in_stage(facts, 'env', missing)}",
    )
