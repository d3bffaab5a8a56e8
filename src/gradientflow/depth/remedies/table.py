"""The table of remedies: each word that a finding may name, with its plan, its act and its edit.

The words and their sentences stand in `records`, where rules and reports read them; the other three stand in the families.
"""

from __future__ import annotations

from gradientflow.depth.remedies import activations, data, operands, steps, structure, weights, wiring
from gradientflow.depth.remedies.row import Row
from gradientflow.records import REMEDIES

FAMILIES = (activations, data, operands, steps, structure, weights, wiring)
_ROWS = {row.word: row for family in FAMILIES for row in family.ROWS}
TABLE: dict[str, Row] = {word: _ROWS[word] for word in REMEDIES}
