"""`build-stages-init`: what it proposes builds, or says what is left to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from nox_buildstages.reader import parse_toml
from support.packages import in_tree_backend, make_sdist, make_tree, make_wheel
from support.pair import lock_texts
from support.sessions import run_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.index import Index
    from support.project import Project

INIT = "build-stages-init"
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
NOTHING: Mapping[str, Any] = {}


@pytest.fixture(autouse=True)
def _published(index: Index) -> None:
    """What has a wheel: some at several versions, torch among them."""
    for name, versions in {
        "tensorlib": ("1.0", "2.0"),
        "torch": ("2.12", "2.13"),
        "helper": ("1.0",),
        "pyyaml": ("6.0",),
    }.items():
        for version in versions:
            make_wheel(index.folder, name, version)


def declare(
    project: Project,
    *dependencies: str,
    uv: Mapping[str, Any] = NOTHING,
    rest: str = "",
) -> None:
    """Write a project with these dependencies and no table of ours."""
    own = {"name": "mine", "version": "1.0", "dependencies": dependencies}
    document: dict[str, Any] = {"project": own}
    if uv:
        document["tool"] = {"uv": uv}
    project.write(tomli_w.dumps(document) + rest)


def proposal(
    project: Project, *words: str, env: Mapping[str, str] = NOTHING
) -> tuple[str, str]:
    """Return what the session printed on stdout, and what on stderr."""
    done = run_session(project, INIT, *words, env=env)
    return done.output, done.stderr


def failure(
    project: Project, session: str, *words: str, env: Mapping[str, str] = NOTHING
) -> str:
    """Return what a session that fails prints."""
    done = run_session(project, session, *words, env=env, check=False)
    return done.output + done.stderr


def table(text: str) -> dict[str, Any]:
    """Return our table in a TOML text."""
    found: dict[str, Any] = parse_toml(text)["tool"]["nox-buildstages"]
    return found


def stages(text: str) -> list[dict[str, Any]]:
    """Return the stages in a TOML text."""
    found: list[dict[str, Any]] = table(text)["stage"]
    return found


def commented(text: str) -> str:
    """Return the comments of a TOML text on one line."""
    lines = text.splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def builds(project: Project, *outputs: str) -> None:
    """Write the proposal, and see that nox builds all of it."""
    run_session(project, INIT, "--write")
    run_session(project, "build-stages-lock")
    run_session(project, "build-stages")
    names = [wheel["name"] for wheel in project.manifest()["wheels"]]
    assert sorted(names) == sorted(outputs)


# No table


def test_nothing_needs_a_stage(project: Project) -> None:
    """Where all dependencies have wheels that is the end, and nothing is printed."""
    uv = {"extra-build-dependencies": {"torch": ["helper"], "other": ["helper"]}}
    declare(project, "tensorlib", "torch", uv=uv)
    for words in ((), ("--write",)):
        before = project.pyproject.read_bytes()
        out, said = proposal(project, *words)
        assert out == ""
        assert "looked at 2 dependencies\n" in said
        assert (
            "torch: extra-build-dependencies of [tool.uv] names it, but it has a"
            in said
        )
        assert "nothing needs a stage: everything has a wheel for CPython" in said
        assert project.pyproject.read_bytes() == before


@pytest.mark.slow
def test_a_table_that_has_no_stage_yet(project: Project, index: Index) -> None:
    """Its final requirements are what stages are looked for."""
    make_sdist(index.folder, "kernels", "1.0")
    declare(project, rest='[tool.nox-buildstages.final]\nrequirements = ["kernels"]\n')
    said = failure(project, "build-stages")
    assert "kernels would have to be built" in said
    assert "`nox -s build-stages-init` proposes the stages that are missing" in said
    builds(project, "kernels")


# What is looked at


def test_nothing_was_looked_at(project: Project, index: Index) -> None:
    """Then nobody says that nothing needs a stage, but where to look."""
    make_sdist(index.folder, "kernels", "1.0")
    project.write('[dependency-groups]\nprod = ["kernels"]\n')
    out, said = proposal(project)
    assert out == ""
    assert "looked at 0 dependencies; not looked at: group prod (1)" in said
    assert "nothing needs a stage" not in said
    assert "nox -s build-stages-init -- --group prod, or --all" in said
    out, said = proposal(project, "--all")
    assert table(out)["final"] == {"groups": ["prod"]}
    assert stages(out)[0]["outputs"] == ["kernels==1.0"]
    assert "nox -s build-stages-init -- --all --write" in said


def test_sources_of_an_extra(project: Project, index: Index, tmp_path: Path) -> None:
    """They count with the extra, and disturb nothing without it."""
    make_sdist(index.folder, "kernels", "1.0")
    make_wheel(tmp_path / "own", "torch", "2.14")
    own = {"name": "own", "url": str(tmp_path / "own"), "format": "flat"}
    uv = {
        "index": [{**own, "explicit": True}],
        "sources": {"torch": {"index": "own", "extra": "cpu"}},
    }
    declare(project, "kernels", uv=uv)
    text = project.pyproject.read_text("utf-8")
    extra = '[project.optional-dependencies]\ncpu = ["torch"]\n'
    project.pyproject.write_text(f"{text}{extra}", "utf-8")
    out, said = proposal(project)
    assert [it["outputs"] for it in stages(out)] == [["kernels==1.0"]]
    assert "not looked at: extra cpu (1)" in said
    run_session(project, INIT, "--extra", "cpu", "--write")
    run_session(project, "build-stages-lock")
    versions = {it["name"]: it["version"] for it in project.lock("final")["packages"]}
    assert versions["torch"] == "2.14"


@pytest.mark.slow
def test_what_poetry_declares(project: Project, index: Index) -> None:
    """The table repeats it, and what it needs builds."""
    make_sdist(index.folder, "kernels", "1.2")
    make_sdist(index.folder, "kernels", "2.0")
    project.write("""
        [tool.poetry.dependencies]
        python = "^3.10"
        kernels = "^1.0"

        [[tool.poetry.source]]
        name = "internal"
        """)
    out, said = proposal(project, "--write")
    assert "[[tool.poetry.source]] internal isn't read; write [[tool.uv.index]]" in said
    assert table(out)["final"] == {"requirements": ["kernels>=1.0,<2"]}
    assert stages(out)[0]["outputs"] == ["kernels==1.2"]
    run_session(project, "build-stages")
    assert project.wheels() == ["kernels-1.2-py3-none-any.whl"]


def test_a_package_that_is_no_dependency_yet(project: Project, index: Index) -> None:
    """It becomes one of a group, in the file's words, and is built."""
    make_sdist(index.folder, "kernels", "1.0")
    declare(project, "tensorlib")
    out, _ = proposal(project, "kernels", "--write")
    document = parse_toml(out)
    assert document["dependency-groups"] == {"build-stages": ["kernels"]}
    assert table(out)["final"] == {"groups": ["build-stages"]}
    run_session(project, "build-stages")
    assert project.wheels() == ["kernels-1.0-py3-none-any.whl"]


