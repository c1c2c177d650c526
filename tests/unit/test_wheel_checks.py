"""What the wheels of a release are: each kind of check, without a runtime."""

from __future__ import annotations

import io
import struct
import subprocess
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from packaging.tags import Tag
from packaging.version import Version

from nox_buildstages import reader
from nox_buildstages.commands.release.verify.gpu_code import (
    Claim,
    check_gpu_code,
    find_claim,
)
from nox_buildstages.commands.release.verify.imports import (
    choose_modules,
    with_earlier,
)
from nox_buildstages.commands.release.verify.libraries import (
    DRIVER,
    NOWHERE,
    SYSTEM,
    Ceiling,
    check_libraries,
    check_versions,
    find_ceiling,
)
from nox_buildstages.commands.release.verify.symbols import (
    OtherTorch,
    check_symbols,
    check_torch,
)
from nox_buildstages.commands.release.verify.torches import specifier_of
from nox_buildstages.commands.release.verify.verdict import (
    Verdict,
    WheelVerdicts,
    format_json,
    render_verdicts,
    require_ok,
    verdicts_markdown,
)
from nox_buildstages.errors import BuildStagesError, UncheckedError, WheelError
from nox_buildstages.preflight.facts import Torch
from nox_buildstages.value import replace
from nox_buildstages.wheels.binary import (
    Binary,
    Library,
    read_binaries,
    read_binary,
)
from nox_buildstages.wheels.fat_binary import GpuCode, read_fat_binaries
from nox_buildstages.wheels.wheel import read_wheel
from support.binaries import fat_binary, gpu_code
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

A, F = 0x100000, 0x200000
"""The flags of code for one architecture, and for a family."""

SM_80, SM_90, SM_90A = GpuCode(8, 0), GpuCode(9, 0), GpuCode(9, 0, "a")
PTX_90 = GpuCode(9, 0, is_ptx=True)
POLICIES = reader.parse_json(
    (resources.files("auditwheel") / "policy/manylinux-policy.json").read_bytes(),
    reader.list_of(reader.mapping_of(reader.plain)),
)
TORCH = Torch(version="2.13.0", cuda=(13, 0))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (b"", ""),
        (fat_binary(gpu_code(2, 90), gpu_code(1, 90)), "sm_90 compute_90"),
        (
            fat_binary(gpu_code(2, 120)) + bytes(8) + fat_binary(gpu_code(2, 75)),
            "sm_120 sm_75",
        ),
        (fat_binary(gpu_code(2, 90, A), gpu_code(1, 100, F)), "sm_90a compute_100f"),
        (fat_binary(gpu_code(8, 90)), ""),  # for the linker
    ],
)
def test_gpu_code_is_listed(section: bytes, expected: str) -> None:
    """Machine code and PTX, with what they are limited to."""
    found = read_fat_binaries(io.BytesIO(b"xy" + section), 2, len(section))
    assert [*map(str, found)] == expected.split()


@pytest.mark.parametrize(
    "section",
    [
        b"not a fat binary" * 2,
        fat_binary(gpu_code(2, 90))[:-1],
        fat_binary(gpu_code(2, 90)[:-2]),
        fat_binary(struct.pack("<HHIQ48x", 2, 1, 0, 0)),
        struct.pack("<IHHQ", 0xBA55ED50, 1, 0, 0),
    ],
)
def test_unknown_forms_of_gpu_code_are_an_error(section: bytes) -> None:
    """Nothing is guessed, and no size leads out of the section or nowhere."""
    with pytest.raises(ValueError, match="fat binary"):
        [*read_fat_binaries(io.BytesIO(section + bytes(99)), 0, len(section))]


def binary(name: str = "ext.so", **facts: Any) -> Binary:  # noqa: ANN401
    return Binary(name=name, **facts)


