"""What one sees of runs that write: texts and drawn pictures in the run, figures, ASCII art."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aelab import lab
from aelab.ascii import medium
from aelab.ascii.glyphs import (
    ALPHABET,
    font_renderer,
    numbers_to_images,
    side_by_side,
    to_grid,
    to_lines,
)
from aelab.ascii.medium import FONT_RES, Characters
from aelab.errors import UserError
from aelab.execute.reproductions import Reproductions
from aelab.medium import PIXELS
from aelab.metrics import Subject
from aelab.ops.subset import show_order
from aelab.report import texts
from aelab.runs.record import Run
from aelab.study.figures import FIGURES, drawn_figure
from aelab.types import Images, Output

SHAPE = (5, 9)

#: A run that writes and one that paints.
FILE = """
experiment_name: art/${kind}
matrix:
  kind: [text, paint]
globals:
  PAINT: (1, 5, 9)
train_set: |
  {
      "text": ascii_art_dataset("art", res=(5, 9), min_lines=1, min_ink=1),
      "paint": noise_dataset(PAINT, size=24, seed=1),
  }[kind]
validation_set: |
  {
      "text": ascii_art_dataset("art", res=(5, 9), min_lines=1, min_ink=1),
      "paint": noise_dataset(PAINT, size=24, seed=2),
  }[kind]
model: |
  {
      "text": CharacterAutoencoder(
          EncoderMLP((95, 5, 9), code_size=32), None, DecoderMLP((95, 5, 9), code_size=32)
      ),
      "paint": EncoderDecoder(EncoderMLP(PAINT, code_size=8), DecoderMLP(PAINT, code_size=8)),
  }[kind]
optimizer: Adam
batch_size: 8
learnrate: 0.001
max_inputs: 48
num_inputs_between_validations: 16
"""


class Copying(torch.nn.Module):
    """Its latent is the text itself, so its text is what was read."""

    noise_shape = None
    terms = ()
    medium = Characters()

    def forward(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self.decode(latent), latent)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.reshape(-1, 1, *SHAPE)


def _images(count: int = 20) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 95, (count, 1, *SHAPE), dtype=torch.uint8, generator=generator)
    return Images(pixels, medium=Characters())


def _run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "art"
    folder.mkdir(parents=True)
    record = {
        "format": 1, "name": "art", "folder": "art", "identity": "0", "matrix": {},
        "shape": [1, *SHAPE], "alphabet": ALPHABET, "cell": list(Characters().cell),
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "status.json").write_text('{"state": "finished"}', encoding="utf-8")
    return Run.at(folder)


def test_texts_are_written_beside_their_originals_with_the_pictures(tmp_path: Path) -> None:
    run, images = _run(tmp_path), _images()
    shown = Reproductions(run, {"train": images, "heldout": images})
    shown.originals()
    assert shown.example == ""
    shown.write(Copying(), 320)
    first = to_lines(images.pixels[show_order(len(images))[0], 0])
    originals = run.read_text("text/heldout-originals.txt").split("\n")
    assert originals[:6] == [*first, ""]
    assert len(originals) == 16 * 6
    stored = run.read_text("text/heldout-000000320.txt").split("\n")
    assert stored[:5] == side_by_side(first, first) == shown.example.split("\n")
    assert stored[5] == ""
    assert (run.path / "images" / "train-000000320.png").is_file()


def test_stored_pictures_of_characters_are_drawn_in_the_font(tmp_path: Path) -> None:
    run, images = _run(tmp_path), _images()
    Reproductions(run, {"heldout": images}).originals()
    height, width = Characters().cell
    with Image.open(run.path / "images" / "heldout-originals.png") as row:
        assert row.size == (16 * SHAPE[1] * width, SHAPE[0] * height)
        stored = torch.frombuffer(bytearray(row.tobytes()), dtype=torch.uint8).view(row.height, -1)
    first = images.pixels[show_order(len(images))[:1], 0]
    drawn = font_renderer(FONT_RES).draw(first)[0, 0]
    assert torch.equal(stored[:, : SHAPE[1] * width], (drawn * 255).round().to(torch.uint8))


def test_numbers_beyond_the_alphabet_and_pictures_are_shown_too() -> None:
    wild = torch.tensor([-0.5, 2.0]).view(1, 1, 1, 2)
    expected = Characters().picture(numbers_to_images(torch.tensor([[[0, 94]]])))
    assert torch.equal(Characters().picture(wild), expected)
    assert PIXELS.picture(wild).flatten().tolist() == [0, 255]


def test_large_sets_are_drawn_in_pieces_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = numbers_to_images(_images(7).pixels[:, 0])
    whole = Characters().picture(images)
    monkeypatch.setattr(medium, "CELLS", 2 * SHAPE[0] * SHAPE[1])
    assert torch.equal(Characters().picture(images), whole)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(Copying(), _images(24), _images(30))


def test_figures_show_drawn_characters(subject: Subject) -> None:
    for name, options in {
        "reproductions": {"count": 4},
        "interpolation": {"pairs": 2, "steps": 3},
        "traversals": {"dimensions": 2, "steps": 3},
        "sample": {"count": 10},
        "inputs": {"count": 4},
    }.items():
        with Image.open(io.BytesIO(drawn_figure(name, subject, options).content)) as picture:
            assert picture.height >= 2 * SHAPE[0] * Characters().cell[0], name
            assert picture.convert("L").getextrema()[1] == 255, name
    assert drawn_figure("map", subject).suffix == ".png"


def test_tiles_hold_the_drawn_characters_exactly(subject: Subject) -> None:
    with Image.open(io.BytesIO(drawn_figure("inputs", subject, {"count": 1}).content)) as picture:
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    assert torch.equal(pixels, Characters().picture(subject.images[subject.shown[:1]]).flatten())


def test_a_figure_of_pixels_says_that_characters_are_none(subject: Subject) -> None:
    assert FIGURES["frequency"].medium == "pixels"
    with pytest.raises(UserError, match="characters, not pixels"):
        drawn_figure("frequency", subject)


def test_the_nearest_training_text_is_the_one_with_most_equal_characters() -> None:
    from aelab.study.figures.sheets import nearest_training_images

    train = torch.stack([to_grid(["~~~~~~~~~"] * 5, SHAPE), to_grid(["         "] * 5, SHAPE)])
    # One tilde in a blank text: by brightness nearer to neither than by characters to the blank.
    heldout = to_grid(["~        "], SHAPE)[None]
    model = Subject(
        Copying(),
        Images(heldout[:, None], medium=Characters()),
        Images(train[:, None], medium=Characters()),
    )
    found = nearest_training_images(model, model.images)
    assert torch.equal(found, model.train_images[1:])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that writes and one that paints."""
    folder = tmp_path_factory.mktemp("seeing")
    (folder / "art").mkdir()
    for number in range(24):
        drawing = ["/-\\" * (1 + number % 3), "|" + chr(65 + number) + "|", "\\_/" * 2]
        (folder / "art" / f"{number}.txt").write_text("\n".join(drawing) + "\n", encoding="utf-8")
    (folder / "art.yml").write_text(FILE, encoding="utf-8")
    events = list(lab.run(folder / "art.yml", runs=folder / "runs"))
    failed = [event.message for event in events if type(event).__name__ == "RunErred"]
    assert not failed, failed
    ended = {e.name: e.text for e in events if type(e).__name__ == "RunFinished"}
    assert "   |   " in ended["art/text"] and ended["art/paint"] == ""
    return folder / "runs"


