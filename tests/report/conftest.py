"""The cases as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.report.builders import Case
from tests.report.cases import CASES, make_hostile, make_long


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """Each of the cases in turn."""
    made: Case = CASES[request.param]()
    return made


@pytest.fixture
def case_name(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["case"])


@pytest.fixture
def cases() -> dict[str, Callable[[], Case]]:
    """The makers of all cases, the long and the hostile one too."""
    return {**CASES, "long": make_long, "hostile": make_hostile}
