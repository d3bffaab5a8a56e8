"""The whole page in a notebook's cell: it works in a frame that may reach nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradientflow.depth.look.diagnosis import Diagnosis
from gradientflow.errors import UsageError
from tests.report.cases import make_hostile, make_vanishing


def test_a_height_that_is_none_is_refused() -> None:
    found = Diagnosis(*make_vanishing())
    assert "height:200px" in found.show(200)._repr_html_() and "height:5000px" in found.show(5000)._repr_html_()
    for wrong in (199, 5001, 300.0, True, "300"):
        with pytest.raises(UsageError, match="expected a whole number of 200 to 5000 pixels"):
            found.show(wrong)  # type: ignore[arg-type]
    assert "to_html" in repr(found.show()) and str(found.show()).startswith("<!doctype html>")


@pytest.mark.browser
def test_it_is_clicked_through_in_a_cell(chromium: Any, tmp_path: Path) -> None:
    cells = [Diagnosis(*case).show(500)._repr_html_() for case in (make_vanishing(), make_hostile())]
    file = tmp_path / "notebook.html"
    file.write_text(
        "<!doctype html><title>cells</title>" + "".join(f"<div>{cell}</div>" for cell in cells), encoding="utf-8"
    )
    page = chromium.new_page(viewport={"width": 900, "height": 1100})
    page.add_init_script(
        "if (navigator.clipboard) navigator.clipboard.writeText = () => Promise.reject(new Error('shut'))"
    )
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda d: (troubles.append(d.message), d.dismiss()))
    page.on(
        "request",
        lambda r: troubles.append(r.url) if not r.url.startswith(("file:", "data:", "about:", "blob:")) else None,
    )
    try:
        page.goto(file.as_uri())
        frame = page.frame_locator("iframe >> nth=0")
        frame.locator(".chosen").wait_for()
        assert frame.locator(".chosen h2").inner_text().startswith("▼ sigmoid")
        frame.locator(".chosen .copy >> nth=0").click()
        frame.locator(".chosen .copy:has-text('copied')").wait_for()
        frame.locator(".wf-row >> nth=0").click()
        frame.locator(".chosen h2:has-text('cross_entropy')").wait_for()
        page.frame_locator("iframe >> nth=1").locator(".wf-row >> nth=0").wait_for()
        assert page.locator("img").count() == 0 and page.title() == "cells"
    finally:
        page.close()
    assert troubles == []
