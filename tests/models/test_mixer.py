"""MLP-Mixer: what mixes what."""

from __future__ import annotations

import pytest
import torch

from aelab.errors import ShapeError
from aelab.models import DecoderMixer, EncoderMixer
from aelab.models.mixer import MixerBlock


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_a_block_is_the_two_branches_of_the_paper() -> None:
    block = MixerBlock(5, 4, 3, 7).double()
    tokens = torch.randn(2, 5, 4, dtype=torch.float64)

    def mlp(layers: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        first, _, last = layers
        inner = torch.nn.functional.gelu(x @ first.weight.T + first.bias)
        return inner @ last.weight.T + last.bias

    expected = tokens.clone()
    normed = torch.nn.functional.layer_norm(tokens, (4,))
    for column in range(4):  # equation 1: each number of a token, over all patches
        expected[:, :, column] += mlp(block.tokens, normed[:, :, column])
    normed = torch.nn.functional.layer_norm(expected, (4,))
    before = expected.clone()
    for patch in range(5):
        expected[:, patch] = before[:, patch] + mlp(block.channels, normed[:, patch])
    torch.testing.assert_close(block(tokens), expected)


def test_without_layers_over_patches_a_token_sees_its_patch_alone() -> None:
    encoder = EncoderMixer((1, 8, 8), 3, patch_size=4, num_layers=2, num_hidden=8)
    images = torch.rand(1, 1, 8, 8)
    other = images.clone()
    other[..., :4, :4] = 0  # the first of four patches

    def changed() -> torch.Tensor:
        one, two = (encoder.blocks(encoder.patches(x)) for x in (images, other))
        return (one - two).abs().amax(2)[0] > 1e-6

    assert changed().tolist() == [True] * 4
    with torch.no_grad():
        for block in encoder.blocks[:2]:
            block.tokens[-1].weight.zero_()
    assert changed().tolist() == [True, False, False, False]


def test_the_widths_of_the_paper_are_the_default() -> None:
    encoder = EncoderMixer((1, 28, 28), 16, patch_size=7, num_layers=1, num_hidden=32)
    block = encoder.blocks[0]
    assert block.tokens[0].weight.shape == (16, 16) and block.channels[0].weight.shape == (128, 32)
    assert DecoderMixer((1, 28, 28), 16)(torch.randn(2, 16)).abs().max() < 0.05  # nearly black


def test_a_stride_that_leaves_pixels_out_is_refused() -> None:
    with pytest.raises(ShapeError, match="EncoderMixer: patch_size 4 with stride 5"):
        EncoderMixer((1, 28, 28), 16, patch_size=4, stride=5)