def test_variables_of_an_output_that_has_no_stage_yet(
    project: Project, index: Index
) -> None:
    """The table's and uv's own are there when the backend is asked."""
    for name in ("ash", "birch"):
        settings = {"require-env": [f"{name.upper()}_HOME"]}
        make_sdist(index.folder, name, "1.0", static=False, settings=settings)
    uv = {"extra-build-variables": {"birch": {"BIRCH_HOME": "/x"}}}
    rest = '[tool.nox-buildstages.package.ash]\nenv = { ASH_HOME = "/x" }\n'
    declare(project, "ash", "birch", uv=uv, rest=rest)
    out, _ = proposal(project, "--write")
    assert "To do" not in out
    run_session(project, "build-stages-lock")


def test_a_table_with_final_alone(project: Project, index: Index) -> None:
    """What belongs above it is written too, and nothing is left to do."""
    make_sdist(index.folder, "ops", "1.0", settings={"import-first": ["torch"]})
    rest = '[tool.nox-buildstages]\nlock-dir = "l"\n[tool.nox-buildstages.final]\n'
    declare(project, "ops", "torch", rest=f'{rest}imports = ["ops"]\n')
    out, _ = proposal(project, "--write")
    change = '# Change [tool.nox-buildstages]: match-runtime = ["torch"]'
    assert out.startswith(f"{change}\n")
    assert "To do" not in out
    written = table(project.pyproject.read_text("utf-8"))
    assert (written["match-runtime"], written["lock-dir"]) == (["torch"], "l")
    assert change not in project.pyproject.read_text("utf-8")


# What is found


