"""Check the GPU architectures in a wheel against those that its build was asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.commands.release.verify.verdict import Verdict
from nox_buildstages.preflight.recipe_facts import builds_cuda
from nox_buildstages.recipes.catalogue import recipe_for
from nox_buildstages.recipes.recipe import Architectures
from nox_buildstages.value import Value
from nox_buildstages.wheels.fat_binary import GpuCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.version import Version

    from nox_buildstages.commands.release.verify.verdict import State
    from nox_buildstages.preflight.facts import Torch
    from nox_buildstages.wheels.binary import Binary

CHECK = "GPU code"
_OF_TORCH = "TORCH_CUDA_ARCH_LIST"
_ARCHITECTURE = re.compile(r"(\d{1,3})\.?(\d)([af]?)(\+PTX)?")
"""An architecture as variables spell it: 9.0, 90, 9.0a, 12.0+PTX."""


class Claim(Value):
    """The GPU code that a build was asked for."""

    variable: str = ""  # the variable that names it; empty without one
    value: str = ""
    is_certain: bool = False  # whether the build compiles GPU code for sure

    def codes(self) -> list[GpuCode] | None:
        """Return the code that the value names; None if it can't be read."""
        found = []
        for word in re.split(r"[;,\s]+", self.value.strip(";, ")):
            match = _ARCHITECTURE.fullmatch(word)
            if match is None:
                return None
            architecture = int(match[1]), int(match[2]), match[3]
            found.append(GpuCode(*architecture))
            if match[4]:
                found.append(GpuCode(*architecture, is_ptx=True))
        return found


def find_claim(
    name: str, version: Version, *, torch: Torch | None, variables: Mapping[str, str]
) -> Claim:
    """Return what an output's build was asked for, as far as the catalogue knows."""
    recipe, fact = recipe_for(name), None
    if recipe is not None:
        fact = recipe.find(Architectures, version)
        if not builds_cuda(recipe, version, torch=torch, variables=variables):
            return Claim()
    variable = _OF_TORCH if fact is None else fact.variable or ""
    value = variables.get(variable, "")
    return Claim(
        variable=variable if value else "", value=value, is_certain=fact is not None
    )


def check_gpu_code(binaries: Sequence[Binary], claim: Claim) -> Iterator[Verdict]:
    """Yield the verdict about the GPU code of a wheel, unless there needn't be any.

    The wheel must have machine code of each architecture, and each file must run on all
    of them, unless it is for a single architecture or family, such as ``sm_90a``.
    """
    by_file = {it.name: it.gpu_code for it in binaries if it.gpu_code}
    found = frozenset(code for codes in by_file.values() for code in codes)
    asked = f"{claim.variable} is {claim.value}" if claim.variable else ""
    state: State = "ok"
    text = describe_code(found)
    wanted = claim.codes()
    missing = [it for it in wanted or () if not any(map(it.is_met_by, found))]
    if not found and not claim.is_certain:
        return
    if not found:
        state, text = "failed", "there is none, but the source has CUDA"
    elif not claim.variable:
        text += "; no variable of the table asks for architectures"
    elif wanted is None:
        state, text = "unknown", f"{text}; {asked}, which names no architectures"
    elif missing:
        state = "failed"
        text += f"; {describe_code(missing)} is missing: {asked}"
    else:
        text += f": {asked}"
        for name, codes in sorted(by_file.items()):
            idle = [it for it in wanted if not any(code.runs_on(it) for code in codes)]
            if idle and not all(code.suffix for code in codes):
                state = "failed"
                text = f"nothing in {name} runs on {describe_code(idle)}: it has"
                text += f" {describe_code(codes)}, and {asked}"
    yield Verdict(
        check=CHECK,
        state=state,
        text=text,
        facts={"gpu-code": {it: [*map(str, _sort(by_file[it]))] for it in by_file}},
    )


def describe_code(codes: Iterable[GpuCode]) -> str:
    """Return the names of code as NVIDIA spells them, such as ``sm_90``."""
    return ", ".join(map(str, _sort(codes)))


def _sort(codes: Iterable[GpuCode]) -> list[GpuCode]:
    return sorted(codes, key=lambda it: (it.is_ptx, it.major, it.minor, it.suffix))
