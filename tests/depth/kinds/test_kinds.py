"""Scripts of unusual kinds, run as `gradientflow run` runs them: what is well is called well, and its faulty twin is not.

`ok_*.py` trains as its kind does; `bad_*.py` has one fault, and says in comments what is to be told of it: `# SYMPTOM a b`,
`# CAUSE c`, each with all words that are right, and `# HERE` on every line that may be named.
"""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from gradientflow.records import Verdict
from gradientflow.report.terminal import print_verdict
from tests.depth.scripts import watched

SCRIPTS = Path(__file__).parent / "scripts"


def verdict_of(script: Path, folder: Path) -> Verdict:
    """Run a script in a folder of its own and return what is said of it."""
    file = folder / script.name
    shutil.copy(script, file)
    outcome = watched(file).outcome
    assert outcome is not None
    assert outcome.ending.how == "finished" or script.name.startswith("bad_"), outcome.run.meta.error
    assert outcome.verdict.watch.errors == []
    return outcome.verdict


def words(text: str, head: str) -> list[str]:
    found = re.search(rf"# {head} (.+)", text)
    assert found is not None, f"no {head} in the script"
    return found.group(1).split()


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("ok_*.py")), ids=lambda s: s.stem)
def test_what_is_well_is_called_well(script: Path, tmp_path: Path) -> None:
    verdict = verdict_of(script, tmp_path)
    assert verdict.symptom == "healthy", verdict.summary
    assert verdict.findings == []


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("bad_*.py")), ids=lambda s: s.stem)
def test_what_is_not_is_told_with_its_cause_and_line(script: Path, tmp_path: Path) -> None:
    text = script.read_text(encoding="utf-8")
    verdict = verdict_of(script, tmp_path)
    assert verdict.symptom in words(text, "SYMPTOM"), verdict.summary
    first = verdict.findings[0]
    assert first.cause in words(text, "CAUSE"), verdict.summary
    marked = {n for n, line in enumerate(text.splitlines(), 1) if "# HERE" in line}
    assert marked
    assert first.place is not None
    assert first.place.line in marked, verdict.summary


def test_a_gradient_inside_torch_func_is_said_not_to_be_seen(tmp_path: Path) -> None:
    verdict = verdict_of(SCRIPTS / "unseen_functional.py", tmp_path)
    assert verdict.symptom == "not-measured"
    assert "torch.func" in verdict.summary
    assert "never called backward" not in verdict.summary


@pytest.mark.parametrize(("script", "steps"), [("ok_sharpness_aware", 120), ("ok_attack_by_backward", 150)])
def test_what_moves_before_an_optimizer_steps_is_no_step(script: str, steps: int, tmp_path: Path) -> None:
    assert verdict_of(SCRIPTS / f"{script}.py", tmp_path).steps == steps


def test_an_optimizer_that_never_steps_is_not_waited_for(tmp_path: Path) -> None:
    script = tmp_path / "by_hand.py"
    script.write_text(
        "import torch\ntorch.manual_seed(0)\nw = torch.randn(4, 1, requires_grad=True)\nopt = torch.optim.SGD([w], lr=0.1)\n"
        "for step in range(120):\n    opt.zero_grad()\n    (torch.randn(8, 4) @ w).pow(2).mean().backward()\n"
        "    with torch.no_grad():\n        w -= 0.05 * w.grad\n",
        encoding="utf-8",
    )
    outcome = watched(script).outcome
    assert outcome is not None
    assert 60 < outcome.verdict.steps < 75  # those after the fifty that are waited for


def test_steps_of_weights_that_are_bound_anew_are_counted(tmp_path: Path) -> None:
    verdict = verdict_of(SCRIPTS / "ok_rebinding.py", tmp_path)
    assert verdict.steps == 120  # as many as the script takes
    assert verdict.loss.last is not None
    assert verdict.loss.first is not None
    assert verdict.loss.last < 0.1 * verdict.loss.first


def test_data_that_is_bound_anew_is_no_step(tmp_path: Path) -> None:
    script = tmp_path / "accumulates.py"
    script.write_text(
        "import torch\ntorch.manual_seed(0)\nw = torch.randn(4, 1, requires_grad=True)\n"
        "for step in range(20):\n    x = torch.randn(8, 4, requires_grad=True)\n    (x @ w).pow(2).mean().backward()\n",
        encoding="utf-8",
    )
    outcome = watched(script).outcome
    assert outcome is not None
    assert outcome.verdict.steps == 0
    assert outcome.verdict.symptom == "not-measured"


def test_of_two_optimizers_each_has_its_own_loss_steps_and_way_back(tmp_path: Path) -> None:
    script = tmp_path / "ok_gan.py"
    shutil.copy(SCRIPTS / "ok_gan.py", script)
    outcome = watched(script).outcome
    assert outcome is not None
    first, second = outcome.verdict.optimizers
    assert (first.steps, second.steps) == (200, 200)
    for k, own in enumerate((first, second)):
        losses = [s.loss for s in outcome.run.steps if s.optimizer == k]
        assert (own.loss.first, own.loss.last) == (losses[0], losses[-1])
        assert own.decades is not None
    assert first.loss != second.loss
    assert first.decades != second.decades
    assert outcome.verdict.summary.count("took 200 steps") == 2
    console = Console(width=110, file=io.StringIO(), color_system=None)
    print_verdict(outcome.verdict, outcome.run, console)
    told = [line for line in console.file.getvalue().splitlines() if "200 steps" in line]  # type: ignore[attr-defined]
    assert len([line for line in told if "→" in line]) == 4  # a way back and a loss of each


def test_one_optimizer_is_not_told_apart(tmp_path: Path) -> None:
    assert verdict_of(SCRIPTS / "ok_spike.py", tmp_path).optimizers == []
