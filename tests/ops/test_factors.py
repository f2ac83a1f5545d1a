"""Partners with common factors: what they share, how they are drawn, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.ops.factors import (
    Pairs,
    Partners,
    checked_differing,
    factor_findings,
    factors_of,
    refuse_without_factors,
)
from aelab.types import Images

#: All combinations of a factor of 3 values, one of 4, a constant, and one of 5 values from 10 on.
GRID = torch.cartesian_prod(
    torch.arange(3), torch.arange(4), torch.tensor([7]), torch.arange(10, 15)
)


def drawn(factors: Tensor, differing: Any, of: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return Partners(factors, Pairs(differing)).rows(of, generator)


@pytest.mark.parametrize("differing", [0, 1, 2, "random"])
def test_partners_differ_in_at_most_the_given_number_of_factors(differing: Any) -> None:
    grid = GRID.repeat(2, 1)  # so that an image with the same factors exists too
    of = torch.randint(len(grid), (2000,), generator=torch.Generator().manual_seed(1))
    counts = (grid[of] != grid[drawn(grid, differing, of)]).sum(1)
    # Random: up to 2 of the three factors that vary.
    assert counts.max() == {0: 0, 1: 1, 2: 2, "random": 2}[differing]
    if differing == 1:
        # The twin is one of 5, 7 or 9 others that agree in the rest.
        share = 1 - sum(1 / (2 * size - 1) for size in (3, 4, 5)) / 3
        assert abs((counts == 1).float().mean() - share) < 0.03
    if differing == "random":
        # k = 1 mostly differs in one; with k = 2 both are drawn anew, and may stay.
        assert 0.5 < (counts == 1).float().mean() < 0.8


def test_each_factor_and_each_partner_is_as_likely() -> None:
    of = torch.zeros(12_000, dtype=torch.int64)
    partners = drawn(GRID, 1, of)
    changed = (GRID[partners] != GRID[0]).float().mean(0)
    torch.testing.assert_close(changed, torch.tensor([1, 1, 0, 1]) / 3, atol=0.02, rtol=0)
    # Of the first factor the 2 other values, of the second 3, of the last 4.
    shares = torch.bincount(partners, minlength=len(GRID)) / len(of)
    expected = torch.zeros(len(GRID))
    for row, combination in enumerate(GRID):
        places = (combination != GRID[0]).nonzero().flatten().tolist()
        if len(places) == 1:
            expected[row] = 1 / 3 / {0: 2, 1: 3, 3: 4}[places[0]]
    torch.testing.assert_close(shares, expected, atol=0.02, rtol=0)


def test_the_class_is_the_only_factor_of_an_ordinary_set() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 0])
    factors = factors_of(Images(torch.zeros(6, 1, 2, 2), labels=labels))
    assert factors is not None and factors.tolist() == labels[:, None].tolist()
    of = torch.arange(6).repeat(50)
    partners = drawn(factors, None, of)
    assert (labels[partners] == labels[of]).all()
    assert (partners != of)[labels[of] != 2].all()
    assert (partners == 2)[of == 2].all()  # alone in its class
    assert partners[of == 0].unique().tolist() == [3, 5]


def test_the_same_key_draws_the_same_partners() -> None:
    of = torch.arange(60)
    one, again, other = (drawn(GRID, "random", of, seed) for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_known_factors_come_before_classes_and_other_numbers_are_neither() -> None:
    pixels = torch.zeros(3, 1, 2, 2)
    both = Images(pixels, labels=torch.tensor([0, 1, 2]), factors=torch.zeros(3, 2).long())
    assert factors_of(both) is both.factors
    assert factors_of(Images(pixels)) is None
    assert factors_of(Images(pixels, labels=torch.rand(3, 2))) is None


def test_a_set_in_which_nobody_has_a_partner_is_refused() -> None:
    diagonal = torch.arange(5)[:, None].expand(-1, 3)
    with pytest.raises(ConfigError, match="of 5 images none agrees with another") as e:
        Partners(diagonal, Pairs(2))
    assert "differing='random'" in str(e.value.hint)


MODEL = SimpleNamespace(pairs=Pairs())
OBJECTIVE = SimpleNamespace(needs_factors=True)
PLAIN = SimpleNamespace()


def test_a_set_without_factors_ends_in_one_message_that_lists_sets_with_them() -> None:
    images = Images(torch.zeros(4, 1, 2, 2))
    for model, objective, words in (
        (MODEL, PLAIN, "the model learns from pairs of images with common factors"),
        (PLAIN, OBJECTIVE, "the objective compares images by their factors"),
        (MODEL, OBJECTIVE, "the model learns from pairs"),
    ):
        (finding,) = factor_findings(model, objective, images, "train_set", 8)
        assert finding.code == "no-factors" and words in finding.message
        assert "train_set has neither factors nor classes" in finding.message
        assert "shapes_dataset()" in finding.way_out and "mnist_dataset()" in finding.way_out
    assert not factor_findings(PLAIN, PLAIN, images, "train_set", 8)
    labelled = Images(images.pixels, labels=torch.arange(4))
    with pytest.raises(ConfigError, match="validation_set has neither"):
        refuse_without_factors(PLAIN, OBJECTIVE, [(0, labelled)], [(0, images)], 8)
    refuse_without_factors(MODEL, OBJECTIVE, [(0, labelled)], [], 8)


def test_pairs_with_nothing_in_common_and_batches_without_pairs_are_refused() -> None:
    facts = {"factor_sizes": [3, 1, 2]}
    images = Images(torch.zeros(4, 1, 2, 2), factors=torch.zeros(4, 3).long(), facts=facts)
    (finding,) = factor_findings(SimpleNamespace(pairs=Pairs(2)), PLAIN, images, "train_set", 8)
    assert finding.code == "nothing-in-common" and "differing=1" in finding.way_out
    assert not factor_findings(SimpleNamespace(pairs=Pairs(1)), PLAIN, images, "train_set", 8)
    labelled = Images(images.pixels, labels=torch.arange(4))
    for differing in (1, 3):
        model = SimpleNamespace(pairs=Pairs(differing))
        (finding,) = factor_findings(model, PLAIN, labelled, "train_set", 8)
        assert "differing=0" in finding.way_out
    (finding,) = factor_findings(MODEL, PLAIN, labelled, "train_set", 1)
    assert finding.code == "batch-of-one"


@pytest.mark.parametrize("differing", [-1, 1.5, True, "all"])
def test_other_numbers_of_differing_factors_are_refused(differing: Any) -> None:
    with pytest.raises(ConfigError, match=r"possible: 0, 1\.\. or 'random'"):
        checked_differing(differing, "PairAveraged")
