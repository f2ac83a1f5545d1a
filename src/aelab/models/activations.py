"""Activations and normalisations by name, class or object."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import activation as _torch_activations

from aelab.errors import ConfigError, did_you_mean, one_of

Activation = nn.Module | type[nn.Module] | str | Callable[[Tensor], Tensor] | None

# Not available by name: these need arguments, or change the number of channels.
_NEED_MORE = frozenset(
    {"GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "Threshold"}
)

_CLASSES: dict[str, type[nn.Module]] = {
    name.lower(): getattr(_torch_activations, name)
    for name in _torch_activations.__all__
    if name not in _NEED_MORE
} | {"identity": nn.Identity}

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "abs": torch.abs,
    "square": torch.square,
    "atan": torch.atan,
}

#: Every activation that a file may name (letter case does not matter).
ACTIVATIONS: tuple[str, ...] = tuple(sorted({*_CLASSES, *_FUNCTIONS, "none"}))

# Their backward pass needs only the result, so they may overwrite the layer's output.
_IN_PLACE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)


class Function(nn.Module):
    """Wraps a function of one tensor as a module.

    Args:
        function: applied to the input; its name is shown in the printed model.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return self.function(x)

    def extra_repr(self) -> str:
        """The function's name, for `print(model)`."""
        return getattr(self.function, "__name__", repr(self.function))


def make_activation(activation: Activation, *, in_place: bool = False) -> nn.Module | None:
    """Makes an activation module from a name, class, module or function; None and `"none"`: None.

    Args:
        activation: a module is used unchanged; a name is looked up in `ACTIVATIONS`.
        in_place: whether to overwrite the input where this is safe for the gradient; saves one
            copy of the feature map. Only for inputs without other uses, such as a layer's output.

    Raises:
        ConfigError: unknown name, or a class that needs arguments.
    """
    if activation is None or isinstance(activation, nn.Module):
        return activation
    if isinstance(activation, str):
        name = activation.lower().replace("_", "")  # leaky_relu as well as LeakyReLU
        if name == "none":
            return None
        if name in _FUNCTIONS:
            return Function(_FUNCTIONS[name])
        if name not in _CLASSES:
            raise ConfigError(
                f"unknown activation {activation!r}{did_you_mean(name, ACTIVATIONS)}",
                hint=f"possible: {one_of(ACTIVATIONS)}",
            )
        activation = _CLASSES[name]
    if isinstance(activation, type):
        return _make_from_class(activation, in_place)
    if callable(activation):
        return Function(activation)
    raise ConfigError(f"an activation must be a name, class, module or None, not {activation!r}")


def _make_from_class(activation: type[nn.Module], in_place: bool) -> nn.Module:
    if in_place and activation in _IN_PLACE:
        return activation(inplace=True)
    try:
        return activation()
    except TypeError as error:
        raise ConfigError(
            f"the activation {activation.__name__} needs arguments: {error}"
        ) from None


class RMSNorm(nn.RMSNorm):
    """torch's, which keeps its fused kernel in bfloat16.

    Under autocast the input is bfloat16 and the factors are float32; torch then leaves the fused
    kernel, with a warning. Cast to the type of the input they cost nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., *normalized_shape) -> the same shape and type."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


_NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "bn1d": nn.BatchNorm1d,
    "bn2d": nn.BatchNorm2d,
    "batchnorm1d": nn.BatchNorm1d,
    "batchnorm2d": nn.BatchNorm2d,
    "instancenorm2d": nn.InstanceNorm2d,
    "layernorm": nn.LayerNorm,
    "rms": RMSNorm,
    "rmsnorm": RMSNorm,
}

#: Every normalisation that a file may name (letter case does not matter).
NORMALIZATIONS: tuple[str, ...] = tuple(sorted({*_NORMALIZATIONS, "none"}))


def make_normalization(name: str | None, num_features: int) -> nn.Module | None:
    """A normalisation layer over `num_features` channels; None and `"none"` give None.

    Raises:
        ConfigError: unknown name.
    """
    if name is None or name.lower() == "none":
        return None
    if name.lower() not in _NORMALIZATIONS:
        raise ConfigError(
            f"unknown normalisation {name!r}{did_you_mean(name.lower(), NORMALIZATIONS)}",
            hint=f"possible: {one_of(NORMALIZATIONS)}",
        )
    return _NORMALIZATIONS[name.lower()](num_features)
