"""Encoders, bottlenecks and decoders, and the `Autoencoder` that composes them.

A model returns `types.Output`, takes its noise as an argument and stores no intermediate tensors.
This room must not import losses, data or training; a model only lists its default loss terms.
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
from aelab.models.autoencoders import (
    Autoencoder,
    EncoderDecoder,
    VariationalAutoencoder,
)
from aelab.models.binary_codes import BSQ, LFQ
from aelab.models.blocks import Conv2dBlock
from aelab.models.bottlenecks import Gaussian, GaussianMap, Identity, VariationalEncoder
from aelab.models.categorical import Categorical, GaussianAndCategorical
from aelab.models.combined_quantizers import Grouped, Residual
from aelab.models.conditional import ConditionalAutoencoder
from aelab.models.coordinates import FourierPositions, LinearPositions, SinePositions
from aelab.models.decoders import DecoderConv2d, DecoderMLP
from aelab.models.deep_compression import DecoderDC, EncoderDC, LinearAttentionBlock, dc_ae
from aelab.models.densities import FullGaussian, Laplace, LowRankGaussian, StudentT
from aelab.models.directions import VonMisesFisher
from aelab.models.encoders import EncoderConv2d, EncoderMLP
from aelab.models.equivariant import DecoderEquivariant, EncoderEquivariant
from aelab.models.flows import FlowGaussian
from aelab.models.hamiltonian import HamiltonianAutoencoder
from aelab.models.hierarchical import ladder_vae, top_down_vae
from aelab.models.hyperbolic import WrappedNormal
from aelab.models.implicit import ImageManifoldDecoder
from aelab.models.implicit_presets import (
    anti_aliased_decoder,
    fast_implicit_decoder,
    film_decoder,
    fourier_decoder,
    siren_decoder,
)
from aelab.models.importance import ImportanceWeightedAutoencoder
from aelab.models.iterative import IterativeAutoencoder
from aelab.models.kan import DecoderKAN, EncoderKAN, PolynomialLinear, SplineLinear
from aelab.models.masked import MaskedAutoencoder
from aelab.models.mean_image import FromMeanImage
from aelab.models.mixer import DecoderMixer, EncoderMixer
from aelab.models.mixture_likelihood import LogisticMixtureAutoencoder
from aelab.models.pairs import PairAveraged
from aelab.models.patch_transformer import (
    DecoderPatchTransformer,
    EncoderPatchTransformer,
    PatchTransformerAutoencoder,
)
from aelab.models.perturbed_codes import FSP
from aelab.models.presets import iterative_image_ae, quick_image_ae, small_image_ae
from aelab.models.priors import FlowPrior, MixturePrior, VampPriorAutoencoder
from aelab.models.quantizers import FSQ, VQ
from aelab.models.random_projection import RandomProjection
from aelab.models.reshaping import (
    DepthToSpace,
    FlattenPixels,
    Reshape,
    SpaceToDepth,
    SpaceToDepthPool,
    UnflattenPixels,
)
from aelab.models.residual import DecoderResidual, EncoderResidual, PixelNorm, ResidualBlock
from aelab.models.resnet import PretrainedResNet18, ResNet18
from aelab.models.riemannian import RiemannianAutoencoder
from aelab.models.sim_vq import SimVQ
from aelab.models.sparse_codes import BatchTopK, TopK
from aelab.models.spectral import spectral_norm
from aelab.models.two_level_vq import two_level_vq
from aelab.models.unet import UNet
from aelab.parts import Table, by_name

#: The parts of this room by name. `block_attributes` of a class lists the attributes of its objects
#: that a block may read.
_PARTS: dict[str, Any] = by_name(
    # whole models
    Autoencoder,
    ConditionalAutoencoder,
    EncoderDecoder,
    HamiltonianAutoencoder,
    ImportanceWeightedAutoencoder,
    IterativeAutoencoder,
    LogisticMixtureAutoencoder,
    MaskedAutoencoder,
    PatchTransformerAutoencoder,
    RiemannianAutoencoder,
    UNet,
    VampPriorAutoencoder,
    VariationalAutoencoder,
    dc_ae,
    iterative_image_ae,
    ladder_vae,
    quick_image_ae,
    small_image_ae,
    top_down_vae,
    two_level_vq,
    # encoders
    EncoderConv2d,
    EncoderDC,
    EncoderEquivariant,
    EncoderKAN,
    EncoderMLP,
    EncoderMixer,
    EncoderPatchTransformer,
    EncoderResidual,
    PretrainedResNet18,
    ResNet18,
    VariationalEncoder,
    # bottlenecks
    BSQ,
    BatchTopK,
    Categorical,
    FSP,
    FSQ,
    FlowGaussian,
    FlowPrior,
    FullGaussian,
    Gaussian,
    GaussianAndCategorical,
    GaussianMap,
    Grouped,
    Identity,
    LFQ,
    Laplace,
    LowRankGaussian,
    MixturePrior,
    PairAveraged,
    RandomProjection,
    Residual,
    SimVQ,
    StudentT,
    TopK,
    VQ,
    VonMisesFisher,
    WrappedNormal,
    # decoders
    DecoderConv2d,
    DecoderDC,
    DecoderEquivariant,
    DecoderKAN,
    DecoderMLP,
    DecoderMixer,
    DecoderPatchTransformer,
    DecoderResidual,
    FromMeanImage,
    ImageManifoldDecoder,
    anti_aliased_decoder,
    fast_implicit_decoder,
    film_decoder,
    fourier_decoder,
    siren_decoder,
    spectral_norm,
    # building blocks
    Conv2dBlock,
    DepthToSpace,
    FlattenPixels,
    FourierPositions,
    LinearAttentionBlock,
    LinearPositions,
    PixelNorm,
    PolynomialLinear,
    Reshape,
    ResidualBlock,
    SinePositions,
    SpaceToDepth,
    SpaceToDepthPool,
    SplineLinear,
    UnflattenPixels,
)

#: Every part that a file may name.
MODELS: Table[Any] = Table("model part", "aelab.parts", _PARTS)

#: Other functions and modules that blocks may call.
HELPERS: Table[Any] = Table("helper", "aelab.helpers", {})

__all__ = [
    "ACTIVATIONS",
    "HELPERS",
    "MODELS",
    "NORMALIZATIONS",
    "Activation",
    "make_activation",
    "make_normalization",
    *_PARTS,
]
