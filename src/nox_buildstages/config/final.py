"""Reading the runtime: the final table, and what it takes from the rest of the file."""

from __future__ import annotations

import json
from copy import copy
from typing import TYPE_CHECKING, Any

from packaging.dependency_groups import DependencyGroupResolver
from packaging.errors import ExceptionGroup
from packaging.utils import canonicalize_name

from nox_buildstages.config.getters import (
    Item,
    Keys,
    any_table,
    boolean,
    by_name,
    did_you_mean,
    list_of,
    module,
    normalized,
    some,
    string,
    table,
)
from nox_buildstages.config.requirements import located, requirement
from nox_buildstages.model import Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from nox_buildstages.config.getters import Document

_KEYS = Keys(
    known=("requirements", "extras", "groups", "project", "imports", "checks"),
)
_requirements = list_of(requirement)


def final(item: Item) -> Final | None:
    """Read the table ``final``."""
    found = table(item, _KEYS)
    if found is None:
        return None
    requirements = found.get("requirements", _requirements, ())
    if "requirements" not in found:
        requirements = _declared(item)
    extras = found.get("extras", _extras, ())
    groups = found.get("groups", list_of(_group), ())
    project = found.child("project", _project)
    return Final(
        requirements=(*requirements, *extras, *(it for each in groups for it in each)),
        imports=found.get("imports", list_of(module), ()),
        checks=found.get("checks", _checks, ()),
        project=project,
        build_system={} if project is None else _build_system(item.document),
    )


def _project(item: Item) -> NormalizedName | None:
    """Read whether the project is installed too; return its name then."""
    if not boolean(item):
        return None
    name = item.document.at("project", "name")
    if name is None:
        item.fault("this file has no name in [project], so it is no project to install")
        return None
    return normalized(name)


def _build_system(document: Document) -> Mapping[str, Any]:
    found = document.at("build-system")
    system = None if found is None else any_table(found)
    if found is None or system is None:
        return {}
    if "requires" in system:
        list_of(requirement)(found.child("requires", system["requires"]))
    else:
        found.fault("requires is missing")
    return system


def _check(item: Item) -> tuple[str, ...] | None:
    words = item.value.split() if isinstance(item.value, str) else ()
    hint = f"write {json.dumps(words, ensure_ascii=False)}" if words else None
    arguments = some(list_of(string, hint=hint), "argument")(item)
    if arguments and not arguments[0].strip():
        item.expected("a program first")
    return arguments


_checks = list_of(_check, "lists of strings", hint='write [["python", "-m", "pytest"]]')


def _declared(item: Item) -> tuple[Requirement, ...]:
    """Read the requirements of the project itself."""
    if _is_dynamic(item.document, "dependencies"):
        item.fault(
            "requirements is missing; the dependencies of this project are dynamic, "
            "so they can't be taken from [project]"
        )
        return ()
    dependencies = item.document.at("project", "dependencies")
    return () if dependencies is None else _requirements(dependencies) or ()


def _is_dynamic(document: Document, key: str) -> bool:
    dynamic = document.at("project", "dynamic")
    return dynamic is not None and key in (list_of(string)(dynamic) or ())


def _extras(item: Item) -> tuple[Requirement, ...] | None:
    wanted = list_of(lambda child: child)(item)
    if not wanted:
        return None
    optional = item.document.at("project", "optional-dependencies")
    declared = None if optional is None else by_name(optional)
    extras = _Extras(item.document, declared or {})
    return tuple(it for child in wanted for it in extras.asked(child))


class _Extras:
    """The extras of the project, those that name others spelled out."""

    def __init__(
        self, document: Document, declared: Mapping[NormalizedName, Item]
    ) -> None:
        self._declared = declared
        name = document.at("project", "name")
        read = None if name is None else normalized(name)
        self._project: str = read or ""

    def asked(self, item: Item) -> Iterator[Requirement]:
        """Yield the requirements of an extra that the user names."""
        name = normalized(item)
        if name is None:
            return
        if name not in self._declared:
            hint = did_you_mean(name, self._declared)
            item.fault(f"this project has no extra {item.value!r}{hint}")
        yield from self._spelled_out(name, ())

    def _spelled_out(
        self, name: NormalizedName, via: tuple[NormalizedName, ...]
    ) -> Iterator[Requirement]:
        if name in via or name not in self._declared:
            return
        for found in _requirements(self._declared[name]) or ():
            if canonicalize_name(found.name) != self._project:
                yield found
                continue
            for extra in sorted(found.extras):
                inner = self._spelled_out(canonicalize_name(extra), (*via, name))
                yield from (_under(it, found) for it in inner)


def _under(inner: Requirement, outer: Requirement) -> Requirement:
    """Return a requirement that holds only where an outer one does."""
    if outer.marker is None:
        return inner
    both = copy(inner)
    both.marker = outer.marker if inner.marker is None else outer.marker & inner.marker
    return both


def _group(item: Item) -> tuple[Requirement, ...] | None:
    name = string(item)
    if name is None:
        return None
    groups = item.document.at("dependency-groups")
    declared = {} if groups is None else any_table(groups) or {}
    known = {canonicalize_name(key): key for key in declared}
    if canonicalize_name(name) not in known:
        hint = did_you_mean(name, declared)
        item.fault(f"this file has no dependency group {name!r}{hint}")
        return None
    try:
        found = DependencyGroupResolver(declared).resolve(name)
    except ExceptionGroup as error:
        for reason in error.exceptions:
            item.fault(str(reason).partition("\n")[0])
        return None
    return tuple(located(it, item) for it in found)
