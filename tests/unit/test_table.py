"""What ``[tool.nox-buildstages]`` means, and what is said of a faulty one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.config.project import read
from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.lock.files.names import lock_names
from nox_buildstages.model import Patch, RemoteStore, Template, sort_pythons
from nox_buildstages.reader import parse_toml

if TYPE_CHECKING:
    from nox_buildstages.model import Project

ROOT = Path("/project")
TABLE = "tool.nox-buildstages"
STAGE = """
[[tool.nox-buildstages.stage]]
name = "kernels"
outputs = ["flash-attn==2.8.3"]
"""


def declared(toml: str) -> Project:
    return read(parse_toml(toml), pyproject=ROOT / "pyproject.toml")


def declared_final(toml: str) -> list[str]:
    return [str(it) for it in declared(STAGE + toml).final.requirements]


def problems(toml: str) -> tuple[Problem, ...]:
    with pytest.raises(DeclarationError) as caught:
        declared(toml)
    assert caught.value.path == ROOT / "pyproject.toml"
    return tuple(caught.value.problems)


def told(toml: str) -> list[str]:
    return [str(problem).removeprefix(f"{TABLE}.") for problem in problems(toml)]


def in_stage(line: str) -> str:
    return f"{STAGE}{line}\n"


def in_top(line: str) -> str:
    return f"[tool.nox-buildstages]\n{line}\n{STAGE}"


def in_final(line: str) -> str:
    return f"{STAGE}[tool.nox-buildstages.final]\n{line}\n"


NO_LOCAL = (
    "local-version: expected letters and digits, with a '.', '-' or '_' between them,"
    ' and projects in braces, such as "torch{torch}"'
)


def in_package(line: str) -> str:
    return f"{STAGE}[tool.nox-buildstages.package.flash-attn]\n{line}\n"


def test_defaults() -> None:
    """One stage with a name and an output is enough."""
    project = declared(STAGE)
    assert project.root == ROOT
    assert project.lock_dir == ROOT / "build-stages"
    assert project.wheelhouse == ROOT / "wheelhouse"
    assert project.pythons == ()
    assert project.exclude_newer is None
    assert project.remote_store is None
    assert project.final.requirements == ()
    assert project.packages == {}
    assert project.uv == {}
    (stage,) = project.stages
    assert (stage.name, stage.location) == ("kernels", f"{TABLE}.stage[0]")
    (output,) = stage.outputs
    assert str(output.requirement) == "flash-attn==2.8.3"
    assert output.location == f"{TABLE}.stage[0].outputs[0]"


def test_the_whole_table() -> None:
    """Every supported key is read."""
    project = declared(
        """
        [tool.uv]
        no-index = true

        [tool.nox-buildstages]
        python = ["3.11"]
        lock-dir = "locks/now"
        wheelhouse = "../wheels"
        match-runtime = ["Torch"]
        constraints = ["numpy<2.4"]
        build-constraints = ["cython<3.1"]
        exclude-newer = "2026-11-01T00:00:00Z"
        remote-store = { url = "s3://bucket/x", write = true }

        [tool.nox-buildstages.final]
        requirements = ["flash-attn", "models"]
        project = false
        imports = ["flash_attn.ops"]
        checks = [["python", "-c", ""]]
        pass-env = ["HF_TOKEN"]

        [[tool.nox-buildstages.stage]]
        name = "kernels"
        dependencies = ["torch[opt]; python_version < '4'"]
        outputs = ["flash-attn==2.8.3", "Grouped_GEMM @ git+https://host/x@main"]
        needs = ["other"]
        env = { FORCE = "TRUE" }
        pass-env = ["CUDA_HOME"]
        tools = ["nvcc", "c++"]

        [tool.nox-buildstages.package."grouped.gemm"]
        build-requires = { add = ["wheel>1"], remove = ["Torch"] }
        config-settings = { "--build-option" = ["a", "b"], plain = "x" }
        patches = ["patches/one.patch", "../two.patch"]
        env = { CUTLASS = "1" }
        metadata = { requires-dist = ["torch"] }
        requires-dist = { add = ["torch=={torch}", "six"], remove = ["Black"] }
        local-version = "torch{torch}"
        """
    )
    assert project.uv == {"no-index": True}
    assert project.pythons == ("3.11",)
    assert project.lock_dir == ROOT / "locks/now"
    assert project.wheelhouse == Path("/wheels")
    assert project.match_runtime == ("torch",)
    assert [str(it) for it in project.constraints] == ["numpy<2.4"]
    assert [str(it) for it in project.build_constraints] == ["cython<3.1"]
    assert project.exclude_newer == "2026-11-01T00:00:00Z"
    assert project.remote_store == RemoteStore(url="s3://bucket/x", write=True)
    assert [str(it) for it in project.final.requirements] == ["flash-attn", "models"]
    assert project.final.imports == ("flash_attn.ops",)
    assert project.final.checks == (("python", "-c", ""),)
    assert project.final.pass_env == ("HF_TOKEN",)
    (stage,) = project.stages
    assert [it.name for it in stage.outputs] == ["flash-attn", "grouped-gemm"]
    assert stage.outputs[1].requirement.url == "git+https://host/x@main"
    assert str(stage.dependencies[0]) == 'torch[opt]; python_version < "4"'
    assert stage.needs == ("other",)
    assert stage.env == {"FORCE": "TRUE"}
    assert stage.pass_env == ("CUDA_HOME",)
    assert stage.tools == ("nvcc", "c++")
    (name,) = project.packages
    rules = project.rules(name)
    assert name == "grouped-gemm"
    assert [str(it) for it in rules.build_requires_add] == ["wheel>1"]
    assert rules.build_requires_remove == ("torch",)
    assert rules.config_settings == {"--build-option": ("a", "b"), "plain": "x"}
    location = 'tool.nox-buildstages.package."grouped.gemm".patches'
    assert rules.patches == (
        Patch(
            name="patches/one.patch",
            path=ROOT / "patches/one.patch",
            location=f"{location}[0]",
        ),
        Patch(
            name="../two.patch",
            path=ROOT.parent / "two.patch",
            location=f"{location}[1]",
        ),
    )
    assert rules.env == {"CUTLASS": "1"}
    assert [str(it) for it in rules.requires_dist or ()] == ["torch"]
    assert [it.text for it in rules.requires_dist_add] == ["torch=={torch}", "six"]
    assert rules.requires_dist_remove == ("black",)
    assert rules.local_version == Template(
        text="torch{torch}", location=location.replace("patches", "local-version")
    )


@pytest.mark.parametrize("written", ['"../x"', '{ url = "../x" }'])
def test_a_remote_store_is_read_only_by_default(written: str) -> None:
    """It is as it is written; a secret in its URL isn't shown."""
    found = declared(in_top(f"remote-store = {written}")).remote_store
    assert found == RemoteStore(url="../x", write=False)
    assert "../x" not in repr(found)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("./vendor/x", "file:///project/vendor/x"),
        ("vendor/x", "file:///project/vendor/x"),
        ("../x", "file:///x"),
        (".", "file:///project"),
        ("/abs/x", "file:///abs/x"),
        ("./x.tar.gz", "file:///project/x.tar.gz"),
        ("./x#subdirectory=y", "file:///project/x#subdirectory=y"),
        ("./50%25", "file:///project/50%2525"),
        ("file:vendor/a%20b", "file:///project/vendor/a%20b"),
        ("file:///abs/a%20b", "file:///abs/a%20b"),
        ("FILE://localhost/abs", "file:///abs"),
        ("https://host/x.tar.gz", "https://host/x.tar.gz"),
        ("git+file:///repo@main", "git+file:///repo@main"),
    ],
)
def test_a_folder_becomes_absolute(written: str, url: str) -> None:
    """A path is relative to the pyproject.toml; a URL elsewhere stays as it is."""
    toml = STAGE.replace("flash-attn==2.8.3", f"x @ {written}")
    (output,) = declared(toml).stages[0].outputs
    assert output.requirement.url == url


