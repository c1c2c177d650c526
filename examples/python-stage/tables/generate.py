"""Write the table of squares that tables.c includes."""

from pathlib import Path

squares = ", ".join(str(number**2) for number in range(100))
Path(__file__).with_name("squares.h").write_text(
    f"static const long squares[] = {{{squares}}};\n", "utf-8"
)
