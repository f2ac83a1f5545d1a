"""`VQVAE` of old files: VQ-VAE-2 with the layers of a well-known implementation."""

from __future__ import annotations

from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.founding.helpers import ResidualAdd
from aelab.models.quantizers import VQ
from aelab.models.two_level_vq import TwoLevelVQAutoencoder
from aelab.types import TermSpec


class SquareImages(nn.Module):
    """Passes square images on whose side is a multiple of a number.

    Args:
        multiple: that number.
    """

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same.

        Raises:
            ShapeError: other sizes.
        """
        height, width = x.shape[-2:]
        if height != width or height % self.multiple:
            raise ShapeError(
                f"{height}x{width} images: they must be square, with a side that is a multiple of "
                f"{self.multiple}",
                hint="use images of another size, or two_level_vq(shape), which takes all",
            )
        return x


def VQVAE(
    in_channel: int = 3,
    channel: int = 128,
    n_res_block: int = 2,
    n_res_channel: int = 32,
    embed_dim: int = 64,
    n_embed: int = 512,
    decay: float = 0.99,
) -> TwoLevelVQAutoencoder:
    """`two_level_vq` with the old layers: codes on maps of a quarter and an eighth of the size.

    The loss is `l1` and 0.25 of the commitment of both levels. The codebooks are those of `VQ`,
    which start at the first batch and replace unused entries; the original's did neither. As
    there, the codebooks' decay is 0.99, whatever `decay` says.

    Args:
        in_channel: of the images, which must be square, with a side that is a multiple of 8.
        channel: of all maps; even.
        n_res_block: residual blocks in each of four stacks.
        n_res_channel: channels inside of a block.
        embed_dim: numbers of an entry.
        n_embed: entries of each codebook.
        decay: has no effect.

    Raises:
        ConfigError: an odd number of channels.

    Source: Razavi et al. 2019, arXiv:1906.00446, figure 2 and table 1.
    """
    if channel % 2:
        raise ConfigError(f"VQVAE: channel must be even, not {channel}")
    half = channel // 2

    def blocks() -> list[nn.Module]:
        made: list[nn.Module] = []
        for _ in range(n_res_block):
            inner = nn.Conv2d(channel, n_res_channel, 3, padding=1)
            outer = nn.Conv2d(n_res_channel, channel, 1)
            made.append(ResidualAdd(nn.Sequential(nn.ReLU(), inner, nn.ReLU(), outer)))
        return [*made, nn.ReLU()]

    def down(before: int, after: int) -> nn.Module:
        return nn.Conv2d(before, after, 4, stride=2, padding=1)

    def up(before: int, after: int) -> nn.Module:
        return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)

    def same(before: int, after: int) -> nn.Module:
        return nn.Conv2d(before, after, 3, padding=1)

    return TwoLevelVQAutoencoder(
        encoder=nn.Sequential(
            SquareImages(8),
            down(in_channel, half), nn.ReLU(), down(half, channel), nn.ReLU(),
            same(channel, channel), *blocks(),
        ),
        coarser=nn.Sequential(
            down(channel, half), nn.ReLU(), same(half, channel), *blocks()
        ),
        to_top=nn.Conv2d(channel, embed_dim, 1),
        top_up=up(embed_dim, embed_dim),
        to_bottom=nn.Conv2d(channel + embed_dim, embed_dim, 1),
        bottleneck=nn.ModuleDict({"top": VQ(n_embed, embed_dim), "bottom": VQ(n_embed, embed_dim)}),
        decoder=nn.Sequential(
            same(2 * embed_dim, channel), *blocks(),
            up(channel, half), nn.ReLU(), up(half, in_channel),
        ),
        top_to_fine=nn.Sequential(same(embed_dim, channel), *blocks(), up(channel, embed_dim)),
        reconstruction=TermSpec("l1", "l1"),
    )  # fmt: skip