def test_a_folder_is_absolute_everywhere() -> None:
    """Not only outputs may name a folder."""
    assert declared_final(
        """
        [dependency-groups]
        dev = ["x @ ./x"]
        [tool.nox-buildstages.final]
        requirements = ["y @ ./y ; python_version > '3'"]
        groups = ["dev"]
        """
    ) == ['y @ file:///project/y ; python_version > "3"', "x @ file:///project/x"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"2026-11-01"', "2026-11-01"),
        ('"2026-11-01T01:02:03.1234Z"', "2026-11-01T01:02:03.1234Z"),
        ('"2026-11-01T01:02:03+01:00"', "2026-11-01T01:02:03+01:00"),
        ("2026-11-01", "2026-11-01"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00+00:00"),
        ('"1 week"', "1 week"),
    ],
)
def test_exclude_newer(written: str, value: str) -> None:
    """A time is an RFC 3339 string, or TOML's own; a span stays as it is."""
    assert declared(in_top(f"exclude-newer = {written}")).exclude_newer == value


@pytest.mark.parametrize(
    "written",
    [
        '"1 month"',
        '"2026-13-01"',
        '"2026-11-01T25:00:00Z"',
        '"2026-11-01T00:00:00"',
        '"2026-11-01Z"',
        '"2026-11-01.5"',
        "2026-11-01T00:00:00",
        "00:00:00",
        "1",
        "[]",
        "{}",
    ],
)
def test_what_is_no_time(written: str) -> None:
    """A time that means different things in different places is refused."""
    (message,) = told(in_top(f"exclude-newer = {written}"))
    assert message.startswith("exclude-newer: expected a date or a time with its zone")


def test_the_runtime_is_the_project_by_default() -> None:
    """Without requirements, those of [project] hold."""
    toml = '[project]\ndependencies = ["models", "flash-attn>2"]'
    assert declared_final(toml) == ["models", "flash-attn>2"]


def test_no_project_no_requirements() -> None:
    """A [project] without dependencies asks for nothing."""
    assert declared_final("[project]\nname = 'x'\ndynamic = ['version']") == []


def test_extras_and_groups_are_spelled_out() -> None:
    """An extra that names others of the project brings them, under its marker."""
    toml = """
    [project]
    name = "My.Project"
    dependencies = ["a"]
    [project.optional-dependencies]
    all = ["my-project[GPU,docs]; python_version > '3'", "my_project[all, none, extra]"]
    extra = ["e"]
    gpu = ["b", "c; sys_platform == 'linux'"]
    docs = ["d"]
    [dependency-groups]
    test = ["pytest", { include-group = "more" }]
    more = ["hypothesis"]
    [tool.nox-buildstages.final]
    extras = ["All", "docs"]
    groups = ["Test"]
    """
    assert declared_final(toml) == [
        "a",
        'b; python_version > "3"',
        'c; python_version > "3" and sys_platform == "linux"',
        'd; python_version > "3"',
        "e",
        "d",
        "pytest",
        "hypothesis",
    ]


def test_extras_of_a_nameless_project() -> None:
    """Where the project has no name, no extra can name it."""
    toml = """
    [project.optional-dependencies]
    docs = ["x[docs]"]
    [tool.nox-buildstages.final]
    extras = ["docs"]
    """
    assert declared_final(toml) == ["x[docs]"]


def test_no_extras() -> None:
    """An empty list of extras adds nothing."""
    assert declared_final("[tool.nox-buildstages.final]\nextras = []") == []


EXAMPLE = """; add

      [[tool.nox-buildstages.stage]]
      name = "kernels"
      outputs = ["flash-attn==2.8.3"]

    `nox -s build-stages-init` proposes what this project needs"""


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", f"{TABLE}: there is no such table{EXAMPLE}"),
        ("[tool]", f"{TABLE}: there is no such table{EXAMPLE}"),
        ("tool = 1", "tool: expected a table, found the number 1"),
        ("[tool]\nnox-buildstages = []", f"{TABLE}: expected a table, found a list"),
        ("[tool.nox-buildstages]", f"{TABLE}: no stage is declared{EXAMPLE}"),
        (
            "[tool.nox-buildstage]",
            "tool.nox-buildstage: unknown table; did you mean 'nox-buildstages'?",
        ),
    ],
)
def test_no_table(toml: str, message: str) -> None:
    """What is missing is shown as it would be written."""
    assert [str(it) for it in problems(toml)] == [message]


