"""One stage: what is built, what is found, and what never comes into the store."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import uv
from packaging.pylock import Package, PackageWheel
from packaging.requirements import Requirement
from packaging.tags import cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from nox_buildstages.builder.context import BuildContext, Tools
from nox_buildstages.builder.job import Job
from nox_buildstages.builder.jobs.slots import JobPool
from nox_buildstages.builder.sandbox.policy import SandboxPolicy
from nox_buildstages.builder.stage import BuildOrder, OutputResult, provide_stage
from nox_buildstages.commands.plan.reasons import PlannedOutput, plan_outputs
from nox_buildstages.config.graph import arrange
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.errors import (
    BackendError,
    BuildStagesError,
    BuildTimeoutError,
    WheelError,
)
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.files.lockfile import Lock, LockedOutput
from nox_buildstages.lock.files.selection import select_lock
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    Final,
    Metadata,
    Output,
    PackageRules,
    Patch,
    Project,
    Stage,
    Template,
)
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.screen import Screen
from nox_buildstages.sources.sources import Sources
from nox_buildstages.store.build_dir import HERE
from nox_buildstages.store.history import History
from nox_buildstages.store.memory import Kill
from nox_buildstages.store.store import Store
from nox_buildstages.system.files import sha256_of
from nox_buildstages.system.machine import Machine, processor
from nox_buildstages.system.process import run
from nox_buildstages.text import format_size
from nox_buildstages.value import replace
from nox_buildstages.wheelhouse.directory import manifest_entry
from support.packages import (
    make_sdist,
    make_tinybackend,
    make_tree,
    read_from_wheel,
)
from support.project import path_without_jobserver
from support.runs import RecordingRun

if TYPE_CHECKING:
    from nox_buildstages.model import CompilerCache, Interpreter, Source
    from nox_buildstages.run.events import Event
    from nox_buildstages.system.process import Command, Completed

UV = Path(uv.find_uv_bin())


@dataclass
class Counting:
    """Runs programs, and keeps what it was asked to run."""

    commands: list[Command] = field(default_factory=list)
    hook_callers: list[str] = field(default_factory=list)

    def __call__(self, command: Command) -> Completed:
        """Run it; attend to it at least once."""
        self.commands.append(command)
        if command.lifeline:
            self.hook_callers = [
                frame.f_code.co_name
                for frame, _ in traceback.walk_stack(inspect.currentframe())
                if frame.f_globals["__name__"].startswith("nox_buildstages.")
            ]
        if command.attend is not None:
            command.attend()
        return run(command)


LOW = canonicalize_name("low-lib")


class Recording(Screen):
    """Keeps the events that it was to show."""

    events: list[Event] = field(default_factory=list)

    def note(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def running(self) -> list[Event]:
        """Return the events that say how far a step is."""
        return [it for it in self.events if it.state == "running"]


@dataclass(kw_only=True)
class Shop:
    """A project with two stages, ``low`` and ``high``, whose locks are made by hand.

    Stage ``high`` has the output of ``low`` in its environment.
    """

    root: Path
    interpreter: Interpreter
    environment: Environment
    store: Path
    runner: Counting = field(default_factory=Counting)
    reports: list[str] = field(default_factory=list)
    screen: Recording = field(default_factory=Recording)
    stage: dict[str, Any] = field(default_factory=dict)
    rules: PackageRules = field(default_factory=PackageRules)
    outer: dict[str, str]
    cache: CompilerCache = "off"
    metadata: Metadata = field(
        default_factory=lambda: Metadata(version=Version("1.0"), learned="static")
    )
    source: Source = field(default_factory=lambda: DirectorySource(path="low-lib"))
    run: str = "run-1"
    machine: Machine = field(default_factory=Machine)

    def context(self) -> BuildContext:
        """Return a new bench, as another session would have."""
        stages = (
            Stage(name="low", outputs=(output("low-lib"),), **self.stage),
            Stage(
                name="high",
                outputs=(output("high-lib"),),
                dependencies=(Requirement("low-lib"),),
            ),
        )
        project = Project(
            pyproject=self.root / "pyproject.toml",
            lock_dir=self.root / "build-stages",
            wheelhouse=self.root / "wheelhouse",
            final=Final(requirements=()),
            stages=stages,
            compiler_cache=self.cache,
            packages={canonicalize_name("low-lib"): self.rules},
        )
        return BuildContext(
            project=project,
            graph=arrange(project),
            interpreter=self.interpreter,
            tools=self.tools(),
            locks={
                name: select_lock(lock, self.interpreter)
                for name, lock in self.locks().items()
            },
            logs=self.root / "logs",
        )

    def tools(self) -> Tools:
        """Return what the bench works with."""
        store = Store(self.store)
        return Tools(
            store=store,
            sources=Sources(self.root, self.store, run),
            syncer=Syncer(uv=UV, runner=self.runner),
            runner=self.runner,
            sandbox_policy=SandboxPolicy(runner=run, report=self.reports.append),
            run=RecordingRun(
                id=self.run,
                journal=Journal(self.root / "journal"),
                outer=self.outer,
                screen=self.screen,
                reports=self.reports,
            ),
            job_pool=JobPool(folder=self.store / "jobs", machine=self.machine),
        )

    def locks(self) -> dict[str, Lock]:
        """Return the locks of both stages, as relocking would write them."""
        backend = locked_wheel(self.root / "tinybackend-1.0-py3-none-any.whl")
        low = pylock.stage_package(
            canonicalize_name("low-lib"), Version("1.0"), self.source, stage="low"
        )
        other = Metadata(version=Version("1.0"), learned="static")
        high = DirectorySource(path="high-lib")
        return {
            "low": Lock(
                name="low",
                inputs="",
                pylock=pylock.make_pylock([backend]),
                outputs=(locked("low-lib", self.source, self.metadata),),
            ),
            "high": Lock(
                name="high",
                inputs="",
                pylock=pylock.make_pylock([backend, low]),
                outputs=(locked("high-lib", high, other),),
            ),
        }

    def provide(self, name: str = "low", *rebuild: str) -> OutputResult:
        """Provide a stage in a session of its own, and return its one outcome."""
        context = self.context()
        stage = context.graph.stages[name]
        (outcome,) = provide_stage(
            context, stage, self.environment, BuildOrder(rebuild=rebuild)
        )
        return outcome

    def seen(self, key: str) -> Path:
        """Return where a build finds itself."""
        low = Stage(name="low", outputs=())
        may_move = self.tools().sandbox_policy.sandbox(low).may_move
        return HERE if may_move else self.store / "builds" / key

    def history(self, keys: dict[str, str]) -> History:
        """Return what was built before, with these builds as the last ones."""
        return History(store=Store(self.store), keys=keys)

    def wheels(self) -> list[str]:
        """Return the names of the wheels in the store."""
        return sorted(path.name for path in self.store.glob("wheels/*/*/*.whl"))

    def write(self, name: str = "low-lib", **settings: Any) -> None:  # noqa: ANN401
        """Write a source tree, steered by settings for tinybackend."""
        make_tree(self.root / name, name, "1.0", settings=settings)


def planned(shop: Shop, key: str = "") -> tuple[PlannedOutput, ...]:
    """Plan both stages; under that key the output of the first was built last."""
    return plan_outputs(shop.context(), shop.history({"low-lib": key}))


def output(name: str) -> Output:
    return Output(requirement=Requirement(name), location=name)


def locked(name: str, source: Source, metadata: Metadata) -> LockedOutput:
    return LockedOutput(
        name=canonicalize_name(name),
        source=source,
        build_requires=("tinybackend",),
        metadata=metadata,
    )


def locked_wheel(wheel: Path) -> Package:
    name, version, _, _ = parse_wheel_filename(wheel.name)
    entry = PackageWheel(
        name=wheel.name, path=str(wheel), hashes={"sha256": sha256_of(wheel)}
    )
    return Package(name=name, version=version, wheels=[entry])


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    cache = tmp_path_factory.mktemp("interpreters")
    return probe_interpreter(Path(sys.executable), runner=run, cache=cache)


@pytest.fixture
def shop(
    tmp_path: Path,
    interpreter: Interpreter,
    caches: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    monkeypatch.setenv("UV_CACHE_DIR", str(caches / "uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    location = tmp_path / "venv"
    subprocess.run([UV, "venv", "-q", "-p", sys.executable, location], check=True)
    root = tmp_path / "project"
    root.mkdir()
    make_tinybackend(root)
    shop = Shop(
        root=root,
        interpreter=interpreter,
        environment=Environment(
            location=location, bin=location / "bin", python=location / "bin/python"
        ),
        store=tmp_path / "store",
        outer={"PATH": path_without_jobserver(tmp_path)},
    )
    shop.write("low-lib")
    shop.write("high-lib", stamp=["low-lib"], env=["VIRTUAL_ENV"])
    return shop


# Building and finding ------------------------------------------------------------


def test_a_run_keeps_the_wheel_that_another_run_builds_again(
    shop: Shop, tmp_path: Path
) -> None:
    """Its sessions use what they have seen, and other runs the newest wheel."""
    shop.write()
    first = shop.provide().wheel
    context = shop.context()
    context.tools.run.keeps_events = True
    context.tools.run.emit("output", "cached", **first.facts)
    again = tmp_path / first.path.name
    again.write_bytes(first.path.read_bytes() + b"more")
    second = context.tools.store.put(
        first.recipe, again, log=first.log, seconds=1, run="run-2"
    )
    assert second.sha256 != first.sha256
    assert context.find_wheel(first.recipe) == first
    assert context.get_wheel("low", first.name) == first
    assert context.tools.store.find(first.key) == second
    shop.run = "run-3"
    context.tools.run.journal.path.unlink()
    assert shop.context().find_wheel(first.recipe) == second


def test_what_is_missing_is_built(shop: Shop) -> None:
    """The wheel comes into the store, with its log, and the user is told."""
    outcome = shop.provide()
    wheel = outcome.wheel
    assert (outcome.stage, outcome.output.name, outcome.is_built) == (
        "low",
        "low-lib",
        True,
    )
    assert shop.wheels() == ["low_lib-1.0-py3-none-any.whl"]
    assert sha256_of(wheel.path) == wheel.sha256
    (jobs,) = re.findall(r"building low-lib 1.0 with (\d+) jobs?$", shop.reports[0])
    assert 1 <= int(jobs) <= (os.cpu_count() or 1)
    assert shop.reports[1].startswith("built low_lib-1.0-py3-none-any.whl in ")
    assert list((shop.store / "builds").iterdir()) == []


def test_the_way_to_a_hook_is_short(shop: Shop) -> None:
    """Whoever debugs a build steps through few functions, and through no callback."""
    shop.provide()
    assert shop.runner.hook_callers == [
        "_run",
        "build_wheel",
        "build_wheel",
        "make_attempt",
        "build_output",
        "build_outputs",
        "call_in_thread",
    ]


def test_what_runs_is_shown(shop: Shop) -> None:
    """Making the environment, then building; nothing where nothing is done."""
    shop.provide()
    place = {"python": shop.interpreter.version, "stage": "low"}
    of_output = {**place, "output": "low-lib", "version": "1.0"}
    states = [(it.step, it.state) for it in shop.screen.events if it.state != "running"]
    assert sorted(states[:4]) == [  # side by side
        ("environment", "begun"),
        ("environment", "ended"),
        ("fetch", "begun"),
        ("fetch", "ended"),
    ]
    assert states[4:] == [
        ("output", "begun"),
        ("compile", "begun"),
        ("compile", "ended"),
        ("output", "built"),
    ]
    for event in shop.screen.events:
        assert event.process == os.getpid()
        expected = place if event.step == "environment" else of_output
        assert {name: getattr(event, name) for name in expected} == expected
    facts = shop.screen.events[-1].facts
    assert {"key", "sha256", "seconds", "size", "jobs"} <= facts.keys()
    shop.screen.events.clear()
    shop.provide()
    assert [(it.step, it.state) for it in shop.screen.events] == [("output", "built")]


@pytest.mark.parametrize(
    ("says", "log", "steps"),
    [
        (["cc -c a.c"], True, "0/1 files"),
        (["…"], True, ""),
        (["cc -c a.c"], False, ""),
    ],
    ids=["same", "other", "gone"],
)
def test_what_was_built_before_tells_how_far_a_build_is(
    shop: Shop, says: list[str], steps: str, *, log: bool
) -> None:
    """How long it took; and if it was of the same source, of how many steps it was."""
    shop.write(says=["cc -c a.c"])
    written = shop.provide().wheel.log
    if not log:
        written.unlink()
    record = written.parents[1] / "record.json"
    fields = json.loads(record.read_text("utf-8"))
    record.write_text(json.dumps({**fields, "seconds": 600}), "utf-8")
    shop.run = "run-2"
    shop.screen.events.clear()
    shop.write(says=says)
    shop.provide("low", "low-lib")
    (event, *_) = shop.screen.running()  # more of them on a slow machine
    assert event.facts["steps"] == steps
    assert 500 < event.facts["left"] <= 600


def test_a_build_ends_at_its_deadline(shop: Shop) -> None:
    """The deadline is checked before the progress is shown."""
    context = shop.context()
    job = Job(
        context=context,
        stage=replace(context.graph.stages["low"], timeout=5),
        output=context.locks["low"].outputs[0],
        environment=shop.environment,
        deadline=0,
    )
    job.log.parent.mkdir()
    job.log.touch()
    with job.follow("ask") as attend, pytest.raises(BuildTimeoutError):
        attend()
    assert shop.screen.events == []
    in_time = replace(job, deadline=math.inf)
    with in_time.follow("ask") as attend:
        attend()
    ((step, output),) = {(it.step, it.output) for it in shop.screen.running()}
    assert (step, output) == ("ask", "low-lib")


def test_what_is_there_is_found(shop: Shop) -> None:
    """Nothing runs, and the environment isn't touched, as if there were none."""
    built = shop.provide()
    shop.run = "run-2"
    shop.runner.commands.clear()
    nowhere = shop.root / "nowhere"
    shop.environment = Environment(location=nowhere, bin=nowhere, python=nowhere)
    found = shop.provide()
    assert found.wheel == built.wheel
    assert not found.is_built
    assert shop.runner.commands == []
    assert len(shop.reports) == 2


