"""The nouns: frozen values that the rooms hand to each other, and no I/O."""

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
"""The name of the final environment's lock; no stage may bear it."""

PROJECT = "project"
"""The name of the lock that the project itself is made installable in; likewise."""

ConfigSettings: TypeAlias = "Mapping[str, str | tuple[str, ...]]"
"""PEP 517 config settings, as a build backend receives them."""

Learned: TypeAlias = Literal["static", "hook", "config"]
"""From where an output's metadata is known: PEP 643, a hook, or the table."""

Network: TypeAlias = Literal["off", "on", "require-off"]
"""Whether backends reach it: ``off`` only where the system can cut it off."""

CompilerCache: TypeAlias = Literal["auto", "ccache", "sccache", "off"]
"""Which one is asked when something is compiled; ``auto`` for one that is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisValue:
    """One of the values of an axis, and what it changes beside a string.

    Attributes:
        name: As it stands where ``{axis}`` is written.
        constraints: On every resolution of its cells.
        index: The ``[[tool.uv.index]]`` that its cells use of those that the axis
            names; None where they use none of them.
        env: Variables for the stages that use the axis, over their own.
    """

    name: str
    constraints: tuple[Requirement, ...] = ()
    index: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One dimension of a matrix.

    Attributes:
        name: As in ``{name}``.
        values: In the table's order.
    """

    name: str
    values: tuple[AxisValue, ...]

    def value(self, name: str) -> AxisValue:
        """Return a value; a bare one where the axis has none of that name."""
        found = (value for value in self.values if value.name == name)
        return next(found, AxisValue(name=name))

    @property
    def constrained(self) -> frozenset[NormalizedName]:
        """The names of the projects that some value constrains."""
        found = (it for value in self.values for it in value.constraints)
        return frozenset(canonicalize_name(it.name) for it in found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A combination of values, at most one of each axis of a matrix.

    That of all axes has a runtime of its own. Where there is no matrix, there is one
    cell and it has no values.

    Attributes:
        choices: Axes and their values, in the table's order.
    """

    choices: tuple[tuple[str, str], ...] = ()

    def value(self, axis: str) -> str:
        """Return the value of an axis; raise KeyError where it has none."""
        return dict(self.choices)[axis]

    def of(self, axes: Collection[str]) -> Cell:
        """Return what it says of some axes."""
        return Cell(choices=tuple(it for it in self.choices if it[0] in axes))

    def __str__(self) -> str:
        return ", ".join(f"{axis}={value}" for axis, value in self.choices)

    @property
    def suffix(self) -> str:
        """What its sessions have behind their names."""
        return f"({self})" if self.choices else ""

    @property
    def name(self) -> str:
        """A name of letters, digits and ``.``, ``_``, ``+``, ``-`` alone."""
        joined = "_".join(f"{axis}-{value}" for axis, value in self.choices)
        return joined or "all"

    @property
    def folder(self) -> str:
        """The path of its wheelhouse below the project's, POSIX."""
        return "/".join(value for _, value in self.choices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """What is built and installed several times, each time otherwise.

    Attributes:
        axes: In the table's order.
        cells: The combinations of their values.
    """

    axes: tuple[Axis, ...] = ()
    cells: tuple[Cell, ...] = (Cell(),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """A requirement that a stage turns into exactly one wheel.

    Attributes:
        requirement: As declared; its URL is absolute where it named a directory.
        location: Where it was declared, for messages.
    """

    requirement: Requirement
    location: str

    @property
    def name(self) -> NormalizedName:
        """The normalized name of the project that is built."""
        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One locked environment, and the wheels that are built in it.

    Attributes:
        name: As in the session ``build-stage-NAME``.
        dependencies: What is wanted in the environment beyond what outputs declare.
        outputs: What is built.
        needs: Stages that come first though no wheel of theirs is named.
        env: Variables that every hook of the stage sees; part of the key.
        pass_env: Variables let through from outside; their values are part of the key.
        tools: Programs whose ``--version`` is part of the key.
        jobs: How many compilers may run at once; None for what the machine allows.
        memory_per_job: Bytes that each may come to need; None where nobody said.
        network: Whether its backends reach it.
        timeout: Seconds after which its builds are stopped; None where they have time.
        compiler_cache: Of its builds; None for the project's.
        location: Where it was declared, for messages.
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
        name: As it is written in the table.
        path: Of the file, absolute.
        location: Where it was declared, for messages.
    """

    name: str
    path: Path
    location: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalVersion:
    """What is to follow the ``+`` in an output's version, as declared.

    Attributes:
        text: With ``{x}`` for the public version of a project x of its environment.
        location: Where it was declared, for messages.
    """

    text: str
    location: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageRules:
    """What one output needs, whichever stage builds it.

    Attributes:
        build_requires_add: Build requirements that it forgot to declare.
        build_requires_remove: Names of declared ones that are wrong.
        config_settings: PEP 517 config settings for each of its hooks.
        env: Variables for its hooks, over those of the stage; part of the key.
        patches: Applied to its source, in this order, before anything reads it.
        requires_dist: Its run-time requirements, where not even the backend can
            say without building; None where the table doesn't say.
        local_version: Of its wheel, in place of the one that its backend gives it;
            None to leave that as it is.
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
    """The runtime: what is installed from the wheelhouse, and how it is checked.

    Attributes:
        requirements: Everything asked for, extras and groups already spelled out.
        imports: Modules imported there.
        checks: Argument lists run there.
        project: What the project itself is called, where it is installed too.
        build_system: Its ``[build-system]`` table then, as it is written.
    """

    requirements: tuple[Requirement, ...]
    imports: tuple[str, ...] = ()
    checks: tuple[tuple[str, ...], ...] = ()
    project: NormalizedName | None = None
    build_system: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteStore:
    """A store that several machines share.

    Attributes:
        url: Of its folder, or a path; it may hold secrets.
        write: Whether what is built is put there.
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
        pyproject: The file it was read from, absolute.
        pythons: The interpreters for all sessions; none for the one that runs nox.
        environments: Markers of the platforms that are locked beside this one.
        lock_dir: Where the lock files are, absolute.
        wheelhouse: Where the wheels go, absolute.
        match_runtime: Projects that have one version in every environment.
        constraints: On every resolution.
        build_constraints: On the stages' resolutions only.
        exclude_newer: An RFC 3339 time; what was uploaded later isn't seen.
        remote_store: Is asked for wheels that the store hasn't; None for none.
        compiler_cache: Of stages that don't say.
        final: The runtime.
        stages: In the table's order.
        packages: Rules by output.
        uv: The ``[tool.uv]`` table of the same file, unread: indexes, sources.
        logins: Names and passwords that requirements and sources named in URLs; no
            requirement here has any.
        cell: Of the matrix.
        brought: Variables that values of the cell bring, by axis: for stages that use
            it.
        uses: The axes that a stage is multiplied by, by its name; in their order.
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
    brought: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.pyproject, self.cell))

    @property
    def root(self) -> Path:
        """The folder of the pyproject.toml, to which its paths are relative."""
        return self.pyproject.parent

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every output, stage by stage."""
        return tuple(output for stage in self.stages for output in stage.outputs)

    def stage_cell(self, name: str) -> Cell:
        """Return what of the cell a stage, or ``final``, uses."""
        if name in (PROJECT, FINAL):
            return self.cell
        return self.cell.of(self.uses.get(name, ()))

    def stage_label(self, name: str) -> str:
        """Return a stage's name with what it uses of the cell behind it."""
        return f"{name}{self.stage_cell(name).suffix}"

    def rules(self, name: NormalizedName) -> PackageRules:
        """Return the rules for an output, empty ones where the table has none."""
        return self.packages.get(name, PackageRules())


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveSource:
    """A source distribution: a file, on an index, at a URL or in the project.

    Attributes:
        location: A URL, or a POSIX path relative to the project's root.
        sha256: Of the file, in hex.
        subdirectory: Of the project within the archive.
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
        url: Of the repository, as git takes it.
        commit: Its full hash.
        subdirectory: Of the project within the repository.
        revision: The branch or tag that was asked for; the commit is what counts.
    """

    url: str
    commit: str
    subdirectory: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return f"git+{self.url}@{self.commit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectorySource:
    """A folder whose contents are read when it is built.

    Attributes:
        path: POSIX, relative to the project's root where it lies within.
    """

    path: str

    def __str__(self) -> str:
        return self.path


Source: TypeAlias = ArchiveSource | GitSource | DirectorySource


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What an output says of itself, as far as a resolution needs it.

    Attributes:
        version: Of the wheel.
        requires_dist: PEP 508 strings, sorted.
        requires_python: A PEP 440 specifier, or None.
        provides_extra: Normalized names, sorted.
        learned: From where this is known.
    """

    version: Version
    requires_dist: tuple[str, ...] = ()
    requires_python: str | None = None
    provides_extra: tuple[str, ...] = ()
    learned: Learned


def kind_of(markers: Mapping[str, str]) -> str:
    """Return a marker that tells a platform from others by PEP 508 markers."""
    names = ("implementation_name", "platform_machine", "sys_platform")
    return " and ".join(f'{name} == "{markers[name]}"' for name in names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A Python that environments are made for.

    Attributes:
        markers: PEP 508 environment markers.
        tags: Wheel tags that it accepts, best first.
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
        """What wheels are made for, such as ``CPython 3.11 on linux-x86_64``."""
        name = self.markers["platform_python_implementation"]
        return f"{name} {self.markers['python_version']} on {self.platform}"

    @property
    def kind(self) -> str:
        """A marker that tells its platform from others."""
        return kind_of(cast("Mapping[str, str]", self.markers))

    def satisfies(self, marker: Marker) -> bool:
        """Whether a marker is true for it."""
        return marker.evaluate({k: str(v) for k, v in self.markers.items()})

    def __str__(self) -> str:
        name = self.markers["platform_python_implementation"]
        return f"{name} {self.markers['python_full_version']} on {self.platform}"
