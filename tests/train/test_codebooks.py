"""Codebooks in training: once a step, exact when continued, counted in validation."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aelab.losses import make_objective
from aelab.models import (
    FSQ,
    VQ,
    Autoencoder,
    DecoderMLP,
    EncoderMLP,
)
from aelab.train import VALIDATIONS, State, Task, evaluate, fit, make_state, step
from aelab.train.tally import codebook_facts
from aelab.types import Images

SHAPE = (1, 8, 8)


def make_model(bottleneck: torch.nn.Module) -> Autoencoder:
    encoder, decoder = EncoderMLP(SHAPE, 12, hidden=(16,)), DecoderMLP(SHAPE, 12, hidden=(16,))
    return Autoencoder(encoder, bottleneck, decoder)


def make(settings: Any, **options: Any) -> tuple[State, Any]:
    torch.manual_seed(0)
    model = make_model(VQ(**{"codebook_size": 8, "dims": 3, "decay": 0.8, **options}))
    return make_state(model, settings), make_objective(model.terms, loss_function="l1")


def trained(tiny: SimpleNamespace, state: State, objective: Any, settings: Any, **more: Any) -> Any:
    images = tiny.images(100), tiny.images(30, 1)
    return list(fit(state, objective, *images, settings, **more))


@pytest.mark.parametrize("batches", [1, 5, 17])
@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_accumulation": 3, "ema_decay": 0.9}, {"micro_batch_size": 3}],
    ids=["plain", "accumulated", "pieces"],
)
def test_a_run_with_a_codebook_continues_bit_for_bit(
    tiny: SimpleNamespace, batches: int, options: dict[str, Any]
) -> None:
    settings = tiny.settings(**options)
    whole, objective = make(settings)
    trained(tiny, whole, objective, settings)

    first, _ = make(settings)
    remaining = iter(range(batches))
    trained(tiny, first, objective, settings, should_stop=lambda: next(remaining, None) is None)
    tensors, numbers = first.stored()
    torch.manual_seed(99)
    second = make_state(make_model(VQ(8, 3, decay=0.8)), settings)
    second.load(tensors, json.loads(json.dumps(numbers)))
    assert second.clock.batches == batches
    trained(tiny, second, objective, settings)

    expected, found = whole.stored()[0], second.stored()[0]
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_the_codebook_moves_once_for_each_step_of_the_optimiser(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(gradient_accumulation=3, micro_batch_size=4)
    state, objective = make(settings)
    trained(tiny, state, objective, settings)
    assert state.learner.model.bottleneck.num_steps == state.clock.steps < state.clock.batches


def test_a_batch_in_pieces_moves_the_codebook_like_the_whole(tiny: SimpleNamespace) -> None:
    images = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0))
    codebooks = []
    for piece in (None, 5):
        settings = tiny.settings(micro_batch_size=piece)
        state, objective = make(settings, dead_below=0.0)
        with torch.no_grad():  # the first step would take other candidates from the last piece
            state.learner.model.bottleneck.num_steps += 1
        step(state, [Task(objective, settings)], [(images, images, None)])
        codebooks.append(state.learner.model.bottleneck.codebook.clone())
    torch.testing.assert_close(*codebooks)


def test_validation_moves_no_codebook_and_reports_its_use(tiny: SimpleNamespace) -> None:
    for validation in VALIDATIONS:
        settings = tiny.settings(validation=validation)
        state, objective = make(settings)
        trained(tiny, state, objective, settings)
        before = {name: tensor.clone() for name, tensor in state.learner.model.state_dict().items()}
        images = tiny.images(30, 1)
        found = evaluate(state.learner.model, objective, images, settings)
        assert all(torch.equal(t, before[n]) for n, t in state.learner.model.state_dict().items())
        assert set(found) == {
            "loss", "l1", "commitment", "codebook_usage", "codebook_perplexity",
        }  # fmt: skip
    state.learner.model.eval()
    index = state.learner.model(images.pixels / 255).posterior.index
    counts = torch.bincount(index.flatten(), minlength=8).double()
    shares = counts / counts.sum()
    entropy = -sum(p * math.log(p) for p in shares.tolist() if p)
    assert found["codebook_usage"] == (counts > 0).double().mean()
    assert found["codebook_perplexity"] == pytest.approx(math.exp(entropy))


def test_the_use_of_a_codebook_counts_every_image_once(tiny: SimpleNamespace) -> None:
    torch.manual_seed(0)
    model = make_model(FSQ((5, 4, 3)))
    objective = make_objective(model.terms, loss_function="l1")
    images = tiny.images(50)
    whole = evaluate(model, objective, images, tiny.settings(validation_batch_size=50))
    cut = evaluate(model, objective, images, tiny.settings(validation_batch_size=16))
    assert cut == pytest.approx(whole, rel=1e-6)
    assert set(whole) == {"loss", "l1", "codebook_usage", "codebook_perplexity"}


def test_perplexity_is_one_for_one_entry_and_k_for_equal_use() -> None:
    one = codebook_facts(torch.tensor([0, 7, 0, 0]))
    assert one["codebook_usage"] == 0.25 and one["codebook_perplexity"] == 1.0
    all_equal = codebook_facts(torch.tensor([3, 3, 3, 3]))
    assert all_equal["codebook_usage"] == 1.0
    assert all_equal["codebook_perplexity"] == pytest.approx(4.0)


def test_half_precision_keeps_indices_whole(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(precision="bfloat16", max_images=20)
    model = make_model(FSQ((5, 4, 3)))
    state = make_state(model, settings)
    objective = make_objective(model.terms, loss_function="l1")
    found = evaluate(state.learner.model, objective, tiny.images(20), settings, bfloat16=True)
    assert 0 < found["codebook_usage"] <= 1


def test_a_codebook_learns(tiny: SimpleNamespace) -> None:
    torch.manual_seed(0)
    pictures = (torch.rand(6, *SHAPE) * 255).byte()
    images = Images(pictures.repeat(16, 1, 1, 1))
    settings = tiny.settings(learnrate=3e-3, max_images=20_000, max_epochs=None, batch_size=32)
    model = make_model(VQ(16, 6, decay=0.9))
    state = make_state(model, settings)
    objective = make_objective(model.terms, loss_function="l1")
    list(fit(state, objective, images, None, settings))
    found = evaluate(state.learner.model, objective, images, settings)
    flat = pictures / 255
    best_constant = (flat - flat.median(dim=0).values).abs().mean()
    assert found["l1"] < 0.25 * best_constant


@pytest.mark.gpu
@pytest.mark.parametrize(
    "bottleneck", [lambda: VQ(8, 3), lambda: FSQ((5, 4, 3))], ids=["VQ", "FSQ"]
)
def test_a_batch_with_a_codebook_never_waits_for_the_gpu(
    tiny: SimpleNamespace, bottleneck: Any
) -> None:
    settings = tiny.settings()
    state = make_state(make_model(bottleneck()), settings, "cuda")
    objective = make_objective(state.learner.model.terms, loss_function="l1")
    images = torch.rand(16, *SHAPE, device="cuda")
    step(state, [Task(objective, settings)], [(images, images, None)])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step(state, [Task(objective, settings)], [(images, images, None)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = evaluate(state.learner.model, objective, tiny.images(30), settings)
    assert 0 < found["codebook_usage"] <= 1
