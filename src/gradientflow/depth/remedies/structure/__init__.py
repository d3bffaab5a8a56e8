"""How a network is built: ways past a block, normalisations put in and taken out, cells with gates."""

from __future__ import annotations

from gradientflow.depth.remedies.row import Never, Row
from gradientflow.depth.remedies.structure import edit, edit_skips, plan

_OTHER_PARAMETERS = Never(
    "a cell with gates has other parameters: that is an edit of the model, nothing to switch on while it runs"
)

ROWS = (
    Row("add-skip", plan.add_skip, "structure.AddSkip", edit_skips.add_skip,
        "no block of this network ends with the shape that it began with"),
    Row("add-norm", plan.add_norm, "structure.AddNorm", edit.add_norm),
    Row("remove-norm", plan.remove_norm, "structure.RemoveNorm", edit.remove_norm),
    Row("gated-cell", _OTHER_PARAMETERS, _OTHER_PARAMETERS, edit.gated),
)  # fmt: skip
