"""Interpreters are asked for their properties once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.markers import default_environment
from packaging.tags import sys_tags

from nox_buildstages.environments.interpreter import (
    find_interpreter,
    probe_interpreter,
)
from nox_buildstages.errors import CommandError
from nox_buildstages.system.process import run

if TYPE_CHECKING:
    from nox_buildstages.system.process import Command, Completed

OTHERS = sorted(Path.home().joinpath(".pyenv/versions").glob("3.1[0-9].*/bin/python"))
HERE = Path(sys.executable)


@dataclass
class Counting:
    """Runs programs, and keeps what it was asked to run."""

    commands: list[Command] = field(default_factory=list)

    def __call__(self, command: Command) -> Completed:
        """Run it."""
        self.commands.append(command)
        return run(command)


@pytest.fixture
def runner() -> Counting:
    return Counting()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_properties_come_from_packaging(runner: Counting, cache: Path) -> None:
    """An installer in the interpreter would use the same markers and tags."""
    found = probe_interpreter(HERE, runner=runner, cache=cache)
    assert found.markers == default_environment()
    assert found.tags == tuple(sys_tags())
    assert found.abi == sysconfig.get_config_var("SOABI")
    assert found.platform == sysconfig.get_platform()
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found.requires_python == f"=={minor}.*"
    assert str(found).startswith(f"CPython {minor}.")
    assert str(found).endswith(f" on {found.platform}")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that becomes this Python."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{HERE}" "$@"\n')
    program.chmod(0o755)
    return program


def test_an_interpreter_is_asked_once(
    runner: Counting, cache: Path, program: Path
) -> None:
    """The second time no program is started, and the answer is the same."""
    first = probe_interpreter(program, runner=runner, cache=cache)
    assert probe_interpreter(program, runner=runner, cache=cache) == first
    assert len(runner.commands) == 1


def test_the_python_of_this_process_is_not_started(
    runner: Counting, cache: Path, program: Path
) -> None:
    """The answer is the same."""
    here = probe_interpreter(HERE, runner=runner, cache=cache)
    assert runner.commands == []
    assert probe_interpreter(program, runner=runner, cache=cache) == here


def test_the_settings_for_compilers_are_described(
    runner: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not the folder in which the Python is."""

    def probe(number: int) -> str:
        cache = tmp_path / str(number)
        return probe_interpreter(HERE, runner=runner, cache=cache).compilation

    variables = sysconfig.get_config_vars()
    found = {probe(0)}
    monkeypatch.setitem(variables, "LDFLAGS", f"-L{sys.base_prefix}/lib")
    found |= {probe(1)}
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    monkeypatch.setitem(variables, "LDFLAGS", "-L/elsewhere/lib")
    assert probe(2) in found
    monkeypatch.setitem(variables, "CFLAGS", "-DANOTHER=1")
    assert probe(3) not in found


def test_changed_settings_for_compilers_are_noticed(
    runner: Counting, cache: Path, program: Path
) -> None:
    """The program itself may be unchanged."""
    first = probe_interpreter(program, runner=runner, cache=cache)
    (answer,) = cache.iterdir()
    known = json.loads(answer.read_text())
    known["settings"] = dict.fromkeys(known["settings"], 1)
    answer.write_text(json.dumps({**known, "compilation": "old"}))
    assert probe_interpreter(program, runner=runner, cache=cache) == first
    assert len(runner.commands) == 2


def test_a_damaged_answer_is_replaced(
    runner: Counting, cache: Path, program: Path
) -> None:
    """The interpreter is asked again."""
    first = probe_interpreter(program, runner=runner, cache=cache)
    (answer,) = cache.iterdir()
    for text in ("", "[]", "{}", "null", '{"tags": [1]}', "\0"):
        answer.write_text(text)
        runner.commands.clear()
        assert probe_interpreter(program, runner=runner, cache=cache) == first, text
        assert probe_interpreter(program, runner=runner, cache=cache) == first, text
        assert len(runner.commands) == 1, text


def test_a_changed_program_is_asked_again(
    runner: Counting, cache: Path, program: Path
) -> None:
    """An upgraded Python may have the same path."""
    probe_interpreter(program, runner=runner, cache=cache)
    os.utime(program, ns=(1, 1))
    probe_interpreter(program, runner=runner, cache=cache)
    assert len(runner.commands) == 2


def test_a_missing_interpreter_is_an_error(
    runner: Counting, cache: Path, tmp_path: Path
) -> None:
    """The error names the program, and the cache stays empty."""
    with pytest.raises(CommandError, match=r"No such file or directory: .*/gone"):
        probe_interpreter(tmp_path / "gone", runner=runner, cache=cache)
    assert not cache.exists()


def test_a_broken_interpreter_is_an_error(
    runner: Counting, cache: Path, tmp_path: Path
) -> None:
    """The error has the output of the program."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(CommandError, match=r"exit status 3\)\n  broken"):
        probe_interpreter(program, runner=runner, cache=cache)
    assert not cache.exists()


def test_the_working_folder_is_ignored(
    runner: Counting,
    cache: Path,
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the working folder nor PYTHONPATH affects the answer."""
    (tmp_path / "json.py").write_text("raise SystemExit('wrong json')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert probe_interpreter(program, runner=runner, cache=cache).platform


@pytest.mark.skipif(not OTHERS, reason="no other Python here")
@pytest.mark.parametrize("python", OTHERS, ids=lambda it: it.parts[-3])
def test_other_pythons_are_asked(runner: Counting, cache: Path, python: Path) -> None:
    """Our packaging asks, because they may have none."""
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    found = probe_interpreter(python, runner=runner, cache=cache)
    assert found.markers["python_full_version"] == version
    major, minor, _ = version.split(".")
    assert found.tags[0].interpreter == f"cp{major}{minor}"
    assert f"-{major}{minor}" in found.abi


def test_a_virtual_environment_has_an_answer_of_its_own(
    runner: Counting, cache: Path, tmp_path: Path
) -> None:
    """Its settings file is part of the identity."""
    environment = tmp_path / "venv"
    options = ("--no-config", "--system-site-packages")
    subprocess.run(
        [uv.find_uv_bin(), "venv", "-q", *options, "-p", HERE, environment],
        check=True,
    )
    found = probe_interpreter(environment / "bin/python", runner=runner, cache=cache)
    assert found == probe_interpreter(HERE, runner=runner, cache=cache)
    assert len(list(cache.iterdir())) == 2


def test_a_shim_runs_the_python_that_a_variable_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pyenv's do; there is one on PATH for each Python of the machine."""
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    version = f"3.{sys.version_info.minor}"
    shim = tmp_path / f"python{version}"
    shim.write_text(f'#!/bin/sh\n[ "$PYENV_VERSION" ] && exec "{base}" "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYENV_VERSION", version)
    found = find_interpreter(str(shim), uv=Path(uv.find_uv_bin()), runner=run)
    assert found is not None
    monkeypatch.delenv("PYENV_VERSION")
    shim.write_text(shim.read_text() + "exit 127\n")
    assert not find_interpreter(str(shim), uv=Path(uv.find_uv_bin()), runner=run)
