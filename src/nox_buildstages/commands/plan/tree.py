"""A plan as a tree for people: what is installed, the stages, and the outputs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from nox_buildstages.commands.plan.estimate import describe_total
from nox_buildstages.safe_text import Shown, show
from nox_buildstages.text import format_time, paint
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nox_buildstages.commands.plan.reasons import Branch, Plan, PlannedOutput

_NARROW = 28
"""The columns that reasons need beside an output; with fewer they stand below it."""

_LEAD = "├─ "


class Style(Value):
    """How a terminal shows a plan."""

    width: int | None = None  # columns; None if lines may have any length
    colour: bool = False

    def paint(self, text: str, style: str) -> Shown:
        """Return a text in a style, if the terminal has colours."""
        return paint(text, style, colour=self.colour and bool(text))

    def wrap(self, text: str, indent: int) -> list[str]:
        """Return the lines of a text that begins in a column; later lines are indented.

        A word too long for a line is broken.
        """
        if self.width is None:
            return [text]
        room = max(self.width - indent, 8)
        return textwrap.wrap(
            text, room, subsequent_indent="  ", break_on_hyphens=False
        ) or [""]


def render_plan(plan: Plan, style: Style, *, cores: int) -> Iterator[Shown]:
    """Yield the lines of a plan, without the findings of preflight."""
    if plan.locks != "current":
        for number, text in enumerate(describe_locks(plan)):
            for line in style.wrap(text, 0):
                yield show(line) if number else style.paint(line, "yellow")
        yield show()
    stages = {branch.stage for tree in plan.trees for branch in tree.branches}
    stage_width = max(map(len, stages), default=0)
    name_width = max((len(_spell(it)) for it in plan.outputs), default=0)
    for tree in plan.trees:
        heading = style.paint("final", "bold")
        if tree.title:
            heading = show(heading, " ", tree.title)
        first, *rest = style.wrap(f"  {tree.installs}", len(tree.title) + 6)
        yield show(heading, first)
        yield from map(show, rest)
        for branch in tree.branches:
            is_last = branch is tree.branches[-1]
            yield from _render_branch(
                branch, style, (stage_width, name_width), is_last=is_last
            )
        yield show()
    total = describe_total(plan, cores=cores)
    yield from map(show, style.wrap(total, 0))


def describe_locks(plan: Plan) -> tuple[str, ...]:
    """Return the problem with the lock files, and the fix."""
    fix = "nox -s build-stages-lock"
    if plan.locks == "missing":
        problem = plan.lock_changes or "there are none yet"
        return (f"locks: {problem}; to make them: {fix}",)
    return (
        f"locks: out of date, {plan.lock_changes}",
        f"planned with these lock files; locking may change more: {fix}",
    )


def _spell(output: PlannedOutput) -> str:
    return f"{output.name} {output.version}".rstrip()


def _render_branch(
    branch: Branch, style: Style, widths: tuple[int, int], *, is_last: bool
) -> Iterator[Shown]:
    """Yield the lines of a stage: the outputs, then the needed stages."""
    first, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
    stage_width, name_width = widths
    name = style.paint(branch.stage.ljust(stage_width), "bold")
    if branch.is_above:
        yield show(first, name, "  as above")
        return
    blank = " " * stage_width
    rows = [row for it in branch.outputs for row in _output_rows(it, style, widths)]
    needs = f"└─ needs {', '.join(branch.needs)}" if branch.needs else ""
    room = stage_width + 2 + name_width
    lead = first
    for number, (output, rest) in enumerate(rows):
        left = show(blank if number else name, "  ", (output or "").ljust(name_width))
        if output is None:  # no room beside
            left = show("  ")
        elif needs and not output and number == len(rows) - 1 and len(needs) <= room:
            left, needs = style.paint(needs.ljust(room), "dim"), ""
        yield show(lead, left, "  ", rest)
        lead = below
    for line in style.wrap(needs, len(below)) if needs else ():
        yield show(below, style.paint(line, "dim"))


def _output_rows(
    output: PlannedOutput, style: Style, widths: tuple[int, int]
) -> Iterator[tuple[str | None, Shown]]:
    """Yield the name and the state of an output, then reasons without a name.

    The name is None if the terminal is too narrow for reasons beside the output.
    """
    if output.state == "cached":
        place = f" ({output.place})" if output.place else ""
        yield _spell(output), style.paint(f"✓ cached{place}", "green")
        return
    column = len(_LEAD) + sum(widths) + 4
    state = "● build"
    is_beside = style.width is None or style.width - column - len(state) >= _NARROW
    column = column + len(state) + 3 if is_beside else len(_LEAD) + 4
    lines = [line for it in output.reasons for line in style.wrap(it, column)]
    if output.seconds is not None and output.seconds >= 1:
        time = f"last time: {format_time(output.seconds)}"
        lines.append(style.paint(time, "dim"))
    painted = style.paint(state, "cyan")
    if not is_beside:
        yield _spell(output), painted
        yield from ((None, show(line)) for line in lines)
        return
    for number, line in enumerate(lines):
        lead = show(" " * len(state)) if number else painted
        yield ("" if number else _spell(output)), show(lead, "   ", line)


def describe_installs(pins: Iterable[tuple[str, str, bool]]) -> str:
    """Return the contents of a runtime environment in words.

    Each pin is a name, a version, and whether a stage builds the wheel.
    """
    found = [*pins]
    packages = [
        f"{name} {version}" for name, version, is_built in found if not is_built
    ]
    count = len(found) - len(packages)
    wheels = f"{count} {'wheel' if count == 1 else 'wheels'} of stages"
    if not packages:
        return wheels
    if len(packages) <= 2:  # noqa: PLR2004
        return f"{wheels}, {', '.join(packages)}"
    return f"{wheels}, {len(packages)} packages from indexes"
