"""A store behind the store: what it gives, what it takes, and when it is away."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from nox_buildstages.errors import UsageError, WheelError
from nox_buildstages.model import Final, Project, RemoteStore
from nox_buildstages.store.key import Ingredient, Recipe, digest_values, seal_values
from nox_buildstages.store.memory import BuildMemory
from nox_buildstages.store.remote import Remote, choose_remote_store
from nox_buildstages.store.store import Store
from nox_buildstages.system.machine import libc
from nox_buildstages.value import replace
from support.packages import make_wheel
from support.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nox_buildstages.store.store import StoredWheel

RECIPE = Recipe(
    name="some-package",
    version="1.0",
    source="sha256:aa",
    environment={"torch": Ingredient(version="2.13.0", sha256="bb")},
    env={},
    config_settings={},
    interpreter={"version": "3.11.7"},
    tools={},
)
WHEEL = "some_package-1.0-py3-none-any.whl"
URL = "NOX_BUILDSTAGES_REMOTE_STORE"
WRITE = "NOX_BUILDSTAGES_REMOTE_STORE_WRITE"
MEMORY = BuildMemory(process=10**9, build=2 * 10**9, jobs=2)


@dataclass(kw_only=True)
class Machine:
    """One with a store of its own, and a way to what all share."""

    root: Path
    url: str
    write: bool = False
    run: str = "run-1"
    timeout: float = 30.0
    said: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """Its own."""
        return Store(self.root / "store")

    def remote(self) -> Remote:
        """Return the one that is shared, as a session would open it."""
        return Remote(
            declared=RemoteStore(url=self.url, write=self.write),
            store=self.store,
            report=self.said.append,
            run=self.run,
            timeout=self.timeout,
        )

    def build(
        self,
        content: str = "x = 1\n",
        recipe: Recipe = RECIPE,
        passed: Mapping[str, str] = MappingProxyType({}),
    ) -> StoredWheel:
        """Put a wheel into its own store, and share it."""
        files = {"some_package.py": content}
        wheel = make_wheel(self.root / "built", "some-package", "1.0", files=files)
        log = self.root / "built" / "log"
        log.write_text("made it\n")
        entry = self.store.put(
            recipe,
            wheel,
            log=log,
            seconds=2.0,
            run=self.run,
            tree_size=7,
            memory=MEMORY,
        )
        self.remote().put(entry, passed)
        return entry

    def fetch(self) -> StoredWheel | None:
        """Fetch what the recipe makes."""
        return self.remote().fetch(RECIPE)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def builder(tmp_path: Path, shared: Path) -> Machine:
    """Return a machine that may write."""
    return Machine(root=tmp_path / "builder", url=str(shared), write=True)


@pytest.fixture
def reader(tmp_path: Path, shared: Path) -> Machine:
    """Return another machine, in another run of nox, that may not."""
    return Machine(root=tmp_path / "reader", url=str(shared), run="run-2")


def test_a_wheel_that_cannot_be_installed_is_not_taken(
    builder: Machine, reader: Machine
) -> None:
    """Whoever has put it there; the reason is shown, and the output is built."""

    def refuse(_wheel: Path) -> None:
        raise WheelError(problem="uv refuses to install it: too odd")

    builder.build()
    assert reader.remote().fetch(RECIPE, check=refuse) is None
    assert reader.store.find(RECIPE.key) is None
    (line,) = reader.said
    assert "isn't used: uv refuses to install it: too odd; building it" in line
    assert reader.fetch() is not None


def record(shared: Path) -> Path:
    return shared / "wheels" / libc() / RECIPE.key / "record.json"


def wheel(shared: Path) -> Path:
    (found,) = shared.glob(f"wheels/{libc()}/{RECIPE.key}/*/{WHEEL}")
    return found


def timeless(machine: Machine) -> list[str]:
    return [re.sub(r"\d+\.\d s$", "… s", line) for line in machine.said]


def scratch(machine: Machine) -> list[Path]:
    return [*machine.root.glob("store/builds/*"), *machine.root.glob("store/*/.new-*")]


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}"])
def test_what_one_puts_another_fetches(
    builder: Machine, reader: Machine, shared: Path, form: str
) -> None:
    """With its log, and all that is known of it, from a path or a URL."""
    builder.url = reader.url = form.format(shared)
    put = builder.build()
    fetched = reader.fetch()
    assert fetched == reader.store.find(RECIPE.key)
    assert fetched is not None
    assert fetched.recipe == put.recipe
    assert (fetched.run, fetched.seconds) == ("run-1", 2.0)
    assert (fetched.memory, fetched.tree_size) == (MEMORY, 7)
    assert fetched.path.is_relative_to(reader.root)
    assert fetched.path.read_bytes() == put.path.read_bytes()
    assert fetched.log.read_text() == "made it\n"
    assert timeless(builder) == [f"put {WHEEL} into {builder.url} in … s"]
    assert timeless(reader) == [f"fetched {WHEEL} from {reader.url} in … s"]
    assert scratch(reader) == []


PASSED = {"TOKEN": "hunter2-of-the-project"}


def passing(machine: Machine) -> Recipe:
    sealed = seal_values(PASSED, machine.store.salt)
    return replace(RECIPE, passed=sealed, passed_digest=digest_values(PASSED))


@pytest.mark.parametrize("form", ["{}", "memory:/{}"])
def test_each_store_has_a_salt_of_its_own(
    builder: Machine, reader: Machine, shared: Path, form: str
) -> None:
    """Two machines put wheels of two versions: who compares them sees equal values."""
    builder.url = reader.url = url = form.format(shared)
    reader.write = True
    digests = []
    for machine, version in ((builder, "1.0"), (reader, "1.0.0")):
        recipe = replace(passing(machine), version=version)
        machine.build(recipe=recipe, passed=PASSED)
        location = f"{url}/wheels/{libc()}/{recipe.key}/record.json"
        with fsspec.open(location, "rb") as file:
            content = file.read()
        own = machine.store.wheel_folder(recipe.key).rglob("record.json")
        for text in (content, *(it.read_bytes() for it in own)):
            assert b"hunter2" not in text
            assert digest_values(PASSED).encode() not in text
        digests.append(json.loads(content)["recipe"]["passed"]["TOKEN"])
        assert recipe.passed["TOKEN"] not in content.decode()
    assert digests[0] == digests[1]


def test_a_wheel_with_passed_variables_is_fetched_for_equal_values(
    builder: Machine, reader: Machine
) -> None:
    """Its record here has digests with the salt of this store."""
    builder.build(recipe=passing(builder), passed=PASSED)
    recipe = passing(reader)
    fetched = reader.remote().fetch(recipe)
    assert fetched is not None
    assert fetched.recipe == recipe
    assert reader.remote().fetch(replace(recipe, passed_digest="other")) is None


def test_of_two_machines_the_first_makes_the_salt(
    builder: Machine, reader: Machine, shared: Path
) -> None:
    """Both use the same one, whoever comes first."""
    reader.write = True
    machines = [builder, reader] * 4
    with ThreadPoolExecutor(8) as pool:
        files = [it.remote()._files() for it in machines]  # noqa: SLF001
        salts = [b"%064d" % number for number in range(8)]
        done = [
            pool.submit(it.create, "salt", s)
            for it, s in zip(files, salts, strict=True)
        ]
    assert [it.result() for it in done] == [None] * 8
    assert (shared / "salt").read_bytes() in salts
    assert [it.name for it in shared.iterdir()] == ["salt"]


def test_what_nobody_put_is_not_fetched(builder: Machine, reader: Machine) -> None:
    """Nothing is said of it."""
    builder.build(recipe=replace(RECIPE, env={"A": "1"}))
    assert reader.fetch() is None
    assert reader.remote().peek(RECIPE) is None
    assert reader.said == []


def test_what_the_store_has_by_now_is_not_fetched(
    builder: Machine, reader: Machine, shared: Path
) -> None:
    """Another process may have fetched it while this one waited."""
    builder.build()
    reader.fetch()
    shutil.rmtree(shared)
    assert reader.fetch() == reader.store.find(RECIPE.key)
    assert len(reader.said) == 1


def test_many_may_fetch_the_same_at_once(builder: Machine, reader: Machine) -> None:
    """One fetches, and the others have it from the store."""
    put = builder.build()
    with ThreadPoolExecutor(8) as pool:
        fetched = [pool.submit(reader.fetch) for _ in range(8)]
    shas = {entry.sha256 for it in fetched if (entry := it.result())}
    assert shas == {put.sha256}
    assert len(reader.said) == 1


def test_a_look_fetches_nothing(
    builder: Machine, reader: Machine, shared: Path
) -> None:
    """The record says enough for a plan, even if the wheel is gone."""
    put = builder.build()
    wheel(shared).unlink()
    seen = reader.remote().peek(RECIPE)
    assert seen is not None
    assert (seen.recipe, seen.sha256) == (put.recipe, put.sha256)
    assert not (reader.root / "store" / "wheels").exists()
    assert reader.said == []


def test_what_another_c_library_is_for_is_not_fetched(
    builder: Machine, reader: Machine
) -> None:
    """The key doesn't tell them apart, and a wheel may not load with an older one."""
    builder.build()
    older = replace(reader.remote(), libc="glibc-2.17")
    assert older.peek(RECIPE) is None
    assert older.fetch(RECIPE) is None
    assert re.fullmatch(r"glibc-\d+\.\d+|[a-z]+", libc())
    assert reader.said == []


