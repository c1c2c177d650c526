"""What the other tests stand on: the packages, the index, the backend, the project."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.metadata import Metadata
from packaging.utils import parse_wheel_filename
from pyproject_hooks import BuildBackendHookCaller, HookMissing

from support.index import Index
from support.packages import (
    TINYBACKEND,
    make_sdist,
    make_setuptools,
    make_tinybackend,
    make_tree,
    make_wheel,
    read_from_wheel,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.project import Project

pytestmark = pytest.mark.slow  # other tests would fail, too, with worse messages

UV = uv.find_uv_bin()
BACKEND = {"tinybackend.py": TINYBACKEND.read_text("utf-8")}

PLAIN_NOXFILE = """\
import os
import nox

@nox.session(allow_parallel=True)
def good(session):
    session.run("python", "-c", "import os; print('HOME is', os.environ['HOME'])")
    session.log(f"CI is {os.environ.get('CI')}, backend is {session.venv_backend}")

@nox.session(allow_parallel=True)
def bad(session):
    session.error("no good")

SLOW = \"\"\"
import fcntl, sys, time
held = open(sys.argv[1], "w")
fcntl.flock(held, fcntl.LOCK_EX)
print("asleep", flush=True)
time.sleep(60)
\"\"\"

@nox.session(allow_parallel=True)
def slow(session):
    session.run("python", "-c", SLOW, "slow.held")

@nox.session(allow_parallel=True)
def slower(session):
    session.run("python", "-c", SLOW, "slower.held")
"""


def run_uv(*args: str, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        [UV, *args], env=env, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(python: Path, code: str) -> str:
    command = [str(python), "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return done.stdout.strip()


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock on a file."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


class Backend:
    """Calls tinybackend's hooks in a source tree that ships it, with this Python."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env: dict[str, str] = {}
        self.log = ""
        self.hooks = BuildBackendHookCaller(
            str(root), "tinybackend", ".", runner=self._run
        )

    def build(self, settings: Mapping[str, object] | None = None) -> Path:
        """Build the wheel, and return the path that the hook named."""
        out = self.root.parent / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        return out / self.hooks.build_wheel(str(out), settings)

    def _run(
        self,
        cmd: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        env = {**os.environ, **self.env, **(extra_environ or {})}
        done = subprocess.run(
            cmd, cwd=cwd, env=env, capture_output=True, check=False, text=True
        )
        self.log = done.stdout + done.stderr
        done.check_returncode()


def make_backend(tmp_path: Path, **settings: object) -> Backend:
    tree = make_tree(
        tmp_path / "models",
        "models",
        "1.0",
        requires=["tensorlib>=1"],
        files=BACKEND,
        settings=settings,
    )
    return Backend(tree)


@pytest.fixture
def fresh(tmp_path: Path, env: dict[str, str]) -> Path:
    """The interpreter of an empty environment."""
    venv = tmp_path / "venv"
    run_uv("venv", "-q", "--python", sys.executable, str(venv), env=env)
    return venv / "bin/python"


# Packages


def test_equal_values_make_equal_files(tmp_path: Path) -> None:
    """A wheel and an sdist made twice are the same byte for byte."""
    for make in (make_wheel, make_sdist):
        first = make(tmp_path / "first", "a.b-c", "1.0", requires=["x"])
        second = make(tmp_path / "second", "a.b-c", "1.0", requires=["x"])
        assert first.name == second.name
        assert first.name.startswith("a_b_c-1.0")
        assert first.read_bytes() == second.read_bytes()


def test_wheel_metadata_is_valid(tmp_path: Path) -> None:
    """What a wheel's METADATA says is what was asked for, and is valid."""
    wheel = make_wheel(
        tmp_path,
        "tensorlib",
        "1.0",
        requires=["x>=1", "y; extra == 'fast'"],
        extras=["fast"],
        requires_python=">=3.10",
    )
    text = read_from_wheel(wheel, "tensorlib-1.0.dist-info/METADATA")
    metadata = Metadata.from_email(text)
    assert [str(r) for r in metadata.requires_dist or []] == [
        "x>=1",
        'y; extra == "fast"',
    ]
    assert metadata.provides_extra == ["fast"]
    assert str(metadata.requires_python) == ">=3.10"


def test_wheel_installs_and_imports(
    tmp_path: Path, fresh: Path, env: dict[str, str]
) -> None:
    """A wheel is taken by uv and can be imported."""
    wheel = make_wheel(tmp_path, "tensorlib", "1.0", files={"other.py": "X = 3\n"})
    run_uv("pip", "install", "--python", str(fresh), str(wheel), env=env)
    assert run_python(fresh, "import other, tensorlib; print(other.X)") == "3"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "Requires-Dist: x"),
        ({"static": False}, "Dynamic: Requires-Dist"),
        ({"static": False, "metadata_version": "2.1"}, ""),
    ],
)
def test_sdist_says_whether_its_metadata_is_static(
    tmp_path: Path, fields: dict[str, object], expected: str
) -> None:
    """PKG-INFO names what it requires, or says that it can't, or says nothing."""
    sdist = make_sdist(tmp_path, "a", "1.0", requires=["x"], **fields)  # type: ignore[arg-type]
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    said = tmp_path.joinpath("a-1.0/PKG-INFO").read_text("utf-8").splitlines()
    lines = [line for line in said if "Requires-Dist" in line]
    assert lines == ([expected] if expected else [])


