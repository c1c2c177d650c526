"""The matrix as it is declared: its cells, what they change, what stages use of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nox_buildstages.config.cells import Cells, arrange_cells
from nox_buildstages.config.project import read_cells
from nox_buildstages.errors import DeclarationError
from nox_buildstages.lock.files.names import possible_stems
from nox_buildstages.model import fill_environment
from nox_buildstages.reader import parse_toml

PYPROJECT = Path("/project/pyproject.toml")
PREFIX = "tool.nox-buildstages."

STAGES = """
[[tool.nox-buildstages.stage]]
name = "base"
outputs = ["base"]

[[tool.nox-buildstages.stage]]
name = "kernels"
outputs = ["kernels"]
env = { ARCH = "sm{arch}" }

[[tool.nox-buildstages.stage]]
name = "models"
outputs = ["models"]
dependencies = ["kernels", "torch"]
"""
TORCH = """
torch = { "2.8" = { constraints = ["torch==2.8.*"] }, "2.13" = {} }
"""


def read(matrix: str, stages: str = STAGES, top: str = "") -> Cells:
    """Return the cells of a table."""
    text = f"[tool.nox-buildstages]\n{top}\n[tool.nox-buildstages.matrix]\n{matrix}\n"
    return arrange_cells(read_cells(parse_toml(text + stages), pyproject=PYPROJECT))


def told(matrix: str, stages: str = STAGES, top: str = "") -> list[str]:
    """Return the problems of a table."""
    with pytest.raises(DeclarationError) as caught:
        read(matrix, stages, top)
    return [str(it).removeprefix(PREFIX) for it in caught.value.problems]


def cells(matrix: str) -> list[str]:
    """Return the cells of a matrix."""
    return [str(project.cell) for project in read(matrix).projects]


ARCH = 'arch = ["8.0", "9.0"]\n'


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ('arch = ["9.0"]', ["arch=9.0"]),
        (
            f"{ARCH}{TORCH}",
            [
                "arch=8.0, torch=2.8",
                "arch=8.0, torch=2.13",
                "arch=9.0, torch=2.8",
                "arch=9.0, torch=2.13",
            ],
        ),
        (
            f'{ARCH}{TORCH}exclude = [{{ arch = "8.0", torch = "2.13" }}]',
            ["arch=8.0, torch=2.8", "arch=9.0, torch=2.8", "arch=9.0, torch=2.13"],
        ),
        (f'{ARCH}exclude = [{{ arch = "8.0" }}]', ["arch=9.0"]),
        (
            f'{ARCH}include = [{{ arch = "12.0" }}]',
            ["arch=8.0", "arch=9.0", "arch=12.0"],
        ),
        (f'{ARCH}include = [{{ arch = "8.0" }}]', ["arch=8.0", "arch=9.0"]),
        (
            f'{ARCH}include = [{{ arch = "8.0" }}]\nexclude = [{{ arch = "8.0" }}]',
            ["arch=9.0", "arch=8.0"],
        ),
        (
            'include = [{ arch = "1", mpi = "on" }, { mpi = "off", arch = "2" }]',
            ["arch=1, mpi=on", "arch=2, mpi=off"],
        ),
    ],
)
def test_the_cells_of_a_matrix(matrix: str, expected: list[str]) -> None:
    """All combinations, without those excluded, and those included behind them."""
    assert cells(matrix) == expected


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ("", 'matrix: expected an axis, such as cuda-arch = ["8.0", "9.0"]'),
        ("arch = []", "matrix.arch: expected at least one value"),
        ("arch = {}", "matrix.arch: expected at least one value"),
        (
            "".join(f"axis{it} = {[*map(str, range(10))]}\n" for it in range(8)),
            (
                "matrix: its axes have 100,000,000 combinations, and more than 1,000"
                " take too long; list those you need in include"
            ),
        ),
        (
            "arch = 1",
            (
                "matrix.arch: expected a list of strings, or a table of values, found "
                "the number 1"
            ),
        ),
        (
            "arch = [9.0]",
            (
                "matrix.arch[0]: expected a string, found the number 9.0; put it in "
                "quotes"
            ),
        ),
        (
            'arch = ["8.0;9.0"]',
            (
                "matrix.arch[0]: expected a value of letters, digits, '.', '_', '+' "
                "and '-', as folders are named by it, found the string '8.0;9.0'; give "
                "it such a name, and say the rest in its env: { ampere = { env = { "
                'ARCHS = "8.0;8.6" } } }'
            ),
        ),
        (
            'arch = ["8.0", "8_0"]',
            (
                "matrix.arch[1]: too much like the value '8.0': their files would have "
                "one name"
            ),
        ),
        (
            'arch = ["8.0", "8.0"]',
            (
                "matrix.arch[1]: too much like the value '8.0': their files would have "
                "one name"
            ),
        ),
        (
            'arch = { "8" = { constraint = [] } }',
            "matrix.arch.8.constraint: unknown key; did you mean 'constraints'?",
        ),
        (
            'arch = { "8;9" = {} }\n',
            (
                "matrix.arch.\"8;9\": expected a value of letters, digits, '.', '_', "
                "'+' and '-', as folders are named by it, found the string '8;9'; give "
                "it such a name, and say the rest in its env: { ampere = { env = { "
                'ARCHS = "8.0;8.6" } } }'
            ),
        ),
        (
            'arch = { "8" = { index = "cu13" } }',
            "matrix.arch.8.index: no [[tool.uv.index]] has the name 'cu13'",
        ),
        (
            'Arch = ["8"]',
            (
                "matrix.Arch: an axis is named with lower-case letters, digits, '-' "
                "and '_'"
            ),
        ),
        (
            'python = ["3.11"]',
            (
                "matrix.python: the Pythons are no axis of this table; write python = "
                '["3.11", "3.12"] above it, and nox multiplies all sessions by them'
            ),
        ),
        (
            f'{ARCH}exclude = [{{ arch = "8.0" }}, {{ arch = "9.0" }}]',
            "matrix: its exclude leaves no combination",
        ),
        (
            f'{ARCH}exclude = [{{ arhc = "8.0" }}]',
            "matrix.exclude[0].arhc: there is no axis 'arhc'; did you mean 'arch'?",
        ),
        (
            f'{ARCH}exclude = [{{ arch = "8.1" }}]',
            "matrix.exclude[0].arch: arch has no value '8.1'; did you mean '8.0'?",
        ),
        (
            f'{ARCH}{TORCH}include = [{{ arch = "8.0" }}]',
            "matrix.include[0]: torch is missing: a combination has a value of each",
        ),
        (
            f'{ARCH}include = [{{ arch = "8_0" }}]',
            (
                "matrix.include[0].arch: too much like the value '8.0': their files "
                "would have one name"
            ),
        ),
        (
            'arch = { "8" = { env = { A = "1" } } }\nmpi = ["on"]',
            ("matrix: no stage names {arch}, so the env of its values goes nowhere"),
        ),
    ],
)
def test_problems_in_a_matrix(matrix: str, expected: str) -> None:
    """Each is told where it is, with what would be right."""
    stages = STAGES.replace("sm{arch}", "x")
    assert told(matrix, stages) == [expected]


def test_a_matrix_is_a_table() -> None:
    """And nothing else is taken for one."""
    document = {
        "tool": {"nox-buildstages": {"matrix": 1, **parse_toml(STAGES)["tool"]}}
    }
    with pytest.raises(DeclarationError, match=r"matrix: expected a table, found"):
        read_cells(document, pyproject=PYPROJECT)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ("arch = []", "matrix.arch: expected at least one value"),
        ("", 'matrix: expected an axis, such as cuda-arch = ["8.0", "9.0"]'),
        (
            'include = ["8.0"]',
            "matrix.include[0]: expected a table of strings, found the string '8.0'",
        ),
        (
            "include = [{ arch = 8 }]",
            (
                "matrix.include[0].arch: expected a string, found the number 8; "
                'write "8"'
            ),
        ),
    ],
)
def test_a_faulty_matrix_may_have_any_axis(matrix: str, expected: str) -> None:
    """So that a placeholder isn't told of, too."""
    assert told(matrix) == [expected]


