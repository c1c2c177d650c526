"""A PEP 517 build backend for tests: the standard library and nothing else.

``tinybackend.json`` beside the pyproject.toml steers it; every key but ``name``
and ``version`` may be left out:

name, version       of the wheel
requires, extras    its Requires-Dist and Provides-Extra
requires-for-build  what get_requires_for_build_wheel returns
requires-once       {module: [requirement]} that it returns as well, once the
                    module can be found
require-env         variables without which every hook fails
import-first        modules without which the wheel and metadata hooks fail
stamp               distributions whose version and module go into
                    <module>/built_against.json
env                 variables whose values go into <module>/env.json
record              of "cwd", "config-settings" and "variables" (their names),
                    what goes into <module>/record.json
compile             C sources, made into <module>/<stem>.so with the options of
                    CFLAGS; an object file that is there already is used again
compilers           how many programs run, MAX_JOBS at once, or as a jobserver in
                    MAKEFLAGS allows; each adds a line + when it starts and a line -
                    when it ends to TINYBACKEND_COUNT
thinks              how many seconds get_requires_for_build_wheel takes
also                paths beside the module that go into the wheel
says                lines for the log
pause               how many seconds pass after each of them
stamp-time          whether the time of the build goes into <module>/built_at.json,
                    so that no two builds are equal
tag                 the wheel's tag; by default what is made
on-python           {minor version: settings over these, on that Python}
faults              see FAULTS
sleep               how many seconds the fault of that name takes

The faults raise, exit, kill and sleep strike when everything is compiled and nothing
packed, and once only where TINYBACKEND_CACHE names a folder: our process id is written
to the file pid there, and where it exists they are left out.
"""

import json  # each hook starts Python: what few hooks need is imported there
import os
import re
import sys
import time

SIGKILL = 9

DEFAULTS = {
    "tag": "",
    "name": None,
    "version": None,
    "requires": [],
    "extras": [],
    "requires-for-build": [],
    "requires-once": {},
    "require-env": [],
    "import-first": [],
    "stamp": [],
    "env": [],
    "record": [],
    "compile": [],
    "compilers": 0,
    "thinks": 0,
    "also": [],
    "says": [],
    "pause": 0,
    "stamp-time": False,
    "on-python": {},
    "faults": [],
    "sleep": 60,
}

FAULTS = {
    "raise": "build_wheel raises RuntimeError",
    "exit": "build_wheel ends the interpreter with status 3",
    "kill": "build_wheel kills the interpreter with SIGKILL",
    "sleep": "build_wheel sleeps",
    "memory": "build_wheel kills the interpreter where it may run several compilers",
    "two-wheels": "a second wheel, NAME-too, lies beside the right one",
    "no-wheel": "build_wheel returns a name and writes nothing",
    "wrong-name": "the wheel is one of not-NAME",
    "wrong-version": "the wheel is one of 0.0.0",
    "bad-record": "a hash in RECORD is that of another file",
    "bad-metadata": "the wheel requires undeclared>=1, the metadata hook doesn't say so",
    "no-metadata-hook": "there is no prepare_metadata_for_build_wheel",
}


def get_requires_for_build_wheel(config_settings=None):
    settings = _settings()
    time.sleep(settings["thinks"])
    requires = list(settings["requires-for-build"])
    for module, more in settings["requires-once"].items():
        from importlib.util import find_spec

        if find_spec(module):
            requires += more
    return requires


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    from pathlib import Path

    settings = _settings()
    faults = settings["faults"]
    print(f"tinybackend: building {settings['name']} {settings['version']}")
    for line in settings["says"]:
        print(line, flush=True)
        time.sleep(settings["pause"])
    _strike(settings)
    if "memory" in faults and not os.environ["MAKEFLAGS"].strip().startswith("-j1"):
        os.kill(os.getpid(), SIGKILL)
    _import_first(settings)
    _run_compilers(settings["compilers"])
    metadata = _metadata(settings)
    if "bad-metadata" in faults:
        metadata = _metadata({**settings, "requires": ["undeclared>=1"]})
    members = {**_sources(settings), **_generated(settings, config_settings)}
    made = _write(Path(wheel_directory), settings, members, metadata)
    if "two-wheels" in faults:
        too = {**settings, "name": settings["name"] + "-too"}
        _write(Path(wheel_directory), too, members, _metadata(too))
    print(f"tinybackend: made {made}")
    return made


