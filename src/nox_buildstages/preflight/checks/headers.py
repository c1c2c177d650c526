"""Are the headers of Python there?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "Python headers"


def check(facts: Facts) -> Finding | None:
    """Look for ``Python.h`` of the environment's interpreter."""
    if facts.source is None:
        return Finding(check=NAME, state="later", text="")
    if not facts.source.uses_python or facts.missing_header is None:
        return None
    if not facts.missing_header:
        text = f"headers of Python {facts.python}"
        return Finding(check=NAME, state="ok", text=text)
    return Finding(
        check=NAME,
        state="error",
        text=f"the headers of Python {facts.python} are missing: there is no"
        f" {facts.missing_header}",
        hint=f"install python{facts.python}-dev or python3-devel, or let nox use a"
        " Python that includes them, such as one of uv",
    )
