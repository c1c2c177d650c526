"""A build that reads secrets, opens sockets and writes where it shouldn't."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nox_buildstages.builder.scripts.landlock import FIRST_USABLE
from nox_buildstages.value import replace
from support.hostile_world import ATTACK, PROGRAM, World, successes
from support.namespaces import (
    can_forbid,
    forbidding_all,
    landlock_version,
    needs_namespaces,
    without_landlock,
    without_namespaces,
)
from support.packages import in_tree_backend, make_tree
from support.pair import declare_solo, planned, refused, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.project import Project

BACKEND = """
import os, pathlib, socket, sys
from tinybackend import build_wheel, get_requires_for_build_wheel
from tinybackend import _prepare_metadata as prepare_metadata_for_build_wheel

def meddle():
{}

meddle()
"""
"""What stands where the braces are is done in every hook."""

PYPROJECT = in_tree_backend("setup")


def declare_kernels(project: Project, *lines: str, **stage: Any) -> None:  # noqa: ANN401
    """Write a project whose one output does these things in each hook."""
    code = BACKEND.format("\n".join(f"    {line}" for line in lines))
    files = {"setup.py": code, "pyproject.toml": PYPROJECT}
    make_tree(project.folder / "kernels", "kernels", "1.0", files=files)
    declare_solo(project, outputs=["kernels @ ./kernels"], **stage)


def logs(project: Project) -> list[str]:
    """Return the logs of locking's hooks and of the build."""
    folders = (project.store / "logs", project.wheelhouse / "logs")
    return [(folder / "kernels.log").read_text("utf-8") for folder in folders]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """One on this machine that a build may try to reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


def connects(server: socket.socket) -> str:
    return f"socket.create_connection({server.getsockname()!r}, 5)"


def was_reached(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


SECRETS = (
    'print("secret:", os.environ.get("TOKEN"))',
    'parent = pathlib.Path(f"/proc/{os.getppid()}/environ")',
    "try:",
    '    print("TOKEN=" in parent.read_text())',
    "except OSError as error:",
    '    print("parent:", error)',
)


@needs_namespaces
def test_secrets_and_sockets_are_out_of_reach(
    project: Project, server: socket.socket
) -> None:
    """Neither a variable nor the process that started the build shows a secret.

    No socket is open while locking or while building; each log says that it is off.
    """
    lines = ("try:", f"    {connects(server)}", "except OSError as error:")
    declare_kernels(project, *SECRETS, *lines, '    print("socket:", error)')
    done = project.nox("-s", "build-stage-only", env={"TOKEN": "s3cr3t"})
    assert not was_reached(server)
    for log in logs(project):
        assert "secret: None\n" in log
        assert "parent: [Errno 13] Permission denied" in log
        assert "network: off\n" in log
        assert "socket: [Errno 111] Connection refused" in log
    assert "network" not in done.output


@needs_namespaces
def test_a_build_that_wants_the_network_is_told_what_to_do(project: Project) -> None:
    """The message has the key to set."""
    url = "http://files.example.invalid/x.whl"
    declare_kernels(
        project, "import urllib.request", f"urllib.request.urlopen('{url}')"
    )
    output = refused(project, "-s", "build-stage-only")
    assert "network, which is off while backends run" in output
    assert "or set network = true for stage only" in output


STRAYS = (
    "import tempfile",
    "for place in (pathlib.Path.home(), tempfile.gettempdir()):",
    '    pathlib.Path(place, "stray").write_text("")',
    'pathlib.Path("kernels/__init__.py").write_text("# another")',
)


def test_a_stage_may_have_the_network(project: Project, server: socket.socket) -> None:
    """The user is told; and it is another wheel, for what was fetched may count.

    Home, temporary files and neighbours of the source are folders of the build.
    """
    declare_kernels(project, connects(server), *STRAYS, network=True)
    source = project.folder / "kernels/kernels/__init__.py"
    before = source.read_bytes()
    done = project.nox("-s", "build-stage-only")
    assert was_reached(server)
    for log in logs(project):
        assert "network: on (network = true)\n" in log
    assert ", network on\n" in done.output
    assert source.read_bytes() == before
    root = project.folder.parent
    assert [path for path in root.rglob("stray") if path.is_file()] == []
    declare_kernels(project, connects(server), *STRAYS, network=False)
    plan = planned(project.nox("-s", "build-stages-plan"))
    assert plan["kernels"] == ("build", "network on → off")


def test_what_is_written_into_the_environment_is_refused(project: Project) -> None:
    """No wheel comes of it, and the next build has the environment of the lock."""
    declare_kernels(
        project,
        "import sysconfig",
        'packages = pathlib.Path(sysconfig.get_path("purelib"))',
        '(packages / "evil.pth").write_text("")',
    )
    output = refused(project, "-s", "build-stage-only")
    assert (
        "kernels (stage only): its build writes into the environment that it runs in"
    ) in output
    assert "site-packages/evil.pth" in output
    assert stored(project) == project.wheels() == []
    declare_kernels(project, "pass")
    project.nox("-s", "build-stage-only")
    assert list(project.folder.rglob("evil.pth")) == []
    assert project.wheels() == ["kernels-1.0-py3-none-any.whl"]


@pytest.mark.slow
@can_forbid
def test_without_namespaces_the_network_is_off(
    project: Project, server: socket.socket
) -> None:
    """Even if it must be: a filter of calls needs no rights."""
    project = replace(project, prefix=tuple(forbidding_all()))
    declare_kernels(project, connects(server), network="require-off")
    output = refused(project, "-s", "build-stage-only")
    assert "PermissionError" in output
    log = (project.store / "logs/kernels.log").read_text("utf-8")
    assert "network: off, even to localhost\n" in log


@pytest.mark.slow
@needs_namespaces
@pytest.mark.skipif(landlock_version() < FIRST_USABLE, reason="there is no Landlock")
@pytest.mark.parametrize(
    "prefix",
    [(), without_namespaces(), without_landlock()],
    ids=["all", "no-ns", "no-ll"],
)
def test_a_hostile_build_gets_nothing(
    project: Project, server: socket.socket, tmp_path: Path, prefix: list[str]
) -> None:
    """Neither while locking nor while building, and its daemon ends with it.

    Without Landlock and namespaces it reaches files, and the log says so.
    """
    world, env = World(tmp_path / "world"), {"SECRET": "HUNTER2"}
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], env=env, stdin=-1
    ) as other:
        layout = {
            **world.layout,
            "addresses": {"loopback": server.getsockname()},
            "server": other.pid,
            "abstract": "",
            "store": str(project.store),
            "project": str(project.folder),
            "wheelhouse": str(project.folder),
        }
        free = subprocess.run(
            [*ATTACK, json.dumps(layout)], capture_output=True, text=True, check=True
        )
        code = (
            "import shutil, subprocess",
            'argv = [sys.executable, "-I", "-S", "hostile.py", "attack"]',
            'argv.append(open("layout.json").read())',
            "done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)",
            'print("attempts:", done.stdout, flush=True)',
        )
        declare_kernels(project, *code)
        told = json.dumps({**layout, "daemon": "daemon"})
        project.folder.joinpath("kernels/layout.json").write_text(told)
        shutil.copy(PROGRAM, project.folder / "kernels")
        replace(project, prefix=tuple(prefix)).nox("-s", "build-stage-only")
        other.kill()
    everything = successes(json.loads(free.stdout))
    assert "connect to loopback by TCP" in everything
    for log in logs(project):
        got = successes(
            json.loads(re.findall("^attempts: (.*)$", log, re.MULTILINE)[0])
        )
        daemons = re.findall(r"^daemon: (\d+)$", log, re.MULTILINE)
        assert daemons
        assert not [it for it in daemons if Path("/proc", it).exists()]
        assert not [it for it in got if "connect" in it and "UDP" not in it]
        if "it can read and write yours" in log:
            assert prefix == without_landlock()
            assert "write to the home" in got
        else:
            known = {"change a mode in the home", "make a socket by a call of i386"}
            assert got <= known
