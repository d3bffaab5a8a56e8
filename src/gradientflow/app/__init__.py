"""The local app: River and Depth in the browser, served from this machine to this machine alone.

One thought a file: `start` (port, browser, the printed link), `server` (routes), `guard` (who may speak), `wire` (frames),
`work` (jobs off the server's thread), `fields` (what is open), `water` and `drops` (River's answers).
Nothing here is imported before `gradientflow app` is called, and torch only when the page asks for a field: by then it
shows the packaged water, and importing torch, which holds the interpreter for a second, keeps nobody waiting.
"""

from gradientflow.app.fields import SHOWN
from gradientflow.app.start import Call, start

__all__ = ["SHOWN", "Call", "start"]