def get_requires_for_build_editable(config_settings=None):
    return get_requires_for_build_wheel(config_settings)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    from pathlib import Path

    settings = _settings()
    _import_first(settings)
    members = {f"__editable__{_module(settings)}.pth": f"{Path.cwd()}\n".encode()}
    return _write(Path(wheel_directory), settings, members, _metadata(settings))


def prepare_metadata_for_build_editable(metadata_directory, config_settings=None):
    return _prepare_metadata(metadata_directory, config_settings)


def _prepare_metadata(metadata_directory, config_settings=None):
    from pathlib import Path

    settings = _settings()
    _import_first(settings)
    folder = Path(metadata_directory, _dist_info(settings))
    folder.mkdir()
    folder.joinpath("METADATA").write_bytes(_metadata(settings))
    folder.joinpath("WHEEL").write_bytes(_wheel_file(settings))
    print(f"tinybackend: metadata of {settings['name']} {settings['version']}")
    return folder.name


def __getattr__(name):
    hook = "prepare_metadata_for_build_wheel"
    if name == hook and "no-metadata-hook" not in _settings()["faults"]:
        return _prepare_metadata
    raise AttributeError(name)


def _settings():
    found = json.load(open("tinybackend.json", encoding="utf-8"))
    unknown = [
        *(found.keys() - DEFAULTS),
        *(set(found.get("faults", [])) - FAULTS.keys()),
    ]
    if unknown:
        raise ValueError(f"tinybackend.json: unknown {', '.join(sorted(unknown))}")
    for name in found.get("require-env", []):
        os.environ[name]
    version = "{}.{}".format(*sys.version_info)
    return {**DEFAULTS, **found, **found.get("on-python", {}).get(version, {})}


def _import_first(settings):
    for module in settings["import-first"]:
        __import__(module)


def _strike(settings):
    faults = {"raise", "exit", "kill", "sleep"}.intersection(settings["faults"])
    folder = os.environ.get("TINYBACKEND_CACHE")
    pidfile = folder and os.path.join(folder, "pid")
    if not faults or (pidfile and os.path.exists(pidfile)):
        return
    _compiled(settings)
    if pidfile:
        with open(f"{pidfile}.partial", "w", encoding="utf-8") as partial:
            partial.write(str(os.getpid()))
        os.replace(f"{pidfile}.partial", pidfile)
    if "sleep" in faults:
        time.sleep(settings["sleep"])
    if "kill" in faults:
        os.kill(os.getpid(), SIGKILL)
    if "exit" in faults:
        sys.exit(3)
    if "raise" in faults:
        raise RuntimeError("tinybackend was told to raise")


def _module(settings):
    return re.sub(r"[-_.]+", "_", settings["name"]).lower()


