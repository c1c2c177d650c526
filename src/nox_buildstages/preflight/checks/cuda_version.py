"""Is an nvcc found, with the CUDA version of torch?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import add_nvcc

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "CUDA of nvcc and torch"


def check(facts: Facts) -> Finding | None:
    """Compare the versions; torch refuses an nvcc of another major version."""
    torch, nvcc = facts.torch, facts.nvcc
    if torch is None or torch.cuda is None or facts.compiles_cuda is False:
        return None
    wanted = ".".join(map(str, torch.cuda))
    built = f"torch {torch.version} was built with CUDA {wanted}"
    if nvcc is None:
        if not facts.compiles_cuda or facts.may_have_nvcc:
            return None
        return Finding(
            check=NAME,
            state="error" if facts.wants_cuda and not facts.has_built else "warning",
            text=f"there is no nvcc, and {built}",
            hint=add_nvcc(facts, torch.cuda),
        )
    if nvcc.version is None:
        return None
    found = ".".join(map(str, nvcc.version))
    if nvcc.version == torch.cuda:
        text = f"nvcc {found} ({nvcc.place}), and {built}"
        return Finding(check=NAME, state="ok", text=text)
    is_same_major = nvcc.version[0] == torch.cuda[0]
    return Finding(
        check=NAME,
        state="error" if facts.wants_cuda and not is_same_major else "warning",
        text=f"nvcc is {found} ({nvcc.place}), and {built}",
        hint=add_nvcc(facts, torch.cuda),
    )