def test_a_table_that_is_nearly_ours_is_not_ignored() -> None:
    """Nor is what others have under another name."""
    toml = in_top("") + "[tool.nox_buildstages]\nwheelhouse = 'x'\n[tool.nox]\na = 1\n"
    assert [str(it) for it in problems(toml)] == [
        "tool.nox_buildstages: unknown table; did you mean 'nox-buildstages'?"
    ]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (in_top("mtrix = 1"), "mtrix: unknown key; did you mean 'matrix'?"),
        (in_top("zzz = 1"), "zzz: unknown key"),
        (
            in_top('python = "3.11"'),
            (
                "python: expected a list of strings, found the string '3.11'; "
                'write ["3.11"]'
            ),
        ),
        (
            in_top("python = 3.10"),
            "python: expected a list of strings, found the number 3.1",
        ),
        (
            in_top("python = [3.10]"),
            "python[0]: expected a string, found the number 3.1; put it in quotes",
        ),
        (
            in_top("python = []"),
            'python: expected at least one version such as "3.11"',
        ),
        (
            in_top('python = ["3.11", "3.11.2"]'),
            "python[1]: '3.11' is the same minor version",
        ),
        (
            in_top('python = ["pypy3.10", "3.12"]'),
            (
                'python[0]: expected a version such as "3.11", as there are several, '
                "found the string 'pypy3.10'"
            ),
        ),
        (
            in_top("environments = [\"sys_platform = 'linux'\"]"),
            (
                "environments[0]: \"sys_platform = 'linux'\" is not a marker: Expected "
                "marker operator, one of <=, <, !=, ==, >=, >, ~=, ===, in, not in"
            ),
        ),
        (
            in_top('lock-dir = ""'),
            "lock-dir: expected a string that is not empty, found the string ''",
        ),
        (
            in_top('match-runtime = ["torch==2"]'),
            (
                "match-runtime[0]: expected a name without version, "
                "found the string 'torch==2'"
            ),
        ),
        (
            in_top("match-runtime = [1]"),
            'match-runtime[0]: expected a string, found the number 1; write "1"',
        ),
        (
            in_top("constraints = [1979-05-27]"),
            (
                "constraints[0]: expected a requirement such as 'torch>=2.8', "
                "found the date 1979-05-27"
            ),
        ),
        (
            in_top('remote-store = ""'),
            "remote-store: expected a string that is not empty, found the string ''",
        ),
        (
            in_top("remote-store = 1"),
            (
                "remote-store: expected a URL, or a table of url and write, "
                "found the number 1"
            ),
        ),
        (in_top("remote-store = { write = true }"), "remote-store: url is missing"),
        (
            in_top('remote-store = { url = "x", write = "yes" }'),
            "remote-store.write: expected true or false, found the string 'yes'",
        ),
        (
            in_top('remote-store = { urls = "x", url = "x" }'),
            "remote-store.urls: unknown key; did you mean 'url'?",
        ),
        (
            in_top("matrix = {}"),
            'matrix: expected an axis, such as cuda-arch = ["8.0", "9.0"]',
        ),
        (
            "[tool.nox-buildstages.stage.kernels]\noutputs = []",
            (
                "stage: expected an array of tables, found a table; "
                "write [[tool.nox-buildstages.stage]]"
            ),
        ),
        (
            "[tool.nox-buildstages]\nstage = []",
            "stage: expected at least one stage",
        ),
        (
            "[tool.nox-buildstages]\nstage = [1]",
            "stage[0]: expected a table, found the number 1",
        ),
    ],
)
def test_problems_at_the_top(toml: str, message: str) -> None:
    """Each problem has its place and says what would be right."""
    assert told(toml) == [message]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "env = { A = 1 }",
            'env.A: expected a string, found the number 1; write "1"',
        ),
        (
            "env = { A = true }",
            'env.A: expected a string, found true; write "true"',
        ),
        (
            'env = { "A B" = "1" }',
            (
                'env."A B": expected the name of an environment variable, '
                "found the string 'A B'"
            ),
        ),
        ("env = 1", "env: expected a table of strings, found the number 1"),
        (
            'env = { A = "x{cuda-arch}" }',
            (
                "env.A: no axis has the name 'cuda-arch'; there is no matrix "
                "({{cuda-arch}} is that text itself)"
            ),
        ),
        (
            'env = { A = "{venv}/x" }',
            (
                "env.A: no axis has the name 'venv'; the stage's environment is {env} "
                "({{venv}} is that text itself)"
            ),
        ),
        (
            'env = { A = "$VIRTUAL_ENV/x" }',
            "env.A: $VIRTUAL_ENV is not replaced; write {env}",
        ),
        (
            'env = { A = "-I${HOME}/x" }',
            "env.A: ${HOME} is not replaced; write its value",
        ),
        (
            'env = { CFLAGS = "$CFLAGS -O2" }',
            (
                "env.CFLAGS: $CFLAGS is not replaced; set CFLAGS outside, and name it "
                "in pass-env"
            ),
        ),
        (
            'env = { PATH = "/x:$PATH" }',
            "env.PATH: $PATH is not replaced; change PATH outside: builds get it",
        ),
        ('env = { A = "~/x" }', "env.A: ~ is not replaced; write the whole path"),
        (
            'dependencies = ["x @ ~/x"]',
            "dependencies[0]: ~ is not replaced; write the whole path",
        ),
        (
            'requirements = ["x"]',
            "requirements: unknown key; it is a key of [tool.nox-buildstages.final]",
        ),
        (
            'patch = ["x"]',
            (
                "patch: unknown key; did you mean 'patches' of"
                " [tool.nox-buildstages.package.NAME]?"
            ),
        ),
        (
            'pass-env = ["$HOME"]',
            (
                "pass-env[0]: expected the name of an environment variable, "
                "found the string '$HOME'"
            ),
        ),
        (
            "pass-env = [00:00:00]",
            "pass-env[0]: expected a string, found the time 00:00:00",
        ),
        (
            'tools = [" "]',
            "tools[0]: expected a string that is not empty, found the string ' '",
        ),
        (
            "needs = [[]]",
            "needs[0]: expected a string, found a list",
        ),
        (
            'dependencies = ["torch=={torch}.*"]',
            (
                "dependencies[0]: no axis has the name 'torch'; there is no matrix "
                "({{torch}} is that text itself)"
            ),
        ),
        (
            'dependencies = ["a=1"]',
            "dependencies[0]: 'a=1' is not a requirement: write \"a==1\"",
        ),
        (
            'dependencies = ["x @ file://./vendor"]',
            (
                "dependencies[0]: 'file://./vendor' names a host; "
                "a folder is written './folder'"
            ),
        ),
        ('output = ["x"]', "output: unknown key; did you mean 'outputs'?"),
        (
            "compiler-cache = true",
            'compiler-cache: expected "auto", "ccache", "sccache" or false, found true',
        ),
        (
            'network = "off"',
            (
                'network: expected true, false or "require-off",'
                " found the string 'off'"
            ),
        ),
        (
            'sandbox = "off"',
            "sandbox: expected true, false or \"require\", found the string 'off'",
        ),
        (
            "network = 0",
            'network: expected true, false or "require-off", found the number 0',
        ),
    ],
)
def test_problems_in_a_stage(line: str, message: str) -> None:
    """Each problem has its place; what is of a later version is never ignored."""
    assert told(in_stage(line)) == [f"stage[0].{message}"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("jobs", "0", '"auto" or a number above 0'),
        ("jobs", "1.5", '"auto" or a number above 0'),
        ("jobs", "true", '"auto" or a number above 0'),
        ("jobs", '"all"', '"auto" or a number above 0'),
        ("memory-per-job", "4", 'a size such as "4GB"'),
        ("memory-per-job", '"4 apples"', 'a size such as "4GB"'),
        ("memory-per-job", '"0.0GB"', 'a size such as "4GB"'),
        ("timeout", '"5"', 'a time such as "5h" or "90min"'),
        ("timeout", '"0h"', 'a time such as "5h" or "90min"'),
        ("timeout", "5", 'a time such as "5h" or "90min"'),
        ("shards", "0", "a number above 0"),
        ("shards", "true", "a number above 0"),
        ("shards", '"1/3"', "a number above 0"),
    ],
)
def test_typos_in_jobs_memory_and_time(key: str, value: str, expected: str) -> None:
    """What is expected is said."""
    (problem,) = told(in_stage(f"{key} = {value}"))
    assert problem.startswith(f"stage[0].{key}: expected {expected}, found ")


