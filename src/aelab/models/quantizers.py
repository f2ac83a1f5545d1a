"""Quantizing bottlenecks: the latent consists of entries of a finite codebook.

They have the interface of a bottleneck, (features, noise) -> (latent, posterior), and use no noise.
Their posterior has `index` (B, n) int64, the entry chosen for each of an image's n vectors.
`codebooks` says how many entries each codebook has; a bottleneck with one calls it ``.
`fixed_entries` says whether training leaves the entries as they are, see `Residual`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.shapes import shape_words
from aelab.posteriors import CodePosterior, LearnedCodePosterior
from aelab.types import TermSpec

#: Step between the vectors of a batch that are kept as candidates. A prime: it shares no factor
#: with the number of positions in an image, so candidates come from all positions.
_STRIDE = 7919
#: Added to the counts, so that unused entries stay finite.
_SMOOTHING = 1e-5


class VQ(nn.Module):
    """Vector quantization: each vector is replaced by the nearest entry of a learned codebook.

    The entries are moving averages of the vectors assigned to them; they get no gradient. They are
    updated in `after_step`, once per optimiser step, even if its batch is computed in parts. The
    first step sets all of them to vectors of its batch. Later an entry that is hardly used is
    replaced by a vector of the current batch. All of this is deterministic.

    Features (B, D) and tokens (B, T, D) are split into vectors of `dims` along the last axis,
    feature maps (B, C, H, W) along the channels of each pixel.

    Args:
        codebook_size: K, number of entries.
        dims: numbers in an entry.
        commitment_weight: of the default loss term `commitment`, which keeps vectors near their
            entries; 0: no such term.
        decay: of the moving averages per step, 0..1.
        dead_below: an entry used less than this share of the mean use is replaced; 0: never.
        cosine: vectors and entries are brought to length 1, so that directions are compared.
        gradient: what reaches the features: `straight_through`, that of the latent unchanged, or
            `rotation`, turned and scaled as the vector is to become its entry.
        start: the first entries: `batch`, vectors of the first batch, or `kmeans`, means of
            clusters of them.

    Attributes:
        codebook: (K, dims), the entries.
        codebook_size, dims: as given.

    Raises:
        ConfigError: a size below 1, or a decay or share outside of 0..1.
        ShapeError: in `forward`, if features cannot be cut into vectors of `dims`.

    Source: van den Oord et al. 2017, arXiv:1711.00937, eq. 1 to 3 and appendix A.1; smoothing of
        the counts as in Sonnet's VectorQuantizerEMA; replacing unused entries: Dhariwal et al.
        2020, arXiv:2005.00341, section 3.1; cosine: Yu et al. 2022, arXiv:2110.04627, section 3.2;
        rotation: Fifty et al. 2024, arXiv:2410.06424, section 4; k-means: Lancucki et al. 2020,
        arXiv:2005.08520.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"codebook_size", "dims", "lookup"})

    noise_shape: tuple[int, ...] | None = None
    fixed_entries: ClassVar[bool] = False
    codebook: Tensor
    mean_counts: Tensor
    mean_sums: Tensor
    num_steps: Tensor
    counts: Tensor
    sums: Tensor
    candidates: Tensor

    def __init__(
        self,
        codebook_size: int = 512,
        dims: int = 8,
        commitment_weight: float = 0.25,
        decay: float = 0.99,
        dead_below: float = 0.1,
        cosine: bool = False,
        gradient: Literal["straight_through", "rotation"] = "straight_through",
        start: Literal["batch", "kmeans"] = "batch",
    ) -> None:
        super().__init__()
        if int(codebook_size) < 1 or int(dims) < 1:
            raise ConfigError(
                f"VQ: codebook_size and dims must be at least 1, not {codebook_size} and {dims}"
            )
        if not (0.0 <= decay < 1.0 and 0.0 <= dead_below < 1.0):
            raise ConfigError(
                "VQ: decay and dead_below must be at least 0 and below 1, "
                f"not {decay} and {dead_below}"
            )
        for name, given, possible in (
            ("gradient", gradient, ("straight_through", "rotation")),
            ("start", start, ("batch", "kmeans")),
        ):
            if given not in possible:
                raise ConfigError(f"VQ: {name} is {given!r}; possible: {', '.join(possible)}")
        self.cosine, self.gradient, self.start = bool(cosine), gradient, start
        self.codebook_size, self.dims = int(codebook_size), int(dims)
        self.codebooks = {"": self.codebook_size}
        self.decay, self.dead_below = float(decay), float(dead_below)
        self.terms = commitment_terms(commitment_weight)
        entries = (self.codebook_size, self.dims)
        start_entries = torch.randn(entries)
        if self.cosine:
            start_entries = nn.functional.normalize(start_entries, dim=1)
        self.register_buffer("codebook", start_entries)
        self.register_buffer("mean_counts", torch.ones(self.codebook_size))
        self.register_buffer("mean_sums", torch.zeros(entries))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        # Sums over the parts of the current step. Buffers, so that a run can stop between parts.
        self.register_buffer("counts", torch.zeros(self.codebook_size))
        self.register_buffer("sums", torch.zeros(entries))
        self.register_buffer("candidates", torch.zeros(entries))

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, LearnedCodePosterior]:
        """Features (B, ...) -> latent of the same shape, and commitment (B,) and index (B, n).

        The gradient of the latent is passed to the features unchanged (straight-through).
        """
        vectors = to_vectors(features, self.dims, "VQ").float()  # (B, n, dims)
        if self.cosine:
            vectors = nn.functional.normalize(vectors, dim=-1)
        index = nearest_entries(vectors, self.codebook)  # (B, n)
        if self.training:
            self._remember(vectors.detach(), index)
        entries = self.codebook[index]  # (B, n, dims)
        commitment = (vectors - entries).square().mean(dim=(1, 2))
        towards = rotated if self.gradient == "rotation" else straight_through
        latent = towards(vectors, entries)
        return from_vectors(latent, features.shape), LearnedCodePosterior(index, commitment)

    def lookup(self, index: Tensor) -> Tensor:
        """Entries of the codebook: index (B, n), 0..K-1 -> (B, n, dims)."""
        return self.codebook[index]

    @torch.no_grad()
    def after_step(self) -> None:
        """Updates the entries with the training images since the last call."""
        first = self.num_steps == 0
        seen = self.counts.sum()
        mean_counts = self.decay * self.mean_counts + (1 - self.decay) * self.counts
        mean_sums = self.decay * self.mean_sums + (1 - self.decay) * self.sums
        # Everything below uses torch.where, not `if`: a branch on data would wait for the GPU.
        uniform = torch.where(first, seen, mean_counts.sum()) / self.codebook_size
        dead = (mean_counts < self.dead_below * uniform) | first
        mean_counts = torch.where(dead, uniform, mean_counts)
        mean_sums = torch.where(dead[:, None], self.candidates * uniform, mean_sums)
        total = mean_counts.sum()
        smooth = (mean_counts + _SMOOTHING) / (total + self.codebook_size * _SMOOTHING) * total
        # Smoothing pulls rarely used entries to the mean of the vectors. Not to zero, which may be
        # far from all of them.
        middle = mean_sums.sum(dim=0) / total.clamp(min=_SMOOTHING)
        entries = middle + (mean_sums - mean_counts[:, None] * middle) / smooth[:, None]
        if self.cosine:
            entries = nn.functional.normalize(entries, dim=1)
        known = seen > 0  # without training images since the last call nothing changes
        for name, value in (
            ("mean_counts", mean_counts),
            ("mean_sums", mean_sums),
            ("codebook", entries),
            ("num_steps", self.num_steps + 1),
        ):
            buffer = self.get_buffer(name)
            buffer.copy_(torch.where(known, value, buffer))
        self.counts.zero_()
        self.sums.zero_()

    def _remember(self, vectors: Tensor, index: Tensor) -> None:
        flat = vectors.reshape(-1, self.dims)  # (B n, dims)
        # (B n, K)
        chosen = nn.functional.one_hot(index.reshape(-1), self.codebook_size).to(flat.dtype)
        self.counts += chosen.sum(dim=0)
        with in_full_precision(flat):
            self.sums += chosen.T @ flat  # not index_add_, which is not deterministic on a GPU
        places = torch.arange(self.codebook_size, device=flat.device) * _STRIDE % len(flat)
        candidates = flat[places]
        if self.start == "kmeans":  # used by the first step alone; later ones revive single entries
            means = _cluster_means(flat, candidates)
            candidates = torch.where(self.num_steps == 0, means, candidates)
        self.candidates.copy_(candidates)

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"codebook_size={self.codebook_size}, dims={self.dims}"


