"""The report as one HTML file, which loads nothing from elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from nox_buildstages.report.data import (
    COMPILE,
    DONE,
    ENVIRONMENT,
    KEPT,
    KILLED,
    LOCK,
    MISSING,
    RUNNING,
    WAIT,
    WITH_WHEEL,
    find_critical_path,
)
from nox_buildstages.report.lanes import arrange_lanes
from nox_buildstages.report.markup import element, join, link
from nox_buildstages.report.style import STYLE
from nox_buildstages.run.events import BUILT, CACHED, FAILED, STOPPED
from nox_buildstages.safe_text import Markup
from nox_buildstages.text import format_size, format_time
from nox_buildstages.wheelhouse.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nox_buildstages.report.data import (
        Column,
        OutputReport,
        Report,
    )
    from nox_buildstages.report.lanes import Bar

_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400)
"""Seconds between two marks of the time axis."""

_BAD = (FAILED, STOPPED, KILLED)
"""The states that are drawn in a colour of their own."""

_MOST_MARKS = 6
_MOST_FILES = 12
_SYMBOLS = {BUILT: "●", CACHED: "✓", KEPT: "✓", FAILED: "✗", STOPPED: "■", KILLED: "■"}
_LEGEND = {
    COMPILE: "compile",
    "check": "checks",
    ENVIRONMENT: "environment",
    WAIT: "waiting",
    LOCK: "locks",
}


def render_page(report: Report) -> str:
    """Return the page of a report."""
    sections = (
        _header(report),
        _tiles(report),
        *_failures(report),
        *_timeline(report),
        *_outputs(report),
        *_slowest(report),
        *_runtime(report),
        *_records(report),
        _footer(report),
    )
    head = join(
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width,initial-scale=1">'),
        Markup('<link rel="icon" href="data:,">'),
        element("title", f"{report.title}: {_outcome(report)}"),
        Markup(f"<style>{STYLE}</style>"),
    )
    body = element("body", element("main", *sections))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


# The top -----------------------------------------------------------------------------


def _outcome(report: Report) -> str:
    """Return in words how a run ended."""
    if report.state == FAILED:
        names = [it.name for it in report.outputs if it.state == FAILED]
        return f"✗ failed: {', '.join(names)}" if names else "✗ failed"
    if report.state in (STOPPED, KILLED):
        return f"■ {report.state}"
    if report.state == RUNNING:
        return "… running"
    words = []
    if any(it.state == BUILT for it in report.outputs):
        words.append("built")
    finals = [it.final for it in report.columns if it.final]
    if finals:
        words.append("installed")
    if any(it.checks or it.has_skipped_imports for it in finals):
        words.append("checked")
    return f"✓ {', '.join(words) or 'done'}"


def _header(report: Report) -> Markup:
    css = {DONE: "ok", RUNNING: "mut"}.get(report.state, report.state)
    about = report.about
    facts: list[str] = [
        _moment(report.started),
        f"Python {', '.join(about['pythons'])}" if about.get("pythons") else "",
        about.get("platform", ""),
    ]
    if about.get("command"):
        facts.append(element("code", about["command"]))
    facts.append(f"run {report.run[:16]}")
    return join(
        element("h1", report.title, " ", element("span", _outcome(report), class_=css)),
        element("div", *_join_pieces(it for it in facts if it), class_="mut"),
    )


def _tiles(report: Report) -> Markup:
    outputs = report.outputs
    count = {
        it: sum(o.state == it for o in outputs) for it in {o.state for o in outputs}
    }
    tiles = [(_time(report.ended - report.started), "wall clock")]
    if outputs:
        others = [
            f"{count[state]} {state}"
            for state in (CACHED, KEPT, FAILED, STOPPED, KILLED, RUNNING, MISSING)
            if state in count
        ]
        built = f"{count.get(BUILT, 0)} of {len(outputs)}"
        tiles.append((built, ", ".join(("built", *others))))
    saved = sum(it.seconds or 0 for it in outputs if it.state == CACHED)
    if saved:
        tiles.append((_time(saved), "saved by the store"))
    sizes = [it.size for it in outputs if it.state in WITH_WHEEL and it.size]
    if sizes:
        wheels = "1 wheel" if len(sizes) == 1 else f"{len(sizes)} wheels"
        tiles.append((format_size(sum(sizes)), wheels))
    cores, memory = report.about.get("cores"), report.about.get("memory")
    peaks = [it.memory.get("build", 0) for it in outputs if it.state != CACHED]
    if cores:
        machine = f"{cores} core{'' if cores == 1 else 's'}"
        available = f" · {memory / 1e9:.0f} GB" if memory else ""
        peak = max(peaks, default=0)
        used = f"largest build {format_size(peak)}" if peak else "of this machine"
        tiles.append((f"{machine}{available}", used))
    caches = [it.cache for it in outputs if it.cache]
    if caches:
        hits, total = (sum(numbers) for numbers in zip(*caches, strict=True))
        tiles.append((f"{hits} of {total}", "compilations cached"))
    shown = (
        element(
            "div",
            element("b", value),
            element("span", text, class_="mut"),
            class_="card",
        )
        for value, text in tiles
    )
    return element("div", *shown, class_="tiles")


def _failures(report: Report) -> Iterator[Markup]:
    cards = [
        (join(_name(it), f" · stage {it.stage}"), it.problem, it.log)
        for it in report.outputs
        if it.problem
    ]
    cards += [
        (element("b", f"runtime {it.label}".strip()), it.final.problem, "")
        for it in report.columns
        if it.final and it.final.problem
    ]
    if report.problem and not cards:
        cards.append((element("b", report.title), report.problem, ""))
    for title, lines, log in cards:
        more = (" · ", link("log", log)) if log else ()
        yield element(
            "div",
            element("div", title, *more),
            element("pre", *(it for line in lines for it in (line, Markup("\n")))),
            class_="card error",
        )


# The timeline ------------------------------------------------------------------------


def _timeline(report: Report) -> Iterator[Markup]:
    lanes = arrange_lanes(report)
    total = report.ended - report.started
    if not lanes or total <= 0:
        return
    bars = [bar for lane in lanes for row in lane.rows for bar in row]
    states = {it.state for it in bars}
    kinds = {it.kind for it in bars if it.state not in _BAD}
    longest = max(len(lane.label) for lane in lanes)
    label_width = min(220, 8 * longest + 24)
    yield element("h2", "Timeline")
    steps = (it for it in _TICKS if total / it <= _MOST_MARKS)
    step = min(next(steps, _TICKS[-1]), total)
    marks = [step * number for number in range(1 + int(total * 0.94 / step))]
    grid = element(
        "div",
        *(element("i", style=f"left:{at / total:.3%}") for at in marks),
        class_="grid",
    )
    rows = []
    for lane in lanes:
        lines = [
            element("div", *(_bar(it, report) for it in row), class_="row")
            for row in lane.rows
        ]
        if lane.note:
            note = element("span", lane.note, class_="beside")
            lines.append(element("div", note, class_="row"))
        label = element("span", lane.label, title=lane.label)
        below = element("div", *lines, class_="rows")
        rows.append(element("div", label, below, class_="lane"))
    axis = element(
        "div",
        *(
            element("span", _time(at) if at else "0", style=f"left:{at / total:.3%}")
            for at in marks
        ),
        class_="axis",
    )
    legend = [(kind, text) for kind, text in _LEGEND.items() if kind in kinds]
    legend += [(it, it) for it in _BAD if it in states]
    keys = (
        element("span", element("i", class_=f"bar {css}"), text) for css, text in legend
    )
    yield element(
        "div",
        element("div", grid, *rows, class_="lanes"),
        axis,
        element("div", *keys, class_="legend"),
        class_="card",
        style=f"--label:{label_width}px",
    )
    if report.state != DONE:
        return
    path, seconds = find_critical_path(report)
    if path:
        yield element(
            "p",
            "Critical path: ",
            element("b", " → ".join(path)),
            f", {_time(seconds)} of {_time(total)}. ",
            element(
                "span",
                "Building more stages at once can't make the run shorter than this.",
                class_="mut",
            ),
            class_="path small",
        )


def _bar(bar: Bar, report: Report) -> Markup:
    total = report.ended - report.started
    left = (bar.started - report.started) / total
    width = (bar.ended - bar.started) / total
    css = [f"bar {bar.kind}"]
    if bar.state in _BAD:
        css.append(bar.state)
    is_thin = width < 0.04  # noqa: PLR2004 - no letter would fit
    label = " · ".join(
        filter(None, (bar.text, _time(bar.ended - bar.started), bar.more))
    )
    return element(
        "div",
        "" if is_thin else label,
        class_=" ".join((*css, "thin") if is_thin else css),
        style=f"left:{left:.3%};width:{width:.3%}",
        title=label,
    )


# The outputs -------------------------------------------------------------------------


def _outputs(report: Report) -> Iterator[Markup]:
    columns = [it for it in report.columns if it.outputs]
    if not columns:
        return
    yield element("h2", "Outputs")
    if len(columns) == 1:
        yield _output_table(columns[0].outputs)
        return
    yield _matrix(columns)
    for number, column in enumerate(columns):
        outputs = [it for it in column.outputs if it.state != KEPT]
        if outputs:
            has_problem = any(it.problem for it in outputs)
            yield element(
                "details",
                element("summary", column.label),
                element("div", _output_table(column.outputs), id=f"column-{number}"),
                open=has_problem,
            )


def _matrix(columns: list[Column]) -> Markup:
    """Return a table with rows of outputs and columns of cells."""
    names = dict.fromkeys(it.name for column in columns for it in column.outputs)
    rows = []
    for name in names:
        cells = [element("td", element("b", name))]
        for column in columns:
            found = next((it for it in column.outputs if it.name == name), None)
            if found is None:
                cells.append(element("td", "-", class_="mut"))
                continue
            time = "" if found.seconds is None else _time(found.seconds)
            cells.append(
                element(
                    "td",
                    _chip(found),
                    element("div", found.version, class_="mut small"),
                    element("div", time, class_="small"),
                )
            )
        rows.append(element("tr", *cells))
    if any(it.final for it in columns):
        cells = [element("td", element("b", "runtime"))]
        for final in (it.final for it in columns):
            chip: str = "-"
            if final is not None:
                is_fine = final.state not in _BAD
                text = "✓ installed" if is_fine else final.state
                css = CACHED if is_fine else final.state
                chip = element("span", text, class_=f"chip {css}")
            cells.append(element("td", chip))
        rows.append(element("tr", *cells))
    heads = (
        element("th", link(it.label, f"#column-{number}"))
        for number, it in enumerate(columns)
    )
    head = element("thead", element("tr", element("th", "output"), *heads))
    return element(
        "div", element("table", head, element("tbody", *rows)), class_="wide"
    )


def _output_table(outputs: Iterable[OutputReport]) -> Markup:
    names = ("output", "stage", "state", "why", "time", "size", "jobs", "")
    rows = []
    for it in outputs:
        links = [link("log", it.log)] if it.log else []
        links += [link("record", f"#{_record_id(it)}")] if it.entry else []
        cells = (
            element("td", _name(it), class_="name"),
            _cell("stage", it.stage),
            _cell("state", _chip(it)),
            _cell("why", *_why(it)),
            _cell("time", *_duration(it), class_="num"),
            _cell("size", *_size(it), class_="num"),
            _cell("jobs", *_jobs(it)),
            element("td", *_join_pieces(links), class_="num"),
        )
        rows.append(element("tr", *cells))
    head = element("thead", element("tr", *(element("th", it) for it in names)))
    return element("table", head, element("tbody", *rows), class_="stack")


def _cell(label: str, *content: str, class_: str = "") -> Markup:
    shown = element("div", *content) if any(content) else ""
    return element("td", shown, data_label=label if shown else "", class_=class_)


def _name(output: OutputReport) -> Markup:
    return join(
        element("b", output.name), " ", element("span", output.version, class_="mono")
    )


def _chip(output: OutputReport) -> Markup:
    symbol = _SYMBOLS.get(output.state, "")
    text = f"{symbol} {output.state}".strip()
    return element("span", text, class_=f"chip {output.state.replace(' ', '-')}")


def _why(output: OutputReport) -> Iterator[Markup]:
    if output.state == KEPT:
        yield element("span", "built earlier, not part of this run", class_="mut")
    elif output.state == CACHED:
        yield element("span", "the store has a wheel with this key", class_="mut")
    elif output.reasons:
        lines = [element("div", it) for it in output.reasons]
        compared = output.compared
        if compared:
            built = compared.get("built")
            when = f", built {_moment(built)}" if built else ""
            text = f"compared with {compared['key'][:8]}{when}"
            lines.append(element("div", text, class_="mut"))
        yield element("div", *lines, class_="why")
    if output.is_resumed:
        yield element("div", "resumed an interrupted build", class_="mut small")


def _duration(output: OutputReport) -> Iterator[str]:
    if output.seconds is None:
        return
    if output.state in (CACHED, KEPT):
        saves = "saves " if output.state == CACHED else ""
        yield element("span", f"{saves}{_time(output.seconds)}", class_="mut")
        return
    yield _time(output.seconds)
    before = output.compared.get("seconds")
    if before and output.state == BUILT:
        yield element("div", f"before: {_time(before)}", class_="mut small")


def _size(output: OutputReport) -> Iterator[str]:
    if output.size is None:
        return
    yield format_size(output.size)
    before = output.compared.get("size")
    if before and output.state == BUILT:
        change = f"{(output.size / before - 1) * 100:+.0f} %"
        yield element(
            "div", change if change[1:] != "0 %" else "same", class_="mut small"
        )


def _jobs(output: OutputReport) -> Iterator[str]:
    if output.state in (CACHED, KEPT):
        return
    if output.jobs:
        yield f"{output.jobs} job{'' if output.jobs == 1 else 's'}"
    if output.memory.get("build"):
        yield element("div", format_size(output.memory["build"]), class_="mut small")
    if output.cache:
        hits, total = output.cache
        yield element("div", f"{hits} of {total} cached", class_="mut small")


# Below -------------------------------------------------------------------------------


def _slowest(report: Report) -> Iterator[Markup]:
    """Yield where the hours went: the files that took longest to compile."""
    files = [
        (it.get("seconds", 0), output, it)
        for output in report.outputs
        if output.state in (BUILT, FAILED)
        for it in output.slowest
    ]
    files.sort(key=lambda it: -it[0])
    if not files:
        return
    yield element("h2", "Where the hours went")
    longest = files[0][0] or 1
    rows = []
    for seconds, output, it in files[:_MOST_FILES]:
        architectures = it.get("architectures") or ()
        memory = it.get("memory")
        rows.append(
            element(
                "tr",
                element(
                    "td",
                    element("code", str(it.get("file", ""))),
                    element(
                        "i", class_="meter", style=f"width:{seconds / longest:.1%}"
                    ),
                ),
                _cell("output", output.name),
                _cell("time", _time(seconds), class_="num"),
                _cell("memory", format_size(memory) if memory else "", class_="num"),
                _cell("for", ", ".join(map(str, architectures))),
            )
        )
    names = ("file", "output", "time", "memory", "architectures")
    head = element("thead", element("tr", *(element("th", it) for it in names)))
    yield element("table", head, element("tbody", *rows), class_="stack files")
    if len(files) > _MOST_FILES:
        yield element(
            "p",
            f"and {len(files) - _MOST_FILES} more in build-stages.json",
            class_="mut small",
        )


def _runtime(report: Report) -> Iterator[Markup]:
    finals = [(it.label, it.final) for it in report.columns if it.final]
    if finals:
        yield element("h2", "Runtime")
    for label, final in finals:
        if len(finals) > 1:
            yield element("h3", label)
        for name, places in final.versions.items():
            distinct = {*places.values()}
            where = ", ".join(places)
            if len(distinct) == 1:
                mark = element("span", "✓ one version", class_="ok")
                yield element("div", mark, f" {name} {distinct.pop()} in {where}")
            else:
                each = ", ".join(f"{version} in {it}" for it, version in places.items())
                mark = element("span", "✗ several versions", class_="failed")
                yield element("div", mark, f" {name} {each}")
        for it in final.checks:
            text = f"import {', '.join(final.imports)}"
            if it.step == "check":
                command = it.facts.get("command", "")
                text = command if isinstance(command, str) else " ".join(command)
            is_fine = it.state not in _BAD
            mark = element(
                "span",
                "✓" if is_fine else f"✗ {it.state}",
                class_="ok" if is_fine else it.state,
            )
            time = element("span", _time(it.seconds), class_="mut")
            yield element("div", mark, " ", element("code", text), " ", time)
        if final.has_skipped_imports and not any(
            it.step == "import" for it in final.checks
        ):
            yield element(
                "div",
                element("span", "✓", class_="ok"),
                " imports worked earlier, and nothing has changed since",
            )
        if final.packages:
            count = len(final.packages)
            names = ", ".join(
                f"{name} {it}" for name, it in sorted(final.packages.items())
            )
            yield element(
                "details",
                element(
                    "summary", f"{count} package{'' if count == 1 else 's'} installed"
                ),
                element("div", names, class_="small"),
            )


def _records(report: Report) -> Iterator[Markup]:
    outputs = [it for it in report.outputs if it.entry]
    if not outputs:
        return
    yield element("h2", "Records")
    for it in outputs:
        entry = it.entry
        environment = entry.get("environment", {})
        facts = {
            "wheel": entry.get("file", ""),
            "key": entry.get("key", ""),
            "sha256": entry.get("sha256", ""),
            "source": entry.get("source", ""),
            "environment": ", ".join(
                f"{name} {environment[name]}" for name in environment
            ),
        }
        pairs = (
            join(element("dt", name), element("dd", str(fact)))
            for name, fact in facts.items()
            if fact
        )
        yield element(
            "details",
            element("summary", f"{it.name} {it.version} · {it.stage}"),
            element("dl", *pairs, id=_record_id(it)),
        )


def _record_id(output: OutputReport) -> str:
    return f"record-{str(output.entry.get('key', ''))[:16]}"


def _footer(report: Report) -> Markup:
    until = ""
    if report.state == RUNNING:
        until = f"written before the run ended, at {_moment(report.ended)} · "
    own = report.about.get("versions", {}).get("nox-buildstages", "")
    return element(
        "footer",
        f"{until}nox-buildstages {own} · data in ",
        *_join_pieces(
            link(path, path)
            for path in (f"{it.folder}/{MANIFEST}".lstrip("/") for it in report.columns)
        ),
        " · trace for Perfetto in ",
        link("timeline.json", "timeline.json"),
        class_="mut small",
    )


# Words -------------------------------------------------------------------------------


def _time(seconds: float) -> str:
    if seconds < 10:  # noqa: PLR2004 - tenths say something
        return f"{seconds:.1f} s"
    return format_time(round(seconds))


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds).astimezone()
    return f"{moment:%d %b %Y, %H:%M}".lstrip("0")


def _join_pieces(pieces: Iterable[str]) -> Iterator[str]:
    for number, piece in enumerate(pieces):
        yield from (" · ", piece) if number else (piece,)
