"""uv's settings about builds, as the table's own keys say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from nox_buildstages.model import PackageRules, escape_environment
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nox_buildstages.model import Output


def build_constraints(settings: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield ``build-constraint-dependencies``; their hashes are checked in locks."""
    for entry in settings.get("build-constraint-dependencies", ()):
        yield Requirement(entry["requirement"] if isinstance(entry, Mapping) else entry)


def extra_requirements(
    settings: Mapping[str, Any], output: NormalizedName
) -> Iterator[tuple[Requirement, bool]]:
    """Yield an output's ``extra-build-dependencies``.

    Each has whether its version must be the version of the runtime.
    """
    for entry in _of_package(settings, "extra-build-dependencies", output, ()):
        if isinstance(entry, Mapping):
            is_matched = bool(entry.get("match-runtime"))
            yield Requirement(entry["requirement"]), is_matched
        else:
            yield Requirement(entry), False


def match_runtime(
    settings: Mapping[str, Any], outputs: Iterable[Output]
) -> Iterator[NormalizedName]:
    """Yield the projects that builds need in the version of the runtime."""
    for output in outputs:
        for requirement, is_matched in extra_requirements(settings, output.name):
            if is_matched:
                yield canonicalize_name(requirement.name)


def dependency_metadata(
    settings: Mapping[str, Any],
) -> dict[NormalizedName, Mapping[str, Any]]:
    """Return ``dependency-metadata`` by project."""
    entries = settings.get("dependency-metadata", ())
    return {canonicalize_name(it["name"]): it for it in entries if "name" in it}


def package_rules(
    settings: Mapping[str, Any],
    outputs: Iterable[Output],
    declared: Mapping[NormalizedName, PackageRules],
) -> dict[NormalizedName, PackageRules]:
    """Return the rules for packages: those of the table, completed by uv's settings.

    The table counts if both say something about one thing.
    """
    specifiers = {output.name: output.requirement.specifier for output in outputs}
    named = {
        canonicalize_name(name): None
        for key in (
            *("extra-build-dependencies", "extra-build-variables"),
            "config-settings-package",
        )
        for name in settings.get(key, {})
    }
    metadata = dependency_metadata(settings)
    general = _settings_of(settings.get("config-settings", {}))
    rules = {**declared}
    named.update(dict.fromkeys(metadata.keys() & specifiers.keys()))
    named.update(dict.fromkeys(specifiers if general else ()))
    for name in named:
        own = declared.get(name, PackageRules())
        extra = [it for it, _ in extra_requirements(settings, name)]
        special = _of_package(settings, "config-settings-package", name, {})
        requires_dist, known = own.requires_dist, metadata.get(name)
        if requires_dist is None and known is not None and name in specifiers:
            version = known.get("version")
            if version is None or specifiers[name].contains(version, prereleases=True):
                texts = known.get("requires-dist", ())
                requires_dist = tuple(map(Requirement, texts))
        rules[name] = replace(
            own,
            build_requires_add=(
                *own.build_requires_add,
                *(
                    it
                    for it in extra
                    if it not in own.build_requires_add
                    and canonicalize_name(it.name) not in own.build_requires_remove
                ),
            ),
            env={
                **_settings_of(
                    _of_package(settings, "extra-build-variables", name, {})
                ),
                **own.env,
            },
            config_settings={**general, **_settings_of(special), **own.config_settings},
            requires_dist=requires_dist,
        )
    return rules


def _of_package(
    settings: Mapping[str, Any],
    key: str,
    name: NormalizedName,
    default: Any,  # noqa: ANN401 - uv's own schema
) -> Any:  # noqa: ANN401 - uv's own schema
    """Return what a table by package has for one package, in any spelling."""
    table = settings.get(key, {})
    found = (table[it] for it in table if canonicalize_name(it) == name)
    return next(found, default)


def _settings_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return uv's variables or config settings, which know no ``{env}``."""
    return {
        key: tuple(map(escape_environment, value))
        if isinstance(value, list)
        else escape_environment(value)
        for key, value in table.items()
    }
