"""A state is judged by the objective and the model that the run ends with."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.ascii.models.characters import GumbelSoftmax
from aelab.errors import ConfigError
from aelab.founding.stacked import StackedSymmetricAutoencoderConv2d
from aelab.losses import make_objective
from aelab.train import (
    FitSettings,
    Logged,
    Validated,
    evaluate,
    fit,
    make_state,
)
from aelab.types import Images, Output, TermSpec

WARMUP = 200


def an_objective(weight: float = 2.0, warmup: int = WARMUP) -> Any:
    kl = TermSpec("kl", "gaussian_kl", weight, {"warmup_images": warmup})
    return make_objective((TermSpec("l1", "l1"), kl))


def a_run(tiny: SimpleNamespace, **changes: Any) -> tuple[Any, list[Any]]:
    settings = tiny.settings(validate_every_images=64, learnrate=3e-3, **changes)
    state = tiny.start(settings, dropout=0.0)
    events = fit(state, an_objective(), tiny.images(80), tiny.images(30, 1), settings)
    return state, list(events)


def test_validation_is_judged_with_the_weights_that_a_warm_up_ends_with(
    tiny: SimpleNamespace,
) -> None:
    state, events = a_run(tiny)
    rows = [event for event in events if isinstance(event, Validated)]
    assert rows[0].images < WARMUP < rows[-1].images
    for row in rows:
        terms = row.terms
        assert terms["loss"] == pytest.approx(terms["l1"] + 2 * terms["kl"])
        if row.images < WARMUP:
            weight = 2 * row.images / WARMUP
            assert terms["loss_now"] == pytest.approx(terms["l1"] + weight * terms["kl"])
        else:
            assert "loss_now" not in terms
    best = min(rows, key=lambda row: row.terms["loss"])
    assert (state.progress[0].best_images, state.progress[0].best_loss) == (
        best.images,
        best.terms["loss"],
    )
    assert [row.is_best for row in rows] == [
        row.terms["loss"] < min([r.terms["loss"] for r in rows[:n]], default=math.inf)
        for n, row in enumerate(rows)
    ]


def test_training_losses_are_what_is_minimised_and_say_the_final_ones_beside(
    tiny: SimpleNamespace,
) -> None:
    _, events = a_run(tiny)
    rows = [event for event in events if isinstance(event, Logged)]
    for before, row in zip([0, *(r.images for r in rows)], rows, strict=False):
        terms = row.terms
        if before < WARMUP:
            final = terms["l1"] + 2 * terms["kl"]
            assert terms["loss_final"] == pytest.approx(final)
            assert terms["loss"] < final
        else:
            assert "loss_final" not in terms
            assert terms["loss"] == pytest.approx(terms["l1"] + 2 * terms["kl"], rel=1e-5)


def test_min_loss_waits_for_the_final_objective(tiny: SimpleNamespace) -> None:
    _, events = a_run(tiny)
    rows = [event.terms for event in events if isinstance(event, Validated)]
    bar = (min(row["loss"] for row in rows) + rows[0]["loss_now"]) / 2
    assert rows[0]["loss_now"] < bar < min(row["loss"] for row in rows)
    state, events = a_run(tiny, min_loss=bar)
    assert events[-1].reason == "max_images" and state.progress[0].best_loss > bar


def test_a_plateau_is_one_of_the_final_objective(
    tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    step = plateau.step
    monkeypatch.setattr(plateau, "step", lambda self, loss: (told.append(loss), step(self, loss)))
    _, events = a_run(tiny, scheduler={"ReduceLROnPlateau": {"patience": 3}})
    assert told == [event.terms["loss"] for event in events if isinstance(event, Validated)]


def test_a_warm_up_longer_than_the_run_is_judged_by_its_end_too(tiny: SimpleNamespace) -> None:
    objective = an_objective(warmup=10**6)
    found = evaluate(tiny.Model(), objective, tiny.images(20), tiny.settings(), images_seen=100)
    assert found["loss"] == pytest.approx(found["l1"] + 2 * found["kl"])


def test_an_objective_of_ones_own_is_asked_for_its_total_at_the_end(tiny: SimpleNamespace) -> None:
    class Rising(type(tiny.objective)):  # type: ignore[misc]
        def total(self, values: dict[str, Tensor], images_seen: int) -> Tensor:
            return values["l1"] + images_seen / 400 * values["size"]

    settings = tiny.settings(validate_every_images=64)
    state = tiny.start(settings)
    for event in fit(state, Rising(), tiny.images(80), tiny.images(30, 1), settings):
        if isinstance(event, Validated):
            terms = event.terms
            weight = max(event.images, 400) / 400
            assert terms["loss"] == pytest.approx(terms["l1"] + weight * terms["size"])


def test_names_of_totals_are_no_names_of_terms() -> None:
    for name in ("loss", "loss_now", "loss_final"):
        with pytest.raises(ConfigError, match="cannot be called"):
            make_objective((TermSpec(name, "l1"),))


def test_a_model_that_grows_is_judged_once_all_of_it_is_in_use(tiny: SimpleNamespace) -> None:
    model = StackedSymmetricAutoencoderConv2d(
        (1, 8, 8), 4, channels=(6, 6), new_layer_every_images=64, fade_in_images=48
    )
    settings = FitSettings(
        batch_size=16, max_images=240, validate_every_images=16, threads=1, log_every_images=1000
    )
    state = make_state(model, settings)
    objective = make_objective((TermSpec("l1", "l1"),))
    events = list(fit(state, objective, tiny.images(48), tiny.images(16, 1), settings))
    rows = [event for event in events if isinstance(event, Validated)]
    complete = 2 * 64 + 48
    assert [row.is_judged for row in rows] == [row.images >= complete for row in rows]
    assert state.progress[0].best_images is not None and state.progress[0].best_images >= complete
    judged = [row.terms["loss"] for row in rows if row.is_judged]
    assert state.progress[0].best_loss == min(judged)


class Writer(nn.Module):
    """A model whose output depends on a temperature, as soft characters do."""

    def __init__(self, hard: bool) -> None:
        super().__init__()
        self.relaxation = GumbelSoftmax(1.0, rate_per_image=0.01, floor=0.2, hard=hard)
        self.logits = nn.Parameter(torch.randn(64))
        self.noise_shape, self.terms = None, ()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        logits = self.logits.expand(len(images), 64)[:, :, None, None]
        return Output(self.relaxation(logits).reshape(-1, 1, 8, 8), images.flatten(1))


@pytest.mark.parametrize("hard", [True, False])
def test_a_falling_temperature_matters_only_where_evaluation_depends_on_it(
    tiny: SimpleNamespace, hard: bool
) -> None:
    settings = tiny.settings(validate_every_images=32, max_images=256)
    state = make_state(Writer(hard), settings)
    objective = make_objective((TermSpec("l2", "l2"),))
    events = list(fit(state, objective, tiny.images(48), tiny.images(16, 1), settings))
    rows = [event for event in events if isinstance(event, Validated)]
    lowest = 100 * math.log(5)  # images, where the temperature reaches its floor
    assert [row.is_judged for row in rows] == [hard or row.images >= lowest for row in rows]


def test_states_before_a_change_of_the_validation_set_are_not_judged(
    tiny: SimpleNamespace,
) -> None:
    settings = tiny.settings(validate_every_epochs=1, max_images=None, max_epochs=5)
    state = tiny.start(settings)
    sets = [(0, tiny.images(30, 1)), (3, tiny.images(30, 2))]
    events = list(fit(state, tiny.objective, tiny.images(48), sets, settings))
    rows = [event for event in events if isinstance(event, Validated)]
    assert [row.is_judged for row in rows] == [False, False, True, True, True]
    never = [(0, tiny.images(30, 1)), (9, tiny.images(30, 2))]  # after the end: only one is used
    state = tiny.start(settings)
    events = list(fit(state, tiny.objective, tiny.images(48), never, settings))
    assert all(event.is_judged for event in events if isinstance(event, Validated))


@pytest.mark.parametrize(("warmup", "forgotten"), [(10_000, True), (0, False)])
def test_a_state_of_an_earlier_version_does_not_mix_two_ways_of_judging(
    tiny: SimpleNamespace, warmup: int, forgotten: bool
) -> None:
    settings = tiny.settings(validate_every_images=64)
    state = tiny.start(settings)
    objective = an_objective(warmup=warmup)
    images = tiny.images(80), tiny.images(30, 1)
    for event in fit(state, objective, *images, settings):
        if isinstance(event, Validated) and event.images > 150:
            break
    tensors, numbers = state.stored()
    del numbers["judging"]  # as it was written before
    numbers["best_loss"] = 1e-9
    again = make_state(tiny.Model(), settings)
    again.load(tensors, numbers)
    events = list(fit(again, objective, *images, settings))
    rows = [event for event in events if isinstance(event, Validated)]
    assert rows[0].is_best is forgotten
    assert [w.code for w in rows[0].findings] == ["best-chosen-anew"] * forgotten
    assert not any(row.findings for row in rows[1:])
    if not forgotten:
        assert again.progress[0].best_loss == 1e-9


def test_judging_does_not_move_the_clock_of_the_model(tiny: SimpleNamespace) -> None:
    class Told(type(tiny.Model())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.moments: list[int] = []

        def at(self, images: int, epoch: int) -> None:
            self.moments.append(images)

    settings = tiny.settings(validate_every_images=64)
    state = make_state(Told(), settings)
    list(fit(state, tiny.objective, tiny.images(48), tiny.images(16, 1), settings))
    assert state.learner.model.moments == sorted(state.learner.model.moments)  # type: ignore[arg-type]


def test_the_images_are_what_they_were(tiny: SimpleNamespace) -> None:
    images = Images(tiny.images(20).pixels)
    found = evaluate(tiny.Model(), an_objective(warmup=0), images, tiny.settings())
    assert set(found) == {"loss", "l1", "kl"}
