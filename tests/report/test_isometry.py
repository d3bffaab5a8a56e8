"""The Jacobian view on the terminal and on the page, from records built by hand."""

from __future__ import annotations

import io
import math

import msgspec
import pytest
from rich.console import Console

from gradientflow.records import Budget, Isometry, Loss, Op, Probe, Run, Stretch, ValueStat, Verdict, Watch
from gradientflow.report import isometry, print_verdict
from tests.report.builders import meta
from tests.report.pages import held, rendered, unpacked


def stretch(mean: float, top: float | None = None, bottom: float | None = None, **more: object) -> Stretch:
    found = Stretch(0, 1, 8, 8, mean, 0.01, variance=0.1, top=top, bottom=bottom, samples=4)
    return msgspec.structs.replace(found, **more)


def ops(n: int) -> list[Op]:
    value = ValueStat([4, 8], "float32", 0.0, 1.0, -1.0, 1.0, 0.0, 0, 0)
    return [
        Op(k, "linear", "linear", "net.py", 10 + k, "forward", f"layers.{k}", "Linear", [], value) for k in range(n)
    ]


def run_of(*views: Isometry, layers: int = 4) -> Run:
    probes = [Probe(1 + 50 * k, 0.1, "first", 1.0, None, ops(layers), [], isometry=v) for k, v in enumerate(views)]
    return Run(meta("net.py", "", 2), [], [], probes)


def verdict() -> Verdict:
    return Verdict(
        "net.py", 60, Loss(1.0, 0.5), "healthy", [], Budget(), Watch(2, 0.01, []), summary="Nothing wrong was seen."
    )


VIEW = Isometry(
    [
        stretch(0.1, 0.4, 1e-9, spectrum=[1e-9, 0.01, 0.4]),
        stretch(3.0, 9.0, 0.5, source=1, target=2),
        stretch(1.0, 1.0, 1.0, source=2, target=3),
    ],
    stretch(1e-7, 1e-6, None, source=0, target=3, probes=16, bound=0.004),
)


@pytest.mark.parametrize(
    ("found", "word", "mark"),
    [
        (stretch(0.5, 1.0, 0.1), "shrinks", "▼"),
        (stretch(0.79), "shrinks", "▼"),
        (stretch(2.0, 4.0, 1.0), "grows", "▲"),
        (stretch(1.0, 4.0, 0.0), "uneven", "↕"),
        (stretch(1.0, 1.1, 0.3), "uneven", "↕"),
        (stretch(1.0, 1.1, 0.9), "isometric", "✓"),
        (stretch(1.0), "kept on average", "·"),
        (stretch(0.0, 0.0, 0.0), "cut", "○"),
        (stretch(math.nan), "not finite", "✕"),
    ],
)
def test_each_stretch_has_a_word_and_a_mark(found: Stretch, word: str, mark: str) -> None:
    assert isometry.judged(found)[:2] == (word, mark)


def terminal(run: Run, width: int = 100) -> str:
    out = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_verdict(verdict(), run, out)
    return out.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_terminal_tells_every_stretch_and_the_whole() -> None:
    text = terminal(run_of(VIEW))
    assert "singular values of the Jacobians" in text
    lines = [line for line in text.splitlines() if "→ layers" in line or "end to end" in line]
    assert [line.split()[-1] for line in lines[:4]] == ["shrinks", "grows", "isometric", "shrinks"]
    assert all(mark in line for mark, line in zip("▼▲✓▼", lines, strict=False))
    assert "net.py:11" in lines[0]
    assert "1e−7" in lines[3]
    assert "<" in lines[3]  # off the scale of the stretches
    assert "−7.0 decades from 1" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_scale_shows_where_one_is_and_the_mean_is_a_dot() -> None:
    every = isometry.rows(run_of(VIEW).probes[0])
    scale = isometry.axis(every)
    assert (scale.low, scale.high) == (-2.0, 1.0)
    tracks = [isometry._track(r.stretch, scale, 31) for r in every]
    assert [t.index("•") for t in tracks[:2]] == [10, 25]
    assert tracks[0].index("│") == 20
    assert tracks[2].index("•") == 20  # a mean of one stands on the line
    assert tracks[3].startswith("<")


def test_without_the_view_nothing_is_told() -> None:
    bare = Run(meta("net.py", "", 2), [], [], [Probe(1, 0.1, "first", 1.0, None, ops(2), [])])
    assert "singular values" not in terminal(bare)
    assert held(verdict(), bare).view.jacobians == []


def test_the_page_has_a_table_for_the_first_and_the_last_probe() -> None:
    later = Isometry([stretch(1.0, 1.2, 0.8)], stretch(0.9, 1.2, 0.8))
    first, last = held(verdict(), run_of(VIEW, later, later)).view.jacobians
    assert (first.step, last.step) == (1, 101)
    told = [(row.mark, row.word) for row in [*first.rows, *last.rows]]
    for word in (("▼", "shrinks"), ("▲", "grows"), ("✓", "isometric")):
        assert word in told
    off = [row for row in [*first.rows, *last.rows] if row.off]
    assert [(row.whole, row.name) for row in off] == [(True, "end to end")]
    for row in [*first.rows, *last.rows]:
        assert 0 <= row.low <= row.high <= 1 and (row.mean is None or row.off or row.low <= row.mean <= row.high)
    assert first.one == {d: at for at, d in first.ticks}.get(0, first.one)


def test_sums_are_called_by_their_operation_and_numbered() -> None:
    run = run_of(VIEW)
    for k in (1, 2):
        run.probes[0].ops[k] = msgspec.structs.replace(
            run.probes[0].ops[k], name="add", kind="elementwise", module="Net", module_class="Net"
        )
    assert [r.name for r in isometry.rows(run.probes[0])] == [
        "layers.0 → add 1",
        "add 1 → add 2",
        "add 2 → layers.3",
        "end to end",
    ]


def test_names_cannot_steer_the_page() -> None:
    run = run_of(VIEW)
    run.probes[0].ops[1].module = "<script>alert(1)</script>\u202e"
    text = rendered(verdict(), run)
    assert "<script>alert(1)" not in text
    (told, _) = [r.name for r in unpacked(text).view.jacobians[0].rows if "alert(1)" in r.name]
    assert "<script>alert(1)</script>" in told and "\u202e" not in told
