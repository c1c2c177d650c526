"""Coverage of the tests that run the package in their process, and of nothing else.

While Python traces, all code runs up to twice as long, also that of pytest.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import nox_buildstages

if TYPE_CHECKING:
    from collections.abc import Generator

    from coverage import Coverage

OTHERWISE = (
    *("tests/nox/", "tests/property/", "tests/integration/test_keeping.py"),
    *("tests/integration/test_lock_installs.py",),
    *("tests/integration/test_relabelled_wheels.py",),
)
"""Tests that run the package in other processes, or only what others trace, too."""


class Tracing:
    """Pytest's hooks that trace some tests."""

    def __init__(self, coverage: Coverage) -> None:
        """Trace what every import of the package executes, and pause."""
        self._coverage = coverage
        package = nox_buildstages.__path__, f"{nox_buildstages.__name__}."
        for module in pkgutil.walk_packages(*package):
            import_module(module.name)
        coverage.stop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, bool, bool]:
        """Trace a test and the fixtures it is the first to need."""
        if item.nodeid.startswith(OTHERWISE):
            return (yield)
        self._coverage.start()
        try:
            return (yield)
        finally:
            self._coverage.stop()
