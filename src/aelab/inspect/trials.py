"""Runs a model on a few images, without changing its mode or buffers."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook

from aelab.errors import AelabError, ShapeError
from aelab.inspect.dry_run import DryRun, asks_for_values, count_outputs, failing_layer
from aelab.models.reshaping import DepthToSpace, Reshape, UnflattenPixels
from aelab.models.shapes import image_shape, shape_words
from aelab.ops.layers import leaves
from aelab.types import Output

_FITTING = "encoder and decoder must be built for the shape of the train_set"


class Trial(NamedTuple):
    """The result of running a model on two images on the meta device.

    Attributes:
        images, output: images (2, C, H, W) and their output; an objective can be tried with both.
        flops: of this forward pass; a multiplication and an addition count as two. With noise as
            in training, because some models then decode several latents per image.
        activations: total size of the outputs of the innermost layers.
        once: the part of `flops` and of `activations` that a batch of any size costs once.
    """

    images: Tensor
    output: Output
    flops: int
    activations: int
    once: tuple[int, int] = (0, 0)


def try_model(model: nn.Module, shape: Sequence[int], device: str = "meta") -> Trial:
    """Runs the model in evaluation mode on the meta device, which computes nothing.

    Args:
        model: on any device; it is not changed.
        shape: (C, H, W) of the images.
        device: `cpu` for models that need real values; images are then random.

    Raises:
        ShapeError: the model cannot process such images, or returns another shape.
    """
    shape = image_shape(shape, "the images")
    there = _is_on_meta(model) and device == "meta"
    trial = model if there else copy.deepcopy(model).to(device)
    noise_shape = getattr(model, "noise_shape", None)

    def inputs(count: int) -> list[Tensor]:
        """Images and noise for a forward pass."""
        images = (torch.empty if device == "meta" else torch.rand)(count, *shape, device=device)
        draws = [] if noise_shape is None else [torch.randn(count, *noise_shape, device=device)]
        return [images, *draws]

    def counted(given: list[Tensor]) -> tuple[Output, int, int]:
        """The output, the FLOPs and the activations of a forward pass."""
        counter = DryRun()
        with torch.no_grad(), _evaluating(trial), counter:
            output, activations = count_outputs(trial, lambda: trial(*given))
        return output, counter.flops, activations

    images, *noise = inputs(2)
    once = (0, 0)
    try:
        output, flops, activations = counted([images, *noise])
        if getattr(model, "works_once_a_batch", False):
            _, more_flops, more_activations = counted(inputs(3))
            once = 3 * flops - 2 * more_flops, 3 * activations - 2 * more_activations
    except AelabError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        with torch.no_grad(), _evaluating(trial):
            layer = failing_layer(trial, lambda: trial(images, *noise))
        raise ShapeError(
            f"the model cannot process {shape_words(shape)} images: "
            f"{layer}{str(error).splitlines()[0]}",
            hint=_FITTING,
        ) from error
    if output.reconstruction.shape != images.shape:
        raise ShapeError(
            f"the model makes {shape_words(output.reconstruction.shape[1:])} of "
            f"{shape_words(shape)} images",
            hint=_FITTING,
        )
    return Trial(images, output, flops, activations, once)


#: Activations with bounded output.
_BOUNDED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.ReLU: (0.0, math.inf),
    nn.Softplus: (0.0, math.inf),
    nn.ReLU6: (0.0, 6.0),
}
SHAPES_ONLY = (
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.PixelShuffle,
    Reshape,
    UnflattenPixels,
    DepthToSpace,
)


def bounded_output(
    model: nn.Module, shape: Sequence[int]
) -> tuple[str, tuple[float, float]] | None:
    """The name and range of the activation that bounds a model's output; None: it is unbounded.

    Args:
        model: on any device.
        shape: (C, H, W) of the images.
    """
    trial = copy.deepcopy(model).to("meta")
    called: list[nn.Module] = []
    for _, leaf in leaves(trial):
        leaf.register_forward_hook(lambda module, *_: called.append(module))
    try:
        with torch.no_grad(), _evaluating(trial):
            trial(torch.empty(2, *shape, device="meta"))
    except Exception:  # the model needs real values, which the meta device does not have
        return None
    last = next((m for m in reversed(called) if not isinstance(m, SHAPES_ONLY)), None)
    if last is None or type(last) not in _BOUNDED:
        return None
    return type(last).__name__, _BOUNDED[type(last)]


def refused_batch(model: nn.Module, shape: Sequence[int], size: int) -> str:
    """The layer that rejects a training batch of `size` images; empty if none does.

    Batch normalisation (`BatchNorm1d`, `BatchNorm2d` on maps of one pixel) needs more than one
    value per channel. Tried in training mode on the meta device; the model is not changed.

    Args:
        model: on any device.
        shape: (C, H, W) of the images.
        size: B.
    """
    trial = copy.deepcopy(model).to("meta")
    images = torch.empty(size, *shape, device="meta")
    noise_shape = getattr(model, "noise_shape", None)
    noise = () if noise_shape is None else (torch.empty(size, *noise_shape, device="meta"),)
    trial.train()
    with torch.no_grad():
        try:
            trial(images, *noise)
        except ValueError as error:
            if "Expected more than 1" in str(error):
                layer = failing_layer(trial, lambda: trial(images, *noise))
                return layer.removeprefix("in ").removesuffix(": ") or "the model"
        except Exception:  # training may need real values, which the meta device does not have
            return ""
    return ""


def _is_on_meta(model: nn.Module) -> bool:
    """Whether the whole model is on the meta device, so that a trial cannot change its values."""
    return all(t.is_meta for t in (*model.parameters(), *model.buffers()))


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Context manager: evaluation mode; restores each module's mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def try_anywhere(model: nn.Module, shape: Sequence[int]) -> Trial:
    """`try_model` on the meta device; on the CPU for a model that needs real values."""
    try:
        return try_model(model, shape)
    except Exception as error:
        if _is_on_meta(model) or not asks_for_values(error):
            raise
    return try_model(model, shape, "cpu")


@contextlib.contextmanager
def harmless_probes() -> Iterator[None]:
    """Context manager: restores the running statistics of normalisations after forward passes.

    Old files find a shape by passing an empty batch through an encoder in training mode. This would
    mix the statistics of that batch into the (pretrained) ones. Inside, values are those of
    training mode; afterwards all buffers are restored.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    seen: set[nn.Module] = set()

    def keep(module: nn.Module, inputs: Any) -> None:
        """Copies the buffers of a normalisation when it is first used."""
        if isinstance(module, _NormBase) and module not in seen:
            seen.add(module)
            kept.extend((buffer, buffer.clone()) for buffer in module.buffers())

    hook = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
