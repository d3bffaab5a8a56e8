"""Updates that rounding swallows: each limit from both sides."""

from __future__ import annotations

from typing import Any

from gradientflow.depth.causes import judge
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.lost import swallowed
from gradientflow.records import Stage
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, progressed, value
from tests.depth.causes.transits import group, seen, way


def found(lost: float | None = 0.9, energy: float | None = 0.5, **more: Any) -> list[str]:
    return causes(swallowed, seen([way(groups=[group(lost=lost, lost_energy=energy)])] * 3, **more))


def test_the_share_of_updates_that_do_not_land() -> None:
    flips(lambda lost: found(lost), 0.49, 0.51)


def test_the_share_of_their_energy() -> None:
    flips(lambda energy: found(energy=energy), 0.098, 0.102)


def test_a_run_that_learns_all_the_same() -> None:
    flips(lambda progress: found(losses=progressed(progress)), 0.31, 0.29)


def test_a_run_that_has_hardly_begun() -> None:
    flips(lambda losses: found(losses=[1.0] * int(losses)), 19, 20)


def test_what_is_told() -> None:
    run = seen([way(groups=[group(lost=0.9, lost_energy=0.5)])] * 3)
    run.meta.params[0].dtype = "bfloat16"
    f = only(swallowed(Case(run)))
    assert (f.symptom, f.cause) == ("crawling", "rounding")
    assert "90% of the updates of SGD do not land" in f.summary
    assert "bfloat16" in f.summary
    assert [r.kind for r in f.remedies] == ["wide-weights", "raise-step"]


def sure(update: float = 0.2, grads: Any = 1.0, weight: float = 10.0, entries: int = 64) -> float:
    """How sure it is of an update of so much, in weights of so much."""
    stages = [Stage("gradient", 2.0), Stage("learning rate", update), Stage("rounding", 0.0)]
    way_ = way(groups=[group(lost=0.9, lost_energy=0.5, stages=stages)])
    made = seen([way_] * 3, losses=[1.0] * 60, grads=grads, weights=weight)
    made.meta.params[0].shape, made.meta.optimizers[0].params = [entries], [0]
    return only(swallowed(Case(made))).confidence


def test_an_update_that_single_precision_would_lose_as_well_is_what_another_fault_leaves() -> None:
    flips(lambda update: ["its own"] if sure(update * 10.0) > 0.8 else [], 0.9 * 2**-24, 1.1 * 2**-24)
    # (entry by entry: a group of which a quarter was looked at moves by twice as much)
    flips(lambda update: ["its own"] if sure(update * 10.0, entries=256) > 0.8 else [], 0.45 * 2**-24, 0.55 * 2**-24)


def test_a_gradient_that_died_on_the_way_leaves_updates_that_do_not_land() -> None:
    flips(lambda left: ["its own"] if sure(grads=[1.0] * 30 + [left] * 30) > 0.8 else [], 0.049, 0.051)


def test_nothing_is_told_where_nothing_was_compared() -> None:
    assert found(None) == []
    assert causes(swallowed, seen([])) == []


def squashed(saturated: float, update: float) -> list[str]:
    """The causes of a run whose output is at the end of its range, and whose updates, of such a size, do not land; the first first."""
    stages = [Stage("gradient", 2.0), Stage("learning rate", update), Stage("rounding", 0.0)]
    made = seen([way(groups=[group(lost=0.9, lost_energy=0.5, stages=stages)])] * 3, weights=10.0)
    ends = Row("sigmoid", "activation", gain=0.1, value=value(shape=(64, 4), saturated=saturated))
    loss = Row("mean", "reduce", value=value(shape=()))
    chains = [Chain([linear(), linear(value=value(shape=(64, 4))), ends, loss], step=k + 1) for k in range(3)]
    for probe, chain in zip(made.probes, chains, strict=True):
        probe.ops, probe.root, probe.params = (p := chain.probe()).ops, p.root, p.params
    return [f.cause for f in judge(made).findings]


def test_behind_what_made_the_updates_small() -> None:
    assert squashed(0.9, update=1e-8)[0] == "output-activation"
    assert squashed(0.1, update=1e-8)[0] == "step-too-small"
    assert "rounding" in squashed(0.9, update=1e-8)  # it is told all the same
    assert (
        squashed(0.1, update=1e-2)[0] == squashed(0.9, update=1e-2)[0] == "rounding"
    )  # single precision would take it
