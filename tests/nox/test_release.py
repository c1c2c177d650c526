"""`build-stages-release`: a wheelhouse that others can verify and install from."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nox_buildstages.value import replace

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import pytest
import tomli_w
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementProto

from nox_buildstages.errors import WheelError
from nox_buildstages.system.files import file_stamp, sha256_of
from nox_buildstages.wheels.wheel import read_wheel
from support.elsewhere import UV, Elsewhere, make_elsewhere, run
from support.packages import make_wheel
from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    declare,
    entry,
    kernels_tree,
    publish,
    recipe,
    refused,
    site_packages,
    world,
)
from support.pythons import HERE
from support.sbom import sbom_error
from support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.index import Index
    from support.project import Project

RELEASE = ("-s", "build-stages-release")
VENDOR = (*RELEASE, "--", "--vendor")
TENSORLIB = "tensorlib-1.0-py3-none-any.whl"

PAIR = Pair(
    top={"constraints": ["tensorlib<2"]},
    final={"requirements": ["models"], "imports": ["models"]},
    first={"env": {"ARCH": "9.0", "HUB_TOKEN": "hunter2"}, "pass-env": ["NAME"]},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """A project that was released once.

    Attributes:
        index: The package index of the project.
        project: The project with a released wheelhouse.
        output: The output of nox, if the release is of this test.
    """

    index: Index
    project: Project
    output: str = ""

    @property
    def house(self) -> Path:
        """The released wheelhouse."""
        return self.project.wheelhouse


@pytest.fixture(scope="module")
def vendored(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[Released]:
    with world(tmp_path_factory.mktemp("vendored"), caches) as (index, project):
        PAIR.write(project)
        output = project.nox(*VENDOR).output
        yield Released(index=index, project=project, output=output)


@pytest.fixture
def released(index: Index, project: Project) -> Released:
    publish(index)
    PAIR.write(project)
    project.prepare("build-stages-release")
    return Released(index=index, project=project)


@pytest.fixture(scope="module")
def elsewhere(
    vendored: Released, tmp_path_factory: pytest.TempPathFactory
) -> Elsewhere:
    folder = tmp_path_factory.mktemp("elsewhere")
    return make_elsewhere(folder, vendored.project.env)


def statements(released: Released) -> dict[str, dict[str, Any]]:
    """Return the provenance statements, by wheel."""
    lines = released.house.joinpath("provenance.jsonl").read_text("utf-8").splitlines()
    found = map(json.loads, lines)
    return {statement["subject"][0]["name"]: statement for statement in found}


# What is in the folder ------------------------------------------------------------


def files(house: Path) -> list[str]:
    """Return the files of a release, without the report of the run that made it."""
    found = (path for path in house.rglob("*") if path.is_file())
    names = {path.relative_to(house).as_posix() for path in found}
    names -= {"report.html", "timeline.json"}
    return sorted(name for name in names if not name.startswith(("logs/", ".")))


def test_a_release_has_these_files(vendored: Released) -> None:
    """The wheels, the bound lock and the manifest are part of the release."""
    wheels = (KERNELS, MODELS, TENSORLIB)
    pages = ("index.html", "index.json")
    assert files(vendored.house) == sorted(
        [
            *wheels,
            *(f"{name}.metadata" for name in wheels),
            *("SHA256SUMS", "build-stages.json", "pylock.toml"),
            *("provenance.jsonl", "sbom.cdx.json"),
            *(f"simple/{page}" for page in pages),
            *(
                f"simple/{name}/{page}"
                for name in ("kernels", "models", "tensorlib")
                for page in pages
            ),
        ]
    )
    assert f"fetching {TENSORLIB}" in vendored.output
    assert f"ready to publish: {vendored.house} (3 wheels)" in vendored.output
    assert "py_serializable" not in vendored.output


@pytest.mark.slow
def test_sboms_in_wheels_are_made_in_silence(released: Released) -> None:
    """The library that writes them logs each of its classes."""
    output = released.project.nox(*RELEASE, "--", "--embed-sbom").output
    assert "py_serializable" not in output


def test_sha256sum_verifies_the_sums(vendored: Released) -> None:
    """The sums list all files except the index, whose pages have the same hashes."""
    env, house = vendored.project.env, vendored.house
    said = run("sha256sum", "--strict", "-c", "SHA256SUMS", env=env, cwd=house)
    top = [name for name in files(house) if "/" not in name]
    left = {"SHA256SUMS", "build-stages.json"}
    assert re.findall("(.+): OK", said) == [it for it in top if it not in left]


def test_only_outputs_are_released_by_default(released: Released) -> None:
    """Wheels from indexes stay there, and the lock refers to the index."""
    assert files(released.house) == sorted(
        [
            *(KERNELS, f"{KERNELS}.metadata", MODELS, f"{MODELS}.metadata"),
            *("SHA256SUMS", "build-stages.json", "pylock.toml"),
            *("provenance.jsonl", "sbom.cdx.json"),
            *("simple/index.html", "simple/index.json"),
            *("simple/kernels/index.html", "simple/kernels/index.json"),
            *("simple/models/index.html", "simple/models/index.json"),
        ]
    )
    lock = released.house.joinpath("pylock.toml").read_text("utf-8")
    assert released.index.file_url(TENSORLIB) in lock


def test_a_second_release_changes_nothing(vendored: Released) -> None:
    """No file is written again, except those of a build."""
    paths = [vendored.house / name for name in files(vendored.house)]
    before = {path: (path.read_bytes(), file_stamp(path)) for path in paths}
    output = vendored.project.nox(*VENDOR).output
    assert "fetching" not in output
    assert files(vendored.house) == [
        path.relative_to(vendored.house).as_posix() for path in paths
    ]
    changed = {path.name for path in paths if path.read_bytes() != before[path][0]}
    written = {path.name for path in paths if file_stamp(path) != before[path][1]}
    assert changed <= {"build-stages.json"}  # built, then cached
    assert written <= {"build-stages.json", "pylock.toml"}


def test_equal_inputs_give_equal_bytes(released: Released) -> None:
    """A new wheelhouse from the same store has the same bytes."""
    manifest = released.house / "build-stages.json"
    manifest.unlink()
    before = {
        name: (released.house / name).read_bytes() for name in files(released.house)
    }
    shutil.rmtree(released.house)
    released.project.nox(*RELEASE)
    manifest.unlink()
    after = {
        name: (released.house / name).read_bytes() for name in files(released.house)
    }
    assert after == before


# Installing from it ---------------------------------------------------------------

OLD = "tensorlib (>=1.0.*)"
ALL = ["kernels", "models", "tensorlib"]


@pytest.mark.parametrize("tool", [pytest.param("pip", marks=pytest.mark.slow), "uv"])
def test_installers_need_only_the_index_the_folder_or_the_lock(
    vendored: Released, elsewhere: Elsewhere, tmp_path: Path, tool: str
) -> None:
    """The index works with any web server, or none, and from any folder."""
    copy = shutil.copytree(vendored.house, tmp_path / "a copy")
    alone = ["--no-index"]
    if tool == "uv":
        alone = ["--offline", "--preview-features", "pylock"]
    with served(copy) as url:
        for words in (
            ("--index-url", f"{copy.as_uri()}/simple/", "models"),
            ("--index-url", f"{url}/simple/", "models"),
            ("--no-index", "--find-links", vendored.house, "models"),
            (*alone, "-r", vendored.house / "pylock.toml"),
        ):
            getattr(elsewhere, tool)(*words)
            assert elsewhere.held() == ALL
            elsewhere.uninstall(*ALL)


def test_another_project_uses_the_index(
    vendored: Released, elsewhere: Elsewhere
) -> None:
    """The lock of uv has the hash of the wheel in the wheelhouse."""
    folder = elsewhere.folder / "second"
    folder.mkdir()
    index = {"name": "ours", "url": f"{vendored.house.as_uri()}/simple/"}
    document = {
        "project": {
            "name": "second",
            "version": "1",
            "requires-python": ">=3.10",
            "dependencies": ["models"],
        },
        "tool": {"uv": {"package": False, "index": [{**index, "default": True}]}},
    }
    folder.joinpath("pyproject.toml").write_text(tomli_w.dumps(document), "utf-8")
    run(UV, "sync", "-q", "-p", elsewhere.python, env=elsewhere.env, cwd=folder)
    held = site_packages(folder / ".venv").glob("*.dist-info")
    assert sorted(path.name.partition("-")[0] for path in held) == ALL
    assert (
        entry(vendored.project, "models")["sha256"] in (folder / "uv.lock").read_text()
    )


def test_resolving_needs_only_metadata(
    vendored: Released, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """The resolver reads METADATA beside the wheels, and fetches no wheel."""
    index = tmp_path / "index"
    shutil.copytree(vendored.house, index)
    for wheel in index.glob("*.whl"):
        wheel.unlink()
    with served(index) as url:
        argv = ("pip", "compile", "-q", "--index-url", f"{url}/simple/", "-")
        elsewhere.folder.joinpath("in.txt").write_text("models\n")
        said = elsewhere.run(UV, *argv[:-1], "in.txt", "-p", elsewhere.python)
    assert re.findall(r"^(\S+)==", said, re.MULTILINE) == ALL


# What is stated of the wheels -----------------------------------------------------


def test_each_wheel_has_a_valid_statement(vendored: Released) -> None:
    """The statements are valid for in-toto and SLSA, and match the wheels."""
    found = statements(vendored)
    assert [*found] == [KERNELS, MODELS]
    for name, statement in found.items():
        parsed = json_format.ParseDict(statement, StatementProto())
        Statement.copy_from_pb(parsed).validate()
        assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
        predicate = json_format.ParseDict(statement["predicate"], Provenance())
        assert predicate.run_details.builder.id
        assert predicate.build_definition.build_type
        (subject,) = parsed.subject
        assert subject.digest == {"sha256": sha256_of(vendored.house / name)}


def test_a_statement_lists_all_inputs(vendored: Released) -> None:
    """The source and every wheel of the environment have a hash and a location."""
    project = vendored.project
    for name, wheel in (("kernels", KERNELS), ("models", MODELS)):
        definition = statements(vendored)[wheel]["predicate"]["buildDefinition"]
        source, *others = definition["resolvedDependencies"]
        (locked,) = project.lock({"kernels": "first", "models": "second"}[name])[
            "tool"
        ]["nox-buildstages"]["outputs"]
        assert source["digest"] == {"sha256": locked["source"]["sha256"]}
        assert source["uri"] == locked["source"]["url"]
        held = recipe(project, name)["environment"]
        assert {it["name"]: it["digest"]["sha256"] for it in others} == {
            name: held[name]["sha256"] for name in held
        }
        places = {it["name"]: it.get("downloadLocation") for it in others}
        assert places["tensorlib"] == vendored.index.file_url(TENSORLIB)
    assert definition["internalParameters"]["key"] == entry(project, "models")["key"]
    (kernels,) = (it for it in others if it["name"] == "kernels")
    assert kernels["annotations"]["stage"] == "first"


def test_no_secret_is_published(vendored: Released) -> None:
    """A variable with the name of a secret is published as a digest."""
    definition = statements(vendored)[KERNELS]["predicate"]["buildDefinition"]
    env = definition["externalParameters"]["env"]
    assert env["ARCH"] == "9.0"
    assert env["HUB_TOKEN"].startswith("sha256:")
    for name in files(vendored.house):
        assert b"hunter2" not in (vendored.house / name).read_bytes()


@pytest.mark.slow
def test_the_sbom_is_valid(vendored: Released) -> None:
    """The SBOM has every wheel of the runtime, with hash and dependencies."""
    text = vendored.house.joinpath("sbom.cdx.json").read_text("utf-8")
    assert sbom_error(text) is None
    bill = json.loads(text)
    assert "timestamp" not in bill["metadata"]
    components = {it["name"]: it for it in bill["components"]}
    hashes = {name: it["hashes"][0]["content"] for name, it in components.items()}
    wheels = {"kernels": KERNELS, "models": MODELS, "tensorlib": TENSORLIB}
    assert hashes == {name: sha256_of(vendored.house / wheels[name]) for name in wheels}
    graph = {it["ref"]: it.get("dependsOn", []) for it in bill["dependencies"]}
    assert graph == {
        "runtime": ["pkg:pypi/models@1.0"],
        "pkg:pypi/models@1.0": ["pkg:pypi/kernels@1.0"],
        "pkg:pypi/kernels@1.0": ["pkg:pypi/tensorlib@1.0"],
        "pkg:pypi/tensorlib@1.0": [],
    }
    (source,) = components["kernels"]["pedigree"]["ancestors"]
    assert source["hashes"][0]["content"] in text
    assert source["externalReferences"][0]["type"] == "source-distribution"
    assert "pedigree" not in components["tensorlib"]


# What is not true any more --------------------------------------------------------


def test_vendored_wheels_are_removed_again(released: Released) -> None:
    """Their pages are removed too; files of the user stay and are left out."""
    own = make_wheel(released.house, "mine", "1.0")
    released.project.nox(*VENDOR)
    assert (released.house / TENSORLIB).is_file()
    written = released.house / "simple/tensorlib/notes.txt"
    changed = released.house / f"{TENSORLIB}.metadata"
    notes = released.house / "notes.txt"
    for path in (written, changed, notes):
        path.write_text("mine", "utf-8")
    with released.house.joinpath("SHA256SUMS").open("a", encoding="utf-8") as sums:
        sums.write(f"no sum\n{sha256_of(notes)}  notes.txt\n")
    output = released.project.nox(*RELEASE).output
    left = [released.house / it for it in files(released.house) if "tensorlib" in it]
    assert sorted(left) == sorted([written, changed])
    assert own.is_file()
    assert notes.is_file()
    assert f"left out: {own.name}, which no stage built" in output
    assert own.name not in released.house.joinpath("SHA256SUMS").read_text()


def test_a_tampered_wheel_is_not_released(released: Released) -> None:
    """A check of the project changes the wheel after its installation."""
    script = f"open('wheelhouse/{KERNELS}', 'ab').write(b'x')"
    final = {**PAIR.final, "checks": [["python", "-c", script]]}
    replace(PAIR, final=final).write(released.project)
    said = refused(released.project, *RELEASE)
    assert f"{KERNELS}: was changed after the build, so nothing is released" in said


# Where wheels come from -----------------------------------------------------------


def test_wheels_are_vendored_from_every_location(
    released: Released, tmp_path: Path
) -> None:
    """From an index, a URL and a folder, even with metadata older than the standard."""
    old = make_wheel(released.index.folder, "old", "1.0", requires=[OLD])
    with pytest.raises(WheelError):
        read_wheel(old)
    links = released.project.folder / "links"
    make_wheel(links, "linked", "1.0")
    direct = make_wheel(tmp_path, "direct", "1.0")
    released.index.add(direct)
    url = released.index.file_url(direct.name)
    requirements = ["models", f"direct @ {url}", "linked", "old"]
    final = {**PAIR.final, "requirements": requirements}
    replace(PAIR, final=final).write(released.project)
    with released.project.pyproject.open("a", encoding="utf-8") as file:
        file.write('\n[tool.uv]\nfind-links = ["links"]\n')
    released.project.nox(*VENDOR)
    house = released.house
    linked = "linked-1.0-py3-none-any.whl"
    wheels = [KERNELS, MODELS, TENSORLIB, direct.name, linked, old.name]
    assert [name for name in files(house) if name.endswith(".whl")] == sorted(wheels)
    lock = tomllib.loads(house.joinpath("pylock.toml").read_text("utf-8"))
    paths = [wheel["path"] for it in lock["packages"] for wheel in it["wheels"]]
    assert sorted(paths) == sorted(wheels)
    assert "http" not in house.joinpath("pylock.toml").read_text("utf-8")
    bill = json.loads(released.house.joinpath("sbom.cdx.json").read_bytes())
    graph = {it["ref"]: it.get("dependsOn") for it in bill["dependencies"]}
    assert graph["pkg:pypi/old@1.0"] is None
    assert "pkg:pypi/old@1.0" in graph["runtime"]
    page = released.house.joinpath("simple/old/index.json").read_text("utf-8")
    assert "old-1.0-py3-none-any.whl" in page


def test_a_replaced_wheel_is_not_vendored(released: Released) -> None:
    """The index has another file than the lock, and uv's cache is ignored."""
    make_wheel(released.index.folder, "tensorlib", "1.0", files={"more.py": ""})
    said = refused(released.project, *VENDOR)
    assert "it isn't the file that was locked" in said
    assert not (released.house / TENSORLIB).exists()
    assert not (released.house / ".fetching").exists()


