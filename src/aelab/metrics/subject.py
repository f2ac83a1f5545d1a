"""A trained model and its images, as metrics and figures use them; outputs are computed once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, DataError
from aelab.medium import Medium
from aelab.ops.augmented import chosen_images
from aelab.ops.classes import Classes, common_classes
from aelab.ops.labels import labels_given
from aelab.ops.look import refuse_not_finite
from aelab.ops.random import keyed_generator
from aelab.ops.subset import draw_order, show_order, with_every_class
from aelab.ops.value_range import from_unit, to_unit
from aelab.posteriors import (
    CanDraw,
    HasPrior,
    HasSampledDivergence,
    Normal,
    Posterior,
    changed,
    code_of,
    joined,
    on_cpu,
)
from aelab.types import Images, Output


class Subject:
    """The input of metrics: a model in evaluation mode, held-out and optionally training images.

    Everything is computed at first use, in chunks, without noise and without gradients, and is
    kept on the CPU.

    Images are in the order of `ops.subset.draw_order`, not in that of their sets. So the first n
    of `images` or `train_images` are a random draw, balanced over classes, and the same for every
    metric and every run on the set. `shown` is the order for figures.

    Args:
        model: follows the interface `types.Model`.
        validation: held-out images; their random changes are applied only if they alter the
            shape, with fixed random numbers.
        train: training images, or None; metrics that need them then raise.
        formulas: names of the objective's terms. They imply the distribution of pixels given a
            reconstruction: `bce` a Bernoulli, `l2` a Gaussian.
        seed: key of all random numbers.
        limit: at most this many held-out images, drawn at random.
        train_limit: at most this many training images, drawn at random.
        chunk_images: images in one pass.
        device: device of the model.
        every_class: for figures: add an image of each class that the draw missed.
        second_stage: draws latents by a sampler that is another run: (its name, how many, seed) ->
            (count, ...); None: there is no other run.

    Raises:
        DataError: there is no held-out image.
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
        second_stage: Callable[[str, int, int], Tensor] | None = None,
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
        self.second_stage = second_stage

    def with_second_stage(self, draw: Callable[[str, int, int], Tensor]) -> Subject:
        """A copy whose samplers that are other runs draw latents by this function."""
        subject = copy.copy(self)
        subject.second_stage = draw
        return subject

    @property
    def has_train(self) -> bool:
        """Whether there are training images."""
        return self._train is not None

    @property
    def medium(self) -> Medium:
        """The medium of the images, see `aelab.medium`."""
        return self._validation.medium

    def generator(self, purpose: str, index: int = 0) -> torch.Generator:
        """A generator of this run's random numbers for one purpose, on the CPU."""
        return keyed_generator(self.seed, purpose, index)

    @property
    def heldout_total(self) -> int:
        """Number of held-out images in the set; `images` may be only a part of them."""
        return len(self._validation)

    @property
    def train_total(self) -> int:
        """Number of training images in the set; `train_images` may be only a part of them."""
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
    def factors(self) -> Tensor | None:
        """The known factors of the held-out images, (N, F) int64; None if the set has none."""
        given = self._validation.factors
        return None if given is None else given[self._rows]

    @property
    def train_factors(self) -> Tensor | None:
        """The known factors of the training images, (M, F) int64; None if the set has none."""
        given = None if self._train is None else self._train.factors
        return None if given is None else given[self._train_rows]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the known factors."""
        return self._validation.factor_names

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by number: the same numbers in `labels` and `train_labels`."""
        return self._classes.names

    @property
    def rows(self) -> tuple[int, ...]:
        """N row numbers of the held-out images in their set."""
        return tuple(self._rows.tolist())

    @property
    def file_names(self) -> tuple[str, ...]:
        """N names of the files of the held-out images; () where they have none."""
        names = self._validation.file_names
        return tuple(names[row] for row in self._rows.tolist()) if names else ()

    @property
    def labels(self) -> Tensor | None:
        """The labels of the held-out images, (N,) int64; None if the set has none."""
        labels = self._classes.labels[-1]
        return None if labels is None else labels[self._rows]

    @cached_property
    def shown(self) -> Tensor:
        """Order of `images` for figures, (N,) int64: one of each class in turn.

        A figure of n images shows the first n of them.
        """
        return show_order(len(self._rows), self.labels)

    @cached_property
    def train_images(self) -> Tensor:
        """(M, C, H, W) training images, float32 0..1, without augmentation.

        Raises:
            DataError: the subject has no training images.
        """
        if self._train is None:
            raise DataError("there are no training images", hint="add a train_set to the file")
        return to_unit(chosen_images(self._train, self._train_rows), self._train.value_range)

    @property
    def train_labels(self) -> Tensor | None:
        """The labels of the training images, (M,) int64; None if the set has none."""
        labels = None if self._train is None else self._classes.labels[0]
        return None if labels is None else labels[self._train_rows]

    @cached_property
    def output(self) -> Output:
        """Reconstructions (N, C, H, W), latents and posterior of the held-out images."""
        return self.run(self.images, self.labels)

    @property
    def reconstructions(self) -> Tensor:
        """Reconstructions of the held-out images, (N, C, H, W) in 0..1, not clamped."""
        return self.output.reconstruction

    @property
    def latents(self) -> Tensor:
        """Mean codes of the held-out images, (N, ...), as given to the decoder."""
        return self.output.latent

    @cached_property
    def codes(self) -> Tensor:
        """The same, (N, D) float32, without a class that the model was told: what it found itself.

        Only the decoder needs the class too.
        """
        return code_of(self.latents, self.posterior).float()

    @property
    def posterior(self) -> Posterior:
        """The posterior of the held-out images, see `aelab.posteriors`."""
        return self.output.posterior

    @property
    def prior(self) -> HasPrior | None:
        """What draws latents of the prior: posterior, model or bottleneck; None: nothing."""
        those = (self.posterior, self.model, getattr(self.model, "bottleneck", None))
        return next((each for each in those if isinstance(each, HasPrior)), None)

    @property
    def draws(self) -> bool:
        """Whether latents of the posterior can be drawn, with their density ratio."""
        return isinstance(self.posterior, CanDraw) or (
            isinstance(self.posterior, HasSampledDivergence)
            and getattr(self.model, "noise_shape", None) is not None
        )

    def drawn(self, rows: slice | Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, ...) of each image's posterior, and ln p(z) - ln q(z | x), (B,) float64.

        A posterior that cannot draw by itself, because its levels depend on each other, is drawn
        by the model.

        Args:
            rows: of the held-out images.
            normal: draws standard normal numbers.
        """
        if isinstance(self.posterior, CanDraw):
            return changed(self.posterior, lambda tensor: tensor[rows]).draw(normal)
        images, labels = self.images[rows], self.labels
        noise = normal((len(images), *self.model.noise_shape))  # type: ignore[misc]
        output = self.run(images, None if labels is None else labels[rows], noise)
        return output.latent, -output.posterior.sampled_kl().double()

    @cached_property
    def train_output(self) -> Output:
        """As `output`, for the training images."""
        return self.run(self.train_images, self.train_labels)

    @property
    def train_latents(self) -> Tensor:
        """Mean codes of the training images, (M, ...)."""
        return self.train_output.latent

    @cached_property
    def train_codes(self) -> Tensor:
        """As `codes`, of the training images, (M, D)."""
        return code_of(self.train_latents, self.train_output.posterior).float()

    def of_class(self, number: int) -> Subject:
        """The same model with the images of one class only, by its number in `classes`.

        Raises:
            ConfigError: there is no held-out image of this class.
        """
        labels = self._classes.labels
        held = _rows_of(self._validation, labels[-1], number, self.classes)
        if not len(held):
            raise ConfigError(f"there is no held-out image of the class {self.classes[number]}")
        train = None
        if self._train is not None:
            train = _rows_of(self._train, labels[0], number, self.classes)
        return Subject(
            self.model,
            held,
            train if train is not None and len(train) else None,
            formulas=self.formulas,
            seed=self.seed,
            limit=self._limit,
            train_limit=self._train_limit,
            chunk_images=self._chunk,
            device=self.device,
        )

    @torch.no_grad()
    def run(
        self, images: Tensor, labels: Tensor | None = None, noise: Tensor | None = None
    ) -> Output:
        """The model's output for (N, C, H, W) in 0..1, chunk by chunk, on the CPU.

        For a model of another range, images and reconstructions are converted. `labels`: (N,), for
        a model that asks for them. `noise`: (N, ...), of the latents.
        """
        given = labels_given(self.model, labels)
        parts = [
            _on_cpu(
                self.model(
                    self._given(images[rows]),
                    None if noise is None else noise[rows].to(self.device),
                    *(each[rows] for each in given),
                )
            )
            for rows in self._rows_of_chunks(images)
        ]
        return Output(
            to_unit(torch.cat([part.reconstruction for part in parts]), self._value_range),
            torch.cat([part.latent for part in parts]),
            joined(part.posterior for part in parts),
        )  # without `details`: logits of characters need 95 times the memory of the characters

    @torch.no_grad()
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean codes of images: (N, C, H, W) in 0..1 -> (N, ...), on the CPU."""
        given, encode = labels_given(self.model, labels), self.model.encode
        parts = [
            encode(self._given(images[rows]), *(each[rows] for each in given))  # type: ignore[operator]
            for rows in self._rows_of_chunks(images)
        ]
        return torch.cat([part.float().cpu() for part in parts])

    def codes_of(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """As `encode`, (N, D) float32, without a class that the model was told."""
        return code_of(self.encode(images, labels), self.posterior).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents (N, D) or (N, *latent shape): (N, C, H, W) in 0..1, not clamped."""
        shaped = latents.reshape(len(latents), *self.latents.shape[1:])
        made = self._chunked(self.model.decode, shaped)  # type: ignore[arg-type]
        return to_unit(made, self._value_range)

    @property
    def has_likelihood(self) -> bool:
        """Whether the model knows the likelihood of images, by `log_likelihood(latent, images)`."""
        return hasattr(self.model, "log_likelihood")

    @torch.no_grad()
    def log_likelihood(self, latents: Tensor, images: Tensor) -> Tensor:
        """ln p(image | latent) by the model, (N,) nats; images (N, C, H, W) in 0..1."""
        shaped = latents.reshape(len(latents), *self.latents.shape[1:])
        parts = [
            self.model.log_likelihood(  # type: ignore[operator]
                shaped[rows].to(self.device), self._given(images[rows])
            )
            for rows in self._rows_of_chunks(images)
        ]
        return torch.cat([part.cpu() for part in parts])

    def _rows_of_chunks(self, values: Tensor) -> list[slice]:
        return [slice(start, start + self._chunk) for start in range(0, len(values), self._chunk)]

    def _given(self, images: Tensor) -> Tensor:
        """Images in 0..1 as model input: a copy in its range and on its device."""
        return from_unit(images, self._value_range).to(self.device, copy=True)

    @torch.no_grad()
    def _chunked(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        parts = torch.split(values, self._chunk)
        return torch.cat(
            [function(part.to(self.device, copy=True)).float().cpu() for part in parts]
        )


def _rows_of(images: Images, labels: Tensor | None, number: int, names: tuple[str, ...]) -> Images:
    """The images of one class, with the common numbering of their labels."""
    rows = (
        torch.zeros(0, dtype=torch.int64) if labels is None else (labels == number).nonzero()[:, 0]
    )
    files = images.file_names
    return replace(
        images,
        pixels=images.pixels[rows],
        labels=torch.full((len(rows),), number, dtype=torch.int64),
        facts={**images.facts, "label_names": names},
        file_names=tuple(files[row] for row in rows.tolist()) if files else (),
    )


def normal_of(generator: torch.Generator) -> Callable[[tuple[int, ...]], Tensor]:
    """A function that draws standard normal numbers of a given shape from `generator`."""
    return lambda shape: torch.randn(shape, generator=generator)


def flat(latents: Tensor) -> Tensor:
    """Flattens latents, (N, ...) -> (N, D) float32."""
    return latents.reshape(len(latents), -1).float()


def need_finite(values: Tensor, what: str) -> None:
    """Checks that all values are finite.

    Args:
        values: (N, ...).
        what: name of the values, for the message.

    Raises:
        ConfigError: some are not; the message has their number.
    """
    # Counts rows, not single values: the message speaks of images.
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
        changed(output.posterior, on_cpu),
    )
