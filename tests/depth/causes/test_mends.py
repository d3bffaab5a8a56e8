"""What is told to do about something that is not finite, by operation; never to clip it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.depth.causes.test_rules_on_live_runs import verdict_of

X = torch.linspace(-1.0, 1.0, 32).reshape(8, 4)


def training(loss: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    def train() -> None:
        torch.manual_seed(0)
        net = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss(net(X)).backward()
            optimizer.step()

    return train


def masked_rows(h: Tensor) -> Tensor:
    scores = h @ h.T
    mask = torch.zeros(8, 8)
    mask[2:4] = -torch.inf
    weights = (scores + mask).softmax(-1)
    return (weights[:2] @ h).pow(2).mean() + 0.0 * weights[4:].sum()


def too_short(h: Tensor) -> Tensor:
    frames = h.reshape(2, 4, 4).log_softmax(-1)
    return F.ctc_loss(frames, torch.tensor([1, 1, 2, 1, 1, 2, 3, 1]), torch.full((4,), 2), torch.full((4,), 2))


def equal_eigenvalues(h: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(torch.eye(4) + 0.0 * (h.nan_to_num().T @ h.nan_to_num()))
    return (vectors[0] * values).sum()


def empty_group(h: Tensor) -> Tensor:
    members = (torch.arange(8) > 9).float()
    return (members @ h / (members @ torch.ones(8, 1) * h.mean().sign().abs())).pow(2).mean()


def fractional(h: Tensor) -> Tensor:
    return (h - 2.0).pow(0.3).mean()


def root_of_nought(h: Tensor) -> Tensor:
    return (h - h).pow(2).sum(1).sqrt().mean() + h.mean()


def log_of_softmax(h: Tensor) -> Tensor:
    return -(1e4 * h).softmax(-1).log().mean()


def chosen_late(h: Tensor) -> Tensor:
    return torch.where(h > 0, h.sqrt(), h).mean()


def overflowing(h: Tensor) -> Tensor:
    return (1e3 * h.abs() + 100).exp().clamp(max=1.0).mean()


def masked_after_the_loss(h: Tensor) -> Tensor:
    target = X.clone()
    target[3] = torch.nan
    mask = torch.ones(8, 4)
    mask[3] = 0.0
    return (F.mse_loss(h, target, reduction="none") * mask).sum()


@pytest.mark.parametrize(
    ("loss", "kinds", "words"),
    [
        (masked_rows, ["unmask-row"], ["2 of 8 rows", "masked by −∞"]),
        (too_short, ["fit-lengths"], ["fewer frames than its labels need"]),
        (equal_eigenvalues, ["part-eigenvalues"], ["differences of the eigenvalues"]),
        (empty_group, ["clamp-op"], ["exactly 0 in 1 of 1", "0/0"]),
        (fractional, ["clamp-op"], ["no fractional power", "of 32 results"]),
        (root_of_nought, ["clamp-op"], ["slope of sqrt at 0 is infinite"]),
        (log_of_softmax, ["clamp-op"], ["logarithm of 0", "softmax has rounded to 0"]),
        (chosen_late, ["mask-first", "clamp-op"], ["sqrt of a negative number", "where at"]),
        (overflowing, ["mask-first", "clamp-op"], ["exp overflows", "clamp at"]),
        (masked_after_the_loss, ["mask-first", "drop-bad-batch"], ["comes too late", "NaN times 0 is NaN"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_finite_is_mended_by_its_operation(
    loss: Callable[[Tensor], Tensor], kinds: list[str], words: list[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = verdict_of(training(loss))
    first = verdict.findings[0]
    assert first.symptom == "not-finite", verdict.summary
    assert [r.kind for r in first.remedies] == kinds, verdict.summary
    for told in words:
        assert told in first.summary, first.summary
    assert all("clip" not in r.kind for r in first.remedies)


def test_the_safe_form_is_named() -> None:
    assert "log_softmax" in verdict_of(training(log_of_softmax)).findings[0].remedies[0].text
    assert "before the power" in verdict_of(training(fractional)).findings[0].remedies[0].text
