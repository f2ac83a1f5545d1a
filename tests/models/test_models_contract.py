"""What every model must keep, over a list of presets, sizes and channels."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from aelab import types
from aelab.ascii.models.characters import CharacterAutoencoder, OneHotCharacters
from aelab.ascii.models.small import small_ascii_ae
from aelab.errors import ConfigError, ShapeError
from aelab.founding.dalle import DalleManifoldAutoencoder
from aelab.founding.mixer import MixerMLP
from aelab.founding.overnight import VariationalAutoencoderConv
from aelab.founding.stacked import StackedSymmetricAutoencoderConv2d
from aelab.founding.transformer import (
    TransformerAutoencoder,
    TransformerDecoder,
    TransformerEncoder,
)
from aelab.inspect import as_model, count_parameters, model_facts, try_model
from aelab.losses import make_objective
from aelab.models import (
    FSQ,
    HELPERS,
    MODELS,
    Autoencoder,
    ConditionalAutoencoder,
    Conv2dBlock,
    DecoderConv2d,
    DecoderDC,
    DecoderEquivariant,
    DecoderKAN,
    DecoderMixer,
    DecoderMLP,
    DecoderPatchTransformer,
    DecoderResidual,
    EncoderConv2d,
    EncoderDC,
    EncoderDecoder,
    EncoderEquivariant,
    EncoderKAN,
    EncoderMixer,
    EncoderMLP,
    EncoderPatchTransformer,
    EncoderResidual,
    FlowGaussian,
    FlowPrior,
    FullGaussian,
    Gaussian,
    GaussianAndCategorical,
    GaussianMap,
    Grouped,
    HamiltonianAutoencoder,
    Identity,
    ImageManifoldDecoder,
    ImportanceWeightedAutoencoder,
    IterativeAutoencoder,
    Laplace,
    LogisticMixtureAutoencoder,
    LowRankGaussian,
    MaskedAutoencoder,
    MixturePrior,
    PairAveraged,
    PatchTransformerAutoencoder,
    PretrainedResNet18,
    Reshape,
    Residual,
    ResNet18,
    RiemannianAutoencoder,
    StudentT,
    UNet,
    VampPriorAutoencoder,
    VariationalAutoencoder,
    VariationalEncoder,
    VonMisesFisher,
    WrappedNormal,
    dc_ae,
    fast_implicit_decoder,
    iterative_image_ae,
    quick_image_ae,
    small_image_ae,
)
from aelab.palette.colours import palette
from aelab.palette.models import PaletteAutoencoder, small_palette_ae
from aelab.stages.autoregressive import CodeTransformer, PixelCNN
from aelab.stages.denoising import FlowMatching, LatentDiffusion


def conv(shape, **options):
    return (
        EncoderConv2d(shape, 8, channels=(4, 6), **options),
        DecoderConv2d(shape, 8, channels=(6, 4), activation_last_layer=None),
    )


def symmetric(shape):
    encoder = EncoderConv2d(shape, 8, channels=(4, 6), kernel_size=3)
    encoded = encoder.convolution.get_output_shape(shape)
    decoder = nn.Sequential(
        nn.Linear(8, math.prod(encoded)),
        Reshape(encoded),
        encoder.convolution.create_transposed(act_last_layer=False),
    )
    return EncoderDecoder(encoder, decoder)


def variational(shape):
    encoder = VariationalEncoder(EncoderConv2d(shape, 8, channels=(4, 6)), 8, 5)
    return VariationalAutoencoder(encoder, DecoderConv2d(shape, 5, channels=(6, 4)), "l1")


def variational_mlp(shape):
    encoder = VariationalEncoder(EncoderMLP(shape, 16, hidden=(24,)), 16, 5)
    return VariationalAutoencoder(encoder, DecoderMLP(shape, 5, hidden=(24,)), "l2")


PRESETS = {
    "conv": lambda shape: EncoderDecoder(*conv(shape)),
    "conv batch_norm": lambda shape: EncoderDecoder(*conv(shape, batch_norm=True, dropout=0.1)),
    "conv cheap": lambda shape: EncoderDecoder(*conv(shape, cheap=True)),
    "symmetric": symmetric,
    "mlp": lambda shape: EncoderDecoder(
        EncoderMLP(shape, 8, hidden=(24,), normalization="layernorm", dropout=0.1),
        DecoderMLP(shape, 8, hidden=(24,), activation_last_layer="sigmoid"),
    ),
    "orthogonal identity": lambda shape: Autoencoder(
        EncoderMLP(shape, 8, hidden=()), Identity(), DecoderMLP(shape, 8, hidden=())
    ),
    "orthogonal gaussian": lambda shape: Autoencoder(
        EncoderMLP(shape, 16), Gaussian(16, 8), DecoderMLP(shape, 8)
    ),
    "residual": lambda shape: EncoderDecoder(
        EncoderResidual(shape, 8, channels=(4, 6), norm="group"),
        DecoderResidual(shape, 8, channels=(6, 4), norm="layer", activation_last_layer="sigmoid"),
    ),
    "iterative_image_ae": lambda shape: iterative_image_ae(shape, channels=(12, 16), hidden=(64,)),
    "quick_image_ae": lambda shape: quick_image_ae(
        shape, channels=(12, 16), hidden=(64,), squeeze=8
    ),
    "small_image_ae": small_image_ae,
    "stacked": lambda shape: StackedSymmetricAutoencoderConv2d(shape, 8, channels=(4, 6)),
    "stacked twice": lambda shape: StackedSymmetricAutoencoderConv2d(
        shape, 8, channels=(4, 6), symmetric=False
    ),
    "resnet": lambda shape: EncoderDecoder(
        PretrainedResNet18(shape, 8, weights=None, stage="layer1"), DecoderMLP(shape, 8)
    ),
    "variational": variational,
    "variational mlp": variational_mlp,
    "manifold": lambda shape: EncoderDecoder(
        EncoderMLP(shape, 8),
        ImageManifoldDecoder(8, shape[0], 24, default_shape=shape[1:], statistics="image"),
    ),
    "manifold fast": lambda shape: EncoderDecoder(
        EncoderMLP(shape, 8), fast_implicit_decoder(shape, 8)
    ),
    "overnight": lambda shape: VariationalAutoencoderConv(
        shape, 8, kernel_size=3, channels=(4, 6), act_last_layer=False
    ),
    "patch transformer": lambda shape: PatchTransformerAutoencoder(shape, 8, 4, 3, 2, 16, 2),
    "patch transformer attention": lambda shape: PatchTransformerAutoencoder(
        shape, 8, 5, None, 1, 18, 3, positions="learned", head="attention", normalization="rms"
    ),
    "mixer": lambda shape: EncoderDecoder(
        EncoderMixer(shape, 8, 4, 3, 2, 16), DecoderMixer(shape, 8, 4, None, 2, 16)
    ),
    "splines": lambda shape: EncoderDecoder(
        EncoderKAN(shape, 8, hidden=(12,)), DecoderKAN(shape, 8, hidden=(12,))
    ),
    "polynomials": lambda shape: EncoderDecoder(
        EncoderKAN(shape, 8, (24,), "polynomial", act_fn="sigmoid"),
        DecoderKAN(shape, 8, (24,), "polynomial", act_fn="sigmoid"),
    ),
    "dc_ae": lambda shape: dc_ae(shape, 2, channels=(8, 16, 16)),
    "batch transformer": lambda shape: TransformerAutoencoder(
        shape, 8, 2, 1, num_layers=1, num_hidden=16, num_heads=2, dropout=0.0
    ),
}
SHAPES = [(1, 8, 8), (3, 8, 8), (1, 9, 11), (3, 15, 13), (1, 32, 32)]


def noise_for(model, num_images):
    if model.noise_shape is None:
        return None
    return torch.randn(num_images, *model.noise_shape)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_model_gives_images_of_the_same_shape_and_gradients_everywhere(preset, shape):
    model = preset(shape)
    images = torch.rand(4, *shape)
    output = model(images, noise_for(model, 4))
    assert isinstance(output, types.Output)
    assert output.reconstruction.shape == images.shape
    assert output.reconstruction.dtype == torch.float32
    assert output.latent.shape[0] == 4
    (output.reconstruction.square().mean() + output.latent.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_model_keeps_the_protocol(preset):
    model = preset((1, 8, 8))
    assert isinstance(model, types.Model)
    assert as_model(model) is model
    model.eval()
    images = torch.rand(3, 1, 8, 8)
    output = model(images)
    torch.testing.assert_close(model.encode(images), output.latent)
    torch.testing.assert_close(model.decode(output.latent), output.reconstruction)
    assert torch.equal(model(images).reconstruction, output.reconstruction)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_model_builds_on_the_meta_device_with_the_same_facts(preset):
    with torch.device("meta"):
        empty = preset((3, 12, 12))
    real = preset((3, 12, 12))
    assert model_facts(empty, (3, 12, 12)) == model_facts(real, (3, 12, 12))
    assert model_facts(real, (3, 12, 12)).flops_per_image > 0


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_model_survives_its_state_dict(preset):
    first, second = preset((1, 8, 8)), preset((1, 8, 8))
    second.load_state_dict(first.state_dict())
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(first.eval()(images).reconstruction, second.eval()(images).reconstruction)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_model_keeps_no_tensors_on_itself(preset):
    model = preset((1, 8, 8))
    model(torch.rand(2, 1, 8, 8), noise_for(model, 2))
    for module in model.modules():
        assert not [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]


# torch has no batching rule for attention on a CPU; it takes the runs one after the other.
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_stacked_runs_equal_single_runs(preset):
    models = [preset((1, 8, 8)).eval() for _ in range(2)]
    images = torch.rand(2, 3, 1, 8, 8)
    noise = (
        torch.stack([noise_for(models[0], 3) for _ in models]) if models[0].noise_shape else None
    )
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")

    def call(state, images, noise):
        return functional_call(skeleton, state, (images, noise))

    stacked = torch.vmap(call, in_dims=(0, 0, None if noise is None else 0))(
        (parameters, buffers), images, noise
    )
    for index, model in enumerate(models):
        single = model(images[index], None if noise is None else noise[index])
        torch.testing.assert_close(stacked.reconstruction[index], single.reconstruction)
        assert type(stacked.posterior) is type(single.posterior)
        for several, one in zip(stacked.posterior, single.posterior, strict=True):
            torch.testing.assert_close(several[index], one)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_memory_format_does_not_change_the_function(preset):
    model = preset((3, 8, 8)).eval()
    images = torch.rand(2, 3, 8, 8)
    plain = model(images).reconstruction
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.to(memory_format=torch.channels_last)
    fast = model(images.to(memory_format=torch.channels_last)).reconstruction
    torch.testing.assert_close(plain, fast)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_overfits_64_images(preset):
    torch.manual_seed(1)
    shape = (1, 10, 10)
    model = preset(shape).train()
    images = discs(64, shape)
    attention = any("Attention" in type(module).__name__ for module in model.modules())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003 if attention else 0.01)
    first = None
    for _ in range(150):
        loss = (model(images).reconstruction - images).square().mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    last = (model(images).reconstruction - images).square().mean().item()
    assert last < 0.35 * first
    assert last < 0.8 * (images - images.mean(0)).square().mean().item()


def discs(num_images, shape):
    """Generated pictures: one filled circle each."""
    _, height, width = shape
    generator = torch.Generator().manual_seed(3)
    place = torch.rand(num_images, 3, 1, 1, generator=generator)
    y = torch.linspace(0, 1, height).view(1, height, 1)
    x = torch.linspace(0, 1, width).view(1, 1, width)
    distance = ((y - place[:, 0]) ** 2 + (x - place[:, 1]) ** 2).sqrt()
    return (distance < 0.15 + 0.25 * place[:, 2]).float()[:, None]


BASE = {20: (846_552, 819_641), 28: (2_026_200, 2_008_505), 32: (2_812_632, 2_801_081)}


@pytest.mark.parametrize("size", BASE)
def test_the_comparison_model_has_the_published_parameter_count(size):
    shape = (1, size, size)
    with torch.device("meta"):
        encoder = EncoderConv2d(shape, code_size=128, channels=(16, 24, 32), kernel_size=3)
        decoder = DecoderConv2d(shape, code_size=128, channels=(32, 24, 16), kernel_size=3)
        model = VariationalAutoencoder(VariationalEncoder(encoder, 128, 128), decoder)
    of_encoder, of_decoder = BASE[size]
    assert count_parameters(model) == {
        "model": {20: 1_666_193, 28: 4_034_705, 32: 5_613_713}[size],
        "encoder": of_encoder,
        "decoder": of_decoder,
    }
    assert encoder.encoded_shape == (32, size - 6, size - 6)


def test_the_overnight_model_has_the_published_parameter_count():
    with torch.device("meta"):
        model = VariationalAutoencoderConv(
            shape=(3, 32, 32), channels=[16, 24, 32], kernel_size=5, latent_dims=128
        )
    assert count_parameters(model) == {
        "model": 4_988_371,
        "encoder": 3_307_128,
        "decoder": 1_681_243,
    }


@pytest.mark.parametrize(
    ("code_size", "channels", "kernel_size", "encoder", "decoder"),
    [
        (102, (16, 24, 32), 3, 2_217_438, None),
        (102, (24, 32, 48), 3, 3_331_286, None),
        (128, (24, 32, 48), 5, 2_517_232, 2_536_259),
    ],
)
def test_encoders_have_the_published_parameter_counts(
    code_size, channels, kernel_size, encoder, decoder
):
    shape = (3, 32, 32)
    with torch.device("meta"):
        part = EncoderConv2d(shape, code_size=code_size, channels=channels, kernel_size=kernel_size)
        encoded = part.convolution.get_output_shape(shape)
        back = nn.Sequential(
            nn.Linear(code_size, math.prod(encoded)),
            Reshape(encoded),
            part.convolution.create_transposed(act_last_layer=False),
        )
    counts = count_parameters(EncoderDecoder(part, back))
    assert counts["encoder"] == encoder
    assert decoder is None or counts["decoder"] == decoder


def test_the_space_to_depth_encoder_has_the_published_parameter_count():
    with torch.device("meta"):
        part = EncoderConv2d(
            (3, 64, 64), 128, kernel_size=(3, 4, 3), channels=(32, 32, 32), space_to_depth=True
        )
    assert count_parameters(part)["model"] == 693_312
    assert part.encoded_shape == (128, 6, 6)


def test_noise_moves_the_code_by_the_standard_deviation():
    bottleneck = Gaussian(4, 3)
    features, noise = torch.rand(2, 4), torch.randn(2, 3)
    latent, posterior = bottleneck(features, noise)
    torch.testing.assert_close(latent, posterior.mean + posterior.log_std.exp() * noise)
    mean, _ = bottleneck(features)
    assert torch.equal(mean, posterior.mean)


def test_a_variational_model_wishes_for_its_terms():
    encoder = VariationalEncoder(EncoderMLP((1, 4, 4), 8), 8, 2)
    decoder = DecoderMLP((1, 4, 4), 2)
    model = VariationalAutoencoder(encoder, decoder, "l1", 2.0, 0.5, kl="legacy")
    assert model.terms == (
        types.TermSpec("l1", "l1", 2.0),
        types.TermSpec("kl", "legacy_kl", 0.5),
    )
    own = VariationalAutoencoder(encoder, decoder, nn.functional.l1_loss)
    assert own.terms[0].name == "reconstruction"
    assert EncoderDecoder(encoder, decoder).terms == ()
    assert EncoderDecoder(encoder, decoder).noise_shape == (2,)


def test_wrong_parts_are_refused_with_the_way_out():
    encoder, decoder = EncoderMLP((1, 4, 4), 8), DecoderMLP((1, 4, 4), 2)
    with pytest.raises(ConfigError, match="write VariationalEncoder"):
        VariationalAutoencoder(encoder, decoder)
    other = VariationalAutoencoder(VariationalEncoder(encoder, 8, 2), decoder, kl="gausian")
    with pytest.raises(ConfigError, match=r"'gausian_kl'.*did you mean 'gaussian_kl'"):
        make_objective(other.terms)
    wrong = VariationalAutoencoder(VariationalEncoder(encoder, 9, 2), decoder)
    with pytest.raises(ShapeError, match="gives 8 numbers per image, but 9 were declared"):
        model_facts(wrong, (1, 4, 4))


def test_a_model_for_other_images_is_named_before_training():
    model = EncoderDecoder(EncoderMLP((1, 8, 8), 8), DecoderMLP((1, 6, 6), 8))
    with pytest.raises(ShapeError, match="makes 1x6x6 of 1x8x8 images"):
        as_model(model, (1, 8, 8))
    with pytest.raises(ShapeError, match="cannot process 1x9x9 images"):
        as_model(model, (1, 9, 9))


class Foreign(nn.Module):
    """Somebody's own autoencoder, which returns a tuple."""

    def __init__(self):
        super().__init__()
        self.encoder = EncoderMLP((1, 6, 6), 4)
        self.decoder = DecoderMLP((1, 6, 6), 4)

    def forward(self, images):
        latent = self.encoder(images)
        return self.decoder(latent), latent


