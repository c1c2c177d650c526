"""PEP 517 hooks in an interpreter of their own: what they return, and how they fail."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uv
from packaging.version import Version

from nox_buildstages.builder.backend import Backend
from nox_buildstages.builder.diagnosis.causes import MAX_LINES
from nox_buildstages.builder.diagnosis.diagnose import read_log
from nox_buildstages.builder.diagnosis.situation import Situation
from nox_buildstages.builder.sandbox.sandbox import Sandbox
from nox_buildstages.errors import BackendError
from nox_buildstages.sources.metadata import BuildSystem
from nox_buildstages.system.orphans import BUILD_VARIABLE
from nox_buildstages.system.process import run
from nox_buildstages.text import show_path
from nox_buildstages.value import replace
from support.packages import TINYBACKEND, make_tinybackend, make_tree, read_from_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nox_buildstages.model import ConfigSettings

UV = uv.find_uv_bin()
SYSTEM = BuildSystem(requires=(), backend="tinybackend")
HOOKS: dict[str, Callable[[Backend, Path], object]] = {
    "get_requires_for_build_wheel": lambda backend, _: backend.get_requires(),
    "prepare_metadata_for_build_wheel": lambda backend, out: backend.prepare_metadata(
        out
    ),
    "build_wheel": lambda backend, out: backend.build_wheel(out),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with tinybackend in it."""
    folder = tmp_path_factory.mktemp("backend")
    wheel = make_tinybackend(folder)
    found = folder / "venv/bin/python"
    for command in (
        ("venv", "-p", sys.executable, folder / "venv"),
        ("pip", "install", "--no-cache", "--python", found, wheel),
    ):
        argv = [UV, *map(str, command), "-q", "--no-config", "--offline"]
        subprocess.run(argv, check=True)
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def backend(tmp_path: Path, python: Path) -> Backend:
    """A backend whose tree is still to be made."""
    return Backend(
        situation=Situation(output="some-package", stage="kernels"),
        tree=tmp_path / "tree",
        system=SYSTEM,
        python=python,
        env={"ONLY": "this"},
        settings={},
        log=tmp_path / "log",
        runner=run,
        sandbox=Sandbox(why="it is not asked for"),
    )


def write_tree(backend: Backend, **settings: Any) -> None:  # noqa: ANN401 - JSON
    make_tree(backend.tree, "some-package", "1.0", requires=["x>=1"], settings=settings)


def write_own(backend: Backend, code: str) -> Backend:
    """Make a tree with a backend of its own."""
    backend.tree.mkdir()
    (backend.tree / "own.py").write_text(code)
    own = BuildSystem(requires=(), backend="own", backend_path=(".",))
    return replace(backend, system=own)


def failure(backend: Backend, hook: str, out: Path) -> BackendError:
    with pytest.raises(BackendError) as caught:
        HOOKS[hook](backend, out)
    error = caught.value
    assert (error.output, error.stage) == ("some-package", "kernels")
    assert (error.hook, error.log) == (hook, backend.log)
    return error


def test_a_backend_says_what_it_requires(backend: Backend) -> None:
    """In the backend's own order."""
    write_tree(backend, **{"requires-for-build": ["b", "a>=1"]})
    assert backend.get_requires() == ("b", "a>=1")


def test_a_backend_prepares_metadata(backend: Backend, out: Path) -> None:
    """What the wheel will say is known with nothing built."""
    write_tree(backend)
    said = backend.prepare_metadata(out)
    assert said is not None
    assert (said.name, said.version) == ("some-package", Version("1.0"))
    assert said.requires_dist == ("x>=1",)
    assert list(out.glob("*.whl")) == []


def test_a_backend_without_that_hook_cannot_say(backend: Backend, out: Path) -> None:
    """Then nothing is built to find out, either."""
    write_tree(backend, faults=["no-metadata-hook"])
    assert backend.prepare_metadata(out) is None
    assert list(out.iterdir()) == []


def test_a_backend_builds_a_wheel(backend: Backend, out: Path) -> None:
    """Its name comes back, and what was said goes into the log, after what is there."""
    backend.log.write_text("before\n")
    write_tree(backend, says=["hello"])
    assert backend.build_wheel(out) == "some_package-1.0-py3-none-any.whl"
    assert [path.name for path in out.iterdir()] == [backend.build_wheel(out)]
    lines = backend.log.read_text().splitlines()
    assert lines[:3] == ["before", "tinybackend: building some-package 1.0", "hello"]


