"""From where on a batch or a step is bad: what the act and the edit both hold to. Dry."""

from __future__ import annotations

from gradientflow.limits import Limit

OUT_OF_LINE = Limit("times_the_usual_gradient", 20.0, "chosen: noise of a small batch stays below ten")
NORMS = Limit("gradients", 5, "chosen: the fewest that have a usual norm")
STANDS_OUT = Limit("largest_over_usual", 5.0, "chosen: where no gradient is so much larger, it is not a steep batch")