def test_another_process_of_the_same_run_says_built(shop: Shop) -> None:
    """Built is what this run of nox built, in whichever of its sessions."""
    shop.provide()
    assert shop.provide().is_built
    assert len(shop.reports) == 2


def test_what_is_asked_for_is_built_again(shop: Shop) -> None:
    """Once in a run; the next run needs to be asked anew."""
    shop.provide()
    shop.provide("low", "low-lib")
    assert len(shop.reports) == 2
    shop.run = "run-2"
    assert shop.provide("low", "low-lib").is_built
    assert len(shop.reports) == 4
    shop.run = "run-3"
    assert not shop.provide().is_built


def test_a_damaged_wheel_is_built_again(shop: Shop) -> None:
    """The store is never believed unseen."""
    path = shop.provide().wheel.path
    path.write_bytes(b"tampered")
    (low, _) = planned(shop, path.parent.name)
    assert low.reasons == ("its wheel in the store is damaged",)
    shop.run = "run-2"
    assert shop.provide().is_built


def test_an_earlier_wheel_is_in_the_environment(shop: Shop) -> None:
    """That wheel, by its hash; what is built on it is built anew when it changes."""
    low = shop.provide().wheel
    high = shop.provide("high").wheel
    held = high.recipe.environment["low-lib"]
    assert (held.sha256, held.stage) == (low.sha256, "low")
    stamp = read_from_wheel(high.path, "high_lib/built_against.json")
    assert json.loads(stamp)["low-lib"]["version"] == "1.0"
    changed = '"""Changed."""\n'
    (shop.root / "low-lib/low_lib/__init__.py").write_text(changed)
    shop.provide()
    again = shop.provide("high").wheel
    assert again.key != high.key
    stamp = read_from_wheel(again.path, "high_lib/built_against.json")
    assert json.loads(stamp)["low-lib"]["content"] == changed


