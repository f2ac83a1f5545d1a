"""`DalleEncoder` and `DalleManifoldAutoencoder`: counts, sizes, initial weights, gradients."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aelab import catalogue
from aelab.config import Block, Scope, evaluate_block
from aelab.errors import ShapeError
from aelab.founding.dalle import DalleEncoder, DalleManifoldAutoencoder
from aelab.inspect import count_parameters, model_facts
from aelab.models import SpaceToDepthPool


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("space_to_depth", "blocks", "encoder"),
    [(True, 1, 1_725_264), (False, 1, 1_380_752), (True, 2, 2_989_024)],
)
def test_the_documents_settings_have_their_parameter_counts(space_to_depth, blocks, encoder):
    model = as_typed(n_blk_per_group=blocks, space_to_depth=space_to_depth)
    assert count_parameters(model) == {
        "model": encoder + 42_497,
        "encoder": encoder,
        "decoder": 42_497,
    }
    facts = model_facts(model, (1, 32, 32))
    assert facts.latent_shape == (128,) and facts.flops_per_image > 0


def as_typed(**changes):
    """The call as documents 001 and 003 print it, with the arguments that they vary."""
    settings = {
        "shape": (1, 32, 32),
        "vocab_size": 128,
        "n_hid": 64,
        "n_blk_per_group": 1,
        "act_fn": nn.GELU,
        "space_to_depth": True,
        "decoder_n_blk": 4,
        "decoder_n_layer": 2,
        "decoder_n_hid": 64,
    }
    with torch.device("meta"):
        return DalleManifoldAutoencoder(**settings | changes)


@pytest.mark.parametrize(
    ("blocks", "layers", "hidden", "stated"),
    [
        (4, 2, 64, 42_497),
        (8, 2, 128, 283_649),
        (8, 4, 128, 547_841),
        (16, 1, 128, 285_697),
        (16, 2, 128, 549_889),
        (8, 2, 300, 1_490_401),
        (8, 2, 256, 1_091_585),
    ],
)
def test_decoders_as_typed_in_the_documents_have_the_stated_counts(blocks, layers, hidden, stated):
    sizes = {"decoder_n_blk": blocks, "decoder_n_layer": layers, "decoder_n_hid": hidden}
    assert count_parameters(as_typed(**sizes))["decoder"] == stated
    later = count_parameters(as_typed(**sizes, decoder_pos_embedding="sin_cos"))["decoder"]
    assert later == stated + 4 * hidden  # two cosines of each coordinate


def test_the_documents_concatenating_decoder_has_the_stated_count():
    model = as_typed(decoder_n_blk=8, decoder_concat_residual=[True, False] * 4)
    assert count_parameters(model)["decoder"] == 3_502_785


def test_a_stored_run_keeps_the_position_code_that_was_the_default_when_it_began():
    block = Block("DalleManifoldAutoencoder((1, 8, 8), n_hid=8, decoder_n_hid=8)")

    def built(stored=None):
        log = catalogue.CallLog(stored)
        model = evaluate_block(block, Scope(catalogue.names(log), catalogue.attributes()))
        return count_parameters(model)["decoder"], json.loads(json.dumps(log.to_json()))

    now, calls = built()
    calls[0]["arguments"]["decoder_pos_embedding"] = "sin_cos"  # as older versions stored it
    assert built(calls)[0] == now + 4 * 8


def test_a_block_is_the_formula():
    encoder = DalleEncoder(group_count=2, n_hid=8, n_blk_per_group=2, vocab_size=5)
    block = encoder.groups[1][0]
    assert block.gain == 1 / 16
    x = torch.randn(2, 8, 6, 6)
    y = x
    for convolution in [part for part in block.path if isinstance(part, nn.Conv2d)]:
        padding = (convolution.kernel_size[0] - 1) // 2
        y = F.conv2d(F.relu(y), convolution.weight, convolution.bias, padding=padding)
    given = x.clone()
    torch.testing.assert_close(block(given), block.identity(x) + y / 16)
    assert torch.equal(given, x)
    assert isinstance(encoder.groups[0][0].identity, nn.Identity)
    assert block.path[1].out_channels == 16 // 4


def test_weights_begin_with_the_variance_of_their_inputs():
    encoder = DalleEncoder(n_hid=64, n_blk_per_group=1, vocab_size=512)
    for convolution in [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]:
        fan_in = convolution.weight[0].numel()
        assert 0.9 < convolution.weight.std() * fan_in**0.5 < 1.1
        assert not convolution.bias.any()


@pytest.mark.parametrize(
    ("shape", "space_to_depth", "expected"),
    [((3, 32, 32), True, (6, 4, 4)), ((1, 9, 23), False, (6, 1, 2)), ((2, 8, 16), True, (6, 1, 2))],
)
def test_sizes_are_halved_three_times(shape, space_to_depth, expected):
    encoder = DalleEncoder(
        n_hid=8,
        n_blk_per_group=1,
        input_channels=shape[0],
        vocab_size=6,
        space_to_depth=space_to_depth,
    )
    assert encoder.get_output_shape(shape) == expected
    assert encoder(torch.rand(2, *shape)).shape == (2, *expected)
    pools = [part for part in encoder.modules() if isinstance(part, SpaceToDepthPool)]
    assert len(pools) == 3 * space_to_depth


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ShapeError, match="both sizes must be at least 8, not 7x8"):
        DalleManifoldAutoencoder((1, 7, 8), n_hid=8)
    with pytest.raises(ShapeError, match="a multiple of 8, not 12x16"):
        DalleManifoldAutoencoder((1, 12, 16), n_hid=8, space_to_depth=True)
    with pytest.raises(ShapeError, match="n_hid must be a multiple of 4"):
        DalleEncoder(n_hid=6)


def test_the_encoder_learns_unless_it_is_frozen():
    for learns in (True, False):
        encoder = DalleEncoder(n_hid=8, n_blk_per_group=1, vocab_size=4, requires_grad=learns)
        assert all(parameter.requires_grad == learns for parameter in encoder.parameters())


@pytest.mark.parametrize("shape", [(1, 16, 8), (3, 11, 17)], ids=str)
def test_the_autoencoder_has_gradients_everywhere_and_renders(shape):
    model = DalleManifoldAutoencoder(
        shape, n_hid=8, vocab_size=6, decoder_n_hid=8, decoder_concat_residual=[True, False]
    )
    images = torch.rand(3, *shape)
    output = model(images)
    assert output.reconstruction.shape == images.shape and output.latent.shape == (3, 6)
    (output.reconstruction - images).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    rendered = model.eval().decoder.render(output.latent, (20, 30))
    assert rendered.shape == (3, shape[0], 20, 30)
