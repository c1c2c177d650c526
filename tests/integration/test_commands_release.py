"""The session that releases, without nox: files, tampering, and a former release."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.commands.merge.merge import merge_wheelhouses
from nox_buildstages.commands.release.embed import MEMBER
from nox_buildstages.commands.release.release import run_release
from nox_buildstages.errors import WheelError
from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheelhouse.checksums import read_sums
from nox_buildstages.wheels.wheel import verify_record
from support.pair import KERNELS, MODELS, Pair, entry, publish
from support.sessions import Sessions

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

TENSORLIB = "tensorlib-1.0-py3-none-any.whl"
RELEASE = "build-stages-release"


@pytest.fixture
def sessions(
    index: Index, project: Project, caplog: pytest.LogCaptureFixture
) -> Sessions:
    """A project whose wheels are built."""
    publish(index)
    caplog.set_level("INFO", logger="nox")
    constraints = {"constraints": ["tensorlib<2"]}
    Pair(top=constraints, final={"requirements": ["models"]}).write(project)
    project.prepare()
    return Sessions(project=project)


def test_a_release_is_complete(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """The sums match all files, and the manifest and the statements all outputs."""
    house = sessions.project.wheelhouse
    run_release(sessions.open(RELEASE, "--vendor"))
    assert f"ready to publish: {house} (3 wheels)" in caplog.messages
    sums = read_sums(house)
    wheels = [KERNELS, MODELS, TENSORLIB]
    others = ["provenance.jsonl", "pylock.toml", "sbom.cdx.json"]
    assert [*sums] == sorted([*wheels, *(f"{it}.metadata" for it in wheels), *others])
    assert {name: sha256_of(house / name) for name in sums} == sums
    lines = (house / "provenance.jsonl").read_text("utf-8").splitlines()
    subjects = [json.loads(line)["subject"][0]["name"] for line in lines]
    assert subjects == [KERNELS, MODELS]


def test_a_release_removes_files_of_the_former_release(sessions: Sessions) -> None:
    """Vendored wheels are removed with their pages."""
    house = sessions.project.wheelhouse
    run_release(sessions.open(RELEASE, "--vendor"))
    assert (house / "simple/tensorlib/index.html").is_file()
    run_release(sessions.open(RELEASE))
    assert not (house / TENSORLIB).exists()
    assert not (house / "simple/tensorlib").exists()


def test_each_wheel_gets_an_sbom_of_its_build(sessions: Sessions) -> None:
    """It names what built the wheel, and no path or time: the same each time.

    RECORD, the manifest and the statement know of it.
    """
    project = sessions.project
    wheel = project.wheelhouse / MODELS
    original = sha256_of(wheel)
    found = []
    for _ in range(2):
        run_release(sessions.open(RELEASE, "--embed-sbom"))
        found.append(sha256_of(wheel))
    assert found[0] == found[1] != original
    verify_record(wheel)
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"models-1.0.dist-info/{MEMBER}").decode()
    assert str(project.folder) not in text
    assert "timestamp" not in text
    bill = json.loads(text)
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/models@1.0"
    parts = {it["name"]: it["scope"] for it in bill["components"]}
    assert parts == dict.fromkeys(("kernels", "tensorlib", "tinybackend"), "excluded")
    listed = entry(project, "models")
    assert (listed["sha256"], listed["sbom"]) == (found[0], MEMBER)
    lines = (project.wheelhouse / "provenance.jsonl").read_text("utf-8").splitlines()
    statement = json.loads(lines[1])
    assert statement["subject"] == [{"name": MODELS, "digest": {"sha256": found[0]}}]
    byproducts = statement["predicate"]["runDetails"]["byproducts"]
    assert {"name": MODELS, "digest": {"sha256": original}} in byproducts
    bound = (project.wheelhouse / "pylock.toml").read_text("utf-8")
    assert found[0] in bound


def test_a_changed_wheel_is_not_released(sessions: Sessions) -> None:
    """The error says how to restore the wheel, and nothing is written."""
    (sessions.project.wheelhouse / KERNELS).write_bytes(b"changed")
    with pytest.raises(WheelError, match="so nothing is released") as caught:
        run_release(sessions.open(RELEASE))
    assert caught.value.subject == KERNELS
    assert "nox -s build-stages" in caught.value.hint
    assert not (sessions.project.wheelhouse / "SHA256SUMS").exists()


def test_a_release_can_be_merged(sessions: Sessions) -> None:
    """The merged wheelhouse has the same wheels, lock, statements and SBOM."""
    house, target = sessions.project.wheelhouse, sessions.project.folder / "merged"
    run_release(sessions.open(RELEASE, "--vendor"))
    merge_wheelhouses([house], target)
    same = [KERNELS, MODELS, TENSORLIB, "pylock.toml", "provenance.jsonl", "SHA256SUMS"]
    for name in (*same, "sbom.cdx.json", "simple/index.json"):
        assert (target / name).read_bytes() == (house / name).read_bytes()
