"""The final session imports modules, and shows failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nox_buildstages.environments import import_check as imports

if TYPE_CHECKING:
    import pytest


def test_available_modules_are_imported() -> None:
    """There is no message."""
    assert imports.main(["json", "json.decoder"]) is None


def test_the_first_failure_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback comes first: the missing module may be an indirect import."""
    said = imports.main(["json", "no.such", "nor.this"])
    assert said == "no.such can't be imported in the runtime environment"
    assert "ModuleNotFoundError" in capsys.readouterr().err
