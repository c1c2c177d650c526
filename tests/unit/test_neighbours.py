"""What a build wanted from beside its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from nox_buildstages.builder.diagnosis.neighbours import Origin

TREE, SEEN = Path("/store/key/source"), Path("/here/source")
"""The copied folder, and where the sandbox shows it."""


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("gcc -I../core -c sib.c", "../core"),
        ("FileNotFoundError: '../core/core.h'", "../core/core.h"),
        ('given source "../core" which is not an existing directory', "../core"),
        ("failed to read `/here/core/core.h`", "../core/core.h"),
        ("/store/key/source/../core/core.h: No such file", "../core/core.h"),
        ("/store/key/source/src/../../core: No such file", "../core"),
        ("FileNotFoundError: '../gone.h'", None),
        ("cd .. && ls", None),
        ("src/../core/core.h: No such file", None),
        ("cd build && gcc ../here.c", None),
        ("/usr/include/stdio.h", None),
    ],
)
def test_a_hint_names_the_folder_that_holds_both(
    tmp_path: Path, line: str, wanted: str | None
) -> None:
    """If the log names what lies beside the original, and isn't in the copy."""
    for name in ("core", "python"):
        (tmp_path / "ws" / name).mkdir(parents=True)
    for name in ("core/core.h", "python/here.c", "here.c"):
        (tmp_path / "ws" / name).touch()
    log = tmp_path / "log"
    log.write_text(f"building\n{line}\n", "utf-8")
    folder = tmp_path / "ws/python"
    origin = Origin(output="sib", root=tmp_path, top=folder, subdirectory=None)
    hint = origin.find_hint(log, (TREE, SEEN))
    if wanted is None:
        assert not hint
    else:
        assert f"looks for {wanted}," in hint
        assert 'outputs = ["sib @ ./ws#subdirectory=python"]' in hint


def test_a_folder_above_the_project_is_no_advice(tmp_path: Path) -> None:
    """It would copy everything."""
    folder = tmp_path / "project/python"
    folder.mkdir(parents=True)
    (tmp_path / "core").mkdir()
    log = tmp_path / "log"
    log.write_text("gcc -I../../core", "utf-8")
    origin = Origin(
        output="sib", root=tmp_path / "project", top=folder, subdirectory=None
    )
    assert not origin.find_hint(log, (TREE,))
