"""The sessions, called in every way that nox has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uv

from nox_buildstages.value import replace
from support.packages import make_sdist, make_wheel
from support.pair import (
    KERNELS,
    MODELS,
    Pair,
    built,
    declare,
    entry,
    installed,
    lock_texts,
    planned,
    publish,
    refused,
    stored,
)
from support.project import Project, make_project

if TYPE_CHECKING:
    from support.index import Index

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    publish(index)


def declare_three(project: Project, index: Index) -> None:
    """Declare stages a and b, and c on the wheels of both."""
    names = {"a": [], "b": [], "c": ["out-a", "out-b"]}
    for name, needed in names.items():
        stamp: dict[str, Any] = {"stamp": needed}
        make_sdist(index.folder, f"out-{name}", "1.0", settings=stamp)
    stages = [
        {"name": name, "dependencies": needed, "outputs": [f"out-{name}"]}
        for name, needed in names.items()
    ]
    runtime = [f"out-{name}" for name in names]
    declare(project, {"final": {"requirements": runtime}, "stage": stages})


def forget(project: Project, *folders: str) -> None:
    """Remove folders of the project, and all wheels of its store."""
    shutil.rmtree(project.store / "wheels")
    for folder in folders:
        shutil.rmtree(project.folder / folder)


# One by one


def test_a_stage_runs_after_the_stages_it_needs(project: Project) -> None:
    """Each stage, the tag `build-stage`, and plain nox run that and nothing else."""
    Pair().write(project)
    project.prepare()
    forget(project, "wheelhouse")
    assert built(project.nox("-s", "build-stage-first")) == ["kernels"]
    assert project.wheels() == [KERNELS]
    assert built(project.nox("-s", "build-stage-second")) == ["models"]
    shutil.rmtree(project.wheelhouse)
    for selected in ("-s", "build-stage-second"), ("-t", "build-stage"):
        done = project.nox(*selected)
        assert "Running session build-stages\n" not in done.output
        assert project.wheels() == [KERNELS, MODELS]
        shutil.rmtree(project.wheelhouse)
    assert not (project.folder / ".nox/build-stages").exists()
    done = project.nox()
    assert "* build-stages: success" in done.output
    assert "build-stages-lock" not in done.output
    assert "build-stages-plan" not in done.output


def test_sessions_that_need_no_environment_make_none(project: Project) -> None:
    """A plan makes none, and neither does a lock with nothing to do."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    project.nox("-s", "build-stages-lock", "build-stages-plan")
    assert not (project.folder / ".nox").exists()
    said = refused(project, "--no-venv", "-s", "build-stages-lock")
    assert "the venv backend 'none' makes no environment" in said


# In parallel


@pytest.mark.slow
def test_parallel_and_sequential_runs_agree(
    tmp_path: Path, project: Project, index: Index
) -> None:
    """A run with `-j` locks once and builds each wheel once.

    Its locks and wheels are those of a sequential run, byte for byte.
    """
    declare_three(project, index)
    done = project.nox("-j", "4", "-s", "build-stages")
    assert done.output.count("; locking") == 1
    assert sorted(built(done)) == ["out-a", "out-b", "out-c"]
    assert len(stored(project)) == len(project.wheels()) == 3
    assert {wheel["status"] for wheel in project.manifest()["wheels"]} == {"built"}
    other = make_project(tmp_path / "other", project.env)
    declare_three(other, index)
    other.nox("-s", "build-stages")
    assert lock_texts(project) == lock_texts(other)
    for name in ("out-a", "out-c"):
        assert entry(project, name)["sha256"] == entry(other, name)["sha256"]
    assert built(project.nox("-j", "2", "-s", "build-stages")) == []
    assert {wheel["status"] for wheel in project.manifest()["wheels"]} == {"cached"}


# Backends and folders


@pytest.mark.slow
def test_nox_backend_does_not_count(project: Project) -> None:
    """Wheels that were built under virtualenv are used under uv, and so are the locks.

    No backend of nox leaves pip or setuptools in an environment.
    """
    Pair().write(project)
    project.prepare()
    forget(project)
    done = project.nox("-db", "virtualenv", "-s", "build-stages")
    assert "Creating virtual environment (virtualenv)" in done.output
    assert built(done) == ["kernels", "models"]
    wanted = {"kernels": "1.0", "tensorlib": "2.0", "tinybackend": "1.0"}
    assert installed(project.folder / ".nox/build-stage-second") == wanted
    wanted = {"kernels": "1.0", "models": "1.0", "tensorlib": "2.0"}
    assert installed(project.folder / ".nox/build-stages") == wanted
    shutil.rmtree(project.folder / ".nox")
    done = project.nox("-db", "uv", "-s", "build-stages")
    assert "Creating virtual environment (uv)" in done.output
    assert built(done) == []
    assert installed(project.folder / ".nox/build-stages") == wanted


