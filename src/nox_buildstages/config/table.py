"""From ``[tool.nox-buildstages]`` of a pyproject.toml to the model."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.markers import InvalidMarker, Marker

from nox_buildstages.config.final import final
from nox_buildstages.config.getters import (
    Document,
    Item,
    Keys,
    any_table,
    boolean,
    by_name,
    duration,
    list_of,
    mapping,
    normalized,
    size,
    some,
    string,
    table,
    text,
    variable,
)
from nox_buildstages.config.local_version import local_version
from nox_buildstages.config.requirements import output, requirement
from nox_buildstages.model import (
    FINAL,
    PROJECT,
    Final,
    PackageRules,
    Patch,
    Project,
    RemoteStore,
    Stage,
)

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from nox_buildstages.config.getters import Getter
    from nox_buildstages.model import CompilerCache, Network

TOOL = "nox-buildstages"
# Stands in for a faulty one until the problems are told.
_NOTHING = Final(requirements=())

_TAKEN = {
    FINAL: "the runtime's lock file",
    PROJECT: "the lock file for the project itself",
}
_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PYTHON = re.compile(r"([0-9]+\.[0-9]+)(\.[0-9]+)?")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(T[0-9]{2}:[0-9]{2}:[0-9]{2})?(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


def project(item: Item) -> Project | None:
    """Read the table; None where it is none, or has a key that isn't known."""
    top = table(item, _TOP)
    if top is None:
        return None
    stages = top.get("stage", _stages, ())
    runtime = final(top.item.child("final", top.content.get("final", {}))) or _NOTHING
    _check_own(item, runtime, stages)
    return Project(
        pyproject=item.document.path,
        pythons=top.get("python", _pythons, ()),
        environments=top.get("environments", list_of(_marker, "markers"), ()),
        lock_dir=top.get("lock-dir", _path, _below(item, "build-stages")),
        wheelhouse=top.get("wheelhouse", _path, _below(item, "wheelhouse")),
        match_runtime=top.get("match-runtime", list_of(normalized), ()),
        constraints=top.get("constraints", list_of(requirement), ()),
        build_constraints=top.get("build-constraints", list_of(requirement), ()),
        exclude_newer=top.child("exclude-newer", _time),
        remote_store=top.child("remote-store", _remote_store),
        compiler_cache=top.get("compiler-cache", _compiler_cache, "auto"),
        final=runtime,
        stages=stages,
        packages=top.get("package", _packages_of(runtime), {}),
        uv=_uv(item.document),
    )


def _check_own(item: Item, runtime: Final, stages: tuple[Stage, ...]) -> None:
    """See that no stage builds a wheel of what is installed from its folder."""
    for stage in stages:
        if runtime.project in {output.name for output in stage.outputs}:
            own = item.document.at("tool", TOOL, "final", "project") or item
            own.fault(
                f"stage {stage.name} builds {runtime.project} already;"
                " leave out one of the two"
            )


def _below(item: Item, folder: str) -> Path:
    return Path(os.path.normpath(item.document.path.parent / folder))


def _path(item: Item) -> Path | None:
    value = text(item)
    return None if value is None else _below(item, value)


def _uv(document: Document) -> Mapping[str, Any]:
    found = document.at("tool", "uv")
    settings = None if found is None else any_table(found)
    if found is None or settings is None:
        return {}
    for name, getter in _UV.items():
        if name in settings:
            getter(found.child(name, settings[name]))
    return settings


def _uv_index(item: Item) -> None:
    index = any_table(item)
    if index is not None and "url" not in index:
        item.fault("url is missing")
    elif index is not None:
        string(item.child("url", index["url"]))


def _uv_source(item: Item) -> object:
    if isinstance(item.value, list):
        return list_of(any_table, "tables")(item)
    source = any_table(item)
    if source is not None and "path" in source:
        string(item.child("path", source["path"]))
    return source


def _uv_sources(item: Item) -> None:
    for name, source in (any_table(item) or {}).items():
        _uv_source(item.child(name, source))