# What is said of it ---------------------------------------------------------------


@pytest.mark.slow
def test_each_python_has_its_own_release(project: Project) -> None:
    """Its session has a suffix. Public indexes reject a Linux tag without a libc."""
    output = kernels_tree(project, tag="py3-none-linux_x86_64")
    table = {"name": "only", "outputs": [output]}
    declare(
        project,
        {"python": [HERE], "stage": [table], "final": {"requirements": ["kernels"]}},
    )
    said = project.nox("-s", f"build-stages-release-{HERE}").output
    assert f"ready to publish: {project.wheelhouse} (1 wheel)" in said
    assert f"* build-stage-only-{HERE}: success" in said
    assert re.search(
        r"linux_x86_64: kernels; for machines like this one, with (glibc|musl) \d+\.\d+"
        " or newer, and public indexes such as PyPI reject this tag",
        said,
    )


def test_without_cyclonedx_the_sbom_is_left_out(released: Released) -> None:
    """The output names the package to install; the former SBOM is removed."""
    assert (released.house / "sbom.cdx.json").is_file()
    noxfile = released.project.noxfile
    without = 'import sys\n\nsys.modules["cyclonedx"] = None\n'
    noxfile.write_text(without + noxfile.read_text("utf-8"), "utf-8")
    said = released.project.nox(*RELEASE).output
    assert "left out: the SBOM" in said
    assert "pip install 'nox-buildstages[sbom]'" in said
    assert not (released.house / "sbom.cdx.json").exists()
    assert "sbom" not in (released.house / "SHA256SUMS").read_text("utf-8")


