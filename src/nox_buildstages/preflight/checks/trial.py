"""Do three lines compile and link, as the build would do it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.environments.cuda import FIRST_ON_PYPI
from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import (
    add_nvcc,
    cuda_toolkit,
    find_cuda_extra,
    find_cuda_package,
    find_missing,
    set_in_stage,
)

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "trial compile"


def check(facts: Facts) -> Finding | None:
    """Look at the result of the trial."""
    trial = facts.trial
    if trial is None:
        return Finding(check=NAME, state="later", text="") if not facts.source else None
    if not trial.error:
        text = f"{trial.language} compiles and links ({trial.compiler})"
        return Finding(check=NAME, state="ok", text=text)
    return Finding(
        check=NAME,
        state="error",
        text=f"three lines of {trial.language} don't {trial.step}: {trial.error}",
        hint=_hint(facts, trial.error),
    )


def _hint(facts: Facts, error: str) -> str:
    """Return what brings a missing part of CUDA, or where to look."""
    missing, torch = find_missing(error), facts.torch
    cuda = torch.cuda if torch else None
    cuda = cuda or (facts.nvcc.version if facts.nvcc else None)
    if missing and cuda:
        package, extra = find_cuda_package(missing, cuda), find_cuda_extra(missing)
        if extra and facts.has_own_cuda:
            package = package or cuda_toolkit([extra], cuda)
        if package:
            dependencies = set_in_stage(facts, "dependencies", [package])
            return f"add the package that has {missing} to the stage:\n{dependencies}"
        if extra and cuda[0] >= FIRST_ON_PYPI:
            headers = facts.trial.headers if facts.trial else ()
            return add_nvcc(facts, cuda, extra, *map(find_cuda_extra, headers))
        if extra:
            return (
                f"install {extra} of CUDA {cuda[0]}.{cuda[1]}, whose folder CUDA_HOME"
                " names"
            )
    return "fix the compiler or the variables of the stage; the log has its output"
