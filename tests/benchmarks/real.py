"""What building costs, on small real sdists from PyPI."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from benchmarks.measuring import Command, Group, Row, Workload, run
from benchmarks.projects import (
    BUILD_STAGES,
    LOCK,
    make_cold,
    nox,
    remove_environments,
)
from nox_buildstages.reader import parse_toml
from nox_buildstages.value import replace
from support.project import Project, make_project, outer_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.measuring import Argv

ROOT = Path(__file__).parents[2]

SDISTS = {
    "cymem": "2.0.16",
    "murmurhash": "1.0.16",
    "preshed": "3.0.15",
    "markupsafe": "3.0.4",
    "msgpack": "1.2.4",
    "xxhash": "4.1.0",
    "wrapt": "2.5.2",
    "psutil": "7.2.2",
}

SIDE_BY_SIDE = ("markupsafe", "wrapt", "psutil", "xxhash")
"""Those that a stage each is made of."""

FLAGGED = "wrapt"

UV = find_uv_bin()
PYTHON = ("--python", sys.executable)
PIP = (sys.executable, "-m", "pip")
BUILD = (sys.executable, "-m", "build")


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloads:
    """The sdists, and caches of all commands, with all downloads in them.

    Attributes:
        folder: Of all this.
        env: The variables of all.
    """

    folder: Path
    env: Mapping[str, str]

    @property
    def archives(self) -> list[Path]:
        """The sdists."""
        return sorted((self.folder / "sdists").iterdir())

    @property
    def trees(self) -> list[Path]:
        """The sdists unpacked, where they are."""
        return sorted((self.folder / "trees").iterdir())

    @property
    def out(self) -> Path:
        """Where the peers' wheels go."""
        return self.folder / "wheels"

    @property
    def venv(self) -> Path:
        """An environment that a peer installs into."""
        return self.folder / "venv"

    def fetch(self) -> None:
        """Fetch the sdists, and what builds in isolation need, for pip and for uv."""
        for name, version in SDISTS.items():
            wanted = ("--no-deps", "--no-binary", name, f"{name}=={version}")
            self.run(*PIP, "download", "--dest", str(self.folder / "sdists"), *wanted)
        self.unpack()
        for tree in self.trees:
            scratch = ("--target", str(self.folder / "build-requires" / tree.name))
            self.run(UV, "pip", "install", *scratch, *_build_requires(tree))

    def unpack(self) -> None:
        """Unpack every sdist again, with nothing that was built in it."""
        shutil.rmtree(self.folder / "trees", ignore_errors=True)
        for archive in self.archives:
            shutil.unpack_archive(archive, self.folder / "trees", filter="data")
        self.clear()

    def forget_wheels(self) -> None:
        """Take the wheels that it built out of pip's cache; leave the downloads."""
        shutil.rmtree(self.folder / "caches/pip/wheels", ignore_errors=True)
        self.clear()

    def clear(self) -> None:
        """Remove what the peers made."""
        for path in (self.out, self.venv):
            shutil.rmtree(path, ignore_errors=True)

    def run(self, *argv: str) -> None:
        """Run a command, untimed."""
        run(argv, self.folder, self.env)

    def command(
        self, what: str, *commands: Argv, prepare: Callable[[], object]
    ) -> Command:
        """Return a peer that builds here."""
        return Command(
            what=what,
            commands=commands,
            cwd=self.folder,
            env=self.env,
            prepare=prepare,
        )


def _builds(folder: Path) -> Iterator[Group]:
    """Eight sdists, cold and warm, by us and by the peers."""
    downloads = make_downloads(folder)
    project = make_eight(downloads)
    yield Group(rows=tuple(_cold_rows(downloads, project)), runs=2, warm_up=False)
    yield Group(rows=tuple(_warm_rows(downloads, project)), runs=5)


