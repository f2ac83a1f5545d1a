"""DC-AE: its shortcuts by hand, and linear attention against the quadratic formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aelab.errors import ShapeError
from aelab.models import EncoderDC, LinearAttentionBlock, dc_ae
from aelab.models.deep_compression import ShortcutDown, ShortcutUp, linear_attention


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def without_weights(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def test_linear_attention_is_the_quadratic_formula() -> None:
    query, key, value = torch.randn(3, 2, 4, 30, 8, dtype=torch.float64)
    weights = query.relu() @ key.relu().transpose(-1, -2)  # (..., N, N)
    expected = weights / weights.sum(-1, keepdim=True) @ value
    torch.testing.assert_close(linear_attention(query, key, value), expected, rtol=1e-5, atol=1e-7)


def test_where_nothing_agrees_linear_attention_is_zero_and_has_gradients() -> None:
    query = torch.full((1, 3, 2), -1.0, requires_grad=True)
    mixed = linear_attention(query, torch.randn(1, 3, 2), torch.randn(1, 3, 2))
    mixed.sum().backward()
    assert mixed.eq(0).all() and query.grad is not None and query.grad.isfinite().all()


def test_the_shortcut_down_averages_neighbouring_channels_of_the_unshuffled_pixels() -> None:
    down = without_weights(ShortcutDown(2, 4))
    x = torch.arange(32.0).view(1, 2, 4, 4)
    result = down(x)
    assert result.shape == (1, 4, 2, 2)
    # Channel c of the input gives channels 4c..4c+3: its pixels of a 2x2 square, row by row.
    for channel in range(2):
        square = x[0, channel, 0:2, 2:4].flatten()  # the square of place (0, 1)
        top, bottom = square[:2].mean(), square[2:].mean()
        assert result[0, 2 * channel : 2 * channel + 2, 0, 1].tolist() == [top, bottom]


def test_the_shortcut_up_duplicates_channels_and_undoes_the_shortcut_down() -> None:
    up = without_weights(ShortcutUp(4, 2, (4, 4)))
    x = torch.randn(2, 4, 2, 2)
    grown = up(x)
    # 4 channels become 8 by duplication: a pair of channels makes one plane, rows of its squares.
    assert torch.equal(grown[0, 1, 0, 0:2], x[0, 2, 0, 0].expand(2))
    assert torch.equal(grown[0, 1, 1, 0:2], x[0, 3, 0, 0].expand(2))
    torch.testing.assert_close(without_weights(ShortcutDown(2, 4))(grown), x)


def test_odd_sizes_are_rounded_up_and_come_back() -> None:
    model = dc_ae((3, 13, 27), 2, channels=(4, 8, 8))
    output = model(torch.rand(2, 3, 13, 27))
    assert output.latent.shape == (2, 2, 4, 7) and model.encoder.encoded_shape == (2, 4, 7)
    assert output.reconstruction.shape == (2, 3, 13, 27)


def test_a_block_starts_as_the_identity_and_learns_from_far_away() -> None:
    block = LinearAttentionBlock(8, 2)
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    torch.testing.assert_close(block(x), x)
    nn.init.normal_(block.out.weight)
    block(x)[0, 0, 0, 0].backward()
    assert x.grad is not None and x.grad[0, :, 5, 5].abs().max() > 0


def test_channels_without_a_shortcut_are_refused_with_the_way_out() -> None:
    with pytest.raises(ShapeError, match="from 8 to 12 channels has no shortcut") as told:
        EncoderDC((1, 8, 8), 4, channels=(8, 12))
    assert "use channels 8 and 8" in str(told.value.hint)
    with pytest.raises(ShapeError, match="latent_channels 5 does not divide the 8 channels"):
        dc_ae((1, 8, 8), 5, channels=(8, 8))
    with pytest.raises(ShapeError, match="from 24 to 4 channels has no shortcut"):
        ShortcutUp(24, 4, (4, 4))
