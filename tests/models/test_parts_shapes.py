"""Blocks and reshaping parts: sizes, orders, messages."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aelab.errors import AelabError, ConfigError, ShapeError
from aelab.models import (
    ACTIVATIONS,
    NORMALIZATIONS,
    Conv2dBlock,
    DecoderConv2d,
    DepthToSpace,
    EncoderConv2d,
    FlattenPixels,
    Reshape,
    SpaceToDepth,
    SpaceToDepthPool,
    UnflattenPixels,
    make_activation,
    make_normalization,
)

BLOCKS = {
    "plain": {"channels": (3, 5, 7), "kernel_size": 3, "act_fn": "relu"},
    "strides": {"channels": (3, 4, 5), "kernel_size": (3, 5), "stride": (2, 1)},
    "groups": {"channels": (2, 4, 8), "kernel_size": 3, "groups": (1, 2)},
    "pooling": {"channels": (1, 4), "kernel_size": 3, "pool_kernel_size": 2, "pool_type": "avg"},
    "normalised": {"channels": (3, 4, 5), "kernel_size": 3, "batch_norm": True, "dropout": 0.1},
    "cheap": {"channels": (3, 4, 6), "kernel_size": 3, "cheap": True, "bias": False},
    "own last": {"channels": (3, 4, 6), "kernel_size": 3, "act_last_layer": nn.Sigmoid},
    "space to depth": {"channels": (3, 4, 5), "kernel_size": (3, 4), "space_to_depth": True},
    "transposed": {"channels": (3, 4, 5), "kernel_size": 3, "stride": 2, "transpose": True},
    "transposed depth": {
        "channels": (3, 4, 5),
        "kernel_size": (4, 3),
        "space_to_depth": True,
        "transpose": True,
    },
    "transposed cheap": {"channels": (3, 4), "kernel_size": 3, "cheap": True, "transpose": True},
}


@pytest.mark.parametrize("settings", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("size", [(16, 16), (20, 12), (24, 32)])
def test_the_shape_by_arithmetic_is_the_shape_of_the_result(settings, size):
    block = Conv2dBlock(**settings)
    shape = (block.num_input_channels, *size)
    result = block(torch.rand(2, *shape))
    assert tuple(result.shape[1:]) == block.get_output_shape(shape) == block.get_output_shape(size)


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "pooling"])
def test_a_transposed_block_takes_what_the_block_gives(name):
    block = Conv2dBlock(**BLOCKS[name])
    back = block.create_transposed()
    inside = block.get_output_shape((16, 16))
    assert tuple(back(torch.rand(1, *inside)).shape[1:]) == back.get_output_shape(inside)
    assert block.get_input_shape(inside) == back.get_output_shape(inside)
    assert back.transpose is not block.transpose
    assert back.channels == block.channels[::-1]


@pytest.mark.parametrize("size", [(11, 10), (28, 31), (45, 64), (97, 128)])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": (4, 3), "stride": (3, 2)},
        {"kernel_size": 2, "stride": 3},
        {"kernel_size": 3, "stride": 2, "cheap": True},
    ],
    ids=str,
)
def test_strided_convolutions_find_the_way_back_to_any_size(settings, size):
    shape = (3, *size)
    decoder = DecoderConv2d(shape, 4, channels=(5, 4), **without_cheap(settings))
    assert decoder(torch.rand(1, 4)).shape == (1, *shape)
    block = Conv2dBlock((3, 4, 5), **settings)
    back = block.create_transposed(output_shape=shape)
    assert back(block(torch.rand(1, *shape))).shape == (1, *shape)
    assert back.get_output_shape(block.get_output_shape(shape)) == shape


def without_cheap(settings):
    return {key: value for key, value in settings.items() if key != "cheap"}


def test_a_size_that_fits_by_itself_keeps_its_old_weights_and_numbers():
    torch.manual_seed(0)
    plain = Conv2dBlock((4, 3), 3, 2, transpose=True)
    torch.manual_seed(0)
    told = Conv2dBlock((4, 3), 3, 2, transpose=True, output_shape=(32, 32))
    x = torch.rand(1, 4, 15, 15)
    assert torch.equal(plain(x), told(x)) and plain(x).shape == (1, 3, 32, 32)


def test_blocks_give_shapes_on_the_meta_device():
    with torch.device("meta"):
        block = Conv2dBlock((3, 16, 24, 32), 3, act_fn=nn.ReLU)
    assert block.get_output_shape((3, 32, 32)) == (32, 26, 26)


def test_layers_are_listed_as_in_the_documents():
    block = EncoderConv2d((3, 32, 32), 102, channels=(16, 24, 32)).convolution
    kinds = [type(layer).__name__ for layer in block.layers]
    assert kinds == ["Conv2d", "ReLU"] * 3
    assert len({id(layer) for layer in block.layers if isinstance(layer, nn.ReLU)}) == 1


@pytest.mark.parametrize(
    ("act_last_layer", "last"),
    [(True, nn.GELU), (False, nn.Conv2d), (None, nn.Conv2d), ("sigmoid", nn.Sigmoid)],
)
def test_the_last_activation_is_chosen_on_its_own(act_last_layer, last):
    block = Conv2dBlock((1, 2, 3), 3, act_fn="GELU", act_last_layer=act_last_layer)
    assert isinstance(block.layers[-1], last)
    assert isinstance(block.layers[1], nn.GELU)


def test_transposing_can_change_the_last_activation_or_keep_it():
    block = Conv2dBlock((1, 2), 3, act_fn=nn.ReLU)
    assert len(block.create_transposed().layers) == 2
    assert len(block.create_transposed(act_last_layer=False).layers) == 1


def test_space_to_depth_has_the_documents_order_of_blocks():
    images = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]], [[10.0, 11.0], [12.0, 13.0]]]])
    result = SpaceToDepth()(images).flatten()
    # parity (row, column): (0,0), (1,0), (0,1), (1,1); two channels each
    assert result.tolist() == [0, 10, 2, 12, 1, 11, 3, 13]


def test_depth_to_space_is_the_exact_inverse():
    images = torch.rand(2, 3, 6, 8)
    assert torch.equal(DepthToSpace()(SpaceToDepth()(images)), images)


def test_space_to_depth_pool_halves_the_size_and_keeps_the_channels():
    assert SpaceToDepthPool(5)(torch.rand(2, 5, 8, 6)).shape == (2, 5, 4, 3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_flattening_pixels_is_independent_of_the_memory_format(layout):
    images = torch.rand(2, 3, 4, 5)
    flat = FlattenPixels()(images.to(memory_format=layout))
    assert torch.equal(flat, images.permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(UnflattenPixels((3, 4, 5))(flat), images)


def test_flattening_pixels_copies_nothing_in_channels_last():
    images = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert FlattenPixels()(images).data_ptr() == images.data_ptr()


def test_reshape_is_row_major():
    assert torch.equal(
        Reshape((3, 2, 2))(torch.arange(12.0)[None]), torch.arange(12.0).view(1, 3, 2, 2)
    )


MISTAKES = {
    "one channel number": (lambda: Conv2dBlock((3,)), "at least two positive numbers"),
    "kernel count": (lambda: Conv2dBlock((3, 4, 5), (3, 3, 3)), "kernel_size has 3 values"),
    "kernel zero": (lambda: Conv2dBlock((3, 4), 0), "kernel_size must be at least 1"),
    "groups": (lambda: Conv2dBlock((3, 4), 3, groups=2), "cannot be split into 2 groups"),
    "pool type": (lambda: Conv2dBlock((3, 4), pool_type="min"), "pool_type must be max or avg"),
    "too small": (
        lambda: EncoderConv2d((1, 8, 8), 4, kernel_size=5, channels=(2, 2, 2)),
        "layer 2 of 3 (kernel 5, stride 1) does not fit into its 4x4 input",
    ),
    "pool too large": (
        lambda: Conv2dBlock((1, 1), 3, pool_kernel_size=9).get_output_shape((8, 8)),
        "pooling of 9 does not fit into 6x6",
    ),
    "odd": (
        lambda: EncoderConv2d((1, 9, 9), 4, channels=(2,), space_to_depth=True),
        "gives 7x7, but space_to_depth needs even sizes",
    ),
    "channels of the input": (
        lambda: Conv2dBlock((3, 4)).get_output_shape((1, 32, 32)),
        "takes 3 channels, but the input 1x32x32 has 1",
    ),
    "decoder size": (
        lambda: DecoderConv2d((1, 4, 31), 4, kernel_size=5, channels=(2,)),
        "does not fit into its 4x31 input",
    ),
    "size of a forward block": (
        lambda: Conv2dBlock((1, 2), output_shape=(9, 9)),
        "output_shape is for a transposed block",
    ),
    "shape of two": (lambda: EncoderConv2d((28, 28), 4), "three positive integers"),
    "transposed pooling": (
        lambda: Conv2dBlock((1, 1), pool_kernel_size=2).create_transposed(),
        "with pooling cannot be transposed",
    ),
    "odd input": (lambda: SpaceToDepth()(torch.rand(1, 1, 3, 4)), "even sizes, not 3x4"),
    "channels of depth": (lambda: DepthToSpace()(torch.rand(1, 3, 2, 2)), "not 3"),
    "activation": (lambda: make_activation("rellu"), "did you mean 'relu'?"),
    "activation number": (lambda: make_activation(3), "must be a name, class"),
    "normalisation": (lambda: make_normalization("layernom", 3), "did you mean 'layernorm'?"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_layer_and_sizes(make, message):
    with pytest.raises(AelabError) as caught:
        make()
    assert message in str(caught.value)
    assert isinstance(caught.value, (ShapeError, ConfigError))


@pytest.mark.parametrize("name", [*ACTIVATIONS, "ReLU", "LeakyReLU"])
def test_every_activation_name_works(name):
    activation = make_activation(name, in_place=True)
    x = torch.rand(2, 6)
    assert activation is None or activation(x.clone()).isfinite().all()


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_every_normalisation_name_works(name):
    normalization = make_normalization(name, 4)
    images = torch.rand(3, 4, 4, 4)
    x = images if "2d" in name else images[:, :, 0, 0]
    assert normalization is None or normalization(x).shape == x.shape


def test_activations_may_be_modules_classes_and_functions():
    module = nn.ELU(0.5)
    assert make_activation(module) is module
    assert isinstance(make_activation(nn.Tanh), nn.Tanh)
    assert make_activation(torch.sin)(torch.zeros(1)).item() == 0.0
    assert make_activation(None) is None


def test_the_linear_decoder_of_the_published_table_has_no_activation():
    decoder = DecoderConv2d((1, 12, 12), 4, channels=(3, 2), legacy_linear=True)
    assert not any(isinstance(layer, nn.ReLU) for layer in decoder.modules())
    a, b = torch.randn(1, 4), torch.randn(1, 4)
    zero = decoder(torch.zeros(1, 4))
    torch.testing.assert_close(decoder(a + b) - zero, decoder(a) + decoder(b) - 2 * zero)


def test_the_decoder_has_activations_between_its_layers_only():
    decoder = DecoderConv2d((1, 12, 12), 4, channels=(3, 2))
    kinds = [type(layer).__name__ for layer in decoder.convolution.layers]
    assert kinds == ["ConvTranspose2d", "ReLU", "ConvTranspose2d"]


def test_in_place_activations_leave_the_gradient_as_it_is():
    torch.manual_seed(0)
    fast = Conv2dBlock((2, 3, 3, 2), 3, act_fn="relu", batch_norm=True)
    torch.manual_seed(0)
    plain = Conv2dBlock((2, 3, 3, 2), 3, act_fn=nn.ReLU(), batch_norm=True)
    images = torch.rand(4, 2, 10, 10)
    for block in (fast, plain):
        block(images).square().sum().backward()
    for mine, other in zip(fast.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)
    assert math.prod(fast.get_output_shape((10, 10))) == 2 * 4 * 4


@given(
    height=st.integers(8, 128),
    width=st.integers(8, 128),
    kernel_size=st.lists(st.integers(1, 7), min_size=2, max_size=2),
    stride=st.lists(st.integers(1, 4), min_size=2, max_size=2),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_decoder_makes_any_size_or_names_the_layer_that_does_not_fit(
    height, width, kernel_size, stride
):
    shape = (2, height, width)
    with torch.device("meta"):
        try:
            decoder = DecoderConv2d(shape, 3, kernel_size, stride, channels=(4, 4))
        except ShapeError as error:
            assert "does not fit into its" in error.message
            # Forward, the last layer comes first.
            after = (min(height, width) - kernel_size[1]) // stride[1] + 1
            assert min(height, width) < kernel_size[1] or after < kernel_size[0]
            return
        assert decoder(torch.empty(1, 3)).shape == (1, *shape)
