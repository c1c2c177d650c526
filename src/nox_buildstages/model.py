"""The nouns of the project: frozen values without I/O."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cached_property
from shlex import split
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from packaging.markers import Environment, Marker
    from packaging.tags import Tag
    from packaging.utils import NormalizedName

FINAL = "final"
"""The name of the runtime environment's lock; reserved, so no stage has it."""

PROJECT = "project"
"""The name of the lock for installing the project itself; reserved."""

LOGS = "logs"
"""The folder of logs in a wheelhouse."""

REPORT = "report.html"
"""The file name of the report in a project's wheelhouse."""

DEBUG_LOG = "debug.log"
"""The file name of the debug log, which no output's log has."""

ConfigSettings: TypeAlias = "Mapping[str, str | tuple[str, ...]]"
"""PEP 517 config settings, as a build backend receives them."""

Learned: TypeAlias = Literal["static", "wheel", "hook", "config"]
"""The origin of an output's metadata: its source (PEP 643), a hook, or the table."""

Network: TypeAlias = Literal["off", "on", "require-off"]
"""Whether build backends can use the network; ``off`` if the system can prevent it."""

FileRules: TypeAlias = Literal["on", "off", "require"]
"""Whether build backends reach only some files; ``on`` if the system can do that."""

CompilerCache: TypeAlias = Literal["auto", "ccache", "sccache", "off"]
"""The compiler cache of builds; ``auto`` for any on ``PATH``."""

Variant: TypeAlias = "Mapping[str, Mapping[str, tuple[str, ...]]]"
"""The features that a wheel needs: lists of values, by namespace and feature."""

VARIANTS = "variants"
"""The folder of variant wheels in a project's wheelhouse."""


def log_name(output: str) -> str:
    """Return the file name of an output's log, by the normalized name."""
    name = f"{output}.log"
    return name if name != DEBUG_LOG else f"{output}_.log"


class AxisValue(Value):
    """A value of an axis, with its changes; `AXIS_VALUE` explains the fields."""

    name: str  # the text for {axis}
    constraints: tuple[Requirement, ...] = ()
    index: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[Requirement, ...] = ()
    extras: tuple[tuple[Requirement, ...], ...] = ()  # what each requires
    groups: tuple[tuple[NormalizedName, tuple[Requirement, ...]], ...] = ()
    machine: str | None = None  # None: the machine of cells without one
    runs_on: tuple[str, ...] = ()
    container: str | None = None
    setup: str | None = None
    variant: Variant | None = None  # None: the axis is about something else

    @property
    def projects(self) -> frozenset[NormalizedName]:
        """The projects constrained or required by the value."""
        found = [*self.constraints, *self.requirements]
        for added in (*self.extras, *(added for _, added in self.groups)):
            found += added
        return frozenset(canonicalize_name(it.name) for it in found)


def minor_version(version: str) -> str:
    """Return the minor version of a Python such as ``3.11.7``, with the ``t``."""
    found = re.search(r"(\d+\.\d+)[.\d]*(t?)", version)
    return version if found is None else found[1] + found[2]


def sort_pythons(versions: Iterable[str]) -> list[str]:
    """Return Pythons in any form, the lowest first; free-threaded ones come after."""

    def order(version: str) -> tuple[tuple[int, ...], bool]:
        numbers = re.findall(r"\d+", minor_version(version))
        return tuple(map(int, numbers)), version.endswith("t")

    return sorted(versions, key=order)


def variable_of(axis: str) -> str:
    """Return the variable with an axis's value, for setup steps of CI."""
    return f"CELL_{axis.upper().replace('-', '_')}"


NVCC = "nvidia-cuda-nvcc"
"""The project whose wheel contains nvcc."""

ENVIRONMENT = "env"
"""The name of the placeholder for the environment of a stage, ``{env}``."""


def fill_environment(text: str, location: str) -> str:
    """Put the path of an environment in place of ``{env}``; ``{{env}}`` is literal."""
    return re.sub(
        r"\{\{env\}\}|\{env\}",
        lambda match: location if match[0] == "{env}" else "{env}",
        text,
    )


