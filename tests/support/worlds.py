"""The projects in which the commands of the documentation run."""

from __future__ import annotations

import ensurepip
import json
import os
import re
import shutil
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
import virtualenv
from packaging.version import Version

from nox_buildstages.environments.own_files import copy_file
from nox_buildstages.system.files import path_id
from nox_buildstages.system.machine import Machine
from support import failing
from support.binaries import compile_two_libraries, make_linked
from support.caches import require_ccache
from support.git import commit, git
from support.packages import (
    in_tree_backend,
    make_sdist,
    make_setuptools,
    make_tree,
    make_wheel,
)
from support.pair import Pair, declare, declare_solo, kernels_tree, publish
from support.real import folder_with_torch, python_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from support.index import Index
    from support.project import Project

EXAMPLES = Path(__file__).parents[2] / "examples"
IGNORED = shutil.ignore_patterns(".nox", "wheelhouse", "build-stages")
COMPILED: dict[str, Any] = {
    "settings": {"compile": ["part.c"]},
    "files": {"part.c": "int part(void) { return 1; }\n"},
}
"""A package with compiled code, for ``make_sdist`` and ``make_tree``."""


# Real packages


def first(project: Project) -> None:
    """Copy the first example."""
    shutil.copytree(
        EXAMPLES / "first", project.folder, ignore=IGNORED, dirs_exist_ok=True
    )


def tutorial(project: Project) -> None:
    """Make a clone in which the README's first command has run."""
    example = project.folder / "examples" / "first"
    shutil.copytree(EXAMPLES / "first", example, ignore=IGNORED)
    for left in ("build-stages/pylock.native.toml", "wheelhouse/build-stages.json"):
        example.joinpath(left).parent.mkdir()
        example.joinpath(left).write_text("of a run\n")


