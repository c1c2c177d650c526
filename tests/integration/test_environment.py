"""uv makes environments equal to locks, and build backends see few variables."""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.pylock import Package, PackageWheel
from packaging.utils import parse_wheel_filename

from nox_buildstages.builder.backend_variables import backend_variables
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.own_files import separate_files
from nox_buildstages.environments.packages import check_packages, find_differences
from nox_buildstages.environments.snapshot import record_files
from nox_buildstages.environments.sync import DefaultIndex, Syncer
from nox_buildstages.errors import BuildStagesError, HashMismatchError
from nox_buildstages.lock.files import pylock
from nox_buildstages.store.key import Ingredient
from nox_buildstages.system.files import sha256_of
from nox_buildstages.system.process import run
from nox_buildstages.value import replace
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.system.process import Command, Completed
    from support.index import Index

UV = Path(uv.find_uv_bin())
QUIET = ("-q", "--no-config", "--offline")


@dataclass
class Counting:
    """Runs programs, and keeps what it was asked to run."""

    commands: list[Command] = field(default_factory=list)

    def __call__(self, command: Command) -> Completed:
        """Run it."""
        self.commands.append(command)
        return run(replace(command, env={**os.environ, "UV_NO_CONFIG": "1"}))


@pytest.fixture
def runner() -> Counting:
    return Counting()


