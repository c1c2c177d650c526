"""One output's build, with all it needs at hand."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nox_buildstages.builder.backend import Backend
from nox_buildstages.builder.compilers import cache as caching
from nox_buildstages.builder.jobs.slots import job_variables
from nox_buildstages.environments.snapshot import guard_environment
from nox_buildstages.environments.variables import backend_variables
from nox_buildstages.sources import metadata as source_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.builder.sandbox import Sandbox
    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.lock.files.lockfile import LockedOutput
    from nox_buildstages.model import Stage
    from nox_buildstages.store.build_dir import BuildDirectory
    from nox_buildstages.store.key import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """An output to be built.

    Attributes:
        context: Where.
        stage: In which stage.
        output: What.
        environment: Equal to the stage's lock.
        jobs: How many compilers may run at once.
        is_retry: Whether it has been tried before, with more jobs.
        cache: The compiler cache that is at work for it, if one is.
        attend: Called again and again while a hook runs; what it raises ends it.
    """

    context: BuildContext
    stage: Stage
    output: LockedOutput
    environment: Environment
    jobs: int = 1
    is_retry: bool = False
    cache: caching.CompilerCache | None = None
    attend: Callable[[], None] | None = None

    @property
    def recipe(self) -> Recipe:
        """Everything that goes into the wheel."""
        return self.context.recipe(self.stage.name, self.output.name)

    @property
    def log(self) -> Path:
        """Where the backend's output goes."""
        return self.context.logs / f"{self.output.name}.log"

    @property
    def place(self) -> BuildDirectory:
        """The folder that it is built in."""
        return self.context.tools.store.build_dir(self.recipe.key)

    @property
    def goes_on(self) -> bool:
        """Whether an earlier build left a tree that it can go on in."""
        return self.place.half_built(self.environment.location) is not None

    @property
    def sandbox(self) -> Sandbox:
        """Whether the backend reaches the network.

        Raises:
            NetworkError: It must not, and can't be kept from it.
        """
        return self.context.tools.sandbox_policy.sandbox(self.stage)

    @contextmanager
    def cached(self) -> Iterator[Job]:
        """Yield it with its stage's compiler cache at work, if there is one.

        Raises:
            CompilerCacheError: It isn't there, or doesn't work.
        """
        context = self.context
        site = caching.CacheRequest(
            tools=context.tools,
            stage=self.stage.name,
            sandbox=self._isolation_in(self.place.folder),
            declared=context.variables(self.stage, self.output.name),
        )
        with caching.at_work(caching.chosen(context, self.stage), site) as cache:
            yield replace(self, cache=cache)

    def _isolation_in(self, place: Path) -> Sandbox:
        """Return one that shows a folder at the path that all builds have."""
        return self.sandbox.showing(place, self.context.tools.store.here)

    def watched(self) -> AbstractContextManager[None]:
        """Refuse whatever is built meanwhile if it changes the environment."""
        return guard_environment(
            self.environment,
            output=self.output.name,
            stage=self.stage.name,
            log=self.log,
        )

    def backend(self, tree: Path, *, home: Path) -> Backend:
        """Return the build backend of the unpacked source.

        Args:
            tree: The source.
            home: A folder that takes the place of the user's, beside the source.
        """
        context = self.context
        declared = context.variables(self.stage, self.output.name)
        if self.cache is None:
            declared |= caching.unused(context.tools, declared)
        else:
            declared = self.cache.among(declared)
        return Backend(
            output=self.output.name,
            stage=self.stage.name,
            tree=tree,
            system=source_tree.read_build_system(tree),
            python=self.environment.python,
            env=backend_variables(
                context.tools.outer,
                self.environment,
                declared={**job_variables(self.jobs), **declared},
                home=home,
            ),
            settings=context.project.rules(self.output.name).config_settings,
            log=self.log,
            runner=context.tools.runner,
            sandbox=self._isolation_in(home.parent),
            attend=self.attend,
        )
