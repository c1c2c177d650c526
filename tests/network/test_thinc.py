"""thinc and what it is built against, all from source and without pins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from support.pair import declare, versions
from support.real import make_real_project
from support.sessions import run_session

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.network


def test_thinc_and_its_outputs_are_locked_without_building_them(tmp_path: Path) -> None:
    """The newest thinc, and versions of the others that suit it (``blis<1.1``)."""
    project = make_real_project(tmp_path / "project")
    hashes, numbers = ["cymem", "murmurhash"], ["blis", "srsly"]
    stages = [
        {"name": "base", "outputs": [*hashes, *numbers]},
        {"name": "hash", "dependencies": hashes, "outputs": ["preshed"]},
        {
            "name": "learn",
            "dependencies": [*hashes, "preshed", "blis"],
            "outputs": ["thinc"],
        },
    ]
    runtime = {"requirements": ["thinc", "numpy"]}
    declare(project, {"final": runtime, "stage": stages})
    lines = run_session(project, "build-stages-lock").stderr
    assert "building" not in lines
    found = versions(project, "final")
    assert Version(found["thinc"]) >= Version("9.1.1")
    assert Version("1.0") <= Version(found["blis"]) < Version("1.1")
    assert versions(project, "learn")["blis"] == found["blis"]
