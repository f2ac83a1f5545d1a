"""A masked autoencoder: its encoder sees a few patches, its decoder paints the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.attention import Positions, make_blocks, refuse_heads, start_linear
from aelab.models.patches import JoinPatches, PatchGrid, Size, SplitPatches, patch_grid
from aelab.types import Output, TermSpec


class Hidden(NamedTuple):
    """What a model did not see of each image.

    Attributes:
        mask: (B, 1, H, W), 1 where a pixel was hidden, else 0.
    """

    mask: Tensor


#: Makes the blocks of an encoder or a decoder.
Blocks = Callable[[], nn.Sequential]


class VisiblePatches(nn.Module):
    """The encoder: transformer blocks over the visible patches, and a linear map of each token.

    Args:
        grid: where the patches lie.
        token_size: numbers a patch in the latent.
        num_hidden: width of the blocks.
        blocks: makes them, after the layers before them.
    """

    def __init__(self, grid: PatchGrid, token_size: int, num_hidden: int, blocks: Blocks) -> None:
        super().__init__()
        self.patches = SplitPatches(grid, num_hidden)
        self.positions = Positions(grid.rows, grid.columns, num_hidden)
        self.blocks = blocks()
        self.head = nn.Linear(num_hidden, token_size)
        # In place of a patch that was not seen.
        self.mask_token = nn.Parameter(0.02 * torch.randn(token_size))
        start_linear(self.head)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) -> tokens (B, N, token_size).

        Args:
            visible: (B, V) int64, numbers of the patches that are seen; None: all. The others
                have the mask token.
        """
        # Patches do not overlap, so a token before the blocks knows its own patch only.
        tokens = self.patches(images) + self.positions()  # (B, N, hidden)
        if visible is None:
            seen: Tensor = self.head(self.blocks(tokens))
            return seen
        index = visible[..., None]
        kept = tokens.gather(1, index.expand(-1, -1, tokens.shape[2]))  # (B, V, hidden)
        seen = self.head(self.blocks(kept))  # the costs are those of V tokens
        unseen = self.mask_token.to(seen.dtype).expand(tokens.shape[0], tokens.shape[1], -1)
        return unseen.scatter(1, index.expand(-1, -1, seen.shape[2]), seen)


class AllPatches(nn.Module):
    """The decoder: positions, transformer blocks over all tokens, and a linear map to pixels.

    Args:
        grid, token_size, ...: as in `VisiblePatches`.
    """

    def __init__(self, grid: PatchGrid, token_size: int, num_hidden: int, blocks: Blocks) -> None:
        super().__init__()
        self.embed = nn.Linear(token_size, num_hidden)
        self.positions = Positions(grid.rows, grid.columns, num_hidden)
        self.blocks = blocks()
        self.patches = JoinPatches(grid, num_hidden)
        start_linear(self.embed)
        self.patches.start_black()

    def forward(self, latent: Tensor) -> Tensor:
        """Tokens (B, N, token_size) -> images (B, C, H, W)."""
        images: Tensor = self.patches(self.blocks(self.embed(latent) + self.positions()))
        return images


