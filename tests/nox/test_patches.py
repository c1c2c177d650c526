"""Patches of an output: what they do to locks, plans, wheels and messages."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support.packages import make_sdist, make_tree, make_wheel, read_from_wheel
from support.pair import (
    Pair,
    built,
    declare_solo,
    entry,
    lock_texts,
    planned,
    publish,
    refused,
    versions,
)
from support.patches import make_patch

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Project

CI = {"CI": "1"}
PATCH = """\
--- a/models/__init__.py
+++ b/models/__init__.py
@@ -1 +1,2 @@
 \"\"\"models 1.0.\"\"\"
+patched = 1
"""


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def patched(project: Project, text: str, name: str = "models.patch") -> None:
    """Write a project whose second output is patched."""
    project.folder.joinpath(name).write_text(text, "utf-8")
    Pair(top={"package": {"models": {"patches": [name]}}}).write(project)


def module(project: Project) -> str:
    wheel = project.wheelhouse / entry(project, "models")["file"]
    return read_from_wheel(wheel, "models/__init__.py")


def run(project: Project, *words: str) -> list[str]:
    """Run everything, and return what was built."""
    return built(project.nox("-s", "build-stages", *words))


@pytest.mark.slow
def test_a_byte_of_a_patch_rebuilds_its_output_alone(project: Project) -> None:
    """The plan says which patch changed; in CI such locks are stale.

    Manifest and log have the digest of each patch after the source.
    """
    patched(project, PATCH)
    project.prepare()
    assert module(project).endswith("patched = 1\n")
    source = entry(project, "models")["source"]
    assert ", patched with models.patch (sha256:" in source
    log = project.wheelhouse.joinpath("logs/models.log").read_text("utf-8")
    words = source.partition("patched with ")[2]
    assert f"\npatch: {words}\n" in log
    assert "patched" not in entry(project, "kernels")["source"]
    assert run(project) == []
    patched(project, PATCH.replace("= 1", "= 2"))
    told = project.nox("-s", "build-stages-plan")
    assert planned(told) == {
        "kernels": ("cached", ""),
        "models": ("build", "patches: models.patch changed"),
    }
    assert "locks: out of date" in told.output
    assert "out of date" in refused(project, "-s", "build-stages", env=CI)
    assert run(project) == ["models"]
    assert module(project).endswith("patched = 2\n")


def test_a_patch_comes_and_goes(project: Project) -> None:
    """Without it the unpatched wheel is found again, never the patched one."""
    Pair().write(project)
    project.prepare()
    patched(project, PATCH)
    reason = "patches: models.patch was added"
    plan = planned(project.nox("-s", "build-stages-plan"))
    assert plan["models"] == ("build", reason)
    assert run(project) == ["models"]
    Pair().write(project)
    assert run(project) == []
    assert "patched" not in module(project)


@pytest.mark.slow
def test_the_name_of_a_patch_does_not_count(project: Project) -> None:
    """The locks stay current, and nothing is built."""
    patched(project, PATCH)
    project.prepare()
    before = lock_texts(project)
    project.folder.joinpath("models.patch").unlink()
    patched(project, PATCH, "other.patch")
    assert built(project.nox("-s", "build-stages", env=CI)) == []
    assert lock_texts(project) == before
    assert "patched with other.patch (sha256:" in entry(project, "models")["source"]


def tree_of_kernels(folder: Path) -> Path:
    return make_tree(folder, "kernels", "1.0", settings={"stamp": ["tensorlib"]})


def wish(requires: list[str]) -> Any:  # noqa: ANN401 - an edit
    """Return an edit: another build requirement, and other run-time ones."""

    def edit(tree: Path) -> None:
        pyproject = tree / "pyproject.toml"
        text = pyproject.read_text("utf-8")
        pyproject.write_text(text.replace('"tinybackend",', '"tinybackend", "helper",'))
        settings = json.loads(tree.joinpath("tinybackend.json").read_bytes())
        settings["requires"] = requires
        tree.joinpath("tinybackend.json").write_text(json.dumps(settings, indent=1))

    return edit


def git(folder: Path, *argv: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    command = ["git", *identity, *argv]
    subprocess.run(command, cwd=folder, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sdist", "commit", "folder"])
def test_locking_sees_the_patched_source(
    project: Project, index: Index, kind: str
) -> None:
    """Its build requirements, and what it requires: even what its sdist promised."""
    for name in ("helper", "one", "two"):
        make_wheel(index.folder, name, "1.0")
    tree = tree_of_kernels(project.folder / "kernels")
    settings = {"stamp": ["tensorlib"]}
    make_sdist(index.folder, "kernels", "1.0", settings=settings)
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "x")
    outputs = {
        "sdist": "kernels",
        "commit": f"kernels @ git+{tree.as_uri()}",
        "folder": "kernels @ ./kernels",
    }
    declare_solo(project, outputs=[outputs[kind]], dependencies=["tensorlib"])
    with project.pyproject.open("a", encoding="utf-8") as file:
        file.write('[tool.nox-buildstages.package.kernels]\npatches = ["x.patch"]\n')
    for requirement in ("one", "two"):
        patch = make_patch(project.folder.parent / "edited", tree, wish([requirement]))
        project.folder.joinpath("x.patch").write_bytes(patch)
        project.nox("-s", "build-stages-lock")
        assert "helper" in versions(project, "only")
        assert versions(project, "final").keys() == {"kernels", requirement}
        (output,) = project.lock("only")["tool"]["nox-buildstages"]["outputs"]
        assert output["metadata"] == "hook"
        assert output["requires-dist"] == [requirement]
    assert built(project.nox("-s", "build-stage-only")) == ["kernels"]


@pytest.mark.parametrize(
    "words",
    [
        ["build-stages"],
        ["build-stage-second"],
        ["build-stages-plan"],
        ["build-stages-lock"],
        ["build-stages-lock", "--", "--check"],
    ],
    ids=" ".join,
)
def test_a_patch_that_is_not_there_is_told(project: Project, words: list[str]) -> None:
    """By whatever would need it, with the place that names it."""
    patched(project, PATCH)
    project.folder.joinpath("models.patch").unlink()
    said = (
        "models.patch (tool.nox-buildstages.package.models.patches[0]): "
        f"No such file or directory: {project.folder}/models.patch"
    )
    assert said in refused(project, "-s", *words)


def test_a_patch_that_does_not_apply_leaves_no_locks(project: Project) -> None:
    """Git's reason is told, and nothing is half made."""
    patched(project, PATCH.replace("models 1.0", "models 2.0"))
    output = refused(project, "-s", "build-stages")
    assert "models.patch (tool.nox-buildstages.package.models.patches[0])" in output
    assert "error: models/__init__.py: patch does not apply" in output
    assert "write it again with git diff" in output
    assert not project.folder.joinpath("build-stages").exists()
