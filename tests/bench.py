"""Measure what a run costs, each row as a ratio to a peer in the same run.

Run it with ``nox -s bench``; ``-- --rows noop,cold`` chooses rows, and ``--runs N``
sets how often each pair is run.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import real, tiny
from benchmarks.measuring import HEAD
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from benchmarks.measuring import Scene

SCENES = (*tiny.SCENES, *real.SCENES)
NAMES = [name for scene in SCENES for name in scene.names]


def main() -> None:
    """Measure the rows that were asked for, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", default=",".join(NAMES), help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--runs", type=int, help="of each pair, in place of the usual")
    words = parser.parse_args()
    names = words.rows.split(",")
    unknown = set(names).difference(NAMES)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    for line in _table(names, words.runs):
        print(line, flush=True)  # noqa: T201 - it is what was asked for


def _table(names: Collection[str], runs: int | None) -> Iterator[str]:
    scenes = [scene for scene in SCENES if not set(names).isdisjoint(scene.names)]
    minutes = sum(scene.seconds for scene in scenes) / 60
    yield f"{_machine()}; about {minutes:.1f} minutes on two quiet cores"
    yield ""
    yield from HEAD
    for scene in scenes:
        yield from _lines(scene, names, runs)


def _lines(scene: Scene, names: Collection[str], runs: int | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        for heat in scene.heats(Path(scratch)):
            asked = heat.only(names)
            yield from replace(asked, runs=runs or asked.runs).lines()


def _machine() -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{machine}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
