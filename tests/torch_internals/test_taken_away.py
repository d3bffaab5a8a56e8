"""A PyTorch without one of the private names: the script computes the same, a verdict stands, and one sentence says what is lost."""

from pathlib import Path

import pytest
import torch
from torch.nn.modules import module as modules

from gradientflow.torch_internals import INTERNALS
from gradientflow.torch_internals.wall import Internal, any_says
from tests.depth.scripts import differences, plain, sandbox, watched, write

SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(32, 6), torch.randint(2, (32,))
record = []
for _ in range(12):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
"""


class Stop(Exception):
    """What a signal handler of a script's raises."""


class Interrupted:
    """Stands for a function of PyTorch's without a frame, during which a handler of the script's runs and raises."""

    __call__ = staticmethod(lambda *args: stop())


def stop() -> None:
    raise Stop


def test_what_a_handler_of_the_script_raises_meanwhile_goes_through() -> None:
    internal = Internal("torch.Tensor", "", "")
    internal._value = Interrupted()
    with pytest.raises(Stop):
        internal.ask(None, 1)
    with pytest.raises(Stop):
        any_says([internal], 1)
    assert not internal.broken
    internal._value = lambda *args: stop()  # (a function in Python, within which it comes)
    with pytest.raises(Stop):
        internal.ask(None, 1)
    internal._value = stop  # the control: the function itself fails
    assert internal.ask(7) == 7 and "failed (Stop" in internal.broken


LOADED = sorted(name for name, internal in INTERNALS.items() if not internal.lazy)


@pytest.mark.parametrize("harm", ["missing", "changed"])
@pytest.mark.parametrize("name", LOADED)
def test_without_it_watching_goes_on(name: str, harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise TypeError("takes no arguments of this kind")

    file = write(tmp_path, SCRIPT)
    with sandbox():
        torch.set_num_threads(1)
        alone = plain(file)
        internal = INTERNALS[name]
        if harm == "missing":
            monkeypatch.setattr(internal, "broken", "is missing")
        elif callable(internal.value) and not isinstance(internal.value, type):
            monkeypatch.setattr(internal, "_value", fails)
        left = watched(file, probe_every=3)
        assert differences(alone, left) == []
        assert left.outcome is not None and left.outcome.ending.how == "finished"
        verdict = left.outcome.verdict
        assert verdict.steps == 12
        told = [e for e in verdict.watch.errors if name in e]
        if harm == "missing":
            assert len(told) == 1 and internal.without in told[0]
        else:
            assert len(told) <= 1
        monkeypatch.undo()
        internal.broken = ""


def test_a_mode_that_cannot_be_taken_off_the_stack_listens_to_no_module_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still called with every torch call behind the run; `no_hook_is_left` looks at what it does there."""
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16)  # one with a fast path: modules are listened to on account of it
    internal = INTERNALS["torch._C._get_function_stack_at"]

    def fails(*args: object) -> None:
        raise TypeError("takes no arguments of this kind")

    with sandbox():
        torch.set_num_threads(1)
        monkeypatch.setattr(internal, "_value", fails)
        watched(write(tmp_path, SCRIPT), probe_every=3)
        assert modules._global_forward_hooks == {}
        torch.ones(2).add(1)
        assert modules._global_forward_hooks == {}
        monkeypatch.undo()
        internal.broken = ""
    assert layer.training
