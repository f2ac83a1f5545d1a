"""Learning-rate schedules as closed forms: the factor at any count of images, without torch.

Training multiplies the rate by them, and forecasts must know them: a curve bends where the rate
falls, so what is still to come cannot be told from the past alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from aelab.errors import ConfigError
from aelab.settings import Choice

#: images seen -> factor of the base learning rate
Factor = Callable[[int], float]


def constant(*, max_images: int | None) -> Factor:
    """Always 1."""
    return lambda images: 1.0


def cosine(*, max_images: int | None, eta_min_factor: float = 0.0) -> Factor:
    """From 1 down to `eta_min_factor` along half a cosine over the run; flat afterwards.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5 without restarts.
    """
    horizon = horizon_of(max_images, "cosine")
    return lambda images: _half_cosine(images / horizon, eta_min_factor)


def warmup_cosine(
    *, max_images: int | None, warmup_images: int = 10_000, final_factor: float = 0.0
) -> Factor:
    """Linearly from 0 to 1 over `warmup_images`, then along half a cosine to `final_factor`.

    A run cut short (`--max-images`) may end before the warm-up does.
    """
    horizon = horizon_of(max_images, "WarmupCosine")
    if warmup_images < 0:
        raise ConfigError(f"warmup_images is {warmup_images}; it must be at least 0")

    def factor(images: int) -> float:
        """The factor at this count of images, 0..1."""
        if images < warmup_images:
            # The first batch would learn nothing at exactly 0.
            return max(images, 1) / warmup_images
        rest = max(1, horizon - warmup_images)
        return _half_cosine((images - warmup_images) / rest, final_factor)

    return factor


def linear(*, max_images: int | None, final_factor: float = 0.0) -> Factor:
    """Linearly from 1 to `final_factor` over the run; flat afterwards."""
    horizon = horizon_of(max_images, "linear")
    return lambda images: 1.0 + (final_factor - 1.0) * min(images / horizon, 1.0)


def step(*, max_images: int | None, every_images: int, factor: float = 0.1) -> Factor:
    """Times `factor` after each `every_images`."""
    if every_images <= 0:
        raise ConfigError(f"every_images is {every_images}; it must be above 0")
    return lambda images: factor ** (images // every_images)


#: Closed forms by name. `CosineAnnealingWarmupLR` of the old project scaled only the rate it
#: reported, so what it did is the plain cosine.
FORMS: dict[str, Callable[..., Factor]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "WarmupCosine": warmup_cosine,
    "CosineAnnealingWarmupLR": cosine,
}


def planned(
    choice: Choice | None, *, end: int, batch_size: int = 1, learnrate: float = 1.0
) -> Factor | None:
    """The factor of a run's schedule from its settings, as far as it follows from images alone.

    Args:
        choice: the setting `scheduler`.
        end: images at the end of the run.
        batch_size: torch's schedulers count batches; those of the end of an epoch are taken as
            whole ones.
        learnrate: the base rate; `eta_min` of torch is a rate.

    Returns:
        None where nobody can know it beforehand, as for `ReduceLROnPlateau`, or where it is a part
        of another package.
    """
    if choice is None:
        return constant(max_images=end)
    name, given = choice.name, dict(choice.arguments)
    try:
        if name == "CosineAnnealingLR":
            horizon = int(given["T_max"]) * batch_size if "T_max" in given else end
            floor = float(given.get("eta_min", 0.0)) / learnrate if learnrate else 0.0
            return cosine(max_images=horizon, eta_min_factor=floor)
        if name in FORMS:
            return FORMS[name](max_images=end, **given)
        if name in _OF_TORCH:
            of_batches: Callable[[float], float] = _OF_TORCH[name](given, end / batch_size)
            return lambda images: of_batches(images / batch_size)
    except (ConfigError, ArithmeticError, KeyError, TypeError, ValueError):
        pass  # a wrong argument is told where the run is built
    return None


def _step_lr(given: Mapping[str, Any], batches: float) -> Callable[[float], float]:
    every, gamma = int(given["step_size"]), float(given.get("gamma", 0.1))
    return lambda batch: gamma ** (batch // every)


def _multi_step_lr(given: Mapping[str, Any], batches: float) -> Callable[[float], float]:
    milestones, gamma = sorted(given["milestones"]), float(given.get("gamma", 0.1))
    return lambda batch: gamma ** bisect_right(milestones, batch)


def _exponential_lr(given: Mapping[str, Any], batches: float) -> Callable[[float], float]:
    gamma = float(given["gamma"])
    return lambda batch: gamma**batch


def _one_cycle_lr(given: Mapping[str, Any], batches: float) -> Callable[[float], float]:
    """Of `max_lr`: up to it along half a cosine, then down to nearly nothing along another.

    Source: Smith & Topin 2017, arXiv:1708.07120; the arguments are those of torch.
    """
    if given.get("anneal_strategy", "cos") != "cos" or given.get("three_phase"):
        raise ValueError
    total = float(given.get("total_steps", batches))
    first = 1 / float(given.get("div_factor", 25.0))
    last = first / float(given.get("final_div_factor", 1e4))
    top = max(1.0, float(given.get("pct_start", 0.3)) * total - 1)

    def factor(batch: float) -> float:
        """The factor of `max_lr` after this many batches."""
        if batch < top:
            return first + (1 - first) * (1 - _half_cosine(batch / top, 0.0))
        return _half_cosine((batch - top) / max(1.0, total - 1 - top), last)

    return factor


#: torch's schedulers that are closed forms: their arguments, batches of the run -> factor.
_OF_TORCH: dict[str, Callable[[Mapping[str, Any], float], Callable[[float], float]]] = {
    "StepLR": _step_lr,
    "MultiStepLR": _multi_step_lr,
    "ExponentialLR": _exponential_lr,
    "OneCycleLR": _one_cycle_lr,
}


def horizon_of(max_images: int | None, name: str) -> int:
    """The end of a run, for a schedule that must know it.

    Raises:
        ConfigError: it has none.
    """
    if max_images is None:
        raise ConfigError(
            f"scheduler {name} must know where the run ends",
            hint="set max_images: 1_000_000 or max_epochs: 20; min_loss may end it earlier",
        )
    return max_images


def _half_cosine(progress: float, final: float) -> float:
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
