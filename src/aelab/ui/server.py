"""The web server of `aelab ui`: Starlette and uvicorn, for one person on this machine.

Every run is named by its folder and looked up in the list of runs; no path of a request is opened.
Nothing is written into the store. The page may load its own files only (content policy), other
hosts are refused (a foreign `Host` header), and so is every POST of another origin.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from aelab.errors import AelabError, UserError
from aelab.files import NoPicture
from aelab.lab import Lab
from aelab.report.page import moment, render_page
from aelab.report.two_settings import changed_lines, compare_settings, repeats_of
from aelab.ui.watched import Watched

if TYPE_CHECKING:
    from aelab.study.looker import Looker

#: Bytes of a picture that is dropped on the page, at most.
LARGEST_UPLOAD = 20 << 20
#: Seconds between two looks for changes, and the models that are kept open.
TICK_SECONDS, OPEN_MODELS = 1.0, 2
LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "aelab-token"

_POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " \
          "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; " \
          "frame-ancestors 'none'"  # fmt: skip
#: Name in the address -> room, file and media type.
_ASSETS = {
    "ui.js": ("aelab.ui", "text/javascript"),
    "ui.css": ("aelab.ui", "text/css"),
    "page.css": ("aelab.report", "text/css"),
    "uPlot.iife.min.js": ("aelab.report", "text/javascript"),
    "uPlot.min.css": ("aelab.report", "text/css"),
}


class Models:
    """The opened runs of the page, the last used ones kept."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._lock = lab, threading.Lock()
        self._kept: dict[str, Looker] = {}

    def use(self, folder: str, ask: Callable[[Looker], Any]) -> Any:
        """What `ask` gives for a run; one at a time, because a model is used by one thread."""
        with self._lock:
            if folder not in self._kept:
                self._kept[folder] = self._lab.open(folder).looker()
            looker = self._kept[folder] = self._kept.pop(folder)
            while len(self._kept) > OPEN_MODELS:
                self._kept.pop(next(iter(self._kept)))
            return ask(looker)


