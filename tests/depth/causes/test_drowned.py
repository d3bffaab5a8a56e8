"""A code that its noise drowns: on little training runs, and each limit from both sides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from gradientflow.depth.causes import judge
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.descent import descent
from gradientflow.depth.causes.drowned import drowned
from gradientflow.records import Op, Operand, Run
from tests.depth.causes.by_hand import Chain, Row, flips, grad, linear, run, value
from tests.truth.watching import watched


class VAE(nn.Module):
    """A variational autoencoder; `hand` draws its code by hand, `leaves` decodes without it."""

    def __init__(self, hand: bool = True, leaves: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
        self.mean, self.scale = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16))
        self.hand, self.leaves = hand, leaves

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encoder(x)
        mean, scale = self.mean(h), (0.5 * self.scale(h)).exp()
        z = mean + scale * torch.randn_like(scale) if self.hand else Normal(mean, scale).rsample()
        kl = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0)).sum(1).mean()
        return self.decoder(torch.zeros_like(z) if self.leaves else z), kl


def trained(beta: float, **more: bool) -> Run:
    torch.manual_seed(0)
    x = torch.randn(256, 4) @ torch.randn(4, 16)
    net = VAE(**more)
    with watched(every=15) as made:
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(150):
            rows = torch.randint(256, (64,))
            answer, kl = net(x[rows])
            loss = F.mse_loss(answer, x[rows], reduction="sum") / 64 + beta * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return made


@pytest.mark.parametrize("hand", [True, False])
def test_a_term_that_pulls_harder_than_the_code_helps(hand: bool) -> None:
    found = judge(trained(beta=200.0, hand=hand))
    assert found.watch.errors == []
    assert found.findings[0].cause == "collapse", found.summary
    assert found.findings[0].remedies[0].kind == "free-code"
    assert found.findings[0].evidence["difference_over_noise"] < 0.1


@pytest.mark.parametrize("hand", [True, False])
def test_a_term_that_leaves_the_code_its_say(hand: bool) -> None:
    found = judge(trained(beta=1.0, hand=hand))
    assert found.findings == [], found.summary


def test_a_code_that_is_not_used() -> None:
    found = judge(trained(beta=1.0, leaves=True))
    top = found.findings[0]
    assert (top.cause, top.evidence["code_is_used"]) == ("collapse", False), found.summary
    assert "nothing is computed from it" in top.summary


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def autoencoder(
    step: int, told: float, noise: float = 1.0, drawn: Any = None, entries: int = 256, term: bool = True
) -> Chain:
    """A layer for the mean, a code drawn around it, a layer that decodes it, a loss with targets and a term on the mean."""

    class Made(Chain):
        def probe(self):  # type: ignore[no-untyped-def]
            made = super().probe()
            mean, decode, root = made.ops
            ops = [mean]
            ops.append(
                Op(
                    1,
                    "exp",
                    "elementwise",
                    "net.py",
                    2,
                    "forward",
                    "m",
                    None,
                    [Operand(op=0, grad=grad())],
                    value(),
                    grad(),
                )
            )
            leaf = Operand(value=drawn or value(1.0, (entries,)))
            ops.append(
                Op(
                    2,
                    "mul",
                    "elementwise",
                    "net.py",
                    3,
                    "forward",
                    "m",
                    None,
                    [Operand(op=1, grad=grad()), leaf],
                    value(noise),
                    grad(),
                )
            )
            ops.append(
                Op(
                    3,
                    "add",
                    "elementwise",
                    "net.py",
                    4,
                    "forward",
                    "m",
                    None,
                    [Operand(op=0, grad=grad()), Operand(op=2, grad=grad())],
                    value(),
                    grad(),
                )
            )
            decode.index, decode.operands[0].op = 4, 3
            ops.append(decode)
            loss = Op(
                5,
                "mse_loss",
                "loss",
                "net.py",
                6,
                None,
                None,
                None,
                [Operand(op=4, grad=grad()), Operand(value=value(3.0))],
                value(shape=()),
                grad(),
            )
            square = Op(
                6, "square", "elementwise", "net.py", 7, None, None, None, [Operand(op=0, grad=grad())], value(), grad()
            )
            root.index, root.operands = 7, [Operand(op=5, grad=grad()), *([Operand(op=6, grad=grad())] if term else [])]
            made.ops, made.root = [*ops, loss, square, root], 7
            return made

    return Made(
        [linear(value=value(1.0, spread=told)), linear(), Row("add", "elementwise", value=value(shape=()))], step=step
    )


def symptoms(
    last: float = 0.01, before: float | None = None, first: float = 1.0, end: int = 200, length: int = 60, **more: Any
) -> list[str]:
    now = last if before is None else before
    chains = [
        autoencoder(1, first, **more),
        autoencoder(9, first, **more),
        autoencoder(end - 1, now, **more),
        autoencoder(end, last, **more),
    ]
    return [f.symptom for f in drowned(Case(run(*chains, losses=[1.0] * length)))]


def test_how_little_of_the_noise_is_told() -> None:
    flips(lambda told: symptoms(last=told), 0.11, 0.09)
    flips(lambda told: symptoms(before=told), 0.11, 0.09)
    flips(lambda noise: symptoms(last=0.1, noise=noise), 0.9, 1.1)


def test_half_of_what_it_began_with() -> None:
    flips(lambda first: symptoms(last=0.05, first=first, end=90), 0.099, 0.101)


def test_a_code_that_has_had_its_time_and_has_not_begun() -> None:
    assert symptoms(last=0.05, first=0.05, end=100) == ["stalled"]
    flips(lambda end: symptoms(last=0.05, first=0.05, end=int(end)), 99, 100)
    flips(lambda last: symptoms(last=last, before=0.05, first=0.05), 0.076, 0.074)


def test_losses_that_are_needed() -> None:
    flips(lambda length: symptoms(length=int(length)), 39, 40)


def test_noise_is_told_from_data_by_its_mean_and_deviation() -> None:
    assert symptoms() == ["crawling"]
    flips(lambda std: symptoms(drawn=value(std, (256,))), 1.19, 1.17)  # 1 + 4/√512


def test_a_code_on_which_nothing_pulls_is_no_such_code() -> None:
    assert symptoms(term=False) == []


def test_a_fall_that_is_learnt_without_the_code_proves_nothing() -> None:
    losses = [1.0 - k / 100 for k in range(90)]
    made = run(autoencoder(1, 0.2), autoencoder(9, 0.05), losses=losses)
    told = descent(Case(made), [])
    assert (told.state, "learnt without it" in told.why) == ("not-measured", True)
    assert descent(Case(run(autoencoder(1, 0.2), autoencoder(9, 0.2), losses=losses)), []).state == "held"
