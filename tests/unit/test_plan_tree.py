"""The plan as a tree, in terminals of every kind and width."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nox_buildstages.commands.plan.estimate import describe_total
from nox_buildstages.commands.plan.explain import Explanation, render_explanation
from nox_buildstages.commands.plan.mermaid import render_mermaid
from nox_buildstages.commands.plan.reasons import Branch, Plan, PlannedOutput, Tree
from nox_buildstages.commands.plan.tree import Style, describe_installs, render_plan
from nox_buildstages.store.key import Ingredient, Recipe
from nox_buildstages.store.memory import BuildMemory
from nox_buildstages.store.store import StoredWheel
from nox_buildstages.text import fit_encoding
from nox_buildstages.value import replace


def planned(
    name: str, *reasons: str, stage: str = "s", seconds: float | None = None
) -> PlannedOutput:
    return PlannedOutput(
        stage=stage,
        title=stage,
        name=name.partition(" ")[0],
        version=name.partition(" ")[2],
        reasons=reasons,
        python="3.11",
        seconds=seconds,
    )


CYMEM = planned("cymem 2.0.16", stage="native", seconds=3)
MURMURHASH = replace(
    planned("murmurhash 1.0.16", stage="native", seconds=5),
    remote=True,
    place="s3://our-bucket",
)
PRESHED = planned("preshed 3.0.15", "cython 3.2.5 → 3.3.1", stage="maps", seconds=106)
FASTDTW = planned(
    "fastdtw 0.3.4",
    "env CFLAGS unset → '-O2'",
    "the wheel cymem of stage native changed because env CFLAGS unset → '-O3 -march'",
    stage="warp",
    seconds=100,
)
BRANCHES = (
    Branch(stage="native", outputs=(CYMEM, MURMURHASH)),
    Branch(stage="maps", needs=("native",), outputs=(PRESHED,)),
    Branch(stage="warp", outputs=(FASTDTW,)),
)


def plan_of(*trees: Tree, **fields: object) -> Plan:
    outputs = {
        it: None for tree in trees for one in tree.branches for it in one.outputs
    }
    plan = Plan(locks="current", pythons=("3.11",), outputs=tuple(outputs), trees=trees)
    return replace(plan, **fields)  # type: ignore[arg-type]


PLAN = plan_of(Tree(installs="4 wheels of stages, numpy 2.3.5", branches=BRANCHES))

TREE = """\
final  4 wheels of stages, numpy 2.3.5
├─ native  cymem 2.0.16       ✓ cached
│          murmurhash 1.0.16  ✓ cached (s3://our-bucket)
├─ maps    preshed 3.0.15     ● build   cython 3.2.5 → 3.3.1
│  └─ needs native                      last time: 1 min 46 s
└─ warp    fastdtw 0.3.4      ● build   env CFLAGS unset → '-O2'
                                        the wheel cymem of stage native changed because
                                          env CFLAGS unset → '-O3 -march'
                                        last time: 1 min 40 s

to build: 2 of 4, about 3 min 26 s alone, at best 1 min 46 s with -j 2
"""
NARROW = """\
final  4 wheels of stages, numpy 2.3.5
├─ native  cymem 2.0.16       ✓ cached
│          murmurhash 1.0.16  ✓ cached (s3://our-bucket)
├─ maps    preshed 3.0.15     ● build
│      cython 3.2.5 → 3.3.1
│      last time: 1 min 46 s
│  └─ needs native
└─ warp    fastdtw 0.3.4      ● build
       env CFLAGS unset → '-O2'
       the wheel cymem of stage native changed because
         env CFLAGS unset → '-O3 -march'
       last time: 1 min 40 s

to build: 2 of 4, about 3 min 26 s alone, at best 1 min
  46 s with -j 2
"""


def draw(plan: Plan, style: Style) -> str:
    return "".join(f"{line}\n" for line in render_plan(plan, style, cores=2))


@pytest.mark.parametrize(("width", "expected"), [(88, TREE), (56, NARROW)])
def test_reasons_are_wrapped_to_the_terminal(width: int, expected: str) -> None:
    """They stand beside the outputs, or below them if there is no room."""
    drawn = draw(PLAN, Style(width=width))
    assert drawn == expected
    assert max(map(len, drawn.splitlines())) <= width


def test_each_reason_is_one_line_without_a_terminal() -> None:
    """A pipe has no width, and so has a log of CI."""
    drawn = draw(PLAN, Style())
    assert "because env CFLAGS unset → '-O3 -march'\n" in drawn


def test_a_terminal_without_symbols_gets_the_same_words() -> None:
    """In ASCII alone, with the same columns."""
    drawn = fit_encoding(draw(PLAN, Style(width=88)), "latin-1")
    assert drawn.isascii()
    assert "|- maps    preshed 3.0.15     * build   cython 3.2.5 -> 3.3.1\n" in drawn
    assert (
        "`- warp    fastdtw 0.3.4      * build   env CFLAGS unset -> '-O2'\n" in drawn
    )


def test_colours_show_the_state_and_change_no_column() -> None:
    """Without the escape codes the lines are the same."""
    drawn = draw(PLAN, Style(width=88, colour=True))
    assert "\x1b[32m✓ cached\x1b[0m" in drawn
    assert "\x1b[36m● build\x1b[0m   cython" in drawn
    for code in ("1", "2", "32", "36", "0"):
        drawn = drawn.replace(f"\x1b[{code}m", "")
    assert drawn == TREE


def test_cells_that_share_a_stage_show_it_once() -> None:
    """Each tree names its cell and Python; a shared stage is above."""
    trees = [
        Tree(title=f"(cuda={cuda})", installs="1 wheel of stages", branches=branches)
        for cuda, branches in {
            "12.8": BRANCHES[:1],
            "13.0": (replace(BRANCHES[0], is_above=True), BRANCHES[2]),
        }.items()
    ]
    lines = draw(plan_of(*trees), Style()).splitlines()
    assert lines[0] == "final (cuda=12.8)  1 wheel of stages"
    assert lines[4] == "final (cuda=13.0)  1 wheel of stages"
    assert lines[5] == "├─ native  as above"


def test_the_plan_says_what_is_wrong_with_the_lock_files() -> None:
    """With what has changed, and the command that updates them."""
    stale = replace(PLAN, locks="stale", lock_changes="stage warp: env CFLAGS")
    assert draw(stale, Style()).startswith(
        "locks: out of date, stage warp: env CFLAGS\n"
        "planned with these lock files; locking may change more:"
        " nox -s build-stages-lock\n\nfinal"
    )
    missing = replace(PLAN, locks="missing")
    assert draw(missing, Style()).startswith(
        "locks: there are none yet; to make them: nox -s build-stages-lock\n\nfinal"
    )
    damaged = replace(missing, lock_changes="pylock.warp.toml: can't be read: …")
    assert draw(damaged, Style()).startswith("locks: pylock.warp.toml: can't be read")


def totals(*branches: Branch, cores: int = 2) -> str:
    return describe_total(plan_of(Tree(branches=branches)), cores=cores)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([None, None], "to build: 2 of 2, time unknown"),
        (
            [60, None],
            "to build: 2 of 2, about 1 min for 1 of them, the others' time is unknown",
        ),
        ([60, 1], "to build: 2 of 2, about 1 min 1 s alone"),
        (
            [60, 60],
            "to build: 2 of 2, about 2 min alone, at best 1 min side by side",
        ),
    ],
)
def test_an_unknown_time_is_said_to_be_unknown(
    seconds: list[float | None], expected: str
) -> None:
    """Nothing is invented, and little to win isn't mentioned."""
    outputs = [planned(f"a{it}", "new", seconds=it) for it in seconds]
    outputs[1] = replace(outputs[1], name="b")
    assert totals(Branch(stage="s", outputs=tuple(outputs))) == expected


def test_what_is_cached_takes_no_time() -> None:
    """What the builds took is named, as it is saved."""
    branch = Branch(stage="native", outputs=(CYMEM, MURMURHASH))
    assert (
        totals(branch) == "nothing to build: 2 outputs cached, which took 8 s to build"
    )


def test_stages_that_need_each_other_take_their_time_one_after_another() -> None:
    """A single core builds no two outputs in less time either."""
    one = Branch(stage="a", outputs=(planned("a 1", "new", seconds=100),))
    two = Branch(stage="b", needs=("a",), outputs=(planned("b 1", "new", seconds=100),))
    assert totals(one, two) == "to build: 2 of 2, about 3 min 20 s alone"
    aside = replace(two, needs=())
    assert totals(one, aside).endswith("at best 1 min 40 s with -j 2")
    assert totals(one, aside, cores=1) == "to build: 2 of 2, about 3 min 20 s alone"


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        (0, "1 wheel of stages"),
        (2, "1 wheel of stages, p0 1, p1 1"),
        (3, "1 wheel of stages, 3 packages from indexes"),
    ],
)
def test_what_is_installed_is_counted(packages: int, expected: str) -> None:
    """A few packages of indexes are named."""
    pins = [("own", "1", True), *((f"p{it}", "1", False) for it in range(packages))]
    assert describe_installs(pins) == expected


