"""Remedies together: the winners on top of the best, kept where the loss is clearly lower; told as one edit that was run."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.depth.remedies.write import Edits
from gradientflow.depth.replay import candidates as plan
from gradientflow.depth.replay import composing, race
from gradientflow.depth.replay.trial import Attempt
from gradientflow.records import (
    NO_WIN,
    WIN,
    WORSE,
    Budget,
    Change,
    Finding,
    Loss,
    Meta,
    Place,
    Replay,
    Run,
    Trial,
    Verdict,
    Watch,
)
from tests.depth.replay.test_limits_race import raced
from tests.depth.replay.test_race import watched

TWO_FAULTS = """
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
x = torch.randn(64, 8)
y = x @ torch.randn(8, 1)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.003)
for step in range(60):
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
"""
SWAP = Change("swap-activation", "tanh", [Place("train.py", 7, None, "sigmoid")], {"to": "tanh"})
FASTER = Change("raise-step", "learning rate × 5", [Place("train.py", 8)], {"factor": 5.0})
CLIP = Change("clip-gradient", "clipped, which helps nothing here", [], {"max_norm": 0.5})


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    folder = tmp_path_factory.mktemp("two")
    run, verdict, out = watched(folder, TWO_FAULTS)
    verdict.findings = [Finding("crawling", "step-too-small", 0.9, Place("train.py", 8), "", {}, [])]
    with pytest.MonkeyPatch.context() as patch:
        changes = [(0, SWAP), (0, FASTER), (0, CLIP)]
        patch.setattr(plan, "candidates", lambda *a, **k: changes if a[0] is run else [])
        return race.replay(run, verdict, out / store.TRIALS, budget=300, seeds=1)


def kinds(trial: Trial) -> list[str]:
    return [c.kind for c in trial.changes]


def test_what_won_is_tried_on_top_of_the_best_and_what_did_not_is_not(replayed: Replay) -> None:
    told = {" + ".join(kinds(t)): t for t in replayed.trials}
    assert [told[k].outcome for k in ("swap-activation", "raise-step", "clip-gradient")] == [WIN, WIN, WORSE]
    assert set(told) == {"swap-activation", "raise-step", "clip-gradient", "raise-step + swap-activation"}
    both = told["raise-step + swap-activation"]
    assert both.outcome == WIN and both is replayed.trials[replayed.best or 0]
    assert both.difference is not None and told["raise-step"].difference is not None
    assert both.difference < told["raise-step"].difference - 0.5


def test_the_edit_is_one_diff_and_its_run_gives_the_same_losses_bit_for_bit(replayed: Replay) -> None:
    best = replayed.trials[replayed.best or 0]
    assert best.diff is not None and best.diff_equal is True and best.diff_tried is True
    assert best.diff.count("--- a/train.py") == 1
    assert (
        "lr=0.015" in best.diff and "+model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh()" in best.diff
    )


class Rounds:
    """A race whose trials end at losses that are written down, by the kinds of their changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, losses: dict[str, float]) -> None:
        self.made, self.runner = raced(monkeypatch, 1e6)
        self.runner.fall = lambda changes: losses["+".join(c.kind for c in changes)]
        wins = [(0, Change(k, k)) for k in losses if "+" not in k and k]
        monkeypatch.setattr(plan, "candidates", lambda *a, **k: wins)
        monkeypatch.setattr(self.made, "_edit", lambda: None)
        self.found = self.made.run(())

    @property
    def best(self) -> list[str]:
        return kinds(self.found.trials[self.found.best or 0])


def test_each_that_makes_it_clearly_lower_stays_and_the_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"": 2.0, "add-skip": 0.9, "lower-step": 1.2, "zero-grad": 1.4,
              "add-skip+lower-step": 0.9, "add-skip+zero-grad": 0.5}  # fmt: skip
    rounds = Rounds(monkeypatch, losses)
    assert rounds.best == ["add-skip", "zero-grad"]
    dropped = next(t for t in rounds.found.trials if kinds(t) == ["add-skip", "lower-step"])
    assert "not clearly lower than with add-skip alone" in dropped.reason


