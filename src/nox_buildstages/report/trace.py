"""The steps of a run as a Chrome trace, which Perfetto shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nox_buildstages.report.lanes import arrange_lanes

if TYPE_CHECKING:
    from nox_buildstages.report.data import Report


def render_trace(report: Report) -> str:
    """Return the file of a trace: a process for each stage, a thread for each row."""
    events: list[dict[str, Any]] = []
    for process, lane in enumerate(arrange_lanes(report), start=1):
        events.append(
            {
                "name": "process_name",
                "ph": "M",
                "pid": process,
                "tid": 0,
                "args": {"name": lane.label},
            }
        )
        for thread, row in enumerate(lane.rows, start=1):
            events += (
                {
                    "name": bar.text,
                    "cat": bar.kind,
                    "ph": "X",
                    "ts": round((bar.started - report.started) * 1e6),
                    "dur": round((bar.ended - bar.started) * 1e6),
                    "pid": process,
                    "tid": thread,
                    "args": {"state": bar.state},
                }
                for bar in row
            )
    document = {
        "displayTimeUnit": "ms",
        "otherData": {"run": report.run, "state": report.state},
        "traceEvents": events,
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
