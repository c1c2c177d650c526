"""Builds that use what is in their environment: nvcc, and paths in variables."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.store.build_dir import ENVIRONMENT_HERE
from support.namespaces import has_namespaces
from support.packages import make_sdist, make_tree, make_wheel, read_from_wheel
from support.pair import declare, recipe
from support.sessions import run_session

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

PACKAGES = "lib/python{}.{}/site-packages".format(*sys.version_info[:2])
VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT", "CUDACXX", "PATH")


def test_a_stage_builds_with_what_its_environment_contains(
    project: Project, index: Index
) -> None:
    """The nvcc of the lock counts, not the system's; {env} is where it is installed.

    The key has neither a path nor the machine's nvcc.
    """
    nvcc = {"nvidia/cu13/bin/nvcc": "", "nvidia/cu13/lib/libcudart.so.13": ""}
    make_wheel(index.folder, "nvidia-cuda-nvcc", "13.0.88", files=nvcc)
    settings = {"env": [*VARIABLES, "X", "OUTER"], "record": ["config-settings"]}
    make_sdist(index.folder, "op", "1.0", settings=settings)
    env = {"X": "{env}/share {{env}}"}
    stage: dict[str, Any] = {
        "name": "only",
        "outputs": ["op"],
        "dependencies": ["nvidia-cuda-nvcc"],
        "tools": ["nvcc"],
        "pass-env": ["CUDA_HOME", "CUDACXX", "OUTER"],
        "env": env,
    }
    given = {"one": "{env}/x", "more": ["-L{env}", "{{env}}"]}
    table = {
        "final": {"requirements": ["op"]},
        "stage": [stage],
        "package": {"op": {"config-settings": given}},
    }
    declare(project, table)
    outer = {"CUDA_HOME": "/usr/local/cuda", "OUTER": "{env}"}
    said = run_session(project, "build-stage-only", env=outer).stderr
    assert "stage only: builds ignore CUDA_HOME, because" in said
    (wheel,) = project.wheelhouse.glob("op-*.whl")
    seen = json.loads(read_from_wheel(wheel, "op/env.json"))
    made = project.folder / ".nox/build-stage-only"
    location = ENVIRONMENT_HERE if has_namespaces else made
    tree = location / "cuda-toolkit"
    assert {seen[it] for it in VARIABLES[:3]} == {str(tree)}
    assert seen["CUDACXX"] == f"{tree}/bin/nvcc"
    assert seen["PATH"].startswith(f"{location}/bin:")
    assert f":{tree}/bin:" in seen["PATH"]
    assert made.joinpath("cuda-toolkit/lib64/libcudart.so").exists()
    assert (seen["X"], seen["OUTER"]) == (f"{location}/share {{env}}", "{env}")
    record = json.loads(read_from_wheel(wheel, "op/record.json"))
    assert record["config-settings"] == {
        "one": f"{location}/x",
        "more": [f"-L{location}", "{env}"],
    }
    found = recipe(project, "op")
    assert (found["tools"], found["own_cuda"]) == ({}, True)
    assert found["env"] == env
    assert found["config_settings"] == given
    assert str(project.folder) not in json.dumps(found)
    stage["env"] = {"CUDA_HOME": "/mine"}
    declare(project, table)
    said = run_session(project, "build-stages-plan", env=outer).output
    assert "CUDA of the environment → of the machine" in said


@pytest.mark.slow
def test_a_compiler_finds_the_header_of_an_earlier_output(project: Project) -> None:
    """By a variable of the stage (F10), wherever the environment is."""
    sources: dict[str, str | bytes] = {"hdrs/include/hdr.h": "#define HDR 5"}
    make_tree(project.folder / "hdrs", "hdrs", "1.0", files=sources)
    make_tree(
        project.folder / "uses",
        "uses",
        "1.0",
        files={"u.c": "#include <hdr.h>\nint hdr = HDR;\n"},
        settings={"compile": ["u.c"]},
    )
    uses = {"name": "uses", "dependencies": ["hdrs"], "outputs": ["uses @ ./uses"]}
    env = {"CPATH": f"{{env}}/{PACKAGES}/hdrs/include"}
    headers = {"name": "headers", "outputs": ["hdrs @ ./hdrs"]}
    final = {"requirements": ["uses"]}
    declare(project, {"final": final, "stage": [headers, {**uses, "env": env}]})
    run_session(project, "build-stages")
    assert recipe(project, "uses")["env"] == env


@pytest.mark.slow
def test_a_lock_with_cuda_12_has_no_nvcc(project: Project, index: Index) -> None:
    """A line says so, and an error if nvcc is a tool."""
    name = "nvidia-cuda-nvcc-cu12"
    make_wheel(index.folder, name, "12.9.86", files={"nvidia/cuda_nvcc/bin/ptxas": ""})
    make_sdist(index.folder, "op", "1.0")
    stage: dict[str, Any] = {"name": "only", "outputs": ["op"]}
    stage["dependencies"] = [name]
    declare(project, {"final": {"requirements": ["op"]}, "stage": [stage]})
    said = run_session(project, "build-stage-only").stderr
    assert f"stage only: {name} contains no nvcc, which PyPI has from CUDA 13" in said
    stage["tools"] = ["nvcc"]
    declare(project, {"final": {"requirements": ["op"]}, "stage": [stage]})
    empty = {"PATH": str(project.folder)}
    said = run_session(project, "build-stage-only", env=empty, check=False).stderr
    assert "stage only: its tool 'nvcc' isn't on PATH" in said
    assert f"{name} contains no nvcc" in said
