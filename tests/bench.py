"""Measure what a run costs, each row as a ratio to a peer in the same run.

Run it with ``nox -s bench``; ``-- --quick`` takes less than two minutes,
``--rows noop,cold`` chooses rows, and ``--runs N`` sets how often each pair is run.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import locking, real, side_by_side, tiny
from benchmarks.measuring import HEAD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


WORKLOADS = (
    *tiny.WORKLOADS,
    *side_by_side.WORKLOADS,
    *locking.WORKLOADS,
    *real.WORKLOADS,
)
NAMES = [name for workload in WORKLOADS for name in workload.names]
QUICK = [name for workload in WORKLOADS for name in workload.quick]
SLOWER = 3
"""How many rounds of a full run make one of a quick run."""


def main() -> None:
    """Measure the rows that were asked for, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="cheap rows, fewer rounds")
    parser.add_argument("--rows", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--runs", type=int, help="of each pair, in place of the usual")
    words = parser.parse_args()
    usual = QUICK if words.quick else NAMES
    names = usual if words.rows is None else words.rows.split(",")
    unknown = set(names).difference(NAMES)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    for line in _report(names, words.runs, is_quick=words.quick):
        print(line, flush=True)  # noqa: T201 - it is what was asked for


def _report(
    names: Collection[str], runs: int | None, *, is_quick: bool
) -> Iterator[str]:
    """Yield the table, and then the rows that fall short of their goals."""
    workloads = [it for it in WORKLOADS if not set(names).isdisjoint(it.names)]
    minutes = sum(it.seconds for it in workloads if not it.missing) / 60
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield f"{machine}, Python {platform.python_version()}"
    if not is_quick:
        yield f"about {minutes:.0f} minutes on two quiet cores"
    yield ""
    yield from HEAD
    remarks = []
    for workload in workloads:
        if workload.missing:
            remarks.append(
                f"not measured: {', '.join(workload.names)}: {workload.missing}"
            )
            continue
        with tempfile.TemporaryDirectory() as folder:
            for group in workload.groups(Path(folder)):
                usual = max(1, group.runs // SLOWER) if is_quick else group.runs
                for result in group.only(names, runs or usual).results():
                    yield result.line()
                    if result.is_short:
                        remarks.append(f"short of its goal: {result.summary}")
    yield ""
    yield from remarks or ["all rows reach their goals"]


if __name__ == "__main__":
    main()
