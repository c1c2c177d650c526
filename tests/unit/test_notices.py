"""What a build doesn't fail of, but is probably not what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.notices import describe_pure_wheel, find_ignored_variables
from nox_buildstages.wheels.wheel import read_wheel
from support.packages import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

ELF = b"\x7fELF\x02\x01"


def pure_line(
    folder: Path, packed: dict[str, str | bytes], source: str, tag: str = "py3-none-any"
) -> str:
    """Return the line about a wheel of toy 1.0, without the wheel's name."""
    for name in source.split():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    wheel = read_wheel(make_wheel(folder, "toy", "1.0", files=packed, tag=tag))
    line = describe_pure_wheel(wheel, folder / "tree") or ""
    return line.removeprefix(f"{wheel.path.name} ")


@pytest.mark.parametrize(
    ("source", "packed"),
    [
        ("toy.py", ()),
        ("tests/a.c docs/b.cpp examples/c.cu .git/d.c build/e.c", ()),
        ("csrc/ops.cu", ("toy/ops/ops.cu",)),
    ],
)
def test_a_wheel_that_is_rightly_pure(
    tmp_path: Path, source: str, packed: tuple[str, ...]
) -> None:
    """Nothing was to be compiled, or it is compiled when it is first used."""
    assert pure_line(tmp_path, dict.fromkeys(packed, ""), source) == ""


def test_a_wheel_that_lacks_what_its_source_has(tmp_path: Path) -> None:
    """A build without CUDA succeeds, and compiles nothing."""
    assert pure_line(tmp_path, {}, "csrc/b.cpp csrc/a.cu tests/a.c") == (
        "contains no compiled code, but its source has 2 files to compile, such as"
        " csrc/a.cu: its build may have lacked a dependency or a variable"
    )


@pytest.mark.parametrize("name", ["toy/libtoy.so", "toy-1.0.data/scripts/run"])
def test_a_wheel_whose_tag_hides_compiled_code(tmp_path: Path, name: str) -> None:
    """It would be installed on machines that it isn't for."""
    said = f"is for any platform by its tag, but contains compiled code, such as {name}"
    assert pure_line(tmp_path, {name: ELF}, "a.c").startswith(said)
    assert pure_line(tmp_path, {name: ELF}, "", tag="py3-none-linux_x86_64") == ""
    assert pure_line(tmp_path, {"toy/cli.exe": b"MZ\x90\x00"}, "toy.py") != said


@pytest.mark.parametrize(
    ("name", "file", "text", "is_reported"),
    [
        *((name, "", "", True) for name in ("CC", "CXXFLAGS", "CMAKE_ARGS", "LDFLAGS")),
        *((name, "", "", True) for name in ("CUDA_HOME", "LD_LIBRARY_PATH", "CPATH")),
        ("TORCH_CUDA_ARCH_LIST", "", "", True),
        ("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_X", "", "", True),
        ("TOY_BUILD_OPS", "", "", False),
        ("TOY_BUILD_OPS", "setup.py", "os.environ.get('TOY_BUILD_OPS')", True),
        ("TOY_BUILD_OPS", "setup.py", "# TOY_BUILD_OPS", False),
        ("TOY_BUILD_OPS", "README", "'TOY_BUILD_OPS'", False),
        ("TOY_BUILD_OPS", "CMakeLists.txt", "if(DEFINED ENV{TOY_BUILD_OPS})", True),
        ("TOY_BUILD_OPS", "build.rs", 'env::var("TOY_BUILD_OPS")', True),
        ("TOY_BUILD_OPS", "Makefile", "$(TOY_BUILD_OPS)", True),
        ("CI_BUILD_ID", "", "", False),
        ("PWD", "setup.py", 'os.environ["PWD"]', False),
    ],
)
def test_a_variable_that_a_build_would_read(
    tmp_path: Path, name: str, file: str, text: str, *, is_reported: bool
) -> None:
    """Tools read it by themselves, or the source names it; empty ones don't count."""
    if file:
        (tmp_path / file).write_text(text, "utf-8")
    found = find_ignored_variables({name: "1", "HOME": "/"}, ["HOME"], tmp_path)
    assert found == ((name,) if is_reported else ())
    assert find_ignored_variables({name: "1"}, [name], tmp_path) == ()
    assert find_ignored_variables({name: ""}, [], tmp_path) == ()
