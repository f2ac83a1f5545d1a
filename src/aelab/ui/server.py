"""The web server of `aelab ui`: Starlette and uvicorn, for one person on this machine.

Every run is named by its folder and looked up in the list of runs, and every experiment file by the
name that the command line gave; no path of a request is opened. The page writes two things: the
notes of a run, and, through its own processes, the runs that it was started to train.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aelab.errors import AelabError, UserError
from aelab.lab import Lab, Only
from aelab.report.incidents import incident_page, read_incidents
from aelab.report.page import moment, render_page
from aelab.report.pictures import data_url
from aelab.report.series import palette_script
from aelab.runs.notes import write_notes
from aelab.ui import explorer, reproductions
from aelab.ui.about import about, compared, notes_json
from aelab.ui.guard import (
    LARGEST_UPLOAD,
    LOOPBACK,
    POLICY,
    body,
    html,
    message,
    middleware,
    told,
)
from aelab.ui.models import Models, look
from aelab.ui.training import Trainings
from aelab.ui.watched import Watched

#: Seconds between two looks for changes.
TICK_SECONDS = 1.0
#: Held-out images that are listed as the worst, at most.
MOST_WORST = 64

_KINDS = {".js": "text/javascript", ".css": "text/css"}
#: Files of the report that the page uses as well.
_SHARED = ("page.css", "uPlot.iife.min.js", "uPlot.min.css")


def make_app(
    lab: Lab,
    *,
    only: Only = None,
    token: str | None = None,
    trainings: Trainings | None = None,
) -> Starlette:
    """The application.

    Args:
        lab: the workspace whose runs are shown.
        only: a glob that a run's name must match, or several: one of them must.
        token: every request must know it; None: only this machine is answered, by its name.
        trainings: the experiment files that the page may train; None: none.
    """
    watched, models = Watched(lab, only), Models(lab)
    trained = Trainings(lab) if trainings is None else trainings
    return Starlette(
        routes=[
            *_page_routes(),
            *_list_routes(watched, trained),
            *_picture_routes(watched),
            *_run_routes(watched),
            *_model_routes(watched, models),
            *explorer.routes(watched, models),
            *_training_routes(trained),
        ],
        middleware=middleware(token),
        exception_handlers={AelabError: _error},
    )


def _page_routes() -> list[Route]:
    """The page itself and its files: a fixed list, made once."""
    assets = {
        entry.name: ("aelab.ui", kind)
        for entry in files("aelab.ui").joinpath("assets").iterdir()
        if (kind := _KINDS.get(Path(entry.name).suffix))
    } | {name: ("aelab.report", _KINDS[Path(name).suffix]) for name in _SHARED}

    def page(request: Request) -> Response:
        return html(_asset("aelab.ui", "index.html"), policy=POLICY)

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "colour-lists.js":
            script = palette_script() + "export {CLASSES, PALETTE};\n"
            return Response(script, media_type=_KINDS[".js"])
        if name not in assets:
            return Response("no such file", 404)
        room, kind = assets[name]
        return Response(_asset(room, name), media_type=kind, headers={"Cache-Control": "no-cache"})

    return [Route("/", page), Route("/assets/{name}", asset)]


def _list_routes(watched: Watched, trained: Trainings) -> list[Route]:
    """All runs: the list, curves, events, the report."""

    def runs(request: Request) -> Response:
        watched.changed()
        return JSONResponse(
            {
                "where": str(watched.lab.workspace.runs),
                "runs": watched.rows(),
                "seeds": watched.seeds(),
                "training": trained.told(),
            }
        )

    def curves(request: Request) -> Response:
        clock = request.query_params.get("clock", "images")
        if clock not in ("images", "seconds"):
            return told("clock is images or seconds", 400)
        term = request.query_params.get("term", "loss")
        return JSONResponse(watched.curves(request.query_params.getlist("run"), term, clock))

    def two(request: Request) -> Response:
        folders = request.query_params.getlist("run")
        if len(folders) != 2:
            return told("give two runs to compare", 400)
        first, second = (watched.run(folder) for folder in folders)
        return JSONResponse(compared(first, second, watched.runs(())))

    def report(request: Request) -> Response:
        watched.changed()
        chosen = watched.runs(request.query_params.getlist("run"))
        return html(render_page(chosen, now=moment()))

    async def events(request: Request) -> Response:
        return StreamingResponse(
            _changes(watched, trained, request), media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )  # fmt: skip

    return [
        Route("/api/runs", runs),
        Route("/api/curves", curves),
        Route("/api/compare", two),
        Route("/api/events", events),
        Route("/report", report),
    ]


def _picture_routes(watched: Watched) -> list[Route]:
    """Stored reproductions."""

    def moments(request: Request) -> Response:
        folders = request.query_params.getlist("run")
        return JSONResponse({each: reproductions.moments(watched.run(each)) for each in folders})

    def picture(request: Request) -> Response:
        given = request.query_params
        content = reproductions.picture(
            watched.run(given.get("run", "")), given.get("split", ""), _number(given, "images"),
            given.get("kind", "reproductions"), _numbers(given.getlist("image")),
        )  # fmt: skip
        return Response(content, media_type="image/png")

    def film(request: Request) -> Response:
        given = request.query_params
        content = reproductions.film(
            watched.run(given.get("run", "")), given.get("split", ""), _number(given, "image") or 0,
            _numbers(given.getlist("images")), given.get("kind", "reproductions"),
        )  # fmt: skip
        return Response(content, media_type="image/png")

    def errors(request: Request) -> Response:
        given = request.query_params
        found = reproductions.error_of_each(
            watched.run(given.get("run", "")), given.get("split", ""), _number(given, "images") or 0
        )
        return JSONResponse({"errors": found})

    return [
        Route("/api/moments", moments),
        Route("/api/picture", picture),
        Route("/api/film", film),
        Route("/api/errors", errors),
    ]


def _run_routes(watched: Watched) -> list[Route]:
    """One run: what its files say, and what a person writes about it."""

    def whole(request: Request) -> Response:
        return JSONResponse(about(watched.run(request.query_params.get("run", ""))))

    def incidents(request: Request) -> Response:
        run = watched.run(request.query_params.get("run", ""))
        return html(incident_page(run.folder, read_incidents(run)))

    async def notes(request: Request) -> Response:
        run = watched.run(request.query_params.get("run", ""))
        given = await message(request)
        text, tags = (given or {}).get("text"), (given or {}).get("tags")
        if (
            not isinstance(text, str)
            or not isinstance(tags, list)
            or not all(isinstance(tag, str) for tag in tags)
        ):
            return told('notes are sent as {"text": "...", "tags": ["..."]}', 400)
        made = await run_in_threadpool(write_notes, run, text, tags)
        return JSONResponse(notes_json(made))

    return [
        Route("/api/about", whole),
        Route("/incidents", incidents),
        Route("/api/notes", notes, methods=["POST"]),
    ]


def _model_routes(watched: Watched, models: Models) -> list[Route]:
    """What needs the model of a run; the first question opens it, which takes seconds."""

    def worst(request: Request) -> Response:
        folder = watched.run(request.query_params.get("run", "")).folder
        count = min(_number(request.query_params, "count") or 16, MOST_WORST)
        found = models.use(folder, lambda looker: looker.worst(count))
        for entry in found["images"]:
            entry |= {name: data_url(entry[name]) for name in ("original", "reconstruction")}
        return JSONResponse(found)

    async def encode(request: Request) -> Response:
        folder = watched.run(request.query_params.get("run", "")).folder
        content = await body(request, LARGEST_UPLOAD)
        if content is None:
            return told(f"a picture has at most {LARGEST_UPLOAD >> 20} MB", 413)
        return JSONResponse(await run_in_threadpool(look, models, folder, content))

    async def decode(request: Request) -> Response:
        folder = watched.run(request.query_params.get("run", "")).folder
        given = await message(request)
        try:
            latent = [float(value) for value in (given or {})["latent"]]
        except (ValueError, TypeError, KeyError):
            return told('a latent is sent as {"latent": [numbers]}', 400)
        made = await run_in_threadpool(models.use, folder, lambda looker: looker.decode(latent))
        return Response(made, media_type="image/png")

    return [
        Route("/api/worst", worst),
        Route("/api/encode", encode, methods=["POST"]),
        Route("/api/decode", decode, methods=["POST"]),
    ]


def _training_routes(trained: Trainings) -> list[Route]:
    """Starting and stopping the experiment files of the command line."""

    async def change(request: Request, ask: Callable[[str], None]) -> Response:
        given = await message(request)
        name = (given or {}).get("file")
        if not isinstance(name, str):
            return told('a file is sent as {"file": "its name on the page"}', 400)
        await run_in_threadpool(ask, name)
        return JSONResponse({"training": trained.told()})

    return [
        Route("/api/training/start", partial(change, ask=trained.start), methods=["POST"]),
        Route("/api/training/stop", partial(change, ask=trained.stop), methods=["POST"]),
    ]


def serve(
    lab: Lab,
    *,
    only: Only = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    train: Sequence[Path] = (),
    jobs: int | None = 1,
    ready: Callable[[str], None] | None = None,
    saving: Callable[[list[str]], None] | None = None,
) -> None:
    """Serves the page until Ctrl-C; runs that it trains are then saved.

    Args:
        lab: the workspace.
        only: a glob that a run's name must match, or several: one of them must.
        host: an address of this machine; another than the loopback needs a token, which is part
            of the address that is told.
        port: 0 takes a free one.
        train: experiment files that are trained at once, and can be stopped and started again.
        jobs: runs of a file that are trained at once; None: as many as the machine has room for.
        ready: called with the page's address.
        saving: called at the end with the names of the files whose runs are being saved.
    """
    token = None if host in LOOPBACK else secrets.token_urlsafe(16)
    trained = Trainings(lab, train, only=only, jobs=jobs)
    config = uvicorn.Config(
        make_app(lab, only=only, token=token, trainings=trained), host=host, port=port,
        log_level="warning", timeout_graceful_shutdown=1,
    )  # fmt: skip
    socket = config.bind_socket()
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{socket.getsockname()[1]}/"
    try:
        for path in train:
            trained.start(str(path))
        if ready is not None:
            ready(address if token is None else f"{address}?token={token}")
        uvicorn.Server(config).run(sockets=[socket])
    finally:
        trained.close(saving)


async def _changes(watched: Watched, trained: Trainings, request: Request) -> AsyncIterator[str]:
    """Server-sent events: what has changed; a comment in between keeps the line open."""
    seen = {row["folder"]: row for row in await run_in_threadpool(watched.rows)}
    training: list[dict[str, Any]] = []
    while not await request.is_disconnected():
        await run_in_threadpool(watched.changed)
        rows = {row["folder"]: row for row in await run_in_threadpool(watched.rows)}
        found: dict[str, Any] = {}
        changed = [row for folder, row in rows.items() if seen.get(folder) is not row]
        gone = [folder for folder in seen if folder not in rows]
        if changed or gone:
            found |= {"changed": changed, "gone": gone}
            if any(row["folder"] not in seen for row in changed):
                found["seeds"] = await run_in_threadpool(watched.seeds)
        if training != (now := trained.told()):
            found["training"] = training = now
        seen = rows
        yield f"data: {json.dumps(found, allow_nan=False)}\n\n" if found else ": \n\n"
        await asyncio.sleep(TICK_SECONDS)


def _number(given: Any, name: str) -> int | None:
    """A whole number of the query; None where it is missing."""
    found = given.get(name)
    return None if found is None else _numbers([found])[0]


def _numbers(texts: Sequence[str]) -> list[int]:
    """Whole numbers of a query.

    Raises:
        UserError: a text is none.
    """
    if not all(text.isascii() and text.isdecimal() and len(text) < 16 for text in texts):
        raise UserError("a place or a number of images is a whole number")
    return [int(text) for text in texts]


def _error(request: Request, error: Exception) -> Response | Awaitable[Response]:
    return told(str(error), 400)


def _asset(room: str, name: str) -> str:
    return files(room).joinpath(f"assets/{name}").read_text(encoding="utf-8")