@pytest.mark.parametrize("value", ["logs", "Simple", "variants"])
def test_a_value_is_no_folder_of_a_wheelhouse(value: str) -> None:
    """What is there would come among the wheels of its cell."""
    message = f"a wheelhouse has a folder {value.lower()!r}; choose another name"
    assert told(f'arch = ["{value}"]') == [f"matrix.arch[0]: {message}"]


TOOLS = """
[[tool.nox-buildstages.stage]]
name = "x"
outputs = ["x"]
tools = ["nvcc-{arch}", "nvcc-{other}", "nvcc-{{arch}}"]
"""


@pytest.mark.parametrize(
    ("matrix", "top", "location"),
    [
        (ARCH, 'wheelhouse = "wheels-{arch}"', "wheelhouse"),
        (ARCH, 'build-constraints = ["a=={arch}"]', "build-constraints[0]"),
        (ARCH, 'final = { imports = ["a{arch}"] }', "final.imports[0]"),
        (ARCH, TOOLS, "stage[0].tools[0]"),
        ('arch = { "1" = { index = "{arch}" } }', "", "matrix.arch.1.index"),
        (ARCH, 'python = ["{arch}"]', "python[0]"),
        (ARCH, 'environments = ["{arch}"]', "environments[0]"),
        (ARCH, 'match-runtime = ["{arch}!"]', "match-runtime[0]"),
        (ARCH, 'compiler-cache = "{arch}"', "compiler-cache"),
    ],
)
def test_where_an_axis_is_not_replaced_is_told(
    matrix: str, top: str, location: str
) -> None:
    """It would be taken for a text, as what is no axis is."""
    hint = "env, dependencies, outputs, requirements, checks and packages may name it"
    assert told(matrix, top=top) == [
        f"{location}: {{arch}} is not replaced here; {hint}"
    ]