def escape_environment(text: str) -> str:
    """Return a text that stays unchanged when ``{env}`` is filled."""
    return text.replace("{env}", "{{env}}")


class Runner(Value):
    """How CI runs the session of a stage, or of ``final``."""

    machine: str | None  # None for any
    runs_on: tuple[str, ...]  # labels; empty for CI's choice
    container: str | None  # an image
    setup: str | None  # commands for bash
    variables: Mapping[str, str]  # of setup

    def to_dict(self) -> dict[str, Any]:
        """Return the runner as JSON."""
        return {
            "machine": self.machine,
            "runs-on": [*self.runs_on],
            "container": self.container,
            "setup": self.setup,
            "variables": {**self.variables},
        }


class Axis(Value):
    """A dimension of a matrix."""

    name: str
    values: tuple[AxisValue, ...]

    def value(self, name: str) -> AxisValue:
        """Return the value of a name; an included name has a value without changes."""
        found = (value for value in self.values if value.name == name)
        return next(found, AxisValue(name=name))

    @property
    def projects(self) -> frozenset[NormalizedName]:
        """The projects constrained or required by a value."""
        return frozenset(name for value in self.values for name in value.projects)


class Cell(Value):
    """A combination of values, at most one per axis of the matrix.

    A combination of all axes has its own runtime environment. Without a matrix, the
    only cell has no values.
    """

    choices: tuple[tuple[str, str], ...] = ()
    """Pairs of axis and value, in the table's order."""

    def value(self, axis: str) -> str:
        """Return the value of an axis; raise KeyError if the cell has none."""
        return dict(self.choices)[axis]

    def of(self, axes: Collection[str]) -> Cell:
        """Return the cell with only some axes."""
        return Cell(choices=tuple(it for it in self.choices if it[0] in axes))

    def __str__(self) -> str:
        return ", ".join(f"{axis}={value}" for axis, value in self.choices)

    @property
    def suffix(self) -> str:
        """The end of the names of the cell's sessions."""
        return f"({self})" if self.choices else ""

    @property
    def name(self) -> str:
        """A name of letters, digits and ``.``, ``_``, ``+``, ``-``."""
        joined = "_".join(f"{axis}-{value}" for axis, value in self.choices)
        return joined or "all"

    @property
    def folder(self) -> str:
        """The path of the cell's wheelhouse below the project's wheelhouse, POSIX."""
        return "/".join(value for _, value in self.choices)


class Matrix(Value):
    """The axes of a project, and the cells to build stages for."""

    axes: tuple[Axis, ...] = ()
    cells: tuple[Cell, ...] = (Cell(),)
    pythons: Mapping[Cell, tuple[str, ...]] = field(default_factory=dict)
    """The Pythons of cells that have some only, as declared."""
    common_axes: frozenset[str] = frozenset()
    """The axes used by every stage: their values choose machines or Pythons."""
    exclude: tuple[Mapping[str, str], ...] = ()  # as declared
    included: frozenset[Cell] = frozenset()  # that exclude has no effect on

    @property
    def machine(self) -> str | None:
        """The machine of cells whose values name none; None for any machine."""
        named = any(value.machine for axis in self.axes for value in axis.values)
        return "x86_64" if named else None


class Output(Value):
    """A requirement that a stage turns into exactly one wheel."""

    requirement: Requirement  # a file or a folder has an absolute URL
    location: str  # of the declaration, for messages

    @cached_property
    def name(self) -> NormalizedName:
        """The normalized name of the project."""
        return canonicalize_name(self.requirement.name)

    def accepts(self, version: Version) -> bool:
        """Whether a version, or the part before ``+``, is asked for."""
        wanted = self.requirement.specifier
        return any(
            wanted.contains(it, prereleases=True) for it in (version, version.public)
        )


COMPILERS = ("cc", "c++", "gfortran", "nvcc", "rustc", "ld")
"""The programs whose versions are part of the key by default."""


