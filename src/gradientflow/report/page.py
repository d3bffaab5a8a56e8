"""A run as one self-contained HTML page: Depth's screen with the records inlined. No network, no fonts; opens from file://.

The screen is the app's own, bundled by `web/`; the records lie beside it, packed. Whoever has no JavaScript reads the same
verdict as the terminal prints it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from html import escape
from importlib import resources
from pathlib import Path

from gradientflow.apart import apart
from gradientflow.errors import OutputError
from gradientflow.files import encoded, write
from gradientflow.records import Inlined
from gradientflow.report import words
from gradientflow.report.guard import guarded
from gradientflow.report.terminal import Page
from gradientflow.report.view import Moment, inlined

STATIC = "gradientflow.report", "static"
COLUMNS = 100  # of the verdict as text
PACKED = 6  # level of compression
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark light">
<meta name="generator" content="gradientflow">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; img-src data:; base-uri 'none'; form-action 'none'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body><div id="app"></div>
<noscript><pre class="as-text">{text}</pre></noscript>
<script type="application/octet-stream" id="records">{records}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def write_html(moment: Moment, path: Path, name: str = "") -> None:
    """Write the page; a half-written one is never left behind.

    Args:
        moment: the run, and what it means.
        path: the file to write; its folder is made where it is missing.
        name: of the run, as a command would name it; empty: there is none on disk.

    Raises:
        OSError: the file cannot be written.
        OutputError: the package was built without its page.
    """
    page = render_html(moment, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, page)


def render_html(moment: Moment, name: str = "") -> str:
    """Return the page as text; see `write_html`."""
    verdict = moment.verdict
    script, style = _asset("page.js"), _asset("page.css")
    lines = guarded("the verdict as text", lambda: "\n".join(_lines(moment)), lambda told: told)
    return PAGE.format(
        title=escape(words.one_line(f"{words.mark(verdict.symptom)} {verdict.symptom} — {verdict.script}")), text=escape(words.clean(lines)),
        script=script, style=style, script_hash=_hash(script), style_hash=_hash(style), records=packed(inlined(name, moment)),
    )  # fmt: skip


def packed(held: Inlined) -> str:
    """Return records as text that is safe in any place of a page. What is not finite is null, and names turn no direction of writing."""
    text = words.clean(encoded(held).decode())
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), PACKED, mtime=0)).decode("ascii")


def _lines(moment: Moment) -> list[str]:
    return [line.plain.rstrip() for line in Page(moment.verdict, moment.run, COLUMNS, True, True).lines(None)]


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _asset(name: str) -> str:
    """A file of the bundle."""

    def read(alone: bool) -> str:
        file = resources.files(STATIC[0]).joinpath(STATIC[1], name)
        if not file.is_file():
            raise OutputError(
                f"the report's page is not whole: {name} is missing from {file}. Install gradientflow again."
            )
        return file.read_text(encoding="utf-8")

    return apart(read)  # also where the script has left no descriptor free