def test_an_earlier_wheel_must_be_there(shop: Shop) -> None:
    """A stage that was skipped didn't build, whatever nox thinks."""
    with pytest.raises(BuildStagesError) as caught:
        shop.provide("high")
    assert caught.value.summary == (
        "low-lib (stage low): it isn't built yet, or its wheel in the store is damaged"
    )
    assert caught.value.hint == "build it:\n  nox -s build-stage-low"
    assert shop.wheels() == []


def test_nothing_is_built_where_nox_forbids_it(shop: Shop) -> None:
    """With --install-only the environment is made, and the stage isn't done."""
    shop.environment = replace(shop.environment, may_run=lambda: False)
    with pytest.raises(BuildStagesError) as caught:
        shop.provide()
    assert caught.value.summary == "stage low: low-lib would have to be built"
    site = shop.environment.location.glob("lib/*/site-packages/tinybackend.py")
    assert len(list(site)) == 1
    assert shop.wheels() == []


def test_a_log_says_what_was_built_from_what(shop: Shop) -> None:
    """Its head is ours, then the backend speaks; the store keeps it too."""
    shop.machine = Machine(allowed_cores=lambda: 1)
    wheel = shop.provide().wheel
    lines = wheel.log.read_text().splitlines()
    stage, sandbox_policy = Stage(name="low", outputs=()), shop.tools().sandbox_policy
    sandbox = sandbox_policy.sandbox(stage)
    assert lines[:9] == [
        "low-lib 1.0, stage low",
        "source: low-lib",
        f"key: {shop.context().recipe('low', LOW).key}",
        "jobs: 1",
        f"network: {sandbox}",
        f"files: {sandbox.files}",
        f"environment: {shop.environment.location}",
        "  tinybackend 1.0",
        "",
    ]
    assert lines[9] == "tinybackend: building low-lib 1.0"
    assert (shop.root / "logs/low-lib.log").read_text() == wheel.log.read_text()


# What goes in --------------------------------------------------------------------


def test_equal_inputs_give_equal_bytes(shop: Shop, tmp_path: Path) -> None:
    """At the same path, from another store, in a compiled wheel."""
    code = "int answer(void) { return 42; }\n"
    (shop.root / "low-lib/a.c").write_text(code)
    shop.write(compile=["a.c"], record=["cwd"])
    first = shop.provide().wheel
    (tmp_path / "store").rename(tmp_path / "old-store")
    second = shop.provide().wheel
    assert (second.key, second.sha256) == (first.key, first.sha256)
    cwd = json.loads(read_from_wheel(second.path, "low_lib/record.json"))["cwd"]
    assert cwd == str(shop.seen(second.key) / "source")


def test_a_build_sees_what_is_declared_and_let_through(shop: Shop) -> None:
    """Variables of the stage, over them those of the package; nothing else comes in."""
    names = ["STAGE", "BOTH", "PASSED", "UNSET", "OTHER", "HOME"]
    shop.write(env=names)
    shop.stage = {
        "env": {"STAGE": "1", "BOTH": "stage"},
        "pass_env": ("PASSED", "UNSET"),
    }
    shop.rules = PackageRules(env={"BOTH": "package"})
    shop.outer |= {"PASSED": "2", "OTHER": "3", "HOME": "/home"}
    entry = shop.provide().wheel
    seen = json.loads(read_from_wheel(entry.path, "low_lib/env.json"))
    home = seen.pop("HOME")
    assert home == str(shop.seen(entry.key) / "home")
    declared = {"STAGE": "1", "BOTH": "package", "PASSED": "2"}
    assert seen == {**declared, "UNSET": None, "OTHER": None}
    assert entry.recipe.env == {"STAGE": "1", "BOTH": "package"}
    assert entry.recipe.passed.keys() == {"PASSED"}


