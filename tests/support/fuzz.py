"""Inputs that others can have touched, and the code that reads them.

Each kind has sound inputs, which are changed in structure (a value of another kind, a
key that is missing) or as bytes (a part that is missing, twice, or something else).
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import hashlib
import io
import json
import shutil
import tarfile
import warnings
import zipfile
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import tomli_w
from hypothesis import strategies as st
from packaging.markers import default_environment
from packaging.requirements import Requirement

from nox_buildstages.builder.compilers import ninja_log
from nox_buildstages.builder.diagnosis.diagnose import diagnose
from nox_buildstages.builder.diagnosis.situation import Situation
from nox_buildstages.commands.release.provenance import (
    BUILD_TYPE,
    PREDICATE,
    STATEMENT,
)
from nox_buildstages.commands.release.statements import read_statements
from nox_buildstages.commands.shell.changes import load_made
from nox_buildstages.config.cells import arrange_cells
from nox_buildstages.config.lines import find_lines
from nox_buildstages.config.project import read_cells
from nox_buildstages.config.table import PACKAGE, STAGE, TOP
from nox_buildstages.declarations.documents import read_document
from nox_buildstages.declarations.foreign import read_foreign
from nox_buildstages.declarations.settings import Indexes
from nox_buildstages.declarations.uv_keys import find_idle_keys
from nox_buildstages.declarations.uv_lock import find_uv_lock
from nox_buildstages.environments.environment import Environment
from nox_buildstages.environments.packages import find_differences
from nox_buildstages.environments.sync import read_overlaps
from nox_buildstages.errors import BuildStagesError, DeclarationError
from nox_buildstages.lock.files.document import (
    dump_lock,
    is_series_of,
    load_lock,
    with_series,
)
from nox_buildstages.lock.files.selection import select_lock
from nox_buildstages.reader import UnreadableError, parse_toml
from nox_buildstages.run.board import draw_board, draw_line
from nox_buildstages.run.ci import fold
from nox_buildstages.run.events import Event
from nox_buildstages.run.failure import describe_stop
from nox_buildstages.run.journal import Journal
from nox_buildstages.run.log_progress import count_steps, measure_progress
from nox_buildstages.run.state import fold_events
from nox_buildstages.run.summary import render_summary, summarize, summary_markdown
from nox_buildstages.safe_text import escape_html, show_json, show_output
from nox_buildstages.sources.archives import FAILURES, unpack_archive
from nox_buildstages.sources.metadata import (
    computes_version,
    read_build_system,
    read_identity,
    read_static_metadata,
)
from nox_buildstages.store.build_dir import BuildDirectory
from nox_buildstages.store.compiled import parse_compiled
from nox_buildstages.store.key import Ingredient, Recipe, describe_changes
from nox_buildstages.store.listing import read_list
from nox_buildstages.store.store import Store, load_record
from nox_buildstages.value import Value
from nox_buildstages.wheelhouse.manifest import format_manifest, parse_manifest
from nox_buildstages.wheels.compare import compare_wheels
from nox_buildstages.wheels.core_metadata import parse_requires_python
from nox_buildstages.wheels.wheel import (
    compiled_members,
    installed_files,
    libc_versions,
    member_names,
    projects_by_platform,
    read_metadata,
    read_wheel,
    verify_record,
)
from support.packages import make_sdist, make_wheel
from support.targets import interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

Read: TypeAlias = "Callable[[bytes, Path], object]"
"""Reads an input, with a scratch folder of its own."""

EXPECTED = (BuildStagesError, UnreadableError)
"""What reading raises for an input that can't be read; all else is a bug."""

SHA = "ab" * 32


class Kind(Value):
    """A kind of input."""

    name: str
    format: str  # toml, json, jsonl or empty
    seeds: tuple[bytes, ...]
    read: Read


# Strategies --------------------------------------------------------------------------

_DEEP: Any = []
for _ in range(200):
    _DEEP = [_DEEP]

STRANGE: tuple[Any, ...] = (
    *(True, False, 0, 5, -1, 2**63, 2**70, 1.5, 1e300, float("nan"), float("inf")),
    *("", " ", "x", "\0", "a\nb", "\x1b[2J", "../x", "/", "é", "\u202e", "x" * 5000),
    *("{arch}", "{nope}", "3.11", "1.0", "!!", "x @ http://[::1", "file:///x"),
    *("x; python_version > '3'", "x; " + "(" * 200, "(" * 500, "git+https://h/x@y"),
    *([], {}, [[]], [{}], {"a": {}}, ["x", 1], {"": ""}, _DEEP),
)
LIKELY = (
    *("flash-attn = 2.8.3", "numpy>=1 <2", "git@h:x/y", "./lib", "lib/x", "a==1 b"),
    *("a @ ./a.whl", "a @ ./a#sha256=x&egg=b", "a @ ./a#b", "a @ file://host/x"),
    *("a @ h", "a @ ./a#sha256=1&sha256=2", "a @ ./a#subdirectory=../x", "ext", "own"),
    *("3.11t", "3.11.7", "3.11", "c", "1h30min", "9XB", "4GB", "0GB", "c.d", "c-d"),
    *("{env}", "${env}", "{{x}}", "{archh}", "{arch}", "{", "}", "{flash-attn}"),
    *("final", "kernels", "later", "all", "gpu", "test", "nope", "lab", "logs", "8.0"),
    *("8_0", "s3://b", "ftp://b", "7 days", "tomorrow", "require", "off", "auto"),
    *("sys_platform == 'linux'", "extra == 'x'", "https://h/a.tar.gz", "ssh://h/x"),
    *("A=B", "1A", "torch{torch}", "+x", "a b", "lib.tar.gz", "https://u:p@h/x"),
    *("https://u:p@[::1/x", "https://u:p@h:99999/x", "9" * 5000, "a @ 1.0", "a[x]"),
    *("x; python_version > '3'", "x" * 101, "2026-11-01", "2026-13-01", "3.9", "3.12t"),
)
"""Strings that the table gives a meaning in one place or another."""

