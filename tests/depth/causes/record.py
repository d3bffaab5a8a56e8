"""Records the fixtures of test_dry.py: real runs of the examples, as JSON.

    python -m tests.depth.causes.record

A fixture is a `Run` as it was seen, with few probes and numbers of six digits; the verdict on it is in the test.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from gradientflow.records import Run

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(__file__).resolve().parent / "fixtures"
EXAMPLES = {  # example -> (steps, probe every)
    "deep_sigmoid": (24, 30),
    "deep_sigmoid_residual": (24, 30),
    "healthy_mlp": (60, 50),
    "lr_too_high": (20, 10),
    "sqrt_at_zero": (60, 100),
}
DIGITS = 6


def rounded(value: Any) -> Any:
    """Return plain data with floats of six significant digits; what is not finite as text."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return value


def fixture(run: Run) -> str:
    """Return a run as JSON, without what depends on the machine and without fields that say nothing."""
    run.meta.cwd, run.meta.started, run.meta.argv = "", "", []
    run.norms = run.norms[:2]
    data = rounded(msgspec.to_builtins(run))
    for probe in data["probes"]:
        probe["ops"] = [
            {k: v for k, v in op.items() if (v is not None and v != []) or k in KEPT} for op in probe["ops"]
        ]
        for op in probe["ops"]:
            op["operands"] = [{k: v for k, v in o.items() if v is not None} for o in op["operands"]]
    return json.dumps(data, separators=(",", ":"))


KEPT = ("file", "line", "function", "module", "module_class", "operands")


def main() -> int:
    """Record every example in `EXAMPLES`."""
    from gradientflow.depth.watch.session import run_script

    FOLDER.mkdir(exist_ok=True)
    for name, (steps, every) in EXAMPLES.items():
        with tempfile.TemporaryDirectory() as folder:
            outcome = run_script([f"examples/{name}.py"], out=Path(folder) / "run", max_steps=steps, probe_every=every)
        text = fixture(outcome.run)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {outcome.verdict.symptom}, {len(text) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
