"""Measuring the gradient over time leaves the script as it is, bit for bit, and says what it could not measure."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradientflow.depth.probe import opaque
from gradientflow.depth.watch import overtime
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.records import Probe, Recurrence, Run
from tests.depth.scripts import differences, plain, watched, write
from tests.truth.watching import watched as watching

_HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(3)
record = []
x, y = torch.randn(12, 9, 4), torch.arange(12) % 3
"""
_TRAIN = """
parts = nn.ModuleList([net, head])
optimizer = torch.optim.SGD(parts.parameters(), lr=0.1, momentum=0.9)
for step in range(3):
    optimizer.zero_grad()
    loss = F.cross_entropy(head(answer(x)), y)
    loss.backward()
    optimizer.step()
    record += [loss.detach().clone(), torch.rand(3)]
"""
SCRIPTS = {
    "lstm with dropout": """
net, head = nn.LSTM(4, 8, num_layers=3, dropout=0.3, bidirectional=True, batch_first=True), nn.Linear(16, 3)
def answer(x):
    out, (h, c) = net(x)
    return out[:, -1] + h[-1].repeat(1, 2)
""",
    "packed gru": """
net, head = nn.GRU(4, 8, num_layers=2, dropout=0.5), nn.Linear(8, 3)
lengths = [9, 2, 3, 4, 9, 8, 7, 1, 5, 5, 2, 6]
def answer(x):
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return net(packed)[1][-1]
""",
    "loop over an lstm cell": """
net, head = nn.LSTMCell(4, 8), nn.Linear(8, 3)
def answer(x):
    state = None
    for t in range(x.shape[1]):
        state = net(x[:, t], state)
    return F.dropout(state[0], 0.2)
""",
    "loop by hand": """
net, head = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8)]), nn.Linear(8, 3)
def answer(x):
    h = torch.zeros(len(x), 8)
    for t in range(x.shape[1]):
        h = torch.tanh(net[0](x[:, t]) + net[1](h))
    return h
""",
}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured shall not depend on how busy the machine is."""
    monkeypatch.setattr(overtime, "OVER_TIME", 1e6)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_recurrent_script_is_not_disturbed_and_its_recurrence_is_measured(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, _HEAD + SCRIPTS[name] + _TRAIN)
    left = watched(file, probe_every=1)
    assert differences(plain(file), left) == []
    outcome = left.outcome
    assert outcome is not None
    assert outcome.verdict.watch.errors == []
    found = [p.recurrent for p in outcome.run.probes]
    assert [len(f) for f in found] == [{"lstm with dropout": 6, "packed gru": 2}.get(name, 1)] * 3
    for one in (r for f in found for r in f):
        assert one.steps == 9
        assert all(g > 0 for g in one.norms)
        assert len(one.carried) == 9
        assert one.reach is not None
        assert one.lyapunov
    assert not any("over time" in note for p in outcome.run.probes for note in p.notes)


def _spoil(monitor: Monitor) -> None:
    """Draw one random number where a call is measured again."""
    after: Any = monitor.window.over_time.after

    def drawing(*args: Any) -> None:
        after(*args)
        torch.rand(1)

    monitor.window.over_time.after = drawing  # type: ignore[method-assign]


def test_a_re_run_that_draws_a_random_number_is_found_out(tmp_path: Path) -> None:
    """Negative control of the comparison above."""
    file = write(tmp_path, _HEAD + SCRIPTS["lstm with dropout"] + _TRAIN)
    assert differences(plain(file), watched(file, probe_every=1, prepare=_spoil))


# ── what is measured, what is not ────────────────────────────────────────────────────────────────────────────────────


def once(train: Callable[[], Tensor], *params: Tensor) -> Run:
    optimizer = torch.optim.SGD(params, lr=0.0)
    with watching() as run:
        train().backward()
        optimizer.step()
    return run


def over_time(probe: Probe) -> list[str]:
    return [note for note in probe.notes if "over time" in note]


def only(run: Run) -> Recurrence:
    (probe,) = run.probes
    assert over_time(probe) == []
    (one,) = probe.recurrent
    return one


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_cell_called_in_a_loop_is_measured_as_the_kernel_of_the_same_weights(kind: str) -> None:
    torch.manual_seed(0)
    kernel, cell = getattr(nn, kind)(3, 8), getattr(nn, f"{kind}Cell")(3, 8)
    for name, p in cell.named_parameters():
        p.data.copy_(getattr(kernel, f"{name}_l0"))
    x = torch.randn(60, 4, 3)

    def loop() -> Tensor:
        state: Any = None
        for part in x:
            state = cell(part, state)
        last: Tensor = state[0] if kind == "LSTM" else state
        return (last**2).sum()

    def at_once() -> Tensor:
        loss: Tensor = (kernel(x)[0][-1] ** 2).sum()
        return loss

    one, other = (once(f, *net.parameters()).probes[0].recurrent[0] for f, net in ((loop, cell), (at_once, kernel)))
    assert one.norms == pytest.approx(other.norms, rel=1e-4)
    assert one.memory == pytest.approx(other.memory, rel=1e-4)
    assert bool(one.memory) == (kind == "LSTM")
    assert one.carried == pytest.approx(other.carried, rel=1e-4)
    assert (one.reach, one.radius, one.sigma) == (other.reach, *map(_near, (other.radius, other.sigma)))
    assert one.lyapunov[0] == pytest.approx(other.lyapunov[0], abs=0.05)  # there forwards, here backwards in time
    assert one.lyapunov[0] != pytest.approx(other.lyapunov[3], abs=0.05)  # negative control


def _near(x: float | None) -> Any:
    return None if x is None else pytest.approx(x)


def test_a_loop_with_hooks_of_the_scripts_own_gets_no_second_pass() -> None:
    torch.manual_seed(0)
    cell, calls = nn.RNNCell(3, 8), []

    def loop() -> Tensor:
        h = torch.zeros(2, 8)
        for _ in range(9):
            h = cell(torch.ones(2, 3), h)
            h.register_hook(lambda g: calls.append(1))
        return h.sum()

    (probe,) = once(loop, *cell.parameters()).probes
    assert len(calls) == 9
    (one,) = probe.recurrent
    assert (len(one.norms), one.carried, one.lyapunov, one.reach) == (9, [], [], None)
    assert "second backward would call them again" in over_time(probe)[0]


def test_exponents_of_a_linear_loop_are_those_of_its_matrix() -> None:
    torch.manual_seed(1)
    w = nn.Parameter(0.9 * nn.init.orthogonal_(torch.empty(16, 16)))
    x = torch.randn(4, 16)

    def loop() -> Tensor:
        h = x
        for _ in range(101):
            h = h @ w
        return h.sum()

    one = only(once(loop, w))
    assert one.steps == 101
    assert one.norms[0] / one.norms[-1] == pytest.approx(2.656e-5, rel=0.03)
    assert one.lyapunov == pytest.approx([-0.10536] * 2, abs=1e-3)
    assert one.radius == pytest.approx(0.9, rel=1e-3)
    assert one.norms[0] / one.norms[-1] != pytest.approx(0.901**100, rel=0.03)  # negative control


def test_states_are_what_the_next_step_reads_and_each_layer_is_apart() -> None:
    torch.manual_seed(2)
    cells = [nn.Linear(8, 5), nn.Linear(10, 5)]
    x = torch.randn(7, 4, 3)
    states: list[list[Tensor]] = [[], []]

    def loop() -> Tensor:
        a = b = torch.zeros(4, 5)
        for part in x:
            a = torch.tanh(cells[0](torch.cat([part, a], 1)))
            b = torch.tanh(cells[1](torch.cat([a, b], 1)))
            states[0].append(a)
            states[1].append(b)
        return (b**2).sum()

    (probe,) = once(loop, *(p for c in cells for p in c.parameters())).probes
    states = [[], []]
    truth = torch.autograd.grad(loop(), [*states[0], *states[1]])
    found = [r.norms for r in probe.recurrent]
    assert found == [pytest.approx([float(g.norm()) for g in part], rel=1e-5) for part in (truth[:7], truth[7:])]


def test_a_sequence_that_is_too_long_is_told_with_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overtime, "MAX_CELLS", 30)
    net = nn.GRU(2, 3, num_layers=2)
    (probe,) = once(lambda: net(torch.randn(16, 2, 2))[0].sum(), *net.parameters()).probes
    assert probe.recurrent == []
    (note,) = over_time(probe)
    assert "gru takes 16 time steps in 2 layers" in note


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_of_a_long_sequence_the_last_part_is_measured(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    net, x = getattr(nn, kind)(2, 3, num_layers=2), torch.randn(64, 2, 2)

    def loss() -> Tensor:
        out: Tensor = net(x)[0][-1].sum()
        return out

    whole = once(loss, *net.parameters()).probes[0]
    monkeypatch.setattr(overtime, "MAX_CELLS", 80)
    part = once(loss, *net.parameters()).probes[0]
    assert over_time(part) == []
    for one, all_of_it in zip(part.recurrent, whole.recurrent, strict=True):
        assert (one.steps, one.skipped, all_of_it.skipped) == (40, 24, 0)
        assert one.norms == pytest.approx(all_of_it.norms[24:], rel=1e-4)
        assert one.norms != pytest.approx(all_of_it.norms[:40], rel=1e-1)  # negative control
        assert one.carried == pytest.approx(all_of_it.carried[:40], rel=1e-4)


def test_a_run_that_may_not_wait_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.GRU(2, 3)
    monkeypatch.setattr(overtime, "_PER_CELL", 1e9)
    (probe,) = once(lambda: net(torch.randn(16, 2, 2))[0].sum(), *net.parameters()).probes
    assert probe.recurrent == []
    assert "than watching may cost" in over_time(probe)[0]


def test_masks_that_cannot_be_drawn_again_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradientflow.depth.probe.trace.noise_before", lambda *_: None)
    net = nn.LSTM(2, 3, num_layers=2, dropout=0.5)
    (probe,) = once(lambda: net(torch.randn(6, 2, 2))[0].sum(), *net.parameters()).probes
    assert probe.recurrent == []
    assert "masks of the dropout" in over_time(probe)[0]


def test_nothing_of_the_script_is_held_after_the_step() -> None:
    net = nn.LSTM(2, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def held() -> int:
        return sum(type(thing) is opaque.Call for thing in gc.get_objects())

    with watching() as run:
        loss = net(torch.randn(6, 2, 2))[0].sum()
        before = held()
        loss.backward()
        optimizer.step()
        after = held()
    assert run.probes[0].recurrent
    assert (before, after) == (1, 0)


def test_rows_are_a_part_of_the_batch_and_each_is_exact() -> None:
    torch.manual_seed(4)
    net = nn.RNN(2, 3)
    x = torch.randn(1, 1, 2).expand(6, 1, 2).repeat(1, 64, 1)
    one = only(once(lambda: net(x)[0][-1].sum(), *net.parameters()))
    whole = only(once(lambda: net(x[:, :1])[0][-1].sum(), *net.parameters()))
    assert (one.rows, one.batch) == (32, 64)
    assert one.norms == pytest.approx([n * 32**0.5 for n in whole.norms], rel=1e-5)
