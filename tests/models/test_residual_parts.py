"""Residual encoder and decoder: any image size, norms within one image, the preset."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from aelab import types
from aelab.errors import ConfigError, ShapeError
from aelab.inspect import as_model, count_parameters, model_facts
from aelab.models import (
    DecoderResidual,
    EncoderDecoder,
    EncoderResidual,
    quick_image_ae,
    small_image_ae,
)
from aelab.models.residual import (
    PER_IMAGE_NORMS,
    MapNorm,
    ModulatedBlock,
    PixelNorm,
    Upsample,
    halved_sizes,
    make_per_image_norm,
)

SHAPES = [
    *((1, n, n) for n in (1, 2, 3, 8, 9, 20, 28, 31, 33, 64, 128)),
    (3, 8, 128),
    (3, 13, 7),
    (3, 27, 45),
    (4, 32, 32),
]


def small(shape: tuple[int, int, int], **options: object) -> EncoderDecoder:
    return EncoderDecoder(
        EncoderResidual(shape, 5, channels=(4, 6), hidden=(8,), **options),  # type: ignore[arg-type]
        DecoderResidual(shape, 5, channels=(6, 4), hidden=(8,), **options),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_image_size_fits_and_learns(shape: tuple[int, int, int]) -> None:
    model = small(shape)
    images = torch.rand(2, *shape)
    output = model(images)
    assert output.reconstruction.shape == images.shape and output.latent.shape == (2, 5)
    output.reconstruction.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_sizes_are_halved_rounding_up() -> None:
    assert halved_sizes((1, 28, 9), 3) == [(28, 9), (14, 5), (7, 3), (4, 2)]
    encoder = EncoderResidual((3, 28, 9), 16, channels=(4, 6, 8))
    assert encoder.encoded_shape == (8, 4, 2)
    assert encoder.convolution(torch.rand(1, 3, 28, 9)).shape == (1, 8, 4, 2)
    assert DecoderResidual((3, 28, 9), 16, channels=(8, 6, 4)).encoded_shape == (8, 4, 2)


@pytest.mark.parametrize("norm", PER_IMAGE_NORMS)
def test_no_image_depends_on_its_batch(norm: str) -> None:
    torch.manual_seed(0)
    model = small((3, 9, 12), norm=norm, blocks=2)
    awake(model)
    images = torch.rand(5, 3, 9, 12)
    together = model.train()(images).reconstruction
    torch.testing.assert_close(together[2:3], model(images[2:3]).reconstruction)
    torch.testing.assert_close(together, model.eval()(images).reconstruction)


def awake(model: nn.Module) -> None:
    """Weights that start at zero would hide what stands behind them."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)


def test_the_norms_are_those_of_their_papers() -> None:
    x = torch.randn(2, 32, 3, 4)
    rms = x / (x.square().mean(1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()
    torch.testing.assert_close(PixelNorm(32)(x), rms)
    centered = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(PixelNorm(32, centered=True)(x), centered)
    whole = x / x.square().mean((1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(MapNorm(32)(x), whole)
    assert make_per_image_norm("group", 32).num_groups == 2
    assert make_per_image_norm("group", 45).num_groups == 1  # 45 channels are no two equal groups
    assert isinstance(make_per_image_norm(None, 4), nn.Identity)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 13)], ids=str)
def test_activations_may_follow_the_norms_and_pixels_be_repeated(
    shape: tuple[int, int, int],
) -> None:
    more = {"pre_activation": True, "act_fn": "gelu", "norm": "none", "initial": "torch"}
    encoder = EncoderResidual(shape, 5, channels=(4, 6), hidden=(8,), **more)  # type: ignore[arg-type]
    decoder = DecoderResidual(
        shape,
        5,
        channels=(6, 4),
        hidden=(8,),
        upsample="nearest",
        **more,  # type: ignore[arg-type]
    )
    model = EncoderDecoder(encoder, decoder)
    awake(model)
    images = torch.rand(2, *shape)
    assert model(images).reconstruction.shape == images.shape
    gelu, block = nn.functional.gelu, encoder.convolution[1]
    x = torch.randn(2, 4, 5, 5)
    expected = x + block.second(gelu(block.first(gelu(x))))  # type: ignore[operator]
    torch.testing.assert_close(block(x), expected)
    ups = [part for part in decoder.modules() if isinstance(part, Upsample)]
    assert [up.nearest for up in ups] == [True, False]
    maps = torch.randn(1, 6, 2, 3)
    doubled = ups[0].convolution(maps.repeat_interleave(2, 2).repeat_interleave(2, 3))
    height, width = ups[0].size
    torch.testing.assert_close(ups[0](maps), doubled[..., :height, :width])


def test_the_first_weights_may_be_those_of_torch() -> None:
    def spread(initial: str) -> float:
        """Of the head's first layer, which has many weights."""
        torch.manual_seed(0)
        encoder = EncoderResidual((1, 16, 16), 4, channels=(8, 8), initial=initial)  # type: ignore[arg-type]
        return float(encoder.head[0].weight.std())

    assert spread("variance") == pytest.approx(math.sqrt(2 / 128), rel=0.02)
    assert spread("torch") == pytest.approx(math.sqrt(1 / 3 / 128), rel=0.02)


def test_options_that_do_not_exist_are_told_with_the_possible_ones() -> None:
    with pytest.raises(ConfigError, match=r"initial must be 'variance' or 'torch', not 'troch'"):
        EncoderResidual((1, 8, 8), 4, initial="troch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"'transposed' or 'nearest', not 'near'"):
        DecoderResidual((1, 8, 8), 4, upsample="near")  # type: ignore[arg-type]


def test_blocks_begin_as_the_identity() -> None:
    encoder = EncoderResidual((1, 16, 16), 4, channels=(6,), blocks=3)
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(encoder.convolution(images), encoder.convolution[0](images))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 15, 13), (1, 8, 8), (3, 128, 96)], ids=str)
def test_the_preset_keeps_the_protocol_at_any_size(shape: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        empty = small_image_ae(shape)
    model = small_image_ae(shape).eval()
    assert isinstance(model, types.Model) and as_model(model, shape) is model
    facts = model_facts(empty, shape)
    assert facts == model_facts(model, shape) and facts.latent_shape == (16,)
    images = torch.rand(2, *shape)
    output = model(images)
    torch.testing.assert_close(model.encode(images), output.latent)
    torch.testing.assert_close(model.decode(output.latent), output.reconstruction)
    other = small_image_ae(shape).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images).reconstruction, output.reconstruction)


