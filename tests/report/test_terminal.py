"""The verdict on a terminal: exact text where there is none, ink and width where there is one.

Snapshots are written anew with GRADIENTFLOW_SNAPSHOTS=write; read the difference before you keep it.
"""

from __future__ import annotations

import copy
import io
import os
import pathlib
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from gradientflow.records import Run, Share, Verdict
from gradientflow.report import print_verdict
from tests.report.pages import held

SNAPSHOTS = pathlib.Path(__file__).parent / "snapshots"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def plain(verdict: Verdict, run: Run | None, report: str | None = "runs/a/report.html", verbose: bool = False) -> str:
    out = io.StringIO()
    print_verdict(verdict, run, Console(file=out, width=37), report=report, verbose=verbose)
    return out.getvalue()


def colour(verdict: Verdict, run: Run | None, width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=width, legacy_windows=False)
    print_verdict(verdict, run, console, report="runs/a/report.html")
    return out.getvalue()


def test_plain_text_is_as_kept(case: tuple[Verdict, Run], case_name: str) -> None:
    text = plain(*case)
    path = SNAPSHOTS / f"{case_name}.txt"
    if os.environ.get("GRADIENTFLOW_SNAPSHOTS") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_plain_text_has_no_escapes_and_keeps_to_100_columns(case: tuple[Verdict, Run]) -> None:
    text = plain(*case)
    assert "\x1b" not in text
    assert max(cell_len(line) for line in text.split("\n")) <= 100
    assert all(line == line.rstrip() for line in text.split("\n"))


@pytest.mark.parametrize("name", ["FORCE_COLOR", "COLUMNS", "NO_COLOR", "TERM"])
def test_plain_text_does_not_depend_on_the_environment(
    name: str, cases: dict[str, Callable[[], tuple[Verdict, Run]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plain(*cases["exploding"]())
    monkeypatch.setenv(name, "" if name == "FORCE_COLOR" else "40")
    assert plain(*cases["exploding"]()) == before


@pytest.mark.parametrize("width", [80, 100, 133, 160, 200])
def test_colour_rendering_keeps_to_the_width(case: tuple[Verdict, Run], width: int) -> None:
    text = colour(*case, width)
    assert "\x1b[" in text
    assert max(cell_len(ANSI.sub("", line)) for line in text.split("\n")) <= min(width, 160)


def test_colour_and_plain_tell_the_same_marks_and_gains(case: tuple[Verdict, Run]) -> None:
    told = [sorted(re.findall(r"×\S+|[▼▲✕○]", ANSI.sub("", t))) for t in (plain(*case), colour(*case, 100))]
    assert [x for x in told[0] if x != "✕"] == [x for x in told[1] if x != "✕"]


def test_printing_changes_nothing(case: tuple[Verdict, Run]) -> None:
    before = copy.deepcopy(case)
    plain(*case)
    assert case == before


def test_every_finding_is_told_with_the_numbers_that_decide(
    cases: dict[str, Callable[[], tuple[Verdict, Run]]],
) -> None:
    verdict, run = cases["vanishing"]()
    text = plain(verdict, run)
    for finding in verdict.findings:
        assert finding.cause in text
    for number in ("0.25", "threshold 0.5", "−5.94", "threshold −2"):  # those with a threshold come first
        assert number in text
    assert "0.312" not in text
    assert "and 2 more numbers: -v, or gradientflow explain" in text
    assert "    ▼ 13 │     x = torch.sigmoid(h)" in text
    assert text.count("advice, not tried yet") == 1
    assert "replayed: better (tanh instead of sigmoid at train.py:13)" in text


def test_all_numbers_are_told_on_request(cases: dict[str, Callable[[], tuple[Verdict, Run]]]) -> None:
    text = plain(*cases["vanishing"](), verbose=True)
    for number in ("0.25", "threshold 0.5", "−5.94", "threshold −2", "0.312", "−6.79"):
        assert number in text
    assert "more number" not in text


def test_long_waterfall_is_folded_but_marked_rows_stay(cases: dict[str, Callable[[], tuple[Verdict, Run]]]) -> None:
    verdict, run = cases["long"]()
    for i in (3, 700, 1100):
        verdict.budget.by_op[i].mark = "vanishing"
        verdict.budget.by_op[i].name = f"thief{i}"
    verdict.symptom = "vanishing"
    text = plain(verdict, run)
    for i in (3, 700, 1100):
        assert f"thief{i}" in text
    assert re.search(r"… \d+ more like these 2, ×0\.99 each", text)
    rows = [line for line in text.split("\n") if re.search(r"×\d", line)]
    assert len(rows) <= 30


def test_residual_net_says_that_routes_join_and_how_much_came(
    cases: dict[str, Callable[[], tuple[Verdict, Run]]],
) -> None:
    verdict, run = cases["branched"]()
    text = plain(verdict, run)
    assert "⊕ routes join, 43 % this way" in text
    assert verdict.budget.note[:40] in text


def test_without_a_run_the_verdict_is_still_told(case: tuple[Verdict, Run]) -> None:
    verdict, _ = case
    text = plain(verdict, None, None)
    assert verdict.symptom in text
    assert "report " not in text


def test_not_measured_names_the_mend(cases: dict[str, Callable[[], tuple[Verdict, Run]]]) -> None:
    text = plain(*cases["not-measured"]())
    assert "? not-measured" in text
    assert "loss.backward()" in text


def test_names_cannot_steer_the_terminal(cases: dict[str, Callable[[], tuple[Verdict, Run]]]) -> None:
    verdict, run = cases["hostile"]()
    assert "\x1b" not in plain(verdict, run)
    assert "\u202e" not in plain(verdict, run)
    rest = ANSI.sub("", colour(verdict, run, 100))
    assert "\x1b" not in rest
    assert max(cell_len(line) for line in rest.split("\n")) <= 100


def test_an_ascii_stream_gets_ascii(cases: dict[str, Callable[[], tuple[Verdict, Run]]]) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", write_through=True) as stream:
        print_verdict(*cases["vanishing"](), Console(file=stream))
        text = raw.getvalue().decode("ascii")
    assert "v vanishing" in text
    assert "x0.25 v" in text


def test_empty_rows_and_odd_numbers_do_not_break_it(cases: dict[str, Callable[[], tuple[Verdict, Run]]]) -> None:
    verdict, run = cases["vanishing"]()
    odd = [float("nan"), float("inf"), float("-inf"), 0.0, 1e308, 5e-324, None]
    verdict.budget.by_op = [
        Share(name=f"{d} {g} {left}", kind="x", decades=d, gain=g, left=left) for d in odd for g in odd for left in odd
    ]
    verdict.budget.total_decades = float("nan")
    verdict.budget.by_kind = verdict.budget.by_op[:9]
    for text in (plain(verdict, run), ANSI.sub("", colour(verdict, run, 80))):
        assert max(cell_len(line) for line in text.split("\n")) <= 100


def test_of_very_many_optimizers_a_few_are_drawn_and_the_rest_counted(
    cases: dict[str, Callable[[], tuple[Verdict, Run]]],
) -> None:
    verdict, run = cases["several"]()
    assert "more optimizer" not in plain(verdict, run)
    verdict.optimizers = [copy.copy(verdict.optimizers[k % 2]) for k in range(200)]
    text = plain(verdict, run)
    assert text.count("the gradient's way back") == 4
    assert "and 196 more optimizers" in text
    assert len(text.split("\n")) < 130
    assert len(held(verdict, run).view.own) == 8