@pytest.mark.parametrize(
    ("value", "codes", "state", "text"),
    [
        ("8.0", [SM_80], "ok", "sm_80: ARCHS is 8.0"),
        ("8.0;9.0+PTX", [SM_90, PTX_90, SM_80], "ok", "sm_80, sm_90, compute_90: "),
        ("80;90", [SM_80, SM_90], "ok", ""),
        ("9.0", [SM_90A], "ok", ""),
        ("8.0", [SM_90, PTX_90], "failed", "sm_80 is missing: ARCHS is 8.0"),
        ("9.0+PTX", [SM_90], "failed", "compute_90 is missing"),
        ("9.0a", [SM_90], "failed", "sm_90a is missing"),
        ("Hopper", [SM_90], "unknown", "which names no architectures"),
        ("", [SM_90], "ok", "no variable of the table asks for architectures"),
        ("8.0", [], "failed", "there is none, but the source has CUDA"),
        ("", [], "failed", "there is none"),
    ],
)
def test_gpu_code_is_what_was_asked_for(
    value: str, codes: list[GpuCode], state: str, text: str
) -> None:
    """Each architecture must be there, and PTX if the value says so."""
    claim = Claim(variable="ARCHS" if value else "", value=value, is_certain=True)
    (found,) = check_gpu_code([binary(gpu_code=frozenset(codes)), binary("b")], claim)
    assert found.state == state
    assert text in found.text


def test_each_file_runs_on_all_architectures() -> None:
    """A file for a single architecture, such as Hopper's kernels, is an exception."""
    claim = Claim(variable="ARCHS", value="8.0;9.0")
    whole = binary("a.so", gpu_code=frozenset({SM_80, SM_90}))
    (verdict,) = check_gpu_code(
        [whole, binary("b.so", gpu_code=frozenset({SM_90}))], claim
    )
    assert verdict.state == "failed"
    assert verdict.text.startswith("nothing in b.so runs on sm_80: it has sm_90, and")
    hopper = binary("c.so", gpu_code=frozenset({SM_90A}))
    (verdict,) = check_gpu_code([whole, hopper], claim)
    assert verdict.state == "ok"
    assert verdict.facts == {
        "gpu-code": {"a.so": ["sm_80", "sm_90"], "c.so": ["sm_90a"]}
    }
    assert not [*check_gpu_code([binary()], replace(claim, is_certain=False))]


@pytest.mark.parametrize(
    ("name", "variables", "torch", "expected"),
    [
        ("flash-attn", {"FLASH_ATTN_CUDA_ARCHS": "80"}, TORCH, ("80", True)),
        ("torch-scatter", {"TORCH_CUDA_ARCH_LIST": "9.0"}, TORCH, ("9.0", True)),
        ("torch-scatter", {}, TORCH, ("", True)),
        ("torch-scatter", {}, replace(TORCH, cuda=None), ("", False)),
        ("of-nobody", {"TORCH_CUDA_ARCH_LIST": "9.0"}, TORCH, ("9.0", False)),
    ],
)
def test_the_catalogue_knows_the_variable(
    name: str, variables: dict[str, str], torch: Torch, expected: tuple[str, bool]
) -> None:
    """Without CUDA nothing is asked for; elsewhere torch's variable is."""
    claim = find_claim(name, Version("2.8.3"), torch=torch, variables=variables)
    if name == "torch-scatter":
        claim = find_claim(name, Version("2.1.2"), torch=torch, variables=variables)
    assert (claim.value, claim.is_certain) == expected


def tag(platform: str) -> Tag:
    return Tag("cp311", "cp311", platform)


