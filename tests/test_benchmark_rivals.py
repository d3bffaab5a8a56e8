"""benchmarks/rivals.py: how rivals' words are read, how they are counted, and the driver around a real script."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import rivals
from benchmarks.rival_maps import Claim, claims
from benchmarks.rivals import Outcome, judge, prepare, run_rival, table, thinned

PLACES = {"": [3, 30], "layers.2": [12, 21], "head": [14, 23]}


def told(*findings: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What the driver writes."""
    return {
        "could_not": None,
        "crash": None,
        "script_error": None,
        "steps": 9,
        "findings": list(findings),
        "places": PLACES,
    } | more


def finding(
    kind: str, severity: str = "warning", text: str = "", layer: str | None = None, line: int | None = None
) -> dict[str, Any]:
    return {"kind": kind, "severity": severity, "text": text, "layer": layer, "line": line}


def label(symptom: str, cause: str, lines: list[list[int]] | None = None) -> dict[str, Any]:
    return {
        "file": "case_1.py",
        "healthy": symptom == "healthy",
        "symptoms": [symptom],
        "causes": [cause],
        "lines": lines or [],
    }


# ── the mapping ──────────────────────────────────────────────────────────────────────────────────────────────────────

SAID = [
    ("torchmortem", finding("Vanishing gradients detected", layer="layers.2"), "vanishing", None, (12, 21)),
    ("torchmortem", finding("Dead units in layers.2", layer="layers.2"), "dead", "dead-units", (12, 21)),
    ("torchmortem", finding("Update ratio too low in head", layer="head"), "crawling", "step-too-small", (14, 23)),
    ("torchmortem", finding("Training divergence detected"), "diverging", "step-too-large", ()),
    ("torch-audit", finding("TA100", "error"), "not-finite", None, ()),
    ("torch-audit", finding("TA500", "error", layer="head"), "disconnected", "disconnected-parameters", (14, 23)),
    ("torchdiag", finding("VANISH", layer="head"), "vanishing", None, (14, 23)),
    ("torchlens", finding("nonfinite", layer="head", line=40), "not-finite", None, (14, 23, 40)),
    ("anomaly mode", finding("anomaly", text="Function 'SqrtBackward0' returned nan values", line=7), "not-finite", "singular-op", (7,)),
    ("anomaly mode", finding("anomaly", text="Function 'ExpBackward0' returned nan values"), "not-finite", "overflow", ()),
]  # fmt: skip


@pytest.mark.parametrize(("rival", "said", "symptom", "cause", "lines"), SAID)
def test_words_of_a_rival_are_read(
    rival: str, said: dict[str, Any], symptom: str, cause: str | None, lines: tuple[int, ...]
) -> None:
    (claim,) = claims(rival, told(said))
    assert symptom in claim.symptoms
    assert claim.lines == lines
    assert cause in claim.causes if cause else claim.causes == ()
    assert "healthy" not in claim.symptoms
    right = judge(
        rival, label(symptom, cause or "overflow", [[lines[-1], lines[-1]]] if lines else None), told(said), [claim]
    )
    assert right.right_symptom
    assert right.right_cause == (cause is not None)
    assert right.right_line == (True if lines else None)


@pytest.mark.parametrize(("rival", "said", "symptom", "cause", "lines"), SAID)
def test_what_a_rival_says_is_wrong_for_another_fault(
    rival: str, said: dict[str, Any], symptom: str, cause: str | None, lines: tuple[int, ...]
) -> None:
    """Negative control: the same words are no hit where the fault, its cause and its line are others."""
    made = claims(rival, told(said))
    other = judge(rival, label("no such symptom", "no such cause", [[90, 95]]), told(said), made)
    assert (other.right_symptom, other.right_cause, other.right_line) == (False, False, False)
    assert judge(rival, label("healthy", ""), told(said), made).false_alarm


def test_hints_of_style_are_no_finding_and_information_is_no_alarm() -> None:
    assert claims("torch-audit", told(finding("TA200"), finding("TA401", "info"))) == []
    (claim,) = claims("torchmortem", told(finding("Catapult phase detected", "info")))
    assert not judge("torchmortem", label("healthy", ""), told(), [claim]).false_alarm
    assert judge("torchmortem", label("oscillating", "step-too-large"), told(), [claim]).right_symptom


