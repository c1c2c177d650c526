"""A real extension of torch, built with one torch, and verified with another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.real import (
    TORCH,
    folder_with_torch,
    make_real_project,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.network

TABLE = """
    [tool.nox-buildstages]
    match-runtime = ["torch"]
    constraints = ["torch==2.13.0"]

    [tool.nox-buildstages.final]
    requirements = ["torch-scatter", "torch"]
    imports = ["torch_scatter"]

    [[tool.nox-buildstages.stage]]
    name = "kernels"
    dependencies = ["setuptools", "wheel", "torch"]
    outputs = ["torch-scatter==2.1.2"]
    env = { CFLAGS = "-g0" }
"""


def test_an_extension_gets_a_verdict_about_another_torch(tmp_path: Path) -> None:
    """The wheel built with 2.13 needs a constructor that 2.12 doesn't export."""
    project = make_real_project(tmp_path / "project", UV_FIND_LINKS=folder_with_torch())
    project.write(TABLE)
    words = ("--verify", "--torch", "2.12.1,2.13", "--json")
    release = ("-s", "build-stages-release", "--", *words)
    output = project.nox(*release, timeout=3600, check=False).output
    text = output[output.index("{\n") : output.rindex("\n}") + 2]
    (wheel,) = json.loads(text)["wheels"]
    checks = {it["check"]: it for it in wheel["checks"]}
    other = checks.pop("torch 2.12.1")
    assert other["state"] == "failed"
    assert "it lacks _ZN3c1019NotImplementedErrorC1E" in other["text"]
    assert {it["state"] for it in checks.values()} == {"ok"}
    assert checks[f"torch {TORCH}"]["text"] == "loads"
