"""Local versions made of versions in a stage's environment."""

from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.errors import LocalVersionError
from nox_buildstages.lock.files.lockfile import IndexPin, StagePin
from nox_buildstages.lock.resolve.local_versions import (
    local_version,
    with_local_version,
)
from nox_buildstages.model import Template

PINS = (
    IndexPin(name=canonicalize_name("torch"), version=Version("2.13.0+cpu"), sha256=""),
    IndexPin(name=canonicalize_name("Old.One"), version=Version("1!2.0"), sha256=""),
    StagePin(
        name=canonicalize_name("flash-attn"), version=Version("2.8.3+t2"), stage="a"
    ),
)


def label(text: str) -> str:
    return local_version(
        Template(text=text, location="package.grouped-gemm.local-version"),
        PINS,
        output=canonicalize_name("grouped-gemm"),
        stage="kernels",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch{torch}", "torch2.13.0"),
        ("cu130", "cu130"),
        ("{torch}", "2.13.0"),
        ("cu130.{Torch}-fa_{flash_attn}", "cu130.2.13.0.fa.2.8.3"),
        ("T-007", "t.7"),
    ],
)
def test_a_local_version_contains_public_versions(text: str, expected: str) -> None:
    """It is normalized (PEP 440), as installers and file names show it."""
    assert label(text) == expected


def test_an_unknown_project_is_an_error() -> None:
    """The error names the environment, the closest name and a fix."""
    with pytest.raises(LocalVersionError) as caught:
        label("torch{torhc}")
    assert str(caught.value).splitlines() == [
        (
            "error: grouped-gemm (stage kernels): local-version uses {torhc}, which is"
            " neither a package in the environment of stage kernels nor an axis;"
            " did you mean 'torch'?"
        ),
        (
            'help: correct package.grouped-gemm.local-version, or add "torhc" to the'
            " dependencies of stage kernels"
        ),
    ]


def test_an_invalid_local_version_is_an_error() -> None:
    """An epoch contains an exclamation mark."""
    with pytest.raises(LocalVersionError) as caught:
        label("old{old-one}")
    assert "local-version gives 'old1!2.0', which isn't a valid" in str(caught.value)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.3.0", "0.3.0+t"), ("2.8.3+cu12", "2.8.3+t"), ("1!2.0rc1", "1!2.0rc1+t")],
)
def test_a_local_version_replaces_another(version: str, expected: str) -> None:
    """The backend's own local version doesn't count."""
    assert str(with_local_version(Version(version), "t")) == expected
