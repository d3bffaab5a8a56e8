"""The pytest plugin: the fixture asserts, tells the whole verdict on failure, and costs other suites nothing."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

import gradientflow

pytest_plugins = ["pytester"]

SOURCE = str(Path(gradientflow.__file__).parents[1])
PLUGIN = "gradientflow.pytest_plugin"
LOADED = any(found.value == PLUGIN for found in entry_points(group="pytest11"))
ARGUMENTS = [*([] if LOADED else ["-p", PLUGIN]), "-p", "no:cacheprovider", "-p", "no:xdist"]

NETS = """
import pytest
import torch
from torch import nn

torch.manual_seed(0)
batch = torch.randn(32, 16), torch.randint(16, (32,))
loss = nn.functional.cross_entropy

def make(activation, depth):
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(16, 16), activation())], nn.Linear(16, 16))
"""


@pytest.fixture(autouse=True)
def found_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", SOURCE)


def test_the_fixture_passes_fails_and_tells(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        NETS
        + """
def test_healthy(gradient_flow):
    assert gradient_flow(lambda: make(nn.ReLU, 2), loss, batch, max_decades=2).healthy

def test_sick(gradient_flow):
    gradient_flow(lambda: make(nn.Sigmoid, 12), loss, batch)

def test_allowed(gradient_flow):
    gradient_flow(lambda: make(nn.Sigmoid, 12), loss, batch, allow="vanishing")

def test_asked(gradient_flow):
    assert gradient_flow.diagnose(lambda: make(nn.Sigmoid, 12), loss, batch).symptom == "vanishing"
"""
    )
    result = pytester.runpytest_inprocess(*ARGUMENTS, "--gradient-report", "pages")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*GradientFault: the gradient of Sequential does not flow*",
            "*vanishing because of saturating-activation at *:10*",
            "*gradient flow*",
            "*the gradient's way back*",
            "*report*pages*.html",
        ]
    )
    assert "look/assert_flows.py" not in result.stdout.str()  # the traceback ends at the test's own line
    (page,) = (pytester.path / "pages").iterdir()
    assert page.name.endswith("test_sick.html") and "saturating-activation" in page.read_text(encoding="utf-8")


def test_other_suites_pay_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        import pytest

        def test_loaded_but_light():
            assert "gradientflow.pytest_plugin" in sys.modules
            assert "torch" not in sys.modules and "numpy" not in sys.modules and "rich" not in sys.modules

        def test_asked_for_but_not_used(gradient_flow):
            assert "torch" not in sys.modules

        def test_used(gradient_flow):
            with pytest.raises(Exception, match="expected a torch.nn.Module"):
                gradient_flow(3, len, (1, 2))

        def test_that_the_check_sees_torch():
            assert "torch" not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess(*ARGUMENTS, "-W", "error", "--strict-config", "--strict-markers")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_that_the_check_sees_torch*"])
