"""Who may ask: this machine, by this address, with the token; no other page in the browser.

A page of another origin can send requests to 127.0.0.1 and, by a name that it points there (DNS
rebinding), read the answers. So the Host must be ours, an Origin must be ours where there is one,
and the token comes in a header, which no other page can send: there is no cookie to ride on.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse

TOKEN_HEADER = "x-fmcluster-token"
# 2 MB hold a lasso around 200,000 rows; no action needs more.
MOST_BYTES = 4_000_000
# Where dropped files go, one a request, and how large one is: a table of a million texts.
FILES, MOST_FILE = "/api/file", 300_000_000
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# What holds nothing of the data: the page's own style and scripts.
OPEN = "/static/"


class Guard:
    """ASGI middleware that refuses what is not the person's own page.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    token : str
        Needed by everything but the page's own files.
    port : int
        The port that is listened on.
    """

    def __init__(self, app: Any, *, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve, with the headers that bind the browser, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks websockets
            await send({"type": "websocket.close"})
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        reason = self.refusal(scope)
        if reason is None:
            await self.app(scope, receive, with_headers)
            return
        status, text = reason
        refused = PlainTextResponse(text, status, {"connection": "close"})
        await refused(scope, receive, with_headers)

    def refusal(self, scope: Any) -> tuple[int, str] | None:
        """Return status and reason of a request that is refused, None for one that may pass."""
        headers: dict[str, list[str]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if len(headers.get("host", [])) != 1 or headers["host"][0].lower() not in self.hosts:
            return 403, "refused: another host name"
        if any(origin.lower() not in self.origins for origin in headers.get("origin", [])):
            return 403, "refused: a page of another origin"
        if headers.get("sec-fetch-site", ["none"])[0] not in ("none", "same-origin"):
            return 403, "refused: a page of another site"
        is_file = scope["path"] == FILES
        most = MOST_FILE if is_file else MOST_BYTES
        size = headers.get("content-length", ["0"])[0]
        if "transfer-encoding" in headers or not size.isdigit() or int(size) > most:
            return 413, f"refused: more than {most} bytes"
        if scope["path"].startswith(OPEN):
            return None
        given = headers.get(TOKEN_HEADER, [])
        if scope["method"] == "GET" and not given:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if len(given) != 1 or not secrets.compare_digest(given[0].encode(), self.token.encode()):
            return 403, "refused: open the address that `fmcluster app` printed, with its token"
        if scope["method"] == "POST":
            kind = headers.get("content-type", [""])[0].split(";")[0].strip().lower()
            if kind != ("application/octet-stream" if is_file else "application/json"):
                return 415, "refused: actions are sent as application/json"
        return None
