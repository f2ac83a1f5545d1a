"""Mixtures of discretised logistic distributions: the likelihood of images of 256 levels.

Each pixel has K components. The first channel of a component follows a logistic distribution; each
further one another, whose mean depends linearly on the channels before.

Source: Salimans et al. 2017, arXiv:1701.05517, section 2.1 and 2.2 (PixelCNN++).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ShapeError

#: Half of the distance between two levels, in units of -1..1.
_HALF = 1 / 255
#: Limits of the logarithm of a scale; the lower one is that of the publication.
_LOG_SCALES = (-7.0, 7.0)


def parameters_per_component(channels: int) -> int:
    """Numbers of one component of one pixel: a weight, means, scales and dependences.

    3 for one channel, 10 for three.
    """
    return 1 + 2 * channels + channels * (channels - 1) // 2


def mixture_log_likelihood(parameters: Tensor, images: Tensor) -> Tensor:
    """ln p(image) of each image, summed over pixels.

    Args:
        parameters: (B, K P, H, W) with P = `parameters_per_component(C)`: K logits of the weights,
            C K means in -1..1, C K logarithms of the scales, then the dependences of channels on
            those before (before a tanh).
        images: (B, C, H, W) in 0..1; a value counts as its level and half the way to its
            neighbours, 0 and 1 as everything beyond them.

    Returns:
        (B,) nats of a probability of 256 levels, at most 0.

    Raises:
        ShapeError: the parameters do not fit the images.
    """
    logits, means, log_scales, dependences = _split(parameters, images.shape[1])
    _same_pixels(parameters, images)
    x = 2 * images[:, None] - 1  # (B, 1, C, H, W) in -1..1
    means = _conditional(means, dependences, x.expand(-1, means.shape[1], -1, -1, -1))
    inverse = torch.exp(-log_scales)
    above = (x - means + _HALF) * inverse
    below = (x - means - _HALF) * inverse
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): exact far from the mean too
    inside = F.logsigmoid(above) + F.logsigmoid(-below) + _log1mexp(2 * _HALF * inverse)
    lowest, highest = x < -1 + _HALF, x > 1 - _HALF
    log_level = torch.where(
        lowest, F.logsigmoid(above), torch.where(highest, F.logsigmoid(-below), inside)
    )
    by_component = log_level.sum(2) + F.log_softmax(logits, 1)  # (B, K, H, W)
    return torch.logsumexp(by_component, 1).flatten(1).sum(1)


def mixture_mean(parameters: Tensor, channels: int) -> Tensor:
    """The means of the mixtures as images, (B, C, H, W) in 0..1.

    Of the continuous distributions, limited to 0..1: rounding and the ends are left out.

    Args:
        parameters: as in `mixture_log_likelihood`.
        channels: C.
    """
    logits, means, _, dependences = _split(parameters, channels)
    made: list[Tensor] = []
    for channel in range(channels):
        known = torch.stack(made, 2) if made else means[:, :, :0]
        made.append(_mean_of(channel, means, dependences, known))
    mean = (torch.stack(made, 2) * logits.softmax(1)[:, :, None]).sum(1)
    return ((mean + 1) / 2).clamp(0, 1)


def _split(parameters: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (B, K, H, W); means, log scales and dependences, each (B, K, n, H, W)."""
    each = parameters_per_component(channels)
    if parameters.ndim != 4 or not parameters.shape[1] or parameters.shape[1] % each:
        raise ShapeError(
            f"a mixture for images of {channels} channels needs {each} numbers for each component "
            f"and pixel, and {tuple(parameters.shape[1:])} was given",
            hint=f"give the decoder {each} times as many channels as components, for instance "
            f"{5 * each} for 5",
        )
    batch, total, height, width = parameters.shape
    count = total // each
    logits, rest = parameters[:, :count], parameters[:, count:]
    rest = rest.reshape(batch, count, each - 1, height, width)
    means, log_scales, dependences = torch.split(
        rest, [channels, channels, each - 1 - 2 * channels], 2
    )
    return logits, means, log_scales.clamp(*_LOG_SCALES), dependences.tanh()


def _conditional(means: Tensor, dependences: Tensor, x: Tensor) -> Tensor:
    """The means of all channels, given the values x (B, K, C, H, W) of those before."""
    channels = means.shape[2]
    if channels == 1:
        return means
    return torch.stack([_mean_of(c, means, dependences, x[:, :, :c]) for c in range(channels)], 2)


def _mean_of(channel: int, means: Tensor, dependences: Tensor, before: Tensor) -> Tensor:
    """The mean of one channel, given the values of those before (B, K, c, H, W)."""
    if channel == 0:
        return means[:, :, 0]
    first = channel * (channel - 1) // 2
    own = dependences[:, :, first : first + channel]
    return means[:, :, channel] + (own * before).sum(2)


def _log1mexp(x: Tensor) -> Tensor:
    """ln(1 - exp(-x)) for x > 0, exact for small and for large x."""
    near = x < math.log(2)
    small = torch.log(-torch.expm1(-torch.where(near, x, torch.ones_like(x))))
    large = torch.log1p(-torch.exp(-torch.where(near, torch.ones_like(x), x)))
    return torch.where(near, small, large)


def _same_pixels(parameters: Tensor, images: Tensor) -> None:
    if parameters.shape[2:] != images.shape[2:] or len(parameters) != len(images):
        raise ShapeError(
            f"the parameters are {tuple(parameters.shape)}, but the images {tuple(images.shape)}",
            hint="the decoder must have the height and width of the train_set",
        )
