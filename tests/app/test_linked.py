"""Both rivers of a small network: the layers' shares of dθ/dt, and the way back at a time of its flow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch

from gradientflow import depth
from gradientflow.app.linked import LARGEST, Paths
from gradientflow.app.runs import Runs
from gradientflow.app.wire import frames
from gradientflow.app.work import Token
from gradientflow.errors import FieldError, UsageError
from gradientflow.records import FlowAsk, Knobs, KnobsAsk, KnobsSeen, Linked, LinkedAt
from gradientflow.river.fields import chance
from tests.app.run_records import Served, served
from tests.app.test_guard import Client
from tests.app.test_runs_browser import look, until  # noqa: F401
from tests.app.test_server import INSIDE, app

SMALL = Knobs(depth=4, width=12, activation="tanh", init="xavier", lr=0.1)


@pytest.fixture(scope="module")
def client() -> Client:
    return Client(app())


@pytest.fixture(scope="module")
def solved(client: Client) -> Linked:
    status, _, body = client.ask("POST", "/api/knobs/flow", INSIDE, msgspec.json.encode(FlowAsk(SMALL, "lane")))
    assert status == 200, body
    return msgspec.json.decode(next(iter(frames(body)))[0], type=Linked)


def at(client: Client, index: int) -> LinkedAt:
    status, _, body = client.ask(path="/api/knobs/at", headers=INSIDE, query=f"lane=lane&index={index}")
    assert status == 200, body
    return msgspec.json.decode(body, type=LinkedAt)


def test_shares_sum_to_one_and_are_those_of_the_gradient(solved: Linked) -> None:
    assert solved.layers == ["layers.0", "layers.1", "layers.2", "layers.3", "head"]
    for column in zip(*solved.shares, strict=True):
        assert sum(column) == pytest.approx(1.0, abs=1e-6)
    net, loss, (x, y) = depth.small_field(SMALL)
    loss(net(x), y).backward()
    whole = sum(float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None)
    own = [
        sum(
            float(p.grad.square().sum())
            for n, p in net.named_parameters()
            if n.startswith(f"{layer}.") and p.grad is not None
        )
        / whole
        for layer in solved.layers
    ]
    assert [share[0] for share in solved.shares] == pytest.approx(own, rel=1e-4)
    assert max(own) > 1.5 * min(own)  # the control: no split evenly would pass


def test_the_flow_goes_down_over_the_time_of_the_training(solved: Linked) -> None:
    assert (
        solved.times[0] == 0.0
        and solved.times[-1] == pytest.approx(60 * SMALL.lr)
        and solved.until == pytest.approx(6.0)
    )
    assert (
        all(b <= a + 1e-6 for a, b in zip(solved.loss, solved.loss[1:], strict=False))
        and solved.loss[-1] < 0.8 * solved.loss[0]
    )
    near = list(depth.small_training(msgspec.structs.replace(SMALL, lr=0.01), 61))[
        -1
    ]  # descent of small steps, at t = 0.6
    k = min(range(len(solved.times)), key=lambda k: abs(solved.times[k] - 0.6))
    assert solved.loss[k] == pytest.approx(near, rel=0.03)


def test_the_way_back_at_the_start_is_that_of_the_start_and_later_it_is_another(client: Client, solved: Linked) -> None:
    body = client.ask("POST", "/api/knobs/look", INSIDE, msgspec.json.encode(KnobsAsk(SMALL, "lane")))[2]
    start = msgspec.json.decode(next(iter(frames(body)))[0], type=KnobsSeen)
    first, last = at(client, 0), at(client, len(solved.times) - 1)
    rows = [(r.name, r.norm, r.decades) for r in start.way.budget.by_op]
    assert [(r.name, r.norm, r.decades) for r in first.way.budget.by_op] == rows
    assert first.way.spans == start.way.spans and first.time == 0.0
    assert [r.name for r in last.way.budget.by_op] == [name for name, _, _ in rows]
    assert [r.norm for r in last.way.budget.by_op] != [norm for _, norm, _ in rows]


def test_what_has_no_flow_or_is_too_large_or_not_kept_is_refused(client: Client) -> None:
    for lane, index, told in (("nobody", "0", "not kept"), ("lane", "999", "moments of it")):
        status, _, body = client.ask(path="/api/knobs/at", headers=INSIDE, query=f"lane={lane}&index={index}")
        assert status == 422 and (told in body.decode() or "counted from 0" in body.decode())
    with pytest.raises(UsageError, match=f"{LARGEST:,} is the most"):
        next(Paths().solve(FlowAsk(Knobs(depth=64, width=64), "a"), Token()))
    with pytest.raises(FieldError, match="not finite"):
        next(Paths().solve(FlowAsk(msgspec.structs.replace(SMALL, loss="distance", activation="relu"), "a"), Token()))


def test_a_flow_that_takes_too_long_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradientflow.app.linked.SECONDS", 0.3)
    stiff = Knobs(time=20, width=16, activation="tanh", init="orthogonal", gain=3.0)
    ((head, _),) = frames(next(Paths().solve(FlowAsk(stiff, "a"), Token())))
    told = msgspec.json.decode(head, type=Linked)
    assert told.times[-1] < told.until and "It came to t =" in told.text and len(told.loss) == len(told.times)


def test_a_flow_that_nobody_waits_for_ends_and_is_not_kept() -> None:
    paths, token = Paths(), Token()
    token.cancel()
    assert list(paths.solve(FlowAsk(SMALL, "a"), token)) == []
    with pytest.raises(UsageError, match="not kept"):
        paths.at("a", 0)


def test_a_look_at_other_weights_leaves_random_numbers_alone() -> None:
    net, _, _ = depth.small_field(SMALL)
    point = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.manual_seed(3)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    depth.small_look(SMALL, 2 * point)
    assert torch.equal(torch.rand(2), drawn)


def test_a_look_sees_nothing_of_what_other_threads_compute() -> None:
    alone = depth.small_look(SMALL)
    token, went = Token(), threading.Event()

    def busy() -> None:
        while not token.cancelled():
            list(Paths().solve(FlowAsk(SMALL, "a"), token))
            for _ in depth.small_training(SMALL, 20, lambda: not token.cancelled()):
                went.set()

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert went.wait(60)
        for _ in range(4):
            beside = depth.small_look(SMALL)
            assert beside.verdict.symptom == alone.verdict.symptom and beside.law == alone.law
            assert [r.norm for r in beside.verdict.budget.by_op] == [r.norm for r in alone.verdict.budget.by_op]
            assert beside.verdict.watch.errors == []
    finally:
        token.cancel()
        thread.join(60)


def test_a_look_draws_its_own_numbers_while_another_thread_shakes_the_generators() -> None:
    alone = depth.small_look(SMALL)
    over = threading.Event()

    def shake() -> None:
        while not over.is_set():
            with chance.shaken(11):
                torch.rand(1)

    thread = threading.Thread(target=shake)
    thread.start()
    try:
        assert all(depth.small_look(SMALL).law == alone.law for _ in range(12))
    finally:
        over.set()
        thread.join(60)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(Runs(beside=tmp_path_factory.mktemp("none"))) as one:
        yield one


@pytest.mark.browser
def test_choose_a_time_and_a_layer(running: Served, look: Any) -> None:  # noqa: F811
    page = look(running, "#knobs?depth=4&width=12&activation=tanh&init=xavier&lr=0.1")
    until(page, lambda: "steps" in page.inner_text("section:has(#k-course) .fine"))
    page.keyboard.press("f")
    until(page, lambda: page.locator("input[name=moment]").count(), 60)
    page.keyboard.press("]")
    until(page, lambda: "at t = " in page.inner_text("#k-way"))
    assert page.locator(".wf-bar .was").count() > 4  # the start, pale
    first = page.inner_text("#k-way")
    page.fill("input[name=moment]", "32")
    until(page, lambda: "at t = 6" in page.inner_text("#k-way") and page.inner_text("#k-way") != first)
    page.select_option("select[aria-label=layer]", "layers.1")
    until(page, lambda: "layers.1" in page.inner_text(".linked .inks >> nth=1"))
    page.click(".wf-row:has(b:text-is('layers.2'))")  # a line of the way back is its layer
    until(page, lambda: page.input_value("select[aria-label=layer]") == "layers.2")
    page.select_option(".board select >> nth=0", "relu")  # another network: its flow is not this one
    until(page, lambda: page.locator("input[name=moment]").count() == 0)
    assert "at t =" not in page.inner_text("#k-way")
