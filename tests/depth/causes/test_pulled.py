"""Answers that a loss only pulls together: on little training runs, and each limit from both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradientflow.depth.causes import judge
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.descent import descent
from gradientflow.depth.causes.pulled import pulled_together
from gradientflow.records import Finding, Op, Operand, Run
from tests.depth.causes.by_hand import Chain, causes, flips, grad, linear, run, value
from tests.truth.watching import watched

Loss = Callable[[Tensor, Tensor], Tensor]


def alike(a: Tensor, b: Tensor) -> Tensor:
    return -F.cosine_similarity(a, b, dim=1).mean()


def one_stopped(a: Tensor, b: Tensor) -> Tensor:
    return alike(a, b.detach())


def near(a: Tensor, b: Tensor) -> Tensor:
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean()


def among_others(a: Tensor, b: Tensor) -> Tensor:
    """The control: the other samples of the batch hold them apart."""
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.2
    return F.cross_entropy(scores, torch.arange(len(a)))


def spread_out(a: Tensor, b: Tensor) -> Tensor:
    """The control: a term on the spread of the batch holds them apart."""
    return F.mse_loss(a, b) + sum((1 - z.std(0)).relu().mean() for z in (a, b))


def views(loss: Loss, labels: bool = False) -> Run:
    """Two noisy views of each sample through one network."""
    torch.manual_seed(0)
    x = torch.rand(256, 16)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    head = nn.Linear(8, 2)
    wanted = (x[:, 0] > x[:, 0].median()).long()
    with watched(every=15) as made:
        optimizer = torch.optim.Adam([*net.parameters(), *(head.parameters() if labels else [])], lr=2e-3)
        for _ in range(150):
            rows = torch.randint(256, (64,))
            a, b = (net(x[rows] + 0.05 * torch.randn(64, 16)) for _ in range(2))
            told = loss(a, b) + (F.cross_entropy(head(a), wanted[rows]) if labels else 0.0)
            optimizer.zero_grad()
            told.backward()
            optimizer.step()
    return made


@pytest.mark.parametrize("loss", [alike, one_stopped, near])
def test_answers_that_nothing_holds_apart(loss: Loss) -> None:
    found = judge(views(loss))
    assert found.watch.errors == []
    assert found.findings[0].cause == "collapse", found.summary
    assert found.findings[0].remedies[0].kind == "hold-apart"
    assert found.findings[0].evidence["spread_over_size"] < 0.15


@pytest.mark.parametrize("loss", [among_others, spread_out])
def test_answers_that_something_holds_apart(loss: Loss) -> None:
    found = judge(views(loss))
    assert found.findings == [], found.summary


def test_labels_are_another_measure() -> None:
    assert causes(pulled_together, views(near, labels=True)) == []


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def pair(
    step: int, apart: float, name: str = "cosine_similarity", size: float = 1.0, width: int = 4, reward: bool = False
) -> Chain:
    """Two calls of one layer, held against each other."""

    class Pair(Chain):
        def probe(self):  # type: ignore[no-untyped-def]
            made = super().probe()
            one = made.ops[1]
            again = Op(2, one.name, one.kind, "net.py", 2, "forward", "m1", None, [*one.operands], one.value, grad(0.5))
            held = Op(3, name, "elementwise", "net.py", 3, None, None, None,
                      [Operand(op=1, grad=grad(0.5)), Operand(op=2, grad=grad(0.5))], value(shape=(64,)), grad(1.0))  # fmt: skip
            root = Op(
                4,
                "mean",
                "reduce",
                "net.py",
                4,
                None,
                None,
                None,
                [Operand(op=3, grad=grad(1.0))],
                value(shape=()),
                grad(1.0),
            )
            if reward:
                root.name = "add"
                root.operands.append(Operand(value=value(shape=(64,))))
            made.ops[2:] = [again, held, root]
            made.root = 4
            return made

    answer = linear(value=value(size, (64, width), spread=apart * size))
    return Pair([linear(), answer], step=step)


def drawn(
    last: float = 0.05, before: float | None = None, first: float = 1.0, end: int = 200, **more: object
) -> Iterator[Finding]:
    now = last if before is None else before
    chains = [pair(1, first), pair(9, first), pair(end - 1, now, **more), pair(end, last, **more)]  # type: ignore[arg-type]
    made = run(*chains)
    for p in made.meta.params:
        p.optimizer = 0
    return iter(pulled_together(Case(made)))


def symptoms(**more: object) -> list[str]:
    return [f.symptom for f in drawn(**more)]  # type: ignore[arg-type]


def test_how_little_they_differ() -> None:
    flips(lambda apart: symptoms(last=apart, before=0.1), 0.151, 0.149)
    flips(lambda apart: symptoms(before=apart), 0.151, 0.149)


def test_what_is_left_of_what_they_differed_by() -> None:
    flips(lambda first: symptoms(last=0.105, first=first, end=90), 0.149, 0.151)


def test_what_gets_small_with_all_there_is() -> None:
    flips(lambda size: symptoms(last=1.0, size=size, name="mse_loss"), 0.051, 0.049)
    assert symptoms(last=1.0, size=0.01) == []  # their directions are as far apart as ever


def test_what_never_differed_and_has_had_its_time() -> None:
    assert symptoms(last=0.1, first=0.12, end=100) == ["stalled"]
    assert symptoms(last=0.1, first=0.12, end=99) == []
    assert symptoms(last=0.13, first=0.12) == []  # it is on its way


def test_probes_that_are_needed() -> None:
    made = run(pair(1, 1.0), pair(199, 0.05), pair(200, 0.05))
    assert causes(pulled_together, made) == []


def test_a_reward_is_another_measure() -> None:
    assert symptoms(reward=True) == []


def test_one_number_a_sample_is_no_embedding() -> None:
    assert symptoms() == ["crawling"]
    assert symptoms(width=1) == []


def test_a_fall_that_alike_answers_would_do_as_well_proves_nothing() -> None:
    losses = [1.0 - k / 100 for k in range(90)]
    made = run(pair(1, 0.2), pair(9, 0.2), pair(50, 0.2), pair(60, 0.12), losses=losses)
    told = descent(Case(made), [])
    assert (told.state, "one answer to everything" in told.why) == ("not-measured", True)
    apart = run(pair(1, 0.2), pair(9, 0.2), pair(50, 0.2), pair(60, 0.2), losses=losses)
    assert descent(Case(apart), []).state == "held"
