"""Pages in a headless browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs chromium")

SCRIPT = """<!doctype html><link rel="icon" href="data:,"><body><script>
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


def find_faults(folder: Path, pages: Sequence[str]) -> list[str]:
    """Return the faults of pages in a folder, on a desktop and on a phone.

    A fault is something that scrolls sideways, or a line on the console, such as an
    error of a script or a request that isn't answered. Nothing but the files of the
    folder can be reached.
    """
    (folder / "measure.html").write_text(SCRIPT % json.dumps([*pages]), "utf-8")
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/measure.html"
        browser = [
            *(CHROMIUM, "--headless", "--no-sandbox", "--enable-logging=stderr"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            *("--virtual-time-budget=600000", "--dump-dom", address),
        ]
        completed = subprocess.run(
            browser, capture_output=True, text=True, check=True, timeout=500
        )
        server.shutdown()
    result = re.search("RESULT(.*)END", unescape(completed.stdout), re.DOTALL)
    assert result is not None, completed.stdout[:2000]
    return [*json.loads(result[1]), *re.findall(".*CONSOLE.*", completed.stderr)]
