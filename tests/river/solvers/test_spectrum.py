"""The spectrum followed along a path: against torch.linalg.eigvalsh, cold and warm, alone and side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gradientflow.river import Potential, flow
from gradientflow.river.solvers import candidates
from gradientflow.river.solvers.spectrum import Spectrum
from tests.river.solvers.cases import D

ONE = torch.tensor([0])


def symmetric(size: int, outliers: Sequence[float], seed: int, lowest: Sequence[float] = ()) -> Tensor:
    """A random symmetric matrix: a bulk in (0, 1), these eigenvalues above it and those below."""
    maker = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=maker, dtype=D))
    values = torch.rand(size, generator=maker, dtype=D)
    values[: len(outliers)] = torch.tensor(outliers, dtype=D)
    if lowest:
        values[-len(lowest) :] = torch.tensor(lowest, dtype=D)
    return (q * values) @ q.T


def followed(matrices: Sequence[Tensor], seed: int = 0) -> Spectrum:
    spectrum = Spectrum(1, len(matrices[0]), torch.zeros(1, dtype=D), seed=seed)
    for h in matrices:
        spectrum.measure(lambda v, h=h: -(v @ h), ONE)
        spectrum.tick(ONE)
    return spectrum


OUTLIERS = [(30.0, 12.0, 8.0, 6.0, 5.0, 4.0, 3.0), (10.0,), (10.0, 7.0, 5.0), (-3.0, 10.0, 5.0)]


@pytest.mark.parametrize("outliers", OUTLIERS)
@pytest.mark.parametrize("size", [20, 200])
def test_sharpness_within_two_percent_after_two_looks(outliers: tuple[float, ...], size: int):
    for seed in range(5):
        h = symmetric(size, outliers, seed)
        largest = float(torch.linalg.eigvalsh(h)[-1])
        cold, warm = followed([h], seed), followed([h, h], seed)
        # The first look is a quick one, and may take the second eigenvalue for the first; it never says too much.
        assert float(cold.top) - float(cold.bound) <= largest * (1 + 1e-9)
        assert float(warm.top) == pytest.approx(largest, rel=0.02)
        assert float(warm.top) != pytest.approx(
            1.05 * largest, rel=0.02
        )  # negative control: the check can tell 5 % apart


@pytest.mark.parametrize("outliers", OUTLIERS)
def test_rho_covers_the_sharpness_of_a_matrix_that_does_not_change(outliers: tuple[float, ...]):
    """What a first rough look overestimates and a second corrects is no drift, and must not be extrapolated."""
    for seed in range(5):
        h = symmetric(60, outliers, seed)
        largest = float(torch.linalg.eigvalsh(h)[-1])
        for looks in (2, 3, 6):
            rho = float(followed([h] * looks, seed).rho(ONE))
            assert rho >= 0.999 * largest
            assert looks < 6 or rho <= 1.12 * largest  # negative control: nor is it simply large


def test_rho_is_safe_even_without_outliers():
    for seed in range(8):
        h = symmetric(100, (), seed)
        largest = float(torch.linalg.eigvalsh(h)[-1])
        cold, warm = followed([h], seed), followed([h] * 3, seed)
        assert (
            float(cold.rho(ONE)) >= 0.9 * largest
        )  # one look at a bulk with no gap; steps are checked by their error too
        assert float(warm.rho(ONE)) >= 0.99 * largest
        assert float(warm.top) <= 1.1 * largest


def test_the_warm_start_follows_a_drifting_matrix_in_two_products_a_look():
    a, b = symmetric(100, (10.0, 7.0), 1), symmetric(100, (2.0,), 2)
    spectrum = followed([a], 0)
    used, rotated = [], []
    for k in range(1, 30):
        h = a + 0.02 * k * b
        used.append(spectrum.measure(lambda v, h=h: -(v @ h), ONE))
        spectrum.tick(ONE)
        rotated.append(float(spectrum.top) / float(torch.linalg.eigvalsh(h)[-1]))
    assert max(abs(x - 1) for x in rotated) < 0.02
    assert sum(used) <= 3 * len(used)
    # negative control: the value of the first look alone would be off by far more at the end
    assert abs(float(torch.linalg.eigvalsh(a)[-1]) / float(torch.linalg.eigvalsh(a + 0.58 * b)[-1]) - 1) > 0.02


def test_the_bound_bounds():
    for seed in range(10):
        h = symmetric(60, (5.0, 4.6), seed)
        values = torch.linalg.eigvalsh(h)
        s = followed([h], seed)
        ritz = float(s.top)
        assert float((values - ritz).abs().min()) <= float(s.bound) + 1e-12  # an eigenvalue lies within the residual
        assert float((values - ritz).abs().min()) > 1e-4 * float(s.bound)  # and the bound is not simply huge


def test_rows_side_by_side_are_as_good_as_each_alone():
    matrices = torch.stack([symmetric(30, (10.0, 5.0), 1), symmetric(30, (3.0,), 2), symmetric(30, (0.5, 40.0), 3)])
    rows = torch.arange(3)
    together = Spectrum(3, 30, torch.zeros(1, dtype=D))
    for _ in range(3):
        together.measure(lambda v: -torch.einsum("bij,bj->bi", matrices, v), rows)
        together.tick(rows)
    for i in range(3):
        alone = followed([matrices[i]] * 3)
        assert float(together.top[i]) == pytest.approx(float(alone.top), rel=0.02)
        assert float(together.top[i]) == pytest.approx(float(torch.linalg.eigvalsh(matrices[i])[-1]), rel=0.02)
    assert float(together.top[0]) != pytest.approx(float(together.top[1]), rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_whose_krylov_space_ends_early_do_not_spoil_the_others_nor_themselves(dtype: torch.dtype):
    # A flat row, an isotropic one, and one that needs all products.
    rows = torch.arange(3)
    matrices = torch.stack([torch.zeros(5, 5), torch.eye(5), torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))]).to(
        dtype
    )
    spectrum = Spectrum(3, 5, torch.zeros(1, dtype=dtype))
    for _ in range(3):
        spectrum.measure(lambda v: -torch.einsum("bij,bj->bi", matrices, v), rows)
        spectrum.tick(rows)
    assert torch.isfinite(spectrum.warm).all()
    torch.testing.assert_close(spectrum.top, torch.tensor([0.0, 1.0, 5.0], dtype=D), rtol=0.02, atol=1e-6)
    wrong = torch.tensor([0.0, 1.0, 4.0], dtype=D)
    assert not torch.allclose(spectrum.top, wrong, rtol=0.02)


def test_a_product_that_is_not_finite_is_forgotten_at_the_next_look():
    h = symmetric(10, (4.0,), 0)
    spectrum = Spectrum(1, 10, torch.zeros(1, dtype=D))
    spectrum.measure(lambda v: torch.full_like(v, float("nan")), ONE)
    assert not float(spectrum.top) > 0  # negative control: nothing was learnt from it
    for _ in range(2):
        spectrum.tick(ONE)
        spectrum.measure(lambda v: -(v @ h), ONE)
    assert float(spectrum.top) == pytest.approx(4.0, rel=0.02)


def test_a_saddle_is_seen_where_one_eigenvalue_of_many_is_negative():
    h = symmetric(100, (30.0, 10.0, 5.0), 5, lowest=(-0.5,))
    least = float(torch.linalg.eigvalsh(h)[0])
    seen = followed([h] * 40)
    assert float(seen.bottom) >= least - 1e-9  # a Ritz value never lies below
    assert float(seen.bottom) < 0.5 * least
    assert (
        float(followed([symmetric(100, (30.0, 10.0, 5.0), 5)] * 40).bottom) > 0
    )  # negative control: no saddle, none seen


@pytest.mark.parametrize("method", ["rkc2", "rkmc2", "tsrkc3", "auto"])
def test_negative_curvature_is_growth_and_not_stiffness(method: str):
    hill = Potential(lambda w: -2.5 * (w**2).sum(), start=[1.0, 2.0])
    path = flow(hill, 1.0, method=method, rtol=1e-3, certify=False)
    assert path.status.reason == "reached"
    assert float((path.final / torch.tensor([1.0, 2.0], dtype=D)).log().mean()) == pytest.approx(5.0, rel=3e-3)
    least = min(s.stages(0.0) for s in candidates(method, 1e-3, potential=True))
    allowed = {least, 2, 6}  # a two-step method is started by RKC2; 6: of the explicit method of auto
    assert set(path.stages[1:].tolist()) <= allowed
    stiff = flow(Potential(lambda w: 2500.0 * (w**2).sum(), start=[1.0, 2.0]), 0.5, method=method, certify=False)
    assert not set(stiff.stages[1:].tolist()) <= allowed or method == "auto"  # negative control: λ = +5000 is stiff


def test_sharpness_along_a_path_is_that_of_the_hessian():
    scale = torch.tensor([1.0, 3.0, 9.0, 27.0], dtype=D)
    quartic = Potential(lambda w: (scale * w**4).sum() / 12, start=[1.0, 1.0, 1.0, 1.0])
    path = flow(quartic, 3.0, method="rkc2", certify=False)
    assert path.theta is not None
    truth = (scale * path.theta**2).amax(1)  # Hessian: diag(scale · w²)
    known = ~path.sharpness.isnan()
    torch.testing.assert_close(path.sharpness[known], truth[known], rtol=1e-3, atol=0.0)  # it falls fast here
    assert 3 < int(known.sum()) < len(path) and not bool((truth[1:] > 0.95 * truth[:-1]).all())
