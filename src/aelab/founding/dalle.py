"""The encoder of DALL-E's discrete autoencoder, and the documents' autoencoder around it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ShapeError
from aelab.models.activations import Activation, make_activation
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.implicit import ImageManifoldDecoder
from aelab.models.reshaping import FlattenPixels, SpaceToDepthPool
from aelab.models.shapes import image_shape, shape_words


class DalleBlock(nn.Module):
    """A residual bottleneck block: x + gain * (act, 3x3, act, 3x3, act, 3x3, act, 1x1).

    Args:
        width_in, width_out: channels; a 1x1 convolution joins them where they differ.
        gain: factor of the residual path.
        act_fn: activation before every convolution of it.

    Source: Ramesh et al. 2021, arXiv:2102.12092, appendix A.1; the documents' `DalleEncoder`.
    """

    def __init__(self, width_in: int, width_out: int, gain: float, act_fn: Activation) -> None:
        super().__init__()
        self.gain = gain
        hidden = width_out // 4
        self.identity = (
            nn.Identity() if width_in == width_out else same_convolution(width_in, width_out, 1)
        )
        widths = [width_in, hidden, hidden, hidden, width_out]
        path: list[nn.Module] = []
        for index, kernel_size in enumerate((3, 3, 3, 1)):
            # The identity path also reads the block's input, so the first activation is not in
            # place.
            activation = make_activation(act_fn, in_place=index > 0)
            path += [activation] if activation is not None else []
            path.append(same_convolution(widths[index], widths[index + 1], kernel_size))
        self.path = nn.Sequential(*path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) -> (B, width_out, H, W)."""
        y: Tensor = torch.add(self.identity(x), self.path(x), alpha=self.gain)
        return y


def same_convolution(width_in: int, width_out: int, kernel_size: int) -> nn.Conv2d:
    """A convolution that keeps the size, with weights N(0, 1 / fan in) and biases 0."""
    convolution = nn.Conv2d(width_in, width_out, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(convolution.weight, std=1 / math.sqrt(width_in * kernel_size**2))
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


class DalleEncoder(nn.Module):
    """Four groups of residual blocks, each of twice the width and, from the second, half the size.

    Args:
        group_count: used only in the gain; there are always four groups.
        n_hid: width of the first group; a multiple of 4.
        n_blk_per_group: blocks of each.
        input_channels: C.
        vocab_size: channels of the result.
        act_fn: activation.
        space_to_depth: halve by `SpaceToDepthPool` (which has weights) instead of max pooling.
        requires_grad: False freezes the weights, which was the default of the documents' class.
        use_mixed_precision: compute in bfloat16 on a GPU; weights and results keep their dtype.

    Raises:
        ShapeError: `n_hid` is no multiple of 4; in `forward`, images that cannot be halved 3 times.

    Source: Ramesh et al. 2021, arXiv:2102.12092, appendix A.1.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"get_output_shape", "groups", "vocab_size"}
    )

    def __init__(
        self,
        group_count: int = 4,
        n_hid: int = 256,
        n_blk_per_group: int = 2,
        input_channels: int = 3,
        vocab_size: int = 8192,
        act_fn: Activation = nn.ReLU,
        space_to_depth: bool = False,
        requires_grad: bool = True,
        use_mixed_precision: bool = True,
    ) -> None:
        super().__init__()
        if n_hid < 4 or n_hid % 4:
            raise ShapeError(f"DalleEncoder: n_hid must be a multiple of 4, not {n_hid}")
        self.vocab_size, self.space_to_depth = int(vocab_size), space_to_depth
        self.use_mixed_precision = use_mixed_precision
        gain = 1 / (group_count * n_blk_per_group) ** 2
        self.input = same_convolution(input_channels, n_hid, 7)
        self.groups = nn.ModuleList()
        width = n_hid
        for group in range(4):
            wider = n_hid * 2**group
            blocks: list[nn.Module] = [
                DalleBlock(width if block == 0 else wider, wider, gain, act_fn)
                for block in range(n_blk_per_group)
            ]
            width = wider
            if group < 3:
                blocks.append(SpaceToDepthPool(width) if space_to_depth else nn.MaxPool2d(2))
            self.groups.append(nn.Sequential(*blocks))
        self.activation = make_activation(act_fn) or nn.Identity()
        self.output = same_convolution(width, self.vocab_size, 1)
        self.requires_grad_(requires_grad)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, vocab_size, H/8, W/8), rounded down."""
        self.get_output_shape(images.shape[-2:])
        is_mixed = self.use_mixed_precision and images.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=is_mixed):
            x = self.input(images)
            for group in self.groups:
                x = group(x)
            features: Tensor = self.output(self.activation(x))
        return features.to(images.dtype)

    def get_output_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """(vocab_size, H/8, W/8) for images of (H, W) or (C, H, W).

        Raises:
            ShapeError: below 8 pixels; with `space_to_depth`, no multiple of 8.
        """
        height, width = (int(size) for size in shape[-2:])
        if min(height, width) < 8 or (self.space_to_depth and (height % 8 or width % 8)):
            wanted = "a multiple of 8" if self.space_to_depth else "at least 8"
            raise ShapeError(
                f"DalleEncoder: halves the size three times, so both sizes must be {wanted}, "
                f"not {shape_words((height, width))}",
                hint="resize the images, or use space_to_depth=False",
            )
        return self.vocab_size, height // 8, width // 8


