"""A trained run used on one's own images: folders, data sets, arrays and pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from aelab.cli.main import app
from aelab.data import Dataset, TensorDataset
from aelab.data.sources.pictures import image_folder_dataset
from aelab.errors import AelabError, ConfigError, MissingExtra, ShapeError, UserError
from aelab.lab import Lab
from aelab.study.opened import OpenedRun

FILE = """
experiment_name: use/CHANNELS
train_set: image_folder_dataset("pictures", (CHANNELS, 8, 8))
validation_set: image_folder_dataset("pictures", (CHANNELS, 8, 8))
model: |
  EncoderDecoder(
      EncoderMLP((CHANNELS, 8, 8), code_size=3), DecoderMLP((CHANNELS, 8, 8), code_size=3)
  )
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_images: 64
"""


def paint(folder: Path) -> None:
    """Pictures of 16 x 12 pixels in two classes, transparent at the left; two are equal."""
    made = np.random.default_rng(0)
    for number in range(12):
        kind = ("cat", "dog")[number % 2]
        pixels = made.integers(0, 256, (12, 16, 4), dtype=np.uint8)
        pixels[:, :4, 3] = 0
        pixels[:, 4:, 3] = 255
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    (folder / "dog" / "copy.png").write_bytes((folder / "dog" / "11.png").read_bytes())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures/`, and `runs/` with `use/3` and `use/4` trained on them."""
    folder = tmp_path_factory.mktemp("use")
    paint(folder / "pictures")
    for channels in (3, 4):
        (folder / f"{channels}.yml").write_text(FILE.replace("CHANNELS", str(channels)))
        for _ in Lab(folder / "runs", device="cpu").run(folder / f"{channels}.yml"):
            pass
    return folder


@pytest.fixture(scope="module")
def opened(home: Path) -> OpenedRun:
    return Lab(home / "runs", device="cpu").open("use/3")


