"""PEP 517 hooks, run in a stage's interpreter."""

from __future__ import annotations

import warnings
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from pyproject_hooks import (
    BackendUnavailable,
    BuildBackendHookCaller,
    BuildBackendWarning,
    HookMissing,
)

from nox_buildstages.builder.hints import hint
from nox_buildstages.builder.supervisor import Supervisor
from nox_buildstages.errors import BackendError, CommandError
from nox_buildstages.system.process import Command
from nox_buildstages.wheels import core_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.builder.sandbox import Sandbox
    from nox_buildstages.model import ConfigSettings
    from nox_buildstages.sources.metadata import BuildSystem
    from nox_buildstages.system.process import Runner
    from nox_buildstages.wheels.core_metadata import CoreMetadata

Kind: TypeAlias = Literal["wheel", "editable"]
"""Of wheels: such as hold a project, and such as lead to its source (PEP 660)."""

LAST_LINES = 30
"""Of a log, that are shown when a hook fails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A source tree's build backend, ready to be called.

    Attributes:
        output: What is built, for messages.
        stage: In which stage, for messages.
        tree: The source tree.
        system: How it is built.
        python: The stage's interpreter.
        env: All the variables that it sees.
        settings: Config settings for each hook.
        log: Where its output goes.
        runner: Runs it.
        sandbox: Whether it reaches the network.
        attend: Called again and again while a hook runs; what it raises ends the hook.
        supervisor: Ends it when we end.
    """

    output: str
    stage: str
    tree: Path
    system: BuildSystem
    python: Path
    env: Mapping[str, str]
    settings: ConfigSettings
    log: Path
    runner: Runner
    sandbox: Sandbox
    attend: Callable[[], None] | None = None
    supervisor: Supervisor = field(default_factory=Supervisor)

    def requires(self, kind: Kind = "wheel") -> tuple[str, ...]:
        """Return what it wants for building a wheel beyond what is declared.

        Raises:
            BackendError: The hook failed.
        """
        hook = f"get_requires_for_build_{kind}"
        answer = self._call(hook, lambda it: getattr(it, hook)(self._settings()))
        if not isinstance(answer, list) or not all(map(_is_requirement, answer)):
            reason = f"it returned {answer!r}, which is no list of requirements"
            raise self._failed(hook, reason)
        return tuple(answer)

    def metadata(self, folder: Path) -> CoreMetadata | None:
        """Return the metadata of the wheel; None where it can't say without building.

        Raises:
            BackendError: The hook failed.
        """
        hook = "prepare_metadata_for_build_wheel"
        try:
            name = self._call(
                hook,
                lambda hooks: hooks.prepare_metadata_for_build_wheel(
                    str(folder), self._settings(), _allow_fallback=False
                ),
            )
        except HookMissing:
            return None
        try:
            metadata = folder / str(name) / "METADATA"
            return core_metadata.parse_metadata(metadata.read_bytes())
        except (OSError, ValueError) as error:
            raise self._failed(hook, f"its METADATA can't be read: {error}") from error

    def wheel(self, folder: Path) -> str:
        """Build the wheel into a folder, and return the file name that it says.

        Raises:
            BackendError: The hook failed.
        """
        answer = self._call(
            "build_wheel",
            lambda hooks: hooks.build_wheel(str(folder), self._settings()),
        )
        return str(answer)

    def editable(self, folder: Path) -> str:
        """Build a wheel that leads to the source tree, and return its file name.

        Raises:
            BackendError: The hook failed, or there is none (PEP 660).
        """
        hook = "build_editable"
        try:
            answer = self._call(
                hook, lambda it: it.build_editable(str(folder), self._settings())
            )
        except HookMissing as error:
            raise self._failed(hook, "its build backend has no such hook") from error
        return str(answer)

    def _call(self, hook: str, call: Callable[[BuildBackendHookCaller], Any]) -> Any:  # noqa: ANN401
        try:
            hooks = BuildBackendHookCaller(
                str(self.tree),
                self.system.backend,
                self.system.backend_path,
                runner=self._run,
                python_executable=str(self.python),
            )
            with self._warnings_logged():
                return call(hooks)
        except CommandError as error:
            raise self._failed(hook, error.reason) from error
        except BackendUnavailable as error:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(error.traceback)
            reason = f"its build backend {self.system.backend!r} can't be imported"
            raise self._failed(hook, reason) from error
        except FileNotFoundError as error:  # pyproject_hooks' own answer file
            raise self._failed(hook, "it ended without an answer") from error
        except (ValueError, OSError) as error:
            raise self._failed(hook, f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _warnings_logged(self) -> Iterator[None]:
        """Write the warnings that hooks hand back into the log, and not elsewhere."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BuildBackendWarning)
            yield
        with self.log.open("a", encoding="utf-8") as log:
            log.writelines(f"warning: {warning.message}\n" for warning in caught)

    def _run(
        self,
        cmd: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        command = Command(
            argv=tuple(cmd),
            cwd=None if cwd is None else self.tree,
            env={**self.env, **(extra_environ or {})},
            log=self.log,
            attend=self.attend,
        )
        completed = self.runner(self.supervisor.around(self.sandbox.around(command)))
        if completed.returncode:
            raise CommandError(command=str(command), reason=_how(completed.returncode))

    def _settings(self) -> dict[str, str | list[str]]:
        seen = self.sandbox.seen
        return {
            name: seen(value) if isinstance(value, str) else [*map(seen, value)]
            for name, value in self.settings.items()
        }

    def _failed(self, hook: str, reason: str) -> BackendError:
        tail = last_lines(self.log)
        return BackendError(
            output=self.output,
            stage=self.stage,
            hook=hook,
            reason=reason,
            details=tail,
            log=self.log,
            hint=hint((reason, *tail), stage=self.stage, offline=self.sandbox.is_off),
        )


def _is_requirement(text: object) -> bool:
    try:
        Requirement(str(text))
    except InvalidRequirement:
        return False
    return isinstance(text, str)


def last_lines(log: Path) -> tuple[str, ...]:
    """Return the end of a log; nothing where there is none."""
    if not log.is_file():
        return ()
    with log.open(encoding="utf-8", errors="replace") as stream:
        return tuple(line.rstrip() for line in deque(stream, LAST_LINES))


def _how(returncode: int) -> str:
    if returncode < 0:
        return f"killed by signal {-returncode}"
    return f"exit status {returncode}"