def test_any_module_becomes_a_model():
    foreign = Foreign()
    model = as_model(foreign, (1, 6, 6))
    images = torch.rand(2, 1, 6, 6)
    output = model(images, None)
    assert torch.equal(output.reconstruction, foreign(images)[0])
    assert torch.equal(model.decode(model.encode(images)), output.reconstruction)
    assert isinstance(model, types.Model) and model.terms == () and model.noise_shape is None
    assert count_parameters(model)["encoder"] == count_parameters(foreign.encoder)["model"]
    assert model_facts(model, (1, 6, 6)).latent_shape == (4,)


def test_what_cannot_be_a_model_is_refused():
    with pytest.raises(ConfigError, match=r"must be an nn\.Module, not int"):
        as_model(3)
    with pytest.raises(ConfigError, match="neither encode"):
        as_model(nn.Identity()).encode(torch.rand(1, 1, 2, 2))

    class Nothing(nn.Module):
        def forward(self, images):
            return "text"

    with pytest.raises(ConfigError, match="must return a tensor"):
        as_model(Nothing())(torch.rand(1, 1, 2, 2))


def test_shared_weights_count_once():
    decoder = DecoderMLP((1, 4, 4), 4)
    encoder = EncoderMLP((1, 4, 4), 4)
    encoder.layers[1].weight = nn.Parameter(decoder.layers[0].weight.detach().clone())
    before = count_parameters(EncoderDecoder(encoder, decoder))["model"]
    shared = nn.Linear(16, 16)
    model = EncoderDecoder(
        nn.Sequential(encoder, nn.Linear(4, 16), shared), nn.Sequential(shared, nn.Linear(16, 4))
    )
    counts = count_parameters(model)
    assert counts["encoder"] + counts["decoder"] - counts["model"] == 16 * 16 + 16
    assert before == sum(parameter.numel() for parameter in encoder.parameters()) + sum(
        parameter.numel() for parameter in decoder.parameters()
    )