class FSQ(nn.Module):
    """Finite scalar quantization: rounds every number to one of a few levels in -1..1.

    The codebook is the product of the levels: nothing is learned, and no entry can become unused.
    Features are split into vectors of `len(levels)` numbers, as in `VQ`. They should start at about
    unit scale, as after `nn.LayerNorm`: much smaller ones are all rounded to 0.

    Args:
        levels: number of levels for each number of a vector, at least 2; the paper recommends
            (8, 6, 5) for about 2^8 entries, (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for 2^12. Two
            levels are -1 and 1, the signs.

    Attributes:
        codebook_size: product of the levels.
        dims: numbers in a vector.

    Raises:
        ConfigError: fewer than 2 levels.
        ShapeError: in `forward`, if features cannot be cut into vectors of `dims`.

    Source: Mentzer et al. 2023, arXiv:2309.15505, section 3.1 and appendix A.1; the shift of even
        levels is exact here (artanh, not tan), so that feature 0 is level 0.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"codebook_size", "dims", "levels", "lookup"}
    )

    noise_shape: tuple[int, ...] | None = None
    fixed_entries: ClassVar[bool] = True
    terms: tuple[TermSpec, ...] = ()
    counts: Tensor
    steps: Tensor

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        super().__init__()
        self.levels = tuple(int(count) for count in levels)
        if not self.levels or min(self.levels) < 2:
            raise ConfigError(f"FSQ: every number needs at least 2 levels, not {self.levels}")
        self.dims, self.codebook_size = len(self.levels), math.prod(self.levels)
        self.codebooks = {"": self.codebook_size}
        counts = torch.tensor(self.levels, dtype=torch.float32)
        steps = [math.prod(self.levels[:position]) for position in range(self.dims)]
        self.register_buffer("counts", counts, persistent=False)
        #: Place values: the index is the sum of level * step over the numbers of a vector.
        self.register_buffer("steps", torch.tensor(steps), persistent=False)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, CodePosterior]:
        """Features (B, ...) -> latent of the same shape in -1..1, and index (B, n).

        Rounding passes the gradient unchanged (straight-through).
        """
        vectors = to_vectors(features, self.dims, "FSQ").float()  # (B, n, dims)
        half = self.counts.div(2, rounding_mode="floor")
        bounded = self._bound(vectors)
        rounded = bounded.detach().round()  # -half..half for odd counts, -half..half-1 for even
        if 2 in self.levels:  # their grid is -1, 1, without a level at 0
            signs = torch.where(vectors.detach() > 0, 1.0, -1.0)
            rounded = torch.where(self.counts == 2, signs, rounded)
        digits = torch.where(self.counts == 2, rounded > 0, rounded + half)
        index = (digits.long() * self.steps).sum(dim=-1)
        latent = straight_through(bounded, rounded) / half
        return from_vectors(latent, features.shape), CodePosterior(index)

    def lookup(self, index: Tensor) -> Tensor:
        """Entries of the codebook: index (B, n), 0..K-1 -> (B, n, dims), -1..1."""
        half = self.counts.div(2, rounding_mode="floor")
        digits = index[..., None] // self.steps % self.counts.long()
        return torch.where(self.counts == 2, 2.0 * digits - 1, (digits - half) / half)

    def _bound(self, vectors: Tensor) -> Tensor:
        """The function f of the paper: bounded, 0 at 0, and with `levels` values after rounding."""
        half_range = (self.counts - 1) * (1 + 1e-3) / 2
        half_range = torch.where(self.counts == 2, 1.0, half_range)
        offset = torch.where((self.counts % 2 == 0) & (self.counts > 2), 0.5, 0.0)
        return torch.tanh(vectors + torch.atanh(offset / half_range)) * half_range - offset

    def extra_repr(self) -> str:
        """Levels, for `print(model)`."""
        return f"levels={self.levels}"


def commitment_terms(weight: float) -> tuple[TermSpec, ...]:
    """The default loss term `commitment`; none for weight 0."""
    return (TermSpec("commitment", "commitment", float(weight)),) if weight else ()


def to_vectors(features: Tensor, dims: int, owner: str) -> Tensor:
    """Splits each image's features, (B, ...) or (B, C, H, W), into vectors (B, n, dims).

    Feature maps are split pixel by pixel, others along the last axis. The inverse: `from_vectors`.

    Raises:
        ShapeError: the last axis (channels, for a feature map) is not a multiple of `dims`.
    """
    last = features.permute(0, 2, 3, 1) if features.ndim == 4 else features  # (B, H, W, C)
    if features.ndim < 2 or last.shape[-1] % dims:
        what = "channels" if features.ndim == 4 else "numbers"
        raise ShapeError(
            f"{owner}: features of {shape_words(features.shape[1:])} have {last.shape[-1]} {what}, "
            f"which cannot be split into vectors of {dims}",
            hint=f"let the encoder give a multiple of {dims} {what}",
        )
    return last.reshape(features.shape[0], -1, dims)


def from_vectors(vectors: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `to_vectors`: (B, n, dims) -> `shape`, the shape of the features."""
    if len(shape) != 4:
        return vectors.reshape(shape)
    batch, channels, height, width = shape
    return vectors.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


