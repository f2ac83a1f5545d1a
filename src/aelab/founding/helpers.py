"""Small functions that blocks of old files call besides building models."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.losses.soft_counts import check_bins, soft_histogram
from aelab.models.activations import Activation, make_activation
from aelab.ops.color import convert_channels

#: Methods that `dump_module_stacktrace` may call.
_COMPUTING = ("forward", "encode", "decode")

#: Tables shown before: the runs of a matrix build the same model many times.
_shown: set[str] = set()


class ResidualAdd(nn.Module):
    """x + module(x).

    Args:
        module: any shape -> the same shape.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"module"})

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        y: Tensor = x + self.module(x)
        return y


class HistogramLayer(nn.Module):
    """How many values of an image are in each bin, with soft edges (`soft_histogram`).

    Args:
        bins: of equal width between `min` and `max`.
        min, max: bounds.
        sigma: steepness of the edges.

    Raises:
        ConfigError: no bin, an empty range, or a sigma that is not above 0.
    """

    def __init__(self, bins: int, min: float, max: float, sigma: float = 100.0) -> None:
        super().__init__()
        check_bins(bins, min, max, sigma)
        self.bins, self.min, self.max, self.sigma = bins, float(min), float(max), float(sigma)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, bins) counts."""
        return soft_histogram(x, self.bins, self.min, self.max, self.sigma)

    def extra_repr(self) -> str:
        """The arguments, for `print(model)`."""
        return f"bins={self.bins}, min={self.min}, max={self.max}, sigma={self.sigma}"


class PixelsToChannels(nn.PixelUnshuffle):
    """`nn.PixelUnshuffle`, with a message for images whose sizes cannot be divided."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C * factor ** 2, H / factor, W / factor).

        Raises:
            ShapeError: H or W is no multiple of the factor.
        """
        height, width = input.shape[-2:]
        factor = self.downscale_factor
        if height % factor or width % factor:
            raise ShapeError(
                f"{height}x{width} values cannot be made {factor} times smaller: both must be "
                f"multiples of {factor}",
                hint="use images of another size",
            )
        return super().forward(input)


def per_layer(value: Any, count: int, name: str) -> list[Any]:
    """One value for each layer, from one value or a list of them.

    Args:
        value: a list or tuple is taken as it is; anything else is for every layer.
        count: number of layers.
        name: of the argument, for the message.

    Raises:
        ConfigError: a list of another length.
    """
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ConfigError(
            f"{name} has {len(value)} values for {count} layers",
            hint=f"give one value, or {count}",
        )
    return list(value)


def chain(layers: Iterable[nn.Module | None]) -> nn.Sequential:
    """The layers in their order; None is left out, as where there is no activation."""
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def activation_to_module(activation: Activation) -> nn.Module | None:
    """A module from a name, class, module or function; None and `"none"` give None.

    Args:
        activation: names are those of every `act_fn=`, in any letter case.

    Raises:
        ConfigError: unknown name.
    """
    return make_activation(activation)


def set_image_channels(image: Tensor, channels: int) -> Tensor:
    """Images with 1 or 3 channels: grey by luma, colour by repetition; a fourth is dropped.

    Args:
        image: (H, W) or (..., C, H, W).
        channels: wanted number of channels.

    Returns:
        (..., channels, H, W).

    Raises:
        ConfigError: `channels` is not 1, 3, or the present number.
    """
    image = image.unsqueeze(0) if image.ndim == 2 else image
    if channels == image.shape[-3]:
        return image
    if channels not in (1, 3):
        raise ConfigError(f"set_image_channels: cannot make {channels} channels; possible: 1, 3")
    kept = {2: 1, 4: 3}.get(image.shape[-3], image.shape[-3])
    return convert_channels(image[..., :kept, :, :], channels)


def random_combine_image_crops(
    images: Tensor,
    ratio: float = 0.5,
    crop_ratio: float | Sequence[float] = 0.5,
    alpha: float | Sequence[float] = 1.0,
) -> Tensor:
    """Pastes a random crop of another image of the batch into some images.

    Random numbers come from torch's default generator, which is keyed by the run and the batch.

    Args:
        images: (B, C, H, W), at least two.
        ratio: share of the images that are changed, 0..1.
        crop_ratio: height and width of a crop as shares of the image, one number or (low, high).
        alpha: opacity of a crop, 0..1, one number or (low, high).

    Returns:
        (B, C, H, W), a copy.
    """
    count, (height, width) = len(images), images.shape[-2:]
    if count < 2 or ratio <= 0:
        return images
    # Plain numbers: nine for each image, also where the images have no memory (meta device).
    drawn = torch.rand(count, 9, device="cpu").tolist()
    made = images.clone()
    for number, (chance, other, h, w, *corners, shade) in enumerate(drawn):
        if chance > ratio:
            continue
        source = images[(number + 1 + int(other * (count - 1))) % count]
        rows = min(max(1, int(_between(crop_ratio, h) * height)), height - 1)
        columns = min(max(1, int(_between(crop_ratio, w) * width)), width - 1)
        top, to_top = (int(each * (height - rows)) for each in corners[:2])
        left, to_left = (int(each * (width - columns)) for each in corners[2:])
        crop = source[:, top : top + rows, left : left + columns]
        place = made[number, :, to_top : to_top + rows, to_left : to_left + columns]
        place.lerp_(crop, _between(alpha, shade))
    return made


def _between(bounds: float | Sequence[float], share: float) -> float:
    """A number of (low, high), or the one number itself."""
    low, high = (bounds, bounds) if isinstance(bounds, (int, float)) else bounds
    return low + share * (high - low)


def num_module_parameters(module: nn.Module, trainable: bool | None = None) -> int:
    """The number of parameters of a module.

    Args:
        module: any.
        trainable: True counts trainable ones, False frozen ones, None all.
    """
    return sum(
        p.numel() for p in module.parameters() if trainable is None or p.requires_grad == trainable
    )


def dump_module_stacktrace(
    model: nn.Module,
    *input: Any,
    method_name: Literal["forward", "encode", "decode"] = "forward",
) -> Any:
    """Runs a module on an input and prints the layers it passes to stderr, once.

    Args:
        model: any module.
        input: the argument of the method.
        method_name: name of the module's method.

    Returns:
        The method's result, without gradients.

    Raises:
        ConfigError: the module has no such method.
    """
    method = getattr(model, method_name, None) if method_name in _COMPUTING else None
    if not callable(method):
        raise ConfigError(
            f"dump_module_stacktrace: a {type(model).__name__} has no method {method_name!r}; "
            f"possible: {', '.join(name for name in _COMPUTING if hasattr(model, name))}"
        )
    rows: list[tuple[str, str, str]] = []
    handles = [
        module.register_forward_pre_hook(partial(_note, rows, name), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            return method(*input)
    finally:
        for handle in handles:
            handle.remove()
        _show(f"{type(model).__name__}.{method_name}", rows)


def _note(
    rows: list[tuple[str, str, str]],
    name: str,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Adds one row to the table: path, shapes of the input, repr of the module."""
    given = [_shape(value) for value in args]
    given += [f"{key}={_shape(value)}" for key, value in kwargs.items()]
    rows.append((name or ".", ", ".join(given), f"{type(module).__name__}({module.extra_repr()})"))


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _show(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Prints the table to stderr, unless the same was printed before."""
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = [f"  {name:{widths[0]}}  {given:{widths[1]}}  {words}" for name, given, words in rows]
    text = "\n".join([title, *lines])
    if rows and text not in _shown:
        _shown.add(text)
        sys.stderr.write(f"{text}\n")
