"""What rivals say, in the words of a verdict: the mapping that benchmarks/rivals.py counts by.

Generous on purpose. Every finding of a rival counts, not only its first; where its own words name a reason or a single
mend, that is taken for a cause; where it names a layer, all lines of the script that made or called that layer count as
the line it named. Only these are not taken for more than they say:

- hints of style and speed (torch-audit's alignment, memory layout, AdamW instead of Adam) are no finding at all, neither
  right nor a false alarm;
- what a rival itself marks as information counts where it is right, and is no false alarm where it is not;
- a symptom alone is no cause: "vanishing gradients detected" fits eight causes and names none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Finding = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A finding as symptoms and causes it may stand for (any of them right is right), and the lines it points at."""

    symptoms: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    alarm: bool = True  # on a healthy script it is a false alarm


Mapped = tuple[tuple[str, ...], tuple[str, ...]]  # symptoms, causes

TORCHMORTEM: dict[str, Mapped] = {
    r"Vanishing gradients": (("vanishing",), ()),
    r"Exploding gradients": (("exploding", "not-finite"), ()),
    r"Gradient stalling": (("vanishing", "dead", "disconnected"), ()),
    r"Dead units": (("dead",), ("dead-units",)),
    r"Activation saturation": (("vanishing",), ("saturating-activation", "attention-saturation")),
    r"High gradient noise": (("noisy",), ("small-batch-noise",)),
    r"Training divergence": (("diverging", "exploding", "not-finite"), ("step-too-large",)),
    r"Loss plateau": (("crawling",), ()),
    r"Catapult|Edge of stability": (("oscillating",), ("step-too-large",)),
    r"Update ratio too low": (("crawling",), ("step-too-small",)),
    r"Update ratio too high": (("oscillating", "diverging"), ("step-too-large",)),
    r"Rank collapse": ((), ("symmetric-init",)),
    r"Weight norm explosion": (("diverging", "exploding"), ()),
    r"Stagnant weight norms": (("crawling",), ()),
}
TORCH_AUDIT: dict[str, Mapped] = {
    "TA100": (("not-finite",), ()),  # NaN or Inf in weights or gradients
    "TA102": (("exploding",), ()),
    "TA103": (("dead",), ("dead-units",)),
    "TA104": (("disconnected",), ("disconnected-parameters",)),
    "TA301": (("oscillating", "diverging", "crawling", "vanishing"), ("unscaled-input",)),  # input range
    "TA302": ((), ("bad-batch",)),
    "TA304": (("noisy",), ("small-batch-noise",)),  # tiny batch
    "TA305": (("not-finite",), ("bad-batch",)),  # NaN or Inf in the input
    "TA105": (("dead",), ("dead-units",)),  # activation collapse
    "TA405": (("dead",), ("dead-units",)),
    "TA500": (("disconnected",), ("disconnected-parameters",)),  # unused layer
}
TORCHDIAG: dict[str, Mapped] = {
    "VANISH": (("vanishing", "dead", "disconnected"), ()),
    "EXPLODE": (("exploding",), ()),
    "no_grad": (("disconnected",), ("disconnected-parameters",)),
    "DEAD": (("dead",), ("dead-units",)),
}
TORCHLENS: dict[str, Mapped] = {
    "vanishing": (("vanishing",), ()),
    "exploding": (("exploding",), ()),
    "dead": (("dead", "vanishing", "disconnected"), ()),
    "nonfinite": (("not-finite",), ()),
}
SINGULAR = re.compile(r"(Sqrt|Rsqrt|Div|Reciprocal|Log\d*|Pow|Norm|LinalgVectorNorm|Acos|Asin|Atanh|Cdist)Backward")
TOO_LARGE = re.compile(r"(Exp|Softmax|Mul|Mm|Addmm|Cosh|Sinh)Backward")


def claims(rival: str, told: dict[str, Any]) -> list[Claim]:
    """Return what a rival claims.

    Args:
        rival: its name in benchmarks/rival_driver.py.
        told: what the driver wrote.
    """
    places: dict[str, list[int]] = told.get("places") or {}
    found = []
    for finding in told.get("findings") or []:
        mapped = MAPS[rival](finding)
        if mapped is not None:
            found.append(Claim(*mapped, lines=_lines(finding, places), alarm=finding["severity"] != "info"))
    return found


def _lines(finding: Finding, places: dict[str, list[int]]) -> tuple[int, ...]:
    layer = finding.get("layer")
    lines = list(places.get(layer, ())) if layer else []
    if finding.get("line") is not None:
        lines.append(finding["line"])
    return tuple(lines)


def _by_pattern(table: dict[str, Mapped]) -> Callable[[Finding], Mapped | None]:
    def look(finding: Finding) -> Mapped | None:
        return next((mapped for pattern, mapped in table.items() if re.search(pattern, finding["kind"])), None)

    return look


def _anomaly(finding: Finding) -> Mapped:
    """Anomaly mode names the backward node that returned a NaN first: from its name, what kind of operation it was."""
    causes = ("singular-op",) if SINGULAR.search(finding["text"]) else ()
    return ("not-finite",), causes or (("overflow",) if TOO_LARGE.search(finding["text"]) else ())


MAPS: dict[str, Callable[[Finding], Mapped | None]] = {
    "torchmortem": _by_pattern(TORCHMORTEM),
    "torch-audit": _by_pattern(TORCH_AUDIT),
    "torchdiag": _by_pattern(TORCHDIAG),
    "torchlens": _by_pattern(TORCHLENS),
    "anomaly mode": _anomaly,
}
