"""The state of a training: learner, clock, and the progress of its runs.

It holds no state of random generators: every draw is keyed by the number of images.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from aelab.errors import StoreError
from aelab.settings import FitSettings
from aelab.train.clock import Clock
from aelab.train.forward import ObjectiveLike
from aelab.train.guard.mending import Intervention, from_json
from aelab.train.guard.ring import Kept, Ring
from aelab.train.learner import Learner, copy_on_cpu, make_learner
from aelab.train.progress import Progress, Window, means_by_name

FORMAT = 1
#: Values for checkpoints of earlier versions, which lack these fields.
_EARLIER: dict[str, Any] = {
    "judging": 1,
    "last_terms": {},
    "start": {},
    "exploded_since": None,
    "cpu_seconds": 0.0,
}


@dataclass
class State:
    """Models in training: everything that a checkpoint stores, and nothing else.

    Attributes:
        learner: the models with their optimisers.
        clock: counters, shared by all runs.
        progress: one for each of the K runs.
        window: losses since the last log.
        first_batch: names and (K, 1 + T) means of the first batch while they are still on the
            device; afterwards they are in `progress`.
        interventions: the reactions to non-finite numbers, in order.
        ring: the last good states, if `on_nan` may go back to them.
    """

    learner: Learner
    clock: Clock = field(default_factory=Clock)
    progress: list[Progress] = field(default_factory=list)
    window: Window = field(default_factory=Window)
    first_batch: tuple[list[str], Tensor] | None = None
    interventions: list[Intervention] = field(default_factory=list)
    ring: Ring = field(default_factory=Ring)

    def __post_init__(self) -> None:
        missing = len(self.learner.members) - len(self.progress)
        self.progress += [Progress() for _ in range(missing)]

    def start(self, run: int = 0) -> dict[str, float]:
        """Loss and terms of a run before training; empty if unknown."""
        if self.first_batch is not None:
            starts = means_by_name(*self.first_batch)  # waits for the device once in a training
            for progress, start in zip(self.progress, starts, strict=True):
                progress.start = start
            self.first_batch = None
        return self.progress[run].start

    def note_start(self) -> None:
        """Keeps the terms of the first batch, from the untrained model, on the device."""
        means = self.window.means()
        # Only the first batch: its losses are those of the untrained model.
        if means is not None and self.clock.batches == 1:
            self.first_batch = self.window.names, means

    def stored(self, run: int = 0) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything needed to continue one run.

        Returns:
            tensors: copies on the CPU by flat names: the learner's, and `window`.
            numbers: JSON-able.
        """
        self.start(run)
        member = self.learner.members[run]
        tensors, numbers = member.stored(gradients=self.clock.accumulated_images > 0)
        if self.window.sums is not None:
            tensors["window"] = copy_on_cpu(self.window.sums[run])
        numbers |= {"format": FORMAT, **asdict(self.clock), **asdict(self.progress[run])}
        numbers |= {"window_images": self.window.images, "window_terms": list(self.window.terms)}
        if self.interventions:
            numbers["interventions"] = [each.as_json() for each in self.interventions]
        if self.ring.states:
            more, numbers["ring"] = self._stored_ring()
            tensors |= more
        return tensors, numbers

    def _stored_ring(self) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """The last good states in the form of `stored`: a continued run can also go back."""
        # Each state is restored in turn to store it, then the present one again.
        present, ring, self.ring = self.snapshot(), self.ring, Ring()
        tensors: dict[str, Tensor] = {}
        entries = []
        for place, kept in enumerate(ring.states):
            self.restore(kept.snapshot)
            own, numbers = self.stored()
            tensors |= {f"ring{place}.{name}": tensor for name, tensor in own.items()}
            entries.append({**kept._asdict(), "snapshot": numbers})
        self.restore(present)
        self.ring = ring
        return tensors, entries

    def _load_ring(
        self, tensors: Mapping[str, Tensor], entries: list[dict[str, Any]]
    ) -> list[Kept]:
        states = []
        for place, entry in enumerate(entries):
            mark = f"ring{place}."
            own = {n.removeprefix(mark): t for n, t in tensors.items() if n.startswith(mark)}
            self.load(own, entry["snapshot"])
            states.append(Kept(**{**entry, "snapshot": self.snapshot()}))
        return states

    def snapshot(self) -> Any:
        """A copy of the whole state on the device; `restore` accepts it any number of times."""
        marks = copy.deepcopy((self.clock, self.progress))
        window = replace(self.window, sums=_cloned(self.window.sums))
        return self.learner.snapshot(), *marks, window, self.first_batch

    def restore(self, snapshot: Any) -> None:
        """Restores a snapshot: training continues from it bit for bit."""
        learner, clock, progress, window, self.first_batch = snapshot
        self.learner.restore(learner)
        # In place: the loop holds references to these objects.
        vars(self.clock).update(copy.deepcopy(vars(clock)))
        for mine, its in zip(self.progress, progress, strict=True):
            vars(mine).update(copy.deepcopy(vars(its)))
        vars(self.window).update(vars(replace(window, sums=_cloned(window.sums))))

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Loads a stored run into a training made with the same model and settings.

        Raises:
            StoreError: a newer format, or tensors that do not fit the model.
        """
        if numbers.get("format") != FORMAT:
            raise StoreError(
                f"the checkpoint has format {numbers.get('format')}; this version reads {FORMAT}",
                hint="install the version that wrote it, or start again with --restart",
            )
        states = self._load_ring(tensors, numbers.get("ring", []))
        (member,) = self.learner.members  # a stack is loaded run by run before it is stacked
        member.load(tensors, numbers)
        numbers = {**_EARLIER, **numbers}
        self.clock = Clock(**_read(Clock, numbers))
        self.progress = [Progress(**_read(Progress, numbers))]
        self.window = Window(list(numbers["window_terms"]), numbers["window_images"])
        if "window" in tensors:
            self.window.sums = tensors["window"][None].to(member.device, copy=True)
        self.first_batch = None
        self.interventions = from_json(numbers.get("interventions", []))
        self.ring = Ring(states)


def make_state(
    model: nn.Module,
    settings: FitSettings,
    device: torch.device | str = "cpu",
    objective: ObjectiveLike | None = None,
) -> State:
    """A training before its first batch; moves `model` to the device and into its layout.

    Args:
        objective: needed if it brings players of its own, such as critics; `objective.prepare` was
            called with the images.

    Raises:
        ConfigError: an optimiser or scheduler that does not exist or does not fit.
    """
    return State(make_learner(model, settings, device, objective))


def _cloned(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _read(kind: Any, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, from the numbers of a checkpoint."""
    return {field.name: numbers[field.name] for field in fields(kind)}