def test_what_constrains_by_value_is_told() -> None:
    """Where somebody writes it by name."""
    assert told(ARCH, top='constraints = ["torch=={arch}"]') == [
        (
            "constraints[0]: {arch} is not replaced here; its values may bring "
            'constraints: matrix.arch = { "VALUE" = { constraints = ["…"] } }'
        )
    ]


def test_checks_know_their_cell() -> None:
    """Braces that are no axis are the program's own."""
    final = """
    [tool.nox-buildstages.final]
    requirements = ["a"]
    checks = [["check", "--arch={arch}", "f'{x} {{y}} {{arch}} {}'"]]
    """
    projects = read(ARCH, STAGES + final).projects
    assert [project.final.checks for project in projects] == [
        (("check", f"--arch={value}", "f'{x} {{y}} {arch} {}'"),)
        for value in ("8.0", "9.0")
    ]


def test_a_package_may_be_that_of_one_cell() -> None:
    """Rules are needless where no stage builds it in any cell."""
    stages = STAGES.replace('"kernels"]\nenv', '"kernels-{arch}"]\nenv')
    rules = '[tool.nox-buildstages.package.kernels-{}]\nenv = {{ A = "1" }}\n'
    stages = stages.replace('"kernels", "torch"', '"torch"')
    first, second = read('arch = ["8", "9"]', stages + rules.format("9")).projects
    assert first.outputs != second.outputs
    assert second.rules(second.stages[1].outputs[0].name).env == {"A": "1"}
    assert told('arch = ["8", "9"]', stages + rules.format("7")) == [
        (
            "package.kernels-7: no stage has an output of this name; did you mean "
            "'kernels-9'?"
        )
    ]


def test_what_a_placeholder_stands_for() -> None:
    """In a stage and a package; doubled braces stand for themselves."""
    stages = """
    [tool.nox-buildstages.final]
    requirements = ["a=={arch}"]
    [[tool.nox-buildstages.stage]]
    name = "s"
    outputs = ["x @ ./x-{arch}"]
    dependencies = ["a=={arch}", "b"]
    env = { A = "{{arch}}-{arch}-{Arch}-{arch" }
    [tool.nox-buildstages.package.x]
    config-settings = { a = "{arch}", b = ["-D{arch}"] }
    env = { B = "{arch}" }
    patches = ["{arch}.patch"]
    build-requires = { add = ["c=={arch}"] }
    metadata = { requires-dist = ["d=={arch}"] }
    """
    (project,) = read('arch = ["9.0"]', stages).projects
    (stage,) = project.stages
    assert [*map(str, stage.dependencies)] == ["a==9.0", "b"]
    assert str(stage.outputs[0].requirement) == "x @ file:///project/x-9.0"
    assert stage.env == {"A": "{arch}-9.0-{Arch}-{arch"}
    rules = project.rules(stage.outputs[0].name)
    assert rules.config_settings == {"a": "9.0", "b": ("-D9.0",)}
    assert rules.env == {"B": "9.0"}
    assert [patch.name for patch in rules.patches] == ["9.0.patch"]
    assert [*map(str, rules.build_requires_add)] == ["c==9.0"]
    assert [*map(str, rules.requires_dist or ())] == ["d==9.0"]
    assert [*map(str, project.final.requirements)] == ["a==9.0"]


ENV = "{env} is the environment of a stage"


