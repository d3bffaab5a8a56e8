"""The app's start and end, and that nobody else pays for it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gradientflow.app import server
from gradientflow.app.start import Call, _listen, start
from gradientflow.cli.target import load
from gradientflow.errors import OutputError, UsageError
from tests.app.conftest import App


def test_other_commands_load_neither_the_server_nor_torch() -> None:
    code = """
import sys
from gradientflow.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([m for m in ("starlette", "uvicorn", "anyio", "torch") if m in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip().endswith("[]"), ran.stdout
    assert "app" in ran.stdout


def test_a_missing_file_of_the_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(server.NEEDED) <= set(server.packaged())
    for name in server.NEEDED:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "app.js").unlink()
    monkeypatch.setattr(server, "PAGE", tmp_path)
    with pytest.raises(OutputError, match=r"app\.js is missing.*make web"):
        server.packaged()
    monkeypatch.setattr(server, "PAGE", tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"index\.html"):
        server.packaged()


def test_a_taken_port_is_said_and_without_one_another_is_found() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: another program listens there"):
            _listen(port)
    found = _listen(None)
    assert found.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sends answers without delay
    assert found.getsockname()[0] == "127.0.0.1"
    found.close()


@pytest.mark.parametrize(
    ("target", "said"),
    [("himelblau", "did you mean himmelblau?"), ("exp-one", "one parameter"), ("nowhere.py:make", "no such file")],
)
def test_a_target_that_cannot_be_opened_is_told_before_anything_is_served(target: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        start(Call(lambda text: load(text, None), target=target, browse=False))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    app = App(tmp_path)
    assert app.link.startswith(f"http://127.0.0.1:{app.port}/?token=")
    app.process.send_signal(signal.SIGINT)
    assert app.process.wait(30) in (0, 130)
    assert app.process.stderr is not None
    rest = app.process.stderr.read()
    app.process.stderr.close()
    assert "Traceback" not in rest and "Error" not in rest
