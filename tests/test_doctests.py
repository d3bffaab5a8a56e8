"""The examples in the docstrings do what they show."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import gradientflow

LOOKED_AT = ("gradientflow.depth.probe", "gradientflow.depth.causes", "gradientflow.report.over_time")
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(gradientflow.__path__, "gradientflow.")
    if m.name.startswith(("gradientflow.river", "gradientflow.curvature", "gradientflow.space", *LOOKED_AT))
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    torch.manual_seed(0)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name}"


def test_there_are_examples_and_a_wrong_one_is_seen():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = sum(len(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name)))
    assert found > 40
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None).failed == 1
