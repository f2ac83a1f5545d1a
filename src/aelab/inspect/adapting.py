"""Adapts any `nn.Module` to the model interface; parameter counts and facts without data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.findings import Finding
from aelab.inspect.trials import Trial, try_anywhere
from aelab.types import Output, TermSpec


class Adapted(nn.Module):
    """Wraps a module that returns a tensor into the model interface.

    Args:
        module: maps images (B, C, H, W) to a tensor of the same shape, to a tuple that starts with
            it, or to an `Output`. Its methods `encode`/`decode` or children `encoder`/`decoder`
            are used if it has them, and its loss terms (`terms`, of `TermSpec`).
    """

    noise_shape: tuple[int, ...] | None = None

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        given = getattr(module, "terms", ())
        is_ours = isinstance(given, tuple | list) and all(isinstance(t, TermSpec) for t in given)
        self.terms: tuple[TermSpec, ...] = tuple(given) if is_ours else ()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W) -> the module's `Output`, or one with its latent; `noise` is unused.

        The latent is what the child `encoder` returned on the way, if the module also has a
        `decoder`; else it is empty, because it is unknown which inner tensor it is.
        """
        passed: list[Any] = []
        with self._watched(passed):
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
        latent = _only_latent(passed, len(result))
        nothing = result.reshape(result.shape[0], -1)[:, :0]  # (B, 0)
        return Output(result, nothing if latent is None else latent)

    @contextmanager
    def _watched(self, passed: list[Any]) -> Iterator[None]:
        """Context manager: appends what the child `encoder` returns to `passed`."""
        encoder, decoder = (getattr(self.module, name, None) for name in ("encoder", "decoder"))
        if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module):
            yield
            return
        handle = encoder.register_forward_hook(lambda _, given, made: passed.append(made))
        try:
            yield
        finally:
            handle.remove()

    def encode(self, images: Tensor) -> Tensor:
        """The latent, by the module's `encode` or `encoder`."""
        latent: Tensor = self._own("encode", "encoder")(images)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images, by the module's `decode` or `decoder`."""
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


def _only_latent(passed: list[Any], count: int) -> Tensor | None:
    """The latent among what an encoder returned: of one call, (B, ...) and of floats; else None."""
    if len(passed) != 1:
        return None
    latent = passed[0][0] if isinstance(passed[0], (tuple, list)) and passed[0] else passed[0]
    if not isinstance(latent, Tensor) or latent.ndim < 2 or len(latent) != count:
        return None
    return latent if latent.is_floating_point() else None


def as_model(module: nn.Module, shape: Sequence[int] | None = None) -> nn.Module:
    """`module` itself if it has the interface of `types.Model`, else wrapped in `Adapted`.

    Args:
        module: any module that maps images to images.
        shape: (C, H, W); if given, the model is tried with images of this shape on the meta
            device, which computes nothing.

    Raises:
        ConfigError: `module` is not an `nn.Module`, or it asks for noise that it would not get.
        ShapeError: the model does not return images of `shape`.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"a model must be an nn.Module, not {type(module).__name__}",
            hint="the last line of the block must be the model",
        )
    missing = [
        name for name in ("noise_shape", "terms", "encode", "decode") if not hasattr(module, name)
    ]
    if missing and getattr(module, "noise_shape", None) is not None:
        raise ConfigError(
            f"the model {type(module).__name__} asks for noise (noise_shape), but it has no "
            f"{' and no '.join(missing)}, so it would be trained without noise",
            hint="give it encode(images), decode(latent) and terms (a tuple, () for none)",
        )
    model = Adapted(module) if missing else module
    if shape is not None:
        model_facts(model, shape)
    return model


class ModelFacts(NamedTuple):
    """Facts about a model that need no computation.

    Attributes:
        latent_shape: of one image; () if unknown.
        flops_per_image: of one forward pass as in training; a multiplication and an addition
            count as two. A training step costs about three times as much.
        flops_per_batch: what a batch of any size costs besides.
        parameters: `count_parameters`.
        findings: `model_notes`.
    """

    latent_shape: tuple[int, ...]
    flops_per_image: int
    parameters: dict[str, int]
    findings: tuple[Finding, ...] = ()
    flops_per_batch: int = 0


def model_facts(model: nn.Module, shape: Sequence[int], trial: Trial | None = None) -> ModelFacts:
    """The facts about a model for images of `shape` (C, H, W).

    Args:
        trial: result of `try_model`, if there is one already.

    Raises:
        ShapeError: the model cannot process such images, or returns another shape.
    """
    trial = trial or try_anywhere(model, shape)
    latent_shape = tuple(trial.output.latent.shape[1:])
    return ModelFacts(
        latent_shape if math.prod(latent_shape) else (),
        (trial.flops - trial.once[0]) // len(trial.images),
        count_parameters(model),
        model_notes(model),
        trial.once[0],
    )


def model_notes(model: nn.Module) -> tuple[Finding, ...]:
    """Notes of a model for readers of its results: the `note` of every module, each once.

    A module has an attribute `note: str`, of the class or of the instance.
    """
    notes = (getattr(module, "note", None) for module in model.modules())
    texts = dict.fromkeys(note for note in notes if isinstance(note, str) and note)
    return tuple(Finding("note", "model-note", text) for text in texts)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Counts parameters, trained or frozen, each tensor once.

    Returns:
        `model`, `encoder` (with reading and bottleneck) and `decoder`; 0 for a missing part. If
        encoder and decoder share weights, their sum is larger than `model`.
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