def test_the_environment_is_named_until_a_build_runs() -> None:
    """In env and config settings, whoever declares them; it is no axis."""
    stages = """
    [[tool.nox-buildstages.stage]]
    name = "s"
    outputs = ["x @ ./x"]
    env = { A = "{env}/{arch}", B = "{{env}}" }
    [tool.nox-buildstages.package.x]
    config-settings = { a = "{env}", b = ["-D{env}"] }
    env = { C = "{env}" }
    """
    matrix = 'arch = { "8" = { env = { D = "{env}-{arch}" } } }'
    (project,) = read(matrix, stages).projects
    env = {"A": "{env}/8", "B": "{{env}}", "D": "{env}-8"}
    assert project.stages[0].env == env
    rules = project.rules(project.stages[0].outputs[0].name)
    assert rules.config_settings == {"a": "{env}", "b": ("-D{env}",)}
    assert rules.env == {"C": "{env}"}


def test_values_of_uv_name_no_environment() -> None:
    """To uv, braces are text."""
    stages = """
    [[tool.nox-buildstages.stage]]
    name = "s"
    outputs = ["x @ ./x"]
    [tool.uv.extra-build-variables]
    x = { A = "{env} {{env}}" }
    [tool.uv.config-settings-package]
    x = { a = "{env}", b = ["-D{env}"] }
    """
    (project,) = read('arch = ["8"]', stages).projects
    rules = project.rules(project.stages[0].outputs[0].name)
    assert fill_environment(rules.env["A"], "/e") == "{env} {{env}}"
    assert rules.config_settings == {"a": "{{env}}", "b": ("-D{{env}}",)}


@pytest.mark.parametrize(
    ("matrix", "top", "location"),
    [
        (ARCH, 'wheelhouse = "wheels-{env}"', "wheelhouse"),
        (ARCH, TOOLS.replace("{other}", "{env}"), "stage[0].tools[1]"),
        (ARCH, TOOLS + 'dependencies = ["{env}"]', "stage[0].dependencies[0]"),
        ('arch = { "1" = { setup = "ls {env} ${env}" } }', "", "matrix.arch.1.setup"),
        ('env = ["1"]', "", "matrix"),
    ],
)
def test_only_env_and_config_settings_name_the_environment(
    matrix: str, top: str, location: str
) -> None:
    """A requirement can't depend on where an environment is."""
    own = [it for it in told(matrix, top=top) if ENV in it]
    assert [it.partition(":")[0] for it in own] == [location]


def test_what_is_no_axis_is_told_once() -> None:
    """For all cells, with the nearest axis."""
    stages = STAGES.replace("{arch}", "{arhc}")
    assert told(ARCH, stages) == [
        (
            "stage[1].env.ARCH: no axis has the name 'arhc'; did you mean 'arch'? "
            "({{arhc}} is that text itself)"
        )
    ]


@pytest.mark.parametrize(
    ("stages", "uses"),
    [
        (STAGES, [(), ("arch",), ("arch", "torch")]),
        (STAGES.replace('"kernels", "torch"', '"base"'), [(), ("arch",), ()]),
        (
            STAGES.replace("sm{arch}", "x").replace("torch", "x")
            + '[tool.nox-buildstages.package.base]\nenv = { A = "{torch}" }',
            [("torch",), (), ()],
        ),
        (
            STAGES.replace("sm{arch}", "x").replace(
                'outputs = ["base"]', 'outputs = ["base=={arch}"]'
            ),
            [("arch",), (), ("torch",)],
        ),
        (
            STAGES.replace("sm{arch}", "x")
            .replace('"kernels", "torch"', "")
            .replace('["base"]', '["torch"]'),
            [("torch",), (), ()],
        ),
        (
            STAGES.replace("sm{arch}", "x").replace('"kernels", "torch"', "")
            + "[tool.nox-buildstages.package.base]\n"
            + 'build-requires = { add = ["Torch"] }',
            [("torch",), (), ()],
        ),
    ],
)
def test_what_a_stage_uses(stages: str, uses: list[tuple[str, ...]]) -> None:
    """What it or a package of it names, what constrains it, what stages before use."""
    for project in read(f"{ARCH}{TORCH}", stages).projects:
        assert [*project.uses.values()] == uses


