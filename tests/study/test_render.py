"""Rendering stored runs at any size, and scoring the renders against larger originals."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import aelab
from aelab import lab
from aelab.data.sources.kali import kali_dataset
from aelab.errors import ConfigError, DataError, ShapeError, StoreError, UserError
from aelab.ops.resize import resize
from aelab.ops.sampling import Region
from aelab.ops.subset import draw_order, show_order
from aelab.study.rendering import region_of, size_of
from aelab.study.superresolution_score import (
    OF_ORIGINAL,
    PICTURES,
    RENDER,
    picture_errors,
    scores_table,
)


class Waves(nn.Module):
    """A stand-in decoder: two linear layers from latent and position to colour."""

    def __init__(self, code_size: int, shape: Sequence[int], hidden: int = 16) -> None:
        super().__init__()
        self.default_shape = (shape[1], shape[2])
        self.first = nn.Linear(code_size + 2, hidden)
        self.last = nn.Linear(hidden, shape[0])

    def render(
        self,
        latent: Tensor,
        shape: tuple[int, int],
        region: tuple[float, float, float, float] = (-1, -1, 1, 1),
    ) -> Tensor:
        """(B, D) -> (B, C, *shape)."""
        y, x = (
            torch.linspace(region[1], region[3], shape[0], device=latent.device),
            torch.linspace(region[0], region[2], shape[1], device=latent.device),
        )
        place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(1, -1, 2)
        given = latent[:, None].expand(-1, place.shape[1], -1)
        both = torch.cat([given, place.expand(len(latent), -1, -1)], -1)
        colour = torch.sigmoid(self.last(torch.sin(3 * self.first(both))))
        return colour.transpose(1, 2).reshape(len(latent), -1, *shape)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""
        return self.render(latent, self.default_shape)


FILE = """
experiment_name: waves
globals:
  SHAPE: (3, 8, 10)
  LARGE: (3, 16, 20)
