"""Planes of many parameters as the app has them: places as text, slices coarse to fine, drops seen as shadows, a plane that rides."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from gradientflow import river
from gradientflow.app import water
from gradientflow.app.drops import MANY, drops, whole
from gradientflow.app.fields import Fields
from gradientflow.app.planes import DEEP, Planes, foot_in
from gradientflow.app.turns import Turns
from gradientflow.app.wire import frames
from gradientflow.app.work import Token
from gradientflow.cli.target import Target
from gradientflow.errors import GradientflowError, UsageError
from gradientflow.records import Answer, DropAsk, LineAsk, PlaneAsk, PlaneSeen, Rival, Water, WaterAsk

NET, BOWL = "net.py:make", "linear-net"  # the second stands for another field, under a name that a page may open
T = 4.0


def net() -> river.Field:
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    return river.LossField(model, torch.nn.functional.cross_entropy, (x, (x[:, 0] * x[:, 1] > 0).long()))


def bowl() -> river.Field:
    """A rotated quadratic, whose start lies in the plane of its two largest eigenvalues: the flow stays in it."""
    torch.manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    hessian = q @ torch.diag(torch.arange(1.0, 21, dtype=torch.float64)) @ q.T
    return river.Potential(lambda w: 0.5 * w @ hessian @ w, start=q[:, 18] + 0.5 * q[:, 19], name="bowl")


@pytest.fixture(scope="module")
def fields() -> Fields:
    made = {NET: Target(net(), time=T), BOWL: Target(bowl(), time=0.2), "w1w2": Target(river.zoo.named("w1w2").field)}
    return Fields(NET, made.__getitem__)


@pytest.fixture(scope="module")
def planes(fields: Fields) -> Planes:
    found = fields.planes(NET)
    assert found is not None
    return found


def read(parts: Any, kind: Any) -> list[Any]:
    return [(msgspec.json.decode(head, type=kind), floats) for part in parts for head, floats in frames(part)]


def seen(fields: Fields, text: str, *feet: str, target: str = NET) -> PlaneSeen:
    return read(water.planes(fields, PlaneAsk(target, text, "lane", list(feet)), Token()), PlaneSeen)[0][0]  # type: ignore[no-any-return]


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_opens_a_field_of_many_parameters_with_its_kinds_of_planes(fields: Fields) -> None:
    told = fields.opened(NET)
    assert told.size == 44 and told.planes == ["pca", "sharpest", "gradient", "random", "points"] and 0 < told.lr < 10
    assert fields.opened("w1w2").planes == [] and fields.opened("w1w2").size == 2


@pytest.mark.parametrize("kind", ["pca", "sharpest", "gradient", "random", "random-7"])
def test_a_plane_is_the_one_that_the_river_makes(fields: Fields, planes: Planes, kind: str) -> None:
    told = seen(fields, f"{kind}~4", "own")
    path = planes.path("own", T)
    own = river.plane(path, kind.split("-")[0], seed=7 if "7" in kind else 0)
    assert torch.allclose(planes.plane(f"{kind}~4").axes, own.axes) and told.plane.kind == kind.split("-")[0]
    start = planes.field.start()
    assert start is not None
    assert told.feet[0] == pytest.approx([float(c) for c in own.project(start)], abs=1e-6)
    x, y, off = own.project(planes.foot(f"{kind}~4@0.25,-0.5"))
    assert (float(x), float(y), float(off)) == pytest.approx((0.25, -0.5, 0.0), abs=1e-5)


def test_a_plane_through_the_ends_of_three_drops_and_a_plane_of_a_drops_own_flow(
    fields: Fields, planes: Planes
) -> None:
    feet = ["own", "pca~4@0.5,0.5", "random~4@1,-1"]
    told = seen(fields, f"points~4({';'.join(feet)})", *feet)
    assert set(told.plane.marks) == {"1st point", "2nd point", "3rd point"}
    ends = [planes.path(foot, T).final for foot in feet]
    _, _, off = planes.plane(told.text).project(torch.stack(ends))
    assert float(off.max()) < 1e-5
    other = planes.plane("pca~4(random~4@1,-1)")
    assert not torch.allclose(other.axes, planes.plane("pca~4").axes, atol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "", "pca", "pca~", "pca~0", "pca~-1", "pca~nan", "pca~1e9", "pca~1.2.3", "valley~4", "own", "pca~4@1,2", "pca~4)", "pca~4(", "pca~4(own",
        "pca~4(own;own)", "points~4(own)", "points~4(own;own)", "pca-1234567~4", "__import__('os')", "pca~4(../../etc)", "x" * 500,
        "pca~4(" * (DEEP + 2) + "own" + "@0,0)" * (DEEP + 2),
    ],
)  # fmt: skip
def test_what_is_no_plane_is_refused(planes: Planes, text: str) -> None:
    with pytest.raises(UsageError):
        planes.plane(text)


@pytest.mark.parametrize("text", ["", "owner", "pca~4", "pca~4@1", "pca~4@1,nan", "pca~4@1e9,1e9", "own@1,2"])
def test_what_is_no_place_is_refused(planes: Planes, text: str) -> None:
    with pytest.raises(UsageError):
        planes.foot(text)


def test_a_field_of_two_parameters_has_no_planes_and_one_of_one_is_not_drawn(fields: Fields) -> None:
    with pytest.raises(UsageError, match="drawn whole"):
        seen(fields, "pca~4", target="w1w2")
    with pytest.raises(UsageError, match="one parameter"):
        Fields("one", lambda _: Target(river.zoo.named("exp-one").field)).get("one")


# ── slices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_leaks_in_an_eigenplane_and_much_in_a_random_plane(fields: Fields) -> None:
    leaks = {}
    for text in ("pca~0.2", "sharpest~0.2", "random~0.2"):
        box = seen(fields, text, target=BOWL).box
        parts = read(water.slices(fields, WaterAsk(BOWL, box, 17, plane=text), Token()), Water)
        assert [head.n for head, _ in parts] == [9, 17] and all(head.leaks for head, _ in parts)
        coarse, fine = (floats.reshape(4, head.n, head.n) for head, floats in parts)
        assert np.array_equal(coarse, fine[:, ::2, ::2])  # what was shown first stays
        leaks[text] = float(np.nanmax(fine[3])) if "random" not in text else float(np.nanmin(fine[3]))
    assert leaks["pca~0.2"] < 1e-6 and leaks["sharpest~0.2"] < 1e-6 and leaks["random~0.2"] > 0.1


def test_a_slice_that_nobody_waits_for_ends(fields: Fields) -> None:
    token = Token()
    got = 0
    for _ in water.slices(fields, WaterAsk(NET, (-1, 1, -1, 1), 129, plane="pca~4"), token):
        got += 1
        token.cancel()
    assert got <= 2  # the batch that was being made may still come
    assert len(list(water.slices(fields, WaterAsk(NET, (-1, 1, -1, 1), 65, plane="pca~4"), Token()))) == 4


@pytest.mark.parametrize(
    "wrong", [{"n": 130}, {"n": 2}, {"box": (1, 1, 0, 1)}, {"plane": "pca~x"}, {"ride": "nowhere"}]
)
def test_slices_are_bounded(fields: Fields, wrong: dict[str, Any]) -> None:
    ask = msgspec.structs.replace(WaterAsk(NET, (-1, 1, -1, 1), 9, plane="pca~4"), **wrong)
    with pytest.raises(GradientflowError):
        list(water.slices(fields, ask, Token()))
    with pytest.raises(UsageError, match="at most 16"):
        seen(fields, "pca~4", *["own"] * 17)


# ── drops ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_drop_in_a_plane_is_solved_in_all_dimensions_and_seen_as_a_shadow(fields: Fields, planes: Planes) -> None:
    ask = DropAsk(NET, (0.4, 0.3), T, "lane", [Rival("gd", 0.2), Rival("adam", 0.02)], plane="pca~4")
    first = read(drops(fields, ask, Token()), Answer)
    rest = read(whole(fields, ask, Token()), Answer)
    told = {a.part: a for a, _ in (*first, *rest) if a.track}
    plane = planes.plane("pca~4")
    path = river.flow(planes.field, T, start=plane.lift(0.4, 0.3), rtol=1e-5, atol=1e-7, certify=False)
    x, y, off = (float(c) for c in plane.project(path.final))
    flow = told["flow"].shadow
    assert flow.points[0] == pytest.approx((0.4, 0.3), abs=1e-5) and flow.off[0] == pytest.approx(0, abs=1e-5)
    assert (*flow.points[-1], flow.off[-1]) == pytest.approx((x, y, off), rel=2e-2, abs=1e-3) and off > 0.01
    assert (
        told["flow"].exact
        and all(c.ok for c in told["flow"].track.checks)
        and sum(x is not None for x in told["flow"].track.sharpness) >= 12
    )
    assert told["gd"].track.threshold == pytest.approx(10.0) and told["gd"].shadow.times[-1] == pytest.approx(T)
    assert told["adam"].shadow.label.startswith("Adam") and rest[-1][0].part == "apart"
    assert all(a < b for a, b in itertools.pairwise(flow.times))


def test_a_slow_network_is_answered_at_once_then_further_then_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = river.Potential(
        lambda w: time.sleep(0.004) or 0.5 * (torch.tensor([1.0, 3.0, 9.0, 20.0]) * w * w).sum(), start=[1.0, 1.0, 1.0, 1.0]
    )  # fmt: skip
    fields = Fields("slow", lambda _: Target(slow, time=T))
    monkeypatch.setattr("gradientflow.app.planes.SOLVING", 100.0)
    assert seen(fields, "random~4", target="slow").plane.size == 4
    ask = DropAsk("slow", (0.4, 0.3), T, "lane", plane="random~4")
    (first,) = (a.track for a, _ in read(drops(fields, ask, Token()), Answer))
    monkeypatch.setattr("gradientflow.app.drops.SECOND", 100.0)
    second, *_, last = (a for a, _ in read(whole(fields, ask, Token()), Answer))
    assert first.ending.reason == "budget" and first.spent.seconds < 20 * MANY
    assert second.track.times[-1] > first.times[-1] and not second.exact and last.exact
    assert last.track.spent.seconds > 3 * MANY  # what one would have waited for


def test_a_drop_that_begins_elsewhere_keeps_its_place_in_another_plane(fields: Fields, planes: Planes) -> None:
    foot = foot_in("random~4", (0.5, 0.5))
    ask = DropAsk(NET, (0.0, 0.0), T, "lane", plane="pca~4", foot=foot, level="drag")
    shadow = read(drops(fields, ask, Token()), Answer)[0][0].shadow
    x, y, off = (float(c) for c in planes.plane("pca~4").project(planes.foot(foot)))
    assert (*shadow.points[0], shadow.off[0]) == pytest.approx((x, y, off), rel=1e-4) and off > 0.1


@pytest.mark.parametrize(
    "wrong", [{"plane": ""}, {"plane": "pca"}, {"foot": "nowhere"}, {"t": -1.0}, {"start": (float("nan"), 0)}]
)
def test_drops_on_a_plane_are_refused_in_words(fields: Fields, wrong: dict[str, Any]) -> None:
    ask = msgspec.structs.replace(DropAsk(NET, (0.4, 0.3), T, "lane", plane="pca~4"), **wrong)
    with pytest.raises(UsageError):
        next(iter(drops(fields, ask, Token())))
    from gradientflow.app.drops import line

    with pytest.raises(UsageError, match="one by one"):
        next(iter(line(fields, LineAsk(NET, [(0.0, 1.0)] * 4, 1.0, "lane"), Token())))


def test_the_plane_rides_with_a_drop(fields: Fields, planes: Planes) -> None:
    list(whole(fields, DropAsk(NET, (0.4, 0.3), T, "lane", plane="pca~4"), Token()))
    foot = foot_in("pca~4", (0.4, 0.3))
    for at in (0.5, 3.0):
        ask = WaterAsk(NET, (-2, 2, -2, 2), 9, plane="pca~4", ride=foot, at=at, t=T)
        head, floats = read(water.slices(fields, ask, Token()), Water)[-1]
        k = min(range(len(head.shadow.times)), key=lambda k: abs(head.shadow.times[k] - at))
        assert (
            head.shadow.off[k] < 0.05 and max(head.shadow.off) > 0.05
        )  # in the plane where the drop is, and not elsewhere
        still = read(water.slices(fields, msgspec.structs.replace(ask, ride=""), Token()), Water)[-1][1]
        assert not np.allclose(floats, still, rtol=1e-2)
    assert planes.kept(foot) is not None


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_is_in_a_hurry_goes_first_and_nobody_is_by_twice() -> None:
    turns, order = Turns(), []
    begun = threading.Event()

    def slow() -> None:
        with turns.mine():
            begun.set()
            while len(turns._queue) < 2:
                threading.Event().wait(0.005)
            turns.let_by()
            order.append("slow")

    def other(name: str, urgent: bool) -> None:
        begun.wait()
        with turns.mine(urgent=urgent):
            turns.let_by()  # one in a hurry lets nobody by
            order.append(name)

    threads = [threading.Thread(target=slow), threading.Thread(target=other, args=("patient", False))]
    for one in threads:
        one.start()
    while len(turns._queue) < 1:
        threading.Event().wait(0.005)
    threads.append(threading.Thread(target=other, args=("urgent", True)))
    threads[-1].start()
    for one in threads:
        one.join(10)
    assert order[0] == "urgent" and sorted(order) == ["patient", "slow", "urgent"]
    assert turns._holder is None and not turns._queue


def test_two_threads_on_one_network_do_not_spoil_each_others_answers(fields: Fields) -> None:
    """A module's parameters are put into it while it runs: without turns one thread computes with the other's."""
    ask = WaterAsk(NET, (-1, 1, -1, 1), 33, plane="pca~4")
    alone = read(water.slices(fields, ask, Token()), Water)[-1][1]
    faults: list[BaseException] = []
    end = threading.Event()

    def others() -> None:
        try:
            while not end.is_set():
                list(water.slices(fields, WaterAsk(NET, (-1, 1, -1, 1), 17, plane="random~4"), Token()))
        except BaseException as problem:
            faults.append(problem)

    thread = threading.Thread(target=others)
    thread.start()
    together = [read(water.slices(fields, ask, Token()), Water)[-1][1] for _ in range(3)]
    end.set()
    thread.join(30)
    assert not faults and all(np.allclose(alone, floats, rtol=1e-4, atol=1e-6, equal_nan=True) for floats in together)
