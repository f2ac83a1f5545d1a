"""The security of the page, line by line: what it refuses, and what it may load."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aelab.lab import Lab
from aelab.ui import guard, server
from aelab.ui.training import Trainings
from tests.ui.asking import OWN, ask

NOTE = json.dumps({"text": "x", "tags": []}).encode()


def test_a_foreign_host_is_refused(app: Any) -> None:
    for path in ("/", "/api/runs", "/assets/main.js", "/report"):
        assert ask(app, path, headers={"host": "evil.example"}).status == 400
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        assert ask(app, "/api/runs", headers={"host": host}).status == 200


WRITES = ("/api/notes", "/api/training/start", "/api/training/stop", "/api/encode", "/api/decode")


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {**OWN, "origin": "http://evil.example"},
        {**OWN, "sec-fetch-site": "cross-site"},
        {**OWN, "sec-fetch-site": "same-site"},
        {"host": OWN["host"], "origin": "null"},
        {"host": OWN["host"]},
    ],
)
def test_nothing_is_written_for_another_origin(
    app: Any, here: Lab, path: str, headers: dict[str, str]
) -> None:
    answer = ask(app, path, "run=page/code-2", method="POST", headers=headers, body=NOTE)
    assert answer.status == 403
    assert not (here.workspace.runs / "page/code-2/notes.json").exists()


def test_nothing_is_written_by_reading(app: Any, here: Lab) -> None:
    for path in WRITES:
        assert ask(app, path, "run=page/code-2").status == 405
    before = {path: path.stat().st_mtime_ns for path in here.workspace.runs.rglob("*")}
    for path in ("/", "/api/runs", "/api/about", "/api/curves", "/api/moments", "/report"):
        assert ask(app, path, "run=page/code-2").status == 200
    assert {path: path.stat().st_mtime_ns for path in here.workspace.runs.rglob("*")} == before


@pytest.mark.parametrize(
    ("path", "query", "options", "status"),
    [
        ("/assets/../server.py", "", {}, 404),
        ("/assets/server.py", "", {}, 404),
        ("/assets/index.html", "", {}, 404),
        ("/assets/..%2fserver.py", "", {}, 404),
        ("/api/picture", "run=../secret.txt&split=heldout", {}, 400),
        ("/api/picture", "run=page/code-2&split=../../..", {}, 400),
        ("/api/picture", "run=page/code-2&split=heldout&kind=../x", {}, 400),
        ("/api/picture", "run=page/code-2&split=heldout&images=-1", {}, 400),
        ("/api/picture", "run=page/code-2&split=heldout&image=99", {}, 400),
        ("/api/film", "run=page/../../x&split=heldout&image=0", {}, 400),
        ("/api/errors", "run=page/code-2&split=heldout&images=1e9", {}, 400),
        ("/api/about", "run=..", {}, 400),
        ("/api/about", "", {}, 400),
        ("/incidents", "run=/etc", {}, 400),
        ("/api/curves", "run=/etc&clock=images", {}, 400),
        ("/api/curves", "run=page/code-2&clock=x", {}, 400),
        ("/api/worst", "run=../..", {}, 400),
        ("/api/notes", "run=..", {"method": "POST", "body": NOTE}, 400),
        ("/api/encode", "run=page/code-2", {"method": "POST", "body": b"no picture"}, 400),
        ("/api/encode", "run=page/code-2", {"method": "POST", "body": b"<svg/>"}, 400),
        ("/api/decode", "run=page/code-2", {"method": "POST", "body": b'{"latent": [1]}'}, 400),
        ("/api/decode", "run=page/code-2", {"method": "POST", "body": b"[]"}, 400),
        ("/api/training/start", "", {"method": "POST", "body": b"{}"}, 400),
        ("/api/training/start", "", {"method": "POST", "body": b'{"file": "/etc/passwd"}'}, 400),
        ("/api/runs", "", {"method": "DELETE"}, 405),
    ],
)
def test_no_path_of_a_request_is_opened(
    app: Any, path: str, query: str, options: dict[str, Any], status: int
) -> None:
    answer = ask(app, path, query, **options)
    assert answer.status == status
    assert b"hunter2" not in answer.body and b"aelab-ui-" not in answer.body
    assert b"root:" not in answer.body and b"Traceback" not in answer.body


def test_links_out_of_the_store_are_not_followed(own: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "heldout-originals.png").write_bytes(b"hunter2")
    (secret / "incident.json").write_text('{"incidents": [{"cause": "hunter2"}]}')
    run = own.workspace.runs / "page/code-2"
    picture = run / "images/heldout-originals.png"
    picture.unlink()
    picture.symlink_to(secret / "heldout-originals.png")
    (run / "incident.json").symlink_to(secret / "incident.json")
    (run / "log.txt").unlink()
    (run / "log.txt").symlink_to(secret / "incident.json")
    app = server.make_app(own)
    for path, query in (
        ("/api/picture", "split=heldout"), ("/api/moments", ""), ("/api/about", ""),
        ("/incidents", ""), ("/api/runs", ""), ("/report", ""),
    ):  # fmt: skip
        assert b"hunter2" not in ask(app, path, f"run=page/code-2&{query}").body
    refused = ask(app, "/api/notes", "run=page/code-2", method="POST", body=NOTE)
    assert refused.status == 400 and "link out of the run" in refused.json["error"]
    assert not (run / "notes.json").exists()


def test_uploads_and_messages_are_bounded(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    large = b'{"text": "' + b"x" * guard.LARGEST_MESSAGE + b'", "tags": []}'
    answer = ask(app, "/api/notes", "run=page/code-2", method="POST", body=large)
    assert answer.status == 400
    monkeypatch.setattr(server, "LARGEST_UPLOAD", 10)
    answer = ask(app, "/api/encode", "run=page/code-2", method="POST", body=b"12345678901")
    assert answer.status == 413


def test_the_page_may_load_its_own_files_only(app: Any) -> None:
    answer = ask(app, "/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "script-src 'self';" in policy and "style-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy and "form-action 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    page = answer.body.decode()
    assert "<script>" not in page and "<style" not in page and " style=" not in page
    assert not re.search(r"\son\w+=", page) and "http" not in page
    found = re.findall(r'"/assets/([^"]+)"', page)
    scripts = set(found)
    for name in found:
        content = ask(app, f"/assets/{name}")
        assert content.status == 200
        if name.endswith(".js") and "uPlot" not in name:
            scripts |= set(re.findall(r'from "\./([^"]+)"', content.body.decode()))
    for name in scripts:
        answer = ask(app, f"/assets/{name}")
        assert answer.status == 200, name
        assert "javascript" in answer.headers["content-type"] or name.endswith(".css")


def test_pages_of_a_run_cannot_run_what_it_says(app: Any) -> None:
    for path in ("/report", "/incidents"):
        answer = ask(app, path, "run=page/code-2")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert re.search(r"default-src ('none'|&#39;none&#39;)", answer.body.decode())


def test_another_address_needs_the_token(here: Lab) -> None:
    app = server.make_app(here, token="word")
    outside = {"host": "lab.example"}
    assert ask(app, "/api/runs", headers=outside).status == 401
    assert ask(app, "/api/runs", "token=words", headers=outside).status == 401
    first = ask(app, "/", "token=word", headers=outside)
    assert first.status == 303 and "samesite=strict" in first.headers["set-cookie"].lower()
    cookie = {**outside, "cookie": f"{guard.COOKIE}=word"}
    assert ask(app, "/api/runs", headers=cookie).status == 200
    refused = ask(app, "/api/notes", "run=page/code-2", method="POST", headers=cookie, body=NOTE)
    assert refused.status == 403


@pytest.mark.parametrize(
    ("host", "has_token"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)]
)
def test_only_the_loopback_is_served_without_a_token(
    here: Lab, monkeypatch: pytest.MonkeyPatch, host: str, has_token: bool
) -> None:
    told: list[str] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: sockets[0].close())
    server.serve(here, host=host, port=0, ready=told.append)
    assert ("?token=" in told[0]) == has_token


def test_a_run_made_with_trust_is_not_opened_without_it(own: Lab) -> None:
    own.find("page/code-2")[0].update_record(trust=True)
    app = server.make_app(own)
    answer = ask(app, "/api/worst", "run=page/code-2")
    assert answer.status == 400 and "trust" in answer.json["error"]
    assert ask(app, "/api/about", "run=page/code-2").json["needs_trust"]


def test_only_files_of_the_command_line_are_trained(own: Lab, tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("experiment_name: mine")
    other = tmp_path / "other.yml"
    other.write_text("experiment_name: other")
    app = server.make_app(own, trainings=Trainings(own, [path]))
    body = json.dumps({"file": str(other)}).encode()
    answer = ask(app, "/api/training/start", method="POST", body=body)
    assert answer.status == 400 and "aelab ui --run FILE" in answer.json["error"]
    assert [each["name"] for each in ask(app, "/api/runs").json["training"]] == [str(path)]


def test_a_mistake_of_aelab_itself_is_told_as_a_sentence(
    app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("by \x1b nothing")

    monkeypatch.setattr(server, "compared", broken)
    answer = ask(app, "/api/compare", "run=page/code-2&run=page/code-4")
    assert answer.status == 500 and answer.headers["x-content-type-options"] == "nosniff"
    assert "ZeroDivisionError: by \\x1b nothing" in answer.json["error"]
    assert "in broken" in caplog.text  # where it happened
