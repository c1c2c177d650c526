"""What locking says of wishes that don't go together, and that doing so settles it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.reader import parse_toml
from support.packages import make_sdist, make_tree, make_wheel
from support.pair import declare, versions
from support.sessions import run_session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.index import Index
    from support.project import Project


@pytest.fixture(autouse=True)
def _torch(index: Index) -> None:
    for version in ("2.7.1", "2.8.0", "2.13.0"):
        make_wheel(index.folder, "torch", version)
    make_wheel(index.folder, "numpy", "1.0")


def sdist(index: Index, name: str, *build_requires: str, **fields: Any) -> None:  # noqa: ANN401
    """Put an sdist on the index that declares build requirements."""
    wanted = ["tinybackend", *build_requires]
    version = fields.pop("version", "1.0")
    make_sdist(index.folder, name, version, build_requires=wanted, **fields)


def stage(name: str, *outputs: str, **keys: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"name": name, "outputs": [*outputs], **keys}


def table(*stages: dict[str, Any], **keys: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a table whose runtime is what its stages build, if not said otherwise."""
    outputs = [re.split(r"[= @]", it)[0] for one in stages for it in one["outputs"]]
    return {"final": {"requirements": outputs}, "stage": [*stages], **keys}


def message(project: Project, declared: dict[str, Any]) -> list[str]:
    """Return the lines of the error if a table can't be locked."""
    declare(project, declared)
    lines = run_session(project, "build-stages-lock", check=False).stderr.splitlines()
    (start,) = (n for n, line in enumerate(lines) if line.startswith("error: "))
    return lines[start:]


def told(project: Project, declared: dict[str, Any]) -> list[str]:
    """Return the lines of the error without the output of uv."""
    lines = message(project, declared)
    words = r"\[|name|outputs|dependencies|build-requires|override|and |or |each "
    ours = re.compile(rf"\S| {{2,4}}({words})")
    assert any(line.startswith("  error: ") for line in lines)
    return [line for line in lines if ours.match(line)]


def settles(project: Project, declared: dict[str, Any], lines: Iterable[str]) -> None:
    """See that a table goes once the lines of a message are written to its file."""
    declare(project, declared)
    is_toml = re.compile(r" +(\[|\w[\w-]* = )")
    told = "\n".join(filter(is_toml.match, lines))
    text = project.pyproject.read_text("utf-8")
    project.pyproject.write_text(f"{text}\n{told}\n", "utf-8")
    run_session(project, "build-stages-lock")


def test_a_wrong_declaration_is_shown_with_the_wish_it_meets(
    project: Project, index: Index
) -> None:
    """Both sides, and the line that settles it, which does."""
    sdist(index, "grouped-gemm", "torch>=2.7.0,<2.8", "numpy", version="0.3.0")
    kernels = stage("kernels", "grouped-gemm", dependencies=["torch==2.13.0"])
    lines = told(project, table(kernels))
    assert lines == [
        (
            "error: stage kernels: can't be locked: "
            "grouped-gemm 0.3.0 declares torch<2.8,>=2.7.0,"
            " and stage kernels wants torch==2.13.0"
        ),
        "help: if the declaration is wrong, correct it in pyproject.toml:",
        "  [tool.nox-buildstages.package.grouped-gemm]",
        '  build-requires = { remove = ["torch"] }',
    ]
    settles(project, table(kernels), lines)
    assert versions(project, "kernels")["torch"] == "2.13.0"


@pytest.mark.parametrize("where", ["constraints", "build-constraints"])
def test_a_declaration_that_meets_a_constraint_is_wanted_still(
    project: Project, index: Index, where: str
) -> None:
    """Nobody else wants the project, so that the line wants it in any version."""
    sdist(index, "kernel", "torch<2.8")
    declared = table(stage("kernels", "kernel"), **{where: ["torch>=2.13", "numpy<2"]})
    lines = told(project, declared)
    assert lines[0] == (
        "error: stage kernels: can't be locked: kernel 1.0 declares torch<2.8,"
        f" and {where} say torch>=2.13"
    )
    assert lines[-1] == '  build-requires = { add = ["torch"], remove = ["torch"] }'
    settles(project, declared, lines)
    assert versions(project, "kernels")["torch"] == "2.13.0"


