"""The runtime: the table ``final``, and the project's own dependencies."""

from __future__ import annotations

import json
from copy import copy
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from nox_buildstages.config import getters
from nox_buildstages.config.getters import Item, Key
from nox_buildstages.config.values import make_absolute, requirements
from nox_buildstages.model import Final
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from nox_buildstages.config.getters import Document


def read_final(item: Item) -> Final | None:
    """Read the table ``final``."""
    values = getters.read_table(item, FINAL)
    if values is None:
        return None
    wanted = values.pop("requirements")
    key = Final.requirements_key
    if wanted is None:
        is_missing = "requirements" not in (getters.raw_table(item) or {})
        wanted = _project_dependencies(item) if is_missing else ()
        if is_missing and item.document.find("project", "dependencies") is not None:
            key = "[project] dependencies"
    groups = dict(values.pop("groups"))
    extras = _Extras.of(item.document)
    found = [*extras.expand(wanted)]
    chosen = values.pop("extras")
    for extra in chosen:
        found += extras.require(extra)
    for group in groups.values():
        found += extras.expand(group)
    reached = (extra for _, extra in found if extra is not None)
    own = values["project"]
    return Final(
        requirements=tuple(it for it, _ in found),
        requirements_key=key,
        extras=tuple(dict.fromkeys((*chosen, *reached))),
        groups=tuple(groups),
        build_system={} if own is None else _build_system(item),
        **values,
    )


def _project_dependencies(item: Item) -> tuple[Requirement, ...]:
    """Read ``[project] dependencies``."""
    document = item.document
    dynamic = document.find("project", "dynamic")
    if dynamic and "dependencies" in (getters.list_of(getters.string)(dynamic) or ()):
        item.fault(
            "requirements is missing; the dependencies of this project are dynamic, "
            "so they can't be taken from [project]"
        )
        return ()
    dependencies = document.find("project", "dependencies")
    return () if dependencies is None else requirements(dependencies) or ()


def _build_system(item: Item) -> Mapping[str, Any]:
    """Read ``[build-system]`` unchanged, and check the requirements."""
    found = item.document.find("build-system")
    system = None if found is None else getters.raw_table(found)
    if found is None or system is None:
        return {}
    if "requires" in system:
        requirements(found.child("requires", system["requires"]))
    else:
        found.fault("requires is missing")
    return system


def own_project(item: Item) -> NormalizedName | None:
    """Read whether to install the project; return the project's name if so."""
    if not getters.boolean(item):
        return None
    name = item.document.find("project", "name")
    if name is None:
        item.fault("this file has no name in [project], so it is no project to install")
        return None
    return getters.project_name(name)


def check_command(item: Item) -> tuple[str, ...] | None:
    """Read a program with arguments."""
    words = item.value.split() if isinstance(item.value, str) else ()
    hint = f"write {json.dumps(words, ensure_ascii=False)}" if words else None
    arguments = getters.non_empty(
        getters.list_of(getters.string, hint=hint), "argument"
    )(item)
    if arguments and not arguments[0].strip():
        item.expect("a program first")
    return arguments


def extra_name(item: Item) -> NormalizedName | None:
    """Read the name of an extra of the project."""
    extra = getters.project_name(item)
    declared = _Extras.of(item.document).declared
    if extra is not None and extra not in declared:
        hint = getters.did_you_mean(extra, declared)
        item.fault(f"this project has no extra {item.value!r}{hint}")
        return None
    return extra


class _Extras(Value):
    """The extras of a project, whose requirements may name each other."""

    name: NormalizedName | None  # of the project
    declared: Mapping[NormalizedName, Item]

    @classmethod
    def of(cls, document: Document) -> _Extras:
        optional = document.find("project", "optional-dependencies")
        name = document.find("project", "name")
        return cls(
            name=None if name is None else getters.project_name(name),
            declared=(optional and getters.items_by_name(optional)) or {},
        )

    def require(
        self, extra: NormalizedName, via: tuple[NormalizedName, ...] = ()
    ) -> Iterator[tuple[Requirement, NormalizedName | None]]:
        """Yield the requirements of an extra, each with the extra that has it."""
        if extra not in via and extra in self.declared:
            found = requirements(self.declared[extra]) or ()
            yield from self.expand(found, (*via, extra))

    def expand(
        self, found: Iterable[Requirement], via: tuple[NormalizedName, ...] = ()
    ) -> Iterator[tuple[Requirement, NormalizedName | None]]:
        """Yield requirements; after the project, yield those of the extras."""
        for outer in found:
            is_own = canonicalize_name(outer.name) == self.name
            if not (is_own and via):
                yield outer, via[-1] if via else None
            if not is_own:
                continue
            for extra in map(canonicalize_name, sorted(outer.extras)):
                for inner, origin in self.require(extra, via):
                    yield _with_marker(inner, outer), origin


