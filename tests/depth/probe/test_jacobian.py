"""Singular values of Jacobians as the probe measures them, against ones taken the long way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gradientflow.depth.probe.jacobian import Way, stations
from gradientflow.depth.watch import isometry
from gradientflow.records import Isometry, Op, Operand, Stretch, ValueStat
from tests.depth.scripts import differences, plain, sandbox, watched, write
from tests.depth.watch.training import SCRIPTS
from tests.truth.watching import probe_of


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(x)))


def measured(net: nn.Module, x: Tensor) -> tuple[Isometry, list[Op], list[str]]:
    """What a watched step of a network on a batch tells."""
    probe = probe_of(lambda: net(x).square().mean().backward(), jacobian=True).probe
    assert probe.isometry is not None, probe.notes
    return probe.isometry, probe.ops, probe.notes


def squares(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Squared singular values of ∂function/∂at, from the largest down, by PyTorch's own full Jacobian."""
    jacobian: Tensor = torch.autograd.functional.jacobian(function, at)  # type: ignore[no-untyped-call]
    return torch.linalg.svdvals(jacobian.reshape(-1, at.numel()).double()).square()


def agrees(found: Stretch, truth: Tensor, rel: float = 1e-4) -> bool:
    """Whether mean, variance, largest and smallest are those of a list of squared singular values."""
    assert found.variance is not None
    assert found.top is not None
    assert found.bottom is not None
    pairs = [
        (found.mean, truth.mean()),
        (found.variance, truth.var(correction=0)),
        (found.top, truth[0]),
        (found.bottom, truth[-1]),
        (found.spectrum[0], truth[-1]),
        (found.spectrum[-1], truth[0]),
    ]
    return all(a == pytest.approx(float(b), rel=rel, abs=1e-9) for a, b in pairs)


CHAIN = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 14), nn.Sigmoid(), nn.Linear(14, 5))


def test_a_chain_has_the_singular_values_of_its_full_jacobian() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 12)
    found, ops, _ = measured(CHAIN, x)
    assert [(ops[s.source].module, ops[s.target].module) for s in found.stretches] == [("0", "2"), ("2", "4")]
    first = CHAIN[0](x).detach()
    second = CHAIN[2](torch.tanh(first)).detach()
    truths = [squares(CHAIN[1:3], first), squares(CHAIN[3:], second), squares(CHAIN[1:], first)]
    assert found.whole is not None
    for stretch, truth in zip([*found.stretches, found.whole], truths, strict=True):
        assert agrees(stretch, truth)
        assert not agrees(stretch, 1.001 * truth)  # negative control
    assert (found.whole.inputs, found.whole.outputs, found.whole.samples) == (9, 5, 1)
    assert not agrees(found.stretches[0], squares(CHAIN[1:], first))  # nor those of another stretch


def test_of_a_batch_each_sample_counts_for_itself() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 12)
    found, _, _ = measured(CHAIN, x)
    starts = CHAIN[0](x).detach()
    truth = torch.stack([squares(CHAIN[1:], starts[k : k + 1]) for k in range(4)])
    assert found.whole is not None
    assert agrees(found.whole, truth.mean(0), rel=1e-3) or found.whole.variance == pytest.approx(
        float(truth.var(1, correction=0).mean()), rel=1e-4
    )
    assert found.whole.mean == pytest.approx(float(truth.mean()), rel=1e-4)
    assert found.whole.error == pytest.approx(float(truth.mean(1).std() / 2), rel=1e-3)
    assert found.whole.mean != pytest.approx(float(truth[0].mean()), rel=1e-4)  # one sample alone is something else


def test_batch_norm_mixes_samples_and_the_batch_is_one_operator() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))
    x = torch.randn(8, 6)
    found, _, _ = measured(net, x)
    assert found.whole is not None
    start = net[0](x).detach()
    assert (found.whole.samples, found.whole.inputs, found.whole.outputs) == (0, 40, 32)
    assert agrees(found.whole, squares(net[1:], start))
    apart = nn.Sequential(
        nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 4)
    )  # control: this one does not mix
    other, _, _ = measured(apart, x)
    assert other.whole is not None
    assert other.whole.samples == 4


def test_where_it_is_wide_random_vectors_and_lanczos_come_near() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 3))
    x = torch.randn(6, 40)
    found, _, _ = measured(net, x)
    wide = found.stretches[0]
    start = net[0](x).detach()
    truth = torch.stack([squares(net[1:3], start[k : k + 1]) for k in range(6)])
    assert (wide.probes, wide.samples, wide.bottom, wide.spectrum) == (16, 6, None, [])
    assert wide.mean == pytest.approx(float(truth.mean()), abs=4 * wide.error)
    assert wide.error < 0.02 * wide.mean
    assert wide.top == pytest.approx(float(truth[:, 0].mean()), rel=0.02)
    assert wide.bound < 0.02
    assert wide.variance == pytest.approx(float(truth.var(1, correction=0).mean()), rel=0.1)
    assert wide.mean != pytest.approx(1.1 * float(truth.mean()), abs=4 * wide.error)  # negative control


