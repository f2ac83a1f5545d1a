"""The latent space in the report: the decoder's steps in a browser, the map, and the page."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from aelab import models as m
from aelab.errors import UserError
from aelab.inspect import as_model
from aelab.lab import Lab
from aelab.study.decoder_program import NotPlainError, program_of
from aelab.study.explorer import explorer_of
from aelab.study.latent_map import latent_at
from tests.browser import CHROMIUM, MISSING, Browser

ASSETS = Path(__file__).parents[2] / "src" / "aelab" / "report" / "assets"
NODE = shutil.which("node")

FILE = """
experiment_name: space
train_set: kali_dataset((3, 12, 12), size=64, seed=1)
validation_set: kali_dataset((3, 12, 12), size=40, seed=2)
model: EncoderDecoder(EncoderMLP((3, 12, 12), code_size=6), DecoderMLP((3, 12, 12), code_size=6))
batch_size: 16
learnrate: 0.003
optimizer: Adam
max_images: 256
"""

SET = 'image_folder_dataset("pictures", (3, 12, 12))'
WORDS = """
experiment_name: words
train_set: figlet_ascii_dataset(shape=(6, 10)).limit(60)
validation_set: figlet_ascii_dataset(shape=(6, 10)).skip(60).limit(20)
model: small_ascii_ae((6, 10), embedding=4, channels=(6, 8), latent_dims=4, hidden=(6,))
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_images: 64
"""

COLOURS = """
experiment_name: colours
globals:
  TRAIN: sprite_dataset((3, 8, 8), size=40)
  PALETTE: palette_of(TRAIN, 8)
train_set: indexed_dataset(TRAIN, PALETTE).limit(20)
validation_set: indexed_dataset(TRAIN, PALETTE).skip(20)
model: small_palette_ae((8, 8), PALETTE, code_size=4, channels=(4, 6, 6), hidden=(8,))
batch_size: 10
learnrate: 0.002
optimizer: Adam
max_images: 20
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("space")
    (folder / "space.yml").write_text(FILE)
    here = Lab(folder / "runs", device="cpu")
    for _ in here.run(folder / "space.yml"):
        pass
    return here


