"""What uv's environment variables mean here; the list is that of uv 0.13.9."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from uv import find_uv_bin

from nox_buildstages.declarations.settings import uv_variables
from nox_buildstages.declarations.uv_variables import VARIABLES, find_idle_variables

COMMANDS = ("cache dir", "pip compile", "pip install", "pip sync", "venv")
"""The commands of uv that run here; the others have no options of their own."""

ABOUT = re.compile(
    "API_KEY|AUTH|KEYRING|CREDENTIALS|ENDPOINT|HF_TOKEN|INDEX(_.+)?$|INDEX_URL|FIND_LINKS|INSECURE_HOST"
    "|TLS|CERTS|OFFLINE|HTTP|REQUEST_TIMEOUT|CACHE|LOCK_TIMEOUT|STACK|CONCURRENT|GITHUB"
    "|PYTHON_INSTALL_DIR"
)
"""Logins, indexes, certificates, the network, caches, and files of these."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_variable_of_a_command_is_known(command: str) -> None:
    """A newer uv may have more: then the table needs an entry for it."""
    argv = [find_uv_bin(), "help", "--no-pager", *command.split()]
    text = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
    assert {*re.findall("env: (UV_[A-Z_]+)", text)} <= VARIABLES.keys()


def test_uv_gets_variables_about_where_files_come_from() -> None:
    """And of the others none, nor any of other programs."""
    outer = dict.fromkeys([*VARIABLES, "UV_NEW", "PIP_INDEX_URL", "SECRET"], "1")
    outer |= {"UV_INDEX_OWN_PASSWORD": "1", "HTTPS_PROXY": "1", "PATH": "/bin"}
    passed = {name for name in uv_variables(outer) if name.startswith("UV_")}
    assert [it for it in passed if not ABOUT.search(it)] == []
    others = {"HTTPS_PROXY", "PATH"}
    assert {*uv_variables(outer)} == passed | others
    assert "UV_INDEX_OWN_PASSWORD" in passed


@pytest.mark.parametrize(
    ("settings", "variables", "ignored"),
    [
        ({}, {"UV_NO_SOURCES": "1", "UV_INDEX": "x"}, ["UV_NO_SOURCES"]),
        ({}, {"UV_RESOLUTION": "lowest"}, ["UV_RESOLUTION"]),
        ({}, {"UV_NO_SOURCES": ""}, []),
        ({}, {"UV_FROZEN": "1", "UV_PUBLISH_TOKEN": "1"}, []),
        ({}, {"UV_FROM_THE_FUTURE": "1"}, ["UV_FROM_THE_FUTURE"]),
        ({}, {"UV_INDEX_OWN_PASSWORD": "1", "UV_INTERNAL__TEST_DIR": "1"}, []),
        ({}, {"UV_DEFAULT_INDEX": "x"}, []),
        ({"index-url": "y"}, {"UV_DEFAULT_INDEX": "x"}, ["UV_DEFAULT_INDEX"]),
        ({"pip": {"index-url": "y"}}, {"UV_INDEX_URL": "x"}, ["UV_INDEX_URL"]),
        ({"index": [{"default": True}]}, {"UV_INDEX_URL": "x"}, ["UV_INDEX_URL"]),
        (
            {"keyring-provider": "disabled"},
            {"UV_KEYRING_PROVIDER": "subprocess"},
            ["UV_KEYRING_PROVIDER"],
        ),
    ],
)
def test_a_variable_without_the_effect_that_it_has_on_uv_is_named(
    settings: dict[str, Any], variables: dict[str, str], ignored: list[str]
) -> None:
    """Others hold as in uv, or have nothing to do with lock files."""
    assert [name for name, _ in find_idle_variables(settings, variables)] == ignored
