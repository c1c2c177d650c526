"""Are the GPU architectures named, if no GPU can be asked?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import set_in_stage

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "GPU architectures"
_OF_TORCH = "TORCH_CUDA_ARCH_LIST"


def check(facts: Facts) -> Finding | None:
    """Look for the variable that names the architectures."""
    known = facts.known.architectures
    variable = _OF_TORCH if known is None else known
    if not facts.compiles_cuda or not variable:
        return None
    if facts.variables.get(variable):
        text = f"{variable} is {facts.variables[variable]}"
        return Finding(check=NAME, state="ok", text=text)
    if facts.has_gpu:
        return None
    example = facts.known.architectures_example or "9.0"
    hint = "name the architectures of the GPUs to build for, such as:\n"
    hint += set_in_stage(facts, "env", {variable: example})
    default, source = facts.known.default_architectures, facts.source
    if default:
        text = f"{variable} isn't set: it compiles for {default}"
        return Finding(check=NAME, state="warning", text=text, hint=hint)
    if known is None and source is None:
        return Finding(check=NAME, state="later", text="")
    is_of_other_tool = known is None and source and not source.extends_torch
    has_own = source is not None and source.names_architectures
    finding = Finding(
        check=NAME,
        state="warning" if has_own else "error",
        text=f"{variable} isn't set, and there is no GPU to take it from",
        hint=hint,
    )
    return None if is_of_other_tool else finding
