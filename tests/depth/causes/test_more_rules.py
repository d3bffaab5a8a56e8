"""Causes that show only in certain places: inside attention kernels, behind a cut, in a schedule, between two probes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.depth.causes.test_rules_on_live_runs import data, healthy, here, top, verdict_of

# ── attention ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Attention(nn.Module):
    """One head, three ways to compute it."""

    def __init__(self, how: str, size: float) -> None:
        super().__init__()
        self.how = how
        self.embed, self.out = nn.Embedding(16, 16), nn.Linear(16, 16)
        self.mixed = nn.MultiheadAttention(16, 2, batch_first=True)
        nn.init.normal_(self.mixed.in_proj_weight, std=size / 4.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        if self.how == "module":
            return self.out(h + self.mixed(h, h, h, need_weights=False)[0])  # HERE
        q, k, v = F.linear(h, self.mixed.in_proj_weight).chunk(3, -1)
        if self.how == "kernel":
            return self.out(h + F.scaled_dot_product_attention(q, k, v, is_causal=True))  # HERE
        return self.out(h + torch.softmax(q @ k.transpose(1, 2) / 4.0, -1) @ v)  # HERE


def attend(how: str, size: float) -> None:
    torch.manual_seed(0)
    net = Attention(how, size)
    x = torch.randint(0, 16, (16, 12))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(net(x).flatten(0, 1), x.roll(1, 1).flatten()).backward()
        optimizer.step()


@pytest.mark.parametrize("how", ["module", "kernel", "written out"])
def test_scores_that_freeze_the_softmax_are_seen_also_inside_a_kernel(how: str) -> None:
    found = top(verdict_of(lambda: attend(how, 6.0)), "vanishing", "attention-saturation", here(Attention.forward))
    assert found.evidence["one_hot_rows"] > found.evidence["threshold_one_hot_rows"]
    assert found.evidence["spread_of_scores"] > found.evidence["threshold_spread_of_scores"]
    assert found.evidence["keys"] == 12


@pytest.mark.parametrize("how", ["module", "kernel", "written out"])
def test_scores_of_unit_spread_are_healthy(how: str) -> None:
    assert "attention-saturation" not in {f.cause for f in verdict_of(lambda: attend(how, 1.0)).findings}


def test_a_masked_row_with_one_key_is_not_a_one_hot_row() -> None:
    from gradientflow.depth.probe.attention import score_stat

    q = torch.randn(2, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    diagonal = torch.eye(8, dtype=torch.bool)
    assert score_stat("scaled_dot_product_attention", (q, q, q, diagonal), {}) == (None, None)
    hot, spread = score_stat("scaled_dot_product_attention", (1e-3 * q, q, q), {"is_causal": True})
    assert hot == 0.0
    assert spread is not None
    hot, _ = score_stat("scaled_dot_product_attention", (1e4 * q, q, q), {"is_causal": True})
    assert hot is not None
    assert hot > 0.95


def test_scores_of_the_module_are_those_of_its_own_weights() -> None:
    from gradientflow.depth.probe.attention import _measure, _module, score_stat

    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 1)
    x = torch.randn(5, 3, 8) * 30
    seen: list[tuple[object, dict[str, object]]] = []

    def spy(*args: object, **kwargs: object) -> object:
        seen.append((args, kwargs))
        return original(*args, **kwargs)

    original = F.multi_head_attention_forward
    F.multi_head_attention_forward = spy  # type: ignore[assignment]
    try:
        _, weights = module(x, x, x)
    finally:
        F.multi_head_attention_forward = original
    hot, _ = score_stat("multi_head_attention_forward", *seen[0])  # type: ignore[arg-type]
    assert hot == pytest.approx(float((weights.amax(-1) > 0.99).float().mean()))
    found = _module(*seen[0])  # type: ignore[arg-type]
    assert found is not None
    q, k, scale, mask = found
    assert _measure(q * 0.0, k, scale, mask) == (0.0, 0.0)


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def classify(
    answer: Callable[[Tensor], Tensor], loss: Callable[[Tensor, Tensor], Tensor], outputs: int, lr: float = 1e-2
) -> None:
    torch.manual_seed(0)
    x, y = data(classes=max(outputs, 2))
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, outputs))
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(60):
        optimizer.zero_grad()
        loss(answer(net(x)), y).backward()
        optimizer.step()


def _one(s: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(s.squeeze(1), y.float())


def test_a_sigmoid_before_a_loss_that_applies_it_is_told_with_its_floor() -> None:
    def squash(s: Tensor) -> Tensor:
        return torch.sigmoid(s)  # HERE

    found = top(verdict_of(lambda: classify(squash, _one, 1), every=20), "crawling", "output-activation", here(squash))
    assert found.evidence["loss_floor"] == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-3)
    healthy(verdict_of(lambda: classify(lambda s: s, _one, 1), every=20))


def test_a_softmax_without_its_logarithm_before_nll() -> None:
    def soft(s: Tensor) -> Tensor:
        return torch.softmax(s, 1)  # HERE

    top(
        verdict_of(lambda: classify(soft, F.nll_loss, 20, lr=1e-3), every=20),
        "crawling",
        "output-activation",
        here(soft),
    )
    healthy(verdict_of(lambda: classify(lambda s: s.log_softmax(1), F.nll_loss, 20, lr=1e-3), every=20))


@pytest.mark.parametrize(("shift", "fault"), [(-2.0, True), (4.0, False)])
def test_a_relu_output_and_targets_below_zero_are_told_by_the_floor(shift: float, fault: bool) -> None:
    torch.manual_seed(0)
    x, _ = data()
    y = shift + x[:, :1]

    def cut(s: Tensor) -> Tensor:
        return torch.relu(s)  # HERE

    def train() -> None:
        net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
        nn.init.constant_(net[2].bias, 1.0)  # type: ignore[arg-type]
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            F.mse_loss(cut(net(x)), y).backward()
            optimizer.step()

    verdict = verdict_of(train, every=20)
    if fault:
        found = verdict.findings[0]
        assert found.cause in ("output-activation", "dead-units")
        assert found.place is not None
        assert found.place.line in here(cut)
    else:
        healthy(verdict)


# ── wiring ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _detached(z: Tensor) -> Tensor:
    return (2 * z).detach()  # HERE


def _through_numpy(z: Tensor) -> Tensor:
    z = z + 1
    return torch.from_numpy(np.tanh(z.detach().numpy()))  # HERE


def _by_hand(z: Tensor) -> Tensor:
    return F.one_hot(z.argmax(1), z.shape[1]).float()  # HERE


@pytest.mark.parametrize("cut", [_detached, _through_numpy, _by_hand], ids=lambda f: f.__name__)
def test_the_line_of_the_cut_is_named_not_the_operation_before_it(cut: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    x, y = data()
    encoder, head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)), nn.Linear(8, 4)

    def train() -> None:
        optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-2)
        for _ in range(12):
            optimizer.zero_grad()
            F.cross_entropy(head(cut(encoder(x))), y).backward()
            optimizer.step()

    top(verdict_of(train), "disconnected", "disconnected-parameters", here(cut))


def test_a_look_at_a_value_on_the_way_is_no_cut() -> None:
    torch.manual_seed(0)
    x, y = data()
    net, head = nn.Linear(16, 16), nn.Linear(16, 4)

    def train() -> None:
        optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=1e-2)
        seen = []
        for _ in range(12):
            h = torch.relu(net(x))
            seen.append(float(h.detach().mean()) + h.mean().item())
            optimizer.zero_grad()
            F.cross_entropy(head(h), y).backward()
            optimizer.step()

    healthy(verdict_of(train))


def test_a_model_made_anew_after_its_optimizer_points_to_the_optimizer() -> None:
    x, y = data()

    def train() -> None:
        net = nn.Linear(16, 4)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)  # HERE
        net = nn.Linear(16, 4)
        for _ in range(6):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    top(verdict_of(train), "disconnected", "disconnected-parameters", here(train))


@pytest.mark.parametrize("clear", [False, True])
def test_gradients_that_pile_up_are_seen_without_an_optimizer_too(clear: bool) -> None:
    x, y = data()
    w = torch.zeros(16, 4, requires_grad=True)

    def train() -> None:
        for _ in range(12):
            F.cross_entropy(x @ w, y).backward()
            with torch.no_grad():
                assert w.grad is not None
                w.sub_(0.1 * w.grad)
                if clear:
                    w.grad = None

    verdict = verdict_of(train)
    assert ("missing-zero-grad" in {f.cause for f in verdict.findings}) is not clear


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_equal_units_are_seen_whichever_way_the_weight_lies(layout: str) -> None:
    x, _ = data()
    y = x[:, :1] * x[:, 1:2]
    shape = (12, 16) if layout == "rows" else (16, 12)
    w = nn.Parameter(torch.full(shape, 0.1))
    v = nn.Parameter(torch.full((12, 1), 0.1))

    def train() -> None:
        optimizer = torch.optim.SGD([w, v], lr=0.05)
        for _ in range(20):
            h = torch.tanh(F.linear(x, w) if layout == "rows" else x @ w)
            optimizer.zero_grad()
            F.mse_loss(h @ v, y).backward()
            optimizer.step()

    top(verdict_of(train), "crawling", "symmetric-init")


# ── the step, noise ──────────────────────────────────────────────────────────────────────────────────────────────────


def regress(lr: float, change: Callable[[torch.optim.Optimizer, int], None] | None = None, steps: int = 120) -> None:
    torch.manual_seed(0)
    x, _ = data()
    net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        F.mse_loss(net(x), x[:, :1] + x[:, 1:2]).backward()
        optimizer.step()
        if change is not None:
            change(optimizer, step)


def _faster(optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == 80:
        optimizer.param_groups[0]["lr"] = 3.0  # HERE


def _frozen(optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == 2:
        optimizer.param_groups[0]["lr"] = 1e-9  # HERE


def test_a_learning_rate_that_is_raised_late_points_to_the_schedule() -> None:
    verdict = verdict_of(lambda: regress(0.05, _faster), every=20)
    found = verdict.findings[0]
    assert found.cause == "step-too-large"
    assert found.symptom in ("oscillating", "diverging")
    healthy(verdict_of(lambda: regress(0.05), every=20))


def test_an_adaptive_step_that_throws_the_weights_away_at_once() -> None:
    def train(lr: float) -> None:
        torch.manual_seed(0)
        x, y = data(256)
        net = nn.Sequential(
            nn.Linear(16, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    found = verdict_of(lambda: train(3.0), every=10).findings[0]
    assert found.cause == "step-too-large"
    healthy(verdict_of(lambda: train(3e-3), every=10))


@pytest.mark.parametrize(
    ("noise", "lr", "batch", "fault"), [(3.0, 0.05, 4, True), (0.0, 0.01, 4, False), (3.0, 0.01, 64, False)]
)
def test_noise_in_batches_above_two(noise: float, lr: float, batch: int, fault: bool) -> None:
    def train() -> None:
        torch.manual_seed(0)
        x = torch.randn(1000, 12)
        y = 0.3 * x[:, :1] + noise * torch.randn(1000, 1)
        net = nn.Linear(12, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=lr)
        for _ in range(300):
            i = torch.randint(0, 1000, (batch,))
            optimizer.zero_grad()
            F.mse_loss(net(x[i]), y[i]).backward()
            optimizer.step()

    verdict = verdict_of(train, every=60)
    assert ("small-batch-noise" in {f.cause for f in verdict.findings}) is fault
    if fault:
        assert verdict.findings[0].symptom == "noisy"
        assert verdict.findings[0].evidence["travelled"] > 5.0


def test_a_policy_gradient_whose_loss_has_no_zero_of_its_own_is_healthy() -> None:
    def train() -> None:
        torch.manual_seed(0)
        net = nn.Linear(4, 3)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(120):
            x = torch.randn(16, 4)
            choice = torch.distributions.Categorical(logits=net(x))
            action = choice.sample()
            reward = (action == (x[:, 0] > 0).long()).float() - 0.4
            optimizer.zero_grad()
            (-(choice.log_prob(action) * reward).mean()).backward()
            optimizer.step()

    healthy(verdict_of(train, every=30))


# ── between two probes ───────────────────────────────────────────────────────────────────────────────────────────────


def _annealed(x: Tensor, step: int) -> Tensor:
    raised = torch.exp(x / 0.9**step)  # HERE
    return raised / raised.sum(1, keepdim=True)


def test_an_overflow_in_a_step_that_was_not_traced_is_told_from_the_growth_before() -> None:
    def train() -> None:
        torch.manual_seed(0)
        x, y = data(64)
        net = nn.Linear(16, 4)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for step in range(60):
            optimizer.zero_grad()
            F.mse_loss(_annealed(net(x), step), F.one_hot(y, 4).float()).backward()
            optimizer.step()

    found = top(verdict_of(train, every=None), "not-finite", "overflow", here(_annealed))
    assert found.evidence["decades_coming"] > found.evidence["threshold_decades_coming"] or found.evidence["pass"]
