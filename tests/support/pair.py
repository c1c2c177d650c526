"""The projects that end-to-end tests run, and what is left of a run of theirs.

A *pair* is two stages: ``first`` builds kernels against tensorlib, which stands in
for torch; ``second`` builds models against that very wheel of kernels. A *solo* is
one stage, ``only``, that builds kernels.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tomli_w

from support.index import Index
from support.packages import (
    make_sdist,
    make_tinybackend,
    make_tree,
    make_wheel,
    read_from_wheel,
)
from support.project import hermetic_env, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support.project import Completed, Project

KERNELS = "kernels-1.0-py3-none-any.whl"
MODELS = "models-1.0-py3-none-any.whl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two stages, the second on the first one's wheel.

    Attributes:
        top: More keys of ``[tool.nox-buildstages]``.
        final: More keys of the table of that name.
        first: More keys of that stage.
        second: More keys of that stage.
    """

    top: Mapping[str, Any] = field(default_factory=dict)
    final: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, Any] = field(default_factory=dict)
    second: Mapping[str, Any] = field(default_factory=dict)

    def write(self, project: Project) -> None:
        """Write the project's pyproject.toml."""
        first = {"name": "first", "dependencies": ["tensorlib"]}
        second = {"name": "second", "dependencies": ["kernels", "tensorlib"]}
        declare(
            project,
            {
                **self.top,
                "final": {"requirements": ["models"], **self.final},
                "stage": [
                    {**first, "outputs": ["kernels"], **self.first},
                    {**second, "outputs": ["models"], **self.second},
                ],
            },
        )


def declare(project: Project, table: Mapping[str, Any]) -> None:
    """Write a pyproject.toml with that table, ``[tool.nox-buildstages]``."""
    project.write(tomli_w.dumps({"tool": {"nox-buildstages": table}}))


def declare_solo(project: Project, **stage: Any) -> None:  # noqa: ANN401 - TOML
    """Write a project of one stage, with more keys of that stage."""
    only = {"name": "only", "outputs": ["kernels"], **stage}
    declare(project, {"final": {"requirements": ["kernels"]}, "stage": [only]})


def publish(index: Index) -> None:
    """Put what a pair is made of on the index; each wheel tells of its environment."""
    make_wheel(index.folder, "tensorlib", "1.0")
    make_wheel(index.folder, "tensorlib", "2.0")
    settings: dict[str, Any] = {"stamp": ["tensorlib"], "env": ["ARCH"]}
    requires = ["tensorlib"]
    make_sdist(index.folder, "kernels", "1.0", requires=requires, settings=settings)
    settings = {"stamp": ["kernels", "tensorlib"], "env": ["ARCH"]}
    requires = ["kernels"]
    make_sdist(index.folder, "models", "1.0", requires=requires, settings=settings)


@contextmanager
def world(folder: Path, caches: Path) -> Iterator[tuple[Index, Project]]:
    """Yield an index with what a pair is made of, and a project that knows it."""
    with Index(folder / "index") as index:
        make_tinybackend(index.folder)
        publish(index)
        env = hermetic_env(folder / "scratch", caches, index)
        yield index, make_project(folder / "project", env)


def kernels_tree(project: Project, **settings: object) -> str:
    """Make the source of kernels in the project, and return it as a requirement."""
    make_tree(project.folder / "kernels", "kernels", "1.0", settings=settings)
    return "kernels @ ./kernels"


def built(done: Completed) -> list[str]:
    """Return the outputs that a run built, in order."""
    return re.findall(r"building (\S+) \S+ with ", done.output)


def planned(done: Completed) -> dict[str, tuple[str, str]]:
    """Return what a run of ``build-stages-plan`` said of each output: state, reason."""
    pattern = re.compile(r"([\w.-]+)(?: \S+)? +[✓●+*] (?:build {3}(.*)|cached)")
    found = {}
    for name, reason in pattern.findall(done.output):
        found[name] = ("build", reason) if reason else ("cached", "")
    return found


def stored(project: Project) -> list[str]:
    """Return the names of everything where the store keeps its wheels."""
    return sorted(path.name for path in project.store.glob("wheels/**/*.whl"))


def entry(project: Project, name: str) -> dict[str, Any]:
    """Return what the wheelhouse's manifest says of an output."""
    entries: list[dict[str, Any]] = project.manifest()["wheels"]
    return next(entry for entry in entries if entry["name"] == name)


def recipe(project: Project, name: str) -> dict[str, Any]:
    """Return what the store's record says went into an output."""
    path = project.store / "wheels" / entry(project, name)["key"] / "record.json"
    found: dict[str, Any] = json.loads(path.read_bytes())["recipe"]
    return found


def stamp(project: Project, name: str) -> dict[str, dict[str, str]]:
    """Return what the wheelhouse's wheel of an output was built against."""
    wheel = project.wheelhouse / entry(project, name)["file"]
    found: dict[str, dict[str, str]] = json.loads(
        read_from_wheel(wheel, f"{name}/built_against.json")
    )
    return found


def versions(project: Project, lock: str) -> dict[str, str]:
    """Return the version of each package in a lock."""
    packages = project.lock(lock)["packages"]
    return {package["name"]: package["version"] for package in packages}


def lock_texts(project: Project) -> dict[str, bytes]:
    """Return the bytes of every lock file, by name."""
    found = project.folder.glob("build-stages/*")
    return {path.name: path.read_bytes() for path in found}


def site_packages(environment: Path) -> Path:
    """Return where an environment's packages are."""
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def installed(environment: Path) -> dict[str, str]:
    """Return the version of every project in an environment."""
    found = site_packages(environment).glob("*.dist-info")
    pairs = (path.name.removesuffix(".dist-info").split("-") for path in found)
    return {name: version for name, version in pairs}  # noqa: C416 - typed


def refused(project: Project, *args: str, env: Mapping[str, str] | None = None) -> str:
    """Run nox, see that it fails as a program should, and return what it said."""
    output = project.nox(*args, env=env or {}, check=False).output
    assert not re.search(r'File "[^"]*nox_buildstages', output), output
    return output
