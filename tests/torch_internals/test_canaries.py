"""Every private name of PyTorch still does what we lean on. One of these failing names the address of a break."""

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import gradientflow
from gradientflow import torch_internals as wall
from gradientflow.torch_internals import INTERNALS

SOURCE = Path(gradientflow.__file__).parent


class Counting(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


class Dispatching(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def modes_move() -> None:
    outer, ours = Counting(), Counting()
    with outer:
        assert wall.function_modes() == [outer]
        wall.set_function_modes([])
        torch.ones(1)
        assert outer.calls == 0
        wall.set_function_modes([ours, outer])
        torch.ones(2)
        assert (outer.calls, ours.calls) == (1, 1)
        assert wall.function_modes() == [ours, outer]
        wall.set_function_modes([outer])


def gradients_are_switched() -> None:
    wall.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    wall.set_grad_enabled(True)
    assert torch.is_grad_enabled()


def nothing_sees_us() -> None:
    with Counting() as mode:
        before = mode.calls
        with wall.unseen():
            torch.ones(1)
        assert mode.calls == before
        torch.ones(1)
        assert mode.calls > before, "the control"


def nothing_dispatches_us() -> None:
    with Dispatching() as mode:
        with wall.undispatched():
            torch.ones(1)
        assert mode.calls == 0
        torch.ones(1)
        assert mode.calls > 0, "the control"


def default_device_is_known() -> None:
    assert not wall.is_default_device(Counting())
    torch.set_default_device("cpu")
    try:
        assert wall.is_default_device(wall.function_modes()[0])
    finally:
        torch.set_default_device(None)


def functorch_is_seen() -> None:
    seen: list[bool] = []

    def f(x: Tensor) -> Tensor:
        seen.append(wall.transformed())
        return (x * x).sum()

    torch.func.grad(f)(torch.ones(2))
    f(torch.ones(2))
    assert seen == [True, False]


def jit_tracing_is_seen() -> None:
    seen: list[bool] = []

    def f(x: Tensor) -> Tensor:
        seen.append(wall.transformed())
        return x + 1

    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):  # of newer releases: it is what old scripts do
            warnings.simplefilter("ignore", kind)
        torch.jit.trace(f, torch.ones(2), check_trace=False)
    assert seen == [True] and not wall.transformed()


def saved_hooks_are_seen() -> None:
    assert not wall.saving_is_hooked()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        assert wall.saving_is_hooked()


def weak_references_expire() -> None:
    t = torch.ones(2)
    ref = wall.weak(t)
    assert not ref.expired()
    del t
    assert ref.expired()


def backward_is_found() -> None:
    w = torch.ones(3, requires_grad=True)
    found: list[tuple[int | None, list[Tensor]]] = []
    w.register_post_accumulate_grad_hook(lambda _: found.append((wall.backward_task(), list(wall.backward_roots()))))
    losses = [(w * k).sum() for k in (1, 2)]
    for loss in losses:
        loss.backward()
    tasks = [task for task, _ in found]
    assert None not in tasks and len(set(tasks)) == 2
    assert [roots[0] is loss for (_, roots), loss in zip(found, losses, strict=True)] == [True, True]
    assert list(wall.backward_roots()) == [], "the control: nothing runs"


def python_nodes_are_told_apart() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    x = torch.ones(2, requires_grad=True)
    assert wall.is_python_node(Double.apply(x).grad_fn)
    assert not wall.is_python_node((2 * x).grad_fn)
    assert wall.function_behind(Double.apply(x).grad_fn) is Double
    assert wall.function_behind((2 * x).grad_fn) is None


def global_hooks_are_seen() -> None:
    assert not wall.any_global_backward_hook()
    for register in (
        nn.modules.module.register_module_full_backward_hook,
        nn.modules.module.register_module_full_backward_pre_hook,
    ):
        handle = register(lambda *a: None)
        assert wall.any_global_backward_hook()
        handle.remove()
    assert not wall.any_global_backward_hook()


def norms_with_statistics_are_known() -> None:
    assert wall.is_batch_norm(nn.BatchNorm2d(2)) and not wall.is_batch_norm(nn.InstanceNorm1d(2))
    assert wall.is_instance_or_batch_norm(nn.BatchNorm2d(2)) and wall.is_instance_or_batch_norm(nn.InstanceNorm1d(2))
    assert not wall.is_instance_or_batch_norm(nn.LayerNorm(2))


def weight_norm_is_known() -> None:
    seen = []

    class See(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(wall.is_weight_norm_kernel(func))
            return func(*args, **(kwargs or {}))

    with See():
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))(torch.ones(1, 2))
    assert any(seen) and not all(seen)


