"""The project itself in its runtime, where the final table says so."""

from __future__ import annotations

import hashlib
import json
import subprocess
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
import uv

from support.packages import TINYBACKEND, make_sdist, make_wheel
from support.pair import (
    built,
    installed,
    lock_texts,
    publish,
    refused,
    site_packages,
    versions,
)
from support.pythons import HERE, another

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.index import Index
    from support.project import Completed, Project


OTHER = another()


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """A project that uses what its stage builds, and is installed beside it.

    Attributes:
        top: More keys of ``[tool.nox-buildstages]``.
        final: More keys of the table of that name.
        project: More keys of ``[project]``.
        requires: ``[build-system] requires``.
        settings: More keys of ``tinybackend.json``.
    """

    top: Mapping[str, Any] = field(default_factory=dict)
    final: Mapping[str, Any] = field(default_factory=dict)
    project: Mapping[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ("tinybackend",)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def write(self, project: Project) -> None:
        """Write the project's files."""
        table = {
            **self.top,
            "final": {"project": True, "imports": ["own"], **self.final},
            "stage": [
                {
                    "name": "first",
                    "dependencies": ["tensorlib"],
                    "outputs": ["kernels"],
                }
            ],
        }
        own = {"name": "own", "version": "1.0", "dependencies": ["kernels"]}
        system = {"requires": list(self.requires), "build-backend": "tinybackend"}
        project.write(
            tomli_w.dumps(
                {
                    "build-system": system,
                    "project": {**own, **self.project},
                    "tool": {"nox-buildstages": table},
                }
            )
        )
        settings = {"name": "own", "version": "1.0", "requires": ["kernels"]}
        project.folder.joinpath("tinybackend.json").write_text(
            json.dumps({**settings, **self.settings})
        )
        project.folder.joinpath("own.py").write_text("ANSWER = 1\n")


def prepare(project: Project) -> None:
    """Lock the project and build its wheel; its runtime is yet to be made."""
    Own().write(project)
    project.prepare()


def runtime(project: Project) -> Path:
    return project.folder / ".nox/build-stages"


def python(project: Project) -> Path:
    return runtime(project) / "bin/python"


def answer(project: Project) -> str:
    """Return what the module of the project says, wherever it is imported."""
    command = [str(python(project)), "-I", "-c", "import own; print(own.ANSWER)"]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


def direct_url(project: Project) -> dict[str, Any]:
    """Return where the project comes from, as its environment says."""
    (info,) = site_packages(runtime(project)).glob("own-*.dist-info")
    record = info.joinpath("RECORD").read_text("utf-8")
    content = info.joinpath("direct_url.json").read_bytes()
    digest = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert f"{info.name}/direct_url.json,sha256={digest},{len(content)}\n" in record
    found: dict[str, Any] = json.loads(content)
    return found


def locks(project: Project) -> list[Path]:
    return sorted(project.folder.glob("build-stages/*"))


def files(project: Project) -> dict[str, int]:
    """Return when each file of the runtime was written."""
    return {
        path.as_posix(): path.stat().st_mtime_ns
        for path in runtime(project).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def made(done: Completed) -> bool:
    return "making own installable" in done.output


def test_it_ends_with_the_project_importable(project: Project) -> None:
    """It is installed by its folder; a second run doesn't touch any file.

    With --install-only it can't be made, only kept.
    """
    prepare(project)
    output = refused(project, "--install-only", "-s", "build-stages")
    assert "stage project: own would have to be built" in output
    assert made(project.nox("-s", "build-stages"))
    assert installed(runtime(project)) == {
        "own": "1.0",
        "kernels": "1.0",
        "tensorlib": "2.0",
    }
    assert answer(project) == "1"
    project.folder.joinpath("own.py").write_text("ANSWER = 2\n")
    assert answer(project) == "2"
    assert direct_url(project) == {
        "url": project.folder.as_uri(),
        "dir_info": {"editable": True},
    }
    assert project.wheels() == ["kernels-1.0-py3-none-any.whl"]
    for path in (project.wheelhouse / "pylock.toml", *locks(project)):
        assert 'name = "own"' not in path.read_text()
    assert project.lock("project")["packages"][0]["name"] == "tinybackend"
    assert "outputs" not in project.lock("project")["tool"]["nox-buildstages"]
    before = files(project)
    assert not made(project.nox("-s", "build-stages"))
    assert not made(project.nox("-R", "-s", "build-stages"))
    project.nox("--install-only", "-s", "build-stages")
    assert files(project) == before


@pytest.mark.slow
def test_it_is_made_once_more_where_its_declaration_changed(project: Project) -> None:
    """The locks stay current, unless it is its build system that changed."""
    prepare(project)
    project.nox("-s", "build-stages")
    before = lock_texts(project)
    Own(project={"version": "1.1"}, settings={"version": "1.1"}).write(project)
    output = refused(project, "-R", "-s", "build-stages")
    assert "own isn't installed any more" in output
    assert "run nox without -R" in output
    assert installed(runtime(project))["own"] == "1.0"
    assert made(project.nox("-s", "build-stages"))
    assert lock_texts(project) == before
    assert installed(runtime(project))["own"] == "1.1"
    Own(requires=("tinybackend", "tensorlib")).write(project)
    output = refused(project, "-s", "build-stages", env={"CI": "1"})
    assert "the lock files are out of date: project: build-system" in output
    assert made(project.nox("-s", "build-stages"))
    held = {package["name"] for package in project.lock("project")["packages"]}
    assert held == {"tensorlib", "tinybackend"}


@pytest.mark.slow
def test_it_is_only_installed_again_unless_rebuild_asks_for_more(
    project: Project,
) -> None:
    """If it was uninstalled, its backend isn't asked; `--rebuild` asks it."""
    prepare(project)
    project.nox("-s", "build-stages")
    uninstall = [uv.find_uv_bin(), "pip", "uninstall", "own", "--python"]
    subprocess.run([*uninstall, str(python(project))], check=True)
    output = refused(project, "-R", "-s", "build-stages")
    assert "own 1.0 is missing" in output
    assert not made(project.nox("-s", "build-stages"))
    assert answer(project) == "1"
    assert direct_url(project)["dir_info"] == {"editable": True}
    done = project.nox("-s", "build-stages", "--", "--rebuild", "own")
    assert made(done)
    assert built(done) == []
    done = project.nox("-s", "build-stages", "--", "--rebuild")
    assert made(done)
    assert built(done) == ["kernels"]


@pytest.mark.slow
def test_its_build_has_what_backend_stages_and_rules_provide(
    project: Project, index: Index
) -> None:
    """One version of what has to match the runtime; a namesake on the index is unused.

    What requires the project gets this one, whichever version it asks for.
    """
    for name in ("helper", "ruled"):
        make_wheel(index.folder, name, "1.0")
    make_wheel(index.folder, "own", "3.0")
    make_wheel(index.folder, "plugin", "1.0", requires=["own>=2"])
    rules = {
        "build-requires": {"add": ["ruled"], "remove": ["absent"]},
        "env": {"MODE": "1"},
    }
    Own(
        top={"match-runtime": ["tensorlib"], "package": {"own": rules}},
        final={"requirements": ["kernels", "plugin", "tensorlib<2"]},
        requires=("tinybackend", "kernels", "absent"),
        settings={
            "requires-for-build": ["helper"],
            "import-first": ["helper", "kernels", "ruled"],
            "require-env": ["MODE"],
        },
    ).write(project)
    assert made(project.nox("-s", "build-stages"))
    assert versions(project, "project") == {
        "helper": "1.0",
        "kernels": "1.0",
        "ruled": "1.0",
        "tensorlib": "1.0",
        "tinybackend": "1.0",
    }
    assert versions(project, "final").keys() == {"kernels", "plugin", "tensorlib"}
    found = installed(runtime(project))
    assert found.keys() == {"kernels", "own", "plugin", "tensorlib"}
    assert found["own"] == "1.0"


@pytest.mark.slow
def test_what_its_backend_asks_for_later_has_to_be_locked(
    project: Project, index: Index
) -> None:
    """Nothing is in its environment that isn't in its lock."""
    prepare(project)
    make_wheel(index.folder, "helper", "1.0")
    later = ["helper", "absent; python_version < '3'"]
    Own(settings={"requires-for-build": later}).write(project)
    args = ("-s", "build-stages", "--", "--rebuild", "own")
    output = refused(project, *args)
    asks = "pylock.project.toml lacks helper, which the build of own requires"
    assert asks in output
    assert "nox -s build-stages-lock" in output
    project.nox("-s", "build-stages-lock")
    assert made(project.nox(*args))


def test_the_runtime_has_to_have_what_it_requires(project: Project) -> None:
    """Where requirements are given, or its backend adds some of its own."""
    prepare(project)
    requires = ["kernels>=1", "tensorlib>=3", "absent", "other; extra == 'more'"]
    Own(settings={"requires": requires}).write(project)
    output = refused(project, "-s", "build-stages")
    assert "own: the runtime environment lacks requirements of this project" in output
    assert "  tensorlib>=3: the runtime has 2.0\n" in output
    assert "  absent: the runtime has none\n" in output
    assert "kernels>=1" not in output
    assert "other" not in output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"name": "other"}}, "is of other; own was asked for"),
        (
            {"settings": {"import-first": ["absent"]}},
            'add "absent" to requires in [build-system]',
        ),
        ({"requires": ("tinybackend", "absent")}, "absent"),
    ],
)
def test_what_goes_wrong_is_told(
    project: Project, change: dict[str, Any], words: str
) -> None:
    """A wheel of something else, a failing backend, what can't be locked."""
    prepare(project)
    Own(**change).write(project)
    assert words in refused(project, "-s", "build-stages")


