"""CycloneDX SBOMs of the runtime and of builds; they need the extra ``sbom``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from cyclonedx import model
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import (
    Component,
    ComponentScope,
    ComponentType,
    Pedigree,
)
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
        component = components[name] = _component(name, wheel, location)
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
    return _render(bom, has_time=epoch is not None)


def format_build_sbom(result: OutputResult, locations: Mapping[str, str]) -> str:
    """Return the SBOM of a build as JSON, to be put into the wheel (PEP 770).

    Its subject is the wheel, with the source as ancestor. The wheels of the build
    environment are excluded, because the runtime doesn't have them. Equal recipes give
    equal text, without times and paths of this machine.
    """
    recipe = result.wheel.recipe
    facts = {
        "stage": result.stage,
        "key": recipe.key,
        "source": recipe.source,
        **{f"patch:{n}": it.sha256 for n, it in enumerate(recipe.patches, start=1)},
        **{f"interpreter:{it}": text for it, text in recipe.interpreter.items()},
        **{f"tool:{it}": text for it, text in recipe.machine.items()},
        **{f"tool:{it}": text for it, text in recipe.tools.items()},
    }
    purl = PackageURL("pypi", None, recipe.name, recipe.version)
    ancestor = _ancestor(result)
    ancestor.external_references = (
        it for it in ancestor.external_references if "://" in str(it.url)
    )
    wheel = Component(
        name=recipe.name,
        version=recipe.version,
        purl=purl,
        bom_ref=purl.to_string(),
        pedigree=Pedigree(ancestors=[ancestor]),
        properties=[
            model.Property(name=f"nox-buildstages:{name}", value=facts[name])
            for name in facts
        ],
    )
    components = []
    for name, ingredient in recipe.environment.items():
        location = locations.get(ingredient.sha256, "")
        is_url = location.startswith(("http://", "https://"))
        component = _component(name, ingredient, location if is_url else None)
        component.scope = ComponentScope.EXCLUDED
        components.append(component)
    bom = Bom(
        metadata=BomMetaData(component=wheel),
        components=components,
        serial_number=uuid5(NAMESPACE_URL, f"{recipe.name} {recipe.key}"),
    )
    bom.register_dependency(wheel, components)
    for component in components:
        bom.register_dependency(component)
    return _render(bom, has_time=False)


def _component(name: str, wheel: Ingredient, location: str | None) -> Component:
    """Return the component of a wheel, with its URL if it has one."""
    purl = PackageURL("pypi", None, name, wheel.version)
    kind = model.ExternalReferenceType.DISTRIBUTION
    references = []
    if location is not None:
        references = [_reference(kind, location, wheel.sha256)]
    return Component(
        name=name,
        version=wheel.version,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=_hashes(wheel.sha256),
        external_references=references,
    )


def _render(bom: Bom, *, has_time: bool) -> str:
    """Return the JSON of an SBOM, the same for equal contents."""
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if not has_time:
        del document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _pedigree(result: OutputResult) -> Pedigree:
    """Return the origin of a stage's wheel: its source, and the patches."""
    patches = [f"patched with {patch}" for patch in result.patches]
    return Pedigree(ancestors=[_ancestor(result)], notes="\n".join(patches) or None)


def _ancestor(result: OutputResult) -> Component:
    """Return the component of the source of a stage's wheel."""
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
    return ancestor


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
