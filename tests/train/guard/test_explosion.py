"""Divergence without a NaN is told; sound training, however rough, is not called that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, DataError, DivergedError
from aelab.losses import make_objective
from aelab.models import DecoderMLP, EncoderDecoder, EncoderMLP
from aelab.train import FitSettings, Validated, fit, make_state
from aelab.types import Images, Output, TermSpec

SHAPE = (1, 8, 8)


def a_model(**decoder: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    encoder = EncoderMLP(SHAPE, 8, hidden=(16,))
    return EncoderDecoder(encoder, DecoderMLP(SHAPE, 8, hidden=(16,), **decoder))


def settings(**changes: Any) -> FitSettings:
    plain = {"batch_size": 16, "max_images": 640, "threads": 1, "log_every_images": 64}
    return FitSettings(**{**plain, "validate_every_images": 128, **changes})


def trained(
    config: FitSettings, terms: dict[str, Any], held_out: bool = True
) -> tuple[Any, list[Any], DivergedError | None]:
    images = Images(torch.rand(96, *SHAPE, generator=torch.Generator().manual_seed(1)))
    state = make_state(a_model(), config)
    events: list[Any] = []
    try:
        for event in fit(
            state,
            make_objective(objective=terms),
            images,
            Images(images.pixels[:32]) if held_out else None,
            config,
        ):
            events.append(event)
    except DivergedError as error:
        return state, events, error
    return state, events, None


@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize(
    ("learnrate", "reduction"), [(1e3, "mean"), (1e4, "mean"), (1e6, "mean"), (1e6, "sum")]
)
def test_losses_far_beyond_the_untrained_model_are_divergence(
    learnrate: float, held_out: bool, reduction: str
) -> None:
    terms = {"l1": {"reduction": reduction}}
    state, events, error = trained(settings(learnrate=learnrate), terms, held_out)
    assert error is not None
    assert "diverged without a NaN" in error.message and "before training" in error.message
    assert "learnrate: 0.001" in str(error.hint) and "RUN@best" not in str(error.hint)
    assert state.progress[0].best_loss is None
    rows = [event for event in events if isinstance(event, Validated)]
    assert not any(row.is_best for row in rows)
    assert bool(rows) is held_out


def test_what_will_not_come_back_is_not_trained_to_its_end() -> None:
    state, _, error = trained(settings(learnrate=1e6, max_images=6400), {"l1": 1})
    assert error is not None and state.clock.images < 3200


@pytest.mark.parametrize(
    ("learnrate", "terms"),
    [
        (1e-3, {"l1": 1}),
        (0.3, {"l1": 1}),
        (1e-3, {"l2": {"reduction": "sum"}}),
        (1e-3, {"l1": {"weight": 1e9}}),
        (1e-3, {"l1": {"weight": 1e9, "warmup_images": 500}, "l2": 1}),
        (1e-3, {"l1": 1, "feature_statistics": {"weight": 1e7, "warmup_images": 600}}),
    ],
)
def test_sound_runs_are_never_called_diverged(learnrate: float, terms: dict[str, Any]) -> None:
    state, events, error = trained(settings(learnrate=learnrate), terms)
    assert error is None and state.progress[0].best_loss is not None
    assert all(event.is_judged for event in events if isinstance(event, Validated))


def test_a_run_that_unlearned_is_warned_of_at_its_end() -> None:
    images = Images(torch.rand(96, *SHAPE, generator=torch.Generator().manual_seed(1)))
    objective = make_objective((TermSpec("bce", "bce"),))
    for learnrate, expected in ((1e-3, []), (10.0, ["worse-than-untrained"])):
        config = settings(learnrate=learnrate)
        state = make_state(a_model(activation_last_layer="sigmoid"), config)
        rows = [
            event
            for event in fit(state, objective, images, images, config)
            if isinstance(event, Validated)
        ]
        assert [warned.code for warned in rows[-1].findings] == expected
        assert not any(row.findings for row in rows[:-1])


def test_a_spike_that_passes_is_no_divergence(tiny: SimpleNamespace) -> None:
    class Spiky(type(tiny.objective)):  # type: ignore[misc]
        reconstructions: ClassVar = {"l1": 1.0}

        def __call__(self, output: Output, target: Tensor, images_seen: int) -> dict[str, Tensor]:
            values = super().__call__(output, target, images_seen)
            if 100 < images_seen < 200:
                values["l1"] = values["l1"] * 1e9
            return values

    config = tiny.settings(validate_every_images=64)
    state = tiny.start(config)
    events = list(fit(state, Spiky(), tiny.images(80), tiny.images(30, 1), config))
    rows = [event for event in events if isinstance(event, Validated)]
    assert {row.is_judged for row in rows} == {True, False}
    assert events[-1].reason == "max_images" and state.progress[0].best_loss < 1


def test_a_loss_that_is_negative_is_no_divergence(tiny: SimpleNamespace) -> None:
    class Nats(type(tiny.objective)):  # type: ignore[misc]
        reconstructions: ClassVar = {"l1": 1.0}

        def __call__(self, output: Output, target: Tensor, images_seen: int) -> dict[str, Tensor]:
            values = super().__call__(output, target, images_seen)
            return {**values, "l1": values["l1"] - 10.0 * images_seen}

    config = tiny.settings(validate_every_images=64)
    state = tiny.start(config)
    events = list(fit(state, Nats(), tiny.images(80), tiny.images(30, 1), config))
    assert events[-1].reason == "max_images"
    assert state.progress[0].best_loss is not None and state.progress[0].best_loss < -3000


def test_a_loss_without_a_bound_below_is_divergence_too(tiny: SimpleNamespace) -> None:
    class Falling(type(tiny.objective)):  # type: ignore[misc]
        def total(self, values: dict[str, Tensor], images_seen: int) -> Tensor:
            return super().total(values, images_seen) * (1 - 1e8 * (images_seen > 0))

    config = tiny.settings(validate_every_images=64)
    with pytest.raises(DivergedError, match="without a NaN"):
        list(fit(tiny.start(config), Falling(), tiny.images(80), tiny.images(30, 1), config))


def test_a_run_that_is_continued_remembers_how_it_began() -> None:
    config = settings(learnrate=1e-3)
    images = Images(torch.rand(96, *SHAPE, generator=torch.Generator().manual_seed(1)))
    objective = make_objective((TermSpec("l1", "l1"),))
    state = make_state(a_model(), config)
    for event in fit(state, objective, images, images, config):
        if isinstance(event, Validated):
            break
    tensors, numbers = state.stored()
    again = make_state(a_model(), config)
    again.load(tensors, numbers)
    assert again.start() == state.start() and set(state.start()) == {"loss", "l1"}
    assert again.progress[0].last_terms == state.progress[0].last_terms
    for name in ("start", "last_terms", "exploded_since"):
        del numbers[name]  # as an earlier version wrote it
    again.load(tensors, numbers)
    assert again.start() == {} or again.start() == state.start()
    assert list(fit(again, objective, images, images, config))[-1].reason == "max_images"


def test_hints_name_a_sane_rate_and_a_state_that_there_is() -> None:
    for optimizer, rate in (("Adam", "0.001"), ("SGD", "0.01"), ("Adadelta", "1 ")):
        _, _, error = trained(settings(learnrate=1e30, optimizer=optimizer), {"l1": 1})
        assert error is not None
        assert f"learnrate: {rate}" in str(error.hint) and "@best" not in str(error.hint)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("broken", ["train_set", "validation_set"])
def test_images_that_are_no_numbers_are_blamed_instead_of_the_learning_rate(
    value: float, broken: str
) -> None:
    images = torch.rand(96, *SHAPE)
    changed = images.clone()
    changed[[17, 40], 0, 2, 3] = value
    sets = {"train_set": images, "validation_set": images, broken: changed}
    config = settings(learnrate=1e-3)
    with pytest.raises(DataError) as caught:
        list(
            fit(
                make_state(a_model(), config),
                make_objective((TermSpec("l2", "l2"),)),
                Images(sets["train_set"]),
                Images(sets["validation_set"]),
                config,
            )
        )
    name = broken.removesuffix("_set")
    assert f"{name}: image 17 has a pixel that is" in caught.value.message
    assert "and 1 more of 96" in caught.value.message
    assert "learnrate" not in str(caught.value.hint)


def test_random_changes_far_outside_of_the_range_are_blamed() -> None:
    looked = []

    def broken(images: Tensor, generator: torch.Generator) -> Tensor:
        looked.append(len(images))  # the look before training sees nothing yet
        return images if len(looked) == 1 else images * 1e30

    images = Images(torch.rand(96, *SHAPE), augment=(broken,))
    config = settings(learnrate=1e-3)
    objective = make_objective((TermSpec("l2", "l2"),))
    with pytest.raises(
        DivergedError, match=r"random changes \(train_set\) reach 9.9\d*e\+29"
    ) as caught:
        list(fit(make_state(a_model(), config), objective, images, None, config))
    assert "learnrate" not in str(caught.value.hint)


def test_random_changes_that_give_no_numbers_are_blamed() -> None:
    looked = []

    def broken(images: Tensor, generator: torch.Generator) -> Tensor:
        looked.append(len(images))  # the look before training sees nothing yet
        return images if len(looked) == 1 else images / 0.0

    images = Images(torch.randint(0, 2, (96, *SHAPE), dtype=torch.uint8), augment=(broken,))
    config = settings(learnrate=1e-3, validate_every_images=None)
    objective = make_objective((TermSpec("l2", "l2"),))
    with pytest.raises(DivergedError, match=r"random changes \(train_set\) give NaN"):
        list(fit(make_state(a_model(), config), objective, images, None, config))


def test_a_loss_without_gradient_says_so() -> None:
    def rounded(reconstruction: Tensor, target: Tensor) -> Tensor:
        return (reconstruction > target).float().mean()

    images, config = Images(torch.rand(32, *SHAPE)), settings()
    objective = make_objective(loss_function=rounded)
    with pytest.raises(ConfigError, match="has no gradient: reconstruction does not depend"):
        list(fit(make_state(a_model(), config), objective, images, None, config))


def test_a_search_that_breaks_hides_nothing() -> None:
    """Issue 10: a diverging run with one's own loss ended in KeyError: '__import__'."""

    def picky(reconstruction: Tensor, target: Tensor) -> Tensor:
        value = (reconstruction - target).abs().mean()
        if not torch.isfinite(value):
            raise KeyError("__import__")
        return value

    class Late(nn.Module):
        def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
            value = (reconstruction - target).abs().mean()
            return value if self.is_calm else picky(reconstruction, target)

        is_calm = True

    loss = Late()
    images, config = Images(torch.rand(96, *SHAPE)), settings(learnrate=1e30)
    objective = make_objective(loss_function=loss)
    run = fit(make_state(a_model(), config), objective, images, None, config)
    with pytest.raises(DivergedError, match="training diverged"):
        for _ in run:
            pass