ALL_LIKELY: tuple[Any, ...] = ([*LIKELY], {it: it for it in LIKELY})
"""All of them at once: readers say what is wrong with each."""

KEYS = (
    *(
        "stage",
        "matrix",
        "python",
        "jobs",
        "setup",
        "env",
        "final",
        "project",
        "extras",
    ),
    *("x", "", "a.b", "\x1b", "outputs", "needs", "requirement", "include", "exclude"),
    *("stages", "own", "ext", "requires-dist", "add", "imports", "constraints", "8.0"),
)

_ONLY_JSON: tuple[Any, ...] = (None, "\ud800")
_ONLY_TOML: tuple[Any, ...] = (
    dt.date(1979, 5, 27),
    dt.time(7, 32),
    dt.datetime(1979, 5, 27, tzinfo=dt.timezone.utc),
)
TOKENS = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"[" * 3000, b'"', b"'''", b"{", b"}"),
    *(b"::error::x\n", b"\x1b[2J", b"9" * 5000, b"NaN", b"a." * 300, b"=", b",", b"\t"),
    *(b"error: ", b"Traceback (most recent call last):\n", b"../", b"x" * 20_000),
)


@dataclass
class Changer:
    """Changes a parsed document in place."""

    draw: Any
    strange: tuple[Any, ...]

    def change(self, document: Any) -> None:  # noqa: ANN401 - JSON or TOML
        """Replace, remove, rename or repeat one value."""
        holder = document
        while True:
            if not holder:
                return
            keys = [*holder] if isinstance(holder, dict) else [*range(len(holder))]
            key = self.draw(st.sampled_from(keys))
            inner = holder[key]
            if not (isinstance(inner, (dict, list)) and inner and self.draw(_deeper)):
                break
            holder = inner
        actions = ("replace", "replace", "likely", "likely", "remove", "add", "copy")
        action = self.draw(st.sampled_from(actions))
        value = deepcopy(self.draw(st.sampled_from(self.strange)))
        if action == "likely":
            value = self.draw(st.sampled_from(LIKELY))
        elif action == "copy":
            value = deepcopy(holder[self.draw(st.sampled_from(keys))])
        if action == "remove":
            del holder[key]
        elif action in ("replace", "likely"):
            holder[key] = value
        elif isinstance(holder, dict):
            holder[self.draw(st.sampled_from(KEYS))] = value
        else:
            holder.append(value)


_deeper = st.sampled_from((True, True, True, True, False))


@st.composite
def structured(draw: Any, kind: Kind) -> bytes:  # noqa: ANN401 - Hypothesis's own
    """Draw an input with changes of its structure."""
    seed = draw(st.sampled_from(kind.seeds))
    count = draw(st.integers(1, 3))
    if kind.format == "toml":
        document = parse_toml(seed)
        changer = Changer(draw, (*STRANGE, *_ONLY_TOML))
        for _ in range(count):
            changer.change(document)
        return tomli_w.dumps(document).encode("utf-8", "surrogatepass")
    changer = Changer(draw, (*STRANGE, *_ONLY_JSON))
    lines = seed.splitlines() if kind.format == "jsonl" else [seed]
    found = []
    for line in lines:
        document = json.loads(line)
        for _ in range(count):
            changer.change(document)
        found.append(json.dumps(document).encode())
    return b"\n".join((*found, b""))


@st.composite
def damaged(draw: Any, kind: Kind) -> bytes:  # noqa: ANN401 - Hypothesis's own
    """Draw an input with changes of its bytes."""
    content: bytes = draw(st.sampled_from(kind.seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from((0, 1, 2, 9, 80, 9999))))
        part = content[start:end]
        new = draw(
            st.one_of(
                st.just(b""),
                st.just(part + part),
                st.sampled_from(TOKENS),
                st.binary(max_size=8),
            )
        )
        content = content[:start] + new + content[end:]
    return content


_NAMES = (
    *("a/y", "a.py", "a-1.0.data/purelib/b.py", "a-1.0.data/scripts/run", "a/x.so"),
    *(
        "../x",
        "/etc/x",
        "a/../../x",
        "",
        ".",
        "a\\b",
        "x" * 300,
        "é",
        "a/\x1b[2J",
        "a/",
    ),
    *("a-1.0.dist-info/METADATA", "a-1.0.dist-info/RECORD", "b-1.dist-info/METADATA"),
    *("a-1.0.dist-info/entry_points.txt", "a-1.0.data/data/lib/x"),
    *(
        "a/",
        "a-1.0/pyproject.toml",
        "a-1.0/PKG-INFO",
        "a-1.0/setup.py",
        "a-1.0/l",
        "a-1.0/m",
    ),
)
_TARGETS = ("m", "../x", "/etc/passwd", "a-1.0/m", "a-1.0/setup.py", "", "l", "é" * 90)
_ENTRY_POINTS = (b"[console_scripts]\nx = a:b\n", b"[gui_scripts]\nx\n", b"[\n")
_METADATA = (
    *(b"Name: a\nVersion: 1.0\n", b"Name: b\nVersion: 1.0\n", b"Name: a\n", b"\xff"),
    b"Metadata-Version: 2.1\nName: a\nVersion: !\nRequires-Dist: (\n",
)