def test_envdir_holds_the_environments(project: Project, tmp_path: Path) -> None:
    """`--envdir` moves the environments, and the wheels stay the same."""
    Pair().write(project)
    project.prepare()
    args = ("--envdir", str(tmp_path / "e"), "-s", "build-stages")
    assert built(project.nox(*args)) == []
    marks = tmp_path.glob("e/*/pyvenv.cfg")  # nox hashes the names of long paths
    assert {"models": "1.0", "kernels": "1.0"}.items() <= {
        name: version for it in marks for name, version in installed(it.parent).items()
    }.items()
    assert not (project.folder / ".nox/build-stages").exists()


@pytest.mark.parametrize("value", ["often", "-1", "nan"])
def test_a_heartbeat_is_a_number_of_seconds(project: Project, value: str) -> None:
    """Another value would have no effect."""
    Pair().write(project)
    env = {"NOX_BUILDSTAGES_HEARTBEAT": value}
    failed = project.nox("--list", env=env, check=False).output
    assert f"error: NOX_BUILDSTAGES_HEARTBEAT is '{value}'\nhelp: set it to" in failed


def test_noxfile_of_another_folder(project: Project, tmp_path: Path) -> None:
    """`nox -f path/noxfile.py` works on that project in any current folder."""
    Pair().write(project)
    project.prepare()
    forget(project, "wheelhouse", "build-stages")
    outside = tmp_path / "outside"
    outside.mkdir()
    elsewhere = replace(project, folder=outside)
    elsewhere.nox("-f", str(project.noxfile), "-s", "build-stages")
    assert project.wheels() == [KERNELS, MODELS]
    assert lock_texts(project)
    assert list(outside.iterdir()) == []


@pytest.mark.slow
def test_folder_with_spaces_and_letters_of_every_kind(
    tmp_path: Path, project: Project
) -> None:
    """A folder may have any name."""
    folder = tmp_path / "mes café ünder 試し"
    project = make_project(folder, project.env, project.earlier_runs)
    Pair().write(project)
    project.prepare()
    forget(project, "wheelhouse", "build-stages")
    Pair(final={"imports": ["models"]}).write(project)
    project.nox("-s", "build-stages")
    assert project.wheels() == [KERNELS, MODELS]
    assert built(project.nox("-j", "2", "-s", "build-stages")) == []


def test_lock_dir_and_wheelhouse_can_be_elsewhere(project: Project) -> None:
    """`lock-dir` and `wheelhouse` are relative to the pyproject.toml."""
    Pair().write(project)
    project.prepare()
    for folder in (project.wheelhouse, project.folder / "build-stages"):
        shutil.rmtree(folder)
    Pair(top={"lock-dir": "conf/locks", "wheelhouse": "out/wheels"}).write(project)
    project.nox("-s", "build-stages")
    locks = sorted(path.name for path in project.folder.glob("conf/locks/*"))
    assert locks == ["pylock.final.toml", "pylock.first.toml", "pylock.second.toml"]
    assert (project.folder / "out/wheels" / KERNELS).is_file()
    assert (project.folder / "out/wheels/pylock.toml").is_file()
    assert not project.wheelhouse.exists()
    assert not (project.folder / "build-stages").exists()


def test_python_gives_the_sessions_its_name(project: Project) -> None:
    """With `python` nox adds its usual suffix, and the interpreter is that one."""
    path = f"{Path(sys.executable).parent}:{project.env['PATH']}"
    Pair().write(project)
    project.prepare()
    forget(project)
    Pair(top={"python": [MINOR]}).write(project)
    done = project.nox("-s", "build-stages", env={"PATH": path})
    assert f"* build-stage-first-{MINOR}: success" in done.output
    assert f"* build-stages-{MINOR}: success" in done.output
    assert "models" in built(done)
    again = project.nox("-s", f"build-stage-second-{MINOR}", env={"PATH": path})
    assert built(again) == []
    project.nox("-s", "build-stages-lock", "--", "--check", env={"PATH": path})


# What nox is told not to do


