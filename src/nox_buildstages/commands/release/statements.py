"""Read provenance statements, which others may have written or damaged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from nox_buildstages import reader
from nox_buildstages.commands.release.provenance import (
    BUILD_TYPE,
    PREDICATE,
    STATEMENT,
    TREE,
)
from nox_buildstages.errors import UsageError
from nox_buildstages.indexes.url_secrets import strip_logins
from nox_buildstages.store.key import (
    AppliedPatch,
    Ingredient,
    Recipe,
    describe_changes,
    read_setting,
)
from nox_buildstages.system.files import read_text
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_TEXTS = reader.mapping_of(reader.text)


class Statement(Value):
    """A statement about a wheel."""

    wheel: str  # the file name
    built: tuple[str, str]
    """The file name and the sha256 of the wheel as it was built."""
    is_changed: bool  # whether the wheel was changed afterwards, such as by a repair
    key: str
    recipe: Recipe
    """Without values of ``pass-env``; ``tools`` has the machine's compilers, too."""

    def find_differences(
        self, recipe: Recipe, *, without: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Describe the inputs of a wheel that differ from those of a recipe.

        Some wheels of the environment may be left out, because they aren't built yet.
        Else the keys are compared, too, which see more than a statement has.
        """
        found = []
        for candidate in recipe.all_alternatives:
            now = replace(
                candidate.without(without),
                tools={**candidate.machine, **candidate.tools},
                machine={},
                config_settings={
                    name: read_setting(strip_logins(value))
                    for name, value in candidate.config_settings.items()
                },
                passed=dict.fromkeys(candidate.passed, ""),
            )
            then = replace(
                self.recipe.without(without), own_cuda=now.own_cuda, code=now.code
            )
            found.append(describe_changes(then, now))
        changes = min(found, key=len)
        keys = (it.key for it in recipe.all_alternatives)
        if changes or without or self.key in keys:
            return changes
        if recipe.passed:
            names = ", ".join(recipe.passed)
            return (f"a value that the statement doesn't have, such as of {names}",)
        return ("something that the statement doesn't have, such as the stage's code",)


class _Resource(Value):
    """A source, a patch or a wheel that went into a build."""

    name: str
    digest: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def kind(self) -> str:
        return self.annotations.get("kind", "")


def read_statements(path: Path) -> tuple[Statement, ...]:
    """Return the statements in a file: one in JSON, or JSON Lines.

    Raises:
        UsageError: The file can't be read, or has something else.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _unusable(path, f"it can't be read: {reason}") from error
    lines = text.splitlines()
    is_one = len(lines) > 1 and lines[0].strip() == "{"  # over several lines
    documents = {1: text} if is_one else dict(enumerate(lines, 1))
    found = []
    for number, document in documents.items():
        if document.strip():
            try:
                statement = reader.parse_json(document, reader.table(_read_statement))
            except reader.UnreadableError as error:
                place = f"line {number}: " if number > 1 else ""
                raise _unusable(path, f"{place}{error}") from error
            found.append(statement)
    if not found:
        raise _unusable(path, "it is empty")
    return tuple(found)


def _unusable(path: Path, problem: str) -> UsageError:
    return UsageError(
        subject=str(path),
        problem=f"no provenance statement: {problem}",
        hint="name the provenance.jsonl of a release, or one of its lines in a file",
    )


def _read_statement(table: reader.Table) -> Statement:
    if "payload" in table.content or "dsseEnvelope" in table.content:
        raise reader.UnreadableError("is in a signed envelope; take it out")
    _require(table, "_type", STATEMENT)
    _require(table, "predicateType", PREDICATE)
    wheels = table.get("subject", reader.list_of(reader.table(_read_wheel)))
    if len(wheels) != 1:
        problem = f"expected one wheel, found {len(wheels)}"
        raise reader.UnreadableError(problem, "subject")
    key, recipe, originals = table.get("predicate", reader.table(_read_predicate))
    # A wheel that was changed after its build is listed as it was built, too.
    return Statement(
        wheel=wheels[0][0],
        built=(*originals, *wheels)[0],
        is_changed=bool(originals),
        key=key,
        recipe=recipe,
    )


def _read_wheel(table: reader.Table) -> tuple[str, str]:
    """Return the file name and the sha256 of a wheel."""

    def read_name(value: object) -> str:
        name = reader.text(value)
        try:
            parse_wheel_filename(name)
        except InvalidWheelFilename:  # it may be a variant, which ends with a label
            parse_wheel_filename(f"{name.rpartition('-')[0]}.whl")
        if "/" in name:
            raise reader.UnreadableError("isn't the name of a file")
        return name

    def read_digest(digest: reader.Table) -> str:
        sha256 = digest.get("sha256", reader.text)
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise reader.UnreadableError("isn't a sha256", "sha256")
        return sha256

    return table.get("name", read_name), table.get("digest", reader.table(read_digest))


def _require(table: reader.Table, name: str, wanted: str) -> None:
    found = table.get(name, reader.text)
    if found != wanted:
        raise reader.UnreadableError(f"expected {wanted}, found {found!r}", name)


def _read_predicate(
    table: reader.Table,
) -> tuple[str, Recipe, tuple[tuple[str, str], ...]]:
    """Return key and recipe of a build, and the wheels among the by-products."""

    def read_run(run: reader.Table) -> tuple[tuple[str, str], ...]:
        found = run.get("byproducts", reader.list_of(reader.Table), ())
        wheels = (it for it in found if str(it.content.get("name")).endswith(".whl"))
        return tuple(map(_read_wheel, wheels))

    key, recipe = table.get("buildDefinition", reader.table(_read_definition))
    return key, recipe, table.get("runDetails", reader.table(read_run), ())


def _read_definition(table: reader.Table) -> tuple[str, Recipe]:
    _require(table, "buildType", BUILD_TYPE)
    resources = table.get(
        "resolvedDependencies", reader.list_of(reader.table(_read_resource))
    )

    def read_internal(
        internal: reader.Table,
    ) -> tuple[str, dict[str, str], dict[str, str]]:
        return (
            internal.get("key", reader.text),
            internal.get("interpreter", _TEXTS),
            internal.get("tools", _TEXTS),
        )

    key, interpreter, tools = table.get(
        "internalParameters", reader.table(read_internal)
    )

    def read_external(external: reader.Table) -> Recipe:
        return Recipe(
            name=external.get("output", reader.text),
            version=external.get("version", reader.text),
            source=_find_source(resources),
            environment={
                it.name: Ingredient(
                    version=it.annotations.get("version", ""),
                    sha256=it.digest.get("sha256", ""),
                    stage=it.annotations.get("stage", ""),
                )
                for it in resources
                if it.kind == "build-dependency"
            },
            env=external.get("env", _TEXTS),
            config_settings=external.get(
                "config-settings", reader.mapping_of(read_setting)
            ),
            requires_dist=external.get(
                "requires-dist", reader.list_of(reader.text), ()
            ),
            interpreter=interpreter,
            tools=tools,
            patches=tuple(
                AppliedPatch(name=it.name, sha256=it.digest.get("sha256", ""))
                for it in resources
                if it.kind == "patch"
            ),
            network=external.get("network", reader.boolean),
            open_files=not external.get("sandbox", reader.boolean, default=True),
            passed=dict.fromkeys(external.get("pass-env", _TEXTS, {}), ""),
        )

    return key, table.get("externalParameters", reader.table(read_external))


def _find_source(resources: Collection[_Resource]) -> str:
    """Return the source as a recipe names it."""
    source = next((it for it in resources if it.kind == "source"), None)
    if source is None:
        raise reader.UnreadableError("has no source", "resolvedDependencies")
    folder = source.annotations.get("subdirectory", "")
    fragment = f"#{folder}" if folder else ""
    for name, prefix in (("sha256", "sha256:"), ("gitCommit", "git:")):
        if name in source.digest:
            return f"{prefix}{source.digest[name]}{fragment}"
    # The digest of a folder has the fragment already.
    return f"tree:sha256:{source.digest.get(TREE, '')}"


def _read_resource(table: reader.Table) -> _Resource:
    return _Resource(
        name=table.get("name", reader.text),
        digest=table.get("digest", _TEXTS),
        annotations=table.get("annotations", _TEXTS, {}),
    )