class Shard(Value):
    """A share of the files that a build compiles: the first of three, for example."""

    number: int  # from 1
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def folder(self) -> str:
        """The name of the folder for its logs."""
        return f"shard-{self.number}-of-{self.count}"


class Stage(Value):
    """A locked environment and the wheels built there; `STAGE` explains the fields."""

    name: str
    dependencies: tuple[Requirement, ...] = ()
    outputs: tuple[Output, ...]
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    tools: tuple[str, ...] | None = None  # None for the usual compilers
    jobs: int | None = None  # None for automatic
    memory_per_job: int | None = None  # bytes; None if unknown
    network: Network = "off"
    sandbox: FileRules = "on"
    private_environment: bool = False
    timeout: int | None = None  # seconds
    compiler_cache: CompilerCache | None = None  # None: the project's
    shards: int = 1
    """The number of machines that CI plans to compile each output."""
    code: str = ""
    """A digest of what a function in a noxfile does before it builds, if anything."""
    location: str = ""  # of the declaration, for messages

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the programs whose versions are part of the key."""
        tools = COMPILERS if self.tools is None else self.tools
        return tuple(split(tool)[0] for tool in tools)


class Patch(Value):
    """A file with changes to an output's source, as declared."""

    name: str  # the path as the table writes it
    path: Path  # absolute
    location: str  # of the declaration, for messages


class Template(Value):
    """A declared text in which ``{x}`` is the public version of project x.

    The version is that of the project in the environment of the output's stage.
    """

    text: str
    location: str  # of the declaration, for messages


class Corrections(Value):
    """The changes of the table in the METADATA of an output's wheel."""

    is_labelled: bool = False  # whether the table sets the local version
    add: tuple[str, ...] = ()  # requirements
    remove: tuple[NormalizedName, ...] = ()

    def apply(self, requires: Iterable[str]) -> tuple[str, ...]:
        """Return the corrected requirements of a wheel, sorted."""
        return tuple(sorted({*drop_projects(requires, self.remove), *self.add}))


def drop_projects(
    requires: Iterable[str], names: Collection[NormalizedName]
) -> Iterator[str]:
    """Yield the requirements on other projects."""
    for text in requires:
        if canonicalize_name(Requirement(text).name) not in names:
            yield text


class PackageRules(Value):
    """Rules for an output, in whichever stage; `PACKAGE` explains the fields."""

    build_requires_add: tuple[Requirement, ...] = ()
    build_requires_remove: tuple[NormalizedName, ...] = ()
    config_settings: ConfigSettings = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    requires_dist: tuple[Requirement, ...] | None = None  # None if not declared
    requires_dist_add: tuple[Template, ...] = ()
    requires_dist_remove: tuple[NormalizedName, ...] = ()
    local_version: Template | None = None  # None keeps the backend's
    native: bool = False  # whether the wheel may be for one processor
    unused: bool = False

    def apply_removals(self, requires: Iterable[str]) -> Iterator[str]:
        """Yield the build requirements not removed by the table."""
        return drop_projects(requires, self.build_requires_remove)


_NO_RULES = PackageRules()


class Final(Value):
    """The runtime environment: requirements and checks."""

    requirements: tuple[Requirement, ...]  # with extras and groups
    requirements_key: str = "final.requirements"
    """The key with the requirements, as messages name it."""
    extras: tuple[NormalizedName, ...] = ()  # with those that they name
    groups: tuple[NormalizedName, ...] = ()
    imports: tuple[str, ...] = ()
    checks: tuple[tuple[str, ...], ...] = ()
    pass_env: tuple[str, ...] = ()  # variables for imports and checks
    project: NormalizedName | None = None  # None if the project isn't installed
    build_system: Mapping[str, Any] = field(default_factory=dict)
    """The table of the project, as written."""


class RemoteStore(Value):
    """A store shared between machines."""

    url: str = field(repr=False)  # or a path; may contain secrets
    write: bool = False  # whether new wheels are uploaded


