"""The limits of the interventions at data and weights, each from both sides."""

from __future__ import annotations

import pytest
import torch

from gradientflow.depth.remedies.data import act as data
from gradientflow.depth.remedies.data.entrance import Column
from gradientflow.depth.remedies.weights.act import orthogonal
from tests.depth.causes.by_hand import flips
from tests.depth.remedies.live import change, live

# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_entry_is_absurd() -> None:
    def repaired(deviations: float) -> bool:
        wide = torch.randn(65, 1, generator=torch.Generator().manual_seed(0)).double()
        middle = wide.median()
        wide[0] = middle + deviations * 1.4826 * (wide - middle).abs().median()
        text = f"""
        data = torch.tensor({wide.flatten().tolist()}, dtype=torch.float64).reshape(-1, 1)
        F.linear(data, nn.Parameter(torch.ones(1, 1, dtype=torch.float64))).sum().backward()
        """
        return bool(live(text, [change("drop-bad-batch", (3, "linear"))])[1][0].acted)

    flips(repaired, 49, 51)


def test_targets_that_are_all_equal() -> None:
    def by_their_spread(spread: float) -> bool:
        text = f"""
        y = torch.tensor([1.0 - {spread!r}, 1.0 + {spread!r}], dtype=torch.float64)
        F.mse_loss(torch.zeros(2, dtype=torch.float64, requires_grad=True), y)
        """
        return live(text, [change("scale-target", (3, "mse_loss"))])[1][0].loss_factor < 0.5

    flips(by_their_spread, 0.95e-12, 1.05e-12)


def skipped(norms: list[float]) -> int:
    """How many steps are left out whose gradients have these norms."""
    text = f"""
    w = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([w], lr=0.1)
    for norm in {norms}:
        w.grad = torch.tensor([norm])
        optimizer.step()
    """
    return live(text, [change("drop-bad-batch")])[1][0].acted


def test_a_step_out_of_line() -> None:
    flips(lambda times: skipped([1.0] * 9 + [times]), 19.8, 20.2)


def test_steps_that_have_a_usual_norm() -> None:
    flips(lambda before: skipped([1.0] * int(before) + [1000.0]), 4, 5)


def column(*batches: torch.Tensor) -> Column:
    known = Column()
    for batch in batches:
        known.learn(batch, -1)
    return known


def test_a_batch_that_is_standardised_by_itself() -> None:
    flips(lambda rows: column(torch.randn(int(rows), 2)).whole, 7, 8)


def test_rows_after_which_small_batches_stand_still() -> None:
    def learns(rows: float) -> bool:
        """Whether one more row is taken in after so many."""
        return column(*[torch.ones(1, 2)] * int(rows), torch.full((1, 2), 5.0)).rows > rows

    flips(lambda rows: not learns(rows), 63, 64)


def test_a_repaired_column_knows_its_median_from_enough_rows() -> None:
    def known(rows: float) -> bool:
        text = f"""
        data = torch.full(({int(rows)}, 1), 3.0)
        data[0] = float("nan")
        seen = F.linear(data, nn.Parameter(torch.ones(1, 1)))
        """
        return live(text, [change("drop-bad-batch", (4, "linear"))])[0]["seen"][0].item() == 3.0

    flips(known, 7, 8)


def test_a_column_that_stands_still() -> None:
    def varies(spread: float) -> bool:
        wide = torch.tensor([[1.5 * (1 - spread)], [1.5 * (1 + spread)]] * 8, dtype=torch.float64)
        shift = column(wide).shift
        assert shift is not None
        return bool(shift != 0.0)

    flips(varies, 0.98e-6, 1.02e-6)


def test_given_deviations_are_the_given_ones() -> None:
    assert data.ABSURD == 50.0  # what a setting leaves out is the limit; a setting goes before it
    text = "data = torch.randn(64, 1)\ndata[0] = 30.0\nF.linear(data, nn.Parameter(torch.ones(1, 1)))\n"
    for deviations, acted in ((5.0, True), (500.0, False)):
        assert bool(live(text, [change("drop-bad-batch", (3, "linear"), deviations=deviations)])[1][0].acted) is acted


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pattern_that_is_kept() -> None:
    def kept(spread: float) -> bool:
        text = f"""
        w = nn.Parameter(torch.tensor([[1.0 - {spread!r}, 1.0 + {spread!r}], [1.0 + {spread!r}, 1.0 - {spread!r}]]).double())
        start = w.detach().clone()
        F.linear(torch.ones(1, 2).double(), w).sum().backward()
        """
        scope, _ = live(text, [change("rescale-init", (4, "linear"), gain=1.0)])
        return torch.allclose(scope["w"] / scope["w"].mean(), scope["start"], atol=1e-6)

    flips(kept, 0.9e-4, 1.1e-4)


def test_a_matrix_that_is_singular_is_drawn_anew() -> None:
    def own(pivot: float) -> bool:
        """Whether the orthogonal matrix is that of the given one: a diagonal matrix gives the identity."""
        return torch.allclose(
            orthogonal(torch.diag(torch.tensor([1.0, pivot], dtype=torch.float64))), torch.eye(2).double()
        )

    flips(own, 0.97e-7, 1.03e-7)


@pytest.mark.parametrize(("cell", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_gates_that_are_opened_without_a_number_get_that_of_the_plan(cell: str, gates: int) -> None:
    text = f"net = nn.{cell}(2, 3)\nnet(torch.randn(5, 1, 2))[0].sum().backward()\n"
    scope, _ = live(text, [change("open-gates", (2, cell.lower()))])
    assert scope["net"].bias_ih_l0[3:6].tolist() == [1.5] * 3
