"""`assert_flows`: a test that fails where a network's gradient does not flow, and says where, by how much, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn

from gradientflow.depth.look.arguments import decades, words
from gradientflow.depth.look.diagnose import diagnose
from gradientflow.depth.look.diagnosis import Diagnosis, headed
from gradientflow.depth.look.observe import Optimizer
from gradientflow.depth.look.question import Loss
from gradientflow.errors import GradientflowError
from gradientflow.records import Finding
from gradientflow.report.tell import facts


class GradientFault(GradientflowError, AssertionError):
    """The gradient of a model does not flow as it should.

    Attributes:
        diagnosis: everything that was found and measured.
    """

    def __init__(self, text: str, diagnosis: Diagnosis) -> None:
        super().__init__(text)
        self.diagnosis = diagnosis


def assert_flows(
    model: nn.Module | Callable[[], nn.Module],
    loss: Loss,
    batch: Any,
    *,
    allow: Collection[str] = (),
    max_decades: float | None = None,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
) -> Diagnosis:
    """Raise where the gradient does not flow from the loss to the first layer.

    Args:
        model: as in `diagnose`.
        loss: as in `diagnose`.
        batch: as in `diagnose`.
        allow: symptoms and causes that are accepted, as ``("disconnected", "recurrence")``. A cause takes the other
            explanations of its symptom with it.
        max_decades: the most decades that the gradient may gain or lose between the last layer and the first, |log10 of the
            ratio of the two norms|; None leaves it to the rules. It is held besides them, whatever `allow` says.
        optimizer: as in `diagnose`: with it a copy is trained, and the step size is judged too.
        steps: as in `diagnose`.

    Returns:
        The diagnosis, where all is well.

    Raises:
        GradientFault: an AssertionError; its message says what is wrong, where, by how much, and what helps. Also where
            nothing could be measured.
        UsageError: model, loss or batch are not what they must be, or `allow` holds no word of the verdict.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> x, y = torch.randn(16, 8), torch.randn(16, 1)
        >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
        >>> assert_flows(net, nn.functional.mse_loss, (x, y), max_decades=1.5).healthy
        True
    """
    __tracebackhide__ = True  # pytest shows the test's line, not ours
    accepted, max_decades = words(allow), decades(max_decades)
    found = diagnose(model, loss, batch, optimizer=optimizer, steps=steps)
    accepted |= {f.symptom for f in found.findings if f.cause in accepted}
    faults = [f for f in found.findings if f.symptom not in accepted]
    lines = [_told(f, first=not k) for k, f in enumerate(faults)]
    if found.symptom == "not-measured" and "not-measured" not in accepted:
        lines.append(f"not measured: {found.summary}")
    measured = found.decades
    if max_decades is not None and measured is not None and abs(measured) > max_decades:
        way = "loses" if measured < 0 else "gains"
        lines.append(
            f"the gradient {way} {abs(measured):.2f} decades between the last layer and the first; max_decades={max_decades:g}"
        )
    elif max_decades is not None and measured is None and not found.findings and not lines:
        lines.append(
            "max_decades was given, but no decades could be measured: the gradient at the first layer is exactly zero (behind a "
            "gate that begins at zero, say), or there is no layer. Leave max_decades out for this model."
        )
    if lines:
        raise GradientFault(f"the gradient of {found.verdict.script} does not flow\n" + "\n".join(lines), found)
    return found


def _told(finding: Finding, *, first: bool) -> str:
    """One finding in words: symptom, cause and place; the sentence; the numbers; and the first mends."""
    lines = [headed(finding), f"    {finding.summary}"]
    if first:
        numbers = [
            f"{f.name} {f.value}" + (f" (threshold {f.threshold})" if f.threshold else "")
            for f in facts(finding.evidence)
        ]
        lines.append(f"    measured: {', '.join(numbers[:8])}")
    lines += [f"    mend: {remedy.text}" for remedy in finding.remedies[: 2 if first else 1]]
    return "\n".join(lines)
