"""Mark an installed package as editable (PEP 610, PEP 660)."""

from __future__ import annotations

import csv
import hashlib
import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from nox_buildstages.environments.environment import site_packages
from nox_buildstages.system.files import atomic_write, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from nox_buildstages.environments.environment import Environment


def write_direct_url(environment: Environment, name: str, folder: Path) -> None:
    """Write the ``direct_url.json`` of an editable package, listed in RECORD.

    Args:
        environment: The environment in which the package is installed.
        name: The normalized name of the package.
        folder: The source folder of the package.
    """
    text = json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}})
    content = text.encode()
    sha256 = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    for packages in site_packages(environment):
        for info in sorted(packages.glob("*.dist-info")):
            if canonicalize_name(info.stem.rpartition("-")[0]) != name:
                continue
            write_text(info / "direct_url.json", text)
            file = f"{info.name}/direct_url.json"
            with (info / "RECORD").open(encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.reader(stream) if row and row[0] != file]
            rows.append([file, f"sha256={sha256}", str(len(content))])
            with (
                atomic_write(info / "RECORD") as new,
                new.open("w", encoding="utf-8", newline="") as stream,
            ):
                csv.writer(stream, lineterminator="\n").writerows(rows)
