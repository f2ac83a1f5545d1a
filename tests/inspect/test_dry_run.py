"""Counting on the meta device, and notes of models."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aelab.errors import ShapeError
from aelab.founding.overnight import VariationalAutoencoderConv
from aelab.founding.transformer import TransformerAutoencoder
from aelab.inspect import ModelFacts, as_model, model_facts, model_notes, try_model
from aelab.inspect.dry_run import DryRun
from aelab.models import (
    DecoderMLP,
    EncoderMLP,
    ImportanceWeightedAutoencoder,
    PatchTransformerAutoencoder,
    VampPriorAutoencoder,
    VariationalEncoder,
)

SHAPE = (1, 12, 12)
MODELS = {
    "convolutions": lambda: VariationalAutoencoderConv(SHAPE, 5, 3, (4, 6)),
    "batch transformer": lambda: TransformerAutoencoder(SHAPE, 5, 4, None, 2, 16, 2),
    "patch transformer": lambda: PatchTransformerAutoencoder(
        SHAPE, 5, 4, 3, 2, 16, 2, head="attention", positions="learned"
    ),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_flops_are_those_of_torchs_counter_also_when_remembered(make):
    with torch.device("meta"):
        model = make().eval().requires_grad_(False)
        images = torch.empty(2, *SHAPE)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        output = model(images)
    for _ in range(2):
        trial = try_model(model, SHAPE)
        assert trial.flops == counter.get_total_flops() > 0
        assert trial.output.reconstruction.stride() == output.reconstruction.stride()
        assert trial.output.latent.shape == output.latent.shape


def test_what_is_remembered_has_the_right_type_and_layout():
    image = torch.empty(2, 4, 4, 4, device="meta")
    last = image.to(memory_format=torch.channels_last)
    whole = torch.empty(3, dtype=torch.int64, device="meta")
    for _ in range(2):
        with torch.no_grad(), DryRun():
            assert (image + 1).is_contiguous()
            assert (last + 1).is_contiguous(memory_format=torch.channels_last)
            assert (whole + 1).dtype == torch.int64
            assert (whole + 1.0).dtype == torch.float32
            assert [part.shape[0] for part in whole.split([1, 2])] == [1, 2]
            assert torch.arange(5, device="meta").shape == (5,)


def test_activations_are_the_numbers_of_the_innermost_layers():
    model = as_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Unflatten(1, (1, 2, 2))))
    assert try_model(model, (1, 2, 2)).activations == 2 * 3 * 4


def test_a_trial_puts_every_mode_back():
    with torch.device("meta"):
        model = as_model(nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)))
    model.train()
    model.module[1].eval()
    try_model(model, (1, 2, 2))
    assert [part.training for part in model.module] == [True, False]


def test_notes_of_modules_are_told_once_wherever_they_stand():
    class Noted(nn.Identity):
        note = "of the class"

    inner = Noted()
    inner.note = "of the instance"
    model = as_model(nn.Sequential(Noted(), nn.Sequential(Noted(), inner)))
    assert tuple(note.message for note in model_notes(model)) == ("of the class", "of the instance")
    assert model_facts(model, (1, 2, 2)).findings == model_notes(model)
    assert model_notes(EncoderMLP((1, 2, 2), 3)) == ()


def test_every_pass_that_training_makes_through_the_decoder_is_counted():
    def trial(samples):
        encoder = VariationalEncoder(EncoderMLP(SHAPE, 6, hidden=(5,)), 6, 3)
        decoder = DecoderMLP(SHAPE, 3, hidden=(5,), activation_last_layer="sigmoid")
        return try_model(ImportanceWeightedAutoencoder(encoder, decoder, samples), SHAPE)

    one, fifty = trial(1), trial(50)
    assert fifty.flops - one.flops == 2 * 49 * 2 * (3 * 5 + 5 * 144)  # images, samples
    assert fifty.activations > 10 * one.activations
    assert fifty.output.latent.shape == one.output.latent.shape == (2, 3)
    assert fifty.output.reconstruction.shape == (2, *SHAPE)


def test_noise_costs_an_ordinary_variational_autoencoder_nothing():
    model = VariationalAutoencoderConv(SHAPE, 5, 3, (4, 6)).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.empty(2, *SHAPE, device="meta"))
    assert try_model(model, SHAPE).flops == counter.get_total_flops()


def test_a_shape_mistake_names_the_layer_and_the_way_out():
    model = as_model(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(81, 8), nn.Linear(8, 4))))
    with pytest.raises(ShapeError) as caught:
        try_model(model, (1, 8, 8))
    assert "cannot process 1x8x8 images: in module.1.0 (Linear): " in str(caught.value)
    assert "built for the shape of the train_set" in str(caught.value)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_a_mistake_between_layers_blames_the_part_that_has_it():
    class Sum(nn.Module):
        def forward(self, images):
            return images + torch.zeros(7)

    with pytest.raises(ShapeError, match=r"in module\.1 \(Sum\): "):
        try_model(as_model(nn.Sequential(nn.Identity(), Sum())), (1, 8, 8))


def test_pseudo_images_are_counted_once_a_batch() -> None:
    def facts(components: int) -> ModelFacts:
        encoder = VariationalEncoder(EncoderMLP((1, 8, 8), 16, hidden=(32,)), 16, 4)
        decoder = DecoderMLP((1, 8, 8), 4, hidden=(32,))
        return model_facts(VampPriorAutoencoder(encoder, decoder, (1, 8, 8), components), (1, 8, 8))

    encoding = 2 * (64 * 32 + 32 * 16 + 2 * 16 * 4)
    one, many = facts(1), facts(500)
    assert one.flops_per_image == many.flops_per_image == encoding + 2 * (4 * 32 + 32 * 64)
    assert (one.flops_per_batch, many.flops_per_batch) == (encoding, 500 * encoding)
