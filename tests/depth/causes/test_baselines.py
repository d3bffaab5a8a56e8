"""A loss that only the last bias brought down is no progress: held against the best answer that ignores the data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradientflow.depth.causes import losses
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.steps import REGAINED
from tests.depth.causes.test_rules_on_live_runs import data, healthy, here, top, verdict_of
from tests.truth.watching import probe_of, watched


@pytest.mark.parametrize("classes", [3, 10])
def test_knowing_nothing_of_classes_costs_their_logarithm(classes: int) -> None:
    x, y = data(classes=classes)
    net = nn.Linear(16, classes)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def train() -> None:
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    assert losses.ignorance(probe_of(train)) == pytest.approx(math.log(classes))


@pytest.mark.parametrize("written", ["mse_loss", "by hand", "with a factor"])
def test_knowing_nothing_of_targets_costs_their_variance(written: str) -> None:
    x, _ = data()
    y = 7.0 + 3.0 * x[:, :1]
    net = nn.Linear(16, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def train() -> None:
        loss: Tensor = F.mse_loss(net(x), y) if written == "mse_loss" else ((net(x) - y) ** 2).mean()
        (5.0 * loss if written == "with a factor" else loss).backward()
        optimizer.step()

    level = losses.ignorance(probe_of(train))
    if written == "with a factor":
        assert level is None  # what the best constant costs is not known then
    else:
        assert level == pytest.approx(float(y.var(correction=0)), rel=1e-4)


def test_a_run_that_learns_the_mean_only_is_ignorant_and_one_that_learns_is_not() -> None:
    def case(scale: float) -> Case:
        torch.manual_seed(0)
        x, _ = data()
        y = 5.0 + x[:, :1]
        net = nn.Sequential(nn.Linear(16, 32), nn.Sigmoid(), nn.Linear(32, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        with watched(50) as run:
            for _ in range(250):
                optimizer.zero_grad()
                F.mse_loss(net(scale * x), y).backward()
                optimizer.step()
        return Case(run)

    assert case(1e-4).ignorant
    assert not case(1.0).ignorant


def test_raw_columns_that_saturate_the_first_layer_are_told_although_the_loss_fell() -> None:
    def train(scaled: bool) -> None:
        torch.manual_seed(0)
        years, miles = torch.randint(1950, 2020, (256, 1)).float(), 5e4 + torch.rand(256, 1) * 2e5
        y = (2020 - years) / 70 + miles / 2e5
        raw = torch.cat([years, miles], 1)
        x = (raw - raw.mean(0)) / raw.std(0) if scaled else raw * 1.0  # HERE
        net = nn.Sequential(nn.Linear(2, 32), nn.Sigmoid(), nn.Linear(32, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for _ in range(120):
            optimizer.zero_grad()
            F.mse_loss(net(x), y).backward()
            optimizer.step()

    found = verdict_of(lambda: train(False), every=20).findings[0]
    assert (found.cause, found.symptom in ("dead", "crawling")) == ("unscaled-input", True)
    assert found.place is not None
    assert found.place.line in here(train)
    healthy(verdict_of(lambda: train(True), every=20))


def test_equal_filters_of_a_convolution_are_symmetric() -> None:
    def train(equal: bool) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
        if equal:
            for layer in (net[0], net[3]):
                nn.init.constant_(layer.weight, 0.05)  # type: ignore[arg-type] # HERE
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        x = torch.randn(64, 1, 8, 8)
        y = (x.mean((1, 2, 3)) > 0).long()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    top(verdict_of(lambda: train(True), every=5), "crawling", "symmetric-init", here(train))
    assert "symmetric-init" not in {f.cause for f in verdict_of(lambda: train(False), every=5).findings}


def test_swings_in_the_second_half_of_a_run_are_told() -> None:
    def train(top_rate: float) -> None:
        torch.manual_seed(0)
        x, _ = data(200)
        y = x @ torch.randn(16, 1)
        net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)  # HERE
        for step in range(240):
            optimizer.param_groups[0]["lr"] = 1e-2 + max(0.0, step - 100) / 140 * top_rate
            optimizer.zero_grad()
            F.mse_loss(net(x), y).backward()
            optimizer.step()

    found = verdict_of(lambda: train(0.5), every=20).findings[0]
    assert found.cause == "step-too-large"
    assert found.symptom in ("oscillating", "diverging")
    if found.symptom == "oscillating":
        assert found.evidence["last_quarter_over_best"] > REGAINED
    healthy(verdict_of(lambda: train(0.0), every=20))


def test_weights_that_a_step_threw_away_are_not_blamed_on_their_initialisation() -> None:
    def train() -> None:
        torch.manual_seed(0)
        x, y = data()
        net = nn.Sequential(
            nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
        )
        optimizer = torch.optim.RMSprop(net.parameters(), lr=0.3)
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    verdict = verdict_of(train)
    assert verdict.findings[0].cause == "step-too-large"
    assert "init-too-large" not in {f.cause for f in verdict.findings}
