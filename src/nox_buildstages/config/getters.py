"""Reading a TOML document by small getters: every problem collected, told once."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from packaging.utils import InvalidName, NormalizedName, canonicalize_name

from nox_buildstages.errors import DeclarationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

T = TypeVar("T")
D = TypeVar("D")

Step: TypeAlias = str | int
Getter: TypeAlias = Callable[["Item"], T | None]
"""Reads a value, or adds what is wrong with it to the problems and returns None."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([KMGT])(i?)B")
_DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]{1,9})w)?(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?"
    r"(?:([0-9]{1,9})(?:min|(?<=h\d)m|(?<=h\d\d)m))?(?:([0-9]{1,9})s)?"
)
_SECONDS = (604_800, 86_400, 3600, 60, 1)
_SCALARS: tuple[tuple[type, str], ...] = (
    (str, "string"),
    (int, "number"),
    (float, "number"),
    (dt.datetime, "date-time"),
    (dt.date, "date"),
    (dt.time, "time"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A problem, and the way to its place from the document's root."""

    steps: tuple[Step, ...]
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A parsed pyproject.toml, and what was found wrong in it so far.

    Attributes:
        content: Of the file.
        path: Of the file, absolute.
        faults: In the order in which they were found.
    """

    content: Mapping[str, Any]
    path: Path
    faults: list[Fault] = field(default_factory=list)

    def at(self, *steps: str) -> Item | None:
        """Return what stands there, or None; what isn't a table on the way is told."""
        found = Item(value=self.content, steps=(), document=self)
        for step in steps:
            if not isinstance(found.value, Mapping):
                found.expected("a table")
                return None
            if step not in found.value:
                return None
            found = found.child(step, found.value[step])
        return found

    def sound(self, *steps: Step) -> bool:
        """Return whether nothing was found wrong there or below."""
        return all(fault.steps[: len(steps)] != steps for fault in self.faults)

    def finish(self) -> None:
        """End the reading.

        Raises:
            DeclarationError: If anything was wrong: all of it, in the file's order.
        """
        if self.faults:
            ordered = sorted(self.faults, key=lambda it: self._position(it.steps))
            problems = (
                Problem(location=location_of(fault.steps), message=fault.message)
                for fault in ordered
            )
            raise DeclarationError(
                path=self.path,
                problems=tuple(dict.fromkeys(problems)),
            )

    def _position(self, steps: tuple[Step, ...]) -> tuple[int, ...]:
        position: list[int] = []
        value: Any = self.content
        for step in steps:
            if isinstance(step, int):
                position.append(step)
            elif isinstance(value, Mapping) and step in value:
                position.append(list(value).index(step))
            else:
                break
            value = value[step]
        return tuple(position)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A value in a document.

    Attributes:
        value: As TOML has it.
        steps: From the document's root to it.
        document: That it stands in.
    """

    value: object
    steps: tuple[Step, ...]
    document: Document

    @property
    def location(self) -> str:
        """Where it stands, such as ``tool.nox-buildstages.stage[1].outputs[0]``."""
        return location_of(self.steps)

    def child(self, step: Step, value: object) -> Item:
        """Return what stands below."""
        return Item(value=value, steps=(*self.steps, step), document=self.document)

    def fault(self, message: str) -> None:
        """Add a problem with this value."""
        self.document.faults.append(Fault(steps=self.steps, message=message))

    def expected(self, what: str, *, hint: str = "") -> None:
        """Add the problem that the value is something else than it should be."""
        mend = f"; {hint}" if hint else ""
        self.fault(f"expected {what}, found {_described(self.value)}{mend}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The keys that a table may have.

    Attributes:
        known: Their names.
    """

    known: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table whose keys are all allowed ones."""

    item: Item
    content: Mapping[str, object]

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def get(self, key: str, getter: Getter[T], default: D) -> T | D:
        """Return a key's value; the default where there is none, or a faulty one."""
        value = self.child(key, getter)
        return default if value is None else value

    def need(self, key: str, getter: Getter[T]) -> T | None:
        """Return a key's value; that there is none is a problem."""
        if key not in self.content:
            self.item.fault(f"{key} is missing")
        return self.child(key, getter)

    def child(self, key: str, getter: Getter[T]) -> T | None:
        """Return a key's value, or None where there is none, or a faulty one."""
        if key not in self.content:
            return None
        return getter(self.item.child(key, self.content[key]))


def location_of(steps: Iterable[Step]) -> str:
    """Word a way through a document as one would write it in TOML."""
    location = ""
    for step in steps:
        if isinstance(step, int):
            location += f"[{step}]"
            continue
        key = step if _BARE_KEY.fullmatch(step) else _quoted(step)
        location += f".{key}" if location else key
    return location or "the document"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest of the known words, or nothing."""
    from difflib import get_close_matches  # noqa: PLC0415 - mostly all are known

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def table(item: Item, keys: Keys) -> Table | None:
    """Read a table; unknown keys are problems."""
    content = any_table(item)
    if content is None:
        return None
    for key, value in content.items():
        if key not in keys.known:
            hint = did_you_mean(key, keys.known)
            item.child(key, value).fault(f"unknown key{hint}")
    return Table(item=item, content=content)


def list_of(
    getter: Getter[T], of: str = "strings", *, hint: str | None = None
) -> Getter[tuple[T, ...]]:
    """Return a getter for a list; its faulty elements are told and left out."""

    def read(item: Item) -> tuple[T, ...] | None:
        if isinstance(item.value, list):
            elements = (item.child(*it) for it in enumerate(item.value))
            values = (getter(element) for element in elements)
            return tuple(value for value in values if value is not None)
        mend = hint
        if mend is None and isinstance(item.value, str):
            mend = f"write [{_quoted(item.value)}]"
        item.expected(f"a list of {of}", hint=mend or "")
        return None

    return read


def some(getter: Getter[tuple[T, ...]], one: str) -> Getter[tuple[T, ...]]:
    """Return a getter for a list that must not be empty."""

    def read(item: Item) -> tuple[T, ...] | None:
        if item.value == []:
            item.fault(f"expected at least one {one}")
            return None
        return getter(item)

    return read


def mapping(
    getter: Getter[T], of: str, key: Getter[str] | None = None
) -> Getter[Mapping[str, T]]:
    """Return a getter for a table whose keys are the user's; ``key`` checks them."""

    def read(item: Item) -> Mapping[str, T] | None:
        if not isinstance(item.value, Mapping):
            item.expected(f"a table of {of}")
            return None
        found: dict[str, T] = {}
        for name, content in item.value.items():
            child = item.child(name, content)
            if key is not None:
                # The key is told where its value stands.
                key(Item(value=name, steps=child.steps, document=item.document))
            value = getter(child)
            if value is not None:
                found[name] = value
        return found

    return read


def any_table(item: Item) -> Mapping[str, Any] | None:
    """Read a table without looking into it."""
    if isinstance(item.value, Mapping):
        return item.value
    item.expected("a table")
    return None


def by_name(item: Item) -> Mapping[NormalizedName, Item] | None:
    """Read a table keyed by names; two spellings of one name are a problem."""
    content = any_table(item)
    if content is None:
        return None
    found: dict[NormalizedName, Item] = {}
    for key, value in content.items():
        child = item.child(key, value)
        name = normalized(Item(value=key, steps=child.steps, document=item.document))
        if name in found:
            child.fault(f"the same name as {found[name].location}")
        elif name is not None:
            found[name] = child
    return found


def string(item: Item) -> str | None:
    """Read a string, which may be empty."""
    if isinstance(item.value, str):
        return item.value
    item.expected("a string", hint=_string_hint(item.value))
    return None


def text(item: Item) -> str | None:
    """Read a string that says something."""
    value = string(item)
    if value is not None and not value.strip():
        item.expected("a string that is not empty")
        return None
    return value


def boolean(item: Item) -> bool | None:
    """Read true or false."""
    if isinstance(item.value, bool):
        return item.value
    item.expected("true or false")
    return None


def variable(item: Item) -> str | None:
    """Read the name of an environment variable."""
    value = string(item)
    if value is not None and not _VARIABLE.fullmatch(value):
        item.expected("the name of an environment variable")
        return None
    return value


def normalized(item: Item) -> NormalizedName | None:
    """Read the name of a project or an extra."""
    value = string(item)
    if value is None:
        return None
    try:
        return canonicalize_name(value, validate=True)
    except InvalidName:
        item.expected("a name without version")
        return None


def module(item: Item) -> str | None:
    """Read the dotted name of a module."""
    value = string(item)
    if value is None or _is_module(value):
        return value
    other = value.replace("-", "_")
    item.expected(
        "the name of a module",
        hint=f"did you mean {other!r}?" if _is_module(other) else "",
    )
    return None


def size(written: str) -> int | None:
    """Return a size such as ``4GB`` in bytes, or None where it is none.

    ``GB`` are powers of 1000, ``GiB`` of 1024.
    """
    match = _SIZE.fullmatch(written)
    if match is None:
        return None
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** (" KMGT".index(prefix))
    whole, _, part = number.partition(".")
    scale: int = 10 ** len(part)
    return int(whole + part) * unit // scale


def duration(written: str) -> int | None:
    """Return a time such as ``5h`` or ``1h30min`` in seconds, or None where it is none.

    The units are ``w``, ``d``, ``h``, ``min`` and ``s``. After hours ``m`` will do;
    alone it could be months.
    """
    match = _DURATION.fullmatch(written)
    if match is None:
        return None
    numbers = map(int, match.groups(default="0"))
    return sum(number * unit for number, unit in zip(numbers, _SECONDS, strict=True))


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _described(value: object) -> str:
    if isinstance(value, bool):
        return _quoted(value)
    for kind, word in _SCALARS:
        if isinstance(value, kind):
            return f"the {word} {value!r}" if kind is str else f"the {word} {value}"
    return "a table" if isinstance(value, Mapping) else "a list"


def _string_hint(value: object) -> str:
    if isinstance(value, int):
        return f"write {_quoted(_quoted(value))}"
    # 3.10 has become 3.1 by now, so what to write can't be shown.
    return "put it in quotes" if isinstance(value, float) else ""


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
