"""K runs of one architecture that learn in one forward and one backward pass.

Each run keeps its own learner: weights, optimiser, schedule, averaged weights, and stored state.
Only the pass over a batch is shared: weights are stacked along a leading axis of K, and
`torch.func.vmap` computes all runs at once. This is faster on a GPU that one small model leaves
idle; on a CPU it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from aelab.errors import ConfigError
from aelab.train.clock import Clock
from aelab.train.forward import Batch, Losses, Task, forward, sums_of, without_gradient
from aelab.train.learner import Snapshot, SoloLearner, divisor, micro_batches

_ALONE = "train these runs one by one"


class StackedLearner:
    """K learners of one architecture; their seeds, learning rates and losses' weights may differ.

    A run's numbers equal those of training it alone up to rounding: batched products add up in
    another order. A run that fails changes no bit of the others.

    Args:
        members: one for each run, with models that differ in weights only.

    Raises:
        ConfigError: models that cannot be stacked: of different structure, or with a forward pass
            that draws random numbers (dropout) or writes buffers (BatchNorm, codebooks).
    """

    def __init__(self, members: Sequence[SoloLearner]) -> None:
        self.members = list(members)
        refuse_unstackable(self.members)
        self._live = [True] * len(self.members)

    def update(
        self, tasks: Sequence[Task], batches: Sequence[Batch], clock: Clock, *, apply: bool
    ) -> Losses:
        """One batch of each run, in one pass."""
        size, settings = len(batches[0][0]), tasks[0].settings
        columns = zip(*(Batch(*batch) for batch in batches), strict=True)
        # Each tensor (K, B, ...); what one model needs, all need.
        stacked = Batch(*(None if c[0] is None else torch.stack(c) for c in columns))  # type: ignore[arg-type]
        losses: Losses | None = None
        for part in micro_batches(size, settings, model=self.members[0].model):
            values, totals = self._values(tasks, stacked.part(part, axis=1), clock.images)
            live = [total for total, alive in zip(totals, self._live, strict=True) if alive]
            # Runs share no weights, so the gradient of the sum is each run's own gradient.
            summed = torch.stack([total.sum() for total in live]).sum()
            if not summed.requires_grad:
                raise without_gradient(self.members[0].model, values[0])
            (summed / divisor(size, settings)).backward()  # type: ignore[no-untyped-call]
            # (K, 1 + T): the total and the T terms of each run.
            sums = torch.stack([sums_of(*pair) for pair in zip(values, totals, strict=True)])
            losses = Losses(list(values[0]), sums if losses is None else losses.sums + sums)
        assert losses is not None  # a batch has images
        if apply:
            for member, task, alive in zip(self.members, tasks, self._live, strict=True):
                if alive:
                    member.apply_gradients(task.settings, clock, size)
        return losses

    def _values(
        self,
        tasks: Sequence[Task],
        batch: Batch,
        images_seen: int,
    ) -> tuple[list[Mapping[str, Tensor]], list[Tensor]]:
        """For each run: its unweighted terms (B,) by name, and their weighted total (B,).

        Args:
            batch: each tensor (K, B, ...).
        """
        model, bfloat16 = self.members[0].model, self.members[0].bfloat16
        parameters, buffers = self._stacked("named_parameters"), self._stacked("named_buffers")
        # torch counts in-place writes of a tensor in `_version`.
        versions = [buffer._version for buffer in buffers.values()]
        names: list[str] = []

        def terms(weights: dict[str, Tensor], *of_run: Tensor | None) -> Tensor:
            """The unweighted terms of one run, (T, B)."""

            def call(*given: Tensor | None) -> Any:
                """The model with the weights of this run."""
                return functional_call(model, weights, given)

            _, values, _ = forward(
                call,
                tasks[0].objective,
                *Batch(*of_run),  # type: ignore[arg-type]
                images_seen=images_seen,
                bfloat16=bfloat16,
            )
            names[:] = values
            return torch.stack(list(values.values()))

        # `randomness="error"`: random numbers inside vmap would not match those of a single run.
        in_dims = (0, *(None if tensor is None else 0 for tensor in batch))
        each = torch.vmap(terms, in_dims, randomness="error")
        found = each({**parameters, **buffers}, *batch)  # (K, T, B)
        if versions != [buffer._version for buffer in buffers.values()]:
            raise ConfigError(
                f"the model {type(model).__name__} writes buffers in its forward pass, so it "
                "cannot be stacked",
                hint=_ALONE,
            )
        values = [dict(zip(names, rows, strict=True)) for rows in found]
        # Outside of vmap: weights of terms may differ between runs.
        totals = [
            task.objective.total(of_run, images_seen)
            for task, of_run in zip(tasks, values, strict=True)
        ]
        return list(values), totals

    def _stacked(self, kind: str) -> dict[str, Tensor]:
        """Each parameter or buffer of all runs, (K, ...); gradients reach those of live runs.

        A run that has ended is computed with another run's weights, because its own may be NaN.
        The shapes of the products stay the same, and so do the bits of the other runs.
        """
        stand_in = self._live.index(True)
        tensors = [dict(getattr(member.model, kind)()) for member in self.members]
        return {
            name: torch.stack([
                own[name] if alive else tensors[stand_in][name].detach()
                for own, alive in zip(tensors, self._live, strict=True)
            ])
            for name in tensors[0]
        }  # fmt: skip

    def finite(self) -> Tensor:
        """(K,) bool on the device: see `Learner.finite`."""
        return torch.cat([member.finite() for member in self.members])

    def snapshot(self) -> tuple[list[Snapshot], list[bool]]:
        """A snapshot of every run, and which runs are live."""
        return [member.snapshot() for member in self.members], list(self._live)

    def restore(self, snapshot: tuple[list[Snapshot], list[bool]]) -> None:
        """Restores every run."""
        states, live = snapshot
        for member, state in zip(self.members, states, strict=True):
            member.restore(state)
        self._live = list(live)

    def retire(self, run: int) -> None:
        """Ends a run: its weights stay unchanged, and the others continue with the same bits."""
        self._live[run] = False


def refuse_unstackable(members: Sequence[SoloLearner]) -> None:
    """Checks that one common pass gives each model the same result as a separate pass.

    Raises:
        ConfigError: with the reason.
    """
    first = members[0]
    for member in members[1:]:
        alike = repr(member.model) == repr(first.model) and _shapes(member) == _shapes(first)
        if not alike or member.device != first.device or member.bfloat16 != first.bfloat16:
            raise ConfigError(
                "only models of one architecture, on one device and of one precision, can be "
                "stacked",
                hint=_ALONE,
            )
    if first.opponents:
        raise ConfigError(
            f"{first.opponents[0].name} is a network that learns beside the model, and such runs "
            "cannot be stacked",
            hint=_ALONE,
        )
    for name, module in first.model.named_modules():
        reason = _reason(module)
        if reason:
            raise ConfigError(
                f"'{name}' ({type(module).__name__}) {reason}, so the model cannot be stacked",
                hint=_ALONE,
            )


def _shapes(member: SoloLearner) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in member.model.state_dict().items()}


def _reason(module: nn.Module) -> str:
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        return "draws random numbers of its own"
    if isinstance(getattr(module, "running_mean", None), Tensor):
        return "writes running statistics in its forward pass"
    return ""
