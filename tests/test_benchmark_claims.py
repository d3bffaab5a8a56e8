"""benchmarks/claims.py: half of its problems have kinks, its references are right, and a claim can be told wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from benchmarks import claims
from benchmarks.claim_problems import KINKED, SMOOTH
from benchmarks.claims import Claim, Truth
from benchmarks.reference import fingerprint
from gradientflow.river import LossField
from gradientflow.river.fields.kinks import kinks, nodes

ONE = Claim("x", True, 1e-3, claimed=1e-2, true=1e-2, doubt=1e-4, own=100, checking=50)


def test_half_of_the_problems_have_kinks_and_each_is_rebuilt_bit_for_bit():
    assert len(SMOOTH) + len(KINKED) >= 20 and len(KINKED) >= len(SMOOTH)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for name, make in (SMOOTH | KINKED).items():
        problem = make()
        field = LossField(*problem[:3])
        begin = field.start()
        assert begin is not None and bool(kinks(nodes(field, begin[None]))) == (name in KINKED), name
        assert fingerprint(problem) == fingerprint(make())
    assert torch.equal(torch.get_rng_state(), before)


def test_fixed_steps_reach_a_known_end_and_slide_along_a_kink():
    """½w² falls as e^(−t); on |w₀| + ½(w₁ − 1)² the path comes to w₀ = 0 at t = 1 and slides on towards w₁ = 1."""
    end = claims.steps_of(lambda w: w, torch.ones(2, dtype=torch.float64), 1.0, 1000)
    assert torch.allclose(end, torch.full_like(end, math.exp(-1)), rtol=1e-6)
    assert not torch.allclose(claims.steps_of(lambda w: w, end, 1.0, 4), end * math.exp(-1), rtol=1e-6)
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    slid = claims.steps_of(lambda w: torch.stack([w[0].sign(), w[1] - 1]), start, 3.0, 3000)
    assert slid.tolist() == pytest.approx([0.0, 1 - math.exp(-3)], abs=3e-3)


def test_a_claim_is_good_within_a_factor_of_two_both_ways_as_far_as_the_reference_tells():
    assert ONE.good and ONE.off == pytest.approx(1.0)
    assert replace(ONE, claimed=0.51e-2).good and not replace(ONE, claimed=0.49e-2).good
    assert replace(ONE, claimed=2.01e-2).good and not replace(ONE, claimed=2.03e-2).good  # 2 × (1e-2 + 1e-4)
    assert not replace(ONE, claimed=None).good  # none was made
    assert replace(ONE, claimed=None, doubt=0.6e-2).good and not replace(ONE, doubt=0.6e-2).judged


def test_the_summary_counts_kinds_apart():
    said = claims.summary([ONE, replace(ONE, claimed=1e-3), replace(ONE, kinked=False)])
    assert "smooth: 1 of 1" in said and "with kinks: 1 of 2 claims" in said and "0.10 to 1.00" in said
    assert "WRONG" in claims.row(replace(ONE, claimed=1e-3)) and "good" in claims.row(ONE)


def test_a_true_claim_passes_and_a_false_truth_does_not():
    problem = SMOOTH["logistic to 1e3"]()
    at = claims.truth(problem, kinked=False)
    one = claims.claim("logistic", problem, at, 1e-3, kinked=False)
    assert one.claimed is not None and one.good and one.own > 10 and one.checking > 10
    wrong = claims.claim("logistic", problem, Truth(at.end + 1.0, at.doubt), 1e-3, kinked=False)
    assert not wrong.good


def test_an_unknown_problem_is_told():
    with pytest.raises(SystemExit, match="no problem is called"):
        claims.wanted("nothing*")
    assert claims.wanted("relu wave,logistic*") == ["logistic to 1e6", "logistic to 1e3", "relu wave"]
