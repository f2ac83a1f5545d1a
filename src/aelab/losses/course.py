"""Schedules of a loss term: how its weight and its target value change during training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from aelab.errors import ConfigError

WARMUPS = ("linear", "cosine")
_NUMBERS = ("start_images", "warmup_images", "cycle_images", "capacity_images", "capacity")


@dataclass(frozen=True)
class Course:
    """The schedule of one term, by images seen.

    Attributes:
        start_images: the weight is 0 for this many images; the rise begins then.
        warmup_images: the weight rises from 0 to its full value over this many images; 0: no rise.
        warmup: the form of the rise, `linear` or `cosine`.
        cycle_images: the rise restarts after this many images; 0: never.
        capacity: target value of the term, |value - capacity|, in its unit; None: it is minimised.
        capacity_images: the capacity itself rises linearly from 0 over this many images.

    Source: cycles: Fu et al. 2019, arXiv:1903.10145; capacity: Burgess et al. 2018,
        arXiv:1804.03599, equation 8.
    """

    start_images: float = 0
    warmup_images: float = 0
    warmup: str = "linear"
    cycle_images: float = 0
    capacity: float | None = None
    capacity_images: float = 0

    @classmethod
    def of(cls, name: str, options: dict[str, Any]) -> Course:
        """Makes a schedule from the options of the term `name`, and removes them from `options`.

        Raises:
            ConfigError: an invalid value.
        """
        given: dict[str, Any] = {}
        for key in _NUMBERS:
            if key in options:
                given[key] = number(options.pop(key), f"{name}: {key}")
                if given[key] < 0:
                    raise ConfigError(f"{name}: {key} must be at least 0")
        if "warmup" in options:
            given["warmup"] = options.pop("warmup")
            if given["warmup"] not in WARMUPS:
                raise ConfigError(
                    f"{name}: warmup is {given['warmup']!r}; possible: {', '.join(WARMUPS)}"
                )
        course = cls(**given)
        if course.cycle_images and not 0 < course.warmup_images <= course.cycle_images:
            raise ConfigError(
                f"{name}: cycle_images needs a warmup_images above 0 and not longer than a cycle",
                hint="for instance: warmup_images: 5000, cycle_images: 10000",
            )
        if course.capacity_images and course.capacity is None:
            raise ConfigError(
                f"{name}: capacity_images needs a capacity",
                hint="for instance: capacity: 25, capacity_images: 100000",
            )
        return course

    def share(self, images_seen: int | None) -> float:
        """The share of the full weight, 0..1; None: at the end of the run, which is 1."""
        if images_seen is None or not (self.warmup_images or self.start_images):
            return 1.0
        begun = images_seen - self.start_images
        if begun < 0:
            return 0.0
        if not self.warmup_images:
            return 1.0
        begun = begun % self.cycle_images if self.cycle_images else begun
        if begun >= self.warmup_images:
            return 1.0
        share = begun / self.warmup_images
        return share if self.warmup == "linear" else 0.5 - 0.5 * math.cos(math.pi * share)

    def has_begun(self, images_seen: int) -> bool:
        """Whether `start_images` have passed."""
        return images_seen >= self.start_images

    def goal(self, images_seen: int | None) -> float | None:
        """The target value of the term; None: it is minimised."""
        if self.capacity is None or images_seen is None or images_seen >= self.capacity_images:
            return self.capacity
        return self.capacity * images_seen / self.capacity_images

    def stated(self) -> dict[str, Any]:
        """The options that differ from a constant weight, for messages."""
        plain = Course()
        found = {key: value for key, value in vars(self).items() if value != getattr(plain, key)}
        return {k: int(v) if isinstance(v, float) and v.is_integer() else v
                for k, v in found.items()}  # fmt: skip


def number(value: Any, what: str) -> float:
    """`value` as a float.

    Raises:
        ConfigError: it is not a number; the message names `what`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{what} must be a number, not {value!r}")
    return float(value)