@pytest.mark.parametrize(
    ("lines", "contains"),
    [
        ("wheelhouse = '.'", "the pyproject.toml"),
        ("wheelhouse = '../..'", "the pyproject.toml"),
        ("wheelhouse = 'build-stages'", "lock-dir"),
        ("wheelhouse = 'x'\nlock-dir = 'x/locks'", "lock-dir"),
    ],
)
def test_the_wheelhouse_is_a_folder_of_its_own(lines: str, contains: str) -> None:
    """Git ignores everything in it, and its files are written over."""
    (problem,) = told(in_top(lines))
    expected = f"contains {contains}; choose a folder that has nothing else"
    assert problem == f"wheelhouse: {expected}"


def test_shards_need_a_compiler_cache() -> None:
    """A stage has one unless it turns it off."""
    assert declared(in_stage("shards = 3")).stages[0].shards == 3
    assert declared(in_stage("")).stages[0].shards == 1
    (problem,) = told(in_stage("shards = 3\ncompiler-cache = false"))
    expected = "shards need a compiler cache, and compiler-cache is false"
    assert problem == f"stage[0].shards: {expected}"


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("", None),
        ('timeout = "5h"', 5 * 3600),
        ('timeout = "1h30m"', 5400),
        ('timeout = "90min"', 5400),
        ('timeout = "2s"', 2),
    ],
)
def test_timeout(line: str, seconds: int | None) -> None:
    """It is in seconds, whatever it is written in; a stage may have all the time."""
    (stage,) = declared(in_stage(line)).stages
    assert stage.timeout == seconds


@pytest.mark.parametrize(
    ("line", "jobs", "memory"),
    [
        ("", None, None),
        ('jobs = "auto"', None, None),
        ("jobs = 4", 4, None),
        ('memory-per-job = "4GB"', None, 4_000_000_000),
        ('memory-per-job = "1.5 GiB"', None, 1_610_612_736),
        ('memory-per-job = "512MB"', None, 512_000_000),
        ('memory-per-job = "999999999TB"', None, 999_999_999 * 10**12),
    ],
)
def test_jobs_and_memory(line: str, jobs: int | None, memory: int | None) -> None:
    """A number of jobs, or what the machine allows; sizes in bytes."""
    (stage,) = read(
        parse_toml(in_stage(line)), pyproject=ROOT / "pyproject.toml"
    ).stages
    assert (stage.jobs, stage.memory_per_job) == (jobs, memory)


@pytest.mark.parametrize(
    ("required", "python", "message"),
    [
        (">=3.11", "3.11", ""),
        ("<3.12,>3.11.4", "3.11", ""),
        ("==3.14.2", "3.14t", ""),
        ("", "3.11", ""),
        (">=3.12", "pypy3.11", ">=3.12, without pypy3.11"),
        (">=3.11.8", "3.11.7", ">=3.11.8, without 3.11.7"),
        ("==3.14.*", "3.13", "==3.14.*, without 3.13"),
        (">=3.12", "python3", ""),  # whichever that is
    ],
)
def test_a_python_that_the_project_excludes(
    required: str, python: str, message: str
) -> None:
    """Each Python of the table is one of ``requires-python``."""
    toml = f"[project]\nname = 'a'\nrequires-python = '{required}'\n"
    toml += in_top(f"python = ['{python}']")
    if message:
        (problem,) = told(toml)
        assert problem == f"python[0]: requires-python of [project] is {message}"
    else:
        assert str(declared(toml).requires_python) == required


def test_which_versions_a_project_accepts() -> None:
    """As in uv, a pre-release counts as its release; without a word, all do."""
    toml = "[project]\nrequires-python = '>=3.14,<3.15'\n" + STAGE
    answers = {"3.14.0rc1+": True, "3.14.7": True, "3.15.0a1": False, "3.13.9": False}
    project = declared(toml)
    assert {it: project.accepts_python(it) for it in answers} == answers
    assert declared(STAGE).accepts_python("3.10.0")
    (problem,) = problems("[project]\nrequires-python = 'new'\n" + STAGE)
    assert "expected version specifiers such as '>=3.11'" in str(problem)


@pytest.mark.parametrize("required", ["<3.10", "==3.9.*", ">=3.11,<3.11"])
def test_requires_python_without_a_supported_python(required: str) -> None:
    """No Python that one could install would do."""
    (problem,) = problems(f"[project]\nrequires-python = '{required}'\n{STAGE}")
    assert problem.location == "project.requires-python"
    assert problem.message == (
        f"{required} excludes every supported Python; the oldest is 3.10"
    )


@pytest.mark.parametrize("table", ["final", "matrix"])
def test_a_project_without_stages(table: str) -> None:
    """A runtime or a matrix may be all that there is."""
    toml = f"[tool.nox-buildstages]\n{table} = {{}}"
    if table == "matrix":
        toml = "[tool.nox-buildstages.matrix]\na = ['1']"
    assert declared(toml).stages == ()


@pytest.mark.parametrize(
    ("written", "cache"),
    [
        ('"auto"', "auto"),
        ('"ccache"', "ccache"),
        ('"sccache"', "sccache"),
        ("false", "off"),
    ],
)
def test_the_compiler_cache(written: str, cache: str) -> None:
    """Of all stages, or of one, which says nothing where the others' will do."""
    line = f"compiler-cache = {written}"
    project = declared(in_top(line))
    assert (project.compiler_cache, project.stages[0].compiler_cache) == (cache, None)
    project = declared(in_stage(line))
    assert (project.compiler_cache, project.stages[0].compiler_cache) == ("auto", cache)


