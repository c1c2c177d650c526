"""The bytecode of an environment: its folder, its authors, and environments to share.

Each import of a module leaves bytecode, which the next process runs in place of the
module. So bytecode from builds and programs isn't kept: the same modules are compiled
again by us. Builds write bytecode to a folder apart, because packages are read-only.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nox_buildstages.environments.listing import entry_of, load_listing
from nox_buildstages.environments.own_files import copy_file
from nox_buildstages.environments.packages import list_files, read_record
from nox_buildstages.system.files import remove_tree
from nox_buildstages.system.process import Command, helper_variables
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from nox_buildstages.environments.environment import Environment
    from nox_buildstages.store.key import Ingredient
    from nox_buildstages.system.process import Runner

CACHE = "__pycache__"
"""The folder or link for bytecode, beside the modules."""

BYTECODE_FOLDER = "bytecode"
"""The folder in an environment for the bytecode of builds, to which the links lead."""

_SCRIPT = Path(__file__).with_name("compile_modules.py")
_FILE = re.compile(
    rf"(?P<folder>.*?/)(?P<cache>{CACHE}/)?"
    r"(?P<module>[^/]+?)\.(?P<tag>[^./]+)(\.opt-(?P<level>[12]))?\.pyc(?P<end>\.\d+)?"
)


def is_bytecode(name: str) -> bool:
    """Whether Python gives such a path to bytecode, or to an unfinished file of it."""
    match = _FILE.fullmatch(name)
    is_apart = name.startswith(f"{BYTECODE_FOLDER}/")
    return match is not None and (is_apart or match["cache"] is not None)


def separate_bytecode(environment: Environment) -> None:
    """Link the folders for bytecode to a folder that builds may write to.

    Older bytecode of a package that was installed again is removed: the new modules may
    have the same size and time.
    """
    location = environment.location
    top = location / BYTECODE_FOLDER
    top.mkdir(exist_ok=True)
    for folder in sorted({*_module_folders(environment)}):
        link = f"{location}/{folder}/{CACHE}"
        if not os.path.lexists(link):
            remove_tree(top / folder)
            top.joinpath(folder).mkdir(parents=True)
            up = "../" * (folder.count("/") + 1)
            os.symlink(f"{up}{BYTECODE_FOLDER}/{folder}", link)  # noqa: PTH211 - many


def renew_bytecode(
    environment: Environment, names: Iterable[str], runner: Runner
) -> None:
    """Replace bytecode, by its path in an environment, by our own of the same modules.

    Without module, or of another interpreter, it is removed.
    """
    location, modules = environment.location, list[str]()
    for name in names:
        path = location / name
        with suppress(OSError):  # a build that still runs may have removed it
            path.unlink()
        match = _FILE.fullmatch(name)
        if match is not None and match["end"] is None:
            folder = match["folder"].removeprefix(f"{BYTECODE_FOLDER}/")
            source = location / folder / f"{match['module']}.py"
            modules += [str(source), str(path), match["level"] or "0"]
    if not modules:
        return
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", errors="surrogateescape"
    ) as file:
        file.write("\0".join(modules))
        file.flush()
        options = ("-I", "-S", "-B", str(_SCRIPT), file.name)
        env = helper_variables(os.environ)
        runner(Command(argv=(str(environment.python), *options), env=env))


def share_bytecode(
    environment: Environment, names: Collection[str], wanted: Mapping[str, Ingredient]
) -> None:
    """Give new packages the bytecode that their wheels have in environments beside.

    Python compiles a module at the first import in an environment: torch's take longer
    than the installation. Only noted bytecode is taken, which is our own.
    """
    left, listed = set(names), list_files(environment)
    for location in sorted(environment.location.parent.iterdir()):
        other = replace(environment, location=location)
        record = {} if other == environment else read_record(location)
        same = [
            name
            for name in left
            if name in listed
            and name in record
            and record[name][0] == wanted[name].sha256
        ]
        noted = load_listing(other) if same else None
        entries = {} if noted is None else noted.entries
        for name in same if entries else ():
            modules = (path for path in listed[name] if path.endswith(".py"))
            for folder in {path.rpartition("/")[0] for path in modules}:
                cache = f"{folder}/{CACHE}"
                with suppress(OSError):  # nobody imported a module of the folder
                    source = location / cache
                    top = source.resolve().relative_to(location.resolve()).as_posix()
                    files = [*source.iterdir()]
                    target = environment.location / cache
                    target.mkdir(exist_ok=True)
                    for file in files:
                        entry = entries.get(f"{top}/{file.name}")
                        if entry == entry_of(str(file.resolve())):
                            copy_file(str(file), str(target / file.name))
                            left.discard(name)


def _module_folders(environment: Environment) -> Iterable[str]:
    """Yield the folders of the modules of all packages."""
    for files in list_files(environment).values():
        for path in files:
            if path.endswith(".py") and not path.startswith(("..", "/")):
                yield path.rpartition("/")[0]