@st.composite
def wheel_files(draw: Any) -> bytes:  # noqa: ANN401 - Hypothesis's own
    """Draw a zip file with members as in a wheel, and odd ones."""
    info = "a-1.0.dist-info"
    names = [draw(st.sampled_from(_NAMES)) for _ in range(draw(st.integers(0, 4)))]
    contents = st.one_of(st.binary(max_size=9), st.sampled_from(_ENTRY_POINTS))
    members = [(name, draw(contents)) for name in names]
    members.append((f"{info}/METADATA", draw(st.sampled_from(_METADATA))))
    tag = draw(st.sampled_from((b"Tag: py3-none-any\n", b"", b"Tag: x\n", b"\xff\xfe")))
    members.append((f"{info}/WHEEL", b"Wheel-Version: 1.0\n" + tag))
    rows = []
    for name, content in members:
        kind = draw(st.sampled_from(("sha256", "sha256", "sha256", "md5", "sha9", "")))
        digest = hashlib.sha256(content).digest()
        text = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        size = draw(st.sampled_from((len(content), "", "x", -1)))
        rows.append([name, kind and f"{kind}={text}", size])
    rows.append([f"{info}/RECORD", "", ""])
    rows += draw(st.lists(st.lists(st.sampled_from(_NAMES), max_size=4), max_size=1))
    record = io.StringIO()
    csv.writer(record).writerows(rows)
    if draw(_deeper):
        members.append((f"{info}/RECORD", record.getvalue().encode()))
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, content in members:
            entry = zipfile.ZipInfo(name)
            mode = draw(st.sampled_from((0o100644, 0o100755, 0o120777, 0o010644, 0)))
            entry.external_attr = (mode if name in _NAMES else 0) << 16
            entry.compress_type = draw(st.sampled_from((0, 8, 12, 14)))
            archive.writestr(entry, content)
    return stream.getvalue()


@st.composite
def tar_files(draw: Any) -> bytes:  # noqa: ANN401 - Hypothesis's own
    """Draw a tar file with members as in an sdist, and odd ones."""
    stream = io.BytesIO()
    mode = draw(st.sampled_from(("w:gz", "w", "w:xz", "w:bz2")))
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for _ in range(draw(st.integers(0, 5))):
            member = tarfile.TarInfo(draw(st.sampled_from(_NAMES)))
            kinds = (b"0", b"0", b"0", b"5", b"2", b"1", b"6", b"3", b"7", b"Z")
            member.type = draw(st.sampled_from(kinds))
            member.linkname = draw(st.sampled_from(_TARGETS))
            member.mode = draw(st.sampled_from((0o644, 0o755, 0o4777, 0)))
            member.mtime = draw(st.sampled_from((0, -1, 2**33, 1000)))
            content = draw(st.sampled_from((*_METADATA, SOURCE_TABLE, b"")))
            member.size = len(content) if member.type == b"0" else 0
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def inputs(kind: Kind) -> st.SearchStrategy[bytes]:
    """Return the strategy for a kind."""
    changed = [damaged(kind)] + ([structured(kind)] * 3 if kind.format else [])
    made = {"wheel": [wheel_files()] * 3, "sdist": [tar_files(), tar_files()]}
    made["sdist"].append(wheel_files())  # as a zip file
    return st.one_of(*changed, *made.get(kind.name, []))


def swept(kind: Kind, chance: Random) -> Iterator[bytes]:
    """Yield inputs in each of which one value is another, in a random order.

    The first have all likely strings in one place.
    """
    if kind.format not in ("toml", "json"):
        return
    is_toml = kind.format == "toml"
    documents = [parse_toml(it) if is_toml else json.loads(it) for it in kind.seeds]
    places = [
        (number, *place)
        for number, document in enumerate(documents)
        for place in _places(document)
    ]
    chance.shuffle(places)
    single = [
        *product(places, (*LIKELY, *STRANGE, *(_ONLY_TOML if is_toml else _ONLY_JSON)))
    ]
    chance.shuffle(single)
    for (number, *place), value in (*product(places, ALL_LIKELY), *single):
        document = holder = deepcopy(documents[number])
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = value
        if is_toml:
            yield tomli_w.dumps(document).encode("utf-8", "surrogatepass")
        else:
            yield json.dumps(document).encode()


def _places(holder: Any) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON or TOML
    """Yield the keys that lead to each value of a document."""
    keys = [*holder] if isinstance(holder, dict) else [*range(len(holder))]
    for key in keys:
        yield (key,)
        if isinstance(holder[key], (dict, list)):
            yield from ((key, *it) for it in _places(holder[key]))


# Readers -----------------------------------------------------------------------------


