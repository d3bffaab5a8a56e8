"""Operations at their singular points: the operand kept away."""

from __future__ import annotations

from gradientflow.depth.remedies.operands import edit, plan
from gradientflow.depth.remedies.row import Never, Row

_OF_THE_MODEL = Never("what is meant to happen there only the author of the model knows: it is told in words")

ROWS = (
    Row("clamp-op", plan.clamp_op, "operands.ClampOp", edit.clamp),
    *(
        Row(word, _OF_THE_MODEL, _OF_THE_MODEL, _OF_THE_MODEL)
        for word in ("mask-first", "unmask-row", "fit-lengths", "part-eigenvalues", "hold-apart", "free-code")
    ),
)
