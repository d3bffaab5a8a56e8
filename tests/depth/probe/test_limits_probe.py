"""The limits of what is measured on a probed step, each from both sides.

Of `gradientflow.depth.probe.stats`, `gradientflow.depth.probe.lyapunov`, `gradientflow.depth.probe.jacobian`,
`gradientflow.depth.probe.opaque`, `gradientflow.depth.probe.recurrent` and `gradientflow.limits`.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gradientflow.depth.probe import jacobian, lyapunov, opaque
from gradientflow.depth.probe.attention import score_stat
from gradientflow.depth.probe.chain import Chain
from gradientflow.depth.probe.opaque import Call
from gradientflow.depth.probe.recurrent import SAME, SAME_ELSE, measure, reach
from gradientflow.depth.probe.stats import grad_stat, value_stat
from tests.depth.causes.by_hand import flips, turns
from tests.depth.probe.test_recurrent import Keep, kept

# ── numbers of one tensor ────────────────────────────────────────────────────────────────────────────────────────────


def scores(weight: float) -> Tensor:
    """Two scores of which the first gets this weight."""
    return torch.tensor([[math.log(weight / (1 - weight)), 0.0]])


def test_a_row_is_one_hot() -> None:
    flips(lambda w: value_stat(torch.softmax(scores(w), 1), "softmax").saturated, 0.9895, 0.9905)


def test_a_row_of_an_attention_is_one_hot_by_the_same_limit() -> None:
    def hot(weight: float) -> float | None:
        keys = scores(weight).reshape(1, 2, 1)
        return score_stat("scaled_dot_product_attention", (torch.ones(1, 1, 1), keys, keys), {})[0]

    flips(hot, 0.9895, 0.9905)


@pytest.mark.parametrize("op", ["sigmoid", "tanh"])
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_an_output_at_the_end_of_its_range(op: str, end: float) -> None:
    def saturated(share: float) -> float | None:
        at = abs(end - share)
        return value_stat(torch.tensor([at if op == "sigmoid" else 2 * at - 1]), op).saturated

    flips(saturated, 0.0255, 0.0245)


def test_a_norm_whose_squares_underflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which way it was taken shows in how often a norm was: the second time scaled by the largest entry."""
    taken: list[int] = []
    real = torch.linalg.vector_norm

    def counted(x: Tensor, *args: object, **more: object) -> Tensor:
        taken.append(x.numel())
        return real(x, *args, **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch.linalg, "vector_norm", counted)

    def scaled(norm: float) -> bool:
        taken.clear()
        grad_stat(torch.tensor([norm], dtype=torch.float64))
        return len(taken) > 2

    flips(scaled, 1.02e-18, 0.98e-18)


# ── over time ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_how_far_back_a_gradient_reaches() -> None:
    turns(lambda left: reach([1.0, 0.5, left]), 0.98e-2, 1.02e-2, (1, 2))


@pytest.mark.parametrize("of", [lyapunov.spectral_radius, lyapunov.largest_singular])
def test_up_to_which_size_a_spectrum_is_computed(monkeypatch: pytest.MonkeyPatch, of: object) -> None:
    def iterated(size: float) -> bool:
        asked: list[int] = []
        monkeypatch.setattr(lyapunov, "_grown", lambda *a: asked.append(1) or 1.0)
        of(torch.eye(int(size)))  # type: ignore[operator]
        return bool(asked)

    flips(iterated, 128, 129)


def exponents_of(steps: float) -> list[float]:
    net = nn.RNN(1, 2)
    torch.manual_seed(0)
    (found,) = measure(kept(net, torch.randn(int(steps), 3, 1), lambda out, state: out.sum()))
    return found.lyapunov  # type: ignore[union-attr]


def test_steps_that_say_something_of_a_rate() -> None:
    flips(exponents_of, 3, 4)


def test_steps_of_a_loop_that_say_something_of_a_rate() -> None:
    def found(steps: float) -> list[float]:
        w = nn.Parameter(torch.eye(2) * 0.5)
        states = [torch.ones(3, 2, requires_grad=True) * 1.0]
        for _ in range(int(steps)):
            states.append(torch.tanh(states[-1] @ w))
        outputs = [[(s.grad_fn, s.output_nr, s.numel())] for s in states]
        passed = Chain(outputs, [3, 2]).measure(states[-1].sum(), 100.0)  # type: ignore[arg-type]
        assert passed is not None
        return passed[1]

    flips(found, 3, 4)


def test_the_size_of_a_state_whose_step_has_its_spectrum() -> None:
    def radius(size: float) -> float | None:
        torch.manual_seed(0)
        (found,) = measure(kept(nn.RNN(1, int(size)), torch.randn(4, 1, 1), lambda out, state: out.sum()))
        return found.step_radius  # type: ignore[union-attr]

    flips(lambda size: radius(size) is None, 128, 129)