def test_what_hinders_through_a_third_project_is_left_to_uv(
    project: Project, index: Index
) -> None:
    """The wish is shown that brings it in; uv's words say how."""
    make_wheel(index.folder, "user", "1.0", requires=["torch>=2.13"])
    sdist(index, "kernel", "torch<2.8")
    lines = told(project, table(stage("kernels", "kernel", dependencies=["user"])))
    assert lines[0] == (
        "error: stage kernels: can't be locked: kernel 1.0 declares torch<2.8,"
        " and stage kernels wants user"
    )
    assert lines[-1] == '  build-requires = { remove = ["torch"] }'


def test_every_wrong_declaration_is_told_at_once(
    project: Project, index: Index
) -> None:
    """Each with the wish that it meets, and what the table says of it already."""
    sdist(index, "one", "torch<2.8", "numpy>=9")
    sdist(index, "two", "torch<2.7.2")
    declared = table(
        stage("kernels", "one", "two", dependencies=["torch==2.13.0"]),
        package={"one": {"build-requires": {"add": ["numpy"], "remove": ["numpy"]}}},
    )
    wish = "stage kernels wants torch==2.13.0"
    assert told(project, declared) == [
        (
            f"error: stage kernels: can't be locked: one 1.0 declares torch<2.8,"
            f" and {wish}"
        ),
        f"  and two 1.0 declares torch<2.7.2, and {wish}",
        "help: if the declarations are wrong, correct it in pyproject.toml:",
        "  [tool.nox-buildstages.package.one]",
        '  build-requires = { add = ["numpy"], remove = ["numpy", "torch"] }',
        "  [tool.nox-buildstages.package.two]",
        '  build-requires = { remove = ["torch"] }',
    ]


def test_a_declaration_that_no_output_satisfies_is_told(
    project: Project, index: Index
) -> None:
    """No pin would help, so there is no other side."""
    sdist(index, "kernel")
    sdist(index, "model", "kernel>=2")
    later = stage("models", "model", dependencies=["kernel"])
    lines = told(project, table(stage("kernels", "kernel"), later))
    assert lines[0] == (
        "error: outputs: can't be locked: model 1.0 declares kernel>=2,"
        " and no such version of kernel has a source"
    )


@pytest.mark.parametrize(
    ("keys", "top", "expected"),
    [
        (
            {"dependencies": ["torch<2.8", "torch>2.8"]},
            {},
            (
                "stage kernels wants torch<2.8, and stage kernels wants torch>2.8\n"
                "help: the dependencies of stage kernels don't go together:"
                " change one of them"
            ),
        ),
        (
            {"dependencies": ["torch<2.8", "numpy"]},
            {"constraints": ["numpy<9", "torch>2.8"]},
            (
                "constraints say torch>2.8, and stage kernels wants torch<2.8\n"
                "help: change the dependencies of stage kernels or constraints"
                " in pyproject.toml"
            ),
        ),
        (
            {"dependencies": ["torch<2.8"]},
            {"package": {"kernel": {"build-requires": {"add": ["torch>2.8"]}}}},
            (
                "build-requires of kernel adds torch>2.8,"
                " and stage kernels wants torch<2.8\n"
                "help: change the dependencies of stage kernels or build-requires"
                " of kernel"
                " in pyproject.toml"
            ),
        ),
    ],
    ids=["dependencies", "constraints", "table"],
)
def test_what_is_the_users_own_is_told_as_such(
    project: Project,
    index: Index,
    keys: dict[str, Any],
    top: dict[str, Any],
    expected: str,
) -> None:
    """No declaration is blamed where the table contradicts itself."""
    sdist(index, "kernel", "torch")
    lines = told(project, table(stage("kernels", "kernel", **keys), **top))
    assert lines == f"error: stage kernels: can't be locked: {expected}".splitlines()


