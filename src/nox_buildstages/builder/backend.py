"""PEP 517 hooks, run by a stage's interpreter."""

from __future__ import annotations

import time
import warnings
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from pyproject_hooks import (
    BackendUnavailable,
    BuildBackendHookCaller,
    BuildBackendWarning,
    HookMissing,
)

from nox_buildstages.builder.home import HomeSettings
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.errors import BUILD_WHEEL, BackendError, CommandError
from nox_buildstages.indexes.mask import Mask
from nox_buildstages.system.files import read_file
from nox_buildstages.system.orphans import end_orphans
from nox_buildstages.system.process import USUAL_UMASK, Command
from nox_buildstages.value import Value, field, replace
from nox_buildstages.wheels import core_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nox_buildstages.builder.diagnosis.neighbours import Origin
    from nox_buildstages.builder.diagnosis.situation import Situation
    from nox_buildstages.builder.sandbox.sandbox import Sandbox
    from nox_buildstages.model import ConfigSettings
    from nox_buildstages.sources.metadata import BuildSystem
    from nox_buildstages.system.process import Runner
    from nox_buildstages.wheels.core_metadata import CoreMetadata

Kind: TypeAlias = Literal["wheel", "editable"]
"""A regular wheel, or an editable wheel that points to the source (PEP 660)."""

_CMAKE_ARGS = "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON"
"""Else libraries that are linked with others of their build have its path, which CMake
clears later, but not without a trace."""

_WARNINGS = Lock()
"""Held while warnings are caught, which isn't safe in several threads."""


