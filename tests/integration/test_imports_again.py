"""When the modules of ``final.imports`` are imported again."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import uv

from support.packages import make_wheel
from support.pair import Pair, publish
from support.sessions import run_session

if TYPE_CHECKING:
    from pathlib import Path

    from support.index import Index
    from support.project import Completed, Project

UNCHANGED = "the imports worked, and nothing has changed since"


@pytest.fixture
def checked(project: Project, index: Index) -> Project:
    """A project whose imports have worked."""
    publish(index)
    declare(project, "models")
    project.prepare()
    assert was_checked(run(project))
    return project


def declare(project: Project, *imports: str) -> None:
    Pair(final={"imports": [*imports]}).write(project)


def run(project: Project, *words: str, **options: Any) -> Completed:  # noqa: ANN401
    return run_session(project, "build-stages", *words, **options)


def was_checked(done: Completed) -> bool:
    """Whether the modules were imported; else the user is told."""
    assert (UNCHANGED in done.stderr) != ("importing" in done.stderr)
    return "importing" in done.stderr


def test_imports_that_worked_are_not_repeated(checked: Project) -> None:
    """Unless the user asks for it, or the text, a variable or a file is another."""
    assert not was_checked(run(checked))
    assert was_checked(run(checked, "--check-again"))
    assert not was_checked(run(checked))
    variables = {"LD_LIBRARY_PATH": "/nowhere"}
    assert was_checked(run(checked, env=variables))
    assert not was_checked(run(checked, env=variables))
    declare(checked, "models", "kernels")
    assert was_checked(run(checked))


def test_imports_are_repeated_after_each_change_of_the_environment(
    checked: Project, tmp_path: Path
) -> None:
    """What was added by hand is removed first, and what was changed is replaced."""
    location = checked.folder / ".nox/build-stages"
    (packages,) = location.glob("lib/python*/site-packages")
    stray = make_wheel(tmp_path, "stray", "1.0")
    command = (uv.find_uv_bin(), "pip", "install", "-q", "--python", str(location))
    subprocess.run([*command, str(stray)], env={**checked.env}, check=True)
    done = run(checked)
    assert "what was added is removed" in done.stderr
    assert not was_checked(done)
    assert not packages.joinpath("stray").exists()
    module = packages / "kernels/__init__.py"
    text = module.read_bytes()
    module.unlink()
    module.write_text("raise SystemExit\n", encoding="utf-8")
    done = run(checked)
    assert "was changed by hand (changed " in done.stderr
    assert was_checked(done)
    assert module.read_bytes() == text
    assert not was_checked(run(checked))


def test_imports_that_failed_are_repeated(checked: Project) -> None:
    """Even if they had worked before."""
    declare(checked, "nowhere")
    for _ in range(2):
        assert "nowhere can't be imported" in run(checked, check=False).stderr
    declare(checked, "models")
    assert was_checked(run(checked))
