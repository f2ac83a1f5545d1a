"""A stored run as a model again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aelab import lab
from aelab.errors import StoreError


@pytest.fixture
def runs(tiny: Path, tmp_path: Path) -> Path:
    for _ in lab.run(tiny, runs=tmp_path / "runs", only="net-conv_seed-1", device="cpu"):
        pass
    return tmp_path / "runs"


def test_an_opened_model_reproduces_the_stored_pictures(runs: Path) -> None:
    from PIL import Image

    model = lab.open_model("tiny/net-conv_seed-1@latest", runs=runs)
    assert not model.training
    folder = runs / "tiny/net-conv_seed-1/images"
    import numpy as np

    strip = np.array(Image.open(folder / "heldout-originals.png"))  # (8, 16 x 8)
    images = torch.from_numpy(strip.reshape(8, 16, 8).swapaxes(0, 1)).unsqueeze(1) / 255
    with torch.no_grad():
        shown = model(images).reconstruction.clamp(0, 1)
    stored = np.asarray(Image.open(folder / "heldout-000000480.png"))
    mine = (shown.squeeze(1) * 255).round().to(torch.uint8).numpy().swapaxes(0, 1).reshape(8, 128)
    assert np.abs(mine.astype(int) - stored.astype(int)).max() <= 1
    assert model.decode(model.encode(images)).shape == images.shape


def test_a_run_made_with_trust_is_opened_only_with_trust(runs: Path) -> None:
    record = runs / "tiny/net-conv_seed-1/run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "trust": True}))
    with pytest.raises(StoreError, match="--trust"):
        lab.open_model("tiny/net-conv_seed-1", runs=runs)
    assert lab.open_model("tiny/net-conv_seed-1", runs=runs, trust=True) is not None


def test_an_unknown_run_names_what_is_near(runs: Path) -> None:
    with pytest.raises(StoreError, match="net-conv_seed-1"):
        lab.open_model("tiny/net-conf_seed-1", runs=runs)


def test_loading_and_opening_take_the_averaged_weights_where_a_run_kept_them(
    tiny: Path, tmp_path: Path
) -> None:
    runs, only = tmp_path / "runs", "net-mlp_seed-1"
    tiny.write_text(tiny.read_text() + "ema: 0.9\n")
    other = tiny.with_name("other.yml")
    text = tiny.read_text().replace("tiny/", "other/").replace("ema: 0.9\n", "load: tiny/" + only)
    other.write_text(text.replace("learnrate: 0.001", "learnrate: 1e-30"))
    for file in (tiny, other):
        for _ in lab.run(file, runs=runs, only=only, device="cpu"):
            pass
    averaged = lab.open_model(f"tiny/{only}", runs=runs).state_dict()
    loaded = lab.open_model(f"other/{only}", runs=runs).state_dict()
    assert all(torch.equal(averaged[name], loaded[name]) for name in averaged)
