"""Converts a decoder to a list of plain steps, which a web page can compute without torch.

The decoder is run once on one latent, and every operation that depends on the latent is recorded
with its shapes and constants. `assets/decoder.js` of the report computes the same steps.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Elementwise steps on one tensor, by the name of torch's operation.
ELEMENTWISE = (
    "relu", "sigmoid", "tanh", "silu", "sin", "cos", "exp", "neg", "abs", "sqrt", "erf", "log",
    "square", "rsqrt",
)  # fmt: skip
#: Operations that keep the values and their order.
_SAME = ("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "clone", "detach", "alias",
         "_to_copy", "contiguous", "lift_fresh", "flatten", "unflatten")  # fmt: skip
_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "div": "div", "rsub": "rsub",
           "maximum": "max", "minimum": "min"}  # fmt: skip


class NotPlainError(Exception):
    """The decoder uses an operation that the steps cannot represent."""


@dataclass
class Program:
    """The steps and their constants.

    Attributes:
        steps: each with `op`, `in` (numbers of earlier values; 0 is the latent), `shape` of its
            result, and its arguments. Constants are `[offset, count]` in `weights`.
        weights: all constants, one after the other, float32; written as float16.
        multiply_adds: number of multiply-adds for one image.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    weights: list[np.ndarray[Any, Any]] = field(default_factory=list)
    multiply_adds: int = 0

    @property
    def count(self) -> int:
        """The total size of the constants."""
        return sum(part.size for part in self.weights)

    def data(self) -> dict[str, Any]:
        """Plain data: the steps, and the constants as float16 in base64."""
        joined = np.concatenate([np.zeros(0, np.float32), *self.weights]).astype("<f2")
        return {"steps": self.steps, "weights": base64.b64encode(joined.tobytes()).decode("ascii")}


