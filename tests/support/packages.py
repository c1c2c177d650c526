"""Packages made from nothing: wheels, sdists and source trees, byte for byte alike.

Each comes as a frozen value that is written to a folder, and as a function that
does both at once.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import tomli_w
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Unpack

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of everything in a zip file: the first that it can hold."""

TINYBACKEND = Path(__file__).parents[1] / "packages/tinybackend/tinybackend.py"
"""The source of the build backend; its docstring says how it is steered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """A sound wheel.

    Attributes:
        name: Of the project.
        version: Of the project.
        requires: Its Requires-Dist.
        extras: Its Provides-Extra.
        requires_python: Its Requires-Python, or None.
        files: What it holds, by path; a module of its name comes by itself.
        tag: Its only tag.
    """

    name: str
    version: str
    requires: Sequence[str] = ()
    extras: Sequence[str] = ()
    requires_python: str | None = None
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    tag: str = "py3-none-any"

    @property
    def filename(self) -> str:
        """The file's name."""
        return f"{_module(self.name)}-{self.version}-{self.tag}.whl"

    def write(self, folder: Path) -> Path:
        """Write it into a folder, and return the file."""
        info = f"{_module(self.name)}-{self.version}.dist-info"
        pure = str(self.tag.endswith("-none-any")).lower()
        wheel = (
            "Wheel-Version: 1.0\nGenerator: nox-buildstages-tests\n"
            f"Root-Is-Purelib: {pure}\nTag: {self.tag}\n"
        )
        members = {
            **_with_module(self.name, self.version, self.files),
            f"{info}/METADATA": _metadata(self).encode(),
            f"{info}/WHEEL": wheel.encode(),
        }
        members[f"{info}/RECORD"] = _record(members, f"{info}/RECORD")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.filename
        path.write_bytes(_zipped(members))
        return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Sdist:
    """A source distribution, by default one that tinybackend builds.

    Attributes:
        name: Of the project.
        version: Of the project.
        requires: Its Requires-Dist.
        extras: Its Provides-Extra.
        requires_python: Its Requires-Python, or None.
        files: What it holds beyond that, by path; these win over what comes by itself.
        build_requires: ``[build-system] requires``.
        backend: ``[build-system] build-backend``.
        settings: For tinybackend, over the name, version, requires and extras here.
        static: Whether PKG-INFO says what it requires, and PEP 643 lets one trust it.
        metadata_version: Of PKG-INFO; one before 2.2 is never static.
        pyproject: Whether there is a pyproject.toml.
    """

    name: str
    version: str
    requires: Sequence[str] = ()
    extras: Sequence[str] = ()
    requires_python: str | None = None
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    build_requires: Sequence[str] = ("tinybackend",)
    backend: str = "tinybackend"
    settings: Mapping[str, Any] = field(default_factory=dict)
    static: bool = True
    metadata_version: str = "2.4"
    pyproject: bool = True

    @property
    def filename(self) -> str:
        """The file's name."""
        return f"{_module(self.name)}-{self.version}.tar.gz"

    def write(self, folder: Path) -> Path:
        """Write it into a folder as a .tar.gz file, and return the file."""
        root = self.filename.removesuffix(".tar.gz")
        members = {"PKG-INFO": self._pkg_info().encode(), **self._sources()}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.filename
        path.write_bytes(_tarred({f"{root}/{name}": members[name] for name in members}))
        return path

    def write_tree(self, root: Path) -> Path:
        """Write it as a plain directory, which a checkout's is: with no PKG-INFO."""
        for name, content in self._sources().items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    def _sources(self) -> dict[str, bytes]:
        settings = {
            "name": self.name,
            "version": self.version,
            "requires": list(self.requires),
            "extras": list(self.extras),
            **self.settings,
        }
        written = {"tinybackend.json": json.dumps(settings, indent=1)}
        if self.pyproject:
            system = {"requires": self.build_requires, "build-backend": self.backend}
            written["pyproject.toml"] = tomli_w.dumps({"build-system": system})
        else:
            written["setup.py"] = ""
        return _with_module(self.name, self.version, {**written, **self.files})

    def _pkg_info(self) -> str:
        if self.static:
            return _metadata(self, self.metadata_version)
        bare = Sdist(name=self.name, version=self.version)
        said = _metadata(bare, self.metadata_version)
        if self.metadata_version in {"1.0", "1.1", "1.2", "2.1"}:
            return said
        names = ("Requires-Dist", "Provides-Extra", "Requires-Python")
        return said + "".join(f"Dynamic: {name}\n" for name in names)


