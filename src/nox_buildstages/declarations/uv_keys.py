"""Every key of uv's settings, and the meaning here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Effect: TypeAlias = Literal["taken", "irrelevant", "warned"]

KEYS: Mapping[str, Mapping[str, tuple[Effect, str]]] = {
    "": {
        "add-bounds": ("irrelevant", "For `uv add`."),
        "allow-insecure-host": ("taken", "For resolutions and downloads."),
        "audit": ("irrelevant", "For `uv audit`."),
        "build-backend": (
            "irrelevant",
            "uv's build backend reads it in the source that it builds.",
        ),
        "build-constraint-dependencies": (
            "taken",
            "As `build-constraints` of the table; locks have the hashes.",
        ),
        "cache-dir": ("taken", "The cache of uv."),
        "cache-keys": (
            "irrelevant",
            "The key of a wheel contains the contents of its folder.",
        ),
        "check-url": ("irrelevant", "For `uv publish`."),
        "compile-bytecode": (
            "irrelevant",
            "Environments have no bytecode until they are used.",
        ),
        "concurrent-builds": (
            "irrelevant",
            "uv builds nothing here; the table has `jobs`.",
        ),
        "concurrent-downloads": ("taken", "For resolutions and downloads."),
        "concurrent-installs": ("irrelevant", "It changes no result."),
        "config-settings": (
            "taken",
            "For every output, below `config-settings` of its table.",
        ),
        "config-settings-package": (
            "taken",
            "As `config-settings` in the table of an output, which has the last word.",
        ),
        "conflicts": (
            "taken",
            "Extras and groups that conflict can't be in `final` together.",
        ),
        "constraint-dependencies": (
            "taken",
            "For every environment; each keeps its source.",
        ),
        "default-groups": ("irrelevant", "Name groups in `groups` of `final`."),
        "dependency-groups": (
            "irrelevant",
            "`requires-python` holds for the whole file.",
        ),
        "dependency-metadata": (
            "taken",
            "For packages of indexes; for an output if its build backend can't tell.",
        ),
        "dev-dependencies": ("taken", "As the group `dev`."),
        "environments": (
            "irrelevant",
            "Lock files are for the platforms in `environments` of the table.",
        ),
        "exclude-dependencies": ("taken", "For the runtime; as in uv, not for builds."),
        "exclude-newer": (
            "taken",
            "For every environment, unless the table has `exclude-newer`.",
        ),
        "exclude-newer-package": ("taken", "For every environment."),
        "extra-build-dependencies": (
            "taken",
            "As `build-requires.add`; `match-runtime = true` as `match-runtime`.",
        ),
        "extra-build-variables": (
            "taken",
            "As `env` in the table of an output, which has the last word.",
        ),
        "extra-index-url": ("taken", "For resolutions and downloads."),
        "find-links": ("taken", "For resolutions."),
        "fork-strategy": (
            "irrelevant",
            "Each environment is resolved for one platform.",
        ),
        "graalpy-install-mirror": ("irrelevant", "nox chooses the Pythons."),
        "http-proxy": ("taken", "For resolutions and downloads."),
        "https-proxy": ("taken", "For resolutions and downloads."),
        "index": ("taken", "For resolutions and downloads; see below."),
        "index-strategy": ("taken", "For resolutions."),
        "index-url": ("taken", "For resolutions and downloads."),
        "keyring-provider": ("taken", "For resolutions and downloads."),
        "link-mode": ("irrelevant", "Environments are the same with each mode."),
        "managed": ("irrelevant", "For `uv sync`."),
        "minimum-libc-version": (
            "irrelevant",
            "Lock files are for this machine and for `environments`.",
        ),
        "native-tls": ("taken", "For resolutions and downloads."),
        "no-binary": ("taken", "Every package has to be an output of a stage."),
        "no-binary-package": ("taken", "The package has to be an output of a stage."),
        "no-build": (
            "irrelevant",
            "uv never builds here; what a stage names is built.",
        ),
        "no-build-isolation": (
            "warned",
            "Each build has its stage's environment: use `dependencies` of the stage.",
        ),
        "no-build-isolation-package": (
            "taken",
            "`build-stages-init` proposes stages for these packages.",
        ),
        "no-build-package": (
            "irrelevant",
            "uv never builds here; what a stage names is built.",
        ),
        "no-cache": ("taken", "For resolutions and downloads."),
        "no-index": ("taken", "For resolutions."),
        "no-proxy": ("taken", "For resolutions and downloads."),
        "no-sources": ("taken", "No source counts."),
        "no-sources-package": ("taken", "No source of the package counts."),
        "offline": ("taken", "For all that needs a network."),
        "override-dependencies": (
            "taken",
            "For every environment; each keeps its source.",
        ),
        "package": (
            "irrelevant",
            "`project` of `final` says if the project is installed.",
        ),
        "pip": ("taken", "Only its keys below; the others are for `uv pip`."),
        "prerelease": ("taken", "For resolutions."),
        "prerelease-package": ("taken", "For resolutions."),
        "preview": ("irrelevant", "Nothing here depends on a preview of uv."),
        "preview-features": ("irrelevant", "Nothing here depends on a preview of uv."),
        "publish-url": ("irrelevant", "For `uv publish`."),
        "pyodide-install-mirror": ("irrelevant", "nox chooses the Pythons."),
        "pypy-install-mirror": ("irrelevant", "nox chooses the Pythons."),
        "python-downloads": ("irrelevant", "nox chooses the Pythons."),
        "python-downloads-json-url": ("irrelevant", "nox chooses the Pythons."),
        "python-install-mirror": ("irrelevant", "nox chooses the Pythons."),
        "python-preference": ("irrelevant", "nox chooses the Pythons."),
        "reinstall": ("irrelevant", "Environments are made equal to their lock files."),
        "reinstall-package": (
            "irrelevant",
            "Environments are made equal to their lock files.",
        ),
        "require-build-hashes": ("irrelevant", "Every locked file has a hash."),
        "required-environments": (
            "irrelevant",
            "Lock files are for the platforms in `environments` of the table.",
        ),
        "required-version": ("irrelevant", "nox-buildstages brings its uv along."),
        "resolution": ("taken", "For resolutions."),
        "sources": ("taken", "For every environment; see below."),
        "system-certs": ("taken", "For resolutions and downloads."),
        "torch-backend": ("irrelevant", "As in `uv lock`: it is for `uv pip`."),
        "trusted-publishing": ("irrelevant", "For `uv publish`."),
        "upgrade": ("irrelevant", "`build-stages-lock -- --upgrade` is for that."),
        "upgrade-package": (
            "irrelevant",
            "`build-stages-lock -- --upgrade-package NAME` is for that.",
        ),
        "workspace": ("taken", "Members are found by `workspace = true` of a source."),
    },
    "index": {
        "authenticate": ("taken", "For resolutions and downloads."),
        "cache-control": ("taken", "For resolutions."),
        "default": ("taken", "For resolutions."),
        "exclude-newer": ("taken", "For resolutions."),
        "explicit": ("taken", "Only sources use the index."),
        "format": ("taken", "For resolutions."),
        "hash-algorithm": ("taken", "For resolutions; a lock file needs sha256."),
        "ignore-error-codes": ("taken", "For resolutions."),
        "name": ("taken", "For sources, logins and `index` of the matrix."),
        "publish-url": ("irrelevant", "For `uv publish`."),
        "url": ("taken", "A path is relative to the file."),
    },
    "sources": {
        "branch": ("taken", "Of a git repository; the lock file has the commit."),
        "editable": (
            "irrelevant",
            "An output is a wheel; `project` of `final` is editable.",
        ),
        "extra": ("taken", "The entry counts if the runtime has the extra."),
        "git": ("taken", "A commit is locked."),
        "group": ("taken", "The entry counts if the runtime has the group."),
        "index": ("taken", "Also for overrides and constraints of the package."),
        "lfs": (
            "warned",
            "Whether files of git LFS are fetched depends on git's settings.",
        ),
        "marker": ("taken", "The entry counts if the marker holds."),
        "package": (
            "irrelevant",
            "A package without a build backend can't be an output.",
        ),
        "path": ("taken", "A folder, an sdist or a wheel, relative to the file."),
        "rev": ("taken", "Of a git repository; the lock file has the commit."),
        "subdirectory": ("taken", "Of a git repository or an archive."),
        "tag": ("taken", "Of a git repository; the lock file has the commit."),
        "url": ("taken", "The lock file has the hash."),
        "workspace": ("taken", "The folder of the member."),
    },
    "pip": {
        "all-extras": ("irrelevant", "As in `uv lock`."),
        "allow-empty-requirements": ("irrelevant", "As in `uv lock`."),
        "annotation-style": ("irrelevant", "As in `uv lock`."),
        "break-system-packages": ("irrelevant", "nox makes the environments."),
        "compile-bytecode": (
            "irrelevant",
            "Environments have no bytecode until they are used.",
        ),
        "config-settings": ("warned", "Write it into `[tool.uv]`, as for `uv lock`."),
        "config-settings-package": (
            "warned",
            "Write it into `[tool.uv]`, as for `uv lock`.",
        ),
        "custom-compile-command": ("irrelevant", "As in `uv lock`."),
        "dependency-metadata": ("taken", "For packages of indexes."),
        "emit-build-options": ("irrelevant", "As in `uv lock`."),
        "emit-find-links": ("irrelevant", "As in `uv lock`."),
        "emit-index-annotation": ("irrelevant", "As in `uv lock`."),
        "emit-index-url": ("irrelevant", "As in `uv lock`."),
        "emit-marker-expression": ("irrelevant", "As in `uv lock`."),
        "exclude-newer": ("taken", "For resolutions."),
        "exclude-newer-package": ("taken", "For resolutions."),
        "extra": ("irrelevant", "Name extras in `extras` of `final`."),
        "extra-build-dependencies": (
            "warned",
            "Write it into `[tool.uv]`, as for `uv lock`.",
        ),
        "extra-build-variables": (
            "warned",
            "Write it into `[tool.uv]`, as for `uv lock`.",
        ),
        "extra-index-url": ("taken", "For resolutions and downloads."),
        "find-links": ("taken", "For resolutions."),
        "fork-strategy": (
            "irrelevant",
            "Each environment is resolved for one platform.",
        ),
        "generate-hashes": ("irrelevant", "Every locked file has a hash."),
        "group": ("irrelevant", "Name groups in `groups` of `final`."),
        "index-strategy": ("taken", "For resolutions."),
        "index-url": ("taken", "For resolutions and downloads."),
        "keyring-provider": ("taken", "For resolutions and downloads."),
        "link-mode": ("irrelevant", "Environments are the same with each mode."),
        "no-annotate": ("irrelevant", "As in `uv lock`."),
        "no-binary": ("taken", "The packages have to be outputs of stages."),
        "no-build": (
            "irrelevant",
            "uv never builds here; what a stage names is built.",
        ),
        "no-build-isolation": (
            "warned",
            "Each build has its stage's environment: use `dependencies` of the stage.",
        ),
        "no-build-isolation-package": (
            "warned",
            "Write it into `[tool.uv]`, as for `uv lock`.",
        ),
        "no-deps": ("irrelevant", "As in `uv lock`."),
        "no-emit-package": ("irrelevant", "As in `uv lock`."),
        "no-extra": ("irrelevant", "Name extras in `extras` of `final`."),
        "no-header": ("irrelevant", "As in `uv lock`."),
        "no-index": ("taken", "For resolutions."),
        "no-sources": ("irrelevant", "As in `uv lock`; write it into `[tool.uv]`."),
        "no-sources-package": (
            "irrelevant",
            "As in `uv lock`; write it into `[tool.uv]`.",
        ),
        "no-strip-extras": ("irrelevant", "As in `uv lock`."),
        "no-strip-markers": ("irrelevant", "As in `uv lock`."),
        "only-binary": (
            "irrelevant",
            "uv never builds here; what a stage names is built.",
        ),
        "output-file": ("irrelevant", "As in `uv lock`."),
        "prefix": ("irrelevant", "nox makes the environments."),
        "prerelease": ("taken", "For resolutions."),
        "python": ("irrelevant", "nox chooses the Pythons."),
        "python-platform": (
            "irrelevant",
            "Lock files are for platforms in `environments` of the table.",
        ),
        "python-version": ("irrelevant", "nox chooses the Pythons."),
        "reinstall": ("irrelevant", "Environments are made equal to their lock files."),
        "reinstall-package": (
            "irrelevant",
            "Environments are made equal to their lock files.",
        ),
        "require-build-hashes": ("irrelevant", "Every locked file has a hash."),
        "require-hashes": ("irrelevant", "Every locked file has a hash."),
        "resolution": ("taken", "For resolutions."),
        "strict": ("irrelevant", "Every environment is checked."),
        "system": ("irrelevant", "nox makes the environments."),
        "target": ("irrelevant", "nox makes the environments."),
        "torch-backend": ("irrelevant", "As in `uv lock`; name an index in `sources`."),
        "universal": ("irrelevant", "Each environment is resolved for one platform."),
        "upgrade": ("irrelevant", "`build-stages-lock -- --upgrade` is for that."),
        "upgrade-package": (
            "irrelevant",
            "`build-stages-lock -- --upgrade-package NAME` is for that.",
        ),
        "verify-hashes": ("irrelevant", "Every file is the locked one."),
    },
}
"""By table below ``[tool.uv]`` and key: whether the key has an effect, and which.

A key is *warned* about if it says something of builds that can't be done here.
"""

_ABOUT_BUILDS = ("backend", "binary", "build", "config-setting", "isolation", "wheel")
"""Parts of the names of keys about builds, also of keys that are still unknown."""


def find_idle_keys(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key about builds that has no effect, with a reason."""
    tables: list[tuple[str, Mapping[str, Any]]] = [("", settings)]
    tables += [("pip", settings.get("pip", {}))]
    tables += [("index", it) for it in settings.get("index", ())]
    for source in settings.get("sources", {}).values():
        entries = source if isinstance(source, list) else [source]
        tables += [("sources", it) for it in entries]
    for table, values in tables:
        for key, value in values.items():
            effect, text = KEYS[table].get(key, (None, ""))
            name = f"{key} of [tool.uv{'.' if table else ''}{table}]"
            if effect is None and any(it in key for it in _ABOUT_BUILDS):
                yield name, "this version of nox-buildstages doesn't know it"
            elif effect == "warned" and value:
                yield name, text.replace("`", "")
