"""The key of a wheel: the digest of a recipe, and how two recipes differ."""

from __future__ import annotations

import hashlib
import hmac
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nox_buildstages import reader
from nox_buildstages.text import diff
from nox_buildstages.value import Value, field, field_names, replace, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

SCHEME = 2
"""The version of the key's scheme; a new one gives every wheel a new key.

Records of scheme 1 can be read, but no build asks for their keys. There, the name of a
stage counted, and neither compilers nor the interpreter's settings for them did.
"""


_OPTIONAL = (
    *("patches", "network", "open_files", "own_cuda", "code", "machine", "unused"),
    *("passed", "requires_dist"),
)
_NOT_WRITTEN = ("passed_digest", "recorded_key", "find_processor")

_NONE_STARTED = {"compilers": "none was started"}
"""Stands for the machine in the recipe of a wheel whose build started no compiler."""

_PROCESSOR = "processor"

_ROUNDS = 10_000
"""They make it slow to try values that somebody guesses, by the key of a wheel."""


class Ingredient(Value):
    """A wheel in the stage's environment."""

    version: str
    sha256: str
    stage: str = field(default="", compare=False)
    """The stage that provides the wheel, for messages; empty for an index's wheel."""

    def to_dict(self) -> dict[str, str]:
        """Return the ingredient as JSON."""
        return {"version": self.version, "sha256": self.sha256, "stage": self.stage}


class AppliedPatch(Value):
    """A patch of the source."""

    sha256: str
    name: str = field(compare=False)  # for messages; no part of the key

    def __str__(self) -> str:
        return f"{self.name} (sha256:{self.sha256})"


