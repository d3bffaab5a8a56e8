"""`gradientflow app RUN`: what its argument is taken for, and that it ends at Ctrl-C while a page follows the run."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradientflow.cli.app import _run
from gradientflow.errors import RecordError
from tests.app.run_records import write
from tests.interrupts import heeds_ctrl_c


def test_what_the_argument_is_taken_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "one").close()
    write(tmp_path / "himmelblau").close()
    (tmp_path / "rosenbrock").mkdir()
    assert _run(None) is None
    assert _run("mine.py:make") is None and _run("saddle") is None
    assert _run("runs/one") == tmp_path / "runs" / "one" == _run("runs/one/run.db")
    assert _run("himmelblau") == tmp_path / "himmelblau"  # a run by the name of a field is a run
    assert _run("rosenbrock") is None  # any other folder by such a name is not
    for none in ("runs", ".", "runs/none/run.db"):
        with pytest.raises(RecordError, match=re.escape("holds no run: expected a file run.db in it")):
            _run(none)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a signal")
def test_it_opens_depth_and_ends_at_ctrl_c_while_a_page_follows(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "one", ended=None).close()
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gradientflow", "app", "runs/one", "--no-open"]
    app = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path, preexec_fn=heeds_ctrl_c)
    try:
        assert app.stderr is not None
        said = app.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=\S+#depth$", said.strip())
        assert found, said
        port = int(found[1])
        key = (tmp_path / "gradientflow" / "app.key").read_bytes()
        cookie = f"gradientflow_{port}={hmac.new(key, f'app on port {port}'.encode(), hashlib.sha256).hexdigest()}"
        with contextlib.closing(_connected(port)) as line:
            line.request("GET", "/api/run/follow", headers={"Cookie": cookie})
            assert line.getresponse().read1(200).startswith(b"event: grown\ndata: {")
            app.send_signal(signal.SIGINT)
            assert app.wait(20) == 0
        assert "Traceback" not in app.stderr.read()
    finally:
        app.kill()
        app.wait(10)
        if app.stderr is not None:
            app.stderr.close()


def _connected(port: int) -> http.client.HTTPConnection:
    until = time.monotonic() + 20
    while True:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            line.connect()
            return line
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