@pytest.mark.parametrize(
    ("line", "network"),
    [
        ("", "off"),
        ("network = false", "off"),
        ("network = true", "on"),
        ('network = "require-off"', "require-off"),
    ],
)
def test_whether_backends_reach_the_network(line: str, network: str) -> None:
    """They don't, unless the stage says so."""
    assert declared(in_stage(line)).stages[0].network == network


@pytest.mark.parametrize(
    ("line", "sandbox"),
    [
        ("", "on"),
        ("sandbox = true", "on"),
        ("sandbox = false", "off"),
        ('sandbox = "require"', "require"),
    ],
)
def test_whether_backends_reach_all_files(line: str, sandbox: str) -> None:
    """They don't, unless the stage says so."""
    assert declared(in_stage(line)).stages[0].sandbox == sandbox


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("final", "'final' is the name of the runtime's lock file; choose another"),
        (
            "project",
            (
                "'project' is the name of the lock file for the project itself;"
                " choose another"
            ),
        ),
        *(
            (
                name,
                (
                    f"{name!r} is the name of a session, build-stages-{name};"
                    " choose another"
                ),
            )
            for name in ("plan", "lock", "init", "release", "prune", "merge", "shell")
        ),
        ("a" * 101, "longer than 100 letters, and files are named by it"),
        (
            "Kernels",
            (
                "expected a name of lower-case letters, digits, '-' and '_', "
                "found the string 'Kernels'"
            ),
        ),
    ],
)
def test_names_that_no_stage_may_bear(name: str, message: str) -> None:
    """A stage's name is part of a session's, and of a file's."""
    assert told(STAGE.replace("kernels", name)) == [f"stage[0].name: {message}"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("[]", "outputs: expected at least one output"),
        (
            '"flash-attn"',
            (
                "outputs: expected a list of strings, found the string 'flash-attn'; "
                'write ["flash-attn"]'
            ),
        ),
        (
            '["x[y]"]',
            (
                "outputs[0]: an output is one wheel, with all its extras: "
                "it can't name some"
            ),
        ),
        (
            "[\"x; python_version > '3'\"]",
            "outputs[0]: an output is one wheel, always: it can't have a marker",
        ),
        (
            '["x @ https://host/x-1-py3-none-any.whl#sha256=0"]',
            "outputs[0]: a wheel is built already: an output is the source of one",
        ),
        (
            '["x @ ./x#python"]',
            (
                "outputs[0]: #python is not understood; did you mean "
                "'#subdirectory=python'?"
            ),
        ),
        (
            '["x @ https://host/x.zip#egg=x&sha512=0"]',
            (
                "outputs[0]: #sha512=0 is not understood; known are #subdirectory= "
                "and #sha256="
            ),
        ),
        (
            '["x @ ./x#subdirectory=a&subdirectory=b"]',
            "outputs[0]: #subdirectory= is there twice",
        ),
        (
            '["x @ ./x#subdirectory=../y"]',
            "outputs[0]: #subdirectory= names a folder inside the source",
        ),
        (
            '["x @ ./x#subdirectory="]',
            "outputs[0]: #subdirectory= names a folder inside the source",
        ),
        (
            '["x @ git+https://host/x#egg=y"]',
            "outputs[0]: #egg=y is another name than x",
        ),
        (
            '["x @ ./x.zip#sha256=0"]',
            "outputs[0]: #sha256= has 64 hexadecimal digits",
        ),
        (
            '["x @ ./{torch}"]',
            (
                "outputs[0]: no axis has the name 'torch'; there is no matrix "
                "({{torch}} is that text itself)"
            ),
        ),
    ],
)
def test_what_is_no_output(outputs: str, message: str) -> None:
    """An output is a source that always becomes one wheel."""
    toml = STAGE.replace('["flash-attn==2.8.3"]', outputs)
    assert told(toml) == [f"stage[0].{message}"]


def test_a_stage_needs_a_name_and_outputs() -> None:
    """What a stage can't do without is named."""
    assert told("[[tool.nox-buildstages.stage]]\nname = 1\n") == [
        "stage[0]: outputs is missing",
        'stage[0].name: expected a string, found the number 1; write "1"',
    ]
    assert told("[[tool.nox-buildstages.stage]]\noutputs = ['x']\n") == [
        "stage[0]: name is missing"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "project = true",
            (
                "project: this file has no name in [project],"
                " so it is no project to install"
            ),
        ),
        ("project = 1", "project: expected true or false, found the number 1"),
        (
            'imports = ["flash-attn"]',
            (
                "imports[0]: expected the name of a module, "
                "found the string 'flash-attn'; did you mean 'flash_attn'?"
            ),
        ),
        (
            'imports = ["a..b"]',
            "imports[0]: expected the name of a module, found the string 'a..b'",
        ),
        (
            "imports = [1]",
            'imports[0]: expected a string, found the number 1; write "1"',
        ),
        (
            'checks = "pytest"',
            (
                "checks: expected a list of lists of strings, "
                "found the string 'pytest'; "
                'write [["python", "-m", "pytest"]]'
            ),
        ),
        (
            'checks = ["pytest"]',
            (
                "checks[0]: expected a list of strings, found the string 'pytest'; "
                'write ["pytest"]'
            ),
        ),
        (
            'checks = ["pytest -q"]',
            (
                "checks[0]: expected a list of strings, found the string 'pytest -q'; "
                'write ["pytest", "-q"]'
            ),
        ),
        ("checks = [[]]", "checks[0]: expected at least one argument"),
        (
            'checks = [["", "x"]]',
            "checks[0]: expected a program first, found a list",
        ),
        ('extras = ["docs"]', "extras[0]: this project has no extra 'docs'"),
        (
            "extras = [1]",
            'extras[0]: expected a string, found the number 1; write "1"',
        ),
        ('groups = ["docs"]', "groups[0]: this file has no dependency group 'docs'"),
        (
            "groups = [1]",
            'groups[0]: expected a string, found the number 1; write "1"',
        ),
        ("requirement = []", "requirement: unknown key; did you mean 'requirements'?"),
    ],
)
def test_problems_in_the_runtime(line: str, message: str) -> None:
    """Each problem of the final table has its place."""
    assert told(in_final(line)) == [f"final.{message}"]


OWN = """
[project]
name = "My.Project"
dynamic = ["version"]
"""


