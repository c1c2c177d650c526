"""Every environment variable of uv, and the meaning here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nox_buildstages.declarations.uv_keys import Effect

_FOR_PROJECTS = "For `uv run`, `uv sync` and `uv add`."
_FOR_PUBLISHING = "For `uv publish`."
_FOR_PYTHONS = "nox chooses the Pythons."
_FOR_TOOLS = "For `uv tool` and for uv's own installation."
_FOR_ENVIRONMENTS = "Environments are the same with each value."
_FOR_TESTS = "For tests of uv."

VARIABLES: Mapping[str, tuple[Effect, str]] = {
    "UV_ACTIVE": ("irrelevant", _FOR_PROJECTS),
    "UV_AMD_GPU_ARCHITECTURE": ("irrelevant", "As `UV_TORCH_BACKEND`."),
    "UV_API_KEY": ("taken", "Login."),
    "UV_ASTRAL_MIRROR_URL": ("irrelevant", _FOR_PYTHONS),
    "UV_AUTH_TOKEN": ("taken", "Login."),
    "UV_AZURE_ENDPOINT_URL": ("taken", "Login: its requests are signed."),
    "UV_BREAK_SYSTEM_PACKAGES": ("irrelevant", "nox makes the environments."),
    "UV_BUILD_CONSTRAINT": (
        "warned",
        "Write `build-constraints` into `[tool.nox-buildstages]`.",
    ),
    "UV_CACHE_DIR": ("taken", "The cache of uv."),
    "UV_COMPILE_BYTECODE": (
        "irrelevant",
        "Environments have no bytecode until they are used.",
    ),
    "UV_COMPILE_BYTECODE_TIMEOUT": ("irrelevant", "As `UV_COMPILE_BYTECODE`."),
    "UV_CONCURRENT_BUILDS": ("irrelevant", "uv builds nothing here."),
    "UV_CONCURRENT_CACHE_READS": ("taken", "It changes no result."),
    "UV_CONCURRENT_DOWNLOADS": ("taken", "It changes no result."),
    "UV_CONCURRENT_INSTALLS": ("taken", "It changes no result."),
    "UV_CONFIG_FILE": (
        "taken",
        "Takes the place of the files of the user and the system; see below.",
    ),
    "UV_CONSTRAINT": ("warned", "Write `constraints` into `[tool.nox-buildstages]`."),
    "UV_CREDENTIALS_DIR": ("taken", "The folder of logins."),
    "UV_CUDA_DRIVER_VERSION": ("irrelevant", "As `UV_TORCH_BACKEND`."),
    "UV_CUSTOM_COMPILE_COMMAND": ("irrelevant", "Lock files have no such header."),
    "UV_DEFAULT_INDEX": (
        "taken",
        "The default index, unless the project declares one; that is reported.",
    ),
    "UV_DEV": ("irrelevant", "Name groups in `groups` of `final`."),
    "UV_DOWNLOAD_URL": ("irrelevant", _FOR_TOOLS),
    "UV_ENV_FILE": ("irrelevant", _FOR_PROJECTS),
    "UV_EXCLUDE": ("warned", "Write `exclude-dependencies` into `[tool.uv]`."),
    "UV_EXCLUDE_NEWER": (
        "warned",
        "Write `exclude-newer` into `[tool.nox-buildstages]`.",
    ),
    "UV_EXCLUDE_NEWER_PACKAGE": (
        "warned",
        "Write `exclude-newer-package` into `[tool.uv]`.",
    ),
    "UV_EXTRA_INDEX_URL": ("taken", "Indexes after those of the project."),
    "UV_FIND_LINKS": ("taken", "Folders of wheels, beside those of the project."),
    "UV_FORK_STRATEGY": ("warned", "Each environment is resolved for one platform."),
    "UV_FROZEN": ("irrelevant", "For uv.lock; here it is `-- --locked`."),
    "UV_GCS_ENDPOINT_URL": ("taken", "Login: its requests are signed."),
    "UV_GITHUB_FAST_PATH_URL": ("irrelevant", _FOR_TESTS),
    "UV_GITHUB_TOKEN": ("irrelevant", _FOR_TOOLS),
    "UV_GIT_LFS": ("warned", "As `lfs` of a source, which has no effect here."),
    "UV_GRAALPY_INSTALL_MIRROR": ("irrelevant", _FOR_PYTHONS),
    "UV_HIDE_BUILD_OUTPUT": ("irrelevant", "uv builds nothing here."),
    "UV_HTTP_CONNECT_TIMEOUT": ("taken", "It changes no result."),
    "UV_HTTP_RETRIES": ("taken", "It changes no result."),
    "UV_HTTP_TIMEOUT": ("taken", "It changes no result."),
    "UV_INDEX": ("taken", "Indexes after those of the project."),
    "UV_INDEX_STRATEGY": ("warned", "Write `index-strategy` into `[tool.uv]`."),
    "UV_INDEX_URL": (
        "taken",
        "The default index, unless the project declares one; that is reported.",
    ),
    "UV_INIT_BARE": ("irrelevant", "For `uv init`."),
    "UV_INIT_BUILD_BACKEND": ("irrelevant", "For `uv init`."),
    "UV_INSECURE_HOST": ("taken", "A host whose certificate isn't checked."),
    "UV_INSECURE_NO_ZIP_VALIDATION": ("warned", "Each wheel must be sound."),
    "UV_INSTALLER_GHE_BASE_URL": ("irrelevant", _FOR_TOOLS),
    "UV_INSTALLER_GITHUB_BASE_URL": ("irrelevant", _FOR_TOOLS),
    "UV_INSTALL_DIR": ("irrelevant", _FOR_TOOLS),
    "UV_ISOLATED": ("warned", "The settings of the project hold."),
    "UV_KEYRING_PROVIDER": (
        "taken",
        "Login, unless `[tool.uv]` has `keyring-provider`; that is reported.",
    ),
    "UV_LEGACY_TAR_BACKEND": ("irrelevant", "uv unpacks no sdist here."),
    "UV_LIBC": ("irrelevant", _FOR_PYTHONS),
    "UV_LINK_MODE": ("irrelevant", _FOR_ENVIRONMENTS),
    "UV_LOCKED": ("irrelevant", "For uv.lock; here it is `-- --locked`."),
    "UV_LOCK_TIMEOUT": ("taken", "It changes no result."),
    "UV_LOG_CONTEXT": ("irrelevant", "For `uv --verbose`."),
    "UV_MALWARE_CHECK": ("irrelevant", _FOR_PROJECTS),
    "UV_MALWARE_CHECK_URL": ("irrelevant", _FOR_PROJECTS),
    "UV_MANAGED_PYTHON": ("irrelevant", _FOR_PYTHONS),
    "UV_NATIVE_TLS": ("taken", "Which certificates count."),
    "UV_NO_BINARY": ("taken", "Every package has to be an output of a stage."),
    "UV_NO_BINARY_PACKAGE": ("taken", "The packages have to be outputs of stages."),
    "UV_NO_BUILD": ("irrelevant", "uv never builds here."),
    "UV_NO_BUILD_ISOLATION": (
        "warned",
        "A build gets the environment of its stage.",
    ),
    "UV_NO_BUILD_PACKAGE": ("irrelevant", "uv never builds here."),
    "UV_NO_CACHE": ("taken", "The cache of uv."),
    "UV_NO_CONFIG": (
        "taken",
        "No file of the user or the system counts; those of the project do.",
    ),
    "UV_NO_DEFAULT_GROUPS": ("irrelevant", "Name groups in `groups` of `final`."),
    "UV_NO_DEV": ("irrelevant", "Name groups in `groups` of `final`."),
    "UV_NO_EDITABLE": ("irrelevant", _FOR_PROJECTS),
    "UV_NO_ENV_FILE": ("irrelevant", _FOR_PROJECTS),
    "UV_NO_GITHUB_FAST_PATH": ("taken", "It changes no result."),
    "UV_NO_GROUP": ("irrelevant", "Name groups in `groups` of `final`."),
    "UV_NO_HF_TOKEN": ("taken", "Login."),
    "UV_NO_INSTALLER_METADATA": ("irrelevant", _FOR_ENVIRONMENTS),
    "UV_NO_INSTALL_LOCAL": ("irrelevant", _FOR_PROJECTS),
    "UV_NO_INSTALL_PROJECT": ("irrelevant", _FOR_PROJECTS),
    "UV_NO_INSTALL_WORKSPACE": ("irrelevant", _FOR_PROJECTS),
    "UV_NO_MANAGED_PYTHON": ("irrelevant", _FOR_PYTHONS),
    "UV_NO_MODIFY_PATH": ("irrelevant", _FOR_TOOLS),
    "UV_NO_PROGRESS": ("irrelevant", "uv shows no progress here."),
    "UV_NO_PROJECT": ("irrelevant", _FOR_PROJECTS),
    "UV_NO_SOURCES": ("warned", "Write `no-sources = true` into `[tool.uv]`."),
    "UV_NO_SOURCES_PACKAGE": (
        "warned",
        "Write `no-sources-package` into `[tool.uv]`.",
    ),
    "UV_NO_SYNC": ("irrelevant", _FOR_PROJECTS),
    "UV_NO_SYSTEM_CONFIG": ("taken", "No file of the system counts."),
    "UV_NO_VERIFY_HASHES": ("warned", "Each file must be the locked one."),
    "UV_NO_WRAP": ("irrelevant", "Messages are the same."),
    "UV_OFFLINE": ("taken", "For all that needs a network."),
    "UV_ONLY_INSTALL_LOCAL": ("irrelevant", _FOR_PROJECTS),
    "UV_ONLY_INSTALL_PROJECT": ("irrelevant", _FOR_PROJECTS),
    "UV_ONLY_INSTALL_WORKSPACE": ("irrelevant", _FOR_PROJECTS),
    "UV_OVERRIDE": ("warned", "Write `override-dependencies` into `[tool.uv]`."),
    "UV_PRERELEASE": ("warned", "Write `prerelease` into `[tool.uv]`."),
    "UV_PRERELEASE_PACKAGE": (
        "warned",
        "Write `prerelease-package` into `[tool.uv]`.",
    ),
    "UV_PREVIEW": ("irrelevant", "Nothing here depends on a preview of uv."),
    "UV_PREVIEW_FEATURES": ("irrelevant", "Nothing here depends on a preview of uv."),
    "UV_PROJECT": ("irrelevant", _FOR_PROJECTS),
    "UV_PROJECT_ENVIRONMENT": ("irrelevant", _FOR_PROJECTS),
    "UV_PUBLISH_CHECK_URL": ("irrelevant", _FOR_PUBLISHING),
    "UV_PUBLISH_INDEX": ("irrelevant", _FOR_PUBLISHING),
    "UV_PUBLISH_NO_ATTESTATIONS": ("irrelevant", _FOR_PUBLISHING),
    "UV_PUBLISH_PASSWORD": ("irrelevant", _FOR_PUBLISHING),
    "UV_PUBLISH_TOKEN": ("irrelevant", _FOR_PUBLISHING),
    "UV_PUBLISH_URL": ("irrelevant", _FOR_PUBLISHING),
    "UV_PUBLISH_USERNAME": ("irrelevant", _FOR_PUBLISHING),
    "UV_PYODIDE_INSTALL_MIRROR": ("irrelevant", _FOR_PYTHONS),
    "UV_PYPY_INSTALL_MIRROR": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_BIN_DIR": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_CACHE_DIR": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_CPYTHON_BUILD": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_DOWNLOADS": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_DOWNLOADS_JSON_URL": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_GRAALPY_BUILD": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_INSTALL_BIN": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_INSTALL_DIR": ("taken", "Where uv's Pythons are."),
    "UV_PYTHON_INSTALL_MIRROR": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_INSTALL_REGISTRY": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_NO_REGISTRY": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_PREFERENCE": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_PYODIDE_BUILD": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_PYPY_BUILD": ("irrelevant", _FOR_PYTHONS),
    "UV_PYTHON_SEARCH_PATH": ("irrelevant", _FOR_PYTHONS),
    "UV_REQUEST_TIMEOUT": ("taken", "It changes no result."),
    "UV_REQUIRE_BUILD_HASHES": ("irrelevant", "Each locked file has a hash."),
    "UV_REQUIRE_HASHES": ("warned", "Each locked file has a hash."),
    "UV_RESOLUTION": ("warned", "Write `resolution` into `[tool.uv]`."),
    "UV_RUN_MAX_RECURSION_DEPTH": ("irrelevant", _FOR_PROJECTS),
    "UV_RUN_RECURSION_DEPTH": ("irrelevant", _FOR_PROJECTS),
    "UV_RUN_RLIMIT_NOFILE": ("irrelevant", _FOR_PROJECTS),
    "UV_S3_ENDPOINT_URL": ("taken", "Login: its requests are signed."),
    "UV_SHOW_RESOLUTION": ("irrelevant", _FOR_PROJECTS),
    "UV_SKIP_WHEEL_FILENAME_CHECK": ("warned", "Each wheel must be sound."),
    "UV_STACK_SIZE": ("taken", "It changes no result."),
    "UV_SYSTEM_CERTS": ("taken", "Which certificates count."),
    "UV_SYSTEM_PYTHON": ("irrelevant", "nox makes the environments."),
    "UV_TOOL_BIN_DIR": ("irrelevant", _FOR_TOOLS),
    "UV_TOOL_DIR": ("irrelevant", _FOR_TOOLS),
    "UV_TORCH_BACKEND": (
        "warned",
        "As in `uv lock`; name an index in `sources` of `[tool.uv]`.",
    ),
    "UV_UNMANAGED_INSTALL": ("irrelevant", _FOR_TOOLS),
    "UV_UPLOAD_HTTP_TIMEOUT": ("irrelevant", _FOR_PUBLISHING),
    "UV_VENV_CLEAR": ("irrelevant", "nox makes the environments."),
    "UV_VENV_RELOCATABLE": ("irrelevant", "nox makes the environments."),
    "UV_VENV_SEED": ("irrelevant", "nox makes the environments."),
    "UV_WORKING_DIR": ("irrelevant", _FOR_PROJECTS),
    "UV_WORKING_DIRECTORY": ("irrelevant", _FOR_PROJECTS),
}
"""Each variable: whether it has an effect, and which.

