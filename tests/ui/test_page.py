"""`aelab ui`: what it answers, what it refuses, and the page in a real browser."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from aelab.errors import MissingExtra
from aelab.lab import Lab

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from aelab.ui import server  # needs what may be missing
from aelab.ui.watched import Watched

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FILE = """
matrix:
  code: [2, 4]
experiment_name: page/${matrix_slug}
train_set: kali_dataset((1, 8, 8), size=64, seed=1)
validation_set: kali_dataset((1, 8, 8), size=24, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=code), DecoderMLP((1, 8, 8), code_size=code))
batch_size: 16
learnrate: 0.01
optimizer: Adam
max_images: 256
num_inputs_between_validations: 128
num_train_loss_steps: 64
"""
OWN = {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}


class Answer(NamedTuple):
    """What the application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.yml").write_text(FILE)
    (folder / "secret.txt").write_text("hunter2")
    here = Lab(folder / "runs", device="cpu")
    for _ in here.run(folder / "page.yml"):
        pass
    return here


def ask(
    app: Any,
    path: str,
    query: str = "",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """One request to the application, without a network."""
    sent: list[dict[str, Any]] = []
    given = OWN if headers is None else headers
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "scheme": "http", "http_version": "1.1",
        "server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 1), "root_path": "",
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:]))


@pytest.fixture(scope="module")
def app(here: Lab) -> Any:
    return server.make_app(here)


def test_runs_curves_and_pictures_are_told(app: Any) -> None:
    told = ask(app, "/api/runs").json
    assert sorted(run["folder"] for run in told["runs"]) == ["page/code-2", "page/code-4"]
    first = told["runs"][0]
    assert first["state"] == "finished" and first["images"] == first["max_images"] == 256
    assert first["loss"] > 0 and first["parameters"] > 100 and set(first["matrix"]) == {"code"}
    found = ask(app, "/api/curves", "run=page/code-2&term=loss").json
    x, y = found["curves"]["page/code-2"]["train"]
    assert len(x) == len(y) == 4 and x[-1] == 256 and "loss" in found["terms"]
    moments = ask(app, "/api/moments", "run=page/code-2").json["page/code-2"]["heldout"]["images"]
    answer = ask(app, "/api/picture", f"run=page/code-2&split=heldout&images={moments[-1]}")
    assert answer.body.startswith(b"\x89PNG") and answer.headers["content-type"] == "image/png"
    originals = ask(app, "/api/picture", "run=page/code-2&split=heldout").body
    assert originals.startswith(b"\x89PNG") and originals != answer.body
    assert b"page/code-2" in ask(app, "/report", "run=page/code-2").body
    assert b"explorer-data" in ask(app, "/latents", "run=page/code-4").body


def test_two_runs_are_compared_by_losses_and_by_configuration(app: Any) -> None:
    told = ask(app, "/api/compare", "run=page/code-2&run=page/code-4").json
    assert "between single runs" in told["verdict"] and len(told["facts"]) == 3
    assert any("2" in a and a.replace("2", "4") == b for a, b in told["lines"]), told["lines"]
    same = ask(app, "/api/compare", "run=page/code-2&run=page/code-2").json
    assert same["lines"] == []
    assert ask(app, "/api/compare", "run=page/code-2").status == 400


