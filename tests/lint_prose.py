"""Check the wording of docs, docstrings, comments and messages.

Run by the session ``lint``. A finding names the file, the line, the words, and what to
write instead. ``prose: ignore`` at the end of a line excuses it.
"""

from __future__ import annotations

import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md")
SOURCES = ("src/**/*.py", "noxfile.py")

CONDITION = (
    r"(?:there|nothing|none|one|no|that|it|this|they|both|each|any|several|possible"
    r"|needed|known|given|nobody|somebody)"
)
RULES = (
    (rf"\bwhere {CONDITION}\b", "if, or name the place"),
    (r"(?:^|[.:;] )Where [^.?]*,", "If …, unless a place is meant"),
    (r"\bmend(?:s|ed|ing)?\b", "fix"),
    (r"\banew\b", "again"),
    (r"\bat hand\b", "available"),
    (r"\bgo(?:es)? on\b", "continue, or resume"),
    (r"\bcomes? along\b", "is installed automatically"),
    (r"\b(?:is|are|was|were|be) (?:told|said)\b", "show or print, with an actor"),
    (r"\bwhoever\b", "name the actor"),
    (r"\blikewise\b", "name the thing again"),
    (r"\bin its stead\b", "instead"),
    (r"\bto be had\b", "available"),
    (r"\bbefell\b", "happened"),
    (r"\boutcome\b", "result"),
    (r"\bbecame of\b", "result"),
    (
        r"(?:^|[.:;] )(?:What|Who) (?!is |are |was |does |do |happens )[^.?]*[^?]$",
        "a noun",
    ),
    (r"\bsaid words\b", "the message"),
    (r"\b(?:stale|current) locks?\b", "an out-of-date or up-to-date lock file"),
    (r"\block(?:s| files?)? (?:is|are) (?:stale|current)\b", "out of date, up to date"),
    (r"\bonce more\b", "again"),
    (r"\bhalf-built\b", "partial"),
)
"""What not to write, as a regular expression, and what to write instead."""


def prose_of_page(text: str) -> list[tuple[int, str]]:
    """Return the numbered lines of a Markdown page, without its code."""
    found, is_code = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("```", ":::")):
            is_code = not is_code and not line.strip().startswith("```{term}")
        elif not is_code:
            found.append((number, re.sub(r"`[^`]*`|\]\([^)]*\)", "…", line)))
    return found


def prose_of_module(path: Path) -> list[tuple[int, str]]:
    """Return the numbered lines of a module's strings and comments."""
    found = []
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type in {tokenize.STRING, tokenize.COMMENT}:
                for offset, line in enumerate(token.string.splitlines()):
                    found.append((token.start[0] + offset, line.strip("\"' #")))
    return found


def main() -> int:
    """Print every finding; return 1 if there is one."""
    count = 0
    for pattern in (*PAGES, *SOURCES):
        for path in sorted(ROOT.glob(pattern)):
            is_page = path.suffix == ".md"
            text = path.read_text("utf-8")
            lines = prose_of_page(text) if is_page else prose_of_module(path)
            for number, line in lines:
                for rule, better in RULES:
                    match = re.search(rule, line)
                    if match and "prose: ignore" not in line:
                        place = f"{path.relative_to(ROOT)}:{number}"
                        print(f"{place}: {match[0].strip()!r}: write {better}")  # noqa: T201 - it is what was asked for
                        count += 1
    print(f"{count} findings")  # noqa: T201 - it is what was asked for
    return int(bool(count))


if __name__ == "__main__":
    sys.exit(main())
