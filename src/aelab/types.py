"""Types that rooms exchange. Imports only errors, media and posteriors of aelab.

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
    """The output of a model; a pytree, so that it works inside of `torch.func.vmap`.

    Attributes:
        reconstruction: (B, C, H, W), nominally 0..1, not clamped.
        latent: input of the decoder, (B, D) or any (B, ...).
        posterior: the bottleneck's posterior, a named tuple of tensors, each (B, ...), whose
            methods are its features, see `aelab.posteriors`; `Deterministic()` for a plain
            autoencoder.
        details: tensors with gradient for losses of the model's medium, by name, each (B, ...), if
            the reconstruction itself has no gradient; else empty.
    """

    reconstruction: Tensor
    latent: Tensor
    posterior: Posterior = Deterministic()
    details: dict[str, Tensor] = {}  # noqa: RUF012  # nobody writes into it


class Encoding(NamedTuple):
    """What an encoder did to a batch, for penalties of the encoder itself.

    Attributes:
        images: the input of the model, (B, C, H, W).
        encode: images like these -> their codes (B, ...), without noise and in evaluation mode.
    """

    images: Tensor
    encode: Callable[[Tensor], Tensor]


class TermSpec(NamedTuple):
    """The specification of one loss term; `losses` makes the term from it.

    Attributes:
        name: of the term in metrics and tables, for instance `l1` or `kl`.
        formula: a name known to `losses`, or a callable: `(reconstruction, target) -> Tensor`, or
            as a penalty `(output) -> Tensor`, (B,).
        weight: factor in the total.
        options: keyword arguments of the formula (reduction, free_bits_nats, warmup_images, ...).
        kind: which arguments a callable takes; for a name it is known.
    """

    name: str
    formula: str | Callable[..., Tensor]
    weight: float = 1.0
    options: Mapping[str, Any] = {}
    kind: Literal["reconstruction", "penalty"] = "reconstruction"


@runtime_checkable
class Model(Protocol):
    """The interface of a model for training. Any `nn.Module` is adapted by `inspect.as_model`.

    `noise_shape` is the shape of one image's noise, or None if the model needs none.
    `terms` are the default loss terms; if empty, the file's `loss_function` is used.
    """

    noise_shape: tuple[int, ...] | None
    terms: tuple[TermSpec, ...]

    def __call__(self, images: Tensor, noise: Tensor | None = None) -> Output: ...

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images (B, C, H, W) in 0..1 to the latent without noise, (B, *latent shape)."""

    def decode(self, latent: Tensor) -> Tensor:
        """Decodes latents (B, *latent shape) to images (B, C, H, W)."""


#: A random change of a batch: (images (B, C, H, W) float 0..1, generator) -> same layout.
Augment = Callable[[Tensor, torch.Generator], Tensor]


#: A value of black or white: one number, or one per channel.
Bound = float | tuple[float, ...]
ValueRange = tuple[Bound, Bound]


class Provenance(NamedTuple):
    """The origin of images, so that nothing is substituted silently.

    Attributes:
        name: data set name, for instance `mnist`.
        source: path, download address or the word `generated`.
        count: number of images.
        sha256: of the decoded source content (before resizing), hexadecimal.
        note: a fact for readers of comparisons, for instance "not the author's tiles".
        left_out: (reason, number, first names) of files that were found but are not used.
    """

    name: str
    source: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    sha256: str
    note: str = ""
    left_out: tuple[tuple[str, int, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Images:
    """A loaded image set: one tensor of all images.

    Attributes:
        pixels: (N, C, H, W) uint8 0..255, or float32 0..1 if a per-sample function returned it; a
            numpy array becomes a tensor. May be memory-mapped.
        labels: (N,) int64 or None.
        augment: random batch changes, applied in this order in training.
        provenance: one entry for each source.
        content_sha256: of `pixels` after resizing: equal hash means equal training images.
        medium: meaning of the numbers in `pixels`: brightness, or the elements of another medium,
            see `aelab.medium`.
        value_range: values of black and white in the model's input, after `augment`; uint8 pixels
            count as 0..1. `ops.value_range` converts images to 0..1.
        file_names: N file names, one per image; () if images have no files. A tile has the name of
            its sheet and its number.
        factors: (N, F) int64, the value of each of F known factors, from 0; None if there are
            none. Their names and numbers of values are in `facts`.
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
    factors: Tensor | None = None

    def __post_init__(self) -> None:
        # numpy arrays are accepted, but batches and measures need tensors.
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
        """Names of the classes by number; () if they have none.

        They are stored in `facts`, which every change of a set keeps, and cover the whole source:
        a class keeps its number even if this part of the set has no image of it.
        """
        return tuple(str(name) for name in self.facts.get("label_names") or ())

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the known factors, in the order of the columns of `factors`; () without."""
        return tuple(str(name) for name in self.facts.get("factor_names") or ())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class name of each image, or its number if it has no name; () without labels.

        Labels that are not whole numbers are not classes.
        """
        labels, names = self.labels, self.label_names
        if labels is None or labels.numel() != len(labels) or labels.is_floating_point():
            return ()
        numbers = labels.reshape(-1).tolist()
        return tuple(names[n] if 0 <= n < len(names) else str(n) for n in numbers)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the model's input: a random crop makes it smaller than `pixels`."""
        shape = tuple(self.pixels.shape[1:])
        for change in self.augment:
            after = getattr(change, "shape_after", None)
            shape = after(shape) if after is not None else shape
        channels, height, width = shape
        return channels, height, width
