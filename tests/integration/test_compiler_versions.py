"""The programs that a build would find, and what they print about their version."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.compilers.versions import ProgramFinder
from nox_buildstages.errors import CommandError
from nox_buildstages.system.process import run
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.system.process import Command, Completed


class Programs:
    """Makes programs that print a version, and counts the programs that run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[Command] = []

    def __call__(self, command: Command) -> Completed:
        """Run a program."""
        self.commands.append(command)
        return run(command)

    def make(self, path: str, text: str) -> Path:
        """Make a program that runs a line of a shell."""
        program = self.folder / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return program

    def finder(self, **variables: str) -> ProgramFinder:
        """Return a finder for a build with some variables."""
        return ProgramFinder(
            variables=variables,
            outer={"PATH": f"{self.folder}/bin:/bin", "HOME": str(self.folder)},
            runner=self,
            cache=self.folder / "cache",
        )


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    found = Programs(tmp_path)
    for name in ("cc", "c++", "ld"):
        found.make(f"bin/{name}", f"echo {name} 1")
    found.make("cuda/bin/nvcc", "echo nvcc 13")
    found.make("other/cc", "echo other 2")
    found.make("bin/ccache", "echo ccache")
    return found


@pytest.mark.parametrize(
    ("name", "variables", "expected"),
    [
        ("cc", {}, ["bin/cc"]),
        ("cc", {"CC": "{}/other/cc"}, ["other/cc", "bin/cc"]),
        ("cc", {"CC": "ccache {}/other/cc -m32"}, ["other/cc", "bin/cc"]),
        ("cc", {"CC": "cc"}, ["bin/cc"]),
        ("cc", {"CC": "{{env}}/bin/clang"}, ["bin/cc"]),
        ("cc", {"CC": "'"}, ["bin/cc"]),
        ("cc", {"PATH": "{}/other"}, ["other/cc"]),
        ("nvcc", {}, []),
        ("nvcc", {"CUDA_HOME": "{}/cuda"}, ["cuda/bin/nvcc"]),
        ("nvcc", {"CUDA_PATH": "{}/cuda", "CUDA_HOME": ""}, ["cuda/bin/nvcc"]),
        ("nvcc", {"CUDACXX": "{}/cuda/bin/nvcc"}, ["cuda/bin/nvcc"]),
        ("c++", {"NVCC_CCBIN": "{}/bin/c++"}, ["bin/c++"]),
        ("ccache", {}, []),
    ],
)
def test_programs_are_found_as_build_tools_find_them(
    programs: Programs, name: str, variables: dict[str, str], expected: list[str]
) -> None:
    """By the variables that choose them, then on ``PATH``, and behind caches."""
    top = programs.folder
    given = {it: variables[it].format(top) for it in variables}
    assert programs.finder(**given).find(name) == [str(top / it) for it in expected]


def test_a_compiler_behind_a_cache_is_found(programs: Programs) -> None:
    """A link to a cache prints the version of a compiler, but never changes."""
    caching = programs.folder / "caching"
    caching.mkdir()
    (caching / "cc").symlink_to(programs.folder / "bin/ccache")
    finder = programs.finder(PATH=f"{caching}:{programs.folder}/bin")
    assert finder.find("cc") == [str(programs.folder / "bin/cc")]


def test_all_compilers_that_are_there_count(programs: Programs) -> None:
    """With the interpreter's own compiler, and without what the environment has."""
    finder = programs.finder(CUDA_HOME=f"{programs.folder}/cuda", PATH="{env}/bin")
    assert finder.compilers(has_nvcc=False).versions["nvcc"].startswith("nvcc 13")
    own = {"cc": f"{programs.folder}/other/cc -pthread"}
    finder = replace(programs.finder(PATH=f"{programs.folder}/bin"), preferred=own)
    found = finder.compilers(has_nvcc=True).versions
    assert found == {"cc": "other 2\ncc 1", "c++": "c++ 1", "ld": "ld 1"}


def test_compilers_are_current_until_one_changes(programs: Programs) -> None:
    """Or until another one comes before it, or one that a variable names appears."""
    top = programs.folder
    variables = {"PATH": f"{top}/first:{top}/bin", "CUDA_HOME": f"{top}/none"}
    finder = programs.finder(**variables)
    (top / "first").mkdir()
    for changed in ("bin/cc", "first/ld", "none/bin/nvcc"):
        found = finder.compilers(has_nvcc=False)
        assert found.is_current
        programs.make(changed, "echo changed, and longer")
        assert not found.is_current
    programs.make("shims/c++", "echo shim")
    finder = programs.finder(PATH=f"{top}/shims")
    assert not finder.compilers(has_nvcc=False).is_current  # pyenv's, for example


def test_a_program_is_asked_once(programs: Programs) -> None:
    """Until its file, or a file that it runs, has changed."""
    inner = programs.make("inner", "echo inner 1")
    outer = programs.make("bin/wrapped", f"exec {inner} --version")
    finder = programs.finder()
    for _ in range(2):
        assert finder.ask(str(outer)) == "inner 1"
    assert len(programs.commands) == 1
    programs.make("inner", "echo inner 22")
    assert finder.ask(str(outer)) == "inner 22"
    shim = programs.make("shims/cc", "echo shim")
    for number in (3, 4):
        assert finder.ask(str(shim)) == "shim"
        assert len(programs.commands) == number


def test_the_toolchain_that_rustup_chooses_counts(programs: Programs) -> None:
    """Its own program is the same for all of them."""
    rustup = programs.make("bin/rustup", 'cat "$RUSTUP_HOME/settings.toml"')
    rustc = programs.folder / "bin/rustc"
    rustc.symlink_to(rustup)
    home = programs.folder / "rust"
    home.mkdir()
    finder = programs.finder(RUSTUP_HOME=str(home))
    for version in ("1.90", "1.95.0"):
        (home / "settings.toml").write_text(version)
        assert finder.ask(str(rustc)) == version
    programs.make("rust/toolchains/stable/bin/rustc", "")
    finder.ask(str(rustc))
    assert len(programs.commands) == 3


def test_a_command_is_asked_each_time(programs: Programs) -> None:
    """Other files, such as those of pkg-config, decide what it prints."""
    program = programs.make("bin/pkg-config", 'test "$1" = --modversion && cat version')
    finder = programs.finder()
    with pytest.raises(CommandError):
        finder.ask_tool(str(program), "--modversion", "cairo")
    for version in ("1.16", "1.18"):
        programs.make("bin/pkg-config", f"echo {version} $2")
        words = finder.ask_tool(str(program), "--modversion", "cairo")
        assert words == f"{version} cairo"
        assert os.listdir(programs.folder).count("cache") == 0  # noqa: PTH208