def fused_calls_compute() -> None:
    a, b = [torch.tensor([3.0, 4.0]), torch.tensor([1.0])], [torch.tensor([1.0, 1.0]), torch.tensor([2.0])]
    assert [float(n) for n in wall.norms(a)] == [5.0, 1.0] and wall.norms([]) == []
    wall.add_all(a, b)
    wall.subtract_all(b, b)
    wall.copy_all(b, a)
    assert b[0].tolist() == [4.0, 5.0] and b[1].tolist() == [3.0]


def compilation_is_announced() -> None:
    begun: list[object] = []
    import torch._dynamo

    def begins(*told: object) -> None:  # (PyTorch 2.7 says nothing of what it begins)
        begun.append(told)

    handler = wall.when_compiling(begins, None)
    try:
        torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
    finally:
        wall.no_more_compiling(begins, handler)
    assert handler is not None and begun


def compilation_can_be_switched_off() -> None:
    import torch._dynamo  # noqa: F401

    assert wall.compiler_disabled() is False
    wall.compiler_disabled(True)
    try:
        assert wall.compiler_disabled() is True
    finally:
        wall.compiler_disabled(False)


def dropouts_are_known() -> None:
    assert wall.is_dropout(nn.Dropout2d()) and wall.is_dropout(nn.AlphaDropout())
    assert not wall.is_dropout(nn.Linear(1, 1))


def what_traces_is_seen() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        assert wall.transformed() and not wall.readable(torch.ones(2))
        fake = mode.from_tensor(torch.ones(2))
    assert not wall.transformed() and not wall.readable(fake) and not wall.readable(torch.ones(2, device="meta"))
    with Dispatching():
        assert not wall.transformed(), "a mode of the script's own does not trace"
    assert wall.readable(torch.ones(2)) and wall.readable(nn.Parameter(torch.ones(2)))


def export_is_seen() -> None:
    seen: list[bool] = []

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(wall.transformed())
            return x + 1

    torch.export.export(Net(), (torch.ones(2),), strict=False)
    assert seen and all(seen)


def wrapped_tensors_are_seen() -> None:
    seen: list[bool] = []

    def f(x: Tensor) -> Tensor:
        seen.append(wall.readable(x))
        return x.sum()

    torch.func.vmap(f)(torch.ones(2, 3))
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: seen.append(wall.readable(g)))
    torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
    seen.append(wall.readable(torch._to_functional_tensor(torch.ones(2))))
    assert seen == [False, False, False]