@pytest.mark.slow
def test_no_install_changes_no_environment(project: Project, index: Index) -> None:
    """With -R new environments are filled, and others are only used.

    An environment that differs from its lock is an error that says why.
    """
    Pair().write(project)
    project.prepare()
    for _ in ("new", "filled"):
        forget(project)
        done = project.nox("-R", "-s", "build-stages")
        assert built(done) == ["kernels", "models"]
    forget(project)
    stray = str(make_wheel(index.folder, "stray", "1.0"))
    for session in ("build-stage-second", "build-stages"):
        location = project.folder / ".nox" / session
        python = str(location / "bin/python")
        command = [uv.find_uv_bin(), "pip", "install", "-q", "--python", python, stray]
        subprocess.run(command, env=dict(project.env), check=True)
        output = refused(project, "-R", "-s", session)
        assert "stray 1.0 is installed but not in the lock" in output
        assert "run nox without -R" in output
        project.nox("-s", session)
        assert "stray" not in installed(location)
    Pair(top={"constraints": ["tensorlib==1.0"]}).write(project)
    project.nox("-s", "build-stages-lock")
    output = refused(project, "-R", "-s", "build-stages")
    assert "tensorlib is 2.0, not 1.0" in output
    assert "build-stages: success" not in output
    done = project.nox("-r", "-s", "build-stages")
    assert "Reusing existing virtual environment" in done.output
    for session in ("build-stage-second", "build-stages"):
        assert installed(project.folder / ".nox" / session)["tensorlib"] == "1.0"


def test_install_only_says_that_it_built_nothing(project: Project) -> None:
    """With --install-only a stage with something to build fails, and says what."""
    Pair().write(project)
    project.prepare("build-stages-lock")
    shutil.rmtree(project.store)
    output = refused(project, "--install-only", "-s", "build-stages")
    assert "stage first: kernels would have to be built" in output
    assert "without --install-only" in output
    assert "build-stages: success" not in output
    assert stored(project) == project.wheels() == []


def test_install_only_from_nothing_never_looks_like_success(project: Project) -> None:
    """With --install-only and no lock, no lock is left that nobody could make."""
    Pair().write(project)
    output = refused(project, "--install-only", "-s", "build-stages")
    assert "without --install-only" in output
    assert lock_texts(project) == {}


def test_install_only_with_everything_stored_makes_the_environments(
    project: Project,
) -> None:
    """With --install-only and all wheels, the runtime is made; it isn't called checked.

    The session is skipped, not passed, for its imports didn't run.
    """
    Pair().write(project)
    project.prepare()
    Pair(final={"imports": ["models"]}).write(project)
    done = project.nox("--install-only", "-s", "build-stages")
    assert installed(project.folder / ".nox/build-stages")["models"] == "1.0"
    assert "nothing was checked" in done.output
    assert "* build-stages: skipped" in done.output
    assert "* build-stage-first: success" in done.output


@pytest.mark.parametrize("flags", [("--no-venv",), ("-db", "none"), ("-db", "conda")])
def test_no_environment_is_refused(project: Project, flags: tuple[str, ...]) -> None:
    """Without environments of their own stages can't be locked; nox says so."""
    Pair().write(project)
    output = refused(project, *flags, "-s", "build-stages")
    assert "makes no environment that a lock can be installed in" in output
    assert "-db uv" in output
    assert "Traceback" not in output
    assert not project.store.exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["none", "conda|mamba"])
