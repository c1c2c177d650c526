"""What other tools' tables and files declare, in the words of PEP 508."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nox_buildstages.declarations.foreign import read_foreign
from nox_buildstages.declarations.poetry import pep440
from nox_buildstages.errors import UsageError
from nox_buildstages.reader import parse_toml

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.declarations.declared import Declared

POETRY = """
[tool.poetry.dependencies]
python = "^3.10"
a = "^1.2"
b = { version = "~2.1", extras = ["x", "y"], markers = "sys_platform == 'linux'" }
c = { git = "https://example.com/c.git", tag = "v1", subdirectory = "py" }
d = { path = "vendor/d", develop = true }
e = [
    { version = "<2", python = "<3.11" },
    { version = ">=2", python = ">=3.11" },
]
f = { version = "*", optional = true }
g = "^1 || ^2"

[tool.poetry.extras]
fast = ["f"]

[tool.poetry.group.gpu.dependencies]
h = "1.0"

[tool.poetry.dev-dependencies]
i = "*"

[[tool.poetry.source]]
name = "internal"
url = "https://example.com/simple"
"""

PDM = """
[project]
dependencies = ["a", "b @ file:///${PROJECT_ROOT}/vendor/b"]

[tool.pdm.dev-dependencies]
test = ["pytest", "-e file:///${PROJECT_ROOT}/sub#egg=sub"]

[tool.pdm.resolution.overrides]
numpy = "1"
"""

PIXI = """
[project]
name = "mine"
dependencies = ["a"]

[tool.pixi.dependencies]
python = "*"
cuda-nvcc = "*"

[tool.pixi.pypi-dependencies]
mine = { path = ".", editable = true }
b = ">=1"
c = { version = "*", extras = ["x"] }
d = { git = "ssh://git@example.com/d.git", rev = "abc" }

[tool.pixi.target.linux-64.pypi-dependencies]
e = "1.0"

[tool.pixi.feature.gpu.pypi-dependencies]
f = "*"

[tool.pixi.pypi-options]
no-build-isolation = ["b"]
"""

REQUIREMENTS = """\
--index-url https://user:secret@example.com/simple
-r more/base.txt
-c limits.txt
a==1.0 \\
    --hash=sha256:aa  # pinned
-e ./vendor/b
git+https://example.com/c.git@v1#egg=c
./vendor/d[x] ; python_version >= "3.10"
https://example.com/e-1.0.tar.gz
f @ git+https://example.com/${OWNER}/f
???
"""


def read(folder: Path, pyproject: str) -> Declared:
    """Return what other tools declare in a folder."""
    return read_foreign(parse_toml(pyproject), folder, {"OWNER": "me"})


@pytest.mark.parametrize(
    ("poetry", "expected"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0.0", ">=0.0,<0.1"),
        ("^0", ">=0,<1"),
        ("^2.0b1", ">=2.0b1,<3"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1", ">=1,<2"),
        ("~=1.4", "~=1.4"),
        ("1.2.3", "==1.2.3"),
        ("=1.2", "==1.2"),
        ("2.*", "==2.*"),
        ("*", ""),
        (">= 1.2, <2.0 , !=1.5", ">=1.2,<2.0,!=1.5"),
        (">=1 <2", ">=1,<2"),
    ],
)
def test_poetry_versions_become_specifiers(poetry: str, expected: str) -> None:
    """Carets and tildes are ranges; a bare version is that version alone."""
    assert pep440(poetry) == expected


def test_poetry(tmp_path: Path) -> None:
    """Dependencies, extras and groups are read; the rest is named."""
    found = read(tmp_path, POETRY)
    assert found.requirements == (
        "a>=1.2,<2",
        "b[x,y]>=2.1,<2.2 ; sys_platform == 'linux'",
        "c @ git+https://example.com/c.git@v1#subdirectory=py",
        "d @ ./vendor/d",
        "e<2 ; python_version < '3.11'",
        "e>=2 ; python_version >= '3.11'",
    )
    assert found.extras == {"fast": ("f",)}
    assert found.groups == {"gpu": ("h==1.0",), "dev": ("i",)}
    assert [note.partition(";")[0] for note in found.notes] == [
        "[[tool.poetry.source]] internal isn't read",
        "[tool.poetry] g isn't read: PEP 440 has no '^1 || ^2'",
    ]


def test_poetry_beside_pep_621(tmp_path: Path) -> None:
    """``[project]`` has the dependencies then, and Poetry's are named."""
    found = read(tmp_path, f'[project]\ndependencies = ["a"]\n{POETRY}')
    assert found.requirements == ()
    assert any("[tool.poetry.dependencies] a, b, c" in note for note in found.notes)


def test_pdm(tmp_path: Path) -> None:
    """Its groups are read, and the root of the project in a URL."""
    found = read(tmp_path, PDM)
    assert found.requirements == ("a", "b @ ./vendor/b")
    assert found.groups == {"test": ("pytest", "sub @ ./sub")}
    (note,) = found.notes
    assert "write override-dependencies in [tool.uv]" in note


