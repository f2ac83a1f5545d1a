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
    Trial,
    as_model,
    bounded_output,
    count_parameters,
    model_facts,
    notes_of,
    prepare_layout,
    refused_batch,
    try_anywhere,
    try_model,
)
from aelab.models.ascii_presets import ascii_autoencoder_2022
from aelab.models.autoencoders import (
    Autoencoder,
    EncoderDecoder,
    VariationalAutoencoder,
    VariationalAutoencoderConv,
)
from aelab.models.blocks import Conv2dBlock
from aelab.models.bottlenecks import Gaussian, GaussianMap, Identity, VariationalEncoder
from aelab.models.characters import (
    CharacterAutoencoder,
    CharacterEmbedding,
    GumbelSoftmax,
    OneHotCharacters,
    Softmax,
)
from aelab.models.conv_vae import ConvVAE
from aelab.models.coordinates import FourierPositions, LinearPositions, SinePositions
from aelab.models.dalle import DalleEncoder, DalleManifoldAutoencoder
from aelab.models.decoders import DecoderConv2d, DecoderMLP
from aelab.models.dry_run import asks_for_values
from aelab.models.encoders import EncoderConv2d, EncoderMLP
from aelab.models.helpers import HELPERS, ResidualAdd
from aelab.models.implicit import ImageManifoldDecoder
from aelab.models.implicit_presets import (
    anti_aliased_decoder,
    fast_implicit_decoder,
    film_decoder,
    fourier_decoder,
    siren_decoder,
)
from aelab.models.importance import ImportanceWeightedAutoencoder
from aelab.models.patch_transformer import (
    DecoderPatchTransformer,
    EncoderPatchTransformer,
    PatchTransformerAutoencoder,
)
from aelab.models.presets import small_image_ae
from aelab.models.probing import harmless_probes
from aelab.models.quantizers import FSQ, VQ
from aelab.models.reshaping import (
    DepthToSpace,
    FlattenPixels,
    Reshape,
    SpaceToDepth,
    SpaceToDepthPool,
    UnflattenPixels,
)
from aelab.models.residual import DecoderResidual, EncoderResidual, PixelNorm, ResidualBlock
from aelab.models.resnet import PretrainedResNet18, ResNet18, resnet18_open
from aelab.models.sim_vq import SimVQ
from aelab.models.small_ascii import small_ascii_ae
from aelab.models.stacked import StackedSymmetricAutoencoderConv2d
from aelab.models.transformer import (
    TransformerAutoencoder,
    TransformerDecoder,
    TransformerEncoder,
)
from aelab.parts import Table

#: Every part that a file may name.
MODELS: Table[Any] = Table(
    "model part",
    "aelab.parts",
    {
        "Autoencoder": Autoencoder,
        "CharacterAutoencoder": CharacterAutoencoder,
        "CharacterEmbedding": CharacterEmbedding,
        "Conv2dBlock": Conv2dBlock,
        "ConvVAE": ConvVAE,
        "DalleEncoder": DalleEncoder,
        "DalleManifoldAutoencoder": DalleManifoldAutoencoder,
        "DecoderConv2d": DecoderConv2d,
        "DecoderMLP": DecoderMLP,
        "DecoderPatchTransformer": DecoderPatchTransformer,
        "DecoderResidual": DecoderResidual,
        "DepthToSpace": DepthToSpace,
        "EncoderConv2d": EncoderConv2d,
        "EncoderDecoder": EncoderDecoder,
        "EncoderMLP": EncoderMLP,
        "EncoderPatchTransformer": EncoderPatchTransformer,
        "FSQ": FSQ,
        "EncoderResidual": EncoderResidual,
        "FlattenPixels": FlattenPixels,
        "FourierPositions": FourierPositions,
        "Gaussian": Gaussian,
        "GaussianMap": GaussianMap,
        "GumbelSoftmax": GumbelSoftmax,
        "Identity": Identity,
        "OneHotCharacters": OneHotCharacters,
        "PatchTransformerAutoencoder": PatchTransformerAutoencoder,
        "PixelNorm": PixelNorm,
        "PretrainedResNet18": PretrainedResNet18,
        "ResNet18": ResNet18,
        "ImageManifoldDecoder": ImageManifoldDecoder,
        "ImportanceWeightedAutoencoder": ImportanceWeightedAutoencoder,
        "LinearPositions": LinearPositions,
        "Reshape": Reshape,
        "ResidualBlock": ResidualBlock,
        "SinePositions": SinePositions,
        "SimVQ": SimVQ,
        "Softmax": Softmax,
        "SpaceToDepth": SpaceToDepth,
        "SpaceToDepthPool": SpaceToDepthPool,
        "StackedSymmetricAutoencoderConv2d": StackedSymmetricAutoencoderConv2d,
        "TransformerAutoencoder": TransformerAutoencoder,
        "TransformerDecoder": TransformerDecoder,
        "TransformerEncoder": TransformerEncoder,
        "UnflattenPixels": UnflattenPixels,
        "VQ": VQ,
        "VariationalAutoencoder": VariationalAutoencoder,
        "VariationalAutoencoderConv": VariationalAutoencoderConv,
        "VariationalEncoder": VariationalEncoder,
        "ascii_autoencoder_2022": ascii_autoencoder_2022,
        "small_ascii_ae": small_ascii_ae,
        "small_image_ae": small_image_ae,
        "resnet18_open": resnet18_open,
        "anti_aliased_decoder": anti_aliased_decoder,
        "fast_implicit_decoder": fast_implicit_decoder,
        "film_decoder": film_decoder,
        "fourier_decoder": fourier_decoder,
        "siren_decoder": siren_decoder,
    },
)

