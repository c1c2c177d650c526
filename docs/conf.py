"""How Sphinx builds this documentation."""

from importlib.metadata import version as version_of

project = "nox-buildstages"
author = "The nox-buildstages authors"
project_copyright = author
release = version_of("nox-buildstages")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "nox-buildstages"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# A copy has the commands alone, without prompts and outputs.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
