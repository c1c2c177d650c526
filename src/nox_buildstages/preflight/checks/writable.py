"""Can the store and the wheelhouse be written to?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "store and wheelhouse"


def check(facts: Facts) -> Finding | None:
    """Look at the folders that can't be written to."""
    folders = facts.unwritable
    if folders is None:
        return None
    if not folders:
        text = "store and wheelhouse can be written to"
        return Finding(check=NAME, state="ok", text=text)
    return Finding(
        check=NAME,
        state="error",
        text=f"{' and '.join(folders)} can't be written to",
        hint="change the permissions, or choose another folder with"
        " NOX_BUILDSTAGES_CACHE_DIR or wheelhouse",
    )
