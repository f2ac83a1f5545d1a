"""ResNet-18 with torchvision's parameter names, and an encoder that uses it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from aelab import pretrained
from aelab.errors import DataError, ShapeError
from aelab.models.reshaping import FlattenPixels
from aelab.models.shapes import image_shape
from aelab.parts import reads_files

#: The stage whose feature map is returned.
Stage = Literal["layer1", "layer2", "layer3", "layer4"]

#: Channels of the four stages.
CHANNELS: Mapping[Stage, int] = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}

#: Mean and standard deviation of ImageNet's training images, red, green, blue, in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that also accepts a batch with one value per channel.

    Such a batch (the last image of an epoch, at 1x1) has no variance, and torch raises. Here the
    running statistics are used for it.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if self.training and images.numel() == images.shape[1]:
            return functional.batch_norm(
                images, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(images)


class ShortcutBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut.

    Args:
        channels_in, channels: of input and output.
        stride: of the first convolution and the shortcut.

    Source: He et al. 2016, arXiv:1512.03385, figure 2.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), BatchNorm(channels)
            )

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels, ceil(H / stride), ceil(W / stride))."""
        shortcut = images if self.downsample is None else self.downsample(images)
        inner = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(inner)) + shortcut)


class ResNet18(nn.Module):
    """The convolutional part of ResNet-18, for images of any size, with random weights.

    Args:
        stage: the last stage; later ones are not built.
        head: whether to keep the classifier `fc`, frozen and unused, so that the number of
            parameters is that of the published network (11,689,512).

    Names and shapes of the parameters are those of torchvision and timm, so their files fit.
    Source: He et al. 2016, arXiv:1512.03385, table 1; initial weights: He et al. 2015,
    arXiv:1502.01852, by the number of outputs.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"bn1", "conv1", "fc", "get_output_shape", "layer1", "layer2", "layer3", "layer4"}
    )

    note = ""

    def __init__(self, stage: Stage = "layer4", head: bool = False) -> None:
        super().__init__()
        self.stages = list(CHANNELS)[: list(CHANNELS).index(stage) + 1]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm(64)
        channels_in = 64
        for name in self.stages:
            channels = CHANNELS[name]
            first = ShortcutBlock(channels_in, channels, 1 if name == "layer1" else 2)
            self.add_module(name, nn.Sequential(first, ShortcutBlock(channels, channels, 1)))
            channels_in = channels
        if head:
            self.fc = nn.Linear(512, 1000).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> features (B, 64 ... 512, H/4 ... H/32, W/4 ... W/32), rounded up."""
        if images.shape[1] != 3:
            raise ShapeError(
                f"ResNet18 needs images of 3 channels, not {images.shape[1]}",
                hint="give the data set shape=(3, H, W), or use PretrainedResNet18, which repeats "
                "a grey channel",
            )
        features = functional.relu(self.bn1(self.conv1(images)))
        features = functional.max_pool2d(features, 3, 2, padding=1)
        for name in self.stages:
            features = self.get_submodule(name)(features)
        return features

    def get_output_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """(C, H, W) of the features for images of (C, H, W)."""
        _, height, width = image_shape(shape, "ResNet18")
        for _ in range(1 + len(self.stages)):  # stem, pooling, and all stages but the first halve
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        return CHANNELS[self.stages[-1]], height, width