def make_app(lab: Lab, *, only: str | None = None, token: str | None = None) -> Starlette:
    """The application.

    Args:
        lab: the workspace whose runs are shown.
        only: a glob that a run's name must match.
        token: every request must know it; None: only this machine is answered, by its name.
    """
    watched, models = Watched(lab, only), Models(lab)

    def page(request: Request) -> Response:
        return _html(_asset("aelab.ui", "index.html"), policy=_POLICY)

    def asset(request: Request) -> Response:
        found = _ASSETS.get(request.path_params["name"])
        if found is None:
            return Response("no such file", 404)
        room, kind = found
        return Response(_asset(room, request.path_params["name"]), media_type=kind)

    def runs(request: Request) -> Response:
        watched.changed()
        where = str(lab.workspace.runs)
        return JSONResponse({"where": where, "runs": watched.rows()})

    def curves(request: Request) -> Response:
        clock = request.query_params.get("clock", "images")
        if clock not in ("images", "seconds"):
            return _told("clock is images or seconds", 400)
        term = request.query_params.get("term", "loss")
        return JSONResponse(watched.curves(request.query_params.getlist("run"), term, clock))

    def moments(request: Request) -> Response:
        found = {folder: watched.moments(folder) for folder in request.query_params.getlist("run")}
        return JSONResponse(found)

    def picture(request: Request) -> Response:
        given = request.query_params
        images = int(given["images"]) if given.get("images", "").isdecimal() else None
        content = watched.picture(given.get("run", ""), given.get("split", ""), images)
        return Response(content, media_type="image/png")

    def compared(request: Request) -> Response:
        folders = request.query_params.getlist("run")
        if len(folders) != 2:
            return _told("give two runs to compare", 400)
        first, second = (watched.run(folder) for folder in folders)
        found: dict[str, Any] = {"lines": changed_lines(first, second)}
        try:
            every = watched.runs(())
            told = compare_settings(repeats_of(first, every), repeats_of(second, every))
            *found["facts"], found["verdict"] = str(told).split("\n")
        except UserError as error:
            found["facts"], found["verdict"] = [], error.message
        return JSONResponse(found)

    def report(request: Request) -> Response:
        watched.changed()
        chosen = watched.runs(request.query_params.getlist("run"))
        return _html(render_page(chosen, now=moment()))

    def latents(request: Request) -> Response:
        run = watched.run(request.query_params.get("run", ""))
        made = models.use(run.folder, lambda looker: looker.opened.explorer())
        return _html(render_page([run], now=moment(), explorers=[made]))

    async def encode(request: Request) -> Response:
        folder = watched.run(request.query_params.get("run", "")).folder
        content = await _body(request)
        if content is None:
            return _told(f"a picture has at most {LARGEST_UPLOAD >> 20} MB", 413)
        found = await run_in_threadpool(_looked, models, folder, content)
        return JSONResponse(found)

    async def decode(request: Request) -> Response:
        folder = watched.run(request.query_params.get("run", "")).folder
        content = await _body(request)
        try:
            latent = [float(value) for value in json.loads(content or b"")["latent"]]
        except (ValueError, TypeError, KeyError):
            return _told('a latent is sent as {"latent": [numbers]}', 400)
        made = await run_in_threadpool(models.use, folder, lambda looker: looker.decode(latent))
        return Response(made, media_type="image/png")

    async def events(request: Request) -> Response:
        return StreamingResponse(
            _changes(watched, request), media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )  # fmt: skip

    routes = [
        Route("/", page),
        Route("/assets/{name}", asset),
        Route("/api/runs", runs),
        Route("/api/curves", curves),
        Route("/api/moments", moments),
        Route("/api/compare", compared),
        Route("/api/picture", picture),
        Route("/api/events", events),
        Route("/api/encode", encode, methods=["POST"]),
        Route("/api/decode", decode, methods=["POST"]),
        Route("/report", report),
        Route("/latents", latents),
    ]
    hosts = ["*"] if token is not None else [*LOOPBACK[:2], "[::1]", "::1"]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(HostGuard, token=token),
        ],
        exception_handlers={AelabError: _error},
    )


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

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
            await send(message)

        await (self.app if refused is None else refused)(scope, receive, sent)

    def _refused(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD") and not _same_origin(request):
            return _told("only this page may send something", 403)
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
        return _told("open the address that aelab ui has printed: it holds a token", 401)


def serve(
    lab: Lab,
    *,
    only: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves the page until Ctrl-C.

    Args:
        lab: the workspace.
        only: a glob that a run's name must match.
        host: an address of this machine; another than the loopback needs a token, which is part
            of the address that is told.
        port: 0 takes a free one.
        ready: called with the page's address.
    """
    token = None if host in LOOPBACK else secrets.token_urlsafe(16)
    config = uvicorn.Config(
        make_app(lab, only=only, token=token), host=host, port=port, log_level="warning",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    socket = config.bind_socket()
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{socket.getsockname()[1]}/"
    if ready is not None:
        ready(address if token is None else f"{address}?token={token}")
    uvicorn.Server(config).run(sockets=[socket])


async def _changes(watched: Watched, request: Request) -> AsyncIterator[str]:
    """Server-sent events: which runs have changed; a comment in between keeps the line open."""
    seen = {row["folder"]: row for row in await run_in_threadpool(watched.rows)}
    while not await request.is_disconnected():
        await run_in_threadpool(watched.changed)
        rows = {row["folder"]: row for row in await run_in_threadpool(watched.rows)}
        changed = [folder for folder, row in rows.items() if seen.get(folder) is not row]
        gone = [folder for folder in seen if folder not in rows]
        seen = rows
        if changed or gone:
            told = {"changed": [rows[folder] for folder in changed], "gone": gone}
            yield f"data: {json.dumps(told, allow_nan=False)}\n\n"
        else:
            yield ": \n\n"
        await asyncio.sleep(TICK_SECONDS)


def _looked(models: Models, folder: str, content: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="aelab-ui-") as place:
        path = Path(place) / "dropped.png"  # the content decides what it is, not the name
        path.write_bytes(content)
        try:
            found: dict[str, Any] = models.use(folder, lambda looker: looker.look(path))
        except NoPicture:
            raise UserError("this file is no picture that can be read") from None
    for name in ("given", "reconstruction", "nearest"):
        found[name] = f"data:image/png;base64,{base64.b64encode(found[name]).decode('ascii')}"
    return found


async def _body(request: Request) -> bytes | None:
    """What is sent; None where it is too large."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST_UPLOAD:
            return None
    return bytes(content)


def _same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("origin") == f"{request.url.scheme}://{request.url.netloc}"


def _html(text: str, policy: str = "frame-ancestors 'none'") -> Response:
    """A page. Pages of the report hold a policy of their own, which is no weaker."""
    return HTMLResponse(
        text, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    )


def _told(words: str, status: int) -> Response:
    return JSONResponse({"error": words}, status)


def _error(request: Request, error: Exception) -> Response | Awaitable[Response]:
    return _told(str(error), 400)


def _asset(room: str, name: str) -> str:
    return files(room).joinpath(f"assets/{name}").read_text(encoding="utf-8")
