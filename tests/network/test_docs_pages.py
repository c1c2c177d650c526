"""The documentation in a browser: nothing scrolls sideways."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""

SCRIPT = """<!doctype html><body><script>
const pages = %s, widths = [1280, 390], found = [];
async function measure(page, width) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "900px";
  frame.src = page;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  const page_document = frame.contentDocument;
  for (const it of page_document.querySelectorAll("html, pre, .table-wrapper"))
    if (it.scrollWidth > it.clientWidth + 1)
      found.push(`${page}, ${width} px: ${it.tagName} ${it.textContent.slice(0, 60)}`);
  frame.remove();
}
(async () => {
  for (const page of pages) for (const width of widths) await measure(page, width);
  document.body.textContent = "RESULT" + JSON.stringify(found) + "END";
})();
</script>
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print no requests."""


@pytest.mark.network
@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
def test_no_page_scrolls_sideways(tmp_path: Path) -> None:
    """Neither on a desktop nor on a phone."""
    pytest.importorskip("sphinx")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True)
    pages = [str(it.relative_to(tmp_path)) for it in tmp_path.rglob("*.html")]
    pages = sorted(set(pages) - {"genindex.html", "search.html"})
    (tmp_path / "measure.html").write_text(SCRIPT % json.dumps(pages), "utf-8")
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/measure.html"
        arguments = ["--headless", "--no-sandbox", "--virtual-time-budget=600000"]
        browser = [CHROMIUM, *arguments, "--dump-dom", address]
        completed = subprocess.run(
            browser, capture_output=True, text=True, check=True, timeout=500
        )
        server.shutdown()
    result = re.search("RESULT(.*)END", unescape(completed.stdout), re.DOTALL)
    assert result is not None, completed.stdout[:2000]
    assert json.loads(result[1]) == []
