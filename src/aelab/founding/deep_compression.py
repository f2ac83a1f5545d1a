"""`DCAE` of old files: DC-AE with the blocks of its first implementation, and its settings.

The shortcuts and the attention are those of `aelab.models.deep_compression`. The blocks differ:
here normalisations come last, convolutions before them have no bias, and the gated convolutions are
twice as wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError, did_you_mean, one_of
from aelab.founding.helpers import PixelsToChannels, ResidualAdd, chain, per_layer
from aelab.models.activations import make_activation
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.deep_compression import (
    ShortcutDown,
    average_channels,
    duplicate_channels,
    linear_attention,
)

#: Numbers of a head of attention.
HEAD = 32
#: Width of the gated convolutions, in channels of the map.
WIDER = 4


@dataclass(frozen=True)
class HalfConfig:
    """Settings of the encoder or the decoder of `DCAE`; lists have a value for each stage.

    Attributes:
        width_list: channels.
        depth_list: blocks; a first stage of none is left out, and the image is halved before it.
        block_type: `ResBlock`, two convolutions, or `EViT_GLU`, attention and gated convolutions.
        norm: `bn2d`, over the batch; `trms2d`, root mean square over channels; `ln2d`.
        act: `relu`, `relu6`, `silu`, `hswish` or `gelu`.
        out_norm, out_act: before the last convolution; None: none.
    """

    width_list: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    depth_list: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    block_type: str | tuple[str, ...] = "ResBlock"
    norm: str | tuple[str, ...] = "trms2d"
    act: str | tuple[str, ...] = "silu"
    out_norm: str | None = None
    out_act: str | None = None


@dataclass(frozen=True)
class DCAEConfig:
    """Settings of `DCAE`.

    Attributes:
        in_channels: of the images.
        latent_channels: of the latent; divides the last width.
        encoder, decoder: settings of each half.
    """

    in_channels: int = 3
    latent_channels: int = 32
    encoder: HalfConfig = field(default_factory=HalfConfig)
    decoder: HalfConfig = field(
        default_factory=lambda: HalfConfig(out_norm="trms2d", out_act="relu")
    )


def configured(values: dict[str, Any], config: Any = None, path: str = "") -> Any:
    """Settings with the given values in the place of their own.

    Args:
        values: name -> value, or a dictionary of them for a half.
        config: the settings; by default a `DCAEConfig`.
        path: names that lead to `config`, for messages.

    Raises:
        ConfigError: an unknown name, or a value of another kind.
    """
    config = DCAEConfig() if config is None else config
    possible = [name for name in vars(config)]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in possible:
            raise ConfigError(
                f"DCAEConfig has no {path}{name}{did_you_mean(name, possible)}",
                hint=f"possible: {one_of([path + each for each in possible])}",
            )
        old = getattr(config, name)
        if isinstance(old, HalfConfig) != isinstance(value, dict):
            raise ConfigError(f"DCAEConfig: {path}{name} cannot be {value!r}")
        if isinstance(value, dict):
            value = configured(value, old, f"{path}{name}.")
        changes[name] = tuple(value) if isinstance(value, list) else value
    return replace(config, **changes)


def DCAE(cfg: DCAEConfig | None = None) -> EncoderDecoder:
    """DC-AE as in old files: the latent is a map, halved once for each stage but the first.

    Args:
        cfg: the settings; None: the defaults of `DCAEConfig`.

    Raises:
        ConfigError: lists of different lengths, an unknown block, norm or activation.
        ShapeError: widths that have no shortcut.

    Source: Chen et al. 2024, arXiv:2410.10733. The number of parameters is that of the original.
    """
    cfg = DCAEConfig() if cfg is None else cfg
    encoder, decoder = _stages(cfg.encoder, "encoder"), _stages(cfg.decoder, "decoder")
    return EncoderDecoder(
        chain([*_encoder(encoder, cfg), _Ending(encoder[-1].width, cfg.latent_channels)]),
        chain([_Beginning(cfg.latent_channels, decoder[-1].width), *_decoder(decoder, cfg)]),
    )


@dataclass(frozen=True)
class _Stage:
    """One stage: channels, number of blocks, and what they are made of."""

    width: int
    depth: int
    block: str
    norm: str
    act: str

    def blocks(self) -> list[nn.Module]:
        """The blocks of this stage."""
        return [make_block(self.block, self.width, self.norm, self.act) for _ in range(self.depth)]


def _stages(half: HalfConfig, name: str) -> list[_Stage]:
    count = len(half.width_list)
    columns = [
        per_layer(value, count, f"DCAEConfig: {name}.{key}")
        for key, value in (
            ("depth_list", half.depth_list), ("block_type", half.block_type), ("norm", half.norm),
            ("act", half.act),
        )
    ]  # fmt: skip
    made = [_Stage(*row) for row in zip(half.width_list, *columns, strict=True)]
    if count < 2 or any(stage.depth < 1 for stage in made[1:]):
        raise ConfigError(
            f"DCAEConfig: {name} needs two stages or more, with a block in all but the first",
            hint=f"change {name}.width_list and {name}.depth_list",
        )
    return made


def _encoder(stages: list[_Stage], cfg: DCAEConfig) -> list[nn.Module | None]:
    """The layers before the last convolution."""
    first, used = stages[0], stages
    if first.depth:
        layers: list[nn.Module | None] = [nn.Conv2d(cfg.in_channels, first.width, 3, padding=1)]
    else:  # the image is halved without a shortcut
        used = stages[1:]
        if used[0].width % 4:
            raise ShapeError(f"DCAE: a width of {used[0].width} is no multiple of 4")
        quarter = used[0].width // 4
        layers = [nn.Conv2d(cfg.in_channels, quarter, 3, padding=1), PixelsToChannels(2)]
    for number, stage in enumerate(used):
        if number:
            layers.append(ShortcutDown(used[number - 1].width, stage.width))
        layers += stage.blocks()
    out = cfg.encoder
    return [*layers, make_norm(out.out_norm, used[-1].width), make_act(out.out_act)]


def _decoder(stages: list[_Stage], cfg: DCAEConfig) -> list[nn.Module | None]:
    """The layers after the first convolution."""
    used = stages if stages[0].depth else stages[1:]
    layers: list[nn.Module | None] = []
    for number in reversed(range(len(used))):
        if number < len(used) - 1:
            layers.append(Doubling(used[number + 1].width, used[number].width))
        layers += used[number].blocks()
    width, colours, out = used[0].width, cfg.in_channels, cfg.decoder
    layers += [make_norm(out.out_norm, width), make_act(out.out_act)]
    if stages[0].depth:
        return [*layers, nn.Conv2d(width, colours, 3, padding=1)]
    return [*layers, nn.Conv2d(width, 4 * colours, 3, padding=1), nn.PixelShuffle(2)]


class _Ending(nn.Module):
    """The last convolution of the encoder, and the means of neighbouring channels beside it."""

    def __init__(self, width: int, latent_channels: int) -> None:
        super().__init__()
        _refuse_latent(width, latent_channels)
        self.latent_channels = latent_channels
        self.convolution = nn.Conv2d(width, latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        latent: Tensor = self.convolution(x) + average_channels(x, self.latent_channels)
        return latent


class _Beginning(nn.Module):
    """The first convolution of the decoder, and each channel several times beside it."""

    def __init__(self, latent_channels: int, width: int) -> None:
        super().__init__()
        _refuse_latent(width, latent_channels)
        self.times = width // latent_channels
        self.convolution = nn.Conv2d(latent_channels, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, C, H, W)."""
        maps: Tensor = self.convolution(x) + duplicate_channels(x, self.times)
        return maps


