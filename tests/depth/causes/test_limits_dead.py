"""The limits of dead, each from both sides."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import dead, flow
from gradientflow.depth.causes.case import Case
from gradientflow.records import Finding
from tests.depth.causes.by_hand import Chain, Row, flips, linear, only, run, tail, value


def chain(units: float = 0.95, end: bool = True, data: float = 1.0, **more: object) -> Chain:
    """A layer, a ReLU of which these units are dead, and a layer that sends nothing back to it (`end`)."""
    relu = Row("relu", "activation", value=value(dead=units))
    last, loss = tail()
    last.gain, last.weight = (0.0 if end else 1.0), 1.0
    return Chain([linear(), relu, last, loss], data=value(data), **more)  # type: ignore[arg-type]


def finding(*chains: Chain, **more: object) -> Finding:
    return only(dead.dead(Case(run(*chains, **more))))  # type: ignore[arg-type]


def test_units_that_are_dead_are_where_the_gradient_ends() -> None:
    def place(units: float) -> str | None:
        at = finding(chain(units)).place
        return at.op if at is not None else None

    assert place(0.89) == "linear"
    assert place(0.91) == "relu"


def knocked(before: float = 0.1, after: float = 0.95, batch: int = 64, update: float = 0.6) -> list[Finding]:
    first, last = chain(before, end=False, batch=batch), chain(after, end=False, step=50, batch=batch)
    return dead.dead(Case(run(first, last, updates=update)))


def test_units_that_lived_at_the_start() -> None:
    flips(lambda units: knocked(before=units), 0.51, 0.49)


def test_units_that_are_dead_in_the_end() -> None:
    flips(lambda units: knocked(after=units), 0.79, 0.81)


def test_samples_in_which_a_unit_that_lives_shows() -> None:
    flips(lambda batch: knocked(batch=int(batch)), 7, 8)


def test_an_update_beside_units_that_died() -> None:
    flips(lambda update: knocked(update=update), 0.29, 0.31)


@pytest.mark.parametrize(("update", "cause"), [(0.49, "dead-units"), (0.51, "step-too-large")])
def test_an_update_before_the_gradient_ended(update: float, cause: str) -> None:
    assert finding(chain(end=False), chain(step=50), updates=update).cause == cause


@pytest.mark.parametrize(("times", "confidence"), [(1.97, 0.9), (2.03, 0.55)])
def test_a_rise_of_the_loss_is_the_nearer_cause(times: float, confidence: float) -> None:
    losses = [1.0] * 5 + [1.0 + times] + [1.0] * 54
    assert finding(chain(end=False), chain(step=50), losses=losses).confidence == confidence


@pytest.mark.parametrize(("size", "cause"), [(19.8, "dead-units"), (20.2, "unscaled-input")])
def test_large_data_kills(size: float, cause: str) -> None:
    assert finding(chain(data=size)).cause == cause


# ── rounded to zero ──────────────────────────────────────────────────────────────────────────────────────────────────


def lost_by_and_by(top: float, gain: float = 1e-2) -> Case:
    """Layers that each take a little, then one to which a gradient of this largest entry comes and behind which there is none."""
    chain = Chain([linear(), linear(), linear(0.0), *(linear(gain) for _ in range(3)), *tail()])
    seen = run(chain, chain)
    for probe in seen.probes:
        at = probe.ops[2]
        assert at.grad is not None
        at.grad.max = top
    return Case(seen)


def test_what_is_rounded_to_zero_is_not_dead_but_vanishing() -> None:
    normal = 2.0**-126
    flips(lambda times: [f.symptom for f in dead.dead(lost_by_and_by(normal * times))], 99, 101)
    gone = only(flow.depth(lost_by_and_by(normal)))
    assert gone.symptom == "vanishing"
    assert gone.evidence["layers_behind_underflow"] == 2
    assert flow.depth(lost_by_and_by(1.0)) == []


def test_what_is_rounded_to_zero_and_did_not_vanish_before_is_dead() -> None:
    """Half precision, say: nothing was lost on the way, but the gradient began next to the smallest number."""
    flips(lambda decades: [f.symptom for f in dead.dead(lost_by_and_by(0.0, 10 ** (-decades / 3)))], 2.1, 1.9)


def test_one_batch_without_a_gradient_is_no_end() -> None:
    """A reward of zero: the whole network gets none at that step, and did at a step before."""

    def ended(ago: float) -> list[str]:
        rows = [
            linear(),
            linear(value=value(shape=(64, 4))),
            Row("mul", "elementwise", 0.0),
            Row("mean", "reduce", value=value(shape=())),
        ]
        grads = [0.0] * 60
        grads[59 - int(ago)] = 1.0
        chain = Chain(rows, step=60)
        return [f.symptom for f in dead.dead(Case(run(chain, chain, grads=grads)))]

    flips(ended, 10, 11)
