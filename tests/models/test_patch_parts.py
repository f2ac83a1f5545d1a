"""Patches, positions, attention and the transformer over patches."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aelab.errors import ConfigError, ShapeError
from aelab.inspect import model_facts
from aelab.models import PatchTransformerAutoencoder
from aelab.models.attention import Attention, Positions, make_blocks, sincos
from aelab.models.patches import JoinPatches, SplitPatches, patch_grid

CASES = [
    ((1, 28, 28), 8, None),
    ((1, 28, 28), 8, 3),
    ((3, 27, 13), 5, 3),
    ((1, 7, 31), (4, 6), (2, 5)),
    ((2, 3, 3), 8, None),
    ((1, 9, 9), 1, 1),
]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("shape", "patch", "stride"), CASES, ids=str)
def test_a_grid_has_the_fewest_patches_that_cover_the_image(shape, patch, stride):
    grid = patch_grid(shape, patch, stride, "test")
    sizes = zip(shape[1:], grid.padded, grid.patch, grid.stride, strict=True)
    for size, covered, side, step in sizes:
        assert covered >= size
        assert covered == side or covered - step < size
    left, right, top, bottom = grid.padding
    assert (shape[1] + top + bottom, shape[2] + left + right) == grid.padded
    assert 0 <= right - left <= 1 and 0 <= bottom - top <= 1


@pytest.mark.parametrize(("shape", "patch", "stride"), CASES, ids=str)
def test_patches_of_an_image_join_to_that_image(shape, patch, stride):
    grid = patch_grid(shape, patch, stride, "test")
    images = torch.rand(2, *shape)
    patches = F.unfold(F.pad(images, grid.padding), grid.patch, stride=grid.stride)
    assert patches.shape[2] == grid.num_patches
    joined = JoinPatches(grid, 4).fold(patches.transpose(1, 2))
    torch.testing.assert_close(joined, images)


def test_tokens_are_linear_maps_of_patches_row_by_row():
    grid = patch_grid((2, 7, 9), 3, 2, "test")
    split = SplitPatches(grid, 5)
    images = torch.rand(2, 2, 7, 9)
    tokens = split(images)
    assert tokens.shape == (2, grid.num_patches, 5)
    row, column = 1, 2
    patch = images[:, :, 2:5, 4:7].flatten(1)
    by_hand = patch @ split.linear.weight.flatten(1).T + split.linear.bias
    torch.testing.assert_close(tokens[:, row * grid.columns + column], by_hand)


@pytest.mark.parametrize(("patch", "stride"), [(4, 5), (4, 0), (0, None)])
def test_a_grid_that_leaves_pixels_out_is_refused(patch, stride):
    with pytest.raises(ShapeError, match="leaves pixels out"):
        patch_grid((1, 8, 8), patch, stride, "test")


def test_attention_agrees_with_torch():
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    key_value = ours.key_value
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, key_value.bias]))
    theirs.out_proj = ours.out
    queries, tokens = torch.randn(2, 4, 12), torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(queries, tokens), theirs(queries, tokens, tokens)[0])


def test_every_place_has_its_own_code():
    codes = sincos(5, 7, 16)
    assert codes.shape == (35, 16)
    assert torch.pdist(codes).min() > 0.05
    torch.testing.assert_close(codes[0], torch.tensor([0.0] * 4 + [1] * 4 + [0] * 4 + [1] * 4))
    row, column = codes[3 * 7 + 2][:1].item(), codes[3 * 7 + 2][8:9].item()
    assert (row, column) == pytest.approx((math.sin(3), math.sin(2)))
    assert sincos(2, 2, 6)[:, 4:].abs().max() == 0


def test_learned_positions_are_weights_and_others_are_not_stored():
    assert list(Positions(2, 3, 8, "learned").state_dict()) == ["codes"]
    assert not Positions(2, 3, 8).state_dict()
    with pytest.raises(ConfigError, match="did you mean 'sincos'"):
        Positions(2, 3, 8, "sincos2d")


def test_a_stack_of_any_depth_begins_with_values_of_one_size():
    tokens = torch.randn(8, 16, 32)
    grown = []
    for depth in (2, 16):
        blocks = make_blocks(depth, 32, 4, 128, 0.0, "layernorm", "gelu")
        grown.append((nn.Sequential(*blocks[:-1])(tokens) - tokens).std().item())
    assert 0.5 < grown[1] / grown[0] < 2


@pytest.mark.parametrize("head", ["flatten", "attention"])
def test_an_image_is_reconstructed_alike_in_any_company(head):
    model = PatchTransformerAutoencoder((1, 9, 11), 6, 4, 3, 2, 16, 2, head=head).eval()
    images = torch.rand(5, 1, 9, 11)
    with torch.no_grad():
        together = model(images).reconstruction
        alone = torch.cat([model(image[None]).reconstruction for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_positions_tell_patches_apart():
    model = PatchTransformerAutoencoder((1, 8, 8), 6, 4, None, 1, 16, 2, head="attention").eval()
    image = torch.rand(1, 1, 8, 8)
    swapped = image.roll(4, dims=-1)  # the same patches in other places
    with torch.no_grad():
        assert (model.encode(image) - model.encode(swapped)).abs().max() > 1e-3
        model.encoder.positions.codes.zero_()
        torch.testing.assert_close(model.encode(image), model.encode(swapped))


def test_dropout_is_active_in_training_only():
    model = PatchTransformerAutoencoder((1, 8, 8), 6, 4, None, 1, 16, 2, dropout=0.5)
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert not torch.equal(model(images).reconstruction, model(images).reconstruction)
        model.eval()
        assert torch.equal(model(images).reconstruction, model(images).reconstruction)


@pytest.mark.parametrize("head", ["flatten", "attention"])
def test_a_new_model_makes_nearly_black_images_of_a_lively_latent(head):
    model = PatchTransformerAutoencoder((1, 16, 16), 8, 4, None, 2, 32, 4, head=head).eval()
    with torch.no_grad():
        output = model((torch.rand(16, 1, 16, 16) > 0.5).float())
    assert 0 < output.reconstruction.abs().max() < 0.05
    assert output.latent.std(0).mean() > 0.02


def test_sixteen_layers_learn():
    model = PatchTransformerAutoencoder((1, 8, 8), 16, 4, None, 16, 16, 2, mlp_dim=16)
    images = (
        (torch.rand(32, 1, 2, 2) > 0.5).float().repeat_interleave(4, -1).repeat_interleave(4, -2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    first = None
    for _ in range(40):
        loss = (model(images).reconstruction - images).abs().mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


def test_unknown_names_and_heads_are_told():
    for arguments, message in (
        ({"head": "flat"}, "did you mean 'flatten'"),
        ({"positions": "x"}, "'sincos' or 'learned'"),
        ({"normalization": "layer"}, "unknown normalisation"),
    ):
        with pytest.raises(ConfigError, match=message):
            PatchTransformerAutoencoder((1, 8, 8), 4, **arguments)
    with pytest.raises(ShapeError, match="num_heads 3 does not divide num_hidden 64"):
        PatchTransformerAutoencoder((1, 8, 8), 4, num_heads=3)


def test_attention_is_counted_in_the_flops():
    facts = model_facts(PatchTransformerAutoencoder((1, 16, 16), 8, 4, None, 1, 32, 4), (1, 16, 16))
    tokens, width = 16, 32
    linear = 2 * tokens * 12 * width**2
    attention = 2 * 2 * tokens**2 * width
    patches = 2 * 2 * tokens * 16 * width
    heads = 2 * 2 * tokens * width * 8
    assert facts.flops_per_image == 2 * (linear + attention) + patches + heads


@pytest.mark.parametrize("tokens", [4, 15, 16, 40])
@pytest.mark.parametrize("learning", [True, False])
def test_attention_passes_a_query_on_that_is_nan(tokens: int, learning: bool) -> None:
    attention = Attention(8, num_heads=2)
    attention.query.register_forward_hook(lambda module, inputs, output: output * torch.nan)
    given = torch.randn(2, tokens, 8)
    with torch.set_grad_enabled(learning):
        assert bool(attention(given, given).isnan().all())
