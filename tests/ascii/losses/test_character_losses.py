"""Losses of characters: equal to torch's where they should be, and what a mistake is told."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from aelab.ascii.glyphs import ALPHABET, SPACE, numbers_to_images
from aelab.ascii.losses.characters import (
    CharacterCrossEntropy,
    CharacterNegativeLogLikelihood,
    LegacyCharacterCrossEntropy,
)
from aelab.ascii.medium import Characters
from aelab.errors import ConfigError, ShapeError
from aelab.losses import make_objective
from aelab.posteriors import Deterministic
from aelab.types import Images, Output

GENERATOR = torch.Generator().manual_seed(0)
#: Mostly spaces, as ASCII art is, and differently many in each picture.
NUMBERS = torch.randint(0, 95, (4, 5, 6), generator=GENERATOR) * (
    torch.rand(4, 5, 6, generator=GENERATOR) < torch.tensor([0.1, 0.3, 0.6, 0.9])[:, None, None]
)
TARGET = numbers_to_images(NUMBERS)
TRAIN_SET = Images(NUMBERS[:, None].to(torch.uint8), medium=Characters())


def written(logits, relaxed=None):
    likeliest = numbers_to_images(logits.argmax(1)) if not logits.is_meta else logits[:, :1]
    given = {"logits": logits, "relaxed": logits.softmax(1) if relaxed is None else relaxed}
    return Output(likeliest, torch.zeros(len(logits), 2), Deterministic(), given)


def random_logits(**options):
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(4, 95, 5, 6, generator=generator, **options)


def weights_by_hand(power, deemph):
    text = "".join(ALPHABET[number] for number in NUMBERS.flatten().tolist())
    weights = torch.tensor([(1 / (text.count(character) + 1)) ** power for character in ALPHABET])
    weights[SPACE] /= deemph
    return weights


@pytest.mark.parametrize("power, deemph", [(0, 1), (0.7, 1), (0, 100), (0.7, 1e5), (0.1, 10)])
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_by_batch_the_mean_is_torchs_weighted_cross_entropy(power, deemph, smoothing):
    loss = CharacterCrossEntropy(power, deemph, smoothing, normalize="batch")
    loss.prepare(TRAIN_SET)
    logits = random_logits()
    expected = F.cross_entropy(
        logits, NUMBERS, weights_by_hand(power, deemph), label_smoothing=smoothing
    )
    torch.testing.assert_close(loss(written(logits), TARGET).mean(), expected)


def test_by_image_each_value_is_torchs_for_this_image_alone():
    loss = CharacterCrossEntropy(0.7, 100, 0.1)
    loss.prepare(TRAIN_SET)
    logits, weights = random_logits(), weights_by_hand(0.7, 100)
    expected = [
        F.cross_entropy(logits[i : i + 1], NUMBERS[i : i + 1], weights, label_smoothing=0.1)
        for i in range(4)
    ]
    torch.testing.assert_close(loss(written(logits), TARGET), torch.stack(expected))
    alone = loss(written(logits[2:3]), TARGET[2:3])
    torch.testing.assert_close(loss(written(logits), TARGET)[2:3], alone)


def test_without_weights_both_averages_agree():
    logits = random_logits()
    by_image = CharacterCrossEntropy()(written(logits), TARGET)
    by_batch = CharacterCrossEntropy(normalize="batch")(written(logits), TARGET)
    torch.testing.assert_close(by_image, by_batch)
    uniform = CharacterCrossEntropy()(written(torch.zeros(4, 95, 5, 6)), TARGET)
    torch.testing.assert_close(uniform, torch.full((4,), math.log(95)))


def test_less_weight_for_the_space_brings_strokes_to_the_front():
    all_spaces = torch.zeros(4, 95, 5, 6)
    all_spaces[:, SPACE] = 10
    plain = CharacterCrossEntropy()(written(all_spaces), TARGET)
    strokes = CharacterCrossEntropy(space_deemph=1e5)(written(all_spaces), TARGET)
    assert plain[0] < 2 and (strokes > 9.9).all()


def test_the_likelihood_of_normalised_outputs_is_the_cross_entropy():
    logits = random_logits()
    settings = {"frequency_power": 0.5, "space_deemph": 7}
    likelihood, entropy = (
        CharacterNegativeLogLikelihood(**settings),
        CharacterCrossEntropy(**settings),
    )
    for loss in (likelihood, entropy):
        loss.prepare(TRAIN_SET)
    normalised = written(logits.log_softmax(1))
    torch.testing.assert_close(likelihood(normalised, TARGET), entropy(written(logits), TARGET))
    torch.testing.assert_close(entropy(normalised, TARGET), entropy(written(logits), TARGET))
    batch = CharacterNegativeLogLikelihood(space_deemph=7, normalize="batch")
    weights = weights_by_hand(0, 7)
    expected = F.nll_loss(logits.log_softmax(1), NUMBERS, weights)
    torch.testing.assert_close(batch(normalised, TARGET).mean(), expected)


def test_the_legacy_loss_is_confined_whatever_the_model_believes():
    loss = LegacyCharacterCrossEntropy()
    right = F.one_hot(NUMBERS, 95).permute(0, 3, 1, 2).float()
    wrong = right.roll(1, dims=1)
    logits = random_logits()
    of_right = loss(written(logits, right), TARGET)
    of_wrong = loss(written(logits, wrong), TARGET)
    torch.testing.assert_close(of_right, torch.full((4,), math.log(math.e + 94) - 1))
    torch.testing.assert_close(of_wrong, torch.full((4,), math.log(math.e + 94)))
    assert round(of_right[0].item(), 4) == 3.5718 and round(of_wrong[0].item(), 4) == 4.5718
    weighted = LegacyCharacterCrossEntropy(0.7, 100, normalize="image")
    weighted.prepare(TRAIN_SET)
    for scale in (0.1, 1.0, 100.0):
        drawn = F.gumbel_softmax(scale * random_logits(), tau=0.5, hard=True, dim=1)
        values = weighted(written(logits, drawn), TARGET)
        assert (values > 3.5717).all() and (values < 4.5719).all()


def test_the_gradient_is_exact():
    loss = CharacterCrossEntropy(0.7, 10, 0.1)
    loss.prepare(TRAIN_SET)
    logits = random_logits(dtype=torch.float64)[:2, :, :2, :2].clone().requires_grad_()

    def value(given):
        return loss(written(given), TARGET[:2, :, :2, :2])

    assert torch.autograd.gradcheck(value, (logits,))


def test_extremes_stay_finite():
    loss = CharacterCrossEntropy(0.7, 1e5)
    blank = torch.zeros(2, 3, 3, dtype=torch.long)
    loss.prepare(Images(torch.zeros(1000, 1, 64, 64, dtype=torch.uint8), medium=Characters()))
    for numbers in (blank, blank + ALPHABET.index("@"), blank + 94):
        for size in (0.0, 1e4):
            logits = torch.full((2, 95, 3, 3), -size)
            logits[:, 5] = size
            logits.requires_grad_()
            values = loss(written(logits), numbers_to_images(numbers))
            values.sum().backward()
            assert values.isfinite().all() and logits.grad.isfinite().all()


def test_counts_come_before_the_first_batch():
    objective = make_objective(objective={"character_ce": {"frequency_power": 0.7}})
    output = written(random_logits())
    with pytest.raises(ConfigError, match=r"character_ce .*needs the counts"):
        objective(output, TARGET, 0)
    meta = written(random_logits(device="meta"))
    assert objective(meta, TARGET.to("meta"), 0)["character_ce"].shape == (4,)
    objective.prepare(TRAIN_SET)
    assert objective(output, TARGET, 0)["character_ce"].isfinite().all()
    with pytest.raises(ConfigError, match="holds pictures"):
        objective.prepare(Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)))


@pytest.mark.parametrize("name", ["character_ce", "character_nll", "legacy_character_ce"])
def test_a_model_that_paints_is_told_so(name):
    painted = Output(torch.rand(4, 1, 5, 6), torch.zeros(4, 2))
    with pytest.raises(
        ConfigError, match=f"{name} compares characters, but this model outputs pixels"
    ):
        make_objective(objective={name: 1})(painted, TARGET, 0)


def test_a_model_that_writes_is_not_compared_by_pixels():
    output = written(random_logits())
    for formula in ("l1", "ssim", "smooth_l1_loss"):
        with pytest.raises(ConfigError, match=f"{formula} compares pixels") as caught:
            make_objective(loss_function=formula)(output, TARGET, 0)
        assert "character_ce" in caught.value.hint and "rendered_blur" in caught.value.hint


def test_another_grid_is_refused():
    with pytest.raises(ShapeError, match=r"outputs \(4, 95, 5, 6\)"):
        CharacterCrossEntropy()(written(random_logits()), TARGET[..., :5])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"space_deemph": 0}, "space_deemph must be above 0"),
        ({"label_smoothing": 2}, "label_smoothing must be from 0 to 1"),
        ({"frequency_power": "0.7"}, "frequency_power must be a number"),
        ({"frequency_power": -1}, "frequency_power must be at least 0"),
        ({"normalize": "cell"}, "normalize must be"),
        ({"space_demph": 2}, "did you mean .*space_deemph"),
    ],
)
def test_options_without_sense_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        make_objective(objective={"character_ce": options})