class Recipe(Value):
    """Everything that may change the bytes of a wheel.

    Settings for the speed of a build, for example jobs, are left out.
    """

    name: str
    version: str
    source: str  # ``sha256:…``, ``git:…`` or ``tree:sha256:…``
    environment: Mapping[str, Ingredient]  # by project
    env: Mapping[str, str]  # the variables that the table states
    config_settings: Mapping[str, Any]
    interpreter: Mapping[str, str]  # implementation, version, ABI and platform
    tools: Mapping[str, str]  # the output of declared programs
    patches: tuple[AppliedPatch, ...] = ()  # in the order of application
    network: bool = False  # whether the build backend may use the network
    open_files: bool = False  # whether the build backend may reach all files
    own_cuda: bool = False  # whether the CUDA of the environment is used
    code: str = ""  # a digest of what runs in the stage before its builds
    requires_dist: tuple[str, ...] = ()
    """Corrections of what the wheel requires: ``+ REQUIREMENT`` and ``- NAME``.

    A version in braces is that of a wheel in the environment.
    """
    machine: Mapping[str, str] = field(default_factory=dict)
    """The compilers, the linker and the C library of the machine, and the processor if
    a build compiled for it alone: all that counts only for builds that compile."""
    unused: tuple[str, ...] = field(default=(), compare=False)
    """What ``machine`` had when a build started no compiler. No part of the key."""
    passed: Mapping[str, str] = field(default_factory=dict)
    """The set variables of ``pass-env``, each with a digest that has the store's salt:
    for comparison within the store, without the value."""
    passed_digest: str = field(default="", compare=False, repr=False)
    """The digest of these values for the key; no record has it."""
    recorded_key: str = field(default="", compare=False, repr=False)
    """The key in a record with passed variables."""
    find_processor: Callable[[], str] = field(default=str, compare=False, repr=False)
    """Returns the processor of this machine; few recipes need it."""
    scheme: int = SCHEME

    @cached_property
    def key(self) -> str:
        """The sha256 of the recipe, in hex."""
        if self.passed and self.recorded_key:
            return self.recorded_key
        value = {**self.to_dict(), "scheme": self.scheme}
        value.pop("unused", None)
        if self.passed:
            value["passed"] = self.passed_digest
        if self.patches:
            value["patches"] = [patch.sha256 for patch in self.patches]
        if self.scheme > 1:
            value["environment"] = {
                name: {"version": it.version, "sha256": it.sha256}
                for name, it in self.environment.items()
            }
        return digest_json(value)

    def without(self, names: Collection[str]) -> Recipe:
        """Return the recipe without some wheels of the environment."""
        left = {k: v for k, v in self.environment.items() if k not in names}
        return replace(self, environment=left)

    def equals_foreign(self, recorded: Recipe) -> bool:
        """Whether a record of another store, with another salt, has this recipe."""
        is_same = (
            recorded.key == self.key and self.passed.keys() == recorded.passed.keys()
        )
        return is_same and replace(recorded, passed=self.passed) == self

    @property
    def has_no_compilers(self) -> bool:
        """Whether the build of the wheel started no compiler."""
        return self.machine == _NONE_STARTED

    @cached_property
    def without_compilers(self) -> Recipe:
        """The recipe under which a wheel is kept if its build started no compiler."""
        if not self.machine or self.has_no_compilers:
            return self
        return replace(self, machine=_NONE_STARTED, unused=tuple(self.machine))

    @cached_property
    def for_processor(self) -> Recipe:
        """The recipe of a wheel that was compiled for this processor alone."""
        return replace(
            self, machine={**self.machine, _PROCESSOR: self.find_processor()}
        )

    @property
    def processor(self) -> str:
        """The only processor that the wheel is for; empty if there are others."""
        return self.machine.get(_PROCESSOR, "")

    @cached_property
    def alternatives(self) -> tuple[Recipe, ...]:
        """The recipes under which most wheels are kept; a build tells which it is."""
        return (self, self.without_compilers) if self.machine else (self,)

    @property
    def all_alternatives(self) -> tuple[Recipe, ...]:
        """All recipes under which the wheel may be kept."""
        return (*self.alternatives, self.for_processor)

    def accepts(self, kept: Recipe) -> bool:
        """Whether a wheel kept under a recipe is the wheel of this recipe.

        A build without compilers might have started a compiler if the machine had more.
        """
        if kept.processor:
            return kept.key in (self.key, self.for_processor.key)
        return any(
            it.key == kept.key and {*it.unused} <= {*kept.unused}
            for it in self.alternatives
        )

    def compare(self, earlier: Recipe) -> tuple[str, ...]:
        """Describe each difference from the recipe of an earlier wheel.

        Compilers and processors differ only for builds that depend on them.
        """
        new, machine = self, earlier.machine
        if earlier.processor and not self.has_no_compilers:
            new = self.for_processor
        if self.has_no_compilers:
            machine = self.machine
        elif earlier.has_no_compilers:
            known = self.machine.keys() & {*earlier.unused}
            machine = {it: self.machine[it] for it in known}
        if earlier.scheme == self.scheme:
            earlier = replace(earlier, machine=machine)
        return describe_changes(earlier, new)

    def differs_by_python(self, other: Recipe) -> bool:
        """Whether another recipe differs only by its Python.

        The environments may have wheels for another Python, and packages that only one
        of the two needs. Common packages have the same version.
        """
        mine, its = self.environment, other.environment
        same = replace(other, interpreter=self.interpreter, environment=mine)
        return same == self and all(
            mine[name].version == its[name].version for name in mine.keys() & its.keys()
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON, with the same mappings, not copies.

        Empty optional fields are left out: older recipes keep their keys.
        """
        value = to_dict(self)
        value["environment"] = {
            name: ingredient.to_dict() for name, ingredient in self.environment.items()
        }
        value["patches"] = tuple(map(to_dict, self.patches))
        for name in (*_NOT_WRITTEN, *(it for it in _OPTIONAL if not value[it])):
            del value[name]
        if self.scheme == 1:
            del value["scheme"]
        return value

    @classmethod
    def from_dict(cls, value: object) -> Recipe:
        """Return the recipe whose ``to_dict`` returned a value.

        Raises:
            UnreadableError: The value is malformed, or has another scheme.
        """
        table = reader.Table(value)
        texts = reader.mapping_of(reader.text)
        table.refuse_others(field_names(cls))
        return cls(
            name=table.get("name", reader.text),
            version=table.get("version", reader.text),
            source=table.get("source", reader.text),
            environment=table.get(
                "environment", reader.mapping_of(reader.table(_read_ingredient))
            ),
            env=table.get("env", texts),
            config_settings=table.get(
                "config_settings", reader.mapping_of(read_setting)
            ),
            interpreter=table.get("interpreter", texts),
            tools=table.get("tools", texts),
            patches=table.get("patches", reader.list_of(reader.table(_read_patch)), ()),
            network=table.get("network", reader.boolean, default=False),
            open_files=table.get("open_files", reader.boolean, default=False),
            own_cuda=table.get("own_cuda", reader.boolean, default=False),
            code=table.get("code", reader.text, ""),
            requires_dist=table.get("requires_dist", reader.list_of(reader.text), ()),
            machine=table.get("machine", texts, {}),
            unused=table.get("unused", reader.list_of(reader.text), ()),
            passed=table.get("passed", texts, {}),
            scheme=table.get("scheme", reader.integer, 1),
        )


def _read_ingredient(table: reader.Table) -> Ingredient:
    table.refuse_others(field_names(Ingredient))
    return Ingredient(
        version=table.get("version", reader.text),
        sha256=table.get("sha256", reader.text),
        stage=table.get("stage", reader.text),
    )


def _read_patch(table: reader.Table) -> AppliedPatch:
    return AppliedPatch(
        sha256=table.get("sha256", reader.text), name=table.get("name", reader.text)
    )


def read_setting(value: object) -> str | tuple[str, ...]:
    """Read a config setting of a build backend."""
    if isinstance(value, str):
        return reader.text(value)
    return reader.list_of(reader.text)(value)


def digest_json(
    value: object, *, default: Callable[[object], str] | None = None
) -> str:
    """Return the sha256 of a JSON value, in hex; the order of keys doesn't matter.

    ``default`` converts objects that JSON doesn't know.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=default)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_values(variables: Mapping[str, str]) -> str:
    """Return a digest of variables for a key, which is slow to guess values by."""
    text = json.dumps(variables, sort_keys=True).encode()
    return hashlib.pbkdf2_hmac("sha256", text, b"nox-buildstages", _ROUNDS).hex()


def seal_values(variables: Mapping[str, str], salt: str) -> dict[str, str]:
    """Return a digest of the value of each variable, to compare under the same salt."""
    sealed = {}
    for name, value in variables.items():
        text = f"{name}={value}".encode()
        sealed[name] = (
            f"hmac-sha256:{hmac.new(salt.encode(), text, 'sha256').hexdigest()[:32]}"
        )
    return sealed


def digest_parts(parts: Mapping[str, object]) -> str:
    """Return a short digest of each part, to compare the parts of two machines."""
    digests = {name: digest_json(parts[name], default=str) for name in parts}
    return ", ".join(f"{name} {digest[:8]}" for name, digest in digests.items())


def describe_changes(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Describe each difference between two recipes, the most telling first."""
    if old.scheme == new.scheme:
        return tuple(_changes(old, new))
    interpreter = {**new.interpreter, **old.interpreter}
    old = replace(old, machine=new.machine, interpreter=interpreter)
    if old.scheme == 1:  # then ``env`` also had the values of passed variables
        known = {it: old.env[it] for it in old.env if new.env.get(it) == old.env[it]}
        unknown = dict.fromkeys(old.env.keys() - known.keys(), "")
        old = replace(old, env=known, passed=unknown)
    line = f"keys are computed in a new way (scheme {old.scheme} → {new.scheme})"
    return (line, *_changes(old, new))


def stage_wheel_changes(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Return the wheels of stages that have other bytes and the same version."""
    return tuple(
        name
        for name, before, after in diff(old.environment, new.environment)
        if before and after and after.stage and before.version == after.version
    )


def _changes(old: Recipe, new: Recipe) -> Iterator[str]:
    if old.name != new.name:
        yield f"name {old.name} → {new.name}"
    if old.version != new.version:
        yield f"version {old.version} → {new.version}"
    elif old.source != new.source:
        parts = (it.source.partition("#") for it in (old, new))
        kinds = {(it.partition(":")[0], rest) for it, _, rest in parts}
        is_edited = len(kinds) == 1 and new.source.startswith("tree:")
        sources = f"source {_short(old.source)} → {_short(new.source)}"
        yield "files of its folder changed" if is_edited else sources
    if old.patches != new.patches:
        yield f"patches: {', '.join(_patch_changes(old.patches, new.patches))}"
    for name, before, after in diff(old.environment, new.environment):
        yield _ingredient_change(name, before, after)
    yield from _variable_changes(old, new)
    for kind, was, now, absent in (
        ("config setting", old.config_settings, new.config_settings, "unset"),
        ("interpreter", old.interpreter, new.interpreter, "unset"),
        ("tool", old.tools, new.tools, "not declared"),
        ("machine's", old.machine, new.machine, "not found"),
    ):
        for name, *values in diff(was, now):
            yield f"{kind} {name} {_show(*values, absent=absent)}"
    yield from _requirement_changes(old, new)
    for name, last, wanted in diff(_switches(old), _switches(new)):
        yield f"{name} {last} → {wanted}"
    places = ["the machine", "the environment"]
    if old.own_cuda != new.own_cuda:
        yield f"CUDA of {places[old.own_cuda]} → of {places[new.own_cuda]}"
    yield from ["the code before the build changed"] * (old.code != new.code)


def _requirement_changes(old: Recipe, new: Recipe) -> Iterator[str]:
    """Yield the changes of what the table corrects in the requirements of the wheel."""
    for text in sorted({*old.requires_dist} ^ {*new.requires_dist}):
        verb = "is new" if text in new.requires_dist else "was removed"
        yield f"requires-dist: {text} {verb}"


def _switches(recipe: Recipe) -> dict[str, str]:
    return {
        "network": "on" if recipe.network else "off",
        "sandbox": "off" if recipe.open_files else "on",
    }


def _variable_changes(old: Recipe, new: Recipe) -> Iterator[str]:
    """Yield the changes of variables; a value that was passed is never shown."""
    hidden = old.passed.keys() | new.passed.keys()
    for name, *values in diff({**old.env, **old.passed}, {**new.env, **new.passed}):
        if name not in hidden:
            yield f"env {name} {_show(*values)}"
        elif None in values:
            yield f"env {name} {'unset → set' if values[0] is None else 'set → unset'}"
        else:
            yield f"env {name} changed"


def _show(before: object, after: object, *, absent: str = "unset") -> str:
    pairs = (before, after), (after, before)
    parts = ((value, _telling_part(value, other)) for value, other in pairs)
    return " → ".join(
        absent if value is None else describe_failed_version(part) or repr(part)
        for value, part in parts
    )


def _telling_part(value: object, other: object) -> object:
    """Return a value, or the first line of a text that another text hasn't."""
    if isinstance(value, str) and "\n" in value:
        lines, known = value.splitlines(), str(other).splitlines()
        return next((line for line in lines if line not in known), lines[0])
    return value


def describe_failed_version(version: object) -> str:
    """Return why a program has no version, in words; empty if it has one.

    A recipe has ``exit status 1`` in place of the version if a compiler is found but
    can't print it, such as that of a rustup without a toolchain.
    """
    is_failed = isinstance(version, str) and version.startswith("exit status ")
    return f"found, but --version fails ({version})" if is_failed else ""


def _ingredient_change(
    name: str, old: Ingredient | None, new: Ingredient | None
) -> str:
    if new is None:
        return f"{name} was removed from the environment"
    if old is None:
        return f"{name} {new.version} was added to the environment"
    if old.version != new.version:
        return f"{name} {old.version} → {new.version}"
    if new.stage:
        return f"the wheel {name} of stage {new.stage} changed"
    return f"{name} {new.version} is a different wheel file"


def _patch_changes(
    old: tuple[AppliedPatch, ...], new: tuple[AppliedPatch, ...]
) -> Iterator[str]:
    """Yield the changes of patches, or a change of only their order."""
    removed = {patch.name for patch in old if patch not in new}
    added = {patch.name for patch in new if patch not in old}
    yield from (f"{name} changed" for name in sorted(removed & added))
    yield from (f"{name} was added" for name in sorted(added - removed))
    yield from (f"{name} was removed" for name in sorted(removed - added))
    if not removed and not added:
        yield "their order changed"


def _short(source: str) -> str:
    identity, hashed, subdirectory = source.partition("#")
    kind, _, digest = identity.rpartition(":")
    return f"{kind}:{digest[:12]}{hashed}{subdirectory}"