@pytest.mark.slow
def test_undeclared_build_requirements_are_found(
    project: Project, index: Index
) -> None:
    """A module that a hook misses is looked for, also if the metadata is declared."""
    modules = {"import-first": ["tensorlib", "helper"]}
    make_sdist(index.folder, "kernels", "1.0", static=False, settings=modules)
    make_sdist(index.folder, "config", "1.0", settings={"import-first": ["yaml"]})
    make_wheel(index.folder, "pyyaml", "6.1", files={"yaml/__init__.py": ""})
    known = {"dependency-metadata": [{"name": "config"}]}
    declare(project, "kernels", "config", uv=known)
    out, said = proposal(project)
    assert [(it["name"], it["dependencies"]) for it in stages(out)] == [
        ("config", ["pyyaml"]),
        ("kernels", ["tensorlib", "helper"]),
    ]
    comments = commented(out)
    assert f"kernels: no wheel for CPython {MINOR} on " in comments
    assert "its build imports tensorlib, helper, which it doesn't declare" in comments
    assert "its build imports yaml (of pyyaml), which it doesn't declare" in comments
    assert "kernels: its build imports helper; trying helper" in said
    assert lock_texts(project) == {}
    builds(project, "config", "kernels")


@pytest.mark.slow
def test_torch_is_one_version_everywhere(project: Project, index: Index) -> None:
    """Where it is in a build and in the runtime, that is proposed as well."""
    make_sdist(index.folder, "ops", "1.0", settings={"import-first": ["torch"]})
    declare(project, "ops", "torch<2.13")
    out, _ = proposal(project)
    assert table(out)["match-runtime"] == ["torch"]
    builds(project, "ops")
    locked = project.lock("ops")["packages"]
    assert {it["version"] for it in locked if it["name"] == "torch"} == {"2.12"}


@pytest.mark.slow
def test_torch_that_cannot_be_one_version(project: Project, index: Index) -> None:
    """Both sides are told, and the rest is proposed without it."""
    requires = ("tinybackend", "torch>=2.13")
    make_sdist(index.folder, "ops", "1.0", build_requires=requires)
    declare(project, "ops", "torch<2.13")
    out, _ = proposal(project)
    assert "match-runtime" not in table(out)
    assert "#   torch: no version suits every environment" in out


@pytest.mark.slow
def test_torch_that_the_table_wants_to_be_one_version(
    project: Project, index: Index
) -> None:
    """What is declared stays, so that is the error that it is when locking."""
    requires = ("tinybackend", "torch>=2.13")
    make_sdist(index.folder, "ops", "1.0", build_requires=requires)
    matched = '[tool.nox-buildstages]\nmatch-runtime = ["torch"]\n'
    declare(project, "ops", "torch<2.13", rest=matched)
    told = failure(project, INIT)
    assert "torch: no version suits every environment (match-runtime)" in told


@pytest.mark.slow
def test_outputs_share_a_stage_if_their_builds_need_the_same(
    project: Project, index: Index
) -> None:
    """Unrelated ones have their own, and each backend is asked once."""
    for name, requires, modules in (
        ("ash", ["helper"], []),
        ("birch", ["helper", "wheel"], []),
        ("cedar", ["tensorlib"], []),
        ("ops", [], ["torch"]),
        ("ops-more", ["helper"], ["torch"]),
    ):
        make_sdist(
            *(index.folder, name, "1.0"),
            build_requires=("tinybackend", *requires),
            files={"setup.py": "".join(f"import {it}\n" for it in modules)},
            settings={"import-first": modules},
        )
    make_wheel(index.folder, "wheel", "1.0")
    declare(project, "ash", "birch", "cedar", "ops", "ops-more", "torch")
    out, said = proposal(project)
    assert [it["outputs"] for it in stages(out)] == [
        ["ash==1.0", "birch==1.0"],
        ["cedar==1.0"],
        ["ops==1.0"],
        ["ops-more==1.0"],
    ]
    asked = re.findall(r"^asking the build backend of (\S+)$", said, re.MULTILINE)
    assert sorted(asked) == ["ash", "birch", "cedar", "ops", "ops-more"]


