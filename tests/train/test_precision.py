"""`precision: auto`: float32 where the processor lacks the units, else what a trial says."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from aelab.losses import make_objective
from aelab.models import EncoderDecoder, make_normalization, small_image_ae
from aelab.train import FitSettings, State, fit, make_state, precision
from aelab.train.forward import Batch, Task, forward
from aelab.train.precision import time_steps, try_precisions
from aelab.types import Images, TermSpec

SETTINGS = FitSettings(batch_size=8, max_images=32, threads=1, precision="auto")
OBJECTIVE = [TermSpec("l2", "l2")]


def _state(settings: FitSettings = SETTINGS) -> State:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    decoder = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    return make_state(EncoderDecoder(encoder, decoder), settings)


def _images() -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=generator))


def _trained(state: State, settings: FitSettings = SETTINGS) -> dict[str, torch.Tensor]:
    list(fit(state, make_objective(OBJECTIVE), _images(), _images(), settings))
    return state.stored()[0]


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Sets whether this processor has bfloat16 units."""

    def there(found: bool) -> None:
        """As torch tells it."""
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": found})

    return there


@pytest.fixture(autouse=True)
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short trainings of this file count as long enough for a trial."""
    monkeypatch.setattr(precision, "LEAST_BATCHES", 4)


def _times(monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float = 1.0) -> list[int]:
    """Timing really makes its steps, and gives these times; returns a list of the calls."""
    calls: list[int] = []

    def timed(step: Callable[[bool], None], now: object) -> tuple[float, float]:
        """One step of each."""
        step(False)
        step(True)
        calls.append(1)
        return float32, bfloat16

    monkeypatch.setattr(precision, "time_steps", timed)
    return calls


def test_without_units_nothing_is_timed(
    units: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    units(False)
    calls = _times(monkeypatch, 2.0)
    state = _state()
    _trained(state)
    assert not calls and not state.learner.members[0].bfloat16


@pytest.mark.parametrize(("gain", "chosen"), [(1.1, False), (1.3, True)])
def test_bfloat16_is_chosen_where_a_step_is_a_fifth_faster(
    gain: float, chosen: bool, units: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    units(True)
    calls = _times(monkeypatch, gain)
    state = _state()
    auto = _trained(state)
    assert len(calls) == 1 and state.stored()[1]["bfloat16"] is chosen
    name = "bfloat16" if chosen else "float32"
    said = FitSettings(batch_size=8, max_images=32, threads=1, precision=name)  # type: ignore[arg-type]
    same = _trained(_state(said), said)
    assert auto.keys() == same.keys()  # timing left no trace: weights, moments, window
    assert all(auto[key].equal(same[key]) for key in auto)


def test_a_run_that_continues_keeps_its_precision(
    units: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    units(True)
    calls = _times(monkeypatch, 2.0)
    state = _state()
    _trained(state)
    again = _state()
    again.load(*state.stored())
    _times(monkeypatch, 1.0, 2.0)
    list(fit(again, make_objective(OBJECTIVE), _images(), None, SETTINGS))
    assert len(calls) == 1 and again.learner.members[0].bfloat16


def test_the_fastest_step_of_each_counts() -> None:
    seconds = {False: iter([9.0, 3.0, 2.0, 4.0, 5, 5, 5, 5]), True: iter([9.0, 1.5] + [1.0] * 6)}
    clock = [0.0]

    def step(bfloat16: bool) -> None:
        """Takes its time."""
        clock[0] += float(next(seconds[bfloat16])) / 10

    assert time_steps(step, lambda: clock[0]) == pytest.approx((0.2, 0.1))


def test_a_short_training_is_not_tried(
    units: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    units(True)
    calls = _times(monkeypatch, 2.0)
    monkeypatch.setattr(precision, "LEAST_BATCHES", 5)  # one more than 32 images in eights
    state = _state()
    _trained(state)
    assert not calls and not state.learner.members[0].bfloat16


class _Waves(nn.Module):
    """Sines of an image's pixels times `frequency`; bfloat16 resolves 2 or 3 decimal digits."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency
        self.given = nn.Linear(64, 64, bias=False)
        with torch.no_grad():
            self.given.weight.copy_(torch.eye(64))
        self.linear = nn.Linear(64, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 8, 8) -> (B, 4)."""
        return self.linear(torch.sin(self.given(images.flatten(1) * self.frequency)))


@pytest.mark.parametrize(("frequency", "chosen"), [(1.0, True), (500.0, False)])
def test_bfloat16_is_not_chosen_where_it_changes_the_gradient(
    frequency: float,
    chosen: bool,
    units: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units(True)
    _times(monkeypatch, 2.0)
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    state = make_state(EncoderDecoder(_Waves(frequency), decoder), SETTINGS)
    _trained(state)
    assert state.learner.members[0].bfloat16 is chosen


class _Refusing(nn.Module):
    """A layer that adds to a float32 tensor by index, in training, in evaluation, or both."""

    def __init__(self, modes: set[bool]) -> None:
        super().__init__()
        self.linear, self.modes = nn.Linear(64, 4), modes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 8, 8) -> (B, 4)."""
        code = self.linear(images.flatten(1))
        if self.training not in self.modes:
            return code
        # torch refuses a source of another type than that of the result.
        return torch.zeros(len(code), 4).index_add(0, torch.arange(len(code)), code)


