"""Provenance statements about wheels from every kind of source."""

from __future__ import annotations

import json
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

from nox_buildstages.builder.stage import OutputResult
from nox_buildstages.commands.release import statements as reading
from nox_buildstages.commands.release.provenance import (
    STATEMENT,
    build_statement,
    format_statements,
)
from nox_buildstages.commands.release.repair import Repair
from nox_buildstages.errors import UsageError
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

SHA, TORCH, FLASH, PATCH, LOG = (digit * 64 for digit in "abcde")
COMMIT = "c0ffee" * 6 + "abcd"
SDIST = "https://host/some_package-1.0.tar.gz"


def result(
    source: Source,
    identity: str = f"sha256:{SHA}",
    **changed: Any,  # noqa: ANN401
) -> OutputResult:
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
    output = LockedOutput(
        name=wheel.name,
        source=source,
        build_requires=(),
        metadata=Metadata(version=wheel.version, learned="static"),
    )
    return OutputResult(
        wheel=wheel, output=output, patches=(), stage="models", is_built=True
    )


def statement(of: OutputResult, repair: Repair | None = None) -> dict[str, Any]:
    locations = {TORCH: "https://me:secret@host/torch.whl"}
    return build_statement(
        of,
        log_sha256=LOG,
        locations=locations,
        original=None if repair is None else repair.original,
        changes=repair.parameters() if repair else {},
    )


def dependencies(found: OutputResult) -> list[dict[str, Any]]:
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
def test_a_source_is_listed_with_its_digest(
    source: Source, identity: str, expected: dict[str, Any]
) -> None:
    """The location is a URI if possible, and a name otherwise."""
    first = dependencies(result(source, identity))[0]
    annotations = first.pop("annotations")
    assert first == expected
    assert annotations.pop("kind") == "source"
    below = getattr(source, "subdirectory", None)
    assert annotations == ({} if below is None else {"subdirectory": below})


def test_every_wheel_and_patch_is_listed() -> None:
    """Each has a hash, and wheels have their stage or their location."""
    patch = AppliedPatch(sha256=PATCH, name="patches/a.patch")
    _, patched, flash, torch = dependencies(result(ARCHIVE, patches=(patch,)))
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
    """The lines are sorted by file, and valid for in-toto and SLSA."""
    one = result(ARCHIVE)
    path = Path("/store/another-1.0-py3-none-any.whl")
    other = replace(one, wheel=replace(one.wheel, path=path))
    statements = [statement(one), statement(other)]
    text = format_statements(statements)
    assert text == format_statements(reversed(statements))
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


def test_parameters_of_the_table_are_external() -> None:
    """External parameters come from the table, internal ones from the machine."""
    found = result(ARCHIVE, passed={"TOKEN": "hmac-sha256:0"})
    definition = statement(found)["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "stage": "models",
        "output": "some-package",
        "version": "1.0",
        "source": f"{SDIST} (sha256:{SHA})",
        "patches": [],
        "config-settings": {"--plain": "x", "--listed": ("y", "z")},
        "requires-dist": [],
        "env": {"ARCHS": "9.0"},
        "pass-env": {"TOKEN": "hmac-sha256:0"},
        "network": False,
        "sandbox": True,
    }
    assert definition["internalParameters"] == {
        "key": found.wheel.recipe.key,
        "interpreter": {"version": "3.11.7", "abi": "cpython-311"},
        "tools": {"nvcc": "13.0"},
    }


def test_a_repair_is_listed_with_the_original_wheel() -> None:
    """The original wheel is a by-product, and the repair is a parameter."""
    wheel = result(ARCHIVE).wheel
    repair = Repair(
        wheel=wheel,
        original=replace(wheel, path=Path("/house/x-linux.whl"), sha256=TORCH),
        tools={"patchelf": "1"},
        bundled=("liba.so",),
        external=("libtorch.so",),
    )
    found = statement(result(ARCHIVE), repair)
    (text,) = format_statements([found]).splitlines()
    Statement.copy_from_pb(
        json_format.ParseDict(json.loads(text), StatementProto())
    ).validate()
    json_format.ParseDict(json.loads(text)["predicate"], Provenance())
    predicate = found["predicate"]
    parameters = predicate["buildDefinition"]["internalParameters"]
    assert parameters["repair"] == {
        "patchelf": "1",
        "taken-in": ["liba.so"],
        "left-out": ["libtorch.so"],
    }
    assert predicate["runDetails"]["byproducts"] == [
        {"name": "logs/some-package.log", "digest": {"sha256": LOG}},
        {"name": "x-linux.whl", "digest": {"sha256": TORCH}},
    ]


# Read again ------------------------------------------------------------------------


def read(
    tmp_path: Path, found: dict[str, Any], indent: int | None = None
) -> reading.Statement:
    path = tmp_path / "provenance.jsonl"
    path.write_text(json.dumps(json.loads(format_statements([found])), indent=indent))
    (statement,) = reading.read_statements(path)
    return statement


UNKNOWN = "something that the statement doesn't have, such as the stage's code"


