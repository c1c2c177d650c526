"""Make variant wheels of all cells, as uv's preview takes them; experimental."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nox_buildstages.commands.final import run_all_cells
from nox_buildstages.commands.release.provenance import (
    describe_change,
    format_statements,
)
from nox_buildstages.commands.release.release import read_released_entry
from nox_buildstages.errors import BuildStagesError, UsageError
from nox_buildstages.model import VARIANTS, minor_version
from nox_buildstages.store.key import digest_json
from nox_buildstages.system.files import (
    make_ignored_folder,
    read_text,
    sha256_of,
    temporary_folder,
)
from nox_buildstages.system.machine import is_this_machine
from nox_buildstages.value import Value, replace
from nox_buildstages.wheelhouse import checksums
from nox_buildstages.wheelhouse.directory import Wheelhouse, copy_wheel
from nox_buildstages.wheels.relabel import rewrite_wheel
from nox_buildstages.wheels.wheel import read_wheel, verify_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.config.cells import Cells
    from nox_buildstages.model import Cell, Project, Variant
    from nox_buildstages.run.run import Run
    from nox_buildstages.wheelhouse.index import IndexEntry
    from nox_buildstages.workspace.session_options import Options

NULL = "null"
"""The label of wheels that need nothing special."""

_LABEL = re.compile(r"[0-9a-z._]{1,16}")
_SCHEMA = "https://variants-schema.wheelnext.dev/peps/850/v0.2.0.json"
_PROVIDERS = {
    "nvidia": {
        "requires": ["nvidia-variant-provider>=0.0.1,<1.0.0"],
        "plugin-api": "nvidia_variant_provider.plugin:NvidiaVariantPlugin",
    }
}


def check_variants(cells: Cells, session: str) -> None:
    """Check that a session can make variant wheels, before anything is built.

    Raises:
        UsageError: The session is that of a single cell, no value has a variant, or two
            cells give wheels of one name and one variant.
    """
    values = cells.first.project.values.values()
    if all(value.variant is None for value in values):
        raise UsageError(
            problem="--variants needs an axis whose values have a variant",
            hint="declare what the wheels of each value need, such as:\n"
            "  [tool.nox-buildstages.matrix.cuda-arch]\n"
            '  "9.0" = { variant = { nvidia = { sm_arch = ["90_real"] } } }\n'
            "  none = { variant = {} }",
        )
    if "(" in session:
        raise UsageError(
            problem=f"--variants needs the wheels of all cells, and {session} is one",
            hint="release all of them:\n  nox -s build-stages-release -- --variants",
        )
    found: dict[str, Cell] = {}
    for cell, stage in cells.distinct_stages():
        project, own = cell.project, cell.project.stage_cell(stage.name)
        for output in stage.outputs:
            name = output.name
            if project.rules(name).local_version is not None:
                continue  # the versions may differ
            bounds = [it for it in project.constraints if it.name == name]
            texts = map(str, (project.machine, output.requirement, bounds))
            features = _find_features(project, own)
            other = found.setdefault(_to_json([*texts, features]), own)
            if other != own:
                raise _same_variant(name, name, (f"({other})", f"({own})"))


def release_all_cells(options: Options, run: Run, cells: Cells) -> None:
    """Print where the wheels of each cell are, and make variant wheels of all.

    Raises:
        UsageError: All cells are for other machines, or give wheels of one name and one
            variant.
        BuildStagesError: A wheel wasn't released, or was changed since.
    """
    run_all_cells(options, run, cells)
    folder = cells.first.project.wheelhouse / VARIANTS
    if options.variants:
        check_variants(cells, "build-stages-release")
        for line in write_variants(cells, folder):
            run.report(line)
    elif (folder / checksums.SUMS).is_file():  # of an earlier release
        checksums.write_release(folder, {}, {})
        checksums.withdraw_release(folder)
        Wheelhouse(folder).remove_own_files()
        with suppress(OSError):  # it has files of the user
            folder.rmdir()


class _Wheel(Value):
    """A file to make from a released wheel: a copy, or one with a label."""

    path: Path  # of the released wheel
    sha256: str  # of the released wheel
    label: str = ""
    features: Variant | None = None

    @property
    def filename(self) -> str:
        """The name of the new file."""
        return f"{self.path.stem}-{self.label}.whl" if self.label else self.path.name

    @property
    def release(self) -> str:
        """NAME-VERSION, as file names begin."""
        return "-".join(self.path.name.split("-")[:2])


def write_variants(cells: Cells, folder: Path) -> Iterator[str]:
    """Write the wheels of all cells, with labels, and their index; yield the result.

    Raises:
        UsageError: Two cells give wheels of one name and one variant.
        BuildStagesError: A wheel wasn't released, or was changed since.
    """
    wheels: dict[str, _Wheel] = {}
    variants: dict[str, dict[str, Variant]] = {}
    for wheel in _find_wheels(cells):
        other = wheels.setdefault(wheel.filename, wheel)
        if other.sha256 != wheel.sha256:
            project = wheel.release.partition("-")[0]
            paths = (str(other.path), str(wheel.path))
            raise _same_variant(project, wheel.filename, paths)
        if wheel.features is not None:
            variants.setdefault(wheel.release, {})[wheel.label] = wheel.features
    index, descriptions, statements = {}, {}, []
    make_ignored_folder(folder)
    with Wheelhouse(folder).hold_lock(), temporary_folder("making-", folder) as scratch:
        for name, wheel in wheels.items():
            entry = read_released_entry(wheel.path, wheel.sha256)
            path = scratch / name
            if wheel.label:
                file = read_wheel(wheel.path)
                text = _describe({wheel.label: wheel.features or {}})
                changed = {"variant.json": text}
                rewrite_wheel(file, path, version=file.version, changed=changed)
                verify_record(path)
            else:
                copy_wheel(wheel.path, scratch, sha256=wheel.sha256)
            index[name] = replace(
                entry, filename=name, sha256=sha256_of(path), size=path.stat().st_size
            )
            statements.append(_read_statement(wheel, index[name]))
            if wheel.label:
                text = _describe(variants[wheel.release])
                described = replace(
                    *(entry,),
                    filename=f"{wheel.release}{checksums.DESCRIPTION}",
                    sha256=hashlib.sha256(text).hexdigest(),
                    size=len(text),
                    requires_python=None,
                    metadata=None,
                )
                descriptions[described.filename] = text
                index[described.filename] = described
        files = {**checksums.index_files([*index.values()]), **descriptions}
        files[checksums.PROVENANCE] = format_statements(statements).encode()
        sums = {name: index[name].sha256 for name in wheels}
        # The sums are written first: they list the files of an interrupted release.
        checksums.write_sums(folder, {**checksums.read_sums(folder), **sums})
        for name in wheels:
            (scratch / name).replace(folder / name)
        checksums.write_release(folder, files, sums)
    for release, labels in sorted(variants.items()):
        name = release.replace("-", " ")
        yield f"variants of {name}: {', '.join(sorted(labels))}"
        if NULL not in labels:
            yield (
                f"no value with wheels of {name} has variant = {{}}: installers that"
                " know no variants find no wheel"
            )
    yield f"variants, experimental: {folder} ({len(wheels)} wheels)"


def _find_wheels(cells: Cells) -> Iterator[_Wheel]:
    """Yield what to make from the released wheels of the cells for this machine.

    Raises:
        BuildStagesError: A wheel wasn't released.
    """
    known: dict[tuple[str, str], Variant] = {}
    for project in cells.projects:
        if not is_this_machine(project.machine):
            continue
        for python in project.cell_pythons or ("",):
            folder = project.wheelhouse_of(project.cell, minor_version(python))
            sums = checksums.read_sums(folder)
            entries = Wheelhouse(folder).read_manifest().wheels
            if not sums or any(sums.get(it["file"]) != it["sha256"] for it in entries):
                raise _not_released(folder)
            for entry in entries:
                cell = project.stage_cell(entry["stage"])
                wheel = _Wheel(path=folder / entry["file"], sha256=entry["sha256"])
                features = _find_features(project, cell)
                if not features:
                    yield wheel
                if features is None:
                    continue
                label = _name_values(project, cell) if features else NULL
                owner = known.setdefault((wheel.release, label), features)
                is_valid = _LABEL.fullmatch(label) and (label != NULL or not features)
                if owner != features or not is_valid:
                    label = digest_json(features)[:8]
                yield replace(wheel, label=label, features=features)


def _read_statement(wheel: _Wheel, entry: IndexEntry) -> dict[str, Any]:
    """Return the provenance of a new file, from that of the released wheel.

    Raises:
        BuildStagesError: The release has none.
    """
    path = wheel.path.with_name(checksums.PROVENANCE)
    try:
        statements = map(json.loads, read_text(path).splitlines())
        released: dict[str, Any] = next(
            it
            for it in statements
            if it["subject"][0]["digest"]["sha256"] == wheel.sha256
        )
        if not wheel.label:
            return released
        changes = {"variant": wheel.features}
        return describe_change(released, entry.filename, entry.sha256, changes)
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise _not_released(path.parent) from error


def _not_released(folder: Path) -> BuildStagesError:
    return BuildStagesError(
        subject=str(folder),
        problem="its wheels weren't released, so there are no variants",
        hint="release all cells:\n  nox -s build-stages-release -- --variants",
    )


def _find_features(project: Project, cell: Cell) -> Variant | None:
    """Return the features of a cell's values; None if no value has a variant."""
    variants = [project.values[axis].variant for axis, _ in cell.choices]
    if all(variant is None for variant in variants):
        return None
    features: dict[str, dict[str, tuple[str, ...]]] = {}
    for variant in variants:
        for namespace, added in (variant or {}).items():
            features.setdefault(namespace, {}).update(added)
    return features


def _name_values(project: Project, cell: Cell) -> str:
    """Return the names of a cell's values with a variant."""
    return "_".join(
        value.lower()
        for axis, value in cell.choices
        if project.values[axis].variant is not None
    )


def _describe(variants: Mapping[str, Variant]) -> bytes:
    """Return the file that describes variants, of a wheel or of all."""
    document = {
        "$schema": _SCHEMA,
        "providers": _PROVIDERS,
        "default-priorities": {"namespace": [*_PROVIDERS]},
        "variants": variants,
    }
    return f"{_to_json(document, indent=1)}\n".encode()


def _to_json(content: object, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, sort_keys=True)


def _same_variant(project: str, subject: str, found: Sequence[str]) -> UsageError:
    return UsageError(
        subject=subject,
        problem="two cells give wheels of one name and one variant",
        details=found,
        hint="give them different variants, or different versions, with local-version"
        f" in:\n  [tool.nox-buildstages.package.{project}]",
    )
