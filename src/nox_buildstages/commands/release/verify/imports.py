"""Import the modules of a wheel in the runtime environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.commands.release.verify.libraries import is_of_driver
from nox_buildstages.commands.release.verify.verdict import Verdict
from nox_buildstages.environments.environment import check_variables
from nox_buildstages.environments.import_check import import_command
from nox_buildstages.system.process import Command
from nox_buildstages.wheels.wheel import installed_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext
    from nox_buildstages.environments.environment import Environment

_PACKAGES = "site-packages/"
_NO_MODULES = re.compile("_.*|tests?|testing|docs?|examples?|benchmarks?|scripts?")
"""Top-level names that aren't imported unless the table names them."""

_MISSING = re.compile(r"(\S+): cannot open shared object file")


def choose_modules(
    files: Iterable[str], declared: Sequence[str]
) -> tuple[list[str], bool]:
    """Return the modules of a wheel to import, and whether the table declares them.

    Without declared ones, they are the packages and modules at its top.
    """
    tops = set()
    for file in files:
        top, slash, rest = file.removeprefix(_PACKAGES).partition("/")
        name = top.partition(".")[0]
        is_code = (rest if slash else top).endswith((".py", ".so"))
        if file.startswith(_PACKAGES) and is_code and name.isidentifier():
            tops.add(name)
    named = [it for it in declared if it.partition(".")[0] in tops]
    guessed = sorted(it for it in tops if not _NO_MODULES.fullmatch(it))
    return named or guessed, bool(named)


def with_earlier(modules: Sequence[str], declared: Sequence[str]) -> list[str]:
    """Return the declared modules up to the last of some: earlier ones load libraries.

    An extension for torch needs ``import torch`` before it, for example.
    """
    last = max(map(declared.index, modules))
    return [*declared[: last + 1]]


def check_imports(
    context: BuildContext, environment: Environment, wheel: Path
) -> Iterator[Verdict]:
    """Import the modules of a wheel, and yield the verdict if there are any.

    A failure proves nothing if the table doesn't name the module, or if there is no
    driver here.
    """
    final, run = context.project.final, context.tools.run
    modules, is_declared = choose_modules(installed_files(wheel), final.imports)
    if not modules:
        return
    names = ", ".join(modules)
    if not environment.may_run():
        text = f"nox mustn't run anything (--install-only): {names} wasn't tried"
        yield Verdict(check="import", state="unknown", text=text)
        return
    if is_declared:
        modules = with_earlier(modules, final.imports)
    command = Command(
        argv=import_command(str(environment.python), modules),
        cwd=context.project.root,
        env=check_variables(environment, run.outer, final.pass_env),
    )
    completed = context.tools.runner(command)
    if not completed.returncode:
        yield Verdict(check="import", text=names)
        return
    lines = completed.stderr.strip().splitlines()[-2:]
    text = "; ".join(reversed(lines)) or f"exit status {completed.returncode}"
    missing = _MISSING.search(text)
    lacks_driver = missing is not None and is_of_driver(missing[1])
    is_certain = is_declared and not lacks_driver
    if not is_declared:
        text += "; to choose a module, name it in imports of the final table"
    yield Verdict(
        check="import", state="failed" if is_certain else "unknown", text=text
    )
