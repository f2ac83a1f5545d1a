"""Recommended models: functions that return an `Autoencoder`."""

from __future__ import annotations

from collections.abc import Sequence

from aelab.models.activations import Activation
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Identity
from aelab.models.iterative import IterativeAutoencoder
from aelab.models.residual import DecoderResidual, EncoderResidual
from aelab.models.shapes import image_shape


def small_image_ae(
    shape: Sequence[int],
    code_size: int = 16,
    channels: Sequence[int] = (32, 48, 48),
    encoder_blocks: Sequence[int] = (0, 1, 1),
    decoder_blocks: Sequence[int] = (2, 2, 2),
    hidden: Sequence[int] = (160,),
    norm: str | None = "rms",
    act_fn: Activation = "relu",
    activation_last_layer: Activation = "sigmoid",
) -> Autoencoder:
    """The autoencoder that needed the fewest images in the comparison of architectures on MNIST.

    Train it with `optimizer: {Muon: {convolutions: true}}`, batches of 32, `learnrate: 0.01` and
    `scheduler: WarmupCosine`. Results are in docs/results/architecture-race.md.

    Args:
        shape: (C, H, W) of the images, of any size, values 0..1.
        code_size: D, length of the latent.
        channels: of each stage, starting at the image; the decoder has them reversed.
        encoder_blocks, decoder_blocks: residual blocks per stage, in the order of each part.
        hidden: of the encoder's head; the decoder has them reversed.
        norm, act_fn: of both, as in `EncoderResidual`.
        activation_last_layer: of the image; None leaves it unbounded.
    """
    encoder = EncoderResidual(
        shape, code_size, channels, encoder_blocks, hidden, norm=norm, act_fn=act_fn
    )
    decoder = DecoderResidual(
        shape,
        code_size,
        channels[::-1],
        decoder_blocks,
        hidden[::-1],
        norm=norm,
        act_fn=act_fn,
        activation_last_layer=activation_last_layer,
    )
    return Autoencoder(encoder, Identity(), decoder)


def quick_image_ae(
    shape: Sequence[int],
    code_size: int = 16,
    channels: Sequence[int] = (32, 64),
    encoder_blocks: Sequence[int] = (1, 1),
    decoder_blocks: Sequence[int] = (2, 2),
    hidden: Sequence[int] = (256,),
    squeeze: int | None = 12,
    modulated: bool = True,
    norm: str | None = "rms",
    act_fn: Activation = "relu",
    activation_last_layer: Activation = "sigmoid",
) -> Autoencoder:
    """An autoencoder for short runs, cheaper in each step than `iterative_image_ae`.

    It differs from `small_image_ae` in three ways: two halvings instead of three, a 1x1 convolution
    between feature map and head (`squeeze`), and a latent that modulates every block of the
    decoder (`modulated`). Recipe and results are in docs/results/speedrun.md.

    Args:
        shape: (C, H, W) of the images, of any size, values 0..1.
        code_size: D, length of the latent.
        channels: of each stage from the image on; the decoder has them the other way round.
        encoder_blocks, decoder_blocks: residual blocks of each stage, in the order of each part.
        hidden: of the encoder's head; the decoder mirrors it.
        squeeze, modulated: as in `EncoderResidual` and `DecoderResidual`.
        norm, act_fn: of both, as in `EncoderResidual`.
        activation_last_layer: of the image; None leaves it unbounded.
    """
    encoder = EncoderResidual(
        shape, code_size, channels, encoder_blocks, hidden, 3, norm, act_fn, squeeze
    )
    decoder = DecoderResidual(
        shape,
        code_size,
        channels[::-1],
        decoder_blocks,
        hidden[::-1],
        norm=norm,
        act_fn=act_fn,
        activation_last_layer=activation_last_layer,
        squeeze=squeeze,
        modulated=modulated,
    )
    return Autoencoder(encoder, Identity(), decoder)


def iterative_image_ae(
    shape: Sequence[int],
    code_size: int = 16,
    channels: Sequence[int] = (32, 64),
    blocks: int | Sequence[int] = 1,
    hidden: Sequence[int] = (256,),
    squeeze: int | None = 16,
    steps: int = 2,
    earlier_weight: float = 0.4,
    norm: str | None = "map",
    act_fn: Activation = "gelu",
    activation_last_layer: Activation = "sigmoid",
) -> IterativeAutoencoder:
    """The autoencoder that learns most from the first 20,000 images.

    An `IterativeAutoencoder` of residual parts with torch's first weights and activations after
    each norm. Recipe and results are in docs/results/speedrun.md.

    Args:
        shape: (C, H, W) of the images, of any size, values 0..1.
        code_size: D, length of the latent.
        channels: of each stage from the image on; the decoder has them the other way round.
        blocks: residual blocks of each stage of both parts, in the order of the encoder.
        hidden: of the encoder's head; the decoder mirrors it.
        squeeze: as in `EncoderResidual`.
        steps, earlier_weight: as in `IterativeAutoencoder`.
        norm, act_fn: of both parts, as in `EncoderResidual`.
        activation_last_layer: of the image; None leaves it unbounded.
    """
    depth, height, width = image_shape(shape, "iterative_image_ae")
    encoder = EncoderResidual(
        (2 * depth, height, width), code_size, channels, blocks, hidden, norm=norm, act_fn=act_fn,
        squeeze=squeeze, pre_activation=True, initial="torch",
    )  # fmt: skip
    decoder = DecoderResidual(
        (depth, height, width), code_size, channels[::-1],
        blocks if isinstance(blocks, int) else blocks[::-1],
        hidden[::-1], norm=norm, act_fn=act_fn, activation_last_layer=activation_last_layer,
        squeeze=squeeze, pre_activation=True, initial="torch", upsample="nearest",
    )  # fmt: skip
    return IterativeAutoencoder(encoder, decoder, steps, earlier_weight=earlier_weight)
