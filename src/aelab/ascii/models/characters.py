"""Models that write characters: reading grids, and soft characters that a font can draw.

A grid of characters is given as images (B, 1, H, W), character number / 255. The decoder outputs
logits (B, 95, H, W), and a relaxation converts them to weights of characters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.ascii.glyphs import ALPHABET, character_numbers
from aelab.ascii.medium import Characters
from aelab.errors import ConfigError, DataError, ShapeError
from aelab.medium import likeliest_numbers
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Identity
from aelab.models.shapes import shape_words
from aelab.types import Output, TermSpec

#: K, the number of characters.
NUM_CHARACTERS = len(ALPHABET)


class OneHotCharacters(nn.Module):
    """Converts a grid of characters to 95 one-hot maps.

    Attributes:
        channels: 95.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"channels"})

    channels = NUM_CHARACTERS

    def __init__(self) -> None:  # nn.Module accepts any argument
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W), number / 255 -> (B, 95, H, W) float in channels-last memory.

        Raises:
            ShapeError, DataError: as `read_numbers`.
        """
        numbers = read_numbers(images, self.training)[..., None]  # (B, H, W, 1)
        maps = images.new_zeros((*numbers.shape[:3], NUM_CHARACTERS))
        return maps.scatter_(3, numbers, 1.0).permute(0, 3, 1, 2)


class CharacterEmbedding(nn.Module):
    """Converts a grid of characters to maps of learned features (an embedding).

    The same function as a 1x1 convolution after `OneHotCharacters`, without the 95 maps.

    Args:
        width: features of a character, initialised with standard normal numbers.

    Attributes:
        channels: `width`.

    Raises:
        ConfigError: a width below 1.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"channels", "table"})

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = int(width)
        if self.channels < 1:
            raise ConfigError(f"CharacterEmbedding: width must be at least 1, not {width}")
        self.table = nn.Embedding(NUM_CHARACTERS, self.channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W), number / 255 -> (B, width, H, W) in channels-last memory.

        Raises:
            ShapeError, DataError: as `read_numbers`.
        """
        features: Tensor = self.table(read_numbers(images, self.training))  # (B, H, W, width)
        return features.permute(0, 3, 1, 2)


def read_numbers(images: Tensor, training: bool = False) -> Tensor:
    """The character numbers of a batch, checked unless that would wait for the device.

    Args:
        images: (B, 1, H, W), number / 255.
        training: if true and on a GPU, only the device checks the numbers, and a wrong one ends
            the program; otherwise they are checked here.

    Returns:
        (B, H, W) int64, 0..94.

    Raises:
        ShapeError: more than one channel.
        DataError: a number above 94, as in images that are not characters.
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ShapeError(
            f"a character model needs grids of characters, 1xHxW, not "
            f"{shape_words(images.shape[1:])} "
            "images",
            hint="use a set of ASCII art as train_set, for instance ascii_art_dataset(path)",
        )
    numbers = character_numbers(images)
    waits = images.device.type != "cpu" and training
    traced = images.is_meta or torch.compiler.is_exporting()  # no values to check
    if not traced and not waits and numbers.numel():
        lowest, highest = (int(number) for number in numbers.aminmax())
        if lowest < 0 or highest >= NUM_CHARACTERS:
            raise DataError(
                f"a character model got the numbers {lowest} to {highest} as characters; "
                f"there are {NUM_CHARACTERS}, from 0 to {NUM_CHARACTERS - 1}",
                hint="these look like pictures: convert them to characters with "
                "image_to_ascii_dataset(dataset)",
            )
    return numbers


class Softmax(nn.Module):
    """Converts logits to probabilities of the characters, without noise."""

    def __init__(self) -> None:  # nn.Module accepts any argument
        super().__init__()

    def forward(self, logits: Tensor) -> Tensor:
        """(B, K, H, W) -> (B, K, H, W), 0..1, with sum 1 over K."""
        return logits.float().softmax(1)


