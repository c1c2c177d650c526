"""The variables of imports and checks in the runtime environment."""

from __future__ import annotations

from pathlib import Path

from nox_buildstages.environments.environment import Environment, check_variables

SECRETS = (
    *(
        "AWS_SECRET_ACCESS_KEY",
        "DATABASE_URL",
        "GITHUB_TOKEN",
        "HF_TOKEN",
        "HTTPS_PROXY",
    ),
    *("KEY", "NETRC", "NOX_BUILDSTAGES_REMOTE_STORE", "PASS", "SSH_AUTH_SOCK"),
    *("UV_INDEX_URL", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME"),
)
"""Variables that may be secrets, and others that change what is imported."""


def test_a_check_sees_what_is_listed_and_what_the_table_passes() -> None:
    """Whatever a variable is called, the user may have put a secret into it."""
    kept = {"HOME": "/home/me", "CUDA_VISIBLE_DEVICES": "1", "LC_ALL": "C", "CI": "1"}
    outer = {**dict.fromkeys(SECRETS, "secret"), **kept, "PATH": "/bin"}
    location = Path("/env")
    environment = Environment(
        location=location, bin=location / "bin", python=location / "bin/python"
    )
    always = {**kept, "PATH": "/env/bin:/bin", "VIRTUAL_ENV": "/env"}
    assert check_variables(environment, outer, ()) == always
    passed = check_variables(environment, outer, ["HF_TOKEN", "UNSET"])
    assert passed == {**always, "HF_TOKEN": "secret"}
