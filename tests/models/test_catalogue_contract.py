"""Every part of the catalogue in a model, over all image sizes: it works, or says why it cannot.

A part that is added to `MODELS` needs a builder here. Where a model refuses a size by construction,
its builder says which: a size refused without being announced fails, and so does the reverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from aelab import models as m
from aelab.ascii.models.characters import (
    CharacterAutoencoder,
    CharacterEmbedding,
    GumbelSoftmax,
    OneHotCharacters,
    Softmax,
)
from aelab.ascii.models.presets import ascii_autoencoder_2022
from aelab.ascii.models.small import small_ascii_ae
from aelab.errors import ShapeError
from aelab.founding.deep_compression import configured
from aelab.inspect import count_parameters, model_facts
from aelab.models import MODELS
from aelab.palette.colours import GivenPalette
from aelab.palette.models import small_palette_ae
from aelab.stages.denoising import FlowMatching, LatentDiffusion
from aelab.study.graphs import onnx_difference, onnx_file, traced
from aelab.types import Model, Output

Shape = tuple[int, int, int]

SIZES = (8, 9, 13, 16, 27, 28, 31, 32, 45, 64, 97, 128)
SIDES = [(size, size) for size in SIZES] + [(8, 31), (45, 28), (97, 16), (64, 128)]
SHAPES = [(1, *sides) for sides in SIDES] + [(3, *sides) for sides in SIDES[::3]]


class Case(NamedTuple):
    """A model made of catalogue parts.

    Attributes:
        build: (C, H, W) to the model.
        parts: names of MODELS that it is made of.
        fits: whether it takes images of (C, H, W); by default all.
        writes: whether its images are grids of characters.
    """

    build: Callable[[Shape], nn.Module]
    parts: str
    fits: Callable[[int, int, int], bool] = lambda channels, height, width: True
    writes: bool = False


def mlp(shape: Shape, decoder: nn.Module | None = None, bottleneck: nn.Module | None = None):
    """A small autoencoder around one part; its latent has 8 numbers."""
    encoder = m.EncoderMLP(shape, 8, hidden=(12,))
    decoder = m.DecoderMLP(shape, 8, hidden=(12,)) if decoder is None else decoder
    return m.Autoencoder(encoder, m.Identity() if bottleneck is None else bottleneck, decoder)


def around(shape: Shape, encoder: nn.Module):
    return m.EncoderDecoder(encoder, m.DecoderMLP(shape, 8, hidden=(12,)))


def conv(shape: Shape, **options):
    return m.EncoderDecoder(
        m.EncoderConv2d(shape, 8, channels=(4, 6), **options),
        m.DecoderConv2d(shape, 8, channels=(6, 4), **options),
    )


def space_to_depth(shape: Shape):
    return m.EncoderDecoder(
        m.EncoderConv2d(shape, 8, kernel_size=1, channels=(4, 6), space_to_depth=True),
        m.DecoderConv2d(shape, 8, kernel_size=1, channels=(6, 4), space_to_depth=True),
    )


def symmetric(shape: Shape):
    encoder = m.EncoderConv2d(shape, 8, kernel_size=3, stride=(1, 2), channels=(4, 6))
    decoder = nn.Sequential(
        nn.Linear(8, math.prod(encoder.encoded_shape)),
        m.Reshape(encoder.encoded_shape),
        encoder.convolution.create_transposed(act_last_layer=False, output_shape=shape),
    )
    return m.EncoderDecoder(encoder, decoder)


def variational(shape: Shape):
    encoder = m.VariationalEncoder(m.EncoderMLP(shape, 8), 8, 5)
    return m.VariationalAutoencoder(encoder, m.DecoderMLP(shape, 5), "l1")


def overnight(shape: Shape):
    return m.MODELS["VariationalAutoencoderConv"](
        shape, 8, kernel_size=3, channels=(4, 6), dropout=0.0
    )


def folded(shape: Shape):
    channels = shape[0]
    encoder = nn.Sequential(m.SpaceToDepthPool(channels), m.SpaceToDepth())
    grow = nn.Conv2d(channels, 4 * channels, 1)
    return m.EncoderDecoder(encoder, nn.Sequential(m.DepthToSpace(), grow, m.DepthToSpace()))


def flattened(shape: Shape):
    count = math.prod(shape)
    encoder = nn.Sequential(m.FlattenPixels(), nn.Linear(count, 8))
    return m.EncoderDecoder(encoder, nn.Sequential(nn.Linear(8, count), m.UnflattenPixels(shape)))


def feature_map(bottleneck: Callable[[], nn.Module]) -> Callable[[Shape], nn.Module]:
    def build(shape: Shape):
        block = m.Conv2dBlock((shape[0], 6, 8), 3, 2, act_fn="relu", act_last_layer=False)
        back = block.create_transposed(act_last_layer=False, output_shape=shape)
        return m.Autoencoder(block, bottleneck(), back)

    return build


def residual_parts(shape: Shape):
    encoder = nn.Sequential(
        nn.Conv2d(shape[0], 6, 3, 2),
        m.PixelNorm(6),
        m.ResidualBlock(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(1),
        nn.Linear(6, 8),
    )
    return around(shape, encoder)


def trunk(make: Callable[[], m.ResNet18]) -> Callable[[Shape], nn.Module]:
    def build(shape: Shape):
        features = make()
        count = math.prod(features.get_output_shape(shape))
        return around(shape, nn.Sequential(features, m.FlattenPixels(), nn.Linear(count, 8)))

    return build


def implicit(**options):
    def build(shape: Shape):
        settings = {name: make() for name, make in options.items()}
        settings |= {"num_hidden": 8, "num_blocks": 1, "default_shape": shape[1:]}
        return mlp(shape, m.ImageManifoldDecoder(8, shape[0], **settings))

    return build


def preset(make: Callable[..., nn.Module], **options):
    return lambda shape: mlp(shape, make(shape, 8, num_hidden=8, **options))


def tokens(encoder: Callable[..., nn.Module], decoder: Callable[..., nn.Module], patch: int):
    def build(shape: Shape):
        options = {"patch_size": patch, "num_layers": 1, "num_hidden": 8, "dropout": 0.0}
        return m.EncoderDecoder(encoder(shape, 8, **options), decoder(shape, 8, **options))

    return build


def whole(make: Callable[..., nn.Module], **options):
    return lambda shape: make(shape, 8, **options)


def multiple_of(step: int) -> Callable[[int, int, int], bool]:
    return lambda channels, height, width: height % step == 0 and width % step == 0


def square(channels: int, height: int, width: int) -> bool:
    return height == width


def colour_only(channels: int, height: int, width: int) -> bool:
    return channels == 3


def writing(**options):
    """Convolutions that read and write characters."""

    def build(shape: Shape):
        width = options.get("width", 95)
        reading = CharacterEmbedding(width) if "width" in options else OneHotCharacters()
        encoder = m.EncoderConv2d((width, *shape[1:]), 8, channels=(4, 6))
        decoder = m.DecoderConv2d((95, *shape[1:]), 8, channels=(6, 4))
        return CharacterAutoencoder(encoder, None, decoder, reading, options.get("relaxation"))

    return build


def grey_only(channels: int, height: int, width: int) -> bool:
    return channels == 1


RED_AND_BLACK = GivenPalette(["#ff0000", "#000000"])
SMALL_PALETTE = {"encoder_blocks": (0, 1), "decoder_blocks": (1, 1), "hidden": (8,)}

SMALL_ASCII = {"embedding": 4, "channels": (6, 8)}

TRANSFORMER = {"num_layers": 1, "num_hidden": 8, "dropout": 0.0}

CASES: dict[str, Case] = {
    "characters": Case(
        writing(relaxation=GumbelSoftmax(tau=0.5)),
        "CharacterAutoencoder OneHotCharacters GumbelSoftmax",
        grey_only,
        writes=True,
    ),
    "embedded characters": Case(
        writing(width=5, relaxation=Softmax()), "CharacterEmbedding Softmax", grey_only, True
    ),
    "ascii_autoencoder_2022": Case(
        lambda shape: ascii_autoencoder_2022("928930d", shape[1:]),
        "ascii_autoencoder_2022",
        grey_only,
        writes=True,
    ),
    "small_ascii_ae": Case(
        lambda shape: small_ascii_ae(shape[1:], **SMALL_ASCII), "small_ascii_ae", grey_only, True
    ),
    "small_ascii_ae, Gaussian": Case(
        lambda shape: small_ascii_ae(shape[1:], beta=0.1, **SMALL_ASCII),
        "GaussianMap",
        grey_only,
        writes=True,
    ),
    "small_ascii_ae, vector": Case(
        lambda shape: small_ascii_ae(shape[1:], latent_dims=5, hidden=(6,), **SMALL_ASCII),
        "small_ascii_ae",
        grey_only,
        writes=True,
    ),
    "convolutions": Case(conv, "EncoderConv2d DecoderConv2d EncoderDecoder"),
    "strides": Case(lambda shape: conv(shape, stride=2), "EncoderConv2d DecoderConv2d"),
    "space to depth": Case(space_to_depth, "EncoderConv2d DecoderConv2d", multiple_of(4)),
    "symmetric": Case(symmetric, "Conv2dBlock Reshape"),
    "linear": Case(mlp, "Autoencoder EncoderMLP DecoderMLP Identity"),
    "flattened": Case(flattened, "FlattenPixels UnflattenPixels"),
    "folded": Case(folded, "SpaceToDepth DepthToSpace SpaceToDepthPool", multiple_of(4)),
    "variational": Case(variational, "VariationalAutoencoder VariationalEncoder"),
    "gaussian": Case(lambda shape: mlp(shape, bottleneck=m.Gaussian(8, 8)), "Gaussian"),
    "importance": Case(
        lambda shape: m.ImportanceWeightedAutoencoder(
            m.VariationalEncoder(m.EncoderMLP(shape, 8), 8, 4),
            m.DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
            samples=3,
        ),
        "ImportanceWeightedAutoencoder",
    ),
    "overnight": Case(overnight, "VariationalAutoencoderConv"),
    "overnight, kernel 15": Case(
        lambda shape: m.MODELS["VariationalAutoencoderConv"](
            shape, 4, channels=(4, 6), dropout=0.0
        ),
        "VariationalAutoencoderConv",
        lambda channels, height, width: min(height, width) >= 29,
    ),
    "ConvVAE": Case(
        lambda shape: m.MODELS["ConvVAE"](
            shape[0], 4, latent_dim=8, image_size=shape[1:], out_ch=shape[0], kld_weight=0.001
        ),
        "ConvVAE",
    ),
    "vq": Case(lambda shape: mlp(shape, bottleneck=m.VQ(16, 4)), "VQ"),
    "vq of a map": Case(feature_map(lambda: m.VQ(16, 4)), "VQ"),
    "fsq": Case(lambda shape: mlp(shape, bottleneck=m.FSQ((8, 5, 5, 5))), "FSQ"),
    "fsq of a map": Case(feature_map(lambda: m.FSQ((8, 5))), "FSQ"),
    "residual vq": Case(
        feature_map(lambda: m.Residual([m.VQ(8, 4), m.VQ(8, 4), m.FSQ((3, 3, 3, 3))])), "Residual"
    ),
    "grouped": Case(
        feature_map(lambda: m.Grouped([m.Residual([m.VQ(8, 4), m.VQ(4, 4)]), m.LFQ(4)])), "Grouped"
    ),
    "lfq": Case(lambda shape: mlp(shape, bottleneck=m.LFQ(4)), "LFQ"),
    "bsq of a map": Case(feature_map(lambda: m.BSQ(4)), "BSQ"),
    "top k": Case(lambda shape: mlp(shape, bottleneck=m.TopK(3)), "TopK"),
    "batch top k": Case(lambda shape: mlp(shape, bottleneck=m.BatchTopK(3)), "BatchTopK"),
    "mixture prior": Case(
        lambda shape: mlp(shape, bottleneck=m.MixturePrior(8, 8, 3)), "MixturePrior"
    ),
    "vamp prior": Case(
        lambda shape: m.VampPriorAutoencoder(
            m.VariationalEncoder(m.EncoderMLP(shape, 8), 8, 4),
            m.DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
            shape,
            components=3,
        ),
        "VampPriorAutoencoder",
    ),
    "classes": Case(
        lambda shape: m.ConditionalAutoencoder(
            m.VariationalEncoder(m.EncoderMLP(shape, 8), 8, 4),
            m.DecoderMLP(shape, 6, activation_last_layer="sigmoid"),
            shape,
            classes=2,
            class_prior=True,
            label_dropping=0.1,
        ),
        "ConditionalAutoencoder",
    ),
    "ladder": Case(lambda shape: m.ladder_vae(shape, (2, 3), (8, 8)), "ladder_vae"),
    "top down": Case(
        lambda shape: m.top_down_vae(shape, (1, 1), channels=4, latent_channels=1), "top_down_vae"
    ),
    "codes on two maps": Case(
        lambda shape: m.two_level_vq(shape, 8, 4, channels=4, halvings=1), "two_level_vq"
    ),
    "planar flow": Case(lambda shape: mlp(shape, bottleneck=m.FlowGaussian(8, 8)), "FlowGaussian"),
    "autoregressive flow": Case(
        lambda shape: mlp(shape, bottleneck=m.FlowGaussian(8, 8, 2, "autoregressive", 16)),
        "FlowGaussian",
    ),
    "spline flow": Case(
        lambda shape: mlp(shape, bottleneck=m.FlowGaussian(8, 8, 2, "spline", 16)), "FlowGaussian"
    ),
    "flow prior": Case(lambda shape: mlp(shape, bottleneck=m.FlowPrior(8, 8, 2, 16)), "FlowPrior"),
    "full covariance": Case(
        lambda shape: mlp(shape, bottleneck=m.FullGaussian(8, 8)), "FullGaussian"
    ),
    "low rank": Case(
        lambda shape: mlp(shape, bottleneck=m.LowRankGaussian(8, 8, 3)), "LowRankGaussian"
    ),
    "laplace": Case(lambda shape: mlp(shape, bottleneck=m.Laplace(8, 8)), "Laplace"),
    "student": Case(lambda shape: mlp(shape, bottleneck=m.StudentT(8, 8)), "StudentT"),
    "weighted latents of any posterior": Case(
        lambda shape: m.ImportanceWeightedAutoencoder(
            m.EncoderMLP(shape, 8),
            m.DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
            samples=2,
            bottleneck=m.LowRankGaussian(8, 4),
            gradient="doubly",
        ),
        "ImportanceWeightedAutoencoder LowRankGaussian",
    ),
    "from the mean image": Case(
        lambda shape: mlp(shape, m.FromMeanImage(m.DecoderMLP(shape, 8, hidden=(12,)), shape)),
        "FromMeanImage",
    ),
    "leapfrog steps": Case(
        lambda shape: m.HamiltonianAutoencoder(
            m.VariationalEncoder(m.EncoderMLP(shape, 8), 8, 4),
            m.DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
        ),
        "HamiltonianAutoencoder",
    ),
    "learned metric": Case(
        lambda shape: m.RiemannianAutoencoder(
            m.VariationalEncoder(m.EncoderMLP(shape, 8), 8, 4),
            m.DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
            m.EncoderMLP(shape, 10),
            steps=1,
            centres=4,
        ),
        "RiemannianAutoencoder",
    ),
    "logistic mixture": Case(
        lambda shape: m.LogisticMixtureAutoencoder(
            m.EncoderMLP(shape, 8, hidden=(12,)),
            m.Gaussian(8, 4),
            m.DecoderMLP((2 * (3 if shape[0] == 1 else 10), *shape[1:]), 4, hidden=(12,)),
            shape,
        ),
        "LogisticMixtureAutoencoder",
    ),
    "spectral norm": Case(
        lambda shape: mlp(shape, decoder=m.spectral_norm(m.DecoderMLP(shape, 8, hidden=(12,)))),
        "spectral_norm",
    ),
    "sphere": Case(lambda shape: mlp(shape, bottleneck=m.VonMisesFisher(8, 8)), "VonMisesFisher"),
    "hyperbolic": Case(lambda shape: mlp(shape, bottleneck=m.WrappedNormal(8, 8)), "WrappedNormal"),
    "averages of pairs": Case(
        lambda shape: mlp(shape, bottleneck=m.PairAveraged(m.Gaussian(8, 8))), "PairAveraged"
    ),
    "random projection": Case(
        feature_map(lambda: m.RandomProjection(16, 4, 4)), "RandomProjection"
    ),
    "fsp": Case(lambda shape: mlp(shape, bottleneck=m.FSP(8, (8, 5))), "FSP"),
    "groups of importance weights": Case(
        lambda shape: m.ImportanceWeightedAutoencoder(
            m.VariationalEncoder(m.EncoderMLP(shape, 8), 8, 4),
            m.DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
            samples=3,
            groups=2,
        ),
        "ImportanceWeightedAutoencoder",
    ),
    "categorical": Case(lambda shape: mlp(shape, bottleneck=m.Categorical(8, 2, 4)), "Categorical"),
    "joint": Case(
        lambda shape: mlp(shape, bottleneck=m.GaussianAndCategorical(8, 4, 2, 2)),
        "GaussianAndCategorical",
    ),
    "sim vq": Case(feature_map(lambda: m.SimVQ(16, 4)), "SimVQ"),
    "residual": Case(
        lambda shape: m.EncoderDecoder(
            m.EncoderResidual(shape, 8, channels=(4, 6, 8), hidden=(12,)),
            m.DecoderResidual(shape, 8, channels=(8, 6, 4), hidden=(12,)),
        ),
        "EncoderResidual DecoderResidual",
    ),
    "residual parts": Case(residual_parts, "PixelNorm ResidualBlock"),
    "small_image_ae": Case(
        lambda shape: m.small_image_ae(shape, channels=(4, 6, 8), hidden=(12,)), "small_image_ae"
    ),
    "quick_image_ae": Case(
        lambda shape: m.quick_image_ae(shape, channels=(4, 6), hidden=(12,), squeeze=3),
        "quick_image_ae",
    ),
    "iterative_image_ae": Case(
        lambda shape: m.iterative_image_ae(shape, channels=(4, 6), hidden=(12,), squeeze=3),
        "iterative_image_ae",
    ),
    "IterativeAutoencoder": Case(
        lambda shape: m.IterativeAutoencoder(
            m.EncoderMLP((2 * shape[0], *shape[1:]), 8), m.DecoderMLP(shape, 8), steps=2
        ),
        "IterativeAutoencoder",
    ),
    "resnet18_open": Case(trunk(m.MODELS["resnet18_open"]), "resnet18_open", colour_only),
    "ResNet18": Case(trunk(lambda: m.ResNet18("layer1")), "ResNet18", colour_only),
    "PretrainedResNet18": Case(
        lambda shape: around(shape, m.PretrainedResNet18(shape, 8, weights=None, stage="layer1")),
        "PretrainedResNet18",
    ),
    "implicit": Case(implicit(), "ImageManifoldDecoder"),
    "implicit, sine": Case(implicit(pos_embedding=m.SinePositions), "SinePositions"),
    "implicit, Fourier": Case(implicit(pos_embedding=m.FourierPositions), "FourierPositions"),
    "implicit, x and y": Case(implicit(pos_embedding=m.LinearPositions), "LinearPositions"),
    "anti-aliased": Case(preset(m.anti_aliased_decoder, num_blocks=1), "anti_aliased_decoder"),
    "film": Case(preset(m.film_decoder, num_blocks=1), "film_decoder"),
    "Fourier": Case(preset(m.fourier_decoder, num_blocks=1, num_frequencies=4), "fourier_decoder"),
    "siren": Case(preset(m.siren_decoder, num_layers=2), "siren_decoder"),
    "fast implicit": Case(
        preset(m.fast_implicit_decoder, grid_shape=(3, 3), grid_channels=4), "fast_implicit_decoder"
    ),
    "DalleManifoldAutoencoder": Case(
        lambda shape: m.MODELS["DalleManifoldAutoencoder"](
            shape, n_hid=4, vocab_size=8, n_blk_per_group=1, decoder_n_hid=8, decoder_n_blk=1
        ),
        "DalleManifoldAutoencoder",
    ),
    "DalleEncoder": Case(
        lambda shape: around(
            shape,
            nn.Sequential(
                m.MODELS["DalleEncoder"](
                    n_hid=4,
                    n_blk_per_group=1,
                    input_channels=shape[0],
                    vocab_size=8,
                    space_to_depth=True,
                    use_mixed_precision=False,
                ),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(1),
            ),
        ),
        "DalleEncoder",
        multiple_of(8),
    ),
    "MLPAE": Case(lambda shape: m.MODELS["MLPAE"](shape, (12, 8), "relu"), "MLPAE"),
    "KANPolyAE": Case(
        lambda shape: m.MODELS["KANPolyAE"](shape, (6, 4), 2, "relu6", ("relu", "sigmoid")),
        "KANPolyAE KAELayer",
    ),
    "CNNKAE": Case(
        lambda shape: m.MODELS["CNNKAE"](shape, 4, (3, 2), 5, encoder_kae_order=2),
        "CNNKAE",
        lambda channels, height, width: min(height, width) > 8,
    ),
    "MixerMLP": Case(
        lambda shape: m.MODELS["MixerMLP"](shape, 4, (6, 6, 8), (1, 2), "cnnf", 3, {0: 2}),
        "MixerMLP",
        multiple_of(4),
    ),
    "ScriptedAE": Case(
        lambda shape: m.MODELS["ScriptedAE"](
            shape[0], "ch=4|rdown2|scl=1|ch*1|a|down2|po=2|d:aqk|ch=2", 3, activation="sinstep2"
        ),
        "ScriptedAE",
        multiple_of(4),
    ),
    "ScriptAE": Case(
        lambda shape: m.MODELS["ScriptAE"](f"conv({shape[0]},4,3,1,1)\nps(2)\nbn(16)"),
        "ScriptAE",
        multiple_of(2),
    ),
    "ResidualScriptedAE": Case(
        lambda shape: m.MODELS["ResidualScriptedAE"](shape[0], "ch=4|down|ch/5", 3),
        "ResidualScriptedAE",
        multiple_of(2),
    ),
    "ResAE": Case(
        lambda shape: m.MODELS["ResAE"](shape[0], 4, 3, num_layers=2), "ResAE", multiple_of(4)
    ),
    "ResConvStack": Case(
        lambda shape: m.EncoderDecoder(
            m.MODELS["ResConvStack"]((shape[0], 4, 4), scale=(1, 2)),
            m.MODELS["ResConvStack"]((4, 4, shape[0]), scale=(1, 2), transpose=True),
        ),
        "ResConvStack",
        multiple_of(2),
    ),
    "PatchAutoencoder2d": Case(
        lambda shape: m.MODELS["PatchAutoencoder2d"](shape, 6, 3, 4, 1),
        "PatchAutoencoder2d",
        multiple_of(4),
    ),
    "TotalCALayer": Case(
        lambda shape: m.EncoderDecoder(
            nn.Sequential(nn.Conv2d(shape[0], 3, 1), m.MODELS["TotalCALayer"](learn_rules=True)),
            nn.Conv2d(3, shape[0], 1),
        ),
        "TotalCALayer",
    ),
    "NewAutoEncoder": Case(
        lambda shape: m.MODELS["NewAutoEncoder"](
            shape[0], 3, channels=(4, 4, 2), padding=1, shuffle=(0, 2, 0)
        ),
        "NewAutoEncoder",
        multiple_of(2),
    ),
    "ConvUpscaleDecoder": Case(
        lambda shape: mlp(shape, m.MODELS["ConvUpscaleDecoder"](shape, 8, 2, 2, 4, 2)),
        "ConvUpscaleDecoder",
        multiple_of(2),
    ),
    "VQVAE": Case(
        lambda shape: m.MODELS["VQVAE"](shape[0], 8, 1, 4, embed_dim=3, n_embed=5),
        "VQVAE",
        lambda channels, height, width: height == width and height % 8 == 0,
    ),
    "DCAE": Case(
        lambda shape: m.MODELS["DCAE"](
            configured(
                {
                    "in_channels": shape[0],
                    "latent_channels": 4,
                    "encoder": {"width_list": (8, 32), "depth_list": (0, 1)},
                    "decoder": {
                        "width_list": (8, 32),
                        "depth_list": (1, 1),
                        "block_type": ("ResBlock", "EViT_GLU"),
                        "norm": "ln2d",
                    },
                }
            )
        ),
        "DCAE",
        multiple_of(2),
    ),
    "HistogramLayer": Case(
        lambda shape: around(
            shape,
            nn.Sequential(
                nn.Flatten(1), m.MODELS["HistogramLayer"](6, 0, 1, 20.0), nn.Linear(6, 8)
            ),
        ),
        "HistogramLayer",
    ),
    "EnsembleDecoder2d": Case(
        lambda shape: mlp(shape, m.MODELS["EnsembleDecoder2d"](shape, 8)), "EnsembleDecoder2d"
    ),
    "stacked": Case(
        whole(m.MODELS["StackedSymmetricAutoencoderConv2d"], channels=(4, 6)),
        "StackedSymmetricAutoencoderConv2d",
    ),
    "TransformerAutoencoder": Case(
        whole(m.MODELS["TransformerAutoencoder"], **TRANSFORMER),
        "TransformerAutoencoder",
        multiple_of(8),
    ),
    "TransformerEncoder": Case(
        tokens(m.MODELS["TransformerEncoder"], m.MODELS["TransformerDecoder"], 8),
        "TransformerEncoder TransformerDecoder",
        multiple_of(8),
    ),
    "PatchTransformerAutoencoder": Case(
        whole(m.PatchTransformerAutoencoder, patch_size=5, stride=4, **TRANSFORMER),
        "PatchTransformerAutoencoder",
    ),
    "flow matching": Case(lambda shape: FlowMatching(shape, width=8, blocks=1), "FlowMatching"),
    "diffusion": Case(lambda shape: LatentDiffusion(shape, width=8, blocks=1), "LatentDiffusion"),
    "palette": Case(
        lambda shape: small_palette_ae(shape, RED_AND_BLACK, 4, channels=(6, 8), **SMALL_PALETTE),
        "PaletteAutoencoder small_palette_ae",
        grey_only,
    ),
    "splines": Case(
        lambda shape: m.EncoderDecoder(
            m.EncoderKAN(shape, 8, hidden=(6,), intervals=3),
            m.DecoderKAN(shape, 8, hidden=(6,), intervals=3),
        ),
        "EncoderKAN DecoderKAN",
    ),
    "polynomials": Case(
        lambda shape: m.EncoderDecoder(
            m.EncoderKAN(shape, 8, hidden=(6,), basis="polynomial", act_fn="sigmoid"),
            m.DecoderKAN(
                shape, 8, hidden=(6,), basis="polynomial", degree=2, activation_last_layer="sigmoid"
            ),
        ),
        "EncoderKAN DecoderKAN",
    ),
    "layers of functions": Case(
        lambda shape: m.EncoderDecoder(
            nn.Sequential(nn.Flatten(1), m.SplineLinear(math.prod(shape), 8)),
            nn.Sequential(m.PolynomialLinear(8, math.prod(shape)), m.Reshape(shape)),
        ),
        "SplineLinear PolynomialLinear",
    ),
    "dc_ae": Case(
        lambda shape: m.dc_ae(shape, 2, channels=(4, 8, 8), attention_stages=2, num_heads=2),
        "dc_ae",
    ),
    "DC-AE, uneven": Case(
        lambda shape: m.EncoderDecoder(
            m.EncoderDC(shape, 3, channels=(6, 12), blocks=(0, 1), num_heads=3),
            m.DecoderDC(shape, 3, channels=(6, 3), blocks=1, num_heads=2),
        ),
        "EncoderDC DecoderDC",
    ),
    "linear attention": Case(
        lambda shape: m.EncoderDecoder(
            nn.Sequential(nn.Conv2d(shape[0], 4, 1), m.LinearAttentionBlock(4, 2)),
            nn.Conv2d(4, shape[0], 1),
        ),
        "LinearAttentionBlock",
    ),
    "turns": Case(
        lambda shape: m.EncoderDecoder(
            m.EncoderEquivariant(shape, 8, channels=(2, 3)),
            m.DecoderEquivariant(shape, 8, channels=(3, 2)),
        ),
        "EncoderEquivariant DecoderEquivariant",
        square,
    ),
    "turns and mirrors, invariant": Case(
        lambda shape: around(
            shape, m.EncoderEquivariant(shape, 8, (2, 2, 2), group="d4", code="invariant")
        ),
        "EncoderEquivariant",
        square,
    ),
    "masked": Case(
        lambda shape: m.MaskedAutoencoder(
            shape, 3, 5, num_layers=1, num_hidden=8, num_heads=2, decoder_layers=1
        ),
        "MaskedAutoencoder",
    ),
    "u-net": Case(lambda shape: m.UNet(shape, 8, channels=(4, 6, 8)), "UNet"),
    "u-net, one skip": Case(
        lambda shape: m.UNet(shape, 8, channels=(4, 6, 8), blocks=(0, 1, 1), skips=1), "UNet"
    ),
    "mixer": Case(
        lambda shape: m.EncoderDecoder(
            m.EncoderMixer(shape, 8, patch_size=7, num_layers=1, num_hidden=8),
            m.DecoderMixer(shape, 8, patch_size=5, stride=4, num_layers=1, num_hidden=8),
        ),
        "EncoderMixer DecoderMixer",
    ),
    "EncoderPatchTransformer": Case(
        tokens(m.EncoderPatchTransformer, m.DecoderPatchTransformer, 7),
        "EncoderPatchTransformer DecoderPatchTransformer",
    ),
}


#: Their images are one map of indices whose size is part of them: tests/stages tries them.
OF_INDICES = {"CodeTransformer", "PixelCNN"}


def test_every_part_of_the_catalogue_is_here() -> None:
    covered = {name for case in CASES.values() for name in case.parts.split()}
    missing = set(MODELS.ours) - covered - OF_INDICES
    assert not missing, f"add a case with {sorted(missing)} to CASES"
    assert covered <= MODELS.keys(), sorted(covered - MODELS.keys())


def try_shape(case: Case, shape: Shape) -> str | None:
    """None where the model makes images of `shape` of such, else the refusal's message."""
    try:
        with torch.device("meta"):
            model = case.build(shape)
            output = model(torch.empty(2, *shape))
        if output.reconstruction.shape != (2, *shape):
            model_facts(model, shape)  # says so
    except ShapeError as error:
        return str(error)
    assert output.reconstruction.shape == (2, *shape)
    assert output.latent.shape[0] == 2
    return None