@reads_files
class PretrainedResNet18(nn.Module):
    """An encoder of ResNet-18 features and one linear layer.

    Args:
        shape: (C, H, W) of the images, C 1 or 3; grey is repeated to three channels.
        code_size: D, length of the result.
        weights: `imagenet1k_v1`, the path of a state_dict (.pth, .safetensors), or None for
            random ones.
        normalize: whether to convert images in 0..1 to ImageNet's mean and deviation, as these
            weights expect.
        frozen: whether to keep the trunk unchanged, including running statistics; only the linear
            layer is trained.
        stage: the stage whose features are used; earlier ones have a higher resolution.

    Attributes:
        trunk: the `ResNet18`.
        linear: maps the features, pixel by pixel, to the code.
        encoded_shape: (C, H, W) of the features.

    Raises:
        ShapeError: images of other than 1 or 3 channels.
        DataError: the weights are missing and cannot be downloaded, or are not of a ResNet-18.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"code_size", "encoded_shape", "linear", "shape", "trunk"}
    )

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        weights: Any = "imagenet1k_v1",
        normalize: bool = True,
        frozen: bool = False,
        stage: Stage = "layer4",
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "PretrainedResNet18")
        if self.shape[0] not in (1, 3):
            raise ShapeError(
                f"PretrainedResNet18 takes images of 1 or 3 channels, not {self.shape[0]}"
            )
        self.code_size = int(code_size)
        self.normalize = normalize
        self.frozen = frozen
        self.trunk = ResNet18(stage)
        self.encoded_shape = self.trunk.get_output_shape(self.shape)
        self.flatten = FlattenPixels()
        self.linear = nn.Linear(math.prod(self.encoded_shape), self.code_size)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.trunk.note = load_resnet18(self.trunk, weights)
        if frozen:
            self.trunk.requires_grad_(False)
            self.trunk.eval()

    def train(self, mode: bool = True) -> PretrainedResNet18:
        """Sets the mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 -> features (B, D)."""
        images = images.expand(-1, 3, -1, -1)  # grey: a view with 3 equal channels
        if self.normalize:
            images = (images - self.mean) / self.std
        features: Tensor = self.linear(self.flatten(self.trunk(images)))
        return features


def load_resnet18(model: ResNet18, weights: Any) -> str:
    """Loads weights into a trunk; on the meta device they are only found and compared.

    Args:
        model: as built, in place.
        weights: as `PretrainedResNet18`.

    Returns:
        A note about the weights, for readers of the results.

    Raises:
        DataError: see `pretrained.read_weights`; or the file holds another network.
    """
    if weights is None:
        return "ResNet-18 with random weights"
    if pretrained.is_restoring():
        return _restored_note(weights)
    found = pretrained.find_weights(weights, pretrained.RESNET18)
    if found.path is None and model.conv1.weight.is_meta:
        return f"ResNet-18 {pretrained.weights_note(found)}"
    found, tensors = pretrained.read_weights(found)
    own = _fitting(model, tensors, str(found.path))
    if not model.conv1.weight.is_meta:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name in own:
                    tensor.copy_(own[name])
    return f"ResNet-18 {pretrained.weights_note(found)}"


def _restored_note(weights: Any) -> str:
    """The note about the weights file if it exists; a stored state does not need the file."""
    try:
        found = pretrained.find_weights(weights, pretrained.RESNET18)
        if found.path is not None:
            return f"ResNet-18 {pretrained.weights_note(found)}"
    except DataError:
        pass
    return "ResNet-18 weights of the run's own state"


def _fitting(model: ResNet18, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors with the model's names, after comparing shapes.

    The classifier and later stages may be in the file. Batch counters may be missing: some
    published files lack them, and no result depends on them.

    Raises:
        DataError: a tensor is missing, unknown, of another shape, or not finite.
    """
    wanted = model.state_dict()
    spare = ("fc.", *(f"{stage}." for stage in CHANNELS if stage not in model.stages))
    hint = "a state_dict of torchvision's or timm's resnet18 is expected"
    for name in sorted(wanted.keys() ^ tensors.keys()):
        if name.startswith(spare) or name.endswith(".num_batches_tracked"):
            continue
        side = "lacks" if name in wanted else "has the unknown tensor"
        raise DataError(f"{source} is not a ResNet-18: it {side} '{name}'", hint=hint)
    for name in wanted.keys() & tensors.keys():
        if tensors[name].shape != wanted[name].shape:
            given, own = tuple(tensors[name].shape), tuple(wanted[name].shape)
            raise DataError(f"{source}: '{name}' is {given}, not {own}", hint=hint)
        if not tensors[name].isfinite().all():
            raise DataError(f"{source}: '{name}' holds numbers that are not finite")
    return {name: tensors[name] for name in wanted.keys() & tensors.keys()}