def _with_marker(inner: Requirement, outer: Requirement) -> Requirement:
    """Return a requirement restricted by the marker of an outer requirement."""
    if outer.marker is None:
        return inner
    both = copy(inner)
    both.marker = outer.marker if inner.marker is None else outer.marker & inner.marker
    return both


def extra_requirements(item: Item) -> tuple[Requirement, ...] | None:
    """Read the name of an extra of the project; return its requirements."""
    name = extra_name(item)
    found = () if name is None else _Extras.of(item.document).require(name)
    return tuple(it for it, _ in found)


def group_requirements(
    item: Item,
) -> tuple[NormalizedName, tuple[Requirement, ...]] | None:
    """Read the name of a dependency group; return name and requirements."""
    name = getters.string(item)
    if name is None:
        return None
    groups = item.document.find("dependency-groups")
    declared = (groups and getters.raw_table(groups)) or {}
    if canonicalize_name(name) not in map(canonicalize_name, declared):
        hint = getters.did_you_mean(name, declared)
        item.fault(f"this file has no dependency group {name!r}{hint}")
        return None
    from packaging.dependency_groups import DependencyGroupResolver  # noqa: PLC0415
    from packaging.errors import ExceptionGroup  # noqa: PLC0415 - few take a group

    try:
        found = DependencyGroupResolver(declared).resolve(name)
    except ExceptionGroup as error:
        for reason in error.exceptions:
            item.fault(str(reason).partition("\n")[0])
        return None
    return canonicalize_name(name), tuple(make_absolute(it, item) for it in found)


FINAL: Mapping[str, Key] = {
    "requirements": Key(
        requirements,
        type="list of requirements",
        default_text="`[project] dependencies` of the file",
        example='requirements = ["flash-attn", "models"]',
        text="The requirements of the runtime environment. If the project's"
        " dependencies are dynamic, the key is required.",
        in_locks=True,
        has_placeholders=True,
    ),
    "extras": Key(
        getters.list_of(extra_name),
        default=[],
        type="list of names",
        example='extras = ["gpu"]',
        text="Extras of this project, from `[project.optional-dependencies]`.",
        in_locks=True,
    ),
    "groups": Key(
        getters.list_of(group_requirements),
        default=[],
        type="list of names",
        example='groups = ["test"]',
        text="Dependency groups of this file ([PEP"
        " 735](https://peps.python.org/pep-0735/)).",
        in_locks=True,
    ),
    "project": Key(
        own_project,
        default=False,
        type="boolean",
        example="project = true",
        text="Whether [the project itself](../how-to/own-project.md) is installed too,"
        " editable, as `[build-system]` of the file says. The project needs a name in"
        " `[project]`, and no stage may build it. It is an error if the runtime"
        " environment lacks a requirement of the project.",
        in_locks=True,
    ),
    "imports": Key(
        getters.list_of(getters.module_name),
        default=[],
        type="list of modules",
        example='imports = ["flash_attn"]',
        text="Modules that are imported in the runtime environment, with `python -I`."
        " After they have worked, they are imported again [only if something has"
        " changed](../explanation/environments.md#imports-that-worked).",
    ),
    "checks": Key(
        getters.list_of(
            check_command, "lists of strings", hint='write [["python", "-m", "pytest"]]'
        ),
        default=[],
        type="list of lists of strings",
        example='checks = [["python", "-m", "pytest", "-q"]]',
        text="Programs with their arguments that are run in the runtime environment,"
        " in the folder of the `pyproject.toml`.",
        has_placeholders=True,
    ),
    "pass-env": Key(
        getters.list_of(getters.variable_name),
        default=[],
        type="list of names",
        example='pass-env = ["HF_TOKEN"]',
        text="Environment variables from outside that imports and checks see, beside"
        " [those that they always"
        " see](environment-variables.md#what-imports-and-checks-see).",
    ),
}