@pytest.fixture
def syncer(runner: Counting, caches: Path, monkeypatch: pytest.MonkeyPatch) -> Syncer:
    monkeypatch.setenv("UV_CACHE_DIR", str(caches / "uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    return Syncer(uv=UV, runner=runner)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return make_environment(tmp_path / "venv")


def make_environment(location: Path) -> Environment:
    run_uv("venv", "-p", sys.executable, location)
    return Environment(
        location=location, bin=location / "bin", python=location / "bin/python"
    )


@dataclass(frozen=True, kw_only=True)
class Locked:
    """A lock file of wheels, and what it holds."""

    path: Path
    wanted: dict[str, Ingredient]


def lock(folder: Path, *wheels: Path, hashes: str = "") -> Locked:
    """Write a lock of wheels; their hashes can be made wrong."""
    packages = []
    wanted: dict[str, Ingredient] = {}
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.name)
        sha256 = hashes or sha256_of(wheel)
        entry = PackageWheel(
            name=wheel.name, path=str(wheel), hashes={"sha256": sha256}
        )
        packages.append(Package(name=name, version=version, wheels=[entry]))
        wanted[name] = Ingredient(version=str(version), sha256=sha256)
    path = folder / "pylock.test.toml"
    path.write_text(pylock.dump_pylock(pylock.make_pylock(packages)))
    return Locked(path=path, wanted=wanted)


@pytest.fixture
def locked(tmp_path: Path) -> Locked:
    wheels = tmp_path / "wheels"
    return lock(
        tmp_path,
        make_wheel(wheels, "Some.Package", "1.0"),
        make_wheel(wheels, "other", "2.0+cpu"),
    )


def installed(environment: Environment) -> dict[str, str]:
    said = run_uv("pip", "list", "--format", "freeze", "--python", environment.python)
    pairs = (line.partition("==") for line in said.splitlines())
    return {name: version for name, _, version in pairs}


def imported(environment: Environment, module: str) -> str:
    code = f"print(__import__({module!r}).__doc__)"
    return output_of(environment.python, "-c", code).strip()


def run_uv(*arguments: str | Path) -> str:
    return output_of(UV, *arguments, *QUIET)


def output_of(*command: str | Path) -> str:
    argv = list(map(str, command))
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout


BOTH = {"some-package": "1.0", "other": "2.0+cpu"}


def test_only_packages_that_are_there_are_installed_again(
    environment: Environment, locked: Locked, syncer: Syncer, runner: Counting
) -> None:
    """For these, uv asks servers whether the wheels in its cache are current."""
    syncer.sync(environment, locked.wanted, locked.path)
    (command,) = runner.commands
    assert "--reinstall-package" not in command.argv


def test_bytecode_is_shared_with_an_environment_beside(
    environment: Environment, locked: Locked, syncer: Syncer, tmp_path: Path
) -> None:
    """A module of the same wheel is compiled once; bytecode that isn't ours stays."""
    syncer.sync(environment, locked.wanted, locked.path, for_builds=True)
    beside = make_environment(tmp_path / "beside")
    (packages,) = environment.location.glob("lib/python*/site-packages")
    module = packages / "some_package/__init__.py"
    cached = Path(py_compile.compile(str(module)) or "")
    assert cached.resolve().is_relative_to(environment.location / "bytecode")
    record_files(environment)
    (packages / "other/__pycache__/other.cpython-311.pyc").write_text("evil")
    syncer.sync(beside, locked.wanted, locked.path)
    copy = beside.location / cached.relative_to(environment.location)
    assert copy.read_bytes() == cached.read_bytes()
    assert not copy.samefile(cached)
    argv = [str(beside.python), "-v", "-c", "import some_package"]
    said = subprocess.run(argv, capture_output=True, check=True, text=True).stderr
    assert f"{copy} matches" in said
    assert not [*beside.location.rglob("other.*.pyc")]


def test_an_environment_for_builds_has_files_of_its_own(
    environment: Environment, locked: Locked, syncer: Syncer
) -> None:
    """Whatever is written into them, uv's cache and other environments stay."""
    syncer.sync(environment, locked.wanted, locked.path)
    files = [it for it in environment.location.rglob("*") if it.is_file()]
    modules = [it for it in files if it.suffix == ".py" and it.stat().st_nlink > 1]
    assert modules
    contents = {it: (it.read_bytes(), it.stat().st_mtime_ns) for it in modules}
    record_files(environment)
    assert separate_files(environment)
    assert {it: (it.read_bytes(), it.stat().st_mtime_ns) for it in modules} == contents
    assert all(it.stat().st_nlink == 1 for it in modules)
    assert find_differences(environment, locked.wanted) == {}
    assert not (environment.location / "nox-buildstages-files.json").exists()
    assert not separate_files(environment)


def test_links_of_symlink_mode_become_files(
    environment: Environment,
    locked: Locked,
    syncer: Syncer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With UV_LINK_MODE=symlink, packages are links to uv's cache."""
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    syncer.sync(environment, locked.wanted, locked.path)
    (packages,) = environment.location.glob("lib/python*/site-packages")
    module = packages / "some_package/__init__.py"
    if not module.is_symlink():
        pytest.skip("uv doesn't take the variable")
    separate_files(environment)
    assert not module.is_symlink()
    assert imported(environment, "some_package") == "Some.Package 1.0."


@pytest.mark.slow
def test_a_file_system_that_can_clone_needs_no_copies(
    locked: Locked, syncer: Syncer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uv clones there, too; links of another mode become clones."""
    with btrfs(tmp_path) as folder:
        monkeypatch.setenv("UV_CACHE_DIR", str(folder / "cache"))
        environment = make_environment(folder / "venv")
        syncer.sync(environment, locked.wanted, locked.path)
        files = [it for it in environment.location.rglob("*.py") if it.is_file()]
        assert all(it.stat().st_nlink == 1 for it in files)
        for file in files:
            (folder / "linked").mkdir(exist_ok=True)
            (folder / "linked" / str(file.stat().st_ino)).hardlink_to(file)
        assert not separate_files(environment)
        assert all(it.stat().st_nlink == 1 for it in files)


@contextmanager
def btrfs(folder: Path) -> Iterator[Path]:
    """Yield a folder on a file system that can clone files; or skip the test."""
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(200 << 20)
    for command in (
        ("mkfs.btrfs", "-q", str(image)),
        ("mount", "-o", "loop", str(image), str(mounted)),
    ):
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if program is None:
            pytest.skip(f"{command[0]} isn't installed")
        if subprocess.run((program, *command[1:]), check=False).returncode:
            pytest.skip(f"{command[0]} isn't allowed")
    try:
        yield mounted
    finally:
        umount = shutil.which("umount") or ""
        subprocess.run((umount, str(mounted)), check=True)


def test_packages_are_links_if_the_cache_is_on_the_same_file_system(
    environment: Environment,
    locked: Locked,
    syncer: Syncer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise uv copies them; uv isn't asked if they are links."""
    assert syncer.can_link(environment.location)
    with monkeypatch.context() as context:
        context.setenv("UV_CACHE_DIR", "/proc")
        assert not syncer.can_link(environment.location)
    syncer.sync(environment, locked.wanted, locked.path)
    monkeypatch.setenv("UV_CACHE_DIR", "/proc")
    assert syncer.can_link(environment.location)


def test_an_environment_becomes_equal_to_its_lock(
    syncer: Syncer, environment: Environment, locked: Locked
) -> None:
    """The locked packages can be imported, and no difference is found."""
    syncer.sync(environment, locked.wanted, locked.path)
    assert installed(environment) == BOTH
    assert imported(environment, "some_package") == "Some.Package 1.0."
    assert find_differences(environment, locked.wanted) == {}
    check_packages(environment, locked.wanted, hint="")


def test_an_equal_environment_is_unchanged(
    syncer: Syncer, runner: Counting, environment: Environment, locked: Locked
) -> None:
    """Uv isn't started."""
    syncer.sync(environment, locked.wanted, locked.path)
    started = len(runner.commands)
    syncer.sync(environment, locked.wanted, locked.path)
    assert len(runner.commands) == started


def test_an_empty_lock_makes_an_empty_environment(
    syncer: Syncer, environment: Environment, locked: Locked, tmp_path: Path
) -> None:
    """A stage may need no packages."""
    syncer.sync(environment, locked.wanted, locked.path)
    nothing = lock(tmp_path)
    syncer.sync(environment, nothing.wanted, nothing.path)
    assert installed(environment) == {}


def test_packages_outside_the_lock_are_removed(
    syncer: Syncer, environment: Environment, locked: Locked, tmp_path: Path
) -> None:
    """Pip and setuptools too, with which other tools create environments."""
    more = [
        make_wheel(tmp_path / "more", name, "1") for name in ("pip", "setuptools", "x")
    ]
    run_uv("pip", "install", "--no-index", "--python", environment.python, *more)
    assert find_differences(environment, locked.wanted) == {
        "other": "other 2.0+cpu is missing",
        "pip": "pip 1 is installed but not in the lock",
        "setuptools": "setuptools 1 is installed but not in the lock",
        "some-package": "some-package 1.0 is missing",
        "x": "x 1 is installed but not in the lock",
    }
    syncer.sync(environment, locked.wanted, locked.path)
    assert installed(environment) == BOTH


def test_an_egg_info_is_seen(environment: Environment, locked: Locked) -> None:
    """Packages of old installers count as installed."""
    (site,) = environment.location.glob("lib/python*/site-packages")
    (site / "Old_Thing-1.2-py3.11.egg-info").write_text("")
    found = find_differences(environment, locked.wanted)
    assert found["old-thing"] == "old-thing 1.2 is installed but not in the lock"


def test_another_version_is_replaced(
    syncer: Syncer, environment: Environment, locked: Locked, tmp_path: Path
) -> None:
    """The difference names both versions."""
    syncer.sync(environment, locked.wanted, locked.path)
    newer = lock(
        tmp_path,
        make_wheel(tmp_path / "wheels", "some-package", "1.1"),
        tmp_path / "wheels/other-2.0+cpu-py3-none-any.whl",
    )
    assert find_differences(environment, newer.wanted) == {
        "some-package": "some-package is 1.0, not 1.1"
    }
    syncer.sync(environment, newer.wanted, newer.path)
    assert installed(environment) == {**BOTH, "some-package": "1.1"}


def test_the_same_version_with_other_bytes_is_replaced(
    syncer: Syncer, environment: Environment, locked: Locked, tmp_path: Path
) -> None:
    """The hash counts: a rebuilt wheel is installed again."""
    syncer.sync(environment, locked.wanted, locked.path)
    rebuilt = make_wheel(
        tmp_path / "rebuilt",
        "some-package",
        "1.0",
        files={"some_package/__init__.py": '"""Rebuilt."""\n'},
    )
    newer = lock(tmp_path, rebuilt, tmp_path / "wheels/other-2.0+cpu-py3-none-any.whl")
    assert find_differences(environment, newer.wanted) == {
        "some-package": "some-package 1.0 is not from the locked wheel"
    }
    syncer.sync(environment, newer.wanted, newer.path)
    assert imported(environment, "some_package") == "Rebuilt."


def test_a_version_may_be_spelled_another_way(
    syncer: Syncer, environment: Environment, tmp_path: Path
) -> None:
    """A wheel of 2024.01.0 has the locked version 2024.1.0."""
    odd = lock(tmp_path, make_wheel(tmp_path / "wheels", "odd", "2024.01.0"))
    assert odd.wanted["odd"].version == "2024.1.0"
    syncer.sync(environment, odd.wanted, odd.path)
    assert find_differences(environment, odd.wanted) == {}


def test_packages_installed_by_hand_are_replaced(
    syncer: Syncer, environment: Environment, locked: Locked, tmp_path: Path
) -> None:
    """The same version from elsewhere isn't the locked wheel."""
    other = make_wheel(
        tmp_path / "else", "some-package", "1.0", files={"some_package.py": "'''X'''"}
    )
    syncer.sync(environment, locked.wanted, locked.path)
    run_uv("pip", "install", "--reinstall", "--python", environment.python, other)
    assert list(find_differences(environment, locked.wanted)) == ["some-package"]
    syncer.sync(environment, locked.wanted, locked.path)
    assert imported(environment, "some_package") == "Some.Package 1.0."


@pytest.mark.parametrize("text", ["", "[]", "null", '{"other": 1}', "\0"])
def test_a_damaged_record_is_replaced(
    syncer: Syncer, environment: Environment, locked: Locked, text: str
) -> None:
    """Without a record all packages are installed again."""
    syncer.sync(environment, locked.wanted, locked.path)
    (environment.location / "nox-buildstages.json").write_text(text)
    assert set(find_differences(environment, locked.wanted)) == set(BOTH)
    syncer.sync(environment, locked.wanted, locked.path)
    assert find_differences(environment, locked.wanted) == {}


def test_a_wheel_of_another_hash_is_refused(
    syncer: Syncer, environment: Environment, tmp_path: Path
) -> None:
    """The error has both hashes and the command; nothing is installed."""
    wheel = make_wheel(tmp_path / "wheels", "some-package", "1.0")
    tampered = lock(tmp_path, wheel, hashes="ab" * 32)
    with pytest.raises(HashMismatchError) as caught:
        syncer.sync(environment, tampered.wanted, tampered.path)
    check_refusal(caught.value, "some-package==1.0", "ab" * 32, sha256_of(wheel))
    assert installed(environment) == {}


def check_refusal(
    error: HashMismatchError, wheel: str, expected: str, found: str
) -> None:
    """See that an error says which wheel it is, both hashes, and what to do."""
    assert (error.subject, error.expected, error.found) == (wheel, expected, found)
    name = wheel.partition("==")[0]
    assert error.hint.endswith(f"build-stages-lock -- --upgrade-package {name}")


@pytest.fixture
def sized(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> Locked:
    """A lock of a wheel on an index, with its size, and of one at a relative path."""
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cold"))
    remote = make_wheel(index.folder, "remote", "1.0")
    near = lock(tmp_path, make_wheel(tmp_path / "wheels", "near", "1.0"))
    size = f"size = {remote.stat().st_size}"
    hashes = f'hashes = {{ sha256 = "{sha256_of(remote)}" }}'
    wheel = f'{{ url = "{index.file_url(remote.name)}", {size}, {hashes} }}'
    text = near.path.read_text().replace(f"{tmp_path}/", "")
    text += f'\n[[packages]]\nname = "remote"\nversion = "1.0"\nwheels = [{wheel}]\n'
    near.path.write_text(text)
    found = Ingredient(version="1.0", sha256=sha256_of(remote))
    return Locked(path=near.path, wanted={**near.wanted, "remote": found})


def test_a_wheel_of_another_size_is_refused_by_its_hash(
    syncer: Syncer, environment: Environment, sized: Locked, index: Index
) -> None:
    """Uv reports sizes only; the error has the hashes too."""
    expected = sized.wanted["remote"].sha256
    other = make_wheel(index.folder, "remote", "1.0", files={"more.py": "x = 1\n"})
    with pytest.raises(HashMismatchError) as caught:
        syncer.sync(environment, sized.wanted, sized.path)
    check_refusal(caught.value, "remote==1.0", expected, sha256_of(other))
    assert installed(environment) == {}
    assert list(environment.location.glob("pylock.*")) == []


def test_the_size_of_a_wheel_does_not_matter(
    syncer: Syncer, environment: Environment, sized: Locked
) -> None:
    """An index may report a wrong size; the hash is right."""
    text = sized.path.read_text()
    sized.path.write_text(text.replace("size = ", "size = 1"))
    syncer.sync(environment, sized.wanted, sized.path)
    assert installed(environment) == {"near": "1.0", "remote": "1.0"}
    assert find_differences(environment, sized.wanted) == {}


def test_an_outdated_cache_is_refreshed(
    syncer: Syncer, environment: Environment, sized: Locked, index: Index
) -> None:
    """Uv would install the cached file of the URL."""
    syncer.sync(environment, sized.wanted, sized.path)
    before = sized.wanted["remote"].sha256
    other = make_wheel(index.folder, "remote", "1.0", files={"more.py": "x = 1\n"})
    wanted = {
        **sized.wanted,
        "remote": Ingredient(version="1.0", sha256=sha256_of(other)),
    }
    text = sized.path.read_text().replace(before, sha256_of(other))
    sized.path.write_text(text)
    syncer.sync(environment, wanted, sized.path)
    (more,) = environment.location.glob("lib/python*/site-packages/more.py")
    assert more.is_file()
    assert find_differences(environment, wanted) == {}


def test_a_wheel_that_uv_has_cached_for_the_project_is_not_downloaded(
    syncer: Syncer,
    environment: Environment,
    sized: Locked,
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its cache has a part for each index, and our locks don't name the index."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    folder = environment.location
    monkeypatch.setenv("UV_CACHE_DIR", str(folder.with_name("cache")))
    monkeypatch.setenv("UV_OFFLINE", "0")
    python = make_environment(folder.with_name("users")).python
    output_of(UV, "pip", "install", "--python", python, "remote")
    assert "index =" not in sized.path.read_text()
    found = syncer.find_default_index()
    assert found == DefaultIndex(url=index.url, others=frozenset())
    monkeypatch.setenv("UV_OFFLINE", "1")
    syncer = replace(syncer, default_index=lambda: found)
    syncer.sync(environment, sized.wanted, sized.path)
    assert installed(environment) == {"near": "1.0", "remote": "1.0"}


def test_the_index_of_a_wheel_is_named_only_if_it_must_be_the_default(
    syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other indexes may be on the host of a file; an index with a login isn't named."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mirror.invalid/simple")
    monkeypatch.setenv("UV_INDEX", "torch=https://torch.invalid/whl")
    found = syncer.find_default_index()
    assert found is not None
    assert found.url == "https://mirror.invalid/simple"
    assert "torch.invalid" in found.others
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://me:secret@mirror.invalid/simple")
    assert syncer.find_default_index() is None


def test_an_outdated_cache_without_a_network_is_an_error(
    syncer: Syncer,
    environment: Environment,
    sized: Locked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says that the cached file isn't the locked file."""
    syncer.sync(environment, sized.wanted, sized.path)
    before = sized.wanted["remote"].sha256
    wanted = {**sized.wanted, "remote": Ingredient(version="1.0", sha256="ab" * 32)}
    sized.path.write_text(sized.path.read_text().replace(before, "ab" * 32))
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(HashMismatchError) as caught:
        syncer.sync(environment, wanted, sized.path)
    check_refusal(caught.value, "remote==1.0", "ab" * 32, before)


def test_a_package_without_record_is_an_error(
    syncer: Syncer, environment: Environment, locked: Locked, tmp_path: Path
) -> None:
    """Without RECORD the files of a package are unknown."""
    syncer.sync(environment, locked.wanted, locked.path)
    (record,) = environment.location.glob("lib/python*/site-packages/other-*/RECORD")
    record.unlink()
    less = lock(tmp_path, tmp_path / "wheels/some_package-1.0-py3-none-any.whl")
    with pytest.raises(BuildStagesError, match="RECORD") as caught:
        syncer.sync(environment, less.wanted, less.path)
    assert f"  rm -r {environment.location}" in str(caught.value)


def test_a_missing_wheel_is_an_error(
    syncer: Syncer, environment: Environment, locked: Locked, tmp_path: Path
) -> None:
    """Uv names the file."""
    (tmp_path / "wheels/other-2.0+cpu-py3-none-any.whl").unlink()
    with pytest.raises(BuildStagesError, match=r"other-2\.0\+cpu"):
        syncer.sync(environment, locked.wanted, locked.path)


def test_a_remaining_difference_is_an_error(
    syncer: Syncer, environment: Environment, locked: Locked
) -> None:
    """The environment is checked even if uv reports success."""
    more = {**locked.wanted, "gone": Ingredient(version="1", sha256="00")}
    with pytest.raises(BuildStagesError) as caught:
        syncer.sync(environment, more, locked.path)
    assert caught.value.problem == "differs from its lock"
    assert caught.value.details == ("gone 1 is missing",)
    assert caught.value.hint.endswith(f"\n  rm -r {environment.location}")


def test_nothing_is_changed_with_no_install(
    syncer: Syncer, runner: Counting, environment: Environment, locked: Locked
) -> None:
    """With -R a difference is an error."""
    fixed = replace(environment, may_install=lambda: False)
    with pytest.raises(BuildStagesError) as caught:
        syncer.sync(fixed, locked.wanted, locked.path)
    assert len(caught.value.details) == 2
    assert "run nox without -R" in caught.value.hint
    assert runner.commands == []
    syncer.sync(environment, locked.wanted, locked.path)
    syncer.sync(fixed, locked.wanted, locked.path)


# Packages that install the same path ---------------------------------------------


def sharing(folder: Path, name: str, version: str = "1.0", text: str = "") -> Path:
    """Make a wheel with a file, scripts, data and a header that others have too."""
    data = f"{name}-{version}.data"
    text = text or name
    files = {
        "tests/__init__.py": f"whose = {text!r}\n",
        "same/__init__.py": "",
        f"{name}-{version}.dist-info/entry_points.txt": (
            f"[console_scripts]\ncall = {text}:main\n"
        ),
        f"{data}/scripts/script": f"#!python\nprint({text!r})\n",
        f"{data}/data/share/notes.txt": text,
        f"{data}/headers/sharing.h": f"// {text}\n",
    }
    return make_wheel(folder, name, version, files=files)


def contents(environment: Environment) -> dict[str, bytes]:
    (site,) = environment.location.glob("lib/python*/site-packages")
    paths = [
        *(site / "tests/__init__.py", site / "same/__init__.py"),
        *(environment.bin / "call", environment.bin / "script"),
        environment.location / "share/notes.txt",
    ]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def test_the_winner_of_a_path_is_always_the_same(
    syncer: Syncer, environment: Environment, tmp_path: Path
) -> None:
    """By name, in modules, scripts and data; equal contents are no disagreement."""
    wheels = [sharing(tmp_path, name) for name in ("one", "two")]
    both = lock(tmp_path, *wheels)
    (overlap,) = syncer.sync(environment, both.wanted, both.path)
    paths = [path.rpartition("site-packages/")[2] for path in overlap.paths]
    wanted = ["bin/call", "bin/script", "tests/__init__.py", "share/notes.txt"]
    assert paths == wanted
    assert str(overlap) == (
        "one 1.0 and two 1.0 both install bin/call and 3 more files, with different"
        " contents"
    )
    files = contents(environment)
    assert len(files) == 4  # both __init__.py have one name
    assert not any(b"two" in text for text in files.values())
    assert find_differences(environment, both.wanted) == {}
    assert syncer.sync(environment, both.wanted, both.path) == (overlap,)


def test_an_output_wins_over_wheels_of_an_index(
    syncer: Syncer, environment: Environment, tmp_path: Path
) -> None:
    """It was built for this project; what is then removed leaves the other's files."""
    one, two = (sharing(tmp_path, name) for name in ("one", "two"))
    both = lock(tmp_path, one, two)
    built = replace(both.wanted["two"], stage="s")
    (overlap,) = syncer.sync(environment, {**both.wanted, "two": built}, both.path)
    assert (overlap.winner, overlap.loser) == ("two 1.0", "one 1.0")
    assert not any(b"one" in text for text in contents(environment).values())
    less = lock(tmp_path, one)
    assert syncer.sync(environment, less.wanted, less.path) == ()
    files = contents(environment)
    assert len(files) == 4
    assert not any(b"two" in text for text in files.values())


def test_a_package_keeps_what_a_new_version_of_another_lacks(
    syncer: Syncer, environment: Environment, tmp_path: Path
) -> None:
    """Installers remove a path with either of its packages."""
    one, two = (sharing(tmp_path, name, text="equal") for name in ("one", "two"))
    both = lock(tmp_path, one, two)
    assert syncer.sync(environment, both.wanted, both.path) == ()
    before = contents(environment)
    newer = lock(tmp_path, make_wheel(tmp_path, "one", "1.1"), two)
    syncer.sync(environment, newer.wanted, newer.path)
    assert contents(environment) == before


def test_contents_are_compared_without_hashes_too(
    syncer: Syncer, environment: Environment, tmp_path: Path
) -> None:
    """Old wheels have no hash in RECORD, or another kind."""
    wheels = [sharing(tmp_path, name, text="equal") for name in ("one", "two")]
    with zipfile.ZipFile(wheels[0]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    record = "one-1.0.dist-info/RECORD"
    members[record] = re.sub(rb",sha256=[^,]*,\d+", b",,", members[record])
    with zipfile.ZipFile(wheels[0], "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    both = lock(tmp_path, *wheels)
    assert syncer.sync(environment, both.wanted, both.path) == ()


def test_a_file_where_another_package_has_a_folder_is_an_error(
    syncer: Syncer, environment: Environment, tmp_path: Path
) -> None:
    """No order of installations gives both, and uv can't undo the attempt."""
    wheels = [
        make_wheel(tmp_path, "one", "1.0", files={"thing": ""}),
        make_wheel(tmp_path, "two", "1.0", files={"thing/more": ""}),
    ]
    both = lock(tmp_path, *wheels)
    with pytest.raises(BuildStagesError, match="can't be installed") as caught:
        syncer.sync(environment, both.wanted, both.path)
    assert caught.value.hint.startswith("one wheel has a file where another has a f")
    assert caught.value.hint.endswith(f"\n  rm -r {environment.location}")


# What a backend sees -------------------------------------------------------------

PLACE = Environment(location=Path("/e"), bin=Path("/e/bin"), python=Path("/e/python"))
KEPT = {
    "CURL_CA_BUNDLE": "1",
    "REQUESTS_CA_BUNDLE": "4",
    "SSL_CERT_DIR": "5",
    "SSL_CERT_FILE": "6",
}
OWN = {
    "GIT_CEILING_DIRECTORIES": "/",
    "HOME": "/h",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "SOURCE_DATE_EPOCH": "315532800",
    "TMPDIR": "/h",
    "TZ": "UTC",
    "VIRTUAL_ENV": "/e",
}


def test_a_backend_sees_listed_variables_only() -> None:
    """Neither PYTHONPATH nor PIP_*, CFLAGS, HOME, locales or unknown variables."""
    unseen = ("PYTHONPATH", "PIP_INDEX_URL", "CFLAGS", "X", "LANGUAGE", "LC_ALL")
    outer = {
        **KEPT,
        **dict.fromkeys(unseen, "y"),
        **dict.fromkeys(OWN, "z"),
        "PATH": "/usr/bin:/bin",
    }
    assert backend_variables(outer, PLACE, declared={}, home=Path("/h")) == {
        **KEPT,
        **OWN,
        "PATH": "/e/bin:/usr/bin:/bin",
    }


@pytest.mark.parametrize("outer", [{}, {"PATH": ""}])
def test_path_has_no_empty_parts(outer: dict[str, str]) -> None:
    """An empty part of PATH would mean the source tree."""
    assert (
        backend_variables(outer, PLACE, declared={}, home=Path("/h"))["PATH"]
        == "/e/bin"
    )


def test_declared_variables_win() -> None:
    """A declared PATH comes after the programs of the environment."""
    declared = {"PATH": "/tools", "TZ": "CET"}
    seen = backend_variables({}, PLACE, declared=declared, home=Path("/h"))
    assert seen["PATH"] == os.pathsep.join(("/e/bin", "/tools"))
    assert seen["TZ"] == "CET"
