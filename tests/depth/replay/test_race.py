"""A whole replay on a true script, in true child processes: what helps is a win, what does nothing is none, what harms is worse."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradientflow import depth, store
from gradientflow.depth.remedies.write import Edits
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.replay import candidates as plan
from gradientflow.depth.replay import race
from gradientflow.depth.replay.bench import Bench
from gradientflow.depth.replay.nursery import Nursery
from gradientflow.depth.replay.trial import Attempt
from gradientflow.errors import UsageError
from gradientflow.records import (
    FAILED,
    NO_WIN,
    NOT_TRIED,
    WIN,
    WORSE,
    Change,
    Finding,
    Meta,
    Optimizer,
    Outlook,
    Place,
    Replay,
    Run,
    Trial,
    Verdict,
)
from tests.depth.scripts import sandbox

SCRIPT = """
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
x = torch.randn(64, 8)
y = x @ torch.randn(8, 1)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
for step in range(60):
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
"""
LR_LINE = 8


def watched(folder: Path, text: str = SCRIPT) -> tuple[Run, Verdict, Path]:
    """Run a script under watch in its own folder, and return what was seen."""
    (folder / "train.py").write_text(text)
    before = os.getcwd()
    os.chdir(folder)
    try:
        with sandbox():
            outcome = depth.run(["train.py"], out=folder / "run")
    finally:
        os.chdir(before)
    return outcome.run, outcome.verdict, folder / "run"


def step_times(factor: float) -> Change:
    return Change("lower-step", f"learning rate × {factor:g}", [Place("train.py", LR_LINE)], {"factor": factor})


NOTHING = Change("zero-grad", "gradients cleared once more", [], {"factor": 1.0})  # this script clears them itself


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Replay, Path]:
    """The script above, replayed with a step that helps, one that changes nothing, and one that harms."""
    folder = tmp_path_factory.mktemp("replay")
    run, verdict, out = watched(folder)
    assert (verdict.symptom, verdict.findings[0].cause) == ("diverging", "step-too-large")
    changes = [(0, NOTHING), (0, step_times(3.0)), (0, step_times(0.1))]
    saved: list[Replay] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "candidates", lambda *a, **k: changes if a[0] is run else [])
        found = race.replay(run, verdict, out / store.TRIALS, budget=300, seeds=2, save=saved.append)
    assert len(saved) >= 3 and saved[0].trials  # after each trial, not only at the end
    return found, out


def outcomes(replay: Replay) -> dict[float, Trial]:
    return {float(t.changes[0].settings["factor"]): t for t in replay.trials if t.outcome != NOT_TRIED}


def test_what_helps_is_a_win_what_does_nothing_is_none_and_what_harms_is_worse(replayed) -> None:
    found = outcomes(replayed[0])
    assert {f: t.outcome for f, t in found.items()} == {0.1: WIN, 1.0: NO_WIN, 3.0: WORSE}
    assert replayed[0].trials[replayed[0].best or 0] is found[0.1]


def test_a_change_that_changes_nothing_differs_by_exactly_nothing(replayed) -> None:
    """The pairing: same seeds, same batches, same arithmetic. Any difference would be the replay's own."""
    nothing = outcomes(replayed[0])[1.0]
    assert (nothing.difference, nothing.low, nothing.high) == (0.0, 0.0, 0.0)
    assert not nothing.gone


def test_the_baseline_is_the_watched_run(replayed) -> None:
    assert replayed[0].reproducible is True
    assert replayed[0].baseline.symptom == "diverging"
    assert replayed[0].notes == []


def test_the_best_was_tried_on_further_seeds_and_its_symptom_is_gone(replayed) -> None:
    best = outcomes(replayed[0])[0.1]
    assert best.seeds == 2 == replayed[0].seeds
    assert best.gone and best.remains == ""
    assert best.high is not None and best.high < 0


def test_the_edit_was_written_and_run(replayed) -> None:
    best = outcomes(replayed[0])[0.1]
    assert best.diff is not None and best.diff_tried is True and best.diff_equal is True
    assert "-optimizer = torch.optim.SGD(model.parameters(), lr=0.7)\n" in best.diff
    assert "+optimizer = torch.optim.SGD(model.parameters(), lr=0.07)\n" in best.diff