def frozenlist(project: Project) -> None:
    """A package that compiles its source in a folder with a random name."""
    for program in ("unzip", "strings"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["frozenlist"]

        [[tool.nox-buildstages.stage]]
        name = "lists"
        outputs = ["frozenlist==1.8.0"]
    """)


def torch(project: Project) -> None:
    """Copy the example with torch, and have a folder with its CPU build."""
    Path(project.env["HOME"], "wheels").symlink_to(folder_with_torch())
    shutil.copytree(
        EXAMPLES / "torch", project.folder, ignore=IGNORED, dirs_exist_ok=True
    )


def nvcc(project: Project) -> None:
    """A source that CMake compiles with nvcc; the page shows the table."""
    project.write("")
    for path, text in {
        "pyproject.toml": """
            [build-system]
            requires = ["scikit-build-core", "cmake", "ninja"]
            build-backend = "scikit_build_core.build"

            [project]
            name = "kern"
            version = "1.0"
        """,
        "CMakeLists.txt": """
            cmake_minimum_required(VERSION 3.24)
            project(kern LANGUAGES CXX CUDA)
            add_library(kern SHARED kern.cu)
            install(TARGETS kern DESTINATION kern)
        """,
        "kern.cu": """
            #include <cuda/std/cstddef>

            __global__ void add(float *a, cuda::std::size_t i) { a[i] += 1; }
        """,
    }.items():
        file = project.folder / "kern" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(text))


# Packages made here


PATCH = """\
--- a/models/__init__.py
+++ b/models/__init__.py
@@ -1 +1,2 @@
 \"\"\"models 1.0.\"\"\"
+patched = 1
"""


TOY_WHEELS = {"numpy": ("2.3.5", "2.4.6"), "cython": ("3.2.5", "3.3.1")}
TOY_SDISTS = {
    "cymem": ("2.0.16", "cymem", ["cython"]),
    "murmurhash": ("1.0.16", "mrmr", ["cython"]),
    "preshed": ("3.0.15", "maps", ["cython", "cymem", "murmurhash"]),
    "fastdtw": ("0.3.4", "_fastdtw", []),
}
"""The version, a module and the build requirements of each stand-in."""


def toys(project: Project, index: Index, **settings: object) -> None:
    """Copy the first example; packages of the same names stand in for the real ones.

    Their builds have more settings.
    """
    first(project)
    project.folder.joinpath("check.py").write_text(
        'print("cymem, murmurhash, preshed and fastdtw work")\n'
    )
    for name, versions in TOY_WHEELS.items():
        for version in versions:
            make_wheel(index.folder, name, version)
    for name, (version, *_) in TOY_SDISTS.items():
        _make_toy(index, name, version, **settings)


def _make_toy(index: Index, name: str, version: str, **settings: object) -> None:
    """Make the sdist of a stand-in."""
    _, module, build_requires = TOY_SDISTS[name]
    make_sdist(
        *(index.folder, name, version),
        build_requires=["tinybackend", *build_requires],
        settings={**COMPILED["settings"], **settings},
        files={**COMPILED["files"], f"{name}/{module}.py": ""},
    )


def built(project: Project, index: Index) -> None:
    """Build the stand-ins of the first example."""
    toys(project, index)
    project.nox("-s", "build-stages")


def vendored(project: Project, index: Index) -> None:
    """Release the stand-ins of the first example, with the wheels from the index."""
    toys(project, index)
    project.nox("-s", "build-stages-release", "--", "--vendor")


def vendored_matrix(project: Project, index: Index) -> None:
    """Release the cells of the example of a matrix, with the wheels from the index."""
    matrix(project, index)
    project.nox("-s", "build-stages-release", "--", "--vendor")


def pips(project: Project, index: Index) -> None:
    """Build on a machine whose pip is older than the one on the index."""
    built(project, index)
    if Version(ensurepip.version()) >= Version("26.1"):
        pytest.skip("no pip here is too old")
    for wheel in Path(virtualenv.__file__).parent.rglob("pip-*.whl"):
        index.add(wheel)


def outdated(project: Project, index: Index) -> None:
    """Lock the first example, whose packages then get newer versions."""
    first(project)
    for name, versions in TOY_WHEELS.items():
        make_wheel(index.folder, name, versions[0])
    older = {"cymem": "2.0.13", "murmurhash": "1.0.15", "preshed": "3.0.13"}
    for name, (version, *_) in TOY_SDISTS.items():
        _make_toy(index, name, older.get(name, version))
    project.nox("-s", "build-stages-lock")
    toys(project, index)


def branch(project: Project, index: Index) -> None:
    """Build a branch of a git repository, which then gets a commit."""
    del index
    tree = make_tree(project.folder.with_name("gitty"), "gitty", "3.0")
    git(tree, "init", "--quiet", "--initial-branch", "main")
    commit(tree)
    stage = {"name": "mine", "outputs": [f"gitty @ git+{tree.as_uri()}@main"]}
    declare(project, {"final": {"requirements": ["gitty"]}, "stage": [stage]})
    project.nox("-s", "build-stages")
    tree.joinpath("README.md").touch()
    commit(tree)


def edited(project: Project, index: Index) -> None:
    """Build, and set a variable of a stage."""
    built(project, index)
    document = project.pyproject.read_text("utf-8")
    project.pyproject.write_text(f'{document}env = {{ CFLAGS = "-O2" }}\n', "utf-8")


def incomplete(project: Project, index: Index) -> None:
    """Lock, and remove a lock file."""
    toys(project, index)
    project.nox("-s", "build-stages-lock")
    project.folder.joinpath("build-stages/pylock.maps.toml").unlink()


def damaged(project: Project, index: Index) -> None:
    """Build, and damage a wheel in the store."""
    built(project, index)
    for wheel in project.store.glob("wheels/*/*/murmurhash-*.whl"):
        wheel.chmod(0o644)
        wheel.write_bytes(b"")


def newer(project: Project, index: Index) -> None:
    """Have a lock file of a format to come."""
    toys(project, index)
    project.nox("-s", "build-stages-lock")
    lock = project.folder / "build-stages/pylock.native.toml"
    lock.write_text(lock.read_text("utf-8").replace("format = 1", "format = 2"))


def matrix(project: Project, index: Index) -> None:
    """Copy the example of a matrix, with stand-ins for its packages."""
    toys(project, index)
    shutil.copytree(EXAMPLES / "matrix", project.folder, dirs_exist_ok=True)


def variants(project: Project, index: Index) -> None:
    """A package for two kinds of GPU, and for none."""
    make_sdist(*(index.folder, "kernels", "1.0"), **COMPILED)
    project.write("""
        [tool.nox-buildstages.matrix.cuda-arch]
        "8.0" = { variant = { nvidia = { sm_arch = ["80_real"] } } }
        "9.0" = { variant = { nvidia = { sm_arch = ["90_real"] } } }
        none = { variant = {} }

        [tool.nox-buildstages.final]
        requirements = ["kernels"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["kernels"]
        env = { ARCHS = "{cuda-arch}" }
    """)
    project.nox("-s", "build-stages-lock")


def undeclared(project: Project, index: Index) -> None:
    """An output whose build imports torch, in a stage without torch."""
    make_sdist(
        *(index.folder, "flash-attn", "2.8.3.post2"),
        static=False,
        files={
            "pyproject.toml": in_tree_backend("ops_backend"),
            "ops_backend.py": "from tinybackend import *\n\n\n"
            "def get_requires_for_build_wheel(config_settings=None):\n"
            "    import torch\n",
        },
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["flash-attn"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["flash-attn==2.8.3.post2"]
    """)


def header(project: Project, index: Index) -> None:
    """A source that includes a header that isn't installed."""
    del index
    make_tree(
        *(project.folder / "hello", "hello", "1.0"),
        settings={"compile": ["a.c"]},
        files={"a.c": "#include <mpi.h>\n"},
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["hello"]

        [[tool.nox-buildstages.stage]]
        name = "s"
        outputs = ["hello @ ./hello"]
    """)


def memory(project: Project, index: Index) -> None:
    """A source whose build is killed unless it has one job."""
    del index
    make_tree(
        *(project.folder / "kernels", "kernels", "1.0"),
        settings={"faults": ["memory"]},
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["kernels"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        jobs = 2
        outputs = ["kernels @ ./kernels"]
    """)


def meddling(project: Project, index: Index) -> None:
    """A build whose dependency keeps a table beside its own files."""
    keeps = (
        "from pathlib import Path\n\nTABLE = Path(__file__).with_name('table.txt')\n"
        "TABLE.write_text('42')\n"
    )
    make_wheel(index.folder, "tabler", "1.0", files={"tabler/__init__.py": keeps})
    make_sdist(
        *(index.folder, "user-of-it", "1.0"),
        settings={"import-first": ["tabler"]},
        build_requires=["tinybackend", "tabler"],
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["user-of-it"]

        [[tool.nox-buildstages.stage]]
        name = "use"
        outputs = ["user-of-it"]
    """)


def wrong_pin(project: Project, index: Index) -> None:
    """An output that declares another torch than its stage wants."""
    for version in ("2.7.1", "2.13.0"):
        make_wheel(index.folder, "torch", version)
    make_sdist(
        *(index.folder, "grouped-gemm", "0.3.0"),
        build_requires=["tinybackend", "torch<2.8,>=2.7.0"],
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["grouped-gemm"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        dependencies = ["torch==2.13.0"]
        outputs = ["grouped-gemm==0.3.0"]
    """)


def divided(project: Project, index: Index) -> None:
    """Two outputs of one stage that declare different versions of Cython."""
    make_setuptools(index.folder)
    for version in ("0.29.37", "3.3.1"):
        make_wheel(index.folder, "cython", version)
    for name, version, requires in (
        ("pyyaml", "6.0.1", ["Cython<3.0"]),
        ("murmurhash", "1.0.16", ["cython>=3.1"]),
        ("msgpack", "1.1.2", []),
    ):
        build_requires = ["tinybackend", *requires]
        make_sdist(index.folder, name, version, build_requires=build_requires)
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["pyyaml", "murmurhash", "msgpack"]

        [[tool.nox-buildstages.stage]]
        name = "native"
        dependencies = ["setuptools"]
        outputs = ["pyyaml==6.0.1", "murmurhash==1.0.16", "msgpack==1.1.2"]
    """)


def runtime(project: Project, index: Index) -> None:
    """A runtime environment that refuses what an output requires."""
    for version in ("23.2", "26.3"):
        make_wheel(index.folder, "packaging", version)
    make_sdist(index.folder, "hatchling", "1.27.0", requires=["packaging>=24.2"])
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["hatchling", "packaging<24"]

        [[tool.nox-buildstages.stage]]
        name = "pure"
        outputs = ["hatchling==1.27.0"]
    """)


