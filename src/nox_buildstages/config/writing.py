"""From stages to the text that declares them, and that text into a pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tomli_w

from nox_buildstages.config.spelling import as_declared
from nox_buildstages.config.table import TOOL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from packaging.utils import NormalizedName

    from nox_buildstages.model import Stage

_WIDTH = 88
_INDENT = "    "


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposed:
    """A stage that a project should declare.

    Attributes:
        stage: With its outputs and dependencies.
        comments: Why, in lines.
    """

    stage: Stage
    comments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """What a pyproject.toml should declare beyond what it does.

    Attributes:
        heading: What is to be known of it as a whole, in lines.
        match_runtime: Projects of one version everywhere; the table they go into is
            begun with them, so that there may be none where it is written already.
        stages: In order; not empty.
    """

    heading: tuple[str, ...]
    match_runtime: tuple[NormalizedName, ...] = ()
    stages: tuple[Proposed, ...]


def rendered(proposal: Proposal, *, root: Path) -> str:
    """Return a proposal as TOML, with comments.

    Args:
        proposal: What is declared.
        root: The project's folder, absolute; what lies in it is named relative to it.
    """
    blocks = [[*_commented(proposal.heading)]]
    if proposal.match_runtime:
        matched = _assigned("match-runtime", proposal.match_runtime)
        blocks.append([f"[tool.{TOOL}]", *matched])
    blocks += [[*_stage(proposed, root)] for proposed in proposal.stages]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def appended(text: str, addition: str) -> str:
    """Return a file with more at its end; what is there stays as it is.

    Args:
        text: Of the file; what is added ends its lines in the same way.
        addition: Its lines end with a line feed.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text.strip() else ""
    return text + gap + addition.replace("\n", newline)


def _stage(proposed: Proposed, root: Path) -> Iterator[str]:
    stage = proposed.stage
    yield from _commented(proposed.comments)
    yield f"[[tool.{TOOL}.stage]]"
    yield f"name = {_quoted(stage.name)}"
    if stage.dependencies:
        yield from _assigned("dependencies", map(str, stage.dependencies))
    outputs = (as_declared(output.requirement, root) for output in stage.outputs)
    yield from _assigned("outputs", outputs)


def _assigned(key: str, values: Iterable[str]) -> Iterator[str]:
    """Yield a list of strings, on one line where it fits."""
    quoted = [_quoted(value) for value in values]
    line = f"{key} = [{', '.join(quoted)}]"
    if len(line) <= _WIDTH:
        yield line
        return
    yield f"{key} = ["
    yield from (f"{_INDENT}{value}," for value in quoted)
    yield "]"


def _quoted(text: str) -> str:
    return tomli_w.dumps({"_": text}).removeprefix("_ = ").rstrip("\n")


def _commented(lines: Iterable[str]) -> Iterator[str]:
    """Yield comments; TOML allows no control characters in them."""
    for line in lines:
        printable = "".join(it if it.isprintable() else " " for it in line)
        yield f"# {printable}".rstrip()
