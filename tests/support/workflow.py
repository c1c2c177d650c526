"""GitHub Actions on this machine: what a workflow's jobs do, step after step.

Each ``run`` is run as a runner would, in a clean folder and a clean home for each job.
The few actions that our workflows use are imitated: artifacts lose times and modes as
in a zip file, caches are found by key and prefix and keep times as in a tar file. An
action, a key or an expression that isn't known here is an error of the test.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nox_buildstages.value import replace
from support.expressions import Expressions, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
}

PYTHON = """\
#!/bin/sh
if [ "$1 $2 $3" = "-m pip install" ]; then
    shift 3
    exec {python} -c '
import sys
from importlib.metadata import distribution
from packaging.requirements import Requirement
for word in sys.argv[1:]:
    assert distribution(Requirement(word).name), word
' "$@"
fi
exec {python} "$@"
"""
"""A python for which everything is installed that is here."""

NOX = '#!/bin/sh\nexec {python} -m nox "$@"\n'


def read(name: str) -> dict[str, Any]:
    """Return one of the project's workflows."""
    path = ROOT / ".github" / "workflows" / name
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return {"on" if key is True else str(key): loaded[key] for key in loaded}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What became of a job.

    Attributes:
        result: ``success``, ``failure`` or ``skipped``.
        outputs: Of the job.
        steps: The names of those that were run, each with how it ended.
        log: What they printed.
        runner: The label, or the labels, and the image: neither is heeded.
    """

    result: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    runner: tuple[object, str] = ("", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    key: str
    paths: tuple[str, ...]
    file: Path


@dataclass(kw_only=True, slots=True)
class GitHub:
    """A repository with its caches, and the artifacts of its last run.

    Attributes:
        folder: For all that it keeps.
        checkout: The repository's files.
        env: What runners have of variables.
        environment: The secret of that name.
        caches: By key, oldest first.
        artifacts: By name.
        attested: The sha256 of each file that was attested.
        jobs: What became of each in the last run; with a matrix, one after the other.
        number: Of the last run.
    """

    folder: Path
    checkout: Path
    env: Mapping[str, str]
    environment: str = ""
    caches: dict[str, _Kept] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    attested: set[str] = field(default_factory=set)
    jobs: dict[str, list[Ran]] = field(default_factory=dict)
    number: int = 0

    def run(self, name: str, **inputs: object) -> str:
        """Run a reusable workflow, and return ``success`` or ``failure``."""
        self.number += 1
        self.artifacts, self.jobs, self.attested = {}, {}, set()
        spelled = {key.replace("_", "-"): value for key, value in inputs.items()}
        call = _Call(
            github=self, inputs=spelled, secrets={"environment": self.environment}
        )
        return call.run(name).result

    def artifact(self, name: str) -> Path:
        """Return the folder of an artifact's files."""
        return self.artifacts[name]

    @property
    def workspace(self) -> Path:
        """Where each job finds the repository, as on all runners."""
        return self.folder / "work" / "project"

    @property
    def log(self) -> str:
        """What all jobs of the last run printed."""
        return "".join(ran.log for runs in self.jobs.values() for ran in runs)

    def steps(self) -> list[str]:
        """Return the names of all steps that were run in the last run."""
        return [it for runs in self.jobs.values() for ran in runs for it in ran.steps]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """One call of a workflow.

    Attributes:
        github: Where.
        inputs: As the caller gave them.
        secrets: Likewise.
        permissions: That the caller has, to the most; None for all.
        prefix: Of the jobs' names.
    """

    github: GitHub
    inputs: Mapping[str, Any]
    secrets: Mapping[str, str]
    permissions: Mapping[str, str] | None = None
    prefix: str = ""

    def run(self, name: str) -> Ran:
        workflow = read(name)
        known(workflow, "name", "on", "permissions", "defaults", "jobs")
        assert workflow["permissions"] == {}, f"{name}: permissions are those of jobs"
        interface = workflow["on"]["workflow_call"]
        inputs = _checked(interface.get("inputs", {}), self.inputs)
        ended: dict[str, Ran] = {}
        for job_name, job in workflow["jobs"].items():
            ended[job_name] = self._job(job_name, job, inputs, ended)
        outputs = Expressions(
            contexts={"jobs": {it: {"outputs": ended[it].outputs} for it in ended}}
        ).value({it: o["value"] for it, o in interface.get("outputs", {}).items()})
        results = {ran.result for ran in ended.values()}
        result = "failure" if "failure" in results else "success"
        return Ran(result=result, outputs=outputs)

    def _job(
        self,
        name: str,
        job: dict[str, Any],
        inputs: Mapping[str, Any],
        ended: Mapping[str, Ran],
    ) -> Ran:
        known(
            job,
            *("name", "needs", "if", "runs-on", "container", "timeout-minutes"),
            *("permissions", "outputs", "strategy", "steps", "uses", "with", "secrets"),
        )
        wanted = job.get("needs", [])
        needed = {
            it: ended[it] for it in ([wanted] if isinstance(wanted, str) else wanted)
        }
        contexts = {
            "inputs": inputs,
            "secrets": self.secrets,
            "needs": {
                it: {"result": ran.result, "outputs": ran.outputs}
                for it, ran in needed.items()
            },
            "github": {"run_id": str(self.github.number), "run_attempt": "1"},
            "runner": {"environment": "self-hosted"},
        }
        fine = all(ran.result == "success" for ran in needed.values())
        expressions = Expressions(contexts=contexts, functions=_status(fine=fine))
        self._check_permissions(name, job.get("permissions", {}))
        if not expressions.condition(job.get("if"), default="success"):
            self._note(name, Ran(result="skipped"))
            return Ran(result="skipped")
        runs = [
            self._one(name, job, {**contexts, "matrix": matrix})
            for matrix in _matrix(job, expressions)
        ]
        results = {ran.result for ran in runs}
        return replace(
            runs[-1], result="failure" if "failure" in results else "success"
        )

    def _check_permissions(self, name: str, wanted: Mapping[str, str]) -> None:
        """See that no job wants more than its caller has: GitHub starts no such run."""
        has = self.permissions
        if has is not None:
            assert wanted.items() <= has.items(), f"{name} wants {wanted}, has {has}"

    def _one(self, name: str, job: dict[str, Any], contexts: dict[str, Any]) -> Ran:
        if "uses" in job:
            expressions = Expressions(contexts=contexts)
            call = _Call(
                github=self.github,
                inputs=expressions.value(job["with"]),
                secrets=expressions.value(job.get("secrets", {})),
                permissions=job.get("permissions", {}),
                prefix=f"{self.prefix}{name}/",
            )
            place = "./.github/workflows/"
            assert job["uses"].startswith(place), job["uses"]
            return call.run(job["uses"].removeprefix(place))
        keys = ("runs-on", "container")
        expressions = Expressions(contexts=contexts)
        labels, image = (expressions.value(job.get(key, "")) for key in keys)
        ran = _Job(self.github, job, contexts).run()
        return self._note(name, replace(ran, runner=(labels, image)))

    def _note(self, name: str, ran: Ran) -> Ran:
        self.github.jobs.setdefault(f"{self.prefix}{name}", []).append(ran)
        return ran


