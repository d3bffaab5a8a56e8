"""The routes of the small network with knobs: what is told, what is refused, and whose answer it is."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from gradientflow.app.knobs import KEPT, Looks
from gradientflow.app.wire import frames
from gradientflow.errors import UsageError
from gradientflow.records import Course, Knobs, KnobsAsk, KnobsOpened, KnobsSeen, OpSeen, TrainAsk
from tests.app.test_guard import HOME, PORT, Client
from tests.app.test_server import INSIDE, app

SMALL = Knobs(depth=3, width=8, activation="sigmoid")


@pytest.fixture(scope="module")
def client() -> Client:
    return Client(app())


def look(client: Client, knobs: Knobs, lane: str = "lane") -> KnobsSeen:
    status, _, body = client.ask("POST", "/api/knobs/look", INSIDE, msgspec.json.encode(KnobsAsk(knobs, lane)))
    assert status == 200, body
    ((head, floats),) = frames(body)
    assert not len(floats)
    return msgspec.json.decode(head, type=KnobsSeen)


def test_a_look_and_one_of_its_operations(client: Client) -> None:
    status, _, body = client.ask(path="/api/knobs", headers=INSIDE)
    opened = msgspec.json.decode(body, type=KnobsOpened)
    assert status == 200 and len(opened.presets) == 4 and opened.ranges["depth"] == (1, 64)
    seen = look(client, SMALL)
    assert seen.knobs == SMALL and len(seen.law.theory) == 3
    names = [row.name for row in seen.way.budget.by_op]
    assert names[0] == "cross_entropy" and names.count("sigmoid") == 3 and len(seen.way.spans) == len(names)
    row = names.index("sigmoid")
    status, _, body = client.ask(path="/api/knobs/op", headers=INSIDE, query=f"lane=lane&row={row}")
    op = msgspec.json.decode(body, type=OpSeen)
    assert status == 200 and op.name == "sigmoid" and op.excerpt is not None and op.excerpt.path is None
    (line,) = (text for _, text, hit in op.excerpt.lines if hit)
    assert "torch.sigmoid(layer(x))" in line and line in seen.script
    assert client.ask(path="/api/knobs/op", headers=INSIDE, query="lane=lane&row=999")[0] == 422
    assert client.ask(path="/api/knobs/op", headers=INSIDE, query="lane=other&row=0")[0] == 422  # nobody's


def test_a_training_grows_and_ends_in_words(client: Client) -> None:
    ask = TrainAsk(SMALL, "lane", 12)
    status, _, body = client.ask("POST", "/api/knobs/train", INSIDE, msgspec.json.encode(ask))
    told = [msgspec.json.decode(head, type=Course) for head, _ in frames(body)]
    assert status == 200 and len(told[-1].losses) == 12 and told[-1].text.endswith("over 12 steps")
    assert [t.losses for t in told] == [told[-1].losses[: len(t.losses)] for t in told]
    sick = msgspec.structs.replace(SMALL, loss="distance", activation="relu")
    body = client.ask("POST", "/api/knobs/train", INSIDE, msgspec.json.encode(TrainAsk(sick, "lane", 12)))[2]
    *_, last = (msgspec.json.decode(head, type=Course) for head, _ in frames(body))
    assert last.losses[-1] is None and len(last.losses) < 12 and "not finite" in last.text


@pytest.mark.parametrize(
    ("path", "ask", "told"),
    [
        ("look", {"knobs": {"depth": 65}, "lane": "a"}, "depth: expected 1 to 64, got 65"),
        ("look", {"knobs": {"activation": "__import__('os')"}, "lane": "a"}, "activation"),
        ("look", {"knobs": {"width": 2.5}, "lane": "a"}, "width"),
        ("look", {"knobs": {"gain": 1e300}, "lane": "a"}, "gain"),
        ("train", {"knobs": {"lr": 0}, "lane": "a"}, "lr"),
        ("train", {"knobs": {}, "lane": "a", "steps": 100000}, "steps of training"),
        ("look", {"lane": "a"}, "knobs"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused_in_words(client: Client, path: str, ask: dict[str, Any], told: str) -> None:
    status, _, body = client.ask("POST", f"/api/knobs/{path}", INSIDE, msgspec.json.encode(ask))
    assert status == 422 and told in msgspec.json.decode(body)["problem"]


def test_only_the_page_itself_may_ask(client: Client) -> None:
    ask = msgspec.json.encode(KnobsAsk(SMALL, "lane"))
    for headers in ({}, INSIDE | {"Origin": "http://evil.example"}, INSIDE | {"Host": f"evil.example:{PORT}"}):
        assert client.ask("POST", "/api/knobs/look", headers, ask)[0] in (401, 403, 421), headers
    assert client.ask("GET", "/api/knobs/look", INSIDE)[0] == 405
    assert HOME in INSIDE["Origin"] and not math.isnan(look(client, SMALL).seconds)  # the control


def test_the_oldest_looks_are_forgotten() -> None:
    looks: Any = Looks()
    for k in range(KEPT + 1):
        looks.keep(f"lane {k}", k)
    assert looks.get("lane 1") == 1
    with pytest.raises(UsageError, match="turn a knob"):
        looks.get("lane 0")