def test_without_a_second_derivative_all_of_it_is_taken() -> None:
    """Attention's fused kernel has none: the largest value then comes from the full Jacobian, not from Lanczos."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.0, batch_first=True)
    net = nn.Sequential(nn.Linear(4, 16), layer, nn.Linear(16, 8))
    found, _, _ = measured(net, torch.randn(2, 20, 4))
    assert all(s.top is not None and s.top > 0 for s in found.stretches)
    assert any(s.outputs == 320 and s.probes == 0 for s in found.stretches)


def test_stretches_of_a_residual_network_run_from_sum_to_sum() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), Residual(6), Residual(6), nn.Linear(6, 3))
    x = torch.randn(1, 6)
    found, ops, _ = measured(net, x)
    names = [(ops[s.target].module, ops[s.target].name) for s in found.stretches]
    assert names == [("1", "add"), ("2", "add"), ("3", "linear")]
    start = net[0](x).detach()
    assert agrees(found.stretches[0], squares(net[1], start))
    assert not agrees(found.stretches[0], squares(lambda h: net[1](h) - h, start))  # not without the skip


def op(index: int, *sources: int) -> Op:
    return Op(
        index, "linear", "linear", None, None, None, None, None, [Operand(op=s) for s in sources],
        ValueStat([2], "float32", 0.0, 1.0, 0.0, 1.0, 0.0, 0, 0),
    )  # fmt: skip


def test_stations_are_what_every_route_passes() -> None:
    diamond = [op(0), op(1, 0), op(2, 0), op(3, 1, 2), op(4, 3)]
    assert stations(diamond, {0, 1, 2, 3, 4}, [0, 1, 2, 4]) == [0, 3, 4]
    skip = [op(0), op(1, 0), op(2, 1), op(3, 2, 0)]
    assert stations(skip, {0, 1, 2, 3}, [0, 1, 2, 3]) == [0, 3]
    chain = [op(0), op(1, 0), op(2, 1), op(3, 2)]
    assert stations(chain, {0, 1, 2, 3}, [0, 1, 2, 3]) == [0, 1, 2, 3]
    assert stations(chain, {0, 1, 2, 3}, [0, 3]) == [0, 3]
    apart = [op(0), op(1), op(2, 0, 1)]  # the second layer is not behind the first
    assert stations(apart, {0, 1, 2}, [0, 1]) == []


def test_a_recurrence_has_one_stretch_for_each_step_in_time() -> None:
    torch.manual_seed(0)
    cell = nn.Linear(5, 5, bias=False)
    start = torch.randn(3, 5)

    def train() -> None:
        h = start
        for _ in range(7):
            h = torch.tanh(cell(h))
        h.sum().backward()

    found = probe_of(train, jacobian=True).probe.isometry
    assert found is not None
    assert len(found.stretches) == 6


def test_too_many_stretches_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isometry, "STRETCHES", 3)
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))
    found, ops, notes = measured(net, torch.randn(2, 4))
    assert [(ops[s.source].module, ops[s.target].module) for s in found.stretches] == [
        ("0", "2"),
        ("2", "4"),
        ("4", "7"),
    ]
    assert any("7 stretches" in n for n in notes)


# ── never hurt the patient ───────────────────────────────────────────────────────────────────────────────────────────

ON = (
    "dropout", "batchnorm", "inplace relu", "adam", "lstm", "lbfgs", "transformer", "gan", "by hand with grad",
)  # fmt: skip


@pytest.mark.parametrize("name", ON)
def test_a_script_computes_the_same_with_it(tmp_path: Path, name: str) -> None:
    with sandbox():
        torch.set_num_threads(1)
        file = write(tmp_path, SCRIPTS[name])
        left = watched(file, probe_every=1, jacobian=True)
        assert differences(plain(file), left) == []
    assert left.outcome is not None
    assert left.outcome.verdict.watch.errors == []
    assert any(p.isometry for p in left.outcome.run.probes)  # else the comparison is void


def test_a_meter_that_draws_the_script_s_random_numbers_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the comparison above."""
    drawn: list[Tensor] = []

    def draw(way: Way, rows: int) -> Tensor:
        drawn.append(torch.rand(1))
        return honest(way, rows)

    honest = Way.signs
    monkeypatch.setattr(Way, "signs", draw)
    with sandbox():
        torch.set_num_threads(1)
        file = write(tmp_path, SCRIPTS["dropout"])
        assert differences(plain(file), watched(file, probe_every=1, jacobian=True)) != []
    assert drawn


def test_hooks_of_the_script_are_not_called_a_second_time() -> None:
    calls: list[int] = []
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

    def train(hooked: bool) -> None:
        out = net(torch.ones(2, 4))
        if hooked:
            out.register_hook(lambda g: calls.append(1))
        out.sum().backward()

    probe = probe_of(lambda: train(True), jacobian=True).probe
    assert probe.isometry is None
    assert any("Jacobians not measured" in n and "hooks" in n for n in probe.notes)
    assert len(calls) == 1
    assert probe_of(lambda: train(False), jacobian=True).probe.isometry is not None


def test_where_time_is_short_less_is_measured_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 300), nn.ReLU(), nn.Linear(300, 4))
    x = torch.randn(4, 8)
    assert measured(net, x)[0].whole is not None  # with time enough
    monkeypatch.setattr(isometry, "SECONDS", 1e-9)
    probe = probe_of(lambda: net(x).sum().backward(), jacobian=True).probe
    assert probe.isometry is None
    assert any("no time for enough of them" in note for note in probe.notes)


def test_it_is_measured_only_on_request() -> None:
    assert probe_of(lambda: CHAIN(torch.ones(2, 12)).sum().backward()).probe.isometry is None