def ours_is_not_compiled() -> None:
    graphs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    def made() -> Callable[[Tensor], Tensor]:
        def inner(x: Tensor) -> Tensor:
            return x.sin() + 1

        def outer(x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return inner(x) * 2

        outer.__code__ = outer.__code__.replace()  # (what is told of a function's code holds for good)
        return outer

    torch.compile(made(), backend=backend)(torch.ones(3))
    assert graphs  # (control: it is compiled, and what it calls)
    graphs.clear()
    torch._dynamo.reset()
    ours = made()
    wall.never_compile(ours)
    torch.compile(ours, backend=backend)(torch.ones(3))
    assert not graphs
    torch._dynamo.reset()


CANARIES: dict[str, Callable[[], None]] = {
    "torch._C._len_torch_function_stack": modes_move,
    "torch._C._push_on_torch_function_stack": modes_move,
    "torch._C._pop_torch_function_stack": modes_move,
    "torch._C._get_function_stack_at": modes_move,
    "torch._C._set_grad_enabled": gradients_are_switched,
    "torch._C.DisableTorchFunction": nothing_sees_us,
    "torch._C._len_torch_dispatch_stack": nothing_dispatches_us,
    "torch.utils._python_dispatch._disable_current_modes": nothing_dispatches_us,
    "torch.utils._device.DeviceContext": default_device_is_known,
    "torch._C._functorch.peek_interpreter_stack": functorch_is_seen,
    "torch._C._get_tracing_state": jit_tracing_is_seen,
    "torch._C._autograd._top_saved_tensors_default_hooks": saved_hooks_are_seen,
    "torch._C._get_dispatch_stack_at": what_traces_is_seen,
    "torch._ops._len_torch_dispatch_stack_pre_dispatch": export_is_seen,
    "torch._C._functorch.is_functorch_wrapped_tensor": wrapped_tensors_are_seen,
    "torch._C._functorch.is_legacy_batchedtensor": wrapped_tensors_are_seen,
    "torch._is_functional_tensor": wrapped_tensors_are_seen,
    "torch._C._WeakTensorRef": weak_references_expire,
    "torch._C._current_graph_task_id": backward_is_found,
    "torch.autograd.graph._engine_run_backward": backward_is_found,
    "torch._C._FunctionBase": python_nodes_are_told_apart,
    "torch.nn.modules.module._global_backward_hooks": global_hooks_are_seen,
    "torch.nn.modules.module._global_backward_pre_hooks": global_hooks_are_seen,
    "torch.nn.modules.batchnorm._NormBase": norms_with_statistics_are_known,
    "torch.nn.modules.batchnorm._BatchNorm": norms_with_statistics_are_known,
    "torch.nn.modules.dropout._DropoutNd": dropouts_are_known,
    "torch._weight_norm": weight_norm_is_known,
    "torch._foreach_norm": fused_calls_compute,
    "torch._foreach_copy_": fused_calls_compute,
    "torch._foreach_sub_": fused_calls_compute,
    "torch._foreach_add_": fused_calls_compute,
    "torch._dynamo.callback.callback_handler": compilation_is_announced,
    "torch._dynamo.config": compilation_can_be_switched_off,
    "torch._C._dynamo.eval_frame.set_code_exec_strategy": ours_is_not_compiled,
    "torch._C._dynamo.eval_frame._FrameAction": ours_is_not_compiled,
    "torch._C._dynamo.eval_frame._FrameExecStrategy": ours_is_not_compiled,
}


@pytest.mark.parametrize("name", sorted(INTERNALS))
def test_a_private_name_does_what_we_lean_on(name: str) -> None:
    CANARIES[name]()
    assert INTERNALS[name].value is not None, INTERNALS[name].broken


def test_every_name_says_what_it_is_for_and_what_is_lost() -> None:
    assert set(CANARIES) == set(INTERNALS)
    assert all(i.purpose and i.without and i.name.startswith("torch.") for i in INTERNALS.values())
    assert wall.lost() == []


def test_nothing_is_loaded_by_looking_for_what_is_lazy() -> None:
    code = "import sys, gradientflow.torch_internals as w; w.lost(); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_what_an_output_will_look_like_is_told_or_not_known() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    node = (x * 2).grad_fn
    assert wall.output_metadata(node, 0) == ((2, 3), torch.float32, torch.device("cpu"))
    assert wall.output_metadata(node, 5) is None and wall.output_metadata(object(), 0) is None


def test_frames_of_pytorch_are_known_by_name() -> None:
    seen: dict[str, FrameType | None] = {}

    class Layer(nn.Linear):
        def reset_parameters(self) -> None:
            seen["reset"] = wall.layer_being_reset()
            super().reset_parameters()

        def forward(self, x: Tensor) -> Tensor:
            seen["call"] = wall.running_frame("_call_impl", "module.py")
            return super().forward(x)

    Layer(2, 2)(torch.ones(1, 2))
    assert seen["reset"] is not None and seen["call"] is not None
    assert wall.calls_module(seen["call"].f_code) and not wall.calls_module(seen["reset"].f_code)
    assert wall.layer_being_reset() is None and wall.optimizer_being_made() is None


# ── the names stand nowhere else ─────────────────────────────────────────────────────────────────────────────────────

_PRIVATE = re.compile(r"^_(?!_)[a-zA-Z]")
# What is private by name and documented all the same, or an attribute of our own objects.
PUBLIC_ANYWAY = {"torch._dynamo.reset"}


_HIDDEN = (
    "_forward_cls",
    "_backward_hooks",
    "_forward_hooks",
    "_input_metadata",
    "_saved_training",
)  # asked for by text


def private_names(text: str) -> set[str]:
    """Dotted names that begin with `torch` and have a private part, and private names imported from torch."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted.startswith(("torch.", "nn.")) and any(_PRIVATE.match(p) for p in dotted.split(".")):
                found.add(dotted)
            if node.attr in (
                "_parameters",
                "_modules",
                "_buffers",
                "_backward_hooks",
                "_forward_hooks",
                "_input_metadata",
            ):
                if not dotted.startswith("self."):
                    found.add(dotted)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and len(node.args) > 1:
            asked = node.args[1]
            if isinstance(asked, ast.Constant) and asked.value in _HIDDEN:
                found.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            parts = [*(node.module or "").split("."), *(a.name for a in node.names)]
            found |= {f"{node.module}.{p}" for p in parts if _PRIVATE.match(p)}
    return found - PUBLIC_ANYWAY


def test_no_private_name_of_pytorch_stands_outside_of_the_wall() -> None:
    found = {
        f"{file.relative_to(SOURCE)}: {name}"
        for file in SOURCE.rglob("*.py")
        if "torch_internals" not in file.relative_to(SOURCE).parts
        for name in private_names(file.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "text",
    [
        "torch._C._WeakTensorRef(t)",
        "from torch.utils._device import DeviceContext",
        "p._backward_hooks",
        'getattr(type(node), "_forward_cls", None)',
        "nn.modules._x",
    ],
)
def test_a_private_name_would_be_seen(text: str) -> None:
    assert private_names(text)
    assert not private_names("torch.nn.Linear(1, 1); self._parameters; from torch import Tensor".replace("; ", "\n"))