def test_a_value_that_is_let_through_is_in_no_log(shop: Shop) -> None:
    """The name stands in its place, in the wheelhouse and in the store."""
    shop.write(says=["with hunter2-long", "as it is"])
    shop.stage = {"pass_env": ("PASSED",)}
    shop.outer |= {"PASSED": "hunter2-long"}
    wheel = shop.provide().wheel
    (log,) = shop.context().logs.glob("*.log")
    for path in (wheel.log, log):
        assert "\nwith $PASSED\nas it is\n" in path.read_text()


def test_letting_through_what_is_not_set_changes_nothing(shop: Shop) -> None:
    """The build is the same one."""
    key = shop.provide().wheel.key
    shop.stage = {"pass_env": ("UNSET",)}
    assert shop.provide().wheel.key == key


def test_config_settings_go_in(shop: Shop) -> None:
    """They reach the backend, and a plan names them where they change."""
    shop.write(record=["config-settings"])
    shop.rules = PackageRules(config_settings={"--x": ("y",)})
    wheel = shop.provide().wheel
    seen = json.loads(read_from_wheel(wheel.path, "low_lib/record.json"))
    assert seen == {"config-settings": {"--x": ["y"]}}
    shop.rules = PackageRules(config_settings={"--x": ("z",)})
    (low, later) = planned(shop, wheel.key)
    assert low.reasons == ("config setting --x ('y',) → ('z',)",)
    assert later.reasons == ("not built yet",)
    assert later.key is None


def test_the_patch_that_the_key_has_is_the_one_that_is_applied(shop: Shop) -> None:
    """Though its file is written to after the session has begun."""
    file = shop.root / "x.patch"
    shop.rules = PackageRules(patches=(Patch(name="x", path=file, location="it"),))
    new = "--- /dev/null\n+++ b/low_lib/{}.py\n@@ -0,0 +1 @@\n+x = 1\n"
    file.write_text(new.format("first"))
    context = shop.context()
    recipe = context.recipe("low", LOW)
    file.write_text(new.format("second"))
    (outcome,) = provide_stage(context, context.graph.stages["low"], shop.environment)
    assert recipe.accepts(outcome.wheel.recipe)
    assert read_from_wheel(outcome.wheel.path, "low_lib/first.py") == "x = 1\n"
    assert not recipe.accepts(shop.provide().wheel.recipe)


def test_a_tool_goes_in_with_its_version(shop: Shop, tmp_path: Path) -> None:
    """Another compiler is another wheel; one that isn't there is an error."""
    shop.stage = {"tools": ("mycc",)}
    shop.outer = {"PATH": f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}"}
    with pytest.raises(BuildStagesError, match="'mycc'"):
        shop.provide()
    program = tmp_path / "tools" / "mycc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho unknown option $1 >&2\nexit 2\n")
    program.chmod(0o755)
    with pytest.raises(BuildStagesError, match="exit status 2") as caught:
        shop.provide()
    assert "\n  unknown option --version\n" in str(caught.value)
    program.write_text('#!/bin/sh\n[ "$PWD" = / ] && echo mycc 1.0\n')
    entry = shop.provide().wheel
    assert entry.recipe.tools == {"mycc": "mycc 1.0"}
    (low, _) = planned(shop, entry.key)
    assert low.state == "cached"
    program.write_text("#!/bin/sh\necho mycc 1.1\n")
    (low, _) = planned(shop, entry.key)
    assert low.reasons == ("tool mycc 'mycc 1.0' → 'mycc 1.1'",)


def test_what_a_command_prints_goes_in(shop: Shop, tmp_path: Path) -> None:
    """A library of the system that was upgraded is another wheel."""
    command = "pkg-config --modversion sysfoo"
    shop.stage = {"tools": ("cc", command)}
    program = tmp_path / "tools" / "pkg-config"
    program.parent.mkdir()
    shop.outer = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    for version in ("1", "2"):
        program.write_text(
            f'#!/bin/sh\n[ "$1 $2" = "{command[11:]}" ] && echo {version}\n'
        )
        program.chmod(0o755)
        (low, _) = planned(shop)
        assert low.state == "build"
        assert shop.provide().wheel.recipe.tools[command] == version
        assert planned(shop)[0].state == "cached"
    assert low.reasons == (f"tool {command} '1' → '2'",)


def test_a_tool_gets_the_variables_of_the_build(shop: Shop, tmp_path: Path) -> None:
    """They may say where it looks for libraries; the environment's path isn't known."""
    command = "pkg-config --modversion sysfoo"
    shop.stage = {
        "tools": ("mycc", command),
        "env": {"WHERE": "{env}/lib"},
        "pass_env": ("PKG_CONFIG_PATH",),
    }
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("mycc", "pkg-config"):
        (folder / name).write_text("#!/bin/sh\necho $PKG_CONFIG_PATH $WHERE\n")
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    for where in ("/a", "/b"):
        shop.outer = {"PATH": path, "PKG_CONFIG_PATH": where}
        tools = shop.provide().wheel.recipe.tools
        assert {*tools.values()} == {f"{where} /dev/null/lib"}


def test_a_mirror_in_a_folder_may_be_read(shop: Shop, tmp_path: Path) -> None:
    """The home's settings name it, as for every program that downloads."""
    crates = tmp_path / "own crates"
    crates.mkdir()
    (crates / "x.h").touch()
    home = tmp_path / "home"
    (home / ".cargo").mkdir(parents=True)
    settings = f'[source.ours]\ndirectory = "{crates}"\n'
    (home / ".cargo/config.toml").write_text(settings)
    shop.outer = {"PATH": os.environ["PATH"], "HOME": str(home)}
    shop.write(compile=["x.c"])
    shop.root.joinpath("low-lib/x.c").write_text(f'#include "{crates}/x.h"\n')
    assert shop.provide().wheel.path.exists()


def test_a_build_for_this_processor_is_reported(shop: Shop) -> None:
    """Its wheel is found on machines with this processor alone."""
    shop.write(compile=["x.c"])
    shop.root.joinpath("low-lib/x.c").write_text("int x;\n")
    shop.stage = {"env": {"CFLAGS": "-march=native"}}
    wheel = shop.provide().wheel
    assert wheel.compilers == ("cc",)
    assert wheel.recipe.processor == processor()
    (line,) = (it for it in shop.reports if "processor" in it)
    assert "is for the processor of this machine alone (-march=native)" in line
    assert planned(shop)[0].state == "cached"


