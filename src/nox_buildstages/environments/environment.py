"""A virtual environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from nox_buildstages.system.files import write_text
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

INSTALL_HINT = (
    "run nox without -R and --no-install, so that the environment can be updated"
)
"""The hint if nox doesn't let an environment be changed."""

_SETTINGS = "pyvenv.cfg"
_SYSTEM_PACKAGES = r"(?im)^(\s*include-system-site-packages\s*=\s*)true[ \t]*$"


def _always() -> bool:
    return True


_FOR_CHECKS = (
    "TERM|COLORTERM|NO_COLOR|FORCE_COLOR|COLUMNS|LINES|CI|LD_.+|XDG_CACHE_HOME"
    "|(CUDA|NVIDIA|HIP|ROCR|HSA|ZE|NCCL|OMP|MKL|OPENBLAS)_.+|GPU_DEVICE_ORDINAL"
    "|CURL_CA_BUNDLE|REQUESTS_CA_BUNDLE|SSL_CERT_(DIR|FILE)|HF_HOME|TORCH_HOME"
    "|PYTHON(DONTWRITEBYTECODE|HASHSEED|IOENCODING|PYCACHEPREFIX|UNBUFFERED|UTF8"
    "|WARNINGS)"
)
"""Variables of programs in the runtime environment, as a pattern."""


class Environment(Value):
    """A virtual environment."""

    location: Path
    bin: Path
    python: Path
    session: str = ""  # the session that the environment belongs to
    is_made: bool = True
    """If false, it is made when it is needed, of the interpreter ``python``."""
    may_install: Callable[[], bool] = _always  # false with nox's ``-R``
    may_run: Callable[[], bool] = _always  # false with nox's ``--install-only``
    run: Callable[..., object] = _always
    """Runs a program in the environment, from a folder, and shows the output."""


def check_variables(
    environment: Environment, outer: Mapping[str, str], passed: Iterable[str]
) -> dict[str, str]:
    """Return the variables of imports and checks in the runtime environment.

    These run code of all packages, also of files ``.pth``. So they see no variable with
    a possible secret, except the variables passed by the table.
    """
    from nox_buildstages.system.process import helper_variables  # noqa: PLC0415 - for --list

    path = os.pathsep.join(filter(None, (str(environment.bin), outer.get("PATH"))))
    return {
        **helper_variables(outer, _FOR_CHECKS),
        **{name: outer[name] for name in passed if name in outer},
        "PATH": path,
        "VIRTUAL_ENV": str(environment.location),
    }


def is_complete(location: Path) -> bool:
    """Whether a folder is a finished virtual environment."""
    try:
        settings = location.joinpath(_SETTINGS).stat()
    except OSError:
        return False
    return settings.st_size > 0 and location.joinpath("bin", "python").exists()


def make_relocatable(location: Path) -> None:
    """Let uv install scripts that find the interpreter of an environment beside them.

    Builds see the environment at another path, and run its scripts there.
    """
    path = location / _SETTINGS
    text = path.read_text(encoding="utf-8")
    if "relocatable = true" not in text:
        write_text(path, f"{text.rstrip()}\nrelocatable = true\n")


def hide_system_packages(location: Path) -> bool:
    """Hide the packages of an environment's interpreter; return whether they weren't.

    A setting or a variable of virtualenv can make them visible.
    """
    path = location / _SETTINGS
    text, count = re.subn(
        _SYSTEM_PACKAGES, r"\1false", path.read_text(encoding="utf-8")
    )
    if count:
        write_text(path, text)
    return bool(count)