@pytest.mark.parametrize(
    ("platforms", "versions", "problem"),
    [
        ("manylinux_2_17_x86_64", "GLIBC_2.17 GLIBCXX_3.4.19", ""),
        ("manylinux2014_x86_64", "GLIBC_2.2.5", ""),
        ("manylinux_2_17_x86_64", "GLIBC_2.34", "ext.so needs GLIBC_2.34, and"),
        ("manylinux2014_x86_64", "GLIBC_2.18", "manylinux2014 has up to 2.17"),
        ("manylinux_2_17_x86_64 manylinux_2_5_x86_64", "GLIBC_2.17", "up to 2.5"),
        ("manylinux_2_17_x86_64", "GLIBCXX_3.4.29", "needs GLIBCXX_3.4.29"),
        ("manylinux_2_30_x86_64", "GLIBC_2.30 GLIBCXX_3.4.24", ""),
        ("manylinux_2_17_aarch64", "CXXABI_1.3.99", "needs CXXABI_1.3.99"),
        ("manylinux_2_34_x86_64", "GLIBC_ABI_DT_RELR", "GLIBC_2.36"),
        ("manylinux_2_34_x86_64", "GLIBC_PRIVATE", "uses private symbols of glibc"),
        ("linux_x86_64", "GLIBC_2.36 GLIBCXX_3.4.30", ""),
        ("linux_x86_64", "GLIBC_2.37", "and this machine has up to 2.36"),
        ("musllinux_1_2_x86_64", "", ""),
    ],
)
def test_versions_stay_below_the_ceiling_of_the_tag(
    platforms: str, versions: str, problem: str
) -> None:
    """Without a tag for other machines, this machine's glibc is the ceiling."""
    ceiling = find_ceiling(map(tag, platforms.split()), (2, 36), POLICIES)
    needed = frozenset(versions.split())
    verdict = check_versions([binary(versions=needed), binary("b")], ceiling)
    assert verdict.state == ("failed" if problem else "ok")
    assert problem in verdict.text


@pytest.mark.parametrize(
    ("platform", "versions", "problem"),
    [
        ("linux_x86_64", "GLIBC_2.28 GLIBCXX_3.4.24", ""),
        ("linux_x86_64", "GLIBC_2.34", "GLIBC_2.34, and manylinux_2_28 has up to 2.28"),
        ("linux_x86_64", "GLIBCXX_3.4.30", "needs GLIBCXX_3.4.30, and manylinux_2_28"),
        ("manylinux_2_34_x86_64", "GLIBC_2.34", "manylinux_2_28 has up to 2.28"),
        ("manylinux_2_17_x86_64", "GLIBC_2.28", "manylinux_2_17 has up to 2.17"),
        ("musllinux_1_2_x86_64", "", ""),
    ],
)
def test_a_declared_glibc_is_the_ceiling(
    platform: str, versions: str, problem: str
) -> None:
    """Unless the tag says something older."""
    ceiling = find_ceiling([tag(platform)], (2, 36), POLICIES, (2, 28))
    verdict = check_versions([binary(versions=frozenset(versions.split()))], ceiling)
    assert verdict.state == ("failed" if problem else "ok")
    assert problem in verdict.text


@pytest.mark.parametrize(
    ("needed", "folders", "platform", "problem"),
    [
        ("libc10.so libown.so libcuda.so.1 libc.so.6", "$ORIGIN/../torch/lib", "", ""),
        ("libjpeg.so.62", "", "linux_x86_64", ""),
        ("libjpeg.so.62", "", "manylinux_2_17_x86_64", "manylinux_2_17 doesn't have"),
        ("libc.so.6 ld-linux-x86-64.so.2", "", "manylinux_2_17_x86_64", ""),
        ("libgone.so", "", "linux_x86_64", "which neither the wheel, the runtime nor"),
        ("", "/usr/local/cuda/lib64", "linux_x86_64", ""),
        ("", "/usr/local/cuda/lib64", "manylinux_2_17_x86_64", "a folder of this"),
        ("", "/build", "linux_x86_64", "ext.so looks for libraries in /build"),
    ],
)
def test_libraries_come_from_a_known_place(
    needed: str, folders: str, platform: str, problem: str
) -> None:
    """From the wheel, the runtime, the driver, or the system of the tag."""
    places = {
        "libc10.so": "torch",
        "libown.so": "this wheel",
        "libcuda.so.1": DRIVER,
        "libgone.so": NOWHERE,
    }
    ceiling = find_ceiling([tag(platform)], (2, 36), POLICIES)
    verdict = check_libraries(
        [binary(needed=tuple(needed.split()), folders=tuple(folders.split()))],
        lambda it: places.get(it, SYSTEM),
        ceiling,
    )
    assert verdict.state == ("failed" if problem else "ok")
    assert problem in verdict.text


