"""Losses between a reconstruction and its target, with one value per image.

Every formula takes (reconstruction, target), both (B, ...), and `reduction`: `mean` over channels
and pixels (the default, as in the documents) or `sum` over them. The caller takes the mean over
the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError

Reduction = Literal["mean", "sum"]


def per_image(values: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Reduces (B, ...) over all axes but the batch.

    Returns:
        (B,), the mean or the sum of each image's values.

    Raises:
        ConfigError: unknown `reduction`.
    """
    if reduction not in ("mean", "sum"):
        raise ConfigError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
    if values.ndim == 1:
        return values
    # Not flatten(1): it would copy a channels-last tensor.
    axes = tuple(range(1, values.ndim))
    return values.mean(dim=axes) if reduction == "mean" else values.sum(dim=axes)


def same_shape(reconstruction: Tensor, target: Tensor) -> None:
    """Raises a `ShapeError` unless both shapes are equal; prevents silent broadcasting."""
    if reconstruction.shape != target.shape:
        raise ShapeError(
            f"the reconstruction is {tuple(reconstruction.shape)}, "
            f"but the images are {tuple(target.shape)}",
            hint="encoder and decoder must be built for the shape of the train_set",
        )


def l1(reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Absolute error |r - t|.

    Returns:
        (B,), at least 0, in units of the images (0..1).
    """
    same_shape(reconstruction, target)
    return per_image((reconstruction - target).abs(), reduction)


def l2(reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Squared error (r - t)^2, without a factor of one half.

    Returns:
        (B,), at least 0, in squared units of the images.
    """
    same_shape(reconstruction, target)
    return per_image((reconstruction - target).square(), reduction)


def huber(
    reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean", delta: float = 1.0
) -> Tensor:
    """Half the squared error up to `delta`, then linear: delta (|r - t| - delta / 2).

    Args:
        delta: where the parabola becomes a line, in units of the images; above 0. Images in 0..1
            rarely differ by 1, so the default is nearly `l2 / 2`; 0.1 is a useful value.

    Returns:
        (B,), at least 0.

    Source: Huber 1964, Robust estimation of a location parameter.
    """
    same_shape(reconstruction, target)
    return per_image(F.huber_loss(reconstruction, target, reduction="none", delta=delta), reduction)


def bce(
    reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean", margin: float = 1e-6
) -> Tensor:
    """Binary cross-entropy -(t ln p + (1 - t) ln(1 - p)), p the reconstruction.

    Args:
        reconstruction: probabilities, clamped to [margin, 1 - margin]. Outside there is no
            gradient, so give the decoder `activation_last_layer="sigmoid"`.
        target: 0..1; grey values are read as probabilities, so the lowest possible value is not 0
            but the entropy of the target.
        margin: of the clamp, above 0.

    Returns:
        (B,), nats; at least 0 for targets in 0..1.
    """
    same_shape(reconstruction, target)
    p = reconstruction.clamp(margin, 1 - margin)
    return per_image(-(target * torch.log(p) + (1 - target) * torch.log1p(-p)), reduction)


def bce_logits(reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Binary cross-entropy of sigmoid(r), stable for every r: max(r, 0) - r t + ln(1 + exp(-|r|)).

    To show such reconstructions, apply a sigmoid first.

    Returns:
        (B,), nats; at least 0 for targets in 0..1.
    """
    same_shape(reconstruction, target)
    return per_image(
        F.binary_cross_entropy_with_logits(reconstruction, target, reduction="none"), reduction
    )
