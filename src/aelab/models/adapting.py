"""Any `nn.Module` as a model; counting, and facts that need no data."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.errors import AelabError, ConfigError, ShapeError
from aelab.findings import Finding
from aelab.models.dry_run import DryRun, asks_for_values, count_outputs, failing_layer
from aelab.models.reshaping import DepthToSpace, Reshape, UnflattenPixels
from aelab.models.shapes import image_shape, shape_words
from aelab.types import Output, TermSpec

_FITTING = "encoder and decoder must be built for the shape of the train_set"


class Adapted(nn.Module):
    """A module that returns a tensor, dressed as a model.

    Args:
        module: images (B, C, H, W) to a tensor of the same shape, or to a tuple that starts with
            it, or to an `Output`. Its `encode`/`decode` methods or `encoder`/`decoder` children
            are used where there are any.
    """

    noise_shape: tuple[int, ...] | None = None
    terms: tuple[TermSpec, ...] = ()

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W) -> the module's `Output`, or one with an empty latent; `noise` is unused."""
        result = self.module(images)
        if isinstance(result, Output):
            return result
        if isinstance(result, (tuple, list)):
            result = result[0]
        if not isinstance(result, Tensor):
            raise ConfigError(
                f"the model {type(self.module).__name__} must return a tensor, or a tuple that "
                f"starts with one, not {type(result).__name__}"
            )
        # Which inner tensor is the latent is not known; an empty one says so.
        return Output(result, result.reshape(result.shape[0], -1)[:, :0])

    def encode(self, images: Tensor) -> Tensor:
        """The latent, by the module's own `encode` or `encoder`."""
        latent: Tensor = self._own("encode", "encoder")(images)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images, by the module's own `decode` or `decoder`."""
        images: Tensor = self._own("decode", "decoder")(latent)
        return images

    def _own(self, method: str, child: str) -> Any:
        function = getattr(self.module, method, None) or getattr(self.module, child, None)
        if function is None:
            raise ConfigError(
                f"the model {type(self.module).__name__} has neither {method}() nor {child}",
                hint="build it as EncoderDecoder(encoder, decoder)",
            )
        return function


def as_model(module: nn.Module, shape: Sequence[int] | None = None) -> nn.Module:
    """`module` itself if it keeps the contract of `types.Model`, else wrapped in `Adapted`.

    Args:
        module: any module of images to images.
        shape: (C, H, W); if given, the model is tried with images of this shape on the meta
            device, which computes nothing.

    Raises:
        ConfigError: `module` is no `nn.Module`.
        ShapeError: the model does not return images of `shape`.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"a model must be an nn.Module, not {type(module).__name__}",
            hint="the last line of the block must be the model",
        )
    wanted = ("noise_shape", "terms", "encode", "decode")
    model = module if all(hasattr(module, name) for name in wanted) else Adapted(module)
    if shape is not None:
        model_facts(model, shape)
    return model


class ModelFacts(NamedTuple):
    """What can be said of a model without computing.

    Attributes:
        latent_shape: of one image, () where the model does not tell.
        flops_per_image: of one forward pass as in training, multiplication and addition counted
            as two; a training step costs about three times as much.
        parameters: `count_parameters`.
        findings: `model_notes`.
    """

    latent_shape: tuple[int, ...]
    flops_per_image: int
    parameters: dict[str, int]
    findings: tuple[Finding, ...] = ()


class Trial(NamedTuple):
    """What a model made of two images on the meta device.

    Attributes:
        images: (2, C, H, W), and `output` for them; an objective can be tried with both.
        flops: of this forward pass, multiplication and addition counted as two; with the noise of
            training, as some models decode several latents then.
        activations: numbers that the innermost layers gave.
    """

    images: Tensor
    output: Output
    flops: int
    activations: int


def try_model(model: nn.Module, shape: Sequence[int], device: str = "meta") -> Trial:
    """Runs the model in evaluation mode on the meta device, where nothing is computed.

    Args:
        model: on any device; it is left as it is.
        shape: (C, H, W) of the images.
        device: `cpu` for models that need the values of their images, which are then random.

    Raises:
        ShapeError: the model cannot process such images, or returns another shape.
    """
    shape = image_shape(shape, "the images")
    there = _is_on_meta(model) and device == "meta"
    trial = model if there else copy.deepcopy(model).to(device)
    images = (torch.empty if device == "meta" else torch.rand)(2, *shape, device=device)
    noise_shape = getattr(model, "noise_shape", None)
    noise = () if noise_shape is None else (torch.randn(2, *noise_shape, device=device),)
    counter = DryRun()
    try:
        with torch.no_grad(), _evaluating(trial), counter:
            output, activations = count_outputs(trial, lambda: trial(images, *noise))
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
    return Trial(images, output, counter.flops, activations)


#: Activations that bound what they give.
_BOUNDED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.ReLU: (0.0, math.inf),
    nn.Softplus: (0.0, math.inf),
    nn.ReLU6: (0.0, 6.0),
}
_SHAPES_ONLY = (
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
    """The activation that a model's images come from, and what it can give; None: nothing bounds.

    Args:
        model: on any device.
        shape: (C, H, W) of the images.
    """
    trial = copy.deepcopy(model).to("meta")
    called: list[nn.Module] = []
    leaves = [module for module in trial.modules() if not list(module.children())]
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, *_: called.append(module))
    try:
        with torch.no_grad(), _evaluating(trial):
            trial(torch.empty(2, *shape, device="meta"))
    except Exception:  # a model that needs values, which there are none of here
        return None
    last = next((m for m in reversed(called) if not isinstance(m, _SHAPES_ONLY)), None)
    if last is None or type(last) not in _BOUNDED:
        return None
    return type(last).__name__, _BOUNDED[type(last)]


def refused_batch(model: nn.Module, shape: Sequence[int], size: int) -> str:
    """Which layer refuses a training batch of `size` images for its statistics; empty for none.

    Normalisations by the batch (`BatchNorm1d`, `BatchNorm2d` on maps of one pixel) need more than
    one value a channel. Tried in training mode on the meta device; the model is left as it is.

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
        except Exception:  # training may need values, which there are none of here
            return ""
    return ""


