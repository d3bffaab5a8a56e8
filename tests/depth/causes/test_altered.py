"""What shrinks a gradient on its way to the step, from both sides: by how much, where, and what the loss did meanwhile."""

from __future__ import annotations

from gradientflow.depth.causes import altered
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.transmission import transmission
from gradientflow.records import Alteration, Passed, Transit
from tests.depth.causes.by_hand import Chain, causes, flips, linear, only, run, tail

SCALE = 1024.0


def clipped(left: float, *, unscaled: str = "never", losses: list[float] | None = None):
    """A run whose clip leaves so much of the gradient; `unscale_` comes "before" it, "behind" it, or never."""
    seen = run(Chain([linear(), *tail()]), losses=losses or [1.0] * 60)
    calls = [Alteration("clip_grad_norm_", "train.py", 8, 2, left)]
    arrived = left
    if unscaled != "never":
        calls.insert(len(calls) if unscaled == "behind" else 0, Alteration("unscale_", "train.py", 7, 2, 1 / SCALE))
        arrived = left / SCALE
    seen.probes[0].transit = Transit(passed=[Passed(0, 1.0, arrived, arrived, 1.0)], alterations=calls)
    return seen


def test_a_clip_that_leaves_hardly_anything() -> None:
    flips(lambda left: causes(altered.altered, clipped(left)), 1.05e-3, 0.95e-3)
    flips(lambda left: causes(altered.altered, clipped(left, unscaled="before")), 1.05e-3, 0.95e-3)


def test_a_clip_of_what_the_scaled_loss_sends_is_told_sooner() -> None:
    flips(lambda left: causes(altered.altered, clipped(left, unscaled="behind")), 0.105, 0.095)
    found = only(altered.altered(Case(clipped(0.01, unscaled="behind"))))
    assert found.place is not None and found.place.line == 8
    assert "call `scaler.unscale_(optimizer)` before it" in found.summary


def test_a_clip_that_holds_back_a_loss_that_runs_away_is_not_to_blame() -> None:
    def rising(times: float) -> list[str]:
        return causes(altered.altered, clipped(1e-4, losses=[1.0] * 20 + [1.0 + times] * 40))

    flips(rising, 2.05, 1.95)


def test_the_certificate_names_a_clip_ahead_of_the_unscaling() -> None:
    early = transmission(Case(clipped(0.5, unscaled="behind")), [])
    assert early.state == "held" and "(line 8) sees the gradient of the scaled loss" in early.why
    late = transmission(Case(clipped(0.5, unscaled="before")), [])
    assert late.state == "held" and "scaled loss" not in late.why


def raised(times: float, clip: float):
    """A run that clips to so much, and then multiplies; its loss rises."""
    seen = run(Chain([linear(), *tail()]), losses=[1.0] * 20 + [9.0] * 40)
    calls = [Alteration("clip_grad_norm_", "train.py", 8, 2, clip), Alteration("mul_", "train.py", 9, 2, times)]
    seen.probes[0].transit = Transit(passed=[Passed(0, 1.0, clip * times, clip * times, 1.0)], alterations=calls)
    return seen


def test_what_multiplies_behind_a_clip_is_told_by_its_own_factor() -> None:
    flips(lambda times: causes(altered.altered, raised(times, clip=0.01)), 29.0, 31.0)
    found = only(altered.altered(Case(raised(1000.0, clip=1e-4))))
    assert found.symptom == "diverging" and found.place is not None and found.place.line == 9
    assert "multiplies the gradient by 1e+03" in found.summary


def test_the_certificate_counts_the_backward_calls_ahead_of_a_step() -> None:
    seen = clipped(0.5, unscaled="before")
    assert "added up" not in transmission(Case(seen), []).why
    assert seen.probes[0].transit is not None
    seen.probes[0].transit.passes = 2
    assert "2 backward calls were added up ahead of each step" in transmission(Case(seen), []).why


def test_the_certificate_counts_steps_that_began_with_a_gradient() -> None:
    seen = clipped(0.5, unscaled="before")
    seen.probes[0].step, seen.probes[0].carried = 2, 0.0
    assert "earlier steps" not in transmission(Case(seen), []).why
    seen.probes[0].carried = 0.3
    assert "at 1 of them gradients of earlier steps were still in `.grad`" in transmission(Case(seen), []).why
