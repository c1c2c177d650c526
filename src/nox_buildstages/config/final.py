"""The runtime: the table ``final``, and the project's own dependencies."""

from __future__ import annotations

import json
from copy import copy
from typing import TYPE_CHECKING, Any

from packaging.dependency_groups import DependencyGroupResolver
from packaging.errors import ExceptionGroup
from packaging.utils import canonicalize_name

from nox_buildstages.config import getters
from nox_buildstages.config.getters import Item, Key
from nox_buildstages.config.values import make_absolute, requirements
from nox_buildstages.model import Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName


def read_final(item: Item) -> Final | None:
    """Read the table ``final``."""
    values = getters.read_table(item, FINAL)
    if values is None:
        return None
    wanted = values.pop("requirements")
    if wanted is None:
        is_missing = "requirements" not in (getters.raw_table(item) or {})
        wanted = _project_dependencies(item) if is_missing else ()
    extras = values.pop("extras")
    groups = (it for group in values.pop("groups") for it in group)
    own = values["project"]
    return Final(
        requirements=(*wanted, *extras, *groups),
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


def extra_requirements(item: Item) -> tuple[Requirement, ...] | None:
    """Read extras of the project; return their requirements."""
    children = getters.list_of(lambda child: child)(item)
    if not children:
        return None if children is None else ()
    document = item.document
    optional = document.find("project", "optional-dependencies")
    name = document.find("project", "name")
    declared = (optional and getters.items_by_name(optional)) or {}
    own = None if name is None else getters.project_name(name)
    wanted: list[Requirement] = []
    for child in children:
        extra = getters.project_name(child)
        if extra is not None and extra not in declared:
            hint = getters.did_you_mean(extra, declared)
            child.fault(f"this project has no extra {child.value!r}{hint}")
        elif extra is not None:
            wanted += _expand(extra, declared, own)
    return tuple(wanted)


def _expand(
    extra: NormalizedName,
    declared: Mapping[NormalizedName, Item],
    own: NormalizedName | None,
    via: tuple[NormalizedName, ...] = (),
) -> Iterator[Requirement]:
    """Yield an extra's requirements; requirements of the project are expanded."""
    if extra in via or extra not in declared:
        return
    for found in requirements(declared[extra]) or ():
        if canonicalize_name(found.name) != own:
            yield found
            continue
        for inner in sorted(found.extras):
            name = canonicalize_name(inner)
            for it in _expand(name, declared, own, (*via, extra)):
                yield _with_marker(it, found)


def _with_marker(inner: Requirement, outer: Requirement) -> Requirement:
    """Return a requirement restricted by the marker of an outer requirement."""
    if outer.marker is None:
        return inner
    both = copy(inner)
    both.marker = outer.marker if inner.marker is None else outer.marker & inner.marker
    return both


def group_requirements(item: Item) -> tuple[Requirement, ...] | None:
    """Read the name of a dependency group; return the group's requirements."""
    name = getters.string(item)
    if name is None:
        return None
    groups = item.document.find("dependency-groups")
    declared = (groups and getters.raw_table(groups)) or {}
    if canonicalize_name(name) not in map(canonicalize_name, declared):
        hint = getters.did_you_mean(name, declared)
        item.fault(f"this file has no dependency group {name!r}{hint}")
        return None
    try:
        found = DependencyGroupResolver(declared).resolve(name)
    except ExceptionGroup as error:
        for reason in error.exceptions:
            item.fault(str(reason).partition("\n")[0])
        return None
    return tuple(make_absolute(it, item) for it in found)


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
        extra_requirements,
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
        text="Modules that are imported in the runtime environment, with `python -I`.",
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
}
