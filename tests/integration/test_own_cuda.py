"""Builds that use what is in their environment: nvcc, and paths in variables."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from support.packages import make_sdist, make_tree, make_wheel, read_from_wheel
from support.pair import declare, recipe
from support.sessions import run_session

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

PACKAGES = "lib/python{}.{}/site-packages".format(*sys.version_info[:2])


def test_a_variable_names_the_environment_of_the_stage(project: Project) -> None:
    """A build finds a header of a wheel (F10); the key has no path."""
    sources: dict[str, str | bytes] = {"hdrs/include/hdr.h": "#define HDR 5"}
    make_tree(project.folder / "hdrs", "hdrs", "1.0", files=sources)
    make_tree(
        project.folder / "uses",
        "uses",
        "1.0",
        files={"u.c": "#include <hdr.h>\nint hdr = HDR;\n"},
        settings={
            "compile": ["u.c"],
            "env": ["CPATH", "TEXT", "OUTER"],
            "record": ["config-settings"],
        },
    )
    header = f"{{env}}/{PACKAGES}/hdrs/include"
    env = {"CPATH": header, "TEXT": "{{env}}"}
    uses = {"name": "uses", "dependencies": ["hdrs"], "outputs": ["uses @ ./uses"]}
    settings = {"one": "{env}/x", "more": ["-L{env}", "{{env}}"]}
    declare(
        project,
        {
            "final": {"requirements": ["uses"]},
            "stage": [
                {"name": "headers", "outputs": ["hdrs @ ./hdrs"]},
                {**uses, "env": env, "pass-env": ["OUTER"]},
            ],
            "package": {"uses": {"config-settings": settings}},
        },
    )
    for name in ("build-stage-headers", "build-stage-uses"):
        run_session(project, name, env={"OUTER": "{env}"})
    (wheel,) = project.wheelhouse.glob("uses-*.whl")
    location = project.folder / ".nox/build-stage-uses"
    seen = json.loads(read_from_wheel(wheel, "uses/env.json"))
    assert seen["CPATH"] == header.format(env=location)
    assert (seen["TEXT"], seen["OUTER"]) == ("{env}", "{env}")
    record = json.loads(read_from_wheel(wheel, "uses/record.json"))
    assert record["config-settings"] == {
        "one": f"{location}/x",
        "more": [f"-L{location}", "{env}"],
    }
    found = recipe(project, "uses")
    assert found["env"] == {**env, "OUTER": "{env}"}
    assert found["config_settings"] == settings
    assert str(project.folder) not in json.dumps(found)


def test_a_stage_builds_with_the_nvcc_of_its_lock(
    project: Project, index: Index
) -> None:
    """The system's is neither called nor needed nor part of the key."""
    nvcc = {"nvidia/cu13/bin/nvcc": "", "nvidia/cu13/lib/libcudart.so.13": ""}
    make_wheel(index.folder, "nvidia-cuda-nvcc", "13.0.88", files=nvcc)
    names = ["CUDA_HOME", "CUDA_PATH", "CUDACXX", "CUDAToolkit_ROOT", "PATH"]
    make_sdist(index.folder, "op", "1.0", settings={"env": names})
    stage: dict[str, Any] = {
        "name": "only",
        "outputs": ["op"],
        "dependencies": ["nvidia-cuda-nvcc"],
        "tools": ["nvcc"],
        "pass-env": ["CUDA_HOME", "CUDACXX"],
    }
    declare(project, {"final": {"requirements": ["op"]}, "stage": [stage]})
    other = {"CUDA_HOME": "/usr/local/cuda"}
    said = run_session(project, "build-stage-only", env=other).stderr
    assert re.search("stage only: CUDA_HOME has no effect on builds, because", said)
    (wheel,) = project.wheelhouse.glob("op-*.whl")
    seen = json.loads(read_from_wheel(wheel, "op/env.json"))
    location = project.folder / ".nox/build-stage-only"
    tree = location / "cuda-toolkit"
    assert {seen[it] for it in names[:2]} == {str(tree)}
    assert seen["CUDACXX"] == f"{tree}/bin/nvcc"
    assert f":{tree}/bin:" in seen["PATH"]
    assert tree.joinpath("lib64/libcudart.so").exists()
    found = recipe(project, "op")
    assert (found["env"], found["tools"], found["own_cuda"]) == ({}, {}, True)
    stage["env"] = {"CUDA_HOME": "/mine"}
    declare(project, {"final": {"requirements": ["op"]}, "stage": [stage]})
    said = run_session(project, "build-stages-plan").output
    assert "CUDA of the environment → of the machine" in said


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