class Fields(TypedDict, total=False):
    """What wheels and sdists have in common; see the two for what it means."""

    requires: Sequence[str]
    extras: Sequence[str]
    requires_python: str | None
    files: Mapping[str, str | bytes]


class WheelFields(Fields, total=False):
    """The fields of a Wheel."""

    tag: str


class SdistFields(Fields, total=False):
    """The fields of an Sdist."""

    build_requires: Sequence[str]
    backend: str
    settings: Mapping[str, Any]
    static: bool
    metadata_version: str
    pyproject: bool


def make_wheel(
    folder: Path, name: str, version: str, **fields: Unpack[WheelFields]
) -> Path:
    """Make a wheel in a folder, and return the file."""
    return Wheel(name=name, version=version, **fields).write(folder)


def make_sdist(
    folder: Path, name: str, version: str, **fields: Unpack[SdistFields]
) -> Path:
    """Make an sdist in a folder, and return the file."""
    return Sdist(name=name, version=version, **fields).write(folder)


def make_tree(
    root: Path, name: str, version: str, **fields: Unpack[SdistFields]
) -> Path:
    """Make a source tree whose root is that folder, and return it."""
    return Sdist(name=name, version=version, **fields).write_tree(root)


def in_tree_backend(module: str, *requires: str) -> str:
    """Return a pyproject.toml whose build backend is a module of the source itself."""
    system = {
        "requires": ["tinybackend", *requires],
        "build-backend": module,
        "backend-path": ["."],
    }
    return tomli_w.dumps({"build-system": system})


def make_tinybackend(folder: Path, version: str = "1.0") -> Path:
    """Make a wheel of the build backend; each version's has other bytes."""
    source = TINYBACKEND.read_text("utf-8") + f'\nVERSION = "{version}"\n'
    files = {"tinybackend.py": source}
    return make_wheel(folder, "tinybackend", version, files=files)


def make_setuptools(folder: Path, version: str = "80.0") -> Path:
    """Make a wheel that stands in for setuptools: what builds without pyproject.toml.

    It holds tinybackend as ``setuptools.build_meta`` and as its ``__legacy__``.
    """
    source = TINYBACKEND.read_text("utf-8") + "\n__legacy__ = sys.modules[__name__]\n"
    files = {"setuptools/build_meta.py": source}
    return make_wheel(folder, "setuptools", version, files=files)


def read_from_wheel(wheel: Path, member: str) -> str:
    """Return the text of a file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member).decode()


def _module(name: str) -> str:
    return canonicalize_name(name).replace("-", "_")


def _with_module(
    name: str, version: str, files: Mapping[str, str | bytes]
) -> dict[str, bytes]:
    module = _module(name)
    package = f"{module}/__init__.py"
    own: dict[str, str | bytes] = {}
    if package not in files and f"{module}.py" not in files:
        own[package] = f'"""{name} {version}."""\n'
    return {
        path: content.encode() if isinstance(content, str) else content
        for path, content in sorted({**own, **files}.items())
    }


def _metadata(package: Wheel | Sdist, metadata_version: str = "2.4") -> str:
    lines = [
        f"Metadata-Version: {metadata_version}",
        f"Name: {package.name}",
        f"Version: {package.version}",
    ]
    if package.requires_python:
        lines.append(f"Requires-Python: {package.requires_python}")
    lines += [f"Provides-Extra: {extra}" for extra in package.extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in package.requires]
    return "\n".join(lines) + "\n"


def _record(members: Mapping[str, bytes], own: str) -> bytes:
    lines = []
    for name, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
        lines.append(f"{name},sha256={digest.decode().rstrip('=')},{len(content)}")
    return ("\n".join([*lines, f"{own},,"]) + "\n").encode()


def _zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return file.getvalue()


def _tarred(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(file.getvalue(), mtime=0)


def name_file(variable: str, file: Path) -> dict[str, str]:
    """Return variables that name a file, in a folder that builds may write to."""
    file.parent.mkdir(exist_ok=True)
    return {variable: str(file), f"{variable}_CACHE": str(file.parent)}
