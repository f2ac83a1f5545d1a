"""Autoencoders of old files that are written as a short text: one command for each layer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.founding.helpers import PixelsToChannels, ResidualAdd, chain
from aelab.founding.step_activations import step_activation
from aelab.models.activations import Activation, make_normalization
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.deep_compression import average_channels, duplicate_channels

#: A command of `ScriptedAE`: its name, what it looks like, and an example for messages.
_COMMANDS = {
    "ch": (re.compile(r"ch\s*([*/=])\s*(\d+)"), "ch=32, ch*2, ch/2"),
    "down": (re.compile(r"down(\d+)"), "down2"),
    "rdown": (re.compile(r"rdown(\d+)"), "rdown2"),
    "ks": (re.compile(r"ks=(\d+)"), "ks=5"),
    "scl": (re.compile(r"scl=(\d+)"), "scl=2"),
    "po": (re.compile(r"po=(\d+)"), "po=3"),
    "aqk": (re.compile(r"aqk"), "aqk"),
    "a": (re.compile(r"a"), "a"),
}


class PixelAttention(nn.Module):
    """Linear attention between the channels of all pixels: q (k^T v) / (C * H * W), q, k > 0.

    Args:
        channels: C; queries and keys come from a convolution. 0: they are the input itself.

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, with elu + 1 as its feature map.
    """

    def __init__(self, channels: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1) if channels else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        value = x.flatten(2)  # (B, C, H * W)
        both = (x, x) if self.conv is None else self.conv(x).chunk(2, dim=1)
        query, key = (F.elu(each.flatten(2)) + 1 for each in both)
        mixed = query @ (key.mT @ value) / value[0].numel()
        return mixed.reshape(x.shape)


class PolynomialConvolution(nn.Module):
    """A convolution of powers 1 to `order` of scaled and shifted channels.

    Args:
        order: the highest power.
        before, after: channels.
        kernel_size, padding: of the convolution that joins the powers.
        transposed: whether that one is transposed.
    """

    def __init__(
        self,
        order: int,
        before: int,
        after: int,
        kernel_size: int,
        padding: int,
        transposed: bool,
    ) -> None:
        super().__init__()
        self.order = order
        self.split = nn.Conv2d(before, before * order, 1, groups=before)
        self.combine = _convolution(transposed)(before * order, after, kernel_size, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, ...)."""
        parts = self.split(x).chunk(self.order, dim=1)
        y: Tensor = self.combine(torch.cat([part**n for n, part in enumerate(parts, 1)], dim=1))
        return y


