"""What goes into a wheel, as one digest, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

SCHEME = 1
"""Of the key; a change of it makes every wheel a new one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ingredient:
    """A wheel in the environment.

    Attributes:
        version: Of the wheel.
        sha256: Of the file, in hex.
        stage: That provides it; empty where it comes from an index.
    """

    version: str
    sha256: str
    stage: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON takes it."""
        return {"version": self.version, "sha256": self.sha256, "stage": self.stage}


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedPatch:
    """A patch of the source; it is its contents that count.

    Attributes:
        sha256: Of the file, in hex.
        name: By which the reader knows it; no part of the key.
    """

    sha256: str
    name: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.name} (sha256:{self.sha256})"


@dataclass(frozen=True, kw_only=True)  # no slots, for its key is kept
class Recipe:
    """Everything that the bytes of a wheel may depend on.

    What only makes its building faster or slower, such as jobs, is not here.

    Attributes:
        name: Of the project.
        version: Of the wheel.
        source: What identifies the source: ``sha256:…``, ``git:…``, ``tree:sha256:…``.
        environment: The wheels in the environment, by name.
        env: The variables that the table declares, and those let through that are set.
        config_settings: As the build backend receives them.
        interpreter: Implementation, version, ABI and platform.
        tools: What each program says of its version.
        patches: Of the source, in the order in which they are applied.
        network: Whether its backend is let onto it.
    """

    name: str
    version: str
    source: str
    environment: Mapping[str, Ingredient]
    env: Mapping[str, str]
    config_settings: Mapping[str, Any]
    interpreter: Mapping[str, str]
    tools: Mapping[str, str]
    patches: tuple[AppliedPatch, ...] = ()
    network: bool = False

    @cached_property
    def key(self) -> str:
        """The sha256 of it all, in hex."""
        value = {"scheme": SCHEME, **self.to_dict()}
        if self.patches:
            value["patches"] = [patch.sha256 for patch in self.patches]
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def without(self, names: Collection[str]) -> Recipe:
        """Return it as if its environment held nothing of some names."""
        held = self.environment
        kept = {name: held[name] for name in held if name not in names}
        return replace(self, environment=kept)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it, its parts not copied."""
        value = {it.name: getattr(self, it.name) for it in fields(self)}
        held = self.environment
        value["environment"] = {name: held[name].to_dict() for name in held}
        value["patches"] = tuple(map(asdict, self.patches))
        if not self.patches:
            del value["patches"]  # so that what is unpatched keeps its key
        if not self.network:
            del value["network"]  # likewise what is built without
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Recipe:
        """Return what ``to_dict`` was called on.

        Raises:
            TypeError: It is of another scheme.
            LookupError: Likewise.
        """
        environment = {
            name: Ingredient(**ingredient)
            for name, ingredient in _mapping(value["environment"]).items()
        }
        settings = {
            name: setting if isinstance(setting, str) else tuple(setting)
            for name, setting in _mapping(value["config_settings"]).items()
        }
        patches = tuple(AppliedPatch(**patch) for patch in value.get("patches", ()))
        read = {"environment": environment, "config_settings": settings}
        return cls(**{**value, **read, "patches": patches})


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no table")
    return value


def difference(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Return what changed from one recipe to another, in words, most telling first."""
    return tuple(_differences(old, new))


def changed_wheels(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Return whose wheels of stages have other bytes, and still the same version."""
    return tuple(
        name
        for name, was, now in _changes(old.environment, new.environment)
        if was and now and now.stage and was.version == now.version
    )


def _differences(old: Recipe, new: Recipe) -> Iterator[str]:
    if old.name != new.name:
        yield f"name {old.name} → {new.name}"
    if old.version != new.version:
        yield f"version {old.version} → {new.version}"
    elif old.source != new.source:
        yield f"source {_short(old.source)} → {_short(new.source)}"
    if old.patches != new.patches:
        yield f"patches: {', '.join(_patches(old.patches, new.patches))}"
    for name, held, holds in _changes(old.environment, new.environment):
        yield _ingredient(name, held, holds)
    for kind, before, after in (
        ("env", old.env, new.env),
        ("config setting", old.config_settings, new.config_settings),
        ("interpreter's", old.interpreter, new.interpreter),
        ("tool", old.tools, new.tools),
    ):
        for name, was, now in _changes(before, after):
            yield f"{kind} {name} {_value(was)} → {_value(now)}"
    if old.network != new.network:
        yield "network off → on" if new.network else "network on → off"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Any]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield name, before, after


def _ingredient(name: str, old: Ingredient | None, new: Ingredient | None) -> str:
    if new is None:
        return f"{name} is no longer in the environment"
    if old is None:
        return f"{name} {new.version} came into the environment"
    if old.version != new.version:
        return f"{name} {old.version} → {new.version}"
    if new.stage:
        return f"the wheel {name} of stage {new.stage} changed"
    return f"{name} {new.version} is another wheel"


def _patches(
    old: tuple[AppliedPatch, ...], new: tuple[AppliedPatch, ...]
) -> Iterator[str]:
    """Yield what happened to each patch; where only their order changed, that."""
    gone = {patch.name for patch in old if patch not in new}
    come = {patch.name for patch in new if patch not in old}
    yield from (f"{name} changed" for name in sorted(gone & come))
    yield from (f"{name} was added" for name in sorted(come - gone))
    yield from (f"{name} was taken away" for name in sorted(gone - come))
    if not gone and not come:
        yield "another order"


def _value(value: object) -> str:
    return "unset" if value is None else repr(value)


def _short(source: str) -> str:
    identity, hashed, subdirectory = source.partition("#")
    kind, _, digest = identity.rpartition(":")
    return f"{kind}:{digest[:12]}{hashed}{subdirectory}"