def test_the_time_of_the_sbom_is_source_date_epoch(released: Released) -> None:
    """An invalid time is an error."""
    epoch = {"SOURCE_DATE_EPOCH": "315532800"}
    released.project.nox(*RELEASE, env=epoch)
    bill = json.loads(released.house.joinpath("sbom.cdx.json").read_bytes())
    assert bill["metadata"]["timestamp"] == "1980-01-01T00:00:00+00:00"
    said = refused(released.project, *RELEASE, env={"SOURCE_DATE_EPOCH": "now"})
    assert "SOURCE_DATE_EPOCH is 'now', which isn't a time" in said


def test_files_of_a_failed_release_are_removed_later(
    released: Released,
) -> None:
    """The sums of the failed release list its files for the next release."""
    make_wheel(released.index.folder, "zlate", "1.0")
    final = {**PAIR.final, "requirements": ["models", "zlate"]}
    replace(PAIR, final=final).write(released.project)
    released.project.nox("-s", "build-stages")
    released.index.remove("zlate")
    assert "zlate" in refused(released.project, *VENDOR)
    assert (released.house / TENSORLIB).is_file()
    sums = released.house.joinpath("SHA256SUMS").read_text("utf-8")
    assert "zlate-1.0" in sums
    released.project.nox(*RELEASE)
    assert released.project.wheels() == [KERNELS, MODELS]
    argv = ("sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS")
    assert not run(*argv, env=released.project.env, cwd=released.house)