def test_outputs_that_cannot_share_an_environment_get_two_stages(
    project: Project, index: Index
) -> None:
    """The proposal is the table of both, and goes."""
    make_tree(project.folder / "b", "b", "1.0", build_requires=["torch>2.8"])
    for name, wish in (("a", "torch<2.8"), ("c", "torch>=2.7"), ("d", "torch>2.8")):
        sdist(index, name, wish)
    outputs = ("a==1.0", "b @ ./b", "c", "d")
    keys = {
        "dependencies": ["torch", "tinybackend"],
        "env": {"X": "1"},
        "jobs": 1,
        "pass-env": ["CC"],
        "memory-per-job": "1GB",
        "timeout": "1h",
        "compiler-cache": False,
    }
    later = stage("later", "e", needs=["kernels"])
    sdist(index, "e")
    other = stage("kernels-2", "f")
    sdist(index, "f")
    lines = told(project, table(stage("kernels", *outputs, **keys), later, other))
    assert lines == [
        (
            "error: stage kernels: can't be locked: a 1.0 declares torch<2.8,"
            " and b declares torch>2.8"
        ),
        "help: build them in stages of their own, in pyproject.toml:",
        "    [[tool.nox-buildstages.stage]]",
        '    name = "kernels"',
        '    dependencies = ["torch", "tinybackend"]',
        '    outputs = ["a==1.0", "c"]',
        "    [[tool.nox-buildstages.stage]]",
        '    name = "kernels-3"',
        '    dependencies = ["torch", "tinybackend"]',
        '    outputs = ["b @ ./b", "d"]',
        (
            "  each with the env, pass-env, jobs, memory-per-job, timeout,"
            " compiler-cache that stage kernels has"
        ),
        "  or correct what is wrong in build-requires of package a or b",
        "  and see which of them stage later needs",
    ]
    settles(project, {"final": {"requirements": ["a"]}, "stage": [other]}, lines)


def test_outputs_of_which_one_does_not_go_at_all_are_not_divided(
    project: Project, index: Index
) -> None:
    """Only a proposal that is known to go is made."""
    for name, wish in (("a", "torch<2.8"), ("b", "torch>2.8"), ("c", "numpy>=9")):
        sdist(index, name, wish)
    lines = told(project, table(stage("kernels", "a", "b", "c")))
    assert lines == [
        (
            "error: stage kernels: can't be locked: a 1.0 declares torch<2.8,"
            " and b 1.0 declares torch>2.8"
        ),
        "help: change build-requires of a or build-requires of b in pyproject.toml",
    ]


def test_a_runtime_that_an_output_does_not_suit_shows_both(
    project: Project, index: Index
) -> None:
    """What it requires once it is built, what the runtime wants; and what overrules."""
    sdist(index, "flash-attn", requires=["torch<2.12"])
    sdist(index, "model", requires=["flash-attn"])
    declared = table(
        stage("kernels", "flash-attn"),
        stage("models", "model"),
        final={"requirements": ["model", "torch>=2.13"]},
    )
    lines = told(project, declared)
    assert lines == [
        (
            "error: runtime environment: can't be locked: "
            "flash-attn 1.0, once built, requires torch<2.12,"
            " and final.requirements want torch>=2.13"
        ),
        "help: change final.requirements in pyproject.toml",
        "  or overrule what flash-attn requires:",
        "    [tool.uv]",
        '    override-dependencies = ["torch>=2.13"]',
    ]
    settles(project, declared, lines)
    assert versions(project, "final")["torch"] == "2.13.0"


def test_outputs_that_do_not_suit_each_other_are_shown(
    project: Project, index: Index
) -> None:
    """Nobody can say which of the two is to be overruled."""
    sdist(index, "a", requires=["torch<2.8"])
    sdist(index, "b", requires=["torch>2.8"])
    assert told(project, table(stage("kernels", "a", "b"))) == [
        (
            "error: runtime environment: can't be locked: "
            "a 1.0, once built, requires torch<2.8,"
            " and b 1.0, once built, requires torch>2.8"
        ),
        "help: build versions of a and b that go together",
    ]