@pytest.mark.slow
def test_outputs_are_ordered_and_share_stages(project: Project, index: Index) -> None:
    """What goes together is one stage; what a build needs comes before it."""
    make_sdist(index.folder, "ash", "1.0")
    make_sdist(index.folder, "birch", "1.0", build_requires=("tinybackend", "larch"))
    make_sdist(index.folder, "larch", "1.0")
    make_wheel(index.folder, "grove", "1.0", requires=["larch"])
    make_sdist(index.folder, "cedar", "1.0", build_requires=("tinybackend", "grove"))
    declare(project, "birch", "ash", "cedar")
    out, _ = proposal(project)
    assert stages(out) == [
        {"name": "ash", "outputs": ["ash==1.0", "larch==1.0"]},
        {"name": "birch", "dependencies": ["larch"], "outputs": ["birch==1.0"]},
        {"name": "cedar", "dependencies": ["larch"], "outputs": ["cedar==1.0"]},
    ]
    builds(project, "ash", "birch", "cedar", "larch")


@pytest.mark.slow
def test_outputs_that_do_not_go_together(project: Project, index: Index) -> None:
    """They keep their own stages where their build requirements exclude each other."""
    for name, tensorlib in (("ash", "tensorlib<2"), ("birch", "tensorlib>=2")):
        requires = ("tinybackend", tensorlib)
        make_sdist(index.folder, name, "1.0", build_requires=requires)
    declare(project, "ash", "birch")
    out, _ = proposal(project)
    assert [it["name"] for it in stages(out)] == ["ash", "birch"]


@pytest.mark.slow
def test_a_version_that_others_allow(project: Project, index: Index) -> None:
    """The output is one that what has a wheel goes with, not the newest of all."""
    make_sdist(index.folder, "kernels", "1.0")
    make_sdist(index.folder, "kernels", "2.0")
    make_wheel(index.folder, "models", "1.0", requires=["kernels<2"])
    declare(project, "models")
    assert stages(proposal(project)[0])[0]["outputs"] == ["kernels==1.0"]
    builds(project, "kernels")


@pytest.mark.slow
@pytest.mark.parametrize("static", [pytest.param(True, marks=pytest.mark.slow), False])
def test_what_comes_from_a_folder(project: Project, static: bool) -> None:  # noqa: FBT001
    """A requirement that names it, or a source of uv's, is built where it lies."""
    make_tree(project.folder / "own/ops", "ops", "1.0")
    make_tree(project.folder / "own/more", "more", "1.0")
    if not static:
        for name in ("ops", "more"):
            path = project.folder / "own" / name / "pyproject.toml"
            system = parse_toml(path.read_text("utf-8"))["build-system"]
            path.write_text(tomli_w.dumps({"build-system": system}), "utf-8")
    sources = {"sources": {"more": {"path": "own/more"}}}
    declare(
        project, f"ops @ {(project.folder / 'own/ops').as_uri()}", "more", uv=sources
    )
    (stage,) = stages(proposal(project)[0])
    assert stage["outputs"] == ["more", "ops @ ./own/ops"]
    builds(project, "more", "ops")


@pytest.mark.slow
def test_folders_that_folders_require(project: Project) -> None:
    """With the extras that are asked for; the sources of a folder hold for it."""
    build = {"requires": ["tinybackend"], "build-backend": "tinybackend"}
    for name, requires, own in (
        ("zeta", "alpha[fast]", {"dependencies": ["alpha[fast]"]}),
        (
            "alpha",
            "more; extra == 'fast'",
            {"optional-dependencies": {"fast": ["more"]}},
        ),
        ("more", "", {}),
    ):
        sources = {it: {"path": f"../{it}"} for it in ("alpha", "more")}
        document = {
            "project": {"name": name, "version": "1.0", **own},
            "build-system": build,
            "tool": {"uv": {"sources": sources}},
        }
        make_tree(
            project.folder / "own" / name,
            name,
            "1.0",
            requires=[requires] if requires else [],
            extras=["fast"] if name == "alpha" else [],
            files={"pyproject.toml": tomli_w.dumps(document)},
        )
    declare(project, "zeta", uv={"sources": {"zeta": {"path": "own/zeta"}}})
    builds(project, "alpha", "more", "zeta")


# Wheels that are not to be used


