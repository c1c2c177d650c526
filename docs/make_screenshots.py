"""Make the pictures of the board and of the report from a run of the first example.

Needs tmux, chromium, a C++ compiler and PyPI. The example is built twice, so that the
report compares two builds.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
EXAMPLE = DOCS.parent / "examples" / "first"
COLUMNS = 100
MOMENT = re.compile(r"2 of 4 done · 1 running.*preshed/\w+\.cpp · ", re.DOTALL)
"""When the board shows builds that are done, one that runs, and one that waits."""

LINE, WIDTH, MARGIN = 20, 8.43, 16
COLORS = {"31": "#ff7b72", "32": "#3fb950", "33": "#d29922", "34": "#79c0ff"}
COLORS |= {"35": "#d2a8ff", "36": "#56d4dd"}
STYLES = {"1": 'font-weight="bold"', "2": 'opacity="0.6"'}
STYLES |= {code: f'fill="{color}"' for code, color in COLORS.items()}


def main() -> None:
    """Write ``board.svg`` and ``report.png``."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium or not shutil.which("tmux"):
        sys.exit("error: the pictures need tmux and chromium\nhelp: install them")
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch, "first-wheels")
        generated = shutil.ignore_patterns(".nox", "wheelhouse", "build-stages")
        shutil.copytree(EXAMPLE, project, ignore=generated)
        env = {**os.environ, "NOX_BUILDSTAGES_CACHE_DIR": f"{scratch}/store"}
        # What a cache has is compiled before the board shows it.
        env |= {"CCACHE_DISABLE": "1", "PYTHONUTF8": "1"}
        run = ["nox", "-s", "build-stages"]
        board = _board(run, project, env)
        IMAGES.joinpath("board.svg").write_text(_svg(board), "utf-8")
        subprocess.run([*run, "--", "--rebuild"], cwd=project, env=env, check=True)
        report = project / "wheelhouse" / "report.html"
        subprocess.run(
            [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--hide-scrollbars", "--window-size=1280,900"),
                *(f"--user-data-dir={scratch}/chromium", report.as_uri()),
                f"--screenshot={IMAGES / 'report.png'}",
            ],
            check=True,
        )


def _board(command: list[str], project: Path, env: dict[str, str]) -> list[str]:
    """Run nox in a terminal to its end; return the board of a moment before."""
    tmux = ["tmux", "-L", f"nox-buildstages-{os.getpid()}"]
    size = ["-x", str(COLUMNS), "-y", "40"]
    session = [*tmux, "new-session", "-d", *size, *command]
    subprocess.run(session, cwd=project, env=env, check=True)
    seen = ""
    while True:
        capture = [*tmux, "capture-pane", "-e", "-p"]
        done = subprocess.run(capture, check=False, capture_output=True, text=True)
        if done.returncode:  # the terminal is closed when nox has ended
            break
        if MOMENT.search(done.stdout):
            seen = done.stdout
        time.sleep(0.5)
    if not seen:
        sys.exit("error: the board never showed what the picture is to show")
    lines = seen.rstrip().splitlines()
    start = next(i for i, line in enumerate(lines) if " of 4 done" in line)
    return lines[start:]


def _svg(lines: list[str]) -> str:
    """Draw lines of a terminal with their colors."""
    width = round(COLUMNS * WIDTH) + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "<title>The board of a run</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        (
            '<g font-family="ui-monospace, Menlo, Consolas, monospace"'
            ' font-size="14" fill="#e6edf3">'
        ),
    ]
    styles: list[str] = []
    for number, line in enumerate(lines):
        column = 0
        for codes, text in re.findall(r"(?:\x1b\[([\d;]*)m)?([^\x1b]*)", line):
            for code in codes.split(";") if codes else ():
                if code in {"", "0"}:
                    styles = []
                elif code == "39":
                    styles = [it for it in styles if not it.startswith("fill")]
                elif code in STYLES:
                    styles.append(STYLES[code])
            if text.strip():
                shown = escape(text).replace(" ", "\N{NO-BREAK SPACE}")
                x, y = MARGIN + column * WIDTH, MARGIN + number * LINE + 15
                length = f'textLength="{len(text) * WIDTH:.1f}"'
                style = " ".join(dict.fromkeys(styles))
                parts.append(
                    f'<text x="{x:.1f}" y="{y}" {length} {style}>{shown}</text>'
                )
            column += len(text)
    return "\n".join([*parts, "</g>", "</svg>", ""])


if __name__ == "__main__":
    main()