def test_the_project_itself_may_be_installed() -> None:
    """Then its name is known, and how it is built; else neither is looked at."""
    system = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "x"\n'
    toml = f"{in_final('project = true')}{OWN}{system}"
    project = declared(toml)
    assert project.final.project == "my-project"
    assert project.final.build_system == {
        "requires": ["hatchling"],
        "build-backend": "x",
    }
    assert lock_names(project) == ("kernels", "project", "final")
    without = declared(toml.replace("true", "false"))
    assert without.final.project is None
    assert without.final.build_system == {}
    assert lock_names(without) == ("kernels", "final")


def test_the_project_itself_may_have_no_build_system() -> None:
    """Then it is built with setuptools, as PEP 517 has it."""
    assert declared(in_final("project = true") + OWN).final.build_system == {}


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[build-system]\n", "build-system: requires is missing"),
        (
            "[build-system]\nrequires = [1]\n",
            (
                "build-system.requires[0]: expected a requirement such as"
                " 'torch>=2.8', found the number 1"
            ),
        ),
        (
            "[tool.nox-buildstages.package.my-project]\npatches = []\n",
            (
                "package.my-project.patches: is not for the project itself,"
                " which is installed as it is"
            ),
        ),
        (
            "[[tool.nox-buildstages.stage]]\nname = 'own'\noutputs = ['my_project']\n",
            (
                "final.project: stage own builds my-project already;"
                " leave out one of the two"
            ),
        ),
    ],
)
def test_problems_with_the_project_itself(toml: str, expected: str) -> None:
    """It needs a build system, and is no output besides."""
    assert told(f"{in_final('project = true')}{OWN}{toml}") == [expected]


def test_what_other_programs_replace_is_fine() -> None:
    """The linker has a ``$`` of its own, and so has make."""
    text = '{ LDFLAGS = "-Wl,-rpath,$ORIGIN/../lib", MAKEFLAGS = "A=$$PATH" }'
    (stage,) = declared(in_stage(f"env = {text}")).stages
    assert stage.env == {
        "LDFLAGS": "-Wl,-rpath,$ORIGIN/../lib",
        "MAKEFLAGS": "A=$$PATH",
    }


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("https://h/a/b", "git+https://h/a/b"),
        ("ssh://git@h/a/b.git", "git+ssh://git@h/a/b.git"),
        ("git@h:a/b.git", "git+ssh://git@h/a/b.git"),
    ],
)
def test_the_url_of_a_repository_begins_with_git(url: str, advice: str) -> None:
    """That of an archive ends in the ending of its file's name."""
    (message,) = told(in_stage(f'dependencies = ["b @ {url}"]'))
    assert message == (
        f"stage[0].dependencies[0]: 'b @ {url}' names no archive; for a repository,"
        f' write "b @ {advice}"'
    )


def test_the_name_of_a_file_is_no_name_of_a_project() -> None:
    """Although it has the form of one."""
    (message,) = told(in_stage('dependencies = ["b-1.0.tar.gz"]'))
    assert message == (
        "stage[0].dependencies[0]: 'b-1.0.tar.gz' is a file: give it a name:"
        ' "b @ ./b-1.0.tar.gz"'
    )


def test_rules_without_stages_have_one_problem() -> None:
    """That there is no stage; no rule can be right before."""
    (message,) = told("[tool.nox-buildstages.package.x]\nenv = { A = '1' }\n")
    assert "no stage is declared" in message


def test_the_project_itself_may_have_rules() -> None:
    """Those that say how it is built; where it isn't installed they are misplaced."""
    rules = "[tool.nox-buildstages.package.my-project]\nenv = { A = '1' }\n"
    toml = f"{in_final('project = true')}{OWN}{rules}"
    (found,) = declared(toml).packages.values()
    assert found.env == {"A": "1"}
    (message,) = told(toml.replace("true", "false"))
    assert message.startswith("package.my-project: no stage has an output")


def test_the_runtime_is_a_table() -> None:
    """The final table can't be a list of them."""
    assert told(f"{STAGE}[[tool.nox-buildstages.final]]") == [
        "final: expected a table, found a list"
    ]


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            'project = { dynamic = ["dependencies"] }',
            [
                (
                    "final: requirements is missing; the dependencies of this "
                    "project are dynamic, so they can't be taken from [project]"
                )
            ],
        ),
        ("project = 1", ["project: expected a table, found the number 1"]),
        (
            'project = { dependencies = ["x", 1] }',
            [
                (
                    "project.dependencies[1]: expected a requirement such as "
                    "'torch>=2.8', found the number 1"
                )
            ],
        ),
        (
            'project = { dependencies = "x" }',
            [
                (
                    "project.dependencies: expected a list of strings, "
                    "found the string 'x'; write [\"x\"]"
                )
            ],
        ),
    ],
)
def test_problems_in_the_project(toml: str, expected: list[str]) -> None:
    """What is taken from [project] is checked where it stands."""
    assert told(toml + STAGE) == expected


@pytest.mark.parametrize(
    ("optional", "expected"),
    [
        (
            "{ doc = [] }",
            "final.extras[0]: this project has no extra 'docs'; did you mean",
        ),
        ("1", "project.optional-dependencies: expected a table, found the number 1"),
        ("{ docs = 1 }", "project.optional-dependencies.docs: expected a list"),
        (
            "{ docs = [], Docs = [] }",
            "project.optional-dependencies.Docs: the same name",
        ),
        ('{ docs = ["a=1"] }', "project.optional-dependencies.docs[0]: 'a=1' is not"),
    ],
)
def test_problems_in_the_extras(optional: str, expected: str) -> None:
    """Extras are checked where they stand, each once."""
    toml = in_final('extras = ["docs", "docs"]')
    messages = told(f"project.optional-dependencies = {optional}\n{toml}")
    assert messages[0].startswith(expected)
    assert len(messages) == len({*messages})


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ('{ dco = [], docs-more = ["a"] }', "this file has no dependency group 'doc'"),
        ("{ doc = 1 }", "Dependency group 'doc' is not a sequence type."),
        ('{ doc = ["a=1"] }', "Expected semicolon"),
        ('{ doc = [{ include-group = "doc" }] }', "Cyclic dependency group include"),
        ('{ doc = [{ include-group = "no" }] }', "Dependency group 'no' not found"),
        ("{ doc = [], Doc = [] }", "Duplicate dependency group names"),
    ],
)
def test_problems_in_the_groups(groups: str, expected: str) -> None:
    """A dependency group that can't be resolved is told where it is asked for."""
    toml = in_final('groups = ["doc"]')
    (message,) = told(f"dependency-groups = {groups}\n{toml}")
    assert message.startswith(f"final.groups[0]: {expected}")


