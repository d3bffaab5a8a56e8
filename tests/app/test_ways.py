"""Both rivers of a network of one's own: the way back at a moment of a drop's path, and the layers' shares of dθ/dt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

import gradientflow as gf
from gradientflow import river
from gradientflow.app import ways as room
from gradientflow.app.drops import whole
from gradientflow.app.fields import Fields
from gradientflow.app.planes import foot_in
from gradientflow.app.ways import layer_shares, put_in, ways
from gradientflow.app.wire import frames
from gradientflow.app.work import Token
from gradientflow.cli.target import Target
from gradientflow.errors import UsageError
from gradientflow.records import DropAsk, LayerShares, WayAsk, WaySeen

T = 4.0
LAYERS = ["0", "2", "3", "5"]


class Data:
    """Batches, and a network with a normalisation, whose buffers move in a forward pass, and a hook."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        x = torch.randn(40, 4)
        self.batch = (x, (x[:, 0] * x[:, 1] > 0).long())
        self.model = nn.Sequential(
            nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, 6, bias=False), nn.Tanh(), nn.Linear(6, 2)
        )
        self.model[0].weight.grad = torch.ones(6, 4)


def fields_of(**made: river.Field) -> Fields:
    """The app's fields; all but the first under names that a page may open."""
    found = {name.replace("_", "-"): Target(field, time=T) for name, field in made.items()}
    return Fields(next(iter(found)), found.__getitem__)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data()


@pytest.fixture(scope="module")
def fields(data: Data) -> Fields:
    return fields_of(net=river.LossField(data.model, nn.functional.cross_entropy, data.batch))


def looked(fields: Fields, at: float, foot: str = "own", target: str = "net") -> WaySeen:
    ((head, _),) = frames(b"".join(ways(fields, WayAsk(target, foot, at, T, "lane"), Token())))
    return msgspec.json.decode(head, type=WaySeen)


def shared(fields: Fields, foot: str = "own", target: str = "net") -> tuple[LayerShares, Any]:
    ask = WayAsk(target, foot, 0.0, T, "lane", shares=True)
    ((head, floats),) = frames(b"".join(layer_shares(fields, ask, Token())))
    told = msgspec.json.decode(head, type=LayerShares)
    return told, floats.reshape(len(told.layers), len(told.times))


def rows(seen: Any) -> list[tuple[str, float | None, float | None]]:
    return [(r.name, r.norm, r.decades) for r in seen.by_op]


def test_at_the_start_it_is_what_diagnose_says_and_later_what_it_says_there(fields: Fields, data: Data) -> None:
    first, last = looked(fields, 0.0), looked(fields, T)
    alone = gf.diagnose(data.model, nn.functional.cross_entropy, data.batch)
    assert (
        first.time == 0.0 and rows(first.way.budget) == rows(alone.verdict.budget) and len(rows(first.way.budget)) > 6
    )
    assert first.way.budget.total_decades == alone.verdict.budget.total_decades is not None
    known = fields.planes("net")
    assert known is not None
    there = Data().model
    nn.utils.vector_to_parameters(known.path("own", T).final, there.parameters())
    later = gf.diagnose(there, nn.functional.cross_entropy, data.batch)
    assert last.time == pytest.approx(T) and rows(last.way.budget) == rows(later.verdict.budget) != rows(
        alone.verdict.budget
    )


def test_it_is_at_the_kept_moment_that_is_nearest(fields: Fields) -> None:
    list(whole(fields, DropAsk("net", (0.4, 0.3), T, "lane", plane="pca~4"), Token()))
    foot = foot_in("pca~4", (0.4, 0.3))
    path = fields.planes("net").kept(foot)  # type: ignore[union-attr]
    assert path is not None
    for at in (0.0, 0.7, 2.9, 99.0):
        seen = looked(fields, at, foot)
        assert abs(seen.time - at) == pytest.approx(float((path.times - at).abs().min())) and seen.moments == len(
            path.times
        )
    assert rows(looked(fields, 0.0, foot).way.budget) != rows(looked(fields, 0.0).way.budget)


