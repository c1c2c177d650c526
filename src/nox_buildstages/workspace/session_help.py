"""The help of each session: for `-- --help`, `nox --usage` and the documentation."""

from __future__ import annotations

import re

from nox_buildstages.run.nox_command_line import DOCS
from nox_buildstages.value import Value
from nox_buildstages.workspace.session_options import kind_of_session, render_words


class SessionHelp(Value, kw_only=False):
    """The help of a kind of sessions, without its first line."""

    text: str  # sentences; a line break in it is one on the screen
    example: str  # the words of the command after ``nox -s``


HELP = {
    "build-stage": SessionHelp(
        "Builds those that the store lacks, and puts all of them into the wheelhouse.\n"
        "Requires the stages that this stage needs.",
        "build-stage-NAME",
    ),
    "build-stages": SessionHelp(
        "Makes the lock files first if there are none, or if they are out of date.\n"
        "Plain `nox` runs this session.",
        "build-stages -- --rebuild NAME",
    ),
    "build-stages-init": SessionHelp(
        "Prints tables for the pyproject.toml. Writes nothing without --write.",
        "build-stages-init -- --extra gpu --write",
    ),
    "build-stages-lock": SessionHelp(
        "Resolves every environment, and writes all lock files or none.\n"
        "Does nothing if they are up to date.",
        "build-stages-lock -- --upgrade-package torch",
    ),
    "build-stages-plan": SessionHelp(
        "Builds nothing, and makes no environment: for each output, shows if it is\n"
        "cached, or would be built and why; how long the builds took last time; and\n"
        "whether this machine can build them.",
        "build-stages-plan -- --json",
    ),
    "build-stages-prune": SessionHelp(
        "Removes only garbage without a limit.",
        "build-stages-prune -- --older-than 30d --dry-run",
    ),
    "build-stages-shell": SessionHelp(
        "Shows the tree of its failed build, or a fresh one, as its build backend\n"
        "sees it. In the shell, `rebuild` runs the build. At the end, your changes\n"
        "become a patch. Without a terminal, standard input has the commands.",
        "build-stages-shell -- flash-attn",
    ),
    "build-stages-merge": SessionHelp(
        "Reads the named folders and writes the wheelhouse of this project. Needs no\n"
        "lock file, no store and no stage.",
        "build-stages-merge -- downloaded/",
    ),
    "build-stages-release": SessionHelp(
        "Requires build-stages.",
        "build-stages-release -- --vendor",
    ),
}
"""The help by the kind of session, in the order of the documentation."""

_GENERATED = re.compile(r"(<!-- help -->\n).*?(?=<!-- end of help -->)", re.DOTALL)


def describe_session(session: str, doc: str = "") -> str:
    """Return the help of a session, which begins with its ``doc``."""
    kind = kind_of_session(session)
    found = HELP[kind]
    return "\n".join(
        [
            f"{session}: {doc or DOCS[kind]}",
            "",
            found.text,
            "",
            "Words after --:",
            *(f"  {line}" for line in render_words(session)),
            "",
            "Example:",
            f"  nox -s {found.example.replace('build-stage-NAME', session)}",
        ]
    )


def update_page(page: str) -> str:
    """Return the page about sessions, with the help of each between two comments."""
    lines = []
    for kind in HELP:
        name = "build-stage-NAME" if kind == "build-stage" else kind
        command = f"$ nox -s {name} -- --help"
        lines += [
            f"### `{name}`\n",
            f"```text\n{command}\n{describe_session(name)}\n```\n",
        ]
    return _GENERATED.sub(lambda match: "\n".join([match[1], *lines]), page)
