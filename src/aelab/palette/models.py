"""Models whose output is a colour of a palette in each pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, DataError, ShapeError
from aelab.medium import likeliest_numbers
from aelab.models.activations import Activation
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, Identity
from aelab.models.residual import DecoderResidual, EncoderResidual
from aelab.models.shapes import shape_words
from aelab.palette.colours import Palette, SharedPalette
from aelab.palette.data import need_palette
from aelab.palette.medium import Colours, numbers_of
from aelab.types import Output, TermSpec

#: Weight of the error of a picture's own colours beside the cross-entropy of its numbers.
OWN_COLOURS_WEIGHT = 5.0


class _Kept(SharedPalette):
    """A palette whose colours are kept in a model's state, so that it needs no data to draw."""

    def __init__(self, palette: SharedPalette, table: Tensor) -> None:
        self.count, self.key, self.transparent = palette.count, palette.key, palette.transparent
        self._palette, self._table = palette, table

    def colours(self) -> Tensor:
        known = not self._table.is_meta and bool(self._table.any())
        return self._table.cpu() if known else self._palette.colours()


class PaletteAutoencoder(Autoencoder):
    """An autoencoder that reads colours and outputs the probabilities of colours.

    The encoder sees the colours themselves, as that of a pixel model: (B, 3, H, W) in 0..1, or
    (B, 4, H, W) of a palette with a transparent entry. The decoder ends in K logits for each pixel.
    Its reconstruction is the likeliest colour, so pictures are crisp: no value lies between two
    colours.

    With one palette a picture it outputs that, too: K colours from the latent.

    Args:
        encoder: (B, 3 or 4, H, W) to features.
        bottleneck: as in `Autoencoder`; None is `Identity`.
        decoder: latent to logits (B, K, H, W).
        palette: of `palette_of` or `palette`.
        terms: default terms besides those of the bottleneck; None is `palette_ce`, and `palette_l1`
            with one palette a picture.
        palette_decoder: latent to (B, K, 3) in 0..1, the colours of each picture; for
            `palette_of(..., per="picture")` and only there.

    Raises:
        ConfigError: `palette_decoder` is missing, or there is nothing for it to output.

    Attributes:
        colours: (K, 4) uint8, kept in the state; empty with one palette a picture.
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes | {"logits"}

    def __init__(
        self,
        encoder: nn.Module,
        bottleneck: nn.Module | None,
        decoder: nn.Module,
        palette: Palette,
        terms: Sequence[TermSpec] | None = None,
        palette_decoder: nn.Module | None = None,
    ) -> None:
        need_palette(palette, "PaletteAutoencoder")
        shared = isinstance(palette, SharedPalette)
        if shared != (palette_decoder is None):
            raise ConfigError(
                f"PaletteAutoencoder: palette_decoder is {'given' if shared else 'missing'}, but "
                f"{'all pictures share one palette' if shared else 'each picture has its own'}",
                hint="use small_palette_ae(shape, PALETTE), which fits it to the palette",
            )
        if terms is None:
            terms = palette_terms(palette)
        super().__init__(encoder, bottleneck or Identity(), decoder, terms)
        self.palette = palette
        self.palette_decoder = palette_decoder
        self.colours: Tensor
        self.register_buffer("colours", _table(palette))

    @property
    def medium(self) -> Colours:
        """The colours it outputs; the training images must have the same."""
        if isinstance(self.palette, SharedPalette):
            return Colours(_Kept(self.palette, self.colours))
        return Colours(self.palette)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, 1, H, W) of number / 255, and noise (B, D) or None -> the likeliest colours.

        Raises:
            ShapeError: images of another shape, or a decoder of another number of colours.
        """
        latent, posterior = self.bottleneck(self.encoder(self._seen(images)), noise)
        logits = self.logits(latent)
        details = {"logits": logits, **self._own_palette(latent)}
        return Output(_composed(details), latent, posterior, details)

    def encode(self, images: Tensor) -> Tensor:
        """The mean code of images, (B, D)."""
        latent: Tensor = self.bottleneck(self.encoder(self._seen(images)), None)[0]
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """The likeliest colours (B, 1 or 4, H, W), value / 255, without gradient."""
        return _composed({"logits": self.logits(latent), **self._own_palette(latent)})

    def _own_palette(self, latent: Tensor) -> dict[str, Tensor]:
        """The colours of each picture (B, K, 3) as `palette`, if each has its own."""
        return {} if self.palette_decoder is None else {"palette": self.palette_decoder(latent)}

    def logits(self, latent: Tensor) -> Tensor:
        """Log-probabilities (B, K, H, W) of the colours, up to a constant in each pixel."""
        logits: Tensor = self.decoder(latent)
        if logits.ndim != 4 or logits.shape[1] != self.palette.count:
            raise ShapeError(
                f"PaletteAutoencoder: the decoder outputs {shape_words(logits.shape[1:])}, which "
                f"must be {self.palette.count}xHxW, one number for each colour",
                hint=f"end it with {self.palette.count} channels and no activation",
            )
        return logits

    def _seen(self, images: Tensor) -> Tensor:
        """Numbers as colours: (B, 1 or 4, H, W) -> (B, 3 or 4, H, W) in 0..1."""
        if images.ndim != 4 or images.shape[1] != self.palette.channels:
            raise ShapeError(
                f"a model of colours needs {self.palette.channels}xHxW numbers of colours, not "
                f"{shape_words(images.shape[1:])} images",
                hint="convert pictures with indexed_dataset(dataset, PALETTE)",
            )
        channels = self.palette.seen_channels
        numbers = numbers_of(images).clamp(max=self.palette.count - 1)
        if self.palette_decoder is not None:  # the image has its colours
            alpha = (numbers > 0).to(images.dtype)[:, None]
            return torch.cat([images[:, 1:], alpha], dim=1)[:, :channels]
        table = self.colours[:, :channels].to(images.dtype) / 255
        return table[numbers].permute(0, 3, 1, 2)


