"""The only parser of JSON and TOML: texts damaged or forged by others, perhaps.

The result is a value, or an `UnreadableError` with the place. A *shape* is a function
from a parsed value to a value of ours, such as `text` or ``list_of(text)``, and raises
the error for anything else.

`system/documents.py` reads files.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from packaging.markers import Marker
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
D = TypeVar("D")

Step: TypeAlias = "str | int"
Shape: TypeAlias = "Callable[[Any], T]"
"""Returns the value of ours for a parsed value, or raises an UnreadableError."""

DEEPEST = 64
"""The levels of tables and lists in each other: code that calls itself has limits."""

_LATEST = 253_402_300_800
"""The end of the year 9999, in seconds: later times can't be formatted."""

_QUOTED = r"""'[^'\n]*'|"(?:\\.|[^"\\\n])*\""""
_LONG_KEY = rf"(?<!\S)(?:[^\s.]+[ \t]*\.[ \t]*){{{DEEPEST}}}"
"""A key with dots, for which tomllib takes the square of the number of its parts."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_REQUIRED: Any = object()


class UnreadableError(ValueError):
    """A document can't be read."""

    def __init__(self, problem: str, *steps: Step, file: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps = [*steps]  # from the root of the document
        self.file = file

    def __str__(self) -> str:
        place = location_of(self.steps) if self.steps else ""
        return ": ".join(filter(None, (self.file, place, self.problem)))


def location_of(steps: Iterable[Step]) -> str:
    """Return a location in TOML's notation."""
    location = ""
    for step in steps:
        if isinstance(step, int):
            location += f"[{step}]"
            continue
        bare = _BARE_KEY.fullmatch(step)
        key = step if bare else json.dumps(step, ensure_ascii=False)
        location += f".{key}" if location else key
    return location or "the document"


# Texts -------------------------------------------------------------------------------


def decode_text(content: bytes) -> str:
    """Return a UTF-8 text; a byte order mark at its start is ignored."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        problem = f"isn't UTF-8: byte 0x{byte:02x} in line {line}; save it as UTF-8"
        raise UnreadableError(problem) from None


def parse_json(content: str | bytes, shape: Shape[T]) -> T:
    """Return the value of a JSON text.

    Raises:
        UnreadableError: The text isn't JSON of this shape.
    """
    text = decode_text(content) if isinstance(content, bytes) else content
    try:
        return shape(_DECODER.decode(text))
    except UnreadableError:
        raise
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"is not JSON: {error}") from error


def parse_toml(content: str | bytes) -> dict[str, Any]:
    """Return a TOML document, at most `DEEPEST` levels deep.

    Raises:
        UnreadableError: The text isn't such a document.
    """
    text = decode_text(content) if isinstance(content, bytes) else content
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") < DEEPEST:
            continue
        if re.search(_LONG_KEY, re.sub(_QUOTED, "q", line)):
            raise UnreadableError(f"line {number} has a key of too many parts")
    try:
        document = tomllib.loads(text.removeprefix("\N{BYTE ORDER MARK}"))
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"is not TOML: {error}") from error
    _check_values(document, may_be_infinite=True)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, whose keys must differ: readers disagree about a second one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(it for it in names if names.count(it) > 1)
        raise UnreadableError(f"has the key {twice!r} twice")
    return found


def _refuse_constant(name: str) -> None:
    raise UnreadableError(f"has the number {name}, which is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def plain(value: T) -> T:
    """Read any value of JSON."""
    _check_values(value, may_be_infinite=False)
    return value


def _check_values(root: object, *, may_be_infinite: bool) -> None:
    """Raise an error for deep nesting, and for values that can't be written again."""
    level: list[tuple[Any, Any]] = [([root], ())]  # each with linked steps
    for _ in range(DEEPEST):
        below = []
        for value, way in level:
            is_table = isinstance(value, dict)
            for step, it in value.items() if is_table else enumerate(value):
                if isinstance(it, (dict, list)):
                    below.append((it, (way, step)))
                problem = "" if step.__class__ is int else _find_fault(step)
                if not (may_be_infinite and isinstance(it, float)):
                    problem = problem or _find_fault(it)
                if problem:
                    raise UnreadableError(problem, *_follow((way, step)))
        if not below:
            return
        level = below
    raise UnreadableError("is nested too deeply", *_follow(level[0][1])[:3])


def _find_fault(value: object) -> str:
    """Return why a value can't be used as a name, or written as JSON or UTF-8."""
    if isinstance(value, str):
        if "\0" in value:
            return "has a NUL"
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return "has half a character (a surrogate)"
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            return "has more than 64 bits"
    elif isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which is not JSON"
    return ""


def _follow(way: Any) -> list[Step]:  # noqa: ANN401 - linked pairs
    """Return the steps to a value, without the first one."""
    steps: list[Step] = []
    while way:
        way, step = way
        steps.insert(0, step)
    return steps[1:]


# Shapes ------------------------------------------------------------------------------


def mismatch(kind: str, value: object) -> UnreadableError:
    """Return the error for a value of another kind."""
    return UnreadableError(f"expected {kind}, found {describe_value(value)}")


def describe_value(value: object) -> str:
    """Return a parsed value in words, for a message."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    return str(value)[:40]


def text(value: object) -> str:
    """Read a string for the name of a file."""
    if not isinstance(value, str):
        raise mismatch("a string", value)
    if (not value.isascii() or "\0" in value) and (problem := _find_fault(value)):
        raise UnreadableError(problem)
    return value


def boolean(value: object) -> bool:
    """Read true or false."""
    if isinstance(value, bool):
        return value
    raise mismatch("true or false", value)


def integer(value: object) -> int:
    """Read a whole number of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or _find_fault(value):
        raise mismatch("a whole number", value)
    return value


def count(value: object) -> int:
    """Read a natural number, such as a size in bytes."""
    number = integer(value)
    if number < 0:
        raise mismatch("a number that isn't negative", value)
    return number


def seconds(value: object) -> float:
    """Read a duration, or a time since 1970, in seconds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value < _LATEST:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise mismatch("a number of seconds", value)


def requirement(value: object) -> Requirement:
    """Read a requirement (PEP 508)."""
    return Requirement(_shallow(value))


def requirement_text(value: object) -> str:
    """Read a requirement (PEP 508), as text."""
    requirement(value)
    return text(value)


def marker(value: object) -> Marker:
    """Read a marker (PEP 508)."""
    return Marker(_shallow(value))


def _shallow(value: object) -> str:
    """Read a text with few parentheses: packaging calls itself for each in a marker."""
    found = text(value)
    if found.count("(") > DEEPEST:
        raise UnreadableError("has too many parentheses")
    return found


def list_of(shape: Shape[T]) -> Shape[tuple[T, ...]]:
    """Return the shape of a list."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, (list, tuple)):
            raise mismatch("a list", value)
        found: list[T] = []
        try:
            for it in value:
                found.append(shape(it))  # noqa: PERF401 - it counts for an error
        except (ValueError, RecursionError) as error:
            raise _below(len(found), error) from None
        return tuple(found)

    return read


def mapping_of(shape: Shape[T], key: Shape[str] = text) -> Shape[dict[str, T]]:
    """Return the shape of a table with free keys."""

    def read(value: object) -> dict[str, T]:
        if not isinstance(value, dict):
            raise mismatch("a table", value)
        found: dict[str, T] = {}
        name = ""
        try:
            for name, it in value.items():
                found[key(name)] = shape(it)
        except (ValueError, RecursionError) as error:
            raise _below(name, error) from None
        return found

    return read


def nullable(shape: Shape[T]) -> Shape[T | None]:
    """Return the shape of a value or null."""
    return lambda value: None if value is None else shape(value)


def parse_with(parse: Callable[[str], T]) -> Shape[T]:
    """Return the shape of a string that is parsed further, such as a version."""
    return lambda value: parse(text(value))


class Table:
    """A table whose keys are read one by one."""

    __slots__ = ("content",)

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise mismatch("a table", value)
        self.content: dict[str, Any] = value

    def refuse_others(self, known: Iterable[str]) -> None:
        """Raise an error for unknown keys."""
        for key in self.content.keys() - {*known}:
            raise UnreadableError("is an unknown key", key)

    @overload
    def get(self, key: str, shape: Shape[T]) -> T: ...
    @overload
    def get(self, key: str, shape: Shape[T], default: D) -> T | D: ...
    def get(self, key: str, shape: Any, default: Any = _REQUIRED) -> Any:
        """Return the value of a key; without a default, the key must be there."""
        if key in self.content:
            try:
                return shape(self.content[key])
            except (ValueError, RecursionError) as error:
                raise _below(key, error) from None
        if default is _REQUIRED:
            raise UnreadableError("is missing", key)
        return default


def table(read: Callable[[Table], T]) -> Shape[T]:
    """Return the shape of a table, from a function."""
    return lambda value: read(Table(value))


def _below(step: Step, error: Exception) -> UnreadableError:
    """Return the error of a value below a step, which it then names."""
    if isinstance(error, UnreadableError):
        error.steps.insert(0, step)
        return error
    if isinstance(error, RecursionError):
        return UnreadableError("is nested too deeply", step)
    return UnreadableError(str(error), step)  # such as packaging's
