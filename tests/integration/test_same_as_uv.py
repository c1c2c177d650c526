"""Projects resolved here and by ``uv lock``: the same versions from the same places."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.pylock import Pylock

from nox_buildstages.config.project import read
from nox_buildstages.declarations.documents import read_document
from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.targets import Target
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
from nox_buildstages.model import FINAL, Interpreter
from nox_buildstages.reader import parse_toml
from nox_buildstages.system.process import run
from support.index import Index
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.pylock import Package

PYTHON = f"=={sys.version_info[0]}.{sys.version_info[1]}.*"
HEAD = """
[project]
name = "app"
version = "1"
requires-python = "{python}"
dependencies = {dependencies}
[[tool.uv.index]]
name = "cpu"
url = "{cpu}"
explicit = true
[tool.nox-buildstages.final]
extras = {extras}
groups = {groups}
"""


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    return probe_interpreter(
        Path(sys.executable), runner=run, cache=tmp_path_factory.mktemp("it")
    )


@pytest.fixture(scope="module")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """A second index with other builds of one package."""
    with Index(tmp_path_factory.mktemp("cpu")) as index:
        for version in ("1.0", "2.0", "3.0"):
            make_wheel(index.folder, "dep", f"{version}+cpu")
        yield index


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A project that both resolve.

    Attributes:
        text: What its pyproject.toml has beside the head.
        dependencies: Of the project.
        extras: Those that are installed.
        groups: Those that are installed.
        files: Other files, by path.
        has: What must be in the answer, so that both aren't wrong alike.
    """

    text: str = ""
    dependencies: tuple[str, ...] = ("top",)
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    files: Mapping[str, str] | None = None
    has: str