class Backend(Value):
    """The build backend of a source tree."""

    situation: Situation
    """The facts that hints about a failure take into account."""
    tree: Path
    system: BuildSystem
    python: Path
    env: Mapping[str, str]  # all variables of the hooks
    settings: ConfigSettings
    log: Path
    runner: Runner
    sandbox: Sandbox
    home_settings: HomeSettings = field(default_factory=HomeSettings)
    mask: Mask = field(default_factory=Mask, repr=False)
    """Values of passed variables, which neither the log nor an error gets."""
    attend: Callable[[], None] | None = None
    """Called regularly while a hook runs; an exception ends the hook."""
    supervisor: Supervisor = field(default_factory=Supervisor)
    origin: Origin | None = None  # of a copied folder

    def with_build_dir(self, folder: Path) -> Backend:
        """Return a backend with a permanent folder for object files, if possible.

        By default scikit-build-core and meson-python compile in a temporary directory,
        so an interrupted build can't resume. Config settings and variables of the table
        take precedence.
        """
        kind, settings = self.system.backend, self.settings
        if kind == "scikit_build_core.build":
            if settings.keys().isdisjoint(("build-dir", "skbuild.build-dir")):
                own = {"SKBUILD_BUILD_DIR": str(folder), "CMAKE_ARGS": _CMAKE_ARGS}
                return replace(self, env={**own, **self.env})
        elif kind == "mesonpy" and settings.keys().isdisjoint(
            ("build-dir", "builddir")
        ):
            return replace(self, settings={**settings, "build-dir": str(folder)})
        return self

    def get_requires(self, kind: Kind = "wheel") -> tuple[str, ...]:
        """Return the build requirements in addition to ``[build-system]``.

        Raises:
            BackendError: The hook failed.
        """
        hook = f"get_requires_for_build_{kind}"
        with self._run_hook(hook) as hooks:
            answer = getattr(hooks, hook)(self.hook_settings())
        try:
            if isinstance(answer, list) and all(isinstance(it, str) for it in answer):
                return tuple(it for it in answer if Requirement(it))
            problem = None
        except InvalidRequirement as error:
            problem = error
        reason = f"it returned {answer!r}, which is no list of requirements"
        raise self._failure(hook, reason) from problem

    def prepare_metadata(self, folder: Path) -> CoreMetadata | None:
        """Return the wheel's metadata; None if the backend lacks the hook.

        Raises:
            BackendError: The hook failed.
        """
        hook = "prepare_metadata_for_build_wheel"
        try:
            with self._run_hook(hook) as hooks:
                name = hooks.prepare_metadata_for_build_wheel(
                    self._path(folder), self.hook_settings(), _allow_fallback=False
                )
        except HookMissing:
            return None
        try:
            metadata = folder / str(name) / "METADATA"
            return core_metadata.parse_metadata(read_file(metadata))
        except (OSError, ValueError) as error:
            raise self._failure(hook, f"its METADATA can't be read: {error}") from error

    def build_wheel(self, folder: Path) -> str:
        """Build a wheel into a folder; return the file name.

        Raises:
            BackendError: The hook failed.
        """
        with self._run_hook(BUILD_WHEEL) as hooks:
            return str(hooks.build_wheel(self._path(folder), self.hook_settings()))

    def build_editable(self, folder: Path) -> str:
        """Build an editable wheel into a folder; return the file name (PEP 660).

        Raises:
            BackendError: The hook failed, or the backend lacks the hook.
        """
        hook = "build_editable"
        try:
            with self._run_hook(hook) as hooks:
                return str(
                    hooks.build_editable(self._path(folder), self.hook_settings())
                )
        except HookMissing as error:
            raise self._failure(hook, "its build backend has no such hook") from error

    @contextmanager
    def _run_hook(self, hook: str) -> Iterator[BuildBackendHookCaller]:
        """Yield the hooks; translate errors, and log warnings."""
        start = self.log.stat().st_size if self.log.is_file() else 0
        begun = time.monotonic()
        caught: list[list[warnings.WarningMessage]] = []
        try:
            with ExitStack() as after_run:
                yield BuildBackendHookCaller(
                    str(self.tree),
                    self.system.backend,
                    self.system.backend_path,
                    runner=partial(self._run, after_run, caught),
                    python_executable=str(self.python),
                )
            with self.log.open("a", encoding="utf-8") as log:
                log.writelines(
                    self.mask.hide(f"warning: {it.message}\n") for it in chain(*caught)
                )
        except CommandError as error:
            seconds = time.monotonic() - begun
            raise self._failure(hook, error.reason, start, seconds) from error
        except BackendUnavailable as error:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(self.mask.hide(error.traceback))
            reason = f"its build backend {self.system.backend!r} can't be imported"
            raise self._failure(hook, reason, start) from error
        except FileNotFoundError as error:  # pyproject_hooks' own answer file
            raise self._failure(hook, "it ended without an answer") from error
        except (ValueError, OSError) as error:
            raise self._failure(hook, f"{type(error).__name__}: {error}") from error

    def _run(
        self,
        after_run: ExitStack,
        caught: list[list[warnings.WarningMessage]],
        cmd: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command for pyproject_hooks, in the sandbox and under supervision.

        As soon as it has ended, the warnings of the backend come, and are caught.
        """
        command = Command(
            argv=tuple(cmd),
            cwd=None if cwd is None else self.tree,
            env={**self.env, **(extra_environ or {})},
            log=self.log,
            mask=self.mask,
            attend=self.attend,
            umask=USUAL_UMASK,
        )
        # The hooks run by a script of pyproject_hooks, with a folder for the answer.
        sandbox = self.sandbox.allow(read=[cmd[1]], write=[cmd[-1]])
        sandboxed = sandbox.wrap(command, is_together=True)
        completed = self.runner(self.supervisor.around(sandboxed))
        if completed.returncode < 0:
            # It may be the supervisor that was killed.
            end_orphans(self.supervisor.build)
            reason = f"killed by signal {-completed.returncode}"
            raise CommandError(command=str(command), reason=reason)
        if completed.returncode:
            reason = f"exit status {completed.returncode}"
            raise CommandError(command=str(command), reason=reason)
        after_run.enter_context(_WARNINGS)
        catch = warnings.catch_warnings(record=True)
        caught.append(after_run.enter_context(catch))
        warnings.simplefilter("always", BuildBackendWarning)

    def _path(self, folder: Path) -> str:
        """Return the path of a folder, as the sandbox shows it."""
        return self.sandbox.translate(str(folder))

    def hook_settings(self) -> dict[str, str | list[str]]:
        """Return the config settings, with paths as the sandbox shows them."""
        translate = self.sandbox.translate
        return {
            name: translate(value)
            if isinstance(value, str)
            else [*map(translate, value)]
            for name, value in self.settings.items()
        }

    def _failure(
        self, hook: str, reason: str, start: int = 0, seconds: float = 0.0
    ) -> BackendError:
        """Return the error of a hook, with the cause in the log after a position."""
        from nox_buildstages.builder.diagnosis.diagnose import diagnose  # noqa: PLC0415 - few builds fail

        situation = replace(
            self.situation,
            seen=self.env,
            source=find_modules(self.tree),
            is_offline=self.sandbox.is_off,
            is_restricted=self.sandbox.rules is not None,
            home=self.home_settings,
        )
        reason = self.mask.hide(reason)
        diagnosis = diagnose(self.log, start, reason, situation)
        seen = (self.tree, Path(self._path(self.tree)))
        hint = self.origin.find_hint(self.log, seen) if self.origin else ""
        return BackendError(
            output=situation.output,
            stage=situation.stage,
            hook=hook,
            reason=reason,
            version=situation.version,
            select=situation.select,
            seconds=seconds,
            is_compile_error=diagnosis.is_compile_error,
            log_length=diagnosis.log_length,
            details=diagnosis.lines,
            log=self.log,
            hint=hint or diagnosis.hint.text,
            out_of_memory=diagnosis.out_of_memory,
            full_disk=diagnosis.full_disk,
            excerpt=diagnosis.excerpt,
            module=diagnosis.hint.module,
            requirement=diagnosis.hint.requirement,
            may_work_elsewhere=diagnosis.hint.may_work_elsewhere,
            refused=diagnosis.hint.refused,
        )


def find_modules(tree: Path) -> frozenset[str]:
    """Return the modules beside the ``pyproject.toml`` of a source."""
    packages = (path.parent for path in tree.glob("*/__init__.py"))
    return frozenset(path.stem for path in (*tree.glob("*.py"), *packages))
