"""The likelihood of images under a mixture that the decoder outputs."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.ops.logistic_mixture import mixture_log_likelihood
from aelab.types import Output


class LogisticMixture(nn.Module):
    """Negative log-likelihood of images of 256 levels: -ln p of a discretised logistic mixture.

    Returns:
        Called with (output, target), (B,) nats, at least 0: of a probability, so that a bound with
        it is one of images of 8 bits.

    Raises:
        ConfigError: the model outputs no mixture.

    Source: Salimans et al. 2017, arXiv:1701.05517, equations 1 to 3.
    """

    #: Values are sums over pixels.
    is_sum: ClassVar[bool] = True

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """Values (B,) of an output and its images (B, C, H, W)."""
        parameters = output.details.get("mixture")
        if parameters is None:
            raise ConfigError(
                "logistic_mixture needs a mixture for each pixel, and this model gives none",
                hint="use LogisticMixtureAutoencoder(encoder, bottleneck, decoder, SHAPE)",
            )
        return -mixture_log_likelihood(parameters, target)
