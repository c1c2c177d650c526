"""Which files a build may read and write, by its variables and the folders around."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nox_buildstages.builder.sandbox.files import FileAccess, find_access

FILES = (
    *(".cargo/bin/cargo", ".cargo/credentials.toml", ".local/bin/tool"),
    *(".local/lib/x.so", ".local/share/keyring", ".ssh/id_x"),
    *("tools/real/bin/tool", "tools/real/lib/x.so", "tools/real/notes"),
    *("conda/bin/gcc", "conda/conda-meta/x", "conda/any/x"),
    *("data/x.h", "caches/x", "projects/own/file", "projects/other/file"),
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    tmp_path.joinpath(".local/bin/linked").symlink_to(tmp_path / "tools/real/bin/tool")
    return tmp_path


@pytest.fixture
def access(home: Path) -> FileAccess:
    return find_access({"HOME": str(home)}, [home / "projects/own"])


def reached(rules: tuple[str, ...], home: Path, letter: str) -> set[str]:
    """Return which files of the home are reached by rules of a letter."""
    allowed = [Path(it[1:]) for it in rules if it[0] == letter]
    return {
        name
        for name in FILES
        if any((home / name).is_relative_to(path) for path in allowed)
    }


@pytest.mark.parametrize(
    ("variables", "read"),
    [
        ({}, set()),
        ({"HOME": "~"}, set()),
        ({"X": "~/projects"}, set()),
        ({"X": "~/projects/own"}, set()),
        ({"X": "/"}, set()),
        ({"CUTLASS_DIR": "~/data"}, {"data/x.h"}),
        ({"CFLAGS": "-O2 -I~/data -L=~/conda/any"}, {"data/x.h", "conda/any/x"}),
        ({"PATH": "~/.cargo/bin"}, {".cargo/bin/cargo"}),
        (
            {"PATH": "~/.local/bin"},
            {
                *(".local/bin/tool", ".local/lib/x.so"),
                *("tools/real/bin/tool", "tools/real/lib/x.so"),
            },
        ),
        (
            {"PATH": "~/conda/bin"},
            {"conda/bin/gcc", "conda/conda-meta/x", "conda/any/x"},
        ),
    ],
)
def test_what_variables_name_may_be_read(
    home: Path, access: FileAccess, variables: dict[str, str], read: set[str]
) -> None:
    """Programs come with their libraries; no folder around private files is opened."""
    absolute = {it: variables[it].replace("~", str(home)) for it in variables}
    rules = access.rules(absolute, read=[], write=[])
    assert reached(rules, home, "r") == read
    assert reached(rules, home, "w") == set()


def test_a_cache_that_a_variable_names_may_be_written_to(
    home: Path, access: FileAccess
) -> None:
    """Not a home that is named so."""
    variables = {"CPM_SOURCE_CACHE": str(home / "caches"), "XDG_CACHE_HOME": str(home)}
    rules = access.rules(variables, read=[], write=[home / "data"])
    assert reached(rules, home, "w") == {"caches/x", "data/x.h"}


def test_programs_beside_the_home_come_with_what_their_links_lead_to(
    tmp_path: Path,
) -> None:
    """The interpreter of an environment is in the home; the project is inside."""
    real = tmp_path / "home/python/bin/python"
    program = tmp_path / "data/.venv/bin/python"
    own = tmp_path / "data/.venv/tmp/own"
    for folder in (real.parent, program.parent, own):
        folder.mkdir(parents=True)
    real.touch()
    program.symlink_to(real)
    (tmp_path / "data/.venv/pyvenv.cfg").touch()
    hidden = frozenset({tmp_path / "home", own})
    holders = frozenset(parent for it in hidden for parent in it.parents)
    access = FileAccess(system=frozenset(), hidden=hidden, holders=holders)
    rules = access.rules({"PATH": str(program.parent)}, read=[], write=[])
    read = {it.removeprefix(f"r{tmp_path}/") for it in rules if it[0] == "r"}
    assert {"data/.venv/bin", "data/.venv/pyvenv.cfg", "home/python/bin"} <= read
    assert not {"data", "data/.venv", "data/.venv/tmp", "home"} & read


def test_a_project_in_a_folder_of_the_system_is_hidden() -> None:
    """And so is what lies beside it, but the rest of the folder may be read."""
    access = find_access({"HOME": "/nowhere"}, [Path("/usr/share/own")])
    rules = access.rules({}, read=[], write=[])
    assert "r/usr/bin" in rules
    assert not {"r/usr", "r/usr/share", "r/usr/share/own"}.intersection(rules)


@pytest.mark.skipif(os.geteuid() != 0, reason="a user can't read them anyway")
def test_what_only_root_may_read_is_hidden_from_its_builds(access: FileAccess) -> None:
    """Every user may read the rest of the settings."""
    rules = access.rules({}, read=[], write=[])
    assert "r/etc/passwd" in rules
    assert "r/etc/shadow" not in rules
    assert "r/etc" not in rules
