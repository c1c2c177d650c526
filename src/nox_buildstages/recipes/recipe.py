"""A recipe, and the reader of recipes: a TOML file with facts about one package.

A fact is a table ``[[fact]]`` with exactly one key of `KINDS`, which names the subject,
and with the keys of `COMMON`. A new kind is a subclass of `Fact` and an entry of
`KINDS`; the reference page comes from both.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.config import getters, values
from nox_buildstages.config.getters import Document, Item, Key
from nox_buildstages.errors import DeclarationError, Problem
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from nox_buildstages.config.getters import Getter


READ_BY_TOOLS = {"CMAKE_ARGS", "NVCC_APPEND_FLAGS", "TORCH_CUDA_ARCH_LIST"}
"""Variables that build tools read: a source needn't name them."""


class Fact(Value):
    """A piece of the field's knowledge about some versions of a package."""

    kind: ClassVar[str] = ""
    only: ClassVar[str] = ""  # the builds that each fact of this kind is about

    versions: SpecifierSet
    date: dt.date  # when it was found, or last seen to be true
    source: str  # repository and file, such as "facebookresearch/xformers: setup.py"
    why: str  # becomes the comment in the user's table
    builds: str | None = None  # "cuda" or "cpu"; None for both

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that the source must read."""
        return ()

    def is_about(self, version: Version, *, cuda: bool | None) -> bool:
        """Whether the fact is about a version, with or without CUDA; None for both."""
        builds = {None: None, True: "cuda", False: "cpu"}[cuda]
        is_kind = (self.builds or self.only or builds) == builds
        return is_kind and self.versions.contains(version, prereleases=True)


class BuildRequires(Fact):
    """Undeclared build requirements, and declared ones that are wrong."""

    kind = "build-requires"

    add: tuple[Requirement, ...]
    remove: tuple[NormalizedName, ...]


class Env(Fact):
    """Environment variables with values that most builds want."""

    kind = "env"

    env: Mapping[str, str]

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that the source must read."""
        return tuple(it for it in self.env if it not in READ_BY_TOOLS)


class ForceBuild(Env):
    """setup.py looks for a prebuilt wheel on the network; variables that stop it."""

    kind = "force-build"


class ForceCuda(Env):
    """Without a GPU, the build leaves CUDA out; variables that build with CUDA."""

    kind = "force-cuda"
    only = "cuda"


class SkipCuda(Env):
    """Variables for a build without CUDA."""

    kind = "skip-cuda"
    only = "cpu"


class Architectures(Fact):
    """The variable that names the GPU architectures, and how it spells them."""

    kind = "architectures"
    only = "cuda"

    variable: str | None  # None if the source fixes the architectures
    dots: bool  # whether 9.0 is written with its dot
    separator: str
    ptx: bool  # whether +PTX is understood
    default: str | None  # without the variable; None for the GPU, or an error

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that the source must read."""
        if self.variable is None or self.variable in READ_BY_TOOLS:
            return ()
        return (self.variable,)

    def spell(self, *architectures: str) -> str:
        """Return architectures such as ``9.0`` and ``12.0+PTX`` as the value."""
        written = architectures
        if not self.ptx:
            written = tuple(it.removesuffix("+PTX") for it in written)
        if not self.dots:
            written = tuple(it.replace(".", "") for it in written)
        return self.separator.join(written)


class MemoryPerJob(Fact):
    """The memory that one compiler needs, perhaps with several threads."""

    kind = "memory-per-job"

    size: int  # in bytes: of a job, or of each of its threads
    threads_variable: str | None  # None if a job's threads don't matter
    threads: int  # without the variable

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that the source must read."""
        return (self.threads_variable,) if self.threads_variable else ()

    def size_of_job(self, env: Mapping[str, str]) -> int:
        """Return the memory of a job, in bytes, in an environment."""
        threads = env.get(self.threads_variable or "", "")
        number = int(threads) if re.fullmatch("[0-9]{1,9}", threads) else self.threads
        return self.size * max(number, 1)


class Submodules(Fact):
    """Git submodules that the build needs."""

    kind = "submodules"

    folders: tuple[str, ...]


class CudaLibraries(Fact):
    """The parts of the CUDA toolkit that the build needs beside nvcc."""

    kind = "cuda-libraries"
    only = "cuda"

    names: tuple[str, ...]  # extras of PyPI's cuda-toolkit


class ConfigSettings(Fact):
    """Config settings for the build backend."""

    kind = "config-settings"

    settings: Mapping[str, str | tuple[str, ...]]


class RequiresDist(Fact):
    """The runtime requirements, if the build backend can't say them without a build."""

    kind = "requires-dist"

    requirements: tuple[Requirement, ...]


class Overrides(Fact):
    """Wrong runtime requirements: what uv's ``override-dependencies`` has to say."""

    kind = "overrides"

    requirements: tuple[Requirement, ...]


