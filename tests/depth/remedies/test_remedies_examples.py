"""The examples in the docstrings of remedies do what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

from gradientflow.depth import remedies

MODULES = [m.name for m in pkgutil.walk_packages(remedies.__path__, f"{remedies.__name__}.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples_and_a_wrong_one_is_seen() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert sum(len(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name))) >= 10
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None).failed == 1
