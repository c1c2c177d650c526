"""Problems of a table have the lines in which they stand."""

from __future__ import annotations

from nox_buildstages.config.lines import find_lines


def test_the_lines_of_all_forms() -> None:
    """Tables, arrays, inline tables, dotted and quoted keys, strings of four kinds."""
    text = '''\
title = """
[not.a.table]
a = \\""" 1"""
[tool . "x-y"]
b.c = { d = [1, [2,
  3]], "e.f" = 1979-05-27 07:32:00 } # }
s = \'\'\'
]]\'\'\'
[[tool.x-y.stage]]
name = 'it\\'
[tool.x-y.stage.env]
K = "\\"="
[[tool.x-y.stage]]
"n\\u0061me" = "two"
outputs = [
  "a", # "b"
  {q = 1.5e3},
]
'''
    found = find_lines("\ufeff" + text.replace("\n", "\r\n"))
    assert found == {
        "title": 1,
        "tool": 4,
        "tool.x-y": 4,
        "tool.x-y.b": 5,
        "tool.x-y.b.c": 5,
        "tool.x-y.b.c.d": 5,
        "tool.x-y.b.c.d[0]": 5,
        "tool.x-y.b.c.d[1]": 5,
        "tool.x-y.b.c.d[1][0]": 5,
        "tool.x-y.b.c.d[1][1]": 6,
        'tool.x-y.b.c."e.f"': 6,
        "tool.x-y.s": 7,
        "tool.x-y.stage": 9,
        "tool.x-y.stage[0]": 9,
        "tool.x-y.stage[0].name": 10,
        "tool.x-y.stage[0].env": 11,
        "tool.x-y.stage[0].env.K": 12,
        "tool.x-y.stage[1]": 13,
        "tool.x-y.stage[1].name": 14,
        "tool.x-y.stage[1].outputs": 15,
        "tool.x-y.stage[1].outputs[0]": 16,
        "tool.x-y.stage[1].outputs[1]": 17,
        "tool.x-y.stage[1].outputs[1].q": 17,
    }


def test_an_empty_document() -> None:
    """It has no lines."""
    assert find_lines("# nothing") == {}