def _refuse_latent(width: int, latent_channels: int) -> None:
    if latent_channels < 1 or width % latent_channels:
        raise ShapeError(
            f"DCAE: latent_channels {latent_channels} does not divide the last width, {width}",
            hint="change latent_channels, or the last of width_list",
        )


class Doubling(nn.Module):
    """A map of twice the size: a convolution and a shortcut, each with its pixels shuffled.

    Args:
        before, after: channels; `before` divides 4 `after`.

    Raises:
        ShapeError: other numbers of channels.

    Source: Chen et al. 2024, arXiv:2410.10733, section 3.2 and figure 4.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        if 4 * after % before:
            raise ShapeError(f"DCAE: a doubling from {before} to {after} channels has no shortcut")
        self.times = 4 * after // before
        self.convolution = nn.Conv2d(before, 4 * after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 2 H, 2 W)."""
        return F.pixel_shuffle(self.convolution(x) + duplicate_channels(x, self.times), 2)


class ChannelNorm(nn.Module):
    """Normalises the channels of each pixel, then scales and shifts each channel.

    Args:
        channels: C.
        centred: subtract the mean first (`ln2d`); else only divide by the root mean square.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, channels: int, centred: bool) -> None:
        super().__init__()
        self.centred = centred
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = x - x.mean(1, keepdim=True) if self.centred else x
        scaled = x * (x.square().mean(1, keepdim=True) + 1e-5).rsqrt()
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


def make_norm(name: str | None, channels: int) -> nn.Module | None:
    """A normalisation of `HalfConfig.norm`; None gives None.

    Raises:
        ConfigError: unknown name.
    """
    if name is None:
        return None
    if name == "bn2d":
        return nn.BatchNorm2d(channels)
    if name in ("trms2d", "ln2d"):
        return ChannelNorm(channels, centred=name == "ln2d")
    raise ConfigError(f"DCAE: norm is {name!r}", hint="possible: bn2d, trms2d, ln2d")


def make_act(name: str | None) -> nn.Module | None:
    """An activation of `HalfConfig.act`; None gives None.

    Raises:
        ConfigError: unknown name.
    """
    if name == "gelu":
        return nn.GELU("tanh")
    return make_activation("hardswish" if name == "hswish" else name)


def make_block(kind: str, channels: int, norm: str, act: str) -> nn.Module:
    """A block of a stage, (B, C, H, W) -> the same shape.

    Raises:
        ConfigError: unknown kind.
    """
    if kind == "ResBlock":
        first = nn.Conv2d(channels, channels, 3, padding=1)
        last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        return ResidualAdd(chain([first, make_act(act), last, make_norm(norm, channels)]))
    if kind == "EViT_GLU":
        return nn.Sequential(
            ResidualAdd(chain([LinearAttention(channels), make_norm(norm, channels)])),
            ResidualAdd(chain([GatedConvolutions(channels, act), make_norm(norm, channels)])),
        )
    raise ConfigError(f"DCAE: block_type is {kind!r}", hint="possible: ResBlock, EViT_GLU")


class LinearAttention(nn.Module):
    """`linear_attention` between the pixels of a map, in heads of 32 numbers; no bias.

    Args:
        channels: a multiple of 32.

    Raises:
        ShapeError: another number of channels.

    Source: Cai et al. 2023, arXiv:2205.14756, equations 2 and 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % HEAD:
            raise ShapeError(
                f"DCAE: attention needs a width that is a multiple of {HEAD}, not {channels}",
                hint="change width_list, or block_type to ResBlock",
            )
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        # (B, 3 C, H, W) -> three of (B, heads, N, 32); the three of a head are neighbours
        heads = self.query_key_value(x).flatten(2).unflatten(1, (-1, 3, HEAD)).mT
        mixed = linear_attention(*heads.unbind(2))
        result: Tensor = self.out(mixed.mT.flatten(1, 2).reshape(x.shape))
        return result


