"""The failures of document 002, provoked on a small scale: noticed, named, told how to leave."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.ascii.counts import character_facts, right_cell_counts
from aelab.ascii.glyphs import character_numbers, numbers_to_images
from aelab.ascii.medium import Characters
from aelab.ascii.models.characters import GumbelSoftmax
from aelab.ascii.models.small import small_ascii_ae
from aelab.errors import DivergedError
from aelab.losses import make_objective
from aelab.posteriors import Deterministic
from aelab.train import (
    FitSettings,
    Logged,
    State,
    Validated,
    evaluate,
    fit,
    make_state,
)
from aelab.types import Images, Output, TermSpec

DRAWN = TermSpec("rendered_l2", "rendered_l2", 50.0, {"font_res": 9})
CHARACTERS = TermSpec("character_ce", "character_ce", 1.0, {"frequency_power": 0.7})


def texts(count: int = 31, seed: int = 0, ink: float = 0.06) -> Images:
    """Pictures of 8x8 characters, nearly all of them spaces."""
    generator = torch.Generator().manual_seed(seed)
    characters = torch.randint(1, 95, (count, 1, 8, 8), generator=generator)
    inked = torch.rand(count, 1, 8, 8, generator=generator) < ink
    return Images((characters * inked).to(torch.uint8), medium=Characters())


def settings(**changes: Any) -> FitSettings:
    plain = {"batch_size": 16, "learnrate": 3e-3, "max_images": 1000, "threads": 1}
    return FitSettings(**{**plain, **changes})


def validations(terms: tuple[TermSpec, ...], images: int, **changes: Any) -> list[Validated]:
    """A small writing model trained with these terms on `texts`."""
    torch.manual_seed(0)
    model = small_ascii_ae(
        (8, 8),
        latent_channels=2,
        embedding=8,
        channels=(16,),
        hidden=(),
        text_blocks=0,
        relaxation=GumbelSoftmax(0.3),
        terms=terms,
        space_share=0.9,
    )
    wanted = settings(max_images=images, validate_every_images=250, **changes)
    objective, pictures = make_objective(model.terms), texts()
    objective.prepare(pictures)
    state = make_state(model, wanted)
    events = fit(state, objective, pictures, pictures, wanted)
    return [event for event in events if isinstance(event, Validated)]


def warned(found: list[Validated]) -> list[str]:
    return [warning.code for event in found for warning in event.findings]


# Everything becomes spaces.


def test_a_drawn_loss_alone_writes_only_spaces_and_is_warned_of() -> None:
    found = validations((DRAWN,), 500, learnrate=1e-3)
    assert warned(found) == ["writes-only-spaces"] * len(found)
    (warning,) = found[-1].findings
    assert "100.00%" in warning.message
    assert "frequency_power" in warning.way_out and "tau" in warning.way_out
    assert found[-1].terms["blank_share"] == 1.0
    assert found[-1].terms["accuracy_without_spaces"] == 0.0


@pytest.mark.slow
def test_cross_entropy_by_frequency_leads_away_from_spaces() -> None:
    found = validations((CHARACTERS, DRAWN._replace(weight=1.0)), 4000)
    assert "writes-only-spaces" in warned(found[:2])
    assert found[-1].findings == ()
    assert found[-1].terms["accuracy_without_spaces"] > 0.9


class Writer(nn.Module):
    """Writes the same text whatever it reads; `logits` decide which."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.noise_shape, self.terms, self.medium = None, (), Characters()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        logits = self.logits.expand(len(images), -1, -1, -1)
        written = numbers_to_images(logits.argmax(1))
        characters = {"logits": logits, "relaxed": logits.softmax(1)}
        return Output(
            written, self.logits.flatten()[:2].expand(len(images), 2), Deterministic(), characters
        )


class Unlikeliness:
    """Mean of the logits' squares: a loss that only has to be finite."""

    def __call__(self, output: Output, target: Tensor, images_seen: int) -> dict[str, Tensor]:
        return {"size": output.details["logits"].square().flatten(1).mean(1)}

    def total(self, values: Mapping[str, Tensor], images_seen: int) -> Tensor:
        return values["size"]


