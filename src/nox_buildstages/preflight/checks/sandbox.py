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
    if facts.no_network is None:
        return None
    problems: list[str] = []
    hints: list[str] = []
    if facts.no_network and facts.network != "on":
        problems.append(f"the network can't be cut off: {facts.no_network}")
        if facts.network == "require-off":
            allow = set_in_stage(facts, "network", value=False)
            hints.append(f"to cut it off only if possible:\n{allow}")
    if facts.open_files and facts.sandbox != "off":
        access = "read and write" if facts.is_elsewhere else "read"
        problems.append(f"builds can {access} your files: {facts.open_files}")
        if facts.sandbox == "require":
            allow = set_in_stage(facts, "sandbox", value=True)
            hints.append(f"to restrict them only if possible:\n{allow}")
    if problems:
        return Finding(
            check=NAME,
            state="error" if hints else "warning",
            text="; ".join(problems),
            hint=hints[0] if hints else "",
        )
    if facts.network == "on":
        return None
    text = "the network can be cut off"
    if facts.is_elsewhere:
        text += ", but builds run at paths of their own"
        return Finding(check=NAME, state="warning", text=text)
    return Finding(check=NAME, state="ok", text=text)
