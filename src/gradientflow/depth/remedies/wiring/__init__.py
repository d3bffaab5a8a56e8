"""What is connected to what, and with which sign."""

from __future__ import annotations

from gradientflow.depth.remedies.row import Row
from gradientflow.depth.remedies.wiring import edit, edit_sign, plan

ROWS = (
    Row("reconnect", plan.reconnect, "wiring.Reconnect", edit.reconnect,
        "the cut is one that cannot be undone while the script runs (numpy, argmax, a list, or not used at all)"),
    Row("flip-sign", plan.flip_sign, "wiring.FlipSign", edit_sign.flip_sign),
)  # fmt: skip