def test_no_more_than_three_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds_ = ["add-skip", "lower-step", "zero-grad", "rescale-init"]
    losses = {"": 2.0} | {k: 0.9 + 0.08 * n for n, k in enumerate(kinds_)}
    losses |= {"+".join(kinds_[:n]): 0.8 / n for n in (2, 3)}
    assert composing.TOGETHER == 3
    assert Rounds(monkeypatch, losses).best == kinds_[:3]  # (the fourth would raise a KeyError)


def test_of_what_is_left_two_are_tried_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    further = ["lower-step", "zero-grad", "rescale-init"]
    finding = Finding("dead", "dead-units", 0.9, None, "", {}, [])
    monkeypatch.setattr(composing, "left", lambda *a: [(Change(k, k), finding) for k in further])
    losses = {"": 2.0, "add-skip": 0.9} | {f"add-skip+{k}": 0.9 for k in further[: int(composing.MORE)]}
    rounds = Rounds(monkeypatch, losses)  # (a third would raise a KeyError)
    assert [kinds(t)[1:] for t in rounds.found.trials] == [[], ["lower-step"], ["zero-grad"]]
    assert rounds.best == ["add-skip"]


def test_what_is_left_is_what_the_trial_found_without_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("dead", "dead-units", 0.9, None, "", {}, [])
    found = [(0, Change(k, "")) for k in ("add-skip", "lower-step", "lower-step", "zero-grad")]
    monkeypatch.setattr(plan, "candidates", lambda *a, **k: found)
    one = attempt(0.1)
    trial = Trial([Change("add-skip", "")], 0, WIN, "")
    assert composing.left(one, trial) == []  # nothing was found in its run
    one.run = Run(Meta("a.py", [], "", "", "", ""))
    one.verdict = Verdict("a.py", 1, Loss(), "dead", [finding], Budget(), Watch())
    assert [(c.kind, f) for c, f in composing.left(one, trial)] == [("lower-step", finding), ("zero-grad", finding)]


def attempt(*losses: float, factor: float = 1.0, failure: str | None = None) -> Attempt:
    return Attempt([], 0, Path("x"), losses=dict(enumerate(losses)), factor=factor, failure=failure)


def test_equal_means_bit_for_bit_in_one_of_the_two_units() -> None:
    model = attempt(0.3, 0.1)
    assert composing.equal(attempt(0.3, 0.1), model)
    assert not composing.equal(attempt(0.3, 0.1 + 1e-17 + 2e-17), model)
    assert composing.equal(attempt(4 * 0.3, 4 * 0.1, factor=4.0), model)  # the edit did not change the unit
    assert composing.equal(attempt(-0.3, -0.1), model)  # a sign that was turned in the loss, or in its gradient
    assert not composing.equal(attempt(0.3, 0.1, failure="gone"), model)
    assert not composing.equal(attempt(), model)


@pytest.mark.parametrize(
    ("losses", "outcome", "shown", "equal"),
    [((0.3, 0.1), WORSE, True, True), ((0.3, 0.2), WIN, True, False), ((0.3, 0.2), NO_WIN, False, False),
     ((0.3, 0.2), WORSE, False, False)],
)  # fmt: skip
def test_an_edit_that_did_not_do_as_well_is_told_and_not_shown(
    losses: tuple[float, ...], outcome: str, shown: bool, equal: bool
) -> None:
    trial, notes = Trial([], 0, WIN, ""), []
    edits = Edits({}, "the diff", ["a caveat"])
    composing.settle(trial, edits, Trial([], 0, outcome, "why"), attempt(*losses), attempt(0.3, 0.1), notes)
    assert (trial.diff == "the diff", trial.diff_tried, trial.diff_equal) == (shown, shown, equal)
    assert notes == (["a caveat"] if shown else notes) and len(notes) == 1
    assert shown or "is not shown: run, it did not do as well (why)" in notes[0]