def test_groups_are_a_table() -> None:
    """The dependency groups of the file must be a table."""
    messages = told("dependency-groups = 1\n" + in_final('groups = ["doc"]'))
    assert messages[0] == "dependency-groups: expected a table, found the number 1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("build-requires = []", ["build-requires: expected a table, found a list"]),
        (
            "build-requires = { ad = [] }",
            ["build-requires.ad: unknown key; did you mean 'add'?"],
        ),
        (
            "config-settings = { a = 1 }",
            [
                (
                    "config-settings.a: expected a string or a list of strings, "
                    "found the number 1"
                )
            ],
        ),
        ("metadata = 1", ["metadata: expected a table, found the number 1"]),
        (
            "metadata = { requires = [] }",
            ["metadata.requires: unknown key; did you mean 'requires-dist'?"],
        ),
        (
            'env = { A = "{b}" }',
            [
                (
                    "env.A: no axis has the name 'b'; there is no matrix "
                    "({{b}} is that text itself)"
                )
            ],
        ),
        (
            'patches = ["", "{torch}.patch", 1]',
            [
                "patches[0]: expected a string that is not empty, found the string ''",
                (
                    "patches[1]: no axis has the name 'torch'; there is no matrix "
                    "({{torch}} is that text itself)"
                ),
                'patches[2]: expected a string, found the number 1; write "1"',
            ],
        ),
        (
            'patches = "x.patch"',
            [
                (
                    "patches: expected a list of strings, found the string 'x.patch'; "
                    'write ["x.patch"]'
                ),
            ],
        ),
        (
            "local-version = 1",
            [
                'local-version: expected a string, found the number 1; write "1"',
            ],
        ),
        ('local-version = "+cu13"', [f"{NO_LOCAL}, found the string '+cu13'"]),
        ('local-version = "torch{}"', [f"{NO_LOCAL}, found the string 'torch{{}}'"]),
        ('local-version = "a..{b}"', [f"{NO_LOCAL}, found the string 'a..{{b}}'"]),
        (
            'requires-dist = { add = ["a @ ./a"], remove = ["a>1"] }',
            [
                (
                    "requires-dist.add[0]: is a path of this machine, which no wheel"
                    " may require"
                ),
                (
                    "requires-dist.remove[0]: expected a name without version, found"
                    " the string 'a>1'"
                ),
            ],
        ),
    ],
)
def test_problems_in_a_package(line: str, expected: list[str]) -> None:
    """Each problem of a package's rules has its place."""
    assert told(in_package(line)) == [f"package.flash-attn.{it}" for it in expected]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("1", "package: expected a table, found the number 1"),
        ("{ flash-attn = 1 }", "package.flash-attn: expected a table"),
        (
            "{ flash-atn = {} }",
            (
                "package.flash-atn: no stage has an output of this name; "
                "did you mean 'flash-attn'?"
            ),
        ),
        (
            "{ spam = {} }",
            (
                "package.spam: no stage has an output of this name; "
                "remove the table, or add the output to a stage"
            ),
        ),
        (
            "{ flash-attn = {}, Flash_Attn = {} }",
            (
                "package.Flash_Attn: the same name as "
                "tool.nox-buildstages.package.flash-attn"
            ),
        ),
        ('{ "a b" = {} }', 'package."a b": expected a name without version'),
    ],
)
def test_packages_are_keyed_by_outputs(package: str, expected: str) -> None:
    """Rules for something that no stage builds are a mistake."""
    (message,) = told(in_top(f"package = {package}"))
    assert message.startswith(expected)


def test_a_faulty_output_is_told_once() -> None:
    """Of a faulty stage it isn't said that it doesn't build a package."""
    toml = in_package("").replace("==2.8.3", "=2.8.3")
    (message,) = told(toml)
    assert message.startswith("stage[0].outputs[0]: ")


def test_uv_is_a_table() -> None:
    """The uv table isn't read, but it must be one."""
    assert told(f"tool.uv = 1\n{STAGE}") == [
        "tool.uv: expected a table, found the number 1"
    ]


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("flash-attn = 2.8.3", 'write "flash-attn==2.8.3"'),
        ("flash-attn 2.8.3", 'write "flash-attn==2.8.3"'),
        ("flash-attn[a] = '2'", 'write "flash-attn[a]==2"'),
        ("flash-attn => 2", 'write "flash-attn>=2"'),
        ("flash-attn =< 2", 'write "flash-attn<=2"'),
        ("flash-attn^2.1", 'write "flash-attn>=2.1"'),
        ("flash-attn >=2 <3", 'write "flash-attn >=2,<3"'),
        (
            "git+https://h/a/b.git@x/y",
            'give it a name: "b @ git+https://h/a/b.git@x/y"',
        ),
        ("https://h/a/b", 'give it a name: "b @ git+https://h/a/b"'),
        ("git@h:a/b.git", 'give it a name: "b @ git+ssh://git@h/a/b.git"'),
        ("https://h/b-1.0.tar.gz", 'give it a name: "b @ https://h/b-1.0.tar.gz"'),
        ("./vendor/b", 'give it a name: "b @ ./vendor/b"'),
        ("vendor/b", 'give it a name: "b @ ./vendor/b"'),
        ("~/b", 'give it a name: "b @ /…/b"'),
        (".", 'give it a name: "NAME @ ."'),
        (
            "-r requirements.txt",
            "list the requirements themselves; a file of requirements isn't read",
        ),
        ("==1", "Expected package name at the start of dependency specifier"),
    ],
)
def test_the_advice_for_what_is_no_requirement(written: str, advice: str) -> None:
    """What it was meant to be is there to be copied."""
    (message,) = told(in_stage(f'dependencies = ["{written}"]'))
    assert message == (
        f"stage[0].dependencies[0]: {written!r} is not a requirement: {advice}"
    )


def test_a_version_after_an_at_sign() -> None:
    """It isn't taken for the path of a folder."""
    (message,) = told(in_stage('dependencies = ["numpy@2.1.0"]'))
    assert message == (
        'stage[0].dependencies[0]: write "numpy==2.1.0"; after @ stands a URL'
    )


