"""The later model families of old files: counts and outputs of the originals, kinds of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aelab import lab
from aelab.catalogue import attributes, names
from aelab.config import Block, Scope, evaluate_block
from aelab.errors import AelabError, ConfigError, RefusedError, ShapeError
from aelab.founding.automaton import TotalCALayer
from aelab.founding.deep_compression import (
    DCAE,
    ChannelNorm,
    DCAEConfig,
    LinearAttention,
    OmegaConf,
    configured,
)
from aelab.founding.helpers import (
    HistogramLayer,
    num_module_parameters,
    random_combine_image_crops,
)
from aelab.founding.mixer import MixerMLP
from aelab.founding.polynomial import CNNKAE, MLPAE, KAELayer, KANPolyAE
from aelab.founding.residual_presets import PatchAutoencoder2d, ResAE, ResConvStack
from aelab.founding.scripted import ResidualScriptedAE, ScriptAE, ScriptedAE
from aelab.founding.shuffled import AddedWhereEqual, ConvUpscaleDecoder, NewAutoEncoder
from aelab.founding.step_activations import SigmoidStep, SinStep, step_activation
from aelab.founding.vqvae import VQVAE

MNIST = (1, 28, 28)
#: Arguments -> parameters of the original at nn-experiments@baa0417, counted there once. With its
#: weights in the same order the outputs were equal, too.
COUNTED: list[tuple[Any, dict[str, Any], int]] = [
    (MLPAE, {"shape": MNIST, "channels": [64, 16], "activation": "relu"}, 103_328),
    (KANPolyAE, {"shape": MNIST, "channels": [20, 12, 8], "order": 3}, 128_984),
    (CNNKAE, {"shape": MNIST, "latent_dim": 16, "channels": [8, 6], "kernel_size": 7}, 56_215),
    (
        CNNKAE,
        {"shape": MNIST, "latent_dim": 16, "channels": [2], "kernel_size": 7,
         "encoder_kae_order": 3, "decoder_kae_order": 2},
        109_599,
    ),
    *(
        (
            MixerMLP,
            {"image_shape": MNIST, "patch_size": 7, "hidden_channels": [64, 64, 64, 16],
             "mixer_at": [1, 2, 3], "mixer_type": kind, "mixer_kernel_size": 3,
             "norm": "layernorm"},
            count,
        )
        for kind, count in {
            "cnn": 62_275, "cnnf": 136_387, "cnn2d": 71_491, "cnn2df": 293_059, "mlp": 6_355_171,
        }.items()
    ),
    (
        ScriptedAE,
        {"channels": 1, "script": "ch=32|down4|ch/2|ch/2|ch/2|ch*1|ch*1|ch=1", "kernel_size": 3},
        3_247_458,
    ),
    (
        ScriptedAE,
        {"channels": 1, "kernel_size": 3, "activation": "relu6",
         "script": "scl=2|ch=8|down4|ch/2|a|e:ch*1|po=2|ks=5|ch=1"},
        840_502,
    ),
    (
        ResidualScriptedAE,
        {"channels": 3, "kernel_size": 5, "residual": "map",
         "script": "ch=16|ch*1|down|ch/4|ch=4"},
        72_023,
    ),
    (ScriptAE, {"script": "conv(1,16,3,1,1)\nps(2)\nbn(64)\nconv(64,32,3,1,1) # last"}, 37_521),
    (
        ResConvStack,
        {"channels": [3, 8, 8, 8, 3], "scale": (1, 2, 1, 2), "depth": 1, "batch_norm": True},
        8_125,
    ),
    (
        PatchAutoencoder2d,
        {"shape": (3, 32, 32), "code_size": 16, "lib_size": 12, "patch_size": (16, 16),
         "mlp_blocks": 1, "mlp_cells": 20},
        24_863,
    ),
    (
        NewAutoEncoder,
        {"in_channels": 3, "num_layers": 3, "channels": [8, 6, 2], "padding": 1},
        1_583,
    ),
    (
        ConvUpscaleDecoder,
        {"shape": (1, 32, 32), "code_size": 102, "num_layers": 4, "num_hidden": 64},
        792_513,
    ),
    (
        VQVAE,
        {"in_channel": 1, "channel": 256, "n_res_block": 2, "n_res_channel": 64, "embed_dim": 2,
         "n_embed": 1024},
        3_799_757,
    ),
    (VQVAE, {"channel": 16, "n_res_block": 1, "n_res_channel": 8, "embed_dim": 4}, 18_859),
    (
        DCAE,
        {"cfg": {"latent_channels": 64, **{
            half: {"block_type": ["ResBlock"] * 3 + ["EViT_GLU"] * 3,
                   "width_list": [64, 128, 256, 256, 512, 512], "depth_list": depths, **more}
            for half, depths, more in (
                ("encoder", [0, 4, 8, 2, 2, 2], {}),
                ("decoder", [0, 5, 10, 2, 2, 2],
                 {"norm": ["bn2d"] * 3 + ["trms2d"] * 3, "act": ["relu"] * 3 + ["silu"] * 3}),
            )}}},
        81_535_948,
    ),
    (
        DCAE,
        {"cfg": {"latent_channels": 4, **{
            half: {"block_type": ["ResBlock", "ResBlock", "EViT_GLU"], "width_list": [16, 32, 32],
                   "depth_list": depths, **more}
            for half, depths, more in (
                ("encoder", [1, 1, 1], {}),
                ("decoder", [1, 2, 1],
                 {"norm": ["bn2d", "bn2d", "trms2d"], "act": ["relu", "relu", "silu"]}),
            )}}},
        165_767,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("build", "given", "count"), COUNTED)
def test_a_model_has_as_many_parameters_as_the_original(
    build: Any, given: dict[str, Any], count: int
) -> None:
    if "cfg" in given:
        given = {"cfg": configured(given["cfg"])}
    with torch.device("meta"):
        assert num_module_parameters(build(**given)) == count


def test_the_shuffled_decoder_mirrors_the_encoder() -> None:
    model = NewAutoEncoder(3, 3, channels=[4, 5, 2], shuffle=[0, 2, 0], padding=1)
    assert model.encode(torch.rand(2, 3, 8, 8)).shape == (2, 2, 4, 4)
    assert model(torch.rand(2, 3, 8, 8)).reconstruction.shape == (2, 3, 8, 8)
    # 4 channels -> 5, as 20 on half the size -> 2 -> 20, as 5 on the whole size -> 4 -> 3
    kernels = [m.weight.shape[:2] for m in model.modules() if hasattr(m, "kernel_size")]
    assert kernels == [(4, 3), (5, 4), (2, 20), (2, 20), (5, 4), (4, 3)]


def test_a_layer_is_added_to_its_input_only_where_the_shapes_agree() -> None:
    nothing = torch.nn.Conv2d(2, 2, 1)
    torch.nn.init.zeros_(nothing.weight)
    torch.nn.init.zeros_(nothing.bias)
    x = torch.rand(1, 2, 4, 4)
    assert torch.equal(AddedWhereEqual(nothing)(x), x)
    assert torch.equal(AddedWhereEqual(torch.nn.AvgPool2d(2))(x), torch.nn.AvgPool2d(2)(x))


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, (3, 5)])
def test_an_upscaling_decoder_makes_the_size_that_is_asked_for(kernel: Any) -> None:
    decoder = ConvUpscaleDecoder((3, 28, 36), 4, kernel, num_layers=3, num_hidden=3)
    assert decoder(torch.rand(2, 4)).shape == (2, 3, 28, 36)


def test_two_levels_of_codes_are_decoded_from_their_flat_latent() -> None:
    model = VQVAE(1, 8, 1, 4, embed_dim=3, n_embed=5).eval()
    images = torch.rand(2, 1, 16, 16)
    output = model(images)
    assert output.latent.shape == (2, 3 * (2 * 2 + 4 * 4))
    assert torch.allclose(model.decode(output.latent), output.reconstruction, atol=1e-6)
    assert [(term.name, term.weight) for term in model.terms] == [("l1", 1.0), ("commitment", 0.25)]
    with pytest.raises(ShapeError, match="square image"):
        model.decode(torch.rand(1, 3 * 21))


def test_attention_of_the_old_blocks_is_a_weighted_mean_over_pixels() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(64)
    x = torch.randn(2, 64, 3, 2)
    mixed = torch.zeros(2, 64, 3, 2)
    parts = layer.query_key_value(x).reshape(2, 2, 3, 32, 6)  # image, head, q k v, number, pixel
    for image in range(2):
        for head in range(2):
            query, key, value = parts[image, head]
            weights = query.relu().T @ key.relu()  # (pixel, pixel)
            weights = weights / weights.sum(1, keepdim=True)
            mixed[image, 32 * head : 32 * (head + 1)] = (value @ weights.T).reshape(32, 3, 2)
    torch.testing.assert_close(layer(x), layer.out(mixed), rtol=1e-3, atol=1e-5)


def test_channels_are_normalised_at_each_pixel() -> None:
    x = torch.tensor([3.0, -4.0])[None, :, None, None]
    plain, centred = ChannelNorm(2, centred=False), ChannelNorm(2, centred=True)
    assert torch.allclose(plain(x).flatten(), torch.tensor([3.0, -4.0]) / 12.5**0.5, atol=1e-4)
    assert torch.allclose(centred(x).flatten(), torch.tensor([1.0, -1.0]), atol=1e-4)


def test_settings_are_read_from_dotted_texts() -> None:
    texts = ["latent_channels=4", "encoder.width_list=[8,16]", "encoder.norm=bn2d", ""]
    read = OmegaConf.from_dotlist(texts)
    assert read == {"latent_channels": 4, "encoder": {"width_list": [8, 16], "norm": "bn2d"}}
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DCAEConfig), read))
    assert (config.latent_channels, config.encoder.width_list) == (4, (8, 16))
    assert config.encoder.norm == "bn2d" and config.decoder.out_act == "relu"


def test_values_are_counted_in_bins() -> None:
    layer = HistogramLayer(4, 0, 1, sigma=10_000)
    x = torch.tensor([[[0.1, 0.2], [0.6, 0.9]], [[0.3, 0.3], [0.3, 0.3]]])
    assert torch.allclose(layer(x), torch.tensor([[2.0, 0, 1, 1], [0, 4, 0, 0]]), atol=1e-4)


def test_a_polynomial_layer_sums_powers() -> None:
    layer = KAELayer(2, 1, 3)
    coefficients = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]])
    layer.load_state_dict({"coeffs": coefficients, "bias": torch.tensor([[10.0]])})
    x, y = 0.5, -2.0
    first = 1 + 2 * x + 3 * x**2 + 4 * x**3
    second = 5 + 6 * y + 7 * y**2 + 8 * y**3
    assert torch.allclose(layer(torch.tensor([x, y])), torch.tensor([first + second + 10]))


def test_a_residual_layer_adds_repeats_or_sums_channels() -> None:
    torch.manual_seed(0)
    model = ResidualScriptedAE(3, "ch=8|ch=2", 3)
    for convolution in model.encoder:
        torch.nn.init.zeros_(convolution.conv.weight)
        torch.nn.init.zeros_(convolution.conv.bias)
    x = torch.rand(1, 3, 4, 4)
    wide = model.encoder[0](x)
    assert torch.equal(wide, torch.cat([x, x, x[:, :2]], 1))
    narrow = wide[:, 0:2] + wide[:, 2:4] + wide[:, 4:6] + wide[:, 6:8]
    assert torch.allclose(model.encoder[1](wide), narrow)


def test_an_automaton_plays_the_game_of_life() -> None:
    life = TotalCALayer(
        birth=(0, 0, 0, 1, 0, 0, 0, 0, 0), survive=(0, 0, 1, 1, 0, 0, 0, 0, 0), iterations=1
    )
    blinker = torch.zeros(1, 2, 5, 5)
    blinker[:, :, 2, 1:4] = 1
    turned = life(blinker)
    assert torch.equal(turned.round(), blinker.mT)
    assert torch.equal(life(turned).round(), blinker)
    edge = torch.zeros(1, 5, 5)
    edge[0, 0, 1:4] = 1
    joined = TotalCALayer(life.birth.tolist(), life.survive.tolist(), wrap=True)(edge)
    assert joined.round()[0, :, 2].tolist() == [1, 1, 0, 0, 1], "it goes on at the other edge"
    with pytest.raises(ConfigError, match="needs 9 values"):
        TotalCALayer((1, 0))


def test_step_activations_are_made_by_name() -> None:
    x = torch.linspace(-3, 3, 601)
    smooth, stairs = step_activation("sinstep2"), step_activation("SigmoidStep2,5")
    assert isinstance(smooth, SinStep) and isinstance(stairs, SigmoidStep)
    assert (smooth(x).diff() > -1e-6).all(), "nowhere falling"
    assert torch.allclose(smooth(x), x, atol=0.5 / 2)
    levels = stairs(x).mul(2).round().unique()
    assert torch.allclose(levels.diff(), torch.ones(len(levels) - 1)), "each step is 1 / factor"
    assert step_activation("relu") is not None and step_activation("none") is None
    with pytest.raises(ConfigError, match="must be a number above 0"):
        step_activation("sigmoidstep0")


def test_pasted_crops_are_parts_of_other_images() -> None:
    images = torch.arange(1.0, 5.0)[:, None, None, None].expand(4, 1, 10, 8)
    torch.manual_seed(1)
    made = random_combine_image_crops(images, ratio=1.0, crop_ratio=0.5)
    for number, image in enumerate(made, 1):
        values, counts = image.unique(return_counts=True)
        assert len(values) == 2 and number in values.tolist()
        assert counts[values != number].tolist() == [5 * 4]
    half = random_combine_image_crops(images, ratio=1.0, crop_ratio=(0.2, 0.4), alpha=(0.5, 0.5))
    assert not torch.equal(half, half.round()), "half of each"
    assert torch.equal(random_combine_image_crops(images, ratio=0.0), images)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: ScriptedAE(3, "ch=8|dwn2"), ConfigError, "command 2 of the script, 'dwn2'"),
        (lambda: ScriptedAE(3, "ch/8"), ShapeError, "0 of 3 channels"),
        (lambda: ScriptAE("conv(3)"), ConfigError, "line 1 of the script"),
        (lambda: MixerMLP(MNIST, 5, (4, 4)), ShapeError, "multiples of patch_size 5"),
        (lambda: MixerMLP(MNIST, 7, (5, 4), (1,), "cnn2d"), ShapeError, "a square number"),
        (lambda: MixerMLP(MNIST, 7, (4, 4), (1,), "conv"), ConfigError, "'conv'"),
        (lambda: KANPolyAE(MNIST, (4, 2), (3, 3, 3)), ConfigError, "3 values for 2 layers"),
        (lambda: CNNKAE((1, 8, 8), 4), ShapeError, "larger than 12x12"),
        (lambda: KAELayer(2, 2, 0), ConfigError, "from 1 up"),
        (lambda: ResAE(1, 4, kernel_size=2), ConfigError, "must be odd"),
        (lambda: ResAE(1, 4)(torch.zeros(1, 1, 12, 16)), ShapeError, "multiples of 2"),
        (lambda: NewAutoEncoder(3, 2, channels=[4, 5, 6]), ConfigError, "3 values for 2 layers"),
        (lambda: NewAutoEncoder(3, 2, out_channels=1), ConfigError, "out_channels is 1"),
        (lambda: ConvUpscaleDecoder(MNIST, 4, num_layers=14), ShapeError, "too small"),
        (lambda: ConvUpscaleDecoder((1, 9, 9), 4), ShapeError, "layer 3 doubles the size"),
        (lambda: VQVAE(channel=7), ConfigError, "must be even"),
        (lambda: configured({"encoder": {"width": 3}}), ConfigError, "no encoder.width"),
        (lambda: configured({"encoder": 3}), ConfigError, "encoder cannot be 3"),
        (lambda: DCAE(configured({"latent_channels": 7})), ShapeError, "does not divide"),
        (lambda: DCAE(configured({"encoder": {"norm": "bn"}})), ConfigError, "norm is 'bn'"),
        (
            lambda: DCAE(configured({"encoder": {"block_type": "Res"}})),
            ConfigError,
            "block_type is 'Res'",
        ),
        (lambda: OmegaConf.from_dotlist(["a"]), ConfigError, "cannot read 'a'"),
        (lambda: OmegaConf.from_dotlist(["a=1", "a.b=2"]), ConfigError, "cannot read 'a.b=2'"),
        (lambda: OmegaConf.structured(3), ConfigError, "only DCAEConfig"),
    ],
)
def test_a_mistake_is_told_with_what_was_given(build: Any, error: type, words: str) -> None:
    with pytest.raises(AelabError) as caught:
        build()
    assert isinstance(caught.value, error) and words in str(caught.value)


#: The kinds of models in old files, each as a text of our own.
MODELS = {
    "linear": "from experiments.ae.kan.mlpae import MLPAE\nMLPAE(SHAPE, [8, 4], '${act}')",
    "polynomials": """