def test_every_trial_leaves_a_run_that_can_be_read(replayed) -> None:
    trials = sorted(p.name for p in (replayed[1] / store.TRIALS).iterdir())
    assert "baseline" in trials and "3-lower-step" in trials and "3-lower-step-seed1" in trials
    seen = store.read(replayed[1] / store.TRIALS / "3-lower-step")
    assert len(seen.steps) == 60
    assert "58 " in (replayed[1] / store.TRIALS / "3-lower-step" / "output.txt").read_text()


def test_a_replay_survives_the_disk_and_is_told_beside_its_remedies(replayed, tmp_path: Path) -> None:
    assert store.read_replay(tmp_path) is None
    store.keep_replay(tmp_path, replayed[0])
    again = store.read_replay(tmp_path)
    assert again == replayed[0]
    verdict = depth.attach(depth.judge(store.read(replayed[1])), again)
    told = {r.kind: r.replayed for r in verdict.findings[0].remedies}
    assert told["lower-step"] is not None and told["lower-step"]["outcome"] == WIN
    assert told["lower-step"]["loss_after"] < 0.01 * told["lower-step"]["loss_before"]
    assert told["clip-gradient"] is None  # was not tried


def test_a_healthy_run_has_nothing_to_replay(tmp_path: Path) -> None:
    run, verdict, out = watched(tmp_path, SCRIPT.replace("lr=0.7", "lr=0.1"))
    assert verdict.symptom == "healthy"
    with pytest.raises(UsageError, match="nothing to replay"):
        race.replay(run, verdict, out / store.TRIALS)


def test_a_script_that_changed_since_is_refused(replayed, tmp_path: Path) -> None:
    run, verdict, out = watched(tmp_path)
    (tmp_path / "train.py").write_text("# one line more\n" + SCRIPT)
    with pytest.raises(UsageError, match=r"train\.py has changed since it was watched"):
        race.replay(run, verdict, out / store.TRIALS)
    (tmp_path / "train.py").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*train\.py"):
        race.replay(run, verdict, out / store.TRIALS)


def test_without_a_seed_it_is_still_paired_and_what_finds_nothing_to_act_on_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, verdict, out = watched(tmp_path, SCRIPT.replace("torch.manual_seed(0)", ""))
    nowhere = Change(
        "swap-activation", "relu instead of sigmoid", [Place("train.py", 3, None, "sigmoid")], {"to": "relu"}
    )
    monkeypatch.setattr(plan, "candidates", lambda *a, **k: [(0, NOTHING), (0, nowhere)])
    found = race.replay(run, verdict, out / store.TRIALS, seeds=1)
    assert found.reproducible is False
    assert "does not repeat itself" in found.notes[0]
    assert found.trials[0].difference == 0.0
    assert [t.outcome for t in found.trials[:2]] == [NO_WIN, NOT_TRIED]
    assert found.best is None


def test_what_is_asked_for_is_found_beyond_the_first_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, verdict, out = watched(tmp_path)
    several = [(0, step_times(f)) for f in (0.1, 0.2, 0.3, 0.4, 0.05)] + [(0, NOTHING)]
    monkeypatch.setattr(plan, "candidates", lambda *a, most=4, **k: several[:most])
    found = race.replay(run, verdict, out / store.TRIALS, budget=60, seeds=1, only=["zero-grad"])
    assert [t.changes[0].kind for t in found.trials] == ["zero-grad"]


def test_a_budget_that_is_spent_leaves_the_rest_untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, verdict, out = watched(tmp_path)
    monkeypatch.setattr(plan, "candidates", lambda *a, **k: [(0, step_times(0.1)), (0, step_times(0.01))])
    found = race.replay(run, verdict, out / store.TRIALS, budget=1.0)
    assert {t.outcome for t in found.trials} <= {NOT_TRIED, FAILED}
    assert any("budget of 1 s was spent" in t.reason for t in found.trials)


