"""What a script writes of its own stack and its own warnings names its own lines, as if nobody watched."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings

import pytest
import torch
from torch.nn import functional as F

from gradientflow.depth.probe.passing import passed_on
from gradientflow.depth.watch.shield import Shield
from gradientflow.depth.watch.tracebacks import clean, hidden

_OURS = Shield.__call__.__code__.co_filename


def _warns():
    warnings.warn("look here", stacklevel=2)


def test_a_warning_is_attributed_to_the_line_of_the_caller():
    names = {"__name__": "theirs", "sys": sys}
    code = compile("\n\nframe = sys._getframe(); pass_on(frame, warns, (), {})", "theirs.py", "exec")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        exec(code, names | {"pass_on": passed_on, "warns": _warns})
    assert [(w.filename, w.lineno) for w in caught] == [("theirs.py", 3)]


def _fails(shape):
    F.linear(torch.ones(shape), torch.ones(4, 4))


def test_groups_causes_and_contexts_are_cleaned():
    def ours():
        _fails((2, 3))

    ours.__code__ = ours.__code__.replace(co_filename=_OURS)
    try:
        ours()
    except RuntimeError as problem:
        inner = problem
    outer = ExceptionGroup("all", [ExceptionGroup("some", [inner])])
    assert _OURS in "".join(traceback.format_exception(outer))
    clean(outer)
    assert _OURS not in "".join(traceback.format_exception(outer))


@pytest.mark.parametrize("hide", [True, False])
def test_what_lies_under_the_script_is_told_only_outside(hide, caplog):
    def script():
        logging.getLogger("x").warning("here", stack_info=True)
        return [f.name for f in traceback.extract_stack()]

    def run():
        return script()

    if hide:
        with hidden(run.__code__):
            assert run() == ["script"]
        assert "in run" not in caplog.records[-1].stack_info
    else:
        assert run()[-2:] == ["run", "script"]
        assert "in run" in caplog.records[-1].stack_info
