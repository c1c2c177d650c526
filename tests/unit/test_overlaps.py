"""Paths that several wheels install: which ones they are, and who disagrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.errors import WheelError
from nox_buildstages.wheels.overlaps import find_overlaps
from nox_buildstages.wheels.wheel import installed_files
from support.packages import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

POINTS = "[console_scripts]\nRun = a:main\n[gui_scripts]\nshow=a:show\n[x]\ny = z\n"


def test_the_paths_of_a_wheel_are_those_in_an_environment(tmp_path: Path) -> None:
    """Modules, scripts, data and headers, wherever the wheel keeps them."""
    files = {
        "a.py": "",
        "a-1.dist-info/entry_points.txt": POINTS,
        "a-1.data/purelib/pure.py": "",
        "a-1.data/platlib/plat.py": "",
        "a-1.data/scripts/tool": "",
        "a-1.data/headers/a.h": "",
        "a-1.data/data/share/a.txt": "",
        "a-1.data/data/lib/python3.11/site-packages/data.py": "",
    }
    found = installed_files(make_wheel(tmp_path, "a", "1", files=files))
    names = {path for path in found if "dist-info" not in path}
    modules = {f"site-packages/{it}.py" for it in ("a", "pure", "plat", "data")}
    scripts = {"bin/tool", "bin/Run", "bin/show"}
    assert names == {*modules, *scripts, "include/a/a.h", "share/a.txt"}
    assert found["bin/Run"] == "a:main"


def test_entry_points_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    """The error names the file of the wheel."""
    files = {"a-1.dist-info/entry_points.txt": "run = a:main\n"}
    wheel = make_wheel(tmp_path, "a", "1", files=files)
    with pytest.raises(WheelError, match=r"a-1\.dist-info/entry_points\.txt"):
        installed_files(wheel)


def test_each_disagreement_names_the_winner_and_a_loser() -> None:
    """Who comes first wins; equal contents are no disagreement."""
    files = {
        "a": {"x": "1", "lib/python3/site-packages/m.py": "1"},
        "b": {"x": "2", "lib/python3/site-packages/m.py": "2", "y": "1"},
        "c": {"x": "1", "y": "2", "z": "1"},
    }
    assert list(map(str, find_overlaps(files))) == [
        "a and b both install m.py and 1 more file, with different contents",
        "b and c both install y, with different contents",
    ]