@pytest.mark.parametrize("part", MODELS.values(), ids=MODELS)
def test_every_part_has_plain_keyword_arguments_and_a_docstring(part):
    assert part.__doc__ and part.__doc__.strip()
    for parameter in inspect.signature(part).parameters.values():
        assert parameter.kind is not inspect.Parameter.VAR_POSITIONAL, parameter
        assert parameter.kind is not inspect.Parameter.VAR_KEYWORD, parameter
        assert parameter.annotation is not inspect.Parameter.empty


READABLE = [
    part
    for part in (*(MODELS[name] for name in MODELS.ours), *HELPERS.values())
    if hasattr(part, "block_attributes")
]


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.__name__)
def test_the_attributes_that_a_block_may_read_exist(kind):
    examples = {
        Autoencoder: PRESETS["orthogonal gaussian"]((1, 8, 8)),
        Conv2dBlock: Conv2dBlock((1, 2), 3),
        VariationalEncoder: VariationalEncoder(EncoderMLP((1, 4, 4), 8), 8, 2),
        Gaussian: Gaussian(4, 2),
        EncoderDecoder: symmetric((1, 8, 8)),
        FSQ: FSQ((5, 4)),
        PretrainedResNet18: PretrainedResNet18((1, 8, 8), 4, weights=None),
        ResNet18: ResNet18(head=True),
        VariationalAutoencoder: variational((1, 8, 8)),
        VariationalAutoencoderConv: PRESETS["overnight"]((1, 8, 8)),
        ImportanceWeightedAutoencoder: ImportanceWeightedAutoencoder(
            VariationalEncoder(EncoderMLP((1, 8, 8), 8), 8, 4), DecoderMLP((1, 8, 8), 4)
        ),
        DalleManifoldAutoencoder: DalleManifoldAutoencoder((1, 8, 8), n_hid=8),
        StackedSymmetricAutoencoderConv2d: PRESETS["stacked"]((1, 8, 8)),
        PatchTransformerAutoencoder: PRESETS["patch transformer"]((1, 8, 8)),
        TransformerAutoencoder: PRESETS["batch transformer"]((1, 8, 8)),
        CharacterAutoencoder: small_ascii_ae((8, 8)),
        GaussianMap: GaussianMap((4, 2, 2), 3),
        OneHotCharacters: OneHotCharacters(),
        ConditionalAutoencoder: ConditionalAutoencoder(
            VariationalEncoder(EncoderMLP((1, 8, 8), 8), 8, 4),
            DecoderMLP((1, 8, 8), 6),
            (1, 8, 8),
            2,
        ),
        VampPriorAutoencoder: VampPriorAutoencoder(
            VariationalEncoder(EncoderMLP((1, 8, 8), 8), 8, 4), DecoderMLP((1, 8, 8), 4), (1, 8, 8)
        ),
        FlowGaussian: FlowGaussian(4, 2),
        FlowPrior: FlowPrior(4, 2),
        FullGaussian: FullGaussian(4, 2),
        Laplace: Laplace(4, 2),
        LogisticMixtureAutoencoder: LogisticMixtureAutoencoder(
            EncoderMLP((1, 8, 8), 4), Identity(), DecoderMLP((6, 8, 8), 4), (1, 8, 8)
        ),
        LowRankGaussian: LowRankGaussian(4, 2),
        StudentT: StudentT(4, 2),
        HamiltonianAutoencoder: HamiltonianAutoencoder(
            VariationalEncoder(EncoderMLP((1, 8, 8), 8), 8, 4), DecoderMLP((1, 8, 8), 4)
        ),
        CodeTransformer: CodeTransformer((1, 2, 2), 4),
        PixelCNN: PixelCNN((1, 2, 2), 4),
        FlowMatching: FlowMatching((4, 1, 1)),
        LatentDiffusion: LatentDiffusion((4, 1, 1)),
        PaletteAutoencoder: small_palette_ae((16, 16), palette("red", "blue")),
        VonMisesFisher: VonMisesFisher(4, 2),
        WrappedNormal: WrappedNormal(4, 2),
        GaussianAndCategorical: GaussianAndCategorical(4, 2),
        MixturePrior: MixturePrior(4, 2),
        PairAveraged: PairAveraged(Gaussian(4, 2)),
        RiemannianAutoencoder: RiemannianAutoencoder(
            VariationalEncoder(EncoderMLP((1, 8, 8), 8), 8, 4),
            DecoderMLP((1, 8, 8), 4),
            EncoderMLP((1, 8, 8), 10),
        ),
        MixerMLP: MixerMLP((1, 8, 8), 4, (8, 4)),
        Grouped: Grouped([FSQ((5, 4))]),
        Residual: Residual([FSQ((5, 4))]),
    }
    for maker in (
        EncoderConv2d,
        DecoderConv2d,
        EncoderMLP,
        DecoderMLP,
        EncoderResidual,
        DecoderResidual,
        EncoderPatchTransformer,
        DecoderPatchTransformer,
        DecoderDC,
        DecoderEquivariant,
        DecoderKAN,
        DecoderMixer,
        EncoderDC,
        EncoderEquivariant,
        EncoderKAN,
        EncoderMixer,
        MaskedAutoencoder,
        UNet,
        TransformerEncoder,
        TransformerDecoder,
    ):
        examples[maker] = maker((1, 8, 8), 4)
    examples[IterativeAutoencoder] = iterative_image_ae((1, 8, 8))
    example = examples.get(kind) or kind(4)
    assert all(hasattr(example, name) for name in kind.block_attributes)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_trial_computes_nothing_and_leaves_the_model_alone(preset):
    model = preset((1, 8, 8)).train()
    trial = try_model(model, (1, 8, 8))
    assert trial.images.is_meta and trial.output.reconstruction.is_meta and trial.flops > 0
    assert model.training and not next(model.parameters()).is_meta
