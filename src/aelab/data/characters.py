"""What may be done with a set of ASCII pictures: its pixels number characters, not brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.glyphs.alphabet import ALPHABET
from aelab.types import Images

if TYPE_CHECKING:
    from aelab.data.base import Dataset

_POSSIBLE = (
    "possible: .roll, .mirror, .random_shift, .random_crop_all, .center_crop, .limit, .skip, "
    ".sample, .shuffle, .repeat, .filter, .interleave; another size: give it to the set itself"
)


def refuse_brightness(source: Dataset, *changes: Any, possible: str = _POSSIBLE) -> None:
    """Raise if a set of characters is to be changed as if numbers were brightness.

    Args:
        source: any set; nothing is refused to pictures.
        changes: augmentations, functions of one image, or what else is wished for by its name. An
            object that moves whole characters says so by `keeps_characters = True`.
        possible: what to do instead.

    Raises:
        ConfigError: naming the first such change, and what is possible.
    """
    if not source.alphabet:
        return
    for change in changes:
        if not getattr(change, "keeps_characters", False):
            name = change if isinstance(change, str) else _title(change)
            raise ConfigError(
                f"{source.name}: {name} would change the numbers of characters as if they were "
                "brightness",
                hint=possible,
            )


def refuse_mixed(sources: Sequence[Dataset]) -> None:
    """Raise if pictures and ASCII pictures are to become one set.

    Raises:
        ConfigError: naming the sets of each kind.
    """
    if len({source.alphabet for source in sources}) <= 1:
        return
    written = [source.name for source in sources if source.alphabet]
    painted = [source.name for source in sources if not source.alphabet]
    raise ConfigError(
        f"cannot combine ASCII pictures ({', '.join(written)}) with pictures "
        f"({', '.join(painted) or 'of another alphabet'})",
        hint="image_to_ascii_dataset(dataset, shape=(24, 24)) makes ASCII pictures of pictures",
    )


def need_characters(source: Dataset, part: str, hint: str) -> None:
    """Raise if a set holds pictures where ASCII pictures are needed.

    Raises:
        ConfigError: naming `part`, with `hint` telling what to write.
    """
    if not source.alphabet:
        message = f"{part} needs ASCII pictures, {source.name} holds pictures"
        raise ConfigError(message, hint=hint)


def character_counts(images: Images | Dataset) -> Tensor:
    """How often each character stands in a set of ASCII pictures, spaces around them included.

    Returns:
        (95,) int64, in the order of the alphabet: the space first.

    Raises:
        ConfigError: the set holds pictures.
    """
    loaded = images if isinstance(images, Images) else images.load()
    if not loaded.alphabet:
        raise ConfigError(
            "character_counts needs ASCII pictures, got pictures",
            hint="for instance figlet_ascii_dataset(shape=(24, 24))",
        )
    counts = torch.zeros(len(ALPHABET), dtype=torch.int64)
    for part in torch.split(loaded.pixels, 4096):
        counts += torch.bincount(part.flatten(), minlength=len(ALPHABET))
    return counts


def _title(change: Any) -> str:
    return getattr(change, "__name__", None) or type(change).__name__