def test_a_run_records_its_characters_and_their_size(store: Path) -> None:
    record = json.loads((store / "art" / "text" / "run.json").read_text(encoding="utf-8"))
    assert record["alphabet"] == ALPHABET
    assert record["cell"] == list(font_renderer(FONT_RES).cell)
    other = json.loads((store / "art" / "paint" / "run.json").read_text(encoding="utf-8"))
    assert "alphabet" not in other and not (store / "art" / "paint" / "text").exists()


def test_a_validation_tells_a_text_when_one_was_stored(store: Path, tmp_path: Path) -> None:
    events = list(lab.run(store.parent / "art.yml", only="*text", runs=tmp_path / "again"))
    told = [e for e in events if type(e).__name__ == "RunValidated" and e.text]
    stored = texts.moments(Run.at(tmp_path / "again" / "art" / "text"))
    assert {event.images for event in told} <= set(stored)
    assert told[0].text.count("\n") == SHAPE[0] - 1


def test_show_prints_stored_examples(store: Path) -> None:
    text = lab.show("art/text", count=2, runs=store)
    head, *blocks = text.split("\n\n")
    assert "art/text: held-out images after 48 images" in head
    assert len(blocks) == 2
    assert all(len(block.split("\n")) == SHAPE[0] for block in blocks)
    assert "after 0 images" in lab.show("art/text", split="train", images=3, runs=store)


def test_show_says_what_to_do_for_runs_that_paint(store: Path) -> None:
    with pytest.raises(UserError, match="outputs pictures") as refused:
        lab.show("art/paint", runs=store)
    assert "aelab figure reproductions art/paint" in str(refused.value)


