"""Names that old files reach through modules: ResNet-18, its weights, and probing for its shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aelab import catalogue, roots
from aelab.config import Block, Scope, evaluate_block
from aelab.errors import ConfigError, DataError, RefusedError
from aelab.founding.resnet import resnet18_open
from aelab.inspect import harmless_probes


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of random weights in the folder `weights`, which is not open to blocks."""
    path = tmp_path / "weights" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    torch.manual_seed(8)
    torch.save(resnet18_open().state_dict(), path)
    for name in ("AELAB_DATA", "AELAB_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("aelab.pretrained.weights._download", _no_network)
    return path


def _no_network(*args: object) -> None:
    raise OSError("no network")


def value(text: str, folder: Path | None = None) -> Any:
    reading = roots.Roots((folder.resolve(),)) if folder else roots.Roots(())
    scope = Scope(catalogue.names(None, reading), catalogue.attributes())
    with roots.entering(reading):
        return evaluate_block(Block(text), scope)


PROBE = """
from src.models.encoder import resnet
encoder = resnet.resnet18_open(weights=torchvision.models.ResNet18_Weights.IMAGENET1K_V1)
with torch.no_grad():
    out_shape = encoder(torch.empty(2, *(3, 32, 32))).shape[-3:]
"""


def test_probing_for_the_shape_changes_nothing_and_is_the_same_each_time(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELAB_WEIGHTS", str(weights))
    stored = torch.load(weights, weights_only=True)
    for _ in range(2):
        with harmless_probes():
            encoder, shape = value(f"{PROBE}encoder, out_shape")
        assert tuple(shape) == (512, 1, 1) and encoder.training
        assert all(torch.equal(stored[name], t) for name, t in encoder.state_dict().items())


def test_a_loop_over_the_parameters_freezes_them(weights: Path) -> None:
    text = "m = resnet18_open()\nfor p in m.layer1.parameters():\n    p.requires_grad = False\nm"
    model = value(text)
    assert not any(p.requires_grad for p in model.layer1.parameters())
    assert model.conv1.weight.requires_grad


@pytest.mark.parametrize(
    "text",
    [
        "resnet.load",
        "resnet.torch",
        "resnet.resnet18_open.target",
        "resnet18_open().load_state_dict",
    ],
)
def test_the_module_holds_nothing_else(text: str) -> None:
    with pytest.raises(RefusedError):
        value(text)


def test_an_unknown_argument_is_told() -> None:
    with pytest.raises(ConfigError, match=r"no argument 'weight'.*did you mean 'weights'"):
        value("resnet.resnet18_open(weight=None)")


@pytest.mark.parametrize(
    "part", ["resnet18_open(weights=W)", "PretrainedResNet18((3, 8, 8), 4, W)"]
)
def test_weights_are_read_only_where_a_block_may_read_also_later(
    part: str, weights: Path, tmp_path: Path
) -> None:
    text = part.replace("W", repr(str(weights)))
    with pytest.raises(DataError, match="outside the folders"):
        value(text, tmp_path / "inside")
    late: Callable[[], Any] = value(f"lambda: {text}", tmp_path / "inside")
    assert roots.current() is None
    with pytest.raises(DataError, match="outside the folders"):
        late()
    assert value(f"lambda: {text}", weights.parent)() is not None
