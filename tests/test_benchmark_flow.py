"""benchmarks/flow.py: the problems are the ones that were agreed on, the counting is honest, and a figure can miss its aim."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from benchmarks import flow, problems, reference
from benchmarks.flow_rivals import Gradient, OverBudget, by_sharpness, descent, diffrax, rivals, scipy, torchdiffeq
from benchmarks.rows import Aim, Row, aims, cheapest, compared, comparisons, fraction, table
from gradientflow.curvature import top_eigenpair

# ── the problems ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "size", "loss", "sharpness"),
    [
        ("A", 17610, 0.512180, 2.43),
        ("B", 3190, 0.647226, 13.75),
        ("C", 3190, 2.293324, 0.779),
        ("D", 3818, 2.3051, 0.9026),
    ],
)
def test_the_problems_start_where_they_should(name, size, loss, sharpness):
    gradient = Gradient(problems.PROBLEMS[name]())
    assert gradient.start.numel() == size
    assert gradient.start.dtype == (torch.float32 if name == "D" else torch.float64)
    assert gradient.value(gradient.start) == pytest.approx(loss, abs=1e-4)
    assert gradient.sharpness(gradient.start)[0] == pytest.approx(sharpness, rel=0.02)


def test_the_dtype_that_weights_are_drawn_in_makes_another_problem():
    model, loss, (x, y), _ = problems.b()
    other = problems.mlp(30, drawn_in=torch.float32)
    assert abs(float(loss(other(x), y).detach()) - float(loss(model(x), y).detach())) > 1e-3


def test_building_a_problem_leaves_the_global_random_state_and_dtype_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    problems.a(), problems.d()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


# ── the counted gradient and the rivals, on a bowl whose flow is known: θ(t) = e^{−tH} θ₀ ─────────────────────────────

RATES = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)


class Bowl(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        return x * self.w


def bowl(t=2.0):
    return Bowl(), lambda out, y: 0.5 * (out - y).square().sum(), (RATES.sqrt(), torch.zeros(3, dtype=torch.float64)), t


EXACT = torch.exp(-2.0 * RATES)


def solved(solve, **options):
    gradient = Gradient(bowl(), **options)
    return solve(gradient, gradient.start, 2.0), gradient


def test_one_call_is_one_gradient_and_one_product_is_one_hvp():
    gradient = Gradient(bowl())
    assert torch.allclose(gradient(gradient.start), RATES)
    product = gradient.hessian(gradient.start)
    assert torch.allclose(product(torch.ones(3, dtype=torch.float64)), RATES)
    assert (gradient.gradients, gradient.hvps, gradient.equivalents) == (2, 1, 4)


def test_a_run_over_its_budget_is_stopped():
    with pytest.raises(OverBudget):
        solved(descent(0.01), limit=50)
    _, gradient = solved(descent(0.01), limit=200)
    assert gradient.gradients == 200


def test_gradient_descent_ends_at_the_end_and_pays_one_gradient_a_step():
    final, gradient = solved(descent(0.3))  # six steps of 0.3, one of 0.2
    assert gradient.gradients == 7
    assert torch.allclose(final, (1 - 0.3 * RATES) ** 6 * (1 - 0.2 * RATES))


@pytest.mark.parametrize(
    ("fraction_", "stages", "error"), [(1.0, 4, 2e-2), (0.25, 4, 2e-4), (0.5, 1, 0.3), (0.05, 1, 3e-2)]
)
def test_steps_by_sharpness_converge(fraction_, stages, error):
    final, gradient = solved(by_sharpness(fraction_, stages))
    assert 0 < flow.distance(final, EXACT, torch.ones(3)) < error
    assert gradient.gradients == pytest.approx(stages * 2 * 4 / fraction_ + 2, rel=0.05)
    assert gradient.hvps >= 2
    assert gradient.sharpest == pytest.approx(4.0)


@pytest.mark.parametrize("make", [torchdiffeq, scipy, diffrax])
def test_a_library_arrives_and_its_tolerance_tells(make):
    method = {torchdiffeq: "dopri5", scipy: "DOP853", diffrax: "Tsit5"}[make]
    pytest.importorskip(make.__name__)
    loose, tight = (solved(make(method, rtol)) for rtol in (1e-3, 1e-8))
    assert flow.distance(tight[0], EXACT, torch.ones(3)) < 1e-6
    assert flow.distance(loose[0], EXACT, torch.ones(3)) > flow.distance(tight[0], EXACT, torch.ones(3))
    assert tight[1].gradients > loose[1].gradients > 0


def test_a_wrong_path_is_seen_as_wrong():
    final, _ = solved(descent(0.8))  # 0.8 > 2/λ = 0.5: it leaves the flow
    assert flow.distance(final, EXACT, torch.ones(3)) > 1


def test_a_rival_that_cannot_be_run_says_why():
    missing = {rival.name: rival.missing for rival in rivals(20_000, 20.0)}
    assert "3.2 GB" in missing["scipy LSODA"]
    assert missing["gd"] == ""
    assert {rival.missing for rival in rivals(100, 20.0) if rival.name == "scipy LSODA"} <= {
        "",
        "scipy is not installed",
    }


def test_rows_tell_failures_instead_of_raising():
    class Failing:
        name, setting = "failing", ""

        @staticmethod
        def solve(gradient, theta, t_end):
            gradient(theta)
            raise RuntimeError("underflow in dt")

    row = flow.run_rival(bowl(), Failing, EXACT, 100)
    assert row.note == "gave up: underflow in dt"
    assert (row.gradients, row.error, row.arrived) == (1, None, False)


# ── comparisons and aims, on rows made by hand ───────────────────────────────────────────────────────────────────────


def row(method, cost, error, *, ours=False, setting="rtol 1e-03", **more):
    return Row(method, setting, ours, gradients=cost, error=error, **more)


ROWS = [
    row("auto", 100, 5e-3, ours=True),
    row("auto", 300, 1e-4, ours=True, setting="rtol 1e-05"),
    row("gd", 3000, 6e-3, setting="η = 1.9/λ"),
    row("rk4", 2600, 6e-3, setting="h = 1/S"),
    row("torchdiffeq dopri5", 1500, 1e-3, setting="rtol 1e-05"),
    row("torchdiffeq dopri5", 50, 0.9, setting="rtol 1e-03"),
    row("scipy DOP853", 1000, 6e-3),
    row("scipy DOP853", 1200, 3e-3, setting="rtol 1e-04"),
    row("scipy RK45", 9000, None, note="stopped"),
]


def test_costs_count_a_product_twice_and_leave_out_the_checks():
    one = Row("auto", "", True, gradients=10, hvps=3, losses=6, checking=4.0)
    assert (one.total, one.cost) == (18.0, 14.0)


def test_only_a_run_that_errs_no_more_is_compared_with():
    assert cheapest(ROWS, 5e-3) is ROWS[0]
    assert cheapest(ROWS[1:], 4e-3).cost == 300
    assert cheapest(ROWS[2:], 5e-3) is ROWS[7]  # not the cheaper one at 6e-3, nor the wrong one
    assert cheapest(ROWS, 1e-9) is None


def test_each_of_our_runs_is_compared_with_the_cheapest_rival():
    first, second = comparisons(ROWS)
    assert (first["rival"], first["ratio"]) == ("scipy DOP853, rtol 1e-04", 100 / 1200)
    assert first["by_method"]["torchdiffeq dopri5"]["ratio"] == pytest.approx(100 / 1500)
    assert first["by_method"]["gd"] is None
    assert second["rival"] is None
    assert "1/12.0 of the cheapest rival" in compared(ROWS) and "no rival run errs as little" in compared(ROWS)


def test_aims_are_met_and_missed():
    gd, rk4, dopri = aims("A", 3000.0, ROWS)
    assert gd.measured == pytest.approx(100 / 3000) and gd.met
    assert rk4.measured == pytest.approx(100 / 2600) and rk4.met is True
    assert dopri.measured == pytest.approx(100 / 1200) and dopri.met
    dearer = [row("auto", 170, 5e-3, ours=True), *ROWS[2:]]
    assert [aim.met for aim in aims("A", 3000.0, dearer)] == [False, False, False]
    assert "MISSED" in str(aims("A", 3000.0, dearer)[0]) and "13 % over" in str(aims("A", 3000.0, dearer)[0])


def test_never_worse_than_dop853_means_at_each_of_its_tolerances():
    mine = [row("auto", 900, 1e-3, ours=True)]
    assert aims("C", 3000.0, mine + ROWS[6:8])[0].met is True
    (aim,) = aims("C", 3000.0, [*mine, *ROWS[6:8], row("scipy DOP853", 500, 2e-3)])
    assert aim.measured == pytest.approx(1.8) and aim.met is False
    (aim,) = aims("C", 3000.0, [*mine, *ROWS[6:8], row("scipy DOP853", 5000, 1e-7)])
    assert aim.measured == math.inf and not aim.met  # nothing of ours errs as little
    (aim,) = aims("C", 3000.0, [*mine, *ROWS[6:8], row("scipy DOP853", 5000, 1e-7, judge=True)])
    assert aim.met  # the reference is not a rival


def test_an_aim_without_its_runs_is_neither_met_nor_missed():
    assert [aim.met for aim in aims("A", 3000.0, ROWS[:2])] == [None, None, None]
    assert "not measured" in str(Aim("x", 0.1, None))


def test_ratios_are_told_as_people_say_them():
    assert [fraction(x) for x in (0.04, 0.5, 1.2)] == ["1/25.0", "0.5", "1.2"]


def test_the_table_marks_what_is_wrong_and_what_did_not_arrive():
    lines = table(ROWS, None).splitlines()
    assert sum("WRONG" in line for line in lines) == 1
    assert lines[-1].endswith("stopped")
    assert lines[2].startswith("▸ auto")


# ── the whole command ────────────────────────────────────────────────────────────────────────────────────────────────


def test_our_runs_are_counted_from_outside():
    problem = problems.b(t=1.0)
    gradient = Gradient(problem)
    reference = scipy("DOP853", 1e-10)(gradient, gradient.start, 1.0)
    one = flow.run_ours(problem, "auto", 1e-4, reference)
    assert one.gradients > 5 and one.total > 0
    assert 0 < one.error < 1e-2
    assert "the path counts" not in one.note
    assert flow.run_ours(problem, "auto", 1e-4, reference + 0.1).error > 0.1  # the check can fail


def test_a_changed_problem_never_meets_an_old_reference():
    model, loss, (x, y), t = problems.b()
    assert reference.fingerprint(problems.b()) == reference.fingerprint((model, loss, (x, y), t))
    assert reference.fingerprint((model, loss, (x + 1e-12, y), t)) != reference.fingerprint((model, loss, (x, y), t))
    assert reference.fingerprint((model, problems.half_squared_error, (x, y), t)) != reference.fingerprint(problems.c())


@pytest.mark.slow
def test_the_command_prints_tables_and_writes_json(tmp_path, capsys):
    out, cache = tmp_path / "out.json", tmp_path / "cache"
    arguments = ["--problem", "B", "--t", "1", "--methods", "auto,gd,scipy DOP853"]
    arguments += ["--cache", str(cache), "--json", str(out)]
    assert flow.main(arguments) == 0
    said = capsys.readouterr()
    assert "problem B, t = 1: 3190 parameters, float64" in said.out
    assert "at equal or better error" in said.out
    result = json.loads(out.read_text())["results"][0]
    assert result["agreement"] < 1e-5
    assert {r["method"] for r in result["rows"]} == {"auto", "gd", "scipy DOP853"}
    assert flow.main(arguments) == 0
    assert "references to compute" not in capsys.readouterr().err  # the second time they come from the cache


def test_an_unknown_problem_is_told(capsys):
    with pytest.raises(SystemExit):
        flow.main(["--problem", "E"])
    assert "there are A, B, C, D" in capsys.readouterr().err


def test_method_patterns():
    assert flow.wanted("scipy DOP853", "scipy*") and flow.wanted("gd", None)
    assert not flow.wanted("scipy DOP853", "gd, auto")


def test_the_sharpness_of_the_rivals_is_the_library_s():
    gradient = Gradient(bowl())
    assert gradient.sharpness(gradient.start)[0] == pytest.approx(
        top_eigenpair(lambda v: RATES * v, torch.ones(3).double()).value
    )
