"""Steps that are known to be bad are looked at in every trial, whatever the schedule says and whatever it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradientflow import depth, store
from gradientflow.depth.replay import candidates as plan
from gradientflow.depth.replay import race
from gradientflow.depth.replay.known import MOST, bad_steps
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.records import Budget, Finding, Loss, Probe, Verdict, Watch
from tests.depth.causes.by_hand import run
from tests.depth.replay.test_race import step_times, watched


def verdict(**evidence: object) -> Verdict:
    found = Finding("not-finite", "bad-batch", 0.9, None, "", dict(evidence), [])
    return Verdict("a.py", 100, Loss(), "not-finite", [found], Budget(), Watch())


def test_they_are_those_of_findings_of_alarms_and_the_first_without_finite_values() -> None:
    seen = run(losses=[1.0] * 100)
    assert bad_steps(seen, verdict(steps=40), 100) == []  # (a number of steps, and none of them)
    seen.steps[69].nonfinite = 1
    seen.probes = [Probe(s, 0.0, why, 1.0, None, [], []) for s, why in ((5, "schedule"), (31, "trouble: loss jumped"))]
    assert bad_steps(seen, verdict(step=12, steps=[50, 55], since_step=11), 100) == [11, 12, 31, 50, 55, 69, 70]
    assert bad_steps(seen, verdict(step=12, steps=[50, 55]), 54) == [12, 31, 50]  # no further than a trial goes


@pytest.mark.parametrize(("many", "kept"), [(int(MOST), int(MOST)), (int(MOST) + 1, int(MOST))])
def test_there_is_a_most_of_them(many: int, kept: int) -> None:
    assert len(bad_steps(run(losses=[1.0] * 100), verdict(steps=list(range(1, many + 1))), 100)) == kept


def test_a_wanted_step_is_due_beyond_the_cap_and_beside_the_schedule() -> None:
    dear = {"elapsed": 1.0, "spent": 100.0}
    plain, wanting = Schedule(), Schedule()
    wanting.look_at([37, 90])
    assert [s for s in range(2, 100) if plain.due(s, **dear)] == []
    assert [(s, why) for s in range(2, 100) if (why := wanting.due(s, **dear))] == [(37, "known"), (90, "known")]


def test_every_trial_is_probed_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, told, out = watched(tmp_path)
    told.findings[0].evidence["step"] = 23
    assert all(p.step != 23 for p in seen.probes)
    monkeypatch.setattr(plan, "candidates", lambda *a, **k: [(0, step_times(0.1))] if a[0] is seen else [])
    race.replay(seen, told, out / store.TRIALS, seeds=1)
    for name in ("baseline", "1-lower-step", "1-lower-step-edited"):
        probes = store.read(out / store.TRIALS / name).probes
        assert [p.reason for p in probes if p.step == 23] == ["known"], name
    assert depth.judge(seen).findings  # (nothing of the watched run was changed on the way)
