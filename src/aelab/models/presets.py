"""Whole models that proved themselves: functions that return an `Autoencoder`."""

from __future__ import annotations

from collections.abc import Sequence

from aelab.models.activations import Activation
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Identity
from aelab.models.residual import DecoderResidual, EncoderResidual


def small_image_ae(
    shape: Sequence[int],
    code_size: int = 16,
    channels: Sequence[int] = (24, 48, 64),
    blocks: Sequence[int] = (0, 1, 1),
    hidden: Sequence[int] = (128,),
    norm: str | None = "rms",
    act_fn: Activation = "relu",
    activation_last_layer: Activation = "sigmoid",
) -> Autoencoder:
    """The autoencoder that won the race of architectures on MNIST (docs/results).

    Train it with `optimizer: {Muon: {convolutions: true}}`, batches of 32, `learnrate: 0.02` and
    `scheduler: WarmupCosine`.

    Args:
        shape: (C, H, W) of the images, of any size.
        code_size: D, length of the latent.
        channels, blocks, hidden: of `EncoderResidual`; the decoder mirrors them.
        norm, act_fn, activation_last_layer: of both.
    """
    encoder = EncoderResidual(shape, code_size, channels, blocks, hidden, norm=norm, act_fn=act_fn)
    decoder = DecoderResidual(
        shape,
        code_size,
        channels[::-1],
        blocks[::-1],
        hidden[::-1],
        norm=norm,
        act_fn=act_fn,
        activation_last_layer=activation_last_layer,
    )
    return Autoencoder(encoder, Identity(), decoder)