SOURCE = '[tool.uv.sources]\ndep = { index = "cpu" }\n'
MEMBER = f'[project]\nname = "core"\nversion = "5"\nrequires-python = "{PYTHON}"\n'
OPTIONAL = (
    '[project.optional-dependencies]\ncpu = ["dep"]\ngpu = ["dep"]\n'
    'all = ["app[cpu]"]\n[dependency-groups]\ndev = ["app[cpu]"]\nmore = ["dep"]\n'
    'outer = [{ include-group = "more" }]\n'
)
CONFLICTS = 'conflicts = [[{ extra = "cpu" }, { extra = "gpu" }]]\n'
TOYS = {
    "a source": Toy(text=SOURCE, dependencies=("dep",), has="dep 3.0+cpu cpu"),
    "no source for what others require": Toy(text=SOURCE, has="dep 3.0 main"),
    "a source of a chosen extra": Toy(
        text=OPTIONAL + SOURCE.replace(" }", ', extra = "cpu" }'),
        extras=("cpu",),
        has="dep 3.0+cpu cpu",
    ),
    "a source of another extra": Toy(
        text=OPTIONAL
        + SOURCE.replace(" }", ', extra = "cpu" }')
        + f"[tool.uv]\n{CONFLICTS}",
        extras=("gpu",),
        has="dep 3.0 main",
    ),
    "an extra that names an extra": Toy(
        text=OPTIONAL + SOURCE.replace(" }", ', extra = "cpu" }'),
        extras=("all",),
        has="dep 3.0+cpu cpu",
    ),
    "a group that names an extra": Toy(
        text=OPTIONAL + SOURCE.replace(" }", ', extra = "cpu" }'),
        groups=("dev",),
        has="dep 3.0+cpu cpu",
    ),
    "a source of a group": Toy(
        text=OPTIONAL + SOURCE.replace(" }", ', group = "more" }'),
        groups=("more",),
        has="dep 3.0+cpu cpu",
    ),
    "a source with a marker that holds": Toy(
        text=SOURCE.replace(" }", ", marker = \"sys_platform != 'win32'\" }"),
        dependencies=("dep",),
        has="dep 3.0+cpu cpu",
    ),
    "a source with a marker that doesn't hold": Toy(
        text=SOURCE.replace(" }", ", marker = \"sys_platform == 'win32'\" }"),
        dependencies=("dep",),
        has="dep 3.0 main",
    ),
    "an override of a dependency of others": Toy(
        text=f'[tool.uv]\noverride-dependencies = ["dep<3"]\n{SOURCE}',
        has="dep 2.0+cpu cpu",
    ),
    "an override of a direct dependency": Toy(
        text=f'[tool.uv]\noverride-dependencies = ["dep==1.0"]\n{SOURCE}',
        dependencies=("dep>=2", "top"),
        has="dep 1.0+cpu cpu",
    ),
    "an override that removes": Toy(
        text="[tool.uv]\noverride-dependencies = [\"dep; sys_platform == 'never'\"]\n"
        + SOURCE,
        has="!dep",
    ),
    "an override with a path": Toy(
        text='[tool.uv]\noverride-dependencies = ["dep"]\n'
        '[tool.uv.sources]\ndep = { path = "dep-9.0-py3-none-any.whl" }\n',
        has="dep 9.0 dep-9.0-py3-none-any.whl",
    ),
    "an override for one package": Toy(
        text="[tool.uv]\noverride-dependencies = [{ package = { name = 'top' },"
        " dependencies = ['dep<2'] }]\n",
        has="dep 1.0 main",
    ),
    "a constraint": Toy(
        text=f'[tool.uv]\nconstraint-dependencies = ["dep<3"]\n{SOURCE}',
        has="dep 2.0+cpu cpu",
    ),
    "a constraint on what nothing requires": Toy(
        text=f'[tool.uv]\nconstraint-dependencies = ["dep<3"]\n{SOURCE}',
        dependencies=("lone",),
        has="!dep",
    ),
    "an exclusion": Toy(text='[tool.uv]\nexclude-dependencies = ["dep"]\n', has="!dep"),
    "an exclusion from one package": Toy(
        text="[tool.uv]\nexclude-dependencies = [{ package = { name = 'top' },"
        " dependencies = ['dep'] }]\n",
        has="!dep",
    ),
    "metadata": Toy(
        text='[[tool.uv.dependency-metadata]]\nname = "top"\n',
        has="!dep",
    ),
    "a member of the workspace": Toy(
        text='[tool.uv.workspace]\nmembers = ["packages/*"]\n'
        "[tool.uv.sources]\ncore = { workspace = true }\n",
        dependencies=("core",),
        files={"packages/core/pyproject.toml": f'{MEMBER}dependencies = ["top"]\n'},
        has="core core",
    ),
    "a member of the workspace with members of its own": Toy(
        text='[tool.uv.workspace]\nmembers = ["packages/*"]\n'
        "[tool.uv.sources]\ncore = { workspace = true }\n",
        dependencies=("core",),
        files={
            "packages/core/pyproject.toml": f'{MEMBER}dependencies = ["leaf"]\n'
            "[tool.uv.sources]\nleaf = { workspace = true }\n",
            "packages/leaf/pyproject.toml": MEMBER.replace("core", "leaf"),
        },
        has="leaf leaf",
    ),
    "an editable folder that names another": Toy(
        text='[tool.uv.sources]\ncore = { path = "../core", editable = true }\n',
        dependencies=("core",),
        files={
            "../core/pyproject.toml": f'{MEMBER}dependencies = ["leaf"]\n'
            '[tool.uv.sources]\nleaf = { path = "../leaf", editable = true }\n',
            "../leaf/pyproject.toml": MEMBER.replace("core", "leaf"),
        },
        has="leaf leaf",
    ),
    "a uv.toml": Toy(
        text='[tool.uv]\nprerelease = "allow"\nconstraint-dependencies = ["dep<3"]\n'
        "[tool.uv.sources]\n",
        files={"uv.toml": 'resolution = "lowest"\noverride-dependencies = ["dep>9"]\n'},
        has="dep 1.0 main",
    ),
    "settings for uv pip": Toy(
        text='[tool.uv.pip]\nno-deps = true\nno-emit-package = ["dep"]\n'
        'universal = true\noutput-file = "other"\nextra = ["none"]\n',
        has="dep 3.0 main",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the packages of toys are."""

    folder: Path
    main: Index
    cpu: Index
    env: dict[str, str]

    def write(self, toy: Toy) -> None:
        """Write a toy's files."""
        head = HEAD.format(
            python=PYTHON,
            dependencies=[*toy.dependencies],
            extras=[*toy.extras],
            groups=[*toy.groups],
            cpu=self.cpu.url,
        )
        files = {"pyproject.toml": head + toy.text, **(toy.files or {})}
        for path, text in files.items():
            self.folder.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
            self.folder.joinpath(path).write_text(text, encoding="utf-8")


@pytest.fixture
def places(tmp_path: Path, index: Index, cpu: Index, env: dict[str, str]) -> Places:
    for version in ("1.0", "2.0", "3.0"):
        make_wheel(index.folder, "dep", version)
    make_wheel(index.folder, "top", "1.0", requires=["dep", "lone"])
    make_wheel(index.folder, "lone", "1.0")
    make_wheel(tmp_path / "app", "dep", "9.0")
    return Places(folder=tmp_path / "app", main=index, cpu=cpu, env=env)


QUICK = (
    *("a source of a chosen extra", "an override of a dependency of others"),
    *("an exclusion", "a member of the workspace"),
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(it, marks=() if it in QUICK else pytest.mark.slow) for it in TOYS],
)
def test_the_answer_is_that_of_uv_lock(
    name: str, places: Places, interpreter: Interpreter
) -> None:
    """Each package has the same version, and comes from the same place."""
    toy, folder, env = TOYS[name], places.folder, places.env
    places.write(toy)
    names = {places.main.url: "main", places.cpu.url: "cpu"}
    ours = {place(it, names) for it in resolve(folder, env, interpreter)}
    theirs = {place(it, names) for it in lock_with_uv(folder, env, toy)}
    assert ours == theirs
    if toy.has.startswith("!"):
        assert not any(it.startswith(f"{toy.has[1:]} ") for it in ours)
    else:
        assert toy.has in ours


def resolve(
    folder: Path, env: dict[str, str], interpreter: Interpreter
) -> tuple[Package, ...]:
    """Return what the runtime of a project consists of here."""
    path = folder / "pyproject.toml"
    project = read(read_document(path), pyproject=path)
    resolver = Resolver(
        uv=Path(uv.find_uv_bin()),
        python=Path(sys.executable),
        target=Target(interpreter=interpreter, python=Path(sys.executable)),
        runner=run,
        indexes=Indexes(root=folder, settings=project.uv, outer=env),
    )
    wanted = tuple(map(str, project.final.requirements))
    answer = resolver.resolve(Question(name=FINAL, requirements=wanted))
    return tuple(answer.packages)


def lock_with_uv(folder: Path, env: dict[str, str], toy: Toy) -> list[Package]:
    """Return what the runtime of a project consists of for uv."""
    python = ("--python", sys.executable)
    chosen = [f"--extra={it}" for it in toy.extras]
    chosen += [f"--group={it}" for it in toy.groups]
    for argv in (
        ("lock", "--no-build", *python),
        (
            *("export", "--frozen", "--no-default-groups", "--no-emit-project"),
            *("--format", "pylock.toml", "--output-file", "pylock.toml"),
            *(*chosen, *python),
        ),
    ):
        command = (uv.find_uv_bin(), *argv, "--quiet")
        subprocess.run(command, cwd=folder, env=env, check=True)
    text = folder.joinpath("pylock.toml").read_text("utf-8")
    return [
        package
        for package in Pylock.from_dict(parse_toml(text)).packages
        if package.marker is None or package.marker.evaluate()
    ]


def place(package: Package, names: Mapping[str, str]) -> str:
    """Return where a package comes from."""
    if package.directory is not None:  # relative to different folders
        return f"{package.name} {Path(package.directory.path).name}"
    file = package.archive or next(iter(package.wheels or ()))
    location = file.url or file.path or ""
    for url, name in names.items():
        if location.startswith(url.removesuffix("simple/")):
            return f"{package.name} {package.version} {name}"
    return f"{package.name} {package.version} {location.rpartition('/')[2]}"
