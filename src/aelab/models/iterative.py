"""An autoencoder whose encoder corrects its code by the error of its own reconstruction."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Identity
from aelab.types import Output, TermSpec

#: Factor on the error that the encoder sees, which is several times smaller than the pixels.
ERROR_SCALE = 4.0


class Iterated(NamedTuple):
    """What an encoder saw before its last correction.

    Attributes:
        earlier: (B, S, C, H, W), the reconstructions of the first codes, before each of S
            corrections.
    """

    earlier: Tensor


class IterativeAutoencoder(Autoencoder):
    """An autoencoder with iterative inference: the encoder sees the error of its first code.

    The encoder gets images and errors side by side as channels. At first the errors are 0. Then the
    code is decoded, and the encoder adds to it what it makes of the images and the error of their
    reconstruction, `steps` times. A single pass leaves codes that are not the best ones of the
    decoder (the amortisation gap); the further ones close a part of it. The weights are the same in
    all passes, so it has no more parameters. Training costs 1 + `steps` passes of both parts.

    Its term `earlier_error` trains the earlier reconstructions, too. Without it the corrections
    gain nothing (docs/results/speedrun.md).

    Args:
        encoder: maps (B, 2 C, H, W), images and errors, to codes (B, D); made with
            `shape=(2 * C, H, W)`.
        decoder: maps codes to images (B, C, H, W).
        steps: corrections, at least 1.
        error: `l2` or `l1`, of the term `earlier_error`.
        earlier_weight: of that term, at least 0.

    Raises:
        ConfigError: fewer than one correction, or an encoder of an odd number of channels.

    Source: Marino, Yue & Mandt 2018, arXiv:1807.09356, section 4.1, with errors as inputs; sums of
        the objective over the passes: section 3.3.
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes | {"steps"}

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        steps: int = 1,
        error: str = "l2",
        earlier_weight: float = 0.4,
    ) -> None:
        if steps < 1:
            raise ConfigError(
                f"IterativeAutoencoder: steps = {steps}; possible: 1, 2..",
                hint="without corrections it is EncoderDecoder(encoder, decoder)",
            )
        channels = next(iter(getattr(encoder, "shape", ())), 2)
        if channels % 2:
            raise ConfigError(
                f"IterativeAutoencoder: the encoder takes {channels} channels, but it sees images "
                "and their errors: twice the channels of the images",
                hint=f"make it for {2 * channels} channels: "
                f"{type(encoder).__name__}(({2 * channels}, H, W), ...)",
            )
        term = TermSpec("earlier_error", "earlier_error", earlier_weight, {"error": error})
        super().__init__(encoder, Identity(), decoder, (term,))
        self.steps = int(steps)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) in 0..1 -> images, codes (B, D) and earlier reconstructions."""
        code, earlier = self._corrected(images)
        return Output(self.decoder(code), code, Iterated(torch.stack(earlier, dim=1)))

    def encode(self, images: Tensor) -> Tensor:
        """Codes of images after all corrections, (B, D)."""
        return self._corrected(images)[0]

    def _corrected(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Codes after all corrections, and the reconstruction before each."""
        code: Tensor = self.encoder(torch.cat([images, torch.zeros_like(images)], dim=1))
        earlier = []
        for _ in range(self.steps):
            earlier.append(self.decoder(code))
            # Detached: the decoder learns to draw the images, not to make its errors telling.
            error = ERROR_SCALE * (images - earlier[-1].detach())
            code = code + self.encoder(torch.cat([images, error], dim=1))
        latent: Tensor = self.bottleneck(code, None)[0]
        return latent, earlier
