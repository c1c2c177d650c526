"""Find paths that several wheels install, with different contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGES = "site-packages/"


class Overlap(Value):
    """Paths that two wheels install, with different contents."""

    winner: str  # comes first in the order of precedence
    loser: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        path = self.paths[0].rpartition(_PACKAGES)[2]
        more = len(self.paths) - 1
        files = f"{path}{f' and {more} more file' if more else ''}{'s' * (more > 1)}"
        return (
            f"{self.winner} and {self.loser} both install {files}, with different"
            " contents"
        )


def find_overlaps(files: Mapping[str, Mapping[str, str]]) -> tuple[Overlap, ...]:
    """Return where wheels disagree about a path.

    ``files`` has for each wheel, in the order of precedence, its paths, each with a
    text that is the same for equal contents. Several wheels may install a path if its
    contents are equal.
    """
    owners: dict[str, str] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for name, contents in files.items():
        for path, content in contents.items():
            owner = owners.setdefault(path, name)
            if files[owner][path] != content:
                found.setdefault((owner, name), []).append(path)
    return tuple(
        Overlap(winner=winner, loser=loser, paths=tuple(sorted(paths)))
        for (winner, loser), paths in found.items()
    )