class Takes(Fact):
    """How long a build takes on a few cores: minutes or hours."""

    kind = "takes"

    unit: str


class Disk(Fact):
    """The disk space that the build directory needs."""

    kind = "disk"

    size: int  # in bytes


class Needs(Fact):
    """Packages that must be built from source in an earlier stage."""

    kind = "needs"

    names: tuple[NormalizedName, ...]


class Git(Value):
    """A git repository to build from, in place of the index."""

    url: str
    commit: str  # the facts may be from commits near it
    version: Version  # at that commit
    tag: str | None  # such as v{version}; None if there are no tags
    subdirectory: str | None
    wheels: bool  # whether the index has wheels of this project, which may do
    date: dt.date
    source: str
    why: str  # why the index isn't used

    def requirement(self, name: str, version: Version | None = None) -> str | None:
        """Return the requirement with the URL; None if a version has no tag."""
        ref = self.commit
        if version not in {None, self.version}:
            if not self.tag:
                return None
            ref = self.tag.replace("{version}", str(version))
        fragment = f"#subdirectory={self.subdirectory}" if self.subdirectory else ""
        return f"{name} @ git+{self.url}@{ref}{fragment}"


KindOfFact = TypeVar("KindOfFact", bound=Fact)


class Recipe(Value):
    """The facts about a package, and the place of the source."""

    name: str  # as the project spells it
    git: Git | None  # None if it comes from the index
    facts: tuple[Fact, ...]

    def facts_for(self, version: Version, *, cuda: bool | None) -> tuple[Fact, ...]:
        """Return the facts about a version, built with or without CUDA.

        With None for ``cuda``, return the facts for both.
        """
        return tuple(it for it in self.facts if it.is_about(version, cuda=cuda))

    def find(
        self, kind: type[KindOfFact], version: Version, *, cuda: bool = True
    ) -> KindOfFact | None:
        """Return the first fact of a kind about a version, or None."""
        facts = self.facts_for(version, cuda=cuda)
        return next((it for it in facts if type(it) is kind), None)


def read_recipe(text: str, path: Path) -> Recipe:
    """Read the text of a recipe's file, which has the project's normalized name.

    Raises:
        DeclarationError: The file is faulty; has all problems.
    """
    try:
        document = Document(content=reader.parse_toml(text), path=path)
    except reader.UnreadableError as error:
        problem = Problem(location="the document", message=str(error))
        raise DeclarationError(path=path, problems=[problem]) from error
    item = Item(value=document.content, steps=(), document=document)
    found = getters.read_table(item, RECIPE) or {}
    name = found.get("name") or ""
    stem = canonicalize_name(name)
    if name and stem != path.stem:
        item.child("name", name).fault(f"then this file is {stem}.toml")
    problems = document.problems()
    if problems:
        raise DeclarationError(path=path, problems=problems)
    return Recipe(name=name, git=found["git"], facts=found["fact"])


def read_fact(item: Item) -> Fact | None:
    """Read a fact: the common keys, and the key of the kind."""
    content = getters.raw_table(item)
    if content is None:
        return None
    kinds = [it for it in KINDS if it.kind in content]
    if len(kinds) != 1:
        named = ", ".join(it.kind for it in kinds) or "none"
        known = ", ".join(it.kind for it in KINDS)
        item.fault(f"expected one of {known}; found {named}")
    keys = {**COMMON, **{it.kind: Key(KINDS[it]) for it in kinds}}
    found = getters.read_table(item, keys) or {}
    contents = [found.pop(it.kind.replace("-", "_")) for it in kinds]
    is_sound = item.document.is_sound(*item.steps)
    return kinds[0](**found, **contents[0]) if is_sound else None


def read_git(item: Item) -> Git | None:
    """Read where the source is, if not on the index."""
    found = getters.read_table(item, GIT)
    return Git(**found) if found and item.document.is_sound(*item.steps) else None


def _field(name: str, getter: Getter[Any]) -> Getter[dict[str, Any]]:
    """Return a getter whose value is the only field of a fact."""

    def read(item: Item) -> dict[str, Any] | None:
        value = getter(item)
        return None if value is None else {name: value}

    return read


def _table(**keys: Key) -> Getter[dict[str, Any]]:
    """Return a getter for a table whose keys are the fields of a fact."""
    names = {name.replace("_", "-"): key for name, key in keys.items()}
    return lambda item: getters.read_table(item, names)


def _parse_as(parse: Callable[[str], Any], kind: str) -> Getter[Any]:
    """Return a getter for a string that a function parses; it raises ValueError."""

    def read(item: Item) -> Any:  # noqa: ANN401 - what the function returns
        value = getters.string(item)
        try:
            return None if value is None else parse(value)
        except ValueError:
            item.expect(kind)
            return None

    return read