def test_a_rival_that_crashed_or_could_not_run_is_counted_as_such() -> None:
    fault = label("vanishing", "depth-without-skip", [[3, 3]])
    crashed = judge("torchlens", fault, told(crash="KeyError: x"), [])
    assert (crashed.state, crashed.right_symptom, crashed.right_line) == ("crashed", False, False)
    unable = judge("torchlens", fault, told(could_not="no nn.Module"), [])
    assert (unable.state, unable.why) == ("could not run", "no nn.Module")
    assert judge("torchlens", fault, None, []).state == "crashed"
    healthy = judge("torchlens", label("healthy", ""), told(crash="KeyError: x"), [])
    assert healthy.false_alarm is False


def test_the_table_counts_what_the_outcomes_say() -> None:
    hit, miss = Claim(("dead",), ("dead-units",), (3,)), Claim(("noisy",))
    fault = label("dead", "dead-units", [[4, 4]])
    found = [
        judge("torchdiag", fault, told(), [miss, hit]),
        judge("torchdiag", fault, told(), []),
        judge("torchdiag", label("healthy", ""), told(), [miss]),
        Outcome("gradientflow", "case_1.py", False, findings=1, right_symptom=True, right_cause=False, right_line=True),
    ]
    lines = {line.split()[0]: line for line in table(found).splitlines()[2:]}
    cells = [cell.strip() for cell in lines["torchdiag"].split("  ") if cell.strip()]
    half, all_of_it = "1/2 (50.0 %)", "1/1 (100.0 %)"
    assert cells == ["torchdiag (any finding)", half, half, half, all_of_it, "1/2", "0", "0"]
    assert "1/1 (100.0 %)" in lines["gradientflow"]
    assert "0/1 (0.0 %)" in lines["gradientflow"]


def test_thinning_keeps_healthy_scripts_in() -> None:
    labels = [{"file": f"{k}", "healthy": k % 3 == 2} for k in range(18)]
    kept = thinned(labels, 3)
    assert sum(x["healthy"] for x in kept) == 2
    assert len(kept) == 6
    assert thinned(labels, 1) == labels


def test_the_rivals_never_go_into_this_environment() -> None:
    with pytest.raises(SystemExit, match="is the environment this runs in"):
        prepare(Path(sys.prefix), [])


# ── the driver ───────────────────────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.sqrt(self.layer(x).square().sum(1){guard})


torch.manual_seed(0)
net = Net()
nn.init.zeros_(net.layer.weight)
nn.init.zeros_(net.layer.bias)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    loss = net(torch.ones(2, 4)).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_anomaly_mode_is_driven_over_a_real_script(tmp_path: Path) -> None:
    fault = label("not-finite", "singular-op", [[11, 11]])
    (tmp_path / "case_1.py").write_text(SCRIPT.format(guard=""))
    raw = tmp_path / "raw"
    raw.mkdir()
    found = run_rival("anomaly mode", Path(sys.executable), fault, tmp_path, 120, raw)
    assert (found.state, found.right_symptom, found.right_cause, found.right_line) == ("ran", True, True, True), found
    kept = json.loads((raw / "anomaly-mode-case_1.json").read_text())
    assert "returned nan values" in kept["findings"][0]["text"]
    assert kept["places"]["layer"] == [8, 11]  # made, called
    (tmp_path / "case_2.py").write_text(SCRIPT.format(guard=" + 1.0"))  # negative control: nothing is wrong
    fine = run_rival(
        "anomaly mode", Path(sys.executable), label("healthy", "") | {"file": "case_2.py"}, tmp_path, 120, None
    )
    assert (fine.state, fine.findings, fine.false_alarm) == ("ran", 0, False)


def test_a_rival_that_is_not_there_is_told_as_a_crash_and_kept_words_are_not_asked_for_again(tmp_path: Path) -> None:
    fault = label("not-finite", "singular-op")
    (tmp_path / "case_1.py").write_text(SCRIPT.format(guard=""))
    found = run_rival("torchdiag", Path(sys.executable), fault, tmp_path, 120, tmp_path)
    assert (found.state, found.right_symptom) == ("crashed", False)
    assert "ModuleNotFoundError" in found.why
    again = run_rival("torchdiag", Path("/no/such/python"), fault, tmp_path, 120, tmp_path)
    assert again.why == found.why


def test_a_script_without_a_module_cannot_be_run_by_those_that_need_one(tmp_path: Path) -> None:
    (tmp_path / "case_1.py").write_text(
        "import torch\nw = torch.ones(2, requires_grad=True)\no = torch.optim.SGD([w], lr=0.1)\nw.sum().backward()\no.step()\n"
    )
    found = run_rival("torchmortem", Path(sys.executable), label("dead", "dead-units"), tmp_path, 120, None)
    assert found.state == "could not run"
    assert "nn.Module" in found.why
    assert rivals.DRIVER.exists()
