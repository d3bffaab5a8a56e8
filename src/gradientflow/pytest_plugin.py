"""A pytest plugin: the fixture `gradient_flow` keeps a network's gradient healthy in a team's tests.

It is loaded by every pytest run where gradientflow is installed. So it adds one fixture and one option, and imports neither
PyTorch nor the rest of gradientflow before a test asks for the fixture.

    def test_the_gradient_flows(gradient_flow):
        gradient_flow(make_model, torch.nn.functional.cross_entropy, batch)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradientflow.depth import Diagnosis


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--gradient-report`."""
    parser.getgroup("gradientflow").addoption(
        "--gradient-report",
        metavar="DIR",
        default=None,
        help="write a page for every gradient that the fixture gradient_flow looked at and found faulty",
    )


class GradientFlow:
    """What the fixture gives a test: call it to assert, or ask it for a diagnosis.

    Args:
        request: of the test.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._count = 0

    def __call__(self, model: Any, loss: Any, batch: Any, **options: Any) -> Diagnosis:
        """Fail the test where the gradient does not flow; arguments as of `gradientflow.assert_flows`.

        Returns:
            The diagnosis, where all is well.

        Raises:
            GradientFault: an AssertionError. The whole verdict stands in the test's report, under "gradient flow".
        """
        from gradientflow.depth import GradientFault, assert_flows

        __tracebackhide__ = True
        try:
            return assert_flows(model, loss, batch, **options)
        except GradientFault as fault:
            self._tell(fault.diagnosis)
            raise

    def diagnose(self, model: Any, loss: Any, batch: Any, **options: Any) -> Diagnosis:
        """Return the diagnosis, whatever it says; arguments as of `gradientflow.diagnose`."""
        from gradientflow.depth import diagnose

        return diagnose(model, loss, batch, **options)

    def _tell(self, diagnosis: Diagnosis) -> None:
        """Put the verdict into the test's report, and its page into the folder of `--gradient-report`."""
        text = str(diagnosis)
        folder = self._request.config.getoption("gradient_report")
        if folder is not None:
            self._count += 1
            name = re.sub(r"[^\w.-]+", "-", self._request.node.nodeid).strip("-")[-120:]
            path = Path(folder) / (f"{name}.html" if self._count == 1 else f"{name}-{self._count}.html")
            try:
                text += f"\n\n  report        {diagnosis.to_html(path)}"
            except OSError as problem:
                text += f"\n\n  the report could not be written to {path}: {problem.strerror}"
        self._request.node.add_report_section("call", "gradient flow", text)


@pytest.fixture
def gradient_flow(request: pytest.FixtureRequest) -> GradientFlow:
    """Assert that the gradient flows through a model: gradient_flow(model, loss, batch). Fails with place, numbers and mend."""
    return GradientFlow(request)
