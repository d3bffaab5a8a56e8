"""A replay, told: on the terminal, on the page, and while it runs."""

from __future__ import annotations

import io
import re

from rich.console import Console

from gradientflow.records import FAILED, OUTCOMES
from gradientflow.report import ReplayLive, print_verdict
from gradientflow.report.html import render_html
from gradientflow.report.replay_panel import replay_panel
from gradientflow.report.replay_words import SIGNS, WORDS, cells, verdict_line
from tests.report.cases import HOSTILE, make_hostile, make_replayed


def terminal(width: int = 100) -> str:
    verdict, run = make_replayed()
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
    assert "the best as an edit" not in replay_panel(replay)


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


def test_an_edit_that_was_not_as_good_is_not_praised() -> None:
    replay = make_replayed()[0].replay
    assert replay is not None
    replay.trials[4].diff_tried = False
    assert "it did NOT do as well" in replay_panel(replay)
    assert "as good as the intervention" not in replay_panel(replay)


def test_the_page_has_a_row_per_trial_and_is_safe() -> None:
    verdict, run = make_replayed()
    page = render_html(verdict, run)
    table = page[page.index('<table class="trials">') :].partition("</table>")[0]
    assert table.count("<tr") == 1 + 5
    assert '<tr class="won best">' in table
    hostile = render_html(*make_hostile())
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
