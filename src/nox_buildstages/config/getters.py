"""Getters: small functions, each for a kind of TOML value.

A getter takes an :class:`Item`: a value with a location in the file. The getter returns
the value for the model, or adds a fault to the document and returns None. Reading goes
on after a fault, and :meth:`Document.problems` returns all faults at once. For a table,
:func:`read_table` calls the getter of each :class:`Key`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from packaging.utils import InvalidName, NormalizedName, canonicalize_name

from nox_buildstages.errors import Problem
from nox_buildstages.reader import Step, location_of
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable
    from dataclasses import KW_ONLY
    from pathlib import Path

T = TypeVar("T")

Getter: TypeAlias = Callable[["Item"], T | None]
"""Returns the value of an item; None after adding a fault."""

_NEAR = 0.65
"""How similar a word is to the word that it is a misspelling of."""
_UNREPLACED = {"CONDA_PREFIX", "HOME", "PATH", "PWD"}
"""Variables of a shell that nobody means literally."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([KMGT])(i?)B"
_DURATION = (
    r"(?=[0-9])(?:([0-9]{1,9})w)?(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?"
    r"(?:([0-9]{1,9})(?:min|(?<=h\d)m|(?<=h\d\d)m))?(?:([0-9]{1,9})s)?"
)
_SECONDS = (604_800, 86_400, 3600, 60, 1)
_SCALARS: tuple[tuple[type, str], ...] = (
    (int, "number"),
    (float, "number"),
    (dt.datetime, "date-time"),
    (dt.date, "date"),
    (dt.time, "time"),
)


class Fault(Value):
    """A problem, and the steps from the document's root to the faulty value."""

    steps: tuple[Step, ...]
    message: str
    is_only: bool = False  # whether further faults of the value would follow from it


class Document(Value):
    """A parsed pyproject.toml, with the faults found so far."""

    content: Mapping[str, Any]
    path: Path  # absolute
    faults: list[Fault] = field(default_factory=list)
    """In the order in which they were found."""
    elsewhere: Mapping[tuple[Step, ...], str] = field(default_factory=dict)
    """The location of what a noxfile declares, by the steps."""
    tables: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The known keys of tables, by the tables' headers."""

    def locate(self, steps: tuple[Step, ...]) -> str:
        """Return the location of a value, in TOML's notation."""
        for beginning, location in self.elsewhere.items():
            rest = steps[len(beginning) :]
            if steps[: len(beginning)] == beginning:
                return f"{location}.{location_of(rest)}" if rest else location
        return location_of(steps)

    def find(self, *steps: str) -> Item | None:
        """Return the item at a location, or None; a step must lead into a table."""
        item = Item(value=self.content, steps=(), document=self)
        for step in steps:
            if not isinstance(item.value, Mapping):
                item.expect("a table")
                return None
            if step not in item.value:
                return None
            item = item.child(step, item.value[step])
        return item

    def is_sound(self, *steps: Step) -> bool:
        """Return whether no fault was found at a location or below."""
        return all(fault.steps[: len(steps)] != steps for fault in self.faults)

    def problems(self) -> tuple[Problem, ...]:
        """Return the faults as problems, each once, in the order of the file."""
        faults = sorted(self.faults, key=lambda fault: self._position(fault.steps))
        only = {fault.steps for fault in faults if fault.is_only}
        problems = (
            Problem(location=self.locate(fault.steps), message=fault.message)
            for fault in faults
            if fault.is_only or fault.steps not in only
        )
        return tuple(dict.fromkeys(problems))

    def _position(self, steps: tuple[Step, ...]) -> tuple[int, ...]:
        """Return a sort key for locations, in the order of the file."""
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


class Item(Value):
    """A value in a document."""

    value: object  # as parsed
    steps: tuple[Step, ...]  # from the document's root
    document: Document

    @property
    def location(self) -> str:
        """The location, such as ``tool.nox-buildstages.stage[1].outputs[0]``."""
        return self.document.locate(self.steps)

    def child(self, step: Step, value: object) -> Item:
        """Return the item below a step."""
        return Item(value=value, steps=(*self.steps, step), document=self.document)

    def with_value(self, value: object) -> Item:
        """Return an item with another value at the same location."""
        return Item(value=value, steps=self.steps, document=self.document)

    def fault(self, message: str, *, is_only: bool = False) -> None:
        """Add a problem with the value; with ``is_only`` it hides all others of it."""
        fault = Fault(steps=self.steps, message=message, is_only=is_only)
        self.document.faults.append(fault)

    def expect(self, kind: str, *, hint: str = "") -> None:
        """Add a problem: the value is of the wrong kind."""
        after = f"; {hint}" if hint else ""
        self.fault(f"expected {kind}, found {_describe(self.value)}{after}")


