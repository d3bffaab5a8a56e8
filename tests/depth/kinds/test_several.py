"""Several optimizers: each has its own steps, its own loss and its own way back, down to the first layer that it trains."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from gradientflow.depth.watch.session import Outcome
from gradientflow.report.terminal import print_verdict
from tests.depth.scripts import watched
from tests.report.pages import held

GAN = """\
import torch
from torch import nn
torch.manual_seed(0)
G = nn.Sequential(
    nn.Linear(8, 32),  # G first
    nn.ReLU(),
    nn.Linear(32, 2),
)
D = nn.Sequential(
    nn.Linear(2, 32),  # D first
    nn.LeakyReLU(0.2),
    nn.Linear(32, 1),
)
og, od = torch.optim.Adam(G.parameters(), 1e-3), torch.optim.Adam(D.parameters(), 1e-3)
bce = nn.BCEWithLogitsLoss()
for step in range(20):
    real, fake = torch.randn(64, 2) * 0.3 + 2, G(torch.randn(64, 8))
    ld = bce(D(real), torch.ones(64, 1)) + bce(D(fake.detach()), torch.zeros(64, 1))
    od.zero_grad(); ld.backward(); od.step()
    lg = bce(D(G(torch.randn(64, 8))), torch.ones(64, 1))
    og.zero_grad(); lg.backward(); og.step()
"""
TOWERS = """\
import torch
from torch import nn
torch.manual_seed(0)
users = nn.Sequential(
    nn.Linear(12, 32),  # users first
    nn.ReLU(),
    nn.Linear(32, 8),
)
items = nn.Sequential(
    nn.Linear(20, 64),  # items first
    nn.Tanh(),
    nn.Linear(64, 8),
)
ou, oi = torch.optim.Adam(users.parameters(), 1e-3), torch.optim.SGD(items.parameters(), 0.1)
for step in range(20):
    score = (users(torch.randn(64, 12)) * items(torch.randn(64, 20))).sum(1)
    loss = nn.functional.binary_cross_entropy_with_logits(score, torch.ones(64))
    ou.zero_grad(); oi.zero_grad(); loss.backward(); ou.step(); oi.step()
"""
ACTOR_CRITIC = """\
import torch
from torch import nn
torch.manual_seed(0)
class Agent:
    def __init__(self):
        self.actor = nn.Sequential(
            nn.Linear(4, 32),  # agent.actor first
            nn.Tanh(),
            nn.Linear(32, 3),
        )
        self.critic = nn.Sequential(
            nn.Linear(4, 32),  # agent.critic first
            nn.ReLU(),
            nn.Linear(32, 1),
        )
agent = Agent()
op, ov = torch.optim.Adam(agent.actor.parameters(), 3e-3), torch.optim.Adam(agent.critic.parameters(), 1e-2)
W = torch.randn(4, 3)
for step in range(20):
    s = torch.randn(128, 4)
    dist = torch.distributions.Categorical(logits=agent.actor(s))
    a = dist.sample()
    r = (s @ W).gather(1, a[:, None]).squeeze(1)
    v = agent.critic(s).squeeze(1)
    lp = -(dist.log_prob(a) * (r - v).detach()).mean()
    lv = (v - r).pow(2).mean()  # both losses are there before the first step
    op.zero_grad(); lp.backward(); op.step()
    ov.zero_grad(); lv.backward(); ov.step()
"""
TOKENS = """\
import weakref
torch.manual_seed(0)
seen = []
class Token: pass
def keep(node):
    node.metadata["token"] = token = Token()  # lives as long as the graph
    seen.append(weakref.ref(token))
"""
SHARED = GAN.replace("lg = bce(D(G(torch.randn(64, 8))), torch.ones(64, 1))", "lg = bce(D(fake), torch.ones(64, 1))")
SICK = """\
import torch
from torch import nn
torch.manual_seed(0)
layers = [nn.Linear(8, 32)]
for _ in range(10):
    layers += [nn.Sigmoid(), nn.Linear(32, 32)]
