"""Put the SBOM of its build into each wheel, as PEP 770 says; needs an extra."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from nox_buildstages.errors import UsageError
from nox_buildstages.system.files import remove_tree, sha256_of
from nox_buildstages.value import replace
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheels.relabel import rewrite_wheel
from nox_buildstages.wheels.wheel import read_wheel, verify_record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from nox_buildstages.builder.stage import OutputResult

MEMBER = "sboms/nox-buildstages.cdx.json"
"""The name of the SBOM in ``.dist-info``."""


def check_sbom_tools() -> None:
    """Check that SBOMs can be made.

    Raises:
        UsageError: The package that makes them is missing.
    """
    if find_spec("cyclonedx") is None:
        raise UsageError(
            problem="--embed-sbom needs cyclonedx-python-lib, which isn't installed in"
            " nox's environment",
            hint="install it there: `pip install 'nox-buildstages[sbom]'`",
        )


def embed_sboms(
    results: Collection[OutputResult],
    folder: Path,
    locations: Callable[[str], Mapping[str, str]],
) -> list[OutputResult]:
    """Put an SBOM into each wheel of a wheelhouse; return results with the new wheels.

    ``locations`` returns the URLs of the wheels in the environment of a stage.

    Raises:
        WheelError: A new wheel isn't sound.
    """
    from nox_buildstages.commands.release.sbom import (  # noqa: PLC0415 - needs an extra
        format_build_sbom,
    )

    scratch = folder / ".embedding"
    remove_tree(scratch)  # left by a killed run
    scratch.mkdir()
    try:
        found = []
        for result in results:
            file = read_wheel(folder / result.wheel.path.name)
            text = format_build_sbom(result, locations(result.stage))
            path = scratch / file.path.name
            changed = {MEMBER: text.encode()}
            rewrite_wheel(file, path, version=file.version, changed=changed)
            verify_record(path)
            wheel = replace(
                result.wheel,
                path=folder / path.name,
                sha256=sha256_of(path),
                size=path.stat().st_size,
            )
            found.append(replace(result, wheel=wheel))
        # The sums are written first: they list the files of an interrupted release.
        sums = {it.wheel.path.name: it.wheel.sha256 for it in found}
        checksums.write_sums(folder, {**checksums.read_sums(folder), **sums})
        for result in found:
            path = result.wheel.path
            (scratch / path.name).replace(path)
        return found
    finally:
        remove_tree(scratch)
