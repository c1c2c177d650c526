"""Variant wheels, experimental: what uv chooses, and what pip takes as before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheels.wheel import verify_record
from support.elsewhere import UV, make_elsewhere
from support.packages import make_sdist, read_from_wheel
from support.pair import declare, refused, site_packages, world
from support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.index import Index
    from support.project import Project

RELEASE = ("-s", "build-stages-release")
VARIANTS = (*RELEASE, "--", "--variants")
PREVIEW = ("--preview-features", "wheel-variants")
TAG = "py3-none-any"


def needs(arch: str, cuda: str) -> dict[str, Any]:
    """Return a value of an axis, whose wheels need a GPU and a driver."""
    features = {"cuda_version_lower_bound": [cuda], "sm_arch": [f"{arch}_real"]}
    return {"variant": {"nvidia": features}}


ARCHS = {
    "8.0+PTX": needs("80", "12.4"),
    "9.0": needs("90", "13.0"),
    "none": {"variant": {}},
}


def table(**axes: object) -> dict[str, Any]:
    """Return a table in which kernels depends on the axes, and models on none."""
    return {
        "matrix": axes or {"arch": ARCHS},
        "final": {"requirements": ["models"]},
        "stage": [
            {
                "name": "kernels",
                "outputs": ["kernels"],
                "env": {"ARCH": " ".join(f"{{{axis}}}" for axis in axes or ["arch"])},
            },
            {"name": "models", "outputs": ["models"]},
        ],
    }


@pytest.fixture(scope="module")
def released(
    tmp_path_factory: pytest.TempPathFactory, caches: Path
) -> Iterator[Project]:
    """A project whose cells were released together, as variants too."""
    with world(tmp_path_factory.mktemp("variants"), caches) as (index, project):
        publish(index)
        declare(project, table())
        project.nox("-s", "build-stages-lock")
        project.nox(*RELEASE, "-j", "2", "--", "--variants")
        yield project


def publish(index: Index) -> None:
    """Put kernels and models on the index; kernels tells what it was built for."""
    settings: dict[str, Any] = {"stamp": [], "env": ["ARCH"]}
    make_sdist(index.folder, "kernels", "1.0", settings=settings)
    make_sdist(index.folder, "models", "1.0", requires=["kernels"])


@pytest.mark.slow
def test_uv_installs_the_right_variant_and_pip_the_plain_wheel(
    released: Project, tmp_path: Path
) -> None:
    """From the index on a web server, from its pages on a disk, and from the folder.

    A label is the name of a value, or a digest if a label mustn't be named like that.
    """
    folder = released.wheelhouse / "variants"
    assert sorted(path.name for path in folder.glob("*.whl")) == [
        f"kernels-1.0-{TAG}-9.0.whl",
        f"kernels-1.0-{TAG}-dcb4558f.whl",
        f"kernels-1.0-{TAG}-null.whl",
        f"kernels-1.0-{TAG}.whl",
        f"models-1.0-{TAG}.whl",
    ]
    elsewhere = make_elsewhere(tmp_path, released.env)

    def installs() -> str:
        file = site_packages(tmp_path / "venv") / "kernels/env.json"
        arch: str = json.loads(file.read_text("utf-8"))["ARCH"]
        elsewhere.uninstall("kernels", "models")
        return arch

    with served(folder) as url:
        for origin in (
            ("--index-url", f"{url}/simple/"),
            ("--index-url", f"{folder.as_uri()}/simple/"),
            ("--no-index", "--find-links", str(folder)),
        ):
            for driver, gpu, expected in (
                ("13.0", "9.0", "9.0"),
                ("12.5", "8.6", "8.0+PTX"),
                ("12.5", "9.0", "none"),
            ):
                elsewhere.run(
                    *("env", f"NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION={driver}"),
                    f"NV_VARIANT_PROVIDER_FORCE_SM_ARCH={gpu}",
                    *(UV, "pip", "install", "-q", "-p", elsewhere.python),
                    *(*PREVIEW, *origin, "models"),
                )
                assert installs() == expected, (origin, driver, gpu)
            elsewhere.pip(*origin, "models")
            assert installs() == "none"
            elsewhere.uv(*origin, "models")
            assert installs() == "none"


@pytest.mark.slow
def test_what_describes_variants(released: Project) -> None:
    """Each wheel describes its own variant, RECORD lists that, and a file has all."""
    folder = released.wheelhouse / "variants"
    described = json.loads((folder / "kernels-1.0-variants.json").read_bytes())
    nvidia = ARCHS["9.0"]["variant"]["nvidia"]
    assert described["variants"]["9.0"] == {"nvidia": nvidia}
    assert described["variants"].keys() == {"dcb4558f", "9.0", "null"}
    for label, features in described["variants"].items():
        wheel = folder / f"kernels-1.0-{TAG}-{label}.whl"
        verify_record(wheel)
        own = json.loads(read_from_wheel(wheel, "kernels-1.0.dist-info/variant.json"))
        assert own == {**described, "variants": {label: features}}
    sums = (folder / "SHA256SUMS").read_text("utf-8")
    released.nox(*VARIANTS)
    assert (folder / "SHA256SUMS").read_text("utf-8") == sums
    for line in sums.splitlines():
        sha256, _, name = line.partition("  ")
        assert sha256_of(folder / name) == sha256


@pytest.mark.slow
def test_the_provenance_of_variants(released: Project, tmp_path: Path) -> None:
    """Each file has a statement, which names the wheel that was built."""
    folder = released.wheelhouse / "variants"
    lines = (folder / "provenance.jsonl").read_text("utf-8").splitlines()
    named = {}
    for line in lines:
        statement = json.loads(line)
        (subject,) = statement["subject"]
        assert subject["digest"]["sha256"] == sha256_of(folder / subject["name"])
        named[subject["name"]] = statement["predicate"]
    assert sorted(named) == sorted(path.name for path in folder.glob("*.whl"))
    variant = named[f"kernels-1.0-{TAG}-9.0.whl"]
    internal = variant["buildDefinition"]["internalParameters"]
    assert internal["variant"] == ARCHS["9.0"]["variant"]
    built = released.wheelhouse / "9.0" / f"kernels-1.0-{TAG}.whl"
    *_, original = variant["runDetails"]["byproducts"]
    assert original == {"name": built.name, "digest": {"sha256": sha256_of(built)}}

    path = tmp_path / "one.jsonl"
    path.write_text(next(it for it in lines if f"{TAG}-9.0.whl" in it), "utf-8")
    release = "build-stages-release(arch=9.0)"
    said = refused(released, "-s", release, "--", "--check", str(path))
    assert "equal as built, but what was changed afterwards isn't repeated" in said


@pytest.mark.slow
def test_other_sessions_ignore_variants(released: Project) -> None:
    """A merge takes none of them, and a release without the word removes them."""
    folder = released.wheelhouse / "variants"
    released.nox("-s", "build-stages", "build-stages-plan", "build-stages-prune")
    assert len([*folder.glob("*.whl")]) == 5
    merge = ("-s", "build-stages-merge", "--", "--by-cell")
    done = released.nox(*merge, str(released.wheelhouse))
    assert "(3 wheelhouses, 6 wheels)" in done.output
    assert "no wheelhouse" in refused(released, *merge, str(folder))
    assert len([*folder.glob("*.whl")]) == 5
    released.nox(*RELEASE)
    assert not folder.exists()
    released.nox(*VARIANTS)  # for the other tests


def test_wheels_of_one_variant_are_refused(project: Project) -> None:
    """Before anything is locked or built, since the cells' wheels have one name."""
    declare(project, table(arch={**ARCHS, "also": ARCHS["9.0"]}))
    assert refused(project, *VARIANTS).endswith(
        """\
error: kernels: two cells give wheels of one name and one variant
  (arch=9.0)
  (arch=also)
help: give them different variants, or different versions, with local-version in:
  [tool.nox-buildstages.package.kernels]
"""
    )
    declare(project, table(arch=ARCHS, tensor=["1", "2"]))
    assert "(tensor=1, arch=8.0+PTX)\n  (tensor=2, arch=8.0+PTX)" in refused(
        project, *VARIANTS
    )


def test_variants_need_a_matrix_and_all_cells(project: Project) -> None:
    """A project without variants is told how to declare them, and a cell is one."""
    declare(project, table(arch=["8.0", "9.0"]))
    assert "needs an axis whose values have a variant" in refused(project, *VARIANTS)
    declare(project, table())
    cell = ("-s", "build-stages-release(arch=9.0)", "--", "--variants")
    assert "nox -s build-stages-release -- --variants" in refused(project, *cell)


@pytest.mark.slow
def test_variants_of_released_wheels_alone(project: Project, index: Index) -> None:
    """A missing null variant gives a line; a cell that wasn't released is an error."""
    publish(index)
    declare(project, table(arch={"9.0": ARCHS["9.0"]}))
    project.nox("-s", "build-stages-lock")
    done = project.nox(*VARIANTS)
    assert "no value with wheels of kernels 1.0 has variant = {}" in done.output
    folder = project.wheelhouse / "variants"
    assert not (folder / f"kernels-1.0-{TAG}.whl").exists()
    assert [*folder.glob("making-*")] == []
    (project.wheelhouse / "9.0/SHA256SUMS").unlink()
    alone = ("--no-dependencies", *VARIANTS)
    assert "its wheels weren't released" in refused(project, *alone)
