"""ResNet-18 against an independent evaluation, and what its weights bring with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from aelab import pretrained
from aelab.errors import ConfigError, DataError, ShapeError
from aelab.founding.resnet import resnet18_open
from aelab.inspect import count_parameters, harmless_probes, model_facts
from aelab.models import (
    DecoderMLP,
    EncoderDecoder,
    PretrainedResNet18,
    ResNet18,
)


def _published_form() -> dict[str, Tensor]:
    """Random tensors by torchvision's names; those of the older publication: no counters."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    channels_in = 64

    def conv(name: str, channels: int, inputs: int, size: int) -> None:
        values = torch.randn(channels, inputs, size, size, generator=generator)
        tensors[f"{name}.weight"] = values * math.sqrt(2 / (inputs * size * size))

    def norm(name: str, channels: int) -> None:
        for part, low, high in (
            ("weight", 0.5, 1.5), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2),
            ("running_var", 0.5, 1.5),
        ):  # fmt: skip
            values = torch.rand(channels, generator=generator)
            tensors[f"{name}.{part}"] = low + (high - low) * values

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    for stage, channels in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", channels, channels_in, 3)
            norm(f"{name}.bn1", channels)
            conv(f"{name}.conv2", channels, channels, 3)
            norm(f"{name}.bn2", channels)
            if channels_in != channels:
                conv(f"{name}.downsample.0", channels, channels_in, 1)
                norm(f"{name}.downsample.1", channels)
            channels_in = channels
    tensors["fc.weight"] = torch.randn(1000, 512, generator=generator) * 0.01
    tensors["fc.bias"] = torch.zeros(1000)
    return tensors


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return _published_form()


