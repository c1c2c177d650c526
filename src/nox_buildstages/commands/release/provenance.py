"""The provenance of a wheel: an in-toto statement with an SLSA predicate."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.model import ArchiveSource, GitSource
from nox_buildstages.wheelhouse.manifest import log_of_project

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.store.store import StoredWheel

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILDER = "pkg:pypi/nox-buildstages"
BUILD_TYPE = f"{BUILDER}#docs/reference/provenance-v1.md"
"""The page of our documentation that explains the parameters, as a purl."""

TREE = "nox_buildstages_tree_sha256"
"""The name of our digest of a folder, in in-toto's sets of digests."""


def format_statements(statements: Iterable[dict[str, Any]]) -> str:
    """Return statements as JSON Lines, sorted by wheel and without logins."""
    ordered = sorted(statements, key=lambda it: str(it["subject"][0]["name"]))
    return "".join(
        json.dumps(strip_logins(statement), sort_keys=True) + "\n"
        for statement in ordered
    )


def build_statement(
    result: OutputResult,
    *,
    log_sha256: str,
    locations: Mapping[str, str],
    original: StoredWheel | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the statement about a wheel: in-toto Statement v1, SLSA Provenance v1.

    The locations are the known URLs of the wheels in the build environment, by sha256.
    If the wheel was changed after the build, ``original`` is the built one, and
    ``changes`` are parameters that describe the changes.
    """
    wheel, recipe, source = result.wheel, result.wheel.recipe, result.output.source
    origin = {**_describe_source(result), "annotations": {"kind": "source"}}
    if source.subdirectory is not None:
        origin["annotations"]["subdirectory"] = source.subdirectory
    dependencies = [origin]
    dependencies += (
        {
            "name": patch.name,
            "digest": {"sha256": patch.sha256},
            "annotations": {"kind": "patch"},
        }
        for patch in recipe.patches
    )
    for name, ingredient in sorted(recipe.environment.items()):
        version, sha256 = ingredient.version, ingredient.sha256
        dependency: dict[str, Any] = {
            "name": name,
            "uri": f"pkg:pypi/{name}@{quote(version)}",
            "digest": {"sha256": sha256},
            "annotations": {"kind": "build-dependency", "version": version},
        }
        if ingredient.stage:
            dependency["annotations"]["stage"] = ingredient.stage
        if sha256 in locations:
            dependency["downloadLocation"] = locations[sha256]
        dependencies.append(dependency)
    byproducts = [
        {"name": log_of_project(wheel.name), "digest": {"sha256": log_sha256}}
    ]
    internal: dict[str, Any] = {
        "key": recipe.key,
        "interpreter": dict(recipe.interpreter),
        "tools": {**recipe.machine, **recipe.tools},
        **changes,
    }
    if original is not None and original.sha256 != wheel.sha256:
        digest = {"sha256": original.sha256}
        byproducts.append({"name": original.path.name, "digest": digest})
    return {
        "_type": STATEMENT,
        "subject": [{"name": wheel.path.name, "digest": {"sha256": wheel.sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "stage": result.stage,
                    "output": recipe.name,
                    "version": recipe.version,
                    "source": strip_logins(str(source)),
                    "patches": [patch.name for patch in recipe.patches],
                    "config-settings": dict(recipe.config_settings),
                    "requires-dist": [*recipe.requires_dist],
                    "env": dict(recipe.env),
                    "pass-env": dict(recipe.passed),
                    "network": recipe.network,
                    "sandbox": not recipe.open_files,
                },
                "internalParameters": internal,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {"invocationId": wheel.run},
                "byproducts": byproducts,
            },
        },
    }


def describe_change(
    statement: Mapping[str, Any], name: str, sha256: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the statement about a wheel that was made from the one of a statement.

    ``changes`` are parameters that describe the changes.

    Raises:
        KeyError: It isn't one of `build_statement`.
    """
    predicate = statement["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    internal = {**definition["internalParameters"], **changes}
    byproducts = [*details["byproducts"], *statement["subject"]]
    return {
        **statement,
        "subject": [{"name": name, "digest": {"sha256": sha256}}],
        "predicate": {
            "buildDefinition": {**definition, "internalParameters": internal},
            "runDetails": {**details, "byproducts": byproducts},
        },
    }


def _describe_source(result: OutputResult) -> dict[str, Any]:
    """Return the name, the URI if known, and the digest of a wheel's source."""
    source, recipe = result.output.source, result.wheel.recipe
    if isinstance(source, ArchiveSource):
        location, digest = source.location, {"sha256": source.sha256}
        is_url = "://" in location
    elif isinstance(source, GitSource):
        location = f"git+{source.url}@{source.revision or source.commit}"
        digest = {"gitCommit": source.commit}
        is_url = "://" in source.url
    else:
        location = source.path
        digest = {TREE: recipe.source.removeprefix("tree:sha256:")}
        is_url = False
    address = {"name": recipe.name, "uri": location} if is_url else {"name": location}
    return {**address, "digest": digest}
