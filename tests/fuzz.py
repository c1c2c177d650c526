"""Read inputs that others can have touched for as long as you like: ``nox -s fuzz``.

``--minutes 15`` sets the time, and ``--kinds table,wheel`` chooses kinds. The last
lines are a table of the inputs, and the coverage of the readers.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import coverage
from hypothesis import HealthCheck, Phase, given, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

    from support.fuzz import Kind

READERS = (
    *("reader", "safe_text", "system/documents", "config/getters", "config/lines"),
    *("config/table", "config/values", "config/final", "config/matrix"),
    *("config/project", "config/placeholders", "declarations/documents"),
    *("declarations/foreign", "declarations/pdm", "declarations/pixi"),
    *("declarations/poetry", "declarations/requirements_txt", "declarations/uv_lock"),
    *("declarations/setuptools", "declarations/workspace", "lock/files/document"),
    *("lock/files/lockfile", "wheelhouse/manifest", "run/events", "store/memory"),
    *("wheels/wheel", "wheels/core_metadata", "sources/archives", "sources/metadata"),
)
"""The modules that read what others can have touched."""

_EACH = settings(
    max_examples=100,  # between two looks at the clock
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)

_MORE = {"table": 5, "wheel": 2}
"""Kinds with many branches have more inputs."""

_ROW = "{:<12} {:>8} {:>8} {:>10} {:>10}"


@dataclass
class Results:
    """What happened to the inputs, by kind."""

    expected: tuple[type[Exception], ...]  # of inputs that are refused
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    bugs: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """The traceback and the first input of each kind and line."""

    def read(self, kind: Kind, content: bytes) -> None:
        """Read an input, and note the time and what was raised."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                kind.read(content, Path(folder))
            except self.expected:
                self.refused[kind.name] += 1
            except Exception as error:  # noqa: BLE001 - what is searched for
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = (kind.name, f"{last.filename}:{last.lineno}")
                self.bugs.setdefault(place, (traceback.format_exc(), content))
        taken = time.perf_counter() - started
        self.counts[kind.name] += 1
        slowest = self.slowest.get(kind.name, (0.0, b""))
        self.slowest[kind.name] = max(slowest, (taken, content))

    def try_inputs(self, kind: Kind, strategy: SearchStrategy[bytes]) -> None:
        """Read some inputs of a kind."""

        @_EACH
        @given(strategy)
        def read(content: bytes) -> None:
            self.read(kind, content)

        read()

    def lines(self) -> Iterator[str]:
        """Yield the tracebacks, and the table."""
        for (_, place), (text, content) in self.bugs.items():
            yield f"{place}\n{text}\n{content[:2000]!r}\n"
        found = Counter(kind for kind, _ in self.bugs)
        yield _ROW.format("kind", "inputs", "refused", "tracebacks", "slowest")
        for name, count in self.counts.items():
            time = f"{self.slowest[name][0]:.3f} s"
            yield _ROW.format(name, count, self.refused[name], found[name], time)
        taken, content = max(self.slowest.values())
        totals = self.counts.total(), self.refused.total(), len(self.bugs)
        yield _ROW.format("all", *totals, f"{taken:.3f} s")
        yield f"the slowest input has {len(content)} bytes: {content[:300]!r}"


def main() -> int:
    """Fuzz, print the table, and return the number of tracebacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--kinds", default="")
    options = parser.parse_args()
    include = [f"*/nox_buildstages/{name}.py" for name in READERS]
    measured = coverage.Coverage(
        branch=True, include=include, data_file=None, config_file=False
    )
    measured.exclude("if TYPE_CHECKING:")
    measured.start()
    sys.path.insert(0, str(Path(__file__).parent))
    from support.fuzz import EXPECTED, inputs, make_kinds, swept  # noqa: PLC0415 - measured

    results = Results(EXPECTED)
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        wanted = options.kinds.split(",") if options.kinds else []
        kinds = [
            it for it in make_kinds(Path(folder)) if not wanted or it.name in wanted
        ]
        for kind in kinds:
            for seed in kind.seeds:
                results.read(kind, seed)
        swept_inputs = {it.name: swept(it, random.Random()) for it in kinds}  # noqa: S311 - no secret
        while time.monotonic() < end:
            for kind in kinds:
                for _ in range(_MORE.get(kind.name, 1)):
                    results.try_inputs(kind, inputs(kind))
                    for content in islice(swept_inputs[kind.name], _EACH.max_examples):
                        results.read(kind, content)
    measured.stop()
    print("\n".join(results.lines()))
    measured.report(show_missing=True, skip_covered=True)
    with tempfile.NamedTemporaryFile() as file:
        measured.json_report(outfile=file.name)
        totals = json.load(file)["totals"]
    covered = 100 * totals["covered_branches"] / totals["num_branches"]
    print(f"{covered:.1f} % of the branches of the readers")
    return len(results.bugs)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
