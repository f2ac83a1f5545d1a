"""A fault in any layer of any model of the catalogue is named, and the run ends well.

NaN, infinity and a slow explosion, forward and backward, in training and in evaluation mode. The
models are the cases of the catalogue's contract, so that a new part is tried without a word here.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import DivergedError
from aelab.train import Choice, Finished, FitSettings, Mended, fit, make_state
from aelab.train.guard.growth import Growth
from aelab.train.state import State
from aelab.types import Images, Output

CONTRACT = Path(__file__).parents[2] / "models" / "test_catalogue_contract.py"


def _cases() -> dict[str, Any]:
    name = "catalogue_contract_of_faults"
    spec = importlib.util.spec_from_file_location(name, CONTRACT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return dict(module.CASES)


CASES = _cases()
SHAPES = [(1, 16, 16), (3, 16, 16), (1, 32, 32), (3, 32, 32), (1, 8, 8)]

#: factor, backward, in training mode, of the faults; a slow one is a factor a step.
KINDS: dict[str, tuple[float, bool, bool]] = {
    "NaN forward": (math.nan, False, True),
    "infinity forward": (math.inf, False, True),
    "NaN backward": (math.nan, True, True),
    "infinity backward": (math.inf, True, True),
    "NaN in evaluation": (math.nan, False, False),
    "infinity in evaluation": (math.inf, False, False),
    "explosion forward": (30.0, False, True),
    "explosion backward": (100.0, True, True),
    "explosion in evaluation": (30.0, False, False),
}


class Squares:
    """Squared error, and squares of what else a model gives, so that every output counts."""

    #: A term that compares with the images, as objectives of the lab say it.
    reconstructions: Mapping[str, float] = {"l2": 1.0}
    #: Whether a number that is not finite ever reached it.
    has_met_faults = False

    def __call__(self, output: Output, target: Tensor, images_seen: int) -> dict[str, Tensor]:
        values = {"l2": (output.reconstruction - target).square().flatten(1).mean(1)}
        self.has_met_faults |= not bool(values["l2"].isfinite().all())
        others = [output.latent, *output.posterior, *output.details.values()]
        floats = [o for o in others if isinstance(o, Tensor) and o.is_floating_point()]
        sizes = [o.square().reshape(len(o), -1).mean(1) for o in floats if len(o) == len(target)]
        return {**values, "size": torch.stack(sizes).sum(0)}

    def total(self, values: Mapping[str, Tensor], images_seen: int) -> Tensor:
        return values["l2"] + 0.01 * values["size"]


def built(name: str) -> tuple[nn.Module, Images]:
    """A model of the catalogue and images for it."""
    case = CASES[name]
    shape = next(shape for shape in SHAPES if case.fits(*shape))
    torch.manual_seed(0)
    pixels = torch.randint(0, 94 if case.writes else 256, (16, *shape), dtype=torch.uint8)
    model = case.build(shape)
    medium = {"medium": model.medium} if hasattr(model, "medium") else {}
    labels = torch.arange(16) % getattr(model, "label_classes", 1)
    return model, Images(pixels, labels=labels, **medium)


@functools.cache
def _first_steps(name: str) -> tuple[Images, dict[str, Tensor], dict[str, Any]]:
    """Images and the stored training before the first fault: the same for all of a model."""
    model, images = built(name)
    settings = _settings(80)
    state = make_state(model, settings)
    is_over = lambda: state.clock.images >= 12  # noqa: E731
    for _ in fit(state, Squares(), images, images, settings, should_stop=is_over):
        pass
    return images, *state.stored()


def _settings(max_images: int) -> FitSettings:
    return FitSettings(
        batch_size=4,
        learnrate=1e-4,
        optimizer=Choice("SGD"),
        max_images=max_images,
        log_every_images=16,
        validate_every_images=16,
        on_nan={"rollback": {"lower_lr": 0.5}},  # type: ignore[arg-type]
        threads=1,
    )


def begun(name: str, max_images: int) -> tuple[State, Images, FitSettings]:
    """A training of a model at 12 images, which goes on bit for bit."""
    images, tensors, numbers = _first_steps(name)
    settings = _settings(max_images)
    state = make_state(built(name)[0], settings)
    state.load(tensors, numbers)
    return state, images, settings


@pytest.fixture(autouse=True)
def usual_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual numbers of a model are measured once: they are those of the steps before."""
    measure, known = Growth._usual, {}

    def usual(growth: Growth) -> Any:
        start = repr(growth._ring.states[0].norms)
        if start not in known:
            known[start] = measure(growth)
        return known[start]

    monkeypatch.setattr(Growth, "_usual", usual)


