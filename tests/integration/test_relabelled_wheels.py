"""Installers accept wheels that got another version."""

from __future__ import annotations

import base64
import csv
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.version import Version

from nox_buildstages.wheels.relabel import relabel_wheel
from nox_buildstages.wheels.wheel import read_wheel
from support.packages import make_wheel
from support.pair import installed, site_packages

if TYPE_CHECKING:
    from pathlib import Path

DATA, INFO = "kernels-1.0.data", "kernels-1.0.dist-info"
FILES = {
    "kernels/__init__.py": "def main():\n    print('ran')\n",
    f"{DATA}/scripts/tune": "#!python\nprint('tuned')\n",
    f"{DATA}/data/share/table": "1",
    f"{DATA}/purelib/beside.py": "x = 1\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nmain = kernels:main\n",
}


def unlisted(packages: Path) -> list[str]:
    """Return the files that don't match the installed RECORD."""
    record = packages / "kernels-1.0+torch2.13.0.dist-info/RECORD"
    with record.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row[1]]
    found = []
    for name, listed, _ in rows:
        digest = hashlib.sha256((packages / name).read_bytes()).digest()
        if listed != f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}":
            found.append(name)
    assert len(rows) >= len(FILES)
    return found


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_installers_accept_a_relabelled_wheel(
    env: dict[str, str], tmp_path: Path, tool: str
) -> None:
    """Scripts, data and entry points work, and ``==1.0`` matches the version."""
    house = tmp_path / "house"
    wheel = make_wheel(house, "kernels", "1.0", files=FILES)
    relabel_wheel(read_wheel(wheel), Version("1.0+torch2.13.0"))
    environment = tmp_path / "elsewhere"
    making = [sys.executable, "-m", "virtualenv", "-q", str(environment)]
    subprocess.run(making, check=True, env=env)
    python = str(environment / "bin/python")
    install = [python, "-m", "pip", "install"]
    if tool == "uv":
        install = [uv.find_uv_bin(), "pip", "install", "-p", python]
    words = ["-q", "--no-index", "--find-links", str(house), "kernels==1.0"]
    subprocess.run([*install, *words], check=True, env=env, cwd=tmp_path)
    assert installed(environment)["kernels"] == "1.0+torch2.13.0"
    programs = environment / "bin"
    assert subprocess.check_output([programs / "main"], text=True) == "ran\n"
    assert subprocess.check_output([python, programs / "tune"], text=True) == "tuned\n"
    packages = site_packages(environment)
    assert (packages / "beside.py").is_file()
    assert environment.joinpath("share/table").read_text("utf-8") == "1"
    assert unlisted(packages) == []