def test_a_film_and_a_sheet_of_several_runs_show_characters(store: Path, tmp_path: Path) -> None:
    height, width = Characters().cell
    film = lab.figure("film", "art/text", out=tmp_path / "film.webp", runs=store)
    with Image.open(film) as frame:
        shown = 8 * SHAPE[1] * width, SHAPE[0] * height
        assert frame.width % shown[0] == 0 and frame.height > 2 * shown[1]
    out = tmp_path / "both.png"
    data = [store.parent]
    lab.figure_together(
        "reproductions", ["art/text"], out=out, options={"count": 3}, runs=store, data=data
    )
    with Image.open(out) as sheet:
        assert sheet.width > 3 * SHAPE[1] * width


def _picture(path: Path, lines: list[str], shape: tuple[int, int]) -> Path:
    """The lines as a picture drawn in the font."""
    drawn = font_renderer(FONT_RES).draw(to_grid(lines, shape)[None])[0, 0]
    array = (drawn * 255).round().to(torch.uint8).numpy()
    Image.fromarray(array).save(path)
    return path


def test_a_picture_becomes_the_characters_it_was_drawn_with(store: Path, tmp_path: Path) -> None:
    lines = ["/-\\/-\\", "|A|", "\\_/\\_/"]
    picture = _picture(tmp_path / "a.png", lines, SHAPE)
    art = lab.write(picture, "art/text", runs=store)
    assert art.matched == to_lines(to_grid(lines, SHAPE))
    assert [len(line) for line in art.written] == [SHAPE[1]] * SHAPE[0]
    assert art.beside() == side_by_side(art.matched, art.written)


def test_what_is_written_is_the_models_reconstruction(store: Path, tmp_path: Path) -> None:
    lines = ["/-\\", "|B|", "\\_/\\_/"]
    source = tmp_path / "b.txt"
    source.write_text("\n".join(f"   {line}" for line in lines), encoding="utf-8")
    art = lab.write(source, "art/text", runs=store)
    model = lab.open_model("art/text", runs=store)
    images = numbers_to_images(torch.stack([to_grid(art.matched, SHAPE)]))
    with torch.no_grad():
        expected = model(images).reconstruction
    assert art.written == to_lines((expected[0, 0] * 255).round())


def test_inverted_and_transparent_pictures_are_read_on_white_paper(
    store: Path, tmp_path: Path
) -> None:
    lines = ["(o_o)", "<| |>"]
    picture = _picture(tmp_path / "c.png", lines, SHAPE)
    with Image.open(picture) as drawn:
        dark = drawn.point(lambda value: 255 - value)
        dark.save(tmp_path / "dark.webp", lossless=True)
        clear = Image.merge("LA", (Image.new("L", drawn.size, 0), dark))
        clear.save(tmp_path / "clear.png")
    wanted = lab.write(picture, "art/text", runs=store).matched
    inverted = lab.write(tmp_path / "dark.webp", "art/text", invert=True, runs=store)
    assert inverted.matched == wanted
    assert lab.write(tmp_path / "clear.png", "art/text", runs=store).matched == wanted


def test_columns_wider_than_the_grid_are_written_part_by_part(store: Path, tmp_path: Path) -> None:
    lines = [character * 20 for character in "=/#"]
    picture = _picture(tmp_path / "wide.png", lines, (3, 20))
    art = lab.write(picture, "art/text", columns=20, runs=store)
    assert len(art.written) == 5 and {len(line) for line in art.written} == {27}
    assert [line.strip() for line in art.matched if line.strip()] == lines
    # Each part is what the model makes of it alone.
    part = [line[9:18] for line in art.matched]
    (tmp_path / "part.txt").write_text("\n".join(part), encoding="utf-8")
    alone = lab.write(tmp_path / "part.txt", "art/text", runs=store)
    if alone.matched == part:
        assert alone.written == [line[9:18] for line in art.written]


def test_proportions_are_kept_in_cells_that_are_higher_than_wide(
    store: Path, tmp_path: Path
) -> None:
    Image.new("L", (100, 100), 0).save(tmp_path / "square.png")
    art = lab.write(tmp_path / "square.png", "art/text", columns=90, runs=store)
    inked = sum(bool(line.strip()) for line in art.matched)
    height, width = Characters().cell
    assert inked == round(90 * width / height)