def test_a_page_of_characters_without_ink_is_as_blank_as_one_of_spaces() -> None:
    logits = torch.zeros(1, 95, 8, 8)
    logits[:, 64, :4], logits[:, 13, 4:] = 2.0, 2.0  # backticks above, minus signs below
    wanted = settings(max_images=500, learnrate=1e-9)
    warnings = {}
    for zoom in (21, None):
        drawn = TermSpec("rendered_l2", "rendered_l2", 1.0, {"font_res": 9, "font_zoom": zoom})
        state = make_state(Writer(logits.clone()), wanted)
        events = fit(state, make_objective((drawn,)), texts(), texts(), wanted)
        (event,) = (event for event in events if isinstance(event, Validated))
        warnings[zoom] = event.findings
    (unseen,) = warnings[21]
    assert unseen.code == "writes-only-unseen"
    assert "100.00% of the output cells" in unseen.message and "0.00% are spaces" in unseen.message
    assert [warning.code for warning in warnings[None]] == ["writes-one-text"]


def test_one_text_for_every_picture_is_told_from_blank_paper() -> None:
    logits = torch.zeros(1, 95, 8, 8)
    logits[:, 0], logits[:, 64, :4] = 1.0, 2.0  # backticks above, spaces below
    wanted = settings(max_images=500, learnrate=1e-6)
    state = make_state(Writer(logits), wanted)
    events = list(fit(state, Unlikeliness(), texts(), texts(), wanted))
    (event,) = (event for event in events if isinstance(event, Validated))
    assert warned([event]) == ["writes-one-text"]
    assert event.terms["blank_share"] == 0.5


# The facts.


def test_character_facts_are_counted_by_cell_over_ragged_batches() -> None:
    images = texts(31)
    logits = torch.randn(1, 95, 8, 8, generator=torch.Generator().manual_seed(1))
    logits[:, 0] += 1.5
    model = Writer(logits)
    found = evaluate(model, Unlikeliness(), images, settings(validation_batch_size=7))
    written, target = logits.argmax(1).expand(31, 8, 8), images.pixels[:, 0].long()
    inked = target != 0
    assert found["accuracy"] == pytest.approx((written == target).double().mean().item())
    assert found["accuracy_without_spaces"] == pytest.approx(
        (written == target)[inked].double().mean().item()
    )
    assert found["blank_share"] == pytest.approx((written == 0).double().mean().item())
    assert 0 < found["blank_share"] < 1
    assert set(found) == {"loss", "size", "accuracy", "accuracy_without_spaces", "blank_share"}


def test_without_ink_nothing_is_wrong_about_it() -> None:
    blank = torch.zeros(3, 1, 4, 4)
    facts = character_facts(right_cell_counts(numbers_to_images(character_numbers(blank)), blank))
    assert {name: value.item() for name, value in facts.items()} == {
        "accuracy": 1.0,
        "accuracy_without_spaces": 1.0,
        "blank_share": 1.0,
    }


# Black in evaluation, normal in training.


def spoil(state: State) -> None:
    """What one batch of enormous values leaves behind in running statistics."""
    with torch.no_grad():
        state.learner.model.norm.running_mean.fill_(300.0)
        state.learner.model.norm.running_var.fill_(1e8)
        state.learner.model.norm.momentum = 1e-6  # and nothing forgets it


