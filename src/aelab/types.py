"""What rooms hand to each other. Imports nothing of the house but media and posteriors.

Shape letters used in every docstring:
    B batch, C channels, H height, W width, D latent size, N images in a set, K stacked runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from aelab.errors import ShapeError
from aelab.medium import PIXELS, Medium
from aelab.posteriors import Deterministic, Posterior


class Output(NamedTuple):
    """What a model returns; a pytree, so that it survives `torch.func.vmap`.

    Attributes:
        reconstruction: (B, C, H, W), nominally 0..1, not clamped.
        latent: what the decoder was given, (B, D) or any (B, ...).
        posterior: what the bottleneck knows of the latent, a named tuple of tensors, each (B, ...);
            its methods say what it can do, see `aelab.posteriors`. `Deterministic()` of a plain
            autoencoder.
        details: what losses of the model's medium compare, by name, each (B, ...) with gradient,
            where the reconstruction itself has none; empty where it has one.
    """

    reconstruction: Tensor
    latent: Tensor
    posterior: Posterior = Deterministic()
    details: dict[str, Tensor] = {}  # noqa: RUF012  # nobody writes into it


class TermSpec(NamedTuple):
    """One wished-for term of an objective, in plain words; `losses` makes the formula from it.

    Attributes:
        name: how the term is called in metrics and tables, for instance `l1` or `kl`.
        formula: a name known to `losses`, or a callable: `(reconstruction, target) -> Tensor`, or
            as a penalty `(output) -> Tensor`, (B,).
        weight: factor in the total.
        options: keyword arguments of the formula (reduction, free_bits_nats, warmup_images, ...).
        kind: what a callable is given; a name says that itself.
    """

    name: str
    formula: str | Callable[..., Tensor]
    weight: float = 1.0
    options: Mapping[str, Any] = {}
    kind: Literal["reconstruction", "penalty"] = "reconstruction"


@runtime_checkable
class Model(Protocol):
    """What training needs of a model. Any `nn.Module` is adapted by `inspect.as_model`.

    `noise_shape` is the shape of one image's noise, None where the model needs none.
    `terms` are the terms the model wishes for; empty lets the file's `loss_function` decide.
    """

    noise_shape: tuple[int, ...] | None
    terms: tuple[TermSpec, ...]

    def __call__(self, images: Tensor, noise: Tensor | None = None) -> Output: ...

    def encode(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 -> the latent without noise, (B, *latent shape)."""

    def decode(self, latent: Tensor) -> Tensor:
        """The latent, (B, *latent shape) -> images (B, C, H, W)."""


#: A random change of a batch: (images (B, C, H, W) float 0..1, generator) -> same layout.
Augment = Callable[[Tensor, torch.Generator], Tensor]


#: What black and white are: one number, or one a channel.
Bound = float | tuple[float, ...]
ValueRange = tuple[Bound, Bound]


class Provenance(NamedTuple):
    """Where images came from, so that nothing is silently substituted.

    Attributes:
        name: data set name, for instance `mnist`.
        source: path, download address or the word `generated`.
        count: number of images.
        sha256: of the decoded source content (before resizing), hexadecimal.
        note: what a reader of a comparison must know, for instance "not the author's tiles".
        left_out: (reason, how many, the first names) of files that were there and are not in it.
    """

    name: str
    source: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    sha256: str
    note: str = ""
    left_out: tuple[tuple[str, int, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Images:
    """A loaded image set: one tensor near the compute.

    Attributes:
        pixels: (N, C, H, W) uint8 0..255, or float32 0..1 where a per-sample function made it so;
            a numpy array becomes a tensor. May be memory-mapped.
        labels: (N,) int64 or None.
        augment: random batch changes applied in this order in training.
        provenance: one entry a source.
        content_sha256: of `pixels` after resizing: equal hash means equal training images.
        medium: what `pixels` number: brightness, or the elements of another medium, see
            `aelab.medium`.
        value_range: what black and white are in float images as a model is given them, after
            `augment`; bytes are given as 0..1. `ops.value_range` brings images to 0..1 by it.
        file_names: N names, one an image, of the files that they are from; () where no image is
            from a file of its own. A tile has the name of its sheet and its number.
    """

    pixels: Tensor
    labels: Tensor | None = None
    augment: tuple[Augment, ...] = ()
    provenance: tuple[Provenance, ...] = ()
    content_sha256: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    medium: Medium = PIXELS
    value_range: ValueRange = (0.0, 1.0)
    file_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Whoever has a numpy array means it as a tensor; batches and measures need one.
        for name in ("pixels", "labels"):
            given = getattr(self, name)
            if type(given).__module__ == "numpy":
                object.__setattr__(self, name, torch.as_tensor(given.copy()))
            elif not isinstance(given, Tensor) and not (name == "labels" and given is None):
                raise ShapeError(
                    f"{name} of Images must be a tensor, not {type(given).__name__}",
                    hint="pixels are (N, C, H, W), uint8 or float in 0..1; labels (N,) int64",
                )

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes by their number; () where they have none.

        They are one of the `facts`, which every change of a set hands on, and hold for the whole
        source: a class keeps its number where this part of the set has no image of it.
        """
        return tuple(str(name) for name in self.facts.get("label_names") or ())

    @property
    def class_names(self) -> tuple[str, ...]:
        """N names, one an image, of its class: its number where it has no name; () without labels.

        Labels that are no whole numbers are no classes.
        """
        labels, names = self.labels, self.label_names
        if labels is None or labels.numel() != len(labels) or labels.is_floating_point():
            return ()
        numbers = labels.reshape(-1).tolist()
        return tuple(names[n] if 0 <= n < len(names) else str(n) for n in numbers)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) as a model sees it: a random crop makes it smaller than `pixels`."""
        shape = tuple(self.pixels.shape[1:])
        for change in self.augment:
            after = getattr(change, "shape_after", None)
            shape = after(shape) if after is not None else shape
        channels, height, width = shape
        return channels, height, width
