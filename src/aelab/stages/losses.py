"""Losses of second stages: they compare `Output.details` of their models."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.types import Output


class DenoisingError(nn.Module):
    """Mean squared error of what `FlowMatching` or `LatentDiffusion` predict; `denoising_error`.

    Returns (B,), a mean over numbers; about 1 for a model that predicts 0 for diffusion, 2 for
    flow matching.

    Raises:
        ConfigError: the model predicts nothing of the kind.

    Source: Lipman et al. 2023, arXiv:2210.02747, equation 9; Ho et al. 2020, arXiv:2006.11239,
        equation 14.
    """

    #: Noise and time are drawn, so that validation draws them too, with fixed keys.
    of_drawn_latents = True

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """(output, images (B, C, H, W)) -> (B,)."""
        predicted, wanted = (_detail(output, name) for name in ("predicted", "wanted"))
        return (predicted - wanted).square().flatten(1).mean(1)


class CodeLikelihood(nn.Module):
    """Negative log-likelihood of the true codebook indices, nats per index; `code_nll`.

    At most about ln(codebook size) for a model that has learned nothing. Times the number of
    indices it is the length of an image's code in nats.

    Raises:
        ConfigError: the model has no logits of indices.

    Source: van den Oord et al. 2017, arXiv:1711.00937, section 3.3.
    """

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """(output, indices (B, C, H, W) as floats) -> (B,) nats."""
        logits = _detail(output, "code_logits")  # (B, L, K), L = H W C
        wanted = target.round().long().movedim(1, 3).flatten(1)  # (B, L)
        return F.cross_entropy(logits.movedim(2, 1), wanted, reduction="none").mean(1)


def _detail(output: Output, name: str) -> Tensor:
    if name in output.details:
        return output.details[name]
    raise ConfigError(
        f"this model has no output {name!r}; it has {', '.join(output.details) or 'only images'}",
        hint="denoising_error is for FlowMatching and LatentDiffusion, code_nll for PixelCNN and "
        "CodeTransformer",
    )