def _checked(
    declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a workflow's inputs with their defaults, as GitHub checks them."""
    assert given.keys() <= declared.keys(), given.keys() - declared.keys()
    found = {}
    for name, input_ in declared.items():
        known(input_, "description", "type", "required", "default")
        if name not in given:
            assert not input_.get("required"), f"the input {name} is missing"
        value = given.get(name, input_.get("default"))
        assert isinstance(value, TYPES[input_["type"]]), f"{name}: {value!r}"
        found[name] = value
    return found


def _matrix(job: Mapping[str, Any], expressions: Expressions) -> list[dict[str, Any]]:
    if "strategy" not in job:
        return [{}]
    known(job["strategy"], "fail-fast", "matrix")
    assert job["strategy"]["fail-fast"] is False
    matrix = expressions.value(job["strategy"]["matrix"])
    known(matrix, "include")
    assert matrix["include"], "GitHub refuses a matrix of nothing"
    return list(matrix["include"])


def _status(*, fine: bool) -> dict[str, Callable[..., Any]]:
    return {
        "always": lambda: True,
        "cancelled": lambda: False,
        "failure": lambda: not fine,
        "success": lambda: fine,
    }


def known(table: Mapping[str, Any], *keys: str) -> None:
    """See that nothing is said that this imitation wouldn't do."""
    assert set(table) <= set(keys), f"not known here: {set(table) - set(keys)}"


@dataclass(slots=True)
class _Job:
    github: GitHub
    job: Mapping[str, Any]
    contexts: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    ran: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    fine: bool = True

    def run(self) -> Ran:
        place = self.github.workspace.parent
        shutil.rmtree(place, ignore_errors=True)
        self.workspace.mkdir(parents=True)
        for name in ("home", "tmp", "temp", "bin", "files"):
            (place / name).mkdir()
        self.env = {
            **self.github.env,
            "HOME": str(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "CI": "true",
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(place / "temp"),
            "GITHUB_STEP_SUMMARY": str(place / "files" / "summary"),
        }
        for step in self.job["steps"]:
            self._step(step)
        outputs = self._expressions().value(self.job.get("outputs", {}))
        return Ran(
            result="success" if self.fine else "failure",
            outputs=outputs,
            steps=self.ran,
            log="".join(self.log),
        )

    @property
    def workspace(self) -> Path:
        return self.github.workspace

    def _expressions(self) -> Expressions:
        contexts = {**self.contexts, "steps": self.steps, "env": self.env}
        functions = {**_status(fine=self.fine), "hashFiles": self._hash_files}
        return Expressions(contexts=contexts, functions=functions)

    def _hash_files(self, pattern: str) -> str:
        assert pattern.endswith("/**")
        found = self.workspace.glob(f"{pattern}/*")
        files = (it for it in found if it.is_file())
        return "some" if next(files, None) else ""

    def _step(self, step: dict[str, Any]) -> None:
        known(
            step, "name", "id", "if", "uses", "with", "run", "env", "working-directory"
        )
        name, expressions = step["name"], self._expressions()
        outcome, outputs = "skipped", {}
        if expressions.condition(step.get("if"), default="success"):
            try:
                outputs = (
                    self._use(step["uses"], expressions.value(step.get("with", {})))
                    if "uses" in step
                    else self._shell(step, expressions)
                )
                outcome = "success"
            except _StepError as error:
                outputs, outcome, self.fine = error.outputs, "failure", False
            assert name not in self.ran, f"two steps are called {name}"
            self.ran[name] = outcome
        if "id" in step:
            self.steps[step["id"]] = {"outcome": outcome, "outputs": outputs}

    def _shell(
        self, step: Mapping[str, Any], expressions: Expressions
    ) -> dict[str, str]:
        assert "${{" not in step["run"], "values go to a shell by its environment"
        files = {
            name: self.workspace.parent / "files" / name
            for name in ("GITHUB_OUTPUT", "GITHUB_ENV")
        }
        for file in files.values():
            file.write_text("")
        env = {it: text(expressions.value(v)) for it, v in step.get("env", {}).items()}
        folder = expressions.value(step.get("working-directory", "."))
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
        done = subprocess.run(
            [*shell, step["run"]],
            cwd=self.workspace / folder,
            env={**self.env, **{it: str(files[it]) for it in files}, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=240,
        )
        self.log.append(f"##[group]{step['name']}\n{done.stdout}")
        self.env.update(_assigned(files["GITHUB_ENV"]))
        outputs = _assigned(files["GITHUB_OUTPUT"])
        if done.returncode:
            raise _StepError(outputs)
        return outputs

    def _use(self, action: str, given: Mapping[str, Any]) -> dict[str, str]:
        name, _, commit = action.partition("@")
        assert len(commit) == 40, f"{action} isn't pinned"
        acts: dict[str, Callable[[Mapping[str, Any]], dict[str, str] | None]] = {
            "actions/checkout": self._check_out,
            "actions/setup-python": self._set_up_python,
            "actions/upload-artifact": self._upload,
            "actions/download-artifact": self._download,
            "actions/cache/restore": self._restore,
            "actions/cache/save": self._save,
            "actions/attest-build-provenance": self._attest,
        }
        return acts[name](given) or {}

    def _check_out(self, given: Mapping[str, Any]) -> None:
        assert given == {"persist-credentials": False}
        out = shutil.ignore_patterns(".nox", "wheelhouse")
        shutil.copytree(
            self.github.checkout, self.workspace, dirs_exist_ok=True, ignore=out
        )

    def _set_up_python(self, given: Mapping[str, Any]) -> None:
        known(given, "python-version")
        programs = self.workspace.parent / "bin"
        for name, script in (("python", PYTHON), ("nox", NOX)):
            program = programs / name
            program.write_text(script.format(python=sys.executable))
            program.chmod(0o755)
        self.env["PATH"] = f"{programs}{os.pathsep}{self.env['PATH']}"

    def _upload(self, given: Mapping[str, Any]) -> None:
        known(
            given,
            *("name", "path", "if-no-files-found", "retention-days"),
            *("compression-level", "overwrite"),
        )
        name, source = given["name"], self.workspace / given["path"]
        assert given["overwrite"] is True, "a job that is run again may overwrite"
        assert name not in self.github.artifacts, f"two artifacts are called {name}"
        files = {
            path.relative_to(source if source.is_dir() else source.parent): path
            for path in ([source] if source.is_file() else source.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }
        if not files:
            if given["if-no-files-found"] == "error":
                raise _StepError({})
            return
        target = self.github.folder / "artifacts" / str(self.github.number) / name
        _copy(files, target)
        self.github.artifacts[name] = target

    def _download(self, given: Mapping[str, Any]) -> None:
        known(given, "name", "pattern", "path", "merge-multiple")
        artifacts, path = self.github.artifacts, self.workspace / given["path"]
        if "name" in given:
            if given["name"] not in artifacts:
                raise _StepError({})
            found = {given["name"]: path}
        else:
            merged = given.get("merge-multiple", False)
            found = {
                name: path if merged else path / name
                for name in artifacts
                if fnmatch(name, given["pattern"])
            }
        for name, target in found.items():
            source = artifacts[name]
            files = (it for it in source.rglob("*") if it.is_file())
            _copy({it.relative_to(source): it for it in files}, target)

    def _restore(self, given: Mapping[str, Any]) -> dict[str, str]:
        known(given, "path", "key", "restore-keys")
        paths = tuple(given["path"].split())
        caches = {
            key: kept for key, kept in self.github.caches.items() if kept.paths == paths
        }
        prefixes = given.get("restore-keys", "").split()
        found = [given["key"]] if given["key"] in caches else []
        for prefix in prefixes:
            found += reversed([key for key in caches if key.startswith(prefix)])
        if not found:
            return {}
        self._tar("-xf", str(caches[found[0]].file))
        return {"cache-hit": text(found[0] == given["key"])}

    def _save(self, given: Mapping[str, Any]) -> None:
        known(given, "path", "key")
        key, paths = given["key"], tuple(given["path"].split())
        there = [path for path in paths if (self.workspace / path).exists()]
        if not there or key in self.github.caches:
            return
        file = self.github.folder / f"cache-{len(self.github.caches)}.tar"
        self._tar("--posix", "-cf", str(file), *there)
        self.github.caches[key] = _Kept(key=key, paths=paths, file=file)

    def _tar(self, *argv: str) -> None:
        command = ["tar", "-P", *argv]  # as there: paths may be absolute
        subprocess.run(command, cwd=self.workspace, check=True)

    def _attest(self, given: Mapping[str, Any]) -> None:
        known(given, "subject-path")
        rights = self.job["permissions"]
        assert rights == {"id-token": "write", "attestations": "write"}
        files = list(self.workspace.glob(given["subject-path"]))
        assert files, "nothing to attest"
        self.github.attested |= {
            hashlib.sha256(it.read_bytes()).hexdigest() for it in files
        }


class _StepError(Exception):
    def __init__(self, outputs: dict[str, str]) -> None:
        super().__init__()
        self.outputs = outputs


def _copy(files: Mapping[Path, Path], target: Path) -> None:
    """Copy files as a zip file does, which keeps neither modes nor exact times."""
    target.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def _assigned(file: Path) -> dict[str, str]:
    """Return what was written to a file of variables, in either of its forms."""
    return dict(_assignments(file.read_text("utf-8").splitlines()))


def _assignments(lines: list[str]) -> Iterator[tuple[str, str]]:
    while lines:
        line = lines.pop(0)
        name, mark, value = line.partition("=")
        if "<<" in name or not mark:
            name, _, end = line.partition("<<")
            at = lines.index(end)
            value = "\n".join(lines[:at])
            del lines[: at + 1]
        yield name, value
