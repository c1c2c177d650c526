"""A plan as a Mermaid flowchart, which GitHub draws in Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nox_buildstages.commands.plan.reasons import Plan

_HARMLESS = re.compile(r"[^\w .,:/+=()-]", re.ASCII)


def render_mermaid(plan: Plan) -> Iterator[str]:
    """Yield the lines of a flowchart: outputs in stages, and runtime environments."""
    yield "flowchart LR"
    stages: dict[tuple[str, str], str] = {}  # the ids of drawn stages
    links: dict[str, None] = {}
    outputs = 0
    for number, tree in enumerate(plan.trees):
        ids: dict[str, str] = {}
        for branch in tree.branches:
            identity = branch.outputs[0].python, branch.outputs[0].title
            is_new = identity not in stages
            own = stages.setdefault(identity, f"stage{len(stages) + 1}")
            ids[branch.stage] = own
            if not is_new:
                continue
            yield f"  subgraph {own}[{_quote(f'stage {identity[1]}')}]"
            for output in branch.outputs:
                outputs += 1
                text = f"{output.name} {output.version}".rstrip()
                yield f"    output{outputs}[{_quote(text)}]:::{output.state}"
            yield "  end"
        final = f"final{number + 1}"
        title = " ".join(filter(None, ("final", tree.title)))
        yield f"  {final}([{_quote(f'{title}: {tree.installs}')}])"
        for branch in tree.branches:
            links |= {f"{ids[it]} --> {ids[branch.stage]}": None for it in branch.needs}
            links[f"{ids[branch.stage]} --> {final}"] = None
    yield from (f"  {link}" for link in links)
    yield "  classDef cached stroke:#2da44e"
    yield "  classDef build stroke:#bf8700,stroke-width:2px"


def _quote(text: str) -> str:
    """Return a text in which Mermaid and Markdown see no characters of their own."""
    harmless = _HARMLESS.sub(lambda match: f"#{ord(match[0])};", text)
    return f'"{harmless}"'
