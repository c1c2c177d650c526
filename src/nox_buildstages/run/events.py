"""The events of a run of nox, which every reader draws from: screen, table, report.

A step is something that takes time. It has the state ``begun``, then ``ended``,
``failed`` or ``stopped``; a step without an end still runs, or the process was killed.

=============== ======================================== ===============================
step            what it is                               its facts
=============== ======================================== ===============================
``run``         one command of nox                       ``sessions``, ``command``,
                                                         ``host``
``session``     one session of ours
``lock``        making the lock files                    ``reason``
``ask``         asking a build backend for a lock        ``log``
``stage``       providing the outputs of a stage
``fetch``       fetching the source of an output
``environment`` making an environment equal to a lock    ``packages``
``wait``        waiting for others                       ``reason``
``preflight``   checking a long build before             ``checks``, ``warnings``
``compile``     running ``build_wheel`` once             ``jobs``, ``resumed``, ``log``
``output``      building a wheel, or finding it          ``key``, ``source``,
                                                         ``sha256``, ``size``,
                                                         ``seconds``, ``memory``,
                                                         ``jobs``, ``hits``,
                                                         ``reasons``, ``compared``
``install``     installing the runtime environment       ``packages``, ``installed``,
                                                         ``versions``
``import``      importing the modules of the table       ``modules``, ``skipped``
``check``       running one check of the table           ``command``
``summary``     printing the table of a cell
``debug-log``   opening the debug log                    ``path``
=============== ======================================== ===============================

An output has the state ``cached``, or ``begun`` and then ``built``, ``failed`` or
``stopped``. A failed step has the facts ``problem``, the summary of the error, and
``message``, the lines for the user.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, cast

from nox_buildstages import reader
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping

Step = Literal[
    "run",
    "session",
    "debug-log",
    "stage",
    "lock",
    "ask",
    "fetch",
    "environment",
    "wait",
    "preflight",
    "compile",
    "install",
    "import",
    "check",
    "output",
    "summary",
]

BEGUN, ENDED, FAILED, STOPPED = "begun", "ended", "failed", "stopped"
"""The states of every step."""

PLANNED, BUILT, CACHED = "planned", "built", "cached"
"""More states of an output."""

ASKED = "--rebuild asks for it"
"""The reason to build an output whose wheel the store has."""

RUNNING = "running"
"""The state of an event that is shown and not kept."""


_WORK = frozenset(
    ("lock", "ask", "fetch", "environment", "preflight", "compile", "check")
)
"""The steps that a run with nothing to do hasn't."""


class Event(Value):
    """Something that happened in a run of nox."""

    step: Step
    state: str
    time: float = 0.0  # seconds since the epoch
    process: int = 0
    session: str = ""  # with its Python, as nox names it
    python: str = ""  # the minor version
    cell: str = ""  # of the session, such as ``cuda-arch=9.0``
    stage: str = ""  # with the values of its axes; ``final`` for the runtime
    output: str = ""
    version: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def subject(self) -> tuple[object, ...]:
        """The fields with equal values in all events of a step."""
        place = (self.session, self.python, self.cell, self.stage, self.output)
        return (self.process, self.step, *place)

    @property
    def is_work(self) -> bool:
        """Whether something was done, as against found done."""
        if self.step in _WORK or (self.step == "output" and self.state == BEGUN):
            return True
        if self.step == "import":
            return not self.facts.get("skipped")
        return self.step in {"stage", "install"} and self.state in (FAILED, STOPPED)

    def to_line(self) -> str:
        """Return the event as a line of JSON; empty fields are left out."""
        fields = {name: it for name, it in self.__dict__.items() if it}
        return f"{json.dumps(fields, ensure_ascii=False, default=str)}\n"

    @classmethod
    def from_line(cls, line: str | bytes) -> Event:
        """Return the event of a line.

        Raises:
            UnreadableError: The line is no event.
        """
        return reader.parse_json(line, reader.table(_read_event))


_TEXTS = ("session", "python", "cell", "stage", "output", "version")


def _read_event(table: reader.Table) -> Event:
    texts = {name: table.get(name, reader.text, "") for name in _TEXTS}
    return Event(
        step=cast("Step", table.get("step", reader.text)),
        state=table.get("state", reader.text),
        time=table.get("time", reader.seconds, 0.0),
        process=table.get("process", reader.integer, 0),
        facts=table.get("facts", _read_facts, {}),
        **texts,
    )


def _read_memory(value: object) -> Mapping[str, Any]:
    table = reader.Table(value)
    for name in ("process", "build", "jobs"):
        table.get(name, reader.count)
    return reader.plain(table.content)


def _read_compilation(value: object) -> Mapping[str, Any]:
    table = reader.Table(value)
    return {
        "file": table.get("file", reader.text),
        "seconds": table.get("seconds", reader.seconds),
        "memory": table.get("memory", reader.nullable(reader.count), None),
        "architectures": table.get("architectures", _read_list, ()),
    }


def _read_comparison(value: object) -> Mapping[str, Any]:
    table = reader.Table(value)
    table.get("key", reader.text)
    for name, shape in _COMPARED.items():
        table.get(name, reader.nullable(shape), None)
    return reader.plain(table.content)


def _read_list(value: object) -> list[str]:
    return [*reader.list_of(reader.text)(value)]


_COMPARED: Mapping[str, reader.Shape[object]] = {
    "seconds": reader.seconds,
    "size": reader.count,
    "built": reader.seconds,
}
_FACTS: Mapping[str, reader.Shape[object]] = {
    **dict.fromkeys(("command", "host", "problem", "log", "path", "hits"), reader.text),
    **dict.fromkeys(("reason", "key", "sha256"), reader.text),
    **dict.fromkeys(
        ("sessions", "requires", "reasons", "message", "modules"), _read_list
    ),
    **dict.fromkeys(("jobs", "size", "packages", "checks", "imports"), reader.count),
    **dict.fromkeys(("files", "cores", "jobs_used"), reader.count),
    **dict.fromkeys(("seconds", "expected", "files_seconds"), reader.seconds),
    "installed": reader.mapping_of(reader.text),
    "versions": reader.mapping_of(reader.mapping_of(reader.text)),
    "memory": _read_memory,
    "slowest": reader.list_of(_read_compilation),
    "compared": _read_comparison,
}
"""The facts that readers calculate with; others may be any value."""


def _read_facts(value: object) -> dict[str, Any]:
    table = reader.Table(value)
    return {
        name: table.get(name, _FACTS.get(name, reader.plain))
        for name, it in table.content.items()
        if it is not None
    }