class GatedConvolutions(nn.Module):
    """1x1 to eight times the width, 3x3 of each channel alone, one half gates the other, 1x1 back.

    Args:
        channels: of the map.
        act: after the first convolution and of the gate.

    Source: Chen et al. 2024, arXiv:2410.10733.
    """

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        wide = 2 * WIDER * channels
        self.widen = nn.Conv2d(channels, wide, 1)
        self.act, self.gate = make_act(act), make_act(act)
        self.local = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.narrow = nn.Conv2d(WIDER * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.widen(x)
        x = x if self.act is None else self.act(x)
        value, gate = self.local(x).chunk(2, dim=1)
        gate = gate if self.gate is None else self.gate(gate)
        result: Tensor = self.narrow(value * gate)
        return result


class OmegaConf:
    """The four functions of `omegaconf.OmegaConf` with which old files build a `DCAEConfig`.

    Settings are nested dictionaries here, and a `DCAEConfig` once merged into one.
    """

    block_names: ClassVar[frozenset[str]] = frozenset(
        {"from_dotlist", "merge", "structured", "to_object"}
    )

    @staticmethod
    def from_dotlist(dotlist: Sequence[str]) -> dict[str, Any]:
        """Settings as texts, `["encoder.norm=bn2d", "widths=[1,2]"]` -> a nested dictionary.

        Values are read as in YAML. Empty texts are left out.

        Raises:
            ConfigError: a text that is not NAME=VALUE, or a name that is also a group of names.
        """
        made: dict[str, Any] = {}
        for text in filter(None, dotlist):
            path, sign, value = text.partition("=")
            *above, name = path.strip().split(".")
            place: Any = made
            for key in above:
                place = place.setdefault(key, {}) if isinstance(place, dict) else None
            if not sign or not name or not isinstance(place, dict):
                raise ConfigError(
                    f"OmegaConf.from_dotlist cannot read {text!r}",
                    hint="write NAME=VALUE, or GROUP.NAME=VALUE",
                )
            try:
                place[name] = YAML(typ="safe", pure=True).load(value)
            except YAMLError:
                raise ConfigError(f"OmegaConf.from_dotlist: {value!r} is no YAML") from None
        return made

    @staticmethod
    def structured(obj: Any) -> DCAEConfig:
        """The settings of a class, or the settings themselves; only `DCAEConfig` is known."""
        made = obj() if obj is DCAEConfig else obj
        if not isinstance(made, DCAEConfig):
            raise ConfigError("OmegaConf.structured: only DCAEConfig is possible here")
        return made

    @staticmethod
    def merge(*configs: Any) -> Any:
        """The first settings with the values of the others in the place of their own.

        Raises:
            ConfigError: settings that have no such name.
        """
        made = configs[0] if configs else {}
        for config in configs[1:]:
            made = configured(config, made) if isinstance(made, DCAEConfig) else {**made, **config}
        return made

    @staticmethod
    def to_object(cfg: Any) -> Any:
        """The settings themselves."""
        return cfg
