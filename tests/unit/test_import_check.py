"""What the final session imports, and what it says where that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.environments import import_check as imports

if TYPE_CHECKING:
    import pytest


def test_modules_that_are_there_are_imported() -> None:
    """Nothing is said of them."""
    assert imports.main(["json", "json.decoder"]) is None


def test_the_first_that_fails_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """With its traceback before, for it may be a module deep below that is missing."""
    said = imports.main(["json", "no.such", "nor.this"])
    assert said == "no.such can't be imported in the runtime environment"
    assert "ModuleNotFoundError" in capsys.readouterr().err
