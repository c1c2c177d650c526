"""uv's settings in the terms of the table: sources by extra, members, builds."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from nox_buildstages.config.project import read
from nox_buildstages.declarations.documents import read_document
from nox_buildstages.errors import DeclarationError

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.model import Project

FAST = canonicalize_name("fast")
STAGE = '[[tool.nox-buildstages.stage]]\nname = "s"\noutputs = ["fast"]\n'


def read_project(folder: Path, text: str) -> Project:
    """Read the text of a pyproject.toml, with the files beside it."""
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return read(read_document(path), pyproject=path)


def write_member(folder: Path, name: str, more: str = "") -> None:
    """Write a project without anything to build."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[project]\nname = "{name}"\nversion = "1"\n{more}'
    folder.joinpath("pyproject.toml").write_text(text, encoding="utf-8")


# Builds ------------------------------------------------------------------------------

BUILDS = """
[tool.uv]
build-constraint-dependencies = [
    "setuptools<70", { requirement = "wheel==0.45", hashes = ["sha256:00"] },
]
config-settings = { level = "1", both = "general" }
config-settings-package = { Fast = { both = ["special"], own = "uv" } }
extra-build-variables = { fast = { CFLAGS = "-O1", OWN = "uv" } }
[tool.uv.extra-build-dependencies]
fast = ["numpy", { requirement = "torch", match-runtime = true }]
other = [{ requirement = "jax", match-runtime = true }]
[[tool.uv.dependency-metadata]]
name = "fast"
requires-dist = ["numpy"]
"""


def test_settings_about_builds_become_rules_of_the_table(tmp_path: Path) -> None:
    """Constraints, requirements, variables, settings and metadata, as uv has them."""
    project = read_project(tmp_path, BUILDS + STAGE)
    rules = project.rules(FAST)
    assert [*map(str, project.build_constraints)] == ["setuptools<70", "wheel==0.45"]
    assert [*map(str, rules.build_requires_add)] == ["numpy", "torch"]
    assert rules.env == {"CFLAGS": "-O1", "OWN": "uv"}
    assert rules.config_settings == {"level": "1", "both": ("special",), "own": "uv"}
    assert [*map(str, rules.requires_dist or ())] == ["numpy"]
    assert project.match_runtime == ("torch",)  # nothing here builds ``other``


def test_the_table_has_the_last_word(tmp_path: Path) -> None:
    """If both say something about one variable or setting."""
    own = """
    [tool.nox-buildstages.package.fast]
    env = { OWN = "table" }
    config-settings = { own = "table" }
    metadata = { requires-dist = [] }
    build-requires = { remove = ["numpy"] }
    """
    rules = read_project(tmp_path, BUILDS + STAGE + own).rules(FAST)
    assert rules.env == {"CFLAGS": "-O1", "OWN": "table"}
    assert rules.config_settings["own"] == "table"
    assert rules.requires_dist == ()
    assert [*map(str, rules.build_requires_add)] == ["torch"]


@pytest.mark.parametrize(
    ("version", "holds"), [("1", True), ("2", False)], ids=["same", "another"]
)
def test_metadata_of_a_version_hold_for_that_version(
    tmp_path: Path, version: str, *, holds: bool
) -> None:
    """An output that can't have the version is asked for its own."""
    text = f'[[tool.uv.dependency-metadata]]\nname = "fast"\nversion = "{version}"\n'
    stage = STAGE.replace('"fast"', '"fast==1"')
    rules = read_project(tmp_path, text + stage).rules(FAST)
    assert (rules.requires_dist == ()) is holds


@pytest.mark.parametrize(
    "line",
    [
        "build-constraint-dependencies = [1]",
        'config-settings = { a = { b = "c" } }',
        'conflicts = [{ extra = "a" }]',
        "dependency-metadata = [{ requires-dist = [] }]",
        'extra-build-dependencies = { fast = "numpy" }',
        "extra-build-dependencies = { fast = [{ match-runtime = true }] }",
        "extra-build-variables = { fast = { A = 1 } }",
        'sources = { a = { git = ["x"] } }',
        "sources = { a = [{ extra = 1 }] }",
    ],
)
def test_a_malformed_setting_is_named(tmp_path: Path, line: str) -> None:
    """With its place, as a fault of the table is."""
    with pytest.raises(DeclarationError, match=r"tool\.uv\."):
        read_project(tmp_path, f"[tool.uv]\n{line}\n{STAGE}")


# Sources of extras and groups --------------------------------------------------------

