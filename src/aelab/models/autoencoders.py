"""`Autoencoder`: encoder, bottleneck and decoder; with a plain and a variational version."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.bottlenecks import Identity, VariationalEncoder
from aelab.ops.factors import Pairs
from aelab.types import Output, TermSpec


class Autoencoder(nn.Module):
    """A model composed of encoder, bottleneck and decoder, which can be chosen independently.

    Args:
        encoder: maps images (B, C, H, W) to features.
        bottleneck: maps (features, noise) to (latent, posterior): `Identity`, `Gaussian`, ...
        decoder: maps the latent to images (B, C, H, W).
        terms: default loss terms of the model, in addition to those of the bottleneck. If none of
            them is a reconstruction loss, the file chooses one.

    Attributes:
        noise_shape: shape of one image's noise; None if the bottleneck needs none.
        codebooks: name -> number of entries of each codebook; empty if there is none.
        pairs: how images are paired in training; None if the bottleneck learns from single ones.
    """

    # For the restricted evaluator: the attributes of an object that a block may read.
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
        # The bottleneck adds its own terms, such as the commitment of a codebook.
        self.terms = (*terms, *getattr(bottleneck, "terms", ()))
        self.noise_shape: tuple[int, ...] | None = getattr(bottleneck, "noise_shape", None)
        self.codebooks: Mapping[str, int] = getattr(bottleneck, "codebooks", {})
        self.pairs: Pairs | None = getattr(bottleneck, "pairs", None)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) in 0..1, and noise (B, D) or None -> images, latent and posterior."""
        # Noise comes from the caller, so that a run can be repeated bit for bit.
        latent, posterior = self.bottleneck(self.encoder(images), noise)
        return Output(self.decoder(latent), latent, posterior)

    def encode(self, images: Tensor) -> Tensor:
        """Mean codes of images, (B, D)."""
        latent: Tensor = self.bottleneck(self.encoder(images), None)[0]
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W) of latents, nominally 0..1, not clamped."""
        images: Tensor = self.decoder(latent)
        return images

    def after_step(self) -> None:
        """Called after every optimiser step; updates a learned codebook."""
        follow = getattr(self.bottleneck, "after_step", None)
        if follow is not None:
            follow()


def _refuse_other_bottleneck(bottleneck: nn.Module) -> None:
    """Raises a `ConfigError` for a module that does not take (features, noise)."""
    try:
        inspect.signature(bottleneck.forward).bind("features", "noise")
    except TypeError:
        name = type(bottleneck).__name__
        raise ConfigError(
            f"bottleneck: {name} cannot be called with (features, noise)",
            hint=f"a bottleneck returns (latent, posterior) and may leave the noise unused; put "
            f"{name} at the end of the encoder instead, with the bottleneck Identity()",
        ) from None
    except ValueError:  # its forward has no readable signature
        return


class EncoderDecoder(Autoencoder):
    """A plain autoencoder, trained with the file's `loss_function`.

    Args:
        encoder: maps images to the latent. With a `VariationalEncoder` its bottleneck is used: the
            code is sampled, but without a KL term, so it need not stay near the prior.
        decoder: maps the latent to images.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        if isinstance(encoder, VariationalEncoder):
            # The variational encoder's two halves become parts of this model; nothing is copied.
            super().__init__(encoder.encoder, encoder.bottleneck, decoder)
        else:
            super().__init__(encoder, Identity(), decoder)


class VariationalAutoencoder(Autoencoder):
    """An autoencoder with a Gaussian latent, a reconstruction term and a KL term.

    The reconstruction is a mean over channels and pixels; the KL is a sum over the latent in nats.
    So the beta of a per-image evidence bound is `kl_loss_weight * C * H * W`. With weight 1 the
    posterior collapses; use about `0.1 / (C * H * W)`.

    Args:
        encoder: a `VariationalEncoder`.
        decoder: latent to images.
        reconstruction_loss: name or function known to `losses`.
        reconstruction_loss_weight: factor of the reconstruction in the total.
        kl_loss_weight: factor of the KL in the total.
        kl: `gaussian` selects the penalty `gaussian_kl`; the same for other penalties whose names
            end in `_kl`. None: the settings of the file decide.

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
    """The default loss terms of a variational autoencoder: reconstruction and `kl`."""
    name = reconstruction_loss if isinstance(reconstruction_loss, str) else "reconstruction"
    return (
        TermSpec(name, reconstruction_loss, float(reconstruction_loss_weight)),
        TermSpec("kl", "kl" if kl is None else f"{kl}_kl", float(kl_loss_weight)),
    )