from experiments.ae.kan.kanpolyae import KANPolyAE
KANPolyAE(shape=SHAPE, channels=[6, 4], order=[2, 3], encoder_activation=["${act}", "none"])""",
    "convolutions and polynomials": """
from experiments.ae.kae.cnn_kae import CNNKAE
CNNKAE(shape=SHAPE, latent_dim=4, channels=[2], kernel_size=3, encoder_kae_order=2)""",
    "mixer": """
from experiments.ae.mixer.mixermodel import MixerMLP
model = MixerMLP(image_shape=SHAPE, patch_size=4, hidden_channels=[9, 9, 4], mixer_at=[1],
                 mixer_type='cnn2d', mixer_kernel_size=3, activation='${act}')
with torch.no_grad():
    print(model)
    outp = dump_module_stacktrace(model, torch.ones(2, *SHAPE), method_name="encode")
    print(f"params: {num_module_parameters(model):,}")
    recon = dump_module_stacktrace(model, outp, method_name="decode")
model""",
    "script": """
from experiments.ae.scriptae.scriptae2 import ScriptedAE
model = ScriptedAE(channels=SHAPE[0], kernel_size=3, padding=None, activation="${act}",
                   batch_norm=True, script="ch=4|down4|ch/2|ch=1")
with torch.no_grad():
    outp = dump_module_stacktrace(model.encoder, torch.ones(1, *SHAPE))
    print("RATIO:", math.prod(SHAPE) / math.prod(outp.shape))