@pytest.mark.parametrize(
    ("uv", "variables", "place"),
    [
        (
            {"no-binary-package": ["Tensorlib"]},
            {},
            "no-binary-package of [tool.uv]",
        ),
        pytest.param(
            {"pip": {"no-binary": ["tensorlib"]}},
            {},
            "no-binary of [tool.uv.pip]",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {},
            {"UV_NO_BINARY_PACKAGE": "other tensorlib"},
            "UV_NO_BINARY_PACKAGE",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_project_whose_wheels_are_refused(
    project: Project,
    index: Index,
    uv: Mapping[str, Any],
    variables: Mapping[str, str],
    place: str,
) -> None:
    """It is built, wherever uv was told so; locking without a stage says that."""
    make_sdist(index.folder, "tensorlib", "2.0")
    make_sdist(index.folder, "tensorlib", "3.0")
    make_wheel(index.folder, "models", "1.0", requires=["tensorlib<3"])
    declare(project, "models", uv=uv)
    out, _ = proposal(project, "--write", env=variables)
    assert f"# tensorlib: {place} says not to use its wheels" in out
    assert stages(out)[0]["outputs"] == ["tensorlib==2.0"]
    run_session(project, "build-stages", env=variables)
    assert project.wheels() == ["tensorlib-2.0-py3-none-any.whl"]
    text = project.pyproject.read_text("utf-8").partition("# Proposed")[0]
    other = '[[tool.nox-buildstages.stage]]\nname = "other"\noutputs = ["kernels"]\n'
    project.pyproject.write_text(text + other, "utf-8")
    make_sdist(index.folder, "kernels", "1.0")
    told = failure(project, "build-stages-lock", env=variables)
    assert f"tensorlib would have to be built: {place} says not to use" in told
    assert "add it to the outputs of stage other" in told
    assert 'outputs = ["kernels", "tensorlib' in told


def test_no_wheels_at_all(project: Project, index: Index) -> None:
    """Build backends are built then too, and one that needs itself is told."""
    make_sdist(index.folder, "kernels", "1.0")
    make_sdist(index.folder, "tinybackend", "1.0")
    declare(project, "kernels", uv={"no-binary": True})
    told = failure(project, INIT)
    assert "no usable wheel of tinybackend exists, and its build requires" in told
    assert "use a wheel of one of them" in told


def test_builds_that_need_each_other(project: Project, index: Index) -> None:
    """No order of stages builds them, and that is said."""
    make_sdist(index.folder, "egg", "1.0", build_requires=("tinybackend", "hen"))
    make_sdist(index.folder, "hen", "1.0", build_requires=("tinybackend", "egg"))
    declare(project, "egg")
    told = failure(project, INIT)
    assert "can't be built in any order of stages: " in told


# What can't be found out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"import-first": ["nowhere"]},
            "imports the module nowhere; nothing was found",
        ),
        pytest.param(
            {"import-first": ["_private"]},
            "imports the module _private; nothing was found",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"import-first": ["torch.missing"]},
            "torch 2.13 has no torch.missing",
            marks=pytest.mark.slow,
        ),
        ({"import-first": ["torch._six"]}, "torch 2.13 has no torch._six; nothing was"),
        ({"require-env": ["CUDA_HOME"]}, "get_requires_for_build_wheel failed: "),
        ({"faults": ["no-metadata-hook"]}, "metadata = { requires-dist = "),
    ],
)
def test_a_backend_that_does_not_answer(
    project: Project, index: Index, settings: Mapping[str, Any], said: str
) -> None:
    """It is said what is left to do, and the other outputs are proposed as ever."""
    make_sdist(index.folder, "ash", "1.0", static=False, settings=settings)
    make_sdist(index.folder, "birch", "1.0", settings={"import-first": ["helper"]})
    declare(project, "ash", "birch")
    out, _ = proposal(project)
    assert [it["outputs"] for it in stages(out)] == [["ash==1.0"], ["birch==1.0"]]
    assert stages(out)[1]["dependencies"] == ["helper"]
    assert said in commented(out).partition("To do: ")[2]


@pytest.mark.slow
def test_a_backend_that_alone_knows_the_version_has_to_answer(project: Project) -> None:
    """Of a folder: nothing can be proposed without it, so its error is shown."""
    backend = "import nowhere\nfrom tinybackend import *\n"
    files = {"pyproject.toml": in_tree_backend("asking"), "asking.py": backend}
    make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    declare(project, "kernels", uv={"sources": {"kernels": {"path": "kernels"}}})
    said = failure(project, INIT)
    assert "ModuleNotFoundError: No module named 'nowhere'" in said
    assert "help: its build imports the module nowhere: " in said


