"""The limits of the certificates, each from both sides."""

from __future__ import annotations

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.isolation import isolation
from gradientflow.depth.causes.certificates.step import step
from gradientflow.depth.causes.certificates.transmission import transmission
from gradientflow.records import Isolation
from tests.depth.causes.by_hand import flips
from tests.depth.causes.transits import group, seen, way


def test_a_factor_that_is_more_than_rounding() -> None:
    def changed(off: float) -> bool:
        return "changed by no call" in transmission(Case(seen([way(1.0 + off)])), []).why

    flips(changed, 0.9e-6, 1.1e-6)


def test_a_part_of_the_update_that_the_rule_does_not_explain() -> None:
    def beside(part: float) -> bool:
        return "something else did" in step(Case(seen([way(groups=[group(unexplained=part)])])), []).why

    flips(beside, 0.0098, 0.0102)


def test_a_share_of_the_gradient_that_arrives_at_other_samples() -> None:
    def joined(outside: float) -> bool:
        run = seen([way()])
        run.probes[0].isolation = Isolation(0, 1, 8, outside)
        return isolation(Case(run), []).state != "held"

    flips(joined, 0.9e-10, 1.1e-10)
