"""The error of the reconstructions before a model corrected its code."""

from __future__ import annotations

from torch import Tensor, nn

from aelab.errors import ConfigError, did_you_mean
from aelab.losses.masked import ERRORS
from aelab.types import Output


class EarlierError(nn.Module):
    """Mean error over pixels of the reconstructions before each correction, and over these.

    Args:
        error: `l2` (squared) or `l1` (absolute).

    Returns:
        Called with (output, target), (B,), at least 0.

    Raises:
        ConfigError: unknown error, or a model that does not correct its code.

    Source: Marino, Yue & Mandt 2018, arXiv:1807.09356, section 3.3.
    """

    #: It trains the way to the code; the file chooses the loss of the reconstruction.
    of_latents = True

    def __init__(self, error: str = "l2") -> None:
        super().__init__()
        if error not in ERRORS:
            near = did_you_mean(error, ERRORS)
            raise ConfigError(f"earlier_error: error must be 'l2' or 'l1', not {error!r}{near}")
        self.error = error

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """Values (B,) of an output and its images (B, C, H, W)."""
        earlier = getattr(output.posterior, "earlier", None)
        if earlier is None:
            raise ConfigError(
                "earlier_error compares what a model drew before it corrected its code, and this "
                "model corrects nothing",
                hint="use an IterativeAutoencoder, or leave the term out",
            )
        apart = earlier - target[:, None]
        pixels = apart.square() if self.error == "l2" else apart.abs()
        value: Tensor = pixels.flatten(1).mean(1)
        return value
