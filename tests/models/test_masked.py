"""The masked autoencoder: what its encoder sees, what its loss compares, how masks are drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.losses.masked import MaskedError
from aelab.models import DecoderMLP, EncoderDecoder, EncoderMLP, MaskedAutoencoder
from aelab.models.masked import Hidden
from aelab.settings import FitSettings
from aelab.tensor_pictures import reproduce, seen_and_reproduced
from aelab.train import evaluate
from aelab.types import Images, Output

SHAPE = (1, 9, 10)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def small(**options: Any) -> MaskedAutoencoder:
    settings = {"num_layers": 2, "num_hidden": 16, "num_heads": 2, "decoder_layers": 1}
    return MaskedAutoencoder(SHAPE, 5, 3, **(settings | options))


def hidden_of(model: MaskedAutoencoder, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    mask: torch.Tensor = model(images, noise).posterior.mask
    return mask


def test_pixels_that_are_hidden_change_nothing_and_visible_ones_do() -> None:
    model, images, noise = small().eval(), torch.rand(2, *SHAPE), torch.randn(2, 12)
    output = model(images, noise)
    mask = output.posterior.mask
    other = model(torch.where(mask.bool(), torch.rand_like(images), images), noise)
    assert torch.equal(other.latent, output.latent)
    assert torch.equal(other.reconstruction, output.reconstruction)
    changed = model(torch.where(mask.bool(), images, 1 - images), noise)
    assert (changed.reconstruction - output.reconstruction).abs().max() > 1e-5


def test_the_blocks_of_the_encoder_get_the_visible_tokens_alone() -> None:
    model, seen = small(mask_share=0.75), []
    model.encoder.blocks[0].register_forward_hook(lambda m, given, o: seen.append(given[0].shape))
    model.decoder.blocks[0].register_forward_hook(lambda m, given, o: seen.append(given[0].shape))
    output = model(torch.rand(2, *SHAPE), torch.randn(2, 12))
    assert seen == [(2, 3, 16), (2, 12, 16)]  # 12 patches, of which a quarter is visible
    tokens = output.latent.detach()
    is_mask = (tokens == model.encoder.mask_token).all(2)
    assert is_mask.sum(1).tolist() == [9, 9]
    model.encode(torch.rand(2, *SHAPE))
    assert seen[2] == (2, 12, 16)


def test_masks_are_whole_patches_of_the_announced_number_and_differ_by_image() -> None:
    model = small(mask_share=0.5)
    mask = hidden_of(model, torch.rand(40, *SHAPE), torch.randn(40, 12))
    assert mask.shape == (40, 1, 9, 10) and set(mask.unique().tolist()) == {0.0, 1.0}
    # Ten columns are padded by one on each side: patches of 2, 3, 3 and 2 pixels.
    widths = torch.tensor([2, 3, 3, 2])
    cells = mask[:, 0, ::3][:, :, [0, 2, 5, 8]]
    again = cells.repeat_interleave(3, 1).repeat_interleave(widths, 2)
    assert torch.equal(again, mask[:, 0])
    assert cells.flatten(1).sum(1).eq(6).all()
    assert len(cells.flatten(1).unique(dim=0)) > 30
    assert cells.mean(0).sub(0.5).abs().max() < 0.3  # every patch is hidden about equally often


def test_the_error_is_the_mean_over_hidden_pixels() -> None:
    target, made = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    mask = torch.zeros(3, 1, 4, 4)
    mask[0, :, :2], mask[1, :, 0, 0] = 1, 1
    output = Output(made, made, Hidden(mask))
    found = MaskedError()(output, target)
    apart = (made - target).square()
    expected = [apart[0, :, :2].mean(), apart[1, :, 0, 0].mean(), apart[2].mean()]
    torch.testing.assert_close(found, torch.stack(expected))
    both = MaskedError("l1", visible_weight=0.5)(output, target)
    apart = (made - target).abs()
    torch.testing.assert_close(both[0], apart[0, :, :2].mean() + 0.5 * apart[0, :, 2:].mean())
    everything = Output(made, made, Hidden(torch.ones(3, 1, 4, 4)))
    torch.testing.assert_close(MaskedError("l1", 3.0)(everything, target), apart.mean((1, 2, 3)))


def test_a_validation_does_not_depend_on_batches_and_repeats_itself() -> None:
    model = small()
    images = Images(torch.randint(0, 256, (70, *SHAPE), dtype=torch.uint8))
    objective = make_objective(model.terms)
    assert objective.bounds == ("masked_error",)

    def loss(size: int, seed: int = 0, images_seen: int = 0) -> float:
        settings = FitSettings(batch_size=size, max_images=1, seed=seed)
        return evaluate(model, objective, images, settings, images_seen=images_seen)["loss"]

    first = loss(70)
    assert loss(7) == pytest.approx(first, rel=1e-6)
    assert loss(70, images_seen=500) == first and loss(70, seed=1) != first
    # The masks of an image belong to its place: others in the set change nothing for it.
    alone = Images(images.pixels[:5])
    settings = FitSettings(batch_size=5, max_images=1)
    changed = images.pixels.clone()
    changed[5:] = 0
    few = evaluate(model, objective, alone, settings)["loss"]
    whole = evaluate(model, objective, Images(changed), settings)["loss"]
    rest = evaluate(model, objective, Images(changed[:5]), settings)["loss"]
    assert few == rest and whole != few


def test_pictures_show_the_same_hidden_parts_each_time() -> None:
    model, sample = small(), torch.rand(4, *SHAPE)
    seen, shown = seen_and_reproduced(model, sample)
    again, _ = seen_and_reproduced(model, sample)
    assert seen is not None and again is not None and torch.equal(seen, again)
    is_grey = seen == 0.5
    assert torch.equal(seen[~is_grey], sample[~is_grey]) and 0.6 < is_grey.float().mean() < 0.9
    assert shown.shape == sample.shape
    assert not torch.equal(shown, reproduce(model, sample))  # which sees all
    other = torch.where(is_grey, torch.rand_like(sample), sample)
    assert torch.equal(seen_and_reproduced(model, other)[1], shown)
    plain = EncoderDecoder(EncoderMLP(SHAPE, 2), DecoderMLP(SHAPE, 2))
    seen, shown = seen_and_reproduced(plain, sample)
    assert seen is None and torch.equal(shown, reproduce(plain, sample))


def test_it_learns_to_paint_what_it_does_not_see() -> None:
    # Left and right half have a brightness each: a hidden patch is told by visible neighbours.
    halves = torch.rand(32, 1, 1, 2).repeat_interleave(5, 3).expand(-1, -1, 9, -1)
    model = small(mask_share=0.5)
    objective = make_objective(model.terms)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for step in range(150):
        generator = torch.Generator().manual_seed(step)
        output = model(halves, torch.randn(32, 12, generator=generator))
        loss = objective(output, halves, 0)["masked_error"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The mean picture leaves the variance over images.
    assert sum(losses[-20:]) / 20 < 0.3 * halves.var(0).mean().item()


def test_what_hides_nothing_is_refused_with_the_way_out() -> None:
    for options in ({"mask_share": 0.0}, {"mask_share": 1.0}):
        with pytest.raises(ConfigError, match="leaves nothing to see or to paint"):
            small(**options)
    with pytest.raises(ConfigError, match="of 1 patches leaves nothing"):
        MaskedAutoencoder(SHAPE, 5, 16)
    plain = torch.rand(2, *SHAPE)
    with pytest.raises(ConfigError, match="this model hides nothing"):
        MaskedError()(Output(plain, EncoderMLP(SHAPE, 2)(plain)), plain)
    with pytest.raises(ConfigError, match="error must be 'l2' or 'l1', not 'l3'"):
        MaskedError("l3")
    with pytest.raises(ConfigError, match="visible_weight is -1"):
        MaskedError(visible_weight=-1)
    assert small(mask_share=0.999).num_visible == 1 and small(mask_share=0.001).num_visible == 11
