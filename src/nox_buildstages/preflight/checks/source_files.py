"""Is the source complete: has it git-lfs pointers, or empty submodules?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.preflight.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nox_buildstages.preflight.facts import Facts
    from nox_buildstages.preflight.finding import State

LFS, SUBMODULES = "git-lfs", "submodules"
_NOT_BUILT = re.compile(
    r"(^|/)\.?(tests?|testing|docs?|examples?|benchmarks?|assets|samples?|media|github)"
    r"(/|$)|googletest|gtest|\.(png|jpe?g|gif|svg|mp4|ipynb|pdf|webp)$",
    re.IGNORECASE,
)
"""Paths that builds rarely need."""


def check_lfs(facts: Facts) -> Finding | None:
    """Look for pointers that git-lfs replaces by files."""
    if facts.source is None:
        return Finding(check=LFS, state="later", text="")
    pointers = facts.source.pointers
    if not pointers:
        return None
    first, count = _sort_by_need(pointers)[0], len(pointers)
    others = f" and {count - 1} more are" if count > 1 else " is"
    return Finding(
        check=LFS,
        state=_state(facts, pointers),
        text=f"{first}{others} in git-lfs, and the source has only a pointer",
        hint="install git-lfs (`git lfs install`) and fetch the files; for a folder,"
        " run `git lfs pull` in it",
    )


def check_submodules(facts: Facts) -> Finding | None:
    """Look for submodules without files."""
    if facts.source is None:
        return Finding(check=SUBMODULES, state="later", text="")
    empty = facts.source.empty_submodules
    if not empty:
        return None
    needed = [it for it in empty if it in facts.known.submodules]
    return Finding(
        check=SUBMODULES,
        state="error" if needed else _state(facts, empty),
        text=f"the submodule {', '.join(_sort_by_need(needed or empty))} is empty",
        hint="fetch it, `git submodule update --init --recursive`, or build from a git"
        " commit: NAME @ git+https://…",
    )


def _state(facts: Facts, paths: Sequence[str]) -> State:
    has_worked = facts.has_built or (facts.source is not None and facts.source.is_sdist)
    is_needed = not has_worked and not all(map(_NOT_BUILT.search, paths))
    return "error" if is_needed else "warning"


def _sort_by_need(paths: Sequence[str]) -> list[str]:
    return sorted(paths, key=lambda it: bool(_NOT_BUILT.search(it)))
