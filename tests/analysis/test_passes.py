"""What passes over the data have brought is told from curves alone."""

from __future__ import annotations

import pytest

from aelab.analysis.curves import Curve
from aelab.analysis.passes import Passes, passes

IMAGES = [float(100 * i) for i in range(1, 201)]  # 20 passes over 1,000 images


def test_most_of_the_fall_and_the_second_half_are_told() -> None:
    held = [0.02 + 0.1 * 0.5 ** (x / 1000) for x in IMAGES]
    found = passes(Curve(IMAGES, held), Curve(IMAGES, held), 1000)
    assert found is not None
    assert found.count == pytest.approx(20)
    assert found.mostly_at == pytest.approx(3.5, abs=0.2)
    assert found.second_half == pytest.approx(-0.1 * 0.5**10 / 0.02, rel=0.05)
    assert found.gap == pytest.approx(0)
    words = found.words()
    assert words[0].startswith("20 passes over 1,000 images: 90 % of the fall of the loss came in")


def test_a_widening_gap_says_that_the_training_images_are_learned_by_heart() -> None:
    trained = [0.1 * 0.9 ** (x / 1000) for x in IMAGES]
    held = [0.1 * max(0.9 ** (x / 1000), 0.5) for x in IMAGES]
    found = passes(Curve(IMAGES, held), Curve(IMAGES, trained), 1000)
    assert found is not None and found.gap is not None and found.gap > 2
    assert found.words()[-1].endswith("further passes fit the training images, not new ones.")


@pytest.mark.parametrize(
    ("gap", "before", "told"),
    [
        (0.2, 0.05, "20 % above the training loss; after half of the passes it was 5 % above it: "),
        (0.04, -0.004, "4 % above the training loss; after half of the passes it was equal to it"),
        (-0.001, 0.002, "equal to the training loss; after half of the passes it was equal to it."),
    ],
)
def test_the_gap_to_the_training_loss_is_told_now_and_before(
    gap: float, before: float, told: str
) -> None:
    found = Passes(20, 1000, 3, -0.1, gap=gap, gap_before=before)
    assert found.words()[-1].startswith(f"The validation loss is {told}")


def test_under_two_passes_or_without_a_fall_nothing_is_told() -> None:
    flat = [0.1] * len(IMAGES)
    assert passes(Curve(IMAGES, flat), Curve(IMAGES, flat), 1000) is None
    assert passes(Curve(IMAGES, [1 / x for x in IMAGES]), Curve([], []), 15_000) is None
