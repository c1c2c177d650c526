"""Wheel files are read and verified, and faulty wheels are rejected."""

from __future__ import annotations

import base64
import hashlib
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.tags import Tag
from packaging.version import Version

from nox_buildstages.errors import WheelError
from nox_buildstages.system.files import sha256_of
from nox_buildstages.wheels.wheel import (
    WheelFile,
    has_machine_code,
    read_wheel,
    verify_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "some_package-1.0+torch2.13-py2.py3-none-any.whl"
INFO = "some_package-1.0+torch2.13.dist-info"
METADATA = b"Metadata-Version: 2.1\nName: Some.Package\nVersion: 1.0+torch2.13\n"
FILES = {
    "some_package/__init__.py": b"x = 1\n",
    f"{INFO}/METADATA": METADATA,
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\n",
}


def row(name: str, content: bytes, *, algorithm: str = "sha256", size: str = "") -> str:
    digest = hashlib.new(algorithm, content).digest()
    encoded = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return f"{name},{algorithm}={encoded},{size or len(content)}\n"


def record_of(files: dict[str, bytes]) -> str:
    rows = (row(name, content) for name, content in files.items())
    return "".join(rows) + f"{INFO}/RECORD,,\n"


def write(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in files:
            archive.writestr(name, content)
    return path


def make(
    folder: Path, files: dict[str, bytes] | None = None, record: str | None = None
) -> Path:
    files = FILES if files is None else files
    record = record_of(files) if record is None else record
    whole = {**files, f"{INFO}/RECORD": record.encode()}
    return write(folder / NAME, whole.items())


def test_a_wheel_is_read(tmp_path: Path) -> None:
    """Names are normalized, lists are sorted, and tags are expanded."""
    more = b"Requires-Python: >=3.9\nRequires-Dist: b\nRequires-Dist: a>1\n"
    extra = b"Provides-Extra: All_Of\n"
    path = make(tmp_path, {**FILES, f"{INFO}/METADATA": METADATA + more + extra})
    assert read_wheel(path) == WheelFile(
        path=path,
        name="some-package",  # type: ignore[arg-type]
        version=Version("1.0+torch2.13"),
        tags=frozenset({Tag("py2", "none", "any"), Tag("py3", "none", "any")}),
        requires_dist=("a>1", "b"),
        requires_python=">=3.9",
    )


def test_an_invalid_file_name_is_rejected(tmp_path: Path) -> None:
    """The file isn't even opened."""
    with pytest.raises(WheelError, match=r"Invalid wheel filename"):
        read_wheel(tmp_path / "some_package-1.0.whl")


def without(name: str) -> dict[str, bytes]:
    return {key: content for key, content in FILES.items() if key != name}


def renamed(folder: str) -> dict[str, bytes]:
    return {key.replace(INFO, folder): content for key, content in FILES.items()}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {**FILES, "b-1.dist-info/WHEEL": b""},
            r"has b-1\.dist-info, some_package",
        ),
        (without(f"{INFO}/METADATA"), r"/METADATA is missing"),
        (without(f"{INFO}/WHEEL"), r"/WHEEL is missing"),
        ({**FILES, f"{INFO}/METADATA": b"Name: a\n"}, r"METADATA: Version is missing"),
        (
            {**FILES, f"{INFO}/METADATA": METADATA.replace(b"torch2.13", b"cpu")},
            r"says some-package 1\.0\+cpu, but the file name says some-package",
        ),
        (
            {**FILES, f"{INFO}/METADATA": METADATA.replace(b"Some.", b"Other.")},
            r"METADATA says other-package",
        ),
    ],
)
def test_disagreeing_parts_are_rejected(
    tmp_path: Path, files: dict[str, bytes], problem: str
) -> None:
    """The error names both values if two parts of a wheel disagree."""
    with pytest.raises(WheelError, match=problem) as caught:
        read_wheel(make(tmp_path, files))
    assert caught.value.subject == NAME


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        (
            "some_package-2.0.dist-info",
            r"says some-package 2\.0, but the file",
        ),
        ("other-1.0+torch2.13.dist-info", r"dist-info says other 1\.0\+torch2\.13"),
        ("some_package.dist-info", r"isn't NAME-VERSION\.dist-info"),
    ],
)
def test_the_folder_must_agree_with_the_file_name(
    tmp_path: Path, folder: str, problem: str
) -> None:
    """An installer trusts the .dist-info folder, so it is compared as well."""
    path = write(tmp_path / NAME, renamed(folder).items())
    with pytest.raises(WheelError, match=problem):
        read_wheel(path)


def test_spellings_of_a_folder_are_normalized(tmp_path: Path) -> None:
    """Names and versions are compared after normalization."""
    files = renamed("Some.Package-1.0.0+torch2_13.dist-info")
    assert read_wheel(write(tmp_path / NAME, files.items())).name == "some-package"