class PaletteDecoder(nn.Module):
    """The colours of each picture from its latent, by two linear layers.

    It begins with greys from dark to bright, as the entries of a palette are ordered.

    Args:
        code_size: D.
        count: K.
        hidden: values between the layers.
    """

    def __init__(self, code_size: int, count: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(1), nn.Linear(code_size, hidden), nn.ReLU(), nn.Linear(hidden, 3 * count)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(((torch.arange(count) + 0.5) / count).logit().repeat_interleave(3))

    def forward(self, latent: Tensor) -> Tensor:
        """(B, D) -> (B, K, 3) in 0..1."""
        values: Tensor = self.layers(latent)
        return values.sigmoid().reshape(len(latent), -1, 3)


def palette_terms(palette: Palette) -> tuple[TermSpec, ...]:
    """The terms of a palette: the numbers, and the colours if each picture has its own."""
    numbers = TermSpec("palette_ce", "palette_ce")
    if isinstance(palette, SharedPalette):
        return (numbers,)
    return numbers, TermSpec("palette_l1", "palette_l1", OWN_COLOURS_WEIGHT)


def _composed(details: Mapping[str, Tensor]) -> Tensor:
    """The likeliest numbers / 255, (B, 1, H, W), and their own colours if any, (B, 4, H, W)."""
    numbers = likeliest_numbers(details["logits"])
    if "palette" not in details:
        return numbers
    chosen = (numbers[:, 0] * 255).round().long().flatten(1)[..., None].expand(-1, -1, 3)
    colours = details["palette"].detach().gather(1, chosen).mT  # (B, 3, H * W)
    return torch.cat([numbers, colours.reshape(-1, 3, *numbers.shape[2:])], dim=1)


def _table(palette: Palette) -> Tensor:
    """The colours, or zeros if they are not known yet: a reopened run has them in its state."""
    if not isinstance(palette, SharedPalette):
        return torch.zeros(0, 4, dtype=torch.uint8)
    if torch.empty(0).is_meta:
        return torch.zeros(palette.count, 4, dtype=torch.uint8)
    try:
        return palette.colours().clone()
    except DataError:  # training reads the same data and says what is missing
        return torch.zeros(palette.count, 4, dtype=torch.uint8)


def small_palette_ae(
    shape: Sequence[int],
    palette: Palette,
    code_size: int = 16,
    channels: Sequence[int] = (32, 48, 48),
    encoder_blocks: Sequence[int] = (0, 1, 1),
    decoder_blocks: Sequence[int] = (2, 2, 2),
    hidden: Sequence[int] = (160,),
    beta: float | None = None,
    norm: str | None = "rms",
    act_fn: Activation = "relu",
) -> PaletteAutoencoder:
    """`small_image_ae` for pictures in colours of a palette: the same network, K logits a pixel.

    Args:
        shape: (1, H, W) or (H, W); also where each picture has a palette of its own.
        palette: of `palette_of` or `palette`.
        code_size: D, length of the latent.
        channels, encoder_blocks, decoder_blocks, hidden, norm, act_fn: as in `small_image_ae`.
        beta: a Gaussian latent with the term `kl`, in nats per image, of weight beta / (H * W):
            with `palette_ce`, a mean over pixels, 1 is the evidence bound per pixel. None: no
            noise.
    """
    need_palette(palette, "small_palette_ae")
    sizes = tuple(int(size) for size in shape)
    sides = sizes[1:] if len(sizes) == 3 and sizes[0] == 1 else sizes
    if len(sides) != 2 or min(sides) < 1:
        raise ShapeError(
            f"small_palette_ae: shape is (1, height, width), not {tuple(shape)}",
            hint="use (1, height, width): one number of a colour for each pixel",
        )
    if beta is not None and not (math.isfinite(beta) and beta >= 0):
        raise ConfigError(f"small_palette_ae: beta is a number from 0 up, got {beta}")
    options = {"norm": norm, "act_fn": act_fn}
    seen = (palette.seen_channels, *sides)
    encoder = EncoderResidual(seen, code_size, channels, encoder_blocks, hidden, **options)  # type: ignore[arg-type]
    decoder = DecoderResidual(
        (palette.count, *sides), code_size, channels[::-1], decoder_blocks, hidden[::-1],
        activation_last_layer=None, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    terms = list(palette_terms(palette))
    bottleneck: nn.Module = Identity()
    if beta is not None:
        bottleneck = Gaussian(code_size, code_size)
        terms.append(TermSpec("kl", "gaussian_kl", beta / math.prod(sides)))
    own = None
    if not isinstance(palette, SharedPalette):
        own = PaletteDecoder(code_size, palette.count, hidden[0] if hidden else 160)
    return PaletteAutoencoder(encoder, bottleneck, decoder, palette, terms, own)