def test_a_picture_goes_through_the_model_and_a_latent_is_decoded(app: Any) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (30, 20), "gray").save(picture, "PNG")
    answer = ask(app, "/api/encode", "run=page/code-4", method="POST", body=picture.getvalue())
    told = answer.json
    assert answer.status == 200 and len(told["code"]) == 4
    assert told["reconstruction"].startswith("data:image/png;base64,")
    assert 0 <= told["error"] < 1 and told["distance"] >= 0
    sent = json.dumps({"latent": told["code"]}).encode()
    decoded = ask(app, "/api/decode", "run=page/code-4", method="POST", body=sent)
    assert decoded.body.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("path", "query", "options", "status"),
    [
        ("/", "", {"headers": {"host": "evil.example"}}, 400),
        ("/api/encode", "run=page/code-2", {"method": "POST", "headers": {
            **OWN, "origin": "http://evil.example"}}, 403),
        ("/api/encode", "run=page/code-2", {"method": "POST", "headers": {
            **OWN, "sec-fetch-site": "cross-site"}}, 403),
        ("/api/encode", "run=page/code-2", {"method": "POST", "headers": {"host": OWN["host"]}},
         403),
        ("/assets/../server.py", "", {}, 404),
        ("/assets/server.py", "", {}, 404),
        ("/api/picture", "run=../secret.txt&split=heldout", {}, 400),
        ("/api/picture", "run=page/code-2&split=../../..", {}, 400),
        ("/api/curves", "run=/etc&clock=images", {}, 400),
        ("/api/curves", "run=page/code-2&clock=x", {}, 400),
        ("/api/encode", "run=page/code-2", {"method": "POST", "body": b"no picture"}, 400),
        ("/api/decode", "run=page/code-2", {"method": "POST", "body": b'{"latent": [1]}'}, 400),
        ("/api/decode", "run=page/code-2", {"method": "POST", "body": b"[]"}, 400),
        ("/api/runs", "", {"method": "DELETE"}, 405),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused(
    app: Any, path: str, query: str, options: dict[str, Any], status: int
) -> None:
    answer = ask(app, path, query, **options)
    assert answer.status == status
    assert b"hunter2" not in answer.body and b"aelab-ui-" not in answer.body


def test_an_upload_is_bounded(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST_UPLOAD", 10)
    answer = ask(app, "/api/encode", "run=page/code-2", method="POST", body=b"12345678901")
    assert answer.status == 413


def test_the_page_may_load_its_own_files_only(app: Any) -> None:
    answer = ask(app, "/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = answer.body.decode()
    assert "<script>" not in page and " onclick" not in page and "http" not in page
    for name in re.findall(r'"/assets/([^"]+)"', page):
        assert ask(app, f"/assets/{name}").status == 200


def test_another_address_needs_the_token(here: Lab) -> None:
    app = server.make_app(here, token="word")
    outside = {"host": "lab.example"}
    assert ask(app, "/api/runs", headers=outside).status == 401
    assert ask(app, "/api/runs", "token=words", headers=outside).status == 401
    first = ask(app, "/", "token=word", headers=outside)
    assert first.status == 303 and "samesite=strict" in first.headers["set-cookie"].lower()
    cookie = {**outside, "cookie": f"{server.COOKIE}=word"}
    assert ask(app, "/api/runs", headers=cookie).status == 200


def test_runs_are_followed_while_they_change(here: Lab, tmp_path: Path) -> None:
    shutil.copytree(here.workspace.runs, tmp_path / "runs")
    watched = Watched(Lab(tmp_path / "runs"))
    assert watched.changed() == ["page/code-2", "page/code-4"] and watched.changed() == []
    before = {row["folder"]: row for row in watched.rows()}
    run = watched.run("page/code-2")
    with run.lock():
        run.set_status("interrupted", images=7)
    assert watched.changed() == ["page/code-2"]
    after = {row["folder"]: row for row in watched.rows()}
    assert after["page/code-2"]["images"] == 7
    assert after["page/code-4"] is before["page/code-4"]
    shutil.rmtree(tmp_path / "runs/page/code-4")
    watched._looked = -1e9
    assert "page/code-4" in watched.changed() and len(watched.rows()) == 1
    assert Watched(Lab(tmp_path / "nothing")).rows() == []


def test_without_its_packages_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aelab.cli.ui import ui

    monkeypatch.delitem(__import__("sys").modules, "aelab.ui.server")
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match="uvicorn") as raised:
        ui()
    assert "aelab[ui]" in str(raised.value)


@pytest.fixture
def address(here: Lab) -> Iterator[str]:
    """The page, served from a thread of this process."""
    import uvicorn

    config = uvicorn.Config(server.make_app(here), port=0, log_level="error", lifespan="off")
    running, socket = uvicorn.Server(config), config.bind_socket()
    thread = threading.Thread(target=running.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{socket.getsockname()[1]}/"
    running.should_exit = running.force_exit = True
    thread.join(20)
    socket.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt install chromium")
def test_a_browser_shows_table_and_curves(address: str, tmp_path: Path) -> None:
    told = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         "--virtual-time-budget=4000", f"--user-data-dir={tmp_path}", f"{address}#still"],
        capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    assert "page/code-2" in told and "2 of 2 runs" in told
    assert told.count('class="u-wrap"') == 2, "two panels of curves"
    assert "/api/picture?run=page%2Fcode-" in told
