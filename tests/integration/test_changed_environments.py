"""Every change of an environment is noticed, and undone."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.listing import (
    find_changes,
    list_entries,
    take_listing,
)
from nox_buildstages.environments.snapshot import (
    EnvironmentGuard,
    copy_environment,
    record_files,
    restore_files,
)
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.errors import BuildError, ChangedEnvironmentError
from nox_buildstages.system.process import Command, Completed, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TAG = sys.implementation.cache_tag
UNUSED = Syncer(uv=Path("/no/uv"), runner=run)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    location = tmp_path / "venv"
    packages = location / "lib/python3/site-packages"
    packages.joinpath("x/__pycache__").mkdir(parents=True)
    packages.joinpath("x/__init__.py").write_text("X = 1\n")
    packages.joinpath("x/core.py").write_text("")
    record = packages / "x-0.dist-info/RECORD"
    record.parent.mkdir()
    rows = [
        f"{it},{digest_of(packages / it)},\n" for it in ("x/__init__.py", "x/core.py")
    ]
    record.write_text("".join(rows) + "x-0.dist-info/RECORD,,\n")
    location.joinpath("nox-buildstages.json").write_text("{}")
    location.joinpath("lib64").symlink_to("lib")
    location.joinpath("bin").mkdir()
    location.joinpath("bin/python").symlink_to(sys.executable)
    return Environment(
        location=location, bin=location / "bin", python=location / "bin/python"
    )


def digest_of(path: Path) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
    return f"sha256={digest.decode().rstrip('=')}"


def stamped(environment: Environment) -> bool:
    return environment.location.joinpath("nox-buildstages.json").exists()


def watch(environment: Environment, log: Path) -> AbstractContextManager[Environment]:
    """Watch over an environment while a build runs in it."""
    guard = EnvironmentGuard(environment=environment, syncer=UNUSED)
    return guard.watch(output="a", stage="s", log=log)


def test_a_build_that_leaves_its_environment_alone_is_fine(
    environment: Environment, tmp_path: Path
) -> None:
    """Importing writes bytecode there; what a build wrote of it is replaced."""
    packages = environment.location / "lib/python3/site-packages"
    with watch(environment, tmp_path / "log"):
        for name in (f"core.{TAG}.pyc", f"gone.{TAG}.pyc", "core.cpython-20.pyc"):
            packages.joinpath("x/__pycache__", name).write_text("evil")
        environment.location.joinpath("tmp").mkdir()
    assert stamped(environment)
    (bytecode,) = packages.glob("x/__pycache__/*")
    assert bytecode.name == f"core.{TAG}.pyc"
    assert bytecode.read_bytes()[:4] == MAGIC_NUMBER
    with watch(environment, tmp_path / "log"):
        pass


def test_a_build_that_changes_its_environment_is_refused(
    environment: Environment, tmp_path: Path
) -> None:
    """What came is taken away; the rest is to be installed anew."""
    packages = environment.location / "lib/python3/site-packages"

    def meddle() -> None:
        with watch(environment, tmp_path / "log"):
            packages.joinpath("evil.pth").write_text("import evil\n")
            packages.joinpath("x/__init__.py").write_text("X = 1 # evil\n")
            packages.joinpath("x/core.py").unlink()

    with pytest.raises(BuildError) as caught:
        meddle()
    error = caught.value
    assert (error.subject, error.log) == ("a (stage s)", tmp_path / "log")
    assert error.details == [
        "added lib/python3/site-packages/evil.pth",
        "changed lib/python3/site-packages/x/__init__.py",
        "removed lib/python3/site-packages/x/core.py",
    ]
    assert not packages.joinpath("evil.pth").exists()
    assert not stamped(environment)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("site-packages/x/table.txt", "x"),
        ("site-packages/x/cache/deep/table.txt", "x"),
        ("site-packages/x-1.dist-info/note", "x"),
        ("site-packages/space/new.txt", "x, y"),
        ("site-packages/space/y/new.txt", "y"),
        ("site-packages/evil.pth", ""),
        ("stray.txt", ""),
    ],
)
def test_a_changed_folder_is_named_by_its_package(
    environment: Environment, tmp_path: Path, path: str, owner: str
) -> None:
    """The build itself may write nothing: what it imports does."""
    library = environment.location / "lib/python3"
    for name, files in {
        "x": "x/core.py,,\nspace/x.py,,\n",
        "y": "space/y/y.py,,\n",
    }.items():
        record = library / f"site-packages/{name}-1.dist-info/RECORD"
        record.parent.mkdir()
        record.write_text(f"{files}{record.parent.name}/RECORD,,\n")

    def meddle() -> None:
        with watch(environment, tmp_path / "log"):
            library.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
            library.joinpath(path).write_text("")

    with pytest.raises(ChangedEnvironmentError) as caught:
        meddle()
    problem = "its build writes into the environment that it runs in"
    where = f", in the folder of {owner}" if owner else ""
    assert caught.value.problem == problem + where
    assert caught.value.hint.endswith("# s\n  private-environment = true")
    assert not library.joinpath(path).exists()


def test_a_copy_of_an_environment_may_be_changed(environment: Environment) -> None:
    """It is used by its own path, and nothing of it stays."""
    environment.bin.joinpath("tool").write_text(f"#!{environment.python}\n")
    cached = environment.location / "tmp/core.py"
    cached.parent.mkdir()
    packages = environment.location / "lib/python3/site-packages"
    packages.joinpath("x/core.py").replace(cached)
    packages.joinpath("x/core.py").symlink_to(cached)
    with copy_environment(environment) as copy:
        assert copy.bin.joinpath("tool").read_text() == f"#!{copy.python}\n"
        assert copy.python.samefile(sys.executable)
        assert copy.location.joinpath("lib64/python3/site-packages/x").is_dir()
        with watch(environment, environment.bin):
            packages = copy.location / "lib/python3/site-packages"
            packages.joinpath("x/core.py").write_text("changed")
            packages.joinpath("evil.pth").write_text("")
            shutil.rmtree(copy.bin)
    assert not copy.location.exists()
    assert cached.read_text() == ""
    assert stamped(environment)


def test_all_builds_at_the_time_of_a_change_are_named(
    environment: Environment, tmp_path: Path
) -> None:
    """Any of them may have made it, and it is put right when the last has ended."""
    guard = EnvironmentGuard(environment=environment, syncer=UNUSED)
    added = environment.location / "bin/evil"
    first, second, third = (
        guard.watch(output=it, stage="s", log=tmp_path / it) for it in "abc"
    )
    for each in (first, second, third):
        each.__enter__()
    first.__exit__(None, None, None)
    added.write_text("")
    with pytest.raises(ChangedEnvironmentError, match="or that of c ") as caught:
        second.__exit__(None, None, None)
    assert (caught.value.output, caught.value.others) == ("b", ("c",))
    assert added.exists()
    with pytest.raises(ChangedEnvironmentError, match="or that of b "):
        third.__exit__(None, None, None)
    assert not added.exists()
    with guard.watch(output="d", stage="s", log=tmp_path / "d"):
        pass


def test_a_build_that_fails_is_told_as_such(
    environment: Environment, tmp_path: Path
) -> None:
    """Whatever it changed before is put right all the same."""
    added = environment.location / "bin/evil"
    changed = environment.location / "lib/python3/site-packages/x/core.py"

    def meddle() -> None:
        with watch(environment, tmp_path / "log"):
            added.write_text("")
            changed.write_text("changed = True\n")
            raise KeyError

    with pytest.raises(KeyError):
        meddle()
    assert not added.exists()
    assert not stamped(environment)


# What is a change ----------------------------------------------------------------


def rewrite(path: Path) -> None:
    """Change a file in place, and give it its old times."""
    status = path.stat()
    path.write_text("Y = 2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def retarget(link: Path) -> None:
    link.unlink()
    link.symlink_to("/bin/true")


PACKAGES = "lib/python3/site-packages"
CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    f"{PACKAGES}/x/__init__.py": ("changed", rewrite),
    f"{PACKAGES}/x/core.py": ("removed", Path.unlink),
    f"{PACKAGES}/x-0.dist-info/RECORD": ("changed", lambda it: it.write_text("")),
    f"{PACKAGES}/evil.pth": ("added", Path.touch),
    f"{PACKAGES}/space/": ("added", Path.mkdir),
    f"{PACKAGES}/x/": ("changed", lambda it: it.chmod(0o777)),
    f"{PACKAGES}/x/__pycache__/core.{TAG}.pyc": ("changed", rewrite),
    f"{PACKAGES}/x/__pycache__/core.py": ("added", Path.touch),
    f"{PACKAGES}/core.pyc": ("added", Path.touch),
    "pyvenv.cfg": ("changed", rewrite),
    "bin/python": ("changed", retarget),
    "bin/activate": ("changed", lambda it: it.chmod(0o755)),
    "bin/tool": ("added", Path.touch),
    "include/": ("removed", Path.rmdir),
    "share/": ("added", Path.mkdir),
    "lib64": ("changed", retarget),
    "stray": ("added", Path.touch),
}


@pytest.fixture
def whole(environment: Environment) -> Environment:
    """An environment with all kinds of files."""
    location = environment.location
    location.joinpath("pyvenv.cfg").write_text("X = 1\n")
    location.joinpath("include").mkdir()
    location.joinpath("bin/activate").write_text("")
    cache = location / f"{PACKAGES}/x/__pycache__/core.{TAG}.pyc"
    cache.write_text("X = 1\n")
    return environment


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_noticed(whole: Environment, name: str) -> None:
    """Wherever it is, and whatever times it has."""
    before = take_listing(whole)
    wanted, change = CHANGES[name]
    change(whole.location / name)
    after = list_entries(whole.location)
    assert find_changes(whole, before, after) == {name: wanted}


def test_the_same_contents_are_no_change(whole: Environment) -> None:
    """A copy has other times and inodes, such as that of a cache in CI."""
    before = take_listing(whole)
    for path in [it for it in whole.location.rglob("*") if it.is_file()]:
        if not path.is_symlink():
            copy = path.with_name("copy")
            shutil.copyfile(path, copy)
            copy.chmod(path.stat().st_mode)
            copy.replace(path)
    after = list_entries(whole.location)
    assert after != before.entries
    assert find_changes(whole, before, after) == {}


MADE_AGAIN = {f"{PACKAGES}/x-0.dist-info/RECORD", "pyvenv.cfg", "bin/activate"}
INSTALLED_AGAIN = {f"{PACKAGES}/x/__init__.py", f"{PACKAGES}/x/core.py"}
BYTECODE = f"{PACKAGES}/x/__pycache__/core.{TAG}.pyc"


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_hand_is_undone(whole: Environment, name: str) -> None:
    """Packages are installed again, or the environment is made again, if need be."""
    commands, said = list[Command](), list[str]()

    def runner(command: Command) -> Completed:
        commands.append(command)
        return Completed(returncode=0, stdout="", stderr="")

    record_files(whole)
    before = list_entries(whole.location)
    change = CHANGES[name][1]
    change(whole.location / name)
    restore_files(whole, Syncer(uv=Path("uv"), runner=runner), said.append)
    assert (name in "".join(said)) == (name != BYTECODE)  # which is compiled again
    assert (name in MADE_AGAIN) == any("venv" in it.argv for it in commands)
    assert (name == BYTECODE) == any(it.argv[1] == "-I" for it in commands)
    if name not in {*MADE_AGAIN, *INSTALLED_AGAIN, BYTECODE}:
        assert list_entries(whole.location).keys() == before.keys()


def test_the_packages_of_the_system_are_hidden(whole: Environment) -> None:
    """Whoever made them visible: a variable of virtualenv, or somebody by hand."""
    settings, said = whole.location / "pyvenv.cfg", list[str]()
    whole.location.joinpath("nox-buildstages.json").unlink()
    settings.write_text("home = /usr/bin\nInclude-System-Site-Packages=TRUE\n")
    restore_files(whole, UNUSED, said.append)
    assert settings.read_text().endswith("Include-System-Site-Packages=false\n")
    (line,) = said
    assert line.endswith("showed the packages of the system; they are hidden now")


def test_an_environment_without_a_listing_is_made_again(whole: Environment) -> None:
    """A killed run may have left anything, once packages have been installed."""
    commands, said = list[Command](), list[str]()

    def runner(command: Command) -> Completed:
        commands.append(command)
        return Completed(returncode=0, stdout="", stderr="")

    restore_files(whole, Syncer(uv=Path("uv"), runner=runner), said.append)
    assert "--clear" in commands[0].argv
    assert said[0].endswith("has no record of its files; it is made again")
