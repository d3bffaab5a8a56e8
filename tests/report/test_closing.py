"""What stands at the end, in brief and in words: the last lines, `--format brief`, `gradientflow explain`, and what was proven."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gradientflow.records import Certificate, Finding, Loss, Place, Remedy, Run, Verdict
from gradientflow.report import explain, print_verdict, tell
from gradientflow.report.brief import MOST, brief
from gradientflow.report.closing import best_remedy, deciding, gist, next_command
from gradientflow.report.step_table import spread, tables
from tests.report.builders import Case
from tests.report.cases import (
    CASES,
    make_healthy,
    make_hostile,
    make_proven,
    make_replayed,
    make_several,
    make_vanishing,
)
from tests.report.pages import held

ANSI = re.compile(r"\x1b\[[0-9;]*m")
KEYS = [
    "form",
    "run",
    "failed",
    "verdict",
    "at",
    "why",
    "numbers",
    "remedy",
    "also",
    "held",
    "broken",
    "not-measured",
    "next",
]
FOLDER = "runs/train-20260101-120000"


def screen(case: Case, width: int, report: str) -> list[str]:
    """What a terminal of so many columns gets, without its colours."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=width, legacy_windows=False)
    print_verdict(*case, console, report=report)
    return [line.rstrip() for line in ANSI.sub("", out.getvalue()).split("\n")]


# ── the last lines ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_last_lines_are_what_matters(width: int) -> None:
    page = "/home/ada/experiments/with/a/long/path/runs/vanishing-20260101-120000-and-more/report.html"
    case = make_vanishing()
    lines = [line for line in screen(case, width, page) if line]
    assert lines[-1] == f"  report        {page}"  # whole, however narrow
    assert lines[-2] == f"  next          gradientflow replay {page.rsplit('/', 1)[0]}"
    end = " ".join(" ".join(lines[-12:]).split())
    assert "▼ vanishing because of saturating-activation at /home/ada/nets/train.py:13" in end
    assert "try Replace sigmoid by tanh or GELU in train.py:13" in end


def test_a_healthy_run_ends_with_its_page_only() -> None:
    lines = [line for line in screen(make_healthy(), 100, "a/report.html") if line]
    assert lines[-1] == "  report        a/report.html"
    assert not any(line.startswith(("  next", "  try")) for line in lines)


def test_gist() -> None:
    assert gist(make_healthy().verdict) == "healthy"
    assert gist(make_vanishing().verdict) == "vanishing because of saturating-activation at /home/ada/nets/train.py:13"
    verdict = make_vanishing().verdict
    verdict.findings[0].place = None
    assert gist(verdict) == "vanishing because of saturating-activation"


def test_the_best_remedy_is_what_a_replay_proved_else_what_none_was_against() -> None:
    verdict = make_vanishing().verdict
    for outcome, text in (("win", "Replace sigmoid"), ("worse", "Or put"), ("not-tried", "Replace sigmoid")):
        verdict.findings[0].remedies[0].replayed = {"outcome": outcome}
        told = best_remedy(verdict)
        assert told is not None and told.startswith(text)
    verdict.findings[0].remedies = []
    assert best_remedy(verdict) is None
    assert "replayed: " in (best_remedy(make_replayed().verdict) or "")


def test_the_next_command() -> None:
    verdict = make_vanishing().verdict
    assert next_command(verdict, "runs/a b") == "gradientflow replay 'runs/a b'"
    assert next_command(verdict, None) is None
    assert next_command(make_healthy().verdict, FOLDER) is None
    assert next_command(make_replayed().verdict, FOLDER) == f"gradientflow explain {FOLDER}"
    verdict.findings[0].remedies = []
    assert next_command(verdict, FOLDER) == f"gradientflow explain {FOLDER}"


