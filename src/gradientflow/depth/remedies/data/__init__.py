"""What enters, and what the answer is held against: standardised, repaired, or left out."""

from __future__ import annotations

from gradientflow.depth.remedies.data import edit, edit_batch, plan
from gradientflow.depth.remedies.row import Row

ROWS = (
    Row("scale-input", plan.scale_input, "data.ScaleInput", edit.scale_input),
    Row("scale-target", plan.scale_target, "data.ScaleTarget", edit.scale_target),
    Row("drop-bad-batch", plan.drop_bad_batch, "data.DropBadBatch", edit_batch.drop_batch),
)
