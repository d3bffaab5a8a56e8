"""One fact stands in one place: outside of `ops` no list of operations is kept that says what they are."""

import ast
from pathlib import Path

import pytest

import gradientflow
from gradientflow.ops import ACTIVATIONS, RECURRENT

SOURCE = Path(gradientflow.__file__).parent
# Lists that say what *we* do with an operation, not what it is.
ALLOWED = {
    ("depth/remedies/activations/act.py", "FUNCTIONS"): "the functions that an intervention can put in place",
    ("depth/small/acts.py", "ACTS"): "the functions of the small network, and how its script says them",
    ("depth/small/knobs.py", "PRESETS"): "networks that are sick in a known way",
    ("records/knobs.py", "Activation"): "what a knob can be turned to",
}


def lists_of_operations(text: str, least: int = 3) -> list[str]:
    """Names of the module-level displays that hold at least three names of activations (or two of recurrences)."""
    found = []
    for node in ast.parse(text).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        words = [c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
        known = {w for w in words if w in ACTIVATIONS and w not in ("threshold", "clip", "clamp", "maximum")}
        if len(known) >= least or len(set(words) & RECURRENT) >= 2:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            found.append(ast.unparse(target))
    return found


def test_no_second_list_of_activations_or_recurrences_stands_anywhere() -> None:
    found = {
        (str(file.relative_to(SOURCE)).replace("\\", "/"), name)
        for file in SOURCE.rglob("*.py")
        if "ops" not in file.relative_to(SOURCE).parts
        for name in lists_of_operations(file.read_text(encoding="utf-8"))
    }
    assert found - set(ALLOWED) == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('SATURATING = frozenset({"sigmoid", "tanh", "softsign"})', ["SATURATING"]),
        ('A: dict[str, int] = {"relu": 1, "elu": 2, "celu": 3}', ["A"]),
        ('B = ("lstm", "gru")', ["B"]),
        ('C = ("relu", "tanh")', []),
        ('D = "relu elu celu"', []),
    ],
)
def test_a_second_list_would_be_seen(text: str, found: list[str]) -> None:
    assert lists_of_operations(text) == found
