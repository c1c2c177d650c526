"""A CycloneDX SBOM of the runtime; needs the extra ``sbom``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from cyclonedx import model
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from nox_buildstages.commands.release.dependencies import ROOT
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.model import ArchiveSource, GitSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nox_buildstages.builder.stage import OutputResult
    from nox_buildstages.store.key import Ingredient


def format_sbom(
    wheels: Mapping[str, Ingredient],
    *,
    dependencies: Mapping[str, Sequence[str]],
    locations: Mapping[str, str],
    results: Mapping[str, OutputResult],
    epoch: int | None,
) -> str:
    """Return the SBOM as JSON, CycloneDX 1.6; equal contents give equal text.

    Wheels, dependencies and the results of stages are listed by project, the URLs of
    wheels from indexes by sha256. Without ``SOURCE_DATE_EPOCH``, no time is written.
    """
    components = {}
    for name, wheel in wheels.items():
        location = locations.get(wheel.sha256)
        if name in results:
            location = quote(results[name].wheel.path.name)
        purl = PackageURL("pypi", None, name, wheel.version)
        kind = model.ExternalReferenceType.DISTRIBUTION
        component = components[name] = Component(
            name=name,
            version=wheel.version,
            purl=purl,
            bom_ref=purl.to_string(),
            hashes=_hashes(wheel.sha256),
            external_references=[_reference(kind, location, wheel.sha256)]
            if location is not None
            else (),
        )
        if name in results:
            key = results[name].wheel.recipe.key
            component.pedigree = _pedigree(results[name])
            component.properties = [
                model.Property(name="nox-buildstages:stage", value=results[name].stage),
                model.Property(name="nox-buildstages:key", value=key),
            ]
    identity = "\n".join(
        f"{name}=={wheel.version} {wheel.sha256} {dependencies.get(name, ())}"
        for name, wheel in sorted(wheels.items())
    )
    runtime = Component(
        name="runtime", type=ComponentType.APPLICATION, bom_ref="runtime"
    )
    metadata = BomMetaData(component=runtime)
    if epoch is not None:
        metadata.timestamp = datetime.fromtimestamp(epoch, timezone.utc)
    bom = Bom(
        metadata=metadata,
        components=components.values(),
        serial_number=uuid5(NAMESPACE_URL, identity),
    )
    for name, component in {ROOT: runtime, **components}.items():
        children = [components[child] for child in dependencies.get(name, ())]
        bom.register_dependency(component, children)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if epoch is None:
        del document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _pedigree(result: OutputResult) -> Pedigree:
    """Return the origin of a stage's wheel: its source, and the patches."""
    recipe, source = result.wheel.recipe, result.output.source
    ancestor = Component(
        name=recipe.name, version=recipe.version, bom_ref=f"source of {recipe.name}"
    )
    kind = model.ExternalReferenceType.SOURCE_DISTRIBUTION
    if isinstance(source, GitSource):
        origin = _reference(model.ExternalReferenceType.VCS, source.url)
        origin.comment = f"commit {source.commit}"
    elif isinstance(source, ArchiveSource):
        origin = _reference(kind, source.location, source.sha256)
        ancestor.hashes = _hashes(source.sha256)
    else:
        origin = _reference(kind, source.path)
    ancestor.external_references = [origin]
    patches = [f"patched with {patch}" for patch in result.patches]
    return Pedigree(ancestors=[ancestor], notes="\n".join(patches) or None)


def _hashes(sha256: str) -> list[model.HashType]:
    return [model.HashType(alg=model.HashAlgorithm.SHA_256, content=sha256)]


def _reference(
    kind: model.ExternalReferenceType, location: str, sha256: str | None = None
) -> model.ExternalReference:
    return model.ExternalReference(
        type=kind,
        url=model.XsUri(strip_logins(location)),
        hashes=_hashes(sha256) if sha256 else (),
    )