class DalleManifoldAutoencoder(EncoderDecoder):
    """The documents' first implicit autoencoder: `DalleEncoder`, one linear layer, pixels.

    Args:
        shape: (C, H, W) of the images.
        n_hid: width of the encoder's first group.
        vocab_size: D, length of the latent.
        group_count, n_blk_per_group, act_fn, space_to_depth, use_mixed_precision: as in
            `DalleEncoder`.
        decoder_n_hid, decoder_n_blk, decoder_n_layer, decoder_concat_residual: `num_hidden`,
            `num_blocks`, `num_layers_per_block`, `concat_residual` of `ImageManifoldDecoder`.
        decoder_pos_embedding: its `pos_embedding`. The default is that of the documents, to which
            their parameter counts belong; `sin_cos` was added on 13 November 2023 and is the
            default of `ImageManifoldDecoder`.
        decoder_statistics, decoder_chunk: its `statistics` and `chunk`.

    Raises:
        ShapeError: images that cannot be halved three times.

    Source: documents 001 and 003.
    """

    def __init__(
        self,
        shape: Sequence[int],
        n_hid: int = 256,
        vocab_size: int = 128,
        group_count: int = 4,
        n_blk_per_group: int = 2,
        use_mixed_precision: bool = False,
        act_fn: Activation = nn.ReLU,
        space_to_depth: bool = False,
        decoder_n_hid: int = 256,
        decoder_n_blk: int = 2,
        decoder_n_layer: int = 2,
        decoder_concat_residual: bool | Iterable[bool] = False,
        decoder_pos_embedding: str = "sin",
        decoder_statistics: str = "running",
        decoder_chunk: int | None = None,
    ) -> None:
        shape = image_shape(shape, "DalleManifoldAutoencoder")
        pixels = DalleEncoder(
            group_count=group_count,
            n_hid=n_hid,
            n_blk_per_group=n_blk_per_group,
            input_channels=shape[0],
            vocab_size=vocab_size,
            act_fn=act_fn,
            space_to_depth=space_to_depth,
            use_mixed_precision=use_mixed_precision,
        )
        num_features = math.prod(pixels.get_output_shape(shape))
        decoder = ImageManifoldDecoder(
            num_input_channels=vocab_size,
            num_output_channels=shape[0],
            num_hidden=decoder_n_hid,
            num_blocks=decoder_n_blk,
            num_layers_per_block=decoder_n_layer,
            concat_residual=decoder_concat_residual,
            default_shape=shape[1:],
            pos_embedding=decoder_pos_embedding,
            statistics=decoder_statistics,
            chunk=decoder_chunk,
        )
        encoder = nn.Sequential(pixels, FlattenPixels(), nn.Linear(num_features, vocab_size))
        super().__init__(encoder, decoder)
