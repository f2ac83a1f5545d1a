"""Checks whether the pictures of a model come from its code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from aelab.doctor.checks.learnrate import MOST_IMAGES, TRIAL_FLOPS, trained
from aelab.doctor.checks.subject import BuiltRun
from aelab.findings import Finding
from aelab.train.bypass import WAY_OUT, bypassed_code, bypasses
from aelab.train.clocked_modules import find_clocked

#: Steps before the losses are compared, fewer for a slow model.
MOST_STEPS = 40
#: Share of the spread of pictures up to which two of them are the same.
SAME = 1e-3


def pictures_beside_code(run: BuiltRun) -> Iterator[Finding]:
    """Finds a model whose pictures are made from more than the code.

    Before any training no picture needs the code, so a copy is trained for a few steps first.
    """
    if run.train is None or not run.train.medium.is_brightness or find_clocked(run.model):
        return
    if not bypasses(run.model):
        yield from _unannounced(run)
        return
    step = 3 * min(run.size, MOST_IMAGES) * max(1, run.flops_per_image)
    steps = int(max(5, min(MOST_STEPS, TRIAL_FLOPS / step)))
    model, _ = trained(run, run.settings.learnrate, steps)
    batch = run.batch().part(slice(0, MOST_IMAGES))
    found = bypassed_code(model, run.objective, batch, 0, f"after {steps} steps of a trial ")
    yield replace(found, where=run.place("model"))


def _unannounced(run: BuiltRun) -> Iterator[Finding]:
    """Compares the pictures of a model with those that its `decode` makes of its codes."""
    decode = getattr(run.model, "decode", None)
    if decode is None:
        return
    model, images = run.evaluated, run.targets()
    with torch.no_grad():
        output = model(images, None)
        if not output.latent.is_floating_point():
            return
        try:
            alone = model.decode(output.latent)  # type: ignore[operator]
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return  # its decoder takes more than the latent
    made = output.reconstruction
    if alone.shape != made.shape:
        return
    apart = float((alone - made).abs().mean() / (made.std() + images.std() + 1e-6))
    if apart > SAME:
        yield Finding(
            "warning",
            "code-bypassed",
            "what decode() makes of the codes differs from the model's own pictures by "
            f"{apart:.1%} of their spread: something of an image reaches them beside the code, and "
            "a small loss says nothing about the code",
            WAY_OUT,
            run.place("model"),
        )