def greys(count: int, seed: int) -> Images:
    """Images of one brightness each: something that can be learned."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.randint(0, 256, (count, 1, 1, 1), generator=generator, dtype=torch.uint8)
    return Images(brightness.repeat(1, 1, 8, 8))


def trained_until_spoiled(tiny: SimpleNamespace, **changes: Any) -> tuple[State, list[Validated]]:
    wanted = tiny.settings(max_images=2400, validate_every_images=800, learnrate=3e-3, **changes)
    state = tiny.start(wanted, dropout=0.3)
    found = []
    for event in fit(state, tiny.objective, greys(160, 0), greys(50, 1), wanted):
        if isinstance(event, Validated):
            found.append(event)
        if isinstance(event, Logged) and 800 < event.images < 900:
            spoil(state)
    return state, found


def test_spoiled_running_statistics_are_named_with_their_layer(tiny: SimpleNamespace) -> None:
    _, found = trained_until_spoiled(tiny)
    assert warned(found[:1]) == []
    assert warned(found[1:]) == ["evaluation-mode-broken"] * len(found[1:])
    (warning,) = found[-1].findings
    assert "'norm' (BatchNorm2d)" in warning.message and "mean 300" in warning.message
    assert "all its pictures are the same" in warning.message
    assert "momentum" in warning.way_out and "statistics='image'" in warning.way_out
    assert not any("wide" in text for text in str(warning).split())


def test_looking_for_a_cause_changes_nothing_of_the_run(
    tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, _ = trained_until_spoiled(tiny)
    monkeypatch.setattr("aelab.train.loop.warnings_of", lambda *arguments: ())
    blind, found = trained_until_spoiled(tiny)
    assert warned(found) == []
    expected, tensors = blind.stored()[0], looked.stored()[0]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in expected.items())


def test_a_healthy_run_is_not_warned_of(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings(max_images=1500, validate_every_images=300)
    state = tiny.start(wanted)
    events = tiny.fit_all(state, wanted, greys(160, 0), greys(50, 1))
    assert warned([event for event in events if isinstance(event, Validated)]) == []


def test_overfitting_is_not_mistaken_for_broken_evaluation(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings(max_images=3000, validate_every_images=1500, learnrate=1e-2)
    state = tiny.start(wanted, dropout=0.0, noise=False)
    events = tiny.fit_all(state, wanted, tiny.images(16), tiny.images(50, 1))
    found = [event for event in events if isinstance(event, Validated)]
    assert (
        state.progress[0].last_loss is not None
        and found[-1].terms["loss"] > 2 * state.progress[0].last_loss
    )
    assert warned(found) == []


# Not a number, in evaluation only.


class Halving(nn.Module):
    """A decoder whose last convolution computes in half precision behind a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.last = nn.Conv2d(1, 1, 3, padding=1).to(torch.float16)
        self.act = nn.LogSoftmax(dim=3)
        self.scale = nn.Parameter(torch.ones(1))
        self.noise_shape, self.terms = None, ()
        self.last.requires_grad_(False)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        hidden = self.last(self.norm(images).half()).float()
        picture = self.act(hidden) * self.scale
        return Output(picture, picture.flatten(1)[:, :2])


def diverged(
    state: State, objective: Any, train: Images, held_out: Images | None, wanted: FitSettings
) -> str:
    """The message of a run that must diverge."""
    with pytest.raises(DivergedError) as caught:
        list(fit(state, objective, train, held_out, wanted))
    return str(caught.value)


def test_half_precision_overflows_in_evaluation_only_and_the_layer_is_named(
    tiny: SimpleNamespace,
) -> None:
    torch.manual_seed(0)
    wanted = tiny.settings(max_images=64)
    model = Halving()
    with torch.no_grad():
        model.last.weight.fill_(8.0)
        model.norm.running_var.fill_(1e-12)
        model.norm.eps, model.norm.momentum = 1e-9, 0.0
    state = make_state(model, wanted)
    text = diverged(state, tiny.objective, tiny.images(100), tiny.images(30, 1), wanted)
    assert "validation diverged" in text
    assert "in evaluation mode 'last' (Conv2d) gives infinity from finite input" in text
    assert "beyond 65,504, the largest number of half precision" in text
    assert "in training mode all is finite" in text
    assert "running statistics" in text and "bfloat16" in text
    assert "gradient_clipping" in text  # what was always told is told still