@pytest.mark.parametrize("modes", [{True, False}, {False}], ids=str)
def test_a_model_that_cannot_compute_in_bfloat16_trains_in_float32(
    modes: set[bool], units: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    units(True)
    _times(monkeypatch, 2.0)
    trained = []
    for name in ("auto", "float32"):
        torch.manual_seed(0)
        decoder = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
        settings = dataclasses.replace(SETTINGS, precision=name)  # type: ignore[arg-type]
        state = make_state(EncoderDecoder(_Refusing(modes), decoder), settings)
        trained.append(_trained(state, settings))
        assert not state.learner.members[0].bfloat16
    auto, plain = trained
    assert auto.keys() == plain.keys() and all(auto[key].equal(plain[key]) for key in auto)


def test_the_error_of_a_refused_precision_is_kept(units: Callable[[bool], None]) -> None:
    units(True)
    decoder = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    state = make_state(EncoderDecoder(_Refusing({True, False}), decoder), SETTINGS)
    images = _images().pixels[:8] / 255
    found = try_precisions(
        state, [Task(make_objective(OBJECTIVE), SETTINGS)], lambda: [Batch(images, images)]
    )
    assert found is not None and not found.choose_bfloat16
    assert found.refused.startswith("RuntimeError: ") and "type" in found.refused


@pytest.mark.parametrize("at", [1, 2, 4])
def test_an_error_of_both_precisions_is_left_to_the_training(
    at: int, units: Callable[[bool], None]
) -> None:
    """Memory that lacks in one of the first steps, which the training mends by smaller batches."""
    units(True)
    state, passes = _state(), [0]

    def lacking(*_: object) -> None:
        """Fails in one pass."""
        passes[0] += 1
        if passes[0] == at:
            raise torch.OutOfMemoryError("CUDA out of memory")

    state.learner.members[0].model.register_forward_pre_hook(lacking)
    before = {name: tensor.clone() for name, tensor in state.stored()[0].items()}
    images = _images().pixels[:8] / 255
    found = try_precisions(
        state, [Task(make_objective(OBJECTIVE), SETTINGS)], lambda: [Batch(images, images)]
    )
    after = state.stored()[0]
    assert found is None and all(before[name].equal(after[name]) for name in before)
    assert not state.learner.members[0].bfloat16


def test_gradients_are_compared_where_a_weight_has_none() -> None:
    one, other = torch.tensor([3.0, 4.0]), torch.tensor([2.0])
    assert precision._cosine([one, None], [one, other]) == pytest.approx(5 / math.sqrt(29))
    assert precision._cosine([None, None], [None, None]) == 1
    assert precision._cosine([one, None], [None, None]) == 0
    assert math.isnan(precision._cosine([one * math.nan], [one]))


def test_the_agreement_is_the_cosine_of_the_gradients(units: Callable[[bool], None]) -> None:
    units(True)
    state, objective, images = _state(), make_objective(OBJECTIVE), _images().pixels[:8] / 255
    before = {name: tensor.clone() for name, tensor in state.stored()[0].items()}
    found = try_precisions(state, [Task(objective, SETTINGS)], lambda: [Batch(images, images)])
    gradients = []
    for bfloat16 in (False, True):
        model = _state().learner.members[0].model
        _, _, total = forward(
            model, objective, images, images, None, images_seen=0, bfloat16=bfloat16
        )
        total.mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # type: ignore[union-attr]
    expected = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert found is not None
    assert found.agreement == pytest.approx(float(expected), abs=1e-6) and found.agreement < 1
    after = state.stored()[0]
    assert before.keys() == after.keys() and all(before[k].equal(after[k]) for k in after)


def test_norms_keep_their_fused_kernels_in_bfloat16() -> None:
    model = small_image_ae((1, 16, 16), 4)
    objective = make_objective(OBJECTIVE)
    images = torch.rand(4, 1, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it leaves the fused kernel
        forward(model, objective, images, images, None, images_seen=0, bfloat16=True)
        norm = make_normalization("rms", 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            norm(torch.rand(4, 8).bfloat16())
