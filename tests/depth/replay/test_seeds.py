"""Trials of one shift draw the same numbers; another shift draws others; nothing stays changed."""

import random

import numpy as np
import pytest
import torch

from gradientflow.depth.replay.seeds import shifted


def seeded_script() -> list[float]:
    torch.manual_seed(3)
    np.random.seed(4)
    random.seed(5)
    own = torch.Generator().manual_seed(6)
    new = np.random.default_rng(7)
    return [
        float(torch.rand(1)),
        float(np.random.rand()),
        random.random(),
        float(torch.rand(1, generator=own)),
        new.random(),
    ]


def unseeded_script() -> list[float]:
    return [float(torch.rand(1)), float(np.random.rand()), random.random()]


@pytest.mark.parametrize("script", [seeded_script, unseeded_script])
def test_one_shift_one_draw(script) -> None:
    def under(shift: int) -> list[float]:
        with shifted(shift):
            return script()

    assert under(0) == under(0)
    assert under(2) == under(2)
    assert all(a != b for a, b in zip(under(0), under(2), strict=True))


def test_shift_nought_leaves_a_scripts_own_seeds() -> None:
    plain = seeded_script()
    with shifted(0):
        assert seeded_script() == plain
    with shifted(1):
        assert seeded_script() != plain


def test_nothing_stays_changed() -> None:
    before = (torch.manual_seed, torch.Generator, np.random.seed, np.random.default_rng, random.seed)
    with pytest.raises(ZeroDivisionError), shifted(3):
        _ = 1 / int(torch.manual_seed is before[0])
    assert (torch.manual_seed, torch.Generator, np.random.seed, np.random.default_rng, random.seed) == before
