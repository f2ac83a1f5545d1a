"""Combinations of quantizers: in sequence (residual), or for groups of channels (product)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.categorical import Categorical
from aelab.models.quantizers import from_vectors
from aelab.models.shapes import shape_words
from aelab.posteriors import CodesPosterior
from aelab.types import TermSpec


class _Several(nn.Module):
    """Base class: holds the quantizers, their codebooks by number, and their different terms."""

    block_attributes: ClassVar[frozenset[str]] = frozenset({"quantizers"})

    noise_shape: tuple[int, ...] | None = None

    def __init__(self, quantizers: Sequence[nn.Module]) -> None:
        super().__init__()
        owner = type(self).__name__
        if not quantizers:
            raise ConfigError(
                f"{owner}: give at least one quantizer, for instance [VQ(64, 4), VQ(64, 4)]"
            )
        for part in quantizers:
            if not hasattr(part, "fixed_entries"):
                raise ConfigError(
                    f"{owner}: {type(part).__name__} is no quantizer",
                    hint="possible: VQ, SimVQ, FSQ, LFQ, BSQ, Residual, Grouped, or one of your "
                    "own with the attributes codebooks and fixed_entries (True or False)",
                )
        if len({id(part) for part in quantizers}) < len(quantizers):
            raise ConfigError(
                f"{owner}: the same quantizer stands in the list twice, so that both would move "
                "one codebook",
                hint=f"write each, for instance {owner}([VQ(64, 4), VQ(64, 4)])",
            )
        self.quantizers = nn.ModuleList(quantizers)
        self.fixed_entries = all(bool(part.fixed_entries) for part in quantizers)
        sizes = [size for part in quantizers for size in _codebooks(part).values()]
        #: Names of codebooks are their numbers, from 1.
        self.codebooks = {str(number): size for number, size in enumerate(sizes, 1)}
        terms = [term for part in quantizers for term in getattr(part, "terms", ())]
        self.terms: tuple[TermSpec, ...] = tuple({term.name: term for term in terms}.values())

    def after_step(self) -> None:
        """Called after every optimiser step; updates learned codebooks."""
        for part in self.quantizers:
            follow: Callable[[], None] | None = getattr(part, "after_step", None)
            if follow is not None:
                follow()


class Residual(_Several):
    """Residual quantization: each quantizer gets the error left by the ones before it.

    The latent is the sum of the chosen entries. With `VQ` this is residual VQ, with `FSQ` and `LFQ`
    residual FSQ and LFQ. Their entries are fixed while the remaining error shrinks from level to
    level; `scale` compensates for this.

    Args:
        quantizers: at least one, of any kind; each a separate object.
        scale: level i, from 0, divides its input by `scale ** i` and multiplies its entries by it.
            None: 1 for learned codebooks, 1/4 for `FSQ`, `LFQ`, `BSQ`.

    Attributes:
        codebooks: number of the level -> number of entries.

    Raises:
        ConfigError: no quantizer, another module, the same object twice, or a scale not above 0.

    Source: Zeghidour et al. 2021, arXiv:2107.03312, algorithm 1 (SoundStream); Lee et al. 2022,
        arXiv:2203.01941, section 3.1 (RQ-VAE).
    """

    def __init__(self, quantizers: Sequence[nn.Module], scale: float | None = None) -> None:
        super().__init__(quantizers)
        if scale is not None and scale <= 0:
            raise ConfigError(f"Residual: scale is {scale}; it must be above 0")
        self.scales = [
            (scale or (_LEFT_OVER if part.fixed_entries else 1.0)) ** level
            for level, part in enumerate(quantizers)
        ]

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, CodesPosterior]:
        """Features (B, ...) -> latent of the same shape, and the choices of all levels.

        The gradient of the latent is that of the features (each level is straight-through).
        """
        left, latent = features, torch.zeros_like(features)
        found: list[CodesPosterior] = []
        for part, scale in zip(self.quantizers, self.scales, strict=True):
            chosen, posterior = part(left / scale, None)
            chosen = chosen * scale
            found.append(_as_codes(posterior))
            latent = latent + chosen
            # Without gradient: each level is trained for the error that it actually gets.
            left = left - chosen.detach()
        # One straight-through gradient in total: those of the levels would add up.
        latent = latent.detach() + (features - features.detach())
        return latent, _joined_codes(found)


class Grouped(_Several):
    """Product quantization: features are split into equal groups, each with its own quantizer.

    Feature maps are split along their channels, others along the last axis. With `Residual` in each
    group this is grouped residual quantization.

    Args:
        quantizers: at least one, each a separate object; all must split an image into the same
            number of vectors.

    Attributes:
        codebooks: number of the codebook -> number of entries, group by group.

    Raises:
        ConfigError: no quantizer, another module, or the same object twice.
        ShapeError: in `forward`, if the features cannot be split into equal groups.

    Source: Jegou et al. 2011, IEEE TPAMI 33(1), section 2.2; Yang et al. 2023, arXiv:2305.02765
        (groups of residual quantizers).
    """

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, CodesPosterior]:
        """Features (B, ...) -> latent of the same shape, and the choices of all groups."""
        axis = 1 if features.ndim == 4 else -1
        count = len(self.quantizers)
        if features.shape[axis] % count:
            what = "channels" if features.ndim == 4 else "numbers"
            raise ShapeError(
                f"Grouped: features of {shape_words(features.shape[1:])} have "
                f"{features.shape[axis]} {what}, which cannot be cut into {count} equal groups",
                hint=f"let the encoder give a multiple of {count} {what}",
            )
        groups = features.chunk(count, axis)
        made = [part(group, None) for part, group in zip(self.quantizers, groups, strict=True)]
        latent = torch.cat([latent for latent, _ in made], axis)
        return latent, _joined_codes([_as_codes(posterior) for _, posterior in made])


#: Default `scale` of fixed entries: about the ratio of the rounding error to its input.
_LEFT_OVER = 0.25


def _codebooks(part: nn.Module) -> Mapping[str, int]:
    found: Mapping[str, int] = part.codebooks  # type: ignore[assignment]
    return found


def _as_codes(posterior: object) -> CodesPosterior:
    """Converts any posterior with choices to a `CodesPosterior`."""
    if isinstance(posterior, CodesPosterior):
        return posterior
    choices = list(posterior.choices().values())  # type: ignore[attr-defined]
    index = torch.stack(choices, 2)  # (B, n, Q)
    none = index.new_zeros(index.shape[0], dtype=torch.float32)
    return CodesPosterior(
        index,
        getattr(posterior, "commitment", none),
        getattr(posterior, "code_entropy", none),
    )


def _joined_codes(found: Sequence[CodesPosterior]) -> CodesPosterior:
    """Joins the choices of levels or groups; penalties are means over them."""
    if len({codes.choice.shape[1] for codes in found}) > 1:
        counts = ", ".join(str(codes.choice.shape[1]) for codes in found)
        raise ShapeError(
            f"quantizers side by side must cut an image into as many vectors, not {counts}",
            hint="give all of them the same dims",
        )
    return CodesPosterior(
        torch.cat([codes.choice for codes in found], 2),
        torch.stack([codes.commitment for codes in found]).mean(0),
        torch.stack([codes.code_entropy for codes in found]).mean(0),
    )


def indices_to_latent(quantizer: object, index: Tensor, shape: torch.Size) -> Tensor:
    """The latent of chosen entries: what `forward` returns beside these choices.

    Args:
        quantizer: any of this package, `Residual` and `Grouped` of them, or a `Categorical`.
        index: (B, n, Q) int64, the entry of each codebook.
        shape: of the latent, (B, ...).

    Raises:
        ConfigError: the quantizer has no `lookup`.
    """
    if isinstance(quantizer, Residual):
        parts = _of_each(quantizer, index)
        return torch.stack(
            [
                scale * indices_to_latent(part, own, shape)
                for (part, own), scale in zip(parts, quantizer.scales, strict=True)
            ]
        ).sum(0)
    if isinstance(quantizer, Grouped):
        axis = 1 if len(shape) == 4 else len(shape) - 1
        group = list(shape)
        group[axis] //= len(quantizer.quantizers)
        parts = _of_each(quantizer, index)
        made = [indices_to_latent(part, own, torch.Size(group)) for part, own in parts]
        return torch.cat(made, axis)
    if isinstance(quantizer, Categorical):
        one_hot = nn.functional.one_hot(index[:, 0], quantizer.classes)  # (B, V, K)
        return one_hot.float().reshape(shape)
    lookup: Callable[[Tensor], Tensor] | None = getattr(quantizer, "lookup", None)
    if lookup is None:
        raise ConfigError(
            f"{type(quantizer).__name__} has no method lookup, so that indices have no latent",
            hint="possible: VQ, SimVQ, FSQ, LFQ, BSQ, Residual, Grouped, Categorical, or one of "
            "your own with lookup(index (B, n)) -> (B, n, dims)",
        )
    return from_vectors(lookup(index[..., 0]), shape)


def _of_each(several: _Several, index: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Each quantizer with its own columns of the choices (B, n, Q)."""
    counts = [len(_codebooks(part)) for part in several.quantizers]
    return list(zip(several.quantizers, torch.split(index, counts, 2), strict=True))
