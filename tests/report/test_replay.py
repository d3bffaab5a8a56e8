"""A replay, told: on the terminal, on the page, and while it runs."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gradientflow.depth.replay.attach import attach
from gradientflow.records import FAILED, NO_WIN, OUTCOMES, WORSE, Doubt, Replay, RunView, Trial
from gradientflow.report import ReplayLive, print_verdict
from gradientflow.report.closing import best_remedy
from gradientflow.report.replay_words import SIGNS, WORDS, at_no_cost, cells, verdict_line
from tests.report.cases import HOSTILE, Case, make_hostile, make_replayed
from tests.report.pages import held, rendered


def opened(replay: Replay) -> RunView:
    """What the page holds of a replay."""
    verdict, run = make_replayed()
    verdict.replay = replay
    return held(verdict, run).view


def terminal(width: int = 100, case: Case | None = None) -> str:
    verdict, run = case if case is not None else make_replayed()
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=width, legacy_windows=False)
    print_verdict(verdict, run, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def test_every_outcome_has_a_sign_and_words_of_its_own() -> None:
    assert set(SIGNS) == set(WORDS) == set(OUTCOMES)
    assert len(set(SIGNS.values())) == len(set(WORDS.values())) == len(OUTCOMES)


def test_a_factor_on_the_loss_stands_with_its_interval() -> None:
    replay = make_replayed()[0].replay
    assert replay is not None
    told = cells(replay.trials[0], replay).difference
    assert told == "×0.761 [0.739, 0.786]"  # (1 − .136)/(1 + .136)
    replay.baseline.loss_last = -2.25  # a loss that is not positive has no factor
    assert cells(replay.trials[0], replay).difference == "−0.136 [−0.15, −0.12]"


def test_no_proven_win_is_said_so() -> None:
    replay = make_replayed()[0].replay
    assert replay is not None
    assert verdict_line(replay).startswith("Best: tanh instead of sigmoid at train.py:13 and weights rescaled")
    replay.best = None
    assert verdict_line(replay).startswith("No proven win")
    assert opened(replay).edit is None


def test_a_failed_trial_shows_no_numbers() -> None:
    replay = make_replayed()[0].replay
    assert replay is not None
    replay.trials[0].outcome = FAILED
    told = cells(replay.trials[0], replay)
    assert (told.loss, told.difference, told.depth, told.symptom) == ("", "", "", "")


def test_the_terminal_shows_table_diff_and_what_was_not_tried() -> None:
    text = terminal()
    assert "✓ swap-activation + rescale-init" in text
    assert "✗ rescale-init" in text and "2.25 → not finite" in text
    assert "gated-cell: not tried, that is an edit of the model" in text
    assert "+        x = torch.tanh(x) if k in (4, 5, 6)" in text
    assert "run on this script, and as good as the intervention" in text
    assert "stopped after 200 of 5000 steps" in text


def test_a_narrow_terminal_drops_columns_before_words() -> None:
    text = terminal(60)
    assert "2.25 → 1.71" in text
    assert "×0.761" not in text


def test_an_edit_whose_own_run_did_not_do_as_well_is_not_printed() -> None:
    verdict, run = make_replayed()
    replay = verdict.replay
    assert replay is not None
    fix = opened(replay).fix
    assert fix is not None and "torch.tanh(x) if k in" in fix.diff  # control
    replay.trials[4].diff_tried = False
    fix = opened(replay).fix
    assert fix is not None and fix.diff == "" and opened(replay).edit is None
    assert "torch.tanh(x) if k in" not in terminal(case=Case(verdict, run))


def test_an_edit_that_gave_the_same_losses_is_told_as_that_and_one_that_was_not_run_too() -> None:
    replay = make_replayed()[0].replay
    assert replay is not None
    replay.trials[4].diff_equal = True
    assert "the same losses as the intervention, bit for bit" in getattr(opened(replay).fix, "checked", "")
    replay.trials[4].diff_equal = replay.trials[4].diff_tried = None
    assert "not run: no time was left" in getattr(opened(replay).fix, "checked", "")


def test_a_confidence_that_a_replay_lowered_is_told_on_both() -> None:
    verdict, run = make_replayed()
    replay = verdict.replay
    assert replay is not None
    assert "lowered" not in terminal(case=Case(verdict, run)) + str(opened(replay).tried_notes)  # control
    replay.doubts = [Doubt(1, "init-too-<small>", 2, 0.9, 0.69), Doubt(0, "depth", 1, 0.5, 0.33)]
    attach(verdict, replay)
    assert (verdict.findings[1].confidence, verdict.findings[0].confidence) == (0.69, 0.33)
    wanted = "lowered from 90 % to 69 %: the 2 remedies of it that were tried made nothing better"
    assert wanted in " ".join(terminal(case=Case(verdict, run)).split())
    notes = str(opened(replay).tried_notes)
    assert wanted in notes and "init-too-<small>" in notes
    assert "the remedy of it that was tried made nothing better" in notes


def test_why_there_is_no_win_is_told_and_a_symptom_gone_at_the_same_loss_as_well() -> None:
    replay = make_replayed()[0].replay
    assert replay is not None
    assert "no proven win: no clear difference in the loss" in str(opened(replay).tried)
    assert "no clear difference in the loss" in terminal()
    replay.best = None
    assert "the symptom is gone" not in verdict_line(replay)  # control: it is still seen
    replay.trials[1].gone = True
    assert "With a normalisation before each sigmoid at train.py:13 the symptom is gone" in verdict_line(replay)


@pytest.mark.parametrize(("low", "high", "same"), [(-0.019, 0.019, True), (-0.021, 0.0, False), (0.0, 0.021, False)])
def test_what_is_called_the_same_loss(low: float, high: float, same: bool) -> None:
    assert at_no_cost(Trial([], 0, NO_WIN, "", low=low, high=high, gone=True)) is same
    assert not at_no_cost(Trial([], 0, NO_WIN, "", low=low, high=high))
    assert not at_no_cost(Trial([], 0, WORSE, "", low=low, high=high, gone=True))


def test_the_page_has_a_row_per_trial_and_is_safe() -> None:
    verdict, run = make_replayed()
    told = held(verdict, run).view
    assert len(told.tried) == 5 and [cells[-1] for cells in told.tried][-1] == "better"
    assert told.fix is not None and told.fix.proven and told.fix.after == "0.31"
    hostile = rendered(*make_hostile())
    assert HOSTILE not in hostile and "<img src=x" not in hostile.replace("&lt;img", "")


def test_progress_in_a_log_is_a_line_per_trial_and_quiet_is_quiet() -> None:
    out = io.StringIO()
    with ReplayLive(out) as live:
        live.trial("the script as it is", 1, 3, 200)
        live.steps(50)
        live.trial("lr × 0.1", 2, 3, 200)
    assert out.getvalue() == "gradientflow: replay 1/3: the script as it is\ngradientflow: replay 2/3: lr × 0.1\n"
    silent = io.StringIO()
    with ReplayLive(silent, quiet=True) as live:
        live.trial("the script as it is", 1, 3, 200)
    assert silent.getvalue() == ""


def test_progress_survives_a_stream_that_is_gone() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("gone")

    with ReplayLive(Gone()) as live:
        live.trial("the script as it is", 1, 3, 200)
        live.steps(1)


def test_where_the_best_has_no_diff_that_of_the_next_winner_is_shown_under_its_name() -> None:
    verdict, run = make_replayed()
    replay = verdict.replay
    assert replay is not None and replay.best == 4
    best, first = replay.trials[4], replay.trials[0]
    assert "the best as an edit" in terminal(case=Case(verdict, run))  # control
    best.diff, first.diff, first.diff_tried = None, best.diff, True
    told = " ".join(terminal(case=Case(verdict, run)).split())
    wanted = f"the best that could be written: {first.changes[0].text}"
    assert wanted in told and "the best as an edit" not in told
    edit = opened(replay).edit
    assert edit is not None and edit[0].startswith(wanted) and edit[1] == first.diff
    assert f"Best: {best.changes[0].text}" in told  # it stays the best
    assert f"as a diff, above: {first.changes[0].text}" in (best_remedy(verdict) or "")
    first.diff_tried = False
    assert opened(replay).edit is None