class BreakingLater(nn.Module):
    """The tiny model; from some call on, in evaluation, its last layer is not a number."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.noise_shape, self.terms = None, ()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        output = self.inner(images, None)
        broken = not self.training
        return output._replace(reconstruction=output.reconstruction / (0.0 if broken else 1.0))


def test_code_outside_of_layers_is_named_too(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings(max_images=64)
    state = make_state(BreakingLater(tiny.Model(noise=False)), wanted)
    text = diverged(state, tiny.objective, tiny.images(100), tiny.images(30, 1), wanted)
    assert "in evaluation mode the model's own code (BreakingLater) gives infinity" in text
    assert "(div of numbers up to" in text


class Logarithm:
    """A loss that is infinite where a pixel is black."""

    def __call__(self, output: Output, target: Tensor, images_seen: int) -> dict[str, Tensor]:
        return {"log": (output.reconstruction * (images_seen < 200)).log().flatten(1).mean(1)}

    def total(self, values: Mapping[str, Tensor], images_seen: int) -> Tensor:
        return -values["log"]


def test_the_objective_is_named_where_the_model_is_fine(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings()
    state = tiny.start(wanted)
    text = diverged(state, Logarithm(), tiny.images(300), None, wanted)
    assert "last finite loss" in text and "gives NaN" in text


def test_a_running_statistic_is_looked_at_before_anything_is_stored(
    tiny: SimpleNamespace,
) -> None:
    wanted = tiny.settings(checkpoint_every_images=64)
    state = tiny.start(wanted)
    loop = fit(state, tiny.objective, tiny.images(500), None, wanted)
    assert isinstance(next(loop), Logged)
    state.learner.model.norm.running_var[1] = float("nan")
    with pytest.raises(DivergedError) as caught:
        next(loop)
    text = str(caught.value)
    assert "a running statistic is not finite: 'norm.running_var'" in text
    assert text.count("a running statistic is not finite") == 1
    assert "in evaluation mode 'norm' (BatchNorm2d) gives NaN from finite input" in text
    assert "in training mode all is finite" in text


def test_masks_that_are_infinite_by_design_are_no_failure(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings()
    model = tiny.Model()
    model.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
    events = tiny.fit_all(make_state(model, wanted), wanted, tiny.images(100))
    assert events[-1].reason == "max_images"


def test_enormous_but_finite_weights_are_no_failure(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings()
    model = tiny.Model()
    model.register_buffer("large", torch.full((4,), 3e38))
    events = tiny.fit_all(make_state(model, wanted), wanted, tiny.images(100))
    assert events[-1].reason == "max_images"


# The averaging of weights that raised the learning rate.

RAMP = {
    "SequentialLR": {
        "schedulers": [
            {"ConstantLR": {"factor": 1.0}},
            {"SWALR": {"swa_lr": 0.01, "anneal_epochs": 10}},
        ],
        "milestones": [10],
    }
}


class Fragile(nn.Module):
    """One weight, best at 1; where it has left 0.999 to 1.001 there is no number any more."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.9995))
        self.noise_shape, self.terms = None, ()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        picture = images * (1.0 - ((self.weight - 1.0) / 0.001).square()).sqrt() * self.weight
        return Output(picture, picture.flatten(1)[:, :2])


def test_a_schedule_that_raises_the_rate_is_named_when_a_run_diverges(
    tiny: SimpleNamespace,
) -> None:
    wanted = tiny.settings(learnrate=4e-5, scheduler=RAMP, max_images=2000)
    text = diverged(make_state(Fragile(), wanted), tiny.objective, tiny.images(300), None, wanted)
    assert "the schedule raised the learning rate 250-fold, from 4e-05 to 0.01 at" in text
    assert "let the schedule end at 4e-05 or below" in text
    assert "a weight is not finite: 'weight'" in text


def test_the_same_run_without_the_ramp_stays_finite(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings(learnrate=4e-5, max_images=2000)
    events = tiny.fit_all(make_state(Fragile(), wanted), wanted, tiny.images(300))
    assert events[-1].reason == "max_images"


def test_a_ramp_continues_where_a_stopped_run_left_it(tiny: SimpleNamespace) -> None:
    wanted = tiny.settings(learnrate=4e-5, scheduler=RAMP, max_images=600)
    whole = tiny.start(wanted)
    tiny.fit_all(whole, wanted, tiny.images(100))
    first, remaining = tiny.start(wanted), iter(range(14))
    tiny.fit_all(first, wanted, tiny.images(100), stop=lambda: next(remaining, None) is None)
    second = tiny.start(wanted)
    second.load(*first.stored())
    tiny.fit_all(second, wanted, tiny.images(100))
    assert second.learner.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    expected, found = whole.stored()[0], second.stored()[0]
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