# What we look into ourselves of uv's own settings; the rest uv reads.
_UV: Mapping[str, Getter[Any]] = {
    "dependency-metadata": list_of(any_table, "tables"),
    "extra-index-url": list_of(string),
    "find-links": list_of(string),
    "index": list_of(_uv_index, "tables"),
    "index-url": string,
    "pip": any_table,
    "sources": _uv_sources,
}


def _pythons(item: Item) -> tuple[str, ...] | None:
    versions = some(list_of(text), 'version such as "3.11"')(item)
    if versions is None or len(versions) == 1:
        return versions
    first: dict[str, str] = {}
    for index, version in enumerate(versions):
        child = item.child(index, version)
        minor = _PYTHON.fullmatch(version)
        if minor is None:
            child.expected('a version such as "3.11", as there are several')
        elif minor[1] in first:
            child.fault(f"{first[minor[1]]!r} is the same minor version")
        else:
            first[minor[1]] = version
    return versions


def _remote_store(item: Item) -> RemoteStore | None:
    if isinstance(item.value, str):
        url = text(item)
        return None if url is None else RemoteStore(url=url)
    if not isinstance(item.value, Mapping):
        item.expected("a URL, or a table of url and write")
        return None
    found = table(item, _REMOTE_STORE)
    url = None if found is None else found.need("url", text)
    if found is None or url is None:
        return None
    return RemoteStore(url=url, write=found.get("write", boolean, default=False))


def _marker(item: Item) -> Marker | None:
    value = string(item)
    if value is None:
        return None
    try:
        return Marker(value)
    except InvalidMarker as error:
        reason = str(error).partition("\n")[0]
        item.fault(f"{value!r} is not a marker: {reason}")
        return None


def _time(item: Item) -> str | None:
    value = item.value
    written = value.isoformat() if isinstance(value, dt.date) else value
    if isinstance(written, str) and _is_time(written):
        return written
    item.expected(
        "a date or a time with its zone, such as 2026-11-01 or 2026-11-01T00:00:00Z"
    )
    return None