def test_a_wheel_without_dist_info_is_rejected(tmp_path: Path) -> None:
    """The error says that no such folder exists."""
    with pytest.raises(WheelError, match="this has none"):
        read_wheel(write(tmp_path / NAME, [("a.py", b"")]))


@pytest.mark.parametrize("function", [read_wheel, verify_record])
def test_an_unreadable_file_raises_a_wheel_error(
    tmp_path: Path, function: object
) -> None:
    """A missing file and a file of another format both raise a WheelError."""
    assert callable(function)
    path = tmp_path / NAME
    with pytest.raises(WheelError, match="No such file"):
        function(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(WheelError, match="not a zip file"):
        function(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.so", b"\x7fELF\2", True),
        ("a.cubin", b"\x7fELF\2", True),
        ("a.dylib", b"\xca\xfe\xba\xbe\0", True),
        ("a.exe", b"MZ\x90", True),
        ("a.a", b"!<arch>\n", True),
        ("a.fatbin", b"\x50\xed\x55\xba", True),
        ("a.ptx", b"//\n.version 8.0\n", True),
        ("a.so", b"# text\n", False),
        ("a.npy", b"\x93NUMPY", False),
        ("a.txt", b"", False),
    ],
)
def test_machine_code_is_found(
    tmp_path: Path, name: str, content: bytes, *, expected: bool
) -> None:
    """By the first bytes of a file, of any system, or by its name."""
    assert has_machine_code(make(tmp_path, {**FILES, name: content})) == expected


def test_a_sound_wheel_verifies(tmp_path: Path) -> None:
    """Folders, signatures and RECORD itself need no hash."""
    files = {**FILES, "some_package/": b"", f"{INFO}/RECORD.jws": b"{}"}
    verify_record(make(tmp_path, files, record_of(FILES)))


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_stronger_hashes_are_accepted(tmp_path: Path, algorithm: str) -> None:
    """The standard requires sha256 or stronger."""
    rows = (row(*item, algorithm=algorithm) for item in FILES.items())
    verify_record(make(tmp_path, record="".join(rows)))


def test_a_size_may_be_missing(tmp_path: Path) -> None:
    """The hash alone is enough."""
    rows = (row(*item).rpartition(",")[0] + ",\n" for item in FILES.items())
    verify_record(make(tmp_path, record="".join(rows)))


MODULE = "some_package/__init__.py"
OTHERS = record_of(without(MODULE))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (OTHERS, r"'some_package/__init__\.py' isn't listed in RECORD"),
        (
            OTHERS + row(MODULE, b"y"),
            r"'some_package/__init__\.py' doesn't match its sha256",
        ),
        (
            OTHERS + row(MODULE, FILES[MODULE], size="7"),
            r"__init__\.py' doesn't match its size in RECORD",
        ),
        (
            OTHERS + f"{MODULE},,\n",
            r"__init__\.py' has no sha256 or stronger hash",
        ),
        (
            OTHERS + row(MODULE, FILES[MODULE], algorithm="md5"),
            r"__init__\.py' has no sha256 or stronger hash",
        ),
        (
            record_of(FILES) + row("some_package/gone.py", b""),
            r"RECORD lists 'some_package/gone\.py', which is missing",
        ),
        (
            record_of(FILES) + row(MODULE, b"y"),
            r"RECORD lists 'some_package/__init__\.py' twice, with different hashes",
        ),
        (record_of(FILES) + "a,b\n", r"a line that isn't PATH,HASH,SIZE"),
    ],
)
def test_a_wrong_record_is_rejected(tmp_path: Path, record: str, problem: str) -> None:
    """RECORD and members are compared both ways; the error names the member."""
    with pytest.raises(WheelError, match=problem):
        verify_record(make(tmp_path, record=record))


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ((MODULE, b"evil"), r"__init__\.py' is in the archive twice"),
        (("/etc/passwd", b""), r"'/etc/passwd' points outside the wheel"),
        (("a/../../b", b""), r"'a/\.\./\.\./b' points outside the wheel"),
    ],
)
def test_misplaced_members_are_rejected(
    tmp_path: Path, extra: tuple[str, bytes], problem: str
) -> None:
    """Duplicates and paths outside the environment are never installed."""
    whole = [*FILES.items(), extra, (f"{INFO}/RECORD", record_of(FILES).encode())]
    with pytest.raises(WheelError, match=problem):
        verify_record(write(tmp_path / NAME, whole))


def test_a_wheel_without_record_is_rejected(tmp_path: Path) -> None:
    """Without RECORD, the contents can't be verified."""
    with pytest.raises(WheelError, match="RECORD is missing"):
        verify_record(write(tmp_path / NAME, FILES.items()))


def test_large_files_are_hashed_completely(tmp_path: Path) -> None:
    """Files larger than one chunk are hashed to the end."""
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
