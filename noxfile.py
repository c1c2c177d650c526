"""The project's own sessions; ``nox -s build-stages`` runs the first example."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox
import nox_buildstages

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typing", "tests", "minimums", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)

# Most tests wait for programs; those of a file share what its fixtures made.
SIDE_BY_SIDE = ("--numprocesses=auto", "--dist=loadfile")
QUICK = ("-m", "not network and not slow")
ALL = ("-m", "not recipes")
# Each process of pytest reads what the first compiled, whatever variables are set.
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}

# Each call of a dependency, and nox as users run it; the other tests depend on none.
FLOORS = (
    "tests/unit",
    *(
        f"tests/integration/test_{name}.py"
        for name in (
            *("backend", "commands_release", "commands_store"),
            *("environment", "lock_installs", "remote", "resolver", "store"),
        )
    ),
    "tests/nox/test_sessions.py",
)

nox_buildstages.register("examples/first/pyproject.toml")


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def _install_wheel(session: nox.Session, *arguments: str) -> None:
    """Build the wheel and install it: what is tested is what users get."""
    folder = Path(session.create_tmp(), "wheel")
    shutil.rmtree(folder, ignore_errors=True)
    session.run_install(
        "uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), external=True
    )
    (wheel,) = folder.glob("*.whl")
    session.install(str(wheel), *arguments)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the quick tests against the wheel."""
    _install_wheel(session, *_group("tests"))
    arguments = (*QUICK, *SIDE_BY_SIDE, *session.posargs)
    session.run("pytest", *arguments, env=COMPILED)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Measure what the quick tests run in their process; it takes long to trace."""
    _install_wheel(session, *_group("tests"))
    shutil.rmtree("build/coverage", ignore_errors=True)
    env = {"COVERAGE_FILE": str(Path("build/coverage/data").absolute()), **COMPILED}
    arguments = (*QUICK, *SIDE_BY_SIDE, *session.posargs)
    session.run("coverage", "run", "-m", "pytest", *arguments, env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    session.run("coverage", "report", env=env)


@nox.session(name="tests-all", default=False)
def tests_all(session: nox.Session) -> None:
    """Run all tests, also the slow ones and those that need PyPI."""
    _install_wheel(session, *_group("tests"), *_group("docs"))
    thorough = "--hypothesis-profile=thorough"
    session.run("pytest", thorough, *ALL, *SIDE_BY_SIDE, *session.posargs)


@nox.session(default=False)
def recipes(session: nox.Session) -> None:
    """Check every recipe against PyPI, without a GPU."""
    _install_wheel(session, *_group("tests"))
    tests = "tests/network/test_every_recipe.py"
    session.run("pytest", "--numprocesses=auto", tests, *session.posargs)


@nox.session(name="tests-pythons", python=PYTHONS, default=False)
def tests_pythons(session: nox.Session) -> None:
    """Run the quick tests on every supported Python that is available."""
    _install_wheel(session, *_group("tests"))
    session.run("pytest", *QUICK, *SIDE_BY_SIDE, *session.posargs)


@nox.session(venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests that call dependencies with each at its floor."""
    session.install("-e", ".", *_group("tests"), "--resolution=lowest-direct")
    session.run("uv", "pip", "list", external=True)
    arguments = (*QUICK, *SIDE_BY_SIDE, *FLOORS, *session.posargs)
    session.run("pytest", *arguments, env=COMPILED)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Read damaged and hostile inputs; ``-- --minutes 15`` does so for longer."""
    _install_wheel(session, *_group("tests"))
    session.run("python", "tests/fuzz.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and workflows; ``-- --fix`` fixes what ruff can fix."""
    session.install(*_group("lint"))
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix")
        session.run("ruff", "format")
    else:
        session.run("ruff", "check")
        session.run("ruff", "format", "--check")
    session.run("python", "tests/lint_prose.py")
    session.run("actionlint", *map(str, sorted(Path(".github/workflows").iterdir())))
    session.run(
        *("zizmor", "--offline", "--quiet", "--persona=pedantic"),
        *(".github/workflows", ".github/dependabot.yml"),
    )


@nox.session
def typing(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("-e", ".", *_group("typing"))
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; warnings are errors."""
    session.install("-e", ".", *_group("docs"))
    session.run(
        *("sphinx-build", "-W", "--keep-going", "--quiet", "--jobs=auto"),
        *("--builder", "html"),
        *("docs", "docs/_build/html"),
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure, and print a table of ratios; ``-- --quick`` takes two minutes."""
    _install_wheel(session, *_group("bench"))
    session.run("python", "tests/bench.py", *session.posargs, env=COMPILED)