class Key(Value, kw_only=False):
    """A key of a table: a getter for the value, and an entry in the reference."""

    getter: Getter[Any]
    _: KW_ONLY
    default: object = None  # the TOML value of a missing key; None for no value
    is_required: bool = False  # whether a table without the key is faulty
    type: str = ""  # in Markdown, as the reference words it
    default_text: str = ""  # in Markdown, in place of default
    example: str = ""  # a line of TOML
    text: str = ""  # the meaning, in Markdown
    in_locks: bool = False  # whether another value makes lock files out of date
    in_key: bool = False  # whether the value itself is part of the key of wheels
    has_placeholders: bool = False
    """Whether {axis} is replaced in all strings of the value."""
    names_environment: bool = False
    """Whether {env} in them is the path of the stage's environment, too."""


def read_table(
    item: Item, keys: Mapping[str, Key], *, is_named: bool = False
) -> dict[str, Any] | None:
    """Return the value of each key of a table, with ``_`` for ``-`` in the names.

    Unknown keys and missing required keys are faults. The default replaces missing and
    faulty values. With ``is_named``, the table's own key is a name of the user's.
    """
    content = raw_table(item)
    if content is None:
        return None
    meant = set()
    for name in content.keys() - keys.keys():
        child, dotted = item.child(name, content[name]), ""
        if is_named and isinstance(child.value, Mapping):
            dotted = _key_with_dots(child, keys)
        child.fault(f"unknown key{dotted or _find_place(name, keys, item.document)}")
        meant.add(find_nearest(name, keys))
    values = {}
    for name, key in keys.items():
        value, document = None, item.document
        if name in content:
            value = key.getter(item.child(name, content[name]))
            document = replace(document, faults=[])  # a default has none of its own
        elif key.is_required and name not in meant:
            item.fault(f"{name} is missing")
        if value is None and key.default is not None:
            default = replace(item, document=document).child(name, key.default)
            value = key.getter(default)
        values[name.replace("-", "_")] = value
    return values


def _find_place(name: str, keys: Iterable[str], document: Document) -> str:
    """Return the advice about an unknown key: another name, or another table."""
    tables = [it for it in document.tables if name in document.tables[it]]
    if tables:
        return f"; it is a key of {' and '.join(tables)}"
    if near := did_you_mean(name, keys):
        return near
    for table, known in document.tables.items():
        if nearest := find_nearest(name, known):
            return f"; did you mean {nearest!r} of {table}?"
    return ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known word, or nothing."""
    near = find_nearest(word, known)
    return "" if near is None else f"; did you mean {near!r}?"


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a word is probably a misspelling of."""
    words = list(known)
    if word in words:
        return word
    from difflib import get_close_matches  # noqa: PLC0415 - most words are known

    return next(iter(get_close_matches(word, words, n=1, cutoff=_NEAR)), None)


def _key_with_dots(item: Item, keys: Container[str]) -> str:
    """Return the advice to quote a name in which TOML took a dot for a separator."""
    table, *names = map(str, item.steps[-2:])
    value = item.value
    while isinstance(value, Mapping) and len(value) == 1:
        ((name, value),) = value.items()
        if name in keys or not isinstance(value, Mapping):
            break
        names.append(name)
    written = ".".join((table, *names))
    return (
        f": TOML reads {written} as the key {'.'.join(names)} in a table {table};"
        f" put it in quotes: {quote(written)}"
    )


def list_of(
    getter: Getter[T], of: str = "strings", *, hint: str | None = None
) -> Getter[tuple[T, ...]]:
    """Return a getter for a list; faulty elements are left out."""

    def read(item: Item) -> tuple[T, ...] | None:
        if isinstance(item.value, list):
            elements = (item.child(*it) for it in enumerate(item.value))
            values = (getter(element) for element in elements)
            return tuple(value for value in values if value is not None)
        suggestion = hint
        if suggestion is None and isinstance(item.value, str):
            suggestion = f"write [{quote(item.value)}]"
        item.expect(f"a list of {of}", hint=suggestion or "")
        return None

    return read


def non_empty(getter: Getter[tuple[T, ...]], element: str) -> Getter[tuple[T, ...]]:
    """Return a getter for a list, which must not be empty."""

    def read(item: Item) -> tuple[T, ...] | None:
        if item.value == []:
            item.fault(f"expected at least one {element}")
            return None
        return getter(item)

    return read


def mapping_of(
    getter: Getter[T], of: str, key: Getter[str] | None = None
) -> Getter[Mapping[str, T]]:
    """Return a getter for a table with free keys; ``key`` checks the keys."""

    def read(item: Item) -> Mapping[str, T] | None:
        if not isinstance(item.value, Mapping):
            item.expect(f"a table of {of}")
            return None
        values: dict[str, T] = {}
        for name, content in item.value.items():
            child = item.child(name, content)
            if key is not None:
                key(child.with_value(name))  # a fault has the location of the value
            value = getter(child)
            if value is not None:
                values[name] = value
        return values

    return read