def test_no_metadata_is_asked_for_without_a_version(project: Project) -> None:
    """The table can't declare the version, so this is no way out."""
    folder = make_tree(
        project.folder / "own", "ops", "1.0", settings={"require-env": ["OPS_HOME"]}
    )
    path = folder / "pyproject.toml"
    kept = parse_toml(path.read_text("utf-8"))
    path.write_text(tomli_w.dumps({it: kept[it] for it in kept if it != "project"}))
    declare(project, f"ops @ {folder.as_uri()}")
    said = failure(project, "build-stages-init")
    assert "error: ops (stage ops): get_requires_for_build_wheel failed" in said
    assert "OPS_HOME" in said
    assert "requires-dist" not in said


def test_a_build_requirement_that_has_no_wheel_any_more(
    project: Project, index: Index
) -> None:
    """It isn't built where a newer one has a wheel; the correction is shown."""
    make_sdist(index.folder, "helper", "0.1")
    make_sdist(index.folder, "tensorlib", "0.1")
    requires = ("tinybackend", "tensorlib==0.1", "helper<1")
    make_sdist(index.folder, "kernels", "1.0", build_requires=requires)
    declare(project, "kernels", "tensorlib")
    out, _ = proposal(project)
    assert [it["outputs"] for it in stages(out)] == [["kernels==1.0"]]
    assert (
        "its build requires tensorlib==0.1, and there is no wheel for"
        in commented(out).partition("To do: ")[2]
    )
    for name in ("tensorlib", "helper"):
        assert f'build-requires = {{ add = ["{name}"], remove = ["{name}"] }}' in out


@pytest.mark.slow
def test_an_output_whose_build_fails(project: Project, index: Index) -> None:
    """What needs its wheel to be asked can't be asked either."""
    make_sdist(index.folder, "ash", "1.0", settings={"faults": ["raise"]})
    make_sdist(index.folder, "birch", "1.0", build_requires=("tinybackend", "ash"))
    declare(project, "ash", "birch")
    out, _ = proposal(project)
    assert "build_wheel failed: exit status 1" in out
    assert "its build requires ash, whose build failed" in out


def test_what_has_no_solution_is_an_error(project: Project) -> None:
    """Nothing is proposed where uv finds no versions."""
    declare(project, "tensorlib>9")
    told = failure(project, INIT)
    assert "runtime environment: can't be locked" in told
    assert "# Proposed" not in told


# A table that is there


@pytest.mark.slow
def test_only_what_is_missing_is_proposed(project: Project, index: Index) -> None:
    """Stages that there are stay; what they need now, or can't get, is left to do."""
    make_sdist(index.folder, "kernels", "1.0", build_requires=("tinybackend", "glue"))
    make_sdist(index.folder, "glue", "1.0")
    make_sdist(index.folder, "ops", "1.0", settings={"import-first": ["torch"]})
    stage = '[[tool.nox-buildstages.stage]]\nname = "ops"\noutputs = ["kernels"]\n'
    declare(project, "kernels", "ops", "torch", rest=stage)
    out, _ = proposal(project, "--write")
    assert table(out)["match-runtime"] == ["torch"]
    assert [(it["name"], it["outputs"]) for it in stages(out)] == [
        ("glue", ["glue==1.0"]),
        ("ops-2", ["ops==1.0"]),
    ]
    assert "To do" not in out
    written = stages(project.pyproject.read_text("utf-8"))
    assert written[0] == {
        "name": "ops",
        "dependencies": ["glue"],
        "outputs": ["kernels"],
    }
    done = run_session(project, "build-stages")
    names = re.findall(r"^building (\w+) ", done.stderr, re.MULTILINE)
    assert names == ["kernels", "ops"]  # and glue while it was proposed
    assert "nothing needs a stage" in run_session(project, INIT).stderr


def test_a_declared_stage_that_fails_is_an_error(
    project: Project, index: Index
) -> None:
    """Its mending is another matter than what isn't declared yet."""
    missing = {"import-first": ["helper"]}
    make_sdist(index.folder, "kernels", "1.0", static=False, settings=missing)
    stage = '[[tool.nox-buildstages.stage]]\nname = "a"\noutputs = ["kernels"]\n'
    declare(project, "kernels", rest=stage)
    assert 'add "helper" to the dependencies of stage a' in failure(project, INIT)


# Writing


