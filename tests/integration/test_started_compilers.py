"""Which compilers a build starts, and for which compilers its wheel is found again."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.builder.compilers.started import watch_programs

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux says which programs are started"
)


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_programs_that_are_started_are_noticed(tmp_path: Path) -> None:
    """By whichever path; to look at them is not to start them."""
    cc, ld = (make_program(tmp_path / name, "exit 0") for name in ("cc", "ld"))
    link = tmp_path / "link"
    link.symlink_to(cc)
    with watch_programs({str(link): "cc", str(ld): "ld"}) as read_started:
        cc.stat()
        assert read_started() == ()
        subprocess.run([cc], check=True)
        assert read_started() == ("cc",)
        subprocess.run([ld], check=True)
        assert read_started() == ("cc", "ld")


def test_what_cannot_be_watched_is_not_known(tmp_path: Path) -> None:
    """Then a wheel counts as compiled."""
    with watch_programs({str(tmp_path / "gone"): "cc"}) as read_started:
        assert read_started() is None