def test_a_plan_without_history_says_not_built(shop: Shop) -> None:
    """There is nothing to compare with, whether no key is known or an old one."""
    assert planned(shop)[0].reasons == ("not built yet",)
    assert planned(shop, "gone")[0].reasons == ("not built yet",)


def test_a_plan_compares_with_what_differs_least(shop: Shop) -> None:
    """Where the last build isn't known here any more, the store's are looked at."""
    for first, second in (("1", "1"), ("2", "2")):
        shop.stage = {"env": {"A": first, "B": second}}
        key = shop.provide().wheel.key
    shop.stage = {"env": {"A": "2", "B": "3"}}
    (low, _) = planned(shop, "gone")
    assert low.reasons == ("env B '2' → '3'",)
    assert low.compared == key


def test_a_plan_says_what_changed_the_wheel_of_an_earlier_stage(shop: Shop) -> None:
    """That wheel is built already; why it has other bytes is told all the same."""
    shop.write(env=["A"])
    shop.stage = {"env": {"A": "1"}}
    shop.provide()
    high = shop.provide("high").wheel
    shop.stage = {"env": {"A": "2"}}
    shop.provide()
    (low, later) = plan_outputs(shop.context(), shop.history({"high-lib": high.key}))
    assert low.state == "cached"
    assert later.reasons == (
        "the wheel low-lib of stage low changed because env A '1' → '2'",
    )
    assert later.compared == high.key
    assert later.key not in {None, high.key}


def test_a_plan_does_not_guess_what_changed_a_wheel(shop: Shop) -> None:
    """Where the old wheel's record is gone, only that it changed is told."""
    settings: dict[str, Any] = {"stamp-time": True}
    shop.write(**settings)
    old = shop.provide().wheel
    high = shop.provide("high").wheel
    shop.run = "run-2"
    assert shop.provide("low", "low-lib").wheel.key == old.key
    (_, later) = plan_outputs(shop.context(), shop.history({"high-lib": high.key}))
    assert later.reasons == ("the wheel low-lib of stage low changed",)


def test_what_is_asked_for_is_planned(shop: Shop) -> None:
    """It is to be built though the store has it, and so what is after it waits."""
    low_key = shop.provide().wheel.key
    high_key = shop.provide("high").wheel.key
    keys = {"low-lib": low_key, "high-lib": high_key}
    (low, later) = plan_outputs(
        shop.context(), shop.history(keys), rebuild=("low-lib",)
    )
    assert low.reasons == ("--rebuild asks for it",)
    assert low.key == low_key
    assert later.key is None
    assert later.reasons == (
        "the wheel low-lib of stage low is built first because --rebuild asks for it",
    )


def test_an_sdist_is_built_from_its_archive(shop: Shop) -> None:
    """Unpacked afresh, its folder is the project."""
    sdist = make_sdist(shop.root, "low-lib", "1.0")
    shop.source = ArchiveSource(location=sdist.name, sha256=sha256_of(sdist))
    entry = shop.provide().wheel
    assert entry.recipe.source == f"sha256:{sha256_of(sdist)}"
    assert entry.log.read_text().splitlines()[1].startswith("source: low_lib-1")


# What never comes into the store -------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("no-wheel", "the backend made no wheel"),
        ("two-wheels", "the backend made several: low_lib-1.0-py3-none-any.whl, "),
        ("wrong-name", "is of not-low-lib; low-lib was asked for"),
        ("wrong-version", "is version 0.0.0; the lock says 1.0"),
        (
            "bad-record",
            "'low_lib-1.0.dist-info/WHEEL' doesn't match its sha256",
        ),
        ("bad-metadata", "disagree: only the wheel has undeclared>=1"),
    ],
)
def test_another_wheel_than_the_one_asked_for_is_refused(
    shop: Shop, fault: str, problem: str
) -> None:
    """The error says what was made, and where the log is."""
    shop.write(faults=[fault])
    with pytest.raises(WheelError) as caught:
        shop.provide()
    assert problem in caught.value.problem
    assert caught.value.subject.startswith("low-lib (stage low): ")
    assert caught.value.log == shop.root / "logs/low-lib.log"
    assert shop.wheels() == []


def test_a_name_that_is_another_than_the_files_is_refused(shop: Shop) -> None:
    """What the hook returns is what there must be."""
    code = "def build_wheel(folder, *_):\n"
    code += "    open(folder + '/x.whl', 'w').close()\n    return 'y.whl'\n"
    (shop.root / "low-lib/own.py").write_text(code)
    (shop.root / "low-lib/pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n"
    )
    with pytest.raises(WheelError) as caught:
        shop.provide()
    assert caught.value.subject == "low-lib (stage low): y.whl"
    assert caught.value.problem == "the backend made x.whl instead"


@pytest.mark.parametrize("fault", ["raise", "exit", "kill"])
def test_a_backend_that_fails_leaves_nothing_in_the_store(
    shop: Shop, fault: str
) -> None:
    """And what the user repairs is built then."""
    shop.write(faults=[fault])
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert "tinybackend: building low-lib 1.0" in caught.value.details
    assert shop.wheels() == []
    shop.write()
    assert shop.provide().is_built


def test_an_error_is_shown_wherever_it_stands_in_the_log(shop: Shop) -> None:
    """With a hint that knows what is set outside and what the table passes on."""
    error = "setup.py: error: DRIVER_ROOT is not set"
    shop.write(says=[error, *map(str, range(100))], faults=["exit"])
    shop.outer["DRIVER_ROOT"] = "/usr/driver"
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert caught.value.details == (error,)
    assert 'pass-env = ["DRIVER_ROOT"] for stage low' in caught.value.hint
    shop.stage = {"pass_env": ("DRIVER_ROOT",)}
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert caught.value.hint == ""


def test_a_hint_knows_what_the_environment_contains(shop: Shop) -> None:
    """And that its own module isn't there before it is built."""
    error = "ModuleNotFoundError: No module named 'tinybackend.more'"
    shop.write(says=[error, *map(str, range(100))], faults=["exit"])
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert caught.value.details[0] == error
    assert caught.value.hint.startswith("tinybackend 1.0 has no tinybackend.more")


def test_a_full_disk_is_seen_wherever_it_stands(shop: Shop) -> None:
    """Then the tree is kept, so that the next run continues."""
    error = "fatal: cannot write: No space left on device"
    shop.write(says=[error, *map(str, range(100))], faults=["exit"])
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert "a disk is full" in caught.value.hint
    assert [*(shop.store / "builds").iterdir()]


