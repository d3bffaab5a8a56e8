"""The rules on recorded runs, without PyTorch: fixtures are real runs of the examples (`python -m tests.depth.causes.record`)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gradientflow.depth.causes import judge
from gradientflow.records import Run

FOLDER = Path(__file__).parent / "fixtures"
VERDICTS = {
    "deep_sigmoid": ("vanishing", "saturating-activation", "torch.sigmoid(layer(x))"),
    "deep_sigmoid_residual": ("healthy", None, ""),
    "healthy_mlp": ("healthy", None, ""),
    "lr_too_high": ("diverging", "step-too-large", "torch.optim."),
    "sqrt_at_zero": ("not-finite", "singular-op", ".sqrt()"),
}


def load(name: str) -> Run:
    return msgspec.convert(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")), Run)


@pytest.mark.parametrize("name", VERDICTS)
def test_a_recorded_run_is_judged_as_it_was(name: str) -> None:
    symptom, cause, line = VERDICTS[name]
    run = load(name)
    verdict = judge(run)
    assert verdict.watch.errors == []
    assert verdict.symptom == symptom
    assert (verdict.findings[0].cause if verdict.findings else None) == cause
    if cause is not None:
        place = verdict.findings[0].place
        assert place is not None
        assert line in run.meta.sources[place.file or ""].splitlines()[(place.line or 0) - 1]


def test_the_rules_run_where_there_is_no_torch() -> None:
    code = f"""
import sys
sys.modules["torch"] = sys.modules["numpy"] = None
import json, msgspec, pathlib
from gradientflow.depth.causes.verdict import judge
from gradientflow.records import Run
for name in {list(VERDICTS)!r}:
    text = (pathlib.Path({str(FOLDER)!r}) / (name + ".json")).read_text(encoding="utf-8")
    verdict = judge(msgspec.convert(json.loads(text), Run))
    print(name, verdict.symptom, verdict.findings[0].cause if verdict.findings else None, verdict.watch.errors)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{n} {symptom} {cause} []" for n, (symptom, cause, _) in VERDICTS.items()]


def test_the_same_run_with_an_even_gradient_is_not_vanishing() -> None:
    """The control: what decides is in the numbers, not in the names."""
    run = load("deep_sigmoid")
    for probe in run.probes:
        for op in probe.ops:
            for grad in (op.grad, *(o.grad for o in op.operands)):
                if grad is not None:
                    grad.norm = 1.0
    assert judge(run).symptom != "vanishing"


def test_the_same_run_without_its_jump_is_not_diverging() -> None:
    run = load("lr_too_high")
    for i, step in enumerate(run.steps):
        step.loss, step.nonfinite, step.update = 2.3 * math.exp(-0.2 * i), 0, 1e-3 * (step.weight or 1.0)
    for probe in run.probes:
        probe.sharpness = None
    assert judge(run).symptom != "diverging"
