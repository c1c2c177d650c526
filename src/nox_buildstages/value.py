"""Values and records: like dataclasses, but defining a class costs nearly nothing.

`dataclasses` writes and compiles the methods of each class when the program starts. For
the hundred classes that a run with nothing to do imports, this took as long as all
other imports. The methods here are the same for all classes.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import MISSING, Field, FrozenInstanceError, field
from typing import TYPE_CHECKING, Any, ClassVar

if sys.version_info >= (3, 11):
    from typing import dataclass_transform
else:

    def dataclass_transform(**_options: object) -> Any:  # noqa: ANN401
        """Return a decorator without effect: only type checkers need it."""
        return lambda it: it


if TYPE_CHECKING:
    from dataclasses import replace

__all__ = ["Record", "Value", "field", "field_names", "replace", "to_dict"]


class _Fields:
    """The fields of a class: its annotated names, after those of its base.

    As in a dataclass, a field may have a default or be described by `field`, and
    `__post_init__` is called at the end.
    """

    _fields: ClassVar[dict[str, Field[Any]]] = {}
    _parameters: ClassVar[frozenset[str]] = frozenset()
    _defaults: ClassVar[dict[str, Any]] = {}
    _factories: ClassVar[dict[str, Any]] = {}
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # for ``replace``

    def __init_subclass__(cls, *, kw_only: bool = True) -> None:
        """Find the fields; ``kw_only`` tells type checkers about positional ones."""
        fields = dict(cls._fields)
        for name, annotation in cls.__annotations__.items():
            if not annotation.startswith(("ClassVar", "KW_ONLY")):
                found = cls.__dict__.get(name, MISSING)
                if isinstance(found, Field):
                    delattr(cls, name)
                    fields[name] = found
                else:
                    fields[name] = field(default=found)
        cls._fields = fields
        accepted = {name: it for name, it in fields.items() if it.init}
        cls._parameters = frozenset(accepted)
        cls._defaults = {
            name: it.default
            for name, it in accepted.items()
            if it.default is not MISSING
        }
        cls._factories = {
            name: it.default_factory
            for name, it in accepted.items()
            if it.default_factory is not MISSING
        }

    def __init__(self, *arguments: object, **named: object) -> None:
        count = len(arguments) + len(named)
        if arguments:
            named = {**dict(zip(self._fields, arguments, strict=False)), **named}
        values = self._defaults | named
        for name, make in self._factories.items():
            if name not in values:
                values[name] = make()
        if values.keys() != self._parameters or len(named) < count:
            expected = ", ".join(self._parameters)
            raise TypeError(f"{type(self).__name__} has the parameters {expected}")
        object.__setattr__(self, "__dict__", values)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Complete a new object."""

    def __repr__(self) -> str:
        shown = (name for name, it in self._fields.items() if it.repr)
        values = (f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__name__}({', '.join(values)})"


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Record(_Fields):
    """The base of classes whose fields may change; a record is only equal to itself."""


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(field,)
)
class Value(_Fields):
    """The base of frozen classes; values with equal fields are equal."""

    def __init_subclass__(cls, *, kw_only: bool = True, eq: bool = True) -> None:
        """Find the fields; with ``eq=False`` a value is only equal to itself."""
        super().__init_subclass__(kw_only=kw_only)
        if not eq:
            cls.__eq__ = object.__eq__  # type: ignore[method-assign]
            cls.__hash__ = object.__hash__  # type: ignore[method-assign]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        mine, its = self.__dict__, other.__dict__
        return self is other or all(
            mine[name] == its[name] for name, it in self._fields.items() if it.compare
        )

    def __hash__(self) -> int:
        return hash(
            tuple(
                self.__dict__[name]
                for name, it in self._fields.items()
                if (it.compare if it.hash is None else it.hash)
            )
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")


def field_names(value: _Fields | type[_Fields]) -> tuple[str, ...]:
    """Return the names of the fields, in the order of their declaration."""
    return tuple(value._fields)


def to_dict(value: _Fields) -> dict[str, Any]:
    """Return the fields by name; those that are values themselves stay values."""
    return {name: getattr(value, name) for name in field_names(value)}


if not TYPE_CHECKING:

    def replace(value: Any, /, **changes: object) -> Any:  # noqa: ANN401
        """Return a copy of a value, a record or a dataclass with other fields."""
        if not isinstance(value, _Fields):
            return dataclasses.replace(value, **changes)
        fields = value.__dict__
        kept = {name: fields[name] for name in value._parameters}  # noqa: SLF001
        return type(value)(**{**kept, **changes})
