"""Basins: where the drops of a grid end, solved; coarse first, then fine at the borders; bounded and ended when nobody waits."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from gradientflow import river
from gradientflow.app import basins as room
from gradientflow.app.fields import Fields
from gradientflow.app.wire import frames
from gradientflow.app.work import Token
from gradientflow.cli.target import load
from gradientflow.errors import UsageError
from gradientflow.records import Basins, BasinsAsk

ASK = BasinsAsk("himmelblau", (-6.0, 6.0, -6.0, 6.0), 1.0, "lane")


@pytest.fixture(scope="module")
def fields() -> Fields:
    return Fields("w1w2", lambda target: load(target, None))


def told(fields: Fields, ask: BasinsAsk, token: Token | None = None) -> list[tuple[Basins, Any]]:
    parts = room.basins(fields, ask, token or Token())
    return [(msgspec.json.decode(h, type=Basins), a) for part in parts for h, a in frames(part)]


def test_each_drop_of_the_grid_is_told_the_place_where_its_flow_ends(fields: Fields) -> None:
    (coarse, first), (fine, which) = told(fields, ASK)
    assert (coarse.n, fine.n) == (33, 65) and len(fine.places) == 4 and fine.places == coarse.places
    assert all(0.2 < s < 0.3 for s in fine.shares)
    table = which.reshape(65, 65)
    assert np.array_equal(table[::2, ::2], first.reshape(33, 33))
    at = torch.linspace(-6, 6, 65, dtype=torch.float64)
    rows, columns = torch.randint(0, 65, (2, 60), generator=torch.Generator().manual_seed(0))
    solved = river.flow(
        river.zoo.named("himmelblau").field, 5.0, starts=torch.stack([at[columns], at[rows]], 1), certify=False
    ).final
    right = torch.cdist(solved.double(), torch.tensor(fine.places, dtype=torch.float64)).argmin(1)
    wrong = (torch.tensor(table[rows, columns]).long() != right).sum()
    assert int(wrong) <= 1  # one on a border may fall to the other side at the looser tolerance
    assert int((torch.tensor(table[columns, rows]).long() != right).sum()) > 10  # control: rows for columns


def test_a_curve_of_minima_is_one_place_and_a_saddles_line_is_none(fields: Fields) -> None:
    fine, which = told(fields, BasinsAsk("w1w2", (-2.0, 2.0, -2.0, 2.0), 20.0, "lane"))[-1]
    assert len(fine.places) == 2  # two branches of w₁w₂ = 1, and not the saddle between them
    assert all(abs(x * y - 1) < 0.1 for x, y in fine.places)
    assert 0 < float((which < 0).mean()) < 0.05


def test_where_nothing_rests_there_are_no_basins(fields: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SPELL", 1.0)
    (one,) = told(fields, BasinsAsk("van-der-pol", (-3.0, 3.0, -3.0, 3.0), 4.0, "lane"))
    assert one[0].places == [] and bool((one[1] == -1).all())


@pytest.mark.parametrize(("limit", "side", "count"), [("LINKED", 0.3, 1), ("LINKED", 0.4, 2)])
def test_ends_are_linked_up_to_a_distance(limit: str, side: float, count: int) -> None:
    ends = torch.tensor([[0.0, 0.0], [side / 10, 0.0]], dtype=torch.float64).repeat_interleave(10, 0)
    ends = (
        ends
        if count == 1
        else ends + torch.tensor([[0.0, 0.0], [0.001, 0.0]], dtype=torch.float64).repeat_interleave(10, 0)
    )
    _, places = room._linked(ends, 1.0)
    assert len(places) == count


@pytest.mark.parametrize(("few", "count"), [(3, 1), (4, 2)])
def test_a_place_where_few_end_is_none(few: int, count: int) -> None:
    ends = torch.zeros(100, 2, dtype=torch.float64)
    ends[:few] = 1.0
    which, places = room._linked(ends, 1.0)
    assert len(places) == count and int((which == -1).sum()) == (few if count == 1 else 0)


def test_a_survey_that_nobody_waits_for_ends(fields: Fields) -> None:
    token = Token()
    token.cancel()
    assert told(fields, ASK, token) == []
    token, got = Token(), 0
    for _ in room.basins(fields, ASK, token):
        got += 1
        token.cancel()
    assert got == 1


@pytest.mark.parametrize(
    "wrong", [{"box": (1.0, 1.0, 0.0, 1.0)}, {"box": (0.0, float("inf"), 0.0, 1.0)}, {"t": 0.0}, {"t": 1e9}, {"target": "linear-net"}, {"target": "x.py:y"}]
)  # fmt: skip
def test_what_has_no_basins_is_refused(fields: Fields, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        told(fields, msgspec.structs.replace(ASK, **wrong))
