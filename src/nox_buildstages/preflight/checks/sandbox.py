"""What can the kernel cut builds off from?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import set_in_stage

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "sandbox"


def check(facts: Facts) -> Finding | None:
    """Say what the kernel can't do."""
    reason = facts.no_network
    if reason is None or facts.network == "on":
        return None
    if reason:
        is_required = facts.network == "require-off"
        return Finding(
            check=NAME,
            state="error" if is_required else "warning",
            text=f"the network can't be cut off: {reason}",
            hint="to cut it off only if possible:\n"
            + set_in_stage(facts, "network", value=False)
            if is_required
            else "",
        )
    text = "the network can be cut off"
    if facts.is_elsewhere:
        text += ", but builds run at paths of their own"
        return Finding(check=NAME, state="warning", text=text)
    return Finding(check=NAME, state="ok", text=text)
