"""What auditwheel is asked, what it needs, and how its reasons are told."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from nox_buildstages.commands.release.repairing import (
    Repaired,
    Repairer,
    check_at_hand,
    is_repairable,
    repairer,
)
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.variables import EPOCH
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.system.process import Completed
from support.deliveries import stored_wheel
from support.packages import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.builder.context import Tools
    from nox_buildstages.store.store import StoredWheel
    from nox_buildstages.system.process import Command

LINUX = "cp311-cp311-linux_x86_64"
TOO_NEW = (
    'cannot repair "x.whl" to "manylinux_2_5_x86_64" ABI because of the presence of'
    " too-recent versioned symbols. You'll need to compile the wheel on an older"
    " toolchain."
)


class Runner:
    """Says what programs would say, and notes what they were asked."""

    def __init__(self, returncode: int = 0, stderr: str = "", stdout: str = "") -> None:
        self.completed = Completed(returncode=returncode, stdout=stdout, stderr=stderr)
        self.asked: list[Command] = []

    def __call__(self, command: Command) -> Completed:
        """Note it."""
        self.asked.append(command)
        return self.completed


def tools(runner: Runner, **outer: str) -> Tools:
    used = SimpleNamespace(runner=runner, outer=outer, report=lambda _: None)
    return cast("Tools", used)


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
        (0, "INFO:auditwheel.main_repair:fine", "auditwheel made no wheel of it"),
    ],
)
def test_the_reason_is_what_auditwheel_says_last(
    tmp_path: Path, returncode: int, stderr: str, reason: str
) -> None:
    """Without usage, traceback, and what its log calls itself."""
    own = Repairer(
        tools=tools(Runner(returncode, stderr)), variables={}, versions={}, brought=()
    )
    with pytest.raises(BuildStagesError) as caught:
        own.repair(wheel(tmp_path / "x-1.0-linux.whl"), tmp_path / "out")
    assert caught.value.subject == "x-1.0-linux.whl"
    assert list(caught.value.details) == reason.splitlines()


def test_what_the_runtime_brings_is_left_out(tmp_path: Path) -> None:
    """Whatever folder it is in; auditwheel's own variables have no say."""
    info = tmp_path / "lib/python3.11/site-packages/torch-2.13.dist-info"
    info.mkdir(parents=True)
    info.joinpath("RECORD").write_text(
        "torch/lib/libtorch.so,,\ntorch/lib/libc10_cuda.so,,\n"
        "nvidia/lib/libcudart.so.13,,\n../../../lib/libmkl_rt.so.2,,\n"
        '"torch/a,b/libodd.so",,\ntorch/_C.so,,\ntorch/lib/libtorch.so.txt.py,,\n'
        "torch/library.py,,\n\n",
        "utf-8",
    )
    runner = Runner(stdout="patchelf 0.19.3\n")
    environment = Environment(location=tmp_path, bin=tmp_path, python=tmp_path)
    used = tools(
        runner,
        PATH="/bin",
        AUDITWHEEL_PLAT="linux_x86_64",
        AUDITWHEEL_LD_LIBRARY_PATH=str(tmp_path),
    )
    own = repairer(environment, used)
    assert own.versions["patchelf"] == "0.19.3"
    with pytest.raises(BuildStagesError):
        own.repair(wheel(tmp_path / "x.whl"), tmp_path / "out")
    command = runner.asked[-1]
    assert command.env is not None
    excluded = command.argv[command.argv.index("--exclude") : -3]
    assert "libcuda.so*" in excluded
    assert [it for it in excluded if it[0] != "-" and "*" not in it] == [
        "libc10_cuda.so",
        "libcudart.so.13",
        "libmkl_rt.so.2",
        "libodd.so",
        "libtorch.so",
    ]
    assert command.env["SOURCE_DATE_EPOCH"] == EPOCH
    assert command.env["AUDITWHEEL_LD_LIBRARY_PATH"] == str(tmp_path)
    assert "AUDITWHEEL_PLAT" not in command.env


def test_a_patchelf_that_is_nowhere_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for beside nox, and on PATH."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UsageError, match="patchelf, which aren't installed"):
        check_at_hand({})


def test_other_systems_have_nothing_to_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything claimed there."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="wheels of Linux, and this is darwin"):
        check_at_hand({})


@pytest.mark.parametrize(
    ("tag", "content", "expected"),
    [
        (LINUX, b"\x7fELF\2", True),
        (LINUX, b"x", False),
        ("cp311-cp311-manylinux_2_28_x86_64", b"\x7fELF\2", False),
        ("py3-none-any", b"\x7fELF\2", False),
    ],
)
def test_what_is_of_this_machine_is_repaired(
    tmp_path: Path, tag: str, content: bytes, *, expected: bool
) -> None:
    """A wheel with another tag is what its backend says that it is."""
    path = make_wheel(tmp_path, "x", "1.0", tag=tag, files={"x/ext.so": content})
    assert is_repairable(path) is expected


def test_what_became_of_a_wheel_is_told(tmp_path: Path) -> None:
    """For which C library it is, and which libraries it has and lacks."""
    name = "x-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    found = Repaired(
        wheel=wheel(tmp_path / name),
        original=wheel(tmp_path / f"x-1.0-{LINUX}.whl"),
        tools={},
        taken_in=("liba-1.so", "libb-1.so"),
        left_out=("libtorch.so",),
    )
    bare = replace(found, taken_in=(), left_out=())
    assert str(bare) == f"repaired: {name}, for glibc 2.17 or newer"
    assert str(found) == (
        f"repaired: {name}, for glibc 2.17 or newer; it took in liba-1.so, libb-1.so;"
        " it needs libtorch.so of others"
    )