def test_a_wheel_without_compilers_is_fetched_by_other_machines(
    builder: Machine, reader: Machine
) -> None:
    """With any C library, but not where its build might have started a compiler."""
    known = replace(RECIPE, machine={"cc": "gcc 12", "libc": "glibc-2.36"})
    put = builder.build(recipe=known.without_compilers)
    older = replace(reader.remote(), libc="glibc-2.17")
    own = replace(RECIPE, machine={"libc": "glibc-2.17"})
    more = replace(RECIPE, machine={"libc": "glibc-2.17", "nvcc": "nvcc 13"})
    assert older.fetch(more.without_compilers) is None
    fetched = older.fetch(own.without_compilers)
    assert fetched is not None
    assert fetched.sha256 == put.sha256
    assert fetched.recipe.unused == ("cc", "libc")
    assert older.fetch(more.without_compilers) is None


def test_who_may_only_read_puts_nothing(reader: Machine, shared: Path) -> None:
    """That is the default."""
    reader.build()
    assert not shared.exists()
    assert reader.said == []


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [append, flip, empty, Path.unlink])
def test_a_damaged_wheel_is_refused(
    builder: Machine, reader: Machine, shared: Path, damage: Callable[[Path], None]
) -> None:
    """It never comes into the store; building it puts a sound one in its place."""
    builder.build()
    damage(wheel(shared))
    assert reader.fetch() is None
    assert reader.said == [
        "the wheel of some-package in the remote store is damaged; building it"
    ]
    assert reader.store.peek(RECIPE.key) is None
    assert scratch(reader) == []
    builder.build()
    assert reader.fetch() is not None