@pytest.mark.parametrize(
    ("toml", "name"),
    [
        ("matrix.torch = { 2.12 = { constraints = [] } }", "torch.2.12"),
        ('matrix.c = { 2.12 = { env = { A = "1" } } }', "c.2.12"),
        ("matrix.cuda = { 12.8.1 = {} }", "cuda.12.8.1"),
        ("package = { zope.interface = { patches = [] } }", "package.zope.interface"),
    ],
)
def test_a_name_with_a_dot_is_put_in_quotes(toml: str, name: str) -> None:
    """TOML takes a dot in a key for the begin of another table."""
    written = name.partition(".")[2]
    first, _, rest = written.partition(".")
    assert any(
        message.endswith(
            f"unknown key: TOML reads {written} as the key {rest} in a table {first};"
            f' put it in quotes: "{written}"'
        )
        for message in told(in_top(toml))
    )


@pytest.mark.parametrize("version", ["3.9", "2.7", "3.9.18", "pypy3.9", "python2"])
def test_a_python_that_is_too_old(version: str) -> None:
    """It is refused before nox looks for it."""
    assert told(in_top(f'python = ["{version}"]')) == [
        f"python[0]: Python {version} isn't supported; the oldest is Python 3.10"
    ]


def test_a_python_in_any_form() -> None:
    """Other forms than X.Y are nox's to read."""
    for version in ("3", "3.10", "pypy3.11", "3.14t", "/usr/bin/python3.9"):
        assert declared(in_top(f'python = ["{version}"]')).pythons == (version,)
        assert sort_pythons([version]) == [version]


def test_pythons_are_sorted_by_version() -> None:
    """Not by their text, and whatever form a single one has."""
    pythons = ["3.14t", "/opt/3.9/bin/python3", "3.14", "3.10.2", "pypy3.11", "3"]
    assert sort_pythons(pythons) == [
        *("3", "/opt/3.9/bin/python3", "3.10.2", "pypy3.11", "3.14", "3.14t")
    ]


def test_a_misspelled_key_is_one_problem() -> None:
    """What it should be isn't reported as missing, too."""
    toml = '[[tool.nox-buildstages.stage]]\nname = "a"\noutput = ["x"]'
    assert told(toml) == ["stage[0].output: unknown key; did you mean 'outputs'?"]
    assert told(toml.replace("output", "outputs").replace(".stage", ".stages")) == [
        "stages: unknown key; did you mean 'stage'?"
    ]


def test_problems_of_values_and_of_the_order_come_together() -> None:
    """A faulty value doesn't hide that two stages clash, or need each other."""
    toml = """
    [[tool.nox-buildstages.stage]]
    name = "a"
    outputs = ["x==1"]
    needs = ["nobody"]
    [[tool.nox-buildstages.stage]]
    name = "a"
    outputs = ["x==2"]
    [[tool.nox-buildstages.stage]]
    name = "Kernels A"
    outputs = ["y"]
    """
    assert [it.split(":")[0] for it in told(toml)] == [
        "stage[2].name",
        "stage[0].needs[0]",
        "stage[1].name",
        "stage[1].outputs[0]",
    ]
    unnamed = toml.replace('name = "a"\n    outputs = ["x==1"]', 'outputs = ["x==1"]')
    assert [it.split(":")[0] for it in told(unnamed)] == [
        "stage[0]",
        "stage[2].name",
        "stage[1].outputs[0]",
    ]


def test_every_problem_at_once_in_the_order_of_the_file() -> None:
    """All problems come in one error, in the file's order."""
    toml = """
    [tool.nox-buildstages]
    zzz = 1
    python = "3"
    stage = [{ outputs = ["x=1", 2], nme = "a" }, { name = "B", outputs = ["x"] }]
    final = { imports = [1], extras = ["x"] }
    [project]
    dependencies = [1]
    """
    assert [
        problem.location.removeprefix(f"{TABLE}.") for problem in problems(toml)
    ] == [
        "zzz",
        "python",
        "stage[0].outputs[0]",
        "stage[0].outputs[1]",
        "stage[0].nme",
        "stage[1].name",
        "final.imports[0]",
        "final.extras[0]",
        "project.dependencies[0]",
    ]


def test_a_document_is_only_read() -> None:
    """Reading twice gives equal values."""
    document = parse_toml(in_stage('dependencies = ["x @ ./x"]'))
    path = ROOT / "pyproject.toml"
    assert read(document, pyproject=path) == read(document, pyproject=path)


@pytest.mark.parametrize(
    ("uv", "location"),
    [
        ({"index": [{}]}, "tool.uv.index[0]"),
        ({"index": [{"url": 3}]}, "tool.uv.index[0].url"),
        ({"index": {}}, "tool.uv.index"),
        ({"sources": []}, "tool.uv.sources"),
        ({"sources": {"idna": 3}}, "tool.uv.sources.idna"),
        ({"sources": {"idna": {"path": 3}}}, "tool.uv.sources.idna.path"),
        ({"sources": {"idna": [3]}}, "tool.uv.sources.idna[0]"),
        ({"pip": 3}, "tool.uv.pip"),
        ({"dependency-metadata": 3}, "tool.uv.dependency-metadata"),
        ({"find-links": "wheels"}, "tool.uv.find-links"),
        ({"index-url": 3}, "tool.uv.index-url"),
    ],
)
def test_settings_of_uv_that_we_read_have_the_form_that_uv_wants(
    uv: dict[str, Any], location: str
) -> None:
    """A mistake there is told with its place, as one in our own table is."""
    table = {"stage": [{"name": "a", "outputs": ["x"]}]}
    document = {"tool": {"nox-buildstages": table, "uv": uv}}
    with pytest.raises(DeclarationError) as caught:
        read(document, pyproject=Path("/project/pyproject.toml"))
    assert [problem.location for problem in caught.value.problems] == [location]


def test_settings_of_uv_are_taken_as_they_are() -> None:
    """What uv reads by itself isn't looked at."""
    uv = {
        "index": [{"url": "https://example.org", "name": "own"}],
        "sources": {"idna": {"path": "here"}, "x": [{"index": "own"}]},
        "find-links": ["wheels"],
        "whatever": 3,
    }
    table = {"stage": [{"name": "a", "outputs": ["x"]}]}
    document = {"tool": {"nox-buildstages": table, "uv": uv}}
    assert read(document, pyproject=Path("/project/pyproject.toml")).uv == uv


def test_an_index_has_a_name_of_letters() -> None:
    """Another value is a problem, also for a matrix that names indexes."""
    toml = in_top('matrix.a = { x = { index = "lab" } }')
    toml += '[[tool.uv.index]]\nname = true\nurl = "https://host/simple"\n'
    assert told(toml) == [
        "matrix.a.x.index: no [[tool.uv.index]] has the name 'lab'",
        'tool.uv.index[0].name: expected a string, found true; write "true"',
    ]