def outcome(tiny: SimpleNamespace, name: str, layer: str, kind: str) -> str:
    """What is wrong with how a run took a fault; empty where nothing is."""
    factor, backward, training = KINDS[kind]
    is_slow = math.isfinite(factor)
    state, images, settings = begun(name, 80 if is_slow else 32 if training else 48)
    member = state.learner.members[0]
    model = member.model

    def is_on() -> bool:
        images = state.clock.images
        is_now = images >= 16 if is_slow else images == (20 if training else 32)
        if is_slow:  # the more steps, the more
            fault.factor = factor ** max(0, (images - 12) // 4)
        return is_now and member.change.factor == 1.0 and not state.interventions

    fault = tiny.Fault(
        model.get_submodule(layer), factor, is_on, backward=backward, training=training
    )
    found, objective = [], Squares()
    try:
        for event in fit(state, objective, images, images, settings):
            if isinstance(event, Mended):
                found.append(event)
        if not isinstance(event, Finished) or not bool(state.learner.finite().all()):
            return "did not end well"
    except DivergedError as error:
        return f"did not survive: {error.message}"
    finally:
        fault.hook.remove()
    if not found:
        # Not every output is used, nor has every layer a gradient; a sigmoid takes any number but
        # NaN, and what it gives for infinity harms nothing.
        is_taken = math.isinf(factor) and not backward and not objective.has_met_faults
        return "" if is_slow or is_taken or not fault.has_spoiled else "not noticed"
    cause = found[0].done.cause
    return "" if f"'{layer}'" in cause else f"named otherwise: {cause}"


def outcomes(tiny: SimpleNamespace, name: str, every: int = 1) -> tuple[int, dict[str, str]]:
    """How many faults were tried in a model, and what was wrong with some of them."""
    layers = list(tiny.leaves(built(name)[0]))
    tried = [(layer, kind) for layer in layers for kind in KINDS][every // 2 :: every]
    found = {f"{layer}, {kind}": outcome(tiny, name, layer, kind) for layer, kind in tried}
    return len(tried), {key: what for key, what in found.items() if what}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_a_fault_in_any_layer_is_named_and_survived(tiny: SimpleNamespace, name: str) -> None:
    tried, wrong = outcomes(tiny, name)
    assert tried and not wrong


@pytest.mark.parametrize("name", ["vamp prior", "folded", "spectral norm"])
def test_a_fault_in_some_layers_is_named_and_survived(tiny: SimpleNamespace, name: str) -> None:
    tried, wrong = outcomes(tiny, name, every=23)
    assert tried and not wrong


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [
        # Gradients grow, then weights, then outputs everywhere: all of it before it is noticed.
        ("strides", "decoder.convolution._act_fn", "explosion backward"),
        ("fast implicit", "encoder.layers.2", "explosion backward"),
        # Its overflow makes attention subtract infinities, which is a NaN elsewhere.
        ("TransformerEncoder", "encoder.linear", "explosion forward"),
        # One dropout serves two places, before this layer and after it.
        ("PatchTransformerAutoencoder", "encoder.blocks.0.mlp.0", "explosion in evaluation"),
        # Both branches of a residual block have the same input.
        ("DalleEncoder", "encoder.0.groups.3.0.identity", "explosion backward"),
        # A NaN makes an index that no codebook has.
        ("fsq", "encoder.layers.0", "NaN in evaluation"),
        # The deviation is the exponential of this layer, so that what follows grows far more.
        ("groups of importance weights", "bottleneck.linear_sigma", "explosion forward"),
        # Behind it is a layer that starts with zeros: its gradient is tiny until it has exploded.
        ("small_ascii_ae", "decoder.2.3.first", "explosion backward"),
        # Gradients of this model are large for some batches, before the fault and with it.
        ("palette", "encoder.flatten", "explosion backward"),
        ("palette", "bottleneck", "explosion in evaluation"),
        # A leaky ReLU behind it gives 100 times as much for numbers of the other sign.
        ("stacked", "layers.1.activation", "explosion forward"),
        # Its outputs grow, all weights with the next step, and then it gives zeros.
        ("vq", "decoder.layers.1", "explosion forward"),
        ("implicit, sine", "decoder.act_out", "explosion forward"),
        # The same, and then all is as usual, before the mean loss is looked at.
        ("symmetric", "decoder.2._act_fn", "explosion forward"),
        # Behind it is a layer that multiplies numbers: they grow as squares.
        ("ScriptedAE", "decoder.0.conv.split", "explosion forward"),
        # The gradient of the decoder is a part of this model's forward pass.
        ("leapfrog steps", "decoder.layers.1", "NaN backward"),
        # A comparison with NaN is false, so that a selection left it out.
        ("batch top k", "encoder.layers.0", "NaN in evaluation"),
    ],
)
def test_a_fault_that_shows_elsewhere_is_followed_to_its_beginning(
    tiny: SimpleNamespace, name: str, layer: str, kind: str
) -> None:
    assert outcome(tiny, name, layer, kind) == ""