@pytest.mark.parametrize("name", CASES)
def test_a_model_takes_all_sizes_but_those_it_announces(name: str) -> None:
    case, wrong = CASES[name], []
    for shape in SHAPES:
        message = try_shape(case, shape)
        if (message is None) != case.fits(*shape):
            wrong.append(f"{shape}: {message or 'is taken, although announced as refused'}")
        if message is not None:
            assert any(character.isdigit() for character in message), message
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_names_sizes_and_what_is_possible(name: str) -> None:
    case = CASES[name]
    refused = [shape for shape in SHAPES if not case.fits(*shape)]
    for shape in refused[:1]:
        message = try_shape(case, shape)
        assert message is not None and any(str(size) in message for size in shape), message
        assert any(word in message for word in ("use", "need", "must", "possible")), message


#: For real: one odd and narrow, one even and in colour.
SAMPLES = [(1, 13, 27), (3, 16, 16), (1, 32, 32), (3, 45, 31)]


REAL = [
    pytest.param(name, shape, id=f"{name}-{'x'.join(map(str, shape))}")
    for name, case in CASES.items()
    for shape in [shape for shape in SAMPLES if case.fits(*shape)][:2]
]


def build(name: str, shape: Shape) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].build(shape)


def pictures(shape: Shape, count: int = 3) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def inputs(name: str, shape: Shape) -> torch.Tensor:
    """Pictures, or grids of characters where the model writes."""
    images = pictures(shape)
    return (images * 94).round() / 255 if CASES[name].writes else images