def library(needed: str, defined: str) -> Library:
    return Library(needed=tuple(needed.split()), defined=frozenset(defined.split()))


LIBRARIES = {
    "libtorch.so": library("libtorch_cpu.so", ""),
    "libtorch_cpu.so": library("libc10.so libtorch.so libcudart.so.13", "add mul"),
    "libc10.so": library("", "fail"),
    "libcudart.so.13": library("", "malloc"),
}


@pytest.mark.parametrize(
    ("needed", "undefined", "problem"),
    [
        ("libtorch.so", "add fail Py_Init own", ""),
        ("libtorch.so libc.so.6", "printf@libc.so.6", ""),
        ("libcudart.so.13", "malloc@libcudart.so.13", ""),
        ("libcudart.so.13", "free@libcudart.so.13", "the runtime lacks free, needed"),
        ("libc10.so", "add mul", "lacks add and 1 more, needed by ext.so"),
        ("libcuda.so.1", "cuInit", ""),
        ("libtorch.so", "cuInit", "lacks cuInit"),
    ],
)
def test_symbols_are_in_what_is_loaded(
    needed: str, undefined: str, problem: str
) -> None:
    """In the libraries that come with a file; those of the system have versions."""
    wanted = dict(it.partition("@")[::2] for it in undefined.split())
    file = binary(
        needed=tuple(needed.split()), undefined=wanted, defined=frozenset({"own"})
    )
    verdict = check_symbols([file], LIBRARIES.get, {"Py_Init"})
    assert verdict.state == ("failed" if problem else "ok")
    assert problem in verdict.text


@pytest.mark.parametrize(
    ("libraries", "requires", "needed", "text"),
    [
        (LIBRARIES, "torch>=2.0", "libtorch.so", "loads"),
        (LIBRARIES, "torch==2.13.0", "libtorch.so", "requires torch==2.13.0"),
        (
            {**LIBRARIES, "libtorch_cpu.so": library("libc10.so", "mul")},
            *("numpy", "libtorch.so"),
            "it lacks add, needed by ext.so",
        ),
        (LIBRARIES, "numpy", "libcudart.so.12", "ext.so needs libcudart.so.12, and"),
    ],
)
def test_another_torch_is_tried(
    tmp_path: Path,
    libraries: Mapping[str, Library],
    requires: str,
    needed: str,
    text: str,
) -> None:
    """By its symbols, its CUDA, and what the wheel requires."""
    path = make_wheel(tmp_path, "x", "1.0", requires=[requires])
    verdict = check_torch(
        read_wheel(path),
        [binary(needed=(needed, "libtorch.so"), undefined={"add": ""})],
        OtherTorch(version="2.12.1", libraries=libraries),
        libraries.get,
        (),
    )
    assert verdict.check == "torch 2.12.1"
    assert verdict.state == ("ok" if text == "loads" else "failed")
    assert text in verdict.text


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.12", "==2.12.*"),
        ("2.12.1", "==2.12.1"),
        ("2.13.0+cu130", "==2.13.0+cu130"),
        ("2.14rc1", "==2.14rc1"),
    ],
)
def test_a_short_version_is_the_newest_of_its_kind(version: str, expected: str) -> None:
    """A whole version is itself."""
    assert str(specifier_of(version)) == expected


@pytest.mark.parametrize(
    ("files", "declared", "expected"),
    [
        ("pkg/__init__.py pkg/ext.so tests/a.py", (), (["pkg"], False)),
        ("pkg/__init__.py", ("pkg._C", "torch"), (["pkg._C"], True)),
        ("one.py two.cpython-311.so x-1.dist-info/a.py", (), (["one", "two"], False)),
        ("data/a.txt _private/__init__.py", (), ([], False)),
    ],
)
def test_modules_are_declared_or_at_the_top(
    files: str, declared: tuple[str, ...], expected: tuple[list[str], bool]
) -> None:
    """Names that are hardly meant for users aren't tried."""
    found = choose_modules([f"site-packages/{it}" for it in files.split()], declared)
    assert found == expected