def test_what_a_value_changes() -> None:
    """Constraints hold everywhere in its cells, env where the axis is used."""
    matrix = """
    arch = { "8" = { env = { A = "1", ARCH = "mine" } }, "9" = {} }
    torch = { "2" = { constraints = ["torch==2.*"] } }
    """
    eight, nine = read(matrix, top='constraints = ["numpy<3"]').projects
    assert [*map(str, eight.constraints)] == ["numpy<3", "torch==2.*"]
    assert [stage.env for stage in eight.stages] == [
        {},
        {"ARCH": "mine", "A": "1"},
        {"A": "1", "ARCH": "mine"},
    ]
    assert [stage.env for stage in nine.stages] == [{}, {"ARCH": "sm9"}, {}]


PROJECT = """
[project]
name = "app"
version = "1"
dependencies = ["a"]
optional-dependencies = { gpu = ["kernels==2"], cpu = ["b"] }
[dependency-groups]
np1 = ["numpy<2"]
np2 = [{ include-group = "np1" }, "d"]
"""


def test_what_a_value_adds_to_the_runtime() -> None:
    """To the project's own requirements, or to those of ``final``."""
    matrix = """
    [tool.nox-buildstages.matrix.kind]
    gpu = { extras = ["gpu"], groups = ["np2"] }
    cpu = { extras = ["cpu"], requirements = ["c=={kind}.{arch}"] }
    none = {}
    [tool.nox-buildstages.matrix.arch]
    "1" = {}
    """.replace("none", "n").replace("=={kind}.", "==")
    found = [it.final.requirements for it in read(matrix, STAGES + PROJECT).projects]
    assert [[*map(str, it)] for it in found] == [
        ["a", "kernels==2", "numpy<2", "d"],
        ["a", "b", "c==1"],
        ["a"],
    ]
    final = 'final = { requirements = ["x"], extras = ["cpu"], groups = ["np1"] }'
    first, *_ = read(matrix, STAGES + PROJECT, final).projects
    assert [*map(str, first.final.requirements)] == [
        *("x", "b", "kernels==2", "numpy<2", "numpy<2", "d"),
    ]


def test_a_stage_whose_output_a_value_requires_is_one_for_each_value() -> None:
    """It may be another version, and nothing else need be said (a nightly, say)."""
    stages = STAGES.replace("sm{arch}", "x").replace('"torch"', '"x"')
    constraint = 'ops = { stable = {}, dev = { constraints = ["kernels==2.dev1"] } }'
    requirement = constraint.replace("constraints", "requirements")
    extra = 'ops = { stable = {}, dev = { extras = ["gpu"] } }'
    for matrix in (constraint, requirement, extra):
        for project in read(matrix, stages + PROJECT).projects:
            assert [*project.uses.values()] == [(), ("ops",), ("ops",)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            'extras = ["gpo"]',
            "extras[0]: this project has no extra 'gpo'; did you mean 'gpu'?",
        ),
        ('extra = ["gpu"]', "extra: unknown key; did you mean 'extras'?"),
        (
            'groups = ["np3"]',
            "groups[0]: this file has no dependency group 'np3'; did you mean 'np2'?",
        ),
        (
            'groups = "np1"',
            (
                "groups: expected a list of strings, found the string 'np1'; write "
                '["np1"]'
            ),
        ),
        (
            'requirements = ["a=1"]',
            "requirements[0]: 'a=1' is not a requirement: write \"a==1\"",
        ),
        (
            'machine = "arm64"',
            (
                'machine: expected "x86_64" or "aarch64", found the string \'arm64\'; '
                "did you mean 'aarch64'?"
            ),
        ),
        ("machine = 1", 'machine: expected "x86_64" or "aarch64", found the number 1'),
        ("runs-on = []", "runs-on: expected at least one label"),
        ('runs_on = "x"', "runs_on: unknown key; did you mean 'runs-on'?"),
        (
            'container = ""',
            "container: expected a string that is not empty, found the string ''",
        ),
        (
            'container = "cuda:{arhc}"',
            (
                "container: no axis has the name 'arhc'; did you mean 'arch'? "
                "({{arhc}} is that text itself)"
            ),
        ),
        ('setup = ["a"]', "setup: expected a string, found a list"),
        (
            'setup = "use {arch}"',
            "setup: {arch} is not replaced here; it has the variable $CELL_ARCH",
        ),
    ],
)
def test_problems_in_a_value(value: str, expected: str) -> None:
    """Each is named once, with what would be right."""
    found = told(f'arch = {{ "8" = {{ {value} }} }}', STAGES + PROJECT)
    assert found == [f"matrix.arch.8.{expected}"]