def test_a_noxfile_may_have_another_backend_for_its_sessions(
    project: Project, backend: str
) -> None:
    """Those of stages are made by nox's own default then."""
    Pair().write(project)
    text = project.noxfile.read_text("utf-8")
    default = f"\nnox.options.default_venv_backend = {backend!r}\nnox_buildstages."
    changed = f"import nox\n{text}".replace("\nnox_buildstages.", default)
    project.noxfile.write_text(changed, "utf-8")
    done = subprocess.run(  # without -db
        [sys.executable, "-m", "nox", "-s", "build-stage-first"],
        cwd=project.folder,
        env=dict(project.env),
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Creating virtual environment (virtualenv)" in done.stderr


# Listing


def test_list_does_no_work(project: Project, index: Index) -> None:
    """`nox --list` names the sessions, makes no folder and asks no index."""
    Pair().write(project)
    before = len(index.requests)
    output = project.nox("--list").output
    for name in ("build-stage-first", "build-stage-second", "build-stages"):
        assert f"* {name} " in output
    for name in ("build-stages-lock", "build-stages-plan"):
        assert f"- {name} " in output
    made = {path.name for path in project.folder.iterdir()}
    assert made <= {"noxfile.py", "pyproject.toml", ".nox", "__pycache__"}
    assert not project.store.exists()
    assert index.requests[before:] == []


def test_faulty_table_shows_every_problem_at_once(project: Project) -> None:
    """A faulty table ends even `--list`, with each problem and its place."""
    project.write("""
        [tool.nox-buildstages]
        wheelhuose = "x"
        [[tool.nox-buildstages.stage]]
        name = "Kernels!"
        outputs = ["not a requirement"]
    """)
    text = project.pyproject.read_bytes()
    project.pyproject.write_bytes(b"\xef\xbb\xbf" + text)  # some editors do
    output = refused(project, "--list")
    assert "error: pyproject.toml: 3 problems" in output
    assert "wheelhuose (line 3): unknown key; did you mean 'wheelhouse'" in output
    assert "stage[0].outputs[0] (line 6): 'not a requirement'" in output
    assert "tool.nox-buildstages.stage[0].name" in output
    assert "Traceback" not in output
    project.pyproject.write_bytes(text.replace(b"Kernels!", b"\xd6l"))
    output = refused(project, "--list")
    assert "isn't UTF-8: byte 0xd6 in line 5; save it as UTF-8" in output


@pytest.mark.parametrize(
    ("text", "said"), [(None, "; an empty one is enough"), ("[tool", "is not TOML")]
)
def test_file_that_cannot_be_read_is_named(
    project: Project, text: str | None, said: str
) -> None:
    """A missing or broken pyproject.toml ends nox with its name and the reason."""
    if text is not None:
        project.write(text)
    output = refused(project, "--list")
    assert "pyproject.toml" in output
    assert said in output
    assert "Traceback" not in output


def test_a_file_in_the_folder_above_is_named(project: Project) -> None:
    """A noxfile in a subfolder has to name it."""
    project.write("")
    folder = project.folder / "ci"
    folder.mkdir()
    noxfile = project.folder / "noxfile.py"
    noxfile.rename(folder / noxfile.name)
    output = refused(project, "-f", "ci/noxfile.py", "--list")
    assert 'has one: write register("../pyproject.toml")' in output
    text = (folder / noxfile.name).read_text("utf-8")
    text = text.replace("register()", 'register("../pyproject.toml")')
    (folder / noxfile.name).write_text(text, "utf-8")
    project.nox("-f", "ci/noxfile.py", "--list")


def test_cycle_is_found_before_anything_runs(project: Project) -> None:
    """Stages that need each other are an error at once, with the way round."""
    Pair(first={"dependencies": ["models"]}).write(project)
    output = refused(project, "--list")
    assert "first" in output
    assert "second" in output
    assert "Traceback" not in output


OTHERS = [
    python
    for python in sorted(Path.home().glob(".pyenv/versions/3.1[0-9].*/bin/python"))
    if not python.parents[1].name.startswith(f"{MINOR}.")
]


@pytest.mark.skipif(not OTHERS, reason="no other Python at hand")
def test_reused_environment_of_another_python_is_refused(project: Project) -> None:
    """Nox reuses it whatever it was made with; a wheel for another Python is none."""
    Pair().write(project)
    location = project.folder / ".nox" / "build-stage-first"
    making = [uv.find_uv_bin(), "venv", "--python", str(OTHERS[0]), str(location)]
    subprocess.run(making, env=project.env, check=True, capture_output=True)
    output = refused(project, "-s", "build-stage-first")
    assert "was made with Python" in output
    assert f"the session needs {MINOR}" in output
    assert "help: remove the folder" in output
    assert stored(project) == []


def test_another_system_builds_nothing(project: Project) -> None:
    """Lock, plan and the sessions of other people work there; a build is refused."""
    Pair().write(project)
    project.prepare()
    forget(project, "wheelhouse")
    project.noxfile.write_text(
        # The standard library looks at the platform itself: first, so that it works.
        "import nox, sys, sysconfig, urllib.request\n"
        "sysconfig.get_config_vars()\n"
        "sys.platform = 'darwin'\n"
        f"{project.noxfile.read_text('utf-8')}"
        "@nox.session(python=False)\ndef lint(session): pass\n",
        "utf-8",
    )
    assert "build-stage-first" in project.nox("--list").output
    project.nox("-s", "build-stages-lock", "lint")
    assert planned(project.nox("-s", "build-stages-plan")).keys() == {
        "kernels",
        "models",
    }
    done = project.nox("-s", "build-stages", check=False)
    assert "builds run on Linux" in done.output
    assert "help: use a container or CI" in done.output
    assert "Traceback" not in done.output
    assert project.wheels() == []
