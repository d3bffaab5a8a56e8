"""Weights ahead of a step that are not what the step before left: rewritten by whatever means, and told so."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from gradientflow.depth.watch.continuity import Continuity
from tests.depth.watch.steps import script, seen

AVERAGE = """
average = [p.detach().clone() for p in model.parameters()]
kept = {k: v.clone() for k, v in model.state_dict().items()}
"""
WAYS = {
    "copy_ under no_grad": "with torch.no_grad():\n    for p, a in zip(model.parameters(), average):\n        p.copy_(a)",
    "data.copy_": "for p, a in zip(model.parameters(), average):\n    p.data.copy_(a)",
    "data = ": "for p, a in zip(model.parameters(), average):\n    p.data = a.clone()",
    "load_state_dict": "model.load_state_dict(kept)",
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_that_are_put_back_are_seen(way: str, tmp_path: Path) -> None:
    run = seen(tmp_path, script(start=AVERAGE, behind=WAYS[way], count=4))
    assert [r.step for r in run.rewrites] == [2, 3, 4]
    for r in run.rewrites:
        assert r.optimizer == 0
        assert r.size > 0
        assert r.share > 0.5
        assert r.undone == pytest.approx(1.0, abs=1e-4)  # all of the step before


def test_weights_that_nobody_touches_are_not(tmp_path: Path) -> None:
    """The control: among what is done between steps, only looking."""
    run = seen(
        tmp_path,
        script(behind="model.eval(); model.state_dict(); model.train(); [p.sum() for p in model.parameters()]"),
    )
    assert run.rewrites == []


def test_a_projection_is_seen_and_takes_little_back(tmp_path: Path) -> None:
    clamp = "with torch.no_grad():\n    for p in model.parameters():\n        p.clamp_(-0.3, 0.3)"
    run = seen(tmp_path, script(behind=clamp, count=6))
    assert run.rewrites
    assert all(r.undone is not None and r.undone < 0.5 for r in run.rewrites if r.step > 2)


def test_what_is_not_finite_is_told_as_such(tmp_path: Path) -> None:
    (r,) = seen(tmp_path, script(behind="if k == 1:\n    model[2].weight.data[...] = float('nan')")).rewrites
    assert r.step == 3
    assert r.size == math.inf
    assert r.undone is None
    assert 0 < r.share < 1


# ── by itself ────────────────────────────────────────────────────────────────────────────────────────────────────────


def moved(p: nn.Parameter, by: float) -> None:
    with torch.no_grad():
        p += by


def test_the_share_that_is_taken_back_is_held_against_the_last_update() -> None:
    p = nn.Parameter(torch.ones(40))
    c = Continuity([p])
    assert c.before() is None  # nothing was left yet
    moved(p, 0.5)
    c.after()
    moved(p, -0.2)
    found = c.before()
    assert found is not None
    assert found == pytest.approx((0.2 / 1.5, 0.4, 1.0))


def test_a_large_tensor_is_looked_at_in_a_few_places_and_a_changed_one_anew() -> None:
    p = nn.Parameter(torch.ones(1000))
    c = Continuity([p])
    c.before(), c.after()
    with torch.no_grad():
        p[:10] = 7.0  # (beside the sample)
    assert c.before() is None
    c.after()
    with torch.no_grad():
        p[495:505] = 7.0
    found = c.before()
    assert found is not None
    assert found[2] == pytest.approx(10 / 16)


@pytest.mark.parametrize("what", [torch.ones(()), torch.ones(4, 4).t()[1:]])
def test_what_cannot_be_sampled_is_left_out(what: torch.Tensor) -> None:
    c = Continuity([nn.Parameter(torch.ones(())), what])
    assert c.before() is None
    c.after()
    assert c.before() is None


def test_two_formats() -> None:
    p, q = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4, dtype=torch.float64))
    c = Continuity([p, q])
    c.before(), c.after()
    moved(q, 1.0)
    found = c.before()
    assert found is not None and found[2] == 0.5


def test_other_memory_is_looked_at_where_it_lies_and_the_old_is_let_go() -> None:
    p = nn.Parameter(torch.ones(40))
    c = Continuity([p])
    c.before()
    c.after()
    told, old = [], []
    for value in (1.0, 2.0, 2.0, 3.0):
        old.append(StorageWeakRef(p.untyped_storage()))
        p.data = torch.full((40,), value)
        told.append(c.before() is not None)
        c.after()
    assert told == [False, True, False, True]
    assert [ref.expired() for ref in old] == [True] * 4