@pytest.mark.parametrize(
    ("source", "identity"),
    [
        (ARCHIVE, f"sha256:{SHA}"),
        (
            ArchiveSource(location="vendor/a.zip", sha256=SHA, subdirectory="py"),
            f"sha256:{SHA}#py",
        ),
        (GitSource(url=REPO, commit=COMMIT, subdirectory="a"), f"git:{COMMIT}#a"),
        (DirectorySource(path="vendor/a"), f"tree:sha256:{SHA}"),
        (DirectorySource(path="a", subdirectory="py"), f"tree:sha256:{SHA}#py"),
    ],
)
def test_a_statement_is_read_as_its_recipe(
    tmp_path: Path, source: Source, identity: str
) -> None:
    """Whatever the source is, on one line or on several."""
    patch = AppliedPatch(sha256=PATCH, name="a.patch")
    wheel = result(
        source,
        identity,
        patches=(patch,),
        machine={"cc": "gcc 12"},
        requires_dist=("- black",),
    )
    for indent in (None, 2):
        found = read(tmp_path, statement(wheel), indent=indent)
        assert found.built == (wheel.wheel.path.name, SHA)
        assert found.find_differences(wheel.wheel.recipe) == ()
        # By its parts alone, without the key:
        found = replace(found, key="")
        assert found.find_differences(wheel.wheel.recipe) == (UNKNOWN,)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"env": {"ARCHS": "10.0"}}, ["env ARCHS '9.0' → '10.0'"]),
        ({"tools": {"nvcc": "13.1"}}, ["tool nvcc '13.0' → '13.1'"]),
        ({"network": True}, ["network off → on"]),
        ({"open_files": True}, ["sandbox on → off"]),
        ({"passed": {"TOKEN": "x"}}, ["env TOKEN unset → set"]),
        (
            {"config_settings": {"--plain": "x"}},
            ["config setting --listed ('y', 'z') → unset"],
        ),
        (
            {"environment": {"flash-attn": Ingredient(version="2.8.3", sha256=FLASH)}},
            ["torch was removed from the environment"],
        ),
    ],
)
def test_the_inputs_that_differ_are_named(
    tmp_path: Path, changed: dict[str, Any], expected: list[str]
) -> None:
    """The value of the statement comes first."""
    found = read(tmp_path, statement(result(ARCHIVE)))
    recipe = replace(result(ARCHIVE).wheel.recipe, **changed)
    assert list(found.find_differences(recipe)) == expected


def test_compilers_count_only_for_a_build_that_started_one(tmp_path: Path) -> None:
    """A wheel of another build is the same with any compiler."""
    here = result(ARCHIVE, machine={"cc": "gcc 12"})
    recipe = replace(here.wheel.recipe, machine={"cc": "gcc 13"})
    found = read(tmp_path, statement(here))
    assert found.find_differences(recipe) == ("tool cc 'gcc 12' → 'gcc 13'",)
    pure = replace(here.wheel, recipe=here.wheel.recipe.without_compilers)
    found = read(tmp_path, statement(replace(here, wheel=pure)))
    assert found.find_differences(recipe) == ()


def test_a_passed_value_is_compared_by_the_key(tmp_path: Path) -> None:
    """The statement doesn't have the value, and another store has another salt."""
    here = result(ARCHIVE, passed={"TOKEN": "hmac:1"}, passed_digest="a")
    found = read(tmp_path, statement(here))
    recipe = replace(here.wheel.recipe, passed={"TOKEN": "hmac:2"})
    assert found.find_differences(recipe) == ()
    (line,) = found.find_differences(replace(recipe, passed_digest="b"))
    assert line == "a value that the statement doesn't have, such as of TOKEN"


def test_a_changed_wheel_is_compared_as_it_was_built(tmp_path: Path) -> None:
    """A repair lists the original wheel."""
    original = replace(result(ARCHIVE).wheel, path=Path("x-1.0-py3-none-any.whl"))
    repair = Repair(
        wheel=result(ARCHIVE).wheel,
        original=replace(original, sha256=TORCH),
        tools={},
        bundled=(),
        external=(),
    )
    found = read(tmp_path, statement(result(ARCHIVE), repair))
    assert found.is_changed
    assert found.built == ("x-1.0-py3-none-any.whl", TORCH)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("_type", "x", f"_type: expected {STATEMENT}, found 'x'"),
        ("payload", "x", "is in a signed envelope"),
        ("subject", [], "subject: expected one wheel, found 0"),
        (
            "subject.0.name",
            "../a-1.0-py3-none-any.whl",
            "subject[0].name: Invalid",
        ),
        ("subject.0.digest.sha256", "../x", "subject[0].digest.sha256: isn't a sha256"),
        (
            "predicate.buildDefinition.buildType",
            "make",
            "predicate.buildDefinition.buildType: expected pkg:pypi/nox-buildstages",
        ),
        (
            "predicate.buildDefinition.externalParameters.env",
            {"A": 1},
            "predicate.buildDefinition.externalParameters.env.A: expected a string",
        ),
        (
            "predicate.buildDefinition.resolvedDependencies",
            [],
            "has no source",
        ),
    ],
)
def test_a_statement_that_cannot_be_used_is_an_error(
    tmp_path: Path, place: str, value: object, message: str
) -> None:
    """It names the place."""
    found = inner = json.loads(format_statements([statement(result(ARCHIVE))]))
    *steps, last = place.split(".")
    for step in steps:
        inner = inner[int(step) if step.isdigit() else step]
    inner[last] = value
    path = tmp_path / "s.json"
    path.write_text(json.dumps(found))
    with pytest.raises(UsageError) as caught:
        reading.read_statements(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "it is empty"), ("{", "is not JSON"), ("[]", "expected a table")],
)
def test_a_file_without_a_statement_is_an_error(
    tmp_path: Path, text: str, message: str
) -> None:
    """So is a missing file."""
    path = tmp_path / "s.json"
    with pytest.raises(UsageError, match="No such file"):
        reading.read_statements(path)
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        reading.read_statements(path)
