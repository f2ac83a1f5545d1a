"""The triplet term: its value by hand, its order from the pixels, and what it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.losses.triplets import FactorTriplet, OverlapTriplet, _ordered
from aelab.posteriors import Deterministic, GaussianPosterior
from aelab.types import Images, Output


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def output(codes: Tensor) -> Output:
    """An output of a plain autoencoder with these latents (B, D)."""
    return Output(torch.zeros(len(codes), 1, 1, 1), codes, Deterministic())


def images(*values: float) -> Tensor:
    """Images of one pixel."""
    return torch.tensor(values)[:, None, None, None]


#: Of three images each has the two others, whatever is drawn. By pixels: 1 is nearer to 0 and to 2.
PIXELS = images(0.0, 0.4, 1.0)
CODES = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
#: |0-1| = 5, |0-2| = 1, |1-2| = sqrt(20); the nearer in pixels: of 0: 1, of 1: 0, of 2: 1.
BY_HAND = [5 - 1 + 1, 5 - 20**0.5 + 1, 20**0.5 - 1 + 1]


def test_of_three_images_the_values_are_those_by_hand() -> None:
    found = OverlapTriplet(triplets=7)(output(CODES), PIXELS)
    torch.testing.assert_close(found, torch.tensor(BY_HAND))


def test_shared_dimensions_of_the_negative_count_less() -> None:
    # 0 to 2 is (1, 0): the second is shared. 1 to 2 is (2, 4): the first. 2 to 0: the second.
    found = OverlapTriplet(shared_scale=0.5)(output(CODES), PIXELS)
    expected = [BY_HAND[0], 5 - (1 + 16) ** 0.5 + 1, BY_HAND[2]]
    torch.testing.assert_close(found, torch.tensor(expected))
    # With the ratio 0 the limit is the least difference, and none is below.
    none = OverlapTriplet(shared_scale=0.5, share_ratio=0.0)(output(CODES), PIXELS)
    torch.testing.assert_close(none, torch.tensor(BY_HAND))


def test_codes_in_the_order_of_the_pixels_cost_nothing_without_a_margin() -> None:
    pixels = torch.rand(20)
    plain = OverlapTriplet(margin=0)
    assert plain(output(pixels[:, None]), images(*pixels.tolist())).abs().max() < 1e-5
    assert plain(output(torch.rand(20, 1)), images(*pixels.tolist())).mean() > 0.05


def test_no_triplet_has_an_image_twice() -> None:
    positive, negative = _ordered(torch.rand(5, 5), 50)
    rows = torch.arange(5)[:, None]
    assert (positive != rows).all() and (negative != rows).all() and (positive != negative).all()
    met = {(int(p), int(n)) for p, n in zip(positive[0], negative[0], strict=True)}
    assert len({frozenset(pair) for pair in met}) == 6  # each two of the four others


def test_means_of_a_posterior_are_compared_not_what_was_drawn() -> None:
    posterior = GaussianPosterior(CODES, torch.zeros(3, 2))
    drawn = output(torch.randn(3, 2))._replace(posterior=posterior)
    torch.testing.assert_close(OverlapTriplet()(drawn, PIXELS), torch.tensor(BY_HAND))


def test_the_order_of_codes_is_learned() -> None:
    pixels = torch.rand(12)
    codes = torch.randn(12, 2, requires_grad=True)
    optimizer, term = torch.optim.Adam([codes], lr=0.05), OverlapTriplet(margin=0.1)
    target = images(*pixels.tolist())
    before = OverlapTriplet(margin=0, triplets=100)(output(codes), target).mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        term(output(codes), target).mean().backward()
        optimizer.step()
    after = OverlapTriplet(margin=0, triplets=100)(output(codes), target).mean().item()
    assert after < 0.15 * before


def test_equal_images_and_small_batches_have_finite_gradients() -> None:
    for count in (1, 2, 4):
        codes = torch.zeros(count, 3, requires_grad=True)
        values = OverlapTriplet(shared_scale=0.9)(output(codes), torch.zeros(count, 1, 2, 2))
        values.sum().backward()
        assert values.shape == (count,) and codes.grad is not None and codes.grad.isfinite().all()
        assert not values.any()  # of equally far images neither shall be nearer


def test_validations_draw_the_same_triplets() -> None:
    term, codes, target = OverlapTriplet(), output(torch.randn(9, 2)), torch.rand(9, 1, 2, 2)
    with torch.no_grad():
        torch.testing.assert_close(term(codes, target), term(codes, target), rtol=0, atol=0)
    assert not torch.equal(term(codes, target), term(codes, target))


def test_it_is_no_reconstruction() -> None:
    with pytest.raises(ConfigError, match="no term of the objective compares with the images"):
        make_objective(objective={"overlap_triplet": 1})
    objective = make_objective(objective={"l2": 1, "overlap_triplet": {"margin": 2}})
    assert list(objective.reconstructions) == ["l2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -1}, "margin is -1; possible: 0 or more"),
        ({"triplets": 0}, "triplets is 0; possible: 1"),
        ({"shared_scale": 2}, "shared_scale is 2; possible: 0 to 1"),
        ({"share_ratio": -0.1}, "share_ratio is -0.1; possible"),
        ({"norm": 3}, "norm is 3; possible: 1"),
        ({"shared_pull": -1}, "shared_pull is -1; possible: 0 or more"),
    ],
)
@pytest.mark.parametrize("term", ["overlap_triplet", "factor_triplet"])
def test_options_out_of_range_are_refused(
    term: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"{term}: {message}"):
        make_objective(objective={"l2": 1, term: options})


#: 0 and 1 differ in the second factor, by 1 of 4; 0 and 2 in the first, by its whole range.
FACTORS = torch.tensor([[0, 0], [0, 1], [2, 0]])
RANGES = Images(torch.zeros(2, 1, 1, 1), factors=torch.tensor([[0, 0], [2, 4]]))


def by_factors(codes: Tensor, factors: Tensor = FACTORS, **options: Any) -> Tensor:
    """Values of the term for codes of images with these factors, ranges 2 and 4."""
    term = FactorTriplet(triplets=9, **options)
    term.prepare(RANGES)
    return term(output(codes), torch.zeros(len(codes), 1, 1, 1), factors)


def test_the_nearer_factors_are_the_positive() -> None:
    # Scaled: 0-1 is 1/4, 0-2 is 1, 1-2 is 5/4. |0-1| = 5, |0-2| = 1, |1-2| = sqrt(20).
    expected = torch.tensor([5 - 1 + 1, 5 - 20**0.5 + 1, max(0, 1 - 20**0.5 + 1)])
    torch.testing.assert_close(by_factors(CODES), expected)
    # By their number 0-1 and 0-2 are equally far: 0 has no triplet.
    torch.testing.assert_close(
        by_factors(CODES, distance="count"), expected * torch.tensor([0, 1, 1])
    )


def test_equal_sums_of_scaled_differences_are_equally_far() -> None:
    term = FactorTriplet()
    term.prepare(Images(torch.zeros(2, 1, 1, 1), factors=torch.tensor([[0, 0, 0], [3, 3, 3]])))
    distances = term.distances(torch.tensor([[0, 0, 0], [1, 1, 0], [0, 0, 2], [1, 0, 1]]))
    assert torch.equal(distances[0, 1:], distances[0, 1].expand(3))


def test_the_norm_is_that_of_absolute_or_of_squared_differences() -> None:
    # |0-1| = 3 + 4, |0-2| = 1, |1-2| = 2 + 4.
    torch.testing.assert_close(by_factors(CODES, norm=1), torch.tensor([7.0, 2.0, 0.0]))


def test_averaged_codes_are_compared_after_sharing() -> None:
    # Written out for anchor 0, positive 1, negative 2 with the limit in the middle:
    # 0-1 differ by (3, 4): the first is shared, 1.5. 0-2 by (1, 0): the second. 1-2 by (2, 4): 2.
    a = (torch.tensor([1.5, 0.0]) + torch.tensor([0.0, 0.0])) / 2
    p = (torch.tensor([1.5, 4.0]) + torch.tensor([2.0, 4.0])) / 2
    n = (torch.tensor([1.0, 0.0]) + torch.tensor([2.0, 0.0])) / 2
    expected = (a - p).norm() - (a - n).norm() + 1
    torch.testing.assert_close(by_factors(CODES, averaged=True)[0], expected)


def test_shared_dimensions_are_pulled_together() -> None:
    # Shared: 0-1 the first, 3; 0-2 the second, 0; 1-2 the first, 2. The same for every anchor.
    pulled = by_factors(CODES, shared_pull=0.6) - by_factors(CODES)
    torch.testing.assert_close(pulled, torch.full((3,), 0.6 * (3 + 0 + 2) / 3))


def test_factors_are_learned_as_the_order_of_codes() -> None:
    factors = torch.cartesian_prod(torch.arange(3), torch.arange(5))
    codes = torch.randn(15, 2, requires_grad=True)
    optimizer = torch.optim.Adam([codes], lr=0.05)
    before = by_factors(codes, factors, margin=0).mean().item()
    for _ in range(300):
        optimizer.zero_grad()
        by_factors(codes, factors, margin=0.1).mean().backward()
        optimizer.step()
    assert by_factors(codes, factors, margin=0).mean().item() < 0.3 * before


def test_an_objective_of_factors_says_so_and_needs_them() -> None:
    objective = make_objective(objective={"l2": 1, "factor_triplet": 1})
    assert objective.needs_factors and list(objective.reconstructions) == ["l2"]
    assert not make_objective(objective={"l2": 1, "overlap_triplet": 1}).needs_factors
    made, target = output(CODES), torch.zeros(3, 1, 1, 1)
    with pytest.raises(ConfigError, match="compares images by their factors, and none were given"):
        objective(made, target, 0)
    with pytest.raises(ConfigError, match="does not know the range of the factors"):
        objective(made, target, 0, FACTORS)
    objective.prepare(RANGES)
    assert (objective(made, target, 0, FACTORS)["factor_triplet"] > 0).any()
    with pytest.raises(ConfigError, match="distance is 'far'"):
        make_objective(objective={"l2": 1, "factor_triplet": {"distance": "far"}})
