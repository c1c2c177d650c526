"""uv runs no code of a package, however the package is declared."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.utils import canonicalize_name

from nox_buildstages.config.project import read
from nox_buildstages.declarations.documents import read_document
from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.targets import Target
from nox_buildstages.errors import NoWheelError, ResolutionError
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver
from nox_buildstages.model import FINAL, Interpreter
from nox_buildstages.system.process import run
from support.packages import make_setuptools, make_wheel

if TYPE_CHECKING:
    from support.index import Index

SETUP = """
from pathlib import Path
Path({path!r}).touch()
"""
SOURCES = "[tool.uv.sources]\nfast = {{ {} }}\n"
OVERRIDE = '[tool.uv]\noverride-dependencies = ["{}"]\n'
METADATA = '[[tool.uv.dependency-metadata]]\nname = "fast"\n{}'
DECLARED = {
    "path": SOURCES.format('path = "fast"'),
    "editable": SOURCES.format('path = "fast", editable = true'),
    "archive": SOURCES.format('path = "fast-1.0.tar.gz"'),
    "git": SOURCES.format('git = "GIT"'),
    "git with a tag": SOURCES.format('git = "GIT", tag = "v1"'),
    "url": SOURCES.format('url = "FILE"'),
    "workspace": '[tool.uv.workspace]\nmembers = ["fast"]\n'
    + SOURCES.format("workspace = true"),
    "a marker that holds": SOURCES.format(
        'path = "fast", marker = "sys_platform != \'win32\'"'
    ),
    "a marker that doesn't": SOURCES.format(
        'path = "fast", marker = "sys_platform == \'win32\'"'
    )
    + '[tool.uv]\nfind-links = ["links"]\n',
    "find-links": '[tool.uv]\nfind-links = ["links"]\n',
    "an index of a folder": '[[tool.uv.index]]\nurl = "links"\nformat = "flat"\n',
    "no-binary": '[tool.uv]\nno-binary = true\nfind-links = ["links"]\n',
    "no-binary of uv pip": '[tool.uv]\nfind-links = ["links"]\n'
    '[tool.uv.pip]\nno-binary = [":all:"]\n',
    "no isolation": '[tool.uv]\nno-build-isolation = true\nfind-links = ["links"]\n'
    "[tool.uv.pip]\nno-build-isolation = true\nno-build = false\n",
    "an override with a folder": OVERRIDE.format("fast @ FOLDER"),
    "an override with an archive": OVERRIDE.format("fast @ FILE"),
    "an override with a commit": OVERRIDE.format("fast @ git+GIT"),
    "an override of a source": OVERRIDE.format("fast>=1")
    + SOURCES.format('path = "fast"'),
    "a constraint with a folder": '[tool.uv]\nfind-links = ["links"]\n'
    'constraint-dependencies = ["fast @ FOLDER"]\n',
    "metadata": METADATA.format("") + '[tool.uv]\nfind-links = ["links"]\n',
    "metadata of a folder": METADATA.format('version = "7"\n')
    + SOURCES.format('path = "fast"'),
    "extra build requirements": '[tool.uv]\nfind-links = ["links"]\n'
    '[tool.uv.extra-build-dependencies]\nfast = ["dep"]\n',
}


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    return probe_interpreter(
        Path(sys.executable), runner=run, cache=tmp_path_factory.mktemp("it")
    )


@dataclass(frozen=True, kw_only=True)
class Trap:
    """A project, and a package whose ``setup.py`` leaves a trace.

    Attributes:
        folder: Of the project, with the package in ``fast`` and as an sdist.
        trace: The file that ``setup.py`` writes.
        resolver: Without settings.
    """

    folder: Path
    trace: Path
    resolver: Resolver

    def resolve(self, text: str, *, is_output: bool) -> None:
        """Ask uv about the package, as an output or as a requirement."""
        path = self.folder / "pyproject.toml"
        stage = '[[tool.nox-buildstages.stage]]\nname = "s"\noutputs = ["fast"]\n'
        path.write_text(f"{text}\n{stage}", encoding="utf-8")
        project = read(read_document(path), pyproject=path)
        indexes = Indexes(
            root=self.folder,
            settings=project.uv,
            outer=self.resolver.indexes.outer,
        )
        names = (canonicalize_name("fast"),) if is_output else ()
        name = "outputs" if is_output else FINAL
        question = Question(name=name, requirements=("fast",), sources=names)
        resolver = Resolver(
            uv=self.resolver.uv,
            python=self.resolver.python,
            target=self.resolver.target,
            runner=run,
            indexes=indexes,
        )
        answer = resolver.resolve(question)
        assert [package.name for package in answer.packages] == ["fast"]


@pytest.fixture
def trap(
    tmp_path: Path, index: Index, env: dict[str, str], interpreter: Interpreter
) -> Trap:
    folder, trace = tmp_path / "app", tmp_path / "trace"
    tree = folder / "fast"
    tree.mkdir(parents=True)
    setup = SETUP.format(path=str(trace))
    tree.joinpath("setup.py").write_text(setup, encoding="utf-8")
    tree.joinpath("pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "setup"\n'
        'backend-path = ["."]\n[project]\nname = "fast"\n'
        'dynamic = ["version", "dependencies"]\n'
    )
    tree.joinpath("PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: fast\nVersion: 1.0\n"
    )
    for place in (folder, folder / "links"):
        place.mkdir(exist_ok=True)
        with tarfile.open(place / "fast-1.0.tar.gz", "w:gz") as archive:
            archive.add(tree, "fast-1.0")
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"),
        ("tag", "v1"),
    ):
        argv = ("git", *command)
        subprocess.run(argv, cwd=tree, check=True, env=env)
    make_setuptools(index.folder)
    make_wheel(index.folder, "dep", "1.0")
    return Trap(
        folder=folder,
        trace=trace,
        resolver=Resolver(
            uv=Path(uv.find_uv_bin()),
            python=Path(sys.executable),
            target=Target(interpreter=interpreter, python=Path(sys.executable)),
            runner=run,
            indexes=Indexes(root=folder, outer=env),
        ),
    )


QUICK = ("editable", "workspace", "an override with a folder", "find-links")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(it, marks=() if it in QUICK else pytest.mark.slow)
        for it in DECLARED
    ],
)
def test_no_declaration_makes_uv_run_a_backend(name: str, trap: Trap) -> None:
    """An output has a source without a build; anything else is an error at once."""
    text, tree = DECLARED[name], trap.folder / "fast"
    for word, url in {
        "GIT": f"file://{tree}",
        "FOLDER": tree.as_uri(),
        "FILE": trap.folder.joinpath("fast-1.0.tar.gz").as_uri(),
    }.items():
        text = text.replace(word, url)
    trap.resolve(text, is_output=True)
    assert not trap.trace.exists()
    if "metadata" not in name:  # which makes a build unneeded
        with pytest.raises((NoWheelError, ResolutionError)):
            trap.resolve(text, is_output=False)
    assert not trap.trace.exists()


def test_the_trap_works(trap: Trap) -> None:
    """Without what keeps uv from it, uv runs ``setup.py``."""
    outer = trap.resolver.indexes.outer
    argv = (uv.find_uv_bin(), "pip", "compile", "-", "--python", sys.executable)
    subprocess.run(
        argv,
        input=f"fast @ {trap.folder.joinpath('fast').as_uri()}",
        text=True,
        env=outer,
        check=False,
        capture_output=True,
    )
    assert trap.trace.exists()
