"""A stage whose compilers run on other machines, by sccache-dist."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.system.machine import Machine
from support.caches import cache_program
from support.namespaces import needs_namespaces
from support.pair import declare_solo, kernels_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.project import Project

LIMIT = 60  # seconds
SCHEDULER = """\
public_addr = "127.0.0.1:{scheduler}"

[client_auth]
type = "token"
token = "of the clients"

[server_auth]
type = "jwt_hs256"
secret_key = "{key}"
"""
SERVER = """\
cache_dir = "{folder}/toolchains"
public_addr = "127.0.0.1:{server}"
scheduler_url = "http://127.0.0.1:{scheduler}"

[builder]
type = "overlay"
build_dir = "{folder}/builds"
bwrap_path = "{bwrap}"

[scheduler_auth]
type = "jwt_token"
token = "{token}"
"""
CLIENT = """\
[dist]
scheduler_url = "http://127.0.0.1:{scheduler}"
cache_dir = "{folder}/client"

[dist.auth]
type = "token"
token = "of the clients"
"""

pytestmark = [
    pytest.mark.slow,
    needs_namespaces,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("bwrap") is None,
        reason="needs root and bubblewrap",
    ),
]


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Path]:
    """The settings of a client, with a scheduler and one server to compile."""
    sccache = cache_program("sccache")
    program = sccache.with_name("sccache-dist")
    if not program.exists():
        pytest.skip("no sccache-dist beside sccache")
    ports = {"scheduler": free_port(), "server": free_port()}

    def make(*argv: object) -> str:
        words = map(str, (program, "auth", *argv))
        return subprocess.check_output([*words], text=True).strip()

    key = make("generate-jwt-hs256-key")
    address = f"127.0.0.1:{ports['server']}"
    token = make(
        *("generate-jwt-hs256-server-token", "--secret-key", key, "--server", address)
    )
    (tmp_path / "dist").mkdir()
    words = {**ports, "key": key, "token": token, "bwrap": shutil.which("bwrap")}
    for name, text in (
        ("scheduler", SCHEDULER),
        ("server", SERVER),
        ("client", CLIENT),
    ):
        settings = text.format(folder=tmp_path / "dist", **words)
        (tmp_path / f"{name}.toml").write_text(settings)
    variables = {**os.environ, "SCCACHE_NO_DAEMON": "1", "SCCACHE_LOG": "info"}
    with ExitStack() as stack:
        for name in ("scheduler", "server"):
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                [program, name, "--config", tmp_path / f"{name}.toml"],
                env=variables,
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        end, said = time.monotonic() + LIMIT, ""
        while time.monotonic() < end and "Registered new server" not in said:
            time.sleep(0.1)
            said = (tmp_path / "scheduler.log").read_text()
        assert "Registered new server" in said, (tmp_path / "server.log").read_text()
        yield tmp_path / "client.toml"


def variables(folder: Path) -> dict[str, str]:
    """Return variables with sccache and a folder of its own."""
    path = os.pathsep.join((str(cache_program("sccache").parent), os.environ["PATH"]))
    return {"PATH": path, "SCCACHE_DIR": str(folder / "cache")}


def kernels(project: Project) -> str:
    """Make a package of two C++ files, and return it as a requirement."""
    tree = kernels_tree(project, compile=["a.cc", "b.cc"])
    for name in ("a", "b"):
        source = project.folder / f"kernels/{name}.cc"
        code = f"int {name}() {{ return std::string().size() + {sys.maxunicode}; }}"
        source.write_text(f"#include <string>\n{code}\n")
    return tree


def test_compilers_run_elsewhere_and_may_be_more_than_cores_here(
    project: Project, tmp_path: Path, farm: Path
) -> None:
    """The number of the table counts where settings name a scheduler, and only there.

    What came from elsewhere is said.
    """
    env = variables(tmp_path)
    jobs, cores = Machine().cores() + 2, Machine().cores()
    tree = kernels(project)
    settings = {"jobs": jobs, "compiler-cache": "sccache"}
    declare_solo(project, outputs=[tree], **settings)
    done = project.nox("-s", "build-stages", env={**env, "SCCACHE_CONF": str(farm)})
    assert f"building kernels 1.0 with {jobs} jobs" in done.output
    assert "is limited to" not in done.output
    counts = re.search(r"(\d) of 2 compilations cached, (\d) distributed", done.output)
    assert counts is not None, done.output
    assert counts.groups() == ("0", "2"), (tmp_path / "server.log").read_text()
    here = project.nox("-s", "build-stages", "--", "--rebuild", env=env).output
    assert f"jobs = {jobs} is limited to the {cores} cores of this machine" in here
    assert "distributed" not in here


def test_machine_code_from_elsewhere_is_the_same_and_debug_information_is_not(
    project: Project, tmp_path: Path, farm: Path
) -> None:
    """The second build of the check compiles here."""
    env = {**variables(tmp_path), "SCCACHE_CONF": str(farm)}
    check = ("-s", "build-stage-only", "--", "--check-reproducible")
    tree = kernels(project)
    for options, expected in {
        "-O2": "nox > reproducible: kernels-1.0-",
        "-g": "error: stage only: not reproducible: kernels-1.0-",
    }.items():
        settings = {"compiler-cache": "sccache", "env": {"CFLAGS": options}}
        declare_solo(project, outputs=[tree], **settings)
        output = project.nox(*check, env=env, check=None).output
        assert ", 2 distributed" in output
        assert expected in output