def raw_table(item: Item) -> Mapping[str, Any] | None:
    """Read a table unchanged."""
    if isinstance(item.value, Mapping):
        return item.value
    item.expect("a table")
    return None


def items_by_name(item: Item) -> Mapping[NormalizedName, Item] | None:
    """Read a table whose keys are names; two spellings of a name are a fault."""
    content = raw_table(item)
    if content is None:
        return None
    items: dict[NormalizedName, Item] = {}
    for key, value in content.items():
        child = item.child(key, value)
        name = project_name(child.with_value(key))
        if name in items:
            child.fault(f"the same name as {items[name].location}")
        elif name is not None:
            items[name] = child
    return items


def string(item: Item) -> str | None:
    """Read a string, which may be empty."""
    value, hint = item.value, ""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        hint = f"write {quote(quote(value))}"
    elif isinstance(value, float):
        hint = "put it in quotes"  # the parser turned 3.10 into 3.1
    item.expect("a string", hint=hint)
    return None


def text(item: Item) -> str | None:
    """Read a string, which must not be blank."""
    value = string(item)
    if value is not None and not value.strip():
        item.expect("a string that is not empty")
        return None
    return value


def boolean(item: Item) -> bool | None:
    """Read true or false."""
    if isinstance(item.value, bool):
        return item.value
    item.expect("true or false")
    return None


def variable_name(item: Item) -> str | None:
    """Read the name of an environment variable."""
    value = string(item)
    if value is not None and not _VARIABLE.fullmatch(value):
        item.expect("the name of an environment variable")
        return None
    return value


def variable_value(item: Item) -> str | None:
    """Read the value of an environment variable, in which no shell replaces others."""
    value = string(item)
    if value is None:
        return None
    name = item.steps[-1]
    for match in re.finditer(r"(?<!\$)\$(\{)?(\w+)(?(1)\})", value):
        if match[2] == "VIRTUAL_ENV":
            fix = "write {env}"
        elif match[2] == name == "PATH":
            fix = "change PATH outside: builds get it"
        elif match[2] == name:
            fix = f"set {name} outside, and name it in pass-env"
        elif match[2] in _UNREPLACED:
            fix = "write its value"
        else:
            continue
        item.fault(f"{match[0]} is not replaced; {fix}")
    if value.startswith("~/"):
        item.fault("~ is not replaced; write the whole path")
    return value


def project_name(item: Item) -> NormalizedName | None:
    """Read the name of a project or an extra."""
    value = string(item)
    if value is None:
        return None
    try:
        return canonicalize_name(value, validate=True)
    except InvalidName:
        item.expect("a name without version")
        return None


def module_name(item: Item) -> str | None:
    """Read the dotted name of a module."""
    value = string(item)
    if value is None or all(part.isidentifier() for part in value.split(".")):
        return value
    other = value.replace("-", "_")
    is_near = all(part.isidentifier() for part in other.split("."))
    hint = f"did you mean {other!r}?" if is_near else ""
    item.expect("the name of a module", hint=hint)
    return None


def parse_size(text: str) -> int | None:
    """Return a size such as ``4GB`` in bytes, or None if the text is no size.

    ``GB`` are powers of 1000, ``GiB`` powers of 1024.
    """
    match = re.fullmatch(_SIZE, text)
    if match is None:
        return None
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** (" KMGT".index(prefix))
    whole, _, part = number.partition(".")
    scale: int = 10 ** len(part)
    return int(whole + part) * unit // scale


def parse_duration(text: str) -> int | None:
    """Return a time such as ``1h30min`` in seconds, or None if the text is no time.

    The units are ``w``, ``d``, ``h``, ``min`` and ``s``. After hours, ``m`` means
    minutes too; elsewhere ``m`` could mean months.
    """
    match = re.fullmatch(_DURATION, text)
    if match is None:
        return None
    numbers = map(int, match.groups(default="0"))
    return sum(number * unit for number, unit in zip(numbers, _SECONDS, strict=True))


def _describe(value: object) -> str:
    """Return a value in words, for a message."""
    if isinstance(value, bool):
        return quote(value)
    if isinstance(value, str):
        return f"the string {value!r}"
    for kind, word in _SCALARS:
        if isinstance(value, kind):
            return f"the {word} {value}"
    if value is None:  # only of a stage in Python
        return "None"
    return "a table" if isinstance(value, Mapping) else "a list"


def quote(value: object) -> str:
    """Return a value in TOML's notation, in double quotes if it is a string."""
    return json.dumps(value, ensure_ascii=False)