model""",
    "first script": """
from experiments.ae.models.scriptae import ScriptAE
ScriptAE(f'''
    conv({SHAPE[0]},4,3,1,1)
    ps(2)
    bn(16)
''')""",
    "residual script": """
from experiments.ae.models.resscriptae import ResidualScriptedAE
ResidualScriptedAE(channels=SHAPE[0], kernel_size=5, activation="${act}", residual="map",
                   groups=1, script="ch=4|down|ch/4")""",
    "halving": """
from experiments.ae.models.resae2 import ResAE
ResAE(SHAPE[0], 4, num_encoded_channels=2, num_layers=2, batch_norm=True, activation="gelu")""",
    "stacks": """
from experiments.ae.models.resae3 import ResConvStack
EncoderDecoder(
    ResConvStack(channels=[SHAPE[0]] + [4] * 2, scale=(1, 2), activation=["gelu", None]),
    ResConvStack(channels=[4] * 2 + [SHAPE[0]], scale=(1, 2), transpose=True),
)""",
    "library of patches": """
from experiments.ae.models.patchae import PatchAutoencoder2d
PatchAutoencoder2d(SHAPE, 4, lib_size=3, patch_size=(4, 4), mlp_blocks=1, mlp_cells=6)""",
    "shuffles": """
from experiments.ae.models.new import NewAutoEncoder
model = NewAutoEncoder(in_channels=SHAPE[0], num_layers=3, channels=[4, 4, 2], kernel_size=3,
                       padding=1, shuffle=[0, 2, 0], activation="${act}")