def no_wheel(project: Project, index: Index) -> None:
    """A dependency of a stage that has no wheel."""
    for version in ("0.3.2", "0.3.4"):
        make_sdist(index.folder, "fastdtw", version)
    make_sdist(index.folder, "cymem", "2.0.16")
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["cymem"]

        [[tool.nox-buildstages.stage]]
        name = "native"
        dependencies = ["fastdtw"]
        outputs = ["cymem"]
    """)


def order(project: Project, index: Index) -> None:
    """An output that declares an output of a stage that isn't needed."""
    make_sdist(index.folder, "cymem", "2.0.16")
    build_requires = ["tinybackend", "cymem"]
    make_sdist(index.folder, "preshed", "3.0.15", build_requires=build_requires)
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["preshed", "cymem"]

        [[tool.nox-buildstages.stage]]
        name = "a"
        outputs = ["cymem"]

        [[tool.nox-buildstages.stage]]
        name = "b"
        outputs = ["preshed"]
    """)


def match(project: Project, index: Index) -> None:
    """Environments that can't share a version of Cython."""
    for version in ("3.0.12", "3.3.1"):
        make_wheel(index.folder, "cython", version)
    build_requires = ["tinybackend", "cython>=3.1"]
    make_sdist(index.folder, "cymem", "2.0.16", build_requires=build_requires)
    project.write("""
        [tool.nox-buildstages]
        match-runtime = ["cython"]

        [tool.nox-buildstages.final]
        requirements = ["cymem", "cython<3.1"]

        [[tool.nox-buildstages.stage]]
        name = "native"
        outputs = ["cymem"]
    """)


