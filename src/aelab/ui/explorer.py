"""The latent explorer of `aelab ui`: its page, and answers about the latent space of one run.

A run is opened at the first question about it. Its text is evaluated under restriction, unless the
server was started with `--trust`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aelab.ui.guard import LARGEST_UPLOAD, POLICY, body, html, message, told
from aelab.ui.models import Models, with_picture
from aelab.ui.watched import Watched

if TYPE_CHECKING:
    from aelab.study.explored import Explored


def routes(watched: Watched, models: Models) -> list[Route]:
    """The page and its questions.

    Args:
        watched: the list of runs; a run is found by its name in it, never by a path.
        models: the opened ones.
    """

    def ask(request: Request, question: Callable[[Explored], Any]) -> Any:
        folder = watched.run(request.query_params.get("run", "")).folder
        return models.use(folder, lambda looker: question(looker.explored))

    def page(request: Request) -> Response:
        text = files("aelab.ui").joinpath("assets/explore.html").read_text("utf-8")
        return html(text, policy=POLICY)

    def facts(request: Request) -> Response:
        return JSONResponse(ask(request, lambda explored: explored.facts()))

    def thumbnails(request: Request) -> Response:
        content = ask(request, lambda explored: explored.atlas_png)
        return Response(content, media_type="image/png", headers={"Cache-Control": "no-store"})

    async def look(request: Request) -> Response:
        content = await body(request, LARGEST_UPLOAD)
        if content is None:
            return told(f"a picture has at most {LARGEST_UPLOAD >> 20} MB", 413)

        of_class = request.query_params.get("class") or None

        def through() -> Any:
            return with_picture(
                content, lambda path: ask(request, lambda it: it.look(path, of_class))
            )

        return JSONResponse(await run_in_threadpool(through))

    async def question(request: Request) -> Response:
        function = _QUESTIONS.get(request.path_params["name"])
        if function is None:
            return told("no such question", 404)
        given = await message(request)
        if given is None:
            return told("a question is sent as a JSON object", 400)
        return JSONResponse(await run_in_threadpool(ask, request, lambda it: function(it, given)))

    return [
        Route("/explore", page),
        Route("/api/explore", facts),
        Route("/api/explore/thumbnails", thumbnails),
        Route("/api/explore/look", look, methods=["POST"]),
        Route("/api/explore/{name}", question, methods=["POST"]),
    ]


#: Name of a question -> its answer.
_QUESTIONS: dict[str, Callable[[Explored, dict[str, Any]], dict[str, Any]]] = {
    "decode": lambda it, given: it.decode(given.get("point"), given.get("window")),
    "path": lambda it, given: it.path(
        given.get("from"), given.get("to"), given.get("steps", 9), bool(given.get("spherical"))
    ),
    "samples": lambda it, given: it.samples(
        given.get("count", 8), str(given.get("sampler", "auto")), given.get("seed", 0)
    ),
}
