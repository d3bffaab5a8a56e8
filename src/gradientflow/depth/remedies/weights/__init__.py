"""First values of the weights: their size, their symmetry, recurrences and gates."""

from __future__ import annotations

from gradientflow.depth.remedies.row import Row
from gradientflow.depth.remedies.weights import edit, edit_gates, edit_recurrent, plan

ROWS = (
    Row("rescale-init", plan.rescale_init, "weights.RescaleInit", edit.rescale),
    Row("break-symmetry", plan.break_symmetry, "weights.BreakSymmetry", edit.break_symmetry),
    Row("orthogonal-recurrence", plan.orthogonal, "weights.OrthogonalRecurrence", edit_recurrent.orthogonal),
    Row("open-gates", plan.open_gates, "weights.OpenGates", edit_gates.open_gates),
)