def _is_time(written: str) -> bool:
    match = _TIME.fullmatch(written)
    if match is None:
        return False
    day, clock, fraction, zone = match.groups(default="")
    if (bool(clock) != bool(zone)) or (fraction and not clock):
        return False
    try:
        # Python 3.10 knows neither Z nor any number of digits of a second.
        dt.datetime.fromisoformat(day + clock + zone.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


def _stages(item: Item) -> tuple[Stage, ...] | None:
    if isinstance(item.value, list):
        return some(list_of(_stage), "stage")(item)
    item.expected("an array of tables", hint=f"write [[{item.location}]]")
    return None


def _stage(item: Item) -> Stage | None:
    found = table(item, _STAGE)
    if found is None:
        return None
    name = found.need("name", _stage_name)
    outputs = found.need("outputs", some(list_of(output), "output"))
    # Where one of the two is missing, there is a problem, and no one sees the stage.
    return Stage(
        name=name or "",
        outputs=outputs or (),
        dependencies=found.get("dependencies", list_of(requirement), ()),
        needs=found.get("needs", list_of(text), ()),
        env=found.get("env", _env, {}),
        pass_env=found.get("pass-env", list_of(variable), ()),
        tools=found.get("tools", list_of(text), ()),
        jobs=found.child("jobs", _jobs),
        memory_per_job=found.child("memory-per-job", _memory),
        network=found.get("network", _network, "off"),
        timeout=found.child("timeout", _timeout),
        compiler_cache=found.child("compiler-cache", _compiler_cache),
        location=item.location,
    )


def _stage_name(item: Item) -> str | None:
    value = string(item)
    if value is None:
        return None
    if not _STAGE_NAME.fullmatch(value):
        item.expected("a name of lower-case letters, digits, '-' and '_'")
    elif value in _TAKEN:
        item.fault(f"{value!r} is the name of {_TAKEN[value]}; choose another")
    return value


def _packages_of(
    runtime: Final,
) -> Getter[Mapping[NormalizedName, PackageRules]]:
    """Return a getter for rules, whether something of these names is built or not."""

    def packages(item: Item) -> Mapping[NormalizedName, PackageRules] | None:
        found: dict[NormalizedName, PackageRules] = {}
        for name, child in (by_name(item) or {}).items():
            if name == runtime.project:
                _check_own_rules(child)
            rules = _rules(child)
            if rules is not None:
                found[name] = rules
        return found

    return packages


def _check_own_rules(item: Item) -> None:
    """See that nothing is asked for that needs a copy, or a wheel, of the project."""
    given = any_table(item) or {}
    for key in ("patches", "metadata", "local-version"):
        if key in given:
            item.child(key, given[key]).fault(
                "is not for the project itself, which is installed as it is"
            )


def _rules(item: Item) -> PackageRules | None:
    found = table(item, _PACKAGE)
    if found is None:
        return None
    add, remove = found.get("build-requires", _build_requires, ((), ()))
    return PackageRules(
        build_requires_add=add,
        build_requires_remove=remove,
        config_settings=found.get("config-settings", mapping(_setting, "strings"), {}),
        env=found.get("env", _env, {}),
        patches=found.get("patches", list_of(_patch), ()),
        requires_dist=found.child("metadata", _metadata),
        local_version=found.child("local-version", local_version),
    )


def _patch(item: Item) -> Patch | None:
    name = text(item)
    if name is None:
        return None
    return Patch(name=name, path=_below(item, name), location=item.location)


def _build_requires(
    item: Item,
) -> tuple[tuple[Requirement, ...], tuple[NormalizedName, ...]] | None:
    found = table(item, _BUILD_REQUIRES)
    if found is None:
        return None
    add = found.get("add", list_of(requirement), ())
    return add, found.get("remove", list_of(normalized), ())


def _setting(item: Item) -> str | tuple[str, ...] | None:
    if isinstance(item.value, list):
        return list_of(string)(item)
    if isinstance(item.value, str):
        return item.value
    item.expected("a string or a list of strings")
    return None


def _metadata(item: Item) -> tuple[Requirement, ...] | None:
    found = table(item, _METADATA)
    return None if found is None else found.child("requires-dist", list_of(requirement))


def _jobs(item: Item) -> int | None:
    value = item.value
    if type(value) is int and value > 0:
        return value
    if value != "auto":
        item.expected('"auto" or a number above 0')
    return None


def _memory(item: Item) -> int | None:
    """Return a size in bytes."""
    found = size(item.value) if isinstance(item.value, str) else None
    if not found:
        item.expected('a size such as "4GB"')
    return found or None


def _timeout(item: Item) -> int | None:
    """Return a time in seconds."""
    found = duration(item.value) if isinstance(item.value, str) else None
    if not found:
        item.expected('a time such as "5h" or "90min"')
    return found or None


def _network(item: Item) -> Network | None:
    value = item.value
    if isinstance(value, bool):
        return "on" if value else "off"
    if value == "require-off":
        return "require-off"
    item.expected('true, false or "require-off"')
    return None


def _compiler_cache(item: Item) -> CompilerCache | None:
    if item.value is False:
        return "off"
    known: tuple[CompilerCache, ...] = ("auto", "ccache", "sccache")
    for name in known:
        if item.value == name:
            return name
    item.expected('"auto", "ccache", "sccache" or false')
    return None


_env = mapping(string, "strings", key=variable)

_TOP = Keys(
    known=(
        "python",
        "environments",
        "lock-dir",
        "wheelhouse",
        "match-runtime",
        "constraints",
        "build-constraints",
        "exclude-newer",
        "remote-store",
        "compiler-cache",
        "final",
        "stage",
        "package",
        "matrix",
    ),
)
_REMOTE_STORE = Keys(known=("url", "write"))
_STAGE = Keys(
    known=(
        *("name", "dependencies", "outputs", "needs"),
        *("env", "pass-env", "tools", "network", "jobs", "memory-per-job"),
        "timeout",
        "compiler-cache",
    ),
)
_PACKAGE = Keys(
    known=(
        *("build-requires", "config-settings", "env", "metadata", "patches"),
        "local-version",
    ),
)
_BUILD_REQUIRES = Keys(known=("add", "remove"))
_METADATA = Keys(known=("requires-dist",))