def broken(project: Project, index: Index) -> None:
    """The first example with one built output, and one that fails."""
    toys(project, index)
    project.nox("-s", "build-stage-warp")
    make_sdist(
        *(index.folder, "murmurhash", "1.0.17"),
        build_requires=["tinybackend", "cython"],
        settings=COMPILED["settings"],
        files={"part.c": "int part(void) { return missing; }\n"},
    )
    project.nox("-s", "build-stages-lock", "--", "--upgrade-package", "murmurhash")


def patched(project: Project, index: Index) -> None:
    """The second of two outputs with a patch, which was changed after the build."""
    publish(index)
    folder = project.folder / "patches"
    folder.mkdir()
    patch = folder / "models.patch"
    patch.write_text(PATCH)
    Pair(top={"package": {"models": {"patches": ["patches/models.patch"]}}}).write(
        project
    )
    project.nox("-s", "build-stages")
    patch.write_text(f"{PATCH}\n")


def unpatchable(project: Project, index: Index) -> None:
    """A patch that doesn't apply."""
    patched(project, index)
    patch = project.folder / "patches/models.patch"
    patch.write_text(PATCH.replace("1.0", "2.0"))


def odd(project: Project, index: Index) -> None:
    """A build backend without hooks for metadata, in an sdist without them."""
    backend = (
        "import tinybackend\n\n\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    return tinybackend.build_wheel(folder, config_settings)\n"
    )
    make_sdist(
        *(index.folder, "odd", "1.0"),
        static=False,
        files={"pyproject.toml": in_tree_backend("bare"), "bare.py": backend},
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["odd"]

        [[tool.nox-buildstages.stage]]
        name = "mine"
        outputs = ["odd"]
    """)


def own(project: Project, index: Index) -> None:
    """A project of its own, whose table the page shows."""
    toys(project, index)
    make_setuptools(index.folder)
    for name, version in (("cymem", "2.0.16"), ("murmurhash", "1.0.16")):
        make_wheel(index.folder, name, version)
    passes = f"print('.{72 * ' '}[100%]', '1 passed in 0.01s', sep='\\n')\n"
    make_wheel(index.folder, "pytest", "9.2", files={"pytest/__main__.py": passes})
    make_tree(
        *(project.folder, "mine", "1.0"),
        backend="setuptools.build_meta",
        settings={"thinks": 1.5},  # long enough for its progress to be shown
    )


def neighbour(project: Project, index: Index) -> None:
    """A source that includes a header from the folder beside it."""
    del index
    core = project.folder / "vendor/ws/core"
    core.mkdir(parents=True)
    core.joinpath("core.h").touch()
    make_tree(
        *(project.folder / "vendor/ws/python", "sib", "1.0"),
        settings={"compile": ["sib.c"]},
        files={"sib.c": '\n#include "../core/core.h"\n'},
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["sib"]

        [[tool.nox-buildstages.stage]]
        name = "s"
        outputs = ["sib @ ./vendor/ws/python"]
    """)


