"""The thresholds of one look, on either side of each."""

from __future__ import annotations

import math

import pytest

from gradientflow.depth.causes import Later, settle
from gradientflow.depth.causes.glance import EQUAL_GRADIENTS, EQUAL_WEIGHTS
from tests.depth.causes.test_glance import lasting, look, verdict


@pytest.mark.parametrize(
    ("weights", "gradients", "stays"),
    [
        (math.nextafter(EQUAL_WEIGHTS, 2.0), 1.0, True),
        (float(EQUAL_WEIGHTS), 1.0, False),
        (1.0, float(EQUAL_GRADIENTS), True),
        (1.0, math.nextafter(EQUAL_GRADIENTS, 0.0), False),
    ],
)
def test_units_that_start_equal_and_stay_so_and_those_that_just_do_not(
    weights: float, gradients: float, stays: bool
) -> None:
    run, found = look(), verdict(lasting("crawling", "symmetric-init"))
    run.probes[0].params[0].alike = weights
    settle(found, run, lambda: Later(look(), {"encoder.weight": gradients}))
    assert bool(found.findings) is stays
    if stays:
        assert found.findings[0].evidence["threshold_alike_later"] == 0.999


def test_the_numbers_are_what_their_sources_say() -> None:
    assert (float(EQUAL_WEIGHTS), float(EQUAL_GRADIENTS)) == (0.999999, 0.999)
