"""Every cause on a real little training run: the right symptom, cause and line; and silence on its healthy twin.

A line that a test expects to be named carries the comment `HERE`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradientflow.depth.causes import judge
from gradientflow.records import Finding, Verdict
from tests.truth.watching import watched


def verdict_of(train: Callable[[], None], every: int | None = 1) -> Verdict:
    with watched(every) as run:
        train()
    run.meta.sources[_file()] = Path(__file__).read_text(encoding="utf-8")
    found = judge(run)
    assert found.watch.errors == []
    return found


def _file() -> str:
    path = Path(__file__)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def here(*functions: object) -> set[int]:
    """Lines marked HERE in the source of functions or classes."""
    lines = set()
    for thing in functions:
        text, first = inspect.getsourcelines(thing)  # type: ignore[arg-type]
        lines |= {first + i for i, line in enumerate(text) if "# HERE" in line}
    assert lines
    return lines


def top(verdict: Verdict, symptom: str, cause: str, lines: set[int] | None = None) -> Finding:
    assert verdict.findings, verdict.summary
    found = verdict.findings[0]
    assert (found.symptom, found.cause) == (symptom, cause), found.summary
    assert verdict.symptom == symptom
    if lines is not None:
        assert found.place is not None
        assert found.place.line in lines, found.summary
    assert found.evidence
    assert found.remedies
    assert all(r.replayed is None for r in found.remedies)
    return found


def healthy(verdict: Verdict) -> None:
    assert verdict.symptom == "healthy", verdict.summary
    assert verdict.findings == []


def data(n: int = 128, d: int = 16, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g)
    return x, (x @ torch.randn(d, classes, generator=g)).argmax(1)


def fit(net: nn.Module, steps: int = 12, lr: float = 0.05, scale: float = 1.0, momentum: float = 0.0) -> None:
    x, y = data()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr / scale, momentum=momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        (scale * F.cross_entropy(net(x), y)).backward()
        optimizer.step()


class Stack(nn.Module):
    def __init__(self, depth: int, activation: Callable[[Tensor], Tensor], width: int = 32) -> None:
        super().__init__()
        sizes = [16] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(width, 4)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.activation(layer(x))  # HERE
        return self.head(x)

    def scaled(self, gain: float) -> Stack:
        for layer in self.layers:
            std = gain / math.sqrt(layer.in_features)  # type: ignore[arg-type]
            nn.init.normal_(layer.weight, std=std)  # type: ignore[arg-type] # HERE
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return self


# ── depth ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_deep_sigmoids_vanish_whatever_the_unit_of_the_loss(scale: float) -> None:
    torch.manual_seed(0)
    verdict = verdict_of(lambda: fit(Stack(8, torch.sigmoid).scaled(1.0), scale=scale))
    found = top(verdict, "vanishing", "saturating-activation", here(Stack.forward))
    assert found.evidence["decades"] == pytest.approx(-5.0, abs=0.6)
    assert verdict.budget.body_decades == pytest.approx(found.evidence["decades"], rel=1e-3)


def test_weights_too_small_vanish() -> None:
    torch.manual_seed(0)
    found = top(
        verdict_of(lambda: fit(Stack(12, torch.relu).scaled(0.7))), "vanishing", "init-too-small", here(Stack.scaled)
    )
    assert found.evidence["weight_gain"] == pytest.approx(0.7, rel=0.1)
    assert found.evidence["critical_gain"] == pytest.approx(math.sqrt(2), rel=0.01)


def test_weights_too_large_explode() -> None:
    torch.manual_seed(0)
    found = top(
        verdict_of(lambda: fit(Stack(12, torch.relu).scaled(4.0), steps=1)),
        "exploding",
        "init-too-large",
        here(Stack.scaled),
    )
    assert found.evidence["weight_gain"] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_weights_at_the_right_size_are_healthy_whatever_the_unit_of_the_loss(scale: float) -> None:
    torch.manual_seed(0)
    healthy(verdict_of(lambda: fit(Stack(8, torch.relu, 128).scaled(math.sqrt(2)), scale=scale)))


def test_a_converged_run_is_not_a_vanishing_one() -> None:
    torch.manual_seed(0)
    net = Stack(2, torch.relu, 64).scaled(math.sqrt(2))
    verdict = verdict_of(lambda: fit(net, steps=300, lr=0.5, momentum=0.9), every=50)
    assert verdict.loss.last is not None
    assert verdict.loss.last < 1e-3
    healthy(verdict)


def test_narrow_plain_depth_at_the_right_size_is_told_as_depth() -> None:
    torch.manual_seed(1)
    net = Stack(70, torch.relu, 12).scaled(math.sqrt(2))
    found = top(verdict_of(lambda: fit(net, steps=3)), "vanishing", "depth-without-skip")
    assert found.remedies[0].kind == "add-skip"


def test_units_that_start_dead() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(16, 32), nn.Linear(32, 4)
            nn.init.constant_(self.a.bias, -40.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)))  # HERE

    found = top(verdict_of(lambda: fit(Dead())), "dead", "dead-units", here(Dead))
    assert found.evidence["dead_units"] == 1.0


# ── recurrence ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Recurrent(nn.Module):
    def __init__(self, rho: float) -> None:
        super().__init__()
        self.inward, self.again, self.out = nn.Linear(8, 32), nn.Linear(32, 32, bias=False), nn.Linear(32, 2)
        nn.init.orthogonal_(self.again.weight, gain=rho)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = self.again(h) + self.inward(x[:, t])  # HERE
        return self.out(h)


def recall(rho: float, length: int) -> None:
    torch.manual_seed(0)
    net = Recurrent(rho)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for _ in range(3):
        x = torch.randn(32, length, 8)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0, 0] > 0).long()).backward()
        optimizer.step()


@pytest.mark.parametrize(("rho", "symptom"), [(1.2, "exploding"), (0.75, "vanishing")])
def test_a_recurrence_is_judged_over_time(rho: float, symptom: str) -> None:
    found = top(verdict_of(lambda: recall(rho, 40)), symptom, "recurrence", here(Recurrent.forward))
    assert found.evidence["time_steps"] == 40
    assert found.evidence["gain_per_time_step"] == pytest.approx(rho, rel=0.02)


def test_an_orthogonal_recurrence_is_healthy() -> None:
    healthy(verdict_of(lambda: recall(1.0, 40)))


# ── not finite ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.sqrt(((a - b) ** 2).sum(1))  # HERE


def _unit(a: Tensor, b: Tensor) -> Tensor:
    length = (a * a).sum(1, keepdim=True).sqrt()
    return (a / length).sum(1)  # HERE


def _log(a: Tensor, b: Tensor) -> Tensor:
    return torch.log(torch.relu(a).sum(1) * 0.0)  # HERE


def _masked_root(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a > 0, torch.sqrt(a), a).sum(1)  # HERE


def _safe(a: Tensor, b: Tensor) -> Tensor:
    return torch.sqrt(((a - b) ** 2).sum(1) + 1e-8)


def pairs(operation: Callable[[Tensor, Tensor], Tensor], zero: bool = True) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8, bias=False))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    x, _ = data(64)
    other = x.roll(1, 0).clone()
    if zero:
        other[0] = x[0]
        x = x.clone()
        x[1] = 0.0
    for _ in range(3):
        a, b = net[2](net[1](net[0](x) - net[0].bias)), net[2](net[1](net[0](other) - net[0].bias))
        optimizer.zero_grad()
        operation(a, b).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("operation", [_distance, _unit, _log, _masked_root], ids=lambda f: f.__name__)
def test_a_singular_operation_is_named_at_its_birth(operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    found = top(verdict_of(lambda: pairs(operation)), "not-finite", "singular-op", here(operation))
    assert found.evidence["step"] == 1
    assert found.confidence > 0.9
    assert found.evidence["operation"] in ("sqrt", "log", "div")


def test_the_safe_form_is_healthy() -> None:
    healthy(verdict_of(lambda: pairs(_safe)))


def _softer(a: Tensor, b: Tensor) -> Tensor:
    raised = torch.exp(1000 * a.abs())  # HERE
    return (raised / raised.sum(1, keepdim=True)).sum(1)


def test_an_overflow_is_named_where_the_inf_is_born_not_where_it_turns_nan() -> None:
    found = top(verdict_of(lambda: pairs(_softer)), "not-finite", "overflow", here(_softer))
    assert found.evidence["operation"] == "exp"


def test_a_mask_of_minus_infinity_is_no_fault() -> None:
    x, y = data(64)
    net = nn.Linear(16, 16)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def train() -> None:
        for _ in range(5):
            scores = net(x).masked_fill(torch.eye(16).bool()[:64].repeat(4, 1), -math.inf)
            optimizer.zero_grad()
            F.cross_entropy(scores.softmax(1)[:, 1:5] * 3, y).backward()
            optimizer.step()

    healthy(verdict_of(train))


def test_a_value_that_is_not_finite_in_the_data_is_the_datas_fault() -> None:
    x, y = data(64)
    x[3, 2] = math.nan
    net = nn.Linear(16, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def train() -> None:
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    top(verdict_of(train), "not-finite", "bad-batch")


# ── the step ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def quadratic(lr: float, momentum: float = 0.0, nesterov: bool = False, steps: int = 60) -> None:
    """½ Σ λ w² with sharpness exactly 8."""
    w = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([w], lr=lr, momentum=momentum, nesterov=nesterov)  # HERE
    curvature = torch.tensor([1.0, 2.0, 8.0])
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * curvature * w * w).sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("momentum", "nesterov", "limit"),
    [(0.0, False, 2 / 8), (0.9, False, 2 * 1.9 / 8), (0.9, True, 2 * 1.9 / 2.8 / 8)],
)
def test_a_step_past_the_edge_diverges_and_one_below_it_does_not(momentum: float, nesterov: bool, limit: float) -> None:
    found = top(
        verdict_of(lambda: quadratic(1.1 * limit, momentum, nesterov, 300)),
        "diverging",
        "step-too-large",
        here(quadratic),
    )
    assert found.evidence["sharpness"] == pytest.approx(8.0, rel=0.01)
    assert found.evidence["times_too_large"] == pytest.approx(1.1, rel=0.01)
    assert found.evidence["stable_below"] == pytest.approx(limit, rel=0.01)
    below = verdict_of(lambda: quadratic(0.5 * limit, momentum, nesterov))
    assert "step-too-large" not in {f.cause for f in below.findings}


# ── wiring ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_parameters_that_no_optimizer_holds() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [nn.Linear(16, 16) for _ in range(2)]  # HERE
            self.out = nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.hidden:
                x = torch.relu(layer(x))
            return self.out(x)

    def train() -> None:
        fit(Listed(), steps=5)

    found = top(verdict_of(train), "disconnected", "disconnected-parameters", here(Listed))
    assert found.evidence["without_optimizer"] == 4


def test_parameters_that_the_loss_does_not_depend_on() -> None:
    x, y = data()
    body, head, judge_of = nn.Linear(16, 16), nn.Linear(16, 4), nn.Linear(16, 4)

    def train() -> None:
        one = torch.optim.Adam(judge_of.parameters())
        two = torch.optim.Adam([*body.parameters(), *head.parameters()])
        for _ in range(6):
            features = body(x).detach()
            one.zero_grad()
            F.cross_entropy(judge_of(features), y).backward()
            one.step()
            two.zero_grad()
            F.cross_entropy(judge_of(features), y).backward()  # HERE
            two.step()

    found = top(
        verdict_of(train),
        "disconnected",
        "disconnected-parameters",
        here(test_parameters_that_the_loss_does_not_depend_on),
    )
    assert found.evidence["without_gradient"] == 4


def test_parameters_frozen_on_purpose_are_no_fault() -> None:
    body, head = nn.Linear(16, 32), nn.Linear(32, 4)
    body.requires_grad_(False)
    x, y = data()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)

    def train() -> None:
        for _ in range(10):
            optimizer.zero_grad()
            F.cross_entropy(head(torch.relu(body(x))), y).backward()
            optimizer.step()

    healthy(verdict_of(train))


def test_gradients_that_are_never_cleared() -> None:
    def train() -> None:
        torch.manual_seed(0)
        net = Stack(2, torch.relu).scaled(math.sqrt(2))
        x, y = data()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
        for _ in range(40):
            F.cross_entropy(net(x), y).backward()
            optimizer.step()  # HERE

    verdict = verdict_of(train)
    assert verdict.findings[0].cause == "missing-zero-grad"


def test_gradient_accumulation_is_no_fault() -> None:
    def train() -> None:
        torch.manual_seed(0)
        net = Stack(2, torch.relu).scaled(math.sqrt(2))
        x, y = data()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
        for _ in range(20):
            optimizer.zero_grad()
            for part in range(4):
                F.cross_entropy(net(x[part::4]), y[part::4]).backward()
            optimizer.step()

    healthy(verdict_of(train))


# ── nothing to judge ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_backward_is_not_called_healthy() -> None:
    def train() -> None:
        with torch.no_grad():
            Stack(2, torch.relu)(data()[0])

    verdict = verdict_of(train)
    assert verdict.symptom == "not-measured"
    assert "backward" in verdict.summary


def test_a_loop_without_an_optimizer_is_judged_by_its_backward_calls() -> None:
    torch.manual_seed(0)
    w = torch.randn(16, 4, requires_grad=True)
    x, y = data()

    def train() -> None:
        for _ in range(10):
            loss = F.cross_entropy(x @ w, y)
            (g,) = torch.autograd.grad(loss, [w])
            with torch.no_grad():
                w.sub_(0.5 * g)

    with watched() as run:
        train()
    assert run.meta.unit == "backward"
    assert run.meta.steps == 10
    verdict = judge(run)
    assert verdict.loss.first is not None
    assert verdict.loss.last is not None
    assert verdict.loss.last < verdict.loss.first
    healthy(verdict)


def test_steps_without_a_trace_are_not_called_healthy() -> None:
    with watched() as run:
        fit(Stack(2, torch.relu), steps=4)
    run.probes.clear()
    verdict = judge(run)
    assert verdict.symptom == "not-measured"
    assert "no operation could be traced" in verdict.summary


def test_a_backward_without_any_step_names_the_mend() -> None:
    x, y = data()

    def train() -> None:
        F.cross_entropy(Stack(2, torch.relu)(x), y).backward()

    verdict = verdict_of(train)
    assert verdict.symptom == "not-measured"
    assert "optimizer.step()" in verdict.summary


# ── data and output ──────────────────────────────────────────────────────────────────────────────────────────────────


def _twice(net: nn.Module, x: Tensor) -> Tensor:
    return torch.softmax(net(x), dim=1)  # HERE


def _once(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)  # type: ignore[no-any-return]


def classify(output: Callable[[nn.Module, Tensor], Tensor], steps: int = 15) -> None:
    torch.manual_seed(0)
    net, (x, y) = Stack(2, torch.relu, 64).scaled(math.sqrt(2)), data()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(output(net, x), y).backward()
        optimizer.step()


def test_a_softmax_before_a_loss_that_applies_it_again() -> None:
    found = top(verdict_of(lambda: classify(_twice)), "crawling", "output-activation", here(_twice))
    assert found.evidence["loss_floor"] == pytest.approx(math.log(1 + 3 / math.e), rel=1e-3)
    healthy(verdict_of(lambda: classify(_once)))


def test_what_is_computed_but_cut_off_is_named_where_it_ends() -> None:
    torch.manual_seed(0)
    body, head, (x, y) = nn.Linear(16, 32), nn.Linear(32, 4), data()

    def train() -> None:
        optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        for _ in range(12):
            features = torch.relu(body(x))
            optimizer.zero_grad()
            F.cross_entropy(head(features.detach()), y).backward()  # HERE
            optimizer.step()

    lines = here(test_what_is_computed_but_cut_off_is_named_where_it_ends)
    found = top(verdict_of(train), "disconnected", "disconnected-parameters", lines)
    assert found.evidence["without_gradient"] == 2


def test_a_spare_head_that_is_not_used_is_no_fault() -> None:
    class Spare(Stack):
        def __init__(self) -> None:
            super().__init__(2, torch.relu, 64)
            self.scaled(math.sqrt(2))
            self.spare = nn.Linear(64, 2)

    torch.manual_seed(0)
    healthy(verdict_of(lambda: fit(Spare(), steps=15)))


def test_data_out_of_scale_is_named_at_the_line_that_made_it() -> None:
    torch.manual_seed(0)
    x, y = data()
    net = Stack(2, torch.relu, 64).scaled(math.sqrt(2))

    def train() -> None:
        pixels = x * 4000.0  # HERE
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(12):
            batch = pixels[step::12]
            optimizer.zero_grad()
            F.cross_entropy(net(batch), y[step::12]).backward()
            optimizer.step()

    verdict = verdict_of(train)
    data_finding = next(f for f in verdict.findings if f.cause == "unscaled-input")
    assert data_finding.place is not None
    assert data_finding.place.line in here(test_data_out_of_scale_is_named_at_the_line_that_made_it)
    assert data_finding.evidence["input_rms"] == pytest.approx(4000, rel=0.1)


# ── direction ────────────────────────────────────────────────────────────────────────────────────────────────────────


def by_hand(sign: float) -> None:
    torch.manual_seed(0)
    w, (x, y) = torch.randn(16, 4, requires_grad=True), data()
    for _ in range(30):
        loss = F.cross_entropy(x @ w, y)
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w += sign * 0.5 * w.grad


def test_updates_that_climb_the_gradient_are_told_also_without_an_optimizer() -> None:
    found = top(verdict_of(lambda: by_hand(1.0)), "diverging", "wrong-sign")
    assert found.evidence["cosine_with_descent"] == pytest.approx(-1.0, abs=1e-3)
    healthy(verdict_of(lambda: by_hand(-1.0)))


def test_gradients_returned_in_another_order_belong_to_their_own_parameters() -> None:
    """`torch.autograd.grad` answers in the order it was asked in, which need not be the order of use."""
    torch.manual_seed(0)
    w1, w2 = torch.randn(16, 8, requires_grad=True), torch.randn(8, 4, requires_grad=True)
    b, (x, y) = torch.zeros(4, requires_grad=True), data()
    with watched() as run:
        for _ in range(12):
            loss = F.cross_entropy(torch.addmm(b, torch.tanh(x @ w1), w2), y)
            grads = torch.autograd.grad(loss, [b, w1, w2])
            with torch.no_grad():
                for p, g in zip([b, w1, w2], grads, strict=True):
                    p -= 0.1 * g
    assert [n.text for n in run.notes if n.kind == "watcher"] == []
    along = [s.along for s in run.steps if s.along is not None]
    assert along and along == pytest.approx([1.0] * len(along), abs=1e-3)


def test_descent_is_measured_as_descent() -> None:
    with watched() as run:
        fit(Stack(2, torch.relu), steps=4)
    assert [s.along for s in run.steps] == pytest.approx([1.0] * 4, abs=1e-4)


def test_weights_of_zero_are_told_as_the_initialisation_they_are() -> None:
    net = Stack(2, torch.relu).scaled(1.0)
    for p in net.parameters():
        nn.init.zeros_(p)  # HERE
    here_lines = here(test_weights_of_zero_are_told_as_the_initialisation_they_are)

    def train() -> None:
        again = Stack(2, torch.relu)
        for p in again.parameters():
            nn.init.zeros_(p)  # HERE
        fit(again)

    top(verdict_of(train), "dead", "symmetric-init", here_lines)


def test_parameters_used_only_with_gradients_switched_off() -> None:
    torch.manual_seed(0)
    body, head, (x, y) = nn.Linear(16, 8), nn.Linear(8, 4), data()

    def train() -> None:
        optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        for _ in range(12):
            with torch.no_grad():
                features = torch.relu(body(x))
            optimizer.zero_grad()
            F.cross_entropy(head(features), y).backward()
            optimizer.step()

    found = top(verdict_of(train), "disconnected", "disconnected-parameters")
    assert found.evidence["without_gradient"] == 2


# ── what is left over, and data that turns bad on its way ────────────────────────────────────────────────────────────


def by_hand_without_clearing(clear: bool) -> None:
    torch.manual_seed(0)
    w, (x, y) = torch.randn(16, 4, requires_grad=True), data()
    for _ in range(12):
        loss = F.cross_entropy(x @ w, y)  # HERE
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            if clear:
                w.grad.zero_()


def test_gradients_that_are_never_cleared_are_told_without_an_optimizer_too() -> None:
    lines = here(by_hand_without_clearing)
    top(verdict_of(lambda: by_hand_without_clearing(False)), "oscillating", "missing-zero-grad", lines)
    healthy(verdict_of(lambda: by_hand_without_clearing(True)))


def columns(eps: float, missing: bool = False) -> None:
    torch.manual_seed(0)
    net, (x, y) = nn.Linear(16, 4), data()
    x = x.clone()
    x[3] = math.nan if missing else 1.0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(6):
        spread = x.std(1, keepdim=True)
        scaled = (x - x.mean(1, keepdim=True)) / (spread + eps)  # HERE
        optimizer.zero_grad()
        F.cross_entropy(net(scaled * 2.0), y).backward()
        optimizer.step()


def test_a_division_on_data_alone_is_a_singular_operation_and_not_bad_data() -> None:
    top(verdict_of(lambda: columns(0.0)), "not-finite", "singular-op", here(columns))
    healthy(verdict_of(lambda: columns(1e-3)))
    assert verdict_of(lambda: columns(1e-3, missing=True)).findings[0].cause == "bad-batch"


# ── places of ready-made layers ──────────────────────────────────────────────────────────────────────────────────────


class Boxed(nn.Module):
    """Layers in a container: the line that calls it is the same for all of them."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(8):
            layers += [nn.Linear(16, 16), activation()]
        self.body = nn.Sequential(*layers)  # HERE
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def test_a_layer_in_a_container_is_named_where_it_was_put_there() -> None:
    top(verdict_of(lambda: fit(Boxed(nn.Sigmoid))), "vanishing", "saturating-activation", here(Boxed))
    # the same layers, each called by a line of its own: that line counts
    top(verdict_of(lambda: fit(Stack(8, torch.sigmoid))), "vanishing", "saturating-activation", here(Stack.forward))


