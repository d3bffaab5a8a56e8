"""A fault inside the watcher changes nothing for the script and is told at the end; after the end no trace is left."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradientflow.depth.causes.verdict as verdicts
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.report import print_verdict
from gradientflow.store import opening
from tests.depth.scripts import Left, differences, plain, sandbox, watched, write
from tests.depth.watch.training import SCRIPTS

SCRIPT = SCRIPTS["dropout"]


def _fail(*_: Any, **__: Any) -> Any:
    raise ValueError("planted")


def _sharper(fault: str) -> Callable[[Monitor], None]:
    """Plant a fault at a dotted path below the monitor."""

    def plant(monitor: Monitor) -> None:
        *way, last = fault.split(".")
        owner: Any = monitor
        for name in way:
            owner = getattr(owner, name)
        setattr(owner, last, _fail)

    return plant


@pytest.fixture(autouse=True)
def isolated() -> Any:
    with sandbox():
        torch.set_num_threads(1)
        yield


@pytest.mark.parametrize(
    "where",
    [
        "tracer._record", "tracer._see", "tracer.origins.see", "births._registered", "births._contained", "births.see",
        "registry.name_modules", "registry.index_of", "schedule.due", "schedule.saw", "sink.step", "sink.add",
        "optimizers.watch", "_before_backward", "_after_backward", "_hook_losses", "window._sharpness", "window._meter.measure", "_send_probe",
        "losses._find", "manual.know", "on_probe", "_open_window", "_emit", "_post._step_aside",
    ],
)  # fmt: skip
def test_a_fault_in_the_watcher_changes_nothing(where: str, tmp_path: Path) -> None:
    script = SCRIPTS["transformer"] if where == "_post._step_aside" else SCRIPT
    file = write(tmp_path, script)

    def plant(monitor: Monitor) -> None:
        _sharper(where)(monitor)

    left = watched(file, prepare=plant)
    assert differences(plain(file), left) == [] or where == "_post._step_aside"  # (there the fault is the missing step)
    assert left.outcome is not None
    assert left.outcome.ending.how == "finished"
    assert left.outcome.ending.code == 0
    if where not in ("manual.know", "losses._find"):  # (not reached with an optimizer; not reached on so short a run)
        assert any("planted" in e for e in left.outcome.verdict.watch.errors), left.outcome.verdict.watch.errors


@pytest.mark.parametrize("where", ["grad_stat", "value_stat", "norms_of", "backward_roots"])
def test_a_fault_in_a_backward_hook_or_the_cheap_tier_changes_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, SCRIPT)
    alone = plain(file)
    place = {
        "grad_stat": "gradientflow.depth.probe.measure.grad_stat",
        "value_stat": "gradientflow.depth.probe.trace.value_stat",
        "norms_of": "gradientflow.depth.watch.cheap.norms_of",
        "backward_roots": "gradientflow.depth.watch.losses.backward_roots",
    }[where]
    monkeypatch.setattr(place, _fail)
    left = watched(file)
    assert differences(alone, left) == []
    assert left.outcome is not None
    errors = left.outcome.verdict.watch.errors
    assert any("ValueError: planted" in e and ".py:" in e for e in errors)  # with the place in our code
    assert len(errors) <= 6  # told once, not once per operation


def test_a_fault_in_the_judge_is_told_instead_of_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, SCRIPT)
    alone = plain(file)
    monkeypatch.setattr(verdicts, "_judged", _fail)
    left = watched(file)
    assert differences(alone, left) == []
    assert left.outcome is not None
    verdict = left.outcome.verdict
    assert verdict.symptom == "not-measured"
    assert any("planted" in e for e in verdict.watch.errors)
    assert "planted" in _terminal(left)
    assert len(left.outcome.run.steps) == 6


def test_a_fault_is_told_on_the_terminal(tmp_path: Path) -> None:
    file = write(tmp_path, SCRIPT)
    assert "planted" in _terminal(watched(file, prepare=_sharper("schedule.saw")))
    assert "planted" not in _terminal(watched(file))  # and only then


def test_a_part_that_keeps_failing_is_switched_off(tmp_path: Path) -> None:
    calls = []

    def fail(*_: Any) -> None:
        calls.append(1)
        raise ValueError("planted")

    left = watched(write(tmp_path, SCRIPT), probe_every=1, prepare=lambda m: setattr(m.tracer.origins, "see", fail))
    assert left.outcome is not None
    assert len(calls) == 3
    assert any("switched off" in e for e in left.outcome.verdict.watch.errors)


@pytest.mark.parametrize("where", ["sink.step", "optimizers.watch"])
def test_the_limit_of_steps_holds_though_the_watcher_fails(where: str, tmp_path: Path) -> None:
    left = watched(write(tmp_path, SCRIPT), prepare=_sharper(where), max_steps=5)
    assert left.outcome is not None
    assert left.outcome.ending.how == "max-steps"
    assert len(left.scope["record"]) == 4  # (the fifth step's loss would be kept after the step)


def test_a_full_disk_does_not_stop_the_probes(tmp_path: Path) -> None:
    left = watched(write(tmp_path, SCRIPT), probe_every=1, prepare=_sharper("sink.step"))
    assert left.outcome is not None
    assert left.outcome.verdict.watch.probed_steps == 6


def _terminal(left: Left) -> str:
    import io

    from rich.console import Console

    assert left.outcome is not None
    out = io.StringIO()
    print_verdict(left.outcome.verdict, left.outcome.run, Console(file=out, width=300))
    return out.getvalue()


# ── no trace left ────────────────────────────────────────────────────────────────────────────────────────────────────


def _hooks() -> dict[str, int]:
    """How many hooks of any kind are registered globally, and how many modes are on the stack."""
    module, optimizer = torch.nn.modules.module, sys.modules["torch.optim.optimizer"]
    named = {n: v for holder in (module, optimizer) for n, v in vars(holder).items() if n.startswith("_global")}
    found = {n: len(v) for n, v in named.items() if isinstance(v, dict)}
    assert len(found) >= 9
    found["modes"] = torch._C._len_torch_function_stack()
    callbacks = torch._dynamo.callback.callback_handler  # type: ignore[attr-defined]
    found["compile callbacks"] = len(callbacks.start_callbacks) + len(callbacks.end_callbacks)
    return found


def _public() -> dict[str, int]:
    """The identity of every public thing in the parts of torch that a watcher could be tempted to patch."""
    holders = (
        torch, torch.Tensor, torch.autograd, torch.autograd.graph, torch.autograd.Function, nn, nn.Module, nn.functional,
        nn.init, nn.Parameter, torch.optim, torch.optim.Optimizer, torch.optim.SGD, torch.optim.Adam, torch.overrides,
        torch.utils.checkpoint, torch.utils.data, torch.linalg, torch.nn.modules.module,
    )  # fmt: skip
    found: dict[str, int] = {}
    for holder in holders:
        for name, value in list(vars(holder).items()):
            if not name.startswith("_global"):
                found[f"{holder.__name__}.{name}"] = id(value)
    found["Module.__call__"] = id(nn.Module.__dict__["__call__"])
    return found


ENDS = {"": 0, "raise SystemExit(4)": 4, "raise KeyError('x')": 1, "raise KeyboardInterrupt": 130}


@pytest.mark.parametrize(
    ("name", "end"),
    [(n, "") for n in ("by hand with grad", "transformer", "gan", "modes within modes")]
    + [("dropout", e) for e in ENDS],
)
def test_nothing_is_left_behind(name: str, end: str, tmp_path: Path) -> None:
    file = write(tmp_path, SCRIPTS[name] + f"\n{end}\n")
    with sandbox():
        try:
            plain(write(tmp_path, SCRIPTS[name], "plain.py"))  # first: what torch itself caches lazily
        finally:
            hooks, public = _hooks(), _public()
        seen: dict[str, Any] = {}
        left = watched(file, prepare=lambda m: seen.update(during=m))
        assert _hooks() == hooks
        after = _public()
        changed = {k for k in public.keys() | after.keys() if public.get(k) != after.get(k)}
        assert changed == set()
        for value in left.scope.values():
            for p in value.parameters() if isinstance(value, nn.Module) else ():
                assert not p._post_accumulate_grad_hooks
                assert not p._backward_hooks
    assert left.outcome is not None
    assert left.outcome.ending.code == ENDS[end]


def test_the_search_for_traces_finds_them(tmp_path: Path) -> None:
    """Negative control: while a script is watched the hooks are there, and a patch would be seen."""
    text = SCRIPT.replace("for step in range(6):", "for step in range(6):\n    look(model)") + "\n"
    looks: list[dict[str, int]] = []
    kept: list[bool] = []

    def look(model: nn.Module) -> None:
        looks.append(_hooks())
        kept.append(any(bool(p._post_accumulate_grad_hooks) for p in model.parameters()))

    import builtins

    builtins.look = look  # type: ignore[attr-defined]
    try:
        before = _hooks()
        watched(write(tmp_path, text), probe_every=10**9)
    finally:
        del builtins.look  # type: ignore[attr-defined]
    assert looks[0] != before
    assert looks[0]["modes"] == before["modes"] + 1  # the first step is probed
    assert looks[3]["modes"] == before["modes"]  # the fourth is not
    assert kept[3]  # there the loss is found by a hook
    assert _hooks() == before
    public = _public()
    original = nn.functional.relu
    nn.functional.relu = lambda x: x  # type: ignore[assignment]
    try:
        assert _public() != public
    finally:
        nn.functional.relu = original


def test_a_disk_that_fills_up_while_the_script_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A genuine SQLITE_FULL: the script's numbers stay, the verdict is whole, and what is missing on disk is told."""
    file = write(tmp_path, SCRIPT.replace("range(6)", "range(300)"))

    def fill(monitor: Monitor) -> None:
        opened = opening._connect
        with contextlib.closing(opened(monitor.sink.store.folder / "run.db", "ro")) as db:  # type: ignore[attr-defined]
            most = db.execute("PRAGMA page_count").fetchone()[0] + 3

        def small(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            db = opened(*args, **kwargs)
            db.execute(f"PRAGMA max_page_count={most}")
            return db

        monkeypatch.setattr(opening, "_connect", small)

    left = watched(file, probe_every=1, prepare=fill)
    assert differences(plain(file), left) == []
    assert left.outcome is not None
    assert left.outcome.verdict.steps == left.outcome.verdict.watch.probed_steps == len(left.outcome.run.steps) == 300
    assert any("the record is incomplete" in p and "full" in p for p in left.outcome.problems)
    monkeypatch.undo()
    assert watched(file).outcome.problems == []  # type: ignore[union-attr]