Nobody sees in a lock file which variables were set when it was made. So uv gets those
about logins, indexes, proxies, caches and certificates. A variable is *warned* about if
it would change which versions or files are locked.
"""

_ANSWERED_HERE = frozenset(
    (
        *("UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_NO_SYSTEM_CONFIG"),
        *("UV_EXTRA_INDEX_URL", "UV_INDEX"),
        *("UV_NO_BINARY", "UV_NO_BINARY_PACKAGE"),
    )
)
"""Variables with an effect that uv doesn't get: it gets settings instead."""

DEFAULT_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")

_LOGIN = re.compile("UV_INDEX_.+_(USERNAME|PASSWORD)")
_INTERNAL = re.compile("UV_(INTERNAL_|TEST_|COMMIT_|LAST_TAG).*")

_PASSED = re.compile(
    _LOGIN.pattern +
    # Folders, settings and logins of uv and of its git.
    r"|XDG_\w+|NETRC|RUST_BACKTRACE|RUST_MIN_STACK|HTTP_TIMEOUT"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT|(?i:(https?|all|no)_proxy)"
    r"|HF_TOKEN|PYX_\w+|(AWS|AZURE|CLOUDSDK|GOOGLE)_\w+"
    r"|DBUS_SESSION_BUS_ADDRESS|(PYTHON_|ARTIFACTS_)?KEYRING_\w+|VSS_NUGET_\w+"
    r"|GIT_\w+|SSH_\w+|GCM_\w+|GH_\w+|GITHUB_TOKEN|GITLAB_TOKEN"
)
"""Logins for indexes, and variables that are not uv's own."""