def test_a_graph_for_markdown() -> None:
    """Outputs in their stages, and what is installed; shared stages are drawn once."""
    trees = (
        replace(PLAN.trees[0], title="(cuda=12.8)"),
        replace(PLAN.trees[0], title="(cuda=13.0)"),
    )
    lines = list(render_mermaid(replace(PLAN, trees=trees)))
    assert lines[0] == "flowchart LR"
    assert [it.strip() for it in lines if "subgraph" in it] == [
        'subgraph stage1["stage native"]',
        'subgraph stage2["stage maps"]',
        'subgraph stage3["stage warp"]',
    ]
    assert '    output3["preshed 3.0.15"]:::build' in lines
    text = '"final (cuda=12.8): 4 wheels of stages, numpy 2.3.5"'
    assert f"  final1([{text}])" in lines
    assert lines.count("  stage1 --> stage2") == 1
    assert "  stage3 --> final2" in lines


def test_names_in_a_graph_are_harmless() -> None:
    """Neither Mermaid nor Markdown sees characters of its own."""
    evil = replace(CYMEM, version='1"]; click <b>`')
    tree = Tree(branches=(Branch(stage="native", outputs=(evil,)),))
    text = "\n".join(render_mermaid(plan_of(tree)))
    assert 'output1["cymem 1#34;#93;#59; click #60;b#62;#96;"]:::cached' in text


