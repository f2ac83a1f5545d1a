"""The transformer autoencoder of document 001, whose tokens are the images of a batch.

`models.patch_transformer` has an autoencoder whose tokens are the patches of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.activations import Activation, make_activation
from aelab.models.attention import refuse_heads
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.patches import Size, pair
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.models.shapes import conv_size, image_shape, shape_words

TOKENS_ARE_IMAGES = (
    "TransformerAutoencoder (legacy): its tokens are the images of a batch, not the patches of an"
    " image; each reconstruction depends on the images beside it, in training and in validation"
    " (batches of consecutive images, as in the old runner)"
)


class TransformerEncoder(nn.Module):
    """Images to codes by attention over the images of the batch; see `TransformerAutoencoder`."""

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"code_size", "linear", "patches", "shape", "transformer"}
    )

    note = TOKENS_ARE_IMAGES

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        patch_size: Size = 8,
        stride: Size | None = None,
        num_layers: int = 4,
        num_hidden: int = 64,
        num_heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        stride, self.code_size = stride or patch_size, int(code_size)
        self.shape, encoded_shape = _checked_shapes(
            "TransformerEncoder", shape, num_hidden, num_heads, patch_size, stride
        )
        self.patches = nn.Sequential(
            nn.Conv2d(self.shape[0], num_hidden, patch_size, stride),
            FlattenPixels(),
            nn.Linear(math.prod(encoded_shape), num_hidden),
        )
        self.transformer = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                num_hidden, num_heads, mlp_dim or num_hidden, dropout, _function(activation)
            ),
            num_layers,
            enable_nested_tensor=False,
        )
        self.linear = nn.Linear(num_hidden, self.code_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, D); every image attends to every other."""
        tokens = self.patches(images)  # (B, hidden), which torch reads as one sequence of B
        features: Tensor = self.linear(self.transformer(tokens))
        return features


class TransformerDecoder(nn.Module):
    """Codes to images by attention over the codes of the batch; see `TransformerAutoencoder`.

    Target and memory of torch's decoder are the same tensor.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"code_size", "linear", "patches", "shape", "transformer"}
    )

    note = TOKENS_ARE_IMAGES

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        patch_size: Size = 8,
        stride: Size | None = None,
        num_layers: int = 4,
        num_hidden: int = 64,
        num_heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        stride, self.code_size = stride or patch_size, int(code_size)
        self.shape, encoded_shape = _checked_shapes(
            "TransformerDecoder", shape, num_hidden, num_heads, patch_size, stride
        )
        self.linear = nn.Linear(self.code_size, num_hidden)
        self.transformer = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(
                num_hidden, num_heads, mlp_dim or num_hidden, dropout, _function(activation)
            ),
            num_layers,
        )
        self.patches = nn.Sequential(
            nn.Linear(num_hidden, math.prod(encoded_shape)),
            UnflattenPixels(encoded_shape),
            nn.ConvTranspose2d(num_hidden, self.shape[0], patch_size, stride),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W); every latent attends to every other."""
        tokens = self.linear(latent)  # (B, hidden), which torch reads as one sequence of B
        images: Tensor = self.patches(self.transformer(tokens, tokens))
        return images


class TransformerAutoencoder(EncoderDecoder):
    """Document 001's transformer: each image is one token, and a batch is one sequence.

    A convolution reads patches, one linear layer joins all of them to a token, and torch's
    post-norm encoder and decoder attend over the batch. There is no positional code, and only the
    linear layers mix patches. The document's YAML builds this class; results are comparable with
    its tables. The reconstruction of an image depends on the other images of its batch. The layers
    of each stack start with equal weights, because torch's stacks copy their layer.

    Args:
        shape: (C, H, W) of the images.
        code_size: D, length of the latent.
        patch_size: side of a patch in pixels, or (height, width).
        stride: pixels between patches; None for `patch_size`.
        num_layers: layers of the encoder, and of the decoder.
        num_hidden: width of a token.
        num_heads: heads of each attention; divides `num_hidden`.
        mlp_dim: width between the two linear layers of a block; None for `num_hidden`.
        dropout: probability, 0..1; in training mode only.
        activation: activation of the blocks.

    Raises:
        ShapeError: the patches do not tile the image, or the heads do not divide the width.

    Source: founding document 001, "transformer on mnist", 2023-11-12.
    """

    note = TOKENS_ARE_IMAGES

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        patch_size: Size = 8,
        stride: Size | None = None,
        num_layers: int = 4,
        num_hidden: int = 64,
        num_heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.1,
        activation: Activation = "relu",
    ) -> None:
        shape = image_shape(shape, "TransformerAutoencoder")
        _refuse_other_size(shape, patch_size, stride or patch_size)
        arguments = (shape, code_size, patch_size, stride, num_layers, num_hidden, num_heads)
        more = (mlp_dim, dropout, activation)
        super().__init__(
            TransformerEncoder(*arguments, *more), TransformerDecoder(*arguments, *more)
        )


def _function(activation: Activation) -> Callable[[Tensor], Tensor]:
    """The activation as a function: torch's decoder layer replaces a module by ReLU when copied.

    Raises:
        ConfigError: the activation has weights.
    """
    module = make_activation(activation) or nn.Identity()
    if list(module.parameters()):
        raise ConfigError(
            f"TransformerAutoencoder: the activation {type(module).__name__} has weights of its"
            " own; it takes activations without"
        )
    return module.forward


def _checked_shapes(
    owner: str,
    shape: Sequence[int],
    num_hidden: int,
    num_heads: int,
    patch_size: Size,
    stride: Size,
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(C, H, W) of the images and (hidden, rows, columns) of their patches."""
    images = image_shape(shape, owner)
    refuse_heads(num_hidden, num_heads, owner)
    return images, _encoded_shape(images, num_hidden, patch_size, stride)


def _encoded_shape(
    shape: Sequence[int], num_hidden: int, patch_size: Size, stride: Size
) -> tuple[int, int, int]:
    """(hidden, rows, columns) of the patches."""
    sizes = zip(shape[1:], pair(patch_size), pair(stride), strict=True)
    rows, columns = (conv_size(size, patch, step) for size, patch, step in sizes)
    if min(rows, columns) < 1:
        raise ShapeError(
            f"patch_size {patch_size} is larger than the image, {shape_words(shape)}",
            hint=f"use a patch_size of at most {min(shape[1:])}",
        )
    return num_hidden, rows, columns


def _refuse_other_size(shape: tuple[int, int, int], patch_size: Size, stride: Size) -> None:
    _, *counts = _encoded_shape(shape, 1, patch_size, stride)
    made = [
        (count - 1) * step + patch
        for count, patch, step in zip(counts, pair(patch_size), pair(stride), strict=True)
    ]
    if (shape[0], *made) != shape:
        raise ShapeError(
            f"TransformerAutoencoder: patch_size {patch_size} with stride {stride} does not tile "
            f"{shape_words(shape)} images: it gives {shape_words((shape[0], *made))}",
            hint="the stride must divide image size minus patch_size; "
            "PatchTransformerAutoencoder takes any patch and stride",
        )
