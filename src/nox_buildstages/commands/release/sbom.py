"""A CycloneDX bill of what the runtime is made of; needs the extra ``sbom``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from nox_buildstages.commands.release.dependencies import ASKED
from nox_buildstages.indexes.logins import strip_logins
from nox_buildstages.model import ArchiveSource, GitSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.model import Source
    from nox_buildstages.store.key import Ingredient


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the runtime holds.

    Attributes:
        held: Its wheels, by project.
        required: What each of them requires of the others.
        locations: URLs of those from indexes, by their sha256.
        built: Those that stages provide, by project.
    """

    held: Mapping[str, Ingredient]
    required: Mapping[str, Sequence[str]]
    locations: Mapping[str, str]
    built: Mapping[str, OutputResult]


def rendered(contents: Contents, *, epoch: int | None) -> str:
    """Return the bill as JSON, CycloneDX 1.6; equal contents give equal text.

    Args:
        contents: Of the runtime.
        epoch: Seconds, ``SOURCE_DATE_EPOCH``; without it there is no time in it.
    """
    components = {name: _component(contents, name) for name in contents.held}
    runtime = Component(
        name="runtime", type=ComponentType.APPLICATION, bom_ref="runtime"
    )
    metadata = BomMetaData(component=runtime)
    if epoch is not None:
        metadata.timestamp = datetime.fromtimestamp(epoch, timezone.utc)
    bom = Bom(
        metadata=metadata,
        components=components.values(),
        serial_number=uuid5(NAMESPACE_URL, _identity(contents)),
    )
    for name, component in {ASKED: runtime, **components}.items():
        wanted = contents.required.get(name, ())
        bom.register_dependency(component, [components[child] for child in wanted])
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if epoch is None:
        del document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _identity(contents: Contents) -> str:
    """Return what tells these contents from others."""
    return "\n".join(
        f"{name}=={held.version} {held.sha256} {contents.required.get(name, ())}"
        for name, held in sorted(contents.held.items())
    )


def _component(contents: Contents, name: str) -> Component:
    held = contents.held[name]
    outcome = contents.built.get(name)
    purl = PackageURL("pypi", None, name, held.version)
    component = Component(
        name=name,
        version=held.version,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=_hashes(held.sha256),
        external_references=[*_distribution(contents, name)],
    )
    if outcome is not None:
        component.pedigree = _pedigree(outcome)
        component.properties = [
            Property(name="nox-buildstages:stage", value=outcome.stage),
            Property(name="nox-buildstages:key", value=outcome.wheel.recipe.key),
        ]
    return component


def _hashes(sha256: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _distribution(contents: Contents, name: str) -> Iterator[ExternalReference]:
    """Yield where the wheel of a project is, as far as that is known."""
    sha256 = contents.held[name].sha256
    location = contents.locations.get(sha256)
    if name in contents.built:
        location = quote(contents.built[name].wheel.path.name)
    if location is not None:
        yield _reference(ExternalReferenceType.DISTRIBUTION, location, sha256=sha256)


def _pedigree(outcome: OutputResult) -> Pedigree:
    """Return from what a wheel was made: its source, and patches of it."""
    recipe = outcome.wheel.recipe
    ancestor = Component(
        name=recipe.name,
        version=recipe.version,
        bom_ref=f"source of {recipe.name}",
        external_references=[_origin(outcome.output.source)],
    )
    if isinstance(outcome.output.source, ArchiveSource):
        ancestor.hashes = _hashes(outcome.output.source.sha256)
    patches = [f"patched with {patch}" for patch in outcome.patches]
    return Pedigree(ancestors=[ancestor], notes="\n".join(patches) or None)


def _origin(source: Source) -> ExternalReference:
    if isinstance(source, GitSource):
        comment = f"commit {source.commit}"
        return _reference(ExternalReferenceType.VCS, source.url, comment=comment)
    if isinstance(source, ArchiveSource):
        location, sha256 = source.location, source.sha256
    else:
        location, sha256 = source.path, None
    kind = ExternalReferenceType.SOURCE_DISTRIBUTION
    return _reference(kind, location, sha256=sha256)


def _reference(
    kind: ExternalReferenceType,
    location: str,
    *,
    sha256: str | None = None,
    comment: str | None = None,
) -> ExternalReference:
    return ExternalReference(
        type=kind,
        url=XsUri(strip_logins(location)),
        comment=comment,
        hashes=_hashes(sha256) if sha256 else (),
    )