def test_tree_is_the_sdist_without_pkg_info(tmp_path: Path) -> None:
    """A source tree has the files of the sdist but PKG-INFO."""
    sdist = make_sdist(tmp_path, "a", "1.0", files={"a/b/c.txt": "c"})
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    tree = make_tree(tmp_path / "tree", "a", "1.0", files={"a/b/c.txt": "c"})

    def files(root: Path) -> dict[str, bytes]:
        found = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in found}

    unpacked = files(tmp_path / "a-1.0")
    assert unpacked.pop("PKG-INFO")
    assert files(tree) == unpacked


# The index


def test_uv_resolves_from_the_index(
    tmp_path: Path, index: Index, env: dict[str, str]
) -> None:
    """Uv finds versions, hashes and dependencies on the index."""
    make_wheel(index.folder, "tensorlib", "1.0")
    make_wheel(index.folder, "tensorlib", "2.0", requires=["dep"])
    make_wheel(index.folder, "dep", "1.0")
    (tmp_path / "in.txt").write_text("tensorlib\n", "utf-8")
    args = ["--generate-hashes", "--python", sys.executable, str(tmp_path / "in.txt")]
    compiled = run_uv("pip", "compile", *args, env=env)
    assert "tensorlib==2.0" in compiled
    assert "dep==1.0" in compiled
    assert "sha256:" in compiled
    assert "/simple/tensorlib/" in index.requests
    assert "/files/tensorlib-2.0-py3-none-any.whl.metadata" in index.requests


def test_index_says_when_a_file_came_and_for_which_python(
    tmp_path: Path, index: Index, env: dict[str, str]
) -> None:
    """Uv's exclude-newer and Requires-Python work on the index."""
    index.add(make_wheel(tmp_path, "tensorlib", "1.0"))
    late = make_wheel(tmp_path, "tensorlib", "2.0")
    index.add(late, uploaded="2026-06-01T00:00:00Z")
    index.add(make_wheel(tmp_path, "tensorlib", "3.0", requires_python=">=3.99"))
    (tmp_path / "in.txt").write_text("tensorlib\n", "utf-8")
    args = ["pip", "compile", "--python", sys.executable, str(tmp_path / "in.txt")]
    assert "tensorlib==2.0" in run_uv(*args, env=env)
    before = ["--exclude-newer", "2026-01-01T00:00:00Z"]
    assert "tensorlib==1.0" in run_uv(*args, *before, env=env)