def test_an_output_that_another_does_not_suit_is_shown(
    project: Project, index: Index
) -> None:
    """What is written in final.requirements, both names, is not to blame."""
    del index
    make_tree(project.folder / "a", "a", "1.0")
    make_tree(project.folder / "b", "b", "1.0", requires=["a>=2"])
    declared = table(stage("kernels", "a @ ./a", "b @ ./b"))
    assert told(project, declared)[-1] == (
        "help: build versions of a and b that go together"
    )


@pytest.mark.parametrize(
    ("dependencies", "absent"), [([], "nowhere"), (["absent"], "absent")]
)
def test_a_project_that_is_not_there_is_no_conflict(
    project: Project, index: Index, dependencies: list[str], absent: str
) -> None:
    """Its name is all there is to say."""
    sdist(index, "kernel", "torch", "nowhere", "numpy")
    lines = told(project, table(stage("kernels", "kernel", dependencies=dependencies)))
    assert lines == [
        f"error: stage kernels: no index has {absent}",
        "help: correct its name, or add its index to [[tool.uv.index]]",
    ]


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [("numpy==0.1", "no index has numpy 0.1"), ("numpy>=99", "can't be locked")],
)
def test_a_version_that_is_not_there_is_named(
    project: Project, index: Index, requirement: str, problem: str
) -> None:
    """If it is one; uv names the versions that there are instead of a range."""
    sdist(index, "kernel")
    declared = table(stage("kernels", "kernel", dependencies=[requirement]))
    assert told(project, declared)[0] == f"error: stage kernels: {problem}"


def test_a_conflict_is_told_beside_a_project_that_is_not_there(
    project: Project, index: Index
) -> None:
    """One thing more that is wrong doesn't hide it."""
    sdist(index, "kernel", "torch<2.8")
    wanted = ["nowhere", "torch==2.13.0"]
    lines = told(project, table(stage("kernels", "kernel", dependencies=wanted)))
    assert lines[0].startswith(
        "error: stage kernels: can't be locked: kernel 1.0 declares torch<2.8"
    )


def test_a_folder_that_is_built_in_another_version_is_told(
    project: Project, index: Index
) -> None:
    """Its version is known to its backend only, and so not until then."""
    make_tree(project.folder / "kernel", "kernel", "1.0")
    sdist(index, "model")
    later = stage("models", "model", dependencies=["kernel>=2"])
    assert told(project, table(stage("kernels", "kernel @ ./kernel"), later)) == [
        (
            "error: stage models: can't be locked: stage models wants kernel>=2,"
            " and stage kernels builds kernel==1.0"
        ),
        "help: change the dependencies of stage models in pyproject.toml",
    ]


def test_an_output_that_is_merely_named_is_not_taken_away(
    project: Project, index: Index
) -> None:
    """What it requires once it is built is what is in the way."""
    sdist(index, "kernel", requires=["torch<2.8"])
    sdist(index, "model", "kernel")
    wanted = ["kernel", "torch>2.8"]
    later = stage("models", "model", dependencies=wanted)
    keys: dict[str, Any] = {"final": {"requirements": ["numpy"]}}
    declared = {**table(stage("kernels", "kernel"), later), **keys}
    lines = told(project, declared)
    assert lines == [
        (
            "error: stage models: can't be locked: "
            "kernel 1.0, once built, requires torch<2.8,"
            " and stage models wants torch>2.8"
        ),
        "help: change the dependencies of stage models in pyproject.toml",
        "  or overrule what kernel requires:",
        "    [tool.uv]",
        '    override-dependencies = ["torch>2.8"]',
    ]
    settles(project, declared, lines)