class MaskedAutoencoder(nn.Module):
    """A masked autoencoder (MAE): most patches are hidden, and the model paints them.

    With noise, each image has its own mask: the patches with the least noise are visible. So masks
    are drawn and repeated as all noise of a run: in training anew for each image and pass, in
    validation by the seed and the image's place in the set, whatever else is in its batch. Without
    noise, as in `encode` and in figures of the latent, the whole image is seen.

    Its loss term `masked_error` compares hidden pixels only. So visible ones are not trained: a
    reproduction of a whole image is worse than the painting of hidden patches.

    Args:
        shape: (C, H, W) of the images, any size; odd ones are padded with zeros.
        token_size: numbers a patch in the latent, (N, token_size) in all. The paper's decoder gets
            them from a linear layer too, but more of them.
        patch_size: side of a patch in pixels, or (height, width); patches do not overlap.
        mask_share: share of the patches that are hidden, above 0 and below 1; at least one is
            hidden and one visible.
        num_layers, num_hidden, num_heads: of the encoder.
        decoder_layers, decoder_hidden: of the decoder, which may be small; None: `num_hidden`.
        dropout: probability, 0..1; in training mode only.
        error: `l2` (as in the paper) or `l1`, of the term `masked_error`.
        visible_weight: weight of the mean error over visible pixels in this term. Above 0, the
            model learns to reproduce whole images too.

    Attributes:
        noise_shape: (N,), one number for each patch.
        hides: that reproductions are shown of hidden images, see `aelab.tensor_pictures`.

    Raises:
        ShapeError: heads that do not divide the widths.
        ConfigError: a share that hides nothing or everything.

    Source: He et al. 2022, "Masked autoencoders are scalable vision learners", arXiv:2111.06377.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"decode", "decoder", "encode", "encoder", "noise_shape"}
    )
    hides: ClassVar[bool] = True

    def __init__(
        self,
        shape: Sequence[int],
        token_size: int = 16,
        patch_size: Size = 4,
        mask_share: float = 0.75,
        num_layers: int = 4,
        num_hidden: int = 64,
        num_heads: int = 4,
        decoder_layers: int = 2,
        decoder_hidden: int | None = None,
        dropout: float = 0.0,
        error: str = "l2",
        visible_weight: float = 0.0,
    ) -> None:
        super().__init__()
        owner = "MaskedAutoencoder"
        self.grid = patch_grid(shape, patch_size, None, owner)
        count, width = self.grid.num_patches, decoder_hidden or num_hidden
        for hidden in (num_hidden, width):
            refuse_heads(hidden, num_heads, owner)
        if not 0 < mask_share < 1 or count < 2:
            raise ConfigError(
                f"{owner}: mask_share {mask_share} of {count} patches leaves nothing to see or to "
                "paint; possible: above 0 and below 1, of at least 2 patches",
                hint="use mask_share=0.75 and a smaller patch_size",
            )
        self.num_visible = min(count - 1, max(1, count - round(mask_share * count)))

        def blocks(layers: int, hidden: int) -> Blocks:
            """Makes blocks of a number and a width, when they are due."""
            of = (num_heads, None, dropout, "layernorm", "gelu")
            return lambda: make_blocks(layers, hidden, *of)

        size = int(token_size)
        self.encoder = VisiblePatches(self.grid, size, num_hidden, blocks(num_layers, num_hidden))
        self.decoder = AllPatches(self.grid, size, width, blocks(decoder_layers, width))
        self.noise_shape: tuple[int, ...] | None = (count,)
        self.codebooks: Mapping[str, int] = {}
        options = {"error": error, "visible_weight": float(visible_weight)}
        self.terms = (TermSpec("masked_error", "masked_error", 1.0, options),)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) and noise (B, N) or None -> images, tokens, and what was hidden."""
        if noise is None:
            latent = self.encoder(images)
            return Output(self.decoder(latent), latent, Hidden(torch.zeros_like(images[:, :1])))
        # The order of keyed noise is a keyed random order; equal numbers keep their place.
        order = noise.argsort(dim=1, stable=True)
        visible = order[:, : self.num_visible]
        latent = self.encoder(images, visible)
        hidden = torch.ones_like(noise).scatter(1, visible, 0.0)  # (B, N)
        return Output(self.decoder(latent), latent, Hidden(self._pixels(hidden)))

    def encode(self, images: Tensor) -> Tensor:
        """Tokens (B, N, token_size) of whole images."""
        latent: Tensor = self.encoder(images)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W) of tokens (B, N, token_size)."""
        images: Tensor = self.decoder(latent)
        return images

    def _pixels(self, patches: Tensor) -> Tensor:
        """A number for each patch (B, N) -> for each pixel, (B, 1, H, W)."""
        grid = self.grid
        (high, wide), (left, _, top, _) = grid.patch, grid.padding
        cells = patches.reshape(-1, 1, grid.rows, 1, grid.columns, 1)
        pixels = cells.expand(-1, -1, -1, high, -1, wide).reshape(-1, 1, *grid.padded)
        return pixels[..., top : top + grid.shape[1], left : left + grid.shape[2]]
