"""The report room works on a machine without torch and numpy, and its page without the app."""

from __future__ import annotations

import subprocess
import sys


def test_reports_import_and_render_without_torch() -> None:
    code = """
import sys
for name in ("torch", "numpy", "starlette", "uvicorn", "gradientflow.app"):
    sys.modules[name] = None  # type: ignore[assignment]
import io
from rich.console import Console
from gradientflow.records import Budget, Loss, Verdict, Watch
from gradientflow.report import LiveLine, print_verdict
from gradientflow.report import Moment
from gradientflow.report.page import render_html
from gradientflow.records import Meta, Run
verdict = Verdict("t.py", 0, Loss(), "not-measured", [], Budget(), Watch())
print_verdict(verdict, None, Console(file=io.StringIO()))
LiveLine(sys.stderr).open()
assert "not-measured" in render_html(Moment(Run(Meta("t.py", [], "/", "", "", "")), verdict, lambda *_: Budget(), None))
print("dry")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "dry\n"