def test_numbers_with_a_threshold_decide() -> None:
    evidence = {"a": 1, "b": 2, "b_threshold": 3, "c": 4, "d": 5, "d_threshold": 6, "gates": {"x": 1.0}}
    finding = Finding("vanishing", "x", 0.9, None, "", evidence, [])
    for count, names, left in ((2, ["b", "d"], 2), (3, ["a", "b", "d"], 1), (9, ["a", "b", "c", "d"], 0)):
        kept, more = deciding(finding, count)
        assert ([f.name for f in kept], more) == (names, left)
    kept, _ = deciding(Finding("vanishing", "x", 0.9, None, "", {"step": 7, "a": 1, "b": 2}, []), 2)
    assert [f.name for f in kept] == ["a", "b"]


# ── in brief ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys(text: str) -> list[str]:
    return [line.split(": ", 1)[0] for line in text.splitlines()]


def longest() -> Case:
    """Everything that can be long is."""
    case = make_vanishing()
    verdict, run = case
    file = "/home/ada/" + "a-very-long-folder/" * 9 + "train.py"
    run.meta.sources[file] = "x\n" * 12 + "y = " + "f(" * 200
    numbers = {f"a number with quite a long name {k}": {"value": 1.23456e-9 * k, "threshold": 2.5e-8} for k in range(9)}
    verdict.script = "s" * 300 + ".py"
    verdict.loss = Loss(-1.23e-17, 2.34e17)
    verdict.findings = [
        Finding("not-finite", "disconnected-parameters", 0.93, Place(file, 13, "m" * 99, "o" * 99), "Word " * 400, numbers,
                [Remedy("rescale-init", "Do this " * 200)])
        for _ in range(9)
    ]  # fmt: skip
    names = ["finite", "transmission", "step", "continuity", "descent", "isolation", "terms"]
    verdict.certificates = [
        Certificate(n, ["held", "broken", "not-measured"][k % 3], "w" * 900) for k, n in enumerate(names)
    ]
    return case


@pytest.mark.parametrize("name", [*CASES, "longest", "hostile"])
def test_brief_is_at_most_300_tokens_in_a_fixed_order(name: str) -> None:
    """A token is taken as three and a third characters, of which paths and numbers come to more than words."""
    case = {**CASES, "longest": longest, "hostile": make_hostile}[name]()
    text = brief(*case, FOLDER)
    assert len(text) <= MOST == 300 * 10 / 3
    found = keys(text)
    assert found == [key for key in KEYS if key in found]
    assert "\x1b" not in text
    assert text == brief(*case, FOLDER)
    assert "next" not in keys(brief(case.verdict))


def test_what_is_long_is_cut_between_words_and_the_command_is_whole() -> None:
    text = brief(*longest(), FOLDER)
    assert "why: Word Word" in text
    assert "Word…" in text
    assert text.endswith(f"next: gradientflow replay {FOLDER}\n")
    assert "train.py:13" in text


def test_brief_tells_the_verdict() -> None:
    text = brief(*make_vanishing(), FOLDER)
    assert "verdict: vanishing because of saturating-activation (93 %)" in text
    assert "at: /home/ada/nets/train.py:13  x = torch.sigmoid(h)" in text
    assert "numbers: gain 0.25 (threshold 0.5); " in text
    assert "also: vanishing because of init-too-small at train.py:7; crawling because of step-too-small\n" in text
    proven = brief(*make_proven())
    assert "held: finite, transmission\nbroken: descent\nnot-measured: isolation\n" in proven
    assert keys(brief(*make_healthy())) == ["form", "run", "verdict", "why"]


# ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*CASES, "hostile"])
def test_explain_tells_every_finding_and_every_certificate(name: str) -> None:
    verdict, run = {**CASES, "hostile": make_hostile}[name]()
    text = explain(verdict, run)
    for k in range(1, len(verdict.findings) + 1):
        assert f"\n{k}. " in text
    for certificate in verdict.certificates:
        assert f"  {certificate.name}: " in text


def test_explain_tells_numbers_thresholds_lines_and_what_came_of_remedies() -> None:
    text = explain(*make_vanishing(), None, FOLDER)
    assert "     gain: 0.25, held against 0.5" in text
    assert "     spread: −6.79, −6.75, −6.73" in text
    assert "     >    13          x = torch.sigmoid(h)" in re.sub(r" +x = torch.sig", "          x = torch.sig", text)
    assert "[replayed: better (tanh instead of sigmoid at train.py:13)]" in text
    assert text.endswith(f"\nNext: gradientflow replay {FOLDER}\n")
    assert "Next" not in explain(*make_replayed(), None, FOLDER)  # it would be this very command