class ScriptLayer(nn.Module):
    """x + act(convolution(x + skip convolutions(norm(x)))); without x + where the shapes differ.

    Args:
        before, after: channels.
        options: kernel size, padding, order of powers, number of skip convolutions.
        activation, skip_activation: of the convolution, of the skip convolutions.
        norm: by name, or None.
        transposed: whether the convolutions are transposed, for decoders.
    """

    def __init__(
        self,
        before: int,
        after: int,
        options: _Options,
        activation: Activation,
        skip_activation: Activation,
        norm: str | None,
        transposed: bool,
    ) -> None:
        super().__init__()
        size, padding = options.kernel_size, options.padding_now
        self.norm = _normalization(norm, before)
        skips: list[nn.Module | None] = []
        for _ in range(options.skips):
            skips.append(_convolution(transposed)(before, before, size, padding=size // 2))
            skips.append(step_activation(skip_activation))
        self.skip = ResidualAdd(chain(skips)) if skips else None
        self.conv = (
            PolynomialConvolution(options.order, before, after, size, padding, transposed)
            if options.order
            else _convolution(transposed)(before, after, size, padding=padding)
        )
        self.act = step_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, ...)."""
        y: Tensor = x if self.norm is None else self.norm(x)
        y = y if self.skip is None else self.skip(y)
        y = self.conv(y)
        y = y if self.act is None else self.act(y)
        return y + x if y.shape == x.shape else y


class ResidualResize(nn.Module):
    """A convolution and a (un)shuffle of pixels, plus the image itself in as many channels.

    Args:
        before, after: channels.
        factor: of the size; height and width become `factor` times smaller, or larger.
        up: whether they become larger.

    Source: Chen et al. 2024, deep compression autoencoder, arXiv:2410.10733, section 3.1.
    """

    def __init__(self, before: int, after: int, factor: int, up: bool) -> None:
        super().__init__()
        self.up, self.factor, self.after = up, factor, after
        self.unshuffle = PixelsToChannels(factor)
        inner = after * factor**2 if up else after // factor**2
        self.conv = nn.Conv2d(before, inner, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H / factor, W / factor), or times it."""
        if self.up:
            repeats = self.after * self.factor**2 // x.shape[1]
            short = F.pixel_shuffle(duplicate_channels(x, repeats), self.factor)
            return F.pixel_shuffle(self.conv(x), self.factor) + short
        short = average_channels(self.unshuffle(x), self.after)
        y: Tensor = self.unshuffle(self.conv(x)) + short
        return y


@dataclass(frozen=True)
class _Options:
    """What the commands `ks`, `scl` and `po` set for the layers after them."""

    kernel_size: int
    padding: int | None
    skips: int
    order: int

    @property
    def padding_now(self) -> int:
        return (self.kernel_size - 1) // 2 if self.padding is None else self.padding


class _Sides:
    """The two halves while a script is read: encoder layers in order, decoder layers reversed."""

    def __init__(self) -> None:
        self.encoder: list[nn.Module | None] = []
        self.decoder: list[nn.Module | None] = []

    def model(self) -> EncoderDecoder:
        """The finished model."""
        return EncoderDecoder(chain(self.encoder), chain(self.decoder[::-1]))


def ScriptedAE(
    channels: int,
    script: str,
    kernel_size: int = 1,
    padding: int | None = None,
    activation: Activation = None,
    final_encoder_activation: Activation = None,
    final_decoder_activation: Activation = None,
    norm: str | None = None,
    skip_conv_layers: int = 0,
    poly_order: int = 0,
    batch_norm: bool = False,
) -> EncoderDecoder:
    """An autoencoder from a text such as `ch=32|down4|ch/2|ch*1|ch=1`; the decoder mirrors it.

    Commands stand on lines of their own or between `|`; `#` begins a comment. `ch=32`, `ch*2`,
    `ch/2`: a convolution to so many channels, with a residual path where shapes agree. `down2`:
    pixels become channels. `rdown2`: the same with a convolution and a residual path. `ks=5`,
    `scl=2`, `po=3`: kernel size, skip convolutions and powers of the convolutions after it. `a`,
    `aqk`: attention without and with a convolution for queries and keys. `e:` or `d:` before a
    command: only in the encoder, or the decoder.

    Args:
        channels: of the images.
        script: the text.
        kernel_size: of convolutions, until `ks`.
        padding: of convolutions; None keeps the size of the image.
        activation: after convolutions; `sinstep2` and `sigmoidstep2,5` are possible, too.
        final_encoder_activation, final_decoder_activation: of the latent, of the output.
        norm: before convolutions, except the last of each half; by name.
        skip_conv_layers, poly_order: until `scl` and `po`.
        batch_norm: the old name of `norm="bn2d"`.

    Raises:
        ConfigError: a command that is none.
    """
    if kernel_size < 1:
        raise ConfigError(f"ScriptedAE: kernel_size is a whole number from 1 up, got {kernel_size}")
    norm = "bn2d" if batch_norm and norm is None else norm
    options = _Options(kernel_size, padding, skip_conv_layers, poly_order)
    sides = _Sides()
    lines = list(_lines(script))
    for index, (line, last) in enumerate(lines):
        half, command = (line[0], line[2:].strip()) if line[:2] in ("e:", "d:") else ("", line)
        name, args = _command(command, index + 1)
        if name in ("ks", "scl", "po"):
            field = {"ks": "kernel_size", "scl": "skips", "po": "order"}[name]
            options = replace(options, **{field: int(args[0])})
            continue
        outermost = not sides.decoder
        before, channels = channels, _channels_after(name, args, channels, command)
        made: tuple[nn.Module, nn.Module]
        if name == "ch":
            made = (
                ScriptLayer(
                    before,
                    channels,
                    options,
                    final_encoder_activation if last else activation,
                    activation,
                    None if last else norm,
                    False,
                ),
                ScriptLayer(
                    channels,
                    before,
                    options,
                    final_decoder_activation if outermost else activation,
                    activation,
                    None if outermost else norm,
                    True,
                ),
            )
        elif name == "down":
            made = PixelsToChannels(int(args[0])), nn.PixelShuffle(int(args[0]))
        elif name == "rdown":
            factor = int(args[0])
            made = (
                ResidualResize(before, channels, factor, up=False),
                ResidualResize(channels, before, factor, up=True),
            )
        else:
            of = channels if name == "aqk" else 0
            made = PixelAttention(of), PixelAttention(of)
        if half != "d":
            sides.encoder.append(made[0])
        if half != "e":
            sides.decoder.append(made[1])
    return sides.model()


def _lines(script: str) -> Iterator[tuple[str, bool]]:
    """Each command, and whether nothing follows it, as the original counts it."""
    pieces = "|".join(line.strip() for line in script.splitlines() if line.strip()).split("|")
    for number, piece in enumerate(pieces, 1):
        text = piece.partition("#")[0].strip()
        if text:
            yield text, number == len(pieces)


def _command(text: str, number: int) -> tuple[str, tuple[Any, ...]]:
    for name, (pattern, _) in _COMMANDS.items():
        found = pattern.fullmatch(text)
        if found:
            return name, found.groups()
    examples = "; ".join(example for _, example in _COMMANDS.values())
    raise ConfigError(
        f"ScriptedAE: command {number} of the script, {text!r}, is none",
        hint=f"possible: {examples}",
    )


def _channels_after(name: str, args: tuple[Any, ...], channels: int, command: str) -> int:
    if name in ("down", "rdown"):
        factor = int(args[0])
        if factor < 1:
            raise ConfigError(f"ScriptedAE: {command!r}: the factor is a whole number from 1 up")
        return channels * factor**2
    if name != "ch":
        return channels
    sign, number = args[0], int(args[1])
    if sign == "/" and number == 0:
        raise ConfigError(f"ScriptedAE: {command!r} divides by 0")
    after = {"=": number, "*": channels * number, "/": channels // max(number, 1)}[sign]
    if after < 1:
        raise ShapeError(
            f"ScriptedAE: after {command!r} there would be {after} of {channels} channels"
        )
    return after


def ScriptAE(script: str, verbose: bool = False) -> EncoderDecoder:
    """The first form of such texts: lines `conv(3,16,3,1,1)`, `bn(32)`, `ps(2)`.

    `conv`: in, out, kernel size, stride and padding of a convolution. `bn`: batch normalisation.
    `ps`: pixels become channels. The decoder mirrors the encoder; there are no activations.

    Args:
        script: the text; `#` begins a comment.
        verbose: has no effect; `aelab check` shows the shapes.

    Raises:
        ConfigError: a line that is no command.
    """
    sides = _Sides()
    for number, (line, _) in enumerate(_lines(script.replace("|", "\n")), 1):
        found = re.fullmatch(r"(conv|bn|ps)\(([\d\s,]+)\)", line)
        args = [int(value) for value in found.group(2).split(",")] if found else []
        name = found.group(1) if found else ""
        if name == "conv" and 2 < len(args) < 6:
            before, after, size, stride, padding = (*args, *(1, 0)[len(args) - 3 :])
            sides.encoder.append(nn.Conv2d(before, after, size, stride, padding))
            sides.decoder.append(nn.ConvTranspose2d(after, before, size, stride, padding))
        elif name == "bn" and len(args) == 1:
            sides.encoder.append(nn.BatchNorm2d(args[0]))
            sides.decoder.append(nn.BatchNorm2d(args[0]))
        elif name == "ps" and len(args) == 1:
            sides.encoder.append(PixelsToChannels(args[0]))
            sides.decoder.append(nn.PixelShuffle(args[0]))
        else:
            raise ConfigError(
                f"ScriptAE: line {number} of the script, {line!r}, is no command",
                hint="possible: conv(in,out,kernel size,stride,padding), bn(channels), ps(factor)",
            )
    return sides.model()


class MappedConvolution(nn.Module):
    """A convolution that keeps the size, plus its input in as many channels as it has.

    Args:
        before, after: channels.
        kernel_size: odd.
        activation: of the convolution, before the sum.
        groups: of channels.
        residual: `map`: a 1x1 convolution joins the channels where they differ. `add`: they are
            repeated, or summed up.
        transposed: whether the convolution is transposed.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel_size: int,
        activation: Activation,
        groups: int,
        residual: str,
        transposed: bool,
    ) -> None:
        super().__init__()
        maps = residual == "map" and before != after
        self.residual = nn.Conv2d(before, after, 1, bias=False, groups=groups) if maps else None
        self.conv = _convolution(transposed)(
            before, after, kernel_size, padding=kernel_size // 2, groups=groups
        )
        self.act = step_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H, W)."""
        y: Tensor = self.conv(x)
        y = y if self.act is None else self.act(y)
        return y + (_spread(x, y.shape[1]) if self.residual is None else self.residual(x))


def _spread(x: Tensor, after: int) -> Tensor:
    """Channels repeated, or summed up, to (B, after, H, W)."""
    before = x.shape[1]
    if before >= after:
        parts = torch.split(F.pad(x, (0, 0, 0, 0, 0, -before % after)), after, dim=1)
        return torch.stack(parts).sum(0)
    return torch.cat([x] * (-(-after // before)), dim=1)[:, :after]


def ResidualScriptedAE(
    channels: int,
    script: str,
    kernel_size: int = 1,
    padding: int = 0,
    activation: Activation = None,
    residual: str = "add",
    groups: int = 1,
) -> EncoderDecoder:
    """`ScriptedAE` with a residual path around every convolution; `ch` and `down`, output sigmoid.

    Args:
        channels: of the images.
        script: the text; `down` alone is `down2`, and other factors too count as 2, as there.
        kernel_size: odd.
        padding: has no effect: the size stays.
        activation: of each convolution, before its residual path.
        residual: `map` or `add`, see `MappedConvolution`.
        groups: of channels, where they can be divided by it.

    Raises:
        ConfigError: a command that is none, or an unknown `residual`.
    """
    if residual not in ("add", "map"):
        raise ConfigError(
            f"ResidualScriptedAE: residual is given as {residual!r}; possible: add, map"
        )
    if kernel_size % 2 == 0:
        raise ConfigError(f"ResidualScriptedAE: kernel_size must be odd, not {kernel_size}")
    sides = _Sides()
    sides.decoder.append(nn.Sigmoid())
    for number, (line, _) in enumerate(_lines(script), 1):
        name, args = _command("down2" if line == "down" else line, number)
        if name == "down":
            sides.encoder.append(PixelsToChannels(2))
            sides.decoder.append(nn.PixelShuffle(2))
            channels *= 4
        elif name == "ch":
            before, channels = channels, _channels_after(name, args, channels, line)
            parts = groups if before % groups == 0 and channels % groups == 0 else 1
            common = (kernel_size, activation, parts, residual)
            sides.encoder.append(MappedConvolution(before, channels, *common, transposed=False))
            sides.decoder.append(MappedConvolution(channels, before, *common, transposed=True))
        else:
            raise ConfigError(
                f"ResidualScriptedAE: command {number} of the script, {line!r}, is none",
                hint="possible: ch=32, ch*2, ch/2, down",
            )
    return sides.model()


def _normalization(norm: str | None, channels: int) -> nn.Module | None:
    """By name; `trms2d` is the root mean square over the channels of each pixel."""
    if norm is not None and norm.lower() == "trms2d":
        return _PixelRMS(channels)
    return make_normalization(norm, channels)


class _PixelRMS(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = x.square().mean(1, keepdim=True).add(1e-5).rsqrt()
        return x * size * self.weight + self.bias


def _convolution(transposed: bool) -> type[nn.Conv2d] | type[nn.ConvTranspose2d]:
    return nn.ConvTranspose2d if transposed else nn.Conv2d
