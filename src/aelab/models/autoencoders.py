"""`Autoencoder` composes encoder, bottleneck and decoder; two usual ways to do so have names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.bottlenecks import Identity, VariationalEncoder
from aelab.types import Output, TermSpec


class Autoencoder(nn.Module):
    """Encoder, bottleneck and decoder, orthogonal parts.

    Args:
        encoder: images (B, C, H, W) to features.
        bottleneck: (features, noise) to (latent, posterior): `Identity`, `Gaussian`, ...
        decoder: latent to images (B, C, H, W).
        terms: what the model wishes its objective to be, besides what the bottleneck wishes;
            without a reconstruction among them the file decides on that.

    Attributes:
        noise_shape: shape of one image's noise, None where the bottleneck needs none.
        codebooks: name -> entries of each codebook that the posterior chooses from; empty where it
            chooses from none.
    """

    # The restricted evaluator reads this of every part: what a block may touch of its objects.
    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"bottleneck", "decode", "decoder", "encode", "encoder", "noise_shape"}
    )

    def __init__(
        self,
        encoder: nn.Module,
        bottleneck: nn.Module,
        decoder: nn.Module,
        terms: Sequence[TermSpec] = (),
    ) -> None:
        super().__init__()
        _refuse_other_bottleneck(bottleneck)
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.terms = (*terms, *getattr(bottleneck, "terms", ()))
        self.noise_shape: tuple[int, ...] | None = getattr(bottleneck, "noise_shape", None)
        self.codebooks: Mapping[str, int] = getattr(bottleneck, "codebooks", {})

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W) in 0..1, and noise (B, D) or None -> images, latent and posterior."""
        latent, posterior = self.bottleneck(self.encoder(images), noise)
        return Output(self.decoder(latent), latent, posterior)

    def encode(self, images: Tensor) -> Tensor:
        """The mean code, (B, D)."""
        latent: Tensor = self.bottleneck(self.encoder(images), None)[0]
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W), nominally 0..1, not clamped."""
        images: Tensor = self.decoder(latent)
        return images

    def after_step(self) -> None:
        """Training calls it after every step of the optimiser; a codebook moves then."""
        follow = getattr(self.bottleneck, "after_step", None)
        if follow is not None:
            follow()


def _refuse_other_bottleneck(bottleneck: nn.Module) -> None:
    """Raises a `ConfigError` for a module that cannot be called as a bottleneck is."""
    try:
        inspect.signature(bottleneck.forward).bind("features", "noise")
    except TypeError:
        name = type(bottleneck).__name__
        raise ConfigError(
            f"bottleneck: {name} cannot be called with (features, noise)",
            hint=f"a bottleneck returns (latent, posterior) and may leave the noise unused; put "
            f"{name} at the end of the encoder instead, with the bottleneck Identity()",
        ) from None
    except ValueError:  # a forward without a signature
        return


class EncoderDecoder(Autoencoder):
    """A plain autoencoder; the file's `loss_function` decides how it is trained.

    Args:
        encoder: images to the latent. A `VariationalEncoder` brings its bottleneck with it; the
            code is then sampled, but nothing keeps its distribution near the prior.
        decoder: latent to images.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        if isinstance(encoder, VariationalEncoder):
            super().__init__(encoder.encoder, encoder.bottleneck, decoder)
        else:
            super().__init__(encoder, Identity(), decoder)


class VariationalAutoencoder(Autoencoder):
    """A Gaussian code, a reconstruction term and a KL term.

    The reconstruction is a mean over channels and pixels, the KL a sum over the latent in nats, so
    the beta of a per-image evidence bound is `kl_loss_weight * C * H * W`: with weight 1 the
    KL collapses the code. Use about `0.1 / (C * H * W)`.

    Args:
        encoder: a `VariationalEncoder`.
        decoder: latent to images.
        reconstruction_loss: name or function known to `losses`.
        reconstruction_loss_weight: factor of the reconstruction in the total.
        kl_loss_weight: factor of the KL in the total.
        kl: `gaussian` for the penalty `gaussian_kl`; likewise every other penalty whose name ends
            in `_kl`. None to let the settings of the file decide.

    Raises:
        ConfigError: `encoder` has no Gaussian bottleneck.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        reconstruction_loss: str | Callable[[Tensor, Tensor], Tensor] = "l2",
        reconstruction_loss_weight: float = 1.0,
        kl_loss_weight: float = 1.0,
        kl: str | None = None,
    ) -> None:
        if not isinstance(encoder, VariationalEncoder):
            raise ConfigError(
                f"VariationalAutoencoder: encoder must be a VariationalEncoder, "
                f"not {type(encoder).__name__}",
                hint="write VariationalEncoder(encoder, encoder_dims, latent_dims)",
            )
        terms = variational_terms(
            reconstruction_loss, reconstruction_loss_weight, kl_loss_weight, kl
        )
        super().__init__(encoder.encoder, encoder.bottleneck, decoder, terms)


def variational_terms(
    reconstruction_loss: str | Callable[[Tensor, Tensor], Tensor],
    reconstruction_loss_weight: float,
    kl_loss_weight: float,
    kl: str | None,
) -> tuple[TermSpec, ...]:
    """The wished-for terms of a variational autoencoder: reconstruction and `kl`."""
    name = reconstruction_loss if isinstance(reconstruction_loss, str) else "reconstruction"
    return (
        TermSpec(name, reconstruction_loss, float(reconstruction_loss_weight)),
        TermSpec("kl", "kl" if kl is None else f"{kl}_kl", float(kl_loss_weight)),
    )
