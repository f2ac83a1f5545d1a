"""Who may ask the page for what: hosts, tokens, origins, and what a page may load.

The rules are few: this machine only, or a token; nothing is written unless the page itself asks;
a page loads its own files only; no answer can be framed or read by another site.
"""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from aelab.errors import visible

#: Addresses of this machine that no other machine reaches.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "aelab-token"
#: Bytes of a picture that is dropped on the page, and of any other message, at most.
LARGEST_UPLOAD, LARGEST_MESSAGE = 20 << 20, 64 << 10
#: What a page of `aelab ui` may load: its own files.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def middleware(token: str | None) -> list[Middleware]:
    """The checks before every answer.

    Args:
        token: every request must know it; None: only this machine is answered, by its name.
    """
    hosts = ["*"] if token is not None else [*LOOPBACK[:2], "[::1]", "::1"]
    return [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(HostGuard, token=token),
    ]


class HostGuard:
    """Refuses requests of other origins and without the token; adds the headers of every answer.

    Args:
        app: what is guarded.
        token: None where only this machine is answered.
    """

    def __init__(self, app: Any, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        refused = self._refused(request)

        begun: list[bool] = []

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                begun.append(True)
                message["headers"] += [
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
            await send(message)

        try:
            await (self.app if refused is None else refused)(scope, receive, sent)
        except Exception as error:
            if begun:
                raise
            logging.getLogger("uvicorn.error").exception("%s", request.url.path)
            words = (
                f"aelab made a mistake here: {type(error).__name__}: {visible(str(error))}. The "
                "terminal of aelab ui shows where it happened; please report it"
            )
            await told(words, 500)(scope, receive, sent)

    def _refused(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD") and not _same_origin(request):
            return told("only this page may send something", 403)
        if self.token is None:
            return None
        given = request.query_params.get("token")
        if given is not None and secrets.compare_digest(given.encode(), self.token.encode()):
            answer = RedirectResponse(request.url.path or "/", 303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return answer
        known = request.cookies.get(COOKIE, "")
        if secrets.compare_digest(known.encode(), self.token.encode()):
            return None
        return told("open the address that aelab ui has printed: it holds a token", 401)


def html(text: str, policy: str = "frame-ancestors 'none'") -> Response:
    """A page. Pages of the report hold a policy of their own, which is no weaker."""
    return HTMLResponse(
        text, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    )


def told(words: str, status: int) -> Response:
    """An error as the page shows it."""
    return JSONResponse({"error": words}, status)


async def body(request: Request, largest: int = LARGEST_UPLOAD) -> bytes | None:
    """What is sent; None where it is too large."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > largest:
            return None
    return bytes(content)


async def message(request: Request) -> dict[str, Any] | None:
    """The JSON object that is sent; None where it is none, or too large."""
    content = await body(request, LARGEST_MESSAGE)
    try:
        found = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("origin") == f"{request.url.scheme}://{request.url.netloc}"