def test_explain_of_one_finding_only() -> None:
    verdict, run = make_vanishing()
    text = explain(verdict, run, 2)
    assert "2. vanishing because of init-too-small" in text
    assert "saturating-activation" not in text


@pytest.mark.parametrize(
    ("case", "number", "told"),
    [(make_vanishing, 4, "findings 1 to 3"), (make_vanishing, 0, "findings 1 to 3"), (make_proven, 2, "finding 1 only"),
     (make_healthy, 1, "no finding")],
)  # fmt: skip
def test_explain_of_a_finding_that_is_not_there(case: type[Case], number: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        explain(*case(), number)  # type: ignore[call-arg]


# ── what was proven ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_certificates_on_the_terminal_and_on_the_page() -> None:
    case = make_proven()
    text = "\n".join(screen(case, 100, "a/report.html"))
    assert "what was proven   2 of 4 certificates held" in text
    assert "✓ finite" in text and "✗ descent" in text and "? isolation" in text
    assert "not measured: no probed step was looked at" in text
    assert held(*case).view.verdict.certificates == case.verdict.certificates
    for bare in (make_healthy(),):
        assert "what was proven" not in "\n".join(screen(bare, 100, "a"))
        assert held(*bare).view.verdict.certificates == []


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_way_to_the_step_on_the_terminal(width: int) -> None:
    lines = screen(make_proven(), width, "a/report.html")
    text = "\n".join(lines)
    assert "AdamW, group 0" in text and "AdamW, group 1" in text
    assert text.count("its rule is not known: one box") == 1
    (row, _) = [line for line in lines if line.startswith("    between")]
    (head, *_) = [line for line in lines if "step 300" in line]
    assert "step 1 " in head  # first and last, however narrow
    assert row.count("×0.25") == head.count("step ")


def test_the_way_to_the_step_on_the_page() -> None:
    one, other = held(*make_proven()).view.stages
    assert (one.boxed, other.boxed) == (False, True)
    rates = [cells for stages in (one, other) for name, cells, _ in stages.rows if name == "learning rate"]
    assert len(rates) == 2 and sum(cells.count("×0.001") for cells in rates) == 10
    assert held(*make_healthy()).view.stages == []


def test_rows_of_the_table() -> None:
    one, other = tables(make_proven().verdict)
    assert one.steps == ["step 1", "step 5", "step 20", "step 100", "step 300"]
    assert [name for name, _, _ in one.rows] == [
        "‖gradient‖", "between", "preconditioner", "learning rate", "rounding", "‖update‖", "lost to rounding",
    ]  # fmt: skip
    assert [name for name, _, _ in other.rows][-2:] == ["eps rules", "lost to rounding"]
    assert (one.boxed, other.boxed) == (False, True)
    assert spread([], 5) == []


def test_a_verdict_without_a_run_is_told_too() -> None:
    verdict: Verdict = make_vanishing().verdict
    run: Run | None = None
    assert "saturating-activation" in explain(verdict, run)
    assert "at: /home/ada/nets/train.py:13\n" in brief(verdict, run)


def test_what_was_not_measured_is_said_once() -> None:
    verdict, run = make_healthy()
    run.probes[0].notes = [
        "sharpness not measured: the gradient is zero",
        "a loop was not measured: no",
        "one plain note",
    ]
    told = [text for kind, text in tell.notes(verdict, run) if kind == "not measured"]
    assert told == ["sharpness: the gradient is zero", "a loop: no", "one plain note"]


def test_in_brief_each_of_several_optimizers_has_its_loss() -> None:
    text = brief(*make_several())
    assert "run: gan.py, 60 steps, losses Adam of D 1.2 -> 1.08; Adam of G 0.641 -> 0.699\n" in text
    assert len(text) <= MOST
    many = make_several()
    many.verdict.optimizers *= 100
    assert len(brief(*many)) <= MOST
