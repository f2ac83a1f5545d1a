"""The likelihood of each pixel's true colour, and the error of a picture's own palette."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.palette.colours import uses_of
from aelab.palette.medium import Colours, numbers_of
from aelab.types import Images, Output


class PaletteCrossEntropy(nn.Module):
    """Cross-entropy of each pixel's true colour, on logits; the term `palette_ce`.

    Every pixel has the weight of its *true* colour, so that small marks also matter in pictures
    that are mostly background: weight = (1 / (count + 1)) ** frequency_power, with the counts of
    the whole training set. An image's value is its weighted mean over pixels.

    Args:
        frequency_power: at least 0, which means equal weights; rare colours gain with 0.5.
        label_smoothing: share of the target that is spread uniformly over all colours, 0..1.

    Raises:
        ConfigError: an option out of range.

    Source: class weights by inverse frequency, as in Zhang et al. 2016, arXiv:1603.08511, eq. 4.
    """

    name = "palette_ce"

    def __init__(self, frequency_power: float = 0.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if frequency_power < 0 or not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"palette_ce: frequency_power={frequency_power}, "
                f"label_smoothing={label_smoothing}; at least 0, and the second below 1"
            )
        self.frequency_power, self.label_smoothing = frequency_power, label_smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", None, persistent=False)

    def prepare(self, images: Images) -> None:
        """Counts the colours of the training set, if `frequency_power` needs it.

        Raises:
            ConfigError: the set is not in colours of a palette.
        """
        if self.frequency_power == 0:
            return
        if not isinstance(images.medium, Colours):
            raise ConfigError(
                "frequency_power counts colours, but the train_set is not in colours of a palette",
                hint=Colours.from_others,
            )
        count = images.medium.palette.count
        numbers = images.pixels[:, 0].flatten()
        counts = torch.bincount(numbers, minlength=count).double().cpu()
        weights = (counts + 1) ** -self.frequency_power
        # Only ratios matter; scaled to a maximum of 1 so that float32 can represent them.
        self.weights = (weights / weights.max()).float()

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model of colours, and images (B, 1, H, W) -> (B,) nats a pixel.

        Raises:
            ConfigError: the model outputs pixels; `frequency_power` without `prepare`.
            ShapeError: another size.
        """
        logits = output.details.get("logits")
        if logits is None:
            raise ConfigError(
                "palette_ce compares colours, but this model outputs pixels",
                hint="use small_palette_ae(shape, PALETTE), or compare pictures with l1, l2, ssim",
            )
        if (
            target.shape[1] not in (1, 4)
            or logits.shape[0] != len(target)
            or (logits.shape[2:] != target.shape[2:])
        ):
            raise ShapeError(
                f"the model outputs {tuple(logits.shape)} logits for images "
                f"{tuple(target.shape)}: heights and widths must be equal"
            )
        numbers = numbers_of(target)
        if self.frequency_power and self.weights is None and not logits.is_meta:
            raise ConfigError(
                "palette_ce with frequency_power needs the counts of the training set",
                hint="call objective.prepare(images) before the first batch",
            )
        weights = None if self.weights is None else self.weights.to(logits)
        values = F.cross_entropy(
            logits, numbers, weights, reduction="none", label_smoothing=self.label_smoothing
        )
        if weights is None:
            return values.mean((1, 2))
        return values.sum((1, 2)) / weights[numbers].sum((1, 2))

    def extra_repr(self) -> str:
        """The settings, as one types them."""
        return f"frequency_power={self.frequency_power!r}, label_smoothing={self.label_smoothing!r}"


class PaletteError(nn.Module):
    """Error of the colours that a model outputs for each picture; the term `palette_l1`.

    The mean absolute error of each entry's red, green and blue, weighted by the share of pixels
    that have it. So it is the error of a picture drawn with the right numbers. Entries that a
    picture does not use, and the transparent one, do not count.

    Raises:
        ConfigError: the images share one palette.
    """

    name = "palette_l1"

    def prepare(self, images: Images) -> None:
        """Looks whether the training set has palettes.

        Raises:
            ConfigError: the set is not in colours with one palette a picture.
        """
        medium = images.medium
        if not isinstance(medium, Colours) or medium.palette.channels == 1:
            raise ConfigError(
                f"palette_l1 compares the palettes of pictures, but the train_set holds "
                f"{images.medium.sets_hold} without palettes of their own",
                hint='use palette_of(dataset, 16, per="picture") in indexed_dataset',
            )

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model, and images (B, 4, H, W) -> (B,), 0..1.

        Raises:
            ConfigError: the model outputs no palettes.
            ShapeError: images without palettes.
        """
        made = output.details.get("palette")
        if made is None:
            raise ConfigError(
                "palette_l1 compares the palettes of pictures, but this model outputs none",
                hint='use small_palette_ae(shape, palette_of(dataset, 16, per="picture"))',
            )
        if target.shape[1] != 4:
            raise ShapeError(f"palette_l1 needs 4xHxW images, not {tuple(target.shape[1:])}")
        count = made.shape[1]
        numbers = numbers_of(target)
        share = uses_of(numbers, count).to(made) / numbers[0].numel()  # (B, K)
        flat = numbers.clamp(max=count - 1).flatten(1)
        # (B, K, 3): the greatest value, since pixels left empty by a shift are black.
        wanted = torch.zeros_like(made).scatter_reduce(
            1, flat[..., None].expand(-1, -1, 3), target[:, 1:].flatten(2).mT.to(made), "amax"
        )
        return ((made - wanted).abs().mean(2) * share).sum(1)
