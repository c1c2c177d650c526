"""What is stated of a wheel, whatever it was built from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementProto
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.commands.release.provenance import Built, Repair, lines, statement
from nox_buildstages.model import ArchiveSource, DirectorySource, GitSource, Source
from nox_buildstages.store.key import AppliedPatch, Ingredient, Recipe
from nox_buildstages.store.store import StoredWheel

SHA, TORCH, FLASH, PATCH, LOG = (digit * 64 for digit in "abcde")
COMMIT = "c0ffee" * 6 + "abcd"
SDIST = "https://host/some_package-1.0.tar.gz"


def built(source: Source, identity: str = f"sha256:{SHA}", **changed: Any) -> Built:  # noqa: ANN401
    recipe = Recipe(
        name="some-package",
        version="1.0",
        source=identity,
        environment={
            "torch": Ingredient(version="2.13.0+cu130", sha256=TORCH),
            "flash-attn": Ingredient(version="2.8.3", sha256=FLASH, stage="kernels"),
        },
        env={"ARCHS": "9.0"},
        config_settings={"--plain": "x", "--listed": ("y", "z")},
        interpreter={"version": "3.11.7", "abi": "cpython-311"},
        tools={"nvcc": "13.0"},
    )
    wheel = StoredWheel(
        name=canonicalize_name("some-package"),
        version=Version("1.0"),
        path=Path("/store/some_package-1.0-py3-none-any.whl"),
        sha256=SHA,
        size=7,
        seconds=1.5,
        log=Path("/store/build.log"),
        recipe=replace(recipe, **changed),
        run="a-run",
    )
    return Built(
        wheel=wheel,
        source=source,
        stage="models",
        locations={TORCH: "https://me:secret@host/torch.whl"},
        log_sha256=LOG,
    )


def dependencies(found: Built) -> list[dict[str, Any]]:
    definition = statement(found)["predicate"]["buildDefinition"]
    listed: list[dict[str, Any]] = definition["resolvedDependencies"]
    return listed


ARCHIVE = ArchiveSource(location=SDIST, sha256=SHA)
REPO = "https://host/repo"


@pytest.mark.parametrize(
    ("source", "identity", "expected"),
    [
        (
            ARCHIVE,
            f"sha256:{SHA}",
            {"name": "some-package", "uri": SDIST, "digest": {"sha256": SHA}},
        ),
        (
            ArchiveSource(location="vendor/a.zip", sha256=SHA, subdirectory="py"),
            f"sha256:{SHA}#py",
            {"name": "vendor/a.zip", "digest": {"sha256": SHA}},
        ),
        (
            GitSource(url=REPO, commit=COMMIT, revision="v1"),
            f"git:{COMMIT}",
            {
                "name": "some-package",
                "uri": f"git+{REPO}@v1",
                "digest": {"gitCommit": COMMIT},
            },
        ),
        (
            GitSource(url="../repo", commit=COMMIT),
            f"git:{COMMIT}",
            {"name": f"git+../repo@{COMMIT}", "digest": {"gitCommit": COMMIT}},
        ),
        (
            DirectorySource(path="vendor/a"),
            f"tree:sha256:{SHA}",
            {"name": "vendor/a", "digest": {"nox_buildstages_tree_sha256": SHA}},
        ),
    ],
)
def test_a_source_is_named_by_its_digest(
    source: Source, identity: str, expected: dict[str, Any]
) -> None:
    """And by where it is; a URI where there is one."""
    first = dependencies(built(source, identity))[0]
    annotations = first.pop("annotations")
    assert first == expected
    assert annotations.pop("kind") == "source"
    below = getattr(source, "subdirectory", None)
    assert annotations == ({} if below is None else {"subdirectory": below})


def test_every_wheel_and_patch_is_named() -> None:
    """With its hash, and with the stage that provides it, or its place."""
    patch = AppliedPatch(sha256=PATCH, name="patches/a.patch")
    _, patched, flash, torch = dependencies(built(ARCHIVE, patches=(patch,)))
    assert patched == {
        "name": "patches/a.patch",
        "digest": {"sha256": PATCH},
        "annotations": {"kind": "patch"},
    }
    assert flash == {
        "name": "flash-attn",
        "uri": "pkg:pypi/flash-attn@2.8.3",
        "digest": {"sha256": FLASH},
        "annotations": {
            "kind": "build-dependency",
            "version": "2.8.3",
            "stage": "kernels",
        },
    }
    assert torch["uri"] == "pkg:pypi/torch@2.13.0%2Bcu130"
    assert torch["annotations"]["version"] == "2.13.0+cu130"


def test_lines_are_statements_without_logins() -> None:
    """One a line, sorted by file, each as in-toto and SLSA want it."""
    one = built(ARCHIVE)
    path = Path("/store/another-1.0-py3-none-any.whl")
    other = replace(one, wheel=replace(one.wheel, path=path))
    text = lines([one, other])
    assert text == lines([other, one])
    assert "secret" not in text
    assert "https://host/torch.whl" in text
    found = [json.loads(line) for line in text.splitlines()]
    names = [it["subject"][0]["name"] for it in found]
    assert names == [path.name, one.wheel.path.name]
    for line in found:
        Statement.copy_from_pb(json_format.ParseDict(line, StatementProto())).validate()
        predicate = json_format.ParseDict(line["predicate"], Provenance())
        assert predicate.run_details.metadata.invocation_id == "a-run"
        for dependency in predicate.build_definition.resolved_dependencies:
            ResourceDescriptor.copy_from_pb(dependency).validate()
            assert dependency.digest


def test_what_was_asked_for_is_apart_from_what_came_of_it() -> None:
    """External parameters are the table's; internal ones the machine's."""
    found = built(ARCHIVE)
    definition = statement(found)["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "stage": "models",
        "output": "some-package",
        "version": "1.0",
        "source": f"{SDIST} (sha256:{SHA})",
        "patches": [],
        "config-settings": {"--plain": "x", "--listed": ("y", "z")},
        "env": {"ARCHS": "9.0"},
        "network": False,
    }
    assert definition["internalParameters"] == {
        "key": found.wheel.recipe.key,
        "interpreter": {"version": "3.11.7", "abi": "cpython-311"},
        "tools": {"nvcc": "13.0"},
    }


def test_a_repaired_wheel_says_what_it_was_before() -> None:
    """The wheel that was built is a by-product; what repaired it is a parameter."""
    repair = Repair(original="x-linux.whl", sha256=TORCH, parameters={"patchelf": "1"})
    found = statement(replace(built(ARCHIVE), repair=repair))
    (text,) = lines([replace(built(ARCHIVE), repair=repair)]).splitlines()
    Statement.copy_from_pb(
        json_format.ParseDict(json.loads(text), StatementProto())
    ).validate()
    json_format.ParseDict(json.loads(text)["predicate"], Provenance())
    predicate = found["predicate"]
    parameters = predicate["buildDefinition"]["internalParameters"]
    assert parameters["repair"] == {"patchelf": "1"}
    assert predicate["runDetails"]["byproducts"] == [
        {"name": "logs/some-package.log", "digest": {"sha256": LOG}},
        {"name": "x-linux.whl", "digest": {"sha256": TORCH}},
    ]
