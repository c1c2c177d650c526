"""Values of variables that are hidden in texts."""

from __future__ import annotations

import pytest

from nox_buildstages.indexes.mask import LONGEST_LINE, Mask

MASK = Mask.of(
    {
        "TOKEN": "hunter2-long",
        "LONGER": "hunter2-long-and-more",
        "PROXY": "http://me:p%40ssw0rd@proxy.example:3128",
        "KEY": "-----BEGIN\n  line-one\nx\nline-two\n",
        "SHORT": "Ab1",
        "EMPTY": "",
    }
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("it is hunter2-long, yes", "it is $TOKEN, yes"),
        ("hunter2-long-and-more", "$LONGER"),
        ("-H hunter2-longhunter2-long", "-H $TOKEN$TOKEN"),
        ("by http://me:p%40ssw0rd@proxy.example:3128", "by $PROXY"),
        ("password p@ssw0rd or p%40ssw0rd", "password $PROXY or $PROXY"),
        ("line-one\nx\nline-two", "$KEY\nx\n$KEY"),
        ("'\\\\nline-one\\\\n'", "'\\\\n$KEY\\\\n'"),
        ("Ab1 stands in AbAb1Ab", "Ab1 stands in AbAb1Ab"),
        ("\udcff hunter2-long", "\udcff $TOKEN"),
    ],
)
def test_a_name_takes_the_place_of_a_value(text: str, shown: str) -> None:
    """Of each line of it, and of a password in a URL; not of a short one."""
    assert MASK.hide(text) == shown
    assert Mask().hide(text) == text


def test_a_line_that_is_not_complete_waits() -> None:
    """A value may come in two pieces; of a very long line only the end waits."""
    assert MASK.hide_lines(b"a\nhunter2") == (b"a\n", b"hunter2")
    long = b"." * LONGEST_LINE + b"hunter2-lo"
    done, rest = MASK.hide_lines(long)
    assert done + rest == long
    assert MASK.hide_bytes(rest + b"ng").endswith(b".$TOKEN")