def _sources(settings):
    from pathlib import Path

    module = _module(settings)
    found = [Path(f"{module}.py"), *Path(module).rglob("*")]
    found += map(Path, settings["also"])
    return {
        path.as_posix(): path.read_bytes()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def _generated(settings, config_settings):
    asked = {
        "built_against.json": {name: _stamp(name) for name in settings["stamp"]},
        "env.json": {name: os.environ.get(name) for name in settings["env"]},
        "record.json": {
            name: _recorded(name, config_settings) for name in settings["record"]
        },
        "built_at.json": {"time": time.time_ns()} if settings["stamp-time"] else {},
    }
    module = _module(settings)
    written = {
        f"{module}/{name}": json.dumps(value, indent=1, sort_keys=True).encode()
        for name, value in asked.items()
        if value
    }
    return {**written, **_compiled(settings)}


def _stamp(name):
    module = re.sub(r"[-_.]+", "_", name).lower()
    from importlib.metadata import version
    from importlib.util import find_spec

    with open(find_spec(module).origin, encoding="utf-8") as file:
        return {"version": version(name), "content": file.read()}


def _recorded(name, config_settings):
    return {
        "cwd": lambda: os.getcwd(),
        "config-settings": lambda: config_settings,
        "variables": lambda: sorted(os.environ),
    }[name]()


def _compiled(settings):
    if not settings["compile"]:
        return {}
    import subprocess
    import sysconfig
    from pathlib import Path

    module = _module(settings)
    cc = os.environ.get("CC", "cc")
    options = [*os.environ.get("CFLAGS", "").split(), "-c", "-fPIC"]
    include = f"-I{sysconfig.get_path('include')}"
    members = {}
    for source in map(Path, settings["compile"]):
        Path("build").mkdir(exist_ok=True)
        made = Path("build", f"{source.stem}.o")
        if made.exists():
            print(f"tinybackend: {made} is there", flush=True)
        else:
            print(f"tinybackend: compiling {source}", flush=True)
            partial = made.with_suffix(".partial.o")
            command = [cc, *options, include, str(source), "-o", str(partial)]
            subprocess.run(command, check=True)
            partial.replace(made)
        shared = made.with_suffix(".so")
        subprocess.run([cc, "-shared", str(made), "-o", str(shared)], check=True)
        members[f"{module}/{shared.name}"] = shared.read_bytes()
    return members


def _run_compilers(number):
    if not number:
        return
    import subprocess
    import threading
    from concurrent.futures import ThreadPoolExecutor

    script = 'echo + >> "$1"; sleep 0.2; echo - >> "$1"'
    command = ["sh", "-c", script, "sh", os.environ["TINYBACKEND_COUNT"]]
    fifo = os.environ["MAKEFLAGS"].partition("fifo:")[2]
    pipe = os.open(fifo, os.O_RDWR) if fifo else None
    token = threading.Lock()  # what every build has

    def compile():
        is_first = pipe is None or token.acquire(blocking=False)
        found = b"" if is_first else os.read(pipe, 1)
        subprocess.run(command, check=True)
        if pipe is not None and is_first:
            token.release()
        elif found:
            os.write(pipe, found)

    with ThreadPoolExecutor(number if fifo else int(os.environ["MAX_JOBS"])) as pool:
        for _ in range(number):
            pool.submit(compile)


def _tag(settings):
    if settings["tag"]:
        return settings["tag"]
    if not settings["compile"]:
        return "py3-none-any"
    import sysconfig

    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-{python}-{re.sub('[-.]', '_', sysconfig.get_platform())}"


def _dist_info(settings):
    return f"{_module(settings)}-{settings['version']}.dist-info"


def _metadata(settings):
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {settings['name']}",
        f"Version: {settings['version']}",
        *(f"Provides-Extra: {extra}" for extra in settings["extras"]),
        *(f"Requires-Dist: {requirement}" for requirement in settings["requires"]),
    ]
    return ("\n".join(lines) + "\n").encode()


def _wheel_file(settings):
    pure = str(not settings["compile"]).lower()
    return (
        "Wheel-Version: 1.0\nGenerator: tinybackend\n"
        f"Root-Is-Purelib: {pure}\nTag: {_tag(settings)}\n"
    ).encode()


def _write(folder, settings, members, metadata):
    faults = settings["faults"]
    if "wrong-name" in faults:
        settings = {**settings, "name": "not-" + settings["name"]}
        metadata = _metadata(settings)
    if "wrong-version" in faults:
        settings = {**settings, "version": "0.0.0"}
        metadata = _metadata(settings)
    info = _dist_info(settings)
    members = {
        **dict(sorted(members.items())),
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": _wheel_file(settings),
    }
    hashed = {**members, f"{info}/WHEEL": b""} if "bad-record" in faults else members
    lines = [
        f"{name},sha256={_digest(hashed[name])},{len(content)}"
        for name, content in members.items()
    ]
    members[f"{info}/RECORD"] = (
        "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    ).encode()
    made = f"{_module(settings)}-{settings['version']}-{_tag(settings)}.whl"
    if "no-wheel" not in faults:
        import zipfile

        with zipfile.ZipFile(folder / made, "w") as archive:
            for name, content in members.items():
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, content)
    return made


def _digest(content):
    import base64
    import hashlib

    digest = hashlib.sha256(content).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
