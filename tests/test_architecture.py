"""The rooms of the house: which way imports run, and what stays pure."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nox_buildstages"
PACKAGE = SOURCE.name

ROOMS = (
    *("value", "safe_text", "text", "reader", "model", "errors"),
    *("lock/files/names", "indexes", "system"),
    *("wheels", "declarations", "config", "recipes"),
    *("store", "environments", "run"),
    *("sources", "lock", "lock/files", "lock/resolve", "lock/explain", "preflight"),
    "builder",
    *("wheelhouse", "report", "workspace", "commands", "sessions", "__init__"),
)
"""The rooms in the order in which they may import: none imports a later one."""

PURE = (
    "value",
    "model",
    "run/nox_command_line",
    "indexes/url_secrets",
    "declarations/no_binary",
    "declarations/uv_files",
    "declarations/uv_keys",
    "declarations/uv_sources",
    "declarations/uv_variables",
    "declarations/builds",
    "declarations/locations",
    "reader",
    "safe_text",
    "text",
    "workspace/session_options",
    "commands/plan/formats",
    "run/summary",
    "report/data",
    "report/lanes",
    "report/markup",
    "report/page",
    "report/private",
    "report/style",
    "report/trace",
    "config/*",
    "recipes/recipe",
    "recipes/reference",
    "commands/init/known",
    "lock/files/diff",
    "lock/resolve/local_versions",
    "lock/files/lockfile",
    "lock/files/merge_targets",
    "lock/files/names",
    "lock/files/pylock",
    "environments/targets",
    "commands/init/draft",
    "commands/init/scope",
    "declarations/declared",
    "declarations/pdm",
    "declarations/pixi",
    "declarations/poetry",
    "store/key",
    "run/log_progress",
    "builder/diagnosis/causes",
    "builder/diagnosis/modules",
    "builder/diagnosis/system_packages",
    "wheelhouse/index",
    "wheelhouse/manifest",
    "commands/release/dependencies",
    "commands/release/provenance",
    "commands/release/sbom",
    "commands/merge/parts",
    "preflight/checks/*",
    "preflight/facts",
    "preflight/finding",
    "preflight/hints",
    "preflight/run_checks",
)
"""Modules that neither open a file, nor run a program, nor look at the environment."""

IMPURE_MODULES = {
    *("asyncio", "io", "multiprocessing", "shutil", "socket", "subprocess"),
    *("tempfile", "time", "urllib.request"),
}
LEXICAL = {"os.path", "os.path.normpath", "os.sep", "os.fspath"}
"""What of ``os`` only works on text."""
IMPURE_NAMES = {"open", "input", "print", "exec", "eval"}
IMPURE_METHODS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes"),
    *("exists", "is_file", "is_dir", "is_symlink", "stat", "lstat", "lexists"),
    *("mkdir", "unlink", "rmdir", "rename", "chmod", "touch", "readlink"),
    *("iterdir", "glob", "rglob", "walk", "cwd", "home", "expanduser", "absolute"),
}

FILES = {
    path.relative_to(SOURCE).with_suffix("").as_posix(): path
    for path in sorted(SOURCE.rglob("*.py"))
}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text("utf-8"))


@cache
def imports(name: str) -> frozenset[str]:
    """Return the dotted names that a module imports, those only for types too."""
    found: set[str] = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


@cache
def own_imports(name: str) -> frozenset[str]:
    """Return the modules of ours that a module imports."""
    found: set[str] = set()
    for dotted in imports(name):
        top, _, rest = dotted.partition(".")
        if top == PACKAGE:
            path = rest.replace(".", "/")
            inner = path if path in FILES else path.rpartition("/")[0]
            found.add(inner or "__init__")
    return frozenset(found)


def room(name: str) -> str:
    rooms = [it for it in ROOMS if f"{name}/".startswith(f"{it}/")]
    assert rooms, f"{name} has no room"
    return max(rooms, key=len)


def test_every_room_is_there() -> None:
    """A module that comes to be has a room in the list, and no room is empty."""
    assert {room(name) for name in FILES} == set(ROOMS)


@pytest.mark.parametrize("name", FILES)
def test_no_room_imports_a_later_one(name: str) -> None:
    """Imports run along the list, so no two rooms import each other."""
    place = ROOMS.index(room(name))
    later = {room(it) for it in own_imports(name)}
    assert not {it for it in later if ROOMS.index(it) > place}


@pytest.mark.parametrize(
    "page",
    ["CONTRIBUTING", "docs/explanation/architecture", "docs/explanation/table-keys"],
)
def test_pages_for_developers_name_what_exists(page: str) -> None:
    """Each Python file is there, and so is each function with an underscore."""
    text = ROOT.joinpath(f"{page}.md").read_text("utf-8")
    files = [*SOURCE.rglob("*.py"), *ROOT.glob("tests/**/*.py")]
    code = "".join(path.read_text("utf-8") for path in files)
    for path in re.findall(r"`([\w/]+/\w+\.py)`", text):
        assert SOURCE.joinpath(path).exists() or ROOT.joinpath(path).exists(), path
    for name in re.findall(r"`(?:\w+\.)*(_?[a-z]+_[a-z_]+)`", text):
        assert re.search(rf"\b{name}\b", code), name


def test_every_promise_names_its_test() -> None:
    """A page lists what is promised; each promise is held by a test that exists."""
    text = ROOT.joinpath("docs/explanation/promises.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) == text.count("\n- **")
    for file, name in named:
        assert f"def {name}(" in ROOT.joinpath(file).read_text("utf-8"), name


def test_no_modules_import_each_other() -> None:
    """Not even for types: each can be read after those that it names."""
    graph = {name: own_imports(name) - {"__init__"} for name in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_one_module_knows_nox() -> None:
    """Everything else works from any session, and with no nox at all."""
    users = {
        name
        for name in FILES
        if any(it.partition(".")[0] == "nox" for it in imports(name))
    }
    assert users == {"sessions"}


UNNEEDED = {
    *("commands/plan/reasons", "commands/plan/formats", "commands/init/init"),
    *("workspace/make_locks", "workspace/pythons"),
    *("commands/plan/project", "commands/plan/github"),
    *("builder/output", "builder/job", "run/follow", "run/debug_log"),
    *("recipes/catalogue", "recipes/recipe", "recipes/reference"),
    *(
        "builder/reproducible",
        "report/write",
        "commands/merge/merge",
        "store/history",
        "store/remote_files",
        "store/pruning",
    ),
}
"""What a run with nothing to do has no use for."""


@pytest.mark.parametrize("name", FILES)
def test_one_module_parses_json_and_toml(name: str) -> None:
    """Others can have touched nearly every file: one reader knows what may be wrong."""
    users = {"reader", "lock/files/selection", "commands/shell/rebuild"}
    users |= {"builder/scripts/shard"}  # runs without our modules
    users |= {"commands/release/sbom"}  # of text that was written a moment ago
    calls = {
        ast.unparse(it.func) for it in ast.walk(tree(name)) if isinstance(it, ast.Call)
    }
    assert name in users or calls.isdisjoint(("json.load", "json.loads"))
    assert name == "reader" or imports(name).isdisjoint(("tomllib", "tomli"))


@pytest.mark.parametrize("name", FILES)
def test_one_module_prints(name: str) -> None:
    """It takes lines that were made harmless; types show where that was forgotten."""
    is_program = name.startswith(("builder/scripts/", "commands/shell/rebuild"))
    calls = [it for it in ast.walk(tree(name)) if isinstance(it, ast.Call)]
    prints = "print" in {ast.unparse(it.func) for it in calls}
    assert prints <= (name == "system/terminal" or is_program)


def imported(*names: str) -> set[str]:
    """Return the modules that come with some of ours, ours by their paths."""
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(names)}; print(*sys.modules)"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = said.stdout.split()
    return {it.removeprefix(f"{PACKAGE}.").replace(".", "/") for it in found}


def test_a_run_with_nothing_to_do_imports_little() -> None:
    """Half of its time is importing: what few sessions need waits until they do."""
    assert FILES.keys() >= UNNEEDED
    found = imported(f"{PACKAGE}.sessions", f"{PACKAGE}.workspace.workspace")
    assert found.isdisjoint(UNNEEDED)


def test_listing_sessions_imports_less() -> None:
    """No session runs then: neither the store nor what takes locks is needed."""
    found = imported(f"{PACKAGE}.sessions")
    assert found.isdisjoint({"filelock", "packaging/pylock", "workspace/workspace"})


def pure() -> list[str]:
    found = [
        name
        for name in FILES
        for pattern in PURE
        if name == pattern
        or (pattern.endswith("/*") and name.startswith(pattern.removesuffix("*")))
    ]
    assert len(found) >= len(PURE)
    return found


@pytest.mark.parametrize("name", pure())
def test_a_pure_module_does_no_io(name: str) -> None:
    """It opens no file, runs no program, and looks at no variable of the system."""
    modules = {it for it in imports(name) if touches(it)}
    assert not modules
    used = {
        ast.unparse(node)
        for node in ast.walk(tree(name))
        if (isinstance(node, ast.Name) and node.id in IMPURE_NAMES)
        or (isinstance(node, ast.Attribute) and node.attr in IMPURE_METHODS)
        or (isinstance(node, ast.Attribute) and is_of_system(ast.unparse(node)))
    }
    assert not used


@pytest.mark.parametrize("name", pure())
def test_a_pure_module_imports_no_running_module(name: str) -> None:
    """Purity isn't lost through the back door: no runner, no files, no interpreter."""
    impure = {"system", "sources"}
    assert {room(it) for it in own_imports(name) - {"__init__"}}.isdisjoint(impure)


def touches(dotted: str) -> bool:
    barred = any(f"{dotted}.".startswith(f"{module}.") for module in IMPURE_MODULES)
    return barred or dotted.startswith("os.")


def is_of_system(attribute: str) -> bool:
    return attribute.startswith("os.") and attribute not in LEXICAL
