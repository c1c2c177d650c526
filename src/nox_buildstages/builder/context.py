"""Where the stages of one project are built, and what their wheels are made of."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nox_buildstages.environments import interpreter
from nox_buildstages.errors import (
    CommandError,
    MissingToolError,
    MissingWheelError,
    ToolError,
)
from nox_buildstages.indexes.logins import strip_secrets
from nox_buildstages.lock.files.lockfile import IndexPin, list_pins
from nox_buildstages.lock.files.pylock import move_paths
from nox_buildstages.run.screen import Screen
from nox_buildstages.sources import patches
from nox_buildstages.store.key import AppliedPatch, Ingredient, Recipe
from nox_buildstages.system.process import Command, run_checked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.utils import NormalizedName

    from nox_buildstages.builder.jobs.slots import JobPool
    from nox_buildstages.builder.sandbox import SandboxPolicy
    from nox_buildstages.config.graph import Graph
    from nox_buildstages.environments.sync import Syncer
    from nox_buildstages.lock.files.lockfile import Lock, LockedOutput, Pin
    from nox_buildstages.model import Interpreter, Project, Stage
    from nox_buildstages.run.journal import Journal
    from nox_buildstages.run.run import Run
    from nox_buildstages.sources.patches import PatchFile
    from nox_buildstages.sources.sources import Sources
    from nox_buildstages.store.remote import Remote
    from nox_buildstages.store.store import Store, StoredWheel
    from nox_buildstages.system.process import Runner


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What building is done with.

    Attributes:
        store: Keeps what was built.
        sources: Fetches what is to be built.
        syncer: Makes environments equal to locks.
        runner: Runs programs.
        isolator: Keeps build backends from the network.
        outer: The environment variables that nox was started with.
        report: Tells the user how far it is, a line at a time.
        run: What the sessions of this run of nox share.
        job_pool: The jobs that may run at once.
        remote: A store behind the store; None where there is none.
        screen: Where people see how far it is.
    """

    store: Store
    sources: Sources
    syncer: Syncer
    runner: Runner
    sandbox_policy: SandboxPolicy
    outer: Mapping[str, str]
    report: Callable[[str], None]
    run: Run
    job_pool: JobPool
    remote: Remote | None = None
    screen: Screen = field(default_factory=Screen)

    def probe(self, python: Path) -> Interpreter:
        """Return the properties of an interpreter.

        Raises:
            CommandError: The interpreter doesn't run.
        """
        cache = self.store.folder / "interpreters"
        return self.run.once(
            ("interpreter", interpreter.identify_interpreter(python)),
            lambda: interpreter.probe_interpreter(
                python, runner=self.runner, cache=cache
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildContext:
    """A project with its locks, as far as they are known, ready to be built.

    Attributes:
        project: What is declared.
        graph: Its stages in order.
        interpreter: What the environments are made for.
        tools: What it is done with.
        locks: By stage.
        logs: The folder that builds write their logs to.
    """

    project: Project
    graph: Graph
    interpreter: Interpreter
    tools: Tools
    locks: Mapping[str, Lock]
    logs: Path
    _recipes: dict[tuple[str, NormalizedName], Recipe] = field(default_factory=dict)
    _entries: dict[str, StoredWheel] = field(default_factory=dict)
    _versions: dict[str, str] = field(default_factory=dict)
    _patches: dict[NormalizedName, tuple[PatchFile, ...]] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        """The results of this run's outputs, from all of its processes."""
        return self.tools.run.journal

    def noted(self, stage: str, output: LockedOutput) -> dict[str, str]:
        """Return what the journal calls an output by."""
        return {
            "python": self.interpreter.markers["python_version"],
            "stage": self.project.stage_label(stage),
            "name": output.name,
            "version": str(output.metadata.version),
        }

    def pins(self, name: str) -> tuple[Pin, ...]:
        """Return the wheels in the environment of a stage, or of ``final``."""
        lock = self.locks[name]
        if not lock.series:  # while locks are made
            return list_pins(lock, self.interpreter)
        return self.tools.run.once(
            ("pins", lock.name, lock.series, self.interpreter),
            lambda: list_pins(lock, self.interpreter),
        )

    def pylock(self, name: str) -> Pylock:
        """Return the lock of a stage, or of ``final``, its files by absolute path."""
        folder = self.project.lock_dir
        return move_paths(
            self.locks[name].pylock, lambda path: os.path.normpath(folder / path)
        )

    def ingredients(
        self, name: str, *, without: Collection[str] = ()
    ) -> dict[str, Ingredient]:
        """Return the wheels of an environment, by hash.

        Args:
            name: Of the stage, or ``final``.
            without: What to leave out.

        Raises:
            MissingWheelError: A stage hasn't built one of them yet.
        """
        found: dict[str, Ingredient] = {}
        for pin in self.pins(name):
            if pin.name in without:
                continue
            if isinstance(pin, IndexPin):
                found[pin.name] = Ingredient(
                    version=str(pin.version), sha256=pin.sha256
                )
            else:
                found[pin.name] = Ingredient(
                    version=str(pin.version),
                    sha256=self.stored_wheel(pin.stage, pin.name).sha256,
                    stage=pin.stage,
                )
        return found

    def wheels(self, name: str) -> dict[NormalizedName, StoredWheel]:
        """Return the wheels that earlier stages provide to an environment.

        Raises:
            MissingWheelError: A stage hasn't built one of them yet.
        """
        return {
            pin.name: self.stored_wheel(pin.stage, pin.name)
            for pin in self.pins(name)
            if not isinstance(pin, IndexPin)
        }

    def stored_wheel(self, stage: str, output: NormalizedName) -> StoredWheel:
        """Return an output's wheel from the store.

        Raises:
            MissingWheelError: It hasn't been built yet.
        """
        wheel = self.find(self.recipe(stage, output))
        if wheel is None:
            raise MissingWheelError(
                stage=self.project.stage_label(stage), output=output
            )
        return wheel

    def find(self, recipe: Recipe) -> StoredWheel | None:
        """Return a wheel from the store; None where it hasn't been built yet."""
        key = recipe.key
        if key not in self._entries:
            entry = self.tools.store.find(key)
            if entry is None:
                return None
            self._entries[key] = entry
        return self._entries[key]

    def obtain(self, recipe: Recipe) -> StoredWheel | None:
        """Return a wheel from the store, which may get it from the remote one.

        Raises:
            UsageError: There is no driver for that.
        """
        entry, remote = self.find(recipe), self.tools.remote
        if entry is None and remote is not None:
            entry = remote.fetch(recipe)
            if entry is not None:
                self._entries[recipe.key] = entry
        return entry

    def foresee(self, recipe: Recipe) -> bool:
        """Whether the remote store says that it has a wheel.

        Nothing is fetched. What goes into the wheels that hold it is known then.

        Raises:
            UsageError: There is no driver for it.
        """
        remote = self.tools.remote
        entry = None if remote is None else remote.peek(recipe)
        if entry is not None:
            self._entries[recipe.key] = entry
        return entry is not None

    def share(self, recipe: Recipe) -> None:
        """Let the remote store have a wheel that was built just now.

        Raises:
            UsageError: There is no driver for it.
        """
        entry, remote = self.find(recipe), self.tools.remote
        if entry is not None and remote is not None:
            remote.put(entry)

    def forget(self, recipe: Recipe) -> None:
        """Look into the store anew for a wheel that was built just now."""
        self._entries.pop(recipe.key, None)

    def recipe(self, stage: str, output: NormalizedName) -> Recipe:
        """Return what an output is made of.

        Raises:
            MissingWheelError: An earlier stage's wheel goes into it and isn't there.
            MissingToolError: A program isn't there.
            ToolError: A program doesn't say its version.
            SourceError: A folder or a patch can't be read.
        """
        if (stage, output) not in self._recipes:
            locked = next(o for o in self.locks[stage].outputs if o.name == output)
            self._recipes[stage, output] = self.recipe_of(
                self.graph.stage(stage), locked
            )
        return self._recipes[stage, output]

    def recipe_of(
        self, stage: Stage, output: LockedOutput, *, without: Collection[str] = ()
    ) -> Recipe:
        """Return what an output is made of in a stage's environment.

        Args:
            stage: Whose environment.
            output: Of that stage, as it is locked.
            without: What to leave out of the environment.
        """
        markers = self.interpreter.markers
        rules = self.project.rules(output.name)
        return Recipe(
            name=output.name,
            version=str(output.metadata.version),
            source=self.tools.sources.identity(output.source),
            environment=self.ingredients(stage.name, without=without),
            env=strip_secrets(self.variables(stage, output.name)),
            config_settings=rules.config_settings,
            interpreter={
                "implementation": markers["implementation_name"],
                "version": markers["python_full_version"],
                "abi": self.interpreter.abi,
                "platform": self.interpreter.tags[0].platform,
            },
            tools={program: self._version(program, stage) for program in stage.tools},
            patches=tuple(
                AppliedPatch(sha256=file.sha256, name=file.patch.name)
                for file in self.patches(output.name)
            ),
            network=stage.network == "on",
        )

    def patches(self, output: NormalizedName) -> tuple[PatchFile, ...]:
        """Return the patches of an output's source.

        They are read once: those that a key is made of are those that are applied,
        even where someone writes to the files in between.

        Raises:
            SourceError: One can't be read.
        """
        if output not in self._patches:
            declared = self.project.rules(output).patches
            self._patches[output] = tuple(map(patches.read_patch, declared))
        return self._patches[output]

    def variables(self, stage: Stage, output: NormalizedName) -> dict[str, str]:
        """Return the variables that are declared for an output, or let through."""
        outer = self.tools.outer
        passed = {name: outer[name] for name in stage.pass_env if name in outer}
        return {**passed, **stage.env, **self.project.rules(output).env}

    def absent(self, stage: Stage) -> tuple[str, ...]:
        """Return the programs that a stage names and that aren't here."""
        return tuple(it for it in stage.tools if self._path(it) is None)

    def _path(self, program: str) -> str | None:
        return shutil.which(program, path=self.tools.outer.get("PATH"))

    def _version(self, program: str, stage: Stage) -> str:
        if program not in self._versions:
            path = self._path(program)
            if path is None:
                raise MissingToolError(tool=program, stage=stage.name)
            try:
                said = run_checked(self.tools.runner, Command(argv=(path, "--version")))
            except CommandError as error:
                raise ToolError(
                    tool=program,
                    stage=stage.name,
                    reason=error.reason,
                    output=error.output.strip(),
                ) from error
            self._versions[program] = said.strip()
        return self._versions[program]
