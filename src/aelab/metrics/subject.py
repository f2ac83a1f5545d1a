"""A trained model and its images: what every metric and figure looks at, computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, DataError
from aelab.medium import Medium
from aelab.ops.augmented import chosen_images
from aelab.ops.classes import Classes, common_classes
from aelab.ops.look import refuse_not_finite
from aelab.ops.random import keyed_generator
from aelab.ops.subset import draw_order, show_order, with_every_class
from aelab.ops.value_range import from_unit, to_unit
from aelab.posteriors import Posterior, changed, joined
from aelab.types import Images, Output


class Subject:
    """What is measured: a model in evaluation mode, held-out and perhaps training images.

    Everything is computed when it is first asked for, in chunks, without noise and without
    gradients, and kept on the CPU.

    Images stand in the order of `ops.subset.draw_order`, not in that of their sets: whoever takes
    the first n of `images` or `train_images` takes a random draw, spread over the classes, the same
    for every measure and every run on the set. Pictures for people are at `shown`.

    Args:
        model: keeps the contract of `types.Model`.
        validation: held-out images; their random changes are applied only where they alter the
            shape, drawn once.
        train: training images; None where there are none, metrics that need them then say so.
        formulas: names of the objective's terms, which tell how pixels are distributed around a
            reconstruction: `bce` is a Bernoulli, `l2` a Gaussian.
        seed: keys every random number.
        limit: at most so many held-out images, drawn at random.
        train_limit: at most so many training images, drawn at random.
        chunk_images: images in one pass.
        device: where the model is.
        every_class: for pictures: a class that the draw missed has an image among the held-out
            ones.

    Raises:
        DataError: no held-out image.
    """

    def __init__(
        self,
        model: nn.Module,
        validation: Images,
        train: Images | None = None,
        *,
        formulas: tuple[str, ...] = (),
        seed: int = 0,
        limit: int = 10_000,
        train_limit: int = 20_000,
        chunk_images: int = 250,
        device: torch.device | str = "cpu",
        every_class: bool = False,
    ) -> None:
        if len(validation) == 0:
            raise DataError("there are no held-out images to evaluate with")
        for images, name in ((validation, "validation_set"), (train, "train_set")):
            if images is not None:
                refuse_not_finite(images, name)
        self._value_range = validation.value_range
        self.model = model.eval()
        self.formulas = formulas
        self.seed = seed
        self.device = torch.device(device)
        self._chunk = chunk_images
        self._validation, self._limit = validation, limit
        self._train, self._train_limit = train, train_limit
        self._every_class = every_class

    @property
    def has_train(self) -> bool:
        """Whether there are training images."""
        return self._train is not None

    @property
    def medium(self) -> Medium:
        """What the images are made of."""
        return self._validation.medium

    def generator(self, purpose: str, index: int = 0) -> torch.Generator:
        """Random numbers of this run for one purpose, on the CPU."""
        return keyed_generator(self.seed, purpose, index)

    @property
    def heldout_total(self) -> int:
        """How many held-out images there are, of which `images` may be a part."""
        return len(self._validation)

    @property
    def train_total(self) -> int:
        """How many training images there are, of which `train_images` may be a part."""
        return 0 if self._train is None else len(self._train)

    @cached_property
    def _rows(self) -> Tensor:
        labels = self._validation.labels
        order = draw_order(len(self._validation), labels)
        if self._every_class:
            return with_every_class(order, self._limit, labels)
        return order[: self._limit]

    @cached_property
    def _train_rows(self) -> Tensor:
        assert self._train is not None
        return draw_order(len(self._train), self._train.labels)[: self._train_limit]

    @cached_property
    def images(self) -> Tensor:
        """(N, C, H, W) held-out images, float32 0..1, in drawn order."""
        return to_unit(chosen_images(self._validation, self._rows), self._value_range)

    @cached_property
    def _classes(self) -> Classes:
        sets = [self._validation] if self._train is None else [self._train, self._validation]
        return common_classes(sets)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by number: the same numbers in `labels` and `train_labels`."""
        return self._classes.names

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64 of the held-out images, None where the set has none."""
        labels = self._classes.labels[-1]
        return None if labels is None else labels[self._rows]

    @cached_property
    def shown(self) -> Tensor:
        """(N,) int64, numbers in `images` by which pictures are chosen: one of each class in turn.

        The first so many of them are what a sheet of so many pictures shows.
        """
        return show_order(len(self._rows), self.labels)

    @cached_property
    def train_images(self) -> Tensor:
        """(M, C, H, W) training images, float32 0..1, without augmentation.

        Raises:
            DataError: there are none.
        """
        if self._train is None:
            raise DataError("there are no training images", hint="add a train_set to the file")
        return to_unit(chosen_images(self._train, self._train_rows), self._train.value_range)

    @property
    def train_labels(self) -> Tensor | None:
        """(M,) int64 of the training images, None where the set has none."""
        labels = None if self._train is None else self._classes.labels[0]
        return None if labels is None else labels[self._train_rows]

    @cached_property
    def output(self) -> Output:
        """Reconstructions (N, C, H, W), latents and posterior of the held-out images."""
        return self.run(self.images)

    @property
    def reconstructions(self) -> Tensor:
        """(N, C, H, W) of the held-out images, in 0..1, not clamped."""
        return self.output.reconstruction

    @property
    def latents(self) -> Tensor:
        """(N, ...) what the decoder was given for the held-out images: mean codes."""
        return self.output.latent

    @property
    def posterior(self) -> Posterior:
        """Of the held-out images' latents, see `aelab.posteriors`."""
        return self.output.posterior

    @cached_property
    def train_output(self) -> Output:
        """As `output`, of the training images."""
        return self.run(self.train_images)

    @property
    def train_latents(self) -> Tensor:
        """(M, ...) mean codes of the training images."""
        return self.train_output.latent

    @torch.no_grad()
    def run(self, images: Tensor) -> Output:
        """The model's output for (N, C, H, W) in 0..1, chunk by chunk, on the CPU.

        A model of another range is given that, and its reconstructions are brought to 0..1.
        """
        parts = [
            _on_cpu(self.model(self._given(part))) for part in torch.split(images, self._chunk)
        ]
        return Output(
            to_unit(torch.cat([part.reconstruction for part in parts]), self._value_range),
            torch.cat([part.latent for part in parts]),
            joined(part.posterior for part in parts),
        )  # without logits, which take 95 times the memory of what they say

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in 0..1 -> mean codes (N, ...), on the CPU."""
        given = from_unit(images, self._value_range)
        return self._chunked(self.model.encode, given)  # type: ignore[arg-type]

    def decode(self, latents: Tensor) -> Tensor:
        """(N, D) or (N, *latent shape) -> images (N, C, H, W) in 0..1, not clamped, on the CPU."""
        shaped = latents.reshape(len(latents), *self.latents.shape[1:])
        made = self._chunked(self.model.decode, shaped)  # type: ignore[arg-type]
        return to_unit(made, self._value_range)

    def _given(self, images: Tensor) -> Tensor:
        """A copy of images in 0..1 as the model is given them, where it is."""
        return from_unit(images, self._value_range).to(self.device, copy=True)

    @torch.no_grad()
    def _chunked(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        parts = torch.split(values, self._chunk)
        return torch.cat(
            [function(part.to(self.device, copy=True)).float().cpu() for part in parts]
        )


def normal_of(generator: torch.Generator) -> Callable[[tuple[int, ...]], Tensor]:
    """A function of a shape that draws standard normal numbers from `generator`."""
    return lambda shape: torch.randn(shape, generator=generator)


def flat(latents: Tensor) -> Tensor:
    """(N, ...) -> (N, D) float32."""
    return latents.reshape(len(latents), -1).float()


def need_finite(values: Tensor, what: str) -> None:
    """Refuses values that are infinite or not a number.

    Args:
        values: (N, ...).
        what: N of what, in words.

    Raises:
        ConfigError: naming how many of them.
    """
    bad = int((~torch.isfinite(values)).flatten(1).any(1).sum())
    if bad:
        raise ConfigError(
            f"{bad:,} of {len(values):,} {what} are infinite or not a number",
            hint="the run has diverged; measure an earlier state: --state, RUN@images",
        )


def _on_cpu(output: Any) -> Output:
    return Output(
        output.reconstruction.float().cpu(),
        output.latent.cpu(),
        changed(output.posterior, Tensor.cpu),
    )