@pytest.mark.slow
def test_a_link_stays_one(project: Project, index: Index, tmp_path: Path) -> None:
    """What is written is the file that it leads to."""
    make_sdist(index.folder, "kernels", "1.0")
    declare(project, "kernels")
    kept = project.pyproject.rename(tmp_path / "kept.toml")
    project.pyproject.symlink_to(kept)
    run_session(project, INIT, "--write")
    assert project.pyproject.is_symlink()
    assert stages(kept.read_text("utf-8"))[0]["name"] == "kernels"


def test_stages_on_one_line_cannot_be_added_to(project: Project, index: Index) -> None:
    """The proposal is printed, the file stays as it is, and that is an error."""
    make_sdist(index.folder, "kernels", "1.0")
    make_sdist(index.folder, "ops", "1.0")
    stage = '[tool.nox-buildstages]\nstage = [{name = "a", outputs = ["ops"]}]\n'
    declare(project, "kernels", "ops", rest=stage)
    before = project.pyproject.read_bytes()
    told = failure(project, INIT, "--write")
    assert "tables can't be appended to" in told
    assert "copy the proposed tables into the file yourself" in told
    assert '[[tool.nox-buildstages.stage]]\nname = "kernels"' in told
    assert project.pyproject.read_bytes() == before


# What recipes know