@torch.no_grad()
def nearest_entries(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest entry, (B, n, d) and (K, d) -> (B, n) int64; Euclidean distance."""
    # |v - e|^2 without |v|^2, which is equal for all entries. The mean of the entries is subtracted
    # first: far from zero e.e and v.e are large, and their difference would be lost in rounding.
    middle = codebook.mean(dim=0)
    entries = codebook - middle
    with in_full_precision(vectors):
        products = (vectors - middle) @ entries.T
        distance = entries.square().sum(dim=-1) - 2 * products  # (B, n, K)
    return distance.argmin(dim=-1)


def in_full_precision(values: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Context manager: products of float32 tensors stay float32, even under autocast."""
    if values.is_meta:  # computes nothing; autocast does not support this device
        return contextlib.nullcontext()
    return torch.autocast(values.device.type, enabled=False)


def rotated(vectors: Tensor, entries: Tensor) -> Tensor:
    """The value of `entries`; the gradient is turned and scaled as each vector is to its entry.

    Args:
        vectors, entries: (B, n, dims).

    Source: Fifty et al. 2024, arXiv:2410.06424, equation 3: the rotation, as two reflections, and
        the ratio of lengths are constants.
    """
    before, after = vectors.detach(), entries.detach()
    length = before.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    unit, goal = before / length, nn.functional.normalize(after, dim=-1)
    middle = nn.functional.normalize(unit + goal, dim=-1)
    along = (vectors * middle).sum(-1, keepdim=True)
    turned = vectors - 2 * along * middle + 2 * (vectors * unit).sum(-1, keepdim=True) * goal
    turned = turned * after.norm(dim=-1, keepdim=True) / length
    return straight_through(turned, after)  # the value to the last bit


def _cluster_means(vectors: Tensor, begin: Tensor, rounds: int = 10) -> Tensor:
    """Lloyd's k-means over (m, d) from the entries (K, d); an empty cluster keeps its own."""
    means = begin
    for _ in range(rounds):
        chosen = nn.functional.one_hot(nearest_entries(vectors[None], means)[0], len(begin))
        counts = chosen.sum(0)[:, None]  # (K, 1)
        with in_full_precision(vectors):
            sums = chosen.to(vectors.dtype).T @ vectors
        means = torch.where(counts > 0, sums / counts.clamp(min=1), means)
    return means


def straight_through(continuous: Tensor, quantized: Tensor) -> Tensor:
    """The exact value of `quantized`, with the gradient of `continuous`.

    Source: Bengio et al. 2013, arXiv:1308.3432.
    """
    return quantized.detach() + (continuous - continuous.detach())
