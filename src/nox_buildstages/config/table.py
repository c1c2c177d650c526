"""The keys of ``[tool.nox-buildstages]``: each declared once, with documentation.

A new key is an entry here and a field of the model. The reader, the check for unknown
keys, the replacement of placeholders and the reference page all come from the entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from nox_buildstages.config import getters, values
from nox_buildstages.config.final import read_final
from nox_buildstages.config.getters import Item, Key
from nox_buildstages.config.local_version import added_requirement, local_version
from nox_buildstages.declarations import builds
from nox_buildstages.declarations.uv_sources import find_conflict, select_sources
from nox_buildstages.model import PackageRules, Project, RemoteStore, Stage
from nox_buildstages.value import replace

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

TOOL = "nox-buildstages"


def read_project(item: Item) -> Project | None:
    """Read the table ``[tool.nox-buildstages]`` of a cell; None for no table."""
    found = getters.read_table(item, TOP)
    if found is None:
        return None
    del found["matrix"]  # was read before, to know the cell
    stages, packages = found.pop("stage") or (), found.pop("package")
    pythons = found.pop("python") or ()
    own = found["final"].project
    for stage in stages:
        if own in {output.name for output in stage.outputs}:
            declared = item.document.find("tool", TOOL, "final", "project") or item
            declared.fault(
                f"stage {stage.name} builds {own} already; leave out one of the two"
            )
    _check_wheelhouse(item, found)
    if own in packages:
        package = item.document.find("tool", TOOL, "package")
        rules = ((package and getters.items_by_name(package)) or {})[own]
        for key, value in (getters.raw_table(rules) or {}).items():
            if key in {"patches", "metadata", "local-version", "requires-dist"}:
                rules.child(key, value).fault(
                    "is not for the project itself, which is installed as it is"
                )
    name = item.document.find("project", "name")
    itself = None if name is None else canonicalize_name(str(name.value))
    if itself not in {output.name for stage in stages for output in stage.outputs}:
        # A project may name itself, for its extras.
        wanted = found["final"].requirements
        others = (it for it in wanted if canonicalize_name(it.name) != itself)
        found["final"] = replace(found["final"], requirements=tuple(others))
    uv = values.uv_settings(item.document)
    conflict = find_conflict(
        uv, project=itself, extras=found["final"].extras, groups=found["final"].groups
    )
    if conflict:
        final = item.document.find("tool", TOOL, "final") or item
        final.fault(f"{' and '.join(conflict)} conflict, as [tool.uv] declares")
    outputs = [output for stage in stages for output in stage.outputs]
    matched = (*found.pop("match_runtime"), *builds.match_runtime(uv, outputs))
    constraints = (*found.pop("build_constraints"), *builds.build_constraints(uv))
    return Project(
        pyproject=item.document.path,
        pythons=pythons,
        requires_python=values.requires_python(item, pythons),
        stages=stages,
        packages=builds.package_rules(uv, outputs, packages),
        match_runtime=tuple(dict.fromkeys(matched)),
        build_constraints=constraints,
        uv=select_sources(
            uv, extras=found["final"].extras, groups=found["final"].groups
        ),
        **found,
    )


def _check_wheelhouse(item: Item, found: Mapping[str, Any]) -> None:
    """Add a fault if the wheelhouse, which git ignores, holds something else."""
    wheelhouse = found["wheelhouse"]
    others = {
        "the pyproject.toml": item.document.path.parent,
        "lock-dir": found["lock_dir"],
    }
    for name, folder in others.items():
        if wheelhouse and folder and folder.is_relative_to(wheelhouse):
            declared = item.document.find("tool", TOOL, "wheelhouse") or item
            declared.fault(f"contains {name}; choose a folder that has nothing else")
            return


def read_stages(item: Item) -> tuple[Stage, ...] | None:
    """Read the array of stages."""
    if isinstance(item.value, list):
        return getters.non_empty(getters.list_of(read_stage), "stage")(item)
    item.expect("an array of tables", hint=f"write [[{item.location}]]")
    return None


def read_stage(item: Item) -> Stage | None:
    """Read a stage."""
    found = getters.read_table(item, STAGE)
    if found is None:
        return None
    if (found["shards"] or 1) > 1 and found["compiler_cache"] == "off":
        shards = item.child("shards", found["shards"])
        shards.fault("shards need a compiler cache, and compiler-cache is false")
    # If one of the two is missing, there is a fault, and nobody sees the stage.
    name, outputs = found.pop("name") or "", found.pop("outputs") or ()
    return Stage(name=name, outputs=outputs, location=item.location, **found)


def read_packages(item: Item) -> Mapping[NormalizedName, PackageRules] | None:
    """Read all rules, including rules for unknown outputs."""
    items = getters.items_by_name(item) or {}
    read = {name: read_package(child) for name, child in items.items()}
    return {name: rules for name, rules in read.items() if rules is not None}


def read_package(item: Item) -> PackageRules | None:
    """Read the rules for an output."""
    found = getters.read_table(item, PACKAGE, is_named=True)
    if found is None:
        return None
    corrections = found.pop("build_requires")
    requires_dist = found.pop("requires_dist")
    return PackageRules(
        build_requires_add=corrections["add"],
        build_requires_remove=corrections["remove"],
        requires_dist=(found.pop("metadata") or {}).get("requires_dist"),
        requires_dist_add=requires_dist["add"],
        requires_dist_remove=requires_dist["remove"],
        **found,
    )


def build_requires(item: Item) -> dict[str, Any] | None:
    """Read corrections of build requirements."""
    keys = {"add": Key(values.requirements, default=[]), "remove": _REMOVED}
    return getters.read_table(item, keys)


def requires_dist(item: Item) -> dict[str, Any] | None:
    """Read corrections of what a wheel requires."""
    added = Key(getters.list_of(added_requirement, "requirements"), default=[])
    return getters.read_table(item, {"add": added, "remove": _REMOVED})


_REMOVED = Key(getters.list_of(getters.project_name), default=[])
"""A list of projects."""


def metadata(item: Item) -> dict[str, Any] | None:
    """Read the declared metadata of an output."""
    return getters.read_table(item, {"requires-dist": Key(values.requirements)})


def remote_store(item: Item) -> RemoteStore | None:
    """Read a remote store: a URL, or a table."""
    if isinstance(item.value, str):
        url = getters.text(item)
        return None if url is None else RemoteStore(url=url)
    if not isinstance(item.value, Mapping):
        item.expect("a URL, or a table of url and write")
        return None
    keys = {
        "url": Key(getters.text, is_required=True),
        "write": Key(getters.boolean, default=False),
    }
    found = getters.read_table(item, keys)
    return None if found is None or not found["url"] else RemoteStore(**found)


STAGE: Mapping[str, Key] = {
    "name": Key(
        values.stage_name,
        is_required=True,
        type="string of `a-z`, `0-9`, `-` and `_`",
        example='name = "kernels"',
        text="The name of the stage, at most 100 letters. Its session is"
        " `build-stage-NAME`. The names `final`, `init`, `lock`, `merge`, `plan`,"
        " `project`, `prune`, `release` and `shell` are reserved.",
        in_locks=True,
    ),
    "outputs": Key(
        getters.non_empty(getters.list_of(values.output), "output"),
        is_required=True,
        type="list of requirements, at least one",
        example='outputs = ["flash-attn==2.8.3", "mykernels @ ./vendor/mykernels"]',
        text="The sources to build: each output becomes exactly one wheel. See"
        " [outputs](#outputs) for what can be written here.",
        in_locks=True,
        in_key=True,
        has_placeholders=True,
    ),
    "dependencies": Key(
        values.requirements,
        default=[],
        type="list of requirements",
        example='dependencies = ["setuptools", "torch"]',
        text="Packages that the stage's environment contains, beside the build"
        " requirements that its outputs declare. If another stage builds one of them,"
        " this stage gets that wheel and runs after that stage.",
        in_locks=True,
        has_placeholders=True,
    ),
    "needs": Key(
        getters.list_of(getters.text),
        default=[],
        type="list of stage names",
        example='needs = ["base"]',
        text="Stages that run before this one although it uses no wheel of theirs.",
        in_locks=True,
    ),
    "env": Key(
        values.env,
        default={},
        type="table of strings",
        example='env = { MAX_LEVEL = "3" }',
        text="Environment variables for every build backend of the stage. `{env}` in a"
        " value is [the stage's environment](#placeholders). No shell replaces `$HOME`,"
        " `$PATH` or `~` in it, so these are errors.",
        in_locks=True,
        in_key=True,
        has_placeholders=True,
        names_environment=True,
    ),
    "pass-env": Key(
        getters.list_of(getters.variable_name),
        default=[],
        type="list of names",
        example='pass-env = ["HTTPS_PROXY"]',
        text="Environment variables that are passed through from outside. Their values"
        " are part of the key, and stand in no file: records have digests.",
        in_locks=True,
        in_key=True,
    ),
    "tools": Key(
        getters.list_of(values.tool),
        type="list of programs and commands",
        default_text="the C, C++, Fortran, CUDA and Rust compilers and the linker that"
        " a build would find, and the C library",
        example='tools = ["nvcc", "c++", "pkg-config --modversion cairo"]',
        text="Programs whose `--version` is part of the key, in place of the default."
        " An entry with several words is a command, such as one that says which"
        " system libraries there are; its output is part of the key, and it runs in"
        " each session. Programs are those that the build finds: by `CUDA_HOME`, `CC`"
        " and similar variables that it gets, else on `PATH`; each gets the variables"
        " of the build. Each must be there, except nvcc if [the environment contains"
        " it](../how-to/cuda.md). See [what is in the"
        " key](../explanation/key.md#compilers).",
        in_key=True,
    ),
    "network": Key(
        values.network,
        default=False,
        type='boolean or `"require-off"`',
        example="network = true",
        text="Whether the stage's build backends can use the network, while building"
        " and while locking. `false` cuts it off if the system can do that; with"
        ' `"require-off"`, it is an error if it can\'t. Only `true` is part of the'
        " key and of the locks. See [the"
        " network](../explanation/environments.md#the-network).",
        in_locks=True,
        in_key=True,
    ),
    "sandbox": Key(
        values.sandbox,
        default=True,
        type='boolean or `"require"`',
        example="sandbox = false",
        text="Whether the stage's build backends reach only their own files, and those"
        " of the system to read, while building and while locking. `true` restricts"
        ' them if the system can do that; with `"require"`, it is an error if it'
        " can't. Only `false` is part of the key and of the locks. See [the"
        " sandbox](../explanation/sandbox.md).",
        in_locks=True,
        in_key=True,
    ),
    "private-environment": Key(
        getters.boolean,
        default=False,
        type="boolean",
        example="private-environment = true",
        text="Whether each build of the stage, and each question to a build backend,"
        " gets its own copy of the environment, which it may change and which is"
        " removed afterwards. For dependencies that write files beside themselves;"
        " otherwise a build that [changes its"
        " environment](../explanation/environments.md#what-a-backend-writes) is"
        " refused.",
    ),
    "jobs": Key(
        values.jobs,
        default="auto",
        type='`"auto"` or a number',
        example="jobs = 8",
        text="How many compilers a build may run at once, never more than there are"
        " cores, unless [other machines compile](../how-to/sccache-dist.md)."
        ' `"auto"` takes as many as cores and free memory allow, shared with [all'
        " builds that run at the same time](../explanation/jobs.md). A number is fixed"
        " while a build runs; then free memory counts only if `memory-per-job` is set,"
        " or an earlier build was measured.",
    ),
    "memory-per-job": Key(
        values.memory,
        type='size, such as `"4GB"` or `"3.5GiB"`',
        default_text="what the last build of the output measured, else what is known of"
        ' the package, else `"2GB"`, or no limit if `jobs` is a number',
        example='memory-per-job = "4GB"',
        text="How much memory one compiler may need. A build gets only as many jobs as"
        " fit into the free memory, but at least one. Without this key, the memory is"
        " [measured](../explanation/jobs.md#how-much-memory-a-job-needs). `GB` are"
        " powers of 1000, `GiB` powers of 1024.",
    ),
    "compiler-cache": Key(
        values.compiler_cache,
        type='`"auto"`, `"ccache"`, `"sccache"` or `false`',
        default_text="the project's `compiler-cache`",
        example='compiler-cache = "ccache"',
        text="Which [compiler cache](../how-to/compiler-caches.md) this stage uses.",
    ),
    "shards": Key(
        values.shards,
        default=1,
        type="number",
        example="shards = 20",
        text="How many jobs of [CI](../how-to/shards.md) compile the files of each"
        " output at the same time, before one job builds the wheel. A build on one"
        " machine isn't divided.",
    ),
    "timeout": Key(
        values.timeout,
        type='time, such as `"5h"`, `"1h30min"` or `"2d"`',
        default_text="none",
        example='timeout = "5h"',
        text="How long the stage may build, all outputs together. Then it is stopped,"
        " and [the next run resumes](../explanation/resuming.md).",
    ),
}

PACKAGE: Mapping[str, Key] = {
    "build-requires": Key(
        build_requires,
        default={},
        type="table of `add`, a list of requirements, and `remove`, a list of names",
        example='build-requires = { add = ["wheel"], remove = ["torch"] }',
        text="Corrects the build requirements that the output declares.",
        in_locks=True,
        has_placeholders=True,
    ),
    "config-settings": Key(
        getters.mapping_of(values.config_setting, "strings"),
        default={},
        type="table of strings and lists of strings",
        example='config-settings = { "--build-option" = ["--fast"] }',
        text="[PEP 517](https://peps.python.org/pep-0517/#config-settings) config"
        " settings for each hook of the build backend. `{env}` in a value is [the"
        " stage's environment](#placeholders).",
        in_locks=True,
        in_key=True,
        has_placeholders=True,
        names_environment=True,
    ),
    "env": Key(
        values.env,
        default={},
        type="table of strings",
        example='env = { GROUPED_GEMM_CUTLASS = "1" }',
        text="Environment variables for the output's hooks. They override those of the"
        " stage.",
        in_locks=True,
        in_key=True,
        has_placeholders=True,
        names_environment=True,
    ),
    "metadata": Key(
        metadata,
        type="table of `requires-dist`, a list of requirements",
        default_text="the metadata of the source or the build backend",
        example='metadata = { requires-dist = ["torch"] }',
        text="The wheel's runtime requirements. Set it only if neither the source nor"
        " the build backend can state them without a build, or if the backend can't"
        " run where you lock. The built wheel must agree.",
        in_locks=True,
        has_placeholders=True,
    ),
    "requires-dist": Key(
        requires_dist,
        default={},
        type="table of `add`, a list of requirements, and `remove`, a list of names",
        example='requires-dist = { add = ["torch=={torch}"], remove = ["black"] }',
        text="Corrects [what the wheel requires](#requires-dist), in its METADATA and"
        " in the lock files. In `add`, `{torch}` is the public version of that package"
        " in the stage's environment.",
        in_locks=True,
        in_key=True,
        has_placeholders=True,
    ),
    "patches": Key(
        getters.list_of(values.patch),
        default=[],
        type="list of paths",
        example='patches = ["patches/grouped-gemm.patch"]',
        text="[Patches](#patches) of the source, applied in this order before anything"
        " reads it. Their contents and their order are part of the key.",
        in_locks=True,
        in_key=True,
        has_placeholders=True,
    ),
    "local-version": Key(
        local_version,
        type='string, such as `"torch{torch}"`',
        default_text="the local version that the build backend gives, if any",
        example='local-version = "torch{torch}"',
        text="The [local version](#local-version) of the wheel.",
        in_locks=True,
        in_key=True,
        has_placeholders=True,
    ),
    "native": Key(
        getters.boolean,
        default=False,
        type="boolean",
        example="native = true",
        text="Whether the wheel is meant for the processor of the machine that builds"
        " it, as with `-march=native`. Otherwise a session says so, and"
        " [`--repair`](../how-to/release.md) gives it no manylinux tag. See [the"
        " processor](../explanation/key.md#the-processor).",
    ),
    "unused": Key(
        getters.boolean,
        default=False,
        type="boolean",
        example="unused = true",
        text="Whether it is all right that neither the runtime nor another stage"
        " contains the output. Otherwise `build-stages-lock` and `build-stages` say"
        " so.",
    ),
}

TOP: Mapping[str, Key] = {
    "python": Key(
        values.python_versions,
        default_text="the interpreter that runs nox, or [one that `requires-python`"
        " includes](../how-to/pythons.md#the-python-that-the-project-requires)",
        type='list of versions, such as `["3.11", "3.14t"]`',
        example='python = ["3.11", "3.12"]',
        text="The Pythons of all sessions, as nox's `python=`: session names end with"
        " the version. The oldest supported one is 3.10, and `requires-python` must"
        " include each. If there are several, each must be another minor version, and"
        " the locks are for all of them. [`3.14t` is free-threaded]"
        "(../how-to/pythons.md#free-threaded-pythons).",
        in_locks=True,
        in_key=True,
    ),
    "environments": Key(
        getters.list_of(values.marker, "markers"),
        default=[],
        type="list of markers",
        example="environments = [\"sys_platform == 'darwin'\"]",
        text="Other platforms that the locks are for, beside this machine's. See"
        " [other platforms](#other-platforms).",
        in_locks=True,
    ),
    "lock-dir": Key(
        values.path,
        default="build-stages",
        type="path",
        example='lock-dir = "locks"',
        text="The folder of the lock files.",
        in_locks=True,
    ),
    "wheelhouse": Key(
        values.path,
        default="wheelhouse",
        type="path",
        example='wheelhouse = "dist"',
        text="The folder of the wheels, which has nothing else in it.",
    ),
    "match-runtime": Key(
        getters.list_of(getters.project_name),
        default=[],
        type="list of names",
        example='match-runtime = ["torch"]',
        text="Projects that have the same version in every environment that contains"
        " them, build or runtime.",
        in_locks=True,
    ),
    "constraints": Key(
        values.requirements,
        default=[],
        type="list of requirements",
        example='constraints = ["numpy<2.4"]',
        text="Constraints on every resolution.",
        in_locks=True,
    ),
    "build-constraints": Key(
        values.requirements,
        default=[],
        type="list of requirements",
        example='build-constraints = ["cython<3.1"]',
        text="Constraints on the stages' resolutions only.",
        in_locks=True,
    ),
    "exclude-newer": Key(
        values.upload_time,
        type="a date, a time with its zone, or a span",
        default_text="that of `[tool.uv]`, if any",
        example='exclude-newer = "7 days"',
        text="Files that were uploaded later are ignored, as in uv: after a time such"
        " as `2026-11-01T00:00:00Z`, or in the last days before locking. The lock files"
        " note the date that a span (`7 days`, `1w 2d`, `P7D`) meant. It stays until"
        " something else changes or you upgrade, so time alone doesn't make lock files"
        " out of date.",
        in_locks=True,
    ),
    "remote-store": Key(
        remote_store,
        type="URL or path, or table of `url` and `write`",
        default_text="none",
        example='remote-store = { url = "s3://bucket/store", write = true }',
        text="A [store that several machines"
        " share](../how-to/store.md#share-a-store-between-machines). Wheels that are"
        " missing in the local store are fetched from it. If `write` is true (default:"
        " `false`), wheels that are built are uploaded to it.",
    ),
    "compiler-cache": Key(
        values.compiler_cache,
        default="auto",
        type='`"auto"`, `"ccache"`, `"sccache"` or `false`',
        example='compiler-cache = "ccache"',
        text="Which [compiler cache](../how-to/compiler-caches.md) builds use."
        ' `"auto"` takes ccache, else sccache, if one is on `PATH`. A cache that is'
        " named must be there when something is built.",
    ),
    "final": Key(
        read_final,
        default={},
        type="table",
        default_text="see [`final`](#tool-nox-buildstages-final)",
        text="The runtime environment: what is installed, and how it is checked.",
        in_locks=True,
    ),
    "stage": Key(
        read_stages,
        type="array of tables",
        default_text="required, unless the table has `final` or `matrix`",
        text="The [stages](#tool-nox-buildstages-stage).",
        in_locks=True,
    ),
    "package": Key(
        read_packages,
        default={},
        type="table of tables",
        text="Rules for [single outputs](#tool-nox-buildstages-package-name),"
        " whichever stage builds them.",
        in_locks=True,
    ),
    "matrix": Key(
        getters.raw_table,
        type="table",
        default_text="none",
        text="Axes whose values multiply the stages and the runtime. See"
        " [`matrix`](#tool-nox-buildstages-matrix).",
        in_locks=True,
    ),
}
