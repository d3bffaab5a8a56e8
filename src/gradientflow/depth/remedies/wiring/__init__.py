"""What is connected to what, and with which sign."""

from __future__ import annotations

from gradientflow.depth.remedies.row import Never, Row
from gradientflow.depth.remedies.wiring import edit, edit_sign, plan

_OWN = Never("what the script does there is its own, and what it is for is not known")

ROWS = (
    Row("reconnect", plan.reconnect, "wiring.Reconnect", edit.reconnect,
        "the cut is one that cannot be undone while the script runs (numpy, argmax, a list, or not used at all)"),
    Row("flip-sign", plan.flip_sign, "wiring.FlipSign", edit_sign.flip_sign),
    Row("keep-gradient", _OWN, _OWN, _OWN),
    Row("keep-weights", _OWN, _OWN, _OWN),
)  # fmt: skip
