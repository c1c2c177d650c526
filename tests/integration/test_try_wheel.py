"""A wheel that no environment can hold is refused where it is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv

from nox_buildstages.builder.try_wheel import try_wheel
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.sync import Syncer
from nox_buildstages.errors import WheelError
from nox_buildstages.store.store import Store
from nox_buildstages.system.process import run
from nox_buildstages.wheels.wheel import read_wheel
from support.packages import make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

INFO, DATA = "ext-1.0.dist-info", "ext-1.0.data"
METADATA = "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"


class Trial:
    """Tries wheels in an environment, with a store and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.syncer = Syncer(uv=Path(uv.find_uv_bin()), runner=run)
        location = folder / "venv"
        self.syncer.create(location, Path(sys.executable))
        self.environment = Environment(
            location=location, bin=location / "bin", python=location / "bin/python"
        )

    def __call__(self, wheel: Path) -> None:
        """Try a wheel; nothing of it stays."""
        scratch = self.folder / "trial"
        before = {*self.environment.location.rglob("*")}
        try:
            try_wheel(
                read_wheel(wheel),
                self.environment,
                syncer=self.syncer,
                store=Store(self.folder / "store"),
                scratch=scratch,
            )
        finally:
            assert not scratch.exists()
            assert {*self.environment.location.rglob("*")} == before


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("trial"))


def test_a_sound_wheel_is_accepted(trial: Trial, tmp_path: Path) -> None:
    """With scripts, data, headers and names beside its package; uv's cache stays."""
    files = {
        f"{DATA}/scripts/tool": "#!python\n",
        f"{DATA}/data/share/ext/notes.txt": "",
        f"{DATA}/headers/ext.h": "",
        f"{INFO}/entry_points.txt": "[console_scripts]\ncall = ext:main\n",
        "ext.pth": "",
    }
    trial(make_wheel(tmp_path, "ext", "1.0", files=files))
    cache = trial.folder / "store/interpreters/uv"
    assert [it.name for it in cache.iterdir() if "archive" in it.name] == []


REFUSED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "a script that is Python's": (
        "uv refuses to install it: Scripts must not use the reserved name `python`",
        {f"{DATA}/scripts/python": ""},
    ),
    "data of no kind": (
        "uv refuses to install it: .*Unknown wheel data type: odd",
        {f"{DATA}/odd/x": ""},
    ),
    "an entry point without a function": (
        "uv refuses to install it: .*invalid console script",
        {f"{INFO}/entry_points.txt": "[console_scripts]\ncall = ext\n"},
    ),
    "the settings of an environment": (
        r"it would replace pyvenv\.cfg of every environment with it",
        {f"{DATA}/data/pyvenv.cfg": ""},
    ),
    "a program of an environment": (
        "it would replace bin/activate of every environment with it",
        {f"{DATA}/scripts/activate": ""},
    ),
    "a second package": (
        "it also installs other, as another package",
        {f"{DATA}/purelib/other-1.0.dist-info/METADATA": METADATA},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wheel_that_an_environment_cannot_hold_is_refused(
    trial: Trial, tmp_path: Path, case: str
) -> None:
    """The reason is the installer's own, where it gives one."""
    problem, files = REFUSED[case]
    wheel = make_wheel(tmp_path, "ext", "1.0", files=files)
    with pytest.raises(WheelError, match=problem) as caught:
        trial(wheel)
    assert caught.value.subject == wheel.name


def test_an_archive_that_installers_refuse_is_refused(
    trial: Trial, tmp_path: Path
) -> None:
    """They know attacks that other readers of archives don't notice."""
    wheel = make_wheel(tmp_path, "ext", "1.0")
    with wheel.open("ab") as file:
        file.write(b"more")
    with pytest.raises(WheelError, match="ZIP file contains trailing contents"):
        trial(wheel)
