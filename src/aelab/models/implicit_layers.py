"""Layers of an implicit decoder: per-image normalisation, sines, residual blocks.

Activations are (P, B, F): pixels, images, features. Pixels come first, so that the statistics of
each image over its pixels are those of one batch normalisation with B*F channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError, did_you_mean, one_of
from aelab.models.activations import Activation, RMSNorm, make_activation


@dataclass
class Statistics:
    """The source of mean and variance of the normalisations in one pass.

    Attributes:
        source: `running`: the stored averages; `own`: each image's pixels of this pass, appended
            to `values`; `given`: `values`, in the order of the layers.
        update: whether to update the running averages (with `own`).
        values: mean and biased variance of each normalisation, (B, F).
    """

    source: Literal["running", "own", "given"]
    update: bool = False
    values: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class ImageNorm(nn.Module):
    """Normalises each feature over the pixels of one image, and keeps running averages.

    It equals a `torch.nn.BatchNorm1d` that is called with the pixels of one image after the other:
    the running averages are updated once per image, in the order of the batch. Parameters and
    buffers have the names of `BatchNorm1d`.

    Args:
        num_features: F.
        eps: added to the variance.
        momentum: weight of one image in the running averages.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1, with an image's pixels as batch;
    Ulyanov et al. 2016, arXiv:1607.08022 (instance normalisation).
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor, statistics: Statistics, index: int) -> Tensor:
        """(P, B, F) -> the same shape; `index`: position of this layer in `statistics.values`.

        Raises:
            ShapeError: the image has only one pixel, and its own statistics are needed.
        """
        pixels, images, _ = x.shape
        flat = x.reshape(pixels, -1)  # (P, B*F)
        weight, bias = self.weight.repeat(images), self.bias.repeat(images)
        if statistics.source != "own":
            if statistics.source == "given":
                mean, var = (value.flatten() for value in statistics.values[index])
            else:
                mean, var = self.running_mean.repeat(images), self.running_var.repeat(images)
            return F.batch_norm(flat, mean, var, weight, bias, False, 0.0, self.eps).view_as(x)
        if pixels < 2:
            raise ShapeError(
                "ImageNorm: an image of one pixel has no variance",
                hint="use batch_norm=False, or larger images",
            )
        # With momentum 1 batch_norm writes this pass's statistics to `mean` and `var`: no second
        # pass over the data is needed.
        mean, var = torch.zeros_like(weight), torch.zeros_like(weight)
        y = F.batch_norm(flat, mean, var, weight, bias, True, 1.0, self.eps)
        mean, var = mean.view(images, -1), var.view(images, -1)  # var is the unbiased one
        if statistics.update:
            self._follow(mean, var)
        statistics.values.append((mean, var * ((pixels - 1) / pixels)))
        return y.view_as(x)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        # r <- (1 - m) r + m x_i for i = 1..B gives (1 - m)^B r + sum of m (1 - m)^(B - i) x_i.
        images = len(mean)
        if images == 1:
            self.running_mean.lerp_(mean[0], self.momentum)
            self.running_var.lerp_(var[0], self.momentum)
        else:
            age = torch.arange(images - 1, -1, -1, device=mean.device, dtype=mean.dtype)
            share = self.momentum * (1 - self.momentum) ** age[:, None]  # (B, 1)
            kept = (1 - self.momentum) ** images
            # Not a matrix product: autocast would compute it in bfloat16, with 8 bits.
            self.running_mean.mul_(kept).add_((share * mean).sum(dim=0))
            self.running_var.mul_(kept).add_((share * var).sum(dim=0))
        self.num_batches_tracked += images

    def extra_repr(self) -> str:
        """The width, for `print(model)`."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class FeatureNorm(nn.Module):
    """Normalises over the features of each pixel, so that the grid has no influence.

    Args:
        kind: `layer` or `rms`.
        num_features: F.
    """

    def __init__(self, kind: str, num_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_features) if kind == "layer" else RMSNorm(num_features)

    def forward(self, x: Tensor, statistics: Statistics, index: int) -> Tensor:
        """(P, B, F) -> the same shape; the statistics are unused."""
        y: Tensor = self.norm(x)
        return y


#: Normalisations at the start of a block: per image as in the documents, or per pixel.
PIXEL_NORMALIZATIONS = ("image", "layer", "rms")


def make_pixel_norm(name: str, num_features: int) -> ImageNorm | FeatureNorm:
    """The normalisation called `name` over `num_features`.

    Raises:
        ConfigError: unknown name.
    """
    if name not in PIXEL_NORMALIZATIONS:
        raise ConfigError(
            f"unknown normalization {name!r}{did_you_mean(name, PIXEL_NORMALIZATIONS)}",
            hint=f"possible: {one_of(PIXEL_NORMALIZATIONS)}",
        )
    return ImageNorm(num_features) if name == "image" else FeatureNorm(name, num_features)


class Sine(nn.Module):
    """sin(frequency * x), and the initialisation of weights that it needs.

    Args:
        frequency: omega_0; 30 in the paper.

    Source: Sitzmann et al. 2020, arXiv:2006.09661, section 3.2 and supplement 1.5.
    """

    def __init__(self, frequency: float = 30.0) -> None:
        super().__init__()
        self.frequency = float(frequency)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape, -1..1."""
        return torch.sin(self.frequency * x)

    def initialise(self, weight: Tensor, is_first: bool = False) -> None:
        """Draws weights (out, in) so that the input of the sine has variance 1 in every layer.

        Args:
            weight: changed in place.
            is_first: whether its inputs are positions; then weights are uniform within 1 / in.
        """
        num_inputs = weight.shape[1]
        bound = 1 / num_inputs if is_first else math.sqrt(6 / num_inputs) / self.frequency
        with torch.no_grad():
            weight.uniform_(-bound, bound)

    def extra_repr(self) -> str:
        """The frequency, for `print(model)`."""
        return f"frequency={self.frequency}"