def not_importable(project: Project, index: Index) -> None:
    """An output that imports what the runtime environment lacks."""
    files = {"webrtcvad.py": "import pkg_resources\n"}
    make_sdist(index.folder, "webrtcvad", "2.0.10", files=files)
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["webrtcvad"]
        imports = ["webrtcvad"]

        [[tool.nox-buildstages.stage]]
        name = "audio"
        outputs = ["webrtcvad"]
    """)


def faulty_table(project: Project, index: Index) -> None:
    """A table with three problems."""
    del index
    project.write("""\
        [tool.nox-buildstages]
        match-runtimes = ["torch"]
        matrix.arch = ["8.0"]
        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["ops"]
        env = { ARCH = "{arhc}", A = 1 }
    """)


def faulty_source(project: Project, index: Index) -> None:
    """A source that doesn't compile, and a shell with the same prompt everywhere."""
    del index
    make_tree(
        *(project.folder / "kern", "kern", "1.0"),
        settings={"compile": ["kern.c"]},
        files={
            "kern.c": "#include <Python.h>\n\nPyObject *answer(void) {\n"
            "    return PyLong_FromLong(undeclared_thing);\n}\n"
        },
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["kern"]

        [[tool.nox-buildstages.stage]]
        name = "native"
        outputs = ["kern @ ./kern"]
        env = { PROMPT_COMMAND = "PS1='\\\\w# '" }
    """)


def twice_edited(project: Project, index: Index) -> None:
    """Builds that take some time, then variables of two stages."""
    toys(project, index, thinks=1.5)
    project.nox("-s", "build-stages")
    document = project.pyproject.read_text("utf-8")
    native = 'outputs = ["cymem", "murmurhash"]\n'
    document = document.replace(native, f'{native}env = {{ CXXFLAGS = "-O1" }}\n')
    project.pyproject.write_text(f'{document}env = {{ CFLAGS = "-O2" }}\n', "utf-8")


def slow(project: Project, index: Index) -> None:
    """The first example, built, with a preshed whose compiler takes seconds."""
    toys(project, index)
    make_setuptools(index.folder, "84.2.1")
    names = ("bloom", "counter", "map")
    make_sdist(
        *(index.folder, "preshed", "3.0.15"),
        backend="setuptools.build_meta",
        build_requires=["setuptools", "cython", "cymem", "murmurhash"],
        settings={"compile": [f"src/preshed/{name}.c" for name in names]},
        files={
            "preshed/maps.py": "",
            **{f"src/preshed/{name}.c": f"int {name};\n" for name in names},
        },
    )
    compiler = _slow_compiler(project, 2.5)
    maps = 'outputs = ["preshed"]\n'
    document = project.pyproject.read_text("utf-8").replace(maps, f"{maps}jobs = 2\n")
    rules = f'[tool.nox-buildstages.package.preshed]\nenv = {{ CC = "{compiler}" }}\n'
    project.pyproject.write_text(f"{document}\n{rules}", "utf-8")
    project.nox("-s", "build-stages")


def one_by_one(project: Project, index: Index) -> None:
    """A build by setuptools of five files, with two jobs."""
    make_setuptools(index.folder, "84.2.1")
    files = {f"blis/{name}.c": f"int {name};\n" for name in "abcde"}
    make_sdist(
        *(index.folder, "blis", "1.3.3"),
        backend="setuptools.build_meta",
        build_requires=["setuptools"],
        settings={"compile": [*files]},
        files=files,
    )
    env = {"CC": str(_slow_compiler(project, 1.5))}
    stage = {"name": "native", "outputs": ["blis"], "jobs": 2, "env": env}
    declare(project, {"final": {"requirements": ["blis"]}, "stage": [stage]})


def _slow_compiler(project: Project, seconds: float) -> Path:
    """Write a C compiler that waits before it compiles."""
    return _script(
        project.folder / "cc",
        f'case " $* " in *" -c "*) echo cc $*; sleep {seconds};; esac\n'
        'exec /usr/bin/cc "$@"\n',
    )


def _script(path: Path, text: str) -> Path:
    """Write a script of a shell, and return its path."""
    path.write_text(f"#!/bin/bash\n{text}", "utf-8")
    path.chmod(0o755)
    return path


def measured(project: Project, index: Index) -> None:
    """A package whose last build had a process with most of this machine's memory."""
    del index
    tree = kernels_tree(project)
    declare_solo(project, outputs=[tree])
    project.nox("-s", "build-stages")
    (record,) = project.store.glob("wheels/*/record.json")
    content = json.loads(record.read_bytes())
    content["memory"]["process"] = (Machine().memory_limit() or 0) * 3 // 5
    record.write_text(json.dumps(content))
    declare_solo(project, outputs=[tree], env={"NEW": "1"})


def no_sandbox(project: Project, index: Index) -> None:
    """The first example with a stage without a sandbox; uv links the packages."""
    edited(project, index)
    copy = project.folder / "copy-of-noxfile"
    if copy_file(str(project.noxfile), str(copy)):
        pytest.skip("uv clones packages on this file system")
    document = project.pyproject.read_text("utf-8")
    project.pyproject.write_text(f"{document}sandbox = false\n", "utf-8")


def two_disks(project: Project, index: Index) -> None:
    """The first example on a machine whose /dev/shm is another file system."""
    toys(project, index)
    other = Path("/dev/shm")  # noqa: S108 - not for a file
    if not other.is_dir() or other.stat().st_dev == project.folder.stat().st_dev:
        pytest.skip("shared memory isn't another file system")


def busy(project: Project, index: Index) -> None:
    """A project with a script that runs a command while other runs hold four locks.

    Each lock is released when the command waits for it.
    """
    del index
    declare_solo(project, outputs=[kernels_tree(project)], name="kernels")
    environments = project.folder / ".nox"
    names = [
        f"making-{path_id(environments / 'build-stages')}",
        f"locking-{path_id(project.pyproject)}",
        f"environment-{path_id(environments / 'build-stage-kernels')}",
    ]
    folder = project.store / "locks"
    folder.mkdir(parents=True)
    first, *others = (folder / f"{it}.lock" for it in names)
    locks = [first, project.store / "users.lock", *others]
    files = " ".join(f"{number}>{it}" for number, it in enumerate(locks, 3))
    _script(
        project.folder / "while-others-run",
        f"""\
exec {files}
for number in 3 4 5 6; do flock $number; done
number=3
timeout 100 "$@" 3>&- 4>&- 5>&- 6>&- 2>&1 | while IFS= read -r line; do
    echo "$line"
    case $line in *"waiting for"*) flock --unlock $number; : $((number++));; esac
done
""",
    )


def wrong_nvcc(project: Project, index: Index) -> None:
    """A package that extends a torch for CUDA 13, and an nvcc of CUDA 12."""
    make_wheel(index.folder, "torch", "2.13.0+cu130")
    make_sdist(
        *(index.folder, "flash-attn", "2.8.3"),
        build_requires=["tinybackend", "torch"],
        requires=["torch"],
    )
    stage = {"name": "kernels", "outputs": ["flash-attn"]}
    declare(project, {"final": {"requirements": ["flash-attn"]}, "stage": [stage]})
    program = project.folder / "cuda/bin/nvcc"
    program.parent.mkdir(parents=True)
    _script(program, "echo Cuda compilation tools, release 12.4, V12.4.131\n")
    project.nox("-s", "build-stages-lock")


def shared(project: Project, index: Index) -> None:
    """The first example with a remote store, which a folder stands in for."""
    toys(project, index)
    bucket = project.folder.with_name("bucket-of-a-test")
    document = project.pyproject.read_text("utf-8")
    header = "[tool.nox-buildstages]\n"
    project.pyproject.write_text(
        document.replace(header, f'{header}remote-store = "{bucket}"\n'), "utf-8"
    )


def child_pipelines(project: Project, index: Index) -> None:
    """The first example, locked, with the script for GitLab."""
    toys(project, index)
    shutil.copy(EXAMPLES / "gitlab/pipeline.py", project.folder)
    project.nox("-s", "build-stages-lock")


def existing(project: Project, index: Index) -> None:
    """A project of its own, whose [project] table the page shows."""
    project.write("")
    for name, version in (("numpy", "2.4.6"), ("cython", "3.3.1"), ("cymem", "2.0.16")):
        make_wheel(index.folder, name, version)
    make_setuptools(index.folder, "84.2.1")
    make_wheel(index.folder, "preshed", "3.0.15")
    for name, version, requires in (
        ("fastdtw", "0.3.4", ["tinybackend"]),
        ("preshed", "3.0.15", ["tinybackend", "cymem"]),
        ("webrtcvad", "2.0.10", ["tinybackend"]),
    ):
        make_sdist(index.folder, name, version, build_requires=requires, static=False)


def processors(project: Project, index: Index) -> None:
    """An output, for the processors that the page shows."""
    make_sdist(index.folder, "kernels", "1.0")
    declare_solo(project)


def abi3(project: Project, index: Index) -> None:
    """An output whose wheel suits two Pythons."""
    settings = {"tag": "cp311-abi3-linux_x86_64"}
    make_sdist(index.folder, "speedups", "1.0", settings=settings)
    only = {"name": "only", "outputs": ["speedups"]}
    table = {"final": {"requirements": ["speedups"]}, "stage": [only]}
    declare(project, {"python": ["3.11", "3.12"], **table})
    _bring_pythons(project)


def pythons(project: Project, index: Index) -> None:
    """Two Pythons, and a numpy for each; the page shows the table."""
    project.write("")
    _bring_pythons(project)
    make_wheel(index.folder, "numpy", "2.4.6")
    make_wheel(index.folder, "numpy", "2.5.5", requires_python=">=3.12")
    make_wheel(index.folder, "cython", "3.3.1")
    make_sdist(
        *(index.folder, "fastdtw", "0.3.4"),
        settings=COMPILED["settings"],
        static=False,
        files={**COMPILED["files"], "fastdtw/_fastdtw.py": ""},
    )


def _bring_pythons(project: Project) -> None:
    """Put the two Pythons of a world on the PATH."""
    programs = Path(project.env["PATH"].partition(os.pathsep)[0])
    for version in ("3.11", "3.12"):
        (programs / f"python{version}").symlink_to(
            python_of(version) / f"python{version}"
        )


def farm(project: Project, index: Index) -> None:
    """Copy the farm, with stand-ins for its packages; it needs two Pythons."""
    shutil.copytree(
        EXAMPLES / "farm", project.folder, ignore=IGNORED, dirs_exist_ok=True
    )
    _bring_pythons(project)
    make_setuptools(index.folder)
    for name in ("cmake", "ninja", "packaging", "psutil", "wheel"):
        make_wheel(index.folder, name, "1.0")
    extras = ["nvcc", "cccl", "curand", "nvtx"]
    make_wheel(index.folder, "cuda-toolkit", "13.0.2", extras=extras)
    for version in ("2.12.1", "2.13.0"):
        make_wheel(index.folder, "torch", version)
    document = project.pyproject.read_text("utf-8")
    for name, version in re.findall(r'"([\w-]+)==([\w.]+)"', document):
        make_sdist(index.folder, name, version, **COMPILED)


def two_jobs(project: Project, index: Index) -> None:
    """The wheelhouses of two jobs with different versions of numpy."""
    toys(project, index)
    top = 'match-runtime = ["numpy"]\n'
    jobs = {
        f"numpy-{it}": (top, f'{top}constraints = ["numpy=={it}.*"]\n')
        for it in ("2.3", "2.4")
    }
    _build_jobs(project, jobs)


def two_machines(project: Project, index: Index) -> None:
    """The wheelhouses of two jobs with different flags, which one wheel depends on."""
    toys(project, index)
    make_sdist(
        *(index.folder, "fastdtw", "0.3.4"),
        build_requires=["tinybackend"],
        settings={**COMPILED["settings"], "env": ["CFLAGS"]},
        files={**COMPILED["files"], "fastdtw/_fastdtw.py": ""},
    )
    last = 'outputs = ["fastdtw==0.3.4"]\n'
    flags = f'{last}env = {{ CFLAGS = "-march=x86-64-v3" }}\n'
    _build_jobs(project, {"x86-64": (last, last), "x86-64-v3": (last, flags)})


def _build_jobs(project: Project, jobs: Mapping[str, tuple[str, str]]) -> None:
    """Build once for each job, with a part of the table replaced."""
    document = project.pyproject.read_text("utf-8")
    project.folder.joinpath("artifacts").mkdir()
    for name, change in jobs.items():
        project.pyproject.write_text(document.replace(*change), "utf-8")
        project.nox("-s", "build-stages")
        project.wheelhouse.rename(project.folder / "artifacts" / name)


def linked(project: Project, index: Index) -> None:
    """An output that needs a library of this machine, and one of torch."""
    libraries = compile_two_libraries(project.folder.with_name("lib"))
    env = make_linked(project, index, libraries)
    final = {"requirements": ["kernels"], "imports": ["kernels.ext"]}
    only = {"name": "only", "outputs": ["kernels @ ./kernels"], "env": env}
    declare(project, {"final": final, "stage": [only]})


def released(project: Project, index: Index) -> None:
    """A released wheel, the variables of whose build are set, and its statement."""
    del index
    tree = kernels_tree(project)
    rules = {"env": {"ARCH": "8.0"}, "pass-env": ["NAME"]}
    declare_solo(project, outputs=[tree], **rules)
    project.nox("-s", "build-stages-release", env={"NAME": "x"})
    shutil.copy(project.wheelhouse / "provenance.jsonl", project.folder)


def cached(project: Project, index: Index) -> None:
    """Four files that go through ccache, one of which depends on a variable."""
    del index
    require_ccache()
    names = [f"f{number}.c" for number in range(3)]
    make_tree(
        *(project.folder / "kernels", "kernels", "1.0"),
        settings={"compile": [*names, "size.c"]},
        files={**{it: f"int {it[:-2]};\n" for it in names}, "size.c": "int s = SIZE;"},
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["kernels"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["kernels @ ./kernels"]
        env = { CFLAGS = "-DSIZE=64" }
    """)


CHECKING = """\
import ctypes
from pathlib import Path

import tinybackend
from tinybackend import get_requires_for_build_wheel


def build_wheel(folder, config_settings=None, metadata_directory=None):
    made = tinybackend.build_wheel(folder, config_settings)
    for library in Path("build").glob("*.so"):
        getattr(ctypes.CDLL(f"./{library}"), library.stem)
    return made
"""
"""A build backend that looks for a symbol in each library that it has linked."""


def shards(project: Project, index: Index) -> None:
    """A package of six files, whose build checks the symbols of the libraries."""
    require_ccache()
    names = [f"src/f{number}.c" for number in range(6)]
    make_sdist(
        *(index.folder, "kernels", "1.0"),
        settings={"compile": names},
        files={
            "pyproject.toml": in_tree_backend("checking"),
            "checking.py": CHECKING,
            **{it: f"int {it[4:-2]};\n" for it in names},
        },
    )
    project.write("""
        [tool.nox-buildstages.final]
        requirements = ["kernels"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        outputs = ["kernels"]
    """)


REAL: Mapping[str, Callable[[Project], None]] = {
    world.__name__: world for world in (first, tutorial, frozenlist, torch, nvcc)
}
"""The worlds that build packages from PyPI."""

TOY: Mapping[str, Callable[[Project, Index], None]] = {
    world.__name__.replace("_", "-"): world
    for world in (
        *(toys, built, vendored, incomplete, edited, damaged, newer, matrix),
        *(undeclared, header, memory, meddling, wrong_pin, divided, runtime),
        *(no_wheel, order, match, neighbour, not_importable),
        *(faulty_table, faulty_source, broken, patched, unpatchable, odd, own),
        *(twice_edited, slow, shared, child_pipelines, existing, pythons, two_jobs),
        *(two_machines, released, variants, vendored_matrix, pips, farm),
        *(outdated, branch, cached, shards, processors, abi3, linked),
        *(two_machines, released, variants, one_by_one, measured, two_disks),
        *(busy, no_sandbox, wrong_nvcc),
        *(failing.hints, failing.offline, failing.mirror, failing.lossy),
        *(failing.no_version, failing.local_version, failing.broken_promise),
        *(failing.replaced, failing.no_tool, failing.no_wheel_at_run_time),
        *(failing.overlapping, failing.timeout, failing.unmet, failing.unlockable),
        *(failing.unlike, failing.wrong_name, failing.no_gpu, failing.no_platform),
        *(failing.no_storage, failing.locked_out, failing.no_python),
        *(failing.flat_layout, failing.wrong_gpu, failing.other_torch),
        *(failing.no_filter, failing.half_made),
    )
}
"""The worlds that build packages made for them."""
