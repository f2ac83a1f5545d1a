"""Metrics of written characters: accuracy, similarity of drawn texts, and simple baselines."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.ascii.glyphs import ALPHABET, SPACE, character_numbers, font_renderer
from aelab.ascii.metrics.contours import contour_agreement
from aelab.losses import ssim
from aelab.losses.sliding import slide
from aelab.metrics import Metric, Subject

#: Standard deviations of the blurs, in pixels of text drawn 9 pixels high.
BLURS = (1, 2, 4)
#: The font size to which these pixels refer.
BLUR_FONT_RES = 9
#: Drawn pixels in one pass: fits into a processor's cache, twice as fast as ten times as many.
_PASS_PIXELS = 350_000
#: Training pictures compared at once: fits into a processor's cache.
_KNOWN_AT_ONCE = 2048
#: The value of the last character of the alphabet in a batch.
_LAST = (len(ALPHABET) - 1) / 255


def characters(
    subject: Subject, pictures: int = 500, font_res: int = 9, font: str = ""
) -> dict[str, float]:
    """Accuracy and similarity of the reconstructions of held-out pictures.

    `accuracy`: share of all cells with the right character; `accuracy_without_spaces`: the same
    over cells whose original is not a space, so that blank texts score 0;
    `blank_share`, `blank_share_original`: share of cells that are spaces, in the reconstructions
    and in the originals (1 and less than 1: the reconstructions are blank); all over the cells of
    all pictures together.

    Over a random draw of `pictures`, drawn with a font, means over pictures: `rendered_ssim`, the
    structural similarity, 1 is equal; `rendered_ssim_blur_1`, `_2`, `_4`, the same after blurring
    both by a Gaussian of 1, 2, 4 pixels (for a font of 9 pixels; scaled for other sizes), which
    compares the place of ink instead of the strokes; `contour_agreement` 0..1, see
    `metrics.contour_agreement`. If most of a picture is paper, even a blank one is similar. So
    `skill_ssim_blur_2` is 1 - (1 - `rendered_ssim_blur_2`) / (1 - that of blank reconstructions):
    0 is no better than blank, below 0 worse; NaN if all originals are blank.

    Args:
        subject: of characters.
        pictures: how many are drawn.
        font_res: size of the font in pixels.
        font: file of a TrueType font; empty for the usual one.
    """
    wanted, found = clamped_numbers(subject.images), clamped_numbers(subject.reconstructions)
    return {**_counted(wanted, found), **_drawn(subject, wanted, found, pictures, font_res, font)}


def characters_baseline(
    subject: Subject, pictures: int = 500, font_res: int = 9, font: str = ""
) -> dict[str, float]:
    """Baselines for `characters` without a model: the same keys with two prefixes.

    `spaces_...`: every reconstruction is blank. `nearest_...`: every reconstruction is the training
    picture with the most characters in common with the original, a code of log2(number of training
    pictures) bits. Both over a random draw of `pictures` held-out ones.

    Args:
        subject: of characters, with training images.
        pictures: how many are looked up and drawn.
        font_res: size of the font in pixels.
        font: file of a TrueType font; empty for the usual one.
    """
    wanted = clamped_numbers(subject.images[:pictures])
    guesses = {
        "spaces": torch.full_like(wanted, SPACE),
        "nearest": nearest_training_pictures(subject, wanted),
    }
    values: dict[str, float] = {}
    for name, guess in guesses.items():
        found = _counted(wanted, guess) | _drawn(subject, wanted, guess, pictures, font_res, font)
        del found["blank_share_original"]
        values |= {f"{name}_{key}": value for key, value in found.items()}
    return values


def nearest_training_pictures(subject: Subject, wanted: Tensor) -> Tensor:
    """The training picture with most cells equal to each of (N, H, W) numbers: (N, H, W) uint8."""
    train = clamped_numbers(subject.train_images)
    known = train.flatten(1).to(subject.device)
    chosen = []
    for one in wanted.flatten(1).to(subject.device):
        counts = [_equal_cells(part, one) for part in torch.split(known, _KNOWN_AT_ONCE)]
        chosen.append(torch.cat(counts).argmax())
    return train[torch.stack(chosen).cpu()]


def _equal_cells(known: Tensor, one: Tensor) -> Tensor:
    """The number of equal cells between each of (N, P) uint8 and (P,): (N,) int64.

    Eight bytes are summed at once, as digits of one whole number to which at most 255 are added:
    ten times as fast as `torch.cdist` with the norm of order 0.
    """
    counts = torch.zeros(len(known), dtype=torch.int64, device=known.device)
    for start in range(0, known.shape[1], 8 * 255):
        part = slice(start, start + 8 * 255)
        equal = (known[:, part] == one[part]).view(torch.uint8)
        missing = -equal.shape[1] % 8
        words = (F.pad(equal, (0, missing)) if missing else equal).view(torch.int64)
        counts += words.sum(1, keepdim=True).view(torch.uint8).sum(1)
    return counts


def clamped_numbers(images: Tensor) -> Tensor:
    """(N, 1, H, W) number / 255 -> (N, H, W) uint8; NaN becomes 0, other values are clamped."""
    return character_numbers(images.nan_to_num(0).clamp(0, _LAST)).to(torch.uint8)


def accuracy_without_spaces(wanted: Tensor, found: Tensor) -> float:
    """Accuracy over cells whose original is not a space; NaN if all are spaces.

    Args:
        wanted, found: (N, H, W) character numbers.
    """
    written = wanted != SPACE
    count = int(written.sum())
    return int(((wanted == found) & written).sum()) / count if count else float("nan")


def blurred(pictures: Tensor, sigma_pixels: float) -> Tensor:
    """Blurs (B, 1, H, W) by a Gaussian, cut off at three standard deviations, with paper around.

    Args:
        pictures: 0..1, 1 is paper.
        sigma_pixels: standard deviation.
    """
    reach = max(1, round(3 * sigma_pixels))
    places = torch.arange(-reach, reach + 1).to(pictures)
    window = torch.exp(-places.square() / (2 * sigma_pixels**2))
    window = window / window.sum()
    return 1 - slide(1 - pictures, window, window, padded=True)  # blurs ink, which is 0 outside


def _counted(wanted: Tensor, found: Tensor) -> dict[str, float]:
    return {
        "accuracy": (wanted == found).double().mean().item(),
        "accuracy_without_spaces": accuracy_without_spaces(wanted, found),
        "blank_share": (found == SPACE).double().mean().item(),
        "blank_share_original": (wanted == SPACE).double().mean().item(),
    }


def _drawn(
    subject: Subject, wanted: Tensor, found: Tensor, pictures: int, font_res: int, font: str
) -> dict[str, float]:
    """Means over some of the pictures, drawn a few at a time."""
    renderer = font_renderer(font_res, None, font or None)
    measures = _measures(renderer.cell[0], font_res)
    each = wanted[0].numel() * renderer.cell[0] * renderer.cell[1]
    size, sums, count = max(1, _PASS_PIXELS // each), dict.fromkeys(measures, 0.0), 0
    for pair in zip(
        torch.split(wanted[:pictures], size), torch.split(found[:pictures], size), strict=True
    ):
        ours, theirs = (renderer.draw(part.to(subject.device)) for part in pair)
        count += len(ours)
        for name, measure in measures.items():
            sums[name] += measure(ours, theirs).double().sum().item()
    values = {name: total / count for name, total in sums.items()}
    lacks, blank_lacks = 1 - values["rendered_ssim_blur_2"], 1 - values.pop("blank")
    values["skill_ssim_blur_2"] = 1 - lacks / blank_lacks if blank_lacks > 1e-6 else float("nan")
    return values


def _measures(cell_pixels: int, font_res: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Name -> (original, reconstruction), drawn (B, 1, H, W) -> (B,)."""

    def similar(sigma_pixels: float) -> Callable[[Tensor, Tensor], Tensor]:
        """Structural similarity after a blur."""
        return lambda ours, theirs: (
            1 - ssim(blurred(theirs, sigma_pixels), blurred(ours, sigma_pixels))
        )

    blank = similar(2 * font_res / BLUR_FONT_RES)
    return {
        "rendered_ssim": lambda ours, theirs: 1 - ssim(theirs, ours),
        **{
            f"rendered_ssim_blur_{blur}": similar(blur * font_res / BLUR_FONT_RES) for blur in BLURS
        },
        "blank": lambda ours, theirs: blank(ours, torch.ones_like(ours)),
        "contour_agreement": lambda ours, theirs: contour_agreement(ours, theirs, cell_pixels),
    }


CHARACTERS = Metric(
    characters,
    "ASCII art: right characters, similarity and contours of the drawn text",
    part="pictures",
    part_is="what is drawn",
    medium="characters",
)
BASELINE = Metric(
    characters_baseline,
    "ASCII art: the same of blank reconstructions and of the nearest training picture",
    frozenset({"train"}),
    part="pictures",
    medium="characters",
)