@pytest.mark.parametrize("key", ["extras", "groups"])
def test_what_a_value_can_bring_is_said_once(key: str) -> None:
    """Nothing else is said of the text that isn't replaced."""
    found = told(ARCH, STAGES + PROJECT, f'final = {{ {key} = ["{{arch}}"] }}')
    assert found == [
        (
            f"final.{key}[0]: {{arch}} is not replaced here; its values may bring"
            f' {key}: matrix.arch = {{ "VALUE" = {{ {key} = ["…"] }} }}'
        )
    ]


def test_where_ci_builds_a_cell() -> None:
    """A stage has what the values say that it uses; a value's text knows its cell."""
    matrix = """
    [tool.nox-buildstages.matrix.arch]
    "9" = { runs-on = ["gpu", "sm{arch}"], setup = "get ${arch} $CELL_ARCH" }
    [tool.nox-buildstages.matrix.torch]
    "2" = { container = "cuda:{torch}-{arch}", setup = "more" }
    """
    (project,) = read(matrix).projects
    kernels, final = project.runner("kernels", "3.14t"), project.runner("final", "3.11")
    assert kernels.to_dict() == {
        "machine": None,
        "runs-on": ["gpu", "sm9"],
        "container": None,
        "setup": "get ${arch} $CELL_ARCH",
        "variables": {"CELL_ARCH": "9", "CELL_PYTHON": "3.14t"},
    }
    assert final.container == "cuda:2-9"
    assert final.setup == "get ${arch} $CELL_ARCH\nmore"
    assert final.variables == {
        "CELL_ARCH": "9",
        "CELL_TORCH": "2",
        "CELL_PYTHON": "3.11",
    }


@pytest.mark.parametrize("key", ["machine", "runs-on", "container"])
def test_two_values_of_a_cell_agree_where_it_is_built(key: str) -> None:
    """Neither is preferred silently."""
    values = ("x86_64", "aarch64")
    axes = [
        f'{it} = {{ v = {{ {key} = "{v}" }} }}'
        for it, v in zip("ab", values, strict=True)
    ]
    assert told("\n".join(axes), STAGES.replace("{arch}", "")) == [
        (
            f"matrix: (a=v, b=v) has two values of {key}, of the axes a and b; keep one"
            " of them"
        )
    ]
    read(
        "\n".join((axes[0], axes[0].replace("a =", "b =", 1))),
        STAGES.replace("{arch}", ""),
    )


def test_a_machine_of_some_cells_makes_all_stages_those_of_a_machine() -> None:
    """The cells whose values name none are for the other kind."""
    matrix = 'on = { x86 = {}, arm = { machine = "aarch64" } }'
    found = read(f"{ARCH}{matrix}").projects
    assert [it.machine for it in found] == ["x86_64", "aarch64"] * 2
    assert [*found[0].uses.values()] == [("on",), ("arch", "on"), ("arch", "on")]
    assert {it.machine for it in read(ARCH).projects} == {None}


PYTHONS = 'python = ["3.12.1", "3.13", "3.14t"]'


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ("", ["8.0: 3.12.1 3.13 3.14t", "9.0: 3.12.1 3.13 3.14t"]),
        (
            (
                'exclude = [{ python = "3.12", arch = "8.0" }, { python = "3.13" }]\n'
                'include = [{ python = "3.13", arch = "10" }]'
            ),
            ["8.0: 3.14t", "9.0: 3.12.1 3.14t", "10: 3.13"],
        ),
        (
            (
                'exclude = [{ arch = "8.0" }]\ninclude = [{ python = "3.14t", arch = '
                '"8.0" }]'
            ),
            ["9.0: 3.12.1 3.13 3.14t", "8.0: 3.14t"],
        ),
        (
            (
                'exclude = [{ python = "3.14t" }]\ninclude = [{ python = "3.14t", arch '
                '= "9.0" }]'
            ),
            ["8.0: 3.12.1 3.13", "9.0: 3.12.1 3.13 3.14t"],
        ),
        (
            'include = [{ arch = "10", python = "3.12.1" }]',
            ["8.0: 3.12.1 3.13 3.14t", "9.0: 3.12.1 3.13 3.14t", "10: 3.12.1"],
        ),
    ],
)
def test_the_pythons_of_a_cell(entries: str, expected: list[str]) -> None:
    """Entries name a Python by its minor version; a cell without one isn't there."""
    found = read(f"{ARCH}{entries}", top=PYTHONS).projects
    pythons = [f"{it.cell.value('arch')}: {' '.join(it.cell_pythons)}" for it in found]
    assert pythons == expected
    assert {it.pythons for it in found} == {("3.12.1", "3.13", "3.14t")}