def test_file_added_later_is_seen_at_once(
    tmp_path: Path, index: Index, env: dict[str, str]
) -> None:
    """Uv's cache doesn't hide what came to the index or left it."""
    (tmp_path / "in.txt").write_text("tensorlib\n", "utf-8")
    args = ["pip", "compile", "--python", sys.executable, str(tmp_path / "in.txt")]
    make_wheel(index.folder, "tensorlib", "1.0")
    assert "tensorlib==1.0" in run_uv(*args, env=env)
    make_wheel(index.folder, "tensorlib", "2.0")
    assert "tensorlib==2.0" in run_uv(*args, env=env)
    index.remove("Tensorlib")
    make_wheel(index.folder, "tensorlib", "0.1")
    assert "tensorlib==0.1" in run_uv(*args, env=env)


def test_uv_builds_an_sdist_of_the_index(
    index: Index, fresh: Path, env: dict[str, str]
) -> None:
    """Uv installs an sdist, and takes tinybackend from the index to build it."""
    make_sdist(index.folder, "models", "1.0", static=False)
    run_uv("pip", "install", "--python", str(fresh), "models", env=env)
    assert run_python(fresh, "import models; print(models.__doc__)") == "models 1.0."
    assert "/files/models-1.0.tar.gz" in index.requests


def test_setuptools_stands_in_where_there_is_no_pyproject(
    index: Index, fresh: Path, env: dict[str, str]
) -> None:
    """A source tree of old, with no pyproject.toml, is built too."""
    make_setuptools(index.folder)
    files = {"setup.py": "raise SystemExit('never run')\n"}
    make_sdist(index.folder, "old", "1.0", pyproject=False, files=files)
    run_uv("pip", "install", "--python", str(fresh), "old", env=env)
    assert run_python(fresh, "import old; print(old.__doc__)") == "old 1.0."


def test_unknown_project_is_not_found(
    tmp_path: Path, index: Index, env: dict[str, str]
) -> None:
    """A project that isn't there fails the resolution, and was asked for."""
    (tmp_path / "in.txt").write_text("nowhere\n", "utf-8")
    args = ["pip", "compile", "--python", sys.executable, str(tmp_path / "in.txt")]
    done = subprocess.run([UV, *args], env=env, capture_output=True, check=False)
    assert done.returncode != 0
    assert "/simple/nowhere/" in index.requests


def test_two_indexes_never_share_a_url(tmp_path: Path) -> None:
    """The path of an index differs from any other's, whatever its port."""
    with Index(tmp_path / "a") as first, Index(tmp_path / "b") as second:
        assert first.url.split("/")[3] != second.url.split("/")[3]


# The build backend


def test_backend_builds_the_wheel_that_its_settings_ask_for(tmp_path: Path) -> None:
    """The wheel holds the module, and its METADATA is that of the metadata hook."""
    backend = make_backend(tmp_path)
    out = tmp_path / "metadata"
    out.mkdir()
    info = backend.hooks.prepare_metadata_for_build_wheel(str(out))
    wheel = backend.build()
    assert wheel.name == "models-1.0-py3-none-any.whl"
    assert read_from_wheel(wheel, "models/__init__.py") == '"""models 1.0."""\n'
    metadata = read_from_wheel(wheel, f"{info}/METADATA")
    assert metadata == out.joinpath(info, "METADATA").read_text("utf-8")
    assert Metadata.from_email(metadata).requires_dist
    assert "tinybackend: made" in backend.log


def test_backend_is_deterministic(tmp_path: Path) -> None:
    """Two builds of one tree give equal bytes, compiled ones too."""
    backend = make_backend(tmp_path, compile=["fast.c"])
    backend.root.joinpath("fast.c").write_text("int f(void) { return 1; }\n", "utf-8")
    first = backend.build().read_bytes()
    shutil.rmtree(backend.root / "build")
    assert backend.build().read_bytes() == first


