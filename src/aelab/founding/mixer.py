"""`MixerMLP` of old files: linear layers for each patch, and layers that mix patches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from einops import rearrange
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.founding.helpers import ResidualAdd
from aelab.founding.polynomial import KAELayer
from aelab.models.activations import Activation, make_activation, make_normalization
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Identity
from aelab.models.shapes import image_shape


class PatchLayer(nn.Module):
    """A layer for each patch: x + act(linear(norm(x))); without x + where the sizes differ.

    Args:
        before, after: numbers of values of a patch.
        order: highest power of a `KAELayer` in place of the linear layer; None: linear.
        activation, norm: by name.
    """

    def __init__(
        self,
        before: int,
        after: int,
        order: int | None = None,
        activation: Activation = None,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        self.adds = before == after
        self.norm = make_normalization(norm, before)
        self.module = nn.Linear(before, after) if order is None else KAELayer(before, after, order)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, before) -> (B, P, after)."""
        # Normalisations see every patch as an image of its own: (B * P, before).
        y: Tensor = x if self.norm is None else self.norm(x.flatten(0, 1)).reshape(x.shape)
        y = self.module(y)
        y = y if self.act is None else self.act(y)
        return y + x if self.adds else y


class PatchMixer(nn.Module):
    """x + act(a layer over all patches).

    Args:
        patches, channels: P and C.
        kind: `mlp`: a linear layer of all P * C values. `cnn`: a convolution along C whose
            channels are the patches; `cnn2d`: the same over a square of C values. `cnnf`,
            `cnn2df`: then one along P whose channels are the C values.
        kernel_size: of the convolutions.
        activation: by name.

    Raises:
        ConfigError: unknown kind; an even kernel, which changes the size.
        ShapeError: C, or P for `cnn2df`, is no square number.
    """

    def __init__(
        self, patches: int, channels: int, kind: str, kernel_size: int, activation: Activation
    ) -> None:
        super().__init__()
        if kind not in ("mlp", "cnn", "cnnf", "cnn2d", "cnn2df"):
            raise ConfigError(
                f"MixerMLP: mixer_type is given as {kind!r}",
                hint="possible: mlp, cnn, cnnf, cnn2d, cnn2df",
            )
        if kernel_size % 2 == 0:
            raise ConfigError(f"MixerMLP: mixer_kernel_size must be odd, not {kernel_size}")
        flat = "2d" not in kind
        self.side = 1 if flat else _side(channels, "values of a patch (hidden_channels)")
        self.grid = 1 if kind != "cnn2df" else _side(patches, "patches")
        convolution = nn.Conv1d if flat else nn.Conv2d
        self.along: nn.Module | None = None
        if kind == "mlp":
            self.across: nn.Module = nn.Linear(patches * channels, patches * channels)
        else:
            pad = kernel_size // 2
            self.across = convolution(patches, patches, kernel_size, padding=pad)
            if kind.endswith("f"):
                self.along = convolution(channels, channels, kernel_size, padding=pad)
        self.kind = kind
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, C) -> (B, P, C)."""
        y: Tensor = self.across(self._laid_out(x, self.side)).reshape(x.shape)
        if self.along is not None:
            turned = y.mT  # (B, C, P)
            y = self.along(self._laid_out(turned, self.grid)).reshape(turned.shape).mT
        y = y if self.act is None else self.act(y)
        return x + y

    def _laid_out(self, x: Tensor, side: int) -> Tensor:
        if self.kind == "mlp":
            return x.flatten(1)
        return x if "2d" not in self.kind else x.reshape(*x.shape[:2], side, -1)

    def extra_repr(self) -> str:
        """The kind, for `print(model)`."""
        return self.kind


class _Encoder(nn.Module):
    """Patches through layers and mixers, then one linear layer for all of them."""

    def __init__(self, patch_size: int, layers: list[nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.patch_size, self.layers, self.last = patch_size, nn.Sequential(*layers), last

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        size = self.patch_size
        patches = rearrange(images, "b c (y p) (x q) -> b (y x) (c p q)", p=size, q=size)
        latent: Tensor = self.last(self.layers(patches).flatten(1))
        return latent


class _Decoder(nn.Module):
    """The mirror of `_Encoder`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        patch_size: int,
        first: nn.Module,
        layers: list[nn.Module],
    ) -> None:
        super().__init__()
        self.shape, self.patch_size = shape, patch_size
        self.first, self.layers = first, nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""
        channels, height, width = self.shape
        size = self.patch_size
        rows, columns = height // size, width // size
        start: Tensor = self.first(latent)
        patches: Tensor = self.layers(start.reshape(start.shape[0], rows * columns, -1))
        return rearrange(
            patches, "b (y x) (c p q) -> b c (y p) (x q)", y=rows, x=columns, c=channels, p=size
        )


