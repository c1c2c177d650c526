"""Settings and variables of uv forbid wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name

from nox_buildstages.declarations.no_binary import find_no_binary, without_no_binary

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = canonicalize_name("flash-attn")


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({}, None),
        ({"no-binary": False, "no-binary-package": []}, None),
        ({"no-binary-package": ["torch", 1]}, None),
        ({"no-binary-package": "flash-attn"}, None),
        ({"no-binary": True}, "no-binary of [tool.uv]"),
        ({"no-binary-package": ["Flash_Attn"]}, "no-binary-package of [tool.uv]"),
        ({"pip": {"no-binary": ["flash-attn"]}}, "no-binary of [tool.uv.pip]"),
        ({"pip": {"no-binary": [":all:"]}}, "no-binary of [tool.uv.pip]"),
    ],
)
def test_settings_forbid_wheels(settings: Mapping[str, Any], place: str | None) -> None:
    """Of all packages, or of one package in any spelling of its name."""
    assert find_no_binary(NAME, settings, {}) == place


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"UV_NO_BINARY": "0"}, None),
        ({"UV_NO_BINARY": "True"}, "UV_NO_BINARY"),
        ({"UV_NO_BINARY_PACKAGE": "torch"}, None),
        ({"UV_NO_BINARY_PACKAGE": "torch flash_attn"}, "UV_NO_BINARY_PACKAGE"),
    ],
)
def test_variables_forbid_wheels(
    variables: Mapping[str, str], place: str | None
) -> None:
    """Uv reads names separated by spaces."""
    assert find_no_binary(NAME, {}, variables) == place


def test_settings_without_no_binary() -> None:
    """All other settings stay."""
    pip = {"no-binary": ["torch"], "strict": True}
    settings = {"no-binary": True, "no-binary-package": ["a"], "pip": pip, "index": []}
    assert without_no_binary(settings) == {"pip": {"strict": True}, "index": []}
    assert without_no_binary({"index": []}) == {"index": []}
