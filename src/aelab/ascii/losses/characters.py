"""Losses on characters: the likelihood of each cell's true character."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.ascii.glyphs import ALPHABET, SPACE, character_numbers
from aelab.ascii.medium import Characters
from aelab.errors import ConfigError, ShapeError, one_of
from aelab.types import Images, Output

#: Ways of averaging the weighted cells of a batch.
Normalization = Literal["image", "batch"]

_NORMALIZATIONS = ("image", "batch")


class CharacterCrossEntropy(nn.Module):
    """Cross-entropy of each cell's true character, on logits; the term `character_ce`.

    Every cell has the weight of its *true* character, so that strokes also matter in pictures that
    are mostly spaces: weight = (1 / (count + 1)) ** frequency_power, for the space divided by
    `space_deemph`. Counts are those of the whole training set in its grid size, including spaces of
    the margin; `prepare` computes them.

    Args:
        frequency_power: at least 0, which means equal weights; the document's first run has 0.7.
        space_deemph: above 0; 1 has no effect, with 100 spaces hardly count.
        label_smoothing: share of the target that is spread uniformly over all characters, 0..1.
        normalize: by the weights of each `image`, so that a value depends only on its image; or of
            the whole `batch`, like torch's weighted mean: then the mean over the batch equals
            `F.cross_entropy(weight=...)`, and an image's value depends on the others.

    Raises:
        ConfigError: invalid options.

    Source: document 002, `train.py` (`--should-char-weight`, `--char-weights-scaling`,
        `--space-deemph`, `--ce-label-smoothing`); the cross-entropy of its first commit cb2c7dd.
    """

    #: The term's name, for messages.
    name = "character_ce"

    def __init__(
        self,
        frequency_power: float = 0.0,
        space_deemph: float = 1.0,
        label_smoothing: float = 0.0,
        normalize: Normalization = "image",
    ) -> None:
        super().__init__()
        settings = {"frequency_power": frequency_power, "space_deemph": space_deemph}
        for setting, value in {**settings, "label_smoothing": label_smoothing}.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"{setting} must be a number, not {value!r}")
        if not frequency_power >= 0:
            raise ConfigError(f"frequency_power must be at least 0, not {frequency_power!r}")
        if not space_deemph > 0:
            raise ConfigError(f"space_deemph must be above 0, not {space_deemph!r}")
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"label_smoothing must be from 0 to 1, not {label_smoothing!r}")
        if normalize not in _NORMALIZATIONS:
            raise ConfigError(f"normalize must be {one_of(_NORMALIZATIONS)}, not {normalize!r}")
        self.frequency_power, self.space_deemph = frequency_power, space_deemph
        self.label_smoothing, self.normalize = label_smoothing, normalize
        weights = torch.ones(len(ALPHABET))
        weights[SPACE] /= space_deemph
        self.weights: Tensor
        self.register_buffer("weights", weights, persistent=False)
        self.counted = frequency_power == 0

    def prepare(self, images: Images) -> None:
        """Counts the characters of the training set, if `frequency_power` needs it.

        Raises:
            ConfigError: the set holds pictures and no characters.
        """
        if self.frequency_power == 0:
            return
        if not isinstance(images.medium, Characters):
            raise ConfigError(
                "frequency_power counts characters, but the train_set holds pictures",
                hint="use a set of ASCII art, for instance ascii_art_dataset(...)",
            )
        counts = torch.bincount(images.pixels.flatten(), minlength=len(ALPHABET)).double().cpu()
        weights = (counts + 1) ** -self.frequency_power
        weights[SPACE] /= self.space_deemph
        # Only ratios matter; scaled to a maximum of 1 so that float32 can represent them.
        self.weights = (weights / weights.max()).to(self.weights)
        self.counted = True

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,) nats a cell.

        Raises:
            ConfigError: `frequency_power` without `prepare`; a model that paints.
            ShapeError: another grid.
        """
        logits, numbers = cells(output, target, "logits", self.name)
        return weighted_cross_entropy(
            logits, numbers, self._weights(logits), self.label_smoothing, self.normalize
        )

    def extra_repr(self) -> str:
        """The settings, as one types them."""
        names = ("frequency_power", "space_deemph", "label_smoothing", "normalize")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def _weights(self, like: Tensor) -> Tensor:
        """(95,) of the type and device of `like`; on the meta device without counts."""
        if not self.counted and not like.is_meta:
            raise ConfigError(
                f"{self.name} with frequency_power needs the counts of the training set",
                hint="call objective.prepare(images) before the first batch",
            )
        return self.weights.to(like)