def _cold_rows(downloads: Downloads, project: Project) -> Iterator[Row]:
    ours = _ours(
        "cold `nox -s build-stages`, 8 sdists", project, partial(make_cold, project)
    )
    out = ("--wheel", "--out-dir", str(downloads.out))
    uv_build = downloads.command(
        "`uv build` of each",
        *((UV, "build", *PYTHON, *out, str(tree)) for tree in downloads.trees),
        prepare=downloads.unpack,
    )
    pip_wheel = downloads.command(
        "`pip wheel`", _pip_wheel(downloads), prepare=downloads.forget_wheels
    )
    build = (*BUILD, "--wheel", "--outdir", str(downloads.out))
    python_build = downloads.command(
        "`python -m build` of each",
        *((*build, str(tree)) for tree in downloads.trees),
        prepare=downloads.unpack,
    )
    yield Row(name="cold", ours=ours, peer=uv_build, goal=0.75)
    for peer in (pip_wheel, python_build):
        yield Row(name="cold", ours=ours, peer=peer, goal=1)


def _warm_rows(downloads: Downloads, project: Project) -> Iterator[Row]:
    ours = _ours(
        "warm `nox -s build-stages`, 8 sdists", project, partial(_warm, project)
    )
    archives = tuple(map(str, downloads.archives))
    target = ("--python", str(downloads.venv), "--no-deps")
    for peer in (
        downloads.command(
            "`pip wheel`, warm", _pip_wheel(downloads), prepare=downloads.clear
        ),
        downloads.command(
            "`uv pip install` of the sdists, warm",
            (UV, "venv", "--quiet", *PYTHON, str(downloads.venv)),
            (UV, "pip", "install", *target, *archives),
            prepare=downloads.clear,
        ),
    ):
        yield Row(name="warm", ours=ours, peer=peer)


def _changes(folder: Path) -> Iterator[Group]:
    """Four stages that don't need each other: side by side, and one of them changed."""
    project = _four(make_downloads(folder, fetch=False))
    cool, change = partial(make_cold, project), _Changing(project)
    serial = _ours("cold, 4 stages, one after the other", project, cool)
    parallel = replace(
        _ours("cold, 4 stages, `-j 2`", project, cool),
        commands=(nox("-j", "2", "-s", "build-stages"),),
    )
    flag = _ours(f"rebuild after a flag of {FLAGGED} changed", project, change)
    rows = (
        Row(name="parallel", ours=parallel, peer=serial, goal=1),
        Row(name="flag", ours=flag, peer=serial, goal=1),
    )
    yield Group(rows=rows, runs=3, warm_up=False)


def _first(folder: Path) -> Iterator[Group]:
    """The README's first command in a clean clone, with this user's caches of uv."""
    clone = folder / "clone"
    text = ROOT.joinpath("README.md").read_text("utf-8")
    (command,) = re.findall("^python3 -m venv .* build-stages$", text, re.MULTILINE)
    caches = ("NOX_BUILDSTAGES_CACHE_DIR", "CCACHE_DIR", "SCCACHE_DIR")

    def prepare() -> None:
        for name in ("clone", *caches):
            shutil.rmtree(folder / name, ignore_errors=True)
        run(("git", "clone", "--quiet", str(ROOT), str(clone)), folder, outer_env())

    first = Command(
        what="README's first command, clean clone",
        commands=(("sh", "-c", command),),
        cwd=clone,
        env={**outer_env(), **{name: str(folder / name) for name in caches}},
        prepare=prepare,
    )
    yield Group(rows=(Row(name="first", ours=first, goal=54),), runs=1, warm_up=False)


WORKLOADS = (
    Workload(names=("cold", "warm"), seconds=400, groups=_builds),
    Workload(names=("parallel", "flag"), seconds=90, groups=_changes),
    Workload(
        names=("first",),
        seconds=110,
        groups=_first,
        missing="" if (ROOT / ".git").exists() else "this is no clone",
    ),
)


