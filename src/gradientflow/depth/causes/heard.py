"""The script's own warnings as evidence: what each is about, in causes, and which finding it speaks for."""

from __future__ import annotations

import re
from textwrap import shorten

from gradientflow.limits import GATES, Limit, told
from gradientflow.records import Finding, Warned

HEARD = Limit("confidence_by_a_warning", 0.25, "chosen: a quarter of what is missing to certainty")
QUOTED = 160  # characters of a message
_CUT = "disconnected-parameters"

# What PyTorch and NumPy warn of, and the causes that each speaks for.
SUBJECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"Using a target size .* different to the input size", ("mixed-samples",)),
    (r"Implicit dimension choice for (log_)?soft(max|min)", ("mixed-samples", "output-activation")),
    (r"Detected call of `?lr_scheduler\.step\(\)`? before `?optimizer\.step\(\)", ("schedule-ended", "step-too-small")),
    (r"None of the inputs have requires_grad=True", (_CUT,)),
    (r"The \.grad attribute of a Tensor that is not a leaf", (_CUT,)),
    (r"To copy construct from a (non-tensor|tensor)", (_CUT, "zero-derivative")),
    (r"Converting a tensor with requires_grad=True to a scalar", (_CUT, "zero-derivative")),
    (r"Casting complex values to real discards the imaginary part", (_CUT, "zero-derivative", "wrong-backward")),
    (r"(invalid value|divide by zero|overflow) encountered", ("bad-batch", "singular-op", "overflow")),
    (r"All-NaN|Mean of empty slice|NaN slice", ("bad-batch",)),
    (r"degrees of freedom is <= 0", ("singular-op", "zero-derivative")),
    (r"Error detected in \w+Backward", ("singular-op", "overflow")),
)  # fmt: skip
_NOT_FINITE = re.compile(r"\b(nan|inf|infinite|infinity|non-?finite|not finite|overflow)s?\b", re.IGNORECASE)


def heard(findings: list[Finding], warned: list[Warned]) -> None:
    """Let every finding quote the first warning that is about it, and be a little surer.

    Args:
        findings: what was found; changed in place.
        warned: what the script was warned of, in order.
    """
    for finding in findings:
        found = next((w for w in warned if _speaks_for(w, finding)), None)
        if found is not None:
            gates = {**finding.evidence.get(GATES, {}), **told(gates=(HEARD,))[GATES]}
            finding.evidence |= {"the_script_was_warned": quoted(found), GATES: gates}
            finding.confidence += HEARD * (1.0 - finding.confidence)


def quoted(w: Warned) -> str:
    """Return a warning in one line: its category, the line, what it says."""
    file, line = (w.at_file, w.at_line) if w.at_file else (w.file, w.line)
    said = shorten(w.message, QUOTED, placeholder="…")
    name = re.split(r"[\\/]", file)[-1]
    return f"{w.category} at {name}:{line}: {said}"


def _speaks_for(w: Warned, finding: Finding) -> bool:
    """Whether a warning is about what was found: by its text, or because it comes from the very line."""
    if any(finding.cause in causes and re.search(pattern, w.message) for pattern, causes in SUBJECTS):
        return True
    if finding.symptom == "not-finite" and _NOT_FINITE.search(w.message):
        return True
    place = finding.place
    return place is not None and place.file is not None and (place.file, place.line) == (w.at_file, w.at_line)