class GumbelSoftmax(nn.Module):
    """Draws from the characters' probabilities with gradients (Gumbel-softmax).

    In training: soft = softmax((logits + Gumbel noise) / tau), and `hard` gives the one-hot of its
    largest weight with the gradient of `soft` (straight-through). Each character has the largest
    weight with its probability, for any tau. In evaluation there is no noise: the output is the
    most likely character, or softmax(logits / tau).

    The noise comes from torch's default generator, which training reseeds at every batch.

    Args:
        tau: initial temperature, above 0; small values give nearly hard weights and
            gradients of high variance.
        rate_per_epoch, rate_per_image: r; tau is multiplied by exp(-r) per epoch or per image.
        floor: lower bound of tau; required with a rate.
        hard: straight-through one-hots instead of soft weights.

    Attributes:
        tau: the present temperature, set by `at`.

    Raises:
        ConfigError: a value out of range, or a rate without a floor.

    Source: Jang et al. 2017, arXiv:1611.01144, sections 2.1 and 2.2; Maddison et al. 2017,
    arXiv:1611.00712. The documents' `--gumbel-tau` is tau, `--gumbel-tau-r` is rate_per_epoch with
    tau 1.
    """

    def __init__(
        self,
        tau: float = 0.9,
        rate_per_image: float = 0.0,
        rate_per_epoch: float = 0.0,
        floor: float = 0.0,
        hard: bool = True,
    ) -> None:
        super().__init__()
        if tau <= 0 or not 0 <= floor <= tau or min(rate_per_image, rate_per_epoch) < 0:
            raise ConfigError(
                f"GumbelSoftmax: tau={tau}, floor={floor}, rate_per_image={rate_per_image}, "
                f"rate_per_epoch={rate_per_epoch}; tau must be above 0, the floor in 0..tau, and "
                "rates at least 0"
            )
        if floor == 0 and (rate_per_image or rate_per_epoch):
            raise ConfigError(
                "GumbelSoftmax: a temperature that falls towards 0 ends in gradients of 0 and "
                "infinity",
                hint="give it a floor, for instance floor=0.5 as at 2e13fa9",
            )
        self.first_tau = self.tau = float(tau)
        self.rate_per_image, self.rate_per_epoch = float(rate_per_image), float(rate_per_epoch)
        self.floor = float(floor)
        self.hard = bool(hard)

    def at(self, images: int, epoch: int) -> None:
        """Sets the temperature for the present number of images and whole epochs."""
        fallen = self.rate_per_image * images + self.rate_per_epoch * epoch
        self.tau = max(self.floor, self.first_tau * math.exp(-fallen))

    def evaluated_settings(self) -> tuple[float, ...]:
        """The settings that evaluation depends on; with hard weights, not the temperature."""
        return () if self.hard else (self.tau,)

    def forward(self, logits: Tensor) -> Tensor:
        """(B, K, H, W) -> weights of the same shape, float32, at least 0, with sum 1 over K."""
        logits = logits.float()
        if not self.training:
            return one_hot(logits) if self.hard else (logits / self.tau).softmax(1)
        # Minus the logarithm of an exponential draw is Gumbel-distributed; torch never draws 0.
        noise = torch.empty_like(logits).exponential_().log_()
        soft = ((logits - noise) / self.tau).softmax(1)
        # In this order the forward value is exactly the one-hot, without rounding.
        return one_hot(soft) + (soft - soft.detach()) if self.hard else soft

    def extra_repr(self) -> str:
        """The schedule, for `print(model)`."""
        rates = f"rate_per_image={self.rate_per_image:g}, rate_per_epoch={self.rate_per_epoch:g}"
        return f"tau={self.first_tau:g}, {rates}, floor={self.floor:g}, hard={self.hard}"


