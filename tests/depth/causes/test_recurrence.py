"""The rule on recurrence, dry on records made by hand and on little training runs, sick and healthy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.recurrence import course, recurrence
from gradientflow.records import Finding, GradStat, Meta, Op, Operand, Param, Probe, Recurrence, Run, Step, ValueStat
from tests.depth.causes.test_rules_on_live_runs import here, top, verdict_of

# ── dry ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(*found: Recurrence, losses: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0), probes: int = 1) -> Run:
    """One step with an LSTM at net.py:7 and a loss, and what was measured over time."""
    grad = GradStat(1.0, 1.0, 1.0, 0.0, 0, 0)
    value = ValueStat([4, 8], "float32", 0.0, 1.0, -1.0, 1.0, 0.0, 0, 0)

    def op(index: int, name: str, kind: str, operands: list[Operand]) -> Op:
        return Op(index, name, kind, "net.py", 7 + index, "forward", "rnn", "LSTM", operands, value, grad)

    ops = [
        op(0, "lstm", "recurrent", [Operand(value=value), Operand(param=0)]),
        op(1, "mean", "reduce", [Operand(op=0)]),
    ]
    meta = Meta("net.py", [], "", "", "", "", params=[Param(0, "w", [32, 8], "float32", True, True)])
    steps = [Step(k + 1, 0.0, 0, 0.1, loss, 1.0, 1.0, 1.0) for k, loss in enumerate(losses)]
    return Run(
        meta, steps, [], [Probe(k + 1, 0.0, "first", 1.0, 1, ops, [], recurrent=list(found)) for k in range(probes)]
    )


def told(cell: str, gain: float, steps: int, **more: object) -> Recurrence:
    norms = [gain**k for k in range(steps)]
    return Recurrence([0], cell, steps, norms[::-1], aligned=norms, carried=norms, **more)  # type: ignore[arg-type]


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


def test_a_finding_puts_theory_beside_what_was_measured() -> None:
    found = only(recurrence(Case(run(told("rnn_tanh", 0.7, 41, radius=0.7, sigma=0.9, lyapunov=[-0.357], reach=12)))))
    assert (found.symptom, found.cause) == ("vanishing", "recurrence")
    assert (found.place.file, found.place.line) == ("net.py", 7) if found.place else False
    assert found.evidence["decades"] == pytest.approx(-6.196, abs=1e-3)
    assert found.evidence["predicted_decades"] == pytest.approx(-6.196, abs=1e-3)
    assert (found.evidence["gain_per_time_step"], found.evidence["spectral_radius"], found.evidence["reach"]) == (
        0.7,
        0.7,
        12,
    )
    assert "predicts ×0.7 per step: the weight" in found.summary
    assert [r.kind for r in found.remedies] == ["orthogonal-recurrence", "gated-cell", "rescale-init"]


def test_where_the_weight_would_keep_the_gradient_the_activation_is_named() -> None:
    found = only(recurrence(Case(run(told("rnn_tanh", 0.5, 30, radius=1.3)))))
    assert "spectral radius 1.3; the rest is taken by the slope of the activation" in found.summary


def test_explosion_is_told_and_clipping_comes_first_for_a_gated_cell() -> None:
    found = only(recurrence(Case(run(told("lstm", 1.3, 30)))))
    assert found.symptom == "exploding"
    assert found.remedies[0].kind == "clip-gradient"
    assert recurrence(Case(run(told("lstm", 1.1, 30)))) == []  # 1.2 decades: nearly


@pytest.mark.parametrize(
    ("cell", "gain", "losses", "confidence"),
    [
        ("rnn_tanh", 0.7, (1.0, 1.0, 1.0, 0.9), 0.87),
        ("rnn_tanh", 0.7, (1.0, 0.8, 0.5, 0.3), 0.4),  # it learns
        ("lstm", 0.6, (1.0,) * 100, 0.6),
        ("lstm", 0.6, (1.0,) * 99, 0.4),  # it has only begun
        ("lstm", 0.6, (1.0, 0.7) * 10 + (0.7,) * 90, 0.4),  # it moves
        ("lstm", 0.8, (1.0,) * 100, None),  # gates half closed
    ],
)
def test_how_sure(cell: str, gain: float, losses: tuple[float, ...], confidence: float | None) -> None:
    found = recurrence(Case(run(told(cell, gain, 40), losses=losses)))
    assert [f.confidence for f in found] == ([] if confidence is None else [pytest.approx(confidence, abs=0.01)])


def test_gates_that_open_by_the_last_probe_are_no_fault() -> None:
    case = run(told("lstm", 0.6, 40), losses=(1.0,) * 100, probes=2)
    assert only(recurrence(Case(case))).confidence == 0.6
    case.probes[1].recurrent = [told("lstm", 0.98, 40)]
    assert only(recurrence(Case(case))).confidence < 0.5


def test_one_finding_per_operation_and_the_worst_layer_is_named() -> None:
    layers = [told("rnn_tanh", g, 30, layer=k) for k, g in enumerate((0.7, 0.5, 1.0))]
    found = only(recurrence(Case(run(*layers))))
    assert (found.evidence["layer"], found.evidence["direction"]) == (1, "forwards")
    assert "(layer 1)" in found.summary


def test_the_memory_of_an_lstm_is_judged_not_its_output() -> None:
    one = told("lstm", 0.6, 40)
    one.aligned, one.memory = [], [1.0] * 40
    assert recurrence(Case(run(one))) == []


def test_the_course_of_a_gradient() -> None:
    assert course([0.0, 0.0, 1.0]) is None  # a layer read backwards whose last output alone is used
    underflown = course([1.0, 1e-20, 1e-40, 0.0, 0.0])
    assert underflown is not None
    assert underflown.decades == -40
    flat = course([1.0] * 20)
    assert flat is not None
    assert (flat.decades, flat.reach) == (0.0, 19)


# ── live ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured shall not depend on how busy the machine is."""
    monkeypatch.setattr("gradientflow.depth.watch.overtime.OVER_TIME", 1e6)


