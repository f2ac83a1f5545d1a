"""The type of a metric: a function of a `Subject`, its requirements and its cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from aelab.errors import ConfigError
from aelab.metrics.subject import Subject
from aelab.posteriors import HasChoices, HasDivergence

#: Requirements of a metric: a posterior with a divergence from which latents can be drawn, labels
#: of both sets, known factors of the held-out set, training images; `rate`: codebooks, or a
#: posterior to draw from.
Need = Literal["conditioned", "divergence", "factors", "labels", "posterior", "rate", "train"]


class Metric(NamedTuple):
    """An entry of `METRICS`.

    Attributes:
        function: `(subject, **options) -> {key: value}`; keys name their unit where they have one.
        summary: one sentence for `aelab evaluate --list`.
        needs: requirements on the subject.
        cost: `cheap` metrics are measured by default, `slow` ones on request.
        needs_extra: name of the extra that must be installed; empty for none.
        part: name of the argument that limits the number of held-out images; empty if the metric
            always uses all of the subject's.
        part_is: which of its values the limit concerns, in words; empty for all of them.
        medium: name of the required medium of the images, see `aelab.medium`; empty for any.
    """

    function: Callable[..., dict[str, float]]
    summary: str
    needs: frozenset[Need] = frozenset()
    cost: Literal["cheap", "slow"] = "cheap"
    needs_extra: str = ""
    part: str = ""
    part_is: str = ""
    medium: str = ""

    def images(self, subject: Subject, options: Mapping[str, Any]) -> int:
        """Number of a subject's held-out images that it uses; the first in drawn order."""
        available = len(subject.images)
        if not self.part:
            return available
        usual = inspect.signature(self.function).parameters[self.part].default
        return min(available, int(options.get(self.part, usual)))


_WORDS: dict[Need, str] = {
    "conditioned": "the model is not conditioned on classes, as ConditionalAutoencoder is",
    "posterior": "the latent has no posterior to draw from",
    "divergence": "the latent has no divergence from a prior for each dimension",
    "factors": "the images have no known factors",
    "labels": "the images have no labels",
    "rate": "the latent has neither codebooks nor a posterior to draw from",
    "train": "there are no training images",
}


def lacking(subject: Subject, metric: Metric) -> str:
    """What the subject lacks for a metric, in words; empty if it can be measured."""
    return lacking_needs(subject, metric.needs, metric.medium)


def lacking_needs(subject: Subject, needs: frozenset[Need], medium: str = "") -> str:
    """Which of `needs` the subject lacks, in words; empty if nothing is missing.

    Args:
        medium: name of the required medium of its images; empty for any.
    """
    has: dict[Need, bool] = {
        "labels": subject.labels is not None
        and (not subject.has_train or subject.train_labels is not None),
        "train": subject.has_train,
        "factors": subject.factors is not None,
        "conditioned": hasattr(subject.model, "with_label"),
    }
    if needs & {"posterior", "divergence", "rate"}:  # known only after running the model
        has["posterior"] = subject.draws
        has["rate"] = subject.draws or isinstance(subject.posterior, HasChoices)
        has["divergence"] = isinstance(subject.posterior, HasDivergence)
    missing = [_WORDS[need] for need in sorted(needs) if not has[need]]
    if medium not in ("", subject.medium.name):
        missing.append(f"the images are {subject.medium.images_are}, not {medium}")
    return ", ".join(missing)


def measure(subject: Subject, metric: Metric, **options: Any) -> dict[str, float]:
    """Measures a metric on a subject; returns its values by name.

    Raises:
        ConfigError: the subject lacks what the metric needs.
    """
    missing = lacking(subject, metric)
    if missing:
        raise ConfigError(f"cannot be measured: {missing}")
    return metric.function(subject, **options)
