"""The quality of a second stage: its samples, decoded by the first stage."""

from __future__ import annotations

from torch import Tensor

from aelab.errors import ConfigError
from aelab.metrics import Metric, Subject, sample_quality
from aelab.metrics.distances import draw_images
from aelab.stages.medium import OfRun


def decoded_samples(subject: Subject, count: int = 2000, seeds: int = 1) -> dict[str, float]:
    """`sample_quality` of the first stage, with samples of this run in place of its own.

    The values have the same names and can be compared with those of the first stage.

    Args:
        subject: a run that was trained on `latents_of`.
        count: sampled images, and at most as many held-out ones of the first stage.
        seeds: number of draws to average.
    """
    medium = subject.medium
    if not isinstance(medium, OfRun) or medium.first is None:
        raise ConfigError("only a run that was trained on latents_of another has decoded samples")

    def latents(name: str, count: int, seed: int) -> Tensor:
        """Latents of the first stage that this run draws."""
        return medium.to_latents(draw_images(subject, "auto", count, seed))

    # A copy: the first stage's own subject keeps its own second stages.
    first = medium.first.opened().subject().with_second_stage(latents)
    return sample_quality(first, "run:this", count, seeds)


#: The entry of the table of metrics.
DECODED_SAMPLES = Metric(
    decoded_samples,
    "as samples, for a run on latents_of another: its samples decoded by that one",
    frozenset({"train"}),
    "slow",
    medium="latents",
)
