"""The interventions together: what the watcher sees under them, what they leave behind, and what they never do."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch.nn.modules import module as nn_module
from torch.optim import optimizer as torch_optimizer

from gradientflow.depth.remedies.install import install
from gradientflow.depth.remedies.row import Never
from gradientflow.depth.remedies.table import TABLE
from gradientflow.records import Change
from tests.depth.remedies.live import change, lines_of, live, run_watched
from tests.depth.scripts import differences, plain, sandbox, write
from tests.depth.watch.training import SCRIPTS

SIGMOIDS = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.ready = nn.Sequential(
            nn.Linear(6, 16),
            nn.Sigmoid(),  # mark: made
            nn.Linear(16, 16),
        )
        self.out = nn.Linear(16, 1)
    def forward(self, x):
        h = self.ready(x)
        h = torch.sigmoid(h)  # mark: called
        return self.out(h)
model = Net()
plain = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid())  # mark: other
optimizer = torch.optim.SGD([*model.parameters(), *plain.parameters()], lr=0.1)
x, y = torch.randn(32, 6), torch.randn(32, 1)
for step in range(4):
    optimizer.zero_grad()
    loss = (model(plain(x)) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
"""


def test_the_watcher_sees_the_changed_operation_at_the_users_line(tmp_path: Path) -> None:
    at = lines_of(SIGMOIDS)
    swap = change("swap-activation", (at["called"], "sigmoid"), to="relu")
    left, (intervention,) = run_watched(tmp_path, SIGMOIDS, [swap], probe_every=1)
    assert left.outcome is not None and left.outcome.verdict.watch.errors == []
    (probe, *_) = left.outcome.run.probes
    assert [(op.name, op.line) for op in probe.ops if op.line == at["called"]] == [("relu", at["called"])]
    assert [op.name for op in probe.ops].count("sigmoid") == 2  # the other two are what they were
    assert intervention.acted == 4
    assert intervention.problem is None


def test_a_ready_made_layer_is_met_at_the_line_where_it_was_made(tmp_path: Path) -> None:
    at = lines_of(SIGMOIDS)
    swap = change("swap-activation", (at["made"], "sigmoid"), to="tanh")
    left, (made,) = run_watched(tmp_path, SIGMOIDS, [swap], probe_every=1)
    assert left.outcome is not None
    names = [op.name for op in left.outcome.run.probes[0].ops if op.kind == "activation"]
    # the user's forward only calls the container that the layer is in: its line there, `self.ready(x)`, is not met
    called = next(op.line for op in left.outcome.run.probes[0].ops if op.name == "linear" and "ready" in str(op.module))
    inside = change("swap-activation", (called or 0, "sigmoid"), to="tanh")
    other, (met,) = run_watched(tmp_path, SIGMOIDS, [inside], probe_every=1)
    assert other.outcome is not None
    assert (made.acted, met.acted) == (4, 0)
    assert names.count("tanh") == 1
    assert [op.name for op in other.outcome.run.probes[0].ops].count("tanh") == 0
    ready = change("swap-activation", (at["other"], "sigmoid"), to="tanh")
    _, (plain_one,) = run_watched(tmp_path, SIGMOIDS, [ready], probe_every=1)
    assert plain_one.acted == 4  # the loop only calls that model: the same


@pytest.mark.parametrize("name", ["batchnorm", "lbfgs", "lstm"])
def test_no_changes_change_nothing(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, SCRIPTS[name])
    left, interventions = run_watched(tmp_path, SCRIPTS[name], [], probe_every=1)
    assert interventions == []
    assert differences(plain(file), left) == []


@pytest.mark.parametrize("name", ["dropout", "gan", "by hand with grad", "modes within modes"])
def test_changes_that_never_meet_their_place_change_nothing(tmp_path: Path, name: str) -> None:
    elsewhere = 100_000
    changes = [
        change("swap-activation", (elsewhere, "relu"), (elsewhere, "tanh"), to="tanh"),
        change("rescale-init", (elsewhere, "linear"), (elsewhere, "matmul"), gain=2.0),
        change("scale-input", (elsewhere, "linear")),
        change("scale-target", (elsewhere, "sub")),
        change("clamp-op", (elsewhere, "div")),
        change("add-norm", (elsewhere, "relu")),
        change("add-skip", (elsewhere, "relu")),
    ]
    file = write(tmp_path, SCRIPTS[name])
    left, interventions = run_watched(tmp_path, SCRIPTS[name], changes, probe_every=1)
    assert [i.acted for i in interventions] == [0] * len(changes)
    assert [i.problem for i in interventions] == [None] * len(changes)
    assert differences(plain(file), left) == []
    met = [change("lower-step", factor=0.5)]
    if "by hand" not in name:  # the check can fail: a change that acts is seen
        assert differences(plain(file), run_watched(tmp_path, SCRIPTS[name], met, probe_every=1)[0]) != []


