"""Outside the rules too no number decides without a name. Of the rules it is held in `causes/test_thresholds.py`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gradientflow.depth
from tests.depth.causes.test_thresholds import PLAIN, compared, numbers

FOLDER = Path(gradientflow.depth.__file__).parent
FILES = sorted(p for room in ("look", "probe", "remedies", "replay", "watch") for p in (FOLDER / room).rglob("*.py"))
MOST_COUNTED = 4  # arguments of a call, dimensions of a tensor, references to an object
NOUGHT = 1e-20  # below it a number only keeps a division from zero


def unnamed(source: str) -> list[str]:
    """Return the comparisons of a source that hold a number which is neither plain, nor a small count, nor nearly nought."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in compared(ast.parse(source))
        if any(
            n.value not in PLAIN
            and not (isinstance(n.value, int) and n.value <= MOST_COUNTED)
            and not abs(n.value) < NOUGHT  # type: ignore[arg-type]
            for n in numbers(node)
        )
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(FOLDER)))
def test_no_number_decides_without_a_name(file: Path) -> None:
    assert unnamed(file.read_text(encoding="utf-8")) == []


def test_a_number_without_a_name_is_found() -> None:
    assert unnamed("if x > 0.3: pass") == ["line 1: x > 0.3"]
    assert unnamed("if x.clamp(min=1e-30) > LIMIT * len(y) and x.dim() >= 3: pass") == []
