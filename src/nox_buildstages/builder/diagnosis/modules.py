"""Modules that a build imports and doesn't find: which project can help, if any."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PROJECTS: Mapping[str, tuple[str, ...]] = {
    "Cython": ("cython",),
    "Crypto": ("pycryptodome",),
    "OpenSSL": ("pyopenssl",),
    "PIL": ("pillow",),
    "attr": ("attrs",),
    "bs4": ("beautifulsoup4",),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "dateutil": ("python-dateutil",),
    "distutils": ("setuptools",),
    "git": ("gitpython",),
    "google.protobuf": ("protobuf",),
    "grpc_tools": ("grpcio-tools",),
    "jinja2": ("jinja2",),
    "mesonpy": ("meson-python",),
    "mypyc": ("mypy",),
    "pkg_resources": ("setuptools",),
    "psycopg2": ("psycopg2-binary",),
    "skbuild": ("scikit-build",),
    "sklearn": ("scikit-learn",),
    "tlz": ("toolz",),
    "yaml": ("pyyaml",),
}
"""The projects of modules that have another name than their project."""

_NAMESPACES = {"backports", "google", "jaraco", "ruamel", "sphinxcontrib", "zope"}
"""Packages that many projects share; the project has the name of the part below."""

_REMOVED: Mapping[str, str] = {
    "pkg_resources.extern": "setuptools<71",
    "pkg_resources": "setuptools<82",
    "setuptools.extern": "setuptools<71",
    "setuptools.package_index": "setuptools<81",
    "setuptools.sandbox": "setuptools<80",
    "distutils.msvc9compiler": "setuptools<74",
    "distutils.msvccompiler": "setuptools<74",
    "pip.download": "pip<10",
    "pip.req": "pip<10",
    "torch._six": "torch<2",
}
"""Modules that later versions of their project don't have: the ones that have them."""

_GONE = {"numpy.distutils": (3, 11)}
"""Modules without a version for newer Pythons: the newest Python that has them."""

_FORMER = {
    *("asynchat", "asyncore", "binhex", "formatter", "imp", "smtpd", "symbol"),
    *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3"),
    *("mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd"),
    *("sunau", "telnetlib", "uu", "xdrlib", "macpath", "dummy_threading"),
}
"""Modules of the standard library of older versions of Python 3."""

_PYTHON_2 = {
    *("BaseHTTPServer", "ConfigParser", "HTMLParser", "Queue", "SocketServer"),
    *("StringIO", "Tkinter", "UserDict", "__builtin__", "cPickle", "cStringIO"),
    *("commands", "cookielib", "copy_reg", "exceptions", "httplib", "md5", "sets"),
    *("sha", "thread", "urllib2", "urlparse", "xmlrpclib"),
}
"""Modules of the standard library of Python 2."""


class MissingModule(Value):
    """A module that a build imports and doesn't find."""

    problem: str  # such as "setuptools 84 has no pkg_resources"
    requirement: str = ""
    """It provides the module, such as ``setuptools<82``; empty if nothing does."""
    fix: str  # without a requirement, such as "patch its source"
    is_in_source: bool = False


def explain_missing(
    module: str,
    *,
    output: str,
    python: str,
    packages: Mapping[str, str],
    source: Collection[str] = (),
) -> MissingModule:
    """Return what can provide a module, in an environment that doesn't.

    ``packages`` has the versions of the environment by normalized name, ``source`` the
    modules beside the ``pyproject.toml``.
    """
    parents = [module]
    while "." in parents[-1]:
        parents.append(parents[-1].rpartition(".")[0])
    top = parents[-1]
    older = next((_REMOVED[it] for it in parents if it in _REMOVED), "")
    removed_from, _, limit = older.partition("<")
    project = canonicalize_name(removed_from or find_projects(module)[0])
    locked = packages.get(project)
    newest = next((_GONE[it] for it in parents if it in _GONE), None)
    requirement = fix = ""
    if top in source:
        problem = f"its build can't import {module}, which is in its source"
    elif top in _PYTHON_2:
        problem = f"its build is for Python 2, which had a module {module}"
    elif top in _FORMER:
        problem = f"Python {python} has no module {module}"
        fix = "use an older Python, or patch its source"
    elif top in sys.stdlib_module_names and top != "distutils":
        problem, fix = f"this Python has no module {module}", "use another Python"
    elif project == output:
        problem = f"its build imports {module}, which it only builds"
    elif newest and Version(python).release > newest:
        problem = f"{project} has no {module} for Python {python}"
        fix = f"use Python {'.'.join(map(str, newest))}, or patch its source"
    elif locked is None:
        problem = f"its build imports the module {module}"
        requirement = older or find_projects(module)[0]
    elif module == top and not older:
        problem = f"its build can't import {module}, which the environment has"
        fix = "patch its source, which may run another Python"
    else:
        problem = f"{project} {locked} has no {module}"
        fix = f"use another version of {project}, or patch its source"
        requirement = older if older and Version(locked) >= Version(limit) else ""
    return MissingModule(
        problem=problem,
        requirement=requirement,
        fix=fix or "patch its source",
        is_in_source=top in source,
    )


def find_projects(module: str) -> tuple[str, ...]:
    """Return the names of the projects that may have a module."""
    top, _, rest = module.partition(".")
    second = ".".join((top, rest.partition(".")[0])) if rest else top
    if second in PROJECTS or top in PROJECTS:
        return PROJECTS.get(second, PROJECTS.get(top, ()))
    return (canonicalize_name(second) if top in _NAMESPACES else top,)