def _is_on_meta(model: nn.Module) -> bool:
    """Whether nothing of the model has values, so that a trial cannot change it."""
    return all(t.is_meta for t in (*model.parameters(), *model.buffers()))


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def model_facts(model: nn.Module, shape: Sequence[int], trial: Trial | None = None) -> ModelFacts:
    """What is known of the model with images of `shape` (C, H, W).

    Args:
        trial: of `try_model`, where that was done before.

    Raises:
        ShapeError: the model cannot process such images, or returns another shape.
    """
    trial = trial or try_anywhere(model, shape)
    latent_shape = tuple(trial.output.latent.shape[1:])
    return ModelFacts(
        latent_shape if math.prod(latent_shape) else (),
        trial.flops // len(trial.images),
        count_parameters(model),
        model_notes(model),
    )


def try_anywhere(model: nn.Module, shape: Sequence[int]) -> Trial:
    """`try_model` on the meta device; of a model that needs values of images, on the CPU."""
    try:
        return try_model(model, shape)
    except Exception as error:
        if _is_on_meta(model) or not asks_for_values(error):
            raise
    return try_model(model, shape, "cpu")


def model_notes(model: nn.Module) -> tuple[Finding, ...]:
    """What a reader of the results must know of the model: every module's `note`, each once.

    A module says it by an attribute `note: str`, of the class or of the instance.
    """
    notes = (getattr(module, "note", None) for module in model.modules())
    texts = dict.fromkeys(note for note in notes if isinstance(note, str) and note)
    return tuple(Finding("note", "model-note", text) for text in texts)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Numbers that training may change or that are frozen, each tensor once.

    Returns:
        `model`, `encoder` (with reading and bottleneck) and `decoder`; 0 where there is no such
        part.
        Where encoder and decoder share weights, they sum to more than `model`.
    """
    inner = model.module if isinstance(model, Adapted) else model
    encoder = [getattr(inner, name, None) for name in ("reading", "encoder", "bottleneck")]
    return {
        "model": _count([model]),
        "encoder": _count(encoder),
        "decoder": _count([getattr(inner, "decoder", None)]),
    }


def _count(modules: Sequence[Any]) -> int:
    parameters = {
        id(parameter): parameter.numel()
        for module in modules
        if isinstance(module, nn.Module)
        for parameter in module.parameters()
    }
    return sum(parameters.values())


def prepare_layout(model: nn.Module, channels_last: bool = True) -> nn.Module:
    """Stores the convolutions' weights channels-last (or plain), in place; the values stay.

    Nothing else depends on the layout: the parts flatten pixel by pixel in every memory format, so
    checkpoints are the same and may be opened in either.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout)  # type: ignore[call-overload]
    return model