def test_a_wheel_must_keep_what_the_lock_promised(shop: Shop) -> None:
    """Requirements and Python alike, each difference named with its side."""
    shop.write(requires=["both", "x>=1"])
    shop.metadata = Metadata(
        version=Version("1.0"),
        requires_dist=("both", "y"),
        requires_python=">=3.9",
        learned="hook",
    )
    with pytest.raises(WheelError) as caught:
        shop.provide()
    assert caught.value.problem == (
        "its METADATA and the lock (hook) disagree: only the wheel has x>=1; "
        "only the lock has y; Requires-Python is None, not >=3.9"
    )


def test_requirements_that_an_sdist_did_not_promise_are_shown_for_the_table(
    shop: Shop,
) -> None:
    """They make the lock and the wheel agree; nobody has to patch the sdist."""
    shop.write(requires=["both", "x>=1"])
    shop.metadata = Metadata(
        version=Version("1.0"), requires_dist=("both", "y"), learned="static"
    )
    with pytest.raises(WheelError) as caught:
        shop.provide()
    assert caught.value.hint.splitlines() == [
        "declare its requirements in pyproject.toml, and lock again:",
        "  [tool.nox-buildstages.package.low-lib]",
        '  requires-dist = { add = ["x>=1"], remove = ["y"] }',
    ]
    shop.rules = PackageRules(
        requires_dist_add=(Template(text="x>=1", location=""),),
        requires_dist_remove=(canonicalize_name("y"),),
    )
    shop.metadata = replace(shop.metadata, requires_dist=("both", "x>=1"))
    assert shop.provide().wheel.path.exists()


def test_a_promise_that_code_breaks_is_refused_before_the_build(shop: Shop) -> None:
    """The local version that it adds is the one to declare."""
    shop.write(version="1.0+cu130")
    shop.root.joinpath("low-lib/setup.py").write_text("", "utf-8")
    with pytest.raises(WheelError) as caught:
        shop.provide()
    assert caught.value.summary == (
        "low-lib (stage low): is version 1.0+cu130; the lock says 1.0"
    )
    assert '\n  local-version = "cu130"' in str(caught.value)
    assert caught.value.log is not None
    assert "building low-lib" not in caught.value.log.read_text("utf-8")


SAME = {
    'a; python_version < "4"': "a ; python_version<'4'",
    'b; (python_version < "4" and os_name == "posix") and extra == "x"': (
        'b; python_version < "4" and os_name == "posix" and extra == "x"'
    ),
    'c; (os_name == "nt" or os_name == "posix") and extra == "x"': (
        'c; (os_name == "nt" or os_name == "posix") and extra == "x"'
    ),
    "d<2,>=1": "D>=1,<2",
}


def test_requirements_may_be_spelled_another_way(shop: Shop) -> None:
    """Each backend writes markers its own way; what they mean counts."""
    shop.write(requires=[*SAME.values()], extras=["x"])
    shop.metadata = replace(
        shop.metadata, requires_dist=tuple(SAME), provides_extra=("x",)
    )
    assert shop.provide().is_built


def test_metadata_from_the_table_is_held_against_the_wheel(shop: Shop) -> None:
    """A lock that lacks what the wheel requires would make a runtime that lacks it."""
    shop.write(requires=["x>=1"])
    shop.metadata = replace(shop.metadata, requires_dist=("y",), learned="config")
    with pytest.raises(WheelError, match="only the wheel has x>=1"):
        shop.provide()
    shop.metadata = replace(shop.metadata, requires_dist=("x>=1",))
    assert shop.provide().is_built


def test_a_wheel_for_another_platform_is_refused(shop: Shop) -> None:
    """It could be stored and delivered, and never installed."""
    shop.write(tag="cp27-cp27m-win_amd64")
    with pytest.raises(WheelError, match="its tags are not for"):
        shop.provide()


# What happened to the environment -------------------------------------------------


def installed(shop: Shop, name: str) -> Path:
    """Return a file of the stage's environment."""
    (found,) = shop.environment.location.glob("lib/python*/site-packages")
    return found / name


def tampered(shop: Shop) -> tuple[Path, Path]:
    """Build, change the build backend by hand, and put something beside it.

    Returns:
        Both files.
    """
    shop.provide()
    shop.run = "run-2"
    backend, stray = installed(shop, "tinybackend.py"), installed(shop, "stray.pth")
    changed = backend.read_text("utf-8") + "\nTAMPERED = True\n"
    backend.unlink()  # uv's cache may have the same file
    backend.write_text(changed, "utf-8")
    stray.touch()
    return backend, stray


def test_an_environment_that_was_changed_by_hand_is_made_anew(shop: Shop) -> None:
    """The wheel would have the key of one that was built in what is locked."""
    backend, stray = tampered(shop)
    shop.reports.clear()
    shop.provide("low", "low-lib")
    assert "TAMPERED" not in backend.read_text("utf-8")
    assert not stray.exists()
    told, *_ = shop.reports
    assert told.startswith(f"{shop.environment.location} was changed by hand (added ")
    assert told.endswith("stray.pth and 1 more); it is installed again")
    shop.reports.clear()
    shop.provide("low", "low-lib")
    assert "by hand" not in str(shop.reports)


def test_where_nox_forbids_it_a_changed_environment_is_an_error(shop: Shop) -> None:
    """With what was changed; and nothing is."""
    backend, stray = tampered(shop)
    shop.environment = replace(shop.environment, may_install=lambda: False)
    with pytest.raises(BuildStagesError, match=r"changed .*tinybackend\.py"):
        shop.provide("low", "low-lib")
    assert "TAMPERED" in backend.read_text("utf-8")
    assert stray.exists()


@pytest.mark.slow
def test_what_it_was_made_of_may_be_unknown(shop: Shop) -> None:
    """If the note is damaged or of another release, the environment is made again."""
    shop.provide()
    note = shop.environment.location / "nox-buildstages-files.json"
    whole = json.loads(note.read_text("utf-8"))
    for text in ("{", "[]", '{"a": 1}'):
        note.write_text(text, "utf-8")
        shop.run = text
        shop.provide("low", "low-lib")
        found = json.loads(note.read_text("utf-8"))
        assert found["entries"].keys() == whole["entries"].keys()


# Jobs and memory -----------------------------------------------------------------

ROOMY = Machine(allowed_cores=lambda: 4)
"""A machine on which a build is given four jobs."""


def test_a_build_that_ran_out_of_memory_is_tried_again(shop: Shop) -> None:
    """Once, with half the jobs; the user is told, and the log has both."""
    shop.stage, shop.machine = (
        {"memory_per_job": 1},
        replace(ROOMY, allowed_cores=lambda: 2),
    )
    shop.write(faults=["memory"])
    log = shop.provide().wheel.log.read_text()
    building, again, _, built = shop.reports
    assert building == "building low-lib 1.0 with 2 jobs"
    assert again == "low-lib ran out of memory with 2 jobs; retrying with 1 job"
    assert built.startswith("built low_lib-1.0-py3-none-any.whl in ")
    assert log.count("tinybackend: building low-lib 1.0") == 2
    assert "\nout of memory; retrying with 1 job\n" in log
    assert [line for line in log.splitlines() if line.startswith("jobs: ")] == [
        "jobs: 2",
        "jobs: 1",
    ]