def _read_table(content: bytes, scratch: Path) -> None:
    path = scratch / "pyproject.toml"
    path.write_bytes(content)
    try:
        document = read_document(path)
        cells = arrange_cells(
            read_cells(document, pyproject=path, may_lack_stages=True)
        )
        for project in cells.projects:
            [*find_idle_keys(project.uv)]
            indexes = Indexes(
                root=scratch, settings=project.uv, logins=project.logins, outer={}
            )
            indexes.credentials().login_for("https://h/x")
            repr((indexes.uv_variables(), indexes.download_settings(), indexes.urls))
        (scratch / "requirements.txt").write_text("a==1\n", "utf-8")
        (scratch / "x.txt").write_text("b\n", "utf-8")
        with suppress(OSError):
            read_foreign(document, scratch, {})
    except DeclarationError as error:
        [*error.lines(colour=True)]
        with suppress(UnreadableError):
            find_lines(content.decode("utf-8", "replace"))
        raise


def _read_uv_toml(content: bytes, scratch: Path) -> None:
    (scratch / "uv.toml").write_bytes(content)
    _read_table(MEMBER, scratch)


def _read_workspace(content: bytes, scratch: Path) -> None:
    for name, text in (("own", MEMBER), ("ext", content), ("two", SOURCE_TABLE)):
        folder = scratch / "packages" / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_bytes(text)
    (scratch / "pyproject.toml").write_bytes(content)
    _read_table(MEMBER, scratch / "packages/own")


def _read_lock(content: bytes, scratch: Path) -> None:
    del scratch
    lock = load_lock(content.decode("utf-8", "replace"), name="kernels")
    is_series_of([dump_lock(it) for it in with_series([lock])])
    select_lock(lock, interpreter())


def _read_uv_lock(content: bytes, scratch: Path) -> None:
    path = scratch / "uv.lock"
    path.write_bytes(content)
    # Locking prints why the file isn't used.
    with suppress(AttributeError, LookupError, TypeError, ValueError):
        found = find_uv_lock(scratch)
        if found is not None:
            wanted = [Requirement("a[x]"), Requirement("b")]
            found.select(wanted, default_environment(), extras=["x"], groups=["g"])


def _read_record(content: bytes, scratch: Path) -> None:
    wheel = load_record(content, scratch)
    if wheel is not None:
        describe_changes(wheel.recipe, RECIPE)
        repr((wheel.compiled, wheel.facts, wheel.key, wheel.to_build()))


def _read_manifest(content: bytes, scratch: Path) -> None:
    del scratch
    manifest = parse_manifest(content)
    format_manifest(manifest)
    [*manifest.files()]


def _read_statement(content: bytes, scratch: Path) -> None:
    path = scratch / "statement.json"
    path.write_bytes(content)
    for statement in read_statements(path):
        statement.find_differences(RECIPE)


def _read_notes(content: bytes, scratch: Path) -> None:
    store = Store(scratch)
    build_dir = BuildDirectory(scratch)
    environment = Environment(location=scratch, bin=scratch, python=scratch)
    packages = scratch / "lib/python3.11/site-packages/a-1.dist-info"
    for name in (
        *("state.json", "failed.json", "made.json", "memory", "compiled", "stop"),
        *("lists/wheels.json", "nox-buildstages.json", "nox-buildstages-overlaps.json"),
    ):
        path = scratch / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content)
    packages.mkdir(parents=True)
    build_dir.partial_build(scratch)
    build_dir.failed_build()
    build_dir.shorten()("/x/y")
    build_dir.read_memory(1)
    load_made(build_dir.made)
    read_list(store)
    read_overlaps(environment)
    wanted = {"a": Ingredient(version="1", sha256=SHA)}
    find_differences(environment, wanted)


def _read_journal(content: bytes, scratch: Path) -> None:
    path = scratch / "journal"
    path.write_bytes(content)
    events = Journal(path).events()
    for it in events:
        Event.from_line(it.to_line())
        repr((it.is_work, it.subject))
    state = fold_events(events)
    draw_board(state, 2000.0, columns=80, colour=True)
    draw_line(state, 2000.0, columns=80, process=7)
    entries = [
        {**it.facts, "name": it.output, "stage": it.stage, "status": it.state}
        for it in events
        if it.step == "output"
    ]
    summary = summarize(entries, events, now=2000.0)
    [*render_summary(summary, colour=True), *summary_markdown(summary)]
    describe_stop(events, "nox", now=2000.0)


def _read_wheel(content: bytes, scratch: Path) -> None:
    path = scratch / "a-1.0-py3-none-any.whl"
    path.write_bytes(content)
    for read in (installed_files, compiled_members, member_names, read_metadata):
        with suppress(*EXPECTED):
            read(path)
    wheel = read_wheel(path)
    [*libc_versions(wheel.tags), *projects_by_platform([path.name])]
    parse_requires_python(read_metadata(path))
    compare_wheels(path, path)
    verify_record(path)


def _read_sdist(content: bytes, scratch: Path) -> None:
    path = scratch / ("a-1.0.zip" if content[:2] == b"PK" else "a-1.0.tar.gz")
    path.write_bytes(content)
    target = scratch / "out"
    target.mkdir()
    try:
        unpack_archive(path, target)
    except FAILURES as error:  # which callers expect
        raise UnreadableError(str(error)) from error
    tree = next((it for it in target.iterdir() if it.is_dir()), target)
    _read_tree(tree)


def _read_tree(tree: Path) -> None:
    for read in (read_identity, read_static_metadata, computes_version):
        with suppress(BuildStagesError):
            read(tree)
    read_build_system(tree)


def _read_source_table(content: bytes, scratch: Path) -> None:
    (scratch / "pyproject.toml").write_bytes(content)
    _read_tree(scratch)


