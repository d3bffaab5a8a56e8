"""Sharpness against eigenvalues that are known."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from gradientflow.curvature import flat, hessian_operator, lanczos, leading, top_eigenpair


def symmetric(eigenvalues: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=g, dtype=torch.float64))
    return q @ torch.diag(eigenvalues.double()) @ q.T, q


def test_the_largest_eigenvalue_is_found_and_the_residual_bounds_its_error() -> None:
    a, q = symmetric(torch.linspace(-3, 10, 100))
    start = torch.ones(100, dtype=torch.float64)
    rough = top_eigenpair(lambda v: a @ v, start, max_products=6, tolerance=0.0)
    fine = top_eigenpair(lambda v: a @ v, start, max_products=60, tolerance=1e-8)
    assert rough is not None
    assert fine is not None
    assert fine.value == pytest.approx(10.0, rel=1e-6)
    assert abs(float(fine.vector @ q[:, -1])) == pytest.approx(1.0, abs=1e-4)
    error = float((a @ rough.vector - rough.value * rough.vector).norm()) / rough.value
    assert error == pytest.approx(rough.residual, rel=1e-6)
    assert rough.residual > fine.residual  # negative control: fewer products are worse, and it says so
    assert rough.value != pytest.approx(10.0, rel=1e-6)


def test_it_is_the_largest_by_value_not_by_magnitude() -> None:
    a, _ = symmetric(torch.cat([torch.tensor([-50.0]), torch.linspace(0, 4, 30)]))
    top = top_eigenpair(lambda v: a @ v, torch.ones(31, dtype=torch.float64), max_products=31, tolerance=1e-9)
    assert top is not None
    assert top.value == pytest.approx(4.0, rel=1e-6)


def test_a_warm_start_needs_fewer_products() -> None:
    a, q = symmetric(torch.linspace(1, 10, 200))
    cold = top_eigenpair(lambda v: a @ v, torch.ones(200, dtype=torch.float64), max_products=100, tolerance=1e-3)
    warm = top_eigenpair(lambda v: a @ v, q[:, -1] + 0.01, max_products=100, tolerance=1e-3)
    assert cold is not None
    assert warm is not None
    assert warm.products < cold.products / 2


def test_a_zero_start_and_a_product_that_is_not_finite_give_nothing() -> None:
    assert top_eigenpair(lambda v: v, torch.zeros(4)) is None
    assert top_eigenpair(lambda v: v * float("nan"), torch.ones(4)) is None


def test_hessian_vector_products_match_the_hessian() -> None:
    w = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(8, 3, dtype=torch.float64)

    def loss(w: Tensor, b: Tensor) -> Tensor:
        return torch.tanh(x @ w + b).pow(2).sum()

    params = [w, b]
    gradient = flat(torch.autograd.grad(loss(w, b), params, create_graph=True), params)
    product = hessian_operator(gradient, params)
    blocks = torch.autograd.functional.hessian(loss, (w, b))
    dense = torch.cat([torch.cat([blocks[i][j].reshape(params[i].numel(), -1) for j in (0, 1)], 1) for i in (0, 1)])
    v = torch.randn(16, dtype=torch.float64)
    torch.testing.assert_close(product(v), dense @ v)
    assert not torch.allclose(product(v), dense @ v.flip(0))  # negative control


def test_a_linear_loss_has_no_curvature() -> None:
    w = torch.ones(3, requires_grad=True)
    (g,) = torch.autograd.grad((2 * w).sum(), [w], create_graph=True)
    assert torch.equal(hessian_operator(g, [w])(torch.ones(3)), torch.zeros(3))


def test_complex_vectors_raise_no_warning_and_have_the_same_ends() -> None:
    d = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.complex128)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lanczos(lambda v: d * v, torch.ones(1, 3, dtype=torch.complex128), width=3, tolerance=1e-9)
    assert float(found.top) == pytest.approx(5.0) and float(found.bottom) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_one_eigenvalue_that_is_there_many_times_is_found_as_often_from_a_start_of_the_same_seed(size: int) -> None:
    start = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = leading(lambda v: 3 * v, start, 2, tolerance=1e-9, products=50, width=6, seed=0)
    assert found.finite and found.values.tolist() == pytest.approx([3.0, 3.0])
    assert abs(float(found.vectors[0] @ found.vectors[1])) < 1e-12