EXTRAS = """
[project]
name = "app"
optional-dependencies = { cpu = ["torch"], gpu = ["torch"], all = ["app[gpu]"] }
[dependency-groups]
dev = ["app[cpu]", "pytest"]
lint = ["ruff"]
[tool.uv]
conflicts = [[{ extra = "cpu" }, { extra = "gpu" }, { group = "lint" }]]
[tool.uv.sources]
torch = [{ index = "cpu", extra = "cpu" }, { index = "gpu", extra = "GPU" }]
pytest = { git = "https://example.org/pytest", group = "dev" }
ruff = { index = "own" }
[tool.nox-buildstages.final]
"""
RUFF = {"ruff": {"index": "own"}}
PYTEST = {"pytest": {"git": "https://example.org/pytest"}}


@pytest.mark.parametrize(
    ("chosen", "sources", "requirements"),
    [
        ("", RUFF, []),
        ('extras = ["cpu"]', {"torch": [{"index": "cpu"}], **RUFF}, ["torch"]),
        ('extras = ["all"]', {"torch": [{"index": "gpu"}], **RUFF}, ["torch"]),
        (
            'groups = ["Dev"]',
            {"torch": [{"index": "cpu"}], **PYTEST, **RUFF},
            ["torch", "pytest"],
        ),
        (
            'requirements = ["app[gpu]"]',
            {"torch": [{"index": "gpu"}], **RUFF},
            ["torch"],
        ),
    ],
)
def test_a_source_of_an_extra_or_a_group_holds_if_that_is_chosen(
    tmp_path: Path, chosen: str, sources: object, requirements: list[str]
) -> None:
    """Also by way of another extra or group that names the project itself."""
    project = read_project(tmp_path, EXTRAS + chosen + "\n" + STAGE)
    assert project.uv["sources"] == sources
    assert [*map(str, project.final.requirements)] == requirements


def test_a_project_that_is_an_output_is_required_as_well(tmp_path: Path) -> None:
    """A group that names it means its wheel, too."""
    stage = STAGE.replace('"fast"', '"app @ ."')
    project = read_project(tmp_path, f'{EXTRAS}groups = ["dev"]\n{stage}')
    names = [str(it) for it in project.final.requirements]
    assert names == ["app[cpu]", "torch", "pytest"]


@pytest.mark.parametrize(
    "chosen", ['extras = ["cpu", "all"]', 'extras = ["gpu"]\ngroups = ["lint"]']
)
def test_conflicting_extras_are_refused(tmp_path: Path, chosen: str) -> None:
    """Uv installs them in no environment, either."""
    with pytest.raises(DeclarationError, match="conflict, as"):
        read_project(tmp_path, EXTRAS + chosen + "\n" + STAGE)


@pytest.mark.parametrize(
    ("key", "left"),
    [("no-sources = true", {}), ('no-sources-package = ["Ruff"]', {})],
)
def test_sources_are_ignored_if_uv_ignores_them(
    tmp_path: Path, key: str, left: object
) -> None:
    """All, or those of a package."""
    text = f'[tool.uv]\n{key}\nsources = {{ ruff = {{ index = "own" }} }}\n{STAGE}'
    assert read_project(tmp_path, text).uv["sources"] == left


# Workspaces --------------------------------------------------------------------------

WORKSPACE = """
[project]
name = "App"
[tool.uv.workspace]
members = ["packages/*", "missing/*", "tools/"]
exclude = ["packages/old*"]
[tool.uv.sources]
core = { workspace = true, marker = "sys_platform == 'linux'" }
the-tools = [{ workspace = true, extra = "x" }, { path = "elsewhere" }]
app = { workspace = true }
index-only = { workspace = false }
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return the folder of a workspace with three members, and one excluded."""
    write_member(tmp_path / "packages/core", "Core")
    write_member(
        tmp_path / "packages/sub",
        "sub",
        '[tool.uv]\nresolution = "lowest"\n[tool.uv.sources]\n'
        'core = { workspace = true }\nx = { path = "x" }\ny = { index = "own" }\n'
        '[[tool.uv.index]]\nname = "own"\nurl = "./own"\n',
    )
    write_member(tmp_path / "packages/old", "old")
    write_member(tmp_path / "tools", "the_tools")
    (tmp_path / "packages/notes").mkdir()
    return tmp_path


def test_members_of_a_workspace_are_found_by_their_names(workspace: Path) -> None:
    """In any spelling; the root is a member too."""
    project = read_project(workspace, WORKSPACE + STAGE.replace("fast", "core"))
    assert project.uv["sources"] == {
        "core": {"marker": "sys_platform == 'linux'", "path": "packages/core"},
        "the-tools": [{"path": "elsewhere"}],
        "app": {"path": "."},
    }


