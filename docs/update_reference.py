"""Write the declared keys into docs/reference/table.md and uv-settings.md."""

from pathlib import Path

from nox_buildstages.config.reference import update_page, update_uv_page

REFERENCE = Path(__file__).parent / "reference"

if __name__ == "__main__":
    for name, update in {"table": update_page, "uv-settings": update_uv_page}.items():
        page = REFERENCE / f"{name}.md"
        page.write_text(update(page.read_text("utf-8")), "utf-8")
