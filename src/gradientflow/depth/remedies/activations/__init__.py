"""What an activation does to the gradient: another function in its place, at the output too."""

from __future__ import annotations

from gradientflow.depth.remedies.activations import edit, plan
from gradientflow.depth.remedies.row import Row

ROWS = (
    Row("swap-activation", plan.swap_activation, "activations.SwapActivation", edit.swap),
    Row("fix-output", plan.fix_output, "activations.FixOutput", edit.remove),
)
