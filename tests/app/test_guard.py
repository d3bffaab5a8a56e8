"""Who may speak with the app: each lock refuses, and the same request without its fault passes."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gradientflow.app.fields import Fields
from gradientflow.app.guard import LARGEST, Keys
from gradientflow.app.server import serve
from gradientflow.errors import UsageError

PORT = 4321
HOST = f"127.0.0.1:{PORT}"
HOME = f"http://{HOST}"


class Client:
    """Speaks ASGI with the app, so that no socket is needed; headers are what they are given as."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def ask(
        self, method: str = "GET", path: str = "/", headers: dict[str, str] | None = None, body: bytes = b"", query: str = ""
    ) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        told: list[Any] = []
        chunks = [body[k : k + 8192] for k in range(0, len(body), 8192)] or [b""]

        async def receive() -> dict[str, Any]:
            if not chunks:
                await asyncio.sleep(3600)
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message: dict[str, Any]) -> None:
            told.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "scheme": "http",
            "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", PORT),
            "headers": [(k.lower().encode(), v.encode()) for k, v in ({"Host": HOST} | (headers or {})).items()],
        }  # fmt: skip
        asyncio.run(asyncio.wait_for(self.app(scope, receive, send), 60))
        head = {k.decode(): v.decode() for k, v in told[0]["headers"]}
        return told[0]["status"], head, b"".join(m.get("body", b"") for m in told[1:])


@pytest.fixture
def keys() -> Keys:
    return Keys(PORT, b"k" * 32)


@pytest.fixture
def client(keys: Keys) -> Client:
    def never(target: str) -> Any:
        raise UsageError(f"no field is called {target!r}.")

    return Client(serve(Fields("no-such-field", never), keys))


@pytest.fixture
def inside(keys: Keys) -> dict[str, str]:
    """Headers of the app's own page in a browser that was let in."""
    return {"Cookie": f"{keys.name}={keys.value}", "Origin": HOME, "Sec-Fetch-Site": "same-origin"}


def test_the_link_lets_one_browser_in_and_only_once(client: Client, keys: Keys) -> None:
    assert client.ask()[0] == 401
    assert client.ask(query="token=wrong")[0] == 401
    status, head, _ = client.ask(query=f"token={keys.token}")
    assert status == 303 and head["location"] == "/"
    given = head["set-cookie"]
    assert "httponly" in given.lower() and "samesite=strict" in given.lower()
    token = "anything"
    assert client.ask(query=f"token={token}")[0] == 401
    status, head, page = client.ask(headers={"Cookie": given.split(";")[0]})
    assert status == 200 and b'id="app"' in page
    assert "'unsafe" not in head["content-security-policy"] and "default-src 'none'" in head["content-security-policy"]
    assert client.ask(headers={"Cookie": given.split(";")[0]}, query="token=spent")[0] == 303


def test_a_token_that_was_used_lets_nobody_else_in(client: Client, keys: Keys) -> None:
    token = keys.token
    assert client.ask(query=f"token={token}")[0] == 303
    assert client.ask(query=f"token={token}")[0] == 401


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1:1", "", f"{HOST}.evil.example"])
def test_a_foreign_host_is_refused(client: Client, inside: dict[str, str], host: str) -> None:
    assert client.ask(path="/api/open", headers=inside | {"Host": host})[0] == 421
    assert client.ask(path="/api/open", headers=inside)[0] == 422  # let in: the field has no such name


@pytest.mark.parametrize(
    "foreign",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_page_is_refused(
    client: Client, inside: dict[str, str], method: str, foreign: dict[str, str]
) -> None:
    path = "/api/open" if method == "GET" else "/api/drop"
    assert client.ask(method, path, headers=inside | foreign)[0] == 403
    assert client.ask(method, path, headers=inside)[0] == 422


def test_a_post_says_where_it_comes_from(client: Client, inside: dict[str, str]) -> None:
    silent = {k: v for k, v in inside.items() if k != "Origin"}
    assert client.ask("POST", "/api/drop", headers=silent)[0] == 403


def test_without_the_cookie_nothing_is_answered(client: Client, inside: dict[str, str], keys: Keys) -> None:
    for path in ("/", "/static/app.js", "/api/open"):
        assert client.ask(path=path)[0] == 401
        assert client.ask(path=path, headers={"Cookie": f"{keys.name}=x"})[0] == 401
    assert client.ask(path="/static/app.js", headers=inside)[0] == 200


def test_a_link_to_the_page_may_be_followed_from_elsewhere_and_data_may_not(
    client: Client, inside: dict[str, str]
) -> None:
    follows = {"Cookie": inside["Cookie"], "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.ask(headers=follows)[0] == 200
    assert client.ask(path="/api/open", headers=follows)[0] == 403


def test_what_is_too_large_is_refused_whether_it_says_so_or_not(client: Client, inside: dict[str, str]) -> None:
    large = b" " * (LARGEST + 1)
    said = inside | {"Content-Length": str(len(large))}
    assert client.ask("POST", "/api/drop", headers=said, body=large)[0] == 413
    assert client.ask("POST", "/api/drop", headers=inside, body=large)[0] == 413
    assert client.ask("POST", "/api/drop", headers=inside, body=large[:-1])[0] == 422


@pytest.mark.parametrize("name", ["../guard.py", "..%2fguard.py", "/etc/passwd", "app.py"])
def test_only_packaged_files_are_served(client: Client, inside: dict[str, str], name: str) -> None:
    assert client.ask(path=f"/static/{name}", headers=inside)[0] in (404, 405)


def test_a_page_opens_named_fields_and_the_apps_own_and_no_file(client: Client, inside: dict[str, str]) -> None:
    status, _, body = client.ask(path="/api/open", headers=inside, query="target=/etc/passwd.py:make")
    assert status == 422 and "started for no-such-field" in msgspec.json.decode(body)["problem"]


def test_the_key_is_kept_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first, again, other = Keys(PORT), Keys(PORT), Keys(PORT + 1)
    assert first.value == again.value != other.value
    assert first.token != again.token
    file = tmp_path / "gradientflow" / "app.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)  # others may have read it
    assert Keys(PORT).value != first.value
