"""The pages of a static index, as PEP 503, 658, 691, 700 and 714 say."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from hypothesis import given, settings, strategies as st
from packaging.utils import canonicalize_name, parse_wheel_filename

from nox_buildstages.wheelhouse.index import IndexedWheel, pages

SHA, OTHER = "ab" * 32, "cd" * 32


def wheel(
    filename: str, sha256: str = SHA, requires_python: str | None = None
) -> IndexedWheel:
    name, version, _, _ = parse_wheel_filename(filename)
    return IndexedWheel(
        name=name,
        version=version,
        filename=filename,
        sha256=sha256,
        size=7,
        requires_python=requires_python,
        metadata_sha256=OTHER,
    )


class Links(HTMLParser):
    """Reads the links of a page, each as its attributes and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a link says."""
        if tag == "a":
            self.found.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        """Take the text of the last link."""
        if self.found and data.strip():
            self.found[-1].setdefault("text", data)


NUMPY = "numpy-2.4.6-cp311-cp311-linux_x86_64.whl"
TORCH = "flash_attn-2.8.3+torch2.13.0-py3-none-any.whl"


def test_a_project_has_a_page_in_both_forms() -> None:
    """The root links to them; names are normalized."""
    found = pages([wheel(TORCH), wheel(NUMPY)])
    assert [*found] == [
        "index.html",
        "index.json",
        "flash-attn/index.html",
        "flash-attn/index.json",
        "numpy/index.html",
        "numpy/index.json",
    ]
    links = Links(found["index.html"]).found
    assert links == [
        {"href": "flash-attn/", "text": "flash-attn"},
        {"href": "numpy/", "text": "numpy"},
    ]
    assert json.loads(found["index.json"]) == {
        "meta": {"api-version": "1.1"},
        "projects": [{"name": "flash-attn"}, {"name": "numpy"}],
    }


def test_a_page_says_all_of_a_file() -> None:
    """What is no plain letter in a URL or in HTML is escaped."""
    found = pages([wheel(TORCH, requires_python=">=3.10,<4")])
    assert "&gt;=3.10,&lt;4" in found["flash-attn/index.html"]
    (link,) = Links(found["flash-attn/index.html"]).found
    url = "../../flash_attn-2.8.3%2Btorch2.13.0-py3-none-any.whl"
    assert link == {
        "href": f"{url}#sha256={SHA}",
        "data-requires-python": ">=3.10,<4",
        "data-core-metadata": f"sha256={OTHER}",
        "data-dist-info-metadata": f"sha256={OTHER}",
        "text": TORCH,
    }
    assert json.loads(found["flash-attn/index.json"]) == {
        "meta": {"api-version": "1.1"},
        "name": "flash-attn",
        "versions": ["2.8.3+torch2.13.0"],
        "files": [
            {
                "filename": TORCH,
                "url": url,
                "hashes": {"sha256": SHA},
                "requires-python": ">=3.10,<4",
                "size": 7,
                "core-metadata": {"sha256": OTHER},
                "yanked": False,
            }
        ],
    }


def test_what_a_wheel_does_not_say_is_left_out() -> None:
    """No Requires-Python is none, and not an empty one."""
    found = pages([wheel(NUMPY)])
    assert "requires-python" not in found["numpy/index.html"]
    assert "requires-python" not in found["numpy/index.json"]


def test_an_empty_index_is_one() -> None:
    """It has no project."""
    found = pages([])
    assert [*found] == ["index.html", "index.json"]
    assert json.loads(found["index.json"])["projects"] == []


names = st.from_regex(r"[a-z0-9]{1,3}(_[a-z0-9]{1,2})?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,2}\.[0-9](\+[a-z][a-z0-9]{0,3})?", fullmatch=True)
wheels = st.builds("{}-{}-py3-none-any.whl".format, names, versions)


@settings(deadline=None)
@given(st.dictionaries(wheels, st.text("0123456789abcdef", min_size=64, max_size=64)))
def test_every_wheel_is_there_once_with_its_hash(files: dict[str, str]) -> None:
    """In both forms alike, on the page of its project, whatever the order."""
    given_wheels = [wheel(name, sha256) for name, sha256 in files.items()]
    found = pages(given_wheels)
    assert found == pages(reversed(given_wheels))
    listed: list[tuple[str, str, str]] = []
    linked: list[tuple[str, str, str]] = []
    for path, text in found.items():
        project, _, page = path.rpartition("/")
        if not project:
            continue
        assert canonicalize_name(project) == project
        if page == "index.json":
            listed += ((project, *it) for it in from_json(json.loads(text)))
        else:
            linked += ((project, *it) for it in from_html(text))
    expected = [(it.name, it.filename, it.sha256) for it in given_wheels]
    assert sorted(listed) == sorted(linked) == sorted(expected)


def from_json(page: dict[str, Any]) -> list[tuple[str, str]]:
    for file in page["files"]:
        assert unquote(file["url"]) == f"../../{file['filename']}"
    return [(file["filename"], file["hashes"]["sha256"]) for file in page["files"]]


def from_html(page: str) -> list[tuple[str, str]]:
    found = []
    for link in Links(page).found:
        parts = re.fullmatch(r"\.\./\.\./(.+)#sha256=(.+)", link["href"] or "")
        assert parts is not None
        assert unquote(parts[1]) == link["text"]
        found.append((unquote(parts[1]), parts[2]))
    return found
