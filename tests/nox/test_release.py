"""`build-stages-release`: a wheelhouse that others can check and install from."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import pytest
import tomli_w
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
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
    declare_solo,
    entry,
    kernels_tree,
    recipe,
    refused,
    site_packages,
    world,
)
from support.pythons import HERE
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
    first={"env": {"ARCH": "9.0", "HUB_TOKEN": "hunter2"}},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """A project that was released once.

    Attributes:
        index: That it knows.
        project: With its wheelhouse.
        output: What nox said.
    """

    index: Index
    project: Project
    output: str

    @property
    def house(self) -> Path:
        """Its wheelhouse."""
        return self.project.wheelhouse

    def again(self, *args: str) -> str:
        """Release it again."""
        return self.project.nox(*args).output


@pytest.fixture(scope="module")
def vendored(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[Released]:
    with world(tmp_path_factory.mktemp("vendored"), caches) as (index, project):
        PAIR.write(project)
        output = project.nox(*VENDOR).output
        yield Released(index=index, project=project, output=output)


@pytest.fixture
def released(tmp_path: Path, caches: Path) -> Iterator[Released]:
    with world(tmp_path / "world", caches) as (index, project):
        PAIR.write(project)
        output = project.nox(*RELEASE).output
        yield Released(index=index, project=project, output=output)


@pytest.fixture
def elsewhere(vendored: Released, tmp_path: Path) -> Elsewhere:
    return make_elsewhere(tmp_path, vendored.project.env)


def statements(released: Released) -> dict[str, dict[str, Any]]:
    """Return what is stated of each wheel, by its file."""
    lines = released.house.joinpath("provenance.jsonl").read_text("utf-8").splitlines()
    found = map(json.loads, lines)
    return {statement["subject"][0]["name"]: statement for statement in found}


# What is in the folder ------------------------------------------------------------


def files(house: Path) -> list[str]:
    """Return what a release adds."""
    found = (path for path in house.rglob("*") if path.is_file())
    names = {path.relative_to(house).as_posix() for path in found}
    return sorted(name for name in names if not name.startswith(("logs/", ".")))


def test_a_release_is_these_files(vendored: Released) -> None:
    """Beside the wheels, the bound lock and the manifest."""
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
    assert f"fit to publish: {vendored.house} (3 wheels)" in vendored.output
    assert "py_serializable" not in vendored.output


def test_the_sums_are_what_sha256sum_checks(vendored: Released) -> None:
    """Of everything but the index, whose pages say the same hashes."""
    env, house = vendored.project.env, vendored.house
    said = run("sha256sum", "--strict", "-c", "SHA256SUMS", env=env, cwd=house)
    top = [name for name in files(house) if "/" not in name]
    left = {"SHA256SUMS", "build-stages.json"}
    assert re.findall("(.+): OK", said) == [it for it in top if it not in left]


def test_without_more_words_the_outputs_are_released(released: Released) -> None:
    """What comes from an index stays there, for the lock too."""
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
    assert f"/files/{TENSORLIB}" in lock


def test_a_second_release_changes_nothing(vendored: Released) -> None:
    """No byte, and no file is written again but those that a build writes."""
    paths = [vendored.house / name for name in files(vendored.house)]
    before = {path: (path.read_bytes(), file_stamp(path)) for path in paths}
    output = vendored.again(*VENDOR)
    assert "fetching" not in output
    assert files(vendored.house) == [
        path.relative_to(vendored.house).as_posix() for path in paths
    ]
    changed = {path.name for path in paths if path.read_bytes() != before[path][0]}
    written = {path.name for path in paths if file_stamp(path) != before[path][1]}
    assert changed <= {"build-stages.json"}  # built, then cached
    assert written <= {"build-stages.json", "pylock.toml"}


def test_equal_inputs_give_equal_bytes(released: Released) -> None:
    """A wheelhouse that is made anew, from the store, is the same."""
    manifest = released.house / "build-stages.json"
    manifest.unlink()
    before = {
        name: (released.house / name).read_bytes() for name in files(released.house)
    }
    shutil.rmtree(released.house)
    released.again(*RELEASE)
    manifest.unlink()
    after = {
        name: (released.house / name).read_bytes() for name in files(released.house)
    }
    assert after == before


# Installing from it ---------------------------------------------------------------

OLD = "tensorlib (>=1.0.*)"
ALL = ["kernels", "models", "tensorlib"]


@pytest.mark.parametrize("tool", ["pip", "uv"])
@pytest.mark.parametrize("where", ["file", "http"])
def test_the_index_is_all_that_an_installer_needs(
    vendored: Released, elsewhere: Elsewhere, tool: str, where: str
) -> None:
    """Over any web server, or none; wherever the folder is."""
    copy = shutil.copytree(vendored.house, elsewhere.folder / "a copy")
    install = getattr(elsewhere, tool)
    with served(copy) as url:
        root = copy.as_uri() if where == "file" else url
        install("--index-url", f"{root}/simple/", "models")
    assert elsewhere.held() == ALL


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_so_is_the_folder(vendored: Released, elsewhere: Elsewhere, tool: str) -> None:
    """For those who have no web server and no taste for URLs."""
    install = getattr(elsewhere, tool)
    install("--no-index", "--find-links", vendored.house, "models")
    assert elsewhere.held() == ALL


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_so_is_the_lock(vendored: Released, elsewhere: Elsewhere, tool: str) -> None:
    """It names every wheel by its path."""
    lock = vendored.house / "pylock.toml"
    if tool == "pip":
        elsewhere.pip("--no-index", "-r", lock)
    else:
        elsewhere.uv("--offline", "--preview-features", "pylock", "-r", lock)
    assert elsewhere.held() == ALL


def test_another_project_takes_it_for_an_index(
    vendored: Released, elsewhere: Elsewhere
) -> None:
    """In uv's table; what is locked there is a wheel of here, by hash."""
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


