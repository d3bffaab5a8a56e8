"""The limits of terms and of samples, each from both sides; and their certificates, from records made by hand."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import samples, terms
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.isolation import isolation
from gradientflow.depth.causes.certificates.terms import terms as certify_terms
from gradientflow.limits import APART
from gradientflow.records import Certificate, Cut, Isolation, Linearity, Operand, Run
from tests.depth.causes.by_hand import Chain, Row, causes, flips, grad, linear, only, run, turns, value

LOSS = Row("mse_loss", "loss", value=value(shape=()))


def net(*middle: Row) -> list[Row]:
    return [linear(), *middle, linear(value=value(shape=(64, 4))), LOSS]


# ── a normalisation over one element ─────────────────────────────────────────────────────────────────────────────────


def normed(entries: int, probes: int = 2) -> Run:
    seen = run(*(Chain(net(Row("layer_norm", "norm")), step=k + 1) for k in range(probes)))
    for probe in seen.probes:
        probe.ops[1].span = entries
    return seen


def test_entries_of_a_normalisation() -> None:
    flips(lambda n: causes(terms.one_element, normed(int(n))), 2, 1)


def test_one_probe_with_more_is_enough_to_say_nothing() -> None:
    seen = normed(1)
    assert only(terms.one_element(Case(seen))).cause == "dead-units"
    seen.probes[0].ops[1].span = 8
    assert terms.one_element(Case(seen)) == []


def test_a_way_round_the_norm_is_enough_to_say_nothing() -> None:
    seen = normed(1)
    for probe in seen.probes:
        probe.ops[2].operands.append(Operand(op=0, grad=grad()))
    assert terms.one_element(Case(seen)) == []


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def added(off: float = 0.0, probes: int = 3, factor: float = 0.1) -> Run:
    """A loss to which a number is added that is a constant plus a factor times what `item` took out; the middle one is off."""
    rows = [*net(), Row("add", "elementwise", value=value(shape=()))]
    seen = run(*(Chain(rows, step=k + 1) for k in range(probes)))
    for k, probe in enumerate(seen.probes):
        taken = 1.0 + 0.3 * k * k
        probe.ops[-1].scalars = [0.5 + factor * taken + (off if k == 1 else 0.0)]
        probe.cuts = [Cut(1, "item", "net.py", 7, value=taken)]
    return seen


def test_probes_of_a_line() -> None:
    flips(lambda n: causes(terms.severed_term, added(probes=int(n))), 2, 3)


def test_error_of_the_line() -> None:
    flips(lambda off: causes(terms.severed_term, added(off * 0.1)), 3e-6, 3e-7)


def test_a_number_that_stands_still_or_was_taken_from_what_is_added_to_is_none() -> None:
    assert causes(terms.severed_term, added(factor=0.0)) == []
    seen = added()
    for probe in seen.probes:
        probe.cuts[0].op = 2  # the loss itself: it is added to itself
    assert causes(terms.severed_term, seen) == []
    for p in seen.meta.params:
        p.requires_grad = False
    assert causes(terms.severed_term, added()) and causes(terms.severed_term, seen) == []


# ── functions that leave their gradient out ──────────────────────────────────────────────────────────────────────────


def deaf(gain: float = 1.0, came: float = 0.3, **custom: object) -> Run:
    """A chain with a function of the script's own that makes `gain` of a gradient."""
    made = grad(came, rms=came, max=came)
    rows = net(Row("Own", "other", came=made, sent=grad(came * gain)))
    seen = run(Chain(rows), Chain(rows, step=2))
    for probe in seen.probes:
        probe.ops[1].custom = Linearity(**({"error": 0.5, "ignores": True} | custom))  # type: ignore[arg-type]
    return seen


def symptom(seen: Run) -> str:
    return only(terms.deaf_function(Case(seen))).symptom


def test_gain_of_the_function() -> None:
    turns(lambda gain: symptom(deaf(gain)), 9.9, 10.1, ("crawling", "exploding"))
    turns(lambda gain: symptom(deaf(gain)), 0.099, 0.101, ("vanishing", "crawling"))


def test_a_gradient_of_one_may_be_left_out_and_one_that_is_heeded_is_not_told() -> None:
    flips(lambda came: causes(terms.deaf_function, deaf(came=came)), 1.0, 0.999)
    assert causes(terms.deaf_function, deaf(ignores=False)) == []