class Login(Value):
    """A user name, usually with a password, for one URL."""

    url: str  # without the login
    name: str = field(repr=False)  # may be a token
    password: str | None = field(default=None, repr=False)

    @property
    def full_url(self) -> str:
        """The URL with name and password."""
        words = (self.name, *(() if self.password is None else (self.password,)))
        userinfo = ":".join(quote(word, safe="") for word in words)
        return self.url.replace("://", f"://{userinfo}@", 1)

    @property
    def header(self) -> str:
        """The value of ``Authorization`` (RFC 7617)."""
        secret = f"{self.name}:{self.password or ''}".encode()
        return f"Basic {b64encode(secret).decode()}"


class Project(Value):
    """A pyproject.toml's table, read for one cell; `TOP` explains most fields."""

    pyproject: Path  # absolute
    pythons: tuple[str, ...] = ()  # empty: the Python that runs nox
    requires_python: SpecifierSet = field(default_factory=SpecifierSet)
    cell_pythons: tuple[str, ...] = ()  # those that the cell is built for
    machine: str | None = None  # that the cell is built for; None for any
    exclude: tuple[Mapping[str, str], ...] = ()  # of the matrix
    is_included: bool = False  # whether ``include`` alone brings the cell
    environments: tuple[Marker, ...] = ()
    lock_dir: Path
    wheelhouse: Path
    match_runtime: tuple[NormalizedName, ...] = ()
    constraints: tuple[Requirement, ...] = ()
    build_constraints: tuple[Requirement, ...] = ()
    exclude_newer: str | None = None  # RFC 3339, or a span such as 7 days
    remote_store: RemoteStore | None = None
    compiler_cache: CompilerCache = "auto"
    final: Final
    stages: tuple[Stage, ...]
    packages: Mapping[NormalizedName, PackageRules] = field(default_factory=dict)
    uv: Mapping[str, Any] = field(default_factory=dict, repr=False)  # [tool.uv]
    logins: tuple[Login, ...] = ()  # from URLs: no URL here contains a login
    cell: Cell = field(default_factory=Cell)
    values: Mapping[str, AxisValue] = field(default_factory=dict)
    """The cell's value of each axis."""
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By stage: the used axes, in order."""

    @property
    def root(self) -> Path:
        """The folder of the pyproject.toml, where relative paths start."""
        return self.pyproject.parent

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All outputs, stage by stage."""
        return tuple(output for stage in self.stages for output in stage.outputs)

    def accepts_python(self, version: str) -> bool:
        """Whether ``requires-python`` includes a full version.

        As in uv, a pre-release counts as the release.
        """
        return self.requires_python.contains(Version(version.rstrip("+")).base_version)

    def wheelhouse_of(self, cell: Cell, python: str) -> Path:
        """Return the wheelhouse of a cell for a Python, such as 3.12.

        A cell without values has the project's own folder. If the project has several
        Pythons, each has a separate folder.
        """
        folder = self.wheelhouse / cell.folder
        return folder / python if len(self.pythons) > 1 else folder

    def stage_cell(self, name: str) -> Cell:
        """Return the part of the cell used by a stage, or by ``final``."""
        if name in (PROJECT, FINAL):
            return self.cell
        return self.cell.of(self.uses.get(name, ()))

    def runner(self, name: str, python: str) -> Runner:
        """Return the runner of a stage, or of ``final``, as its values say."""
        choices = self.stage_cell(name).choices
        values = [self.values[axis] for axis, _ in choices]
        variables = {variable_of(axis): value for axis, value in choices}
        return Runner(
            machine=self.machine,
            runs_on=next((it.runs_on for it in values if it.runs_on), ()),
            container=next((it.container for it in values if it.container), None),
            setup="\n".join(it.setup for it in values if it.setup) or None,
            variables={**variables, variable_of("python"): python},
        )

    def has_python(self, python: str) -> bool:
        """Whether the cell is built for a Python, such as 3.12."""
        versions = self.cell_pythons or self.pythons
        return len(self.pythons) < 2 or python in map(minor_version, versions)  # noqa: PLR2004

    def stage_label(self, name: str) -> str:
        """Return a stage's name, followed by the values used by the stage."""
        return f"{name}{self.stage_cell(name).suffix}"

    def rules(self, name: NormalizedName) -> PackageRules:
        """Return the rules for an output; empty rules if the table has none."""
        return self.packages.get(name, _NO_RULES)


