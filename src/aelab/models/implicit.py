"""`ImageManifoldDecoder`: an implicit decoder, which maps position and latent to colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError, did_you_mean, one_of
from aelab.models.activations import Activation, make_activation
from aelab.models.coordinates import (
    POSITIONS,
    WHOLE,
    AntiAlias,
    PositionCode,
    Region,
    checked_size,
    pixel_positions,
    pixel_size,
)
from aelab.models.implicit_inputs import PixelInputs, PositionShare, make_mixing
from aelab.models.implicit_layers import PixelBlock, Sine, Statistics
from aelab.models.shapes import shape_words

# Numbers in the widest activation of one pass. On a CPU 2 MB was fastest at widths 64 to 256
# (benchmarks/records.md): with one image the overhead of calls dominates, sixteen exceed the cache.
_CPU_NUMBERS = 1 << 19
# On other devices it only limits the memory of `render`.
_DEVICE_NUMBERS = 1 << 27


class ImageManifoldDecoder(nn.Module):
    """A network of residual linear layers that maps position and latent to the colour of a pixel.

    With its default settings it is the decoder of the documents: concat(latent, position code) ->
    linear, activation -> blocks -> linear, `activation_out`. In training each block normalises
    over the pixels of one image, independent of the batch; running averages are updated image by
    image and used in evaluation.

    Args:
        num_input_channels: D, length of the latent.
        num_output_channels: C.
        num_hidden: width of the first block.
        num_blocks: residual blocks.
        num_layers_per_block: linear layers of each block.
        concat_residual: whether to append a block's result to its input instead of adding it,
            which doubles the width of all following blocks; one bool, or one per block.
        pos_embedding_freqs: f of the position code, radians per unit; the image is 2 units wide.
        batch_norm: whether each block starts with `normalization`.
        default_shape: (H, W) that `forward` renders; None: must be given at each call.
        activation: after every hidden layer; `siren` for sines with their own initial weights.
        activation_out: after the last layer.
        cross_attention: attention with the position as query and the latent as keys and values, as
            in the documents. All rows of the latent are equal, so the result is the same linear map
            of the latent for every query; it is computed as this map.
        cross_attention_heads: must divide D.
        pos_embedding: `sin_cos`; `sin` for the code until 10 November 2023; `linear` for x and y
            alone; or a `PositionCode`, such as `FourierPositions()`.
        anti_alias: `box` or `gaussian`: weakens waves of the position code as averaging over a
            pixel of the rendered grid would. A `PositionCode` has its own setting.
        mixing: how the latent enters: `concat` (as inputs of the first layer), `film` (scales and
            shifts every layer of the blocks), `grid` (a coarse feature map computed from the
            latent and interpolated at the position); one or several.
        grid_shape: (rows, columns) of that feature map.
        grid_channels: number of its features.
        normalization: `image`, or `layer` or `rms` over the features of each pixel, which do not
            depend on other pixels, and so not on the rendered size.
        residual: False removes the identity paths.
        statistics: of `image` normalisation in evaluation: `running` averages as in the documents,
            or those of the `image` itself on the default grid.
        chunk: images per pass; None: as many as fit into the cache of a CPU (4 of 32x32 at width
            128), or the whole batch on other devices. Affects only speed and memory.

    Attributes:
        default_shape: (H, W) or None.
        inputs: the first layer, which combines position and latent.
        blocks: list of `PixelBlock`.
        linear_out: last layer, to the colours.

    Raises:
        ConfigError: settings that cannot be combined.
        ShapeError: wrong number of `concat_residual`, or an invalid shape.

    Source: documents 001 and 003; Stanley 2007, doi:10.1007/s10710-007-9028-8 (pictures as
    functions of position); Perez et al. 2018, arXiv:1709.07871 (film); Chen et al. 2021,
    arXiv:2012.09161 (features interpolated at the position).
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"blocks", "default_shape", "inputs", "linear_out", "num_input_channels", "render"}
    )

    def __init__(
        self,
        num_input_channels: int,
        num_output_channels: int = 3,
        num_hidden: int = 256,
        num_blocks: int = 2,
        num_layers_per_block: int = 2,
        concat_residual: bool | Iterable[bool] = False,
        pos_embedding_freqs: Iterable[float] = (7, 17),
        batch_norm: bool = True,
        default_shape: Sequence[int] | None = None,
        activation: Activation = "gelu",
        activation_out: Activation = "sigmoid",
        cross_attention: bool = False,
        cross_attention_heads: int = 4,
        *,
        pos_embedding: str | PositionCode = "sin_cos",
        anti_alias: AntiAlias = None,
        mixing: str | Sequence[str] = "concat",
        grid_shape: Sequence[int] = (8, 8),
        grid_channels: int = 16,
        normalization: str = "image",
        residual: bool = True,
        statistics: str = "running",
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.num_input_channels = int(num_input_channels)
        self.num_output_channels = int(num_output_channels)
        self.default_shape = None if default_shape is None else _size(default_shape)
        self.statistics, self.chunk = _checked_passes(statistics, chunk)
        self.mixing = make_mixing(mixing, with_attention=cross_attention)
        self.inputs = PixelInputs(
            self.num_input_channels,
            int(num_hidden),
            _make_positions(pos_embedding, tuple(pos_embedding_freqs), anti_alias),
            self.mixing,
            _size(grid_shape),
            grid_channels,
            activation,
            cross_attention_heads if cross_attention else 0,
        )
        self.blocks, width = _make_blocks(
            int(num_hidden),
            num_layers_per_block,
            activation,
            normalization if batch_norm else None,
            _residuals(concat_residual, num_blocks, residual),
        )
        self.width = width  # the widest, since blocks never narrow
        self.linear_out = nn.Linear(width, self.num_output_channels)
        self.act_out = make_activation(activation_out) or nn.Identity()
        self.modulation = self._make_modulation() if "film" in self.mixing else None
        self._initialise_sines()
        if cross_attention:
            self.note = "cross attention over equal rows: its queries and keys have no effect"

    def forward(self, latent: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W); (D,) -> (C, H, W).

        Args:
            latent: of the encoder.
            shape: (H, W) instead of `default_shape`. In training the statistics are then those of
                this grid, as in the documents; compare `render`.

        Raises:
            ShapeError: there is no shape, or the latent has another length.
        """
        if latent.ndim == 1:
            return self.forward(latent[None], shape)[0]
        self._check(latent)
        size = self._default() if shape is None else _size(shape)
        is_own = self.has_image_norm and (self.training or self.statistics == "image")
        if is_own and not self.training and size != self.default_shape:
            return self.render(latent, size)
        # A grid of pixels needs the same position code for every image.
        share = self._share(size)  # computed once for all images of the batch
        images = []
        for some in self._passes(latent, size):
            statistics = Statistics("own" if is_own else "running", update=self.training)
            images.append(self._colours(some, share, statistics))
        return torch.cat(images).reshape(latent.shape[0], -1, *size)

    def render(
        self, latent: Tensor, shape: Sequence[int], region: Region = WHOLE
    ) -> Tensor:  # (B, C, H, W)
        """Renders images at any size, of any region, with limited memory.

        Statistics of an image are always taken on the default grid (without gradient), so that a
        pixel does not depend on which others are rendered. No buffer changes, not even in
        training. At `default_shape` and the whole region the result equals `forward`.

        Args:
            latent: (B, D).
            shape: (H, W).
            region: (x0, y0, x1, y1), centres of the corner pixels, in coordinates that
                are -1..1 over the pixel centres of the default grid.

        Returns:
            (B, C, H, W).

        Raises:
            ShapeError: an invalid shape, or `default_shape` is missing and needed for statistics.
        """
        self._check(latent)
        size = _size(shape)
        is_own = self.has_image_norm and (self.training or self.statistics == "image")
        if not is_own:
            return self._render_bands(latent, size, region, Statistics("running"))
        default = self._default()
        share = self._share(default)
        images = []
        for some in self._passes(latent, default):
            # First pass: statistics on the default grid. Second pass: render with them.
            # Records the statistics of each layer while it computes them.
            own = Statistics("own")
            with torch.no_grad():
                self._colours(some, share, own)
            given = Statistics("given", values=own.values)
            images.append(self._render_bands(some, size, region, given))
        return torch.cat(images)

    @property
    def has_image_norm(self) -> bool:
        """Whether any layer normalises over all pixels of an image."""
        return any(block.has_image_norm for block in self._blocks())

    def extra_repr(self) -> str:
        """Settings that the printed children do not show."""
        return (
            f"default_shape={self.default_shape}, mixing={self.mixing}, "
            f"statistics={self.statistics}, chunk={self.chunk}"
        )

    def _render_bands(
        self, latent: Tensor, size: tuple[int, int], region: Region, statistics: Statistics
    ) -> Tensor:
        like, pixel = self.linear_out.weight, pixel_size(size, region)
        positions = pixel_positions(size, region, like)  # (H * W, 2), rendered in bands of pixels
        bands = []
        numbers = _CPU_NUMBERS if latent.device.type == "cpu" else _DEVICE_NUMBERS
        for band in torch.split(positions, max(numbers // (self.width * len(latent)), 1)):
            share = self.inputs.of_positions(band, pixel)
            bands.append(self._colours(latent, share, statistics))
        return torch.cat(bands, dim=2).reshape(len(latent), -1, *size)

    def _share(self, size: tuple[int, int]) -> PositionShare:
        positions = pixel_positions(size, WHOLE, self.linear_out.weight)
        return self.inputs.of_positions(positions, pixel_size(size, WHOLE))

    def _colours(self, latent: Tensor, share: PositionShare, statistics: Statistics) -> Tensor:
        """Colours of P positions: latents (B, D) -> (B, C, P)."""
        x = self.inputs(latent, share)  # (P, B, F)
        modulation = None if self.modulation is None else self.modulation(latent)
        start = 0
        for index, block in enumerate(self._blocks()):
            own = None
            # One linear layer gives the gains and shifts of all blocks; each takes its columns.
            if modulation is not None:
                own = modulation[:, start : start + block.num_modulations]  # this block's (B, ...)
                start += block.num_modulations
            x = block(x, statistics, index, own)
        colours: Tensor = self.act_out(self.linear_out(x))  # (P, B, C)
        return colours.permute(1, 2, 0)

    def _blocks(self) -> list[PixelBlock]:
        return [block for block in self.blocks if isinstance(block, PixelBlock)]

    def _make_modulation(self) -> nn.Linear:
        count = sum(block.num_modulations for block in self._blocks())
        modulation = nn.Linear(self.num_input_channels, count)
        nn.init.zeros_(modulation.bias)  # a zero latent gives gain 1 and shift 0
        return modulation

    def _initialise_sines(self) -> None:
        # The first layer initialises itself.
        sine = self.inputs.activation
        if not isinstance(sine, Sine):
            return
        for block in self._blocks():
            for weight in block.weights():
                sine.initialise(weight)
        sine.initialise(self.linear_out.weight)
        if self.modulation is not None:
            sine.initialise(self.modulation.weight)

    def _passes(self, latent: Tensor, size: tuple[int, int]) -> Sequence[Tensor]:
        """The latents, split so that one pass needs limited memory."""
        if torch.compiler.is_exporting():  # the number of images is not known yet
            return (latent,)
        if self.chunk is not None:
            count = self.chunk
        elif latent.device.type != "cpu":
            count = latent.shape[0]
        else:
            count = _CPU_NUMBERS // (size[0] * size[1] * self.width)
        return torch.split(latent, max(count, 1))

    def _default(self) -> tuple[int, int]:
        if self.default_shape is None:
            raise ShapeError(
                "ImageManifoldDecoder: neither a shape nor a default_shape is given",
                hint="build it with default_shape=SHAPE[-2:]",
            )
        return self.default_shape

    def _check(self, latent: Tensor) -> None:
        if latent.ndim != 2 or latent.shape[1] != self.num_input_channels:
            raise ShapeError(
                f"ImageManifoldDecoder: takes {self.num_input_channels} numbers per image, but the "
                f"latent is {shape_words(latent.shape[1:])}",
                hint="num_input_channels must be the length of the latent",
            )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        for old in [name for name in state_dict if name.startswith(prefix)]:
            new = prefix + _new_name(old[len(prefix) :])
            if new != old:
                state_dict[new] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _new_name(name: str) -> str:
    """Converts a parameter name of the documents' decoder to the name used here."""
    parts = name.removeprefix("pos_to_color.").split(".")
    if parts[0] == "resblocks":  # resblock_1.layers.layer_1.linear.weight
        block = int(parts[1].removeprefix("resblock_")) - 1
        if parts[3] == "norm":
            return ".".join(["blocks", str(block), *parts[3:]])
        layer = int(parts[3].removeprefix("layer_")) - 1
        return ".".join(["blocks", str(block), "linears", str(layer), *parts[5:]])
    if parts[0] in ("linear_in", "proj"):
        return ".".join(["inputs.linear", *parts[1:]])
    if parts[0] in ("upscale_pos", "cross_atn"):
        return ".".join(["inputs", *parts])
    return ".".join(parts)


def _make_positions(
    kind: str | PositionCode, freqs: tuple[float, ...], anti_alias: AntiAlias
) -> PositionCode:
    if isinstance(kind, PositionCode):
        if anti_alias is not None:
            raise ConfigError(
                "ImageManifoldDecoder: anti_alias belongs to the position code that was given",
                hint=f"write {type(kind).__name__}(..., anti_alias={anti_alias!r})",
            )
        return kind
    if kind not in POSITIONS:
        raise ConfigError(
            f"unknown pos_embedding {kind!r}{did_you_mean(str(kind), POSITIONS)}",
            hint=f"possible: {one_of(POSITIONS)}, or a PositionCode such as FourierPositions()",
        )
    return POSITIONS[kind](freqs, anti_alias)


def _residuals(
    concat: bool | Iterable[bool], num_blocks: int, residual: bool
) -> list[Literal["add", "concat", "none"]]:
    flags = [concat] * num_blocks if isinstance(concat, bool) else [bool(flag) for flag in concat]
    if len(flags) != num_blocks:
        raise ShapeError(
            f"ImageManifoldDecoder: concat_residual has {len(flags)} values, but there are "
            f"{num_blocks} blocks",
            hint=f"give one bool, or {num_blocks} of them",
        )
    if any(flags) and not residual:
        raise ConfigError(
            "ImageManifoldDecoder: concat_residual needs the identity paths",
            hint="leave out residual=False",
        )
    return [("concat" if flag else "add") if residual else "none" for flag in flags]


def _make_blocks(
    width: int,
    num_layers: int,
    activation: Activation,
    normalization: str | None,
    residuals: Sequence[Literal["add", "concat", "none"]],
) -> tuple[nn.ModuleList, int]:
    blocks = nn.ModuleList()
    for residual in residuals:
        block = PixelBlock(width, num_layers, activation, normalization, residual)
        blocks.append(block)
        width = block.num_outputs
    return blocks, width


def _checked_passes(statistics: str, chunk: int | None) -> tuple[str, int | None]:
    if statistics not in ("running", "image"):
        raise ConfigError(
            f"ImageManifoldDecoder: statistics must be 'running' or 'image', not {statistics!r}"
        )
    if chunk is not None and chunk < 1:
        raise ConfigError(f"ImageManifoldDecoder: chunk must be at least 1, not {chunk}")
    return statistics, chunk


def _size(shape: Sequence[int]) -> tuple[int, int]:
    return checked_size(shape, "ImageManifoldDecoder")
