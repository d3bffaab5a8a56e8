"""Backward passes and the steps behind them: steps that come too early, or too late, or forget; and what is none of these."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradientflow.depth.causes import passes, remade
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.transmission import transmission
from gradientflow.depth.causes.joined import joined
from gradientflow.records import Alteration, Optimizer, Run, Verdict
from tests.depth.causes.by_hand import Chain, causes, falling, flips, linear, only, tail
from tests.depth.causes.transits import call, group, seen, way
from tests.depth.scripts import watched, write

START = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(512, 10)
y = x[:, :3].sum(1, keepdim=True).tanh()
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.{}

def loss_of():
    rows = torch.randint(512, (64,))
    return F.mse_loss(model(x[rows]), y[rows])

"""
ADAM, MOMENTUM = "Adam(model.parameters(), lr=0.01)", "SGD(model.parameters(), lr=0.02, momentum=0.9)"


def verdict(folder: Path, loop: str, optimizer: str = ADAM) -> Verdict:
    text = START.format(optimizer) + textwrap.dedent(loop)
    outcome = watched(write(folder, text)).outcome
    assert outcome is not None and outcome.verdict.watch.errors == []
    return outcome.verdict


BAD = {
    "step behind the loop": ("steps-missing", ADAM, """
        for _ in range(50):
            optimizer.zero_grad()
            loss_of().backward()
        optimizer.step()  # HERE
        """),
    "step behind each epoch": ("steps-missing", ADAM, """
        for _ in range(6):
            for _ in range(20):
                model.zero_grad()
                loss_of().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()  # HERE
        """),
    "all added up behind the loop": ("steps-missing", ADAM, """
        for _ in range(50):
            loss_of().backward()
        optimizer.step()  # HERE
        """),
    "step ahead of backward": ("steps-missing", ADAM, """
        for _ in range(50):
            optimizer.zero_grad()
            loss = loss_of()
            optimizer.step()  # HERE
            loss.backward()
        """),
    "step ahead of backward, gradients dropped by hand": ("steps-missing", MOMENTUM, """
        def clear():
            for p in model.parameters():
                p.grad = None
        for _ in range(50):
            loss = loss_of()
            clear()
            optimizer.step()  # HERE
            loss.backward()
        """),
    "made anew": ("optimizer-remade", MOMENTUM, """
        for _ in range(50):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)  # HERE
            optimizer.zero_grad()
            loss_of().backward()
            optimizer.step()
        """),
    "made anew in a function": ("optimizer-remade", ADAM, """
        def train_step():
            loss_of().backward()
            other = torch.optim.Adam(model.parameters(), lr=0.01)  # HERE
            other.step()
            other.zero_grad()
        for _ in range(50):
            train_step()
        """),
    "state cleared": ("optimizer-remade", ADAM, """
        for _ in range(50):
            optimizer.state.clear()  # HERE
            optimizer.zero_grad()
            loss_of().backward()
            optimizer.step()
        """),
    "state loaded again": ("optimizer-remade", MOMENTUM, """
        start = optimizer.state_dict()
        for _ in range(50):
            optimizer.zero_grad()
            loss_of().backward()
            optimizer.step()
            optimizer.load_state_dict(start)  # HERE
        """),
}  # fmt: skip
WELL = {
    "adapted to one sample after the other, from the same start each time": (ADAM, """
        start = {k: v.clone() for k, v in model.state_dict().items()}
        for _ in range(50):
            model.load_state_dict(start)
            adapt = torch.optim.Adam(model.parameters(), lr=0.01)
            loss_of().backward()
            adapt.step()
            adapt.zero_grad()
        """),
    "adapted to one sample after the other, behind a training": (ADAM, """
        for _ in range(60):
            optimizer.zero_grad()
            loss_of().backward()
            optimizer.step()
        for _ in range(50):
            adapt = torch.optim.Adam(list(model.parameters())[:2], lr=0.001)
            adapt.zero_grad()
            loss_of().backward()
            adapt.step()
        """),
    "accumulated over 4": (ADAM, """
        for k in range(240):
            (loss_of() / 4).backward()
            if k % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        """),
    "accumulated over 64, two steps": (ADAM, """
        for _ in range(2):
            for _ in range(64):
                (loss_of() / 64).backward()
            optimizer.step()
            optimizer.zero_grad()
        """),
    "accumulated over 10, summed, and it learns": (ADAM, """
        for _ in range(60):
            for _ in range(10):
                loss_of().backward()
            optimizer.step()
            optimizer.zero_grad()
        """),
    "made anew once per stage": (ADAM, """
        for stage in range(6):
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            for _ in range(20):
                optimizer.zero_grad()
                loss_of().backward()
                optimizer.step()
        """),
    "made anew, and has no memory": (ADAM, """
        for _ in range(60):
            other = torch.optim.SGD(model.parameters(), lr=0.1)
            other.zero_grad()
            loss_of().backward()
            other.step()
        """),
    "the loop begins with the step": (ADAM, """
        for _ in range(60):
            optimizer.step()
            optimizer.zero_grad()
            loss_of().backward()
        """),
    "an attack of ten passes": (ADAM, """
        for _ in range(30):
            rows = torch.randint(512, (64,))
            moved = torch.zeros(64, 10, requires_grad=True)
            for _ in range(10):
                F.mse_loss(model(x[rows] + moved), y[rows]).backward()
                moved.data.add_(0.01 * moved.grad.sign())
                moved.grad = None
                model.zero_grad()
            optimizer.zero_grad()
            F.mse_loss(model(x[rows] + moved.detach()), y[rows]).backward()
            optimizer.step()
        """),
    "one pass a sample, clipped by hand": (ADAM, """
        for _ in range(30):
            sums = [torch.zeros_like(p) for p in model.parameters()]
            for k in torch.randint(512, (16,)):
                model.zero_grad()
                F.mse_loss(model(x[k : k + 1]), y[k : k + 1]).backward()
                for total, p in zip(sums, model.parameters()):
                    total += p.grad
            for total, p in zip(sums, model.parameters()):
                p.grad = total / 16
            optimizer.step()
        """),
    "closures": ("LBFGS(model.parameters(), lr=0.5)", """
        def closure():
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            return loss
        for _ in range(8):
            optimizer.step(closure)
        """),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_it_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    cause, optimizer, loop = BAD[name]
    found = verdict(tmp_path, loop, optimizer).findings[0]
    assert found.cause == cause, found.summary
    text = (tmp_path / "script.py").read_text(encoding="utf-8")
    (line,) = [k for k, line in enumerate(text.splitlines(), 1) if "# HERE" in line]
    assert found.place is not None and found.place.line == line, found.summary


@pytest.mark.parametrize("name", WELL)
def test_what_is_well_is_called_well(name: str, tmp_path: Path) -> None:
    optimizer, loop = WELL[name]
    found = verdict(tmp_path, loop, optimizer)
    assert found.symptom == "healthy", found.summary


def test_how_many_passes_stand_behind_a_step_is_said(tmp_path: Path) -> None:
    def said(name: str) -> str:
        return next(c.why for c in verdict(tmp_path, WELL[name][1]).certificates if c.name == "transmission")

    assert "; 64 backward calls were added up ahead of each step, each counting 1/64 or so" in said(
        "accumulated over 64, two steps"
    )
    assert "; 10 backward calls were added up ahead of each step, each counting whole" in said(
        "accumulated over 10, summed, and it learns"
    )
    assert "; of the 11 backward calls ahead of each step the gradients of 10 were cleared again" in said(
        "an attack of ten passes"
    )


def test_a_step_on_the_gradient_of_the_batch_before_is_said(tmp_path: Path) -> None:
    found = verdict(tmp_path, """
        flat = nn.Linear(10, 1)
        optimizer = torch.optim.SGD(flat.parameters(), lr=0.05)
        for _ in range(60):
            rows = torch.randint(512, (64,))
            loss = F.mse_loss(flat(x[rows]), y[rows])
            optimizer.step()
            optimizer.zero_grad()
            loss.backward()
        """)  # fmt: skip
    assert found.symptom == "not-measured"
    assert (
        "each step comes ahead of the backward call of its own batch, and uses the gradient of the batch before"
        in found.summary
    )


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def passed(count: int, cleared: int, *calls: Alteration, steps: int = 3, **more: object) -> Run:
    run = seen([way(1.0, *calls) for _ in range(steps)], losses=falling(1.0, 0.5), **more)
    for probe in run.probes:
        assert probe.transit is not None
        probe.transit.passes, probe.transit.cleared = count, cleared
    return run


def test_passes_that_are_cleared() -> None:
    flips(lambda n: causes(passes.out_of_step, passed(round(n), round(n) - 1)) != [], 7, 8)
    flips(lambda n: causes(passes.out_of_step, passed(101, round(n))) != [], 89, 91)


def test_a_gradient_that_the_script_makes_itself_is_not_judged() -> None:
    assert causes(passes.out_of_step, passed(20, 19, call("clip_grad_norm_", 0.5))) == ["steps-missing"]
    assert causes(passes.out_of_step, passed(20, 19, call("grad = …", 0.5))) == []


def test_passes_that_are_cleared_at_most_steps() -> None:
    def told(share: float) -> bool:
        run = passed(20, 19, steps=20)
        for probe in run.probes[: round(20 * (1 - share))]:
            assert probe.transit is not None
            probe.transit.passes = 1
        return causes(passes.out_of_step, run) != []

    flips(told, 0.75, 0.8)


def test_passes_for_the_data_are_not_judged() -> None:
    run = passed(20, 19)
    run.meta.params[0].is_parameter, run.meta.params[0].optimizer = False, None
    assert causes(passes.out_of_step, run) == []


def early(late: float, steps: float = 9, graded: int = 0) -> Run:
    run = seen([])
    run.probes, run.meta.late, run.meta.optimizers[0].steps = [], round(late), round(steps)
    for p in run.meta.params:
        p.graded = graded
    return run


def test_a_step_ahead_of_backward() -> None:
    flips(lambda late: causes(passes.out_of_step, early(late)) != [], 1, 2)
    flips(lambda steps: causes(passes.out_of_step, early(2, steps)) != [], 2, 3)
    assert causes(passes.out_of_step, early(2, graded=1)) == []
    flips(lambda late: "came ahead" in transmission(Case(early(late)), []).why, 1, 2)


def piled(count: float, losses: list[float], divisor: float | None = None) -> Run:
    rows = [linear(), *tail()]
    run = passed(round(count), 0)
    run.steps = run.steps[: len(losses)]
    for step, loss in zip(run.steps, losses, strict=True):
        step.loss, step.backwards = loss, round(count)
    for probe in run.probes:
        probe.ops = Chain(rows).probe().ops
        if divisor is not None:
            probe.ops[-1].name, probe.ops[-1].scalars = "div", [divisor]
    return run


def test_passes_that_are_added_up() -> None:
    flips(lambda n: causes(passes.out_of_step, piled(n, [1.0])) != [], 7, 8)
    flips(lambda n: causes(passes.out_of_step, piled(50, [1.0] * round(n))) != [], 3, 2)


def test_a_loss_that_is_divided_by_the_number_of_passes() -> None:
    assert causes(passes.out_of_step, piled(50, [1.0], 50.0)) == []
    assert causes(passes.out_of_step, piled(50, [1.0], 26.0)) == []
    assert causes(passes.out_of_step, piled(50, [1.0], 24.0)) == ["steps-missing"]
    assert causes(passes.out_of_step, piled(50, [1.0], 101.0)) == ["steps-missing"]


def forgotten(share: float, looks: int = 21) -> Run:
    """A run in which this share of the later steps that were looked at finds nothing remembered."""
    fresh = round(share * (looks - 1))
    return seen([way(groups=[group(fresh=k == 0 or k <= fresh)]) for k in range(looks)], losses=falling(1.0, 0.1))


def test_a_memory_of_one_step() -> None:
    flips(lambda share: causes(remade.forgetful, forgotten(share)) != [], 0.75, 0.8)
    flips(lambda looks: causes(remade.forgetful, forgotten(1.0, round(looks))) != [], 3, 4)


def made(count: float, each: int, **more: object) -> Run:
    """A run with so many optimizers of one kind, one after the other."""
    run = seen([], **more)
    first = run.meta.optimizers[0]
    run.meta.optimizers = [
        Optimizer(k, first.name, {}, list(first.params), "train.py", 9, "train.py", 5 if k == 0 else 7, each)
        for k in range(round(count))
    ]
    for k, step in enumerate(run.steps):
        step.optimizer = min(k // each, round(count) - 1)
    return run


def test_many_optimizers_made_one_after_the_other_are_one() -> None:
    flips(lambda n: len(joined(made(n, 1))[0].meta.optimizers) == 1, 4, 5)
    flips(lambda each: len(joined(made(9, round(each)))[0].meta.optimizers) == 1, 3, 2)
    run, counts = joined(made(9, 2))
    one = run.meta.optimizers[0]
    assert counts == {0: 9} and (one.steps, one.made_line) == (18, 7)
    assert {s.optimizer for s in run.steps} == {0} and only(Case(run).trends).measured  # type: ignore[arg-type]


def test_optimizers_of_other_parameters_or_kinds_stay_apart() -> None:
    run = made(9, 1)
    for k, optimizer in enumerate(run.meta.optimizers):
        optimizer.params = [k]
    assert joined(run) == (run, {})
    run = made(9, 1)
    for k, optimizer in enumerate(run.meta.optimizers):
        optimizer.name = f"Own{k}"
    assert joined(run)[1] == {}