def test_backend_uses_an_object_file_again(tmp_path: Path) -> None:
    """What was compiled before in a tree isn't compiled again."""
    backend = make_backend(tmp_path, compile=["fast.c"])
    backend.root.joinpath("fast.c").write_text("int f(void) { return 1; }\n", "utf-8")
    wheel = backend.build()
    assert "tinybackend: compiling fast.c" in backend.log
    backend.build()
    assert "tinybackend: build/fast.o is there" in backend.log
    (tag,) = parse_wheel_filename(wheel.name)[3]
    assert tag.platform != "any"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("models/fast.so").startswith(b"\x7fELF")


def test_backend_asks_for_build_requirements(tmp_path: Path) -> None:
    """The hook names what it is told to, and more once a module is there."""
    backend = make_backend(
        tmp_path,
        **{
            "requires-for-build": ["extra>=1"],
            "requires-once": {"json": ["ninja"], "nowhere": ["never"]},
        },
    )
    assert backend.hooks.get_requires_for_build_wheel() == ["extra>=1", "ninja"]


def test_backend_fails_without_what_it_imports(tmp_path: Path) -> None:
    """A module of import-first must be there for the wheel and the metadata."""
    backend = make_backend(tmp_path, **{"import-first": ["tensorlib"]})
    assert backend.hooks.get_requires_for_build_wheel() == []
    for hook in ("build_wheel", "prepare_metadata_for_build_wheel"):
        with pytest.raises(subprocess.CalledProcessError):
            getattr(backend.hooks, hook)(str(tmp_path))
        assert "ModuleNotFoundError: No module named 'tensorlib'" in backend.log


def test_backend_fails_without_its_variables(tmp_path: Path) -> None:
    """A variable of require-env must be set for every hook."""
    backend = make_backend(tmp_path, **{"require-env": ["SKIP_CUDA"]})
    with pytest.raises(subprocess.CalledProcessError):
        backend.hooks.get_requires_for_build_wheel()
    backend.env = {"SKIP_CUDA": "1"}
    assert backend.hooks.get_requires_for_build_wheel() == []


def test_backend_records_what_it_was_built_against(tmp_path: Path) -> None:
    """The wheel proves which tensorlib stood in the environment."""
    backend = make_backend(tmp_path, stamp=["tensorlib"])
    files = {"tensorlib.py": "X = 2\n"}
    with zipfile.ZipFile(make_wheel(tmp_path, "tensorlib", "1.0", files=files)) as it:
        it.extractall(tmp_path / "site")
    backend.env = {"PYTHONPATH": str(tmp_path / "site")}
    stamp = json.loads(read_from_wheel(backend.build(), "models/built_against.json"))
    assert stamp == {"tensorlib": {"version": "1.0", "content": "X = 2\n"}}


def test_backend_records_its_surroundings(tmp_path: Path) -> None:
    """The wheel tells of variables, the folder and the config settings."""
    backend = make_backend(
        tmp_path,
        env=["ARCH", "UNSET_HERE"],
        record=["cwd", "config-settings", "variables"],
    )
    backend.env = {"ARCH": "9.0"}
    wheel = backend.build({"--opt": ["x", "y"]})
    env = json.loads(read_from_wheel(wheel, "models/env.json"))
    assert env == {"ARCH": "9.0", "UNSET_HERE": None}
    record = json.loads(read_from_wheel(wheel, "models/record.json"))
    assert record["cwd"] == str(backend.root)
    assert record["config-settings"] == {"--opt": ["x", "y"]}
    assert "ARCH" in record["variables"]


def test_backend_refuses_settings_that_it_does_not_know(tmp_path: Path) -> None:
    """A slip in a test's settings is an error, not silence."""
    backend = make_backend(tmp_path, stmap=["x"], faults=["rise"])
    with pytest.raises(subprocess.CalledProcessError):
        backend.build()
    assert "tinybackend.json: unknown rise, stmap" in backend.log