def test_a_wheel_without_its_log_is_refused(
    builder: Machine, reader: Machine, shared: Path
) -> None:
    """An entry is whole or it is none."""
    builder.build()
    wheel(shared).with_name("build.log").unlink()
    assert reader.fetch() is None
    assert "is damaged" in reader.said[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 0},
        {"recipe": {**RECIPE.to_dict(), "source": "sha256:cc"}},
        {"recipe": []},
        {"wheel": "other-1.0-py3-none-any.whl"},
        {"wheel": "some_package-2.0-py3-none-any.whl"},
        {"wheel": "build.log"},
        {"wheel": ".."},
        {"wheel": None},
        {"sha256": "00"},
        {"sha256": f"{'../' * 20}{'0' * 4}"},
        {"sha256": None},
        {"size": "1"},
        {"size": -1},
        {"size": 10**30},
        {"seconds": "1"},
        {"run": None},
    ],
)
def test_a_record_of_something_else_is_refused(
    builder: Machine, reader: Machine, shared: Path, changed: dict[str, Any]
) -> None:
    """Of another key, another wheel, another form; a plan doesn't count on it."""
    builder.build()
    content = {**json.loads(record(shared).read_text()), **changed}
    record(shared).write_text(json.dumps(content))
    assert reader.remote().peek(RECIPE) is None
    assert reader.fetch() is None
    assert reader.said == [
        "the wheel of some-package in the remote store is damaged; building it"
    ]