KINDS = [*SAME.items(), (torch.float8_e4m3fn, SAME_ELSE)]


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(k, float(x)) for k, x in zip([k for k, _ in KINDS], (1e-8, 2e-3, 3e-2, 1e-1, 1e-2), strict=True)],
)
def test_a_run_again_must_give_what_the_kernel_gave(kind: torch.dtype, limit: float) -> None:
    def differs(error: float) -> bool:
        torch.manual_seed(0)
        net = nn.RNN(1, 4).double()
        call = kept(net, torch.randn(5, 3, 1).double(), lambda out, state: out.sum())
        call.precision = kind
        call.outputs[0] = call.outputs[0] + error * call.outputs[0].abs().max()
        call.outputs[1] = call.outputs[1] * 1.0
        return isinstance(measure(call), str)

    flips(differs, 0.98 * limit, 1.02 * limit)


# ── what one re-run may cost ─────────────────────────────────────────────────────────────────────────────────────────


def captured(hidden: int, steps: int, batch: int, **more: object) -> Call | str | None:
    net = nn.RNN(hidden, hidden, bias=False, **more)  # type: ignore[arg-type]
    with Keep() as mode:
        net(torch.zeros(steps, batch, hidden))
    return mode.call


def test_rows_that_a_re_run_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of one row takes 6 operations a weight: here 2·4·4 weights and 10 steps, 1920."""
    for share, rows in ((2.9, 2), (3.1, 3)):
        monkeypatch.setattr(opaque, "WORK", share * 1920)
        call = captured(4, 10, 8)
        assert isinstance(call, Call) and call.x.shape[1] == rows
    monkeypatch.setattr(opaque, "WORK", 0.9 * 1920)
    assert "would cost too much" in str(captured(4, 10, 8))


def test_the_work_of_a_re_run() -> None:
    """6 operations a weight and step: 500 steps of a million weights are 3·10⁹."""

    def too_much(steps: float) -> bool:
        weights = [torch.empty(500, 1000), torch.empty(500, 1000)]  # 10⁶ in both
        data, start = torch.zeros(int(steps), 1, 1000), torch.zeros(1, 1, 500)
        args = (data, start, weights, False, 1, 0.0, False, False, False)
        out = (torch.zeros(int(steps), 1, 500), start)
        return "too much" in str(opaque.capture(0, "rnn_tanh", args, out, None))

    flips(too_much, 499, 501)


def test_the_work_of_a_whole_batch() -> None:
    def too_much(batch: float) -> bool:
        weights = [torch.empty(500, 1000)] * 2
        n = int(batch)
        data, start = torch.zeros(100, n, 1000), torch.zeros(2, n, 500)
        args = (data, start, [*weights, *weights], False, 2, 0.5, True, False, False)
        out = (torch.zeros(100, n, 500), start)
        return "too much" in str(opaque.capture(0, "rnn_tanh", args, out, torch.get_rng_state()))

    flips(too_much, 10, 11)  # 6 · 100 · 2·10⁶ a row: ten of them are 1.2·10¹⁰, four times what a re-run may take


# ── Jacobians ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Way:
    """A stretch that is only as wide as it says; its passes take as long as the clock says."""

    def __init__(self, outputs: float) -> None:
        self.outputs, self.rows = int(outputs), 1

    def signs(self, rows: int) -> None: ...
    def pull(self, v: object) -> None: ...


def taken(monkeypatch: pytest.MonkeyPatch, outputs: float, *, top: float | None = 1.0, passes: float = math.inf) -> str:
    """How a stretch is measured: all of it, sampled, or not at all."""
    ticks = iter((0.0, 1.0))
    monkeypatch.setattr(jacobian, "Way", lambda *a: Way(outputs))
    monkeypatch.setattr(jacobian, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(jacobian, "_all_of_it", lambda *a: "all of it")
    monkeypatch.setattr(jacobian, "_sampled", lambda *a: SimpleNamespace(top=top))
    try:
        found = jacobian.measure(None, 0, 1, seconds=passes)  # type: ignore[arg-type]
    except RuntimeError:
        return "not at all"
    return found if isinstance(found, str) else "sampled"


def test_outputs_of_which_all_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    turns(lambda outputs: taken(monkeypatch, outputs), 256, 257, ("all of it", "sampled"))


def test_outputs_of_which_all_is_taken_without_a_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    turns(lambda outputs: taken(monkeypatch, outputs, top=None), 2048, 2049, ("all of it", "sampled"))


def test_passes_that_there_must_be_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of 3 · (16 + 24) is 24."""
    turns(lambda passes: taken(monkeypatch, 1000, passes=passes), 23.8, 24.2, ("not at all", "sampled"))


def test_samples_that_mix() -> None:
    def mixes(share: float) -> bool:
        way = object.__new__(jacobian.Way)
        way.rows, way._to, way._like = 2, (2, 1), torch.empty(0, dtype=torch.float64)
        way._generator = torch.Generator().manual_seed(0)
        outside = math.sqrt(share / (1 - share))
        way.pull = lambda v: v.flip(1) * outside + v  # type: ignore[method-assign, assignment]
        return way._mixes()

    flips(mixes, 0.98e-10, 1.02e-10)