@pytest.mark.parametrize(
    ("fault", "made"),
    [
        ("two-wheels", ["models-1.0", "models_too-1.0"]),
        ("no-wheel", []),
        ("wrong-name", ["not_models-1.0"]),
        ("wrong-version", ["models-0.0.0"]),
    ],
)
def test_fault_makes_other_files(tmp_path: Path, fault: str, made: list[str]) -> None:
    """The faults about files leave just those in the folder."""
    backend = make_backend(tmp_path, faults=[fault])
    folder = backend.build().parent
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{name}-py3-none-any.whl" for name in made]


def test_fault_bad_record(tmp_path: Path) -> None:
    """RECORD names one hash that isn't the file's, and nothing else differs."""
    record = "models-1.0.dist-info/RECORD"
    good = read_from_wheel(make_backend(tmp_path).build(), record)
    faulty = make_backend(tmp_path, faults=["bad-record"])
    bad = read_from_wheel(faulty.build(), record)
    (differing,) = set(bad.splitlines()) - set(good.splitlines())
    assert differing.startswith("models-1.0.dist-info/WHEEL,sha256=")


def test_fault_bad_metadata_differs_from_the_hook(tmp_path: Path) -> None:
    """The wheel requires something that the metadata hook doesn't know."""
    backend = make_backend(tmp_path, faults=["bad-metadata"])
    out = tmp_path / "metadata"
    out.mkdir()
    info = backend.hooks.prepare_metadata_for_build_wheel(str(out))
    said = out.joinpath(info, "METADATA").read_text("utf-8")
    built = read_from_wheel(backend.build(), f"{info}/METADATA")
    assert "Requires-Dist: tensorlib>=1\n" in said
    assert "Requires-Dist: undeclared>=1\n" in built


def test_fault_no_metadata_hook(tmp_path: Path) -> None:
    """The backend has no metadata hook, and still builds."""
    backend = make_backend(tmp_path, faults=["no-metadata-hook"])
    with pytest.raises(HookMissing):
        backend.hooks.prepare_metadata_for_build_wheel(
            str(tmp_path), _allow_fallback=False
        )
    assert backend.build().exists()


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("raise", 1, "RuntimeError: tinybackend was told to raise"),
        ("exit", 3, "Killed signal"),
        ("kill", -signal.SIGKILL, "Killed signal"),
    ],
)
def test_fault_ends_the_build(
    tmp_path: Path, fault: str, status: int, said: str
) -> None:
    """The faults that end the interpreter do so after its last words."""
    backend = make_backend(tmp_path, faults=[fault], says=["Killed signal"])
    with pytest.raises(subprocess.CalledProcessError) as caught:
        backend.build()
    assert caught.value.returncode == status
    assert said in backend.log


def test_fault_strikes_once_where_a_pidfile_is_named(tmp_path: Path) -> None:
    """The build that follows goes through."""
    backend = make_backend(tmp_path, faults=["exit"])
    backend.env = {"TINYBACKEND_CACHE": str(tmp_path)}
    with pytest.raises(subprocess.CalledProcessError):
        backend.build()
    assert int(tmp_path.joinpath("pid").read_text("utf-8"))
    assert backend.build().exists()


def test_fault_sleep_can_be_ended_by_its_pid(tmp_path: Path) -> None:
    """A sleeping build says who it is, so that a test can kill it."""
    backend = make_backend(tmp_path, faults=["sleep"], sleep=60)
    pidfile = tmp_path / "pid"
    backend.env = {"TINYBACKEND_CACHE": str(pidfile.parent)}

    def end_it() -> None:
        while not pidfile.exists():
            time.sleep(0.01)
        os.kill(int(pidfile.read_text("utf-8")), signal.SIGTERM)

    thread = threading.Thread(target=end_it)
    thread.start()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        backend.build()
    thread.join()
    assert caught.value.returncode == -signal.SIGTERM


