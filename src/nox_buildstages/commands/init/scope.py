"""The scope of `build-stages-init`: dependencies, chosen extras and groups, names.

All of it becomes part of the runtime environment, so the table has to name it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.commands.init.pyproject import Change
from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.config.table import TOOL
from nox_buildstages.config.values import correct_requirement
from nox_buildstages.declarations.declared import as_table
from nox_buildstages.declarations.workspace import get_table
from nox_buildstages.errors import UsageError
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.declarations.declared import Declared
    from nox_buildstages.workspace.session_options import Options

OWN_GROUP = "build-stages"
"""The dependency group for packages that no dependency names yet."""

AXIS = "variant"
"""The name of the axis for extras and groups that exclude each other."""

FINAL = ("tool", TOOL, "final")
MATRIX = ("tool", TOOL, "matrix")

ROOT_VARIABLE = "${PROJECT_ROOT}"
"""A part of URLs that only PDM understands."""


class Part(Value):
    """An extra or a dependency group."""

    kind: str  # extra or group
    name: str
    entries: tuple[Any, ...]
    is_foreign: bool = False  # whether another tool declares it, so final can't name it

    @property
    def names_file(self) -> bool:
        """Whether it is a requirements file, beside what the project declares."""
        return self.name.endswith(".txt")

    @property
    def key(self) -> tuple[str, NormalizedName]:
        """The kind and the normalized name."""
        return self.kind, canonicalize_name(self.name)

    def __str__(self) -> str:
        name = self.name if self.names_file else f"{self.kind} {self.name}"
        return f"{name} ({len(self.entries)})"


class Scope(Value):
    """The dependencies to look at, and the declarations they need in pyproject.toml."""

    changes: tuple[Change, ...] = ()
    number: int = 0  # of dependencies, without extras and groups
    included: tuple[Part, ...] = ()
    left_out: tuple[Part, ...] = ()
    variants: tuple[tuple[Part, ...], ...] = ()
    """Sets of parts that exclude each other: an axis of the matrix for each."""
    notes: tuple[str, ...] = ()
    """Lines about declarations that the table leaves out, or has in another form."""

    def describe(self) -> str:
        """Return the dependencies to look at, and the others, in one line."""
        noun = "dependency" if self.number == 1 else "dependencies"
        parts = [f"looked at {self.number} {noun}", *map(str, self.included)]
        parts += (
            " or ".join(map(str, members)) for members in self.variants if members
        )
        line = ", ".join(parts)
        if self.left_out:
            line += f"; not looked at: {', '.join(map(str, self.left_out))}"
        return line

    @property
    def hint(self) -> str:
        """How to look at more."""
        if not self.left_out:
            return "name packages: nox -s build-stages-init -- NAME"
        first = self.left_out[0]
        word = f"--{first.kind} {first.name}"
        every = "" if first.names_file else ", or --all"
        return f"to look at more: nox -s build-stages-init -- {word}{every}"


def choose_scope(
    document: Mapping[str, Any], foreign: Declared, options: Options
) -> Scope:
    """Return what the words after ``--`` choose, beside the dependencies.

    Raises:
        UsageError: An extra or group doesn't exist, or a name is no requirement.
    """
    ours, uv, own, final = (
        get_table(document, *steps)
        for steps in (("tool", TOOL), ("tool", "uv"), ("project",), FINAL)
    )
    parts = [*_list_parts(document, foreign)]
    chosen = _choose_parts(parts, final, options)

    # Parts that exclude each other become an axis, unless one of them is chosen.
    variants = []
    for conflict in () if "matrix" in ours else uv.get("conflicts", ()):
        entries = {
            (kind, canonicalize_name(str(entry[kind])))
            for entry in conflict
            for kind in ("extra", "group")
            if kind in entry
        }
        members = tuple(part for part in parts if part.key in entries)
        if len(members) > 1 and len(entries & chosen) != 1:
            variants.append(members)
            chosen -= entries
    in_axes = {part.key for members in variants for part in members}
    included = tuple(part for part in parts if part.key in chosen)

    # Find what the table can't name: requirements of other tools, and new names.
    requirements = [*final.get("requirements", own.get("dependencies", ()))]
    more: list[str] = []
    is_explicit = "requirements" in final
    if foreign.requirements and not is_explicit:
        requirements = [it for it in requirements if ROOT_VARIABLE not in it]
    more += foreign.requirements
    of_parts = [it for part in included if part.is_foreign for it in part.entries]
    more += of_parts
    strings = (it for part in included for it in part.entries if isinstance(it, str))
    known = {*map(_name_of, (*requirements, *more, *strings))}
    names = [it for it in options.names if _name_of(it) not in known]
    is_in_project = requirements and not more and not is_explicit
    group = names if is_in_project else []
    more += [] if is_in_project else names

    declared = {*map(_name_of, requirements)}
    added = [it for it in dict.fromkeys(more) if _name_of(it) not in declared]
    return Scope(
        changes=tuple(
            _list_changes(
                document,
                requirements=[*requirements, *added] if added else [],
                group=group,
                included=included,
                variants=variants,
                constraints=foreign.constraints,
            )
        ),
        number=len({*requirements, *added, *group}.difference(of_parts)),
        included=included,
        left_out=tuple(it for it in parts if it.key not in chosen | in_axes),
        variants=tuple(variants),
        notes=tuple(_compare(requirements, own, foreign)) if is_explicit else (),
    )


def _compare(
    requirements: Sequence[str], own: Mapping[str, Any], foreign: Declared
) -> Iterator[str]:
    """Yield how the requirements in the table differ from other declarations."""
    declared = {_name_of(it): it for it in requirements}
    missing = [it for it in own.get("dependencies", ()) if _name_of(it) not in declared]
    if missing:
        yield (
            f"not looked at: {', '.join(missing)} of [project] dependencies, which"
            " requirements of final leaves out"
        )
    for text in foreign.requirements:
        known = declared.get(_name_of(text), text)
        if known != text:
            yield f"{foreign.origin} has {text}, and requirements of final {known}"


def _choose_parts(
    parts: Sequence[Part], final: Mapping[str, Any], options: Options
) -> set[tuple[str, NormalizedName]]:
    """Return the keys of the extras and groups that are chosen now, or were before."""
    keys = {part.key for part in parts}
    chosen = {
        *(("extra", canonicalize_name(it)) for it in final.get("extras", ())),
        *(("group", canonicalize_name(it)) for it in final.get("groups", ())),
    }
    for kind, names in {"extra": options.extras, "group": options.groups}.items():
        known = [part.name for part in parts if part.kind == kind]
        for name in names:
            key = kind, canonicalize_name(name)
            if key not in keys:
                raise UsageError(
                    problem=f"--{kind} {name}: there is no such {kind}"
                    f"{did_you_mean(name, known)}",
                    hint=f"this project has: {', '.join(known) or f'no {kind}s'}",
                )
            chosen.add(key)
    if options.all:
        chosen |= {part.key for part in parts if not part.names_file}
    return chosen


def _list_changes(  # noqa: PLR0913 - all that the table has to name
    document: Mapping[str, Any],
    *,
    requirements: Sequence[str],
    group: Sequence[str],
    included: Sequence[Part],
    variants: Sequence[Sequence[Part]],
    constraints: Sequence[str],
) -> Iterator[Change]:
    """Yield what the file has to declare."""
    lists: dict[tuple[tuple[str, ...], str], Sequence[str]] = {
        (("tool", TOOL), "constraints"): constraints,
        (FINAL, "extras"): [
            it.name for it in included if it.kind == "extra" and not it.is_foreign
        ],
        (FINAL, "groups"): [
            *(it.name for it in included if it.kind == "group" and not it.is_foreign),
            *([OWN_GROUP] if group else ()),
        ],
        (("dependency-groups",), OWN_GROUP): group,
    }
    if requirements:
        yield Change(table=FINAL, key="requirements", value=requirements)
    for (table, key), wanted in lists.items():
        before = [*get_table(document, *table).get(key, ())]
        known = {*map(str.lower, before)}
        new = [it for it in dict.fromkeys(wanted) if it.lower() not in known]
        if new:
            yield Change(table=table, key=key, value=[*before, *new])
    for number, members in enumerate(variants, start=1):
        axis = AXIS if len(variants) == 1 else f"{AXIS}-{number}"
        values = {part.name: {f"{part.kind}s": [part.name]} for part in members}
        yield Change(table=MATRIX, key=axis, value=values)


def _list_parts(document: Mapping[str, Any], foreign: Declared) -> Iterator[Part]:
    """Yield all extras and groups."""
    own = as_table(document.get("project"))
    for kind, table, others in (
        ("extra", own.get("optional-dependencies"), foreign.extras),
        ("group", document.get("dependency-groups"), foreign.groups),
    ):
        for name, entries in as_table(table).items():
            yield Part(kind=kind, name=name, entries=tuple(entries))
        for name, entries in others.items():
            if name not in as_table(table):
                yield Part(kind=kind, name=name, entries=entries, is_foreign=True)


def _name_of(text: str) -> NormalizedName:
    """Return the project that a requirement names.

    Raises:
        UsageError: The text is no requirement.
    """
    try:
        return canonicalize_name(Requirement(text).name)
    except InvalidRequirement as error:
        raise UsageError(
            problem=f"{text!r} is not a requirement",
            hint=correct_requirement(text)
            or "name a package as in [project] dependencies, such as flash-attn",
        ) from error
