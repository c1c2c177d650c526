"""A project with locks, and the recipes of the wheels."""

from __future__ import annotations

import logging
import os
from functools import partial
from shlex import quote, split
from typing import TYPE_CHECKING

from nox_buildstages.environments import interpreter
from nox_buildstages.errors import BuildStagesError, CommandError
from nox_buildstages.indexes.url_secrets import strip_logins, strip_secrets
from nox_buildstages.lock.files.lockfile import IndexPin, StagePin
from nox_buildstages.model import (
    NVCC,
    Corrections,
    DirectorySource,
    fill_environment,
)
from nox_buildstages.store.key import (
    AppliedPatch,
    Ingredient,
    Recipe,
    digest_parts,
    digest_values,
    seal_values,
)
from nox_buildstages.system.machine import libc, processor
from nox_buildstages.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.compilers.versions import (
        CompilerVersions,
        ProgramFinder,
    )
    from nox_buildstages.builder.jobs.memory import MemoryNeed
    from nox_buildstages.builder.jobs.slots import JobPool
    from nox_buildstages.builder.sandbox.policy import SandboxPolicy
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.environments.sync import Syncer
    from nox_buildstages.lock.files.lockfile import LockedOutput, Pin
    from nox_buildstages.lock.files.selection import SelectedLock
    from nox_buildstages.model import Interpreter, Project, Stage
    from nox_buildstages.run.run import Run
    from nox_buildstages.sources.patches import PatchFile
    from nox_buildstages.sources.sources import Sources
    from nox_buildstages.store.memory import BuildMemory
    from nox_buildstages.store.remote import Remote
    from nox_buildstages.store.store import Store, StoredWheel
    from nox_buildstages.system.process import Runner

_LOG = logging.getLogger(__name__)

_TOP_AND_ONE = 2
"""The number of folders of a key in the store that has one wheel."""

SESSION = "session"
"""The kind of answers that a run remembers for one session.

Sources, programs and the store may change between the sessions of a run.
"""


class Tools(Value):
    """The services for builds."""

    store: Store
    sources: Sources
    syncer: Syncer
    runner: Runner
    sandbox_policy: SandboxPolicy
    run: Run
    job_pool: JobPool
    remote: Remote | None = None
    has_preflight: bool = True  # whether long builds are checked before they compile

    def probe(self, python: Path) -> Interpreter:
        """Return the description of an interpreter.

        Raises:
            CommandError: The interpreter doesn't run.
        """
        cache = self.store.folder / "interpreters"
        found = self.run.once(
            ("interpreter", *interpreter.stamp_interpreter(python)),
            lambda: interpreter.probe_interpreter(
                python, runner=self.runner, cache=cache
            ),
        )
        # One object for all environments: to compare two takes time.
        return self.run.once(("same interpreter", found), lambda: found)


