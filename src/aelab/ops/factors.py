"""Known factors of images, for objectives that compare by them and models that learn from pairs.

An objective asks by an attribute `needs_factors`; it is then called with the factors of the batch.
A model asks by an attribute `pairs`; then the second of every two images of a training batch is a
partner of the first, with which it has all but a few factors in common. Neither makes a model
conditional: encoder and decoder see images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.findings import Finding
from aelab.ops.classes import class_numbers
from aelab.types import Images

_Scheduled = Sequence[tuple[int, Images]]


class Pairs(NamedTuple):
    """Which images make a pair.

    Attributes:
        differing: number k of factors in which the two may differ; `random`: drawn anew for each
            pair, from 1 to one less than there are factors; None: 1, or 0 if there is one factor.
    """

    differing: int | str | None = None


def needs_factors(objective: object) -> bool:
    """Whether an objective is called with the factors of the images."""
    return bool(getattr(objective, "needs_factors", False))


def pairs_of(model: object) -> Pairs | None:
    """How the training batches of a model are paired; None if they are not."""
    return getattr(model, "pairs", None)


def factors_of(images: Images) -> Tensor | None:
    """The known factors of a set, (N, F) int64; its class is the one factor if it has no others.

    None if it has neither.
    """
    if images.factors is not None:
        return images.factors
    numbers = class_numbers(images.labels)
    return None if numbers is None else numbers[:, None]


def factor_findings(
    model: object, objective: object, images: Images, name: str, batch_size: int
) -> list[Finding]:
    """The problem of a set without factors, for a model or an objective that asks for them.

    Args:
        name: of the set, for messages.
        batch_size: of training; a pair needs two images.
    """
    pairs = pairs_of(model)
    if pairs is None and not needs_factors(objective):
        return []
    factors = factors_of(images)
    if factors is None:
        who = "the model learns from pairs of images with common factors"
        if pairs is None:
            who = "the objective compares images by their factors"
        return [
            Finding(
                "problem",
                "no-factors",
                f"{who}, and the {name} has neither factors nor classes",
                "use a set with known factors: shapes_dataset(), colored_shapes_dataset(), "
                "dsprites_dataset() or shapes3d_dataset(); or one with classes, such as "
                "mnist_dataset(), whose class is then the only factor",
            )
        ]
    if pairs is None:
        return []
    if batch_size < 2:
        words = f"a batch of {batch_size} image has no pairs, from which the model learns"
        return [Finding("problem", "batch-of-one", words, "write batch_size: 64")]
    # By the facts: the few images of a check may not show all values.
    sizes = images.facts.get("factor_sizes") if images.factors is not None else None
    known = factors.shape[1] if sizes is None else sum(int(size) > 1 for size in sizes)
    if _most_differing(pairs, known) < known:
        return []
    return [
        Finding(
            "problem",
            "nothing-in-common",
            f"pairs may differ in differing={pairs.differing} factors, and the {name} has {known}: "
            "nothing would be common to them",
            f"write differing={max(0, known - 1)}, or leave it out",
        )
    ]


def refuse_without_factors(
    model: object, objective: object, train: _Scheduled, held_out: _Scheduled, batch_size: int
) -> None:
    """Raises a `ConfigError` for a set without the factors that model or objective ask for."""
    for name, sets in (("train_set", train), ("validation_set", held_out)):
        for _, images in sets:
            for finding in factor_findings(model, objective, images, name, batch_size):
                raise ConfigError(finding.message, hint=finding.way_out)


#: About so many images are looked at to see whether any has a partner.
_TRIED = 1000


class Partners:
    """Draws for images of a set others with which they have all but k factors in common.

    For each image, k of the factors are drawn; a partner is any other image that agrees in the
    rest. It may agree in more, as where a factor is drawn anew and gets the same value. An image
    that no other agrees with is its own partner.

    Args:
        factors: (N, F) int64. Factors of one value count as absent.
        pairs: gives k.

    Raises:
        ConfigError: no image agrees with another in all factors but k.

    Cost: for each choice of k factors that occurs, 8 N bytes and a sort, once.

    Source: Locatello et al. 2020, arXiv:2002.02886, section 5: "we sample k factors of variation
        that should not be shared by the two images and re-sample those coordinates".
    """

    def __init__(self, factors: Tensor, pairs: Pairs) -> None:
        varying = (factors.amin(0) < factors.amax(0)).nonzero().flatten().tolist()
        self._columns = [(factors[:, f] - factors[:, f].min()).long() for f in varying]
        self._count = len(factors)
        self._pairs = pairs
        self._groups: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        some = torch.arange(0, self._count, max(1, self._count // _TRIED))
        if torch.equal(some, self.rows(some, torch.Generator().manual_seed(0))):
            raise ConfigError(
                f"pairs: of {len(some):,} images none agrees with another of {self._count:,} "
                f"in all but {_most_differing(pairs, len(self._columns))} of its factors",
                hint="write a larger number, or differing='random'; or use more images",
            )

    def rows(self, of: Tensor, generator: torch.Generator) -> Tensor:
        """The partners (M,) int64 of the images `of` (M,)."""
        known, count = len(self._columns), len(of)
        most = min(_most_differing(self._pairs, known), max(0, known - 1))
        number = torch.full((count,), most)
        if self._pairs.differing == "random":
            number = torch.randint(min(1, most), most + 1, (count,), generator=generator)
        # The k factors of the least random numbers may differ.
        rank = torch.rand(count, known, generator=generator).argsort(1).argsort(1)
        may_differ = rank < number[:, None]  # (M, F)
        place = torch.rand(count, generator=generator)
        subset = (may_differ * 2 ** torch.arange(known)).sum(1)
        partner = torch.empty_like(of)
        for chosen in torch.unique(subset).tolist():
            some = subset == chosen
            partner[some] = self._drawn(chosen, of[some], place[some])
        return partner

    def _drawn(self, subset: int, of: Tensor, place: Tensor) -> Tensor:
        """Partners that agree in all factors but those of `subset`; `place`: uniform in 0..1."""
        code, order, first, size = self._group(subset)
        mine = code[of].long()
        others = size[mine] - 1
        # One of the first n - 1 of the n images that agree; the last stands for the image itself.
        step = torch.minimum((place * others).long(), (others - 1).clamp(min=0))
        found = order[first[mine] + step].long()
        return torch.where(found == of, order[first[mine] + others].long(), found)

    def _group(self, subset: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images grouped by all factors but those of `subset`, whose bits are factors.

        Returns:
            code: (N,) int32, the group of each image.
            order: (N,) int32, images of a group next to each other.
            first, size: (groups,) where each begins in `order`, and its number of images.
        """
        if subset not in self._groups:
            code = torch.zeros(self._count, dtype=torch.int64)
            for number, column in enumerate(self._columns):
                if not subset >> number & 1:
                    # Numbered anew each time: at most N * values of a factor, never an overflow.
                    mixed = code * (int(column.max()) + 1) + column
                    code = torch.unique(mixed, return_inverse=True)[1]
            size = code.bincount()
            order = code.argsort(stable=True)
            self._groups[subset] = code.int(), order.int(), size.cumsum(0) - size, size
        return self._groups[subset]


def _most_differing(pairs: Pairs, known: int) -> int:
    """The greatest number of differing factors, of `known` ones."""
    if pairs.differing is None:
        return min(1, max(0, known - 1))
    if pairs.differing == "random":
        return max(0, known - 1)
    return int(pairs.differing)


def made_factors(objective: object, images: Tensor) -> tuple[Tensor, ...]:
    """Factors (B, 1) of artificial images, all of one value; () if the objective does not ask."""
    if not needs_factors(objective):
        return ()
    return (torch.zeros(len(images), 1, dtype=torch.int64, device=images.device),)


def checked_differing(differing: Any, who: str) -> Pairs:
    """`Pairs` of an argument `differing`.

    Raises:
        ConfigError: neither a whole number from 0 nor `random` nor None.
    """
    whole = isinstance(differing, int) and not isinstance(differing, bool) and differing >= 0
    if differing is None or differing == "random" or whole:
        return Pairs(differing)
    raise ConfigError(f"{who}: differing is {differing!r}; possible: 0, 1.. or 'random'")
