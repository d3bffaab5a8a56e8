"""Values of every kind of tensor are kept and put back to the bit, and what nobody touched is not written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradientflow as gf
from gradientflow.depth.look.patient import untouched
from gradientflow.depth.look.values import values
from gradientflow.errors import UsageError
from tests.depth.look import nets

F = nn.functional


def _inference() -> Tensor:
    with torch.inference_mode():
        return torch.randn(3)


def _jagged() -> Tensor:
    return torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)], layout=torch.jagged)


def _quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8)


# name: (a tensor, what changes it)
KINDS: dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], Any]]] = {
    "plain": (lambda: torch.randn(3, 4), lambda t: t.mul_(3)),
    "scalar": (lambda: torch.tensor(2.0), lambda t: t.mul_(3)),
    "transposed": (lambda: torch.randn(3, 4).t(), lambda t: t.mul_(3)),
    "not a number": (lambda: torch.tensor([torch.nan, 1.0]), lambda t: t.zero_()),
    "minus zero": (lambda: torch.tensor([-0.0]), lambda t: t.zero_()),
    "whole numbers": (lambda: torch.arange(3), lambda t: t.add_(1)),
    "truths": (lambda: torch.tensor([True, False]), lambda t: t.logical_not_()),
    "half": (lambda: torch.randn(3).bfloat16(), lambda t: t.mul_(3)),
    "eight bits": (lambda: torch.randn(3).to(torch.float8_e4m3fn), lambda t: t.copy_(torch.zeros(3))),
    "complex": (lambda: torch.randn(3, dtype=torch.complex64), lambda t: t.mul_(3)),
    "complex, wide": (lambda: torch.randn(3, dtype=torch.complex128), lambda t: t.mul_(3)),
    "conjugate": (lambda: torch.randn(3, dtype=torch.complex64).conj(), lambda t: t.mul_(3)),
    "expanded": (lambda: torch.zeros(1).expand(2), lambda t: t[0:1].add_(1)),
    "expanded in part": (lambda: torch.randn(3, 1).expand(3, 5), lambda t: t[:, 0].add_(1)),
    "unfolded": (lambda: torch.randn(6).unfold(0, 3, 1), lambda t: t[0].add_(1)),
    "sparse": (lambda: torch.eye(3).to_sparse(), lambda t: t._values().mul_(3)),
    "sparse, with more entries": (lambda: torch.eye(3).to_sparse(), lambda t: t.add_(torch.ones(3, 3).to_sparse())),
    "sparse, by row": (lambda: torch.eye(3).to_sparse_csr(), lambda t: t.values().mul_(3)),
    "sparse, by column": (lambda: torch.eye(3).to_sparse_csc(), lambda t: t.values().mul_(3)),
    "sparse, by block": (lambda: torch.eye(4).to_sparse_bsr((2, 2)), lambda t: t.values().mul_(3)),
    "of mkldnn": (lambda: torch.randn(3, 4).to_mkldnn(), lambda t: t.mul_(3)),
    "quantised": (_quantised, lambda t: t.copy_(torch.zeros(3))),
    "nested": (_jagged, lambda t: t.mul_(3)),
    "of inference": (_inference, lambda t: t.mul_(3)),
    "in another format": (lambda: torch.randn(3), lambda t: setattr(t, "data", t.data.double())),
    "in another shape": (lambda: torch.randn(3), lambda t: t.resize_(5).zero_()),
}
OVERLAPPING = ("expanded", "expanded in part", "unfolded")


def bits(t: Tensor) -> Any:
    """Everything that can be read of a tensor."""
    if t.is_nested:
        return [part.tolist() for part in t.unbind()]
    told = [t.dtype, t.shape, t.layout]
    if t.is_quantized:
        return [*told, t.int_repr().tolist()]
    if t.layout == torch.sparse_coo:
        return [*told, t.is_coalesced(), t._nnz(), str(t.to_dense().tolist())]
    dense = t if t.layout == torch.strided else t.to_dense()
    return [*told, str(dense.to(torch.float32).tolist() if dense.dtype.itemsize == 1 else dense.tolist())]


@pytest.fixture(autouse=True)
def _calm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse layouts by block and nested tensors are told to be in beta
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_every_kind_are_put_back(kind: str) -> None:
    make, harm = KINDS[kind]
    t = make()
    before, put_back = bits(t), values(t)
    with torch.no_grad(), torch.inference_mode(t.is_inference()):
        harm(t)
    assert bits(t) != before  # (or nothing was tried)
    put_back()
    assert bits(t) == before


def test_a_tensor_that_nobody_touched_is_not_written() -> None:
    t = torch.randn(3)
    put_back = values(t)
    version = t._version
    put_back()
    assert t._version == version
    shared = torch.randn(4)
    put_back = values(shared[:2])
    shared[3] = 7.0  # beside the part that is kept
    put_back()
    assert shared[3] == 7.0


def test_a_tensor_without_values_has_nothing_to_keep() -> None:
    t = torch.ones(3, device="meta")
    values(t)()
    assert t.is_meta and t.shape == (3,)


class Buffered(nn.Module):
    """A network with one more buffer, which its forward changes."""

    def __init__(self, buffer: Tensor, harm: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner = nets.Stack("sigmoid", 2)
        self.register_buffer("more", buffer)
        self.harm = harm

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.harm(self.more)
        return self.inner(x)


def _grads(net: nn.Module) -> list[tuple[int, int]]:
    return [(id(p.grad), len(p._post_accumulate_grad_hooks or {})) for p in net.parameters()]


@pytest.mark.parametrize("kind", [*OVERLAPPING, "sparse", "sparse, by row", "conjugate", "eight bits", "on meta"])
def test_gradients_hooks_and_buffers_are_as_they_were_beside_a_buffer_of_any_kind(kind: str) -> None:
    make, harm = KINDS.get(kind, (lambda: torch.ones(3, device="meta"), lambda t: t.add_(1)))
    torch.manual_seed(0)
    net, (x, y) = Buffered(make(), harm), nets.batch()
    F.cross_entropy(net(x), y).backward()
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(lambda p: None)
    before, grads = None if kind == "on meta" else bits(net.more), _grads(net)
    gf.diagnose(net, F.cross_entropy, (x, y))
    assert _grads(net) == grads
    assert kind == "on meta" or bits(net.more) == before


class Uncopied(Tensor):
    """A tensor that cannot be copied."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "clone":
            raise RuntimeError("no copies of this one")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_tensor_that_cannot_be_copied_is_refused_and_named_and_nothing_is_changed() -> None:
    net, (x, y) = nets.Stack("sigmoid", 2), nets.batch()
    F.cross_entropy(net(x), y).backward()
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(lambda p: None)
    grads = _grads(net)
    net.register_buffer("odd", torch.ones(3).as_subclass(Uncopied))
    with pytest.raises(UsageError, match=r"odd .* cannot be copied .*no copies of this one"):
        gf.diagnose(net, F.cross_entropy, (x, y))
    assert _grads(net) == grads


def test_what_cannot_be_put_back_does_not_keep_the_rest_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, y) = nets.Stack("sigmoid", 2), nets.batch()
    F.cross_entropy(net(x), y).backward()
    grads = _grads(net)

    def broken(t: Tensor) -> Callable[[], None]:
        def put_back() -> None:
            raise RuntimeError("cannot be written")

        return put_back

    monkeypatch.setattr("gradientflow.depth.look.patient.values", broken)
    with pytest.raises(RuntimeError, match="cannot be written"), untouched(net, x):
        F.cross_entropy(net(x), y).backward()
    assert _grads(net) == grads
