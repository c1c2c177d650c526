"""Write the declared keys of the table into docs/reference/table.md."""

from pathlib import Path

from nox_buildstages.config.reference import update_page

PAGE = Path(__file__).parent / "reference" / "table.md"

if __name__ == "__main__":
    PAGE.write_text(update_page(PAGE.read_text("utf-8")), "utf-8")
