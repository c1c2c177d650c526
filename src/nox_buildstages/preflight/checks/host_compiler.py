"""Does nvcc accept the C++ compiler?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding
from nox_buildstages.preflight.hints import set_in_stage

if TYPE_CHECKING:
    from nox_buildstages.preflight.facts import Facts

NAME = "compiler of nvcc"
_ALLOWED = "-allow-unsupported-compiler"


def check(facts: Facts) -> Finding | None:
    """Compare the version of gcc with the newest that nvcc's headers accept."""
    nvcc, compiler = facts.nvcc, facts.compiler
    if nvcc is None or nvcc.newest_gcc is None or facts.compiles_cuda is False:
        return None
    if compiler is None or not compiler.is_gcc:
        return None
    flags = ("NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "CUDAFLAGS")
    if any(_ALLOWED in facts.variables.get(it, "") for it in flags):
        return None
    newest, found = nvcc.newest_gcc, int(compiler.version.partition(".")[0])
    named = f"{compiler.name} {compiler.version}"
    if found <= newest:
        text = f"{named}, and this nvcc accepts gcc up to {newest}"
        return Finding(check=NAME, state="ok", text=text)
    version = next(
        (it for it in range(newest, 4, -1) if f"g++-{it}" in compiler.older), None
    )
    wanted = version or newest
    cxx = {"CC": f"gcc-{wanted}", "CXX": f"g++-{wanted}", "NVCC_CCBIN": f"g++-{wanted}"}
    install = "" if version else f"install gcc-{wanted} and g++-{wanted}, and "
    return Finding(
        check=NAME,
        state="error" if facts.compiles_cuda else "warning",
        text=f"{named} is too new: this nvcc accepts gcc up to {newest}",
        hint=f"{install}build with an older gcc:\n{set_in_stage(facts, 'env', cxx)}",
    )