def make_downloads(folder: Path, *, fetch: bool = True) -> Downloads:
    """Return caches in a folder; with all sdists, or without any."""
    caches = folder / "caches"
    env = {
        **outer_env(),
        "NO_COLOR": "1",
        "PIP_CACHE_DIR": str(caches / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_CACHE_DIR": str(caches / "uv"),
    }
    downloads = Downloads(folder=folder, env=env)
    if fetch:
        downloads.fetch()
    return downloads


def _build_requires(tree: Path) -> list[str]:
    """Return what a build in isolation installs first (PEP 518)."""
    path = tree / "pyproject.toml"
    document = parse_toml(path.read_text("utf-8")) if path.is_file() else {}
    requires: list[str] = document.get("build-system", {}).get("requires", [])
    return requires or ["setuptools>=40.8.0"]


def _pip_wheel(downloads: Downloads) -> Argv:
    """Return the command that builds all; pip finds a wheel again that is named so."""
    named = (
        f"{it.name.rpartition('-')[0]} @ {it.as_uri()}" for it in downloads.archives
    )
    return (*PIP, "wheel", "--no-deps", "--wheel-dir", str(downloads.out), *named)


def make_eight(downloads: Downloads) -> Project:
    """Return a project with the eight in one stage, as far as they can be.

    preshed compiles against cymem and murmurhash; a stage can't hold its own outputs.
    """
    first = [name for name in SDISTS if name != "preshed"]
    return locked_project(
        downloads,
        "eight",
        _table([*SDISTS])
        + _stage("most", first)
        + _stage("maps", ["preshed"], 'dependencies = ["cymem", "murmurhash"]'),
    )


def _four(downloads: Downloads) -> Project:
    return locked_project(downloads, "four", _four_stages(0))


def _four_stages(flag: int) -> str:
    env = f'env = {{ CFLAGS = "-DBENCH={flag}" }}'
    stages = (
        _stage(name, [name], env if name == FLAGGED else "") for name in SIDE_BY_SIDE
    )
    return _table([*SIDE_BY_SIDE]) + "".join(stages)


def _table(requirements: list[str]) -> str:
    """Return the head of a table; the peers have no compiler cache either."""
    top = "[tool.nox-buildstages]\ncompiler-cache = false\n"
    return f"{top}\n[tool.nox-buildstages.final]\nrequirements = {requirements}\n"


def _stage(name: str, outputs: list[str], more: str = "") -> str:
    pinned = [f"{output}=={SDISTS[output]}" for output in outputs]
    head = f'\n[[tool.nox-buildstages.stage]]\nname = "{name}"\n'
    return f"{head}outputs = {pinned}\n{more}\n"


def locked_project(downloads: Downloads, name: str, table: str) -> Project:
    """Return a project with its locks, and with all that it takes in uv's cache."""
    project = make_project(downloads.folder / name, downloads.env)
    project.write(table)
    run(LOCK, project.folder, project.env)
    for stage in parse_toml(table)["tool"]["nox-buildstages"]["stage"]:
        # It fails when it would build the first output; the environment exists by then.
        words = nox("--install-only", "-s", f"build-stage-{stage['name']}")
        run(words, project.folder, project.env, check=False)
    return project


def _ours(what: str, project: Project, prepare: Callable[[], object]) -> Command:
    return Command(
        what=what,
        commands=(BUILD_STAGES,),
        cwd=project.folder,
        env=project.env,
        prepare=prepare,
    )


def _warm(project: Project) -> None:
    """Leave of a project its locks, and the store with all wheels in it."""
    run(BUILD_STAGES, project.folder, project.env)
    remove_environments(project)


class _Changing:
    """Changes a flag of one stage, to what it never was, when all has been built."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.flag = 0

    def __call__(self) -> None:
        run(BUILD_STAGES, self.project.folder, self.project.env)
        self.flag += 1
        self.project.write(_four_stages(self.flag))