class ArchiveSource(Value):
    """A source distribution: a file, on an index, at a URL or in the project."""

    location: str  # a URL, or a POSIX path relative to the project's root
    sha256: str
    subdirectory: str | None = None  # of the project in the archive

    def __str__(self) -> str:
        return f"{self.location} (sha256:{self.sha256})"


class GitSource(Value):
    """A commit of a git repository."""

    url: str
    commit: str  # the full hash
    subdirectory: str | None = None  # of the project in the repository
    revision: str | None = None  # as declared; doesn't identify the source

    def __str__(self) -> str:
        return f"git+{self.url}@{self.commit}"


class DirectorySource(Value):
    """A folder, whose contents are read at build time."""

    path: str  # POSIX; relative to the project's root for folders in the project
    subdirectory: str | None = None  # of the output in the folder

    def __str__(self) -> str:
        return self.path


Source: TypeAlias = ArchiveSource | GitSource | DirectorySource


class Metadata(Value):
    """The metadata of an output's wheel, as far as a resolution needs them."""

    version: Version
    requires_dist: tuple[str, ...] = ()  # PEP 508, sorted
    requires_python: str | None = None  # PEP 440
    provides_extra: tuple[str, ...] = ()  # normalized, sorted
    learned: Learned


def kind_of(markers: Mapping[str, str]) -> str:
    """Return a marker for a platform, from PEP 508 markers."""
    names = ("implementation_name", "platform_machine", "sys_platform")
    return " and ".join(f'{name} == "{markers[name]}"' for name in names)


class Interpreter(Value):
    """A Python to create environments for."""

    markers: Environment = field(hash=False)
    tags: tuple[Tag, ...] = field(hash=False)  # best first
    abi: str  # SOABI, such as cpython-311-x86_64-linux-gnu
    platform: str  # as sysconfig.get_platform()
    compilation: str = ""
    """A digest of the settings with which it compiles extension modules."""
    compilers: tuple[str, ...] = ()
    """The command lines of its C and its C++ compiler, for extension modules."""

    @property
    def version(self) -> str:
        """The minor version, such as ``3.11``, or ``3.14t`` of a free-threaded one."""
        abi = self.tags[0].abi if self.tags else ""
        threads = "t" if re.match(r"cp\d+t", abi) else ""
        return f"{self.markers['python_version']}{threads}"

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """The platforms of binary wheels that the Python can import, best first."""
        found = dict.fromkeys(tag.platform for tag in self.tags)
        return tuple(it for it in found if it != "any")

    @property
    def requires_python(self) -> str:
        """The minor version as a specifier, such as ``==3.11.*``."""
        return f"=={self.markers['python_version']}.*"

    @property
    def short(self) -> str:
        """The target of wheels, such as ``CPython 3.11 on linux-x86_64``."""
        name = self.markers["platform_python_implementation"]
        return f"{name} {self.version} on {self.platform}"

    @property
    def kind(self) -> str:
        """A marker for this platform."""
        return kind_of(cast("Mapping[str, str]", self.markers))

    def satisfies(self, marker: Marker, extra: str = "") -> bool:
        """Return whether a marker is true for the interpreter, and an extra if any."""
        markers = {k: str(v) for k, v in self.markers.items()}
        return marker.evaluate({**markers, "extra": extra})

    def __str__(self) -> str:
        name = self.markers["platform_python_implementation"]
        threads = self.version.removeprefix(self.markers["python_version"])
        full = f"{self.markers['python_full_version']}{threads}"
        return f"{name} {full} on {self.platform}"
