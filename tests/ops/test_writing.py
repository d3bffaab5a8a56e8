"""Which calls write to their first argument: held against what PyTorch's tensors have."""

import pytest
import torch

from gradientflow.ops import writes

NAMES = [n for n in dir(torch.Tensor) if callable(getattr(torch.Tensor, n))]


@pytest.mark.parametrize("name", ["add_", "mul_", "copy_", "clamp_", "__setitem__", "__iadd__", "__imul__", "__ipow__"])
def test_what_writes(name: str) -> None:
    assert hasattr(torch.Tensor, name) and writes(name)


@pytest.mark.parametrize(
    "name", ["add", "__add__", "__getitem__", "__init__", "__invert__", "__int__", "__index__", "__iter__"]
)
def test_what_only_reads(name: str) -> None:
    assert not writes(name)


def test_every_operator_in_place_of_a_tensor_is_known() -> None:
    reads = {"__init__", "__invert__", "__int__", "__index__", "__iter__", "__init_subclass__"}
    assert {n for n in NAMES if n.startswith("__i") and not writes(n)} <= reads
    assert len([n for n in NAMES if writes(n)]) > 100