def test_art_is_saved_as_text_and_as_the_picture_of_it(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "d.txt"
    source.write_text("/-\\\n\\_/\n", encoding="utf-8")
    art = lab.write(source, "art/text", out=tmp_path / "new" / "d.txt", runs=store)
    assert (tmp_path / "new" / "d.txt").read_text(encoding="utf-8").split("\n") == [
        *art.written,
        "",
    ]
    lab.write(source, "art/text", out=tmp_path / "d.png", beside=True, runs=store)
    with Image.open(tmp_path / "d.png") as picture:
        assert picture.size == (
            len(art.beside()[0]) * Characters().cell[1],
            SHAPE[0] * Characters().cell[0],
        )


def test_frames_begin_and_end_with_what_the_model_makes_of_the_ends(
    store: Path, tmp_path: Path
) -> None:
    ends = []
    for name, lines in {"e": ["/-\\", "|E|"], "f": ["\\_/\\_/", "|F|"]}.items():
        ends.append(tmp_path / f"{name}.txt")
        ends[-1].write_text("\n".join(lines), encoding="utf-8")
    for path in ("linear", "spherical"):
        frames = lab.write_between(*ends, "art/text", steps=5, path=path, runs=store)
        assert len(frames) == 5
        for frame, source in ((frames[0], ends[0]), (frames[-1], ends[1])):
            assert frame == lab.write(source, "art/text", runs=store).written
    still = lab.write_between(ends[0], ends[0], "art/text", steps=3, runs=store)
    assert still == [still[0]] * 3  # weights sum to 1: between equal ends nothing moves


@pytest.mark.parametrize("name", ["f.txt", "f.png", "f.gif", "f.webp"])
def test_frames_are_saved_as_text_row_and_film(store: Path, tmp_path: Path, name: str) -> None:
    for letter in "GH":
        (tmp_path / f"{letter}.txt").write_text(f"/-\\\n|{letter}|\n", encoding="utf-8")
    ends = tmp_path / "G.txt", tmp_path / "H.txt"
    out = tmp_path / name
    frames = lab.write_between(*ends, "art/text", steps=4, out=out, runs=store)
    if name.endswith("txt"):
        assert len(out.read_text(encoding="utf-8").split("\n")) == 4 * 6
        return
    with Image.open(out) as picture:
        width = SHAPE[1] * Characters().cell[1]
        assert picture.height == SHAPE[0] * Characters().cell[0]
        if name.endswith("png"):
            assert picture.width == 4 * width + 3 * FONT_RES
        else:
            assert picture.width == width
            # Equal neighbours may be stored as one frame that stays longer.
            distinct = sum(a != b for a, b in pairwise(frames))
            assert distinct + 1 <= getattr(picture, "n_frames", 1) <= 4


def test_each_mistake_says_the_way_out(store: Path, tmp_path: Path) -> None:
    text, binary = tmp_path / "t.txt", tmp_path / "t.bin"
    text.write_text("abc\n", encoding="utf-8")
    binary.write_bytes(bytes(range(256)))
    (tmp_path / "u.txt").write_text("Ω\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    Image.new("L", (2, 4000)).save(tmp_path / "high.png")
    for words, call in {
        "outputs pictures": lambda: lab.write(text, "art/paint", runs=store),
        "cannot read": lambda: lab.write(tmp_path / "none.png", "art/text", runs=store),
        "not a picture that Pillow": lambda: lab.write(binary, "art/text", runs=store),
        "printable": lambda: lab.write(tmp_path / "u.txt", "art/text", runs=store),
        "no line": lambda: lab.write(tmp_path / "empty.txt", "art/text", runs=store),
        "--invert is for": lambda: lab.write(text, "art/text", invert=True, runs=store),
        "--columns is for": lambda: lab.write(text, "art/text", columns=9, runs=store),
        "--columns 0": lambda: lab.write(text, "art/text", columns=0, runs=store),
        "fewer": lambda: lab.write(tmp_path / "high.png", "art/text", columns=100, runs=store),
        "unknown match": lambda: lab.write(text, "art/text", match="x", runs=store),  # type: ignore[arg-type]
        "written as": lambda: lab.write(text, "art/text", out=tmp_path / "a.doc", runs=store),
        "unknown path": lambda: lab.write_between(text, text, "art/text", path="x", runs=store),  # type: ignore[arg-type]
        "--steps 1": lambda: lab.write_between(text, text, "art/text", steps=1, runs=store),
    }.items():
        with pytest.raises(UserError, match=words) as refused:
            call()
        assert refused.value.hint or words.startswith("--"), words


def test_a_map_names_its_classes_unless_they_would_cover_it() -> None:
    from aelab.report.scatter import MOST_NAMED, scatter_map

    points = np.random.default_rng(0).normal(size=(2 * MOST_NAMED + 2, 2))
    for classes, named in ((MOST_NAMED, MOST_NAMED), (MOST_NAMED + 1, 0)):
        figure = scatter_map(points, np.arange(len(points)) % classes, "")
        assert len(figure.axes[0].texts) == named
