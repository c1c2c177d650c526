"""What the imitation of GitHub makes of expressions, as GitHub documents them."""

from __future__ import annotations

import pytest

from support.expressions import Expressions, text

CONTEXTS = {
    "inputs": {"name": "x y", "yes": True, "no": False, "count": 2, "empty": ""},
    "needs": {
        "a-b": {"result": "success", "outputs": {"count": "3"}},
        "c": {"result": "skipped", "outputs": {}},
    },
}


def expressions(*, fine: bool = True) -> Expressions:
    functions = {"always": lambda: True, "success": lambda: fine}
    return Expressions(contexts=CONTEXTS, functions=functions)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("plain", "plain"),
        ("${{ inputs.name }}", "x y"),
        ("a ${{ inputs.name }} b ${{inputs.count}}", "a x y b 2"),
        ("${{ inputs.yes }}", True),
        ("is ${{ inputs.no }}", "is false"),
        ("${{ needs.a-b.outputs.count }}", "3"),
        ("${{ needs.c.outputs.count }}", ""),
        ("${{ !inputs.yes }}", False),
        ("${{ inputs.yes && 'a' || 'b' }}", "a"),
        ("${{ inputs.no && 'a' || 'b' }}", "b"),
        ("${{ inputs.empty != '' }}", False),
        ("${{ 'it''s' == 'it''s' }}", True),
        ("${{ needs.a-b.outputs.count > 0 }}", True),
        ("${{ needs.c.outputs.count > 0 }}", False),
        ("${{ inputs.count < 3 }}", True),
        ("${{ contains(needs.*.result, 'skipped') }}", True),
        ("${{ contains(needs.*.result, 'failure') }}", False),
        ("${{ fromJSON('[1, 2]') }}", [1, 2]),
        ("${{ (inputs.no || inputs.yes) && !inputs.no }}", True),
        ({"a": ["${{ inputs.count }}", 1]}, {"a": [2, 1]}),
    ],
)
def test_an_expression_has_its_value(written: object, value: object) -> None:
    """One that is all of a text keeps its type; among other text it becomes text."""
    assert expressions().value(written) == value


@pytest.mark.parametrize(
    "written",
    ["${{ env.X }}", "${{ upper('a') }}", "${{ a b }}", "${{ inputs.yes ) }}"],
)
def test_what_is_not_known_is_an_error(written: str) -> None:
    """It is never taken for nothing."""
    with pytest.raises((KeyError, AssertionError)):
        expressions().value(written)


@pytest.mark.parametrize(
    ("condition", "fine", "runs"),
    [
        (None, True, True),
        (None, False, False),
        ("inputs.yes", True, True),
        ("inputs.yes", False, False),
        ("inputs.no", True, False),
        ("always() && inputs.yes", False, True),
        ("${{ always() && inputs.no }}", False, False),
    ],
)
def test_a_condition_means_success_too(
    condition: str | None, *, fine: bool, runs: bool
) -> None:
    """Unless it asks how it went by itself."""
    assert expressions(fine=fine).condition(condition, default="success") == runs


def test_numbers_read_as_people_write_them() -> None:
    """The type of an input is number, and 330 is not 330.0."""
    assert text(330) == text(330.0) == "330"
    assert text(0.5) == "0.5"
