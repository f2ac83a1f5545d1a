"""The error message of a diverged run: where it broke, in which mode, and what to type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aelab.errors import DivergedError
from aelab.settings import FitSettings
from aelab.train.batches import Batches
from aelab.train.evaluate import held_out_batches
from aelab.train.forward import Batch, Task
from aelab.train.guard.finite import (
    is_finite,
    non_finite_names,
    tensor_words,
    value_words,
)
from aelab.train.guard.nonfinite import Origin, find_origin, quietly
from aelab.train.learner import SoloLearner
from aelab.train.state import State

#: Images checked for non-finite numbers at a time, which bounds the memory of the check.
LOOK_AT_ONCE = 4096
#: Pixels of this magnitude are reported as the cause; unscaled grey values 0..255 reach it.
FAR = 100.0
#: A schedule that raises the learning rate above this multiple of the base is reported.
MUCH_HIGHER = 2.0


@dataclass(frozen=True)
class Evidence:
    """What the diagnosis of a failed run needs.

    Attributes:
        state: of the training.
        run: index of the run.
        task: of the run.
        training: returns the next training batch.
        train_set: returns the set it is cut from.
        held_out: returns the validation set, or None.
    """

    state: State
    run: int
    task: Task
    training: Callable[[], Batch]
    train_set: Callable[[], Batches]
    held_out: Callable[[], Batches | None]


def explained(error: DivergedError, evidence: Evidence, rise: str) -> DivergedError:
    """The same error with its cause added; runs a few more batches to find it.

    Args:
        rise: how far the schedule raised the learning rate, in words; may be empty.
    """
    words, ways = broken_data(evidence)
    if not words:  # no learning rate corrects broken images
        words, ways = causes(evidence, rise, error.message)
        ways.append(str(error.hint))
    return DivergedError("; ".join([error.message, *words]), hint="; ".join(ways))


def broken_data(evidence: Evidence) -> tuple[list[str], list[str]]:
    """Faults of the images, and what to do about them; usually both lists are empty.

    Looks for non-finite pixels, pixels far outside of 0..1, and random changes that make them.
    """
    sets = [("train_set", evidence.train_set()), ("validation_set", evidence.held_out())]
    words = [text for key, images in sets if images and (text := _broken_images(key, images))]
    if words:
        return words, ["repair these images or leave them out: pixels must be in 0..1"]
    words = [text for key, images in sets if images and (text := _far_from_unit(key, images))]
    if words:
        return words, ["scale them to 0..1, for instance with / 255"]
    inputs, target, *_ = evidence.training()
    for changed, name in ((target, "train_set"), (inputs, "input_transforms")):
        if not is_finite(changed):
            return (
                [f"random changes ({name}) give {value_words(changed)} from finite images"],
                ["check where they divide, take a root or a logarithm"],
            )
        reach = float(changed.abs().max())
        if reach >= FAR:
            return (
                [f"random changes ({name}) reach {reach:.3g}, but pixels are numbers of 0..1"],
                ["look at what they multiply or divide by"],
            )
    return [], []


def _far_from_unit(key: str, images: Batches) -> str:
    """Text `images of train_set reach 3e+30, pixels are numbers of 0..1`; or empty."""
    pixels = images.pixels
    if not pixels.is_floating_point():
        return ""
    parts = range(0, len(pixels), LOOK_AT_ONCE)
    reach = max(float(pixels[start : start + LOOK_AT_ONCE].abs().max()) for start in parts)
    if reach < FAR:
        return ""
    return f"images of {key} reach {reach:.3g}, but pixels must be in 0..1"


def _broken_images(key: str, images: Batches) -> str:
    """Text `3 of 200 images of train_set hold numbers that are not finite, ...`; or empty."""
    pixels = images.pixels
    if not pixels.is_floating_point():
        return ""
    bad: list[int] = []
    for start in range(0, len(pixels), LOOK_AT_ONCE):
        good = pixels[start : start + LOOK_AT_ONCE].flatten(1).isfinite().all(1)
        bad += [start + number for number in (~good).nonzero().flatten().tolist()]
    if not bad:
        return ""
    count = "all" if len(bad) == len(pixels) else f"{len(bad):,} of"
    return (
        f"{count} {len(pixels):,} images of {key} hold numbers that are not finite "
        f"({value_words(pixels[bad[0]])}), the first is image {bad[0]:,}, counted from 0"
    )


def causes(evidence: Evidence, rise: str, told: str = "") -> tuple[list[str], list[str]]:
    """The causes of a failure inside of the model and the schedule.

    Args:
        rise: how far the schedule raised the learning rate, in words; may be empty.
        told: the message so far; facts in it are not repeated.

    Returns:
        The causes, and what to type or change.
    """
    member = evidence.state.learner.members[evidence.run]
    words = [text for text in broken_tensors(member) if text not in told]
    ways = []
    in_training, in_evaluation = _origins(evidence)
    words.append(_origin_words(in_training, in_evaluation))
    if any(origin and origin.half for origin in (in_training, in_evaluation)):
        ways.append("compute that layer in float32 or bfloat16, whose largest number is 3.4e+38")
    if in_evaluation and not in_training:
        ways.append(
            "in evaluation mode normalisation uses running statistics: give it a larger momentum, "
            "or normalise each image separately (GroupNorm, or statistics='image' where a decoder "
            "has it)"
        )
    if rise:
        words.append(rise)
        ways.append(f"let the schedule end at {evidence.task.settings.learnrate:g} or below")
    return words, ways


def broken_tensors(member: SoloLearner) -> list[str]:
    """The weights, running statistics and other buffers that are not finite, in words."""
    buffers = non_finite_names(member.watched_buffers())
    averages = [name for name in buffers if name.endswith(("running_mean", "running_var"))]
    others = [name for name in buffers if name not in averages]
    kinds = {
        "a weight": non_finite_names(member.watched_weights()),
        "a running statistic": averages,
        "a buffer": others,
    }
    return [tensor_words(kind, names) for kind, names in kinds.items() if names]


def raised_learnrate(peak: float, images: int, settings: FitSettings) -> str:
    """Text `the schedule raised the learning rate 250-fold ...`; empty if it did not rise much.

    Args:
        peak: the highest learning rate.
        images: image count at that rate.
    """
    factor = peak / settings.learnrate
    if factor <= MUCH_HIGHER:
        return ""
    return (
        f"the schedule raised the learning rate {factor:.3g}-fold, from {settings.learnrate:g} to "
        f"{peak:g} at {images:,} images"
    )


def _origins(evidence: Evidence) -> tuple[Origin | None, Origin | None]:
    """The first non-finite result in training mode and in evaluation mode; None: all finite."""
    member, seen = evidence.state.learner.members[evidence.run], evidence.state.clock.images
    batch = evidence.training()
    in_training = quietly(
        lambda: find_origin(
            member.model,
            evidence.task.objective,
            [batch],
            seen,
            training=True,
            bfloat16=member.bfloat16,
        )
    )
    return in_training, origin_in_evaluation(evidence)


def origin_in_evaluation(evidence: Evidence) -> Origin | None:
    """The origin of non-finite numbers in evaluation mode with the present weights."""
    member, seen = evidence.state.learner.members[evidence.run], evidence.state.clock.images
    (objective, settings), evaluated = evidence.task, member.evaluated_model

    def held_out() -> Iterable[Batch]:
        """Held-out batches, or the training batch if there are none."""
        images = evidence.held_out()
        if images is None:
            # As in a validation: the latent is its mean, except for a bound, which needs noise.
            batch = evidence.training()
            noise = batch.noise if getattr(objective, "bounds", ()) else None
            return [batch._replace(noise=noise)]
        return held_out_batches(evaluated, objective, images, settings, seen)

    return quietly(
        lambda: find_origin(
            evaluated,
            objective,
            held_out(),
            seen,
            training=False,
            bfloat16=member.bfloat16,
        )
    )


def _origin_words(in_training: Origin | None, in_evaluation: Origin | None) -> str:
    if in_training is None and in_evaluation is None:
        return "one more batch is finite in training and in evaluation mode"
    if in_training is None:
        assert in_evaluation is not None
        return f"in evaluation mode {in_evaluation.words()}; in training mode all is finite"
    if in_evaluation is None:
        return f"in training mode {in_training.words()}; in evaluation mode all is finite"
    if in_training.layer == in_evaluation.layer:
        return f"in training and in evaluation mode {in_training.words()}"
    return f"in training mode {in_training.words()}; in evaluation mode {in_evaluation.words()}"
