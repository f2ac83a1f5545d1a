"""Encoders, bottlenecks and decoders, and the `Autoencoder` that composes them.

A model returns `types.Output`, takes its noise from outside and keeps no tensors on itself.
The room knows nothing of losses, data and training; a model only names the terms it wishes for.
"""

from __future__ import annotations

from typing import Any

from aelab.models.activations import (
    ACTIVATIONS,
    NORMALIZATIONS,
    Activation,
    make_activation,
    make_normalization,
)
from aelab.models.adapting import (
    Adapted,
    ModelFacts,
    as_model,
    count_parameters,
    model_facts,
    prepare_layout,
    try_model,
)
from aelab.models.autoencoders import (
    Autoencoder,
    EncoderDecoder,
    VariationalAutoencoder,
    VariationalAutoencoderConv,
)
from aelab.models.blocks import Conv2dBlock
from aelab.models.bottlenecks import Gaussian, Identity, VariationalEncoder
from aelab.models.decoders import DecoderConv2d, DecoderMLP
from aelab.models.encoders import EncoderConv2d, EncoderMLP
from aelab.models.reshaping import (
    DepthToSpace,
    FlattenPixels,
    Reshape,
    SpaceToDepth,
    SpaceToDepthPool,
    UnflattenPixels,
)

#: Every part that a file may name.
MODELS: dict[str, Any] = {
    "Autoencoder": Autoencoder,
    "Conv2dBlock": Conv2dBlock,
    "DecoderConv2d": DecoderConv2d,
    "DecoderMLP": DecoderMLP,
    "DepthToSpace": DepthToSpace,
    "EncoderConv2d": EncoderConv2d,
    "EncoderDecoder": EncoderDecoder,
    "EncoderMLP": EncoderMLP,
    "FlattenPixels": FlattenPixels,
    "Gaussian": Gaussian,
    "Identity": Identity,
    "Reshape": Reshape,
    "SpaceToDepth": SpaceToDepth,
    "SpaceToDepthPool": SpaceToDepthPool,
    "UnflattenPixels": UnflattenPixels,
    "VariationalAutoencoder": VariationalAutoencoder,
    "VariationalAutoencoderConv": VariationalAutoencoderConv,
    "VariationalEncoder": VariationalEncoder,
}

_MODEL = frozenset({"encoder", "bottleneck", "decoder", "encode", "decode", "noise_shape"})

#: What a block of a file may read of each part, beyond calling it: children, shapes, own methods.
BLOCK_METHODS: dict[type, frozenset[str]] = {
    Autoencoder: _MODEL,
    Conv2dBlock: frozenset(
        {"get_output_shape", "get_input_shape", "create_transposed", "layers", "channels"}
    ),
    DecoderConv2d: frozenset({"convolution", "linear", "encoded_shape", "shape", "code_size"}),
    DecoderMLP: frozenset({"layers", "shape", "code_size"}),
    EncoderConv2d: frozenset({"convolution", "linear", "encoded_shape", "shape", "code_size"}),
    EncoderDecoder: _MODEL,
    EncoderMLP: frozenset({"layers", "shape", "code_size"}),
    Gaussian: frozenset({"linear_mu", "linear_sigma", "noise_shape", "latent_dims"}),
    SpaceToDepthPool: frozenset({"mix"}),
    VariationalAutoencoder: _MODEL,
    VariationalAutoencoderConv: _MODEL,
    VariationalEncoder: frozenset({"encoder", "bottleneck"}),
}

__all__ = [
    "ACTIVATIONS",
    "BLOCK_METHODS",
    "MODELS",
    "NORMALIZATIONS",
    "Activation",
    "Adapted",
    "Autoencoder",
    "Conv2dBlock",
    "DecoderConv2d",
    "DecoderMLP",
    "DepthToSpace",
    "EncoderConv2d",
    "EncoderDecoder",
    "EncoderMLP",
    "FlattenPixels",
    "Gaussian",
    "Identity",
    "ModelFacts",
    "Reshape",
    "SpaceToDepth",
    "SpaceToDepthPool",
    "UnflattenPixels",
    "VariationalAutoencoder",
    "VariationalAutoencoderConv",
    "VariationalEncoder",
    "as_model",
    "count_parameters",
    "make_activation",
    "make_normalization",
    "model_facts",
    "prepare_layout",
    "try_model",
]
