"""Whether the implicit equations of a model's solver are solved.

Such a model has the methods `unsolved(images, noise)`: by how much the equations are missed for
each image, relative to the size of what is solved for; and `step_sizes()`.
"""

from __future__ import annotations

import torch
from torch import nn

from aelab.errors import ConfigError, Where
from aelab.findings import Finding
from aelab.train.forward import Batch

#: Largest relative error of an image whose equations count as solved.
SOLVED = 0.1
#: Largest share of images that may miss it.
FEW = 0.05


def has_solver(model: nn.Module) -> bool:
    """Whether a model solves implicit equations."""
    return hasattr(model, "unsolved")


def refuse_unsolved(model: nn.Module, batch: Batch) -> None:
    """Checks that numbers do not end in the solver of a model before it is trained.

    Raises:
        ConfigError: they do for images of the batch.
    """
    found = solver_diverges(model, batch)
    if found is not None and found.level == "problem":
        raise ConfigError(found.message, hint=found.way_out, where=Where(key="model"))


@torch.no_grad()
def solver_diverges(model: nn.Module, batch: Batch) -> Finding | None:
    """A finding if the equations of a model are not solved for a batch, else None.

    It is a problem where numbers end, so that nothing can be trained.
    """
    if not has_solver(model) or batch.noise is None:
        return None
    missed = model.unsolved(batch.inputs, batch.noise)  # type: ignore[operator]
    steps = float(model.step_sizes().mean())  # type: ignore[operator]
    ended = float((~missed.isfinite()).float().mean())
    wrong = float((~(missed <= SOLVED)).float().mean())
    if not ended and wrong <= FEW:
        return None
    how = f"numbers end for {ended:.0%} of the images"
    if not ended:
        how = (
            f"after its iterations they are missed by up to {float(missed.max()):.2g}, and by more "
            f"than {SOLVED:g} for {wrong:.0%} of the images, so that the bound is as inexact"
        )
    return Finding(
        "problem" if ended else "warning",
        "solver-diverges",
        f"the model does not solve its implicit equations with steps of {steps:.2g}: {how}",
        f"a shorter step_size, for instance {steps / 4:.1g}; more iterations help only where they "
        "converge",
    )
