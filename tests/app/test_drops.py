"""What a drop's answer is made of: a first one at once, then one that is certified; ended when nobody waits."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest

from gradientflow import river
from gradientflow.app.drops import DRAG, drops, line, whole
from gradientflow.app.fields import Fields
from gradientflow.app.tales import TALES
from gradientflow.app.water import orders, waters
from gradientflow.app.wire import frames
from gradientflow.app.work import Token
from gradientflow.cli.target import load
from gradientflow.errors import UsageError
from gradientflow.records import Answer, DropAsk, LineAsk, Order, Rival, Water, WaterAsk

ASK = DropAsk("w1w2", (1.9, -1.2), 20.0, "lane", [Rival("gd", 0.45), Rival("momentum", 0.02), Rival("adam", 0.15)])


@pytest.fixture(scope="module")
def fields() -> Fields:
    return Fields("w1w2", lambda target: load(target, None))


def answers(parts: object) -> list[Answer]:
    return [msgspec.json.decode(head, type=Answer) for part in parts for head, _ in frames(part)]  # type: ignore[attr-defined]


def test_a_settled_drop_is_answered_coarsely_and_then_whole(fields: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST", "WHOLE"):  # seconds: a busy machine shall not cut it short
        monkeypatch.setattr(f"gradientflow.app.drops.{name}", 200.0)
    told = [*answers(drops(fields, ASK, Token())), *answers(whole(fields, ASK, Token()))]
    assert len(told) == 12  # four at once, four whole, three with what comparing found, and the comparison
    assert [a.part for a in told[:4]] == ["flow", "gd", "momentum", "adam"] and not any(a.exact for a in told[:4])
    first, solved = (next(a.track for a in told if a.part == "flow" and a.exact is exact) for exact in (False, True))
    assert first is not None and solved is not None
    assert not first.checks and all(c.ok for c in solved.checks) and len(solved.checks) >= 4
    assert solved.final == pytest.approx([1.60, 0.62], abs=0.01)
    assert len(solved.clock) == len(solved.points) and solved.clock[-1] == 20.0
    assert all(a < b for a, b in itertools.pairwise(solved.clock))
    ends = {a.part: a.track.final for a in told if a.track and a.exact}
    assert ends["gd"] == pytest.approx([0.62, 1.61], abs=0.01) and ends["adam"] == pytest.approx([0.71, 1.41], abs=0.01)
    assert {a.part: a.track.threshold for a in told if a.track}["gd"] == pytest.approx(2 / 0.45)
    assert [x.label.split()[0] for x in told[-1].apart] == ["SGD", "SGD", "Adam"]
    assert "2/η" in told[-1].apart[0].why


def test_a_dragged_drop_is_answered_within_its_time_and_the_optimizers_take_turns(fields: Fields) -> None:
    seen = set()
    for turn in range(3):
        ask = msgspec.structs.replace(ASK, level="drag", turn=turn)
        began = time.perf_counter()
        flow, rival = answers(drops(fields, ask, Token()))
        assert time.perf_counter() - began < 20 * DRAG  # a busy machine is given room: whole answers take seconds
        assert flow.part == "flow" and not flow.exact and flow.track is not None and len(flow.track.points) > 2
        seen.add(rival.part)
    assert seen == {"gd", "momentum", "adam"}
    alone = answers(drops(fields, msgspec.structs.replace(ASK, level="drag", flow=False), Token()))
    assert [a.part for a in alone] == ["gd"]


def test_a_coarse_answer_does_not_stop_at_a_saddle(fields: Fields) -> None:
    ask = DropAsk("saddle", (1.0, 1e-6), 12.0, "lane")
    first = answers(drops(fields, ask, Token()))[0].track
    assert first is not None and abs(first.final[1]) > 1e-3


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_drop_that_nobody_waits_for_ends(fields: Fields, after: int) -> None:
    token = Token()
    got = 0
    for _ in itertools.chain(drops(fields, ASK, token), whole(fields, ASK, token)):
        got += 1
        if got > after:
            token.cancel()
    assert got <= after + 2  # the part that was being made may still come


def test_a_flow_that_is_being_solved_ends_when_its_token_does(fields: Fields) -> None:
    token = Token()
    token.cancel()
    track = answers(drops(fields, ASK, token))[0].track
    assert track is not None and track.ending.reason == "cancelled" and len(track.times) <= 3


def test_where_it_came_from(fields: Fields) -> None:
    ask = DropAsk("double-well", (0.5, 0.5), 2.0, "lane", back=True)
    back = next(a.track for a in answers(drops(fields, ask, Token())) if a.part == "back")
    assert back is not None
    x, y = back.points[-1]
    assert 0 < x < 0.5 and y > 0.5  # backwards: towards the ridge at x = 0, and up
    forth = river.flow(river.zoo.named("double-well").field, back.clock[-1], start=[x, y], rtol=1e-8, certify=False)
    assert forth.final.tolist() == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_line_of_drops(fields: Fields) -> None:
    starts = [(-2 + 0.5 * k, -1.0) for k in range(9)]
    told = answers(line(fields, LineAsk("double-well", starts, 10.0, "lane"), Token()))[0].drops
    assert told is not None and len(told.trails) == 9
    assert {round(x) for x, _ in told.final} == {-1, 0, 1}  # x = 0 parts the basins


@pytest.mark.parametrize(
    "wrong",
    [
        {"t": 0.0}, {"t": float("nan")}, {"t": 1e9}, {"start": (float("inf"), 0.0)}, {"start": (1e12, 0.0)},
        {"rivals": [Rival("gd", -1.0)]}, {"rivals": [Rival("gd", 0.1)] * 4}, {"target": "exp-one"}, {"target": "mine.py:make"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_solved(fields: Fields, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        next(iter(drops(fields, msgspec.structs.replace(ASK, **wrong), Token())))


def test_too_many_drops_or_samples_are_refused(fields: Fields) -> None:
    with pytest.raises(UsageError, match="1 to 48"):
        next(iter(line(fields, LineAsk("w1w2", [(0.0, 1.0)] * 49, 1.0, "lane"), Token())))
    with pytest.raises(UsageError, match="8 to 512"):
        next(iter(waters(fields, WaterAsk("w1w2", (-1, 1, -1, 1), 513), Token())))


def test_water_is_sampled_and_then_ordered(fields: Fields) -> None:
    ask = WaterAsk("w1w2", (-3, 3, -2, 2), 32)
    samples, order = (next(frames(next(tell(fields, ask, Token())))) for tell in (waters, orders))
    assert msgspec.json.decode(samples[0], type=Water).n == 32 and len(samples[1]) == 3 * 32**2
    found = msgspec.json.decode(order[0], type=Order)
    assert [p.kind for p in found.fixed] == ["saddle"] and len(found.valleys) == 2 and len(found.separatrices) == 2


def test_each_story_is_of_a_field_that_a_page_may_open(fields: Fields) -> None:
    for tale in TALES:
        assert fields.get(tale.target).field.size == 2
    assert len({t.key for t in TALES}) == 4
