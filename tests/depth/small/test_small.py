"""Four sick networks, what mends them, and the script that says the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from gradientflow import depth
from gradientflow.depth.small import look
from gradientflow.depth.small.knobs import PRESETS
from gradientflow.depth.small.script import FILE, block
from gradientflow.depth.watch.session import run_script
from gradientflow.errors import UsageError
from gradientflow.records import Knobs, Preset
from tests.depth.scripts import sandbox

FOUND = {
    "sigmoid stack": ("vanishing", "saturating-activation"), "default init": ("vanishing", "init-too-small"),
    "exploding RNN": ("exploding", "recurrence"), "√ at zero": ("not-finite", "singular-op"),
}  # fmt: skip
named = pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.title)


@named
def test_a_sick_network_is_mended_by_one_turn(preset: Preset) -> None:
    sick = depth.small_look(preset.knobs)
    assert (sick.verdict.symptom, sick.verdict.findings[0].cause) == FOUND[preset.title]
    assert sick.mend is not None
    well = depth.small_look(sick.mend.knobs)
    assert (well.verdict.symptom, well.mend) == ("healthy", None)
    before, after = (list(depth.small_training(k, 60))[-1] for k in (preset.knobs, sick.mend.knobs))
    assert after < 0.8 * before or math.isnan(before)


@named
def test_the_script_is_told_the_same_by_a_run(preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = depth.small_look(preset.knobs)
    (tmp_path / FILE).write_text(looked.script, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with sandbox():
        ran = run_script([FILE], out=tmp_path / "run", max_steps=20).verdict
    mine, theirs = looked.verdict.findings[0], ran.findings[0]
    assert (mine.symptom, mine.cause) == (theirs.symptom, theirs.cause)
    assert mine.place is not None and theirs.place is not None
    assert (mine.place.file, mine.place.line) == (theirs.place.file, theirs.place.line)
    assert looked.script.split("\n")[mine.place.line - 1].strip()  # a line of what is copied


def test_a_training_is_that_of_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    knobs = Knobs(depth=3, width=16, init="he")
    torch.manual_seed(77)
    drawn = torch.rand(3)
    torch.manual_seed(77)
    losses = list(depth.small_training(knobs, 60))
    scope: dict[str, Any] = {"__name__": "__main__"}
    assert torch.equal(torch.rand(3), drawn)  # nobody else's random numbers are drawn
    exec(compile(look.small_look(knobs).script, FILE, "exec"), scope)
    assert f"step 60: loss {losses[-1]:.4g}" in capsys.readouterr().out


def test_a_training_ends_where_nobody_waits_and_where_the_loss_is_lost() -> None:
    left = iter([True, True, False])
    assert len(list(depth.small_training(Knobs(depth=2, width=8), 60, lambda: next(left)))) == 2
    lost = list(depth.small_training(replace(PRESETS[3].knobs, depth=2), 60))
    assert len(lost) < 60 and not math.isfinite(lost[-1])


@pytest.mark.parametrize(
    "turned",
    [
        {"depth": 65}, {"depth": 0}, {"width": 257}, {"width": 1}, {"time": 101}, {"time": -1}, {"gain": 0.0}, {"gain": math.nan}, {"lr": math.inf},
        {"seed": 1000},
    ],
)  # fmt: skip
def test_what_is_turned_too_far_is_refused(turned: dict[str, Any]) -> None:
    knobs = replace(Knobs(depth=1, width=2), **turned)
    for ask in (lambda: depth.small_look(knobs), lambda: list(depth.small_training(knobs, 1))):
        with pytest.raises(UsageError, match=next(iter(turned))):
            ask()
    with pytest.raises(UsageError, match="steps of training"):
        list(depth.small_training(Knobs(depth=1, width=2), 241))


@pytest.mark.parametrize("time", [0, 3])
@pytest.mark.parametrize(("norm", "skip"), [("none", True), ("layer", False), ("batch", True)])
def test_every_network_is_measured_at_each_layer(time: int, norm: Any, skip: bool) -> None:
    knobs = Knobs(depth=3, width=8, time=time, norm=norm, skip=skip, activation="tanh", gain=1.2)
    found = depth.small_look(knobs)
    assert found.script.count(block(knobs)) == 1 and len(found.law.measured) == len(found.law.theory) == 3
    assert None not in found.law.measured and found.law.measured[0] == 0
    assert len(list(depth.small_training(replace(knobs, loss="safe distance"), 1))) == 1


@pytest.mark.parametrize("ends", [{}, {"depth": 64, "width": 32}, {"width": 256}, {"time": 100}])
def test_the_ends_of_the_knobs(ends: dict[str, Any]) -> None:
    found = depth.small_look(replace(Knobs(depth=1, width=2), **ends))
    assert found.verdict.budget.by_op and len(found.law.theory) == (ends.get("time") or ends.get("depth", 1))
