"""Write declared keys and recipes into docs/reference, and the JSON schema."""

from pathlib import Path

from nox_buildstages.config.reference import update_page, update_uv_page
from nox_buildstages.config.schema import render_schema
from nox_buildstages.recipes import reference as recipes
from nox_buildstages.recipes.catalogue import all_documents
from nox_buildstages.workspace import session_help

REFERENCE = Path(__file__).parent / "reference"

if __name__ == "__main__":
    for name, update in {
        "table": update_page,
        "uv-settings": update_uv_page,
        "sessions": session_help.update_page,
        "recipes": lambda page: recipes.update_page(page, all_documents()),
    }.items():
        page = REFERENCE / f"{name}.md"
        page.write_text(update(page.read_text("utf-8")), "utf-8")
    (REFERENCE / "nox-buildstages.schema.json").write_text(render_schema(), "utf-8")