def _read_pkg_info(content: bytes, scratch: Path) -> None:
    (scratch / "PKG-INFO").write_bytes(content)
    _read_tree(scratch)


def _read_log(content: bytes, scratch: Path) -> None:
    path = scratch / "log"
    path.write_bytes(content)
    lines = content.decode("utf-8", "replace").splitlines()
    found = diagnose(path, 0, "exit status 1", Situation(output="a", stage="s"))
    error = BuildStagesError(problem="x", details=found.lines, hint=found.hint.text)
    [*error.lines(colour=True)]
    str(measure_progress(count_steps(lines), None))
    [*fold("a", lines, {"GITHUB_ACTIONS": "1"}), *fold("a", lines, {})]
    for line in lines:
        escape_html(show_output(line))
        show_json(line)
    ninja_log.read_log(lines)
    ninja_log.read_sources("\n".join(lines))
    [*parse_compiled(lines, str)]


def _read_declarations(content: bytes, scratch: Path) -> None:
    for name in ("requirements.txt", "setup.cfg", "pixi.toml"):
        (scratch / name).write_bytes(content)
        with suppress(OSError, *EXPECTED):
            read_foreign({}, scratch, {"HOME": "/h"})
        (scratch / name).unlink()


# Sound inputs ------------------------------------------------------------------------

RECIPE = Recipe(
    name="a",
    version="1.0",
    source=f"sha256:{SHA}",
    environment={"torch": Ingredient(version="2", sha256=SHA, stage="s")},
    env={"ARCH": "8.0"},
    config_settings={"x": ("y", "z"), "k": "v"},
    interpreter={"version": "3.11.7"},
    tools={"cc": "12"},
)


OTHER_TABLE = b"""
[build-system]
requires = ["hatchling"]
[project]
name = "own"
version = "1"
requires-python = ">=3.9"
dynamic = ["dependencies", "optional-dependencies"]
[project.optional-dependencies]
[dependency-groups]
docs = ["sphinx"]
[tool.nox-buildstages]
python = ["3.11"]
exclude-newer = 2026-01-01T00:00:00Z
compiler-cache = "auto"
remote-store = "../store"
stage = [{ name = "one", outputs = ["own-lib @ ./lib.tar.gz"], jobs = 2 }]
[tool.nox-buildstages.package.own-lib]
build-requires.add = ["x"]
metadata = { requires-dist = ["q>1"] }
patches = ["a.patch"]
local-version = "cu{torch}"
[tool.nox-buildstages.final]
project = true
requirements = ["own-lib", "q[x]>=1; python_version > '3'"]
imports = ["own"]
[tool.nox-buildstages.matrix]
include = [{ cuda = "12" }]
[tool.uv]
override-dependencies = ["x==1"]
exclude-dependencies = ["y"]
no-binary-package = ["z"]
index = [{ name = "a", url = "https://h/simple", default = true }]
extra-build-variables = { own-lib = { A = "1" } }
config-settings = { a = "b" }
no-build-isolation-package = ["x"]
[tool.uv.pip]
no-binary = ["q"]
[tool.poetry]
name = "own"
[tool.poetry.dependencies]
python = "^3.9"
a = ">=1,<2"
b = "^0.2.3"
c = "~1"
d = "1.*"
e = { git = "https://h/e", branch = "x" }
f = { path = "../f", develop = true }
g = { url = "https://h/g.whl", markers = "python_version > '3'", optional = true }
h = [{ version = "1", python = "<3.10" }, { version = "2", python = ">=3.10" }]
[tool.poetry.extras]
x = ["g"]
[tool.poetry.group.dev.dependencies]
pytest = "*"
[tool.pdm]
dev-dependencies = { test = ["a", "-e file:///x#egg=y"] }
[tool.pdm.resolution]
overrides = { q = "1.0" }
[tool.pixi.pypi-dependencies]
q = { version = ">=1", extras = ["x"] }
r = "*"
s = { git = "https://h/s" }
[tool.pixi.feature.f.pypi-dependencies]
t = { path = "t", editable = true }
[tool.pixi.dependencies]
cuda = "*"
[tool.setuptools.dynamic]
dependencies = { file = ["requirements.txt"] }
optional-dependencies = { x = { file = ["x.txt"] } }
"""


