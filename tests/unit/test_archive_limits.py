"""An archive that holds too much is refused before anything is unpacked."""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING

import pytest

from nox_buildstages.sources.archives import unpack_archive
from nox_buildstages.system import archive_limits
from nox_buildstages.system.archive_limits import limit_members

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("a", 3 * 10**11)], "it contains more than 200.0 GB"),
        ([("d/" * 101 + "a", 1)], "is more than 100 folders deep"),
        ([("a", 1)] * 4, "it has more than 3 members"),
    ],
)
def test_too_many_too_large_or_too_deep(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: list[tuple[str, int]],
    problem: str,
) -> None:
    """The message names what is beyond the limit."""
    monkeypatch.setattr(archive_limits, "MOST_MEMBERS", 3)
    with pytest.raises(ValueError, match=re.escape(problem)):
        [*limit_members(members, lambda it: it, tmp_path)]


def test_an_archive_for_which_the_disk_is_too_small(tmp_path: Path) -> None:
    """A header may claim any size; nothing is written."""
    entry = tarfile.TarInfo("s-1.0/bomb")
    entry.size = 150 * 10**9
    (tmp_path / "s.tar").write_bytes(entry.tobuf() + bytes(1024))
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="No space left on device"):
        unpack_archive(tmp_path / "s.tar", tmp_path / "out")
    assert not [*(tmp_path / "out").iterdir()]
