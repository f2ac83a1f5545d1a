"""The error of what a model did not see."""

from __future__ import annotations

from torch import Tensor, nn

from aelab.errors import ConfigError, did_you_mean
from aelab.types import Output

ERRORS = ("l2", "l1")


class MaskedError(nn.Module):
    """Mean error over the pixels that were hidden from the model.

    Where nothing is hidden it is the mean over all pixels.

    Args:
        error: `l2` (squared) or `l1` (absolute).
        visible_weight: weight of the mean over visible pixels, which is added; 0: they do not
            count.

    Returns:
        Called with (output, target), (B,), at least 0.

    Raises:
        ConfigError: unknown error, a negative weight, or a model that hides nothing.

    Source: He et al. 2022, arXiv:2111.06377, section 3, "Reconstruction target".
    """

    #: Masks are part of the draws of a model, so validations draw noise for each image.
    of_drawn_latents = True

    def __init__(self, error: str = "l2", visible_weight: float = 0.0) -> None:
        super().__init__()
        if error not in ERRORS:
            near = did_you_mean(error, ERRORS)
            raise ConfigError(f"masked_error: error must be 'l2' or 'l1', not {error!r}{near}")
        if visible_weight < 0:
            raise ConfigError(
                f"masked_error: visible_weight is {visible_weight}; possible: 0 or more"
            )
        self.error, self.visible_weight = error, float(visible_weight)

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """Values (B,) of an output and its images (B, C, H, W)."""
        mask = getattr(output.posterior, "mask", None)
        if mask is None:
            raise ConfigError(
                "masked_error compares what was hidden, and this model hides nothing",
                hint="use a MaskedAutoencoder, or l2",
            )
        apart = output.reconstruction - target
        pixels = apart.square() if self.error == "l2" else apart.abs()
        error = pixels.mean(1).flatten(1)  # (B, H * W), the mean over channels
        hidden = mask.flatten(1)
        share = hidden.mean(1)
        # Without a hidden pixel all count; the clamp keeps the other branch finite.
        over_hidden = (error * hidden).mean(1) / share.clamp(min=0.5 / hidden.shape[1])
        value: Tensor = over_hidden.where(share > 0, error.mean(1))
        if not self.visible_weight:
            return value
        seen = 1 - hidden
        over_visible = (error * seen).mean(1) / seen.mean(1).clamp(min=0.5 / hidden.shape[1])
        both: Tensor = value + self.visible_weight * over_visible
        return both
