"""What building costs, on small real sdists from PyPI."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from uv import find_uv_bin

from benchmarks.measuring import Contender, Heat, Row, Scene, run
from benchmarks.tiny import nox
from nox_buildstages import toml
from nox_buildstages.value import replace
from support.project import Project, make_project, outer_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.measuring import Argv

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
PIP = (sys.executable, "-m", "pip")
BUILD = (sys.executable, "-m", "build")
BUILD_STAGES = nox("-s", "build-stages")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """Where all contenders build: with caches of their own, with all downloads in them.

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

    def download(self) -> None:
        """Fetch the sdists, and what builds in isolation need, for pip and for uv."""
        for name, version in SDISTS.items():
            wanted = ("--no-deps", "--no-binary", name, f"{name}=={version}")
            self.run(*PIP, "download", "--dest", str(self.folder / "sdists"), *wanted)
        self.unpack()
        for tree in self.trees:
            scratch = ("--target", str(self.folder / "build-requires" / tree.name))
            self.run(UV, "pip", "install", *scratch, *_build_requires(tree))

    def unpack(self) -> None:
        """Unpack every sdist anew, with nothing that was built in it."""
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

    def contender(
        self, what: str, *commands: Argv, prepare: Callable[[], object]
    ) -> Contender:
        """Return a peer that builds here."""
        return Contender(
            what=what,
            commands=commands,
            cwd=self.folder,
            env=self.env,
            prepare=prepare,
        )


def _builds(folder: Path) -> Iterator[Heat]:
    """Eight sdists, cold and warm, by us and by the peers."""
    ground = _ground(folder)
    project = _eight(ground)
    yield Heat(rows=tuple(_cold_rows(ground, project)), runs=2, warm_up=False)
    yield Heat(rows=tuple(_warm_rows(ground, project)), runs=5)


def _cold_rows(ground: Ground, project: Project) -> Iterator[Row]:
    ours = _ours(
        "cold `nox -s build-stages`, 8 sdists", project, partial(_cool, project)
    )
    out = ("--wheel", "--out-dir", str(ground.out))
    for peer in (
        ground.contender(
            "`uv build` of each",
            *((UV, "build", *_python(), *out, str(tree)) for tree in ground.trees),
            prepare=ground.unpack,
        ),
        ground.contender(
            "`pip wheel`", _pip_wheel(ground), prepare=ground.forget_wheels
        ),
        ground.contender(
            "`python -m build` of each",
            *(
                (*BUILD, "--wheel", "--outdir", str(ground.out), str(tree))
                for tree in ground.trees
            ),
            prepare=ground.unpack,
        ),
    ):
        yield Row(name="cold", ours=ours, peer=peer, goal=1)


def _warm_rows(ground: Ground, project: Project) -> Iterator[Row]:
    ours = _ours(
        "warm `nox -s build-stages`, 8 sdists", project, partial(_warm, project)
    )
    archives = tuple(map(str, ground.archives))
    target = ("--python", str(ground.venv), "--no-deps")
    for peer in (
        ground.contender("`pip wheel`, warm", _pip_wheel(ground), prepare=ground.clear),
        ground.contender(
            "`uv pip install` of the sdists, warm",
            (UV, "venv", "--quiet", *_python(), str(ground.venv)),
            (UV, "pip", "install", *target, *archives),
            prepare=ground.clear,
        ),
    ):
        yield Row(name="warm", ours=ours, peer=peer)


def _changes(folder: Path) -> Iterator[Heat]:
    """Four stages that don't need each other: side by side, and one of them changed."""
    project = _four(_ground(folder, download=False))
    cool, change = partial(_cool, project), _Changing(project)
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
    yield Heat(rows=rows, runs=3, warm_up=False)


SCENES = (
    Scene(names=("cold", "warm"), seconds=400, heats=_builds),
    Scene(names=("parallel", "flag"), seconds=90, heats=_changes),
)


def _ground(folder: Path, *, download: bool = True) -> Ground:
    caches = folder / "caches"
    env = {
        **outer_env(),
        "NO_COLOR": "1",
        "PIP_CACHE_DIR": str(caches / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_CACHE_DIR": str(caches / "uv"),
    }
    ground = Ground(folder=folder, env=env)
    if download:
        ground.download()
    return ground


def _build_requires(tree: Path) -> list[str]:
    """Return what a build in isolation installs first (PEP 518)."""
    path = tree / "pyproject.toml"
    document = toml.loads(path.read_text("utf-8")) if path.is_file() else {}
    requires: list[str] = document.get("build-system", {}).get("requires", [])
    return requires or ["setuptools>=40.8.0"]


def _pip_wheel(ground: Ground) -> Argv:
    """Return the command that builds all; pip finds a wheel again that is named so."""
    named = (f"{it.name.rpartition('-')[0]} @ {it.as_uri()}" for it in ground.archives)
    return (*PIP, "wheel", "--no-deps", "--wheel-dir", str(ground.out), *named)


def _python() -> Argv:
    return ("--python", sys.executable)


def _eight(ground: Ground) -> Project:
    """Return a project with the eight in one stage, as far as they can be.

    preshed compiles against cymem and murmurhash; a stage can't hold its own outputs.
    """
    first = [name for name in SDISTS if name != "preshed"]
    return _locked(
        ground,
        "eight",
        _table([*SDISTS])
        + _stage("most", first)
        + _stage("maps", ["preshed"], 'dependencies = ["cymem", "murmurhash"]'),
    )


def _four(ground: Ground) -> Project:
    return _locked(ground, "four", _four_stages(0))


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


def _locked(ground: Ground, name: str, table: str) -> Project:
    """Return a project with its locks, and with all that it takes in uv's cache."""
    project = make_project(ground.folder / name, ground.env)
    project.write(table)
    run(nox("-s", "build-stages-lock"), project.folder, project.env)
    for stage in toml.loads(table)["tool"]["nox-buildstages"]["stage"]:
        # It fails when it would build the first output; the environment exists by then.
        words = nox("--install-only", "-s", f"build-stage-{stage['name']}")
        run(words, project.folder, project.env, check=False)
    return project


def _ours(what: str, project: Project, prepare: Callable[[], object]) -> Contender:
    return Contender(
        what=what,
        commands=(BUILD_STAGES,),
        cwd=project.folder,
        env=project.env,
        prepare=prepare,
    )


def _cool(project: Project) -> None:
    """Leave of a project its locks, and of its store the downloads."""
    _remove_environments(project)
    for path in project.store.iterdir():
        if path.name != "sources":
            shutil.rmtree(path)


def _warm(project: Project) -> None:
    """Leave of a project its locks, and the store with all wheels in it."""
    run(BUILD_STAGES, project.folder, project.env)
    _remove_environments(project)


def _remove_environments(project: Project) -> None:
    for path in (project.folder / ".nox", project.wheelhouse):
        shutil.rmtree(path, ignore_errors=True)


class _Changing:
    """Changes a flag of one stage, to what it never was, when all has been built."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.flag = 0

    def __call__(self) -> None:
        run(BUILD_STAGES, self.project.folder, self.project.env)
        self.flag += 1
        self.project.write(_four_stages(self.flag))