class MixerMLP(Autoencoder):
    """An autoencoder of linear layers for each patch and of layers that mix the patches.

    Args:
        image_shape: (C, H, W).
        patch_size: side of a patch in pixels; H and W are multiples of it.
        hidden_channels: numbers of values of a patch after each layer; the last one is the length
            of the latent of the whole image.
        mixer_at: after which layers (from 1) patches are mixed.
        mixer_type: how, see `PatchMixer`.
        mixer_kernel_size: of its convolutions, odd.
        kae_order_at: {number of the layer from 0: highest power} of polynomial layers (`KAELayer`).
        activation, kae_activation: of linear layers and mixers, of polynomial layers.
        norm: before each layer, by name.

    Raises:
        ShapeError: a size that is no multiple of the patch, or no square where it must be.
        ConfigError: unknown mixer.

    Source: the mixing of patches follows Tolstikhin et al. 2021, "MLP-Mixer", arXiv:2105.01601.
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes

    def __init__(
        self,
        image_shape: Sequence[int],
        patch_size: int,
        hidden_channels: Sequence[int],
        mixer_at: Sequence[int] = (),
        mixer_type: str = "mlp",
        mixer_kernel_size: int = 1,
        kae_order_at: Mapping[int, int] | None = None,
        activation: Activation = None,
        kae_activation: Activation = None,
        norm: str | None = None,
    ) -> None:
        shape = _checked(image_shape, patch_size, hidden_channels)
        patches = math.prod(shape[1:]) // patch_size**2
        widths = [shape[0] * patch_size**2, *hidden_channels[:-1]]
        orders = dict(kae_order_at or {})
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []  # from its end
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            act = kae_activation if orders.get(i) else activation
            mixes = i + 1 in mixer_at
            encoder.append(PatchLayer(before, after, orders.get(i), act, norm))
            # As in the original, the output has no activation unless mixers follow the first layer.
            back = act if i > 0 or mixes else None
            decoder.append(PatchLayer(after, before, orders.get(i), back, norm))
            if mixes:
                mixer = (patches, after, mixer_type, mixer_kernel_size, activation)
                encoder.append(PatchMixer(*mixer))
                decoder.append(PatchMixer(*mixer))
        size, latent = patches * widths[-1], hidden_channels[-1]
        super().__init__(
            _Encoder(patch_size, encoder, _joined(size, latent)),
            Identity(),
            _Decoder(shape, patch_size, _joined(latent, size), decoder[::-1]),
        )


def _joined(before: int, after: int) -> nn.Module:
    """The linear layer between all patches and the latent; residual where the sizes agree."""
    linear = nn.Linear(before, after)
    return ResidualAdd(linear) if before == after else linear


def _checked(
    shape: Sequence[int], patch_size: int, hidden_channels: Sequence[int]
) -> tuple[int, int, int]:
    sizes = image_shape(shape, "MixerMLP")
    if sizes[1] % patch_size or sizes[2] % patch_size:
        raise ShapeError(
            f"MixerMLP: {sizes[1]}x{sizes[2]} pixels must be multiples of patch_size {patch_size}"
        )
    if len(hidden_channels) < 2:
        raise ShapeError(
            f"MixerMLP: hidden_channels needs at least 2 numbers, got {len(hidden_channels)}: "
            "those of the layers, and the length of the latent"
        )
    return sizes


def _side(count: int, what: str) -> int:
    side = math.isqrt(count)
    if side * side != count:
        raise ShapeError(
            f"MixerMLP: this mixer_type needs a square number of {what}, not {count}",
            hint="use mixer_type cnn or mlp, or another size",
        )
    return side
