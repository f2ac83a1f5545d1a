"""Computes sizes by arithmetic, so that models can be built on the meta device."""

from __future__ import annotations

from collections.abc import Sequence

from aelab.errors import ShapeError


def image_shape(shape: Sequence[int], owner: str) -> tuple[int, int, int]:
    """(C, H, W) as checked integers; messages name `owner`.

    Raises:
        ShapeError: unless `shape` holds three positive integers.
    """
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ShapeError(
            f"{owner}: shape must be (channels, height, width), three positive integers, "
            f"not {tuple(shape)}"
        )
    return sizes[0], sizes[1], sizes[2]


def per_layer(value: int | Sequence[int], num_layers: int, name: str, owner: str) -> list[int]:
    """One integer per layer, from a single integer or a sequence of the right length.

    Raises:
        ShapeError: on a wrong length or a value below 1.
    """
    values = [int(value)] * num_layers if isinstance(value, int) else [int(v) for v in value]
    if len(values) != num_layers:
        raise ShapeError(
            f"{owner}: {name} has {len(values)} values, but there are {num_layers} layers; "
            f"give one integer or {num_layers} of them"
        )
    if min(values) < 1:
        raise ShapeError(f"{owner}: {name} must be at least 1 in every layer, not {values}")
    return values


def conv_size(size: int, kernel_size: int, stride: int) -> int:
    """Output size of an unpadded convolution along one axis; below 1 if it does not fit."""
    return (size - kernel_size) // stride + 1


def conv_transpose_size(
    size: int, kernel_size: int, stride: int, output_padding: int | None = None
) -> int:
    """Output size of a transposed convolution; `output_padding` None means `stride - 1`."""
    output_padding = stride - 1 if output_padding is None else output_padding
    return (size - 1) * stride + kernel_size + output_padding


def shape_words(shape: Sequence[int]) -> str:
    """`(3, 32, 32)` as `3x32x32`."""
    return "x".join(str(size) for size in shape)