RECIPE = Recipe(
    name="preshed",
    version="3.0.15",
    source="sha256:abc",
    environment={
        "cython": Ingredient(version="3.3.1", sha256="1"),
        "cymem": Ingredient(version="2.0.16", sha256="2", stage="native"),
    },
    env={"CFLAGS": "-O2"},
    passed={"TOKEN": "hmac-sha256:0"},
    config_settings={"--opt": "fast"},
    interpreter={"implementation": "cpython", "version": "3.11.7"},
    tools={"c++": "c++ 12.2\nmore"},
)
STORED = StoredWheel(
    name=canonicalize_name("preshed"),
    version=Version("3.0.15"),
    path=Path("a.whl"),
    sha256="1",
    size=885_400,
    seconds=106,
    log=Path("log"),
    recipe=RECIPE,
    run="1",
    memory=BuildMemory(process=1, build=410_000_000, jobs=2),
)


def explained(**changes: object) -> str:
    explanation = Explanation(
        planned=replace(PRESHED, source="https://host/preshed.tar.gz (sha256:abc)"),
        recipe=RECIPE,
        requires=("cython>=3.1",),
        passed=("TOKEN",),
        needed_by=("the runtime environment",),
        builds=((0.0, STORED),),
    )
    changed = replace(explanation, **changes)  # type: ignore[arg-type]
    return "\n".join(render_explanation(changed, Style(width=80)))


def test_an_output_is_explained() -> None:
    """All that goes into its wheel, who needs it, and its earlier builds."""
    text = explained()
    for line in (
        "preshed 3.0.15  stage maps, Python 3.11",
        "  state            build",
        "  why              cython 3.2.5 → 3.3.1",
        "  source           https://host/preshed.tar.gz (sha256:abc)",
        "  build requires   cython>=3.1",
        "  environment      cython 3.3.1, cymem 2.0.16 (stage native)",
        "  variables        CFLAGS='-O2', TOKEN (from outside)",
        "  config settings  --opt='fast'",
        "  interpreter      cpython, 3.11.7",
        "  tool c++         c++ 12.2",
        f"  key              {RECIPE.key[:61]}",
        "  needed by        the runtime environment",
    ):
        assert f"{line}\n" in text
    assert "  3.0.15   1 min 46 s  885.4 kB  410.0 MB  2     " in text
    assert "secret" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_compiler_without_a_version_is_explained_in_words() -> None:
    """It is found, but fails: rustup without a toolchain, say."""
    machine = {"rustc": "exit status 1", "ld": "exit status 2\nld 2.40"}
    text = explained(recipe=replace(RECIPE, machine=machine))
    assert "  tool rustc       found, but --version fails (exit status 1)\n" in text
    assert "  tool ld          found, but --version fails (exit status 2)\n" in text


def test_a_key_may_be_unknown() -> None:
    """Before another wheel is built, or without a tool; and without any build."""
    text = explained(built_first=("cymem",), builds=())
    assert "  key              not known before cymem is built\n" in text
    assert text.endswith("\n  no earlier build is in the store")
    text = explained(recipe=None, problem="its tool 'nvcc' isn't on PATH")
    assert "  key        unknown: its tool 'nvcc' isn't on PATH\n" in text
