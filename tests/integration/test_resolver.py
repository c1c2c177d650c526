"""Questions to a real uv, answered from the test's own index."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uv
from packaging.pylock import Package, PackageWheel
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.declarations.settings import OFFLINE_HINT, Indexes
from nox_buildstages.declarations.uv_variables import VARIABLES
from nox_buildstages.environments.interpreter import probe_interpreter
from nox_buildstages.environments.targets import Target
from nox_buildstages.errors import NoWheelError, ResolutionError
from nox_buildstages.lock.files import pylock
from nox_buildstages.lock.resolve.uv_compile import Question, Resolver, StandIn
from nox_buildstages.model import (
    ArchiveSource,
    DirectorySource,
    GitSource,
    Interpreter,
    Metadata,
)
from nox_buildstages.system.process import Command, Completed, run
from nox_buildstages.value import replace
from support.index import Index
from support.packages import make_sdist, make_tree, make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.pylock import Pylock

EVIL = """\
from pathlib import Path

Path({path!r}).touch()
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uv:
    """Runs uv so that it knows the index and nothing of this machine."""

    env: Mapping[str, str]
    commands: list[Command] = field(default_factory=list)

    def __call__(self, command: Command) -> Completed:
        """Run it, and take note of it."""
        self.commands.append(command)
        return run(command)


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    return probe_interpreter(
        Path(sys.executable), runner=run, cache=tmp_path_factory.mktemp("it")
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def runner(env: dict[str, str]) -> Uv:
    return Uv(env=env)


@pytest.fixture
def resolver(runner: Uv, interpreter: Interpreter, root: Path) -> Resolver:
    return Resolver(
        uv=Path(uv.find_uv_bin()),
        python=Path(sys.executable),
        target=Target(interpreter=interpreter, python=Path(sys.executable)),
        runner=runner,
        indexes=Indexes(root=root, outer=runner.env),
    )


def changed(resolver: Resolver, **fields: Any) -> Resolver:  # noqa: ANN401
    """Return a resolver with other fields, which has answered nothing yet."""
    of_indexes = {key: fields.pop(key) for key in {"settings", "outer"} & fields.keys()}
    indexes = replace(resolver.indexes, **of_indexes)
    return replace(resolver, **fields, indexes=indexes, answers={})


def question(*requirements: str, **fields: Any) -> Question:  # noqa: ANN401
    return Question(name="kernels", requirements=requirements, **fields)


def sources_question(*requirements: str) -> Question:
    names = tuple(canonicalize_name(text.split()[0]) for text in requirements)
    return question(*requirements, sources=names)


def versions(answer: Pylock) -> dict[str, str]:
    return {package.name: str(package.version) for package in answer.packages}


def only(answer: Pylock) -> Package:
    (package,) = answer.packages
    return package


def stand_in(name: str, version: str, *requires: str, **fields: Any) -> StandIn:  # noqa: ANN401
    metadata = Metadata(
        version=Version(version), requires_dist=requires, learned="hook", **fields
    )
    return StandIn(name=canonicalize_name(name), metadata=metadata)


def test_the_newest_wheels_come_with_all_they_require(
    resolver: Resolver, index: Index
) -> None:
    """Each has its URL and its sha256, so that an environment can be made of it."""
    make_wheel(index.folder, "dep", "1.0")
    make_wheel(index.folder, "dep", "2.0")
    make_wheel(index.folder, "top", "1.0", requires=["dep", "never; extra == 'x'"])
    answer = resolver.resolve(question("top"))
    assert versions(answer) == {"dep": "2.0", "top": "1.0"}
    (wheel,) = answer.packages[0].wheels or ()
    assert isinstance(wheel, PackageWheel)
    assert wheel.url == index.file_url("dep-2.0-py3-none-any.whl")
    assert len(wheel.hashes["sha256"]) == 64


def test_a_stand_in_wins_over_a_higher_version(
    resolver: Resolver, index: Index
) -> None:
    """Whatever wants the output gets the one that is built here, never a namesake."""
    make_wheel(index.folder, "kernel", "9.0", requires=["wrong"])
    make_wheel(index.folder, "user", "1.0", requires=["kernel"])
    make_wheel(index.folder, "right", "1.0")
    kernel = stand_in("kernel", "1.0", "right")
    answer = resolver.resolve(question("user", stand_ins=(kernel,)))
    assert versions(answer) == {"kernel": "1.0", "right": "1.0", "user": "1.0"}


def test_a_stand_in_nobody_wants_is_left_out(resolver: Resolver, index: Index) -> None:
    """That an output is available puts it into no environment."""
    make_wheel(index.folder, "user", "1.0")
    kernel = stand_in("kernel", "1.0", "not-on-the-index")
    answer = resolver.resolve(question("user", stand_ins=(kernel,)))
    assert versions(answer) == {"user": "1.0"}


def test_the_extras_of_a_stand_in_count(resolver: Resolver, index: Index) -> None:
    """What an extra requires comes with it, and only with it."""
    for name in ("always", "fast"):
        make_wheel(index.folder, name, "1.0")
    kernel = stand_in(
        "kernel-ops",
        "1.0+cpu",
        "always",
        "fast ; extra == 'speed'",
        provides_extra=("speed",),
        requires_python=">=3.9",
    )
    without = resolver.resolve(question("kernel_ops", stand_ins=(kernel,)))
    assert versions(without) == {"always": "1.0", "kernel-ops": "1.0+cpu"}
    with_extra = resolver.resolve(question("Kernel.Ops[speed]", stand_ins=(kernel,)))
    assert "fast" in versions(with_extra)


def test_a_stand_in_must_suit_the_requirements(
    resolver: Resolver, index: Index
) -> None:
    """A version that is built here and not wanted isn't replaced by another one."""
    make_wheel(index.folder, "kernel", "9.0")
    kernel = stand_in("kernel", "1.0")
    with pytest.raises(ResolutionError, match="kernel"):
        resolver.resolve(question("kernel>=2", stand_ins=(kernel,)))


def test_a_stand_in_wins_over_a_source_of_uv(resolver: Resolver, root: Path) -> None:
    """``[tool.uv.sources]`` says what the output is built from, not what is used."""
    make_tree(root / "vendor/kernel", "kernel", "1.0")
    settings = {"sources": {"Kernel": {"path": "vendor/kernel"}}}
    asked = question("kernel", stand_ins=(stand_in("kernel", "1.0"),))
    answer = changed(resolver, settings=settings).resolve(asked)
    assert only(answer).directory is None


def evil_sdist(index: Index, proof: Path, name: str, *, static: bool) -> None:
    """Put an sdist on the index whose backend leaves a proof that it ran."""
    files = {"backend.py": EVIL.format(path=str(proof))}
    pyproject = '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
    files["pyproject.toml"] = pyproject + 'backend-path = ["."]\n'
    make_sdist(index.folder, name, "1.0", files=files, static=static)


@pytest.mark.parametrize("static", [True, False])
def test_nothing_is_ever_built(
    resolver: Resolver, index: Index, tmp_path: Path, *, static: bool
) -> None:
    """A dependency without a wheel is an error that says what to do about it."""
    evil_sdist(index, tmp_path / "proof", "evil", static=static)
    make_wheel(index.folder, "user", "1.0", requires=["evil"])
    with pytest.raises(NoWheelError) as caught:
        resolver.resolve(question("user"))
    assert caught.value.project == "evil"
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("error: stage kernels: evil would have to be built: no")
    assert lines[-2:] == [
        "help: make it an output of a stage:",
        '  outputs = ["evil"]',
    ]
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("version", ["", ">=2", "==2.0", "[extra]>=1.5"])
@pytest.mark.parametrize("requires", [(), ("Dep.Ops{}",)], ids=["direct", "transitive"])
@pytest.mark.parametrize("tag", [None, "cp39-cp39-win_amd64"], ids=["sdist", "foreign"])
def test_the_project_without_a_wheel_is_named(
    resolver: Resolver,
    index: Index,
    version: str,
    requires: tuple[str, ...],
    tag: str | None,
) -> None:
    """Whoever wants it, in whatever range, and whatever others it has wheels for."""
    make_sdist(index.folder, "dep-ops", "1.0")
    make_sdist(index.folder, "dep-ops", "2.0")
    if tag is not None:
        make_wheel(index.folder, "dep-ops", "2.0", tag=tag)
    wishes = [wish.format(version) for wish in requires]
    make_wheel(index.folder, "user", "1.0", requires=wishes)
    asked = "user" if wishes else f"Dep.Ops{version}"
    with pytest.raises(NoWheelError) as caught:
        resolver.resolve(question(asked))
    assert caught.value.project == "dep-ops"


def test_a_range_without_wheels_names_its_project(
    resolver: Resolver, index: Index
) -> None:
    """A wheel of a version that isn't wanted doesn't count."""
    make_wheel(index.folder, "dep", "1.0")
    make_sdist(index.folder, "dep", "2.0")
    with pytest.raises(NoWheelError) as caught:
        resolver.resolve(question("dep>=2"))
    assert caught.value.project == "dep"


def test_nothing_is_built_for_a_source(
    resolver: Resolver, index: Index, tmp_path: Path
) -> None:
    """Not even where only the backend knows what the output requires."""
    evil_sdist(index, tmp_path / "proof", "evil", static=False)
    assert only(resolver.resolve(sources_question("evil"))).version == Version("1.0")
    assert not (tmp_path / "proof").exists()


def test_a_source_is_chosen_though_there_are_wheels(
    resolver: Resolver, index: Index
) -> None:
    """It comes alone, without what it requires, with its URL and its sha256."""
    make_wheel(index.folder, "kernel", "1.0")
    make_wheel(index.folder, "kernel", "2.0")
    make_sdist(index.folder, "kernel", "1.0", requires=["nowhere"])
    source = pylock.source_of(only(resolver.resolve(sources_question("kernel"))))
    assert isinstance(source, ArchiveSource)
    assert source.location == index.file_url("kernel-1.0.tar.gz")
    assert len(source.sha256) == 64


def test_an_output_needs_a_source(resolver: Resolver, index: Index) -> None:
    """What has wheels only can't be built, and the error says what to do."""
    make_wheel(index.folder, "kernel", "1.0")
    with pytest.raises(ResolutionError) as caught:
        resolver.resolve(sources_question("kernel"))
    assert caught.value.hint.startswith("take it as a dependency, or name its source")


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    command = ["git", *identity, "-C", str(folder), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def committed(folder: Path, message: str) -> str:
    git(folder, "add", ".")
    git(folder, "commit", "-m", message)
    return git(folder, "rev-parse", "HEAD").strip()


def repository(folder: Path) -> str:
    """Make a repository, and return its first commit."""
    make_tree(folder, "kernel", "1.0")
    git(folder, "init", "-b", "main")
    return committed(folder, "first")


def test_a_directory_is_a_source(resolver: Resolver, root: Path) -> None:
    """Nothing of it is run, so that its version stays open."""
    tree = make_tree(root / "vendor/kernel", "kernel", "1.0")
    asked = sources_question(f"kernel @ {tree.as_uri()}")
    source = pylock.source_of(only(resolver.resolve(asked)))
    assert source == DirectorySource(path=str(tree))


def test_a_commit_is_a_source(resolver: Resolver, root: Path) -> None:
    """A branch is pinned to the commit that it is at."""
    commit = repository(root / "repo")
    url = (root / "repo").as_uri()
    asked = sources_question(f"kernel @ git+{url}@main")
    source = pylock.source_of(only(resolver.resolve(asked)))
    assert source == GitSource(url=url, commit=commit, revision="main")


@pytest.mark.parametrize("name", ["kernel-1.0.tar.gz", "v1.0.tar.gz"])
def test_an_archive_is_a_source(resolver: Resolver, root: Path, name: str) -> None:
    """Whatever its name, it is pinned by its hash."""
    file = make_sdist(root / "made", "kernel", "1.0").rename(root / name)
    asked = sources_question(f"kernel @ {file.as_uri()}")
    source = pylock.source_of(only(resolver.resolve(asked)))
    assert isinstance(source, ArchiveSource)
    assert source.location == str(file)


def test_constraints_hold(resolver: Resolver, index: Index) -> None:
    """They choose versions and put nothing into an environment."""
    for version in ("1.0", "2.0"):
        make_wheel(index.folder, "dep", version)
    asked = question("dep", constraints=("dep<2", "other>1"))
    assert versions(resolver.resolve(asked)) == {"dep": "1.0"}


def test_what_was_uploaded_later_is_not_seen(resolver: Resolver, index: Index) -> None:
    """A resolution of then can be made again now."""
    make_wheel(index.folder, "dep", "1.0")
    newer = make_wheel(index.folder.parent, "dep", "2.0")
    index.add(newer, uploaded="2026-06-01T00:00:00Z")
    assert versions(resolver.resolve(question("dep"))) == {"dep": "2.0"}
    before = changed(resolver, exclude_newer="2026-01-01T00:00:00Z")
    assert versions(before.resolve(question("dep"))) == {"dep": "1.0"}
    with pytest.raises(ResolutionError) as caught:
        before.resolve(question("dep>1"))
    assert caught.value.problem == "exclude-newer leaves out each dep that fits"
    assert 'exclude-newer-package = { dep = "2026-06-01" }' in caught.value.hint


@pytest.fixture
def earlier(resolver: Resolver, index: Index) -> str:
    """Return a lock of one and two 1.0; 2.0 of both came later."""
    for name in ("one", "two"):
        make_wheel(index.folder, name, "1.0")
    text = pylock.dump_pylock(resolver.resolve(question("one", "two")))
    for name in ("one", "two"):
        make_wheel(index.folder, name, "2.0")
    return text


@pytest.mark.parametrize(
    ("options", "one", "two"),
    [
        ({}, "1.0", "1.0"),
        ({"upgrade": True}, "2.0", "2.0"),
        ({"upgrade_packages": ("one",)}, "2.0", "1.0"),
        ({"upgrade_packages": ("other",)}, "1.0", "1.0"),
    ],
)
def test_earlier_versions_are_kept(
    resolver: Resolver, earlier: str, options: dict[str, Any], one: str, two: str
) -> None:
    """Only what is to be upgraded changes."""
    answer = changed(resolver, **options).resolve(
        question("one", "two"), earlier=earlier
    )
    assert versions(answer) == {"one": one, "two": two}


def test_an_earlier_version_gives_way(resolver: Resolver, earlier: str) -> None:
    """It is kept where it suits what is wanted, and no further."""
    asked = question("one>1", "two")
    answer = changed(resolver).resolve(asked, earlier=earlier)
    assert versions(answer) == {"one": "2.0", "two": "1.0"}


def test_an_earlier_sdist_is_kept(resolver: Resolver, index: Index) -> None:
    """The source of an output changes when it is told to, as a version does."""
    make_sdist(index.folder, "kernel", "1.0")
    asked = sources_question("kernel")
    text = pylock.dump_pylock(resolver.resolve(asked))
    make_sdist(index.folder, "kernel", "2.0")
    kept = changed(resolver).resolve(asked, earlier=text)
    assert versions(kept) == {"kernel": "1.0"}
    upgraded = changed(resolver, upgrade_packages=("kernel",))
    assert versions(upgraded.resolve(asked, earlier=text)) == {"kernel": "2.0"}


@pytest.fixture
def wheels(root: Path) -> Path:
    """Return a folder of the project with a wheel that is on no index."""
    make_wheel(root / "wheels", "own", "1.0")
    return root / "wheels"


LOCAL: list[dict[str, Any]] = [
    {"find-links": ["wheels"]},
    {"find-links": ["./wheels"], "no-index": True},
    {"pip": {"find-links": ["wheels"]}},
    {"index": [{"name": "own", "url": "wheels", "format": "flat"}]},
    {"sources": {"own": {"path": "wheels/own-1.0-py3-none-any.whl"}}},
    {
        "sources": {
            "own": [
                {"path": "nowhere.whl", "marker": "python_version < '3'"},
                {
                    "path": "wheels/own-1.0-py3-none-any.whl",
                    "marker": "python_version > '3'",
                },
            ]
        }
    },
]


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize("settings", LOCAL, ids=lambda settings: next(iter(settings)))
def test_relative_paths_are_those_of_the_project(
    resolver: Resolver, settings: dict[str, Any]
) -> None:
    """What ``[tool.uv]`` names is found, wherever uv is run."""
    answer = changed(resolver, settings=settings).resolve(question("own"))
    assert versions(answer) == {"own": "1.0"}


@pytest.mark.usefixtures("wheels")
def test_relative_paths_in_variables_are_those_of_the_project(
    resolver: Resolver, runner: Uv
) -> None:
    """What uv's environment variables name is found as uv itself would find it."""
    outer = {**runner.env, "UV_FIND_LINKS": "wheels"}
    answer = changed(resolver, outer=outer).resolve(question("own"))
    assert versions(answer) == {"own": "1.0"}


@pytest.mark.parametrize(
    "variables",
    [
        {"UV_NO_CONFIG": "1"},
        {"UV_CONFIG_FILE": "other.toml"},
        {"XDG_CONFIG_HOME": "."},
        {"XDG_CONFIG_HOME": "none", "XDG_CONFIG_DIRS": "none:."},
    ],
    ids=["UV_NO_CONFIG", "UV_CONFIG_FILE", "user", "system"],
)
def test_no_file_of_settings_takes_the_place_of_the_projects(
    resolver: Resolver, index: Index, root: Path, variables: dict[str, str]
) -> None:
    """With either variable, uv would read nothing that the project declares.

    A file outside the project that chooses versions is named, and doesn't count.
    """
    for name in ("dep", "leaf"):
        for version in ("1.0", "2.0", "3.0"):
            make_wheel(index.folder, name, version)
    (root / "uv").mkdir()
    for file in ("other.toml", "uv/uv.toml"):
        (root / file).write_text('resolution = "lowest"\n', encoding="utf-8")
    settings = {"override-dependencies": ["leaf==3.0"]}
    env = resolver.runner.env if isinstance(resolver.runner, Uv) else {}
    moved = {
        it: v.replace(".", str(root)) for it, v in variables.items() if "XDG" in it
    }
    outer = {**env, **variables, **moved}
    other = changed(resolver, settings=settings, outer=outer)
    assert versions(other.resolve(question("dep", "leaf"))) == {
        "dep": "3.0",
        "leaf": "3.0",
    }
    named = [name for name, _ in other.indexes.find_idle_variables()]
    assert len(named) == (0 if "UV_NO_CONFIG" in variables else 1)


HOSTILE = {
    "UV_AZURE_ENDPOINT_URL": "https://a.example",
    "UV_GCS_ENDPOINT_URL": "https://g.example",
    "UV_S3_ENDPOINT_URL": "https://s.example",
    "UV_HTTP_TIMEOUT": "600",
    "UV_HTTP_CONNECT_TIMEOUT": "600",
    "UV_REQUEST_TIMEOUT": "600",
    "UV_EXCLUDE_NEWER": "2000-01-01",
    "UV_FORK_STRATEGY": "fewest",
    "UV_INDEX_STRATEGY": "unsafe-best-match",
    "UV_NO_BINARY_PACKAGE": "dep",
    "UV_PRERELEASE": "allow",
    "UV_PYTHON": "3.8",
    "UV_RESOLUTION": "lowest",
    "UV_TORCH_BACKEND": "cpu",
}
"""Values of variables that take other values than 1."""


def test_no_variable_of_uv_changes_what_is_locked(
    resolver: Resolver, index: Index, runner: Uv, root: Path
) -> None:
    """All of them at once: those that uv gets aren't about versions."""
    for version in ("1.0", "2.0", "3.0a1"):
        make_wheel(index.folder, "dep", version)
    with Index(root / "evil") as evil:
        make_wheel(evil.folder, "dep", "4.0")
        paths = {"UV_CACHE_DIR", "UV_CREDENTIALS_DIR", "UV_PYTHON_INSTALL_DIR"}
        passed = {"UV_OFFLINE", "UV_STACK_SIZE", "UV_FIND_LINKS", *paths}
        hostile = {it: HOSTILE.get(it, "1") for it in VARIABLES if it not in passed}
        hostile |= dict.fromkeys(VARIABLES.keys() & INDEXES, evil.url)
        hostile |= {"UV_CONFIG_FILE": "evil.toml", "UV_KEYRING_PROVIDER": "disabled"}
        (root / "evil.toml").write_text('index-strategy = "unsafe-best-match"\n')
        own = {"index": [{"name": "own", "url": index.url, "default": True}]}
        settings = {**own, "override-dependencies": ["dep<3"]}
        outer = {**runner.env, **hostile, "UV_INSECURE_HOST": "a.example"}
        answer = changed(resolver, settings=settings, outer=outer)
        plain = changed(resolver, settings=settings, outer=runner.env)
        expected = plain.resolve(question("dep"))
        assert versions(expected) == {"dep": "2.0"}
        assert answer.resolve(question("dep")) == expected


INDEXES = {"UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_URL"}


@pytest.mark.parametrize("key", ["index-url", "extra-index-url"])
def test_an_index_of_the_settings_is_asked(
    resolver: Resolver, runner: Uv, tmp_path: Path, key: str
) -> None:
    """An older key for an index counts like the newer one."""
    with Index(tmp_path / "other") as other:
        make_wheel(other.folder, "own", "1.0")
        value = other.url if key == "index-url" else [other.url]
        env = {**runner.env}
        del env["UV_DEFAULT_INDEX"]  # which has the last word
        knowing = changed(resolver, settings={key: value}, runner=Uv(env=env))
        answer = knowing.resolve(question("own"))
    assert versions(answer) == {"own": "1.0"}


def test_an_explicit_index_has_what_is_taken_from_it(
    resolver: Resolver, index: Index, tmp_path: Path
) -> None:
    """A build of torch comes from its own index, and nothing else does."""
    make_wheel(index.folder, "torch", "9.0")
    make_wheel(index.folder, "numpy", "1.0")
    with Index(tmp_path / "cpu") as cpu:
        make_wheel(cpu.folder, "torch", "2.13.0+cpu", requires=["numpy"])
        make_wheel(cpu.folder, "numpy", "9.0")
        settings = {
            "index": [{"name": "cpu", "url": cpu.url, "explicit": True}],
            "sources": {"torch": {"index": "cpu"}},
        }
        answer = changed(resolver, settings=settings).resolve(question("torch"))
    assert versions(answer) == {"torch": "2.13.0+cpu", "numpy": "1.0"}


def test_metadata_of_the_settings_counts(resolver: Resolver, index: Index) -> None:
    """``[[tool.uv.dependency-metadata]]`` mends what a wheel says wrong."""
    make_wheel(index.folder, "dep", "1.0")
    make_wheel(index.folder, "user", "1.0", requires=["nowhere"])
    entry = {"name": "user", "version": "1.0", "requires-dist": ["dep"]}
    mended = changed(resolver, settings={"dependency-metadata": [entry]})
    assert versions(mended.resolve(question("user"))) == {"dep": "1.0", "user": "1.0"}


def test_settings_that_have_no_say_are_left_out(
    resolver: Resolver, index: Index
) -> None:
    """What is for uv's own projects, or unknown to this uv, does no harm."""
    make_wheel(index.folder, "dep", "1.0")
    settings = {"managed": False, "package": True, "workspace": {"members": ["x"]}}
    answer = changed(resolver, settings=settings).resolve(question("dep"))
    assert versions(answer) == {"dep": "1.0"}


def test_a_conflict_is_told_in_uvs_words(resolver: Resolver, index: Index) -> None:
    """Who wants what is uv's to say; we say for whom."""
    make_wheel(index.folder, "dep", "1.0")
    with pytest.raises(ResolutionError) as caught:
        resolver.resolve(question("dep>2"))
    assert caught.value.name == "kernels"
    assert "No solution found" in str(caught.value)
    assert "dep" in str(caught.value)
    assert caught.value.hint.startswith("check the dependencies of stage kernels")


def test_an_unknown_package_is_told(resolver: Resolver) -> None:
    """The name that isn't on the index is in the message."""
    with pytest.raises(ResolutionError, match="no-such-package was not found"):
        resolver.resolve(question("no-such-package"))


@pytest.mark.slow
def test_an_index_that_cannot_be_reached_is_told(
    resolver: Resolver, runner: Uv, tmp_path: Path
) -> None:
    """Its URL is in the message, and how to do without it."""
    with Index(tmp_path / "gone") as gone:
        url = gone.url
    settings = {"index": [{"name": "gone", "url": url, "default": True}]}
    env = {"UV_HTTP_RETRIES": "0", "UV_DEFAULT_INDEX": url}
    other = Uv(env={**runner.env, **env})
    with pytest.raises(ResolutionError, match=url) as caught:
        changed(resolver, settings=settings, runner=other).resolve(question("dep"))
    assert "with UV_OFFLINE=1" in caught.value.hint


def test_a_repository_that_cannot_be_fetched_is_named(
    resolver: Resolver, tmp_path: Path
) -> None:
    """No version is at fault; the hint is about the repository."""
    url = (tmp_path / "gone").as_uri()
    with pytest.raises(ResolutionError, match=url) as caught:
        resolver.resolve(question(f"dep @ git+{url}"))
    assert caught.value.hint.startswith("check the repository's URL")


@pytest.mark.parametrize("variable", [None, "1", "Yes", "t", "0", "OFF", "n", "2"])
@pytest.mark.parametrize("setting", [True, False])
def test_the_network_is_off_if_uv_says_so(
    resolver: Resolver,
    runner: Uv,
    index: Index,
    *,
    setting: bool,
    variable: str | None,
) -> None:
    """UV_OFFLINE wins over ``offline`` in [tool.uv]; our downloads and uv agree.

    uv refuses a variable that means neither, so then nothing is downloaded.
    """
    env = {} if variable is None else {"UV_OFFLINE": variable}
    settings, outer = {"offline": setting}, {**runner.env, **env}
    asker = changed(resolver, settings=settings, outer=outer)
    with pytest.raises(ResolutionError) as caught:
        asker.resolve(question("no-such-package"))
    indexes = asker.indexes
    assert (index.requests == []) == bool(indexes.offline)
    if indexes.offline and variable != "2":
        assert caught.value.hint == OFFLINE_HINT
    assert indexes.offline == (
        "offline in [tool.uv]"
        if variable is None and setting
        else f"UV_OFFLINE={variable}"
        if variable in {"1", "Yes", "t", "2"}
        else ""
    )


def test_a_file_without_sha256_is_refused(
    resolver: Resolver, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that names weaker hashes only can't be locked; its file is named."""
    make_wheel(index.folder, "dep", "1.0")
    page = index.reply

    def weaker(path: str) -> tuple[str, bytes] | None:
        reply = page(path)
        if reply is None or not path.endswith("/simple/dep/"):
            return reply
        document = json.loads(reply[1])
        for file in document["files"]:
            file["hashes"] = {"md5": "0" * 32}
        return reply[0], json.dumps(document).encode()

    monkeypatch.setattr(index, "reply", weaker)
    with pytest.raises(ResolutionError, match=r"no sha256 of .*/dep-1\.0-py3-none"):
        resolver.resolve(question("dep"))


def test_the_same_question_is_asked_once(
    resolver: Resolver, runner: Uv, index: Index
) -> None:
    """Locking asks many times over; a failure too is remembered."""
    make_wheel(index.folder, "dep", "1.0")
    for _ in range(2):
        assert versions(resolver.resolve(question("dep"))) == {"dep": "1.0"}
        with pytest.raises(ResolutionError):
            resolver.resolve(question("dep>1"))
    assert len(runner.commands) == 2
    resolver.resolve(question("dep", constraints=("dep<2",)))
    assert len(runner.commands) == 3


@pytest.mark.parametrize("answer", ["[", "lock-version = '1.0'\n"])
def test_an_answer_that_cannot_be_read_is_told(resolver: Resolver, answer: str) -> None:
    """A uv that writes something else isn't trusted."""

    def broken(command: Command) -> Completed:
        assert command.cwd is not None
        (command.cwd / "pylock.toml").write_text(answer, "utf-8")
        return Completed(returncode=0, stdout="", stderr="")

    with pytest.raises(ResolutionError, match="uv's lock can't be read"):
        changed(resolver, runner=broken).resolve(question("dep"))


def test_nothing_is_left_behind(resolver: Resolver, runner: Uv, index: Index) -> None:
    """The scratch folder goes, whether uv found something or not."""
    make_wheel(index.folder, "dep", "1.0")
    resolver.resolve(question("dep"))
    with pytest.raises(ResolutionError):
        resolver.resolve(question("dep>1"))
    assert [it.cwd.exists() for it in runner.commands if it.cwd] == [False, False]


@pytest.mark.parametrize("ours", [True, False])
def test_a_mac_elsewhere_is_the_same_whatever_is_said_here(
    resolver: Resolver, runner: Uv, monkeypatch: pytest.MonkeyPatch, *, ours: bool
) -> None:
    """With uv's variables being ours, or others."""
    monkeypatch.setenv("MACOSX_DEPLOYMENT_TARGET", "11.0")
    target = replace(resolver.target, python=None, platform="aarch64-apple-darwin")
    outer = None if ours else {**runner.env, "MACOSX_DEPLOYMENT_TARGET": "11.0"}
    aimed = changed(resolver, target=target, outer=outer, settings={"no-index": True})
    aimed.resolve(question())
    assert (runner.commands[-1].env or {})["MACOSX_DEPLOYMENT_TARGET"] == "14.0"


def test_a_full_temporary_folder_is_told(resolver: Resolver, runner: Uv) -> None:
    """What is asked for isn't to blame."""

    def full(_command: Command) -> Completed:
        said = "error: failed to write: No space left on device (os error 28)"
        return Completed(returncode=2, stdout="", stderr=said)

    with pytest.raises(ResolutionError) as caught:
        changed(resolver, runner=full).resolve(question("dep"))
    assert "TMPDIR" in caught.value.hint
    assert runner.commands == []


@pytest.mark.parametrize("others", [(), ("git+https://example.invalid/x",)])
def test_only_local_repositories_may_name_local_submodules(
    resolver: Resolver, runner: Uv, root: Path, others: tuple[str, ...]
) -> None:
    """Git is told so by a variable, beside those that it has."""
    settings = {"sources": {"y": {"git": root.as_uri()}, "z": [{"path": "z"}]}}
    outer = {**runner.env, "GIT_CONFIG_COUNT": "1"}
    asked = [f"x @ git+{root.as_uri()}@main", *(f"o @ {url}" for url in others)]
    with pytest.raises(ResolutionError):
        changed(resolver, settings=settings, outer=outer).resolve(question(*asked))
    env = runner.commands[0].env or {}
    assert (env.get("GIT_CONFIG_KEY_1") == "protocol.file.allow") == (not others)
    assert env["GIT_CONFIG_COUNT"] == ("1" if others else "2")
