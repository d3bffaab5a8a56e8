"""Operations at their singular points: the operand kept away."""

from __future__ import annotations

from gradientflow.depth.remedies.operands import edit, plan
from gradientflow.depth.remedies.row import Row

ROWS = (Row("clamp-op", plan.clamp_op, "operands.ClampOp", edit.clamp),)