def program_of(decode: Callable[[Tensor], Tensor], latent: Tensor) -> Program:
    """Records the steps of a decoder.

    Args:
        decode: latents (1, ...) -> images (1, C, H, W), on the CPU.
        latent: (1, ...), an example latent.

    Raises:
        NotPlainError: it uses an operation without a step, or numbers outside float16.
    """
    recorder = _Recorder(latent)
    # torch's fused attention would hide the steps.
    quick = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), recorder:
            image = decode(latent)
    finally:
        torch.backends.mha.set_fastpath_enabled(quick)
    if recorder.number.get(id(image)) != len(recorder.program.steps):
        recorder.note("same", [recorder.number_of(image)], image)
    large = max(
        (float(np.abs(part).max()) for part in recorder.program.weights if part.size), default=0
    )
    if not large < 60_000:
        raise NotPlainError("its weights are too large for 16 bits")
    return recorder.program


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records each operation on a value that depends on the latent."""

    def __init__(self, latent: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.program = Program()
        self.number = {id(latent): 0}
        self.kept: list[Any] = [latent]  # kept alive, so that no other object gets their id

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        flat = [
            value for arg in args for value in (arg if isinstance(arg, list | tuple) else [arg])
        ]
        if any(isinstance(value, Tensor) and id(value) in self.number for value in flat):
            name = func.__name__.split(".")[0].removesuffix("_")
            self._note(name, list(args), dict(kwargs or {}), made)
        return made

    def number_of(self, value: Any) -> int:
        if not isinstance(value, Tensor) or id(value) not in self.number:
            raise NotPlainError("a value that does not come from the latent")
        return self.number[id(value)]

    def note(self, op: str, inputs: Sequence[int], made: Tensor, **what: Any) -> None:
        shape = list(made.shape)
        self.program.steps.append({"op": op, "in": list(inputs), "shape": shape, **what})
        self.number[id(made)] = len(self.program.steps)
        self.kept.append(made)

    def constant(self, value: Tensor | None) -> list[int] | None:
        """The place of a constant's values in `weights`."""
        if value is None:
            return None
        if id(value) in self.number:
            raise NotPlainError("weights that depend on the latent")
        offset = self.program.count
        self.program.weights.append(value.detach().float().contiguous().numpy().ravel())
        return [offset, value.numel()]

    def _note(self, name: str, args: list[Any], kwargs: dict[str, Any], made: Any) -> None:
        one = made[0] if isinstance(made, tuple) else made
        if name in _SAME:
            self.note("same", [self.number_of(args[0])], one)
        elif name in ELEMENTWISE:
            self.note("each", [self.number_of(args[0])], one, f=name)
        elif name in ("leaky_relu", "elu", "gelu", "hardtanh", "softplus", "clamp", "pow",
                      "clamp_min"):  # fmt: skip
            self.note("each", [self.number_of(args[0])], one, f=name,
                      a=_numbers(name, args[1:], kwargs))  # fmt: skip
        elif name in _BINARY:
            self._binary(_BINARY[name], args, kwargs, one)
        elif name in ("addmm", "mm", "linear"):
            self._dense(name, args, one)
        elif name in ("convolution", "conv2d", "conv_transpose2d"):
            self._convolution(name, args, kwargs, one)
        elif "batch_norm" in name:
            self._batch_norm(args, one)
        elif name in ("native_layer_norm", "layer_norm"):
            self._layer_norm(args, one)
        elif name in ("permute", "transpose", "t", "movedim"):
            self._permute(name, args, one)
        elif name in ("upsample_nearest2d", "upsample_bilinear2d"):
            self._upsample(name, args, one)
        elif name == "pixel_shuffle":
            self.note("shuffle", [self.number_of(args[0])], one,
                      **{"from": list(args[0].shape), "by": args[1]})  # fmt: skip
        elif name in ("split", "split_with_sizes", "unsafe_split", "chunk", "unbind"):
            self._split(name, args, kwargs, made)
        elif name in ("slice", "select", "narrow"):
            self._slice(name, args, one)
        elif name == "expand":
            sides = {"v": 0, "shape": list(args[0].shape)}, {"n": 0.0, "shape": []}
            self.note("two", [self.number_of(args[0])], one, f="add", a=sides[0], b=sides[1])
        elif name == "mean":
            self._mean(args, one)
        elif name == "cat":
            self._cat(args, kwargs, one)
        elif name == "_scaled_dot_product_flash_attention_for_cpu":
            self._attention(args, kwargs, one)
        else:
            raise NotPlainError(f"the operation {name}")

    def _split(self, name: str, args: list[Any], kwargs: dict[str, Any], made: Any) -> None:
        """Records each part of a split as a separate step."""
        given, start, place = args[0], 0, 1 if name == "unbind" else 2
        dim = kwargs.get("dim", args[place] if len(args) > place else 0) % given.ndim
        for part in made:
            self._part(given, part, dim, start)
            start += part.shape[dim] if part.ndim == given.ndim else 1

    def _slice(self, name: str, args: list[Any], made: Tensor) -> None:
        given = args[0]
        dim = (args[1] if len(args) > 1 else 0) % given.ndim
        start = args[2] if len(args) > 2 and args[2] is not None else 0
        step = args[4] if name == "slice" and len(args) > 4 else 1
        self._part(given, made, dim, start + given.shape[dim] * (start < 0), step)

    def _part(self, given: Tensor, made: Tensor, dim: int, start: int, step: int = 1) -> None:
        shape = list(given.shape)
        shape[dim] = made.shape[dim] if made.ndim == given.ndim else 1
        self.note("part", [self.number_of(given)], made, **{"from": list(given.shape)},
                  size=shape, dim=dim, start=int(start), step=step)  # fmt: skip

    def _mean(self, args: list[Any], made: Tensor) -> None:
        given = args[0]
        dims = args[1] if len(args) > 1 and args[1] else range(given.ndim)
        dims = sorted(d % given.ndim for d in dims)
        self.note("mean", [self.number_of(given)], made,
                  **{"from": list(given.shape)}, dims=dims)  # fmt: skip

    def _cat(self, args: list[Any], kwargs: dict[str, Any], made: Tensor) -> None:
        parts = args[0]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0) % made.ndim
        numbers: list[int] = []
        shapes: list[dict[str, Any]] = []
        for part in parts:
            if id(part) in self.number:
                shapes.append({"v": len(numbers), "shape": list(part.shape)})
                numbers.append(self.number[id(part)])
            else:
                shapes.append({"c": self.constant(part), "shape": list(part.shape)})
        self.note("cat", numbers, made, parts=shapes, dim=dim)

    def _attention(self, args: list[Any], kwargs: dict[str, Any], made: Tensor) -> None:
        query, key, value = args[:3]
        causal = kwargs.get("is_causal", args[4] if len(args) > 4 else False)
        if causal or kwargs.get("attn_mask") is not None:
            raise NotPlainError("attention with a mask")
        heads = math.prod(query.shape[:-2])
        rows, columns, width = query.shape[-2], key.shape[-2], query.shape[-1]
        scale = kwargs.get("scale") or width**-0.5
        self.program.multiply_adds += heads * rows * columns * (width + value.shape[-1])
        self.note(
            "attend", [self.number_of(each) for each in (query, key, value)], made, heads=heads,
            rows=rows, columns=columns, width=width, out=value.shape[-1], scale=scale,
        )  # fmt: skip

    def _binary(self, f: str, args: list[Any], kwargs: dict[str, Any], made: Tensor) -> None:
        if (
            kwargs.get("alpha", 1) != 1
            or (len(args) > 2 and args[2] != 1)
            or "rounding_mode" in kwargs
        ):
            raise NotPlainError(f"the operation {f} with a factor")
        sides: list[dict[str, Any]] = []
        values: list[int] = []
        for value in args[:2]:
            if isinstance(value, Tensor) and id(value) in self.number:
                sides.append({"v": len(values), "shape": list(value.shape)})
                values.append(self.number[id(value)])
            elif isinstance(value, Tensor):
                sides.append({"c": self.constant(value), "shape": list(value.shape)})
            else:
                sides.append({"n": float(value), "shape": []})
        self.note("two", values, made, f=f, a=sides[0], b=sides[1])

    def _dense(self, name: str, args: list[Any], made: Tensor) -> None:
        if name == "linear":
            given, weight, bias = args[0], args[1], args[2] if len(args) > 2 else None
        else:
            bias = args[0] if name == "addmm" else None
            given, weight = args[-2:]
            if id(weight) in self.number:
                raise NotPlainError("weights that depend on the latent")
            weight = weight.T
        outs, ins = weight.shape
        rows = made.numel() // outs
        self.program.multiply_adds += rows * outs * ins
        self.note("dense", [self.number_of(given)], made, rows=rows, ins=ins, outs=outs,
                  w=self.constant(weight), b=self.constant(bias))  # fmt: skip

    def _convolution(
        self, name: str, args: list[Any], kwargs: dict[str, Any], made: Tensor
    ) -> None:
        if name != "convolution":
            raise NotPlainError(f"the operation {name}")
        given, weight, bias, stride, padding, dilation, transposed, _, groups = args
        if len(stride) != 2:
            raise NotPlainError("a convolution that is not of two dimensions")
        self.program.multiply_adds += (given if transposed else made).numel() * weight[0].numel()
        self.note(
            "up" if transposed else "conv", [self.number_of(given)], made,
            **{"from": list(given.shape)}, kernel=list(weight.shape), stride=list(stride),
            padding=list(padding), dilation=list(dilation), groups=groups,
            w=self.constant(weight), b=self.constant(bias),
        )  # fmt: skip

    def _batch_norm(self, args: list[Any], made: Tensor) -> None:
        """Batch norm in evaluation mode: a factor and a summand for each channel."""
        given, weight, bias, mean, variance = args[:5]
        eps = next(value for value in reversed(args) if isinstance(value, float))
        if mean is None or any(value is True for value in args[5:6]):
            raise NotPlainError("batch normalisation by the batch")
        factor = (weight if weight is not None else 1) / torch.sqrt(variance + eps)
        summand = (bias if bias is not None else 0) - mean * factor
        shape = [1, len(mean), *[1] * (given.ndim - 2)]
        number = self.number_of(given)
        self.note("two", [number], made, f="mul", a={"v": 0, "shape": list(made.shape)},
                  b={"c": self.constant(factor), "shape": shape})  # fmt: skip
        self.note("two", [len(self.program.steps)], made, f="add",
                  a={"v": 0, "shape": list(made.shape)},
                  b={"c": self.constant(summand), "shape": shape})  # fmt: skip

    def _layer_norm(self, args: list[Any], made: Tensor) -> None:
        given, shape, weight, bias, eps = args[:5]
        self.note("norm", [self.number_of(given)], made, size=math.prod(shape), eps=eps,
                  w=self.constant(weight), b=self.constant(bias))  # fmt: skip

    def _permute(self, name: str, args: list[Any], made: Tensor) -> None:
        given, order = args[0], list(range(args[0].ndim))
        if name == "permute":
            order = [place % given.ndim for place in args[1]]
        elif name == "t":
            order = order[::-1]
        elif name == "transpose":
            first, second = args[1] % given.ndim, args[2] % given.ndim
            order[first], order[second] = order[second], order[first]
        else:
            raise NotPlainError(f"the operation {name}")
        self.note("permute", [self.number_of(given)], made,
                  **{"from": list(given.shape)}, order=order)  # fmt: skip

    def _upsample(self, name: str, args: list[Any], made: Tensor) -> None:
        corners = name == "upsample_bilinear2d" and bool(args[2])
        self.note("resize", [self.number_of(args[0])], made, **{"from": list(args[0].shape)},
                  smooth=name == "upsample_bilinear2d", corners=corners)  # fmt: skip


def _numbers(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[float]:
    """The arguments of an elementwise function besides its tensor, including defaults."""
    if name == "gelu":
        return [1.0 if kwargs.get("approximate") == "tanh" else 0.0]
    defaults: dict[str, list[float]] = {
        "leaky_relu": [0.01], "elu": [1.0, 1.0, 1.0], "hardtanh": [-1.0, 1.0],
        "softplus": [1.0, 20.0], "clamp": [-math.inf, math.inf], "pow": [2.0],
        "clamp_min": [0.0],
    }  # fmt: skip
    made = list(defaults[name])
    for place, value in enumerate(args):
        if isinstance(value, Tensor):
            raise NotPlainError(f"{name} by a tensor")
        if value is not None:
            made[place] = float(value)
    if name in ("clamp", "hardtanh"):
        made = [max(value, -1e30) if value < 0 else min(value, 1e30) for value in made]
    return made