def test_a_build_that_cannot_be_locked_is_told(project: Project) -> None:
    """As for an output: who wants what, and the line that settles it."""
    prepare(project)
    constraints = {"build-constraints": ["tensorlib>=2"]}
    Own(top=constraints, requires=("tinybackend", "tensorlib<2")).write(project)
    output = refused(project, "-s", "build-stages")
    assert "own, this project, declares tensorlib<2" in output
    assert "[tool.nox-buildstages.package.own]" in output


@pytest.mark.slow
def test_a_dependency_of_its_build_without_a_wheel_is_told(
    project: Project, index: Index
) -> None:
    """It has to be an output of a stage."""
    prepare(project)
    make_sdist(index.folder, "sourced", "1.0")
    Own(requires=("tinybackend", "sourced")).write(project)
    output = refused(project, "-s", "build-stages")
    assert "add it to the outputs of stage first, in pyproject.toml:" in output
    Own(project={"dependencies": ["kernels", "sourced"]}).write(project)
    output = refused(project, "-s", "build-stages")
    assert "add it to the outputs of stage first, in pyproject.toml:" in output


BARE = """
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    raise NotImplementedError
"""


@pytest.mark.slow
def test_a_backend_of_its_own_and_none_that_can_do_it(project: Project) -> None:
    """It may lie in the project and require nothing; it needs a hook of PEP 660."""
    prepare(project)
    Own(requires=()).write(project)
    text = project.pyproject.read_text("utf-8")
    backend = 'build-backend = "bare"\nbackend-path = ["."]'
    project.write(text.replace('build-backend = "tinybackend"', backend))
    project.folder.joinpath("bare.py").write_text(BARE)
    output = refused(project, "-s", "build-stages")
    assert "own (stage project): build_editable failed" in output
    assert "its build backend has no such hook" in output
    project.folder.joinpath("bare.py").write_bytes(TINYBACKEND.read_bytes())
    project.nox("-s", "build-stages")
    assert answer(project) == "1"
    assert project.lock("project")["packages"] == []