SMALL_TABLES = (
    b"""
[[tool.nox-buildstages.stage]]
name = "one"
outputs = ["a==1", "b @ ./b", "c @ git+https://h/c", "d @ https://h/d.tar.gz"]
dependencies = ["torch"]
needs = []
env = { A = "1" }
pass-env = ["B"]
tools = ["cc"]
jobs = 2
memory-per-job = "4GB"
timeout = "5h"
network = true
compiler-cache = "ccache"
[tool.nox-buildstages.final]
requirements = ["a", "b"]
imports = ["a"]
checks = [["python"]]
""",
    b"""
[tool.nox-buildstages]
python = ["3.11", "3.12"]
stage = [{ name = "one", outputs = ["a"], env = { ARCH = "{arch}" } }]
final = { requirements = ["a"], checks = [["x", "{arch}"]] }
[tool.nox-buildstages.matrix]
include = [{ arch = "12.0", torch = "2.2", python = "3.12" }]
exclude = [{ arch = "8.0", torch = "2.1" }]
[tool.nox-buildstages.matrix.arch]
"8.0" = { constraints = ["f==1.*"], requirements = ["g"], env = { X = "{arch}" } }
"9.0" = { machine = "x86_64", runs-on = "x", container = "y", setup = "z" }
[tool.nox-buildstages.matrix.torch]
"2.1" = { extras = ["gpu"], groups = ["test"], index = "lab" }
"2.2" = {}
[tool.uv]
index = [{ name = "lab", url = "https://h/s", explicit = true }]
sources = { f = { index = "lab" }, g = [{ index = "lab" }] }
[project]
name = "own"
version = "1"
[project.optional-dependencies]
gpu = ["b", "own[all]"]
all = ["own[gpu]"]
[dependency-groups]
test = ["c", { include-group = "d" }]
d = ["e"]
""",
    b"""
[project]
name = "own"
version = "1"
requires-python = ">=3.9"
dependencies = ["a", "own[x]; python_version > '3'"]
dynamic = ["readme"]
[project.optional-dependencies]
x = ["q"]
[tool.nox-buildstages]
constraints = ["n<2"]
remote-store = { url = "s3://b", write = true }
exclude-newer = "7 days"
environments = ["sys_platform == 'darwin'"]
match-runtime = ["torch"]
stage = [{ name = "one", outputs = ["a", "own-lib"] }]
[tool.nox-buildstages.package.a]
build-requires = { add = ["w"], remove = ["t"] }
config-settings = { k = "v", l = ["w"] }
env = { A = "{env}/x" }
metadata = { requires-dist = ["q"] }
patches = ["p.patch"]
local-version = "t{torch}"
unused = true
[tool.nox-buildstages.package.own]
build-requires = { add = ["w"] }
[tool.nox-buildstages.final]
extras = ["x"]
project = true
""",
)


def _dump(value: object) -> bytes:
    return json.dumps(value).encode()


def _whole_table() -> bytes:
    """Return a table with the example of each key."""
    lines = ['[project]\nname = "own"\nversion = "1"\ndependencies = ["ext"]']
    lines += ['[project.optional-dependencies]\ngpu = ["b"]\n[dependency-groups]']
    lines += ['test = ["c", { include-group = "d" }]\nd = ["e"]']
    for title, keys in (
        ("[tool.nox-buildstages]", TOP),
        ("[[tool.nox-buildstages.stage]]", STAGE),
        ('[tool.nox-buildstages.package."flash-attn"]', PACKAGE),
    ):
        lines.append(title)
        for key in keys.values():
            with suppress(ValueError):
                is_own = key.example.partition(" ")[0] in ("needs", "final", "matrix")
                if parse_toml(key.example) and "\n" not in key.example and not is_own:
                    lines.append(key.example)
    text = "\n".join(lines)
    text += """
[[tool.nox-buildstages.stage]]
name = "later"
outputs = ["ext", "git-one @ git+https://h/x@main#subdirectory=y"]
needs = ["kernels"]
env = { ARCH = "{arch}", HOME = "{env}/x" }
jobs = "auto"
network = "require-off"
[tool.nox-buildstages.final]
requirements = ["ext", "flash-attn"]
extras = ["gpu"]
groups = ["test"]
project = false
imports = ["a.b"]
checks = [["python", "-c", "1"]]
[tool.nox-buildstages.matrix.arch]
"8.0" = { constraints = ["f==1.*"], index = "lab", env = { X = "{arch}" } }
"9.0" = { runs-on = ["self-hosted", "gpu"], container = "x", setup = "y" }
[tool.nox-buildstages.matrix]
torch = ["2.1", "2.2"]
include = [{ arch = "12.0", torch = "2.2", python = "3.12" }]
exclude = [{ arch = "8.0", torch = "2.1" }]
[[tool.uv.index]]
name = "lab"
url = "https://example.org/simple"
explicit = true
[tool.uv]
find-links = ["links"]
conflicts = [[{ extra = "a" }, { extra = "b" }]]
dev-dependencies = ["x"]
constraint-dependencies = ["n<2"]
exclude-newer-package = { x = "7 days" }
dependency-metadata = [{ name = "m", version = "1", requires-dist = ["q"] }]
extra-build-dependencies = { ext = ["w", { requirement = "z", match-runtime = true }] }
config-settings-package = { ext = { a = ["b"] } }
[tool.uv.sources]
ext = { path = "ext" }
two = [{ index = "lab", extra = "gpu" }, { git = "https://h/x", rev = "1" }]
[tool.uv.workspace]
members = ["packages/*"]
[tool.poetry.dependencies]
python = "^3.9"
requests = { version = "~2.1", extras = ["socks"] }
[tool.pdm.dev-dependencies]
x = ["-e file:///x#egg=y"]
[tool.pixi.pypi-dependencies]
q = { version = "*" }
[tool.setuptools.dynamic]
dependencies = { file = ["requirements.txt"] }
"""
    return text.encode()


MEMBER = b"""
[project]
name = "own"
version = "1"
dependencies = ["ext[x]", "two; python_version > '3'"]
[project.optional-dependencies]
gpu = ["ext[y]"]
[tool.nox-buildstages.final]
requirements = ["ext"]
[[tool.nox-buildstages.stage]]
name = "one"
outputs = ["ext"]
[tool.uv]
dev-dependencies = ["z"]
[tool.uv.sources]
ext = { path = "../ext", extra = "gpu" }
two = { path = "../two" }
"""

