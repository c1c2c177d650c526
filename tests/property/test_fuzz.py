"""No input that others can have touched ends in a traceback.

``nox -s fuzz`` tries more of them.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from support.fuzz import EXPECTED, Kind, inputs, make_kinds

with tempfile.TemporaryDirectory() as _folder:
    KINDS = make_kinds(Path(_folder))


@pytest.mark.parametrize("kind", KINDS, ids=[it.name for it in KINDS])
def test_a_sound_input_is_read(kind: Kind, tmp_path: Path) -> None:
    """Otherwise the changes of it would say little."""
    for number, seed in enumerate(kind.seeds):
        folder = tmp_path / str(number)
        folder.mkdir()
        kind.read(seed, folder)


@pytest.mark.parametrize("kind", KINDS, ids=[it.name for it in KINDS])
@settings(max_examples=8)
@given(st.data())
def test_no_input_ends_in_a_traceback(kind: Kind, data: st.DataObject) -> None:
    """It gives a value, or an error with the place."""
    content = data.draw(inputs(kind))
    with tempfile.TemporaryDirectory() as folder, suppress(*EXPECTED):
        kind.read(content, Path(folder))
