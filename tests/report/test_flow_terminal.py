"""A flow on the terminal: what is told, at which widths, and that a broken certificate cannot be overlooked."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from gradientflow.records import Check, Flow, Status
from gradientflow.report import print_flow
from tests.report.flow_builders import W1W2, many, network, story, w1w2

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def three() -> Flow:
    """Three drops with an optimizer each."""
    stories = [story(W1W2, s, 8.0, [(0.1, False)], k + 1) for k, s in enumerate([(1.9, -1.2), (-1.5, 1.0), (2.0, 1.4)])]
    return Flow("w1w2", "w1w2", 2, "float64", True, 8.0, "", stories)


CASES: dict[str, Callable[[], Flow]] = {
    "w1w2": lambda: w1w2()[0],
    "many": lambda: many(24)[0],
    "network": network,
    "three": three,
}


@pytest.fixture(params=list(CASES))
def flow(request: pytest.FixtureRequest) -> Flow:
    return CASES[request.param]()


def plain(flow: Flow, **more: list[tuple[str, str]]) -> str:
    out = io.StringIO()
    print_flow(flow, Console(file=out, width=37), **more)  # type: ignore[arg-type]
    return out.getvalue()


def colour(flow: Flow, width: int) -> str:
    out = io.StringIO()
    print_flow(
        flow, Console(file=out, force_terminal=True, color_system="truecolor", width=width, legacy_windows=False)
    )
    return out.getvalue()


def test_plain_text_has_no_escapes_and_keeps_to_100_columns(flow: Flow) -> None:
    text = plain(flow)
    assert "\x1b" not in text
    assert max(cell_len(line) for line in text.split("\n")) <= 100
    assert all(line == line.rstrip() for line in text.split("\n"))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_colour_keeps_to_the_width(flow: Flow, width: int) -> None:
    text = colour(flow, width)
    assert "\x1b[" in text
    assert max(cell_len(ANSI.sub("", line)) for line in text.split("\n")) <= min(width, 120)
    assert "…" not in ANSI.sub("", text)  # nothing had to be cut


def test_printing_changes_nothing(flow: Flow) -> None:
    before = copy.deepcopy(flow)
    plain(flow)
    assert flow == before


def test_the_table_has_every_path_with_its_end(flow: Flow) -> None:
    text = plain(flow)
    for s in flow.stories:
        for track in (s.flow, *s.descents):
            (row, *_) = [line for line in text.split("\n") if track.label in line]
            assert row.split()
    for name in ("steps", "gradients", "loss", "‖∇L‖") if flow.stories else ("came to rest at", "drops", "share"):
        assert name in text


def test_first_minute_story_is_told_with_its_numbers() -> None:
    text = plain(w1w2()[0], files=[("saved", "path.npz")])
    assert text.startswith("✓ reached")
    for part in (
        "(1.60, 0.62)",
        "(0.62, 1.61)",
        "(0.71, 1.41)",
        "w₁²−w₂² = 2.17",
        "SGD lr=0.45 −2.22",
        "Adam lr=0.15 −1.47",
    ):
        assert part in " ".join(text.split())
    assert "✓ monotone" in text
    assert re.search(r"saved +path\.npz", text)


def test_a_broken_certificate_is_the_first_thing_said_and_red() -> None:
    flow = network()
    assert "BROKEN" not in plain(flow)  # negative control
    flow.stories[0].flow.checks[1] = Check("energy", False, 0.4, 0.01, "the two sides differ by 0.4, allowed 0.01")
    text = plain(flow)
    assert text.split("\n")[0] == "✗ BROKEN: energy"
    assert "--rtol 1e-4" in text
    assert re.search(r"✗ energy +BROKEN: the two sides differ by 0\.4, allowed 0\.01", text)
    lines = text.split("\n")
    assert (
        next(line for line in lines if "energy  " in line) == lines[lines.index("  certificates") + 1]
    )  # before the others
    assert "\x1b[1;38;2;255;255;255;48;2;179;38;30m" in colour(flow, 100)


def test_a_broken_certificate_of_one_drop_among_many_is_told_with_its_drop() -> None:
    flow = three()
    assert "hold for every drop" in plain(flow)
    flow.stories[2].flow.checks = [Check("monotone", False, 1.0, 0.0, "the loss rose by 1")]
    text = plain(flow)
    assert "BROKEN: drop 3: the loss rose by 1" in text
    assert "BROKEN" in text.split("\n")[0]


@pytest.mark.parametrize("reason", ["budget", "cancelled", "blow-up", "not-lipschitz", "not-finite", "stuck"])
def test_every_ending_has_a_mark_its_text_and_its_remedy(reason: str) -> None:
    flow = network()
    flow.stories[0].flow.ending = Status(reason, "ended at t = 37.", "Do this to mend it.")
    text = plain(flow)
    assert re.match(rf"[◔▲✕] {reason} ", text)
    assert "ended at t = 37." in text
    assert "Do this to mend it." in text


def test_a_descent_that_did_not_arrive_is_told_beside_the_flow() -> None:
    flow = w1w2()[0]
    flow.stories[0].descents[0].ending = Status("not-finite", "the loss is nan at t = 3.", "Lower the learning rate.")
    text = plain(flow)
    assert "✓ reached" in text
    assert "✕ not-finite" in text
    assert "SGD lr=0.45: the loss is nan at t = 3." in text


def test_leaving_and_staying_are_told_with_the_reason() -> None:
    text = " ".join(plain(network()).split())
    assert (
        "↗ SGD lr=0.1: It leaves the flow at t = 37: the flow's sharpness crosses 2/η = 20 between t = 34 and 36."
        in text
    )
    assert "✓ SGD lr=0.04: It stays with the flow" in text


def test_drops_that_still_move_and_that_ended_early_are_counted() -> None:
    flow = many(24)[0]
    assert flow.drops is not None
    assert "still moved" not in plain(flow)
    flow.drops.basin[:3] = [-1, -1, -1]
    flow.drops.reasons = {"reached": 22, "blow-up": 2}
    text = plain(flow)
    assert "3 drops still moved at the end" in text
    assert "ended early: 2 blow-up" in text


def test_numbers_that_are_missing_do_not_break_it() -> None:
    flow = network()
    for s in flow.stories:
        for track in (s.flow, *s.descents):
            track.loss = None
            track.grad_norm = [None] * len(track.times)
            track.sharpness = []
        s.apart = []
    text = plain(flow)
    assert "sharpness" not in text
    assert "distance" not in text


def test_names_cannot_steer_the_terminal() -> None:
    flow = w1w2()[0]
    flow.field = "evil \x1b[2J\u202e name"
    flow.stories[0].flow.notes = ["\x1b[31mred"]
    assert "\x1b" not in plain(flow)
    assert "\x1b" not in ANSI.sub("", colour(flow, 100))


def test_an_ascii_stream_gets_ascii() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", write_through=True) as stream:
        print_flow(w1w2()[0], Console(file=stream))
        text = raw.getvalue().decode("ascii")
    assert "reached" in text
    assert "L = 1/2 (w1w2 - 1)^2" in text