def test_a_record_of_a_newer_version_is_passed_over(
    builder: Machine, reader: Machine, shared: Path
) -> None:
    """A line says so, the wheel is built, and the record stays as it is."""
    builder.build()
    newer = json.dumps({**json.loads(record(shared).read_text()), "format": 99})
    record(shared).write_text(newer)
    why = "written by a newer version of nox-buildstages (format 99; this version"
    assert reader.remote().peek(RECIPE) is None
    assert reader.said == []
    assert reader.fetch() is None
    (line,) = reader.said
    assert line.startswith(
        f"the wheel of some-package in the remote store isn't used: {why}"
    )
    assert line.endswith("; building it")
    builder.said.clear()
    before = {*shared.rglob("*")}
    builder.build("x = 2\n")
    (line,) = builder.said
    assert line.startswith(
        "some_package-1.0-py3-none-any.whl isn't put into the remote store,"
        f" which has a record {why}"
    )
    assert record(shared).read_text() == newer
    assert {*shared.rglob("*")} == before


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", "{}"])
def test_a_record_that_cannot_be_read_is_refused(
    builder: Machine, reader: Machine, shared: Path, text: str
) -> None:
    """As where its writing was cut off, on a disk that has no whole files."""
    builder.build()
    record(shared).write_text(text)
    assert reader.fetch() is None
    assert "is damaged" in reader.said[0]


def test_another_wheel_takes_the_place_of_the_first(
    builder: Machine, reader: Machine, shared: Path
) -> None:
    """And who has read the first one's record still finds what it names."""
    builder.build()
    before = record(shared).read_bytes()
    second = builder.build("x = 2\n")
    after = record(shared).read_bytes()
    assert before != after
    record(shared).write_bytes(before)
    first = reader.fetch()
    assert first is not None
    assert first.sha256 != second.sha256


def test_nothing_is_there_before_its_record(
    builder: Machine, reader: Machine, shared: Path
) -> None:
    """Who is stopped while writing leaves what nobody takes for a wheel."""
    entry = builder.build()
    record(shared).unlink()
    assert reader.fetch() is None
    wheel(shared).write_bytes(entry.path.read_bytes()[:10])
    builder.remote().put(entry, {})
    assert reader.fetch() is not None
    assert len(reader.said) == 1


PUT = """
import sys
from pathlib import Path
from nox_buildstages.store.remote import Remote
from nox_buildstages.store.store import Store
from nox_buildstages.model import RemoteStore

url, folder, key = sys.argv[1:]
store = Store(Path(folder))
declared = RemoteStore(url=url, write=True)
remote = Remote(declared=declared, store=store, report=print, run="x")
entry = store.find(key)
remote.check()
print("ready", flush=True)
while True:
    remote.put(entry, {})
"""