def test_it_is_tried_again_but_once(shop: Shop) -> None:
    """Then the user has to say how much memory a job needs."""
    shop.stage, shop.machine = {"memory_per_job": 1}, ROOMY
    shop.write(faults=["memory"])
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert caught.value.out_of_memory
    assert 'memory-per-job = "8GB" for stage low' in str(caught.value)
    assert [re.sub("(, |: memory).*", "", line) for line in shop.reports] == [
        "building low-lib 1.0 with 4 jobs",
        "low-lib ran out of memory with 4 jobs; retrying with 2 jobs",
        "building low-lib 1.0 with 2 jobs",
    ]


@pytest.mark.parametrize(
    "stage", [{"jobs": 1}, {"env": {"MAX_JOBS": "2"}}], ids=["one", "declared"]
)
def test_it_is_not_tried_again_in_vain(shop: Shop, stage: dict[str, Any]) -> None:
    """Where there was one job, or the table itself says how many there are."""
    shop.stage, shop.machine = stage, ROOMY
    shop.write(faults=["kill"])
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert caught.value.out_of_memory
    assert len(shop.reports) == 1


def test_a_compiler_that_was_killed_is_seen_wherever_it_stands(shop: Shop) -> None:
    """Others go on and say a lot before the build ends."""
    shop.stage, shop.machine = {"memory_per_job": 1}, ROOMY
    killed = "c++: fatal error: Killed signal terminated program cc1plus"
    shop.write(says=[killed, *map(str, range(100))], faults=["exit"])
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert caught.value.details == (killed,)
    assert caught.value.out_of_memory
    assert len(shop.reports) == 3


def test_the_kernel_knows_who_was_killed(shop: Shop) -> None:
    """Its count has risen, though the log says nothing; a known cause comes first."""
    (shop.root / "proc/self").mkdir(parents=True)
    (shop.root / "proc/self/cgroup").write_text("0::/\n")
    (shop.root / "proc/self/mountinfo").write_text("1 1 0:1 / /group rw - cgroup2 a b")
    events = shop.root / "group/memory.events"
    events.parent.mkdir()
    shop.machine = replace(ROOMY, root=shop.root)
    shop.stage = {"sandbox": "off"}
    for said, is_known in (("", False), ("No space left on device", True)):
        events.write_text("oom_kill 0\n")
        shop.reports.clear()
        code = "def build_wheel(folder, *_):\n"
        code += f"    with open({str(events)!r}, 'a+') as file:\n"
        code += "        file.seek(0)\n"
        code += "        count = int(file.read().split()[1]) + 1\n"
        code += "        file.truncate(0)\n"
        code += "        file.write(f'oom_kill {count}')\n"
        code += f"    raise SystemExit({said!r} or 1)\n"
        (shop.root / "low-lib/own.py").write_text(code)
        (shop.root / "low-lib/pyproject.toml").write_text(
            "[build-system]\nrequires = []\n"
            "build-backend = 'own'\nbackend-path = ['.']\n"
        )
        with pytest.raises(BackendError) as caught:
            shop.provide()
        assert caught.value.out_of_memory is not is_known
        lines = [it for it in shop.reports if "packages are copied" not in it]
        assert len(lines) == (1 if is_known else 3)