def one_hot(weights: Tensor) -> Tensor:
    """1 at the largest of (B, K, H, W) over K, 0 elsewhere; the same shape, without gradient."""
    weights = weights.detach()
    return torch.zeros_like(weights).scatter_(1, weights.argmax(1, keepdim=True), 1.0)


class CharacterAutoencoder(Autoencoder):
    """An autoencoder of ASCII art that reads and writes characters.

    Args:
        encoder: the output of `reading`, (B, C, H, W), to features.
        bottleneck: as in `Autoencoder`; None is `Identity`.
        decoder: latent to logits (B, 95, H, W): unnormalised or normalised log-probabilities.
        reading: images (B, 1, H, W) of number / 255 to (B, C, H, W); None is `OneHotCharacters`.
        relaxation: logits to weights of characters that losses can draw; None is `Softmax`.
        terms: default terms of the objective, besides those of the bottleneck; None is
            `character_ce`, the cross-entropy of the logits.

    Attributes:
        medium: the characters it writes; the training images must have the same medium.
        alphabet: those characters as a text.
        note: a note on a preset for readers of results; see `model_notes`.
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes | {
        "alphabet",
        "logits",
        "reading",
        "relaxation",
    }

    medium = Characters()
    alphabet: str = ALPHABET
    note: str = ""

    def __init__(
        self,
        encoder: nn.Module,
        bottleneck: nn.Module | None,
        decoder: nn.Module,
        reading: nn.Module | None = None,
        relaxation: nn.Module | None = None,
        terms: Sequence[TermSpec] | None = None,
    ) -> None:
        if terms is None:
            terms = (TermSpec("character_ce", "character_ce"),)
        super().__init__(encoder, bottleneck or Identity(), decoder, terms)
        self.reading = reading or OneHotCharacters()
        self.relaxation = relaxation or Softmax()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, 1, H, W) of number / 255, and noise (B, D) or None -> the most likely characters.

        Raises:
            ShapeError: the decoder does not output 95 channels.
            DataError: numbers that are no characters.
        """
        latent, posterior = self.bottleneck(self.encoder(self.reading(images)), noise)
        logits = self.logits(latent)
        characters = {"logits": logits, "relaxed": self.relaxation(logits)}
        return Output(likeliest_numbers(logits), latent, posterior, characters)

    def encode(self, images: Tensor) -> Tensor:
        """The mean code of (B, 1, H, W) of number / 255; (B, D) or (B, D, h, w)."""
        latent: Tensor = self.bottleneck(self.encoder(self.reading(images)), None)[0]
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """The most likely characters (B, 1, H, W), number / 255, without gradient."""
        return likeliest_numbers(self.logits(latent))

    def logits(self, latent: Tensor) -> Tensor:
        """Log-probabilities (B, 95, H, W) of the characters, up to a constant in each cell."""
        logits: Tensor = self.decoder(latent)
        if logits.ndim != 4 or logits.shape[1] != NUM_CHARACTERS:
            raise ShapeError(
                f"CharacterAutoencoder: the decoder gives {shape_words(logits.shape[1:])}, which "
                f"must be "
                f"{NUM_CHARACTERS}xHxW, one number a character",
                hint=f"end it with nn.Conv2d(channels, {NUM_CHARACTERS}, 1)",
            )
        return logits


def checked_grid_shape(shape: Sequence[int], owner: str) -> tuple[int, int]:
    """(H, W) in characters from (H, W) or (1, H, W); errors name `owner`.

    Raises:
        ShapeError: anything else.
    """
    sizes = tuple(int(size) for size in shape)
    sides = sizes[1:] if len(sizes) == 3 and sizes[0] == 1 else sizes
    if len(sides) != 2 or min(sides) < 1:
        raise ShapeError(
            f"{owner}: shape must be (height, width) in characters, not {tuple(shape)}",
            hint="characters have one channel: use (height, width) or (1, height, width)",
        )
    return sides[0], sides[1]
