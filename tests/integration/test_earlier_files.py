"""Files that an earlier version wrote: lock files, a store and a wheelhouse.

``tests/data/before`` has those of the commit before the modules moved, for the project
in it, and what was known of the interpreter that ran then.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.tags import Tag

from nox_buildstages.commands.merge.merge import merge_wheelhouses
from nox_buildstages.lock.files.document import dump_lock, load_lock
from nox_buildstages.model import Interpreter
from nox_buildstages.store.history import History
from nox_buildstages.store.store import Store
from nox_buildstages.value import replace
from nox_buildstages.wheelhouse.manifest import format_manifest, parse_manifest
from support.sessions import Sessions

if TYPE_CHECKING:
    from nox_buildstages.workspace.workspace import Workspace
    from support.project import Project

BEFORE = Path(__file__).parents[1] / "data/before"


def interpreter() -> Interpreter:
    answer = json.loads(BEFORE.joinpath("interpreter.json").read_text("utf-8"))
    return Interpreter(**{**answer, "tags": tuple(Tag(*it) for it in answer["tags"])})


@pytest.fixture
def workspace(project: Project) -> Workspace:
    """A session in a project whose files an earlier version wrote."""
    for name in ("build-stages", "wheelhouse"):
        shutil.copytree(BEFORE / name, project.folder / name)
    shutil.copy(BEFORE / "pyproject.toml", project.folder)
    shutil.copytree(BEFORE / "store", project.store, dirs_exist_ok=True)
    opened = Sessions(project=project).open("build-stage-second")
    return replace(opened, interpreter=interpreter())


def test_lock_files_are_up_to_date(workspace: Workspace) -> None:
    """The same declaration has the same digest."""
    assert workspace.read_locks().keys() == {"first", "second", "final"}


@pytest.mark.parametrize("path", sorted(BEFORE.glob("build-stages/*.toml")))
def test_a_lock_file_is_written_in_the_same_way(path: Path) -> None:
    """Only the comment on top may be worded in another way."""
    text = path.read_text("utf-8")
    name = path.name.removeprefix("pylock.").removesuffix(".toml")
    again = dump_lock(load_lock(text, name=name))
    assert again.splitlines()[1:] == text.splitlines()[1:]


def test_every_wheel_in_the_store_has_its_key() -> None:
    """The recipe in a record gives the key of its folder, and the wheel is found."""
    store = Store(BEFORE / "store")
    keys = [path.name for path in BEFORE.glob("store/wheels/*")]
    assert len(keys) == 2
    for key in keys:
        record = json.loads(store.wheel_folder(key).joinpath("record.json").read_text())
        wheel = store.peek(key)
        assert wheel is not None
        assert wheel.recipe.to_dict() == record["recipe"]


def test_wheels_with_keys_of_an_earlier_scheme_are_compared(
    workspace: Workspace,
) -> None:
    """They are built once more, and that is the reason given."""
    context = workspace.context(workspace.read_locks())
    kernels = context.locks["first"].outputs[0]
    recipe = context.recipe("first", kernels.name)
    history = History(store=workspace.tools.store)
    last = history.previous(recipe)
    assert last is not None
    assert last.recipe.scheme == 1
    reasons = [text for text, _ in history.explain(recipe, last)]
    assert reasons == ["keys are computed in a new way (scheme 1 → 2)"]


def test_a_wheelhouse_is_merged(tmp_path: Path) -> None:
    """With one of this version, or alone."""
    house = tmp_path / "wheelhouse"
    shutil.copytree(BEFORE / "wheelhouse", house)
    for entry in json.loads(house.joinpath("build-stages.json").read_text())["wheels"]:
        log = house / entry["log"]
        log.parent.mkdir(exist_ok=True)
        log.touch()  # git ignores logs
    merge_wheelhouses([house], tmp_path / "merged")
    for name in ("pylock.toml", *(it.name for it in house.glob("*.whl"))):
        same = [it.joinpath(name).read_bytes() for it in (house, tmp_path / "merged")]
        assert same[0] == same[1]


def test_a_manifest_is_written_in_the_same_way() -> None:
    """Byte for byte."""
    text = BEFORE.joinpath("wheelhouse/build-stages.json").read_text("utf-8")
    assert format_manifest(parse_manifest(text)) == text
