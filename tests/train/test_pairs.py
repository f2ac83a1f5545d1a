"""Batches of pairs and batches with factors: how they are made, split, continued and refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.models import Autoencoder, DecoderMLP, EncoderMLP, Gaussian, PairAveraged
from aelab.ops.factors import Pairs
from aelab.train import FitSettings, fit, make_state
from aelab.train.batches import Batches, Draws
from aelab.train.forward import Task
from aelab.train.learner import micro_batches
from aelab.train.loop import training_batch
from aelab.types import Images, Output

SHAPE = (1, 4, 4)


def images(count: int = 60, seed: int = 0) -> Images:
    """The value of all pixels of an image is its row; three factors of 3, 4 and 5 values."""
    rows = torch.arange(count)
    factors = torch.stack([rows % 3, rows // 3 % 4, rows // 12 % 5], 1)
    pixels = rows.to(torch.uint8)[:, None, None, None].expand(-1, *SHAPE).contiguous()
    return Images(pixels, factors=factors, facts={"factor_sizes": [3, 4, 5]})


def model(differing: Any = None) -> Autoencoder:
    torch.manual_seed(0)
    bottleneck = PairAveraged(Gaussian(8, 3), differing=differing)
    return Autoencoder(EncoderMLP(SHAPE, 8, hidden=()), bottleneck, DecoderMLP(SHAPE, 3, hidden=()))


def settings(**changes: Any) -> FitSettings:
    plain = {"batch_size": 10, "learnrate": 1e-3, "max_images": 240, "threads": 1}
    return FitSettings(**{**plain, "log_every_images": 50, **changes})


OBJECTIVE = {"l2": 1, "kl": 0.01}
TRIPLETS = {**OBJECTIVE, "factor_triplet": 0.1}


def rows_of(batch: Any) -> list[int]:
    return (batch.target[:, 0, 0, 0] * 255).round().long().tolist()


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_second_of_every_two_images_is_a_partner_of_the_first(shuffle: bool) -> None:
    chosen = settings(shuffle=shuffle, batch_size=9)
    state, task = make_state(model(), chosen), Task(make_objective(objective=OBJECTIVE), chosen)
    batches, draws = Batches(images(), torch.device("cpu")), Draws(0, torch.device("cpu"))
    factors = images().factors
    assert factors is not None
    seen = []
    for _ in range(6):
        rows = rows_of(training_batch(state, 0, task, batches, draws))
        start = state.clock.images_in_epoch
        ordered = batches.order(0, 0)[start : start + 9] if shuffle else range(start, start + 9)
        assert rows[0::2] == [int(row) for row in list(ordered)[0::2]]
        for one, other in zip(rows[0::2], rows[1::2], strict=False):
            assert one != other and int((factors[one] != factors[other]).sum()) == 1
        seen.append(rows)
        state.clock.count_batch(9, ends_epoch=False)
    again = make_state(model(), chosen)
    assert rows_of(training_batch(again, 0, task, batches, draws)) == seen[0]


def test_a_model_without_pairs_gets_the_order_as_it_is() -> None:
    chosen = settings()
    plain = Autoencoder(
        EncoderMLP(SHAPE, 8, hidden=()), Gaussian(8, 3), DecoderMLP(SHAPE, 3, hidden=())
    )
    state, task = make_state(plain, chosen), Task(make_objective(objective=OBJECTIVE), chosen)
    batches, draws = Batches(images(), torch.device("cpu")), Draws(0, torch.device("cpu"))
    batch = training_batch(state, 0, task, batches, draws)
    assert rows_of(batch) == batches.order(0, 0)[:10].tolist() and batch.factors is None


def trained(given: Images, objective: Mapping[str, Any], stops: int | None, **changes: Any) -> Any:
    """The stored tensors of a run that is stopped after so many batches, and continued."""
    chosen = settings(**changes)
    terms = make_objective(objective=objective)
    terms.prepare(given)
    state = make_state(model("random"), chosen)
    if stops is not None:
        left = iter(range(stops))
        list(fit(state, terms, given, given, chosen, should_stop=lambda: next(left, None) is None))
        tensors, numbers = state.stored()
        state = make_state(model("random"), chosen)
        state.load(tensors, numbers)
    list(fit(state, terms, given, given, chosen))
    return state.stored()[0]


@pytest.mark.parametrize("stops", [1, 4, 11])
@pytest.mark.parametrize("objective", [OBJECTIVE, TRIPLETS], ids=["pairs", "triplets"])
def test_a_stopped_run_of_pairs_continues_bit_for_bit(
    stops: int, objective: Mapping[str, Any]
) -> None:
    whole = trained(images(), objective, None)
    continued = trained(images(), objective, stops)
    assert all(torch.equal(tensor, continued[name]) for name, tensor in whole.items())
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    mixed = replace(images(), factors=images().factors[order])  # type: ignore[index]
    other = trained(mixed, objective, None)
    assert any(not torch.equal(tensor, other[name]) for name, tensor in whole.items())


def test_parts_of_a_batch_do_not_separate_pairs() -> None:
    paired, plain = SimpleNamespace(pairs=Pairs()), nn.Identity()
    for size, at_once, expected in ((10, 3, [2] * 5), (9, 4, [4, 4, 1]), (6, 1, [2, 2, 2])):
        chosen = settings(micro_batch_size=at_once)
        parts = micro_batches(size, chosen, model=paired)  # type: ignore[arg-type]
        assert [len(range(size)[part]) for part in parts] == expected
        assert len(micro_batches(size, chosen, model=plain)) == -(-size // at_once)
    whole = trained(images(), OBJECTIVE, None)
    cut = trained(images(), OBJECTIVE, None, micro_batch_size=5)
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, cut[name], msg=name)


class NotesFactors(nn.Module):
    """An objective that keeps the factors it is called with."""

    needs_factors = True

    def __init__(self) -> None:
        super().__init__()
        self.met: list[tuple[Tensor, Tensor]] = []

    def forward(self, output: Output, target: Tensor, seen: int, factors: Tensor) -> Any:
        self.met.append((target, factors))
        return {"l2": (output.reconstruction - target).square().flatten(1).mean(1)}

    def total(self, values: Mapping[str, Tensor], images_seen: int) -> Tensor:
        return values["l2"]


def test_an_objective_that_asks_gets_the_factors_of_its_images_in_training_and_validation() -> None:
    objective, chosen = NotesFactors(), settings(max_images=120)
    list(fit(make_state(model(), chosen), objective, images(), images(), chosen))
    known = images().factors
    assert known is not None and len(objective.met) > 12
    for target, factors in objective.met:
        rows = (target[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(factors, known[rows])


def test_validation_sees_every_image_once_and_no_pairs() -> None:
    objective, chosen = NotesFactors(), settings(max_images=10, validation_batch_size=30)
    list(fit(make_state(model(), chosen), objective, images(), images(), chosen))
    target = torch.cat([target for target, _ in objective.met[-2:]])
    assert sorted((target[:, 0, 0, 0] * 255).round().long().tolist()) == list(range(60))


def test_sets_without_factors_are_refused_before_training() -> None:
    plain, chosen = replace(images(), factors=None), settings()
    with pytest.raises(ConfigError, match="train_set has neither factors nor classes"):
        next(fit(make_state(model(), chosen), NotesFactors(), plain, None, chosen))
    with pytest.raises(ConfigError, match="nothing would be common"):
        next(fit(make_state(model(3), chosen), NotesFactors(), images(), None, chosen))
    labelled = replace(plain, labels=torch.arange(60) % 4)
    assert list(fit(make_state(model(), chosen), NotesFactors(), labelled, None, chosen))
