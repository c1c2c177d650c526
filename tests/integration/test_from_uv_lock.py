"""The versions in a uv.lock, for a project without lock files of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.packages import make_sdist, make_wheel
from support.pair import declare, versions
from support.sessions import run_session

if TYPE_CHECKING:
    from support.index import Index
    from support.project import Project

ENTRY = """
[[package]]
name = "{name}"
version = "1.0"
source = {{ registry = "https://example.org/simple" }}
"""
SDIST = 'sdist = { url = "https://example.org/kernels-1.0.tar.gz", hash = "md5:1" }\n'
TEXT = (
    f"version = 1\n{ENTRY.format(name='tensorlib')}{ENTRY.format(name='gone')}"
    f"{ENTRY.format(name='kernels')}{SDIST}"
)


@pytest.fixture
def locked(index: Index, project: Project) -> Project:
    """A project whose uv.lock has versions that aren't the newest."""
    for version in ("1.0", "2.0"):
        make_wheel(index.folder, "tensorlib", version)
        make_sdist(index.folder, "kernels", version)
    stage = {"name": "only", "outputs": ["kernels"], "dependencies": ["tensorlib"]}
    final = {"requirements": ["kernels", "tensorlib"]}
    declare(project, {"final": final, "stage": [stage]})
    (project.folder / "uv.lock").write_text(TEXT, "utf-8")
    return project


def test_the_first_lock_has_the_versions_of_uv(locked: Project) -> None:
    """The runtime's and the outputs'; then an upgrade moves them, and none else."""
    said = run_session(locked, "build-stages-lock").stderr
    assert "taking the versions in uv.lock that fit" in said
    assert versions(locked, "final") == {"kernels": "1.0", "tensorlib": "1.0"}
    said = run_session(locked, "build-stages-lock", "--upgrade").stderr
    assert versions(locked, "final") == {"kernels": "2.0", "tensorlib": "2.0"}
    assert "uv.lock" not in said


def test_a_uv_lock_that_is_not_understood(locked: Project) -> None:
    """One line says so, and the newest versions are locked."""
    declare(locked, {"final": {"requirements": ["tensorlib"]}})
    text = TEXT.replace("version = 1\n", "version = 2\n")
    (locked.folder / "uv.lock").write_text(text, "utf-8")
    said = run_session(locked, "build-stages-lock").stderr
    reason = "it has version 2, and we read 1"
    assert f"uv.lock isn't used, because it can't be read: {reason}" in said
    assert versions(locked, "final") == {"tensorlib": "2.0"}


def test_a_proposal_has_the_version_of_uv(locked: Project) -> None:
    """It pins what uv.lock has, and the lock made from it as well."""
    declare(locked, {"final": {"requirements": ["kernels"]}})
    said = run_session(locked, "build-stages-init").output
    assert 'outputs = ["kernels==1.0"]' in said