G = nn.Sequential(*layers, nn.Linear(32, 2))
D = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
""" + SHARED[SHARED.index("og, od =") :]
KINDS = {"gan": (GAN, ("D", "G")), "one fake": (SHARED, ("D", "G")), "towers": (TOWERS, ("users", "items")), "agent": (ACTOR_CRITIC, ("agent.actor", "agent.critic"))}  # fmt: skip


def run(text: str, folder: Path) -> Outcome:
    script = folder / "train.py"
    script.write_text(text, encoding="utf-8")
    outcome = watched(script).outcome
    assert outcome is not None
    assert outcome.verdict.watch.errors == []
    return outcome


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_its_own_way_back_to_what_it_trains(kind: str, tmp_path: Path) -> None:
    text, names = KINDS[kind]
    verdict = run(text, tmp_path).verdict
    assert [own.trains for own in verdict.optimizers] == list(names)
    for own in verdict.optimizers:
        ends = own.budget.by_op[-1]
        assert ends.line == 1 + text.split("\n").index(
            next(line for line in text.split("\n") if line.endswith(f"# {own.trains} first"))
        )
        assert own.decades == pytest.approx(own.budget.body_decades, rel=1e-3)
        parts = sum(row.decades for row in own.budget.by_op if row.decades is not None)
        assert parts == pytest.approx(own.budget.total_decades, abs=1e-9)
        assert own.steps == 20
        assert own.loss.first is not None
    assert verdict.budget in [own.budget for own in verdict.optimizers]


@pytest.mark.parametrize("text", [GAN, SHARED], ids=["a fresh fake", "the fake of the step before"])
def test_the_generators_way_leads_through_the_discriminator_and_not_the_other_way_round(
    text: str, tmp_path: Path
) -> None:
    d, g = run(text, tmp_path).verdict.optimizers
    assert {row.line for row in d.budget.by_op if row.kind == "linear"} == {10, 12}
    assert {row.line for row in g.budget.by_op if row.kind == "linear"} == {5, 7, 10, 12}


def test_a_generator_whose_forward_lies_ahead_of_the_other_step_is_judged_too(tmp_path: Path) -> None:
    verdict = run(SICK, tmp_path).verdict
    assert (verdict.symptom, verdict.findings[0].cause) == ("vanishing", "saturating-activation")
    place = verdict.findings[0].place
    assert place is not None and place.line == 6
    assert verdict.budget.body_decades is not None and verdict.budget.body_decades < -8
    calm = tmp_path / "calm"
    calm.mkdir()
    assert run(SHARED, calm).verdict.symptom == "healthy"


def test_one_backward_call_for_both_is_the_loss_of_both(tmp_path: Path) -> None:
    outcome = run(TOWERS, tmp_path)
    first, second = outcome.verdict.optimizers
    assert first.loss == second.loss
    assert outcome.run.losses_of(1) == outcome.run.losses_of(0)
    assert all(s.loss is None for s in outcome.run.steps if s.optimizer == 1)  # it had no call of its own


def test_of_two_losses_each_optimizer_keeps_its_own(tmp_path: Path) -> None:
    outcome = run(ACTOR_CRITIC, tmp_path)
    for own in outcome.verdict.optimizers:
        losses = [s.loss for s in outcome.run.steps if s.optimizer == own.index]
        assert (own.loss.first, own.loss.last) == (losses[0], losses[-1])
    assert outcome.verdict.loss == outcome.verdict.optimizers[0].loss  # not from the one's first to the other's last


def test_two_of_one_class_and_line_have_a_step_table_each(tmp_path: Path) -> None:
    outcome = run(GAN, tmp_path)
    budgets = outcome.verdict.step_budgets
    assert {one.optimizer for one in budgets} == {"Adam"}
    for k in (0, 1):
        steps = {one.step for one in budgets if one.index == k}
        assert steps == {p.step for p in outcome.run.probes if p.optimizer == k and p.transit}
        assert steps


@pytest.mark.parametrize("kind", KINDS)
def test_both_reports_draw_each(kind: str, tmp_path: Path) -> None:
    text, names = KINDS[kind]
    outcome = run(text, tmp_path)
    out = io.StringIO()
    print_verdict(outcome.verdict, outcome.run, Console(file=out, width=100))
    page = held(outcome.verdict, outcome.run)
    assert out.getvalue().count("the gradient's way back") == len(page.view.own) == 2
    for own in page.view.own:
        assert own.probe is not None
        way = page.ways[own.probe] if own.way is None else page.owns[own.way]
        assert way is not None
        assert way.way.budget.total_decades == own.decades
    for own, name in zip(outcome.verdict.optimizers, names, strict=True):
        assert f"\n  {own.name} of {name}   train.py:" in out.getvalue()
        assert f"{own.name} of {name}" in [o.name for o in page.view.own]


def test_one_optimizer_has_one_way_without_a_name(tmp_path: Path) -> None:
    alone = GAN.replace("    od.zero_grad(); ld.backward(); od.step()\n", "")
    outcome = run(alone, tmp_path)
    assert outcome.verdict.optimizers == []
    assert held(outcome.verdict, outcome.run).view.own == []


def test_what_waits_for_a_second_call_is_let_go_of(tmp_path: Path) -> None:
    """The graph of a step that is measured is held for the next step's backward call, and no longer."""
    watching = ACTOR_CRITIC.replace("    op.zero_grad()", "    keep(lp.grad_fn); op.zero_grad()").replace(
        "torch.manual_seed(0)\n", TOKENS, 1
    )
    script = tmp_path / "train.py"
    script.write_text(watching + "del lp, lv, v, r, a, dist\nleft = sum(s() is not None for s in seen)\n", "utf-8")
    assert watched(script, probe_every=1).scope["left"] <= 1  # of twenty: that of the last step may still wait


def test_of_very_many_the_first_are_followed(tmp_path: Path) -> None:
    text = """\
import torch
torch.manual_seed(0)
nets = [torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)) for _ in range(12)]
opts = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
x = torch.randn(8, 4)
for step in range(4):
    for net, opt in zip(nets, opts):
        opt.zero_grad(); (net(x) - 1).pow(2).mean().backward(); opt.step()
"""
    outcome = run(text, tmp_path)
    followed = [bool(own.budget.by_op) for own in outcome.verdict.optimizers]
    assert (len(followed), any(followed[8:])) == (12, False)
    assert sum(followed) >= 4
    assert "first 8 optimizers only" in outcome.verdict.optimizers[-1].budget.note
    assert "8 more optimizers" in outcome.verdict.summary
