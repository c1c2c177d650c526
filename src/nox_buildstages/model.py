"""The nouns of the project: frozen values without I/O."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from urllib.parse import quote

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from packaging.markers import Environment, Marker
    from packaging.requirements import Requirement
    from packaging.tags import Tag
    from packaging.utils import NormalizedName
    from packaging.version import Version

FINAL = "final"
"""The name of the runtime environment's lock; reserved, so no stage has it."""

PROJECT = "project"
"""The name of the lock for installing the project itself; reserved."""

ConfigSettings: TypeAlias = "Mapping[str, str | tuple[str, ...]]"
"""PEP 517 config settings, as a build backend receives them."""

Learned: TypeAlias = Literal["static", "hook", "config"]
"""The origin of an output's metadata: its source (PEP 643), a hook, or the table."""

Network: TypeAlias = Literal["off", "on", "require-off"]
"""Whether build backends can use the network; ``off`` if the system can prevent it."""

CompilerCache: TypeAlias = Literal["auto", "ccache", "sccache", "off"]
"""The compiler cache of builds; ``auto`` for any on ``PATH``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisValue:
    """A value of an axis, with the value's changes.

    Attributes:
        name: The text for ``{axis}``.
        constraints: Apply to every resolution of the value's cells.
        index: The only ``[[tool.uv.index]]`` of the value's cells, of the indexes named
            by the axis; None for none of them.
        env: Variables for stages using the axis; override the variables of the stage.
    """

    name: str
    constraints: tuple[Requirement, ...] = ()
    index: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One dimension of a matrix.

    Attributes:
        name: The name in ``{name}``.
        values: In the table's order.
    """

    name: str
    values: tuple[AxisValue, ...]

    def value(self, name: str) -> AxisValue:
        """Return the value of a name; an included name has a value without changes."""
        found = (value for value in self.values if value.name == name)
        return next(found, AxisValue(name=name))

    @property
    def constrained(self) -> frozenset[NormalizedName]:
        """The projects constrained by a value."""
        found = (it for value in self.values for it in value.constraints)
        return frozenset(canonicalize_name(it.name) for it in found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A combination of values, at most one per axis of the matrix.

    A combination of all axes has its own runtime environment. Without a matrix, the
    only cell has no values.

    Attributes:
        choices: Pairs of axis and value, in the table's order.
    """

    choices: tuple[tuple[str, str], ...] = ()

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """The axes of a project, and the cells to build stages for.

    Attributes:
        axes: In the table's order.
        cells: The combinations of values.
    """

    axes: tuple[Axis, ...] = ()
    cells: tuple[Cell, ...] = (Cell(),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """A requirement that a stage turns into exactly one wheel.

    Attributes:
        requirement: As declared, with an absolute URL for a file or a folder.
        location: The location of the declaration, for messages.
    """

    requirement: Requirement
    location: str

    @property
    def name(self) -> NormalizedName:
        """The normalized name of the project."""
        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A locked environment, and the wheels built in the environment.

    The keys of the table ``stage``; :data:`nox_buildstages.config.table.STAGE` explains
    them.

    Attributes:
        name: The name in the session ``build-stage-NAME``.
        dependencies: Requirements beside the build requirements of outputs.
        outputs: The sources to build.
        needs: Stages to run first, although no wheel of them is used.
        env: Variables for every hook; part of the key.
        pass_env: Variables passed through from outside; their values are in the key.
        tools: Programs whose ``--version`` is part of the key.
        jobs: The number of compilers that may run at once; None for automatic.
        memory_per_job: In bytes; None if unknown.
        network: Whether build backends can use the network.
        timeout: The limit of a run of the stage in seconds; None for no limit.
        compiler_cache: None for the project's.
        location: The location of the declaration, for messages.
    """

    name: str
    dependencies: tuple[Requirement, ...] = ()
    outputs: tuple[Output, ...]
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    jobs: int | None = None
    memory_per_job: int | None = None
    network: Network = "off"
    timeout: int | None = None
    compiler_cache: CompilerCache | None = None
    location: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A file with changes to an output's source, as declared.

    Attributes:
        name: The path as the table writes it.
        path: The file, absolute.
        location: The location of the declaration, for messages.
    """

    name: str
    path: Path
    location: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalVersion:
    """The declared part of an output's version after ``+``.

    Attributes:
        text: Has ``{x}`` for the public version of a project x in the environment.
        location: The location of the declaration, for messages.
    """

    text: str
    location: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageRules:
    """The table ``package.NAME``: rules for an output, in whichever stage.

    Attributes:
        build_requires_add: Missing build requirements.
        build_requires_remove: Names of wrong build requirements.
        config_settings: PEP 517 config settings for each hook.
        env: Variables for hooks; override the stage's variables; part of the key.
        patches: Applied to the source, in this order, before anything reads the source.
        requires_dist: Runtime requirements, if the build backend can't state them
            without a build; None if the table doesn't state them.
        local_version: Replaces the local version from the build backend; None keeps
            the backend's.
    """

    build_requires_add: tuple[Requirement, ...] = ()
    build_requires_remove: tuple[NormalizedName, ...] = ()
    config_settings: ConfigSettings = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    requires_dist: tuple[Requirement, ...] | None = None
    local_version: LocalVersion | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Final:
    """The runtime environment: requirements and checks.

    Attributes:
        requirements: All requirements, including extras and groups.
        imports: Modules to import.
        checks: Commands to run.
        project: The name of the project itself, if the project is installed too.
        build_system: The ``[build-system]`` table in this case, as written.
    """

    requirements: tuple[Requirement, ...]
    imports: tuple[str, ...] = ()
    checks: tuple[tuple[str, ...], ...] = ()
    project: NormalizedName | None = None
    build_system: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteStore:
    """A store shared between machines.

    Attributes:
        url: The URL or the path of a folder; may contain secrets.
        write: Whether new wheels are uploaded.
    """

    url: str = field(repr=False)
    write: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A user name, usually with a password, for one URL.

    Attributes:
        url: The URL of a repository, an index or a file, without the login.
        name: The user name; hidden too, because it may be a token.
        password: None if there is none.
    """

    url: str
    name: str = field(repr=False)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A pyproject.toml's table ``[tool.nox-buildstages]``, read for one cell.

    Attributes:
        pyproject: The file, absolute.
        pythons: The Pythons of all sessions; empty for the Python that runs nox.
        environments: Markers of other platforms to lock for.
        lock_dir: The folder of the lock files, absolute.
        wheelhouse: The folder of the wheels, absolute.
        match_runtime: Projects with the same version in every environment.
        constraints: Apply to every resolution.
        build_constraints: Apply to the stages' resolutions only.
        exclude_newer: An RFC 3339 time; later uploads are ignored.
        remote_store: A store shared with other machines; None for none.
        compiler_cache: The default of stages.
        final: The runtime environment.
        stages: In the table's order.
        packages: Rules by output.
        uv: The ``[tool.uv]`` table of the same file, as parsed: indexes, sources.
        logins: Names and passwords from the URLs of requirements and sources; no URL
            here contains a login.
        cell: The cell of the matrix.
        axis_env: By axis: variables of the cell's value, for stages using the axis.
        uses: By name of a stage: the axes used by the stage, in order.
    """

    pyproject: Path
    pythons: tuple[str, ...] = ()
    environments: tuple[Marker, ...] = ()
    lock_dir: Path
    wheelhouse: Path
    match_runtime: tuple[NormalizedName, ...] = ()
    constraints: tuple[Requirement, ...] = ()
    build_constraints: tuple[Requirement, ...] = ()
    exclude_newer: str | None = None
    remote_store: RemoteStore | None = None
    compiler_cache: CompilerCache = "auto"
    final: Final
    stages: tuple[Stage, ...]
    packages: Mapping[NormalizedName, PackageRules] = field(default_factory=dict)
    uv: Mapping[str, Any] = field(default_factory=dict, repr=False)
    logins: tuple[Login, ...] = ()
    cell: Cell = field(default_factory=Cell)
    axis_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder of the pyproject.toml, where relative paths start."""
        return self.pyproject.parent

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All outputs, stage by stage."""
        return tuple(output for stage in self.stages for output in stage.outputs)

    def stage_cell(self, name: str) -> Cell:
        """Return the part of the cell used by a stage, or by ``final``."""
        if name in (PROJECT, FINAL):
            return self.cell
        return self.cell.of(self.uses.get(name, ()))

    def stage_label(self, name: str) -> str:
        """Return a stage's name, followed by the values used by the stage."""
        return f"{name}{self.stage_cell(name).suffix}"

    def rules(self, name: NormalizedName) -> PackageRules:
        """Return the rules for an output; empty rules if the table has none."""
        return self.packages.get(name, PackageRules())


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveSource:
    """A source distribution: a file, on an index, at a URL or in the project.

    Attributes:
        location: A URL, or a POSIX path relative to the project's root.
        sha256: The hash of the file, in hex.
        subdirectory: The project's folder in the archive.
    """

    location: str
    sha256: str
    subdirectory: str | None = None

    def __str__(self) -> str:
        return f"{self.location} (sha256:{self.sha256})"


@dataclass(frozen=True, kw_only=True, slots=True)
class GitSource:
    """A commit of a git repository.

    Attributes:
        url: The URL of the repository, for git.
        commit: The full hash of the commit.
        subdirectory: The project's folder in the repository.
        revision: The declared branch or tag; only the commit identifies the source.
    """

    url: str
    commit: str
    subdirectory: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return f"git+{self.url}@{self.commit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectorySource:
    """A folder, whose contents are read at build time.

    Attributes:
        path: POSIX; relative to the project's root for folders in the project.
    """

    path: str

    def __str__(self) -> str:
        return self.path


Source: TypeAlias = ArchiveSource | GitSource | DirectorySource


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """The metadata of an output's wheel, as far as a resolution needs them.

    Attributes:
        version: The version of the wheel.
        requires_dist: PEP 508 strings, sorted.
        requires_python: A PEP 440 specifier, or None.
        provides_extra: Normalized names, sorted.
        learned: The origin of the metadata.
    """

    version: Version
    requires_dist: tuple[str, ...] = ()
    requires_python: str | None = None
    provides_extra: tuple[str, ...] = ()
    learned: Learned


def kind_of(markers: Mapping[str, str]) -> str:
    """Return a marker for a platform, from PEP 508 markers."""
    names = ("implementation_name", "platform_machine", "sys_platform")
    return " and ".join(f'{name} == "{markers[name]}"' for name in names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A Python to create environments for.

    Attributes:
        markers: PEP 508 environment markers.
        tags: The supported wheel tags, best first.
        abi: ``SOABI``, such as ``cpython-311-x86_64-linux-gnu``.
        platform: As ``sysconfig.get_platform()``.
    """

    markers: Environment = field(hash=False)
    tags: tuple[Tag, ...] = field(hash=False)
    abi: str
    platform: str

    @property
    def requires_python(self) -> str:
        """The minor version as a specifier, such as ``==3.11.*``."""
        return f"=={self.markers['python_version']}.*"

    @property
    def short(self) -> str:
        """The target of wheels, such as ``CPython 3.11 on linux-x86_64``."""
        name = self.markers["platform_python_implementation"]
        return f"{name} {self.markers['python_version']} on {self.platform}"

    @property
    def kind(self) -> str:
        """A marker for this platform."""
        return kind_of(cast("Mapping[str, str]", self.markers))

    def satisfies(self, marker: Marker) -> bool:
        """Return whether a marker is true for the interpreter."""
        return marker.evaluate({k: str(v) for k, v in self.markers.items()})

    def __str__(self) -> str:
        name = self.markers["platform_python_implementation"]
        return f"{name} {self.markers['python_full_version']} on {self.platform}"
