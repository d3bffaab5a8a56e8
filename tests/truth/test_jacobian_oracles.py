"""Jacobians of random networks: what random matrix theory says of their singular values, against the Jacobian view.

The product of L Gaussian matrices with variance 1/N has squared singular values of mean 1 and variance L, up to
(L+1)^(L+1)/L^L (Pennington, Schoenholz, Ganguli 2017; the Fuss–Catalan law). One of orthogonal matrices has 1, L times.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn

from gradientflow.depth.watch import isometry
from gradientflow.records import Stretch
from gradientflow.report.isometry import judged
from tests.truth.watching import probe_of

WITHIN = 0.03


def product(depth: int, width: int, seed: int, init: Callable[[Tensor], object], batch: int = 8) -> Stretch:
    """What a watched step tells of a linear network: J is the product of `depth` matrices."""
    torch.manual_seed(seed)
    net = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth + 1)))
    for layer in net:
        init(layer.weight)  # type: ignore[arg-type]
    x = torch.randn(batch, width)
    found = probe_of(lambda: net(x).square().sum().backward(), jacobian=True).probe.isometry
    assert found is not None
    assert found.whole is not None
    return found.whole


def gaussian(width: int, scale: float = 1.0) -> Callable[[Tensor], object]:
    return lambda w: nn.init.normal_(w, std=scale * width**-0.5)


def averages(depth: int, width: int, seeds: int, scale: float = 1.0) -> tuple[float, float, float]:
    """Mean, variance and largest of σ², averaged over seeds."""
    found = [product(depth, width, seed, gaussian(width, scale), batch=4) for seed in range(seeds)]
    mean, variance, top = (fmean(getattr(s, what) for s in found) for what in ("mean", "variance", "top"))
    return mean, variance, top


def limit(narrow: float, wide: float, ratio: float) -> float:
    """The largest σ² for infinite width: at width N it falls short of it in proportion to N^(−2/3) (Tracy and Widom)."""
    step = ratio ** (2 / 3)
    return (step * wide - narrow) / (step - 1)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "seeds"), [(4, 6), (16, 6)])
def test_a_product_of_gaussian_matrices(monkeypatch: pytest.MonkeyPatch, depth: int, seeds: int) -> None:
    monkeypatch.setattr(isometry, "STRETCHES", 1)  # only from end to end
    edge = (depth + 1) ** (depth + 1) / depth**depth
    assert edge == pytest.approx({4: 12.21, 16: 44.84}[depth], abs=0.005)
    mean, variance, wide = averages(depth, 640, seeds)  # by random vectors and Lanczos
    narrow = averages(depth, 160, 32)[2]  # by the full Jacobian
    assert mean == pytest.approx(1.0, rel=WITHIN)
    assert variance == pytest.approx(depth, rel=WITHIN)
    assert narrow < wide < edge
    assert limit(narrow, wide, 640 / 160) == pytest.approx(edge, rel=WITHIN)


def test_a_product_of_matrices_five_percent_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: it has another mean, another variance and another edge."""
    monkeypatch.setattr(isometry, "STRETCHES", 1)
    right, wrong = averages(4, 160, 6), averages(4, 160, 6, scale=1.05)
    assert right[0] == pytest.approx(1.0, rel=WITHIN)
    assert wrong[0] == pytest.approx(1.05**8, rel=WITHIN)
    assert [b / a for a, b in zip(right, wrong, strict=True)] == pytest.approx([1.05**8, 1.05**16, 1.05**8], rel=1e-3)


def test_an_orthogonal_product_is_an_isometry_and_a_gaussian_one_is_not() -> None:
    found = product(50, 64, 0, nn.init.orthogonal_)
    assert [found.mean, found.top, found.bottom] == pytest.approx([1.0, 1.0, 1.0], abs=1e-4)
    assert found.variance == pytest.approx(0.0, abs=1e-6)
    assert judged(found)[0] == "isometric"
    random = product(50, 64, 0, gaussian(64))  # negative control
    assert random.top != pytest.approx(1.0, abs=0.5)
    assert judged(random)[0] != "isometric"
    off = product(50, 64, 0, lambda w: nn.init.orthogonal_(w, gain=1.01))
    assert off.mean == pytest.approx(1.01**100, rel=1e-3)
    assert judged(off)[0] == "grows"