def test_a_best_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    """A win without a diff is not passed over in silence."""
    run = Run(Meta(script="train.py", argv=["train.py"], cwd=str(tmp_path), started="", python="", torch=""))
    run.meta.sources = {"train.py": SCRIPT}
    finding = Finding("diverging", "step-too-large", 0.9, Place("train.py", LR_LINE), "", {}, [])
    with Nursery(str(tmp_path)) as nursery:
        judged = depth.judge(run)
        judged.findings = [finding]
        race_ = race._Race(run, judged, tmp_path, 0.0, 1, race.Silent(), None, nursery)
        won = Trial([Change("warmup", "a warm-up")], 0, WIN, "better")
        race_.bench = Bench(judged, Attempt([], 0, tmp_path, outlook=Outlook(60, 1.0, 1.0, None, "diverging")))
        race_.trials, race_.attempts, race_.parts = [won], [[]], [[(won.changes[0], finding)]]
        race_._edit()
        assert won.diff is None
        assert race_.notes == ["the best has no diff, it has to be written by hand: warmup: no optimizer was seen"]
        race_.notes.clear()
        won.changes, race_.parts = (
            [step_times(0.1)],
            [[(step_times(0.1), finding)]],
        )  # control: what can be written is, without a note of that kind
        run.meta.optimizers = [Optimizer(0, "SGD", {"lr": 0.7}, [], made_file="train.py", made_line=LR_LINE)]
        race_._edit()
        assert won.diff is not None and not any("by hand" in n for n in race_.notes)


def test_where_the_best_cannot_be_written_the_next_winner_that_can_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best stays the best; the diff is that of the first winner behind it that has one and does as well when it is run."""
    finding = Finding("diverging", "step-too-large", 0.9, Place("train.py", LR_LINE), "", {}, [])
    changes = [Change(kind, kind) for kind in ("first", "second", "third", "fourth", "fifth")]

    def written(unwritable: set[str], worse: set[str]) -> tuple[list[str], list[str], int | None]:
        run = Run(Meta(script="train.py", argv=["train.py"], cwd=str(tmp_path), started="", python="", torch=""))
        with Nursery(str(tmp_path)) as nursery:
            judged = depth.judge(run)
            judged.findings = [finding]
            made = race._Race(run, judged, tmp_path, 1e6, 1, race.Silent(), None, nursery)
            made.trials = [Trial([c], 0, WIN, "better", difference=-0.9 + 0.1 * k) for k, c in enumerate(changes[:4])]
            made.trials.append(Trial([changes[4]], 0, NO_WIN, "no proven win"))
            made.parts = [[(c, finding)] for c in changes]
            made.attempts = [[Attempt([c], 0, tmp_path / c.kind)] for c in changes]
            monkeypatch.setattr(made, "_ranked", lambda: list(range(5)))

            def edits(parts: list[tuple[Change, Finding]], _: Run) -> Edits:
                if parts[0][0].kind in unwritable:
                    raise NoEditError("its lines are not at hand")
                return Edits({"train.py": parts[0][0].kind}, f"diff of {parts[0][0].kind}", [])

            monkeypatch.setattr(race, "edits", edits)
            monkeypatch.setattr(
                made, "_run", lambda name, *a, sources, **k: Attempt([], 0, tmp_path / sources["train.py"])
            )
            made.bench = SimpleNamespace(  # type: ignore[assignment]
                judged=lambda f, c, attempts: Trial(
                    c, 0, WORSE if attempts[0].folder.name in worse else WIN, "it ended higher"
                )
            )
            made._edit()
            return [t.diff for t in made.trials if t.diff], made.notes, made._best()

    assert written(set(), set())[:2] == (["diff of first"], [])  # control: the best can be written
    diffs, notes, best = written({"first"}, set())
    assert (diffs, best) == (["diff of second"], 0)
    assert notes == ["the best has no diff, it has to be written by hand: its lines are not at hand"]
    assert written({"first"}, {"second"})[0] == ["diff of third"]
    diffs, notes, _ = written({"first", "second"}, {"third"})
    assert diffs == []  # three are tried, and what did not win never is
    assert len(notes) == 3