def limited_machine(shop: Shop, *, free: int) -> Machine:
    """Return a machine with four cores and some free memory, in bytes."""
    root = shop.root / "limited"
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc/meminfo").write_text(f"MemAvailable: {free // 1024} kB\n")
    return replace(ROOMY, root=root)


def write_compiler(shop: Shop, *, size: int) -> None:
    """Make the backend run a stand-in for a compiler, which measures itself, too."""
    shop.write()
    compiler = (
        f"x = b'x' * {size}\n"
        "from resource import RUSAGE_SELF, getrusage\n"
        "print('took', getrusage(RUSAGE_SELF).ru_maxrss * 1024, flush=True)\n"
    )
    code = (
        "import subprocess, sys, tinybackend\n"
        "def build_wheel(*arguments):\n"
        f"    subprocess.run([sys.executable, '-c', {compiler!r}], check=True)\n"
        "    return tinybackend.build_wheel(*arguments)\n"
    )
    (shop.root / "low-lib/own.py").write_text(code)
    (shop.root / "low-lib/pyproject.toml").write_text(
        "[build-system]\nrequires = ['tinybackend']\n"
        "build-backend = 'own'\nbackend-path = ['.']\n"
    )


@pytest.mark.slow
def test_a_build_gets_as_many_jobs_as_its_last_build_needed(shop: Shop) -> None:
    """The record and the plan have what the compiler itself has measured."""
    size = 1_000_000_000
    write_compiler(shop, size=size)
    shop.stage, shop.machine = {"jobs": 4}, limited_machine(shop, free=size * 3)
    wheel = shop.provide().wheel
    (own,) = re.findall(r"^took (\d+)$", wheel.log.read_text(), re.MULTILINE)
    memory = wheel.memory
    assert memory is not None
    assert memory.is_complete
    assert memory.jobs == 4
    assert memory.process == pytest.approx(int(own), rel=0.1)
    assert memory.build == pytest.approx(int(own), rel=0.1)
    assert manifest_entry(shop.provide())["memory"] == memory.to_dict()

    shop.rules = PackageRules(env={"OTHER": "key"})
    (build, _) = plan_outputs(shop.context(), shop.history({}))
    took = format_size(memory.process)
    why = f"a process took {took} in the last build"
    assert build.memory is not None
    assert (build.memory.origin, build.memory.reason) == ("measured", why)
    shop.reports.clear()
    again = shop.provide().wheel
    assert shop.reports[0] == f"building low-lib 1.0 with 2 jobs: {why}"
    assert wheel.key != again.key
    assert sha256_of(wheel.path) == sha256_of(again.path)


_CMAKE = """
cmake_minimum_required(VERSION 3.10)
project(low C)
add_library(low SHARED a.c b.c slow.c z.c)
"""

_ONE_BY_ONE = (
    "for it in 'slow', 'a', 'b', 'z': run(cc, '-c', f'{it}.c', '-o', f'{it}.o')"
)
"""Compiles as setuptools does."""

_BY_NINJA = (
    "run('cmake', '-G', 'Ninja', '-B', 'out', f'-DCMAKE_C_COMPILER={cc}');"
    " run('ninja', '-C', 'out', '-j', '2')"
)


def write_sources(shop: Shop, *, how: str) -> None:
    """Write a source that is compiled by stand-ins; one file takes seconds."""
    shop.write()
    tree = shop.root / "low-lib"
    for name in ("a", "b", "slow", "z"):
        (tree / f"{name}.c").write_text(f"int {name};\n")
    (tree / "CMakeLists.txt").write_text(_CMAKE)
    compiler = shop.root / "cc"
    compiler.write_text(
        '#!/bin/sh\ncase " $* " in *"slow.c "*) sleep 4;; *".c "*) sleep 1.1;; esac\n'
        'exec /usr/bin/cc "$@"\n'
    )
    compiler.chmod(0o755)
    shop.rules = PackageRules(env={"OWN_CC": str(compiler)})  # so it may be read
    (tree / "own.py").write_text(
        "import subprocess, tinybackend\n"
        f"cc = {str(compiler)!r}\n"
        "def run(*argv): subprocess.run(argv, check=True)\n"
        "def build_wheel(*arguments):\n"
        f"    {how}\n"
        "    return tinybackend.build_wheel(*arguments)\n"
    )
    (tree / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['tinybackend']\n"
        "build-backend = 'own'\nbackend-path = ['.']\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "count", "jobs"),
    [(_ONE_BY_ONE, 4, 1), (_BY_NINJA, 5, 2)],
    ids=["one-by-one", "ninja"],
)
def test_the_slowest_file_is_named_first(
    shop: Shop, how: str, count: int, jobs: int
) -> None:
    """With its seconds and memory, in the record of the wheel.

    A line says if a build doesn't use its jobs. Ninja's log also has what it linked.
    """
    write_sources(shop, how=how)
    shop.stage = {"jobs": 2}
    compiled = shop.provide().wheel.compiled
    assert compiled is not None
    slowest = compiled.slowest[0]
    assert slowest.file == "slow.c"
    assert slowest.seconds > 3
    assert slowest.memory is not None
    assert (compiled.count, compiled.jobs) == (count, jobs)
    assert compiled.seconds >= slowest.seconds
    line = "low-lib: own compiles one file at a time and uses 1 of 2 jobs"
    assert jobs == 1 or line not in shop.reports


@pytest.mark.slow
def test_a_build_after_a_kill_gets_fewer_jobs(shop: Shop) -> None:
    """If it was built with half the jobs, and also if it wasn't built at all."""
    shop.stage = {"jobs": 2}
    shop.machine = limited_machine(shop, free=10**10)
    shop.write(faults=["memory"])
    memory = shop.provide().wheel.memory
    assert memory is not None
    assert memory.kill == Kill(jobs=2, free=10**10 // 1024 * 1024)
    shop.reports.clear()
    shop.run = "run-2"
    shop.provide("low", "low-lib")
    why = "the last build was killed for memory at 2 jobs"
    assert shop.reports[0].startswith(f"building low-lib 1.0 with 1 job: {why}")

    shop.stage, shop.rules = {"jobs": 4}, PackageRules(env={"OTHER": "key"})
    with pytest.raises(BackendError):
        shop.provide()
    shop.reports.clear()
    shop.provide()
    assert shop.reports[0].startswith(f"building low-lib 1.0 with 1 job: {why}")
    assert [*Store(shop.store).failures("low-lib")] == []


def test_another_failure_is_not_tried_again(shop: Shop) -> None:
    """It would fail again."""
    shop.machine = ROOMY
    shop.write(faults=["raise"])
    with pytest.raises(BackendError) as caught:
        shop.provide()
    assert not caught.value.out_of_memory
    assert len(shop.reports) == 1


@pytest.mark.parametrize(
    ("stage", "jobs"),
    [
        ({"memory_per_job": 1}, "4"),
        ({"jobs": 3}, "3"),
        ({"memory_per_job": 10**18}, "1"),
        ({"env": {"MAX_JOBS": "7"}}, "7"),
    ],
)
def test_a_backend_is_told_its_jobs(
    shop: Shop, stage: dict[str, Any], jobs: str
) -> None:
    """As the machine and the stage allow; what the table declares wins."""
    shop.stage, shop.machine = stage, ROOMY
    shop.write(env=["MAX_JOBS", "MAKEFLAGS", "NVCC_THREADS"])
    wheel = shop.provide().wheel.path
    told = json.loads(read_from_wheel(wheel, "low_lib/env.json"))
    assert told["MAX_JOBS"] == jobs
    assert told["NVCC_THREADS"] == "1"


def test_jobs_and_memory_are_no_part_of_the_key(shop: Shop) -> None:
    """A wheel that was built with many is found with few."""
    built = shop.provide()
    shop.run, shop.machine = "run-2", ROOMY
    shop.stage = {"jobs": 3, "memory_per_job": 10**9}
    assert not shop.provide().is_built
    assert shop.provide().wheel.key == built.wheel.key
    (planned, _) = plan_outputs(shop.context(), shop.history({}))
    assert planned.reasons == ()


# Several Pythons -------------------------------------------------------------------


def test_a_wheel_that_fits_a_higher_python_is_built_once(shop: Shop) -> None:
    """The higher Python has a key of its own, and uses the wheel of the lower one.

    If another variable is set, it has to build its own.
    """
    own = shop.interpreter.tags[0]
    shop.write(tag=f"{own.interpreter}-abi3-{own.platform}")
    first = shop.provide()
    lower, context = shop.context(), shop.context()
    tags = (*cpython_tags((3, 99), ["cp399"], [own.platform]),)
    markers = cast("Any", {**context.interpreter.markers})
    markers.update(python_version="3.99", python_full_version="3.99.0")
    other = replace(context.interpreter, markers=markers, tags=tags)
    higher = replace(context, interpreter=other, find_lower=lambda: [lower])
    stage = context.graph.stages["low"]
    assert higher.own_recipe("low", first.output.name).key != first.wheel.key
    (result,) = provide_stage(higher, stage, shop.environment)
    assert result.wheel == first.wheel
    assert not result.is_built
    assert len(shop.wheels()) == 1
    other = replace(other, tags=other.tags[:1])  # for that version alone
    without = replace(shop.context(), interpreter=other, find_lower=lambda: [lower])
    shop.stage["env"] = {"ARCH": "9"}
    changed = replace(
        shop.context(), interpreter=higher.interpreter, find_lower=lambda: [lower]
    )
    for alone in (without, changed):
        with pytest.raises(BuildStagesError, match="isn't built yet"):
            alone.get_wheel("low", first.output.name)
