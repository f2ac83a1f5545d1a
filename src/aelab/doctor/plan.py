"""The cost of runs, estimated before training."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from aelab.findings import Finding, at_level, below_problems

#: Forward, gradient by input, gradient by weight: a training step costs three forward passes.
STEP_PER_FORWARD = 3.0


@dataclass(frozen=True)
class RunPlan:
    """The facts about one run of a file that are known without training.

    Attributes:
        name: resolved experiment name.
        matrix: the run's matrix values.
        parameters: {model, encoder, decoder}; empty if the model could not be built.
        shape: (C, H, W) of the images.
        latent_shape: of one image's latent; empty if unknown.
        flops_per_image: of one forward pass; a multiplication and an addition count as two.
        images: images to train on; None where only a loss ends the run.
        estimated_seconds: of training on this machine, one run at a time, without validation.
        estimated_memory_mb: weights, gradients, optimiser and one batch of activations.
        findings: problems that prevent training, warnings, and notes for readers of the results.
        same_as: name of the run that is trained instead, because the two differ only in values
            that nothing uses; empty for a run that is trained itself.
        is_examined: whether it was built with weights and checked; in a large matrix, only some
            runs are.
    """

    name: str
    matrix: dict[str, Any]
    parameters: dict[str, int] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    latent_shape: tuple[int, ...] = ()
    flops_per_image: int | None = None
    images: int | None = None
    estimated_seconds: float | None = None
    estimated_memory_mb: float | None = None
    findings: list[Finding] = field(default_factory=list)
    same_as: str = ""
    is_examined: bool = False

    @property
    def problems(self) -> list[str]:
        """Reasons why this run cannot be trained; empty if it can."""
        return [str(found) for found in at_level("problem", self.findings)]

    @property
    def notes(self) -> list[str]:
        """Warnings and notes, a line each."""
        return [found.line() for found in below_problems(self.findings)]


@dataclass(frozen=True)
class Plan:
    """The plans of all selected runs of a file.

    Attributes:
        file: as given.
        runs: in the order of the file.
        findings: warnings and notes, each once, with the number of runs if not all have it.
    """

    file: str
    runs: list[RunPlan]
    findings: list[Finding] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Warnings and notes, a line each."""
        return [found.line() for found in self.findings]

    @property
    def problems(self) -> list[str]:
        """All different problems, in the order of the runs."""
        return list(dict.fromkeys(text for run in self.runs for text in run.problems))


def training_flops_per_second(device: torch.device) -> float:
    """Speed of this machine for a small convolution, forward and backward, in FLOP per second.

    The best of several short trials: other processes only make a trial slower.
    """
    layer = nn.Conv2d(24, 32, 3, device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(32, 24, 26, 26, device=device).to(memory_format=torch.channels_last)
    images.requires_grad_(True)
    # 2 per multiply-add, 32 images, 24 -> 32 channels, 3x3 kernel, 24x24 output pixels.
    flops = STEP_PER_FORWARD * 2 * 32 * 24 * 9 * 24 * 24 * 32

    def seconds() -> float:
        """Seconds of one forward and backward pass; waits for the device."""
        start = time.perf_counter()
        layer(images).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    seconds()  # warm-up
    return flops / min(seconds() for _ in range(20))