def _fits(is_right: Callable[[object], bool], kind: str) -> Getter[Any]:
    """Return a getter for a value other than a string, with a check."""

    def read(item: Item) -> object:
        if is_right(item.value):
            return item.value
        item.expect(kind)
        return None

    return read


def _matches(pattern: str, kind: str) -> Getter[str]:
    """Return a getter for a string of a form."""

    def read(item: Item) -> str | None:
        value = getters.text(item)
        if value is None or re.fullmatch(pattern, value):
            return value
        item.expect(kind)
        return None

    return read


def _architectures(item: Item) -> dict[str, Any] | None:
    """Read how the build names architectures, or that the source fixes them."""
    if item.value == "fixed":
        return {
            **dict.fromkeys(("variable", "default")),
            **dict.fromkeys(("dots", "ptx"), False),
            "separator": "",
        }
    if not isinstance(item.value, Mapping):
        item.expect('"fixed", or a table of variable, dots, separator, ptx and default')
        return None
    return getters.read_table(
        item,
        {
            "variable": Key(getters.variable_name, is_required=True),
            "dots": Key(getters.boolean, is_required=True),
            "separator": Key(getters.string, is_required=True),
            "ptx": Key(getters.boolean, is_required=True),
            "default": Key(getters.text),
        },
    )


_libraries = getters.list_of(
    _matches(
        "cccl|crt|cublas|cudart|cufft|cufile|cupti|curand|cusolver|cusparse|npp"
        "|nvfatbin|nvjitlink|nvjpeg|nvml|nvrtc|nvtx|profiler",
        "an extra of cuda-toolkit, such as cublas",
    )
)
_ENV = _field("env", values.env)
_strings = getters.non_empty(getters.list_of(getters.text), "string")
_requirements = getters.non_empty(values.requirements, "requirement")
_date_and_source = {
    "date": Key(
        _fits(lambda it: type(it) is dt.date, "a date such as 2026-11-28"),
        is_required=True,
    ),
    "source": Key(
        _matches(r"[\w.-]+/[\w.-]+: \S.*", "'OWNER/REPOSITORY: FILE'"),
        is_required=True,
    ),
    "why": Key(_matches(r"[^\n]{10,200}", "a short sentence"), is_required=True),
}

KINDS: Mapping[type[Fact], Getter[dict[str, Any]]] = {
    BuildRequires: _table(
        add=Key(values.requirements, default=[]),
        remove=Key(getters.list_of(getters.project_name), default=[]),
    ),
    Env: _ENV,
    ForceBuild: _ENV,
    ForceCuda: _ENV,
    SkipCuda: _ENV,
    Architectures: _architectures,
    MemoryPerJob: _table(
        size=Key(values.memory, is_required=True),
        threads_variable=Key(getters.variable_name),
        threads=Key(
            _fits(lambda it: type(it) is int and it > 0, "a number above 0"),
            default=1,
        ),
    ),
    Submodules: _field("folders", _strings),
    CudaLibraries: _field("names", getters.non_empty(_libraries, "library")),
    ConfigSettings: _field(
        "settings", getters.mapping_of(values.config_setting, "strings")
    ),
    RequiresDist: _field("requirements", values.requirements),
    Overrides: _field("requirements", _requirements),
    Takes: _field("unit", _matches("minutes|hours", '"minutes" or "hours"')),
    Disk: _field("size", values.memory),
    Needs: _field("names", getters.list_of(getters.project_name)),
}
"""The getter of the content of each kind of fact."""

COMMON: Mapping[str, Key] = {
    "versions": Key(  # an empty range means all
        _parse_as(SpecifierSet, "a range of versions such as '>=2.5,<3'"),
        is_required=True,
    ),
    **_date_and_source,
    "builds": Key(_matches("cuda|cpu", '"cuda" or "cpu"')),
}
"""The keys of all facts."""

GIT: Mapping[str, Key] = {
    "url": Key(
        _matches("https://.*", "a URL that begins with https://"), is_required=True
    ),
    "commit": Key(_matches("[0-9a-f]{40}", "40 hexadecimal digits"), is_required=True),
    "version": Key(_parse_as(Version, "a version"), is_required=True),
    "tag": Key(_matches(r".*\{version\}.*", "a tag with {version}")),
    "subdirectory": Key(getters.text),
    "wheels": Key(getters.boolean, default=False),
    **_date_and_source,
}

RECIPE: Mapping[str, Key] = {
    "name": Key(getters.text, is_required=True),
    "other-names": Key(getters.list_of(getters.project_name), default=[]),
    "git": Key(read_git),
    "fact": Key(
        getters.non_empty(getters.list_of(read_fact, "tables"), "fact"),
        is_required=True,
    ),
}
