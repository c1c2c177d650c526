"""What a wheel was made of, as an in-toto statement with SLSA provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nox_buildstages.indexes.logins import strip_logins
from nox_buildstages.model import ArchiveSource, GitSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nox_buildstages.model import Source
    from nox_buildstages.store.store import StoredWheel

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILDER = "pkg:pypi/nox-buildstages"
BUILD_TYPE = f"{BUILDER}#docs/reference/provenance-v1.md"
"""The page of our documentation that says what the parameters mean, as a purl."""

TREE = "nox_buildstages_tree_sha256"
"""The name of our digest of a folder, in in-toto's sets of digests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """What was done to a wheel after it was built.

    Attributes:
        original: The file's name before.
        sha256: The same for its hash.
        parameters: What it was done with, and what that changed.
    """

    original: str
    sha256: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A wheel, and how it came to be.

    Attributes:
        wheel: As the store has it.
        source: That it was built from, as it is locked.
        stage: That provides it.
        locations: Of the wheels in its environment, by their sha256, as far as the
            lock of the stage names any.
        log_sha256: Of the build's log.
        repair: What was done to it since; None where it is as it was built.
    """

    wheel: StoredWheel
    source: Source
    stage: str
    locations: Mapping[str, str]
    log_sha256: str
    repair: Repair | None = None


def lines(wheels: Iterable[Built]) -> str:
    """Return a statement for each wheel, one a line (JSON Lines)."""
    return "".join(
        json.dumps(strip_logins(statement(built)), sort_keys=True) + "\n"
        for built in sorted(wheels, key=lambda built: built.wheel.path.name)
    )


def statement(built: Built) -> dict[str, Any]:
    """Return what is stated of a wheel: in-toto Statement v1, SLSA Provenance v1."""
    wheel = built.wheel
    return {
        "_type": STATEMENT,
        "subject": [{"name": wheel.path.name, "digest": {"sha256": wheel.sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": _definition(built),
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {"invocationId": built.wheel.run},
                "byproducts": [*_byproducts(built)],
            },
        },
    }


def _byproducts(built: Built) -> Iterator[dict[str, Any]]:
    yield {
        "name": f"logs/{built.wheel.name}.log",
        "digest": {"sha256": built.log_sha256},
    }
    if built.repair is not None:
        yield {
            "name": built.repair.original,
            "digest": {"sha256": built.repair.sha256},
        }


def _definition(built: Built) -> dict[str, Any]:
    recipe = built.wheel.recipe
    repair = {} if built.repair is None else {"repair": {**built.repair.parameters}}
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "stage": built.stage,
            "output": recipe.name,
            "version": recipe.version,
            "source": strip_logins(str(built.source)),
            "patches": [patch.name for patch in recipe.patches],
            "config-settings": dict(recipe.config_settings),
            "env": dict(recipe.env),
            "network": recipe.network,
        },
        "internalParameters": {
            "key": recipe.key,
            "interpreter": dict(recipe.interpreter),
            "tools": dict(recipe.tools),
            **repair,
        },
        "resolvedDependencies": [*_dependencies(built)],
    }


def _dependencies(built: Built) -> Iterator[dict[str, Any]]:
    recipe = built.wheel.recipe
    annotations = {"kind": "source"}
    subdirectory = getattr(built.source, "subdirectory", None)
    if subdirectory is not None:
        annotations["subdirectory"] = subdirectory
    yield {**_source(built), "annotations": annotations}
    for patch in recipe.patches:
        yield {
            "name": patch.name,
            "digest": {"sha256": patch.sha256},
            "annotations": {"kind": "patch"},
        }
    for name, held in sorted(recipe.environment.items()):
        dependency: dict[str, Any] = {
            "name": name,
            "uri": f"pkg:pypi/{name}@{quote(held.version)}",
            "digest": {"sha256": held.sha256},
            "annotations": {"kind": "build-dependency", "version": held.version},
        }
        if held.stage:
            dependency["annotations"]["stage"] = held.stage
        if held.sha256 in built.locations:
            dependency["downloadLocation"] = built.locations[held.sha256]
        yield dependency


def _source(built: Built) -> dict[str, Any]:
    source, name = built.source, built.wheel.recipe.name
    if isinstance(source, ArchiveSource):
        where = "uri" if "://" in source.location else "name"
        return {
            "name": name,
            where: source.location,
            "digest": {"sha256": source.sha256},
        }
    if isinstance(source, GitSource):
        where = "uri" if "://" in source.url else "name"
        return {
            "name": name,
            where: f"git+{source.url}@{source.revision or source.commit}",
            "digest": {"gitCommit": source.commit},
        }
    digest = built.wheel.recipe.source.removeprefix("tree:sha256:")
    return {"name": source.path, "digest": {TREE: digest}}