class Pairs(torch.utils.data.Dataset[Any]):
    """A torch data set of pictures and labels."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[row].permute(1, 2, 0).numpy()), row % 2


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


PIXELS = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize(
    "given",
    [
        PIXELS.numpy(),
        PIXELS.permute(0, 2, 3, 1).numpy(),
        PIXELS.float() / 255,
        TensorDataset(PIXELS),
        Pairs(PIXELS),
        [Pairs(PIXELS)[row][0] for row in range(5)],
        list(PIXELS),
    ],
    ids=["array", "channels last", "floats", "set", "torch set", "pictures", "list"],
)
def test_whatever_holds_images_is_encoded_alike(opened: OpenedRun, given: Any) -> None:
    torch.testing.assert_close(opened.encode(given), opened.encode(PIXELS))


def test_folders_and_pictures_are_brought_to_the_size_of_the_run(
    opened: OpenedRun, home: Path
) -> None:
    folder = home / "pictures"
    wanted = image_folder_dataset(str(folder), (3, 8, 8)).load()
    given = opened.inputs(folder)
    assert torch.equal(given.pixels, wanted.pixels)
    assert given.file_names[:2] == ("cat/0.png", "cat/10.png")
    assert given.class_names == ("cat",) * 6 + ("dog",) * 7
    paths = [folder / name for name in given.file_names]
    torch.testing.assert_close(opened.encode(paths), opened.encode(folder))
    assert opened.encode(paths[0]).shape == (1, 3)
    assert opened.inputs(Image.open(paths[0])).shape == (3, 8, 8)
    assert opened.inputs("noise_dataset((1, 20, 20), size=4)").pixels.shape == (4, 3, 8, 8)
    assert len(opened.inputs("validation")) == 13


def test_names_follow_the_images_through_every_change_of_a_set(home: Path) -> None:
    pictures: Dataset = image_folder_dataset(str(home / "pictures"), (3, 8, 8))
    changed = pictures.shuffle().skip(2).repeat(2).resize((1, 4, 4)).random_shift(1).freeze()
    names = changed.file_names
    assert len(names) == len(changed) == 22 and names[0] == names[1] != names[2]
    rows = [pictures.file_names.index(name) for name in names]
    assert changed.class_names == tuple(pictures.class_names[row] for row in rows)
    both = pictures.limit(2).interleave(TensorDataset(torch.zeros(1, 3, 8, 8)))
    assert both.file_names == ("cat/0.png", "", "cat/10.png")
    assert TensorDataset(torch.zeros(2, 1, 4, 4), torch.tensor([3, 1])).class_names == ("3", "1")


@pytest.mark.parametrize("ending", ["csv", "npz", "parquet"])
def test_codes_are_written_with_file_and_class(
    opened: OpenedRun, home: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"codes.{ending}"
    codes = opened.encode(home / "pictures", out=out)
    files: Any
    if ending == "csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
        files, classes = [row["file"] for row in rows], [row["class"] for row in rows]
        read = [[float(row[f"code_{n}"]) for n in range(3)] for row in rows]
    elif ending == "npz":
        with np.load(out) as arrays:
            files, classes, read = list(arrays["files"]), list(arrays["classes"]), arrays["codes"]
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(out).to_pydict()
        files, classes = table["file"], table["class"]
        read = np.stack([table[f"code_{n}"] for n in range(3)], 1)
    assert torch.equal(torch.tensor(np.array(read, dtype=np.float32)), codes)
    assert (files[0], classes[0], classes[-1], len(files)) == ("cat/0.png", "cat", "dog", 13)
    opened.encode(home / "pictures", out=out)  # its own file is replaced
    out.write_text("somebody's own")
    with pytest.raises(UserError, match="did not make it"):
        opened.encode(home / "pictures", out=out)


def mistakes(home: Path) -> dict[str, tuple[Callable[[OpenedRun], Any], type[AelabError], str]]:
    """What goes wrong, the kind of error, and a part of its message."""
    return {
        "size": (lambda run: run.encode(np.zeros((2, 3, 9, 9))), ShapeError, "these are of 3x9x9"),
        "ending": (lambda run: run.encode("train", out="a.txt"), UserError, ".csv"),
        "nothing": (lambda run: run.encode("nothing"), AelabError, "no data set is called"),
        "no set": (lambda run: run.encode("len((1, 2))"), UserError, "must be a data set, not int"),
        "medium": (
            lambda run: run.encode("figlet_ascii_dataset((3, 20), samples=4)"),
            ConfigError,
            "the model outputs pixels",
        ),
        "class": (
            lambda run: run.encode("train", classes="cat"),
            UserError,
            "knows no classes",
        ),
        "class of tensors": (
            lambda run: run.reconstruct(torch.zeros(1, 3, 12, 16), classes="cat"),
            UserError,
            "leave --class",
        ),
        "word": (lambda run: run.encode(7), ConfigError, "is not a set of images"),
    }


@pytest.mark.parametrize("case", mistakes(Path()))
def test_a_mistake_is_told_with_the_way_out(opened: OpenedRun, home: Path, case: str) -> None:
    call, kind, message = mistakes(home)[case]
    with pytest.raises(kind) as raised:
        call(opened)
    assert message in str(raised.value)


def test_parquet_without_its_package_says_what_to_install(
    opened: OpenedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="pyarrow") as raised:
        opened.encode("train", out="codes.parquet")
    assert "aelab[frames]" in str(raised.value)


def test_reconstructions_are_written_with_the_worst_first(
    opened: OpenedRun, home: Path, tmp_path: Path
) -> None:
    made = opened.reconstruct(home / "pictures", out=tmp_path, count=5)
    torch.testing.assert_close(made, opened.reconstruct(opened.inputs(home / "pictures").pixels))
    rows = list(csv.DictReader((tmp_path / "errors.csv").read_text().splitlines()))
    errors = [float(row["L2"]) for row in rows]
    assert len(rows) == 13 and errors == sorted(errors, reverse=True)
    pictures = sorted(path.name for path in tmp_path.glob("0*.png"))
    assert pictures == [row["picture"] for row in rows[:5]] and not rows[5]["picture"]
    assert rows[0]["picture"].startswith(f"0001-{rows[0]['class']}-")
    assert size_of(tmp_path / pictures[0]) == (8, 8)
    with Image.open(tmp_path / "worst.png") as sheet:
        assert sheet.size[0] > 400
    opened.reconstruct(home / "pictures", out=tmp_path, count=1, beside=True)
    assert size_of(tmp_path / pictures[0]) == (16, 8)
    with pytest.raises(UserError, match="at least one"):
        opened.reconstruct("train", count=0)


def test_samples_are_single_files_that_keep_their_transparency(home: Path, tmp_path: Path) -> None:
    opened = Lab(home / "runs", device="cpu").open("use/4")
    made = opened.sample(3, "gaussian", seed=5, out=tmp_path / "new")
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == [f"sample-000{n}.png" for n in (1, 2, 3)]
    with Image.open(files[2]) as picture:
        assert picture.mode == "RGBA"
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(pixels, (made[2].clamp(0, 1) * 255).round().byte())
    assert torch.equal(opened.sample(3, "gaussian", seed=5), made)
    assert not torch.equal(opened.sample(3, "gaussian", seed=6), made)
    files[0].write_bytes(b"mine")
    with pytest.raises(UserError, match="did not make it"):
        opened.sample(3, out=tmp_path / "new")
    with pytest.raises(UserError, match="at least one"):
        opened.sample(0)


def test_neighbours_find_the_copy(opened: OpenedRun, home: Path, tmp_path: Path) -> None:
    found = opened.neighbours(home / "pictures", out=tmp_path / "near")
    pair = {found.files[0], found.nearest_files[0]}
    assert pair == {"dog/11.png", "dog/copy.png"}
    assert found.pixels[0] == 0 and found.distances[0] == 0 and found.distances[1] > 0
    assert "1 of" in found.text().splitlines()[-1]
    rows = list(csv.DictReader((tmp_path / "near/neighbours.csv").read_text().splitlines()))
    assert {rows[0]["file"], rows[0]["nearest"]} == pair and len(rows) == len(found.files)
    assert (tmp_path / "near/neighbours.png").stat().st_size > 500
    both = [frozenset(two) for two in zip(found.files, found.nearest_files, strict=True)]
    assert len(set(both)) == len(both)
    among = opened.neighbours(home / "pictures/dog/copy.png", among=home / "pictures/dog")
    assert among.nearest_files == ["11.png"] or among.nearest_files == ["copy.png"]
    with pytest.raises(AelabError, match="only one image"):
        opened.neighbours(home / "pictures/dog/copy.png")


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_an_interpolation_begins_and_ends_at_the_reconstructions(
    opened: OpenedRun, home: Path, tmp_path: Path, path: str
) -> None:
    ends = home / "pictures/cat/0.png", home / "pictures/dog/1.png"
    made = opened.interpolate(*ends, steps=5, path=path, out=tmp_path / "film.gif")
    assert made.shape == (5, 3, 8, 8)
    torch.testing.assert_close(made[[0, 4]], opened.reconstruct(list(ends)))
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size) == (5, (256, 256))  # type: ignore[attr-defined]
    opened.interpolate(*ends, steps=3, path=path, out=tmp_path / "frames")
    assert [p.name for p in sorted((tmp_path / "frames").iterdir())][2] == "frame-0003.png"
    opened.interpolate(*ends, steps=3, path=path, out=tmp_path / "row.png")
    assert size_of(tmp_path / "row.png") == (24, 8)


def test_mistakes_of_interpolations_are_told(opened: OpenedRun, home: Path, tmp_path: Path) -> None:
    end = home / "pictures/cat/0.png"
    with pytest.raises(UserError, match="holds 13"):
        opened.interpolate(end, home / "pictures")
    with pytest.raises(UserError, match="did you mean 'linear'"):
        opened.interpolate(end, end, path="liner")
    with pytest.raises(UserError, match="frames are written as"):
        opened.interpolate(end, end, out=tmp_path / "a.txt")
    with pytest.raises(UserError, match="is an input"):
        opened.interpolate(end, end, out=end, force=True)


def test_the_verbs_of_the_command_line_do_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = str(home / "pictures")
    two = [f"{pictures}/cat/0.png", f"{pictures}/dog/1.png"]
    for words, file in (
        (["encode", "use/3", pictures], "codes.csv"),
        (["reconstruct", "use/3", pictures, "-n", "2"], "reconstructions/errors.csv"),
        (["neighbours", "use/3", pictures, "--among", "train"], "neighbours/neighbours.csv"),
        (["sample", "use/3", "-n", "2", "--seed", "1"], "samples/sample-0002.png"),
        (["interpolate", "use/3", *two, "--path", "spherical"], "interpolation.gif"),
    ):
        answer = CliRunner().invoke(app, [*words, "--runs", str(home / "runs"), "--device", "cpu"])
        assert answer.exit_code == 0, answer.output
        assert (tmp_path / file).is_file()
        assert file.split("/")[0] in answer.output