def make_pixel_activation(activation: Activation, in_place: bool = True) -> nn.Module:
    """As `make_activation`, with `siren` for `Sine()`, and None as the identity."""
    if isinstance(activation, str) and activation.lower() == "siren":
        return Sine()
    return make_activation(activation, in_place=in_place) or nn.Identity()


class PixelBlock(nn.Module):
    """A normalisation and linear layers with activations, with an identity path.

    Args:
        num_hidden: F of the input.
        num_layers: linear layers.
        activation: after each.
        normalization: of `PIXEL_NORMALIZATIONS`, or None.
        residual: `add` (the output keeps F), `concat` (2 F) or `none`.

    Attributes:
        num_outputs: F of the output.
        num_modulations: size of the modulation of all layers for one image.

    Source: He et al. 2016, arXiv:1512.03385 (add); the documents (concat).
    """

    def __init__(
        self,
        num_hidden: int,
        num_layers: int,
        activation: Activation,
        normalization: str | None,
        residual: Literal["add", "concat", "none"],
    ) -> None:
        super().__init__()
        self.residual = residual
        self.norm = None if normalization is None else make_pixel_norm(normalization, num_hidden)
        self.linears = nn.ModuleList(nn.Linear(num_hidden, num_hidden) for _ in range(num_layers))
        self.activations = nn.ModuleList(
            make_pixel_activation(activation) for _ in range(num_layers)
        )
        self.num_outputs = num_hidden * (2 if residual == "concat" else 1)
        self.num_modulations = 2 * num_layers * num_hidden
        self.has_image_norm = isinstance(self.norm, ImageNorm)

    def forward(
        self, x: Tensor, statistics: Statistics, index: int, modulation: Tensor | None
    ) -> Tensor:
        """(P, B, F) -> (P, B, F or 2 F).

        Args:
            x: activations.
            statistics, index: as in `ImageNorm`.
            modulation: (B, num_modulations): for each layer gain - 1, and shift; or None.
        """
        changes = None
        if modulation is not None:
            # (B, layers, [gain, shift], F), unbound over layers
            changes = modulation.view(modulation.shape[0], len(self.linears), 2, -1).unbind(1)
        y = x if self.norm is None else self.norm(x, statistics, index)
        for number, (linear, activation) in enumerate(
            zip(self.linears, self.activations, strict=True)
        ):
            assert isinstance(linear, nn.Linear)
            y = linear(y) if changes is None else modulated(linear, y, changes[number])
            y = activation(y)
        if self.residual == "none":
            return y
        return x + y if self.residual == "add" else torch.cat((x, y), dim=-1)

    def weights(self) -> list[Tensor]:
        """The matrices (out, in) of the linear layers, first layer first."""
        return [linear.weight for linear in self.linears if isinstance(linear, nn.Linear)]

    def extra_repr(self) -> str:
        """The kind of identity path, for `print(model)`."""
        return f"residual={self.residual}"


def modulated(linear: nn.Linear, x: Tensor, modulation: Tensor) -> Tensor:
    """A linear layer with outputs scaled and shifted for each image: (1 + g) (W x + b) + s.

    Args:
        linear: F_in to F.
        x: (P, B, F_in).
        modulation: (B, 2, F): g and s.

    Returns:
        (P, B, F).

    Source: Perez et al. 2018, arXiv:1709.07871, equation 2.
    """
    gain, shift = 1 + modulation[:, 0], modulation[:, 1]  # (B, F)
    if modulation.shape[0] > 1:
        return torch.addcmul(shift, linear(x), gain)
    # For one image scale the weights, F*F numbers, instead of the outputs, P*F numbers; the
    # saving is twice as large in the backward pass.
    weight = linear.weight * gain.T
    return F.linear(x, weight, torch.addcmul(shift, linear.bias, gain)[0])