class Reader(nn.Module):
    def __init__(self, rnn: nn.RNNBase, every: bool = False) -> None:
        super().__init__()
        self.rnn, self.head, self.every = rnn, nn.Linear(rnn.hidden_size, 2), every  # HERE

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out if self.every else out[:, -1])


def train(net: Reader, length: int, at: int, steps: int = 3, lr: float = 1e-3, times: float = 1.0) -> None:
    """Tell the sign of the number that was read at time `at`; with a loss at every step, of the one just read."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        x = torch.randn(32, length, 4)
        optimizer.zero_grad()
        if net.every:
            loss = F.cross_entropy(net(x).flatten(0, 1), (x[:, :, 0] > 0).long().flatten())
        else:
            loss = F.cross_entropy(net(x), (x[:, at, 0] > 0).long())
        (times * loss).backward()
        optimizer.step()


def rnn(gain: float, cell: Callable[..., nn.RNNBase] = nn.RNN, **more: object) -> nn.RNNBase:
    torch.manual_seed(0)
    net = cell(4, 32, batch_first=True, **more)
    nn.init.orthogonal_(net.weight_hh_l0, gain=gain)
    return net


@pytest.mark.parametrize("times", [1.0, 1e-6, 1e6])
def test_a_contracting_tanh_kernel_vanishes(times: float) -> None:
    found = top(
        verdict_of(lambda: train(Reader(rnn(0.8)), 50, 0, times=times)),
        "vanishing",
        "recurrence",
        here(Reader.__init__),
    )
    assert found.evidence["time_steps"] == 50
    assert 0.5 < found.evidence["gain_per_time_step"] < 0.8
    assert found.evidence["spectral_radius"] == pytest.approx(0.8, abs=0.01)
    assert found.evidence["predicted_decades"] == pytest.approx(49 * -0.0969, rel=0.03)
    assert found.evidence["lyapunov_exponent"] < -0.2
    assert found.evidence["reach"] < 20


def test_a_relu_kernel_drawn_too_large_explodes() -> None:
    net = rnn(1.5, nonlinearity="relu")
    found = top(verdict_of(lambda: train(Reader(net), 50, 0)), "exploding", "recurrence", here(Reader.__init__))
    assert found.evidence["gain_per_time_step"] > 1.05
    assert found.evidence["spectral_radius"] == pytest.approx(1.5, abs=0.02)


def test_a_cell_in_a_loop_vanishes_too() -> None:
    torch.manual_seed(1)
    cell, head = nn.RNNCell(4, 32), nn.Linear(32, 2)

    def loop() -> None:
        optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=1e-3)
        for _ in range(3):
            x = torch.randn(16, 30, 4)
            h = torch.zeros(16, 32)
            for t in range(30):
                h = cell(x[:, t], h)  # HERE
            optimizer.zero_grad()
            F.cross_entropy(head(h), (x[:, 0, 0] > 0).long()).backward()
            optimizer.step()

    found = top(verdict_of(loop), "vanishing", "recurrence")
    assert found.place is not None
    assert found.place.op == "rnn_tanh_cell"
    assert found.evidence["spectral_radius"] < 0.8


def silent(train: Callable[[], None]) -> None:
    verdict = verdict_of(train, every=5)
    assert [f.summary for f in verdict.findings if f.cause == "recurrence"] == []
    assert verdict.symptom == "healthy", verdict.summary


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_a_gated_cell_on_a_short_task_that_it_learns_is_healthy(cell: Callable[..., nn.RNNBase]) -> None:
    torch.manual_seed(2)
    silent(lambda: train(Reader(cell(4, 32, batch_first=True)), 12, 9, steps=50, lr=2e-2))


def test_a_loss_at_every_step_does_not_look_like_vanishing() -> None:
    silent(lambda: train(Reader(rnn(0.5), every=True), 40, 0, steps=40, lr=1e-2))


def test_an_orthogonal_kernel_near_zero_is_healthy() -> None:
    """The twin of the kernels above: its weight keeps the gradient, and small states keep tanh straight."""
    net = rnn(1.0)
    nn.init.normal_(net.weight_ih_l0, std=0.02)
    verdict = verdict_of(lambda: train(Reader(net), 50, 0))
    assert [f.summary for f in verdict.findings if f.cause == "recurrence"] == []


def test_a_loss_that_enters_late_on_the_way_does_not_look_like_growth() -> None:
    """A layer that reads backwards, below one that reads forwards to the end: its gradient comes in at its oldest state."""
    torch.manual_seed(3)
    net = Reader(nn.LSTM(4, 16, num_layers=2, bidirectional=True, batch_first=True))
    net.head = nn.Linear(32, 2)
    verdict = verdict_of(lambda: train(net, 40, 38))
    assert [f.summary for f in verdict.findings if f.symptom == "exploding"] == []
