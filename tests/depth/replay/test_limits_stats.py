"""From how many seeds on the spread between them is what counts."""

from __future__ import annotations

from gradientflow.depth.replay.stats import compare
from tests.depth.causes.by_hand import flips


def test_seeds_whose_spread_says_something() -> None:
    """Each seed's own losses differ by nothing but its level: steps are sure of a difference, seeds are not."""

    def unsure(seeds: float) -> bool:
        base = [[1.0] * 80] * int(seeds)
        other = [[(0.9, 0.5, 1.02, 1.3)[k % 4]] * 80 for k in range(int(seeds))]
        found = compare(base, other)
        assert found is not None
        return found.high > 0

    flips(unsure, 2, 3)
