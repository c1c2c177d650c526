"""The expressions of GitHub's workflows, as far as ours have them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^']|'')*')
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<mark>==|!=|&&|\|\||[!<>().,*])
    )""",
    re.VERBOSE,
)
_INSIDE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


@dataclass(slots=True)
class _Parser:
    tokens: list[tuple[str, str]]
    contexts: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]
    called: set[str] = field(default_factory=set)

    def whole(self) -> Any:  # noqa: ANN401 - of any type
        value = self.either()
        assert not self.tokens, f"left over: {self.tokens}"
        return value

    def either(self) -> Any:  # noqa: ANN401
        value = self.both()
        while self.take("||"):
            other = self.both()
            value = value if truth(value) else other
        return value

    def both(self) -> Any:  # noqa: ANN401
        value = self.compared()
        while self.take("&&"):
            other = self.compared()
            value = other if truth(value) else value
        return value

    def compared(self) -> Any:  # noqa: ANN401
        value = self.negated()
        for mark in ("==", "!=", "<", ">"):
            if self.take(mark):
                return _compare(mark, value, self.negated())
        return value

    def negated(self) -> Any:  # noqa: ANN401
        return not truth(self.negated()) if self.take("!") else self.primary()

    def primary(self) -> Any:  # noqa: ANN401
        if self.take("("):
            value = self.either()
            self.expect(")")
            return value
        kind, text = self.tokens.pop(0)
        if kind == "string":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return float(text)
        assert kind == "name", f"unexpected {text}"
        if text in {"true", "false"}:
            return text == "true"
        return self.call(text) if self.take("(") else self.looked_up(text)

    def call(self, name: str) -> Any:  # noqa: ANN401
        arguments = []
        while not self.take(")"):
            arguments.append(self.either())
            self.take(",")
        self.called.add(name)
        return self.functions[name](*arguments)

    def looked_up(self, name: str) -> Any:  # noqa: ANN401
        value = self.contexts[name]
        while self.take("."):
            if self.take("*"):
                value = list(value.values())
                continue
            _, key = self.tokens.pop(0)
            value = (
                [it.get(key) for it in value]
                if isinstance(value, list)
                else (value or {}).get(key, "")
            )
        return value

    def take(self, mark: str) -> bool:
        if self.tokens and self.tokens[0] == ("mark", mark):
            self.tokens.pop(0)
            return True
        return False

    def expect(self, mark: str) -> None:
        assert self.take(mark), f"{mark} is missing before {self.tokens}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expressions:
    """What can be named in an expression.

    Attributes:
        contexts: ``inputs``, ``needs`` and the like; any other name is a KeyError.
        functions: Beside those that need no surroundings.
    """

    contexts: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def condition(self, written: object, *, default: str) -> bool:
        """Whether an ``if`` is true.

        Args:
            written: It; None where there is none.
            default: The function that has to be true too, unless it has a like one.
        """
        text = "true" if written is None else str(written)
        inside = _INSIDE.fullmatch(text.strip())
        parser = self._parser(inside[1] if inside else text)
        value = parser.whole()
        if parser.called & {"always", "cancelled", "failure", "success"}:
            return truth(value)
        return truth(value) and truth(self.functions[default]())

    def value(self, written: Any) -> Any:  # noqa: ANN401 - of YAML
        """Return a value of YAML with its expressions evaluated."""
        if isinstance(written, dict):
            return {key: self.value(item) for key, item in written.items()}
        if isinstance(written, list):
            return [self.value(item) for item in written]
        if not isinstance(written, str):
            return written
        whole = _INSIDE.fullmatch(written.strip())
        if whole and written.count("${{") == 1:
            return self._parser(whole[1]).whole()
        return _INSIDE.sub(lambda it: text(self._parser(it[1]).whole()), written)

    def _parser(self, written: str) -> _Parser:
        tokens, at = [], 0
        written = written.strip()
        while at < len(written):
            match = _TOKEN.match(written, at)
            assert match, f"no expression: {written[at:]}"
            kind = str(match.lastgroup)
            tokens.append((kind, match[kind]))
            at = match.end()
        pure: dict[str, Callable[..., Any]] = {
            "contains": _contains,
            "format": str.format,
            "fromJSON": json.loads,
            "startsWith": str.startswith,
        }
        return _Parser(tokens, self.contexts, {**pure, **self.functions})


def truth(value: object) -> bool:
    """Return what counts as true."""
    return value not in (False, 0, "", None)


def text(value: object) -> str:
    """Return a value as it stands in a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    assert isinstance(value, (str, int, float)), f"{value!r} is no text"
    return str(value)


def _contains(found: list[Any] | str, wanted: str) -> bool:
    return wanted in found


def _compare(mark: str, one: object, other: object) -> bool:
    if type(one) is not type(other):
        one, other = _number(one), _number(other)
    if mark in {"==", "!="}:
        return (one == other) == (mark == "==")
    less, more = (one, other) if mark == "<" else (other, one)
    return _number(less) < _number(more)


def _number(value: object) -> float:
    if isinstance(value, str):
        return float(value or 0) if re.fullmatch(r"[\d.]*", value) else float("nan")
    assert isinstance(value, (bool, int, float))
    return float(value)
