"""Values and records: their fields, and what can't be done with them."""

from __future__ import annotations

from copy import copy
from dataclasses import KW_ONLY, FrozenInstanceError, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nox_buildstages.value import Record, Value, field, field_names, replace, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stone(Value):
    """A base with each kind of field."""

    kind: ClassVar[str] = "stone"

    name: str
    weight: int = 1
    marks: Mapping[str, str] = field(default_factory=dict, hash=False)
    secret: str = field(default="s3cr3t", repr=False, compare=False)


class Gem(Stone):
    """A class with more fields, one with a new default."""

    weight: int = 2
    colour: str


class Pair(Value, kw_only=False, eq=False):
    """A class of which no two objects are equal."""

    left: int
    _: KW_ONLY
    right: int = 0


class NumberError(Record, Exception):
    """An error that words itself."""

    number: int
    problem: str = field(init=False)

    def __post_init__(self) -> None:
        """Put the number into words."""
        self.problem = f"number {self.number}"


def test_fields_are_those_of_the_base_and_then_its_own() -> None:
    """A default may be given, changed or made."""
    gem = Gem(name="ruby", colour="red")
    assert field_names(Gem) == ("name", "weight", "marks", "secret", "colour")
    assert to_dict(gem) == {
        "name": "ruby",
        "weight": 2,
        "marks": {},
        "secret": "s3cr3t",
        "colour": "red",
    }
    assert gem.marks is not Gem(name="ruby", colour="red").marks
    assert repr(gem) == "Gem(name='ruby', weight=2, marks={}, colour='red')"


def test_values_with_equal_fields_are_equal() -> None:
    """They are of one class, and what isn't compared may differ."""
    stone = Stone(name="a", secret="b")
    assert stone == Stone(name="a") == copy(stone)
    assert hash(stone) == hash(Stone(name="a"))
    assert stone != Stone(name="b")
    assert stone != Gem(name="a", weight=1, colour="red")
    assert Pair(1) != Pair(1)
    assert len({Pair(1), Pair(1)}) == 2


def test_a_changed_copy_keeps_the_other_fields() -> None:
    """Of a value, a record, or a dataclass of another package."""

    @dataclass
    class Other:
        size: int

    gem = replace(Gem(name="ruby", colour="red"), colour="pink", weight=3)
    assert (gem.name, gem.weight, gem.colour) == ("ruby", 3, "pink")
    assert replace(NumberError(number=1), number=2).problem == "number 2"
    assert replace(Other(1), size=2) == Other(2)
    assert replace(Pair(1), right=2).right == 2


def test_a_value_is_frozen() -> None:
    """A field can be neither set nor deleted; a record's can."""
    stone = Stone(name="a")
    with pytest.raises(FrozenInstanceError):
        stone.name = "b"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del stone.name
    failure = NumberError(number=1)
    failure.number = 2
    assert failure.number == 2


@pytest.mark.parametrize(
    ("kind", "arguments", "named"),
    [
        (Stone, (), {}),
        (Stone, (), {"name": "a", "size": 1}),
        (Stone, (), {"size": 1}),
        (Pair, (1,), {"left": 2}),
        (Pair, (1, 2, 3), {}),
        (NumberError, (), {"number": 1, "problem": "x"}),
    ],
)
def test_other_arguments_are_refused(
    kind: type[Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Missing ones, unknown ones, and those given twice."""
    with pytest.raises(TypeError, match="has the parameters"):
        kind(*arguments, **named)