# No wheel --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "output", "last"),
    [
        ("odd", "odd==2.0", '  outputs = ["odd==2.0"]'),
        pytest.param(
            "odd<2", "odd==1.0", '  outputs = ["odd==1.0"]', marks=pytest.mark.slow
        ),
        pytest.param(
            "user",
            "odd==2.0",
            (
                '  and add "odd" to the dependencies of stage kernels,'
                " so that it comes first"
            ),
            marks=pytest.mark.slow,
        ),
        (
            "limiting",
            "odd",
            (
                '  and add "odd" to the dependencies of stage kernels,'
                " so that it comes first"
            ),
        ),
        ("odd @ ./odd", "odd @ ./odd", '  outputs = ["odd @ ./odd"]'),
    ],
)
def test_what_has_no_wheel_gets_a_stage_before(
    project: Project, index: Index, wanted: str, output: str, last: str
) -> None:
    """The table is written out, with the version where it is known to suit."""
    for version in ("1.0", "2.0"):
        sdist(index, "odd", version=version)
    make_wheel(index.folder, "user", "1.0", requires=["odd"])
    make_wheel(index.folder, "limiting", "1.0", requires=["odd<2"])
    tree = make_tree(project.folder / "odd", "odd", "3.0")
    with tree.joinpath("pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('[project]\nname = "odd"\nversion = "3.0"\n')
    sdist(index, "kernel")
    declared = table(stage("kernels", "kernel", dependencies=[wanted]))
    lines = message(project, declared)
    at = lines.index(
        "help: make it an output of a stage before stage kernels, in pyproject.toml:"
    )
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [
        "[[tool.nox-buildstages.stage]]",
        'name = "odd"',
        f'outputs = ["{output}"]',
    ]
    assert lines[-1] == last
    proposed = parse_toml("\n".join(lines[at + 1 : at + 4]))
    (first,) = proposed["tool"]["nox-buildstages"]["stage"]
    if output != "odd":
        kernels = stage("kernels", "kernel", dependencies=[wanted, "odd"])
        declare(project, table(first, kernels))
        run_session(project, "build-stages-lock")


@pytest.mark.parametrize(
    ("later", "runtime", "lines"),
    [
        (
            stage("models", "model", dependencies=["kernel", "user"]),
            ["model"],
            ["help: add it to the outputs of stage kernels, in pyproject.toml:"],
        ),
        (
            stage("models", "model"),
            ["user"],
            ["help: add it to the outputs of stage models, in pyproject.toml:"],
        ),
    ],
    ids=["stage", "final"],
)
def test_what_has_no_wheel_is_added_to_a_stage_that_comes_before(
    project: Project,
    index: Index,
    later: dict[str, Any],
    runtime: list[str],
    lines: list[str],
) -> None:
    """The line is written out, with what that stage builds already."""
    for name in ("kernel", "model", "odd", "even"):
        sdist(index, name)
    make_wheel(index.folder, "user", "1.0", requires=["odd", "even"])
    declared = table(stage("kernels", "kernel"), later)
    declared["final"]["requirements"] = runtime
    told = message(project, declared)
    own = re.findall(r"stage (\w+),", lines[0])[0].removesuffix("s")
    odd = re.findall(r"Wheels are required for `(\w+)`", "\n".join(told))[0]
    outputs = f'  outputs = ["{own}", "{odd}==1.0"]'
    assert told[-2:] == [*lines, outputs]


def test_what_has_no_wheel_and_is_an_output_elsewhere_is_told_to_come_first(
    project: Project, index: Index
) -> None:
    """It isn't to be made an output twice."""
    for name in ("kernel", "odd"):
        sdist(index, name)
    make_wheel(index.folder, "user", "1.0", requires=["odd"])
    kernels = stage("kernels", "kernel", dependencies=["user"])
    assert message(project, table(kernels, stage("k2", "odd"))) == [
        "error: stage kernels: its environment needs odd, an output of stage k2",
        (
            'help: add "odd" to the dependencies of stage kernels, so that stage k2'
            " comes first"
        ),
    ]
