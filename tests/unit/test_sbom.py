"""The SBOM follows CycloneDX 1.6."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.builder.stage import OutputResult
from nox_buildstages.commands.release.sbom import format_build_sbom, format_sbom
from nox_buildstages.lock.files.lockfile import LockedOutput
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    GitSource,
    Metadata,
    Source,
)
from nox_buildstages.store.key import AppliedPatch, Ingredient, Recipe
from nox_buildstages.store.store import StoredWheel
from nox_buildstages.value import replace
from support.sbom import sbom_error

SHA, TORCH = "ab" * 32, "cd" * 32
COMMIT = "c0ffee" * 6 + "abcd"
NAME = canonicalize_name("flash-attn")
FILE = "flash_attn-2.8.3+torch2.13-py3-none-any.whl"


def outcome(source: Source, *patches: AppliedPatch) -> OutputResult:
    recipe = Recipe(
        name=NAME,
        version="2.8.3+torch2.13",
        source="",
        environment={},
        env={},
        config_settings={},
        interpreter={},
        tools={},
    )
    version = Version(recipe.version)
    wheel = StoredWheel(
        name=NAME,
        version=version,
        path=Path("/store", FILE),
        sha256=SHA,
        size=7,
        seconds=1.5,
        log=Path("/store/build.log"),
        recipe=recipe,
        run="a-run",
    )
    metadata = Metadata(version=version, learned="static")
    locked = LockedOutput(
        name=NAME, source=source, build_requires=(), metadata=metadata
    )
    return OutputResult(
        wheel=wheel,
        output=locked,
        patches=patches,
        stage="kernels",
        is_built=True,
    )


def text_of(
    made: OutputResult, epoch: int | None = None, torch: Ingredient | None = None
) -> str:
    flash = Ingredient(version="2.8.3+torch2.13", sha256=SHA, stage="kernels")
    torch = torch or Ingredient(version="2.13.0", sha256=TORCH)
    return format_sbom(
        {"flash-attn": flash, "torch": torch},
        dependencies={"": ("flash-attn",), "flash-attn": ("torch",), "torch": ()},
        locations={TORCH: "https://me:secret@host/torch.whl"},
        results={"flash-attn": made},
        epoch=epoch,
    )


def bill(made: OutputResult, epoch: int | None = None) -> dict[str, Any]:
    """Return an SBOM after checking that it is valid and reproducible."""
    text = text_of(made, epoch)
    assert text_of(made, epoch) == text
    assert sbom_error(text) is None
    assert "secret" not in text
    found: dict[str, Any] = json.loads(text)
    return found


ARCHIVE = ArchiveSource(location="https://host/a.tar.gz", sha256=SHA)


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        (
            ARCHIVE,
            {
                "type": "source-distribution",
                "url": "https://host/a.tar.gz",
                "hashes": [{"alg": "SHA-256", "content": SHA}],
            },
        ),
        (
            GitSource(url="https://host/repo", commit=COMMIT),
            {"type": "vcs", "url": "https://host/repo", "comment": f"commit {COMMIT}"},
        ),
        (
            DirectorySource(path="vendor/my kernels"),
            {"type": "source-distribution", "url": "vendor/my%20kernels"},
        ),
    ],
)
def test_a_built_wheel_has_its_source_as_ancestor(
    source: Source, reference: dict[str, Any]
) -> None:
    """Properties name the stage and the key."""
    made = outcome(source)
    (flash, torch) = bill(made)["components"]
    (ancestor,) = flash["pedigree"]["ancestors"]
    assert ancestor["externalReferences"] == [reference]
    assert "notes" not in flash["pedigree"]
    assert flash["purl"] == "pkg:pypi/flash-attn@2.8.3%2Btorch2.13"
    assert {it["name"]: it["value"] for it in flash["properties"]} == {
        "nox-buildstages:stage": "kernels",
        "nox-buildstages:key": made.wheel.recipe.key,
    }
    assert "pedigree" not in torch


def test_each_component_has_a_location() -> None:
    """A built wheel is beside the SBOM, and other wheels are at their URLs."""
    flash, torch = bill(outcome(ARCHIVE))["components"]
    hashes = [{"alg": "SHA-256", "content": SHA}]
    url = FILE.replace("+", "%2B")
    assert flash["externalReferences"] == [
        {"type": "distribution", "url": url, "hashes": hashes}
    ]
    assert torch["externalReferences"][0]["url"] == "https://host/torch.whl"
    assert torch["hashes"] == [{"alg": "SHA-256", "content": TORCH}]


def test_patches_are_listed() -> None:
    """The notes name each patch and its hash."""
    patch = AppliedPatch(name="patches/a.patch", sha256=SHA)
    flash, _ = bill(outcome(ARCHIVE, patch))["components"]
    assert flash["pedigree"]["notes"] == f"patched with {patch}"


def test_the_time_is_source_date_epoch() -> None:
    """Without SOURCE_DATE_EPOCH, the SBOM has no time and is reproducible."""
    made = outcome(ARCHIVE)
    assert "timestamp" not in bill(made)["metadata"]
    timestamp = bill(made, epoch=315532800)["metadata"]["timestamp"]
    assert timestamp == "1980-01-01T00:00:00+00:00"


def test_different_contents_have_different_serial_numbers() -> None:
    """The serial number identifies the contents."""
    made = outcome(ARCHIVE)
    torch = Ingredient(version="2.13.1", sha256=SHA)
    texts = [text_of(made), text_of(made, torch=torch)]
    numbers = {json.loads(text)["serialNumber"] for text in texts}
    assert len(numbers) == 2


def test_the_sbom_of_a_build_has_no_path() -> None:
    """It is valid, and a folder of this machine is a digest."""
    found = outcome(DirectorySource(path="/home/me/flash"))
    torch = {"torch": Ingredient(version="2.13.0", sha256=TORCH)}
    recipe = replace(found.wheel.recipe, source="tree:sha256:aa", environment=torch)
    found = replace(found, wheel=replace(found.wheel, recipe=recipe))
    text = format_build_sbom(found, {TORCH: "/home/me/torch.whl"})
    assert sbom_error(text) is None
    assert "/home/me" not in text
    properties = json.loads(text)["metadata"]["component"]["properties"]
    assert {"name": "nox-buildstages:source", "value": "tree:sha256:aa"} in properties