class BuildContext(Value, eq=False):
    """A project with locks, ready for builds.

    No two contexts are equal, so recipes and wheels of different contexts stay apart.
    """

    project: Project
    graph: Graph
    interpreter: Interpreter
    tools: Tools
    locks: Mapping[str, SelectedLock]
    logs: Path
    environment: Environment | None = None
    """An environment of the interpreter, in which wheels of others are tried."""
    delivered: Mapping[str, str] = field(default_factory=dict)
    """The keys of the wheels in the wheelhouse, by project."""
    find_lower: Callable[[], Iterable[BuildContext]] = tuple
    """Returns the contexts of lower Pythons of the project, the lowest first."""

    def place(self, stage: str, output: LockedOutput | None = None) -> dict[str, str]:
        """Return the place of an event: a stage for an interpreter, or an output."""
        of_output = output and {
            "output": output.name,
            "version": str(output.metadata.version),
        }
        return {
            "python": self.interpreter.version,
            "stage": self.project.stage_label(stage),
            **(of_output or {}),
        }

    def pins(self, name: str) -> tuple[Pin, ...]:
        """Return the wheels in the environment of a stage, or of ``final``."""
        return self.locks[name].pins

    def pylock(self, name: str) -> Pylock:
        """Return the lock of a stage, or of ``final``, with absolute paths."""
        from nox_buildstages.lock.files.pylock import move_paths  # noqa: PLC0415 - slow

        folder = self.project.lock_dir
        return move_paths(
            self.locks[name].pylock, lambda path: os.path.normpath(folder / path)
        )

    def ingredients(
        self, name: str, *, without: Collection[str] = ()
    ) -> dict[str, Ingredient]:
        """Return the wheels of an environment, by name of the project.

        Raises:
            BuildStagesError: The store lacks a stage's wheel.
        """
        found: dict[str, Ingredient] = {}
        for pin in self.pins(name):
            if pin.name in without:
                continue
            version = str(pin.version)
            if isinstance(pin, IndexPin):
                found[pin.name] = Ingredient(version=version, sha256=pin.sha256)
            else:
                sha256 = self.get_wheel(pin.stage, pin.name).sha256
                found[pin.name] = Ingredient(
                    version=version, sha256=sha256, stage=pin.stage
                )
        return found

    def wheels(self, name: str) -> dict[NormalizedName, StoredWheel]:
        """Return the wheels of stages in an environment.

        Raises:
            BuildStagesError: The store lacks a wheel.
        """
        return {
            pin.name: self.get_wheel(pin.stage, pin.name)
            for pin in self.pins(name)
            if not isinstance(pin, IndexPin)
        }

    def get_wheel(self, stage: str, output: NormalizedName) -> StoredWheel:
        """Return the wheel of an output.

        Raises:
            BuildStagesError: The store lacks the wheel.
        """
        wheel = self.find_wheel(self.recipe(stage, output))
        if wheel is None:
            label = self.project.stage_label(stage)
            raise BuildStagesError(
                subject=f"{output} (stage {label})",
                problem="it isn't built yet, or its wheel in the store is damaged",
                hint=f"build it:\n  nox -s {quote(f'build-stage-{label}')}",
            )
        return wheel

    def find_wheel(self, recipe: Recipe) -> StoredWheel | None:
        """Return a wheel from the store; None if missing."""
        run, key = self.tools.run, recipe.key
        wheel = run.once(
            (SESSION, "wheel", key, self), lambda: self.find_stored(recipe)
        )
        if wheel is None:
            run.forget(SESSION, "wheel", key, self)
        return wheel

    def find_stored(self, recipe: Recipe) -> StoredWheel | None:
        """Return a wheel from the store; hash it again only if a file was replaced.

        If the wheel was built again meanwhile, it is the one that this run has seen. A
        wheel whose build started no compiler is found for every compiler, and one for a
        single processor on machines with that processor.
        """
        found = [*filter(None, map(self._find_kept, recipe.alternatives))]
        if len(found) > 1:  # the newest first
            found.sort(key=lambda it: it.log.stat().st_mtime_ns, reverse=True)
        wheel = found[0] if found else self._find_kept(recipe.for_processor)
        if wheel is None:
            _LOG.debug("the local store lacks %s", recipe.key)
        return wheel

    def _find_kept(self, recipe: Recipe) -> StoredWheel | None:
        """Return the wheel that is kept under a recipe."""
        wheel = self._find_by_key(recipe.key)
        return wheel if wheel and recipe.accepts(wheel.recipe) else None

    def _find_by_key(self, key: str) -> StoredWheel | None:
        run, store = self.tools.run, self.tools.store
        stamps = store.stamps(key)
        if not stamps:
            return None
        seen = run.wheels_in_use().get(key) if len(stamps) > _TOP_AND_ONE else None
        return run.once(
            ("stored", key, seen, *stamps.items()),
            lambda: (store.find(key, seen) if seen else None) or store.find(key),
        )

    def fetch_wheel(self, recipe: Recipe) -> StoredWheel | None:
        """Return a wheel from the store, or from the remote store.

        Raises:
            UsageError: The remote store has no driver.
        """
        wheel, remote = self.find_wheel(recipe), self.tools.remote
        if wheel is None and remote is not None:
            check = self._check_download
            fetched = (remote.fetch(it, check=check) for it in recipe.all_alternatives)
            wheel = next(filter(None, fetched), None)
            if wheel is not None:
                self.use_wheel(recipe, wheel)
        return wheel

    def _check_download(self, path: Path) -> None:
        """Check a wheel that another machine has built.

        Raises:
            WheelError: The wheel isn't valid, or can't be installed.
        """
        from nox_buildstages.builder.try_wheel import try_wheel  # noqa: PLC0415 - few have a remote store
        from nox_buildstages.wheels.wheel import read_wheel, verify_record  # noqa: PLC0415

        verify_record(path)
        wheel, tools = read_wheel(path), self.tools
        if self.environment is not None:
            try_wheel(
                wheel,
                self.environment,
                syncer=tools.syncer,
                store=tools.store,
                scratch=path.parent / "trial",
            )

    def stages_in(self, name: str) -> tuple[str, ...]:
        """Return the stages whose wheels are in an environment, each once."""
        pins = (pin for pin in self.pins(name) if isinstance(pin, StagePin))
        return tuple(dict.fromkeys(pin.stage for pin in pins))

    def missing_wheels(self, name: str) -> tuple[NormalizedName, ...]:
        """Return the outputs to build before an environment can be made, in order.

        Raises:
            UsageError: The remote store has no driver.
        """
        missing: dict[NormalizedName, None] = {}

        def find(name: str) -> None:
            for stage in self.stages_in(name):
                find(stage)
                held = {it.name for it in self.pins(stage) if isinstance(it, StagePin)}
                for output in self.locks[stage].outputs:
                    # The key of a wheel depends on the wheels in its environment.
                    if missing.keys().isdisjoint(held):
                        recipe = self.recipe(stage, output.name)
                        if self.fetch_wheel(recipe) is not None:
                            continue
                    missing[output.name] = None

        find(name)
        return tuple(missing)

    def has_remote_wheel(self, recipe: Recipe) -> bool:
        """Whether the remote store has a wheel, without fetching the wheel.

        Afterwards the recipes of dependent wheels are known.

        Raises:
            UsageError: The remote store has no driver.
        """
        remote = self.tools.remote
        wheels = () if remote is None else map(remote.peek, recipe.all_alternatives)
        wheel = next(filter(None, wheels), None)
        if wheel is not None:
            self.use_wheel(recipe, wheel)
        return wheel is not None

    def use_wheel(self, recipe: Recipe, wheel: StoredWheel) -> None:
        """Take a wheel for that of a recipe in this session."""
        self.tools.run.once((SESSION, "wheel", recipe.key, self), lambda: wheel)

    def recipe(self, stage: str, output: NormalizedName) -> Recipe:
        """Return the recipe of an output's wheel, perhaps the recipe of a lower Python.

        The wheel of the lowest suitable Python counts, if the store has the wheel.

        Raises:
            BuildStagesError: The store lacks a wheel of an earlier stage.
            BuildStagesError: A tool of the stage isn't on PATH.
            BuildStagesError: A tool of the stage doesn't print a version.
            SourceError: A directory or a patch can't be read.
        """
        return self.tools.run.once(
            (SESSION, "recipe", self, stage, output),
            lambda: self._find_shared(stage, output) or self.own_recipe(stage, output),
        )

    def locked_output(self, stage: str, output: NormalizedName) -> LockedOutput:
        """Return the entry of an output in the lock of its stage."""
        return next(it for it in self.locks[stage].outputs if it.name == output)

    def is_shared(self, recipe: Recipe) -> bool:
        """Whether another Python builds the wheel of a recipe."""
        version = self.interpreter.markers["python_full_version"]
        return recipe.interpreter["version"] != version

    def _find_shared(self, stage: str, output: NormalizedName) -> Recipe | None:
        """Return the recipe of a lower Python, if the wheel suits this Python.

        The tags decide, and both Pythons have locked the same metadata.
        """
        for lower in self.find_lower():
            try:
                recipe = lower.own_recipe(stage, output)
                own = self.own_recipe(stage, output)
            except BuildStagesError:  # a wheel of an earlier stage isn't built yet
                continue
            wheel = lower.find_wheel(recipe)
            if wheel is None or not own.differs_by_python(recipe):
                continue
            from packaging.utils import parse_wheel_filename  # noqa: PLC0415 - few have several Pythons

            tags = parse_wheel_filename(wheel.path.name)[3]
            locked = [
                one.locked_output(stage, output).metadata for one in (lower, self)
            ]
            if locked[0] == locked[1] and not tags.isdisjoint(self.interpreter.tags):
                return recipe
        return None

    def own_recipe(self, stage: str, output: NormalizedName) -> Recipe:
        """Return the recipe of an output's wheel if this Python builds it.

        Raises:
            BuildStagesError: As ``recipe`` does.
        """

        def find() -> Recipe:
            locked = self.locked_output(stage, output)
            recipe = self.make_recipe(self.graph.stages[stage], locked)
            if isinstance(locked.source, DirectorySource):
                recipe = self._keep_source(recipe, stage)
            if _LOG.isEnabledFor(logging.DEBUG):
                parts = digest_parts(recipe.to_dict())
                _LOG.debug("key of %s: %s from %s", output, recipe.key, parts)
            return recipe

        return self.tools.run.once((SESSION, "own recipe", self, stage, output), find)

    def _keep_source(self, recipe: Recipe, stage: str) -> Recipe:
        """Return a recipe with the files of its folder that this run has used.

        Somebody may have changed the folder while, or after, the output was built.
        """
        label, python = self.project.stage_label(stage), self.interpreter.version
        for event in self.tools.run.events_of(label):
            known = event.facts.get("source", recipe.source)
            if (event.output, event.python) == (recipe.name, python) and (
                known != recipe.source
            ):
                self.tools.run.report_once(
                    f"{recipe.name}: its folder has changed since this run used it; the"
                    " next run builds it again"
                )
                return replace(recipe, source=known)
        return recipe

    def make_recipe(
        self, stage: Stage, output: LockedOutput, *, without: Collection[str] = ()
    ) -> Recipe:
        """Make the recipe of an output in a stage's environment."""
        markers = self.interpreter.markers
        rules = self.project.rules(output.name)
        own_cuda = self.has_own_cuda(stage, output.name)
        passed = self.pass_env_for_key(stage, output.name)
        return Recipe(
            name=output.name,
            version=str(output.metadata.version),
            source=self.tools.run.once(
                (SESSION, "source", output.source),
                lambda: self.tools.sources.identity(output.source),
            ),
            environment=self.ingredients(stage.name, without=without),
            env=strip_secrets(self._declared(stage, output.name)),
            config_settings=rules.config_settings,
            requires_dist=(
                *sorted({f"+ {it.text}" for it in rules.requires_dist_add}),
                *sorted({f"- {it}" for it in rules.requires_dist_remove}),
            ),
            interpreter={
                "implementation": markers["implementation_name"],
                "version": markers["python_full_version"],
                "abi": self.interpreter.abi,
                "platform": self.interpreter.tags[0].platform,
                "compilation": self.interpreter.compilation,
            },
            tools={
                tool: self._version(tool, stage, output.name)
                for tool in stage.tools or ()
                if not (own_cuda and tool == "nvcc")  # an ingredient
            },
            machine=self._machine(stage, output.name) if stage.tools is None else {},
            patches=tuple(
                AppliedPatch(sha256=file.sha256, name=file.patch.name)
                for file in self.patches(output.name)
            ),
            network=stage.network == "on",
            open_files=stage.sandbox == "off",
            find_processor=processor,
            own_cuda=own_cuda,
            code=stage.code,
            passed=seal_values(passed, self.tools.store.salt) if passed else {},
            passed_digest=self.tools.run.once(
                ("passed", *sorted(passed.items())), lambda: digest_values(passed)
            )
            if passed
            else "",
        )

    def corrections(self, stage: Stage, output: NormalizedName) -> Corrections:
        """Return what the table changes in the METADATA of an output's wheel.

        Raises:
            LocalVersionError: A requirement names a project outside the environment.
        """
        from nox_buildstages.lock.resolve.local_versions import added_requirements  # noqa: PLC0415 - to build

        rules = self.project.rules(output)
        return Corrections(
            is_labelled=rules.local_version is not None,
            add=added_requirements(
                rules.requires_dist_add,
                self.pins(stage.name),
                output=output,
                stage=stage.name,
            ),
            remove=rules.requires_dist_remove,
        )

    def patches(self, output: NormalizedName) -> tuple[PatchFile, ...]:
        """Return the patches of an output's source.

        The files are read once: the key describes the applied patches, even if somebody
        edits the files in between.

        Raises:
            SourceError: A patch can't be read.
        """
        declared = self.project.rules(output).patches
        if not declared:
            return ()
        from nox_buildstages.sources.patches import read_patch  # noqa: PLC0415 - few have one

        return self.tools.run.once(
            (SESSION, "patches", declared),
            lambda: tuple(map(read_patch, declared)),
        )

    def variables(
        self, stage: Stage, output: NormalizedName, environment: Path | None = None
    ) -> dict[str, str]:
        """Return the variables from ``env`` and ``pass-env`` for an output.

        With the path of an environment, declared values name it in place of ``{env}``.
        """
        declared = self._declared(stage, output)
        passed = self.pass_env_values(stage, output)
        if environment is not None:
            declared = {
                name: fill_environment(value, str(environment))
                for name, value in declared.items()
            }
        return {**passed, **declared}

    def pass_env_for_key(self, stage: Stage, output: NormalizedName) -> dict[str, str]:
        """Return the set variables of ``pass-env``, without logins, for a key."""
        return strip_logins(self.pass_env_values(stage, output))

    def pass_env_values(self, stage: Stage, output: NormalizedName) -> dict[str, str]:
        """Return the variables of ``pass-env`` that are set."""
        if not stage.pass_env:
            return {}
        outer, declared = self.tools.run.outer, self._declared(stage, output)
        hidden = {*declared, *self.ignored_variables(stage, output)}
        names = (it for it in stage.pass_env if it in outer and it not in hidden)
        return {name: outer[name] for name in names}

    def _declared(self, stage: Stage, output: NormalizedName) -> dict[str, str]:
        """Return ``env`` of an output."""
        return {**stage.env, **self.project.rules(output).env}

    def has_own_cuda(self, stage: Stage, output: NormalizedName) -> bool:
        """Whether an output is built with the nvcc of its environment.

        A ``CUDA_HOME`` in the table's ``env`` overrides it.
        """
        return self._has_nvcc(stage) and not self.names_cuda(stage, output)

    def names_cuda(self, stage: Stage, output: NormalizedName) -> bool:
        """Whether the table's ``env`` has a ``CUDA_HOME`` for an output."""
        return "CUDA_HOME" in self._declared(stage, output)

    def _has_nvcc(self, stage: Stage) -> bool:
        """Whether the environment of a stage contains nvcc."""
        return any(pin.name == NVCC for pin in self.pins(stage.name))

    def ignored_variables(
        self, stage: Stage, output: NormalizedName
    ) -> tuple[str, ...]:
        """Return the variables of ``pass-env`` that would name another CUDA."""
        if not (stage.pass_env and self.has_own_cuda(stage, output)):
            return ()
        from nox_buildstages.environments.cuda import TOOLKIT_VARIABLES  # noqa: PLC0415 - few compile CUDA

        return tuple(it for it in stage.pass_env if it in TOOLKIT_VARIABLES)

    def memory_need(
        self, stage: Stage, output: LockedOutput, earlier: Iterable[BuildMemory]
    ) -> MemoryNeed:
        """Return the memory that each compiler of an output may need."""
        from nox_buildstages.builder.jobs.memory import choose_need  # noqa: PLC0415 - to build
        from nox_buildstages.builder.jobs.slots import job_variables  # noqa: PLC0415
        from nox_buildstages.preflight.recipe_facts import memory_of  # noqa: PLC0415
        from nox_buildstages.preflight.source_facts import torch_of  # noqa: PLC0415

        known = memory_of(
            output.name,
            output.metadata.version,
            torch=torch_of(self.pins(stage.name)),
            variables={**job_variables(1), **self.variables(stage, output.name)},
        )
        return choose_need(stage, earlier, known)

    def missing_tools(self, stage: Stage) -> tuple[str, ...]:
        """Return the tools of a stage that aren't found, nor in its environment."""
        outputs = self.locks[stage.name].outputs
        finders = [self.finder(stage, it.name) for it in outputs]
        return tuple(
            tool
            for tool in stage.tools or ()
            if not (tool == "nvcc" and self._has_nvcc(stage))
            and not all(it.find(split(tool)[0]) for it in finders)
        )

    def finder(self, stage: Stage, output: NormalizedName) -> ProgramFinder:
        """Return what finds the programs that a build of an output would find."""
        from nox_buildstages.builder.compilers.versions import ProgramFinder  # noqa: PLC0415

        ignored = self.ignored_variables(stage, output)
        variables = self.variables(stage, output)
        return ProgramFinder(
            variables={it: variables[it] for it in variables if it not in ignored},
            outer=self.tools.run.outer,
            runner=self.tools.runner,
            cache=self.tools.store.folder / "interpreters",
            preferred=dict(
                zip(("cc", "c++"), self.interpreter.compilers, strict=False)
            ),
        )

    def _machine(self, stage: Stage, output: NormalizedName) -> Mapping[str, str]:
        """Return the versions of the machine's compilers and C library."""
        run, finder = self.tools.run, self.finder(stage, output)
        own_cuda = self.has_own_cuda(stage, output)
        question = ("machine", own_cuda, *sorted(finder.choices.items()))

        def ask() -> CompilerVersions:
            return run.once(question, lambda: finder.compilers(has_nvcc=own_cuda))

        def find() -> Mapping[str, str]:
            if not ask().is_current:  # another session may have changed them
                run.forget(*question)
            return {**ask().versions, "libc": libc()}

        return run.once((SESSION, *question), find)

    def _version(self, tool: str, stage: Stage, output: NormalizedName) -> str:
        """Return what a tool of a stage prints about its version."""
        name, *words = split(tool)
        finder = self.finder(stage, output)
        programs = finder.find(name)
        if not programs:
            hint, details = f"install {name}", []
            if name == "nvcc":
                from nox_buildstages.environments.cuda import NVCC_12, TOOLKIT  # noqa: PLC0415 - an error

                hint = f'install it, or add "{TOOLKIT}" to dependencies'
                if any(pin.name == NVCC_12 for pin in self.pins(stage.name)):
                    details = [f"{NVCC_12} contains no nvcc; wheels have it from 13 on"]
                    hint = "install the CUDA 12 toolkit"
            raise BuildStagesError(
                subject=f"stage {stage.name}",
                problem=f"its tool {name!r} isn't on PATH",
                details=details,
                hint=hint,
            )
        words = words or ["--version"]
        try:
            versions = [
                self.tools.run.once(
                    (SESSION, "tool", program, *words, *finder.variables.items()),
                    partial(finder.ask_tool, program, *words),
                )
                for program in programs
            ]
        except CommandError as error:
            raise BuildStagesError(
                subject=f"stage {stage.name}",
                problem=f"`{name} {' '.join(words)}` failed ({error.reason})",
                details=error.output.strip().splitlines(),
                hint="name only programs in tools that support --version, or commands"
                " that succeed",
            ) from error
        return "\n".join(dict.fromkeys(versions))