with torch.no_grad():
    print(model.to("cuda"))
    outp = dump_module_stacktrace(model.encoder, torch.ones(1, *SHAPE).to("cuda"))
model""",
    "upscaling": """
EncoderDecoder(
    EncoderConv2d(SHAPE, 8, channels=(4, 6)),
    ConvUpscaleDecoder(SHAPE, 8, num_layers=3, num_hidden=4, upscale_every=3),
)""",
    "codes": """
from src.models.encoder.vqvae import VQVAE
VQVAE(in_channel=SHAPE[0], channel=8, n_res_block=1, n_res_channel=4, embed_dim=2, n_embed=16)""",
    "deep compression": """
from omegaconf import OmegaConf
from src.models.efficientvit.dc_ae import DCAE, DCAEConfig

TEXTS = [(
    "in_channels=1 latent_channels=4 encoder.block_type=[ResBlock,EViT_GLU] "
    "encoder.width_list=[8,32] encoder.depth_list=[0,1] "
    "decoder.block_type=[ResBlock,EViT_GLU] decoder.width_list=[8,32] decoder.depth_list=[0,1]"
)]
cfg = OmegaConf.from_dotlist(TEXTS[1-1].split(" "))
cfg: DCAEConfig = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DCAEConfig), cfg))
DCAE(cfg)""",
    "histogram": """
