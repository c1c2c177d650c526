"""The locks of the farm for two architectures, with the CPU build of torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli_w

from nox_buildstages.reader import parse_toml
from support.real import (
    TORCH,
    folder_with_torch,
    make_real_project,
)

if TYPE_CHECKING:
    from support.project import Project

FARM = Path(__file__).parents[2] / "examples" / "farm"
WITHOUT_CUDA = {
    "FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE",
    "FORCE_CUDA": "0",
}
REQUIRES = {
    "grouped-gemm": ["absl-py; extra == 'all'", "absl-py; extra == 'dev'"],
    "xformers": ["torch>=2.10", "numpy"],
}
"""Of those whose backends can't be asked without CUDA."""

pytestmark = pytest.mark.network


@pytest.fixture
def farm(tmp_path: Path) -> Project:
    """The farm with one torch and one Python, without CUDA.

    Without the stage that is built once for all architectures.
    """
    project = make_real_project(tmp_path / "farm", UV_FIND_LINKS=folder_with_torch())
    shutil.copyfile(FARM / "noxfile.py", project.folder / "noxfile.py")
    document = parse_toml((FARM / "pyproject.toml").read_bytes())
    table = document["tool"]["nox-buildstages"]
    del table["python"]
    table["matrix"]["torch"] = {"2.13": {"constraints": [f"torch=={TORCH}"]}}
    stages = table["stage"]
    stages[:] = [it for it in stages if "{cuda-arch}" in str(it["env"])]
    for stage in stages:
        stage["env"] |= WITHOUT_CUDA
        dependencies = stage["dependencies"]
        stage["dependencies"] = [it for it in dependencies if "cuda" not in it]
    names = {it.partition("==")[0] for stage in stages for it in stage["outputs"]}
    table["final"]["requirements"] = ["torch", *sorted(names)]
    table["package"] = {it: table["package"][it] for it in names}
    for name, requires in REQUIRES.items():
        table["package"][name]["metadata"] = {"requires-dist": requires}
    project.pyproject.write_text(tomli_w.dumps(document), "utf-8")
    return project


def test_architectures_differ_in_variables_alone(farm: Project) -> None:
    """Both have the same packages from the same files; versions of wheels differ."""
    farm.nox("-s", "build-stages-lock", timeout=600)
    for stage in ("attention", "kernels", "final"):
        first, second = (
            (farm.folder / f"build-stages/pylock.{stage}-{arch}.toml").read_text(
                "utf-8"
            )
            for arch in ("8_0", "9_0")
        )
        assert "+torch2.13.sm8.0" in first
        assert first.replace("sm8.0", "sm9.0") == second