def test_shares_sum_to_one_and_are_those_of_the_gradient(fields: Fields, data: Data) -> None:
    told, shares = shared(fields)
    assert told.layers == LAYERS and shares.sum(0) == pytest.approx(1.0, abs=1e-6)
    known = fields.planes("net")
    assert known is not None
    path = known.path("own", T)
    for k in (0, len(told.times) // 2, -1):
        model = Data().model
        nn.utils.vector_to_parameters(path.theta[k], model.parameters())
        model.zero_grad()
        nn.functional.cross_entropy(model(data.batch[0]), data.batch[1]).backward()
        own = [sum(float(p.grad.square().sum()) for p in model[int(n)].parameters()) for n in LAYERS]  # type: ignore[union-attr]
        assert shares[:, k] == pytest.approx([x / sum(own) for x in own], rel=1e-3)
    assert max(abs(shares[:, 0] - shares[:, -1])) > 0.02  # the control: they are not the same all the way


class Written(nn.Module):
    """A network of which a line is the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.b(torch.tanh(self.a(x)))
        return out


def test_in_a_thread_of_the_apps_no_line_of_its_own_is_told_for_the_users(data: Data) -> None:
    """(A ready-made container is called by nobody's line there; in a test it is this file's.)"""
    loss = nn.functional.cross_entropy
    ready, own = (fields_of(net=river.LossField(m, loss, data.batch)) for m in (Data().model, Written()))
    with ThreadPoolExecutor(1) as pool:
        for fields in (ready, own):
            parts = pool.submit(list, ways(fields, WayAsk("net", "own", 0.0, T, "lane"), Token())).result(60)
            ((head, _),) = frames(b"".join(parts))
            sites = msgspec.json.decode(head, type=WaySeen).way.sites
            if fields is ready:
                assert set(sites) == {""}
            else:
                assert {s.partition(":")[0] for s in sites if s} == {"test_ways.py"} and sum(map(bool, sites)) >= 4


def kept(model: nn.Module) -> dict[str, bytes]:
    return {name: t.detach().numpy().tobytes() for name, t in model.state_dict().items()}


def test_the_module_is_as_it_was_bit_for_bit(fields: Fields, data: Data) -> None:
    before, modes, drawn = kept(data.model), [m.training for m in data.model.modules()], torch.get_rng_state()
    grad = data.model[0].weight.grad
    looked(fields, 3.0)
    shared(fields)
    assert kept(data.model) == before and [m.training for m in data.model.modules()] == modes
    assert data.model[0].weight.grad is grad and torch.equal(torch.get_rng_state(), drawn)
    assert all(p.requires_grad and p.is_leaf for p in data.model.parameters())
    field: Any = fields.get("net").field
    with put_in(field, torch.ones(field.size)):
        assert kept(data.model) != before
    with pytest.raises(ZeroDivisionError), put_in(field, torch.ones(field.size)):
        raise ZeroDivisionError
    assert kept(data.model) == before


def test_of_several_batches_the_first_is_looked_at_and_that_is_told(data: Data) -> None:
    x, y = data.batch
    many = fields_of(
        net=river.LossField(Data().model.eval(), nn.functional.cross_entropy, [(x[:30], y[:30]), (x[30:], y[30:])])
    )
    assert "the first of 2 batches" in looked(many, 0.0).text
    assert looked(fields_of(net=river.LossField(Data().model, nn.functional.cross_entropy, data.batch)), 0.0).text == ""


def test_a_loss_whose_output_is_called_net_is_a_loss_of_the_output(data: Data) -> None:
    def loss(net: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(net, y)

    named = fields_of(net=river.LossField(Data().model, loss, data.batch))
    first, same = (
        looked(named, 0.0),
        looked(fields_of(net=river.LossField(Data().model, nn.functional.cross_entropy, data.batch)), 0.0),
    )
    assert rows(first.way.budget) == rows(same.way.budget)


def test_parameters_of_the_root_have_a_name_and_held_ones_no_share() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.inner, self.tied = nn.Linear(3, 3), nn.Linear(3, 3)
            self.tied.weight = self.inner.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.tied(torch.tanh(self.inner(x))) * self.scale
            return out

    torch.manual_seed(0)
    model = Own()
    model.tied.bias.requires_grad_(False)
    own = fields_of(net=river.LossField(model, nn.functional.mse_loss, (torch.randn(9, 3), torch.randn(9, 3))))
    told, shares = shared(own)
    assert told.layers == ["scale", "inner"] and shares.sum(0) == pytest.approx(1.0, abs=1e-6)
    before = kept(model)
    assert looked(own, 2.0).way.budget.by_op and kept(model) == before


def test_what_cannot_be_looked_at_is_refused_in_words(
    fields: Fields, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(4, 2)
    params = {n: p.detach().clone() for n, p in model.named_parameters()}
    function = river.LossField(
        lambda p, x: x @ p["weight"].T + p["bias"], nn.functional.cross_entropy, data.batch, params=params
    )
    two = river.LossField(nn.Linear(2, 1, bias=False), nn.functional.mse_loss, (torch.eye(2), torch.ones(2, 1)))
    bowl = river.Potential(lambda w: (w * w).sum(), start=[1.0, 2.0, 3.0], name="bowl")
    for field, words in ((function, "is a function"), (two, "drawn whole"), (bowl, "bowl has no layers")):
        made = fields_of(net=field)
        with pytest.raises(UsageError, match=words):
            looked(made, 0.0)
        with pytest.raises(UsageError, match=words):
            shared(made)
        assert not made.opened("net").layers
    assert fields.opened("net").layers
    for at, t, words in ((float("nan"), T, "finite time"), (0.0, 0.0, "above 0"), (0.0, 1e9, "above 0")):
        with pytest.raises(UsageError, match=words):
            list(ways(fields, WayAsk("net", "own", at, t, "lane"), Token()))
    with pytest.raises(UsageError, match="no place"):
        looked(fields, 0.0, "nowhere")
    size = fields.get("net").field.size
    monkeypatch.setattr(room, "LARGEST", size)
    assert looked(fields, 0.0).time == 0.0
    monkeypatch.setattr(room, "LARGEST", (size or 0) - 1)
    with pytest.raises(UsageError, match="takes too long here"):
        looked(fields, 0.0)


class Hidden(nn.Module):
    """A network that vmap hides from a probe."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.func.vmap(self.layer)(x)
        return out


def test_what_a_look_cannot_follow_or_the_network_refuses_is_told_and_the_module_put_back(data: Data) -> None:
    model = Hidden()
    hidden = fields_of(net=river.LossField(model, nn.functional.cross_entropy, data.batch))
    before = kept(model)
    with pytest.raises(UsageError, match=r"no operation .* was seen"):
        looked(hidden, T)
    assert kept(model) == before
    broken = Data().model
    failing = fields_of(net=river.LossField(broken, nn.functional.cross_entropy, data.batch))
    failing.planes("net").path("own", T)  # type: ignore[union-attr]
    handle, before = broken[1].register_forward_hook(lambda *_: 1 / 0), kept(broken)
    with pytest.raises(ZeroDivisionError):
        looked(failing, T)
    handle.remove()
    assert kept(broken) == before and looked(failing, T).way.budget.by_op


def test_what_nobody_waits_for_is_not_worked_out(fields: Fields) -> None:
    token = Token()
    token.cancel()
    ask = WayAsk("net", "own", 0.0, T, "lane", shares=True)
    assert list(ways(fields, ask, token)) == [] == list(layer_shares(fields, ask, token))
