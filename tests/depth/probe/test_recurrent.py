"""Opaque recurrent kernels, run again step by step: against loops written by hand, the kernel's own gradients, and theory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.overrides import TorchFunctionMode

from gradientflow.depth.probe.cells import Weights, step, tangent
from gradientflow.depth.probe.lyapunov import directions, exponents, largest_singular, spectral_radius
from gradientflow.depth.probe.opaque import OPAQUE, Call, capture, noise_before
from gradientflow.depth.probe.recurrent import measure, reach
from gradientflow.depth.probe.unroll import unroll
from gradientflow.records import Recurrence

KINDS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}


class Keep(TorchFunctionMode):
    """Keeps the one opaque call made below it."""

    call: Call | str | None = None

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        noise = noise_before(name, args) if name in OPAQUE else None
        out = func(*args, **(kwargs or {}))
        if name in OPAQUE:
            self.call = capture(0, name, args, out, noise)
        return out


def kept(net: nn.RNNBase, x: Tensor | PackedSequence, loss: Callable[[Any, Any], Tensor]) -> Call:
    """Run a net forward and backward, and return what was kept of it, as the watcher does."""
    with Keep() as mode:
        out, state = net(x)
    call = mode.call
    assert isinstance(call, Call), call
    ends = [out.data if isinstance(out, PackedSequence) else out, *(state if isinstance(state, tuple) else [state])]
    grads = torch.autograd.grad(loss(ends[0], ends[1]), ends, retain_graph=True, allow_unused=True)
    for role, g in enumerate(grads):
        if g is not None:
            call.arrives(call.roles.index(role), g)
    return call


def measured(call: Call) -> list[Recurrence]:
    found = measure(call)
    assert not isinstance(found, str), found
    return found


def by_hand(net: nn.RNNBase, x: Tensor, mix: Tensor, only_last: bool = False) -> list[list[Tensor]]:
    """∂L/∂h_t per layer and direction by t, of L = Σ mix·output, from a loop over nn.*Cell: x is (steps, rows, inputs)."""
    made = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN_TANH": nn.RNNCell}.get(net.mode)
    found: list[list[Tensor]] = []
    for layer in range(net.num_layers):
        outs = []
        for direction in range(2 if net.bidirectional else 1):
            cell: Any = (
                made(x.shape[2], net.hidden_size)
                if made
                else nn.RNNCell(x.shape[2], net.hidden_size, nonlinearity="relu")
            )
            end = f"_l{layer}" + ("_reverse" if direction else "")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(cell, name, getattr(net, name + end))
            state: Any = None
            hs: list[Any] = [None] * len(x)
            for t in reversed(range(len(x))) if direction else range(len(x)):
                state = cell(x[t], state)
                hs[t] = state[0] if isinstance(state, tuple) else state
            found.append(hs)
            outs.append(torch.stack(hs))
        x = torch.cat(outs, dim=2)
    x = x * torch.eye(len(x))[-1][:, None, None] if only_last else x
    flat = [h for hs in found for h in hs]
    grads = torch.autograd.grad((x * mix).sum(), flat, allow_unused=True)
    return [
        [torch.zeros_like(flat[0]) if g is None else g for g in grads[i : i + len(x)]]
        for i in range(0, len(flat), len(x))
    ]


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_at_every_state_is_that_of_a_loop_written_by_hand(kind: str, both: bool) -> None:
    torch.manual_seed(1)
    net = KINDS[kind](3, 5, num_layers=2, bidirectional=both, batch_first=True)
    x = torch.randn(4, 9, 3)
    mix = torch.randn(9, 4, 10 if both else 5)
    found = measured(kept(net, x, lambda out, _: (out.transpose(0, 1) * mix).sum()))
    wanted = by_hand(net, x.transpose(0, 1), mix)
    assert [(r.layer, r.backwards) for r in found] == (
        [(0, False), (0, True), (1, False), (1, True)] if both else [(0, False), (1, False)]
    )
    for record, grads in zip(found, wanted, strict=True):
        norms = [float(g.norm()) for g in grads]
        assert record.norms == pytest.approx(norms, rel=1e-5)
        assert record.norms[::-1] != pytest.approx(norms, rel=1e-2)  # negative control: time runs the right way
        assert (record.cell, record.steps, record.rows, record.batch) == (kind, 9, 4, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_at_the_input_is_the_kernels_own(kind: str) -> None:
    torch.manual_seed(2)
    net = KINDS[kind](3, 5, num_layers=2, bidirectional=True)
    x = torch.randn(9, 4, 3, requires_grad=True)
    mix = torch.randn(9, 4, 10)
    call = kept(net, x, lambda out, state: (out * mix).sum() + state.sum())
    out, state = net(x)
    (truth,) = torch.autograd.grad((out * mix).sum() + (state[0] if kind == "lstm" else state).sum(), x)
    call.x.requires_grad_()
    layers, output = unroll(call)
    ends = torch.stack([one.last[0] for one in layers])
    (again,) = torch.autograd.grad([output, ends], call.x, [call.grads[0], call.grads[1]])
    torch.testing.assert_close(again, truth, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output, out, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(again, truth * 1.001, rtol=1e-5, atol=1e-6)  # negative control
    assert all(p.grad is None for p in net.parameters())


def test_a_projection_is_run_again_too() -> None:
    torch.manual_seed(3)
    net = nn.LSTM(3, 6, num_layers=2, proj_size=2, bidirectional=True).double()
    x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    call = kept(net, x, lambda out, _: (out**2).sum())
    (truth,) = torch.autograd.grad((net(x)[0] ** 2).sum(), x)
    call.x.requires_grad_()
    _, output = unroll(call)
    (again,) = torch.autograd.grad(output, call.x, call.grads[0])
    torch.testing.assert_close(again, truth)
    found = measured(call)
    assert len(found) == 4
    assert all(len(r.memory) == 7 and r.error is not None and r.error < 1e-12 for r in found)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_packed_rows_are_measured_as_if_each_were_alone(kind: str) -> None:
    torch.manual_seed(4)
    net = KINDS[kind](3, 5, num_layers=2, bidirectional=True)
    rows = [torch.randn(n, 3) for n in (7, 5, 4, 2)]
    packed = pack_sequence(rows)
    mixes = [torch.randn(len(row), 1, 10) for row in rows]
    mix = pack_sequence([m[:, 0] for m in mixes]).data
    found = measured(kept(net, packed, lambda out, _: (out * mix).sum()))
    alone = [by_hand(net, row.unsqueeze(1), m) for row, m in zip(rows, mixes, strict=True)]
    for k, record in enumerate(found):
        wanted = [math.hypot(*(float(a[k][t].norm()) for a in alone if t < len(a[k]))) for t in range(7)]
        assert record.norms == pytest.approx(wanted, rel=1e-5)
        assert record.lengths == [7, 5, 4, 2]
        if kind == "gru":  # steps back from each row's own newest state
            back = [[g.norm() for g in (a[k] if record.backwards else a[k][::-1])] for a in alone]
            wanted = [math.hypot(*(float(b[t]) for b in back if t < len(b))) for t in range(7)]
            assert record.aligned == pytest.approx(wanted, rel=1e-5)
            unaligned = record.norms if record.backwards else record.norms[::-1]
            assert record.backwards == (unaligned == pytest.approx(wanted, rel=1e-3))  # negative control


@pytest.mark.parametrize("packed", [False, True])
def test_masks_of_dropout_between_layers_are_drawn_again_without_touching_the_scripts_random_numbers(
    packed: bool,
) -> None:
    torch.manual_seed(5)
    net = nn.LSTM(3, 5, num_layers=3, dropout=0.4, bidirectional=True)
    x: Any = pack_sequence([torch.randn(n, 3) for n in (7, 5, 2)]) if packed else torch.randn(7, 3, 3)
    call = kept(net, x, lambda out, _: (out**2).sum())
    before = torch.get_rng_state()
    found = measured(call)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(r.error is not None and r.error < 1e-5 for r in found)
    call.noise = torch.Generator().manual_seed(6).get_state()  # negative control: other masks
    assert "differ from the script's" in str(measure(call))


@pytest.mark.parametrize("rho", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu"])
def test_a_linear_orthogonal_recurrence_is_rho_to_the_t(kind: str, rho: float) -> None:
    """tanh near zero, ReLU on positive states under a permutation: 0.9^100 = 2.656e-5, 1.1^100 = 13780.6."""
    torch.manual_seed(7)
    net = KINDS[kind](4, 16, bias=False).double()
    square = nn.init.orthogonal_(torch.empty(16, 16)) if kind == "rnn_tanh" else torch.eye(16)[torch.randperm(16)]
    with torch.no_grad():
        net.weight_hh_l0.copy_(rho * square)
        net.weight_ih_l0.abs_()
    x = torch.zeros(101, 8, 4, dtype=torch.float64)
    x[0] = 1e-9 if kind == "rnn_tanh" else 1.0
    (record,) = measured(kept(net, x, lambda out, _: out[-1].sum()))
    truth = {0.9: 2.656e-5, 1.0: 1.0, 1.1: 13780.6}[rho]
    assert record.norms[0] / record.norms[-1] == pytest.approx(truth, rel=0.03)
    assert record.norms[0] / record.norms[-1] != pytest.approx(truth * 1.001**100, rel=0.03)  # negative control
    assert record.radius == pytest.approx(rho, rel=1e-3)
    assert record.sigma == pytest.approx(rho, rel=1e-3)
    assert record.step_radius == pytest.approx(rho, rel=1e-3)
    assert record.lyapunov[0] == pytest.approx(math.log(rho), abs=1e-3)
    assert record.reach == (43 if rho == 0.9 else 100)  # 0.9^43 = 1.08 %, 0.9^44 = 0.97 %


def test_a_loss_at_every_step_hides_what_the_recurrence_carries_and_both_are_told() -> None:
    torch.manual_seed(8)
    net = nn.RNN(4, 16)
    nn.init.orthogonal_(net.weight_hh_l0, gain=0.5)
    call = kept(net, torch.randn(40, 4, 4) * 0.1, lambda out, _: (out * torch.ones(16)).sum())
    (record,) = measured(call)
    assert max(record.norms) < 4 * min(record.norms)
    assert record.carried[-1] < 1e-9 * record.carried[0]
    assert record.carried[0] == pytest.approx(record.norms[-1], rel=1e-5)
    assert record.reach is not None
    assert record.reach <= 7


# ── stretching ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "gru", "lstm", "lstm projected"])
def test_the_tangent_of_a_step_is_its_jacobian(kind: str) -> None:
    torch.manual_seed(9)
    cell, n, p = kind.split()[0], 5, 3 if "projected" in kind else 5
    gates = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}[cell]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    w = Weights(draw(gates * n, 2), draw(gates * n, p), None, draw(gates * n), draw(p, n) if p < n else None)
    fed, h, c = draw(1, gates * n), draw(1, p), draw(1, n) if cell == "lstm" else None
    moment = step(cell, w, fed, h, c)

    def through(state: Tensor) -> Tensor:
        after = step(cell, w, fed, state[:, :p], state[:, p:] if c is not None else None)
        return after.h if after.c is None else torch.cat([after.h, after.c], dim=1)

    state = h if c is None else torch.cat([h, c], dim=1)
    truth = torch.autograd.functional.jacobian(through, state)[0, :, 0]
    eye = torch.eye(state.shape[1], dtype=torch.float64).unsqueeze(0)
    torch.testing.assert_close(tangent(cell, w, moment, eye)[0], truth)
    other = step(cell, w, -fed, -h, c)
    assert not torch.allclose(tangent(cell, w, other, eye)[0], truth, rtol=1e-3)  # negative control


def test_lyapunov_exponents_of_a_linear_map_are_the_logs_of_its_eigenvalues() -> None:
    torch.manual_seed(10)
    values = torch.tensor([1.1, 0.8, 0.5, 0.2], dtype=torch.float64)
    basis = torch.randn(4, 4, dtype=torch.float64)
    a = basis @ torch.diag(values) @ torch.linalg.inv(basis)
    found = exponents([lambda q: a @ q] * 400, directions(2, 4, 4, a), 100)
    assert found == pytest.approx(values.log().tolist(), abs=0.01)
    stretched = torch.linalg.svdvals(a).log().tolist()
    assert found != pytest.approx(stretched, abs=0.1)  # negative control: not those of one step
    with pytest.raises(ValueError, match="more than 400"):
        exponents([lambda q: a @ q] * 400, directions(2, 4, 4, a), 400)


def test_radius_and_norm_of_a_large_matrix_are_iterated() -> None:
    torch.manual_seed(11)
    w = torch.randn(300, 300) / 300**0.5
    assert spectral_radius(w) == pytest.approx(float(torch.linalg.eigvals(w).abs().max()), rel=0.03)
    assert largest_singular(w) == pytest.approx(float(torch.linalg.svdvals(w)[0]), rel=0.02)
    assert largest_singular(w) != pytest.approx(spectral_radius(w), rel=0.2)  # negative control


def test_reach_ends_where_less_than_a_hundredth_is_left() -> None:
    assert reach([1.0, 0.1, 0.011, 0.009]) == 2
    assert reach([1.0, 1.0]) == 1
    assert reach([0.0, 0.0]) is None
    assert reach([]) is None
    assert reach([1.0, math.nan]) is None


# ── what is not measured ─────────────────────────────────────────────────────────────────────────────────────────────


def test_one_time_step_hides_no_recurrence() -> None:
    with Keep() as mode:
        nn.GRU(2, 3)(torch.randn(1, 4, 2))
    assert mode.call is None


def test_a_call_that_is_not_one_of_pytorchs_own_modules_is_told() -> None:
    net: Any = nn.GRU(2, 3)
    with Keep() as mode:
        torch.gru(
            torch.randn(4, 1, 2), torch.zeros(1, 1, 3), net._flat_weights, has_biases=True, num_layers=1, dropout=0.5,
            train=True, bidirectional=False, batch_first=False,
        )  # fmt: skip
    assert mode.call == "gru was called with arguments by name"


def test_weights_changed_before_the_backward_pass_ended_are_noticed() -> None:
    torch.manual_seed(12)
    net = nn.GRU(3, 5)
    call = kept(net, torch.randn(9, 4, 3), lambda out, _: out.sum())
    assert isinstance(measure(call), list)
    with torch.no_grad():
        net.weight_hh_l0.mul_(1.1)
    assert "weights were changed" in str(measure(call))


def test_a_kernel_under_autocast_is_held_to_its_own_precision() -> None:
    torch.manual_seed(14)
    net, x = nn.GRU(4, 8, num_layers=2), torch.randn(12, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        call = kept(net, x, lambda out, _: (out.float() ** 2).sum())
    found = measured(call)
    exact = measured(kept(net, x, lambda out, _: (out**2).sum()))
    assert found[0].error is not None
    assert found[0].error > 1e-4
    assert found[0].norms == pytest.approx(exact[0].norms, rel=0.1)
    call.precision = torch.float32  # negative control
    assert "differ from the script's" in str(measure(call))


def test_a_chaotic_recurrence_is_measured_although_it_magnifies_the_rounding_of_its_kernel() -> None:
    torch.manual_seed(13)
    net = nn.RNN(2, 64)
    nn.init.normal_(net.weight_hh_l0, std=3 / 8)
    x = torch.randn(200, 4, 2)
    call = kept(net, x, lambda out, _: out[-1].sum())
    call.x += 1e-6 * torch.randn_like(call.x)  # as another order of summation would
    (record,) = measured(call)
    assert record.error is not None
    assert record.error > 0.1
    assert record.lyapunov[0] > 0.1


def test_too_much_work_takes_fewer_rows_and_then_none() -> None:
    net = nn.RNN(64, 512)
    with Keep() as mode:
        net(torch.randn(100, 64, 64))
    assert isinstance(mode.call, Call)
    assert 1 <= len(mode.call.lengths) < 32
    assert mode.call.batch == 64
    with Keep() as mode:
        net(torch.randn(1, 1, 64).expand(3000, 2, 64))
    assert "3000 time steps" in str(mode.call)
