"""The implicit decoder: a plain loop written here is the reference; counts; rendering."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.inspect import count_parameters, model_facts
from aelab.models import (
    EncoderDecoder,
    EncoderMLP,
    FourierPositions,
    ImageManifoldDecoder,
    LinearPositions,
    SinePositions,
    anti_aliased_decoder,
    fast_implicit_decoder,
    film_decoder,
    fourier_decoder,
    siren_decoder,
)

SHAPE = (9, 7)


class PlainBlock(nn.Module):
    """The documents' block on the pixels of one image."""

    def __init__(self, hidden, num_layers, concat):
        super().__init__()
        self.concat = concat
        self.norm = nn.BatchNorm1d(hidden)
        self.linears = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(num_layers))

    def forward(self, x):
        y = self.norm(x)
        for linear in self.linears:
            y = F.gelu(linear(y))
        return torch.cat((x, y), dim=1) if self.concat else x + y


class Plain(nn.Module):
    """The documents' decoder, image by image, from its description."""

    def __init__(self, code, hidden, num_layers, concat, cosines=True, attention=False):
        super().__init__()
        self.cosines, self.code = cosines, code
        pos = 10 if cosines else 6
        self.first = nn.Linear(code + pos, hidden)
        self.query = nn.Linear(pos, code) if attention else None
        self.attention = nn.MultiheadAttention(code, 4) if attention else None
        self.blocks = nn.ModuleList()
        for flag in concat:
            self.blocks.append(PlainBlock(hidden, num_layers, flag))
            hidden *= 2 if flag else 1
        self.last = nn.Linear(hidden, 3)

    def forward(self, latent, shape=SHAPE):
        code = self.position_code(shape)
        images = []
        for one in latent:
            x = one.expand(len(code), -1)
            if self.attention is not None:
                x = self.attention(self.query(code), x, x)[0]
            x = self.first(torch.cat((x, code), dim=1))
            x = x if self.attention is not None else F.gelu(x)
            for block in self.blocks:
                x = block(x)
            images.append(self.last(x).sigmoid().T.reshape(3, *shape))
        return torch.stack(images)

    def position_code(self, shape):
        rows = []
        for i in range(shape[0]):
            for j in range(shape[1]):
                x, y = -1 + 2 * j / (shape[1] - 1), -1 + 2 * i / (shape[0] - 1)
                row = [x, y, *(math.sin(f * p) for f in (7, 17) for p in (x, y))]
                row += [math.cos(f * p) for f in (7, 17) for p in (x, y)] if self.cosines else []
                rows.append(row)
        return torch.tensor(rows)

    def old_form(self):
        """Its weights under the names that stored weights of the documents' decoder have."""
        names = {"first": "linear_in", "last": "linear_out"}
        state = {}
        for name, tensor in self.state_dict().items():
            head, *tail = name.split(".")
            if head == "blocks":
                block = f"pos_to_color.resblocks.resblock_{int(tail[0]) + 1}.layers"
                if tail[1] == "norm":
                    state[f"{block}.norm.{tail[2]}"] = tensor
                else:
                    state[f"{block}.layer_{int(tail[2]) + 1}.linear.{tail[3]}"] = tensor
            elif self.attention is not None and head != "last":
                other = {"first": "proj", "query": "upscale_pos", "attention": "cross_atn"}[head]
                state[".".join([other, *tail])] = tensor
            else:
                state[".".join(["pos_to_color", names[head], *tail])] = tensor
        return {name: tensor.clone() for name, tensor in state.items()}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pair(concat, **options):
    plain = Plain(12, 16, 2, concat, options.get("pos_embedding") != "sin")
    decoder = ImageManifoldDecoder(
        12, 3, 16, len(concat), 2, concat, default_shape=SHAPE, **options
    )
    decoder.load_state_dict(plain.old_form())
    return plain, decoder


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 64, None])
@pytest.mark.parametrize("concat", [[False, False, False], [True, False, True]], ids=str)
@pytest.mark.parametrize("code", ["sin_cos", "sin"])
def test_every_chunk_equals_the_loop_over_images(code, concat, chunk):
    plain, decoder = pair(concat, chunk=chunk, pos_embedding=code)
    target = torch.rand(5, 3, *SHAPE)
    for _ in range(2):  # the running averages from 0 and 1, and from elsewhere
        latent = torch.randn(5, 12)
        ours, theirs = latent.clone().requires_grad_(), latent.clone().requires_grad_()
        mine, other = decoder(ours), plain(theirs)
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)
        (mine - target).square().sum().backward()
        (other - target).square().sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)
    gradients = {name: tensor.grad for name, tensor in decoder.named_parameters()}
    for name, tensor in plain.named_parameters():
        own = name.replace("first", "inputs.linear").replace("last", "linear_out")
        torch.testing.assert_close(gradients[own], tensor.grad, atol=1e-5, rtol=1e-4)
    for mine, other in zip(decoder.blocks, plain.blocks, strict=True):
        for name, buffer in other.norm.named_buffers():
            torch.testing.assert_close(mine.norm.get_buffer(name), buffer, atol=1e-5, rtol=0)
    latent = torch.randn(5, 12)
    torch.testing.assert_close(decoder.eval()(latent), plain.eval()(latent), atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_training", [True, False])
def test_another_size_equals_the_loop_over_images(is_training):
    plain, decoder = pair([False, True])
    plain.train(is_training), decoder.train(is_training)
    latent = torch.randn(3, 12)
    torch.testing.assert_close(decoder(latent, (5, 12)), plain(latent, (5, 12)))
    torch.testing.assert_close(decoder(latent[0]), plain(latent[:1])[0])
    assert decoder(latent[0], (4, 3)).shape == (3, 4, 3)


def test_cross_attention_equals_the_attention_it_stands_for():
    plain = Plain(12, 16, 2, [False, False], attention=True)
    decoder = ImageManifoldDecoder(12, 3, 16, 2, 2, default_shape=SHAPE, cross_attention=True)
    decoder.load_state_dict(plain.old_form())
    latent = torch.randn(4, 12)
    torch.testing.assert_close(decoder(latent), plain(latent))
    assert count_parameters(decoder) == count_parameters(plain)
    assert "no effect" in decoder.note


COUNTS = [
    # stated; with the newest position code; settings
    (42_497, 42_753, {"num_blocks": 4, "num_hidden": 64}),
    (283_649, 284_161, {"num_blocks": 8, "num_hidden": 128}),
    (547_841, 548_353, {"num_blocks": 8, "num_hidden": 128, "num_layers_per_block": 4}),
    (285_697, 286_209, {"num_blocks": 16, "num_hidden": 128, "num_layers_per_block": 1}),
    (549_889, 550_401, {"num_blocks": 16, "num_hidden": 128}),
    (1_490_401, 1_491_601, {"num_blocks": 8, "num_hidden": 300}),
    (1_091_585, 1_092_609, {"num_blocks": 8, "num_hidden": 256}),
    (
        3_502_785,
        3_503_041,
        {"num_blocks": 8, "num_hidden": 64, "concat_residual": [True, False] * 4},
    ),
]


@pytest.mark.parametrize(("stated", "newest", "settings"), COUNTS)
def test_decoders_have_the_published_parameter_counts(stated, newest, settings):
    with torch.device("meta"):
        new = ImageManifoldDecoder(128, 1, **settings)
        old = ImageManifoldDecoder(128, 1, pos_embedding="sin", **settings)
    assert count_parameters(new)["model"] == newest
    assert count_parameters(old)["model"] == stated


def test_the_file_of_document_001_has_its_parameter_count():
    with torch.device("meta"):
        decoder = ImageManifoldDecoder(
            num_input_channels=102,
            num_output_channels=3,
            default_shape=(32, 32),
            num_hidden=256,
            num_blocks=2,
            num_layers_per_block=2,
            activation="gelu",
        )
    assert count_parameters(decoder)["model"] == 293_891


def test_concatenation_doubles_the_widths_as_the_document_lists_them():
    with torch.device("meta"):
        decoder = ImageManifoldDecoder(128, 1, 64, num_blocks=8, concat_residual=[True, False] * 4)
    widths = [block.linears[0].in_features for block in decoder.blocks]
    assert widths == [64, 128, 128, 256, 256, 512, 512, 1024]
    assert decoder.linear_out.in_features == 1024


KINDS = {
    "document": lambda shape: ImageManifoldDecoder(6, shape[0], 16, default_shape=shape[1:]),
    "image statistics": lambda shape: ImageManifoldDecoder(
        6, shape[0], 16, default_shape=shape[1:], statistics="image"
    ),
    "rms": lambda shape: ImageManifoldDecoder(
        6, shape[0], 16, default_shape=shape[1:], normalization="rms", activation="relu"
    ),
    "fourier": lambda shape: fourier_decoder(shape, 6, 16, 2),
    "siren": lambda shape: siren_decoder(shape, 6, 16, 2),
    "siren film": lambda shape: siren_decoder(shape, 6, 16, 2, mixing="film", anti_alias="box"),
    "film": lambda shape: film_decoder(shape, 6, 16, 2),
    "film alone": lambda shape: ImageManifoldDecoder(
        6, shape[0], 16, default_shape=shape[1:], mixing="film", activation="relu"
    ),
    "anti-aliased": lambda shape: anti_aliased_decoder(shape, 6, 16, 2),
    "fast": lambda shape: fast_implicit_decoder(shape, 6, 16, 2, grid_shape=(4, 3)),
    "everything": lambda shape: ImageManifoldDecoder(
        6,
        shape[0],
        16,
        concat_residual=[True, False],
        default_shape=shape[1:],
        pos_embedding=FourierPositions(5, anti_alias="box"),
        mixing=("concat", "film", "grid"),
        statistics="image",
        activation="siren",
    ),
}
SHAPES = [(1, 8, 8), (3, 9, 13), (2, 16, 5)]


def warmed(kind, shape):
    """A decoder in evaluation whose running averages have seen some images."""
    decoder = KINDS[kind](shape)
    decoder(torch.randn(8, 6))
    return decoder.eval()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_rendering_the_default_grid_equals_forward(kind, shape):
    decoder = warmed(kind, shape)
    latent = torch.randn(3, 6)
    torch.testing.assert_close(decoder.render(latent, shape[1:]), decoder(latent))
    before = copy.deepcopy(decoder.state_dict())
    decoder.train()
    rendered = decoder.render(latent, shape[1:])
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    torch.testing.assert_close(rendered, decoder(latent))


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_region_equals_the_crop_of_the_whole_where_the_grids_coincide(kind, shape, is_training):
    decoder = warmed(kind, shape).train(is_training)
    latent = torch.randn(2, 6)
    height, width = 2 * shape[1] + 1, 3 * shape[2]
    whole = decoder.render(latent, (height, width))
    assert whole.shape == (2, shape[0], height, width)
    top, bottom, left, right = 2, height - 4, 1, width - 3

    def x(column):
        return -1 + 2 * column / (width - 1)

    def y(row):
        return -1 + 2 * row / (height - 1)

    region = (x(left), y(top), x(right), y(bottom))
    part = decoder.render(latent, (bottom - top + 1, right - left + 1), region)
    crop = whole[:, :, top : bottom + 1, left : right + 1]
    torch.testing.assert_close(part, crop, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bands_and_chunks_do_not_change_what_is_rendered(kind, monkeypatch):
    decoder = warmed(kind, (3, 8, 8))
    latent = torch.randn(3, 6)
    whole = decoder.render(latent, (11, 17))
    decoder.chunk = 2
    monkeypatch.setattr("aelab.models.implicit._CPU_NUMBERS", 16 * 30)
    torch.testing.assert_close(decoder.render(latent, (11, 17)), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_change_gradients_of_any_kind(kind):
    first = KINDS[kind]((3, 6, 7))
    latent, target = torch.randn(5, 6), torch.rand(5, 3, 6, 7)
    results = []
    for chunk in (1, 2, 5):
        decoder = copy.deepcopy(first)
        decoder.chunk = chunk
        output = decoder(latent)
        (output - target).square().mean().backward()
        gradients = [parameter.grad for parameter in decoder.parameters()]
        results.append([output.detach(), *gradients, *decoder.buffers()])
    for tensors in results[1:]:
        torch.testing.assert_close(tensors, results[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_builds_on_the_meta_device_and_learns_everywhere(kind):
    shape = (3, 10, 7)
    with torch.device("meta"):
        empty = EncoderDecoder(EncoderMLP(shape, 6, hidden=()), KINDS[kind](shape))
    model = EncoderDecoder(EncoderMLP(shape, 6, hidden=()), KINDS[kind](shape))
    assert model_facts(empty, shape) == model_facts(model, shape)
    assert model_facts(model, shape).flops_per_image > 0
    output = model(torch.rand(3, *shape)).reconstruction
    output.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_bfloat16_keeps_statistics_and_positions_in_full_precision():
    first = ImageManifoldDecoder(6, 1, 16, default_shape=(8, 8), chunk=5)
    latent = torch.randn(5, 6)
    half, full = copy.deepcopy(first), first
    with torch.autocast("cpu", torch.bfloat16):
        images = half(latent)
    torch.testing.assert_close(images.float(), full(latent), atol=0.02, rtol=0)
    for mine, other in zip(half.blocks, full.blocks, strict=True):
        assert mine.norm.running_mean.dtype == torch.float32
        torch.testing.assert_close(
            mine.norm.running_var, other.norm.running_var, atol=1e-3, rtol=0.01
        )


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_takes_the_whole_batch_and_gives_the_same(kind):
    here = KINDS[kind]((3, 8, 8))
    there = copy.deepcopy(here).cuda()
    latent = torch.randn(5, 6)
    torch.testing.assert_close(there(latent.cuda()).cpu(), here(latent), atol=1e-4, rtol=1e-3)
    here.eval(), there.eval()
    rendered = there.render(latent.cuda(), (11, 5)).cpu()
    torch.testing.assert_close(rendered, here.render(latent, (11, 5)), atol=1e-4, rtol=1e-3)


def test_image_statistics_do_not_depend_on_the_size_rendered():
    decoder = warmed("image statistics", (1, 8, 8))
    latent = torch.randn(2, 6)
    fine = decoder(latent, (15, 15))
    torch.testing.assert_close(fine, decoder.render(latent, (15, 15)))
    torch.testing.assert_close(fine[:, :, ::2, ::2], decoder(latent), atol=1e-5, rtol=1e-4)
    running = warmed("document", (1, 8, 8))
    running.load_state_dict(decoder.state_dict())
    assert not torch.allclose(running(latent), decoder(latent), atol=1e-3)


def test_image_statistics_in_evaluation_are_those_of_training():
    decoder = KINDS["image statistics"]((1, 8, 8))
    latent = torch.randn(2, 6)
    trained = decoder(latent)
    torch.testing.assert_close(decoder.eval()(latent), trained)


def test_only_the_statistics_of_the_picture_need_a_default_grid():
    latent = torch.randn(2, 6)
    decoder = ImageManifoldDecoder(6, 1, 8)
    assert decoder.eval().render(latent, (4, 5)).shape == (2, 1, 4, 5)
    assert decoder.train()(latent, (4, 5)).shape == (2, 1, 4, 5)
    for ask in (lambda: decoder.train().render(latent, (4, 5)), lambda: decoder(latent)):
        with pytest.raises(ShapeError, match=r"default_shape=SHAPE\[-2:\]"):
            ask()


def test_latents_below_zero_length_and_pixels_below_two_are_refused():
    decoder = ImageManifoldDecoder(6, 1, 8, default_shape=(4, 4))
    with pytest.raises(ShapeError, match="takes 6 numbers per image, but the latent is 5"):
        decoder(torch.zeros(2, 5))
    with pytest.raises(ShapeError, match="an image of one pixel has no variance"):
        decoder(torch.zeros(2, 6), (1, 1))
    assert decoder.eval()(torch.zeros(2, 6), (1, 1)).shape == (2, 1, 1, 1)
    with pytest.raises(ShapeError, match="two positive integers"):
        decoder(torch.zeros(2, 6), (4, 0))


@pytest.mark.parametrize(
    ("error", "match", "settings"),
    [
        (ShapeError, "has 3 values, but there are 2 blocks", {"concat_residual": [True] * 3}),
        (ConfigError, "needs the identity paths", {"concat_residual": True, "residual": False}),
        (ConfigError, "did you mean 'sin_cos'", {"pos_embedding": "sincos"}),
        (ConfigError, "did you mean 'film'", {"mixing": "films"}),
        (ConfigError, "the latent has no effect", {"mixing": ()}),
        (ConfigError, 'needs mixing="concat"', {"mixing": "film", "cross_attention": True}),
        (ConfigError, "4 cross_attention_heads do not divide 6", {"cross_attention": True}),
        (ConfigError, "did you mean 'layer'", {"normalization": "layers"}),
        (ConfigError, "must be 'running' or 'image'", {"statistics": "batch"}),
        (ConfigError, "chunk must be at least 1", {"chunk": 0}),
        (ConfigError, "'box', 'gaussian' or None", {"anti_alias": "mip"}),
        (ConfigError, "no waves", {"anti_alias": "box", "pos_embedding": "linear"}),
        (
            ConfigError,
            r"write SinePositions\(\.\.\., anti_alias='box'\)",
            {"anti_alias": "box", "pos_embedding": SinePositions()},
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(error, match, settings):
    with pytest.raises(error, match=match):
        ImageManifoldDecoder(6, 1, 8, **settings)


def test_sines_begin_with_the_variances_of_their_paper():
    decoder = siren_decoder((1, 32, 32), 64, num_hidden=256, num_layers=4)
    assert isinstance(decoder.inputs.positions, LinearPositions)
    seen = []
    for activation in decoder.blocks[0].activations:
        activation.register_forward_hook(
            lambda module, given, out: seen.append((given[0] * module.frequency, out))
        )
    decoder(torch.randn(2, 64))
    assert len(seen) == 4
    # Normal of variance 1 from the weights, and 900 / (3 * 256) from the biases as they come;
    # then arcsine of variance 1/2.
    for before, after in seen:
        assert 0.9 < before.var() / (1 + 900 / 768) < 1.1
        assert 0.4 < after.var() < 0.6
    bound = math.sqrt(6 / 256) / 30
    assert decoder.blocks[0].linears[0].weight.abs().max() <= bound
    first = decoder.inputs.linear.weight[:, -2:]
    assert 0.45 < first.abs().max() <= 0.5


def test_the_first_sines_weakened_equal_their_average_over_the_pixel():
    options = {"num_hidden": 8, "num_layers": 1, "activation_out": None}
    plain = siren_decoder((1, 5, 5), 3, **options).eval()
    averaged = siren_decoder((1, 5, 5), 3, anti_alias="box", **options).eval()
    averaged.load_state_dict(plain.state_dict())
    latent = torch.randn(1, 3)
    size = (0.5, 0.5)
    fine = torch.linspace(-0.25, 0.25, 201)[1::2]  # midpoints of 100 strips across a pixel
    offsets = torch.stack(torch.meshgrid(fine, fine, indexing="ij"), dim=-1).view(-1, 2)
    centre = torch.tensor([[0.5, -0.5]])
    many = plain.inputs(latent, plain.inputs.of_positions(centre + offsets, size)).mean(0)
    one = averaged.inputs(latent, averaged.inputs.of_positions(centre, size))[0]
    torch.testing.assert_close(one, many, atol=1e-3, rtol=0)


def test_a_modulated_decoder_ignores_a_latent_of_zeros():
    decoder = film_decoder((1, 6, 6), 4, 8, 1)
    plain = copy.deepcopy(decoder)
    plain.modulation = None
    zeros = torch.zeros(2, 4)
    torch.testing.assert_close(decoder(zeros), plain(zeros))


def test_the_fast_decoder_costs_a_twentieth_of_the_documents():
    shape = (3, 32, 32)
    with torch.device("meta"):
        encoder = EncoderMLP(shape, 128, hidden=())
        document = ImageManifoldDecoder(128, 3, 128, 8, 2, default_shape=shape[1:])
        fast = fast_implicit_decoder(shape, 128)
    costs = [
        model_facts(EncoderDecoder(encoder, decoder), shape).flops_per_image
        for decoder in (document, fast)
    ]
    assert costs[0] > 20 * costs[1]