def test_backend_versions_differ(tmp_path: Path) -> None:
    """Each version of tinybackend's wheel has a module of its own."""
    contents = {
        read_from_wheel(make_tinybackend(tmp_path, version), "tinybackend.py")
        for version in ("1.0", "2.0")
    }
    assert len(contents) == 2


def test_backend_makes_an_editable_wheel(
    tmp_path: Path, fresh: Path, env: dict[str, str]
) -> None:
    """A source tree can be installed editable."""
    tree = make_tree(tmp_path / "here", "here", "1.0")
    args = ["--python", str(fresh), "--editable", str(tree)]
    run_uv("pip", "install", *args, env=env)
    found = run_python(fresh, "import here; print(here.__file__)")
    assert Path(found) == tree / "here/__init__.py"


# The project


def test_project_runs_nox(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nox runs with uv, a home of its own, and nothing of our environment."""
    monkeypatch.setenv("CI", "true")
    project.noxfile.write_text(PLAIN_NOXFILE, "utf-8")
    done = project.nox("-s", "good")
    assert done.returncode == 0
    assert f"HOME is {project.env['HOME']}" in done.output
    assert "CI is None, backend is uv" in done.output


def test_project_takes_variables_and_another_backend(project: Project) -> None:
    """What a test gives wins over what comes by itself."""
    project.noxfile.write_text(PLAIN_NOXFILE, "utf-8")
    done = project.nox("-db", "venv", "-s", "good", env={"CI": "1"})
    assert "CI is 1, backend is venv" in done.output


def test_project_checks_how_nox_ended(project: Project) -> None:
    """A test that expects the other end fails with nox's words."""
    project.noxfile.write_text(PLAIN_NOXFILE, "utf-8")
    assert "no good" in project.nox("-s", "bad", check=False).output
    assert project.nox("-s", "bad", check=None).returncode == 1
    with pytest.raises(AssertionError, match="no good"):
        project.nox("-s", "bad")
    with pytest.raises(AssertionError, match="ended with 0"):
        project.nox("--list", check=False)


@pytest.mark.parametrize("flags", [(), ("-j", "2")])
def test_project_ends_nox_after_its_time(
    project: Project, flags: tuple[str, ...]
) -> None:
    """Nox and what it started are gone when the time is over, also under -j."""
    project.noxfile.write_text(PLAIN_NOXFILE, "utf-8")
    with pytest.raises(subprocess.TimeoutExpired):
        project.nox(*flags, "-s", "slow", "slower", timeout=3)
    held = list(project.folder.glob("*.held"))
    assert len(held) >= (2 if flags else 1)
    deadline = time.monotonic() + 5
    while any(map(is_held, held)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_project_can_be_interrupted(project: Project) -> None:
    """A test can start nox, wait for a line and interrupt it."""
    project.noxfile.write_text(PLAIN_NOXFILE, "utf-8")
    with project.start("-s", "slow") as nox:
        assert nox.stdout
        assert any("asleep" in line for line in nox.stdout)
        nox.send_signal(signal.SIGINT)
        assert nox.wait(20) == 130


def test_project_reads_what_a_run_left(project: Project) -> None:
    """Wheels, manifest and locks are found where they are by default."""
    project.write("""
        [tool.nox-buildstages]
    """)
    make_wheel(project.wheelhouse, "b", "1.0")
    make_wheel(project.wheelhouse, "a", "1.0")
    manifest = project.wheelhouse / "build-stages.json"
    manifest.write_text('{"wheels": []}', "utf-8")
    locks = project.folder / "build-stages"
    locks.mkdir()
    (locks / "pylock.final.toml").write_text("x = 1\n", "utf-8")
    assert project.pyproject.read_text("utf-8").strip() == "[tool.nox-buildstages]"
    assert project.wheels() == ["a-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"]
    assert project.manifest() == {"wheels": []}
    assert project.lock("final") == {"x": 1}
    assert not project.store.exists()