class CharacterNegativeLogLikelihood(CharacterCrossEntropy):
    """The same with the model's output read as log-probabilities; the term `character_nll`.

    Equal to `character_ce` if the output is already normalised (a decoder that ends with
    log-softmax); otherwise it is not normalised and has no lower bound.

    Args:
        frequency_power, space_deemph, normalize: of `character_ce`.

    Source: document 002, commit f27fb91 ("NLLL"): `nll_loss` on the decoder's log-probabilities,
        without Gumbel noise.
    """

    name = "character_nll"

    def __init__(
        self,
        frequency_power: float = 0.0,
        space_deemph: float = 1.0,
        normalize: Normalization = "image",
    ) -> None:
        super().__init__(frequency_power, space_deemph, normalize=normalize)

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,) nats a cell."""
        log_probabilities, numbers = cells(output, target, "logits", self.name)
        weights = self._weights(log_probabilities)
        values = F.nll_loss(log_probabilities, numbers, weights, reduction="none")
        return averaged(values, weights[numbers], self.normalize)


class LegacyCharacterCrossEntropy(CharacterCrossEntropy):
    """Cross-entropy that takes relaxed one-hots for logits; the term `legacy_character_ce`.

    On hard Gumbel samples a right cell costs ln(e + 94) - 1 = 3.5718 and a wrong one 4.5718, for
    any confidence of the model. So the loss cannot fall below that, and its gradient comes only
    through the soft part of the straight-through estimate. It is kept to reproduce old numbers; use
    `character_ce`.

    Args:
        frequency_power, space_deemph, label_smoothing, normalize: of `character_ce`; document 002
            normalises by the batch.

    Source: document 002, commits 76478ad to 2e13fa9 and 928930d.
    """

    name = "legacy_character_ce"

    def __init__(
        self,
        frequency_power: float = 0.0,
        space_deemph: float = 1.0,
        label_smoothing: float = 0.0,
        normalize: Normalization = "batch",
    ) -> None:
        super().__init__(frequency_power, space_deemph, label_smoothing, normalize)

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,) nats a cell."""
        relaxed, _ = cells(output, target, "relaxed", self.name)
        return super().forward(output._replace(details={"logits": relaxed}), target)


def cells(output: Output, target: Tensor, what: str, term: str) -> tuple[Tensor, Tensor]:
    """The written characters of a model, and the true character numbers.

    Args:
        output: the output of the model.
        target: (B, 1, H, W), number / 255.
        what: `logits` or `relaxed`.
        term: the calling loss, for the message.

    Returns:
        (B, 95, H, W) with gradient, and (B, H, W) int64.

    Raises:
        ConfigError: the model paints.
        ShapeError: another grid or alphabet.
    """
    if what not in output.details:
        raise ConfigError(
            f"{term} compares characters, but this model outputs pixels: it gives no {what} of "
            "characters",
            hint="use a character model, for instance small_ascii_ae(...), or compare pictures "
            "with l1, l2, ssim",
        )
    written = output.details[what]
    expected = (len(target), len(ALPHABET), *target.shape[2:])
    if target.shape[1] != 1 or tuple(written.shape) != expected:
        raise ShapeError(
            f"the model outputs {tuple(written.shape)}, but the images are {tuple(target.shape)}: "
            f"(B, {len(ALPHABET)}, H, W) and (B, 1, H, W) fit together",
            hint="encoder and decoder must be built for the shape of the train_set",
        )
    return written, character_numbers(target)


def weighted_cross_entropy(
    logits: Tensor,
    numbers: Tensor,
    weights: Tensor,
    label_smoothing: float = 0.0,
    normalize: Normalization = "image",
) -> Tensor:
    """Cross-entropy with a weight for each class.

    Args:
        logits: (B, K, H, W).
        numbers: (B, H, W) int64, 0 to K - 1.
        weights: (K,), above 0.
        label_smoothing: 0..1.
        normalize: see `CharacterCrossEntropy`.

    Returns:
        (B,), nats a cell.
    """
    values = F.cross_entropy(
        logits, numbers, weights, reduction="none", label_smoothing=label_smoothing
    )
    return averaged(values, weights[numbers], normalize)


def averaged(values: Tensor, weights: Tensor, normalize: Normalization) -> Tensor:
    """Weighted values (B, H, W) over their weights (B, H, W) -> (B,).

    By the `batch`: each image's sum over the mean of the images' weights, so that the mean of the
    result is the sum of everything over the weights of everything.
    """
    total = weights.sum(dim=(1, 2))
    if normalize == "batch":
        total = total.mean(dim=0, keepdim=True)
    return values.sum(dim=(1, 2)) / total