def is_for_uv(name: str) -> bool:
    """Whether uv gets an environment variable, beside what each program gets."""
    effect = VARIABLES.get(name, (None,))[0]
    is_own = effect == "taken" and name not in _ANSWERED_HERE
    return is_own or _PASSED.fullmatch(name) is not None


def find_idle_variables(
    settings: Mapping[str, Any], variables: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield each variable that would have an effect and has none, with a reason."""
    for name in sorted(variables):
        effect, text = VARIABLES.get(name, (None, ""))
        if not variables[name] or not name.startswith("UV_"):
            continue
        if effect == "warned":
            text = text.replace("`", "").rstrip(".")
            yield name, text[0].lower() + text[1:]
        elif name in DEFAULT_INDEX_VARIABLES and (key := find_default(settings)):
            yield name, f"[tool.uv] has {key}"
        elif name == "UV_KEYRING_PROVIDER" and "keyring-provider" in settings:
            yield name, "[tool.uv] has keyring-provider"
        elif effect is None and not (_LOGIN.fullmatch(name) or _INTERNAL.match(name)):
            yield name, "this version of nox-buildstages doesn't know it"


def find_default(settings: Mapping[str, Any]) -> str:
    """Return the key by which settings declare a default index; empty without one."""
    indexes: Iterable[Mapping[str, Any]] = settings.get("index", ())
    if any(it.get("default") for it in indexes):
        return "an index with default = true"
    tables = (settings, settings.get("pip", {}))
    return "index-url" if any("index-url" in it for it in tables) else ""
