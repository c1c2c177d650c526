"""All checks, in the order in which their findings are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.preflight.checks import (
    architectures,
    ccache,
    cuda_version,
    disk,
    headers,
    host_compiler,
    memory,
    ninja,
    prebuilt_wheel,
    sandbox,
    source_files,
    trial,
    writable,
)
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.preflight.facts import Facts
    from nox_buildstages.preflight.finding import Finding

OF_BUILD = (
    cuda_version.check,
    host_compiler.check,
    architectures.check,
    prebuilt_wheel.check,
    memory.check,
    disk.check,
    ninja.check,
    ccache.check,
    headers.check,
    source_files.check_lfs,
    source_files.check_submodules,
    trial.check,
)
"""The checks of an output."""

OF_MACHINE = (sandbox.check, writable.check)
"""The checks whose findings are the same for all outputs of a stage."""


def run_checks(facts: Facts) -> Iterator[Finding]:
    """Yield what the checks find; facts that nobody knows yet are checked later."""
    for check in OF_BUILD:
        if finding := check(facts):
            yield replace(finding, outputs=(facts.output,))
    for check in OF_MACHINE:
        if finding := check(facts):
            yield finding
