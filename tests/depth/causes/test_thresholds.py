"""No number decides in a rule without a name: a threshold is a `Limit`, and the evidence tells it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradientflow.depth.causes
from gradientflow.depth.causes import judge
from gradientflow.limits import GATES
from gradientflow.report.tell import facts
from tests.depth.causes.test_dry import load

FOLDER = Path(gradientflow.depth.causes.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
PLAIN = (0, 1, 2)  # none, one or all, a pair or a half; −1 as 1
UNTOLD = {
    "SURE_ENOUGH": "held against the confidence of a finding, which stands in it; below, there is no finding to tell it in",
    "MERGED": "decides of a row of the budget, which is no finding",
    "NEAR": "decides of a remark, which is no finding and holds the number",
    "FAR_UP": "likewise",
    "TOLD": "cuts a list of loops short, which is no finding",
}


def numbers(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the numbers of an expression, without its indices."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(tree, ast.Subscript) and child is tree.slice:
            continue
        if (
            isinstance(child, ast.Constant)
            and isinstance(child.value, (int, float))
            and not isinstance(child.value, bool)
        ):
            yield child
        yield from numbers(child)


def compared(tree: ast.AST) -> Iterator[ast.Compare]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Compare))


def left(source: str) -> list[str]:
    """Return comparisons of a source that hold a number without a name, or the name of a plain number."""
    tree = ast.parse(source)
    plain = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.UnaryOp))
        for target in node.targets
        if isinstance(target, ast.Name) and any(numbers(node))
    }
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in compared(tree)
        if any(n.value not in PLAIN for n in numbers(node))
        or any(isinstance(n, ast.Name) and n.id in plain for n in ast.walk(node))
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_no_number_without_a_name_stands_in_a_comparison(file: Path) -> None:
    assert not left(file.read_text(encoding="utf-8"))


def test_what_is_looked_for_is_found() -> None:
    """The control."""
    assert len(left("MOST = 5\nx > 3\ny < 0.9 * z\nn[3] > 0\nlen(n) > MOST\na == -1\nb >= -4.0\n")) == 4


def limits_of(tree: ast.Module) -> set[str]:
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name) and node.value.func.id == "Limit"
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def told_in(tree: ast.Module) -> set[str]:
    """Return the names that stand in calls of `told`, and what they were set to."""
    set_to: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            set_to.setdefault(node.targets[0].id, set()).update(_names(node.value))
        if isinstance(node, ast.FunctionDef) and node.args.vararg is not None:  # (gates handed through)
            calls = [c for c in ast.walk(tree) if isinstance(c, ast.Call) and node.name in _names(c.func)]
            set_to.setdefault(node.args.vararg.arg, set()).update(n for c in calls for a in c.args for n in _names(a))
    calls = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "told"
    ]
    found: set[str] = set()
    todo = [name for call in calls for part in (*call.args, *call.keywords) for name in _names(part)]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += set_to.get(name, ())
    return found


def _names(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def untold(sources: dict[str, str]) -> list[str]:
    """Return limits that no evidence tells: of a file with findings its own, of any other by one of the files."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    everywhere = set().union(*(told_in(tree) for tree in trees.values()))
    found = []
    for name, tree in trees.items():
        told = told_in(tree) if "Finding(" in sources[name] else everywhere
        found += [f"{name}: {limit}" for limit in sorted(limits_of(tree) - told)]
    return found


def test_every_limit_is_told_in_an_evidence() -> None:
    missing = untold({f.name: f.read_text(encoding="utf-8") for f in FILES})
    assert {entry.partition(": ")[2] for entry in missing} == set(UNTOLD), missing


def test_a_limit_that_is_not_told_is_found() -> None:
    """The control."""
    rule = 'A = Limit("a", 3, "x")\nB = Limit("b", 4, "x")\nFinding(told(A))\n'
    assert untold({"rule.py": rule, "shared.py": 'C = Limit("c", 5, "x")\n'}) == ["rule.py: B", "shared.py: C"]


def test_gates_stand_in_the_record_and_a_report_counts_them_in_one_line() -> None:
    finding = judge(load("deep_sigmoid")).findings[0]
    assert finding.evidence["threshold_decades"] == 2.0
    assert finding.evidence[GATES]["layers"] == 15.0
    rows = [fact for fact in facts(finding.evidence) if "gates" in fact.name]
    assert [(f.name, f.value) for f in rows] == [("gates passed", f"{len(finding.evidence[GATES])} (in verdict.json)")]
    assert not [f for f in facts(finding.evidence) if f.name.startswith("threshold")]
