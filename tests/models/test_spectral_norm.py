"""Decoders whose layers enlarge nothing: singular values, and runs with such decoders."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from aelab.errors import ConfigError
from aelab.inspect.dry_run import count_outputs
from aelab.losses import make_objective
from aelab.models import DecoderConv2d, DecoderMLP, EncoderDecoder, EncoderMLP, spectral_norm
from aelab.ops.layers import leaves
from aelab.train import FitSettings, State, fit, make_state
from aelab.types import Images

SHAPE = (1, 8, 8)


def model() -> EncoderDecoder:
    torch.manual_seed(0)
    decoder = spectral_norm(DecoderMLP(SHAPE, 4, hidden=(16,)))
    return EncoderDecoder(EncoderMLP(SHAPE, 4, hidden=(16,)), decoder)


def images() -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randint(0, 256, (64, *SHAPE), generator=generator, dtype=torch.uint8))


def trained(state: State, settings: FitSettings, batches: int | None = None) -> None:
    remaining = iter(range(batches or 1_000_000))
    list(
        fit(state, make_objective(objective={"l2": 1}), images(), images(), settings,
            should_stop=lambda: next(remaining, None) is None)
    )  # fmt: skip


@pytest.mark.parametrize("conv", [False, True])
def test_every_layer_of_the_decoder_has_the_largest_singular_value_one(conv: bool) -> None:
    torch.manual_seed(3)
    plain = DecoderConv2d(SHAPE, 4, channels=(8, 6)) if conv else DecoderMLP(SHAPE, 4)
    decoder = spectral_norm(plain, power_iterations=30)
    assert decoder is plain
    decoder(torch.randn(2, 4))  # training: the vectors converge
    layers = [m for m in decoder.modules() if isinstance(m, (nn.Linear, nn.ConvTranspose2d))]
    assert len(layers) == (3 if conv else 2)
    for layer in layers:
        # Rows are outputs: of a transposed convolution the second axis.
        weight = layer.weight.detach().transpose(0, int(isinstance(layer, nn.ConvTranspose2d)))
        sizes = torch.linalg.svdvals(weight.flatten(1))
        assert float(sizes[0]) == pytest.approx(1.0, abs=1e-3)


def test_a_decoder_of_linear_layers_enlarges_no_difference_of_latents_while_it_learns() -> None:
    settings = FitSettings(batch_size=16, max_images=320, learnrate=0.02)
    state = make_state(model(), settings)
    trained(state, settings)
    decoder = state.learner.members[0].model.decoder.eval()
    one, other = torch.randn(2, 200, 4).unbind()
    pictures = (decoder(one) - decoder(other)).flatten(1).norm(dim=1)
    assert float((pictures / (one - other).norm(dim=1)).detach().max()) < 1.01
    raw = [m for n, m in decoder.named_parameters() if n.endswith("original")]
    assert any(float(torch.linalg.svdvals(weight)[0].detach()) > 1.2 for weight in raw)


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"micro_batch_size": 5}])
def test_a_run_with_a_normalised_decoder_continues_bit_for_bit(options: dict[str, object]) -> None:
    settings = FitSettings(batch_size=16, max_images=160, **options)  # type: ignore[arg-type]
    whole, first, second = (make_state(model(), settings) for _ in range(3))
    trained(whole, settings)
    trained(first, settings, batches=4)
    tensors, numbers = first.stored()
    second.load(tensors, json.loads(json.dumps(numbers)))
    assert second.clock.batches == 4
    trained(second, settings)
    expected, found = whole.stored()[0], second.stored()[0]
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_what_computes_a_weight_is_no_layer_and_counts_no_memory() -> None:
    plain = DecoderMLP(SHAPE, 4, hidden=(16,))
    names = [name for name, _ in leaves(plain)]
    latent = torch.zeros(2, 4)
    _, before = count_outputs(plain, lambda: plain(latent))
    decoder = spectral_norm(plain)
    assert [name for name, _ in leaves(decoder)] == names
    assert count_outputs(decoder, lambda: decoder(latent))[1] == before
    assert sum(is_parametrized(layer) for _, layer in leaves(decoder)) == 2


def test_a_decoder_is_normalised_once_and_needs_a_layer() -> None:
    for module in (nn.ReLU(), spectral_norm(nn.Linear(2, 2))):
        with pytest.raises(ConfigError, match="no linear layer or convolution") as told:
            spectral_norm(module)
        assert told.value.hint
    for wrong in (0, 1.5, True):
        with pytest.raises(ConfigError, match="power_iterations"):
            spectral_norm(nn.Linear(2, 2), power_iterations=wrong)  # type: ignore[arg-type]