@pytest.mark.slow
def test_a_writer_may_be_killed_at_any_moment(
    builder: Machine, reader: Machine
) -> None:
    """Whenever it is, readers find a sound wheel or none, and never a damaged one."""
    builder.build("x = 1\n" * 100_000)
    for _ in range(5):
        arguments = (builder.url, str(builder.store.folder), RECIPE.key)
        with subprocess.Popen(
            [sys.executable, "-c", PUT, *arguments], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            for _ in range(10):
                shutil.rmtree(reader.root, ignore_errors=True)
                assert reader.fetch() is not None
            writer.kill()
            writer.communicate()
        shutil.rmtree(reader.root, ignore_errors=True)
        assert reader.fetch() is not None
    assert not [line for line in reader.said if not line.startswith("fetched")]


def test_where_nothing_is_there_that_is_told_once(reader: Machine) -> None:
    """Not for each wheel, nor by each process of a run; the next run tells it again."""
    told = f"the remote store {reader.url} can't be read (nothing is there)"
    for _ in range(2):
        remote = reader.remote()
        assert remote.peek(RECIPE) is None
        assert remote.fetch(RECIPE) is None
    assert reader.said == [f"{told}; this run continues without it"]
    reader.run = "run-3"
    reader.fetch()
    assert reader.said == [f"{told}; this run continues without it"] * 2


def test_offline_a_server_is_not_asked(builder: Machine, reader: Machine) -> None:
    """That is reported once, with the setting; a folder works as always."""
    wheel = builder.build()
    offline = replace(reader.remote(), offline="UV_OFFLINE=1")
    found = offline.fetch(RECIPE)
    assert found is not None
    assert found.sha256 == wheel.sha256
    reader.said.clear()
    shutil.rmtree(reader.store.folder / "wheels")
    with served(Path(reader.url)) as url:
        reader.url = url
        offline = replace(reader.remote(), offline="UV_OFFLINE=1")
        assert offline.peek(RECIPE) is None
        assert offline.fetch(RECIPE) is None
        reason = "the network is off: UV_OFFLINE=1"
        told = f"the remote store {url} can't be read ({reason})"
        assert reader.said == [f"{told}; this run continues without it"]
        reader.run = "run-3"
        assert reader.fetch() is not None


def test_who_may_write_begins_with_nothing(builder: Machine) -> None:
    """An empty place is no fault where it is to be filled."""
    assert builder.fetch() is None
    assert builder.said == []


def test_where_it_cannot_be_written_that_is_told_once(
    builder: Machine, shared: Path
) -> None:
    """What was built stays in the store, and reading goes on."""
    (shared / "wheels" / libc()).mkdir(parents=True)
    (shared / "wheels" / libc() / RECIPE.key).touch()
    entry = builder.build()
    builder.build()
    assert builder.store.find(RECIPE.key) == entry
    told = f"the remote store {shared} can't be written to (Not a directory)"
    assert builder.said == [f"{told}; the wheels of this run stay in the local store"]
    assert builder.remote().peek(replace(RECIPE, env={"A": "1"})) is None
    assert len(builder.said) == 1


def test_what_is_gone_by_now_is_not_put(builder: Machine, shared: Path) -> None:
    """Someone may empty the store here; what is there of it is no entry."""
    entry = builder.build()
    shutil.rmtree(shared)
    entry.log.unlink()
    builder.remote().put(entry, {})
    assert not record(shared).exists()
    assert "can't be written to (No such file or directory)" in builder.said[-1]


def test_where_a_file_is_in_the_way_it_is_away(reader: Machine, shared: Path) -> None:
    """Whatever the system says is told."""
    shared.touch()
    assert reader.fetch() is None
    told = f"the remote store {shared} can't be read (Not a directory)"
    assert reader.said == [f"{told}; this run continues without it"]


class Troubled(LocalFileSystem):  # type: ignore[misc] # it has no types
    """Files of this machine, behind something that doesn't work."""

    protocol = "troubled"
    cachable = False
    release = threading.Event()
    error: Exception | None = None

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> bytes:  # noqa: ANN401
        """Fail as is said, or hang."""
        if self.error is not None:
            raise self.error
        self.release.wait(60)
        return super().cat_file(path, *args, **kwargs)  # type: ignore[no-any-return]


@pytest.fixture
def troubled(shared: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a URL that the driver above is for."""
    fsspec.register_implementation("troubled", Troubled, clobber=True)
    monkeypatch.setattr(Troubled, "error", None)
    monkeypatch.setattr(Troubled, "release", threading.Event())
    return f"troubled://j.doe:s3cr3t@{shared}?sig=s3cr3t"


def test_one_that_hangs_is_away(reader: Machine, troubled: str) -> None:
    """After a while, once; what is left of it keeps nobody from ending."""
    reader.url, reader.timeout = troubled, 0.6
    assert reader.fetch() is None
    assert reader.fetch() is None
    Troubled.release.set()
    (told,) = reader.said
    assert "can't be read (no answer in 1 s)" in told


def test_all_that_find_it_away_at_once_tell_it_once(
    reader: Machine, troubled: str
) -> None:
    """As the sessions of a parallel run do."""
    reader.url, reader.timeout = troubled, 0.6
    with ThreadPoolExecutor(4) as pool:
        peeks = [pool.submit(reader.remote().peek, RECIPE) for _ in range(4)]
        assert [peek.result() for peek in peeks] == [None] * 4
    Troubled.release.set()
    assert len(reader.said) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Forbidden"), "Forbidden"),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError("no route\nto host"), "no route"),
        (
            ValueError("GET https://a:s3cr3t@host/x?sig=s3cr3t failed"),
            "GET https://****@host/x?**** failed",
        ),
    ],
)
def test_whatever_a_driver_raises_it_is_away(
    reader: Machine, troubled: str, error: Exception, reason: str
) -> None:
    """The reason is a line that holds no secret."""
    Troubled.error = error
    reader.url = troubled
    assert reader.fetch() is None
    (told,) = reader.said
    assert told.startswith("the remote store troubled://****@/")
    assert told.endswith(
        f"/shared?**** can't be read ({reason}); this run continues without it"
    )


@pytest.mark.parametrize(
    ("url", "problem", "hint"),
    [
        ("nowhere://x", "fsspec has no driver for it (Protocol not known: now", ""),
        ("s3://b/x", "fsspec has no driver for it (Install s3fs", "s3fs for s3://"),
        ("gs://b/x", "fsspec has no driver for it (Please install gcsfs", "gcsfs"),
    ],
)
def test_a_driver_that_is_missing_is_an_error(
    reader: Machine, url: str, problem: str, hint: str
) -> None:
    """It isn't away: what it would save may take hours to build."""
    reader.url = url
    for ask in (reader.remote().check, reader.fetch):
        with pytest.raises(UsageError) as caught:
            ask()
        assert caught.value.problem.startswith(problem)
        assert hint in caught.value.hint
    assert reader.said == []


def project(tmp_path: Path, declared: RemoteStore | None) -> Project:
    return Project(
        pyproject=tmp_path / "pyproject.toml",
        lock_dir=tmp_path,
        wheelhouse=tmp_path,
        remote_store=declared,
        final=Final(requirements=()),
        stages=(),
    )


WRITABLE = RemoteStore(url="s3://b", write=True)


@pytest.mark.parametrize(
    ("declared", "outer", "expected"),
    [
        (None, {}, None),
        (WRITABLE, {}, WRITABLE),
        (WRITABLE, {WRITE: "0"}, RemoteStore(url="s3://b")),
        (WRITABLE, {WRITE: ""}, WRITABLE),
        (WRITABLE, {URL: ""}, None),
        (WRITABLE, {URL: " "}, None),
        (WRITABLE, {URL: "", WRITE: "1"}, None),
        (WRITABLE, {URL: "gs://c"}, RemoteStore(url="gs://c")),
        (RemoteStore(url="s3://b"), {WRITE: "1"}, WRITABLE),
        (None, {WRITE: "1"}, None),
        (None, {URL: "s3://b", WRITE: "1"}, WRITABLE),
        (None, {URL: "s3://b"}, RemoteStore(url="s3://b")),
    ],
)
def test_the_environment_has_the_last_word(
    tmp_path: Path,
    declared: RemoteStore | None,
    outer: dict[str, str],
    expected: RemoteStore | None,
) -> None:
    """Which store it is, and whether it is written to."""
    assert choose_remote_store(project(tmp_path, declared), outer) == expected


@pytest.mark.parametrize("value", ["yes", "true", "2"])
def test_writing_is_1_or_0(tmp_path: Path, value: str) -> None:
    """A word that means nothing isn't taken for no."""
    with pytest.raises(UsageError, match=f"_WRITE is '{value}'"):
        choose_remote_store(project(tmp_path, None), {WRITE: value})


@pytest.mark.parametrize("written", ["../x", "x/../../x"])
def test_a_path_is_relative_to_the_table(tmp_path: Path, written: str) -> None:
    """Wherever it is written."""
    expected = RemoteStore(url=str(tmp_path.parent / "x"))
    there = choose_remote_store(project(tmp_path, RemoteStore(url=written)), {})
    assert (
        there
        == choose_remote_store(project(tmp_path, None), {URL: written})
        == expected
    )


def test_a_project_may_have_no_remote_store(tmp_path: Path) -> None:
    """Neither the table nor the environment names a URL."""
    assert choose_remote_store(project(tmp_path, None), {}) is None
    assert choose_remote_store(project(tmp_path, WRITABLE), {}) == WRITABLE