# ── samples ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def compared(answer: tuple[int, ...], target: tuple[int, ...], **more: float) -> Run:
    rows = [
        linear(),
        linear(value=value(shape=answer)),
        Row("sub", "elementwise", value=value(), leaf=value(shape=target, **more)),
    ]
    return run(Chain(rows), Chain(rows, step=2))


@pytest.mark.parametrize(
    ("answer", "target", "fault"),
    [
        ((8, 1), (8,), True), ((8,), (8, 1), True), ((8, 1), (8, 1), False), ((8, 1), (4,), False), ((1, 1), (1,), False),
        ((8, 5, 1), (8, 5), False), ((5, 5, 1), (5, 5), True), ((8, 1), (1, 8), False), ((8, 4), (4,), False),
    ],
)  # fmt: skip
def test_shapes_that_pair(answer: tuple[int, ...], target: tuple[int, ...], fault: bool) -> None:
    assert bool(causes(samples.paired, compared(answer, target))) is fault


def test_targets_that_are_all_alike_may_be_paired() -> None:
    assert causes(samples.paired, compared((8, 1), (8,), min=1.0, max=1.0)) == []


def mixed(name: str, kind: str, outside: float = 0.5, **more: object) -> Run:
    rows = net(Row(name, kind, value=value(shape=(64, 4))))
    seen = run(Chain(rows), Chain(rows, step=2))
    for probe in seen.probes:
        for key, told in more.items():
            setattr(probe.ops[1], key, told)
        probe.isolation = Isolation(0, 2, 64, outside, [1] if outside > APART else [])
    return seen


def test_who_may_mix() -> None:
    assert causes(samples.mixed, mixed("softmax", "softmax", span=64)) == ["mixed-samples"]
    assert causes(samples.mixed, mixed("softmax", "softmax", span=4)) == []
    assert causes(samples.mixed, mixed("lstm", "recurrent", reads=[64, 9])) == ["mixed-samples"]
    assert causes(samples.mixed, mixed("lstm", "recurrent", reads=[64, 1])) == []  # (one sequence, of steps)
    assert causes(samples.mixed, mixed("matmul", "linear")) == []
    assert causes(samples.mixed, mixed("cumsum", "reduce")) == []


def isolated(seen: Run) -> Certificate:
    """The certificate of a run, with what the rules find in it."""
    case = Case(seen)
    return isolation(case, [f for rule in (samples.paired, samples.axis_taken, samples.mixed) for f in rule(case)])


def certified(seen: Run) -> Certificate:
    """Likewise, of its terms."""
    case = Case(seen)
    rules = (terms.zero_derivative, terms.step_function, terms.deaf_function)
    return certify_terms(case, [f for rule in rules for f in rule(case)])


def test_the_certificate_of_isolation_is_held_broken_or_says_why_not() -> None:
    held = isolated(mixed("relu", "activation", 0.0))
    assert (held.name, held.state) == ("isolation", "held") and held.numbers["probes"] == 2
    turns(
        lambda share: isolated(mixed("cumsum", "reduce", share)).state,
        0.9e-10,
        1.1e-10,
        ("held", "not-measured"),
    )
    joined = isolated(mixed("matmul", "linear"))
    assert joined.state == "not-measured" and "matmul" in joined.why
    assert isolated(mixed("softmax", "softmax", span=64)).state == "broken"
    assert isolated(compared((8, 1), (8,))).state == "broken"
    seen = mixed("relu", "activation")
    for probe in seen.probes:
        probe.isolation = "the loss is not finite"
    assert isolated(seen).why == "the loss is not finite"


def test_the_certificate_of_terms_is_held_broken_or_says_why_not() -> None:
    held = certified(run(Chain(net()), Chain(net(), step=2)))
    assert (held.name, held.state) == ("terms", "held") and held.numbers["addends"] == 1
    assert certified(normed(1)).state == "broken"
    assert certified(added()).state == "broken"
    assert certified(deaf()).state == "broken"
    assert certified(run()).state == "not-measured"
    unasked = certified(deaf(error=None, ignores=False, why="it counts its calls"))
    assert unasked.state == "not-measured" and "it counts its calls" in unasked.why
    silent = run(Chain(net()))
    silent.probes[0].ops[-1].grad = grad(0.0)
    assert certified(silent).state == "not-measured"