@pytest.mark.slow
def test_each_cell_has_it_in_its_own_runtime(project: Project) -> None:
    """Its build is locked for each value that changes it."""
    prepare(project)
    tensor = {n: {"constraints": [f"tensorlib=={n}.*"]} for n in ("1", "2")}
    Own(
        top={"matrix": {"tensor": tensor}, "match-runtime": ["tensorlib"]},
        requires=("tinybackend", "tensorlib"),
    ).write(project)
    done = project.nox("-j", "2", "-s", "build-stages")
    assert done.output.count("making own installable") == 2
    for number in ("1", "2"):
        assert versions(project, f"project-{number}")["tensorlib"] == f"{number}.0"
        found = installed(project.folder / f".nox/build-stages-tensor-{number}")
        assert found["own"] == "1.0"
        assert found["tensorlib"] == f"{number}.0"
    again = project.nox("-s", "build-stages")
    assert not made(again)


@pytest.mark.slow
@pytest.mark.skipif(OTHER is None, reason="there is one Python here")
def test_each_python_has_it_in_its_own_runtime(project: Project, index: Index) -> None:
    """What its backend wants on one of them is locked for that one alone."""
    assert OTHER is not None
    prepare(project)
    make_wheel(index.folder, "helper", "1.0")
    on_python = {OTHER.version: {"requires-for-build": ["helper"]}}
    Own(top={"python": [HERE, OTHER.version]}, settings={"on-python": on_python}).write(
        project
    )
    env = {"PATH": OTHER.on_path(project.env["PATH"])}
    done = project.nox("-s", "build-stages", env=env, timeout=300)
    assert done.output.count("making own installable") == 2
    packages = {it["name"]: it for it in project.lock("project")["packages"]}
    assert packages["helper"]["marker"] == f'python_version == "{OTHER.version}"'
    for version in (HERE, OTHER.version):
        found = installed(
            project.folder / f".nox/build-stages-{version.replace('.', '-')}"
        )
        assert found["own"] == "1.0"


@pytest.mark.slow
def test_what_its_backend_says_here_is_taken_for_other_platforms(
    project: Project, index: Index
) -> None:
    """It can be asked on this machine alone."""
    prepare(project)
    make_wheel(index.folder, "helper", "1.0")
    mac = "sys_platform == 'darwin' and platform_machine == 'arm64'"
    Own(top={"environments": [mac]}, settings={"requires-for-build": ["helper"]}).write(
        project
    )
    project.nox("-s", "build-stages-lock")
    lock = project.lock("project")
    assert len(lock["environments"]) == 2
    assert [it["name"] for it in lock["packages"]] == ["helper", "tinybackend"]


@pytest.mark.slow
def test_it_is_not_released(project: Project) -> None:
    """A wheel that leads to a folder is of no use elsewhere."""
    prepare(project)
    project.nox("-s", "build-stages-release")
    assert answer(project) == "1"
    listed = project.wheelhouse.joinpath("SHA256SUMS").read_text()
    assert "own" not in listed
    assert {path.name for path in project.wheelhouse.glob("simple/*/")} == {"kernels"}


def test_a_project_without_it_is_as_before(project: Project) -> None:
    """There is no lock for it any more, and it isn't in its runtime."""
    prepare(project)
    Own(final={"project": False, "imports": []}).write(project)
    assert not made(project.nox("-s", "build-stages"))
    assert {path.name for path in locks(project)} == {
        "pylock.final.toml",
        "pylock.first.toml",
    }
    assert "own" not in installed(runtime(project))
