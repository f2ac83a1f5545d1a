"""Learning-rate schedules as closed forms: the factor at any image count, without torch.

Training multiplies the learning rate by them. Forecasts also need them: a loss curve bends where
the rate falls, so it cannot be extrapolated from the past alone.
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
    """A constant factor of 1."""
    return lambda images: 1.0


def cosine(*, max_images: int | None, eta_min_factor: float = 0.0) -> Factor:
    """Half a cosine from 1 to `eta_min_factor` over the run; constant afterwards.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5 without restarts.
    """
    horizon = horizon_of(max_images, "cosine")
    return lambda images: _half_cosine(images / horizon, eta_min_factor)


def warmup_cosine(
    *, max_images: int | None, warmup_images: int = 10_000, final_factor: float = 0.0
) -> Factor:
    """Linear from 0 to 1 over `warmup_images`, then half a cosine to `final_factor`.

    A shortened run (`--max-images`) may end during the warm-up.
    """
    horizon = horizon_of(max_images, "WarmupCosine")
    if warmup_images < 0:
        raise ConfigError(f"warmup_images is {warmup_images}; it must be at least 0")

    def factor(images: int) -> float:
        """The factor at this image count, 0..1."""
        if images < warmup_images:
            # Not exactly 0, or the first batch would have no effect.
            return max(images, 1) / warmup_images
        rest = max(1, horizon - warmup_images)
        return _half_cosine((images - warmup_images) / rest, final_factor)

    return factor


def linear(*, max_images: int | None, final_factor: float = 0.0) -> Factor:
    """Linear from 1 to `final_factor` over the run; constant afterwards."""
    horizon = horizon_of(max_images, "linear")
    return lambda images: 1.0 + (final_factor - 1.0) * min(images / horizon, 1.0)


def step_decay(*, max_images: int | None, every_images: int, factor: float = 0.1) -> Factor:
    """Multiplied by `factor` after every `every_images` images."""
    if every_images <= 0:
        raise ConfigError(f"every_images is {every_images}; it must be above 0")
    return lambda images: factor ** (images // every_images)


#: Closed forms by name. The warm-up of the old project's `CosineAnnealingWarmupLR` changed only the
#: logged rate, so it is the plain cosine.
FORMS: dict[str, Callable[..., Factor]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step_decay,
    "WarmupCosine": warmup_cosine,
    "CosineAnnealingWarmupLR": cosine,
}


def planned(
    choice: Choice | None, *, end: int, batch_size: int = 1, learnrate: float = 1.0
) -> Factor | None:
    """The factor function of a run's schedule, if it depends on images alone.

    Args:
        choice: the setting `scheduler`.
        end: images at the end of the run.
        batch_size: for torch's schedulers, which count batches; partial batches at the end of an
            epoch count as whole ones.
        learnrate: the base rate, because `eta_min` of torch is a rate.

    Returns:
        The function; None if it is not known in advance, as for `ReduceLROnPlateau`, or for a
        schedule of another package.
    """
    if choice is None:
        return constant(max_images=end)
    name, given = choice.name, dict(choice.arguments)
    try:
        if name == "CosineAnnealingLR":
            floor = float(given.get("eta_min", 0.0)) / learnrate if learnrate else 0.0
            if "T_max" not in given:
                return cosine(max_images=end, eta_min_factor=floor)
            half = int(given["T_max"]) * batch_size  # images; torch's cosine rises again afterwards
            return lambda images: _half_cosine(1 - abs(1 - images / half % 2), floor)
        if name in FORMS:
            return FORMS[name](max_images=end, **given)
        if name in _OF_TORCH:
            of_batches: Callable[[float], float] = _OF_TORCH[name](given, end / batch_size)
            return lambda images: of_batches(images / batch_size)
    except (ConfigError, ArithmeticError, KeyError, TypeError, ValueError):
        pass  # wrong arguments are reported when the run is built
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
    """torch's OneCycleLR: half a cosine up to `max_lr`, then another down to nearly 0.

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
    """The end of a run in images, for a schedule that needs it.

    Raises:
        ConfigError: `max_images` is None.
    """
    if max_images is None:
        raise ConfigError(
            f"scheduler {name} must know where the run ends",
            hint="set max_images: 1_000_000 or max_epochs: 20; min_loss may end it earlier",
        )
    return max_images


def _half_cosine(progress: float, final: float) -> float:
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
