"""One pass of a batch through a model and its objective, without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, Where
from aelab.ops.labels import labels_given
from aelab.posteriors import changed
from aelab.settings import FitSettings
from aelab.train.guard.coming_in import no_output
from aelab.train.mode import mode_of
from aelab.types import Encoding, Output


class Batch(NamedTuple):
    """What one pass needs of B images.

    Attributes:
        inputs, target: (B, C, H, W).
        noise: of the latents, (B, *model.noise_shape); None for their means.
        labels: (B,) int64, for a model that asks for them (`aelab.ops.labels`); else None.
        factors: (B, F) int64, for an objective that asks for them (`aelab.ops.factors`).
    """

    inputs: Tensor
    target: Tensor
    noise: Tensor | None = None
    labels: Tensor | None = None
    factors: Tensor | None = None

    @property
    def factors_given(self) -> tuple[Tensor, ...]:
        """The factors as a further argument of the objective; () if it does not ask for them."""
        return () if self.factors is None else (self.factors,)

    def part(self, rows: slice, axis: int = 0) -> Batch:
        """Some rows of the batch; with axis 1 those of K stacked batches."""
        return self.changed(lambda tensor: tensor[(slice(None),) * axis + (rows,)])

    def changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `change` applied to each tensor."""
        return Batch(*(None if tensor is None else change(tensor) for tensor in self))  # type: ignore[arg-type]


class ObjectiveLike(Protocol):
    """The interface of an objective in training.

    Called with an output, its target (B, C, H, W) and the images seen, it returns unweighted
    per-sample values (B,) by term; `total` returns their weighted sum (B,). Where weights
    change, a method `final_total(values)` returns the sum with the final weights. With the
    attribute `needs_factors` it is called with the images' factors (B, F) besides, with
    `needs_encoder` with an `Encoding` by name.

    An objective may bring players of its own, networks that learn beside the model. Then it has
    `players` (name -> network with `learning`), `meet(model, seed)`, which makes them, and
    `losses_of_players`, the names of their losses among the values.
    """

    def __call__(
        self, output: Output, target: Tensor, images_seen: int, *factors: Tensor, **more: Any
    ) -> Mapping[str, Tensor]: ...

    def total(self, values: Mapping[str, Tensor], images_seen: int) -> Tensor:
        """The weighted sum of the terms, per sample (B,)."""


class Task(NamedTuple):
    """The objective and the settings of one run."""

    objective: ObjectiveLike
    settings: FitSettings


class Losses(NamedTuple):
    """Losses of K runs over one batch, on the device.

    Attributes:
        terms: names of the T terms.
        sums: (K, 1 + T) float64, summed over images: the weighted total, then each term.
    """

    terms: list[str]
    sums: Tensor


def without_gradient(model: nn.Module, values: Mapping[str, Tensor]) -> ConfigError:
    """The error for a loss without gradient; clearer than torch's 'element 0 of tensors'."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return ConfigError(
            "the model has no weight to train: all are frozen, or it has none",
            hint="leave out .requires_grad_(False), or use layers with weights",
        )
    return ConfigError(
        f"the objective has no gradient: {', '.join(values)} "
        f"{'does' if len(values) == 1 else 'do'} not depend on the model's weights in a way that "
        "can be differentiated",
        hint="rounding, argmax, comparisons, detach() and item() have no gradient: leave them out "
        "of the loss, or add a term that has one, for instance objective: {l1: 1}",
        where=Where(key="loss_function"),
    )


def forward(
    model: Callable[..., Any],
    objective: ObjectiveLike,
    inputs: Tensor,
    target: Tensor,
    noise: Tensor | None,
    labels: Tensor | None = None,
    factors: Tensor | None = None,
    *,
    images_seen: int,
    bfloat16: bool = False,
) -> tuple[Output, Mapping[str, Tensor], Tensor]:
    """The output of a batch, its unweighted terms (B,) and their weighted total (B,), float32."""
    if bfloat16:
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            output = _called(model, inputs, noise, labels)
        # Losses are computed in float32: sums over many pixels lose too much in bfloat16.
        output = _as_float32(output)
    else:
        output = _called(model, inputs, noise, labels)
    # Objectives that do not ask for factors take three arguments only.
    known = () if factors is None else (factors,)
    more: dict[str, Any] = {}
    if getattr(objective, "needs_encoder", False):
        more["encoding"] = encoding_of(model, inputs, labels)
    values = objective(output, target, images_seen, *known, **more)
    return output, values, objective.total(values, images_seen)


def encoding_of(model: Any, inputs: Tensor, labels: Tensor | None = None) -> Encoding:
    """The inputs of a batch with the model's `encode`, in evaluation mode.

    Raises:
        ConfigError: called for several stacked runs, which have no encoder of their own.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            "a term of the encoder cannot be computed for several stacked runs at once",
            hint="train these runs one by one",
        )
    given = labels_given(model, labels)

    def encode(images: Tensor) -> Tensor:
        """The codes of images; nothing of the model changes."""
        # BatchNorm of a training batch would mix the slopes of its images.
        with mode_of(model, training=False):
            codes: Tensor = model.encode(images, *given)  # type: ignore[operator]
        return codes

    return Encoding(inputs, encode)


def _called(
    model: Callable[..., Any], inputs: Tensor, noise: Tensor | None, labels: Tensor | None
) -> Output:
    # Models that do not ask for labels take two arguments only.
    given = () if labels is None else (labels,)
    output = model(inputs, noise, *given)
    if isinstance(output, Output):
        return output
    raise no_output(model, output)


def loss_of_step(objective: ObjectiveLike, values: Mapping[str, Tensor], total: Tensor) -> Tensor:
    """What one step differentiates: the model's total and every player's own loss, summed.

    The losses share no weights that they have a gradient for, so that one backward pass gives each
    player the gradient of its own loss.
    """
    loss = total.sum()
    for name in getattr(objective, "losses_of_players", ()):
        loss = loss + values[name].sum()
    return loss


def sums_of(values: Mapping[str, Tensor], total: Tensor) -> Tensor:
    """Sums over the batch, (1 + T,) on the device: of the total, then of each term.

    float64, so that sums over many batches keep their digits; float32 on MPS, which lacks it.
    """
    with torch.no_grad():
        sums = torch.stack([total.sum(), *(value.sum() for value in values.values())])
        return sums if sums.device.type == "mps" else sums.double()


def _as_float32(output: Output) -> Output:
    return Output(
        output.reconstruction.float(),
        _widened(output.latent),
        changed(output.posterior, _widened),
        {name: value.float() for name, value in output.details.items()},
    )


def _widened(values: Tensor) -> Tensor:
    """The values as float32; integer tensors (indices) stay as they are."""
    return values.float() if values.is_floating_point() else values
