"""The subject of checks: a built run with weights, a few of its images, and a forward pass."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from aelab.ops.augmented import changed_batch
from aelab.ops.factors import Partners, factors_of, made_factors, needs_factors, pairs_of
from aelab.ops.labels import class_findings, label_classes, with_labels_for
from aelab.ops.look import remembered
from aelab.ops.random import keyed_generator, seed_default
from aelab.train.clocked_modules import set_clock
from aelab.train.forward import Batch, forward
from aelab.train.horizon import Horizon, horizon
from aelab.train.start import start_from_images
from aelab.train.validation import noise_shape_of

if TYPE_CHECKING:
    from aelab.assembly.parts import Parts
    from aelab.config import RunSpec
    from aelab.errors import Where
    from aelab.losses import Objective
    from aelab.losses.objective import Term
    from aelab.settings import FitSettings
    from aelab.types import Images, Output

#: Most images in the checked batch, and the limit of its floating-point operations.
MOST_IMAGES, BATCH_FLOPS = 32, 2e9
#: Number of images for statistics of a set.
SAMPLE = 512
#: Latents that are decoded to see what a change of the decoder does.
LATENTS = 8


class Pass(NamedTuple):
    """One forward pass in training mode, with gradients.

    Attributes:
        output: of the model.
        values: unweighted terms, (B,) each.
        total: (B,), with the weights of the end of the run.
        parameters: trained parameters of the copy that made the pass.
    """

    output: Output
    values: Mapping[str, Tensor]
    total: Tensor
    parameters: list[nn.Parameter]


@dataclass
class BuiltRun:
    """A run that is ready to train; checks do not change it.

    Attributes:
        spec: its spec.
        parts: its model on the CPU with weights, its objective, and descriptions of its sets.
        settings: settings of the training loop.
        train: images of the first training set, or a few similar ones; None if none were read.
        count: size of the first training set, if known.
        flops_per_image: floating-point operations of one forward pass.
    """

    spec: RunSpec
    parts: Parts
    settings: FitSettings
    train: Images | None
    count: int | None
    flops_per_image: int

    def place(self, *keys: str) -> Where | None:
        """The place of the first of these keys in the file."""
        return next((self.spec.places[key] for key in keys if key in self.spec.places), None)

    @cached_property
    def objective_place(self) -> Where | None:
        """The place of the objective in the file."""
        return self.place("objective", "loss_function", "model")

    @cached_property
    def model(self) -> nn.Module:
        """A copy of the initial model."""
        model = copy.deepcopy(self.parts.model).cpu()
        set_clock(model, 0, 0)
        if self.train is not None:
            start_from_images(model, self.train)
        return model

    @cached_property
    def objective(self) -> Objective:
        """A copy of the objective, prepared with the training images."""
        objective = copy.deepcopy(self.parts.objective)
        if self.train is not None:
            objective.prepare(self.train)
        return objective

    @cached_property
    def end(self) -> Horizon | None:
        """The counters at the end of the run; None if no number of images ends it."""
        if self.count is None and self.settings.max_epochs is not None:
            return None
        found = horizon(self.settings, [(0, self.count or self.settings.max_images or 1)])
        return found if found.is_known else None

    @cached_property
    def size(self) -> int:
        """Number of images in the checked batch; fewer for a slow model."""
        affordable = int(BATCH_FLOPS / max(1, self.flops_per_image))
        return max(2, min(MOST_IMAGES, affordable, self.settings.batch_size))

    def _drawn(self, number: int) -> tuple[Tensor, torch.Generator]:
        """Rows of the training set, (B,), and the generator that drew them."""
        assert self.train is not None
        generator = keyed_generator(number, "doctor")
        rows = torch.randint(len(self.train), (self.size,), generator=generator)
        pairs, factors = pairs_of(self.model), factors_of(self.train)
        if pairs is not None and factors is not None:
            rows[1::2] = Partners(factors, pairs).rows(rows[0::2][: len(rows) // 2], generator)
        return rows, generator

    def _labels(self, number: int) -> Tensor | None:
        """Their labels, if the model asks for them and the set fits, which others report."""
        if self.train is None or class_findings(self.model, self.train, "train_set"):
            return None
        ((_, images),), _ = with_labels_for(self.model, [(0, self.train)], [])
        asks = label_classes(self.model) is not None
        return images.labels[self._drawn(number)[0]] if asks and images.labels is not None else None

    def factors_given(self, number: int = 0) -> tuple[Tensor, ...]:
        """The factors (B, F) of a batch, if the objective asks for them; else ()."""
        factors = None if self.train is None else factors_of(self.train)
        if not needs_factors(self.objective) or factors is None:
            return made_factors(self.objective, self.targets(number))
        return (factors[self._drawn(number)[0]],)

    def targets(self, number: int = 0) -> Tensor:
        """(B, C, H, W) training images after the set's random changes, without noise."""
        assert self.train is not None
        rows, generator = self._drawn(number)
        return changed_batch(self.train.pixels, rows, self.train.augment, generator)

    def batch(self, number: int = 0) -> Batch:
        """Inputs, targets and noise as training makes them, of at most `size` images."""
        target = self.targets(number)
        generator = keyed_generator(number, "doctor-noise")
        inputs = target
        for change in self.settings.input_transforms:
            inputs = change(inputs, generator)
        if self.settings.training_noise:
            inputs = inputs + self.settings.training_noise * torch.randn(
                inputs.shape, generator=generator
            )
            target = inputs if self.settings.noise_in_target else target
        shape = noise_shape_of(self.model)
        noise = None
        if shape is not None:
            noise = torch.randn((len(target), *shape), generator=generator)
        return Batch(inputs, target, noise, self._labels(number), *self.factors_given(number))

    @cached_property
    def inputs(self) -> Tensor:
        """Some images, or noise of the same shape if none were read."""
        if self.train is not None:
            return self.batch().inputs
        shape = self.parts.train[0].dataset.shape
        return torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def evaluated(self) -> nn.Module:
        """A copy of the initial model in evaluation mode."""
        return copy.deepcopy(self.model).eval()

    @cached_property
    def first_pictures(self) -> tuple[Tensor, Tensor]:
        """What the first image becomes in evaluation mode: twice, with other random numbers."""
        return self.first_picture(self.inputs, 0), self.first_picture(self.inputs, 1)

    def first_picture(self, images: Tensor, seed: int) -> Tensor:
        """(C, H, W) what the first of some images becomes in evaluation mode."""
        seed_default(seed)
        with torch.no_grad():
            made: Tensor = self.evaluated(images, None).reconstruction[0].float()
        return made

    @cached_property
    def first_pass(self) -> Pass:
        """The pass of the first batch through a copy of the model in training mode."""
        model = copy.deepcopy(self.model).train()
        output, values, _ = forward(model, self.objective, *self.batch(), images_seen=0)
        trained = [p for p in model.parameters() if p.requires_grad]
        return Pass(output, values, self.objective.final_total(values), trained)

    @cached_property
    def gradients(self) -> list[tuple[Term, float]]:
        """Each term with a weight, and the norm of its gradient with respect to the weights."""
        found = []
        for term in self.objective.terms:
            value = self.first_pass.values[term.name]
            if not term.weight:
                continue
            size = 0.0
            if value.requires_grad:
                gradients = torch.autograd.grad(
                    value.mean(), self.first_pass.parameters, retain_graph=True, allow_unused=True
                )
                size = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
            found.append((term, size))
        return found

    def at_start(self, term: Term) -> float:
        """The mean of an unweighted term on the first batch."""
        return float(self.first_pass.values[term.name].detach().mean())

    def of_images(self, values: Mapping[str, Tensor]) -> float:
        """The part of the loss that compares with the images, with the weights of the end."""
        seeing = [term for term in self.objective.terms if term.sees_images]
        return sum(term.weight * float(values[term.name].detach().mean()) for term in seeing)

    @cached_property
    def sample(self) -> Tensor:
        """(n, C * H * W) some training images as vectors, evenly spaced over the set."""
        assert self.train is not None
        count = min(SAMPLE, len(self.train))
        rows = torch.linspace(0, len(self.train) - 1, count, dtype=torch.float64).long()
        changes = self.train.augment
        return changed_batch(
            self.train.pixels, rows, changes, keyed_generator(0, "doctor-sample")
        ).flatten(1)

    @cached_property
    def spectrum(self) -> Tensor:
        """Variances of the sample along its principal axes, descending; they add up to the whole.

        Summed over pixels, so that the total is the mean squared distance of an image from the
        mean image.
        """
        return self._of_sample(_spectrum)

    @cached_property
    def variance(self) -> Tensor:
        """(C * H * W) the variance of each pixel over the sample."""
        return self._of_sample(_variance)

    @cached_property
    def median(self) -> Tensor:
        """(C * H * W) the median of each pixel over the sample."""
        return self._of_sample(_median)

    def _of_sample(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """A statistic of the sample; one without random changes is computed once a set."""
        assert self.train is not None
        if not self.train.content_sha256 or self.train.augment:
            return of(self.sample)
        key = (of.__name__, self.train.content_sha256)
        values: Tensor = remembered(key, lambda: of(self.sample))
        return values


@contextmanager
def kept_weights(model: nn.Module) -> Iterator[None]:
    """Context manager: parameters that are changed inside get their values back."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), before, strict=True):
                parameter.copy_(value)


def _spectrum(sample: Tensor) -> Tensor:
    """Variances of (n, d) vectors along their principal axes, descending."""
    centred = sample - sample.mean(0)
    # The smaller of the two Gram matrices has the same eigenvalues.
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    values: Tensor = torch.linalg.eigvalsh(gram.double()).flip(0).clamp(min=0)
    return values / max(1, len(centred))


def _variance(sample: Tensor) -> Tensor:
    """(d) the variances of the axes of (n, d) vectors."""
    return sample.var(0)


def _median(sample: Tensor) -> Tensor:
    """(d) the medians of the axes of (n, d) vectors."""
    return sample.median(0).values


def worded(names: Sequence[str], most: int = 3) -> str:
    """Text such as `a, b and 4 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