UV_TOML = b"""
find-links = ["links", "https://h/l"]
extra-index-url = ["https://h/e"]
index-url = "https://h/i"
cache-dir = "cache"
constraint-dependencies = ["ignored"]
index = [{ name = "lab", url = "simple", explicit = true }]
no-binary-package = ["q"]
exclude-newer-package = { x = "7 days" }
[pip]
no-binary = ["q"]
find-links = ["more"]
"""

WORKSPACE = b"""
[project]
name = "ext"
version = "1"
dependencies = ["two"]
[project.optional-dependencies]
x = ["three"]
[tool.uv]
find-links = ["links"]
index-url = "https://h/i"
dev-dependencies = ["z"]
conflicts = [[{ extra = "a" }, { extra = "b" }]]
index = [{ name = "lab", url = "simple" }]
[tool.uv.pip]
extra-index-url = ["https://h/e"]
[tool.uv.workspace]
members = ["packages/*"]
exclude = ["packages/no"]
[tool.uv.sources]
ext = { workspace = true }
two = [{ path = "two", extra = "x" }, { index = "lab", group = "g" }]
three = { git = "https://h/3", rev = "1" }
"""

LOCK = f"""
lock-version = "1.0"
created-by = "nox-buildstages"
requires-python = ">=3.9"
environments = ["sys_platform == 'linux'"]
[[packages]]
name = "b"
version = "1.0"
[[packages.wheels]]
url = "https://h/b-1.0-py3-none-any.whl"
hashes = {{ sha256 = "{SHA}" }}
[[packages]]
name = "m"
version = "1.0"
directory = {{ path = "m" }}
[packages.tool.nox-buildstages]
stage = "models"
[tool.nox-buildstages]
format = 1
inputs = "sha256:{SHA}"
series = "1"
exclude-newer = "2026-01-01T00:00:00Z"
declared = {{ "stage x: env" = "12345678" }}
[[tool.nox-buildstages.outputs]]
name = "a"
version = "1.0"
source = {{ url = "https://h/a-1.0.tar.gz", sha256 = "{SHA}" }}
build-requires = ["setuptools"]
metadata = "static"
requires-dist = ["b>=1; python_version > '3'"]
requires-python = ">=3.9"
provides-extra = ["x"]
marker = "sys_platform == 'linux'"
asked-on = ["sys_platform == 'linux'"]
[[tool.nox-buildstages.outputs]]
name = "g"
version = "1.0"
source = {{ git = "https://h/g", commit = "{SHA[:40]}", revision = "v1" }}
build-requires = []
metadata = "hook"
requires-dist = []
"""

UV_LOCK = b"""
version = 1
requires-python = ">=3.9"
[[package]]
name = "own"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "a", extra = ["x"], marker = "python_version > '3'" }]
[[package]]
name = "a"
version = "1.0"
source = { registry = "https://h/simple" }
dependencies = [{ name = "b" }]
sdist = { url = "https://h/a-1.0.tar.gz", hash = "sha256:ab" }
resolution-markers = ["python_version > '3'"]
[[package]]
name = "b"
version = "2"
source = { git = "https://h/b#abc" }
"""

RECORD = {
    "format": 1,
    "wheel": "a-1.0-py3-none-any.whl",
    "sha256": SHA,
    "size": 10,
    "seconds": 1.5,
    "run": "7-x",
    "recipe": RECIPE.to_dict(),
    "tree-size": 5,
    "memory": {"process": 5, "build": 9, "jobs": 2, "killed": {"jobs": 1, "free": 3}},
    "compiled": {
        "count": 1,
        "seconds": 2.0,
        "jobs": 1,
        "slowest": [{"file": "a.c", "seconds": 1, "memory": 5, "architectures": []}],
    },
}

PROVENANCE = {
    "_type": STATEMENT,
    "subject": [{"name": "a-1.0-py3-none-any.whl", "digest": {"sha256": SHA}}],
    "predicateType": PREDICATE,
    "predicate": {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "output": "a",
                "version": "1.0",
                "config-settings": {"one": "x", "more": ["y"]},
                "env": {"X": "1"},
                "pass-env": {"TOKEN": ""},
                "network": False,
                "sandbox": True,
            },
            "internalParameters": {"key": SHA, "interpreter": {}, "tools": {"cc": "1"}},
            "resolvedDependencies": [
                {
                    "name": name,
                    "digest": {"sha256": SHA},
                    "annotations": {"kind": kind, "version": "1", "subdirectory": "x"},
                }
                for name, kind in (("a", "source"), ("b", "build-dependency"))
            ],
        },
        "runDetails": {
            "byproducts": [
                {"name": "b-1.0-py3-none-any.whl", "digest": {"sha256": SHA}}
            ]
        },
    },
}

MANIFEST = {
    "format": 1,
    "wheels": [
        {
            "name": "a",
            "version": "1.0",
            "file": "a-1.0-py3-none-any.whl",
            "stage": "s",
            "key": SHA,
            "sha256": SHA,
            "status": "built",
            "source": "x",
            "log": "logs/a.log",
            "size": 5,
            "seconds": 1.5,
            "environment": {"torch": "2"},
        }
    ],
    "merged": {"x.json": SHA},
    "run": {"state": "done", "outputs": [{"seconds": 1}]},
}

NOTES = (
    {
        "format": 2,
        "environment": "/e",
        "project": "source/a",
        "time": 5,
        "open": ["a.o"],
        "spent": 1.5,
    },
    {"output": "a", "environment": "/e", "project": "source"},
    {"a": {SHA: 5}},
    {"a": [SHA, SHA]},
    [{"winner": "a", "loser": "b", "paths": ["x/y"]}],
    {"a.c": [1, 2, 3], "b.c": None},
)