def test_cells_of_other_pythons_share_no_stage() -> None:
    """Its lock would be that of other Pythons."""
    exclude = 'exclude = [{ arch = "8.0", python = "3.13" }]'
    for project in read(f"{ARCH}{TORCH}{exclude}", top=PYTHONS).projects:
        assert [it[:1] for it in project.uses.values()] == [("arch",)] * 3


@pytest.mark.parametrize(
    ("top", "entries", "expected"),
    [
        (
            "",
            'exclude = [{ python = "3.12" }]',
            (
                "exclude[0].python: there is no axis 'python'; write python = "
                '["3.11", "3.12"] above the matrix first'
            ),
        ),
        (
            PYTHONS,
            'exclude = [{ python = "3.14" }]',
            "exclude[0].python: python has no value '3.14'; did you mean '3.14t'?",
        ),
        (
            PYTHONS,
            'include = [{ arch = "1", python = "3.15" }]',
            "include[0].python: python has no value '3.15'; did you mean '3.13'?",
        ),
        (
            PYTHONS,
            'exclude = [{ pyhton = "3.13" }]',
            "exclude[0].pyhton: there is no axis 'pyhton'; did you mean 'python'?",
        ),
        (
            PYTHONS,
            'exclude = [{ python = "3.13" }]',
            ": no combination is left for Python 3.13",
        ),
        (
            PYTHONS,
            "exclude = [{ python = 3.13 }]",
            (
                "exclude[0].python: expected a string, found the number 3.13; put it "
                "in quotes"
            ),
        ),
    ],
)
def test_problems_with_the_python_of_an_entry(
    top: str, entries: str, expected: str
) -> None:
    """It is one of the table's Pythons, and each of those has a cell."""
    assert told(f"{ARCH}{entries}", top=top) == [
        f"matrix.{expected}".replace(".:", ":")
    ]


UV = """
[[tool.uv.index]]
name = "main"
url = "https://a"
[[tool.uv.index]]
name = "cu12"
url = "https://b"
explicit = {0}
[[tool.uv.index]]
name = "cu13"
url = "https://c"
explicit = {0}
[tool.uv.sources]
torch = {{ index = "cu12" }}
other = [{{ index = "cu12", marker = "x" }}, {{ index = "main" }}]
third = {{ path = "third" }}
"""
AIMED = """
[tool.nox-buildstages.matrix.torch]
"8" = { constraints = ["Torch==8.*"], index = "cu13" }
"7" = { index = "cu12" }
"6" = {}
"""


@pytest.mark.parametrize("explicit", ["true", "false"])
def test_the_index_of_a_value(explicit: str) -> None:
    """It comes first, and those of the other values are gone from its cells."""
    cells = read(AIMED, STAGES.replace("{arch}", "") + UV.format(explicit)).projects
    names = [[it["name"] for it in project.uv["index"]] for project in cells]
    assert names == [["cu13", "main"], ["cu12", "main"], ["main"]]
    third, main = {"path": "third"}, [{"index": "main"}]
    own = {"torch": {"index": "cu13"}} if explicit == "true" else {}
    assert cells[0].uv["sources"] == {"other": main, "third": third, **own}
    assert cells[1].uv["sources"]["torch"] == {"index": "cu12"}
    assert cells[2].uv["sources"] == {"other": main, "third": third}


def test_names_of_a_cell() -> None:
    """For sessions, for files and shells, for folders and for locks."""
    project = read(f"{ARCH}{TORCH}").projects[3]
    cell = project.cell
    assert cell.suffix == "(arch=9.0, torch=2.13)"
    assert cell.name == "arch-9.0_torch-2.13"
    assert cell.folder == "9.0/2.13"
    assert possible_stems(project, "models") == (
        "models-9_0-2_13",
        "models-9_0",
        "models-2_13",
        "models",
    )
    assert possible_stems(project, "base") == ("base",)
    assert project.stage_label("kernels") == "kernels(arch=9.0)"


def test_a_stage_comes_once_for_all_cells_that_share_it() -> None:
    """Before what needs it."""
    found = read(f"{ARCH}{TORCH}")
    assert [location.session(stage) for location, stage in found.distinct_stages()] == [
        "build-stage-base",
        "build-stage-kernels(arch=8.0)",
        "build-stage-models(arch=8.0, torch=2.8)",
        "build-stage-models(arch=8.0, torch=2.13)",
        "build-stage-kernels(arch=9.0)",
        "build-stage-models(arch=9.0, torch=2.8)",
        "build-stage-models(arch=9.0, torch=2.13)",
    ]


