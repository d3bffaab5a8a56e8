"""Who may speak with the app: this machine's browser, with the link that was printed, from the app's own page.

The app can read files that the user names and can keep the processor busy, so no other page that is open in the browser,
and no other machine, may ask it anything. Four locks: it listens on 127.0.0.1 alone; Host must be its own name (a foreign
name that resolves to 127.0.0.1 is refused); a request that says where it comes from must come from the app's own page; and
there must be a cookie, which is given in exchange for the token in the printed link, once.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 64 * 1024  # bytes of a request's body; the largest that the page sends is a line of drops, about 4 kB
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class TooLargeError(Exception):
    """A body goes on past what may be sent."""

    def __init__(self) -> None:
        super().__init__(f"the request is larger than {LARGEST} bytes.")


class Keys:
    """The token of the link and the value of the cookie.

    Args:
        port: that the app listens on; cookies are shared between ports, so the name holds it.
        key: what the cookie is made from; None: the one that is kept in the user's own folder, so that a page goes on when
            the app was ended and started again.
    """

    def __init__(self, port: int, key: bytes | None = None) -> None:
        self.port = port
        self.token: str | None = secrets.token_urlsafe(24)
        self.name = f"gradientflow_{port}"
        self.value = hmac.new(key or _kept(), f"app on port {port}".encode(), hashlib.sha256).hexdigest()

    def exchange(self, token: str) -> bool:
        """Whether this is the token; it is so only once."""
        right = self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())
        if right:
            self.token = None
        return right

    def known(self, cookies: dict[str, str]) -> bool:
        """Whether the cookie is there and right."""
        return hmac.compare_digest(cookies.get(self.name, "").encode(), self.value.encode())


def _kept() -> bytes:
    """The key in the user's own folder, made at the first call; where it cannot be kept, one for this time alone."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    file = Path(home).expanduser() / "gradientflow" / "app.key"
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(secrets.token_bytes(32))
        about = file.stat()
        private = not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o077)
        key = file.read_bytes()
        if private and len(key) == 32:
            return key
    return secrets.token_bytes(32)


class Guard:
    """ASGI middleware that holds the locks; see the head of this file."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys
        self.hosts = {f"127.0.0.1:{keys.port}", f"localhost:{keys.port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no websockets here; "lifespan" is the server's own
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = self._refused(Request(scope))
        if answer is not None:
            answer.headers.update(HEADERS)
            await answer(scope, receive, send)
            return

        got = 0

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > LARGEST:
                raise TooLargeError
            return message

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message.get("headers", [])}
                message["headers"] = [
                    *message.get("headers", []),
                    *((k.lower().encode(), v.encode()) for k, v in HEADERS.items() if k.lower().encode() not in own),
                ]
            await send(message)

        await self.app(scope, bounded, headed)

    def _refused(self, request: Request) -> Response | None:
        """Return the answer to what is not let in, or to what brings the token; None: it may pass."""
        headers: Headers = request.headers
        if headers.get("host", "") not in self.hosts:
            return _words(421, "this app answers to 127.0.0.1 alone.")
        origin = headers.get("origin")
        foreign = origin is not None and origin not in {f"http://{h}" for h in self.hosts}
        if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            if not _arrives(
                request
            ):  # a link to the page may be followed from anywhere; it shows nothing without the cookie
                return _words(403, "this comes from another page than the app's own.")
        if request.method not in ("GET", "HEAD", "POST"):
            return _words(405, "only GET and POST are answered.")
        if request.method == "POST" and origin is None:
            return _words(403, "a POST must say which page it comes from (Origin).")
        said = headers.get("content-length") or "0"
        if not (said.isascii() and said.isdigit()) or int(said[:20]) > LARGEST:
            return _words(413, str(TooLargeError()))
        token = request.query_params.get("token")
        if request.url.path == "/" and token is not None and request.method == "GET":
            return self._entered(request, token)
        if not self.keys.known(request.cookies):
            return _words(401, "open the link that `gradientflow app` printed: it lets this browser in.")
        return None

    def _entered(self, request: Request, token: str) -> Response:
        """Exchange the token for the cookie; who has the cookie needs no token."""
        if not self.keys.exchange(token) and not self.keys.known(request.cookies):
            return _words(
                401, "this link was used, or is of an earlier start. Start `gradientflow app` again for a new one."
            )
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.keys.name, self.keys.value, httponly=True, samesite="strict", path="/")
        return answer


def _arrives(request: Request) -> bool:
    """Whether somebody opens the page itself, as from a terminal's link, and no page asks for data."""
    return (
        request.method == "GET"
        and request.url.path == "/"
        and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
        and request.headers.get("origin") is None
    )


def _words(status: int, text: str) -> Response:
    return PlainTextResponse(f"gradientflow: {text}\n", status)