_PLACE = {"session": "build-stage-s", "process": 7, "stage": "s", "python": "3.11"}
_OUTPUT = {**_PLACE, "output": "a", "version": "1.0"}
JOURNAL: tuple[dict[str, Any], ...] = (
    {"step": "run", "state": "begun", "time": 1000.0, "facts": {"sessions": ["x"]}},
    {"step": "stage", "state": "begun", "time": 1001.0, **_PLACE},
    {
        "step": "output",
        "state": "planned",
        "time": 1001.0,
        **_OUTPUT,
        "facts": {"expected": 60.0, "needs": ["b"], "is_stored": False},
    },
    {"step": "output", "state": "begun", "time": 1002.0, **_OUTPUT},
    {
        "step": "compile",
        "state": "begun",
        "time": 1003.0,
        **_OUTPUT,
        "facts": {"jobs": 2, "log": "logs/a.log", "resumed": True},
    },
    {
        "step": "output",
        "state": "built",
        "time": 1009.0,
        **_OUTPUT,
        "facts": {
            "seconds": 6.0,
            "size": 500,
            "reasons": ["env X"],
            "key": SHA,
            "memory": {"process": 10**10, "build": 2 * 10**10, "jobs": 2},
            "slowest": [{"file": "a.c", "seconds": 1, "architectures": ["sm_80"]}],
            "compared": {"key": SHA, "seconds": 1, "size": 5, "built": 900.5},
        },
    },
    {
        "step": "install",
        "state": "ended",
        "time": 1010.0,
        **_PLACE,
        "facts": {"packages": 3, "installed": 1},
    },
    {
        "step": "import",
        "state": "failed",
        "time": 1010.0,
        **_PLACE,
        "facts": {"modules": ["a"], "problem": "x", "message": ["y"]},
    },
    {"step": "wait", "state": "begun", "time": 1011.0, "facts": {"reason": "x"}},
)

LOG = b"""[1/9] Building CXX object a.o
FAILED: a.o
a.c:4:28: error: 'x' undeclared (first use in this function)
    4 |     return x;
      |            ^
1 error generated.
Traceback (most recent call last):
  File "setup.py", line 1, in <module>
ModuleNotFoundError: No module named 'torch'
c++: fatal error: Killed signal terminated program cc1plus
error[E0425]: cannot find value `y` in this scope
# ninja log v5
1\t20\t5\ta.o\tabc
1.5\t2.5\t100\t-O2 code=sm_80\ta.c
"""

PKG_INFO = b"""Metadata-Version: 2.2
Name: a
Version: 1.0
Requires-Dist: b>=1; python_version > "3"
Requires-Python: >=3.9
Provides-Extra: x
Dynamic: license
"""

SOURCE_TABLE = b"""
[build-system]
requires = ["setuptools>=61; python_version > '3'"]
build-backend = "x.y"
backend-path = ["."]
[project]
name = "a"
version = "1.0"
dependencies = ["b"]
requires-python = ">=3.9"
dynamic = ["readme"]
[project.optional-dependencies]
x = ["c; python_version > '3'"]
"""

REQUIREMENTS = b"""
-r other.txt
a==1.0 \\
  --hash=sha256:ab
b @ https://h/b.whl ; python_version > "3"
-e ./x#egg=y
${HOME}/z
[options]
install_requires =
  c
  d>=1
[pypi-dependencies]
q = "*"
"""


def make_kinds(scratch: Path) -> tuple[Kind, ...]:
    """Return all kinds; a scratch folder is for the packages among the inputs."""
    wheel = make_wheel(scratch, "a", "1.0", files={"a/x.so": b"\x7fELF", "a/y": "z"})
    sdist = make_sdist(scratch, "a", "1.0")
    zipped = shutil.make_archive(str(scratch / "z"), "zip", scratch, wheel.name)
    return tuple(
        Kind(name=name, format=form, seeds=seeds, read=read)
        for name, form, seeds, read in (
            (
                "table",
                "toml",
                (*SMALL_TABLES, _whole_table(), OTHER_TABLE),
                _read_table,
            ),
            ("uv.toml", "toml", (UV_TOML,), _read_uv_toml),
            ("workspace", "toml", (WORKSPACE,), _read_workspace),
            ("lock file", "toml", (LOCK.encode(),), _read_lock),
            ("uv.lock", "toml", (UV_LOCK,), _read_uv_lock),
            ("other tools", "", (REQUIREMENTS,), _read_declarations),
            ("record", "json", (_dump(RECORD),), _read_record),
            ("manifest", "json", (_dump(MANIFEST),), _read_manifest),
            ("statement", "json", (_dump(PROVENANCE),), _read_statement),
            ("note", "json", (*map(_dump, NOTES),), _read_notes),
            ("journal", "jsonl", (b"\n".join(map(_dump, JOURNAL)),), _read_journal),
            ("wheel", "", (wheel.read_bytes(),), _read_wheel),
            ("sdist", "", (sdist.read_bytes(), _read(zipped)), _read_sdist),
            ("source", "toml", (SOURCE_TABLE,), _read_source_table),
            ("PKG-INFO", "", (PKG_INFO,), _read_pkg_info),
            ("log", "", (LOG,), _read_log),
        )
    )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a text
        return file.read()