def test_the_memory_layout_does_not_change_the_preset() -> None:
    model = small_image_ae((3, 14, 14)).eval()
    awake(model)
    images = torch.rand(2, 3, 14, 14)
    plain = model(images).reconstruction
    model.to(memory_format=torch.channels_last)
    fast = model(images.to(memory_format=torch.channels_last)).reconstruction
    torch.testing.assert_close(plain, fast, atol=1e-5, rtol=1e-4)


def test_the_quick_preset_has_the_parameters_that_its_document_says() -> None:
    model = quick_image_ae((1, 28, 28))
    assert sum(parameter.numel() for parameter in model.parameters()) == 648_137
    assert model.encoder.encoded_shape == model.decoder.encoded_shape == (12, 7, 7)


def test_a_squeezed_map_is_what_the_head_sees() -> None:
    encoder = EncoderResidual((1, 8, 8), 4, channels=(6, 8), hidden=(5,), squeeze=3)
    assert encoder.encoded_shape == (3, 2, 2)
    assert encoder.head[0].in_features == 3 * 2 * 2  # type: ignore[union-attr]


def test_a_modulated_block_scales_and_shifts_what_it_has_normalised() -> None:
    block = ModulatedBlock(2, code_size=1, norm=None, act_fn=None)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.first.weight[:, :, 1, 1] = torch.eye(2)
        block.second.weight[:, :, 1, 1] = torch.eye(2)
        # scale of channel 0 is the latent, shift of channel 1 twice the latent
        block.modulation.weight[:, 0] = torch.tensor([1.0, 0.0, 0.0, 2.0])
    x = torch.ones(1, 2, 3, 3)
    changed = block.modulated(x, torch.tensor([[3.0]]))
    assert changed[0, :, 0, 0].tolist() == [1 + 1 * (1 + 3), 1 + (1 + 6)]


def test_without_blocks_that_train_a_modulated_decoder_begins_as_a_plain_one() -> None:
    torch.manual_seed(0)
    model = quick_image_ae((1, 8, 8), channels=(4, 6), hidden=(8,)).eval()
    images, latent = torch.rand(2, 1, 8, 8), torch.randn(2, 16)
    before = model.decode(latent)
    for block in model.decoder.modules():
        if isinstance(block, ModulatedBlock):
            torch.nn.init.zeros_(block.modulation.weight)
    # The last convolution of every block is 0 at the start, whatever it is given.
    torch.testing.assert_close(model.decode(latent), before)
    assert model(images).reconstruction.shape == images.shape


def test_stacked_presets_equal_single_ones() -> None:
    models = [small((1, 7, 7)).eval() for _ in range(2)]
    images = torch.rand(2, 3, 1, 7, 7)
    skeleton = small((1, 7, 7)).to("meta")
    stacked = torch.vmap(lambda state, x: functional_call(skeleton, state, (x,)).reconstruction)(
        stack_module_state(models), images
    )
    for index, model in enumerate(models):
        torch.testing.assert_close(stacked[index], model(images[index]).reconstruction)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"squeeze": 0}, ShapeError, "squeeze is 0; it needs at least 1 channel"),
        ({"norm": "rmss"}, ConfigError, "did you mean 'rms'"),
        ({"kernel_size": 4}, ConfigError, "kernel_size is 4; it must be odd"),
        ({"blocks": (1, 2, 3)}, ConfigError, "there are 2 stages"),
        ({"blocks": -1}, ConfigError, "one integer from 0 up"),
    ],
)
def test_wrong_options_are_answered(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small((1, 8, 8), **options)


def test_no_channels_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least one positive number"):
        EncoderResidual((1, 8, 8), 4, channels=())
    with pytest.raises(ShapeError, match="three positive integers"):
        DecoderResidual((8, 8), 4)
    assert count_parameters(small((1, 8, 8)))["model"] > 0