def test_metadata_is_read_before_any_wheel(
    vendored: Released, elsewhere: Elsewhere
) -> None:
    """From the file beside it: a resolution fetches no wheel."""
    index = elsewhere.folder / "index"
    shutil.copytree(vendored.house, index)
    for wheel in index.glob("*.whl"):
        wheel.unlink()
    with served(index) as url:
        argv = ("pip", "compile", "-q", "--index-url", f"{url}/simple/", "-")
        elsewhere.folder.joinpath("in.txt").write_text("models\n")
        said = elsewhere.run(UV, *argv[:-1], "in.txt", "-p", elsewhere.python)
    assert re.findall(r"^(\S+)==", said, re.MULTILINE) == ALL


# What is stated of the wheels -----------------------------------------------------


def test_each_wheel_has_a_statement_that_in_toto_takes(vendored: Released) -> None:
    """Statement v1 around SLSA provenance v1, about the wheel that is there."""
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


def test_a_statement_names_all_that_went_in(vendored: Released) -> None:
    """The source, and every wheel of the environment, by hash and place."""
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
    """A variable that is one by its name is told by a digest."""
    definition = statements(vendored)[KERNELS]["predicate"]["buildDefinition"]
    env = definition["externalParameters"]["env"]
    assert env["ARCH"] == "9.0"
    assert env["HUB_TOKEN"].startswith("sha256:")
    for name in files(vendored.house):
        assert b"hunter2" not in (vendored.house / name).read_bytes()


def test_the_bill_of_materials_is_one(vendored: Released) -> None:
    """CycloneDX: every wheel of the runtime, its hash, and what requires what."""
    text = vendored.house.joinpath("sbom.cdx.json").read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
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


def test_what_was_vendored_goes_where_it_is_not_asked_for(released: Released) -> None:
    """With its page; wheels of the user stay, and are left out."""
    own = make_wheel(released.house, "mine", "1.0")
    released.again(*VENDOR)
    assert (released.house / TENSORLIB).is_file()
    written = released.house / "simple/tensorlib/notes.txt"
    changed = released.house / f"{TENSORLIB}.metadata"
    notes = released.house / "notes.txt"
    for path in (written, changed, notes):
        path.write_text("mine", "utf-8")
    with released.house.joinpath("SHA256SUMS").open("a", encoding="utf-8") as sums:
        sums.write(f"no sum\n{sha256_of(notes)}  notes.txt\n")
    output = released.again(*RELEASE)
    left = [released.house / it for it in files(released.house) if "tensorlib" in it]
    assert sorted(left) == sorted([written, changed])
    assert own.is_file()
    assert notes.is_file()
    assert f"left out: {own.name}, which no stage built" in output
    assert own.name not in released.house.joinpath("SHA256SUMS").read_text()


def test_a_tampered_wheel_is_not_released(released: Released) -> None:
    """Whoever changes it after it was installed: here a check of the project."""
    script = f"open('wheelhouse/{KERNELS}', 'ab').write(b'x')"
    final = {**PAIR.final, "checks": [["python", "-c", script]]}
    replace(PAIR, final=final).write(released.project)
    said = refused(released.project, *RELEASE)
    assert f"{KERNELS}: in the wheelhouse isn't what was built" in said


# Where wheels come from -----------------------------------------------------------


def test_wheels_are_vendored_from_wherever_the_lock_has_them(
    released: Released, tmp_path: Path
) -> None:
    """An index, a URL, a folder."""
    links = released.project.folder / "links"
    make_wheel(links, "linked", "1.0")
    direct = make_wheel(tmp_path, "direct", "1.0")
    released.index.add(direct)
    url = released.index.file_url(direct.name)
    final = {**PAIR.final, "requirements": ["models", f"direct @ {url}", "linked"]}
    replace(PAIR, final=final).write(released.project)
    with released.project.pyproject.open("a", encoding="utf-8") as file:
        file.write('\n[tool.uv]\nfind-links = ["links"]\n')
    released.again(*VENDOR)
    house = released.house
    wheels = [KERNELS, MODELS, TENSORLIB, direct.name, "linked-1.0-py3-none-any.whl"]
    assert [name for name in files(house) if name.endswith(".whl")] == sorted(wheels)
    lock = tomllib.loads(house.joinpath("pylock.toml").read_text("utf-8"))
    paths = [wheel["path"] for it in lock["packages"] for wheel in it["wheels"]]
    assert sorted(paths) == sorted(wheels)
    assert "http" not in house.joinpath("pylock.toml").read_text("utf-8")


