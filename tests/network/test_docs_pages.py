"""The documentation in a browser: nothing scrolls sideways."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.browser import find_faults, needs_browser

ROOT = Path(__file__).parents[2]


@pytest.mark.network
@needs_browser
def test_no_page_scrolls_sideways(tmp_path: Path) -> None:
    """Neither on a desktop nor on a phone."""
    pytest.importorskip("sphinx")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True)
    pages = [str(it.relative_to(tmp_path)) for it in tmp_path.rglob("*.html")]
    faults = find_faults(tmp_path, sorted({*pages} - {"genindex.html", "search.html"}))
    assert [it for it in faults if "CONSOLE" not in it] == []