def test_hatch(tmp_path: Path) -> None:
    """The dependencies of its environments are groups."""
    found = read(
        tmp_path,
        """
        [tool.hatch.envs.default]
        dependencies = ["pytest", "lib @ {root:uri}/lib"]
        [tool.hatch.envs.gpu]
        extra-dependencies = ["chumpy"]
        [tool.hatch.envs.types]
        template = "default"
        """,
    )
    assert found.groups == {"default": ("pytest", "lib @ ./lib"), "gpu": ("chumpy",)}
    assert found.requirements == ()


@pytest.mark.parametrize("is_own_file", [False, True])
def test_pixi(tmp_path: Path, *, is_own_file: bool) -> None:
    """Packages of PyPI are read, in a file of its own too; conda's are named."""
    pyproject, origin = PIXI, "[tool.pixi]"
    if is_own_file:
        pyproject, origin = "", "pixi.toml"
        text = PIXI.replace("[tool.pixi.", "[")
        tmp_path.joinpath("pixi.toml").write_text(text, "utf-8")
    found = read(tmp_path, pyproject)
    assert found.requirements == (
        "b>=1",
        "c[x]",
        "d @ git+ssh://git@example.com/d.git@abc",
        "e==1.0 ; sys_platform == 'linux'",
    )
    assert found.groups == {"gpu": ("f",)}
    conda, option = found.notes
    assert conda.startswith(f"{origin} dependencies: conda's cuda-nvcc aren't read")
    assert "no-build-isolation-package in [tool.uv]" in option


def test_requirements_files(tmp_path: Path) -> None:
    """Files that they name count; options are named with uv's own, without secrets."""
    tmp_path.joinpath("more").mkdir()
    for name, text in {
        "requirements.txt": REQUIREMENTS,
        "more/base.txt": "base>=1\n-r nested.txt\n-e ../lib\n",
        "more/nested.txt": "nested\n-r base.txt\n",
        "limits.txt": "numpy<2\n",
        "requirements-dev.txt": "pytest\n",
    }.items():
        tmp_path.joinpath(name).write_text(text, "utf-8")
    found = read(tmp_path, "")
    assert found.requirements == (
        "base>=1",
        "nested",
        "lib @ ./lib",
        "a==1.0",
        "b @ ./vendor/b",
        "c @ git+https://example.com/c.git@v1",
        'd[x] @ ./vendor/d ; python_version >= "3.10"',
        "e @ https://example.com/e-1.0.tar.gz",
        "f @ git+https://example.com/me/f",
    )
    assert found.constraints == ("numpy<2",)
    assert found.groups == {"requirements-dev.txt": ("pytest",)}
    index, hashes, unknown = found.notes
    assert "--index-url isn't read; write [[tool.uv.index]]" in index
    assert "secret" not in index
    assert hashes == (
        "requirements.txt: --hash isn't read; write nothing: the lock files have the"
        " hashes of what they name"
    )
    assert "???" in unknown
    beside = read(tmp_path, '[project]\ndependencies = ["a"]\n')
    assert beside.requirements == ()
    assert set(beside.groups) == {"requirements.txt", "requirements-dev.txt"}


def test_a_requirements_file_that_is_missing(tmp_path: Path) -> None:
    """The line that names it is named, too."""
    tmp_path.joinpath("requirements.txt").write_text("a\n-r b.txt\n", "utf-8")
    message = r"requirements\.txt: -r b\.txt: No such file or directory"
    with pytest.raises(UsageError, match=message):
        read(tmp_path, "")


def test_setuptools(tmp_path: Path) -> None:
    """Dynamic dependencies in files are read, and setup.cfg; setup.py is named."""
    dynamic = """
    [project]
    name = "mine"
    dynamic = ["dependencies", "optional-dependencies"]
    [tool.setuptools.dynamic]
    dependencies = { file = ["deps.txt"] }
    optional-dependencies.gpu = { file = "gpu.txt" }
    """
    tmp_path.joinpath("deps.txt").write_text("a\n", "utf-8")
    tmp_path.joinpath("gpu.txt").write_text("b\n", "utf-8")
    found = read(tmp_path, dynamic)
    assert (found.requirements, found.extras) == (("a",), {"gpu": ("b",)})
    text = "[options]\ninstall_requires =\n    c>=1\n[options.extras_require]\nx = d\n"
    tmp_path.joinpath("setup.cfg").write_text(text, "utf-8")
    found = read(tmp_path, "")
    assert (found.requirements, found.extras) == (("c>=1",), {"x": ("d",)})
    tmp_path.joinpath("setup.cfg").unlink()
    for name in ("setup.py", "Pipfile", "environment.yml"):
        tmp_path.joinpath(name).touch()
    notes = read(tmp_path, "").notes
    assert [note.partition(";")[0] for note in notes] == [
        "setup.py: install_requires isn't read",
        "Pipfile: packages aren't read",
        "environment.yml: packages of conda and pip aren't read",
    ]
    own = '[tool.nox-buildstages.final]\nrequirements = ["a"]'
    assert read(tmp_path, own).notes == ()  # as the notes advise