hist = HistogramLayer(10, 0, 1, 50)
EncoderDecoder(nn.Sequential(nn.Flatten(1), hist, nn.Linear(10, 4)), DecoderMLP(SHAPE, 4))""",
    "sum of decoders": """
from experiments.ae.models.ensemble import EnsembleDecoder2d
EncoderDecoder(EncoderConv2d(SHAPE, 8, channels=(4, 6)), EnsembleDecoder2d(SHAPE, 8))""",
}


def _file(folder: Path, model: str, train_set: str, more: str = "") -> Path:
    body = "\n".join(f"  {line}" for line in model.strip().splitlines())
    path = folder / "experiments" / "ae" / "old.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"""
matrix: {{act: [relu6], ds: [["noise", [1, 16, 16]]]}}
experiment_name: old
trainer: experiments.ae.trainer.TrainAutoencoderSpecial
globals:
  SHAPE: (1, 16, 16)
train_set: |
  {train_set}
validation_set: |
  noise_dataset(SHAPE, 8, seed=2)
batch_size: 4
learnrate: 0.001
optimizer: AdamW
loss_function: l1
max_inputs: 8
{more}
model: |
{body}
""")
    return path


@pytest.mark.parametrize("kind", MODELS)
def test_each_kind_of_old_model_is_accepted_without_trust_and_trains(
    kind: str, tmp_path: Path
) -> None:
    path = _file(tmp_path, MODELS[kind], "noise_dataset(SHAPE, 8, seed=1)")
    plan = lab.check(path)
    assert [run.problems for run in plan.runs] == [[]]
    states = [type(event).__name__ for event in lab.run(path, runs=tmp_path / "runs")]
    assert "RunFinished" in states, states


def test_a_set_is_found_by_a_computed_name(tmp_path: Path) -> None:
    text = 'name, shape = ${ds}\n  globals()[f"{name}_dataset"](shape, 8, seed=1)'
    plan = lab.check(_file(tmp_path, "MLPAE(SHAPE, [4])", text))
    assert [run.problems for run in plan.runs] == [[]]


@pytest.mark.parametrize("name", ["block_names", "__init__", "mro", "from_list"])
def test_a_part_offers_only_the_names_that_its_class_lists(name: str) -> None:
    scope = Scope(names(), attributes(), {})
    assert evaluate_block(Block("OmegaConf.from_dotlist(['a.b=1'])"), scope) == {"a": {"b": 1}}
    with pytest.raises(RefusedError, match="cannot reach"):
        evaluate_block(Block(f"OmegaConf.{name}"), scope)
    with pytest.raises(RefusedError, match="cannot reach"):
        evaluate_block(Block("VQVAE.from_dotlist"), scope)


@pytest.mark.parametrize("name", ["__builtins__", "_getattr_", "act", "print", 3])
def test_only_parts_are_found_by_a_computed_name(name: object) -> None:
    scope = Scope(names(), attributes(), {"act": "relu"})
    with pytest.raises(RefusedError, match="has no part"):
        evaluate_block(Block(f"globals()[{name!r}]"), scope)


def test_crops_are_pasted_into_the_inputs_of_a_run(tmp_path: Path) -> None:
    more = (
        "train_input_transforms: |\n"
        "  [lambda x: random_combine_image_crops(x, ratio=1.0, crop_ratio=[.5, .8], alpha=1.)]"
    )
    path = _file(tmp_path, "MLPAE(SHAPE, [4])", "noise_dataset(SHAPE, 8, seed=1)", more)
    assert [run.problems for run in lab.check(path).runs] == [[]]


def test_the_folder_of_the_old_program_is_known_and_its_sets_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    pixels = torch.randint(0, 256, (12, 3, 20, 20), dtype=torch.uint8)
    torch.save(pixels, tmp_path / "data" / "art.pt")
    monkeypatch.setenv("AELAB_DATA", str(tmp_path / "data"))
    text = """InterleaveDataset([
      noise_dataset(SHAPE, 8, seed=1).shuffle().repeat(2),
      WrapDataset(TensorDataset(torch.load("${PATH}/datasets/art.pt"))).shuffle().transform([
        VT.RandomCrop(SHAPE[-2:]),
        lambda x: set_image_channels(x.to(torch.float) / 255, SHAPE[0]),
      ]),
    ])"""
    path = _file(tmp_path, "MLPAE(SHAPE, [4])", text)
    assert [run.problems for run in lab.check(path).runs] == [[]]
    states = [type(event).__name__ for event in lab.run(path, runs=tmp_path / "runs")]
    assert "RunFinished" in states, states
    path.write_text(
        path.read_text().replace("trainer: experiments.ae.trainer.TrainAutoencoderSpecial", "")
    )
    with pytest.raises(AelabError, match=r"\$\{PATH\} is not defined"):
        lab.check(path)


def test_photographs_of_ones_own_stand_for_unsplash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "unsplash").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(40):
        pixels = generator.integers(0, 256, (200, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "unsplash" / f"{number}.png")
    monkeypatch.setenv("AELAB_DATA", str(tmp_path / "data"))
    text = "unsplash_dataset(shape=SHAPE, train=True)"
    plan = lab.check(_file(tmp_path, "MLPAE(SHAPE, [4])", text))
    assert [run.problems for run in plan.runs] == [[]]