# Rebuilt from a statement ---------------------------------------------------------


def check(path: Path) -> tuple[str, ...]:
    return ("--", "--check", str(path))


@pytest.mark.slow
def test_a_release_is_rebuilt_and_equal(released: Released) -> None:
    """The second stage has the first one's wheel; nothing is released or stored."""
    project = released.project
    shutil.copy(released.house / "provenance.jsonl", project.folder / "given.jsonl")
    shutil.rmtree(released.house)
    before = sorted(project.store.glob("wheels/**/*"))
    said = project.nox(*RELEASE, *check(project.folder / "given.jsonl")).output
    for name, wheel in (("kernels", KERNELS), ("models", MODELS)):
        assert f"building {name} 1.0 again" in said
        assert f"equal: {wheel} (sha256:" in said
    assert "2 wheels are equal to what given.jsonl says" in said
    assert "Session build-stages skipped: --check installs nothing" in said
    assert not list(released.house.glob("*.whl"))
    assert sorted(project.store.glob("wheels/**/*")) == before


def test_a_statement_with_other_inputs_names_them(released: Released) -> None:
    """Before anything is built; so are variables that the build had, and aren't set."""
    project = released.project
    path = project.folder / "given.jsonl"
    text = released.house.joinpath("provenance.jsonl").read_text("utf-8")
    path.write_text(text.replace('"ARCH": "9.0"', '"ARCH": "8.0"'))
    said = refused(project, "-s", "build-stage-first", *check(path))
    assert f"{KERNELS}: not equal: the inputs differ, so nothing is rebuilt" in said
    assert "  env ARCH '8.0' → '9.0'" in said
    path.write_text(text.replace('"pass-env": {}', '"pass-env": {"NAME": ""}'))
    said = refused(project, "-s", "build-stage-first", *check(path))
    assert "that the build had aren't set: NAME" in said
    assert "  export NAME=…" in said


def test_a_rebuilt_wheel_is_compared_with_the_released_one_alone(
    released: Released,
) -> None:
    """A wheel of the same key in the store may be another one."""
    path = released.project.folder / "given.jsonl"
    subject = {"name": KERNELS, "digest": {"sha256": "0" * 64}}
    statement = {**statements(released)[KERNELS], "subject": [subject]}
    path.write_text(json.dumps(statement))
    said = refused(released.project, "-s", "build-stage-first", *check(path))
    assert f"not equal: {KERNELS}" in said
    assert "the released wheel isn't here" in said
    assert "help: put the released wheels beside given.jsonl to compare them" in said