@pytest.mark.parametrize("cuda", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_recipe_says_what_no_backend_can(
    project: Project,
    index: Index,
    cuda: bool,  # noqa: FBT001
) -> None:
    """With the torch that the project resolves to, the lines are others."""
    for name in ("setuptools", "packaging", "psutil", "ninja", "wheel"):
        make_wheel(index.folder, name, "1.0")
    make_wheel(index.folder, "cuda-toolkit", "13.0.3", extras=["nvcc", "cudart"])
    make_wheel(index.folder, "nvidia-cuda-runtime", "13.0.96")
    requires = ["nvidia-cuda-runtime"] if cuda else []
    make_wheel(
        index.folder, "torch", f"2.13{'' if cuda else '+cpu'}", requires=requires
    )
    variables = ["FLASH_ATTENTION_FORCE_BUILD"]
    variables += [] if cuda else ["FLASH_ATTENTION_SKIP_CUDA_BUILD"]
    settings = {"require-env": variables, "import-first": ["torch"]}
    make_sdist(index.folder, "flash-attn", "2.8.3", static=False, settings=settings)
    rest = "[tool.nox-buildstages.package.flash-attn]\nenv = { NVCC_THREADS = '2' }\n"
    declare(project, "tensorlib", rest=rest)
    _, said = proposal(project, "flash-attn", "--write")
    text = project.pyproject.read_text("utf-8")
    (stage,), rules = stages(text), table(text)["package"]["flash-attn"]
    assert {"torch", "psutil"} <= {*rules["build-requires"]["add"]}
    assert rules["env"]["FLASH_ATTENTION_FORCE_BUILD"] == "TRUE"
    assert rules["env"]["NVCC_THREADS"] == "2"
    assert "# setup.py looks for a prebuilt wheel on the network; this stops it" in text
    assert "flash-attn: from its recipe: build-requires, FLASH_ATTENTION_FORCE_" in said
    if cuda:
        assert "the project resolves to torch 2.13, a build with CUDA 13.0" in said
        assert any(it.startswith("cuda-toolkit[") for it in stage["dependencies"])
        assert "# cuda-toolkit: nvcc, and libraries of CUDA: " in text
        assert "memory-per-job, until a build has measured it: " in text
        assert rules["env"]["FLASH_ATTN_CUDA_ARCHS"] == "80;90;100;120"
        assert "FLASH_ATTENTION_SKIP_CUDA_BUILD" not in rules["env"]
        assert 'this is its default; name your GPUs in this form: "80;90"' in text
    else:
        assert "the project resolves to torch 2.13+cpu, a build without CUDA" in said
        assert "dependencies" not in stage
        assert rules["env"]["FLASH_ATTENTION_SKIP_CUDA_BUILD"] == "TRUE"
    assert "memory-per-job" not in stage


@pytest.mark.slow
def test_a_recipe_of_a_package_without_torch(project: Project, index: Index) -> None:
    """Nobody asks for a torch that neither the project nor a build needs."""
    for name in ("setuptools", "cython", "numpy"):
        make_wheel(index.folder, name, "1.0")
    make_sdist(index.folder, "fastdtw", "0.3.4")
    declare(project, "fastdtw")
    out, said = proposal(project)
    assert "torch" not in out + said
    added = table(out)["package"]["fastdtw"]["build-requires"]["add"]
    assert {"cython", "numpy"} <= {*added}
    # The heading speaks of lines from recipes only if there are any.
    assert "# The tables of packages are from recipes" in out
    build = {"fastdtw": ["setuptools", "cython", "numpy"]}
    declare(project, "fastdtw", uv={"extra-build-dependencies": build})
    out, _ = proposal(project)
    assert "recipe" not in out


@pytest.mark.slow
def test_a_recipe_for_a_version_that_a_build_backend_knows(
    project: Project, index: Index
) -> None:
    """A source in git or in a folder often declares no version."""
    for name in ("setuptools", "cython", "numpy"):
        make_wheel(index.folder, name, "1.0")
    make_tree(project.folder / "vendor/fastdtw", "fastdtw", "0.3.4")
    declare(project, "fastdtw", uv={"sources": {"fastdtw": {"path": "vendor/fastdtw"}}})
    out, _ = proposal(project)
    added = table(out)["package"]["fastdtw"]["build-requires"]["add"]
    assert {"cython", "numpy"} <= {*added}


def make_repositories(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **repositories: tuple[str, str]
) -> dict[str, str]:
    """Make repositories of packages, each with a version and in place of a URL.

    Return the variables that make git use them.
    """
    git = shutil.which("git") or "git"
    env = {"UV_NO_GITHUB_FAST_PATH": "1", "GIT_CONFIG_COUNT": str(len(repositories))}
    for at, (name, (version, url)) in enumerate(repositories.items()):
        tree = make_tree(folder / name, name, version)
        for words in (
            ("init", "--quiet"),
            ("add", "--all"),
            ("-c", "user.name=a", "-c", "user.email=a@example", "commit", "-qm", "x"),
            ("tag", f"v{version}"),
        ):
            subprocess.run([git, *words], cwd=tree, check=True)
        env[f"GIT_CONFIG_KEY_{at}"] = f"url.{tree.as_uri()}.insteadOf"
        env[f"GIT_CONFIG_VALUE_{at}"] = url
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    return env


@pytest.mark.slow
def test_a_recipe_says_what_an_earlier_stage_builds(
    project: Project, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the index has a wheel of it: the proposal has two stages, and locks."""
    for name in ("setuptools", "ccimport", "pccm", "pybind11", "ninja"):
        make_wheel(index.folder, name, "1.0")
    make_wheel(index.folder, "spconv", "2.3.99")
    make_wheel(index.folder, "cumm", "0.8.99")
    make_sdist(index.folder, "cumm", "0.8.99")
    env = make_repositories(
        tmp_path / "mirror",
        monkeypatch,
        spconv=("2.3.99", "https://github.com/traveller59/spconv"),
        cumm=("0.8.99", "https://github.com/FindDefinition/cumm"),
    )
    uv = {"no-binary-package": ["spconv"]}
    declare(project, "spconv==2.3.99", "cumm==0.8.99", uv=uv)
    out, said = proposal(project, "--write", env=env)
    first, second = stages(out)
    assert "cumm" in said + out
    assert [it.partition(" ")[0] for it in first["outputs"]] == ["cumm"]
    assert [it.partition(" ")[0] for it in second["outputs"]] == ["spconv"]
    assert "cumm" in second["dependencies"]
    run_session(project, "build-stages-lock", env=env)


@pytest.mark.slow
def test_a_recipe_says_where_a_source_is(
    project: Project, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL of the repository is written, and never the name alone."""
    for name in ("setuptools", "ninja"):
        make_wheel(index.folder, name, "1.0")
    make_sdist(index.folder, "detectron2", "0.99", settings={"faults": ["raise"]})
    env = make_repositories(
        tmp_path / "mirror",
        monkeypatch,
        detectron2=("0.99", "https://github.com/facebookresearch/detectron2"),
    )
    url = "git+https://github.com/facebookresearch/detectron2@v0.99"
    declare(project, "tensorlib")
    out, said = proposal(project, "detectron2==0.99", "--write", env=env)
    assert "detectron2==0.99: taken from git, as its recipe says: detect" in said
    group = [f"detectron2 @ {url}"]
    assert parse_toml(out)["dependency-groups"] == {"build-stages": group}
    assert stages(out)[0]["outputs"] == group
    run_session(project, "build-stages-lock", env=env)
    declare(project, "detectron2==0.99")
    out, said = proposal(project, env=env)
    assert stages(out)[0]["outputs"] == group