class Mixed(nn.Module):
    """A decoder with what the parts of the catalogue do not use together."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 24)
        self.norm = nn.LayerNorm(24)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.middle = nn.Sequential(
            nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1, groups=2),
            nn.BatchNorm2d(8), nn.GELU(), nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(8, 12, 3, stride=2, padding=1, dilation=1), nn.PixelShuffle(2), nn.ELU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 1),
        )  # fmt: skip

    def forward(self, latent: Tensor) -> Tensor:
        """(B, 5) -> (B, 2, 8, 24)."""
        tokens = self.norm(self.first(latent)).view(-1, 3, 8)
        seen = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        maps = torch.cat([seen[:, :1], seen[:, 1:] * 0.5 + 1], 1).transpose(1, 2).unsqueeze(2)
        return torch.sigmoid(self.middle(maps)) / 2 - maps.mean() * 0.01


def decoders() -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    """Name -> a decoder and a latent (1, ...)."""
    torch.manual_seed(0)
    mixed = Mixed().eval()
    mixed.middle[1].running_mean.add_(0.3)  # type: ignore[union-attr,operator]
    found: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "mixed": (mixed, torch.randn(1, 5))
    }
    for name in ("small_image_ae", "quick_image_ae"):
        model = as_model(m.MODELS[name]((3, 16, 16))).eval()
        with torch.no_grad():
            found[name] = model.decode, model.encode(torch.rand(1, 3, 16, 16))  # type: ignore[assignment,operator]
    return found


@pytest.mark.skipif(NODE is None, reason="computing JavaScript outside of a browser needs node")
def test_the_steps_of_a_decoder_give_its_images_in_javascript(tmp_path: Path) -> None:
    cases = []
    for name, (decode, latent) in decoders().items():
        with torch.no_grad():
            image = decode(latent).flatten().tolist()
        program = program_of(decode, latent.clone()).data()
        cases.append({"name": name, "program": program, "z": latent.flatten().tolist(),
                      "image": image})  # fmt: skip
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    script = (
        (ASSETS / "decoder.js").read_text("utf-8")
        + """
    const cases = JSON.parse(require("fs").readFileSync(process.argv[2]));
    console.log(JSON.stringify(cases.map(c => {
      const made = decoder.prepare(c.program)(Float32Array.from(c.z));
      const off = c.image.map((v, i) => Math.abs(v - made[i]));
      return [c.name, made.length === c.image.length, Math.max(...off)];
    })));
    """
    )
    (tmp_path / "run.js").write_text(script)
    told = subprocess.run(
        [str(NODE), str(tmp_path / "run.js"), str(tmp_path / "cases.json")],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name, whole, worst in json.loads(told.stdout):
        assert whole and worst < 2e-3, f"{name}: {worst}"


def test_a_decoder_with_other_steps_is_told() -> None:
    with pytest.raises(NotPlainError, match="cumsum"):
        program_of(lambda z: z.cumsum(1).view(1, 1, 2, 2), torch.rand(1, 4))
    with pytest.raises(NotPlainError, match="too large"):
        program_of(lambda z: (z * torch.full((4,), 1e6)).view(1, 1, 2, 2), torch.rand(1, 4))


def test_at_an_image_of_the_map_lies_its_code() -> None:
    codes = torch.randn(30, 7, generator=torch.Generator().manual_seed(1))
    _, _, axes = torch.linalg.svd(codes - codes.mean(0), full_matrices=False)
    places = (codes - codes.mean(0)) @ axes[:2].T
    apart = torch.cdist(places, places).fill_diagonal_(9).min(1).values.median().item()
    alone = torch.cdist(places, places).fill_diagonal_(9).min(1).values > apart
    found = latent_at(places, codes, axes[:2], places, apart)
    assert (found - codes)[alone].abs().max() < 0.05
    moved = latent_at(places + 1e-4, codes, axes[:2], places, apart)
    assert (moved - found).abs().max() < 0.01  # no jumps


@pytest.mark.parametrize("decoder", [True, False])
def test_an_explorer_is_plain_data(here: Lab, decoder: bool) -> None:
    made = explorer_of(here.open("space"), decoder=decoder)
    assert (made["program"] is None, made["grid"] is None) == (not decoder, decoder)
    assert made["count"] == len(made["map"]) == 40 and made["shape"] == [3, 12, 12]
    codes = np.frombuffer(base64.b64decode(made["codes"]), "<f2").reshape(40, 6)
    axes, mean = np.array(made["axes"]), np.array(made["mean"])
    np.testing.assert_allclose((codes - mean) @ axes[:2].T, made["map"], atol=0.02)
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-4)
    assert len(json.dumps(made)) < 400_000


def test_the_page_holds_the_explorer_and_a_policy_that_allows_its_script(
    here: Lab, tmp_path: Path
) -> None:
    page = here.report(out=tmp_path / "page.html", explorer=True).read_text("utf-8")
    assert 'id="explorer-data"' in page and "Latent space" in page
    assert page.count("sha256-") == 3 and "http://" not in page.replace("http://www.w3.org", "")
    assert "explorer-data" not in here.report(out=tmp_path / "plain.html").read_text("utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
@pytest.mark.parametrize("decoder", [True, False])
def test_a_browser_shows_the_latent_space_from_a_file(
    here: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: bool
) -> None:
    if not decoder:
        monkeypatch.setattr("aelab.study.explorer.MOST_NUMBERS", 0)
    path = here.report(out=tmp_path / "page.html", explorer=1)
    told = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         "--virtual-time-budget=3000", f"--user-data-dir={tmp_path / 'browser'}", path.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r'<span class="told">([^<]*)</span>', told.stdout)
    assert found is not None and found[1].startswith("nearest held-out image"), told.stderr[-2000:]
    words = "The decoder itself runs" if decoder else "does not run in this page"
    assert words in told.stdout
    assert ('aria-label="direction 1' in told.stdout) is decoder


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_the_map_of_a_report_is_zoomed_and_classes_are_added(tmp_path: Path) -> None:
    for number in range(24):
        kind, base = (("bright", 200), ("dark", 20))[number % 2]
        (tmp_path / "pictures" / kind).mkdir(parents=True, exist_ok=True)
        pixels = base + np.random.default_rng(number).integers(0, 50, (8, 8, 3))
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.save(tmp_path / "pictures" / kind / f"{number}.png")
    (tmp_path / "classes.yml").write_text(
        FILE.replace("kali_dataset((3, 12, 12), size=64, seed=1)", SET)
        .replace("kali_dataset((3, 12, 12), size=40, seed=2)", SET)
        .replace("12, 12", "8, 8")
    )
    lab = Lab(tmp_path / "runs", device="cpu")
    for _ in lab.run(tmp_path / "classes.yml"):
        pass
    path = lab.report(out=tmp_path / "page.html", explorer=1)
    bright = (
        "(() => { const c = document.querySelector('canvas.shown'); return [...c.getContext('2d')"
    )
    bright += ".getImageData(0, 0, 8, 8).data].reduce((a, b) => a + b) / 256; })()"
    with Browser() as browser:
        browser.open(path.as_uri(), "window.aelabExplorer && aelabExplorer.state().milliseconds")
        before = browser.run("aelabExplorer.state().place")
        browser.click(".explorer .nearer")
        browser.click("canvas.map")  # now its middle is another place
        browser.run("aelabExplorer.move([9, 9])")
        assert browser.run("aelabExplorer.state().place") != before
        browser.run(
            "(() => { for (const [name, value] of [['plus', 0], ['minus', 1], ['amount', -150]]) {"
            "const it = document.querySelector(`.arithmetic .${name}`); it.value = value;"
            "it.dispatchEvent(new Event('input', {bubbles: true})); } })()"
        )
        browser.wait(f"{bright} < 120")
        browser.run("(() => { const it = document.querySelector('.arithmetic .amount');"
                    "it.value = 150; it.dispatchEvent(new Event('input')); })()")  # fmt: skip
        browser.wait(f"{bright} > 150")
        assert browser.errors == []


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_a_model_of_characters_writes_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "words.yml").write_text(WORDS)
    lab = Lab(tmp_path / "runs", device="cpu")
    for _ in lab.run(tmp_path / "words.yml"):
        pass
    made = lab.open("words").explorer()
    assert made["program"] is None and len(made["grid"]["texts"]) == made["grid"]["side"] ** 2
    assert max(made["tile"]) <= 64
    path = lab.report(out=tmp_path / "page.html", explorer=1)
    with Browser() as browser:
        browser.open(path.as_uri(), "document.querySelector('pre.text')?.textContent.length > 10")
        text = browser.run("document.querySelector('pre.text').textContent")
        assert text in made["grid"]["texts"] and len(text.split("\n")) == 6
        assert browser.run("document.querySelector('canvas.shown').hidden")
        assert browser.run("document.querySelector('.arithmetic').hidden")
        assert browser.errors == []


def test_a_model_of_another_medium_has_a_grid_of_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "colours.yml").write_text(COLOURS)
    lab = Lab(tmp_path / "runs", device="cpu")
    for _ in lab.run(tmp_path / "colours.yml"):
        pass
    made = lab.open("colours").explorer()
    assert made["program"] is None and made["grid"]["picture"].startswith("data:image/webp")
    assert not made["grid"]["fades"]  # there is nothing between two colours of a palette
    content = base64.b64decode(made["thumbnails"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as sheet:
        assert sheet.size == (8 * 5, 8 * 4) and made["tile"] == [8, 8]  # 20 images


def test_runs_without_a_map_are_passed_over_with_the_reason(here: Lab, tmp_path: Path) -> None:
    text = FILE.replace("(3, 12, 12)", "(1, 130, 8)").replace("space", "large")
    (tmp_path / "large.yml").write_text(text.replace("max_images: 256", "max_images: 32"))
    for _ in here.run(tmp_path / "large.yml"):
        pass
    page = here.report("large", out=tmp_path / "page.html", explorer=True).read_text("utf-8")
    assert "large has no latent space here: its images of 8x130 are larger than 128x128" in page
    with pytest.raises(UserError, match="larger than"):
        explorer_of(here.open("large"))