def test_declared_modules_are_imported_in_order() -> None:
    """``import torch`` loads the libraries of the next one; later ones don't count."""
    declared = ("torch", "ext", "app", "ext.ops", "late")
    assert with_earlier(["ext"], declared) == ["torch", "ext"]
    assert with_earlier(["ext", "ext.ops"], declared) == [*declared[:4]]


def test_a_compiled_file_is_read(tmp_path: Path) -> None:
    """Its libraries, folders and symbols; also in a wheel, and a damaged one not."""
    source, path = tmp_path / "ext.c", tmp_path / "ext.so"
    source.write_text(
        "extern int other(int); extern int perhaps(void) __attribute__((weak));"
        "static int hidden(void) { return 1; } extern int puts(const char *);"
        "int mine(void) { return other(hidden()) + (perhaps ? perhaps() : 0)"
        ' + puts(""); }'
    )
    command = ["cc", "-shared", "-fPIC", "-Wl,-rpath,/build:$ORIGIN"]
    subprocess.run([*command, "-o", str(path), str(source)], check=True)
    content = path.read_bytes()
    found = read_binary("ext.so", io.BytesIO(content))
    assert "libc.so.6" in found.needed
    assert found.folders == ("/build", "$ORIGIN")
    assert found.undefined == {"other": "", "puts": "libc.so.6"}
    assert "mine" in found.defined
    assert {"hidden", "perhaps"}.isdisjoint(found.defined)
    assert any(it.startswith("GLIBC_2.") for it in found.versions)
    files: dict[str, str | bytes] = {"x/ext.so": content, "x/a.txt": "text"}
    wheel = make_wheel(tmp_path, "x", "1.0", files=files)
    assert [*read_binaries(wheel)] == [replace(found, name="x/ext.so")]
    for damaged in (content[:100], b"\x7fELF\x01" + content[5:]):
        with pytest.raises(ValueError, match=r"^ext\.so: "):
            read_binary("ext.so", io.BytesIO(damaged))
        wheel = make_wheel(tmp_path, "y", "1.0", files={"y/ext.so": damaged})
        with pytest.raises(WheelError):
            [*read_binaries(wheel)]


FINE = Verdict(check="contents", text="right", facts={"more": 1})
UNKNOWN = Verdict(check="torch 2.12", state="unknown", text="the network is off")
WRONG = Verdict(check="GPU code", state="failed", text="sm_80 is missing")


@pytest.mark.parametrize(
    ("verdicts", "state", "status"),
    [
        ([FINE], "ok", 0),
        ([FINE, UNKNOWN], "unknown", 2),
        ([UNKNOWN, WRONG, FINE], "failed", 1),
    ],
)
def test_a_wheel_is_as_good_as_its_worst_check(
    verdicts: list[Verdict], state: str, status: int
) -> None:
    """A failure is exit status 1, and what couldn't be checked 2, never 0."""
    wheel = WheelVerdicts(file="x.whl", sha256="0" * 64, verdicts=tuple(verdicts))
    assert wheel.state == state
    (line,) = [*verdicts_markdown([wheel])][2:]
    assert f"| {state} |" in line
    rows = [*render_verdicts([wheel], colour=False)]
    assert rows[0] == "x.whl"
    assert len(rows) == len(verdicts) + 1
    document = reader.parse_json(
        format_json([wheel], cell="", python="3.11"), reader.mapping_of(reader.plain)
    )
    (listed,) = document["wheels"]
    assert listed["state"] == state
    assert {"check": "contents", "state": "ok", "text": "right", "more": 1} in listed[
        "checks"
    ]
    error: BuildStagesError | None = None
    try:
        require_ok([wheel])
    except BuildStagesError as caught:
        error = caught
    assert (error.exit_status if error else 0) == status
    assert isinstance(error, UncheckedError) == (status == 2)


def test_a_ceiling_without_libraries_allows_all() -> None:
    """A wheel for machines like this one may need what this machine has."""
    assert Ceiling(name="", newest={}).allows("libjpeg.so.62")