@pytest.mark.parametrize(
    ("name", "matrix", "expected"),
    [
        (
            "kernels-9",
            'arch = ["9", "8"]',
            (
                "stage kernels-9 and stage kernels would share the lock file "
                "pylock.kernels-9.toml"
            ),
        ),
        (
            "kernels-arch-9-0",
            'arch = ["9.0"]',
            (
                "build-stage-kernels-arch-9-0 and build-stage-kernels(arch=9.0) would "
                "share the folder 'build-stage-kernels-arch-9-0' of nox"
            ),
        ),
    ],
)
def test_names_that_clash(name: str, matrix: str, expected: str) -> None:
    """Two of one name would overwrite each other."""
    stages = STAGES.replace('name = "base"', f'name = "{name}"')
    hint = "give a value, or a stage, another name"
    assert told(matrix, stages) == [f"matrix: {expected}; {hint}"]


def test_values_that_clash() -> None:
    """Joined to a name, they are those of another cell."""
    stages = STAGES.replace("sm{arch}", "{a}{b}")
    found = told('a = ["x", "x-y"]\nb = ["y-z", "z"]', stages)
    cells = "(a=x, b=y-z) and (a=x-y, b=z)"
    hint = "give a value, or a stage, another name"
    assert found == [
        f"matrix: {cells} would share the lock file pylock.{name}-x-y-z.toml of {name}"
        f"; {hint}"
        for name in ("kernels", "models", "final")
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", ": expected a table of tables, found the number 1"),
        (
            "{ nvida = { sm_arch = ['90_real'] } }",
            ".nvida: unknown namespace; did you mean 'nvidia'?",
        ),
        (
            "{ amd = { gfx_arch = ['gfx90a'] } }",
            ".amd: unknown namespace; the known ones are: nvidia",
        ),
        (
            "{ nvidia = {} }",
            (
                ".nvidia: expected a feature: cuda_version_lower_bound,"
                " cuda_version_upper_bound, sm_arch"
            ),
        ),
        (
            "{ nvidia = { sm_arc = ['90_real'] } }",
            ".nvidia.sm_arc: unknown feature; did you mean 'sm_arch'?",
        ),
        (
            "{ nvidia = { sm_arch = '90_real' } }",
            (
                ".nvidia.sm_arch: expected a list of strings, found the string"
                " '90_real'; write [\"90_real\"]"
            ),
        ),
        (
            "{ nvidia = { sm_arch = [] } }",
            ".nvidia.sm_arch: expected at least one value",
        ),
        (
            "{ nvidia = { sm_arch = ['9.0'] } }",
            (
                '.nvidia.sm_arch[0]: expected a value such as "90_real", found the'
                " string '9.0'"
            ),
        ),
        (
            "{ nvidia = { cuda_version_lower_bound = [13.0] } }",
            (
                ".nvidia.cuda_version_lower_bound[0]: expected a string, found the"
                " number 13.0; put it in quotes"
            ),
        ),
    ],
)
def test_problems_in_a_variant(value: str, expected: str) -> None:
    """Wheels of such a variant are refused by uv, or never chosen."""
    problems = told(f"arch = {{ '9' = {{ variant = {value} }} }}")
    assert problems == [f"matrix.arch.9.variant{expected}"]


def test_variants_of_an_axis_and_of_several() -> None:
    """All values of an axis have a variant, or none; a feature is of one axis."""
    arch = "arch = { a = { variant = { nvidia = { sm_arch = ['90_real'] } } }, b = {} }"
    assert told(
        f"{arch}\ntorch = ['1']\ninclude = [{{ arch = 'c', torch = '1' }}]"
    ) == [
        (
            "matrix.arch.b: variant is missing, and other values of the axis have one;"
            " write variant = {} if its wheels need nothing special"
        ),
        (
            "matrix.include[0].arch: the values of arch have a variant, so declare this"
            " value there, too"
        ),
    ]
    other = "gpu = { d = { variant = { nvidia = { sm_arch = ['80_real'] } } } }"
    assert told(f"{arch.replace(', b = {}', '')}\n{other}") == [
        (
            "matrix.gpu.d: its variant has nvidia.sm_arch, and so have values of the"
            " axis 'arch'; only one axis may have it"
        )
    ]
