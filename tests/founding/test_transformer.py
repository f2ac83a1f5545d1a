"""Document 001's transformer: its counts, its tokens, and what it cannot do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aelab.errors import ConfigError, ShapeError
from aelab.founding.transformer import TransformerAutoencoder, TransformerDecoder
from aelab.inspect import count_parameters, model_notes
from aelab.models import EncoderDecoder, EncoderMLP

MNIST = (1, 28, 28)


def counts(patch: int, stride: int, layers: int, heads: int, hidden: int) -> dict[str, int]:
    """Of encoder and decoder, by hand."""
    places = ((28 - patch) // stride + 1) ** 2
    attention, mlp = 4 * (hidden**2 + hidden), 2 * (hidden**2 + hidden)
    encoder = (
        (patch**2 + 1) * hidden  # patches
        + (places * hidden + 1) * hidden
        + layers * (attention + mlp + 2 * 2 * hidden)
        + (hidden + 1) * 78
    )
    decoder = (
        79 * hidden
        + layers * (2 * attention + mlp + 3 * 2 * hidden)
        + (hidden + 1) * places * hidden
        + patch**2 * hidden
        + 1
    )
    return {"model": encoder + decoder, "encoder": encoder, "decoder": decoder}


@pytest.mark.parametrize(
    "sizes", [(4, 4, 2, 8, 256), (8, 2, 4, 8, 128), (4, 2, 12, 8, 64), (8, 4, 16, 4, 128)], ids=str
)
def test_parameters_are_those_of_the_original(sizes):
    patch, stride, layers, heads, hidden = sizes
    with torch.device("meta"):
        model = TransformerAutoencoder(
            MNIST,
            28 * 28 // 10,
            patch,
            stride,
            num_layers=layers,
            num_hidden=hidden,
            num_heads=heads,
        )
    assert count_parameters(model) == counts(*sizes)


def test_the_best_row_of_the_document_has_the_published_counts():
    with torch.device("meta"):
        model = TransformerAutoencoder(
            shape=MNIST,
            code_size=78,
            patch_size=4,
            stride=4,
            num_layers=2,
            num_hidden=256,
            num_heads=8,
        )
    assert count_parameters(model) == {
        "model": 8_594_511,
        "encoder": 4_027_470,
        "decoder": 4_567_041,
    }


@pytest.mark.parametrize("training", [True, False])
def test_a_reconstruction_depends_on_the_other_images_of_the_batch(training):
    torch.manual_seed(0)
    model = TransformerAutoencoder((1, 8, 8), 6, 4, None, 2, 16, 2, dropout=0.0).train(training)
    images = torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        together = model(images).reconstruction
        fewer = model(images[:3]).reconstruction
        order = model(images[[1, 0, 2, 3, 4, 5]]).reconstruction
    assert (together[:3] - fewer).abs().max() > 1e-3
    # Without positions the company counts, not its order.
    torch.testing.assert_close(order[[1, 0, 2]], together[:3])


def test_it_equals_torchs_stacks_over_one_sequence():
    torch.manual_seed(0)
    model = TransformerAutoencoder((3, 8, 8), 6, 4, None, 2, 16, 2).eval()
    images = torch.rand(5, 3, 8, 8)
    encoder, decoder = model.encoder, model.decoder
    patches = nn.functional.unfold(images, 4, stride=4)  # (B, 48, 4)
    convolution, _, linear = encoder.patches
    tokens = patches.transpose(1, 2) @ convolution.weight.flatten(1).T + convolution.bias
    sequence = linear(tokens.flatten(1))[:, None]  # (B, 1, hidden): B tokens, batch of one
    latent = encoder.linear(encoder.transformer(sequence))[:, 0]
    torch.testing.assert_close(model.encode(images), latent)
    target = decoder.linear(latent)[:, None]
    pixels = decoder.patches(decoder.transformer(target, target)[:, 0])
    torch.testing.assert_close(model.decode(latent), pixels)


def test_layers_are_post_norm_relu_and_as_wide_as_the_token():
    model = TransformerAutoencoder((1, 8, 8), 6, 4, num_hidden=16, num_heads=2)
    for layer in (model.encoder.transformer.layers[0], model.decoder.transformer.layers[0]):
        assert not layer.norm_first and not layer.self_attn.batch_first
        values = torch.randn(5)
        torch.testing.assert_close(layer.activation(values), values.relu())
        assert layer.linear1.out_features == 16 and layer.dropout.p == 0.1
    first, second = model.encoder.transformer.layers[:2]
    assert torch.equal(first.linear1.weight, second.linear1.weight)


def test_the_activation_that_is_asked_for_survives_a_copy():
    model = TransformerAutoencoder((1, 8, 8), 6, 4, num_hidden=16, activation="gelu")
    values = torch.randn(5)
    for part in (copy.deepcopy(model).encoder, copy.deepcopy(model).decoder):
        for layer in part.transformer.layers:
            torch.testing.assert_close(layer.activation(values), nn.functional.gelu(values))
    with pytest.raises(ConfigError, match="weights of its own"):
        TransformerAutoencoder((1, 8, 8), 6, 4, num_hidden=16, activation="prelu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 8}, "patch_size 8 with stride 8 does not tile 1x28x28.* gives 1x24x24"),
        ({"patch_size": 4, "stride": 5}, "gives 1x24x24"),
        ({"patch_size": 32}, "larger than the image"),
        ({"patch_size": 4, "num_heads": 5}, "num_heads 5 does not divide num_hidden 64"),
    ],
)
def test_impossible_sizes_are_told(arguments, message):
    with pytest.raises(ShapeError, match=message) as caught, torch.device("meta"):
        TransformerAutoencoder(MNIST, 78, **arguments)
    assert caught.value.hint


def test_patches_may_differ_by_axis():
    model = TransformerAutoencoder((1, 8, 9), 6, (4, 3), (2, 3), 1, 16, 2)
    assert model(torch.rand(2, 1, 8, 9)).reconstruction.shape == (2, 1, 8, 9)


def test_the_model_and_its_parts_say_what_their_tokens_are():
    (note,) = model_notes(TransformerAutoencoder((1, 8, 8), 6, 4, num_hidden=16))
    assert "legacy" in note.message and "images of a batch" in note.message
    composed = EncoderDecoder(
        EncoderMLP((1, 8, 8), 6), TransformerDecoder((1, 8, 8), 6, 4, num_hidden=16)
    )
    assert model_notes(composed) == (note,)