@pytest.fixture(scope="module")
def file(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(tensors, path)
    return path


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("AELAB_WEIGHTS", raising=False)

    def refuse(*args: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("aelab.pretrained.weights._download", refuse)


def _expected(images: Tensor, w: Mapping[str, Tensor], training: bool) -> list[Tensor]:
    """The four feature maps, by the definition: table 1 of arXiv:1512.03385."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        scale = w[f"{name}.weight"] / (var + 1e-5).sqrt()
        return x * scale[:, None, None] + (w[f"{name}.bias"] - mean * scale)[:, None, None]

    def conv(x: Tensor, name: str, stride: int) -> Tensor:
        weight = w[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = norm(conv(images, "conv1", 2), "bn1").clamp(min=0)
    x = functional.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1").clamp(min=0)
            y = norm(conv(y, f"{name}.conv2", 1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in w:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
        maps.append(x)
    return maps


@pytest.mark.parametrize(
    ("size", "training"), [((32, 32), False), ((17, 23), True), ((8, 8), True)], ids=str
)
def test_the_trunk_computes_what_the_paper_says(
    size: tuple[int, int], training: bool, tensors: dict[str, Tensor], file: Path
) -> None:
    # In double precision: statistics of three values at 1x1 magnify every rounding.
    model = resnet18_open(weights=str(file)).train(training).double()
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        given = model(images)
        wanted = _expected(images, {n: t.double() for n, t in tensors.items()}, training)[-1]
    assert given.shape[1:] == model.get_output_shape((3, *size))
    torch.testing.assert_close(given, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1, 8, 13, 33, 128])
@pytest.mark.parametrize("stage", ["layer1", "layer2", "layer3", "layer4"])
def test_the_arithmetic_of_sizes_agrees_with_the_layers(size: int, stage: str) -> None:
    with torch.device("meta"):
        model = ResNet18(stage).eval()  # type: ignore[arg-type]
        features = model(torch.empty(2, 3, size, size + 3))
    assert tuple(features.shape[1:]) == model.get_output_shape((3, size, size + 3))


def test_the_parameters_are_those_of_the_published_network(tensors: dict[str, Tensor]) -> None:
    model = resnet18_open()
    assert count_parameters(model)["model"] == 11_689_512
    names = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert names == set(tensors)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"fc.weight", "fc.bias"}
    with_linear = nn.Sequential(model, nn.Flatten(1), nn.Linear(512, 102))
    assert count_parameters(with_linear)["model"] == 11_689_512 + 52_326


def test_random_weights_keep_the_scale_of_the_signal() -> None:
    torch.manual_seed(0)
    weight = ResNet18().get_submodule("layer3.1.conv2").weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_both_formats_are_loaded(
    suffix: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"resnet18{suffix}"
    timm = {n: t for n, t in tensors.items() if not n.startswith(("fc.", "layer3", "layer4"))}
    timm = {n: t.half() if n.startswith("layer2") else t for n, t in timm.items()}
    if suffix == ".pth":
        torch.save(timm, path)
    else:
        safetensors.torch.save_file(timm, path)
    encoder = PretrainedResNet18((3, 32, 32), 10, weights=path, stage="layer2")
    own = encoder.trunk.state_dict()
    assert all(torch.equal(own[name], t.float()) for name, t in timm.items())
    assert f"ResNet-18 weights of {path.name}, sha256 " in encoder.trunk.note


def test_torchvisions_name_means_the_file_in_aelab_weights(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torchvisions:
        """Stands for `torchvision.models.ResNet18_Weights.IMAGENET1K_V1`."""

        name = "IMAGENET1K_V1"

    monkeypatch.setenv("AELAB_WEIGHTS", str(file.parent))
    note = resnet18_open(weights=Torchvisions()).note
    assert "not the published IMAGENET1K_V1; input not normalised as they expect" in note


def test_files_of_other_networks_are_told_from_ours(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "net.pth"
    tensors = {n: t for n, t in tensors.items() if n.startswith(("conv1", "bn1", "layer1"))}
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({n: t for n, t in tensors.items() if n != "layer1.0.bn1.bias"}, "lacks 'layer1.0.bn1.b"),
        ({**tensors, "layer1.2.conv1.weight": torch.zeros(1)}, "unknown tensor 'layer1.2.conv1"),
        ({**tensors, "bn1.bias": torch.zeros(3)}, r"'bn1.bias' is \(3,\), not \(64,\)"),
        ({**tensors, "bn1.bias": torch.full((64,), math.nan)}, "'bn1.bias' holds numbers that are"),
    ]
    for content, message in cases:
        torch.save(content, path)
        for place in ("cpu", "meta"):
            with pytest.raises(DataError, match=message), torch.device(place):
                PretrainedResNet18((3, 32, 32), 10, weights=path, stage="layer1")


def test_the_native_encoder_normalises_and_repeats_grey(
    tensors: dict[str, Tensor], file: Path
) -> None:
    encoder = PretrainedResNet18((1, 32, 32), 7, weights=file, stage="layer3").eval()
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    coloured = (torch.cat([images] * 3, 1) - mean) / std
    with torch.no_grad():
        features = _expected(coloured, tensors, False)[2]
        wanted = encoder.linear(features.permute(0, 2, 3, 1).flatten(1))
        torch.testing.assert_close(encoder(images), wanted, rtol=1e-3, atol=1e-3)
    assert encoder.encoded_shape == (256, 2, 2)
    assert not any(name.startswith("trunk.layer4") for name in encoder.state_dict())


def test_a_frozen_trunk_does_not_change_and_is_not_optimised(file: Path) -> None:
    from aelab.train import Choice, make_optimizer

    encoder = PretrainedResNet18((3, 16, 16), 5, weights=file, frozen=True)
    model = EncoderDecoder(encoder, DecoderMLP((3, 16, 16), 5)).train()
    before = {name: tensor.clone() for name, tensor in encoder.trunk.state_dict().items()}
    optimizer = make_optimizer(model, Choice("Adam"), 0.01)
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in encoder.trunk.parameters()}
    start = encoder.linear.weight.clone()
    model(torch.rand(4, 3, 16, 16)).reconstruction.square().mean().backward()
    optimizer.step()
    after = encoder.trunk.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not torch.equal(encoder.linear.weight, start)
    assert not encoder.trunk.training and encoder.linear.training


def test_a_trained_trunk_learns_and_takes_a_single_image(file: Path) -> None:
    encoder = PretrainedResNet18((3, 32, 32), 5, weights=file).train()
    encoder(torch.rand(1, 3, 32, 32)).square().mean().backward()
    weight = encoder.trunk.conv1.weight
    assert weight.grad is not None and weight.grad.abs().sum() > 0
    assert encoder.trunk.bn1.running_mean is not None
    assert encoder.trunk.bn1.running_mean.isfinite().all()


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ShapeError, match="1 or 3 channels, not 4"):
        PretrainedResNet18((4, 32, 32), 5, weights=None)
    with pytest.raises(ShapeError, match="3 channels, not 1"):
        resnet18_open()(torch.rand(1, 1, 32, 32))
    with pytest.raises(ConfigError, match="possible: IMAGENET1K_V1"):
        PretrainedResNet18((3, 32, 32), 5, weights="imagenet")
    with pytest.raises(DataError, match=r"put it at .*resnet18-f37072fd\.pth"):
        PretrainedResNet18((3, 32, 32), 5)


def test_without_memory_nothing_is_fetched_and_the_facts_are_known() -> None:
    with torch.device("meta"):
        encoder = PretrainedResNet18((3, 32, 32), 102, "imagenet1k_v1")
    assert "a run downloads them (47 MB)" in encoder.trunk.note
    facts = model_facts(EncoderDecoder(encoder, DecoderMLP((3, 32, 32), 102)), (3, 32, 32))
    assert facts.latent_shape == (102,)
    assert facts.parameters["encoder"] == 11_176_512 + 52_326


def test_a_stored_state_needs_no_file_of_weights(tmp_path: Path) -> None:
    with pretrained.restoring():
        model = resnet18_open(weights="imagenet1k_v1")
        own = PretrainedResNet18((3, 8, 8), 4, weights=tmp_path / "gone.pth")
    assert model.note.startswith("ResNet-18 weights of the run's own state")
    assert own.trunk.note == "ResNet-18 weights of the run's own state"


def test_weights_do_not_change_what_is_drawn_afterwards(file: Path) -> None:
    drawn = []
    for weights in (None, file):
        torch.manual_seed(3)
        resnet18_open(weights=weights)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_probe_leaves_the_running_statistics_alone(device: str) -> None:
    with torch.device(device):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with harmless_probes(), torch.no_grad():
            for _ in range(2):
                shape = model(torch.ones(2, 3, 8, 8)).shape
    assert shape == (2, 4, 6, 6)
    after = model.state_dict()
    if device == "cpu":
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        model(torch.rand(2, 3, 8, 8))
        assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])


def test_a_failing_probe_leaves_no_hook_behind() -> None:
    model = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="4D"), harmless_probes():
        model(torch.ones(2, 3))
    model(torch.rand(2, 3, 4, 4))
    assert model.num_batches_tracked is not None and model.num_batches_tracked.item() == 1
