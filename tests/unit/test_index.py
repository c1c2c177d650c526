"""The pages of a static index follow PEP 503, 658, 691, 700 and 714."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from hypothesis import given, settings, strategies as st
from packaging.utils import canonicalize_name, parse_wheel_filename

from nox_buildstages.wheelhouse.index import IndexEntry, index_pages

SHA = "ab" * 32
METADATA = b"Name: x\nVersion: 1\n"
OTHER = hashlib.sha256(METADATA).hexdigest()


def wheel(
    filename: str, sha256: str = SHA, requires_python: str | None = None
) -> IndexEntry:
    name, version, _, _ = parse_wheel_filename(filename)
    return IndexEntry(
        name=name,
        version=version,
        filename=filename,
        sha256=sha256,
        size=7,
        requires_python=requires_python,
        metadata=METADATA,
    )


class Links(HTMLParser):
    """The links of a page, with attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the attributes of a link."""
        if tag == "a":
            self.found.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        """Record the text of the last link."""
        if self.found and data.strip():
            self.found[-1].setdefault("text", data)


NUMPY = "numpy-2.4.6-cp311-cp311-linux_x86_64.whl"
TORCH = "flash_attn-2.8.3+torch2.13.0-py3-none-any.whl"


def test_each_project_has_an_html_and_a_json_page() -> None:
    """The root page links to the projects by normalized names."""
    found = index_pages([wheel(TORCH), wheel(NUMPY)])
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


def test_a_page_describes_each_file() -> None:
    """Special characters are escaped in URLs and in HTML."""
    found = index_pages([wheel(TORCH, requires_python=">=3.10,<4")])
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
    found = index_pages([wheel(NUMPY)])
    assert "requires-python" not in found["numpy/index.html"]
    assert "requires-python" not in found["numpy/index.json"]


def test_an_index_may_be_empty() -> None:
    """An empty index has pages without projects."""
    found = index_pages([])
    assert [*found] == ["index.html", "index.json"]
    assert json.loads(found["index.json"])["projects"] == []


names = st.from_regex(r"[a-z0-9]{1,3}(_[a-z0-9]{1,2})?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,2}\.[0-9](\+[a-z][a-z0-9]{0,3})?", fullmatch=True)
wheels = st.builds("{}-{}-py3-none-any.whl".format, names, versions)


@settings(deadline=None)
@given(st.dictionaries(wheels, st.text("0123456789abcdef", min_size=64, max_size=64)))
def test_every_wheel_is_listed_once_with_its_hash(files: dict[str, str]) -> None:
    """HTML and JSON pages agree, in any order of the wheels."""
    given_wheels = [wheel(name, sha256) for name, sha256 in files.items()]
    found = index_pages(given_wheels)
    assert found == index_pages(reversed(given_wheels))
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