def test_nothing_is_left_behind() -> None:
    def hooked() -> tuple[int, ...]:
        return (
            torch._C._len_torch_function_stack(),
            len(torch_optimizer._global_optimizer_pre_hooks),
            len(torch_optimizer._global_optimizer_post_hooks),
            len(nn_module._global_module_registration_hooks),
            len(nn_module._global_parameter_registration_hooks),
        )

    before = hooked()
    changes = [
        Change(kind, kind, [], {"factor": 0.5, "gain": 1.0})
        for kind, row in TABLE.items()
        if not isinstance(row.act, Never) and kind != "flip-sign"
    ]
    within: list[tuple[int, ...]] = []

    def fail() -> None:
        with install(changes):
            w = torch.nn.Linear(2, 1)
            optimizer = torch.optim.SGD(w.parameters(), lr=0.1)
            w(torch.ones(3, 2)).sum().backward()
            optimizer.step()
            within.append(hooked())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert hooked() == before
    assert all(n > b for n, b in zip(within[0], before, strict=True))


def test_a_mode_that_the_script_left_on_the_stack_stays() -> None:
    class Mine(torch.overrides.TorchFunctionMode):
        pass

    mine = Mine()
    with sandbox():
        with install([change("swap-activation", (1, "relu"))]):
            mine.__enter__()
        assert torch.overrides._get_current_function_mode_stack()[-1] is mine
        mine.__exit__(None, None, None)


FAILING = """
w = torch.nn.Parameter(torch.ones(3))
kept = (torch.cumsum(w, 0) * 2).sum()  # mark: here
kept.backward()
"""


def test_what_fails_is_told_and_does_not_reach_the_script() -> None:
    unknown = change("clamp-op", (lines_of(FAILING)["here"], "cumsum"))
    scope, (intervention,) = live(FAILING, [unknown])
    assert scope["kept"].item() == 12.0
    assert intervention.problem is not None and "no safe form of cumsum" in intervention.problem
    assert intervention.acted == 0


def test_a_changed_call_that_fails_is_made_as_the_script_wrote_it() -> None:
    text = "w = torch.ones(3, dtype=torch.int64)\nout = torch.relu(w)  # mark: here\n"
    swap = change("swap-activation", (lines_of(text)["here"], "relu"), to="gelu")  # there is no gelu of whole numbers
    scope, (intervention,) = live(text, [swap])
    assert scope["out"].tolist() == [1, 1, 1]
    assert intervention.problem is not None and "swap-activation failed" in intervention.problem


def test_the_scripts_own_error_is_the_scripts() -> None:
    text = "torch.relu(torch.ones(3)) @ torch.ones(4)  # mark: here"
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        live(text, [change("swap-activation", (1, "relu"), to="tanh")])


def test_an_unknown_kind_says_so() -> None:
    _, (intervention,) = live("", [Change("gated-cell", "an LSTM")])
    assert intervention.problem is not None and "gated-cell cannot be tried" in intervention.problem


def test_no_random_numbers_of_the_scripts_are_used() -> None:
    text = """
    layer = nn.Linear(4, 4)
    nn.init.constant_(layer.weight, 0.5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(8, 4)).sum().backward()
    optimizer.step()
    drawn = torch.randn(3)
    """
    usual = live(text, [])[0]["drawn"]
    redrawn, (intervention,) = live(text, [Change("break-symmetry", "drawn anew")])
    assert intervention.acted == 1
    assert torch.equal(usual, redrawn["drawn"])
    assert not torch.equal(usual, live(text, [], seed=1)[0]["drawn"])


CHECKPOINTED = """
import threading
from torch.utils.checkpoint import checkpoint
torch.manual_seed(0)
block = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4))  # mark: made
x = torch.randn(8, 4, requires_grad=True)
checkpoint(block, x, use_reentrant={0}).pow(2).sum().backward()
kept = x.grad.clone()
out = []
def elsewhere():
    out.append(block(x).detach())
thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_computed_again_on_the_way_back_is_changed_alike(reentrant: bool) -> None:
    text = CHECKPOINTED.format(reentrant)
    swap = change("swap-activation", (lines_of(text)["made"], "sigmoid"), to="relu")
    scope, (one,) = live(text, [swap])
    wanted = CHECKPOINTED.format(reentrant).replace("nn.Sigmoid", "nn.ReLU")
    expected, _ = live(wanted, [])
    assert torch.allclose(scope["kept"], expected["kept"])
    assert torch.allclose(
        scope["out"][0], expected["out"][0]
    )  # a thread of the script's is reached through its modules
    assert one.problem is None
    assert one.acted == 3
    assert not torch.allclose(live(text, [])[0]["kept"], expected["kept"])


def test_a_compiled_model_is_run_as_it_is_written() -> None:
    text = """
    model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1))  # mark: made
    import warnings
    warnings.simplefilter("ignore")  # (that hooks on modules fire once more for a compiled one)
    fast = torch.compile(model, backend="eager")
    x = torch.randn(8, 4)
    out = fast(x)
    wanted = model[2](torch.relu(model[0](x)))
    """
    with warnings.catch_warnings():
        scope, (one,) = live(text, [change("swap-activation", (lines_of(text)["made"], "sigmoid"), to="relu")])
    assert torch.allclose(scope["out"], scope["wanted"])
    assert one.acted == 1