#: Parts that may read a file: whenever they are called, they do so under the roots of their block.
READS_FILES = frozenset({"PretrainedResNet18", "resnet18_open"})

_MODEL = frozenset({"encoder", "bottleneck", "decoder", "encode", "decode", "noise_shape"})

#: What a block of a file may read of each part, beyond calling it: children, shapes, own methods.
BLOCK_METHODS: dict[type, frozenset[str]] = {
    Autoencoder: _MODEL,
    CharacterAutoencoder: _MODEL | {"alphabet", "logits", "reading", "relaxation"},
    CharacterEmbedding: frozenset({"channels", "table"}),
    Conv2dBlock: frozenset(
        {"get_output_shape", "get_input_shape", "create_transposed", "layers", "channels"}
    ),
    ConvVAE: _MODEL | {"latent_dim", "output_shape", "reparameterize", "sample_z"},
    DalleEncoder: frozenset({"get_output_shape", "groups", "vocab_size"}),
    DalleManifoldAutoencoder: _MODEL,
    DecoderConv2d: frozenset({"convolution", "linear", "encoded_shape", "shape", "code_size"}),
    DecoderMLP: frozenset({"layers", "shape", "code_size"}),
    DecoderPatchTransformer: frozenset({"blocks", "head", "patches", "shape", "code_size"}),
    EncoderConv2d: frozenset({"convolution", "linear", "encoded_shape", "shape", "code_size"}),
    DecoderResidual: frozenset({"convolution", "head", "encoded_shape", "shape", "code_size"}),
    EncoderDecoder: _MODEL,
    EncoderMLP: frozenset({"layers", "shape", "code_size"}),
    EncoderPatchTransformer: frozenset({"blocks", "head", "patches", "shape", "code_size"}),
    FSQ: frozenset({"codebook_size", "dims", "levels", "lookup"}),
    EncoderResidual: frozenset({"convolution", "head", "encoded_shape", "shape", "code_size"}),
    Gaussian: frozenset({"linear_mu", "linear_sigma", "noise_shape", "latent_dims"}),
    GaussianMap: frozenset({"linear_mu", "linear_sigma", "noise_shape", "shape"}),
    OneHotCharacters: frozenset({"channels"}),
    PatchTransformerAutoencoder: _MODEL,
    PretrainedResNet18: frozenset({"trunk", "linear", "encoded_shape", "shape", "code_size"}),
    ResNet18: frozenset(
        {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc", "get_output_shape"}
    ),
    ImageManifoldDecoder: frozenset(
        {"blocks", "default_shape", "inputs", "linear_out", "num_input_channels", "render"}
    ),
    ResidualAdd: frozenset({"module"}),
    SimVQ: frozenset({"codebook_size", "dims", "lookup"}),
    SpaceToDepthPool: frozenset({"mix"}),
    StackedSymmetricAutoencoderConv2d: frozenset(
        {"encode", "decode", "layers", "shapes", "layer_index", "fade", "noise_shape"}
    ),
    TransformerAutoencoder: _MODEL,
    TransformerDecoder: frozenset({"linear", "transformer", "patches", "shape", "code_size"}),
    TransformerEncoder: frozenset({"linear", "transformer", "patches", "shape", "code_size"}),
    VQ: frozenset({"codebook_size", "dims", "lookup"}),
    ImportanceWeightedAutoencoder: _MODEL,
    VariationalAutoencoder: _MODEL,
    VariationalAutoencoderConv: _MODEL,
    VariationalEncoder: frozenset({"encoder", "bottleneck"}),
}

__all__ = [
    "ACTIVATIONS",
    "BLOCK_METHODS",
    "FSQ",
    "HELPERS",
    "MODELS",
    "NORMALIZATIONS",
    "READS_FILES",
    "VQ",
    "Activation",
    "Adapted",
    "Autoencoder",
    "CharacterAutoencoder",
    "CharacterEmbedding",
    "Conv2dBlock",
    "ConvVAE",
    "DalleEncoder",
    "DalleManifoldAutoencoder",
    "DecoderConv2d",
    "DecoderMLP",
    "DecoderPatchTransformer",
    "DecoderResidual",
    "DepthToSpace",
    "EncoderConv2d",
    "EncoderDecoder",
    "EncoderMLP",
    "EncoderPatchTransformer",
    "EncoderResidual",
    "FlattenPixels",
    "FourierPositions",
    "Gaussian",
    "GaussianMap",
    "GumbelSoftmax",
    "Identity",
    "ImageManifoldDecoder",
    "ImportanceWeightedAutoencoder",
    "LinearPositions",
    "ModelFacts",
    "OneHotCharacters",
    "PatchTransformerAutoencoder",
    "PixelNorm",
    "Reshape",
    "ResidualBlock",
    "SimVQ",
    "SinePositions",
    "Softmax",
    "SpaceToDepth",
    "SpaceToDepthPool",
    "StackedSymmetricAutoencoderConv2d",
    "TransformerAutoencoder",
    "TransformerDecoder",
    "TransformerEncoder",
    "Trial",
    "UnflattenPixels",
    "VariationalAutoencoder",
    "VariationalAutoencoderConv",
    "VariationalEncoder",
    "anti_aliased_decoder",
    "as_model",
    "ascii_autoencoder_2022",
    "asks_for_values",
    "bounded_output",
    "count_parameters",
    "fast_implicit_decoder",
    "film_decoder",
    "fourier_decoder",
    "harmless_probes",
    "make_activation",
    "make_normalization",
    "model_facts",
    "notes_of",
    "prepare_layout",
    "refused_batch",
    "resnet18_open",
    "siren_decoder",
    "small_ascii_ae",
    "small_image_ae",
    "try_anywhere",
    "try_model",
]