train_set: kali_dataset(SHAPE, size=64, seed=1, max_iterations=5)
validation_set: kali_dataset(SHAPE, size=20, seed=2, max_iterations=5)
model: EncoderDecoder(EncoderMLP(SHAPE, code_size=4, hidden=(16,)), WavesForTests(4, SHAPE))
batch_size: 16
learnrate: 0.01
optimizer: Adam
max_inputs: 64
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`waves`, and `fixed` with a decoder of one size, `small` with another text."""
    aelab.register("WavesForTests", Waves)
    folder = tmp_path_factory.mktemp("render")
    texts = {
        "waves": FILE,
        "fixed": FILE.replace("WavesForTests(4, SHAPE)", "DecoderMLP(SHAPE, code_size=4)"),
        "literal": FILE.replace("kali_dataset(SHAPE", "kali_dataset((3, 8, 10)"),
        "noise": FILE.replace("kali_dataset(SHAPE, size=20, seed=2, max_iterations=5)",
                              "noise_dataset((3, 8, 10), size=20, seed=2).resize(SHAPE)"),
        "layers": FILE.replace("WavesForTests(4, SHAPE)",
                               "nn.Sequential(nn.Linear(4, 6), WavesForTests(6, SHAPE))"),
    }  # fmt: skip
    for name, text in texts.items():
        file = folder / f"{name}.yml"
        file.write_text(text.replace("experiment_name: waves", f"experiment_name: {name}"))
        for _ in lab.run(file, runs=folder / "runs", device="cpu"):
            pass
    return folder / "runs"


def test_a_sheet_a_size_is_written(runs: Path, tmp_path: Path) -> None:
    rendered = lab.render("waves", sizes=[20, "15x30"], images=3, runs=runs, out=tmp_path / "a")
    assert [path.name for path in rendered.files] == ["waves-20x16.png", "waves-15x30.png"]
    with Image.open(rendered.files[0]) as sheet:
        assert sheet.height > 4 * 5 * 16  # four rows, each pixel a square of five
    assert rendered.scores == ()


def test_the_sizes_are_twice_and_four_times_by_default(runs: Path, tmp_path: Path) -> None:
    rendered = lab.render("waves", images=1, runs=runs, out=tmp_path, split="train")
    assert [path.name for path in rendered.files] == ["waves-20x16.png", "waves-40x32.png"]


def test_a_render_at_the_own_size_is_the_reconstruction(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aelab.study import rendering as module

    drawn: dict[str, Tensor] = {}
    from aelab.tensor_pictures import picture_line as line

    monkeypatch.setattr(
        module, "picture_line", lambda n, t, **k: (drawn.update({n: t}), line(n, t, **k))[1]
    )
    lab.render("waves", sizes=["10x8"], images=4, runs=runs, out=tmp_path)
    torch.testing.assert_close(drawn["render 10x8"], drawn["reconstruction"])
    whole = lab.open_model("waves", runs=runs)
    assert isinstance(whole.decoder, Waves)
    lab.render("waves", sizes=["4x4"], zoom="0,0,1,1", images=4, runs=runs, out=tmp_path)
    set_ = kali_dataset((3, 8, 10), size=20, seed=2, max_iterations=5)
    images = set_.load().pixels[show_order(20)[:4]] / 255
    with torch.no_grad():
        wanted = whole.decoder.render(whole.encode(images), (4, 4), (0, 0, 1, 1))  # type: ignore[operator]
    torch.testing.assert_close(drawn["render 4x4"], wanted)


def test_layers_before_the_decoder_are_part_of_it(runs: Path, tmp_path: Path) -> None:
    assert len(lab.render("layers", images=2, runs=runs, out=tmp_path).files) == 2


@pytest.mark.parametrize(
    ("text", "size"), [("64", (48, 64)), (64, (48, 64)), ("96x64", (64, 96)), ("2x", (12, 16))]
)
def test_sizes_are_written_as_width_width_x_height_or_times(
    text: str | int, size: tuple[int, int]
) -> None:
    assert size_of(text, (6, 8)) == size


def test_the_height_follows_the_aspect_of_the_window() -> None:
    assert size_of("64", (8, 8), Region(0, 0, 1, 0.5)) == (32, 64)


@pytest.mark.parametrize("text", ["0", "x64", "many", "64x0", "9000", "-2"])
def test_an_impossible_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a size to render"):
        size_of(text, (8, 8))


@pytest.mark.parametrize("text", ["0,0,1", "1,0,0,1", "0,0,nan,1", "a,b,c,d", "0,0,1,1,1"])
def test_an_impossible_window_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="x0 < x1 and y0 < y1"):
        region_of(text)


def test_a_fixed_grid_names_the_decoders_that_can(runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"DecoderMLP.*one size\n.*render any size"):
        lab.render("fixed", runs=runs)


def test_an_unknown_run_names_what_is_near(runs: Path) -> None:
    with pytest.raises(StoreError, match="waves"):
        lab.render("wave-1", runs=runs)


def test_the_runs_own_set_is_taken_larger(runs: Path, tmp_path: Path) -> None:
    rendered = lab.render("waves", truth=True, images=7, runs=runs, out=tmp_path)
    assert [path.name for path in rendered.files] == [
        "waves-truth-20x16.png", "waves-truth-40x32.png", "waves-truth.csv"
    ]  # fmt: skip
    twice, four = rendered.scores
    assert (twice.size, four.size) == ((16, 20), (32, 40))
    set_ = kali_dataset((3, 32, 40), size=20, seed=2, max_iterations=5)
    large = set_.load().pixels[draw_order(20)[:7]] / 255
    bicubic = resize(resize(large, (8, 10), "area"), (32, 40), "bicubic")
    found = four.errors[OF_ORIGINAL]
    torch.testing.assert_close(found.l2, (bicubic - large).square().mean((1, 2, 3)), rtol=0.05,
                               atol=1e-5)  # fmt: skip
    torch.testing.assert_close(found.psnr, -10 * found.l2.log10())
    with rendered.files[-1].open() as file:
        assert len(list(csv.DictReader(file))) == 2 * len(PICTURES) * 7


def test_larger_originals_can_be_given(runs: Path, tmp_path: Path) -> None:
    text = "kali_dataset(LARGE, size=9, seed=5, max_iterations=5)"
    (score,) = lab.render("literal", truth=text, runs=runs, out=tmp_path).scores
    assert score.size == (16, 20) and len(score.errors[RENDER].l1) == 9
    with pytest.raises(UserError, match="must be a data set, not int"):
        lab.render("waves", truth="1 + 1", runs=runs, out=tmp_path)
    with pytest.raises(UserError, match="cannot use 'open'"):
        lab.render("waves", truth="open('/etc/passwd')", runs=runs, out=tmp_path)


def test_enlargements_do_not_pass_for_originals(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"noise: 10x8 to 20x16 would be an enlargement"):
        lab.render("noise", truth=True, runs=runs, out=tmp_path)
    with pytest.raises(ConfigError, match=r"global with the shape .3, 8, 10."):
        lab.render("literal", truth=True, runs=runs, out=tmp_path)


def test_sizes_that_do_not_divide_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"30x24 cannot be compared.*10x8, the true ones 40x32"):
        lab.render("waves", truth=True, sizes=["3x", "4x"], runs=runs, out=tmp_path)
    with pytest.raises(UserError, match="--zoom shows a part"):
        lab.render("waves", truth=True, zoom=(0, 0, 1, 1), runs=runs, out=tmp_path)


def test_the_winner_is_counted_image_by_image() -> None:
    from aelab.study.superresolution_score import Scores

    true = torch.zeros(4, 1, 2, 2)
    close, far = torch.full_like(true, 0.1), torch.full_like(true, 0.2)
    mixed = torch.cat([far[:1], torch.zeros(3, 1, 2, 2)])
    found = {
        RENDER: picture_errors(close, true),
        **{n: picture_errors(mixed, true) for n in PICTURES[1:]},
    }
    score = Scores((2, 2), found)
    assert score.wins_over(OF_ORIGINAL) == 0.25
    table = scores_table((score,))
    assert "20.00 ± 0.00" in table and "25 % of images" in table