def answer(output: Output) -> torch.Tensor:
    """What the model paints; of one that writes the logits, which no rounding turns over."""
    return output.details.get("logits", output.reconstruction)


def noise_of(model: nn.Module, count: int = 3) -> torch.Tensor | None:
    if model.noise_shape is None:
        return None
    return torch.randn(count, *model.noise_shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("name", "shape"), REAL)
def test_a_model_learns_everywhere_and_repeats_itself(name: str, shape: Shape) -> None:
    model = build(name, shape)
    images, noise = inputs(name, shape), noise_of(model)
    assert isinstance(model, Model)
    output = model(images, noise)
    assert isinstance(output, Output) and output.reconstruction.shape == images.shape
    wishes = [output.reconstruction.square().mean(), output.latent.square().mean()]
    wishes += [v.square().mean() for v in output.posterior if v.is_floating_point()]
    wishes += [v.square().mean() for v in output.details.values()]
    sum(wishes).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
    model.eval()
    first, second = model(images, noise), model(images, noise)
    assert torch.equal(first.reconstruction, second.reconstruction)
    assert first.reconstruction.isfinite().all()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", CASES)
def test_one_nan_before_a_bottleneck_is_seen_behind_it(name: str, training: bool) -> None:
    """A selection by comparison or by the nearest entry would hide a broken encoder."""
    shape = next(shape for shape in SAMPLES if CASES[name].fits(*shape))
    model = build(name, shape).train(training)
    if not isinstance(getattr(model, "bottleneck", None), nn.Module):
        return

    def spoil(module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        features = given[0].flatten()
        features[len(features) // 2] = math.nan
        return features.view(given[0].shape), *given[1:]

    bottleneck = model.bottleneck
    for part in bottleneck.values() if isinstance(bottleneck, nn.ModuleDict) else [bottleneck]:
        part.register_forward_pre_hook(spoil)
    with torch.no_grad():
        output = model(inputs(name, shape), noise_of(model) if training else None)
    # The deviation of a latent is not used in evaluation.
    seen = [output.reconstruction, output.latent, *output.posterior, *output.details.values()]
    assert any(bool(tensor.isnan().any()) for tensor in seen)


@pytest.mark.parametrize(("name", "shape"), REAL)
def test_encode_and_decode_are_the_two_halves_of_a_model(name: str, shape: Shape) -> None:
    model, images = build(name, shape).eval(), inputs(name, shape)
    with torch.no_grad():
        output = model(images)
        latent = model.encode(images)
        torch.testing.assert_close(latent, output.latent)
        decoded = model.decode(latent)
        if getattr(model, "bypasses", False):  # the code alone is not enough
            assert (decoded - output.reconstruction).abs().max() > 1e-4
            decoded = model.with_code(images, latent)
        torch.testing.assert_close(decoded, output.reconstruction)


@pytest.mark.parametrize(("name", "shape"), REAL)
def test_the_order_of_pixels_in_memory_changes_nothing(name: str, shape: Shape) -> None:
    model, images = build(name, shape).eval(), inputs(name, shape)
    with torch.no_grad():
        plain = answer(model(images))
        model.to(memory_format=torch.channels_last)
        fast = answer(model(images.to(memory_format=torch.channels_last)))
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), REAL)
def test_a_model_is_its_state_and_has_the_same_parameters_on_meta(name: str, shape: Shape) -> None:
    first = build(name, shape)
    torch.manual_seed(7)
    second = CASES[name].build(shape)
    second.load_state_dict(first.state_dict())
    images = inputs(name, shape)
    with torch.no_grad():
        one, other = first.eval()(images), second.eval()(images)
    assert torch.equal(one.reconstruction, other.reconstruction)
    with torch.device("meta"):
        empty = CASES[name].build(shape)
    assert count_parameters(empty) == count_parameters(first)
    kept = [value for module in first.modules() for value in vars(module).values()]
    assert not any(isinstance(value, torch.Tensor) for value in kept)


