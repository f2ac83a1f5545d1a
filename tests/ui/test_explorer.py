"""The latent explorer of `aelab ui`: each answer, what is refused, and the page in a browser."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aelab.errors import UserError
from aelab.lab import Lab
from aelab.study.explored import Explored
from aelab.study.latent_map import map_of
from aelab.ui import explorer, server
from tests.browser import CHROMIUM, MISSING, Browser, serious_faults
from tests.ui.asking import OWN, Answer, ask

PICTURES = """
experiment_name: space/tiles
train_set: image_folder_dataset("pictures", (3, 8, 8))
validation_set: image_folder_dataset("pictures", (3, 8, 8))
model: EncoderDecoder(EncoderMLP((3, 8, 8), 5), DecoderMLP((3, 8, 8), 5))
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_images: 256
"""
IMPLICIT = """
experiment_name: space/implicit
train_set: kali_dataset((1, 8, 8), size=40, seed=1)
model: EncoderDecoder(EncoderMLP((1, 8, 8), 3), fast_implicit_decoder((1, 8, 8), 3, num_hidden=8))
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_images: 64
"""
WORDS = """
experiment_name: space/words
train_set: figlet_ascii_dataset(shape=(6, 10)).limit(60)
validation_set: figlet_ascii_dataset(shape=(6, 10)).skip(60).limit(20)
model: small_ascii_ae((6, 10), embedding=4, channels=(6, 8), latent_dims=4, hidden=(6,))
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_images: 128
"""

CLASSES = """
experiment_name: space/classes
train_set: image_folder_dataset("pictures", (3, 8, 8))
model: >-
  ConditionalAutoencoder(VariationalEncoder(EncoderMLP((3, 8, 8), 8), 8, 3),
  DecoderMLP((3, 8, 8), 5), (3, 8, 8), 2)
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_images: 64
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of pictures in two classes, of an implicit decoder, of texts, of a model of classes."""
    folder = tmp_path_factory.mktemp("explored")
    made = np.random.default_rng(0)
    for number in range(30):
        kind, base = (("bright", 200), ("dark", 20))[number % 2]
        pixels = (base + made.integers(0, 50, (8, 8, 3))).astype(np.uint8)
        (folder / "pictures" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "pictures" / kind / f"{number}.png")
    here = Lab(folder / "runs", device="cpu")
    for name, text in (
        ("tiles", PICTURES),
        ("implicit", IMPLICIT),
        ("words", WORDS),
        ("classes", CLASSES),
    ):
        (folder / f"{name}.yml").write_text(text)
        for _ in here.run(folder / f"{name}.yml"):
            pass
    return folder


@pytest.fixture(scope="module")
def app(home: Path) -> Any:
    return server.make_app(Lab(home / "runs", device="cpu"))


@pytest.fixture(scope="module")
def tiles(home: Path) -> Explored:
    return Explored(Lab(home / "runs", device="cpu").open("space/tiles"))


def question(app: Any, name: str, given: Any, run: str = "space/tiles") -> Answer:
    body = given if isinstance(given, bytes) else json.dumps(given).encode()
    return ask(app, f"/api/explore/{name}", f"run={run}", method="POST", body=body)


def pixels(address: str) -> np.ndarray:
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture).astype(int)


def test_the_map_has_every_image_with_its_name_and_class(app: Any, home: Path) -> None:
    told = ask(app, "/api/explore", "run=space/tiles").json
    assert told["count"] == len(told["map"]) == len(told["names"]) == 30 == told["total"]
    assert sorted(told["names"])[:2] == ["bright/0.png", "bright/10.png"]
    for name, label in zip(told["names"], told["labels"], strict=True):
        assert name.startswith(told["classes"][label])
    picture = ask(app, "/api/explore/thumbnails", "run=space/tiles")
    with Image.open(io.BytesIO(picture.body)) as sheet:
        columns, (width, height) = told["columns"], told["tile"]
        assert sheet.size == (columns * width, -(-30 // columns) * height)
        tile = sheet.crop((0, 0, width, height)).convert("RGB")
    with Image.open(home / "pictures" / told["names"][0]) as original:
        assert np.array_equal(np.asarray(tile), np.asarray(original.convert("RGB")))


def test_an_image_of_the_map_decodes_to_its_reconstruction(tiles: Explored) -> None:
    told = tiles.decode({"image": 3})
    image = tiles._subject.images[3:4]
    wanted = (255 * tiles.opened.reconstruct(image).clamp(0, 1)).round()[0].permute(1, 2, 0)
    assert np.abs(pixels(told["picture"]) - wanted.numpy()).max() <= 1
    assert told["nearest"] == 3 and told["distance"] < 1e-3 and told["text"] is None
    assert told["place"] == pytest.approx(tiles.map.places[3].tolist(), abs=1e-4)


def test_a_place_near_an_image_decodes_to_nearly_it(tiles: Explored) -> None:
    told = tiles.decode({"place": [float(value) for value in tiles.map.places[3]]})
    assert (
        np.abs(pixels(told["picture"]) - pixels(tiles.decode({"image": 3})["picture"])).mean() < 9
    )
    far = tiles.decode({"place": [5.0, -7.0]})
    assert far["place"] == pytest.approx([5.0, -7.0], abs=1e-3)


def test_steps_move_along_directions_and_dimensions(tiles: Explored) -> None:
    code = tiles.map.codes[2]
    moved = tiles.latent_of({"image": 2, "directions": {"1": 2}, "dimensions": {"4": -1.5}})
    wanted = code + 2 * tiles.map.std[1] * tiles.map.axes[1]
    wanted[4] -= 1.5 * tiles.map.codes.std(0)[4]
    torch.testing.assert_close(moved, wanted)
    strongest = [d for d, _ in tiles.facts()["dimensions"]]
    spread = tiles.map.codes.std(0)
    assert strongest == spread.argsort(descending=True).tolist()
    assert tiles.facts()["directions"] == sorted(tiles.facts()["directions"], reverse=True)


def test_a_class_minus_another_makes_a_dark_picture_bright(tiles: Explored) -> None:
    classes = tiles.facts()["classes"]
    bright, dark = classes.index("bright"), classes.index("dark")
    row = tiles.facts()["labels"].index(dark)
    point = {"image": row, "classes": {"plus": bright, "minus": dark, "amount": 1}}
    before, after = (pixels(tiles.decode(p)["picture"]).mean() for p in ({"image": row}, point))
    assert after > before + 60
    mean = tiles.latent_of({"image": row, "classes": {"plus": bright, "minus": None}})
    labels = torch.tensor(tiles.facts()["labels"])
    wanted = tiles.map.codes[row] + tiles.map.codes[labels == bright].mean(0) - tiles.map.mean
    torch.testing.assert_close(mean, wanted)


@pytest.mark.parametrize("spherical", [False, True])
def test_a_path_begins_and_ends_at_its_ends(tiles: Explored, spherical: bool) -> None:
    start, end = {"image": 0}, {"image": 1, "directions": {"0": 0.5}}
    told = tiles.path(start, end, 5, spherical)
    assert len(told["pictures"]) == len(told["places"]) == 5 and told["texts"] == []
    assert told["pictures"][0] == tiles.decode(start)["picture"]
    assert told["pictures"][4] == tiles.decode(end)["picture"]
    middle = {"from": start, "to": end, "t": 0.5, "spherical": spherical}
    assert np.abs(pixels(tiles.decode(middle)["picture"]) - pixels(told["pictures"][2])).max() <= 1
    if spherical:
        lengths = [tiles.latent_of(point).norm() for point in (start, middle, end)]
        assert min(lengths[0], lengths[2]) - 0.1 < lengths[1]


def test_a_dropped_picture_is_found_among_its_neighbours(app: Any, home: Path) -> None:
    told = ask(app, "/api/explore", "run=space/tiles").json
    content = (home / "pictures" / told["names"][7]).read_bytes()
    found = question(app, "look", content).json
    assert found["nearest"][0][0] == 7 and found["nearest"][0][1] < 1e-3
    apart = [distance for _, distance in found["nearest"]]
    assert len(apart) == 8 and apart == sorted(apart)
    again = question(app, "decode", {"point": {"kept": found["kept"]}}).json
    assert again["picture"] == found["reconstruction"] and again["nearest"] == 7
    other = io.BytesIO()
    Image.new("RGBA", (40, 25), (10, 200, 30, 128)).save(other, "WEBP")
    assert question(app, "look", other.getvalue()).status == 200


def test_samples_stand_beside_the_training_image_that_looks_most_similar(app: Any) -> None:
    told = question(app, "samples", {"count": 3, "sampler": "gaussian", "seed": 5}).json
    assert len(told["samples"]) == 3 and told["unit"] == "L2"
    for one in told["samples"]:
        error = np.square((pixels(one["picture"]) - pixels(one["nearest"]["picture"])) / 255).mean()
        assert one["nearest"]["error"] == pytest.approx(error, abs=2e-3)
        assert one["nearest"]["class"] in ("bright", "dark")
    other = question(app, "samples", {"count": 3, "sampler": "gaussian", "seed": 6}).json
    assert other["samples"][0]["picture"] != told["samples"][0]["picture"]


def test_an_implicit_decoder_is_magnified(app: Any) -> None:
    run = "space/implicit"
    told = ask(app, "/api/explore", f"run={run}").json
    assert told["renders"] == [8, 8] and not told["held_out"] and told["count"] == 40
    point = {"image": 0}
    whole = question(app, "decode", {"point": point, "window": {"width": 8}}, run).json
    own = question(app, "decode", {"point": point}, run).json
    assert np.abs(pixels(whole["picture"]) - pixels(own["picture"])).max() <= 2
    window = {"width": 60, "region": [-0.5, -0.5, 0.5, 0.5]}
    near = question(app, "decode", {"point": point, "window": window}, run).json
    assert pixels(near["picture"]).shape == (60, 60)
    refused = question(app, "decode", {"point": point, "window": {"width": 8}})
    assert refused.status == 400 and "one size" in refused.json["error"]


def test_texts_are_written_as_texts(app: Any) -> None:
    run = "space/words"
    told = ask(app, "/api/explore", f"run={run}").json
    assert told["writes"] and max(told["tile"]) <= 32
    text = question(app, "decode", {"point": {"image": 0}}, run).json["text"]
    assert [len(line) for line in text.split("\n")] == [10] * 6
    path = question(app, "path", {"from": {"image": 0}, "to": {"image": 1}, "steps": 3}, run).json
    assert len(path["texts"]) == 3 and path["texts"][0] == text
    samples = question(app, "samples", {"count": 2, "sampler": "gaussian"}, run).json
    assert samples["unit"] == "wrong" and all(one["text"] for one in samples["samples"])


def test_a_picture_is_written_by_a_model_of_characters(app: Any) -> None:
    text = question(app, "decode", {"point": {"image": 0}}, "space/words").json
    told = question(app, "look", base64.b64decode(text["picture"].partition(",")[2]), "space/words")
    assert told.status == 200 and told.json["unit"] == "wrong"
    # The picture of a text, matched with glyphs again, keeps where ink and where paper is.
    for given, wanted in zip(told.json["texts"][0], text["text"], strict=True):
        assert (given == " ") == (wanted == " ")


def test_a_person_chooses_the_class_of_a_picture(app: Any, home: Path) -> None:
    run, picture = "space/classes", (home / "pictures/dark/1.png").read_bytes()
    told = ask(app, "/api/explore", f"run={run}").json
    assert told["given_classes"] == ["bright", "dark"] and told["needs_class"] is True

    def look(of_class: str) -> Answer:
        query = f"run={run}&class={of_class}"
        return ask(app, "/api/explore/look", query, method="POST", body=picture)

    bright, dark, best = look("bright").json, look("dark").json, look("").json
    assert bright["class"] == "bright" and dark["class"] == "dark"
    assert bright["error"] != dark["error"]
    assert best["error"] == pytest.approx(min(bright["error"], dark["error"]), rel=1e-4)
    assert look("cat").status == 400 and "no class 'cat'" in look("cat").json["error"]
    plain = ask(app, "/api/explore", "run=space/tiles").json
    assert plain["given_classes"] == [] and plain["needs_class"] is False


def test_stored_reproductions_are_called_by_their_files(app: Any) -> None:
    told = ask(app, "/api/moments", "run=space/tiles").json["space/tiles"]
    assert "bright/0.png" in told["heldout"]["names"] and len(told["heldout"]["names"]) == 16


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("decode", {}), ("decode", {"point": 3}), ("decode", {"point": {}}),
        ("decode", {"point": {"place": [1]}}), ("decode", {"point": {"place": [1, "x"]}}),
        ("decode", {"point": {"place": [1e39, 0]}}), ("decode", {"point": {"place": [True, 0]}}),
        ("decode", {"point": {"image": 30}}), ("decode", {"point": {"image": -1}}),
        ("decode", {"point": {"image": 1.5}}), ("decode", {"point": {"kept": 999}}),
        ("decode", {"point": {"image": 0, "directions": [1]}}),
        ("decode", {"point": {"image": 0, "directions": {"99": 1}}}),
        ("decode", {"point": {"image": 0, "dimensions": {"-1": 1}}}),
        ("decode", {"point": {"image": 0, "classes": {"plus": 9, "minus": 0}}}),
        ("decode", {"point": {"image": 0, "classes": "dark"}}),
        ("decode", {"point": {"image": 0, "classes": {"plus": 0, "minus": 1, "amount": "x"}}}),
        ("path", {"from": {"image": 0}, "to": {"image": 1}, "steps": 1000}),
        ("path", {"from": {"image": 0}}), ("samples", {"count": 10_000}),
        ("samples", {"sampler": "magic"}), ("samples", {"seed": -1}),
        ("nothing", {"point": {"image": 0}}), ("look", b"no picture"), ("look", b""),
        ("decode", b"[]"), ("decode", b"{"), ("decode", b'{"point": {"place": [NaN, 0]}}'),
        ("decode", b'{"x": "' + b"x" * 70_000 + b'"}'),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused_in_words(app: Any, name: str, given: Any) -> None:
    answer = question(app, name, given)
    assert answer.status in (400, 404) and answer.json["error"]
    assert "aelab-ui-" not in answer.json["error"]


def test_points_are_not_nested_without_end(app: Any) -> None:
    point: dict[str, Any] = {"image": 0}
    for _ in range(40):
        point = {"from": point, "to": {"image": 1}, "t": 0.5}
    assert question(app, "decode", {"point": point}).status == 400


def test_only_listed_runs_and_own_pages_are_answered(
    app: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("../pictures", "/etc", "", "space"):
        assert ask(app, "/api/explore", f"run={name}").status == 400
    foreign = {**OWN, "origin": "http://evil.example"}
    body = json.dumps({"point": {"image": 0}}).encode()
    refused = ask(app, "/api/explore/decode", "run=space/tiles", method="POST", headers=foreign,
                  body=body)  # fmt: skip
    assert refused.status == 403
    monkeypatch.setattr(explorer, "LARGEST_UPLOAD", 10)
    assert question(app, "look", b"12345678901").status == 413
    trusting = Lab(home / "trusted", trust=True, device="cpu")
    for _ in trusting.run(home / "tiles.yml"):
        pass
    careful = server.make_app(Lab(home / "trusted", device="cpu"))
    answer = ask(careful, "/api/explore", "run=space/tiles")
    assert answer.status == 400 and "--trust" in answer.json["error"]


def test_the_page_loads_its_own_files_only(app: Any) -> None:
    answer = ask(app, "/explore", "run=space/tiles")
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    page = answer.body.decode()
    assert "<script>" not in page and " onclick" not in page and " style=" not in page
    for name in ("explore.js", "explore.css"):
        assert ask(app, f"/assets/{name}").status == 200


def test_a_map_needs_different_codes() -> None:
    with pytest.raises(UserError, match="same code"):
        map_of(torch.ones(5, 3))


#: Drops a file, whose content stands in base64 at %s, onto the page.
DROP = """(() => {
  const given = new DataTransfer(), bytes = Uint8Array.from(atob("%s"), c => c.charCodeAt(0));
  given.items.add(new File([bytes], "mine.png", {type: "image/png"}));
  const options = {dataTransfer: given, bubbles: true, cancelable: true};
  document.querySelector("#drop").dispatchEvent(new DragEvent("drop", options));
})()"""
#: Adds the first class and takes the second away.
SET = """(() => {
  for (const [id, value] of [["#plus", "0"], ["#minus", "1"], ["#amount", "100"]]) {
    const control = document.querySelector(id);
    control.value = value;
    control.dispatchEvent(new Event("input", {bubbles: true}));
  }
})()"""


def trace(browser: Browser, corners: list[tuple[float, float]]) -> None:
    """Draws a line on the map with the mouse, from corner to corner, in shares of its size."""
    places = [browser.place("#map", *corner) for corner in corners]
    browser._mouse("mouseMoved", *places[0])
    browser._mouse("mousePressed", *places[0])
    for place in places[1:]:
        browser._mouse("mouseMoved", *place, held=True)
    browser._mouse("mouseReleased", *places[-1])


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_a_person_drags_lassoes_drops_and_calculates(
    app: Any, home: Path, served: Callable[[Any], str]
) -> None:
    address = served(app)
    answers = "Number(document.documentElement.dataset.answers)"
    with Browser(1400, 1000) as browser:
        browser.open(f"{address}explore?run=space/tiles", f"{answers} > 0")
        first, before = browser.run("document.querySelector('#shown').src"), browser.run(answers)
        browser.drag("#map", (0.2, 0.3), (0.8, 0.6))
        browser.wait(f"{answers} > {before}")
        assert browser.run("document.querySelector('#shown').src") != first
        assert "nearest image: " in browser.run("document.querySelector('#told').textContent")

        browser.click("input[value=lasso]")
        trace(browser, [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)])
        told = browser.run("document.querySelector('#chosen-count').textContent")
        assert told == "30 images: bright (15), dark (15)"
        names = browser.run("document.querySelector('#chosen-names').textContent")
        assert "dark/1.png" in names and "bright/28.png" in names
        browser.click("#forget")
        browser.click("input[value=move]")

        browser.click("#keep-a")
        browser.drag("#map", (0.7, 0.7), (0.3, 0.3))
        browser.wait(f"{answers} > {before} + 1")
        browser.click("#keep-b")
        browser.wait("document.querySelectorAll('#strips img').length === 18")
        assert not browser.run("document.querySelector('#way').disabled")

        picture = home / "pictures/dark/1.png"
        content = base64.b64encode(picture.read_bytes()).decode()
        browser.run(DROP % content)
        browser.wait("document.querySelectorAll('#seen .neighbour').length === 8")
        nearest = browser.run("document.querySelector('#seen .neighbour').textContent")
        assert nearest.startswith("dark, dark/1.png")

        before = browser.run(answers)
        browser.run(SET)
        browser.wait(f"{answers} > {before}")
        browser.click("#draw")
        browser.wait("document.querySelectorAll('#samples figure').length === 16")
        browser.click("#nearer")
        assert "of 30 images" in browser.run("document.querySelector('#seen-count').textContent")
        for width in (1400, 400):
            browser.resize(width, 800)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert serious_faults(browser) == []
        assert browser.errors == []