def test_a_backend_runs_in_its_tree_with_its_variables(
    backend: Backend, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those it is given, and none of ours."""
    monkeypatch.setenv("OUTER", "1")
    write_tree(backend, record=["cwd", "variables"])
    record = recorded(out / backend.build_wheel(out))
    assert record["cwd"] == str(backend.tree)
    names = {name for name in record["variables"] if not name.startswith("_PYPROJECT")}
    assert names <= {"ONLY", "LC_CTYPE", "COVERAGE_PROCESS_START", BUILD_VARIABLE}
    assert "ONLY" in names


def recorded(wheel: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(read_from_wheel(wheel, "some_package/record.json"))


OWN = """
import json, os

def note(hook, settings):
    with open("settings.jsonl", "a") as file:
        file.write(json.dumps([hook, settings]) + "\\n")

def get_requires_for_build_wheel(config_settings=None):
    note("requires", config_settings)
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    note("metadata", config_settings)
    os.mkdir(metadata_directory + "/a-1.dist-info")
    with open(metadata_directory + "/a-1.dist-info/METADATA", "w") as file:
        file.write("Metadata-Version: 2.1\\nName: a\\nVersion: 1\\n")
    return "a-1.dist-info"

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    note("wheel", config_settings)
    return "a-1-py3-none-any.whl"
"""


def test_config_settings_reach_every_hook(backend: Backend, out: Path) -> None:
    """Words as words, lists as lists; the backend lies in the tree (backend-path)."""
    settings: ConfigSettings = {"--plain": "x", "--listed": ("y", "z")}
    own = replace(write_own(backend, OWN), settings=settings)
    assert own.get_requires() == ()
    assert own.prepare_metadata(out) is not None
    assert own.build_wheel(out) == "a-1-py3-none-any.whl"
    lines = (own.tree / "settings.jsonl").read_text().splitlines()
    expected = {"--plain": "x", "--listed": ["y", "z"]}
    assert [json.loads(line) for line in lines] == [
        [hook, expected] for hook in ("requires", "metadata", "wheel")
    ]


def test_hooks_that_are_missing_ask_for_nothing(backend: Backend, out: Path) -> None:
    """Only build_wheel is mandatory (PEP 517)."""
    own = write_own(backend, "build_wheel = None\n")
    assert own.get_requires() == ()
    assert own.prepare_metadata(out) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "exit status 1"),
        ("exit", "exit status 3"),
        ("kill", "killed by signal 9"),
    ],
)
def test_a_hook_that_fails_shows_the_end_of_its_log(
    backend: Backend, out: Path, fault: str, reason: str
) -> None:
    """However it ended, what it said last is there to read, and where all of it is."""
    write_tree(backend, faults=[fault], says=[f"line {n}" for n in range(100)])
    error = failure(backend, "build_wheel", out)
    assert error.reason == reason
    assert len(error.details) == MAX_LINES
    assert ("line 99" in error.details) or fault == "raise"
    if fault == "raise":
        assert error.details[-1] == "RuntimeError: tinybackend was told to raise"
    assert show_path(backend.log, backend.log.cwd()) in str(error)


def test_only_what_the_hook_printed_is_searched(backend: Backend, out: Path) -> None:
    """Earlier hooks and attempts are in the same log."""
    backend.log.write_text("a.c:1:1: error: an earlier one\n")
    write_tree(backend, faults=["raise"])
    error = failure(backend, "build_wheel", out)
    assert not any("earlier" in line for line in error.details)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_may_fail(backend: Backend, out: Path, hook: str) -> None:
    """The error names the hook that did."""
    write_tree(backend, **{"require-env": ["NEEDED"]})
    error = failure(backend, hook, out)
    assert error.reason == "exit status 1"
    assert error.details[-1] == "KeyError: 'NEEDED'"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_backend_that_is_not_there_is_an_error(
    backend: Backend, out: Path, hook: str
) -> None:
    """Its name is in the reason."""
    write_tree(backend)
    missing = replace(backend, system=BuildSystem(requires=(), backend="nowhere"))
    assert "nowhere" in failure(missing, hook, out).reason


@pytest.mark.parametrize("folder", ["..", "/"])
def test_a_backend_outside_its_tree_is_an_error(
    backend: Backend, out: Path, folder: str
) -> None:
    """PEP 517 forbids it, and the tree says so, not a traceback of ours."""
    write_tree(backend)
    system = BuildSystem(requires=(), backend="x", backend_path=(folder,))
    error = failure(replace(backend, system=system), "build_wheel", out)
    assert error.reason.startswith("ValueError: ")
    assert error.details == ()


def test_a_backend_is_not_taken_from_elsewhere(backend: Backend, out: Path) -> None:
    """With backend-path it must lie there, though the environment has one."""
    write_tree(backend)
    (backend.tree / "empty").mkdir()
    system = BuildSystem(requires=(), backend="tinybackend", backend_path=("empty",))
    failure(replace(backend, system=system), "build_wheel", out)


def test_a_backend_of_the_tree_is_preferred(backend: Backend, out: Path) -> None:
    """A tree that ships its backend is built with that one."""
    write_tree(backend)
    own = TINYBACKEND.read_text("utf-8").replace("building", "building by itself")
    (backend.tree / "tinybackend.py").write_text(own)
    shipped = replace(SYSTEM, backend_path=(".",))
    replace(backend, system=shipped).build_wheel(out)
    assert "building by itself" in backend.log.read_text()


def test_an_interpreter_that_is_gone_is_an_error(
    backend: Backend, out: Path, tmp_path: Path
) -> None:
    """As when somebody removed the environment."""
    write_tree(backend)
    error = failure(replace(backend, python=tmp_path / "gone"), "build_wheel", out)
    assert error.reason == "exit status 127"
    assert error.details[-1] == f"No such file or directory: {tmp_path / 'gone'}"


@pytest.mark.parametrize("answer", ["None", "'setuptools'", "[1]", "{'a': 1}"])
def test_what_is_no_list_of_requirements_is_an_error(
    backend: Backend, out: Path, answer: str
) -> None:
    """A faulty hook is told from one that asks for nothing."""
    hook = "get_requires_for_build_wheel"
    code = f"def {hook}(config_settings=None):\n    return {answer}\n"
    error = failure(write_own(backend, code), hook, out)
    assert "no list of requirements" in error.reason


@pytest.mark.parametrize("answer", ["None", "'gone'"])
def test_metadata_that_is_not_there_is_an_error(
    backend: Backend, out: Path, answer: str
) -> None:
    """A hook that returned has to have written it."""
    hook = "prepare_metadata_for_build_wheel"
    code = f"def {hook}(folder, config_settings=None):\n    return {answer}\n"
    error = failure(write_own(backend, code), hook, out)
    assert error.reason.startswith("its METADATA can't be read: ")


def test_an_unsupported_operation_is_an_error(backend: Backend, out: Path) -> None:
    """The old exception of setuptools; what it says is the reason."""
    code = """
class UnsupportedOperation(Exception):
    pass

def build_sdist(sdist_directory, config_settings=None):
    raise UnsupportedOperation("not today")

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return build_sdist(wheel_directory)
"""
    error = failure(write_own(backend, code), "build_wheel", out)
    assert error.reason == "exit status 1"
    assert error.details[-1].endswith("UnsupportedOperation: not today")


@pytest.mark.filterwarnings("error")
def test_warnings_go_to_the_log(backend: Backend) -> None:
    """A hook hands them back; they neither fail the build nor clutter the session."""
    code = """
import warnings

def get_requires_for_build_wheel(config_settings=None):
    warnings.warn("old ways", UserWarning)
    return []
"""
    assert write_own(backend, code).get_requires() == ()
    assert "warning: old ways" in backend.log.read_text().splitlines()


def test_the_end_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """And bytes that are no text are no reason to show nothing."""
    log = tmp_path / "log"
    assert [*read_log(log)] == []
    log.write_bytes(b"a\xff\nb\n")
    assert [*read_log(log)] == ["a\N{REPLACEMENT CHARACTER}\n", "b\n"]
