"""What the page is told: every answer of the server, without a browser."""

from __future__ import annotations

import io
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from aelab.cli.main import app as main
from aelab.errors import MissingExtra, StoreError, UserError
from aelab.lab import Lab
from aelab.runs.notes import read_notes
from aelab.ui import reproductions, server
from aelab.ui.curves import points_of_each
from aelab.ui.watched import Watched
from tests.ui.asking import ask


def pixels(png: bytes) -> Any:
    """(H, W, 3) in 0..255."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def test_runs_curves_and_trends_are_told(app: Any) -> None:
    told = ask(app, "/api/runs").json
    assert sorted(run["folder"] for run in told["runs"]) == ["page/code-2", "page/code-4"]
    first = told["runs"][0]
    assert first["state"] == "finished" and first["images"] == first["max_images"] == 256
    assert first["loss"] > 0 and first["parameters"] > 100 and set(first["matrix"]) == {"code"}
    assert first["tags"] == [] and first["incidents"] == 0 and told["seeds"] == []
    assert told["training"] == []
    found = ask(app, "/api/curves", "run=page/code-2&term=loss").json
    x, y = found["curves"]["page/code-2"]["train"]
    assert len(x) == len(y) == 4 and x[-1] == 256 and "loss" in found["terms"]
    assert found["trends"] == {"page/code-2": "too few points"} and found["forecasts"] == {}
    seconds = ask(app, "/api/curves", "run=page/code-2&term=loss&clock=seconds").json
    assert 0 < seconds["curves"]["page/code-2"]["train"][0][-1] < 100
    assert b"page/code-2" in ask(app, "/report", "run=page/code-2").body


def test_many_curves_share_their_points() -> None:
    assert points_of_each(1) == 1000 and points_of_each(500) == 120
    assert points_of_each(100) * 100 <= 60_000


def test_an_unfinished_run_is_told_with_its_forecast(own: Lab) -> None:
    run = own.find("page/code-2")[0]
    record = json.loads((run.path / "run.json").read_text())
    resolved = (run.path / "resolved.yml").read_text().replace("256", "2560")
    (run.path / "resolved.yml").write_text(resolved)
    (run.path / "run.json").write_text(json.dumps({**record, "max_inputs": 2560}))
    with run.lock():
        run.set_status("interrupted")
    app = server.make_app(own)
    found = ask(app, "/api/curves", "run=page/code-2&run=page/code-4").json["forecasts"]
    assert list(found) == ["page/code-2"]
    forecast = found["page/code-2"]
    assert forecast["from"][0] == 256 and forecast["to"][0] == 2560
    assert 0 < forecast["low"] < forecast["to"][1] < forecast["high"]
    assert "will end" in forecast["words"]


def test_reproductions_their_differences_and_errors_are_told(app: Any) -> None:
    moments = ask(app, "/api/moments", "run=page/code-2").json["page/code-2"]["heldout"]
    assert (
        moments["count"] == 16 and moments["size"] == [8, 8] and moments["images"] == [0, 128, 256]
    )
    assert all(name.startswith("no. ") for name in moments["names"])
    query = "run=page/code-2&split=heldout"
    last = f"{query}&images={moments['images'][-1]}"
    answer = ask(app, "/api/picture", last)
    assert answer.headers["content-type"] == "image/png"
    made, originals = pixels(answer.body), pixels(ask(app, "/api/picture", query).body)
    assert made.shape == originals.shape == (8, 128, 3) and (made != originals).any()
    told = ask(app, "/api/errors", last).json["errors"]
    squares = ((made - originals) / 255) ** 2
    expected = [squares[:, 8 * i : 8 * i + 8].mean() for i in range(16)]
    assert told == pytest.approx(expected, rel=1e-5)
    order = sorted(range(16), key=told.__getitem__, reverse=True)[:3]
    wanted = "".join(f"&image={place}" for place in order)
    worst = pixels(ask(app, "/api/picture", last + wanted).body)
    assert worst.shape == (8, 24, 3)
    assert (worst[:, :8] == made[:, 8 * order[0] : 8 * order[0] + 8]).all()
    differences = pixels(ask(app, "/api/picture", f"{last}&kind=differences").body)
    light = differences.sum(axis=2)
    apart = np.abs(made - originals).max(axis=2)
    assert light[apart.argmax() // 128, apart.argmax() % 128] == light.max()
    assert light[apart == 0].max(initial=0) <= light.min() + 5


def test_a_difference_grows_lighter_with_what_differs() -> None:
    black = Image.new("L", (1, 1), 0)
    shades = [
        sum(reproductions.difference_map(black, Image.new("L", (1, 1), grey)).getpixel((0, 0)))
        for grey in (0, 3, 30, 120, 255)
    ]
    assert shades == sorted(shades) and shades[0] < 10 and shades[1] > 40 and shades[-1] > 600


def test_one_image_is_told_over_time(app: Any) -> None:
    moments = ask(app, "/api/moments", "run=page/code-4").json["page/code-4"]["heldout"]["images"]
    query = "run=page/code-4&split=heldout&image=5"
    wanted = "".join(f"&images={moment}" for moment in moments)
    film = pixels(ask(app, "/api/film", query + wanted).body)
    assert film.shape == (8, 8 * (1 + len(moments)), 3)
    row = pixels(ask(app, "/api/picture", f"{query[:-8]}&images={moments[-1]}").body)
    assert (film[:, -8:] == row[:, 40:48]).all()
    assert ask(app, "/api/film", query + "&images=1" * 25).status == 400
    assert ask(app, "/api/film", f"run=page/code-4&split=heldout&image=99{wanted}").status == 400


def test_two_runs_are_compared_by_losses_and_by_configuration(app: Any) -> None:
    told = ask(app, "/api/compare", "run=page/code-2&run=page/code-4").json
    assert "between single runs" in told["verdict"] and len(told["facts"]) == 3
    assert any("2" in a and a.replace("2", "4") == b for a, b in told["lines"]), told["lines"]
    assert told["matrix"] == {"code": ["2", "4"]}
    rows = ask(app, "/api/runs").json["runs"]
    assert [run["folder"] for run in rows] == ["page/code-2", "page/code-4"]
    losses = [run["loss"] for run in rows]
    assert told["difference"]["mean"] == pytest.approx(losses[0] - losses[1])
    assert told["difference"]["better"] is None
    same = ask(app, "/api/compare", "run=page/code-2&run=page/code-2").json
    assert same["lines"] == []
    assert ask(app, "/api/compare", "run=page/code-2").status == 400


def test_a_run_is_told_whole(own: Lab) -> None:
    run = own.find("page/code-2")[0]
    finding = {"level": "warning", "code": "output-constant", "message": "all the same",
               "way_out": "a lower learnrate", "seen": [64, 128]}  # fmt: skip
    run.update_record(findings=[finding])
    entry = {"cause": "the loss is NaN", "where": "decoder.2", "done_in_words": "rolled back",
             "advice": "<b>clip</b>"}  # fmt: skip
    run.write_json("incident.json", {"incidents": [entry]})
    app = server.make_app(own)
    told = ask(app, "/api/about", "run=page/code-2").json
    assert (
        told["findings"][0]["level"] == "warning" and "all the same" in told["findings"][0]["line"]
    )
    assert told["incidents"][0]["what"] == "the loss is NaN"
    assert dict(told["facts"])["code"] == "2" and "max_images" in told["config"]
    assert told["log"] and told["environment"] and told["has_model"]
    row = next(row for row in ask(app, "/api/runs").json["runs"] if row["folder"] == run.folder)
    assert row["warnings"] == 1 and row["incidents"] == 1
    page = ask(app, "/incidents", "run=page/code-2")
    assert b"the loss is NaN" in page.body and b"<b>clip" not in page.body


def test_a_note_is_written_by_a_verb(own: Lab) -> None:
    runs = ["--runs", str(own.workspace.runs)]
    words = ["note", "page/code-4", "better", "--tag", "paper", "-t", "good", *runs]
    assert CliRunner().invoke(main, words).output == "better\n[good] [paper]\n"
    assert CliRunner().invoke(main, words[:2] + runs).output == "better\n[good] [paper]\n"
    assert own.note("page/code-4", clear=True) == read_notes(own.find("page/code-4")[0])
    assert own.note("page/code-4").tags == () and "notes" not in own.ls()
    assert isinstance(CliRunner().invoke(main, ["note", "x", "y", *runs]).exception, StoreError)
    with pytest.raises(UserError, match="cannot be a tag"):
        own.note("page/code-4", tags=["two words"])


def test_notes_are_kept_in_the_run_and_shown_in_the_list(own: Lab) -> None:
    app = server.make_app(own)
    sent = json.dumps({"text": "best so far\nfor now", "tags": ["good", "a"]}).encode()
    answer = ask(app, "/api/notes", "run=page/code-4", method="POST", body=sent)
    assert answer.status == 200 and answer.json["tags"] == ["a", "good"]
    kept = read_notes(own.find("page/code-4")[0])
    assert kept.text == "best so far\nfor now" and kept.tags == ("a", "good")
    row = next(row for row in ask(app, "/api/runs").json["runs"] if row["folder"] == "page/code-4")
    assert row["tags"] == ["a", "good"] and row["note"] == "best so far"
    for told in (own.ls(), str(own.table())):
        assert "notes" in told and "a, good" in told and "best so far" in told
        assert "for now" not in told
    for body in (
        b"", b"[]", b'{"text": 1, "tags": []}', b'{"text": "", "tags": "x"}',
        b'{"text": "", "tags": ["a b"]}', b'{"text": "' + b"x" * 70_000 + b'", "tags": []}',
    ):  # fmt: skip
        assert ask(app, "/api/notes", "run=page/code-4", method="POST", body=body).status == 400
    assert read_notes(own.find("page/code-4")[0]) == kept


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


def test_the_worst_held_out_images_are_told_by_name(app: Any, here: Lab) -> None:
    told = ask(app, "/api/worst", "run=page/code-2&count=5").json
    errors = [each["error"] for each in told["images"]]
    assert len(errors) == 5 and errors == sorted(errors, reverse=True) and told["among"] == 24
    assert errors[-1] > told["mean"] * 0.5 and told["unit"] == "L2"
    opened = here.open("page/code-2")
    subject = opened.subject()
    all_errors = (subject.reconstructions.clamp(0, 1) - subject.images).square().flatten(1).mean(1)
    assert errors[0] == pytest.approx(float(all_errors.max()))
    row = int(all_errors.argmax())
    assert told["images"][0]["name"] == f"no. {subject.rows[row]}"
    assert told["images"][0]["original"].startswith("data:image/png;base64,")


def test_runs_are_followed_while_they_change(own: Lab, tmp_path: Path) -> None:
    watched = Watched(own)
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
    from aelab.cli.main import app
    from aelab.cli.ui import ui

    monkeypatch.delitem(__import__("sys").modules, "aelab.ui.server")
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match="uvicorn") as raised:
        ui(typer.Context(typer.main.get_command(app)))  # type: ignore[arg-type]
    assert "aelab[ui]" in str(raised.value)


def test_what_a_model_sees_of_the_originals_is_shown(own: Lab) -> None:
    (hiding, other) = sorted((run.path for run in own.find()), key=str)[:2]
    seen = Image.new("L", (128, 8), 128)
    seen.save(hiding / "images" / "heldout-inputs.png")
    app = server.make_app(own)
    names = [path.relative_to(own.workspace.runs).as_posix() for path in (hiding, other)]
    told = ask(app, "/api/moments", "&".join(f"run={name}" for name in names)).json
    assert [told[name]["heldout"]["hides"] for name in names] == [True, False]
    query = f"split=heldout&kind=inputs&image=3&image=5&run={names[0]}"
    shown = pixels(ask(app, "/api/picture", query).body)
    assert shown.shape == (8, 16, 3) and (shown == 128).all()
    assert ask(app, "/api/picture", query.replace(names[0], names[1])).status >= 400


def test_the_page_and_the_report_call_a_masked_input_the_same() -> None:
    assets = [files("aelab.ui") / "assets/pictures.js", files("aelab.report") / "assets/page.js"]
    assert [asset.read_text().count("masked input") for asset in assets] == [2, 2]