#: Parts that cannot be exported as graphs; docs/use-your-model.md names them with the reason.
NOT_EXPORTED: dict[str, str] = {}
#: Cases that are exported in each run of the tests: one of each kind of reason to fail.
EXPORTED_ALWAYS = ("characters", "vq")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in EXPORTED_ALWAYS else pytest.mark.slow)
        for name in CASES
    ],
)
def test_a_model_is_exported_as_graphs_with_the_same_numbers(name: str) -> None:
    pytest.importorskip("onnxruntime")
    assert not set(CASES[name].parts.split()) & NOT_EXPORTED.keys()
    shape = next(shape for shape in SAMPLES if CASES[name].fits(*shape))
    model = build(name, shape).eval().requires_grad_(False)
    for graph in traced(model, shape, (0.0, 1.0), name):
        assert onnx_difference(onnx_file(graph), graph) < 1e-4
        assert graph.apart < 1e-5


def test_the_documents_name_what_cannot_be_exported() -> None:
    page = (Path(__file__).parents[2] / "docs/use-your-model.md").read_text("utf-8")
    if NOT_EXPORTED:
        assert all(f"`{name}`: {reason}" in page for name, reason in NOT_EXPORTED.items())
    else:
        assert "Every architecture of the catalogue can be exported" in page
