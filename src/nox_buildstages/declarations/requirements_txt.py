"""Read requirements files, as pip does.

https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from nox_buildstages.declarations.declared import REQUIREMENTS_KEY, Declared
from nox_buildstages.errors import UsageError
from nox_buildstages.value import Record, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COMMENT = re.compile(r"(^|\s)#(?!egg=|subdirectory=|sha256=).*$")
_PER_REQUIREMENT = re.compile(
    r"\s(--(?:hash|config-settings?|global-option|install-option))[= ]\S+"
)
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_OPTION = re.compile(r"(--?[A-Za-z][A-Za-z-]*)(?:[= ]\s*|(?<=^-[a-z]))?(.*)")
_NAMES = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
}
_INSTEAD = {
    "--index-url": "[[tool.uv.index]] with url and default = true",
    "--extra-index-url": "[[tool.uv.index]] with url",
    "--find-links": "find-links in [tool.uv]",
    "--no-index": "no-index in [tool.uv]",
    "--no-binary": "no-binary-package in [tool.uv]",
    "--only-binary": "nothing: everything else is installed from wheels",
    "--pre": 'prerelease = "allow" in [tool.uv]',
    "--prefer-binary": "nothing: wheels always come first",
    "--trusted-host": "allow-insecure-host in [tool.uv]",
}
"""Options of pip and what to write in their place."""
_SETTINGS = "config-settings in [tool.nox-buildstages.package.NAME]"
_INSTEAD_OF_OWN = {
    "--hash": "nothing: the lock files have the hashes of what they name",
    "--install-option": "nothing: no build has it any more",
}
"""Options of a single requirement; others are settings of its build backend."""


def read_requirements_txt(
    name: str,
    read: Callable[[str], str],
    variables: Mapping[str, str],
) -> Declared:
    """Read a file, with the files that it names; ``read`` takes a relative path.

    Raises:
        OSError: The file can't be read.
        UsageError: A file that it names can't be read.
    """
    reader = _Reader(read=read, variables=variables)
    reader.read_file(name)
    return Declared(
        origin=name,
        requirements=tuple(dict.fromkeys(reader.requirements)),
        constraints=tuple(dict.fromkeys(reader.constraints)),
        notes=tuple(dict.fromkeys(reader.notes)),
    )


class _Reader(Record):
    read: Callable[[str], str]
    variables: Mapping[str, str]
    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: set[tuple[str, bool]] = field(default_factory=set)

    def read_file(self, name: str, *, is_constraint: bool = False) -> None:
        """Read a file that names requirements, or constraints."""
        if (name, is_constraint) in self.seen:
            return
        self.seen.add((name, is_constraint))
        folder = posixpath.dirname(name)
        target = self.constraints if is_constraint else self.requirements
        # Lines may be continued, and have comments.
        content = self.read(name).removeprefix("\N{BYTE ORDER MARK}")
        lines = re.sub(r"\\\r?\n", " ", content).splitlines()
        for line in filter(None, (_COMMENT.sub("", it).strip() for it in lines)):
            text = _VARIABLE.sub(
                lambda it: self.variables.get(it[1], it[0]), line
            ).strip()
            if not text.startswith("-"):
                self._add(text, target, name)
                continue
            found = _OPTION.match(text)
            option, value = found.groups() if found else (text, "")
            option, value = _NAMES.get(option, option), value.strip()
            if option in ("--requirement", "--constraint"):
                path = posixpath.normpath(posixpath.join(folder, value))
                is_other = is_constraint or option == "--constraint"
                try:
                    self.read_file(path, is_constraint=is_other)
                except OSError as error:
                    problem = f"{text}: {error.strerror or error}"
                    raise UsageError(subject=name, problem=problem) from error
            elif option == "--editable":
                self._add(value, target, name)
            elif option != "--require-hashes":
                write = _INSTEAD.get(option, "the same for uv in [tool.uv]")
                shown = f"{option} {value}".strip()
                if "://" in value and "@" in value:  # it may contain a password
                    shown = option
                self.notes.append(f"{name}: {shown} isn't read; write {write}")

    def _add(self, text: str, target: list[str], name: str) -> None:
        """Add a requirement, or note a line that is none."""
        for option in _PER_REQUIREMENT.findall(f" {text}"):
            write = _INSTEAD_OF_OWN.get(option, _SETTINGS)
            self.notes.append(f"{name}: {option} isn't read; write {write}")
        text = _PER_REQUIREMENT.sub("", f" {text}").strip()
        is_named = False
        try:
            Requirement(text)
            is_named = True
        except InvalidRequirement:
            url, _, marker = text.partition(" ;")
            text = _name_of_url(url.strip(), posixpath.dirname(name)) or text
            text = f"{text} ;{marker}" if marker else text
        try:
            Requirement(text)
        except InvalidRequirement:
            self.notes.append(
                f"{name}: {text} isn't read; write it in {REQUIREMENTS_KEY}"
            )
            return
        if is_named and " @ ./" in text and posixpath.dirname(name):
            text = text.replace(" @ ./", f" @ ./{posixpath.dirname(name)}/", 1)
        target.append(text)


def _name_of_url(url: str, folder: str) -> str | None:
    """Return ``NAME @ URL`` for a URL or path with a known name."""
    base, _, fragment = url.partition("#")
    parts = dict(it.split("=", 1) for it in fragment.split("&") if "=" in it)
    extras = re.search(r"\[[^]]*\]$", base)
    base = base[: extras.start()] if extras else base
    name = parts.pop("egg", "")
    rest = "&".join(f"{key}={value}" for key, value in parts.items())
    if "://" not in base:
        base = f"./{posixpath.normpath(posixpath.join(folder, base))}"
    if not name:
        end = base.partition("?")[0].rstrip("/").rpartition("/")[2]
        if base.startswith("git+"):
            end = end.partition("@")[0].removesuffix(".git")
        archive = re.fullmatch(r"(.+?)-\d[^-]*(\.tar\.\w+|\.zip|-.*\.whl)", end)
        name = archive[1] if archive else end
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(\[[^]]*\])?", name):
        return None
    return f"{name}{extras[0] if extras else ''} @ {base}{f'#{rest}' if rest else ''}"