@pytest.mark.parametrize("name", ["old", "stranger"])
def test_a_source_that_is_no_member_is_an_error(workspace: Path, name: str) -> None:
    """As in uv; the message names the source."""
    text = WORKSPACE + f"{name} = {{ workspace = true }}\n"
    with pytest.raises(DeclarationError, match=f"tool.uv.sources.{name}"):
        read_project(workspace, text + STAGE)


def test_a_member_has_the_settings_of_the_root(workspace: Path) -> None:
    """With paths from the member; only its sources and their indexes are its own."""
    root = workspace / "pyproject.toml"
    root.write_text(WORKSPACE, encoding="utf-8")
    root.with_name("uv.toml").write_text('find-links = ["wheels"]\n', encoding="utf-8")
    path = workspace / "packages/sub/pyproject.toml"
    project = read_project(path.parent, path.read_text("utf-8") + STAGE)
    assert project.uv["find-links"] == ["../../wheels"]
    assert "resolution" not in project.uv
    assert project.uv["index"] == [{"name": "own", "url": "./own", "explicit": True}]
    assert project.uv["sources"] == {
        "core": {"path": "../core"},
        "the-tools": [{"path": "../../elsewhere"}],
        "app": {"path": "../.."},
        "x": {"path": "x"},
        "y": {"index": "own"},
    }


def test_a_folder_brings_the_sources_of_its_requirements(tmp_path: Path) -> None:
    """And so do the folders among these; those of an extra where it is asked for."""
    write_member(
        tmp_path / "packages/core",
        "core",
        """
dependencies = ["Ops[all]", "torch", "gpu", "known", "not a requirement"]
[project.optional-dependencies]
x = ["torch"]
y = ["torch"]
[tool.uv.sources]
ops = { path = "../ops" }
torch = [
    { index = "cpu", marker = "sys_platform == 'linux'" },
    { index = "other", extra = "x" },
    { index = "cpu", extra = "y" },
]
gpu = { index = "cpu", group = "dev" }
known = { path = "other" }
stranger = { path = "stranger" }
[[tool.uv.index]]
name = "cpu"
url = "wheels"
[[tool.uv.index]]
name = "other"
url = "other"
""",
    )
    write_member(
        tmp_path / "packages/ops",
        "ops",
        """
[project.optional-dependencies]
all = ["core", "deep"]
[tool.uv.sources]
core = { path = "../core" }
deep = { git = "https://example.com/deep", extra = "all" }
""",
    )
    text = """
    [project]
    name = "app"
    optional-dependencies = { gpu = ["core[x]"] }
    [tool.uv.sources]
    core = { path = "packages/core" }
    known = { path = "known" }
    [tool.nox-buildstages.final]
    extras = ["gpu"]
    """
    project = read_project(tmp_path, dedent(text) + STAGE.replace("fast", "core"))
    assert project.uv["sources"] == {
        "core": {"path": "packages/core"},
        "known": {"path": "known"},
        "ops": [{"path": "packages/ops"}],
        "torch": [
            {"index": "cpu", "marker": "sys_platform == 'linux'"},
            {"index": "other"},
        ],
        "deep": [{"git": "https://example.com/deep"}],
    }
    assert project.uv["constraint-dependencies"] == ["ops", "torch", "deep"]
    assert project.uv["index"] == [
        {"name": "cpu", "url": "packages/core/wheels", "explicit": True},
        {"name": "other", "url": "packages/core/other", "explicit": True},
    ]


def test_another_workspace_is_named_by_its_path(tmp_path: Path) -> None:
    """``workspace = "PATH"`` is a member of the workspace there."""
    write_member(tmp_path / "other/lib", "lib")
    write_member(tmp_path / "other", "o", '[tool.uv.workspace]\nmembers = ["lib"]\n')
    text = '[tool.uv.sources]\nlib = { workspace = "other" }\n'
    project = read_project(tmp_path, text + STAGE)
    assert project.uv["sources"] == {"lib": {"path": "other/lib"}}


def test_a_broken_file_above_is_a_strangers(tmp_path: Path) -> None:
    """Only a workspace that is one counts."""
    (tmp_path / "pyproject.toml").write_text("]")
    (tmp_path / "mine").mkdir()
    assert read_project(tmp_path / "mine", STAGE).uv == {}


def test_dev_dependencies_are_in_the_group_dev(tmp_path: Path) -> None:
    """As in uv, which had them before there were groups."""
    text = (
        '[dependency-groups]\ndev = ["a"]\n[tool.uv]\ndev-dependencies = ["b"]\n'
        '[tool.nox-buildstages.final]\nrequirements = []\ngroups = ["dev"]\n'
    )
    requirements = read_project(tmp_path, text + STAGE).final.requirements
    assert [*map(str, requirements)] == ["a", "b"]
