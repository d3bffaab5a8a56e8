"""What is connected to what, and with which sign."""

from __future__ import annotations

from gradientflow.depth.remedies.row import Never, Row
from gradientflow.depth.remedies.wiring import edit, edit_sign, edit_terms, plan

_MEANING = Never("what the line is to compute is the author's to say")

_OWN = Never("what the script does there is its own, and what it is for is not known")

ROWS = (
    Row("reconnect", plan.reconnect, "wiring.Reconnect", edit.reconnect,
        "the cut is one that cannot be undone while the script runs (numpy, argmax, a list, or not used at all)"),
    Row("flip-sign", plan.flip_sign, "wiring.FlipSign", edit_sign.flip_sign),
    Row("keep-gradient", _OWN, _OWN, _OWN),
    Row("keep-weights", _OWN, _OWN, _OWN),
    Row("keep-optimizer", _OWN, _OWN, _OWN),
    Row("step-each-pass", _OWN, _OWN, _OWN),
    Row("square-first", _MEANING, _MEANING, _MEANING),
    Row("keep-graph", plan.keep_graph, "wiring.KeepGraph", edit_terms.keep_graph),
    Row("match-shapes", plan.match_shapes, "wiring.MatchShapes", edit_terms.match_shapes),
    Row("straight-through", _MEANING, _MEANING, _MEANING),
    Row("use-gradient", _MEANING, _MEANING, _MEANING),
    Row("right-axis", _MEANING, _MEANING, _MEANING),
)  # fmt: skip