def test_a_wheel_that_was_replaced_is_not_vendored(released: Released) -> None:
    """What the index has now isn't what was locked, whatever uv has kept."""
    make_wheel(released.index.folder, "tensorlib", "1.0", files={"more.py": ""})
    said = refused(released.project, *VENDOR)
    assert "it isn't the file that was locked" in said
    assert not (released.house / TENSORLIB).exists()
    assert not (released.house / ".fetching").exists()


def test_old_metadata_is_no_obstacle(released: Released) -> None:
    """What an index has may have been made before there were rules."""
    old = make_wheel(released.index.folder, "old", "1.0", requires=[OLD])
    with pytest.raises(WheelError):
        read_wheel(old)
    final = {**PAIR.final, "requirements": ["models", "old"]}
    replace(PAIR, final=final).write(released.project)
    released.again(*VENDOR)
    bill = json.loads(released.house.joinpath("sbom.cdx.json").read_bytes())
    graph = {it["ref"]: it.get("dependsOn") for it in bill["dependencies"]}
    assert graph["pkg:pypi/old@1.0"] is None
    assert "pkg:pypi/old@1.0" in graph["runtime"]
    page = released.house.joinpath("simple/old/index.json").read_text("utf-8")
    assert "old-1.0-py3-none-any.whl" in page


# What is said of it ---------------------------------------------------------------


def test_what_wheels_need_is_told(project: Project, index: Index) -> None:
    """A tag of Linux in general is for no public index, and names no C library."""
    assert index.url
    output = kernels_tree(project, tag="py3-none-linux_x86_64")
    declare_solo(project, outputs=[output])
    said = project.nox(*RELEASE).output
    assert f"fit to publish: {project.wheelhouse} (1 wheel)" in said
    assert re.search(
        r"linux_x86_64: kernels; for machines like this one, with (glibc|musl) \d+\.\d+"
        " or newer, and public indexes such as PyPI don't take that tag",
        said,
    )


def test_a_bill_is_left_out_where_it_cannot_be_written(released: Released) -> None:
    """With what to install; the one of before is gone, for it could be wrong."""
    assert (released.house / "sbom.cdx.json").is_file()
    noxfile = released.project.noxfile
    without = 'import sys\n\nsys.modules["cyclonedx"] = None\n'
    noxfile.write_text(without + noxfile.read_text("utf-8"), "utf-8")
    said = released.again(*RELEASE)
    assert "left out: the SBOM" in said
    assert "pip install 'nox-buildstages[sbom]'" in said
    assert not (released.house / "sbom.cdx.json").exists()
    assert "sbom" not in (released.house / "SHA256SUMS").read_text("utf-8")


def test_the_time_of_a_bill_is_given_by_a_variable(released: Released) -> None:
    """As everywhere; what is no time is refused."""
    epoch = {"SOURCE_DATE_EPOCH": "315532800"}
    released.project.nox(*RELEASE, env=epoch)
    bill = json.loads(released.house.joinpath("sbom.cdx.json").read_bytes())
    assert bill["metadata"]["timestamp"] == "1980-01-01T00:00:00+00:00"
    said = refused(released.project, *RELEASE, env={"SOURCE_DATE_EPOCH": "now"})
    assert "SOURCE_DATE_EPOCH is 'now', and that is no time" in said


def test_a_python_has_a_release_of_its_own(project: Project, index: Index) -> None:
    """The session has its suffix, as all that build have."""
    assert index.url
    table = {"name": "only", "outputs": [kernels_tree(project)]}
    declare(
        project,
        {"python": [HERE], "stage": [table], "final": {"requirements": ["kernels"]}},
    )
    done = project.nox("-s", f"build-stages-release-{HERE}")
    assert f"fit to publish: {project.wheelhouse} (1 wheel)" in done.output
    assert f"* build-stage-only-{HERE}: success" in done.output


def test_a_release_that_failed_leaves_word_of_what_it_brought(
    released: Released,
) -> None:
    """The next one removes it; meanwhile the sums don't hold."""
    make_wheel(released.index.folder, "zlate", "1.0")
    final = {**PAIR.final, "requirements": ["models", "zlate"]}
    replace(PAIR, final=final).write(released.project)
    released.project.nox("-s", "build-stages")
    released.index.remove("zlate")
    assert "zlate" in refused(released.project, *VENDOR)
    assert (released.house / TENSORLIB).is_file()
    sums = released.house.joinpath("SHA256SUMS").read_text("utf-8")
    assert "zlate-1.0" in sums
    released.again(*RELEASE)
    assert released.project.wheels() == [KERNELS, MODELS]
    argv = ("sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS")
    assert not run(*argv, env=released.project.env, cwd=released.house)
