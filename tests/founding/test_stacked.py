"""The stacked autoencoder: counts, shapes, what joins when, and how it fades in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.founding.stacked import (
    StackedSymmetricAutoencoderConv2d,
    SymmetricConv2d,
    SymmetricLinear,
)
from aelab.inspect import count_parameters, model_facts
from aelab.models import EncoderConv2d

SHAPE = (3, 14, 12)


def stacked(**changes):
    torch.manual_seed(0)
    options = {"shape": SHAPE, "code_size": 7, "channels": (4, 6, 5), **changes}
    return StackedSymmetricAutoencoderConv2d(**options)


@pytest.mark.parametrize(
    ("width", "symmetric", "count"),
    [
        (32, True, 1_032_835),
        (32, False, 2_057_699),
        (128, True, 6_785_155),
        (128, False, 13_538_819),
    ],
)
def test_the_documents_models_have_the_published_parameter_counts(width, symmetric, count):
    with torch.device("meta"):
        model = StackedSymmetricAutoencoderConv2d(
            (3, 64, 64), 128, channels=[width] * 25, symmetric=symmetric
        )
    assert count_parameters(model)["model"] == count


@pytest.mark.parametrize(("index", "size"), [(0, 123_008), (24, 6_272), (25, 128), (26, None)])
def test_the_latent_has_the_documents_sizes(index, size):
    with torch.device("meta"):
        if size is None:
            with pytest.raises(
                ConfigError, match="layer_index=26 is not a layer; possible: 0 to 25"
            ):
                StackedSymmetricAutoencoderConv2d(
                    (3, 64, 64), 128, channels=[32] * 25, layer_index=index
                )
            return
        model = StackedSymmetricAutoencoderConv2d(
            (3, 64, 64), 128, channels=[32] * 25, layer_index=index
        )
    assert model.latent_sizes == [size]


def test_the_space_to_depth_baseline_has_the_size_that_fits_64_pixels():
    with torch.device("meta"):
        encoder = EncoderConv2d(
            (3, 64, 64), 128, kernel_size=[3, 4, 3], channels=(32, 32, 32), space_to_depth=True
        )
    assert encoder.encoded_shape == (128, 6, 6)
    assert count_parameters(encoder)["model"] == 693_312


def test_the_way_back_is_the_adjoint_of_the_convolution_with_its_own_bias():
    layer = SymmetricConv2d(3, 5, kernel_size=4, stride=2)
    x, y = torch.randn(2, 3, 13, 11), torch.randn(2, 5, 5, 4)
    there = layer(x) - layer.convolution.bias.view(-1, 1, 1)
    back = layer.back(y) - layer.bias_back.view(-1, 1, 1)
    assert back.shape == x.shape
    torch.testing.assert_close((there * y).sum(), (x * back).sum())


def test_the_linear_layer_goes_back_by_its_transposed_weight():
    layer = SymmetricLinear((2, 3, 4), 5)
    latent = torch.randn(6, 5)
    expected = (latent @ layer.linear.weight + layer.bias_back).view(6, 3, 4, 2).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer.back(latent), expected)


def test_without_symmetry_the_ways_share_nothing():
    model = stacked(symmetric=False)
    before = model.encode(torch.zeros(1, *SHAPE))
    with torch.no_grad():
        for layer in model.layers[:3]:
            layer.weight_back.zero_()
        model.layers[3].linear_back.weight.zero_()
    assert torch.equal(model.encode(torch.zeros(1, *SHAPE)), before)


def test_the_first_values_are_spread_as_torchs_own():
    torch.manual_seed(0)
    wide = SymmetricConv2d(16, 64, 3, symmetric=False)
    reference = torch.nn.ConvTranspose2d(64, 16, 3)
    for mine, theirs in (
        (wide.weight_back, reference.weight),
        (wide.convolution.weight, reference.weight),
    ):
        assert mine.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.01)
        assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.05)
    assert wide.bias_back.abs().max() <= 1 / 12
    linear = SymmetricLinear((8, 10, 10), 400)
    assert linear.bias_back.std().item() == pytest.approx(linear.linear.bias.std().item(), rel=0.1)


def test_activation_follows_each_convolution_both_ways_but_not_the_linear_layer():
    model = stacked(channels=(4,), code_size=5, activation="leaky_relu")
    images = torch.rand(2, *SHAPE)
    conv, linear = model.layers
    weight = conv.convolution.weight
    hidden = F.leaky_relu(F.conv2d(images, weight, conv.convolution.bias), 0.01)
    latent = linear(hidden)
    hidden = linear.back(latent)
    expected = F.leaky_relu(F.conv_transpose2d(hidden, weight, conv.bias_back), 0.01)
    output = model(images)
    torch.testing.assert_close(output.latent, latent)
    torch.testing.assert_close(output.reconstruction, expected)


@pytest.mark.parametrize(
    ("images", "index"), [(0, 0), (99, 0), (100, 1), (299, 2), (300, 3), (100_000, 3)]
)
def test_layers_join_by_images(images, index):
    model = stacked(new_layer_every_images=100)
    assert model.layer_index == 3  # until the clock speaks
    model.at(images, 7)
    assert (model.layer_index, model.fade) == (index, 1.0)


@pytest.mark.parametrize(("epoch", "index"), [(0, 0), (1, 0), (2, 2), (3, 2), (4, 3), (50, 3)])
def test_layers_join_by_epochs_as_cyan_did(epoch, index):
    model = stacked(layers_per_epochs=(2, 2))
    model.at(123, epoch)
    assert model.layer_index == min(epoch // 2 * 2, 3) == index


def test_a_schedule_may_begin_with_several_layers_and_none_needs_no_clock():
    model = stacked(new_layer_every_images=100, layer_index=1)
    model.at(0, 0)
    assert model.layer_index == 1
    fixed = stacked(layer_index=1)
    fixed.at(1_000_000, 9)
    assert fixed.layer_index == 1
    assert fixed.encode(torch.rand(2, *SHAPE)).shape == (2, 6 * 10 * 8)


def outputs_at(model, images, moments):
    results = []
    with torch.no_grad():
        for moment in moments:
            model.at(moment, 0)
            results.append(model(images))
    return results


def test_a_layer_that_fades_in_joins_and_arrives_without_a_jump():
    model, images = stacked(new_layer_every_images=1000, fade_in_images=500), torch.rand(2, *SHAPE)
    for joins in (1000, 2000, 3000):
        before, at, soon = outputs_at(model, images, (joins - 1, joins, joins + 1))
        assert torch.equal(before.reconstruction, at.reconstruction)
        assert 0 < (soon.reconstruction - at.reconstruction).abs().max() < 0.01
        nearly, whole = outputs_at(model, images, (joins + 499, joins + 500))
        assert (nearly.reconstruction - whole.reconstruction).abs().max() < 0.01
    plain = stacked(new_layer_every_images=1000)
    assert torch.equal(*[outputs_at(m, images, [3500])[0].reconstruction for m in (model, plain)])


def test_the_latent_is_the_model_at_every_moment():
    model, images = stacked(new_layer_every_images=10, fade_in_images=8), torch.rand(2, *SHAPE)
    sizes = []
    for output in outputs_at(model, images, moments := (0, 10, 14, 18, 34, 99)):
        model.at(moments[len(sizes)], 0)
        sizes.append(output.latent.shape[1])
        assert torch.equal(model.encode(images), output.latent)
        assert torch.equal(model.decode(output.latent), output.reconstruction)
        assert sizes[-1] == sum(model.latent_sizes)
    first, second, third = 4 * 12 * 10, 6 * 10 * 8, 5 * 8 * 6
    assert sizes == [first, first, second + first, second, 7 + third, 7]
    with pytest.raises(ShapeError, match="layer 3 as the newest and fade 1 the latent has 7 num"):
        model.decode(torch.zeros(2, 9))


def test_layers_not_in_use_cost_nothing_and_get_no_gradient():
    model, images = stacked(new_layer_every_images=10), torch.rand(2, *SHAPE)
    flops = []
    for moment in (0, 10, 20, 30):
        model.at(moment, 0)
        flops.append(model_facts(model, SHAPE).flops_per_image)
    assert flops == sorted(set(flops))
    assert flops[0] == 2 * 2 * 27 * 4 * 12 * 10
    model.at(10, 0)
    model(images).reconstruction.sum().backward()
    used = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    assert used == {"0", "1"}
    assert all(p.grad is not None for layer in model.layers[:2] for p in layer.parameters())


def test_identity_layers_hand_on_what_they_get_as_far_as_it_fits():
    model = stacked(channels=(3, 3), identity_init=True, activation=None, layer_index=1)
    images = torch.rand(2, *SHAPE)
    expected = F.pad(images[:, :, 2:-2, 2:-2], (2, 2, 2, 2))
    assert torch.equal(model(images).reconstruction, expected)


def test_layers_that_change_the_number_of_channels_begin_as_usual():
    first, second, *_ = stacked(channels=(4, 4), identity_init=True).layers
    torch.manual_seed(0)
    assert torch.equal(first.convolution.weight, torch.nn.Conv2d(3, 4, 3).weight)
    assert second.convolution.weight.count_nonzero() == 4


@pytest.mark.parametrize("name", ["groups", "space_to_depth", "dropout", "batch_norm"])
def test_an_argument_that_the_original_ignored_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} has no effect on this model"):
        stacked(**{name: 2})
    stacked(groups=1, space_to_depth=False, dropout=0.0, batch_norm=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"new_layer_every_images": 9, "layers_per_epochs": (1, 1)}, "not both"),
        ({"new_layer_every_images": 0}, "from 1 up"),
        ({"layers_per_epochs": (2, 0)}, "from 1 up"),
        ({"fade_in_images": 5}, "needs new_layer_every_images"),
        ({"fade_in_images": 5, "layers_per_epochs": (2, 2)}, "needs new_layer_every_images"),
        ({"fade_in_images": 11, "new_layer_every_images": 10}, "longer than"),
        ({"layer_index": 4}, "layer_index=4 is not a layer; possible: 0 to 3"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        stacked(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": (4,) * 6}, r"layer 5 of 7 .* does not fit into its 4x4x2 input"),
        ({"stride": 2}, r"layer 1 of 4 .* makes 2x2 of 6x5, but its transposed layer gives 6x6"),
        ({"kernel_size": [3, 3]}, "kernel_size has 2 values, but there are 3 layers"),
    ],
)
def test_sizes_that_cannot_be_are_named(changes, message):
    with pytest.raises(ShapeError, match=message):
        stacked(**changes)