def test_an_update_by_hand_is_no_initialisation() -> None:
    def train() -> None:
        torch.manual_seed(0)
        x, y = data()
        weights = [(0.02 * torch.randn(16, 16)).requires_grad_() for _ in range(6)]  # HERE
        weights.append(torch.randn(16, 4, requires_grad=True))
        for _ in range(8):
            h = x
            for w in weights[:-1]:
                h = torch.relu(h @ w)
            grads = torch.autograd.grad(F.cross_entropy(h @ weights[-1], y), weights)
            with torch.no_grad():
                for w, g in zip(weights, grads, strict=True):
                    w.sub_(0.1 * g)

    top(verdict_of(train), "vanishing", "init-too-small", here(train))


def test_parameters_frozen_after_their_training_are_no_fault() -> None:
    def train(first: bool) -> None:
        torch.manual_seed(0)
        x, y = data()
        body, head = nn.Linear(16, 16), nn.Linear(16, 4)
        for params, steps in ((body, 8 if first else 0), (head, 8)):
            optimizer = torch.optim.SGD([*params.parameters()], lr=0.1)
            for _ in range(steps):
                optimizer.zero_grad()
                F.cross_entropy(head(torch.tanh(body(x))), y).backward()
                optimizer.step()
            params.requires_grad_(False) if params is body else None

    found = verdict_of(lambda: train(True))
    assert not [f for f in found.findings if "frozen" in f.summary], found.summary


def test_raw_targets_that_throw_the_network_off_at_once() -> None:
    def train(scale: float) -> None:
        torch.manual_seed(0)
        x, _ = data()
        y = 300.0 * scale + 80.0 * scale * x[:, :1]  # HERE
        net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        for _ in range(40):
            optimizer.zero_grad()
            answer = net(x)
            ((y - answer) ** 2).mean().backward()
            optimizer.step()

    found = [f for f in verdict_of(lambda: train(1.0)).findings if f.cause == "unscaled-target"]
    assert found and found[0].symptom == "diverging"
    assert found[0].place is not None and found[0].place.line in here(train)
    assert "unscaled-target" not in [f.cause for f in verdict_of(lambda: train(0.003)).findings]
